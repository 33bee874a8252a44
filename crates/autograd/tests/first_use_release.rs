//! Without debug assertions nobody looks at rules where they are used.

#![cfg(not(debug_assertions))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cotangent_autograd::check::unchecked;
use cotangent_autograd::{custom_gradient, grad, jvp};
use cotangent_tensor::Tensor;

#[test]
fn a_wrong_rule_is_used_as_it_is() {
    let x = Tensor::new([0.5, -2.0]);
    let y = custom_gradient("square", [&x], |[x]| (&x * &x, move |u: Tensor| u * x * 2.5));
    assert!(grad(&y.sum(..), &x).is_ok());
    assert!(unchecked(|| jvp(&[&y], &[(&x, &x)])).is_ok());
}
