//! Reads, variables and steps on every device.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{devices, fresh, software};
use cotangent_device::{Check, Device, Fault, FaultPlan, Options, Step, StepOptions, cross_check};
use cotangent_tensor::{Array, Code, DType, Evaluate, Reference, Tensor, Values};

fn read(device: &Device, tensor: &Tensor) -> Vec<f32> {
    device.read(tensor).unwrap().to_f32()
}

#[test]
fn leaves_constants_and_tensors_without_elements_need_no_kernel() {
    for device in fresh() {
        let before = device.pipelines();
        assert_eq!(read(&device, &Tensor::new([1.5, 0.1])), [1.5, 0.1]);
        assert_eq!(read(&device, &Tensor::full([2, 2], 7.0)), [7.0; 4]);
        let empty = device.read(&Tensor::zeros([0, 3]).exp()).unwrap();
        assert_eq!((empty.values().len(), &empty.shape()[..]), (0, &[0, 3][..]));
        let half = Tensor::new(
            Array::new(Values::Single(vec![0.1, 1.0, 65504.0]), [3]).unwrap().with_dtype(DType::F16),
        );
        let half = device.read(&half).unwrap();
        assert_eq!(half.dtype(), DType::F16);
        assert_eq!(half.to_f64()[0], 0.099_975_585_937_5, "rounded to half precision");
        assert_eq!(device.read(&Tensor::full([2], true)).unwrap().to_words(), [1, 1]);
        assert_eq!(device.pipelines(), before);
    }
}

#[test]
fn several_tensors_are_read_together() {
    for device in devices() {
        let x = Tensor::new([1.0, 2.0, 3.0]);
        let (y, z) = (&x + 1.0, &x * 2.0);
        let values = device.read_all(&[&y, &x, &z, &y, &Tensor::zeros([0])]).unwrap();
        let values: Vec<Vec<f32>> = values.iter().map(Array::to_f32).collect();
        assert_eq!(
            values,
            [vec![2.0, 3.0, 4.0], vec![1.0, 2.0, 3.0], vec![2.0, 4.0, 6.0], vec![2.0, 3.0, 4.0], vec![]]
        );
        let same = Evaluate::evaluate(&device, &[&y]).unwrap();
        assert_eq!(same[0].to_f32(), [2.0, 3.0, 4.0]);
    }
}

#[test]
fn an_invalid_tensor_is_refused_with_its_own_error() {
    for device in devices() {
        let wrong = Tensor::new([1.0, 2.0]) + Tensor::new([1.0, 2.0, 3.0]);
        assert_eq!(device.read(&wrong).unwrap_err().code(), Code::Broadcast);
        let right = Tensor::new([1.0]);
        assert_eq!(Step::new(&device, &[], &[&right, &wrong], &[]).unwrap_err().code(), Code::Broadcast);
        assert_eq!(device.variable("w", &wrong).unwrap_err().code(), Code::Broadcast);
        assert_eq!(read(&device, &(&right + 1.0)), [2.0], "the device works on");
    }
}

#[test]
fn an_input_has_no_value_in_a_read() {
    for device in devices() {
        let x = Tensor::input("x", [2], DType::F32);
        let error = device.read(&(&x + 1.0)).unwrap_err();
        assert_eq!(error.code(), Code::Unbound);
        assert!(error.to_string().contains("`x`") && error.to_string().contains("steps.rs"), "{error}");
    }
}

