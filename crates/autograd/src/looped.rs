//! Derivatives of loops: tangents run beside the state, so a loop needs neither a tape nor a limit. What comes out is another loop, hence
//! every order and both modes. Reverse mode is one direction for each operand, times the cotangent.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use cotangent_tensor::{
    AddressSet, Code, DType, Elementwise, Error, Node, Op, Partial, Shape, Tensor, WhileLoop, topological,
};

use crate::forward::changes;
use crate::guard::{Guarded, Literal, conjunction};
use crate::pullback::{Flow, invalid};
use crate::pushforward::Tangent;
use crate::stamp::{cast_at, masked_at};
use crate::structure::operands;

/// Most directions that run beside one loop.
const MAX_DIRECTIONS: usize = 32;

/// How an operand moves in a direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// Not at all.
    Never,
    /// By 1, everywhere.
    Unit,
    /// Everywhere, by a tangent.
    Always,
    /// Where a condition says so, by a tangent.
    Sometimes,
}

/// A value that runs beside a loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// By how much something moves.
    Tangent,
    /// Whether it moves at all: that depends on the rounds and branches that were taken. A tangent that is 0 is something else.
    Condition,
}

/// Direction, what it is, and of which carried or captured value.
type Beside = (usize, What, usize);

/// A loop beside which tangents run.
struct Moving {
    looped: Arc<WhileLoop>,
    /// What was added to the state, in order.
    carried: Vec<Beside>,
    /// What is captured besides, in order.
    captured: Vec<Beside>,
}

