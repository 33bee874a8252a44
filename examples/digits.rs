//! Handwritten digits: a network with a categorical end, trained headless from a table. Learning rate and number of steps are
//! chosen on a validation part; the test part is looked at once, at the end. Halfway, everything is saved and loaded into
//! fresh variables; the result has the same bits as that of a run without interruption.
//!
//! `cargo run --release --example digits -- cpu`

use cotangent::Initial;
use cotangent::io::Table;
use cotangent::prelude::*;

/// Every fifth row is for the test, every fifth for the choice of the candidates below, the others are for training. The
/// network of the choice is thrown away: the final one is trained on both parts that are not for the test.
const PARTS: [&[usize]; 4] = [&[2, 3, 4], &[1], &[1, 2, 3, 4], &[0]];
const RATES: [f64; 3] = [1e-3, 2e-3, 4e-3];
const STEPS: [usize; 4] = [150, 300, 450, 600];

/// Variables of the network and of the optimizer, and the step that trains them.
struct Training {
    parameters: Variables,
    state: Vec<Tensor>,
    step: Step,
}

type Named = Vec<(String, Array)>;
/// Pixels in `[0, 1]`, and labels.
type Rows = (Tensor, Vec<i32>);

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());
    let [training_rows, validation_rows, all_but_test, test_rows] = digits()?;
    let network = Mlp::new(&[64, 128, 10], Activation::Relu);
    let weights = network.parameters(Key::new(7))?;
    let (rate, steps) = choose(&device, &network, &weights, &training_rows, &validation_rows)?;
    println!("chosen on the validation part: learning rate {rate}, {steps} steps");

    let adam = Adam::new(rate);
    let state = adam.state(device.variables(&named(&weights))?.flat().shape())?;
    let first = training(&device, &network, &adam, &weights, &state, &all_but_test)?;
    run(&first, steps / 2, "first half")?;
    let path = std::path::Path::new("target/examples-out/digits.safetensors");
    std::fs::create_dir_all("target/examples-out").ok();
    let (saved_weights, saved_state) = resume(&device, path, &first, &weights, &state)?;
    let second = training(&device, &network, &adam, &saved_weights, &saved_state, &all_but_test)?;
    run(&second, steps - steps / 2, "second half, from the checkpoint")?;

    // The first run goes on as well: the same bits, in every parameter and in the state of the optimizer.
    run(&first, steps - steps / 2, "second half, without interruption")?;
    let [resumed, whole] = [&second, &first].map(|training| values(&device, training));
    let words = |values: Vec<Array>| values.iter().flat_map(Array::to_words).collect::<Vec<u32>>();
    let (resumed, whole) = (words(resumed?), words(whole?));
    assert!(resumed == whole, "training must go on as if nothing had happened");
    println!("both have the same {} words", whole.len());

    let right = correct(&device, &network, &second, &test_rows)?;
    let n = test_rows.1.len() as f64;
    let share = right as f64 / n;
    let error = 100.0 * (share * (1.0 - share) / n).sqrt();
    println!("{right} of {n} test digits are right: {:.1} % (standard error {error:.1} %)", 100.0 * share);
    assert!(share >= 0.97, "the classifier must reach 97 %");
    Ok(())
}

/// The learning rate and the number of steps with the smallest negative log-likelihood on rows that did not train.
fn choose(
    device: &Device,
    network: &Mlp,
    weights: &Named,
    rows: &Rows,
    validation: &Rows,
) -> Result<(f64, usize), Error> {
    let (mut best, mut chosen) = (f64::INFINITY, (RATES[0], STEPS[0]));
    for rate in RATES {
        let adam = Adam::new(rate);
        let state = adam.state(device.variables(&named(weights))?.flat().shape())?;
        let candidate = training(device, network, &adam, weights, &state, rows)?;
        let eta = network.forward(&candidate.parameters.views(), &validation.0);
        let labels = Tensor::new(validation.1.clone());
        let loss = Family::categorical().nll(&eta, &labels, Reduction::Mean);
        let mut done = 0;
        for steps in STEPS {
            for _ in done..steps {
                candidate.step.launch(&[])?;
            }
            done = steps;
            let (loss, right) =
                (device.read(&loss)?.scalar()?, correct(device, network, &candidate, validation)?);
            println!("  rate {rate}, {steps} steps: validation loss {loss:.4}, {right} right");
            if loss < best {
                (best, chosen) = (loss, (rate, steps));
            }
        }
    }
    Ok(chosen)
}

