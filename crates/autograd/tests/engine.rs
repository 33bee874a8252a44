//! Conformance group D and RELIABILITY's group C: what may be asked, and which state answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{
    CustomGradient, State, custom_function, custom_gradient, grad, hvp, jvp, straight_through,
    surrogate_gradient, vjp,
};
use cotangent_tensor::{Code, DType, Node, Op, Tensor, topological};
use support::{assert_digits, gradient, value, values};

#[test]
fn t52_two_targets_and_a_repeated_source() {
    let (x, y) = (Tensor::new(1.0), Tensor::new(1.0));
    let one = Tensor::ones([]);
    let (a, b) = (&x * 2.0, &y * 3.0);
    let both = vjp(&[(&a, &one), (&b, &one)], [&x, &y]).unwrap();
    assert_digits(&both.map(|g| gradient(&g)[0]), &[2.0, 3.0]);
    let twice = vjp(&[(&a, &one)], [&x, &x]).unwrap();
    assert_digits(&twice.map(|g| gradient(&g)[0]), &[2.0, 2.0]);
    assert_digits(&gradient(&grad(&(&x * &x), &x).unwrap()), &[2.0]);
}

#[test]
fn t53_an_output_may_be_its_own_wrt() {
    let (x, y) = (Tensor::new(3.0), Tensor::new(2.0));
    let z = &x * &y;
    let [dx, dz] = vjp(&[(&z, &Tensor::new(1.0)), (&x, &Tensor::new(2.0))], [&x, &z]).unwrap();
    assert_digits(&[gradient(&dx)[0], gradient(&dz)[0]], &[4.0, 1.0]);
    for _ in 0..2 {
        let d = vjp(&[(&(&x * &x), &Tensor::new(2.0))], &x).unwrap();
        assert_digits(&gradient(&d), &[12.0]);
    }
    // The same output twice: cotangents add.
    let d = vjp(&[(&z, &Tensor::new(1.0)), (&z, &Tensor::new(2.0))], &x).unwrap();
    assert_digits(&gradient(&d), &[6.0]);
}

#[test]
fn t55_higher_orders() {
    let x = Tensor::new(3.0);
    let mut orders = vec![x.pow(3.0)];
    for _ in 0..3 {
        orders.push(grad(orders.last().unwrap(), &x).unwrap().or_error().unwrap());
    }
    let got: Vec<f64> = orders.iter().map(value).collect();
    assert_digits(&got, &[27.0, 27.0, 18.0, 6.0]);
    let (x, y) = (Tensor::new(1.5), Tensor::new(-0.5));
    let z = &x * &x + &x * &y + &y * &y;
    let [dx, dy] = grad(&z, [&x, &y]).unwrap();
    let s = dx.or_zero() * 2.0 + dy.or_zero();
    let [sx, sy] = grad(&s, [&x, &y]).unwrap();
    assert_digits(&[gradient(&sx)[0], gradient(&sy)[0]], &[5.0, 4.0]);
    let h = hvp(&z, [&x, &y], [&Tensor::new(2.0), &Tensor::new(1.0)]).unwrap();
    assert_digits(&h.map(|t| value(&t)), &[5.0, 4.0]);
}

#[test]
fn t56_empty_shapes_and_accumulation() {
    let (a, b) = (Tensor::zeros([4, 0]), Tensor::new([[1.0], [2.0], [3.0], [4.0]]));
    let [da, db] = grad(&(&a + &b).sum(..), [&a, &b]).unwrap();
    assert_eq!(da.value().unwrap().shape()[..], [4, 0]);
    assert_digits(&gradient(&da), &[]);
    assert_digits(&gradient(&db), &[0.0; 4]);
    let x = Tensor::new(3.0);
    let mut total = Tensor::zeros([]);
    let mut got = Vec::new();
    for y in [&x * 2.0, &x * 3.0, &x * &x] {
        total = total + grad(&y, &x).unwrap().or_zero();
        got.push(value(&total));
    }
    assert_digits(&got, &[2.0, 5.0, 11.0]);
}

