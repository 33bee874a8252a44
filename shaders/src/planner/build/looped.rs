//! Loops that every element runs by itself.

use std::sync::Arc;

use cotangent_tensor::WhileLoop;

use super::{Builder, Obstacle, internal};
use crate::kernel::*;
use crate::planner::access::Coordinates;

impl Builder<'_> {
    /// One value of the last state of a loop; all that a kernel takes of one loop come of one run.
    pub(super) fn looped(
        &mut self,
        id: usize,
        looped: &Arc<WhileLoop>,
        output: usize,
        at: &Coordinates,
    ) -> Result<Value, Obstacle> {
        let node = &self.graph.nodes[id];
        let traced = self.graph.loops.traced(looped).ok_or_else(|| internal("a loop without code", node))?;
        let mut operands = self.operands(&self.graph.operands[id], at)?;
        for constant in &traced.constants {
            operands.push(self.constant(*constant));
        }
        let element = operands.iter().any(|&v| self.code[v].level == Level::Element);
        let level = if element { Level::Element } else { Level::Kept };
        let run = Code::While(traced.recurrence.clone(), operands);
        let tuple = self.shared(run, node.dtype, level);
        Ok(self.push(Code::Part(tuple, output), node.dtype, &[tuple], id))
    }
}
