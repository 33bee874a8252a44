//! Reverse mode: one iterative sweep from the outputs to the tensors asked for.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{
    AddressMap, AddressSet, Code, DType, Error, Node, Op, RuleKind, Tensor, TracedRule, placeholder_error,
    topological, topological_until,
};

use crate::check::{Mode, first_use};
use crate::enclosure::pull_enclosure;
use crate::gradient::{Gradient, State, Wrt};
use crate::guard::Guarded;
use crate::join::join;
use crate::looped::reaches;
use crate::pullback::{Flow, Missing, pull, pull_rule};
use crate::stamp::{brought, cast_at, labelled, masked_at, source_at, stamp};

/// Vector-Jacobian product `Σ vᵀ · ∂output/∂wrt` for pairs `(output, v)`.
///
/// Any float tensor may be an output and any may be asked for, as often as wanted: leaves, constants, intermediates,
/// the outputs themselves. The gradients are ordinary tensors, so they can be differentiated again.
///
/// Errors: the first error of an invalid tensor; `E_COTANGENT` for a cotangent whose shape or type is not that of its
/// output; `E_NOT_DIFFERENTIABLE` for an integer or truth value among outputs or `wrt`; `E_RULE_CAPTURE` if a tensor
/// of `wrt` enters a custom rule past its inputs; with debug assertions, `E_RULE_WRONG` and `E_RULE_LINEAR` for a custom rule that
/// is wrong (see [`unchecked`](crate::check::unchecked)).
///
/// ```
/// use cotangent_autograd::vjp;
/// use cotangent_tensor::Tensor;
/// let x = Tensor::new([1.0, 2.0, 3.0]);
/// let y = &x * &x;
/// let upstream = Tensor::new([1.0, 0.5, 0.25]);
/// let dx = vjp(&[(&y, &upstream)], &x)?;
/// assert_eq!(dx.value().unwrap().shape()[..], [3]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn vjp<W: Wrt>(outputs: &[(&Tensor, &Tensor)], wrt: W) -> Result<W::Of<Gradient>, Error> {
    let at = Location::caller();
    let mut seeds = Vec::new();
    for (position, (output, cotangent)) in outputs.iter().enumerate() {
        let (output, cotangent) = (output.node()?, cotangent.node()?);
        check_float("vjp", "output", position, output).map_err(|e| e.at(at))?;
        check_fit("vjp", ("cotangent", "output"), position, cotangent, output).map_err(|e| e.at(at))?;
        let seed = cast_at(&Tensor::from_node(cotangent.clone()), DType::F32, output);
        seeds.push((output.clone(), Guarded::plain(seed)));
    }
    gradients(seeds, &wrt, at)
}

/// Gradient of a scalar loss.
///
/// Errors: as [`vjp`], and `E_NOT_SCALAR` if the loss has not exactly one element.
///
/// ```
/// use cotangent_autograd::grad;
/// use cotangent_tensor::Tensor;
/// let (w, b) = (Tensor::new([0.5, -1.0]), Tensor::new(0.1));
/// let loss = (&w * &w).sum(..) + &b;
/// let [dw, db] = grad(&loss, [&w, &b])?;
/// assert!(dw.value().is_some() && db.value().is_some());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn grad<W: Wrt>(loss: &Tensor, wrt: W) -> Result<W::Of<Gradient>, Error> {
    let at = Location::caller();
    let node = loss.node()?;
    check_scalar("grad", node).map_err(|e| e.at(at))?;
    check_float("grad", "output", 0, node).map_err(|e| e.at(at))?;
    let seed = source_at(Guarded::number(node.shape, 1.0), node);
    gradients(vec![(node.clone(), seed)], &wrt, at)
}

pub(crate) fn check_scalar(operation: &str, node: &Node) -> Result<(), Error> {
    if node.shape.elements() == 1 {
        return Ok(());
    }
    let message = format!("the loss has shape {}, a gradient needs a scalar", node.shape);
    Err(Error::new(Code::NotScalar, operation, message).shape("shape", &node.shape).hint(
        "reduce it, for example with `.mean(..)`, or pass a cotangent of its shape: `vjp(&[(&loss, &cotangent)], wrt)`",
    ))
}

