use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::*;

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(name)
}
fn references() -> BTreeMap<String, Value> {
    serde_json::from_str(&std::fs::read_to_string(data("reference_fits.json")).unwrap()).unwrap()
}
fn on_reference(family: &Family, problem: &Problem, options: &Options) -> Result<Fit, Error> {
    solve::Fitter::new(family, problem)?.fit(None, options, &mut |_, _| {})
}
/// Case data of CONFORMANCE: coefficients to 1e-3, deviance to 1e-5.
fn near(found: f64, expected: &Value, relative: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= relative * expected.abs(), "{what}: {found} is not {expected}");
}

fn compare(case: &str, file: &str, family: &Family) {
    let references = references();
    let expected = &references[case];
    let table = Table::read(data(file)).unwrap();
    let features: Vec<String> =
        expected["features"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_string()).collect();
    let target = expected["target"].as_str().unwrap();
    let problem = Problem::from_table(&table, target, Some(&features), None, None).unwrap();
    let device = Device::cpu();
    let on_device = fit(&device, family, &problem, &Options::default(), &mut |_, _| {}).unwrap();
    for fit in [on_reference(family, &problem, &Options::default()).unwrap(), on_device] {
        assert!(fit.converged, "{case}: {:?}", fit.loss_history);
        near(fit.log_likelihood, &expected["log_likelihood"], 1e-5, "log-likelihood");
        if family.is_categorical() {
            compare_classes(&fit, expected);
            continue;
        }
        near(fit.deviance, &expected["deviance"], 1e-5, "deviance");
        near(fit.null_deviance, &expected["null_deviance"], 1e-5, "null deviance");
        let (errors, predictor) = (&expected["standard_errors"], &fit.predictors[0]);
        near(predictor.intercept, &expected["intercept"], 1e-3, "intercept");
        near(predictor.intercept_error, &errors["const"], 1e-3, "error of the intercept");
        for (position, name) in features.iter().enumerate() {
            near(predictor.coefficients[position], &expected["coefficients"][name], 1e-3, name);
            near(predictor.standard_errors[position], &errors[name], 1e-3, name);
        }
    }
}

fn compare_classes(fit: &Fit, expected: &Value) {
    near(-0.5 * fit.null_deviance, &expected["null_log_likelihood"], 1e-5, "null log-likelihood");
    assert_eq!(fit.predictors.len(), 6);
    for (position, predictor) in fit.predictors.iter().enumerate() {
        let of = &expected["coefficients_by_class"][(position + 1).to_string()];
        near(predictor.intercept, &of["intercept"], 1e-3, "intercept");
        for (name, value) in fit.features.iter().zip(&predictor.coefficients) {
            near(*value, &of[name], 1e-3, name);
        }
    }
}

#[test]
fn fits_reach_those_of_statsmodels() {
    compare("poisson_log_randhie", "randhie.csv", &Family::poisson());
    compare("gaussian_identity_longley", "longley.csv", &Family::gaussian());
    compare("bernoulli_logit_breast_cancer", "breast_cancer.csv", &Family::bernoulli());
    compare("categorical_softmax_anes96", "anes96.csv", &Family::categorical());
}

fn small(target: &[f64]) -> Problem {
    let x = (0..target.len()).map(|i| i as f64).collect();
    Problem { features: vec![("x".to_string(), x)], target: target.to_vec(), ..Problem::default() }
}

#[test]
fn a_weight_counts_rows_and_an_offset_moves_the_predictor() {
    let problem = Problem { weights: Some(vec![1.0, 2.0, 1.0, 1.0]), ..small(&[1.0, 0.0, 2.0, 5.0]) };
    let mut repeated = small(&[1.0, 0.0, 2.0, 5.0, 0.0]);
    repeated.features[0].1 = vec![0.0, 1.0, 2.0, 3.0, 1.0];
    for family in [Family::poisson(), Family::gaussian()] {
        let [a, b] = [&problem, &repeated].map(|p| on_reference(&family, p, &Options::default()).unwrap());
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs(), "{}: {a} {b}", family.name());
        close(a.deviance, b.deviance);
        close(a.null_deviance, b.null_deviance);
        close(a.log_likelihood, b.log_likelihood);
        close(a.predictors[0].coefficients[0], b.predictors[0].coefficients[0]);
        let offset = Problem { offset: Some(vec![10.0; 4]), ..problem.clone() };
        let moved = on_reference(&family, &offset, &Options::default()).unwrap();
        close(moved.predictors[0].intercept + 10.0, a.predictors[0].intercept);
        close(moved.deviance, a.deviance);
        close(moved.null_deviance, a.null_deviance);
        close(moved.eta[2], a.eta[2]);
    }
}

