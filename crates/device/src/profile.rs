//! Where the time of a step goes.

use std::fmt;
use std::hint::black_box;
use std::panic::Location;
use std::time::Instant;

use cotangent_shaders::cost;
use cotangent_tensor::{Error, Tensor};

use crate::device::{Body, Device};
use crate::feed::Feed;
use crate::gpu::profile::roof;
use crate::info::Kind;
use crate::step::Step;

/// What a device can do at most, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    /// Bytes read and written per second while copying.
    pub bytes_per_second: f64,
    /// Multiplications and additions of f32 per second.
    pub flops_per_second: f64,
}

/// One kernel of a profile.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// The kernel's name.
    pub name: String,
    /// The user's line of the last node it computes.
    pub location: &'static Location<'static>,
    /// Seconds in this run.
    pub seconds: f64,
    /// Bytes read and written, each element once.
    pub bytes: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// The larger share of the two roofs, in percent.
    pub percent_of_roof: f64,
}

/// The kernels of one run with their times.
#[derive(Clone, Debug)]
pub struct Profile {
    /// In execution order.
    pub kernels: Vec<KernelTime>,
    /// What they are measured against.
    pub roof: Roof,
    /// Whether the adapter's own timestamps were used. If not, times include starting the work and waiting for it.
    pub timestamps: bool,
}

impl Device {
    /// Measures, once, how fast the device copies and computes.
    pub fn roof(&self) -> Result<Roof, Error> {
        if let Some(roof) = self.0.roof.get() {
            return Ok(*roof);
        }
        let measured = match &self.0.body {
            Body::Host => host_roof(self.0.info.threads),
            Body::Gpu(gpu) => {
                let info = self.info();
                roof(gpu, &info.target, info.kind == Kind::Software)?
            }
        };
        Ok(*self.0.roof.get_or_init(|| measured))
    }
}

impl Step {
    /// Runs once, with every kernel timed for itself. State advances as in any run.
    pub fn profile(&self, inputs: &[(&Tensor, &dyn Feed)]) -> Result<Profile, Error> {
        let roof = self.device().roof()?;
        let seconds = self.program().seconds(&self.given(inputs)?)?;
        let time = |(number, seconds): (usize, f64)| {
            let kernel = &self.plan().kernels[number];
            let cost = cost(kernel);
            let least = (cost.bytes / roof.bytes_per_second).max(cost.flops / roof.flops_per_second);
            KernelTime {
                name: kernel.name.clone(),
                location: kernel.location,
                seconds,
                bytes: cost.bytes,
                flops: cost.flops,
                percent_of_roof: 100.0 * least / seconds.max(1e-12),
            }
        };
        let kernels = seconds.into_iter().enumerate().map(time).collect();
        let timestamps = match &self.device().0.body {
            Body::Host => false,
            Body::Gpu(gpu) => gpu.timestamps,
        };
        Ok(Profile { kernels, roof, timestamps })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: f64 = self.kernels.iter().map(|kernel| kernel.seconds).sum();
        writeln!(f, "      time     GB/s  GFLOP/s  % of roof  kernel")?;
        for KernelTime { name, location, seconds, bytes, flops, percent_of_roof } in &self.kernels {
            let rate = |work: &f64| work / seconds.max(1e-12) * 1e-9;
            writeln!(
                f,
                "{:7.1} µs {:8.2} {:8.2} {percent_of_roof:10.1}  {name} ({}:{})",
                1e6 * seconds,
                rate(bytes),
                rate(flops),
                location.file(),
                location.line(),
            )?;
        }
        let Roof { bytes_per_second, flops_per_second } = self.roof;
        write!(
            f,
            "{:7.1} µs in {} kernels; roof {:.1} GB/s, {:.1} GFLOP/s",
            1e6 * total,
            self.kernels.len(),
            1e-9 * bytes_per_second,
            1e-9 * flops_per_second,
        )
    }
}

/// Copies 32 MiB per thread, and multiplies and adds in registers.
fn host_roof(threads: usize) -> Roof {
    const WORDS: usize = 8 << 20;
    const ROUNDS: u32 = 200_000;
    const LANES: usize = 64;
    let on_all = |work: &(dyn Fn() -> f64 + Sync)| {
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            // A thread that panicked measured nothing.
            handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum::<f64>()
        })
    };
    let copy = || {
        let source = vec![1u32; WORDS];
        let mut target = vec![2u32; WORDS];
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
            best = best.min(start.elapsed().as_secs_f64());
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let bytes = 8.0 * WORDS as f64;
        bytes / best
    };
    let arithmetic = || {
        let (m, c) = black_box((0.999_f32, 0.001_f32));
        let mut lanes = [1.0_f32; LANES];
        let start = Instant::now();
        for _ in 0..ROUNDS {
            for lane in &mut lanes {
                *lane = *lane * m + c;
            }
        }
        black_box(&mut lanes);
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let flops = 2.0 * LANES as f64 * f64::from(ROUNDS);
        flops / start.elapsed().as_secs_f64()
    };
    Roof { bytes_per_second: on_all(&copy), flops_per_second: on_all(&arithmetic) }
}
