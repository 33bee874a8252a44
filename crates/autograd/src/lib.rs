//! Derivatives of tensor graphs: reverse and forward mode of any order, custom gradients, batches, traces and checks.
//!
//! Differentiation is a transformation from graph to graph. [`vjp`] walks from outputs to the tensors asked for and
//! gives every cotangent as an ordinary tensor; [`jvp`] walks the other way with tangents. Nothing is computed, no
//! device is touched, nothing is recorded beforehand, and no state is kept: a gradient can be taken twice, with
//! respect to any float tensor of the graph, and differentiated again.
//!
//! ```
//! use cotangent_autograd::{State, custom_gradient, grad};
//! use cotangent_tensor::{Evaluate, Reference, Tensor};
//!
//! // A function with a gradient of its own, which sees `upstream`.
//! let square = |x: &Tensor| custom_gradient("square", [x], |[x]| {
//!     let y = &x * &x;
//!     (y, move |upstream: Tensor| [&upstream * &x * 2.0])
//! });
//! let (x, unused) = (Tensor::new(2.0), Tensor::new(1.0));
//! let y = square(&square(&square(&x)));
//!
//! let [dx, du] = grad(&y, [&x, &unused])?;
//! assert!(matches!(du.state(), State::Unconnected));
//! let dx = dx.or_error()?;
//! let second = grad(&dx, &x)?.or_error()?;
//! let values = Reference::new().evaluate(&[&y, &dx, &second])?;
//! assert_eq!(values[0].scalar()?, 256.0);
//! assert_eq!(values[1].scalar()?, 1024.0);
//! assert_eq!(values[2].scalar()?, 3584.0);
//! # Ok::<(), cotangent_tensor::Error>(())
//! ```
//!
//! # What a gradient may be
//!
//! A [`Gradient`] is a value or the reason why there is none: structurally zero, unconnected, stopped on purpose, or
//! not differentiable. [`Gradient::or_zero`] and [`Gradient::or_error`] turn it into a tensor; neither makes zeros out
//! of a derivative that is merely missing. Paths through integers are not differentiable; comparisons, signs and
//! rounding are piecewise constant, hence zero.
//!
//! # Branches
//!
//! The branch that is not taken never reaches a derivative, at any order and in both modes: contributions carry the
//! conditions under which they count, and a mask is applied where contributions meet or elements mix, never by
//! multiplying with zero. So `where(x > 0, √x, 0)` has derivative 0 at 0. The same holds for what a slice or a gather
//! leaves out, for elements that are not the largest, and for sums, rows and products of matrices of which nothing
//! counts: a NaN in a masked row of logits or of a design matrix stays there. What is an ordinary zero, as in `√(0·x)`,
//! gives NaN where the slope behind it is infinite. A custom rule sees masked numbers, and what it returns is unmasked.
//!
//! # Custom gradients
//!
//! [`custom_gradient`] calls its closure once, with placeholders, and stores what it builds as a graph: no closure
//! lives in a tensor. The rule is used at first order and differentiated for higher orders; forward mode transposes
//! it. What the closure returns is checked when the rule is applied, and a mistake makes the output invalid, naming
//! rule, input, what was expected and what came. [`CustomGradient`] declares surrogates and cuts; [`custom_function`]
//! has no gradient at all; [`custom_jvp`] takes forward mode instead; a [`Rule`] is an object with options and saved values.
//! [`straight_through`], [`surrogate`], [`map_cotangent`], [`observe`], [`clip_gradient`] and their like are common rules.
//!
//! # Batches
//!
//! [`batch()`] takes a function of one example to a function of many: another transformation from graph to
//! graph, which gives what depends on an example one more axis and leaves the rest as it is. Rules stay rules.
//! It nests, its results are differentiated like any others, and derivatives may be taken inside; so
//! [`per_sample_gradients`], [`jacobian`], [`batch_jacobian`] and [`hessian`] are a few lines each.
//! [`gauss_newton_product`] needs no batches.
//!
//! # Memory
//!
//! A [`checkpoint()`] is a function of which nothing is kept for the backward pass but its inputs: derivatives compute again
//! what they need of it, at every order and in both modes. [`Checkpoint`] keeps some values.
//!
//! # Checking
//!
//! [`gradcheck`] compares the derivatives of a function with witnesses that know nothing of its rules: dual numbers of
//! the forward graphs, and differences of values. Custom rules are checked one by one, at the operands that they have in
//! the function: for linearity in their cotangent, for their gradient, for forward mode against reverse mode, and with
//! [`GradCheck`] for higher orders. What is wrong has a code and names output, input, element and both numbers; kinks
//! are listed with their slopes, declared surrogates with their distance from the truth.
//!
//! In builds with debug assertions a small rule that claims to be exact is tried where its derivative is first used, and a wrong
//! one is `E_RULE_WRONG` there; [`check::unchecked`] does without.
//!
//! # Invariants
//!
//! - Every operation has one arm in reverse mode, one of its own in forward mode and one for batches, by
//!   exhaustive `match`; the derivative of an elementwise operation stands in its row and nowhere else.
//! - No pass recurses over the graph, and every pass is linear in it; derivatives of checkpoints inside of checkpoints recurse as
//!   deep as these lie in one another.
//! - Derivative nodes carry the source line of the node they differentiate, and `d_eta` for a node named `eta`.
//! - A constant that the user made is never folded away, since it may be differentiated with respect to.
//! - No device, no interior mutability, no `unsafe`; no global state but, with debug assertions, which rules were tried.
#![forbid(unsafe_code)]

mod audit;
mod batch;
pub mod check;
mod checkpoint;
mod enclosure;
mod explain;
mod forms;
mod forward;
mod gradient;
mod guard;
mod jacobian;
mod join;
mod looped;
mod object;
mod picture;
mod pullback;
mod pushforward;
mod reverse;
mod rewrites;
mod rule;
mod stamp;
mod structure;
mod trace;
mod tracer;
mod transpose;

pub use audit::{Audit, Audited, audit};
pub use batch::batch;
pub use check::{GradCheck, gradcheck};
pub use checkpoint::{Checkpoint, checkpoint};
pub use cotangent_tensor::InputGradient;
pub use explain::{Cut, Explanation, Reason, explain, explain_values};
pub use forms::{Gradients, Inputs, Outputs};
pub use forward::{hvp, jvp};
pub use gradient::{Gradient, State, Wrt};
pub use jacobian::{batch_jacobian, gauss_newton_product, hessian, jacobian, per_sample_gradients};
pub use object::{Rule, Upstream};
pub use picture::to_dot;
pub use reverse::{grad, vjp};
pub use rewrites::{
    clip_gradient, clip_gradient_norm, map_cotangent, observe, replace_gradient, reverse_gradient,
    scale_gradient, straight_through, surrogate,
};
pub use rule::{CustomGradient, custom_function, custom_gradient, custom_jvp, surrogate_gradient};
pub use trace::{Row, Trace, trace};
