//! How well predictions fit, in f64.

use cotangent_tensor::{Array, Elementwise, Error, Evaluate, Reference, Tensor, where_};

use crate::families::Family;
use crate::losses::Reduction;

/// Statistics of predictions of some model, whichever kind it is.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Σ w·d(y, μ); −2 · log-likelihood for families without a unit deviance.
    pub deviance: f64,
    /// With all constants, at [`Assessment::dispersion`]; Gaussian: at the variance of maximum likelihood.
    pub log_likelihood: f64,
    /// Estimate `Σ w·(y − μ)²/V(μ)` over degrees of freedom, which are the sum of the weights less the number of parameters (NaN where none
    /// is left); 1 for families that have none to estimate.
    pub dispersion: f64,
    /// `sign(y − μ)·√(w·d(y, μ))` per row; empty for the categorical family.
    pub residuals: Vec<f64>,
}

/// What a row counts, how many parameters there are, and the unit of a Gaussian target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) total: f64,
    pub(super) parameters: f64,
    pub(super) unit: f64,
}

/// Statistics of the predictor `eta`, of shape `[rows]` or `[rows, classes]`, for targets and weights of shape `[rows]`; as many parameters
/// are taken from the degrees of freedom.
///
/// Errors: those of the tensors.
///
/// ```
/// use cotangent::{Family, Tensor, glm};
/// let (eta, y) = (Tensor::new([0.0, 0.0]), Tensor::new([1.0, 0.0]));
/// let found = glm::assess(&Family::poisson(), &eta, &y, &Tensor::ones([2]), 1)?;
/// assert_eq!((found.deviance, found.log_likelihood, found.dispersion), (2.0, -2.0, 1.0));
/// # Ok::<(), cotangent::Error>(())
/// ```
pub fn assess(
    family: &Family,
    eta: &Tensor,
    target: &Tensor,
    weight: &Tensor,
    parameters: usize,
) -> Result<Assessment, Error> {
    let total = Reference::new().evaluate(&[&weight.sum(..)])?[0].scalar()?;
    let scale = Scale { total, parameters: parameters as f64, unit: 1.0 };
    assess_with(&Reference::new(), family, [eta, target, weight], scale)
}

/// On an evaluator that knows the parameters.
pub(super) fn assess_with(
    reference: &Reference,
    family: &Family,
    [eta, target, weight]: [&Tensor; 3],
    Scale { total, parameters, unit }: Scale,
) -> Result<Assessment, Error> {
    let each = times(&misfit(family, target, eta), weight);
    let (pearson, residuals) = if family.is_categorical() {
        (Tensor::new(0.0), Tensor::zeros([0]))
    } else {
        let mean = family.mean(eta);
        let pearson = times(&((target - &mean).pow(2) / family.variance(eta)), weight).sum(..);
        // Rounding may leave a perfect fit below zero.
        (pearson, (target - mean).sign() * where_(&each.gt(0.0), &each, 0.0).sqrt())
    };
    let found = reference.evaluate(&[&each.sum(..), &pearson, &residuals])?;
    let square = unit * unit;
    let (deviance, pearson) = (found[0].scalar()? * square, found[1].scalar()? * square);
    let freedom = total - parameters;
    let dispersion = match family.is_dispersed() {
        true if freedom > 0.0 => pearson / freedom,
        true => f64::NAN,
        false => 1.0,
    };
    let log_likelihood = if family.is_gaussian() {
        -0.5 * total * ((std::f64::consts::TAU * deviance / total).ln() + 1.0)
    } else if dispersion > 0.0 && dispersion.is_finite() {
        let family = family.clone().with_dispersion(dispersion)?;
        log_likelihood(reference, &family, [eta, target, weight])?
    } else {
        f64::NAN
    };
    let residuals = Array::to_f64(&found[2]).into_iter().map(|residual| residual * unit).collect();
    Ok(Assessment { deviance, log_likelihood, dispersion, residuals })
}

/// A row without weight does not count, even where its predictor has no mean within the family.
fn times(values: &Tensor, weight: &Tensor) -> Tensor {
    where_(&weight.eq(0.0), 0.0, values * weight)
}

/// Unit deviance; twice the negative log-likelihood where the family has none.
pub(super) fn misfit(family: &Family, target: &Tensor, eta: &Tensor) -> Tensor {
    if family.has_deviance() {
        return family.deviance_at(target, eta);
    }
    let loss = family.nll(eta, target, Reduction::None);
    2.0 * family.log_constant(target).map_or(loss.clone(), |constant| loss + constant)
}

