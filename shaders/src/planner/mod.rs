//! From a graph to a plan.
//!
//! 1. [`graph`]: rules are expanded, equal subexpressions merged, exact simplifications made.
//! 2. [`group`]: nodes that can share a kernel are grouped; everything else lies in buffers.
//! 3. [`build`]: each group becomes a kernel; views are folded into index maps. A view that cannot be folded is made a
//!    copy, and planning starts again.
//! 4. [`places`], [`order`] and [`memory`]: kernels are ordered and buffers get storage by lifetime; updates of variables happen in place where
//!    every reader of the old value has run.

mod access;
mod budget;
mod build;
mod dimensions;
mod graph;
mod group;
mod loops;
mod memory;
mod order;
mod places;
mod recurrence;

use std::collections::HashSet;
use std::sync::Arc;

#[doc(hidden)]
pub use budget::computing_again;
use build::Obstacle;
use cotangent_tensor::{Code, Error, Node, Op};

use crate::dispatch::Target;
use crate::kernel::Schedule;
use crate::plan::Plan;
use access::walk;
use graph::{Graph, Role};

/// What the planner must respect.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// Storage buffers per kernel.
    pub max_storage_buffers: usize,
    /// Longest row for which element-level code may follow a reduction in the same kernel.
    pub row_limit: usize,
    /// Nodes per kernel.
    pub max_nodes: usize,
    /// Whether nodes share kernels at all.
    pub fuse: bool,
    /// Bytes that the slots of a plan may take; values of the forward pass are computed again rather than kept where they would
    /// take more.
    pub budget: Option<usize>,
}

impl PlanOptions {
    /// For the CPU device.
    pub fn cpu() -> PlanOptions {
        PlanOptions { max_storage_buffers: 64, row_limit: 1 << 24, max_nodes: 256, fuse: true, budget: None }
    }
    /// For an adapter; one storage buffer is kept for the status word.
    pub fn for_target(target: &Target) -> PlanOptions {
        let max_storage_buffers =
            usize::try_from(target.max_storage_buffers).unwrap_or(8).saturating_sub(1).clamp(3, 64);
        PlanOptions { max_storage_buffers, row_limit: 1 << 20, max_nodes: 128, fuse: true, budget: None }
    }
}

/// Plans the computation of `outputs` and of the new values of variables. `updates` pairs an [`Op::Variable`] node with
/// its new value, of the same shape and type; every other use of the variable sees its old value.
///
/// Outputs without elements are left out of [`Plan::outputs`]; the order of the others is kept.
pub fn plan(
    outputs: &[Arc<Node>],
    updates: &[(Arc<Node>, Arc<Node>)],
    options: &PlanOptions,
) -> Result<Plan, Error> {
    match options.budget {
        Some(budget) => budget::plan_within(outputs, updates, options, budget),
        None => plan_as_is(outputs, updates, options),
    }
}

/// A plan of the graph as it is.
fn plan_as_is(
    outputs: &[Arc<Node>],
    updates: &[(Arc<Node>, Arc<Node>)],
    options: &PlanOptions,
) -> Result<Plan, Error> {
    let filled: Vec<Arc<Node>> = outputs.iter().filter(|n| n.shape.elements() > 0).cloned().collect();
    let mut copied_parts = HashSet::new();
    'graph: loop {
        let mut graph = Graph::new(
            &filled,
            updates,
            options.max_storage_buffers.saturating_sub(2).max(2),
            &copied_parts,
            |shape| {
                let reduced: Vec<bool> = (0..shape.rank()).map(|axis| axis + 1 == shape.rank()).collect();
                rows(shape, &reduced, options)
            },
        )?;
        graph.settle_results();
        loop {
            match build::kernels(&graph, options) {
                Ok(draft) => return Ok(memory::finish(&graph, draft)),
                Err(Obstacle::Error(error)) => return Err(*error),
                Err(Obstacle::Copy(view)) => copy(&mut graph, &[view])?,
                Err(Obstacle::Copies(views)) => copy(&mut graph, &views)?,
                Err(Obstacle::CopyPart(number)) if copied_parts.insert(number) => continue 'graph,
                Err(Obstacle::CopyPart(number)) => {
                    let part = graph.parts.values().flatten().find(|part| part.number == number);
                    return Err(internal(
                        &graph.nodes[part.map_or(0, |part| part.node)],
                        "a copied part cannot be placed; please report this graph",
                    ));
                }
            }
        }
    }
}

fn internal(node: &Node, message: &str) -> Error {
    Error::new(Code::Internal, node.name(), message).at(node.location)
}

/// Gives values a buffer of their own.
fn copy(graph: &mut Graph, values: &[usize]) -> Result<(), Error> {
    for &value in values {
        if graph.roles[value] == Role::Compute {
            let message = "a copied value cannot be addressed; please report this graph";
            return Err(internal(&graph.nodes[value], message));
        }
        graph.roles[value] = Role::Compute;
    }
    Ok(())
}

/// Few results of long reductions are computed from chunks of the reduced dimensions.
const FEW: usize = 8;
/// What counts as long then.
const LONG: usize = 4096;

/// Whether element-level code may follow a reduction within one kernel: rows must be contiguous, and numerous or short.
fn rows(domain: &[usize], reduced: &[bool], options: &PlanOptions) -> bool {
    let extent = |wanted: bool| {
        domain.iter().zip(reduced).filter(|(_, r)| **r == wanted).map(|(d, _)| *d).product::<usize>()
    };
    reduced.last() == Some(&true)
        && extent(true) <= options.row_limit
        && (extent(false) > FEW || extent(true) <= 1 << 16)
}

/// How a loop without dependence of elements on reductions is distributed.
fn schedule(kept: &[usize], reduced: &[usize], innermost_reduced: bool, sweeps: bool) -> Schedule {
    let (few, long) = (kept.iter().product::<usize>() <= FEW, reduced.iter().product::<usize>() >= LONG);
    if reduced.is_empty() {
        Schedule::Map
    } else if sweeps {
        Schedule::Row
    } else if few && long {
        Schedule::Total
    } else if innermost_reduced {
        Schedule::Row
    } else {
        Schedule::Column
    }
}

impl Graph {
    /// Gives every output and every new value of a variable a node of its own that a kernel computes, contiguous.
    fn settle_results(&mut self) {
        for position in 0..self.outputs.len() {
            self.outputs[position] = self.settled(self.outputs[position]);
        }
        for position in 0..self.updates.len() {
            let (variable, value) = self.updates[position];
            if self.roles[variable] != Role::Empty {
                self.updates[position].1 = self.settled(value);
            }
        }
    }
    fn settled(&mut self, id: usize) -> usize {
        let shape = *self.shape(id);
        let base = walk(self, id, access::identity(&shape), &shape);
        let row_major = crate::kernel::Affine::row_major(&shape);
        let contiguous = base.linear.is_some_and(|l| {
            (0..shape.rank()).all(|d| shape[d] == 1 || l.strides[d] == row_major.strides[d])
        });
        if matches!(self.roles[base.node], Role::Compute | Role::Assemble) && contiguous {
            return id;
        }
        let node = &self.nodes[id];
        let Node { shape, dtype, location, .. } = **node;
        let copy = Node {
            op: Op::Cast,
            operands: vec![node.clone()],
            shape,
            dtype,
            location,
            label: node.label.clone(),
            origin: node.origin.clone(),
        };
        self.nodes.push(Arc::new(copy));
        self.operands.push(vec![id]);
        self.users.push(Vec::new());
        self.roles.push(Role::Compute);
        self.users[id].push(self.nodes.len() - 1);
        self.nodes.len() - 1
    }
}
