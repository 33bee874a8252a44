//! Statements. Both sides of a branch are computed, each on its own copy of the variables; where they meet, every
//! variable is chosen anew.
//!
//! What leaves a block before its end (`return`, `break`, `continue`) is put aside with the condition under which it does,
//! and joined where it arrives. Until then the rest of the block goes on as if nothing had left: a counter that is known stays known.

use cotangent_tensor::{Code, Elementwise as E};
use naga::{Block, Expression, Handle, Span, Statement, SwitchCase, SwitchValue};

use super::looped::Looped;
use super::{Frame, Lowering, MAX_DECIDED, MAX_LOOPS, Value};
use crate::diagnose::Problem;
use crate::layout;
use crate::text::name_or;

/// The variables of a function at one point, by number.
pub(super) type Variables = Vec<Vec<Value>>;

/// What goes on behind a statement, and what has left.
pub(super) struct Flow {
    /// The variables of what goes on; none if everything has left.
    pub(super) now: Option<Variables>,
    /// In order: a condition means something where no earlier one holds.
    pub(super) exits: Vec<Exit>,
}

pub(super) struct Exit {
    pub(super) condition: Value,
    pub(super) how: How,
}

pub(super) enum How {
    Return(Vec<Value>),
    Break(Variables),
    Continue(Variables),
}

impl Flow {
    fn on(now: Variables) -> Flow {
        Flow { now: Some(now), exits: Vec::new() }
    }
    fn out(how: How) -> Flow {
        Flow { now: None, exits: vec![Exit { condition: Value::TRUE, how }] }
    }
}

impl<'a> Lowering<'a> {
    /// The result of a function.
    pub(super) fn statements(&mut self, frame: &mut Frame<'a>, span: Span) -> Result<Vec<Value>, Problem> {
        let module = &self.text.module;
        let mut variables = Vec::new();
        for (_, local) in frame.function.local_variables.iter() {
            variables.push(match local.init {
                Some(init) => self.constant(&frame.function.expressions, init)?,
                None => {
                    let kinds = layout::scalars_of(module, local.ty).map_err(|problem| {
                        problem.at(span, format!("`{}` is a variable here", name_or(&local.name, "_")))
                    })?;
                    kinds.into_iter().map(Value::zero).collect()
                }
            });
        }
        variables.extend(frame.pointers.iter().map(|&position| frame.arguments[position].clone()));
        let end = self.block(frame, &frame.function.body, variables)?;
        let returns = end.exits.into_iter().filter_map(|exit| match exit.how {
            How::Return(value) => Some((exit.condition, value)),
            How::Break(_) | How::Continue(_) => None,
        });
        let returns: Vec<(Value, Vec<Value>)> = returns.collect();
        let returns_nothing = frame.function.result.is_none();
        let last = end.now.as_ref().filter(|_| returns_nothing).map(|now| Self::pointed_to(frame, now));
        match self.folded(returns, last) {
            Some(result) if returns_nothing || end.now.is_none() => Ok(result),
            _ => {
                let name = name_or(&frame.function.name, "_");
                Err(Problem::new(Code::WgslReturn, format!("`{name}` does not return a value on every path"))
                    .at(span, "this function"))
            }
        }
    }

    fn block(&mut self, frame: &mut Frame<'a>, block: &'a Block, now: Variables) -> Result<Flow, Problem> {
        let mut flow = Flow::on(now);
        let depth = self.path.len();
        for (statement, &span) in block.span_iter() {
            let Some(now) = flow.now.take() else { break };
            self.step(span)?;
            let next = self.statement(frame, statement, span, now)?;
            self.leaving(&next.exits);
            flow.now = next.now;
            flow.exits.extend(next.exits);
        }
        self.path.truncate(depth);
        Ok(flow)
    }

