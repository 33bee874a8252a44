//! Natural exponential families: what loss-free training starts from.
//!
//! A family is a log-partition `A(η)`; its mean is `A′(η)`, its variance `A″(η)`, and the derivative of its negative
//! log-likelihood `A(η) − y·η` in the natural parameter is `mean − target`. So training needs no loss: give
//! [`Family::residual`] as the upstream cotangent of `η` to [`vjp`]. Switching the family changes one word.
//!
//! ```
//! use cotangent::prelude::*;
//!
//! let x = Tensor::new([0.0, 0.5, 1.0, 1.5]);
//! let y = Tensor::new([1.0, 0.0, 2.0, 3.0]);
//! let (w, b) = (Tensor::new(0.3), Tensor::new(0.1));
//! let eta = &w * &x + &b;
//! let upstream = Family::gaussian().residual(&eta, &y) / 4.0; // one word: poisson
//! let [dw, db] = vjp(&[(&eta, &upstream)], [&w, &b])?.or_error()?;
//! let values = Reference::new().evaluate(&[&dw, &db])?;
//! assert_eq!(values[0].scalar()?, -1.2875);
//! assert_eq!(values[1].scalar()?, -1.175);
//! # Ok::<(), Error>(())
//! ```
//!
//! A family of your own needs its log-partition only, or its mean only; what is missing comes from differentiation.
//!
//! [`Family::fisher_product`] multiplies by the Fisher information of a network that ends in `η`: for natural
//! gradients, Gauss–Newton steps and curvature along a direction.

mod check;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_autograd::{Gradient, State, Wrt, jvp, vjp};
use cotangent_tensor::{Code, Error, Tensor, where_};

use crate::losses::{self, Reduction};

type Function = Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync>;

/// A natural exponential family with dispersion 1.
#[derive(Clone)]
pub struct Family {
    name: Arc<str>,
    form: Form,
}

#[derive(Clone)]
enum Form {
    Gaussian,
    Bernoulli,
    Categorical,
    Poisson,
    Own { log_partition: Option<Function>, mean: Option<Function> },
}

/// How a linear predictor becomes the mean of a family; each family comes with its canonical link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// `η = μ`.
    Identity,
    /// `η = log μ`.
    Log,
    /// `η = log(μ / (1 − μ))`.
    Logit,
    /// `μ = softmax(η)`.
    Softmax,
    /// `μ = A′(η)` of a family of one's own.
    Canonical,
}

