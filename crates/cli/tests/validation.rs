//! Networks of `cotangent fit` that stop by rows which do not train.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod shell;

use std::fmt::Write as _;

use serde_json::Value;

use shell::{Csv, cotangent, data, document, near, temporary};

/// A network on the diagnoses, with more options.
fn fit(more: &[&str]) -> Value {
    let path = data("breast_cancer.csv");
    let fixed = ["--target", "target", "--data", &path, "--hidden", "8", "--learning-rate", "0.05"];
    document(&[&["fit", "--family", "bernoulli", "--device", "cpu", "--json"], &fixed[..], more].concat())
}
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}
fn whole(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn training_stops_when_validation_rows_gain_nothing_and_the_best_parameters_are_kept() {
    let [early, exact] = ["early.safetensors", "exact.safetensors"].map(temporary);
    let [early_path, exact_path] = [&early, &exact].map(|path| path.to_str().unwrap());
    let split = ["--validation", "0.25", "--seed", "3"];
    let found = fit(&[&split[..], &["--patience", "20", "--save", early_path]].concat());
    let (best, stopped) = (whole(&found["best_epoch"]), whole(&found["stopped_at"]));
    assert!(best > 0 && stopped == best + 20 && stopped < 500, "{best}, {stopped}");
    assert_eq!((whole(&found["iterations"]), numbers(&found["loss_history"]).len()), (stopped, stopped));
    let history = numbers(&found["validation_history"]);
    assert_eq!(history.len(), stopped + 1);
    assert!(history.iter().enumerate().all(|(epoch, loss)| epoch == best || *loss >= history[best]));
    // A quarter of 569 rows, of which every deviance is twice the negative log-likelihood.
    assert_eq!((whole(&found["validation_rows"]), whole(&found["rows"])), (142, 569));
    near(&found["validation_deviance"], 2.0 * 142.0 * history[best], 1e-5);
    assert!(found["validation_deviance"].as_f64() < found["validation_null_deviance"].as_f64());
    assert!(found["deviance"].as_f64() > found["validation_deviance"].as_f64());

    // A run that ends at that epoch keeps its last parameters: the same bits.
    let epochs = best.to_string();
    let again = fit(&[&split[..], &["--epochs", &epochs, "--save", exact_path]].concat());
    assert_eq!((whole(&again["best_epoch"]), whole(&again["stopped_at"])), (best, best));
    assert_eq!(again["validation_deviance"], found["validation_deviance"]);
    let [early_arrays, exact_arrays] = [&early, &exact].map(|path| cotangent::io::load(path).unwrap());
    let mut compared = 0;
    for (name, array) in &early_arrays {
        assert_eq!(array.to_words(), exact_arrays[name.as_str()].to_words(), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 8);
    for path in [early, exact] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_split_is_that_of_the_seed() {
    let of = |seed: &str| {
        let found = fit(&["--validation", "0.5", "--epochs", "2", "--seed", seed]);
        (found["validation_null_deviance"].as_f64().unwrap(), numbers(&found["validation_history"]))
    };
    assert_eq!(of("1"), of("1"));
    assert_ne!(of("1").0, of("2").0);
}

/// A row is spoiled, one after the other. Where it is among those for validation, training must not notice.
#[test]
fn validation_rows_do_not_train() {
    const ROWS: usize = 12;
    for (family, spoiled) in [("gaussian", 1e4), ("poisson", 900.0)] {
        let losses = |row: Option<usize>| {
            let mut text = "y,x,o\n".to_string();
            for i in 0..ROWS {
                let (y, x) = if row == Some(i) { (spoiled, 1e3) } else { ((i * 7 % 5) as f64, i as f64) };
                writeln!(text, "{y},{x},{}", if row == Some(i) { 3.0 } else { 0.5 }).unwrap();
            }
            let table = Csv::new(&format!("spoiled-{family}.csv"), &text);
            let options = ["--hidden", "3", "--validation", "0.25", "--epochs", "5", "--offset", "o"];
            let output = table.fit(family, &options);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let found: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(whole(&found["validation_rows"]), 3);
            numbers(&found["loss_history"])
        };
        let clean = losses(None);
        assert_eq!(clean.len(), 5);
        let unnoticed = (0..ROWS).filter(|&row| losses(Some(row)) == clean).count();
        assert_eq!(unnoticed, 3, "{family}");
    }
}

#[test]
fn every_kind_of_target_is_split() {
    let path = data("anes96.csv");
    let fixed =
        ["fit", "--target", "PID", "--data", &path, "--features", "selfLR,age", "--device", "cpu", "--json"];
    for family in ["categorical", "gaussian", "poisson"] {
        let more = ["--family", family, "--hidden", "4", "--validation", "0.3", "--epochs", "60"];
        let found = document(&[&fixed[..], &more].concat());
        assert_eq!(whole(&found["validation_rows"]), 283, "{family}");
        assert_eq!(numbers(&found["validation_history"]).len(), 61);
        assert!(
            found["validation_deviance"].as_f64() < found["validation_null_deviance"].as_f64(),
            "{family}: {} of {}",
            found["validation_deviance"],
            found["validation_null_deviance"]
        );
    }
}

#[test]
fn without_validation_rows_all_rows_train_and_nothing_is_said_of_them() {
    let [none, zero] =
        [&[][..], &["--validation", "0"]].map(|more| fit(&[&["--epochs", "4"], more].concat()));
    assert_eq!(none["loss_history"], zero["loss_history"]);
    assert_eq!(none["deviance"], zero["deviance"]);
    for found in [none, zero] {
        let keys = found.as_object().unwrap().keys();
        assert!(!keys.into_iter().any(|key| key.contains("validation") || key == "stopped_at"), "{found}");
    }
}

#[test]
fn people_are_told_which_epoch_is_kept() {
    let path = data("breast_cancer.csv");
    let fixed = ["fit", "--family", "bernoulli", "--target", "target", "--data", &path, "--device", "cpu"];
    let output =
        cotangent(&[&fixed[..], &["--hidden", "2", "--validation", "0.2", "--epochs", "3"]].concat());
    let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(
        told.contains("training stopped after 3 epochs; epoch 3 was best for 114 validation rows"),
        "{told}"
    );
    assert!(
        out.lines().any(|line| line.starts_with("validation ") && line.ends_with("of 114 rows")),
        "{out}"
    );
}

#[test]
fn mistakes_with_validation_are_refused() {
    let small = Csv::new("small.csv", "y,x\n1,0\n2,1\n4,2\n3,3\n");
    let refused = |more: &[&str], text: &str| {
        let error = small.failure("poisson", more);
        assert!(error.contains(text), "{error}");
    };
    refused(&["--validation", "0.2"], "--validation has no meaning without --hidden");
    refused(&["--hidden", "2", "--patience", "5"], "--patience has no meaning without --validation");
    refused(&["--hidden", "2", "--validation", "0", "--patience", "5"], "no meaning with --validation 0");
    refused(&["--hidden", "2", "--validation", "0.5", "--patience", "0"], "patience = 0");
    for share in ["1", "-0.1", "nan"] {
        refused(&["--hidden", "2", &format!("--validation={share}")], "is not from 0 to below 1");
    }
    refused(&["--hidden", "2", "--validation", "0.1"], "leaves no row with weight for validation");
    refused(&["--hidden", "2", "--validation", "0.9"], "leaves no row with weight for training");
}
