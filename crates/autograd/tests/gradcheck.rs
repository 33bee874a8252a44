//! Conformance group E: what `gradcheck` must find, each under its own code, and what it must let pass.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;

use cotangent_autograd::check::Undefined;
use cotangent_autograd::{
    CustomGradient, GradCheck, InputGradient, Rule, Upstream, clip_gradient, clip_gradient_norm,
    custom_function, custom_gradient, custom_jvp, gradcheck, map_cotangent, observe, replace_gradient,
    reverse_gradient, scale_gradient, straight_through, surrogate, surrogate_gradient,
};
use cotangent_tensor::{Code, DType, Error, Evaluate, Reference, Tensor};
use support::check::{check, finds, number, passes, rule};
use support::{assert_digits, values};

#[test]
fn t61_a_wrong_entry_is_named_with_both_values() {
    let at = [Tensor::new([1.0, 2.0])];
    let wrong = rule("square", |x| x * x, |x, g| (x * 2.0 + 0.01) * g);
    let error = finds(check(wrong, &at), Code::RuleWrong);
    assert_eq!(error.operation(), "custom gradient \"square\"");
    assert!(error.message().starts_with("output 0, input 0 `input0`, element ["), "{error}");
    assert!(error.help().unwrap().contains("declare a surrogate if the difference is intended"));
    assert_eq!((number(&error, "output"), number(&error, "input"), number(&error, "order")), (0.0, 0.0, 1.0));
    assert!(error.location().unwrap().file().ends_with("check.rs"));
    let x = values(&at[0])[number(&error, "element") as usize];
    assert_digits(&[number(&error, "got"), number(&error, "expected")], &[2.0 * x + 0.01, 2.0 * x]);
    assert!(error.message().contains("for a cotangent of ones"), "{error}");
    passes(&check(rule("square", |x| x * x, |x, g| x * 2.0 * g), &at));
}

#[test]
fn t61_the_largest_error_is_named() {
    let at = [Tensor::new([[1.0, 2.0], [3.0, 4.0]])];
    let error = |x: &Tensor| Tensor::new([[0.0, 0.1], [30.0, 0.2]]) * x;
    let wrong = rule("square", |x| (x * x).sum(..), move |x, g| (x * 2.0 + error(x)) * g);
    let found = finds(check(wrong, &at), Code::RuleWrong);
    assert!(found.message().contains("element [1, 0]"), "{found}");
}

#[test]
fn t61_errors_that_cancel_for_ones_are_found_with_random_cotangents() {
    let wrong = rule("softmax", |x| x.softmax(0), |x, g| x.softmax(0) * (g - g.mean(..)));
    let error = finds(check(wrong, &[Tensor::new([1.0, 2.0, 0.5])]), Code::RuleWrong);
    assert!(error.message().contains("for a cotangent of random numbers"), "{error}");
}

#[test]
fn t62_a_rule_that_ignores_its_cotangent() {
    let at = [Tensor::new([1.0, 2.0])];
    // Seen when it is applied, where nothing hides it.
    let visible = rule("square", |x| x * x, |x, _| x * 2.0)([Tensor::new([1.0, 2.0])]);
    let visible = visible.error().cloned().unwrap();
    assert_eq!(visible.code(), Code::RuleLinear);
    assert!(visible.message().contains("nothing in it comes from `upstream`"), "{visible}");
    let error = finds(check(rule("square", |x| x * x, |x, g| x * 2.0 + g * 0.0), &at), Code::RuleLinear);
    assert!(error.message().starts_with("ignores its cotangent"), "{error}");
    // Declared, it passes.
    let declared = |[x]: [Tensor; 1]| {
        surrogate_gradient("square", "a test", [&x], |[x]| (&x * &x, move |_: Tensor| x * 2.0))
    };
    passes(&check(declared, &at));
}

