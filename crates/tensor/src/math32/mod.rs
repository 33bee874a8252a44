//! Elementary and special functions in f32, as the CPU device computes them.
//!
//! Every function but `rem` is straight-line code: additions, multiplications, divisions, square roots, bit operations and picks
//! between values that are both computed, no early return, no loop whose length depends on data and no call into a C
//! library. A plain slice loop over a function therefore vectorizes with whatever instruction set the surrounding
//! function is compiled for (AVX-512, AVX2, NEON), and gives the same bits on each, because Rust neither contracts nor
//! reorders float arithmetic. The WGSL library in `shaders/wgsl` uses the same algorithms and coefficients.
//!
//! Errors are promised in [`promise`] and measured by the tests of this module against [`crate::special`], which shares
//! no algorithm with it. NaN goes in, NaN comes out, except where IEEE 754 `pow` says otherwise; infinities, signed zeros
//! and denormal operands are right. Results below 2⁻¹²⁶ may be flushed to zero.
//!
//! Provenance of coefficients: minimax fits of our own (Lawson's iteration on values from mpmath at 40 digits, then
//! rounded to f32 one by one, each rounding absorbed by the coefficients above it). The two-part logarithm of 2 is that
//! of Cephes (S. Moshier), the reduction of the logarithm's argument that of fdlibm.

mod bessel;
mod exponential;
mod gamma;
mod hyperbolic;
mod logarithm;
mod normal_law;
mod power;
mod random;
mod rounding;
#[cfg(test)]
mod tests;
mod trigonometric;

pub use bessel::{i0e, i1e};
pub use exponential::{
    decay, decay_tail, exp, exp_nonpositive, exp2, expm1, log_sigmoid, log_sigmoid_of, recip_expm1, sigmoid,
    sigmoid_of, softplus, softplus_of,
};
pub use gamma::{digamma, lgamma, trigamma};
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub use logarithm::{log, log1mexp, log1p, log2, xlog1py, xlogy};
pub use normal_law::{erf, erfc, gelu, inverse_mills, log_ndtr};
pub use power::{pow, recip, rsqrt};
pub use random::{normal, threefry, uniform, uniform_positive};
pub use rounding::{max, min, rem, round, sign, trunc};
pub use trigonometric::{acos, asin, atan, atan2, cos, sin, tan};

/// Largest error in ULP of every function, for results of at least 2⁻¹²⁶ in magnitude; below, 2⁻¹²⁶ absolute more.
///
/// The promise holds on every device. NUMERICS.md, section 4, compares it with what WGSL grants.
pub mod promise {
    /// `exp`.
    pub const EXP: f64 = 2.0;
    /// `exp_nonpositive`, for `x ≤ 0`.
    pub const EXP_NONPOSITIVE: f64 = 2.0;
    /// `exp2`.
    pub const EXP2: f64 = 4.0;
    /// `expm1`.
    pub const EXPM1: f64 = 2.0;
    /// `recip_expm1`.
    pub const RECIP_EXPM1: f64 = 8.0;
    /// `log`.
    pub const LOG: f64 = 2.0;
    /// `log2`.
    pub const LOG2: f64 = 2.0;
    /// `log1p`.
    pub const LOG1P: f64 = 2.0;
    /// `log1mexp`.
    pub const LOG1MEXP: f64 = 4.0;
    /// `sigmoid`.
    pub const SIGMOID: f64 = 4.0;
    /// `log_sigmoid`.
    pub const LOG_SIGMOID: f64 = 4.0;
    /// `softplus`.
    pub const SOFTPLUS: f64 = 4.0;
    /// `tanh`.
    pub const TANH: f64 = 2.0;
    /// `sinh`.
    pub const SINH: f64 = 4.0;
    /// `cosh`.
    pub const COSH: f64 = 4.0;
    /// `asinh`.
    pub const ASINH: f64 = 4.0;
    /// `acosh`.
    pub const ACOSH: f64 = 4.0;
    /// `atanh`.
    pub const ATANH: f64 = 4.0;
    /// `sin`, for `|x| ≤ TRIG_RANGE`.
    pub const SIN: f64 = 2.0;
    /// `cos`, for `|x| ≤ TRIG_RANGE`.
    pub const COS: f64 = 2.0;
    /// `tan`, for `|x| ≤ TRIG_RANGE`.
    pub const TAN: f64 = 4.0;
    /// Largest argument of `sin`, `cos` and `tan` for which a promise is made, radians.
    pub const TRIG_RANGE: f64 = 8192.0;
    /// `asin`.
    pub const ASIN: f64 = 4.0;
    /// `acos`.
    pub const ACOS: f64 = 4.0;
    /// `atan`.
    pub const ATAN: f64 = 4.0;
    /// `atan2`.
    pub const ATAN2: f64 = 4.0;
    /// `pow`.
    pub const POW: f64 = 4.0;
    /// `erf`.
    pub const ERF: f64 = 2.0;
    /// `erfc`.
    pub const ERFC: f64 = 8.0;
    /// `gelu`.
    pub const GELU: f64 = 8.0;
    /// `log_ndtr`.
    pub const LOG_NDTR: f64 = 10.0;
    /// `inverse_mills`.
    pub const INVERSE_MILLS: f64 = 8.0;
    /// `i0e`.
    pub const I0E: f64 = 4.0;
    /// `i1e`.
    pub const I1E: f64 = 4.0;
    /// `lgamma`, for `x > 0`.
    pub const LGAMMA: f64 = 6.0;
    /// `digamma`, for `x > 0`.
    pub const DIGAMMA: f64 = 8.0;
    /// `trigamma`, for `x > 0`.
    pub const TRIGAMMA: f64 = 8.0;
    /// `xlogy`.
    pub const XLOGY: f64 = 4.0;
    /// `xlog1py`.
    pub const XLOG1PY: f64 = 4.0;
    /// `max`, `min`, `sign`, `round`, `trunc`, `rem`.
    pub const EXACT: f64 = 0.0;
    /// `1/√x`.
    pub const RSQRT: f64 = 2.0;
    /// `1/x`.
    pub const RECIP: f64 = 2.5;
    /// Both numbers of `normal`, against f64 from the same random words.
    pub const NORMAL: f64 = 8.0;
}

/// Rounds to an integer by addition: `t` with `|t| < 2²¹` becomes `MAGIC + n` exactly, whose low bits are those of `n`.
const MAGIC: f32 = 12_582_912.0;

/// `ln 2` in two parts; the first has 10 significant bits, so that its product with an exponent is exact (Cephes).
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -0.000_212_194_44;

/// `2^n` for `−127 ≤ n ≤ 127`, where −127 stands for 0; any other `n` gives some float or other.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The upper 12 significant bits of `x`: products of two such numbers are exact.
#[inline(always)]
fn high_half(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0xffff_f000)
}
