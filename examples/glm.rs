//! Who needs a loss function? Three regressions, one training loop, one word changed.
//!
//! A network ends in the natural parameter η of an exponential family. Backpropagation starts there with the explicit
//! upstream `(ŷ − y)/n`; no loss is ever written down. Each fit is drawn as points and prediction.
//!
//! `cargo run --release --example glm -- cpu` writes target/examples-out/{gaussian,poisson,categorical}.svg.

use cotangent::prelude::*;
use plotters::prelude::*;

const ROWS: usize = 400;
const STEPS: usize = 1500;

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());
    for family in [Family::gaussian(), Family::poisson(), Family::categorical()] {
        fit(&device, &family)?;
    }
    Ok(())
}

/// Points whose distribution follows the family: noise around a sine, counts, and three classes; and the natural parameter
/// that they were drawn from.
fn data(device: &Device, family: &Family) -> Result<(Vec<f64>, Vec<f64>, Tensor), Error> {
    let key = Key::new(3).stream(family.name());
    let x = Tensor::uniform(key.stream("x"), 0u32, [ROWS]);
    let wave = (&x * 10.0).sin();
    let (y, truth) = match family.name() {
        "gaussian" => (&wave + Tensor::normal(key.stream("noise"), 0u32, [ROWS]) * 0.2, wave.clone()),
        // The number of arrivals of a Poisson process within one unit, out of at most 20.
        "poisson" => {
            let eta = &wave + 0.5;
            let gaps = -Tensor::uniform(key.stream("gaps"), 0u32, [ROWS, 20]).log() / eta.exp().unsqueeze(-1);
            (gaps.cumulative_sum(-1, false).lt(1.0).cast(DType::F32).sum(-1), eta)
        }
        _ => {
            let noisy = &wave + Tensor::normal(key.stream("noise"), 0u32, [ROWS]) * 0.3;
            // Φ((−½ − wave)/0.3) and Φ((wave − ½)/0.3): the shares of the noise below and above.
            let outer = |z: Tensor| 0.5 * (-z / (0.3 * std::f64::consts::SQRT_2)).erfc();
            let (low, high) = (outer(-0.5 - &wave), outer(&wave - 0.5));
            let middle = 1.0 - &low - &high;
            let truth = Tensor::stack(&[&low, &middle, &high], -1).max(1e-30).log();
            (noisy.gt(-0.5).cast(DType::F32) + noisy.gt(0.5).cast(DType::F32), truth)
        }
    };
    let values = device.read_all(&[&x, &y])?;
    Ok((values[0].to_f64(), values[1].to_f64(), truth))
}

fn fit(device: &Device, family: &Family) -> Result<(), Error> {
    let (x, y, truth) = data(device, family)?;
    let classes = if family.is_categorical() { 3 } else { 1 };
    let network = Mlp::new(&[1, 30, 20, classes], Activation::Tanh);
    let parameters = device.variables(&layers::named(&network.parameters(Key::new(5))?))?;
    let input = Tensor::from_values(x.clone(), [ROWS, 1]);
    let output = network.forward(&parameters.views(), &input);
    let (eta, target) = if family.is_categorical() {
        (output, Tensor::new(y.iter().map(|&class| class as i32).collect::<Vec<_>>()))
    } else {
        (output.squeeze(-1), Tensor::new(y.clone()))
    };

    // Backpropagation starts at η. This is the whole use of the family.
    let upstream = family.residual(&eta, &target) / ROWS as f64;
    let gradients = vjp(&[(&eta, &upstream)], &parameters.views())?.or_error()?;
    let updates = Adam::new(1e-2).attach(device, &parameters)?.updates(&gradients)?;

    let nll = family.nll(&eta, &target, Reduction::Mean);
    let mean = family.mean(&eta);
    let step = Step::new(device, &[], &[&nll, &mean], &updates.pairs())?;
    let before = step.run(&[])?.scalar(0)?;
    for _ in 1..STEPS {
        step.launch(&[])?;
    }
    let after = step.run(&[])?;
    let loss = after.scalar(0)?;
    let of_truth = device.read(&family.nll(&truth, &target, Reduction::Mean))?.scalar()?;
    println!(
        "{:12} negative log-likelihood {before:.4} -> {loss:.4}, of the truth {of_truth:.4}",
        family.name()
    );
    // A maximum over curves that contain the truth, nearly, explains these rows better than the truth does.
    assert!(loss < before && loss < of_truth, "training must reach the truth");

    let prediction = after.read(1)?.to_f64();
    let drawn = draw(family.name(), &x, &y, &prediction, classes);
    drawn.map_err(|cause| Error::new(Code::File, "glm", cause.to_string()))
}

/// Points, and for each class (or the mean) the predicted curve.
fn draw(
    name: &str,
    x: &[f64],
    y: &[f64],
    prediction: &[f64],
    classes: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all("target/examples-out")?;
    let path = format!("target/examples-out/{name}.svg");
    let area = SVGBackend::new(&path, (800, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let bounds =
        |values: &[f64]| values.iter().fold((0.0, 1.0), |(l, h): (f64, f64), &v| (l.min(v), h.max(v)));
    let (low, high) = bounds(y);
    let mut chart = ChartBuilder::on(&area)
        .caption(name, ("sans-serif", 24))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..1.0, low - 0.2..high + 0.2)?;
    chart.configure_mesh().draw()?;
    chart.draw_series(x.iter().zip(y).map(|(&x, &y)| Circle::new((x, y), 2, BLUE.mix(0.4).filled())))?;
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    for class in 0..classes {
        // Probabilities are drawn on the scale of the classes, so that one axis serves.
        let scale = if classes > 1 { (classes - 1) as f64 } else { 1.0 };
        let curve = order.iter().map(|&row| (x[row], scale * prediction[row * classes + class]));
        chart.draw_series(LineSeries::new(curve, Palette99::pick(class).stroke_width(2)))?;
    }
    area.present()?;
    println!("{:12} drawn to {path}", "");
    Ok(())
}
