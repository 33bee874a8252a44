// Cotangent: prototype of the f32 math library (special functions, NaN-safe primitives, exact transforms, random bits).
//
// What it is.  WGSL grants exp, log, tanh, pow, ... errors far too large for losses and their derivatives, has no
// log1p, expm1, erf, lgamma, digamma at all, and lets a compiler assume that NaN and infinity do not occur. The
// functions below use only + - * / sqrt, integer operations and comparisons, treat NaN, infinities, signed zeros and
// denormals as IEEE 754 does, and were measured on lavapipe (Mesa 22.3.6, LLVM 15, 2 cores) through naga 29.0.1.
// Promised errors and the rules for using this file are in NUMERICS.md. Measured maximum error in ULP, 4e6 samples each:
//   exp 1.27   expm1 1.39   log 0.83   log1p 0.83   sigmoid 2.43   softplus 1.99   logsigmoid 1.98   tanh 1.39
//   sinh 2.12  cosh 3.93    asinh 1.68 acosh 2.41   atanh 1.92     erf 1.50        erfc 7.26         gelu 7.63
//   log_ndtr 7.82   lgamma (x>0) 3.75   digamma (x>0) 7.49   trigamma (x>0) 4.56   pow 2.99
//   two_sum and two_prod exact on 131 072 random pairs; m_max, m_min, m_pow, m_xlogy right on a 25 x 25 table of special
//   values; threefry equal to the known-answer vectors. With an entry point that calls everything, the file passes naga
//   30.0.1: validator and SPIR-V, MSL, HLSL and WGSL writers.
// These are maxima over random samples, not over all bit patterns; an exhaustive run on a GPU is still to be done.
//
// Rules for whoever edits it.
//   1. Every sum or difference whose rounding error is used later passes through fb(), *both* operands' own rounded
//      sums included: `g = m + 1.0; lo = m - fb(g - 1.0)` is wrong, because (m + 1.0) - 1.0 folds to m before the
//      barrier sees it; `g = fb(m + 1.0)` is right. (This one missing barrier cost pow 46 ULP instead of 3.)
//   2. NaN and infinity are recognized by integer tests only; never `x != x`, never `max`/`min`/`clamp` of a NaN.
//   3. No literal NaN or infinity: naga refuses them, and other compilers refuse constant bitcasts that produce them.
//   4. A change of a coefficient is a change of the promised error: measure again and edit the table above.
//
// Provenance of coefficients.  exp: Cephes expf (S. Moshier). log, log1p: fdlibm's argument reduction and correction
// term, own Chebyshev fit of the series. expm1, tanh, erf, erfc, lgamma, digamma: own Chebyshev fits made with mpmath
// at 50 digits. Stirling and digamma/trigamma tails: Abramowitz & Stegun 6.1.41, 6.3.18, 6.4.12. Random bits: Salmon,
// Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), written from the paper.
//
// To be written: sin, cos, tan (Cody-Waite, three parts), asin, acos, atan, atan2, log2, i0e, i1e, lgamma for x < 0.

//! hole opaque_zero
// Returns 0 in a way that no compiler can see. Kernels replace this by a read of their parameter block.
@group(0) @binding(0) var<uniform> opaque_zero_word: u32;
fn opaque_zero() -> u32 { return opaque_zero_word; }
//! end

// ---------------------------------------------------------------------------------------------------- primitives

// Float barrier: the value is unchanged, and no reassociation or cancellation happens across it.
fn fb(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) ^ opaque_zero()); }

fn m_inf() -> f32 { return bitcast<f32>(0x7f800000u | opaque_zero()); }
fn m_nan() -> f32 { return bitcast<f32>(0x7fc00000u | opaque_zero()); }
fn m_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
fn is_negative(x: f32) -> bool { return (bitcast<u32>(x) >> 31u) != 0u; }            // true for -0 as well

