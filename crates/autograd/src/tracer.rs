//! One application of a rule: calls the user's closures on placeholders, checks what they return, builds the node.

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use cotangent_tensor::{
    AddressSet, Code, DType, Detail, Error, InputGradient, Node, Op, Origin, Pullback, Pushforward, RuleKind,
    Shape, Tensor, Token, TracedRule, topological,
};

use crate::State;
use crate::enclosure::applied;
use crate::forms::{Gradients, Inputs, Outputs};
use crate::guard::Guarded;
use crate::reverse::sweep;
use crate::rule::CustomGradient;
use crate::stamp::cast_at;
use crate::transpose::vanish_without;

type Nodes = Vec<Arc<Node>>;

/// A rule and where it is applied.
pub(crate) struct Tracer {
    pub(crate) rule: CustomGradient,
    pub(crate) at: &'static Location<'static>,
    pub(crate) role: &'static str,
    /// Lives while closures run.
    scope: Arc<()>,
}

/// A function traced on placeholders.
pub(crate) struct Traced {
    operands: Nodes,
    pub(crate) parameters: Nodes,
    pub(crate) outputs: Nodes,
    /// Placeholders of the cotangents of the outputs; none without a gradient rule.
    pub(crate) upstream: Nodes,
}

impl Traced {
    /// For each output, whether a cotangent may arrive.
    pub(crate) fn differentiable(&self, rule: &CustomGradient) -> Vec<bool> {
        let float =
            |(slot, o): (usize, &Arc<Node>)| o.dtype.is_float() && !rule.without_derivative.contains(&slot);
        self.outputs.iter().enumerate().map(float).collect()
    }
}