#[test]
fn variables_are_written_read_and_freed() {
    for device in fresh() {
        let before = device.memory();
        let w = device.variable("w", &[[1.0, 2.0], [3.0, 4.0]]).unwrap();
        assert_eq!(read(&device, &w), [1.0, 2.0, 3.0, 4.0]);
        let y = w.tensor() + 1.0;
        device.write(&w, &[5.0_f32, 6.0, 7.0, 8.0]).unwrap();
        assert_eq!(read(&device, &y), [6.0, 7.0, 8.0, 9.0], "a graph sees the value when it is read");
        assert_eq!(device.write(&w, &[1.0]).unwrap_err().code(), Code::ShapeChanged);
        assert_eq!(device.write(&w, &[1, 2, 3, 4]).unwrap_err().code(), Code::Dtype);
        assert_eq!(device.write(&y, &[1.0]).unwrap_err().code(), Code::Update);
        drop(w);
        assert_eq!(device.memory().live_buffers, before.live_buffers + 1, "a graph keeps its variables");
        drop(y);
        let after = device.memory();
        assert_eq!((after.live_buffers, after.live_bytes), (before.live_buffers, before.live_bytes));
        let counter = device.variable("counter", &7_u32).unwrap();
        assert_eq!(device.read(&counter).unwrap().to_words(), [7]);
    }
}

#[test]
fn parts_of_halves_are_written_alone() {
    for device in devices() {
        let halves = |n: usize| Tensor::new((0..n).map(|i| i as f32).collect::<Vec<_>>()).cast(DType::F16);
        for elements in [8, 9] {
            for (start, end) in [(0, 2), (2, 4), (4, 8), (0, elements), (1, 2), (3, 8), (2, 5), (5, elements)]
            {
                let v = device.variable("v", &halves(elements)).unwrap();
                let new: Vec<f32> = (start..end).map(|i| 100.0 + i as f32).collect();
                device.write(&v.slice(0, start, end, 1), &new).unwrap();
                let part = start..end;
                let expected: Vec<f32> =
                    (0..elements).map(|i| i as f32 + if part.contains(&i) { 100.0 } else { 0.0 }).collect();
                assert_eq!(read(&device, &v), expected, "{part:?} of {elements} on {}", device.name());
            }
        }
    }
}

#[test]
fn a_group_of_variables_lies_in_one_storage() {
    for device in fresh() {
        let before = device.memory().live_buffers;
        let group = device
            .variables(&[("w", &[[1.0, 2.0], [3.0, 4.0]]), ("b", &[5.0, 6.0]), ("none", &Tensor::zeros([0]))])
            .unwrap();
        assert_eq!(device.memory().live_buffers, before + 1);
        assert_eq!(group.flat().shape()[..], [128]);
        assert_eq!(group.starts(), [0, 64, 128]);
        assert_eq!(read(&device, &group[0]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read(&device, group.get("b").unwrap()), [5.0, 6.0]);
        assert_eq!(group[0].shape()[..], [2, 2]);
        let flat = group.flatten(&group.views());
        assert_eq!(read(&device, &flat), read(&device, group.flat()), "flatten is the inverse of views");
        assert_eq!(group.flatten(&[group[1].tensor().clone()]).error().unwrap().code(), Code::Update);
        device.write(&group[1], &[7.0, 8.0]).unwrap();
        assert_eq!(read(&device, &group[1]), [7.0, 8.0]);
        assert_eq!(read(&device, &group[0]), [1.0, 2.0, 3.0, 4.0], "its neighbor is as it was");
        let error = device.variables(&[("n", &[1, 2])]).unwrap_err();
        assert_eq!(error.code(), Code::Dtype);
    }
}

#[test]
fn a_variable_of_another_device_is_refused_by_name() {
    let (cpu, gpu) = (Device::cpu(), software());
    for (here, there) in [(&cpu, &gpu), (&gpu, &cpu)] {
        let w = there.variable("w", &[1.0, 2.0]).unwrap();
        let y = w.tensor() + 1.0;
        let errors = [
            here.read(&y).unwrap_err(),
            here.write(&w, &[1.0, 2.0]).unwrap_err(),
            Step::new(here, &[], &[&y], &[]).unwrap_err(),
            Step::new(here, &[], &[], &[(&w, &Tensor::new([1.0, 2.0]))]).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code(), Code::DeviceMismatch);
            let text = error.to_string();
            assert!(
                text.contains("`w`") && text.contains(here.name()) && text.contains(there.name()),
                "{text}"
            );
        }
    }
}

