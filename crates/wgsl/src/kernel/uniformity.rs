//! Barriers that only some invocations of a workgroup reach, as far as the text shows: what WGSL forbids, and browsers refuse.
//!
//! A value is *varying* if it may differ between the invocations of a workgroup: their ids, what stands in memory that somebody writes, and
//! what is made of these. Control is varying where it depends on such a value, and after an exit that only some take. A variable is taken as
//! one value for the whole function, so that a counter that is varying in one place is varying everywhere.

use std::collections::HashSet;

use cotangent_tensor::Code;
use naga::{
    AddressSpace, Barrier, Binding, Block, BuiltIn, Expression, Function, Handle, LocalVariable, Span,
    Statement, StorageAccess, TypeInner,
};

use super::walk::{Root, root};
use crate::diagnose::Problem;
use crate::text::Text;

/// Walks over a function until what varies is known; after so many every variable counts as varying.
const ROUNDS: usize = 64;

/// Refuses barriers in varying control flow.
pub(super) fn check(text: &Text, entry: usize) -> Result<(), Problem> {
    // by function, with uniform and with varying arguments; a function comes after those it calls
    let mut known: Vec<[Summary; 2]> = Vec::new();
    for (_, function) in text.module.functions.iter() {
        let of = |varying| Analysis::of(text, &known, function, |_, _| varying);
        let summaries = [of(false), of(true)];
        known.push(summaries);
    }
    let point = &text.module.entry_points[entry].function;
    let parameter = |number: u32, member: Option<u32>| {
        let argument = &point.arguments[number as usize];
        let binding = match (&text.module.types[argument.ty].inner, member) {
            (TypeInner::Struct { members, .. }, Some(member)) => members[member as usize].binding.as_ref(),
            _ => argument.binding.as_ref(),
        };
        let same = matches!(binding, Some(Binding::BuiltIn(BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups)));
        !same
    };
    match Analysis::of(text, &known, point, parameter).violation {
        None => Ok(()),
        Some((barrier, why)) => {
            let message = "a barrier that only some invocations of a workgroup may reach";
            let problem = Problem::new(Code::WgslUniformity, message).at(barrier, "this barrier");
            Err(match why {
                Some(why) if why != barrier => problem.at(why, "not the same for all invocations"),
                _ => problem,
            }
            .help(
                "let every invocation reach it: guard what is between barriers instead, and give a loop that contains one a \
                 counter that is the same for all",
            ))
        }
    }
}

/// What callers must know of a function.
#[derive(Clone, Debug, Default)]
struct Summary {
    /// A barrier, and what decides about it.
    violation: Option<(Span, Option<Span>)>,
    has_barrier: bool,
    /// Its result, or what it writes through pointers, may vary.
    varies: bool,
}

/// Exits that only some invocations take.
#[derive(Clone, Copy, Default)]
struct Exits {
    returns: Option<Span>,
    breaks: Option<Span>,
    continues: Option<Span>,
}

impl Exits {
    fn and(self, other: Exits) -> Exits {
        Exits {
            returns: self.returns.or(other.returns),
            breaks: self.breaks.or(other.breaks),
            continues: self.continues.or(other.continues),
        }
    }
    fn any(self) -> Option<Span> {
        self.returns.or(self.breaks).or(self.continues)
    }
}

struct Analysis<'a, P> {
    text: &'a Text,
    known: &'a [[Summary; 2]],
    function: &'a Function,
    /// Whether a parameter, or a member of it, varies.
    parameter: P,
    /// By expression.
    varying: Vec<bool>,
    locals: HashSet<Handle<LocalVariable>>,
    results: HashSet<Handle<Expression>>,
    summary: Summary,
}

