use std::collections::BTreeMap;
use std::path::Path;

use cotangent_tensor::Tensor;
use serde_json::Value;

use super::*;

mod pairs;

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

/// How far a fit is from a reference: the largest relative differences of deviance, coefficients and standard errors.
fn compare(case: &str, file: &str, family: &Family) {
    let family = &family.for_regression();
    let references = references();
    let expected = &references[case];
    let table = Table::read(data(file)).unwrap();
    let features: Vec<String> =
        expected["features"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_string()).collect();
    let target = expected["target"].as_str().unwrap();
    let mut problem = Problem::from_table(&table, target, Some(&features), None, None).unwrap();
    if case.ends_with("_positive") {
        let keep: Vec<bool> = problem.target.iter().map(|&y| y > 0.0).collect();
        let kept = |values: &mut Vec<f64>| {
            let mut flags = keep.iter();
            values.retain(|_| *flags.next().unwrap());
        };
        kept(&mut problem.target);
        problem.features.iter_mut().for_each(|(_, values)| kept(values));
        problem.origin = None;
    }
    let mut fits =
        vec![("reference".to_string(), on_reference(family, &problem, &Options::default()).unwrap())];
    for device in Device::all() {
        let found = fit(&device, family, &problem, &Options::default(), &mut |_, _| {});
        fits.push((device.slug(), found.unwrap()));
    }
    // The CPU device and an adapter, be it a software one.
    assert!(fits.len() >= 3, "no adapter: `./tools/test` installs one or says what to install");
    for (device, fit) in fits {
        assert!(fit.converged, "{case} on {device}: {:?}", fit.loss_history);
        match expected["log_likelihood"].is_null() {
            true => assert!(fit.log_likelihood.is_finite(), "a series that statsmodels does not sum"),
            false => near(fit.log_likelihood, &expected["log_likelihood"], 1e-5, "log-likelihood"),
        }
        if family.is_categorical() {
            compare_classes(&fit, expected);
            continue;
        }
        near(fit.deviance, &expected["deviance"], 1e-5, "deviance");
        near(fit.null_deviance, &expected["null_deviance"], 1e-5, "null deviance");
        let (errors, predictor) = (&expected["standard_errors"], &fit.predictors[0]);
        let apart = |found: f64, expected: &Value| (found / expected.as_f64().unwrap() - 1.0).abs();
        let largest = |values: &[f64], expected: &Value| {
            features.iter().zip(values).map(|(name, &v)| apart(v, &expected[name])).fold(0.0, f64::max)
        };
        println!(
            "{case} on {device}: {} iterations; deviance {:.0e}, coefficients {:.0e}, standard errors {:.0e} apart",
            fit.iterations,
            apart(fit.deviance, &expected["deviance"]),
            largest(&predictor.coefficients, &expected["coefficients"]),
            largest(&predictor.standard_errors, errors),
        );
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
    for (case, link) in [("probit", Link::Probit), ("cloglog", Link::Cloglog)] {
        let family = Family::bernoulli().with_link(link).unwrap();
        compare(&format!("bernoulli_{case}_breast_cancer"), "breast_cancer.csv", &family);
    }
    let counts = [
        ("negative_binomial_log_alpha1_randhie", Family::negative_binomial(1.0)),
        ("tweedie15_log_randhie", Family::tweedie(1.5)),
        ("gamma_log_randhie_positive", Family::gamma().with_link(Link::Log)),
        ("inverse_gaussian_log_randhie_positive", Family::inverse_gaussian().with_link(Link::Log)),
    ];
    for (case, family) in counts {
        compare(case, "randhie.csv", &family.unwrap());
    }
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
        close(a.dispersion, b.dispersion);
        close(a.predictors[0].intercept_error, b.predictors[0].intercept_error);
        close(a.predictors[0].standard_errors[0], b.predictors[0].standard_errors[0]);
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
fn separated_rows_among_overlapping_ones_leave_a_finite_deviance() {
    // A hundred overlapping rows, and one far out whose mean rounds to 1.
    let x: Vec<f64> = (0..100).map(|i| f64::from(i % 10) * 0.1).chain([60.0]).collect();
    let target: Vec<f64> =
        (0..100).map(|i| f64::from(u8::from(i * 7 % 13 < 6 + i % 10 / 3))).chain([1.0]).collect();
    let problem = Problem { features: vec![("x".into(), x)], target, ..Problem::default() };
    let fit = on_reference(&Family::bernoulli(), &problem, &Options::default()).unwrap();
    assert!(fit.converged && fit.eta[100] > 40.0, "{fit:?}");
    assert!(fit.deviance > 0.0 && fit.deviance < fit.null_deviance, "{fit:?}");
    assert!((fit.deviance + 2.0 * fit.log_likelihood).abs() <= 1e-12 * fit.deviance);
}

/// Poisson rows with a group whose counts are all zero: its coefficient is −∞.
fn empty_group() -> Problem {
    let group = (0..2000).map(|i| f64::from(u8::from(i < 20))).collect();
    let x: Vec<f64> = (0..2000).map(|i| f64::from(i * 7919 % 1000) / 1000.0).collect();
    let target = (0..2000).map(|i| if i < 20 { 0.0 } else { f64::from(i * 31 % 4) }).collect();
    Problem { features: vec![("group".into(), group), ("x".into(), x)], target, ..Problem::default() }
}

#[test]
fn no_method_calls_a_point_on_the_way_to_infinity_a_maximum() {
    let (problem, device) = (empty_group(), Device::cpu());
    let mut tried = 0;
    for &method in Method::ALL {
        let options = Options { method, ..Options::default() };
        match fit(&device, &Family::poisson(), &problem, &options, &mut |_, _| {}) {
            Ok(fit) => assert!(!fit.converged, "{}: {:?}", method.name(), fit.predictors),
            Err(error) => assert_eq!(error.code(), Code::Nonfinite, "{}: {error}", method.name()),
        }
        tried += 1;
    }
    assert_eq!(tried, 4);
}

#[test]
fn every_method_that_says_it_converged_has_found_the_maximum() {
    let table = Table::read(data("breast_cancer.csv")).unwrap();
    let features: Vec<String> =
        table.names().iter().filter(|name| name.starts_with("mean_")).cloned().collect();
    assert_eq!(features.len(), 10);
    let problem = Problem::from_table(&table, "target", Some(&features), None, None).unwrap();
    let device = Device::cpu();
    let run = |method, max_iterations| {
        let options = Options { method, max_iterations, ..Options::default() };
        fit(&device, &Family::bernoulli(), &problem, &options, &mut |_, _| {}).unwrap()
    };
    let newton = run(Method::Newton, None);
    assert!(newton.converged);
    let mut converged = 0;
    for (method, steps) in [(Method::Lbfgs, None), (Method::Sgd, Some(20_000)), (Method::Sgd, Some(20))] {
        let found = run(method, steps);
        if !found.converged {
            continue;
        }
        converged += 1;
        assert!((found.deviance - newton.deviance).abs() <= 1e-5 * newton.deviance);
        for (a, b) in found.predictors[0].coefficients.iter().zip(&newton.predictors[0].coefficients) {
            // The contract of the command line.
            assert!((a - b).abs() <= 1e-3 * b.abs(), "{}: {a} is not {b}", method.name());
        }
    }
    assert!(converged >= 1);
    assert!(!run(Method::Sgd, Some(20)).converged);
}

#[test]
fn a_search_that_climbs_is_an_error() {
    let table = Table::read(data("randhie.csv")).unwrap();
    let problem = Problem::from_table(&table, "mdvis", None, None, None).unwrap();
    let options = Options { method: Method::Sgd, max_iterations: Some(50), ..Options::default() };
    let found = fit(&Device::cpu(), &Family::poisson(), &problem, &options, &mut |_, _| {}).unwrap();
    assert!(found.deviance < 0.98 * found.null_deviance, "{} {}", found.deviance, found.null_deviance);
    let options = Options { learning_rate: Some(1.0), max_iterations: Some(100), ..options };
    let error = fit(&Device::cpu(), &Family::poisson(), &problem, &options, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.code(), Code::Nonfinite);
    assert!(error.message().contains("the loss "), "{error}");
    assert!(error.help().unwrap().contains("learning rate"));
}

#[test]
fn sizes_near_the_ends_of_f64_do_not_matter() {
    let target: Vec<f64> = (0..20).map(|i| 1.0 + f64::from(i) + f64::from(i * 7 % 5)).collect();
    let plain = on_reference(&Family::gaussian(), &small(&target), &Options::default()).unwrap();
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} is not {b}");
    for size in [1e200, 1e-200] {
        let mut problem = small(&target);
        problem.features[0].1.iter_mut().for_each(|x| *x *= size);
        let fit = on_reference(&Family::gaussian(), &problem, &Options::default()).unwrap();
        assert!(fit.converged);
        close(fit.predictors[0].coefficients[0] * size, plain.predictors[0].coefficients[0]);
        close(fit.deviance, plain.deviance);
    }
    let constant = on_reference(&Family::gaussian(), &small(&[3.0; 5]), &Options::default()).unwrap();
    assert!(constant.converged && constant.predictors[0].intercept == 3.0, "{constant:?}");
    // Beyond the range of the rows on a device.
    let counts = small(&[1e200, 3e200, 2e200]);
    let error = fit(&Device::cpu(), &Family::poisson(), &counts, &Options::default(), &mut |_, _| {});
    assert!(error.unwrap_err().message().starts_with("the loss at the start is"));
    // The deviance is a square.
    let large: Vec<f64> = target.iter().map(|y| y * 1e150).collect();
    let fit = on_reference(&Family::gaussian(), &small(&large), &Options::default()).unwrap();
    assert!(fit.converged);
    close(fit.predictors[0].coefficients[0], 1e150 * plain.predictors[0].coefficients[0]);
    let large: Vec<f64> = target.iter().map(|y| y * 1e200).collect();
    let error = on_reference(&Family::gaussian(), &small(&large), &Options::default()).unwrap_err();
    assert_eq!(error.code(), Code::Nonfinite);
    assert!(error.message().contains("inf"), "{error}");
}

#[test]
fn labels_that_are_no_classes_are_refused_before_memory_is_asked_for() {
    let error = |target: &[f64]| {
        on_reference(&Family::categorical(), &small(target), &Options::default()).unwrap_err()
    };
    let counts = error(&[60_323.0, 61_122.0, 999_999.0]);
    assert_eq!(counts.code(), Code::Nonfinite);
    assert!(counts.message().contains("no target is 0; there are 3 different targets"), "{counts}");
    let many: Vec<f64> = (0..3000).map(f64::from).collect();
    assert_eq!(error(&many).code(), Code::Limit);
}

#[test]
fn a_constant_offset_moves_the_intercept_whatever_its_size() {
    let target = [1.0, 0.0, 2.0, 5.0, 3.0, 8.0];
    for family in [Family::poisson(), Family::bernoulli(), Family::gaussian()] {
        let target: Vec<f64> = if family.link() == Link::Logit {
            [0.0, 1.0, 0.0, 1.0, 0.0, 1.0].to_vec()
        } else {
            target.to_vec()
        };
        let problem = small(&target);
        let plain = on_reference(&family, &problem, &Options::default()).unwrap();
        for offset in [-800.0, 100.0, 5000.0] {
            let problem = Problem { offset: Some(vec![offset; 6]), ..problem.clone() };
            let fit = on_reference(&family, &problem, &Options::default()).unwrap();
            assert!(fit.converged, "{}, offset {offset}", family.name());
            let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
            close(fit.predictors[0].intercept + offset, plain.predictors[0].intercept);
            close(fit.predictors[0].coefficients[0], plain.predictors[0].coefficients[0]);
            close(fit.deviance, plain.deviance);
            close(fit.null_deviance, plain.null_deviance);
        }
        // The exposures of insurance: an offset that varies more than the predictor does.
        if family.link() == Link::Log {
            let offset = Some(vec![0.0, 2.0, 40.0, 3.0, 1.0, 60.0]);
            let fit =
                on_reference(&family, &Problem { offset, ..problem.clone() }, &Options::default()).unwrap();
            assert!(fit.null_deviance.is_finite());
        }
    }
}

#[test]
fn errors_name_file_line_and_column() {
    let text = "y,x,w\n1,2,1\n\n-3,4,1\n2,1,-1\n";
    let table = Table::from_reader("visits.csv", text.as_bytes()).unwrap();
    let problem = |weights| Problem::from_table(&table, "y", None, weights, None).unwrap();
    let text = problem(None).check(&Family::poisson()).unwrap_err().to_string();
    let expected = "error[E_FAMILY]: glm: the target is -3, poisson needs a number from 0\n  \
                    in visits.csv, line 4, column `y`";
    assert_eq!(text, expected);
    let text = problem(Some("w")).check(&Family::gaussian()).unwrap_err().to_string();
    assert!(text.ends_with("the weight is -1\n  in visits.csv, line 5, column `w`"), "{text}");
    let bare = small(&[1.0, -3.0]).check(&Family::poisson()).unwrap_err().to_string();
    assert!(bare.ends_with("in row 1 of the data, counted from 0"), "{bare}");
}

#[test]
fn one_spoiled_field_does_not_remove_a_feature() {
    let table = |rows: &str| Table::from_reader("t.csv", format!("y,age,sex\n{rows}").as_bytes()).unwrap();
    let error = Problem::from_table(&table("1,30,f\n2,NA,m\n3,50,f\n"), "y", None, None, None).unwrap_err();
    assert!(error.message().contains("line 3, column `age`: \"NA\""), "{error}");
    assert!(error.message().contains("2 of 3 rows are"), "{error}");
    let problem = Problem::from_table(&table("1,30,f\n2,40,m\n3,50,f\n"), "y", None, None, None).unwrap();
    assert_eq!(problem.features.len(), 1);
    // What was asked for by name is not looked at.
    let named = ["sex".to_string()];
    assert!(Problem::from_table(&table("1,30,f\n2,NA,m\n"), "y", Some(&named), None, None).is_err());
    assert!(Problem::from_table(&table("1,30,f\n2,NA,m\n"), "y", Some(&[]), None, None).is_ok());
}

#[test]
fn lbfgs_finds_the_same_maximum() {
    let problem = small(&[1.0, 0.0, 2.0, 5.0, 3.0, 8.0]);
    let newton = on_reference(&Family::poisson(), &problem, &Options::default()).unwrap();
    let options = Options { method: Method::Lbfgs, ..Options::default() };
    let lbfgs = on_reference(&Family::poisson(), &problem, &options).unwrap();
    assert!(newton.converged && lbfgs.converged);
    let (a, b) = (newton.predictors[0].coefficients[0], lbfgs.predictors[0].coefficients[0]);
    // Both were corrected in f64 until the decrement, the square of the distance in standard errors, was below this.
    let distance = (solve::POLISHED * 6.0).sqrt() * newton.predictors[0].standard_errors[0];
    assert!((a - b).abs() <= 2.0 * distance + f64::EPSILON * a.abs(), "{a} {b}");
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
    assert_eq!(code(Family::categorical(), &small(&[0.0, 0.0])), Code::Family);
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

#[test]
fn a_row_without_weight_has_no_say_whatever_it_holds() {
    let mut bare = small(&[1.0, 2.0, 2.0, 4.0, 3.0, 6.0]);
    bare.weights = Some(vec![1.0, 2.0, 1.0, 1.0, 0.5, 1.0]);
    // The mean of this row is negative at the maximum; the other one is so large that nothing would be left of the column.
    for odd in [-1e3, 1e200] {
        let mut with = bare.clone();
        with.target.insert(2, 3.0);
        with.features.iter_mut().for_each(|(_, values)| values.insert(2, odd));
        with.weights.as_mut().unwrap().insert(2, 0.0);
        let family = Family::poisson().with_link(Link::Identity).unwrap();
        let expected = on_reference(&family, &bare, &Options::default()).unwrap();
        let found = on_reference(&family, &with, &Options::default()).unwrap();
        assert!(found.converged && expected.converged);
        assert_eq!(found.predictors[0].coefficients, expected.predictors[0].coefficients);
        assert_eq!((found.deviance, found.null_deviance), (expected.deviance, expected.null_deviance));
        assert_eq!((found.rows, found.eta.len(), found.deviance_residuals.len()), (7, 7, 7));
        let mut residuals = found.deviance_residuals;
        assert_eq!(residuals.remove(2), 0.0);
        assert_eq!(residuals, expected.deviance_residuals);
    }
    let (eta, y) = (Tensor::new([2.0, -1.0]), Tensor::new([2.0, 1.0]));
    let family = Family::poisson().with_link(Link::Identity).unwrap();
    let found = assess(&family, &eta, &y, &Tensor::new([1.0, 0.0]), 0).unwrap();
    assert_eq!((found.deviance, found.residuals), (0.0, vec![0.0, 0.0]));
    assert!(found.log_likelihood.is_finite());
}

#[test]
fn offsets_may_take_the_first_means_below_zero() {
    let mut problem = small(&[1.0, 9.0, 2.0, 11.0, 3.0, 13.0]);
    problem.offset = Some(vec![-5.0, 5.0, -5.0, 5.0, -5.0, 5.0]);
    let family = Family::poisson().with_link(Link::Identity).unwrap();
    let fit = on_reference(&family, &problem, &Options::default()).unwrap();
    assert!(fit.converged && fit.eta.iter().all(|&mean| mean > 0.0));
}

#[test]
fn the_softplus_link_takes_large_means() {
    let problem = small(&[1000.0, 2000.0, 2000.0, 4000.0, 5000.0]);
    let family = Family::poisson().with_link(Link::Softplus).unwrap();
    let fit = on_reference(&family, &problem, &Options::default()).unwrap();
    let line =
        on_reference(&Family::poisson().with_link(Link::Identity).unwrap(), &problem, &Options::default());
    let (found, expected) = (fit.predictors[0].coefficients[0], line.unwrap().predictors[0].coefficients[0]);
    assert!(fit.converged && (found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
}
