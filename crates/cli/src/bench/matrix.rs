//! Products of matrices, and rows of logits.

use cotangent::{DType, Device, Error, Key, Reduction, Step, Tensor, grad, losses};

use super::elementwise::numbers;
use super::{Entry, Task, near, run_and_wait};

pub(super) const TASKS: &[Entry] = &[
    ("matmul_256_nn", |device| matmul(device, 256, false, false)),
    ("matmul_256_nt", |device| matmul(device, 256, false, true)),
    ("matmul_256_tn", |device| matmul(device, 256, true, false)),
    ("matmul_512_nn", |device| matmul(device, 512, false, false)),
    ("matmul_512_nt", |device| matmul(device, 512, false, true)),
    ("matmul_512_tn", |device| matmul(device, 512, true, false)),
    ("matmul_1024_nn", |device| matmul(device, 1024, false, false)),
    ("matmul_1024_nt", |device| matmul(device, 1024, false, true)),
    ("matmul_1024_tn", |device| matmul(device, 1024, true, false)),
    ("matmul_2048_nn", |device| matmul(device, 2048, false, false)),
    ("softmax_ce_4096x8192", |device| softmax_cross_entropy(device, 4096, 8192)),
];

/// Elements of a product, or rows of logits, that are checked.
const SAMPLES: usize = 97;

fn matmul(device: &Device, n: usize, transpose_a: bool, transpose_b: bool) -> Result<Task, Error> {
    let (a, b) = (numbers(device, "a", &[n, n])?, numbers(device, "b", &[n, n])?);
    let side = |t: &Tensor, transposed: bool| if transposed { t.transpose() } else { t.clone() };
    let product = side(&a, transpose_a).matmul(&side(&b, transpose_b));
    let target = device.variable("product", &Tensor::zeros([n, n]))?;
    let step = Step::new(device, &[], &[], &[(&target, &product)])?;
    step.run(&[])?.wait()?;
    let values = device.read_all(&[&a, &b, &target])?;
    let [a, b, found] = [0, 1, 2].map(|i: usize| values[i].to_f64());
    let at = |values: &[f64], row: usize, column: usize, transposed: bool| {
        if transposed { values[column * n + row] } else { values[row * n + column] }
    };
    let checked = (0..SAMPLES).all(|sample| {
        let (row, column) = (sample * 7919 % n, sample * 104_729 % n);
        let terms = (0..n).map(|k| at(&a, row, k, transpose_a) * at(&b, k, column, transpose_b));
        let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
        near(found[row * n + column], exact, size, n as f64)
    });
    let n = n as f64;
    let (bytes, flops) = (12.0 * n * n, 2.0 * n * n * n);
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes, flops })
}

fn softmax_cross_entropy(device: &Device, rows: usize, classes: usize) -> Result<Task, Error> {
    let logits = numbers(device, "logits", &[rows, classes])?;
    let labels =
        (Tensor::uniform(Key::new(1).stream("labels"), 0u32, [rows]) * classes as f64).cast(DType::I32);
    let labels = device.materialize(&[&labels])?.remove(0);
    let loss = losses::cross_entropy(&logits, &labels, Reduction::Mean);
    let gradient = grad(&loss, &logits)?.or_error()?;
    let target = device.variable("gradient", &Tensor::zeros([rows, classes]))?;
    let step = Step::new(device, &[], &[&loss], &[(&target, &gradient)])?;
    let found = step.run(&[])?.scalar(0)?;
    let values = device.read_all(&[&logits, &labels, &target])?;
    let [logits, labels, slopes] = [0, 1, 2].map(|i: usize| values[i].to_f64());
    let (mut total, mut checked) = (0.0, true);
    for (row, (values, &label)) in logits.chunks_exact(classes).zip(&labels).enumerate() {
        let label = label as usize;
        let largest = values.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
        let sum: f64 = values.iter().map(|v| (v - largest).exp()).sum();
        total += sum.ln() + largest - values[label];
        if row % (rows / SAMPLES).max(1) == 0 {
            for class in [0, label, classes / 2, classes - 1] {
                let p = (values[class] - largest).exp() / sum;
                let exact = if class == label { p - 1.0 } else { p };
                checked &= near(slopes[row * classes + class] * rows as f64, exact, 0.0, classes as f64);
            }
        }
    }
    checked &= near(found, total / rows as f64, 0.0, (rows * classes) as f64);
    let elements = (rows * classes) as f64;
    let (bytes, flops) = (8.0 * elements, 10.0 * elements);
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes, flops })
}
