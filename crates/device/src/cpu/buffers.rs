//! Storage of a plan: one vector of words per slot, leaf, input and variable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cotangent_shaders::{BufferId, Plan, Source};
use cotangent_tensor::{Array, Code, DType, Error, Shape, Token, Values};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use crate::storage::zeros;

/// Storage of a variable, shared by the device and by the steps that read and update it: words as [`pack`] makes them.
pub type Variable = Arc<Mutex<Vec<u32>>>;

/// The storage behind the buffers of a plan.
#[derive(Debug)]
pub struct Buffers {
    /// The storage of each buffer of the plan.
    storage: Vec<usize>,
    dtypes: Vec<DType>,
    elements: Vec<usize>,
    words: Vec<Piece>,
    /// Variables and where they are in `words`, in the order in which they are locked.
    variables: Vec<(Variable, usize)>,
}

#[derive(Debug)]
enum Piece {
    Own(Vec<u32>),
    Shared(Arc<Vec<u32>>),
}

impl Buffers {
    /// Storage for a plan, zero-filled; leaves are uploaded by `leaf`, which may share what it has uploaded before.
    ///
    /// Errors: those of `variable`, and [`Code::Internal`] where a variable or leaf is shorter than its buffer.
    pub fn new(
        plan: &Plan,
        mut leaf: impl FnMut(&Arc<Array>) -> Arc<Vec<u32>>,
        mut variable: impl FnMut(&Arc<Token>) -> Result<Variable, Error>,
    ) -> Result<Buffers, Error> {
        let own = |name: &str, bytes: usize| zeros(name, bytes.div_ceil(4)).map(Piece::Own);
        let slots = plan.slots.iter().map(|slot| own("slot", slot.bytes));
        let mut words = slots.collect::<Result<Vec<_>, _>>()?;
        let mut variables: Vec<(Variable, usize)> = Vec::new();
        let mut storage = Vec::with_capacity(plan.buffers.len());
        for buffer in &plan.buffers {
            let length = match &buffer.source {
                Source::Computed { slot } => {
                    storage.push(*slot);
                    match &words[*slot] {
                        Piece::Own(words) => words.len(),
                        Piece::Shared(words) => words.len(),
                    }
                }
                Source::Leaf(array) => {
                    let data = leaf(array);
                    let length = data.len();
                    storage.push(words.len());
                    words.push(Piece::Shared(data));
                    length
                }
                Source::Input(_) => {
                    storage.push(words.len());
                    words.push(own(&buffer.name, buffer.bytes())?);
                    buffer.bytes() / 4
                }
                Source::Variable(token) => {
                    let variable = variable(token)?;
                    let length = lock(&variable).len();
                    match variables.iter().find(|(known, _)| Arc::ptr_eq(known, &variable)) {
                        Some((_, known)) => storage.push(*known),
                        None => {
                            storage.push(words.len());
                            variables.push((variable, words.len()));
                            words.push(Piece::Own(Vec::new()));
                        }
                    }
                    length
                }
            };
            if length * 4 < buffer.bytes() {
                let message =
                    format!("buffer {} holds {length} words of {} bytes", buffer.name, buffer.bytes());
                return Err(Error::new(Code::Internal, "cpu", message));
            }
        }
        // one order for all steps, so that two of them never wait for each other
        variables.sort_by_key(|(variable, _)| Arc::as_ptr(variable).addr());
        let dtypes = plan.buffers.iter().map(|buffer| buffer.dtype).collect();
        let elements = plan.buffers.iter().map(|buffer| buffer.elements).collect();
        Ok(Buffers { storage, dtypes, elements, words, variables })
    }
    /// Storage for a plan without variables. Error: [`Code::Unbound`] if it has some.
    pub fn for_inputs(plan: &Plan) -> Result<Buffers, Error> {
        Buffers::new(
            plan,
            |array| Arc::new(pack(array)),
            |token| Err(Error::new(Code::Unbound, "cpu", format!("no storage for variable {}", token.name))),
        )
    }
    /// Sets an input. Error: [`Code::ShapeChanged`] if the number or type of elements differs.
    pub fn write(&mut self, buffer: BufferId, array: &Array) -> Result<(), Error> {
        let (dtype, elements) = (self.dtypes[buffer], self.elements[buffer]);
        if array.values().len() != elements || array.dtype() != dtype {
            let given = format!("{} {}", array.dtype(), array.shape());
            let message = format!("{given} given for {elements} elements of {dtype}");
            return Err(Error::new(Code::ShapeChanged, "run", message));
        }
        if let Piece::Own(words) = &mut self.words[self.storage[buffer]] {
            pack_into(array, words);
        }
        Ok(())
    }
    /// Sets an input of the right size from words as [`pack`] makes them.
    pub(crate) fn write_words(&mut self, buffer: BufferId, data: &[u32]) {
        if let Piece::Own(words) = &mut self.words[self.storage[buffer]] {
            words.clear();
            words.extend_from_slice(data);
        }
    }
    /// The values of a contiguous part of a buffer, after a run.
    pub fn read(&self, buffer: BufferId, offset: usize, shape: Shape) -> Result<Array, Error> {
        let storage = self.storage[buffer];
        let guard = self.variables.iter().find(|(_, known)| *known == storage).map(|(v, _)| lock(v));
        let words = guard.as_ref().map_or_else(|| self.words[storage].as_slice(), |guard| guard.as_slice());
        read(words, self.dtypes[buffer], offset, shape)
    }
    /// Takes hold of the variables for the length of a run.
    pub(crate) fn open(&mut self) -> Open<'_> {
        let Buffers { storage, dtypes, words, variables, .. } = self;
        let mut guards: Vec<_> = variables.iter().map(|(variable, at)| (lock(variable), *at)).collect();
        for (guard, at) in &mut guards {
            words[*at] = Piece::Own(std::mem::take(&mut **guard));
        }
        Open { words: Words { storage, dtypes, pieces: words }, guards }
    }
}