impl Moving {
    /// `moves[d][o]`: how operand `o` moves in direction `d`.
    fn new(looped: &WhileLoop, moves: &[Vec<Moves>]) -> Result<Moving, Error> {
        let (steep, count) = (is_steep(looped), looped.carried.len());
        let nested = topological(&looped.next).iter().any(|node| matches!(node.op, Op::While(..)));
        let parameters: Vec<&Arc<Node>> = looped.carried.iter().chain(&looped.captured).collect();
        let (mut carried, mut captured) = (Vec::new(), Vec::new());
        let (mut state, mut kept, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for (direction, moves) in moves.iter().enumerate() {
            let moving = closure(looped, moves.iter().map(|m| *m != Moves::Never).collect(), Through::Floats);
            let placeholder = |kind: &str, value: usize, dtype: DType| {
                Tensor::placeholder(&format!("{kind}_{}", parameters[value].called()), Shape::SCALAR, dtype)
            };
            let tangents: Vec<Tensor> =
                (0..parameters.len()).map(|value| placeholder("d", value, DType::F32)).collect();
            let conditions: Vec<Tensor> =
                (0..parameters.len()).map(|value| placeholder("moves", value, DType::Bool)).collect();
            let places = || (0..parameters.len()).filter(|&value| moving[value]);
            let roots: Vec<Arc<Node>> =
                (0..count).filter(|&value| moving[value]).map(|value| looped.next[value].clone()).collect();
            // The tangents after a round, where those in `sure` count everywhere, and all of them if not `guarded`.
            let round = |sure: &[bool], guarded: bool| {
                let seed = |value: usize| {
                    let seed = match moves[value] {
                        Moves::Unit if value >= count => Guarded::number(Shape::SCALAR, 1.0),
                        _ if sure[value] || !guarded => Guarded::plain(tangents[value].clone()),
                        _ => Guarded::plain(tangents[value].clone()).with(moved(conditions[value].clone())),
                    };
                    (parameters[value].clone(), (Some(seed), None))
                };
                changes(&roots, places().map(seed).collect())
            };
            // What moves everywhere and goes on to do so needs no condition. That is tried out, but where loops inside would be differentiated anew for
            // each trial, in all of their depths.
            let mut sure: Vec<bool> =
                moves.iter().map(|m| matches!(m, Moves::Unit | Moves::Always)).collect();
            sure[..count].iter_mut().for_each(|sure| *sure &= !nested);
            let after = loop {
                let after = round(&sure, true)?;
                let stays =
                    |change: &Tangent| change.as_ref().is_some_and(|tangent| tangent.guard.is_empty());
                let values = (0..count).filter(|&value| moving[value]);
                let lapsed: Vec<usize> = values
                    .zip(&after)
                    .filter(|(value, (tangent, _))| sure[*value] && !stays(tangent))
                    .map(|(value, _)| value)
                    .collect();
                if lapsed.is_empty() {
                    break after;
                }
                lapsed.into_iter().for_each(|value| sure[value] = false);
            };
            // Where no slope can be infinite, what does not move contributes nothing by itself.
            let plain = if steep { None } else { Some(round(&sure, false)?) };
            let tangent_of = |position: usize, root: &Arc<Node>| {
                let tangent = plain.as_ref().map_or(&after[position].0, |plain| &plain[position].0);
                match tangent {
                    Some(tangent) => cast_at(&masked_at(tangent, root), DType::F32, root),
                    None => Tensor::full(Shape::SCALAR, 0.0),
                }
            };
            for (position, (value, root)) in places().zip(&roots).enumerate() {
                carried.push((direction, What::Tangent, value));
                state.push(tangents[value].clone());
                next.push(tangent_of(position, root));
                if !sure[value] {
                    carried.push((direction, What::Condition, value));
                    state.push(conditions[value].clone());
                    let moves = after[position].0.as_ref().map(|tangent| conjunction(&tangent.guard));
                    next.push(match moves {
                        Some(Some(condition)) => condition,
                        moves => Tensor::full(Shape::SCALAR, moves.is_some()),
                    });
                }
            }
            for value in places().filter(|&value| value >= count && moves[value] != Moves::Unit) {
                captured.push((direction, What::Tangent, value - count));
                kept.push(tangents[value].clone());
                if moves[value] == Moves::Sometimes {
                    captured.push((direction, What::Condition, value - count));
                    kept.push(conditions[value].clone());
                }
            }
        }
        let tensors = |nodes: &[Arc<Node>], more: Vec<Tensor>| {
            nodes.iter().cloned().map(Tensor::from_node).chain(more).collect::<Vec<_>>()
        };
        let (state, kept) = (tensors(&looped.carried, state), tensors(&looped.captured, kept));
        let condition = Tensor::from_node(looped.condition.clone());
        let next = tensors(&looped.next, next);
        let looped = WhileLoop::new(&looped.name, looped.rounds, (&state, &kept), &condition, &next)?;
        Ok(Moving { looped, carried, captured })
    }
    /// The tangents of all carried values by direction; none where a direction cannot move one. `seed` gives what runs beside an operand in
    /// a direction before the first round.
    fn run(
        &self,
        node: &Arc<Node>,
        seed: impl Fn(usize, What, usize) -> Tensor,
    ) -> Vec<Vec<(usize, Guarded)>> {
        let count = self.looped.carried.len() - self.carried.len();
        let (mut initial, mut kept) = (operands(node), Vec::new());
        kept.extend(initial.drain(count..));
        initial.extend(self.carried.iter().map(|&(direction, what, value)| seed(direction, what, value)));
        kept.extend(
            self.captured.iter().map(|&(direction, what, value)| seed(direction, what, count + value)),
        );
        let results = self.looped.apply_at(node.location, &initial, &kept);
        let mut found: Vec<Vec<(usize, Guarded)>> = vec![Vec::new(); count];
        for (result, &(direction, what, value)) in results.into_iter().skip(count).zip(&self.carried) {
            match (what, found[value].pop()) {
                (What::Tangent, last) => {
                    found[value].extend(last);
                    found[value].push((direction, Guarded::plain(result)));
                }
                // it comes after the tangent
                (What::Condition, last) => {
                    let guarded = last.map(|(direction, tangent)| (direction, tangent.with(moved(result))));
                    found[value].extend(guarded);
                }
            }
        }
        found
    }
}

/// What does not move contributes nothing, whatever it meets: what it would move may be NaN. Where rounds are written out this is known from
/// the graph.
fn moved(condition: Tensor) -> Literal {
    Literal { condition, holds: true, pending: false, hides: true }
}

/// On which operands each value of a loop depends, for loops that have been looked at.
#[derive(Default)]
struct Reach(HashMap<(*const WhileLoop, Through), Rc<Vec<Vec<bool>>>>);

impl Reach {
    fn of(&mut self, looped: &WhileLoop, through: Through) -> Rc<Vec<Vec<bool>>> {
        let key = (std::ptr::from_ref(looped), through);
        if let Some(known) = self.0.get(&key) {
            return known.clone();
        }
        let parameters: Vec<&Arc<Node>> = looped.carried.iter().chain(&looped.captured).collect();
        let mut depends: Vec<Vec<bool>> = Vec::new();
        for (value, next) in looped.next.iter().enumerate() {
            let sources = self.sources(next, through);
            let is_source = |parameter: &&Arc<Node>| sources.contains(&parameter.identity());
            let mut row: Vec<bool> = parameters.iter().map(is_source).collect();
            row[value] = true;
            depends.push(row);
        }
        // A value depends on what those depend on that it is made of.
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for value in 0..depends.len() {
                for through in (0..depends.len()).filter(|&other| other != value) {
                    if depends[value][through] {
                        let (row, more) = (depends[value].clone(), &depends[through]);
                        let union: Vec<bool> = row.iter().zip(more).map(|(a, b)| *a || *b).collect();
                        changed |= union != row;
                        depends[value] = union;
                    }
                }
            }
        }
        self.0.entry(key).or_insert(Rc::new(depends)).clone()
    }
    /// The placeholders from which a value is made.
    fn sources(&mut self, value: &Arc<Node>, through: Through) -> AddressSet<()> {
        let (mut seen, mut found): (AddressSet<Node>, AddressSet<()>) = Default::default();
        let mut stack = vec![value.clone()];
        while let Some(node) = stack.pop() {
            if !seen.insert(node.key()) || !through.passes(&node) {
                continue;
            }
            match &node.op {
                Op::Placeholder(_) => {
                    found.insert(node.identity());
                }
                Op::Detach => {}
                Op::While(inner, output) => {
                    let reaching = self.of(inner, through);
                    let reaching = node.operands.iter().zip(&reaching[*output]);
                    stack.extend(
                        reaching.filter(|(_, reached)| **reached).map(|(operand, _)| operand.clone()),
                    );
                }
                _ => stack.extend(node.sources().iter().cloned()),
            }
        }
        found
    }
}

