//! A loss written in WGSL trains a network on 20 190 real rows, side by side with the same loss as tensor expressions: the same
//! trajectory, in the same time. Then a loss that nobody has a formula for at hand: a robust one, with a branch.
//!
//! `cargo run --release --example wgsl_losses -- cpu`

use std::time::{Duration, Instant};

use cotangent::io::Table;
use cotangent::prelude::*;

const STEPS: usize = 60;
/// Each way is run so often; the best time counts.
const ROUNDS: usize = 3;
const ALPHA: f64 = 1.5;

/// Inputs in units of their spread, and counts.
fn visits() -> Result<(Tensor, Tensor), Error> {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/randhie.csv"))?;
    let names: Vec<&str> = table.numeric().into_iter().filter(|&name| name != "mdvis").collect();
    let mut columns = Vec::new();
    for name in names {
        let x = table.column(name)?;
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let spread = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
        columns.push(Tensor::new(x.iter().map(|x| (x - mean) / spread).collect::<Vec<f64>>()));
    }
    let x = Tensor::stack(&columns.iter().collect::<Vec<_>>(), -1);
    Ok((x, Tensor::new(table.column("mdvis")?)))
}

/// Trains a network from the same weights with a loss; gives its history, and the time of the steps.
fn train(
    device: &Device,
    (x, y): &(Tensor, Tensor),
    loss: impl Fn(&Tensor, &Tensor) -> Tensor,
) -> Result<(Vec<f64>, Duration, usize), Error> {
    let network = Mlp::new(&[x.shape()[1], 32, 32, 1], Activation::Tanh);
    let parameters = device.variables(&layers::named(&network.parameters(Key::new(11))?))?;
    let eta = network.forward(&parameters.views(), x).squeeze(-1);
    let loss = loss(&eta, y).mean(..);
    let adam = Adam::new(3e-3).attach(device, &parameters)?;
    let updates = adam.updates(&grad(&loss, &parameters.views())?.or_error()?)?;
    let step = Step::new(device, &[], &[&loss], &updates.pairs())?;
    let mut history = vec![step.run(&[])?.scalar(0)?];
    let start = Instant::now();
    for _ in 0..STEPS {
        history.push(step.run(&[])?.scalar(0)?);
    }
    Ok((history, start.elapsed(), step.kernels()))
}

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());
    let data = visits()?;
    let losses = wgsl::Module::parse("examples/losses.wgsl", include_str!("losses.wgsl"))?;
    let written = losses.function("negative_binomial")?;
    println!("\n{written}\n{}", written.derivative()?);

    let in_wgsl = |eta: &Tensor, y: &Tensor| written.call(&[eta, y, &Tensor::new(ALPHA)]);
    let in_tensors = |eta: &Tensor, y: &Tensor| {
        let spread = (eta + ALPHA.ln()).softplus();
        (y + 1.0 / ALPHA) * spread - y * eta
    };
    let mut best = [Duration::MAX; 2];
    let mut histories = Vec::new();
    for _ in 0..ROUNDS {
        let (a, first, kernels) = train(&device, &data, in_wgsl)?;
        let (b, second, others) = train(&device, &data, in_tensors)?;
        assert_eq!(kernels, others, "the loss in WGSL fuses as the loss in tensors does");
        best = [best[0].min(first), best[1].min(second)];
        histories = vec![a, b];
    }
    let per_step = best.map(|time| time.as_secs_f64() * 1e3 / STEPS as f64);
    println!("negative binomial, {} rows, {STEPS} steps:", data.1.shape()[0]);
    for (name, history, time) in
        [("WGSL", &histories[0], per_step[0]), ("tensors", &histories[1], per_step[1])]
    {
        println!("  {name:8} {:.6} -> {:.6}   {time:.3} ms per step", history[0], history[STEPS]);
    }
    println!("  ratio {:.3}", per_step[0] / per_step[1]);
    // constants that the text computes in f64 and tensors in f32 may differ in the last place
    let apart = histories[0].iter().zip(&histories[1]).map(|(a, b)| ((a - b) / b).abs()).fold(0.0, f64::max);
    println!("  largest relative difference of the trajectories: {apart:.1e}");
    assert!(apart < 1e-4, "both losses are the same function");
    assert!(histories[0][STEPS] < histories[0][0], "it learns");

    // A branch, a square root that only one side has, a function that calls another: nothing changes.
    let robust = losses.function("robust")?;
    let report = gradcheck(
        |[eta, y]| robust.call(&[&eta, &y, &Tensor::new(ALPHA), &Tensor::new(2.0)]),
        [Tensor::new([-1.0, 0.5, 3.0, 4.0]), Tensor::new([0.0, 2.0, 1.0, 60.0])],
        &Reference::new(),
    )?;
    println!("\n{robust}\n{}", report.into_result()?);
    let (history, time, _) =
        train(&device, &data, |eta, y| robust.call(&[eta, y, &Tensor::new(ALPHA), &Tensor::new(2.0)]))?;
    println!(
        "robust   {:.6} -> {:.6}   {:.3} ms per step",
        history[0],
        history[STEPS],
        time.as_secs_f64() * 1e3 / STEPS as f64
    );
    assert!(history[STEPS] < history[0], "it learns");
    Ok(())
}
