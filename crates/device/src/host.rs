//! A plan on the CPU device.

use std::sync::{Arc, Mutex, PoisonError};

use cotangent_shaders::{BufferId, Place, Plan, Source};
use cotangent_tensor::{Array, Code, Error};

use crate::device::Device;
use crate::program::Region;
use crate::storage::{Storage, decode, encode};

/// A plan with its storage in host memory.
#[derive(Debug)]
pub(crate) struct HostProgram {
    storages: Vec<Arc<Storage>>,
}

impl HostProgram {
    pub(crate) fn new(device: &Device, plan: &Plan) -> Result<HostProgram, Error> {
        let slots: Vec<Arc<Storage>> = plan
            .slots
            .iter()
            .enumerate()
            .map(|(slot, size)| device.storage(&format!("slot {slot}"), size.bytes.div_ceil(4)))
            .collect::<Result<_, _>>()?;
        let storage = |buffer: &cotangent_shaders::Buffer| match &buffer.source {
            Source::Computed { slot } => Ok(slots[*slot].clone()),
            Source::Variable(token) => device.held(token),
            Source::Input(_) => device.storage(&buffer.name, buffer.bytes() / 4),
            Source::Leaf(array) => {
                let storage = device.storage(&buffer.name, buffer.bytes() / 4)?;
                device.upload(&storage, 0, &encode(array, buffer.dtype))?;
                Ok(storage)
            }
        };
        Ok(HostProgram { storages: plan.buffers.iter().map(storage).collect::<Result<_, _>>()? })
    }
    fn words(&self, buffer: BufferId) -> &Mutex<Vec<u32>> {
        self.storages[buffer].host()
    }
    /// Sets an input.
    pub(crate) fn write(&mut self, buffer: BufferId, words: &[u32]) {
        let mut data = self.words(buffer).lock().unwrap_or_else(PoisonError::into_inner);
        data[..words.len()].copy_from_slice(words);
    }
    pub(crate) fn run(&mut self, plan: &Plan, kernel: usize) -> Result<(), Error> {
        let kernel = &plan.kernels[kernel];
        Err(Error::new(Code::Internal, &kernel.name, "the CPU executor is not there yet").at(kernel.location))
    }
    pub(crate) fn flip(&mut self, buffer: BufferId, at: usize, bit: u32) {
        self.words(buffer).lock().unwrap_or_else(PoisonError::into_inner)[at] ^= 1 << (bit % 32);
    }
    pub(crate) fn read(&self, plan: &Plan, place: &Place) -> Result<Array, Error> {
        let Region { buffer, first, words, skip } = Region::of(plan, place);
        let data = self.words(buffer).lock().unwrap_or_else(PoisonError::into_inner);
        decode(&data[first..first + words], skip, place.node.shape, place.node.dtype)
    }
}