#[test]
fn badly_scaled_and_nearly_collinear_columns_do_not_matter() {
    let n = 200;
    let noise = |i: usize| ((i * 7919 % 1000) as f64 / 1000.0) - 0.5;
    let a: Vec<f64> = (0..n).map(|i| 1e9 + 1e3 * noise(i)).collect();
    let b: Vec<f64> = (0..n).map(|i| 1e-7 * (noise(i) + 1e-4 * noise(3 * i + 1))).collect();
    let target: Vec<f64> = (0..n).map(|i| 3.0 * noise(i) + noise(5 * i + 2)).collect();
    let problem = Problem { features: vec![("a".into(), a), ("b".into(), b)], target, ..Problem::default() };
    let fit = on_reference(&Family::gaussian(), &problem, &Options::default()).unwrap();
    assert!(fit.converged && fit.deviance < fit.null_deviance);
}

#[test]
fn lbfgs_finds_the_same_maximum() {
    let problem = small(&[1.0, 0.0, 2.0, 5.0, 3.0, 8.0]);
    let newton = on_reference(&Family::poisson(), &problem, &Options::default()).unwrap();
    let options = Options { method: Method::Lbfgs, ..Options::default() };
    let lbfgs = on_reference(&Family::poisson(), &problem, &options).unwrap();
    assert!(newton.converged && lbfgs.converged);
    let (a, b) = (newton.predictors[0].coefficients[0], lbfgs.predictors[0].coefficients[0]);
    assert!((a - b).abs() < 1e-5 * a.abs(), "{a} {b}");
}

#[test]
fn what_cannot_be_fitted_is_an_error() {
    let code = |family: Family, problem: &Problem| {
        on_reference(&family, problem, &Options::default()).map(|fit| format!("{fit:?}")).unwrap_err().code()
    };
    assert_eq!(code(Family::bernoulli(), &small(&[0.0, 0.0, 1.0, 1.0])), Code::Nonfinite);
    assert_eq!(code(Family::poisson(), &small(&[0.0, 0.0, 0.0])), Code::Nonfinite);
    assert_eq!(code(Family::poisson(), &small(&[-1.0, 0.0, 2.0])), Code::Family);
    assert_eq!(code(Family::bernoulli(), &small(&[2.0, 0.0])), Code::Family);
    assert_eq!(code(Family::categorical(), &small(&[0.5, 0.0])), Code::Family);
    assert_eq!(code(Family::categorical(), &small(&[2.0, 0.0])), Code::Nonfinite);
    assert_eq!(code(Family::from_mean("own", |eta| eta.clone()), &small(&[0.0])), Code::Family);
    let mut twice = small(&[1.0, 0.0, 2.0]);
    twice.features.push(("x2".to_string(), vec![1.0, 3.0, 5.0]));
    let error = on_reference(&Family::gaussian(), &twice, &Options::default()).unwrap_err();
    assert!(error.message().contains("`x2` is a linear combination"), "{error}");
    twice.features[1].1 = vec![4.0; 3];
    let error = on_reference(&Family::gaussian(), &twice, &Options::default()).unwrap_err();
    assert!(error.message().contains("`x2` is constant"), "{error}");
    twice.features[1].1 = vec![4.0];
    assert_eq!(code(Family::gaussian(), &twice), Code::DataLength);
    let weighted = Problem { weights: Some(vec![-1.0, 1.0]), ..small(&[1.0, 2.0]) };
    assert_eq!(code(Family::gaussian(), &weighted), Code::Hyperparameter);
}

#[test]
fn a_fit_that_stops_early_says_so() {
    let options = Options { max_iterations: Some(1), ..Options::default() };
    let fit = on_reference(&Family::poisson(), &small(&[1.0, 0.0, 2.0, 50.0]), &options).unwrap();
    assert!(!fit.converged);
    assert_eq!((fit.iterations, fit.loss_history.len()), (1, 2));
}
