//! Rules as objects, rules in forward mode, and what a rule may pass to an input.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::check::unchecked;
use cotangent_autograd::{
    CustomGradient, InputGradient, Rule, State, Upstream, clip_gradient, clip_gradient_norm, custom_function,
    custom_gradient, custom_jvp, grad, hvp, jvp, observe, replace_gradient, reverse_gradient, scale_gradient,
    surrogate, vjp,
};
use cotangent_tensor::{Code, DType, Evaluate, Reference, Tensor, topological};
use support::{assert_digits, gradient, value, values};

type Gradients = Option<Vec<InputGradient<Tensor>>>;

/// `(scale · x · y, x + y)` with options, saved values of another type than a tensor, and both modes if asked for.
struct Pair {
    scale: f64,
    both: bool,
}

struct Kept {
    x: Tensor,
    y: Tensor,
    note: String,
}

impl Rule for Pair {
    type Saved = Kept;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("pair")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Kept) {
        let (x, y) = (inputs[0].clone(), inputs[1].clone());
        (vec![&x * &y * self.scale, &x + &y], Kept { x, y, note: "saved".into() })
    }
    fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        Some(vec![&inputs[1] * self.scale * &inputs[0], &inputs[1] + &inputs[0]])
    }
    fn vjp(&self, saved: &Kept, upstream: &Upstream, needs: &[bool]) -> Gradients {
        assert_eq!((&*saved.note, needs, upstream.len()), ("saved", &[true, true][..], 2));
        let product = &upstream[0] * self.scale;
        Some(vec![(&product * &saved.y + &upstream[1]).into(), (&product * &saved.x + &upstream[1]).into()])
    }
    fn jvp(&self, saved: &Kept, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        let [Some(dx), Some(dy)] = tangents else { panic!("both inputs are floats") };
        let product = (dx * &saved.y + dy * &saved.x) * self.scale;
        self.both.then(|| vec![Some(product), Some(dx + dy)])
    }
}

#[test]
fn an_object_with_options_and_saved_values_of_any_type() {
    for both in [false, true] {
        let rule = Pair { scale: 2.0, both };
        let (x, y) = (Tensor::new([3.0, -1.0]), Tensor::new([0.5, 4.0]));
        let [product, sum]: [Tensor; 2] = rule.apply(&[&x, &y]).try_into().unwrap();
        assert_digits(&values(&product), &[3.0, -8.0]);
        assert_digits(&values(&sum), &[3.5, 3.0]);
        let loss = (&product * &sum).sum(..);
        let [dx, dy] = grad(&loss, [&x, &y]).unwrap();
        // 2xy(x + y): 2y(2x + y), 2x(x + 2y)
        assert_digits(&gradient(&dx), &[6.5, 16.0]);
        assert_digits(&gradient(&dy), &[24.0, -14.0]);
        let direction = Tensor::new([1.0, -2.0]);
        let pushed = jvp(&[&loss], &[(&x, &direction)]).unwrap();
        assert_digits(&values(&pushed[0]), &[6.5 - 32.0]);
        // 4y along x
        assert_digits(&values(&hvp(&loss, &x, &direction).unwrap()), &[2.0, -32.0]);
    }
}

/// x² and x³, where the gradient says which cotangents it got.
struct Powers;

impl Rule for Powers {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("powers")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        let x = &inputs[0];
        (vec![x * x, x * x * x], x.clone())
    }
    fn vjp(&self, x: &Tensor, upstream: &Upstream, _: &[bool]) -> Gradients {
        let square = upstream.get(0).map(|u| (u * x * 2.0).named("of_square"));
        let cube = upstream.get(1).map(|u| (u * x * x * 3.0).named("of_cube"));
        let all = square.into_iter().chain(cube).reduce(|a, b| a + b);
        Some(vec![all.map_or(InputGradient::Zero, InputGradient::Value)])
    }
    fn sees_missing(&self) -> bool {
        true
    }
}

