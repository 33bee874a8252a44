//! Losses of exponential families with their gradients, a copy of as many bytes, and the gradient of a generalized linear
//! model.

use std::collections::HashMap;

use cotangent::{
    Arithmetic, Bounded, Device, Error, Family, Key, Link, Reduction, Step, Tensor, bounded, grad, vjp,
};

use super::elementwise::numbers;
use super::{Make, Task, near, run_and_wait};

/// Elements of a loss.
const ELEMENTS: usize = 1 << 24;
/// Numbers that are drawn; the elements repeat them, so that f64 is needed for these only.
const DRAWN: usize = 1 << 16;

/// The tasks by name: every family whose observation has one predictor, and others by a link that is not the canonical one.
pub(super) fn tasks() -> Vec<(String, Make)> {
    let canonical = Family::all().into_iter().filter(|family| !family.has_rows());
    let linked = [
        (Family::bernoulli(), Link::Probit),
        (Family::bernoulli(), Link::Cloglog),
        (Family::poisson(), Link::Softplus),
        (Family::gamma(), Link::Log),
        (Family::inverse_gaussian(), Link::Log),
    ];
    let mut tasks: Vec<(String, Make)> = vec![
        ("glm_gradient_1Mx128".to_owned(), Box::new(|device| linear(device, 1 << 20, 128))),
        ("copy_family_2p24".to_owned(), Box::new(copy)),
    ];
    for family in canonical {
        tasks.push((format!("family_{}", family.name()), Box::new(move |device| loss(device, &family))));
    }
    for (family, link) in linked {
        let name = format!("family_{}_{link}", family.name());
        let make = move |device: &Device| loss(device, &family.clone().with_link(link.clone())?);
        tasks.push((name, Box::new(make)));
    }
    tasks
}

/// The mean loss of a family and its gradient in the predictor. Predictors lie between the outermost of the samples of the
/// family, targets are those of the samples.
fn loss(device: &Device, family: &Family) -> Result<Task, Error> {
    let missing =
        || Error::new(cotangent::Code::Internal, "bench", format!("{} has no samples", family.name()));
    let [eta, target] = family.samples().ok_or_else(missing)?.map(|samples| samples.to_f64());
    let uniform = |name: &str| Tensor::uniform(Key::new(1).stream(name), 0u32, [DRAWN]);
    let (low, high) = eta.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let drawn = device.read_all(&[&uniform("eta"), &uniform("target")])?;
    // A predictor at an end may be one at which nothing is defined in f32: keep to the inside.
    let inside = |u: f64| (low + (high - low) * (0.001 + 0.998 * u)) as f32;
    let etas: Vec<f32> = drawn[0].to_f64().into_iter().map(inside).collect();
    let of_samples = |u: f64| target[(u * target.len() as f64) as usize] as f32;
    let targets: Vec<f32> = drawn[1].to_f64().into_iter().map(of_samples).collect();
    let few = [Tensor::new(etas), Tensor::new(targets)];
    let repeated = few.each_ref().map(|few| few.broadcast_to([ELEMENTS / DRAWN, DRAWN]).reshape([-1]));
    let operands = device.materialize(&[&repeated[0], &repeated[1]])?;

    let loss = family.nll(&operands[0], &operands[1], Reduction::Mean);
    let gradient = grad(&loss, &operands[0])?.or_error()?;
    let kept = device.variable("gradient", &Tensor::zeros([ELEMENTS]))?;
    let step = Step::new(device, &[], &[&loss], &[(kept.tensor(), &gradient)])?;
    let found = step.run(&[])?.scalar(0)?;

    let each = family.nll(&few[0], &few[1], Reduction::None);
    let slope = grad(&each.sum(..), &few[0])?.or_error()?;
    let nodes = [each.node()?.clone(), slope.node()?.clone()];
    let [losses, slopes]: [Bounded; 2] = bounded(&nodes, &HashMap::new(), &Arithmetic::specification())?
        .try_into()
        .map_err(|_| Error::new(cotangent::Code::Internal, "bench", "two values were asked for"))?;
    let count = ELEMENTS as f64;
    // Dividing by a power of two is exact.
    let mut gradients =
        device.read(kept.tensor())?.to_f64().into_iter().map(|slope| slope * count).zip((0..DRAWN).cycle());
    let known = slopes.bound.iter().chain(&losses.bound).filter(|bound| bound.is_finite()).count();
    let mean = |of: &mut dyn Iterator<Item = f64>| of.sum::<f64>() / DRAWN as f64;
    let size = mean(&mut losses.value.iter().map(|value| value.abs()));
    let error = mean(&mut losses.bound.iter().copied());
    let exact = mean(&mut losses.value.iter().copied());
    // 128 roundings of a sum.
    let of_sum = 128.0 * f64::from(f32::EPSILON) * size;
    let checked = known == 2 * DRAWN
        && gradients.all(|(slope, i)| (slope - slopes.value[i]).abs() <= slopes.bound[i])
        && (found - exact).abs() <= error + of_sum;
    let flops = 10.0 * count;
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes: 12.0 * count, flops })
}