impl Tracer {
    pub(crate) fn new(rule: CustomGradient, role: &'static str, at: &'static Location<'static>) -> Tracer {
        Tracer { rule, at, role, scope: Arc::new(()) }
    }
    pub(crate) fn apply<I, O, P, G>(&self, inputs: &I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
    where
        I: Inputs,
        O: Outputs,
        P: FnOnce(O::Upstream) -> G,
        G: Gradients,
    {
        self.closures(inputs, function, |traced, pullback| {
            self.give_upstream(traced);
            let upstream = O::upstream(tensors(&traced.upstream));
            let given = self.guarded(|| pullback(upstream).gradients())?;
            let pullback = self.pullback(traced, traced.differentiable(&self.rule), given)?;
            Ok((vec![pullback], None))
        })
    }

    pub(crate) fn apply_jvp<I, O, P>(&self, inputs: &I, function: impl FnOnce(I::Traced) -> (O, P)) -> O
    where
        I: Inputs,
        O: Outputs,
        P: FnOnce(I::Traced) -> O,
    {
        self.closures(inputs, function, |traced, tangent_of| {
            let tangents = self.tangents(traced);
            let given = self.guarded(|| tangent_of(inputs.traced(tensors(&tangents))).tensors())?;
            let pushforward = self.pushforward(traced, tangents, given.into_iter().map(Some).collect())?;
            self.give_upstream(traced);
            let pullback = self.transposed(traced, &pushforward)?;
            Ok((vec![pullback], Some(pushforward)))
        })
    }

    pub(crate) fn apply_without_gradient<I: Inputs, O: Outputs>(
        &self,
        inputs: &I,
        function: impl FnOnce(I::Traced) -> O,
    ) -> O {
        self.closures(inputs, |traced| (function(traced), ()), |_, ()| Ok((Vec::new(), None)))
    }

    /// Traces the function, then its derivatives, and builds the rule.
    fn closures<I: Inputs, O: Outputs, P>(
        &self,
        inputs: &I,
        function: impl FnOnce(I::Traced) -> (O, P),
        derivatives: impl FnOnce(&mut Traced, P) -> Result<(Vec<Pullback>, Option<Pushforward>), Error>,
    ) -> O {
        let (operands, parameters) = match self.parameters(&inputs.tensors()) {
            Ok(parameters) => parameters,
            Err(error) => return self.invalid(inputs, error, |traced| function(traced).0),
        };
        let (outputs, derivative) = match self.guarded(|| function(inputs.traced(tensors(&parameters)))) {
            Ok((outputs, derivative)) => (outputs.tensors(), derivative),
            Err(error) => return O::invalid(error, 1),
        };
        let build = || {
            let mut traced = self.traced(operands, parameters, &outputs)?;
            let (pullbacks, pushforward) = derivatives(&mut traced, derivative)?;
            self.finish(traced, None, pullbacks, pushforward)
        };
        build().map_or_else(|error| O::invalid(error, outputs.len()), O::applied)
    }

    /// The function on its placeholders.
    pub(crate) fn traced(
        &self,
        operands: Nodes,
        parameters: Nodes,
        outputs: &[Tensor],
    ) -> Result<Traced, Error> {
        let outputs = self.valid(outputs)?;
        self.check_captures(outputs.iter(), parameters.iter(), &parameters)?;
        let strange = self
            .rule
            .without_derivative
            .iter()
            .find(|&&slot| !outputs.get(slot).is_some_and(|output| output.dtype.is_float()));
        if let Some(slot) = strange {
            let message = format!("output {slot} is declared to have no derivative, and is no float output");
            return Err(self.error(Code::RuleArity, message).with("outputs", count(outputs.len())));
        }
        Ok(Traced { operands, parameters, outputs, upstream: Vec::new() })
    }

    /// Placeholders of cotangents. A truth value or integer has none; its slot receives zeros.
    pub(crate) fn give_upstream(&self, traced: &mut Traced) {
        let slot = |output: &Arc<Node>| {
            let dtype = if output.dtype.is_float() { self.precision(output.dtype) } else { DType::F32 };
            self.placeholder("upstream", output.shape, dtype)
        };
        traced.upstream = traced.outputs.iter().map(slot).collect();
    }

    /// Placeholders of tangents. A truth value or integer has none; its slot receives zeros.
    pub(crate) fn tangents(&self, traced: &Traced) -> Nodes {
        let slot = |parameter: &Arc<Node>| {
            let dtype = if parameter.dtype.is_float() { self.precision(parameter.dtype) } else { DType::F32 };
            self.placeholder("tangent", parameter.shape, dtype)
        };
        traced.parameters.iter().map(slot).collect()
    }

    /// The type in which derivatives of this type are given.
    fn precision(&self, dtype: DType) -> DType {
        self.rule.precision.unwrap_or(dtype)
    }

    /// A pullback out of what a closure gave.
    pub(crate) fn pullback(
        &self,
        traced: &Traced,
        present: Vec<bool>,
        given: Vec<InputGradient<Tensor>>,
    ) -> Result<Pullback, Error> {
        let gradients = self.gradients(traced, given)?;
        let own = traced.parameters.iter().chain(&traced.upstream);
        self.check_captures(gradients.iter().filter_map(InputGradient::value), own, &traced.parameters)?;
        self.check_upstream(traced, &gradients)?;
        let seal = |gradient: InputGradient<Arc<Node>>| match gradient {
            InputGradient::Value(node) => self.sealed(node).map(InputGradient::Value),
            other => Ok(other),
        };
        let gradients = match self.rule.first_order {
            true => gradients.into_iter().map(seal).collect::<Result<_, _>>()?,
            false => gradients,
        };
        Ok(Pullback { present, gradients })
    }

    /// A forward mode out of what a closure gave.
    pub(crate) fn pushforward(
        &self,
        traced: &Traced,
        tangents: Nodes,
        given: Vec<Option<Tensor>>,
    ) -> Result<Pushforward, Error> {
        if given.len() != traced.outputs.len() {
            let message = format!("expected {} tangents, got {}", traced.outputs.len(), given.len());
            return Err(self
                .error(Code::RuleArity, message)
                .with("expected", count(traced.outputs.len()))
                .with("got", count(given.len()))
                .hint("return one tangent per output"));
        }
        let mut outputs = Vec::new();
        let differentiable = traced.differentiable(&self.rule);
        for (position, (tangent, output)) in given.into_iter().zip(&traced.outputs).enumerate() {
            let node = match tangent {
                Some(tangent) if differentiable[position] => self.valid(&[tangent])?.pop(),
                _ => None,
            };
            if let Some(node) = &node {
                let expected = (output.shape, self.precision(output.dtype));
                self.check_fit(("tangent", position), node, ("output", position, output), expected)?;
            }
            outputs.push(node);
        }
        let present: Nodes = outputs.iter().flatten().cloned().collect();
        self.check_captures(present.iter(), traced.parameters.iter().chain(&tangents), &traced.parameters)?;
        if !vanish_without(&present, &tangents) {
            return Err(self.not_linear());
        }
        Ok(Pushforward { tangents, outputs })
    }

    /// The pullback that is the transpose of a forward mode: the derivative of the tangents of the outputs with respect to
    /// those of the inputs, in which they are linear.
    pub(crate) fn transposed(&self, traced: &Traced, forward: &Pushforward) -> Result<Pullback, Error> {
        let seed = |(tangent, slot): (&Option<Arc<Node>>, &Arc<Node>)| {
            let upstream = cast_at(&Tensor::from_node(slot.clone()), DType::F32, slot);
            tangent.as_ref().map(|tangent| (tangent.clone(), Guarded::plain(upstream)))
        };
        let seeds = forward.outputs.iter().zip(&traced.upstream).filter_map(seed).collect();
        let found = sweep(seeds, &forward.tangents)?;
        let of = |(gradient, parameter): (&crate::Gradient, &Arc<Node>)| {
            Ok(match gradient.state() {
                _ if !parameter.dtype.is_float() => InputGradient::Nothing,
                State::Value(_) if gradient.is_partial() => return Err(self.not_linear()),
                State::Value(tensor) => InputGradient::Value(tensor.clone()),
                State::Zero | State::Unconnected => InputGradient::Zero,
                State::Stopped { .. } => InputGradient::Nothing,
                State::NotDifferentiable { .. } => InputGradient::Missing(gradient.explain()),
            })
        };
        let given: Vec<_> = found.iter().zip(&traced.parameters).map(of).collect::<Result<_, Error>>()?;
        let values = given.iter().filter_map(|g| g.value()).map(Tensor::node);
        let values: Vec<_> = values.map(|node| node.cloned()).collect::<Result<_, _>>()?;
        let depends = topological(&values);
        if depends.iter().any(|n| forward.tangents.iter().any(|t| t.identity() == n.identity())) {
            return Err(self.not_linear());
        }
        self.pullback(traced, traced.differentiable(&self.rule), given)
    }

    fn not_linear(&self) -> Error {
        self.error(Code::RuleLinear, "its tangents are not linear in the tangents of its inputs".to_string())
            .hint("a tangent is a sum of terms, each with the tangent of one input as a factor")
    }

    /// The rule, applied: its outputs.
    pub(crate) fn finish(
        &self,
        traced: Traced,
        plain: Option<Nodes>,
        pullbacks: Vec<Pullback>,
        pushforward: Option<Pushforward>,
    ) -> Result<Vec<Tensor>, Error> {
        let pushforward = pushforward.map(|pushforward| self.sealed_tangents(pushforward)).transpose()?;
        let CustomGradient { name, kind, without_derivative, unless_linear, .. } = self.rule.clone();
        let Traced { operands, parameters, outputs, upstream } = traced;
        let rule = TracedRule {
            name,
            kind,
            parameters,
            outputs,
            without_derivative,
            plain,
            upstream,
            pullbacks,
            pushforward,
            unless_linear,
            absorbed: Vec::new(),
        };
        Ok(self.build(operands, rule))
    }

    /// A forward mode that may be used once, where the rule declares to know the first order only.
    fn sealed_tangents(&self, pushforward: Pushforward) -> Result<Pushforward, Error> {
        let seal = |tangent: Option<Arc<Node>>| tangent.map(|t| self.sealed(t)).transpose();
        let outputs = match self.rule.first_order {
            true => pushforward.outputs.into_iter().map(seal).collect::<Result<_, _>>()?,
            false => pushforward.outputs,
        };
        Ok(Pushforward { outputs, ..pushforward })
    }

    /// A gradient with its value and without a derivative.
    fn sealed(&self, gradient: Arc<Node>) -> Result<Arc<Node>, Error> {
        let slot = self.placeholder("gradient", gradient.shape, gradient.dtype);
        let (parameters, outputs) = (vec![slot.clone()], vec![slot]);
        let rule = TracedRule::function(self.rule.name.clone(), parameters, outputs);
        let rule = TracedRule { kind: RuleKind::FirstOrderOnly, ..rule };
        self.build(vec![gradient], rule)[0].node().cloned()
    }

    /// The operands and their placeholders.
    pub(crate) fn parameters(&self, inputs: &[Tensor]) -> Result<(Nodes, Nodes), Error> {
        let operands = inputs.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let named = |(position, operand): (usize, &Arc<Node>)| {
            let name = self.rule.names.get(position).cloned();
            let name = name.unwrap_or_else(|| input_name(position, operand));
            self.placeholder(&name, operand.shape, operand.dtype)
        };
        let parameters = operands.iter().enumerate().map(named).collect();
        Ok((operands, parameters))
    }

    /// Invalid outputs for an invalid input. Where only the closure knows how many, it is asked, with invalid inputs.
    pub(crate) fn invalid<I: Inputs, O: Outputs>(
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

    /// Stands for a tensor inside of the rule, at the line where the rule is applied.
    fn placeholder(&self, name: &str, shape: Shape, dtype: DType) -> Arc<Node> {
        let (op, location) = (Op::Placeholder(Token::argument(name, &self.scope)), self.at);
        let origin = Origin::default();
        Arc::new(Node { op, operands: Vec::new(), shape, dtype, location, label: None, origin })
    }

    /// Runs a closure of the user's; a panic becomes an error.
    pub(crate) fn guarded<T>(&self, closure: impl FnOnce() -> T) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
            let message = panic_message(payload.as_ref());
            self.error(Code::UserPanic, format!("its closure panicked: {message}"))
                .hint("the graph is as it was before the rule was applied")
        })
    }

    /// The nodes, or the first error with the rule as context.
    pub(crate) fn valid(&self, tensors: &[Tensor]) -> Result<Vec<Arc<Node>>, Error> {
        tensors.iter().map(|t| t.node().cloned().map_err(|e| e.within(self.context()))).collect()
    }

    fn context(&self) -> String {
        let at = self.at;
        format!("in rule `{}`, applied at {}:{}:{}", self.rule.name, at.file(), at.line(), at.column())
    }

    pub(crate) fn error(&self, code: Code, message: String) -> Error {
        Error::new(code, format!("{} {:?}", self.role, self.rule.name), message).at(self.at)
    }

    /// Checks gradients against inputs.
    fn gradients(
        &self,
        traced: &Traced,
        given: Vec<InputGradient<Tensor>>,
    ) -> Result<Vec<InputGradient<Arc<Node>>>, Error> {
        let Traced { operands, parameters, .. } = traced;
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
            if let InputGradient::Value(tensor) = &gradient {
                let [node] = &self.valid(std::slice::from_ref(tensor))?[..] else { continue };
                self.check_gradient(position, node, parameter)?;
                gradients.push(InputGradient::Value(node.clone()));
            } else {
                // Without a value there is nothing to take the node of.
                gradients.push(gradient.with(|_| parameter.clone()));
            }
        }
        let differentiable = operands.iter().any(|o| o.dtype.is_float());
        let nothing = |g: &InputGradient<Arc<Node>>| matches!(g, InputGradient::Nothing);
        if differentiable && gradients.iter().all(nothing) && !self.rule.cut {
            let message = "passes nothing to any of its inputs".to_string();
            return Err(self.error(Code::RuleCut, message).hint(
                "if that is meant, declare it with `CustomGradient::…(…).passing_nothing()`, or use `detach`",
            ));
        }
        Ok(gradients)
    }

    /// A derivative has the cotangent as a factor. Of what a rule makes that claims to be one, this much can be seen at once.
    fn check_upstream(&self, traced: &Traced, gradients: &[InputGradient<Arc<Node>>]) -> Result<(), Error> {
        if self.rule.kind != RuleKind::Exact || !traced.differentiable(&self.rule).contains(&true) {
            return Ok(());
        }
        let mut depends: AddressSet<()> = traced.upstream.iter().map(Node::identity).collect();
        for node in topological(gradients.iter().filter_map(InputGradient::value)) {
            if node.sources().iter().any(|operand| depends.contains(&operand.identity())) {
                depends.insert(node.identity());
            }
        }
        let ignores = |gradient: &InputGradient<Arc<Node>>| {
            gradient.value().is_some_and(|node| {
                !depends.contains(&node.identity()) && !vanish_without(std::slice::from_ref(node), &[])
            })
        };
        let Some(position) = gradients.iter().position(ignores) else { return Ok(()) };
        let message =
            format!("gradient {position} ignores its cotangent: nothing in it comes from `upstream`");
        Err(self.error(Code::RuleLinear, message).with("input", count(position)).hint(
            "multiply by `upstream`; if the gradient is meant to be this whatever arrives, declare a surrogate",
        ))
    }

    fn check_gradient(&self, position: usize, gradient: &Node, parameter: &Node) -> Result<(), Error> {
        if !parameter.dtype.is_float() {
            let input = format!("input {position} `{}`", parameter.name());
            let message = format!("gradient {position} must be `None`: {input} is {}", parameter.dtype);
            return Err(self.error(Code::RuleNone, message).with("input", count(position)));
        }
        let expected = (parameter.shape, self.precision(parameter.dtype));
        self.check_fit(("gradient", position), gradient, ("input", position, parameter), expected)
    }

    /// Checks shape and type of a derivative.
    fn check_fit(
        &self,
        (what, number): (&str, usize),
        given: &Node,
        (role, position, of): (&'static str, usize, &Node),
        (shape, dtype): (Shape, DType),
    ) -> Result<(), Error> {
        let (what, whole) = (format!("{what} {number}"), format!("{role} {position} `{}`", of.name()));
        if given.shape != shape {
            let message = format!(
                "{what} has shape {}, but {whole} is {shape}, so the shapes do not match",
                given.shape
            );
            return Err(self
                .error(Code::RuleShape, message)
                .with(role, count(position))
                .shape("expected", &shape)
                .shape("got", &given.shape)
                .hint("gradients are never summed or broadcast: reduce in the rule what the function broadcasts"));
        }
        if given.dtype != dtype {
            let message = format!("{what} is {}, but {whole} is {dtype}", given.dtype);
            return Err(self
                .error(Code::RuleDtype, message)
                .with(role, count(position))
                .with("expected", Detail::DType(dtype))
                .with("got", Detail::DType(given.dtype))
                .hint(match (dtype, given.dtype) {
                    (DType::F16, DType::F32) => {
                        "write `.cast(DType::F16)`, or declare `CustomGradient::gradients_in(DType::F32)`"
                            .to_string()
                    }
                    _ => format!("write `.cast(DType::{dtype:?})`"),
                }));
        }
        Ok(())
    }

    /// Values that change from run to run may enter a rule only through its inputs.
    pub(crate) fn check_captures<'a>(
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
    fn build(&self, operands: Vec<Arc<Node>>, rule: TracedRule) -> Vec<Tensor> {
        applied(rule, operands, self.at).into_iter().map(Tensor::from_node).collect()
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

pub(crate) fn count(n: usize) -> Detail {
    Detail::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}