#[test]
fn t59_broadcasting() {
    let (x, y) = (Tensor::zeros([3, 1]), Tensor::zeros([1, 4]));
    let [dx, dy] = grad(&(&x + &y).sum(..), [&x, &y]).unwrap();
    assert_digits(&gradient(&dx), &[4.0; 3]);
    assert_digits(&gradient(&dy), &[3.0; 4]);
    let (c, x, w) = (Tensor::new([true, false, true]), Tensor::new([1.0, 2.0, 3.0]), Tensor::new(5.0));
    assert_digits(&gradient(&grad(&c.select(&x, &w).sum(..), &w).unwrap()), &[1.0]);
    assert_digits(&gradient(&grad(&c.select(&w, &x).sum(..), &w).unwrap()), &[2.0]);
    assert_digits(&gradient(&grad(&(&x * &w).sum(..), &w).unwrap()), &[6.0]);
    let p = Tensor::new(0.5);
    let s = p.sin();
    let loss = (&x * &s).sum(..) + &s;
    assert_digits(&gradient(&grad(&loss, &p).unwrap()), &[6.14307793323]);
}

#[test]
fn containers_of_wrt_come_back_as_they_were() {
    let parameters: Vec<Tensor> = (1..4).map(|i| Tensor::new(f64::from(i))).collect();
    let loss = parameters.iter().fold(Tensor::zeros([]), |s, p| s + p * p);
    let by_reference = grad(&loss, &parameters).unwrap();
    let all: Vec<f64> = by_reference.iter().map(|g| gradient(g)[0]).collect();
    assert_digits(&all, &[2.0, 4.0, 6.0]);
    assert_eq!(grad(&loss, &parameters[..2]).unwrap().len(), 2);
    assert_eq!(grad(&loss, parameters.iter().collect::<Vec<_>>()).unwrap().len(), 3);
    let [first, _] = grad(&loss, &[parameters[0].clone(), parameters[1].clone()]).unwrap();
    assert_digits(&gradient(&first), &[2.0]);
    let one = grad(&loss, &parameters[2]).unwrap();
    assert_digits(&gradient(&one), &[6.0]);
    assert!(grad(&loss, Vec::<Tensor>::new()).unwrap().is_empty());
}

#[test]
fn constants_intermediates_and_the_whole_path_may_be_wrt() {
    let w = Tensor::full([], 3.0);
    let x = Tensor::ones([2]);
    let h = &x * &w;
    let loss = (&h * &h).sum(..);
    let [dw, dx, dh, dl] = grad(&loss, [&w, &x, &h, &loss]).unwrap();
    assert_digits(&gradient(&dw), &[12.0]);
    assert_digits(&gradient(&dx), &[18.0, 18.0]);
    assert_digits(&gradient(&dh), &[6.0, 6.0]);
    assert_digits(&gradient(&dl), &[1.0]);
    // A constant that happens to be one is still the user's: second order must find it.
    let one = Tensor::full([2], 1.0);
    let slope = grad(&(&x * &one).sum(..), &x).unwrap().or_error().unwrap();
    assert_digits(&gradient(&grad(&slope.sum(..), &one).unwrap()), &[1.0, 1.0]);
    // So is a cotangent of ones.
    let (upstream, y) = (Tensor::ones([2]), &x * 5.0);
    let pulled = vjp(&[(&y, &upstream)], &x).unwrap().or_error().unwrap();
    assert_digits(&gradient(&grad(&pulled.sum(..), &upstream).unwrap()), &[5.0, 5.0]);
}

