//! Whole kernels of users on the reference, the CPU device and adapters: the same values, in reads, steps and cross-checks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "common/mod.rs"]
mod common;

use common::{
    Check, Code, DType, Device, Error, Evaluate, Evaluator, Fault, FaultPlan, Kind, Options, Reference,
    Shape, Step, StepOptions, Tensor, Watch, adapter_present, checkpoint, cross_check, evaluators, grad,
    gradcheck, wgsl,
};

/// Softmax of each row by one workgroup, and its gradient.
const SOFTMAX: &str = include_str!("../examples/softmax.wgsl");

fn all() -> Vec<Evaluator> {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    evaluators
}
fn devices() -> Vec<Device> {
    all().into_iter().filter_map(|evaluator| evaluator.device).collect()
}

/// One workgroup for each row of the first input.
fn by_rows(kernel: wgsl::Kernel) -> wgsl::Kernel {
    kernel.dispatch(|inputs: &[Shape]| [inputs[0][0], 1, 1])
}
fn softmax() -> wgsl::Kernel {
    let module = wgsl::Module::parse_kernels("softmax.wgsl", SOFTMAX).unwrap();
    let pullback = by_rows(module.kernel("softmax_vjp").unwrap());
    by_rows(module.kernel("softmax").unwrap()).output_like("y", "x").vjp_kernel(pullback)
}
fn noise(shape: &[usize], seed: u32) -> Tensor {
    let count: usize = shape.iter().product();
    let number = |i: usize| {
        let word =
            (u32::try_from(i).unwrap() + 1).wrapping_mul(2_654_435_761).wrapping_add(seed * 77_777) >> 8;
        f64::from(word % 4001) / 1000.0 - 2.0
    };
    Tensor::from_values((0..count).map(number).collect::<Vec<_>>(), Shape::new(shape).unwrap())
}
/// Whether values agree with those of a graph that the reference bounds, and how many were compared.
fn agree(evaluator: &Evaluator, got: &Tensor, expected: &Tensor) -> usize {
    let mut values = evaluator.evaluate(&[got, expected]).unwrap().into_iter();
    let (got, expected) = (values.next().unwrap(), values.next().unwrap());
    let unit = if evaluator.is_reference() { f64::EPSILON } else { f64::from(f32::EPSILON) };
    for (a, b) in got.to_f64().iter().zip(expected.to_f64()) {
        // Rows add up to 1, and cotangents are below 4.
        assert!((a - b).abs() <= 256.0 * unit, "{}: {a} and {b}", evaluator.slug);
    }
    got.to_f64().len()
}

#[test]
fn a_row_softmax_agrees_with_the_operation_of_that_name_and_so_does_its_gradient() {
    let softmax = softmax();
    let (x, weights) = (noise(&[5, 70], 1), noise(&[5, 70], 2));
    softmax.verify(&[("x", &x)], &Reference::new()).unwrap();
    let y = softmax.call(&[("x", &x)]);
    let slope = grad(&(&y * &weights).sum(..), &x).unwrap().or_error().unwrap();
    let expected = x.softmax(-1);
    let expected_slope = grad(&(&expected * &weights).sum(..), &x).unwrap().or_error().unwrap();
    for evaluator in all() {
        assert_eq!(agree(&evaluator, &y, &expected), 350);
        assert_eq!(agree(&evaluator, &slope, &expected_slope), 350);
    }
}

#[test]
fn the_rule_of_the_softmax_is_its_derivative_and_a_planted_mistake_is_not() {
    let x = noise(&[2, 5], 3);
    let check = |text: &str| {
        let module = wgsl::Module::parse_kernels("softmax.wgsl", text).unwrap();
        let pullback = by_rows(module.kernel("softmax_vjp").unwrap());
        let softmax = by_rows(module.kernel("softmax").unwrap()).output_like("y", "x").vjp_kernel(pullback);
        gradcheck(|[x]| softmax.call(&[("x", &x)]), [&x], &Reference::new()).unwrap()
    };
    let report = check(SOFTMAX);
    assert!(report.is_ok() && report.compared.differences >= 10, "{report}");
    let planted = SOFTMAX.replace("- inner)", "- 0.999 * inner)");
    assert_ne!(planted, SOFTMAX);
    let report = check(&planted);
    assert_eq!(report.findings.first().map(Error::code), Some(Code::RuleWrong), "{report}");
}

