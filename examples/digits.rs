//! Handwritten digits: a network with a categorical end, trained headless from a table, saved and loaded again.
//!
//! `cargo run --release --example digits -- cpu`

use cotangent::io::{self, Table};
use cotangent::prelude::*;
use cotangent::{Initial, Shape};

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());

    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits.csv"))?;
    let rows = table.rows();
    let columns: Vec<Vec<f64>> = (0..64).map(|p| table.column(&format!("p{p}"))).collect::<Result<_, _>>()?;
    let pixels: Vec<f64> = (0..rows).flat_map(|row| columns.iter().map(move |c| c[row] / 16.0)).collect();
    let labels: Vec<i32> = table.column("digit")?.iter().map(|&digit| digit as i32).collect();
    // Every fifth row is kept for the test.
    let part = |test: bool| {
        let chosen: Vec<usize> = (0..rows).filter(|row| (row % 5 == 0) == test).collect();
        let x: Vec<f64> = chosen.iter().flat_map(|row| pixels[row * 64..(row + 1) * 64].to_vec()).collect();
        let y: Vec<i32> = chosen.iter().map(|&row| labels[row]).collect();
        (Tensor::from_values(x, [chosen.len(), 64]), y)
    };
    let ((x, y), (x_test, y_test)) = (part(false), part(true));

    let network = Mlp::new(&[64, 64, 10], Activation::Relu);
    let initial = network.parameters(Key::new(1))?;
    let named: Vec<(&str, &dyn Initial)> =
        initial.iter().map(|(n, v)| (n.as_str(), v as &dyn Initial)).collect();
    let parameters = device.variables(&named)?;
    let views = parameters.views();

    let family = Family::categorical();
    let eta = network.forward(&views, &x);
    let labels = Tensor::new(y.clone());
    let upstream = family.residual(&eta, &labels) / y.len() as f64;
    let gradients: Vec<Tensor> =
        vjp(&[(&eta, &upstream)], &views)?.iter().map(Gradient::or_error).collect::<Result<_, _>>()?;
    let adam = Adam::new(5e-3);
    let state = adam.state(parameters.flat().shape())?;
    let slots: Vec<Tensor> = state
        .iter()
        .map(|(name, value)| Ok(device.variable(name, value)?.tensor().clone()))
        .collect::<Result<_, Error>>()?;
    let updates = adam.updates(parameters.flat(), &parameters.flatten(&gradients), &slots)?;
    let updates: Vec<(&Tensor, &Tensor)> = updates.iter().map(|(old, new)| (old, new)).collect();
    let loss = family.nll(&eta, &labels, Reduction::Mean);
    let step = Step::new(&device, &[], &[&loss], &updates)?;
    println!("{} dispatches, {} submission(s) per step", step.dispatches(), step.submits());
    for epoch in 0..200 {
        let outputs = step.run(&[])?;
        if epoch % 50 == 0 {
            println!("step {epoch:3}: loss {:.4}", outputs.scalar(0)?);
        }
    }

    let values = device.read_all(&views.iter().collect::<Vec<_>>())?;
    let path = std::env::temp_dir().join(format!("digits-{}.safetensors", std::process::id()));
    let saved: Vec<(&str, &Array)> = initial.iter().map(|(name, _)| name.as_str()).zip(&values).collect();
    io::save(&path, &saved)?;
    let expected: Vec<(&str, &Shape, DType)> =
        initial.iter().map(|(name, value)| (name.as_str(), value.shape(), DType::F32)).collect();
    let loaded: Vec<Tensor> = io::load_into(&path, &expected)?.into_iter().map(Tensor::new).collect();

    let guesses = device.read(&network.forward(&loaded, &x_test).argmax(-1))?.to_f64();
    let right = guesses.iter().zip(&y_test).filter(|(guess, label)| **guess == f64::from(**label)).count();
    println!("{right} of {} test digits are right", y_test.len());
    std::fs::remove_file(&path).ok();
    Ok(())
}
