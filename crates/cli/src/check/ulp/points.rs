//! Arguments at which functions are measured: bit patterns, so that nothing depends on a range somebody thought of.

use cotangent::random::random_words;
use cotangent::ulp::{BRANCH_POINTS, SPECIAL};
use cotangent::{Elementwise, Key};

/// Mantissas of every sign and exponent of one argument: 2 · 255 · 2056 points are 2²⁰ and some.
const MANTISSAS: u32 = 2056;

/// Mantissas of every combination of two signs and exponents: 510² · 4 pairs are 2²⁰.
const PAIRS: u32 = 4;

/// Neighbors of a branch point on either side.
const NEIGHBORS: i32 = 24;

/// Largest magnitudes of numbers that are evenly distributed.
const SPANS: [f32; 4] = [1.0, 4.0, 20.0, 110.0];

/// Special values: they are judged apart.
pub(super) fn special(row: Elementwise) -> Vec<Vec<f32>> {
    let mut values = SPECIAL.to_vec();
    // NaN with unusual payloads and signs
    values.extend([0x7f80_0001, 0x7fff_ffff, 0xffc0_0000, 0xff80_0001].map(f32::from_bits));
    match row.arity() {
        1 => vec![values],
        _ => {
            let pairs = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b)));
            let (first, second) = pairs.unzip();
            vec![first, second]
        }
    }
}

/// Every sign and exponent, and the neighbors of every branch point: one column for each operand.
pub(super) fn stratified(row: Elementwise) -> Vec<Vec<f32>> {
    if row.arity() == 1 { vec![singles()] } else { pairs() }
}

/// The number with this sign and exponent and the upper bits of a word as its mantissa.
fn number(stratum: u32, word: u32) -> f32 {
    f32::from_bits((stratum / 255) << 31 | (stratum % 255) << 23 | word >> 9)
}

/// A number between −1 and 1.
fn unit(word: u32) -> f32 {
    2.0 * (word >> 8) as f32 / 16_777_216.0 - 1.0
}

/// Branch points of both signs with their neighbors.
fn neighbors() -> Vec<f32> {
    let around = |x: f32| {
        (-NEIGHBORS..=NEIGHBORS).map(move |step| f32::from_bits(x.to_bits().wrapping_add_signed(step)))
    };
    let largest = [f32::MIN_POSITIVE, f32::from_bits(f32::MAX.to_bits() - NEIGHBORS as u32)];
    let points = BRANCH_POINTS.iter().chain(&largest);
    points.flat_map(|&point| around(point).flat_map(|x| [x, -x])).collect()
}

fn singles() -> Vec<f32> {
    let mut all = neighbors();
    for stratum in 0..510 {
        let words = random_words(Key::new(0).stream("ulp"), stratum, MANTISSAS as usize / 2);
        for (position, word) in (0..MANTISSAS / 2).zip(words) {
            // one half anywhere, the other evenly, with the first and the last mantissa
            let even = (u64::from(position) * u64::from(u32::MAX) / u64::from(MANTISSAS / 2 - 1)) as u32;
            all.extend([number(stratum, word), number(stratum, even)]);
        }
    }
    // most functions bend between the units and the hundreds, where there are few exponents
    for word in random_words(Key::new(3).stream("ulp"), 0, 1 << 17) {
        all.extend(SPANS.map(|span| span * unit(word)));
    }
    all
}

fn pairs() -> Vec<Vec<f32>> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut add = |a: f32, b: f32| {
        first.push(a);
        second.push(b);
    };
    for a in 0..510 {
        let words = random_words(Key::new(1).stream("ulp"), a, (510 * PAIRS * 2) as usize);
        for (position, words) in words.chunks_exact(2).enumerate() {
            add(number(a, words[0]), number(position as u32 % 510, words[1]));
        }
    }
    for &a in SPECIAL.iter().chain(BRANCH_POINTS) {
        for &b in SPECIAL.iter().chain(BRANCH_POINTS) {
            add(a, b);
            add(-a, b);
            add(a, -b);
        }
    }
    // moderate pairs, where results of powers and angles are neither 0 nor infinite
    let words = random_words(Key::new(2).stream("ulp"), 0, 1 << 18);
    for words in words.chunks_exact(2) {
        let (u, v) = (unit(words[0]), unit(words[1]));
        add(u, v);
        add(10.0 * u.abs(), 40.0 * v);
        add(1.0 + 0.01 * u, 5000.0 * v);
        add(1000.0 * u, 0.01 * v);
        add(number(words[0] % 255, words[1]), 3.0 * v);
    }
    vec![first, second]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_sign_and_exponent_is_there_in_the_number_stated() {
        let strata =
            |values: &[f32]| values.iter().map(|x| x.to_bits() >> 23).collect::<BTreeSet<u32>>().len();
        let one = stratified(Elementwise::Exp);
        assert!(one[0].len() >= 1 << 20 && strata(&one[0]) >= 510, "{}", one[0].len());
        let two = stratified(Elementwise::Pow);
        assert_eq!(two[0].len(), two[1].len());
        assert!(two[0].len() >= 1 << 20);
        let both: BTreeSet<(u32, u32)> =
            two[0].iter().zip(&two[1]).map(|(a, b)| (a.to_bits() >> 23, b.to_bits() >> 23)).collect();
        assert!(both.len() >= 510 * 510, "{}", both.len());
    }
}
