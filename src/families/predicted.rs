//! A mean by some link, in the forms in which negative log-likelihoods need it.

use cotangent_tensor::{Tensor, where_};

use super::Link;

/// The mean that belongs to a linear predictor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predicted<'a> {
    pub(super) link: &'a Link,
    pub(super) z: &'a Tensor,
}

impl Predicted<'_> {
    #[track_caller]
    pub(super) fn mean(&self) -> Tensor {
        self.link.inverse(self.z)
    }
    /// The mean where it is none below zero, else NaN: a search must not walk there.
    #[track_caller]
    pub(super) fn positive_mean(&self) -> Tensor {
        from_zero(&self.mean())
    }
    #[track_caller]
    pub(super) fn log_mean(&self) -> Tensor {
        self.link.log_mean(self.z)
    }
    #[track_caller]
    pub(super) fn log_complement(&self) -> Tensor {
        self.link.log_complement(self.z)
    }
    /// `1/μ` of a positive mean.
    #[track_caller]
    pub(super) fn reciprocal(&self) -> Tensor {
        from_zero(&self.link.reciprocal(self.z))
    }
    /// `log(1 + α·μ)` and `log(1 + 1/(α·μ))` of a positive mean.
    #[track_caller]
    pub(super) fn log1p_scaled(&self, alpha: f64) -> (Tensor, Tensor) {
        // Neither overflows nor cancels, however small or large the mean.
        let shifted = self.log_mean() + alpha.ln();
        (shifted.softplus(), (-shifted).softplus())
    }
}

#[track_caller]
fn from_zero(value: &Tensor) -> Tensor {
    where_(&value.ge(0.0), value, f64::NAN)
}