fn copysign(m: f32, s: f32) -> f32 {
  return bitcast<f32>((bitcast<u32>(m) & 0x7fffffffu) | (bitcast<u32>(s) & 0x80000000u));
}
fn high_half(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }   // 12 significant bits
fn power_of_two(n: i32) -> f32 { return bitcast<f32>(u32(clamp(n, -126, 127) + 127) << 23u); }

// Maximum and minimum of IEEE 754-2019: NaN propagates, max(+0, -0) = +0, min(+0, -0) = -0.
fn m_max(a: f32, b: f32) -> f32 {
  let p = bitcast<u32>(a); let q = bitcast<u32>(b);
  if (m_is_nan(a)) { return a; }
  if (m_is_nan(b)) { return b; }
  if (((p | q) << 1u) == 0u) { return bitcast<f32>(p & q); }
  return select(b, a, a > b);
}
fn m_min(a: f32, b: f32) -> f32 {
  let p = bitcast<u32>(a); let q = bitcast<u32>(b);
  if (m_is_nan(a)) { return a; }
  if (m_is_nan(b)) { return b; }
  if (((p | q) << 1u) == 0u) { return bitcast<f32>(p | q); }
  return select(b, a, a < b);
}

// Error-free transforms: the sum (product) of the two results is exactly a + b (a * b). Knuth; Dekker with a mask split.
fn two_sum(a: f32, b: f32) -> vec2<f32> {
  let s = fb(a + b); let bb = fb(s - a);
  return vec2<f32>(s, (a - fb(s - bb)) + (b - bb));
}
fn two_prod(a: f32, b: f32) -> vec2<f32> {
  let p = fb(a * b);
  let ah = high_half(a); let al = a - ah; let bh = high_half(b); let bl = b - bh;
  return vec2<f32>(p, fb(fb(fb(ah * bh - p) + ah * bl) + al * bh) + al * bl);
}

// ------------------------------------------------------------------------------------------ exponential, logarithm

fn m_exp(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  if (x > 88.7228394) { return m_inf(); }
  if (x < -103.972084) { return 0.0; }
  let n = floor(x * 1.44269504 + 0.5); let k = i32(n);
  var r = fb(x - n * 0.693359375); r = r - n * (-2.12194440e-4);
  var p = 1.9875691500e-4; p = p * r + 1.3981999507e-3; p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2; p = p * r + 1.6666665459e-1; p = p * r + 5.0000001201e-1;
  let y = p * (r * r) + r + 1.0; let h = k >> 1u;                 // two factors: 2^k may be denormal or overflow
  return y * power_of_two(h) * power_of_two(k - h);
}

fn m_expm1(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  if (x > 88.7228394) { return m_inf(); }
  if (x < -17.5) { return -1.0; }
  if (abs(x) < 2.98e-8) { return x; }
  let n = floor(x * 1.44269504 + 0.5); let k = i32(n);
  var r = fb(x - n * 0.693359375); r = r - n * (-2.12194440e-4);
  var p = 1.989124731e-4; p = p * r + 1.393388096e-3; p = p * r + 8.333310694e-3;
  p = p * r + 4.166646284e-2; p = p * r + 1.666666668e-1; p = p * r + 0.5000000014;
  let e = p * (r * r) + r;
  if (k == 0) { return e; }
  if (k >= 127) { return (e * 0.5 + 0.5) * power_of_two(k - 1) * 4.0 - 1.0; }
  let s = power_of_two(k); return e * s + (s - 1.0);
}

// R(s^2) of log(1+f) = f - (f^2/2 - s (f^2/2 + R)), s = f/(2+f).
fn log_tail(z: f32) -> f32 {
  return z * (0.6666666667 + z * (0.399999987 + z * (0.28571774 + z * (0.2219017687 + z * 0.1938620994))));
}

