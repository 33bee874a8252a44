//! The branch not taken never reaches a derivative: NUMERICS.md 3.1 and 3.3, at first and second order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{grad, hvp, jvp};
use cotangent_tensor::{DType, Tensor, where_};
use support::{assert_digits, gradient, value, values};

/// First derivative by reverse and forward mode, second by reverse over reverse, forward over reverse and forward over
/// forward, summed over elements (the functions are elementwise).
fn derivatives(f: impl Fn(&Tensor) -> Tensor, at: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let x = Tensor::new(at);
    let y = f(&x);
    let ones = Tensor::ones([at.len()]);
    let first = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
    let pushed = jvp(&[&y], &[(&x, &ones)]).unwrap().remove(0);
    assert_digits(&values(&pushed), &values(&first));
    let second = values(&grad(&first.sum(..), &x).unwrap().or_zero());
    assert_digits(&values(&hvp(&y.sum(..), &x, &ones).unwrap()), &second);
    assert_digits(&values(&jvp(&[&pushed], &[(&x, &ones)]).unwrap()[0]), &second);
    (values(&first), second)
}

#[track_caller]
fn check(f: impl Fn(&Tensor) -> Tensor, at: &[f64], first: &[f64], second: &[f64]) {
    let got = derivatives(f, at);
    assert_digits(&got.0, first);
    assert_digits(&got.1, second);
}

#[test]
fn t72_where_with_known_answers() {
    check(|x| where_(&x.gt(0.0), x.sqrt(), 0.0), &[0.0, 4.0], &[0.0, 0.25], &[0.0, -1.0 / 32.0]);
    check(|z| where_(&z.gt(20.0), z, (z.exp() + 1.0).log()), &[1000.0], &[1.0], &[0.0]);
    check(|x| where_(&x.eq(0.0), 0.0, x * x.sqrt()), &[0.0, 4.0], &[0.0, 3.0], &[0.0, 0.375]);
    check(|x| where_(&x.gt(1e-8), x.atan2(x), 0.0), &[0.0], &[0.0], &[0.0]);
    check(
        |x| where_(&x.gt(0.0), x.log(), x.expm1()),
        &[-1.0, 0.0, 2.0],
        &[(-1f64).exp(), 1.0, 0.5],
        &[(-1f64).exp(), 1.0, -0.25],
    );
    // Nested branches, and a branch that was not taken inside one that was.
    check(
        |x| where_(&x.gt(0.0), where_(&x.gt(1.0), x.log(), x * x), where_(&x.lt(-1.0), (-x).sqrt(), x * 3.0)),
        &[2.0, 0.5, 0.0, -4.0],
        &[0.5, 1.0, 3.0, -0.25],
        &[-0.25, 2.0, 0.0, -1.0 / 32.0],
    );
}

#[test]
fn guards_are_closed_under_or() {
    // Found by the random programs of the prototypes: four conditional products, none taken.
    let (x, y) = (Tensor::new(-1.0), Tensor::new(0.0));
    let mut b = &y * 1.0;
    for _ in 0..4 {
        let taken = where_(&x.gt(&b), &x, &b).ge(1.0);
        b = taken.select(&b * x.sqrt(), &b);
    }
    let loss = &x * 0.5 + &b;
    let [dx, dy] = grad(&loss, [&x, &y]).unwrap();
    assert_digits(&[gradient(&dx)[0], gradient(&dy)[0]], &[0.5, 1.0]);
}

#[test]
fn a_zero_tangent_meets_an_infinite_partial() {
    let (x, y) = (Tensor::new(2.0), Tensor::new(0.0));
    let b = x.gt(9.0).select(&x, &y);
    let loss = &x * b.sqrt() + &x;
    let one = Tensor::ones([]);
    assert_digits(&[value(&jvp(&[&loss], &[(&x, &one)]).unwrap()[0])], &[1.0]);
    assert_digits(&gradient(&grad(&loss, &x).unwrap()), &[1.0]);
    assert_eq!(value(&jvp(&[&loss], &[(&y, &one)]).unwrap()[0]), f64::INFINITY);
}