impl Piece {
    fn as_slice(&self) -> &[u32] {
        match self {
            Piece::Own(words) => words,
            Piece::Shared(words) => words,
        }
    }
}

/// Buffers during a run. Dropping it gives the variables back, also when a run ends early.
pub(crate) struct Open<'a> {
    /// What kernels work on. Locks stay with the thread that took them; this may go to others.
    pub(crate) words: Words<'a>,
    guards: Vec<(MutexGuard<'a, Vec<u32>>, usize)>,
}

/// The words of all buffers during a run.
pub(crate) struct Words<'a> {
    storage: &'a [usize],
    dtypes: &'a [DType],
    pieces: &'a mut [Piece],
}

impl Words<'_> {
    /// The words of some buffers for reading and of others for writing; a written one reads as empty.
    pub(super) fn lend<R>(
        &mut self,
        read: &[BufferId],
        written: &[BufferId],
        body: impl FnOnce(&[&[u32]], &mut [Vec<u32>]) -> R,
    ) -> R {
        let take = |&buffer: &BufferId| match &mut self.pieces[self.storage[buffer]] {
            Piece::Own(words) => std::mem::take(words),
            Piece::Shared(_) => Vec::new(),
        };
        let mut lent = Lent { taken: written.iter().map(take).collect(), open: self, written };
        let pieces = &lent.open.pieces;
        let view = |&buffer: &BufferId| pieces[lent.open.storage[buffer]].as_slice();
        let read: Vec<&[u32]> = read.iter().map(view).collect();
        body(&read, &mut lent.taken)
    }
    /// The values of a contiguous part of a buffer.
    pub(crate) fn read(&self, buffer: BufferId, offset: usize, shape: Shape) -> Result<Array, Error> {
        read(self.pieces[self.storage[buffer]].as_slice(), self.dtypes[buffer], offset, shape)
    }
    /// The words of a buffer.
    pub(crate) fn of(&self, buffer: BufferId) -> &[u32] {
        self.pieces[self.storage[buffer]].as_slice()
    }
    /// Gives a buffer other words.
    pub(crate) fn write(&mut self, buffer: BufferId, words: &[u32]) {
        self.lend(&[], &[buffer], |_, written| written[0].copy_from_slice(words));
    }
    /// Flips a bit of a word, to plant a fault.
    pub(crate) fn flip(&mut self, buffer: BufferId, at: usize, bit: u32) {
        self.lend(&[], &[buffer], |_, written| written[0][at] ^= 1 << (bit % 32));
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        for (guard, at) in &mut self.guards {
            if let Piece::Own(words) = &mut self.words.pieces[*at] {
                **guard = std::mem::take(words);
            }
        }
    }
}

/// Written buffers outside their places; dropping it puts them back.
struct Lent<'a, 'b> {
    taken: Vec<Vec<u32>>,
    open: &'a mut Words<'b>,
    written: &'a [BufferId],
}

impl Drop for Lent<'_, '_> {
    fn drop(&mut self) {
        for (words, &buffer) in self.taken.drain(..).zip(self.written) {
            if let Piece::Own(place) = &mut self.open.pieces[self.open.storage[buffer]] {
                *place = words;
            }
        }
    }
}

fn read(words: &[u32], dtype: DType, offset: usize, shape: Shape) -> Result<Array, Error> {
    Array::from_words(unpack(words, dtype, offset..offset + shape.elements()), shape, dtype)
}

/// A panic of our own leaves nothing half-written that matters: values are only ever replaced.
fn lock(variable: &Mutex<Vec<u32>>) -> MutexGuard<'_, Vec<u32>> {
    variable.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The words in which buffers hold an array: as [`Array::to_words`], F16 as two halves per word.
pub fn pack(array: &Array) -> Vec<u32> {
    let elements = array.values().len();
    let mut words = vec![0; if array.dtype() == DType::F16 { elements.div_ceil(2) } else { elements }];
    pack_into(array, &mut words);
    words
}

fn pack_into(array: &Array, words: &mut [u32]) {
    if array.dtype() == DType::F16 {
        let halves: &mut [u16] = bytemuck::cast_slice_mut(words);
        for (half, value) in halves.iter_mut().zip(array.to_f64()) {
            *half = f16::from_f64(value).to_bits();
        }
    } else if let Values::Single(values) = array.values() {
        // the form of large inputs, without a second copy
        words[..values.len()].copy_from_slice(bytemuck::cast_slice(values));
    } else {
        let all = array.to_words();
        words[..all.len()].copy_from_slice(&all);
    }
}

/// The 32-bit words of some elements; F16 is widened to f32 bits.
pub fn unpack(words: &[u32], dtype: DType, part: std::ops::Range<usize>) -> Vec<u32> {
    if dtype == DType::F16 {
        let halves: &[u16] = bytemuck::cast_slice(words);
        let mut singles = vec![0f32; part.len()];
        halves[part].reinterpret_cast::<f16>().convert_to_f32_slice(&mut singles);
        bytemuck::allocation::cast_vec(singles)
    } else {
        words[part].to_vec()
    }
}
