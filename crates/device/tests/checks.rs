//! What the checks of a device see: in the cross-check, at level `Nan`, and of indices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{devices, software};
use cotangent_device::{Check, Device, Fault, FaultPlan, Options, Step, StepOptions, cross_check};
use cotangent_shaders::Target;
use cotangent_tensor::{Array, Code, DType, Detail, Error, Tensor};

/// The CPU device, and the software adapter with kernels of CPU adapters and of GPUs.
fn all() -> Vec<Device> {
    devices().into_iter().chain([software().with_limits(&Target::web()).unwrap()]).collect()
}
fn damaged(device: &Device, faults: impl IntoIterator<Item = Fault>) -> Device {
    let options = Options {
        faults: FaultPlan::new(faults),
        target: (device.name() != "cpu").then(|| device.info().target.clone()),
        ..Options::default()
    };
    device.with_options(options).unwrap()
}

#[test]
fn cross_check_sees_one_term_missing_from_a_long_sum() {
    let n = 1 << 16;
    let ones = |shape: [usize; 2]| {
        let values = cotangent_tensor::Values::Single(vec![1.0; shape[0] * shape[1]]);
        Tensor::new(Array::new(values, shape).unwrap())
    };
    for device in all() {
        let mut sums = vec![
            ("total", n, ones([1, n]).sum(..)),
            ("rows", n, ones([40, n]).sum(1)),
            ("columns", n / 2, ones([n / 2, 40]).sum(0)),
        ];
        if device.name() != "cpu" {
            // The product of the CPU device promises no order of its sums, so that its bound is that of any order.
            sums.push(("product", n / 4, ones([3, n / 4]).matmul(&ones([n / 4, 5]))));
        }
        for (what, terms, sum) in sums {
            let kernels = cross_check(&device, &[&sum]).unwrap().kernels;
            let changed = (terms as f32).to_bits() ^ (terms as f32 - 1.0).to_bits();
            let flip = |bit| Fault::FlipBit { kernel: kernels - 1, output: 0, element: 0, bit };
            let faults = (0..32).filter(|bit| changed >> bit & 1 == 1).map(flip);
            let error = cross_check(&damaged(&device, faults), &[&sum]);
            let error = error.err().unwrap_or_else(|| panic!("{what} on {}: nothing seen", device.name()));
            assert_eq!(error.code(), Code::CrossCheck, "{what} on {}: {error}", device.name());
            let text = error.to_string();
            assert!(text.contains(&format!("is {}", terms - 1)), "{what} on {}: {text}", device.name());
        }
    }
}

#[test]
fn elements_without_a_bound_are_counted_apart() {
    for device in all() {
        // Near a pole an uncertain operand may be on either side of it.
        let x = Tensor::new([1e8, 2.0]) + 0.3;
        let y = (&x - Tensor::new([1e8, 0.0])).recip();
        let report = cross_check(&device, &[&y]).unwrap();
        assert_eq!(report.cases + report.unbounded, 2, "{report:?}");
        assert!(report.unbounded > 0, "{report:?}");
    }
}

fn position(error: &Error) -> Option<&Detail> {
    error.details().iter().find(|(name, _)| *name == "position").map(|(_, detail)| detail)
}

#[test]
fn an_update_outside_the_scattered_axis_is_an_error() {
    for device in all() {
        for dtype in [DType::I32, DType::U32] {
            let i = Tensor::input("i", [4], dtype);
            let y = Tensor::scatter_add(&i, &Tensor::new([1.0, 2.0, 3.0, 4.0]), 0, 3);
            let step = Step::new(&device, &[&i], &[&y], &[]).unwrap();
            let run = |data: [u32; 4]| match dtype {
                DType::I32 => step.run(&[(&i, &data.map(u32::cast_signed))]),
                _ => step.run(&[(&i, &data)]),
            };
            let got = run([0, 2, 0, 1]).unwrap().read(0).unwrap().to_f32();
            assert_eq!(got, [4.0, 4.0, 2.0], "{}", device.name());
            for (data, at, index) in [([0, 1, 7, 2], 2, 7), ([0, 3, 1, 2], 1, 3)] {
                let error = run(data).unwrap_err();
                assert_eq!(error.code(), Code::Index, "{}: {error}", device.name());
                assert_eq!(position(&error), Some(&Detail::Integer(at)), "{}: {error}", device.name());
                let text = error.to_string();
                assert!(text.contains(&format!("scatter_add: index {index} at position {at}")), "{text}");
                assert!(text.contains("0..3") && text.contains("checks.rs"), "{text}");
            }
            assert!(run([0, 1, 2, 2]).is_ok(), "the step works on");
        }
        let i = Tensor::input("i", [2], DType::I32);
        let table = Tensor::scatter_add(&i, &Tensor::ones([2, 5]), 0, 3);
        let step = Step::new(&device, &[&i], &[&(table * 2.0)], &[]).unwrap();
        let error = step.run(&[(&i, &[0, -1])]).unwrap_err();
        assert_eq!(position(&error), Some(&Detail::Integer(1)), "{}: {error}", device.name());
        assert!(error.to_string().contains("index -1"), "{error}");
    }
}