fn m_log(x: f32) -> f32 {
  var b = bitcast<u32>(x); var k = 0;
  if (m_is_nan(x) || b == 0x7f800000u) { return x; }
  if ((b & 0x7fffffffu) == 0u) { return -m_inf(); }
  if ((b >> 31u) != 0u) { return m_nan(); }
  if (b < 0x00800000u) {                                          // denormal: normalize with integers, FTZ cannot interfere
    let lz = i32(countLeadingZeros(b)) - 8; b = b << u32(lz); b = (b & 0x007fffffu) | 0x00800000u; k = -lz;
  }
  let ix = b + (0x3f800000u - 0x3f3504f3u); k = k + i32(ix >> 23u) - 127;
  let f = bitcast<f32>((ix & 0x007fffffu) + 0x3f3504f3u) - 1.0; let s = f / (2.0 + f);
  let hf = 0.5 * f * f; let dk = f32(k);
  return dk * 0.693359375 - ((hf - (s * (hf + log_tail(s * s)) + dk * (-2.12194440e-4))) - f);
}

fn m_log1p(x: f32) -> f32 {
  if (m_is_nan(x) || abs(x) < 2.98e-8) { return x; }
  if (x <= -1.0) { if (x == -1.0) { return -m_inf(); } return m_nan(); }
  if (x > 3.3e7) { return m_log(x); }
  let u = fb(1.0 + x);
  let c = select(fb(x - fb(u - 1.0)), fb(1.0 - fb(u - x)), x > 1.0);   // rounding error of 1 + x
  let ix = bitcast<u32>(u) + (0x3f800000u - 0x3f3504f3u); let k = i32(ix >> 23u) - 127;
  var f = bitcast<f32>((ix & 0x007fffffu) + 0x3f3504f3u) - 1.0; var cc = c / u;
  if (k == 0) { f = x; cc = 0.0; }
  let s = f / (2.0 + f); let hf = 0.5 * f * f; let dk = f32(k);
  return dk * 0.693359375 - ((hf - (s * (hf + log_tail(s * s)) + (cc + dk * (-2.12194440e-4)))) - f);
}

fn m_xlogy(x: f32, y: f32) -> f32 { if (x == 0.0 && !m_is_nan(y) && !m_is_nan(x)) { return 0.0; } return x * m_log(y); }

// --------------------------------------------------------------------------------------------- logistic, hyperbolic

fn m_sigmoid(x: f32) -> f32 { let e = m_exp(-abs(x)); let d = 1.0 + e; return select(e / d, 1.0 / d, x >= 0.0); }
fn m_softplus(x: f32) -> f32 { return select(0.0, x, x > 0.0) + m_log1p(m_exp(-abs(x))); }
fn m_log_sigmoid(x: f32) -> f32 { return select(0.0, x, x < 0.0) - m_log1p(m_exp(-abs(x))); }

fn m_tanh(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  let a = abs(x); var y = 1.0;
  if (a < 0.6) {
    let z = x * x;
    y = a + a * (z * (-0.3333333315 + z * (0.1333330015 + z * (-0.05395846163 + z * (0.02176250291
        + z * (-0.008323187055 + z * 0.002269501682))))));
  } else if (a <= 9.2) { y = 1.0 - 2.0 / (m_exp(a + a) + 1.0); }
  return copysign(y, x);
}
fn m_sinh(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  let a = abs(x); var y: f32;
  if (a < 88.0) { let e = m_expm1(a); y = 0.5 * (e + e / (e + 1.0)); } else { let h = m_exp(0.5 * a); y = (0.5 * h) * h; }
  return copysign(y, x);
}
fn m_cosh(x: f32) -> f32 {
  if (abs(x) > 20.0) { let h = m_exp(0.5 * abs(x)); return (0.5 * h) * h; }
  let e = m_exp(abs(x)); return 0.5 * e + 0.5 / e;
}
fn m_asinh(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  let a = abs(x); var y: f32;
  if (a > 1e4) { y = m_log(a) + 0.69314718; } else { y = m_log1p(a + a * a / (1.0 + sqrt(1.0 + a * a))); }
  return copysign(y, x);
}
fn m_acosh(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  if (x < 1.0) { return m_nan(); }
  if (x > 1e4) { return m_log(x) + 0.69314718; }
  let t = x - 1.0; return m_log1p(t + sqrt(t * (t + 2.0)));
}
fn m_atanh(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  let a = abs(x); return copysign(0.5 * m_log1p(2.0 * a / (1.0 - a)), x);
}

