//! Links: the scale on which predictors are linear.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{Code, Error, Evaluate, Real, Reference, Tensor, where_};

use super::{Function, derivative, numeric, unknown};

/// How a linear predictor `z` and the mean of a family belong together: `z = g(μ)`, `μ = g⁻¹(z)`.
///
/// ```
/// use cotangent::{Evaluate, Link, Reference, Tensor};
/// let z = Tensor::new([-40.0, 0.0]);
/// let values = Reference::new().evaluate(&[&Link::Cloglog.inverse(&z), &Link::Logit.slope(&(-20.0 * &z))])?;
/// assert!((values[0].to_f64()[0] / 4.248354255291589e-18 - 1.0).abs() < 1e-15);
/// assert_eq!(values[1].to_f64(), [0.0, 0.25]); // not NaN at 800
/// # Ok::<(), cotangent::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// The predictor is the natural parameter: `μ = A′(z)`.
    Canonical,
    /// `z = μ`.
    Identity,
    /// `z = log μ`.
    Log,
    /// `z = log(μ / (1 − μ))`.
    Logit,
    /// `z = Φ⁻¹(μ)`.
    Probit,
    /// `z = log(−log(1 − μ))`.
    Cloglog,
    /// `z = −log(−log μ)`.
    Loglog,
    /// `z = tan(π·(μ − ½))`.
    Cauchit,
    /// `z = 1/μ`.
    Inverse,
    /// `z = 1/μ²`.
    InverseSquared,
    /// `z = √μ`.
    Sqrt,
    /// `z = μᵖ` for `p ≠ 0`.
    Power(f64),
    /// `μ = log(1 + eᶻ)`.
    Softplus,
    /// `μ = softmax(z)`, row by row.
    Softmax,
    /// One of the user's own: [`Link::own`].
    Own(OwnLink),
}

/// A link of the user's own.
#[derive(Clone)]
pub struct OwnLink {
    name: Arc<str>,
    inverse: Function,
}

impl PartialEq for OwnLink {
    fn eq(&self, other: &OwnLink) -> bool {
        Arc::ptr_eq(&self.inverse, &other.inverse)
    }
}
impl fmt::Debug for OwnLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

