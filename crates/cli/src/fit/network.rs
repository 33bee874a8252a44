//! Networks that end in a natural parameter, trained without a loss: backpropagation starts at `η` with
//! `weight · (mean − target) / Σ weight`.

use cotangent::glm::{self, Options, Problem};
use cotangent::{
    Activation, Adam, Array, Code, Device, Error, Family, Key, Link, Mlp, Optimizer, OrError, Reduction, Sgd,
    Step, StepOutputs, Tensor, Values, layers, vjp, where_,
};
use serde_json::Value;

use super::{Arguments, Choice, Outcome, Standard, Validation, mean, split};
use crate::report;

/// How rows become what the network sees; learned from the rows that train.
struct Scales {
    columns: Vec<Standard>,
    /// `η = shift + unit·output + offset`.
    shift: f64,
    unit: f64,
    /// Taken from the offset.
    center: f64,
    null: Null,
}

/// The model without features.
struct Null {
    /// Of all rows.
    deviance: f64,
    intercepts: Vec<f64>,
    /// What the network starts from, one output each.
    outputs: Vec<f64>,
}

/// Rows in the form in which the network sees them.
#[derive(Clone)]
struct Part {
    features: Tensor,
    /// Of the Gaussian family without the offset, centered and scaled.
    target: Tensor,
    weight: Tensor,
    total: f64,
    /// The offset of the other families, centered.
    offset: Option<Vec<f64>>,
}

pub(super) fn fit(
    arguments: &Arguments,
    hidden: &[usize],
    device: &Device,
    family: &Family,
    problem: &Problem,
) -> Result<Outcome, Error> {
    let optimizer = optimizer(arguments)?;
    if hidden.contains(&0) {
        return Err(Error::new(Code::Hyperparameter, "fit", "a hidden layer needs at least one unit"));
    }
    problem.check(family)?;
    let (training, unseen) = split::parts(problem, arguments.validation.unwrap_or(0.0), arguments.seed)?;
    let scales = prepare(device, family, problem, &training)?;
    let all = part(family, problem, &scales)?;
    let (training, unseen) = match &unseen {
        None => (all.clone(), None),
        Some(rows) => {
            let unseen = part(family, &split::subset(problem, rows), &scales)?;
            (part(family, &training, &scales)?, Some((rows, unseen)))
        }
    };
    let widths = [&[problem.features.len()], hidden, &[scales.null.outputs.len()]].concat();
    let network = Mlp::new(&widths, Activation::Tanh);
    let mut initial = network.parameters(Key::new(arguments.seed))?;
    if let Some((_, bias)) = initial.last_mut() {
        *bias = scales.null.outputs.clone().into();
    }
    let parameters = device.variables(&layers::named(&initial))?;
    let views = parameters.views();
    let eta = predictor(&network, &views, &training, family);
    let upstream = weighted(&family.residual(&eta, &training.target), &columns(&training.weight, family))
        / training.total;
    let gradients = vjp(&[(&eta, &upstream)], &views)?.or_error()?;
    let updates = optimizer.as_ref().attach(device, &parameters)?.updates(&gradients)?;
    // For the progress bar, and for the decision when to stop: training needs no loss.
    let mut outputs = vec![loss(family, &eta, &training)];
    if let Some((_, unseen)) = &unseen {
        outputs.push(loss(family, &predictor(&network, &views, unseen, family), unseen));
        outputs.push(parameters.flat().tensor().clone());
    }
    let step = Step::new(device, &[], &outputs.iter().collect::<Vec<_>>(), &updates.pairs())?;
    let epochs = arguments.epochs.unwrap_or(500);
    let mut run = train(&step, epochs, unseen.is_some(), arguments.patience)?;
    // Back in the unit of the target.
    run.losses.iter_mut().chain(&mut run.unseen).for_each(|loss| *loss *= scales.unit * scales.unit);
    if let Some(outputs) = &run.best {
        device.write(parameters.flat().tensor(), &outputs.read(2)?.to_f64())?;
    }
    let output = device.read(&predictor(&network, &views, &all, family))?.to_f64();
    let values = device.read_all(&views.iter().collect::<Vec<_>>())?;
    let mut saved: Vec<(String, Array)> = initial.into_iter().map(|(name, _)| name).zip(values).collect();
    saved.extend(Standard::arrays(&scales.columns));
    saved.push(("target.mean".to_string(), scales.shift.into()));
    saved.push(("target.scale".to_string(), scales.unit.into()));
    let eta = in_unit_of_target(family, problem, &scales, output);
    let validation = match &unseen {
        None => None,
        Some((rows, _)) => Some(judge(family, problem, &scales, rows, &eta, &run)?),
    };
    finish(family, problem, &scales, &eta, run.losses, validation, saved)
}