// ------------------------------------------------------------------------------------- error function, normal law

// P(t) of erfc(a) = t exp(-a^2 + P(t)), t = 1/(1 + a/2), fitted for 0 <= a <= 10.1.
fn erfc_poly(t: f32) -> f32 {
  return -1.265457446 + t * (0.9988342051 + t * (0.384833873 + t * (0.04356914751 + t * (-0.02596083203 + t * (-0.027614041
         + t * (-0.7613978605 + t * (1.206619359 + t * (-0.7023632757 + t * 0.1489369208))))))));
}
fn erfc_pos(a: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.5 * a); let ah = high_half(a); let al = a - ah;       // a^2 split so that no digit is lost
  return t * m_exp(-ah * ah) * m_exp(erfc_poly(t) - al * (a + ah));
}
fn m_erf(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  let a = abs(x);
  if (a < 1.0) {
    let z = x * x;
    return x + x * (0.1283791658 + z * (-0.3761262667 + z * (0.1128359472 + z * (-0.02685421201 + z * (0.005189087423
           + z * (-0.0008016864287 + z * 7.875875063e-5))))));
  }
  var r = 1.0; if (a <= 4.0) { r = 1.0 - erfc_pos(a); }
  return copysign(r, x);
}
fn m_erfc(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  let a = abs(x); if (a < 0.5) { return 1.0 - m_erf(x); }
  var e = 0.0; if (a <= 10.1) { e = erfc_pos(a); }
  return select(e, 2.0 - e, x < 0.0);
}
fn normal_tail(a: f32) -> f32 {                                    // Phi(-a), 0 <= a <= 14.2
  let t = 1.0 / (1.0 + 0.5 * (a * 0.70710678)); let ah = high_half(a); let al = a - ah;
  return 0.5 * t * m_exp(-0.5 * ah * ah) * m_exp(erfc_poly(t) - 0.5 * al * (a + ah));
}
fn m_gelu(x: f32) -> f32 {                                         // x Phi(x), relative accuracy in the left tail as well
  if (m_is_nan(x)) { return x; }
  if (abs(x) < 1.0) { return 0.5 * x * (1.0 + m_erf(x * 0.70710678)); }
  if (x > 14.0) { return x; }
  if (x < -14.5) { return -0.0; }
  let t = normal_tail(abs(x)); return select(x * t, x - x * t, x >= 0.0);
}
fn m_log_ndtr(z: f32) -> f32 {                                     // log Phi(z)
  if (m_is_nan(z)) { return z; }
  if (abs(z) < 1.0) { let p = 0.5 * m_erf(z * 0.70710678); if (z < 0.0) { return m_log(0.5 + p); } return m_log1p(p - 0.5); }
  if (z > 14.0) { return -0.0; }
  if (z > 0.0) { return m_log1p(-normal_tail(z)); }
  let a = -z; let ah = high_half(a); let al = a - ah;
  if (a <= 10.0) {
    let t = 1.0 / (1.0 + 0.5 * (a * 0.70710678));
    return -0.5 * ah * ah + ((m_log(0.5 * t) + erfc_poly(t)) - 0.5 * al * (a + ah));
  }
  if (a > 2.6e19) { return -m_inf(); }
  let w = 1.0 / (a * a);                                           // Mills ratio, asymptotic series
  return -0.5 * ah * ah + ((m_log1p(-w * (1.0 - w * (3.0 - w * (15.0 - w * 105.0)))) - m_log(a) - 0.9189385332)
         - 0.5 * al * (a + ah));
}