#[test]
fn case_58_a_rule_that_is_not_linear_in_its_cotangent() {
    let at = [Tensor::new([1.0, 2.0])];
    let error = finds(check(rule("square", |x| x * x, |x, g| x * 2.0 * g * g), &at), Code::RuleLinear);
    assert!(error.message().contains("f(2v) = ") && error.message().contains("2 f(v) = "), "{error}");
    // Twice the cotangent gives twice the gradient here.
    for backward in [|_: &Tensor, g: &Tensor| g.abs(), |_: &Tensor, g: &Tensor| g.clamp(-10.0, 10.0)] {
        let error = finds(check(rule("size", |x| x * 1.0, backward), &at), Code::RuleLinear);
        assert!(error.message().contains("f(-1024v) = "), "{error}");
    }
    // Every factor passes, but what is added up does not.
    let error = finds(check(rule("unit", |x| x * 1.0, |_, g| g * g / g.abs()), &at), Code::RuleLinear);
    assert!(error.message().contains("a cotangent of zeros gives NaN instead of 0"), "{error}");
    let mixed = |_: &Tensor, g: &Tensor| (g * g * g) / ((g * g).sum(..) + f64::MIN_POSITIVE);
    let error = finds(check(rule("mixed", |x| x * 1.0, mixed), &at), Code::RuleLinear);
    assert!(error.message().contains("f(u + v) = "), "{error}");
    let error = finds(check(rule("offset", |x| x * 1.0, |_, g| g + 0.5), &at), Code::RuleLinear);
    assert!(error.message().contains("a cotangent of zeros gives 0.5 instead of 0"), "{error}");
    passes(&check(rule("linear", |x| x * 1.0, |_, g| g * 0.5 + g * 0.5), &at));
}

#[test]
fn t63_case_59_a_rule_that_changes_from_trace_to_trace() {
    let at = [Tensor::new([1.0, 2.0])];
    let calls = Cell::new(0.0);
    let drifting = |[x]: [Tensor; 1]| {
        calls.set(calls.get() + 1e-6);
        let factor = 2.0 + calls.get();
        custom_gradient("square", [&x], |[x]| (&x * &x, move |g: Tensor| x * factor * g))
    };
    let error = finds(check(drifting, &at), Code::RuleNondeterministic);
    assert!(error.message().contains("gradient of output 0 by input 0"), "{error}");
    assert_eq!(error.operation(), "custom gradient \"square\"");
    calls.set(0.0);
    let allowed = GradCheck::new().nondeterminism(1e-5).run(drifting, &at, &Reference::new()).unwrap();
    passes(&allowed);
    // What is allowed for chance is allowed for nothing else.
    calls.set(0.0);
    let wrong = |x: [Tensor; 1]| drifting(x.clone()) * rule("one", |x| x * 1.0, |_, g| g * 1.001)(x);
    let report = GradCheck::new().nondeterminism(1e-4).run(wrong, &at, &Reference::new()).unwrap();
    assert!(report.findings.iter().any(|f| f.code() == Code::RuleWrong), "{report}");
    // Among several, the one that changes is named.
    let second = |[x]: [Tensor; 1]| rule("one", |x| x * 1.0, |_, g| g * 1.0)([drifting([x])]);
    assert_eq!(
        finds(check(second, &at), Code::RuleNondeterministic).operation(),
        "custom gradient \"square\""
    );
    // A value that changes.
    let noisy = |[x]: [Tensor; 1]| {
        calls.set(calls.get() + 1e-6);
        &x * &x + calls.get()
    };
    finds(check(noisy, &at), Code::RuleNondeterministic);
}

