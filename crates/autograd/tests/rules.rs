//! Conformance groups B and C: what a custom rule means, and what its mistakes are called.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::check::unchecked;
use cotangent_autograd::{
    CustomGradient, State, custom_function, custom_gradient, grad, jvp, map_cotangent, straight_through,
    surrogate_gradient, vjp,
};
use cotangent_tensor::{Array, Code, DType, Op, RuleKind, Tensor};
use support::{assert_digits, gradient, value, values};

fn slope(f: impl Fn(&Tensor) -> Tensor, x: f64) -> f64 {
    let x = Tensor::new(x);
    gradient(&grad(&f(&x), &x).unwrap())[0]
}

fn curvature(f: impl Fn(&Tensor) -> Tensor, x: f64) -> f64 {
    let x = Tensor::new(x);
    let first = grad(&f(&x), &x).unwrap().or_error().unwrap();
    gradient(&grad(&first, &x).unwrap())[0]
}

fn sine(x: &Tensor) -> Tensor {
    surrogate_gradient("sine", "a test", [x], |[x]| (x.sin(), move |g: Tensor| x.cos() * 2.0 * g))
}

#[test]
fn t10_the_rule_is_used() {
    assert_digits(&[value(&sine(&Tensor::new(3.0)))], &[0.141120008060]);
    assert_digits(&[slope(sine, 3.0)], &[-1.97998499320]);
}

#[test]
fn t11_the_rule_is_differentiated_not_the_function() {
    let f = |x: &Tensor| surrogate_gradient("half", "a test", [x], |[x]| (&x * &x, move |g: Tensor| g * x));
    assert_digits(&[value(&f(&Tensor::new(3.0))), slope(f, 3.0), curvature(f, 3.0)], &[9.0, 3.0, 1.0]);
}

#[test]
fn t12_a_surrogate_may_ignore_its_cotangent() {
    let (x, y) = (Tensor::new(3.0), Tensor::new(4.0));
    let z =
        surrogate_gradient("xy", "ignores upstream", [&x, &y], |[x, y]| (&x * &y, move |_: Tensor| [y, x]));
    let [dx, dy] = grad(&z, [&x, &y]).unwrap();
    assert_digits(&[value(&z), gradient(&dx)[0], gradient(&dy)[0]], &[12.0, 4.0, 3.0]);
    let Op::Rule(rule) = &z.node().unwrap().operands[0].op else { panic!("a rule was applied") };
    assert_eq!(rule.kind, RuleKind::Surrogate("ignores upstream".into()));
}

#[test]
fn t13_inputs_outputs_and_gradients_come_in_many_forms() {
    let x = Tensor::new(3.0);
    // Twice the derivative, so that it is the rule that is seen.
    let two = |y: Tensor| gradient(&unchecked(|| grad(&y, &x)).unwrap())[0];
    let mut got = vec![
        two(custom_gradient("bare", [&x], |[x]| (x, |g: Tensor| g * 2.0))),
        two(custom_gradient("optional", [&x], |[x]| (x, |g: Tensor| Some(g * 2.0)))),
        two(custom_gradient("array", [&x], |[x]| (x, |g: Tensor| [g * 2.0]))),
        two(custom_gradient("vector", [&x], |[x]| (x, |g: Tensor| vec![g * 2.0]))),
        two(custom_gradient("optional vector", [&x], |[x]| (x, |g: Tensor| vec![Some(g * 2.0)]))),
        two(custom_gradient("slice", &[&x][..], |x| (x[0].clone(), |g: Tensor| [g * 2.0]))),
        two(custom_gradient("vector input", vec![&x], |x| (x[0].clone(), |g: Tensor| [g * 2.0]))),
    ];
    let [y] = custom_gradient("array output", [&x], |[x]| ([x], |[g]: [Tensor; 1]| g * 2.0));
    got.push(two(y));
    let y = custom_gradient("vector output", [&x], |[x]| (vec![x], |g: Vec<Tensor>| &g[0] * 2.0));
    got.push(two(y[0].clone()));
    let (y, _) =
        custom_gradient("pair", [&x], |[x]| ((x.clone(), x), |(g, h): (Tensor, Tensor)| g * 2.0 + h));
    got.push(two(y));
    let y = custom_gradient("tuple", [&x, &x], |[x, _]| (x, |g: Tensor| (g * 2.0, None)));
    got.push(two(y));
    assert_digits(&got, &[2.0; 11]);
}

