//! Builtin functions of numbers, component by component.

use std::f64::consts::PI;

use naga::MathFunction as M;

use super::witness::Trace;

/// A builtin of floats; none if it is no function of single floats. `a` holds the arguments, zeros behind them.
///
/// Where WGSL leaves open what NaN becomes, it stays NaN.
#[expect(clippy::float_cmp, reason = "kinks are exact")]
pub(super) fn float(function: M, a: [f64; 3], trace: &mut Trace) -> Option<f64> {
    let [x, y, z] = a;
    let mut side = |x: f64, y: f64| trace.compare(x, y);
    Some(match function {
        M::Abs => {
            side(x, 0.0);
            x.abs()
        }
        M::Sign => {
            side(x, 0.0);
            if x == 0.0 || x.is_nan() { x } else { x.signum() }
        }
        M::Min => {
            side(x, y);
            smaller(x, y)
        }
        M::Max => {
            side(x, y);
            -smaller(-x, -y)
        }
        M::Clamp => {
            side(x, y);
            side(x, z);
            smaller(-smaller(-x, -y), z)
        }
        M::Saturate => {
            side(x, 0.0);
            side(x, 1.0);
            smaller(-smaller(-x, 0.0), 1.0)
        }
        M::Step => {
            side(y, x);
            f64::from(u8::from(x <= y))
        }
        M::SmoothStep => {
            let t = (z - x) / (y - x);
            side(t, 0.0);
            side(t, 1.0);
            let t = smaller(-smaller(-t, 0.0), 1.0);
            t * t * (3.0 - 2.0 * t)
        }
        M::Ceil => {
            trace.step(x.ceil(), x == x.ceil());
            x.ceil()
        }
        M::Floor => {
            trace.step(x.floor(), x == x.floor());
            x.floor()
        }
        M::Round => {
            // the jumps are halfway between the stairs
            trace.step((x + 0.5).floor(), x + 0.5 == (x + 0.5).floor());
            x.round_ties_even()
        }
        M::Trunc => trace.truncate(x),
        M::Fract => {
            trace.step(x.floor(), x == x.floor());
            x - x.floor()
        }
        M::Cos => x.cos(),
        M::Cosh => x.cosh(),
        M::Sin => x.sin(),
        M::Sinh => x.sinh(),
        M::Tan => x.tan(),
        M::Tanh => x.tanh(),
        M::Acos => x.acos(),
        M::Asin => x.asin(),
        M::Atan => x.atan(),
        M::Atan2 => x.atan2(y),
        M::Asinh => x.asinh(),
        M::Acosh => x.acosh(),
        M::Atanh => x.atanh(),
        M::Radians => x * (PI / 180.0),
        M::Degrees => x * (180.0 / PI),
        M::Exp => x.exp(),
        M::Exp2 => x.exp2(),
        M::Log => x.ln(),
        M::Log2 => x.log2(),
        // `exp2(y * log2(x))` says the specification
        M::Pow if x < 0.0 || x == 0.0 && y == 0.0 => f64::NAN,
        M::Pow => x.powf(y),
        M::Sqrt => x.sqrt(),
        M::InverseSqrt => 1.0 / x.sqrt(),
        M::Fma => x.mul_add(y, z),
        M::Mix => x * (1.0 - z) + y * z,
        M::QuantizeToF16 => {
            let half = half_value(half_bits(x));
            trace.note(half.to_bits());
            if half.is_infinite() && x.is_finite() { f64::NAN } else { half }
        }
        _ => return None,
    })
}

/// The smaller number; NaN if there is one; `-0` of zeros.
fn smaller(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x < y || x == y && x.is_sign_negative() {
        x
    } else {
        y
    }
}

/// `fract` in `[½, 1)` and `exp` with `x = fract · 2^exp`.
pub(super) fn frexp(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    // numbers below the normal ones are made larger first
    let (scaled, shift) = if x.abs() < f64::MIN_POSITIVE { (x * 2f64.powi(64), -64) } else { (x, 0) };
    let bits = scaled.to_bits();
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1022;
    (f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52)), exponent + shift)
}

/// `x · 2^exponent`.
pub(super) fn ldexp(x: f64, exponent: i32) -> f64 {
    // in two steps, because 2^exponent alone can be too large or too small
    let exponent = exponent.clamp(-2200, 2200);
    let first = exponent / 2;
    x * 2f64.powi(first) * 2f64.powi(exponent - first)
}

