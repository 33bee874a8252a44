//! The CPU device: executes the same kernels as the GPU, natively.
//!
//! **Lanes.** A [`Loop`](cotangent_shaders::Loop) is compiled once into a [`program::Program`]: operations over *rows* of
//! 512 to 2048 lanes. One operation handles a row, so that the cost of interpreting it is paid once per several hundred
//! elements and every inner loop is a plain slice loop that vectorizes ([`lanes`]). Rows are registers in the first
//! cache, or memory itself: contiguous loads are read where they lie, and a value that is stored contiguously is computed
//! where it belongs, unless so much is stored that it would leave the caches before anybody reads it: then it goes past them.
//! Operations on registers run inside one loop that is compiled for each instruction set (`execute/interpret.rs`), two that
//! follow each other as one (`compile/pairs.rs`). Everything that can be decided before the first run is decided in [`compile`]: what depends on no
//! coordinate runs once per thread (the *prologue*), constants are rows filled there, temporaries share registers, and
//! every access to memory has become a base per block and a pattern of lanes.
//!
//! **Two directions.** Lanes run over the kept dimensions (*vertical*: maps, column reductions, and many short rows
//! side by side) or over the reduced ones (*horizontal*: long rows, totals). A reduced dimension is walked in sweeps; in
//! between stands kept-level code. Where all elements of a row fit, values that a later sweep needs stay in registers, and
//! a softmax row computes its exponentials once; longer rows compute them again.
//!
//! **Tasks.** [`loops`] cuts the kept elements, or the sweeps of a few long reductions, into tasks of a fixed size and
//! hands them to the calling thread and to those of the current rayon pool, which is our own ([`threads`]); plans of small
//! kernels stay on the calling thread. A
//! task owns the parts of the buffers it writes, as exclusive slices: where the stores of a kernel do not allow such a cut,
//! the kernel is one task. Partial results combine in task order ([`reduction`]). So a result depends neither on the number
//! of threads nor on the instruction set, down to the last bit; only matrix products may differ between processors, whose
//! caches decide how `gemm` blocks its sums.
//!
//! **Matrices and vectors.** A sweep that only adds up products of two buffers runs as such, without operations per row of lanes
//! ([`products`]). Where such a loop multiplies the rows of a large matrix and a later one sums these rows times what the first
//! made of the products, as in the gradient of a linear model, both take turns block by block when the whole plan is run, and
//! the matrix is read once (`loops/paired.rs`). Run for themselves they give the same bits.
//!
//! **Numbers.** Lanes are f32; truth values are 1.0 and 0.0 there, 1 and 0 in buffers; integers keep their 32 bits; F16
//! exists in buffers only. Sums run in f32 for at most 64 additions and go on in f64. Signed zeros, denormals, infinities
//! and NaN behave as on the reference; an index out of range reads zero and is reported when the kernel has run.
//!
//! **Absent.** No `unsafe` but the checked call of `gemm` in [`crate::raw`]; no formula (operations come from the tables
//! of `cotangent-tensor`); no global state but the pool of threads; no allocation of the size of a tensor after the first run.

mod buffers;
mod calculation;
mod chain;
mod compile;
mod epilogue;
mod execute;
mod geometry;
mod lanes;
mod loops;
mod matmul;
mod memory;
mod products;
mod program;
mod recurrence;
mod reduction;
mod registers;
mod scan;
mod scatter;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
mod user;
mod values;
mod wide;

use std::ops::Range;
use std::panic::Location;

use cotangent_shaders::{Access, Body, BufferId, Kernel, Plan, Scan, Source, User};
use cotangent_tensor::{Code, Error, endless_error, index_error};
use pulp::Arch;

pub(crate) use buffers::Words;
pub use buffers::{Buffers, Variable, pack, unpack};
use execute::{Fault, Wrong};
use loops::{Bound, Loops, Pair};
use matmul::Product;
use reduction::State;
use scatter::Scattered;

/// Roundings that a term of a sum passes through, at most: 64 additions in f32, a tree over the lanes of a row, and what
/// the f64 that follows may add up to.
pub(crate) const CHAIN: usize = 96;

/// A plan, compiled for this machine.
#[derive(Debug)]
pub struct Executable {
    kernels: Vec<Compiled>,
    arch: Arch,
}

#[derive(Debug)]
struct Compiled {
    location: &'static Location<'static>,
    /// The buffer of each binding.
    read: Vec<BufferId>,
    /// The buffers that are written, and their bindings.
    written: Vec<BufferId>,
    written_bindings: Vec<usize>,
    body: Executor,
    /// The kernel after it whose sweep runs along with this one, and how.
    along: Option<(usize, Pair)>,
}

#[derive(Debug)]
enum Executor {
    Loop(Loops),
    Matmul(Product),
    Scan(Scan),
    Scattered(Scattered),
    User(User),
}

