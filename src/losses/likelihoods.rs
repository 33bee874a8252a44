//! Negative log-likelihoods of numbers.

use std::f64::consts::PI;
use std::panic::Location;

use cotangent_autograd::straight_through;
use cotangent_tensor::Tensor;

use super::{At, Reduction, build, checked, hyperparameter};

/// Which part of a negative log-likelihood that depends on the target alone is added to a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Constant {
    /// None: it has no derivative by what a model predicts.
    #[default]
    Dropped,
    /// Stirling's approximation of a factorial; what needs no approximation is exact.
    Stirling,
    /// All of it.
    Exact,
}

/// Poisson negative log-likelihood `exp(η) − y·η`, without the constant `ln y!`.
///
/// Derivative in `eta`: `exp(η) − y`. Domain: `y ≥ 0`; infinite for `η > 88.7` in f32. Error: 2 ULP of `exp`, one
/// rounding more. Source: McCullagh & Nelder, Generalized Linear Models, 2nd ed., §2.2.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::poisson_nll(&Tensor::new([0.0, 0.0]), &Tensor::new([2.0, 1.0]), Reduction::Sum);
/// let value = Reference::new().evaluate(&[&loss])?[0].scalar()?;
/// assert_eq!(value, 2.0); // e⁰ − 2·0 + e⁰ − 1·0
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn poisson_nll(eta: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "poisson_nll", &[("eta", eta), ("target", target)], reduction, || {
        eta.exp() - target * eta
    })
}

/// Poisson negative log-likelihood `exp(η) − y·η + c(y)` with the constant `c`: `ln y!` as `lgamma(y + 1)`, or Stirling's
/// approximation `y·ln y − y + ½ ln 2πy` where `y > 1`, else 0.
///
/// Derivative in `eta`: `exp(η) − y`. Domain: `y ≥ 0`; infinite for `η > 88.7` in f32. Error: that of [`poisson_nll`] and of `lgamma`.
/// Source: McCullagh & Nelder, Generalized Linear Models, 2nd ed., §2.2.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (eta, y) = (Tensor::new(1.0), Tensor::new(2.0));
/// let loss = losses::poisson_nll_with(&eta, &y, losses::Constant::Exact, Reduction::Mean);
/// let value = Reference::new().evaluate(&[&loss])?[0].scalar()?;
/// assert!((value - (1f64.exp() - 2.0 + 2f64.ln())).abs() < 1e-14); // ln 2! = ln 2
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn poisson_nll_with(eta: &Tensor, target: &Tensor, constant: Constant, reduction: Reduction) -> Tensor {
    build(Location::caller(), "poisson_nll_with", &[("eta", eta), ("target", target)], reduction, || {
        let loss = eta.exp() - target * eta;
        match constant {
            Constant::Dropped => loss,
            Constant::Stirling => {
                let stirling = target * target.log() - target + 0.5 * (2.0 * PI * target).log();
                loss + target.gt(1.0).select(stirling, 0.0)
            }
            Constant::Exact => loss + (target + 1.0).lgamma(),
        }
    })
}

/// Gamma negative log-likelihood `η + y·exp(−η)` per unit of shape, for the logarithm `η` of the mean, without what depends on
/// `y` alone.
///
/// Derivative in `eta`: `1 − y·exp(−η)`. Domain: `y > 0`; infinite for `η < −88.7` in f32. Error: 2 ULP of `exp`, 2 roundings of the
/// larger term. Source: McCullagh & Nelder, Generalized Linear Models, 2nd ed., §8.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::gamma_nll(&Tensor::new([0.0, 2.0]), &Tensor::new([3.0, 0.0]), Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [3.0, 2.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn gamma_nll(eta: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "gamma_nll", &[("eta", eta), ("target", target)], reduction, || {
        eta + target * (-eta).exp()
    })
}

/// Gaussian negative log-likelihood `½(ℓ + d²·exp(−ℓ))` for a predicted mean and log-variance `ℓ`, without `½ ln 2π`.
///
/// Derivatives: `d·exp(−ℓ)` by the mean, `½(1 − d²·exp(−ℓ))` by `ℓ`. No division by a tiny variance. Error: 2 ULP of
/// `exp` and 4 roundings of the larger term.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (mean, y, log_variance) = (Tensor::new(1.0), Tensor::new(3.0), Tensor::new(0.0));
/// let loss = losses::gaussian_nll(&mean, &y, &log_variance, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2.0);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn gaussian_nll(mean: &Tensor, target: &Tensor, log_variance: &Tensor, reduction: Reduction) -> Tensor {
    let operands = [("mean", mean), ("target", target), ("log_variance", log_variance)];
    build(Location::caller(), "gaussian_nll", &operands, reduction, || {
        0.5 * (log_variance + (mean - target).pow(2) * (-log_variance).exp())
    })
}

/// Gaussian negative log-likelihood `½(ln v + d²/v)` for a predicted mean and variance `v`, held above a floor; with a constant
/// `½ ln 2π` more.
///
/// Derivatives: `d/v` by the mean, `½(1 − d²/v)/v` by the variance. Below the floor `v` is the floor, and the derivative passes as
/// if it were the variance: so it can come back up. Domain: finite floor above 0. A model that predicts `ln v` needs no floor:
/// [`gaussian_nll`]. Error: that of `log` and 6 roundings of the larger term. Source: Nix & Weigend, ICNN (1994).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// use losses::Constant;
/// let (mean, y, variance) = (Tensor::new([1.0, 1.0]), Tensor::new([3.0, 3.0]), Tensor::new([1.0, 0.0]));
/// let loss = losses::gaussian_nll_with_variance(&mean, &y, &variance, 1e-6, Constant::Dropped, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [2.0, 0.5 * (1e-6f64.ln() + 4.0 / 1e-6)]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn gaussian_nll_with_variance(
    mean: &Tensor,
    target: &Tensor,
    variance: &Tensor,
    floor: f64,
    constant: Constant,
    reduction: Reduction,
) -> Tensor {
    let (at, name): (At, _) = (Location::caller(), "gaussian_nll_with_variance");
    let operands = [("mean", mean), ("target", target), ("variance", variance)];
    checked(at, || {
        let holds = floor > 0.0 && floor.is_finite();
        hyperparameter(name, "floor", floor, "a finite positive number", holds)?;
        Ok(build(at, name, &operands, reduction, || {
            let held = straight_through(&variance.max(floor), variance);
            let loss = 0.5 * (held.log() + (mean - target).pow(2) / held);
            if constant == Constant::Dropped { loss } else { loss + 0.5 * (2.0 * PI).ln() }
        }))
    })
}