#[test]
fn kinks_and_ties_follow_the_table() {
    check(Tensor::abs, &[0.0, -2.0], &[0.0, -1.0], &[0.0, 0.0]);
    check(Tensor::relu, &[0.0, 2.0, -1.0], &[0.0, 1.0, 0.0], &[0.0; 3]);
    check(|x| x.max(0.0), &[0.0, 2.0, -1.0], &[0.5, 1.0, 0.0], &[0.0; 3]);
    check(|x| x.min(0.0), &[0.0, 2.0, -1.0], &[0.5, 0.0, 1.0], &[0.0; 3]);
    check(|x| x.clamp(0.0, 1.0), &[-1.0, 0.0, 0.5, 1.0, 2.0], &[0.0, 1.0, 1.0, 1.0, 0.0], &[0.0; 5]);
    check(|x| x.max(0.0) + (-(x.abs())).exp().log1p(), &[0.0], &[0.5], &[0.0]);
    let (x, low, high) = (Tensor::new([-1.0, 0.0, 2.0, 1.0]), Tensor::zeros([4]), Tensor::ones([4]));
    let clamped = grad(&x.clamp(&low, &high).sum(..), [&x, &low, &high]).unwrap();
    assert_digits(&gradient(&clamped[0]), &[0.0, 1.0, 0.0, 1.0]);
    assert_digits(&gradient(&clamped[1]), &[1.0, 0.0, 0.0, 0.0]);
    assert_digits(&gradient(&clamped[2]), &[0.0, 0.0, 1.0, 0.0]);
    let x = Tensor::new(0.0);
    assert_eq!(gradient(&grad(&x.sqrt(), &x).unwrap())[0], f64::INFINITY);
    // pow(x, 0) = 1 with slope 0, NaN included; the slope by the exponent is 0 for x ≤ 0.
    let (x, p) = (Tensor::new([0.0, 2.0, -1.0]), Tensor::new([0.0, 0.0, 2.0]));
    let [dx, dp] = grad(&x.pow(&p).sum(..), [&x, &p]).unwrap();
    assert_digits(&gradient(&dx), &[0.0, 0.0, -2.0]);
    assert_digits(&gradient(&dp), &[0.0, 2f64.ln(), 0.0]);
    let (a, b) = (Tensor::new([0.0, 0.0]), Tensor::new([0.0, 3.0]));
    let [da, db] = grad(&a.xlogy(&b).sum(..), [&a, &b]).unwrap();
    assert_digits(&gradient(&da), &[0.0, 3f64.ln()]);
    assert_digits(&gradient(&db), &[0.0, 0.0]);
}

#[test]
fn extremes_share_and_products_are_exact() {
    let x = Tensor::new([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]);
    let third = 1.0 / 3.0;
    assert_digits(
        &gradient(&grad(&x.max_over(1).sum(..), &x).unwrap()),
        &[0.0, 0.5, 0.5, third, third, third],
    );
    assert_digits(
        &gradient(&grad(&x.min_over(1).sum(..), &x).unwrap()),
        &[1.0, 0.0, 0.0, third, third, third],
    );
    let x = Tensor::new([0.0, 2.0, 3.0]);
    assert_digits(&gradient(&grad(&x.prod(..), &x).unwrap()), &[6.0, 0.0, 0.0]);
    let x = Tensor::new([0.0, 0.0, 3.0]);
    assert_digits(&gradient(&grad(&x.prod(..), &x).unwrap()), &[0.0, 0.0, 0.0]);
    let direction = Tensor::new([1.0, 1.0, 0.0]);
    assert_digits(&values(&hvp(&x.prod(..), &x, &direction).unwrap()), &[3.0, 3.0, 0.0]);
    // An infinite slope at an element that is not the extreme stays out.
    let x = Tensor::new([0.0, 4.0]);
    assert_digits(&gradient(&grad(&x.sqrt().max_over(..), &x).unwrap()), &[0.0, 0.25]);
    assert_digits(
        &[value(&jvp(&[&x.sqrt().max_over(..)], &[(&x, &Tensor::ones([2]))]).unwrap()[0])],
        &[0.25],
    );
}

#[test]
fn rows_of_minus_infinity_have_gradient_zero() {
    let row = Tensor::new([[f64::NEG_INFINITY; 3], [0.0, 1.0, f64::NEG_INFINITY]]);
    let d = gradient(&grad(&row.logsumexp(1).sum(..), &row).unwrap());
    let p = 1.0 / (1.0 + 1f64.exp());
    assert_digits(&d, &[0.0, 0.0, 0.0, p, 1.0 - p, 0.0]);
    let weights = Tensor::new([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]);
    let d = gradient(&grad(&(row.softmax(1) * &weights).sum(..), &row).unwrap());
    assert_digits(&d, &[0.0, 0.0, 0.0, -p * (1.0 - p), p * (1.0 - p), 0.0]);
    let first = Tensor::from_node(row.node().unwrap().clone()).slice(0, 0, 1, 1);
    let d = gradient(&grad(&first.log_softmax(1).slice(1, 0, 1, 1).sum(..), &row).unwrap());
    assert_eq!(d, [0.0; 6]);
}

