//! What WGSL text computes, one operation after another: the witness of text that nobody lowered, fused or compiled.
//!
//! [`Interpreter::call`] runs a function, [`Interpreter::dispatch`] an entry point with its workgroups, in f64 or as an f32 machine
//! that rounds every operation would. What adapters hide is an error with a frame of the text: races between invocations, indices outside of
//! what they index, barriers that not all invocations reach, loops without an end, memory that nobody wrote.
//!
//! Invocations run one after another from barrier to barrier, and workgroups one after another, so a run is the same every time.
//! A race is found by what is known about each number, not by its value: who wrote and read it last, and whether a barrier lies between.

mod access;
mod buffers;
mod builtins;
mod dispatch;
mod expressions;
mod machine;
mod memory;
mod operators;
mod program;
mod shape;
mod vectors;
mod witness;

use std::collections::BTreeMap;

use cotangent_tensor::{Code, DType, Error};
use naga::{AddressSpace, GlobalVariable, Handle, ShaderStage, Span, Type};

use crate::Module;
use crate::diagnose::Problem;
use crate::layout;
use crate::text::{Text, name_or};
use buffers::{Bound, Buffer, cell_of, number_of};
use machine::{Machine, Stop, Thread};
use memory::{Grid, Variable};
use program::{Program, limit, variable_name};
use shape::{Cell, Shapes};
pub use witness::Nonfinite;
use witness::{Origin, Witness};

/// Operations of a run where nobody says another number: seconds.
pub(crate) const FUEL: u64 = 100_000_000;

/// How floats are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    F64,
    F32,
    /// F32, and inexact results are a few units off; the number chooses the directions.
    Perturbed(u32),
}

/// Units by which an inexact result is off at most: about what the functions of adapters are.
const UNITS: u64 = 4;

impl Precision {
    /// What is left of the result of an operation.
    fn round(self, x: f64) -> f64 {
        match self {
            Precision::F64 => x,
            Precision::F32 => f64::from(x as f32),
            Precision::Perturbed(sample) => {
                let rounded = x as f32;
                let is_exact = f64::from(rounded).to_bits() == x.to_bits();
                if is_exact || !rounded.is_normal() {
                    return f64::from(rounded);
                }
                // the same for the same number, and without pattern otherwise
                let mut z = x.to_bits() ^ (u64::from(sample) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let moved = if z & 1 == 0 { f32::next_up } else { f32::next_down };
                let units = 1 + (z >> 33) % UNITS;
                f64::from((0..units).fold(rounded, |number, _| moved(number)))
            }
        }
    }
}

/// Runs WGSL text.
///
/// ```
/// use cotangent_tensor::Code;
/// use cotangent_wgsl::{Interpreter, Module};
///
/// let text = "
///     @group(0) @binding(0) var<storage, read> x: array<f32>;
///     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
///     var<workgroup> shared_x: array<f32, 4>;
///     @compute @workgroup_size(4)
///     fn reversed(@builtin(local_invocation_index) i: u32) {
///         shared_x[i] = x[i];
///         workgroupBarrier();
///         y[i] = shared_x[3u - i];
///     }";
/// let module = Module::parse_kernels("reversed.wgsl", text)?;
/// let interpreter = Interpreter::new(&module).bind("x", &[1.0, 2.0, 3.0, 4.0]).bind_output("y", 4);
/// assert_eq!(interpreter.dispatch("reversed", [1, 1, 1])?.numbers("y")?, [4.0, 3.0, 2.0, 1.0]);
///
/// let module = Module::parse_kernels("reversed.wgsl", &text.replace("workgroupBarrier();", ""))?;
/// let interpreter = Interpreter::new(&module).bind("x", &[1.0, 2.0, 3.0, 4.0]).bind_output("y", 4);
/// let race = interpreter.dispatch("reversed", [1, 1, 1]).unwrap_err();
/// assert_eq!(race.code(), Code::WgslRace);
/// assert!(race.message().contains("race on `shared_x[2]`"), "{race}");
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
///
/// # What is computed
///
/// In f64, floats keep 53 bits throughout; literals are those that the text has, rounded to f32. In f32, every operation is
/// rounded once, and so are the arguments; dot products, lengths and products of matrices are rounded term by term, every other
/// builtin is one operation. Where WGSL leaves a choice:
///
/// - `pow` of a negative base, and of two zeros, is NaN; `round` takes ties to even; `%` has the sign of its left operand; `fma` is fused.
/// - NaN stays NaN through `min`, `max`, `clamp` and `sign`; it is not less, greater or equal to anything.
/// - Conversions to integers truncate and saturate (at the largest float that fits), NaN becomes 0.
/// - Integers wrap; `x / 0` is `x`, `x % 0` is 0; shifts count modulo 32.
/// - `bitcast` sees the nearest f32 in either precision.
/// - The functions of the prelude are rows of the operation table, in f64 or rounded to f32.
///
/// Subgroups, textures, `override` and element types of other widths are `E_WGSL_UNSUPPORTED`, or no valid text for [`Module`].
///
/// # What is an error
///
/// - `E_WGSL_RACE`: two invocations access one number, one of them writes, and nothing orders them. A `workgroupBarrier` orders workgroup
///   memory, a `storageBarrier` storage, and nothing orders workgroups. A write to a component of a vector is one to the whole
///   vector. Atomics never race.
/// - `E_WGSL_BOUNDS`: an index outside of what it indexes, at the place where the part is named, be it read or not.
/// - `E_WGSL_UNIFORMITY`: a barrier that not all invocations of a workgroup reach together.
/// - `E_WGSL_FUEL`: more operations than [`Interpreter::fuel`] grants.
/// - `E_WGSL_BINDING`: a buffer that is missing, does not fit, or is read before anyone wrote it.
#[derive(Debug)]
pub struct Interpreter<'m> {
    text: &'m Text,
    program: Result<Program<'m>, Error>,
    precision: Precision,
    fuel: u64,
    buffers: BTreeMap<usize, Buffer<'m>>,
    /// The first thing that was wrong with a binding.
    wrong: Option<Error>,
}