impl Link {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Link::Identity => "identity",
            Link::Log => "log",
            Link::Logit => "logit",
            Link::Softmax => "softmax",
            Link::Canonical => "canonical",
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Family {
    fn built_in(name: &str, form: Form) -> Family {
        Family { name: name.into(), form }
    }
    /// Gaussian with variance 1: `A = η²/2`, mean `η`.
    pub fn gaussian() -> Family {
        Family::built_in("gaussian", Form::Gaussian)
    }
    /// Bernoulli: `A = softplus(η)`, mean `σ(η)`; `η` are logits, targets lie in `[0, 1]`.
    pub fn bernoulli() -> Family {
        Family::built_in("bernoulli", Form::Bernoulli)
    }
    /// Categorical: `A = logsumexp(η)` over the last axis, mean `softmax(η)`; `η` are logits `[…, classes]`, targets
    /// integer labels `[…]`.
    pub fn categorical() -> Family {
        Family::built_in("categorical", Form::Categorical)
    }
    /// Poisson: `A = mean = exp(η)`.
    pub fn poisson() -> Family {
        Family::built_in("poisson", Form::Poisson)
    }
    /// The built-in families.
    pub fn all() -> [Family; 4] {
        [Family::gaussian(), Family::bernoulli(), Family::categorical(), Family::poisson()]
    }
    /// The built-in family of this name. Error: [`Code::Family`], listing the names there are.
    #[track_caller]
    pub fn named(name: &str) -> Result<Family, Error> {
        let at = Location::caller();
        Family::all().into_iter().find(|family| family.name() == name).ok_or_else(|| {
            let names: Vec<String> = Family::all().iter().map(|f| format!("`{}`", f.name())).collect();
            Error::new(Code::Family, "family", format!("there is no family `{name}`"))
                .at(at)
                .hint(format!("the families are {}", names.join(", ")))
        })
    }
    /// A family of one's own from its log-partition, one natural parameter per element; mean and variance are its first
    /// and second derivative.
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Reference, Tensor};
    /// let gamma = Family::from_log_partition("gamma", |eta| -(-eta).log()); // η < 0
    /// let eta = Tensor::new([-0.5]);
    /// let values = Reference::new().evaluate(&[&gamma.mean(&eta), &gamma.variance(&eta)])?;
    /// assert_eq!((values[0].to_f64(), values[1].to_f64()), (vec![2.0], vec![4.0]));
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn from_log_partition(
        name: &str,
        log_partition: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static,
    ) -> Family {
        Family {
            name: name.into(),
            form: Form::Own { log_partition: Some(Arc::new(log_partition)), mean: None },
        }
    }
    /// A family of one's own from its mean, one natural parameter per element. It has no loss value; [`Family::residual`]
    /// needs none.
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Reference, Tensor};
    /// let family = Family::from_mean("secant", |eta| eta.tan());
    /// let residual = family.residual(&Tensor::new([0.0]), &Tensor::new([0.25]));
    /// assert_eq!(Reference::new().evaluate(&[&residual])?[0].to_f64(), [-0.25]);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn from_mean(name: &str, mean: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Family {
        Family { name: name.into(), form: Form::Own { log_partition: None, mean: Some(Arc::new(mean)) } }
    }
    /// With an explicit mean instead of the derivative of the log-partition (a stable form, say); [`Family::check`]
    /// compares the two. Does nothing to a built-in family.
    pub fn with_mean(mut self, function: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Family {
        if let Form::Own { mean, .. } = &mut self.form {
            *mean = Some(Arc::new(function));
        }
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The canonical link.
    pub fn link(&self) -> Link {
        match self.form {
            Form::Gaussian => Link::Identity,
            Form::Bernoulli => Link::Logit,
            Form::Categorical => Link::Softmax,
            Form::Poisson => Link::Log,
            Form::Own { .. } => Link::Canonical,
        }
    }
    /// Whether a row of natural parameters (rather than one) describes an observation, and targets are labels.
    pub fn is_categorical(&self) -> bool {
        matches!(self.form, Form::Categorical)
    }

    /// `A(η)`, per element; per row for the categorical family. Invalid with `E_FAMILY` if the family has only a mean.
    #[track_caller]
    pub fn log_partition(&self, eta: &Tensor) -> Tensor {
        match &self.form {
            Form::Gaussian => 0.5 * eta.pow(2),
            Form::Bernoulli => eta.softplus(),
            Form::Categorical => eta.logsumexp(-1),
            Form::Poisson => eta.exp(),
            Form::Own { log_partition: Some(function), .. } => function(eta),
            Form::Own { log_partition: None, .. } => self.lacks("log-partition", Location::caller()),
        }
    }
    /// `μ = A′(η)`, in a stable form.
    #[track_caller]
    pub fn mean(&self, eta: &Tensor) -> Tensor {
        match &self.form {
            Form::Gaussian => eta.clone(),
            Form::Bernoulli => eta.sigmoid(),
            Form::Categorical => eta.softmax(-1),
            Form::Poisson => eta.exp(),
            Form::Own { mean: Some(function), .. } => function(eta),
            Form::Own { log_partition: Some(function), .. } => derivative(&function(eta), eta),
            Form::Own { .. } => self.lacks("mean", Location::caller()),
        }
    }
    /// `V = A″(η)`; for the categorical family the diagonal `p_j·Σ p_k (k ≠ j)` of `diag(p) − p·pᵀ`: the sum of the others does
    /// not cancel where `1 − p_j` would.
    #[track_caller]
    pub fn variance(&self, eta: &Tensor) -> Tensor {
        match &self.form {
            Form::Gaussian => eta * 0.0 + 1.0,
            Form::Bernoulli => eta.sigmoid() * (-eta).sigmoid(),
            Form::Categorical => {
                let p = eta.softmax(-1);
                &p * others(&p)
            }
            Form::Poisson => eta.exp(),
            Form::Own { .. } => derivative(&self.mean(eta), eta),
        }
    }
    /// `V(η)·d`: how the mean changes as `η` moves along `d`, which has the shape of `eta`. Elementwise
    /// `A″(η)·d`; for the categorical family `(diag(p) − p·pᵀ)·d` row by row, in a form that keeps its digits
    /// where a class is certain.
    ///
    /// The middle factor of [`Family::fisher_product`], where weights of observations go:
    ///
    /// ```
    /// use cotangent::prelude::*;
    /// let (w, v, x) = (Tensor::new(0.0), Tensor::new(1.0), Tensor::new([1.0, 2.0, 3.0]));
    /// let weight = Tensor::new([1.0, 0.0, 2.0]);
    /// let (eta, family) = (&w * &x, Family::poisson());
    /// let moved = jvp(&[&eta], &[(&w, &v)])?.remove(0);
    /// let product = vjp(&[(&eta, &(weight * family.variance_product(&eta, &moved)))], &w)?.or_error()?;
    /// assert_eq!(Reference::new().evaluate(&[&product])?[0].scalar()?, 19.0); // 1·1² + 0·2² + 2·3²
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn variance_product(&self, eta: &Tensor, direction: &Tensor) -> Tensor {
        let operands = [("eta", eta), ("direction", direction)];
        // Not within the closure, which would not know the line of the caller.
        let product = match &self.form {
            Form::Gaussian => direction.clone(),
            Form::Categorical => {
                let p = eta.softmax(-1);
                &p * (direction * others(&p) - others(&(&p * direction)))
            }
            Form::Bernoulli | Form::Poisson | Form::Own { .. } => self.variance(eta) * direction,
        };
        losses::build(Location::caller(), "variance_product", &operands, Reduction::None, || product)
    }
    /// Product of the Fisher information `Jᵀ V(η) J` of `wrt` with a direction, where `J = ∂η/∂wrt` and `V` is
    /// the variance of the observations. It needs no targets. One tensor per `wrt`, of its shape; positive
    /// semidefinite.
    ///
    /// A sum over observations, as [`Family::residual`] is: the generalized Gauss–Newton matrix of
    /// [`Family::nll`] with `Reduction::Sum`, and the Hessian of that loss where `η` is linear in `wrt`. Divide
    /// by the number of observations for `Reduction::Mean`. Source: Martens, JMLR 21 (2020), §9.
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
        let gradients = vjp(&[(eta, &self.variance_product(eta, &moved))], targets)?;
        let is_unconnected = |gradient: &Gradient| matches!(gradient.state(), State::Unconnected);
        if let Some(first) = gradients.first().filter(|_| gradients.iter().all(is_unconnected)) {
            first.or_error()?;
        }
        let products: Vec<Tensor> = gradients.iter().map(Gradient::or_zero).collect();
        products.iter().try_for_each(|product| product.node().map(|_| ()))?;
        Ok(wrt.collect(products))
    }
    /// Negative log-likelihood `A(η) − y·η` without the terms that no parameter moves, per observation, then reduced. Its
    /// second derivative in `η` is the variance.
    ///
    /// Gaussian: completed to `½(η − y)²`. Bernoulli and categorical: the forms of [`losses::bce_with_logits`] and
    /// [`losses::cross_entropy`]. Mutual broadcasting is `E_BROADCAST`.
    #[track_caller]
    pub fn nll(&self, eta: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
        match &self.form {
            Form::Gaussian => reduction.apply(&(0.5 * losses::mse(eta, target, Reduction::None))),
            Form::Bernoulli => losses::bce_with_logits(eta, target, reduction),
            Form::Categorical => losses::cross_entropy(eta, target, reduction),
            Form::Poisson => losses::poisson_nll(eta, target, reduction),
            Form::Own { log_partition: None, .. } => self.lacks("log-partition", Location::caller()),
            Form::Own { log_partition: Some(function), .. } => {
                let operands = [("eta", eta), ("target", target)];
                losses::build(Location::caller(), "nll", &operands, reduction, || {
                    function(eta) - target * eta
                })
            }
        }
    }
    /// `mean − target`: the upstream cotangent of `η` that replaces a loss. A constant: its own derivative is zero, where
    /// the second derivative of [`Family::nll`] is the variance. Divide by the number of observations for a mean.
    #[track_caller]
    pub fn residual(&self, eta: &Tensor, target: &Tensor) -> Tensor {
        match &self.form {
            Form::Categorical => eta.softmax_residual(target).detach(),
            // (1 − y)·σ(η) − y·σ(−η) keeps its relative accuracy where σ(η) − y would cancel.
            Form::Bernoulli => self.elementwise(Location::caller(), eta, target, || {
                (1.0 - target) * eta.sigmoid() - target * (-eta).sigmoid()
            }),
            Form::Gaussian | Form::Poisson | Form::Own { .. } => {
                self.elementwise(Location::caller(), eta, target, || self.mean(eta) - target)
            }
        }
    }
    fn elementwise(
        &self,
        at: &'static Location<'static>,
        eta: &Tensor,
        target: &Tensor,
        residual: impl FnOnce() -> Tensor,
    ) -> Tensor {
        let operands = [("eta", eta), ("target", target)];
        losses::build(at, "residual", &operands, Reduction::None, || residual().detach())
    }
    /// Unit deviance `d(y, μ)`, per observation: twice the difference in log-likelihood to a perfect fit, 0 for `μ = y`.
    ///
    /// Gaussian `(y − μ)²`; Bernoulli `2(y·log(y/μ) + (1−y)·log((1−y)/(1−μ)))`; Poisson `2(y·log(y/μ) − (y − μ))`;
    /// categorical `−2·log μ[label]` with `mean` of shape `[…, classes]` and labels. Terms whose `y` (or `1 − y`) is 0 are 0,
    /// whatever the mean. [`Family::deviance_at`] starts from `η`, so it needs no digits that a mean near 1 has lost.
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
        let operands = [("target", target), ("mean", mean)];
        match &self.form {
            Form::Gaussian => {
                losses::build(at, "deviance", &operands, Reduction::None, || (target - mean).pow(2))
            }
            Form::Bernoulli => losses::build(at, "deviance", &operands, Reduction::None, || {
                let missing = 1.0 - target;
                let (hit, miss) = (target / mean, &missing / (1.0 - mean));
                let [hit, miss] = where_not_certain(target, [hit, miss]);
                2.0 * (target.xlogy(hit) + missing.xlogy(miss))
            }),
            Form::Poisson => losses::build(at, "deviance", &operands, Reduction::None, || {
                let ratio = where_(&target.ne(0.0), target / mean, 1.0);
                2.0 * (target.xlogy(ratio) - (target - mean))
            }),
            Form::Categorical => 2.0 * mean.log().cross_entropy(target),
            Form::Own { .. } => self.lacks("deviance", at),
        }
    }
    /// Unit deviance at the natural parameter: [`Family::deviance`] of `target` and the mean of `eta`.
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
        match &self.form {
            Form::Bernoulli => {
                let missing = 1.0 - target;
                // Of the perfect fit; 0 where the target is 0 or 1.
                let [hit, miss] = where_not_certain(target, [target.clone(), missing.clone()]);
                let saturated = target.xlogy(hit) + missing.xlogy(miss);
                2.0 * (losses::bce_with_logits(eta, target, Reduction::None) + saturated)
            }
            Form::Categorical => 2.0 * losses::cross_entropy(eta, target, Reduction::None),
            Form::Gaussian | Form::Poisson | Form::Own { .. } => self.deviance(target, &self.mean(eta)),
        }
    }
    fn lacks(&self, what: &str, at: &'static Location<'static>) -> Tensor {
        let message = format!("the family `{}` has no {what}", self.name);
        let error = Error::new(Code::Family, what, message);
        Tensor::invalid(
            error.at(at).hint("`residual` needs only the mean; `from_log_partition` gives a loss too"),
        )
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Family({})", self.name)
    }
}

