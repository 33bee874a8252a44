//! What single bounds say: which results a check accepts, and that planted faults are found.

mod common;

use std::collections::HashMap;

use common::Random;
use cotangent_tensor::{
    Arithmetic, Array, Bounded, Chain, Class, Code, DType, Elementwise, Tensor, Violation, bounded, special,
    where_,
};

/// The bound of a tensor that starts from `given` device values.
fn bound_from(tensor: &Tensor, given: &[(&Tensor, Array)], arithmetic: &Arithmetic) -> Bounded {
    let key = |t: &Tensor| t.node().expect("valid").key();
    let given = given.iter().map(|(t, a)| (key(t), a.clone())).collect();
    bounded(&[tensor.node().expect("valid").clone()], &given, arithmetic).expect("bounded").remove(0)
}

fn bound(tensor: &Tensor) -> Bounded {
    bound_from(tensor, &[], &Arithmetic::default())
}

/// An input with a value whose distance from the true one may be `radius`: a rounded difference of large numbers.
fn uncertain(values: &[f64]) -> Tensor {
    let large = 2f64.powi(20);
    (Tensor::new(values) + large) - large
}

#[test]
fn chains_are_as_long_as_their_trees() {
    assert_eq!([0, 1, 2, 100].map(|n| Chain::Serial.length(n)), [0, 0, 1, 99]);
    let tree = Chain::Passes { terms: 1024, depth: 26 };
    assert_eq!(
        [0, 1, 2, 27, 1024, 1025, 1 << 20, (1 << 20) + 1].map(|n| tree.length(n)),
        [0, 0, 1, 26, 26, 52, 52, 78]
    );
}

#[test]
fn copies_and_integers_are_exact() {
    let x = Tensor::new([[1.5, -2.5, 0.1], [3.0, f64::NAN, f64::INFINITY]]);
    let exact = [
        x.transpose().reshape([6]),
        x.flip(1).pad(0, 1, 0),
        x.gather(1, &Tensor::new([2, 0])),
        x.max_over(1),
        x.relu(),
        -&x,
        x.abs(),
        x.clamp(-1.0, 1.0),
        x.argmax(1),
        x.lt(1.0),
        where_(&x.gt(0.0), &x, 0.0),
        Tensor::new([1, 2, 3]) * 7,
        Tensor::new([1, 2]).one_hot(3),
        x.cast(DType::I32),
        x.cast(DType::F16).cast(DType::F32),
        x.slice(0, 0, 1, 1).sum(0),
    ];
    for (case, tensor) in exact.iter().enumerate() {
        let Bounded { bound, .. } = bound(tensor);
        assert!(bound.iter().all(|&e| e == 0.0), "case {case}: {bound:?}");
    }
    // Leaves are what devices hold.
    assert_eq!(bound(&x).value[2], f64::from(0.1f32));
}

#[test]
fn results_are_accepted_by_the_rules_of_ieee() {
    let of = |value: f64, bound: f64, flushes: bool| Bounded {
        shape: *Tensor::new(0.0).shape(),
        dtype: DType::F32,
        value: vec![value],
        bound: vec![bound],
        flushes,
    };
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let cases = [
        (of(1.0, 0.5, false), 1.5, true),
        (of(1.0, 0.5, false), 1.6, false),
        (of(nan, 0.0, false), nan, true),
        (of(nan, 0.0, false), 0.0, false),
        (of(0.0, 1e30, false), nan, false),
        (of(inf, 0.0, false), inf, true),
        (of(inf, 0.0, false), -inf, false),
        (of(inf, 0.0, false), 3e38, false),
        (of(3.4e38, 1e37, false), inf, true),
        (of(-3.4e38, 1e37, false), -inf, true),
        (of(3.4e38, 1e37, false), -inf, false),
        (of(1e38, 1e37, false), inf, false),
        (of(4e38, 1e32, false), inf, true),
        (of(0.0, 0.0, false), -0.0, true),
        (of(1e-39, 0.0, true), 0.0, true),
        (of(1e-39, 0.0, true), 2e-39, false),
        (of(1e-39, 0.0, false), 0.0, false),
        (of(1e-37, 0.0, true), 0.0, false),
        (of(1.0, inf, false), nan, true),
    ];
    for (case, (bounded, got, accepted)) in cases.iter().enumerate() {
        assert_eq!(bounded.accepts(0, *got), *accepted, "case {case}");
        assert_eq!(bounded.ratio(0, *got) <= 1.0, *accepted, "case {case}: {}", bounded.ratio(0, *got));
        assert_eq!(bounded.first_violation(&Array::from(*got)).is_none(), *accepted, "case {case}");
    }
    let half = Bounded { dtype: DType::F16, ..of(65_500.0, 10.0, false) };
    assert!(half.accepts(0, inf));
    assert_eq!(of(1.0, 0.5, false).ratio(0, 1.25), 0.5);
}