fn optimizer(arguments: &Arguments) -> Result<Box<dyn Optimizer>, Error> {
    let rate = arguments.learning_rate.unwrap_or(1e-2);
    match arguments.optimizer {
        None | Some(Choice::Adam) => Ok(Box::new(Adam::new(rate))),
        Some(Choice::Sgd) => Ok(Box::new(Sgd::new(rate).momentum(0.9))),
        Some(Choice::Newton | Choice::Lbfgs) => {
            let message = "with --hidden the optimizers are adam and sgd";
            Err(Error::new(Code::Hyperparameter, "fit", message))
        }
    }
}

/// Weighted mean of the negative log-likelihood.
fn loss(family: &Family, eta: &Tensor, part: &Part) -> Tensor {
    weighted(&family.nll(eta, &part.target, Reduction::None), &part.weight).sum(..) / part.total
}

/// What training has come to.
struct Run {
    /// Before each update.
    losses: Vec<f64>,
    /// Of the rows that do not train, before each update and after the last.
    unseen: Vec<f64>,
    /// The outputs of the step that began with the best parameters, and how many updates they had seen.
    best: Option<StepOutputs>,
    best_epoch: usize,
}

/// One submission per step; losses are read one step late.
fn train(step: &Step, epochs: usize, validates: bool, patience: Option<usize>) -> Result<Run, Error> {
    let bar = report::progress(epochs as u64);
    let mut run = Run { losses: Vec::new(), unseen: Vec::new(), best: None, best_epoch: 0 };
    // Outputs are those of the parameters before the update, so the last ones are judged by a step more. What that changes is
    // undone with the choice of the best.
    let launches = epochs.saturating_add(usize::from(validates));
    let mut least = f64::INFINITY;
    let mut pending = None;
    for launch in 0..=launches {
        let next = if launch < launches { Some(step.launch(&[])?) } else { None };
        let Some(outputs) = std::mem::replace(&mut pending, next) else { continue };
        let epoch = launch - 1;
        let loss = outputs.scalar(0)?;
        if !loss.is_finite() {
            let message = format!("the loss is {loss} after {epoch} steps");
            return Err(Error::new(Code::Nonfinite, "fit", message).hint("lower the learning rate"));
        }
        if validates {
            let unseen = outputs.scalar(1)?;
            run.unseen.push(unseen);
            if unseen < least {
                (least, run.best, run.best_epoch) = (unseen, Some(outputs), epoch);
            }
            if patience.is_some_and(|patience| epoch - run.best_epoch >= patience) {
                break;
            }
        }
        if epoch < epochs {
            run.losses.push(loss);
        }
        bar.set_position(epoch as u64 + 1);
        bar.set_message(format!("loss {loss:.6}"));
    }
    bar.finish_and_clear();
    if validates && run.best.is_none() {
        let message = "the loss of the validation rows is never a finite number";
        return Err(Error::new(Code::Nonfinite, "fit", message));
    }
    Ok(run)
}

