//! A part of a graph as one node that is differentiated as the part is: what its derivatives need of the inside is
//! computed again.
//!
//! The derivatives of such a node are such nodes again, so that nothing inside is kept at any order.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{
    AddressMap, AddressSet, DType, Error, Node, Op, Origin, RuleKind, Scalar, Shape, Tensor, Token,
    TracedRule, substitute, topological, topological_until,
};

use crate::forward::{Change, changes};
use crate::guard::Guarded;
use crate::reverse::{Extent, Found, Reached, Seed, arrivals};
use crate::stamp::brought;
use crate::tracer::input_name;

type Nodes = Vec<Arc<Node>>;

/// Where a part of a graph begins: nodes of it, and what stands for them outside.
pub(crate) struct Border<'a> {
    pub(crate) inside: &'a [Arc<Node>],
    pub(crate) operands: &'a [Arc<Node>],
    /// Nodes that are known to lie outside: nobody looks behind them.
    pub(crate) outside: AddressSet<Node>,
}

/// Images of `roots` as outputs of one node at a line; those that do not depend on the border stay what they are. `kept`:
/// values inside that are kept for derivatives.
///
/// What the part reads past its border becomes an operand, unless it is made of numbers alone, as a random mask is.
pub(crate) fn enclosed(
    name: &str,
    at: &'static Location<'static>,
    roots: &[Arc<Node>],
    border: &Border<'_>,
    kept: &[Arc<Node>],
) -> Nodes {
    let starts: AddressMap<(), usize> =
        border.inside.iter().enumerate().map(|(position, node)| (node.identity(), position)).collect();
    let stops =
        |node: &Arc<Node>| starts.contains_key(&node.identity()) || border.outside.contains(&node.key());
    let order = topological_until(roots, stops);
    let mut inner: AddressSet<Node> = AddressSet::default();
    let mut numbers: AddressSet<Node> = AddressSet::default();
    for node in &order {
        if border.outside.contains(&node.key()) {
            continue;
        }
        let is_start = starts.contains_key(&node.identity());
        if is_start || node.operands.iter().any(|operand| inner.contains(&operand.key())) {
            inner.insert(node.key());
        } else if is_made_of_numbers(node, |operand| numbers.contains(&operand.key())) {
            numbers.insert(node.key());
        }
    }
    let placeholder = |name: &str, node: &Node| made(Op::Placeholder(Token::new(name, 0)), vec![], node, at);
    let is_inner = |node: &&Arc<Node>| inner.contains(&node.key()) && !starts.contains_key(&node.identity());
    // Each root that is computed inside, once.
    let mut slots: AddressMap<Node, usize> = AddressMap::default();
    let mut outputs = Vec::new();
    for root in roots.iter().filter(|root| is_inner(root)) {
        slots.entry(root.key()).or_insert_with(|| {
            outputs.push(root.clone());
            outputs.len() - 1
        });
    }
    let results = outputs.len();
    outputs.extend(kept.iter().cloned());
    // What is read from outside becomes an operand, the border where it is used.
    let (mut parameters, mut operands, mut absorbed) = (Nodes::new(), Nodes::new(), Nodes::new());
    let mut images: HashMap<*const (), Arc<Node>> = HashMap::new();
    let mut seen: AddressSet<Node> = AddressSet::default();
    let mut read: Nodes = order.iter().filter(is_inner).flat_map(|node| node.operands.clone()).collect();
    // In the order of the program, whatever the stack does.
    read.reverse();
    let border_at =
        |node: &Arc<Node>| border.inside.iter().position(|start| start.identity() == node.identity());
    while let Some(node) = read.pop() {
        // One may differentiate with respect to a constant; the others are computed wherever they are needed.
        let is_fixed = matches!(
            node.op,
            Op::Iota { .. } | Op::Constant(Scalar::Int(_) | Scalar::Uint(_) | Scalar::Bool(_))
        );
        if is_inner(&&node) || is_fixed || images.contains_key(&node.identity()) || !seen.insert(node.key()) {
            continue;
        }
        let start = border_at(&node);
        if start.is_none() && numbers.contains(&node.key()) && !node.operands.is_empty() {
            read.extend(node.operands.iter().cloned());
            absorbed.extend(node.dtype.is_float().then_some(node));
            continue;
        }
        let operand = start.map_or(&node, |position| &border.operands[position]).clone();
        let parameter = placeholder(&input_name(operands.len(), &operand), &operand);
        images.insert(node.identity(), parameter.clone());
        parameters.push(parameter);
        operands.push(operand);
    }
    let function = TracedRule::function(name.to_owned(), parameters, substitute(&outputs, &images));
    let rule = TracedRule { kind: RuleKind::Checkpoint { results }, absorbed, ..function };
    let applied = if results > 0 { applied(rule, operands, at) } else { Vec::new() };
    let image = |root: &Arc<Node>| match slots.get(&root.key()) {
        Some(&slot) => applied[slot].clone(),
        None => border_at(root).map_or_else(|| root.clone(), |position| border.operands[position].clone()),
    };
    roots.iter().map(image).collect()
}

