//! Loops whose number of rounds is not known: one round is computed on stand-ins for what changes, and becomes a loop of the graph.
//!
//! What leaves the loop becomes a part of its state.

use std::collections::{BTreeSet, HashSet};

use cotangent_tensor::{
    Code, DEFAULT_ROUNDS, DType, Elementwise as E, Shape, Tensor, WhileLoop, topological,
};
use naga::{Block, Expression, Handle, Span, Statement};

use super::scalars::Scalars;
use super::statements::{Exit, Flow, How, Variables};
use super::{Frame, Lowering, Made, Value};
use crate::diagnose::Problem;
use crate::text::name_or;

/// A loop as it stands in a function.
#[derive(Clone, Copy)]
pub(super) struct Looped<'a> {
    pub(super) body: &'a Block,
    pub(super) continuing: &'a Block,
    pub(super) break_if: Option<Handle<Expression>>,
    pub(super) span: Span,
}

/// One round.
struct Round {
    /// The variables as it finds them.
    before: Variables,
    /// The variables of who goes on, and who leaves.
    end: Flow,
}

/// The loop of the graph, and what to make of its state.
struct Traced {
    /// What stands for a value, what comes after it, and what comes first.
    carried: Vec<(Value, Value, Value)>,
    condition: Value,
    /// Where in the state it stands whether the function has returned, and what.
    returned: Option<(usize, Vec<usize>)>,
    /// Whether it can be left for what follows.
    breaks: bool,
}

impl<'a> Lowering<'a> {
    pub(super) fn run_time(
        &mut self,
        frame: &mut Frame<'a>,
        looped: Looped<'a>,
        start: Variables,
    ) -> Result<Flow, Problem> {
        // Elsewhere it must not run: nobody knows whether it would end there.
        let active = self.active();
        let path = std::mem::take(&mut self.path);
        let outside = self.scalars.len();
        let inside = self.scalars.inner();
        let mut around = std::mem::replace(&mut self.scalars, inside);
        let known = frame.values.clone();
        let traced = self.changing(frame, looped, &start, (outside, active));
        frame.values = known;
        self.path = path;
        let (changes, traced) = match traced {
            Ok(traced) => traced,
            Err(problem) => {
                self.scalars = around;
                return Err(problem);
            }
        };
        // The graphs of a round, on stand-ins for the state and for what lies outside.
        let tensors = |scalars: &Scalars, values: &[Value]| -> Vec<Tensor> {
            values.iter().map(|&value| scalars.tensor(value)).collect()
        };
        let stand_ins: Vec<Value> = traced.carried.iter().map(|carried| carried.0).collect();
        let next: Vec<Value> = traced.carried.iter().map(|carried| carried.1).collect();
        let initial: Vec<Value> = traced.carried.iter().map(|carried| carried.2).collect();
        let (state, next) = (tensors(&self.scalars, &stand_ins), tensors(&self.scalars, &next));
        let condition = self.scalars.tensor(traced.condition);
        let roots = next.iter().chain([&condition]).filter_map(|tensor| tensor.node().ok());
        let reached: HashSet<*const ()> = topological(roots).iter().map(|node| node.identity()).collect();
        let is_used = |value: &Value| {
            let tensor = self.scalars.tensor(*value);
            tensor.node().is_ok_and(|node| reached.contains(&node.identity()))
        };
        let captured: Vec<Value> = self.scalars.asked(outside).filter(is_used).collect();
        let kept = tensors(&self.scalars, &captured);
        let inside =
            std::mem::replace(&mut self.scalars, std::mem::replace(&mut around, Scalars::new(self.at)));
        let name = format!(
            "the loop in `{}` ({}:{})",
            name_or(&frame.function.name, "_"),
            self.text.source.name,
            looped.span.location(&self.text.source.text).line_number
        );
        let rounds = self.options.rounds.unwrap_or(DEFAULT_ROUNDS);
        let made = WhileLoop::new(name, rounds, (&state, &kept), &condition, &next);
        let made = made.map_err(|error| {
            Problem::new(error.code(), error.message().to_string()).at(looped.span, "in this loop")
        })?;
        let (initial, kept) = (tensors(&self.scalars, &initial), tensors(&self.scalars, &captured));
        let results = made.apply_at(self.at, &initial, &kept);
        let results: Vec<Value> = results
            .into_iter()
            .zip(&stand_ins)
            .map(|(result, stand_in)| self.scalars.given(result, inside.dtype(*stand_in)))
            .collect();
        let mut now = start;
        for (&(variable, slot), &result) in changes.iter().zip(&results) {
            now[variable][slot] = result;
        }
        let mut exits = Vec::new();
        if let Some((flag, values)) = traced.returned {
            let condition = if traced.breaks { results[flag] } else { Value::TRUE };
            let values = values.iter().map(|&value| results[value]).collect();
            exits.push(Exit { condition, how: How::Return(values) });
        }
        Ok(Flow { now: traced.breaks.then_some(now), exits })
    }

