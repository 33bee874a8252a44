//! Generalized linear models: maximum likelihood for `link(mean) = intercept + features · coefficients (+ offset)`.
//!
//! The rows — predictor, mean, residual, gradient, Fisher information — are one tensor graph. A device evaluates it in f32,
//! once per iteration of Fisher scoring; the small systems are solved in f64 on the host. At the end the reference
//! evaluates the same graph in f64: statistics come from there, and so does the last correction.
//!
//! Columns are centered, scaled and decorrelated on the host first, so that badly scaled and collinear columns do not
//! matter; coefficients and standard errors are those of the data as given. An intercept is always fitted.

mod design;
mod linear;
mod model;
mod solve;

use cotangent_device::Device;
use cotangent_tensor::{Code, Detail, Error};

use crate::families::{Family, Link};
use crate::io::Table;

/// What is to be fitted.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// Columns by name; all of the length of the target.
    pub features: Vec<(String, Vec<f64>)>,
    /// Observations. For the categorical family whole numbers from 0; class 0 is the reference.
    pub target: Vec<f64>,
    /// Prior weights, finite and not negative: row `i` counts as often. None: 1.
    pub weights: Option<Vec<f64>>,
    /// Added to the predictor with coefficient 1.
    pub offset: Option<Vec<f64>>,
}

impl Problem {
    /// Columns of a table. Features default to all other numeric columns. Error: `E_FILE`.
    ///
    /// ```
    /// use cotangent::glm::Problem;
    /// use cotangent::io::Table;
    /// let table = Table::from_reader("t.csv", "y,a,b,w\n1,2,3,1\n0,1,5,2\n".as_bytes())?;
    /// let problem = Problem::from_table(&table, "y", None, Some("w"), None)?;
    /// assert_eq!(problem.features.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn from_table(
        table: &Table,
        target: &str,
        features: Option<&[String]>,
        weights: Option<&str>,
        offset: Option<&str>,
    ) -> Result<Problem, Error> {
        let named = [Some(target), weights, offset];
        let rest = || {
            let others = table.numeric().into_iter().filter(|name| !named.contains(&Some(name)));
            others.map(str::to_string).collect::<Vec<String>>()
        };
        let target = table.column(target)?;
        let names = features.map_or_else(rest, <[String]>::to_vec);
        let columns = names.into_iter().map(|name| Ok((name.clone(), table.column(&name)?)));
        Ok(Problem {
            features: columns.collect::<Result<_, Error>>()?,
            target,
            weights: weights.map(|name| table.column(name)).transpose()?,
            offset: offset.map(|name| table.column(name)).transpose()?,
        })
    }
}

/// How the maximum is sought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Fisher scoring with step halving; corrected in f64 at the end.
    #[default]
    Newton,
    /// L-BFGS on the host, loss and gradient from the device.
    Lbfgs,
    /// Adam, the whole step on the device.
    Adam,
    /// Gradient descent, the whole step on the device.
    Sgd,
}

impl Method {
    /// Every method.
    pub const ALL: &[Method] = &[Method::Newton, Method::Lbfgs, Method::Adam, Method::Sgd];
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Newton => "newton",
            Method::Lbfgs => "lbfgs",
            Method::Adam => "adam",
            Method::Sgd => "sgd",
        }
    }
}

/// Settings of a fit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// How the maximum is sought.
    pub method: Method,
    /// Iterations at most. None: 100 for Newton, 200 for L-BFGS, 2000 for the others.
    pub max_iterations: Option<usize>,
    /// Of Adam (default 0.05) and gradient descent (default 0.5, on decorrelated columns).
    pub learning_rate: Option<f64>,
    /// Newton stops on the device at this decrement of the mean negative log-likelihood (default 1e-10), L-BFGS at this
    /// gradient (default 1e-6).
    pub tolerance: Option<f64>,
}

