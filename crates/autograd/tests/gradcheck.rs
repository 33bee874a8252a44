//! Conformance group E: what `gradcheck` must find, each under its own code, and what it must let pass.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;

use cotangent_autograd::check::Report;
use cotangent_autograd::{
    CustomGradient, GradCheck, custom_function, custom_gradient, gradcheck, map_cotangent, straight_through,
    surrogate_gradient,
};
use cotangent_tensor::{
    Array, Class, Code, DType, Detail, Elementwise, Error, Evaluate, Real, Reference, Tensor,
};
use support::{Noise, assert_digits};

type Function = Box<dyn Fn(&[Tensor]) -> Vec<Tensor>>;

fn rule(
    name: &'static str,
    forward: impl Fn(&Tensor) -> Tensor + Copy + 'static,
    backward: impl Fn(&Tensor, &Tensor) -> Tensor + Copy + 'static,
) -> impl Fn(&[Tensor]) -> Tensor {
    move |x| custom_gradient(name, [&x[0]], |[x]| (forward(&x), move |g: Tensor| backward(&x, &g)))
}

fn check<O: cotangent_autograd::Outputs>(function: impl Fn(&[Tensor]) -> O, inputs: &[Array]) -> Report {
    gradcheck(function, inputs, &Reference::new()).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn passes(report: &Report) {
    assert!(report.is_ok(), "{report}");
    assert!(report.compared.total() > 0, "{report}");
}

/// The one finding.
#[track_caller]
fn finds(report: Report, code: Code) -> Error {
    assert_eq!(report.findings.len(), 1, "{report}");
    let error = report.into_result().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error
}

fn number(error: &Error, name: &str) -> f64 {
    let detail = error.details().iter().find(|(known, _)| *known == name).map(|(_, detail)| detail);
    match detail {
        Some(Detail::Number(number)) => *number,
        Some(Detail::Integer(number)) => *number as f64,
        other => panic!("{name}: {other:?} in {error}"),
    }
}

#[test]
fn t61_a_wrong_entry_is_named_with_both_values() {
    let at = [Array::from([1.0, 2.0])];
    let wrong = rule("square", |x| x * x, |x, g| (x * 2.0 + 0.01) * g);
    let error = finds(check(wrong, &at), Code::RuleWrong);
    assert_eq!(error.operation(), "custom gradient \"square\"");
    assert!(error.message().starts_with("output 0, input 0 `input0`, element ["), "{error}");
    assert!(error.help().unwrap().contains("declare a surrogate if the difference is intended"));
    assert_eq!((number(&error, "output"), number(&error, "input"), number(&error, "order")), (0.0, 0.0, 1.0));
    assert!(error.location().unwrap().file().ends_with("gradcheck.rs"));
    // Both carry the cotangent, which is one number: the same for all that is compared.
    let ratio = number(&error, "got") / number(&error, "expected");
    let x = at[0].to_f64()[number(&error, "element") as usize];
    assert_digits(&[ratio], &[(2.0 * x + 0.01) / (2.0 * x)]);
    passes(&check(rule("square", |x| x * x, |x, g| x * 2.0 * g), &at));
}

#[test]
fn t61_the_largest_error_is_named() {
    let at = [Array::from([[1.0, 2.0], [3.0, 4.0]])];
    let error = |x: &Tensor| Tensor::new([[0.0, 0.1], [30.0, 0.2]]) * x;
    let wrong = rule("square", |x| (x * x).sum(..), move |x, g| (x * 2.0 + error(x)) * g);
    let found = finds(check(wrong, &at), Code::RuleWrong);
    assert!(found.message().contains("element [1, 0]"), "{found}");
}

#[test]
fn t62_a_rule_that_ignores_its_cotangent() {
    let at = [Array::from([1.0, 2.0])];
    let error = finds(check(rule("square", |x| x * x, |x, _| x * 2.0), &at), Code::RuleLinear);
    assert!(error.message().starts_with("ignores its cotangent"), "{error}");
    // Declared, it passes.
    let declared = |x: &[Tensor]| {
        surrogate_gradient("square", "a test", [&x[0]], |[x]| (&x * &x, move |_: Tensor| x * 2.0))
    };
    passes(&check(declared, &at));
}

#[test]
fn case_58_a_rule_that_is_not_linear_in_its_cotangent() {
    let at = [Array::from([1.0, 2.0])];
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
    let at = [Array::from([1.0, 2.0])];
    let calls = Cell::new(0.0);
    let drifting = |x: &[Tensor]| {
        calls.set(calls.get() + 1e-6);
        let factor = 2.0 + calls.get();
        custom_gradient("square", [&x[0]], |[x]| (&x * &x, move |g: Tensor| x * factor * g))
    };
    let error = finds(check(drifting, &at), Code::RuleNondeterministic);
    assert!(error.message().contains("gradient of output 0 by input 0"), "{error}");
    assert_eq!(error.operation(), "custom gradient \"square\"");
    calls.set(0.0);
    let allowed = GradCheck::new().nondeterminism(1e-5).run(drifting, &at, &Reference::new()).unwrap();
    passes(&allowed);
    // What is allowed for chance is allowed for nothing else.
    calls.set(0.0);
    let wrong = |x: &[Tensor]| drifting(x) * rule("one", |x| x * 1.0, |_, g| g * 1.001)(x);
    let report = GradCheck::new().nondeterminism(1e-4).run(wrong, &at, &Reference::new()).unwrap();
    assert!(report.findings.iter().any(|f| f.code() == Code::RuleWrong), "{report}");
    // Among several, the one that changes is named.
    let second = |x: &[Tensor]| rule("one", |x| x * 1.0, |_, g| g * 1.0)(&[drifting(x)]);
    assert_eq!(
        finds(check(second, &at), Code::RuleNondeterministic).operation(),
        "custom gradient \"square\""
    );
    // A value that changes.
    let noisy = |x: &[Tensor]| {
        calls.set(calls.get() + 1e-6);
        &x[0] * &x[0] + calls.get()
    };
    finds(check(noisy, &at), Code::RuleNondeterministic);
}

#[test]
fn t65_shapes_and_types_that_change_from_call_to_call() {
    let at = [Array::from([1.0, 2.0])];
    let calls = Cell::new(0usize);
    let turn = |even: fn(&Tensor) -> Tensor, odd: fn(&Tensor) -> Tensor| {
        let calls = &calls;
        move |x: &[Tensor]| {
            calls.set(calls.get() + 1);
            if calls.get().is_multiple_of(2) { even(&x[0]) } else { odd(&x[0]) }
        }
    };
    let error = finds(check(turn(|x| x.exp(), |x| x.exp().sum(..)), &at), Code::RuleUnstable);
    assert!(error.message().contains("output 0 is f32"), "{error}");
    finds(check(turn(|x| x.exp(), |x| x.cast(DType::I32)), &at), Code::RuleUnstable);
    finds(check(turn(|x| x.exp(), |x| x.cast(DType::F16)), &at), Code::RuleUnstable);
    passes(&check(turn(|x| x.exp(), |x| x.exp()), &at));
    // Inside, where the sum hides it: the rule is named.
    let hidden = |x: &[Tensor]| {
        calls.set(calls.get() + 1);
        let n = 2 + calls.get() % 2;
        let wide =
            custom_gradient("wide", [&x[0].sum(..)], |[x]| (x.broadcast_to([n]), |g: Tensor| g.sum(..)));
        wide.sum(..) / n as f64
    };
    let error = finds(check(hidden, &at), Code::RuleUnstable);
    assert_eq!(error.operation(), "custom gradient \"wide\"");
    // On a value of the input that was read.
    let by_value = |x: &[Tensor]| {
        let read = Reference::new().evaluate(&[&x[0]]).unwrap()[0].to_f64()[0];
        if read.to_bits() == 1f64.to_bits() { x[0].exp() } else { x[0].exp().sum(..) }
    };
    finds(check(by_value, &at), Code::RuleUnstable);
    // As many outputs as calls.
    let more = |x: &[Tensor]| {
        calls.set(calls.get() + 1);
        vec![x[0].exp(); calls.get()]
    };
    finds(check(more, &at), Code::RuleUnstable);
}

#[test]
fn t67_nothing_to_differentiate_and_errors_of_the_function() {
    let run = |function: &dyn Fn(&[Tensor]) -> Tensor, inputs: &[Array]| {
        gradcheck(function, inputs, &Reference::new()).unwrap_err()
    };
    let (floats, integers) = (Array::from([1.0, 2.0]), Array::from([1, 2]));
    let nothing = run(&|x| x[0].cast(DType::F32), std::slice::from_ref(&integers));
    assert_eq!(nothing.code(), Code::NotDifferentiable);
    assert!(nothing.message().contains("none of 1 inputs"), "{nothing}");
    let fixed =
        GradCheck::new().fixed(0).run(|x| x[0].exp(), std::slice::from_ref(&floats), &Reference::new());
    assert_eq!(fixed.unwrap_err().code(), Code::NotDifferentiable);
    let no_output = run(&|x| x[0].gt(0.0), std::slice::from_ref(&floats));
    assert_eq!(no_output.code(), Code::NotDifferentiable);
    let empty = run(&|x| x[0].exp(), &[Array::new(Vec::<f64>::new(), [0]).unwrap()]);
    assert_eq!(empty.code(), Code::CrossCheck);
    let inputs = [floats];
    let mine = || Error::new(Code::Family, "mine", "an error of the user's");
    let through = run(&|_| Tensor::invalid(mine()), &inputs);
    assert_eq!(through.to_string(), mine().to_string());
    let shapes = run(&|x| &x[0] + Tensor::zeros([3]), &inputs);
    assert_eq!(shapes.code(), Code::Broadcast);
    assert!(shapes.location().unwrap().file().ends_with("gradcheck.rs"));
    let panic = run(&|_| panic!("no such table"), &inputs);
    assert_eq!((panic.code(), panic.message()), (Code::UserPanic, "the function panicked: no such table"));
    let arity =
        run(&|x| custom_gradient("two", [&x[0], &x[0]], |[a, b]| (a + b, |g: Tensor| vec![g])), &inputs);
    assert_eq!(arity.code(), Code::RuleArity);
    // A derivative that is missing is no zero.
    let missing = run(&|x| custom_function("foo", [&x[0]], |[x]| x.exp()), &inputs);
    assert_eq!(missing.code(), Code::NotDifferentiable);
    for order in [0, 4] {
        let error =
            GradCheck::new().order(order).run(|x| x[0].exp(), &inputs, &Reference::new()).unwrap_err();
        assert_eq!(error.code(), Code::Hyperparameter);
    }
}

#[test]
fn t68_a_wrong_forward_mode() {
    let at = [Array::from([0.5, -1.0])];
    let wrong = rule("sine", Tensor::sin, |x, g| map_cotangent(g, |t| t * 1.1) * x.cos());
    let error = finds(check(wrong, &at), Code::RuleForward);
    assert_eq!(error.operation(), "custom gradient \"sine\"");
    assert_digits(&[number(&error, "got") / number(&error, "expected")], &[1.1]);
    // A surrogate has to be one function in both modes, too.
    let surrogate = |x: &[Tensor]| {
        surrogate_gradient("soft", "a test", [&x[0]], |[x]| {
            (x.sign(), move |g: Tensor| map_cotangent(&g, |t| t * 1.1) * x.cos())
        })
    };
    assert_eq!(finds(check(surrogate, &at), Code::RuleForward).operation(), "custom gradient \"soft\"");
    let reverse_only = GradCheck::new().forward(false).run(wrong_sine, &at, &Reference::new()).unwrap();
    passes(&reverse_only);
    assert_eq!(reverse_only.compared.forward, 0);
    passes(&check(rule("sine", Tensor::sin, |x, g| g * x.cos()), &at));
}

fn wrong_sine(x: &[Tensor]) -> Tensor {
    rule("sine", Tensor::sin, |x, g| map_cotangent(g, |t| t * 1.1) * x.cos())(x)
}

#[test]
fn t68_a_wrong_second_and_third_order() {
    let at = [Array::from([1.5, -0.5])];
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
    let sealed = |x: &[Tensor]| {
        CustomGradient::exact("sealed")
            .first_order_only()
            .apply([&x[0]], |[x]| (&x * &x, move |g: Tensor| x * 2.0 * g))
    };
    passes(&order(1).run(sealed, &at, &Reference::new()).unwrap());
    let error = order(2).run(sealed, &at, &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::FirstOrderOnly);
}

#[test]
fn t69_a_surrogate_passes_and_its_distance_is_reported() {
    let at = [Array::from([3.0])];
    let backward = |x: &Tensor, g: &Tensor| g * x.sigmoid() * (-x).sigmoid();
    let declared = move |x: &[Tensor]| {
        surrogate_gradient("soft_sign", "sign is flat", [&x[0]], |[x]| {
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
    let hidden = move |x: &[Tensor]| {
        let bent = rule("exp", Tensor::exp, |x, g| x.exp() * g * 1.001)(&[declared(x)]);
        bent.sin() + rule("cut", |x| x.exp() + x, |x, g| x.exp() * g)(x)
    };
    let report = check(hidden, &at);
    let found: Vec<&str> = report.findings.iter().map(|f| f.operation()).collect();
    assert_eq!(found, ["custom gradient \"exp\"", "custom gradient \"cut\""], "{report}");
    passes(&check(move |x: &[Tensor]| declared(x).exp().sin() * x[0].exp(), &at));
    // A surrogate that is true is near.
    let true_one = |x: &[Tensor]| {
        surrogate_gradient("exp", "a test", [&x[0]], |[x]| (x.exp(), move |g: Tensor| x.exp() * g))
    };
    let report = check(true_one, &at);
    assert_eq!((report.surrogates[0].distance(), report.surrogates[0].place.is_none()), (0.0, true));
    let through = check(|x: &[Tensor]| straight_through(&x[0].round(), &x[0]) * 2.0, &at);
    passes(&through);
    assert_eq!(through.surrogates.len(), 1);
}

#[test]
fn t49_case_52_a_forward_that_is_not_the_plain_function() {
    let at = [Array::from([1.0, 2.0])];
    let plain = |x: &[Tensor]| &x[0] * &x[0];
    let run = |with: &dyn Fn(&[Tensor]) -> Vec<Tensor>| {
        GradCheck::new().plain(plain).run(with, &at, &Reference::new()).unwrap()
    };
    let saved = |x: &[Tensor]| {
        custom_gradient("square", [&x[0]], |[x]| {
            (vec![&x * &x, x.clone()], move |g: Vec<Tensor>| &x * 2.0 * &g[0] + &g[1])
        })
    };
    let error = finds(run(&saved), Code::RulePrimal);
    assert!(error.help().unwrap().contains("returns a pair"), "{error}");
    let shape = |x: &[Tensor]| vec![rule("f", |x| (x * x).sum(..), |x, g| g.broadcast_to([2]) * x * 2.0)(x)];
    finds(run(&shape), Code::RulePrimal);
    let value = |x: &[Tensor]| vec![rule("f", |x| x * x + 1e-9, |x, g| g * x * 2.0)(x)];
    let error = finds(run(&value), Code::RulePrimal);
    assert!(error.message().contains("output 0, element [0]"), "{error}");
    let right = |x: &[Tensor]| vec![rule("f", |x| x.pow(2.0), |x, g| g * x * 2.0)(x)];
    passes(&run(&right));
}

#[test]
fn an_input_that_a_rule_passes_over() {
    let at = [Array::from([1.0, 2.0]), Array::from([0.5, -1.0])];
    let partial = |x: &[Tensor]| {
        custom_gradient("product", [&x[0], &x[1]], |[a, b]| (&a * &b, move |g: Tensor| [Some(g * b), None]))
    };
    let error = finds(check(partial, &at), Code::RuleCut);
    assert!(error.message().contains("passes nothing to output 0, input 1 `input1`"), "{error}");
    assert_eq!(number(&error, "input"), 1.0);
    // Where it does not matter there is nothing to pass.
    let unused = |x: &[Tensor]| {
        custom_gradient("first", [&x[0], &x[1]], |[a, _]| {
            (a.exp(), move |g: Tensor| [Some(g * a.exp()), None])
        })
    };
    passes(&check(unused, &at));
    // A cut that was declared, and one that the user wrote.
    let declared = |x: &[Tensor]| {
        let cut = CustomGradient::exact("cut").passing_nothing();
        cut.apply([&x[1]], |[b]| (b, |_: Tensor| None)) * &x[0]
    };
    passes(&check(declared, &at));
    passes(&GradCheck::new().order(3).run(|x| x[0].exp() * x[1].detach(), &at, &Reference::new()).unwrap());
    passes(&check(|x: &[Tensor]| &x[0] * x[0].detach(), &at));
}

#[test]
fn a_value_that_was_read_is_an_accidental_cut() {
    let at = [Array::from([1.0, 2.0]), Array::from([0.5, -1.0])];
    let read = |x: &[Tensor]| {
        let values = Reference::new().evaluate(&[&x[1]]).unwrap().remove(0);
        &x[0] * Tensor::new(values)
    };
    let error = finds(check(read, &at), Code::Unconnected);
    assert!(error.message().starts_with("input 1 reaches output 0 past the graph"), "{error}");
    passes(&check(|x: &[Tensor]| &x[0] * &x[1], &at));
    // An input that does not matter is fine.
    passes(&check(|x: &[Tensor]| x[0].exp(), &at));
}

#[test]
fn kinks_are_listed_with_both_slopes() {
    let run = |function: &dyn Fn(&Tensor) -> Tensor, at: f64| {
        let report = check(|x: &[Tensor]| function(&x[0]), &[Array::from([at])]);
        passes(&report);
        report.kinks.iter().map(|k| (k.left, k.gradient, k.right)).collect::<Vec<_>>()
    };
    // The cotangent is one number, which scales all three.
    let ratios = |kinks: Vec<(f64, f64, f64)>| {
        let [(left, gradient, right)] = kinks[..] else { panic!("{kinks:?}") };
        let size = left.abs().max(right.abs());
        let order = if left < right { [left, gradient, right] } else { [-left, -gradient, -right] };
        order.map(|v| v / size)
    };
    assert_digits(&ratios(run(&Tensor::abs, 0.0)), &[-1.0, 0.0, 1.0]);
    assert_digits(&ratios(run(&Tensor::relu, 0.0)), &[0.0, 0.0, 1.0]);
    assert_digits(&ratios(run(&|x| x.max(0.0), 0.0)), &[0.0, 0.5, 1.0]);
    assert_digits(&ratios(run(&|x| x.min(1.5), 1.5)), &[-1.0, -0.5, 0.0]);
    assert_digits(&ratios(run(&|x| x.clamp(0.0, 1.0), 0.0)), &[0.0, 1.0, 1.0]);
    assert_digits(&ratios(run(&|x| (1.0 - x).max(0.0), 1.0)), &[-1.0, -0.5, 0.0]);
    // Beside a kink, and where slopes of both sides are the same, there is none.
    for (function, at) in [
        (&(|x: &Tensor| (x - 1.0).abs()) as &dyn Fn(&Tensor) -> Tensor, 1.001),
        (&Tensor::relu, 1e-3),
        (&|x| x * x.abs(), 0.0),
        (&|x| x.max(0.0) + (1.0 + (-x.abs()).exp()).log(), 0.0),
        (&|x| x.sqrt(), 0.0),
        (&|x| x.sign() * x, 0.3),
        (&|x| x.fract(), 0.7),
        (&|x| x.floor() * x, 1.7),
    ] {
        let kinks = run(function, at);
        assert!(kinks.iter().all(|(left, _, _)| f64::is_nan(*left)), "at {at}: {kinks:?}");
    }
    // A rule that takes another side of the kink is right, one beyond both is not.
    let chosen = |slope: f64| {
        rule("abs", Tensor::abs, |_, g| g * 1.0)(&[Tensor::new([slope])]);
        move |x: &[Tensor]| {
            custom_gradient("abs", [&x[0]], |[x]| {
                (x.abs(), move |g: Tensor| x.eq(0.0).select(&g * slope, x.sign() * &g))
            })
        }
    };
    let zero = [Array::from([0.0, 1.0])];
    for slope in [-1.0, -0.25, 0.0, 1.0] {
        let report = check(chosen(slope), &zero);
        passes(&report);
        assert_eq!(report.kinks.len(), 2, "the rule and the program: {report}");
    }
    finds(check(chosen(1.01), &zero), Code::RuleWrong);
}

#[test]
fn differences_see_what_dual_numbers_cannot() {
    // Where the forward leaves the floats there are no dual numbers.
    let whole = |x: &Tensor| x.cast(DType::I32).cast(DType::F32);
    let at = [Array::from([0.7, 1.3])];
    let error = finds(check(rule("whole", whole, |_, g| g * 1.0), &at), Code::RuleWrong);
    assert!(error.message().contains("expected 0.0 (differences)"), "{error}");
    let report = check(rule("whole", whole, |_, g| g * 0.0), &at);
    passes(&report);
    assert_eq!((report.compared.dual, report.compared.differences), (0, 4));
}

#[test]
fn what_is_not_finite_is_named() {
    let at = [Array::from([0.5, -1.0])];
    let error = finds(check(|x: &[Tensor]| x[0].log(), &at), Code::Nonfinite);
    assert!(error.message().starts_with("output 0, element [1] is NaN"), "{error}");
    // An infinite slope behind an ordinary zero.
    let line = line!() + 1;
    let error = finds(check(|x: &[Tensor]| (&x[0] * 0.0).sqrt().exp(), &at), Code::Nonfinite);
    assert!(error.message().contains("got NaN, expected 0.0 (differences)"), "{error}");
    let node = error.details().iter().find(|(name, _)| *name == "node");
    assert_eq!(node, Some(&("node", Detail::Text("sqrt".to_string()))));
    assert!(error.to_string().contains(&format!("first at `sqrt`, {}:{line}:", file!())), "{error}");
    // An infinite derivative is right where differences grow without end.
    passes(&check(|x: &[Tensor]| x[0].sqrt(), &[Array::from([0.0, 4.0])]));
    let finite = rule("sqrt", Tensor::sqrt, |x, g| g * 0.5 / x.sqrt().max(1e-3));
    finds(check(finite, &[Array::from([0.0, 4.0])]), Code::RuleWrong);
    let nan = rule("abs", Tensor::abs, |x, g| g * x / x.abs());
    finds(check(nan, &[Array::from([0.0, 4.0])]), Code::RuleWrong);
}

#[test]
fn composed_ties_keep_the_convention_of_their_parts() {
    let flat = |x: &[Tensor]| (&x[0] + 2.0).max(Tensor::new([2.0])).min(Tensor::new([2.0]));
    let report = check(flat, &[Array::from([0.0])]);
    passes(&report);
    let [kink] = &report.kinks[..] else { panic!("{report}") };
    assert_eq!((kink.left, kink.right), (0.0, 0.0));
    assert!(kink.gradient != 0.0);
}

#[test]
fn ties_of_extremes_are_kinks() {
    let tied = [Array::from([[2.0, 2.0, 1.0], [0.0, 3.0, 3.0]])];
    let report = check(|x: &[Tensor]| x[0].max_over(1).exp(), &tied);
    passes(&report);
    assert_eq!(report.kinks.len(), 4, "{report}");
    assert!(
        report.to_string().contains("kink: gradcheck, output 0, input 0 `x`, element [0, 0]: slopes "),
        "{report}"
    );
    let one = rule(
        "max",
        |x| x.max_over(1),
        |x, g| {
            let first = Tensor::iota([2, 3], 1).eq(x.argmax(1).unsqueeze(1).broadcast_to([2, 3]));
            first.select(g.unsqueeze(1).broadcast_to([2, 3]), 0.0)
        },
    );
    passes(&check(one, &tied));
    let both = rule(
        "max",
        |x| x.max_over(1),
        |x, g| {
            let tied = x.eq(x.max_over(1).unsqueeze(1).broadcast_to([2, 3]));
            tied.select(g.unsqueeze(1).broadcast_to([2, 3]) * 1.5, 0.0)
        },
    );
    finds(check(both, &tied), Code::RuleWrong);
}

#[test]
fn several_outputs_and_several_inputs_are_told_apart() {
    let at = [Array::from([1.0, 2.0]), Array::from([3, 4]), Array::from([[0.5], [0.25]])];
    let wrong = |output: usize, input: usize| {
        move |x: &[Tensor]| {
            custom_gradient("pair", [&x[0], &x[2]], move |[a, b]| {
                let b = b.reshape([2]);
                let outputs = (&a * &b, (&a + &b).exp());
                let e = (&a + &b).exp();
                let factor = move |o: usize, i: usize| if (o, i) == (output, input) { 1.5 } else { 1.0 };
                (outputs, move |(g, h): (Tensor, Tensor)| {
                    let da = &g * &b * factor(0, 0) + &h * &e * factor(1, 0);
                    let db = &g * &a * factor(0, 1) + &h * &e * factor(1, 1);
                    [da, db.reshape([2, 1])]
                })
            })
        }
    };
    for (output, input) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let error = finds(check(wrong(output, input), &at), Code::RuleWrong);
        assert_eq!(
            (number(&error, "output"), number(&error, "input")),
            (output as f64, input as f64),
            "{error}"
        );
    }
    let report = check(wrong(2, 2), &at);
    passes(&report);
    // Two outputs, four elements, in the rule and in the program.
    assert_eq!((report.compared.dual, report.compared.linear), (16, 1));
    // Integers are ignored, among inputs and among outputs.
    let mixed =
        |x: &[Tensor]| vec![&x[0] * x[1].cast(DType::F32), x[1].clone(), x[2].gather(0, &(&x[1] - 3))];
    passes(&check(mixed, &at));
}

#[test]
fn random_directions_find_the_same_faults() {
    let at = [Noise(3).array(&[6, 5], 0.5, 1.5)];
    let directions = |seed| GradCheck::new().directions(3, seed);
    for seed in 0..4 {
        let right = directions(seed).order(2).run(|x| x[0].softmax(1).log(), &at, &Reference::new()).unwrap();
        passes(&right);
        assert_eq!(right.compared.dual, 2 * 3);
        let wrong = rule("softmax", |x| x.softmax(1), |x, g| x.softmax(1) * g);
        let error = finds(directions(seed).run(wrong, &at, &Reference::new()).unwrap(), Code::RuleWrong);
        assert!(error.message().contains("random direction"), "{error}");
    }
    let text = |seed| {
        let wrong = rule("softmax", |x| x.softmax(1), |x, g| x.softmax(1) * g);
        directions(seed).run(wrong, &at, &Reference::new()).unwrap().to_string()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

/// Right rules, of many forms.
fn right_rules() -> Vec<(&'static str, Function)> {
    fn one(f: impl Fn(&[Tensor]) -> Tensor + 'static) -> Function {
        Box::new(move |x| vec![f(x)])
    }
    vec![
        ("sine", one(rule("sine", Tensor::sin, |x, g| x.cos() * g))),
        (
            "product",
            one(rule("product", |x| x.prod(1), |x, g| (x.prod(1) * g).unsqueeze(1).broadcast_to([2, 3]) / x)),
        ),
        (
            "softmax",
            one(rule(
                "softmax",
                |x| x.softmax(1),
                |x, g| {
                    let p = x.softmax(1);
                    &p * (g - (&p * g).sum(1).unsqueeze(1).broadcast_to([2, 3]))
                },
            )),
        ),
        ("transpose", one(rule("transpose", |x| x.transpose().exp(), |x, g| x.exp() * g.transpose()))),
        ("sums", one(rule("sums", |x| x.cumulative_sum(1, false), |_, g| g.cumulative_sum(1, true)))),
        ("slice", one(rule("slice", |x| x.slice(1, 1, 3, 1), |_, g| g.pad(1, 1, 0)))),
        (
            "logsumexp",
            one(rule(
                "logsumexp",
                |x| x.exp().sum(1).log(),
                |x, g| x.softmax(1) * g.unsqueeze(1).broadcast_to([2, 3]),
            )),
        ),
        ("softplus", one(rule("softplus", |x| (x.exp() + 1.0).log(), |x, g| x.sigmoid() * g))),
        ("identity", one(rule("identity", Clone::clone, |_, g| g.clone()))),
        (
            "nested",
            one(rule(
                "outer",
                |x| rule("inner", Tensor::exp, |x, g| x.exp() * g)(std::slice::from_ref(x)) * x,
                |x, g| (x.exp() * x + x.exp()) * g,
            )),
        ),
        ("relu", one(rule("relu", Tensor::relu, |x, g| x.gt(0.0).select(g, 0.0)))),
        (
            "matmul",
            one(|x| {
                custom_gradient("matmul", [&x[0], &x[0].transpose()], |[a, b]| {
                    (a.matmul(&b), move |g: Tensor| [g.matmul(&b.transpose()), a.transpose().matmul(&g)])
                })
            }),
        ),
        (
            "of a vjp",
            one(|x| {
                custom_gradient("vjp", [&x[0]], |[x]| {
                    let y = x.tanh() * &x;
                    (y.clone(), move |g: Tensor| {
                        cotangent_autograd::vjp(&[(&y, &g)], &x)
                            .map(|d| d.or_zero())
                            .unwrap_or_else(Tensor::invalid)
                    })
                })
            }),
        ),
    ]
}

#[test]
fn right_rules_pass_at_every_order() {
    let at = [Noise(5).array(&[2, 3], 0.3, 1.7)];
    let mut compared = 0;
    for (name, function) in right_rules() {
        let report = GradCheck::new().order(3).run(&*function, &at, &Reference::new());
        let report = report.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(report.is_ok(), "{name}: {report}");
        assert_eq!((report.kinks.len(), report.compared.unknown), (0, 0), "{name}: {report}");
        assert!(report.compared.dual >= 24 && report.compared.differences >= 24, "{name}: {report}");
        compared += report.compared.total();
    }
    println!("{compared} derivatives");
    assert!(compared > 13 * 48);
}

#[test]
fn every_row_of_the_table_passes() {
    const DOMAINS: [(f64, f64); 3] = [(-2.0, 2.0), (0.2, 0.9), (1.2, 3.0)];
    let mut noise = Noise(13);
    let (mut rows, mut compared, mut missing) = (0, 0, Vec::new());
    for &row in Elementwise::ALL {
        if matches!(row.class(), Class::Test | Class::Logic) {
            continue;
        }
        rows += 1;
        let condition = (row.class() == Class::Select).then(|| Array::from([true, false, true]));
        let floats = row.arity() - usize::from(condition.is_some());
        let inputs = DOMAINS.iter().find_map(|&(low, high)| {
            let drawn: Vec<Array> = (0..floats).map(|_| noise.array(&[3], low, high)).collect();
            let all: Vec<Array> = condition.iter().cloned().chain(drawn).collect();
            let columns: Vec<Vec<f64>> = all.iter().map(Array::to_f64).collect();
            let finite = |i| row.eval(&columns.iter().map(|c| c[i]).collect::<Vec<_>>()).is_finite();
            (0..3).all(finite).then_some(all)
        });
        let inputs = inputs.unwrap_or_else(|| panic!("{row:?} is finite on no domain"));
        let function = |x: &[Tensor]| Tensor::apply(row, &x.iter().collect::<Vec<_>>());
        let mut order = 3;
        let report = loop {
            match GradCheck::new().order(order).run(function, &inputs, &Reference::new()) {
                Ok(report) => break Some(report),
                Err(error) => {
                    assert_eq!(error.code(), Code::NoDerivative, "{row:?}: {error}");
                    missing.push((row, order));
                    order -= 1;
                    if order == 0 {
                        break None;
                    }
                }
            }
        };
        if let Some(report) = report {
            assert!(report.is_ok() && report.kinks.is_empty(), "{row:?}: {report}");
            assert!(report.compared.total() >= 6, "{row:?}: {report}");
            compared += report.compared.total();
        }
    }
    println!("{rows} rows, {compared} derivatives, missing: {missing:?}");
    let trigamma = |order| (Elementwise::Trigamma, order);
    let chain = [(Elementwise::Lgamma, 3), (Elementwise::Digamma, 3), (Elementwise::Digamma, 2)];
    assert_eq!(missing, [&chain[..], &[3, 2, 1].map(trigamma)[..]].concat());
    assert!(rows > 40 && compared > 40 * 12);
}

#[test]
fn inputs_of_the_graph_come_from_the_evaluator() {
    let scale = Tensor::input("scale", [], DType::F32);
    let bound = Reference::new().bind(&scale, 3.0).unwrap();
    let at = [Array::from([0.5, 1.0])];
    passes(&gradcheck(|x: &[Tensor]| (&x[0] * &scale).exp(), &at, &bound).unwrap());
    let error = gradcheck(|x: &[Tensor]| (&x[0] * &scale).exp(), &at, &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::Unbound);
    let half = |x: &[Tensor]| x[0].cast(DType::F16).cast(DType::F32).exp();
    let error = gradcheck(half, &at, &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::Dtype);
}

/// The reference as a device of single precision would be, with one element off by a factor.
struct Single(f64);

impl Evaluate for Single {
    fn name(&self) -> String {
        "single".to_string()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        let exact = Reference::rounded().evaluate(tensors)?;
        let rounded = exact.into_iter().map(|array| {
            let mut values = array.to_f32();
            if let Some(first) = values.first_mut() {
                *first *= self.0 as f32;
            }
            Array::new(values, array.shape())
        });
        rounded.collect()
    }
}

#[test]
fn the_gradients_of_a_device_lie_within_the_bound_of_the_reference() {
    let at = [Array::from([0.5, 1.0, 2.0])];
    let run = |device: &Single| {
        let check = GradCheck::new().device(device);
        check.run(|x| x[0].softmax(0).log().sin(), &at, &Reference::new()).unwrap()
    };
    let report = run(&Single(1.0));
    passes(&report);
    assert_eq!(report.compared.device, 3);
    let error = finds(run(&Single(1.001)), Code::CrossCheck);
    assert!(error.message().contains("on `single`, element [0]"), "{error}");
    let error = gradcheck(|x: &[Tensor]| x[0].exp(), &at, &Single(1.0)).unwrap_err();
    assert_eq!(error.code(), Code::Feature);
}
