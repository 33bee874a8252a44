//! The shader files: each is valid WGSL as it stands.

/// Functions that emitted kernels call.
pub(crate) const MATH: &str = include_str!("../wgsl/math.wgsl");
