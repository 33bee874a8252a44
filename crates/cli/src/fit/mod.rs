//! `cotangent fit`: generalized linear models, and networks that end in a natural parameter.

mod linear;
mod network;
mod split;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use cotangent::glm::Problem;
use cotangent::io::{self, Stray, Table};
use cotangent::{Array, Code, Device, Error, Evaluate, Family, Link, Reference, Tensor};
use serde_json::{Map, Value, json};

use crate::plot::{self, Scatter};
use crate::{DeviceArgument, report};

/// An optimizer, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Fisher scoring; models without --hidden only
    Newton,
    /// Limited-memory BFGS; models without --hidden only
    Lbfgs,
    /// Adam
    Adam,
    /// Gradient descent
    Sgd,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// gaussian, bernoulli, binomial, poisson, gamma, inverse_gaussian, negative_binomial, tweedie, categorical, or another of the
    /// library; binomial: the target is the share of successes, --weights the number of trials
    #[arg(long)]
    family: String,
    /// identity, log, logit, probit, cloglog, loglog, cauchit, inverse, inverse_squared, sqrt or softplus; by default identity
    /// (gaussian), logit (bernoulli, binomial), inverse (gamma), inverse_squared (inverse_gaussian), softmax (categorical), log
    #[arg(long)]
    link: Option<String>,
    /// Of the negative binomial family, whose variance is mean + alpha·mean²
    #[arg(long, value_name = "A")]
    alpha: Option<f64>,
    /// Of the Tweedie family, whose variance is dispersion·mean^power: between 1 and 2
    #[arg(long, value_name = "P")]
    power: Option<f64>,
    /// CSV file with a header
    #[arg(long, value_name = "FILE.csv")]
    data: PathBuf,
    /// Column to be explained
    #[arg(long, value_name = "COL")]
    target: String,
    /// Columns that explain; all other numeric columns by default
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    features: Option<Vec<String>>,
    /// Column of prior weights
    #[arg(long, value_name = "COL")]
    weights: Option<String>,
    /// Column added to the predictor
    #[arg(long, value_name = "COL")]
    offset: Option<String>,
    /// Widths of hidden layers: trains a network
    #[arg(long, value_delimiter = ',', value_name = "30,20")]
    hidden: Option<Vec<usize>>,
    /// How the maximum is sought: newton by default, adam with --hidden
    #[arg(long, value_enum)]
    optimizer: Option<Choice>,
    /// Of adam and sgd
    #[arg(long, value_name = "R")]
    learning_rate: Option<f64>,
    /// Iterations at most
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// When newton and lbfgs stop
    #[arg(long, value_name = "T")]
    tolerance: Option<f64>,
    /// With --hidden: this share of the rows, drawn by the seed, does not train; the parameters of the epoch that predicts them best
    /// are kept and saved. All rows train by default
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// With --validation: training stops after so many epochs without a better one; by default it goes on to the last
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
    /// Of initial values, and of the rows for --validation
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgument,
    /// Plot of targets (gaussian) or residuals against predicted means
    #[arg(long, value_name = "FILE.svg|.png")]
    plot: Option<PathBuf>,
    /// Save parameters, for features as (x − features.mean) / features.scale; names of columns stand in the metadata
    #[arg(long, value_name = "FILE.safetensors")]
    save: Option<PathBuf>,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// What a fit has found, whichever kind of model it was.
struct Outcome {
    deviance: f64,
    null_deviance: f64,
    log_likelihood: f64,
    intercept: Value,
    coefficients: Value,
    standard_errors: Value,
    z_values: Value,
    /// Of a linear model.
    dispersion: Option<f64>,
    aic: Option<f64>,
    deviance_residuals: Vec<f64>,
    converged: bool,
    iterations: usize,
    loss_history: Vec<f64>,
    validation: Option<Validation>,
    /// Mean per row; rows of one value per class for the categorical family.
    mean: Vec<f64>,
    /// Named arrays for `--save`.
    parameters: Vec<(String, Array)>,
}

/// What rows that did not train say about a network. Epochs are numbers of updates.
struct Validation {
    rows: usize,
    /// At the parameters that are kept.
    deviance: f64,
    /// Of the model without features, fitted to the rows that train.
    null_deviance: f64,
    /// Mean negative log-likelihood before each update and after the last.
    history: Vec<f64>,
    best_epoch: usize,
    stopped_at: usize,
}

/// Mean and standard deviation of a column, as f32 keeps them.
#[derive(Clone, Copy, Debug)]
struct Standard {
    mean: f64,
    scale: f64,
}