#[test]
fn where_one_moved_tensor_depends_on_another_forward_and_reverse_agree() {
    let x = Tensor::new(2.0);
    let h = &x * &x;
    let y = &h * &x;
    let (tx, th) = (Tensor::new(0.5), Tensor::new(-0.25));
    let pushed = value(&jvp(&[&y], &[(&x, &tx), (&h, &th)]).unwrap()[0]);
    let [dx, dh] = vjp(&[(&y, &Tensor::new(1.0))], [&x, &h]).unwrap();
    assert_digits(&[pushed], &[12.0 * 0.5 + 2.0 * -0.25]);
    assert_digits(&[gradient(&dx)[0], gradient(&dh)[0]], &[12.0, 2.0]);
    // An output that nothing moves has zeros; tangents of one tensor add.
    let still = jvp(&[&Tensor::ones([3]), &x], &[(&x, &tx), (&x, &tx)]).unwrap();
    assert_digits(&values(&still[0]), &[0.0; 3]);
    assert_digits(&[value(&still[1])], &[1.0]);
}

fn kind(state: &State) -> &'static str {
    match state {
        State::Value(_) => "value",
        State::Zero => "zero",
        State::Unconnected => "unconnected",
        State::Stopped { .. } => "stopped",
        State::NotDifferentiable { .. } => "not differentiable",
    }
}

/// Ways from a loss to `x`, each with the state that it alone has, strongest first.
fn paths(x: &Tensor) -> Vec<(&'static str, Tensor)> {
    let cut = CustomGradient::exact("cut").passing_nothing();
    vec![
        ("not differentiable", custom_function("foo", [x], |[x]| x)), // a missing rule
        ("not differentiable", x.exp().trigamma()),                   // a missing row
        ("value", x.exp()),
        ("stopped", x.exp().detach()),
        ("stopped", cut.apply([x], |[x]| (x, |_: Tensor| None))),
        ("not differentiable", x.exp().cast(DType::I32).cast(DType::F32)),
        ("not differentiable", x.reshape([1]).argmax(0).cast(DType::F32)),
        ("zero", x.exp().sign()),
        ("zero", x.floor()),
        ("zero", x.gt(0.0).select(2.0, 1.0)),
        ("zero", x.cast(DType::Bool).select(2.0, 1.0)),
        ("unconnected", Tensor::new(1.0)),
    ]
}

#[test]
fn the_strongest_path_decides_the_state() {
    let x = Tensor::new(0.75);
    let (mut alone, mut together) = (0, 0);
    let ways = paths(&x);
    for (first, (expected, a)) in ways.iter().enumerate() {
        assert_eq!(kind(grad(a, &x).unwrap().state()), *expected, "way {first}");
        alone += 1;
        for (weaker, b) in &ways[first..] {
            for sum in [a + b, b + a, a * 2.0 - b.exp()] {
                let state = grad(&sum, &x).unwrap();
                assert_eq!(kind(state.state()), *expected, "{expected} before {weaker}");
                together += 1;
            }
        }
    }
    assert_eq!((alone, together), (12, 3 * 78));
}

#[test]
fn what_a_path_meets_first_decides_it() {
    let x = Tensor::new(0.75);
    let kinds = [
        ("zero", x.detach().sign()),
        ("stopped", x.sign().detach()),
        ("zero", custom_function("foo", [&x], |[x]| x).floor()),
        ("stopped", custom_function("foo", [&x], |[x]| x).detach()),
        // to cut the path is what the error of the others advises
        ("stopped", x.detach().cast(DType::I32).cast(DType::F32)),
        ("not differentiable", x.cast(DType::I32).cast(DType::F32)),
    ];
    for (way, (expected, y)) in kinds.into_iter().enumerate() {
        assert_eq!(kind(grad(&y, &x).unwrap().state()), expected, "way {way}");
    }
    // A cut subgraph does not hide a parameter that is reached elsewhere.
    let y = x.detach() * &x;
    assert_digits(&gradient(&grad(&y, &x).unwrap()), &[0.75]);
}

