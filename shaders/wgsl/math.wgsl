// Elementary and special functions in f32, random bits, and primitives that are right for NaN, infinities and zeros.
//
// Why. WGSL grants exp, log, tanh, pow and others errors far too large for losses and their derivatives, has no log1p,
// expm1, erf, lgamma or digamma at all, and lets a compiler assume that NaN and infinity do not occur. The functions
// below use + - * / sqrt, integer operations, comparisons and `select`; their algorithms and coefficients are those of
// `crates/tensor/src/math32`, whose module `promise` lists the largest error of each in ULP. Results below 2^-126 may be
// flushed to zero. Both sides of every pick are computed: there is no branch, and no loop but the one of m_rem.
//
// Bindings. None but the hole: a kernel supplies `opaque_zero`. Limits. lgamma, digamma, trigamma: x > 0;
// m_exp_nonpositive: x <= 0. The loop of m_rem runs at most 35 times. Sine and its kin: `trigonometric.wgsl`.
//
// Form. A generator copies the functions that a kernel calls, with all that they call: every function therefore starts
// with `fn` in the first column, ends with a brace in the first column or on the same line, and holds its own constants.
//
// Rules for whoever edits this file.
//   1. Every sum or difference whose rounding error is used later passes through fb(), the rounded sums inside it
//      included: `g = m + 1.0; lo = m - fb(g - 1.0)` is wrong, because (m + 1.0) - 1.0 folds to m before the barrier sees
//      it; `g = fb(m + 1.0)` is right.
//   2. NaN and infinity are recognized by integer tests; never `x != x`, never `max`, `min` or `clamp` of a NaN.
//   3. No literal NaN, infinity or negative zero: compilers refuse or fold them.
//   4. A change of a coefficient is a change of the promised error: change math32 as well, and measure again.
//
// Provenance. Coefficients: minimax fits of our own. Two-part logarithm of 2: Cephes (S. Moshier). Reduction of the
// logarithm's argument: fdlibm. Threefry: Salmon, Moraes, Dror & Shaw, SC'11, written from the paper.

//! hole opaque_zero
// Returns 0 in a way that no compiler can see. Kernels replace this by a read of their parameter block.
@group(0) @binding(0) var<uniform> opaque_zero_word: u32;
fn opaque_zero() -> u32 { return opaque_zero_word; }
//! end

// ---------------------------------------------------------------------------------------------------- primitives

// Float barrier: the value is unchanged, and no reassociation or cancellation happens across it.
fn fb(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) ^ opaque_zero()); }

// Positive infinity.
fn m_inf() -> f32 { return bitcast<f32>(0x7f800000u | opaque_zero()); }

// A quiet NaN.
fn m_nan() -> f32 { return bitcast<f32>(0x7fc00000u | opaque_zero()); }

// Is x NaN?
fn m_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

// Is x +inf or -inf?
fn m_is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }

// Magnitude of m, sign of s; for NaN and zeros as well.
fn m_copysign(m: f32, s: f32) -> f32 {
  return bitcast<f32>((bitcast<u32>(m) & 0x7fffffffu) | (bitcast<u32>(s) & 0x80000000u));
}

// The upper 12 significant bits of x: products of two such numbers are exact.
fn m_high_half(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }

// 2^n for -127 <= n <= 127, where -127 stands for 0; any other n gives some float or other.
fn m_power_of_two(n: i32) -> f32 { return bitcast<f32>(u32(n + 127) << 23u); }

// IEEE 754-2019 maximum: NaN propagates, max(+0, -0) = +0.
fn m_max(a: f32, b: f32) -> f32 {
  let p = bitcast<u32>(a);
  let q = bitcast<u32>(b);
  let zeros = ((p | q) << 1u) == 0u;
  let m = select(select(b, a, a > b), bitcast<f32>(p & q), zeros);
  return select(select(m, b, m_is_nan(b)), a, m_is_nan(a));
}

// IEEE 754-2019 minimum: NaN propagates, min(+0, -0) = -0.
fn m_min(a: f32, b: f32) -> f32 {
  let p = bitcast<u32>(a);
  let q = bitcast<u32>(b);
  let zeros = ((p | q) << 1u) == 0u;
  let m = select(select(b, a, a < b), bitcast<f32>(p | q), zeros);
  return select(select(m, b, m_is_nan(b)), a, m_is_nan(a));
}

// Sign: -1, 0 or 1; 0 at 0, NaN at NaN.
fn m_sign(x: f32) -> f32 {
  let b = bitcast<u32>(x) & 0x7fffffffu;
  return select(m_copysign(1.0, x), x, b == 0u || b > 0x7f800000u);
}

