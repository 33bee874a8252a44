//! The check that users call.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cotangent_tensor::{
    Arithmetic, Array, Bounded, Code, DType, Error, Evaluate, Key, Node, Op, Tensor, bounded, topological,
};

use super::first::unchecked;
use super::lab::{Lab, Witnesses, coordinates};
use super::local::{Seen, Subject, check_orders, check_rules};
use super::program::{Point, Program};
use super::repeat::{Call, Function, Values, nondeterministic, past_the_call, past_the_graph, unstable};
use super::report::{Report, Undefined};
use crate::forms::{Inputs, Outputs};
use crate::pullback::undefined;
use crate::{State, grad};

/// Compares the derivatives of a function with independent witnesses: [`GradCheck::new().run(…)`](GradCheck::run) is
/// [`gradcheck`].
///
/// ```
/// use cotangent_autograd::{GradCheck, custom_gradient};
/// use cotangent_tensor::{Code, Reference, Tensor};
///
/// // Right at first order, but what is saved hides that it depends on x.
/// let cube = |x: &Tensor| custom_gradient("cube", [x], |[x]| {
///     let square = (&x * &x).detach();
///     (&x * &x * &x, move |upstream: Tensor| upstream * square * 3.0)
/// });
/// let x = Tensor::new([0.5, 2.0]);
/// let first = GradCheck::new().run(|[x]| cube(&x), [&x], &Reference::new())?;
/// assert!(first.is_ok(), "{first}");
/// let second = GradCheck::new().order(2).run(|[x]| cube(&x), [&x], &Reference::new())?;
/// assert_eq!(second.into_result().unwrap_err().code(), Code::RuleOrder);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[must_use]
pub struct GradCheck<'a> {
    orders: usize,
    directions: Option<usize>,
    seed: u64,
    slack: f64,
    forward: bool,
    fixed: Vec<usize>,
    device: Option<&'a dyn Evaluate>,
}

impl fmt::Debug for GradCheck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GradCheck { orders, directions, seed, slack, forward, fixed, .. } = self;
        let mut all = f.debug_struct("GradCheck");
        all.field("orders", orders).field("directions", directions).field("seed", seed);
        all.field("slack", slack).field("forward", forward).field("fixed", fixed).finish_non_exhaustive()
    }
}

impl Default for GradCheck<'_> {
    fn default() -> Self {
        GradCheck::new()
    }
}

