//! Compute kernels that users write, as operations: the text that an adapter runs as it stands, the buffers it binds, and who says
//! what the text computes.
//!
//! This crate reads no text. Whoever makes a [`UserKernel`] brings its [`KernelMeaning`] along, an evaluator of the text that
//! knows no graph; the reference and devices without adapter ask it.

use std::fmt;
use std::sync::Arc;

use crate::tensor::At;
use crate::{DType, Error, Op, Shape, Tensor};

/// Outputs of one kernel lie in one value, each from a multiple of so many elements on: 256 bytes, to which every adapter can bind.
pub const KERNEL_ALIGNMENT: usize = 64;

/// How floats are rounded while the text of a kernel is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all: f64.
    Exact,
    /// To the nearest f32, after every operation.
    Single,
    /// To an f32 a few units away, after every operation whose result is no f32. The number chooses the directions.
    Perturbed(u32),
}

/// Says what a kernel computes. No graph is known here, and no device.
pub trait KernelMeaning: fmt::Debug + Send + Sync {
    /// The elements of [`UserKernel::elements`], outputs in their places and zeros between them, from those of each input in
    /// row-major order. Errors: what the text does wrong, such as an index outside of a buffer.
    fn run(&self, kernel: &UserKernel, inputs: &[&[f64]], rounding: Rounding) -> Result<Vec<f64>, Error>;
}

/// A buffer that a kernel binds, with the tensor that lies in it.
#[derive(Clone, Debug)]
pub struct KernelBuffer {
    /// The variable of the text.
    pub name: String,
    /// `@group`.
    pub group: u32,
    /// `@binding`.
    pub binding: u32,
    /// Shape of the tensor.
    pub shape: Shape,
    /// Element type of the tensor: F32, I32 or U32.
    pub dtype: DType,
}

/// A compute kernel written by the user, on operands of known shapes: the data of [`Op::Kernel`].
#[derive(Clone, Debug)]
pub struct UserKernel {
    /// The entry point.
    pub name: String,
    /// The whole text, in WGSL.
    pub text: Arc<str>,
    /// Buffers that it only reads, one per operand.
    pub inputs: Vec<KernelBuffer>,
    /// Buffers that it writes, zeros before it runs. All of one element type, all with elements.
    pub outputs: Vec<KernelBuffer>,
    /// Number of workgroups.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup.
    pub workgroup_size: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// What it computes.
    pub meaning: Arc<dyn KernelMeaning>,
}

impl UserKernel {
    /// First element of an output in the value of the node.
    pub fn offset(&self, output: usize) -> usize {
        let before = &self.outputs[..output];
        before.iter().map(|buffer| buffer.shape.elements().next_multiple_of(KERNEL_ALIGNMENT)).sum()
    }
    /// Elements of the value of the node: all outputs, with gaps between them.
    pub fn elements(&self) -> usize {
        match self.outputs.last() {
            Some(last) => self.offset(self.outputs.len() - 1) + last.shape.elements(),
            None => 0,
        }
    }
}

impl Tensor {
    /// The outputs of a kernel on tensors of the shapes and types of its inputs, as views of one node.
    ///
    /// Invalid with the first error of an input, or with `E_TOO_LARGE`. Whoever makes the kernel has checked that everything fits.
    pub fn user_kernel(at: At, kernel: &Arc<UserKernel>, inputs: &[&Tensor]) -> Vec<Tensor> {
        let build = || {
            let operands = inputs.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, Error>>()?;
            let dtype = kernel.outputs.first().map_or(DType::F32, |buffer| buffer.dtype);
            if let [output] = &kernel.outputs[..] {
                let (op, shape) = (Op::Kernel(kernel.clone()), output.shape);
                return Ok(vec![Tensor::build(at, op, operands, shape, dtype)]);
            }
            let shape = Shape::new(&[kernel.elements()])?;
            let whole = Tensor::build(at, Op::Kernel(kernel.clone()), operands, shape, dtype);
            let part = |(output, buffer): (usize, &KernelBuffer)| {
                let (starts, steps) = (vec![kernel.offset(output)], vec![1]);
                let flat = Shape::new(&[buffer.shape.elements()])?;
                let operands = vec![whole.node()?.clone()];
                let flat = Tensor::build(at, Op::Slice { starts, steps }, operands, flat, dtype);
                Ok(flat.reshape_at(at, buffer.shape))
            };
            kernel.outputs.iter().enumerate().map(part).collect()
        };
        build().unwrap_or_else(|error: Error| vec![Tensor::invalid(error.at(at)); kernel.outputs.len()])
    }
}
