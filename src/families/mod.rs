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
mod fenchel_young;
mod information;
mod likelihood;
mod link;
mod numeric;
mod predicted;
mod rows;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_autograd::vjp;
use cotangent_tensor::{Array, Code, Detail, Error, Evaluate, Reference, Tensor, edit_distance};

use information::others;
pub use link::{Link, OwnLink};
use predicted::Predicted;
use rows::{Means, Observation, Row};

type At = &'static Location<'static>;
type Function = Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync>;

/// A natural exponential family, or exponential dispersion model, with a link.
///
/// Below, `eta` is the predictor: the natural parameter `η`, or, after [`Family::with_link`], the linear predictor
/// `z = g(μ)`.
#[derive(Clone)]
pub struct Family {
    name: Arc<str>,
    form: Form,
    /// Never the canonical one of a built-in family by another name.
    link: Link,
    dispersion: f64,
}

#[derive(Clone)]
enum Form {
    /// With its parameter.
    BuiltIn(&'static Row, f64),
    /// `rows`: an observation has a row of natural parameters.
    Own { log_partition: Option<Function>, mean: Option<Function>, rows: bool },
}

macro_rules! built_in {
    ($($(#[$doc:meta])* $name:ident $row:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> Family {
            Family::built_in(&rows::$row, 1.0)
        }
    )*};
}

impl Family {
    fn built_in(row: &'static Row, parameter: f64) -> Family {
        Family {
            name: row.name.into(),
            form: Form::BuiltIn(row, parameter),
            link: Link::Canonical,
            dispersion: 1.0,
        }
    }
    fn with_parameter(at: At, row: &'static Row, value: f64) -> Result<Family, Error> {
        match row.parameter {
            Some(parameter) if !((parameter.holds)(value) && value.is_finite()) => {
                let rows::Parameter { name, domain, .. } = parameter;
                let message = format!("{name} = {value} is not {domain}");
                let error = Error::new(Code::Hyperparameter, row.name, message).at(at);
                Err(error.with(name, Detail::Number(value)))
            }
            _ => Ok(Family::built_in(row, value)),
        }
    }
    built_in! {
        /// Gaussian with variance 1: `A = η²/2`, mean `η`.
        gaussian GAUSSIAN;
        /// Bernoulli: `A = softplus(η)`, mean `σ(η)`; `η` are logits, targets lie in `[0, 1]`.
        bernoulli BERNOULLI;
        /// Shares of successes among trials: [`Family::bernoulli`] with the number of trials as weight.
        binomial BINOMIAL;
        /// Categorical: `A = logsumexp(η)` over the last axis, mean `softmax(η)`; `η` are logits `[…, classes]`, targets
        /// integer labels `[…]`.
        categorical CATEGORICAL;
        /// Counts per class, of the shape of the logits `[…, classes]`: `A = n·logsumexp(η)` for `n` observations in a row.
        /// [`Family::mean`] is that of one observation.
        multinomial MULTINOMIAL;
        /// Poisson: `A = mean = exp(η)`.
        poisson POISSON;
        /// Failures before the first success: the negative binomial family with `α = 1`.
        geometric GEOMETRIC;
        /// Exponential: the gamma family with dispersion 1.
        exponential EXPONENTIAL;
        /// Gamma: `A = −log(−η)` for `η < 0`, mean `−1/η`, variance `φ·μ²`; the shape is `1/φ` ([`Family::with_dispersion`]).
        gamma GAMMA;
        /// Inverse Gaussian: `A = −√(−2η)` for `η < 0`, mean `1/√(−2η)`, variance `φ·μ³`.
        inverse_gaussian INVERSE_GAUSSIAN;
        /// Generalized hyperbolic secant: `A = −log cos η` for `|η| < π/2`, mean `tan η`, variance `1 + μ²`.
        hyperbolic_secant HYPERBOLIC_SECANT;
        /// Numbers between 0 and 1 with the log-partition `log((e^η − 1)/η)`.
        continuous_bernoulli CONTINUOUS_BERNOULLI;
        /// Counts from 1: with `λ = e^η`, `A = log(e^λ − 1)`.
        zero_truncated_poisson ZERO_TRUNCATED_POISSON;
        /// Dirichlet, and with two columns beta: rows of shares `y` that sum to 1, whose logarithms are what is averaged. `η > 0` are the
        /// concentrations, `A = Σ log Γ(η_j) − log Γ(Σ η_j)`, and [`Family::mean`] is that of `log y`.
        dirichlet DIRICHLET;
        /// Directions in the plane: rows of two numbers, targets `(cos θ, sin θ)`. `A = log I₀(‖η‖)`, and the mean points along `η`
        /// with the length `I₁/I₀`.
        von_mises VON_MISES;
        /// No likelihood but a Fenchel–Young loss: rows of shares, and a mean with exact zeros, the projection of `η` onto the simplex. The
        /// regularizer is `½·Σ p²`; [`Family::nll`] is 0 where the mean is the target. `K²` terms for a row of `K`.
        sparsemax SPARSEMAX;
        /// As [`Family::sparsemax`] with the regularizer `⁴⁄₃·Σ p^1.5`: between softmax and sparsemax.
        entmax15 ENTMAX15;
    }
    /// Negative binomial with variance `μ + α·μ²`: `A = −log(1 − e^η)/α` for `η < 0`.
    ///
    /// Error: `E_HYPERPARAMETER` unless `α > 0`.
    #[track_caller]
    pub fn negative_binomial(alpha: f64) -> Result<Family, Error> {
        Family::with_parameter(Location::caller(), &rows::NEGATIVE_BINOMIAL, alpha)
    }
    /// Tweedie with variance `φ·μᵖ` for `1 < p < 2`: a sum of a Poisson number of gamma variables, zero with positive probability. Its
    /// density is a series, so [`Family::log_likelihood`] has no value; training needs none, and [`glm::assess`](crate::glm::assess) sums it.
    ///
    /// Error: `E_HYPERPARAMETER` for other powers.
    #[track_caller]
    pub fn tweedie(power: f64) -> Result<Family, Error> {
        Family::with_parameter(Location::caller(), &rows::TWEEDIE, power)
    }
    /// The built-in families, those with a parameter at one value of it.
    pub fn all() -> Vec<Family> {
        let of = |row: &&'static Row| Family::built_in(row, row.parameter.map_or(1.0, |p| p.sample));
        rows::ALL.iter().map(of).collect()
    }
    /// The built-in family of this name. Error: [`Code::Family`], listing the names there are.
    #[track_caller]
    pub fn named(name: &str) -> Result<Family, Error> {
        let at = Location::caller();
        let found = Family::all().into_iter().find(|family| family.name() == name);
        let names: Vec<&str> = rows::ALL.iter().map(|row| row.name).collect();
        found.ok_or_else(|| unknown("family", "families", name, &names).at(at))
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
        Family::own(name, Some(Arc::new(log_partition)), None)
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
        Family::own(name, None, Some(Arc::new(mean)))
    }
    /// The Fenchel–Young loss of a convex function of rows, given by its conjugate `Ω*`: one number per row of the last axis. The mean is
    /// `∇Ω*(η)`, [`Family::nll`] is `Ω*(η) − ⟨y, η⟩`, targets are rows of the shape of `η`.
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Reference, Tensor};
    /// let softmax = Family::from_conjugate("softmax", |eta| eta.logsumexp(-1));
    /// let residual = softmax.residual(&Tensor::new([[1.0, 1.0]]), &Tensor::new([[0.25, 0.75]]));
    /// assert_eq!(Reference::new().evaluate(&[&residual])?[0].to_f64(), [0.25, -0.25]);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn from_conjugate(
        name: &str,
        conjugate: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static,
    ) -> Family {
        let mut family = Family::own(name, Some(Arc::new(conjugate)), None);
        if let Form::Own { rows, .. } = &mut family.form {
            *rows = true;
        }
        family
    }
    fn own(name: &str, log_partition: Option<Function>, mean: Option<Function>) -> Family {
        let form = Form::Own { log_partition, mean, rows: false };
        Family { name: name.into(), form, link: Link::Canonical, dispersion: 1.0 }
    }
    /// With an explicit mean instead of the derivative of the log-partition (a stable form, say); [`Family::check`]
    /// compares the two. Does nothing to a built-in family.
    pub fn with_mean(mut self, function: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Family {
        if let Form::Own { mean, .. } = &mut self.form {
            *mean = Some(Arc::new(function));
        }
        self
    }

    /// With a predictor `z = g(μ)` in place of the natural parameter: what is called `eta` below is `z` then, and residual, loss,
    /// deviance and information are those in `z`, in forms that are stable for the pair. Switching the link changes one word, as
    /// switching the family does.
    ///
    /// Shares (Bernoulli, binomial) take logit, probit, cloglog, loglog, cauchit, identity and log; means that are any or any positive number
    /// take identity, log, inverse, inverse squared, roots, powers and softplus; links of one's own go with all of these.
    /// Where a predictor has no mean within the family, as −1 for a count by the identity, the loss is NaN.
    ///
    /// Error: `E_FAMILY` for a pair whose means cannot be those of the family ([`Family::with_any_link`] takes it), and for a
    /// family that has none but its canonical link. `E_HYPERPARAMETER` for `Power(0)`.
    ///
    /// ```
    /// use cotangent::{Code, Evaluate, Family, Link, Reference, Tensor};
    /// let gamma = Family::gamma().with_link(Link::Log)?;
    /// let residual = gamma.residual(&Tensor::new([0.0]), &Tensor::new([3.0])); // 1 − y·e⁻ᶻ
    /// assert_eq!(Reference::new().evaluate(&[&residual])?[0].to_f64(), [-2.0]);
    /// assert_eq!(Family::poisson().with_link(Link::Probit).unwrap_err().code(), Code::Family);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    #[track_caller]
    pub fn with_link(self, link: Link) -> Result<Family, Error> {
        let shares =
            matches!(link, Link::Logit | Link::Probit | Link::Cloglog | Link::Loglog | Link::Cauchit);
        let holds = match (self.means(), &link) {
            (_, Link::Canonical) => true,
            (_, Link::Softmax) | (Means::Canonical, _) => false,
            (_, Link::Identity | Link::Log | Link::Own(_)) => true,
            (Means::Share, _) => shares,
            (Means::Real | Means::Positive, _) => !shares,
        };
        if !holds && self.link() != link {
            let links: Vec<String> = self.links().iter().map(|link| format!("`{link}`")).collect();
            let message = format!("the link `{link}` does not go with {}", self.name);
            return Err(Error::new(Code::Family, "with_link", message)
                .at(Location::caller())
                .hint(format!("its links are {}", links.join(", "))));
        }
        self.with_any_link(link)
    }
    /// [`Family::with_link`] without the question whether the means are those of the family: a logit for counts that never exceed one,
    /// say. Errors: those about what cannot be computed at all.
    #[track_caller]
    pub fn with_any_link(mut self, link: Link) -> Result<Family, Error> {
        let at = Location::caller();
        let refuse = |code: Code, message: String| Err(Error::new(code, "with_link", message).at(at));
        if let Link::Power(power) = link
            && (power == 0.0 || !power.is_finite())
        {
            return refuse(
                Code::Hyperparameter,
                format!("power = {power} is not a finite number other than 0"),
            );
        }
        let canonical = Family { link: Link::Canonical, ..self.clone() }.link();
        if link == canonical {
            self.link = Link::Canonical;
            return Ok(self);
        }
        if self.means() == Means::Canonical || link == Link::Softmax {
            return refuse(Code::Family, format!("{} has no link but the canonical one", self.name));
        }
        self.link = link;
        Ok(self)
    }
    /// With dispersion `φ`: losses and residuals are divided by it, variances multiplied. The gamma family has shape `1/φ`, the inverse
    /// Gaussian one `λ = 1/φ`, the Gaussian one variance `φ`.
    ///
    /// Error: `E_HYPERPARAMETER` unless `φ` is finite and positive.
    #[track_caller]
    pub fn with_dispersion(mut self, dispersion: f64) -> Result<Family, Error> {
        if !(dispersion > 0.0 && dispersion.is_finite()) {
            let message = format!("dispersion = {dispersion} is not a finite positive number");
            return Err(Error::new(Code::Hyperparameter, self.name.to_string(), message)
                .at(Location::caller())
                .with("dispersion", Detail::Number(dispersion)));
        }
        self.dispersion = dispersion;
        Ok(self)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The link; of the canonical one its common name where it has one.
    pub fn link(&self) -> Link {
        match (&self.link, &self.form) {
            (Link::Canonical, Form::BuiltIn(row, _)) => row.link.clone(),
            (link, _) => link.clone(),
        }
    }
    /// The named links that [`Family::with_link`] takes.
    pub fn links(&self) -> Vec<Link> {
        let shares = [Link::Logit, Link::Probit, Link::Cloglog, Link::Loglog, Link::Cauchit];
        let others = [Link::Inverse, Link::InverseSquared, Link::Sqrt, Link::Softplus];
        let both = [Link::Identity, Link::Log];
        match self.means() {
            Means::Share => [&shares[..], &both].concat(),
            Means::Real | Means::Positive => [&both[..], &others].concat(),
            Means::Canonical => vec![self.link()],
        }
    }
    /// With the link of regressions where none was chosen: inverse for gamma, inverse squared for inverse Gaussian, log for negative
    /// binomial and Tweedie, else the canonical one.
    #[must_use]
    pub fn for_regression(&self) -> Family {
        let mut family = self.clone();
        if let (Link::Canonical, Form::BuiltIn(row, _)) = (&self.link, &self.form)
            && row.usual != row.link
        {
            family.link = row.usual.clone();
        }
        family
    }
    /// The dispersion `φ`: 1, or that of [`Family::with_dispersion`].
    pub fn dispersion(&self) -> f64 {
        self.dispersion
    }
    /// Whether a row of natural parameters (rather than one) describes an observation, and targets are labels.
    pub fn is_categorical(&self) -> bool {
        self.observation() == Observation::Label
    }
    /// Whether an observation has a row of natural parameters: the last axis of `eta`.
    pub fn has_rows(&self) -> bool {
        self.observation() != Observation::Number
    }
    /// What a target is, and whether this number is one.
    pub(crate) fn target(&self) -> (&'static str, fn(f64) -> bool) {
        match self.form {
            Form::BuiltIn(row, _) => row.target,
            Form::Own { .. } => ("a number", |_| true),
        }
    }
    /// Whether the dispersion of a regression is estimated.
    pub(crate) fn is_dispersed(&self) -> bool {
        matches!(self.form, Form::BuiltIn(row, _) if row.dispersed)
    }
    /// Whether residuals of a regression are those of a Gaussian on the scale of the mean itself.
    pub(crate) fn is_least_squares(&self) -> bool {
        self.is_gaussian() && self.link == Link::Canonical
    }
    /// Whether an observation says which of two or more things happened, so that they may be separable.
    pub(crate) fn is_choice(&self) -> bool {
        self.is_categorical() || self.means() == Means::Share
    }
    /// Whether means are positive numbers of any size.
    pub(crate) fn has_positive_means(&self) -> bool {
        self.means() == Means::Positive
    }
    /// Whether weights are numbers of trials.
    pub(crate) fn counts_trials(&self) -> bool {
        self.is(&rows::BINOMIAL)
    }
    pub(crate) fn tweedie_power(&self) -> Option<f64> {
        match self.form {
            Form::BuiltIn(_, power) if self.is(&rows::TWEEDIE) => Some(power),
            Form::BuiltIn(..) | Form::Own { .. } => None,
        }
    }
    pub(crate) fn is_gaussian(&self) -> bool {
        self.is(&rows::GAUSSIAN)
    }
    /// Whether there is a deviance in closed form.
    pub(crate) fn has_deviance(&self) -> bool {
        self.is_categorical() || matches!(self.form, Form::BuiltIn(row, _) if row.deviance.is_some())
    }
    /// Whether it is one of the user's own.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.form, Form::Own { .. })
    }
    /// The predictor at which the mean is this one; infinite or NaN where there is none.
    pub(crate) fn predictor_of(&self, mean: f64) -> Result<f64, Error> {
        match self.link() {
            Link::Canonical => link::bisect(mean, |eta| self.mean(eta)),
            link => link.at(mean),
        }
    }
    fn is(&self, row: &Row) -> bool {
        matches!(self.form, Form::BuiltIn(own, _) if std::ptr::eq(own, row))
    }
    /// Predictors and targets within the domain of a built-in family, for checks and examples; rows of them where an observation
    /// has a row. None for a family of one's own, and by a link of one's own.
    ///
    /// ```
    /// use cotangent::{Family, Reduction, Reference, Evaluate, Tensor};
    /// for family in Family::all() {
    ///     let [eta, target] = family.samples().unwrap().map(Tensor::new);
    ///     let loss = family.nll(&eta, &target, Reduction::Mean);
    ///     assert!(Reference::new().evaluate(&[&loss])?[0].scalar()?.is_finite());
    /// }
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn samples(&self) -> Option<[Array; 2]> {
        let Form::BuiltIn(row, parameter) = self.form else { return None };
        let (eta, target) = row.samples;
        let numbers = |values: &[f64]| match row.observation {
            Observation::Number => values.into(),
            Observation::Label | Observation::Row => vec![values.to_vec()].into(),
        };
        let target = if row.observation == Observation::Label {
            #[expect(clippy::cast_possible_truncation, reason = "labels of the table")]
            let labels: Vec<i32> = target.iter().map(|&label| label as i32).collect();
            labels.into()
        } else {
            numbers(target)
        };
        if self.link == Link::Canonical {
            return Some([numbers(eta), target]);
        }
        // The same means by the other link, where it takes them.
        let means = (row.mean)(&Tensor::new(eta), parameter);
        let means = if row.means == Means::Real { means.abs() + 0.1 } else { means };
        let predictors = Reference::new().evaluate(&[&self.link.apply(&means)]).ok()?;
        predictors.into_iter().next().map(|predictors| [predictors, target])
    }
    fn observation(&self) -> Observation {
        match self.form {
            Form::BuiltIn(row, _) => row.observation,
            Form::Own { rows: true, .. } => Observation::Row,
            Form::Own { .. } => Observation::Number,
        }
    }
    fn means(&self) -> Means {
        match self.form {
            Form::BuiltIn(row, _) => row.means,
            Form::Own { .. } => Means::Canonical,
        }
    }
    /// The link that is not the canonical one, if there is one, with the row.
    fn linked(&self) -> Option<(&'static Row, f64, &Link)> {
        match (&self.form, &self.link) {
            (_, Link::Canonical) | (Form::Own { .. }, _) => None,
            (Form::BuiltIn(row, parameter), link) => Some((*row, *parameter, link)),
        }
    }

    /// `A(η)`, per element; per row where an observation is a row. Invalid with `E_FAMILY` if the family has only a mean, or
    /// a link that is not the canonical one.
    #[track_caller]
    pub fn log_partition(&self, eta: &Tensor) -> Tensor {
        match &self.form {
            _ if self.link != Link::Canonical => {
                self.lacks("log-partition of a predictor by another link", Location::caller())
            }
            Form::BuiltIn(row, parameter) => (row.log_partition)(eta, *parameter),
            Form::Own { log_partition: Some(function), .. } => function(eta),
            Form::Own { log_partition: None, .. } => self.lacks("log-partition", Location::caller()),
        }
    }
    /// `μ = A′(η)`, or `g⁻¹(z)`, in a stable form.
    #[track_caller]
    pub fn mean(&self, eta: &Tensor) -> Tensor {
        match &self.form {
            _ if self.link != Link::Canonical => self.link.inverse(eta),
            Form::BuiltIn(row, parameter) => (row.mean)(eta, *parameter),
            Form::Own { mean: Some(function), .. } => function(eta),
            Form::Own { log_partition: Some(function), .. } => derivative(&function(eta), eta),
            Form::Own { .. } => self.lacks("mean", Location::caller()),
        }
    }
    /// Variance of an observation, `φ·A″(η)`; the diagonal of its matrix where an observation is a row, for the categorical family `p_j·Σ p_k`
    /// (`k ≠ j`): the sum of the others does not cancel where `1 − p_j` would.
    #[track_caller]
    pub fn variance(&self, eta: &Tensor) -> Tensor {
        let unit = match &self.form {
            Form::BuiltIn(row, parameter) if self.link != Link::Canonical => {
                (row.deviation)(&self.link.inverse(eta), *parameter).pow(2)
            }
            Form::BuiltIn(row, parameter) => (row.variance)(eta, *parameter),
            Form::Own { .. } => derivative(&self.mean(eta), eta),
        };
        self.scaled(unit, self.dispersion)
    }
    fn scaled(&self, value: Tensor, factor: f64) -> Tensor {
        if self.dispersion == 1.0 { value } else { value * factor }
    }
    fn lacks(&self, what: &str, at: At) -> Tensor {
        let message = format!("the family `{}` has no {what}", self.name);
        let error = Error::new(Code::Family, what, message);
        Tensor::invalid(
            error.at(at).hint("`residual` needs only the mean; `from_log_partition` gives a loss too"),
        )
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Family({}, {})", self.name, self.link())
    }
}

/// Error: there is no such name, these are there, and this is the nearest.
fn unknown(what: &str, plural: &str, name: &str, names: &[&str]) -> Error {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("there is no {what} `{name}`; the {plural} are {}", quoted.join(", "));
    let nearest = names.iter().min_by_key(|other| edit_distance(name, other)).copied().unwrap_or_default();
    Error::new(Code::Family, what, message).hint(format!("did you mean `{nearest}`?"))
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