#[test]
fn every_kernel_passes_the_cross_check_and_a_flipped_bit_does_not() {
    let softmax = softmax();
    let (x, weights) = (noise(&[3, 20], 4), noise(&[3, 20], 5));
    let y = softmax.call(&[("x", &(&x * 2.0))]);
    let slope = grad(&(&y * &weights).sum(..), &x).unwrap().or_error().unwrap();
    for device in devices() {
        let report = cross_check(&device, &[&y, &slope]).unwrap();
        assert_eq!(report.unbounded, 0, "{report:?}");
        assert!(report.cases >= 120 && report.kernels >= 3, "{report:?}");
        assert!(report.worst_ratio > 0.0, "a bound that is never approached is no bound: {report:?}");
        let mut found = 0;
        for kernel in 0..report.kernels {
            // The tenth bit of the mantissa: a thousandth.
            let fault = Fault::FlipBit { kernel, output: 0, element: 0, bit: 13 };
            let options = Options { faults: FaultPlan::new([fault]), ..Options::default() };
            let damaged = device.with_options(options).unwrap();
            let error = cross_check(&damaged, &[&y, &slope]).unwrap_err();
            assert_eq!(error.code(), Code::CrossCheck, "{error}");
            found += usize::from(error.to_string().contains("kernel `softmax"));
        }
        assert!(found >= 2, "{}: {found} of the kernels were those of the user", device.name());
    }
}

/// `y[i] = x[i] + 10 w[i]`, and a second output of another size.
const TWO: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(2) @binding(5) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(2) @binding(0) var<storage, read_write> z: array<f32>;
@compute @workgroup_size(32) fn two(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i < arrayLength(&x) { y[i] = x[i] + 10.0 * w[i]; }
    if i < arrayLength(&z) { z[i] = f32(arrayLength(&x)) + f32(i); }
}";

fn two() -> wgsl::Kernel {
    let module = wgsl::Module::parse_kernels("two.wgsl", TWO).unwrap();
    module.kernel("two").unwrap().output_like("y", "x").output("z", [3])
}

#[test]
fn operands_of_every_kind_lie_as_the_text_expects() {
    let base = noise(&[6, 4], 6);
    let part = base.slice(0, 1, 4, 1);
    let joined = Tensor::concat(&[&(&base * 2.0), &noise(&[1, 4], 7)], 0);
    // Transposed, sliced at an offset, reversed, broadcast, constant, counted, concatenated, computed.
    let operands = [
        base.transpose(),
        part.clone(),
        base.flip(0),
        noise(&[4], 8).broadcast_to([3, 4]),
        Tensor::full([2, 3], 1.5),
        Tensor::iota([5], 0).cast(DType::F32),
        joined.clone(),
        joined.slice(0, 6, 7, 1),
        base.exp().sum(1),
        base.gt(0.0).cast(DType::F32),
    ];
    let kernel = two();
    for (number, x) in operands.iter().enumerate() {
        let w = x * 0.25;
        let outputs = kernel.call_all(&[("x", x), ("w", &w)]);
        let expected = x + &w * 10.0;
        let count = x.shape().elements() as f64;
        for evaluator in all() {
            let arrays = evaluator.evaluate(&[&outputs[0], &outputs[1], &expected]).unwrap();
            assert_eq!(arrays[0].to_f32(), arrays[2].to_f32(), "operand {number} on {}", evaluator.slug);
            assert_eq!(arrays[0].shape(), x.shape());
            assert_eq!(arrays[1].to_f64(), [count, count + 1.0, count + 2.0], "{}", evaluator.slug);
        }
    }
}