    /// Computes a round in which everything changes that the text may change.
    fn changing(
        &mut self,
        frame: &mut Frame<'a>,
        looped: Looped<'a>,
        start: &Variables,
        (outside, active): (usize, Value),
    ) -> Result<(Vec<(usize, usize)>, Traced), Problem> {
        let mut variables = BTreeSet::new();
        stored(frame, looped.body, &mut variables);
        stored(frame, looped.continuing, &mut variables);
        let slots = |variable: usize| (0..start[variable].len()).map(move |slot| (variable, slot));
        let changes: Vec<(usize, usize)> = variables.into_iter().flat_map(slots).collect();
        let mut before = start.clone();
        for &(variable, slot) in &changes {
            let name = self.variable_name(frame, variable, slot);
            // also of what is known outside
            before[variable][slot] = self.stand_in(&name, self.scalars.dtype(start[variable][slot]));
        }
        let round = self.round(frame, looped, before)?;
        let traced = self.traced(&changes, round, looped, start, (outside, active))?;
        Ok((changes, traced))
    }
    fn stand_in(&mut self, name: &str, dtype: DType) -> Value {
        self.scalars.given(Tensor::placeholder(name, Shape::SCALAR, dtype), dtype)
    }
    fn variable_name(&self, frame: &Frame<'a>, variable: usize, slot: usize) -> String {
        let locals = &frame.function.local_variables;
        let local = locals.iter().nth(variable).and_then(|(_, local)| local.name.as_deref());
        let name = local.unwrap_or("pointed");
        if slot == 0 { name.to_string() } else { format!("{name}_{slot}") }
    }
    fn round(
        &mut self,
        frame: &mut Frame<'a>,
        looped: Looped<'a>,
        before: Variables,
    ) -> Result<Round, Problem> {
        let depth = self.path.len();
        let end = self.one_round(frame, looped, before.clone())?;
        self.path.truncate(depth);
        Ok(Round { before, end })
    }

    /// The state of a loop and what becomes of it in a round.
    fn traced(
        &mut self,
        changes: &[(usize, usize)],
        round: Round,
        looped: Looped<'a>,
        start: &Variables,
        (outside, active): (usize, Value),
    ) -> Result<Traced, Problem> {
        let Round { before, end: Flow { now, mut exits } } = round;
        let slots = |variables: &Variables| -> Vec<Value> {
            changes.iter().map(|&(variable, slot)| variables[variable][slot]).collect()
        };
        let state = slots(&before);
        if exits.is_empty() {
            return Err(Problem::new(Code::WgslLoop, "nothing leaves this loop")
                .at(looped.span, "it goes on for ever")
                .help("leave it with `break` or `return`"));
        }
        if self.options.rounds.is_none() {
            let next = now.as_ref().map(slots).unwrap_or_default();
            // what never gets to a second round ends as well
            let counted =
                now.is_none() || exits.iter().any(|exit| self.counts(exit.condition, &state, &next, outside));
            if !counted {
                return Err(Problem::new(Code::WgslLoop, "nothing shows that this loop ends")
                    .at(looped.span, "its number of rounds depends on values"));
            }
        }
        let breaks = exits.iter().any(|exit| matches!(exit.how, How::Break(_)));
        // Who leaves before anything has changed is asked before the round.
        let mut condition = active;
        let leads = |exit: &Exit| matches!(&exit.how, How::Break(variables) if slots(variables) == state);
        while exits.first().is_some_and(leads) {
            let leaves = exits.remove(0).condition;
            let stays = self.scalars.not(leaves);
            condition = self.scalars.and(condition, stays);
        }
        let mut next = now.as_ref().map(slots).unwrap_or_else(|| state.clone());
        let mut added = Vec::new();
        let mut returned = None;
        if !exits.is_empty() || now.is_none() {
            let running = self.stand_in("running", DType::Bool);
            condition = self.scalars.and(condition, running);
            let mut goes_on = if now.is_some() { Value::TRUE } else { Value::FALSE };
            let mut has_returned = Value::FALSE;
            let width = exits.iter().find_map(|exit| match &exit.how {
                How::Return(values) => Some(values.clone()),
                How::Break(_) | How::Continue(_) => None,
            });
            let kinds: Vec<DType> = width.iter().flatten().map(|&value| self.scalars.dtype(value)).collect();
            let results: Vec<Value> = kinds.iter().map(|&dtype| self.stand_in("result", dtype)).collect();
            let mut result = results.clone();
            // An exit counts where no earlier one does: the last comes first.
            for Exit { condition, how } in exits.into_iter().rev() {
                goes_on = self.scalars.select(condition, Value::FALSE, goes_on);
                match how {
                    How::Return(values) => {
                        has_returned = self.scalars.select(condition, Value::TRUE, has_returned);
                        for (slot, value) in result.iter_mut().zip(values) {
                            *slot = self.scalars.select(condition, value, *slot);
                        }
                    }
                    How::Break(variables) | How::Continue(variables) => {
                        has_returned = self.scalars.select(condition, Value::FALSE, has_returned);
                        for (slot, value) in next.iter_mut().zip(slots(&variables)) {
                            *slot = self.scalars.select(condition, value, *slot);
                        }
                    }
                }
            }
            added.push((running, goes_on, Value::TRUE));
            if width.is_some() {
                let flag = self.stand_in("returned", DType::Bool);
                returned = Some(changes.len() + added.len());
                added.push((flag, has_returned, Value::FALSE));
                let zeros = kinds.into_iter().map(Value::zero);
                added.extend(results.into_iter().zip(result).zip(zeros).map(|((a, b), zero)| (a, b, zero)));
            }
        }
        let first = slots(start);
        let changing = state.into_iter().zip(next).zip(first).map(|((a, b), first)| (a, b, first));
        let carried: Vec<(Value, Value, Value)> = changing.chain(added).collect();
        let returned = returned.map(|flag| (flag, (flag + 1..carried.len()).collect()));
        Ok(Traced { carried, condition, returned, breaks })
    }

