//! Loops whose rounds are counted when they run: per element, from a condition and a next state that are graphs.

use std::collections::HashSet;
use std::sync::Arc;

use crate::{At, Code, DType, Error, Node, Op, Shape, Tensor, topological};

/// Most rounds of a loop that says nothing else.
pub const DEFAULT_ROUNDS: u32 = 65_535;

/// A loop on numbers: `while condition(state, captured) { state = next(state, captured) }`.
///
/// Condition and next state are graphs of scalars on placeholders, like the graphs of a [`TracedRule`](crate::TracedRule), and hold
/// nothing but rows of the operation tables, casts, rules and other loops. Applied to tensors a loop runs for every element by itself.
#[derive(Clone, Debug)]
pub struct WhileLoop {
    /// What messages call it.
    pub name: String,
    /// Placeholders of the values that change from round to round.
    pub carried: Vec<Arc<Node>>,
    /// Placeholders of the values that stay.
    pub captured: Vec<Arc<Node>>,
    /// Whether there is another round.
    pub condition: Arc<Node>,
    /// The state after a round, in the order of `carried`.
    pub next: Vec<Arc<Node>>,
    /// More rounds than this are an error.
    pub rounds: u32,
}

impl WhileLoop {
    /// Checks the graphs of a loop. Placeholders are those that `carried` and `captured` were traced on.
    ///
    /// Errors: [`Code::Dtype`] for a condition that is no truth value, for a next state of another type than the state, and for half
    /// precision; [`Code::LoopBody`] for what is not computed per element; [`Code::RuleCapture`] for a value that is neither state nor
    /// captured; that of an invalid tensor.
    pub fn new(
        name: impl Into<String>,
        rounds: u32,
        (carried, captured): (&[Tensor], &[Tensor]),
        condition: &Tensor,
        next: &[Tensor],
    ) -> Result<Arc<WhileLoop>, Error> {
        let nodes =
            |tensors: &[Tensor]| tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>();
        let name = name.into();
        let (carried, captured) = (nodes(carried)?, nodes(captured)?);
        let (condition, next) = (condition.node()?.clone(), nodes(next)?);
        let wrong =
            |code: Code, message: String, at: &Node| Err(Error::new(code, &name, message).at(at.location));
        if condition.dtype != DType::Bool {
            let message = format!("the condition is {}, not a truth value", condition.dtype);
            return wrong(Code::Dtype, message, &condition);
        }
        if carried.len() != next.len() {
            let message = format!("{} values go into a round, and {} come out", carried.len(), next.len());
            return wrong(Code::LoopBody, message, &condition);
        }
        for (before, after) in carried.iter().zip(&next) {
            if before.dtype != after.dtype {
                let message =
                    format!("`{}` is {}, and {} after a round", before.called(), before.dtype, after.dtype);
                return wrong(Code::Dtype, message, after);
            }
        }
        if let Some(half) = carried.iter().chain(&captured).find(|node| node.dtype == DType::F16) {
            return wrong(Code::Dtype, format!("`{}` is F16: loops compute in F32", half.called()), half);
        }
        let known: HashSet<*const ()> = carried.iter().chain(&captured).map(Node::identity).collect();
        for node in topological(next.iter().chain([&condition])) {
            let is_scalar = node.shape == Shape::SCALAR || matches!(node.op, Op::Rule(_));
            match &node.op {
                Op::Placeholder(_) if known.contains(&node.identity()) => {}
                Op::Placeholder(_) | Op::Input(_) | Op::Variable(_) => {
                    let message = format!("`{}` is neither state nor captured", node.called());
                    return wrong(Code::RuleCapture, message, &node);
                }
                Op::Constant(_) | Op::Elementwise(_) | Op::Integer(_) | Op::Cast | Op::While(..)
                    if is_scalar => {}
                Op::Rule(_) | Op::Project(_) | Op::Detach | Op::After | Op::Reshape | Op::Broadcast
                    if is_scalar => {}
                _ => {
                    let message =
                        format!("`{}` {} is not computed element by element", node.name(), node.shape);
                    return wrong(Code::LoopBody, message, &node);
                }
            }
        }
        Ok(Arc::new(WhileLoop { name, carried, captured, condition, next, rounds }))
    }