#[test]
fn t65_shapes_and_types_that_change_from_call_to_call() {
    let at = [Tensor::new([1.0, 2.0])];
    let calls = Cell::new(0usize);
    let turn = |even: fn(&Tensor) -> Tensor, odd: fn(&Tensor) -> Tensor| {
        let calls = &calls;
        move |[x]: [Tensor; 1]| {
            calls.set(calls.get() + 1);
            if calls.get().is_multiple_of(2) { even(&x) } else { odd(&x) }
        }
    };
    let error = finds(check(turn(|x| x.exp(), |x| x.exp().sum(..)), &at), Code::RuleUnstable);
    assert!(error.message().contains("output 0 is f32"), "{error}");
    finds(check(turn(|x| x.exp(), |x| x.cast(DType::I32)), &at), Code::RuleUnstable);
    finds(check(turn(|x| x.exp(), |x| x.cast(DType::F16)), &at), Code::RuleUnstable);
    passes(&check(turn(|x| x.exp(), |x| x.exp()), &at));
    // Inside, where the sum hides it: the rule is named.
    let hidden = |[x]: [Tensor; 1]| {
        calls.set(calls.get() + 1);
        let n = 2 + calls.get() % 2;
        let wide = custom_gradient("wide", [&x.sum(..)], |[x]| (x.broadcast_to([n]), |g: Tensor| g.sum(..)));
        wide.sum(..) / n as f64
    };
    let error = finds(check(hidden, &at), Code::RuleUnstable);
    assert_eq!(error.operation(), "custom gradient \"wide\"");
    // On a value of the input that was read.
    let by_value = |[x]: [Tensor; 1]| {
        let read = Reference::new().evaluate(&[&x]).unwrap()[0].to_f64()[0];
        if read.to_bits() == 1f64.to_bits() { x.exp() } else { x.exp().sum(..) }
    };
    finds(check(by_value, &at), Code::RuleUnstable);
    // As many outputs as calls.
    let more = |[x]: [Tensor; 1]| {
        calls.set(calls.get() + 1);
        vec![x.exp(); calls.get()]
    };
    finds(check(more, &at), Code::RuleUnstable);
}

#[test]
fn t67_nothing_to_differentiate_and_errors_of_the_function() {
    let run = |function: &dyn Fn([Tensor; 1]) -> Tensor, inputs: &[Tensor; 1]| {
        gradcheck(function, inputs, &Reference::new()).unwrap_err()
    };
    let (inputs, integers) = ([Tensor::new([1.0, 2.0])], Tensor::new([1, 2]));
    let nothing = run(&|[x]| x.cast(DType::F32), &[integers]);
    assert_eq!(nothing.code(), Code::NotDifferentiable);
    assert!(nothing.message().contains("none of 1 inputs"), "{nothing}");
    let fixed = GradCheck::new().fixed(0).run(|[x]| x.exp(), &inputs, &Reference::new());
    assert_eq!(fixed.unwrap_err().code(), Code::NotDifferentiable);
    let no_output = run(&|[x]| x.gt(0.0), &inputs);
    assert_eq!(no_output.code(), Code::NotDifferentiable);
    let empty = run(&|[x]| x.exp(), &[Tensor::from_values(Vec::<f64>::new(), [0])]);
    assert_eq!(empty.code(), Code::CrossCheck);
    let mine = || Error::new(Code::Family, "mine", "an error of the user's");
    let through = run(&|_| Tensor::invalid(mine()), &inputs);
    assert_eq!(through.to_string(), mine().to_string());
    let shapes = run(&|[x]| &x + Tensor::zeros([3]), &inputs);
    assert_eq!(shapes.code(), Code::Broadcast);
    assert!(shapes.location().unwrap().file().ends_with("gradcheck.rs"));
    let panic = run(&|_| panic!("no such table"), &inputs);
    assert_eq!((panic.code(), panic.message()), (Code::UserPanic, "the function panicked: no such table"));
    let arity = run(&|[x]| custom_gradient("two", [&x, &x], |[a, b]| (a + b, |g: Tensor| vec![g])), &inputs);
    assert_eq!(arity.code(), Code::RuleArity);
    // A derivative that is missing is no zero.
    let missing = run(&|[x]| custom_function("foo", [&x], |[x]| x.exp()), &inputs);
    assert_eq!(missing.code(), Code::NotDifferentiable);
    for order in [0, 4] {
        let error = GradCheck::new().order(order).run(|[x]| x.exp(), &inputs, &Reference::new()).unwrap_err();
        assert_eq!(error.code(), Code::Hyperparameter);
    }
}