#[test]
fn guards_travel_through_movement() {
    let x = Tensor::new([0.0, 4.0, 0.0, 9.0]);
    let positive = x.gt(0.0);
    let expected = [0.0, 0.25, 0.0, 1.0 / 6.0];
    let root = x.sqrt();
    type Path = Box<dyn Fn(&Tensor, &Tensor) -> Tensor>;
    let paths: [(&str, Path); 6] = [
        ("reshape", Box::new(|c, r| c.reshape([2, 2]).select(r.reshape([2, 2]), 0.0))),
        (
            "permute",
            Box::new(|c, r| c.reshape([2, 2]).transpose().select(r.reshape([2, 2]).transpose(), 0.0)),
        ),
        ("flip", Box::new(|c, r| c.flip(0).select(r.flip(0), 0.0))),
        ("pad", Box::new(|c, r| c.pad(0, 1, 2).select(r.pad(0, 1, 2), 0.0))),
        ("concat", Box::new(|c, r| Tensor::concat(&[c, c], 0).select(Tensor::concat(&[r, r], 0), 0.0) * 0.5)),
        ("sum", Box::new(|c, r| c.select(r, 0.0).reshape([2, 2]).sum(1))),
    ];
    for (name, path) in &paths {
        let y = path(&positive, &root);
        let got = gradient(&grad(&y.sum(..), &x).unwrap());
        assert_eq!(got, expected, "{name}");
        let t = Tensor::ones([4]);
        let pushed = values(&jvp(&[&y], &[(&x, &t)]).unwrap()[0]).iter().sum::<f64>();
        assert_digits(&[pushed], &[expected.iter().sum()]);
    }
    assert_eq!(paths.len(), 6);
    // What a slice or gather leaves out is structurally zero, not 0 · inf.
    let all = [
        root.slice(0, 1, 2, 1).sum(..),
        root.slice(0, 1, 4, 2).slice(0, 0, 1, 1).sum(..),
        root.gather(0, &Tensor::new([1])).sum(..),
    ];
    for y in &all {
        assert_eq!(gradient(&grad(y, &x).unwrap()), [0.0, 0.25, 0.0, 0.0]);
    }
    // And what a pad adds has no tangent.
    let padded = Tensor::new([4.0]).named("x");
    let pushed = jvp(&[&padded.pad(0, 1, 0).sqrt()], &[(&padded, &Tensor::ones([1]))]).unwrap();
    assert_digits(&values(&pushed[0]), &[0.0, 0.25]);
    let joined = Tensor::concat(&[&Tensor::zeros([1]), &padded], 0).sqrt();
    let pushed = jvp(&[&joined], &[(&padded, &Tensor::ones([1]))]).unwrap();
    assert_digits(&values(&pushed[0]), &[0.0, 0.25]);
}

#[test]
fn a_scalar_condition_guards_a_broadcast_branch() {
    let (s, x) = (Tensor::new(0.0), Tensor::new([1.0, 2.0]));
    let y = where_(&s.gt(0.0), s.sqrt() * &x, 0.0).sum(..);
    assert_digits(&gradient(&grad(&y, &s).unwrap()), &[0.0]);
    assert_digits(&[value(&jvp(&[&y], &[(&s, &Tensor::ones([]))]).unwrap()[0])], &[0.0]);
    let row = Tensor::new([[0.0], [4.0]]);
    let y = where_(&row.gt(0.0), row.sqrt() * &x, 0.0).sum(..);
    assert_digits(&gradient(&grad(&y, &row).unwrap()), &[0.0, 0.75]);
}

#[test]
fn many_kinks_in_a_row_share_a_guard() {
    let x = Tensor::new([2.0, -2.0, 0.0]);
    let y = (0..40).fold(x.clone(), |y, _| y.relu() * 1.0 + y.min(0.0) * 0.5);
    let mut noise = x.clone();
    for _ in 0..40 {
        noise = where_(&noise.gt(0.0), noise.sqrt() + 1.0, &noise);
    }
    let got = gradient(&grad(&y.sum(..), &x).unwrap());
    assert_digits(&got[..2], &[1.0, 0.5f64.powi(40)]);
    let got = gradient(&grad(&noise.sum(..), &x).unwrap());
    assert!(got[0] > 0.0 && got[0] < 1e-10, "{got:?}");
    assert_digits(&got[1..], &[1.0, 1.0]);
    let half = x.cast(DType::F16).cast(DType::F32);
    assert_digits(&gradient(&grad(&half.sum(..), &x).unwrap()), &[1.0; 3]);
}