/// Rows whose most probable class is their label.
fn correct(device: &Device, network: &Mlp, training: &Training, (x, y): &Rows) -> Result<usize, Error> {
    let guesses = device.read(&network.forward(&training.parameters.views(), x).argmax(-1))?.to_f64();
    Ok(guesses.iter().zip(y).filter(|(guess, label)| **guess == f64::from(**label)).count())
}

/// The parts of the table.
fn digits() -> Result<[Rows; 4], Error> {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits.csv"))?;
    let columns: Vec<Vec<f64>> = (0..64).map(|p| table.column(&format!("p{p}"))).collect::<Result<_, _>>()?;
    let labels: Vec<i32> = table.column("digit")?.iter().map(|&digit| digit as i32).collect();
    Ok(PARTS.map(|part| {
        let chosen: Vec<usize> = (0..table.rows()).filter(|row| part.contains(&(row % 5))).collect();
        let x: Vec<f64> = chosen.iter().flat_map(|&row| columns.iter().map(move |c| c[row] / 16.0)).collect();
        let y: Vec<i32> = chosen.iter().map(|&row| labels[row]).collect();
        (Tensor::from_values(x, [chosen.len(), 64]), y)
    }))
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
    (x, y): &Rows,
) -> Result<Training, Error> {
    let parameters = device.variables(&named(weights))?;
    let state: Vec<Tensor> = state
        .iter()
        .map(|(name, value)| Ok(device.variable(name, value)?.tensor().clone()))
        .collect::<Result<_, Error>>()?;
    let views = parameters.views();
    let (family, labels) = (Family::categorical(), Tensor::new(y.clone()));
    let eta = network.forward(&views, x);
    let upstream = family.residual(&eta, &labels) / y.len() as f64;
    let gradients = vjp(&[(&eta, &upstream)], &views)?;
    let gradients: Vec<Tensor> = gradients.iter().map(Gradient::or_error).collect::<Result<_, _>>()?;
    let updates = adam.updates(parameters.flat(), &parameters.flatten(&gradients), &state)?;
    let updates: Vec<(&Tensor, &Tensor)> = updates.iter().map(|(old, new)| (old, new)).collect();
    let step = Step::new(device, &[], &[&family.nll(&eta, &labels, Reduction::Mean)], &updates)?;
    Ok(Training { parameters, state, step })
}

fn run(training: &Training, steps: usize, what: &str) -> Result<(), Error> {
    let Training { step, .. } = training;
    println!("{what}: {} dispatches, {} submission per step", step.dispatches(), step.submits());
    for number in 0..steps {
        let outputs = step.run(&[])?;
        if number % 50 == 0 {
            println!("  step {number:3}: loss {:.4}", outputs.scalar(0)?);
        }
    }
    Ok(())
}

/// Parameters, then the state of the optimizer.
fn values(device: &Device, training: &Training) -> Result<Vec<Array>, Error> {
    let tensors: Vec<Tensor> =
        training.parameters.views().into_iter().chain(training.state.iter().cloned()).collect();
    device.read_all(&tensors.iter().collect::<Vec<_>>())
}

/// Saves parameters and optimizer state to one file and reads it back, checked against the expected shapes.
fn resume(
    device: &Device,
    path: &std::path::Path,
    training: &Training,
    weights: &Named,
    state: &Named,
) -> Result<(Named, Named), Error> {
    let values = values(device, training)?;
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