#[test]
fn t68_a_wrong_forward_mode() {
    let at = [Tensor::new([0.5, -1.0])];
    let wrong = rule("sine", Tensor::sin, |x, g| map_cotangent(g, |t| t * 1.1) * x.cos());
    let error = finds(check(wrong, &at), Code::RuleForward);
    assert_eq!(error.operation(), "custom gradient \"sine\"");
    assert_digits(&[number(&error, "got") / number(&error, "expected")], &[1.1]);
    // A surrogate has to be one function in both modes, too.
    let surrogate = |[x]: [Tensor; 1]| {
        surrogate_gradient("soft", "a test", [&x], |[x]| {
            (x.sign(), move |g: Tensor| map_cotangent(&g, |t| t * 1.1) * x.cos())
        })
    };
    assert_eq!(finds(check(surrogate, &at), Code::RuleForward).operation(), "custom gradient \"soft\"");
    let reverse_only = GradCheck::new().forward(false).run(wrong_sine, &at, &Reference::new()).unwrap();
    passes(&reverse_only);
    assert_eq!(reverse_only.compared.forward, 0);
    passes(&check(rule("sine", Tensor::sin, |x, g| g * x.cos()), &at));
}

fn wrong_sine(x: [Tensor; 1]) -> Tensor {
    rule("sine", Tensor::sin, |x, g| map_cotangent(g, |t| t * 1.1) * x.cos())(x)
}

#[test]
fn t68_a_wrong_second_and_third_order() {
    let at = [Tensor::new([1.5, -0.5])];
    let order = |n| GradCheck::new().order(n);
    let detached = rule("saved", |x| (x * 2.0).pow(2.0), |x, g| (x * 2.0).detach() * 4.0 * g);
    passes(&order(1).run(&detached, &at, &Reference::new()).unwrap());
    let error = finds(order(2).run(&detached, &at, &Reference::new()).unwrap(), Code::RuleOrder);
    assert_eq!((error.operation(), number(&error, "order")), ("custom gradient \"saved\"", 2.0));
    let saved = rule("saved", |x| (x * 2.0).pow(2.0), |x, g| (x * 2.0) * 4.0 * g);
    passes(&order(3).run(&saved, &at, &Reference::new()).unwrap());
    // Right twice, wrong the third time.
    let third = rule(
        "quartic",
        |x| x.pow(4.0),
        |x, g| {
            let cube = custom_gradient("cube", [x], |[x]| {
                (x.pow(3.0), move |g: Tensor| x.detach().pow(2.0) * 3.0 * g)
            });
            cube * 4.0 * g
        },
    );
    passes(&order(2).run(&third, &at, &Reference::new()).unwrap());
    let error = finds(order(3).run(&third, &at, &Reference::new()).unwrap(), Code::RuleOrder);
    // The rule inside the gradient is to blame, at its own second order.
    assert_eq!((error.operation(), number(&error, "order")), ("custom gradient \"cube\"", 2.0));
    // What knows the first order only says so itself.
    let sealed = |[x]: [Tensor; 1]| {
        CustomGradient::exact("sealed")
            .first_order_only()
            .apply([&x], |[x]| (&x * &x, move |g: Tensor| x * 2.0 * g))
    };
    passes(&order(1).run(sealed, &at, &Reference::new()).unwrap());
    let error = order(2).run(sealed, &at, &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::FirstOrderOnly);
}