pub(crate) fn check_float(operation: &str, role: &str, position: usize, node: &Node) -> Result<(), Error> {
    if node.dtype.is_float() {
        return Ok(());
    }
    let message = format!("{role} {position} is {}, which has no derivative", node.dtype);
    Err(Error::new(Code::NotDifferentiable, operation, message).hint(
        "differentiate the float tensor before the cast, or write `.cast(DType::F32)` where it is made",
    ))
}

pub(crate) fn check_fit(
    operation: &str,
    (given, whole): (&str, &str),
    position: usize,
    tensor: &Node,
    fits: &Node,
) -> Result<(), Error> {
    let message = if tensor.shape != fits.shape {
        format!(
            "{given} for {whole} {position} has shape {} but the {whole} has {}",
            tensor.shape, fits.shape
        )
    } else if tensor.dtype != fits.dtype {
        format!("{given} for {whole} {position} is {} but the {whole} is {}", tensor.dtype, fits.dtype)
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Cotangent, operation, message)
        .shape("given", &tensor.shape)
        .shape("expected", &fits.shape)
        .hint(format!("pass a {given} of the shape and type of the {whole}; nothing is broadcast or summed")))
}

fn gradients<W: Wrt>(
    seeds: Vec<(Arc<Node>, Guarded)>,
    wrt: &W,
    at: &'static Location<'static>,
) -> Result<W::Of<Gradient>, Error> {
    let mut targets = Vec::new();
    for (position, tensor) in wrt.tensors().into_iter().enumerate() {
        let node = tensor.node()?;
        check_float("gradient", "wrt", position, node).map_err(|e| e.at(at))?;
        targets.push(node.clone());
    }
    let roots: Vec<Arc<Node>> = seeds.iter().map(|(node, _)| node.clone()).collect();
    check_whole(&roots, &targets).map_err(|e| if e.location().is_some() { e } else { e.at(at) })?;
    Ok(wrt.collect(sweep(seeds, &targets).map_err(|e| if e.location().is_some() { e } else { e.at(at) })?))
}

/// Refuses derivatives that would leave out a path: where a graph holds an argument of a function whose tracing is over, and where
/// parts of shared storage are asked for that is also used past them.
pub(crate) fn check_whole(roots: &[Arc<Node>], targets: &[Arc<Node>]) -> Result<(), Error> {
    let order = topological(roots);
    let over = |node: &&Arc<Node>| matches!(&node.op, Op::Placeholder(token) if token.is_over());
    if let Some(node) = order.iter().chain(&topological(targets)).find(over) {
        return Err(placeholder_error(node));
    }
    // Slices of shared storage that are asked for: the storage, the slice, its first element and the one after its last.
    let part = |target: &Arc<Node>| {
        let mut slice = target;
        while let Op::Reshape = slice.op {
            slice = &slice.operands[0];
        }
        let (storage, first, end) = range(slice)?;
        Some((storage.identity(), slice.clone(), first, end, target.clone()))
    };
    let parts: Vec<_> = targets.iter().filter_map(part).collect();
    if parts.is_empty() {
        return Ok(());
    }
    for user in &order {
        for storage in user.operands.iter().filter(|operand| is_shared(operand)) {
            let (from, to) = match range(user) {
                Some((_, first, end)) => (first, end),
                None => (0, storage.shape.elements()),
            };
            let past = parts.iter().find(|(of, slice, first, end, _)| {
                *of == storage.identity() && !Arc::ptr_eq(slice, user) && from < *end && *first < to
            });
            if let Some((.., target)) = past {
                let message = format!(
                    "`{}` is a part of storage that the outputs also use past it, in `{}`: its gradient would be partial",
                    target.called(),
                    user.called()
                );
                return Err(Error::new(Code::Partial, "gradient", message).at(user.location));
            }
        }
    }
    Ok(())
}

fn is_shared(node: &Node) -> bool {
    matches!(&node.op, Op::Variable(token) if token.is_shared)
}