#[test]
fn a_fault_in_any_row_is_found() {
    let (mut random, mut planted) = (Random::new(11), 0);
    for &row in Elementwise::ALL.iter().filter(|row| row.class() == Class::Real) {
        for _ in 0..20 {
            let operands: Vec<Tensor> =
                (0..row.arity()).map(|_| Tensor::new([f64::from(random.uniform(0.1, 0.9) as f32)])).collect();
            let like = operands[0].node().unwrap();
            let node = cotangent_tensor::Node {
                op: cotangent_tensor::Op::Elementwise(row),
                operands: operands.iter().map(|t| t.node().unwrap().clone()).collect(),
                shape: like.shape,
                dtype: DType::F32,
                location: like.location,
                label: None,
                origin: Default::default(),
            };
            let result = bound(&Tensor::from_node(std::sync::Arc::new(node)));
            let value = result.value[0];
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            // One ULP more than promised (of the larger binade where the bound crosses a power of two).
            let ulp = f64::from(f32::EPSILON) * special::exp2(special::log2(value.abs()).floor());
            assert!(result.accepts(0, value + row.ulp() * 0.499 * ulp), "{}", row.name());
            let wrong = value + (row.ulp() + 1.0) * 2.0 * ulp;
            let violation = result.first_violation(&Array::from([wrong])).expect("the fault is found");
            let Violation { element, got, expected, bound } = violation;
            assert_eq!((element, got, expected), (0, wrong, value));
            assert!(bound < wrong - value && result.worst_ratio(&Array::from([wrong])) > 1.0);
            planted += 1;
        }
    }
    assert!(planted > 600, "{planted} faults");
}

#[test]
fn either_side_of_a_kink_is_accepted_and_nothing_else() {
    let x = uncertain(&[0.0, 0.0, 5.0, -5.0]);
    let radius = bound(&x).bound[0];
    assert!(radius > 0.0 && radius < 0.2, "{radius}");
    let step = bound(&where_(&x.gt(0.0), 7.0, 3.0));
    for (got, accepted) in [(7.0, true), (3.0, true), (12.0, false)] {
        assert_eq!(step.accepts(0, got), accepted, "{got}");
    }
    assert!(step.accepts(2, 7.0) && !step.accepts(2, 3.0) && step.accepts(3, 3.0) && !step.accepts(3, 7.0));
    for (truth, element, uncertain) in
        [(x.gt(0.0), 0, 1.0), (x.eq(0.0), 0, 1.0), (x.eq(0.0), 2, 0.0), (!&x.le(1.0), 2, 0.0)]
    {
        assert_eq!(bound(&truth).bound[element], uncertain);
    }
    for (tensor, low, high) in
        [(x.sign(), -1.0, 1.0), ((&x + 0.5).floor(), 0.0, 0.0), ((&x + 0.5).round(), 0.0, 1.0)]
    {
        let result = bound(&tensor);
        assert!(result.accepts(0, low) && result.accepts(0, high) && !result.accepts(0, 9.0), "{tensor:?}");
    }
    let integer = bound(&(&x + 1.0).cast(DType::I32));
    assert!(
        integer.accepts(0, 0.0)
            && integer.accepts(0, 1.0)
            && !integer.accepts(0, 3.0)
            && integer.bound[2] <= 1.0
    );
    // A relu at 0 is 0 or as large as its operand may be.
    let relu = bound(&x.relu());
    assert!(relu.accepts(0, 0.0) && relu.accepts(0, radius) && !relu.accepts(0, 4.0 * radius));
    // A pole inside the interval allows anything, one outside does not.
    let recip = bound(&x.recip());
    assert!(recip.accepts(0, f64::NAN) && recip.bound[2].is_finite());
}