/// Copies as many bytes as the loss of a family reads and writes: 12 for each of its elements.
fn copy(device: &Device) -> Result<Task, Error> {
    let elements = ELEMENTS / 2 * 3;
    let x = numbers(device, "x", &[elements])?;
    let kept = device.variable("copy", &Tensor::zeros([elements]))?;
    let step = Step::new(device, &[], &[], &[(kept.tensor(), &x)])?;
    step.run(&[])?.wait()?;
    let values = device.read_all(&[&x, kept.tensor()])?;
    let checked = values[0].to_f64() == values[1].to_f64();
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes: 8.0 * elements as f64, flops: 0.0 })
}

/// The gradient of a logistic regression, from the residuals on, and its mean loss.
fn linear(device: &Device, rows: usize, columns: usize) -> Result<Task, Error> {
    let family = Family::bernoulli();
    let x = numbers(device, "x", &[rows, columns])?;
    let weights = numbers(device, "weights", &[columns, 1])? * (1.0 / 16.0);
    let uniform = Tensor::uniform(Key::new(1).stream("target"), 0u32, [rows]);
    let drawn = device.materialize(&[&weights, &uniform.lt(0.5).select(Tensor::ones([rows]), 0.0)])?;
    let (weights, target) = (&drawn[0], &drawn[1]);
    let eta = x.matmul(weights).squeeze(-1);
    let upstream = family.residual(&eta, target) * (1.0 / rows as f64);
    let gradient = vjp(&[(&eta, &upstream)], weights)?.or_error()?;
    let loss = family.nll(&eta, target, Reduction::Mean);
    let kept = device.variable("gradient", &Tensor::zeros([columns, 1]))?;
    let step = Step::new(device, &[], &[&loss], &[(kept.tensor(), &gradient)])?;
    let found = step.run(&[])?.scalar(0)?;

    let values = device.read_all(&[&x, weights, target, kept.tensor()])?;
    let [x, weights, target, slopes] = [0, 1, 2, 3].map(|i: usize| values[i].to_f64());
    let (mut total, mut sums, mut sizes) = (0.0, vec![0.0; columns], vec![0.0; columns]);
    for (row, y) in x.chunks_exact(columns).zip(&target) {
        let eta: f64 = row.iter().zip(&weights).map(|(x, w)| x * w).sum();
        total += eta.max(0.0) + (-eta.abs()).exp().ln_1p() - y * eta;
        let residual = 1.0 / (1.0 + (-eta).exp()) - y;
        for ((sum, size), x) in sums.iter_mut().zip(&mut sizes).zip(row) {
            *sum += residual * x;
            *size += (residual * x).abs();
        }
    }
    let count = rows as f64;
    // Chains of 128 roundings at most, in the predictors and in the sums over them.
    let terms = 128.0 * 128.0;
    let mut all = slopes.iter().zip(sums.iter().zip(&sizes));
    let checked = near(found, total / count, 0.0, terms)
        && all.all(|(slope, (sum, size))| near(*slope, sum / count, size / count, terms));
    let (elements, flops) = (count * columns as f64, 4.0 * count * columns as f64);
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes: 4.0 * elements, flops })
}
