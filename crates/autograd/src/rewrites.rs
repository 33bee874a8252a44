//! Ready-made rules: values with the gradients of others, and cotangents that are changed or observed on the way.

use std::panic::Location;

use cotangent_tensor::{Code, DType, Detail, Error, Tensor};

use crate::rule::CustomGradient;

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
    let rule = rule.gradients_in(DType::F32);
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
    rewrite("map_cotangent", "the cotangent is replaced on purpose", x, change)
}

/// The same value; its cotangent is recorded under `name`, for [`Evaluate::inspect`](cotangent_tensor::Evaluate::inspect) of a
/// gradient and for steps that ask for it. A cotangent that nobody computes is not recorded.
///
/// ```
/// use cotangent_autograd::{grad, observe};
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// let x = Tensor::new([3.0, -4.0]);
/// let square = observe(&(&x * &x), "d_square");
/// let dx = grad(&(square * 0.5).sum(..), &x)?.or_error()?;
/// let seen = Reference::new().inspect(&[&dx])?;
/// assert_eq!((&*seen[0].label, seen[0].value.to_f64()), ("d_square", vec![0.5, 0.5]));
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn observe(x: &Tensor, name: &str) -> Tensor {
    let rule = CustomGradient::exact("observe").gradients_in(DType::F32);
    rule.apply([x], |[x]| (x, |upstream: Tensor| upstream.inspect(name)))
}

/// The same value; its cotangent is multiplied by `factor`.
#[track_caller]
pub fn scale_gradient(x: &Tensor, factor: f64) -> Tensor {
    rewrite("scale_gradient", "the cotangent is scaled on purpose", x, |upstream| upstream * factor)
}

/// The same value; its cotangent is multiplied by `−strength`, as between a network and its adversary.
#[track_caller]
pub fn reverse_gradient(x: &Tensor, strength: f64) -> Tensor {
    rewrite("reverse_gradient", "the cotangent is reversed on purpose", x, |upstream| upstream * -strength)
}

/// The same value; each element of its cotangent is pulled into `[−limit, limit]`.
#[track_caller]
pub fn clip_gradient(x: &Tensor, limit: f64) -> Tensor {
    rewrite("clip_gradient", "the cotangent is clipped on purpose", x, |upstream| {
        upstream.clamp(-limit, limit)
    })
}

/// The same value; its cotangent is scaled down to the Euclidean norm `limit` where it is longer.
#[track_caller]
pub fn clip_gradient_norm(x: &Tensor, limit: f64) -> Tensor {
    rewrite("clip_gradient_norm", "the cotangent is clipped on purpose", x, |upstream| {
        let norm = upstream.norm(..);
        let factor = norm.gt(limit).select(limit / &norm, 1.0);
        upstream * factor
    })
}

/// The same value; `gradient` takes the place of its cotangent, whatever that is. Invalid with `E_RULE_SHAPE` or
/// `E_RULE_DTYPE` unless `gradient` has the shape and type of `x`.
#[track_caller]
pub fn replace_gradient(x: &Tensor, gradient: &Tensor) -> Tensor {
    let rule = CustomGradient::surrogate("replace_gradient", "the cotangent is replaced on purpose");
    let rule = rule.gradients_in(DType::F32);
    rule.apply([x, gradient], |[x, gradient]| {
        let given = if gradient.dtype().is_float() { gradient.cast(DType::F32) } else { gradient };
        (x, move |_: Tensor| [Some(given), None])
    })
}

/// `function(x)`, whose gradient is the cotangent times `derivative(x)`, element by element.
///
/// ```
/// use cotangent_autograd::{grad, surrogate};
/// use cotangent_tensor::Tensor;
/// let x = Tensor::new([-1.5, 0.5]);
/// let spikes = surrogate("spike", &x, |x| x.gt(0.0).cast(cotangent_tensor::DType::F32), |x| x.sigmoid() * (-x).sigmoid());
/// assert!(grad(&spikes.sum(..), &x)?.value().is_some());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn surrogate(
    name: &str,
    x: &Tensor,
    function: impl FnOnce(&Tensor) -> Tensor,
    derivative: impl FnOnce(&Tensor) -> Tensor,
) -> Tensor {
    let rule = CustomGradient::surrogate(name, "its derivative is given by another function");
    let rule = rule.gradients_in(DType::F32);
    rule.apply([x], |[x]| (function(&x), move |upstream: Tensor| upstream * derivative(&x).cast(DType::F32)))
}

#[track_caller]
fn rewrite(name: &str, reason: &str, x: &Tensor, change: impl FnOnce(Tensor) -> Tensor) -> Tensor {
    // Cotangents travel as F32: one of an F16 value that is too large or too small for F16 stays what it is.
    CustomGradient::surrogate(name, reason).gradients_in(DType::F32).apply([x], |[x]| (x, change))
}
