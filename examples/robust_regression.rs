//! Robust regression: what a few slips of the pen do to four losses, two of which are expressions of our own.
//!
//! The radius of the largest cell nuclei of a sample is explained by three averages. Then every fifth target loses its decimal point.
//!
//! `cargo run --release --example robust_regression -- cpu`

use cotangent::glm::{self, Options, Problem};
use cotangent::io::Table;
use cotangent::prelude::*;

const FEATURES: [&str; 3] = ["mean_radius", "mean_texture", "mean_concave_points"];
const TARGET: &str = "worst_radius";
/// One row of so many is spoiled.
const SPOILED: usize = 5;
/// Degrees of freedom of Student's t.
const FREEDOM: f64 = 3.0;

/// Barron's general robust loss with `α = −2` (Geman & McClure): `2·u²/(u² + 4)` with `u = (prediction − target)/scale`, bounded by
/// 2, so a row far away has no pull. Derivative: `16·u/(u² + 4)²/scale`. Source: Barron, A General and Adaptive Robust Loss
/// Function, CVPR (2019), eq. 1.
pub(crate) fn barron(prediction: &Tensor, target: &Tensor, scale: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    losses::custom("barron", &operands, reduction, || {
        let square = ((prediction - target) / scale).pow(2);
        // 1 less a quotient that vanishes: no ∞/∞ where the square overflows. Near 0 the value loses digits, the derivative none.
        2.0 * (1.0 - 4.0 / (square + 4.0))
    })
}

/// Negative log-likelihood of Student's t without constants: `(ν + 1)/2 · log(1 + u²/ν)` with `u = (prediction − target)/scale`.
/// Derivative: `(ν + 1)·u/(ν + u²)/scale`, which falls again beyond `u = √ν`.
pub(crate) fn student(prediction: &Tensor, target: &Tensor, scale: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    losses::custom("student", &operands, reduction, || {
        let square = ((prediction - target) / scale).pow(2);
        (0.5 * (FREEDOM + 1.0)) * (square / FREEDOM).log1p()
    })
}

type Loss = fn(&Tensor, &Tensor) -> Tensor;

/// An error of 1 is an ordinary one here. 1.345 of it is Huber's choice: 5 % of the precision is lost where the noise is normal.
const LOSSES: [(&str, Loss); 4] = [
    ("mse", |prediction, target| losses::mse(prediction, target, Reduction::Mean)),
    ("huber", |prediction, target| losses::huber(prediction, target, 1.345, Reduction::Mean)),
    ("student", |prediction, target| student(prediction, target, 1.0, Reduction::Mean)),
    ("barron", |prediction, target| barron(prediction, target, 2.0, Reduction::Mean)),
];

/// Coefficients by one loss; the intercept comes first.
#[derive(Debug)]
pub(crate) struct Robust {
    pub(crate) loss: &'static str,
    pub(crate) clean: Vec<f64>,
    pub(crate) spoiled: Vec<f64>,
    /// The largest move of a coefficient, in standard errors of least squares without the spoiled rows.
    pub(crate) moved: f64,
}

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());
    println!("derivatives compared by gradcheck: {}", check()?);
    let fits = compare(&device)?;
    println!(
        "\n{:10} {:9} {:>10} {:>12} {:>13} {:>21}",
        "loss", "outliers", "intercept", FEATURES[0], FEATURES[1], FEATURES[2]
    );
    for Robust { loss, clean, spoiled, moved } in &fits {
        for (rows, [a, b, c, d]) in [("without", numbers(clean)), ("with", numbers(spoiled))] {
            println!("{loss:10} {rows:9} {a:>10.4} {b:>12.4} {c:>13.4} {d:>21.4}");
        }
        println!("{loss:10} moved by {moved:.2} standard errors\n");
    }
    Ok(())
}

fn numbers(values: &[f64]) -> [f64; 4] {
    std::array::from_fn(|i| values[i])
}

/// Both losses against dual numbers and differences, at first and second order: how many numbers were compared.
pub(crate) fn check() -> Result<usize, Error> {
    let (prediction, target) = (Tensor::new([0.5, -3.0, 40.0, 2.0]), Tensor::new([0.2, 1.0, -9.0, 2.0]));
    let mut compared = 0;
    for loss in [barron, student] {
        let checked = |[p, t]: [Tensor; 2]| loss(&p, &t, 1.5, Reduction::None);
        let report = GradCheck::new().order(2).run(checked, [&prediction, &target], &Reference::new())?;
        compared += report.compared.total();
        let _ = report.into_result()?;
    }
    Ok(compared)
}

