//! Whole graphs on every device and at tight limits, each kernel against the reference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{devices, software};
use cotangent_device::{Device, Step, cross_check};
use cotangent_shaders::Target;
use cotangent_tensor::{Code, DType, Detail, Error, Key, Tensor};

/// Devices, and the software adapter at the limits of the web and at tiny ones.
fn all() -> Vec<(String, Device)> {
    let web = Target::web();
    let tiny = Target {
        max_workgroups: 5,
        max_invocations: 64,
        max_workgroup_memory: 4096,
        max_storage_buffers: 5,
        max_binding: 1 << 16,
        ..web.clone()
    };
    let mut all: Vec<(String, Device)> =
        devices().into_iter().map(|device| (device.name().to_owned(), device)).collect();
    all.push(("web limits".to_owned(), software().with_limits(&web).unwrap()));
    all.push(("tiny limits".to_owned(), software().with_limits(&tiny).unwrap()));
    all
}

/// Uniform numbers in (−1, 1).
fn numbers(name: &str, shape: &[usize]) -> Tensor {
    Tensor::uniform(Key::new(7).stream(name), Tensor::full([], 0_u32), shape) * 2.0 - 1.0
}

fn graphs() -> Vec<(&'static str, Vec<Tensor>)> {
    let x = numbers("x", &[37, 19]);
    let y = numbers("y", &[37, 19]);
    let long = numbers("long", &[10_000]);
    let labels = (numbers("labels", &[37]).abs() * 18.9).cast(DType::I32);
    let centered = &x - x.mean(-1).unsqueeze(-1);
    let variance = (&centered * &centered).mean(-1).unsqueeze(-1);
    vec![
        ("map", vec![(&x * &y + 1.0).tanh(), x.exp()]),
        ("broadcast", vec![&x + x.sum(0), &x.transpose() * 2.0]),
        ("total", vec![long.sum(..), (&long * &long).mean(..), long.max_over(..)]),
        ("rows", vec![x.sum(-1), x.max_over(-1), x.argmax(-1)]),
        ("columns", vec![x.sum(0), y.min_over(0)]),
        ("softmax", vec![x.softmax(-1), x.logsumexp(-1)]),
        (
            "cross entropy",
            vec![x.cross_entropy(&labels).mean(..), x.softmax_residual(&labels) * (1.0 / 37.0)],
        ),
        ("layer norm", vec![&centered / (&variance + 1e-5).sqrt()]),
        ("gather", vec![y.gather(1, &labels).exp()]),
        ("integers", vec![labels.clone() * 3 + 1, labels.one_hot(19)]),
        ("pieces", vec![Tensor::concat(&[&x.flip(0), &y.pad(0, 1, 2)], 0).exp()]),
        (
            "fused loss",
            vec![{
                let d = (&x - &y).abs();
                (d.sigmoid() * &d).mean(..)
            }],
        ),
    ]
}