// Nearest integer, halves to the even one.
fn m_round(x: f32) -> f32 { return select(round(x), x, (bitcast<u32>(x) & 0x7fffffffu) >= 0x4b000000u); }

// Integer part, toward zero.
fn m_trunc(x: f32) -> f32 { return select(trunc(x), x, (bitcast<u32>(x) & 0x7fffffffu) >= 0x4b000000u); }

// Remainder x - trunc(x/y) y with the sign of x, exact (C's fmod) for all operands; NaN for y = 0 and for infinite x.
// Long division on the significands, eight bits of the quotient at a time.
fn m_rem(x: f32, y: f32) -> f32 {
  let bx = bitcast<u32>(x) & 0x7fffffffu;
  let by = bitcast<u32>(y) & 0x7fffffffu;
  let ex = max(bx >> 23u, 1u);                                 // denormals count from the same exponent as the smallest
  let ey = max(by >> 23u, 1u);                                 // normal numbers, without the implied bit
  let mx = bx - ((ex - 1u) << 23u);
  let my = max(by - ((ey - 1u) << 23u), 1u);
  var r = mx % my;
  var left = select(0u, ex - ey, bx >= by);
  for (; left > 0u; left -= min(left, 8u)) { r = (r << min(left, 8u)) % my; }
  let shift = min(countLeadingZeros(r | 1u) - 8u, ey - 1u);
  let exact = select(((ey - 1u - shift) << 23u) + (r << shift), 0u, r == 0u);
  let magnitude = bitcast<f32>(select(exact, bx, bx < by));
  return select(m_copysign(magnitude, x), m_nan(), bx >= 0x7f800000u || by > 0x7f800000u || by == 0u);
}

// 1/sqrt(x); +inf at +0, NaN for x < 0.
fn m_rsqrt(x: f32) -> f32 {
  let b = bitcast<u32>(x);
  let denormal = b < 0x00800000u;                              // m 2^-149 = 2 m 2^-150, normalized as an integer
  let n = select(x, 2.0 * f32(i32(b)), denormal);
  var y = inverseSqrt(n);
  y = select(y, y * 3.7778931862957162e22, denormal);          // 2^75
  y = select(y, bitcast<f32>((b & 0x80000000u) | bitcast<u32>(m_inf())), (b << 1u) == 0u);
  y = select(y, 0.0, b == 0x7f800000u);
  return select(y, m_nan(), b > 0x80000000u || (b > 0x7f800000u && b < 0x80000000u));
}

// ------------------------------------------------------------------------------------------------- exponential

// (e^r - 1 - r) / r^2 for |r| <= ln(2)/2 and z = r^2, relative error 1.5e-8 of e^r - 1.
fn m_exp_tail(r: f32, z: f32) -> f32 {
  return (0.49999997 + r * 0.16666542) + z * ((0.04166743 + r * 0.008366876) + z * 0.0013871869);
}

// x = k ln 2 + r for |x| < 128: (r, t), where the bits of t are those of 12582912 plus k.
fn m_exp_reduce(x: f32) -> vec2f {
  let t = fb(x * 1.442695 + 12582912.0);
  let n = t - 12582912.0;
  return vec2f(fb(x - n * 0.6933594) - n * -0.00021219444, t);
}

// k from the t of m_exp_reduce.
fn m_exp_exponent(t: f32) -> i32 { return i32(bitcast<u32>(t) - 0x4b400000u); }

// y 2^k in two factors, because 2^k itself may overflow or be denormal.
fn m_scale(y: f32, k: i32) -> f32 {
  let h = k >> 1u;
  return fb(y * m_power_of_two(h)) * m_power_of_two(k - h);
}

// e^x = y 2^k: (y, t) with y in [0.7, 1.42]; arguments beyond 104 in magnitude are pulled in.
fn m_exp_parts(x: f32) -> vec2f {
  let p = m_exp_reduce(select(select(x, -104.0, x < -104.0), 104.0, x > 104.0));
  let z = p.x * p.x;
  return vec2f(fb(m_exp_tail(p.x, z) * z + p.x) + 1.0, p.y);
}

// e^x, 2 ULP; inf above 88.72, denormal results are kept.
fn m_exp(x: f32) -> f32 {
  let p = m_exp_parts(x);
  let y = m_scale(p.x, m_exp_exponent(p.y));
  return select(select(y, m_inf(), x > 88.72283), x, m_is_nan(x));
}

// e^x for x <= 0 or NaN, 2 ULP: the short form for softmax and the logistic functions.
fn m_exp_nonpositive(x: f32) -> f32 {
  let t = fb(x * 1.442695 + 12582912.0);
  let n = t - 12582912.0;
  let r = fb(x - n * 0.6933594) - n * -0.00021219444;
  let z = r * r;
  let y = m_exp_tail(r, z) * z + r + 1.0;
  // a product, not an addition to the exponent bits: the sum would turn some NaN patterns into numbers
  return select(y * bitcast<f32>((bitcast<u32>(t) << 23u) + 0x3f800000u), 0.0, x < -88.0);
}

