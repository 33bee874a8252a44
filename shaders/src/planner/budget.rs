//! Plans within a number of bytes: what derivatives need of the forward pass is computed again where keeping it would take too much.
//!
//! The forward pass is cut into segments that keep equally many bytes. Of a segment only what later ones read is kept; the rest is computed
//! again, once, when the backward pass gets there. The first segments are given up first, since their values live longest.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{Code, Error, Label, Node, Op, Origin, expand, topological};

use super::{PlanOptions, plan_as_is};
use crate::plan::Plan;

/// Numbers of segments that are tried.
const SEGMENTS: [usize; 8] = [2, 3, 4, 6, 8, 12, 16, 24];

/// A plan whose slots take at most `budget` bytes, with as little computed again as was found. Error: `E_OUT_OF_MEMORY` with the
/// least that was found.
pub(super) fn plan_within(
    outputs: &[Arc<Node>],
    updates: &[(Arc<Node>, Arc<Node>)],
    options: &PlanOptions,
    budget: usize,
) -> Result<Plan, Error> {
    let whole = plan_as_is(outputs, updates, options)?;
    if whole.slot_bytes() <= budget {
        return Ok(whole);
    }
    let targets = outputs.iter().chain(updates.iter().map(|(_, value)| value)).cloned().collect();
    let program = Program::new(expand(targets).roots);
    let planned = |segments: usize, given_up: usize| {
        let mut roots = program.computing_again(segments, given_up);
        let values = roots.split_off(outputs.len());
        let updates: Vec<_> = updates.iter().map(|(variable, _)| variable.clone()).zip(values).collect();
        plan_as_is(&roots, &updates, options)
    };
    let mut least = whole.slot_bytes();
    for segments in SEGMENTS.into_iter().filter(|&segments| segments <= program.kept.len()) {
        let mut best = planned(segments, segments - 1)?;
        least = least.min(best.slot_bytes());
        if best.slot_bytes() > budget {
            continue;
        }
        // As few segments as will do.
        let (mut enough, mut too_few) = (segments - 1, 0);
        while enough - too_few > 1 {
            let middle = usize::midpoint(enough, too_few);
            let plan = planned(segments, middle)?;
            if plan.slot_bytes() <= budget {
                (best, enough) = (plan, middle);
            } else {
                too_few = middle;
            }
        }
        return Ok(best);
    }
    let message =
        format!("the budget of the step is {budget} bytes, the smallest plan that was found takes {least}");
    Err(Error::new(Code::OutOfMemory, "step", message)
        .hint("raise the budget, halve the batch, or wrap parts of the program in `checkpoint`"))
}

/// The graphs of `roots` cut into segments, of which derivatives compute the first `given_up` again. For tests: [`plan`](super::plan)
/// decides by itself within a budget.
pub fn computing_again(roots: Vec<Arc<Node>>, segments: usize, given_up: usize) -> Vec<Arc<Node>> {
    Program::new(expand(roots).roots).computing_again(segments, given_up)
}

/// A program, operands before users.
struct Program {
    roots: Vec<Arc<Node>>,
    order: Vec<Arc<Node>>,
    /// Values of the forward pass that derivatives read: their positions in the order, and their bytes.
    kept: Vec<(usize, usize)>,
}

/// What is known of a node when a program is cut.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Of a value of the forward pass: the segment in which it is computed; of others: the last segment that it comes from.
    segment: usize,
    /// The last segment of the forward pass that reads it.
    read: usize,
    is_forward: bool,
}

fn is_source(node: &Node) -> bool {
    matches!(node.op, Op::Leaf(_) | Op::Input(_) | Op::Variable(_) | Op::Constant(_) | Op::Iota { .. })
}

fn is_forward(node: &Node) -> bool {
    node.origin.order == 0 && !node.origin.again
}

fn is_view(node: &Node) -> bool {
    matches!(node.op, Op::Reshape | Op::Permute(_) | Op::Broadcast | Op::Slice { .. })
}

/// The value that a view shows.
fn base(mut node: &Arc<Node>) -> &Arc<Node> {
    while is_view(node) {
        node = &node.operands[0];
    }
    node
}

impl Program {
    fn new(roots: Vec<Arc<Node>>) -> Program {
        let order = topological(&roots);
        let position: HashMap<*const Node, usize> =
            order.iter().enumerate().map(|(position, node)| (node.key(), position)).collect();
        let crossing = order.iter().filter(|node| !is_forward(node)).flat_map(|node| &node.operands);
        let bases = crossing.map(base).filter(|value| is_forward(value) && !is_source(value));
        let mut kept: Vec<(usize, usize)> =
            bases.map(|value| (position[&value.key()], 4 * value.shape.elements())).collect();
        kept.sort_unstable();
        kept.dedup();
        Program { roots, order, kept }
    }