impl<'a, P: Fn(u32, Option<u32>) -> bool> Analysis<'a, P> {
    fn of(text: &'a Text, known: &'a [[Summary; 2]], function: &'a Function, parameter: P) -> Summary {
        let (locals, results, summary) = (HashSet::new(), HashSet::new(), Summary::default());
        let varying = Vec::new();
        let mut analysis = Analysis { text, known, function, parameter, varying, locals, results, summary };
        for round in 0.. {
            let before = (analysis.locals.len(), analysis.results.len());
            if round == ROUNDS {
                analysis.locals.extend(function.local_variables.iter().map(|(variable, _)| variable));
            }
            analysis.varying.clear();
            for (handle, _) in function.expressions.iter() {
                let varies = analysis.varies(handle);
                analysis.varying.push(varies);
            }
            analysis.summary = Summary::default();
            analysis.block(&function.body, None);
            if before == (analysis.locals.len(), analysis.results.len()) {
                break;
            }
        }
        analysis.summary
    }

    /// Whether an expression varies; it comes after those it is made of.
    fn varies(&self, handle: Handle<Expression>) -> bool {
        let is = |of: &Handle<Expression>| self.varying[of.index()];
        match &self.function.expressions[handle] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::Override(_)
            | Expression::ZeroValue(_)
            | Expression::GlobalVariable(_)
            | Expression::LocalVariable(_)
            | Expression::ArrayLength(_)
            | Expression::WorkGroupUniformLoadResult { .. } => false,
            Expression::FunctionArgument(number) => (self.parameter)(*number, None),
            Expression::AccessIndex { base, index } => match self.function.expressions[*base] {
                Expression::FunctionArgument(number) => (self.parameter)(number, Some(*index)),
                _ => is(base),
            },
            Expression::Compose { components, .. } => components.iter().any(is),
            Expression::Access { base, index } => is(base) || is(index),
            Expression::Splat { value, .. } => is(value),
            Expression::Swizzle { vector, .. } => is(vector),
            Expression::Load { pointer } => is(pointer) || self.memory(*pointer),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => is(expr),
            Expression::Binary { left, right, .. } => is(left) || is(right),
            Expression::Select { condition, accept, reject } => is(condition) || is(accept) || is(reject),
            Expression::Relational { argument, .. } => is(argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                [Some(arg), arg1.as_ref(), arg2.as_ref(), arg3.as_ref()].into_iter().flatten().any(is)
            }
            Expression::CallResult(_) => self.results.contains(&handle),
            _ => true,
        }
    }
    /// Whether memory may hold something else for each invocation.
    fn memory(&self, pointer: Handle<Expression>) -> bool {
        match root(self.function, pointer) {
            Some(Root::Local(variable)) => self.locals.contains(&variable),
            Some(Root::Argument(number)) => {
                let ty = self.function.arguments[number as usize].ty;
                match self.text.module.types[ty].inner {
                    TypeInner::Pointer { space: AddressSpace::Function, .. }
                    | TypeInner::ValuePointer { space: AddressSpace::Function, .. } => {
                        (self.parameter)(number, None)
                    }
                    _ => true,
                }
            }
            Some(Root::Global(variable)) => match self.text.module.global_variables[variable].space {
                AddressSpace::Uniform => false,
                AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
                _ => true,
            },
            None => true,
        }
    }
    fn is(&self, expression: Handle<Expression>) -> Option<Span> {
        self.varying[expression.index()].then(|| self.function.expressions.get_span(expression))
    }

    /// Walks a block in which `control` says why not all invocations are there; the exits that only some take.
    fn block(&mut self, block: &Block, mut control: Option<Span>) -> Exits {
        let mut all = Exits::default();
        for (statement, span) in block.span_iter() {
            let exits = self.statement(statement, *span, control);
            all = all.and(exits);
            control = control.or(exits.any());
        }
        all
    }
    fn statement(&mut self, statement: &Statement, span: Span, control: Option<Span>) -> Exits {
        match statement {
            Statement::Block(block) => self.block(block, control),
            Statement::Emit(range) => {
                // what was written on the way here
                for handle in range.clone() {
                    self.varying[handle.index()] = self.varies(handle);
                }
                Exits::default()
            }
            Statement::If { condition, accept, reject } => {
                let inside = control.or(self.is(*condition));
                self.block(accept, inside).and(self.block(reject, inside))
            }
            Statement::Switch { selector, cases } => {
                let inside = control.or(self.is(*selector));
                let exits = cases
                    .iter()
                    .map(|case| self.block(&case.body, inside))
                    .fold(Exits::default(), Exits::and);
                // a `break` leaves the switch
                Exits { breaks: None, ..exits }
            }
            Statement::Loop { body, continuing, break_if } => {
                let round = |this: &mut Self, control: Option<Span>| {
                    let exits = this.block(body, control);
                    let inside = control.or(exits.returns).or(exits.breaks);
                    let after = this.block(continuing, inside);
                    let left = break_if.and_then(|condition| this.is(condition));
                    Exits { breaks: exits.breaks.or(after.breaks).or(left), ..exits.and(after) }
                };
                let first = round(self, control);
                // who has left is missing in later rounds
                let exits = match first.returns.or(first.breaks) {
                    Some(left) if control.is_none() => first.and(round(self, Some(left))),
                    _ => first,
                };
                Exits { returns: exits.returns, ..Exits::default() }
            }
            Statement::Break => Exits { breaks: control, ..Exits::default() },
            Statement::Continue => Exits { continues: control, ..Exits::default() },
            Statement::Return { value } => {
                self.summary.varies |=
                    control.is_some() || value.is_some_and(|value| self.is(value).is_some());
                Exits { returns: control, ..Exits::default() }
            }
            Statement::ControlBarrier(barrier)
                if barrier.intersects(Barrier::WORK_GROUP | Barrier::STORAGE) =>
            {
                self.barrier(span, control);
                Exits::default()
            }
            Statement::WorkGroupUniformLoad { pointer, .. } => {
                self.barrier(span, control.or(self.is(*pointer)));
                Exits::default()
            }
            Statement::Store { pointer, value } => {
                self.written(*pointer, control.or(self.is(*value)).or(self.is(*pointer)).is_some());
                Exits::default()
            }
            Statement::Call { function, arguments, result } => {
                let varying = arguments
                    .iter()
                    .find_map(|&argument| self.is(argument).or_else(|| self.through(argument)));
                let callee = self.known[function.index()][usize::from(varying.is_some())].clone();
                if callee.has_barrier {
                    self.barrier(span, control);
                }
                if let (Some((barrier, why)), None) = (callee.violation, self.summary.violation) {
                    self.summary.violation = Some((barrier, varying.or(why)));
                }
                let varies = control.is_some() || callee.varies || varying.is_some();
                if let (Some(result), true) = (result, varies) {
                    self.results.insert(*result);
                    self.varying[result.index()] = true;
                }
                for &argument in arguments {
                    self.written(argument, varies);
                }
                Exits::default()
            }
            _ => Exits::default(),
        }
    }
    /// Whether a pointer leads to memory that varies.
    fn through(&self, argument: Handle<Expression>) -> Option<Span> {
        let varies = match root(self.function, argument) {
            Some(Root::Local(variable)) => self.locals.contains(&variable),
            _ => false,
        };
        varies.then(|| self.function.expressions.get_span(argument))
    }
    fn written(&mut self, pointer: Handle<Expression>, varies: bool) {
        if !varies {
            return;
        }
        match root(self.function, pointer) {
            Some(Root::Local(variable)) => drop(self.locals.insert(variable)),
            Some(Root::Argument(_)) => self.summary.varies = true,
            Some(Root::Global(_)) | None => {}
        }
    }
    fn barrier(&mut self, span: Span, control: Option<Span>) {
        self.summary.has_barrier = true;
        if let (Some(why), None) = (control, self.summary.violation) {
            self.summary.violation = Some((span, Some(why)));
        }
    }
}
