//! Losses over so many classes that not all logits fit into memory.

use std::panic::Location;

use cotangent_autograd::Checkpoint;
use cotangent_tensor::{Code, Error, Node, Tensor};

use super::{At, Reduction, checked, integer_labels, not_float, on_host, outside};

/// Cross entropy of the logits `hidden · weight + bias` against integer labels `[n]`, with `hidden` `[n, features]`, `weight`
/// `[features, classes]` and `bias` `[classes]`, computed `rows` rows at a time, per row.
///
/// No more than `rows · classes` logits exist at any time, in either pass: what the derivative needs of them is computed again. This costs
/// one matrix product more than the plain form, and saves `n · classes` numbers.
///
/// Derivatives: those of [`cross_entropy`](super::cross_entropy) through the product, of every order. Domain: `rows ≥ 1`. Labels outside
/// the classes are `E_INDEX`. Error: that of [`cross_entropy`](super::cross_entropy) and of a product of matrices. Source: Wijmans et
/// al., Cut Your Losses in Large-Vocabulary Language Models, ICLR (2025), which also goes without the logits.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (hidden, weight) = (Tensor::ones([3, 2]), Tensor::zeros([2, 4]));
/// let labels = Tensor::new([0, 3, 1]);
/// let loss = losses::linear_cross_entropy(&hidden, &weight, None, &labels, 2, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 4f64.ln());
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    labels: &Tensor,
    rows: usize,
    reduction: Reduction,
) -> Tensor {
    let name = "linear_cross_entropy";
    let at = Location::caller();
    checked(at, || {
        for (role, tensor) in [("hidden", Some(hidden)), ("weight", Some(weight)), ("bias", bias)] {
            if let Some(tensor) = tensor
                && !tensor.node()?.dtype.is_float()
            {
                return Err(not_float(name, role, tensor.dtype()));
            }
        }
        integer_labels(name, labels)?;
        let (&[count, _], &[_, classes]) = (&hidden.shape()[..], &weight.shape()[..]) else {
            let message =
                format!("hidden {} and weight {} are not both matrices", hidden.shape(), weight.shape());
            return Err(Error::new(Code::MatmulDim, name, message));
        };
        for (role, tensor, size) in [("labels", Some(labels), count), ("bias", bias, classes)] {
            if let Some(tensor) = tensor
                && tensor.shape()[..] != [size]
            {
                let message = format!("{role} {} must be [{size}]", tensor.shape());
                return Err(Error::new(Code::Broadcast, name, message).shape(role, tensor.shape()));
            }
        }
        if rows == 0 {
            return Err(Error::new(Code::Hyperparameter, name, "rows = 0 is not at least 1"));
        }
        outside(name, &on_host(labels).unwrap_or_default(), classes)?;
        // Each chunk hands weight and bias on to the next one when its loss is known; on the way back, it is computed again when
        // what those behind it add to their gradients is known. So chunks follow each other in either pass.
        let mut shared: Vec<Tensor> = std::iter::once(weight).chain(bias).cloned().collect();
        let mut parts = Vec::new();
        for from in (0..count.max(1)).step_by(rows) {
            let to = count.min(from.saturating_add(rows));
            let (part, own) = (hidden.slice(0, from, to, 1), labels.slice(0, from, to, 1));
            let inputs: Vec<&Tensor> = std::iter::once(&part).chain(&shared).collect();
            let mut outputs: Vec<Tensor> = Checkpoint::new(name).apply(inputs, |inputs| {
                let logits = inputs[0].matmul(&inputs[1]);
                let logits = inputs.get(2).map_or(logits.clone(), |bias| &logits + bias);
                let loss = logits.cross_entropy(&own);
                let later = inputs[1..].iter().map(|tensor| after(tensor, &loss, at)).collect::<Vec<_>>();
                std::iter::once(loss).chain(later).collect::<Vec<_>>()
            });
            shared = outputs.split_off(1);
            parts.append(&mut outputs);
        }
        Ok(reduction.apply(&Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)))
    })
}

/// The same tensor, not before another one is known.
fn after(tensor: &Tensor, other: &Tensor, at: At) -> Tensor {
    match (tensor.node(), other.node()) {
        (Ok(node), Ok(other)) => Tensor::from_node(Node::after(vec![node.clone(), other.clone()], at)),
        _ => tensor.clone(),
    }
}
