//! `cotangent fit` by every family and link of the contract.

mod shell;

use serde_json::Value;

use shell::{Csv, data, document, near};

#[test]
fn families_and_links_of_the_contract_reach_their_references() {
    let references: Value =
        serde_json::from_str(&std::fs::read_to_string(data("reference_fits.json")).unwrap()).unwrap();
    let counts = std::fs::read_to_string(data("randhie.csv")).unwrap();
    let seen = Csv::new("seen.csv", &{
        // Rows with a visit: the first column is the target.
        let mut lines = counts.lines();
        let header = lines.next().unwrap();
        let position = header.split(',').position(|name| name == "mdvis").unwrap();
        let kept = lines.filter(|line| line.split(',').nth(position).unwrap().parse::<f64>().unwrap() > 0.0);
        std::iter::once(header).chain(kept).map(|line| format!("{line}\n")).collect::<String>()
    });
    let seen = seen.0.to_str().unwrap().to_string();
    let (all, cancer) = (data("randhie.csv"), data("breast_cancer.csv"));
    let cases: [(&str, &str, &[&str]); 8] = [
        ("poisson_log_randhie", &all, &["poisson"]),
        ("negative_binomial_log_alpha1_randhie", &all, &["negative_binomial", "--alpha", "1"]),
        ("tweedie15_log_randhie", &all, &["tweedie", "--power", "1.5"]),
        ("gamma_log_randhie_positive", &seen, &["gamma", "--link", "log"]),
        ("inverse_gaussian_log_randhie_positive", &seen, &["inverse_gaussian", "--link", "log"]),
        ("bernoulli_logit_breast_cancer", &cancer, &["binomial"]),
        ("bernoulli_probit_breast_cancer", &cancer, &["bernoulli", "--link", "probit"]),
        ("bernoulli_cloglog_breast_cancer", &cancer, &["binomial", "--link", "cloglog"]),
    ];
    for (case, path, family) in cases {
        let expected = &references[case];
        let names = expected["features"].as_array().unwrap();
        let features = names.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join(",");
        let target = expected["target"].as_str().unwrap();
        let fixed =
            ["--data", path, "--target", target, "--features", &features, "--json", "--device", "cpu"];
        let fit = document(&[&["fit", "--family"], family, &fixed].concat());
        assert_eq!(fit["converged"], true, "{case}");
        near(&fit["deviance"], expected["deviance"].as_f64().unwrap(), 1e-5);
        near(&fit["intercept"], expected["intercept"].as_f64().unwrap(), 1e-3);
        for name in names.iter().map(|name| name.as_str().unwrap()) {
            near(&fit["coefficients"][name], expected["coefficients"][name].as_f64().unwrap(), 1e-3);
            near(&fit["standard_errors"][name], expected["standard_errors"][name].as_f64().unwrap(), 1e-3);
        }
    }
    let small = Csv::new("pairs.csv", "y,x\n1,0\n2,1\n4,2\n3,3\n");
    let refused = |family: &str, more: &[&str], text: &str| {
        let error = small.failure(family, more);
        assert!(error.contains(text) && !error.contains(".rs:"), "{error}");
    };
    refused("poisson", &["--link", "probit"], "the link `probit` does not go with poisson");
    refused("poisson", &["--link", "lgo"], "there is no link `lgo`");
    refused("negative_binomial", &[], "give `--alpha A`");
    refused("tweedie", &["--power", "2"], "power = 2 is not between 1 and 2");
    refused("gamma", &["--alpha", "1"], "--alpha has no meaning for gamma");
    refused("bernoulli", &[], "the target is 2, bernoulli needs between 0 and 1");
    let output = small.fit("poisson", &["--learning-rate", "0.1"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--learning-rate has no effect on newton"));
    // Networks by the same pairs.
    let output = small.fit("gamma", &["--link", "log", "--hidden", "3", "--epochs", "30"]);
    let fit: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(fit["deviance"].as_f64().unwrap() < fit["null_deviance"].as_f64().unwrap(), "{fit}");
}