#[test]
fn materialized_tensors_are_leaves() {
    for device in devices() {
        let x = device.variable("x", &[1.0, 2.0]).unwrap();
        let y = device.materialize(&[&(x.tensor() + 1.0), &Tensor::zeros([0])]).unwrap();
        device.write(&x, &[10.0, 20.0]).unwrap();
        assert_eq!(read(&device, &(&y[0] * 2.0)), [4.0, 6.0], "computed once");
        assert_eq!(device.read(&y[1]).unwrap().values().len(), 0);
    }
}

/// `w ← w − rate · (w − x)`, with the difference as output.
fn descent(device: &Device, options: StepOptions) -> (Step, Tensor, Tensor, cotangent_device::Variable) {
    let w = device.variable("w", &[0.0; 4]).unwrap();
    let x = Tensor::input("x", [4], DType::F32);
    let difference = w.tensor() - &x;
    let updated = w.tensor() - &difference * 0.5;
    let step = Step::with_options(device, &[&x], &[&difference], &[(&w, &updated)], options).unwrap();
    (step, x, difference, w)
}

#[test]
fn a_step_updates_its_variables() {
    for device in devices() {
        let (step, x, difference, w) = descent(&device, StepOptions::default());
        let data = [1.0_f32, 2.0, -4.0, 0.0];
        let mut expected = [0.0_f32; 4];
        for _ in 0..5 {
            let outputs = step.run(&[(&x, &data)]).unwrap();
            let now: Vec<f32> = expected.iter().zip(&data).map(|(w, x)| w - x).collect();
            assert_eq!(outputs.get(&difference).unwrap().to_f32(), now, "old values on {}", device.name());
            assert_eq!(outputs.read(0).unwrap().to_f32(), now);
            for (w, x) in expected.iter_mut().zip(&data) {
                *w -= 0.5 * (*w - x);
            }
            assert_eq!(read(&device, &w), expected, "{}", device.name());
        }
        assert_eq!(step.submits(), usize::from(device.name() != "cpu"));
    }
}

#[test]
fn outputs_stay_readable_while_later_runs_go_on() {
    for device in devices() {
        let (step, x, difference, _w) = descent(&device, StepOptions::default());
        let data: Vec<Vec<f32>> = (0..20_u8).map(|run| vec![f32::from(run); 4]).collect();
        let launched: Vec<_> = data.iter().map(|data| step.launch(&[(&x, data)]).unwrap()).collect();
        let mut w = 0.0;
        for (outputs, data) in launched.iter().zip(&data) {
            assert_eq!(outputs.get(&difference).unwrap().to_f32(), [w - data[0]; 4], "{}", device.name());
            w -= 0.5 * (w - data[0]);
        }
    }
}

#[test]
fn inputs_are_checked_by_name() {
    for device in devices() {
        let (step, x, _, _w) = descent(&device, StepOptions::default());
        let other = Tensor::input("other", [4], DType::F32);
        let cases = [
            (step.run(&[]).unwrap_err(), Code::Unbound),
            (step.run(&[(&x, &[1.0; 4]), (&other, &[1.0; 4])]).unwrap_err(), Code::Unbound),
            (step.run(&[(&x, &[1.0; 3])]).unwrap_err(), Code::ShapeChanged),
            (step.run(&[(&x, &Array::from([[1.0, 2.0], [3.0, 4.0]]))]).unwrap_err(), Code::ShapeChanged),
            (step.run(&[(&x, &[1; 4])]).unwrap_err(), Code::Dtype),
        ];
        for (error, code) in cases {
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains("`x`") || error.to_string().contains("`other`"), "{error}");
        }
        let error = Step::new(&device, &[], &[&(&x + 1.0)], &[]).unwrap_err();
        assert_eq!(error.code(), Code::Unbound);
        assert!(step.run(&[(&x, &[1.0; 4])]).is_ok(), "the step works on");
    }
}

