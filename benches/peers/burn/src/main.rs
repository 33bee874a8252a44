//! The tasks of `cotangent bench` in burn on wgpu, with the same output: one JSON line per task.
//!
//! Each task runs once before it is timed; the loss and the largest magnitude of the gradient are read inside the timed region,
//! so that the work has been done. `cargo run --release -- [FILTER]`

use std::time::Instant;

use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor, activation};

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let device = Device::wgpu(DeviceKind::Cpu);
    let tasks: [(&str, fn(&Device) -> Box<dyn FnMut() -> f32>, f64); 5] = [
        ("sigmoid_l1_2p22", sigmoid_l1, 0.0),
        ("matmul_1024_nn", matmul, 2.0 * 1024f64.powi(3)),
        ("softmax_ce_4096x8192", softmax_cross_entropy, 0.0),
        ("seed_sgd", |device| train(device, &[1, 30, 20, 1], 400, 1), 0.0),
        ("mlp_adam", |device| train(device, &[784, 512, 512, 10], 256, 10), 0.82e9),
    ];
    for (name, make, flops) in tasks {
        if !name.contains(&filter) {
            continue;
        }
        let mut run = make(&device);
        let value = run();
        let (start, mut seconds) = (Instant::now(), Vec::new());
        while seconds.len() < 5 || (start.elapsed().as_secs_f64() < 2.0 && seconds.len() < 200) {
            let begin = Instant::now();
            run();
            seconds.push(begin.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let line = serde_json::json!({
            "task": name, "device": "burn 0.22 wgpu", "median_seconds": median, "min_seconds": seconds[0],
            "gigaflops": 1e-9 * flops / median, "value": value,
        });
        println!("{line}");
    }
}

fn uniform<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-2.0, 2.0), &device.clone().autodiff())
}

/// Waits until a tensor has been computed; its largest magnitude, which says that it has.
fn read<const D: usize>(tensor: Tensor<D>) -> f32 {
    tensor.abs().max().into_data().to_vec::<f32>().expect("a number")[0]
}

fn sigmoid_l1(device: &Device) -> Box<dyn FnMut() -> f32> {
    let (prediction, target) = (uniform([1 << 22], device), uniform([1 << 22], device));
    Box::new(move || {
        let prediction = prediction.clone().require_grad();
        let size = (prediction.clone() - target.clone()).abs();
        let loss = (size.clone() * activation::sigmoid(size)).mean();
        let gradients = loss.backward();
        read(loss.inner());
        read(prediction.grad(&gradients).expect("a gradient"))
    })
}

fn matmul(device: &Device) -> Box<dyn FnMut() -> f32> {
    let (a, b) = (uniform([1024, 1024], device).inner(), uniform([1024, 1024], device).inner());
    Box::new(move || read(a.clone().matmul(b.clone())))
}

fn cross_entropy(logits: Tensor<2>, labels: Tensor<2, Int>) -> Tensor<1> {
    activation::log_softmax(logits, 1).gather(1, labels).mean().neg()
}

fn labels(rows: usize, classes: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::<2>::random([rows, 1], Distribution::Uniform(0.0, classes as f64), &device.clone().autodiff()).int()
}

fn softmax_cross_entropy(device: &Device) -> Box<dyn FnMut() -> f32> {
    let (logits, labels) = (uniform([4096, 8192], device), labels(4096, 8192, device));
    Box::new(move || {
        let logits = logits.clone().require_grad();
        let loss = cross_entropy(logits.clone(), labels.clone());
        let gradients = loss.backward();
        read(loss.inner());
        read(logits.grad(&gradients).expect("a gradient"))
    })
}

/// A parameter with its moments.
type Parameter = [Tensor<2>; 3];

/// SGD for one output with a squared error, Adam with cross entropy for several.
fn train(device: &Device, widths: &[usize], batch: usize, outputs: usize) -> Box<dyn FnMut() -> f32> {
    let x = uniform([batch, widths[0]], device);
    let target = uniform([batch, 1], device);
    let labels = labels(batch, outputs, device);
    let adam = outputs > 1;
    let parameter = |shape: [usize; 2], scale: f64| -> Parameter {
        let zeros = Tensor::zeros(shape, device);
        [Tensor::random(shape, Distribution::Normal(0.0, scale.max(1e-9)), device), zeros.clone(), zeros]
    };
    let mut parameters: Vec<Parameter> = widths
        .windows(2)
        .flat_map(|w| [parameter([w[0], w[1]], (2.0 / w[0] as f64).sqrt()), parameter([1, w[1]], 0.0)])
        .collect();
    let mut step = 0;
    Box::new(move || {
        step += 1;
        let tracked: Vec<Tensor<2>> =
            parameters.iter().map(|[p, ..]| Tensor::from_inner(p.clone()).require_grad()).collect();
        let mut hidden = x.clone();
        for (layer, pair) in tracked.chunks(2).enumerate() {
            hidden = hidden.matmul(pair[0].clone()) + pair[1].clone();
            if 2 * layer + 2 < tracked.len() {
                hidden = activation::relu(hidden);
            }
        }
        let loss = if adam {
            cross_entropy(hidden, labels.clone())
        } else {
            let difference = hidden - target.clone();
            (difference.clone() * difference).mean() * 0.5
        };
        let gradients = loss.backward();
        for ([p, m, v], tracked) in parameters.iter_mut().zip(&tracked) {
            let g = tracked.grad(&gradients).expect("a gradient");
            if adam {
                *m = m.clone() * 0.9 + g.clone() * 0.1;
                *v = v.clone() * 0.999 + g.clone() * g * 0.001;
                let (rate, scale) = (1e-3 / (1.0 - 0.9f64.powi(step)), 1.0 / (1.0 - 0.999f64.powi(step)));
                *p = p.clone() - m.clone() * rate / ((v.clone() * scale).sqrt() + 1e-8);
            } else {
                *p = p.clone() - g * 1e-3;
            }
        }
        read(loss.inner())
    })
}
