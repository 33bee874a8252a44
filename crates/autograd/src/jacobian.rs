//! Derivatives of many outputs or many examples at once: gradients, batched.

use std::panic::Location;

use cotangent_tensor::{AddressSet, Code, Error, Node, Op, Origin, Shape, Tensor};

use crate::batch::Examples;
use crate::forms::Inputs;
use crate::forward::{check_connected, hvp, jvp};
use crate::gradient::{Gradient, Wrt};
use crate::guard::address;
use crate::reverse::{grad, vjp};
use crate::stamp::relocated;

/// The user's line.
type At = &'static Location<'static>;

/// All derivatives `∂output / ∂wrt`: one gradient per element of `output`, found together by batching
/// [`vjp`].
///
/// Shapes: `output` and `wrt` any, results `[output…, wrt…]`; zeros where the derivative is structurally
/// zero, unconnected or stopped. The graph does not grow with the number of elements, the work and the memory
/// do.
///
/// Errors: as [`vjp`]; a derivative that is missing on the way; `E_RANK` and `E_TOO_LARGE` of a result.
///
/// ```
/// use cotangent_autograd::jacobian;
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let x = Tensor::new([1.0, 2.0]);
/// let y = Tensor::concat(&[&(&x * &x), &x.sum(0).unsqueeze(0)], 0);
/// let j = jacobian(&y, &x)?;
/// assert_eq!(j.shape()[..], [3, 2]);
/// assert_eq!(Reference::new().evaluate(&[&j])?[0].to_f64(), [2.0, 0.0, 0.0, 4.0, 1.0, 1.0]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn jacobian<W: Wrt>(output: &Tensor, wrt: W) -> Result<W::Of<Tensor>, Error> {
    Ok(wrt.collect(blocks("jacobian", output, &wrt.tensors())?))
}

/// All second derivatives `∂²loss / ∂a ∂b` of a scalar loss, by block: the [`jacobian`] of its gradients.
///
/// Shapes: for one tensor `wrt` the result is `[wrt…, wrt…]`; for several it is a container of containers,
/// and the block of `a` and `b` is `[a…, b…]`. Zeros as for [`jacobian`]. See [`hvp`] for a product that
/// needs no such memory.
///
/// Errors: as [`grad`](crate::grad()) and [`jacobian`].
///
/// ```
/// use cotangent_autograd::hessian;
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let (x, y) = (Tensor::new([1.0, 2.0]), Tensor::new(3.0));
/// let loss = (&x * &x * &y).sum(..);
/// let [[xx, xy], [_, yy]] = hessian(&loss, [&x, &y])?;
/// let values = Reference::new().evaluate(&[&xx, &xy, &yy])?;
/// assert_eq!(values[0].to_f64(), [6.0, 0.0, 0.0, 6.0]);
/// assert_eq!(values[1].to_f64(), [2.0, 4.0]);
/// assert_eq!(values[2].to_f64(), [0.0]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn hessian<W: Wrt>(loss: &Tensor, wrt: W) -> Result<W::Of<W::Of<Tensor>>, Error> {
    let (tensors, mut rows) = (wrt.tensors(), Vec::new());
    for gradient in grad(loss, tensors.clone())? {
        rows.push(wrt.collect(blocks("hessian", &gradient.or_zero(), &tensors)?));
    }
    Ok(wrt.collect(rows))
}

/// The [`jacobian`] of `function` at every example of `input`: the first axis is that of the examples, as in
/// [`batch`](crate::batch()).
///
/// Shapes: `input` `[batch, in…]`, `function` from `[in…]` to `[out…]`, result `[batch, out…, in…]`.
///
/// Errors: as [`batch`](crate::batch()) and [`jacobian`].
///
/// ```
/// use cotangent_autograd::batch_jacobian;
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let x = Tensor::new([[1.0, 2.0], [3.0, 4.0]]);
/// let j = batch_jacobian(&x, |x| x.prod(0))?;
/// assert_eq!(Reference::new().evaluate(&[&j])?[0].to_f64(), [2.0, 1.0, 4.0, 3.0]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn batch_jacobian(input: &Tensor, function: impl FnOnce(Tensor) -> Tensor) -> Result<Tensor, Error> {
    let at = Location::caller();
    let examples = Examples::new("batch_jacobian", std::slice::from_ref(input), at)?;
    let [example] = [input].traced(examples.tensors());
    let output = examples.guarded(|| function(example.clone()))?;
    let block = blocks("batch_jacobian", &output, &[&example])?;
    Ok(input.collect(examples.batched(&block)?))
}

/// The gradient of `loss` of every example with respect to `parameters`, which `loss` captures.
///
/// Shapes: inputs `[batch, …]`, `loss` from `[…]` to a scalar, one result `[batch, parameter…]` per
/// parameter; zeros where a gradient is structurally zero, unconnected or stopped. Values of all examples
/// come from one product per layer, as in a loss of the whole batch; their sum is the gradient of the summed
/// losses. Inside, `loss` sees one example: its arguments. A whole batch that it captures instead is what all examples
/// share, and each of them then has the gradient of all.
///
/// Errors: as [`batch`](crate::batch()) and [`grad`](crate::grad()); a derivative that is missing on the way;
/// `E_NO_DERIVATIVE` if an input is made from a parameter, since what flows through examples does not reach
/// it.
///
/// ```
/// use cotangent_autograd::per_sample_gradients;
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let (x, y) = (Tensor::new([[1.0, 2.0], [3.0, 4.0]]), Tensor::new([0.0, 1.0]));
/// let w = Tensor::new([1.0, -1.0]);
/// let dw = per_sample_gradients([&x, &y], &w, |[x, y]| (x.matmul(&w) - y).pow(2))?;
/// let norms = (&dw * &dw).sum(1).sqrt(); // to clip, or to see which example pulls
/// assert_eq!(Reference::new().evaluate(&[&dw])?[0].to_f64(), [-2.0, -4.0, -12.0, -16.0]);
/// # let _ = norms;
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn per_sample_gradients<I: Inputs, W: Wrt>(
    inputs: I,
    parameters: W,
    loss: impl FnOnce(I::Traced) -> Tensor,
) -> Result<W::Of<Tensor>, Error> {
    let at = Location::caller();
    let examples = Examples::new("per_sample_gradients", &inputs.tensors(), at)?;
    apart(&inputs.tensors(), &parameters.tensors()).map_err(|e| e.at(at))?;
    let loss = examples.guarded(|| loss(inputs.traced(examples.tensors())))?;
    let gradients = grad(&loss, parameters.tensors()).map_err(|e| placed(e, at))?;
    Ok(parameters.collect(examples.batched(&filled(&gradients))?))
}