#[test]
fn coordinates_and_constants_are_scattered_where_they_fit() {
    for device in all() {
        let i = Tensor::iota([4], 0);
        let updates = Tensor::new([1.0, 2.0, 3.0, 4.0]);
        let fits = Tensor::scatter_add(&i, &updates, 0, 5);
        assert_eq!(device.read(&fits).unwrap().to_f32(), [1.0, 2.0, 3.0, 4.0, 0.0]);
        let error = device.read(&Tensor::scatter_add(&i, &updates, 0, 3));
        assert_eq!(error.unwrap_err().code(), Code::Index, "{}", device.name());
    }
}

#[test]
fn the_first_of_many_wrong_indices_is_reported() {
    for device in all() {
        let n = 3000;
        let i = Tensor::input("i", [n], DType::I32);
        let labels = Tensor::input("labels", [n], DType::I32);
        let x = Tensor::ones([n, 3]) * 1.5;
        let picked = (x.gather(0, &i) + 1.0).exp();
        let loss = x.cross_entropy(&labels);
        let good = vec![1i32; n];
        let bad: Vec<i32> = (0..n).map(|at| if at >= 1234 { 1_000_000 } else { 2 }).collect();
        for (outputs, data) in [([&picked], [&bad, &good]), ([&loss], [&good, &bad])] {
            let step = Step::new(&device, &[&i, &labels], &outputs, &[]).unwrap();
            for _ in 0..5 {
                let error = step.run(&[(&i, data[0]), (&labels, data[1])]).unwrap_err();
                assert_eq!(position(&error), Some(&Detail::Integer(1234)), "{}: {error}", device.name());
                assert!(error.to_string().contains("index 1000000"), "{error}");
            }
        }
    }
}

#[test]
fn a_run_that_fails_leaves_the_same_variables_on_every_device() {
    let mut left = Vec::new();
    for device in all() {
        let w = device.variable("w", &[1.0, 2.0, 3.0]).unwrap();
        let v = device.variable("v", &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let i = Tensor::input("i", [2], DType::I32);
        let picked = w.gather(0, &i);
        let updates = [(w.tensor(), &(w.tensor() * 2.0)), (v.tensor(), &(v.tensor() + picked.sum(..)))];
        let step = Step::new(&device, &[&i], &[&picked], &updates).unwrap();
        assert_eq!(step.run(&[(&i, &[0, 7])]).unwrap_err().code(), Code::Index);
        let values = device.read_all(&[&w, &v]).unwrap();
        left.push(values.iter().map(Array::to_f32).collect::<Vec<_>>());
    }
    assert!(left.iter().all(|values| *values == left[0]), "{left:?}");
}

#[test]
fn level_nan_looks_at_halves_too() {
    for device in all() {
        let x = Tensor::input("x", [5], DType::F32);
        let y = (&x * 2.0).cast(DType::F16).named("half");
        let options = StepOptions { check: Check::Nan, ..StepOptions::default() };
        let step = Step::with_options(&device, &[&x], &[&y], &[], options).unwrap();
        assert!(step.run(&[(&x, &[1.0, 2.0, 3.0, 4.0, 5.0])]).is_ok(), "{}", device.name());
        let error = step.run(&[(&x, &[1.0, 2.0, 3.0, 40_000.0, 50_000.0])]).unwrap_err();
        assert_eq!(error.code(), Code::Nonfinite, "{}: {error}", device.name());
        let text = error.to_string();
        assert!(text.contains("`half` has 2 of 5") && text.contains("element 3"), "{text}");
    }
}

#[test]
fn a_flip_beyond_a_value_does_nothing_and_does_not_count() {
    for device in all() {
        let y = &Tensor::new([1.0, 2.0]) * 3.0;
        for (output, element) in [(0, 2), (0, usize::MAX), (1, 0)] {
            let damaged = damaged(&device, [Fault::FlipBit { kernel: 0, output, element, bit: 0 }]);
            assert_eq!(damaged.read(&y).unwrap().to_f32(), [3.0, 6.0], "{}", device.name());
            assert!(!damaged.faults()[0].1, "{}", device.name());
        }
    }
}

#[test]
fn a_plan_of_updates_alone_may_need_copies_of_parts() {
    for device in all() {
        let group = device.variables(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0])]).unwrap();
        let [a, b] = [0, 1].map(|part| group[part].tensor().clone());
        let (sum, difference) = (&a + &b, &a - &b);
        let next = group.flatten(&[(&sum * &difference).exp(), &sum + difference.exp()]);
        let step = Step::new(&device, &[], &[], &[(group.flat(), &next)]).unwrap();
        step.run(&[]).unwrap();
        assert!(device.read(&group[1]).unwrap().to_f32()[0] > 4.0, "{}", device.name());
    }
}

