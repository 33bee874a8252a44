//! Random words of many steps at once: the generator written out in integer operations.

use cotangent_tensor::{DType, Key, Shape, Tensor, random};

/// The words that each of `steps` draws. `shape` is `[steps, …]`.
pub(super) fn random_bits(key: Key, steps: &Tensor, shape: Shape) -> Tensor {
    let (size, count) = (shape[0], shape.without(&[0]).elements());
    let blocks = match Shape::new(&[size, count.div_ceil(4)]) {
        Ok(blocks) => blocks,
        Err(error) => return Tensor::invalid(error),
    };
    let number = |word: u32| Tensor::full(blocks, word);
    let block = Tensor::iota(blocks, 1).cast(DType::U32);
    let step = steps.reshape([-1, 1]).broadcast_to(blocks);
    let words = random::threefry_of(
        random::key_words(key),
        [block, number(0), step, number(0)],
        |a, word| a + word,
        |a, b| a + b,
        |a, turn| a.shl(turn).or(a.shr(32 - turn)),
        |a, b| a.xor(b),
    );
    let words = Tensor::stack(&words.each_ref(), 2);
    match Shape::new(&[size, 4 * blocks[1]]) {
        Ok(rows) => words.reshape(rows).slice(1, 0, count, 1).reshape(shape),
        Err(error) => Tensor::invalid(error),
    }
}
