//! Handwritten digits: a network with a categorical end, trained headless from a table. Learning rate and number of steps are
//! chosen on a validation part; the test part is looked at once, at the end. Halfway, everything is saved and loaded into
//! fresh variables; the result has the same bits as that of a run without interruption.
//!
//! `cargo run --release --example digits -- cpu`

use cotangent::Attached;
use cotangent::io::Table;
use cotangent::layers::Parameter;
use cotangent::prelude::*;

/// Every fifth row is for the test, every fifth for the choice of the candidates below, the others are for training. The
/// network of the choice is thrown away: the final one is trained on both parts that are not for the test.
const PARTS: [&[usize]; 4] = [&[2, 3, 4], &[1], &[1, 2, 3, 4], &[0]];
const RATES: [f64; 3] = [1e-3, 2e-3, 4e-3];
const STEPS: [usize; 4] = [150, 300, 450, 600];

/// Variables of the network and of the optimizer, and the step that trains them.
struct Training {
    parameters: Variables,
    adam: Attached<Adam>,
    step: Step,
}

impl Training {
    /// Parameters, then the state of the optimizer.
    fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parameters.iter().chain(self.adam.state())
    }
}

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

    let first = training(&device, &network, rate, &weights, &all_but_test)?;
    run(&first, steps / 2, "first half")?;
    let path = std::path::Path::new("target/examples-out/digits.safetensors");
    std::fs::create_dir_all("target/examples-out").ok();
    io::save_variables(path, &device, first.variables())?;
    let second = training(&device, &network, rate, &weights, &all_but_test)?;
    io::load_variables(path, &device, second.variables())?;
    println!("checkpoint: {} tensors in {}", second.variables().count(), path.display());
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
    weights: &[Parameter],
    rows: &Rows,
    validation: &Rows,
) -> Result<(f64, usize), Error> {
    let (mut best, mut chosen) = (f64::INFINITY, (RATES[0], STEPS[0]));
    for rate in RATES {
        let candidate = training(device, network, rate, weights, rows)?;
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

/// One step: forward, backward from η with the explicit upstream `(ŷ − y)/n`, Adam on the flat parameters.
fn training(
    device: &Device,
    network: &Mlp,
    rate: f64,
    weights: &[Parameter],
    (x, y): &Rows,
) -> Result<Training, Error> {
    let parameters = device.variables(&layers::named(weights))?;
    let adam = Adam::new(rate).attach(device, &parameters)?;
    let views = parameters.views();
    let (family, labels) = (Family::categorical(), Tensor::new(y.clone()));
    let eta = network.forward(&views, x);
    let upstream = family.residual(&eta, &labels) / y.len() as f64;
    let updates = adam.updates(&vjp(&[(&eta, &upstream)], &views)?.or_error()?)?;
    let step = Step::new(device, &[], &[&family.nll(&eta, &labels, Reduction::Mean)], &updates.pairs())?;
    Ok(Training { parameters, adam, step })
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

fn values(device: &Device, training: &Training) -> Result<Vec<Array>, Error> {
    device.read_all(&training.variables().map(|variable| variable.tensor()).collect::<Vec<_>>())
}
