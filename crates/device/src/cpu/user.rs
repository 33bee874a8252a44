//! Kernels of users: their text, interpreted as an f32 machine would run it. Slow, and right.

use cotangent_shaders::User;
use cotangent_tensor::{DType, Error, Rounding};

/// Whether operands and results lie inside their buffers.
pub(super) fn check(user: &User, elements: &[usize]) -> Result<(), String> {
    let mut operands = user.kernel.inputs.iter().zip(&user.inputs);
    let fits =
        operands.all(|(buffer, &(binding, first))| first + buffer.shape.elements() <= elements[binding]);
    let is_filled = elements[user.output] == user.kernel.elements();
    if fits && is_filled { Ok(()) } else { Err("a kernel of the user's beyond its buffers".to_owned()) }
}

/// Interprets the text.
pub(super) fn run(user: &User, inputs: &[&[u32]], written: &mut [(usize, &mut [u32])]) -> Result<(), Error> {
    let kernel = &user.kernel;
    let operands: Vec<Vec<f64>> = kernel
        .inputs
        .iter()
        .zip(&user.inputs)
        .map(|(buffer, &(binding, first))| {
            let words = &inputs[binding][first..first + buffer.shape.elements()];
            words.iter().map(|&word| number(word, buffer.dtype)).collect()
        })
        .collect();
    let operands: Vec<&[f64]> = operands.iter().map(Vec::as_slice).collect();
    let results = kernel.meaning.run(kernel, &operands, Rounding::Single)?;
    let dtype = kernel.outputs.first().map_or(DType::F32, |buffer| buffer.dtype);
    if let Some((_, output)) = written.iter_mut().find(|(binding, _)| *binding == user.output) {
        output.iter_mut().zip(results).for_each(|(word, result)| *word = word_of(result, dtype));
    }
    Ok(())
}

fn number(word: u32, dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F16 => f32::from_bits(word).into(),
        DType::I32 => word.cast_signed().into(),
        DType::U32 | DType::Bool => word.into(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of the type they become"
)]
fn word_of(number: f64, dtype: DType) -> u32 {
    match dtype {
        DType::F32 | DType::F16 => (number as f32).to_bits(),
        DType::I32 => (number as i32).cast_unsigned(),
        DType::U32 | DType::Bool => number as u32,
    }
}
