//! Derivatives that would leave out a path are refused: through arguments of functions whose tracing is over, and past parts of
//! shared storage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use cotangent_autograd::{batch, checkpoint, custom_gradient, gauss_newton_product, grad, hvp, jvp, vjp};
use cotangent_tensor::{Code, DType, Shape, Tensor, Token};

/// What a closure lets out of itself.
fn leaks(x: &Tensor) -> Vec<(&'static str, Tensor, Tensor)> {
    let mut all = Vec::new();
    let mut out = None;
    let mut keep = |h: Tensor| {
        out = Some(h.clone());
        h
    };
    all.push(("checkpoint", checkpoint([x], |[x]| keep(x.exp()).sin()), ()));
    let first = out.take().unwrap();
    let mut keep = |h: Tensor| {
        out = Some(h.clone());
        h
    };
    all.push(("batch", batch([x], |[x]| keep(x.exp()).sin()), ()));
    let second = out.take().unwrap();
    let mut keep = |h: Tensor| {
        out = Some(h.clone());
        h
    };
    let rule = custom_gradient("sine", [x], |[x]| {
        let h = keep(x.exp());
        (h.sin(), move |g: Tensor| [g * h.cos() * &h])
    });
    all.push(("rule", rule, ()));
    let third = out.take().unwrap();
    all.into_iter().zip([first, second, third]).map(|((name, y, ()), h)| (name, y, h)).collect()
}

#[test]
fn what_escapes_from_a_closure_is_no_part_of_a_gradient() {
    let x = Tensor::new([0.3, 0.4]);
    for (name, y, h) in leaks(&x) {
        assert!(grad(&y.sum(..), &x).is_ok(), "{name}");
        let penalized = y.sum(..) + h.sum(..);
        for error in [
            grad(&penalized, &x).unwrap_err(),
            grad(&y.sum(..), &h).unwrap_err(),
            vjp(&[(&h, &Tensor::ones(*h.shape()))], &x).unwrap_err(),
            jvp(&[&penalized], &[(&x, &Tensor::ones([2]))]).unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::Unbound, "{name}: {error}");
            assert!(error.to_string().contains("argument of a traced function"), "{name}: {error}");
        }
    }
}

#[test]
fn closures_may_differentiate_while_they_are_traced() {
    let x = Tensor::new([[0.3, 0.4], [0.1, 0.2]]);
    let slope = |x: &Tensor| grad(&(x * x).sum(..), x).unwrap().or_error().unwrap();
    for y in [
        batch([&x], |[x]| slope(&x)),
        checkpoint([&x], |[x]| slope(&x)),
        custom_gradient("slope", [&x], |[x]| (slope(&x), move |g: Tensor| [g * 2.0 * slope(&x) / &x])),
        batch([&x], |[x]| batch([&x], |[x]| slope(&x))),
    ] {
        assert!(y.node().is_ok(), "{:?}", y.error());
    }
}

/// Two parts of shared storage, as a device makes them.
fn group() -> (Tensor, Tensor, Tensor) {
    let shape = Shape::new(&[8]).unwrap();
    let flat = Tensor::variable(Token::shared("w+b", 1), shape, DType::F32);
    let w = flat.slice(0, 0, 4, 1).reshape([2, 2]).named("w");
    let b = flat.slice(0, 4, 6, 1).named("b");
    (flat, w, b)
}

#[test]
fn parts_of_storage_that_is_used_past_them_have_no_gradient() {
    let (flat, w, b) = group();
    let loss = (&w * 3.0).sum(..) + b.sum(..);
    assert!(grad(&loss, [&w, &b]).is_ok());
    let decayed = &loss + (&flat * &flat).sum(..);
    for error in [
        grad(&decayed, [&w, &b]).unwrap_err(),
        grad(&decayed, &b).unwrap_err(),
        jvp(&[&decayed], &[(&w, &Tensor::ones([2, 2]))]).unwrap_err(),
        // Another slice of the same elements.
        grad(&(&loss + flat.slice(0, 3, 5, 1).exp().sum(..)), &w).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Partial, "{error}");
        assert!(
            error.to_string().contains("used past it") || error.to_string().contains("use past it"),
            "{error}"
        );
    }
    assert!(grad(&decayed, &flat).is_ok());
    // Elements of nobody, and variables of their own storage, may be used as one likes.
    assert!(grad(&(&loss + flat.slice(0, 6, 8, 1).exp().sum(..)), [&w, &b]).is_ok());
    let own = Tensor::variable(Token::new("v", 1), Shape::new(&[4]).unwrap(), DType::F32);
    let half = own.slice(0, 0, 2, 1);
    assert!(grad(&((&half * &half).sum(..) + own.sum(..)), &half).is_ok());
}

#[test]
fn products_without_a_path_are_refused() {
    let (x, y, t) = (Tensor::new([1.0, 2.0]), Tensor::new([3.0, 4.0]), Tensor::ones([2]));
    let loss = (&x * &x).sum(..);
    assert_eq!(hvp(&loss, &y, &t).unwrap_err().code(), Code::Unconnected);
    assert!(hvp(&loss, [&x, &y], [&t, &t]).is_ok());
    let output = x.sin();
    assert!(gauss_newton_product(&(&output * &output).sum(..), &output, &x, &t).is_ok());
    assert_eq!(gauss_newton_product(&loss, &output, &x, &t).unwrap_err().code(), Code::Unconnected);
    assert_eq!(
        gauss_newton_product(&(&output * &output).sum(..), &output, &y, &t).unwrap_err().code(),
        Code::Unconnected
    );
}

#[test]
fn arguments_are_over_when_their_scope_is() {
    let scope = Arc::new(());
    let token = Token::argument("x", &scope);
    assert!(!token.is_over() && !Token::new("x", 0).is_over());
    drop(scope);
    assert!(token.is_over());
}
