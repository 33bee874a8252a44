//! Elementwise code on a result that something else computes: a matrix product, a scattered sum. The result goes where a
//! plain store wants it, if there is one, and the code runs in place; else it has memory of its own.

use std::sync::{Mutex, PoisonError};

use cotangent_shaders::{Access, Affine, Binding, Code, Loop};
use cotangent_tensor::DType;
use pulp::Arch;

use super::execute::Fault;
use super::loops::Loops;
use crate::storage::zeros;

/// Code on a result, and where that lies.
#[derive(Debug)]
pub(super) struct Epilogue {
    place: Place,
    /// None where the result itself is all that is stored.
    code: Option<Loops>,
    /// Elements of the result.
    total: usize,
}

/// Where the result lies, row-major.
#[derive(Debug)]
enum Place {
    /// In the buffer of a binding, from this element on.
    Output { binding: usize, offset: usize },
    /// In memory of its own, kept from run to run.
    Scratch(Mutex<Vec<u32>>),
}

impl Epilogue {
    /// Of a map in which [`Code::Accumulator`] stands for the result.
    pub(super) fn new(epilogue: &Loop, bindings: &[Binding], elements: &[usize]) -> Result<Epilogue, String> {
        let total = epilogue.kept_elements();
        let own = Affine::row_major(&epilogue.kept);
        let is_same = |at: &Affine| {
            let strides = at.strides.iter().zip(&own.strides).zip(&epilogue.kept);
            strides.into_iter().all(|((a, b), &extent)| a == b || extent == 1)
        };
        let plain = |binding: usize| {
            bindings[binding].dtype == DType::F32 && bindings[binding].access == Access::Write
        };
        let direct = epilogue.stores.iter().find(|s| plain(s.binding) && is_same(&s.at));
        let (mut body, mut bindings, mut elements) = (epilogue.clone(), bindings.to_vec(), elements.to_vec());
        let (place, load) = match direct {
            Some(store) => {
                bindings[store.binding].access = Access::ReadWrite;
                let offset = usize::try_from(store.at.offset).map_err(|_| "a store below its buffer")?;
                let load = Code::Load { binding: store.binding, at: store.at.clone(), guard: None };
                (Place::Output { binding: store.binding, offset }, load)
            }
            None => {
                let load = Code::Load { binding: bindings.len(), at: own, guard: None };
                bindings.push(Binding { buffer: usize::MAX, access: Access::Read, dtype: DType::F32 });
                elements.push(total);
                let memory = zeros("result", total).map_err(|error| error.message().to_owned())?;
                (Place::Scratch(Mutex::new(memory)), load)
            }
        };
        let is_accumulator = |v: usize| body.code[v].code == Code::Accumulator;
        let nothing_to_do =
            direct.is_some() && body.stores.len() == 1 && is_accumulator(body.stores[0].value);
        for instruction in &mut body.code {
            if instruction.code == Code::Accumulator {
                instruction.code = load.clone();
            }
        }
        let code = if nothing_to_do { None } else { Some(Loops::new(&body, &bindings, &elements)?) };
        Ok(Epilogue { place, code, total })
    }
    /// Words of memory of its own.
    pub(super) fn scratch(&self) -> usize {
        match self.place {
            Place::Output { .. } => 0,
            Place::Scratch(_) => self.total,
        }
    }
    /// Whether several threads may take part.
    pub(super) fn is_parallel(&self) -> bool {
        self.code.as_ref().is_some_and(Loops::is_parallel)
    }
    /// Computes the result by `compute`, then runs the code, also on a result with a fault.
    pub(super) fn run(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
        compute: impl FnOnce(&mut [u32]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let code = self.code.as_ref();
        match &self.place {
            Place::Output { binding, offset } => {
                let output = written.iter_mut().find(|(written, _)| written == binding);
                let outcome =
                    output.map_or(Ok(()), |(_, words)| compute(&mut words[*offset..*offset + self.total]));
                outcome.and(code.map_or(Ok(()), |code| code.run(arch, inputs, written)))
            }
            Place::Scratch(scratch) => {
                // taken out: while this thread waits for others it may be given a run of the same kernel
                let mut result = std::mem::take(&mut *scratch.lock().unwrap_or_else(PoisonError::into_inner));
                result.resize(self.total, 0);
                let outcome = compute(&mut result);
                let inputs: Vec<&[u32]> = inputs.iter().copied().chain([result.as_slice()]).collect();
                let outcome = outcome.and(code.map_or(Ok(()), |code| code.run(arch, &inputs, written)));
                *scratch.lock().unwrap_or_else(PoisonError::into_inner) = result;
                outcome
            }
        }
    }
}
