//! Random numbers, from words: Threefry4x32-20 (Salmon, Moraes, Dror & Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC'11).
//!
//! A word is a pure function of key, step and position, so it does not depend on device, workgroup size or fusion, and
//! replay reproduces it. The reference calls this file; devices have [`math32::threefry`](crate::math32::threefry) and
//! its text in WGSL, in the form that lanes like, and a test holds them to this one.

use std::panic::Location;

use crate::{Code, DType, Detail, Error, IntoShape, Key, Operand, Tensor};

/// Rotation counts of the rounds, by round modulo 8: of the first and the second pair of words.
const ROTATIONS: [[u32; 2]; 8] =
    [[10, 26], [11, 21], [13, 27], [23, 5], [6, 20], [17, 11], [25, 10], [18, 20]];

/// Four random words of a key and a counter: 20 rounds, the key injected after every fourth.
pub fn threefry(key: [u32; 4], counter: [u32; 4]) -> [u32; 4] {
    let add = |a: &u32, b: &u32| a.wrapping_add(*b);
    threefry_of(key, counter, |a, word| add(a, &word), add, |a, turn| a.rotate_left(turn), |a, b| a ^ b)
}

/// [`threefry`] on anything that can do the arithmetic of words: add a number, add, rotate to the left,
/// exclusive or.
pub fn threefry_of<W>(
    key: [u32; 4],
    counter: [W; 4],
    add_number: impl Fn(&W, u32) -> W,
    add: impl Fn(&W, &W) -> W,
    rotate: impl Fn(&W, u32) -> W,
    xor: impl Fn(&W, &W) -> W,
) -> [W; 4] {
    let parity = key.iter().fold(0x1BD1_1BDA, |parity, word| parity ^ word);
    let schedule = [key[0], key[1], key[2], key[3], parity];
    let mut x = counter;
    for (word, key) in x.iter_mut().zip(schedule) {
        *word = add_number(word, key);
    }
    for round in 0..20 {
        // The partners alternate: (0, 1) and (2, 3), then (0, 3) and (2, 1).
        let (second, fourth) = if round % 2 == 0 { (1, 3) } else { (3, 1) };
        let [first_turn, second_turn] = ROTATIONS[round % 8];
        x[0] = add(&x[0], &x[second]);
        x[second] = xor(&rotate(&x[second], first_turn), &x[0]);
        x[2] = add(&x[2], &x[fourth]);
        x[fourth] = xor(&rotate(&x[fourth], second_turn), &x[2]);
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            for (position, word) in x.iter_mut().enumerate() {
                *word = add_number(word, schedule[(injection + position) % 5]);
            }
            x[3] = add_number(&x[3], injection as u32);
        }
    }
    x
}

/// A key as the generator takes it.
pub fn key_words(key: Key) -> [u32; 4] {
    [key.seed as u32, (key.seed >> 32) as u32, key.stream as u32, (key.stream >> 32) as u32]
}

/// Words `4 · block` to `4 · block + 3` of a draw: element `i` is word `i mod 4` of block `i div 4`.
pub fn random_block(key: Key, step: u32, block: u32) -> [u32; 4] {
    threefry(key_words(key), [block, 0, step, 0])
}

/// The first `count` words of a draw.
pub fn random_words(key: Key, step: u32, count: usize) -> Vec<u32> {
    // A tensor has fewer than 2³² elements, so block numbers fit.
    (0..count.div_ceil(4) as u32).flat_map(|block| random_block(key, step, block)).take(count).collect()
}

