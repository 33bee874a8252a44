//! Calling a function again: the same shapes, the same numbers, and nothing that reached it past the graph.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cotangent_tensor::{
    Array, Code, DType, Detail, Error, Evaluate, InputGradient, Node, Op, Tensor, TracedRule, substitute,
    topological,
};

use super::lab::Lab;
use super::local::Alone;
use super::widen::widened;
use crate::enclosure::opened;

use crate::{State, grad};

/// The function under test.
pub(super) type Function<'a> = &'a dyn Fn(Vec<Tensor>) -> Vec<Tensor>;

/// Where a function is called: data, under the names that the user gave.
pub(super) struct Values {
    pub(super) data: Vec<Array>,
    pub(super) names: Vec<Option<String>>,
}

impl Values {
    /// Errors: the first of an invalid tensor; those of the evaluator.
    pub(super) fn of(given: &[Tensor], evaluator: &dyn Evaluate) -> Result<Values, Error> {
        let data = evaluator.evaluate(&given.iter().collect::<Vec<_>>())?;
        let name = |tensor: &Tensor| Ok(tensor.node()?.given_name().map(str::to_string));
        Ok(Values { data, names: given.iter().map(name).collect::<Result<_, Error>>()? })
    }
    /// New tensors that hold it, with other data at one position.
    fn tensors(&self, other: Option<(usize, Array)>) -> Vec<Tensor> {
        let mut data = self.data.clone();
        if let Some((position, array)) = other {
            data[position] = array;
        }
        let named = |(array, name): (Array, &Option<String>)| match name {
            Some(name) => Tensor::new(array).named(name),
            None => Tensor::new(array),
        };
        data.into_iter().zip(&self.names).map(named).collect()
    }
}

/// One call of the function: its inputs and what it made of them.
pub(super) struct Call {
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
}

impl Call {
    /// Errors: a panic of the function; the first error of an output, unchanged.
    pub(super) fn new(function: Function<'_>, inputs: &Values) -> Result<Call, Error> {
        Call::on(function, inputs.tensors(None))
    }
    fn on(function: Function<'_>, inputs: Vec<Tensor>) -> Result<Call, Error> {
        inputs.iter().try_for_each(|input| input.node().map(|_| ()))?;
        let outputs = catch_unwind(AssertUnwindSafe(|| function(inputs.clone()))).map_err(|payload| {
            let message = format!("the function panicked: {}", panic_message(payload.as_ref()));
            Error::new(Code::UserPanic, "gradcheck", message)
        })?;
        outputs.iter().try_for_each(|output| output.node().map(|_| ()))?;
        Ok(Call { inputs, outputs })
    }

    /// The same in full precision and without checkpoints, and whether anything in it was not in full precision.
    pub(super) fn widened(&self) -> Result<(Call, bool), Error> {
        let nodes = self.inputs.iter().chain(&self.outputs).map(|tensor| tensor.node().cloned());
        let (wide, half) = widened(&opened(nodes.collect::<Result<Vec<_>, _>>()?))?;
        let mut tensors = wide.into_iter().map(Tensor::from_node);
        let inputs = tensors.by_ref().take(self.inputs.len()).collect();
        Ok((Call { inputs, outputs: tensors.collect() }, half))
    }

    pub(super) fn nodes(&self) -> Result<Vec<Arc<Node>>, Error> {
        self.outputs.iter().map(|output| output.node().cloned()).collect()
    }