#[test]
fn updates_are_checked() {
    for device in devices() {
        let group = device.variables(&[("a", &[1.0, 2.0]), ("b", &[3.0])]).unwrap();
        let (one, two) = (Tensor::new([1.0]), Tensor::new([1.0, 2.0]));
        let new = |updates: &[(&Tensor, &Tensor)]| Step::new(&device, &[], &[], updates).map(|_| ());
        assert_eq!(new(&[(&group[0], &one)]).unwrap_err().code(), Code::Update);
        assert_eq!(new(&[(&two, &two)]).unwrap_err().code(), Code::Update);
        assert_eq!(new(&[(&group[0], &two), (&group[0], &two)]).unwrap_err().code(), Code::Update);
        let all = Tensor::zeros([128]);
        assert_eq!(new(&[(&group[0], &two), (group.flat(), &all)]).unwrap_err().code(), Code::Update);
        assert!(new(&[(&group[0], &two), (&group[1], &one)]).is_ok());
    }
}

#[test]
fn parts_of_a_group_are_updated_alone_and_together() {
    for device in devices() {
        let group = device.variables(&[("a", &[1.0, 2.0]), ("b", &[3.0])]).unwrap();
        let (a, b) = (group[0].tensor(), group[1].tensor());
        let step = Step::new(&device, &[], &[], &[(b, &(b + 1.0))]).unwrap();
        step.run(&[]).unwrap();
        assert_eq!((read(&device, a), read(&device, b)), (vec![1.0, 2.0], vec![4.0]), "{}", device.name());
        let step = Step::new(&device, &[], &[], &[(b, &(b * 2.0)), (a, &(a + 1.0))]).unwrap();
        step.run(&[]).unwrap();
        assert_eq!((read(&device, a), read(&device, b)), (vec![2.0, 3.0], vec![8.0]), "{}", device.name());
        let doubled = group.flat().tensor() * 2.0;
        let step = Step::new(&device, &[], &[], &[(group.flat(), &doubled)]).unwrap();
        step.run(&[]).unwrap();
        assert_eq!((read(&device, a), read(&device, b)), (vec![4.0, 6.0], vec![16.0]), "{}", device.name());
        assert_eq!(step.kernels(), 1);
    }
}

#[test]
fn ten_thousand_steps_leave_memory_as_it_was() {
    for device in fresh() {
        let (step, x, difference, _w) = descent(&device, StepOptions::default());
        let data = [1.0_f32; 4];
        for _ in 0..10 {
            drop(step.launch(&[(&x, &data)]).unwrap());
        }
        let before = device.memory();
        for run in 0..10_000 {
            let outputs = step.launch(&[(&x, &data)]).unwrap();
            if run % 100 == 0 {
                assert_eq!(outputs.get(&difference).unwrap().to_f32().len(), 4);
            }
        }
        assert_eq!(device.memory(), before, "{}", device.name());
        drop(step);
        for _ in 0..10 {
            read(&device, &(Tensor::new([1.0, 2.0]) + 1.0));
        }
        assert!(device.memory().live_bytes < before.live_bytes, "{}", device.name());
    }
}

#[test]
fn pipelines_are_shared_between_steps() {
    let device = software().with_options(Options::default()).unwrap();
    let (_step, ..) = descent(&device, StepOptions::default());
    let once = device.pipelines();
    let (_step, ..) = descent(&device, StepOptions::default());
    assert_eq!(device.pipelines(), once);
}

#[test]
fn level_nan_names_the_first_kernel_that_writes_one() {
    for device in devices() {
        let x = Tensor::input("x", [4], DType::F32);
        let y = x.log().named("logarithm");
        let options = StepOptions { check: Check::Nan, ..StepOptions::default() };
        let step = Step::with_options(&device, &[&x], &[&y], &[], options).unwrap();
        let error = step.run(&[(&x, &[1.0, 2.0, -1.0, 0.0])]).unwrap_err();
        assert_eq!(error.code(), Code::Nonfinite, "{}", device.name());
        let text = error.to_string();
        assert!(text.contains("`logarithm` has 2 of 4") && text.contains("element 2"), "{text}");
        assert!(step.run(&[(&x, &[1.0; 4])]).is_ok(), "the step works on");
        let step = Step::new(&device, &[&x], &[&y], &[]).unwrap();
        assert!(step.run(&[(&x, &[-1.0; 4])]).is_ok(), "not looked at by default");
    }
}

