//! Random bits, uniform and normal numbers.

use super::logarithm::{log_join, log_split};

/// Words of the key schedule: the rotations of rounds `8i … 8i+3` and `8i+4 … 8i+7` (Salmon et al. 2011, table 2).
const ROTATIONS: [[u32; 2]; 8] =
    [[10, 26], [11, 21], [13, 27], [23, 5], [6, 20], [17, 11], [25, 10], [18, 20]];

/// Threefry4x32-20: four random words from a counter `(block low, block high, step, draw)` and a key `(seed low, seed
/// high, stream low, stream high)`.
///
/// Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3, SC'11.
#[inline(always)]
pub fn threefry(counter: [u32; 4], key: [u32; 4]) -> [u32; 4] {
    let parity = 0x1bd1_1bda ^ key[0] ^ key[1] ^ key[2] ^ key[3];
    let schedule = [key[0], key[1], key[2], key[3], parity];
    let mut x = [0; 4];
    for lane in 0..4 {
        x[lane] = counter[lane].wrapping_add(key[lane]);
    }
    for round in 0..20 {
        let [even, odd] = ROTATIONS[round % 8];
        // rounds alternate between the pairs (0,1), (2,3) and (0,3), (2,1)
        let (a, b) = if round % 2 == 0 { (1, 3) } else { (3, 1) };
        x[0] = x[0].wrapping_add(x[a]);
        x[a] = x[a].rotate_left(even) ^ x[0];
        x[2] = x[2].wrapping_add(x[b]);
        x[b] = x[b].rotate_left(odd) ^ x[2];
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            for lane in 0..4 {
                x[lane] = x[lane].wrapping_add(schedule[(injection + lane) % 5]);
            }
            x[3] = x[3].wrapping_add(injection as u32);
        }
    }
    x
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
