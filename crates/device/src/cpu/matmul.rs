//! Matrix products: `gemm` into the result itself where the layout allows it, then the epilogue in place.

use std::sync::{Mutex, PoisonError};

use cotangent_shaders::{Access, Affine, Binding, Code, Matmul, Matrix};
use cotangent_tensor::DType;
use pulp::Arch;
use rayon::prelude::*;

use super::execute::Fault;
use super::geometry::{signed, unravel};
use super::loops::Loops;
use crate::raw::{self, View};

/// Products from which several threads share one matrix product.
const PARALLEL: usize = 1 << 20;
/// Products of a whole batch from which several threads share the batches.
const PARALLEL_BATCH: usize = 1 << 17;

/// A matrix product, ready to run.
#[derive(Debug)]
pub(super) struct Product {
    batch: Vec<usize>,
    extents: [usize; 3],
    lhs: Matrix,
    rhs: Matrix,
    place: Place,
    epilogue: Option<Loops>,
}

/// Where the product lies.
#[derive(Debug)]
enum Place {
    /// In the buffer of a binding, from this element on.
    Output { binding: usize, offset: usize },
    /// In memory of its own, kept from run to run.
    Scratch(Mutex<Vec<u32>>),
}

impl Product {
    pub(super) fn new(matmul: &Matmul, bindings: &[Binding], elements: &[usize]) -> Result<Product, String> {
        let Matmul { batch, m, n, k, lhs, rhs, epilogue } = matmul;
        for matrix in [lhs, rhs] {
            let bound = bindings.get(matrix.binding).ok_or("a matrix without a binding")?;
            if bound.dtype != DType::F32 || bound.access != Access::Read {
                return Err("operands of a matrix product are F32 and only read".into());
            }
        }
        let total: usize = batch.iter().product::<usize>() * m * n;
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
                (Place::Scratch(Mutex::new(Vec::new())), load)
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
        let epilogue = if nothing_to_do { None } else { Some(Loops::new(&body, &bindings, &elements)?) };
        let (lhs, rhs) = (lhs.clone(), rhs.clone());
        Ok(Product { batch: batch.clone(), extents: [*m, *n, *k], lhs, rhs, place, epilogue })
    }
    pub(super) fn run(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
    ) -> Result<(), Fault> {
        let [m, n, _] = self.extents;
        let total = self.batch.iter().product::<usize>() * m * n;
        match &self.place {
            Place::Output { binding, offset } => {
                if let Some((_, words)) = written.iter_mut().find(|(written, _)| written == binding) {
                    self.multiply(inputs, &mut words[*offset..offset + total]);
                }
                self.epilogue.as_ref().map_or(Ok(()), |epilogue| epilogue.run(arch, inputs, written))
            }
            Place::Scratch(scratch) => {
                // taken out: while this thread waits for others it may be given a run of the same product
                let mut product =
                    std::mem::take(&mut *scratch.lock().unwrap_or_else(PoisonError::into_inner));
                product.resize(total, 0);
                self.multiply(inputs, &mut product);
                let inputs: Vec<&[u32]> = inputs.iter().copied().chain([product.as_slice()]).collect();
                let epilogue = self.epilogue.as_ref();
                let outcome = epilogue.map_or(Ok(()), |epilogue| epilogue.run(arch, &inputs, written));
                *scratch.lock().unwrap_or_else(PoisonError::into_inner) = product;
                outcome
            }
        }
    }
    /// Whether several threads may take part.
    pub(super) fn is_parallel(&self) -> bool {
        let products = self.extents.iter().product::<usize>() * self.batch.iter().product::<usize>();
        products > PARALLEL_BATCH || self.epilogue.as_ref().is_some_and(Loops::is_parallel)
    }
    fn multiply(&self, inputs: &[&[u32]], output: &mut [u32]) {
        let [m, n, k] = self.extents;
        let output: &mut [f32] = bytemuck::cast_slice_mut(output);
        let one = |batch: usize, output: &mut [f32], parallel: bool| {
            let view = |matrix: &Matrix| {
                let data = bytemuck::cast_slice(inputs[matrix.binding]);
                let mut coordinate = [0; 16];
                unravel(batch, &self.batch, &mut coordinate[..self.batch.len()]);
                let along: usize = matrix.batch.iter().zip(coordinate).map(|(stride, c)| stride * c).sum();
                let first = (matrix.offset + along).min(data.len());
                View { data: &data[first..], row_stride: matrix.row, column_stride: matrix.column }
            };
            raw::matmul(self.extents, view(&self.lhs), view(&self.rhs), output, parallel);
        };
        let products = m * n * k;
        let size = (m * n).max(1);
        let batches = output.len() / size;
        if batches > 1 && products <= PARALLEL && products * batches > PARALLEL_BATCH {
            let least = (PARALLEL_BATCH / 2 / products.max(1)).max(1);
            let parts = output.par_chunks_mut(size).with_min_len(least);
            parts.enumerate().for_each(|(batch, output)| one(batch, output, false));
        } else {
            for (batch, output) in output.chunks_mut(size).enumerate() {
                one(batch, output, products > PARALLEL);
            }
        }
    }
}

/// Checks that the matrices lie inside their buffers.
pub(super) fn check(matmul: &Matmul, elements: &[usize]) -> Result<(), String> {
    let Matmul { batch, m, n, k, lhs, rhs, .. } = matmul;
    if batch.len() > 16 || batch.len() != lhs.batch.len() || batch.len() != rhs.batch.len() {
        return Err("batch dimensions of a product".into());
    }
    for (matrix, rows, columns) in [(lhs, m, k), (rhs, k, n)] {
        let extents: Vec<usize> = batch.iter().copied().chain([*rows, *columns]).collect();
        let strides = matrix.batch.iter().copied().chain([matrix.row, matrix.column]);
        let last: i64 =
            strides.zip(&extents).map(|(s, &e)| signed(s) * signed(e.saturating_sub(1))).sum::<i64>()
                + signed(matrix.offset);
        let length = elements.get(matrix.binding).copied().unwrap_or(0);
        if !extents.contains(&0) && last >= signed(length) {
            return Err(format!("a matrix reaches element {last} of {length}"));
        }
    }
    Ok(())
}