#[test]
fn cross_check_accepts_what_is_right() {
    for device in devices() {
        let x = Tensor::new([0.1, 0.2, 0.3, 1e10]);
        let y = &x * 3.0 + 0.7;
        let report = cross_check(&device, &[&y, &(&x * &y)]).unwrap();
        assert_eq!(report.cases, 8, "{}", device.name());
        assert!(report.worst_ratio <= 1.0 && report.kernels > 0, "{report:?}");
        let (step, x, difference, w) =
            descent(&device, StepOptions { check: Check::CrossCheck, ..StepOptions::default() });
        let outputs = step.run(&[(&x, &[1.0; 4])]).unwrap();
        assert_eq!(outputs.get(&difference).unwrap().to_f32(), [-1.0; 4]);
        assert_eq!(read(&device, &w), [0.5; 4]);
        let report = step.cross_check(&[(&x, &[1.0; 4])]).unwrap();
        assert!(report.cases >= 8, "{report:?}");
    }
}

#[test]
fn cross_check_sees_planted_faults() {
    for device in devices() {
        let x = Tensor::new([0.1, 0.2, 0.3, 0.4, 0.5]);
        let y = (&x * 3.0 + 0.7).named("line");
        let damaged = |fault| {
            let options = Options { faults: FaultPlan::new([fault]), ..Options::default() };
            device.with_options(options).unwrap()
        };
        for bit in [1, 10, 22, 30, 31] {
            let device = damaged(Fault::FlipBit { kernel: 0, output: 0, element: 3, bit });
            let error = cross_check(&device, &[&y]).unwrap_err();
            assert_eq!(error.code(), Code::CrossCheck, "bit {bit} on {}: {error}", device.name());
            let text = error.to_string();
            assert!(text.contains("`line` at [3]") && text.contains("steps.rs"), "{text}");
            assert!(device.faults()[0].1);
            let expected = Reference::rounded().evaluate(&[&y]).unwrap()[0].to_f64();
            assert_ne!(device.read(&y).unwrap().to_f64()[3], expected[3], "a read does not look");
        }
        let device = damaged(Fault::SkipKernel(0));
        let error = cross_check(&device, &[&y]).unwrap_err();
        assert_eq!(error.code(), Code::CrossCheck, "{error}");
        assert!(device.faults()[0].1);
    }
}

#[test]
fn a_step_explains_itself() {
    for device in devices() {
        let (step, x, _, _w) = descent(&device, StepOptions::default());
        let text = step.explain();
        assert!(text.contains("updates `w`") || text.contains("writes `w`"), "{text}");
        assert!(text.contains("reads  `x`"), "{text}");
        let memory = step.memory();
        assert_eq!(memory.fixed, 2 * 16, "{memory:?}");
        assert!(memory.ratio() >= 1.0 && memory.live >= 16, "{memory:?}");
        assert!(step.to_dot().starts_with("digraph"), "{}", step.to_dot());
        let profile = step.profile(&[(&x, &[1.0; 4])]).unwrap();
        assert_eq!(profile.kernels.len(), step.kernels());
        assert!(profile.kernels.iter().all(|kernel| kernel.seconds >= 0.0), "{profile}");
        assert!(profile.roof.bytes_per_second > 1e8 && profile.roof.flops_per_second > 1e7, "{profile}");
        println!("{profile}");
    }
}

#[test]
fn an_input_is_given_once() {
    for device in devices() {
        let x = Tensor::input("x", [2], DType::F32);
        let step = Step::new(&device, &[&x], &[&x.sum(..)], &[]).unwrap();
        let error = step.run(&[(&x, &[1.0, 2.0]), (&x, &[3.0, 4.0])]).unwrap_err();
        assert_eq!(error.code(), Code::Unbound);
        assert!(error.to_string().contains("input `x` is given twice"), "{error}");
        assert_eq!(step.run(&[(&x, &[1.0, 2.0])]).unwrap().scalar(0).unwrap(), 3.0);
    }
}