#[test]
fn t69_a_surrogate_passes_and_its_distance_is_reported() {
    let at = [Tensor::new([3.0])];
    let backward = |x: &Tensor, g: &Tensor| g * x.sigmoid() * (-x).sigmoid();
    let declared = move |[x]: [Tensor; 1]| {
        surrogate_gradient("soft_sign", "sign is flat", [&x], |[x]| {
            (x.sign(), move |g: Tensor| backward(&x, &g))
        })
    };
    let report = check(declared, &at);
    passes(&report);
    let [surrogate] = &report.surrogates[..] else { panic!("{report}") };
    assert_eq!((&*surrogate.rule, &*surrogate.reason), ("soft_sign", "sign is flat"));
    assert_digits(&[surrogate.distance(), surrogate.gradient], &[0.04517665973; 2]);
    assert!(report.to_string().contains("surrogate `soft_sign` (sign is flat): 0.04517665"), "{report}");
    finds(check(rule("soft_sign", Tensor::sign, backward), &at), Code::RuleWrong);
    // Whatever comes before or after it is checked as ever.
    let hidden = move |x: [Tensor; 1]| {
        let bent = rule("exp", Tensor::exp, |x, g| x.exp() * g * 1.001)([declared(x.clone())]);
        bent.sin() + rule("cut", |x| x.exp() + x, |x, g| x.exp() * g)(x)
    };
    let report = check(hidden, &at);
    let found: Vec<&str> = report.findings.iter().map(|f| f.operation()).collect();
    assert_eq!(found, ["custom gradient \"exp\"", "custom gradient \"cut\""], "{report}");
    passes(&check(move |[x]| declared([x.clone()]).exp().sin() * x.exp(), &at));
    // A surrogate that is true is near.
    let true_one = |[x]: [Tensor; 1]| {
        surrogate_gradient("exp", "a test", [&x], |[x]| (x.exp(), move |g: Tensor| x.exp() * g))
    };
    let report = check(true_one, &at);
    assert_eq!((report.surrogates[0].distance(), report.surrogates[0].place.is_none()), (0.0, true));
    let through = check(|[x]| straight_through(&x.round(), &x) * 2.0, &at);
    passes(&through);
    assert_eq!(through.surrogates.len(), 1);
}

#[test]
fn t49_case_52_a_forward_that_is_not_the_plain_function() {
    let at = [Tensor::new([1.0, 2.0])];
    let run = |with: &dyn Fn([Tensor; 1]) -> Vec<Tensor>| {
        GradCheck::new().run_with_plain(with, |[x]| &x * &x, &at, &Reference::new()).unwrap()
    };
    let saved = |[x]: [Tensor; 1]| {
        custom_gradient("square", [&x], |[x]| {
            (vec![&x * &x, x.clone()], move |g: Vec<Tensor>| &x * 2.0 * &g[0] + &g[1])
        })
    };
    let error = finds(run(&saved), Code::RulePrimal);
    assert!(error.help().unwrap().contains("returns a pair"), "{error}");
    let shape =
        |x: [Tensor; 1]| vec![rule("f", |x| (x * x).sum(..), |x, g| g.broadcast_to([2]) * x * 2.0)(x)];
    finds(run(&shape), Code::RulePrimal);
    let value = |x: [Tensor; 1]| vec![rule("f", |x| x * x + 1e-9, |x, g| g * x * 2.0)(x)];
    let error = finds(run(&value), Code::RulePrimal);
    assert!(error.message().contains("output 0, element [0]"), "{error}");
    let right = |x: [Tensor; 1]| vec![rule("f", |x| x.pow(2.0), |x, g| g * x * 2.0)(x)];
    passes(&run(&right));
}

#[test]
fn an_input_that_a_rule_passes_over() {
    let at = [Tensor::new([1.0, 2.0]), Tensor::new([0.5, -1.0])];
    let partial = |[a, b]: [Tensor; 2]| {
        custom_gradient("product", [&a, &b], |[a, b]| (&a * &b, move |g: Tensor| [Some(g * b), None]))
    };
    let error = finds(check(partial, &at), Code::RuleCut);
    assert!(error.message().contains("passes nothing to output 0, input 1 `input1`"), "{error}");
    assert_eq!(number(&error, "input"), 1.0);
    // Where it does not matter there is nothing to pass.
    let unused = |[a, b]: [Tensor; 2]| {
        custom_gradient("first", [&a, &b], |[a, _]| (a.exp(), move |g: Tensor| [Some(g * a.exp()), None]))
    };
    passes(&check(unused, &at));
    // A cut that was declared, and one that the user wrote.
    let declared = |[a, b]: [Tensor; 2]| {
        let cut = CustomGradient::exact("cut").passing_nothing();
        cut.apply([&b], |[b]| (b, |_: Tensor| None)) * &a
    };
    passes(&check(declared, &at));
    passes(&GradCheck::new().order(3).run(|[a, b]| a.exp() * b.detach(), &at, &Reference::new()).unwrap());
    passes(&check(|[a, _]| &a * a.detach(), &at));
}

