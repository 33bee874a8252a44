//! The built-in families: one row each.
//!
//! Formulas and their sources: McCullagh & Nelder, Generalized Linear Models, 2nd ed. (1989), ch. 2; Jørgensen, The Theory
//! of Dispersion Models (1997), for Tweedie; Morris, Annals of Statistics 10 (1982), for the hyperbolic secant; Loaiza-Ganem
//! & Cunningham, NeurIPS (2019), for the continuous Bernoulli.

use std::f64::consts::{PI, TAU};

use cotangent_tensor::{DType, Real, Tensor, where_};

use super::fenchel_young::Tsallis;
use super::numeric::{
    continuous_log_partition, continuous_mean, continuous_variance, count_divergence, log_ratio, log_rising,
    overdispersed_divergence, polynomial, power_divergence, ratio_divergence,
};
use super::{Link, Predicted, others};

/// What an observation of a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// A number, with one natural parameter.
    Number,
    /// A label, with a row of natural parameters.
    Label,
    /// A row of numbers, with a row of natural parameters of the same length.
    Row,
}

/// What means a family can have, which decides about links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    Real,
    Positive,
    /// Between 0 and 1.
    Share,
    /// Those of the canonical link only.
    Canonical,
}

/// The number that a family has besides its natural parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) domain: &'static str,
    pub(super) holds: fn(f64) -> bool,
    /// Of [`Family::all`](super::Family::all).
    pub(super) sample: f64,
}