/// The carried and captured values that move if some do.
fn closure(looped: &WhileLoop, mut moving: Vec<bool>, through: Through) -> Vec<bool> {
    let depends = Reach::default().of(looped, through);
    for (value, row) in depends.iter().enumerate() {
        moving[value] |=
            through.passes(&looped.next[value]) && row.iter().zip(&moving).any(|(a, b)| *a && *b);
    }
    moving
}

/// For each operand of a loop whether its node depends on it, by floats and integers.
pub(crate) fn reaches(looped: &WhileLoop, output: usize) -> Vec<bool> {
    Reach::default().of(looped, Through::Integers)[output].clone()
}

/// Whether a node of a loop depends on what moves, by way of integers only.
pub(crate) fn loses(node: &Node, moves: impl Fn(&Arc<Node>) -> bool) -> bool {
    let Op::While(looped, output) = &node.op else { return false };
    let by = |through| {
        let reaches = Reach::default().of(looped, through);
        node.operands.iter().zip(&reaches[*output]).any(|(operand, reached)| *reached && moves(operand))
    };
    by(Through::Integers) && !by(Through::Floats)
}

/// Whether a derivative may be infinite where the operands are not: by a row that says so at a few points, or by what is not one.
fn is_steep(looped: &WhileLoop) -> bool {
    const POINTS: [f64; 4] = [0.0, 1.0, -1.0, 0.5];
    let body = topological(&looped.next);
    let rows: BTreeSet<Elementwise> = body
        .iter()
        .filter_map(|node| if let Op::Elementwise(row) = node.op { Some(row) } else { None })
        .collect();
    let infinite = |row: Elementwise| {
        let points = |number: usize| -> Vec<f64> {
            (0..row.arity()).map(|o| POINTS[number / POINTS.len().pow(o as u32) % POINTS.len()]).collect()
        };
        (0..POINTS.len().pow(3)).map(points).any(|args| {
            let partials = row.partials::<f64>(&args.iter().collect::<Vec<_>>(), &row.eval(&args), |_| true);
            partials.iter().any(|partial| match partial {
                Partial::Product(factor) | Partial::Pick { factor: Some(factor), .. } => !factor.is_finite(),
                _ => false,
            })
        })
    };
    let unknown = |node: &Arc<Node>| matches!(node.op, Op::Rule(_) | Op::While(..));
    body.iter().any(unknown) || rows.into_iter().any(infinite)
}

/// What a path may lead through. Truth values are piecewise constant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Through {
    Floats,
    Integers,
}

impl Through {
    fn passes(self, node: &Node) -> bool {
        let by_type = match self {
            Through::Floats => node.dtype.is_float(),
            Through::Integers => node.dtype != DType::Bool,
        };
        // The tuple of a rule has no type of its own: its projections have.
        by_type || matches!(node.op, Op::Rule(_))
    }
}