#[test]
fn inputs_come_in_every_form_and_under_their_names() {
    let (x, w) = (Tensor::new([1.0, 2.0]), Tensor::new([0.5, -1.0]).named("w"));
    // The second factor is wrong.
    let scaled = |x: &Tensor, w: &Tensor| {
        custom_gradient("scaled", [x, w], |[x, w]| (&x * &w, move |g: Tensor| [&g * w, g * x.exp()]))
    };
    let all = [x.clone(), w.clone()];
    let reports = [
        check(|[x, w]| scaled(&x, &w), [&x, &w]),
        check(|[x, w]| scaled(&x, &w), &all),
        check(|all| scaled(&all[0], &all[1]), &all[..]),
        check(|all| scaled(&all[0], &all[1]), all.to_vec()),
    ];
    for report in reports {
        let error = finds(report, Code::RuleWrong);
        assert!(error.message().starts_with("output 0, input 1 `w`, element [1]"), "{error}");
    }
    // A point may be computed; what it is made of does not count.
    let report = check(|[h, w]| (h * w).sin(), [&x.exp(), &w]);
    passes(&report);
    assert_eq!(report.compared.dual, 4);
    let invalid = &x + Tensor::zeros([3]);
    let error = gradcheck(|[x]| x.exp(), [&invalid], &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::Broadcast);
}

#[test]
fn a_given_tensor_that_is_used_past_the_argument() {
    let (x, w) = (Tensor::new([1.0, 2.0]), Tensor::new([0.5, -1.0]));
    let error = finds(check(|[a, _]| (a * &w).exp(), [&x, &w]), Code::Unconnected);
    assert!(error.message().starts_with("output 0 depends on input 1 past what the closure"), "{error}");
    let inside = |[a, _]: [Tensor; 2]| custom_gradient("inside", [&a], |[a]| (a * &w, |g: Tensor| g * &w));
    let error = gradcheck(inside, [&x, &w], &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::RuleCapture);
    // What is no input, and what is detached, is a constant.
    passes(&check(|[a]| (a * &w).exp(), [&x]));
    passes(&check(|[a]| (&a - x.detach()).exp() * a, [&x]));
}

/// `exp`, and a number that has no derivative.
fn declared(name: &str, number: fn(&Tensor) -> Tensor, [x]: [Tensor; 1]) -> Vec<Tensor> {
    CustomGradient::exact(name).without_derivative(1).apply([&x], |[x]| {
        let y = x.exp();
        (vec![y.clone(), number(&x)], move |g: Vec<Tensor>| &g[0] * y)
    })
}