#[test]
fn the_sign_of_a_zero_is_known_until_it_is_lost() {
    let zeros = Tensor::new([0.0, -0.0]);
    let exact = bound(&zeros.recip());
    assert_eq!(exact.value, [f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(exact.bound, [0.0, 0.0]);
    // Either zero may come out of a truncation around 0, or out of a device that flushes.
    assert_eq!(bound(&uncertain(&[0.0]).trunc().recip()).bound, [f64::INFINITY]);
    assert_eq!(bound_from(&zeros.recip(), &[], &Arithmetic::specification()).bound, [f64::INFINITY; 2]);
}

#[test]
fn an_uncertain_extreme_has_several_candidates() {
    let x = uncertain(&[1.0, 0.25, 1.0, 0.5, 1.0]);
    let result = bound(&x.argmax(0));
    assert_eq!(result.value, [0.0]);
    assert!(result.accepts(0, 2.0) && result.accepts(0, 4.0));
    let apart = uncertain(&[1.0, 2.0, 3.0]);
    assert_eq!(bound(&apart.argmax(0)).bound, [0.0]);
    assert_eq!(bound(&apart.argmin(0)).bound, [0.0]);
    // What such an index gathers may be any of the candidates.
    let data = Tensor::new([10.0, 11.0, 12.0, 13.0, 14.0]);
    let gathered = bound(&data.gather(0, &x.argmax(0)));
    assert!(gathered.accepts(0, 14.0) && !gathered.accepts(0, 15.0));
    let exact = bound(&data.gather(0, &apart.argmax(0)));
    assert_eq!(exact.bound, [0.0]);
}

#[test]
fn integers_that_follow_uncertain_floats_stay_bounded() {
    let base = uncertain(&[1.0]);
    let index = base.floor().cast(DType::I32);
    assert_eq!(bound(&index).bound, [1.0]);
    let (one, small) = (Tensor::new([1]), Tensor::new([3]));
    let cases = [
        (&index + &one, 1.0),
        (&index * &small, 3.0),
        (-&index, 1.0),
        (index.max(&small), 1.0),
        (index.gt(&small), 0.0),
        (index.ge(&one), 1.0),
        (index.eq(&one), 1.0),
        (index.ge(&one).select(&small, &one), 2.0),
        (&index + i32::MAX, f64::INFINITY),
        (&index / &small, f64::INFINITY),
        (index.sum(..), 1.0),
    ];
    for (tensor, expected) in &cases {
        assert!(bound(tensor).bound[0] <= *expected, "{tensor:?}: {:?}", bound(tensor));
    }
}

#[test]
fn sums_are_bounded_by_their_tree() {
    // Equal terms whose every addition rounds the same way: the worst case of a balanced tree.
    let n = 4096usize;
    let mut random = Random::new(3);
    let terms: Vec<f64> = (0..n).map(|_| f64::from(random.uniform(1.0, 2.0) as f32)).collect();
    let either = Arithmetic { unit: 2f64.powi(-23), ..Arithmetic::default() };
    let tree = Arithmetic { chain: Chain::Passes { terms: 2, depth: 1 }, ..either };
    let up = |x: f64| {
        let nearest = x as f32;
        if f64::from(nearest) >= x {
            f64::from(nearest)
        } else {
            f64::from(f32::from_bits(nearest.to_bits() + 1))
        }
    };
    let mut level = terms.clone();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| up(pair.iter().sum())).collect();
    }
    let x = Tensor::new(terms);
    let [by_tree, serial] = [tree, either].map(|a| bound_from(&x.sum(..), &[], &a));
    assert!(by_tree.accepts(0, level[0]), "{by_tree:?} {}", level[0]);
    assert!(by_tree.ratio(0, level[0]) > 0.1 && serial.bound[0] > 300.0 * by_tree.bound[0]);
    // A lost term is found.
    assert!(!by_tree.accepts(0, level[0] - 1.0));
    // Products and powers of a chain of one are exact but for one rounding.
    assert_eq!(bound(&Tensor::new([3.0]).prod(0)).bound, [0.0]);
    let product = bound(&Tensor::new([[3.0]]).matmul(&Tensor::new([[5.0]])));
    assert!(product.bound[0] <= 15.0 * 2f64.powi(-23));
}