/// Of rows that count as often as their weights say.
fn log_likelihood(
    reference: &Reference,
    family: &Family,
    [eta, target, weight]: [&Tensor; 3],
) -> Result<f64, Error> {
    let constant = match (family.tweedie_power(), family.log_constant(target)) {
        (Some(power), _) => {
            let found = reference.evaluate(&[target])?;
            let each = |&y: &f64| tweedie_constant(y, power, family.dispersion());
            Tensor::new(found[0].to_f64().iter().map(each).collect::<Vec<f64>>())
        }
        (None, Some(constant)) => constant,
        (None, None) => return Ok(f64::NAN),
    };
    let loss = times(&(family.nll(eta, target, Reduction::None) + constant), weight);
    // A share of successes stands for as many trials as its weight says.
    let choices = if family.counts_trials() {
        let hits = weight * target;
        let misses = weight - &hits;
        (weight + 1.0).lgamma() - (hits + 1.0).lgamma() - (misses + 1.0).lgamma()
    } else {
        Tensor::new(0.0)
    };
    reference.evaluate(&[&(choices - loss).sum(..)])?[0].scalar()
}

/// What the density of a Tweedie variable adds to its negative log-likelihood: `log y − log W(y, φ)` for `y > 0`, and 0 for `y = 0`. `W` is the series of
/// Dunn & Smyth, Statistics and Computing 15 (2005), summed from its largest term to both sides.
fn tweedie_constant(y: f64, power: f64, dispersion: f64) -> f64 {
    if y <= 0.0 {
        return 0.0;
    }
    let lgamma = |x: f64| Elementwise::Lgamma.eval(&[x]);
    let alpha = (2.0 - power) / (power - 1.0);
    let log_z = alpha * (y.ln() - (power - 1.0).ln()) - (1.0 + alpha) * dispersion.ln() - (2.0 - power).ln();
    let log_term = |j: f64| j * log_z - lgamma(1.0 + j) - lgamma(alpha * j);
    let largest = (y.powf(2.0 - power) / (dispersion * (2.0 - power))).round().max(1.0);
    let top = log_term(largest);
    // Terms fall faster than geometrically from their largest.
    let side = |step: f64| {
        let (mut sum, mut j) = (0.0, largest + step);
        while j >= 1.0 {
            let term = (log_term(j) - top).exp();
            sum += term;
            if term < f64::EPSILON * 1e-3 {
                break;
            }
            j += step;
        }
        sum
    };
    y.ln() - top - (1.0 + side(1.0) + side(-1.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tweedie_density_is_one_with_its_mass_at_zero() {
        for (mean, power, dispersion) in [(2.0, 1.5, 1.0), (0.7, 1.2, 0.4), (3.0, 1.8, 2.0), (20.0, 1.6, 0.3)]
        {
            let family = Family::tweedie(power).and_then(|f| f.with_dispersion(dispersion)).unwrap();
            let eta = f64::powf(mean, 1.0 - power) / (1.0 - power);
            // Substituted y = t¹², which flattens what happens near zero; Simpson's rule.
            let (n, step) =
                (20_000, (60.0 * mean.max(1.0) * dispersion.max(1.0)).powf(1.0 / 12.0) / 20_000.0);
            let t: Vec<f64> = (0..=n).map(|i| step * f64::from(i)).collect();
            let y: Vec<f64> = t.iter().map(|t| t.powi(12)).collect();
            let loss = family.nll(&Tensor::new(eta), &Tensor::new(y.clone()), Reduction::None);
            let loss = Reference::new().evaluate(&[&loss]).unwrap()[0].to_f64();
            let density = |i: usize| (-loss[i] - tweedie_constant(y[i], power, dispersion)).exp();
            let (mut whole, mut first) = (density(0), 0.0);
            assert!(
                (density(0) - (-mean.powf(2.0 - power) / (2.0 - power) / dispersion).exp()).abs() < 1e-12
            );
            for i in 1..t.len() {
                let weight = if i + 1 == t.len() { 1.0 } else { [2.0, 4.0][i % 2] } * step / 3.0;
                let mass = weight * density(i) * 12.0 * t[i].powi(11);
                whole += mass;
                first += mass * y[i];
            }
            assert!(
                (whole - 1.0).abs() < 1e-6 && (first / mean - 1.0).abs() < 1e-6,
                "{power}: {whole} {first}"
            );
        }
    }
}
