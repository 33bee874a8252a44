//! The reference: the unfused graph, node by node, in f64. Slow on purpose, and the oracle of everything faster.
//!
//! [`Reference`] computes values. [`bounded`] computes values together with a running error bound: how far a correct
//! device may be from them. Both see only the graph, never a kernel.

mod bound;
mod elementwise;
mod looped;
mod rows;
mod structure;
mod value;
mod walk;

use std::collections::HashMap;
use std::rc::Rc;

pub use bound::{Arithmetic, Bounded, Chain, Violation, bounded};
use walk::Meaning;

use crate::random::random_words;
use crate::{Array, Code, DType, Error, Evaluate, Node, Op, Rounding, Tensor, Token};

/// Evaluates tensors in f64 on the host, with values for inputs, variables and placeholders.
///
/// Host data and constants of type F32 keep their f64 digits, so results have about fifteen of them; integers are exact
/// and wrap around; F16 is rounded where it is stored (leaves and casts).
///
/// ```
/// use cotangent_tensor::{DType, Evaluate, Reference, Tensor};
///
/// let x = Tensor::input("x", [3], DType::F32);
/// let loss = (&x * &x).sum(..);
/// let reference = Reference::new().bind(&x, [1.0, 2.0, 3.0])?;
/// assert_eq!(reference.evaluate(&[&loss])?[0].scalar()?, 14.0);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reference {
    bindings: HashMap<u64, Array>,
    rounded: bool,
}

impl Reference {
    /// Without values for inputs; keeps all digits.
    pub fn new() -> Reference {
        Reference::default()
    }
    /// Rounds host data and constants of type F32 to f32 once, as devices do at upload; still computes in f64.
    pub fn rounded() -> Reference {
        Reference { rounded: true, ..Reference::default() }
    }
    /// Gives a value to an input, a variable or a placeholder.
    ///
    /// Errors: [`Code::ShapeChanged`], [`Code::Dtype`] if the array does not fit; [`Code::Unbound`] if `tensor` is
    /// computed; that of an invalid tensor.
    pub fn bind(mut self, tensor: &Tensor, value: impl Into<Array>) -> Result<Reference, Error> {
        let (node, value) = (tensor.node()?, value.into());
        let (Op::Input(token) | Op::Variable(token) | Op::Placeholder(token)) = &node.op else {
            let message = format!("`{}` is no input, variable or placeholder", node.name());
            return Err(Error::new(Code::Unbound, "bind", message).at(node.location));
        };
        if let Some(error) = value.error() {
            return Err(error.clone().within(format!("in the value of `{}`", token.name)).at(node.location));
        }
        if *value.shape() != node.shape {
            let message =
                format!("`{}` has shape {}, the value has shape {}", token.name, node.shape, value.shape());
            return Err(Error::new(Code::ShapeChanged, "bind", message)
                .shape("expected", &node.shape)
                .shape("got", value.shape())
                .at(node.location));
        }
        if value.dtype() != node.dtype && !(value.dtype().is_float() && node.dtype.is_float()) {
            let message = format!("`{}` is {}, the value is {}", token.name, node.dtype, value.dtype());
            return Err(Error::new(Code::Dtype, "bind", message).at(node.location));
        }
        self.bindings.insert(token.id, value.with_dtype(node.dtype));
        Ok(self)
    }
}

impl Evaluate for Reference {
    fn name(&self) -> String {
        "reference".to_string()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        let outputs = tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let values = walk::walk(self, &outputs, &HashMap::new())?;
        outputs
            .iter()
            .zip(values)
            .map(|(node, value): (_, Rc<Vec<f64>>)| value::to_array(&value, node.shape, node.dtype))
            .collect()
    }
}

impl Meaning for Reference {
    type Value = Vec<f64>;

