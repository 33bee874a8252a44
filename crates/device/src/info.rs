//! What is known about a device: names, limits, and what the probe saw.

use std::fmt;
use std::hint::black_box;

use cotangent_shaders::Target;

use crate::ledger::in_words;

/// What executes the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The native CPU device.
    Cpu,
    /// A hardware GPU.
    Gpu,
    /// An adapter that runs on CPU cores: lavapipe, SwiftShader, WARP.
    Software,
}

/// A device as `cotangent info` prints it.
#[derive(Clone, Debug)]
pub struct Info {
    /// Such as `cpu` or `vulkan llvmpipe`.
    pub name: String,
    /// What executes the kernels.
    pub kind: Kind,
    /// `cpu`, `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The adapter's full name, or the instruction set.
    pub adapter: String,
    /// Driver and version.
    pub driver: String,
    /// Optional features in use.
    pub features: Vec<String>,
    /// Limits and abilities within which kernels are planned.
    pub target: Target,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Threads that compute (CPU device), else 1.
    pub threads: usize,
    /// What the probe saw.
    pub probe: Probe,
}

/// What the arithmetic of a device does in the cases where devices differ. Measured when the device is created, on
/// operands that no compiler knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Loop turns after which an invocation silently leaves its loop, if there is such a number below 200 000.
    pub loop_budget: Option<u32>,
    /// Denormal results are kept.
    pub denormals: bool,
    /// `fma` rounds once.
    pub fma_fused: bool,
    /// NaN passes through the builtin `max`, `min` and `clamp`.
    pub nan_passes: [bool; 3],
    /// `x != x` is true for NaN.
    pub nan_differs: bool,
    /// `(a + b) − a` is simplified to `b`.
    pub reassociates: bool,
    /// The float barrier keeps that from happening.
    pub barrier_holds: bool,
    /// Sums and products round to nearest.
    pub nearest: bool,
    /// `pow(0, 0)`.
    pub pow_0_0: f32,
    /// `tanh(100)`.
    pub tanh_100: f32,
    /// `atan2(0, 0)`.
    pub atan2_0_0: f32,
    /// `1 / 3`.
    pub third: f32,
    /// `√2`.
    pub sqrt_2: f32,
    /// Subgroup size that a kernel saw.
    pub subgroup: Option<u32>,
}

/// Products that the probe compares with the host's, which are rounded to nearest.
pub(crate) const FACTORS: [f32; 8] = [1.1, 1.3, 3.7, 0.1, 0.7, 5.9, 1.9, 0.3];

impl Probe {
    /// The CPU device: native f32 arithmetic.
    pub(crate) fn native() -> Probe {
        let [tiny, nan, one, small] = black_box([f32::from_bits(71), f32::NAN, 1.0, f32::EPSILON / 8.0]);
        Probe {
            loop_budget: None,
            denormals: (tiny + tiny).to_bits() == 142 && (tiny * black_box(2.0)).to_bits() == 142,
            fma_fused: false,
            nan_passes: [nan.max(one).is_nan(), nan.min(one).is_nan(), nan.clamp(-one, one).is_nan()],
            nan_differs: black_box(nan) != nan,
            reassociates: (black_box(one + small) - one).to_bits() != 0,
            barrier_holds: (black_box(one + small) - one).to_bits() == 0,
            nearest: true,
            pow_0_0: 1.0,
            tanh_100: 1.0,
            atan2_0_0: 0.0,
            third: one / black_box(3.0),
            sqrt_2: black_box(2.0_f32).sqrt(),
            subgroup: None,
        }
    }
}

impl Info {
    /// The name as part of a file name, such as `vulkan_llvmpipe`.
    pub fn slug(&self) -> String {
        let mut slug = String::new();
        for character in self.name.chars() {
            if character.is_ascii_alphanumeric() {
                slug.push(character.to_ascii_lowercase());
            } else if !slug.ends_with('_') {
                slug.push('_');
            }
        }
        slug.trim_matches('_').to_owned()
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Info { name, backend, adapter, driver, features, target, max_buffer, threads, probe, .. } = self;
        writeln!(f, "{name}")?;
        writeln!(f, "  adapter    {adapter} ({backend})")?;
        if !driver.is_empty() {
            writeln!(f, "  driver     {driver}")?;
        }
        if *threads > 1 {
            writeln!(f, "  threads    {threads}")?;
        }
        let none = || "none".to_owned();
        let features = if features.is_empty() { none() } else { features.join(", ") };
        writeln!(f, "  features   {features}")?;
        writeln!(
            f,
            "  limits     {} workgroups, {} invocations, {} workgroup memory, {} storage buffers, binding {}, buffer {}",
            target.max_workgroups,
            target.max_invocations,
            in_words(u64::from(target.max_workgroup_memory)),
            target.max_storage_buffers,
            in_words(target.max_binding),
            in_words(*max_buffer),
        )?;
        let subgroups = target.subgroups.map_or_else(none, |(low, high)| format!("{low} to {high}"));
        let seen = probe.subgroup.map_or_else(String::new, |size| format!(" ({size} seen)"));
        writeln!(f, "  subgroups  {subgroups}{seen}")?;
        write!(f, "{probe}")
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |value: bool| if value { "yes" } else { "no" };
        let budget = self.loop_budget.map_or_else(|| "unlimited".to_owned(), |turns| turns.to_string());
        let [max, min, clamp] = self.nan_passes;
        writeln!(f, "  probe      loop turns {budget}; denormals kept {}", yes(self.denormals))?;
        writeln!(
            f,
            "             fma fused {}; rounds to nearest {}; reassociates {}; float barrier holds {}",
            yes(self.fma_fused),
            yes(self.nearest),
            yes(self.reassociates),
            yes(self.barrier_holds),
        )?;
        writeln!(
            f,
            "             NaN through max {}, min {}, clamp {}; NaN != NaN {}",
            yes(max),
            yes(min),
            yes(clamp),
            yes(self.nan_differs),
        )?;
        write!(
            f,
            "             pow(0,0) = {}; tanh(100) = {}; atan2(0,0) = {}; 1/3 = {:?}; sqrt(2) = {:?}",
            self.pow_0_0, self.tanh_100, self.atan2_0_0, self.third, self.sqrt_2,
        )
    }
}
