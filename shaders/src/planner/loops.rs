//! Loops of a graph that are run together or in part: a loop and its derivative take the same rounds, and a value that nobody wants need not
//! be carried.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cotangent_tensor::{Error, Node, Op, Shape, Tensor, WhileLoop, topological};

use super::graph::key;
use super::recurrence::Loops;

/// What the nodes of one run have in common: the loop and what it starts from.
type Run = (*const WhileLoop, Vec<*const Node>);

/// A loop that carries less: which values of the whole one, and which operands it starts from.
type Narrow = (Arc<WhileLoop>, Vec<usize>, Vec<usize>);

/// The graph with as few runs of loops as can be, which carry no more than is wanted. The graph itself where it has no loops.
pub(super) fn joined(roots: Vec<Arc<Node>>) -> Result<Vec<Arc<Node>>, Error> {
    if !topological(&roots).iter().any(|node| matches!(node.op, Op::While(..))) {
        return Ok(roots);
    }
    Ok(pruned(&with_derivatives(&merged(&roots)?)))
}

/// The run of a node of a loop.
fn run_of(node: &Node) -> Option<Run> {
    let Op::While(looped, _) = &node.op else { return None };
    Some((Arc::as_ptr(looped), node.operands.iter().map(Node::key).collect()))
}

/// The graph made anew; `change` may give another image of a node on its new operands.
fn rebuilt(
    roots: &[Arc<Node>],
    mut change: impl FnMut(&Arc<Node>, &HashMap<*const Node, Arc<Node>>) -> Result<Option<Arc<Node>>, Error>,
) -> Result<Vec<Arc<Node>>, Error> {
    let mut image: HashMap<*const Node, Arc<Node>> = HashMap::new();
    for node in topological(roots) {
        let new = match change(&node, &image)? {
            Some(new) => new,
            None => {
                let operands: Vec<_> = node.operands.iter().map(|o| image[&o.key()].clone()).collect();
                let same = operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b));
                if same { node.clone() } else { node.with_operands(operands) }
            }
        };
        image.insert(node.key(), new);
    }
    Ok(roots.iter().map(|root| image[&root.key()].clone()).collect())
}

/// Equal nodes become one, and equal loops.
fn merged(roots: &[Arc<Node>]) -> Result<Vec<Arc<Node>>, Error> {
    let mut loops = Loops::default();
    let mut known: HashMap<(Vec<u64>, Shape, u8), Arc<Node>> = HashMap::new();
    let mut numbers: HashMap<*const Node, usize> = HashMap::new();
    rebuilt(roots, |node, image| {
        let operands: Vec<_> = node.operands.iter().map(|o| image[&o.key()].clone()).collect();
        let op = match &node.op {
            Op::While(looped, output) => Some(Op::While(loops.canonical(looped)?, *output)),
            _ => None,
        };
        let same = operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b));
        let mut new = if same && op.is_none() { node.clone() } else { node.with_operands(operands.clone()) };
        if let (Some(op), Some(own)) = (op, Arc::get_mut(&mut new)) {
            own.op = op;
        }
        let of = operands.iter().map(|operand| numbers[&operand.key()]).collect::<Vec<_>>();
        let next = known.len();
        let found = known.entry(key(&new, &of)).or_insert(new).clone();
        numbers.entry(found.key()).or_insert(next);
        Ok(Some(found))
    })
}

/// A loop whose derivative is run too comes out of that run.
fn with_derivatives(roots: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let order = topological(roots);
    let mut runs: Vec<&Arc<Node>> = Vec::new();
    let mut seen = HashSet::new();
    for node in &order {
        if run_of(node).is_some_and(|run| seen.insert(run)) {
            runs.push(node);
        }
    }
    let wider = |node: &Node| -> Option<Arc<Node>> {
        let candidates = runs.iter().filter(|other| continues(node, other));
        candidates.max_by_key(|other| other.operands.len()).map(|&other| other.clone())
    };
    let change = |node: &Arc<Node>, image: &HashMap<*const Node, Arc<Node>>| {
        let (Op::While(_, output), Some(other)) = (&node.op, wider(node)) else { return Ok(None) };
        let Op::While(looped, _) = &other.op else { return Ok(None) };
        // What the other run starts from beside this one's operands are numbers, which stand by themselves.
        let at = |operand: &Arc<Node>| image.get(&operand.key()).unwrap_or(operand).clone();
        let mut new = node.with_operands(other.operands.iter().map(at).collect());
        if let Some(own) = Arc::get_mut(&mut new) {
            own.op = Op::While(looped.clone(), *output);
        }
        Ok(Some(new))
    };
    rebuilt(roots, change).unwrap_or_else(|_| roots.to_vec())
}

