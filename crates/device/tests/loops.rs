//! Loops whose rounds are counted when they run, in every kind of kernel.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{devices, software};
use cotangent_device::{Device, Step, cross_check};
use cotangent_shaders::Target;
use cotangent_tensor::{Code, DType, Detail, Evaluate, Reference, Tensor};

/// The CPU device, and the software adapter with kernels of CPU adapters and of GPUs.
fn all() -> Vec<Device> {
    devices().into_iter().chain([software().with_limits(&Target::web()).unwrap()]).collect()
}

/// `x + x² + … + xⁿ`.
fn geo(x: &Tensor, n: &Tensor) -> Tensor {
    let initial = [&Tensor::full([], 0i32), &Tensor::full([], 1.0), &Tensor::full([], 0.0)];
    let state = Tensor::while_loop("geo", 1000, &initial, &[x, n], |state, captured| {
        let [i, t, s] = [&state[0], &state[1], &state[2]];
        let t = t * &captured[0];
        (i.lt(&captured[1]), vec![i + 1i32, t.clone(), s + t])
    });
    state[2].clone()
}

fn heron(a: &Tensor) -> Tensor {
    let state = Tensor::while_loop("heron", 1000, &[a], &[a], |state, captured| {
        let (x, a) = (&state[0], &captured[0]);
        ((x * x - a).abs().gt(a * 0.0009765625), vec![(x + a / x) * 0.5])
    });
    state[0].clone()
}

fn inputs(rows: usize, columns: usize) -> (Tensor, Tensor) {
    let place = Tensor::iota([rows, columns], 0) * columns as i32 + Tensor::iota([rows, columns], 1);
    let x = (&place % 17i32).cast(DType::F32) * 0.05 + 0.1;
    (x, &place % 11i32)
}

#[test]
fn every_kind_of_kernel_runs_loops() {
    for device in all() {
        for (rows, columns) in [(1, 1), (3, 5), (70, 33), (4, 600), (3000, 6)] {
            let (x, n) = inputs(rows, columns);
            let y = geo(&x, &n);
            let kept = geo(&x.sum(1).recip(), &n.max_over(1));
            let outputs = [
                y.clone(),
                y.sum(..),
                y.sum(0),
                y.sum(1),
                heron(&(&x + 0.5)) * &y,
                &y - y.max_over(1).unsqueeze(1),
                y.softmax(-1) + kept.unsqueeze(1),
                kept,
            ];
            for (number, output) in outputs.iter().enumerate() {
                let report = cross_check(&device, &[output]);
                let report = report
                    .unwrap_or_else(|e| panic!("{} output {number} {rows}×{columns}: {e}", device.name()));
                assert!(
                    report.unbounded * 8 < output.shape().elements() + 8,
                    "{} output {number}",
                    device.name()
                );
                let (got, wanted) =
                    (device.read(output).unwrap().to_f64(), Reference::new().evaluate(&[output]).unwrap());
                for (got, wanted) in got.iter().zip(wanted[0].to_f64()) {
                    let scale = 1e-4 * (1.0 + wanted.abs());
                    assert!(
                        (got - wanted).abs() < scale,
                        "{} output {number}: {got} {wanted}",
                        device.name()
                    );
                }
            }
        }
    }
}

#[test]
fn values_change_places_and_types() {
    for device in all() {
        // Euclid's algorithm: both integers are read before one is overwritten
        let a = Tensor::new([12u32, 35, 7, 0, 1_000_000]);
        let b = Tensor::new([18u32, 21, 0, 9, 35]);
        let found = Tensor::while_loop("euclid", 100, &[&a, &b], &[], |state, _| {
            (state[1].ne(0u32), vec![state[1].clone(), &state[0] % &state[1]])
        });
        assert_eq!(device.read(&found[0]).unwrap().to_words(), [6, 7, 7, 9, 5], "{}", device.name());
        // a truth value carried: the parity of the length
        let odd = Tensor::while_loop("parity", 100, &[&a, &a.ne(a.clone())], &[], |state, _| {
            (state[0].gt(0u32), vec![&state[0] / 2u32, !&state[1]])
        });
        assert_eq!(device.read(&odd[1]).unwrap().to_words(), [0, 0, 1, 0, 0], "{}", device.name());
        // loops in loops, and constants in both
        let x = Tensor::new([2.0, 0.5, 3.0]);
        let n = Tensor::new([4i32, 3, 0]);
        let state = Tensor::while_loop(
            "outer",
            100,
            &[&Tensor::full([], 0i32), &Tensor::full([], 0.25)],
            &[&x, &n],
            |s, c| {
                let (zero, one) = (Tensor::full([], 0i32), Tensor::full([], 1.0));
                let power = Tensor::while_loop("inner", 100, &[&zero, &one], &[&c[0], &s[0]], |s, c| {
                    (s[0].lt(&c[1]), vec![&s[0] + 1i32, &s[1] * &c[0] * 1.5])
                });
                (s[0].lt(&c[1]), vec![&s[0] + 1i32, &s[1] + &power[1] * 3.0])
            },
        );
        let wanted = [0.25 + 3.0 * (1.0 + 3.0 + 9.0 + 27.0), 0.25 + 3.0 * (1.0 + 0.75 + 0.5625), 0.25];
        assert_eq!(device.read(&state[1]).unwrap().to_f64(), wanted, "{}", device.name());
    }
}

