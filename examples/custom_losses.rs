//! Custom losses as plain tensor expressions: value and gradient come out of one fused kernel.
//!
//! `cargo run --release --example custom_losses -- cpu`

use cotangent::prelude::*;

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})", device.name(), device.why());

    let prediction = device.variable("prediction", &[1.0, 2.0, 3.0, 4.0, 5.0])?;
    let target = Tensor::new([1.5, 1.0, 3.0, 2.0, 6.0]);
    let weight = Tensor::new([1.0, 2.0, 1.0, 1.0, 3.0]);
    let sign = Tensor::new([1.0, 1.0, -1.0, -1.0, 1.0]);
    let difference = prediction.tensor() - &target;

    // With what the chain rule gives by hand, on paper.
    let losses = [
        ("weighted MSE", (&weight * difference.pow(2)).mean(..), 1.85, [-0.2, 0.8, 0.0, 0.8, -1.2]),
        (
            "hinge with margin 1/2",
            (1.0 - &sign * prediction.tensor() + 0.5).max(0.0).mean(..),
            2.1,
            [-0.2, 0.0, 0.2, 0.2, 0.0],
        ),
        (
            "sigmoid-weighted L1",
            (difference.abs() * difference.abs().sigmoid()).mean(..),
            0.706988195763,
            [-0.147992237461, 0.185534102374, 0.0, 0.218156849757, -0.185534102374],
        ),
    ];
    for (name, loss, value, slopes) in &losses {
        let gradient = grad(loss, prediction.tensor())?.or_error()?;
        let step = Step::new(&device, &[], &[loss, &gradient], &[])?;
        let outputs = step.run(&[])?;
        println!("\n{name}: {:.6} in {} kernel(s)", outputs.scalar(0)?, step.kernels());
        let found = outputs.read(1)?.to_f64();
        println!("gradient: {found:?}");
        assert_eq!(step.kernels(), 1, "value and gradient are one kernel");
        let near = |found: f64, exact: f64| (found - exact).abs() <= 8.0 * f64::from(f32::EPSILON);
        assert!(near(outputs.scalar(0)?, *value), "{name}: the value is {value}");
        assert!(found.iter().zip(slopes).all(|(a, b)| near(*a, *b)), "{name}: the gradient is {slopes:?}");
        // Every kernel against the f64 reference, with a derived bound.
        let report = step.cross_check(&[])?;
        println!("largest error over its bound: {:.3}", report.worst_ratio);
        assert!(report.cases >= 6 && report.worst_ratio <= 1.0, "every element is compared");
    }
    Ok(())
}