    /// Values chosen by the first condition that holds; `last` where none does, or the last ones if there is nothing else.
    fn folded(&mut self, choices: Vec<(Value, Vec<Value>)>, last: Option<Vec<Value>>) -> Option<Vec<Value>> {
        choices.into_iter().rev().fold(last, |rest, (condition, values)| {
            Some(match rest {
                None => values,
                Some(rest) => self.merged(condition, values, rest),
            })
        })
    }
    /// `accept` where the condition holds, else `reject`.
    fn merged(&mut self, condition: Value, accept: Vec<Value>, reject: Vec<Value>) -> Vec<Value> {
        accept.into_iter().zip(reject).map(|(a, b)| self.scalars.select(condition, a, b)).collect()
    }
    fn merged_all(&mut self, condition: Value, accept: Variables, reject: Variables) -> Variables {
        accept.into_iter().zip(reject).map(|(a, b)| self.merged(condition, a, b)).collect()
    }
    /// What goes on behind a branch, and what has left on either side.
    fn branched(&mut self, condition: Value, accept: Flow, reject: Flow) -> Flow {
        let otherwise = self.scalars.not(condition);
        let mut exits = Vec::new();
        for (side, flow) in [(condition, accept.exits), (otherwise, reject.exits)] {
            for exit in flow {
                exits.push(Exit { condition: self.scalars.and(side, exit.condition), how: exit.how });
            }
        }
        let now = match (accept.now, reject.now) {
            (Some(a), Some(b)) => Some(self.merged_all(condition, a, b)),
            (a, b) => a.or(b),
        };
        Flow { now, exits }
    }
    /// Joins what has left in one of the ways with what goes on.
    fn joined(&mut self, flow: Flow, arrives: impl Fn(How) -> Result<Variables, How>) -> Flow {
        let (mut exits, mut joining) = (Vec::new(), Vec::new());
        // whether one of those that join holds: a later exit does not happen then
        let mut before = Value::FALSE;
        for Exit { condition, how } in flow.exits {
            match arrives(how) {
                Ok(variables) => {
                    joining.push((condition, variables));
                    before = self.scalars.or(before, condition);
                }
                Err(how) => {
                    let not_before = self.scalars.not(before);
                    exits.push(Exit { condition: self.scalars.and(not_before, condition), how });
                }
            }
        }
        let now = joining.into_iter().rev().fold(flow.now, |rest, (condition, variables)| {
            Some(match rest {
                None => variables,
                Some(rest) => self.merged_all(condition, variables, rest),
            })
        });
        Flow { now, exits }
    }

    fn statement(
        &mut self,
        frame: &mut Frame<'a>,
        statement: &'a Statement,
        span: Span,
        mut now: Variables,
    ) -> Result<Flow, Problem> {
        match statement {
            Statement::Emit(range) => {
                for expression in range.clone() {
                    self.step(frame.function.expressions.get_span(expression))?;
                    if let Some(value) = self.expression(frame, expression, &now)? {
                        frame.values[expression.index()] = Some(value);
                    }
                }
            }
            Statement::Block(block) => return self.block(frame, block, now),
            Statement::If { condition, accept, reject } => {
                let condition = self.value(frame, *condition)?[0];
                return match condition.as_bool() {
                    Some(true) => self.block(frame, accept, now),
                    Some(false) => self.block(frame, reject, now),
                    None => {
                        let accepted = self.branch(frame, accept, now.clone(), &[(condition, true)])?;
                        let rejected = self.branch(frame, reject, now, &[(condition, false)])?;
                        Ok(self.branched(condition, accepted, rejected))
                    }
                };
            }
            Statement::Switch { selector, cases } => return self.switch(frame, *selector, cases, now),
            Statement::Loop { body, continuing, break_if } => {
                let looped = Looped { body, continuing, break_if: *break_if, span };
                return self.looped(frame, looped, now);
            }
            Statement::Break => return Ok(Flow::out(How::Break(now))),
            Statement::Continue => return Ok(Flow::out(How::Continue(now))),
            Statement::Return { value } => {
                let value = value.map(|value| self.value(frame, value)).transpose()?;
                let mut value = value.unwrap_or_default();
                value.extend(Self::pointed_to(frame, &now));
                return Ok(Flow::out(How::Return(value)));
            }
            Statement::Store { pointer, value } => {
                let value = self.value(frame, *value)?;
                let (variable, places) = self.places(frame, *pointer)?;
                for (offset, guard) in places {
                    for (slot, &new) in now[variable][offset..].iter_mut().zip(&value) {
                        *slot = guard.map_or(new, |guard| self.scalars.select(guard, new, *slot));
                    }
                }
            }
            Statement::Call { function, arguments, result } => {
                let (given, passed) = self.passed(frame, arguments, &now, span)?;
                self.look_at(span);
                let mut value = self.call(*function, given)?;
                self.taken_back(passed, &mut value, &mut now);
                if let Some(result) = result {
                    frame.values[result.index()] = Some(value);
                }
            }
            _ => {
                return Err(Problem::new(Code::WgslStatement, "this statement is no computation on values")
                    .at(span, "here"));
            }
        }
        Ok(Flow::on(now))
    }