impl<'a> GradCheck<'a> {
    /// First order, every element, both modes, bit for bit.
    pub fn new() -> GradCheck<'a> {
        GradCheck {
            orders: 1,
            directions: None,
            seed: 0,
            slack: 0.0,
            forward: true,
            fixed: Vec::new(),
            device: None,
        }
    }
    /// Checks derivatives up to this order (1 to 3): the gradient is differentiated again and compared in the same way.
    ///
    /// A surrogate is believed at first order, and the report has its distance from the derivative. From second order on
    /// its gradient is a function like any other: the derivative of that is compared with dual numbers and differences of
    /// the gradient as a plain program, without what it detaches. A gradient may apply a surrogate `s` again, as that of
    /// `s(x)²` does, which is `2 s(x)` times what `s` says: the derivative of such a value is what `s` says, too. A
    /// surrogate that is not linear in its cotangent, such as clipping, has no forward mode that could say it: derivatives
    /// of what depends on its value have no witness and are counted as unknown.
    pub fn order(mut self, order: usize) -> Self {
        self.orders = order;
        self
    }
    /// Compares along this many random directions, drawn from the seed, instead of along every element.
    pub fn directions(mut self, count: usize, seed: u64) -> Self {
        (self.directions, self.seed) = (Some(count), seed);
        self
    }
    /// Allows values and gradients to differ by this much from call to call, and so from what is expected of them.
    pub fn nondeterminism(mut self, tolerance: f64) -> Self {
        self.slack = tolerance;
        self
    }
    /// Whether forward mode is compared with reverse mode; it is unless this says no.
    pub fn forward(mut self, compare: bool) -> Self {
        self.forward = compare;
        self
    }
    /// Does not differentiate with respect to the input at this position.
    pub fn fixed(mut self, input: usize) -> Self {
        self.fixed.push(input);
        self
    }
    /// Compares the gradients that a device computes with the reference's, within its error bound.
    pub fn device(mut self, device: &'a dyn Evaluate) -> Self {
        self.device = Some(device);
        self
    }

    /// Checks `function` where `inputs` are: tensors of any shapes and types, in an array, a slice or a vector.
    /// `evaluator` computes in double precision: the reference, with values for the inputs of the graphs that `inputs` and
    /// `function` use.
    ///
    /// `function` is called several times, with new tensors that hold the numbers of `inputs` or numbers near them: an array
    /// of as many where `inputs` is one, else a vector. A closure that is written in the call needs no types; one that stands
    /// apart says what it takes, as `|[x, w]: [Tensor; 2]|` or `|all: Vec<Tensor>|`.
    ///
    /// Every custom rule is checked at the operands it has there: that it is linear in its cotangent, and that its
    /// gradient is the derivative of its forward graph. Then every output is, along every element of every float input
    /// (or random directions), against dual numbers of the program without rules and against five-point differences;
    /// forward mode is compared with reverse mode. Where the slopes on both sides of a point differ, it is a kink, which
    /// is reported and no fault. What the user cut with `detach` stays constant; integer inputs are ignored. Where an output
    /// has no derivative by an input because a rule declares so
    /// ([`without_derivative`](crate::CustomGradient::without_derivative)), nothing is compared and the report lists both.
    ///
    /// Half precision is too coarse for differences: a function of F16 values, or one that makes some on the way, is called
    /// with them, and then checked as the same graph in F32, its rules included, which the report says. What only rounding
    /// or the range of F16 does is not seen. A `device` gets the graph as it is.
    ///
    /// Errors: those of `inputs` and of `function`, unchanged; `E_USER_PANIC` if it panics; those of [`grad`], as
    /// `E_RULE_CAPTURE` for a rule that uses one of `inputs` itself; `E_NOT_DIFFERENTIABLE` without a float input or output,
    /// or if rules declare that no output has a derivative; `E_HYPERPARAMETER` for an order that is not offered;
    /// `E_FEATURE` for an evaluator of single precision; `E_CROSS_CHECK` if nothing could be compared.
    pub fn run<I: Inputs, O: Outputs>(
        &self,
        function: impl Fn(I::Traced) -> O,
        inputs: I,
        evaluator: &dyn Evaluate,
    ) -> Result<Report, Error> {
        let called = |given| function(inputs.traced(given)).tensors();
        unchecked(|| self.check(&called, None, &inputs.tensors(), evaluator))
    }
    /// [`run`](GradCheck::run), and compares shapes, types and values of the outputs with those of the function without custom
    /// rules that `function` stands for; both take what `inputs` give.
    ///
    /// ```
    /// use cotangent_autograd::{GradCheck, custom_gradient};
    /// use cotangent_tensor::{Code, Reference, Tensor};
    ///
    /// let half = |x: &Tensor| custom_gradient("half", [x], |[x]| (x * 0.5 + 1.0, |upstream: Tensor| upstream * 0.5));
    /// let x = Tensor::new([1.0, 2.0]);
    /// let report = GradCheck::new().run_with_plain(|[x]| half(&x), |[x]| x / 2.0, [&x], &Reference::new())?;
    /// assert_eq!(report.findings[0].code(), Code::RulePrimal);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    pub fn run_with_plain<I: Inputs, O: Outputs, P: Outputs>(
        &self,
        function: impl Fn(I::Traced) -> O,
        plain: impl Fn(I::Traced) -> P,
        inputs: I,
        evaluator: &dyn Evaluate,
    ) -> Result<Report, Error> {
        let called = |given| function(inputs.traced(given)).tensors();
        let expected = |given| plain(inputs.traced(given)).tensors();
        unchecked(|| self.check(&called, Some(&expected), &inputs.tensors(), evaluator))
    }

    fn check(
        &self,
        function: Function<'_>,
        plain: Option<Function<'_>>,
        given: &[Tensor],
        evaluator: &dyn Evaluate,
    ) -> Result<Report, Error> {
        if !(1..=3).contains(&self.orders) {
            let message = format!("order {} is not offered", self.orders);
            return Err(Error::new(Code::Hyperparameter, "gradcheck", message).hint("choose 1, 2 or 3"));
        }
        if self.directions == Some(0) {
            let error =
                Error::new(Code::Hyperparameter, "gradcheck", "along 0 directions nothing is compared");
            return Err(error.hint("choose at least one"));
        }
        if let Some(position) = self.fixed.iter().find(|&&position| position >= given.len()) {
            let message = format!("input {position} is fixed, and there are {}", given.len());
            return Err(Error::new(Code::Hyperparameter, "gradcheck", message).hint("inputs count from 0"));
        }
        double_precision(evaluator)?;
        let inputs = &Values::of(given, evaluator)?;
        let lab = Lab {
            evaluator,
            key: Key::new(self.seed).stream("gradcheck"),
            directions: self.directions,
            forward: self.forward,
            slack: self.slack,
            draws: Cell::new(0),
            witnesses: Witnesses::Either,
        };
        let moves =
            |position: usize| inputs.data[position].dtype().is_float() && !self.fixed.contains(&position);
        let moved: Vec<usize> = (0..inputs.data.len()).filter(|&position| moves(position)).collect();
        if moved.is_empty() {
            let message = format!("none of {} inputs needs a gradient", inputs.data.len());
            let error = Error::new(Code::NotDifferentiable, "gradcheck", message);
            return Err(error.hint("give at least one float input"));
        }
        let mut report = Report::default();
        let first = Call::new(function, inputs)?;
        let second = Call::new(function, inputs)?;
        if let Some(finding) = unstable(&first, &second)? {
            report.findings.push(finding);
            return Ok(report);
        }
        if !first.outputs.iter().any(|output| output.dtype().is_float()) {
            let message = format!("none of {} outputs is a float", first.outputs.len());
            return Err(Error::new(Code::NotDifferentiable, "gradcheck", message));
        }
        let (wide, half) = first.widened()?;
        report.widened = half;
        if let Some(finding) = nondeterministic(&lab, &wide, &second.widened()?.0)? {
            report.findings.push(finding);
            return Ok(report);
        }
        if let Some(finding) = past_the_call(given, &first)? {
            report.findings.push(finding);
            return Ok(report);
        }
        if let Some(finding) = past_the_graph(&lab, function, inputs, &first)? {
            report.findings.push(finding);
            return Ok(report);
        }
        report.undefined = undefined_by(&wide, &moved)?;
        let floats = wide.outputs.iter().filter(|output| output.dtype().is_float()).count();
        if let (true, Some(last)) = (report.undefined.len() == floats * moved.len(), report.undefined.last())
        {
            let message = format!("no output has a derivative, as `{}` declares", last.rule);
            let error = Error::new(Code::NotDifferentiable, "gradcheck", message);
            return Err(error.hint("give back an output that has one, too"));
        }
        if let Some(finding) = no_value(&lab, &wide, &moved, &report.undefined)? {
            report.findings.push(finding);
            return Ok(report);
        }
        if let Some(plain) = plain {
            let plain = Call::new(plain, inputs)?;
            report.findings.extend(other_primal(&lab, &first, &plain)?);
        }
        self.derivatives(&lab, &wide, inputs, &moved, &mut report)?;
        if let (Some(device), true) = (self.device, report.is_ok()) {
            on_device(&lab, device, &first, &moved, &mut report)?;
        }
        if report.is_ok() && report.compared.total() == 0 {
            let message = match report.compared.unknown {
                0 => "nothing was compared: no input has an element",
                _ => "nothing was compared: no witness knows any of the derivatives",
            };
            return Err(Error::new(Code::CrossCheck, "gradcheck", message));
        }
        Ok(report)
    }

    fn derivatives(
        &self,
        lab: &Lab<'_>,
        call: &Call,
        inputs: &Values,
        moved: &[usize],
        report: &mut Report,
    ) -> Result<(), Error> {
        let point = |&input: &usize| {
            let (tensor, base) = (call.inputs[input].clone(), inputs.data[input].clone());
            Point { input, tensor, base }
        };
        let points: Vec<Point> = moved.iter().map(point).collect();
        let floats = || call.outputs.iter().enumerate().filter(|(_, output)| output.dtype().is_float());
        let mut seen: Seen = Vec::new();
        for (_, output) in floats() {
            check_rules(lab, output, self.orders, &mut seen, report)?;
        }
        for (number, output) in floats() {
            // A wrong rule makes everything after it wrong as well, which says nothing new.
            if !report.is_ok() {
                return Ok(());
            }
            let subject = Subject {
                name: "gradcheck".to_string(),
                location: Some(output.node()?.location),
                output: number,
                inputs: inputs.names.iter().map(|name| name.as_deref().unwrap_or("x").to_string()).collect(),
                passed_over: Vec::new(),
                is_rule: false,
            };
            let undefined = |input| report.undefined.iter().any(|u| (u.output, u.input) == (number, input));
            let points: Vec<Point> = points.iter().filter(|p| !undefined(p.input)).cloned().collect();
            if points.is_empty() {
                continue;
            }
            let weights = lab.draw(output.shape())?;
            let program = Program::new(lab, output, weights, points, true)?;
            check_orders(lab, program, &subject, 1..=self.orders, &mut seen, report)?;
        }
        Ok(())
    }
}