/// The elements of shared storage that a node is a slice of: the storage, the first, and the one after the last.
fn range(node: &Node) -> Option<(&Arc<Node>, usize, usize)> {
    let (Op::Slice { starts, steps }, [storage]) = (&node.op, &node.operands[..]) else { return None };
    let contiguous = is_shared(storage) && steps[..] == [1];
    contiguous.then(|| (storage, starts[0], starts[0] + node.shape.elements()))
}

/// What arrived at a node besides values.
#[derive(Clone, Default)]
pub(crate) struct Reached {
    zero: bool,
    /// Through a truth value or integer whose origin is not known yet.
    discrete: bool,
    stopped: Option<Arc<str>>,
    not_differentiable: Option<Arc<str>>,
    missing: Option<Missing>,
}

impl Reached {
    fn absorb(&mut self, other: &Reached) {
        self.zero |= other.zero;
        self.discrete |= other.discrete;
        self.stopped = self.stopped.take().or_else(|| other.stopped.clone());
        self.not_differentiable = self.not_differentiable.take().or_else(|| other.not_differentiable.clone());
        self.missing = self.missing.take().or_else(|| other.missing.clone());
    }
    pub(crate) fn any(&self) -> bool {
        self.zero
            || self.discrete
            || self.stopped.is_some()
            || self.not_differentiable.is_some()
            || self.missing.is_some()
    }
    /// The one thing that counts, where no value arrived.
    fn flow(self) -> Option<Flow> {
        Some(match self {
            Reached { missing: Some(missing), .. } => Flow::Missing(missing),
            Reached { stopped: Some(by), .. } => Flow::Stopped(by),
            Reached { not_differentiable: Some(by), .. } => Flow::Undefined(by),
            Reached { zero: true, .. } => Flow::Zero,
            Reached { discrete: true, .. } => Flow::Discrete,
            _ => return None,
        })
    }
    /// What an operand inherits. A path that leaves the floats is named by the node at which it does: a comparison
    /// is piecewise constant, an integer has no derivative.
    fn below(&self, node: &Node, operand: &Node) -> Reached {
        let mut below = self.clone();
        if matches!(node.op, Op::Detach) && below.not_differentiable.take().is_some() {
            // what has no derivative has been cut off, as its error advises
            below.stopped.get_or_insert_with(|| "detach".into());
        }
        // The tuple of a rule has no type of its own: its projections have.
        if self.discrete && operand.dtype.is_float() && !matches!(operand.op, Op::Rule(_)) {
            below.discrete = false;
            if node.dtype == DType::Bool && !matches!(node.op, Op::Rule(_)) {
                below.zero = true;
            } else {
                below.not_differentiable = Some(node.name().into());
            }
        }
        below
    }
}

/// Cotangents of `targets` for the given cotangents of outputs.
pub(crate) fn sweep(seeds: Vec<(Arc<Node>, Guarded)>, targets: &[Arc<Node>]) -> Result<Vec<Gradient>, Error> {
    let seed = |(node, cotangent)| Seed { node, cotangent: Some(cotangent), reached: Reached::default() };
    let found = arrivals(seeds.into_iter().map(seed).collect(), targets, Extent::Whole)?;
    found.into_iter().zip(targets).map(|(found, target)| outcome(target, found)).collect()
}

/// What a sweep starts with.
pub(crate) struct Seed {
    pub(crate) node: Arc<Node>,
    pub(crate) cotangent: Option<Guarded>,
    pub(crate) reached: Reached,
}

/// How far a sweep goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Through the whole graph: what is asked for may depend on more of it.
    Whole,
    /// To the targets, which nothing has seen yet: no rule can hold one, and nothing behind one matters.
    Targets,
}

