//! Fisher information: of a predictor, and of what it is computed from.

use std::panic::Location;

use cotangent_autograd::{Gradient, State, Wrt, jvp, vjp};
use cotangent_tensor::{Code, Error, Tensor};

use super::rows::{Means, Observation};
use super::{Family, Form, Link};
use crate::losses::{self, Reduction};

impl Family {
    /// Expected second derivative of [`Family::nll`]: the Fisher information of the predictor, `V(η)/φ` by the canonical link and
    /// `μ′(z)²/(φ·V)` by others, per element.
    #[track_caller]
    pub fn information(&self, eta: &Tensor) -> Tensor {
        let unit = match self.linked() {
            None => return self.scaled(self.variance(eta), self.dispersion.powi(-2)),
            // Shares close to 0 and 1: a quotient of numbers that both underflow, by its logarithm.
            Some((row, _, link)) if row.means == Means::Share => {
                (2.0 * link.log_slope(eta) - link.log_mean(eta) - link.log_complement(eta)).exp()
            }
            // Variances overflow long before deviations do.
            Some((row, parameter, link)) => {
                (link.slope(eta) / (row.deviation)(&link.inverse(eta), parameter)).pow(2)
            }
        };
        self.scaled(unit, 1.0 / self.dispersion)
    }
    /// How much a residual grows with the mean, `|μ′(z)|/V`; 1 by the canonical link.
    #[track_caller]
    pub(crate) fn residual_per_mean(&self, eta: &Tensor) -> Tensor {
        match self.linked() {
            None => Tensor::new(1.0),
            Some((row, _, link)) if row.means == Means::Share => {
                (link.log_slope(eta) - link.log_mean(eta) - link.log_complement(eta)).exp()
            }
            Some((row, parameter, link)) => {
                let deviation = (row.deviation)(&link.inverse(eta), parameter);
                (link.slope(eta) / &deviation / deviation).abs()
            }
        }
    }
    /// [`Family::information`] times a direction `d` of the shape of `eta`; by the canonical link `V(η)·d/φ`, how the mean changes as
    /// `η` moves along `d`. For the categorical family `(diag(p) − p·pᵀ)·d` row by row, in a form that keeps
    /// its digits where a class is certain.
    ///
    /// The middle factor of [`Family::fisher_product`], where weights of observations go:
    ///
    /// ```
    /// use cotangent::prelude::*;
    /// let (w, v, x) = (Tensor::new(0.0), Tensor::new(1.0), Tensor::new([1.0, 2.0, 3.0]));
    /// let weight = Tensor::new([1.0, 0.0, 2.0]);
    /// let (eta, family) = (&w * &x, Family::poisson());
    /// let moved = jvp(&[&eta], &[(&w, &v)])?.remove(0);
    /// let product = vjp(&[(&eta, &(weight * family.information_product(&eta, &moved)))], &w)?.or_error()?;
    /// assert_eq!(Reference::new().evaluate(&[&product])?[0].scalar()?, 19.0); // 1·1² + 0·2² + 2·3²
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn information_product(&self, eta: &Tensor, direction: &Tensor) -> Tensor {
        let operands = [("eta", eta), ("direction", direction)];
        // Not within the closure, which would not know the line of the caller.
        let product = match &self.form {
            Form::BuiltIn(..) if self.is_least_squares() => {
                self.scaled(direction.clone(), 1.0 / self.dispersion)
            }
            Form::BuiltIn(row, _) if row.link == Link::Softmax => {
                let p = eta.softmax(-1);
                let product = &p * (direction * others(&p) - others(&(&p * direction)));
                self.scaled(product, 1.0 / self.dispersion)
            }
            // A matrix per row: the mean along the direction.
            Form::BuiltIn(..) | Form::Own { .. } if self.observation() == Observation::Row => {
                let moved = jvp(&[&self.mean(eta)], &[(eta, direction)]);
                let product = moved.map_or_else(Tensor::invalid, |mut moved| moved.remove(0));
                self.scaled(product, 1.0 / self.dispersion)
            }
            Form::BuiltIn(..) | Form::Own { .. } => self.information(eta) * direction,
        };
        losses::build(Location::caller(), "information_product", &operands, Reduction::None, || product)
    }
    /// Product of the Fisher information `Jᵀ I(η) J` of `wrt` with a direction, where `J = ∂η/∂wrt` and `I` is
    /// [`Family::information`]. It needs no targets. One tensor per `wrt`, of its shape; positive
    /// semidefinite.
    ///
    /// A sum over observations, as [`Family::residual`] is: the generalized Gauss–Newton matrix of
    /// [`Family::nll`] with `Reduction::Sum`, and the Hessian of that loss where `η` is linear in `wrt`. Divide
    /// by the number of observations for `Reduction::Mean`. A row of the multinomial family is one observation here, whatever its counts. Source: Martens, JMLR 21 (2020), §9.
    ///
    /// Errors: as [`jvp`] and [`vjp`]; `E_COTANGENT` for as many directions as there are not tensors; `E_UNCONNECTED`
    /// where `η` depends on nothing of `wrt`.
    ///
    /// ```
    /// use cotangent::prelude::*;
    /// let x = Tensor::new([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]);
    /// let (w, v) = (Tensor::new([0.0, 0.0]), Tensor::new([0.0, 1.0]));
    /// let product = Family::bernoulli().fisher_product(&x.matmul(&w), &w, &v)?;
    /// assert_eq!(Reference::new().evaluate(&[&product])?[0].to_f64(), [0.75, 1.25]); // ¼·Σ x·x₁
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn fisher_product<W: Wrt>(
        &self,
        eta: &Tensor,
        wrt: W,
        direction: impl Wrt,
    ) -> Result<W::Of<Tensor>, Error> {
        let (targets, directions) = (wrt.tensors(), direction.tensors());
        if targets.len() != directions.len() {
            let message = format!("{} directions for {} tensors", directions.len(), targets.len());
            return Err(Error::new(Code::Cotangent, "fisher_product", message).at(Location::caller()));
        }
        let moves: Vec<(&Tensor, &Tensor)> = targets.iter().copied().zip(directions).collect();
        let moved = jvp(&[eta], &moves)?.remove(0);
        let gradients = vjp(&[(eta, &self.information_product(eta, &moved))], targets)?;
        let is_unconnected = |gradient: &Gradient| matches!(gradient.state(), State::Unconnected);
        if let Some(first) = gradients.first().filter(|_| gradients.iter().all(is_unconnected)) {
            first.or_error()?;
        }
        let products: Vec<Tensor> = gradients.iter().map(Gradient::or_zero).collect();
        products.iter().try_for_each(|product| product.node().map(|_| ()))?;
        Ok(wrt.collect(products))
    }
}

/// The sum of all other elements of the last axis: of those before and of those after, so that nothing is subtracted.
#[track_caller]
pub(super) fn others(p: &Tensor) -> Tensor {
    let Ok(node) = p.node() else { return p.clone() };
    let Some(&length) = node.shape.last().filter(|&&length| length > 0) else { return p * 0.0 };
    let before = p.slice(-1, 0, length - 1, 1).cumulative_sum(-1, false).pad(-1, 1, 0);
    let after = p.slice(-1, 1, length, 1).cumulative_sum(-1, true).pad(-1, 0, 1);
    before + after
}
