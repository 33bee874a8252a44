//! Batching: a function of one example, applied to many at once. A transformation from graph to graph.

mod operation;
mod random;
mod rule;
mod sweep;

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use cotangent_tensor::{Code, Detail, Error, Node, Op, Shape, Tensor, Token};

use crate::forms::{Inputs, Outputs};
use crate::tracer::{input_name, panic_message, tensors};
use sweep::sweep;

/// `function` of every example: element `i` along the first axis of each output is `function` of the elements
/// `i` along the first axes of `inputs`.
///
/// Shapes: every input `[batch, …]`, floats, integers or truth values; `function` gets `[…]` and is called
/// once; an output `[…]` of it becomes `[batch, …]`. What `function` captures is shared by all examples,
/// stays as it is and can be differentiated with respect to: `x.matmul(&w)` of vectors `x` becomes one
/// product `[batch, in] × [in, out]`. Batched functions can be batched and differentiated like any others,
/// and derivatives may be taken inside.
///
/// A custom rule stays a rule and sees one example at a time, in values and in cotangents. A captured operand
/// gets the sum of what the rule gives it for each example. A rule that no example enters is applied once, to
/// the sum of cotangents.
///
/// Random numbers are a function of key, step and shape, here as everywhere: a draw is the same for every
/// example unless its step is that of an example. So `x.dropout(key, &step, 0.5)` drops other elements of each
/// example where `step` comes from an input that holds as many different numbers as there are examples.
///
/// A mistake makes the outputs invalid: the first error of an input; `E_AXIS` for a scalar or no input at
/// all; `E_BROADCAST` for first axes of different lengths; `E_RANK` where something inside has eight
/// dimensions already, `E_TOO_LARGE`; `E_USER_PANIC`; any error of a tensor built inside.
///
/// ```
/// use cotangent_autograd::{batch, grad};
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let w = Tensor::new([[1.0, 0.0], [2.0, -1.0]]);
/// let x = Tensor::new([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// // Written for one vector, without a thought of batches.
/// let y = batch([&x], |[x]| x.matmul(&w).tanh().sum(..));
/// assert_eq!(y.shape()[..], [3]);
///
/// let dw = grad(&y.sum(..), &w)?.or_error()?;
/// let one_by_one = (0..3).map(|i| x.slice(0, i, i + 1, 1).reshape([2]).matmul(&w).tanh().sum(..));
/// let sum = one_by_one.reduce(|a, b| a + b).unwrap();
/// let expected = grad(&sum, &w)?.or_error()?;
/// let difference = Reference::new().evaluate(&[&(dw - expected).abs().max_over(..)])?[0].scalar()?;
/// assert!(difference <= 8.0 * f64::EPSILON);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn batch<I: Inputs, O: Outputs>(inputs: I, function: impl FnOnce(I::Traced) -> O) -> O {
    let examples = match Examples::new("batch", &inputs.tensors(), Location::caller()) {
        Ok(examples) => examples,
        Err(error) => return unbatched(&inputs, error, function),
    };
    match examples.guarded(|| function(inputs.traced(examples.tensors()))) {
        Ok(traced) => {
            let outputs = traced.tensors();
            examples.batched(&outputs).map_or_else(|error| O::invalid(error, outputs.len()), O::applied)
        }
        Err(error) => O::invalid(error, 1),
    }
}

/// Invalid outputs for inputs that cannot be batched. Where only the closure knows how many, it is asked.
fn unbatched<I: Inputs, O: Outputs>(inputs: &I, error: Error, function: impl FnOnce(I::Traced) -> O) -> O {
    let invalid = || vec![Tensor::invalid(error.clone()); inputs.tensors().len()];
    let asked = || function(inputs.traced(invalid())).tensors().len();
    let count = if O::OPEN { catch_unwind(AssertUnwindSafe(asked)).unwrap_or(1) } else { 1 };
    O::invalid(error, count)
}

/// The inputs of a batched function, and the placeholders that stand for one example of them.
pub(crate) struct Examples {
    operation: &'static str,
    at: &'static Location<'static>,
    size: usize,
    inputs: Vec<Arc<Node>>,
    placeholders: Vec<Arc<Node>>,
    /// Lives while the closure runs.
    _scope: Arc<()>,
}

impl Examples {
    /// Errors: those of the inputs; `E_AXIS` and `E_BROADCAST` unless their first axes are of one length.
    pub(crate) fn new(
        operation: &'static str,
        inputs: &[Tensor],
        at: &'static Location<'static>,
    ) -> Result<Examples, Error> {
        let inputs = inputs.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let size = common_length(operation, &inputs).map_err(|e| e.at(at))?;
        let scope = Arc::new(());
        let one = |(position, input): (usize, &Arc<Node>)| {
            let token = Token::argument(input_name(position, input), &scope);
            placeholder(token, input.shape.without(&[0]), input)
        };
        let placeholders = inputs.iter().enumerate().map(one).collect();
        Ok(Examples { operation, at, size, inputs, placeholders, _scope: scope })
    }
    /// One example of each input.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        tensors(&self.placeholders)
    }
    /// Runs a closure of the user's; a panic becomes an error.
    pub(crate) fn guarded<T>(&self, closure: impl FnOnce() -> T) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
            let message = format!("its closure panicked: {}", panic_message(payload.as_ref()));
            Error::new(Code::UserPanic, self.operation, message).at(self.at)
        })
    }
    /// What the closure made of one example, for all of them.
    pub(crate) fn batched(&self, outputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        self.transformed(outputs).map_err(|error| {
            let (operation, at) = (self.operation, self.at);
            error.within(format!("in `{operation}` at {}:{}:{}", at.file(), at.line(), at.column()))
        })
    }
    fn transformed(&self, outputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let roots = outputs.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let examples = self.placeholders.iter().map(Node::identity);
        let images = sweep(roots, examples.zip(self.inputs.iter().cloned()).collect(), self.size)?;
        images.iter().map(|image| image.spread(self.size).map(Tensor::from_node)).collect()
    }
}

/// The length of the first axis of all inputs.
fn common_length(operation: &str, inputs: &[Arc<Node>]) -> Result<usize, Error> {
    let Some(first) = inputs.first() else {
        return Err(Error::new(Code::Axis, operation, "without an input there is no axis of examples"));
    };
    for (position, input) in inputs.iter().enumerate() {
        let name = input_name(position, input);
        let Some(&length) = input.shape.first() else {
            let message = format!("input {position} `{name}` is a scalar and has no axis of examples");
            let error = Error::new(Code::Axis, operation, message);
            return Err(error
                .with("input", Detail::Integer(position as i64))
                .hint("capture what all examples share"));
        };
        if length != first.shape[0] {
            let message = format!(
                "input {position} `{name}` {} holds {length} examples, but input 0 `{}` {} holds {}",
                input.shape,
                input_name(0, first),
                first.shape,
                first.shape[0]
            );
            let error = Error::new(Code::Broadcast, operation, message);
            return Err(error.shape("first", &first.shape).shape("other", &input.shape));
        }
    }
    Ok(first.shape[0])
}

/// A placeholder of the element type and line of another node.
fn placeholder(token: Arc<Token>, shape: Shape, like: &Node) -> Arc<Node> {
    let Node { dtype, location, .. } = *like;
    let op = Op::Placeholder(token);
    let origin = like.origin.clone();
    Arc::new(Node { op, operands: Vec::new(), shape, dtype, location, label: None, origin })
}

/// A shape with the axis of examples in front.
fn led(shape: &Shape, size: usize) -> Result<Shape, Error> {
    Shape::new(&[&[size], &shape[..]].concat())
}
