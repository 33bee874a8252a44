//! Generalized linear models.

use cotangent::glm::{self, Fit, Method, Options, Problem};
use cotangent::{Array, Device, Error, Family};
use serde_json::{Map, Value};

use super::{Arguments, Choice, Outcome, Standard, mean, named};
use crate::report;

pub(super) fn fit(
    arguments: &Arguments,
    device: &Device,
    family: &Family,
    problem: &Problem,
) -> Result<Outcome, Error> {
    let method = match arguments.optimizer {
        None | Some(Choice::Newton) => Method::Newton,
        Some(Choice::Lbfgs) => Method::Lbfgs,
        Some(Choice::Adam) => Method::Adam,
        Some(Choice::Sgd) => Method::Sgd,
    };
    let options = Options {
        method,
        max_iterations: arguments.epochs,
        learning_rate: arguments.learning_rate,
        tolerance: arguments.tolerance,
    };
    let most = match method {
        Method::Newton => 100,
        Method::Lbfgs => 200,
        Method::Adam | Method::Sgd => 2000,
    };
    let bar = report::progress(arguments.epochs.unwrap_or(most) as u64);
    let fit = glm::fit(device, family, problem, &options, &mut |iteration, loss| {
        bar.set_position(iteration as u64);
        bar.set_message(format!("loss {loss:.6}"));
    });
    bar.finish_and_clear();
    outcome(fit?, family, problem)
}

fn outcome(fit: Fit, family: &Family, problem: &Problem) -> Result<Outcome, Error> {
    let (mut intercept, mut coefficients, mut errors) = (Map::new(), Map::new(), Map::new());
    let mut z_values = Map::new();
    for (position, predictor) in fit.predictors.iter().enumerate() {
        let class = (position + 1).to_string();
        intercept.insert(class.clone(), report::number(predictor.intercept));
        coefficients.insert(class.clone(), named(&fit.features, &predictor.coefficients).into());
        let mut with_intercept = named(&["intercept".to_string()], &[predictor.intercept_error]);
        with_intercept.extend(named(&fit.features, &predictor.standard_errors));
        errors.insert(class.clone(), with_intercept.into());
        let names: Vec<String> =
            std::iter::once("intercept".to_string()).chain(fit.features.iter().cloned()).collect();
        z_values.insert(class, named(&names, &predictor.z_values()).into());
    }
    let all = [intercept, coefficients, errors, z_values];
    let [intercept, coefficients, errors, z_values] = all.map(|per_class| {
        let one = || per_class.values().next().cloned().unwrap_or(Value::Null);
        if family.is_categorical() { Value::Object(per_class) } else { one() }
    });
    let classes = fit.predictors.len();
    // The reference class has the predictor 0.
    let eta: Vec<f64> = if family.is_categorical() {
        fit.eta.chunks(classes).flat_map(|row| std::iter::once(0.0).chain(row.iter().copied())).collect()
    } else {
        fit.eta.clone()
    };
    Ok(Outcome {
        mean: mean(family, &eta, fit.rows)?,
        parameters: parameters(&fit, problem)?,
        deviance: fit.deviance,
        null_deviance: fit.null_deviance,
        log_likelihood: fit.log_likelihood,
        intercept,
        coefficients,
        standard_errors: errors,
        z_values,
        dispersion: Some(fit.dispersion),
        aic: Some(fit.aic),
        deviance_residuals: fit.deviance_residuals,
        converged: fit.converged,
        iterations: fit.iterations,
        loss_history: fit.loss_history,
        validation: None,
    })
}

/// `intercept` of shape `[predictors]`, `coefficients` of shape `[predictors, features]`, both for the standardized features
/// (rounding to f32 then costs digits of the prediction, not of a difference between large terms), and what standardizes.
fn parameters(fit: &Fit, problem: &Problem) -> Result<Vec<(String, Array)>, Error> {
    let columns: Vec<Standard> = problem.features.iter().map(|(_, values)| Standard::of(values)).collect();
    let (mut intercepts, mut coefficients) = (Vec::new(), Vec::new());
    for predictor in &fit.predictors {
        let terms = predictor.coefficients.iter().zip(&columns);
        intercepts.push(predictor.intercept + terms.clone().map(|(c, column)| c * column.mean).sum::<f64>());
        coefficients.extend(terms.map(|(c, column)| c * column.scale));
    }
    let shape = [fit.predictors.len(), fit.features.len()];
    let mut arrays = vec![
        ("intercept".to_string(), intercepts.into()),
        ("coefficients".to_string(), Array::new(coefficients, shape)?),
    ];
    arrays.extend(Standard::arrays(&columns));
    Ok(arrays)
}
