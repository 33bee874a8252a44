//! What a GPU runs: WGSL text with its parameters and bindings. Produced by [`lower`](crate::lower) from a kernel.

use std::sync::Arc;

/// What the emitter must know about an adapter: plain data, so that tests can make up tiny ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Executes on CPU cores (lavapipe, SwiftShader, WARP): no workgroup memory, one subgroup per workgroup.
    pub cpu: bool,
    /// Smallest and largest subgroup size, if subgroup operations may be used.
    pub subgroups: Option<(u32, u32)>,
    /// Whether f16 may be used in shaders.
    pub f16: bool,
    /// Largest number of workgroups per dimension.
    pub max_workgroups: u32,
    /// Largest number of invocations per workgroup.
    pub max_invocations: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Storage buffers per kernel; one is kept for the status word.
    pub max_storage_buffers: u32,
    /// Bytes per binding.
    pub max_binding: u64,
    /// Loop turns per invocation, if the adapter stops counting somewhere (lavapipe: 65 535).
    pub loop_budget: u32,
}

impl Target {
    /// WebGPU's default limits, no optional feature.
    pub fn web() -> Target {
        Target {
            cpu: false,
            subgroups: None,
            f16: false,
            max_workgroups: 65_535,
            max_invocations: 256,
            max_workgroup_memory: 16_384,
            max_storage_buffers: 8,
            max_binding: 128 << 20,
            loop_budget: 65_535,
        }
    }
}

/// One dispatch. `wgsl` depends on the structure of the kernel only; sizes are in `parameters`.
///
/// Without [`Dispatch::entry`] the bindings are those of group 0: binding 0 is a uniform buffer holding `parameters` as `array<vec4<u32>, N>` (word 0 is always 0, the zero
/// of the float barrier); binding `1 + i` is `buffers[i]` as a storage buffer. Entry point `main`.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// A readable name.
    pub label: String,
    /// The shader, a complete module; the key of the pipeline cache, with the name of the entry point.
    pub wgsl: Arc<str>,
    /// Of a text of the user's, which has bindings of its own and no parameters.
    pub entry: Option<Entry>,
    /// Words of the parameter block, a multiple of 4.
    pub parameters: Vec<u32>,
    /// Storage buffers in binding order.
    pub buffers: Vec<DispatchBuffer>,
    /// Number of workgroups.
    pub workgroups: [u32; 3],
    /// Bytes moved and operations done, for the profile.
    pub cost: Cost,
    /// Roundings that a term of a sum passes through in this dispatch, at most; 0 where the dispatch goes on with the grid
    /// of the one before. Their sum over the dispatches of a kernel bounds the error of its sums.
    pub chain: usize,
}

/// The entry point of a text of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it expects each buffer of the dispatch.
    pub slots: Vec<Slot>,
}

/// Where a text of the user's expects a buffer, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// `@group`.
    pub group: u32,
    /// `@binding`.
    pub binding: u32,
    /// First 32-bit word.
    pub first: usize,
    /// Words.
    pub words: usize,
}

/// A storage buffer of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchBuffer {
    /// Which.
    pub which: Which,
    /// Declared `read_write`.
    pub writable: bool,
}

/// Which buffer a dispatch binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// Position in the bindings of the kernel.
    Kernel(usize),
    /// Scratch storage of this kernel, number and words; partial results between its dispatches.
    Scratch {
        /// Number within the kernel.
        number: usize,
        /// 32-bit words.
        words: usize,
    },
    /// The status words of the device, zero before a run: `array<atomic<u32>, 5>`. Word 0 counts violations, word 3 holds the
    /// inverted number of the first kernel that reports (given in the parameters), word 1 the inverted first position in
    /// it, word 2 an index. Where several positions of a kernel are wrong, the index may be that of another one. Word 4 holds
    /// the inverted number of the first kernel that wrote a watched value.
    Status,
}

/// Values that kernels report when they write one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watch {
    /// NaN and infinities.
    NotFinite,
    /// NaN.
    Nan,
    /// Infinities.
    Infinite,
}

impl Watch {
    /// Whether a value is watched for.
    pub fn sees(self, value: f32) -> bool {
        match self {
            Watch::NotFinite => !value.is_finite(),
            Watch::Nan => value.is_nan(),
            Watch::Infinite => value.is_infinite(),
        }
    }
}

/// Work of a dispatch or kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written, each element once.
    pub bytes: f64,
    /// Floating-point operations.
    pub flops: f64,
}