// 2^x, 4 ULP; exact at integers.
fn m_exp2(x: f32) -> f32 {
  let c = select(select(x, -151.0, x < -151.0), 129.0, x > 129.0);
  let t = fb(c + 12582912.0);
  let r = c - (t - 12582912.0);
  let p = 0.05550358 + r * (0.009618504 + r * (0.0013391896 + r * 0.00015328883));
  let y = m_scale(1.0 + r * (0.6931472 + r * (0.24022648 + r * p)), m_exp_exponent(t));
  return select(select(y, m_inf(), x >= 128.0), x, m_is_nan(x));
}

// e^x - 1, 2 ULP, relative near 0 as well.
fn m_expm1(x: f32) -> f32 {
  let p = m_exp_reduce(select(select(x, -18.0, x < -18.0), 104.0, x > 104.0));
  let z = p.x * p.x;
  let e = m_exp_tail(p.x, z) * z + p.x;
  // half of the result first: 2^k alone would overflow where the result does not
  let s = m_power_of_two(m_exp_exponent(p.y) - 1);
  let y = (e * s + fb(s - 0.5)) * 2.0;
  return select(select(y, m_inf(), x > 88.72283), x, m_is_nan(x) || abs(x) < 1.0e-8);
}

// 1 / (e^x - 1), 8 ULP.
fn m_recip_expm1(x: f32) -> f32 {
  return 1.0 / m_expm1(x);
}

// --------------------------------------------------------------------------------------------------- logarithm

// (ln(1 + f) - f + f^2/2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2) and z = f^2, relative error 6e-9 of ln(1 + f).
fn m_log_tail(f: f32, z: f32) -> f32 {
  let low = (0.3333333 + f * -0.2500082) + z * (0.20001242 + f * -0.16623408);
  let high = (0.14201577 + f * -0.13159631) + z * (0.12762263 + f * -0.07636435);
  return low + (z * z) * high;
}