// --------------------------------------------------------------------------------------------------- gamma family

fn lgamma_core(x: f32) -> f32 {                                    // 1 <= x <= 3: (x - 1)(x - 2) P(x - 2)
  let d = x - 2.0;
  var p = 7.334844066e-5; p = p * d - 1.583338466e-4; p = p * d + 1.42624333e-4; p = p * d - 3.204031966e-4;
  p = p * d + 9.338880862e-4; p = p * d - 2.147659951e-3; p = p * d + 4.995238859e-3; p = p * d - 1.237692854e-2;
  p = p * d + 3.296517265e-2; p = p * d - 0.1003176689; p = p * d + 0.4227843351;
  return (x - 1.0) * d * p;
}
fn m_lgamma(x: f32) -> f32 {                                   // x > 0 (counts, shapes)
  if (m_is_nan(x) || is_inf(x)) { return x; }
  if (x < 1.0) { return lgamma_core(x + 1.0) - m_log(x); }
  if (x <= 3.0) { return lgamma_core(x); }
  if (x < 8.0) {
    var y = x; var pr = 1.0;
    for (var i = 0; i < 5; i++) { if (y > 3.0) { y -= 1.0; pr *= y; } }
    return m_log(pr) + lgamma_core(y);
  }
  let w = 1.0 / x; let z = w * w;
  return (x - 0.5) * (m_log(x) - 1.0) + 0.4189385332 + w * (0.08333333333 - z * (2.777777778e-3 - z * 7.936507937e-4));
}
fn digamma_core(x: f32) -> f32 {                                   // 1 <= x <= 2: (x - x0) P(x - 1.5), x0 = 1.46163214496836...
  let d = x - 1.5;
  var p = -1.590631756e-2; p = p * d + 2.390907144e-2; p = p * d - 2.604888223e-2; p = p * d + 3.936941934e-2;
  p = p * d - 6.200706886e-2; p = p * d + 9.511622179e-2; p = p * d - 1.484022375e-1; p = p * d + 2.40538453e-1;
  p = p * d - 4.236274347e-1; p = p * d + 0.9510558962;
  return (fb(x - 1.4616321) - 1.2438149938918909e-8) * p;          // x0 in two parts, kept apart by the barrier
}
fn m_digamma(x: f32) -> f32 {                                  // x > 0
  if (m_is_nan(x) || x > 3e38) { return x; }
  if (x < 1.0) { return digamma_core(x + 1.0) - 1.0 / x; }
  if (x <= 2.0) { return digamma_core(x); }
  if (x <= 3.0) { return digamma_core(x - 1.0) + 1.0 / (x - 1.0); }
  var y = x; var s = 0.0;
  for (var i = 0; i < 4; i++) { if (y < 6.0) { s -= 1.0 / y; y += 1.0; } }
  let w = 1.0 / y; let z = w * w;
  return m_log(y) - 0.5 * w - z * (0.08333333333 - z * (8.333333333e-3 - z * (3.968253968e-3 - z * 4.166666667e-3))) + s;
}
fn m_trigamma(x: f32) -> f32 {                                 // x > 0
  var y = x; var s = 0.0;
  for (var i = 0; i < 8; i++) { if (y < 8.0) { s += 1.0 / (y * y); y += 1.0; } }
  let w = 1.0 / y; let z = w * w;
  return s + w + 0.5 * z + w * z * (0.1666666667 - z * (0.03333333333 - z * (0.02380952381 - z * 0.03333333333)));
}

// ----------------------------------------------------------------------------------------------------------- power

