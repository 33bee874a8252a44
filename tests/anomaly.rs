//! Anomaly mode: the first NaN or infinity with its operation, operands and line, forward and backward.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "common/mod.rs"]
mod common;

use common::{adapter_present, evaluators};
use cotangent::{
    Check, Code, CustomGradient, DType, Detail, Device, Error, Feed, Kind, Step, StepOptions, Target, Tensor,
    Watch, custom_gradient, grad,
};

/// The CPU device and every adapter.
fn devices() -> Vec<Device> {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    evaluators.into_iter().filter_map(|evaluator| evaluator.device).collect()
}

fn watching(watch: Watch) -> StepOptions {
    StepOptions { check: Check::Anomaly(watch), ..StepOptions::default() }
}

/// The error of one run.
fn error_of(
    device: &Device,
    inputs: &[(&Tensor, Vec<f32>)],
    outputs: &[&Tensor],
    watch: Watch,
) -> Result<(), Error> {
    let names: Vec<&Tensor> = inputs.iter().map(|(input, _)| *input).collect();
    let step = Step::with_options(device, &names, outputs, &[], watching(watch))?;
    let fed: Vec<(&Tensor, &dyn Feed)> =
        inputs.iter().map(|(input, data)| (*input, data as &dyn Feed)).collect();
    step.run(&fed)?.wait()
}

