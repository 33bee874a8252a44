//! The branch not taken stays out where elements mix: sums, rows, products, indices; in both modes and at second order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{grad, jvp};
use cotangent_tensor::{Tensor, topological};
use support::{along, assert_digits, gradient, value, values};

/// The gradient of `loss` by `x`, compared with forward mode, element by element; all derivatives are finite at second
/// order too.
#[track_caller]
fn check(name: &str, f: impl Fn(&Tensor) -> Tensor, x: &Tensor, expected: &[f64]) {
    let loss = f(x);
    assert!(value(&loss).is_finite(), "{name}: the value must not see the branch either");
    let got = gradient(&grad(&loss, x).unwrap());
    assert_eq!(got.len(), expected.len(), "{name}");
    for (element, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < 1e-9, "{name}: element {element}: {got} instead of {expected}");
        let mut unit = vec![0.0; x.shape().elements()];
        unit[element] = 1.0;
        let unit = Tensor::from_values(unit, *x.shape());
        let pushed = value(&jvp(&[&loss], &[(x, &unit)]).unwrap()[0]);
        assert!((pushed - expected).abs() < 1e-9, "{name}: forward mode, element {element}: {pushed}");
    }
    let ones = [Tensor::ones(*x.shape())];
    let slope = along(&loss, std::slice::from_ref(x), &ones);
    let second = values(&grad(&slope, x).unwrap().or_zero());
    assert!(second.iter().all(|v| v.is_finite()), "{name}: second order: {second:?}");
    let mixed = value(&jvp(&[&slope], &[(x, &ones[0])]).unwrap()[0]);
    assert_digits(&[mixed], &[second.iter().sum()]);
}

/// Rows of logits; the second row is NaN and masked.
fn rows() -> (Tensor, Tensor) {
    (Tensor::new([[0.0, 1.0], [f64::NAN, 0.0]]), Tensor::new([true, false]))
}

