//! Custom gradients: a function and its pullback, written by the user, traced once and stored as a graph.

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use cotangent_tensor::{Code, DType, Detail, Error, Node, Op, Rule, RuleKind, Shape, Tensor};

use crate::forms::{Gradients, Inputs, Outputs};

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
    name: String,
    kind: RuleKind,
    cut: bool,
    first_order: bool,
}

impl CustomGradient {
    /// A rule that claims to be the derivative; checks compare it.
    pub fn exact(name: &str) -> CustomGradient {
        CustomGradient { name: name.to_string(), kind: RuleKind::Exact, cut: false, first_order: false }
    }
    /// A rule that deliberately differs from the derivative, and why.
    pub fn surrogate(name: &str, reason: &str) -> CustomGradient {
        let kind = RuleKind::Surrogate(reason.to_string());
        CustomGradient { name: name.to_string(), kind, cut: false, first_order: false }
    }
    /// Declares that the rule may pass nothing to any input. Without this declaration that is `E_RULE_CUT`.
    pub fn passing_nothing(mut self) -> CustomGradient {
        self.cut = true;
        self
    }
    /// Declares that the derivative of the rule's gradient is not what it seems, as where the rule uses values that hide
    /// their dependence on the inputs: a gradient of it, and forward mode through the rule, are `E_FIRST_ORDER_ONLY`.
    pub fn first_order_only(mut self) -> CustomGradient {
        self.first_order = true;
        self
    }
    /// Applies the rule.
    ///
    /// `function` is called once, with fresh placeholders for the inputs. It returns the outputs (a tensor, a pair, an
    /// array or a vector) and a closure from the cotangents of the outputs, in the same form, to one gradient per
    /// input (a tensor, a tuple, an array or a vector; `None` where nothing passes). What the closures capture of the
    /// placeholders is recomputed from the inputs when needed; plain constants may be captured, other tensors must
    /// be inputs. Of an invalid input, a closure that returns a vector is called with invalid tensors, for their number.
    ///
    /// A mistake makes the outputs invalid: the first error of an input; `E_RULE_ARITY`, `E_RULE_SHAPE`,
    /// `E_RULE_DTYPE`, `E_RULE_NONE`, `E_RULE_CUT` for gradients that do not fit the inputs (nothing is summed or
    /// broadcast); `E_RULE_CAPTURE`; `E_USER_PANIC`; any error of a tensor built inside, "in rule …".
    #[track_caller]
    pub fn apply<I, O, P, G>(self, inputs: I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
    where
        I: Inputs,
        O: Outputs,
        P: FnOnce(O::Upstream) -> G,
        G: Gradients,
    {
        let tracer = Tracer { rule: self, at: Location::caller(), role: "custom gradient" };
        tracer.apply(&inputs, function)
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
    let tracer = Tracer { rule, at: Location::caller(), role: "custom function" };
    tracer.apply_without_gradient(&inputs, function)
}

/// The value of `forward` with the gradient of `surrogate`: what only `forward` depends on is `Stopped`.
///
/// Invalid with `E_RULE_SHAPE` or `E_RULE_DTYPE` unless the two agree in shape and type.
#[track_caller]
pub fn straight_through(forward: &Tensor, surrogate: &Tensor) -> Tensor {
    if let (Ok(value), Ok(slope)) = (forward.node(), surrogate.node())
        && value.dtype != slope.dtype
    {
        let message = format!("the value is {}, but the surrogate is {}", value.dtype, slope.dtype);
        let error = Error::new(Code::RuleDtype, "straight_through", message)
            .with("expected", Detail::DType(value.dtype))
            .with("got", Detail::DType(slope.dtype));
        let float = if value.dtype.is_float() { value.dtype } else { slope.dtype };
        return Tensor::invalid(
            error.at(Location::caller()).hint(format!("write `.cast(DType::{float:?})`")),
        );
    }
    let rule = CustomGradient::surrogate("straight_through", "the value comes from another function");
    rule.apply([forward, surrogate], |[forward, _]| (forward, |upstream: Tensor| [None, Some(upstream)]))
}

/// The same value; its cotangent is replaced by `change` of it on the way back.
///
/// ```
/// use cotangent_autograd::{grad, map_cotangent};
/// use cotangent_tensor::Tensor;
/// let x = Tensor::new([3.0, -4.0]);
/// let clipped = map_cotangent(&x, |upstream| upstream.clamp(-1.0, 1.0));
/// let dx = grad(&(&clipped * &clipped).sum(..), &x)?; // 1 and −1 instead of 6 and −8
/// assert!(dx.value().is_some());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn map_cotangent(x: &Tensor, change: impl FnOnce(Tensor) -> Tensor) -> Tensor {
    let rule = CustomGradient::surrogate("map_cotangent", "the cotangent is replaced on purpose");
    rule.apply([x], |[x]| (x, change))
}

type Nodes = Vec<Arc<Node>>;

/// One application of a rule: calls the closures, checks what they return, builds the node.
struct Tracer {
    rule: CustomGradient,
    at: &'static Location<'static>,
    role: &'static str,
}

impl Tracer {
    fn apply<I, O, P, G>(&self, inputs: &I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
    where
        I: Inputs,
        O: Outputs,
        P: FnOnce(O::Upstream) -> G,
        G: Gradients,
    {
        let (operands, parameters) = match self.parameters(inputs) {
            Ok(parameters) => parameters,
            Err(error) => return self.invalid(inputs, error, |traced| function(traced).0),
        };
        match self.guarded(|| function(inputs.traced(tensors(&parameters)))) {
            Ok((traced, pullback)) => {
                let outputs = traced.tensors();
                let count = outputs.len();
                let applied = self.traced::<O, P, G>(operands, parameters, &outputs, pullback);
                applied.map_or_else(|error| O::invalid(error, count), O::applied)
            }
            Err(error) => O::invalid(error, 1),
        }
    }

    /// Traces the pullback, checks it, and builds the rule.
    fn traced<O, P, G>(
        &self,
        operands: Vec<Arc<Node>>,
        parameters: Vec<Arc<Node>>,
        outputs: &[Tensor],
        pullback: P,
    ) -> Result<Vec<Tensor>, Error>
    where
        O: Outputs,
        P: FnOnce(O::Upstream) -> G,
        G: Gradients,
    {
        let outputs = self.valid(outputs)?;
        let mut upstream = Vec::new();
        for output in &outputs {
            // A truth value or integer has no cotangent; its slot receives zeros.
            let dtype = if output.dtype.is_float() { output.dtype } else { DType::F32 };
            upstream.push(Tensor::placeholder("upstream", output.shape, dtype));
        }
        let slots = self.valid(&upstream)?;
        let given = self.guarded(|| pullback(O::upstream(upstream)).gradients())?;
        let gradients = self.gradients(&operands, &parameters, given)?;
        let all = outputs.iter().chain(gradients.iter().flatten());
        self.check_captures(all, parameters.iter().chain(&slots), &parameters)?;
        let seal = |gradient: Option<Arc<Node>>| gradient.map(|g| self.sealed(g)).transpose();
        let gradients = match self.rule.first_order {
            true => gradients.into_iter().map(seal).collect::<Result<_, _>>()?,
            false => gradients,
        };
        let (name, kind) = (self.rule.name.clone(), self.rule.kind.clone());
        Ok(self.build(operands, Rule { name, kind, parameters, outputs, upstream: slots, gradients }))
    }

    fn apply_without_gradient<I: Inputs, O: Outputs>(
        &self,
        inputs: &I,
        function: impl FnOnce(I::Traced) -> O,
    ) -> O {
        let (operands, parameters) = match self.parameters(inputs) {
            Ok(parameters) => parameters,
            Err(error) => return self.invalid(inputs, error, function),
        };
        let traced = match self.guarded(|| function(inputs.traced(tensors(&parameters)))) {
            Ok(traced) => traced.tensors(),
            Err(error) => return O::invalid(error, 1),
        };
        let build = || {
            let outputs = self.valid(&traced)?;
            self.check_captures(outputs.iter(), parameters.iter(), &parameters)?;
            let (name, kind) = (self.rule.name.clone(), self.rule.kind.clone());
            let (upstream, gradients) = (Vec::new(), Vec::new());
            Ok(self.build(operands, Rule { name, kind, parameters, outputs, upstream, gradients }))
        };
        build().map_or_else(|error| O::invalid(error, traced.len()), O::applied)
    }

    /// A gradient with its value and without a derivative.
    fn sealed(&self, gradient: Arc<Node>) -> Result<Arc<Node>, Error> {
        let slot = Tensor::placeholder("gradient", gradient.shape, gradient.dtype).node()?.clone();
        let (parameters, outputs) = (vec![slot.clone()], vec![slot]);
        let (name, kind) = (self.rule.name.clone(), RuleKind::FirstOrderOnly);
        let rule = Rule { name, kind, parameters, outputs, upstream: Vec::new(), gradients: Vec::new() };
        self.build(vec![gradient], rule)[0].node().cloned()
    }

    /// The operands and their placeholders.
    fn parameters<I: Inputs>(&self, inputs: &I) -> Result<(Nodes, Nodes), Error> {
        let operands = inputs.tensors().iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let parameters = self.placeholders(&operands)?;
        Ok((operands, parameters))
    }

    /// Invalid outputs for an invalid input. Where only the closure knows how many, it is asked, with invalid inputs.
    fn invalid<I: Inputs, O: Outputs>(
        &self,
        inputs: &I,
        error: Error,
        function: impl FnOnce(I::Traced) -> O,
    ) -> O {
        let invalid = || vec![Tensor::invalid(error.clone()); inputs.tensors().len()];
        let count = match O::OPEN {
            true => self.guarded(|| function(inputs.traced(invalid())).tensors().len()).unwrap_or(1),
            false => 1,
        };
        O::invalid(error, count)
    }

    fn placeholders(&self, operands: &[Arc<Node>]) -> Result<Vec<Arc<Node>>, Error> {
        let named = |(position, operand): (usize, &Arc<Node>)| {
            Tensor::placeholder(&input_name(position, operand), operand.shape, operand.dtype)
        };
        let tensors: Vec<Tensor> = operands.iter().enumerate().map(named).collect();
        self.valid(&tensors)
    }

    /// Runs a closure of the user's; a panic becomes an error.
    fn guarded<T>(&self, closure: impl FnOnce() -> T) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
            let message = panic_message(payload.as_ref());
            self.error(Code::UserPanic, format!("its closure panicked: {message}"))
                .hint("the graph is as it was before the rule was applied")
        })
    }

    /// The nodes, or the first error with the rule as context.
    fn valid(&self, tensors: &[Tensor]) -> Result<Vec<Arc<Node>>, Error> {
        tensors.iter().map(|t| t.node().cloned().map_err(|e| e.within(self.context()))).collect()
    }

    fn context(&self) -> String {
        let at = self.at;
        format!("in rule `{}`, applied at {}:{}:{}", self.rule.name, at.file(), at.line(), at.column())
    }

    fn error(&self, code: Code, message: String) -> Error {
        Error::new(code, format!("{} {:?}", self.role, self.rule.name), message).at(self.at)
    }

    /// Checks gradients against inputs.
    fn gradients(
        &self,
        operands: &[Arc<Node>],
        parameters: &[Arc<Node>],
        given: Vec<Option<Tensor>>,
    ) -> Result<Vec<Option<Arc<Node>>>, Error> {
        if given.len() != operands.len() {
            let inputs: Vec<String> =
                parameters.iter().map(|p| format!("{} {}", p.name(), p.shape)).collect();
            let message = format!(
                "expected {} gradients, got {} (inputs: {})",
                operands.len(),
                given.len(),
                inputs.join(", ")
            );
            return Err(self
                .error(Code::RuleArity, message)
                .with("expected", count(operands.len()))
                .with("got", count(given.len()))
                .hint("return `None` for an input without gradient"));
        }
        let mut gradients = Vec::new();
        for (position, (gradient, parameter)) in given.into_iter().zip(parameters).enumerate() {
            let Some(gradient) = gradient else {
                gradients.push(None);
                continue;
            };
            let [node] = &self.valid(std::slice::from_ref(&gradient))?[..] else { continue };
            self.check_gradient(position, node, parameter)?;
            gradients.push(Some(node.clone()));
        }
        let differentiable = operands.iter().any(|o| o.dtype.is_float());
        if differentiable && gradients.iter().all(Option::is_none) && !self.rule.cut {
            let message = "passes nothing to any of its inputs".to_string();
            return Err(self.error(Code::RuleCut, message).hint(
                "if that is meant, declare it with `CustomGradient::…(…).passing_nothing()`, or use `detach`",
            ));
        }
        Ok(gradients)
    }

    fn check_gradient(&self, position: usize, gradient: &Node, parameter: &Node) -> Result<(), Error> {
        let input = format!("input {position} `{}`", parameter.name());
        if !parameter.dtype.is_float() {
            let message = format!("gradient {position} must be `None`: {input} is {}", parameter.dtype);
            return Err(self.error(Code::RuleNone, message).with("input", count(position)));
        }
        if gradient.shape != parameter.shape {
            let message = format!(
                "gradient {position} has shape {}, but {input} is {}, so the shapes do not match",
                gradient.shape, parameter.shape
            );
            return Err(self
                .error(Code::RuleShape, message)
                .with("input", count(position))
                .shape("expected", &parameter.shape)
                .shape("got", &gradient.shape)
                .hint("gradients are never summed or broadcast: reduce in the rule what the function broadcasts"));
        }
        if gradient.dtype != parameter.dtype {
            let message =
                format!("gradient {position} is {}, but {input} is {}", gradient.dtype, parameter.dtype);
            return Err(self
                .error(Code::RuleDtype, message)
                .with("input", count(position))
                .with("expected", Detail::DType(parameter.dtype))
                .with("got", Detail::DType(gradient.dtype))
                .hint(format!("write `.cast(DType::{:?})`", parameter.dtype)));
        }
        Ok(())
    }

    /// Values that change from run to run may enter a rule only through its inputs.
    fn check_captures<'a>(
        &self,
        roots: impl Iterator<Item = &'a Arc<Node>>,
        own: impl Iterator<Item = &'a Arc<Node>>,
        parameters: &[Arc<Node>],
    ) -> Result<(), Error> {
        let mut seen: HashSet<*const ()> = own.map(Node::identity).collect();
        let mut stack: Vec<Arc<Node>> = roots.cloned().collect();
        while let Some(node) = stack.pop() {
            if !seen.insert(node.identity()) {
                continue;
            }
            if let Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) = &node.op {
                let name = node.label.as_deref().unwrap_or(&token.name);
                let inputs: Vec<&str> = parameters.iter().map(|p| p.name()).collect();
                let message = format!(
                    "its closure captures `{name}` {}, which is none of its inputs ({})",
                    node.shape,
                    inputs.join(", ")
                );
                return Err(self
                    .error(Code::RuleCapture, message)
                    .with("captured", Detail::Text(name.to_string()))
                    .hint(format!("pass `{name}` as an input and use the closure's argument")));
            }
            stack.extend(node.operands.iter().cloned());
        }
        Ok(())
    }

    /// The applied rule: a tuple node and one projection per output.
    fn build(&self, operands: Vec<Arc<Node>>, rule: Rule) -> Vec<Tensor> {
        let outputs: Vec<(Shape, DType)> = rule.outputs.iter().map(|o| (o.shape, o.dtype)).collect();
        let (shape, dtype) = outputs.first().copied().unwrap_or((Shape::SCALAR, DType::F32));
        let node = |op, operands, shape, dtype| {
            Arc::new(Node { op, operands, shape, dtype, location: self.at, label: None })
        };
        let tuple = node(Op::Rule(Arc::new(rule)), operands, shape, dtype);
        let project = |(slot, (shape, dtype))| {
            Tensor::from_node(node(Op::Project(slot), vec![tuple.clone()], shape, dtype))
        };
        outputs.into_iter().enumerate().map(project).collect()
    }
}

/// What messages call an input of a closure.
pub(crate) fn input_name(position: usize, operand: &Node) -> String {
    match (&operand.label, &operand.op) {
        (Some(label), _) => label.to_string(),
        (None, Op::Input(token) | Op::Variable(token) | Op::Placeholder(token)) => token.name.clone(),
        (None, _) => format!("input{position}"),
    }
}

pub(crate) fn tensors(nodes: &[Arc<Node>]) -> Vec<Tensor> {
    nodes.iter().map(|node| Tensor::from_node(node.clone())).collect()
}

fn count(n: usize) -> Detail {
    Detail::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}
