//! What of a text is the same in every run: which register an expression has, and what stands in the registers, the variables
//! and the private memory of an invocation when it begins.

use cotangent_tensor::{Code, DType};
use naga::{AddressSpace, Arena, Expression, Function, GlobalVariable, Handle, Literal, Module, TypeInner};

use super::shape::{self, Cell, MAX_CELLS, Shapes};
use crate::diagnose::Problem;
use crate::prelude::{self, Meaning};
use crate::text::{Text, name_or};

/// The memory of the variables of functions, in pointers.
pub(super) const FUNCTION: usize = 0;
/// The memory of private variables.
pub(super) const PRIVATE: usize = 1;
/// The memory of the first variable of the module; the others follow.
pub(super) const SHARED: usize = 2;

/// Where the value of an expression stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'m> {
    /// First register of the frame.
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) ty: &'m TypeInner,
    /// What the scalars are; none for pointers and composites that are no vector or matrix.
    pub(super) dtype: Option<DType>,
}

/// A function that is ready to run.
#[derive(Debug)]
pub(super) struct Routine<'m> {
    pub(super) name: &'m str,
    pub(super) function: &'m Function,
    /// By expression.
    pub(super) slots: Vec<Slot<'m>>,
    /// The registers on entry: constants, and pointers to variables of the module.
    pub(super) registers: Vec<Cell>,
    /// Registers that hold pointers to variables of the function, which lie elsewhere in every call.
    pub(super) pointers: Vec<(usize, usize)>,
    /// Number and expression of each parameter that is used.
    pub(super) parameters: Vec<(usize, Handle<Expression>)>,
    /// The variables on entry.
    pub(super) variables: Vec<Cell>,
    /// What a function of the prelude is that is not its text.
    pub(super) meaning: Option<Meaning>,
}

impl<'m> Routine<'m> {
    pub(super) fn slot(&self, expression: Handle<Expression>) -> Slot<'m> {
        self.slots[expression.index()]
    }
}

#[derive(Debug)]
pub(super) struct Program<'m> {
    pub(super) text: &'m Text,
    pub(super) shapes: Shapes<'m>,
    pub(super) functions: Vec<Routine<'m>>,
    pub(super) entries: Vec<Routine<'m>>,
    /// Private memory of an invocation when it begins.
    pub(super) private: Vec<Cell>,
}

impl<'m> Program<'m> {
    pub(super) fn new(text: &'m Text) -> Result<Program<'m>, Problem> {
        let module = &text.module;
        let shapes = Shapes::new(module)?;
        let globals = Constants::of_module(&shapes)?;
        let mut private = Vec::new();
        let mut places = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            if variable.space != AddressSpace::Private {
                places.push(shape::pointer(SHARED + handle.index(), 0));
                continue;
            }
            places.push(shape::pointer(PRIVATE, private.len()));
            let count = shapes.cells_of(variable.ty);
            limit(private.len().saturating_add(count), "private variables")
                .map_err(|problem| problem.at(module.global_variables.get_span(handle), "with this one"))?;
            match variable.init {
                Some(init) => private.extend(globals.get(init)?),
                None => private.resize(private.len() + count, 0),
            }
        }
        let mut total = private.len();
        let mut add = |routine: &Routine<'_>| {
            total = total.saturating_add(routine.registers.len()).saturating_add(routine.variables.len());
            limit(total, "the values of all functions")
        };
        let mut functions = Vec::new();
        for (handle, function) in module.functions.iter() {
            let name = text.name_of(handle);
            let slots = slots(&shapes, function, |expression| {
                text.info[handle][expression].ty.inner_with(&module.types)
            });
            let mut routine = routine(&shapes, name, function, slots, &globals, &places)
                .map_err(|problem| problem.at(module.functions.get_span(handle), "this function"))?;
            let meaning = prelude::meaning(name).filter(|_| text.is_prelude(handle));
            routine.meaning = meaning.filter(|&meaning| meaning != Meaning::Text);
            add(&routine)?;
            functions.push(routine);
        }
        let mut entries = Vec::new();
        for (index, entry) in module.entry_points.iter().enumerate() {
            let info = text.info.get_entry_point(index);
            let slots =
                slots(&shapes, &entry.function, |expression| info[expression].ty.inner_with(&module.types));
            let routine = routine(&shapes, &entry.name, &entry.function, slots, &globals, &places)?;
            add(&routine)?;
            entries.push(routine);
        }
        Ok(Program { text, shapes, functions, entries, private })
    }
    pub(super) fn module(&self) -> &'m Module {
        &self.text.module
    }
    /// The variables of the module that the host binds.
    pub(super) fn buffers(&self) -> impl Iterator<Item = (Handle<GlobalVariable>, &'m GlobalVariable)> {
        let bound = |space| matches!(space, AddressSpace::Storage { .. } | AddressSpace::Uniform);
        self.module().global_variables.iter().filter(move |(_, variable)| bound(variable.space))
    }
}

/// Refuses what would take more memory than a test of a kernel can need.
pub(super) fn limit(cells: usize, what: &str) -> Result<(), Problem> {
    if cells > MAX_CELLS {
        let message = format!("{what} take {cells} numbers where {MAX_CELLS} are allowed");
        return Err(Problem::new(Code::WgslLimit, message));
    }
    Ok(())
}