#[test]
fn t19_missing_cotangents_are_zeros_or_seen_to_be_missing() {
    let x = Tensor::new(2.0);
    let outputs = Powers.apply(&[&x]);
    let names = |loss: &Tensor| {
        let slope = grad(loss, &x).unwrap().or_error().unwrap();
        let order = topological([slope.node().unwrap()]);
        let labels = order.iter().filter_map(|node| node.label.as_deref().map(str::to_owned));
        let labels: Vec<String> = labels.filter(|label| label.starts_with("of_")).collect();
        (value(&slope), labels)
    };
    assert_eq!(names(&outputs[0]), (4.0, vec!["of_square".to_owned()]));
    assert_eq!(names(&outputs[1]), (12.0, vec!["of_cube".to_owned()]));
    assert_eq!(names(&(&outputs[0] + &outputs[1])).0, 16.0);
    assert_eq!(names(&(&outputs[0] + &outputs[1])).1.len(), 2);
    // By default the second cotangent arrives as zeros of the shape of its output.
    let y = Tensor::new([1.0, 2.0]);
    let [first, _] = custom_gradient("two", [&y], |[y]| {
        let gradient = move |[a, b]: [Tensor; 2]| {
            assert_eq!((a.shape()[..].to_vec(), b.shape()[..].to_vec()), (vec![2], vec![3, 2]));
            a + b.sum(0)
        };
        ([&y * 1.0, y.broadcast_to([3, 2])], gradient)
    });
    assert_digits(&gradient(&grad(&first.sum(..), &y).unwrap()), &[1.0, 1.0]);
    // Second order through a pattern: the derivative of 2x · u.
    let slope = grad(&outputs[0], &x).unwrap().or_error().unwrap();
    assert_digits(&gradient(&grad(&slope, &x).unwrap()), &[2.0]);
}

#[test]
fn t21_an_output_without_derivative_leaves_the_others_theirs() {
    let x = Tensor::new([3.0, 1.0]);
    let (values_of, ranks) = CustomGradient::exact("ranked").without_derivative(1).apply([&x], |[x]| {
        let ranks = Tensor::new([1.0, 0.0]);
        ((&x * 2.0, ranks + &x * 0.0), |(upstream, _): (Tensor, Tensor)| upstream * 2.0)
    });
    assert_digits(&gradient(&grad(&values_of.sum(..), &x).unwrap()), &[2.0, 2.0]);
    let state = grad(&ranks.sum(..), &x).unwrap();
    assert!(matches!(state.state(), State::NotDifferentiable { op } if op == "ranked"), "{state:?}");
    // A value on another path does not make it right.
    let mixed = grad(&(values_of.sum(..) + (&ranks * &ranks).sum(..)), &x).unwrap();
    assert_digits(&gradient(&mixed), &[2.0, 2.0]);
    let error = jvp(&[&ranks], &[(&x, &x)]).unwrap_err();
    assert_eq!(error.code(), Code::NotDifferentiable);
    assert!(error.to_string().contains("ranked"), "{error}");
    let wrong = CustomGradient::exact("wrong").without_derivative(1);
    let y = wrong.apply([&x], |[x]| (x.clone(), |g: Tensor| g));
    assert_eq!(y.error().unwrap().code(), Code::RuleArity);
}

