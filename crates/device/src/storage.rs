//! Memory of a device, and the words by which it holds the elements of an array.

use std::sync::{Arc, Mutex, PoisonError};

use cotangent_tensor::{Array, DType, Error, Shape, Values};
use half::f16;

use crate::ledger::Claim;

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
    /// A copy of some words, on the CPU device.
    pub(crate) fn host_words(&self, first: usize, words: usize) -> Vec<u32> {
        self.host().lock().unwrap_or_else(PoisonError::into_inner)[first..first + words].to_vec()
    }
}

/// Words that hold `elements` of this type. F16 takes half a word per element.
pub(crate) fn words_of(dtype: DType, elements: usize) -> usize {
    match dtype {
        DType::F16 => elements.div_ceil(2),
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => elements,
    }
}

/// The words of an array as elements of type `dtype`, which may differ from the array's only among floats.
pub(crate) fn encode(array: &Array, dtype: DType) -> Vec<u32> {
    match dtype {
        DType::F16 => pack(&array.to_f32()),
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => array.to_words(),
    }
}

/// Two F16 elements per word, the first in the low half.
pub(crate) fn pack(values: &[f32]) -> Vec<u32> {
    let bits = |value: f32| u32::from(f16::from_f32(value).to_bits());
    values.chunks(2).map(|pair| bits(pair[0]) | pair.get(1).map_or(0, |&high| bits(high) << 16)).collect()
}

/// The array of words that start at element `skip` (0, or 1 for the second half of an F16 word).
pub(crate) fn decode(words: &[u32], skip: usize, shape: Shape, dtype: DType) -> Result<Array, Error> {
    match dtype {
        DType::F16 => {
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
            let halves = words.iter().flat_map(|&word| [word as u16, (word >> 16) as u16]);
            let values = halves.skip(skip).take(shape.elements());
            let values: Vec<f32> = values.map(|bits| f16::from_bits(bits).to_f32()).collect();
            Ok(Array::new(Values::Single(values), shape)?.with_dtype(DType::F16))
        }
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => {
            Array::from_words(words[..shape.elements()].to_vec(), shape, dtype)
        }
    }
}

/// What a device makes of host data: floats rounded once.
pub(crate) fn rounded(array: &Array) -> Result<Array, Error> {
    decode(&encode(array, array.dtype()), 0, *array.shape(), array.dtype())
}