/// A family with dispersion 1. The last argument of every function is its parameter.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) parameter: Option<Parameter>,
    pub(super) observation: Observation,
    pub(super) means: Means,
    /// The name of the canonical link.
    pub(super) link: Link,
    /// The link of regressions.
    pub(super) usual: Link,
    /// What a target is, and whether a number is one.
    pub(super) target: (&'static str, fn(f64) -> bool),
    /// Whether regressions estimate a dispersion.
    pub(super) dispersed: bool,
    /// Natural parameters within the domain, and targets.
    pub(super) samples: (&'static [f64], &'static [f64]),
    pub(super) log_partition: fn(&Tensor, f64) -> Tensor,
    pub(super) mean: fn(&Tensor, f64) -> Tensor,
    /// Of the natural parameter; the diagonal where an observation is a row.
    pub(super) variance: fn(&Tensor, f64) -> Tensor,
    /// Negative log-likelihood of natural parameter and target where `A − y·η` is not the best form.
    pub(super) nll: Option<fn(&Tensor, &Tensor, f64) -> Tensor>,
    /// Derivative of it where `mean − target` is not that, or not its best form.
    pub(super) residual: Option<fn(&Tensor, &Tensor, f64) -> Tensor>,
    /// The same of a mean by any link.
    pub(super) nll_at: fn(&Predicted<'_>, &Tensor, f64) -> Tensor,
    /// `√V(μ)`.
    pub(super) deviation: fn(&Tensor, f64) -> Tensor,
    /// Unit deviance of target and mean.
    pub(super) deviance: Option<fn(&Tensor, &Tensor, f64) -> Tensor>,
    /// What the density adds to the negative log-likelihood: of target, parameter and dispersion.
    pub(super) constant: Option<fn(&Tensor, f64, f64) -> Tensor>,
}

fn none(_: &Predicted<'_>, y: &Tensor, _: f64) -> Tensor {
    y.clone()
}
fn unused(mean: &Tensor, _: f64) -> Tensor {
    mean.clone()
}
fn any(_: f64) -> bool {
    true
}
fn positive(y: f64) -> bool {
    y > 0.0
}
fn from_zero(y: f64) -> bool {
    y >= 0.0
}
fn share(y: f64) -> bool {
    (0.0..=1.0).contains(&y)
}
fn label(y: f64) -> bool {
    (0.0..1e6).contains(&y) && y.fract() == 0.0
}

/// What is common to most rows.
const NUMBER: Row = Row {
    name: "",
    parameter: None,
    observation: Observation::Number,
    means: Means::Canonical,
    link: Link::Canonical,
    usual: Link::Canonical,
    target: ("a number", any),
    dispersed: false,
    samples: (&[], &[]),
    log_partition: unused,
    mean: unused,
    variance: unused,
    nll: None,
    residual: None,
    nll_at: none,
    deviation: unused,
    deviance: None,
    constant: None,
};

pub(super) static GAUSSIAN: Row = Row {
    name: "gaussian",
    means: Means::Real,
    link: Link::Identity,
    usual: Link::Identity,
    dispersed: true,
    samples: (&[-3.0, -0.5, 0.0, 0.3, 2.0], &[-1.0, 0.0, 0.5, 2.0, 1.5]),
    log_partition: |eta, _| 0.5 * eta.pow(2),
    mean: |eta, _| eta.clone(),
    variance: |eta, _| Real::constant(eta, 1.0),
    nll: Some(|eta, y, _| 0.5 * (eta - y).pow(2)),
    nll_at: |at, y, _| 0.5 * (at.mean() - y).pow(2),
    deviation: |mean, _| Real::constant(mean, 1.0),
    deviance: Some(|y, mean, _| (y - mean).pow(2)),
    constant: Some(|y, _, phi| Real::constant(y, 0.5 * (TAU * phi).ln())),
    ..NUMBER
};

const SHARES: Row = Row {
    means: Means::Share,
    link: Link::Logit,
    usual: Link::Logit,
    target: ("between 0 and 1", share),
    samples: (&[-3.0, -0.5, 0.0, 0.3, 2.0], &[0.0, 1.0, 0.25, 1.0, 0.0]),
    log_partition: |eta, _| eta.softplus(),
    mean: |eta, _| eta.sigmoid(),
    variance: |eta, _| eta.sigmoid() * (-eta).sigmoid(),
    nll: Some(|eta, y, _| y * (-eta).softplus() + (1.0 - y) * eta.softplus()),
    // Both terms keep their relative accuracy where σ(η) − y would cancel.
    residual: Some(|eta, y, _| (1.0 - y) * eta.sigmoid() - y * (-eta).sigmoid()),
    // Where a target is 0 or 1, the other logarithm may be infinite.
    nll_at: |at, y, _| {
        let (hit, miss) = (y * at.log_mean(), (1.0 - y) * at.log_complement());
        -(where_(&y.ne(0.0), hit, 0.0) + where_(&y.ne(1.0), miss, 0.0))
    },
    deviation: |mean, _| (mean * (1.0 - mean)).sqrt(),
    deviance: Some(|y, mean, _| {
        // The conditions look at the target, which is exact; 1 − y is not.
        2.0 * (count_divergence(y, mean, &y.ne(0.0))
            + count_divergence(&(1.0 - y), &(1.0 - mean), &y.ne(1.0)))
    }),
    constant: Some(|y, _, _| Real::constant(y, 0.0)),
    ..NUMBER
};
pub(super) static BERNOULLI: Row = Row { name: "bernoulli", ..SHARES };
pub(super) static BINOMIAL: Row = Row { name: "binomial", ..SHARES };

const CLASSES: Row = Row {
    observation: Observation::Label,
    link: Link::Softmax,
    usual: Link::Softmax,
    target: ("a whole number from 0", label),
    samples: (&[-3.0, -0.5, 0.0, 0.3, 2.0], &[3.0]),
    log_partition: |eta, _| eta.logsumexp(-1),
    mean: |eta, _| eta.softmax(-1),
    variance: |eta, _| {
        let p = eta.softmax(-1);
        &p * others(&p)
    },
    constant: Some(|y, _, _| Real::constant(&y.cast(DType::F32), 0.0)),
    ..NUMBER
};
pub(super) static CATEGORICAL: Row = Row { name: "categorical", ..CLASSES };
pub(super) static MULTINOMIAL: Row = Row {
    name: "multinomial",
    observation: Observation::Row,
    target: ("a number from 0", from_zero),
    samples: (&[-3.0, -0.5, 0.0, 0.3, 2.0], &[0.0, 1.0, 2.0, 0.0, 4.0]),
    // Classes with no observations may have a logit of −∞.
    nll: Some(|eta, y, _| {
        let terms = y * (eta.logsumexp(-1).unsqueeze(-1) - eta);
        y.eq(0.0).select(0.0, terms).sum(-1)
    }),
    residual: Some(|eta, y, _| eta.softmax(-1) * y.sum(-1).unsqueeze(-1) - y),
    deviance: Some(|y, mean, _| {
        let expected = mean * y.sum(-1).unsqueeze(-1);
        2.0 * count_divergence(y, &expected, &y.ne(0.0)).sum(-1)
    }),
    constant: Some(|y, _, _| (y + 1.0).lgamma().sum(-1) - (y.sum(-1) + 1.0).lgamma()),
    ..CLASSES
};

const COUNTS: Row = Row {
    means: Means::Positive,
    usual: Link::Log,
    target: ("a number from 0", from_zero),
    samples: (&[-3.0, -0.5, 0.0, 0.3, 2.0], &[0.0, 1.0, 2.0, 1.0, 7.0]),
    ..NUMBER
};
pub(super) static POISSON: Row = Row {
    name: "poisson",
    link: Link::Log,
    log_partition: |eta, _| eta.exp(),
    mean: |eta, _| eta.exp(),
    variance: |eta, _| eta.exp(),
    nll_at: |at, y, _| at.positive_mean() - where_(&y.ne(0.0), y * at.log_mean(), 0.0),
    deviation: |mean, _| mean.sqrt(),
    deviance: Some(|y, mean, _| 2.0 * count_divergence(y, mean, &y.ne(0.0))),
    constant: Some(|y, _, _| (y + 1.0).lgamma()),
    ..COUNTS
};

const OVERDISPERSED: Row = Row {
    log_partition: |eta, alpha| -(-eta).log1mexp() / alpha,
    mean: |eta, alpha| (-eta).recip_expm1() / alpha,
    // α·V = e^η/(1 − e^η)².
    variance: |eta, alpha| {
        let mean = (-eta).recip_expm1();
        &mean * (1.0 + &mean) / alpha
    },
    nll_at: |at, y, alpha| {
        let (below, above) = at.log1p_scaled(alpha);
        below / alpha + where_(&y.ne(0.0), y * above, 0.0)
    },
    deviation: |mean, alpha| mean.sqrt() * (1.0 + alpha * mean).sqrt(),
    // The textbook form loses 2e-5 of the deviance of counts near 10⁴ in f32.
    deviance: Some(|y, mean, alpha| 2.0 * overdispersed_divergence(y, mean, 1.0 / alpha)),
    constant: Some(|y, alpha, _| (y + 1.0).lgamma() - log_rising(1.0 / alpha, y)),
    samples: (&[-3.0, -0.5, -0.01, -1.0, -2.0], &[0.0, 1.0, 2.0, 1.0, 7.0]),
    ..COUNTS
};
pub(super) static NEGATIVE_BINOMIAL: Row = Row {
    name: "negative_binomial",
    parameter: Some(Parameter {
        name: "alpha",
        domain: "a finite positive number",
        holds: positive,
        sample: 0.5,
    }),
    ..OVERDISPERSED
};
pub(super) static GEOMETRIC: Row = Row { name: "geometric", ..OVERDISPERSED };

const MEASURES: Row = Row {
    means: Means::Positive,
    target: ("a number above 0", positive),
    samples: (&[-3.0, -0.5, -0.01, -1.0, -2.0], &[0.25, 1.0, 2.0, 0.5, 7.0]),
    ..NUMBER
};
const WAITING: Row = Row {
    usual: Link::Inverse,
    dispersed: true,
    log_partition: |eta, _| -(-eta).log(),
    mean: |eta, _| -eta.recip(),
    variance: |eta, _| eta.pow(2).recip(),
    nll_at: |at, y, _| at.log_mean() + where_(&y.ne(0.0), y * at.reciprocal(), 0.0),
    deviation: |mean, _| mean.clone(),
    deviance: Some(|y, mean, _| 2.0 * ratio_divergence(y, mean)),
    constant: Some(|y, _, phi| {
        let shape = 1.0 / phi;
        (1.0 - shape) * y.log() + (Tensor::new(shape).lgamma() - shape * shape.ln())
    }),
    ..MEASURES
};
pub(super) static GAMMA: Row = Row { name: "gamma", ..WAITING };
pub(super) static EXPONENTIAL: Row = Row {
    name: "exponential",
    dispersed: false,
    constant: Some(|y, _, _| Real::constant(y, 0.0)),
    ..WAITING
};
pub(super) static INVERSE_GAUSSIAN: Row = Row {
    name: "inverse_gaussian",
    usual: Link::InverseSquared,
    dispersed: true,
    log_partition: |eta, _| -(-2.0 * eta).sqrt(),
    mean: |eta, _| (-2.0 * eta).rsqrt(),
    variance: |eta, _| (-2.0 * eta).rsqrt().pow(3),
    // Completed to the square (y/μ − 1)²/2y, which does not cancel.
    nll: Some(|eta, y, _| 0.5 * (y * (-2.0 * eta).sqrt() - 1.0).pow(2) / y),
    nll_at: |at, y, _| 0.5 * (y * at.reciprocal() - 1.0).pow(2) / y,
    deviation: |mean, _| mean * mean.sqrt(),
    deviance: Some(|y, mean, _| ((y - mean) / mean).pow(2) / y),
    constant: Some(|y, _, phi| 0.5 * (3.0 * y.log() + (TAU * phi).ln())),
    ..MEASURES
};
pub(super) static TWEEDIE: Row = Row {
    name: "tweedie",
    parameter: Some(Parameter {
        name: "power",
        domain: "between 1 and 2",
        holds: |p| p > 1.0 && p < 2.0,
        sample: 1.5,
    }),
    usual: Link::Log,
    dispersed: true,
    target: ("a number from 0", from_zero),
    samples: (&[-3.0, -0.5, -0.1, -1.0, -2.0], &[0.0, 1.0, 2.0, 0.5, 7.0]),
    log_partition: |eta, p| (eta * (1.0 - p)).pow((2.0 - p) / (1.0 - p)) / (2.0 - p),
    mean: |eta, p| (eta * (1.0 - p)).pow(1.0 / (1.0 - p)),
    variance: |eta, p| (eta * (1.0 - p)).pow(p / (1.0 - p)),
    nll_at: |at, y, p| {
        let log_mean = at.log_mean();
        let heavy = y * ((1.0 - p) * &log_mean).exp() / (p - 1.0);
        ((2.0 - p) * log_mean).exp() / (2.0 - p) + where_(&y.ne(0.0), heavy, 0.0)
    },
    deviation: |mean, p| mean.pow(0.5 * p),
    deviance: Some(|y, mean, p| 2.0 * power_divergence(y, mean, p)),
    ..MEASURES
};

pub(super) static HYPERBOLIC_SECANT: Row = Row {
    name: "hyperbolic_secant",
    means: Means::Real,
    usual: Link::Identity,
    samples: (&[-1.5, -0.5, 0.0, 0.3, 1.2], &[-1.0, 0.0, 0.5, 2.0, 1.5]),
    // The cosine of a small angle rounds to 1.
    log_partition: |eta, _| {
        let near = eta.abs().lt(0.8);
        where_(&near, -0.5 * (-eta.sin().pow(2)).log1p(), -eta.cos().log())
    },
    mean: |eta, _| eta.tan(),
    variance: |eta, _| 1.0 + eta.tan().pow(2),
    nll_at: |at, y, _| {
        let mean = at.mean();
        0.5 * mean.pow(2).log1p() - y * mean.atan()
    },
    deviation: |mean, _| (1.0 + mean.pow(2)).sqrt(),
    deviance: Some(|y, mean, _| {
        let size = 1.0 + y.pow(2);
        let excess = (mean - y) * (mean + y) / &size;
        2.0 * y * (y.atan() - mean.atan()) + log_ratio(&excess, &((1.0 + mean.pow(2)) / size))
    }),
    constant: Some(|y, _, _| {
        let size = PI * y.abs();
        0.5 * &size + (-size).exp().log1p()
    }),
    ..NUMBER
};
pub(super) static CONTINUOUS_BERNOULLI: Row = Row {
    name: "continuous_bernoulli",
    target: ("between 0 and 1", share),
    samples: (&[-30.0, -3.0, -0.5, 0.0, 0.3, 2.0], &[0.0, 1.0, 0.25, 1.0, 0.0, 0.5]),
    log_partition: |eta, _| continuous_log_partition(eta),
    mean: |eta, _| continuous_mean(eta),
    variance: |eta, _| continuous_variance(eta),
    constant: Some(|y, _, _| Real::constant(y, 0.0)),
    ..NUMBER
};
pub(super) static ZERO_TRUNCATED_POISSON: Row = Row {
    name: "zero_truncated_poisson",
    target: ("a number from 1", |y| y >= 1.0),
    samples: (&[-14.0, -3.0, -0.5, 0.0, 0.3, 2.0], &[1.0, 1.0, 2.0, 1.0, 7.0, 3.0]),
    // With λ = e^η: expm1(λ) = λ·(expm1(λ)/λ), and all else follows from the family of the second factor.
    log_partition: |eta, _| eta + continuous_log_partition(&eta.exp()),
    mean: |eta, _| {
        let rate = eta.exp();
        1.0 + &rate * continuous_mean(&rate)
    },
    variance: |eta, _| {
        let rate = eta.exp();
        let mean = 1.0 + &rate * continuous_mean(&rate);
        mean * &rate * continuous_mean(&-&rate)
    },
    constant: Some(|y, _, _| (y + 1.0).lgamma()),
    ..NUMBER
};

pub(super) static DIRICHLET: Row = Row {
    name: "dirichlet",
    observation: Observation::Row,
    target: ("a number above 0", positive),
    samples: (&[0.5, 1.0, 2.5, 4.0], &[0.1, 0.2, 0.3, 0.4]),
    log_partition: |eta, _| eta.lgamma().sum(-1) - eta.sum(-1).lgamma(),
    mean: |eta, _| eta.digamma() - eta.sum(-1).unsqueeze(-1).digamma(),
    variance: |eta, _| eta.trigamma() - eta.sum(-1).unsqueeze(-1).trigamma(),
    nll: Some(|eta, y, _| eta.lgamma().sum(-1) - eta.sum(-1).lgamma() - (eta * y.log()).sum(-1)),
    residual: Some(|eta, y, _| eta.digamma() - eta.sum(-1).unsqueeze(-1).digamma() - y.log()),
    constant: Some(|y, _, _| y.log().sum(-1)),
    ..NUMBER
};

pub(super) static VON_MISES: Row = Row {
    name: "von_mises",
    observation: Observation::Row,
    target: ("between −1 and 1", |y| (-1.0..=1.0).contains(&y)),
    samples: (&[1.5, -0.8], &[0.6, 0.8]),
    log_partition: |eta, _| {
        let size = norm(eta);
        size.i0e().log() + size
    },
    // I₁/I₀ is the length of the mean: a slope of A that is ½·η near 0, where the direction is not known.
    mean: |eta, _| eta * bessel_ratio(&norm(eta)).unsqueeze(-1),
    // R = I₁/I₀ along η changes by R′ along it and by R/κ across: R′·e² + R/κ·(1 − e²) for the unit vector e.
    variance: |eta, _| {
        let (size, square) = (norm(eta), eta.pow(2));
        let along = (&square / square.sum(-1).unsqueeze(-1), others(&square) / square.sum(-1).unsqueeze(-1));
        let zero = size.eq(0.0).unsqueeze(-1);
        let (slope, across) = (bessel_slope(&size).unsqueeze(-1), bessel_ratio(&size).unsqueeze(-1));
        zero.select(0.5, slope * along.0 + across * along.1)
    },
    nll: Some(|eta, y, _| {
        let size = norm(eta);
        size.i0e().log() + size - (eta * y).sum(-1)
    }),
    constant: Some(|y, _, _| Real::constant(&y.sum(-1), TAU.ln())),
    ..NUMBER
};

/// The length of each row, with derivative 0 at 0.
#[track_caller]
fn norm(eta: &Tensor) -> Tensor {
    let square = eta.pow(2).sum(-1);
    let is_zero = square.eq(0.0);
    is_zero.select(0.0, is_zero.select(1.0, square).sqrt())
}
/// `I₁(κ)/(κ·I₀(κ))`, ½ at 0.
#[track_caller]
fn bessel_ratio(size: &Tensor) -> Tensor {
    let near = size.lt(1e-3);
    let far = near.select(1.0, size);
    // κ/2·(1 + κ²/8 + …)/(1 + κ²/4 + …): the next term is below a rounding of f64 there.
    let square = size.min(2e-3).pow(2);
    near.select(0.5 - &square * (0.0625 - &square / 96.0), far.i1e() / far.i0e() / &far)
}

/// Derivative of `I₁/I₀`: `1 − R/κ − R²`, and from 20 on, where that cancels, its asymptotic series (of the Riccati equation it
/// is; to 1e-11).
#[track_caller]
fn bessel_slope(size: &Tensor) -> Tensor {
    const SERIES: [f64; 16] = [
        0.5,
        0.25,
        0.375,
        0.78125,
        2.03125,
        6.287_109_375,
        22.531_25,
        91.731_689_453_125,
        418.306_640_625,
        2_112.761_497_497_558_6,
        11_711.460_449_218_75,
        70_704.548_575_401_3,
        461_875.406_738_281_25,
        3_246_384.903_388_440_6,
        24_431_241.798_706_055,
        196_017_082.125_858_4,
    ];
    let ratio = bessel_ratio(size);
    let inverse = size.max(16.0).recip();
    let far = inverse.pow(2) * polynomial(&inverse, SERIES.into_iter());
    size.lt(20.0).select(1.0 - &ratio - (size * ratio).pow(2), far)
}

/// A Fenchel–Young loss in the place of a likelihood.
macro_rules! fenchel_young {
    ($NAME:ident $name:literal $entropy:ident) => {
        pub(super) static $NAME: Row = Row {
            name: $name,
            observation: Observation::Row,
            target: ("between 0 and 1", share),
            samples: (&[-0.8, 0.4, 0.1, 0.45, -2.0], &[0.0, 0.5, 0.2, 0.3, 0.0]),
            log_partition: |eta, _| Tsallis::$entropy.conjugate(eta),
            mean: |eta, _| Tsallis::$entropy.mean(eta),
            variance: |eta, _| {
                let weights = Tsallis::$entropy.weights(&Tsallis::$entropy.mean(eta));
                &weights * (1.0 - &weights / weights.sum(-1).unsqueeze(-1))
            },
            // 0 for a perfect prediction.
            nll: Some(|eta, y, _| {
                let entropy = Tsallis::$entropy;
                entropy.conjugate(eta) + entropy.regularizer(y) - (y * eta).sum(-1)
            }),
            ..NUMBER
        };
    };
}
fenchel_young!(SPARSEMAX "sparsemax" Sparsemax);
fenchel_young!(ENTMAX15 "entmax15" Entmax15);

/// Every built-in family.
pub(super) static ALL: &[&Row] = &[
    &GAUSSIAN,
    &BERNOULLI,
    &BINOMIAL,
    &CATEGORICAL,
    &MULTINOMIAL,
    &POISSON,
    &GEOMETRIC,
    &NEGATIVE_BINOMIAL,
    &EXPONENTIAL,
    &GAMMA,
    &INVERSE_GAUSSIAN,
    &TWEEDIE,
    &HYPERBOLIC_SECANT,
    &CONTINUOUS_BERNOULLI,
    &ZERO_TRUNCATED_POISSON,
    &DIRICHLET,
    &VON_MISES,
    &SPARSEMAX,
    &ENTMAX15,
];
