//! `gradcheck` at kinks, ties and infinite slopes, over every row of the table, along directions, and with a device.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{GradCheck, custom_gradient, gradcheck};
use cotangent_tensor::{Array, Class, Code, DType, Detail, Elementwise, Real, Reference, Tensor};
use support::check::{Single, check, finds, number, passes, rule};
use support::{Noise, assert_digits};

type Function = Box<dyn Fn([Tensor; 1]) -> Vec<Tensor>>;

#[test]
fn kinks_are_listed_with_both_slopes() {
    let run = |function: &dyn Fn(&Tensor) -> Tensor, at: f64| {
        let report = check(|[x]| function(&x), &[Tensor::new([at])]);
        passes(&report);
        report.kinks.iter().map(|k| (k.left, k.gradient, k.right)).collect::<Vec<_>>()
    };
    let slopes = |kinks: Vec<(f64, f64, f64)>| {
        let [(left, gradient, right)] = kinks[..] else { panic!("{kinks:?}") };
        [left, gradient, right]
    };
    assert_digits(&slopes(run(&Tensor::abs, 0.0)), &[-1.0, 0.0, 1.0]);
    assert_digits(&slopes(run(&Tensor::relu, 0.0)), &[0.0, 0.0, 1.0]);
    assert_digits(&slopes(run(&|x| x.max(0.0), 0.0)), &[0.0, 0.5, 1.0]);
    assert_digits(&slopes(run(&|x| x.min(1.5), 1.5)), &[1.0, 0.5, 0.0]);
    assert_digits(&slopes(run(&|x| x.clamp(0.0, 1.0), 0.0)), &[0.0, 1.0, 1.0]);
    assert_digits(&slopes(run(&|x| (1.0 - x).max(0.0), 1.0)), &[-1.0, -0.5, 0.0]);
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
        rule("abs", Tensor::abs, |_, g| g * 1.0)([Tensor::new([slope])]);
        move |[x]: [Tensor; 1]| {
            custom_gradient("abs", [&x], |[x]| {
                (x.abs(), move |g: Tensor| x.eq(0.0).select(&g * slope, x.sign() * &g))
            })
        }
    };
    let zero = [Tensor::new([0.0, 1.0])];
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
    let at = [Tensor::new([0.7, 1.3])];
    let error = finds(check(rule("whole", whole, |_, g| g * 1.0), &at), Code::RuleWrong);
    assert!(error.message().contains("expected 0.0 by differences"), "{error}");
    let report = check(rule("whole", whole, |_, g| g * 0.0), &at);
    passes(&report);
    assert_eq!((report.compared.dual, report.compared.differences), (0, 4));
}

#[test]
fn what_is_not_finite_is_named() {
    let at = [Tensor::new([0.5, -1.0])];
    let error = finds(check(|[x]| x.log(), &at), Code::Nonfinite);
    assert!(error.message().starts_with("output 0, element [1] is NaN"), "{error}");
    // An infinite slope behind an ordinary zero.
    let line = line!() + 1;
    let error = finds(check(|[x]| (&x * 0.0).sqrt().exp(), &at), Code::Nonfinite);
    assert!(error.message().contains("got NaN, expected 0.0 by differences"), "{error}");
    let node = error.details().iter().find(|(name, _)| *name == "node");
    assert_eq!(node, Some(&("node", Detail::Text("sqrt".to_string()))));
    assert!(error.to_string().contains(&format!("first at `sqrt`, {}:{line}:", file!())), "{error}");
    // An infinite derivative is right where differences grow without end.
    passes(&check(|[x]| x.sqrt(), &[Tensor::new([0.0, 4.0])]));
    let finite = rule("sqrt", Tensor::sqrt, |x, g| g * 0.5 / x.sqrt().max(1e-3));
    finds(check(finite, &[Tensor::new([0.0, 4.0])]), Code::RuleWrong);
    let nan = rule("abs", Tensor::abs, |x, g| g * x / x.abs());
    finds(check(nan, &[Tensor::new([0.0, 4.0])]), Code::RuleWrong);
}