impl Tensor {
    /// Uniform on `[0, 1)`: multiples of 2⁻²⁴, the same on every device.
    #[track_caller]
    pub fn uniform(key: Key, step: impl Into<Operand>, shape: impl IntoShape) -> Tensor {
        let words = Tensor::random_bits(key, step, shape);
        words.shr(8u32).cast(DType::F32) * 2f64.powi(-24)
    }
    /// Standard normal by Box and Muller from two draws; devices agree within a few ULP, also near 0.
    #[track_caller]
    pub fn normal(key: Key, step: impl Into<Operand>, shape: impl IntoShape) -> Tensor {
        let (step, shape) = (step.into(), shape.into_shape());
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => return Tensor::invalid(error.at(Location::caller())),
        };
        let first = Tensor::random_bits(key.stream("radius"), step.clone(), shape);
        let second = Tensor::random_bits(key.stream("angle"), step, shape);
        let radius = ((first.shr(8u32).cast(DType::F32) + 1.0) * 2f64.powi(-24)).log();
        // cos 2πt = sin 2π(¼ − |t|): every step up to the sine is exact in turns, so its zeros keep their digits.
        let turns = second.shr(8u32).cast(DType::F32) * 2f64.powi(-24) - 0.5;
        (radius * -2.0).sqrt() * ((0.25 - turns.abs()) * std::f64::consts::TAU).sin()
    }
    /// Mask that is true with probability `p`, the same on every device. Invalid unless `0 ≤ p ≤ 1`.
    #[track_caller]
    pub fn bernoulli(key: Key, step: impl Into<Operand>, p: f64, shape: impl IntoShape) -> Tensor {
        if !(0.0..=1.0).contains(&p) {
            let error =
                Error::new(Code::Hyperparameter, "bernoulli", format!("p = {p} is not a probability"))
                    .with("p", Detail::Number(p));
            return Tensor::invalid(error.at(Location::caller()));
        }
        let words = Tensor::random_bits(key, step, shape);
        if p >= 1.0 {
            return words.ge(0u32);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates just below p = 1"
        )]
        words.lt((p * 4_294_967_296.0).round() as u32)
    }
    /// Elements kept with probability `1 − p` and scaled by `1 / (1 − p)`, the others 0. Invalid unless `0 ≤ p < 1`.
    #[track_caller]
    pub fn dropout(&self, key: Key, step: impl Into<Operand>, p: f64) -> Tensor {
        let Ok(node) = self.node() else { return self.clone() };
        if !(0.0..1.0).contains(&p) {
            let error = Error::new(Code::Hyperparameter, "dropout", format!("p = {p} is not in [0, 1)"))
                .with("p", Detail::Number(p));
            return Tensor::invalid(error.at(Location::caller()));
        }
        Tensor::bernoulli(key, step, 1.0 - p, node.shape).select(self * (1.0 / (1.0 - p)), 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `tests/kat_vectors` of DEShawResearch/random123: counter, key, output.
    const KNOWN: [[[u32; 4]; 3]; 3] = [
        [[0; 4], [0; 4], [0x9c6c_a96a, 0xe17e_ae66, 0xfc10_ecd4, 0x5256_a7d8]],
        [[u32::MAX; 4], [u32::MAX; 4], [0x2a88_1696, 0x5701_2287, 0xf6c7_446e, 0xa16a_6732]],
        [
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0, 0x082e_fa98, 0xec4e_6c89],
            [0x59cd_1dbb, 0xb887_9579, 0x86b5_d00c, 0xac8b_6d84],
        ],
    ];

    #[test]
    fn threefry_gives_the_published_answers() {
        for [counter, key, output] in KNOWN {
            assert_eq!(threefry(key, counter), output);
        }
    }

    #[test]
    fn the_form_for_lanes_gives_the_same_words() {
        let mut words = [1, 2, 3, 4];
        for round in 0..1000 {
            let key = words;
            words = threefry(key, [round, 7, round / 3, 1]);
            assert_eq!(crate::math32::threefry([round, 7, round / 3, 1], key), words);
        }
    }

    #[test]
    fn words_are_numbered_by_block() {
        let key = Key { seed: 0x0000_0002_0000_0001, stream: 0x0000_0004_0000_0003 };
        let words = random_words(key, 9, 6);
        assert_eq!(words[..4], threefry([1, 2, 3, 4], [0, 0, 9, 0]));
        assert_eq!(words[4..], threefry([1, 2, 3, 4], [1, 0, 9, 0])[..2]);
        assert!(random_words(key, 9, 0).is_empty());
    }
}
