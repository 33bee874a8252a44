//! Networks that end in a natural parameter, trained without a loss: backpropagation starts at `η` with
//! `weight · (mean − target) / Σ weight`.

use cotangent::glm::{self, Options, Problem};
use cotangent::{
    Activation, Adam, Array, Code, Device, Error, Family, Key, Link, Mlp, Optimizer, OrError, Reduction, Sgd,
    Step, Tensor, Values, layers, vjp,
};
use serde_json::Value;

use super::{Arguments, Choice, Outcome, Standard, mean};
use crate::report;

/// Rows in the form in which the network sees them.
struct Data {
    rows: usize,
    features: Tensor,
    /// Of the Gaussian family without the offset, centered and scaled.
    target: Tensor,
    weight: Tensor,
    total: f64,
    columns: Vec<Standard>,
    /// `η = shift + unit·output + offset`.
    shift: f64,
    unit: f64,
    /// The offset of the other families, centered.
    offset: Option<Vec<f64>>,
    null: Null,
}

/// The model without features.
struct Null {
    deviance: f64,
    /// What the network starts from, one output each.
    outputs: Vec<f64>,
}

pub(super) fn fit(
    arguments: &Arguments,
    hidden: &[usize],
    device: &Device,
    family: &Family,
    problem: &Problem,
) -> Result<Outcome, Error> {
    let rate = arguments.learning_rate;
    let optimizer: Box<dyn Optimizer> = match arguments.optimizer {
        None | Some(Choice::Adam) => Box::new(Adam::new(rate.unwrap_or(1e-2))),
        Some(Choice::Sgd) => Box::new(Sgd::new(rate.unwrap_or(1e-2)).momentum(0.9)),
        Some(Choice::Newton | Choice::Lbfgs) => {
            let message = "with --hidden the optimizers are adam and sgd";
            return Err(Error::new(Code::Hyperparameter, "fit", message));
        }
    };
    if hidden.contains(&0) {
        return Err(Error::new(Code::Hyperparameter, "fit", "a hidden layer needs at least one unit"));
    }
    let data = prepare(device, family, problem)?;
    let widths = [&[problem.features.len()], hidden, &[data.null.outputs.len()]].concat();
    let network = Mlp::new(&widths, Activation::Tanh);
    let mut initial = network.parameters(Key::new(arguments.seed))?;
    if let Some((_, bias)) = initial.last_mut() {
        *bias = data.null.outputs.clone().into();
    }
    let parameters = device.variables(&layers::named(&initial))?;
    let views = parameters.views();
    let eta = predictor(&network, &views, &data, family);
    let upstream = family.residual(&eta, &data.target) * columns(&data.weight, family) * (1.0 / data.total);
    let gradients = vjp(&[(&eta, &upstream)], &views)?.or_error()?;
    let updates = optimizer.as_ref().attach(device, &parameters)?.updates(&gradients)?;
    // For the progress bar only: training needs no loss.
    let loss = (family.nll(&eta, &data.target, Reduction::None) * &data.weight).sum(..) * (1.0 / data.total);
    let step = Step::new(device, &[], &[&loss], &updates.pairs())?;
    let mut loss_history = train(&step, arguments.epochs.unwrap_or(500))?;
    // Back in the unit of the target.
    loss_history.iter_mut().for_each(|loss| *loss *= data.unit * data.unit);
    let output = device.read(&eta)?.to_f64();
    let values = device.read_all(&views.iter().collect::<Vec<_>>())?;
    let mut saved: Vec<(String, Array)> = initial.into_iter().map(|(name, _)| name).zip(values).collect();
    saved.extend(Standard::arrays(&data.columns));
    saved.push(("target.mean".to_string(), data.shift.into()));
    saved.push(("target.scale".to_string(), data.unit.into()));
    finish(family, problem, &data, &output, loss_history, saved)
}

/// One submission per step; losses are read one step late.
fn train(step: &Step, epochs: usize) -> Result<Vec<f64>, Error> {
    let bar = report::progress(epochs as u64);
    let mut history = Vec::with_capacity(epochs);
    let mut pending = None;
    for epoch in 0..=epochs {
        let next = if epoch < epochs { Some(step.launch(&[])?) } else { None };
        if let Some(outputs) = std::mem::replace(&mut pending, next) {
            let loss: f64 = cotangent::StepOutputs::scalar(&outputs, 0)?;
            if !loss.is_finite() {
                let message = format!("the loss is {loss} after {} steps", history.len());
                return Err(Error::new(Code::Nonfinite, "fit", message).hint("lower the learning rate"));
            }
            history.push(loss);
            bar.set_position(epoch as u64);
            bar.set_message(format!("loss {loss:.6}"));
        }
    }
    bar.finish_and_clear();
    Ok(history)
}

