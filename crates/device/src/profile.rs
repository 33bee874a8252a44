//! Where the time of a step goes.

mod roof;

use std::fmt;
use std::panic::Location;

use cotangent_shaders::cost;
use cotangent_tensor::{Error, Tensor};

use crate::device::{Body, Device};
use crate::feed::Feed;
use crate::info::Kind;
use crate::step::Step;

/// What a device can do at most, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    /// Bytes read and written per second while copying or, if that is more, while reading; in memory, not in caches, where
    /// small kernels may be faster.
    pub bytes_per_second: f64,
    /// Multiplications and additions of f32 per second, in vectors and fused where the device has such.
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
            Body::Host => roof::host(self.0.info.threads),
            Body::Gpu(gpu) => {
                let info = self.info();
                crate::gpu::profile::roof(gpu, &info.target, info.kind == Kind::Software)?
            }
        };
        Ok(*self.0.roof.get_or_init(|| measured))
    }
}

impl Step {
    /// Runs once, with every kernel timed for itself, also those that take turns in other runs ([`Step::explain`]). State advances as in
    /// any run.
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
