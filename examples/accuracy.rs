//! Losses and special functions in f32 where textbook formulas lose their digits: relative errors, as rows of a table.
//!
//! `cargo run --release --example accuracy -- cpu`
//!
//! The cases and their exact values stand in `benches/peers/accuracy.csv`; `benches/peers/accuracy.py` prints the same of
//! other libraries.

use cotangent::prelude::*;

const CASES: &str = include_str!("../benches/peers/accuracy.csv");

/// Every case, in the order of the file.
fn values() -> Result<Vec<Tensor>, Error> {
    let slope = |y: &Tensor, x: &Tensor| grad(y, x)?.or_error();
    let logits = Tensor::new([[20.0, 0.0, 0.0]]);
    let entropy = losses::cross_entropy(&logits, &Tensor::new([0]), Reduction::Sum);
    let first = slope(&entropy, &logits)?.slice(1, 0, 1, 1).sum(..);
    let one = Tensor::new(1.0);
    let (eta, minus) = (Tensor::new(17.0), Tensor::new(-17.0));
    let [bce, wrong] = [&eta, &minus].map(|eta| losses::bce_with_logits(eta, &one, Reduction::Sum));
    let mut all = vec![entropy, first, bce.clone(), slope(&bce, &eta)?, wrong];
    let tail = Tensor::new(-40.0);
    all.extend([-(-tail.exp()).expm1(), Tensor::new(-10.0).log_ndtr(), tail.log_ndtr()]);
    for x in [tail, Tensor::new(-1e4)] {
        let first = slope(&x.log_ndtr(), &x)?;
        all.extend([first.clone(), slope(&first, &x)?]);
    }
    let small = Tensor::new(-65.0 * 2f64.powi(-26));
    all.push(-2.0 * (-small).log1mexp());
    let x = Tensor::new(1000.0);
    all.push(slope(&x.i0e(), &x)?);
    Ok(all)
}

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    let values = values()?;
    let computed = device.read_all(&values.iter().collect::<Vec<_>>())?;
    println!("| case | {} |\n|---|---|", device.name());
    for (line, computed) in CASES.lines().skip(1).zip(&computed) {
        // Names are quoted, because commas stand in them.
        let (name, exact) = line.trim_start_matches('"').rsplit_once("\",").unwrap_or(("", line));
        let error =
            exact.parse().map(|exact: f64| computed.scalar().map(|value| (value / exact - 1.0).abs()));
        match error {
            Ok(error) => println!("| {name} | {:.1e} |", error?),
            Err(_) => println!("| {name} | no exact value |"),
        }
    }
    Ok(())
}
