//! The commands as a shell calls them: exit status, standard output, standard error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod shell;

use std::path::Path;

use serde_json::Value;

use shell::{Csv, cotangent, data, document, failure, near, temporary};

const LONGLEY: [&str; 8] = ["fit", "--family", "gaussian", "--target", "TOTEMP", "--device", "cpu", "--json"];

/// The software adapter is there wherever `./tools/test` has run.
#[test]
fn fits_reach_the_references_on_every_kind_of_device() {
    let path = data("longley.csv");
    let mut names = Vec::new();
    for device in ["cpu", "software"] {
        let arguments = ["fit", "--family", "gaussian", "--target", "TOTEMP", "--json", "--data", &path];
        let fit = document(&[&arguments[..], &["--device", device]].concat());
        names.push(fit["device"].as_str().unwrap().to_string());
        assert_eq!(fit["converged"], true);
        // statsmodels; the tolerances are those of the contract.
        near(&fit["deviance"], 836_424.055_507_025_7, 1e-5);
        near(&fit["coefficients"]["YEAR"], 1_829.151_464_614_646, 1e-3);
    }
    assert_eq!(names[0], "cpu");
    assert_ne!(names[1], "cpu");
}

#[test]
fn fit_prints_every_key_of_the_contract() {
    let path = data("longley.csv");
    let (plot, save) = (temporary("plot.svg"), temporary("fit.safetensors"));
    let files = ["--data", &path, "--plot", plot.to_str().unwrap(), "--save", save.to_str().unwrap()];
    let fit = document(&[&LONGLEY[..], &files].concat());
    let keys: Vec<&str> = fit.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "family link device rows deviance null_deviance log_likelihood intercept coefficients \
                    standard_errors z_values dispersion aic converged iterations seconds loss_history";
    assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        (&fit["family"], &fit["link"], &fit["rows"]),
        (&"gaussian".into(), &"identity".into(), &16.into())
    );
    assert_eq!(fit["converged"], true);
    // Reference fit of statsmodels; the tolerances are those of the contract.
    near(&fit["deviance"], 836_424.055_507_025_7, 1e-5);
    near(&fit["coefficients"]["YEAR"], 1_829.151_464_614_646, 1e-3);
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    saved_predictions_are_those_of_the_fit(&save, &fit);
    for path in [plot, save] {
        std::fs::remove_file(path).unwrap();
    }
}

/// The file alone says which columns enter and what they predict, to the digits of f32 in what is predicted.
fn saved_predictions_are_those_of_the_fit(save: &Path, fit: &Value) {
    let saved = cotangent::io::load(save).unwrap();
    assert_eq!(saved["coefficients"].shape()[..], [1, 6]);
    let model: Value = serde_json::from_str(&cotangent::io::description(save).unwrap()["cotangent"]).unwrap();
    assert_eq!((&model["family"], &model["target"]), (&"gaussian".into(), &"TOTEMP".into()));
    let table = cotangent::io::Table::read(data("longley.csv")).unwrap();
    let [coefficients, mean, scale] =
        ["coefficients", "features.mean", "features.scale"].map(|name| saved[name].to_f64());
    let mut rows = 0;
    for row in 0..table.rows() {
        let mut found = saved["intercept"].to_f64()[0];
        let mut expected = fit["intercept"].as_f64().unwrap();
        let mut size = found.abs();
        for (position, name) in model["features"].as_array().unwrap().iter().enumerate() {
            let name = name.as_str().unwrap();
            let x = table.column(name).unwrap()[row];
            let term = coefficients[position] * (x - mean[position]) / scale[position];
            found += term;
            size += term.abs();
            expected += fit["coefficients"][name].as_f64().unwrap() * x;
        }
        // One rounding to f32 per term.
        assert!((found - expected).abs() <= f64::from(f32::EPSILON) * size, "{found} is not {expected}");
        rows += 1;
    }
    assert_eq!(rows, 16);
}