#[test]
fn results_go_on_into_kernels_products_and_concatenations() {
    let (x, w) = (noise(&[4, 4], 9), noise(&[4, 4], 10));
    let kernel = two();
    let first = kernel.call_all(&[("x", &x), ("w", &w)]);
    let again = kernel.call_all(&[("x", &first[0].transpose()), ("w", &first[0])]);
    let both = Tensor::concat(&[&first[0], &again[0]], 0).matmul(&again[0]) + first[1].sum(..);
    let plain = &x + &w * 10.0;
    let plain_again = plain.transpose() + &plain * 10.0;
    let expected = Tensor::concat(&[&plain, &plain_again], 0).matmul(&plain_again) + 51.0;
    for evaluator in all() {
        let arrays = evaluator.evaluate(&[&both, &expected, &first[1]]).unwrap();
        for (a, b) in arrays[0].to_f64().iter().zip(arrays[1].to_f64()) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()) * 40.0, "{}: {a} {b}", evaluator.slug);
        }
    }
    for device in devices() {
        assert_eq!(cross_check(&device, &[&both]).unwrap().unbounded, 0);
    }
}

#[test]
fn a_step_trains_through_a_kernel_with_variables_of_a_group() {
    let softmax = softmax();
    let (x, target) = (noise(&[8, 3], 11), Tensor::new([0u32, 1, 2, 0, 1, 2, 0, 1]));
    let loss_of = |w: &Tensor, b: &Tensor| {
        let p = softmax.call(&[("x", &(x.matmul(w) + b))]);
        let chosen = target.unsqueeze(-1).eq(Tensor::iota([8, 5], 1).cast(DType::U32)).cast(DType::F32);
        (p - chosen).pow(2).sum(..)
    };
    for device in devices() {
        let values = Reference::new().evaluate(&[&noise(&[3, 5], 12), &noise(&[5], 13)]).unwrap();
        let variables = device.variables(&[("w", &values[0]), ("b", &values[1])]).unwrap();
        let (w, b) =
            (variables.get("w").unwrap().tensor().clone(), variables.get("b").unwrap().tensor().clone());
        let loss = loss_of(&w, &b);
        let gradients = grad(&loss, [&w, &b]).unwrap();
        let updates = [&w, &b].into_iter().zip(&gradients).map(|(p, g)| p - g.or_zero() * 0.2);
        let updates: Vec<Tensor> = updates.collect();
        let step = Step::new(&device, &[], &[&loss], &[(&w, &updates[0]), (&b, &updates[1])]).unwrap();
        let run = || step.run(&[]).unwrap().read(0).unwrap().scalar().unwrap();
        let losses: Vec<f64> = (0..30).map(|_| run()).collect();
        assert!(losses[29] < 0.7 * losses[0], "{}: {losses:?}", device.name());
        assert!(losses.windows(2).all(|pair| pair[1] <= pair[0]), "{}: {losses:?}", device.name());
        let text = step.explain();
        assert!(text.contains("softmax_vjp written by the user"), "{text}");
        assert_eq!(text.contains("interpreted on this device"), device.info().kind == Kind::Cpu, "{text}");
        step.cross_check(&[]).unwrap();
        assert!(step.memory().peak() > 0 && !step.to_dot().is_empty());
    }
}

#[test]
fn results_start_as_zeros_whatever_lay_there_before() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(8) fn some(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) && id.x % 3u == 0u { y[id.x] = x[id.x]; }
        }";
    let module = wgsl::Module::parse_kernels("some.wgsl", text).unwrap();
    let some = module.kernel("some").unwrap().output_like("y", "x");
    for device in devices() {
        let x = Tensor::input("x", [100], DType::F32);
        // Values that die before the kernel runs leave their storage to it.
        let before = (&x + 7.0).cumulative_sum(0, false).cumulative_sum(0, true);
        let y = some.call(&[("x", &(before * 0.0 + &x))]);
        let step = Step::new(&device, &[&x], &[&y], &[]).unwrap();
        for round in 1..4u8 {
            let data = vec![f32::from(round); 100];
            let got = step.run(&[(&x, &data)]).unwrap().read(0).unwrap().to_f32();
            let expected: Vec<f32> =
                (0..100).map(|i| if i % 3 == 0 { f32::from(round) } else { 0.0 }).collect();
            assert_eq!(got, expected, "{}", device.name());
        }
    }
}