/// Pulls a cotangent of carried value `output` back to the operands of a loop.
pub(crate) fn pull_loop(
    node: &Arc<Node>,
    (looped, output): (&WhileLoop, usize),
    cotangent: &Guarded,
    needed: impl Fn(usize) -> bool,
) -> Vec<Flow> {
    let is_float = |operand: &Arc<Node>| operand.dtype.is_float();
    let wanted: Vec<usize> =
        (0..node.operands.len()).filter(|&o| is_float(&node.operands[o]) && needed(o)).collect();
    let mut flows: Vec<Flow> =
        node.operands.iter().map(|o| if is_float(o) { Flow::Zero } else { Flow::Discrete }).collect();
    if wanted.is_empty() {
        return flows;
    }
    if wanted.len() > MAX_DIRECTIONS {
        let message =
            format!("{} values are differentiated through it; at most {MAX_DIRECTIONS} can be", wanted.len());
        let error = Error::new(Code::LoopInputs, &looped.name, message).at(node.location);
        return invalid(node, &error);
    }
    let direction = |&only: &usize| {
        let moves = |operand| if operand == only { Moves::Unit } else { Moves::Never };
        (0..node.operands.len()).map(moves).collect()
    };
    let moving = match Moving::new(looped, &wanted.iter().map(direction).collect::<Vec<_>>()) {
        Ok(moving) => moving,
        Err(error) => return invalid(node, &error),
    };
    let seed = |direction: usize, what: What, operand: usize| match (what, wanted[direction] == operand) {
        (What::Tangent, moves) => Tensor::full(node.shape, if moves { 1.0 } else { 0.0 }),
        (What::Condition, moves) => Tensor::full(node.shape, moves),
    };
    for (position, &operand) in wanted.iter().enumerate() {
        let only = &node.operands[operand];
        if loses(node, |other| Arc::ptr_eq(other, only)) {
            flows[wanted[position]] = Flow::Undefined(looped.name.as_str().into());
        }
    }
    for (direction, partial) in moving.run(node, seed).swap_remove(output) {
        let mut flow = cotangent.times(&partial.value, None);
        for literal in partial.guard {
            flow = flow.with(literal);
        }
        flows[wanted[direction]] = Flow::Value(flow);
    }
    flows
}

/// Tangents of all values of the loops of a graph, by loop and operands: a loop beside which others run is made once for all of them.
#[derive(Default)]
pub(crate) struct Pushed(HashMap<(*const WhileLoop, Vec<*const Node>), Vec<Tangent>>);

impl Pushed {
    /// Pushes tangents of the operands through a loop to carried value `output`.
    pub(crate) fn push(
        &mut self,
        node: &Arc<Node>,
        (looped, output): (&Arc<WhileLoop>, usize),
        tangents: &[&Tangent],
    ) -> Result<Tangent, Error> {
        let key = (Arc::as_ptr(looped), node.operands.iter().map(Node::key).collect());
        if let Some(known) = self.0.get(&key) {
            return Ok(known[output].clone());
        }
        let pushed = push_loop(node, looped, tangents)?;
        Ok(self.0.entry(key).or_insert(pushed)[output].clone())
    }
}

/// Pushes tangents of the operands through a loop to all carried values.
fn push_loop(node: &Arc<Node>, looped: &WhileLoop, tangents: &[&Tangent]) -> Result<Vec<Tangent>, Error> {
    let moves = |tangent: &&Tangent| match tangent {
        None => Moves::Never,
        Some(tangent) if tangent.guard.is_empty() => Moves::Always,
        Some(_) => Moves::Sometimes,
    };
    let moving = Moving::new(looped, &[tangents.iter().map(moves).collect()])?;
    let seed = |_: usize, what: What, operand: usize| match (what, tangents[operand]) {
        (What::Tangent, Some(tangent)) => masked_at(tangent, node),
        (What::Tangent, None) => Tensor::zeros(node.shape),
        (What::Condition, Some(tangent)) => {
            conjunction(&tangent.guard).unwrap_or_else(|| Tensor::full(node.shape, true))
        }
        (What::Condition, None) => Tensor::full(node.shape, false),
    };
    let last = |mut found: Vec<(usize, Guarded)>| found.pop().map(|(_, tangent)| tangent);
    Ok(moving.run(node, seed).into_iter().map(last).collect())
}
