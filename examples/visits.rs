//! Visits to the doctor: a negative binomial network against linear models, judged on rows that neither has seen.
//!
//! Counts of visits vary more than a Poisson law allows. Their negative binomial variance `μ + α·μ²` takes its α from the moments of
//! the linear Poisson fit. The network ends in `log μ` and is trained with an explicit upstream, without a loss; it keeps the
//! parameters that do best on a part of the training rows, and stops when they have not been beaten for a while.
//!
//! `cargo run --release --example visits -- cpu`

use cotangent::glm::{self, Options, Problem};
use cotangent::io::Table;
use cotangent::prelude::*;

/// What is held out: rows one by one, or blocks of rows. Years of one person follow each other and share their columns (three rows in
/// four have the columns of the row above them): single rows are years of people of whom other years are known, blocks are people of
/// whom nothing is, but for those at the edges.
const SPLITS: [(&str, usize); 2] = [("years of known people", 1), ("unknown people", 100)];
/// Every fifth row or block is for the judgement at the end, every fifth for the decision when to stop, the others train. Linear
/// models, which need no such decision, are fitted to both of these.
const PARTS: [&[usize]; 4] = [&[2, 3, 4], &[1], &[1, 2, 3, 4], &[0]];

const HIDDEN: [usize; 2] = [32, 16];
const RATE: f64 = 1e-2;
/// Training stops when the best epoch lies so far back.
const PATIENCE: usize = 40;
const EPOCHS: usize = 400;
/// Rows that stand for one when errors are estimated: those of one person are no independent witnesses.
const GROUP: usize = 100;

/// Columns that explain, by name, and counts.
struct Rows {
    columns: Vec<(String, Vec<f64>)>,
    visits: Vec<f64>,
}

/// What a model predicts for the rows that are held out, measured per row.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) model: &'static str,
    pub(crate) poisson_deviance: f64,
    pub(crate) deviance: f64,
    pub(crate) log_likelihood: f64,
    /// Negative binomial deviance of each row.
    each: Vec<f64>,
}

/// Judgements of the linear Poisson model, the linear negative binomial model and the network.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Held out.
    pub(crate) rows: usize,
    pub(crate) alpha: f64,
    /// Epochs until training stopped.
    pub(crate) epochs: usize,
    pub(crate) best_epoch: usize,
    pub(crate) judged: [Judged; 3],
}

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());
    let mut gains = Vec::new();
    for (people, block) in SPLITS {
        let Comparison { rows, alpha, epochs, best_epoch, judged } = compare(&device, block, EPOCHS)?;
        println!("\n{people}: {rows} rows are held out; alpha {alpha:.4}");
        println!("the network was best on validation rows after {best_epoch} of {epochs} epochs");
        println!("{:26} {:>12} {:>12} {:>16}", "per row", "nb deviance", "poisson dev.", "log-likelihood");
        for Judged { model, poisson_deviance, deviance, log_likelihood, .. } in &judged {
            println!("{model:26} {deviance:>12.4} {poisson_deviance:>12.4} {log_likelihood:>16.4}");
        }
        let (gain, error) = gain(&judged[1], &judged[2]);
        println!("the network gains {gain:.4} of deviance per row (standard error {error:.4})");
        gains.push(gain);
    }
    assert!(gains[0] > 0.0, "the network must know people better than a linear model does");
    Ok(())
}

/// Fits the three models and judges them.
pub(crate) fn compare(device: &Device, block: usize, epochs: usize) -> Result<Comparison, Error> {
    let [training, validation, both, held_out] = parts(block)?;
    let poisson = Family::poisson();
    let fitted = |family: &Family| linear(device, family, &both);
    let coefficients = fitted(&poisson)?;
    let alpha = overdispersion(&predict(&coefficients, &both), &both.visits);
    let family = Family::negative_binomial(alpha)?.with_link(Link::Log)?;
    let of_linear = fitted(&family)?;
    let (best_epoch, epochs, eta) = network(device, &family, [&training, &validation, &held_out], epochs)?;
    let judge = |model, eta: Vec<f64>| judge(model, &family, eta, &held_out.visits);
    let judged = [
        judge("linear, Poisson", predict(&coefficients, &held_out))?,
        judge("linear, negative binomial", predict(&of_linear, &held_out))?,
        judge("network, negative binomial", eta)?,
    ];
    Ok(Comparison { rows: held_out.visits.len(), alpha, epochs, best_epoch, judged })
}

/// The parts of the table.
fn parts(block: usize) -> Result<[Rows; 4], Error> {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/randhie.csv"))?;
    let names = table.names().iter().filter(|name| *name != "mdvis");
    let columns: Vec<(String, Vec<f64>)> =
        names.map(|name| Ok((name.clone(), table.column(name)?))).collect::<Result<_, Error>>()?;
    let visits = table.column("mdvis")?;
    Ok(PARTS.map(|part| {
        let chosen: Vec<usize> = (0..table.rows()).filter(|row| part.contains(&(row / block % 5))).collect();
        let of = |values: &[f64]| chosen.iter().map(|&row| values[row]).collect::<Vec<f64>>();
        Rows {
            columns: columns.iter().map(|(name, values)| (name.clone(), of(values))).collect(),
            visits: of(&visits),
        }
    }))
}

