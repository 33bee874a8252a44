//! Random bits, uniform and normal numbers.

use super::logarithm::{log_join, log_split};

/// Two rounds: mix words (0, 1) and (2, 3), then (0, 3) and (2, 1).
#[inline(always)]
fn two_rounds(x: [u32; 4], rotations: [u32; 4]) -> [u32; 4] {
    let [a, b, c, d] = x;
    let a = a.wrapping_add(b);
    let b = b.rotate_left(rotations[0]) ^ a;
    let c = c.wrapping_add(d);
    let d = d.rotate_left(rotations[1]) ^ c;
    let a = a.wrapping_add(d);
    let d = d.rotate_left(rotations[2]) ^ a;
    let c = c.wrapping_add(b);
    let b = b.rotate_left(rotations[3]) ^ c;
    [a, b, c, d]
}

/// Four rounds, first half of the rotation table (Salmon et al. 2011, table 2).
#[inline(always)]
fn four_rounds_first(x: [u32; 4]) -> [u32; 4] {
    two_rounds(two_rounds(x, [10, 26, 11, 21]), [13, 27, 23, 5])
}

/// Four rounds, second half of the rotation table.
#[inline(always)]
fn four_rounds_second(x: [u32; 4]) -> [u32; 4] {
    two_rounds(two_rounds(x, [6, 20, 17, 11]), [25, 10, 18, 20])
}

/// Adds words of the key schedule, and the number of the injection to the last.
#[inline(always)]
fn inject(x: [u32; 4], words: [u32; 4], number: u32) -> [u32; 4] {
    [
        x[0].wrapping_add(words[0]),
        x[1].wrapping_add(words[1]),
        x[2].wrapping_add(words[2]),
        x[3].wrapping_add(words[3]).wrapping_add(number),
    ]
}

/// Threefry4x32-20: four random words from a counter `(block low, block high, step, draw)` and a key `(seed low, seed
/// high, stream low, stream high)`.
///
/// Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3, SC'11.
#[inline(always)]
pub fn threefry(counter: [u32; 4], key: [u32; 4]) -> [u32; 4] {
    let [p, q, r, s] = key;
    let parity = 0x1bd1_1bda ^ p ^ q ^ r ^ s;
    let x = inject(counter, key, 0);
    let x = inject(four_rounds_first(x), [q, r, s, parity], 1);
    let x = inject(four_rounds_second(x), [r, s, parity, p], 2);
    let x = inject(four_rounds_first(x), [s, parity, p, q], 3);
    let x = inject(four_rounds_second(x), [parity, p, q, r], 4);
    inject(four_rounds_first(x), [p, q, r, s], 5)
}

/// `2^−24`.
const STEP: f32 = 1.0 / 16_777_216.0;

/// Uniform number in [0, 1) from the upper 24 bits of a random word; exact.
#[inline(always)]
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as i32 as f32 * STEP
}

/// Uniform number in (0, 1] from the upper 24 bits of a random word; exact.
#[inline(always)]
pub fn uniform_positive(word: u32) -> f32 {
    ((word >> 8) as i32 + 1) as f32 * STEP
}

/// Two independent standard normal numbers from two random words (Box and Muller 1958):
/// `√(−2 ln u₁) · (cos 2πu₂, sin 2πu₂)` with `u₁ ∈ (0, 1]`, `u₂ ∈ [0, 1)`.
///
/// The angle is reduced in turns, hence exactly. Error: [`NORMAL`](super::promise::NORMAL) ULP of each.
#[inline(always)]
pub fn normal(word0: u32, word1: u32) -> [f32; 2] {
    let (f, k) = log_split(uniform_positive(word0));
    let radius = (-2.0 * log_join(f, k)).sqrt();
    let turns = word1 >> 8;
    let quarter = (turns + (1 << 21)) >> 22;
    let rest = (turns as i32).wrapping_sub((quarter << 22) as i32) as f32 * STEP;
    let (s, c) = (sin_turns(rest), cos_turns(rest));
    let (s, c) = if quarter & 1 == 0 { (s, c) } else { (c, -s) };
    let flip = (quarter & 2) << 30;
    [radius * f32::from_bits(c.to_bits() ^ flip), radius * f32::from_bits(s.to_bits() ^ flip)]
}

/// `sin 2πt` for `|t| ≤ ⅛`, relative error 3e-8.
#[inline(always)]
fn sin_turns(t: f32) -> f32 {
    let z = t * t;
    t * (std::f32::consts::TAU + z * (-41.341_866 + z * (81.625_62 + z * -76.774_284)))
}

/// `cos 2πt` for `|t| ≤ ⅛`, relative error 5e-10.
#[inline(always)]
fn cos_turns(t: f32) -> f32 {
    let z = t * t;
    1.0 + z * (-19.739_208 + z * (64.939_15 + z * (-85.424_51 + z * 58.619_244)))
}
