//! Derivatives of loops: tangents run beside the state, so a loop needs neither a tape nor a limit. What comes out is another loop, hence
//! every order and both modes. Reverse mode is one direction for each operand, times the cotangent.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cotangent_tensor::{
    Code, DType, Elementwise, Error, Node, Op, Partial, Shape, Tensor, WhileLoop, topological,
};

use crate::forward::changes;
use crate::guard::{Guarded, Literal, shape_of};
use crate::pullback::{Flow, invalid};
use crate::pushforward::Tangent;
use crate::stamp::{cast_at, masked_at};
use crate::structure::operands;

/// Most directions that run beside one loop.
const MAX_DIRECTIONS: usize = 32;

/// A loop beside which tangents run.
struct Moving {
    looped: Arc<WhileLoop>,
    /// Direction and carried value of each tangent in the state, in order.
    carried: Vec<(usize, usize)>,
    /// Direction and captured value of each captured tangent, in order.
    captured: Vec<(usize, usize)>,
    /// By direction and carried value: whether it depends on what moves by way of integers only.
    lost: Vec<Vec<bool>>,
}

impl Moving {
    /// `moves[d][o]`: whether operand `o` moves in direction `d`; if all of them are `units`, a captured one that moves does so by 1.
    fn new(looped: &WhileLoop, moves: &[Vec<bool>], units: bool) -> Result<Moving, Error> {
        let steep = is_steep(looped);
        let count = looped.carried.len();
        let parameters: Vec<&Arc<Node>> = looped.carried.iter().chain(&looped.captured).collect();
        let float: Vec<HashSet<*const ()>> =
            looped.next.iter().map(|next| sources(next, Through::Floats)).collect();
        let any: Vec<HashSet<*const ()>> =
            looped.next.iter().map(|next| sources(next, Through::Integers)).collect();
        let (mut carried, mut captured, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tangents, mut captured_tangents, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for (direction, moves) in moves.iter().enumerate() {
            // A carried value moves if it does before a round, or if something that it is made of does.
            let closure = |sources: &[HashSet<*const ()>], through: Through| {
                let mut moving = moves.clone();
                let reached = |moving: &[bool], value: usize| {
                    let moves = |(parameter, &moves): (&&Arc<Node>, &bool)| {
                        moves && sources[value].contains(&parameter.identity())
                    };
                    through.passes(&looped.next[value]) && parameters.iter().zip(moving).any(moves)
                };
                while let Some(new) = (0..count).find(|&value| !moving[value] && reached(&moving, value)) {
                    moving[new] = true;
                }
                moving
            };
            let (moving, known) = (closure(&float, Through::Floats), closure(&any, Through::Integers));
            lost.push((0..count).map(|value| known[value] && !moving[value]).collect());
            let mut seeds = Vec::new();
            for (position, parameter) in
                parameters.iter().enumerate().filter(|(position, _)| moving[*position])
            {
                if units && position >= count {
                    let one = Guarded::number(Shape::SCALAR, 1.0);
                    seeds.push(((*parameter).clone(), (Some(one), None)));
                    continue;
                }
                let name = format!("d_{}", parameter.called());
                let tangent = Tensor::placeholder(&name, Shape::SCALAR, DType::F32);
                let mut seed = Guarded::plain(tangent.clone());
                if steep {
                    seed = seed.with(moved(&tangent));
                }
                seeds.push(((*parameter).clone(), (Some(seed), None)));
                if position < count {
                    carried.push((direction, position));
                    tangents.push(tangent);
                } else {
                    captured.push((direction, position - count));
                    captured_tangents.push(tangent);
                }
            }
            let roots: Vec<Arc<Node>> =
                (0..count).filter(|&v| moving[v]).map(|v| looped.next[v].clone()).collect();
            for ((tangent, _), root) in changes(&roots, seeds)?.into_iter().zip(&roots) {
                next.push(match tangent {
                    Some(tangent) => cast_at(&masked_at(&tangent, root), DType::F32, root),
                    None => Tensor::full(Shape::SCALAR, 0.0),
                });
            }
        }
        let tensors = |nodes: &[Arc<Node>], more: Vec<Tensor>| {
            nodes.iter().cloned().map(Tensor::from_node).chain(more).collect::<Vec<_>>()
        };
        let state = tensors(&looped.carried, tangents);
        let kept = tensors(&looped.captured, captured_tangents);
        let condition = Tensor::from_node(looped.condition.clone());
        let next = tensors(&looped.next, next);
        let looped = WhileLoop::new(&looped.name, looped.rounds, (&state, &kept), &condition, &next)?;
        Ok(Moving { looped, carried, captured, lost })
    }
    /// The tangents of carried value `output`, one per direction; none where a direction cannot move it. `seed` gives the tangent
    /// of an operand in a direction before the first round.
    fn run(
        &self,
        node: &Arc<Node>,
        output: usize,
        seed: impl Fn(usize, usize) -> Tensor,
    ) -> Vec<(usize, Tensor)> {
        let count = self.looped.carried.len() - self.carried.len();
        let (mut initial, mut kept) = (operands(node), Vec::new());
        kept.extend(initial.drain(count..));
        initial.extend(self.carried.iter().map(|&(direction, value)| seed(direction, value)));
        kept.extend(self.captured.iter().map(|&(direction, value)| seed(direction, count + value)));
        let results = self.looped.apply_at(node.location, &initial, &kept);
        let of_output = |(tangent, &(direction, value)): (Tensor, &(usize, usize))| {
            (value == output).then_some((direction, tangent))
        };
        results.into_iter().skip(count).zip(&self.carried).filter_map(of_output).collect()
    }
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
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// The placeholders from which a value is made.
fn sources(value: &Arc<Node>, through: Through) -> HashSet<*const ()> {
    let (mut seen, mut found) = (HashSet::new(), HashSet::new());
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
            _ => stack.extend(node.sources().iter().cloned()),
        }
    }
    found
}

