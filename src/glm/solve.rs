//! The search for the maximum, and the statistics at it.

use cotangent_device::{Device, Step};
use cotangent_tensor::{Array, Code, Error, Evaluate, Reference, Tensor, Values};

use super::assess::{Assessment, Scale, assess_with};
use super::design::{Design, largest};
use super::linear::Cholesky;
use super::model::{Model, Observations, Sweep};
use super::{Fit, Method, Options, Predictor, Problem, check, classes};
use crate::families::{Family, Link};
use crate::optimizers::{Adam, Lbfgs, Optimizer, Sgd};

/// Information beside the largest below which a direction has none: the likelihood grows along it for ever.
const NO_INFORMATION: f64 = 1e-9;
/// Mean negative log-likelihood of classes that are predicted perfectly.
const PERFECT: f64 = 1e-6;
/// Sweeps in f64 at the end. Enough for a maximum at infinity to show: each step goes one unit towards it.
const POLISH: usize = 25;
/// The decrement, per row, at which f64 has nothing left to correct: a gradient of √(1e-28) is near its own rounding.
pub(super) const POLISHED: f64 = 1e-28;
/// A search that ends within a tenth of a standard error, in every direction, has found the maximum; f64 does the rest.
const NEAR: f64 = 0.1;
/// The step of Newton's method at the end, in standard errors.
const ARRIVED: f64 = 1e-4;
/// Classes and parameters at most: pairs of classes are nodes of the graph, pairs of parameters are the information.
const MAX_CLASSES: usize = 128;
const MAX_PARAMETERS: usize = 4096;

/// A problem made ready: columns transformed, the Gaussian target centered and scaled.
#[derive(Debug)]
pub(super) struct Fitter<'a> {
    family: &'a Family,
    problem: &'a Problem,
    /// Which rows have a weight; the others are not among [`Fitter::rows`].
    counted: Vec<bool>,
    design: Design,
    rows: Observations,
    total: f64,
    /// Of the intercept: what the computed one lacks. Of the Gaussian target: the unit.
    shift: f64,
    unit: f64,
}

/// Where a search stands.
#[derive(Clone, Debug)]
struct State {
    gamma: Vec<f64>,
    sweep: Sweep,
    iterations: usize,
    history: Vec<f64>,
    /// Whether the search ended by itself.
    ended: bool,
}

type Evaluation<'a> = dyn FnMut(&[f64]) -> Result<Sweep, Error> + 'a;

