//! Where a plan runs: wgpu adapters and the CPU device.

pub mod cpu;
#[allow(unsafe_code, reason = "the one checked call of `gemm`")]
mod raw;
