//! Sums of products of two buffers: a matrix times a vector, row by row, and its transpose times a vector.
//!
//! A sweep that does nothing else needs no operation per row of lanes: rows of the matrix are multiplied where they lie, and
//! only sums are kept. Sums round as those of [`super::reduction`] do: at most 64 additions in f32, then f64.

use pulp::Arch;

use super::geometry::Access;
use super::lanes;
use super::program::Program;
use super::reduction::{Kind, Running, State};

/// The products that a sweep adds up, one for each reduction of the program.
#[derive(Debug)]
pub(super) struct Products {
    pub(super) along: Along,
    pub(super) each: Vec<Product>,
}

/// How the matrices lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Along {
    /// What is summed over lies side by side: a lane is an inner product.
    Rows,
    /// Lanes lie side by side: a step adds a row times a number to all lanes.
    Columns,
}

/// A matrix and a vector. [`Along::Rows`]: or two matrices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) matrix: Factor,
    pub(super) vector: Factor,
}

/// Elements of a buffer: `base + lane · l + walk · j` for lane `l` and step `j`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor {
    pub(super) binding: usize,
    /// The access whose base it has.
    pub(super) access: usize,
    pub(super) lane: usize,
    pub(super) walk: usize,
}

impl Factor {
    /// The elements from a step on.
    pub(super) fn from<'a>(
        &self,
        accesses: &[Access],
        origin: &[usize],
        step: usize,
        inputs: &[&'a [u32]],
    ) -> &'a [f32] {
        let base = usize::try_from(accesses[self.access].base(origin)).unwrap_or(usize::MAX);
        bytemuck::cast_slice(&inputs[self.binding][base.saturating_add(step * self.walk)..])
    }
}

impl Products {
    /// Adds the products of some steps, on the lanes of the unit that starts at `origin`.
    #[expect(clippy::too_many_arguments, reason = "the place of execution")]
    pub(super) fn add(
        &self,
        arch: Arch,
        program: &Program,
        origin: &[usize],
        steps: std::ops::Range<usize>,
        inputs: &[&[u32]],
        running: &mut [Running],
        states: &mut [Vec<State>],
    ) {
        let sums = running.iter_mut().zip(states);
        for (Product { matrix, vector }, (running, totals)) in self.each.iter().zip(sums) {
            let [x, w] =
                [matrix, vector].map(|factor| factor.from(&program.accesses, origin, steps.start, inputs));
            match self.along {
                Along::Rows => {
                    lanes::inner_products(arch, totals, x, w, [matrix.lane, vector.lane], steps.len());
                }
                Along::Columns => {
                    running.add_scaled(arch, x, matrix.walk, w, vector.walk, steps.len(), totals);
                }
            }
        }
    }
}

/// Sums by columns that go on from block to block of rows.
#[derive(Debug)]
pub(super) struct Sums {
    running: Vec<Running>,
    pub(super) totals: Vec<Vec<State>>,
}

impl Sums {
    pub(super) fn new(count: usize, lanes: usize) -> Sums {
        let mut sums = Sums {
            running: (0..count).map(|_| Running::default()).collect(),
            totals: vec![Vec::new(); count],
        };
        for (running, totals) in sums.running.iter_mut().zip(&mut sums.totals) {
            running.start(Kind::Sum, lanes, totals);
        }
        sums
    }
    /// Adds rows, each times a number.
    #[expect(clippy::too_many_arguments, reason = "two operands")]
    pub(super) fn add(
        &mut self,
        arch: Arch,
        which: usize,
        rows: &[f32],
        walk: usize,
        factors: &[f32],
        step: usize,
        count: usize,
    ) {
        self.running[which].add_scaled(arch, rows, walk, factors, step, count, &mut self.totals[which]);
    }
    pub(super) fn finish(&mut self, arch: Arch) {
        for (running, totals) in self.running.iter_mut().zip(&mut self.totals) {
            running.finish(arch, Kind::Sum, totals);
        }
    }
}
