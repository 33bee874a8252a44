//! Training without a loss: backpropagation starts at the natural parameter, with `(mean − target)/n`.
//!
//! `cargo run --release --example loss_free -- cpu poisson`

use cotangent::prelude::*;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let device = Device::parse(&arguments.next().unwrap_or_else(|| "best".to_string()))?;
    // One word decides what is trained.
    let family = Family::named(&arguments.next().unwrap_or_else(|| "gaussian".to_string()))?;
    println!("device: {} ({}); family: {}", device.name(), device.why(), family.name());

    let x = Tensor::new([0.0, 0.5, 1.0, 1.5]);
    let y = match family.name() {
        "bernoulli" => Tensor::new([1.0, 0.0, 0.0, 1.0]),
        _ => Tensor::new([1.0, 0.0, 2.0, 3.0]),
    };
    if family.is_categorical() {
        // Three classes: a row of natural parameters per observation, labels as targets.
        let eta = device.variable("eta", &[[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])?;
        let upstream = family.residual(&eta, &Tensor::new([2, 0])) / 2.0;
        println!("cotangent of η: {:?}", device.read(&upstream)?.to_f64());
        return Ok(());
    }
    let (w, b) = (device.variable("w", &0.3)?, device.variable("b", &0.1)?);
    let eta = w.tensor() * &x + b.tensor();
    let upstream = family.residual(&eta, &y) / 4.0;
    let [dw, db] = vjp(&[(&eta, &upstream)], [w.tensor(), b.tensor()])?;
    let (dw, db) = (dw.or_error()?, db.or_error()?);
    let (new_w, new_b) = (w.tensor() - 0.1 * &dw, b.tensor() - 0.1 * &db);
    let step = Step::new(&device, &[], &[&dw, &db], &[(&w, &new_w), (&b, &new_b)])?;
    for iteration in 0..500 {
        let outputs = step.run(&[])?;
        if iteration % 100 == 0 {
            println!("step {iteration:3}: gradient ({:.9}, {:.9})", outputs.scalar(0)?, outputs.scalar(1)?);
        }
    }
    println!("w = {:.6}, b = {:.6}", device.read(&w)?.scalar()?, device.read(&b)?.scalar()?);
    Ok(())
}
