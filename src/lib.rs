//! Tensors and automatic differentiation on wgpu, for people who write their own losses and their own gradients.
//!
//! Cotangent mixes manual and automatic differentiation on any GPU, on a native CPU device, and on an f64 reference that
//! can check every kernel. One promise stands over everything: no silently wrong gradient, and no silently slow one.
//!
//! ```
//! use cotangent::prelude::*;
//!
//! // A loss is a plain expression. Value and gradient come out of one fused kernel.
//! let prediction = Tensor::new([1.0, 2.0, 3.0, 4.0, 5.0]);
//! let target = Tensor::new([1.5, 1.0, 3.0, 2.0, 6.0]);
//! let weight = Tensor::new([1.0, 2.0, 1.0, 1.0, 3.0]);
//! let loss = (&weight * (&prediction - &target).pow(2)).mean(..);
//! let gradient = grad(&loss, &prediction)?.or_error()?;
//!
//! let values = Reference::new().evaluate(&[&loss, &gradient])?;
//! assert_eq!(values[0].scalar()?, 1.85);
//! assert_eq!(values[1].to_f64()[..4], [-0.2, 0.8, 0.0, 0.8]);
//!
//! // A gradient of your own: `upstream` is what comes from the loss, the result is what goes on.
//! let square = |x: &Tensor| custom_gradient("square", [x], |[x]| {
//!     let y = &x * &x;
//!     (y, move |upstream: Tensor| upstream * x * 2.0)
//! });
//! let x = Tensor::new(2.0);
//! let y = square(&square(&square(&x)));
//! let dx = grad(&y, &x)?.or_error()?;
//! assert_eq!(Reference::new().evaluate(&[&dx])?[0].scalar()?, 1024.0);
//!
//! // No loss at all: backpropagation starts at the natural parameter with (mean − target) / n.
//! let family = Family::poisson();
//! let (w, x, y) = (Tensor::new(0.3), Tensor::new([0.0, 0.5, 1.0, 1.5]), Tensor::new([1.0, 0.0, 2.0, 3.0]));
//! let eta = &w * &x + 0.1;
//! let upstream = family.residual(&eta, &y) / 4.0;
//! let dw = vjp(&[(&eta, &upstream)], &w)?.or_error()?;
//! assert!(Reference::new().evaluate(&[&dw])?[0].scalar()? < 0.0);
//! # Ok::<(), cotangent::Error>(())
//! ```
//!
//! # What stands where
//!
//! - [`Tensor`]: a cheap handle to a node of a lazy graph. Building computes nothing; a mistake travels with the tensor
//!   and comes back as an [`Error`] when somebody asks for a number.
//! - [`grad`], [`vjp`], [`jvp`], [`hvp`] turn graphs into graphs, to any order; [`custom_gradient`] and
//!   [`surrogate_gradient`] let a function bring its own pullback.
//! - [`losses`], [`families`], [`layers`], [`optimizers`]: ordinary tensor expressions, nothing that a user could not
//!   have written. [`glm`] fits generalized linear models; [`io`] reads tables and keeps weights.
//! - [`Device`] is an adapter or the CPU, explicit and never global; [`Step`] is a whole iteration, planned once and run many
//!   times; [`cross_check`] compares every kernel with the reference.
//! - [`Reference`] evaluates a graph as it stands, in f64.
//! - [`wgsl`]: functions written in WGSL, called on tensors and differentiated.
//! - [`gradcheck`], [`audit()`], [`trace`] and [`Check::Anomaly`] look at derivatives; [`batch()`] applies a function of one
//!   example to many.
//!
//! `docs/guide.md` in the repository leads through all of it, `docs/migration.md` from other frameworks; `docs/losses.md` shows every
//! loss with its derivative.
//!
//! # What this crate is not
//!
//! It holds no kernels, no device code and no operation: those are the crates beneath. It is what a user depends on.
//!
//! # Invariants
//!
//! - A loss, a family, a layer or an optimizer is a function from tensors to tensors. None knows a device
//!   (attaching an optimizer makes variables of its state, no more); fusing them is the planner's work,
//!   checking them the reference's.
//! - Shapes that would broadcast against each other inside a loss are an error, never a silently larger loss.
//! - Hyper-parameters are checked before anything runs.
#![forbid(unsafe_code)]

pub mod families;
pub mod glm;
mod gradients;
pub mod io;
pub mod layers;
pub mod losses;
pub mod optimizers;