/// A builtin of integers by their words; none if it is no function of single integers.
pub(super) fn integer(function: M, is_signed: bool, a: [u32; 4]) -> Option<u32> {
    let [x, y, z, w] = a;
    let less = |x: u32, y: u32| if is_signed { x.cast_signed() < y.cast_signed() } else { x < y };
    let min = |x: u32, y: u32| if less(y, x) { y } else { x };
    let max = |x: u32, y: u32| if less(x, y) { y } else { x };
    let mask = |count: u32| if count >= 32 { u32::MAX } else { (1 << count) - 1 };
    Some(match function {
        M::Abs if is_signed => x.cast_signed().wrapping_abs().cast_unsigned(),
        M::Abs => x,
        M::Sign if is_signed => x.cast_signed().signum().cast_unsigned(),
        M::Sign => x.min(1),
        M::Min => min(x, y),
        M::Max => max(x, y),
        M::Clamp => min(max(x, y), z),
        M::CountTrailingZeros => x.trailing_zeros(),
        M::CountLeadingZeros => x.leading_zeros(),
        M::CountOneBits => x.count_ones(),
        M::ReverseBits => x.reverse_bits(),
        M::FirstTrailingBit => x.checked_ilog2().map_or(u32::MAX, |_| x.trailing_zeros()),
        // of a negative number the first bit that differs from the sign
        M::FirstLeadingBit => {
            let x = if is_signed && x.cast_signed() < 0 { !x } else { x };
            x.checked_ilog2().unwrap_or(u32::MAX)
        }
        M::ExtractBits => {
            let offset = y.min(32);
            let count = z.min(32 - offset);
            match count {
                0 => 0,
                _ if is_signed => {
                    (x << (32 - offset - count)).cast_signed().wrapping_shr(32 - count).cast_unsigned()
                }
                _ => (x >> offset) & mask(count),
            }
        }
        M::InsertBits => {
            let offset = z.min(32);
            let count = w.min(32 - offset);
            match count {
                0 => x,
                _ => (x & !(mask(count) << offset)) | ((y & mask(count)) << offset),
            }
        }
        M::Dot4I8Packed => {
            let products = bytes(x).into_iter().zip(bytes(y)).map(|(a, b)| signed(a) * signed(b));
            products.sum::<i32>().cast_unsigned()
        }
        M::Dot4U8Packed => bytes(x).into_iter().zip(bytes(y)).map(|(a, b)| u32::from(a) * u32::from(b)).sum(),
        _ => return None,
    })
}

fn bytes(word: u32) -> [u8; 4] {
    word.to_le_bytes()
}

fn signed(byte: u8) -> i32 {
    byte.cast_signed().into()
}

/// Numbers into a word.
pub(super) fn pack(function: M, numbers: &[f64]) -> Option<u32> {
    let number = |i: usize| numbers.get(i).copied().unwrap_or(0.0);
    // casts of floats saturate, and take NaN to 0
    let small = |low: f64, scale: f64| {
        [0, 1, 2, 3].map(|i| (0.5 + scale * number(i).clamp(low, 1.0)).floor() as i32 as u8)
    };
    let large = |low: f64, scale: f64| {
        [0, 1].map(|i| u32::from((0.5 + scale * number(i).clamp(low, 1.0)).floor() as i32 as u16))
    };
    let pair = |[low, high]: [u32; 2]| low | (high << 16);
    Some(match function {
        M::Pack4x8snorm => u32::from_le_bytes(small(-1.0, 127.0)),
        M::Pack4x8unorm => u32::from_le_bytes(small(0.0, 255.0)),
        M::Pack2x16snorm => pair(large(-1.0, 32767.0)),
        M::Pack2x16unorm => pair(large(0.0, 65535.0)),
        M::Pack2x16float => pair([0, 1].map(|i| half_bits(number(i)))),
        _ => return None,
    })
}

/// A word into numbers.
pub(super) fn unpack(function: M, word: u32) -> Option<Vec<f64>> {
    let halves = [word & 0xffff, word >> 16];
    let signed_half = |half: u32| f64::from((half as u16).cast_signed());
    Some(match function {
        M::Unpack4x8snorm => bytes(word).map(|b| (f64::from(signed(b)) / 127.0).max(-1.0)).to_vec(),
        M::Unpack4x8unorm => bytes(word).map(|b| f64::from(b) / 255.0).to_vec(),
        M::Unpack2x16snorm => halves.map(|half| (signed_half(half) / 32767.0).max(-1.0)).to_vec(),
        M::Unpack2x16unorm => halves.map(|half| f64::from(half) / 65535.0).to_vec(),
        M::Unpack2x16float => halves.map(half_value).to_vec(),
        _ => return None,
    })
}

/// Four integers into a word.
pub(super) fn pack_integers(function: M, words: &[u32]) -> Option<u32> {
    let word = |i: usize| words.get(i).copied().unwrap_or(0);
    let each = |byte: fn(u32) -> u8| u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(word(i))));
    Some(match function {
        M::Pack4xI8 | M::Pack4xU8 => each(|word| word as u8),
        M::Pack4xI8Clamp => each(|word| word.cast_signed().clamp(-128, 127) as u8),
        M::Pack4xU8Clamp => each(|word| word.min(255) as u8),
        _ => return None,
    })
}

/// A word into four integers.
pub(super) fn unpack_integers(function: M, word: u32) -> Option<[u32; 4]> {
    match function {
        M::Unpack4xI8 => Some(bytes(word).map(|byte| signed(byte).cast_unsigned())),
        M::Unpack4xU8 => Some(bytes(word).map(u32::from)),
        _ => None,
    }
}

/// The nearest half, ties to even; what is too large becomes infinite.
fn half_bits(x: f64) -> u32 {
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let x = x.abs();
    if x.is_nan() {
        return sign | 0x7e00;
    }
    // the distance of halves around x: 2^-24 below the normal ones, else 2^-10 of the power of two
    let exponent = frexp(x).1.max(-13);
    let steps = ldexp(x, 11 - exponent).round_ties_even();
    let value = ldexp(steps, exponent - 11);
    if value > 65504.0 {
        return sign | 0x7c00;
    }
    let (_, exponent) = frexp(value);
    if value == 0.0 || exponent < -13 {
        return sign | ldexp(value, 24) as u32;
    }
    sign | (((exponent + 14) as u32) << 10) | (ldexp(value, 11 - exponent) as u32 & 0x3ff)
}

/// The number that the lower 16 bits are as a half.
fn half_value(bits: u32) -> f64 {
    let (exponent, fraction) = ((bits >> 10) & 31, f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => ldexp(fraction, -24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => ldexp(1024.0 + fraction, exponent.cast_signed() - 25),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}
