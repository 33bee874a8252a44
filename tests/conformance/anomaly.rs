//! F. NaN and infinity.

use crate::common::check::unchecked;
use crate::common::{
    Check, Code, DType, Error, Evaluate, Evaluator, Step, StepOptions, Tensor, Watch, custom_gradient, grad,
};
use crate::harness::{Case, Findings};
use crate::judge::numbers;

pub const CASES: &[Case] = &[Case {
    label: "t71_rule_that_makes_a_nan",
    origin: "PyTorch test_anomaly_detect_nan, test_anomaly_mode_no_check_nan; infinity measured",
    program: t71,
}];

/// x, whose rule puts 0/0 or 1/0 into its gradient where x is 0.
fn poisoned(x: &Tensor, numerator: fn(&Tensor) -> Tensor) -> Tensor {
    custom_gradient("poisoned", [x], |[x]| (&x * 1.0, move |upstream: Tensor| upstream * (numerator(&x) / x)))
}

/// Numerator; gradient at [0, 4] and at [2, 4]; what watches for it, and what is said.
type Poison = (fn(&Tensor) -> Tensor, [&'static str; 2], Watch, &'static [&'static str]);

const POISONS: [Poison; 2] = [
    (|x| x * 1.0, ["NaN 1", "1 1"], Watch::Nan, &["`div` makes NaN at element 0 of [2]", "`x` is 0"]),
    (
        |x| Tensor::ones(x.shape()),
        ["inf 0.25", "0.5 0.25"],
        Watch::Infinite,
        &["`div` makes inf at element 0 of [2]", "`x` is 0"],
    ),
];

/// Anomaly mode is one of steps, which only devices have; on the reference the numbers arrive as everywhere.
fn t71(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    for (numerator, [gradient, finite], watch, says) in POISONS {
        let slope = |x: &Tensor| unchecked(|| grad(&poisoned(x, numerator).sum(..), x))?.or_error();
        // An infinity has no bound to be judged by.
        let arrived = e.evaluate(&[&slope(&Tensor::new([0.0, 4.0]))?])?;
        f.known("without anomaly mode", &arrived, numbers(gradient));
        let Some(device) = &e.device else { continue };
        let x = Tensor::input("x", [2], DType::F32);
        let slope = slope(&x)?;
        let run = |check, data: [f32; 2]| {
            let options = StepOptions { check, ..StepOptions::default() };
            Step::with_options(device, &[&x], &[&slope], &[], options)?.run(&[(&x, &data)])?.read(0)
        };
        for check in [Check::Off, Check::Status] {
            f.known("without value checks", &[run(check, [0.0, 4.0])?], numbers(gradient));
        }
        for watch in [watch, Watch::NotFinite] {
            let error = run(Check::Anomaly(watch), [0.0, 4.0]);
            f.error("what", error.clone(), Code::Anomaly, says);
            f.error("where", error, Code::Anomaly, &["gradient 0 of rule `poisoned`", "anomaly.rs"]);
        }
        f.known("nothing to find", &[run(Check::Anomaly(watch), [2.0, 4.0])?], numbers(finite));
    }
    Ok(())
}
