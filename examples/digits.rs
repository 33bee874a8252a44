//! Handwritten digits: a network with a categorical end, trained headless from a table; halfway, everything is saved,
//! loaded into fresh variables, and training goes on as if nothing had happened.
//!
//! `cargo run --release --example digits -- cpu`

use cotangent::io::{self, Table};
use cotangent::prelude::*;
use cotangent::{Initial, Shape, Variables};

const STEPS: usize = 150;

/// Variables of the network and of the optimizer, and the step that trains them.
struct Training {
    parameters: Variables,
    state: Vec<Tensor>,
    step: Step,
}

type Named = Vec<(String, Array)>;

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());
    let ((x, y), (x_test, y_test)) = digits()?;
    let network = Mlp::new(&[64, 128, 10], Activation::Relu);
    let adam = Adam::new(4e-3);

    let weights = network.parameters(Key::new(7))?;
    let length = device.variables(&named(&weights))?.flat().shape().to_owned();
    let first = training(&device, &network, &adam, &weights, &adam.state(&length)?, &x, &y)?;
    run(&first, "first half")?;

    let path = std::path::Path::new("target/examples-out/digits.safetensors");
    std::fs::create_dir_all("target/examples-out").ok();
    let (weights, state) = resume(&device, path, &first, &weights, &adam.state(&length)?)?;
    drop(first);
    let second = training(&device, &network, &adam, &weights, &state, &x, &y)?;
    run(&second, "second half, from the checkpoint")?;

    let guesses = network.forward(&second.parameters.views(), &x_test).argmax(-1);
    let guesses = device.read(&guesses)?.to_f64();
    let right = guesses.iter().zip(&y_test).filter(|(guess, label)| **guess == f64::from(**label)).count();
    let share = 100.0 * right as f64 / y_test.len() as f64;
    println!("{right} of {} test digits are right: {share:.1} %", y_test.len());
    assert!(share >= 97.0, "the classifier must reach 97 %");
    Ok(())
}

/// Pixels in `[0, 1]` and labels, for training and for the test (every fifth row).
#[allow(clippy::type_complexity, reason = "two pairs of the same kind")]
fn digits() -> Result<((Tensor, Vec<i32>), (Tensor, Vec<i32>)), Error> {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits.csv"))?;
    let columns: Vec<Vec<f64>> = (0..64).map(|p| table.column(&format!("p{p}"))).collect::<Result<_, _>>()?;
    let labels: Vec<i32> = table.column("digit")?.iter().map(|&digit| digit as i32).collect();
    let part = |test: bool| {
        let chosen: Vec<usize> = (0..table.rows()).filter(|row| (row % 5 == 0) == test).collect();
        let x: Vec<f64> = chosen.iter().flat_map(|&row| columns.iter().map(move |c| c[row] / 16.0)).collect();
        let y: Vec<i32> = chosen.iter().map(|&row| labels[row]).collect();
        (Tensor::from_values(x, [chosen.len(), 64]), y)
    };
    Ok((part(false), part(true)))
}

fn named(values: &Named) -> Vec<(&str, &dyn Initial)> {
    values.iter().map(|(name, value)| (name.as_str(), value as &dyn Initial)).collect()
}

/// One step: forward, backward from η with the explicit upstream `(ŷ − y)/n`, Adam on the flat parameters.
fn training(
    device: &Device,
    network: &Mlp,
    adam: &Adam,
    weights: &Named,
    state: &Named,
    x: &Tensor,
    y: &[i32],
) -> Result<Training, Error> {
    let parameters = device.variables(&named(weights))?;
    let state: Vec<Tensor> = state
        .iter()
        .map(|(name, value)| Ok(device.variable(name, value)?.tensor().clone()))
        .collect::<Result<_, Error>>()?;
    let views = parameters.views();
    let (family, labels) = (Family::categorical(), Tensor::new(y.to_vec()));
    let eta = network.forward(&views, x);
    let upstream = family.residual(&eta, &labels) / y.len() as f64;
    let gradients = vjp(&[(&eta, &upstream)], &views)?;
    let gradients: Vec<Tensor> = gradients.iter().map(Gradient::or_error).collect::<Result<_, _>>()?;
    let updates = adam.updates(parameters.flat(), &parameters.flatten(&gradients), &state)?;
    let updates: Vec<(&Tensor, &Tensor)> = updates.iter().map(|(old, new)| (old, new)).collect();
    let step = Step::new(device, &[], &[&family.nll(&eta, &labels, Reduction::Mean)], &updates)?;
    Ok(Training { parameters, state, step })
}

fn run(training: &Training, what: &str) -> Result<(), Error> {
    println!(
        "{what}: {} dispatches, {} submission per step",
        training.step.dispatches(),
        training.step.submits()
    );
    for number in 0..STEPS {
        let outputs = training.step.run(&[])?;
        if number % 50 == 0 {
            println!("  step {number:3}: loss {:.4}", outputs.scalar(0)?);
        }
    }
    Ok(())
}

/// Saves parameters and optimizer state to one file and reads it back, checked against the expected shapes.
fn resume(
    device: &Device,
    path: &std::path::Path,
    training: &Training,
    weights: &Named,
    state: &Named,
) -> Result<(Named, Named), Error> {
    let tensors: Vec<Tensor> =
        training.parameters.views().into_iter().chain(training.state.iter().cloned()).collect();
    let values = device.read_all(&tensors.iter().collect::<Vec<_>>())?;
    let names: Vec<&str> = weights.iter().chain(state).map(|(name, _)| name.as_str()).collect();
    io::save(path, &names.iter().copied().zip(&values).collect::<Vec<_>>())?;
    let expected: Vec<(&str, &Shape, DType)> =
        names.iter().zip(&values).map(|(name, value)| (*name, value.shape(), value.dtype())).collect();
    let mut loaded: Named =
        names.iter().map(|n| n.to_string()).zip(io::load_into(path, &expected)?).collect();
    let state = loaded.split_off(weights.len());
    println!("checkpoint: {} tensors in {}", names.len(), path.display());
    Ok((loaded, state))
}