/// A buffer that a text declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `@group`.
    pub group: u32,
    /// `@binding`.
    pub binding: u32,
    /// The variable.
    pub name: String,
    /// Whether it is declared `read_write`.
    pub writable: bool,
}

impl<'m> Interpreter<'m> {
    /// In f64, without buffers.
    pub fn new(module: &'m Module) -> Interpreter<'m> {
        let text = &*module.text;
        let program = Program::new(text).map_err(|problem| problem.in_text(&text.source));
        let (precision, fuel, buffers) = (Precision::F64, FUEL, BTreeMap::new());
        Interpreter { text, program, precision, fuel, buffers, wrong: None }
    }
    /// What the text means.
    pub fn f64(mut self) -> Self {
        self.precision = Precision::F64;
        self
    }
    /// What a machine computes that rounds every operation to the nearest f32.
    pub fn f32(mut self) -> Self {
        self.precision = Precision::F32;
        self
    }
    /// What a machine computes that rounds in its own way, and is a few units off where a result is inexact.
    pub(crate) fn perturbed(mut self, sample: u32) -> Self {
        self.precision = Precision::Perturbed(sample);
        self
    }
    /// How many operations a run may take; 100 million if not said. Those on large values count once more for every 16 numbers.
    pub fn fuel(mut self, operations: u64) -> Self {
        self.fuel = operations;
        self
    }
    /// Binds a buffer by one number for each scalar in it, in order and without padding.
    pub fn bind(self, name: &str, numbers: &[f64]) -> Self {
        self.with(name, |shapes, variable| Buffer::of_numbers(shapes, variable, numbers))
    }
    /// Binds a buffer by its 32-bit words as an adapter has them, with padding.
    pub fn bind_words(self, name: &str, words: &[u32]) -> Self {
        self.with(name, |shapes, variable| Buffer::of_words(shapes, variable, words))
    }
    /// Binds room for some scalars. To read one that no invocation wrote is an error, in the text and in [`Run::numbers`].
    pub fn bind_output(self, name: &str, scalars: usize) -> Self {
        self.with(name, |shapes, variable| Buffer::of_nothing(shapes, variable, scalars))
    }
    /// The buffers that the text declares, in its order.
    pub fn bindings(&self) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for (_, variable) in self.text.module.global_variables.iter() {
            if let Some(at) = variable.binding {
                let name = variable_name(variable).to_string();
                let writable = self.variable(variable).is_writable();
                bindings.push(Binding { group: at.group, binding: at.binding, name, writable });
            }
        }
        bindings
    }