    fn bound(&self, node: &Node, token: &Token) -> Result<Vec<f64>, Error> {
        let array = self.bindings.get(&token.id).ok_or_else(|| walk::unbound(node, token))?;
        if *array.shape() != node.shape {
            // Two tensors may share a token; one value serves both only if they agree.
            let message = format!(
                "`{}` has shape {} here, its value has shape {}",
                token.name,
                node.shape,
                array.shape()
            );
            return Err(Error::new(Code::ShapeChanged, "reference", message).at(node.location));
        }
        Ok(value::from_array(array, node.dtype, self.rounded))
    }
    fn compute(&self, node: &Node, operands: &[&Vec<f64>]) -> Result<Vec<f64>, Error> {
        if let Op::While(inner, output) = &node.op {
            let result = looped::looped(self, inner, *output, operands);
            return result.map_err(|e| if e.location().is_some() { e } else { e.at(node.location) });
        }
        let operands: Vec<&[f64]> = operands.iter().map(|o| o.as_slice()).collect();
        compute(node, &operands, self.rounded)
    }
}

/// The value of a node in f64 from those of its operands; `round` rounds F32 sources to f32.
fn compute(node: &Node, operands: &[&[f64]], round: bool) -> Result<Vec<f64>, Error> {
    let shape = |operand: usize| &node.operands[operand].shape;
    let dtype = |operand: usize| node.operands[operand].dtype;
    Ok(match &node.op {
        Op::Leaf(array) => value::from_array(array, node.dtype, round),
        Op::Constant(scalar) => {
            vec![value::stored(scalar.as_f64(), node.dtype, round); node.shape.elements()]
        }
        Op::Iota { axis } => structure::iota(&node.shape, *axis),
        Op::RandomBits(key) => {
            let step = value::to_word(operands[0][0], DType::U32);
            random_words(*key, step, node.shape.elements()).into_iter().map(f64::from).collect()
        }
        Op::Elementwise(row) => elementwise::row(*row, operands),
        Op::Integer(row) => elementwise::integer(*row, dtype(operands.len() - 1), operands),
        Op::Cast => operands[0].iter().map(|&x| elementwise::cast(x, dtype(0), node.dtype)).collect(),
        Op::Reshape
        | Op::Permute(_)
        | Op::Broadcast
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat(_)
        | Op::Detach
        | Op::After
        | Op::Inspect(_) => structure::moved(node, operands).unwrap_or_default(),
        Op::Reduce { kind, axes } => rows::reduce(*kind, axes, node, operands[0]),
        Op::ArgReduce { maximum, axis } => rows::arg_reduce(operands[0], shape(0), *axis, *maximum),
        Op::CumulativeSum { axis, reverse } => rows::cumulative_sum(operands[0], shape(0), *axis, *reverse),
        Op::Matmul => rows::matmul(node, operands[0], operands[1]),
        Op::Gather(axis) => {
            let indices = structure::indices(node, operands[1], dtype(1), shape(0)[*axis])?;
            structure::gathered(operands[0], shape(0), *axis, &indices)
        }
        Op::ScatterAdd(axis) => {
            let indices = structure::indices(node, operands[0], dtype(0), node.shape[*axis])?;
            structure::scattered(operands[1], shape(1), *axis, &indices, node.shape[*axis])
        }
        Op::LogSumExp => rows::Rows::last(operands[0], shape(0)).iter().map(rows::logsumexp).collect(),
        Op::Softmax => rows::Rows::last(operands[0], shape(0)).iter().flat_map(rows::softmax).collect(),
        Op::CrossEntropy | Op::SoftmaxResidual => {
            let logits = rows::Rows::last(operands[0], shape(0));
            let labels = structure::indices(node, operands[1], dtype(1), logits.length)?;
            let rows = logits.iter().zip(labels);
            if matches!(node.op, Op::CrossEntropy) {
                rows.map(|(row, label)| rows::cross_entropy(row, label)).collect()
            } else {
                rows.flat_map(|(row, label)| rows::softmax_residual(row, label)).collect()
            }
        }
        Op::Kernel(kernel) => {
            kernel.meaning.run(kernel, operands, Rounding::Exact).map_err(|error| error.at(node.location))?
        }
        Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) => {
            return Err(walk::unbound(node, token));
        }
        Op::Rule(_) | Op::Project(_) | Op::While(..) => {
            let message = format!("`{}` was not entered", node.name());
            return Err(Error::new(Code::Internal, "reference", message).at(node.location));
        }
    })
}