/// Parameters of one linear predictor, on the scale of the data as given.
#[derive(Clone, Debug)]
pub struct Predictor {
    /// The intercept.
    pub intercept: f64,
    /// In the order of [`Fit::features`].
    pub coefficients: Vec<f64>,
    /// Standard error of the intercept.
    pub intercept_error: f64,
    /// Standard errors of the coefficients.
    pub standard_errors: Vec<f64>,
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Name of the family.
    pub family: String,
    /// The link.
    pub link: Link,
    /// Observations.
    pub rows: usize,
    /// Names of the features.
    pub features: Vec<String>,
    /// One predictor; for the categorical family one per class from 1 on.
    pub predictors: Vec<Predictor>,
    /// Σ w·d(y, μ); for the categorical family −2 · log-likelihood.
    pub deviance: f64,
    /// The deviance of the model with an intercept (and the offset) only.
    pub null_deviance: f64,
    /// With all constants. Gaussian: at the variance of maximum likelihood.
    pub log_likelihood: f64,
    /// Variance of the Gaussian residuals (deviance over degrees of freedom), 1 for the other families.
    pub dispersion: f64,
    /// Evaluations of the gradient that moved the parameters.
    pub iterations: usize,
    /// Whether the gradient is small against its own rounding.
    pub converged: bool,
    /// Mean negative log-likelihood without constants, at the start and after each iteration.
    pub loss_history: Vec<f64>,
    /// Predictor `η` per row, offset included; rows of one value per class from 1 on for the categorical family.
    pub eta: Vec<f64>,
}

/// Fits a model on a device. `progress` is called with the iteration and the mean negative log-likelihood.
///
/// Errors: `E_FAMILY` for targets outside the family, columns that are constant or linear combinations of others, families
/// without likelihood; `E_DATA_LENGTH`; `E_HYPERPARAMETER`; `E_NONFINITE` if the fit diverges (separable classes); what
/// the device reports. A fit that stopped early is no error; it says so in [`Fit::converged`].
pub fn fit(
    device: &Device,
    family: &Family,
    problem: &Problem,
    options: &Options,
    progress: &mut dyn FnMut(usize, f64),
) -> Result<Fit, Error> {
    solve::Fitter::new(family, problem)?.fit(Some(device), options, progress)
}

/// Lengths, weights and targets.
fn check(family: &Family, problem: &Problem) -> Result<(), Error> {
    let rows = problem.target.len();
    if rows == 0 {
        return Err(Error::new(Code::DataLength, "glm", "there are no rows"));
    }
    let optional = [("weights", &problem.weights), ("offset", &problem.offset)];
    let columns = problem.features.iter().map(|(name, values)| (name.as_str(), values));
    let all = columns.chain(optional.iter().filter_map(|(name, values)| Some((*name, values.as_ref()?))));
    for (name, values) in all.chain([("target", &problem.target)]) {
        if values.len() != rows {
            let message = format!("`{name}` has {} rows, the target {rows}", values.len());
            return Err(Error::new(Code::DataLength, "glm", message));
        }
        if let Some(row) = values.iter().position(|v| !v.is_finite()) {
            return Err(at_row(Code::Nonfinite, format!("`{name}` is {}", values[row]), row));
        }
    }
    if let Some(weights) = &problem.weights {
        if let Some(row) = weights.iter().position(|&w| w < 0.0) {
            return Err(at_row(Code::Hyperparameter, format!("the weight is {}", weights[row]), row));
        }
        if weights.iter().sum::<f64>() <= 0.0 {
            return Err(Error::new(Code::Hyperparameter, "glm", "all weights are zero"));
        }
    }
    let (what, holds): (&str, fn(f64) -> bool) = match family.link() {
        Link::Identity => ("a number", |_| true),
        Link::Log => ("a number from 0", |y| y >= 0.0),
        Link::Logit => ("between 0 and 1", |y| (0.0..=1.0).contains(&y)),
        Link::Softmax => ("a whole number from 0", |y| (0.0..1e6).contains(&y) && y.fract() == 0.0),
        Link::Canonical => {
            let message = format!("`{}` is a family of your own; it has no likelihood here", family.name());
            return Err(Error::new(Code::Family, "glm", message).hint("train it with `residual` as upstream"));
        }
    };
    if let Some(row) = problem.target.iter().position(|&y| !holds(y)) {
        let message = format!("the target is {}, {} needs {what}", problem.target[row], family.name());
        return Err(at_row(Code::Family, message, row));
    }
    if family.is_categorical() && problem.offset.is_some() {
        return Err(Error::new(Code::Family, "glm", "an offset has no meaning for the categorical family"));
    }
    Ok(())
}

fn at_row(code: Code, message: String, row: usize) -> Error {
    let error = Error::new(code, "glm", format!("{message} in row {row} of the data (from 0)"));
    error.with("row", Detail::Integer(i64::try_from(row).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests;