#[test]
fn anomaly_mode_names_the_kernel_that_makes_the_first_nan() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(8) fn rooted(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { y[id.x] = sqrt(x[id.x]); }
        }";
    let module = wgsl::Module::parse_kernels("rooted.wgsl", text).unwrap();
    let rooted = module.kernel("rooted").unwrap().output_like("y", "x");
    for device in devices() {
        let x = Tensor::input("x", [4], DType::F32);
        let loss = (rooted.call(&[("x", &(&x * 2.0))]) * 3.0).sum(..);
        let options = StepOptions { check: Check::Anomaly(Watch::Nan), ..StepOptions::default() };
        let step = Step::with_options(&device, &[&x], &[&loss], &[], options).unwrap();
        assert!(step.run(&[(&x, &vec![1.0f32, 2.0, 3.0, 4.0])]).and_then(|run| run.wait()).is_ok());
        let error = step.run(&[(&x, &vec![1.0f32, -2.0, 3.0, 4.0])]).and_then(|run| run.wait()).unwrap_err();
        assert_eq!(error.code(), Code::Anomaly, "{error}");
        let text = error.to_string();
        assert!(text.contains("`rooted`") && text.contains("element 1"), "{}: {text}", device.name());
        // and so does the check of all values
        let options = StepOptions { check: Check::Nan, ..StepOptions::default() };
        let step = Step::with_options(&device, &[&x], &[&loss], &[], options).unwrap();
        let error = step.run(&[(&x, &vec![1.0f32, -2.0, 3.0, 4.0])]).and_then(|run| run.wait()).unwrap_err();
        assert!(error.code() == Code::Nonfinite && error.to_string().contains("`rooted`"), "{error}");
    }
}

#[test]
fn workgroups_in_the_opposite_order_give_the_same() {
    let x = noise(&[9, 33], 14);
    let y = softmax().call(&[("x", &x)]);
    for device in devices().into_iter().filter(|device| device.info().kind != Kind::Cpu) {
        let faults = FaultPlan::new([Fault::ReverseWorkgroups]);
        let reversed = device.with_options(Options { faults, ..Options::default() }).unwrap();
        let (one, other) = (device.read(&y).unwrap(), reversed.read(&y).unwrap());
        assert_eq!(one.to_f32(), other.to_f32());
    }
}

#[test]
fn what_an_adapter_does_not_grant_is_refused_before_it_runs() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<f32>;
        var<workgroup> large: array<f32, 16000>;
        @compute @workgroup_size(4) fn roomy(@builtin(local_invocation_index) i: u32) { large[i] = 1.0; y[i] = large[i]; }";
    let module = wgsl::Module::parse_kernels("roomy.wgsl", text).unwrap();
    let y = module.kernel("roomy").unwrap().output("y", [4]).call(&[]);
    let mut refused = 0;
    for device in devices() {
        if device.info().kind != Kind::Cpu && device.info().target.max_workgroup_memory < 64_000 {
            let error = device.read(&y).unwrap_err();
            assert_eq!(error.code(), Code::Limit, "{error}");
            let text = error.to_string();
            assert!(text.contains("`roomy` wants 64000 bytes") && text.contains("kernels.rs"), "{text}");
            refused += 1;
        } else {
            assert_eq!(device.read(&y).unwrap().to_f64(), [1.0; 4]);
        }
    }
    println!("refused by {refused} adapters");
}

#[test]
fn an_index_outside_is_an_error_where_it_is_seen_and_harmless_elsewhere() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn stray(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x * 1000u] = x[id.x]; }";
    let module = wgsl::Module::parse_kernels("stray.wgsl", text).unwrap();
    let y = module.kernel("stray").unwrap().output_like("y", "x").call(&[("x", &noise(&[10], 15))]);
    for evaluator in all() {
        match evaluator.evaluate(&[&y]) {
            Ok(arrays) => {
                assert!(evaluator.is_adapter(), "{}", evaluator.slug);
                assert_eq!(arrays[0].to_f64()[1..9], [0.0; 8]);
            }
            Err(error) => assert_eq!(error.code(), Code::WgslBounds, "{error}"),
        }
        let fine = evaluator.evaluate(&[&(Tensor::new([1.0, 2.0]) * 2.0)]).unwrap();
        assert_eq!(fine[0].to_f64(), [2.0, 4.0]);
    }
}