    /// The places of all nodes where the forward pass is cut into segments.
    fn places(&self, segments: usize) -> HashMap<*const Node, Place> {
        let total: usize = self.kept.iter().map(|(_, bytes)| bytes).sum();
        let (mut sum, mut kept) = (0, self.kept.iter().peekable());
        let mut places: HashMap<*const Node, Place> = HashMap::new();
        for (position, node) in self.order.iter().enumerate() {
            let segment = match is_forward(node) {
                true => (sum * segments / total.max(1)).min(segments - 1),
                false => {
                    let below = node.operands.iter().filter(|operand| !is_source(operand));
                    below.map(|operand| places[&operand.key()].segment).max().unwrap_or(0)
                }
            };
            places.insert(node.key(), Place { segment, read: segment, is_forward: is_forward(node) });
            while let Some((_, bytes)) = kept.next_if(|(at, _)| *at <= position) {
                sum += bytes;
            }
        }
        for node in self.order.iter().rev().filter(|node| is_forward(node)) {
            let place = places[&node.key()];
            // Whoever reads a view reads what it shows.
            let read = if is_view(node) { place.read } else { place.segment };
            for operand in &node.operands {
                if let Some(place) = places.get_mut(&operand.key()) {
                    place.read = place.read.max(read);
                }
            }
        }
        places
    }

    /// The roots, where derivatives do not read the values of the first `given_up` segments but compute them again.
    fn computing_again(&self, segments: usize, given_up: usize) -> Vec<Arc<Node>> {
        let places = self.places(segments);
        let mut again =
            Again { places: &places, given_up, waits: vec![None; segments], images: HashMap::new() };
        let mut latest: Vec<Option<Arc<Node>>> = vec![None; segments];
        let mut images: HashMap<*const Node, Arc<Node>> = HashMap::new();
        for node in &self.order {
            let place = places[&node.key()];
            let image = if place.is_forward {
                node.clone()
            } else {
                let operand = |operand: &Arc<Node>| match places[&operand.key()].is_forward {
                    true => again.value(operand, &latest),
                    false => images[&operand.key()].clone(),
                };
                let operands: Vec<Arc<Node>> = node.operands.iter().map(operand).collect();
                on(node, operands)
            };
            if !place.is_forward && !is_source(node) {
                // Where the backward pass has got to, for every segment before that.
                latest[..place.segment].iter_mut().for_each(|latest| *latest = Some(image.clone()));
            }
            images.insert(node.key(), image);
        }
        self.roots.iter().map(|root| images[&root.key()].clone()).collect()
    }
}

/// Values of the forward pass for a second time.
struct Again<'a> {
    places: &'a HashMap<*const Node, Place>,
    given_up: usize,
    /// What must be known before a segment is computed again; decided when it is first needed.
    waits: Vec<Option<Arc<Node>>>,
    images: HashMap<*const Node, Arc<Node>>,
}

impl Again<'_> {
    /// Whether a value is not kept: nothing of a later segment reads it, and its own is given up.
    fn is_given_up(&self, node: &Arc<Node>) -> bool {
        let place = self.places[&node.key()];
        !is_source(node) && place.segment < self.given_up && place.read == place.segment
    }

    /// What derivatives read instead of a value of the forward pass.
    fn value(&mut self, value: &Arc<Node>, latest: &[Option<Arc<Node>>]) -> Arc<Node> {
        if !self.is_given_up(base(value)) {
            return value.clone();
        }
        let segment = self.places[&base(value).key()].segment;
        let Some(wait) = self.waits[segment].clone().or_else(|| latest[segment].clone()) else {
            return value.clone();
        };
        self.waits[segment] = Some(wait.clone());
        // Operands before users, without recursion.
        let mut stack = vec![(value.clone(), false)];
        while let Some((node, operands_done)) = stack.pop() {
            if self.images.contains_key(&node.key()) {
                continue;
            }
            let is_inside = self.is_given_up(&node) && self.places[&node.key()].segment == segment;
            let image = match &node.op {
                Op::Constant(_) | Op::Iota { .. } => node.clone(),
                // A view of what is given up may be read later only by name.
                _ if is_inside || Arc::ptr_eq(&node, value) => {
                    if !operands_done {
                        stack.push((node.clone(), true));
                        stack.extend(node.operands.iter().map(|operand| (operand.clone(), false)));
                        continue;
                    }
                    on(
                        &node,
                        node.operands.iter().map(|operand| self.images[&operand.key()].clone()).collect(),
                    )
                }
                _ => Node::after(vec![node.clone(), wait.clone()], node.location),
            };
            self.images.insert(node.key(), image);
        }
        self.images[&value.key()].clone()
    }
}

/// The same on other operands, as a part of the derivative that they belong to.
fn on(node: &Arc<Node>, operands: Vec<Arc<Node>>) -> Arc<Node> {
    if operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b)) {
        return node.clone();
    }
    let Node { shape, dtype, location, .. } = **node;
    let (op, label) = (node.op.clone(), node.label.as_ref().map(Label::detached));
    let Origin { order, again, .. } = Origin::of(&operands);
    let origin = Origin { order: order.max(node.origin.order), again, rule: node.origin.rule.clone() };
    Arc::new(Node { op, operands, shape, dtype, location, label, origin })
}