pub use cotangent_autograd::{
    Audit, Audited, Checkpoint, CustomGradient, Cut, Explanation, GradCheck, Gradient, Gradients,
    InputGradient, Inputs, Outputs, Reason, Row, Rule, State, Trace, Upstream, Wrt, audit, batch,
    batch_jacobian, check, checkpoint, clip_gradient, clip_gradient_norm, custom_function, custom_gradient,
    custom_jvp, explain, explain_values, gauss_newton_product, grad, gradcheck, hessian, hvp, jacobian, jvp,
    map_cotangent, observe, per_sample_gradients, replace_gradient, reverse_gradient, scale_gradient,
    straight_through, surrogate, surrogate_gradient, to_dot, trace, vjp,
};
pub use cotangent_device::{
    Check, Choice, Device, Fault, FaultPlan, Feed, Info, Initial, Kept, KernelTime, Kind, Memory,
    Options as DeviceOptions, Outputs as StepOutputs, Probe, Profile, Report, Roof, Step, StepMemory,
    StepOptions, Target, Variable, Variables, Watch, cross_check,
};
/// Losses and whole kernels written in WGSL.
pub use cotangent_wgsl as wgsl;

pub use cotangent_tensor::{
    Arithmetic, Array, Axes, Bounded, Chain, Code, DType, Detail, Dims, Elementwise, Error, Evaluate,
    Inspected, Integer, IntoShape, KernelBuffer, KernelMeaning, Key, MAX_RANK, Node, Op, Operand, Real,
    Reduce, Reference, Rounding, RuleKind, Scalar, Shape, Tensor, Token, TracedRule, UserKernel, Values,
    Violation, bounded, elementwise, index_error, random, topological, ulp, where_,
};
pub use families::{Family, Link, OwnLink};
pub use gradients::OrError;
pub use layers::{Activation, Initializer, Linear, Mlp};
pub use losses::Reduction;
pub use optimizers::{Adam, Attached, Lbfgs, Optimizer, Sgd, Updates};

/// What most programs need: `use cotangent::prelude::*`.
pub mod prelude {
    pub use crate::families::{Family, Link};
    pub use crate::io;
    pub use crate::layers::{self, Activation, Initializer, Linear, Mlp};
    pub use crate::losses::{self, Reduction};
    pub use crate::optimizers::{Adam, Attached, Lbfgs, Optimizer, Sgd};
    pub use crate::{
        Array, Audit, Check, Checkpoint, Code, CustomGradient, DType, Device, Error, Evaluate, GradCheck,
        Gradient, InputGradient, Key, OrError, Reference, Rule, Shape, State, Step, StepOptions, StepOutputs,
        Tensor, Upstream, Variable, Variables, Watch, audit, batch, batch_jacobian, checkpoint,
        clip_gradient, clip_gradient_norm, cross_check, custom_function, custom_gradient, custom_jvp,
        gauss_newton_product, grad, gradcheck, hessian, hvp, jacobian, jvp, map_cotangent, observe,
        per_sample_gradients, replace_gradient, reverse_gradient, scale_gradient, straight_through,
        surrogate, surrogate_gradient, trace, vjp, wgsl, where_,
    };
}

/// The blocks of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../docs/conventions.md")]
struct Conventions;

#[cfg(doctest)]
#[doc = include_str!("../docs/errors.md")]
struct Errors;

#[cfg(doctest)]
#[doc = include_str!("../docs/families.md")]
struct FamiliesAndLinks;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// The guide counts lines.
///
/// ```
/// let guide = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide.md"));
/// let lines = |name: &str| {
///     let from = guide.lines().skip_while(|line| !line.starts_with(&format!("fn {name}(")));
///     from.take_while(|line| *line != "}").count() + 1
/// };
/// assert_eq!((lines("square"), lines("linear_relu")), (6, 10));
/// ```
#[cfg(doctest)]
struct Lines;

#[cfg(doctest)]
#[doc = include_str!("../docs/wgsl.md")]
struct LossesInWgsl;

#[cfg(doctest)]
#[doc = include_str!("../docs/migration.md")]
struct Migration;

#[cfg(doctest)]
#[doc = include_str!("../docs/silent.md")]
struct Silent;

#[cfg(doctest)]
#[doc = include_str!("../docs/who-needs-a-loss.md")]
struct WhoNeedsALoss;