#[test]
fn t14_a_rule_in_the_wrong_order_is_honored_and_rules_compose() {
    let (x, y) = (Tensor::new(3.0), Tensor::new(5.0));
    let z = surrogate_gradient("swapped", "a test", [&x, &y], |[x, y]| {
        (&x * &y, move |g: Tensor| [&g * &x, &g * &y])
    });
    let [dx, dy] = grad(&z, [&x, &y]).unwrap();
    assert_digits(&[gradient(&dx)[0], gradient(&dy)[0]], &[3.0, 5.0]);
    let thrice = |x: &Tensor| surrogate_gradient("thrice", "a test", [x], |[x]| (x, |g: Tensor| g * 3.0));
    assert_digits(&[slope(|x| thrice(&thrice(x)), 1.0)], &[9.0]);
}

#[test]
fn t16_the_same_tensor_for_two_arguments() {
    let f = |x: &Tensor| {
        surrogate_gradient("f", "a test", [x, x], |[x, y]| {
            (&x * y.sin(), move |g: Tensor| (None, y.cos() * 2.0 * g))
        })
    };
    assert_digits(&[slope(f, 3.0)], &[-1.97998499320]);
}

#[test]
fn t17_an_integer_argument_has_no_gradient() {
    let (n, x) = (Tensor::new([1, 2]), Tensor::new(3.0));
    let y = surrogate_gradient("f", "a test", [&n, &x], |[_, x]| {
        (x.sin(), move |g: Tensor| [None, Some(x.cos() * 2.0 * g)])
    });
    assert_digits(&gradient(&grad(&y, &x).unwrap()), &[-1.97998499320]);
    let error = grad(&y, &n).unwrap_err();
    assert_eq!(error.code(), Code::NotDifferentiable);
    assert!(error.help().is_some_and(|h| h.contains("cast")), "{error}");
}

#[test]
fn t18_a_rule_that_passes_nothing_must_say_so() {
    let x = Tensor::new(3.0);
    let cut = CustomGradient::exact("cut").passing_nothing().apply([&x], |[x]| (x, |_: Tensor| [None]));
    let dx = grad(&cut, &x).unwrap();
    assert!(matches!(dx.state(), State::Stopped { by } if by == "cut"));
    assert_eq!(dx.or_error().unwrap_err().code(), Code::Stopped);
    assert_digits(&values(&dx.or_zero()), &[0.0]);
    let undeclared = custom_gradient("cut", [&x], |[x]| (x, |_: Tensor| [None]));
    assert_eq!(undeclared.error().unwrap().code(), Code::RuleCut);
}

#[test]
fn t19_a_missing_cotangent_arrives_as_zeros() {
    let x = Tensor::new([1.0, 2.0]);
    let (a, _) = custom_gradient("two", [&x], |[x]| {
        let outputs = (&x * 2.0, x.sum(..));
        (outputs, move |(g, h): (Tensor, Tensor)| g * 2.0 + h.broadcast_to([2]))
    });
    assert_digits(&gradient(&grad(&a.sum(..), &x).unwrap()), &[2.0, 2.0]);
}

