//! Rules replaced by their graphs, and the values that a user has marked on the way.

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::Arc;

use crate::{Array, Error, Node, Op, Tensor, topological};

/// A graph without rules and marks.
#[derive(Debug)]
pub struct Expansion {
    /// The images of the roots.
    pub roots: Vec<Arc<Node>>,
    /// What [`Tensor::inspect`] has marked, operands before users.
    pub marks: Vec<Mark>,
}

/// A value that [`Tensor::inspect`] has marked: label and line of the mark, and what it marks.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The user's name for it. Several marks may share one.
    pub label: Arc<str>,
    /// Where the mark was set.
    pub location: &'static Location<'static>,
    /// The value.
    pub tensor: Tensor,
}

/// A marked value, evaluated.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The user's name for it. Several values may share one.
    pub label: Arc<str>,
    /// Where the mark was set.
    pub location: &'static Location<'static>,
    /// The value.
    pub value: Array,
}

impl Mark {
    /// With its value.
    pub fn inspected(&self, value: Array) -> Inspected {
        Inspected { label: self.label.clone(), location: self.location, value }
    }
}

/// What [`Tensor::inspect`] has marked in the graphs of `tensors`, inside of rules too, in an order in which it can be
/// computed. Error: that of the first invalid tensor.
pub fn marks(tensors: &[&Tensor]) -> Result<Vec<Mark>, Error> {
    let roots = tensors.iter().map(|tensor| tensor.node().cloned()).collect::<Result<_, _>>()?;
    Ok(expand(roots).marks)
}

/// Replaces every projection of a rule by the rule's own graph, however deeply nested, and removes cuts and marks.
pub fn expand(mut roots: Vec<Arc<Node>>) -> Expansion {
    loop {
        let order = topological(&roots);
        if !order.iter().any(|node| matches!(node.op, Op::Project(_))) {
            return without_marks(&roots, &order);
        }
        let mut image: HashMap<*const Node, Arc<Node>> = HashMap::new();
        let mut outputs: HashMap<*const Node, Vec<Arc<Node>>> = HashMap::new();
        for node in &order {
            let operands = operands(node, &image);
            let new = match &node.op {
                Op::Rule(rule) => {
                    outputs.insert(node.key(), rule.instantiate(&operands));
                    node.clone()
                }
                Op::Project(index) => outputs[&node.operands[0].key()][*index].clone(),
                _ => on(node, operands),
            };
            image.insert(node.key(), new);
        }
        roots = roots.iter().map(|root| image[&root.key()].clone()).collect();
    }
}

fn without_marks(roots: &[Arc<Node>], order: &[Arc<Node>]) -> Expansion {
    if !order.iter().any(|node| matches!(node.op, Op::Detach | Op::Inspect(_))) {
        return Expansion { roots: roots.to_vec(), marks: Vec::new() };
    }
    let mut image: HashMap<*const Node, Arc<Node>> = HashMap::new();
    let mut marks: Vec<Mark> = Vec::new();
    let mut known = HashSet::new();
    let mut values = Values::of(order);
    for node in order {
        let operands = operands(node, &image);
        // A copy under another name is the same mark, and so is one on a value that is computed again.
        if let Op::Inspect(label) = &node.op
            && known.insert((values.number(&operands[0]), label.clone(), node.location))
        {
            let tensor = Tensor::from_node(operands[0].clone());
            marks.push(Mark { label: label.clone(), location: node.location, tensor });
        }
        let new = match &node.op {
            Op::Detach | Op::Inspect(_) => operands[0].clone(),
            _ => on(node, operands),
        };
        values.add(&new);
        image.insert(node.key(), new);
    }
    Expansion { roots: roots.iter().map(|root| image[&root.key()].clone()).collect(), marks }
}

/// Which nodes have equal values, whenever they are computed. Nothing is looked at in a graph that computes nothing again: each
/// node is a value of its own there.
#[derive(Default)]
struct Values {
    is_needed: bool,
    numbers: HashMap<*const Node, usize>,
    known: HashMap<(String, Vec<usize>), usize>,
}

impl Values {
    fn of(order: &[Arc<Node>]) -> Values {
        Values { is_needed: order.iter().any(|node| matches!(node.op, Op::After)), ..Values::default() }
    }
    /// Takes note of a node whose operands are known.
    fn add(&mut self, node: &Arc<Node>) {
        if !self.is_needed || self.numbers.contains_key(&node.key()) {
            return;
        }
        let number = match &node.op {
            Op::After => self.number(&node.operands[0]),
            op => {
                let text = match op {
                    Op::Leaf(array) => format!("leaf {:p}", Arc::as_ptr(array)),
                    op => format!("{op:?} {} {}", node.shape, node.dtype),
                };
                let operands = node.operands.iter().map(|operand| self.number(operand)).collect();
                let next = self.known.len();
                *self.known.entry((text, operands)).or_insert(next)
            }
        };
        self.numbers.insert(node.key(), number);
    }
    fn number(&self, node: &Arc<Node>) -> usize {
        self.numbers.get(&node.key()).copied().unwrap_or(node.key() as usize)
    }
}

fn operands(node: &Node, image: &HashMap<*const Node, Arc<Node>>) -> Vec<Arc<Node>> {
    node.operands.iter().map(|operand| image[&operand.key()].clone()).collect()
}

/// The node on these operands: itself where they are its own.
fn on(node: &Arc<Node>, operands: Vec<Arc<Node>>) -> Arc<Node> {
    if operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b)) {
        node.clone()
    } else {
        node.with_operands(operands)
    }
}