fn slots<'m>(
    shapes: &Shapes<'m>,
    function: &'m Function,
    type_of: impl Fn(Handle<Expression>) -> &'m TypeInner,
) -> Vec<Slot<'m>> {
    let mut at: usize = 0;
    let mut slots = Vec::with_capacity(function.expressions.len());
    for (handle, _) in function.expressions.iter() {
        let ty = type_of(handle);
        let len = shapes.cells(ty);
        slots.push(Slot { at, len, ty, dtype: shape::dtype(ty) });
        at = at.saturating_add(len);
    }
    slots
}

fn routine<'m>(
    shapes: &Shapes<'m>,
    name: &'m str,
    function: &'m Function,
    slots: Vec<Slot<'m>>,
    globals: &Constants<'m>,
    places: &[Cell],
) -> Result<Routine<'m>, Problem> {
    let registers = slots.last().map_or(0, |last| last.at.saturating_add(last.len));
    limit(registers, "the values of a function")?;
    let constants = Constants::of_function(shapes, function, globals)?;
    let mut registers = vec![0; registers];
    let (mut pointers, mut parameters, mut variables) = (Vec::new(), Vec::new(), Vec::new());
    let mut starts = Vec::new();
    for (_, local) in function.local_variables.iter() {
        starts.push(variables.len());
        let count = shapes.cells_of(local.ty);
        limit(variables.len().saturating_add(count), "the variables of a function")?;
        match local.init {
            Some(init) => variables.extend(constants.get(init)?),
            None => variables.resize(variables.len() + count, 0),
        }
    }
    for (handle, expression) in function.expressions.iter() {
        let slot = slots[handle.index()];
        match expression {
            Expression::FunctionArgument(index) => parameters.push((*index as usize, handle)),
            Expression::LocalVariable(local) => pointers.push((slot.at, starts[local.index()])),
            Expression::GlobalVariable(global) => registers[slot.at] = places[global.index()],
            Expression::Literal(_)
            | Expression::ZeroValue(_)
            | Expression::Constant(_)
            | Expression::Override(_) => {
                registers[slot.at..slot.at + slot.len].copy_from_slice(&constants.get(handle)?);
            }
            _ => {}
        }
    }
    Ok(Routine { name, function, slots, registers, pointers, parameters, variables, meaning: None })
}

/// The expressions of an arena that are known before anything runs. Operands come before what is made of them.
struct Constants<'m> {
    expressions: &'m Arena<Expression>,
    values: Vec<Option<Vec<Cell>>>,
}

impl<'m> Constants<'m> {
    fn of_module(shapes: &Shapes<'m>) -> Result<Constants<'m>, Problem> {
        let mut constants = Constants { expressions: &shapes.module.global_expressions, values: Vec::new() };
        constants.fill(shapes, |values, constant: Handle<Expression>| values[constant.index()].clone())?;
        Ok(constants)
    }
    fn of_function(
        shapes: &Shapes<'m>,
        function: &'m Function,
        globals: &Constants<'m>,
    ) -> Result<Constants<'m>, Problem> {
        let mut constants = Constants { expressions: &function.expressions, values: Vec::new() };
        constants.fill(shapes, |_, constant| globals.values[constant.index()].clone())?;
        Ok(constants)
    }
    /// `constant` gives the value of an expression of the module.
    fn fill(
        &mut self,
        shapes: &Shapes<'m>,
        constant: impl Fn(&[Option<Vec<Cell>>], Handle<Expression>) -> Option<Vec<Cell>>,
    ) -> Result<(), Problem> {
        let mut total = 0;
        for (_, expression) in self.expressions.iter() {
            let known = |operand: &Handle<Expression>| self.values[operand.index()].clone();
            let value = match expression {
                Expression::Literal(value) => literal(*value).map(|cell| vec![cell]),
                Expression::ZeroValue(ty) => {
                    let count = shapes.cells_of(*ty);
                    limit(total + count, "the constants")?;
                    Some(vec![0; count])
                }
                Expression::Constant(of) => constant(&self.values, shapes.module.constants[*of].init),
                Expression::Compose { components, .. } => {
                    let parts: Option<Vec<Vec<Cell>>> = components.iter().map(known).collect();
                    parts.map(|parts| parts.concat())
                }
                Expression::Splat { size, value } => known(value).map(|one| one.repeat(*size as usize)),
                _ => None,
            };
            total = total.saturating_add(value.as_ref().map_or(0, Vec::len));
            limit(total, "the constants")?;
            self.values.push(value);
        }
        Ok(())
    }
    fn get(&self, expression: Handle<Expression>) -> Result<Vec<Cell>, Problem> {
        self.values[expression.index()].clone().ok_or_else(|| {
            Problem::new(Code::WgslUnsupported, "the interpreter does not know this constant")
                .at(self.expressions.get_span(expression), "this")
        })
    }
}

fn literal(literal: Literal) -> Option<Cell> {
    match literal {
        Literal::F32(x) => Some(f64::from(x).to_bits()),
        Literal::U32(x) => Some(x.into()),
        Literal::I32(x) => Some(x.cast_unsigned().into()),
        Literal::Bool(x) => Some(x.into()),
        Literal::F64(_)
        | Literal::F16(_)
        | Literal::U16(_)
        | Literal::I16(_)
        | Literal::U64(_)
        | Literal::I64(_)
        | Literal::AbstractInt(_)
        | Literal::AbstractFloat(_) => None,
    }
}

/// The name of a variable of the module.
pub(super) fn variable_name(variable: &GlobalVariable) -> &str {
    name_or(&variable.name, "_")
}
