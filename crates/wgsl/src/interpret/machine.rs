//! Invocations and their statements. Control is a stack of its own, so an invocation can stop at a barrier and go on later.

use cotangent_tensor::Code;
use naga::{Barrier, Block, Expression, Handle, Span, Statement, SwitchValue};

use super::Precision;
use super::memory::{Grid, Variable};
use super::program::{FUNCTION, Program, Routine, Slot, limit};
use super::shape::{self, Cell, pointer, word};
use super::witness::{Origin, Witness};
use crate::diagnose::Problem;

/// Something that is under way in a function.
#[derive(Debug)]
enum Control<'r> {
    Block {
        block: &'r Block,
        next: usize,
    },
    Loop {
        of: &'r Statement,
        span: Span,
        continuing: bool,
    },
    /// What a `break` in a switch leaves.
    Switch,
    /// The barrier before a `workgroupUniformLoad` is passed.
    UniformLoad {
        pointer: Handle<Expression>,
        result: Handle<Expression>,
        span: Span,
    },
}

/// A call that has not returned.
#[derive(Debug)]
pub(super) struct Frame<'r> {
    pub(super) routine: &'r Routine<'r>,
    /// Where its registers begin, its variables, and its controls.
    registers: usize,
    variables: usize,
    controls: usize,
    /// Where the caller wants the result.
    result: Option<Handle<Expression>>,
    /// The call.
    span: Span,
    /// Whether no NaN had been made before the call.
    was_finite: bool,
}

/// An invocation.
#[derive(Debug, Default)]
pub(super) struct Thread<'r> {
    /// Workgroup, and number in it; none for a function called by the host.
    pub(super) who: Option<(u32, u32)>,
    pub(super) registers: Vec<Cell>,
    pub(super) variables: Vec<Cell>,
    pub(super) private: Vec<Cell>,
    pub(super) result: Vec<Cell>,
    frames: Vec<Frame<'r>>,
    controls: Vec<Control<'r>>,
}

impl<'r> Thread<'r> {
    /// An invocation about to run a routine.
    pub(super) fn new(
        program: &'r Program<'r>,
        routine: &'r Routine<'r>,
        who: Option<(u32, u32)>,
    ) -> Thread<'r> {
        let mut thread = Thread { who, private: program.private.clone(), ..Thread::default() };
        thread.enter(routine, None, Span::UNDEFINED, true);
        thread
    }
    /// Gives the routine that was just entered an argument.
    pub(super) fn set_argument(&mut self, number: usize, value: &[Cell]) {
        let Some(frame) = self.frames.last() else { return };
        for &(parameter, expression) in &frame.routine.parameters {
            if parameter == number {
                let at = frame.registers + frame.routine.slot(expression).at;
                self.registers[at..at + value.len()].copy_from_slice(value);
            }
        }
    }
    fn enter(
        &mut self,
        routine: &'r Routine<'r>,
        result: Option<Handle<Expression>>,
        span: Span,
        was_finite: bool,
    ) {
        let (registers, variables) = (self.registers.len(), self.variables.len());
        let frame =
            Frame { routine, registers, variables, controls: self.controls.len(), result, span, was_finite };
        self.registers.extend_from_slice(&routine.registers);
        self.variables.extend_from_slice(&routine.variables);
        for &(register, variable) in &routine.pointers {
            self.registers[registers + register] = pointer(FUNCTION, variables + variable);
        }
        self.controls.push(Control::Block { block: &routine.function.body, next: 0 });
        self.frames.push(frame);
    }
    /// An expression of the running function, its register counted from the first of the invocation.
    pub(super) fn slot(&self, expression: Handle<Expression>) -> Slot<'r> {
        let frame = self.frames.last().expect("an expression belongs to a function that runs");
        let slot = frame.routine.slot(expression);
        Slot { at: frame.registers + slot.at, ..slot }
    }
    pub(super) fn value(&self, expression: Handle<Expression>) -> &[Cell] {
        let slot = self.slot(expression);
        &self.registers[slot.at..slot.at + slot.len]
    }
    /// The only cell of a value.
    pub(super) fn cell(&self, expression: Handle<Expression>) -> Cell {
        self.registers[self.slot(expression).at]
    }
    pub(super) fn routine(&self) -> Option<&'r Routine<'r>> {
        self.frames.last().map(|frame| frame.routine)
    }
    /// The first variable that belongs to the running function.
    pub(super) fn own_variables(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.variables)
    }
    pub(super) fn is_done(&self) -> bool {
        self.frames.is_empty()
    }
    /// The calls that have not returned, the last one first.
    pub(super) fn calls(&self) -> impl Iterator<Item = Span> {
        self.frames.iter().skip(1).rev().map(|frame| frame.span)
    }
    /// The statement that runs, and the calls that led to it.
    pub(super) fn whereabouts(&self) -> Vec<Span> {
        [self.here()].into_iter().chain(self.calls()).collect()
    }
    /// The innermost loop that runs, or else the statement.
    pub(super) fn busy(&self) -> Span {
        let mut spans = self.controls.iter().rev().filter_map(|control| match control {
            Control::Loop { span, .. } => Some(*span),
            Control::Block { .. } | Control::Switch | Control::UniformLoad { .. } => None,
        });
        spans.next().unwrap_or_else(|| self.here())
    }
    /// The statement that runs.
    pub(super) fn here(&self) -> Span {
        for control in self.controls.iter().rev() {
            match control {
                Control::Block { block, next } if *next > 0 => {
                    return block.span_iter().nth(next - 1).map_or(Span::UNDEFINED, |(_, span)| *span);
                }
                Control::UniformLoad { span, .. } => return *span,
                Control::Block { .. } | Control::Loop { .. } | Control::Switch => {}
            }
        }
        Span::UNDEFINED
    }
}