/// Checks the rows, standardizes columns and the Gaussian target; labels become integers.
fn prepare(device: &Device, family: &Family, problem: &Problem) -> Result<Data, Error> {
    problem.check(family)?;
    let rows = problem.target.len();
    if problem.features.is_empty() {
        return Err(Error::new(Code::DataLength, "fit", "there are no features"));
    }
    let weights = problem.weights.clone().unwrap_or_else(|| vec![1.0; rows]);
    let total: f64 = weights.iter().sum();
    let columns: Vec<Standard> = problem.features.iter().map(|(_, values)| Standard::of(values)).collect();
    let mut matrix = Vec::with_capacity(rows * columns.len());
    for row in 0..rows {
        matrix.extend(problem.features.iter().zip(&columns).map(|((_, v), column)| column.apply(v[row])));
    }
    let null = null(device, family, problem, &weights)?;
    let (mut shift, mut unit, mut offset) = (0.0, 1.0, problem.offset.clone());
    let mut target = problem.target.clone();
    if family.link() == Link::Identity && family.name() == "gaussian" {
        if let Some(offset) = offset.take() {
            target.iter_mut().zip(offset).for_each(|(y, o)| *y -= o);
        }
        let standard = Standard::of(&target);
        target.iter_mut().for_each(|y| *y = standard.apply(*y));
        (shift, unit) = (standard.mean, standard.scale);
    } else if let Some(offset) = &mut offset {
        // Its mean is part of the last bias.
        let standard = Standard::of(offset);
        offset.iter_mut().for_each(|o| *o -= standard.mean);
        shift = -standard.mean;
    }
    let outputs = null.outputs.iter().map(|eta| (eta - shift) / unit);
    Ok(Data {
        rows,
        features: Tensor::new(Array::new(Values::Float(matrix), [rows, columns.len()])?),
        target: if family.is_categorical() { labels(&target) } else { Tensor::new(target) },
        weight: Tensor::new(weights),
        total,
        null: Null { outputs: outputs.collect(), ..null },
        columns,
        shift,
        unit,
        offset,
    })
}

/// Whole numbers that were checked.
fn labels(target: &[f64]) -> Tensor {
    Tensor::new(target.iter().map(|&y| y as i32).collect::<Vec<i32>>())
}

/// Intercepts only.
fn null(device: &Device, family: &Family, problem: &Problem, weights: &[f64]) -> Result<Null, Error> {
    if !family.is_categorical() {
        let bare = Problem { features: Vec::new(), ..problem.clone() };
        let fit = glm::fit(device, family, &bare, &Options::default(), &mut |_, _| {})?;
        let outputs = fit.predictors.iter().map(|predictor| predictor.intercept).collect();
        return Ok(Null { deviance: fit.null_deviance, outputs });
    }
    let mut shares: Vec<f64> = Vec::new();
    for (&y, weight) in problem.target.iter().zip(weights) {
        let class = y as usize;
        shares.resize(shares.len().max(class + 1), 0.0);
        shares[class] += weight;
    }
    let total: f64 = shares.iter().sum();
    let terms = shares.iter().filter(|&&share| share > 0.0).map(|share| share * (share / total).ln());
    let deviance = -2.0 * terms.sum::<f64>();
    // A class whose rows have no weight starts as if it had half a row.
    let outputs = shares.iter().map(|share| (share.max(0.5) / total).ln()).collect();
    Ok(Null { deviance, outputs })
}

/// A weight per row, beside natural parameters of the family.
fn columns(weight: &Tensor, family: &Family) -> Tensor {
    if family.is_categorical() { weight.unsqueeze(-1) } else { weight.clone() }
}

/// `η` in the unit in which it is computed, of shape `[rows]` or `[rows, classes]`.
fn predictor(network: &Mlp, views: &[Tensor], data: &Data, family: &Family) -> Tensor {
    let output = network.forward(views, &data.features);
    let eta = if family.is_categorical() { output } else { output.squeeze(-1) };
    match &data.offset {
        Some(offset) => eta + Tensor::new(offset.clone()),
        None => eta,
    }
}

/// Statistics in f64 on the reference.
fn finish(
    family: &Family,
    problem: &Problem,
    data: &Data,
    output: &[f64],
    loss_history: Vec<f64>,
    parameters: Vec<(String, Array)>,
) -> Result<Outcome, Error> {
    let is_gaussian = family.link() == Link::Identity && family.name() == "gaussian";
    let mut eta = output.to_vec();
    if is_gaussian {
        eta.iter_mut().for_each(|eta| *eta = *eta * data.unit + data.shift);
        if let Some(offset) = &problem.offset {
            eta.iter_mut().zip(offset).for_each(|(eta, o)| *eta += o);
        }
    }
    let shape: &[usize] =
        if family.is_categorical() { &[data.rows, data.null.outputs.len()] } else { &[data.rows] };
    let eta_tensor = Tensor::new(Array::new(Values::Float(eta.clone()), shape)?);
    let target =
        if family.is_categorical() { labels(&problem.target) } else { Tensor::new(problem.target.clone()) };
    let glm::Assessment { deviance, log_likelihood, residuals, .. } =
        glm::assess(family, &eta_tensor, &target, &data.weight, 0)?;
    for (what, value) in [("deviance", deviance), ("null deviance", data.null.deviance)] {
        if !value.is_finite() {
            return Err(Error::new(Code::Nonfinite, "fit", format!("the {what} is {value}")));
        }
    }
    Ok(Outcome {
        deviance,
        null_deviance: data.null.deviance,
        log_likelihood,
        intercept: Value::Null,
        coefficients: Value::Null,
        standard_errors: Value::Null,
        z_values: Value::Null,
        dispersion: None,
        aic: None,
        deviance_residuals: residuals,
        // Training runs for a fixed number of epochs and claims nothing.
        converged: false,
        iterations: loss_history.len(),
        loss_history,
        mean: mean(family, &eta, problem.target.len())?,
        parameters,
    })
}
