//! Where a plan runs: wgpu adapters and the CPU device.
