//! A plan on the CPU device: the executor of [`cpu`](crate::cpu) with its storage on the books.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use cotangent_shaders::{BufferId, Place, Plan, Source};
use cotangent_tensor::{Array, Code, Error};

use crate::cpu::{Buffers, Executable, Words, threads};
use crate::device::Device;
use crate::ledger::Claim;
use crate::storage::encode;

/// A plan with its storage in host memory.
#[derive(Debug)]
pub(crate) struct HostProgram {
    executable: Executable,
    /// Whether a run uses several threads.
    parallel: bool,
    /// One run at a time.
    buffers: Mutex<Buffers>,
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
        match executable.scratch() {
            0 => {}
            words => claims.push(device.claim("scratch of kernels", 4 * words as u64)?),
        }
        let leaf = |array: &Arc<Array>| Arc::new(encode(array, array.dtype()));
        let buffers = Buffers::new(plan, leaf, |token| Ok(device.held(token)?.host().clone()));
        let buffers = buffers.map_err(|error| match error.code() {
            Code::OutOfMemory => device.0.ledger.out_of_memory("plan", 0),
            _ => error,
        })?;
        let (parallel, buffers) = (executable.is_parallel(), Mutex::new(buffers));
        Ok(HostProgram { executable, parallel, buffers, _claims: claims })
    }
    /// Gives inputs their values, then does `work` with the storage: nobody else uses it or its variables meanwhile.
    pub(crate) fn with<R: Send>(
        &self,
        inputs: &[(BufferId, Cow<'_, [u32]>)],
        work: impl FnOnce(&mut Session<'_, '_>) -> Result<R, Error> + Send,
    ) -> Result<R, Error> {
        let locked = || {
            let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            inputs.iter().for_each(|(buffer, words)| buffers.write_words(*buffer, words));
            let mut open = buffers.open();
            let mut session = Session { executable: &self.executable, words: &mut open.words };
            if self.parallel { threads::parallel(|| work(&mut session)) } else { work(&mut session) }
        };
        if self.parallel { threads::apart(locked) } else { locked() }
    }
}

/// A plan whose storage is held.
pub(crate) struct Session<'a, 'b> {
    executable: &'a Executable,
    words: &'a mut Words<'b>,
}

impl Session<'_, '_> {
    /// Runs every kernel.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        self.executable.run_kernels(0..self.executable.len(), self.words)
    }
    pub(crate) fn run_kernel(&mut self, kernel: usize) -> Result<(), Error> {
        self.executable.run_kernels(kernel..kernel + 1, self.words)
    }
    pub(crate) fn flip(&mut self, buffer: BufferId, at: usize, bit: u32) {
        self.words.flip(buffer, at, bit);
    }
    pub(crate) fn read(&self, place: &Place) -> Result<Array, Error> {
        self.words.read(place.buffer, place.offset, place.node.shape)
    }
}
