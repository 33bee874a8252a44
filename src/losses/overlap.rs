//! Losses of the overlap of regions.

use std::panic::Location;

use cotangent_tensor::Tensor;

use super::{Reduction, checked, hyperparameter, same_rows};

/// Dice loss `1 − (2Σp·y + ε)/(Σp + Σy + ε)` of probabilities and targets `[…, elements]`, per row.
///
/// Derivative by `p_i`: that of [`tversky`] with both weights ½ and half the `ε`. Domain: `p` and `y` between 0 and 1, finite `ε > 0`, with which a row of nothing against nothing has loss 0. Computed as
/// `(Σp(1 − y) + Σy(1 − p))/(Σp + Σy + ε)`: no cancellation where both agree. Error: `log₂` of the number of elements and 6
/// roundings. Source: Milletari, Navab & Ahmadi, 3DV (2016).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (p, y) = (Tensor::new([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), Tensor::new([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]));
/// let loss = losses::dice(&p, &y, 1.0, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.25, 0.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn dice(probability: &Tensor, target: &Tensor, smooth: f64, reduction: Reduction) -> Tensor {
    let name = "dice";
    checked(Location::caller(), || {
        positive(name, "smooth", smooth)?;
        same_rows(name, &[("probability", probability), ("target", target)])?;
        Ok(reduction.apply(&overlap(probability, target, [0.5, 0.5], 0.5 * smooth)))
    })
}

/// Tversky loss `1 − (TP + ε)/(TP + α·FP + β·FN + ε)` of probabilities and targets `[…, elements]`, per row, with `TP = Σp·y`,
/// `FP = Σp(1 − y)` and `FN = Σy(1 − p)`.
///
/// Derivative by `p_i`, with the numerator `e = α·FP + β·FN` and the denominator `t`: `(e′ − (e/t)·t′)/t` where `e′ = α(1 − y_i) − β·y_i`
/// and `t′ = e′ + y_i`. Domain: `p` and `y` between 0 and 1; finite `α`, `β ≥ 0` and `ε > 0`. Computed as `e/t`: no cancellation
/// where both agree. Error: `log₂` of the number of elements and 8 roundings. Source: Salehi, Erdogmus & Gholipour, MLMI (2017).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (p, y) = (Tensor::new([[1.0, 1.0, 0.0]]), Tensor::new([[1.0, 0.0, 1.0]]));
/// let loss = losses::tversky(&p, &y, [0.25, 0.75], 1.0, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 1.0 / 3.0);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn tversky(
    probability: &Tensor,
    target: &Tensor,
    [alpha, beta]: [f64; 2],
    smooth: f64,
    reduction: Reduction,
) -> Tensor {
    let name = "tversky";
    checked(Location::caller(), || {
        for (parameter, value) in [("alpha", alpha), ("beta", beta)] {
            hyperparameter(
                name,
                parameter,
                value,
                "a finite number from 0",
                value >= 0.0 && value.is_finite(),
            )?;
        }
        positive(name, "smooth", smooth)?;
        same_rows(name, &[("probability", probability), ("target", target)])?;
        Ok(reduction.apply(&overlap(probability, target, [alpha, beta], smooth)))
    })
}

fn positive(name: &str, parameter: &'static str, value: f64) -> Result<(), cotangent_tensor::Error> {
    hyperparameter(name, parameter, value, "a finite positive number", value > 0.0 && value.is_finite())
}

/// Written without the difference from 1, whose terms nearly cancel where a prediction is good.
fn overlap(p: &Tensor, y: &Tensor, [alpha, beta]: [f64; 2], smooth: f64) -> Tensor {
    let wrong = (alpha * (p * (1.0 - y)) + beta * (y * (1.0 - p))).sum(-1);
    let right = (p * y).sum(-1);
    &wrong / (right + &wrong + smooth)
}