#[test]
fn a_masked_row_of_nan_has_gradient_zero() {
    let (x, mask) = rows();
    let p = 1.0 / (1.0 + 1f64.exp());
    let labels = Tensor::new([0, 0]);
    let weights = Tensor::new([1.0, 3.0]);
    let wide = mask.unsqueeze(1);
    check(
        "cross_entropy",
        |x| mask.select(x.cross_entropy(&labels), 0.0).sum(..),
        &x,
        &[p - 1.0, 1.0 - p, 0.0, 0.0],
    );
    check("logsumexp", |x| mask.select(x.logsumexp(1), 0.0).sum(..), &x, &[p, 1.0 - p, 0.0, 0.0]);
    let slope = -2.0 * p * (1.0 - p);
    check("softmax", |x| wide.select(x.softmax(1) * &weights, 0.0).sum(..), &x, &[slope, -slope, 0.0, 0.0]);
    check(
        "softmax_residual",
        |x| wide.select(x.softmax_residual(&labels) * &weights, 0.0).sum(..),
        &x,
        &[slope, -slope, 0.0, 0.0],
    );
    check("prod", |x| mask.select(x.prod(1), 0.0).sum(..), &x, &[1.0, 0.0, 0.0, 0.0]);
    check("sum", |x| mask.select((x * x).sum(1), 0.0).sum(..), &x, &[0.0, 2.0, 0.0, 0.0]);
    check("max", |x| mask.select(x.max_over(1), 0.0).sum(..), &x, &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_row_of_nan_with_no_soft_label_has_gradient_zero() {
    let target = Tensor::new([[0.25, 0.75], [0.0, 0.0]]);
    let (x, _) = rows();
    let p = 1.0 / (1.0 + 1f64.exp());
    let loss = |x: &Tensor| {
        target.eq(0.0).select(0.0, &target * (x.logsumexp(-1).unsqueeze(-1) - x)).sum(-1).sum(..)
    };
    check("soft_cross_entropy", loss, &x, &[p - 0.25, 0.25 - p, 0.0, 0.0]);
}

#[test]
fn conditions_that_vary_along_a_row_of_nan_leave_no_trace() {
    // The same as a mask of rows, but nobody can see it from the shape of the condition.
    let x = Tensor::new([[0.0, 1.0], [f64::NAN, f64::NAN]]);
    let known = !&x.is_nan();
    let p = 1.0 / (1.0 + 1f64.exp());
    let weights = Tensor::new([1.0, 3.0]);
    let slope = -2.0 * p * (1.0 - p);
    let masked = |t: Tensor| known.select(t * &weights, 0.0).sum(..);
    check("softmax", |x| masked(x.softmax(1)), &x, &[slope, -slope, 0.0, 0.0]);
    check("cumulative_sum", |x| masked(x.cumulative_sum(1, false)), &x, &[4.0, 3.0, 0.0, 0.0]);
    let w = Tensor::new([[1.0, 2.0], [3.0, 4.0]]);
    check("matmul", |x| masked(x.matmul(&w)), &x, &[7.0, 15.0, 0.0, 0.0]);
    check("weights", |w| masked(x.matmul(w)), &w, &[0.0, 0.0, 1.0, 3.0]);
}

#[test]
fn an_infinite_slope_behind_a_mixing_operation_stays_out() {
    let x = Tensor::new([0.0, 4.0]);
    let c = Tensor::new([false, true]);
    let index = Tensor::new([0, 1]);
    let weights = Tensor::new([1.0, 3.0]);
    let root = |x: &Tensor| x.sqrt();
    check("gather", |x| c.select(root(x).gather(0, &index), 0.0).sum(..), &x, &[0.0, 0.25]);
    check(
        "scatter_add",
        |x| c.select(Tensor::scatter_add(&index, &root(x), 0, 2), 0.0).sum(..),
        &x,
        &[0.0, 0.25],
    );
    check(
        "cumulative_sum",
        |x| c.select(root(x).cumulative_sum(0, true) * &weights, 0.0).sum(..),
        &x,
        &[0.0, 0.75],
    );
    let x = Tensor::new([[0.0, 0.0], [4.0, 1.0]]);
    let row = c.unsqueeze(1);
    let w = Tensor::new([[1.0, 2.0], [3.0, 4.0]]);
    check("matmul", |x| row.select(root(x).matmul(&w), 0.0).sum(..), &x, &[0.0, 0.0, 3.0 * 0.25, 7.0 * 0.5]);
    check(
        "matmul on the right",
        |x| c.select(w.matmul(&root(&x.transpose())), 0.0).sum(..),
        &x,
        &[0.0, 0.0, 4.0 * 0.25, 6.0 * 0.5],
    );
    check(
        "logsumexp",
        |x| c.select(root(x).logsumexp(1), 0.0).sum(..),
        &x,
        &[0.0, 0.0, 0.25 * 0.731_058_578_63, 0.5 * 0.268_941_421_37],
    );
    check("prod", |x| c.select(root(x).prod(1), 0.0).sum(..), &x, &[0.0, 0.0, 0.25, 1.0]);
    let s = Tensor::new(0.0);
    let never = Tensor::new([false, false]);
    check("broadcast", |s| never.select(s.sqrt(), 0.0).sum(..), &s, &[0.0]);
    check("sum before a root", |s| never.select(s + 1.0, 0.0).sum(..).sqrt() + s, &s, &[1.0]);
}

#[test]
fn a_row_mask_keeps_nan_rows_out_of_the_gradient_of_the_weights() {
    let x = Tensor::new([[f64::NAN, f64::INFINITY], [1.0, 2.0]]);
    let w = Tensor::new([[1.0, 2.0], [3.0, 4.0]]);
    let row = Tensor::new([[false], [true]]);
    let masked = |w: &Tensor| row.select(x.matmul(w), 0.0).sum(..);
    check("rows", masked, &w, &[1.0, 1.0, 2.0, 2.0]);
    check(
        "rows, in batches",
        |w| {
            let batch = Tensor::stack(&[&x, &x], 0);
            row.select(batch.matmul(w), 0.0).sum(..)
        },
        &w,
        &[2.0, 2.0, 4.0, 4.0],
    );
    // A column of the right operand.
    let y = Tensor::new([[f64::NAN, 5.0], [f64::NAN, 6.0]]);
    let column = Tensor::new([false, true]);
    check("columns", |w| column.select(w.matmul(&y), 0.0).sum(..), &w, &[5.0, 6.0, 5.0, 6.0]);
}

#[test]
fn guards_cost_nothing_where_no_branch_is() {
    // A small network with a kink: the guards of the kink end in no node of the gradient but its own mask.
    let (x, w, v) = (Tensor::ones([4, 3]), Tensor::ones([3, 5]), Tensor::ones([5, 2]));
    let bias = Tensor::zeros([5]);
    let loss = |h: Tensor| (h.matmul(&v) * 0.5).sum(..);
    let nodes = |loss: &Tensor| {
        let all = grad(loss, [&w, &v, &bias]).unwrap().map(|g| g.or_error().unwrap());
        let roots: Vec<_> = all.iter().map(|g| g.node().unwrap().clone()).collect();
        let order = topological(&roots);
        assert!(order.iter().all(|n| !matches!(n.op, cotangent_tensor::Op::Cast)), "a guard was counted");
        order.len()
    };
    assert!(nodes(&loss((x.matmul(&w) + &bias).relu())) <= 26);
    let deep = ((x.matmul(&w) + &bias).relu().matmul(&Tensor::ones([5, 5])) + &bias).relu();
    nodes(&loss(deep));
}