/// Differences are worth nothing where the last half of the digits is lost.
fn double_precision(evaluator: &dyn Evaluate) -> Result<(), Error> {
    let fine = 1.0 + f64::EPSILON;
    let seen = evaluator.evaluate(&[&(Tensor::new(fine) * 1.0)])?;
    if seen.first().map(Array::scalar).transpose()?.is_some_and(|v| v.to_bits() == fine.to_bits()) {
        return Ok(());
    }
    let message = format!("`{}` does not compute in double precision", evaluator.name());
    Err(Error::new(Code::Feature, "gradcheck", message)
        .hint("check on the `Reference`, and give the device with `GradCheck::device`"))
}

/// What rules declare to have no derivative.
fn undefined_by(call: &Call, moved: &[usize]) -> Result<Vec<Undefined>, Error> {
    let mut found = Vec::new();
    let inputs: Vec<&Tensor> = moved.iter().map(|&input| &call.inputs[input]).collect();
    for (number, output) in call.outputs.iter().enumerate().filter(|(_, o)| o.dtype().is_float()) {
        let declares = |node: Arc<Node>| match node.op {
            Op::Project(slot) => undefined(&node, slot),
            _ => None,
        };
        let rules: Vec<Arc<str>> = topological([output.node()?]).into_iter().filter_map(declares).collect();
        if rules.is_empty() {
            continue;
        }
        let scalar = output.cast(DType::F32).sum(..);
        for (&input, gradient) in moved.iter().zip(grad(&scalar, &inputs)?) {
            if let State::NotDifferentiable { op } = gradient.state()
                && rules.iter().any(|rule| **rule == **op)
            {
                found.push(Undefined { output: number, input, rule: op.clone() });
            }
        }
    }
    Ok(found)
}