#[test]
fn t49_a_forward_of_another_shape_than_the_plain_function() {
    struct Saves(bool);
    impl Rule for Saves {
        type Saved = ();
        fn declare(&self) -> CustomGradient {
            CustomGradient::exact("saves")
        }
        fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, ()) {
            let y = inputs[0].sum(..);
            (if self.0 { vec![y] } else { vec![inputs[0].clone()] }, ())
        }
        fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
            Some(vec![inputs[0].sum(..)])
        }
        fn vjp(&self, (): &(), upstream: &Upstream, _: &[bool]) -> Gradients {
            Some(vec![upstream[0].broadcast_to([3]).into()])
        }
    }
    let x = Tensor::new([1.0, 2.0, 3.0]);
    assert!(Saves(true).apply(&[&x])[0].error().is_none());
    let y = Saves(false).apply(&[&x]).remove(0);
    let text = y.error().unwrap().to_string();
    assert_eq!(y.error().unwrap().code(), Code::RulePrimal);
    for part in ["saves", "f32 [3]", "f32 []", "(outputs, saved)", "objects.rs"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn t68_reverse_mode_is_the_transpose_of_a_given_forward_mode() {
    let (a, b) = (Tensor::new([[1.0, 2.0], [3.0, 4.0]]), Tensor::new([[0.5], [-1.0]]));
    let product = |a: &Tensor, b: &Tensor| {
        custom_jvp("product", [a, b], |[a, b]| {
            let change = {
                let (a, b) = (a.clone(), b.clone());
                move |[da, db]: [Tensor; 2]| da.matmul(&b) + a.matmul(&db)
            };
            (a.matmul(&b), change)
        })
    };
    let upstream = Tensor::new([[1.0], [10.0]]);
    let [da, db] = vjp(&[(&product(&a, &b), &upstream)], [&a, &b]).unwrap();
    let [pa, pb] = vjp(&[(&a.matmul(&b), &upstream)], [&a, &b]).unwrap();
    assert_eq!((gradient(&da), gradient(&db)), (gradient(&pa), gradient(&pb)));
    // second order, both ways
    let loss = |y: Tensor| (&y * &y).sum(..);
    let direction = Tensor::new([[1.0, 0.0], [0.5, -1.0]]);
    let second = |y: Tensor| values(&hvp(&loss(y), &a, &direction).unwrap());
    assert_eq!(second(product(&a, &b)), second(a.matmul(&b)));
    // a forward mode that is not the derivative is honored in both modes
    let x = Tensor::new(2.0);
    let y = custom_jvp("odd", [&x], |[x]| (&x * &x, move |[t]: [Tensor; 1]| t * x * 7.0));
    assert_digits(&gradient(&unchecked(|| grad(&y, &x)).unwrap()), &[14.0]);
    let pushed = unchecked(|| jvp(&[&y], &[(&x, &Tensor::new(1.0))])).unwrap();
    assert_digits(&values(&pushed[0]), &[14.0]);
}

#[test]
fn a_forward_mode_that_is_not_linear_or_does_not_fit_is_refused() {
    let x = Tensor::new([2.0, 1.0]);
    let code = |change: fn([Tensor; 1]) -> Tensor| {
        let y = custom_jvp("bent", [&x], |[x]| (x.clone(), change));
        y.error().map(|error| error.code())
    };
    assert_eq!(code(|[t]| t), None);
    assert_eq!(code(|[t]| &t * &t), Some(Code::RuleLinear));
    assert_eq!(code(|[t]| t + 1.0), Some(Code::RuleLinear));
    assert_eq!(code(|[t]| t.sum(..)), Some(Code::RuleShape));
    assert_eq!(code(|[t]| t.cast(DType::F16)), Some(Code::RuleDtype));
    let w = Tensor::input("w", [2], DType::F32);
    let y = custom_jvp("captures", [&x], |[x]| (x, |[t]: [Tensor; 1]| t * &w));
    assert_eq!(y.error().unwrap().code(), Code::RuleCapture);
    let y = custom_jvp("count", vec![&x], |x: Vec<Tensor>| (x, |_: Vec<Tensor>| vec![]));
    assert_eq!(y[0].error().unwrap().code(), Code::RuleArity);
}

#[test]
fn an_input_gets_a_value_a_zero_nothing_or_a_reason() {
    let inputs = ["a", "b", "c", "d"].map(|name| Tensor::new(2.0).named(name));
    let y = custom_gradient("mixed", [&inputs[0], &inputs[1], &inputs[2], &inputs[3]], |[a, b, c, d]| {
        let gradient = |g: Tensor| {
            let missing = InputGradient::Missing("an integral that nobody has solved".into());
            (g, InputGradient::Zero, InputGradient::Nothing, missing)
        };
        (a * b * c * d, gradient)
    });
    // The zero is no derivative of `b`.
    let all: Vec<_> = inputs.iter().map(|x| unchecked(|| grad(&y, x)).unwrap()).collect();
    assert_digits(&gradient(&all[0]), &[1.0]);
    assert!(matches!(all[1].state(), State::Zero));
    assert!(matches!(all[2].state(), State::Stopped { by } if by == "mixed"));
    assert!(matches!(all[3].state(), State::NotDifferentiable { op } if op == "mixed"));
    let text = all[3].or_error().unwrap_err().to_string();
    assert!(text.contains("an integral that nobody has solved") && text.contains("`d`"), "{text}");
    // It is an error only where that gradient is used.
    assert!(unchecked(|| jvp(&[&y], &[(&inputs[0], &Tensor::new(1.0))])).is_ok());
    let error = unchecked(|| jvp(&[&y], &[(&inputs[3], &Tensor::new(1.0))])).unwrap_err();
    assert_eq!(error.code(), Code::NoJvp);
}

#[test]
fn gradients_of_half_precision_in_single_precision() {
    let x = Tensor::new([300.0, 2.0]).cast(DType::F16);
    // The gradient, 1.8e5, is beyond F16.
    let square = |rule: CustomGradient, dtype: DType| {
        rule.apply([&x], |[x]| {
            let x = x.cast(DType::F32);
            let gradient = move |g: Tensor| {
                assert_eq!(g.dtype(), dtype);
                (g.cast(DType::F32) * x * 600.0).cast(dtype)
            };
            (Tensor::new([1.0, 2.0]).cast(DType::F16), gradient)
        })
    };
    let loss = |y: Tensor| y.cast(DType::F32).sum(..);
    let narrow = grad(&loss(square(CustomGradient::surrogate("narrow", "a test"), DType::F16)), &x).unwrap();
    let wide = CustomGradient::surrogate("wide", "a test").gradients_in(DType::F32);
    let wide = grad(&loss(square(wide, DType::F32)), &x).unwrap();
    assert_eq!(wide.value().unwrap().dtype(), DType::F16);
    assert_digits(&values(wide.single().unwrap()), &[180_000.0, 1200.0]);
    assert_eq!(values(narrow.value().unwrap()), [f64::INFINITY, 1200.0]);
    assert_eq!(values(wide.value().unwrap()), [f64::INFINITY, 1200.0]);
}

#[test]
fn cotangents_are_observed_scaled_clipped_reversed_and_replaced() {
    let x = Tensor::new([3.0, -4.0]);
    let slope = |y: Tensor| gradient(&grad(&(&y * &y).sum(..), &x).unwrap());
    assert_digits(&slope(scale_gradient(&x, 0.5)), &[3.0, -4.0]);
    assert_digits(&slope(reverse_gradient(&x, 2.0)), &[-12.0, 16.0]);
    assert_digits(&slope(clip_gradient(&x, 7.0)), &[6.0, -7.0]);
    assert_digits(&slope(clip_gradient_norm(&x, 5.0)), &[3.0, -4.0]);
    assert_digits(&slope(clip_gradient_norm(&x, 50.0)), &[6.0, -8.0]);
    assert_digits(&slope(replace_gradient(&x, &Tensor::new([1.0, 2.0]))), &[1.0, 2.0]);
    let zero = Tensor::new([0.0, 0.0]);
    let still = clip_gradient_norm(&zero, 1.0);
    assert_digits(&gradient(&grad(&(&still * &still).sum(..), &zero).unwrap()), &[0.0, 0.0]);
    let step = surrogate("step", &x, |x| x.gt(0.0).cast(DType::F32), |x| x.cos());
    assert_digits(&values(&step), &[1.0, 0.0]);
    assert_digits(&gradient(&grad(&step.sum(..), &x).unwrap()), &[3f64.cos(), 4f64.cos()]);
    let error = replace_gradient(&x, &Tensor::new(1.0)).error().unwrap().clone();
    assert_eq!(error.code(), Code::RuleShape);
}

#[test]
fn t58_observed_cotangents_and_actions_on_finished_gradients() {
    let x = Tensor::new([1.0, 2.0]);
    let inputs: Vec<Tensor> = (0..4).map(|i| &x * f64::from(i)).collect();
    let seen: Vec<Tensor> = inputs.iter().enumerate().map(|(i, t)| observe(t, &format!("d{i}"))).collect();
    let loss = (&seen[0] * 10.0 + &seen[1] * 2.0 + &seen[2]).sum(..) + seen[3].detach().sum(..);
    let slope = grad(&loss, &x).unwrap();
    let marks = Reference::new().inspect(&[slope.value().unwrap()]).unwrap();
    let mut labels: Vec<&str> = marks.iter().map(|mark| &*mark.label).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["d0", "d1", "d2"]);
    // Actions run in the order given, on the finished gradient.
    let changed = slope.map(|g| g * 10.0).map(|g| g + 1.0);
    assert_digits(&gradient(&changed), &[41.0, 41.0]);
    let nothing = grad(&x.sum(..), &Tensor::new(1.0)).unwrap().map(|_| panic!("there is no value"));
    assert!(matches!(nothing.state(), State::Unconnected));
    // Cut at an edge and continued from it: the same.
    let (edge, w) = (x.sin(), Tensor::new([0.5, 3.0]));
    let loss = (&edge * &edge * &w).sum(..);
    let upstream = grad(&loss, &edge).unwrap().or_error().unwrap();
    let continued = vjp(&[(&edge, &upstream)], &x).unwrap();
    assert_eq!(gradient(&continued), gradient(&grad(&loss, &x).unwrap()));
}

