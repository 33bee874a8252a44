//! Expectations as they stand in the cases, and how results are judged against them.

use crate::common::Bounded;

/// One number of an expectation.
///
/// A literal with ten or more digits, or one that ends in `…`, is rounded at its last digit: half a unit of that digit
/// is allowed. A shorter one is exact, and ten of its digits are compared. `±` gives a tolerance that belongs to the
/// data of the case and covers devices too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    pub value: f64,
    pub tolerance: f64,
    /// The tolerance is that of the case, whoever computes.
    pub given: bool,
}

/// Digits that are compared of a number that is known exactly.
const DIGITS: i32 = 10;

impl Number {
    /// A number with the tolerance of the case.
    pub fn within(value: f64, tolerance: f64) -> Number {
        Number { value, tolerance, given: true }
    }
    /// A number of which all digits are known.
    pub fn exact(value: f64) -> Number {
        let tolerance = if value.is_finite() { 0.5 * 10f64.powi(1 - DIGITS) * value.abs() } else { 0.0 };
        Number { value, tolerance, given: false }
    }
    fn parse(text: &str) -> Number {
        if let Some((value, tolerance)) = text.split_once('±') {
            return Number::within(plain(value), plain(tolerance));
        }
        if let Some((numerator, denominator)) = text.split_once('/') {
            return Number::exact(plain(numerator) / plain(denominator));
        }
        let digits = text.trim_end_matches('…');
        let (value, (shown, unit)) = (plain(digits), precision(digits));
        if value.is_finite() && (shown >= DIGITS || digits.len() < text.len()) {
            Number { value, tolerance: 0.5 * unit, given: false }
        } else {
            Number::exact(value)
        }
    }
    /// An expectation that `got` must not meet: `step` away, on the other side.
    fn perturbed(self, got: f64, step: f64) -> Number {
        let value = match self.value {
            v if v.is_nan() => 0.0,
            v if v.is_infinite() => -v,
            v if got >= v => v - step,
            v => v + step,
        };
        Number { value, ..self }
    }
}

fn plain(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| unreachable!("`{text}` is no number"))
}

/// Number of significant digits, and the value of one unit of the last.
fn precision(text: &str) -> (i32, f64) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len());
    let significant =
        mantissa.trim_start_matches(['-', '0', '.']).chars().filter(char::is_ascii_digit).count();
    let places = exponent.parse().unwrap_or(0) - i32::try_from(fraction).unwrap_or(0);
    (i32::try_from(significant).unwrap_or(0), 10f64.powi(places))
}

/// Numbers separated by spaces, in row-major order.
pub fn numbers(text: &str) -> Vec<Number> {
    text.split_whitespace().map(Number::parse).collect()
}

/// What besides the literal says how far a result may be from it.
#[derive(Clone, Copy)]
pub enum Judge<'a> {
    /// The digits shown.
    Digits,
    /// The running bound of the graph on a device, and the value of the graph on leaves that are not rounded to f32.
    Bound { bounded: &'a Bounded, unrounded: &'a [f64] },
}

/// Judges element `i` of a result. With `perturb` the expectation is changed by 1e-6 relative (reference) or by twice
/// what is accepted (devices, tolerances of the case), and must not be met.
pub fn judge(judge: Judge, i: usize, got: f64, expected: Number, perturb: bool) -> Result<(), String> {
    let allowed = match judge {
        Judge::Bound { bounded, unrounded } => {
            let (value, bound) = (bounded.value[i], bounded.bound[i]);
            if !perturb && !bounded.accepts(i, got) {
                return Err(format!("element {i}: {got:?}, but the reference has {value:?} ± {bound:e}"));
            }
            // The literal belongs to leaves that are not rounded; what rounding them does is known.
            let same = value == unrounded[i] || value.is_nan() && unrounded[i].is_nan();
            let moved = if same { 0.0 } else { (value - unrounded[i]).abs() };
            let flushed = if bounded.flushes && value != 0.0 { f64::from(f32::MIN_POSITIVE) } else { 0.0 };
            bound.max(flushed) + moved
        }
        Judge::Digits => 0.0,
    };
    let accepted = expected.tolerance + if expected.given { 0.0 } else { allowed };
    let step = match judge {
        Judge::Digits if !expected.given => 1e-6 * expected.value.abs(),
        Judge::Digits | Judge::Bound { .. } => 2.0 * accepted,
    };
    let step = if step == 0.0 { 1e-6 } else { step };
    let Number { value, .. } = if perturb { expected.perturbed(got, step) } else { expected };
    let same = got == value || got.is_nan() && value.is_nan() || (got - value).abs() <= accepted;
    if same { Ok(()) } else { Err(format!("element {i}: {got:?}, expected {value:?} ± {accepted:e}")) }
}