    /// A switch: each case where the selector has one of its values, the default elsewhere.
    fn switch(
        &mut self,
        frame: &mut Frame<'a>,
        selector: Handle<Expression>,
        cases: &'a [SwitchCase],
        now: Variables,
    ) -> Result<Flow, Problem> {
        let selector = self.value(frame, selector)?[0];
        // several values of one case come as cases that fall through
        let (mut arms, mut default): (Vec<(Value, &'a Block)>, Option<&'a Block>) = (Vec::new(), None);
        let (mut condition, mut is_default) = (Value::FALSE, false);
        for case in cases {
            let value = match case.value {
                SwitchValue::I32(x) => Some(Value::Int(x)),
                SwitchValue::U32(x) => Some(Value::Uint(x)),
                SwitchValue::Default => None,
            };
            match value {
                Some(value) => {
                    let equal = self.scalars.apply(E::Eq, &[selector, value]);
                    condition = self.scalars.or(condition, equal);
                }
                None => is_default = true,
            }
            if !case.fall_through {
                let condition = std::mem::replace(&mut condition, Value::FALSE);
                if std::mem::take(&mut is_default) {
                    default = Some(&case.body);
                } else {
                    arms.push((condition, &case.body));
                }
            }
        }
        let leaves_the_case = |how| match how {
            How::Break(variables) => Ok(variables),
            How::Return(_) | How::Continue(_) => Err(how),
        };
        if let Some((_, block)) = arms.iter().find(|arm| arm.0 == Value::TRUE) {
            let flow = self.block(frame, block, now)?;
            return Ok(self.joined(flow, leaves_the_case));
        }
        let mut end = match default {
            Some(block) => {
                let none: Vec<(Value, bool)> = arms.iter().map(|arm| (arm.0, false)).collect();
                self.branch(frame, block, now.clone(), &none)?
            }
            None => Flow::on(now.clone()),
        };
        end = self.joined(end, leaves_the_case);
        for (condition, block) in arms {
            if condition != Value::FALSE {
                let taken = self.branch(frame, block, now.clone(), &[(condition, true)])?;
                let taken = self.joined(taken, leaves_the_case);
                end = self.branched(condition, taken, end);
            }
        }
        Ok(end)
    }

    /// A loop: round after round while it may go on, or as a loop of the graph where it is not known when that ends.
    fn looped(
        &mut self,
        frame: &mut Frame<'a>,
        looped: Looped<'a>,
        start: Variables,
    ) -> Result<Flow, Problem> {
        let body = std::ptr::from_ref(looped.body);
        if self.options.unrolled > 0 && !self.kept.contains(&body) {
            let (nodes, steps, known) = (self.scalars.len(), self.budget.steps.get(), frame.values.clone());
            let depth = self.path.len();
            let unrolled = self.unrolled(frame, looped, start.clone());
            self.path.truncate(depth);
            match unrolled {
                Err(problem)
                    if matches!(problem.code(), Code::WgslLoop | Code::WgslNodes | Code::WgslLimit) =>
                {
                    self.budget.lost.set(self.budget.lost.get() + self.budget.steps.get() - steps);
                    self.budget.steps.set(steps);
                    self.scalars.forget(nodes);
                    frame.values = known;
                    self.kept.insert(body);
                }
                other => return other,
            }
        }
        self.loops += 1;
        self.run_time(frame, looped, start)
    }
    fn unrolled(
        &mut self,
        frame: &mut Frame<'a>,
        looped: Looped<'a>,
        start: Variables,
    ) -> Result<Flow, Problem> {
        let unknown = |rounds: usize| {
            let message = "the number of rounds of a loop is not known before it runs";
            Problem::new(Code::WgslLoop, message)
                .at(looped.span, format!("still running after {rounds} rounds"))
        };
        let loops = self.loops;
        let mut all = Flow::on(start);
        let mut round = 0;
        while let Some(now) = all.now.take() {
            if round > self.options.unrolled {
                return Err(unknown(round));
            }
            round += 1;
            let before = constants(&now);
            let left = all.exits.iter().any(|exit| matches!(exit.condition, Value::Node(_)));
            let flow = match self.one_round(frame, looped, now) {
                // an index outside of its array, in a round that may never be
                Err(problem) if problem.code() == Code::WgslConstant && left => return Err(unknown(round)),
                flow => flow?,
            };
            self.leaving(&flow.exits);
            all.exits.extend(flow.exits);
            all.now = flow.now;
            // A loop of the graph in every round, or rounds that values may end: a loop around them is better.
            let decided = all.exits.iter().any(|exit| matches!(exit.condition, Value::Node(_)));
            if round > MAX_LOOPS && self.loops > loops || round >= MAX_DECIDED && decided && all.now.is_some()
            {
                return Err(unknown(round));
            }
            // Only what is known decides: where that stays as it is, nothing will ever end the loop.
            if all.now.as_ref().is_some_and(|now| constants(now) == before) {
                return Err(unknown(round));
            }
        }
        Ok(self.joined(all, |how| match how {
            How::Break(variables) => Ok(variables),
            How::Return(_) | How::Continue(_) => Err(how),
        }))
    }
    /// What a round of a loop makes of its variables, and what leaves the loop in it.
    pub(super) fn one_round(
        &mut self,
        frame: &mut Frame<'a>,
        looped: Looped<'a>,
        start: Variables,
    ) -> Result<Flow, Problem> {
        let flow = self.block(frame, looped.body, start)?;
        let mut flow = self.joined(flow, |how| match how {
            How::Continue(variables) => Ok(variables),
            How::Return(_) | How::Break(_) => Err(how),
        });
        let depth = self.path.len();
        self.leaving(&flow.exits);
        if let Some(now) = flow.now.take() {
            // nothing can leave here but by `break if`
            flow.now = self.block(frame, looped.continuing, now)?.now;
        }
        self.path.truncate(depth);
        if let (Some(now), Some(condition)) = (&flow.now, looped.break_if) {
            let condition = self.value(frame, condition)?[0];
            if condition != Value::FALSE {
                flow.exits.push(Exit { condition, how: How::Break(now.clone()) });
            }
            if condition == Value::TRUE {
                flow.now = None;
            }
        }
        Ok(flow)
    }
    /// A block that counts under conditions only.
    fn branch(
        &mut self,
        frame: &mut Frame<'a>,
        block: &'a Block,
        now: Variables,
        conditions: &[(Value, bool)],
    ) -> Result<Flow, Problem> {
        let depth = self.path.len();
        self.path.extend_from_slice(conditions);
        let flow = self.block(frame, block, now)?;
        self.path.truncate(depth);
        Ok(flow)
    }
    /// What follows counts where nothing of this has left.
    fn leaving(&mut self, exits: &[Exit]) {
        self.path.extend(exits.iter().map(|exit| (exit.condition, false)));
    }
}

/// The values that are known, and where the others stand.
fn constants(variables: &Variables) -> Vec<Option<Value>> {
    let known = |value: &Value| (!matches!(value, Value::Node(_))).then_some(*value);
    variables.iter().flatten().map(known).collect()
}