#[test]
fn marks_in_outputs_and_updates_are_collected_where_a_step_asks_for_them() {
    for device in devices() {
        let w = device.variable("w", &[1.0, 2.0]).unwrap();
        let x = Tensor::input("x", [2], DType::F32);
        let product = (w.tensor() * &x).inspect("product");
        let next = w.tensor() - (0.5 * &x).inspect("change");
        let build = |inspect| {
            let options = StepOptions { inspect, ..StepOptions::default() };
            Step::with_options(&device, &[&x], &[&product.sum(..)], &[(w.tensor(), &next)], options).unwrap()
        };
        let step = build(true);
        for (run, sum) in [(1, 3.0), (2, 2.0)] {
            let outputs = step.run(&[(&x, &[1.0, 1.0])]).unwrap();
            assert_eq!(outputs.len(), 1);
            assert_eq!(outputs.scalar(0).unwrap(), sum);
            assert_eq!(outputs.read(1).unwrap_err().code(), Code::Unbound);
            let seen = outputs.inspected().unwrap();
            let labels: Vec<&str> = seen.iter().map(|row| &*row.label).collect();
            assert_eq!(labels, ["product", "change"], "run {run}");
            assert!(seen.iter().all(|row| row.location.file().ends_with("steps.rs")));
            assert_eq!(seen[0].value.to_f64().iter().sum::<f64>(), sum);
            assert_eq!(seen[1].value.to_f64(), [0.5, 0.5]);
        }
        let silent = build(false);
        assert!(silent.run(&[(&x, &[1.0, 1.0])]).unwrap().inspected().unwrap().is_empty());
        // Off, the step is that of a graph without marks.
        let plain = w.tensor() - 0.5 * &x;
        let without =
            Step::new(&device, &[&x], &[&(w.tensor() * &x).sum(..)], &[(w.tensor(), &plain)]).unwrap();
        assert_eq!(silent.kernels(), without.kernels());
        assert_eq!(silent.memory().planned, without.memory().planned);
    }
}

#[test]
fn a_variable_is_an_operand_and_something_to_differentiate_with_respect_to() {
    for device in devices() {
        let (v, group) = (
            device.variable("v", &[1.0, 2.0]).unwrap(),
            device.variables(&[("a", &[3.0, 4.0]), ("b", &[0.5, 0.25])]).unwrap(),
        );
        let x = Tensor::new([10.0, 100.0]);
        let y = (&x * &v + &group[0] * &group[1]).sum(..);
        assert_eq!(device.read(&y).unwrap().scalar().unwrap(), 212.5);
        let twice = device.variables(&[("a", &[1.0]), ("a", &[2.0])]).unwrap_err();
        assert_eq!(twice.code(), Code::Update);
        let (text, line) = (twice.to_string(), twice.location().unwrap().file());
        assert!(text.contains("two variables have the name `a`") && line.ends_with("steps.rs"), "{text}");
    }
}

#[test]
fn data_that_was_refused_is_not_taken_for_empty() {
    for device in devices() {
        let ragged = || Array::from(vec![vec![1.0, 2.0], vec![3.0]]);
        let x = Tensor::input("x", [0], DType::F32);
        let step = Step::new(&device, &[&x], &[&x.sum(..)], &[]).unwrap();
        let empty = device.variable("empty", &Tensor::zeros([0])).unwrap();
        for error in [
            step.run(&[(&x, &ragged())]).map(|_| ()).unwrap_err(),
            device.write(&empty, &ragged()).unwrap_err(),
            device.variable("w", &ragged()).map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::DataLength);
            assert!(error.to_string().contains("row 1 has 1 values, row 0 has 2"), "{error}");
        }
    }
}