#[test]
fn a_mean_that_rounds_to_one_has_a_finite_deviance() {
    let overlapping = (0..100).map(|i| format!("{},{}\n", u8::from(i * 7 % 13 < 6), 0.1 * f64::from(i % 10)));
    let text = format!("y,x\n{}1,60\n", overlapping.collect::<String>());
    let rows = Csv::new("separated.csv", &text);
    for more in [&[][..], &["--hidden", "3", "--epochs", "20"]] {
        let output = rows.fit("bernoulli", more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let fit: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(fit["deviance"].as_f64().unwrap() > 0.0, "{fit}");
    }
}

#[test]
fn a_network_checks_its_targets_and_starts_from_the_model_without_features() {
    let counts = Csv::new("counts.csv", "y,x\n0,1\n3,2\n1,3\n5,4\n");
    let error = counts.failure("bernoulli", &["--hidden", "4"]);
    assert!(error.contains("the target is 3, bernoulli needs between 0 and 1"), "{error}");
    assert!(error.contains("line 3, column `y`"), "{error}");
    let error = counts.failure("categorical", &["--hidden", "4"]);
    assert!(error.contains("no target is 2"), "{error}");
    let error = counts.failure("categorical", &["--hidden", "4", "--offset", "x"]);
    assert!(error.contains("an offset has no meaning"), "{error}");
    // A large target is no hindrance, and the offset is part of the model without features.
    let path = data("longley.csv");
    let output = cotangent(&[&LONGLEY[..], &["--data", &path, "--hidden", "4"]].concat());
    let fit: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(fit["deviance"].as_f64().unwrap() < 0.1 * fit["null_deviance"].as_f64().unwrap(), "{fit}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not converged"));
    let exposed = Csv::new("exposed.csv", "y,x,o\n0,1,100\n3,2,101\n1,3,100\n5,4,102\n");
    let of = |more: &[&str]| -> Value {
        let output = exposed.fit("poisson", &[&["--offset", "o", "--features", "x"], more].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (network, linear) = (of(&["--hidden", "2", "--epochs", "50"]), of(&[]));
    assert_eq!(network["null_deviance"], linear["null_deviance"]);
    assert!(network["deviance"].as_f64() <= network["null_deviance"].as_f64(), "{network}");
}

#[test]
fn columns_that_are_left_out_are_named() {
    let text = |age: &str| format!("y,dose,age,sex\n1,2,30,f\n2,3,{age},m\n4,5,50,f\n3,4,20,m\n");
    let output = Csv::new("text.csv", &text("40")).fit("poisson", &[]);
    assert!(output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(error.contains("note: column `sex` is left out: line 2 holds \"f\""), "{error}");
    let spoiled = Csv::new("spoiled.csv", &text("NA"));
    let error = spoiled.failure("poisson", &[]);
    assert!(error.contains("line 3, column `age`: \"NA\" is no finite number, 3 of 4 rows are"), "{error}");
    assert!(spoiled.fit("poisson", &["--features", "dose"]).status.success());
}

#[test]
fn labels_that_are_measurements_are_refused() {
    let path = data("longley.csv");
    let arguments =
        ["fit", "--family", "categorical", "--target", "TOTEMP", "--device", "cpu", "--data", &path];
    for more in [&[][..], &["--hidden", "4"]] {
        let error = failure(&[&arguments, more].concat());
        assert!(error.contains("no target is 0; there are 16 different targets"), "{error}");
        assert!(error.contains("fitting `TOTEMP` of "), "{error}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_fitting_and_nothing_else_is_overwritten() {
    let path = data("longley.csv");
    for (option, file) in
        [("--plot", "/nonexistent/x.svg"), ("--plot", "/nonexistent/x.png"), ("--save", "/nonexistent/x")]
    {
        let error = failure(&[&LONGLEY[..], &["--data", &path, option, file]].concat());
        assert!(error.contains("cannot be written") && !error.contains("device:"), "{error}");
    }
    let folder = temporary("plots");
    std::fs::create_dir_all(&folder).unwrap();
    let (old, plot) = (folder.join("fit2.part.svg"), folder.join("fit2.svg"));
    std::fs::write(&old, "mine").unwrap();
    document(&[&LONGLEY[..], &["--data", &path, "--plot", plot.to_str().unwrap()]].concat());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    std::fs::remove_dir_all(&folder).unwrap();
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
    assert!(with(&["--link", "logit"]).contains("E_FAMILY"));
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
fn check_passes_on_every_device_that_is_always_here() {
    for device in ["cpu", "software"] {
        let check = document(&["check", "--device", device, "--json"]);
        assert_eq!(check["failed"], Value::Array(vec![]), "{device}");
        assert!(check["cases"].as_u64().unwrap() >= 250, "{device}");
    }
}

#[test]
fn check_measures_errors_in_units_in_the_last_place() {
    for device in ["cpu", "software"] {
        let check = document(&["check", "--ulp", "--op", "exp", "--device", device, "--json"]);
        let function = &check["functions"][0];
        assert_eq!((&function["function"], &function["kept"]), (&"exp".into(), &true.into()), "{device}");
        assert!(function["points"].as_u64().unwrap() >= 1 << 20, "{device}");
        let ulp = function["ulp"].as_f64().unwrap();
        assert!(ulp > 0.5 && ulp <= function["promise"].as_f64().unwrap(), "{device}: {ulp}");
        assert_eq!(check["broken"], Value::Array(vec![]), "{device}");
    }
    assert!(failure(&["check", "--ulp", "--device", "cpu", "--op", "huber"]).contains("no function `huber`"));
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
fn the_first_gradient_is_that_of_a_new_process() {
    let alone = cotangent(&["bench", "--first-gradient", "--device", "cpu"]);
    assert!(alone.status.success());
    let text = String::from_utf8(alone.stdout).unwrap();
    assert!(text.starts_with("loss ") && text.ends_with(" slopes\n"), "{text}");
    let output = cotangent(&["bench", "--device", "cpu", "--filter", "first_gradient", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["task"], &line["checked"]), (&"first_gradient".into(), &true.into()));
    assert!(line["min_seconds"].as_f64().unwrap() > 0.0);
    assert!(!cotangent(&["bench", "--first-gradient", "--device", "abacus"]).status.success());
}

#[test]
fn info_says_what_best_would_take() {
    let info = document(&["info", "--json"]);
    assert!(info["best"].is_string() && info["why"].is_string());
    assert_eq!(info["devices"][0]["name"], "cpu");
}

const FUNCTIONS: &str = "
fn hinge(p: f32, y: f32, m: f32) -> f32 { return max(0.0, 1.0 - y * p + m); }
fn ring(v: vec3<f32>, t: f32) -> f32 { let d = length(v) - t; return d * d; }
fn pick(z: array<f32, 3>, k: u32) -> f32 { return z[k] * z[0] + z[2] * z[2] * z[2]; }
fn geo(x: f32, n: i32) -> f32 { var t = 1.0; var s = 0.0; for (var i = 0; i < n; i++) { t *= x; s += t; } return s; }
fn heron(a: f32) -> f32 { var x = a; while (abs(x * x - a) > 0.0009765625 * a) { x = 0.5 * (x + a / x); } return x; }
fn s(x: f32) -> f32 { return sign(x); }
fn s_vjp(x: f32, upstream: f32) -> f32 { let q = 1.0 / (1.0 + exp(-x)); return upstream * q * (1.0 - q); }
fn ste(x: f32, y: f32) -> f32 { let d = s(x) - y; return 0.5 * d * d; }
";

/// The table of CONFORMANCE, as far as loops have a known number of rounds.
#[test]
fn grad_prints_value_gradient_and_curvature_of_reference_and_device() {
    let file = temporary("functions.wgsl");
    std::fs::write(&file, FUNCTIONS).unwrap();
    let file = file.display().to_string();
    let numbers = |value: &Value| -> Vec<f64> {
        match value.as_array() {
            Some(several) => several.iter().map(|x| x.as_f64().unwrap()).collect(),
            None => vec![value.as_f64().unwrap()],
        }
    };
    type Row<'a> = (&'a str, &'a str, f64, &'a [(&'a str, &'a [f64], &'a [f64])]);
    let third = 1.0 / 3.0;
    let rows: [Row; 6] = [
        ("geo", "x=0.5,n=4", 0.9375, &[("x", &[3.25], &[8.0])]),
        ("heron", "a=9", 3.00009155413, &[("a", &[0.166732790026], &[-0.00922308792783])]),
        (
            "hinge",
            "p=1,y=1,m=0.5",
            0.5,
            &[("p", &[-1.0], &[0.0]), ("y", &[-1.0], &[0.0]), ("m", &[1.0], &[0.0])],
        ),
        (
            "ring",
            "v=[1,2,2],t=2.5",
            0.25,
            &[
                ("v", &[third, 2.0 * third, 2.0 * third], &[0.518518518519, 1.07407407407, 1.07407407407]),
                ("t", &[-1.0], &[2.0]),
            ],
        ),
        ("pick", "z=[0.5, -1.5, 2], k=1", 7.25, &[("z", &[-1.5, 0.5, 12.0], &[0.0, 0.0, 12.0])]),
        ("ste", "x=3,y=-1", 2.0, &[("x", &[0.0903533194618], &[-0.0797422187374]), ("y", &[-2.0], &[1.0])]),
    ];
    for device in ["cpu", "software"] {
        for (name, at, value, slopes) in rows {
            let arguments =
                ["grad", &file, "--fn", name, "--at", at, "--order", "2", "--json", "--device", device];
            let document = document(&arguments);
            let near = |found: &[f64], expected: &[f64], relative: f64| {
                assert_eq!(found.len(), expected.len(), "{document}");
                for (a, b) in found.iter().zip(expected) {
                    assert!((a - b).abs() <= relative * b.abs().max(1.0), "{name}: {a} {b}");
                }
            };
            near(&numbers(&document["value"]), &[value], 1e-9);
            near(&numbers(&document["device_value"]), &[value], 1e-6);
            for (parameter, first, second) in slopes {
                near(&numbers(&document["gradient"][parameter]), first, 1e-9);
                near(&numbers(&document["device_gradient"][parameter]), first, 1e-6);
                near(&numbers(&document["hessian_diagonal"][parameter]), second, 1e-9);
            }
            assert!(document["device"].as_str().unwrap().contains(if device == "cpu" {
                "cpu"
            } else {
                "llvmpipe"
            }));
            assert!(document["wgsl"].as_str().unwrap().contains(&format!("fn {name}_vjp(")));
        }
    }
    let output = cotangent(&[
        "grad",
        &file,
        "--fn",
        "hinge",
        "--at",
        "p=1,y=1,m=0.5",
        "--upstream",
        "-2",
        "--device",
        "cpu",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("hinge(p: f32, y: f32, m: f32) -> f32") && text.contains("∂/∂p        2.0"),
        "{text}"
    );
}

#[test]
fn grad_takes_structures_by_their_fields() {
    let file = temporary("structures.wgsl");
    let text = "struct Row { x: vec2<f32>, label: u32 }
        struct Pair { a: f32, b: vec2<f32> }
        fn pick(row: Row, scale: f32) -> f32 { return scale * row.x[row.label]; }
        fn sum(s: Pair) -> f32 { return s.a * s.b.x + s.b.y * s.b.y; }";
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let called = |name: &str, at: &str| {
        document(&["grad", &path, "--fn", name, "--at", at, "--order", "2", "--json", "--device", "cpu"])
    };
    let pick = called("pick", "row.x=[2,3],row.label=1,scale=10");
    assert_eq!(pick["value"], 30.0);
    assert_eq!(pick["gradient"], serde_json::json!({ "row.x": [0.0, 10.0], "scale": 3.0 }));
    assert_eq!(pick["device_gradient"], pick["gradient"]);
    let fields = called("sum", "s.b=[2,3],s.a=1");
    assert_eq!(fields["gradient"], serde_json::json!({ "s.a": 2.0, "s.b": [1.0, 6.0] }));
    assert_eq!(fields["hessian_diagonal"], serde_json::json!({ "s.a": 0.0, "s.b": [0.0, 2.0] }));
    assert_eq!(called("sum", "s=[1,2,3]")["gradient"], serde_json::json!({ "s": [2.0, 1.0, 6.0] }));
    // an index that is a float, and no obstacle
    let index = temporary("index.wgsl");
    std::fs::write(&index, "fn f(z: vec3<f32>, label: f32) -> f32 { return z[i32(label)]; }").unwrap();
    let index = index.display().to_string();
    let picked = document(&["grad", &index, "--at", "z=[1,2,4],label=2", "--json", "--device", "cpu"]);
    assert_eq!((&picked["value"], &picked["gradient"]["label"]), (&4.0.into(), &0.0.into()));
    assert_eq!(picked["lints"][0]["code"], "LN1");
    let wrong = |at: &str| failure(&["grad", &path, "--fn", "pick", "--at", at, "--device", "cpu"]);
    let text = wrong("row=[1,2,3],scale=1");
    assert!(text.contains("holds several types") && text.contains("--at row.x=…,row.label=…"), "{text}");
    assert!(wrong("row.x=[1,2],scale=1").contains("`row.label` is not given"));
    assert!(wrong("row.x=[1,2],row.label=0,scale=1,row.y=2").contains("no parameter `row.y`"));
    assert!(wrong("row.x=[1,2],row.lable=0,scale=1").contains("no parameter `row.lable`"));
    assert!(wrong("row.x=[1,2],row.label=-1,scale=1").contains("`row.label` is u32, and -1 is none"));
}

#[test]
fn grad_prints_lints_beside_its_document() {
    let file = temporary("lints.wgsl");
    std::fs::write(&file, "fn f(x: f32) -> f32 { return sqrt(x); }").unwrap();
    let path = file.display().to_string();
    let output = cotangent(&["grad", &path, "--at", "x=0", "--json", "--device", "cpu"]);
    // T74
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["gradient"]["x"], "inf");
    assert_eq!((&document["lints"][0]["code"], &document["lints"][0]["line"]), (&"LN3".into(), &1.into()));
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(messages.contains("warning[LN3]") && messages.contains("return sqrt(x);"), "{messages}");
    let output = cotangent(&["grad", &path, "--at", "x=0", "--allow", "LN3", "--device", "cpu"]);
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("LN3"));
    assert!(failure(&["grad", &path, "--at", "x=0", "--allow", "LN9"]).contains("no lint `LN9`"));
}

#[test]
fn grad_takes_overrides() {
    let file = temporary("overrides.wgsl");
    std::fs::write(&file, "override power: i32 = 2; fn f(x: f32) -> f32 { var y = 1.0; for (var i = 0; i < power; i++) { y *= x; } return y; }").unwrap();
    let path = file.display().to_string();
    let at = ["grad", &path, "--at", "x=3", "--json", "--device", "cpu"];
    assert_eq!(document(&at)["gradient"]["x"], 6.0);
    assert_eq!(document(&[&at[..], &["--constant", "power=3"]].concat())["gradient"]["x"], 27.0);
    assert!(failure(&[&at[..], &["--constant", "powr=3"]].concat()).contains("there are: power"));
    assert!(failure(&[&at[..], &["--constant", "power=x"]].concat()).contains("`power=x` is no name=number"));
}

#[test]
fn grad_says_what_is_wrong_with_a_point_or_a_text() {
    let file = temporary("wrong.wgsl");
    std::fs::write(&file, FUNCTIONS).unwrap();
    let path = file.display().to_string();
    for (arguments, expected) in [
        (&["--at", "x=1"][..], "several functions: hinge, ring, pick, geo, heron, s, ste"),
        (&["--fn", "hing", "--at", "x=1"], "there are: hinge"),
        (&["--fn", "ste", "--at", "x=1"], "`y` is not given"),
        (&["--fn", "ste", "--at", "x=1,y=2,z=3"], "no parameter `z`"),
        (&["--fn", "ste", "--at", "x=1,x=2"], "`x` is given twice"),
        (&["--fn", "ste", "--at", "x=one,y=2"], "`one` of `x` is no number"),
        (&["--fn", "ring", "--at", "v=[1,2],t=1"], "`v` is vec3<f32>, 3 numbers; 2 are given"),
        (&["--fn", "ring", "--at", "v=[1,2,3,t=1"], "no `]`"),
        (&["--fn", "pick", "--at", "z=[1,2,3],k=1.5"], "`k` is u32, and 1.5 is none"),
        (&["--fn", "ste", "--at", "x"], "`x` is no name=number"),
    ] {
        let text = failure(&[&["grad", &path][..], arguments, &["--device", "cpu"]].concat());
        assert!(text.contains(expected), "{text}");
    }
    std::fs::write(&file, "fn f(x: f32) -> f32 {\n  return x + y;\n}").unwrap();
    let text = failure(&["grad", &path, "--at", "x=1"]);
    assert!(text.contains("wrong.wgsl:2:14") && text.contains("`y`"), "{text}");
    assert!(failure(&["grad", "nowhere.wgsl", "--at", "x=1"]).contains("E_FILE"));
}
