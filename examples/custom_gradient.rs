//! A gradient of one's own, its trace, and training through `sign` with a surrogate.
//!
//! `cargo run --release --example custom_gradient -- cpu`

use cotangent::prelude::*;
use cotangent::{explain, to_dot};

/// `x²` with a hand-written rule that sees `upstream`.
fn square(x: &Tensor) -> Tensor {
    custom_gradient("square", [x], |[x]| {
        let y = &x * &x;
        (y, move |upstream: Tensor| upstream * x * 2.0)
    })
}

/// 1 above zero, −1 elsewhere; backward it pretends to be a sigmoid.
fn soft_sign(x: &Tensor) -> Tensor {
    surrogate_gradient("soft_sign", "the derivative of sign is zero", [x], |[x]| {
        let y = x.gt(0.0).select(Tensor::ones(x.shape()), -1.0);
        (y, move |upstream: Tensor| upstream * x.sigmoid() * (-&x).sigmoid())
    })
}

fn main() -> Result<(), Error> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "best".to_string()))?;
    println!("device: {} ({})\n", device.name(), device.why());

    let x = Tensor::new(2.0);
    let inner = square(&x);
    let middle = square(&inner);
    let y = square(&middle);
    // The chain rule as a table: what each application got, received, has as its own derivative, and passed on.
    println!("{}\n", trace(&y, &[&y, &middle, &inner], &device)?);
    let first = grad(&y, &x)?.or_error()?;
    let second = grad(&first, &x)?.or_error()?;
    for (name, tensor) in [("f(f(f(x)))", &y), ("first derivative", &first), ("second", &second)] {
        println!("{name}: {}", device.read(tensor)?.scalar()?);
    }

    picture(&to_dot(&y, &device)?);

    // What does not depend on a tensor says so, instead of a wrong zero.
    let unrelated = Tensor::new(3.0);
    println!("by an unrelated tensor: {}", grad(&y, &unrelated)?.explain());
    println!("{}\n", explain(&y, &unrelated)?);

    // The whole iteration — forward, backward, Adam — is one step.
    let parameters = device.variables(&[("x", &-1.0)])?;
    let x = &parameters[0];
    let loss = 0.5 * (soft_sign(x) - 1.0).pow(2);
    let gradient = grad(&loss, [x])?.or_error()?;
    let updates = Adam::new(0.1).epsilon(1e-7).attach(&device, &parameters)?.updates(&gradient)?;
    let step = Step::new(&device, &[], &[&loss, &gradient[0]], &updates.pairs())?;
    for iteration in 0..100 {
        let outputs = step.run(&[])?;
        if iteration % 10 == 0 {
            let (loss, gradient) = (outputs.scalar(0)?, outputs.scalar(1)?);
            println!(
                "step {iteration:2}: loss {loss:.4}, gradient {gradient:.7}, x {:.5}",
                device.read(x)?.scalar()?
            );
        }
    }
    Ok(())
}

/// Draws a graph with Graphviz where that is installed; where it is not, keeps the text for it.
fn picture(graph: &str) {
    let folder = std::path::Path::new("target/examples-out");
    let (text, drawing) = (folder.join("custom_gradient.dot"), folder.join("custom_gradient.svg"));
    if let Err(cause) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&text, graph)) {
        return println!("no picture: {}: {cause}\n", text.display());
    }
    let drawn = std::process::Command::new("dot").arg("-Tsvg").arg("-o").arg(&drawing).arg(&text).status();
    match drawn {
        Ok(status) if status.success() => {
            println!("the graph, with values and gradients: {}\n", drawing.display())
        }
        _ => println!(
            "the graph, with values and gradients: {} (`dot` of Graphviz draws it)\n",
            text.display()
        ),
    }
}
