// What generated kernels need besides the function library: integers that never trap, exact casts, half floats in words,
// order-preserving keys for maxima, (maximum, rest) pairs of a log-sum-exp, and random words.
//
// Bindings: none. Everything that must recognize NaN or infinity does so on integers.
// Functions are copied one by one into kernels that call them, with the functions they call.

//! hole library
fn opaque_zero() -> u32 { return 0u; }
fn m_exp_nonpositive(x: f32) -> f32 { return exp(x); }
fn threefry(counter: vec4<u32>, key: vec4<u32>) -> vec4<u32> { return counter ^ key; }
//! end

// --------------------------------------------------------------------------------------------------------- integers

// x / 0 = x, MIN / -1 = MIN, x % 0 = 0.
fn i_div(a: i32, b: i32) -> i32 {
    if (b == 0) { return a; }
    if (b == -1) { return 0 - a; }
    return a / b;
}
fn i_rem(a: i32, b: i32) -> i32 {
    if (b == 0 || b == -1) { return 0; }
    return a % b;
}
fn u_div(a: u32, b: u32) -> u32 {
    if (b == 0u) { return a; }
    return a / b;
}
fn u_rem(a: u32, b: u32) -> u32 {
    if (b == 0u) { return 0u; }
    return a % b;
}

// Casts saturate and take NaN to 0. The bounds are the largest floats below 2^31 and 2^32.
fn f32_to_i32(x: f32) -> i32 {
    let magnitude = bitcast<u32>(x) & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { return 0; }
    if (magnitude >= 0x4f000000u) {
        return select(2147483647, i32(-2147483648), bitcast<u32>(x) >= 0x80000000u);
    }
    return i32(x);
}
fn f32_to_u32(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if (bits > 0x7f800000u) { return 0u; }
    if (bits >= 0x4f800000u) { return 0xffffffffu; }
    return u32(x);
}
// Round to nearest, ties to even, whatever the rounding mode of the adapter's own conversion is.
fn u32_to_f32(x: u32) -> f32 {
    let shift = 8u - min(countLeadingZeros(x), 8u);
    let kept = x >> shift;
    let lost = x & ((1u << shift) - 1u);
    let half = (1u << shift) >> 1u;
    let up = shift > 0u && (lost > half || (lost == half && (kept & 1u) == 1u));
    return f32(kept + select(0u, 1u, up)) * f32(1u << shift);
}
fn i32_to_f32(x: i32) -> f32 {
    let magnitude = u32_to_f32(select(bitcast<u32>(x), 0u - bitcast<u32>(x), x < 0));
    return select(magnitude, -magnitude, x < 0);
}

// ----------------------------------------------------------------------------------------------- half floats in words

// The 16 bits of x, rounded to nearest, ties to even; overflow gives infinity.
fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
    if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }
    if (magnitude < 0x33000001u) { return sign; }
    // Below 2^-14 the quantum is fixed at 2^-24: shift the significand instead of the exponent.
    let exponent = magnitude >> 23u;
    let shift = 13u + select(0u, 113u - exponent, exponent < 113u);
    let significand = select(magnitude - 0x38000000u, (magnitude & 0x007fffffu) | 0x00800000u, exponent < 113u);
    let kept = significand >> shift;
    let lost = significand & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    return sign | (kept + select(0u, 1u, lost > half || (lost == half && (kept & 1u) == 1u)));
}
fn half_value(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) { return bitcast<f32>((sign | 0x7f800000u | ((magnitude & 0x03ffu) << 13u)) | opaque_zero()); }
    if (magnitude < 0x0400u) { return bitcast<f32>(sign | bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8)); }
    return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u));
}
// The element at an index, given the word that holds it.
fn half_at(word: u32, index: u32) -> f32 { return half_value((word >> (16u * (index & 1u))) & 0xffffu); }
fn half_four(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(half_value(low & 0xffffu), half_value(low >> 16u), half_value(high & 0xffffu), half_value(high >> 16u));
}
fn half_pair(low: f32, high: f32) -> u32 { return half_bits(low) | (half_bits(high) << 16u); }

// --------------------------------------------------------------------------------------------- keys for extreme values

fn negative_infinity() -> f32 { return bitcast<f32>(0xff800000u | opaque_zero()); }
fn is_negative_infinity(x: f32) -> bool { return bitcast<u32>(x) == 0xff800000u; }
fn quiet_nan() -> f32 { return bitcast<f32>(0x7fc00000u | opaque_zero()); }