/// What stands in the logarithm beside `y` and beside `1 − y`, and 1 where that factor is 0: 0·log(0/0) must not be NaN.
/// The conditions look at the target alone, which is exact; `1 − y` is not.
#[track_caller]
fn where_not_certain(target: &Tensor, [hit, miss]: [Tensor; 2]) -> [Tensor; 2] {
    [where_(&target.ne(0.0), hit, 1.0), where_(&target.ne(1.0), miss, 1.0)]
}

/// The sum of all other elements of the last axis: of those before and of those after, so that nothing is subtracted.
#[track_caller]
fn others(p: &Tensor) -> Tensor {
    let Ok(node) = p.node() else { return p.clone() };
    let Some(&length) = node.shape.last().filter(|&&length| length > 0) else { return p * 0.0 };
    let before = p.slice(-1, 0, length - 1, 1).cumulative_sum(-1, false).pad(-1, 1, 0);
    let after = p.slice(-1, 1, length, 1).cumulative_sum(-1, true).pad(-1, 0, 1);
    before + after
}

/// `dy/dx` of an elementwise function.
#[track_caller]
fn derivative(y: &Tensor, x: &Tensor) -> Tensor {
    let Ok(node) = y.node() else { return y.clone() };
    match vjp(&[(y, &Tensor::ones(node.shape))], x) {
        Ok(gradient) => gradient.or_zero(),
        Err(error) => Tensor::invalid(error),
    }
}

#[cfg(test)]
mod tests;