#[test]
fn states_answer_or_zero_or_error_and_explain() {
    let x = Tensor::new([0.75, 1.0]).named("x");
    let sum = |t: Tensor| t.sum(..);
    let cases = [
        (sum(x.exp()), None, true),
        (sum(x.floor()), None, true),
        (Tensor::new(1.0), Some(Code::Unconnected), true),
        (sum(x.detach()), Some(Code::Stopped), true),
        (sum(x.cast(DType::I32).cast(DType::F32)), Some(Code::NotDifferentiable), false),
        (sum(x.trigamma()), Some(Code::NoDerivative), false),
    ];
    for (loss, code, zero) in cases {
        let found = grad(&loss, &x).unwrap();
        assert_eq!(found.or_error().err().map(|e| e.code()), code);
        assert_eq!(found.or_zero().error().is_none(), zero);
        assert!(!found.explain().is_empty());
        assert_eq!(found.value().is_some(), matches!(found.state(), State::Value(_)));
        if zero {
            assert_eq!(found.or_zero().shape()[..], [2]);
        }
    }
    let text = grad(&Tensor::new(1.0), &x).unwrap().or_error().unwrap_err().to_string();
    let at = x.node().unwrap().location;
    assert_eq!(
        text,
        format!(
            "error[E_UNCONNECTED]: gradient: the outputs do not depend on `x`\n  at {}:{}:{}\n  help: `.or_zero()` takes \
             zeros for it",
            at.file(),
            at.line(),
            at.column()
        )
    );
}

#[test]
fn integers_are_refused_with_a_hint() {
    let n = Tensor::new([1, 2]);
    for wrong in [grad(&Tensor::new(1.0), &n).unwrap_err(), grad(&Tensor::new(1.0), &n.eq(1)).unwrap_err()] {
        assert_eq!(wrong.code(), Code::NotDifferentiable);
        assert!(wrong.help().is_some_and(|h| h.contains(".cast(DType::F32)")), "{wrong}");
        assert!(wrong.location().unwrap().file().ends_with("engine.rs"));
    }
    assert_eq!(grad(&n.sum(..), &n).unwrap_err().code(), Code::NotDifferentiable);
}

#[test]
fn invalid_tensors_come_back_from_every_boundary() {
    let bad = Tensor::zeros([2]) + Tensor::zeros([3]);
    let x = Tensor::new(1.0);
    let code = |e: cotangent_tensor::Error| e.code();
    assert_eq!(code(grad(&bad, &x).unwrap_err()), Code::Broadcast);
    assert_eq!(code(grad(&x, &bad).unwrap_err()), Code::Broadcast);
    assert_eq!(code(vjp(&[(&x, &bad)], &x).unwrap_err()), Code::Broadcast);
    assert_eq!(code(jvp(&[&bad], &[]).unwrap_err()), Code::Broadcast);
    assert_eq!(code(jvp(&[&x], &[(&x, &bad)]).unwrap_err()), Code::Broadcast);
    assert_eq!(code(hvp(&x, &x, [&x, &x]).unwrap_err()), Code::Cotangent);
    assert_eq!(straight_through(&bad, &x).error().unwrap().code(), Code::Broadcast);
}

#[test]
fn the_same_graph_differentiates_twice_to_the_same_bits() {
    let x = Tensor::new([0.3, 0.7]);
    let loss = (x.sin() * x.exp()).sum(..);
    let bits = || gradient(&grad(&loss, &x).unwrap()).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(), bits());
}

fn new_nodes(gradient: &Tensor, primal: &Tensor) -> Vec<std::sync::Arc<Node>> {
    let old: Vec<*const Node> = topological([primal.node().unwrap()]).iter().map(Node::key).collect();
    let all = topological([gradient.node().unwrap()]);
    all.into_iter().filter(|n| !old.contains(&n.key())).collect()
}