/// Intercept and coefficients of a linear model.
fn linear(device: &Device, family: &Family, rows: &Rows) -> Result<Vec<f64>, Error> {
    let problem =
        Problem { features: rows.columns.clone(), target: rows.visits.clone(), ..Problem::default() };
    let fit = glm::fit(device, family, &problem, &Options::default(), &mut |_, _| {})?;
    let predictor = &fit.predictors[0];
    Ok([&[predictor.intercept], &predictor.coefficients[..]].concat())
}

/// The predictor `log μ` of each row.
fn predict(coefficients: &[f64], rows: &Rows) -> Vec<f64> {
    let of = |row: usize| rows.columns.iter().zip(&coefficients[1..]).map(move |((_, x), c)| x[row] * c);
    (0..rows.visits.len()).map(|row| coefficients[0] + of(row).sum::<f64>()).collect()
}

/// The α for which `Σ (y − μ)²` is what `Σ (μ + α·μ²)` promises. Source: Cameron & Trivedi, Regression Analysis of Count Data
/// (1998), §3.3.
fn overdispersion(eta: &[f64], visits: &[f64]) -> f64 {
    let means = eta.iter().map(|eta| eta.exp());
    let excess: f64 = means.clone().zip(visits).map(|(mean, y)| (y - mean).powi(2) - mean).sum();
    excess / means.map(|mean| mean * mean).sum::<f64>()
}

/// Trains with early stopping: the epoch that was best on the validation rows, the last one, and the predictor of the held-out rows
/// by the parameters of the best.
fn network(
    device: &Device,
    family: &Family,
    [training, validation, held_out]: [&Rows; 3],
    epochs: usize,
) -> Result<(usize, usize, Vec<f64>), Error> {
    let network = Mlp::new(&[&[training.columns.len()], &HIDDEN[..], &[1]].concat(), Activation::Tanh);
    let parameters = device.variables(&layers::named(&network.parameters(Key::new(1))?))?;
    let views = parameters.views();
    let of = |rows: &Rows| network.forward(&views, &standardized(rows, training)).squeeze(-1);
    let (eta, y) = (of(training), Tensor::new(training.visits.clone()));
    let upstream = family.residual(&eta, &y) / training.visits.len() as f64;
    let gradients = vjp(&[(&eta, &upstream)], &views)?.or_error()?;
    let updates = Adam::new(RATE).attach(device, &parameters)?.updates(&gradients)?;
    // Of the parameters as they are before the update, which are an output too: the best ones are kept.
    let unseen = family.deviance_at(&Tensor::new(validation.visits.clone()), &of(validation)).mean(..);
    let flat = parameters.flat();
    let step = Step::new(device, &[], &[&unseen, flat.tensor()], &updates.pairs())?;

    let (mut best, mut best_epoch, mut last, mut kept) = (f64::INFINITY, 0, 0, None);
    for epoch in 0..=epochs {
        last = epoch;
        let outputs = step.run(&[])?;
        let deviance = outputs.scalar(0)?;
        if deviance < best {
            (best, best_epoch, kept) = (deviance, epoch, Some(outputs));
        } else if epoch - best_epoch >= PATIENCE {
            break;
        }
    }
    if let Some(outputs) = kept {
        device.write(flat.tensor(), &outputs.read(1)?.to_f64())?;
    }
    Ok((best_epoch, last, device.read(&of(held_out))?.to_f64()))
}

/// Columns with mean 0 and standard deviation 1 where the rows of `by` have them, `[rows, columns]`.
fn standardized(rows: &Rows, by: &Rows) -> Tensor {
    let n = by.visits.len() as f64;
    let columns: Vec<Tensor> = (rows.columns.iter().zip(&by.columns))
        .map(|((_, values), (_, by))| {
            let mean = by.iter().sum::<f64>() / n;
            let scale = (by.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            Tensor::new(values.iter().map(|x| (x - mean) / scale).collect::<Vec<f64>>())
        })
        .collect();
    Tensor::stack(&columns.iter().collect::<Vec<_>>(), -1)
}

/// In f64.
fn judge(model: &'static str, family: &Family, eta: Vec<f64>, visits: &[f64]) -> Result<Judged, Error> {
    let (eta, y) = (Tensor::new(eta), Tensor::new(visits));
    let deviance = family.deviance_at(&y, &eta);
    let poisson = Family::poisson().deviance_at(&y, &eta).mean(..);
    let likelihood = family.log_likelihood(&eta, &y).mean(..);
    let values = Reference::new().evaluate(&[&deviance.mean(..), &poisson, &likelihood, &deviance])?;
    Ok(Judged {
        model,
        deviance: values[0].scalar()?,
        poisson_deviance: values[1].scalar()?,
        log_likelihood: values[2].scalar()?,
        each: values[3].to_f64(),
    })
}

/// By how much the deviance per row is lower, with its standard error.
pub(crate) fn gain(of: &Judged, by: &Judged) -> (f64, f64) {
    let gains: Vec<f64> = of.each.iter().zip(&by.each).map(|(a, b)| a - b).collect();
    let groups: Vec<f64> =
        gains.chunks(GROUP).map(|group| group.iter().sum::<f64>() / group.len() as f64).collect();
    let n = groups.len() as f64;
    let mean = groups.iter().sum::<f64>() / n;
    let variance = groups.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}