#[test]
fn variables_and_checkpoints_go_through_kernels() {
    let softmax = softmax();
    let start = noise(&[4, 16], 16);
    for device in devices() {
        let value = Reference::new().evaluate(&[&start]).unwrap().remove(0);
        // A new value that is the result of a kernel on the old one.
        let w = device.variable("w", &value).unwrap();
        let next = softmax.call(&[("x", w.tensor())]);
        let step = Step::new(&device, &[], &[w.tensor()], &[(w.tensor(), &next)]).unwrap();
        let old = step.run(&[]).unwrap().read(0).unwrap();
        assert_eq!(old.to_f32(), value.to_f32(), "outputs see the state before the update");
        let expected = device.read(&start.softmax(-1)).unwrap().to_f64();
        for (a, b) in device.read(w.tensor()).unwrap().to_f64().iter().zip(expected) {
            assert!((a - b).abs() <= 64.0 * f64::from(f32::EPSILON), "{}: {a} {b}", device.name());
        }
        // The same gradient, computed again and not.
        let plain = grad(&(softmax.call(&[("x", &(&start * 2.0))]).pow(2)).sum(..), &start).unwrap();
        let inside = checkpoint([&start], |[x]| softmax.call(&[("x", &(x * 2.0))]).pow(2));
        let again = grad(&inside.sum(..), &start).unwrap();
        let values = device.read_all(&[&plain.or_error().unwrap(), &again.or_error().unwrap()]).unwrap();
        assert_eq!(values[0].to_f32(), values[1].to_f32(), "{}", device.name());
    }
}

#[test]
fn a_profile_has_the_kernel_with_the_bytes_that_it_moves() {
    let y = softmax().call(&[("x", &noise(&[16, 64], 17))]);
    for device in devices() {
        let step = Step::new(&device, &[], &[&y], &[]).unwrap();
        let profile = step.profile(&[]).unwrap();
        let kernel = profile.kernels.iter().find(|kernel| kernel.name == "softmax").unwrap();
        assert_eq!(kernel.bytes.to_bits(), 8192.0f64.to_bits(), "{kernel:?}");
    }
}

#[test]
fn a_step_within_a_budget_runs_kernels_again() {
    let (softmax, start) = (softmax(), noise(&[64, 32], 18));
    let weights: Vec<Tensor> = (0..8).map(|seed| noise(&[32, 32], 20 + seed)).collect();
    let layer = |x: Tensor, w: &Tensor| softmax.call(&[("x", &x.matmul(w).tanh())]);
    let loss = weights.iter().fold(start, layer).pow(2).sum(..);
    let gradients: Vec<Tensor> = grad(&loss, &weights.iter().collect::<Vec<_>>()[..])
        .unwrap()
        .iter()
        .map(|g| g.or_error().unwrap())
        .collect();
    let outputs: Vec<&Tensor> = gradients.iter().collect();
    for device in devices() {
        let within = |budget: Option<u64>| {
            Step::with_options(&device, &[], &outputs, &[], StepOptions { budget, ..StepOptions::default() })
                .unwrap()
        };
        let calls = |step: &Step| step.explain().matches("softmax written by the user").count();
        let all = within(None);
        let budget = all.memory().planned * 8 / 10;
        let again = within(Some(budget));
        assert!(again.memory().planned <= budget && calls(&again) > calls(&all), "{}", again.explain());
        let values = [&all, &again].map(|step| {
            let run = step.run(&[]).unwrap();
            (0..8).map(|i| run.read(i).unwrap().to_f32()).collect::<Vec<_>>()
        });
        assert_eq!(values[0], values[1], "{}", device.name());
    }
}