#[test]
fn derivative_nodes_carry_the_line_and_the_name_of_the_primal() {
    let w = Tensor::new([0.5, 2.0]).named("w");
    let line = line!() + 1;
    let eta = (w.exp() * w.relu()).named("eta");
    let loss = (&eta * &eta).prod(..);
    let gradient = grad(&loss, &w).unwrap().or_error().unwrap();
    assert_eq!(gradient.node().unwrap().label.as_deref(), Some("d_w"));
    let made = new_nodes(&gradient, &loss);
    assert!(made.iter().any(|n| n.label.as_deref() == Some("d_eta")));
    let mut lines = std::collections::BTreeSet::new();
    for node in &made {
        assert!(node.location.file().ends_with("engine.rs"), "{node:?} claims {}", node.location);
        lines.insert(node.location.line());
    }
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), [line - 2, line, line + 1]);
    let pushed = jvp(&[&loss], &[(&w, &Tensor::ones([2]))]).unwrap().remove(0);
    assert!(new_nodes(&pushed, &loss).iter().filter(|n| !n.operands.is_empty()).count() > 5);
    for node in new_nodes(&pushed, &loss).iter().filter(|n| !n.operands.is_empty()) {
        assert!(node.location.file().ends_with("engine.rs"), "{node:?} claims {}", node.location);
    }
}

#[test]
fn constants_one_and_minus_one_cost_nothing() {
    let x = Tensor::new([1.0, 2.0]);
    let count = |loss: &Tensor| {
        let gradient = grad(loss, &x).unwrap().or_error().unwrap();
        new_nodes(&gradient, loss).iter().filter(|n| matches!(n.op, Op::Elementwise(_))).count()
    };
    assert_eq!(count(&(2.0 - &x).sum(..)), 0, "minus one is a constant");
    assert_eq!(count(&(&x + &x).sum(..)), 0, "two is a constant");
    assert_eq!(count(&x.exp().sum(..)), 0, "the derivative is the value itself");
    assert_eq!(count(&(5.0 - x.exp()).sum(..)), 1, "one negation");
    let y = surrogate_gradient("rule", "a test", [&x], |[x]| (x, |g: Tensor| g));
    assert_eq!(count(&y.sum(..)), 0);
}

#[test]
fn a_name_does_not_disconnect() {
    let w = Tensor::new(2.0);
    let named = w.named("w");
    let twice = named.named("weight");
    let y = (&named * 3.0 + &twice * &w).sum(..);
    for wrt in [&w, &named, &twice] {
        let found = grad(&y, wrt).unwrap();
        assert_digits(&gradient(&found), &[3.0 + 4.0]);
        assert_digits(&values(&jvp(&[&y], &[(wrt, &Tensor::ones([]))]).unwrap()[0]), &[7.0]);
        assert_digits(&values(&hvp(&y, wrt, &Tensor::ones([])).unwrap()), &[2.0]);
    }
    let [a, b] = grad(&y, [&w, &twice]).unwrap();
    assert_digits(&gradient(&a), &gradient(&b));
    // Anything may be named, and named again: constants, inputs, results, outputs.
    let input = Tensor::input("x", [], DType::F32);
    for x in [Tensor::ones([]), &w * 2.0, input] {
        let y = x.named("x");
        assert!(grad(&(&y * 3.0), &x).unwrap().value().is_some());
        assert!(grad(&(&x * 3.0), &y).unwrap().value().is_some());
        assert_digits(&gradient(&grad(&y, &x).unwrap()), &[1.0]);
    }
    // A value of its own is another one, whatever its name.
    let (a, b) = ((&w * 2.0).named("v"), (&w * 2.0).named("v"));
    assert!(matches!(grad(&a, &b).unwrap().state(), State::Unconnected));
    // In a rule, a parameter stays what it is.
    let z = custom_gradient("scaled", [&w], |[x]| {
        let x = x.named("inside");
        (&x * &x, move |upstream: Tensor| upstream.named("up") * &x * 2.0)
    });
    assert!(z.error().is_none(), "{z:?}");
    assert_digits(&gradient(&grad(&z, &w).unwrap()), &[4.0]);
    assert_digits(&values(&jvp(&[&z], &[(&w, &Tensor::ones([]))]).unwrap()[0]), &[4.0]);
}

