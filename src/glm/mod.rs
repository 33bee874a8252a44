//! Generalized linear models: maximum likelihood for `link(mean) = intercept + features · coefficients (+ offset)`.
//!
//! The rows — predictor, mean, residual, gradient, Fisher information — are one tensor graph. A device evaluates it in f32,
//! once per iteration of Fisher scoring; the small systems are solved in f64 on the host. At the end the reference
//! evaluates the same graph in f64: statistics come from there, and so does the last correction, whichever method has
//! come close to the maximum.
//!
//! Columns are centered, scaled and decorrelated on the host first, so that badly scaled and collinear columns do not
//! matter; coefficients and standard errors are those of the data as given. An intercept is always fitted.

mod assess;
mod design;
mod linear;
mod model;
mod solve;

use cotangent_device::Device;
use cotangent_tensor::{Code, Detail, Error};

pub use assess::{Assessment, assess};

use crate::families::{Family, Link};
use crate::io::{Stray, Table};

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
    /// Where the rows came from, so that messages can name file, line and column.
    pub origin: Option<Origin>,
}

/// The table that a problem was taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: String,
    /// The line of each row.
    pub lines: Vec<usize>,
    /// The column of the target.
    pub target: String,
    /// The column of weights.
    pub weights: Option<String>,
    /// The column of the offset.
    pub offset: Option<String>,
}

impl Problem {
    /// Columns of a table. Features default to all other numeric columns; a column of text is left out
    /// ([`Table::strays`] says which those are), a column most of whose fields are numbers is not left out but an error.
    /// Error: `E_FILE`.
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
        let names = match features {
            Some(names) => names.to_vec(),
            None => {
                let is_free = |name: &str| !named.contains(&Some(name));
                for stray in table.strays().iter().filter(|stray| is_free(&stray.column)) {
                    if 2 * stray.numbers > table.rows() {
                        return Err(spoiled(table, stray));
                    }
                }
                table.numeric().into_iter().filter(|name| is_free(name)).map(str::to_string).collect()
            }
        };
        let columns = names.into_iter().map(|name| Ok((name.clone(), table.column(&name)?)));
        Ok(Problem {
            features: columns.collect::<Result<_, Error>>()?,
            target: table.column(target)?,
            weights: weights.map(|name| table.column(name)).transpose()?,
            offset: offset.map(|name| table.column(name)).transpose()?,
            origin: Some(Origin {
                file: table.path().display().to_string(),
                lines: table.lines().to_vec(),
                target: target.to_string(),
                weights: weights.map(str::to_string),
                offset: offset.map(str::to_string),
            }),
        })
    }

    /// Whether a family can be fitted to these rows, whatever the model: lengths, finite numbers, weights, and targets in
    /// the domain of the family.
    ///
    /// Errors: `E_DATA_LENGTH`; `E_NONFINITE` for values that are not finite, and for a class that no target has;
    /// `E_HYPERPARAMETER` for weights; `E_FAMILY` for targets, for an offset of the categorical family, and for a family
    /// of one's own.
    ///
    /// ```
    /// use cotangent::glm::Problem;
    /// use cotangent::{Code, Family};
    /// let problem = Problem { target: vec![0.0, 2.0], ..Problem::default() };
    /// problem.check(&Family::poisson())?;
    /// assert_eq!(problem.check(&Family::bernoulli()).unwrap_err().code(), Code::Family);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn check(&self, family: &Family) -> Result<(), Error> {
        check(family, self)
    }
    /// An error about a row, with file, line and column where they are known.
    fn at_row(&self, code: Code, message: String, row: usize, role: &str) -> Error {
        let error = Error::new(code, "glm", message).with("row", integer(row));
        let Some(Origin { file, lines, target, weights, offset }) = &self.origin else {
            return error.within(format!("in row {row} of the data, counted from 0"));
        };
        let column = match role {
            "target" => target,
            "weights" => weights.as_deref().unwrap_or(role),
            "offset" => offset.as_deref().unwrap_or(role),
            feature => feature,
        };
        let line = lines.get(row).copied().unwrap_or_default();
        error.with("line", integer(line)).within(format!("in {file}, line {line}, column `{column}`"))
    }
}

