// Sine, cosine, tangent and their inverses in f32, with the algorithms and coefficients of
// `crates/tensor/src/math32/trigonometric.rs`, for the reasons and by the rules that stand in `math.wgsl`.
//
// Bindings: none. Limits. sin, cos, tan: |x| <= 8192.

//! hole library
fn fb(v: f32) -> f32 { return v; }
fn m_nan() -> f32 {
  var bits = 0x7fc00000u;                                      // not a constant: there is no literal NaN
  return bitcast<f32>(bits);
}
fn m_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn m_is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
fn m_copysign(m: f32, s: f32) -> f32 {
  return bitcast<f32>((bitcast<u32>(m) & 0x7fffffffu) | (bitcast<u32>(s) & 0x80000000u));
}
//! end

// x = q pi/2 + r + low for |x| <= 8192: (r, low, t), where the low bits of t are those of q. Cody and Waite with four parts
// of pi/2; the products with the first three are exact, so r + low is accurate at every multiple of pi/2. Beyond 8192 r
// stays bounded, nothing more.
fn m_trig_reduce(x: f32) -> vec3f {
  let t = fb(x * 0.63661975 + 12582912.0);
  let n = t - 12582912.0;
  let exact = fb(fb(x - n * 1.5703125) - n * 0.0004837513);
  let part = fb(n * 7.5495336e-8);
  let r = fb(exact - part);
  let low = fb(fb(exact - r) - part) - n * 2.563344e-12;
  return vec3f(clamp(r, -0.8, 0.8), low, t);
}

// sin(r + low) for |r| <= pi/4, relative error of the polynomial 4e-9.
fn m_sin_poly(r: f32, low: f32) -> f32 {
  let z = r * r;
  return r + (r * (z * (-0.16666655 + z * (0.008332187 + z * -0.00019517899))) + low);
}

// cos(r + low) for |r| <= pi/4, relative error of the polynomial 2e-10.
fn m_cos_poly(r: f32, low: f32) -> f32 {
  let z = r * r;
  return 1.0 - ((0.5 * z + r * low) - z * z * (0.041666646 + z * (-0.001388731 + z * 2.443233e-5)));
}

// sin(r + low + q pi/2).
fn m_sin_quadrant(r: f32, low: f32, q: u32) -> f32 {
  let y = select(m_cos_poly(r, low), m_sin_poly(r, low), (q & 1u) == 0u);
  return bitcast<f32>(bitcast<u32>(y) ^ ((q & 2u) << 30u));
}

// y, but x itself where x is tiny, and NaN where x is infinite or NaN.
fn m_trig_edge(x: f32, y: f32) -> f32 {
  let b = bitcast<u32>(x) & 0x7fffffffu;
  return select(select(y, x, b < 0x39000000u), m_nan(), b >= 0x7f800000u);
}

// Sine of x radians, 2 ULP for |x| <= 8192.
fn m_sin(x: f32) -> f32 {
  let p = m_trig_reduce(x);
  return m_trig_edge(x, m_sin_quadrant(p.x, p.y, bitcast<u32>(p.z)));
}

// Cosine of x radians, 2 ULP for |x| <= 8192.
fn m_cos(x: f32) -> f32 {
  let p = m_trig_reduce(x);
  let y = m_sin_quadrant(p.x, p.y, bitcast<u32>(p.z) + 1u);
  return select(y, m_nan(), (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u);
}

// Tangent of x radians, 4 ULP for |x| <= 8192.
fn m_tan(x: f32) -> f32 {
  let p = m_trig_reduce(x);
  let s = m_sin_poly(p.x, p.y);
  let c = m_cos_poly(p.x, p.y);
  let even = (bitcast<u32>(p.z) & 1u) == 0u;
  return m_trig_edge(x, select(-c, s, even) / select(s, c, even));
}

// asin s given z = s^2, for 0 <= s <= 1/2, relative error 5e-9.
fn m_asin_poly(s: f32, z: f32) -> f32 {
  let p = 0.074953094 + z * (0.045469154 + z * (0.024184737 + z * 0.042158414));
  return s + s * (z * (0.16666752 + z * p));
}

// p with asin a = p for a <= 1/2, else asin a = pi/2 - 2p.
fn m_asin_half(a: f32) -> f32 {
  let is_large = a > 0.5;
  let z = select(a * a, 0.5 * (1.0 - a), is_large);
  return m_asin_poly(select(a, sqrt(z), is_large), z);
}

// Inverse sine, 4 ULP, relative near 0 as well; NaN for |x| > 1.
fn m_asin(x: f32) -> f32 {
  let a = abs(x);
  let p = m_asin_half(a);
  let y = m_copysign(select(p, 1.5707964 - fb(2.0 * p + 4.371139e-8), a > 0.5), x);
  return select(y, m_nan(), bitcast<u32>(a) > 0x3f800000u);
}

// Inverse cosine, 4 ULP, relative near 1 as well; NaN for |x| > 1.
fn m_acos(x: f32) -> f32 {
  let a = abs(x);
  let p = m_asin_half(a);
  let large = select(2.0 * p, 3.1415927 - fb(2.0 * p + 8.742278e-8), x < 0.0);
  let y = select(1.5707964 - fb(m_copysign(p, x) + 4.371139e-8), large, a > 0.5);
  return select(y, m_nan(), bitcast<u32>(a) > 0x3f800000u);
}

// atan t for 0 <= t <= 1, relative error 2e-8.
fn m_atan_poly(t: f32) -> f32 {
  let z = t * t;
  let p = -0.07551666 + z * (0.04320489 + z * (-0.01636336 + z * 0.0029194863));
  let q = -0.33333153 + z * (0.19993767 + z * (-0.14211002 + z * (0.1066577 + z * p)));
  return t + t * (z * q);
}

// Inverse tangent, 4 ULP, relative near 0 as well.
fn m_atan(x: f32) -> f32 {
  let a = abs(x);
  let is_large = a > 1.0;
  let p = m_atan_poly(select(a, 1.0 / a, is_large));
  let y = m_copysign(select(p, 1.5707964 - fb(p + 4.371139e-8), is_large), x);
  return select(y, x, m_is_nan(x));
}

// Angle of the point (x, y) in [-pi, pi] with IEEE 754's signed zeros and infinities, 4 ULP.
fn m_atan2(y: f32, x: f32) -> f32 {
  let ax = abs(x);
  let ay = abs(y);
  let steep = ay > ax;
  let large = select(ax, ay, steep);
  // WGSL grants a quotient only where its divisor is neither huge nor tiny
  let s = select(select(1.0, 5.4210109e-20, large > 1.8446744e19), 1.8446744e19, large < 5.4210109e-20);
  var t = (select(ay, ax, steep) * s) / (large * s);
  t = select(t, 0.0, bitcast<u32>(large) == 0u);
  t = select(t, 0.0, m_is_inf(large));
  t = select(t, 1.0, m_is_inf(ax) && m_is_inf(ay));
  var p = m_atan_poly(t);
  p = select(p, 1.5707964 - fb(p + 4.371139e-8), steep);
  p = select(p, 3.1415927 - fb(p + 8.742278e-8), (bitcast<u32>(x) >> 31u) != 0u);
  return select(m_copysign(p, y), m_nan(), m_is_nan(x) || m_is_nan(y));
}
