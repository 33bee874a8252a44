//! Kernels of users: operands that lie as the text expects them, and a buffer of its own for the results.

use std::sync::Arc;

use cotangent_tensor::{KERNEL_ALIGNMENT, UserKernel};

use super::super::access::{self, walk};
use super::super::graph::Role;
use super::{Builder, Obstacle, internal};
use crate::kernel::*;

impl Builder<'_> {
    pub(super) fn user(mut self, id: usize, kernel: &Arc<UserKernel>) -> Result<Kernel, Obstacle> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let mut inputs = Vec::new();
        for &operand in &graph.operands[id] {
            inputs.push(self.row_major(operand)?);
        }
        let &(buffer, offset) =
            self.draft.places.get(&id).ok_or_else(|| internal("the results have no place", node))?;
        if offset != 0 {
            return Err(internal("the results have no buffer of their own", node));
        }
        let output = self.bind(buffer, Access::Write, node.dtype);
        let body = Body::User(User { kernel: kernel.clone(), inputs, output });
        let writes = vec![Place { node: node.clone(), buffer, offset }];
        let (location, bindings, reads) = (node.location, self.bindings, self.reads);
        Ok(Kernel { name: kernel.name.clone(), location, bindings, body, reads, writes })
    }

    /// Binding and first element of an operand that lies row by row from where an adapter can bind it. One that does not is
    /// copied first.
    fn row_major(&mut self, operand: usize) -> Result<(usize, usize), Obstacle> {
        let graph = self.graph;
        let shape = *graph.shape(operand);
        let base = walk(graph, operand, access::identity(&shape), &shape);
        let strides = Affine::row_major(&shape).strides;
        let is_row_major =
            |l: &Affine| (0..shape.rank()).all(|d| shape[d] == 1 || l.strides[d] == strides[d]);
        let is_stored = matches!(graph.roles[base.node], Role::Source | Role::Compute | Role::Assemble);
        let Some(index) = base.linear.filter(|l| is_row_major(l) && is_stored) else {
            return Err(Obstacle::Copy(base.blocked.unwrap_or(operand)));
        };
        let (binding, offset) = self.read(base.node)?;
        let first = offset + usize::try_from(index.offset).unwrap_or(0);
        if first.is_multiple_of(KERNEL_ALIGNMENT) {
            return Ok((binding, first));
        }
        if graph.roles[operand] != Role::Compute {
            return Err(Obstacle::Copy(operand));
        }
        // Computed into the middle of a concatenation.
        match graph.parts.values().flatten().find(|part| part.node == operand) {
            Some(part) => Err(Obstacle::CopyPart(part.number)),
            None => Err(internal("an operand of a kernel cannot be bound", &graph.nodes[operand])),
        }
    }
}