#[test]
fn what_is_declared_to_have_no_derivative_is_left_out_and_listed() {
    let at = [Tensor::new([1.0, 2.0])];
    let none = |output: usize, input: usize| Undefined { output, input, rule: "pair".to_string() };
    for (order, number) in [(1, Tensor::round as fn(&Tensor) -> Tensor), (2, |x| (x - x).log())] {
        let run = |[x]: [Tensor; 1]| declared("pair", number, [x]);
        let report = GradCheck::new().order(order).run(run, &at, &Reference::new()).unwrap();
        passes(&report);
        assert_eq!(report.undefined, [none(1, 0)]);
        assert_eq!(report.compared.dual, 2 * 2 * order, "{report}");
        let text = "no derivative of output 1 by input 0, as `pair` declares";
        assert!(report.to_string().contains(text), "{report}");
    }
    // Only by the input that leads there; what is computed from it has none either.
    let two = [Tensor::new([1.0, 2.0]), Tensor::new([0.5, 0.25])];
    let of = |factor: f64| {
        move |[x, w]: [Tensor; 2]| {
            let bent = rule("sine", Tensor::sin, move |w, g| w.cos() * g * factor);
            declared("pair", Tensor::round, [x]).remove(1) * 2.0 * bent([w])
        }
    };
    let report = check(of(1.0), &two);
    passes(&report);
    assert_eq!(report.undefined, [none(0, 0)]);
    finds(check(of(1.1), &two), Code::RuleWrong);
    // A comparison has a derivative, which is zero.
    let compared =
        |[x]: [Tensor; 1]| declared("pair", Tensor::round, [x.clone()]).remove(1).gt(1.5).select(x.sin(), x);
    let report = check(compared, &at);
    passes(&report);
    assert_eq!(report.undefined, []);
    // The rule is checked all the same.
    let wrong = |[x]: [Tensor; 1]| {
        CustomGradient::exact("pair")
            .without_derivative(1)
            .apply([&x], |[x]| (vec![x.exp(), x.round()], |g: Vec<Tensor>| g[0].clone()))
    };
    finds(check(wrong, &at), Code::RuleWrong);
    // Nothing else, and what is missing without a word.
    let alone = |x: [Tensor; 1]| declared("pair", Tensor::round, x).remove(1);
    let error = gradcheck(alone, &at, &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::NotDifferentiable);
    assert!(error.message().contains("as `pair` declares"), "{error}");
    let missing = |[x]: [Tensor; 1]| {
        let [y, number] = declared("pair", Tensor::round, [x.clone()]).try_into().unwrap();
        [y, number, custom_function("foo", [&x], |[x]| x.exp())]
    };
    let error = gradcheck(missing, &at, &Reference::new()).unwrap_err();
    assert!(error.message().contains("`foo`"), "{error}");
}

#[test]
fn a_value_that_was_read_is_an_accidental_cut() {
    let at = [Tensor::new([1.0, 2.0]), Tensor::new([0.5, -1.0])];
    let read = |[a, b]: [Tensor; 2]| {
        let values = Reference::new().evaluate(&[&b]).unwrap().remove(0);
        &a * Tensor::new(values)
    };
    let error = finds(check(read, &at), Code::Unconnected);
    assert!(error.message().starts_with("input 1 reaches output 0 past the graph"), "{error}");
    passes(&check(|[a, b]| a * b, &at));
    // An input that does not matter is fine.
    passes(&check(|[a, _]| a.exp(), &at));
}

/// `sin` by both modes, each with a factor.
struct Sine {
    reverse: f64,
    forward: f64,
}

impl Rule for Sine {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("sine")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        (vec![inputs[0].sin()], inputs[0].cos())
    }
    fn vjp(&self, cos: &Tensor, upstream: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
        Some(vec![(&upstream[0] * cos * self.reverse).into()])
    }
    fn jvp(&self, cos: &Tensor, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        Some(vec![tangents[0].as_ref().map(|tangent| tangent * cos * self.forward)])
    }
}

#[test]
fn t68_a_wrong_forward_mode_of_the_users_own() {
    let at = [Tensor::new([0.5, -1.0])];
    let sine = |reverse, forward| move |[x]: [Tensor; 1]| Sine { reverse, forward }.apply(&[&x]);
    let error = finds(check(sine(1.0, 1.1), &at), Code::RuleForward);
    assert_eq!(error.operation(), "custom gradient \"sine\"");
    assert_digits(&[number(&error, "got") / number(&error, "expected")], &[1.1]);
    finds(check(sine(1.1, 1.0), &at), Code::RuleWrong);
    passes(&GradCheck::new().order(3).run(sine(1.0, 1.0), &at, &Reference::new()).unwrap());
    // The gradient of a rule that is given in forward mode is the transpose.
    let by_jvp = |factor: f64| {
        move |[x]: [Tensor; 1]| {
            custom_jvp("sine", [&x], |[x]| (x.sin(), move |[t]: [Tensor; 1]| x.cos() * t * factor))
        }
    };
    finds(check(by_jvp(1.1), &at), Code::RuleWrong);
    passes(&GradCheck::new().order(3).run(by_jvp(1.0), &at, &Reference::new()).unwrap());
}