impl Link {
    /// Those of the command line.
    pub const NAMED: &[Link] = &[
        Link::Identity,
        Link::Log,
        Link::Logit,
        Link::Probit,
        Link::Cloglog,
        Link::Loglog,
        Link::Cauchit,
        Link::Inverse,
        Link::InverseSquared,
        Link::Sqrt,
        Link::Softplus,
        Link::Softmax,
    ];
    /// A link of one's own from its inverse, an increasing or decreasing function of the predictor, element by element:
    /// any distribution function for probabilities, say.
    ///
    /// ```
    /// use cotangent::{Evaluate, Family, Link, Reference, Tensor};
    /// let laplace = Link::own("laplace", |z| 0.5 + 0.5 * z.sign() * -(-z.abs()).expm1());
    /// let family = Family::bernoulli().with_link(laplace)?;
    /// let mean = family.mean(&Tensor::new([0.0, 2f64.ln()]));
    /// assert_eq!(Reference::new().evaluate(&[&mean])?[0].to_f64(), [0.5, 0.75]);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn own(name: &str, inverse: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Link {
        Link::Own(OwnLink { name: name.into(), inverse: Arc::new(inverse) })
    }
    /// The link of this name. Error: [`Code::Family`], listing the names there are.
    #[track_caller]
    pub fn named(name: &str) -> Result<Link, Error> {
        let at = Location::caller();
        let names: Vec<&str> = Link::NAMED.iter().map(Link::name).collect();
        let found = Link::NAMED.iter().find(|link| link.name() == name).cloned();
        found.ok_or_else(|| unknown("link", "links", name, &names).at(at))
    }
    /// The name on the command line.
    pub fn name(&self) -> &str {
        match self {
            Link::Canonical => "canonical",
            Link::Identity => "identity",
            Link::Log => "log",
            Link::Logit => "logit",
            Link::Probit => "probit",
            Link::Cloglog => "cloglog",
            Link::Loglog => "loglog",
            Link::Cauchit => "cauchit",
            Link::Inverse => "inverse",
            Link::InverseSquared => "inverse_squared",
            Link::Sqrt => "sqrt",
            Link::Power(_) => "power",
            Link::Softplus => "softplus",
            Link::Softmax => "softmax",
            Link::Own(own) => &own.name,
        }
    }

    /// `g(μ)`, element by element. Invalid with `E_FAMILY` for the canonical link, which belongs to a family, for the softmax,
    /// and for a link of one's own, of which only the inverse is known.
    #[track_caller]
    pub fn apply(&self, mean: &Tensor) -> Tensor {
        match self {
            Link::Identity => mean.clone(),
            Link::Log => mean.log(),
            Link::Logit => mean.log() - (-mean).log1p(),
            Link::Probit => numeric::probit(mean),
            Link::Cloglog => (-((-mean).log1p())).log(),
            Link::Loglog => -((-mean.log()).log()),
            // From the nearer end, where the difference to ½ would cancel, or π·μ round to π.
            Link::Cauchit => {
                let lower = mean.le(0.5);
                let z = -1.0 / (std::f64::consts::PI * where_(&lower, mean, 1.0 - mean)).tan();
                where_(&lower, &z, -&z)
            }
            Link::Inverse => mean.recip(),
            Link::InverseSquared => mean.pow(2).recip(),
            Link::Sqrt => mean.sqrt(),
            Link::Power(power) => mean.pow(*power),
            // e^μ itself overflows long before its logarithm.
            Link::Softplus => mean + mean.log1mexp(),
            Link::Canonical | Link::Softmax | Link::Own(_) => self.lacks("function of the mean alone"),
        }
    }
    /// The mean `g⁻¹(z)`, element by element, accurate in both tails. Outside the range of `g` it is what the formula gives.
    #[track_caller]
    pub fn inverse(&self, z: &Tensor) -> Tensor {
        match self {
            Link::Identity => z.clone(),
            Link::Log => z.exp(),
            Link::Logit => z.sigmoid(),
            Link::Probit => z.log_ndtr().exp(),
            Link::Cloglog => -(-z.exp()).expm1(),
            Link::Loglog => (-(-z).exp()).exp(),
            Link::Cauchit => Tensor::new(1.0).atan2(-z) * std::f64::consts::FRAC_1_PI,
            Link::Inverse => z.recip(),
            Link::InverseSquared => z.rsqrt(),
            Link::Sqrt => z.pow(2),
            Link::Power(power) => z.pow(1.0 / power),
            Link::Softplus => z.softplus(),
            Link::Softmax => z.softmax(-1),
            Link::Own(own) => (own.inverse)(z),
            Link::Canonical => self.lacks("mean of its own"),
        }
    }
    /// The slope `(g⁻¹)′(z)`, element by element, in a form that neither overflows nor turns into NaN in the tails.
    #[track_caller]
    pub fn slope(&self, z: &Tensor) -> Tensor {
        match self {
            Link::Identity => Real::constant(z, 1.0),
            Link::Log => z.exp(),
            Link::Logit => z.sigmoid() * (-z).sigmoid(),
            Link::Probit | Link::Cloglog | Link::Loglog => self.log_slope(z).exp(),
            Link::Cauchit => std::f64::consts::FRAC_1_PI / (1.0 + z.pow(2)),
            Link::Inverse => -(z.pow(2).recip()),
            Link::InverseSquared => -0.5 * z.rsqrt() / z,
            Link::Sqrt => 2.0 * z,
            Link::Power(power) => z.pow(1.0 / power - 1.0) / *power,
            Link::Softplus => z.sigmoid(),
            Link::Softmax | Link::Own(_) => derivative(&self.inverse(z), z),
            Link::Canonical => self.lacks("slope of its own"),
        }
    }
    /// `log |(g⁻¹)′(z)|`.
    #[track_caller]
    pub(super) fn log_slope(&self, z: &Tensor) -> Tensor {
        match self {
            Link::Log => z.clone(),
            Link::Logit => z.log_sigmoid() + (-z).log_sigmoid(),
            Link::Probit => -0.5 * z.pow(2) - 0.5 * std::f64::consts::TAU.ln(),
            Link::Cloglog => z - z.exp(),
            Link::Loglog => -z - (-z).exp(),
            _ => self.slope(z).abs().log(),
        }
    }
    /// `log μ`.
    #[track_caller]
    pub(super) fn log_mean(&self, z: &Tensor) -> Tensor {
        match self {
            Link::Log => z.clone(),
            Link::Logit => z.log_sigmoid(),
            Link::Probit => z.log_ndtr(),
            Link::Cloglog => numeric::log1mexp_exp(z),
            Link::Loglog => -((-z).exp()),
            // From the nearer end.
            Link::Cauchit => where_(&z.gt(0.0), (-self.inverse(&-z)).log1p(), self.inverse(z).log()),
            Link::Inverse => -z.log(),
            Link::InverseSquared => -0.5 * z.log(),
            Link::Sqrt => 2.0 * z.abs().log(),
            Link::Power(power) => z.log() / *power,
            // eᶻ itself is lost long before its logarithm.
            Link::Softplus => {
                let far = z.lt(-15.0);
                let (left, right) = (far.select(z, -15.0), far.select(0.0, z));
                where_(&far, z - 0.5 * left.exp(), right.softplus().log())
            }
            _ => self.inverse(z).log(),
        }
    }
    /// `1/μ`.
    #[track_caller]
    pub(super) fn reciprocal(&self, z: &Tensor) -> Tensor {
        match self {
            Link::Log => (-z).exp(),
            Link::Inverse => z.clone(),
            Link::InverseSquared => z.sqrt(),
            Link::Sqrt => z.pow(2).recip(),
            Link::Power(power) => z.pow(-1.0 / power),
            _ => self.inverse(z).recip(),
        }
    }
    /// `log(1 − μ)`.
    #[track_caller]
    pub(super) fn log_complement(&self, z: &Tensor) -> Tensor {
        match self {
            Link::Log => (-z).log1mexp(),
            Link::Logit => (-z).log_sigmoid(),
            Link::Probit => (-z).log_ndtr(),
            Link::Cloglog => -z.exp(),
            Link::Loglog => numeric::log1mexp_exp(&-z),
            Link::Cauchit => self.log_mean(&-z),
            _ => (-self.inverse(z)).log1p(),
        }
    }
    /// The predictor of a mean: from the formula, or by bisection for a link of one's own.
    pub(super) fn at(&self, mean: f64) -> Result<f64, Error> {
        if matches!(self, Link::Own(_)) {
            return bisect(mean, |z| self.inverse(z));
        }
        Reference::new().evaluate(&[&self.apply(&Tensor::new(mean))])?[0].scalar()
    }
    #[track_caller]
    fn lacks(&self, what: &str) -> Tensor {
        let message = format!("the link `{self}` has no {what}");
        Tensor::invalid(Error::new(Code::Family, "link", message).at(Location::caller()))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Power(power) => write!(f, "power({power})"),
            _ => f.write_str(self.name()),
        }
    }
}

/// Where a monotone function takes a value, on the reference; infinite if it does nowhere.
pub(super) fn bisect(value: f64, function: impl Fn(&Tensor) -> Tensor) -> Result<f64, Error> {
    let of = |z: f64| Reference::new().evaluate(&[&function(&Tensor::new(z))])?[0].scalar();
    // Some functions have a value above zero only; nothing is above what they have not.
    let is_whole = !of(-1.0)?.is_nan();
    let is_rising = of(1.0)? >= of(if is_whole { -1.0 } else { 0.5 })?;
    let is_above = |z: f64| {
        let found = of(z)?;
        Ok::<bool, Error>(!found.is_nan() && (found >= value) == is_rising)
    };
    let (mut low, mut high) = (if is_whole { -1.0 } else { 0.0 }, 1.0);
    while is_whole && is_above(low)? {
        low *= 2.0;
        if low < -1e9 {
            return Ok(f64::NEG_INFINITY);
        }
    }
    while !is_above(high)? {
        high *= 2.0;
        if high > 1e9 {
            return Ok(f64::INFINITY);
        }
    }
    // Until there is no number between the two.
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return Ok(middle);
        }
        if is_above(middle)? { high = middle } else { low = middle }
    }
}