/// What arrives at each of `targets`.
pub(crate) fn arrivals(seeds: Vec<Seed>, targets: &[Arc<Node>], extent: Extent) -> Result<Vec<Found>, Error> {
    let wanted: AddressSet<()> = targets.iter().map(Node::identity).collect();
    let is_end = |node: &Arc<Node>| extent == Extent::Targets && wanted.contains(&node.identity());
    let order = topological_until(seeds.iter().map(|seed| &seed.node), is_end);
    let index: AddressMap<Node, usize> = order.iter().enumerate().map(|(i, n)| (n.key(), i)).collect();
    let captured = match extent {
        Extent::Whole => captures(&order, &wanted),
        Extent::Targets => BTreeMap::new(),
    };
    let mut needed = vec![false; order.len()];
    for (i, node) in order.iter().enumerate() {
        needed[i] = wanted.contains(&node.identity())
            || captured.contains_key(&i)
            || !is_end(node) && node.sources().iter().any(|o| needed[index[&o.key()]]);
    }
    let mut inbox: Vec<Vec<(usize, Guarded)>> = vec![Vec::new(); order.len()];
    let mut reached = vec![Reached::default(); order.len()];
    // What arrived at each output of an enclosure, which has a body to go through.
    let mut at_outputs: BTreeMap<(usize, usize), Reached> = BTreeMap::new();
    for Seed { node, cotangent, reached: given } in seeds {
        let i = index[&node.key()];
        inbox[i].extend(cotangent.map(|cotangent| (0, cotangent)));
        reached[i].absorb(&given);
    }
    let mut found: AddressMap<(), Found> = AddressMap::default();
    for (i, node) in order.iter().enumerate().rev().filter(|&(i, _)| needed[i]) {
        let mail = std::mem::take(&mut inbox[i]);
        let reached_here = std::mem::take(&mut reached[i]);
        let mut flows = Vec::new();
        let mut values = Vec::new();
        let is_wanted = wanted.contains(&node.identity());
        let results = results_of(node);
        if is_end(node) {
            // Not added up, so that they are added in the order of the plain graph.
            values.extend(mail.into_iter().map(|(_, contribution)| contribution));
        } else if let (Op::Rule(rule), true) = (&node.op, results.is_some() || !mail.is_empty()) {
            if let Some((name, node)) = captured.get(&i) {
                return Err(captured_error(name, node));
            }
            let mut slots: Vec<Vec<Guarded>> = vec![Vec::new(); rule.outputs.len()];
            mail.into_iter().for_each(|(slot, contribution)| slots[slot].push(contribution));
            let cotangents = slots.into_iter().map(join);
            if let Some(results) = results {
                let mut reached_at = |slot| at_outputs.remove(&(i, slot)).unwrap_or_default();
                let arrived = cotangents.enumerate().map(|(slot, c)| (c, reached_at(slot))).collect();
                let below: Vec<bool> = node.operands.iter().map(|o| needed[index[&o.key()]]).collect();
                let inside = pull_enclosure(node, rule, results, arrived, &below)?;
                for (operand, found) in node.operands.iter().zip(inside) {
                    let below = index[&operand.key()];
                    reached[below].absorb(&found.reached);
                    inbox[below].extend(found.cotangents.into_iter().map(|contribution| (0, contribution)));
                }
            } else {
                let wanted = |operand: usize| needed[index[&node.operands[operand].key()]];
                first_use(node, rule, wanted, Mode::Reverse)?;
                flows = pull_rule(node, rule, cotangents.collect()).into_iter().map(Some).collect();
            }
        } else if !mail.is_empty() {
            let cotangent = received(node, mail.into_iter().map(|(_, c)| c).collect());
            if let Some(cotangent) = cotangent {
                let below: Vec<bool> = node.sources().iter().map(|o| needed[index[&o.key()]]).collect();
                if below.contains(&true) {
                    flows = pulled(node, &cotangent, &below)?.into_iter().map(Some).collect();
                }
                values.extend(is_wanted.then_some(cotangent));
            }
        }
        if is_wanted {
            let found = found.entry(node.identity()).or_default();
            found.cotangents.extend(values);
            found.reached.absorb(&reached_here);
        }
        if is_end(node) {
            continue;
        }
        let mut flows = flows.into_iter();
        let looped = match &node.op {
            Op::While(looped, output) if reached_here.any() => Some(reaches(looped, *output)),
            _ => None,
        };
        for (position, operand) in node.sources().iter().enumerate() {
            let (below, flow) = (index[&operand.key()], flows.next().flatten());
            if !needed[below] {
                continue;
            }
            let slot = if let Op::Project(slot) = node.op { slot } else { 0 };
            let there = match results_of(operand) {
                Some(_) => at_outputs.entry((below, slot)).or_default(),
                None => &mut reached[below],
            };
            // What a loop carries need not depend on all that goes in.
            if reached_here.any() && looped.as_ref().is_none_or(|reaches| reaches[position]) {
                there.absorb(&reached_here.below(node, operand));
            }
            match flow {
                None => {}
                Some(Flow::Value(_)) if !matches!(operand.op, Op::Rule(_)) && !operand.dtype.is_float() => {
                    there.discrete = true;
                }
                Some(Flow::Value(contribution)) => inbox[below].push((slot, contribution)),
                Some(Flow::Zero) => there.zero = true,
                Some(Flow::Discrete) if operand.dtype.is_float() => {
                    there.not_differentiable.get_or_insert_with(|| node.name().into());
                }
                Some(Flow::Discrete) => there.discrete = true,
                Some(Flow::Undefined(by)) => {
                    there.not_differentiable.get_or_insert(by);
                }
                Some(Flow::Stopped(by)) => {
                    there.stopped.get_or_insert(by);
                }
                Some(Flow::Missing(missing)) => {
                    there.missing.get_or_insert(missing);
                }
            }
        }
    }
    // Nothing else holds what is found, so that it can still be given a name.
    let mut left: AddressMap<(), usize> = AddressMap::default();
    targets.iter().for_each(|target| *left.entry(target.identity()).or_default() += 1);
    let of = |target: &Arc<Node>| {
        let count = left.entry(target.identity()).or_default();
        *count -= 1;
        match *count {
            0 => found.remove(&target.identity()),
            _ => found.get(&target.identity()).cloned(),
        }
    };
    Ok(targets.iter().map(of).map(Option::unwrap_or_default).collect())
}

