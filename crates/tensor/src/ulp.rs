//! Errors in units in the last place, and where to look for them.
//!
//! Promises of the operation table ([`Elementwise::ulp`](crate::Elementwise::ulp)) are in these units; whoever measures a device
//! takes this distance, and these points beside many others.
#![allow(clippy::approx_constant, reason = "branch points are written as the f32 numbers they are")]

/// `e` with `2^e ≤ |x| < 2^(e+1)`, not below the normal range of f32.
fn binade(x: f64) -> i32 {
    (((x.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(-126)
}

/// Distance of `got` from `exact` in ULP of f32 at `exact`; infinite where one of them is NaN or infinite and the other is
/// not. Denormal results count only as far as they are off by more than 2⁻¹²⁶.
///
/// ```
/// use cotangent_tensor::ulp;
/// let exact = std::f64::consts::PI;
/// assert!(ulp::error(exact as f32, exact) <= 0.5);
/// assert!(ulp::error((exact as f32).next_up(), exact) > 0.5);
/// assert_eq!(ulp::error(f32::NAN, exact), f64::INFINITY);
/// ```
pub fn error(got: f32, exact: f64) -> f64 {
    if got.is_nan() || exact.is_nan() {
        return if got.is_nan() && exact.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let ulp = 2.0_f64.powi(binade(exact) - 23);
    let largest = f64::from(f32::MAX);
    if exact.abs() > largest + 0.5 * ulp {
        // an infinity, or the largest numbers when the exact value has just passed them
        return if got.abs() == f32::INFINITY && got.is_sign_negative() == exact.is_sign_negative() {
            0.0
        } else if exact.is_infinite() {
            f64::INFINITY
        } else {
            (f64::from(got) - exact).abs() / ulp
        };
    }
    // overflow is the next number after the largest
    let got = if got.is_infinite() { 2.0_f64.powi(128).copysign(f64::from(got)) } else { f64::from(got) };
    let error = (got - exact).abs();
    let allowance =
        if exact.abs() < f64::from(f32::MIN_POSITIVE) { f64::from(f32::MIN_POSITIVE) } else { 0.0 };
    (error - allowance).max(0.0) / ulp
}

/// Arguments at which some function changes its form, or at which it has a root.
pub const BRANCH_POINTS: &[f32] = &[
    0.000_122,
    1.0e-8,
    0.171_572_9,
    0.25,
    0.292_893_2,
    0.346_573_6,
    0.414_213_57,
    0.5,
    0.6,
    0.693_147_2,
    0.707_106_77,
    0.785_398_2,
    1.0,
    1.039_72,
    1.414_213_5,
    1.461_632_1,
    1.5,
    1.570_796_4,
    2.0,
    2.356_194_5,
    3.0,
    3.141_592_7,
    4.0,
    4.712_389,
    5.0,
    6.0,
    6.283_185_5,
    8.0,
    9.0,
    9.2,
    9.345,
    10.0,
    11.0,
    13.2,
    13.3,
    14.0,
    15.0,
    17.32,
    18.0,
    20.0,
    87.336_55,
    87.5,
    88.0,
    88.722_84,
    89.0,
    89.415_98,
    103.972_08,
    104.0,
    126.0,
    128.0,
    252.898_21,
    1.0e4,
    8192.0,
    33_554_432.0,
    1.8e19,
];

/// Zeros, infinities, NaN, denormals, the ends of the range, and small whole numbers.
pub const SPECIAL: &[f32] = &[
    0.0,
    -0.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    1.0e-45,
    -1.0e-45,
    1.0e-39,
    -1.0e-39,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    16_777_216.0,
    -1.5,
];
