//! The CPU device: executes the same kernels as the GPU, natively.
//!
//! **Lanes.** A [`Loop`](cotangent_shaders::Loop) is compiled once into a [`program::Program`]: operations over *rows* of
//! 256 to 1024 lanes. One operation handles a row, so that the cost of interpreting it is paid once per several hundred
//! elements and every inner loop is a plain slice loop that vectorizes ([`lanes`]). Rows are registers in the first
//! cache, or memory itself: contiguous loads are read where they lie, and a value that is stored contiguously is computed
//! where it belongs. Everything that can be decided before the first run is decided in [`compile`]: what depends on no
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
//! **Numbers.** Lanes are f32; truth values are 1.0 and 0.0 there, 1 and 0 in buffers; integers keep their 32 bits; F16
//! exists in buffers only. Sums run in f32 for at most 64 additions and go on in f64. Signed zeros, denormals, infinities
//! and NaN behave as on the reference; an index out of range reads zero and is reported when the kernel has run.
//!
//! **Absent.** No `unsafe` but the checked call of `gemm` in [`crate::raw`]; no formula (operations come from the tables
//! of `cotangent-tensor`); no global state but the pool of threads; no allocation of the size of a tensor after the first run.

mod buffers;
mod compile;
mod epilogue;
mod execute;
mod geometry;
mod lanes;
mod loops;
mod matmul;
mod memory;
mod program;
mod recurrence;
mod reduction;
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
use loops::Loops;
use matmul::Product;
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
        Ok(Executable { kernels: kernels.collect::<Result<_, _>>()?, arch: Arch::new() })
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
        for kernel in &self.kernels[range] {
            let result = words.lend(&kernel.read, &kernel.written, |inputs, written| {
                kernel.run(self.arch, inputs, written)
            });
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
        let storage = |b: BufferId| {
            if let Source::Computed { slot } = plan.buffers[b].source { plan.buffers.len() + slot } else { b }
        };
        let written_bindings: Vec<usize> =
            (0..bindings.len()).filter(|&b| bindings[b].access != Access::Read).collect();
        for &b in &written_bindings {
            let same = bindings.iter().filter(|other| storage(other.buffer) == storage(bindings[b].buffer));
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
        })
    }
    fn run(&self, arch: Arch, inputs: &[&[u32]], written: &mut [Vec<u32>]) -> Result<(), Error> {
        let words = written.iter_mut().map(Vec::as_mut_slice);
        let mut written: Vec<(usize, &mut [u32])> =
            self.written_bindings.iter().copied().zip(words).collect();
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
        outcome.map_err(|Fault { what, position }| match what {
            Wrong::Index { name, index, size } => index_error(name, position, index, size).at(self.location),
            Wrong::Endless(looped) => endless_error(&looped.name, looped.rounds, position).at(self.location),
        })
    }
}
