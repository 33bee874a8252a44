//! A plan on the CPU device: the executor of [`cpu`](crate::cpu) with its storage on the books.

use std::sync::Arc;

use cotangent_shaders::{BufferId, Place, Plan, Source};
use cotangent_tensor::{Array, Code, Error};

use crate::cpu::{Buffers, Executable};
use crate::device::Device;
use crate::ledger::Claim;
use crate::storage::encode;

/// A plan with its storage in host memory.
#[derive(Debug)]
pub(crate) struct HostProgram {
    executable: Executable,
    buffers: Buffers,
    // Given back when the program goes. Variables have their own.
    _claims: Vec<Claim>,
}

impl HostProgram {
    pub(crate) fn new(device: &Device, plan: &Plan) -> Result<HostProgram, Error> {
        let executable = Executable::compile(plan)?;
        let mut claims = Vec::new();
        for (number, slot) in plan.slots.iter().enumerate() {
            claims.push(device.claim(&format!("slot {number}"), slot.bytes as u64)?);
        }
        for buffer in &plan.buffers {
            match buffer.source {
                Source::Leaf(_) | Source::Input(_) => {
                    claims.push(device.claim(&buffer.name, buffer.bytes() as u64)?);
                }
                Source::Variable(_) | Source::Computed { .. } => {}
            }
        }
        let leaf = |array: &Arc<Array>| Arc::new(encode(array, array.dtype()));
        let buffers = Buffers::new(plan, leaf, |token| Ok(device.held(token)?.host().clone()));
        let buffers = buffers.map_err(|error| match error.code() {
            Code::OutOfMemory => device.0.ledger.out_of_memory("plan", 0),
            _ => error,
        })?;
        Ok(HostProgram { executable, buffers, _claims: claims })
    }
    /// Sets an input.
    pub(crate) fn write(&mut self, buffer: BufferId, words: &[u32]) {
        self.buffers.write_words(buffer, words);
    }
    /// Runs every kernel.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        self.executable.run(&mut self.buffers)
    }
    pub(crate) fn run_kernel(&mut self, kernel: usize) -> Result<(), Error> {
        self.executable.run_kernels(kernel..kernel + 1, &mut self.buffers)
    }
    pub(crate) fn flip(&mut self, buffer: BufferId, at: usize, bit: u32) {
        self.buffers.flip(buffer, at, bit);
    }
    pub(crate) fn read(&self, place: &Place) -> Result<Array, Error> {
        self.buffers.read(place.buffer, place.offset, place.node.shape)
    }
}