/// Standards of the rows that train, and the model without features.
fn prepare(device: &Device, family: &Family, problem: &Problem, training: &Problem) -> Result<Scales, Error> {
    if problem.features.is_empty() {
        return Err(Error::new(Code::DataLength, "fit", "there are no features"));
    }
    let columns = training.features.iter().map(|(_, values)| Standard::of(values)).collect();
    let (deviance, mut intercepts) = null(device, family, problem)?;
    if training.target.len() < problem.target.len() {
        let classes = intercepts.len();
        intercepts = null(device, family, training)?.1;
        // A class that only validation rows have starts as if it had half a row.
        let total: f64 = split::weights(training).iter().sum();
        intercepts.resize(classes, (0.5 / total).ln());
    }
    let (mut shift, mut unit, mut center) = (0.0, 1.0, 0.0);
    if is_scaled(family) {
        let standard = Standard::of(&without_offset(training));
        (shift, unit) = (standard.mean, standard.scale);
    } else if let Some(offset) = &training.offset {
        // Its mean is part of the last bias.
        center = Standard::of(offset).mean;
        shift = -center;
    }
    let outputs = intercepts.iter().map(|eta| (eta - shift) / unit).collect();
    Ok(Scales { columns, shift, unit, center, null: Null { deviance, intercepts, outputs } })
}

/// Whether the target is measured in standard deviations: means of the Gaussian family have any unit.
fn is_scaled(family: &Family) -> bool {
    family.link() == Link::Identity && family.name() == "gaussian"
}

fn without_offset(problem: &Problem) -> Vec<f64> {
    match &problem.offset {
        None => problem.target.clone(),
        Some(offset) => problem.target.iter().zip(offset).map(|(y, o)| y - o).collect(),
    }
}

/// Standardizes columns and the Gaussian target; labels become integers.
fn part(family: &Family, problem: &Problem, scales: &Scales) -> Result<Part, Error> {
    let rows = problem.target.len();
    let mut matrix = Vec::with_capacity(rows * scales.columns.len());
    for row in 0..rows {
        let columns = problem.features.iter().zip(&scales.columns);
        matrix.extend(columns.map(|((_, v), column)| column.apply(v[row])));
    }
    let weights = split::weights(problem);
    let (target, offset) = if is_scaled(family) {
        let standard = Standard { mean: scales.shift, scale: scales.unit };
        (without_offset(problem).into_iter().map(|y| standard.apply(y)).collect(), None)
    } else {
        let centered = |offset: &Vec<f64>| offset.iter().map(|o| o - scales.center).collect();
        (problem.target.clone(), problem.offset.as_ref().map(centered))
    };
    Ok(Part {
        features: Tensor::new(Array::new(Values::Float(matrix), [rows, scales.columns.len()])?),
        target: if family.is_categorical() { labels(&target) } else { Tensor::new(target) },
        total: weights.iter().sum(),
        weight: Tensor::new(weights),
        offset,
    })
}

/// Whole numbers that were checked.
fn labels(target: &[f64]) -> Tensor {
    Tensor::new(target.iter().map(|&y| y as i32).collect::<Vec<i32>>())
}

/// Deviance and intercepts of the model that has nothing else.
fn null(device: &Device, family: &Family, problem: &Problem) -> Result<(f64, Vec<f64>), Error> {
    if !family.is_categorical() {
        let bare = Problem { features: Vec::new(), ..problem.clone() };
        let fit = glm::fit(device, family, &bare, &Options::default(), &mut |_, _| {})?;
        return Ok((fit.null_deviance, fit.predictors.iter().map(|predictor| predictor.intercept).collect()));
    }
    let mut shares: Vec<f64> = Vec::new();
    for (&y, weight) in problem.target.iter().zip(split::weights(problem)) {
        let class = y as usize;
        shares.resize(shares.len().max(class + 1), 0.0);
        shares[class] += weight;
    }
    let total: f64 = shares.iter().sum();
    let terms = shares.iter().filter(|&&share| share > 0.0).map(|share| share * (share / total).ln());
    let deviance = -2.0 * terms.sum::<f64>();
    // A class whose rows have no weight starts as if it had half a row.
    Ok((deviance, shares.iter().map(|share| (share.max(0.5) / total).ln()).collect()))
}

/// What a row of weight 0 has is not there, even if it is no number.
fn weighted(values: &Tensor, weight: &Tensor) -> Tensor {
    where_(&weight.ne(0.0), values * weight, 0.0)
}

