//! Graphs of a million nodes: no pass recurses, and none is quadratic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cotangent_autograd::{custom_gradient, grad, jvp, map_cotangent};
use cotangent_tensor::{Node, Op, Tensor, topological};

/// A machine-independent stop, not a benchmark: quadratic passes would take hours here, ours take seconds.
const LIMIT: Duration = Duration::from_secs(300);

fn chain(n: usize, x: &Tensor, link: impl Fn(&Tensor) -> Tensor) -> Tensor {
    (0..n).fold(x.clone(), |y, _| link(&y))
}

#[test]
fn a_chain_of_a_million_nodes_differentiates_and_drops() {
    let start = Instant::now();
    let x = Tensor::new([0.5, 1.5]);
    let y = chain(1_000_000, &x, Tensor::sin);
    let gradient = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
    let nodes = topological([gradient.node().unwrap()]).len();
    assert!(nodes > 2_900_000, "{nodes}");
    drop(gradient);
    let pushed = jvp(&[&y], &[(&x, &Tensor::ones([2]))]).unwrap();
    drop(pushed);
    drop(y);
    println!("{:?}", start.elapsed());
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn long_chains_of_kinks_rules_and_fan_out_stay_linear() {
    let start = Instant::now();
    let x = Tensor::new([0.5, -1.5]);
    let kinks = chain(20_000, &x, |y| y.relu().max(0.1));
    let rules = chain(20_000, &x, |y| map_cotangent(y, |g| g * 0.5));
    let slices = chain(20_000, &x, |y| y.slice(0, 0, 1, 1) * y);
    let wide = (0..50_000).fold(Tensor::zeros([2]), |sum, i| sum + &x * f64::from(i));
    let guarded = (0..20_000).fold(Tensor::zeros([2]), |sum, i| sum + x.gt(f64::from(i)).select(&x, 0.0));
    for y in [kinks, rules, slices, wide, guarded] {
        assert!(grad(&y.sum(..), &x).unwrap().value().is_some());
        assert!(jvp(&[&y], &[(&x, &x)]).is_ok());
    }
    println!("{:?}", start.elapsed());
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn the_second_derivative_of_a_deep_chain_has_a_value() {
    let x = Tensor::new(0.5);
    let y = chain(2_000, &x, |y| (y * 1.0001).sin());
    let first = grad(&y, &x).unwrap().or_error().unwrap();
    let second = grad(&first, &x).unwrap().or_error().unwrap();
    assert!(support::value(&first).is_finite() && support::value(&second).is_finite());
}

#[test]
fn a_gradient_copies_nothing_of_the_forward_graph() {
    let (x, s) = (Tensor::new([[0.5], [1.5]]), Tensor::new([1.0, 2.0, 3.0]));
    let n = 100_000;
    let condition = chain(n, &x, Tensor::sin).gt(0.0);
    let y = condition.select(&x * &s, 0.0).sum(..);
    let forward: HashSet<*const Node> = topological([y.node().unwrap()]).iter().map(Node::key).collect();
    let gradient = grad(&y, &s).unwrap().or_error().unwrap();
    let pushed = jvp(&[&y], &[(&s, &s)]).unwrap().remove(0);
    for derivative in [gradient, pushed] {
        let made = topological([derivative.node().unwrap()]);
        let made: Vec<_> = made.iter().filter(|node| !forward.contains(&node.key())).collect();
        assert!(made.len() < 40, "{} nodes", made.len());
        assert!(!made.iter().any(|node| matches!(node.op, Op::Leaf(_) | Op::Input(_))), "{made:?}");
    }
}

#[test]
fn many_pairs_of_complementary_branches_meet_in_linear_time() {
    let start = Instant::now();
    let x = Tensor::new([0.5, -1.5]);
    let sum = (0..20_000).fold(Tensor::zeros([2]), |sum, i| {
        let factor = f64::from(i % 7);
        sum + x.gt(f64::from(i)).select(&x * factor, &x * (factor + 1.0))
    });
    let gradient = grad(&sum.sum(..), &x).unwrap().or_error().unwrap();
    let expected: f64 = (0..20_000).map(|i| f64::from(i % 7) + 1.0).sum();
    assert_eq!(support::values(&gradient), [expected - 1.0, expected]);
    println!("{:?}", start.elapsed());
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn rules_inside_rules_drop_without_recursion() {
    let x = Tensor::new(0.5);
    let nested = chain(100_000, &x, |captured| {
        custom_gradient("nested", [&x], |[x]| (&x + captured, |upstream: Tensor| upstream))
    });
    assert!(nested.error().is_none());
    drop(nested);
}