/// An output that is not finite has no derivative to compare.
fn no_value(
    lab: &Lab<'_>,
    call: &Call,
    moved: &[usize],
    undefined: &[Undefined],
) -> Result<Option<Error>, Error> {
    for (number, (output, values)) in call.outputs.iter().zip(lab.values(&call.outputs)?).enumerate() {
        if undefined.iter().filter(|u| u.output == number).count() == moved.len() {
            continue;
        }
        if let Some(element) = values.iter().position(|value| !value.is_finite()) {
            let (node, value) = (output.node()?, values[element]);
            let place = coordinates(&node.shape, element);
            let message =
                format!("output {number}, element {place:?} is {value:?}: no derivative can be compared");
            let error = Error::new(Code::Nonfinite, "gradcheck", message).at(node.location);
            return Ok(Some(error.hint("choose a point inside the domain of the function")));
        }
    }
    Ok(None)
}

/// Outputs that are not those of the plain function.
fn other_primal(lab: &Lab<'_>, with_rules: &Call, plain: &Call) -> Result<Option<Error>, Error> {
    let hint = "a rule's closure returns a pair: its outputs, then the closure that makes gradients; \
                what gradients need is captured, not returned";
    let error = |message: String| Error::new(Code::RulePrimal, "gradcheck", message).hint(hint);
    let (ours, theirs) = (&with_rules.outputs, &plain.outputs);
    if ours.len() != theirs.len() {
        let message = format!("{} outputs with rules, {} of the plain function", ours.len(), theirs.len());
        return Ok(Some(error(message)));
    }
    for (number, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let (a, b) = (a.node()?, b.node()?);
        if a.shape != b.shape || a.dtype != b.dtype {
            let message = format!(
                "output {number} is {} {} with rules, {} {} of the plain function",
                a.dtype, a.shape, b.dtype, b.shape
            );
            let error = error(message).at(a.location).shape("got", &a.shape).shape("expected", &b.shape);
            return Ok(Some(error));
        }
    }
    let (ours, theirs) = (with_rules.widened()?.0, plain.widened()?.0);
    Ok(lab.first_difference(&ours.outputs, &theirs.outputs)?.map(|(number, place, a, b)| {
        error(format!("output {number}, element {place:?} is {a:?} with rules, {b:?} of the plain function"))
    }))
}

