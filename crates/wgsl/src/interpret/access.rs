//! Loads, stores and atomics.

use std::ops::Range;

use cotangent_tensor::{Code, DType};
use naga::{AddressSpace, AtomicFunction, Expression, Handle, Span, TypeInner};

use super::machine::{Machine, Thread, unsupported};
use super::memory::Access;
use super::program::{FUNCTION, PRIVATE, Program, SHARED};
use super::shape::{self, Cell, place, word};
use crate::diagnose::Problem;

impl<'r> Machine<'r> {
    /// The next access to a variable of the module.
    fn access(&self, thread: &Thread<'r>, memory: usize, span: Span) -> Access {
        let (group, invocation) = thread.who.unwrap_or_default();
        let is_workgroup = matches!(self.variables[memory].space, AddressSpace::WorkGroup);
        let epoch = if is_workgroup { self.epochs.1 } else { self.epochs.0 };
        Access { group, invocation, epoch, span }
    }

    /// Copies memory into the registers of an expression.
    pub(super) fn load(
        &mut self,
        thread: &mut Thread<'r>,
        from: Handle<Expression>,
        to: Handle<Expression>,
        span: Span,
    ) -> Result<(), Problem> {
        let (memory, first) = place(thread.cell(from));
        let to = thread.slot(to);
        let cells = first..first + to.len;
        let registers = &mut thread.registers[to.at..to.at + to.len];
        match memory {
            FUNCTION => registers.copy_from_slice(&thread.variables[cells]),
            PRIVATE => registers.copy_from_slice(&thread.private[cells]),
            _ => {
                registers.copy_from_slice(&self.variables[memory - SHARED].cells[cells.clone()]);
                let now = self.access(thread, memory - SHARED, span);
                let variable = &mut self.variables[memory - SHARED];
                let shapes = &self.program.shapes;
                // atomics cannot be accessed otherwise, and never race
                if is_atomic(self.program, thread.slot(from).ty) {
                    variable.known(shapes, cells, now, self.grid)?;
                } else {
                    variable.read(shapes, cells, now, self.grid)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        thread: &mut Thread<'r>,
        to: Handle<Expression>,
        value: Handle<Expression>,
    ) -> Result<(), Problem> {
        let (memory, first) = place(thread.cell(to));
        let value = thread.slot(value);
        self.burn(value.len, || thread.busy())?;
        let from = value.at..value.at + value.len;
        let cells = first..first + value.len;
        let is_own = memory == FUNCTION && first >= thread.own_variables();
        let is_float = value.dtype.is_some_and(|dtype| dtype.is_float());
        let is_finite = |cell: &Cell| shape::float(*cell).is_finite();
        self.witness.escaped |= is_float && !is_own && !thread.registers[from.clone()].iter().all(is_finite);
        if memory == FUNCTION {
            thread.variables[cells].copy_from_slice(&thread.registers[from]);
            return Ok(());
        }
        if memory == PRIVATE {
            thread.private[cells].copy_from_slice(&thread.registers[from]);
            return Ok(());
        }
        let span = thread.here();
        if !self.variables[memory - SHARED].is_writable() {
            let message = format!("`{}` is read-only and is written", self.variables[memory - SHARED].name);
            return Err(Problem::new(Code::WgslBinding, message).at(span, "written here"));
        }
        let slot = thread.slot(to);
        if !is_atomic(self.program, slot.ty) {
            let touched = whole_vector(self.program, thread, to).unwrap_or(cells.clone());
            let now = self.access(thread, memory - SHARED, span);
            let variable = &mut self.variables[memory - SHARED];
            variable.write(&self.program.shapes, cells.clone(), touched, now, self.grid)?;
        } else if let Some(unwritten) = self.variables[memory - SHARED].unwritten.get_mut(cells.clone()) {
            unwritten.fill(false);
        }
        self.variables[memory - SHARED].cells[cells].copy_from_slice(&thread.registers[from]);
        Ok(())
    }

    pub(super) fn atomic(
        &mut self,
        thread: &mut Thread<'r>,
        at: Handle<Expression>,
        function: &AtomicFunction,
        value: Handle<Expression>,
        result: Option<Handle<Expression>>,
    ) -> Result<(), Problem> {
        let (memory, cell) = place(thread.cell(at));
        let slot = thread.slot(value);
        let is_signed = slot.dtype == Some(DType::I32);
        if !slot.dtype.is_some_and(|dtype| dtype.is_integer()) || memory < SHARED {
            return Err(unsupported("an atomic that is no i32 or u32").at(thread.here(), "here"));
        }
        let (old, y) = (word(self.variables[memory - SHARED].cells[cell]), word(thread.cell(value)));
        let less = |x: u32, y: u32| if is_signed { x.cast_signed() < y.cast_signed() } else { x < y };
        let mut exchanged = None;
        let new = match function {
            AtomicFunction::Add => old.wrapping_add(y),
            AtomicFunction::Subtract => old.wrapping_sub(y),
            AtomicFunction::And => old & y,
            AtomicFunction::ExclusiveOr => old ^ y,
            AtomicFunction::InclusiveOr => old | y,
            AtomicFunction::Min => {
                if less(y, old) {
                    y
                } else {
                    old
                }
            }
            AtomicFunction::Max => {
                if less(old, y) {
                    y
                } else {
                    old
                }
            }
            AtomicFunction::Exchange { compare: None } => y,
            AtomicFunction::Exchange { compare: Some(expected) } => {
                let equal = word(thread.cell(*expected)) == old;
                exchanged = Some(equal);
                if equal { y } else { old }
            }
        };
        let now = self.access(thread, memory - SHARED, thread.here());
        let variable = &mut self.variables[memory - SHARED];
        variable.known(&self.program.shapes, cell..cell + 1, now, self.grid)?;
        variable.cells[cell] = new.into();
        if let Some(result) = result {
            let to = thread.slot(result);
            thread.registers[to.at] = old.into();
            if let (Some(exchanged), true) = (exchanged, to.len > 1) {
                thread.registers[to.at + 1] = exchanged.into();
            }
        }
        Ok(())
    }
}

fn is_atomic(program: &Program<'_>, ty: &TypeInner) -> bool {
    match ty {
        TypeInner::Pointer { base, .. } => {
            matches!(program.module().types[*base].inner, TypeInner::Atomic(_))
        }
        _ => false,
    }
}

/// The cells of the vector of which a pointer names a component: a write of one may write all of them.
fn whole_vector(program: &Program<'_>, thread: &Thread<'_>, to: Handle<Expression>) -> Option<Range<usize>> {
    let expression = &thread.routine()?.function.expressions[to];
    let (Expression::Access { base, .. } | Expression::AccessIndex { base, .. }) = *expression else {
        return None;
    };
    let ty = program.shapes.pointee(thread.slot(base).ty)?;
    let TypeInner::Vector { size, .. } = &*ty else { return None };
    let (_, first) = place(thread.cell(base));
    Some(first..first + *size as usize)
}
