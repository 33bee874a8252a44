//! stub, replaced by the real library
#![allow(missing_docs)]
use crate::special;
pub fn exp(x: f32) -> f32 {
    let x = f64::from(x);
    (x.exp()) as f32
}
pub fn exp2(x: f32) -> f32 {
    let x = f64::from(x);
    (x.exp2()) as f32
}
pub fn expm1(x: f32) -> f32 {
    let x = f64::from(x);
    (special::expm1(x)) as f32
}
pub fn log(x: f32) -> f32 {
    let x = f64::from(x);
    (x.ln()) as f32
}
pub fn log2(x: f32) -> f32 {
    let x = f64::from(x);
    (x.log2()) as f32
}
pub fn log1p(x: f32) -> f32 {
    let x = f64::from(x);
    (special::log1p(x)) as f32
}
pub fn sigmoid(x: f32) -> f32 {
    let x = f64::from(x);
    (special::sigmoid(x)) as f32
}
pub fn log_sigmoid(x: f32) -> f32 {
    let x = f64::from(x);
    (special::log_sigmoid(x)) as f32
}
pub fn softplus(x: f32) -> f32 {
    let x = f64::from(x);
    (special::softplus(x)) as f32
}
pub fn tanh(x: f32) -> f32 {
    let x = f64::from(x);
    (x.tanh()) as f32
}
pub fn sinh(x: f32) -> f32 {
    let x = f64::from(x);
    (x.sinh()) as f32
}
pub fn cosh(x: f32) -> f32 {
    let x = f64::from(x);
    (x.cosh()) as f32
}
pub fn asinh(x: f32) -> f32 {
    let x = f64::from(x);
    (special::asinh(x)) as f32
}
pub fn acosh(x: f32) -> f32 {
    let x = f64::from(x);
    (special::acosh(x)) as f32
}
pub fn atanh(x: f32) -> f32 {
    let x = f64::from(x);
    (special::atanh(x)) as f32
}
pub fn sin(x: f32) -> f32 {
    let x = f64::from(x);
    (x.sin()) as f32
}
pub fn cos(x: f32) -> f32 {
    let x = f64::from(x);
    (x.cos()) as f32
}
pub fn tan(x: f32) -> f32 {
    let x = f64::from(x);
    (x.tan()) as f32
}
pub fn asin(x: f32) -> f32 {
    let x = f64::from(x);
    (x.asin()) as f32
}
pub fn acos(x: f32) -> f32 {
    let x = f64::from(x);
    (x.acos()) as f32
}
pub fn atan(x: f32) -> f32 {
    let x = f64::from(x);
    (x.atan()) as f32
}
pub fn erf(x: f32) -> f32 {
    let x = f64::from(x);
    (special::erf(x)) as f32
}
pub fn erfc(x: f32) -> f32 {
    let x = f64::from(x);
    (special::erfc(x)) as f32
}
pub fn lgamma(x: f32) -> f32 {
    let x = f64::from(x);
    (special::lgamma(x)) as f32
}
pub fn digamma(x: f32) -> f32 {
    let x = f64::from(x);
    (special::digamma(x)) as f32
}
pub fn trigamma(x: f32) -> f32 {
    let x = f64::from(x);
    (special::trigamma(x)) as f32
}
pub fn sign(x: f32) -> f32 {
    let x = f64::from(x);
    (special::sign(x)) as f32
}
pub fn round(x: f32) -> f32 {
    let x = f64::from(x);
    (special::round(x)) as f32
}
pub fn trunc(x: f32) -> f32 {
    let x = f64::from(x);
    (x.trunc()) as f32
}
pub fn rsqrt(x: f32) -> f32 {
    let x = f64::from(x);
    (1.0 / x.sqrt()) as f32
}
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (special::gelu(x)) as f32
}
pub fn log_ndtr(x: f32) -> f32 {
    let x = f64::from(x);
    (special::log_ndtr(x)) as f32
}
pub fn max(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (special::max(a, b)) as f32
}
pub fn min(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (special::min(a, b)) as f32
}
pub fn pow(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (special::pow(a, b)) as f32
}
pub fn atan2(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (a.atan2(b)) as f32
}
pub fn xlogy(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (special::xlogy(a, b)) as f32
}
pub fn rem(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (special::rem(a, b)) as f32
}
pub mod promise {
    pub const EXP: f64 = 2.0;
    pub const EXP2: f64 = 4.0;
    pub const EXPM1: f64 = 2.0;
    pub const LOG: f64 = 2.0;
    pub const LOG2: f64 = 2.0;
    pub const LOG1P: f64 = 2.0;
    pub const POW: f64 = 4.0;
    pub const SIGMOID: f64 = 4.0;
    pub const LOG_SIGMOID: f64 = 4.0;
    pub const SOFTPLUS: f64 = 4.0;
    pub const TANH: f64 = 2.0;
    pub const SINH: f64 = 4.0;
    pub const COSH: f64 = 4.0;
    pub const ASINH: f64 = 4.0;
    pub const ACOSH: f64 = 4.0;
    pub const ATANH: f64 = 4.0;
    pub const SIN: f64 = 2.0;
    pub const COS: f64 = 2.0;
    pub const TAN: f64 = 4.0;
    pub const ASIN: f64 = 4.0;
    pub const ACOS: f64 = 4.0;
    pub const ATAN: f64 = 4.0;
    pub const ATAN2: f64 = 4.0;
    pub const ERF: f64 = 2.0;
    pub const ERFC: f64 = 8.0;
    pub const LGAMMA: f64 = 6.0;
    pub const DIGAMMA: f64 = 8.0;
    pub const TRIGAMMA: f64 = 8.0;
    pub const XLOGY: f64 = 4.0;
}