/// Whether another run carries all that this one does, from the same start, and only numbers besides.
fn continues(node: &Node, other: &Node) -> bool {
    let (Op::While(a, _), Op::While(b, _)) = (&node.op, &other.op) else { return false };
    let (carried, captured) = (a.carried.len(), a.captured.len());
    if b.carried.len() <= carried || b.captured.len() < captured || a.rounds != b.rounds {
        return false;
    }
    let same = |a: &[Arc<Node>], b: &[Arc<Node>]| a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b));
    let starts = &other.operands[..carried];
    let kept = &other.operands[b.carried.len()..][..captured];
    let more =
        other.operands[carried..b.carried.len()].iter().chain(&other.operands[b.carried.len() + captured..]);
    Arc::ptr_eq(&a.condition, &b.condition)
        && same(&a.carried, &b.carried)
        && same(&a.captured, &b.captured)
        && same(&a.next, &b.next)
        && same(&node.operands[..carried], starts)
        && same(&node.operands[carried..], kept)
        && more.into_iter().all(is_number)
}

fn is_number(node: &Arc<Node>) -> bool {
    match &node.op {
        Op::Constant(_) => true,
        Op::Broadcast | Op::Reshape => is_number(&node.operands[0]),
        _ => false,
    }
}

/// Runs carry what is wanted of them, and what that needs.
fn pruned(roots: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let mut wanted: HashMap<Run, BTreeSet<usize>> = HashMap::new();
    for node in topological(roots) {
        if let (Some(run), Op::While(_, output)) = (run_of(&node), &node.op) {
            wanted.entry(run).or_default().insert(*output);
        }
    }
    let mut narrow: HashMap<Run, Option<Narrow>> = HashMap::new();
    let change = |node: &Arc<Node>, image: &HashMap<*const Node, Arc<Node>>| {
        let (Some(run), Op::While(looped, output)) = (run_of(node), &node.op) else { return Ok(None) };
        let made = narrow.entry(run.clone()).or_insert_with(|| without(looped, &wanted[&run]));
        let Some((looped, carried, operands)) = made else { return Ok(None) };
        let operands = operands.iter().map(|&o| image[&node.operands[o].key()].clone()).collect();
        let mut new = node.with_operands(operands);
        if let (Some(own), Some(output)) = (Arc::get_mut(&mut new), carried.iter().position(|c| c == output))
        {
            own.op = Op::While(looped.clone(), output);
        }
        Ok(Some(new))
    };
    rebuilt(roots, change).unwrap_or_else(|_| roots.to_vec())
}

/// A loop that carries only what these outputs need. None where that is all.
fn without(looped: &WhileLoop, wanted: &BTreeSet<usize>) -> Option<Narrow> {
    let reads =
        |root: &Arc<Node>| -> HashSet<*const ()> { topological([root]).iter().map(Node::identity).collect() };
    let mut read = reads(&looped.condition);
    let (mut carried, mut pending) = (BTreeSet::new(), wanted.clone());
    while !pending.is_empty() {
        for value in std::mem::take(&mut pending) {
            if carried.insert(value) {
                read.extend(reads(&looped.next[value]));
            }
        }
        let is_read = |value: &usize| read.contains(&looped.carried[*value].identity());
        pending.extend((0..looped.carried.len()).filter(|value| !carried.contains(value)).filter(is_read));
    }
    let count = looped.carried.len();
    let captured: Vec<usize> =
        (0..looped.captured.len()).filter(|&c| read.contains(&looped.captured[c].identity())).collect();
    if carried.len() == count && captured.len() == looped.captured.len() {
        return None;
    }
    let carried: Vec<usize> = carried.into_iter().collect();
    let tensors = |nodes: &[Arc<Node>], which: &[usize]| -> Vec<Tensor> {
        which.iter().map(|&w| Tensor::from_node(nodes[w].clone())).collect()
    };
    let (state, kept) = (tensors(&looped.carried, &carried), tensors(&looped.captured, &captured));
    let (condition, next) = (Tensor::from_node(looped.condition.clone()), tensors(&looped.next, &carried));
    let narrow = WhileLoop::new(&looped.name, looped.rounds, (&state, &kept), &condition, &next).ok()?;
    let operands = carried.iter().copied().chain(captured.iter().map(|c| count + c)).collect();
    Some((narrow, carried, operands))
}