#[test]
fn what_nobody_asks_for_leaves_the_graph() {
    let (x, y) = (Tensor::new([1.0, 2.0]), Tensor::new([3.0, 4.0]));
    let z = custom_gradient("two", [&x, &y], |[x, y]| {
        (&x * &y, move |g: Tensor| (&g * (y * 1.5).named("for_x"), &g * x.exp().named("costly")))
    });
    let dx = unchecked(|| grad(&z.sum(..), &x)).unwrap().or_error().unwrap();
    let order = topological([dx.node().unwrap()]);
    assert!(order.iter().any(|node| node.called() == "for_x"));
    assert!(!order.iter().any(|node| node.called() == "costly"));
}

#[test]
fn an_object_without_derivatives_or_with_mistakes() {
    struct Plain(usize);
    impl Rule for Plain {
        type Saved = ();
        fn declare(&self) -> CustomGradient {
            CustomGradient::exact("plain")
        }
        fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, ()) {
            assert!(self.0 != 9, "forward fails");
            (vec![inputs[0].clone(); self.0.max(1)], ())
        }
        fn vjp(&self, (): &(), _: &Upstream, _: &[bool]) -> Gradients {
            match self.0 {
                0 => None,
                8 => panic!("vjp fails"),
                _ => Some(vec![]),
            }
        }
        fn sees_missing(&self) -> bool {
            self.0 == 7
        }
    }
    let x = Tensor::new(1.0);
    let y = Plain(0).apply(&[&x]).remove(0);
    assert!(matches!(grad(&y, &x).unwrap().state(), State::NotDifferentiable { op } if op == "plain"));
    for (number, code) in
        [(2, Code::RuleArity), (7, Code::RuleArity), (8, Code::UserPanic), (9, Code::UserPanic)]
    {
        let outputs = Plain(number).apply(&[&x]);
        assert_eq!(outputs[0].error().unwrap().code(), code, "{number}");
        assert_eq!(outputs.len(), if number == 9 { 1 } else { number });
    }
    let invalid = Plain(3).apply(&[&(Tensor::new([1.0, 2.0]) + Tensor::new([1.0, 2.0, 3.0]))]);
    assert_eq!(invalid.iter().map(|t| t.error().unwrap().code()).collect::<Vec<_>>(), [Code::Broadcast; 3]);
    // Integers need nothing, and get nothing.
    let labels = Tensor::new([1, 0]);
    let picked = custom_function("pick", [&labels], |[l]| l.cast(DType::F32));
    assert!(picked.error().is_none());
}

