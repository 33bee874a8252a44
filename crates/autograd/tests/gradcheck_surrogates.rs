//! `gradcheck` of functions with declared surrogates: believed at first order, checked as functions of their own later.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::check::Report;
use cotangent_autograd::{
    CustomGradient, GradCheck, Outputs, clip_gradient, clip_gradient_norm, custom_gradient, grad,
    map_cotangent, replace_gradient, reverse_gradient, scale_gradient, straight_through, surrogate,
    surrogate_gradient,
};
use cotangent_tensor::{Code, DType, Reference, Tensor};
use support::check::{finds, number, passes, rule};
use support::{assert_digits, value};

fn run<O: Outputs>(order: usize, function: impl Fn([Tensor; 1]) -> O, at: &[f64]) -> Report {
    let report = GradCheck::new().order(order).run(function, [Tensor::new(at)], &Reference::new());
    report.unwrap_or_else(|e| panic!("{e}"))
}

/// `sign` with the gradient of a sigmoid of slope `slope(x)`.
fn soft_sign(x: &Tensor, slope: fn(&Tensor) -> Tensor) -> Tensor {
    surrogate_gradient("soft_sign", "sign is flat", [x], |[x]| {
        let slope = slope(&x) * x.sigmoid() * (-&x).sigmoid();
        (x.sign(), move |g: Tensor| g * slope)
    })
}

fn one(x: &Tensor) -> Tensor {
    Tensor::ones(x.shape())
}

#[test]
fn the_gradient_of_a_surrogate_is_a_function_of_its_own() {
    for order in 1..=3 {
        let report = run(order, |[x]| soft_sign(&x, one), &[3.0, -0.5]);
        passes(&report);
        assert_eq!(report.surrogates[0].order, order);
        // Two elements at each order, of the rule and of the function, by both witnesses.
        let count = 2 * 2 * order;
        assert_eq!((report.compared.dual, report.compared.differences), (count, count), "{report}");
        let text = format!("derivatives of its gradient compared up to order {order}");
        assert_eq!(report.to_string().contains(&text), order > 1, "{report}");
    }
}

#[test]
fn a_surrogate_whose_gradient_hides_its_derivative() {
    let hides = |[x]: [Tensor; 1]| soft_sign(&x, |x| x.detach().exp());
    passes(&run(1, hides, &[3.0]));
    let error = finds(run(2, hides, &[3.0]), Code::RuleOrder);
    assert_eq!((error.operation(), number(&error, "order")), ("custom gradient \"soft_sign\"", 2.0));
    // d/dx of eˣ σ(x) σ(−x), without and with the derivative of eˣ, for the same cotangent and direction.
    let (e, s) = (3f64.exp(), 1.0 / (1.0 + (-3f64).exp()));
    let (p, dp) = (s * (1.0 - s), s * (1.0 - s) * (1.0 - 2.0 * s));
    let ratio = number(&error, "got") / number(&error, "expected");
    assert_digits(&[ratio], &[e * dp / (e * dp + e * p)]);
    passes(&run(3, |[x]| soft_sign(&x, Tensor::exp), &[3.0]));
    // For a cotangent of ones there is nothing to hide.
    let softmax = |[x]: [Tensor; 1]| {
        surrogate_gradient("softmax", "a test", [&x], |[x]| {
            let p = x.softmax(0).detach();
            (x.softmax(0).round(), move |g: Tensor| &p * (&g - (&p * &g).sum(..)))
        })
    };
    let error = finds(run(2, softmax, &[1.0, 2.0, 0.5]), Code::RuleOrder);
    assert_eq!(error.operation(), "custom gradient \"softmax\"");
    // Wrong the third time: the gradient of the gradient hides.
    let third = |[x]: [Tensor; 1]| {
        soft_sign(&x, |x| {
            custom_gradient("cube", [x], |[x]| (x.pow(3), move |g: Tensor| x.detach().pow(2) * 3.0 * g))
        })
    };
    passes(&run(2, third, &[1.5]));
    let error = finds(run(3, third, &[1.5]), Code::RuleOrder);
    assert_eq!(error.operation(), "custom gradient \"cube\"");
    // One that is declared to know nothing more says so itself.
    let once = |[x]: [Tensor; 1]| {
        let rule = CustomGradient::surrogate("once", "a test").first_order_only();
        rule.apply([&x], |[x]| (x.sign(), move |g: Tensor| g * x.cos()))
    };
    passes(&run(1, once, &[0.5]));
    let error = GradCheck::new().order(2).run(once, [Tensor::new([0.5])], &Reference::new()).unwrap_err();
    assert_eq!(error.code(), Code::FirstOrderOnly);
}