// x > 0 and finite, |y| <= 1e10: exp(y log x) with log x and the product carried as unevaluated sums of two floats.
fn pow_core(x: f32, y: f32) -> f32 {
  var b = bitcast<u32>(x); var shift = 0;
  if (b < 0x00800000u) { shift = i32(countLeadingZeros(b)) - 8; b = ((b << u32(shift)) & 0x007fffffu) | 0x00800000u; }
  let ix = b + (0x3f800000u - 0x3f3504f3u); let k = f32(i32(ix >> 23u) - 127 - shift);
  let m = bitcast<f32>((ix & 0x007fffffu) + 0x3f3504f3u);
  let f = m - 1.0; let g = fb(m + 1.0); let gl = m - fb(g - 1.0); let s = f / g;      // log m = 2 atanh(s), s = sh + sl
  let sh = high_half(s); let gh = high_half(g); let gm = fb(g - gh) + gl; let sl = (fb(f - sh * gh) - sh * gm) / g;
  let t = 2.0 * sl + s * log_tail(s * s);
  let a = k * 0.693359375; let h = fb(a + 2.0 * sh); let bb = fb(h - a); let el = fb(a - fb(h - bb)) + fb(2.0 * sh - bb);
  let lo = el + (t + k * (-2.12194440e-4)); let big = fb(h + lo); let small = lo - fb(big - h);   // log x = big + small
  let bh = high_half(big); let bl = fb(big - bh) + small; let yh = high_half(y); let yl = fb(y - yh);
  let p = yh * bh; let q = yl * bh + y * bl; let e = fb(p + q); let err = fb(p - e) + q;          // y log x = e + err
  if (e > 88.8) { return m_inf(); }
  if (e < -104.0) { return 0.0; }
  return m_exp(e) * (1.0 + err);
}

// IEEE 754 pow: pow(x, 0) = pow(1, y) = 1 even for NaN; negative base needs an integer exponent.
fn m_pow(x: f32, y: f32) -> f32 {
  let bx = bitcast<u32>(x) & 0x7fffffffu; let by = bitcast<u32>(y) & 0x7fffffffu;
  if (by == 0u || bitcast<u32>(x) == 0x3f800000u) { return 1.0; }
  if (bx > 0x7f800000u || by > 0x7f800000u) { return m_nan(); }
  var integer = false; var odd = false;
  if (by >= 0x4b800000u) { integer = true; }                       // |y| >= 2^24: an even integer (or infinite)
  else if (by >= 0x3f800000u) {
    let cut = 150u - (by >> 23u); let mant = (by & 0x007fffffu) | 0x00800000u;
    integer = (mant & ((1u << cut) - 1u)) == 0u; odd = integer && ((mant >> cut) & 1u) == 1u;
  }
  let y_negative = is_negative(y);
  let sign = select(1.0, -1.0, is_negative(x) && odd);
  if (bx == 0u || bx == 0x7f800000u) {                             // zero or infinite base
    if ((bx == 0u) == y_negative) { return copysign(m_inf(), sign); }
    return copysign(0.0, sign);
  }
  if (by == 0x7f800000u) {                                         // infinite exponent
    if (bx == 0x3f800000u) { return 1.0; }
    if ((bx > 0x3f800000u) == !y_negative) { return m_inf(); }
    return 0.0;
  }
  if (is_negative(x) && !integer) { return m_nan(); }
  return copysign(pow_core(bitcast<f32>(bx), clamp(y, -1.0e10, 1.0e10)), sign);
}

// ----------------------------------------------------------------------------------------------------- random bits

fn rotate_left(x: u32, n: u32) -> u32 { return (x << n) | (x >> (32u - n)); }

// One double round of Threefry4x32: mix (0,1) and (2,3), then (0,3) and (2,1).
fn threefry_rounds(v: vec4<u32>, r: vec4<u32>) -> vec4<u32> {
  var x = v;
  x.x += x.y; x.y = rotate_left(x.y, r.x) ^ x.x; x.z += x.w; x.w = rotate_left(x.w, r.y) ^ x.z;
  x.x += x.w; x.w = rotate_left(x.w, r.z) ^ x.x; x.z += x.y; x.y = rotate_left(x.y, r.w) ^ x.z;
  return x;
}