/// Product of the generalized Gauss–Newton matrix `Jᵀ H J` with a direction, where `J = ∂output/∂wrt` and `H`
/// is the Hessian of `loss` with respect to `output`.
///
/// It is the Hessian of the loss for outputs linear in `wrt`, and positive semidefinite for every loss that
/// is convex in `output`. One tensor per `wrt`. Errors: as [`jvp`], [`hvp`] and [`vjp`](crate::vjp());
/// `E_COTANGENT` for as many directions as there are not tensors.
///
/// ```
/// use cotangent_autograd::gauss_newton_product;
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let w = Tensor::new([1.0, 2.0]);
/// let output = &w * &w;
/// let loss = (&output * &output).sum(..);
/// let product = gauss_newton_product(&loss, &output, &w, &Tensor::new([1.0, 0.0]))?;
/// assert_eq!(Reference::new().evaluate(&[&product])?[0].to_f64(), [8.0, 0.0]); // 2w · 2 · 2w
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn gauss_newton_product<W: Wrt>(
    loss: &Tensor,
    output: &Tensor,
    wrt: W,
    direction: impl Wrt,
) -> Result<W::Of<Tensor>, Error> {
    let (at, targets, directions) = (Location::caller(), wrt.tensors(), direction.tensors());
    if targets.len() != directions.len() {
        let message = format!("{} directions for {} tensors", directions.len(), targets.len());
        return Err(Error::new(Code::Cotangent, "gauss_newton_product", message).at(at));
    }
    let moves: Vec<(&Tensor, &Tensor)> = targets.iter().copied().zip(directions).collect();
    let [moved] = &jvp(&[output], &moves)?[..] else {
        return Err(Error::new(Code::Internal, "gauss_newton_product", "one output has one tangent").at(at));
    };
    let curved = hvp(loss, output, moved)?;
    let gradients = vjp(&[(output, &curved)], targets)?;
    check_connected(&gradients).map_err(|e| placed(e, at))?;
    let products = filled(&gradients);
    products.iter().try_for_each(|product| product.node().map(|_| ()))?;
    Ok(wrt.collect(products))
}

/// One block `[output…, wrt…]` per tensor of `wrt`: the cotangents of `output` are the rows of an identity.
#[track_caller]
fn blocks(operation: &'static str, output: &Tensor, wrt: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
    let at = Location::caller();
    let node = output.node()?;
    let shape_of = |t: &&Tensor| Shape::new(&[&node.shape[..], &t.node()?.shape[..]].concat());
    let shapes = wrt.iter().map(shape_of).collect::<Result<Vec<_>, _>>().map_err(|e| placed(e, at))?;
    let elements = node.shape.elements();
    let square = Shape::new(&[elements, elements]).map_err(|e| placed(e, at))?;
    let identity = Tensor::iota(square, 0).eq(Tensor::iota(square, 1)).cast(node.dtype);
    let rows = Examples::new(operation, &[relocated(&identity, [], at, &Origin::default())], at)?;
    let flat = relocated(&output.reshape(Shape::new(&[elements])?), [node.key()], at, &node.origin);
    let gradients = vjp(&[(&flat, &rows.tensors()[0])], wrt)?;
    let batched = rows.batched(&filled(&gradients))?;
    let shaped = |(block, shape): (&Tensor, Shape)| {
        relocated(&block.reshape(shape), [address(block)], at, &Origin::default())
    };
    Ok(batched.iter().zip(shapes).map(shaped).collect())
}

/// Checks that no parameter flows into an input, where its gradient would be lost.
fn apart(inputs: &[Tensor], parameters: &[&Tensor]) -> Result<(), Error> {
    let wanted =
        parameters.iter().map(|t| t.node().map(Node::identity)).collect::<Result<AddressSet<()>, _>>()?;
    let mut seen: AddressSet<Node> = AddressSet::default();
    let mut stack = inputs.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
    while let Some(node) = stack.pop() {
        let carries =
            matches!(node.op, Op::Rule(_)) || node.dtype.is_float() && !matches!(node.op, Op::Detach);
        if !carries || !seen.insert(node.key()) {
            continue;
        }
        if wanted.contains(&node.identity()) {
            let name = node.called();
            let message = format!("the parameter `{name}` {} is part of an input, not captured", node.shape);
            return Err(Error::new(Code::NoDerivative, "per_sample_gradients", message)
                .hint("compute the input inside of the loss, or `detach` it"));
        }
        stack.extend(node.operands.iter().cloned());
    }
    Ok(())
}

/// Values, and zeros where there are none; invalid where one is missing.
fn filled(gradients: &[Gradient]) -> Vec<Tensor> {
    gradients.iter().map(Gradient::or_zero).collect()
}

fn placed(error: Error, at: At) -> Error {
    if error.location().is_some() { error } else { error.at(at) }
}