    /// Rules in order of evaluation.
    fn rules(&self) -> Result<Vec<Arc<Node>>, Error> {
        let all = topological(&self.nodes()?);
        Ok(all.into_iter().filter(|node| matches!(node.op, Op::Rule(_))).collect())
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}

/// Shapes or types that differ between two calls: of a rule if one is to blame, else of an output.
pub(super) fn unstable(first: &Call, second: &Call) -> Result<Option<Error>, Error> {
    let hint = "shapes and types may depend on shapes and types only, not on values or on earlier calls";
    for (a, b) in first.rules()?.iter().zip(second.rules()?) {
        if let (Op::Rule(one), Op::Rule(other)) = (&a.op, &b.op) {
            let forms =
                |rule: &TracedRule| rule.outputs.iter().map(|o| (o.shape, o.dtype)).collect::<Vec<_>>();
            if one.name == other.name && forms(one) != forms(other) {
                let text = |rule: &TracedRule| {
                    let all = rule.outputs.iter().map(|o| format!("{} {}", o.dtype, o.shape));
                    all.collect::<Vec<_>>().join(", ")
                };
                let message = format!("outputs {} in one call, {} in another", text(one), text(other));
                let error =
                    Error::new(Code::RuleUnstable, format!("custom gradient {:?}", one.name), message);
                return Ok(Some(error.at(a.location).hint(hint)));
            }
        }
    }
    let error = |message: String| Error::new(Code::RuleUnstable, "gradcheck", message).hint(hint);
    let (a, b) = (first.nodes()?, second.nodes()?);
    if a.len() != b.len() {
        let message = format!("{} outputs in one call, {} in another", a.len(), b.len());
        return Ok(Some(error(message)));
    }
    Ok(a.iter().zip(&b).enumerate().find_map(|(number, (a, b))| {
        let same = a.shape == b.shape && a.dtype == b.dtype;
        let message = format!(
            "output {number} is {} {} in one call, {} {} in another",
            a.dtype, a.shape, b.dtype, b.shape
        );
        let error = || error(message).at(a.location).shape("first", &a.shape).shape("second", &b.shape);
        (!same).then(error)
    }))
}

/// Numbers that differ between two calls by more than what is allowed, of outputs or of gradients.
pub(super) fn nondeterministic(lab: &Lab<'_>, first: &Call, second: &Call) -> Result<Option<Error>, Error> {
    let weights: Vec<Array> = first.nodes()?.iter().map(|o| lab.draw(&o.shape)).collect::<Result<_, _>>()?;
    let (a, b) = (Numbers::of(lab, first, &weights)?, Numbers::of(lab, second, &weights)?);
    let Some((what, element, one, other)) = a.differs(&b, lab.slack) else { return Ok(None) };
    let size = (one - other).abs();
    let message =
        format!("{what}, element {element}: {one:?} in one call, {other:?} in another, {size:e} apart");
    let finding = |operation: String| {
        Error::new(Code::RuleNondeterministic, operation, message)
            .with("first", Detail::Number(one))
            .with("second", Detail::Number(other))
            .hint(
                "draw random numbers from a `Key`, or allow the difference with `GradCheck::nondeterminism`",
            )
    };
    for (a, b) in first.rules()?.iter().zip(second.rules()?) {
        if changes(lab, a, &b)? {
            return Ok(Some(finding(format!("custom gradient {:?}", a.name())).at(a.location)));
        }
    }
    Ok(Some(finding("gradcheck".to_string())))
}

/// Whether two applications of a rule differ on the same operands and cotangents.
fn changes(lab: &Lab<'_>, a: &Arc<Node>, b: &Arc<Node>) -> Result<bool, Error> {
    let (Op::Rule(one), Op::Rule(other)) = (&a.op, &b.op) else { return Ok(false) };
    let shapes = |nodes: &[Arc<Node>]| nodes.iter().map(|n| (n.shape, n.dtype)).collect::<Vec<_>>();
    if shapes(&a.operands) != shapes(&b.operands) || shapes(&one.upstream) != shapes(&other.upstream) {
        return Ok(true);
    }
    let operands = Alone::new(lab, a)?.node.operands.clone();
    let mut upstream = Vec::new();
    for slot in &one.upstream {
        upstream.push(Tensor::new(lab.draw(&slot.shape)?).node()?.clone());
    }
    let numbers = |rule: &TracedRule| {
        let pulled = rule.pullbacks.first().map(|pullback| rule.pull_back(pullback, &operands, &upstream));
        let gradients: Vec<Arc<Node>> =
            pulled.iter().flatten().filter_map(InputGradient::value).cloned().collect();
        let made: Vec<Tensor> =
            rule.instantiate(&operands).into_iter().chain(gradients).map(Tensor::from_node).collect();
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        Ok::<_, Error>(lab.values(&made)?.into_iter().map(bits).collect::<Vec<_>>())
    };
    Ok(numbers(one)? != numbers(other)?)
}

/// Values and gradients of a call.
struct Numbers(Vec<(String, Vec<f64>)>);

impl Numbers {
    fn of(lab: &Lab<'_>, call: &Call, weights: &[Array]) -> Result<Numbers, Error> {
        let (mut names, mut tensors) = (Vec::new(), Vec::new());
        let floats: Vec<(usize, &Tensor)> =
            call.inputs.iter().enumerate().filter(|(_, input)| input.dtype().is_float()).collect();
        for (number, (output, weights)) in call.outputs.iter().zip(weights).enumerate() {
            names.push(format!("output {number}"));
            tensors.push(output.clone());
            if !output.dtype().is_float() {
                continue;
            }
            let scalar = (output.cast(DType::F32) * Tensor::new(weights.clone())).sum(..);
            let wrt: Vec<&Tensor> = floats.iter().map(|(_, input)| *input).collect();
            for ((input, _), gradient) in floats.iter().zip(grad(&scalar, wrt)?) {
                if let State::Value(gradient) = gradient.state() {
                    names.push(format!("gradient of output {number} by input {input}"));
                    tensors.push(gradient.clone());
                }
            }
        }
        Ok(Numbers(names.into_iter().zip(lab.values(&tensors)?).collect()))
    }