#[test]
fn forward_mode_refuses_what_came_back_from_integers() {
    let (x, one) = (Tensor::new([1.5, 0.5]), Tensor::ones([2]));
    let index = x.argmax(0);
    let whole = x.cast(DType::I32);
    let lost = [
        ("cast", whole.cast(DType::F32)),
        ("cast", (&whole + 1).cast(DType::F32).exp() * 2.0),
        ("argmax", index.cast(DType::F32).broadcast_to([2])),
        ("argmax", Tensor::new([3.0, 4.0]).gather(0, &index).broadcast_to([2])),
        ("cast", Tensor::scatter_add(&whole, &Tensor::ones([2]), 0, 2)),
        ("cast", Tensor::zeros([2, 2]).cross_entropy(&whole)),
    ];
    for (op, y) in &lost {
        let error = jvp(&[y], &[(&x, &one)]).unwrap_err();
        assert_eq!(error.code(), Code::NotDifferentiable, "{op}: {error}");
        assert!(error.message().contains(op), "{op}: {error}");
        let reverse = grad(&y.sum(..), &x).unwrap();
        assert!(
            matches!(reverse.state(), State::NotDifferentiable { op: by } if by == op),
            "{:?}",
            reverse.state()
        );
    }
    // A value on another path, a truth value, or a cut: as in reverse mode.
    let mixed = x.gather(0, &index).broadcast_to([2]);
    assert_digits(&values(&jvp(&[&mixed], &[(&x, &one)]).unwrap()[0]), &[1.0, 1.0]);
    let others = [
        x.gt(1.0).cast(DType::F32),
        x.gt(1.0).select(2.0, 3.0),
        whole.eq(1).select(Tensor::ones([2]), 0.0),
        whole.cast(DType::F32).detach(),
        x.floor(),
        whole.cast(DType::F32).sign(),
    ];
    for y in &others {
        assert_digits(&values(&jvp(&[y], &[(&x, &one)]).unwrap()[0]), &[0.0, 0.0]);
    }
    // The second derivative through an integer is missing as well.
    let error = hvp(&(&x * whole.cast(DType::F32) * &x).sum(..), &x, &one);
    assert!(error.is_ok(), "the other paths have values");
    let slope = surrogate_gradient("cut", "the slope of the integer part", [&x], |[x]| {
        (x.exp(), move |upstream: Tensor| upstream * x.cast(DType::I32).cast(DType::F32))
    });
    assert_eq!(hvp(&slope.sum(..), &x, &one).unwrap_err().code(), Code::NotDifferentiable);
}

#[test]
fn zeros_have_the_type_and_the_line_of_what_was_asked_for() {
    let half = Tensor::zeros([2]).cast(DType::F16);
    let other = Tensor::new(1.0);
    let cases = [&other * 1.0, half.cast(DType::F32).sign().sum(..), half.cast(DType::F32).detach().sum(..)];
    for loss in &cases {
        let zeros = grad(loss, &half).unwrap().or_zero();
        assert_eq!((zeros.dtype(), zeros.shape()[0]), (DType::F16, 2));
        assert_eq!(zeros.node().unwrap().location.line(), half.node().unwrap().location.line());
    }
}

#[test]
fn derivatives_that_are_too_large_are_errors() {
    // Nothing of this size is ever computed.
    let x = Tensor::ones([(1 << 31) + 1]);
    let y = x.prod(..);
    assert_eq!(grad(&y, &x).unwrap_err().code(), Code::TooLarge);
    assert_eq!(jvp(&[&y], &[(&x, &x)]).unwrap_err().code(), Code::TooLarge);
    assert_eq!(grad(&(y * 2.0 + x.sum(..)), &x).unwrap_err().code(), Code::TooLarge);
    let wide = Tensor::ones([3, 1 << 30]);
    let part = wide.slice(1, 0, 1 << 30, 3).slice(0, 0, 3, 2).sum(..);
    assert!(grad(&part, &wide).is_ok() || grad(&part, &wide).unwrap_err().code() == Code::TooLarge);
}