/// What was found for a target, under all names of it.
#[derive(Clone, Default)]
pub(crate) struct Found {
    pub(crate) cotangents: Vec<Guarded>,
    reached: Reached,
}

impl Found {
    /// What of it flows to an operand; nothing where there is no path.
    pub(crate) fn flow(self, operand: &Arc<Node>) -> Option<Flow> {
        let Found { cotangents, reached } = self;
        match received(operand, cotangents) {
            Some(cotangent) => Some(Flow::Value(cotangent)),
            None => reached.flow(),
        }
    }
}

/// The cotangent of `node`: the sum of what its users sent.
fn received(node: &Arc<Node>, contributions: Vec<Guarded>) -> Option<Guarded> {
    if contributions.len() < 2 {
        let mut only = contributions.into_iter().next()?;
        only.value = labelled(only.value, node);
        return Some(only);
    }
    let known: Vec<_> = contributions.iter().flat_map(brought).collect();
    let mut sum = join(contributions)?;
    stamp(&mut [&mut sum], known, node);
    sum.value = labelled(sum.value, node);
    Some(sum)
}

/// What a user gets: in the element type of the primal, under its name.
fn finished(node: &Arc<Node>, cotangent: &Tensor) -> Result<Tensor, Error> {
    let gradient = cast_at(cotangent, node.dtype, node);
    gradient.node()?;
    Ok(labelled(gradient, node))
}

/// [`pull`], with new nodes for the needed operands at the line of the primal. Error: of the first invalid cotangent.
fn pulled(node: &Arc<Node>, cotangent: &Guarded, needed: &[bool]) -> Result<Vec<Flow>, Error> {
    let mut flows = pull(node, cotangent, |operand| needed[operand]);
    let known = node.operands.iter().map(Node::key).chain([node.key()]).chain(brought(cotangent));
    let mut made: Vec<&mut Guarded> = flows
        .iter_mut()
        .zip(needed)
        .filter(|(_, needed)| **needed)
        .filter_map(|(flow, _)| match flow {
            Flow::Value(contribution) => Some(contribution),
            Flow::Zero | Flow::Stopped(_) | Flow::Discrete | Flow::Undefined(_) | Flow::Missing(_) => None,
        })
        .collect();
    made.iter().try_for_each(|contribution| contribution.check()).map_err(|e| e.at(node.location))?;
    stamp(&mut made, known, node);
    Ok(flows)
}