/// Fits by every loss without the spoiled rows and with them.
pub(crate) fn compare(device: &Device) -> Result<Vec<Robust>, Error> {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/breast_cancer.csv"))?;
    let of = |name: &str| table.column(name);
    let is_spoiled = |row: usize| row.is_multiple_of(SPOILED);
    let kept = |values: &[f64]| -> Vec<f64> {
        values.iter().enumerate().filter(|(row, _)| !is_spoiled(*row)).map(|(_, value)| *value).collect()
    };
    let features = FEATURES.map(of).into_iter().collect::<Result<Vec<_>, _>>()?;
    let target = of(TARGET)?;
    let slipped = target.iter().enumerate().map(|(row, y)| if is_spoiled(row) { 10.0 * y } else { *y });
    let spoiled = by_all(device, &features, slipped.collect())?;
    let (features, target): (Vec<_>, _) = (features.iter().map(|x| kept(x)).collect(), kept(&target));
    let clean = by_all(device, &features, target.clone())?;

    let named = FEATURES.iter().zip(features).map(|(name, values)| ((*name).to_string(), values));
    let problem = Problem { features: named.collect(), target, ..Problem::default() };
    let fit = glm::fit(device, &Family::gaussian(), &problem, &Options::default(), &mut |_, _| {})?;
    let predictor = &fit.predictors[0];
    let errors = [&[predictor.intercept_error], &predictor.standard_errors[..]].concat();
    let judged = LOSSES.iter().zip(clean.into_iter().zip(spoiled)).map(|((loss, _), (clean, spoiled))| {
        let moves = clean.iter().zip(&spoiled).zip(&errors).map(|((a, b), error)| (a - b).abs() / error);
        Robust { loss, moved: moves.fold(0.0, f64::max), clean, spoiled }
    });
    Ok(judged.collect())
}

/// Coefficients by every loss, on the scale of the data. What is not convex starts where Huber's loss has ended.
fn by_all(device: &Device, features: &[Vec<f64>], target: Vec<f64>) -> Result<Vec<Vec<f64>>, Error> {
    let n = target.len() as f64;
    // Columns with mean 0 and size 1 make all directions alike.
    let scales: Vec<(f64, f64)> = (features.iter())
        .map(|x| {
            let mean = x.iter().sum::<f64>() / n;
            (mean, (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
        })
        .collect();
    let mut columns = vec![Tensor::ones([target.len()])];
    for (x, (mean, scale)) in features.iter().zip(&scales) {
        columns.push(Tensor::new(x.iter().map(|x| (x - mean) / scale).collect::<Vec<f64>>()));
    }
    let matrix = Tensor::stack(&columns.iter().collect::<Vec<_>>(), -1);
    let y = Tensor::new(target);

    let zero = vec![0.0; columns.len()];
    let start = minimize(device, LOSSES[1].1, &matrix, &y, &zero)?;
    let fits = LOSSES.iter().map(|(_, loss)| minimize(device, *loss, &matrix, &y, &start));
    fits.map(|fit| {
        let mut coefficients = fit?;
        for (position, (mean, scale)) in scales.iter().enumerate() {
            coefficients[position + 1] /= scale;
            coefficients[0] -= coefficients[position + 1] * mean;
        }
        Ok(coefficients)
    })
    .collect()
}

/// Loss and gradient come from one step on the device, the search is L-BFGS on the host.
fn minimize(
    device: &Device,
    loss: Loss,
    matrix: &Tensor,
    target: &Tensor,
    start: &[f64],
) -> Result<Vec<f64>, Error> {
    let w = Tensor::input("w", [start.len()], DType::F32);
    let value = loss(&matrix.matmul(&w), target);
    let step = Step::new(device, &[&w], &[&value, &grad(&value, &w)?.or_error()?], &[])?;
    let found = Lbfgs::default().minimize(start, |parameters| {
        let outputs = step.run(&[(&w, &parameters)])?;
        Ok((outputs.scalar(0)?, outputs.read(1)?.to_f64()))
    })?;
    Ok(found.parameters)
}
