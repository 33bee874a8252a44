//! Losses, residuals and deviances of families, by any link.

use std::panic::Location;

use cotangent_tensor::{Code, Error, Tensor, where_};

use super::rows::{Means, Observation};
use super::{At, Family, Form, Predicted, derivative};
use crate::losses::{self, Reduction};

impl Family {
    /// Negative log-likelihood without the terms that no parameter moves, per observation, then reduced: `(A(η) − y·η)/φ`, or the same of
    /// the mean by another link. Its second derivative in `η` is the variance; by another link its expectation is
    /// [`Family::information`].
    ///
    /// Gaussian: completed to `½(μ − y)²`, inverse Gaussian to `(y − μ)²/(2μ²y)`. Bernoulli and categorical: the forms of
    /// [`losses::bce_with_logits`] and [`losses::cross_entropy`]. Mutual broadcasting is `E_BROADCAST`.
    #[track_caller]
    pub fn nll(&self, eta: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
        let at = Location::caller();
        if let Form::Own { log_partition: None, .. } = &self.form {
            return self.lacks("log-partition", at);
        }
        let loss = match self.observation() {
            Observation::Number => self.elementwise(at, "nll", eta, target, || self.unit_nll(eta, target)),
            Observation::Label => losses::cross_entropy(eta, target, Reduction::None),
            Observation::Row => self.rowwise(at, "nll", eta, target, || self.unit_nll(eta, target)),
        };
        reduction.apply(&self.scaled(loss, 1.0 / self.dispersion))
    }
    /// The derivative of [`Family::nll`] in `eta`, per observation: the upstream cotangent of `eta` that replaces a loss. By the
    /// canonical link `(mean − target)/φ`. A constant: its own derivative is zero, where the second derivative of [`Family::nll`]
    /// is the variance. Divide by the number of observations for a mean.
    ///
    /// A masked observation is one whose residual is replaced: `mask.select(residual, 0.0)`.
    #[track_caller]
    pub fn residual(&self, eta: &Tensor, target: &Tensor) -> Tensor {
        let at = Location::caller();
        let residual = match self.observation() {
            Observation::Label => eta.softmax_residual(target),
            Observation::Row => self.rowwise(at, "residual", eta, target, || self.slope(eta, target)),
            Observation::Number => self.elementwise(at, "residual", eta, target, || self.slope(eta, target)),
        };
        self.scaled(residual, 1.0 / self.dispersion).detach()
    }
    /// Logarithm of the density or probability of each observation, with every constant.
    ///
    /// Invalid with `E_FAMILY` for the Tweedie family, whose density is a series, and for families of one's own.
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Reference, Tensor};
    /// let of = Family::poisson().log_likelihood(&Tensor::new([0.0]), &Tensor::new([3.0]));
    /// let value = Reference::new().evaluate(&[&of])?[0].to_f64()[0];
    /// assert!((value - (-1.0 - 6f64.ln())).abs() < 1e-15);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    #[track_caller]
    pub fn log_likelihood(&self, eta: &Tensor, target: &Tensor) -> Tensor {
        match self.log_constant(target) {
            Some(constant) => -self.nll(eta, target, Reduction::None) - constant,
            None => self.lacks("density in closed form", Location::caller()),
        }
    }
    /// What the density adds to [`Family::nll`], per observation.
    #[track_caller]
    pub(crate) fn log_constant(&self, target: &Tensor) -> Option<Tensor> {
        match &self.form {
            Form::BuiltIn(row, parameter) => {
                row.constant.map(|constant| constant(target, *parameter, self.dispersion))
            }
            Form::Own { .. } => None,
        }
    }
    /// Second derivative of the loss of each observation in `eta`, where it is not [`Family::information`].
    #[track_caller]
    pub(crate) fn curvature(&self, eta: &Tensor, target: &Tensor) -> Option<Tensor> {
        self.linked()?;
        Some(self.scaled(derivative(&self.slope(eta, target), eta), 1.0 / self.dispersion))
    }

    #[track_caller]
    fn unit_nll(&self, eta: &Tensor, target: &Tensor) -> Tensor {
        if let Some((row, parameter, link)) = self.linked() {
            return (row.nll_at)(&Predicted { link, z: eta }, target, parameter);
        }
        match &self.form {
            Form::BuiltIn(row, parameter) => match row.nll {
                Some(nll) => nll(eta, target, *parameter),
                None => (row.log_partition)(eta, *parameter) - target * eta,
            },
            Form::Own { rows: true, .. } => self.log_partition(eta) - (target * eta).sum(-1),
            Form::Own { .. } => self.log_partition(eta) - target * eta,
        }
    }
    /// The derivative of [`Family::unit_nll`].
    #[track_caller]
    fn slope(&self, eta: &Tensor, target: &Tensor) -> Tensor {
        match &self.form {
            Form::BuiltIn(row, parameter) => match (self.linked(), row.residual) {
                (Some(_), _) => {
                    let eta = repeated(eta, target);
                    derivative(&self.unit_nll(&eta, target), &eta)
                }
                (None, Some(residual)) => residual(eta, target, *parameter),
                (None, None) => self.mean(eta) - target,
            },
            Form::Own { .. } => self.mean(eta) - target,
        }
    }
    fn elementwise(
        &self,
        at: At,
        what: &str,
        eta: &Tensor,
        target: &Tensor,
        build: impl FnOnce() -> Tensor,
    ) -> Tensor {
        losses::build(at, what, &[("eta", eta), ("target", target)], Reduction::None, build)
    }
    /// Rows of both must have the same shape.
    fn rowwise(
        &self,
        at: At,
        what: &str,
        eta: &Tensor,
        target: &Tensor,
        build: impl FnOnce() -> Tensor,
    ) -> Tensor {
        if let (Ok(a), Ok(b)) = (eta.node(), target.node())
            && (a.shape != b.shape || a.shape.rank() == 0)
        {
            let message = format!("eta {} and target {} must be rows of the same shape", a.shape, b.shape);
            let error = Error::new(Code::Broadcast, what, message).shape("eta", &a.shape);
            return Tensor::invalid(error.shape("target", &b.shape).at(at));
        }
        self.elementwise(at, what, eta, target, build)
    }

    /// Unit deviance `d(y, μ)`, per observation: twice the difference in log-likelihood to a perfect fit, 0 for `μ = y`.
    ///
    /// Gaussian `(y − μ)²`; Bernoulli `2(y·log(y/μ) + (1−y)·log((1−y)/(1−μ)))`; Poisson `2(y·log(y/μ) − (y − μ))`; gamma
    /// `2((y − μ)/μ − log(y/μ))`; inverse Gaussian `(y − μ)²/(μ²·y)`; categorical `−2·log μ[label]` with `mean` of shape
    /// `[…, classes]` and labels. Terms whose `y` (or `1 − y`) is 0 are 0, whatever the mean. Logarithms are taken of `1 +` a difference, so
    /// that large counts keep their digits. [`Family::deviance_at`] starts from `eta`, so it needs no digits that a mean near 1
    /// has lost.
    ///
    /// Invalid with `E_FAMILY` for families whose mean cannot be inverted in closed form (continuous Bernoulli, zero-truncated Poisson,
    /// Dirichlet, one's own).
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Reference, Tensor};
    /// let (y, mean) = (Tensor::new([0.0, 1.0]), Tensor::new([0.5, 1.0]));
    /// let deviance = Family::poisson().deviance(&y, &mean);
    /// assert_eq!(Reference::new().evaluate(&[&deviance])?[0].to_f64(), [1.0, 0.0]);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    #[track_caller]
    pub fn deviance(&self, target: &Tensor, mean: &Tensor) -> Tensor {
        let at = Location::caller();
        let Form::BuiltIn(row, parameter) = &self.form else { return self.lacks("deviance", at) };
        match (row.deviance, row.observation) {
            (_, Observation::Label) => 2.0 * mean.log().cross_entropy(target),
            (None, _) => self.lacks("deviance", at),
            (Some(deviance), Observation::Row) => {
                self.rowwise(at, "deviance", target, mean, || deviance(target, mean, *parameter))
            }
            (Some(deviance), Observation::Number) => {
                let operands = [("target", target), ("mean", mean)];
                losses::build(at, "deviance", &operands, Reduction::None, || {
                    deviance(target, mean, *parameter)
                })
            }
        }
    }
    /// Unit deviance at the predictor: [`Family::deviance`] of `target` and the mean of `eta`.
    ///
    /// Bernoulli and categorical in the stable forms of [`Family::nll`]: finite where the mean rounds to 0 or 1.
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Reference, Tensor};
    /// let (y, eta) = (Tensor::new([1.0, 0.0]), Tensor::new([60.0, 60.0]));
    /// let deviance = Family::bernoulli().deviance_at(&y, &eta);
    /// assert_eq!(Reference::new().evaluate(&[&deviance])?[0].to_f64()[1], 120.0);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    #[track_caller]
    pub fn deviance_at(&self, target: &Tensor, eta: &Tensor) -> Tensor {
        let unit = Family { dispersion: 1.0, ..self.clone() };
        let loss = || unit.nll(eta, target, Reduction::None);
        match (self.observation(), self.means()) {
            (Observation::Label, _) => 2.0 * loss(),
            (Observation::Number, Means::Share) => {
                let missing = 1.0 - target;
                // Of the perfect fit; 0 where the target is 0 or 1. The conditions look at the target, which is exact; 1 − y is not.
                let hit = where_(&target.ne(0.0), target, 1.0);
                let miss = where_(&target.ne(1.0), &missing, 1.0);
                2.0 * (loss() + target.xlogy(hit) + missing.xlogy(miss))
            }
            (Observation::Number | Observation::Row, _) => self.deviance(target, &self.mean(eta)),
        }
    }
}

/// A predictor repeated to the shape that it has together with its target.
#[track_caller]
fn repeated(eta: &Tensor, target: &Tensor) -> Tensor {
    match (eta.node(), target.node()) {
        (Ok(a), Ok(b)) if a.shape != b.shape => {
            a.shape.broadcast(&b.shape).map_or_else(|_| eta.clone(), |shape| eta.broadcast_to(shape))
        }
        _ => eta.clone(),
    }
}
