//! Optimizers with variables for their state.

use std::panic::Location;

use cotangent_device::{Variable, Variables};
use cotangent_tensor::{Error, Tensor};

use super::Optimizer;

/// An optimizer at work on a group of variables, with its state in variables beside them: see
/// [`Optimizer::attach`].
#[derive(Clone, Debug)]
pub struct Attached<O> {
    pub(super) optimizer: O,
    pub(super) parameters: Variables,
    pub(super) state: Vec<Variable>,
}

impl<O: Optimizer> Attached<O> {
    /// New values of the parameters and of the state. `gradients` are one tensor per parameter, in order and of
    /// its shape: from [`grad`](crate::grad()) or [`vjp`](crate::vjp()) with [`OrError`](crate::OrError), or
    /// from a formula.
    ///
    /// Several steps (for batches of two sizes, say) may be built from one attached optimizer; they share its
    /// state.
    ///
    /// Errors: those of invalid gradients; `E_UPDATE` for another number or other shapes; `E_HYPERPARAMETER`.
    #[track_caller]
    pub fn updates(&self, gradients: &[Tensor]) -> Result<Updates, Error> {
        let at = Location::caller();
        let gradient = self.parameters.flatten(gradients);
        gradient.node()?;
        let state: Vec<Tensor> = self.state.iter().map(|slot| slot.tensor().clone()).collect();
        let updates = self.optimizer.updates(self.parameters.flat(), &gradient, &state);
        updates.map(Updates).map_err(|error| if error.location().is_some() { error } else { error.at(at) })
    }
    /// What the optimizer remembers, by name: to be saved beside the parameters. Two optimizers of one kind have the
    /// same names, so each needs a file of its own.
    pub fn state(&self) -> &[Variable] {
        &self.state
    }
}

/// New values of variables.
#[derive(Clone, Debug)]
pub struct Updates(Vec<(Tensor, Tensor)>);

impl Updates {
    /// Each variable with its new value: what [`Step::new`](crate::Step::new) takes. Updates of other variables
    /// may be added.
    pub fn pairs(&self) -> Vec<(&Tensor, &Tensor)> {
        self.0.iter().map(|(variable, new)| (variable, new)).collect()
    }
}