#[test]
fn a_forward_mode_of_the_first_order_is_used_once() {
    let x = Tensor::new(3.0);
    let hides = || CustomGradient::exact("hides").first_order_only();
    let y = hides().apply_jvp([&x], |[x]| (&x * &x, move |[t]: [Tensor; 1]| t * x.detach() * 2.0));
    let one = Tensor::new(1.0);
    let pushed = jvp(&[&y], &[(&x, &one)]).unwrap().remove(0);
    assert_digits(&values(&pushed), &[6.0]);
    assert_eq!(jvp(&[&pushed], &[(&x, &one)]).unwrap_err().code(), Code::FirstOrderOnly);
    let again = grad(&pushed, &x).unwrap().or_error().unwrap_err();
    assert_eq!(again.code(), Code::FirstOrderOnly, "{again}");
    let slope = grad(&y, &x).unwrap().or_error().unwrap();
    assert_digits(&values(&slope), &[6.0]);
    assert_eq!(grad(&slope, &x).unwrap().or_error().unwrap_err().code(), Code::FirstOrderOnly);
    // Forward over reverse does not look past what the rule hides either.
    let square = |x: &Tensor| hides().apply([x], |[x]| (&x * &x, move |g: Tensor| g * x.detach() * 2.0));
    assert_eq!(hvp(&square(&x), &x, &one).unwrap_err().code(), Code::FirstOrderOnly);
    // What does not depend on x is free to move.
    let w = Tensor::new(2.0);
    assert_digits(&values(&jvp(&[&(slope * &w)], &[(&w, &one)]).unwrap()[0]), &[6.0]);
}

