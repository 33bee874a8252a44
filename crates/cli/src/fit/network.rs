//! Networks that end in a natural parameter, trained without a loss: backpropagation starts at `η` with
//! `weight · (mean − target) / Σ weight`.

use cotangent::glm::Problem;
use cotangent::{
    Activation, Adam, Array, Code, DType, Device, Error, Evaluate, Family, Initial, Key, Link, Mlp,
    Optimizer, Reduction, Reference, Sgd, Step, Tensor, Values, vjp,
};
use serde_json::Value;

use super::{Arguments, Choice, Outcome, mean};
use crate::report;

/// Rows in the form in which the network sees them.
struct Data {
    rows: usize,
    features: Tensor,
    target: Tensor,
    weight: Tensor,
    total: f64,
    outputs: usize,
    means: Vec<f64>,
    scales: Vec<f64>,
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
    let data = prepare(family, problem)?;
    let widths = [&[problem.features.len()], hidden, &[data.outputs]].concat();
    let network = Mlp::new(&widths, Activation::Tanh);
    let initial = network.parameters(Key::new(arguments.seed))?;
    let named: Vec<(&str, &dyn Initial)> =
        initial.iter().map(|(name, value)| (name.as_str(), value as &dyn Initial)).collect();
    let parameters = device.variables(&named)?;
    let views = parameters.views();
    let eta = predictor(&network, &views, &data, problem, family);
    let upstream = family.residual(&eta, &data.target) * columns(&data.weight, family) * (1.0 / data.total);
    let gradients = vjp(&[(&eta, &upstream)], &views)?;
    let gradients: Vec<Tensor> = gradients.iter().map(|g| g.or_error()).collect::<Result<_, _>>()?;
    let flat = parameters.flat();
    let state = optimizer.state(flat.shape())?;
    let slots = state.iter().map(|(name, value)| Ok(device.variable(name, value)?.tensor().clone()));
    let slots: Vec<Tensor> = slots.collect::<Result<_, Error>>()?;
    let updates = optimizer.updates(flat, &parameters.flatten(&gradients), &slots)?;
    let updates: Vec<(&Tensor, &Tensor)> = updates.iter().map(|(old, new)| (old, new)).collect();
    // For the progress bar only: training needs no loss.
    let loss = (family.nll(&eta, &data.target, Reduction::None) * &data.weight).sum(..) * (1.0 / data.total);
    let step = Step::new(device, &[], &[&loss], &updates)?;
    let loss_history = train(&step, arguments.epochs.unwrap_or(500))?;
    let eta = device.read(&eta)?.to_f64();
    let values = device.read_all(&views.iter().collect::<Vec<_>>())?;
    let mut saved: Vec<(String, Array)> = initial.into_iter().map(|(name, _)| name).zip(values).collect();
    saved.push(("features.mean".to_string(), data.means.clone().into()));
    saved.push(("features.scale".to_string(), data.scales.clone().into()));
    finish(family, problem, &data, &eta, loss_history, saved)
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

/// Standardizes columns; labels become integers.
fn prepare(family: &Family, problem: &Problem) -> Result<Data, Error> {
    let rows = problem.target.len();
    if rows == 0 || problem.features.is_empty() {
        return Err(Error::new(Code::DataLength, "fit", "there are no rows or no features"));
    }
    let weights = problem.weights.clone().unwrap_or_else(|| vec![1.0; rows]);
    let total: f64 = weights.iter().sum();
    if total.is_nan() || total <= 0.0 || weights.iter().any(|&w| w < 0.0) {
        return Err(Error::new(Code::Hyperparameter, "fit", "weights must not be negative, nor all zero"));
    }
    let (mut means, mut scales) = (Vec::new(), Vec::new());
    for (_, values) in &problem.features {
        let mean = values.iter().sum::<f64>() / rows as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64;
        means.push(mean);
        scales.push(if variance > 0.0 { variance.sqrt() } else { 1.0 });
    }
    let mut matrix = Vec::with_capacity(rows * means.len());
    for row in 0..rows {
        let columns = problem.features.iter().zip(means.iter().zip(&scales));
        matrix.extend(columns.map(|((_, values), (mean, scale))| (values[row] - mean) / scale));
    }
    let (target, outputs) = match family.link() {
        Link::Softmax => {
            let wrong = problem.target.iter().position(|y| !(0.0..1e6).contains(y) || y.fract() != 0.0);
            if let Some(row) = wrong {
                let message =
                    format!("the target is {} in row {row} (from 0), no class", problem.target[row]);
                return Err(Error::new(Code::Family, "fit", message));
            }
            let labels: Vec<i32> = problem.target.iter().map(|&y| y as i32).collect();
            let classes = labels.iter().max().map_or(1, |&most| most as usize + 1);
            (Tensor::new(labels), classes)
        }
        Link::Identity | Link::Log | Link::Logit | Link::Canonical => {
            (Tensor::new(problem.target.clone()), 1)
        }
    };
    Ok(Data {
        rows,
        features: Tensor::new(Array::new(Values::Float(matrix), [rows, means.len()])?),
        target,
        weight: Tensor::new(weights),
        total,
        outputs,
        means,
        scales,
    })
}

/// A weight per row, beside natural parameters of the family.
fn columns(weight: &Tensor, family: &Family) -> Tensor {
    if family.is_categorical() { weight.unsqueeze(-1) } else { weight.clone() }
}

/// `η`, of shape `[rows]` or `[rows, classes]`.
fn predictor(network: &Mlp, views: &[Tensor], data: &Data, problem: &Problem, family: &Family) -> Tensor {
    let output = network.forward(views, &data.features);
    let eta = if family.is_categorical() { output } else { output.squeeze(-1) };
    match &problem.offset {
        Some(offset) => eta + columns(&Tensor::new(offset.clone()), family),
        None => eta,
    }
}

/// Statistics in f64 on the reference.
fn finish(
    family: &Family,
    problem: &Problem,
    data: &Data,
    eta: &[f64],
    loss_history: Vec<f64>,
    parameters: Vec<(String, Array)>,
) -> Result<Outcome, Error> {
    let shape: &[usize] = if family.is_categorical() { &[data.rows, data.outputs] } else { &[data.rows] };
    let eta_tensor = Tensor::new(Array::new(Values::Float(eta.to_vec()), shape)?);
    let weighted = |tensor: Tensor| (tensor * &data.weight).sum(..);
    let nll = weighted(family.nll(&eta_tensor, &data.target, Reduction::None));
    let is_categorical = family.is_categorical();
    let deviance_of = |mean: &Tensor| {
        if is_categorical {
            2.0 * weighted(mean.log().cross_entropy(&data.target))
        } else {
            weighted(family.deviance(&data.target, mean))
        }
    };
    let deviance = if is_categorical { 2.0 * &nll } else { deviance_of(&family.mean(&eta_tensor)) };
    let target =
        if is_categorical { data.target.one_hot(data.outputs) } else { data.target.cast(DType::F32) };
    let share = (target * columns(&data.weight, family)).sum(0) * (1.0 / data.total);
    let null =
        if is_categorical { share.unsqueeze(0).broadcast_to([data.rows, data.outputs]) } else { share };
    let gammas = match family.link() {
        Link::Log => weighted((data.target.clone() + 1.0).lgamma()),
        Link::Identity | Link::Logit | Link::Softmax | Link::Canonical => Tensor::new(0.0),
    };
    let values = Reference::new().evaluate(&[&nll, &deviance, &deviance_of(&null), &gammas])?;
    let [nll, deviance, null_deviance, gammas] = [0, 1, 2, 3].map(|i: usize| values[i].scalar());
    let (nll, deviance, gammas) = (nll?, deviance?, gammas?);
    let log_likelihood = match family.link() {
        Link::Identity => -0.5 * data.total * ((std::f64::consts::TAU * deviance / data.total).ln() + 1.0),
        Link::Log | Link::Logit | Link::Softmax | Link::Canonical => -nll - gammas,
    };
    Ok(Outcome {
        deviance,
        null_deviance: null_deviance?,
        log_likelihood,
        intercept: Value::Null,
        coefficients: Value::Null,
        standard_errors: Value::Null,
        // Training runs for a fixed number of epochs and claims nothing.
        converged: false,
        iterations: loss_history.len(),
        loss_history,
        mean: mean(family, eta, problem.target.len())?,
        parameters,
    })
}
