//! Fenchel–Young losses: `Ω*(η) + Ω(y) − ⟨y, η⟩` for a convex regularizer `Ω` on the simplex, whose gradient in `η` is `∇Ω*(η) − y`, a
//! family's `mean − target`. Of the negative entropy it is the cross entropy; here are those whose means have exact zeros.
//!
//! Sources: Blondel, Martins & Niculae, JMLR 21 (2020); Martins & Astudillo, ICML (2016), for the sparsemax; Peters, Niculae & Martins,
//! ACL (2019), for the entmax.

use cotangent_autograd::custom_gradient;
use cotangent_tensor::{DType, Tensor};

/// Which of the Tsallis entropies `(1 − Σ pᵅ)/(α(α − 1))` is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tsallis {
    /// `α = 2`: half the squared distance to the origin.
    Sparsemax,
    /// `α = 3/2`, between softmax and sparsemax.
    Entmax15,
}

impl Tsallis {
    fn alpha(self) -> f64 {
        match self {
            Tsallis::Sparsemax => 2.0,
            Tsallis::Entmax15 => 1.5,
        }
    }
    /// `√` of what the slope of a mean is on its support: `p^(2 − α)`.
    #[track_caller]
    pub(super) fn weights(self, p: &Tensor) -> Tensor {
        match self {
            Tsallis::Sparsemax => p.gt(0.0).cast(DType::F32),
            Tsallis::Entmax15 => p.sqrt(),
        }
    }
    /// `Ω(p) = (Σ pᵅ − 1)/(α(α − 1))`, per row; 0 for one class alone.
    #[track_caller]
    pub(super) fn regularizer(self, p: &Tensor) -> Tensor {
        let powers = match self {
            Tsallis::Sparsemax => p.pow(2),
            Tsallis::Entmax15 => p * p.sqrt(),
        };
        (powers.sum(-1) - 1.0) / (self.alpha() * (self.alpha() - 1.0))
    }
    /// `∇Ω*(η)`, per row of `η`: `max(z − τ, 0)^(1/(α − 1))` with `z = (α − 1)·η` and the `τ` that makes it sum to 1.
    ///
    /// Exact, by the sums over all elements that are not smaller than each element, `K²` terms for a row of `K` that are nowhere
    /// stored. What is outside of the support has the derivative 0.
    #[track_caller]
    pub(super) fn mean(self, eta: &Tensor) -> Tensor {
        // A shift changes no mean, so the largest element needs no derivative.
        let z = (eta - top(eta)) * (self.alpha() - 1.0);
        let (element, other) = (z.unsqueeze(-1), z.unsqueeze(-2));
        let above = other.ge(&element);
        let count = above.cast(DType::F32).sum(-1);
        let sum = above.select(&other, 0.0).sum(-1);
        // Whether an element is above the threshold that it would have if it were the last of the support.
        let inside = match self {
            Tsallis::Sparsemax => (1.0 + &count * &z).gt(&sum),
            Tsallis::Entmax15 => {
                let squares = above.select(other.pow(2), 0.0).sum(-1);
                threshold(&count, &sum, &squares).le(&z)
            }
        };
        let all = |values: &Tensor| inside.select(values, 0.0).sum(-1).unsqueeze(-1);
        let (count, sum) = (inside.cast(DType::F32).sum(-1).unsqueeze(-1), all(&z));
        match self {
            Tsallis::Sparsemax => (&z - (sum - 1.0) / count).relu(),
            Tsallis::Entmax15 => (&z - threshold(&count, &sum, &all(&z.pow(2)))).relu().pow(2),
        }
    }
    /// `Ω*(η) = ⟨p, η⟩ − Ω(p)`, per row, with the gradient `p`: that of the formula would go through `p`, where it cancels.
    #[track_caller]
    pub(super) fn conjugate(self, eta: &Tensor) -> Tensor {
        custom_gradient("fenchel_young", [eta], move |[eta]| {
            let p = self.mean(&eta);
            // Shifted, so that large natural parameters do not cancel.
            let top = top(&eta);
            let value = (&p * (&eta - &top)).sum(-1) - self.regularizer(&p) + top.squeeze(-1);
            (value, move |upstream: Tensor| upstream.unsqueeze(-1) * &p)
        })
    }
}

/// The largest element of each row, as a constant.
#[track_caller]
fn top(eta: &Tensor) -> Tensor {
    eta.max_over(-1).detach().unsqueeze(-1)
}

/// `τ` of elements with this number, sum and sum of squares for which `Σ (z − τ)² = 1`.
#[track_caller]
fn threshold(count: &Tensor, sum: &Tensor, squares: &Tensor) -> Tensor {
    let mean = sum / count;
    let spread = (1.0 - (squares - sum * &mean)) / count;
    // Where even the elements themselves are too far apart there is no such τ; the element is outside.
    let inside = spread.ge(0.0);
    inside.select(mean - inside.select(&spread, 1.0).sqrt(), f64::INFINITY)
}