#[test]
fn a_mode_that_is_cut_in_part_has_no_transpose() {
    let x = Tensor::new([2.0, -1.0]);
    let code = |change: fn([Tensor; 1]) -> Tensor| {
        custom_jvp("f", [&x], |[x]| (x * 2.0, change)).error().map(|error| error.code())
    };
    assert_eq!(code(|[t]| t * 2.0), None);
    assert_eq!(code(|[t]| &t + t.detach()), Some(Code::RuleLinear));
    assert_eq!(code(|[t]| &t + t.sign()), Some(Code::RuleLinear));
    let one = Tensor::ones([2]);
    let rounds = cotangent_autograd::map_cotangent(&x, |u| &u * 0.9 + u.round() * 0.1);
    assert_eq!(jvp(&[&rounds], &[(&x, &one)]).unwrap_err().code(), Code::NoJvp);
    let scaled = scale_gradient(&x, 0.9);
    assert_digits(&values(&jvp(&[&scaled], &[(&x, &one)]).unwrap()[0]), &[0.9, 0.9]);
}

#[test]
fn cotangents_of_half_precision_pass_through_ready_made_rules_as_they_are() {
    let w = Tensor::new([2.0, 4.0]);
    let half = w.cast(DType::F16);
    let rewrites: [(&str, Tensor, f64); 7] = [
        ("observe", observe(&half, "d"), 1.0),
        ("scale", scale_gradient(&half, 3.0), 3.0),
        ("reverse", reverse_gradient(&half, 2.0), -2.0),
        ("clip", clip_gradient(&half, 1e9), 1.0),
        ("norm", clip_gradient_norm(&half, 1e9), 1.0),
        ("straight", cotangent_autograd::straight_through(&half, &half), 1.0),
        ("surrogate", surrogate("s", &half, Tensor::clone, |x| Tensor::ones(x.shape())), 1.0),
    ];
    for (name, y, factor) in rewrites {
        assert!(y.error().is_none(), "{name}: {:?}", y.error());
        for size in [1e-8, 1e6] {
            let loss = (y.cast(DType::F32) * size).sum(..);
            let slope = gradient(&grad(&loss, &w).unwrap());
            let expected = factor * size;
            assert_digits(&slope, &[expected, expected]);
        }
    }
    let replaced = replace_gradient(&half, &Tensor::new([1e6, 1.0]).cast(DType::F32).cast(DType::F16));
    assert!(replaced.error().is_none(), "{:?}", replaced.error());
}
