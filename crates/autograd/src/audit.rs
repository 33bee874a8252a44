//! What each parameter receives from a loss.

use std::fmt;
use std::panic::Location;

use cotangent_tensor::{Error, Shape, Tensor};

use crate::gradient::{Gradient, Wrt};
use crate::reverse::grad;

/// One line per parameter.
#[derive(Clone, Debug)]
pub struct Audit {
    /// In the order in which they were asked for.
    pub parameters: Vec<Audited>,
}

/// A parameter and its gradient.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Its name, or what made it.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Where it was made.
    pub location: &'static Location<'static>,
    /// What it receives.
    pub gradient: Gradient,
}

/// Lists what parameters receive from a scalar `loss`, without computing anything.
///
/// Errors: those of [`grad`].
///
/// ```
/// use cotangent_autograd::audit;
/// use cotangent_tensor::Tensor;
///
/// let w = Tensor::new([1.0, 2.0]).named("w");
/// let gate = Tensor::new([0.3, -0.3]).named("gate");
/// let loss = (&w * gate.sign()).sum(..);
/// let audit = audit(&loss, [&w, &gate])?;
/// let warning = audit.warning().unwrap();
/// assert!(warning.starts_with("1 of 2 parameters receive no gradient: `gate` (Zero)"));
/// println!("{audit}"); // a line for each of them, with the reason
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn audit<W: Wrt>(loss: &Tensor, parameters: W) -> Result<Audit, Error> {
    let tensors = parameters.tensors();
    let gradients = grad(loss, &tensors)?;
    let line = |(tensor, gradient): (&&Tensor, Gradient)| {
        let node = tensor.node()?;
        let name = node.called().to_owned();
        Ok(Audited { name, shape: node.shape, location: node.location, gradient })
    };
    Ok(Audit { parameters: tensors.iter().zip(gradients).map(line).collect::<Result<_, _>>()? })
}

impl Audit {
    /// The parameters that an optimizer would not move: no derivative, or none but a structural zero.
    pub fn dead(&self) -> impl Iterator<Item = &Audited> {
        self.parameters.iter().filter(|line| line.gradient.value().is_none())
    }
    /// One sentence that names every dead parameter; none if all of them receive a gradient.
    pub fn warning(&self) -> Option<String> {
        let names: Vec<String> =
            self.dead().map(|line| format!("`{}` ({})", line.name, line.gradient.state().name())).collect();
        let (dead, all) = (names.len(), self.parameters.len());
        (dead > 0).then(|| format!("{dead} of {all} parameters receive no gradient: {}", names.join(", ")))
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.parameters.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        for (position, Audited { name, shape, location, gradient }) in self.parameters.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            let state = gradient.state().name();
            write!(f, "{name:<width$}  {shape}  {state}")?;
            match gradient.value() {
                Some(_) => {}
                None => {
                    let (file, line) = (location.file(), location.line());
                    write!(f, ": {} (made at {file}:{line})", gradient.explain())?;
                }
            }
        }
        self.warning().map_or(Ok(()), |warning| write!(f, "\n{warning}"))
    }
}
