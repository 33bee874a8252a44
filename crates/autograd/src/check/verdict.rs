//! What the witnesses of a derivative say together.

use super::differences::{Difference, Slope, Slopes};
use super::lab::{Lab, Witnesses};

/// What was found about a derivative.
pub(super) enum Verdict {
    /// It is what they say.
    Same,
    /// They know nothing.
    Unknown,
    /// It lies between the slopes on both sides, which differ.
    Bend(f64, f64),
    /// What was expected, and by whom.
    Wrong(f64, &'static str),
}

/// Rounding of a few dozen operations of F32, in which derivatives travel.
const SINGLE: f64 = 64.0 * f32::EPSILON as f64;

/// What the witnesses say about a derivative; the second number of a pair is its rounding.
pub(super) fn judge(
    lab: &Lab<'_>,
    (got, rounding): (f64, f64),
    dual: Option<(f64, f64)>,
    difference: Option<Difference>,
) -> Verdict {
    const DUAL: &str = "dual numbers";
    const DIFFERENCES: &str = "differences";
    let margin = lab.slack + if rounding.is_finite() { rounding } else { 0.0 };
    // An unbounded error can confirm, not refute.
    let by_dual = dual.and_then(|(value, error)| {
        let same = !value.is_nan() && lab.same(got, value, rounding + error);
        let certain = value.is_finite() && rounding.is_finite() && error.is_finite();
        (same || certain).then_some((same, value))
    });
    let near = |slope: &Slope| slope.agrees(got) || (slope.value - got).abs() <= slope.margin() + margin;
    if lab.witnesses != Witnesses::Either {
        // Constants with as many digits as F32 has are right.
        let is_wrong = |expected: f64| (got - expected).abs() > SINGLE * (got.abs() + expected.abs());
        let refuted = |difference: Option<Difference>| match difference {
            Some(Difference { slopes: Slopes::Smooth(slope), tie: false }) => {
                slope.is_known() && !near(&slope)
            }
            _ => lab.witnesses == Witnesses::Dual,
        };
        return match by_dual {
            // What cannot be told from zero says little about a rule.
            Some((true, _)) if got.abs() > rounding + dual.map_or(0.0, |(_, error)| error) => Verdict::Same,
            Some((false, expected)) if !is_wrong(expected) => Verdict::Same,
            Some((false, expected)) if refuted(difference) => Verdict::Wrong(expected, DUAL),
            _ => Verdict::Unknown,
        };
    }
    let Some(Difference { slopes, tie }) = difference else {
        return match by_dual {
            Some((true, _)) => Verdict::Same,
            Some((false, expected)) => Verdict::Wrong(expected, DUAL),
            None => Verdict::Unknown,
        };
    };
    let conventional = tie && matches!(by_dual, Some((true, _)));
    match slopes {
        Slopes::Smooth(slope) => match by_dual {
            Some((false, expected)) if !(tie && near(&slope)) => Verdict::Wrong(expected, DUAL),
            // Where differences cannot tell the gradient from zero, and nobody else can, nothing was compared.
            None if near(&slope) && got != 0.0 && slope.margin() >= got.abs() => Verdict::Unknown,
            _ if near(&slope) => Verdict::Same,
            _ if conventional => Verdict::Bend(slope.value, slope.value),
            _ => Verdict::Wrong(slope.value, DIFFERENCES),
        },
        Slopes::Kink { left, right } => {
            let bend = Verdict::Bend(left.value, right.value);
            match (left.is_known(), right.is_known()) {
                _ if conventional => bend,
                (true, true) => {
                    let (low, high) = if left.value < right.value { (left, right) } else { (right, left) };
                    let above = got >= low.value - low.margin() - margin;
                    let below = got <= high.value + high.margin() + margin;
                    let nearer = if got < low.value { low.value } else { high.value };
                    if above && below {
                        bend
                    } else {
                        Verdict::Wrong(nearer, "differences on both sides of a kink")
                    }
                }
                (false, false) => match by_dual {
                    Some((true, _)) => Verdict::Same,
                    Some((false, expected)) => Verdict::Wrong(expected, DUAL),
                    // decisions all around, as in a bisection: no formula to compare with
                    None => Verdict::Unknown,
                },
                (known, _) => {
                    let side = if known { left } else { right };
                    if near(&side) {
                        bend
                    } else {
                        Verdict::Wrong(side.value, "differences at the edge of the domain")
                    }
                }
            }
        }
    }
}
