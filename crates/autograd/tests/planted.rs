//! Faults that the checks must find: a checker that cannot fail proves nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::check::{Pairing, Slope, unchecked};
use cotangent_autograd::custom_gradient;
use cotangent_tensor::{Array, Tensor};
use support::{Noise, differences, witness};

type Function = Box<dyn Fn(&[Tensor]) -> Tensor>;

fn rule(
    forward: impl Fn(&Tensor) -> Tensor + Copy + 'static,
    backward: impl Fn(&Tensor, &Tensor) -> Tensor + Copy + 'static,
) -> Function {
    Box::new(move |x| {
        custom_gradient("planted", [&x[0]], |[x]| (forward(&x), move |g: Tensor| backward(&x, &g)))
    })
}

/// Right functions with wrong rules; the first of each pair is what was broken.
fn wrong() -> Vec<(&'static str, Function)> {
    vec![
        ("sign", rule(Tensor::sin, |x, g| -(x.cos() * g))),
        ("factor", rule(Tensor::sin, |x, g| x.cos() * g * 2.0)),
        ("one percent", rule(Tensor::sin, |x, g| x.cos() * g * 1.01)),
        ("one in a billion", rule(Tensor::exp, |x, g| x.exp() * g * (1.0 + 1e-9))),
        ("constant added", rule(|x| x * x, |x, g| (x * 2.0 + 0.01) * g)),
        ("upstream ignored", rule(|x| x * x, |x, g| x * 2.0 + g * 0.0)),
        ("upstream squared", rule(|x| x * x, |x, g| x * 2.0 * g * g)),
        ("not transposed", rule(|x| x.matmul(&two()), |_, g| g.matmul(&two()))),
        ("wrong permutation", rule(|x| x.transpose().exp(), |x, g| x.exp() * g)),
        ("wrong direction", rule(|x| x.cumulative_sum(1, false), |_, g| g.cumulative_sum(1, false))),
        ("off by one", rule(|x| x.slice(1, 0, 1, 1), |_, g| g.pad(1, 1, 0))),
        (
            "tie to one side",
            rule(|x| x.max_over(1).exp(), |x, g| (x.max_over(1).exp() * g).unsqueeze(1).broadcast_to([2, 2])),
        ),
        ("missing mean", rule(|x| x.softmax(1), |x, g| x.softmax(1) * g)),
        ("missing partner", rule(|x| x.prod(1), |_, g| g.unsqueeze(1).broadcast_to([2, 2]))),
        ("mean without count", rule(|x| x.mean(1), |_, g| g.unsqueeze(1).broadcast_to([2, 2]))),
        ("cut", rule(|x| x.exp() + x, |x, g| x.exp() * g)),
    ]
}

fn two() -> Tensor {
    Tensor::new([[1.0, 2.0], [3.0, 5.0]])
}

#[test]
fn differences_find_every_planted_fault() {
    let input = [Noise(1).array(&[2, 2], 0.3, 1.7)];
    let faults = wrong();
    for (fault, function) in &faults {
        let weights =
            Tensor::new(Noise(2).array(function(&[Tensor::new(input[0].clone())]).shape(), 0.5, 1.5));
        let scalar = |x: &[Tensor]| (function(x) * &weights).sum(..);
        let found = unchecked(|| differences(fault, &scalar, &input)).expect_err(fault);
        assert!(found.contains("input 0, element"), "{found}");
        assert!(unchecked(|| witness(fault, function.as_ref(), &input, 1)).is_err(), "{fault}");
    }
    assert_eq!(faults.len(), 16);
}

#[test]
fn a_rule_that_is_wrong_at_second_order_only_is_found_at_second_order() {
    let input = [Array::from([1.5, -0.5])];
    let detached: Function = rule(|x| (x * 2.0).pow(2.0), |x, g| (x * 2.0).detach() * 4.0 * g);
    assert_eq!(differences("first", &|x| detached(x).sum(..), &input), Ok(2));
    let found = witness("saved", detached.as_ref(), &input, 0);
    // The three second derivatives agree with each other and are all wrong.
    assert!(found.is_err_and(|e| e.contains("second order")));
    let saved: Function = rule(|x| (x * 2.0).pow(2.0), |x, g| (x * 2.0) * 4.0 * g);
    assert!(witness("saved", saved.as_ref(), &input, 0).is_ok());
}

#[test]
fn comparisons_reject_what_differs_by_more_than_rounding() {
    let pairing = |reverse| Pairing { forward: 1.0, reverse, size: 3.0 };
    assert!(pairing(1.0).agrees() && pairing(1.0 + 1e-15).agrees());
    assert!(!pairing(1.0 + 1e-12).agrees() && !pairing(f64::NAN).agrees() && !pairing(-1.0).agrees());
    let slope = Slope { value: 2.0, error: 1e-11 };
    assert!(slope.agrees(2.0) && !slope.agrees(2.0 + 1e-9) && !slope.agrees(f64::NAN));
    let infinite = Slope { value: f64::INFINITY, error: 0.0 };
    assert!(!slope.agrees(f64::INFINITY) && !infinite.agrees(2.0) && infinite.agrees(f64::INFINITY));
    assert!(!infinite.agrees(f64::NEG_INFINITY));
    let overflown = Pairing { forward: 1.0, reverse: f64::INFINITY, size: f64::INFINITY };
    assert!(!overflown.agrees());
    let unsettled = Slope { value: 2.0, error: f64::NAN };
    assert!(!unsettled.agrees(2.0));
}