    /// The state when the loop has ended, one tensor for each carried value; operands broadcast against each other.
    ///
    /// Invalid with [`Code::Dtype`] for an operand of another type than its placeholder, [`Code::Broadcast`] for shapes that do not
    /// broadcast. An element that would go on after [`WhileLoop::rounds`] is an error when the loop is run ([`Code::LoopRounds`]).
    pub fn apply_at(self: &Arc<Self>, at: At, initial: &[Tensor], captured: &[Tensor]) -> Vec<Tensor> {
        match self.applied(at, initial, captured) {
            Ok(outputs) => outputs,
            Err(error) => {
                let error = if error.location().is_some() { error } else { error.at(at) };
                vec![Tensor::invalid(error); self.carried.len()]
            }
        }
    }
    fn applied(
        self: &Arc<Self>,
        at: At,
        initial: &[Tensor],
        captured: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        let parameters = || self.carried.iter().chain(&self.captured);
        let given = initial.len() + captured.len();
        if initial.len() != self.carried.len() || given != parameters().count() {
            let message = format!("{given} operands for {} values", parameters().count());
            return Err(Error::new(Code::LoopBody, &self.name, message));
        }
        let mut shape = Shape::SCALAR;
        for (tensor, parameter) in initial.iter().chain(captured).zip(parameters()) {
            let node = tensor.node()?;
            if node.dtype != parameter.dtype {
                let message = format!(
                    "`{}` is {}, and the operand is {}",
                    parameter.called(),
                    parameter.dtype,
                    node.dtype
                );
                return Err(Error::new(Code::Dtype, &self.name, message));
            }
            shape = shape.broadcast(&node.shape).map_err(|_| {
                let message = format!("shapes {shape} and {} do not broadcast", node.shape);
                Error::new(Code::Broadcast, &self.name, message)
                    .shape("left", &shape)
                    .shape("right", &node.shape)
            })?;
        }
        let mut operands = Vec::new();
        for tensor in initial.iter().chain(captured) {
            operands.push(tensor.broadcast_at(at, &shape)?.node()?.clone());
        }
        let output = |(position, value): (usize, &Arc<Node>)| {
            Tensor::build(at, Op::While(self.clone(), position), operands.clone(), shape, value.dtype)
        };
        Ok(self.carried.iter().enumerate().map(output).collect())
    }
}

impl Tensor {
    /// A loop that every element runs by itself as long as its condition holds: `body` is called once, on scalars that stand for the
    /// state and for the captured values, and gives the condition for another round and the state after it. Gives the last state.
    ///
    /// Derivatives of every order exist. They are those of the rounds that were run, computed beside them (forward mode), so a gradient
    /// with respect to `n` operands costs about `n + 1` times the loop. State and captured values are F32, I32, U32 or Bool; bodies hold
    /// operations on single numbers only, such as rows of the operation tables, casts, custom gradients and other loops.
    ///
    /// An element that would go on after `rounds` rounds is an error of the run, `AD044`. Invalid as [`WhileLoop::new`] and
    /// [`WhileLoop::apply_at`] say.
    ///
    /// ```
    /// use cotangent_tensor::{Evaluate, Reference, Tensor};
    ///
    /// // the square root by Heron's rule
    /// let a = Tensor::new([9.0, 2.0]);
    /// let root = Tensor::while_loop("heron", 100, &[&a], &[&a], |state, captured| {
    ///     let (x, a) = (&state[0], &captured[0]);
    ///     ((x * x - a).abs().gt(a * 1e-6), vec![(x + a / x) * 0.5])
    /// });
    /// let values = Reference::new().evaluate(&[&root[0]])?[0].to_f64();
    /// assert!((values[0] - 3.0).abs() < 1e-6 && (values[1] - 2f64.sqrt()).abs() < 1e-6);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    #[track_caller]
    pub fn while_loop(
        name: &str,
        rounds: u32,
        initial: &[&Tensor],
        captured: &[&Tensor],
        body: impl FnOnce(&[Tensor], &[Tensor]) -> (Tensor, Vec<Tensor>),
    ) -> Vec<Tensor> {
        let at = std::panic::Location::caller();
        let traced = || {
            let stand_in = |kind: &str, tensors: &[&Tensor]| {
                let one = |(i, tensor): (usize, &&Tensor)| {
                    let node = tensor.node()?;
                    let name = node.given_name().map_or_else(|| format!("{kind}_{i}"), str::to_owned);
                    Ok(Tensor::placeholder(&name, Shape::SCALAR, node.dtype))
                };
                tensors.iter().enumerate().map(one).collect::<Result<Vec<_>, Error>>()
            };
            let (state, kept) = (stand_in("state", initial)?, stand_in("captured", captured)?);
            let (condition, next) = body(&state, &kept);
            WhileLoop::new(name, rounds, (&state, &kept), &condition, &next)
        };
        let owned = |tensors: &[&Tensor]| tensors.iter().map(|&tensor| tensor.clone()).collect::<Vec<_>>();
        match traced() {
            Ok(traced) => traced.apply_at(at, &owned(initial), &owned(captured)),
            Err(error) => {
                let error = if error.location().is_some() { error } else { error.at(at) };
                vec![Tensor::invalid(error); initial.len()]
            }
        }
    }
}