fn outcome(target: &Arc<Node>, found: Found) -> Result<Gradient, Error> {
    let new = |state| Gradient::new(state, target);
    let Found { cotangents, reached } = found;
    if let Some(Missing { op, error }) = &reached.missing {
        return Ok(Gradient::missing(op, error.clone(), target));
    }
    if let Some(cotangent) = received(target, cotangents) {
        let single = masked_at(&cotangent, target);
        drop(cotangent);
        let value = finished(target, &single)?;
        // The gradient before it is rounded to the type of the target goes with it.
        return Ok(new(State::Value(value)).with_single(Some(single), reached.any()));
    }
    Ok(new(match reached {
        Reached { stopped: Some(by), .. } => State::Stopped { by: by.to_string() },
        Reached { not_differentiable: Some(op), .. } => State::NotDifferentiable { op: op.to_string() },
        Reached { zero: true, .. } => State::Zero,
        _ => State::Unconnected,
    }))
}

/// A rule, by name, and what it has captured.
pub(crate) type Capture = (String, Arc<Node>);

/// Rules in `order` (by position) whose bodies use one of `wanted` other than through their inputs.
pub(crate) fn captures(order: &[Arc<Node>], wanted: &AddressSet<()>) -> BTreeMap<usize, Capture> {
    let mut found = BTreeMap::new();
    for (position, node) in order.iter().enumerate() {
        if let Op::Rule(rule) = &node.op
            && let Some(captured) = captured_by(rule, &node.operands, wanted)
        {
            found.insert(position, captured);
        }
    }
    found
}

fn captured_by(rule: &TracedRule, operands: &[Arc<Node>], wanted: &AddressSet<()>) -> Option<Capture> {
    // An enclosure reaches its operands through its parameters only: what else it holds of them is captured further inside.
    let mut seen: AddressSet<()> = match rule.kind {
        RuleKind::Checkpoint { .. } => AddressSet::default(),
        _ => operands.iter().map(Node::identity).collect(),
    };
    let mut names = vec![rule.name.clone()];
    let held = |rule: &TracedRule, by: usize| {
        let nodes = rule.outputs.iter().chain(&rule.absorbed);
        nodes.map(|node| (by, node.clone())).collect::<Vec<_>>()
    };
    let mut stack = held(rule, 0);
    while let Some((by, node)) = stack.pop() {
        if !seen.insert(node.identity()) {
            continue;
        }
        if wanted.contains(&node.identity()) {
            return Some((names.swap_remove(by), node));
        }
        if let Op::Rule(inner) = &node.op {
            names.push(inner.name.clone());
            stack.extend(held(inner, names.len() - 1));
        }
        stack.extend(node.operands.iter().map(|operand| (by, operand.clone())));
    }
    None
}

/// How many outputs the function has that an enclosure stands for; none for other nodes.
pub(crate) fn results_of(node: &Node) -> Option<usize> {
    match &node.op {
        Op::Rule(rule) => match rule.kind {
            RuleKind::Checkpoint { results } => Some(results),
            RuleKind::Exact | RuleKind::Surrogate(_) | RuleKind::FirstOrderOnly => None,
        },
        _ => None,
    }
}

pub(crate) fn captured_error(rule: &str, node: &Node) -> Error {
    let name = node.called();
    Error::new(
        Code::RuleCapture,
        format!("custom gradient {rule:?}"),
        format!(
            "`{name}` {} is used in its body but is none of its inputs, so its gradient would be lost",
            node.shape
        ),
    )
    .with("captured", cotangent_tensor::Detail::Text(name.to_string()))
    .at(node.location)
    .hint("pass it as an input of the rule, or `detach` it where it is used")
}