#[track_caller]
fn says(error: &Error, parts: &[&str]) {
    assert_eq!(error.code(), Code::Anomaly, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_operation_inside_of_a_fused_kernel_is_named_with_its_operands_and_line() {
    for device in devices() {
        let w = Tensor::input("w", [4], DType::F32);
        let line = line!() + 1;
        let logs = w.log();
        let loss = ((logs * 2.0 + 1.0).sin() * &w).sum(..);
        let good = error_of(&device, &[(&w, vec![1.0, 2.0, 3.0, 4.0])], &[&loss], Watch::NotFinite);
        assert!(good.is_ok(), "{good:?}");
        let error =
            error_of(&device, &[(&w, vec![1.0, 2.0, -3.0, 4.0])], &[&loss], Watch::NotFinite).unwrap_err();
        says(
            &error,
            &["`log` makes NaN at element 2 of [4]", "forward pass", "`w` is -3", "anomaly.rs", "in kernel"],
        );
        assert_eq!(error.location().unwrap().line(), line);
        let details: Vec<_> = error.details().iter().map(|(name, _)| *name).collect();
        assert_eq!(details, ["kernel", "node", "element", "order"]);
        assert!(error.details().iter().any(|(_, detail)| *detail == Detail::Integer(2)));
    }
}

#[test]
fn the_backward_pass_and_higher_orders_say_so() {
    for device in devices() {
        let x = Tensor::input("x", [3], DType::F32);
        let loss = x.sqrt().sum(..);
        let slope = grad(&loss, &x).unwrap().or_error().unwrap();
        let data = || vec![(&x, vec![4.0, 0.0, 1.0])];
        assert!(error_of(&device, &data(), &[&loss], Watch::NotFinite).is_ok());
        let error = error_of(&device, &data(), &[&loss, &slope], Watch::NotFinite).unwrap_err();
        says(&error, &["inf at element 1 of [3]", "backward pass", "anomaly.rs"]);
        assert_eq!(error.location().unwrap().line(), line!() - 6);
        // A NaN born at second order: the slope of 1/x is finite at 1e-13, its second derivative is not.
        let cubes = (&x * &x * 0.5 + x.recip()).sum(..);
        let first = grad(&cubes, &x).unwrap().or_error().unwrap();
        let second = grad(&first.sum(..), &x).unwrap().or_error().unwrap();
        let tiny = || vec![(&x, vec![1.0, 1e-13, 1.0])];
        assert!(error_of(&device, &tiny(), &[&cubes, &first], Watch::NotFinite).is_ok());
        let error = error_of(&device, &tiny(), &[&second], Watch::NotFinite).unwrap_err();
        says(&error, &["inf", "derivative of order 2", "element 1"]);
    }
}

#[test]
fn t71_a_rule_that_makes_a_nan_is_named_with_its_gradient() {
    for device in devices() {
        for (value, watch, other) in
            [(f64::NAN, Watch::Nan, Watch::Infinite), (f64::INFINITY, Watch::Infinite, Watch::Nan)]
        {
            let x = Tensor::input("x", [2], DType::F32);
            let y = custom_gradient("poisoned", [&x], |[x]| {
                let poison = Tensor::new([value, 1.0]);
                (&x * 1.0, move |upstream: Tensor| upstream * poison)
            });
            let slope = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
            let data = || vec![(&x, vec![1.0, 2.0])];
            let text = if value.is_nan() { "NaN" } else { "inf" };
            for seen in [watch, Watch::NotFinite] {
                let error = error_of(&device, &data(), &[&slope], seen).unwrap_err();
                says(&error, &[text, "element 0", "anomaly.rs"]);
            }
            assert!(error_of(&device, &data(), &[&slope], other).is_ok());
            // Made by the rule itself, of operands that are finite.
            let rule = CustomGradient::surrogate("root", "a test");
            let y = rule.apply([&x], |[x]| (&x * 1.0, move |g: Tensor| g / (x - 1.0)));
            let slope = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
            let error = error_of(&device, &data(), &[&slope], Watch::NotFinite).unwrap_err();
            says(&error, &["`div` makes inf at element 0", "gradient 0 of rule `root`", "backward pass"]);
        }
    }
}

#[test]
fn variables_keep_the_values_from_before_the_run_and_the_step_runs_on() {
    for device in devices() {
        let w = device.variable("w", &[1.0, 2.0]).unwrap();
        let count = device.variable("count", &0.0).unwrap();
        let x = Tensor::input("x", [2], DType::F32);
        let next = &w - &x;
        let updates = [(w.tensor(), &next.log()), (count.tensor(), &(&count + 1.0))];
        let step =
            Step::with_options(&device, &[&x], &[&next], &updates, watching(Watch::NotFinite)).unwrap();
        let held = || {
            device
                .read_all(&[w.tensor(), count.tensor()])
                .unwrap()
                .iter()
                .map(|a| a.to_f64())
                .collect::<Vec<_>>()
        };
        for _ in 0..2 {
            let before = held();
            let run = step.run(&[(&x, &[0.0, 5.0])]).and_then(|outputs| {
                // Asked again, it says the same.
                assert!(outputs.wait().is_err() && outputs.read(0).is_err());
                outputs.wait()
            });
            let error = run.unwrap_err();
            says(&error, &["`log` makes NaN at element 1 of [2]", "is -3"]);
            assert_eq!(held(), before);
        }
        let outputs = step.run(&[(&x, &[0.0, 1.0])]).unwrap();
        assert_eq!(outputs.read(0).unwrap().to_f64(), [1.0, 1.0]);
        assert_eq!(held(), [vec![0.0, 0.0], vec![1.0]]);
        // A run that nobody waits for is judged before the next one.
        let forgotten = step.run(&[(&x, &[5.0, 5.0])]);
        let next = forgotten.and_then(|_| step.run(&[(&x, &[-1.0, -1.0])]).map(|_| ()));
        says(&next.unwrap_err(), &["makes NaN", "element 0"]);
        assert_eq!(held(), [vec![0.0, 0.0], vec![1.0]]);
        step.run(&[(&x, &[-1.0, -1.0])]).unwrap().wait().unwrap();
        assert_eq!(held(), [vec![0.0, 0.0], vec![2.0]]);
    }
}

#[test]
fn a_branch_that_is_not_taken_is_no_anomaly_and_a_taken_one_is_followed() {
    for device in devices() {
        let x = Tensor::input("x", [4], DType::F32);
        let safe = x.gt(0.0).select(x.log(), 0.0);
        let slope = grad(&safe.sum(..), &x).unwrap().or_error().unwrap();
        let data = |values: [f32; 4]| vec![(&x, values.to_vec())];
        assert!(error_of(&device, &data([-1.0, 0.0, 1.0, 2.0]), &[&safe, &slope], Watch::NotFinite).is_ok());
        let wrong = x.gt(0.0).select(0.0, x.log());
        let error = error_of(&device, &data([1.0, 2.0, 3.0, -4.0]), &[&wrong], Watch::NotFinite).unwrap_err();
        says(&error, &["`log` makes NaN at element 3", "`x` is -4"]);
        // An input that holds one is named itself.
        let error =
            error_of(&device, &data([1.0, f32::NAN, 3.0, 4.0]), &[&(x.exp() * 2.0)], Watch::Nan).unwrap_err();
        says(&error, &["`x` holds NaN at element 1 of [4]"]);
        // What overflows on the device and not in the reference.
        let error =
            error_of(&device, &data([1.0, 2.0, 90.0, 4.0]), &[&x.exp()], Watch::NotFinite).unwrap_err();
        says(&error, &["`exp` makes inf", "is beyond f32", "`x` is 90"]);
    }
}

#[test]
fn every_schedule_and_type_of_kernel_is_watched() {
    // Kernels of a GPU, in grids of many dispatches: tiles of products are chosen there.
    let narrow = Target { max_workgroups: 3, ..Target::web() };
    let adapters = devices().into_iter().filter(|device| device.info().kind != Kind::Cpu);
    let narrow: Vec<Device> = adapters.map(|device| device.with_limits(&narrow).unwrap()).collect();
    for device in devices().into_iter().chain(narrow) {
        let x = Tensor::input("x", [40, 70], DType::F32);
        let w = Tensor::iota([70, 30], 0).cast(DType::F32) * 0.01;
        let wide = x.reshape([2, 1400]);
        let cases: [(&str, Tensor); 11] = [
            ("map", &x * 2.0),
            ("rows", x.sum(1)),
            ("columns", x.sum(0)),
            ("total", x.sum(..)),
            ("product", x.matmul(&w)),
            ("scan", x.cumulative_sum(1, false)),
            ("softmax", x.softmax(1)),
            ("parts", Tensor::concat(&[&x.exp(), &(&x + 1.0)], 0)),
            ("half", (&x * 3.0).cast(DType::F16)),
            // A sum in chunks, and one whose epilogue is a kernel of its own.
            ("product in chunks", wide.matmul(&wide.transpose())),
            ("product with an epilogue", x.matmul(&w).tanh().erf() + x.matmul(&w).lgamma().exp().sin()),
        ];
        let mut data = vec![0.5f32; 2800];
        for (name, tensor) in &cases {
            let good = error_of(&device, &[(&x, data.clone())], &[tensor], Watch::NotFinite);
            assert!(good.is_ok(), "{name}: {good:?}");
        }
        data[1717] = f32::NAN;
        for (name, tensor) in &cases {
            let error = error_of(&device, &[(&x, data.clone())], &[tensor], Watch::Nan).unwrap_err();
            assert_eq!(error.code(), Code::Anomaly, "{name}: {error}");
            assert!(error.to_string().contains("`x` holds NaN at element 1717"), "{name}: {error}");
        }
        data[1717] = 30_000.0;
        let error = error_of(&device, &[(&x, data)], &[&cases[8].1], Watch::Infinite).unwrap_err();
        says(&error, &["inf", "operand 0 is 90000", "element 1717"]);
    }
}

#[test]
fn an_index_outside_its_axis_comes_first_and_variables_keep_their_values_too() {
    for device in devices() {
        let table = Tensor::new([1.0, 2.0, 3.0]);
        let at = Tensor::input("at", [1], DType::I32);
        let (v, w) = (device.variable("v", &[0.0]).unwrap(), device.variable("w", &[1.0]).unwrap());
        let updates = [(v.tensor(), &table.gather(0, &at)), (w.tensor(), &(&w - 1.0).log())];
        let step = Step::with_options(&device, &[&at], &[], &updates, watching(Watch::NotFinite)).unwrap();
        let held = || [&v, &w].map(|variable| device.read(variable.tensor()).unwrap().to_f64()[0]);
        let error = step.run(&[(&at, &[99])]).and_then(|outputs| outputs.wait()).unwrap_err();
        assert_eq!(error.code(), Code::Index, "{error}");
        assert_eq!(held(), [0.0, 1.0]);
        let error = step.run(&[(&at, &[1])]).and_then(|outputs| outputs.wait()).unwrap_err();
        says(&error, &["`log` makes -inf"]);
        assert_eq!(held(), [0.0, 1.0]);
    }
}

#[test]
fn steps_that_share_a_variable_and_runs_that_failed_long_ago() {
    for device in devices() {
        let w = device.variable("w", &[1.0]).unwrap();
        let x = Tensor::input("x", [1], DType::F32);
        let risky = [(w.tensor(), &(&w - &x).log())];
        let risky = Step::with_options(&device, &[&x], &[], &risky, watching(Watch::NotFinite)).unwrap();
        let plain = Step::new(&device, &[], &[], &[(w.tensor(), &(&w + 1.0))]).unwrap();
        let value = || device.read(w.tensor()).unwrap().to_f64()[0];
        for round in 0..8 {
            let failed = risky.run(&[(&x, &[100.0])]).and_then(|outputs| outputs.wait());
            says(&failed.unwrap_err(), &["`log` makes NaN", "is -"]);
            plain.run(&[]).unwrap().wait().unwrap();
            assert_eq!(value(), f64::from(round) + 2.0);
        }
        risky.run(&[(&x, &[8.0])]).unwrap().wait().unwrap();
        assert_eq!(value(), 0.0);
    }
}

#[test]
fn halves_beside_a_value_of_an_odd_length_are_no_part_of_it() {
    for device in devices() {
        // The slot of what is doubled, a huge number in its second word, is used again by the result of three halves.
        let x = Tensor::input("x", [3], DType::F32);
        let sums = (&x * 2.0).cumulative_sum(0, false);
        let result = (sums * 0.0 + 1.0).cumulative_sum(0, true).cast(DType::F16);
        for data in [[0.0f32, 1.6e38, 0.0], [1.0, 1.7e38, 2.0], [0.0, 65504.0, 1.0]] {
            let run = error_of(&device, &[(&x, data.to_vec())], &[&result], Watch::Nan);
            assert!(run.is_ok(), "{run:?}");
        }
        let sevenths = (Tensor::iota([7], 0).cast(DType::F32) * 0.5 + x.sum(..)).cast(DType::F16);
        let error =
            error_of(&device, &[(&x, vec![70_000.0, 0.0, 0.0])], &[&sevenths], Watch::NotFinite).unwrap_err();
        says(&error, &["`cast` makes inf at element 0 of [7]"]);
    }
}
