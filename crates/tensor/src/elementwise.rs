//! One row per elementwise operation: the only place where it exists.
//!
//! From a row come the variant of [`Elementwise`], the method of [`Tensor`](crate::Tensor), the WGSL text, the meaning
//! in f64, the f32 body of the CPU device, the derivatives (reverse and forward mode, to any order) and the promised
//! error. Tests iterate over [`Elementwise::ALL`].

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::{math32, special};

/// What kind of values a row takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Floats to a float.
    Real,
    /// Floats to a truth value.
    Test,
    /// Truth values to a truth value.
    Logic,
    /// A truth value and two floats to a float.
    Select,
}

/// Local derivative of a row with respect to one operand.
#[derive(Clone, Debug)]
pub enum Partial<R> {
    /// The cotangent passes unchanged.
    One,
    /// The cotangent times this value.
    Product(R),
    /// The cotangent (times `factor`) where `condition` equals `holds`; elsewhere nothing passes. Kept apart from a
    /// product with 0 and 1, so that an infinity of the branch not taken never becomes a NaN.
    Pick {
        /// A truth value per element.
        condition: R,
        /// The value of the condition for which something passes.
        holds: bool,
        /// Multiplies what passes; nothing stands for 1.
        factor: Option<R>,
    },
    /// Structurally zero: the row is piecewise constant.
    Zero,
    /// The operand or the result is no float.
    NotDifferentiable,
    /// The derivative has no row; the name of the missing function.
    Missing(&'static str),
}

fn product<R>(factor: R) -> Partial<R> {
    Partial::Product(factor)
}
fn pick<R>(condition: R, factor: R) -> Partial<R> {
    Partial::Pick { condition, holds: true, factor: Some(factor) }
}
fn pass_if<R>(condition: R) -> Partial<R> {
    Partial::Pick { condition, holds: true, factor: None }
}
fn pass_unless<R>(condition: R) -> Partial<R> {
    Partial::Pick { condition, holds: false, factor: None }
}
use Partial::{Missing, NotDifferentiable, One, Zero};

/// `1 / √(1 + x²)`, also where the square overflows.
fn steep_tail<R: Real>(x: &R) -> R {
    let (size, one) = (x.abs(), x.constant(1.0));
    // From here on, and long before, the 1 is lost.
    size.lt(&x.constant(1e18)).select(&one.add(&x.mul(x)).rsqrt(), &size.recip())
}
/// `a / (a² + b²)`, also where the squares overflow or underflow.
fn over_squares<R: Real>(a: &R, b: &R) -> R {
    let (flat, steep, one) = (a.div(b), b.div(a), a.constant(1.0));
    let square = |t: &R| one.add(&t.mul(t));
    b.abs().gt(&a.abs()).select(&flat.div(b).div(&square(&flat)), &a.recip().div(&square(&steep)))
}

/// `c₀ + c₁ w + c₂ w² + …`.
fn series<R: Real>(w: &R, coefficients: &[f64]) -> R {
    let (last, rest) = coefficients.split_last().unwrap_or((&0.0, &[]));
    rest.iter().rev().fold(w.constant(*last), |sum, &c| sum.mul(w).add(&w.constant(c)))
}
/// Derivative `−λ (x + λ)` of the inverse Mills ratio `λ`. From −16 to the left, where the sum cancels, its own asymptotic
/// series, which the division of 1 by Laplace's (Abramowitz & Stegun 7.1.23) gives: exact to f64 there, as are its derivatives.
fn mills_slope<R: Real>(x: &R, ratio: &R) -> R {
    const SERIES: [f64; 12] = [
        -1.0,
        1.0,
        -6.0,
        50.0,
        -518.0,
        6354.0,
        -89_782.0,
        1_435_330.0,
        -25_625_910.0,
        505_785_122.0,
        -10_944_711_398.0,
        257_834_384_850.0,
    ];
    let far = series(&x.mul(x).recip(), &SERIES);
    // the ratio is 0 from 40 on: infinity times 0 is not wanted
    let near = ratio.mul(&x.min(&x.constant(40.0)).add(ratio)).neg();
    x.lt(&x.constant(-16.0)).select(&far, &near)
}
/// `near`, and beyond ±50, where its terms cancel, `−sgn(x) y S(1/|x|)/|x|` with the asymptotic series `S` of the relative
/// slope: exact to f64 there, as are its derivatives.
fn bessel_slope<R: Real>(x: &R, y: &R, near: &R, slope: &[f64]) -> R {
    let (size, w) = (x.abs(), x.abs().recip());
    let far = x.sign().mul(y).mul(&w).mul(&series(&w, slope)).neg();
    size.gt(&x.constant(50.0)).select(&far, near)
}
/// Derivative `i1e − sgn(x) i0e` of `y = i0e(x)`.
fn i0e_slope<R: Real>(x: &R, y: &R) -> R {
    const SLOPE: [f64; 12] = [
        0.5,
        0.125,
        0.125,
        0.195_312_5,
        0.406_25,
        1.047_851_562_5,
        3.218_75,
        11.466_461_181_640_625,
        46.478_515_625,
        211.276_149_749_755_86,
        1_064.678_222_656_25,
        5_892.045_714_616_776,
    ];
    bessel_slope(x, y, &x.i1e().sub(&x.sign().mul(y)), &SLOPE)
}
/// Derivative `i0e − i1e/x − sgn(x) i1e` of `y = i1e(x)`; ½ at 0.
fn i1e_slope<R: Real>(x: &R, y: &R) -> R {
    const SLOPE: [f64; 12] = [
        0.5,
        -0.375,
        -0.375,
        -0.492_187_5,
        -0.843_75,
        -1.854_492_187_5,
        -5.0625,
        -16.585_784_912_109_375,
        -63.333_984_375,
        -275.616_107_940_673_8,
        -1_344.054_199_218_75,
        -7_251.037_440_061_569,
    ];
    /// `I₁(x) / (x I₀(x))` in `x²`: a quotient of numbers near 0 would lose the derivatives, and the quotient of denormals.
    const RATIO: [f64; 7] = [
        0.5,
        -1.0 / 16.0,
        1.0 / 96.0,
        -11.0 / 6144.0,
        19.0 / 61_440.0,
        -473.0 / 8_847_360.0,
        229.0 / 24_772_608.0,
    ];
    let scaled = x.i0e();
    let small = scaled.mul(&series(&x.mul(x), &RATIO));
    let quotient = x.abs().lt(&x.constant(0.1)).select(&small, &y.div(x));
    bessel_slope(x, y, &scaled.sub(&quotient).sub(&x.sign().mul(y)), &SLOPE)
}

fn truth(v: bool) -> f64 {
    f64::from(u8::from(v))
}
#[inline(always)]
fn mask(v: bool) -> f32 {
    if v { 1.0 } else { 0.0 }
}

#[inline(always)]
fn lanes1(out: &mut [f32], [x, ..]: [&[f32]; 3], f: impl Fn(f32) -> f32) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o = f(x);
    }
}
#[inline(always)]
fn lanes2(out: &mut [f32], [a, b, _]: [&[f32]; 3], f: impl Fn(f32, f32) -> f32) {
    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *o = f(a, b);
    }
}
#[inline(always)]
fn lanes3(out: &mut [f32], [a, b, c]: [&[f32]; 3], f: impl Fn(f32, f32, f32) -> f32) {
    for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *o = f(a, b, c);
    }
}
macro_rules! by_arity {
    ($one:ident $two:ident $three:ident; $a:ident) => {
        $one
    };
    ($one:ident $two:ident $three:ident; $a:ident $b:ident) => {
        $two
    };
    ($one:ident $two:ident $three:ident; $a:ident $b:ident $c:ident) => {
        $three
    };
}
macro_rules! real_method {
    ($(#[$doc:meta])* $Name:ident $name:ident $x:ident) => {
        $(#[$doc])* fn $name(&self) -> Self { Self::apply(Elementwise::$Name, &[self]) }
    };
    ($(#[$doc:meta])* $Name:ident $name:ident $a:ident $b:ident) => {
        $(#[$doc])* fn $name(&self, other: &Self) -> Self { Self::apply(Elementwise::$Name, &[self, other]) }
    };
    ($(#[$doc:meta])* $Name:ident $name:ident $a:ident $b:ident $c:ident) => {
        $(#[$doc])* fn $name(&self, second: &Self, third: &Self) -> Self { Self::apply(Elementwise::$Name, &[self, second, third]) }
    };
}

macro_rules! elementwise {
    ($( $(#[doc = $doc:literal])* $Name:ident $name:ident $class:ident |$($x:ident),+ ; $y:ident|
        $wgsl:literal, $eval:expr, $lanes:expr, [$($partial:expr),+], $ulp:expr; )*) => {
        /// The elementwise operations on floats and truth values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Elementwise { $( $(#[doc = $doc])* $Name, )* }

        /// The description of a row, for the method that applies it.
        macro_rules! row_doc { $( ($Name) => { concat!($($doc, "\n"),*) }; )* }
        pub(crate) use row_doc;

        impl Elementwise {
            /// Every row.
            pub const ALL: &[Elementwise] = &[$(Elementwise::$Name),*];
            /// The name of the method.
            pub fn name(self) -> &'static str { match self { $(Self::$Name => stringify!($name)),* } }
            /// Number of operands.
            pub fn arity(self) -> usize { match self { $(Self::$Name => [$(stringify!($x)),+].len()),* } }
            /// What it takes and gives.
            pub fn class(self) -> Class { match self { $(Self::$Name => Class::$class),* } }
            /// Promised error in units in the last place of the f32 result.
            pub fn ulp(self) -> f64 { match self { $(Self::$Name => $ulp),* } }
            /// Whether the error is promised for these arguments: that of sine, cosine and tangent is not beyond
            /// [`TRIG_RANGE`](crate::math32::promise::TRIG_RANGE).
            pub fn is_promised(self, args: &[f64]) -> bool {
                let far = |x: &f64| x.is_finite() && x.abs() > math32::promise::TRIG_RANGE;
                !(matches!(self, Self::Sin | Self::Cos | Self::Tan) && args.iter().any(far))
            }
            /// The meaning, in f64; truth values are 0 and 1. `args` has [`Elementwise::arity`] entries.
            #[expect(clippy::float_cmp, reason = "exact comparison is the meaning of these rows")]
            pub fn eval(self, args: &[f64]) -> f64 {
                match (self, args) {
                    $((Self::$Name, &[$($x),+]) => $eval,)*
                    _ => f64::NAN,
                }
            }
            /// The WGSL expression over operand names.
            pub fn wgsl(self, args: &[&str]) -> String {
                match (self, args) {
                    $((Self::$Name, &[$($x),+]) => format!($wgsl),)*
                    _ => String::new(),
                }
            }
            /// Applies the row to lanes of f32 (truth values are 1.0 and 0.0). Unused operands may be empty.
            #[expect(clippy::float_cmp, reason = "exact comparison is the meaning of these rows")]
            #[inline(always)]
            pub fn lanes(self, out: &mut [f32], args: [&[f32]; 3]) {
                match self {
                    $(Self::$Name => by_arity!(lanes1 lanes2 lanes3; $($x)+)(out, args, #[inline(always)] |$($x),+| $lanes),)*
                }
            }
            /// Derivatives with respect to each operand, given the operands and the result; [`Partial::Zero`] for those whose
            /// position is not `needed`.
            #[allow(unused_variables, reason = "most rows use only some of operands and result")]
            pub fn partials<R>(self, args: &[&R], result: &R, needed: impl Fn(usize) -> bool) -> Vec<Partial<R>>
            where
                for<'a> &'a R: Add<&'a R, Output = R> + Add<R, Output = R> + Add<f64, Output = R>
                    + Sub<&'a R, Output = R> + Sub<R, Output = R> + Sub<f64, Output = R>
                    + Mul<&'a R, Output = R> + Mul<R, Output = R> + Mul<f64, Output = R>
                    + Div<&'a R, Output = R> + Div<R, Output = R> + Div<f64, Output = R> + Neg<Output = R>,
                for<'a> R: Add<&'a R, Output = R> + Sub<&'a R, Output = R> + Mul<&'a R, Output = R> + Div<&'a R, Output = R>,
                for<'a> f64: Add<&'a R, Output = R> + Sub<&'a R, Output = R> + Mul<&'a R, Output = R> + Div<&'a R, Output = R>
                    + Add<R, Output = R> + Sub<R, Output = R> + Mul<R, Output = R> + Div<R, Output = R>,
                R: Real + Add<R, Output = R> + Sub<R, Output = R> + Mul<R, Output = R> + Div<R, Output = R>
                    + Add<f64, Output = R> + Sub<f64, Output = R> + Mul<f64, Output = R> + Div<f64, Output = R> + Neg<Output = R>,
            {
                match (self, args) {
                    $((Self::$Name, &[$($x),+]) => {
                        let ($y, mut position) = (result, 0..);
                        vec![$(if position.next().is_some_and(&needed) { $partial } else { Zero }),+]
                    },)*
                    _ => Vec::new(),
                }
            }
        }

        /// What the derivative column may use: numbers, or tensors of the graph.
        pub trait Real: Clone {
            /// This number, once per element of `self`.
            fn constant(&self, value: f64) -> Self;
            /// Applies a row.
            fn apply(operation: Elementwise, args: &[&Self]) -> Self;
            $( real_method! { $(#[doc = $doc])* $Name $name $($x)+ } )*
        }
    };
}

impl Real for f64 {
    fn constant(&self, value: f64) -> f64 {
        value
    }
    fn apply(operation: Elementwise, args: &[&f64]) -> f64 {
        let args: Vec<f64> = args.iter().map(|&&a| a).collect();
        operation.eval(&args)
    }
}

const TWO_OVER_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;
const LN_2: f64 = std::f64::consts::LN_2;

elementwise! {
//  variant name class |operands; result|  WGSL, meaning in f64, f32 lanes, [∂ result/∂ operand], promised ULP;

    /// `a + b`.
    Add add Real |a, b; y| "({a} + {b})", a + b, a + b, [One, One], 1.0;
    /// `a − b`.
    Sub sub Real |a, b; y| "({a} - {b})", a - b, a - b, [One, product(a.constant(-1.0))], 1.0;
    /// `a · b`.
    Mul mul Real |a, b; y| "({a} * {b})", a * b, a * b, [product(b.clone()), product(a.clone())], 1.0;
    /// `a / b`.
    Div div Real |a, b; y| "({a} / {b})", a / b, a / b, [product(b.recip()), product(-(y / b))], 2.5;
    /// Remainder of the truncated quotient, with the sign of `a`.
    Rem rem Real |a, b; y| "m_rem({a}, {b})", special::rem(a, b), math32::rem(a, b), [One, product(((y - a) / b).round())], 0.0;
    /// `−x`.
    Neg neg Real |x; y| "(-{x})", -x, -x, [product(x.constant(-1.0))], 0.0;
    /// `1 / x`.
    Recip recip Real |x; y| "(1.0 / {x})", 1.0 / x, 1.0 / x, [product(-(y * y))], 2.5;
    /// `|x|`; derivative 0 at 0.
    Abs abs Real |x; y| "abs({x})", x.abs(), x.abs(), [pick(x.ne(&x.constant(0.0)), x.sign())], 0.0;
    /// −1, 0 or 1; NaN stays NaN. Piecewise constant: its derivative is structurally zero.
    Sign sign Real |x; y| "m_sign({x})", special::sign(x), math32::sign(x), [Zero], 0.0;
    /// Larger of the two; NaN if either is; ½ of the cotangent to each at a tie.
    Max max Real |a, b; y| "m_max({a}, {b})", special::max(a, b), math32::max(a, b),
        [pick(a.ge(b), a.eq(b).select(&a.constant(0.5), &a.constant(1.0))), pick(b.ge(a), a.eq(b).select(&a.constant(0.5), &a.constant(1.0)))], 0.0;
    /// Smaller of the two; NaN if either is; ½ of the cotangent to each at a tie.
    Min min Real |a, b; y| "m_min({a}, {b})", special::min(a, b), math32::min(a, b),
        [pick(a.le(b), a.eq(b).select(&a.constant(0.5), &a.constant(1.0))), pick(b.le(a), a.eq(b).select(&a.constant(0.5), &a.constant(1.0)))], 0.0;
    /// `x` kept inside `[low, high]`; at a bound the cotangent passes to `x`.
    Clamp clamp Real |x, low, high; y| "m_min(m_max({x}, {low}), {high})", special::min(special::max(x, low), high), math32::min(math32::max(x, low), high),
        [pass_if(x.ge(low).and(&x.le(high))), pass_if(x.lt(low).and(&low.le(high))), pass_if(x.max(low).gt(high))], 0.0;
    /// `max(x, 0)` with derivative 0 at 0.
    Relu relu Real |x; y| "m_max({x}, 0.0)", special::max(x, 0.0), math32::max(x, 0.0), [pass_if(y.gt(&y.constant(0.0)))], 0.0;
    /// Largest integer not above.
    Floor floor Real |x; y| "floor({x})", x.floor(), x.floor(), [Zero], 0.0;
    /// Smallest integer not below.
    Ceil ceil Real |x; y| "ceil({x})", x.ceil(), x.ceil(), [Zero], 0.0;
    /// Nearest integer, ties to even.
    Round round Real |x; y| "m_round({x})", special::round(x), math32::round(x), [Zero], 0.0;
    /// Integer part.
    Trunc trunc Real |x; y| "m_trunc({x})", x.trunc(), math32::trunc(x), [Zero], 0.0;
    /// `x − floor(x)`.
    Fract fract Real |x; y| "({x} - floor({x}))", x - x.floor(), x - x.floor(), [One], 1.0;
    /// `√x`; derivative +inf at 0.
    Sqrt sqrt Real |x; y| "sqrt({x})", x.sqrt(), x.sqrt(), [product(0.5 / y)], 3.0;
    /// `1 / √x`.
    Rsqrt rsqrt Real |x; y| "m_rsqrt({x})", special::rsqrt(x), math32::rsqrt(x), [product(-0.5 * (y / x))], 2.0 * math32::promise::RSQRT;
    /// `eˣ`.
    Exp exp Real |x; y| "m_exp({x})", special::exp(x), math32::exp(x), [product(y.clone())], math32::promise::EXP;
    /// `2ˣ`.
    Exp2 exp2 Real |x; y| "m_exp2({x})", special::exp2(x), math32::exp2(x), [product(LN_2 * y)], math32::promise::EXP2;
    /// `eˣ − 1`, accurate near 0.
    Expm1 expm1 Real |x; y| "m_expm1({x})", special::expm1(x), math32::expm1(x), [product(x.exp())], math32::promise::EXPM1;
    /// `1 / (eˣ − 1)`: the mean of a geometric distribution, of Bose and Einstein.
    RecipExpm1 recip_expm1 Real |x; y| "m_recip_expm1({x})", special::recip_expm1(x), math32::recip_expm1(x), [product(y * (-x).recip_expm1())],
        math32::promise::RECIP_EXPM1;
    /// Natural logarithm.
    Log log Real |x; y| "m_log({x})", special::log(x), math32::log(x), [product(x.recip())], math32::promise::LOG;
    /// Logarithm to base 2.
    Log2 log2 Real |x; y| "m_log2({x})", special::log2(x), math32::log2(x), [product(1.0 / (LN_2 * x))], math32::promise::LOG2;
    /// `log(1 + x)`, accurate near 0.
    Log1p log1p Real |x; y| "m_log1p({x})", special::log1p(x), math32::log1p(x), [product(1.0 / (1.0 + x))], math32::promise::LOG1P;
    /// `log(1 − e⁻ˣ)` for `x ≥ 0`, accurate near 0 and where it is near 0.
    Log1mexp log1mexp Real |x; y| "m_log1mexp({x})", special::log1mexp(x), math32::log1mexp(x), [product(x.recip_expm1())], math32::promise::LOG1MEXP;
    /// `xʸ` by IEEE 754: `x⁰ = 1ʸ = 1`. Derivative by `x` is 0 where `y = 0`; by `y` 0 where `x ≤ 0`.
    Pow pow Real |a, b; y| "m_pow({a}, {b})", special::pow(a, b), math32::pow(a, b),
        [pick(b.ne(&b.constant(0.0)), b * a.pow(&(b - 1.0))), pick(a.gt(&a.constant(0.0)), y * a.log())], math32::promise::POW;
    /// Logistic function `1 / (1 + e⁻ˣ)`.
    Sigmoid sigmoid Real |x; y| "m_sigmoid({x})", special::sigmoid(x), math32::sigmoid(x), [product(y * (-x).sigmoid())], math32::promise::SIGMOID;
    /// `log σ(x) = −softplus(−x)`.
    LogSigmoid log_sigmoid Real |x; y| "m_log_sigmoid({x})", special::log_sigmoid(x), math32::log_sigmoid(x), [product((-x).sigmoid())], math32::promise::LOG_SIGMOID;
    /// `log(1 + eˣ)`.
    Softplus softplus Real |x; y| "m_softplus({x})", special::softplus(x), math32::softplus(x), [product(x.sigmoid())], math32::promise::SOFTPLUS;
    /// Hyperbolic tangent.
    Tanh tanh Real |x; y| "m_tanh({x})", special::tanh(x), math32::tanh(x), [product((1.0 - y) * (1.0 + y))], math32::promise::TANH;
    /// Hyperbolic sine.
    Sinh sinh Real |x; y| "m_sinh({x})", special::sinh(x), math32::sinh(x), [product(x.cosh())], math32::promise::SINH;
    /// Hyperbolic cosine.
    Cosh cosh Real |x; y| "m_cosh({x})", special::cosh(x), math32::cosh(x), [product(x.sinh())], math32::promise::COSH;
    /// Inverse hyperbolic sine.
    Asinh asinh Real |x; y| "m_asinh({x})", special::asinh(x), math32::asinh(x), [product(steep_tail(x))], math32::promise::ASINH;
    /// Inverse hyperbolic cosine, `x ≥ 1`.
    Acosh acosh Real |x; y| "m_acosh({x})", special::acosh(x), math32::acosh(x), [product((x - 1.0).rsqrt() * (x + 1.0).rsqrt())], math32::promise::ACOSH;
    /// Inverse hyperbolic tangent, `|x| ≤ 1`.
    Atanh atanh Real |x; y| "m_atanh({x})", special::atanh(x), math32::atanh(x), [product(((1.0 - x) * (1.0 + x)).recip())], math32::promise::ATANH;
    /// Sine; the error is promised for `|x| ≤ 8192`.
    Sin sin Real |x; y| "m_sin({x})", special::sin(x), math32::sin(x), [product(x.cos())], math32::promise::SIN;
    /// Cosine; the error is promised for `|x| ≤ 8192`.
    Cos cos Real |x; y| "m_cos({x})", special::cos(x), math32::cos(x), [product(-x.sin())], math32::promise::COS;
    /// Tangent; the error is promised for `|x| ≤ 8192`.
    Tan tan Real |x; y| "m_tan({x})", special::tan(x), math32::tan(x), [product(1.0 + y * y)], math32::promise::TAN;
    /// Inverse sine, `|x| ≤ 1`.
    Asin asin Real |x; y| "m_asin({x})", special::asin(x), math32::asin(x), [product(((1.0 - x) * (1.0 + x)).rsqrt())], math32::promise::ASIN;
    /// Inverse cosine, `|x| ≤ 1`.
    Acos acos Real |x; y| "m_acos({x})", special::acos(x), math32::acos(x), [product(-((1.0 - x) * (1.0 + x)).rsqrt())], math32::promise::ACOS;
    /// Inverse tangent.
    Atan atan Real |x; y| "m_atan({x})", special::atan(x), math32::atan(x), [product((1.0 + x * x).recip())], math32::promise::ATAN;
    /// Angle of the point `(b, a)`: the inverse tangent of `a / b` in the right quadrant.
    Atan2 atan2 Real |a, b; y| "m_atan2({a}, {b})", special::atan2(a, b), math32::atan2(a, b),
        [product(over_squares(b, a)), product(-over_squares(a, b))], math32::promise::ATAN2;
    /// Error function.
    Erf erf Real |x; y| "m_erf({x})", special::erf(x), math32::erf(x), [product(TWO_OVER_SQRT_PI * (-(x * x)).exp())], math32::promise::ERF;
    /// `1 − erf(x)`, accurate in the right tail.
    Erfc erfc Real |x; y| "m_erfc({x})", special::erfc(x), math32::erfc(x), [product(-TWO_OVER_SQRT_PI * (-(x * x)).exp())], math32::promise::ERFC;
    /// `log Φ(x)` with the normal distribution function `Φ`, accurate in both tails; its slope is the inverse Mills ratio.
    LogNdtr log_ndtr Real |x; y| "m_log_ndtr({x})", special::log_ndtr(x), math32::log_ndtr(x), [product(x.inverse_mills())], math32::promise::LOG_NDTR;
    /// Inverse Mills ratio `φ(x) / Φ(x)` of the normal law: near `−x` in the left tail, 0 in the right one.
    InverseMills inverse_mills Real |x; y| "m_inverse_mills({x})", special::inverse_mills(x), math32::inverse_mills(x), [product(mills_slope(x, y))], math32::promise::INVERSE_MILLS;
    /// Modified Bessel function `e⁻|ˣ| I₀(x)`; derivative 0 at 0.
    I0e i0e Real |x; y| "m_i0e({x})", special::i0e(x), math32::i0e(x), [product(i0e_slope(x, y))], math32::promise::I0E;
    /// Modified Bessel function `e⁻|ˣ| I₁(x)`.
    I1e i1e Real |x; y| "m_i1e({x})", special::i1e(x), math32::i1e(x), [product(i1e_slope(x, y))], math32::promise::I1E;
    /// `log |Γ(x)|` for `x > 0`; NaN for `x ≤ 0`.
    Lgamma lgamma Real |x; y| "m_lgamma({x})", special::lgamma(x), math32::lgamma(x), [product(x.digamma())], math32::promise::LGAMMA;
    /// Derivative of `log Γ` for `x > 0`; NaN for `x ≤ 0`.
    Digamma digamma Real |x; y| "m_digamma({x})", special::digamma(x), math32::digamma(x), [product(x.trigamma())], math32::promise::DIGAMMA;
    /// Second derivative of `log Γ` for `x > 0`; NaN for `x ≤ 0`. Its own derivative has no row.
    Trigamma trigamma Real |x; y| "m_trigamma({x})", special::trigamma(x), math32::trigamma(x), [Missing("tetragamma")], math32::promise::TRIGAMMA;
    /// `a · log b`, and 0 where `a = 0`. Derivative by `a` is 0 at `(0, 0)`.
    Xlogy xlogy Real |a, b; y| "m_xlogy({a}, {b})", special::xlogy(a, b), math32::xlogy(a, b),
        [pick(a.ne(&a.constant(0.0)).or(&b.ne(&b.constant(0.0))), b.log()), pick(a.ne(&a.constant(0.0)), a / b)], math32::promise::XLOGY;
    /// `a · log(1 + b)`, and 0 where `a = 0`. Derivative by `a` is 0 at `(0, −1)`.
    Xlog1py xlog1py Real |a, b; y| "m_xlog1py({a}, {b})", special::xlog1py(a, b), math32::xlog1py(a, b),
        [pick(a.ne(&a.constant(0.0)).or(&b.ne(&b.constant(-1.0))), b.log1p()), pick(a.ne(&a.constant(0.0)), a / (1.0 + b))], math32::promise::XLOG1PY;

    /// `a = b`.
    Eq eq Test |a, b; y| "({a} == {b})", truth(a == b), mask(a == b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// `a ≠ b`; true if either is NaN.
    Ne ne Test |a, b; y| "(!({a} == {b}))", truth(a != b), mask(a != b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// `a < b`.
    Lt lt Test |a, b; y| "({a} < {b})", truth(a < b), mask(a < b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// `a ≤ b`.
    Le le Test |a, b; y| "({a} <= {b})", truth(a <= b), mask(a <= b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// `a > b`.
    Gt gt Test |a, b; y| "({a} > {b})", truth(a > b), mask(a > b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// `a ≥ b`.
    Ge ge Test |a, b; y| "({a} >= {b})", truth(a >= b), mask(a >= b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// Whether the value is NaN, by its bits.
    IsNan is_nan Test |x; y| "m_is_nan({x})", truth(x.is_nan()), mask(x.is_nan()), [NotDifferentiable], 0.0;

    /// Both.
    And and Logic |a, b; y| "({a} && {b})", a * b, a * b, [NotDifferentiable, NotDifferentiable], 0.0;
    /// At least one.
    Or or Logic |a, b; y| "({a} || {b})", special::max(a, b), if a > b { a } else { b }, [NotDifferentiable, NotDifferentiable], 0.0;
    /// Exactly one.
    Xor xor Logic |a, b; y| "({a} != {b})", truth(a != b), mask(a != b), [NotDifferentiable, NotDifferentiable], 0.0;
    /// The opposite.
    Not not Logic |x; y| "(!{x})", 1.0 - x, 1.0 - x, [NotDifferentiable], 0.0;

    /// `a` where the condition holds, else `b`. Only the operand chosen contributes to value and gradient.
    Select select Select |condition, a, b; y| "select({b}, {a}, {condition})",
        if condition != 0.0 { a } else { b }, if condition != 0.0 { a } else { b },
        [NotDifferentiable, pass_if(condition.clone()), pass_unless(condition.clone())], 0.0;
}