#[test]
fn t21_an_integer_output_is_not_differentiable() {
    let x = Tensor::new([1.0, 3.0, 2.0]);
    let (top, at) = custom_gradient("top", [&x], |[x]| {
        let at = x.argmax(0);
        let mask = Tensor::iota([3], 0).eq(&at);
        ((x.max_over(0), at), move |(g, _): (Tensor, Tensor)| mask.select(g, 0.0))
    });
    assert_digits(&gradient(&grad(&top, &x).unwrap()), &[0.0, 1.0, 0.0]);
    let downstream = at.cast(DType::F32) * 2.0;
    assert!(matches!(grad(&downstream, &x).unwrap().state(), State::NotDifferentiable { op } if op == "top"));
}

#[test]
fn t22_a_function_that_returns_its_input() {
    for shape in [&[1][..], &[]] {
        let x = Tensor::full(shape, 5.0);
        let y = surrogate_gradient("identity", "a test", [&x], |[x]| (x, |g: Tensor| g * 2.0));
        assert_digits(&gradient(&grad(&y, &x).unwrap()), &[2.0]);
    }
}

#[test]
fn t24_elu_as_a_user_operation() {
    let x = Tensor::new([-2.0, 0.0, 2.0]);
    let elu = custom_gradient("elu", [&x], |[x]| {
        let negative = x.lt(0.0);
        let y = negative.select(x.expm1() * 2.0, &x);
        (y, move |g: Tensor| negative.select(x.exp() * 2.0 * &g, &g))
    });
    assert_digits(&values(&elu), &[-1.72932943353, 0.0, 2.0]);
    assert_digits(&gradient(&grad(&elu.sum(..), &x).unwrap()), &[0.270670566473, 1.0, 1.0]);
}

#[test]
fn t25_captured_tensors_are_refused_not_lost() {
    let (x, w) = (Tensor::new(3.0), Tensor::new(2.0).named("w"));
    // Host data is a constant: it may be captured, until somebody asks for its gradient.
    let f = custom_gradient("f", [&x], |[x]| (&x * &w, |g: Tensor| &g * &w));
    assert_digits(&gradient(&grad(&f, &x).unwrap()), &[2.0]);
    let errors = [grad(&f, &w).unwrap_err(), jvp(&[&f], &[(&w, &x)]).unwrap_err()];
    for error in errors {
        assert_eq!(error.code(), Code::RuleCapture);
        assert!(error.message().contains("`w`"), "{error}");
    }
    // What also enters as an input is the rule's business.
    let outer = &w;
    let f = custom_gradient("f", [&x, &w], |[x, _]| (&x * outer, move |g: Tensor| [&g * outer, &g * &x]));
    let [dx, dw] = grad(&f, [&x, &w]).unwrap();
    assert_digits(&[gradient(&dx)[0], gradient(&dw)[0]], &[2.0, 3.0]);
    // Behind a cut the capture is harmless.
    let f = custom_gradient("f", [&x], |[x]| (&x * &w, |g: Tensor| &g * &w));
    assert!(grad(&(f.detach() * &x), &x).is_ok());
    // Inputs and variables change from run to run: captured, they are refused at once.
    let input = Tensor::input("temperature", [], DType::F32);
    let f = custom_gradient("f", [&x], |[x]| (&x * &input, |g: Tensor| g));
    let error = f.error().unwrap();
    assert_eq!(error.code(), Code::RuleCapture);
    assert!(error.message().contains("`temperature`"), "{error}");
    // In the gradient alone as well.
    let f = custom_gradient("f", [&x], |[x]| (x, |g: Tensor| g * &input));
    assert_eq!(f.error().unwrap().code(), Code::RuleCapture);
    // A placeholder of an outer rule belongs to that rule.
    let f = custom_gradient("outer", [&x], |[x]| {
        let inner = custom_gradient("inner", [&w], |[w]| (&w * &x, |g: Tensor| g));
        (inner, |g: Tensor| g)
    });
    let error = f.error().unwrap();
    assert_eq!(error.code(), Code::RuleCapture);
    assert!(error.to_string().contains("in rule `outer`"), "{error}");
}

