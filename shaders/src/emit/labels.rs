//! How constants and values without a label are written.

use cotangent_tensor::{DType, Elementwise};

use crate::{Code, Loop, Value};

/// Common finite constants. Everything else travels in the parameter block: its value is no part of the structure.
pub(crate) fn literal(dtype: DType, bits: u32) -> Option<&'static str> {
    Some(match (dtype, bits) {
        (DType::F32 | DType::F16, 0) => "0.0",
        (DType::F32 | DType::F16, 0x3f80_0000) => "1.0",
        (DType::F32 | DType::F16, 0xbf80_0000) => "(-1.0)",
        (DType::F32 | DType::F16, 0x3f00_0000) => "0.5",
        (DType::F32 | DType::F16, 0x4000_0000) => "2.0",
        (DType::I32, 0) => "0i",
        (DType::I32, 1) => "1i",
        (DType::U32, 0) => "0u",
        (DType::U32, 1) => "1u",
        (DType::Bool, 0) => "false",
        (DType::Bool, _) => "true",
        (DType::F32 | DType::F16 | DType::I32 | DType::U32, _) => return None,
    })
}

/// Whether each value is a constant that compilers must not see: one whose user has no other operands or is a loop, or a zero factor.
pub(crate) fn hidden_constants(nest: &Loop) -> Vec<bool> {
    let constant = |v: Value| matches!(nest.code[v].code, Code::Constant(_));
    let mut hidden = vec![false; nest.code.len()];
    for instruction in &nest.code {
        let operands = instruction.code.operands();
        let looped = matches!(instruction.code, Code::While(..));
        if looped || operands.iter().all(|&o| constant(o)) {
            operands.into_iter().filter(|&o| constant(o)).for_each(|o| hidden[o] = true);
        } else if let Code::Elementwise(Elementwise::Mul | Elementwise::Div, operands) = &instruction.code {
            // A product with a zero that a compiler sees is zero to it, NaN or not.
            let zero = |o: &&Value| matches!(nest.code[**o].code, Code::Constant(bits) if bits << 1 == 0);
            operands.iter().filter(zero).for_each(|&o| hidden[o] = true);
        }
    }
    hidden
}

/// A name for a value without a label.
pub(crate) fn default_name(code: &Code) -> &str {
    match code {
        Code::Constant(_) => "constant",
        Code::Accumulator => "product",
        Code::Load { .. } | Code::LoadIndexed { .. } => "load",
        Code::Coordinate(_) => "coordinate",
        Code::InRange { .. } => "inside",
        Code::RandomBits { .. } => "bits",
        Code::Elementwise(row, _) => row.name(),
        Code::Integer(row, ..) => row.name(),
        Code::Cast(_) => "cast",
        Code::While(..) => "run",
        Code::Part(..) => "last",
        Code::Parameter(_) => "state",
        Code::Reduce(kind, _) => kind.name(),
        Code::ArgReduce { maximum: true, .. } => "argmax",
        Code::ArgReduce { maximum: false, .. } => "argmin",
        Code::LogSumExpMax(_) => "peak",
        Code::LogSumExpRest(_) => "others",
        Code::Softmax { .. } => "softmax",
        Code::SoftmaxResidual { .. } => "residual",
        Code::Pick { .. } => "picked",
    }
}