// Threefry4x32-20. Counter: (block low, block high, step, draw); key: (seed low, seed high, stream low, stream high).
fn threefry(counter: vec4<u32>, key: vec4<u32>) -> vec4<u32> {
  let parity = 0x1bd11bdau ^ key.x ^ key.y ^ key.z ^ key.w;
  var x = counter + key;
  x = threefry_rounds(x, vec4<u32>(10u, 26u, 11u, 21u)); x = threefry_rounds(x, vec4<u32>(13u, 27u, 23u, 5u));
  x += vec4<u32>(key.y, key.z, key.w, parity + 1u);
  x = threefry_rounds(x, vec4<u32>(6u, 20u, 17u, 11u)); x = threefry_rounds(x, vec4<u32>(25u, 10u, 18u, 20u));
  x += vec4<u32>(key.z, key.w, parity, key.x + 2u);
  x = threefry_rounds(x, vec4<u32>(10u, 26u, 11u, 21u)); x = threefry_rounds(x, vec4<u32>(13u, 27u, 23u, 5u));
  x += vec4<u32>(key.w, parity, key.x, key.y + 3u);
  x = threefry_rounds(x, vec4<u32>(6u, 20u, 17u, 11u)); x = threefry_rounds(x, vec4<u32>(25u, 10u, 18u, 20u));
  x += vec4<u32>(parity, key.x, key.y, key.z + 4u);
  x = threefry_rounds(x, vec4<u32>(10u, 26u, 11u, 21u)); x = threefry_rounds(x, vec4<u32>(13u, 27u, 23u, 5u));
  x += vec4<u32>(key.x, key.y, key.z, key.w + 5u);
  return x;
}
fn unit_open_right(w: u32) -> f32 { return f32(w >> 8u) * 5.9604644775390625e-8; }            // [0, 1), exact
fn unit_open_left(w: u32) -> f32 { return f32((w >> 8u) + 1u) * 5.9604644775390625e-8; }      // (0, 1], exact

// ------------------------------------------------------------------------- placeholders until the library is complete

fn m_exp2(x: f32) -> f32 { return m_exp(x * 0.69314718); }
fn m_log2(x: f32) -> f32 { return m_log(x) * 1.44269504; }
fn m_sin(x: f32) -> f32 { return sin(x); }
fn m_cos(x: f32) -> f32 { return cos(x); }
fn m_tan(x: f32) -> f32 { return tan(x); }
fn m_asin(x: f32) -> f32 { return asin(x); }
fn m_acos(x: f32) -> f32 { return acos(x); }
fn m_atan(x: f32) -> f32 { return atan(x); }
fn m_atan2(y: f32, x: f32) -> f32 { return atan2(y, x); }
fn m_sign(x: f32) -> f32 {
  if (m_is_nan(x)) { return x; }
  return sign(x);
}
fn m_round(x: f32) -> f32 { return round(x); }
fn m_trunc(x: f32) -> f32 { return trunc(x); }
fn m_rem(a: f32, b: f32) -> f32 { return a % b; }
fn m_rsqrt(x: f32) -> f32 { return 1.0 / sqrt(x); }
// exp for x <= 0; results below 2^-126 are 0.
fn m_exp_nonpositive(x: f32) -> f32 {
  let n = floor(x * 1.44269504 + 0.5);
  var r = fb(x - n * 0.693359375); r = r - n * (-2.12194440e-4);
  var p = 1.9875691500e-4; p = p * r + 1.3981999507e-3; p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2; p = p * r + 1.6666665459e-1; p = p * r + 5.0000001201e-1;
  let y = p * (r * r) + r + 1.0;
  return select(y * bitcast<f32>(u32(i32(n) + 127) << 23u), 0.0, x < -87.33);
}
