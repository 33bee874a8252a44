//! Where a plan runs: wgpu adapters and the CPU device.

#[allow(dead_code, reason = "the device types that use it are not there yet")]
mod cpu;
#[allow(unsafe_code, reason = "the one checked call of `gemm`")]
mod raw;