    fn variable(&self, variable: &'m GlobalVariable) -> Variable<'m> {
        let ty = &self.text.module.types[variable.ty].inner;
        Variable::new(variable_name(variable), variable.space, ty)
    }
    fn with(
        mut self,
        name: &str,
        buffer: impl FnOnce(&Shapes<'m>, Variable<'m>) -> Result<Buffer<'m>, Error>,
    ) -> Self {
        let named = |(_, variable): &(_, &GlobalVariable)| variable_name(variable) == name;
        // what is wrong with the program is said when it runs
        let Ok(program) = &self.program else { return self };
        let bound = match program.buffers().find(named) {
            Some((handle, variable)) => {
                buffer(&program.shapes, self.variable(variable)).map(|buffer| (handle, buffer))
            }
            None => {
                let names: Vec<String> = self.bindings().into_iter().map(|binding| binding.name).collect();
                let message = format!("no buffer `{name}`; there are: {}", names.join(", "));
                Err(Error::new(Code::WgslBinding, "interpret", message))
            }
        };
        match bound {
            Ok((handle, buffer)) => drop(self.buffers.insert(handle.index(), buffer)),
            Err(error) => drop(self.wrong.get_or_insert(error)),
        }
        self
    }

    /// Calls a function on numbers: for each parameter its scalars, vectors by component, matrices by column, arrays and structures in
    /// order. Integers are whole numbers, truth values 0 and 1.
    ///
    /// ```
    /// use cotangent_wgsl::{Interpreter, Module};
    ///
    /// let module = Module::parse("losses.wgsl", "fn huge(p: f32, y: vec2<f32>) -> f32 { return p / 3.0 + dot(y, y); }")?;
    /// let run = Interpreter::new(&module).call("huge", &[&[1.0], &[2.0, 0.5]])?;
    /// assert_eq!(run.result(), [1.0 / 3.0 + 4.25]);
    /// let run = Interpreter::new(&module).f32().call("huge", &[&[1.0], &[2.0, 0.5]])?;
    /// assert_eq!(run.result(), [f64::from(1f32 / 3.0 + 4.25)]);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    pub fn call(&self, function: &str, arguments: &[&[f64]]) -> Result<Run, Error> {
        let Some(handle) = self.text.find(function) else {
            return Err(self.text.no_function(function));
        };
        let program = self.program()?;
        let parameters = &self.text.module.functions[handle].arguments;
        if parameters.len() != arguments.len() {
            let message = format!(
                "`{function}` is given {} arguments, and there are {} parameters",
                arguments.len(),
                parameters.len()
            );
            return Err(Error::new(Code::Wgsl, self.text.source.name.as_str(), message));
        }
        let uses = |variable: Handle<GlobalVariable>| !self.text.info[handle][variable].is_empty();
        let mut machine = self.machine(program, function, uses)?;
        let mut thread = Thread::new(program, &program.functions[handle.index()], None);
        for (number, (parameter, given)) in parameters.iter().zip(arguments).enumerate() {
            match self.cells(program, parameter.ty, given)? {
                Some(cells) => thread.set_argument(number, &cells),
                None => {
                    let (name, ty) = (name_or(&parameter.name, "_"), self.text.type_name(parameter.ty));
                    let message = format!("parameter `{name}` is {ty}, and {given:?} is none");
                    return Err(Error::new(Code::Wgsl, self.text.source.name.as_str(), message));
                }
            }
        }
        let result = self.text.module.functions[handle].result.as_ref();
        let result = result.map(|result| layout::scalars_of(&self.text.module, result.ty));
        let dtypes = result.transpose().map_err(|problem| problem.in_text(&self.text.source))?;
        match machine.run(&mut thread).map_err(|problem| problem.in_text(&self.text.source))? {
            Stop::Done => {}
            Stop::Barrier(..) => {
                let problem = machine::unsupported("a barrier outside of a dispatch");
                return Err(problem.at(thread.here(), "here").in_text(&self.text.source));
            }
        }
        let result = thread.result.iter().zip(dtypes.unwrap_or_default());
        let result = result.map(|(&cell, dtype)| number_of(cell, dtype)).collect();
        Ok(self.ended(machine, result))
    }