// An integer with the order of the floats: -inf < ... < -0 < +0 < ... < +inf < NaN. No float has key 0.
fn order_key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let key = select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
    return select(key, 0xffffffffu, (bits & 0x7fffffffu) > 0x7f800000u);
}
fn from_order_key(key: u32) -> f32 {
    let bits = select(~key, key & 0x7fffffffu, key >= 0x80000000u);
    return bitcast<f32>(select(bits, 0x7fc00000u, key == 0xffffffffu) | opaque_zero());
}
// The key of -x, so that the largest key belongs to the smallest value, or to NaN.
fn order_key_down(x: f32) -> u32 { return order_key(bitcast<f32>(bitcast<u32>(x) ^ 0x80000000u)); }
fn from_order_key_down(key: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(from_order_key(key)) ^ select(0x80000000u, 0u, key == 0xffffffffu));
}
// Keys that do not tell +0 from -0, for positions of extreme values.
fn position_key(x: f32) -> u32 {
    return order_key(bitcast<f32>(select(bitcast<u32>(x), 0u, (bitcast<u32>(x) << 1u) == 0u)));
}
fn position_key_down(x: f32) -> u32 {
    return order_key_down(bitcast<f32>(select(bitcast<u32>(x), 0u, (bitcast<u32>(x) << 1u) == 0u)));
}
// The (key, position) pair with the larger key; the smaller position of equals.
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, a.x > b.x || (a.x == b.x && a.y <= b.y));
}

// -------------------------------------------------------------------------------------------------------- log-sum-exp

// (maximum m, rest s): the sum of exp(x - m) over all elements but one that equals m. (-inf, 0) is neutral. Symmetric.
fn merge_log_sum(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let magnitude = max(bitcast<u32>(a.x) & 0x7fffffffu, bitcast<u32>(b.x) & 0x7fffffffu);
    if (magnitude > 0x7f800000u) { return vec2<f32>(quiet_nan(), quiet_nan()); }
    if (is_negative_infinity(b.x)) { return a; }
    if (is_negative_infinity(a.x)) { return b; }
    if (a.x == b.x) { return vec2<f32>(a.x, (a.y + b.y) + 1.0); }
    if (a.x > b.x) { return vec2<f32>(a.x, a.y + (1.0 + b.y) * m_exp_nonpositive(b.x - a.x)); }
    return vec2<f32>(b.x, b.y + (1.0 + a.y) * m_exp_nonpositive(a.x - b.x));
}
// exp(x - m) where x is below the maximum; elements equal to it are counted apart, without rounding.
fn below_maximum(x: f32, center: f32) -> f32 { return select(m_exp_nonpositive(x - center), 0.0, x == center); }
fn below_maximum4(x: vec4<f32>, center: f32) -> vec4<f32> {
    return vec4<f32>(below_maximum(x.x, center), below_maximum(x.y, center), below_maximum(x.z, center), below_maximum(x.w, center));
}
fn equals_maximum4(x: vec4<f32>, center: f32) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), x == vec4<f32>(center));
}
// The old rest seen from a new maximum: the old maximum joins the rest.
fn rescale(m: f32, s: f32, new_m: f32) -> f32 {
    return select((1.0 + s) * m_exp_nonpositive(m - new_m), s, m == new_m);
}
// A row with NaN or +inf has no log-sum-exp.
fn finish_log_sum(pair: vec2<f32>) -> vec2<f32> {
    return select(pair, vec2<f32>(pair.x, quiet_nan()), (bitcast<u32>(pair.x) & 0x7fffffffu) >= 0x7f800000u && !is_negative_infinity(pair.x));
}

// -------------------------------------------------------------------------------------------------------- random words

// Four consecutive random words, of block `block`.
fn random_block(block: u32, step: u32, key: vec4<u32>) -> vec4<u32> { return threefry(vec4<u32>(block, 0u, step, 0u), key); }
fn random_word(at: u32, step: u32, key: vec4<u32>) -> u32 {
    let words = random_block(at >> 2u, step, key);
    let pair = select(words.xy, words.zw, (at & 2u) != 0u);
    return select(pair.x, pair.y, (at & 1u) != 0u);
}
