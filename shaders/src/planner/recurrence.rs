//! Loops of the graph as code: expanded, simplified and merged like the graph around them.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{DType, Error, Node, Op, Scalar, WhileLoop, expand, topological};

use super::graph::Merger;
use crate::kernel::{Code, Instruction, Level, Value};
use crate::recurrence::Recurrence;

/// A loop as code. Its constants are captured values, so that compilers do not see them, and text depends on the structure alone.
#[derive(Debug)]
pub(super) struct Traced {
    pub recurrence: Arc<Recurrence>,
    /// What is captured after the operands of the loop.
    pub constants: Vec<Scalar>,
}

impl PartialEq for Traced {
    fn eq(&self, other: &Traced) -> bool {
        let words = |t: &Traced| t.constants.iter().map(|c| c.to_word()).collect::<Vec<_>>();
        self.recurrence == other.recurrence && words(self) == words(other)
    }
}

/// The loops of a graph, each once.
#[derive(Debug, Default)]
pub(super) struct Loops {
    known: Vec<(Arc<WhileLoop>, Arc<Traced>)>,
    /// Which of them a loop is equal to.
    aliases: HashMap<*const WhileLoop, usize>,
    /// Keeps the addresses.
    seen: Vec<Arc<WhileLoop>>,
}

impl Loops {
    /// The loop that stands for all loops that compute the same.
    pub(super) fn canonical(&mut self, looped: &Arc<WhileLoop>) -> Result<Arc<WhileLoop>, Error> {
        if let Some(&index) = self.aliases.get(&Arc::as_ptr(looped)) {
            return Ok(self.known[index].0.clone());
        }
        let traced = traced(looped)?;
        let index = self.known.iter().position(|(_, known)| **known == traced).unwrap_or_else(|| {
            self.known.push((looped.clone(), Arc::new(traced)));
            self.known.len() - 1
        });
        self.aliases.insert(Arc::as_ptr(looped), index);
        self.seen.push(looped.clone());
        Ok(self.known[index].0.clone())
    }
    /// The code of a canonical loop.
    pub(super) fn traced(&self, looped: &Arc<WhileLoop>) -> Option<&Arc<Traced>> {
        self.aliases.get(&Arc::as_ptr(looped)).map(|&index| &self.known[index].1)
    }
}

fn traced(looped: &WhileLoop) -> Result<Traced, Error> {
    let roots = expand([&looped.condition].into_iter().chain(&looped.next).cloned().collect()).roots;
    let mut merger = Merger::default();
    let mut id: HashMap<*const Node, usize> = HashMap::new();
    for node in topological(&roots) {
        if matches!(node.op, Op::Rule(_)) {
            continue;
        }
        let operands: Vec<usize> = node.operands.iter().map(|o| id[&o.key()]).collect();
        let new = merger.add(&node, operands, usize::MAX)?;
        id.insert(node.key(), new);
    }
    let roots: Vec<usize> = roots.iter().map(|root| id[&root.key()]).collect();
    let Merger { nodes, operands, loops, .. } = merger;
    let mut needed = vec![false; nodes.len()];
    roots.iter().for_each(|&root| needed[root] = true);
    for node in (0..nodes.len()).rev() {
        if needed[node] {
            operands[node].iter().for_each(|&operand| needed[operand] = true);
        }
    }
    let mut code = Vec::new();
    let push = |code: &mut Vec<Instruction>, what: Code, node: &Node| -> Value {
        let label = node.given_name().map(Into::into);
        code.push(Instruction { code: what, dtype: node.dtype, level: Level::Kept, label });
        code.len() - 1
    };
    let mut values: HashMap<usize, Value> = HashMap::new();
    for parameter in looped.carried.iter().chain(&looped.captured) {
        let value = code.len();
        push(&mut code, Code::Parameter(value), parameter);
    }
    for (node, made) in nodes.iter().enumerate().filter(|(_, made)| matches!(made.op, Op::Placeholder(_))) {
        let parameters = looped.carried.iter().chain(&looped.captured);
        if let Some(value) = parameters.into_iter().position(|p| p.identity() == made.identity()) {
            values.insert(node, value);
        }
    }
    let mut constants = Vec::new();
    let mut captured = |code: &mut Vec<Instruction>, scalar: Scalar| -> Value {
        constants.push(scalar);
        let parameter = Code::Parameter(code.len());
        code.push(Instruction { code: parameter, dtype: scalar.dtype(), level: Level::Kept, label: None });
        code.len() - 1
    };
    // Constants come before everything that is computed.
    let mut of_inner: HashMap<usize, Vec<Value>> = HashMap::new();
    for node in (0..nodes.len()).filter(|&node| needed[node]) {
        match &nodes[node].op {
            Op::Constant(scalar) => {
                values.insert(node, captured(&mut code, *scalar));
            }
            Op::While(inner, _) => {
                let inner = loops.traced(inner).map(|t| t.constants.clone()).unwrap_or_default();
                of_inner.insert(node, inner.into_iter().map(|scalar| captured(&mut code, scalar)).collect());
            }
            _ => {}
        }
    }
    let internal = |node: &Node| {
        let message = format!("`{}` {} in a loop", node.name(), node.shape);
        Error::new(cotangent_tensor::Code::Internal, &looped.name, message).at(node.location)
    };
    let mut tuples: Vec<(usize, Value)> = Vec::new();
    for node in (0..nodes.len()).filter(|&node| needed[node]) {
        let made = &nodes[node];
        let given: Vec<Value> = operands[node].iter().map(|operand| values[operand]).collect();
        let value = match &made.op {
            Op::Placeholder(_) | Op::Constant(_) => continue,
            Op::Reshape | Op::Broadcast => given[0],
            Op::Elementwise(row) => push(&mut code, Code::Elementwise(*row, given), made),
            Op::Integer(row) => {
                let of = given.last().map_or(DType::U32, |&operand| code[operand].dtype);
                push(&mut code, Code::Integer(*row, of, given), made)
            }
            Op::Cast => push(&mut code, Code::Cast(given[0]), made),
            Op::While(inner, output) => {
                let inner = loops.traced(inner).ok_or_else(|| internal(made))?.recurrence.clone();
                let same = |(other, _): &&(usize, Value)| {
                    operands[*other] == operands[node]
                        && matches!((&nodes[*other].op, &made.op), (Op::While(a, _), Op::While(b, _)) if Arc::ptr_eq(a, b))
                };
                let tuple = match tuples.iter().find(same) {
                    Some(&(_, tuple)) => tuple,
                    None => {
                        let given = [&given[..], &of_inner[&node]].concat();
                        push(&mut code, Code::While(inner, given), made)
                    }
                };
                tuples.push((node, tuple));
                push(&mut code, Code::Part(tuple, *output), made)
            }
            _ => return Err(internal(made)),
        };
        values.insert(node, value);
    }
    let mut roots = roots.into_iter().map(|root| values[&root]);
    let condition = roots.next().unwrap_or_default();
    let recurrence = Recurrence {
        name: looped.name.clone(),
        carried: looped.carried.len(),
        code,
        condition,
        next: roots.collect(),
        rounds: looped.rounds,
    };
    Ok(Traced { recurrence: Arc::new(recurrence), constants })
}