/// The outputs of a rule on operands: a tuple and its projections.
pub(crate) fn applied(rule: TracedRule, operands: Nodes, at: &'static Location<'static>) -> Nodes {
    let outputs: Vec<(Shape, DType)> = rule.outputs.iter().map(|o| (o.shape, o.dtype)).collect();
    let (shape, dtype) = outputs.first().copied().unwrap_or((Shape::SCALAR, DType::F32));
    let node = |op, operands: Nodes, shape, dtype| {
        let origin = Origin::of(&operands);
        Arc::new(Node { op, operands, shape, dtype, location: at, label: None, origin })
    };
    let tuple = node(Op::Rule(Arc::new(rule)), operands, shape, dtype);
    let project = |(slot, (shape, dtype))| node(Op::Project(slot), vec![tuple.clone()], shape, dtype);
    outputs.into_iter().enumerate().map(project).collect()
}

/// A node of the shape and type of another.
fn made(op: Op, operands: Nodes, like: &Node, at: &'static Location<'static>) -> Arc<Node> {
    let origin = Origin::of(&operands);
    Arc::new(Node { op, operands, shape: like.shape, dtype: like.dtype, location: at, label: None, origin })
}

/// Whether a node is computed from nothing but constants, coordinates and single integers, as random masks are: from no float that
/// somebody may differentiate with respect to.
fn is_made_of_numbers(node: &Node, is_known: impl Fn(&Arc<Node>) -> bool) -> bool {
    match node.op {
        Op::Constant(_) | Op::Iota { .. } => true,
        Op::Leaf(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => {
            node.shape.elements() == 1 && !node.dtype.is_float()
        }
        _ => !node.operands.is_empty() && node.operands.iter().all(is_known),
    }
}

/// What reaches the needed operands of an enclosure `node`: its graph is computed again, after the cotangents of its outputs are
/// known, and differentiated.
pub(crate) fn pull_enclosure(
    node: &Arc<Node>,
    rule: &TracedRule,
    results: usize,
    arrived: Vec<(Option<Guarded>, Reached)>,
    needed: &[bool],
) -> Result<Vec<Found>, Error> {
    let at = node.location;
    if !arrived.iter().any(|(cotangent, reached)| cotangent.is_some() || reached.any()) {
        return Ok(vec![Found::default(); node.operands.len()]);
    }
    let cotangents = || arrived.iter().filter_map(|(cotangent, _)| cotangent.as_ref());
    let later = cotangents().map(|given| given.value.node().cloned()).collect::<Result<Nodes, _>>()?;
    // A value without elements is known from the beginning.
    let later: Nodes = later.into_iter().filter(|node| node.shape.elements() > 0).collect();
    let late =
        |operand: &Arc<Node>| Node::after(std::iter::once(operand).chain(&later).cloned().collect(), at);
    let mut starts: Nodes = node.operands.iter().map(late).collect();
    let targets: Nodes =
        starts.iter().zip(needed).filter(|(_, needed)| **needed).map(|(s, _)| s.clone()).collect();
    let outputs = rule.instantiate(&starts);
    let outside = cotangents().flat_map(brought).collect();
    let seed = |(output, (cotangent, reached)): (&Arc<Node>, (Option<Guarded>, Reached))| Seed {
        node: output.clone(),
        cotangent,
        reached,
    };
    let seeds = outputs.iter().zip(arrived).map(seed).collect();
    let mut found = arrivals(seeds, &targets, Extent::Targets)?.into_iter();
    let mut found: Vec<Found> =
        needed.iter().map(|needed| needed.then(|| found.next()).flatten().unwrap_or_default()).collect();
    // Kept values come from where they were computed first.
    let first = |slot: usize| late(&made(Op::Project(slot), vec![node.clone()], &outputs[slot], at));
    let operands: Nodes = starts.iter().cloned().chain((results..outputs.len()).map(first)).collect();
    starts.extend_from_slice(&outputs[results..]);
    let border = Border { inside: &starts, operands: &operands, outside };
    let cotangents = found.iter_mut().flat_map(|found| found.cotangents.iter_mut());
    replace_parts(cotangents.collect(), |roots| {
        enclosed(&format!("gradient of {}", rule.name), at, &roots, &border, &[])
    })?;
    Ok(found)
}

/// The changes of those outputs of an enclosure that are asked for: those of its graph. What they need of the inside is not kept
/// either.
pub(crate) fn push_enclosure(
    node: &Arc<Node>,
    rule: &TracedRule,
    incoming: Vec<Change>,
    asked: &[usize],
) -> Result<Vec<Change>, Error> {
    let mut all: Vec<Change> = vec![(None, None); rule.outputs.len()];
    let tangents = || incoming.iter().filter_map(|(tangent, _)| tangent.as_ref());
    if incoming.iter().all(|(tangent, lost)| tangent.is_none() && lost.is_none()) {
        return Ok(all);
    }
    let outside = tangents().flat_map(brought).collect();
    let roots: Nodes = asked.iter().map(|&slot| rule.outputs[slot].clone()).collect();
    let mut pushed = changes(&roots, rule.parameters.iter().cloned().zip(incoming).collect())?;
    let border = Border { inside: &rule.parameters, operands: &node.operands, outside };
    replace_parts(pushed.iter_mut().filter_map(|(tangent, _)| tangent.as_mut()).collect(), |roots| {
        enclosed(&format!("tangent of {}", rule.name), node.location, &roots, &border, &[])
    })?;
    asked.iter().zip(pushed).for_each(|(&slot, change)| all[slot] = change);
    Ok(all)
}

/// Replaces values and conditions.
fn replace_parts(all: Vec<&mut Guarded>, images: impl FnOnce(Nodes) -> Nodes) -> Result<(), Error> {
    let parts = |guarded: &&mut Guarded| {
        let conditions = guarded.guard.iter().map(|literal| &literal.condition);
        std::iter::once(&guarded.value).chain(conditions).map(|t| t.node().cloned()).collect::<Vec<_>>()
    };
    let mut images = images(all.iter().flat_map(parts).collect::<Result<_, _>>()?).into_iter();
    for guarded in all {
        let conditions = guarded.guard.iter_mut().map(|literal| &mut literal.condition);
        for part in std::iter::once(&mut guarded.value).chain(conditions) {
            *part = images.next().map_or_else(|| part.clone(), Tensor::from_node);
        }
    }
    Ok(())
}

/// `roots` with every enclosure replaced by its graph.
pub(crate) fn opened(mut roots: Nodes) -> Nodes {
    let is_enclosure = |node: &Arc<Node>| match &node.op {
        Op::Rule(rule) => matches!(rule.kind, RuleKind::Checkpoint { .. }),
        _ => false,
    };
    loop {
        let order = topological(&roots);
        if !order.iter().any(is_enclosure) {
            return roots;
        }
        let mut images: AddressMap<Node, Arc<Node>> = AddressMap::default();
        let mut outputs: AddressMap<Node, Nodes> = AddressMap::default();
        for node in &order {
            let operands: Nodes = node.operands.iter().map(|o| images[&o.key()].clone()).collect();
            let is_same = operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b));
            let image = match (&node.op, &node.operands[..]) {
                (Op::Rule(rule), _) if is_enclosure(node) => {
                    outputs.insert(node.key(), rule.instantiate(&operands));
                    node.clone()
                }
                (Op::Project(slot), [tuple]) if outputs.contains_key(&tuple.key()) => {
                    outputs[&tuple.key()][*slot].clone()
                }
                _ if is_same => node.clone(),
                _ => node.with_operands(operands),
            };
            images.insert(node.key(), image);
        }
        roots = roots.iter().map(|root| images[&root.key()].clone()).collect();
    }
}