/// Gradients as a device computes them, within the bound that the reference derives for any device.
fn on_device(
    lab: &Lab<'_>,
    device: &dyn Evaluate,
    call: &Call,
    moved: &[usize],
    report: &mut Report,
) -> Result<(), Error> {
    for (number, output) in call.outputs.iter().enumerate().filter(|(_, o)| o.dtype().is_float()) {
        let weights = Tensor::new(lab.draw(output.shape())?);
        let scalar = (output.cast(DType::F32) * weights).sum(..);
        let inputs: Vec<&Tensor> = moved.iter().map(|&input| &call.inputs[input]).collect();
        for (&input, gradient) in moved.iter().zip(grad(&scalar, inputs)?) {
            let State::Value(gradient) = gradient.state() else { continue };
            let node = gradient.node()?;
            let bound = bounds(lab, node)?;
            let got = device.evaluate(&[gradient])?;
            let Some(got) = got.first() else { continue };
            report.compared.device += bound.bound.iter().filter(|bound| bound.is_finite()).count();
            if let Some(found) = bound.first_violation(got) {
                let place = coordinates(&node.shape, found.element);
                let message = format!(
                    "gradient of output {number} by input {input} on `{}`, element {place:?}: got {:?}, the reference \
                     says {:?} ± {:e}",
                    device.name(),
                    found.got,
                    found.expected,
                    found.bound
                );
                report.findings.push(Error::new(Code::CrossCheck, "gradcheck", message).at(node.location));
            }
        }
    }
    Ok(())
}

fn bounds(lab: &Lab<'_>, node: &Arc<Node>) -> Result<Bounded, Error> {
    let mut given = HashMap::new();
    for source in topological([node]) {
        if let Op::Input(_) | Op::Variable(_) = source.op {
            let value = lab.evaluator.evaluate(&[&Tensor::from_node(source.clone())])?;
            given.extend(value.into_iter().next().map(|value| (source.key(), value)));
        }
    }
    let mut all = bounded(std::slice::from_ref(node), &given, &Arithmetic::specification())?;
    all.pop().ok_or_else(|| Error::new(Code::Internal, "gradcheck", "the reference gave no bound"))
}

/// Checks every derivative of `function` where `inputs` are against independent witnesses; see [`GradCheck::run`] for what
/// is compared, for what both may be, and for errors.
///
/// ```
/// use cotangent_autograd::{custom_gradient, gradcheck};
/// use cotangent_tensor::{Code, Reference, Tensor};
///
/// let scaled = |x: &Tensor, w: &Tensor, factor: f64| custom_gradient("scaled", [x, w], |[x, w]| {
///     (&x * &w, move |upstream: Tensor| [&upstream * w, upstream * x * factor])
/// });
/// let (x, w) = (Tensor::new([0.5, -1.0]), Tensor::new([3.0, 2.0]).named("w"));
/// let report = gradcheck(|[x, w]| scaled(&x, &w, 1.0), [&x, &w], &Reference::new())?;
/// assert!(report.is_ok() && report.compared.total() > 0, "{report}");
///
/// let report = gradcheck(|[x, w]| scaled(&x, &w, 1.1), [&x, &w], &Reference::new())?;
/// assert_eq!(report.findings[0].code(), Code::RuleWrong);
/// println!("{report}"); // custom gradient "scaled": output 0, input 1 `w`, element [1]: got -1.1, expected -1.0 …
///
/// // As many as there are: a slice or a vector.
/// let report = gradcheck(|all| Tensor::concat(&all.iter().collect::<Vec<_>>(), 0).exp(), vec![x, w], &Reference::new())?;
/// assert!(report.is_ok());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
pub fn gradcheck<I: Inputs, O: Outputs>(
    function: impl Fn(I::Traced) -> O,
    inputs: I,
    evaluator: &dyn Evaluate,
) -> Result<Report, Error> {
    GradCheck::new().run(function, inputs, evaluator)
}