    /// Runs a compute entry point.
    pub fn dispatch(&self, entry_point: &str, workgroups: [u32; 3]) -> Result<Run, Error> {
        let entries = &self.text.module.entry_points;
        let is_it =
            |entry: &naga::EntryPoint| entry.name == entry_point && entry.stage == ShaderStage::Compute;
        let Some(entry) = entries.iter().position(is_it) else {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            let message = match names.is_empty() {
                true => format!("no entry point `{entry_point}`; the text declares none"),
                false => format!("no entry point `{entry_point}`; there are: {}", names.join(", ")),
            };
            return Err(Error::new(Code::Wgsl, self.text.source.name.as_str(), message));
        };
        let program = self.program()?;
        let info = self.text.info.get_entry_point(entry);
        let mut machine = self.machine(program, entry_point, |variable| !info[variable].is_empty())?;
        machine.dispatch(entry, workgroups).map_err(|problem| problem.in_text(&self.text.source))?;
        Ok(self.ended(machine, Vec::new()))
    }

    /// An argument of a function; none if the numbers do not fit the type.
    fn cells(
        &self,
        program: &Program<'m>,
        ty: Handle<Type>,
        given: &[f64],
    ) -> Result<Option<Vec<Cell>>, Error> {
        if program.shapes.cells_of(ty) != given.len() {
            return Ok(None);
        }
        let dtypes = layout::scalars_of(&self.text.module, ty);
        let dtypes = dtypes.map_err(|problem| problem.in_text(&self.text.source))?;
        let cell = |(&number, dtype): (&f64, DType)| {
            cell_of(if dtype.is_float() { self.precision.round(number) } else { number }, dtype)
        };
        Ok(given.iter().zip(dtypes).map(cell).collect())
    }
    fn program(&self) -> Result<&Program<'m>, Error> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        self.program.as_ref().map_err(Clone::clone)
    }
    /// A machine before its first operation, if everything it uses is bound.
    fn machine<'r>(
        &'r self,
        program: &'r Program<'r>,
        what: &str,
        uses: impl Fn(Handle<GlobalVariable>) -> bool,
    ) -> Result<Machine<'r>, Error> {
        let mut variables = Vec::new();
        let mut missing = Vec::new();
        let mut shared: usize = 0;
        let framed = |problem: Problem| problem.in_text(&self.text.source);
        for (handle, global) in self.text.module.global_variables.iter() {
            let mut variable = self.variable(global);
            match (global.space, self.buffers.get(&handle.index())) {
                (AddressSpace::WorkGroup, _) => {
                    let count = program.shapes.cells(variable.ty);
                    shared = shared.saturating_add(count);
                    limit(shared, "workgroup variables").map_err(framed)?;
                    variable.cells.resize(count, 0);
                }
                (AddressSpace::Private, _) => {}
                (_, Some(buffer)) => variable = buffer.start(self.precision),
                (AddressSpace::Storage { .. } | AddressSpace::Uniform, None) if uses(handle) => {
                    missing.push(format!("`{}`", variable.name));
                }
                (AddressSpace::Storage { .. } | AddressSpace::Uniform, None) => {}
                (_, None) if uses(handle) => {
                    let span = self.text.module.global_variables.get_span(handle);
                    return Err(framed(machine::unsupported("variables of this kind").at(span, "this one")));
                }
                (_, None) => {}
            }
            variables.push(variable);
        }
        if !missing.is_empty() {
            let message = format!("`{what}` uses {}, and nothing is bound to it", missing.join(", "));
            return Err(Error::new(Code::WgslBinding, self.text.source.name.as_str(), message)
                .hint("`bind`, `bind_words` or `bind_output` it"));
        }
        Ok(Machine {
            program,
            precision: self.precision,
            fuel: self.fuel,
            granted: self.fuel,
            variables,
            grid: Grid::default(),
            epochs: (0, 0),
            witness: Witness::default(),
        })
    }
    fn ended(&self, machine: Machine<'_>, result: Vec<f64>) -> Run {
        let Machine { program, grid, fuel, witness, variables, .. } = machine;
        let buffers = variables.into_iter().enumerate().filter_map(|(number, variable)| {
            let buffer = self.buffers.get(&number)?;
            Some(buffer.end(&program.shapes, variable))
        });
        let buffers = buffers.collect();
        let first_nonfinite = witness.origin.map(|origin| self.told(origin, grid));
        Run { result, buffers, trace: witness.trace.hash(), operations: self.fuel - fuel, first_nonfinite }
    }
    fn told(&self, origin: Origin, grid: Grid) -> Nonfinite {
        let Origin { operation, inputs, results, span, calls, who } = origin;
        let by =
            who.map_or(String::new(), |(group, invocation)| format!(", in {}", grid.name(group, invocation)));
        let message = format!("`{operation}` of {inputs:?} is {results:?}{by}");
        let label =
            if span == Span::UNDEFINED { String::new() } else { format!("{inputs:?} -> {results:?}") };
        let problem = Problem::new(Code::Nonfinite, message).at(span, label);
        let problem = calls.into_iter().fold(problem, |problem, call| problem.at(call, "in this call"));
        let told = problem.in_text(&self.text.source);
        let invocation = who.map(|(group, invocation)| grid.global(group, invocation));
        Nonfinite { operation, inputs, results, invocation, told }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    result: Vec<f64>,
    buffers: Vec<Bound>,
    trace: u64,
    operations: u64,
    first_nonfinite: Option<Nonfinite>,
}