impl Executable {
    /// Decides everything that can be decided before the first run.
    ///
    /// Error: [`Code::Internal`] for a kernel that breaks the contract, such as a load outside its buffer.
    pub fn compile(plan: &Plan) -> Result<Executable, Error> {
        let kernels = plan.kernels.iter().map(|kernel| Compiled::new(kernel, plan));
        let mut executable = Executable { kernels: kernels.collect::<Result<_, _>>()?, arch: Arch::new() };
        executable.pair(plan);
        Ok(executable)
    }
    /// Finds kernels whose sweeps run along with one before them.
    fn pair(&mut self, plan: &Plan) {
        let same = |a: BufferId, b: BufferId| storage(plan, a) == storage(plan, b);
        for number in 0..self.kernels.len() {
            let (before, after) = self.kernels.split_at_mut(number + 1);
            let first = &mut before[number];
            let Executor::Loop(loops) = &mut first.body else { continue };
            if !loops.is_first() {
                continue;
            }
            for at in 0..after.len() {
                let (between, second) = after.split_at_mut(at);
                let Some(second) = second.first_mut() else { break };
                let Executor::Loop(following) = &mut second.body else { continue };
                if !following.is_second() {
                    continue;
                }
                // What the sweep reads must be there when the first kernel has run, and stay until its own turn.
                let read: Vec<BufferId> = following.swept().map(|binding| second.read[binding]).collect();
                let mut between = between.iter().flat_map(|kernel| &kernel.written);
                if between.any(|&written| read.iter().any(|&read| same(read, written))) {
                    continue;
                }
                let bound = Bound {
                    first: &first.read,
                    second: &second.read,
                    written: &first.written_bindings,
                    same_memory: &same,
                };
                if let Some(pair) = loops.pair(following, &bound) {
                    first.along = Some((number + 1 + at, pair));
                    break;
                }
            }
        }
    }
    /// The kernel whose sweep runs along with this one, if both are run.
    pub(crate) fn along(&self, kernel: usize) -> Option<usize> {
        self.kernels[kernel].along.as_ref().map(|(second, _)| *second)
    }
    /// Runs all kernels in order.
    ///
    /// Error: [`Code::Index`] for the first index out of range, after all kernels: as on an adapter, where nothing can be
    /// stopped, so that variables are what they are there.
    pub fn run(&self, buffers: &mut Buffers) -> Result<(), Error> {
        self.run_kernels(0..self.kernels.len(), &mut buffers.open().words)
    }
    /// Runs some of the kernels in order.
    pub(crate) fn run_kernels(&self, range: Range<usize>, words: &mut Words<'_>) -> Result<(), Error> {
        let mut outcome = Ok(());
        let mut ahead: Vec<(usize, Vec<Vec<State>>)> = Vec::new();
        for number in range.clone() {
            let kernel = &self.kernels[number];
            let result = match (&kernel.along, ahead.iter().position(|(second, _)| *second == number)) {
                (Some((second, pair)), _) if range.contains(second) => {
                    let other = &self.kernels[*second];
                    let read = [&kernel.read[..], &other.read].concat();
                    let (totals, result) = words.lend(&read, &kernel.written, |inputs, written| {
                        kernel.run_along(self.arch, inputs, written, (other, pair))
                    });
                    ahead.push((*second, totals));
                    result
                }
                (_, Some(at)) => {
                    let (_, totals) = ahead.swap_remove(at);
                    words.lend(&kernel.read, &kernel.written, |inputs, written| {
                        kernel.run_after(self.arch, inputs, written, &totals)
                    })
                }
                (_, None) => words.lend(&kernel.read, &kernel.written, |inputs, written| {
                    kernel.run(self.arch, inputs, written)
                }),
            };
            outcome = outcome.and(result);
        }
        outcome
    }
    /// Number of kernels.
    pub(crate) fn len(&self) -> usize {
        self.kernels.len()
    }
    /// Whether a kernel runs on several threads.
    pub(crate) fn is_parallel(&self) -> bool {
        self.kernels.iter().any(|kernel| match &kernel.body {
            Executor::Loop(loops) => loops.is_parallel(),
            Executor::Matmul(product) => product.is_parallel(),
            Executor::Scan(scan) => scan::is_parallel(scan),
            Executor::Scattered(scattered) => scattered.is_parallel(),
            Executor::User(_) => false,
        })
    }
    /// Words that kernels keep for themselves.
    pub(crate) fn scratch(&self) -> usize {
        let own = |kernel: &Compiled| match &kernel.body {
            Executor::Matmul(product) => product.scratch(),
            Executor::Scattered(scattered) => scattered.scratch(),
            Executor::Loop(_) | Executor::Scan(_) | Executor::User(_) => 0,
        };
        self.kernels.iter().map(own).sum()
    }
}