// x = 2^k (1 + f): (f, k) with sqrt(1/2) <= 1 + f < sqrt(2), for finite x > 0, denormals included.
fn m_log_split(x: f32) -> vec2f {
  let b = bitcast<u32>(x);
  // a denormal is its bit pattern times 2^-149; the conversion normalizes it, and flushing cannot interfere
  let denormal = b < 0x00800000u;
  let shifted = select(b, bitcast<u32>(f32(i32(b))), denormal) + 0x004afb0du;
  let k = i32(shifted >> 23u) - select(127, 276, denormal);
  return vec2f(bitcast<f32>((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0, f32(k));
}

// 1 + x = 2^k (1 + f): (f, k) for finite x > -1, without the rounding error of 1 + x.
fn m_log1p_split(x: f32) -> vec2f {
  let shifted = bitcast<u32>(1.0 + x) + 0x004afb0du;
  let k = i32(shifted >> 23u) - 127;
  // f = x / 2^k + (2^-k - 1) is rounded once; beyond 2^24 the 1 is lost anyway
  let s = m_power_of_two(-k);
  let large = bitcast<f32>((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0;
  return vec2f(select(x * s + fb(s - 1.0), large, k > 24), f32(k));
}

// ln(1 + f) + k ln 2.
fn m_log_join(f: f32, k: f32) -> f32 {
  let square = f * f;
  let tail = fb(square * f * m_log_tail(f, square) + k * -0.00021219444);
  return k * 0.6933594 + (f - (0.5 * square - tail));
}

// y, but -inf, inf or NaN where the logarithm of x is.
fn m_log_edge(x: f32, y: f32) -> f32 {
  let b = bitcast<u32>(x);
  let v = select(select(y, m_nan(), (b >> 31u) != 0u), -m_inf(), (b << 1u) == 0u);
  return select(v, x, b == 0x7f800000u || m_is_nan(x));
}

// ln x, 2 ULP; -inf at 0, NaN for x < 0.
fn m_log(x: f32) -> f32 {
  let p = m_log_split(x);
  return m_log_edge(x, m_log_join(p.x, p.y));
}

// log2 x, 2 ULP; exact at powers of two; -inf at 0, NaN for x < 0.
fn m_log2(x: f32) -> f32 {
  let p = m_log_split(x);
  return m_log_edge(x, p.y + m_log_join(p.x, 0.0) * 1.442695);
}

// ln(1 + x), 2 ULP; -inf at -1, NaN below.
fn m_log1p(x: f32) -> f32 {
  let b = bitcast<u32>(x);
  let p = m_log1p_split(x);
  var y = m_log_join(p.x, p.y);
  y = select(y, -m_inf(), b == 0xbf800000u);
  y = select(y, m_nan(), b > 0xbf800000u);
  return select(y, x, abs(x) < 1.0e-8 || b == 0x7f800000u || m_is_nan(x));
}

// ln(1 - e^-x) for x >= 0, 4 ULP; -inf at 0, NaN for x < 0. One logarithm, of an argument that is chosen: 1 - e^-x, which loses no
// digit for small x, or 1 less a known e^-x.
fn m_log1mexp(x: f32) -> f32 {
  let near = x < 0.6931472;
  let p = m_exp_reduce(select(-x, -88.0, x > 88.0));
  let z = p.x * p.x;
  let t = fb(m_exp_tail(p.x, z) * z + p.x);
  let power = m_power_of_two(m_exp_exponent(p.y));
  let q = m_log_split(select(fb(1.0 - power) - t * power, x, x < 1.0e-8));
  let e = select(fb(t + 1.0) * power, 0.0, x > 88.0);
  let halve = e > 0.2928932;
  let f = select(select(-e, 1.0 - 2.0 * e, halve), q.x, near);
  let k = select(select(0.0, -1.0, halve), q.y, near);
  let b = bitcast<u32>(x);
  var y = select(m_log_join(f, k), -e, e < 1.0e-8);
  y = select(y, -m_inf(), (b << 1u) == 0u);
  return select(y, m_nan(), m_is_nan(x) || (b > 0x80000000u));
}

// ln(1 + e) for 0 <= e <= 1 or NaN.
fn m_log1p_unit(e: f32) -> f32 {
  let halve = e > 0.41421354;
  return m_log_join(select(e, 0.5 * e - 0.5, halve), select(0.0, 1.0, halve));
}

// x ln y, 4 ULP, and 0 where x = 0 unless y is NaN.
fn m_xlogy(x: f32, y: f32) -> f32 {
  let zero = (bitcast<u32>(x) << 1u) == 0u && !m_is_nan(y);
  let product = select(x * m_log(y), y, m_is_nan(y));
  return select(select(product, 0.0, zero), x, m_is_nan(x));
}

// x ln(1 + y), 4 ULP, and 0 where x = 0 unless y is NaN.
fn m_xlog1py(x: f32, y: f32) -> f32 {
  let zero = (bitcast<u32>(x) << 1u) == 0u && !m_is_nan(y);
  let product = select(x * m_log1p(y), y, m_is_nan(y));
  return select(select(product, 0.0, zero), x, m_is_nan(x));
}

// ----------------------------------------------------------------------------------------- logistic, hyperbolic

// Logistic function 1 / (1 + e^-x), 4 ULP, relative in the left tail as well.
fn m_sigmoid(x: f32) -> f32 {
  let e = m_exp_nonpositive(-abs(x));
  return select(1.0, e, x < 0.0) / (1.0 + e);
}

// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), 4 ULP.
fn m_softplus(x: f32) -> f32 { return select(0.0, x, x > 0.0) + m_log1p_unit(m_exp_nonpositive(-abs(x))); }

// ln of the logistic function, 4 ULP.
fn m_log_sigmoid(x: f32) -> f32 { return select(0.0, x, x < 0.0) - m_log1p_unit(m_exp_nonpositive(-abs(x))); }

// Hyperbolic tangent, 2 ULP, relative near 0 as well.
fn m_tanh(x: f32) -> f32 {
  let a = abs(x);
  let z = a * a;
  let p = -0.33333296 + z * (0.13331848 + z * (-0.05377662 + z * (0.020769373 + z * -0.0058617457)));
  let e = m_exp_nonpositive(-2.0 * a);
  return m_copysign(select(1.0 - (e + e) / (1.0 + e), a + a * (z * p), a < 0.6), x);
}

// e^a / 2 for a >= 0, which overflows only where it must.
fn m_half_exp(a: f32) -> f32 {
  let p = m_exp_parts(a);
  return select(m_scale(p.x, m_exp_exponent(p.y) - 1), m_inf(), a > 89.415985);
}

// Hyperbolic sine, 4 ULP, relative near 0 as well.
fn m_sinh(x: f32) -> f32 {
  let a = abs(x);
  let z = a * a;
  let p = 0.16666667 + z * (0.0083333105 + z * (0.00019842894 + z * 2.7822302e-6));
  let h = m_half_exp(a);
  let y = select(h - 0.25 / h, a + a * (z * p), a < 1.0);
  return select(m_copysign(select(y, h, a > 20.0), x), x, m_is_nan(x));
}

// Hyperbolic cosine, 4 ULP.
fn m_cosh(x: f32) -> f32 {
  let a = abs(x);
  let h = m_half_exp(a);
  return select(select(h + 0.25 / h, h, a > 20.0), x, m_is_nan(x));
}

// ln(1 + t) for x < 2^25, else ln 2x; for t >= 0 and x >= 0.
fn m_log1p_or_double(t: f32, x: f32) -> f32 {
  let is_large = x >= 33554432.0;
  let p = m_log1p_split(select(t, x, is_large));
  let y = m_log_join(p.x, select(p.y, p.y + 1.0, is_large));
  return select(y, x, (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u);
}

// Inverse hyperbolic sine, 4 ULP, relative near 0 as well.
fn m_asinh(x: f32) -> f32 {
  let a = abs(x);
  let square = a * a;
  return m_copysign(m_log1p_or_double(a + square / (1.0 + sqrt(1.0 + square)), a), x);
}

// Inverse hyperbolic cosine, 4 ULP; NaN for x < 1.
fn m_acosh(x: f32) -> f32 {
  let t = x - 1.0;
  let y = m_log1p_or_double(t + sqrt(t * (t + 2.0)), x);
  return select(y, m_nan(), bitcast<u32>(x) - 0x3f800000u > 0x40000000u);
}

// Inverse hyperbolic tangent, 4 ULP; +-inf at +-1, NaN outside.
fn m_atanh(x: f32) -> f32 {
  let a = abs(x);
  let b = bitcast<u32>(a);
  let p = m_log1p_split((a + a) / (1.0 - a));
  let y = select(0.5 * m_log_join(p.x, p.y), m_inf(), b == 0x3f800000u);
  return m_copysign(select(y, m_nan(), b > 0x3f800000u), x);
}

// ----------------------------------------------------------------------------------- error function, normal law

// a^2 as an unevaluated sum.
fn m_square_parts(a: f32) -> vec2f {
  let square = fb(a * a);
  let high = m_high_half(a);
  return vec2f(square, fb(high * high - square) + (a - high) * (a + high));
}

// e^(a^2) erfc a for a >= 0: (1 + 2a) times it is a polynomial in (a - 2)/(a + 2), relative error 1.2e-8.
fn m_scaled_erfc(a: f32) -> f32 {
  let q = (a - 2.0) / (a + 2.0);
  var p = -0.0014016848 + q * (-0.00035049138 + q * (0.00016302372 + q * 6.0505314e-5));
  p = -0.05421439 + q * (-0.008016471 + q * (0.008694965 + q * (0.0012106444 + q * p)));
  p = 1.2769784 + q * (-0.09276377 + q * (-0.16603069 + q * (0.16404916 + q * p)));
  return p / (1.0 + 2.0 * a);
}

// Error function, 2 ULP, relative near 0 as well.
fn m_erf(x: f32) -> f32 {
  let a = abs(x);
  let z = a * a;
  var p = -0.026853347 + z * (0.005187162 + z * (-0.0007997853 + z * 7.806904e-5));
  p = 0.12837917 + z * (-0.37612626 + z * (0.11283579 + z * p));
  // 1 - e^q(a) with q = ln erfc, fitted for 1 <= a <= 4; beyond, the result rounds to 1
  let b = select(a, 4.0, a > 4.0);
  var q = -0.10310675 + b * (0.021838062 + b * (-0.0029476625 + b * 0.0001863807));
  q = -0.00034149011 + b * (-1.1270893 + b * (-0.6381448 + b * q));
  let y = m_copysign(select(1.0 - m_exp_nonpositive(q), a + a * p, a < 1.0), x);
  return select(y, x, m_is_nan(x));
}

// Complementary error function 1 - erf x, 8 ULP, relative in the right tail as well.
fn m_erfc(x: f32) -> f32 {
  let a = select(abs(x), 11.0, abs(x) > 11.0);
  let square = m_square_parts(a);
  let e = m_exp_nonpositive(-square.x);
  let y = (e - e * square.y) * m_scaled_erfc(a);
  return select(select(y, 2.0 - y, x < 0.0), x, m_is_nan(x));
}

// Phi(-a) = e t for a >= 0: (e, t) with e = e^(-a^2/2).
fn m_upper_tail_parts(a: f32) -> vec2f {
  let b = select(a, 15.0, a > 15.0);
  let square = m_square_parts(b);
  let e = m_exp_nonpositive(-0.5 * square.x);
  return vec2f(e - e * (0.5 * square.y), 0.5 * m_scaled_erfc(b * 0.70710677));
}

// x Phi(x) with the normal distribution function Phi, 8 ULP, relative in the left tail as well; -0 at -inf.
fn m_gelu(x: f32) -> f32 {
  let p = m_upper_tail_parts(abs(x));
  let tail = fb(x * p.x) * p.y;                                // in this order: e t is denormal where the result is not
  let y = select(x - tail, tail, x < 0.0);
  let left = select(y, m_copysign(0.0, x), x < -15.0);
  return select(left, x, x > 15.0 || (bitcast<u32>(x) << 1u) == 0u || m_is_nan(x));
}

// ln Phi(z) with the normal distribution function Phi, 10 ULP, relative in both tails.
fn m_log_ndtr(z: f32) -> f32 {
  let a = abs(z);
  let is_left = z < 0.0;
  // left: -a^2/2 + ln(e^(a^2/2) Phi(-a)); right: ln(1 - Phi(-a)); one logarithm serves both
  let left = m_log_split(0.5 * m_scaled_erfc(a * 0.70710677));
  let p = m_upper_tail_parts(a);
  let tail = p.x * p.y;
  let halve = tail > 0.29289323;
  let right = vec2f(select(0.0, 1.0, halve) - tail * select(1.0, 2.0, halve), select(0.0, -1.0, halve));
  let log_part = m_log_join(select(right.x, left.x, is_left), select(right.y, left.y, is_left));
  let square = m_square_parts(a);
  var y = (log_part - 0.5 * square.y) - 0.5 * square.x;
  y = select(y, -0.5 * a * a, a > 1.8e19);                     // the logarithm is lost in the square
  y = select(y, -m_inf(), a > 2.6087635e19);
  return select(select(log_part, y, is_left), z, m_is_nan(z));
}

// The inverse Mills ratio phi(z)/Phi(z), the slope of ln Phi, 8 ULP, relative in both tails.
fn m_inverse_mills(z: f32) -> f32 {
  let a = select(abs(z), 1.0e4, abs(z) > 1.0e4);               // beyond, the ratio is -z or 0
  let left = 0.7978846 / m_scaled_erfc(a * 0.70710677);
  let p = m_upper_tail_parts(a);
  let right = (0.3989423 * p.x) / (1.0 - p.x * p.y);
  let y = select(right, select(left, -z, z < -1.0e4), z < 0.0);
  return select(y, z, m_is_nan(z));
}

// --------------------------------------------------------------------------------------------------- Bessel functions

// p sqrt(1/x) for x > 6, as both functions are: p is 1/sqrt(2 pi), in two parts, and what a polynomial in 1/x adds. 0 at inf.
fn m_bessel_far(a: f32, w: f32, p: f32) -> f32 {
  let y = (0.3989423 + fb(-1.133517e-8 + w * p)) * inverseSqrt(a);
  return select(y, 0.0, m_is_inf(a));
}

// e^x = (1 + t) 2^k for -6 <= x <= 0: (t, 2^k).
fn m_bessel_exp(x: f32) -> vec2f {
  let p = m_exp_reduce(x);
  let z = p.x * p.x;
  return vec2f(m_exp_tail(p.x, z) * z + p.x, m_power_of_two(m_exp_exponent(p.y)));
}

// e^-a p for 0 <= a <= 6, where p is a polynomial in a^2 whose own rounding error `drift` times the relative slope corrects.
fn m_bessel_near(a: f32, p: f32, drift: f32) -> f32 {
  let e = m_bessel_exp(-a);
  return (p + p * (e.x + drift)) * e.y;
}

// Modified Bessel function e^-|x| I0(x), 4 ULP.
fn m_i0e(x: f32) -> f32 {
  let a = abs(x);
  let b = select(a, 6.0, a > 6.0);
  let u = m_square_parts(b);
  var p = 6.763927e-8 + u.x * (4.8107157e-10 + u.x * (2.0824497e-12 + u.x * 1.4530088e-14));
  p = 0.24999999 + u.x * (0.01562502 + u.x * (0.0004340189 + u.x * (6.7834185e-6 + u.x * p)));
  let near = m_bessel_near(b, 1.0 + u.x * p, u.y * (0.25 - 0.03 * b));
  let w = 1.0 / select(select(a, 6.0, a < 6.0), 1.0e18, a > 1.0e18);
  var q = 0.032669082 + w * (0.016018312 + w * (0.093154885 + w * 0.9788292));
  q = 0.049869534 + w * (0.027908789 + w * q);
  let y = select(near, m_bessel_far(a, w, q), a > 6.0);
  return select(y, x, m_is_nan(x));
}

// Modified Bessel function e^-|x| I1(x), 4 ULP, relative near 0 as well.
fn m_i1e(x: f32) -> f32 {
  let a = abs(x);
  let b = select(a, 6.0, a > 6.0);
  let u = m_square_parts(b);
  var p = 5.6432015e-9 + u.x * (3.4120956e-11 + u.x * (1.3468104e-13 + u.x * 7.731301e-16));
  p = 0.0625 + u.x * (0.0026041672 + u.x * (5.4253134e-5 + u.x * (6.7824385e-7 + u.x * p)));
  let near = m_bessel_near(b, 0.5 + u.x * p, u.y * (0.125 - 0.009 * b)) * b;
  let w = 1.0 / select(select(a, 6.0, a < 6.0), 1.0e18, a > 1.0e18);
  var q = -0.04428844 + w * (-0.032846134 + w * (-0.062075365 + w * -1.2430784));
  q = -0.14960521 + w * (-0.04660506 + w * q);
  let y = m_copysign(select(near, m_bessel_far(a, w, q), a > 6.0), x);
  return select(y, x, m_is_nan(x));
}

// --------------------------------------------------------------------------------------------------- gamma family

// y for x > 0, NaN elsewhere.
fn m_positive_only(x: f32, y: f32) -> f32 {
  return select(y, m_nan(), bitcast<u32>(x) - 1u >= 0x7f800000u);
}

// lnGamma(x) / ((x - 1)(x - 2)) for 1 <= x <= 3 in d = x - 2, relative error 2e-8.
fn m_lgamma_poly(d: f32) -> f32 {
  var p = 0.00013125181 + d * (-5.2765135e-5 + d * (7.795092e-5 + d * -3.862093e-5));
  p = 0.0049918313 + d * (-0.0021022703 + d * (0.00094367674 + d * (-0.00042517544 + d * p)));
  return 0.42278433 + d * (-0.10031728 + d * (0.03296558 + d * (-0.012384926 + d * p)));
}

// ln Gamma(x), 6 ULP, relative at its roots 1 and 2 as well; NaN for x <= 0.
fn m_lgamma(x: f32) -> f32 {
  // down to [1, 3]: Gamma(x) = (x-1) Gamma(x-1); up from (0, 1): Gamma(x) = Gamma(x+1)/x, where x + 1 must not be rounded
  let is_small = x < 1.0;
  let y = x - select(select(0.0, 1.0, x > 3.0), 2.0, x > 4.0);
  let one_step = select(1.0, x - 1.0, x > 3.0);
  let product = select(one_step, one_step * (x - 2.0), x > 4.0);
  let less_one = select(y - 1.0, x, is_small);
  let less_two = select(y - 2.0, x - 1.0, is_small);
  let core = less_one * less_two * m_lgamma_poly(less_two);
  // one logarithm: of x below 1 and above 5 (Stirling, Abramowitz & Stegun 6.1.41, last terms fitted), else of the product
  let is_large = x > 5.0;
  let p = m_log_split(select(product, x, is_small || is_large));
  let l = m_log_join(p.x, p.y);
  let near = core + select(l, -l, is_small);
  let w = 1.0 / x;
  let far = ((x - 0.5) * (l - 1.0) + 0.41893855) + w * (0.08333271 + w * w * -0.0027321144);
  let v = m_positive_only(x, select(near, far, is_large));
  return select(v, m_inf(), x > 4.0850034e36);
}

// Digamma, the derivative of ln Gamma, 8 ULP, relative at its root 1.4616 as well; NaN for x <= 0.
fn m_digamma(x: f32) -> f32 {
  let is_small = x < 1.0;
  let y = select(x, x + 1.0, is_small);
  // 1 <= y <= 2: (y - root) P(y - 1.5), with the root in two parts
  let d = y - 1.5;
  var p = 0.039417036 + d * (-0.02590639 + d * (0.023825418 + d * -0.016162902));
  p = -0.14840047 + d * (0.095107175 + d * (-0.062033292 + d * p));
  p = 0.9510559 + d * (-0.42362747 + d * (0.24053909 + d * p));
  let near = (fb(y - 1.4616321) - 1.243815e-8) * p;
  // y > 2: Abramowitz & Stegun 6.3.18, last terms fitted
  let w = 1.0 / y;
  let z = w * w;
  let series = z * (0.08333239 + z * (-0.008300075 + z * (0.0035610816 + z * -0.0018281146)));
  let l = m_log_split(y);
  let far = m_log_join(l.x, l.y) - (0.5 * w + series);
  var v = select(near, far, y > 2.0);
  v = select(v, v - 1.0 / x, is_small);
  v = select(v, -m_inf(), x < 2.9387359e-39);                  // 1/x overflows
  return select(m_positive_only(x, v), x, bitcast<u32>(x) == 0x7f800000u);
}

// Trigamma, the second derivative of ln Gamma, 8 ULP; NaN for x <= 0.
fn m_trigamma(x: f32) -> f32 {
  // psi'(x) = 1/x^2 + psi'(x + 1), and psi'(1/t) = t + t^2/2 + t^3 H(t) with H fitted for 0 <= t <= 1
  let t = 1.0 / (x + 1.0);
  var h = 0.036066666 + t * (-0.036106396 + t * (0.016655054 + t * -0.0031425026));
  h = 0.16666435 + t * (2.9096378e-5 + t * (-0.033310782 + t * (-0.0019214202 + t * h)));
  let w = 1.0 / x;
  let y = w * w + (t + t * t * (0.5 + t * h));
  return m_positive_only(x, select(select(y, m_inf(), x < 5.4e-20), 0.0, bitcast<u32>(x) == 0x7f800000u));
}

// ----------------------------------------------------------------------------------------------------------- power

// (ln((1+s)/(1-s)) - 2s) / s in z = s^2, for |s| <= 0.1716.
fn m_atanh_tail(z: f32) -> f32 {
  return z * (0.6666667 + z * (0.4 + z * (0.28571774 + z * (0.22190177 + z * 0.1938621))));
}

// x^y for finite x > 0 and |y| <= 1e10: exp(y ln x) with ln x and the product carried as unevaluated sums of two floats.
fn m_pow_positive(x: f32, y: f32) -> f32 {
  // ln(1+f) = 2 atanh(s), s = f/(2+f) = s + s_low: the quotient's own error is recovered from its remainder
  let split = m_log_split(x);
  let f = split.x;
  let k = split.y;
  let g = fb(2.0 + f);
  let g_low = f - fb(g - 2.0);
  let s = fb(f / g);
  let s_high = m_high_half(s);
  let g_high = m_high_half(g);
  let g_rest = fb(g - g_high) + g_low;
  let s_low = (fb(fb(f - s_high * g_high) - s_high * g_rest)) / g;
  let tail = 2.0 * s_low + s * m_atanh_tail(s * s);
  // k ln 2 + 2s, exactly (two-sum)
  let a = fb(k * 0.6933594);
  let b = 2.0 * s_high;
  let sum = fb(a + b);
  let b_part = fb(sum - a);
  let rest = fb(a - fb(sum - b_part)) + fb(b - b_part);
  let low = fb(rest + fb(tail + k * -0.00021219444));
  let l = fb(sum + low);
  let l_low = low - fb(l - sum);
  // y ln x = e + e_low
  let l_high = m_high_half(l);
  let l_rest = fb(l - l_high) + l_low;
  let y_high = m_high_half(y);
  let p = fb(y_high * l_high);
  let q = fb(fb(y - y_high) * l_high + y * l_rest);
  let e = fb(p + q);
  let e_low = select(0.0, fb(p - e) + q, abs(e) < 110.0);      // far outside the range of f32 it may exceed 1
  let v = m_exp_parts(e);
  let r = m_scale(v.x + v.x * e_low, m_exp_exponent(v.y));
  return select(r, m_inf(), e > 88.8);
}

// IEEE 754 x^y, 4 ULP: pow(x, 0) = pow(1, y) = 1 for every operand, NaN included; a negative base needs an integer exponent.
fn m_pow(x: f32, y: f32) -> f32 {
  let bx = bitcast<u32>(x) & 0x7fffffffu;
  let by = bitcast<u32>(y) & 0x7fffffffu;
  // the unit bit of |y| is bit `cut` of its significand, for 1 <= |y| < 2^24; a larger |y| is even
  let cut = clamp(150 - i32(by >> 23u), 0, 31);
  let significand = (by & 0x007fffffu) | 0x00800000u;
  let is_large = by >= 0x4b800000u;
  let is_integer = is_large || (by >= 0x3f800000u && (significand & ((1u << u32(cut)) - 1u)) == 0u);
  let is_odd = is_integer && !is_large && ((significand >> u32(cut)) & 1u) == 1u;
  let x_negative = (bitcast<u32>(x) >> 31u) != 0u;
  let y_negative = (bitcast<u32>(y) >> 31u) != 0u;
  // beyond 1e10 every base but 1 has overflowed or vanished
  let bounded = select(y, m_copysign(1.0e10, y), by > 0x501502f9u);
  var v = m_pow_positive(bitcast<f32>(bx), bounded);
  v = select(v, select(0.0, m_inf(), (bx == 0u) == y_negative), bx == 0u || bx == 0x7f800000u);
  let limit = select(select(m_inf(), 0.0, (bx > 0x3f800000u) == y_negative), 1.0, bx == 0x3f800000u);
  v = select(v, limit, by == 0x7f800000u);
  v = select(v, m_copysign(v, -1.0), x_negative && is_odd);
  v = select(v, m_nan(), x_negative && bx != 0u && bx != 0x7f800000u && !is_integer && by != 0u);
  v = select(v, m_nan(), bx > 0x7f800000u || by > 0x7f800000u);
  return select(v, 1.0, by == 0u || bitcast<u32>(x) == 0x3f800000u);
}