#[test]
fn every_kernel_agrees_with_the_reference_at_every_limit() {
    let mut failed = Vec::new();
    for (name, device) in all() {
        let mut cases = 0;
        for (graph, outputs) in graphs() {
            match cross_check(&device, &outputs.iter().collect::<Vec<_>>()) {
                Ok(report) => {
                    let elements: usize = outputs.iter().map(|output| output.shape().elements()).sum();
                    assert!(report.cases >= elements, "{graph} on {name}: {report:?}");
                    cases += report.cases;
                }
                Err(error) => failed.push(format!("{graph} on {name}: {error}")),
            }
        }
        assert!(cases > 0, "nothing was compared on {name}");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn devices_agree_bit_for_bit_with_themselves() {
    for (name, device) in all() {
        for (graph, outputs) in graphs() {
            let outputs: Vec<&Tensor> = outputs.iter().collect();
            let words = || -> Result<Vec<Vec<u32>>, Error> {
                Ok(device.read_all(&outputs)?.iter().map(|array| array.to_words()).collect())
            };
            assert_eq!(words().unwrap(), words().unwrap(), "{graph} on {name}");
        }
    }
}

#[test]
fn an_index_outside_its_axis_is_an_error_with_its_position() {
    for (name, device) in all() {
        let x = numbers("x", &[5, 3]);
        let indices = Tensor::input("indices", [4], DType::I32);
        let y = x.gather(0, &indices);
        let step = Step::new(&device, &[&indices], &[&y], &[]).unwrap();
        for (data, position, index) in [([0, 4, 5, 1], 2, 5), ([0, -1, 2, 3], 1, -1)] {
            let error = step.run(&[(&indices, &data)]).unwrap_err();
            assert_eq!(error.code(), Code::Index, "{name}: {error}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("index {index}")) && text.contains("outside 0..5"),
                "{name}: {text}"
            );
            assert!(text.contains("graphs.rs"), "{name}: {text}");
            assert!(error.details().contains(&("position", Detail::Integer(position))), "{name}: {text}");
            assert!(text.starts_with("error[E_INDEX]: gather: "), "{name}: {text}");
        }
        assert!(step.run(&[(&indices, &[0, 1, 2, 4])]).is_ok(), "the step works on");
    }
}

#[test]
fn the_error_of_a_run_that_nobody_waited_for_comes_back_later() {
    for device in devices() {
        let x = numbers("x", &[5, 3]);
        let indices = Tensor::input("indices", [4], DType::I32);
        let step = Step::new(&device, &[&indices], &[&x.gather(0, &indices)], &[]).unwrap();
        let mut errors = Vec::new();
        errors.extend(step.launch(&[(&indices, &[0, 1, 9, 3])]).map(drop).err());
        for _ in 0..20 {
            errors.extend(step.launch(&[(&indices, &[0, 1, 2, 3])]).map(drop).err());
        }
        assert_eq!(errors.len(), 1, "{errors:?} on {}", device.name());
        assert_eq!(errors[0].code(), Code::Index);
    }
}

#[test]
fn a_small_network_learns_on_every_device() {
    let mut losses = Vec::new();
    for (name, device) in all() {
        let (x, y) = (Tensor::input("x", [16, 3], DType::F32), Tensor::input("y", [16, 1], DType::F32));
        let weights = device
            .variables(&[("w1", &(numbers("w1", &[3, 8]) * 0.5)), ("w2", &(numbers("w2", &[8, 1]) * 0.5))])
            .unwrap();
        let [w1, w2] = [0, 1].map(|i| weights[i].tensor().clone());
        let hidden = x.matmul(&w1).tanh();
        let residual = hidden.matmul(&w2) - &y;
        let loss = (&residual * &residual).mean(..);
        let upstream = &residual * (2.0 / 16.0);
        let d_w2 = hidden.transpose().matmul(&upstream);
        let d_hidden = upstream.matmul(&w2.transpose()) * (1.0 - &hidden * &hidden);
        let d_w1 = x.transpose().matmul(&d_hidden);
        let gradient = weights.flatten(&[d_w1, d_w2]);
        let updated = weights.flat().tensor() - 0.2 * gradient;
        let step = Step::new(&device, &[&x, &y], &[&loss], &[(weights.flat(), &updated)]).unwrap();
        let data = numbers("data", &[16, 3]);
        let target = data.sum(-1).unsqueeze(-1).sin();
        let data = Device::cpu().read_all(&[&data, &target]).unwrap();
        let outputs: Vec<_> =
            (0..60).map(|_| step.launch(&[(&x, &data[0]), (&y, &data[1])]).unwrap()).collect();
        let history: Vec<f64> = outputs.iter().map(|outputs| outputs.scalar(0).unwrap()).collect();
        assert!(history[59] < 0.6 * history[0], "{name}: {history:?}");
        step.cross_check(&[(&x, &data[0]), (&y, &data[1])]).unwrap();
        losses.push(history[59]);
    }
    let spread = losses.iter().fold(0.0, |spread: f64, loss| spread.max((loss / losses[0] - 1.0).abs()));
    assert!(spread < 1e-3, "a trajectory of f32 on every device: {losses:?}");
}

/// Loops over much memory fetch ahead, also where they begin before the start of what they read.
#[test]
fn long_loops_that_begin_outside_of_their_operands() {
    for device in devices() {
        let x = Tensor::iota([1 << 17], 0).cast(DType::F32) * 1e-4;
        let x = device.materialize(&[&x]).unwrap().remove(0);
        let padded = (x.pad(0, 1, 2) * 2.0 + 1.0).sin();
        let joined = Tensor::concat(&[&padded, &x, &padded], 0) * 3.0 - 1.0;
        let report = cross_check(&device, &[&(joined * 0.5).cos(), &padded.abs().sqrt()]).unwrap();
        assert!(report.worst_ratio <= 1.0 && report.cases > 0, "{report:?}");
    }
}
