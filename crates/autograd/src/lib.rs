//! Derivatives of tensor graphs: vjp, jvp, custom gradients, checks and traces.
pub mod check;
mod forms;
mod forward;
mod gradient;
mod guard;
mod pullback;
mod pushforward;
mod reverse;
mod rule;
mod stamp;
mod structure;
mod trace;

pub use forms::{Gradients, Inputs, Outputs};
pub use forward::{hvp, jvp};
pub use gradient::{Gradient, State, Wrt};
pub use reverse::{grad, vjp};
pub use rule::{
    CustomGradient, custom_function, custom_gradient, map_cotangent, straight_through, surrogate_gradient,
};
pub use trace::{Row, Trace, trace};