#[test]
fn the_softmax_of_few_long_rows_agrees_with_the_reference() {
    let columns = 70_000;
    let mut values: Vec<f32> = (0..4 * columns).map(|i| ((i * 37) % 1000) as f32 * 0.01 - 7.0).collect();
    values[columns..2 * columns].fill(f32::NEG_INFINITY);
    values[2 * columns + 5] = f32::NAN;
    values[3 * columns + 5] = f32::INFINITY;
    let x = Tensor::new(Array::new(cotangent_tensor::Values::Single(values), [4, columns]).unwrap());
    for device in all() {
        let report = cross_check(&device, &[&x.softmax(-1), &x.logsumexp(-1)]).unwrap();
        assert!(report.cases > 4 * columns, "{report:?}");
        let y = device.read(&x.softmax(-1)).unwrap().to_f64();
        let rows: Vec<&[f64]> = y.chunks(columns).collect();
        assert!((rows[0].iter().sum::<f64>() - 1.0).abs() < 1e-5, "{}", device.name());
        assert!(rows[1].iter().all(|&p| p == 0.0), "a row of -inf has no softmax, {}", device.name());
        assert!(rows[2].iter().all(|p| p.is_nan()), "{}", device.name());
    }
}

#[test]
fn a_padded_part_is_read_beside_its_concatenation() {
    for device in all() {
        let (x, z) = (Tensor::new([1.0, 2.0]), Tensor::new([7.0]) + 1.0);
        let p = (&x * 3.0).pad(0, 0, 2);
        let y = Tensor::concat(&[&p, &z], 0);
        let got = device.read_all(&[&p, &y]).unwrap();
        assert_eq!(got[0].to_f32(), [3.0, 6.0, 0.0, 0.0], "{}", device.name());
        assert_eq!(got[1].to_f32(), [3.0, 6.0, 0.0, 0.0, 8.0], "{}", device.name());
    }
}

#[test]
fn sums_stay_within_the_bound_of_their_own_order() {
    for device in all() {
        for length in [100, 1000, 5000, 40_000, 300_000] {
            // Rising, so that the maximum of a row changes all the time.
            let rising =
                (0..3 * length).map(|i| 80.0 * ((i % length) as f32 / length as f32) + 0.1 * (i % 7) as f32);
            let array = Array::new(cotangent_tensor::Values::Single(rising.collect()), [3, length]).unwrap();
            let x = Tensor::new(array);
            let turned = x.transpose();
            let outputs = [
                x.sum(..),
                x.sum(1),
                turned.sum(0),
                x.logsumexp(1),
                turned.logsumexp(0),
                x.softmax(1).slice(1, 0, 50, 1),
                turned.matmul(&turned.transpose().slice(1, 0, 3, 1)).slice(0, 0, 3, 1),
                x.matmul(&turned),
            ];
            let report = cross_check(&device, &outputs.each_ref()).unwrap();
            assert!(report.worst_ratio <= 1.0 && report.unbounded == 0, "{report:?}");
        }
    }
}
