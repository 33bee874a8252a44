//! Every derivative in the table against differences of the meaning beside it.

mod common;

use cotangent_tensor::{Class, Elementwise, Partial, special};

/// Largest accepted relative distance of a 5-point difference from a partial derivative. A choice, not a bound: with
/// the best of several steps, truncation and rounding stay near 1e-10, and a wrong formula is off by far more.
const DIFFERENCE: f64 = 1e-6;

/// Fewest points at which the derivative of an operand must have been compared.
const LEAST: usize = 3;

const FIRST: [f64; 12] = [-3.7, -1.3, -0.6, -0.2, 0.3, 0.45, 0.8, 0.95, 1.6, 2.9, 7.2, 0.07];
const SECOND: [f64; 7] = [-2.75, -1.1, -0.52, 0.25, 0.7, 1.4, 3.3];
const THIRD: [f64; 3] = [-0.35, 0.9, 2.1];

/// Operands at which a row is tried; no two are equal and none is a whole number, so that kinks lie elsewhere.
fn points(row: Elementwise) -> Vec<Vec<f64>> {
    let first: &[f64] = if row.class() == Class::Select { &[0.0, 1.0] } else { &FIRST };
    let mut points: Vec<Vec<f64>> = first.iter().map(|&x| vec![x]).collect();
    for column in [&SECOND[..], &THIRD[..]].iter().take(row.arity() - 1) {
        points = points.iter().flat_map(|p| column.iter().map(|&x| [&p[..], &[x]].concat())).collect();
    }
    // Bounds of a clamp are in order.
    points.retain(|p| row != Elementwise::Clamp || p[1] < p[2]);
    points
}

/// The derivative by five points, with the step at which two steps agree best; nothing where the row is not finite.
fn difference(row: Elementwise, at: &[f64], operand: usize) -> Option<f64> {
    let f = |step: f64| {
        let mut moved = at.to_vec();
        moved[operand] += step;
        row.eval(&moved)
    };
    let mut estimates = Vec::new();
    for exponent in 5..14 {
        let h = 2f64.powi(-exponent);
        let estimate = (f(-2.0 * h) - 8.0 * f(-h) + 8.0 * f(h) - f(2.0 * h)) / (12.0 * h);
        if estimate.is_finite() {
            estimates.push(estimate);
        }
    }
    let disagreement = |pair: &&[f64]| (pair[0] - pair[1]).abs();
    let best = estimates.windows(2).min_by(|a, b| disagreement(a).total_cmp(&disagreement(b)))?;
    Some(best[1])
}

#[test]
fn every_partial_is_the_slope_of_its_row() {
    let (mut compared, mut operands) = (0, 0);
    for &row in Elementwise::ALL {
        for operand in 0..row.arity() {
            let (mut here, mut without) = (0, 0);
            for at in points(row) {
                let value = row.eval(&at);
                let partials = row.partials::<f64>(&at.iter().collect::<Vec<_>>(), &value, |_| true);
                assert_eq!(partials.len(), row.arity(), "{}", row.name());
                let partial = match &partials[operand] {
                    Partial::One => 1.0,
                    Partial::Product(factor) => *factor,
                    Partial::Pick { condition, holds, factor } => {
                        if (*condition != 0.0) == *holds {
                            factor.unwrap_or(1.0)
                        } else {
                            0.0
                        }
                    }
                    Partial::Zero => 0.0,
                    Partial::NotDifferentiable | Partial::Missing(_) => {
                        without += 1;
                        continue;
                    }
                };
                if !value.is_finite() {
                    continue;
                }
                let Some(slope) = difference(row, &at, operand) else { continue };
                // The reference row has about 1e-14 relative error, so a slope is known relative to the value as well.
                let scale = slope.abs().max(value.abs()).max(f64::EPSILON);
                let where_ = format!("{} by operand {operand} at {at:?}: {partial} {slope}", row.name());
                assert!((partial - slope).abs() <= DIFFERENCE * scale, "{where_}");
                here += 1;
            }
            let float = match row.class() {
                Class::Real => row != Elementwise::Trigamma,
                Class::Select => operand > 0,
                Class::Test | Class::Logic => false,
            };
            assert_eq!(without > 0, !float, "{} operand {operand}", row.name());
            assert!(!float || here >= LEAST, "{} by operand {operand}: only {here} points", row.name());
            compared += here;
            operands += usize::from(float);
        }
    }
    // Unary rows, and both or all three operands of the others.
    assert!(
        operands > Elementwise::ALL.len() / 2 && compared > 40 * LEAST * 4,
        "{operands} operands, {compared} points"
    );
}