#[test]
fn composed_ties_keep_the_convention_of_their_parts() {
    let flat = |[x]: [Tensor; 1]| (&x + 2.0).max(Tensor::new([2.0])).min(Tensor::new([2.0]));
    let report = check(flat, &[Tensor::new([0.0])]);
    passes(&report);
    let [kink] = &report.kinks[..] else { panic!("{report}") };
    assert_eq!((kink.left, kink.right), (0.0, 0.0));
    assert!(kink.gradient != 0.0);
}

#[test]
fn ties_of_extremes_are_kinks() {
    let tied = [Tensor::new([[2.0, 2.0, 1.0], [0.0, 3.0, 3.0]])];
    let report = check(|[x]| x.max_over(1).exp(), &tied);
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
    let at = [Tensor::new([1.0, 2.0]), Tensor::new([3, 4]), Tensor::new([[0.5], [0.25]])];
    let wrong = |output: usize, input: usize| {
        move |[x, _, z]: [Tensor; 3]| {
            custom_gradient("pair", [&x, &z], move |[a, b]| {
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
    let mixed = |[x, k, z]: [Tensor; 3]| vec![x * k.cast(DType::F32), k.clone(), z.gather(0, &(k - 3))];
    passes(&check(mixed, &at));
}

#[test]
fn random_directions_find_the_same_faults() {
    let at = [Tensor::new(Noise(3).array(&[6, 5], 0.5, 1.5))];
    let directions = |seed| GradCheck::new().directions(3, seed);
    for seed in 0..4 {
        let right = directions(seed).order(2).run(|[x]| x.softmax(1).log(), &at, &Reference::new()).unwrap();
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
    fn one(f: impl Fn([Tensor; 1]) -> Tensor + 'static) -> Function {
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
                |x| rule("inner", Tensor::exp, |x, g| x.exp() * g)([x.clone()]) * x,
                |x, g| (x.exp() * x + x.exp()) * g,
            )),
        ),
        ("relu", one(rule("relu", Tensor::relu, |x, g| x.gt(0.0).select(g, 0.0)))),
        (
            "matmul",
            one(|[x]| {
                custom_gradient("matmul", [&x, &x.transpose()], |[a, b]| {
                    (a.matmul(&b), move |g: Tensor| [g.matmul(&b.transpose()), a.transpose().matmul(&g)])
                })
            }),
        ),
        (
            "of a vjp",
            one(|[x]| {
                custom_gradient("vjp", [&x], |[x]| {
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
    let at = [Tensor::new(Noise(5).array(&[2, 3], 0.3, 1.7))];
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
        let inputs: Vec<Tensor> = inputs.into_iter().map(Tensor::new).collect();
        let function = |x: Vec<Tensor>| Tensor::apply(row, &x.iter().collect::<Vec<_>>());
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
    let at = [Tensor::new([0.5, 1.0])];
    passes(&gradcheck(|[x]| (&x * &scale).exp(), &at, &bound).unwrap());
    let error = gradcheck(|[x]| (&x * &scale).exp(), &at, &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::Unbound);
}

#[test]
fn the_gradients_of_a_device_lie_within_the_bound_of_the_reference() {
    let at = [Tensor::new([0.5, 1.0, 2.0])];
    let run = |device: &Single| {
        let check = GradCheck::new().device(device);
        check.run(|[x]| x.softmax(0).log().sin(), &at, &Reference::new()).unwrap()
    };
    let report = run(&Single(1.0));
    passes(&report);
    assert_eq!(report.compared.device, 3);
    let error = finds(run(&Single(1.001)), Code::CrossCheck);
    assert!(error.message().contains("on `single`, element [0]"), "{error}");
    let error = gradcheck(|[x]| x.exp(), &at, &Single(1.0)).unwrap_err();
    assert_eq!(error.code(), Code::Feature);
}