impl Standard {
    fn of(values: &[f64]) -> Standard {
        // In units of the largest: squares of 1e200 are no numbers.
        let size = values.iter().fold(0f64, |most, v| most.max(v.abs()));
        let (size, n) = (if size > 0.0 { size } else { 1.0 }, values.len() as f64);
        let mean = values.iter().map(|v| v / size).sum::<f64>() / n;
        let variance = values.iter().map(|v| (v / size - mean).powi(2)).sum::<f64>() / n;
        let scale = if variance > 0.0 { variance.sqrt() } else { 1.0 / size };
        Standard { mean: kept(mean * size), scale: kept(scale * size) }
    }
    fn apply(&self, value: f64) -> f64 {
        (value - self.mean) / self.scale
    }
    fn arrays(columns: &[Standard]) -> [(String, Array); 2] {
        let of = |part: fn(&Standard) -> f64| columns.iter().map(part).collect::<Vec<f64>>().into();
        [("features.mean".to_string(), of(|c| c.mean)), ("features.scale".to_string(), of(|c| c.scale))]
    }
}

/// The number that a file keeps; itself where f32 has none near it.
fn kept(value: f64) -> f64 {
    let rounded = f64::from(value as f32);
    if rounded.is_finite() && (rounded != 0.0 || value == 0.0) { rounded } else { value }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let family = family(arguments)?;
    if let Some(path) = &arguments.plot {
        plot::check(path)?;
    }
    if let Some(path) = &arguments.save {
        io::check_writable(path)?;
    }
    check_rate(arguments)?;
    check_validation(arguments)?;
    let table = Table::read(&arguments.data)?;
    let problem = Problem::from_table(
        &table,
        &arguments.target,
        arguments.features.as_deref(),
        arguments.weights.as_deref(),
        arguments.offset.as_deref(),
    )?;
    if arguments.features.is_none() {
        for stray in table.strays() {
            let Stray { column, line, field, .. } = stray;
            eprintln!("note: column `{column}` is left out: line {line} holds {field:?}");
        }
    }
    let device = arguments.device.open()?;
    let start = Instant::now();
    let outcome = match &arguments.hidden {
        None => linear::fit(arguments, &device, &family, &problem),
        Some(hidden) => network::fit(arguments, hidden, &device, &family, &problem),
    };
    let about = |error: Error| {
        error.within(format!("fitting `{}` of {}", arguments.target, arguments.data.display()))
    };
    let outcome = outcome.map_err(about)?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(Validation { rows, best_epoch, stopped_at, .. }) = &outcome.validation {
        eprintln!(
            "note: training stopped after {stopped_at} epochs; epoch {best_epoch} was best for {rows} validation rows and is kept"
        );
    } else if !outcome.converged {
        let kind = if arguments.hidden.is_some() { "training" } else { "the fit" };
        eprintln!("warning: {kind} stopped after {} iterations and has not converged", outcome.iterations);
    }
    if outcome.deviance > outcome.null_deviance {
        eprintln!("warning: the deviance is above that of the model without features");
    }
    // What was computed comes first: a disk that is full must not lose it.
    say(arguments, &family, &device, problem.target.len(), &outcome, seconds)?;
    if let Some(path) = &arguments.save {
        save(path, arguments, &family, &problem, &outcome)?;
    }
    match &arguments.plot {
        Some(path) => draw(path, &family, &problem, &outcome, &arguments.target),
        None => Ok(()),
    }
}

/// Parameters as arrays; what they mean as one JSON text in the metadata.
fn save(
    path: &Path,
    arguments: &Arguments,
    family: &Family,
    problem: &Problem,
    outcome: &Outcome,
) -> Result<(), Error> {
    for (name, array) in &outcome.parameters {
        if array.to_f32().iter().any(|value| !value.is_finite()) {
            let message = format!("`{name}` holds a number that f32 does not have");
            return Err(Error::new(Code::Nonfinite, "save", message).hint("scale the data"));
        }
    }
    let features: Vec<&str> = problem.features.iter().map(|(name, _)| name.as_str()).collect();
    let model = json!({
        "family": family.name(),
        "link": family.link().name(),
        "alpha": arguments.alpha,
        "power": arguments.power,
        "target": arguments.target,
        "features": features,
        "offset": arguments.offset,
        "hidden": arguments.hidden,
    });
    let arrays: Vec<(&str, &Array)> =
        outcome.parameters.iter().map(|(name, array)| (name.as_str(), array)).collect();
    io::save_described(path, &arrays, &[("cotangent", &model.to_string())])
}