/// Why an invocation does not go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stop {
    Done,
    /// A barrier, and where a `workgroupUniformLoad` wants to read.
    Barrier(Barrier, Option<Cell>),
}

/// What all invocations share.
#[derive(Debug)]
pub(super) struct Machine<'r> {
    pub(super) program: &'r Program<'r>,
    pub(super) precision: Precision,
    /// Operations that may still run.
    pub(super) fuel: u64,
    pub(super) granted: u64,
    /// The variables of the module, by number.
    pub(super) variables: Vec<Variable<'r>>,
    pub(super) grid: Grid,
    /// Barriers that storage and workgroup memory have seen.
    pub(super) epochs: (u32, u32),
    pub(super) witness: Witness,
}

impl<'r> Machine<'r> {
    /// Counts an operation that moves so many cells: large values take longer.
    pub(super) fn burn(&mut self, cells: usize, place: impl FnOnce() -> Span) -> Result<(), Problem> {
        match self.fuel.checked_sub(1 + cells as u64 / 16) {
            Some(rest) => {
                self.fuel = rest;
                Ok(())
            }
            None => {
                let message = format!("still running after {} operations", self.granted);
                Err(Problem::new(Code::WgslFuel, message).at(place(), "in here"))
            }
        }
    }
    /// Who a message is about.
    pub(super) fn name(&self, thread: &Thread<'r>) -> String {
        match thread.who {
            Some((group, invocation)) => self.grid.name(group, invocation),
            None => "the call".into(),
        }
    }