impl Compiled {
    fn new(kernel: &Kernel, plan: &Plan) -> Result<Compiled, Error> {
        let wrong = |message: String| {
            Error::new(Code::Internal, "cpu", format!("{message} in kernel {kernel}")).at(kernel.location)
        };
        let bindings = &kernel.bindings;
        let elements: Vec<usize> = bindings.iter().map(|b| plan.buffers[b.buffer].elements).collect();
        let written_bindings: Vec<usize> =
            (0..bindings.len()).filter(|&b| bindings[b].access != Access::Read).collect();
        for &b in &written_bindings {
            let own = storage(plan, bindings[b].buffer);
            let same = bindings.iter().filter(|other| storage(plan, other.buffer) == own);
            if same.count() > 1 {
                return Err(wrong(format!("binding {b} is written and bound again")));
            }
        }
        let body = match &kernel.body {
            Body::Loop(body) => match Scattered::of(body, bindings, &elements) {
                Ok(Some(scattered)) => Ok(Executor::Scattered(scattered)),
                Ok(None) => Loops::new(body, bindings, &elements).map(Executor::Loop),
                Err(error) => Err(error),
            },
            Body::Matmul(matmul) => matmul::check(matmul, &elements)
                .and_then(|()| Product::new(matmul, bindings, &elements))
                .map(Executor::Matmul),
            Body::Scan(scan) => {
                let total = scan.outer * scan.length * scan.inner;
                let fits = scan.input_offset + total <= elements[scan.input]
                    && scan.output_offset + total <= elements[scan.output];
                if fits {
                    Ok(Executor::Scan(scan.clone()))
                } else {
                    Err("a scan beyond its buffer".to_owned())
                }
            }
            Body::User(user) => user::check(user, &elements).map(|()| Executor::User(user.clone())),
        };
        Ok(Compiled {
            location: kernel.location,
            read: bindings.iter().map(|b| b.buffer).collect(),
            written: written_bindings.iter().map(|&b| bindings[b].buffer).collect(),
            written_bindings,
            body: body.map_err(wrong)?,
            along: None,
        })
    }
    /// Runs the kernel and the sweep of another one. `inputs` are those of both.
    fn run_along(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [Vec<u32>],
        (other, pair): (&Compiled, &Pair),
    ) -> (Vec<Vec<State>>, Result<(), Error>) {
        let (own, others) = inputs.split_at(self.read.len());
        match (&self.body, &other.body) {
            (Executor::Loop(loops), Executor::Loop(second)) => {
                let mut written = self.bound(written);
                let (totals, outcome) = loops.run_along(arch, own, &mut written, (second, pair), others);
                (totals, outcome.map_err(|fault| self.report(fault)))
            }
            _ => (Vec::new(), self.run(arch, own, written)),
        }
    }
    /// Runs what is left of a kernel whose sweep has run along with another.
    fn run_after(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [Vec<u32>],
        totals: &[Vec<State>],
    ) -> Result<(), Error> {
        let Executor::Loop(loops) = &self.body else { return self.run(arch, inputs, written) };
        let outcome = loops.run_after(arch, inputs, &mut self.bound(written), totals);
        outcome.map_err(|fault| self.report(fault))
    }
    /// The written words with their bindings.
    fn bound<'a>(&self, written: &'a mut [Vec<u32>]) -> Vec<(usize, &'a mut [u32])> {
        self.written_bindings.iter().copied().zip(written.iter_mut().map(Vec::as_mut_slice)).collect()
    }
    fn run(&self, arch: Arch, inputs: &[&[u32]], written: &mut [Vec<u32>]) -> Result<(), Error> {
        let mut written = self.bound(written);
        let outcome = match &self.body {
            Executor::Loop(loops) => loops.run(arch, inputs, &mut written),
            Executor::Matmul(product) => product.run(arch, inputs, &mut written),
            Executor::Scattered(scattered) => scattered.run(arch, inputs, &mut written),
            Executor::User(user) => {
                return user::run(user, inputs, &mut written).map_err(|error| error.at(self.location));
            }
            Executor::Scan(scan) => {
                if let Some((_, output)) = written.iter_mut().find(|(binding, _)| *binding == scan.output) {
                    scan::run(scan, inputs[scan.input], output);
                }
                Ok(())
            }
        };
        outcome.map_err(|fault| self.report(fault))
    }
    fn report(&self, Fault { what, position }: Fault) -> Error {
        match what {
            Wrong::Index { name, index, size } => index_error(name, position, index, size).at(self.location),
            Wrong::Endless(looped) => endless_error(&looped.name, looped.rounds, position).at(self.location),
        }
    }
}

/// Where a buffer lies: computed ones share slots.
fn storage(plan: &Plan, buffer: BufferId) -> usize {
    match plan.buffers[buffer].source {
        Source::Computed { slot } => plan.buffers.len() + slot,
        _ => buffer,
    }
}