/// The family of the command line, with its link.
fn family(arguments: &Arguments) -> Result<Family, Error> {
    let family = match (arguments.family.as_str(), arguments.alpha, arguments.power) {
        ("negative_binomial", Some(alpha), None) => Family::negative_binomial(alpha)?,
        ("tweedie", None, Some(power)) => Family::tweedie(power)?,
        ("negative_binomial", None, _) => return Err(missing("negative_binomial", "--alpha A")),
        ("tweedie", _, None) => return Err(missing("tweedie", "--power P")),
        (name, alpha, power) => {
            let family = Family::named(name)?;
            for (option, value, own) in
                [("--alpha", alpha, "negative_binomial"), ("--power", power, "tweedie")]
            {
                if value.is_some() && name != own {
                    let message = format!("{option} has no meaning for {name}");
                    return Err(Error::new(Code::Family, "fit", message));
                }
            }
            family
        }
    };
    match &arguments.link {
        Some(link) => family.with_link(Link::named(link)?),
        None => Ok(family.for_regression()),
    }
}

fn missing(family: &str, option: &str) -> Error {
    Error::new(Code::Family, "fit", format!("{family} needs a number of its own"))
        .hint(format!("give `{option}`"))
}

fn check_rate(arguments: &Arguments) -> Result<(), Error> {
    // Whoever gives a number believes that it counts.
    let steps = match arguments.optimizer {
        Some(Choice::Adam | Choice::Sgd) => true,
        Some(Choice::Newton | Choice::Lbfgs) => false,
        None => arguments.hidden.is_some(),
    };
    let unused = [
        ("--learning-rate", arguments.learning_rate.is_some() && !steps, "newton and lbfgs"),
        ("--tolerance", arguments.tolerance.is_some() && steps, "adam and sgd"),
    ];
    for (option, is_unused, methods) in unused {
        if is_unused {
            eprintln!("warning: {option} has no effect on {methods}");
        }
    }
    let positive = [("learning rate", arguments.learning_rate), ("tolerance", arguments.tolerance)];
    for (name, value) in positive {
        if let Some(value) = value
            && !(value > 0.0 && value.is_finite())
        {
            let message = format!("{name} = {value} is not a finite positive number");
            return Err(Error::new(Code::Hyperparameter, "fit", message));
        }
    }
    Ok(())
}

fn check_validation(arguments: &Arguments) -> Result<(), Error> {
    let refuse = |message: &str| Err(Error::new(Code::Hyperparameter, "fit", message));
    match (arguments.validation, arguments.patience) {
        (Some(_), _) if arguments.hidden.is_none() => refuse(
            "--validation has no meaning without --hidden: a linear model is fitted until it has converged",
        ),
        (None, Some(_)) => refuse("--patience has no meaning without --validation"),
        (Some(0.0), Some(_)) => refuse("--patience has no meaning with --validation 0"),
        (_, Some(0)) => refuse("patience = 0 is not a positive number of epochs"),
        _ => Ok(()),
    }
}

fn say(
    arguments: &Arguments,
    family: &Family,
    device: &Device,
    rows: usize,
    outcome: &Outcome,
    seconds: f64,
) -> Result<(), Error> {
    if arguments.json {
        let mut document = json!({
            "family": family.name(),
            "link": family.link().name(),
            "device": device.name(),
            "rows": rows,
            "deviance": report::number(outcome.deviance),
            "null_deviance": report::number(outcome.null_deviance),
            "log_likelihood": report::number(outcome.log_likelihood),
            "intercept": outcome.intercept,
            "coefficients": outcome.coefficients,
            "standard_errors": outcome.standard_errors,
            "z_values": outcome.z_values,
            "dispersion": outcome.dispersion.map(report::number),
            "aic": outcome.aic.map(report::number),
            "converged": outcome.converged,
            "iterations": outcome.iterations,
            "seconds": report::number(seconds),
            "loss_history": report::numbers(&outcome.loss_history),
        });
        if let (Some(validation), Some(keys)) = (&outcome.validation, document.as_object_mut()) {
            keys.insert("validation_rows".to_string(), validation.rows.into());
            keys.insert("validation_deviance".to_string(), report::number(validation.deviance));
            keys.insert("validation_null_deviance".to_string(), report::number(validation.null_deviance));
            keys.insert("validation_history".to_string(), report::numbers(&validation.history));
            keys.insert("best_epoch".to_string(), validation.best_epoch.into());
            keys.insert("stopped_at".to_string(), validation.stopped_at.into());
        }
        return report::line(&document.to_string());
    }
    let converged = if outcome.converged { "converged" } else { "not converged" };
    report::line(&format!(
        "{} with link {}, {rows} rows, on {}: {converged} after {} iterations, {seconds:.3} s",
        family.name(),
        family.link(),
        device.name(),
        outcome.iterations
    ))?;
    report::line(&format!("deviance        {:.10}", outcome.deviance))?;
    report::line(&format!("null deviance   {:.10}", outcome.null_deviance))?;
    report::line(&format!("log-likelihood  {:.10}", outcome.log_likelihood))?;
    if let Some(Validation { rows, deviance, null_deviance, .. }) = &outcome.validation {
        report::line(&format!("validation      {deviance:.10}, null {null_deviance:.10}, of {rows} rows"))?;
    }
    for (name, value) in [("AIC             ", outcome.aic), ("dispersion      ", outcome.dispersion)] {
        if let Some(value) = value {
            report::line(&format!("{name}{value:.10}"))?;
        }
    }
    say_coefficients("", outcome, [&outcome.intercept, &outcome.coefficients, &outcome.standard_errors])
}

