//! What the tests of this crate share: a deterministic generator and short forms.
#![allow(dead_code, reason = "each test binary uses a part")]

use cotangent_tensor::random::random_block;
use cotangent_tensor::{Array, Evaluate, Key, Reference, Tensor};

/// Numbers from the library's own counter-based generator; a seed names a test.
pub(crate) struct Random {
    key: Key,
    drawn: u32,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { key: Key::new(seed), drawn: 0 }
    }
    pub(crate) fn word(&mut self) -> u32 {
        let word = random_block(self.key, 0, self.drawn / 4)[self.drawn as usize % 4];
        self.drawn += 1;
        word
    }
    /// A whole number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }
    pub(crate) fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high + 1 - low)
    }
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.word()) / 2f64.powi(32)
    }
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
    /// Distinct axes below `rank`, sorted, perhaps none.
    pub(crate) fn axes(&mut self, rank: usize) -> Vec<isize> {
        (0..rank as isize).filter(|_| self.below(2) == 0).collect()
    }
    /// A random order of `0..n`.
    pub(crate) fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
    /// Small whole numbers, on which sums and products are exact.
    pub(crate) fn whole(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.below(9) as f64 - 4.0).collect()
    }
    pub(crate) fn shape(&mut self, rank: usize, longest: usize) -> Vec<usize> {
        (0..rank).map(|_| self.range(1, longest)).collect()
    }
}

/// The value of a tensor that needs no inputs.
pub(crate) fn value(tensor: &Tensor) -> Array {
    Reference::new().evaluate(&[tensor]).expect("the tensor is valid and needs no inputs").remove(0)
}

/// Its elements, row-major.
pub(crate) fn elements(tensor: &Tensor) -> Vec<f64> {
    value(tensor).to_f64()
}

/// Equal as bits but for the sign of zero; NaN equals NaN.
pub(crate) fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan())
}