fn integer(value: usize) -> Detail {
    Detail::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Leaving out a column of numbers because of one field would change the model without a word.
fn spoiled(table: &Table, stray: &Stray) -> Error {
    let Stray { column, line, field, numbers } = stray;
    let message = format!(
        "line {line}, column `{column}`: {field:?} is no finite number, {numbers} of {} rows are",
        table.rows()
    );
    Error::new(Code::File, table.path().display().to_string(), message)
        .with("line", integer(*line))
        .with("column", Detail::Text(column.clone()))
        .hint("remove the row, or say which columns explain (`--features`)")
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
    /// Of Adam (default 0.05) and gradient descent (default 0.5, for counts over their mean where that is above 1), on
    /// decorrelated columns.
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

impl Predictor {
    /// Coefficients over their standard errors: how far each is from 0. The intercept comes first.
    pub fn z_values(&self) -> Vec<f64> {
        let coefficients = std::iter::once(&self.intercept).chain(&self.coefficients);
        let errors = std::iter::once(&self.intercept_error).chain(&self.standard_errors);
        coefficients.zip(errors).map(|(coefficient, error)| coefficient / error).collect()
    }
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
    /// Σ w·d(y, μ); −2 · log-likelihood for the categorical family and for those without a unit deviance.
    pub deviance: f64,
    /// The deviance of the model with an intercept (and the offset) only.
    pub null_deviance: f64,
    /// As in [`Assessment::log_likelihood`].
    pub log_likelihood: f64,
    /// Akaike's criterion: twice the number of coefficients less the log-likelihood. A dispersion is not counted.
    pub aic: f64,
    /// As in [`Assessment::dispersion`]; NaN, as the standard errors then are, where no degree of freedom is left.
    pub dispersion: f64,
    /// As in [`Assessment::residuals`].
    pub deviance_residuals: Vec<f64>,
    /// Evaluations of the gradient that moved the parameters.
    pub iterations: usize,
    /// Whether this is the maximum: the gradient is small against its own rounding in f64, and the step of Newton's method
    /// from here against standard errors.
    pub converged: bool,
    /// Mean negative log-likelihood without constants, at the start and after each iteration.
    pub loss_history: Vec<f64>,
    /// Predictor `η` per row, offset included; rows of one value per class from 1 on for the categorical family.
    pub eta: Vec<f64>,
}

/// Fits a model on a device. `progress` is called with the iteration and the mean negative log-likelihood.
///
/// Errors: those of [`Problem::check`]; `E_FAMILY` for columns that are constant or linear combinations of others; `E_LIMIT`
/// for too many parameters; `E_NONFINITE` if the fit diverges (separable classes, a learning rate too large) or overflows;
/// what the device reports. A fit that stopped early is no error; it says so in [`Fit::converged`].
pub fn fit(
    device: &Device,
    family: &Family,
    problem: &Problem,
    options: &Options,
    progress: &mut dyn FnMut(usize, f64),
) -> Result<Fit, Error> {
    solve::Fitter::new(&family.for_regression(), problem)?.fit(Some(device), options, progress)
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
            return Err(problem.at_row(Code::Nonfinite, format!("`{name}` is {}", values[row]), row, name));
        }
    }
    if let Some(weights) = &problem.weights {
        if let Some(row) = weights.iter().position(|&w| w < 0.0) {
            let message = format!("the weight is {}", weights[row]);
            return Err(problem.at_row(Code::Hyperparameter, message, row, "weights"));
        }
        let total: f64 = weights.iter().sum();
        if total <= 0.0 || !total.is_finite() {
            let message =
                if total > 0.0 { "the sum of the weights overflows" } else { "all weights are zero" };
            return Err(Error::new(Code::Hyperparameter, "glm", message));
        }
    }
    let refuse = |message: String| Error::new(Code::Family, "glm", message);
    if family.is_own() {
        let message = format!("`{}` is a family of your own; it has no likelihood here", family.name());
        return Err(refuse(message).hint("train it with `residual` as upstream"));
    }
    if family.has_rows() && !family.is_categorical() {
        let message = format!("an observation of `{}` is a row, a table has one target", family.name());
        return Err(refuse(message).hint("train it with `residual` as upstream"));
    }
    let (what, holds) = family.target();
    if let Some(row) = problem.target.iter().position(|&y| !holds(y)) {
        let message = format!("the target is {}, {} needs {what}", problem.target[row], family.name());
        return Err(problem.at_row(Code::Family, message, row, "target"));
    }
    if family.is_categorical() {
        if problem.offset.is_some() {
            return Err(refuse("an offset has no meaning for the categorical family".to_string()));
        }
        classes(&problem.target)?;
    }
    Ok(())
}

/// The number of classes of labels that were checked to be whole numbers; each must occur.
fn classes(labels: &[f64]) -> Result<usize, Error> {
    // The number of classes is that of different labels, not the largest label: memory grows with it.
    let mut seen: Vec<f64> = labels.to_vec();
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    if let Some(missing) = seen.iter().enumerate().position(|(class, &label)| class as f64 != label) {
        let (classes, largest) = (seen.len(), seen[seen.len() - 1]);
        let message = format!(
            "the fit diverges: no target is {missing}; there are {classes} different targets, the largest is {largest}"
        );
        return Err(Error::new(Code::Nonfinite, "glm", message)
            .hint("number the classes 0, 1, 2, …; poisson and gaussian take counts and measurements"));
    }
    if seen.len() < 2 {
        return Err(Error::new(Code::Family, "glm", "all targets are 0: one class is no choice"));
    }
    Ok(seen.len())
}

#[cfg(test)]
mod tests;