#[test]
fn a_loop_that_does_not_end_is_an_error_with_its_element() {
    for device in all() {
        let x = Tensor::new([9.0, 4.0, -1.0, 16.0]);
        let error = device.read(&heron(&x)).unwrap_err();
        assert_eq!(error.code(), Code::LoopRounds, "{}", device.name());
        assert!(error.details().contains(&("element", Detail::Integer(2))), "{}: {error}", device.name());
        assert!(error.to_string().contains("heron: element 2 does not end within 1000 rounds"), "{error}");
        assert_eq!(
            device.read(&heron(&Tensor::new([4.0]))).unwrap().to_f64().len(),
            1,
            "the device works on"
        );
        // at kept level of a row, and inside of another loop
        let rows = Tensor::new([[4.0, 5.0], [-1.0, 0.5], [1.0, 1.0]]);
        let kept = heron(&rows.sum(1));
        let error = device.read(&(rows.softmax(-1) + kept.unsqueeze(1))).unwrap_err();
        assert!(error.details().contains(&("element", Detail::Integer(1))), "{}: {error}", device.name());
        let nested = Tensor::while_loop("once", 10, &[&Tensor::full([], 0i32), &x], &[&x], |s, c| {
            (s[0].lt(1i32), vec![&s[0] + 1i32, heron(&c[0])])
        });
        let error = device.read(&nested[1]).unwrap_err();
        assert_eq!(error.code(), Code::LoopRounds, "{}", device.name());
        assert!(error.details().contains(&("element", Detail::Integer(2))), "{}: {error}", device.name());
    }
}

#[test]
fn what_an_adapter_stops_is_an_error_too() {
    // lavapipe leaves all loops of an invocation after 65 535 turns, and says nothing
    let count = |n: i32| {
        let n = Tensor::full([3], n);
        Tensor::while_loop("count", u32::MAX, &[&Tensor::full([], 0i32)], &[&n], |s, c| {
            (s[0].lt(&c[0]), vec![&s[0] + 1i32])
        })[0]
            .clone()
    };
    for device in all() {
        assert_eq!(device.read(&count(30_000)).unwrap().to_f64(), [30_000.0; 3], "{}", device.name());
        match device.read(&count(100_000)) {
            Ok(values) => assert_eq!(values.to_f64(), [100_000.0; 3], "{}", device.name()),
            Err(error) => assert_eq!(error.code(), Code::LoopRounds, "{}", device.name()),
        }
        // many elements in one invocation
        let n = Tensor::full([4096], 1000i32);
        let total = Tensor::while_loop("count", 2000, &[&Tensor::full([], 0i32)], &[&n], |s, c| {
            (s[0].lt(&c[0]), vec![&s[0] + 1i32])
        });
        match device.read(&total[0].cast(DType::F32).sum(..)) {
            Ok(values) => assert_eq!(values.to_f64(), [4_096_000.0], "{}", device.name()),
            Err(error) => assert_eq!(error.code(), Code::LoopRounds, "{}", device.name()),
        }
    }
}

#[test]
fn names_of_the_user_are_not_those_of_generated_text() {
    for device in all() {
        // what comes next is a name that generated text would like
        let named = |name: &str, x: f64| Tensor::new([x]).named(name);
        let (u, v, next) = (named("u", 1.0), named("v", 2.0), named("u_next", 3.0));
        let count = Tensor::new([0i32]).named("turns");
        let state = Tensor::while_loop("shift", 9, &[&u, &v, &count], &[&next], |s, c| {
            (s[2].lt(2i32), vec![s[1].clone(), c[0].clone(), &s[2] + 1i32])
        });
        let values = [0, 1].map(|i| device.read(&state[i]).unwrap().to_f64()[0]);
        assert_eq!(values, [3.0, 3.0], "{}", device.name());
        for names in [
            ["u", "u_first", "u_next"],
            ["ended", "whole", "turned"],
            ["turns", "longest", "run"],
            ["run_loop", "report", "place"],
        ] {
            let [a, b, c] = [named(names[0], 1.0), named(names[1], 2.0), named(names[2], 3.0)];
            let state = Tensor::while_loop("names", 9, &[&a, &b, &c], &[], |s, _| {
                (s[0].lt(4.0), vec![s[1].clone(), s[2].clone(), &s[0] + &s[1] * &s[2]])
            });
            let values = [0, 1, 2].map(|i| device.read(&state[i]).unwrap().to_f64()[0]);
            assert_eq!(values, [7.0, 23.0, 164.0], "{names:?} {}", device.name());
        }
    }
}

#[test]
fn a_read_tells_of_a_launch_that_nobody_looked_at() {
    for device in devices() {
        let a = Tensor::input("a", [1], DType::F32);
        let best = device.variable("best", &Tensor::new([1.0])).unwrap();
        let step = Step::new(&device, &[&a], &[], &[(&best, &heron(&a))]).unwrap();
        step.run(&[(&a, &[4.0f32])]).unwrap();
        let launched = step.launch(&[(&a, &[-1.0f32])]);
        let error = match launched {
            // the CPU device has run it by now
            Err(error) => error,
            Ok(outputs) => {
                drop(outputs);
                device.read(&best).unwrap_err()
            }
        };
        assert_eq!(error.code(), Code::LoopRounds, "{}", device.name());
        // once
        device.read(&best).unwrap();
        step.launch(&[(&a, &[9.0f32])]).unwrap();
        assert!((device.read(&best).unwrap().to_f64()[0] - 3.0).abs() < 1e-3, "{}", device.name());
    }
}