#[test]
fn confident_rows_have_relative_bounds() {
    let logits = Tensor::new([[30.0, 0.0, 1.0]]);
    let loss = bound(&logits.cross_entropy(&Tensor::new([0])));
    assert!(loss.value[0] < 1e-12 && loss.bound[0] < 1e-5 * loss.value[0], "{loss:?}");
    // What the naive formula returns is refused.
    assert!(!loss.accepts(0, 0.0));
    let residual = bound(&logits.softmax_residual(&Tensor::new([0])));
    assert!(residual.bound[0] < 1e-5 * residual.value[0].abs() && !residual.accepts(0, 0.0), "{residual:?}");
    let lost = bound(&Tensor::new([[-40.0, 0.0]]).softmax(1));
    assert!(lost.bound[0] < 1e-4 * lost.value[0]);
}

#[test]
fn bounds_start_from_what_the_device_had() {
    let x = Tensor::input("x", [2], DType::F32);
    let hidden = (&x * 3.0).exp();
    let y = &hidden + 1.0;
    let error = bounded(&[y.node().unwrap().clone()], &HashMap::new(), &Arithmetic::default()).unwrap_err();
    assert_eq!(error.code(), Code::Unbound);
    let from_input = bound_from(&y, &[(&x, [0.5f32, 1.0].into())], &Arithmetic::default());
    // Given what the device computed half way, only the last rounding is left, whatever came before.
    let from_hidden = bound_from(&y, &[(&hidden, [4.0f32, 20.0].into())], &Arithmetic::default());
    assert_eq!(from_hidden.value, [5.0, 21.0]);
    assert!(from_hidden.bound[1] < 0.5 * from_input.bound[1]);
    let given_output = bound_from(&y, &[(&y, [4.0f32, 20.0].into())], &Arithmetic::default());
    assert_eq!((given_output.value, given_output.bound), (vec![4.0, 20.0], vec![0.0, 0.0]));
    let short = bounded(
        &[x.node().unwrap().clone()],
        &HashMap::from([(x.node().unwrap().key(), Array::from([1.0]))]),
        &Arithmetic::default(),
    );
    assert_eq!(short.unwrap_err().code(), Code::DataLength);
}

#[test]
fn flushing_devices_may_lose_denormals_and_others_may_not() {
    let x = Tensor::new([1e-40, 1e-30]);
    let specification = Arithmetic::specification();
    let scaled = &x * 2f64.powi(100);
    let lost = bound_from(&scaled, &[], &specification);
    assert!(lost.accepts(0, 0.0) && !lost.accepts(1, 0.0));
    assert!(!bound(&scaled).accepts(0, 0.0));
    let either = bound_from(&x.gt(0.0), &[], &specification);
    assert_eq!(either.bound, [1.0, 0.0]);
    assert!(bound_from(&x.flip(0).flip(0), &[], &specification).accepts(0, 0.0));
}

#[test]
fn half_precision_follows_the_rounding_of_the_device() {
    let x = Tensor::new([0.1, 1.0]);
    let nearest = bound(&x.cast(DType::F16));
    assert_eq!(nearest.bound, [0.0, 0.0]);
    let either = bound_from(&x.cast(DType::F16), &[], &Arithmetic::specification());
    assert_eq!(either.bound, [2f64.powi(-14), 0.0]);
    // An f32 error around a tie may move the result by a whole step.
    let moved = bound(&uncertain(&[1.0 + 2f64.powi(-11)]).cast(DType::F16));
    assert!(moved.accepts(0, 1.0) && moved.accepts(0, 1.0 + 2f64.powi(-10)));
    let large = bound(&Tensor::new([16_777_217]).cast(DType::F32));
    assert!(large.accepts(0, 16_777_216.0) && !large.accepts(0, 16_777_220.0));
}

#[test]
fn overflow_on_the_way_is_admitted_and_not_hidden() {
    let big = Tensor::new([3e38, 3e38, -3e38]);
    let sum = bound(&big.sum(0));
    assert!(sum.accepts(0, f64::INFINITY), "{sum:?}");
    let one_sign = bound(&big.slice(0, 0, 2, 1).sum(0));
    assert!(
        one_sign.accepts(0, f64::INFINITY) && !one_sign.accepts(0, f64::NAN) && !one_sign.accepts(0, 0.0)
    );
    let recovered = bound(&(Tensor::new([100.0]).exp() * Tensor::new([-100.0]).exp()));
    assert!(recovered.accepts(0, f64::NAN), "inf · 0 on a device");
    let fine = bound(&(Tensor::new([10.0]).exp() * Tensor::new([-10.0]).exp()));
    assert!(!fine.accepts(0, f64::NAN));
}