    /// Runs an invocation up to its end or the next barrier.
    pub(super) fn run(&mut self, thread: &mut Thread<'r>) -> Result<Stop, Problem> {
        while let Some(frame) = thread.frames.last() {
            if thread.controls.len() == frame.controls {
                self.leave(thread, None);
                continue;
            }
            match thread.controls.last_mut() {
                Some(Control::Block { block, next }) => {
                    let block: &'r Block = block;
                    match block.get(*next) {
                        None => drop(thread.controls.pop()),
                        Some(statement) => {
                            *next += 1;
                            if let Some(stop) = self.statement(thread, statement)? {
                                return Ok(stop);
                            }
                        }
                    }
                }
                Some(Control::Loop { of, span, continuing }) => {
                    let (of, span, was_continuing): (&'r Statement, _, _) = (of, *span, *continuing);
                    *continuing = !was_continuing;
                    self.turn(thread, of, span, was_continuing)?;
                }
                Some(Control::Switch) | None => drop(thread.controls.pop()),
                Some(&mut Control::UniformLoad { pointer, result, span }) => {
                    thread.controls.pop();
                    self.load(thread, pointer, result, span)?;
                    return Ok(Stop::Barrier(Barrier::WORK_GROUP, None));
                }
            }
        }
        Ok(Stop::Done)
    }

    /// A loop whose body has ended, or whose continuing block has.
    fn turn(
        &mut self,
        thread: &mut Thread<'r>,
        of: &'r Statement,
        span: Span,
        was_continuing: bool,
    ) -> Result<(), Problem> {
        let Statement::Loop { body, continuing, break_if } = of else { return Ok(()) };
        if !was_continuing {
            thread.controls.push(Control::Block { block: continuing, next: 0 });
            return Ok(());
        }
        let ends = break_if.is_some_and(|condition| thread.cell(condition) != 0);
        if break_if.is_some() {
            self.witness.trace.note(ends.into());
        }
        if ends {
            thread.controls.pop();
        } else {
            self.burn(0, || span)?;
            thread.controls.push(Control::Block { block: body, next: 0 });
        }
        Ok(())
    }

    fn statement(
        &mut self,
        thread: &mut Thread<'r>,
        statement: &'r Statement,
    ) -> Result<Option<Stop>, Problem> {
        if let Statement::Emit(range) = statement {
            for expression in range.clone() {
                self.evaluate(thread, expression)?;
            }
            return Ok(None);
        }
        self.burn(0, || thread.busy())?;
        match statement {
            Statement::Block(block) => thread.controls.push(Control::Block { block, next: 0 }),
            Statement::If { condition, accept, reject } => {
                let condition = thread.cell(*condition) != 0;
                self.witness.trace.note(condition.into());
                let block = if condition { accept } else { reject };
                thread.controls.push(Control::Block { block, next: 0 });
            }
            Statement::Switch { selector, cases } => {
                let selector = word(thread.cell(*selector));
                let chosen = cases.iter().position(|case| match case.value {
                    SwitchValue::I32(value) => value.cast_unsigned() == selector,
                    SwitchValue::U32(value) => value == selector,
                    SwitchValue::Default => false,
                });
                let default = || cases.iter().position(|case| case.value == SwitchValue::Default);
                let first = chosen.or_else(default).unwrap_or(cases.len());
                self.witness.trace.note(first as u64);
                let last = cases[first..].iter().position(|case| !case.fall_through);
                thread.controls.push(Control::Switch);
                for case in cases[first..].iter().take(last.map_or(0, |last| last + 1)).rev() {
                    thread.controls.push(Control::Block { block: &case.body, next: 0 });
                }
            }
            Statement::Loop { body, .. } => {
                let span = thread.here();
                thread.controls.push(Control::Loop { of: statement, span, continuing: false });
                thread.controls.push(Control::Block { block: body, next: 0 });
            }
            Statement::Break => loop {
                match thread.controls.pop() {
                    Some(Control::Loop { .. } | Control::Switch) | None => break,
                    Some(Control::Block { .. } | Control::UniformLoad { .. }) => {}
                }
            },
            Statement::Continue => {
                while !matches!(thread.controls.last(), Some(Control::Loop { .. }) | None) {
                    thread.controls.pop();
                }
            }
            Statement::Return { value } => self.leave(thread, *value),
            Statement::Store { pointer, value } => self.store(thread, *pointer, *value)?,
            Statement::Call { function, arguments, result } => {
                self.call(thread, *function, arguments, *result)?;
            }
            Statement::ControlBarrier(barrier) if !barrier.contains(Barrier::SUB_GROUP) => {
                return Ok(Some(Stop::Barrier(*barrier, None)));
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                let from = thread.cell(*pointer);
                let span = thread.here();
                thread.controls.push(Control::UniformLoad { pointer: *pointer, result: *result, span });
                return Ok(Some(Stop::Barrier(Barrier::WORK_GROUP, Some(from))));
            }
            Statement::Atomic { pointer, fun, value, result } => {
                self.atomic(thread, *pointer, fun, *value, *result)?;
            }
            _ => return Err(unsupported(statement_name(statement)).at(thread.here(), "here")),
        }
        Ok(None)
    }

    fn call(
        &mut self,
        thread: &mut Thread<'r>,
        function: Handle<naga::Function>,
        arguments: &[Handle<Expression>],
        result: Option<Handle<Expression>>,
    ) -> Result<(), Problem> {
        let routine = &self.program.functions[function.index()];
        let span = thread.here();
        if let Some(row) = routine.meaning {
            return self.prelude(thread, row, routine, arguments, result, span);
        }
        let caller = thread.frames.len() - 1;
        let values = thread.registers.len() + thread.variables.len();
        let values = values + routine.registers.len() + routine.variables.len();
        limit(values, "the values of nested calls").map_err(|problem| problem.at(span, "in this call"))?;
        self.burn(routine.registers.len() + routine.variables.len(), || span)?;
        thread.enter(routine, result, span, self.witness.origin.is_none());
        let (caller, callee) = (&thread.frames[caller], &thread.frames[caller + 1]);
        for &(number, expression) in &routine.parameters {
            let from = caller.routine.slot(arguments[number]);
            let from = caller.registers + from.at..caller.registers + from.at + from.len;
            thread.registers.copy_within(from, callee.registers + routine.slot(expression).at);
        }
        Ok(())
    }

    /// Returns from a function.
    fn leave(&mut self, thread: &mut Thread<'r>, value: Option<Handle<Expression>>) {
        if let Some(value) = value {
            self.witness_call(thread, value);
        }
        let slot = value.map(|value| thread.slot(value));
        let Some(frame) = thread.frames.pop() else { return };
        if let Some(slot) = slot {
            let range = slot.at..slot.at + slot.len;
            match (thread.frames.last(), frame.result) {
                (None, _) => thread.result = thread.registers[range].to_vec(),
                (Some(_), Some(result)) => {
                    let to = thread.slot(result).at;
                    thread.registers.copy_within(range, to);
                }
                (Some(_), None) => {}
            }
        }
        thread.registers.truncate(frame.registers);
        thread.variables.truncate(frame.variables);
        thread.controls.truncate(frame.controls);
    }

    /// A NaN is traced to a function that made it of finite numbers; one that did not leave its function is forgotten.
    fn witness_call(&mut self, thread: &Thread<'r>, value: Handle<Expression>) {
        let Some(frame) = thread.frames.last() else { return };
        if !frame.was_finite || self.witness.escaped {
            return;
        }
        let slot = thread.slot(value);
        if !slot.dtype.is_some_and(|dtype| dtype.is_float()) {
            return;
        }
        let numbers = |cells: &[Cell]| cells.iter().map(|&cell| shape::float(cell)).collect::<Vec<f64>>();
        let results = numbers(thread.value(value));
        if results.iter().all(|x| x.is_finite()) {
            // another invocation may have made one while this one waited at a barrier
            self.witness.origin = self.witness.origin.take().filter(|origin| origin.who != thread.who);
        } else if self.witness.origin.is_none() && frame.result.is_some() {
            let mut inputs = Vec::new();
            for &(_, parameter) in &frame.routine.parameters {
                if thread.slot(parameter).dtype.is_some_and(|dtype| dtype.is_float()) {
                    inputs.extend(numbers(thread.value(parameter)));
                }
            }
            if !inputs.is_empty() && inputs.iter().all(|x| x.is_finite()) {
                let operation = frame.routine.name.to_string();
                let calls = thread.calls().skip(1).collect();
                let (span, who) = (frame.span, thread.who);
                self.witness.begin(Origin { operation, inputs, results, span, calls, who });
            }
        }
    }
}

/// An error that names what the interpreter does not know.
pub(super) fn unsupported(what: impl std::fmt::Display) -> Problem {
    Problem::new(Code::WgslUnsupported, format!("the interpreter does not know {what}"))
}

fn statement_name(statement: &Statement) -> &'static str {
    match statement {
        Statement::Kill => "`discard`",
        Statement::ImageStore { .. } | Statement::ImageAtomic { .. } => "textures",
        Statement::ControlBarrier(_)
        | Statement::MemoryBarrier(_)
        | Statement::SubgroupBallot { .. }
        | Statement::SubgroupGather { .. }
        | Statement::SubgroupCollectiveOperation { .. } => "subgroups",
        _ => "this statement",
    }
}