/// A table of coefficients; per class for the categorical family.
fn say_coefficients(class: &str, outcome: &Outcome, columns: [&Value; 3]) -> Result<(), Error> {
    let [intercept, coefficients, errors] = columns;
    if let Value::Object(classes) = intercept {
        for (class, intercept) in classes {
            say_coefficients(class, outcome, [intercept, &coefficients[class], &errors[class]])?;
        }
        return Ok(());
    }
    let Value::Object(coefficients) = coefficients else { return Ok(()) };
    let heading = if class.is_empty() { String::new() } else { format!("class {class}") };
    report::line(&format!("{heading:24} {:>16} {:>16} {:>10}", "coefficient", "standard error", "z"))?;
    let z_values = if class.is_empty() { &outcome.z_values } else { &outcome.z_values[class] };
    let lines =
        std::iter::once(("intercept", intercept)).chain(coefficients.iter().map(|(n, v)| (n.as_str(), v)));
    for (name, value) in lines {
        let show = |value: &Value, digits: usize| {
            value.as_f64().map_or_else(|| value.to_string(), |v| format!("{v:.digits$}"))
        };
        let (value, error, z) = (show(value, 8), show(&errors[name], 8), show(&z_values[name], 3));
        report::line(&format!("{name:24} {value:>16} {error:>16} {z:>10}"))?;
    }
    Ok(())
}

/// Names with numbers.
fn named(names: &[String], values: &[f64]) -> Map<String, Value> {
    names.iter().cloned().zip(values.iter().map(|&value| report::number(value))).collect()
}

/// The mean of each row on the reference, from natural parameters of shape `[rows]` or `[rows, classes]`.
fn mean(family: &Family, eta: &[f64], rows: usize) -> Result<Vec<f64>, Error> {
    let tensor = Tensor::new(eta);
    let tensor = if family.is_categorical() {
        tensor.reshape([isize::try_from(rows).unwrap_or(isize::MAX), -1])
    } else {
        tensor
    };
    Ok(Reference::new().evaluate(&[&family.mean(&tensor)])?[0].to_f64())
}

/// Groups of rows of the calibration plot.
const GROUPS: usize = 20;

/// Predictions, calibration and residuals, side by side.
fn draw(
    path: &Path,
    family: &Family,
    problem: &Problem,
    outcome: &Outcome,
    target: &str,
) -> Result<(), Error> {
    let rows = problem.target.len();
    let classes = outcome.mean.len() / rows;
    let predicted: Vec<f64> = outcome
        .mean
        .chunks(classes)
        .map(|means| match family.is_categorical() {
            // The expected class.
            true => means.iter().enumerate().map(|(class, p)| class as f64 * p).sum(),
            false => means[0],
        })
        .collect();
    let points = |values: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        predicted.iter().enumerate().map(|(row, &mean)| (mean, values(row))).collect()
    };
    let weight = |row: usize| problem.weights.as_ref().map_or(1.0, |weights| weights[row]);
    // Means of rows with similar predictions.
    let mut order: Vec<usize> = (0..rows).filter(|&row| weight(row) > 0.0).collect();
    order.sort_by(|&a, &b| predicted[a].total_cmp(&predicted[b]));
    let groups = order.chunks(order.len().div_ceil(GROUPS).max(1)).map(|group| {
        let total: f64 = group.iter().map(|&row| weight(row)).sum();
        let mean_of =
            |values: &[f64]| group.iter().map(|&row| values[row] * weight(row)).sum::<f64>() / total;
        (mean_of(&predicted), mean_of(&problem.target))
    });
    let residuals = &outcome.deviance_residuals;
    let (what, residuals) = match residuals.is_empty() {
        true => ("residual (target − mean)", points(&|row| problem.target[row] - predicted[row])),
        false => ("deviance residual", points(&|row| residuals[row])),
    };
    let title = format!("{} of {target}: {rows} rows", family.name());
    let panel = |title: String, y: String, points: Vec<(f64, f64)>, diagonal: bool| Scatter {
        title,
        x: "predicted mean",
        y,
        points,
        diagonal,
    };
    let panels = [
        panel(title, target.to_string(), points(&|row| problem.target[row]), true),
        panel("calibration".to_string(), format!("mean of {target}"), groups.collect(), true),
        panel("residuals".to_string(), what.to_string(), residuals, false),
    ];
    plot::draw(path, &panels)
}