#[test]
fn t26_options_do_not_lose_the_rule() {
    let scale = |x: &Tensor, factor: Option<f64>| {
        let factor = factor.unwrap_or(2.0);
        surrogate_gradient("scale", "a test", [x], move |[x]| (x * factor, |g: Tensor| g * -1000.0))
    };
    assert_digits(&[slope(|x| scale(x, None), 1.0), slope(|x| scale(x, Some(3.0)), 1.0)], &[-1000.0; 2]);
}

#[test]
fn t27_methods_loops_and_nested_rules() {
    struct Scale(f64);
    impl Scale {
        fn call(&self, x: &Tensor) -> Tensor {
            surrogate_gradient("scale", "a test", [x], |[x]| (x, |g: Tensor| g * self.0))
        }
    }
    assert_digits(&[slope(|x| Scale(7.0).call(x), 1.0)], &[7.0]);
    assert_digits(&[slope(|x| (0..5).fold(x.clone(), |y, _| Scale(2.0).call(&y)), 1.0)], &[32.0]);
    // Inside another rule's forward: the outer rule decides at first order.
    let outer = |x: &Tensor| {
        surrogate_gradient("outer", "a test", [x], |[x]| {
            let y = Scale(2.0).call(&x);
            (y.clone(), move |g: Tensor| g * y)
        })
    };
    assert_digits(&[slope(outer, 3.0), curvature(outer, 3.0)], &[3.0, 2.0]);
}

#[test]
fn t30_saved_values_are_differentiated() {
    let f = |x: &Tensor| {
        surrogate_gradient("f", "4·i·g", [x], |[x]| {
            let i = x * 2.0;
            (&i * &i, move |g: Tensor| i * 4.0 * g)
        })
    };
    assert_digits(&[slope(f, 1.5), curvature(f, 1.5)], &[12.0, 8.0]);
    assert_digits(&[curvature(|x| f(x).pow(2.0), 1.5)], &[432.0]);
}

#[test]
fn t31_a_rule_that_differentiates_inside() {
    let f = |x: &Tensor| {
        surrogate_gradient("f", "a test", [x], |[x]| {
            let y = &x * &x;
            let pulled = y.clone();
            (y, move |g: Tensor| {
                vjp(&[(&pulled, &g)], &x).map(|d| d.or_zero()).unwrap_or_else(Tensor::invalid)
            })
        })
    };
    assert_digits(&[slope(f, 1.0)], &[2.0]);
    let x = Tensor::new(1.0);
    assert_digits(&gradient(&vjp(&[(&f(&x), &Tensor::new(3.0))], &x).unwrap()), &[6.0]);
}

#[test]
fn t32_host_control_flow() {
    let f = |flag: bool| {
        move |x: &Tensor| {
            custom_gradient("f", [x], |[x]| {
                let factor = if flag { 2.0 } else { 3.0 };
                (x * factor, move |g: Tensor| g * factor)
            })
        }
    };
    assert_digits(&[slope(f(true), 1.0), slope(f(false), 1.0)], &[2.0, 3.0]);
}

#[test]
fn t34_a_rule_keeps_its_gradient_on_batches() {
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let y = surrogate_gradient("exp", "a test", [&x], |[x]| (x.exp(), |g: Tensor| g * 42.0));
    assert_digits(&gradient(&grad(&y.sum(..), &x).unwrap()), &[42.0; 3]);
}

#[test]
fn t36_forward_mode_is_the_transposed_rule() {
    let (x, t) = (Tensor::new(3.0), Tensor::new(0.5));
    let pushed = jvp(&[&sine(&x)], &[(&x, &t)]).unwrap();
    assert_digits(&values(&pushed[0]), &[-1.97998499320 * 0.5]);
    let ignores = surrogate_gradient("ignores", "a test", [&x], |[x]| (&x * &x, move |_: Tensor| x));
    let clips = surrogate_gradient("clips", "a test", [&x], |[x]| (x, |g: Tensor| g.clamp(-1.0, 1.0)));
    // Affine in the cotangent: the constant would be lost. So would that of a rule inside the rule.
    let offset = |g: &Tensor| custom_gradient("offset", [g], |[g]| (g + 0.01, |u: Tensor| u));
    let affine =
        surrogate_gradient("affine", "a test", [&x], |[x]| (&x * &x, move |g: Tensor| g * x * 2.0 + 0.01));
    let nested =
        surrogate_gradient("nested", "a test", [&x], |[x]| (&x * &x, move |g: Tensor| offset(&g) * x));
    for rule in [ignores, clips, affine, nested] {
        let error = jvp(&[&rule], &[(&x, &t)]).unwrap_err();
        assert_eq!(error.code(), Code::NoJvp);
    }
}

