//! Losses with their gradients, and sums: what memory bandwidth limits.

use cotangent::{Device, Error, Key, Reduction, Step, Tensor, grad, losses, wgsl};

use super::{Entry, Task, near, run_and_wait};

pub(super) const TASKS: &[Entry] = &[
    ("sigmoid_l1_2p22", |device| sigmoid_l1(device, 22)),
    ("sigmoid_l1_2p24", |device| sigmoid_l1(device, 24)),
    ("user_wgsl", user_wgsl),
    ("user_loop", |device| user_loop(device, 0)),
    ("user_loop_unrolled", |device| user_loop(device, 256)),
    ("hinge_margin", hinge),
    ("weighted_mse", weighted_mse),
    ("sum", sum),
];

/// Uniform numbers in `[−2, 2)` that stay on the device.
pub(super) fn numbers(device: &Device, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
    let uniform = Tensor::uniform(Key::new(1).stream(name), 0u32, shape) * 4.0 - 2.0;
    Ok(device.materialize(&[&uniform])?.remove(0))
}

/// A mean loss and its gradient with respect to the first operand, which stays on the device.
fn loss_task(
    device: &Device,
    operands: &[Tensor],
    loss: &Tensor,
    exact: impl Fn(&[f64]) -> (f64, f64),
) -> Result<Task, Error> {
    let gradient = grad(loss, &operands[0])?.or_error()?;
    let target = device.variable("gradient", &Tensor::zeros(operands[0].shape()))?;
    let step = Step::new(device, &[], &[loss], &[(&target, &gradient)])?;
    let found = step.run(&[])?.scalar(0)?;
    let values: Vec<Vec<f64>> =
        device.read_all(&operands.iter().collect::<Vec<_>>())?.iter().map(|a| a.to_f64()).collect();
    let slopes = device.read(&target)?.to_f64();
    let count = slopes.len() as f64;
    let (mut total, mut checked) = (0.0, true);
    let mut row = vec![0.0; values.len()];
    for (element, slope) in slopes.iter().enumerate() {
        row.iter_mut().zip(&values).for_each(|(r, v)| *r = v[element]);
        let (value, derivative) = exact(&row);
        total += value;
        checked &= near(slope * count, derivative, 1.0, 0.0);
    }
    checked &= near(found, total / count, 0.0, count.log2());
    // Operands are read once, the gradient is written once.
    let bytes = 4.0 * count * (operands.len() + 1) as f64;
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes, flops: 10.0 * count })
}

fn sigmoid_l1(device: &Device, log_size: u32) -> Result<Task, Error> {
    let shape = [1usize << log_size];
    let operands = [numbers(device, "prediction", &shape)?, numbers(device, "target", &shape)?];
    let loss = losses::sigmoid_l1(&operands[0], &operands[1], Reduction::Mean);
    loss_task(device, &operands, &loss, exact_sigmoid_l1)
}
fn exact_sigmoid_l1(row: &[f64]) -> (f64, f64) {
    let difference = row[0] - row[1];
    let size = difference.abs();
    let sigmoid = 1.0 / (1.0 + (-size).exp());
    let slope = sigmoid * (1.0 + size * (1.0 - sigmoid));
    let sign = if size > 0.0 { difference.signum() } else { 0.0 };
    (size * sigmoid, sign * slope)
}

/// `sigmoid_l1_2p24`, written in WGSL.
fn user_wgsl(device: &Device) -> Result<Task, Error> {
    let shape = [1usize << 24];
    let operands = [numbers(device, "prediction", &shape)?, numbers(device, "target", &shape)?];
    let text = "fn sigmoid_l1(p: f32, t: f32) -> f32 { let size = abs(p - t); return size * sigmoid(size); }";
    let each = wgsl::Module::parse("bench.wgsl", text)?.function("sigmoid_l1")?;
    let loss = each.call(&[&operands[0], &operands[1]]).mean(..);
    loss_task(device, &operands, &loss, exact_sigmoid_l1)
}

/// A series of eight terms and its gradient, as a loop that runs, or written out.
fn user_loop(device: &Device, unrolled: usize) -> Result<Task, Error> {
    let x = numbers(device, "x", &[1usize << 22])?;
    let text = "fn series(x: f32) -> f32 {
        var term = 1.0;
        var sum = 0.0;
        for (var i = 0; i < 8; i++) { term = term * x * 0.5; sum += sin(term); }
        return sum * sum;
    }";
    let each = wgsl::Module::parse("bench.wgsl", text)?.unroll(unrolled).function("series")?;
    let loss = each.call(&[&x]).mean(..);
    loss_task(device, &[x], &loss, |row| {
        let (mut term, mut slope, mut sum, mut total) = (1.0f64, 0.0, 0.0, 0.0);
        for _ in 0..8 {
            slope = slope * row[0] * 0.5 + term * 0.5;
            term *= row[0] * 0.5;
            total += slope * term.cos();
            sum += term.sin();
        }
        (sum * sum, 2.0 * sum * total)
    })
}

fn hinge(device: &Device) -> Result<Task, Error> {
    let shape = [1usize << 24];
    let score = numbers(device, "score", &shape)?;
    let signs =
        Tensor::uniform(Key::new(1).stream("target"), 0u32, shape).lt(0.5).select(Tensor::ones(shape), -1.0);
    let target = device.materialize(&[&signs])?.remove(0);
    let loss = losses::hinge(&score, &target, 0.5, Reduction::Mean);
    loss_task(device, &[score, target], &loss, |row| {
        // Formed in f32 as on the device: a rounding that crosses the kink would look like an error.
        let margin = f64::from(1.0f32 - row[1] as f32 * row[0] as f32 + 0.5f32);
        let slope = if margin > 0.0 { -row[1] } else { 0.0 };
        (margin.max(0.0), if margin == 0.0 { -0.5 * row[1] } else { slope })
    })
}

fn weighted_mse(device: &Device) -> Result<Task, Error> {
    let shape = [1usize << 24];
    let names = ["prediction", "target", "weight"];
    let operands = names.iter().map(|name| numbers(device, name, &shape)).collect::<Result<Vec<_>, _>>()?;
    // Positive weights: a mean that cancels could not be checked.
    let weight = &operands[2] + 3.0;
    let loss = losses::weighted_mse(&operands[0], &operands[1], &weight, Reduction::Mean);
    loss_task(device, &operands, &loss, |row| {
        let (difference, weight) = (row[0] - row[1], row[2] + 3.0);
        (weight * difference * difference, 2.0 * weight * difference)
    })
}

fn sum(device: &Device) -> Result<Task, Error> {
    let x = numbers(device, "sum", &[1usize << 26])?;
    let total = x.sum(..);
    let step = Step::new(device, &[], &[&total], &[])?;
    let found = step.run(&[])?.scalar(0)?;
    let values = device.read(&x)?.to_f64();
    let (exact, size) = values.iter().fold((0.0, 0.0), |(sum, size), v| (sum + v, size + v.abs()));
    let checked = near(found, exact, size, 0.0);
    let count = values.len() as f64;
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes: 4.0 * count, flops: count })
}
