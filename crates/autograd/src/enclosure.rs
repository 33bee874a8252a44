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

use crate::forward::tangents_of;
use crate::guard::Guarded;
use crate::pushforward::Tangent;
use crate::reverse::{Found, arrivals};
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
    let starts: AddressSet<()> = border.inside.iter().map(Node::identity).collect();
    let stops = |node: &Arc<Node>| starts.contains(&node.identity()) || border.outside.contains(&node.key());
    let order = topological_until(roots, stops);
    let mut inner: AddressSet<Node> = AddressSet::default();
    let mut numbers: AddressSet<Node> = AddressSet::default();
    for node in &order {
        if border.outside.contains(&node.key()) {
            continue;
        }
        let is_start = starts.contains(&node.identity());
        if is_start || node.operands.iter().any(|operand| inner.contains(&operand.key())) {
            inner.insert(node.key());
        } else if is_made_of_numbers(node, |operand| numbers.contains(&operand.key())) {
            numbers.insert(node.key());
        }
    }
    let placeholder = |name: &str, node: &Node| made(Op::Placeholder(Token::new(name, 0)), vec![], node, at);
    let mut operands = border.operands.to_vec();
    let mut parameters: Nodes = Vec::new();
    let mut images: HashMap<*const (), Arc<Node>> = HashMap::new();
    for (position, (inside, operand)) in border.inside.iter().zip(border.operands).enumerate() {
        parameters.push(placeholder(&input_name(position, operand), operand));
        images.insert(inside.identity(), parameters[position].clone());
    }
    let is_inner = |node: &&Arc<Node>| inner.contains(&node.key()) && !starts.contains(&node.identity());
    let mut stack: Nodes = order.iter().filter(is_inner).flat_map(|node| node.operands.clone()).collect();
    let mut seen: AddressSet<Node> = AddressSet::default();
    while let Some(node) = stack.pop() {
        let is_known = inner.contains(&node.key()) || images.contains_key(&node.identity());
        // One may differentiate with respect to a constant; the others are computed wherever they are needed.
        let is_fixed = matches!(
            node.op,
            Op::Iota { .. } | Op::Constant(Scalar::Int(_) | Scalar::Uint(_) | Scalar::Bool(_))
        );
        if is_known || is_fixed || !seen.insert(node.key()) {
            continue;
        }
        if numbers.contains(&node.key()) && !node.operands.is_empty() {
            stack.extend(node.operands.iter().cloned());
        } else {
            let parameter = placeholder(&input_name(operands.len(), &node), &node);
            images.insert(node.identity(), parameter.clone());
            parameters.push(parameter);
            operands.push(node);
        }
    }
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
    let rule = TracedRule {
        kind: RuleKind::Checkpoint { results },
        ..TracedRule::function(name.to_owned(), parameters, substitute(&outputs, &images))
    };
    let start = |root: &Arc<Node>| {
        let position = border.inside.iter().position(|node| node.identity() == root.identity())?;
        Some(border.operands[position].clone())
    };
    let applied = if results > 0 { applied(rule, operands, at) } else { Vec::new() };
    let image = |root: &Arc<Node>| match slots.get(&root.key()) {
        Some(&slot) => applied[slot].clone(),
        None => start(root).unwrap_or_else(|| root.clone()),
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

/// Whether a node is computed from nothing but constants, coordinates and single numbers.
fn is_made_of_numbers(node: &Node, is_known: impl Fn(&Arc<Node>) -> bool) -> bool {
    match node.op {
        Op::Constant(_) | Op::Iota { .. } => true,
        Op::Leaf(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => node.shape.elements() == 1,
        _ => !node.operands.is_empty() && node.operands.iter().all(is_known),
    }
}

/// What reaches the operands of an enclosure `node`: its graph is computed again, after the cotangents of its outputs are known,
/// and differentiated.
pub(crate) fn pull_enclosure(
    node: &Arc<Node>,
    rule: &TracedRule,
    results: usize,
    cotangents: Vec<Option<Guarded>>,
) -> Result<Vec<Found>, Error> {
    let at = node.location;
    let given = cotangents.iter().flatten();
    let later = given.map(|given| given.value.node().cloned()).collect::<Result<Nodes, _>>()?;
    let late =
        |operand: &Arc<Node>| Node::after(std::iter::once(operand).chain(&later).cloned().collect(), at);
    let mut starts: Nodes = node.operands.iter().map(late).collect();
    let outputs = rule.instantiate(&starts);
    let outside = cotangents.iter().flatten().flat_map(brought).collect();
    let seeds = outputs.iter().zip(cotangents);
    let seeds = seeds.filter_map(|(output, cotangent)| Some((output.clone(), cotangent?))).collect();
    let mut found = arrivals(seeds, &starts)?;
    // Kept values come from where they were computed first.
    let first = |slot: usize| late(&made(Op::Project(slot), vec![node.clone()], &outputs[slot], at));
    let operands: Nodes = starts.iter().cloned().chain((results..outputs.len()).map(first)).collect();
    starts.extend_from_slice(&outputs[results..]);
    let border = Border { inside: &starts, operands: &operands, outside };
    let arrived = found.iter_mut().flat_map(|found| found.cotangents.iter_mut());
    replace_parts(arrived.collect(), |roots| {
        enclosed(&format!("gradient of {}", rule.name), at, &roots, &border, &[])
    })?;
    Ok(found)
}

/// The tangents of the outputs of an enclosure: those of its graph. What they need of the inside is not kept either.
pub(crate) fn push_enclosure(
    node: &Arc<Node>,
    rule: &TracedRule,
    tangents: &[&Tangent],
) -> Result<Vec<Tangent>, Error> {
    let moves =
        |(parameter, tangent): (&Arc<Node>, &&Tangent)| Some((parameter.clone(), (*tangent).clone()?));
    let moved = rule.parameters.iter().zip(tangents).filter_map(moves);
    let mut pushed = tangents_of(&rule.outputs, moved.collect())?;
    let outside = tangents.iter().filter_map(|tangent| tangent.as_ref()).flat_map(brought).collect();
    let border = Border { inside: &rule.parameters, operands: &node.operands, outside };
    replace_parts(pushed.iter_mut().flatten().collect(), |roots| {
        enclosed(&format!("tangent of {}", rule.name), node.location, &roots, &border, &[])
    })?;
    Ok(pushed)
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
