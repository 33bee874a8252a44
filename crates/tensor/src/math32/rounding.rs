//! Maximum, minimum, sign, rounding and remainder: exact operations.

/// IEEE 754-2019 maximum: NaN propagates, `max(+0, −0) = +0`.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    let m = if a > b { a } else { b };
    let m = if a == b { f32::from_bits(a.to_bits() & b.to_bits()) } else { m };
    if a.is_nan() { a } else { m }
}

/// IEEE 754-2019 minimum: NaN propagates, `min(+0, −0) = −0`.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let m = if a < b { a } else { b };
    let m = if a == b { f32::from_bits(a.to_bits() | b.to_bits()) } else { m };
    if a.is_nan() { a } else { m }
}

/// Sign: −1, 0 or 1; 0 at 0, NaN at NaN.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    let one = 1.0_f32.copysign(x);
    if x == 0.0 || x.is_nan() { x } else { one }
}

/// Nearest integer, halves to the even one.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    x.round_ties_even()
}

/// Integer part, toward zero.
#[inline(always)]
pub fn trunc(x: f32) -> f32 {
    x.trunc()
}

/// Remainder `x − trunc(x/y)·y`, with the sign of `x`, exact (C's `fmod`) for all operands; NaN for `y = 0` and for
/// infinite `x`.
///
/// Long division on the significands, eight bits of the quotient at a time: the one loop of this module whose length
/// depends on data, at most 35 rounds, none for `|x/y| < 2`.
#[inline(always)]
pub fn rem(x: f32, y: f32) -> f32 {
    let (bx, by) = (x.to_bits() & 0x7fff_ffff, y.to_bits() & 0x7fff_ffff);
    // denormals count from the same exponent as the smallest normal numbers, without the implied bit
    let (ex, ey) = ((bx >> 23).max(1), (by >> 23).max(1));
    let (mx, my) = (bx - ((ex - 1) << 23), (by - ((ey - 1) << 23)).max(1));
    let mut r = mx % my;
    let mut left = if bx >= by { ex - ey } else { 0 };
    while left > 0 {
        let bits = left.min(8);
        r = (r << bits) % my;
        left -= bits;
    }
    let shift = ((r | 1).leading_zeros() - 8).min(ey - 1);
    let exact = if r == 0 { 0 } else { ((ey - 1 - shift) << 23) + (r << shift) };
    let magnitude = f32::from_bits(if bx < by { bx } else { exact });
    if bx >= 0x7f80_0000 || by > 0x7f80_0000 || by == 0 { f32::NAN } else { magnitude.copysign(x) }
}