impl<'a> Fitter<'a> {
    pub(super) fn new(family: &'a Family, problem: &'a Problem) -> Result<Fitter<'a>, Error> {
        check(family, problem)?;
        let classes = if family.is_categorical() { classes(&problem.target)? - 1 } else { 1 };
        let parameters = classes.saturating_mul(problem.features.len() + 1);
        if classes > MAX_CLASSES || parameters > MAX_PARAMETERS {
            let message = format!(
                "{parameters} parameters for {classes} predictors; {MAX_PARAMETERS} and {MAX_CLASSES} are the most"
            );
            return Err(Error::new(Code::Limit, "glm", message).hint("leave columns out, or train a network"));
        }
        // Rows without weight are left out: neither their size nor where their mean would be has a say.
        let weights = problem.weights.clone().unwrap_or_else(|| vec![1.0; problem.target.len()]);
        let counted: Vec<bool> = weights.iter().map(|&weight| weight > 0.0).collect();
        let kept = |values: &Vec<f64>| -> Vec<f64> {
            values.iter().zip(&counted).filter(|(_, counts)| **counts).map(|(value, _)| *value).collect()
        };
        let (target, offset) = (kept(&problem.target), problem.offset.as_ref().map(kept));
        let features = problem.features.iter().map(|(name, values)| (name.clone(), kept(values))).collect();
        let weights = kept(&weights);
        let total: f64 = weights.iter().sum();
        let part = Problem { features, target, ..Problem::default() };
        let design = Design::new(&part, &weights)?;
        let mut rows = Observations { target: part.target, weights, offset, classes };
        let weighted =
            |values: &[f64]| values.iter().zip(&rows.weights).map(|(v, w)| v * w).sum::<f64>() / total;
        let (mut shift, mut unit) = (0.0, 1.0);
        if family.is_least_squares() {
            // The offset moves into the target; what is left has mean 0 and size 1, so that f32 keeps its digits.
            if let Some(offset) = rows.offset.take() {
                rows.target.iter_mut().zip(offset).for_each(|(y, o)| *y -= o);
            }
            // In units of the largest: squares of 1e200 are no numbers.
            let size = largest(&rows.target);
            let size = if size > 0.0 { size } else { 1.0 };
            rows.target.iter_mut().for_each(|y| *y /= size);
            let mean = weighted(&rows.target);
            rows.target.iter_mut().for_each(|y| *y -= mean);
            let deviation = weighted(&rows.target.iter().map(|y| y * y).collect::<Vec<f64>>()).sqrt();
            let deviation = if deviation > 0.0 { deviation } else { 1.0 };
            rows.target.iter_mut().for_each(|y| *y /= deviation);
            (shift, unit) = (mean * size, deviation * size);
        } else if let Some(offset) = &mut rows.offset {
            // The mean of the offset moves into the intercept.
            let mean = weighted(offset);
            offset.iter_mut().for_each(|o| *o -= mean);
            shift = -mean;
        }
        Ok(Fitter { family, problem, counted, design, rows, total, shift, unit })
    }

    /// On a device; without one on the reference.
    pub(super) fn fit(
        &self,
        device: Option<&Device>,
        options: &Options,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<Fit, Error> {
        let gamma = Model::input(&self.design, self.rows.classes);
        let model = Model::new(self.family, &self.design, &self.rows, &gamma)?;
        let start = self.start()?;
        let found = match (options.method, device) {
            (Method::Newton | Method::Lbfgs, Some(device)) => {
                let step = Step::new(device, &[&gamma], &model.outputs(), &[])?;
                let mut rows = |gamma: &[f64]| {
                    let outputs = step.run(&[(&model.gamma, &model.by_column(gamma))])?;
                    let values: Result<Vec<Array>, Error> =
                        (0..model.outputs().len()).map(|i| outputs.read(i)).collect();
                    model.sweep(&values?)
                };
                self.search(start, options, &mut rows, progress)?
            }
            (Method::Newton | Method::Lbfgs, None) => {
                self.search(start, options, &mut |gamma| exact(&model, gamma), progress)?
            }
            (Method::Adam | Method::Sgd, device) => {
                let Some(device) = device else {
                    return Err(Error::new(Code::Feature, "glm", "Adam and gradient descent need a device"));
                };
                self.descend(device, start, options, progress)?
            }
        };
        self.finish(&model, found)
    }

    /// The intercept that gives the mean of the targets; no effect of any column.
    fn start(&self) -> Result<Vec<f64>, Error> {
        let Fitter { rows, total, design, .. } = self;
        let mean = rows.target.iter().zip(&rows.weights).map(|(y, w)| y * w).sum::<f64>() / total;
        let mut gamma = vec![0.0; design.width() * rows.classes];
        if !self.family.is_categorical() {
            let predictor = self.family.predictor_of(mean)?;
            if !predictor.is_finite() {
                let is_constant = rows.target.iter().all(|y| *y == rows.target[0]);
                let what =
                    if is_constant { "all targets are" } else { "no predictor has the mean of the targets," };
                return Err(diverges(&format!("{what} {mean}")));
            }
            gamma[0] = predictor - self.exposed(predictor);
            return Ok(gamma);
        }
        let mut shares = vec![0.0; rows.classes + 1];
        for (&y, w) in rows.target.iter().zip(&rows.weights) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a checked label")]
            let class = y as usize;
            shares[class] += w;
        }
        if let Some(class) = shares.iter().position(|&share| share <= 0.0) {
            return Err(diverges(&format!("no target is {class}")));
        }
        for class in 0..rows.classes {
            gamma[class * design.width()] = (shares[class + 1] / shares[0]).ln();
        }
        Ok(gamma)
    }

    /// What offsets take from the intercept: by links whose predictors are positive no row may start below that of the mean.
    fn exposed(&self, predictor: f64) -> f64 {
        let lowest =
            self.rows.offset.iter().flatten().copied().fold(0.0, |least: f64, offset| least.min(offset));
        match self.family.link() {
            Link::Log => self.exposure(),
            Link::Identity | Link::Inverse | Link::InverseSquared | Link::Power(_)
                if self.family.has_positive_means() && predictor + lowest <= 0.0 =>
            {
                lowest
            }
            _ => 0.0,
        }
    }

    /// log of the weighted mean of e^offset: what an offset adds to the mean of the targets.
    fn exposure(&self) -> f64 {
        let Some(offset) = &self.rows.offset else { return 0.0 };
        let most = offset.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let terms = offset.iter().zip(&self.rows.weights).map(|(o, w)| w * (o - most).exp());
        (terms.sum::<f64>() / self.total).ln() + most
    }

    fn search(
        &self,
        start: Vec<f64>,
        options: &Options,
        rows: &mut Evaluation<'_>,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<State, Error> {
        if options.method == Method::Newton {
            let tolerance = options.tolerance.unwrap_or(1e-10);
            return self.newton(start, options.max_iterations.unwrap_or(100), tolerance, rows, progress);
        }
        let total = self.total;
        let lbfgs = Lbfgs {
            max_iterations: options.max_iterations.unwrap_or(200),
            tolerance: options.tolerance.unwrap_or(1e-6),
            ..Lbfgs::default()
        };
        let mut evaluations = 0;
        let minimum = lbfgs.minimize(&start, |gamma| {
            let sweep = rows(gamma)?;
            evaluations += 1;
            progress(evaluations, sweep.objective / total);
            Ok((sweep.objective / total, sweep.gradient.iter().map(|g| g / total).collect()))
        })?;
        let sweep = rows(&minimum.parameters)?;
        Ok(State {
            gamma: minimum.parameters,
            sweep,
            iterations: minimum.iterations,
            history: minimum.loss_history,
            ended: minimum.converged || minimum.iterations < lbfgs.max_iterations,
        })
    }

    /// Fisher scoring with step halving, until the decrement is small.
    fn newton(
        &self,
        start: Vec<f64>,
        max_iterations: usize,
        tolerance: f64,
        rows: &mut Evaluation<'_>,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<State, Error> {
        let sweep = rows(&start)?;
        if !sweep.objective.is_finite() {
            let message = format!("the loss at the start is {}", sweep.objective);
            let error = Error::new(Code::Nonfinite, "glm", message);
            return Err(error
                .hint("targets, weights or offsets overflow f32, in which rows are computed; scale them"));
        }
        let history = vec![sweep.objective / self.total];
        let mut state = State { history, gamma: start, sweep, iterations: 0, ended: max_iterations > 0 };
        while state.iterations < max_iterations {
            let order = state.gamma.len();
            // The second derivative itself where it is positive definite: its steps are quadratic by every link.
            let observed = Some(&state.sweep.observed).filter(|matrix| !matrix.is_empty());
            let observed = observed.and_then(|matrix| Cholesky::new(matrix, order, NO_INFORMATION).ok());
            let Some(factor) = observed.or_else(|| Cholesky::new(&state.sweep.fisher, order, 0.0).ok())
            else {
                return Err(diverges("the Fisher information is singular"));
            };
            let direction = factor.solve(&state.sweep.gradient);
            let decrement: f64 = direction.iter().zip(&state.sweep.gradient).map(|(d, g)| d * g).sum();
            if decrement <= tolerance * self.total {
                break;
            }
            // Rounding of the sum of losses must not stop a good step.
            let slack = 1e-6 * (state.sweep.objective.abs() + self.total);
            let mut share = 1.0;
            let next = loop {
                let gamma: Vec<f64> =
                    state.gamma.iter().zip(&direction).map(|(g, d)| g - share * d).collect();
                let sweep = rows(&gamma)?;
                if sweep.objective.is_finite() && sweep.objective <= state.sweep.objective + slack * share {
                    break Some((gamma, sweep));
                }
                share *= 0.5;
                if share < 1e-9 {
                    break None;
                }
            };
            let Some((gamma, sweep)) = next else { break };
            (state.gamma, state.sweep) = (gamma, sweep);
            state.iterations += 1;
            let loss = state.sweep.objective / self.total;
            state.history.push(loss);
            progress(state.iterations, loss);
            state.ended = state.iterations < max_iterations;
        }
        Ok(state)
    }

    /// A first-order optimizer with the whole step on the device.
    fn descend(
        &self,
        device: &Device,
        start: Vec<f64>,
        options: &Options,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<State, Error> {
        let optimizer: Box<dyn Optimizer> = match options.method {
            Method::Sgd => Box::new(Sgd::new(options.learning_rate.map_or_else(|| self.rate(), Ok)?)),
            Method::Adam | Method::Newton | Method::Lbfgs => {
                Box::new(Adam::new(options.learning_rate.unwrap_or(0.05)))
            }
        };
        let input = Model::input(&self.design, self.rows.classes);
        let shape = *input.shape();
        let layout = Model::new(self.family, &self.design, &self.rows, &input)?;
        let initial = Array::new(Values::Float(layout.by_column(&start)), shape)?;
        let parameters = device.variables(&[("gamma", &initial)])?;
        let gamma = &parameters[0];
        let model = Model::new(self.family, &self.design, &self.rows, gamma)?;
        let mean_gradient = &model.gradient * (1.0 / self.total);
        let updates = optimizer.as_ref().attach(device, &parameters)?.updates(&[mean_gradient])?;
        let step = Step::new(device, &[], &[&model.objective], &updates.pairs())?;
        let steps = options.max_iterations.unwrap_or(2000);
        let mut history = Vec::with_capacity(steps);
        let mut pending: Option<cotangent_device::Outputs> = None;
        for iteration in 0..steps {
            let next = step.launch(&[])?;
            // One step behind, so that the host does not wait for the device.
            if let Some(outputs) = pending.replace(next) {
                history.push(outputs.scalar(0)? / self.total);
                if let Some(&loss) = history.last() {
                    if !loss.is_finite() {
                        let why = format!("the loss is {loss} after {iteration} steps");
                        return Err(diverges(&why).hint("lower the learning rate"));
                    }
                    progress(iteration, loss);
                }
            }
        }
        if let Some(outputs) = pending {
            history.push(outputs.scalar(0)? / self.total);
        }
        let gamma = layout.by_class(&device.read(gamma.tensor())?.to_f64());
        let (sweep, first) = (exact(&layout, &gamma)?, exact(&layout, &start)?);
        let slack = 1e-6 * (first.objective.abs() + self.total);
        if sweep.objective.is_nan() || sweep.objective > first.objective + slack {
            let (from, to) = (first.objective / self.total, sweep.objective / self.total);
            let why = format!("the loss went from {from} to {to} in {steps} steps");
            return Err(diverges(&why).hint("lower the learning rate"));
        }
        history.push(sweep.objective / self.total);
        let ended = self.distance(&sweep, &gamma).is_some_and(|distance| distance <= NEAR);
        Ok(State { gamma, sweep, iterations: steps, history, ended })
    }

    /// Of gradient descent, on decorrelated columns: where the rows are curved more than a Gaussian's it must be smaller.
    fn rate(&self) -> Result<f64, Error> {
        if self.family.is_categorical() {
            return Ok(0.5);
        }
        let start = Tensor::new(self.start()?[0] + self.exposure());
        let information = Reference::new().evaluate(&[&self.family.information(&start)])?[0].scalar()?;
        Ok(0.5 / information.max(1.0))
    }

    /// How far the maximum seems to be: the length of the step of Newton's method in standard errors; or relative to the
    /// parameters, which is what is left to ask of a Gaussian fit without residuals. None if the information is singular.
    fn distance(&self, sweep: &Sweep, gamma: &[f64]) -> Option<f64> {
        let step = Cholesky::new(&sweep.fisher, gamma.len(), 0.0).ok()?.solve(&sweep.gradient);
        let decrement: f64 = step.iter().zip(&sweep.gradient).map(|(s, g)| s * g).sum();
        if decrement == 0.0 {
            return Some(0.0);
        }
        let is_gaussian = self.family.is_gaussian();
        let dispersion = if is_gaussian { 2.0 * sweep.objective / self.total } else { 1.0 };
        let errors = (decrement.max(0.0) / dispersion).sqrt();
        // A thousandth of the parameters weighs as much as one standard error.
        let share = 1e3 * largest(&step) / largest(gamma);
        Some(if is_gaussian { errors.min(share) } else { errors })
    }

    /// The last correction and the statistics, in f64.
    fn finish(&self, model: &Model, found: State) -> Result<Fit, Error> {
        let mut reference = |gamma: &[f64]| exact(model, gamma);
        let State { iterations, mut history, ended, .. } = found;
        let more = if ended { POLISH } else { 0 };
        let state = self.newton(found.gamma, more, POLISHED, &mut reference, &mut |_, _| {})?;
        // How far the arithmetic that decides may be off, per term of a gradient.
        let unit = (self.design.rows as f64 + 64.0) * f64::EPSILON;
        let sweep = &state.sweep;
        if let Some(last) = history.last_mut() {
            *last = sweep.objective / self.total;
        }
        let order = state.gamma.len();
        let factor =
            Cholesky::new(&sweep.fisher, order, 0.0).ok().filter(|f| f.pivot_ratio() > NO_INFORMATION);
        let classes = self.family.is_choice();
        let Some(factor) = factor.filter(|_| !(classes && sweep.objective < PERFECT * self.total)) else {
            return Err(diverges("the likelihood grows for ever along some direction"));
        };
        // Back in the unit of the target.
        history.iter_mut().for_each(|loss| *loss *= self.unit * self.unit);
        let gamma_tensor = Array::new(Values::Float(model.by_column(&state.gamma)), model.gamma.shape())?;
        let bound = Reference::new().bind(&model.gamma, gamma_tensor)?;
        let size = model.by_class(&bound.evaluate(&[&model.size])?[0].to_f64());
        let small = sweep.gradient.iter().zip(&size).all(|(g, size)| g.abs() <= unit * size)
            && self.distance(sweep, &state.gamma).is_some_and(|distance| distance <= ARRIVED);
        let width = self.design.width();
        // A weight counts rows here too.
        let scale = Scale { total: self.total, parameters: order as f64, unit: self.unit };
        let found = assess_with(&bound, self.family, [&model.eta, &model.target, &model.weight], scale)?;
        let Assessment { deviance, log_likelihood, dispersion, residuals } = found;
        let forms = self.design.forms();
        let predictors = (0..model.classes).map(|class| {
            let (intercept, coefficients) =
                self.design.original(&state.gamma[class * width..(class + 1) * width]);
            let error = |form: &Vec<f64>| {
                let mut whole = vec![0.0; order];
                whole[class * width..(class + 1) * width].copy_from_slice(form);
                (factor.inverse_form(&whole) * dispersion).sqrt()
            };
            let mut errors = forms.iter().map(error);
            Predictor {
                intercept: intercept * self.unit + self.shift,
                coefficients: coefficients.iter().map(|c| c * self.unit).collect(),
                intercept_error: errors.next().unwrap_or(f64::NAN),
                standard_errors: errors.collect(),
            }
        });
        let predictors: Vec<Predictor> = predictors.collect();
        let null_deviance = self.null_deviance()? * self.unit * self.unit;
        let coefficients = predictors.iter().flat_map(|p| p.coefficients.iter().chain([&p.intercept]));
        for value in coefficients.chain([&deviance, &null_deviance]) {
            if !value.is_finite() {
                let message = format!("a coefficient or the deviance is {value}");
                return Err(Error::new(Code::Nonfinite, "glm", message).hint("scale the data"));
            }
        }
        Ok(Fit {
            family: self.family.name().to_string(),
            link: self.family.link(),
            rows: self.counted.len(),
            features: self.problem.features.iter().map(|(name, _)| name.clone()).collect(),
            eta: self.predictions(&predictors),
            predictors,
            deviance,
            null_deviance,
            log_likelihood,
            aic: 2.0 * (order as f64 - log_likelihood),
            deviance_residuals: self.spread(residuals),
            dispersion,
            iterations: iterations + state.iterations,
            converged: small,
            loss_history: history,
        })
    }

    /// With 0 in the place of rows that do not count; none stays none.
    fn spread(&self, values: Vec<f64>) -> Vec<f64> {
        if values.is_empty() {
            return values;
        }
        let mut values = values.into_iter();
        self.counted.iter().map(|&counts| if counts { values.next().unwrap_or(0.0) } else { 0.0 }).collect()
    }

    /// The predictor of every row, from the coefficients on the original scale.
    fn predictions(&self, predictors: &[Predictor]) -> Vec<f64> {
        let rows = self.counted.len();
        let mut eta = Vec::with_capacity(rows * predictors.len());
        for row in 0..rows {
            let offset = self.problem.offset.as_ref().map_or(0.0, |offset| offset[row]);
            for predictor in predictors {
                let columns = self.problem.features.iter().zip(&predictor.coefficients);
                let sum: f64 = columns.map(|((_, values), coefficient)| values[row] * coefficient).sum();
                eta.push(predictor.intercept + sum + offset);
            }
        }
        eta
    }

    /// Of the intercept alone, with the offset; in units of the target as it is computed.
    fn null_deviance(&self) -> Result<f64, Error> {
        let bare = Problem { target: self.rows.target.clone(), ..Problem::default() };
        let design = Design::new(&bare, &self.rows.weights)?;
        let gamma = Model::input(&design, self.rows.classes);
        let model = Model::new(self.family, &design, &self.rows, &gamma)?;
        let start: Vec<f64> =
            self.start()?.chunks(self.design.width()).map(|predictor| predictor[0]).collect();
        let state = self.newton(start, 100, POLISHED, &mut |gamma| exact(&model, gamma), &mut |_, _| {})?;
        let value = Array::new(Values::Float(model.by_column(&state.gamma)), gamma.shape())?;
        Reference::new().bind(&gamma, value)?.evaluate(&[&model.deviance])?[0].scalar()
    }
}

/// A sweep on the reference.
fn exact(model: &Model, gamma: &[f64]) -> Result<Sweep, Error> {
    let value = Array::new(Values::Float(model.by_column(gamma)), model.gamma.shape())?;
    model.sweep(&Reference::new().bind(&model.gamma, value)?.evaluate(&model.outputs())?)
}

fn diverges(why: &str) -> Error {
    Error::new(Code::Nonfinite, "glm", format!("the fit diverges: {why}"))
        .hint("classes may be separable, or a group may hold zeros only; leave columns out")
}