    /// The first difference: what, which element, both values.
    fn differs(&self, other: &Numbers, slack: f64) -> Option<(String, usize, f64, f64)> {
        self.0.iter().zip(&other.0).find_map(|((name, a), (other_name, b))| {
            if name != other_name {
                return Some((format!("{name} or {other_name}"), 0, f64::NAN, f64::NAN));
            }
            let pairs = a.iter().zip(b).enumerate();
            let mut different = pairs.filter(|(_, (a, b))| a.to_bits() != b.to_bits());
            // NaN differs from everything, whatever is allowed.
            let found = different.find(|(_, (a, b))| (**a - **b).abs() > slack || a.is_nan() != b.is_nan());
            found.map(|(element, (a, b))| (name.clone(), element, *a, *b))
        })
    }
}

/// Outputs that depend on a given tensor itself, which stays what it is when the argument that stands for it moves.
pub(super) fn past_the_call(given: &[Tensor], call: &Call) -> Result<Option<Error>, Error> {
    let floats: Vec<(usize, &Tensor)> =
        given.iter().enumerate().filter(|(_, input)| input.dtype().is_float()).collect();
    for (number, output) in call.outputs.iter().enumerate().filter(|(_, o)| o.dtype().is_float()) {
        let scalar = output.cast(DType::F32).sum(..);
        let gradients = grad(&scalar, floats.iter().map(|(_, input)| *input).collect::<Vec<_>>())?;
        let uses = |state: &State| !matches!(state, State::Unconnected | State::Stopped { .. });
        if let Some(at) = gradients.iter().position(|gradient| uses(gradient.state())) {
            let (position, input) = floats[at];
            let message =
                format!("output {number} depends on input {position} past what the closure is given");
            let error = Error::new(Code::Unconnected, "gradcheck", message).at(input.node()?.location);
            return Ok(Some(error.hint(
                "compute with the closure's argument, or `detach` the tensor where its value is meant",
            )));
        }
    }
    Ok(None)
}

/// Numbers that reach an output past the graph: the function is called at other inputs, and its outputs are compared
/// with those of the first graph there. The same for shapes that change with values.
pub(super) fn past_the_graph(
    lab: &Lab<'_>,
    function: Function<'_>,
    inputs: &Values,
    first: &Call,
) -> Result<Option<Error>, Error> {
    let graph = first.widened()?.0;
    let floats = inputs.data.iter().enumerate().filter(|(_, input)| input.dtype().is_float());
    for (position, input) in floats {
        // Close enough to stay in the same branch of most functions.
        let shift: Vec<f64> = lab.draw(input.shape())?.to_f64();
        let near = |(x, s): (&f64, f64)| x + s * (x.abs() + 1.0) / 1024.0;
        let moved: Vec<f64> = input.to_f64().iter().zip(shift).map(near).collect();
        let moved = Array::new(moved, input.shape())?.with_dtype(input.dtype());
        let there = Call::on(function, inputs.tensors(Some((position, moved))))?;
        if let Some(finding) = unstable(first, &there)? {
            return Ok(Some(finding));
        }
        let there = there.widened()?.0;
        let image = there.inputs[position].node()?.clone();
        let images = HashMap::from([(graph.inputs[position].node()?.identity(), image)]);
        let expected: Vec<Tensor> =
            substitute(&graph.nodes()?, &images).into_iter().map(Tensor::from_node).collect();
        if let Some((output, place, called, expected)) = lab.first_difference(&there.outputs, &expected)? {
            let message = format!(
                "input {position} reaches output {output} past the graph: where it is moved, element {place:?} is \
                 {called:?}, but {expected:?} by the graph of the first call"
            );
            let error = Error::new(Code::Unconnected, "gradcheck", message)
                .hint("compute with the tensor, not with a value that was read from it");
            return Ok(Some(error));
        }
    }
    Ok(None)
}
