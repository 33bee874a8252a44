//! A plan: kernels in order, with the buffers they touch.

use std::sync::Arc;

use cotangent_tensor::{Array, DType, Token};

use crate::kernel::{Kernel, Place};

/// What a device executes: the whole of a read or of a step.
#[derive(Debug)]
pub struct Plan {
    /// Kernels in execution order.
    pub kernels: Vec<Kernel>,
    /// Every buffer that a kernel touches.
    pub buffers: Vec<Buffer>,
    /// Storage for the buffers whose source is [`Source::Computed`].
    pub slots: Vec<Slot>,
    /// Where the values of the requested outputs lie when the kernels have run.
    pub outputs: Vec<Place>,
    /// Host-side or device-side inputs by node, for cross-checks: nodes that are buffers without being computed.
    pub sources: Vec<Place>,
}

/// Elements of one type in a row.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// A readable name.
    pub name: String,
    /// Element type. F16 takes 2 bytes per element (padded to 4), everything else 4.
    pub dtype: DType,
    /// Number of elements; never 0 (nodes without elements have no buffer and no kernel).
    pub elements: usize,
    /// Where its contents come from.
    pub source: Source,
}

/// Where the contents of a buffer come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Host data, uploaded once.
    Leaf(Arc<Array>),
    /// Given at each run.
    Input(Arc<Token>),
    /// Storage of the device; kernels may write it, which is how a step updates it.
    Variable(Arc<Token>),
    /// Written by kernels; lives in a slot.
    Computed {
        /// Index into [`Plan::slots`].
        slot: usize,
    },
}

/// Storage that several buffers use one after the other.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Size in bytes.
    pub bytes: usize,
}

impl Buffer {
    /// Size in bytes, padded to whole words.
    pub fn bytes(&self) -> usize {
        match self.dtype {
            DType::F16 => self.elements.div_ceil(2) * 4,
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => self.elements * 4,
        }
    }
}
