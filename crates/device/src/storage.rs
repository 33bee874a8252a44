//! Memory of a device, and the words by which it holds the elements of an array.

use std::sync::{Arc, Mutex};

use cotangent_tensor::{Array, Code, DType, Error, Shape, Values};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

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
    asked.map_err(|error| Error::new(Code::OutOfMemory, "allocate", format!("{words} words for `{name}`: {error}")))?;
    Ok(vec![0; words])
}

/// The words of an array as elements of type `dtype`, which may differ from the array's only among floats: as
/// [`Array::to_words`], F16 as two halves per word, the first in the low half.
pub(crate) fn encode(array: &Array, dtype: DType) -> Vec<u32> {
    let mut words = Vec::new();
    encode_into(array, dtype, &mut words);
    words
}

/// The same into a vector whose memory is used again.
pub(crate) fn encode_into(array: &Array, dtype: DType, words: &mut Vec<u32>) {
    if dtype == DType::F16 {
        words.clear();
        words.resize(array.values().len().div_ceil(2), 0);
        let halves: &mut [u16] = bytemuck::cast_slice_mut(words);
        for (half, value) in halves.iter_mut().zip(array.to_f64()) {
            *half = f16::from_f64(value).to_bits();
        }
    } else if let Values::Single(values) = array.values() {
        // The form of large data, without a second copy.
        words.clear();
        words.extend_from_slice(bytemuck::cast_slice(values));
    } else {
        *words = array.to_words();
    }
}

/// The array of some elements of a buffer, from its words.
pub(crate) fn decode(words: &[u32], first: usize, shape: Shape, dtype: DType) -> Result<Array, Error> {
    let part = first..first + shape.elements();
    if dtype == DType::F16 {
        let halves: &[u16] = bytemuck::cast_slice(words);
        let mut values = vec![0f32; part.len()];
        halves[part].reinterpret_cast::<f16>().convert_to_f32_slice(&mut values);
        Ok(Array::new(Values::Single(values), shape)?.with_dtype(DType::F16))
    } else {
        Array::from_words(words[part].to_vec(), shape, dtype)
    }
}

/// What a device makes of host data: floats rounded once.
pub(crate) fn rounded(array: &Array) -> Result<Array, Error> {
    decode(&encode(array, array.dtype()), 0, *array.shape(), array.dtype())
}
