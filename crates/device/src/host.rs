//! A plan on the CPU device: the executor of [`cpu`](crate::cpu) with its storage on the books.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use cotangent_shaders::{BufferId, Place, Plan, Source, Watch};
use cotangent_tensor::{Array, Code, DType, Error};

use crate::cpu::{Buffers, Executable, Words, threads};
use crate::device::Device;
use crate::ledger::Claim;
use crate::program::Region;
use crate::storage::encode;

use rayon::prelude::*;

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
    /// The kernel that takes turns with this one where a whole step is run.
    pub(crate) fn along(&self, kernel: usize) -> Option<usize> {
        self.executable.along(kernel)
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
    /// Copies the words of a buffer.
    pub(crate) fn keep(&self, buffer: BufferId, copy: &mut Vec<u32>) {
        let words = self.words.of(buffer);
        copy.resize(words.len(), 0);
        // Without parallel work a plan stays on its thread.
        if words.len() <= PART {
            copy.copy_from_slice(words);
        } else {
            let parts = copy.par_chunks_mut(PART).zip(words.par_chunks(PART));
            parts.for_each(|(to, from)| to.copy_from_slice(from));
        }
    }
    /// Gives a buffer other words.
    pub(crate) fn write(&mut self, buffer: BufferId, words: &[u32]) {
        self.words.write(buffer, words);
    }
    /// Whether a watched value stands where a kernel has written.
    pub(crate) fn holds(&self, plan: &Plan, place: &Place, watch: Watch) -> bool {
        let (region, elements) = (Region::of(plan, place), place.node.shape.elements());
        let words = &self.words.of(region.buffer)[region.first..region.first + region.words];
        match plan.buffers[region.buffer].dtype {
            // The other half of a word belongs to another value, or to none.
            DType::F16 => {
                let halves: &[u16] = bytemuck::cast_slice(words);
                let seen =
                    |&half: &u16| half & 0x7c00 == 0x7c00 && watch.sees(half::f16::from_bits(half).to_f32());
                halves[region.skip..region.skip + elements].iter().any(seen)
            }
            _ => holds(words, watch),
        }
    }
    pub(crate) fn read(&self, place: &Place) -> Result<Array, Error> {
        self.words.read(place.buffer, place.offset, place.node.shape)
    }
}

/// Words that one thread copies or looks at.
const PART: usize = 1 << 16;

/// Whether a watched value stands among these words. Exponents of ones are looked for first, in a loop that vectorizes.
fn holds(words: &[u32], watch: Watch) -> bool {
    /// Words that are looked at together.
    const CHUNK: usize = 1024;
    let strange = |chunk: &[u32]| {
        chunk.iter().fold(0, |found, word| found | u32::from(word & 0x7f80_0000 == 0x7f80_0000)) != 0
    };
    let seen = |&word: &u32| watch.sees(f32::from_bits(word));
    let holds = |part: &[u32]| part.chunks(CHUNK).any(|chunk| strange(chunk) && chunk.iter().any(seen));
    if words.len() <= PART { holds(words) } else { words.par_chunks(PART).any(holds) }
}