/// A weight per row, beside natural parameters of the family.
fn columns(weight: &Tensor, family: &Family) -> Tensor {
    if family.is_categorical() { weight.unsqueeze(-1) } else { weight.clone() }
}

/// `η` in the unit in which it is computed, of shape `[rows]` or `[rows, classes]`.
fn predictor(network: &Mlp, views: &[Tensor], part: &Part, family: &Family) -> Tensor {
    let output = network.forward(views, &part.features);
    let eta = if family.is_categorical() { output } else { output.squeeze(-1) };
    match &part.offset {
        Some(offset) => eta + Tensor::new(offset.clone()),
        None => eta,
    }
}

/// Predictors of all rows from outputs of the network, with the offset.
fn in_unit_of_target(family: &Family, problem: &Problem, scales: &Scales, mut eta: Vec<f64>) -> Vec<f64> {
    if is_scaled(family) {
        eta.iter_mut().for_each(|eta| *eta = *eta * scales.unit + scales.shift);
        if let Some(offset) = &problem.offset {
            eta.iter_mut().zip(offset).for_each(|(eta, o)| *eta += o);
        }
    }
    eta
}

/// Statistics of predictors, one or one per class for each row, in f64 on the reference.
fn assess(family: &Family, problem: &Problem, eta: &[f64]) -> Result<glm::Assessment, Error> {
    let rows = problem.target.len();
    let shape: &[usize] = if family.is_categorical() { &[rows, eta.len() / rows] } else { &[rows] };
    let eta = Tensor::new(Array::new(Values::Float(eta.to_vec()), shape)?);
    let target =
        if family.is_categorical() { labels(&problem.target) } else { Tensor::new(problem.target.clone()) };
    glm::assess(family, &eta, &target, &Tensor::new(split::weights(problem)), 0)
}

fn finite(what: &str, value: f64) -> Result<f64, Error> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::new(Code::Nonfinite, "fit", format!("the {what} is {value}")))
}

/// How well the best parameters, and the model without features, predict rows that neither has seen.
fn judge(
    family: &Family,
    problem: &Problem,
    scales: &Scales,
    rows: &[usize],
    eta: &[f64],
    run: &Run,
) -> Result<Validation, Error> {
    let classes = scales.null.intercepts.len();
    let eta: Vec<f64> = rows.iter().flat_map(|row| &eta[row * classes..][..classes]).copied().collect();
    let offset = |row: &usize| problem.offset.as_ref().map_or(0.0, |offset| offset[*row]);
    let null = |row| scales.null.intercepts.iter().map(move |intercept| intercept + offset(row));
    let null: Vec<f64> = rows.iter().flat_map(null).collect();
    let unseen = split::subset(problem, rows);
    Ok(Validation {
        rows: rows.len(),
        deviance: finite("deviance of the validation rows", assess(family, &unseen, &eta)?.deviance)?,
        null_deviance: assess(family, &unseen, &null)?.deviance,
        history: run.unseen.clone(),
        best_epoch: run.best_epoch,
        stopped_at: run.losses.len(),
    })
}

fn finish(
    family: &Family,
    problem: &Problem,
    scales: &Scales,
    eta: &[f64],
    loss_history: Vec<f64>,
    validation: Option<Validation>,
    parameters: Vec<(String, Array)>,
) -> Result<Outcome, Error> {
    let glm::Assessment { deviance, log_likelihood, residuals, .. } = assess(family, problem, eta)?;
    Ok(Outcome {
        deviance: finite("deviance", deviance)?,
        null_deviance: finite("null deviance", scales.null.deviance)?,
        log_likelihood,
        intercept: Value::Null,
        coefficients: Value::Null,
        standard_errors: Value::Null,
        z_values: Value::Null,
        dispersion: None,
        aic: None,
        deviance_residuals: residuals,
        // Training runs for a number of epochs, or while it helps, and claims nothing.
        converged: false,
        iterations: loss_history.len(),
        loss_history,
        validation,
        mean: mean(family, eta, problem.target.len())?,
        parameters,
    })
}
