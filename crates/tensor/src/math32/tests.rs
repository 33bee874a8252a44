//! Every function against its f64 meaning in [`crate::special`], which shares no algorithm with it.
#![allow(clippy::approx_constant, reason = "branch points are written as the f32 numbers they are")]

use super::promise::*;
use super::*;
use crate::special;
use crate::ulp::{BRANCH_POINTS, SPECIAL, error as ulp_error};

type Unary = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64, fn(f32) -> bool);
type Named = (&'static str, fn(f32) -> f32);
type Binary = (&'static str, fn(f32, f32) -> f32, fn(f64, f64) -> f64, f64, fn(f32, f32) -> bool);

fn anywhere(_: f32) -> bool {
    true
}
fn trig_range(x: f32) -> bool {
    !(f64::from(x.abs()) > TRIG_RANGE && x.is_finite())
}

/// Name, function, meaning, promise in ULP, and where the promise is made.
const UNARY: &[Unary] = &[
    ("exp", exp, special::exp, EXP, anywhere),
    ("exp_nonpositive", exp_nonpositive, special::exp_nonpositive, EXP_NONPOSITIVE, |x| {
        x.is_nan() || x <= 0.0
    }),
    ("exp2", exp2, special::exp2, EXP2, anywhere),
    ("expm1", expm1, special::expm1, EXPM1, anywhere),
    ("recip_expm1", recip_expm1, special::recip_expm1, RECIP_EXPM1, anywhere),
    ("log", log, special::log, LOG, anywhere),
    ("log2", log2, special::log2, LOG2, anywhere),
    ("log1p", log1p, special::log1p, LOG1P, anywhere),
    ("log1mexp", log1mexp, special::log1mexp, LOG1MEXP, anywhere),
    ("sigmoid", sigmoid, special::sigmoid, SIGMOID, anywhere),
    ("log_sigmoid", log_sigmoid, special::log_sigmoid, LOG_SIGMOID, anywhere),
    ("softplus", softplus, special::softplus, SOFTPLUS, anywhere),
    ("tanh", tanh, special::tanh, TANH, anywhere),
    ("sinh", sinh, special::sinh, SINH, anywhere),
    ("cosh", cosh, special::cosh, COSH, anywhere),
    ("asinh", asinh, special::asinh, ASINH, anywhere),
    ("acosh", acosh, special::acosh, ACOSH, anywhere),
    ("atanh", atanh, special::atanh, ATANH, anywhere),
    ("sin", sin, special::sin, SIN, trig_range),
    ("cos", cos, special::cos, COS, trig_range),
    ("tan", tan, special::tan, TAN, trig_range),
    ("asin", asin, special::asin, ASIN, anywhere),
    ("acos", acos, special::acos, ACOS, anywhere),
    ("atan", atan, special::atan, ATAN, anywhere),
    ("erf", erf, special::erf, ERF, anywhere),
    ("erfc", erfc, special::erfc, ERFC, anywhere),
    ("gelu", gelu, special::gelu, GELU, anywhere),
    ("log_ndtr", log_ndtr, special::log_ndtr, LOG_NDTR, anywhere),
    ("inverse_mills", inverse_mills, special::inverse_mills, INVERSE_MILLS, anywhere),
    ("i0e", i0e, special::i0e, I0E, anywhere),
    ("i1e", i1e, special::i1e, I1E, anywhere),
    ("lgamma", lgamma, special::lgamma, LGAMMA, anywhere),
    ("digamma", digamma, special::digamma, DIGAMMA, anywhere),
    ("trigamma", trigamma, special::trigamma, TRIGAMMA, anywhere),
    ("sign", sign, special::sign, EXACT, anywhere),
    ("round", round, special::round, EXACT, anywhere),
    ("trunc", trunc, special::trunc, EXACT, anywhere),
    ("rsqrt", rsqrt, special::rsqrt, RSQRT, anywhere),
    ("recip", recip, special::recip, RECIP, anywhere),
];

const BINARY: &[Binary] = &[
    ("atan2", atan2, special::atan2, ATAN2, |_, _| true),
    ("pow", pow, special::pow, POW, |_, _| true),
    ("xlogy", xlogy, special::xlogy, XLOGY, |_, _| true),
    ("xlog1py", xlog1py, special::xlog1py, XLOG1PY, |_, _| true),
    ("max", max, special::max, EXACT, |_, _| true),
    ("min", min, special::min, EXACT, |_, _| true),
    ("rem", rem, special::rem, EXACT, |_, _| true),
];

/// About 2^17 arguments: every exponent with `mantissas` significands of both signs, branch points with their
/// neighbors, and special values.
fn points(mantissas: u32) -> Vec<f32> {
    let mut all = SPECIAL.to_vec();
    // NaN with unusual payloads and signs
    all.extend([0x7f80_0001, 0x7fff_ffff, 0xffc0_0000, 0xff80_0001, 0xffff_ffff].map(f32::from_bits));
    for &point in BRANCH_POINTS {
        for step in -24..=24 {
            let x = f32::from_bits(point.to_bits().wrapping_add_signed(step));
            all.extend([x, -x]);
        }
    }
    for exponent in 0..255_u32 {
        for index in 0..mantissas {
            let [word, ..] = threefry([exponent, index, 0, 0], [1, 2, 3, 4]);
            let x = f32::from_bits((exponent << 23) | (word & 0x007f_ffff));
            all.extend([x, -x]);
        }
    }
    // where most functions live, uniformly
    for index in 0..mantissas * 64 {
        let [w, ..] = threefry([index, 1, 0, 0], [1, 2, 3, 4]);
        for span in [1.0, 4.0, 20.0, 110.0] {
            all.push((2.0 * uniform(w) - 1.0) * span);
        }
    }
    all
}

/// Largest error over the points, where it occurs, and the number of points compared.
fn worst_unary(row: &Unary, points: &[f32]) -> (f64, f32, usize) {
    let &(_, function, meaning, _, domain) = row;
    let mut worst = (0.0, 0.0, 0);
    for &x in points.iter().filter(|x| domain(**x)) {
        let error = ulp_error(function(x), meaning(f64::from(x)));
        if error > worst.0 {
            (worst.0, worst.1) = (error, x);
        }
        worst.2 += 1;
    }
    worst
}

#[test]
fn unary_functions_keep_their_promise() {
    let points = points(128);
    for row in UNARY {
        let (error, x, compared) = worst_unary(row, &points);
        println!("{:16} {error:8.3} ULP at {x:e}", row.0);
        assert!(error <= row.3, "{}: {error} ULP at {x:e}, promised {}", row.0, row.3);
        assert!(compared > points.len() / 3, "{}: only {compared} points", row.0);
    }
}

/// Pairs of special values, and random pairs of several scales.
fn pairs() -> Vec<(f32, f32)> {
    let mut all = Vec::new();
    let edges: Vec<f32> = SPECIAL.iter().chain(BRANCH_POINTS).copied().collect();
    for &x in &edges {
        all.extend(edges.iter().map(|&y| (x, y)));
    }
    for index in 0..40_000 {
        let [a, b, c, d] = threefry([index, 2, 0, 0], [1, 2, 3, 4]);
        let (u, v) = (2.0 * uniform(a) - 1.0, 2.0 * uniform(b) - 1.0);
        let any = |w: u32| f32::from_bits((w % 0x7f80_0000) | (w & 0x8000_0000));
        all.extend([(u, v), (100.0 * u, v), (u.abs() * 10.0, 40.0 * v), (1.0 + 0.01 * u, 5000.0 * v)]);
        all.extend([
            (any(c), any(d)),
            (any(c), 3.0 * v),
            (u, any(d)),
            (1000.0 * u, 0.01 * v),
            (any(c).abs(), v),
        ]);
    }
    all
}

#[test]
fn binary_functions_keep_their_promise() {
    let pairs = pairs();
    for &(name, function, meaning, promised, domain) in BINARY {
        let mut worst = (0.0, 0.0, 0.0);
        let mut compared = 0;
        for &(x, y) in pairs.iter().filter(|p| domain(p.0, p.1)) {
            let error = ulp_error(function(x, y), meaning(f64::from(x), f64::from(y)));
            if error > worst.0 {
                worst = (error, x, y);
            }
            compared += 1;
        }
        println!("{name:16} {:8.3} ULP at ({:e}, {:e}) of {compared}", worst.0, worst.1, worst.2);
        assert!(worst.0 <= promised, "{name}: {} ULP at ({:e}, {:e})", worst.0, worst.1, worst.2);
        assert!(compared > pairs.len() / 4, "{name}: only {compared} pairs");
    }
}

/// At special arguments the bits agree with the meaning, the sign of zero included.
#[test]
fn signed_zeros_infinities_and_denormals_match_the_meaning() {
    let mut compared = 0;
    for &(name, function, meaning, promised, domain) in UNARY {
        for x in SPECIAL.iter().copied().filter(|x| domain(*x)) {
            let (got, exact) = (function(x), meaning(f64::from(x)));
            assert!(ulp_error(got, exact) <= promised, "{name}({x:e}) is {got:e}, not {exact:e}");
            if exact == 0.0 && x == 0.0 {
                assert_eq!(got.to_bits(), (exact as f32).to_bits(), "{name}({x:e}): sign of zero");
            }
            if exact.is_infinite() {
                assert_eq!(got, exact as f32, "{name}({x:e})");
            }
            compared += 1;
        }
    }
    // odd functions keep denormals, where flushing would be a relative error of 1
    let odd: [Named; 9] = [
        ("expm1", expm1),
        ("log1p", log1p),
        ("tanh", tanh),
        ("sinh", sinh),
        ("asinh", asinh),
        ("atanh", atanh),
        ("sin", sin),
        ("tan", tan),
        ("asin", asin),
    ];
    for (name, function) in odd {
        for x in [0.0, 1.0e-45, 1.0e-39, 1.0e-30_f32] {
            assert_eq!(function(x).to_bits(), x.to_bits(), "{name}({x:e})");
            assert_eq!(function(-x).to_bits(), (-x).to_bits(), "{name}(-{x:e})");
            compared += 2;
        }
    }
    for &(name, function, meaning, ..) in BINARY {
        for &x in SPECIAL {
            for &y in SPECIAL {
                let (got, exact) = (function(x, y), meaning(f64::from(x), f64::from(y)));
                if (exact == 0.0 || exact.is_infinite()) && !name.starts_with("xlog") {
                    assert_eq!(got.to_bits(), (exact as f32).to_bits(), "{name}({x:e}, {y:e})");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 1200, "only {compared} comparisons");
}

#[test]
fn the_checker_names_a_planted_fault() {
    let off_by_two: Unary = ("log", |x| log(x) * (1.0 + 3.0 * f32::EPSILON), special::log, LOG, anywhere);
    assert!(worst_unary(&off_by_two, &points(16)).0 > LOG);
    let drops_nan: Unary = ("exp", |x| if x.is_nan() { 0.0 } else { exp(x) }, special::exp, EXP, anywhere);
    assert!(worst_unary(&drops_nan, &points(16)).0.is_infinite());
}

#[test]
fn threefry_gives_the_known_answers() {
    // DEShawResearch/random123, tests/kat_vectors, threefry4x32 with 20 rounds
    assert_eq!(threefry([0; 4], [0; 4]), [0x9c6c_a96a, 0xe17e_ae66, 0xfc10_ecd4, 0x5256_a7d8]);
    assert_eq!(threefry([!0; 4], [!0; 4]), [0x2a88_1696, 0x5701_2287, 0xf6c7_446e, 0xa16a_6732]);
    assert_eq!(
        threefry(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0, 0x082e_fa98, 0xec4e_6c89]
        ),
        [0x59cd_1dbb, 0xb887_9579, 0x86b5_d00c, 0xac8b_6d84]
    );
}

#[test]
fn uniform_numbers_are_exact() {
    for word in [0, 255, 256, 0x8000_0000, !0] {
        assert_eq!(f64::from(uniform(word)), special::uniform(word));
    }
    assert_eq!((uniform(0), uniform_positive(!0)), (0.0, 1.0));
    assert!(uniform(!0) < 1.0 && uniform_positive(0) > 0.0);
}

#[test]
fn normal_numbers_keep_their_promise_and_have_unit_variance() {
    let mut worst: f64 = 0.0;
    let (mut sum, mut squares) = (0.0, 0.0);
    let count = 100_000_u32;
    for index in 0..count {
        let [a, b, c, d] = threefry([index, 3, 0, 0], [1, 2, 3, 4]);
        // whole multiples of an eighth of a turn are rare in random words and delicate
        let b = if index % 8 == 0 { (b >> 29) << 29 } else { b };
        for (w0, w1) in [(a, b), (c, d), (0, c), (!0, d), (!a >> 24, b)] {
            for (got, exact) in normal(w0, w1).into_iter().zip(special::normal(w0, w1)) {
                worst = worst.max(ulp_error(got, exact));
            }
        }
        let [z, _] = normal(c, d);
        sum += f64::from(z);
        squares += f64::from(z * z);
    }
    println!("normal {worst:.3} ULP");
    assert!(worst <= NORMAL, "{worst} ULP");
    // four standard deviations of the mean and of the mean square
    let n = f64::from(count);
    assert!((sum / n).abs() < 4.0 / n.sqrt());
    assert!((squares / n - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
}

#[test]
fn the_remainder_is_exact_for_every_quotient() {
    let known = [(1e20, 3.0, 2.0), (1e17, 3.0, 1.0), (1e30, 7.0, 1.0), (5.5, -2.0, 1.5), (-1e20, 3.0, -2.0)];
    for (x, y, expected) in known {
        assert_eq!(rem(x, y), expected, "{x} % {y}");
    }
    let mut state = 1u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (x, y) = (f32::from_bits((state >> 32) as u32), f32::from_bits(state as u32));
        let (got, exact) = (rem(x, y), x % y);
        assert!(
            got.to_bits() == exact.to_bits() || got.is_nan() && exact.is_nan(),
            "{x:e} % {y:e}: {got:e}, {exact:e}"
        );
    }
}
