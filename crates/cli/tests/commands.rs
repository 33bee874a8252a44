//! The commands as a shell calls them: exit status, standard output, standard error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn cotangent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cotangent")).args(arguments).output().unwrap()
}
fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name).display().to_string()
}
/// Standard output of a successful call, as its one document.
fn document(arguments: &[&str]) -> Value {
    let output = cotangent(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
/// Standard error of a call that must fail, and print nothing else.
fn failure(arguments: &[&str]) -> String {
    let output = cotangent(arguments);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cotangent-cli-{}-{name}", std::process::id()))
}

const LONGLEY: [&str; 8] = ["fit", "--family", "gaussian", "--target", "TOTEMP", "--device", "cpu", "--json"];

#[test]
fn fit_prints_every_key_of_the_contract() {
    let path = data("longley.csv");
    let (plot, save) = (temporary("plot.svg"), temporary("fit.safetensors"));
    let files = ["--data", &path, "--plot", plot.to_str().unwrap(), "--save", save.to_str().unwrap()];
    let fit = document(&[&LONGLEY[..], &files].concat());
    let keys: Vec<&str> = fit.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "family link device rows deviance null_deviance log_likelihood intercept coefficients \
                    standard_errors converged iterations seconds loss_history";
    assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        (&fit["family"], &fit["link"], &fit["rows"]),
        (&"gaussian".into(), &"identity".into(), &16.into())
    );
    assert_eq!(fit["converged"], true);
    // Reference fit of statsmodels; the tolerances are those of the contract.
    let near = |value: &Value, expected: f64, relative: f64| {
        assert!(
            (value.as_f64().unwrap() - expected).abs() <= relative * expected.abs(),
            "{value} {expected}"
        );
    };
    near(&fit["deviance"], 836_424.055_507_025_7, 1e-5);
    near(&fit["coefficients"]["YEAR"], 1_829.151_464_614_646, 1e-3);
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    let saved = cotangent::io::load(&save).unwrap();
    assert_eq!(saved["coefficients"].shape()[..], [1, 6]);
    for path in [plot, save] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn categorical_fits_have_coefficients_per_class() {
    let path = data("anes96.csv");
    let arguments =
        ["fit", "--family", "categorical", "--target", "PID", "--data", &path, "--json", "--device", "cpu"];
    let features = ["--features", "logpopul,selfLR,age,educ,income"];
    let fit = document(&[&arguments[..], &features].concat());
    assert_eq!(fit["intercept"].as_object().unwrap().len(), 6);
    assert_eq!(fit["coefficients"]["6"].as_object().unwrap().len(), 5);
    let (deviance, log_likelihood) =
        (fit["deviance"].as_f64().unwrap(), fit["log_likelihood"].as_f64().unwrap());
    assert!(
        (deviance + 2.0 * log_likelihood).abs() <= 4.0 * f64::EPSILON * deviance,
        "{deviance}, {log_likelihood}"
    );
}

#[test]
fn a_network_is_trained_and_saved() {
    let path = data("breast_cancer.csv");
    let save = temporary("network.safetensors");
    let plot = temporary("network.png");
    let arguments = [
        "fit",
        "--family",
        "bernoulli",
        "--target",
        "target",
        "--data",
        &path,
        "--hidden",
        "8",
        "--epochs",
        "60",
        "--seed",
        "3",
        "--device",
        "cpu",
        "--json",
        "--save",
        save.to_str().unwrap(),
        "--plot",
        plot.to_str().unwrap(),
    ];
    let fit = document(&arguments);
    let losses = fit["loss_history"].as_array().unwrap();
    assert_eq!(losses.len(), 60);
    assert!(losses[59].as_f64() < losses[0].as_f64());
    assert!(fit["deviance"].as_f64() < fit["null_deviance"].as_f64());
    assert_eq!(cotangent::io::load(&save).unwrap()["layer0.weight"].shape()[..], [30, 8]);
    assert_eq!(std::fs::read(&plot).unwrap()[1..4], *b"PNG");
    for path in [plot, save] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_unconverged_fit_succeeds_and_says_so() {
    let path = data("longley.csv");
    let arguments = [&LONGLEY[..], &["--data", &path, "--optimizer", "sgd", "--epochs", "2"]].concat();
    let output = cotangent(&arguments);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not converged"));
    let fit: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(fit["converged"], false);
}

#[test]
fn mistakes_are_told_on_standard_error() {
    let path = data("longley.csv");
    let with = |more: &[&str]| failure(&[&LONGLEY[..], &["--data", &path], more].concat());
    assert!(with(&["--link", "log"]).contains("E_FAMILY"));
    assert!(with(&["--alpha", "1"]).contains("--alpha has no meaning for gaussian"));
    assert!(with(&["--features", "GPN"]).contains("did you mean `GNP`?"));
    assert!(with(&["--plot", "plot.jpg"]).contains("a .svg or a .png"));
    assert!(with(&["--learning-rate", "nan"]).contains("E_HYPERPARAMETER"));
    assert!(failure(&["fit", "--family", "gauss", "--target", "a", "--data", &path]).contains("`gaussian`"));
    assert!(
        failure(&["fit", "--family", "poisson", "--target", "a", "--data", "absent.csv"]).contains("E_FILE")
    );
    assert!(failure(&["check", "--device", "abacus"]).contains("E_NO_ADAPTER"));
    assert!(failure(&["check", "--device", "cpu", "--op", "frobnicate"]).contains("no case"));
    assert!(failure(&["bench", "--device", "cpu", "--filter", "frobnicate"]).contains("no task"));
    assert!(failure(&["conquer"]).contains("conquer"));
}

#[test]
fn check_counts_its_cases() {
    let check = document(&["check", "--device", "cpu", "--op", "huber", "--json"]);
    assert_eq!((&check["device"], &check["failed"]), (&"cpu".into(), &Value::Array(vec![])));
    assert!(check["cases"].as_u64().unwrap() >= 1);
    assert!(check["worst_ratio"].as_f64().unwrap() <= 1.0);
}

#[test]
fn bench_prints_one_document_per_line() {
    let output = cotangent(&["bench", "--device", "cpu", "--filter", "seed_sgd", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["task"], &lines[0]["checked"]), (&"seed_sgd".into(), &true.into()));
    for key in ["median_seconds", "min_seconds", "gigabytes_per_second", "gigaflops", "percent_of_roof"] {
        assert!(lines[0][key].as_f64().unwrap() > 0.0, "{key}");
    }
}

#[test]
fn info_says_what_best_would_take() {
    let info = document(&["info", "--json"]);
    assert!(info["best"].is_string() && info["why"].is_string());
    assert_eq!(info["devices"][0]["name"], "cpu");
}
