//! Memory of a device, and the words by which it holds the elements of an array.

use std::sync::{Arc, Mutex};

use cotangent_tensor::{Array, Code, DType, Error, Shape};

use crate::cpu::{pack, unpack};
use crate::ledger::Claim;
use crate::raw::prefer_large_pages;

/// 32-bit words on a device.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) words: usize,
    pub(crate) place: Place,
    // Given back when the storage goes.
    _claim: Claim,
}

#[derive(Debug)]
pub(crate) enum Place {
    Host(Arc<Mutex<Vec<u32>>>),
    Gpu(wgpu::Buffer),
}

impl Storage {
    pub(crate) fn new(words: usize, place: Place, claim: Claim) -> Storage {
        Storage { words, place, _claim: claim }
    }
    /// The buffer, on a wgpu device.
    pub(crate) fn gpu(&self) -> &wgpu::Buffer {
        match &self.place {
            Place::Gpu(buffer) => buffer,
            Place::Host(_) => unreachable!("storage belongs to the kind of device that asks for it"),
        }
    }
    /// The words, on the CPU device.
    pub(crate) fn host(&self) -> &Arc<Mutex<Vec<u32>>> {
        match &self.place {
            Place::Host(words) => words,
            Place::Gpu(_) => unreachable!("storage belongs to the kind of device that asks for it"),
        }
    }
}

/// Words that hold `elements` of this type. F16 takes half a word per element.
pub(crate) fn words_of(dtype: DType, elements: usize) -> usize {
    match dtype {
        DType::F16 => elements.div_ceil(2),
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => elements,
    }
}

/// Zeros. Error: [`Code::OutOfMemory`]; an allocation that fails without being asked first ends the process.
pub(crate) fn zeros(name: &str, words: usize) -> Result<Vec<u32>, Error> {
    let asked = Vec::<u32>::new().try_reserve_exact(words);
    asked.map_err(|error| {
        Error::new(Code::OutOfMemory, "allocate", format!("{words} words for `{name}`: {error}"))
    })?;
    let mut zeros = vec![0; words];
    prefer_large_pages(&mut zeros);
    Ok(zeros)
}

/// The words of an array as elements of type `dtype`, which may differ from the array's only among floats.
pub(crate) fn encode(array: &Array, dtype: DType) -> Vec<u32> {
    if array.dtype() == dtype { pack(array) } else { pack(&array.clone().with_dtype(dtype)) }
}

/// The array of some elements of a buffer, from its words.
pub(crate) fn decode(words: &[u32], first: usize, shape: Shape, dtype: DType) -> Result<Array, Error> {
    Array::from_words(unpack(words, dtype, first..first + shape.elements()), shape, dtype)
}

/// What a device makes of host data: floats rounded once.
pub(crate) fn rounded(array: &Array) -> Result<Array, Error> {
    decode(&encode(array, array.dtype()), 0, *array.shape(), array.dtype())
}