#[test]
fn forward_mode_needs_no_more_of_a_rule_than_what_moves() {
    let (a, b, t) = (Tensor::new(0.3), Tensor::new(0.7), Tensor::new(2.0));
    let [y, z] = custom_gradient("apart", [&a, &b], |[a, b]| {
        ([a.sin(), b.cos()], move |[u, v]: [Tensor; 2]| [u * a.cos(), -v * b.sin()])
    });
    let pushed = jvp(&[&y, &z], &[(&a, &t)]).unwrap();
    assert_digits(&[value(&pushed[0]), value(&pushed[1])], &[2.0 * 0.3f64.cos(), 0.0]);
    let pushed = jvp(&[&y, &z], &[(&a, &t), (&b, &t)]).unwrap();
    assert_digits(&[value(&pushed[0]), value(&pushed[1])], &[2.0 * 0.3f64.cos(), -2.0 * 0.7f64.sin()]);
    // An integer beside a float output.
    let x = Tensor::new([1.0, 3.0, 2.0]);
    let (top, at) = custom_gradient("top", [&x], |[x]| {
        let at = x.argmax(0);
        let mask = Tensor::iota([3], 0).eq(&at);
        ((x.max_over(0), at), move |(g, _): (Tensor, Tensor)| mask.select(g, 0.0))
    });
    let direction = Tensor::new([5.0, 7.0, 11.0]);
    assert_digits(&values(&jvp(&[&top], &[(&x, &direction)]).unwrap()[0]), &[7.0]);
    let lost = jvp(&[&(at.cast(DType::F32) * 2.0)], &[(&x, &direction)]).unwrap_err();
    assert_eq!(lost.code(), Code::NotDifferentiable);
    assert!(lost.message().contains("top"), "{lost}");
    // Linear in ways that take a look: rows of a table, products, picks, a rule inside.
    let twice = |g: &Tensor| custom_gradient("twice", [g], |[g]| (g * 2.0, |u: Tensor| u * 2.0));
    let picked = custom_gradient("picked", [&x], |[x]| {
        let index = Tensor::new([2, 0]);
        (x.gather(0, &index) * 2.0, move |g: Tensor| Tensor::scatter_add(&index, &twice(&g), 0, 3))
    });
    assert_digits(&values(&jvp(&[&picked], &[(&x, &direction)]).unwrap()[0]), &[22.0, 10.0]);
}

#[test]
fn t40_straight_through() {
    let z = Tensor::new(2.7);
    let rounded = straight_through(&z.round(), &z);
    assert_digits(&[value(&rounded)], &[3.0]);
    assert_digits(&gradient(&grad(&(&rounded * &rounded), &z).unwrap()), &[6.0]);
    let z = Tensor::new(3.0);
    let side = straight_through(&z.round(), &(&z * &z));
    assert_digits(&gradient(&grad(&side, &z).unwrap()), &[6.0]);
    let only_forward = Tensor::new(1.0);
    let y = straight_through(&(&z + &only_forward), &z);
    let state = grad(&y, &only_forward).unwrap();
    assert!(matches!(state.state(), State::Stopped { by } if by == "straight_through"));
    let integer = straight_through(&z.cast(DType::I32), &z);
    assert_eq!(integer.error().unwrap().code(), Code::RuleDtype);
    assert!(integer.error().unwrap().to_string().contains("the value is i32, but the surrogate is f32"));
    let misfit = straight_through(&Tensor::zeros([3]), &Tensor::zeros([4]));
    assert_eq!(misfit.error().unwrap().code(), Code::RuleShape);
}