    /// Whether a loop that is left under this condition is left at last: it goes on only while an integer that moves by the same in every
    /// round has not reached a limit that stays.
    fn counts(&self, leaves: Value, state: &[Value], next: &[Value], outside: usize) -> bool {
        // what must hold for the loop to go on, and whether it must or must not
        let mut pending = vec![(leaves, false)];
        while let Some((condition, holds)) = pending.pop() {
            let Some(Made::Row(row, [a, b, _])) = self.made(condition) else { continue };
            let (counter, _, upwards) = match (row, holds) {
                (E::Not, _) => {
                    pending.push((a, !holds));
                    continue;
                }
                (E::And, true) | (E::Or, false) => {
                    pending.extend([(a, holds), (b, holds)]);
                    continue;
                }
                (E::Lt | E::Le, true) | (E::Gt | E::Ge, false) => [(a, b, true), (b, a, false)],
                (E::Gt | E::Ge, true) | (E::Lt | E::Le, false) => [(a, b, false), (b, a, true)],
                _ => continue,
            }
            .into_iter()
            .find(|(counter, limit, _)| {
                (state.contains(counter) || next.contains(counter)) && self.stays(*limit, outside)
            })
            .unwrap_or((Value::FALSE, Value::FALSE, true));
            // before or after it has moved
            let of = |values: &[Value]| values.iter().position(|value| *value == counter);
            let Some(position) = of(state).or(of(next)) else { continue };
            let counter = state[position];
            let steps = match next.get(position).and_then(|&value| self.made(value)) {
                Some(Made::Row(E::Add, [a, b, _])) if a == counter => b.as_integer(),
                Some(Made::Row(E::Add, [a, b, _])) if b == counter => a.as_integer(),
                Some(Made::Row(E::Sub, [a, b, _])) if a == counter => b.as_integer().map(|step| -step),
                _ => None,
            };
            if steps.is_some_and(|step| if upwards { step > 0 } else { step < 0 }) {
                return true;
            }
        }
        false
    }
    fn made(&self, value: Value) -> Option<Made> {
        if let Value::Node(node) = value { self.scalars.made(node) } else { None }
    }
    /// Whether a value is the same in every round.
    fn stays(&self, value: Value, outside: usize) -> bool {
        let mut pending = vec![value];
        let mut seen = HashSet::new();
        while let Some(value) = pending.pop() {
            let Value::Node(node) = value else { continue };
            if node < outside || !seen.insert(node) {
                continue;
            }
            match self.scalars.made(node) {
                Some(made) => pending.extend(made.operands()),
                None => return false,
            }
        }
        true
    }
}

/// The variables into which a block may store, by number.
fn stored(frame: &Frame<'_>, block: &Block, found: &mut BTreeSet<usize>) {
    let variable = |mut pointer: Handle<Expression>| loop {
        match &frame.function.expressions[pointer] {
            Expression::LocalVariable(local) => return Some(local.index()),
            // what pointers of the caller point to stands behind the local variables
            Expression::FunctionArgument(argument) => {
                let position = frame.pointers.iter().position(|pointer| *pointer == *argument as usize)?;
                return Some(frame.function.local_variables.len() + position);
            }
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => pointer = *base,
            _ => return None,
        }
    };
    let mut pending = vec![block];
    while let Some(block) = pending.pop() {
        for statement in block {
            match statement {
                Statement::Store { pointer, .. } => found.extend(variable(*pointer)),
                // a pointer may be stored through
                Statement::Call { arguments, .. } => {
                    found.extend(arguments.iter().filter_map(|a| variable(*a)))
                }
                Statement::Block(block) => pending.push(block),
                Statement::If { accept, reject, .. } => pending.extend([accept, reject]),
                Statement::Switch { cases, .. } => pending.extend(cases.iter().map(|case| &case.body)),
                Statement::Loop { body, continuing, .. } => pending.extend([body, continuing]),
                _ => {}
            }
        }
    }
}
