//! Matrix products: `gemm`, then the epilogue.

use cotangent_shaders::{Access, Binding, Matmul, Matrix};
use cotangent_tensor::DType;
use pulp::Arch;
use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::execute::Fault;
use super::geometry::{signed, unravel};
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
    epilogue: Epilogue,
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
        let epilogue = Epilogue::new(epilogue, bindings, elements)?;
        let (lhs, rhs) = (lhs.clone(), rhs.clone());
        Ok(Product { batch: batch.clone(), extents: [*m, *n, *k], lhs, rhs, epilogue })
    }
    pub(super) fn run(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
    ) -> Result<(), Fault> {
        self.epilogue.run(arch, inputs, written, |product| {
            self.multiply(inputs, product);
            Ok(())
        })
    }
    /// Words of memory of its own.
    pub(super) fn scratch(&self) -> usize {
        self.epilogue.scratch()
    }
    /// Whether several threads may take part.
    pub(super) fn is_parallel(&self) -> bool {
        let (products, batches) =
            (self.extents.iter().product::<usize>(), self.batch.iter().product::<usize>());
        products > PARALLEL
            || (batches > 1 && products * batches > PARALLEL_BATCH)
            || self.epilogue.is_parallel()
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