/// A change that is zero contributes nothing, whatever it meets: a value may not move although it could, and what it would move may be NaN. Where
/// rounds are written out this is known from the graph.
fn moved(change: &Tensor) -> Literal {
    Literal { condition: change.ne(0.0), holds: true, pending: false, hides: true }
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
    let direction = |&only: &usize| (0..node.operands.len()).map(|operand| operand == only).collect();
    let moving = match Moving::new(looped, &wanted.iter().map(direction).collect::<Vec<_>>(), true) {
        Ok(moving) => moving,
        Err(error) => return invalid(node, &error),
    };
    let seed = |direction: usize, operand: usize| {
        Tensor::full(node.shape, if wanted[direction] == operand { 1.0 } else { 0.0 })
    };
    for (flow, _) in wanted.iter().zip(&moving.lost).filter(|(_, lost)| lost[output]) {
        flows[*flow] = Flow::Undefined(looped.name.as_str().into());
    }
    for (direction, partial) in moving.run(node, output, seed) {
        flows[wanted[direction]] = Flow::Value(cotangent.times(&partial, None).with(moved(&partial)));
    }
    flows
}

/// Pushes tangents of the operands through a loop to carried value `output`.
pub(crate) fn push_loop(
    node: &Arc<Node>,
    (looped, output): (&WhileLoop, usize),
    tangents: &[&Tangent],
) -> Result<Tangent, Error> {
    let moves: Vec<bool> = tangents.iter().map(|tangent| tangent.is_some()).collect();
    let moving = Moving::new(looped, &[moves], false)?;
    if moving.lost[0][output] {
        let message = "no derivative through its integers, which leave the floats";
        return Err(Error::new(Code::NotDifferentiable, &looped.name, message).at(node.location));
    }
    let seed = |_: usize, operand: usize| match tangents[operand] {
        Some(tangent) => masked_at(tangent, node),
        None => Tensor::zeros(shape_of(&Tensor::from_node(node.clone()))),
    };
    let pushed = moving.run(node, output, seed).into_iter().next();
    Ok(pushed.map(|(_, tangent)| Guarded::plain(tangent.clone()).with(moved(&tangent))))
}
