//! What a kernel moves and computes.

use std::collections::HashMap;

use super::nest::affine;
use crate::{Body, Code, Cost, Kernel, Level, Loop, Update};

/// Bytes read and written, each element once, and floating-point operations, one per instruction and element.
pub fn cost(kernel: &Kernel) -> Cost {
    match &kernel.body {
        Body::Loop(nest) => loop_cost(kernel, nest),
        Body::Matmul(matmul) => {
            let batches: usize = matmul.batch.iter().product();
            let [b, m, n, k] = [batches, matmul.m, matmul.n, matmul.k].map(|v| v as f64);
            let shared = |batch: &[usize]| {
                matmul
                    .batch
                    .iter()
                    .zip(batch)
                    .filter(|(_, s)| **s != 0)
                    .map(|(&e, _)| e as f64)
                    .product::<f64>()
            };
            let size = |binding: usize| element_bytes(kernel, binding);
            let operands = shared(&matmul.lhs.batch) * m * k * size(matmul.lhs.binding)
                + shared(&matmul.rhs.batch) * k * n * size(matmul.rhs.binding);
            let epilogue = loop_cost(kernel, &matmul.epilogue);
            Cost { bytes: operands + epilogue.bytes, flops: 2.0 * b * m * n * k + epilogue.flops }
        }
        Body::Scan(scan) => {
            let elements = scan.outer as f64 * scan.length as f64 * scan.inner as f64;
            Cost { bytes: 8.0 * elements, flops: elements }
        }
        // Nobody has counted the operations of the text.
        Body::User(user) => {
            let inputs = user.kernel.inputs.iter().map(|buffer| buffer.shape.elements());
            let elements = inputs.sum::<usize>() + user.kernel.elements();
            Cost { bytes: 4.0 * elements as f64, flops: 0.0 }
        }
    }
}

fn element_bytes(kernel: &Kernel, binding: usize) -> f64 {
    match kernel.bindings[binding].dtype {
        cotangent_tensor::DType::F16 => 2.0,
        cotangent_tensor::DType::F32 | cotangent_tensor::DType::I32 => 4.0,
        cotangent_tensor::DType::U32 | cotangent_tensor::DType::Bool => 4.0,
    }
}

fn loop_cost(kernel: &Kernel, nest: &Loop) -> Cost {
    if let Some(scatter) = nest.scatter() {
        // What the operation takes, whoever does more: each update once, each element once.
        let kept = nest.kept_elements() as f64;
        let others = kept / nest.kept[scatter.axis].max(1) as f64;
        let terms = others * scatter.updates as f64;
        let indices = 4.0 * scatter.updates as f64;
        let on_result =
            nest.code.iter().filter(|i| i.level == Level::Kept && matches!(i.code, Code::Elementwise(..)));
        let flops = terms + kept * on_result.count() as f64;
        let read = if matches!(scatter.update, Update::Load(..)) { 4.0 * terms } else { 0.0 };
        let bytes = indices + read + 4.0 * kept * nest.stores.len() as f64;
        return Cost { bytes, flops };
    }
    let extents: Vec<usize> = nest.kept.iter().chain(&nest.reduced).copied().collect();
    let distinct = |strides: &[i64]| {
        strides.iter().zip(&extents).filter(|(s, _)| **s != 0).map(|(_, &e)| e as f64).product::<f64>()
    };
    // Several windows of one buffer mostly overlap: count the largest.
    let mut reads: HashMap<usize, f64> = HashMap::new();
    let mut flops = 0.0;
    let kept = nest.kept_elements() as f64;
    let all = kept * nest.reduced_elements() as f64;
    for instruction in &nest.code {
        if let (Code::Load { binding, .. } | Code::LoadIndexed { binding, .. }, Some(at)) =
            (&instruction.code, affine(&instruction.code))
        {
            // An index may reach as many elements as there are coordinates.
            let elements = match instruction.code {
                Code::LoadIndexed { .. } if instruction.level == Level::Element => all,
                _ => distinct(&at.strides),
            };
            let entry = reads.entry(*binding).or_default();
            *entry = entry.max(elements);
        }
        let counts = match &instruction.code {
            Code::Elementwise(..) | Code::RandomBits { .. } => 1.0,
            Code::Softmax { .. } | Code::SoftmaxResidual { .. } => 3.0,
            Code::Reduce(..) | Code::ArgReduce { .. } | Code::LogSumExpRest(_) | Code::LogSumExpMax(_) => {
                flops += all;
                0.0
            }
            Code::Constant(_) | Code::Accumulator | Code::Load { .. } | Code::LoadIndexed { .. } => 0.0,
            // One round: nobody knows how many there are.
            Code::While(inner, _) => {
                inner.code.iter().filter(|i| matches!(i.code, Code::Elementwise(..))).count() as f64
            }
            Code::Coordinate(_)
            | Code::Part(..)
            | Code::Parameter(_)
            | Code::InRange { .. }
            | Code::Integer(..)
            | Code::Cast(_)
            | Code::Pick { .. } => 0.0,
        };
        flops += counts * if instruction.level == Level::Element { all } else { kept };
    }
    let read: f64 = reads.iter().map(|(&binding, elements)| elements * element_bytes(kernel, binding)).sum();
    let write: f64 =
        nest.stores.iter().map(|s| distinct(&s.at.strides) * element_bytes(kernel, s.binding)).sum();
    Cost { bytes: read + write, flops }
}