#[test]
fn t41_rules_that_repair_a_formula() {
    let f = |x: &Tensor| {
        custom_gradient("log1pexp", [x], |[x]| {
            let e = x.exp();
            ((&e + 1.0).log(), move |g: Tensor| g * (1.0 - (e + 1.0).recip()))
        })
    };
    assert_digits(
        &[slope(f, 100.0), value(&f(&Tensor::new(3.0))), slope(f, 3.0)],
        &[1.0, 3.04858735157, 0.952574126822],
    );
    let f = |x: &Tensor| {
        custom_gradient("x/(1+√x)", [x], |[x]| {
            let root = x.sqrt();
            let y = &x / (&root + 1.0);
            (y, move |g: Tensor| g * (&root + 2.0) / ((&root + 1.0).pow(2.0) * 2.0))
        })
    };
    assert_digits(&[slope(f, 0.0)], &[1.0]);
}

#[test]
fn t43_to_t45_mistakes_name_rule_argument_expected_and_got() {
    let (x, y) = (Tensor::new([1.0, 2.0, 3.0]).named("x"), Tensor::new([1.0, 2.0, 3.0, 4.0]).named("y"));
    let (n, h) = (Tensor::new([1, 2]), Tensor::new(Array::from([1.0, 2.0, 3.0]).with_dtype(DType::F16)));
    let sum = |a: &Tensor, b: &Tensor| a.sum(..) + b.sum(..);
    let cases = [
        (
            Code::RuleArity,
            "expected 2 gradients, got 1",
            custom_gradient("f", [&x, &y], |[x, y]| (sum(&x, &y), |g: Tensor| [g])),
        ),
        (
            Code::RuleShape,
            "gradient 1 has shape [3], but input 1 `y` is [4]",
            custom_gradient("f", [&x, &y], |[x, y]| {
                (sum(&x, &y), move |g: Tensor| [g.broadcast_to([3]), g.broadcast_to([3])])
            }),
        ),
        (
            Code::RuleShape,
            "gradient 0 has shape [4, 3], but input 0 `x` is [3]",
            custom_gradient("f", [&x], |[x]| (x, |g: Tensor| g.broadcast_to([4, 3]))),
        ),
        (
            Code::RuleDtype,
            "gradient 0 is i32, but input 0 `x` is f32",
            custom_gradient("f", [&x], |[x]| (x, |g: Tensor| g.cast(DType::I32))),
        ),
        (
            Code::RuleDtype,
            "gradient 0 is f16, but input 0 `x` is f32",
            custom_gradient("f", [&x], |[x]| (x, |g: Tensor| g.cast(DType::F16))),
        ),
        (
            Code::RuleDtype,
            "gradient 0 is f32, but input 0 `input0` is f16",
            custom_gradient("f", [&h], |[h]| (h.cast(DType::F32), |g: Tensor| g)),
        ),
        (
            Code::RuleNone,
            "gradient 0 must be `None`: input 0 `input0` is i32",
            custom_gradient("f", [&n], |[n]| (n.cast(DType::F32), |g: Tensor| g)),
        ),
        (Code::RuleCut, "passes nothing", custom_gradient("f", [&x], |[x]| (x, |_: Tensor| [None]))),
        (
            Code::UserPanic,
            "its closure panicked: host says no",
            custom_gradient("f", [&x], |[x]| {
                if x.error().is_none() {
                    panic!("host says {}", "no");
                }
                (x, |g: Tensor| g)
            }),
        ),
        (
            Code::UserPanic,
            "its closure panicked: backward",
            custom_gradient("f", [&x], |[x]| (x, |_: Tensor| -> Tensor { panic!("backward") })),
        ),
    ];
    let count = cases.len();
    for (code, text, tensor) in cases {
        let error = tensor.error().unwrap_or_else(|| panic!("{code} was expected"));
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(text), "{error}");
        assert_eq!(error.operation(), "custom gradient \"f\"");
        assert!(error.location().unwrap().file().ends_with("rules.rs"));
        // Every boundary returns it.
        assert_eq!(grad(&tensor.sum(..), &x).unwrap_err().code(), code);
        assert_eq!(jvp(&[&tensor], &[]).unwrap_err().code(), code);
    }
    assert_eq!(count, 10);
    // The graph is as before.
    assert_digits(&gradient(&grad(&x.sum(..), &x).unwrap()), &[1.0; 3]);
}