#[test]
fn values_of_surrogates_in_gradients_move_as_the_surrogates_say() {
    // The gradient is 2 s(x) s'(x), where s' is declared: its derivative is 2 s'² + 2 s s''.
    let square = |[x]: [Tensor; 1]| soft_sign(&x, one).pow(2);
    let x = Tensor::new(0.5);
    let first = grad(&square([x.clone()]), &x).unwrap().or_error().unwrap();
    let second = value(&grad(&first, &x).unwrap().or_error().unwrap());
    let s = 1.0 / (1.0 + (-0.5f64).exp());
    let slope = s * (1.0 - s);
    assert_digits(&[second], &[2.0 * slope * slope + 2.0 * slope * (1.0 - 2.0 * s)]);
    for order in 1..=3 {
        let report = run(order, square, &[0.5, -1.25]);
        passes(&report);
        assert_eq!(report.compared.unknown, 0, "{report}");
        assert_eq!((report.compared.dual, report.compared.differences), (4 * order, 4 * order), "{report}");
    }
    // One after the other, beside exact rules, with several outputs, of which one is an integer.
    let both = |[x]: [Tensor; 1]| {
        let hard = soft_sign(&rule("sine", Tensor::sin, |x, g| x.cos() * g)([x.clone()]), one);
        let rounds = CustomGradient::surrogate("rounds", "rounding is flat").without_derivative(2);
        let (whole, floor, count) = rounds.apply([&(hard.exp() * &x)], |[x]| {
            let outputs = (x.round(), x.floor().cast(DType::I32), x.ceil());
            (outputs, |(g, ..): (Tensor, Tensor, Tensor)| g * 1.5)
        });
        (whole * x.exp()).sin() * hard * (floor.cast(DType::F32) + 0.5) * (count + 0.25)
    };
    for order in 1..=3 {
        let report = run(order, both, &[0.7, -1.3]);
        passes(&report);
        assert_eq!((report.compared.unknown, report.surrogates.len()), (0, 2), "{report}");
    }
}

#[test]
fn a_surrogate_inside_of_a_gradient_counts_as_what_it_says() {
    let bowl = |shown: f64| {
        move |[x]: [Tensor; 1]| {
            custom_gradient("bowl", [&x], |[x]| {
                (x.cosh(), move |g: Tensor| {
                    let slope = |[x]: [Tensor; 1]| (x.sinh() * shown, |g: Tensor| g);
                    g * surrogate_gradient("slope", "curvature 1", [&x], slope)
                })
            })
        }
    };
    for order in 1..=3 {
        passes(&run(order, bowl(1.0), &[2.0, -0.5]));
    }
    finds(run(2, bowl(1.1), &[2.0, -0.5]), Code::RuleWrong);
}

#[test]
fn rewrites_of_gradients_pass_at_every_order() {
    type Rewrite = fn(&Tensor) -> Tensor;
    // Whether the cotangent enters linearly.
    let rewrites: [(Rewrite, bool); 8] = [
        (|x| scale_gradient(x, 3.0), true),
        (|x| reverse_gradient(x, 1.0), true),
        (|x| surrogate("sign", x, Tensor::sign, Tensor::cos), true),
        (|x| map_cotangent(x, |g| g * 1.5), true),
        (|x| straight_through(&x.round(), x), true),
        (|x| clip_gradient(x, 0.25), false),
        (|x| clip_gradient_norm(x, 0.5), false),
        (|x| replace_gradient(x, &Tensor::new([3.0, 3.0])), false),
    ];
    for (number, (rewrite, linear)) in rewrites.into_iter().enumerate() {
        for order in 1..=3 {
            let report = run(order, |[x]| rewrite(&x).exp(), &[0.5, -1.0]);
            passes(&report);
            assert_eq!(report.compared.unknown == 0, linear, "{number}: {report}");
            // Where no value of the rewrite stands in the gradient, there is nothing that it would have to say.
            let report = run(order, |[x]| rewrite(&x) * 2.0, &[0.5, -1.0]);
            passes(&report);
        }
    }
}