impl Run {
    /// The scalars that a function returned; none from a dispatch.
    pub fn result(&self) -> &[f64] {
        &self.result
    }
    /// One number for each scalar of a buffer, without padding.
    pub fn numbers(&self, buffer: &str) -> Result<Vec<f64>, Error> {
        self.bound(buffer)?.numbers()
    }
    /// The 32-bit words of a buffer as an adapter would have them; floats are rounded to f32.
    pub fn words(&self, buffer: &str) -> Result<Vec<u32>, Error> {
        self.bound(buffer)?.words()
    }
    /// A hash of all decisions that depended on floats: branches, sides of `select`, `min`, `max`, `clamp`, `step` and comparisons, signs,
    /// and what `floor`, `ceil`, `round`, `trunc` and conversions to integers gave. Two runs with one trace went through one smooth piece
    /// of the function, so a finite difference between them means something.
    ///
    /// ```
    /// use cotangent_wgsl::{Interpreter, Module};
    ///
    /// let module = Module::parse("losses.wgsl", "fn relu_squared(x: f32) -> f32 { let y = max(x, 0.0); return y * y; }")?;
    /// let trace = |x: f64| Ok(Interpreter::new(&module).call("relu_squared", &[&[x]])?.trace());
    /// assert_eq!(trace(0.5)?, trace(0.75)?);
    /// assert_ne!(trace(0.5)?, trace(-0.5)?);
    /// assert_ne!(trace(0.5)?, trace(0.0)?);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    pub fn trace(&self) -> u64 {
        self.trace
    }
    /// Expressions and statements that ran.
    pub fn operations(&self) -> u64 {
        self.operations
    }
    /// The first operation on finite numbers whose result was a NaN or an infinity. What stayed inside a function that returned finite numbers
    /// does not count, and a number that `bitcast` made does not either, but a function of finite numbers that returned it does.
    ///
    /// ```
    /// use cotangent_wgsl::{Interpreter, Module};
    ///
    /// let module = Module::parse("losses.wgsl", "fn f(q: f32) -> f32 {\n  let r = log(q);\n  return 2.0 * r;\n}")?;
    /// let run = Interpreter::new(&module).call("f", &[&[-0.5]])?;
    /// let origin = run.first_nonfinite().expect("the result is NaN");
    /// assert_eq!((origin.operation.as_str(), &origin.inputs[..]), ("log", &[-0.5][..]));
    /// assert!(origin.to_string().contains("losses.wgsl:2"), "{origin}");
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    pub fn first_nonfinite(&self) -> Option<&Nonfinite> {
        self.first_nonfinite.as_ref()
    }
    fn bound(&self, name: &str) -> Result<&Bound, Error> {
        self.buffers.iter().find(|buffer| buffer.name == name).ok_or_else(|| {
            Error::new(Code::WgslBinding, "interpret", format!("no buffer `{name}` was bound"))
        })
    }
}