#[test]
fn errors_inside_a_closure_come_through_with_the_rule_as_context() {
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let line = line!() + 1;
    let f = custom_gradient("f", [&x], |[x]| (x, |g: Tensor| g + Tensor::zeros([4])));
    let error = f.error().unwrap();
    assert_eq!(error.code(), Code::Broadcast);
    let text = error.to_string();
    assert!(
        text.contains(&format!("in rule `f`, applied at crates/autograd/tests/rules.rs:{line}:")),
        "{text}"
    );
    // An invalid input never reaches the closure.
    let f = custom_gradient("g", [&f], |[x]| -> (Tensor, fn(Tensor) -> Tensor) {
        panic!("called with {x:?}");
    });
    assert_eq!(f.error().unwrap().code(), Code::Broadcast);
}

#[test]
fn t46_cotangents_must_fit() {
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let y = x.pow(2.0);
    let error = grad(&y, &x).unwrap_err();
    assert_eq!(error.code(), Code::NotScalar);
    assert!(error.help().is_some_and(|h| h.contains("vjp(&[(&loss, &cotangent)], wrt)")), "{error}");
    assert_digits(&gradient(&vjp(&[(&y, &Tensor::ones([3]))], &x).unwrap()), &[2.0, 4.0, 6.0]);
    let square = Tensor::zeros([2, 2]);
    let error = vjp(&[(&square, &Tensor::zeros([2]))], &x).unwrap_err();
    assert_eq!(error.code(), Code::Cotangent);
    assert!(error.message().contains("cotangent for output 0 has shape [2] but the output has [2, 2]"));
    let halves = Tensor::zeros([3]).cast(DType::F16);
    assert_eq!(vjp(&[(&y, &halves)], &x).unwrap_err().code(), Code::Cotangent);
    assert_eq!(jvp(&[&y], &[(&x, &square)]).unwrap_err().code(), Code::Cotangent);
    let two = Tensor::new([1.0, 2.0]);
    let scaled = vjp(&[(&two.pow(2.0).sum(..), &Tensor::new(3.0))], &two).unwrap();
    assert_digits(&gradient(&scaled), &[6.0, 12.0]);
}

#[test]
fn t47_a_function_without_a_gradient() {
    let x = Tensor::new(3.0);
    let foo = custom_function("foo", [&x], |[x]| &x * &x);
    assert_digits(&[value(&foo)], &[9.0]);
    let dx = grad(&foo, &x).unwrap();
    assert!(matches!(dx.state(), State::NotDifferentiable { op } if op == "foo"));
    let error = dx.or_error().unwrap_err();
    assert_eq!(error.code(), Code::NotDifferentiable);
    assert!(error.message().contains("no gradient rule for `foo`"), "{error}");
    assert_eq!(dx.or_zero().error().unwrap().code(), Code::NotDifferentiable);
    assert_eq!(jvp(&[&foo], &[(&x, &x)]).unwrap_err().code(), Code::NoJvp);
    // A value beside it would be silently wrong.
    let both = grad(&(&foo + &x), &x).unwrap();
    assert!(matches!(both.state(), State::NotDifferentiable { op } if op == "foo"));
}

