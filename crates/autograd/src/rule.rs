//! Custom gradients: a function and its pullback, written by the user, traced once and stored as a graph.

use std::panic::Location;

use cotangent_tensor::{DType, Error, RuleKind};

use crate::forms::{Gradients, Inputs, Outputs};
use crate::tracer::Tracer;

/// A custom gradient before it is applied: its name and what it promises.
///
/// ```
/// use cotangent_autograd::CustomGradient;
/// use cotangent_tensor::Tensor;
/// let x = Tensor::new([-1.5, 0.5]);
/// let sign = CustomGradient::surrogate("soft_sign", "sign has derivative zero").apply([&x], |[x]| {
///     let y = x.sign();
///     (y, move |upstream: Tensor| upstream * x.sigmoid() * (-&x).sigmoid())
/// });
/// assert!(sign.error().is_none());
/// ```
#[derive(Clone, Debug)]
pub struct CustomGradient {
    pub(crate) name: String,
    pub(crate) kind: RuleKind,
    pub(crate) cut: bool,
    pub(crate) first_order: bool,
    pub(crate) without_derivative: Vec<usize>,
    pub(crate) precision: Option<DType>,
    pub(crate) names: Vec<String>,
    pub(crate) unless_linear: Option<Error>,
}

impl CustomGradient {
    /// A rule that claims to be the derivative; checks compare it, and what ignores its cotangent is refused at once.
    pub fn exact(name: &str) -> CustomGradient {
        CustomGradient::new(name, RuleKind::Exact)
    }
    /// A rule that deliberately differs from the derivative, and why.
    pub fn surrogate(name: &str, reason: &str) -> CustomGradient {
        CustomGradient::new(name, RuleKind::Surrogate(reason.to_string()))
    }
    fn new(name: &str, kind: RuleKind) -> CustomGradient {
        CustomGradient {
            name: name.to_string(),
            kind,
            cut: false,
            first_order: false,
            without_derivative: Vec::new(),
            precision: None,
            names: Vec::new(),
            unless_linear: None,
        }
    }
    /// Declares that the rule may pass nothing to any input. Without this declaration that is `E_RULE_CUT`.
    pub fn passing_nothing(mut self) -> CustomGradient {
        self.cut = true;
        self
    }
    /// Declares that the derivative of the rule's gradient is not what it seems, as where the rule uses values that hide
    /// their dependence on the inputs: a gradient of it is `E_FIRST_ORDER_ONLY`, and so is forward mode through the rule, but for
    /// the first derivative of a rule that is given in forward mode.
    pub fn first_order_only(mut self) -> CustomGradient {
        self.first_order = true;
        self
    }
    /// Declares that float output number `output` has no derivative, as the positions that a sort returns: a path through it
    /// is `NotDifferentiable`, the other outputs keep theirs.
    pub fn without_derivative(mut self, output: usize) -> CustomGradient {
        self.without_derivative.push(output);
        self
    }
    /// The element type in which cotangents of float outputs arrive and gradients of float inputs are given, whatever type
    /// those have: F32 for a function of F16 values whose gradients would overflow. Cotangents travel as F32 in any case.
    pub fn gradients_in(mut self, dtype: DType) -> CustomGradient {
        self.precision = Some(dtype);
        self
    }
    /// What messages call the inputs, in order; those without a name here are called by their own, or by their position.
    pub fn inputs<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> CustomGradient {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }
    /// The error of a forward mode that has to transpose the rule where its gradients are not linear in their cotangents, instead of
    /// `E_NO_JVP`: for rules whose text is not Rust, which have a place of their own to show.
    pub fn unless_linear(mut self, error: Error) -> CustomGradient {
        self.unless_linear = Some(error);
        self
    }
    /// Applies the rule.
    ///
    /// `function` is called once, with fresh placeholders for the inputs. It returns the outputs (a tensor, a pair, an
    /// array or a vector) and a closure from the cotangents of the outputs, in the same form, to one gradient per
    /// input (a tensor, a tuple, an array or a vector; `None` where nothing passes, or an
    /// [`InputGradient`](crate::InputGradient)). What the closures capture of the
    /// placeholders is recomputed from the inputs when needed; plain constants may be captured, other tensors must
    /// be inputs. Of an invalid input, a closure that returns a vector is called with invalid tensors, for their number.
    ///
    /// A mistake makes the outputs invalid: the first error of an input; `E_RULE_ARITY`, `E_RULE_SHAPE`,
    /// `E_RULE_DTYPE`, `E_RULE_NONE`, `E_RULE_CUT` for gradients that do not fit the inputs (nothing is summed or
    /// broadcast); `E_RULE_LINEAR` for a gradient that claims to be exact and in which nothing comes from `upstream`;
    /// `E_RULE_CAPTURE`; `E_USER_PANIC`; any error of a tensor built inside, "in rule …".
    #[track_caller]
    pub fn apply<I, O, P, G>(self, inputs: I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
    where
        I: Inputs,
        O: Outputs,
        P: FnOnce(O::Upstream) -> G,
        G: Gradients,
    {
        let tracer = Tracer::new(self, "custom gradient", Location::caller());
        tracer.apply(&inputs, function)
    }
    /// Applies a rule that is given in forward mode: `function` returns the outputs and a closure from the tangents of the
    /// inputs, in their form, to the tangents of the outputs.
    ///
    /// Reverse mode is its transpose, found when the rule is applied. Tangents of integers and truth values arrive as zeros
    /// and theirs are not used. Errors as [`CustomGradient::apply`]; `E_RULE_LINEAR` for tangents that are not linear in those of
    /// the inputs.
    #[track_caller]
    pub fn apply_jvp<I, O, P>(self, inputs: I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
    where
        I: Inputs,
        O: Outputs,
        P: FnOnce(I::Traced) -> O,
    {
        let tracer = Tracer::new(self, "custom jvp", Location::caller());
        tracer.apply_jvp(&inputs, function)
    }
}

/// `outputs = function(inputs)` with a gradient of the user's own; see [`CustomGradient::apply`].
///
/// ```
/// use cotangent_autograd::{custom_gradient, grad};
/// use cotangent_tensor::Tensor;
/// let square = |x: &Tensor| custom_gradient("square", [x], |[x]| {
///     let y = &x * &x;
///     (y, move |upstream: Tensor| &upstream * &x * 2.0)
/// });
/// let x = Tensor::new(2.0);
/// let y = square(&square(&square(&x)));
/// let dx = grad(&y, &x)?;
/// assert!(dx.value().is_some());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn custom_gradient<I, O, P, G>(name: &str, inputs: I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
where
    I: Inputs,
    O: Outputs,
    P: FnOnce(O::Upstream) -> G,
    G: Gradients,
{
    CustomGradient::exact(name).apply(inputs, function)
}

/// As [`custom_gradient`], for a rule that deliberately differs from the derivative; `reason` says why.
#[track_caller]
pub fn surrogate_gradient<I, O, P, G>(
    name: &str,
    reason: &str,
    inputs: I,
    function: impl FnOnce(I::Traced) -> (O, P),
) -> O
where
    I: Inputs,
    O: Outputs,
    P: FnOnce(O::Upstream) -> G,
    G: Gradients,
{
    CustomGradient::surrogate(name, reason).apply(inputs, function)
}

/// `outputs = function(inputs)` without a gradient: its value may be used, and asking for a gradient through it finds
/// `NotDifferentiable { op: name }`.
#[track_caller]
pub fn custom_function<I, O>(name: &str, inputs: I, function: impl FnOnce(I::Traced) -> O) -> O
where
    I: Inputs,
    O: Outputs,
{
    let rule = CustomGradient::exact(name);
    let tracer = Tracer::new(rule, "custom function", Location::caller());
    tracer.apply_without_gradient(&inputs, function)
}

/// `outputs = function(inputs)` with a forward mode of the user's own, of which reverse mode is the transpose; see
/// [`CustomGradient::apply_jvp`].
///
/// ```
/// use cotangent_autograd::{custom_jvp, grad};
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let x = Tensor::new(3.0);
/// let y = custom_jvp("square", [&x], |[x]| (&x * &x, move |[t]: [Tensor; 1]| t * x * 2.0));
/// let dx = grad(&y, &x)?.or_error()?;
/// assert_eq!(Reference::new().evaluate(&[&dx])?[0].scalar()?, 6.0);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn custom_jvp<I, O, P>(name: &str, inputs: I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
where
    I: Inputs,
    O: Outputs,
    P: FnOnce(I::Traced) -> O,
{
    CustomGradient::exact(name).apply_jvp(inputs, function)
}