/// Sum and product of two inputs, with what may go wrong.
#[derive(Clone, Copy, Default)]
struct Pair {
    offset: f64,
    when_missing: f64,
    unknown: bool,
}

impl Rule for Pair {
    type Saved = (Tensor, Tensor);
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("pair")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, (Tensor, Tensor)) {
        let (a, b) = (inputs[0].clone(), inputs[1].clone());
        (vec![&a + &b + self.offset, &a * &b, &a * 2.0], (a, b))
    }
    fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (a, b) = (&inputs[0], &inputs[1]);
        Some(vec![a + b, a * b, a + a])
    }
    fn vjp(
        &self,
        (a, b): &Self::Saved,
        upstream: &Upstream,
        _: &[bool],
    ) -> Option<Vec<InputGradient<Tensor>>> {
        let missing = if upstream.get(2).is_none() && upstream.get(1).is_some() { 1.0 } else { 0.0 };
        let da = &upstream[0] + &upstream[1] * b + &upstream[2] * 2.0;
        let db = &upstream[0] + &upstream[1] * a * (1.0 + missing * self.when_missing);
        let why = || InputGradient::Missing("nobody has found it".to_string());
        Some(vec![da.into(), if self.unknown { why() } else { db.into() }])
    }
    fn sees_missing(&self) -> bool {
        true
    }
}

#[test]
fn values_and_missing_cotangents_of_rules_as_objects() {
    let at = [Tensor::new([0.5, -1.0]), Tensor::new([2.0, 3.0])];
    let of = |pair: Pair| move |[a, b]: [Tensor; 2]| pair.apply(&[&a, &b]);
    passes(&GradCheck::new().order(2).run(of(Pair::default()), &at, &Reference::new()).unwrap());
    let error = finds(check(of(Pair { offset: 1e-9, ..Pair::default() }), &at), Code::RulePrimal);
    assert!(error.message().contains("output 0, element [0]"), "{error}");
    let error = finds(check(of(Pair { when_missing: 0.5, ..Pair::default() }), &at), Code::RuleLinear);
    assert!(error.message().contains("a missing cotangent of output"), "{error}");
    // A derivative that a rule does not know is an error where it is wanted, and else nobody's claim.
    let unknown = of(Pair { unknown: true, ..Pair::default() });
    assert_eq!(gradcheck(unknown, &at, &Reference::new()).unwrap_err().code(), Code::NotDifferentiable);
    passes(&GradCheck::new().fixed(1).run(unknown, &at, &Reference::new()).unwrap());
}

#[test]
fn rewrites_of_gradients_pass_as_what_they_declare() {
    let at = [Tensor::new([0.5, -1.0])];
    type Rewrite = fn(&Tensor) -> Tensor;
    let rewrites: [(Rewrite, f64); 8] = [
        (|x| observe(x, "seen"), 0.0),
        (|x| scale_gradient(x, 3.0), 2.0),
        (|x| reverse_gradient(x, 1.0), 2.0),
        (|x| clip_gradient(x, 0.25), 0.75),
        (|x| clip_gradient_norm(x, 8.0), 0.0),
        (|x| surrogate("sign", x, Tensor::sign, |x| Tensor::full(x.shape(), 0.25)), 0.25),
        (|x| replace_gradient(x, &Tensor::new([3.0, 3.0])), 2.0),
        (|x| map_cotangent(x, |g| g * 1.5), 0.5),
    ];
    for (number, (rewrite, distance)) in rewrites.into_iter().enumerate() {
        let report = check(|[x]| rewrite(&x).exp(), &at);
        passes(&report);
        let furthest = report.surrogates.iter().map(|s| s.distance()).fold(0.0, f64::max);
        assert_digits(&[furthest], &[distance]);
        assert!(report.surrogates.len() <= 1, "{number}: {report}");
    }
}