#[test]
fn t58_a_replaced_cotangent() {
    let x = Tensor::new([1.0, 2.0]);
    let y = map_cotangent(&x.exp(), |g| g * 10.0);
    let plain = gradient(&grad(&x.exp().sum(..), &x).unwrap());
    let expected: Vec<f64> = plain.iter().map(|v| v * 10.0).collect();
    assert_digits(&gradient(&grad(&y.sum(..), &x).unwrap()), &expected);
    // A pass cut at an edge and continued from it equals the whole one.
    let h = x.exp();
    let loss = (&h * &h).sum(..);
    let upstream = grad(&loss, &h).unwrap().or_error().unwrap();
    let continued = vjp(&[(&h, &upstream)], &x).unwrap();
    assert_eq!(gradient(&continued), gradient(&grad(&loss, &x).unwrap()));
}

#[test]
fn half_precision_keeps_its_type_and_loses_nothing_on_the_way() {
    let h = Tensor::new(Array::from([1.0, 2.0]).with_dtype(DType::F16));
    let loss = (h.cast(DType::F32) * &h).sum(..);
    let dh = grad(&loss, &h).unwrap().or_error().unwrap();
    assert_eq!(dh.dtype(), DType::F16);
    assert_digits(&values(&dh), &[2.0, 4.0]);
    let doubled =
        surrogate_gradient("double", "a test", [&h], |[h]| (h, |g: Tensor| (g * 2.0).cast(DType::F16)));
    assert_digits(&gradient(&grad(&doubled.sum(..), &h).unwrap()), &[2.0, 2.0]);
}

#[test]
fn as_many_outputs_come_back_invalid_as_valid() {
    let wrong = Tensor::zeros([2]) + Tensor::zeros([3]);
    let pair = |x: &Tensor| {
        custom_gradient("pair", [x], |[x]| (vec![x.sin(), x.cos()], |g: Vec<Tensor>| &g[0] + &g[1]))
    };
    let lengths = |all: Vec<Tensor>| (all.len(), all.iter().filter(|t| t.error().is_some()).count());
    assert_eq!(lengths(pair(&Tensor::zeros([2]))), (2, 0));
    assert_eq!(lengths(pair(&wrong)), (2, 2));
    let outside = custom_function("pair", [&wrong], |[x]| vec![x.sin(), x.cos(), x]);
    assert_eq!(lengths(outside), (3, 3));
    let misfit = custom_gradient("misfit", [&Tensor::zeros([2])], |[x]| {
        (vec![x.sin(), x.cos()], |g: Vec<Tensor>| g[0].sum(..))
    });
    assert_eq!(misfit[1].error().unwrap().code(), Code::RuleShape);
    assert_eq!(lengths(misfit), (2, 2));
}

#[test]
fn a_gradient_that_claims_to_be_exact_comes_from_its_cotangent() {
    let (x, y) = (Tensor::new([3.0, 1.0]), Tensor::new([4.0, 2.0]).named("y"));
    let product = |ignore: usize| {
        custom_gradient("product", [&x, &y], move |[x, y]| {
            let product = &x * &y;
            let gradient = move |g: Tensor| match ignore {
                0 => [y, g * x],
                1 => [g * y, x],
                2 => [g * y, x * 0.0],
                3 => [g.detach() * y, custom_gradient("inner", [&g], |[g]| (g.clone(), |u: Tensor| u)) * x],
                _ => [g.sum(..) * y.exp(), Tensor::zeros([2])],
            };
            (product, gradient)
        })
    };
    for (ignore, name) in [(0, "gradient 0"), (1, "gradient 1")] {
        let error = product(ignore).error().cloned().unwrap();
        assert_eq!(error.code(), Code::RuleLinear);
        assert!(
            error.to_string().contains(name) && error.to_string().contains("declare a surrogate"),
            "{error}"
        );
    }
    // A structural zero needs no cotangent, and what is detached or inside of a rule still comes from it.
    for fine in [2, 3, 4] {
        assert!(product(fine).error().is_none(), "{fine}: {:?}", product(fine).error());
    }
}
