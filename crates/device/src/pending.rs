//! Stand-ins for the planner and the emitter until they are merged.

use std::sync::Arc;

use cotangent_shaders::{Dispatch, Kernel, Plan, Target};
use cotangent_tensor::{Code, Error, Node};

/// Stand-in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanOptions {
    pub(crate) max_storage_buffers: usize,
    pub(crate) row_limit: usize,
    pub(crate) max_nodes: usize,
    pub(crate) fuse: bool,
}

impl PlanOptions {
    pub(crate) fn cpu() -> PlanOptions {
        PlanOptions { max_storage_buffers: 64, row_limit: 1 << 24, max_nodes: 256, fuse: true }
    }
    pub(crate) fn for_target(target: &Target) -> PlanOptions {
        PlanOptions { max_storage_buffers: target.max_storage_buffers as usize, ..PlanOptions::cpu() }
    }
}

pub(crate) fn plan(
    _outputs: &[Arc<Node>],
    _updates: &[(Arc<Node>, Arc<Node>)],
    _options: &PlanOptions,
) -> Result<Plan, Error> {
    Err(Error::new(Code::Internal, "plan", "not there yet"))
}

pub(crate) fn lower(_kernel: &Kernel, _target: &Target, _number: u32) -> Result<Vec<Dispatch>, Error> {
    Err(Error::new(Code::Internal, "lower", "not there yet"))
}