#[test]
fn kinks_have_the_derivatives_of_the_conventions() {
    let partial = |row: Elementwise, at: &[f64], operand: usize| {
        let value = row.eval(at);
        match &row.partials::<f64>(&at.iter().collect::<Vec<_>>(), &value, |at| at == operand)[operand] {
            Partial::One => 1.0,
            Partial::Product(factor) => *factor,
            Partial::Pick { condition, holds, factor } => {
                if (*condition != 0.0) == *holds {
                    factor.unwrap_or(1.0)
                } else {
                    0.0
                }
            }
            Partial::Zero => 0.0,
            Partial::NotDifferentiable | Partial::Missing(_) => f64::NAN,
        }
    };
    use Elementwise::*;
    let inf = f64::INFINITY;
    let (tiny, huge) = (2f64.powi(-600), 2f64.powi(600));
    let cases: &[(Elementwise, &[f64], usize, f64)] = &[
        (Abs, &[0.0], 0, 0.0),
        (Relu, &[0.0], 0, 0.0),
        (Max, &[1.0, 1.0], 0, 0.5),
        (Max, &[1.0, 1.0], 1, 0.5),
        (Min, &[1.0, 1.0], 0, 0.5),
        (Min, &[1.0, 1.0], 1, 0.5),
        (Max, &[0.0, -0.0], 0, 0.5),
        (Clamp, &[1.0, 1.0, 2.0], 0, 1.0),
        (Clamp, &[2.0, 1.0, 2.0], 0, 1.0),
        (Clamp, &[2.0, 1.0, 2.0], 2, 0.0),
        (Clamp, &[0.5, 1.0, 2.0], 0, 0.0),
        (Clamp, &[0.5, 1.0, 2.0], 1, 1.0),
        (Clamp, &[2.5, 1.0, 2.0], 2, 1.0),
        (Sqrt, &[0.0], 0, inf),
        (Log, &[0.0], 0, inf),
        (Pow, &[0.0, 0.0], 0, 0.0),
        (Pow, &[-2.0, 3.0], 1, 0.0),
        (Pow, &[0.0, 2.5], 1, 0.0),
        (Xlogy, &[0.0, 0.0], 0, 0.0),
        (Xlogy, &[0.0, 2.0], 0, std::f64::consts::LN_2),
        (Xlogy, &[0.0, 0.0], 1, 0.0),
        (Xlogy, &[0.0, 2.0], 1, 0.0),
        (Xlogy, &[2.0, 0.0], 0, -inf),
        (Xlog1py, &[0.0, -1.0], 0, 0.0),
        (Xlog1py, &[0.0, 1.0], 0, std::f64::consts::LN_2),
        (Xlog1py, &[0.0, -1.0], 1, 0.0),
        (Xlog1py, &[2.0, -1.0], 1, inf),
        (LogNdtr, &[-inf], 0, inf),
        (LogNdtr, &[inf], 0, 0.0),
        (LogNdtr, &[-1e200], 0, 1e200),
        (InverseMills, &[-inf], 0, -1.0),
        (InverseMills, &[inf], 0, 0.0),
        (InverseMills, &[1e200], 0, 0.0),
        (I0e, &[0.0], 0, 0.0),
        (I0e, &[inf], 0, 0.0),
        (I1e, &[0.0], 0, 0.5),
        (I1e, &[-5e-324], 0, 0.5),
        (I1e, &[-inf], 0, 0.0),
        (Rem, &[7.5, -2.0], 1, 3.0),
        // The quotient 9.999… rounds up to 10.
        (Rem, &[1.0, 0.1], 1, -9.0),
        // Squares that overflow or underflow: in f64 here, in f32 on devices already at 1e20.
        (Atan2, &[tiny, tiny], 0, 0.5 / tiny),
        (Atan2, &[tiny, tiny], 1, -0.5 / tiny),
        (Atan2, &[huge, -huge], 0, -0.5 / huge),
        (Atan2, &[huge, 2.0], 1, -1.0 / huge),
        (Atan2, &[2.0, huge], 0, 1.0 / huge),
        (Atan2, &[inf, 2.0], 0, 0.0),
        (Asinh, &[-huge], 0, 1.0 / huge),
        (Acosh, &[huge], 0, 1.0 / huge),
        // Both tails keep their digits.
        (RecipExpm1, &[-40.0], 0, -1.0 / special::expm1(40.0)),
        (RecipExpm1, &[40.0], 0, -1.0 / special::expm1(40.0)),
        (RecipExpm1, &[-inf], 0, 0.0),
        (RecipExpm1, &[inf], 0, 0.0),
        (Log1mexp, &[40.0], 0, 1.0 / special::expm1(40.0)),
        (Log1mexp, &[inf], 0, 0.0),
        (Log1mexp, &[0.0], 0, inf),
        (Select, &[1.0, 5.0, 6.0], 1, 1.0),
        (Select, &[1.0, 5.0, 6.0], 2, 0.0),
        (Select, &[0.0, 5.0, 6.0], 2, 1.0),
    ];
    for (row, at, operand, expected) in cases {
        assert_eq!(partial(*row, at, *operand), *expected, "{} at {at:?} by {operand}", row.name());
    }
}
