//! Rules at their first use: correct ones are never refused, wrong ones every time.

#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cotangent_autograd::check::{Report, finite_differences, transposition, unchecked};
use cotangent_autograd::{
    CustomGradient, InputGradient, Rule, Upstream, batch, checkpoint, custom_gradient, custom_jvp, grad,
    gradcheck, hvp, jacobian, jvp, vjp,
};
use cotangent_tensor::{Array, Code, DType, Error, IntoShape, Key, Reference, Tensor, where_};

/// A function with a rule, of which the gradient is multiplied by a factor, and what it is differentiated by.
type Case = (&'static str, fn(f64) -> (Tensor, Tensor));

fn input(shape: impl IntoShape) -> Tensor {
    Tensor::input("x", shape, DType::F32)
}

#[track_caller]
fn one(f: fn(&Tensor) -> Tensor, slope: fn(&Tensor) -> Tensor, x: Tensor, factor: f64) -> (Tensor, Tensor) {
    let y = custom_gradient("rule", [&x], |[x]| {
        let y = f(&x).cast(x.dtype());
        (y, move |u: Tensor| (u * slope(&x) * factor).cast(x.dtype()))
    });
    (y, x)
}

/// `e^x` and `x²`, kept; what is missing is not computed.
struct Two(f64);

impl Rule for Two {
    type Saved = (Tensor, Tensor);
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("two")
    }
    fn forward(&self, x: &[Tensor]) -> (Vec<Tensor>, (Tensor, Tensor)) {
        let y = x[0].exp();
        (vec![y.clone(), &x[0] * &x[0]], (x[0].clone(), y))
    }
    fn vjp(
        &self,
        (x, y): &(Tensor, Tensor),
        u: &Upstream,
        needs: &[bool],
    ) -> Option<Vec<InputGradient<Tensor>>> {
        assert!(needs[0]);
        let first = u.get(0).map(|u| u * y * self.0);
        let second = u.get(1).map(|u| u * x * 2.0);
        Some(vec![first.into_iter().chain(second).reduce(|a, b| a + b).into()])
    }
    fn sees_missing(&self) -> bool {
        true
    }
}

/// Rules that rely on where they are used: on a domain, on what users know about their data, on what is at a kink.
const CORRECT: &[Case] = &[
    ("square", |c| one(|x| x * x, |x| x * 2.0, input([3]), c)),
    ("one number", |c| one(|x| x * x, |x| x * 2.0, input([]), c)),
    ("log", |c| one(Tensor::log, Tensor::recip, input([4]), c)),
    ("sqrt", |c| one(Tensor::sqrt, |x| x.rsqrt() * 0.5, input([2, 3]), c)),
    ("acos", |c| one(Tensor::acos, |x| -(1.0 - x * x).rsqrt(), input([3]), c)),
    ("acosh", |c| one(Tensor::acosh, |x| (x * x - 1.0).rsqrt(), input([3]), c)),
    ("root of what is left of one", |c| {
        one(|x| (1.0 - (x * x).sum(..)).sqrt(), |x| -x * (1.0 - (x * x).sum(..)).rsqrt(), input([5]), c)
    }),
    ("relu, strict", |c| one(Tensor::relu, |x| x.gt(0.0).cast(DType::F32), Tensor::new([0.0, 1.0, -2.0]), c)),
    ("relu, not strict", |c| one(Tensor::relu, |x| x.ge(0.0).cast(DType::F32), Tensor::new([0.0, 1.0]), c)),
    ("relu of zeros", |c| one(Tensor::relu, |x| x.ge(0.0).cast(DType::F32), Tensor::zeros([3]), c)),
    ("absolute value", |c| one(Tensor::abs, |x| where_(&x.ge(0.0), 1.0, -1.0), Tensor::new([0.0, -3.0]), c)),
    ("maximum, to the first", |c| {
        one(|x| x.max_over(0), |x| x.argmax(0).one_hot(3).cast(DType::F32), Tensor::new([1.0, 2.0, 2.0]), c)
    }),
    ("guarded", |c| {
        let log = |x: &Tensor| where_(&x.gt(0.0), where_(&x.gt(0.0), x, 1.0).log(), 0.0);
        one(log, |x| where_(&x.gt(0.0), x.recip(), 0.0), input([4]), c)
    }),
    ("log of what is positive anyway", |c| one(|x| x.max(1e-6).log(), Tensor::recip, input([4]), c)),
    ("outside of the domain", |c| one(Tensor::log, Tensor::recip, Tensor::new([-1.0, 2.0]), c)),
    ("GELU with seven digits", |c| {
        let value = |x: &Tensor| x * (((x + x * x * x * 0.044715) * 0.797_884_6).tanh() + 1.0) * 0.5;
        let slope = |x: &Tensor| {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let t = ((x + x * x * x * 0.044715) * root).tanh();
            (&t + 1.0) * 0.5 + x * (1.0 - &t * &t) * (x * x * 0.134145 + 1.0) * root * 0.5
        };
        one(value, slope, input([4]), c)
    }),
    ("cross entropy of probabilities", |c| {
        let (x, p) = (input([2, 3]), Tensor::input("p", [2, 3], DType::F32));
        let y = custom_gradient("ce", [&x, &p], |[x, p]| {
            let y = -(x.log_softmax(-1) * &p).sum(..);
            (y, move |u: Tensor| (Some(u * (x.softmax(-1) - p) * c), None))
        });
        (y, x)
    }),
    ("cross entropy of labels", |c| {
        let (x, labels) = (input([2, 3]), Tensor::input("labels", [2], DType::I32));
        let y = custom_gradient("ce", [&x, &labels], |[x, labels]| {
            let y = x.cross_entropy(&labels).sum(..);
            (y, move |u: Tensor| (Some(u * (x.softmax(-1) - labels.one_hot(3).cast(DType::F32)) * c), None))
        });
        (y, x)
    }),
    ("mask twice", |c| {
        let (x, mask) = (input([5]), Tensor::input("mask", [5], DType::F32));
        let y = custom_gradient("masked", [&x, &mask], |[x, mask]| {
            (x * &mask * &mask, move |u: Tensor| (Some(u * mask * c), None))
        });
        (y, x)
    }),
    ("truth values", |c| {
        let (x, mask) = (input([5]), Tensor::input("mask", [5], DType::Bool));
        let y = custom_gradient("masked", [&x, &mask], |[x, mask]| {
            (where_(&mask, &x * &x, 0.0), move |u: Tensor| (Some(where_(&mask, u * x * 2.0 * c, 0.0)), None))
        });
        (y, x)
    }),
    ("labels of both signs", |c| {
        let (x, sign) = (input([5]), Tensor::input("sign", [5], DType::F32));
        let y = custom_gradient("margin", [&x, &sign], |[x, sign]| {
            ((&x * &sign - 1.0).pow(2), move |u: Tensor| (Some(u * (x - sign) * 2.0 * c), None))
        });
        (y, x)
    }),
    ("rows", |c| {
        let (x, at) = (input([4, 2]), Tensor::input("at", [3], DType::I32));
        let y = custom_gradient("rows", [&x, &at], |[x, at]| {
            (x.gather(0, &at), move |u: Tensor| (Some(Tensor::scatter_add(&at, &(u * c), 0, 4)), None))
        });
        (y, x)
    }),
    ("a permutation and its inverse", |c| {
        let (x, at) = (input([4]), Tensor::input("at", [4], DType::I32));
        let back = Tensor::input("back", [4], DType::I32);
        let y = custom_gradient("permuted", [&x, &at, &back], |[x, at, back]| {
            (x.gather(0, &at), move |u: Tensor| (Some((u * c).gather(0, &back)), None, None))
        });
        (y, x)
    }),
    ("bounds in order", |c| {
        let [x, low, high] = ["x", "low", "high"].map(|name| Tensor::input(name, [3], DType::F32));
        let y = custom_gradient("clamp", [&x, &low, &high], |[x, low, high]| {
            let pass = |mask: Tensor, u: &Tensor| where_(&mask, u * c, 0.0);
            (x.max(&low).min(&high), move |u: Tensor| {
                let inside = x.gt(&low).and(x.lt(&high));
                [pass(inside, &u), pass(x.le(&low), &u), pass(x.ge(&high), &u)]
            })
        });
        (y, low)
    }),
    ("a symmetric matrix", |c| {
        let (x, m) = (input([3]), Tensor::input("m", [3, 3], DType::F32));
        let y = custom_gradient("form", [&x, &m], |[x, m]| {
            let y = (&x * m.matmul(&x)).sum(..);
            (y, move |u: Tensor| (Some(u * m.matmul(&x) * 2.0 * c), None))
        });
        (y, x)
    }),
    ("knots in order", |c| {
        let (x, at) = (input([3]), Tensor::input("at", [3], DType::F32));
        let y = custom_gradient("width", [&x, &at], |[x, at]| {
            let width = at.slice(0, 2, 3, 1) - at.slice(0, 0, 1, 1);
            let known = &at.max_over(0) - &at.min_over(0);
            (&x * known, move |u: Tensor| (Some(u * width * c), None))
        });
        (y, x)
    }),
    ("vectors of length one", |c| {
        let (x, w) = (input([4]), Tensor::input("w", [4], DType::F32));
        let y = custom_gradient("cosine", [&x, &w], |[x, w]| {
            let y = (&x * &w).sum(..) / (&x * &x).sum(..).sqrt();
            (y.clone(), move |u: Tensor| (Some(u * (w - x * y) * c), None))
        });
        (y, x)
    }),
    ("division", |c| {
        let [a, b] = ["a", "b"].map(|name| Tensor::input(name, [3], DType::F32));
        let y = custom_gradient("ratio", [&a, &b], |[a, b]| {
            (&a / &b, move |u: Tensor| [&u / &b, -(u * a / (&b * &b)) * c])
        });
        (y, b)
    }),
    ("half precision", |c| one(Tensor::exp, Tensor::exp, Tensor::input("x", [3], DType::F16), c)),
    ("half precision, gradients in single", |c| {
        let x = Tensor::input("x", [3], DType::F16);
        let y = CustomGradient::exact("wide")
            .gradients_in(DType::F32)
            .apply([&x], |[x]| (x.exp(), move |u: Tensor| u * x.cast(DType::F32).exp() * c));
        (y, x)
    }),
    ("an object that sees what is missing", |c| {
        let x = input([3]);
        (Two(c).apply(&[&x]).remove(0), x)
    }),
    ("forward mode", |c| {
        let x = input([3]);
        (custom_jvp("square", [&x], |[x]| (&x * &x, move |[t]: [Tensor; 1]| t * x * 2.0 * c)), x)
    }),
    ("first order only", |c| {
        let x = input([3]);
        let rule = CustomGradient::exact("once").first_order_only();
        (rule.apply([&x], |[x]| (x.exp(), move |u: Tensor| u * x.exp().detach() * c)), x)
    }),
    ("an output without derivative", |c| {
        let x = input([3]);
        let rule = CustomGradient::exact("places").without_derivative(1);
        let (y, _) = rule.apply([&x], |[x]| {
            ((x.sin(), x.argmax(0).cast(DType::F32)), move |(u, _): (Tensor, Tensor)| u * x.cos() * c)
        });
        (y, x)
    }),
    ("dropout", |c| {
        let x = input([8]);
        let keep = Tensor::bernoulli(Key::new(7), 3u32, 0.5, [8]);
        let y = custom_gradient("dropout", [&x], |[x]| {
            (where_(&keep, &x * 2.0, 0.0), |u: Tensor| where_(&keep, u * 2.0 * c, 0.0))
        });
        (y, x)
    }),
    ("constant pieces", |c| one(|x| x.floor() + x, |_| Tensor::new(1.0), input([3]), c)),
    ("a rule in a rule", |c| {
        let x = input([3]);
        let y = custom_gradient("outer", [&x], |[x]| {
            let inner = custom_gradient("inner", [&x], |[x]| (x.sin(), move |u: Tensor| u * x.cos()));
            (&inner * &inner, move |u: Tensor| u * inner * x.cos() * 2.0 * c)
        });
        (y, x)
    }),
    ("examples of a batch", |c| {
        let x = input([3, 2]);
        (batch([&x], |[x]| one(|x| x * x, |x| x * 2.0, x, c).0), x)
    }),
    ("computed again", |c| {
        let x = input([3]);
        (checkpoint([&x], |[x]| one(Tensor::sin, Tensor::cos, x.exp(), c).0), x)
    }),
    ("computed again and kept inside of a rule", |c| {
        one(|x| checkpoint([x], |[x]| x.exp().sin()), |x| x.exp().cos() * x.exp(), input([3]), c)
    }),
];

/// Rules of which nothing can be said at their first use: they pass, whatever they are.
const UNKNOWN: &[Case] = &[
    ("empty", |c| one(|x| x * x, |x| x * 2.0, input([0, 3]), c)),
    ("too large", |c| one(|x| x * x, |x| x * 2.0, input([5000]), c)),
    ("nothing but NaN", |c| one(|x| (-(x * x) - 1.0).log(), |x| x.recip() * 2.0, input([3]), c)),
    ("twice the same", |c| {
        let x = input([3]);
        let y = custom_gradient("same", [&x, &x], |[a, b]| {
            (&a * b, move |u: Tensor| (Some(u * a * 2.0 * c), None))
        });
        (y, x)
    }),
    ("captured, too", |c| {
        let (x, w) = (input([3]), Tensor::new([1.0, 2.0, 3.0]));
        let y = custom_gradient("captures", [&x, &w], |[x, _]| (&x * &w, |u: Tensor| [&u * &w * c, u * x]));
        (y, x)
    }),
    ("data made of an input", |c| {
        let x = input([3]);
        let y = custom_gradient("swish", [&x, &x.sigmoid()], |[x, s]| {
            (&x * &s, move |u: Tensor| (Some(u * (&s + x * &s * (1.0 - &s)) * c), None))
        });
        (y, x)
    }),
];

fn slopes((y, x): &(Tensor, Tensor)) -> Result<Tensor, Error> {
    grad(&y.cast(DType::F32).sum(..), x)?.or_error()
}

#[test]
fn no_correct_rule_is_refused_and_each_is_if_it_is_wrong() {
    for (name, case) in CORRECT {
        for again in 0..2 {
            assert!(slopes(&case(1.0)).is_ok(), "{name}, {again}: {:?}", slopes(&case(1.0)).err());
        }
        for _ in 0..2 {
            let error = slopes(&case(1.25)).expect_err(name);
            assert_eq!(error.code(), Code::RuleWrong, "{name}: {error}");
            assert!(
                error.location().is_some_and(|at| at.file().ends_with("first_use.rs")),
                "{name}: {error}"
            );
        }
        assert!(unchecked(|| slopes(&case(1.25))).is_ok(), "{name}");
    }
    assert_eq!(CORRECT.len(), 40);
}

#[test]
fn what_cannot_be_known_passes() {
    for (name, case) in UNKNOWN {
        for factor in [1.0, 1.25] {
            assert!(slopes(&case(factor)).is_ok(), "{name}: {:?}", slopes(&case(factor)).err());
        }
    }
    assert_eq!(UNKNOWN.len(), 6);
}

/// `x²` with a derivative of `2.5 x`.
#[track_caller]
fn wrong(x: &Tensor) -> Tensor {
    custom_gradient("square", [x], |[x]| (&x * &x, move |u: Tensor| u * x * 2.5))
}

/// `x²` as an object whose forward mode alone is wrong.
struct Square {
    pullback: f64,
    pushforward: f64,
}

impl Rule for Square {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("square")
    }
    fn forward(&self, x: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        (vec![&x[0] * &x[0]], x[0].clone())
    }
    fn vjp(&self, x: &Tensor, u: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
        Some(vec![(&u[0] * x * self.pullback).into()])
    }
    fn jvp(&self, x: &Tensor, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        Some(vec![tangents[0].as_ref().map(|t| t * x * self.pushforward)])
    }
}

#[test]
fn the_message_is_that_of_gradcheck_with_the_place_and_the_line() {
    let x = Tensor::new([0.5, -2.0]);
    let (y, line) = (custom_gradient("square", [&x], |[x]| (&x * &x, move |u: Tensor| u * x * 2.5)), line!());
    let text = grad(&y.sum(..), &x).unwrap_err().to_string();
    let column =
        text.split(&format!(":{line}:")).nth(1).and_then(|rest| rest.split('\n').next()).unwrap_or("");
    let expected = format!(
        "error[E_RULE_WRONG]: custom gradient \"square\": output 0, input 0 `input0`, element [1]: got -5.0, expected -4.0 \
         by dual numbers, for a cotangent of ones; the largest error is 1e0\n  at {}:{line}:{column}\n  \
         at its first use, at the values that its inputs have there\n  \
         help: correct the rule, or declare a surrogate if the difference is intended",
        file!()
    );
    assert_eq!(text, expected);
    let x = Tensor::input("speed", [2], DType::F32);
    let error = grad(&wrong(&x).sum(..), &x).unwrap_err().to_string();
    for part in ["input 0 `speed`", "at its first use, at values that were drawn for its inputs"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_wrong_rule_is_refused_every_time_and_a_right_one_at_the_same_line_is_not() {
    let x = input([3]);
    let square =
        |factor: f64| custom_gradient("square", [&x], |[x]| (&x * &x, move |u: Tensor| u * x * factor));
    for factor in [2.0, 2.5, 2.0, 2.5, 2.5, 2.0] {
        assert_eq!(grad(&square(factor).sum(..), &x).is_err(), factor > 2.0, "{factor}");
    }
}

#[test]
fn every_derivative_uses_rules() {
    let (x, t) = (Tensor::new([0.5, -2.0]), Tensor::new([1.0, 0.0]));
    let y = wrong(&x);
    let first = unchecked(|| grad(&y.sum(..), &x)).unwrap().or_error().unwrap();
    let errors: [(&str, Error); 8] = [
        ("vjp", vjp(&[(&y, &t)], &x).unwrap_err()),
        ("jvp", jvp(&[&y], &[(&x, &t)]).unwrap_err()),
        ("hvp", hvp(&y.sum(..), &x, &t).unwrap_err()),
        ("jacobian", jacobian(&y, &x).unwrap_err()),
        ("of what is made of it", grad(&(y.exp() + &x).sum(..), &x).unwrap_err()),
        ("in a batch", grad(&batch([&x], |[x]| wrong(&x)).sum(..), &x).unwrap_err()),
        ("in a checkpoint", grad(&checkpoint([&x], |[x]| wrong(&x.exp())).sum(..), &x).unwrap_err()),
        ("a rule behind a rule", grad(&wrong(&first).sum(..), &x).unwrap_err()),
    ];
    for (name, error) in errors {
        assert_eq!(error.code(), Code::RuleWrong, "{name}: {error}");
    }
    // A rule inside of a right rule counts where its own gradient is used.
    let outer = custom_gradient("outer", [&x], |[x]| (wrong(&x), move |u: Tensor| u * x * 2.0));
    assert!(grad(&outer.sum(..), &x).is_ok());
    let outer = custom_gradient("outer", [&x], |[x]| {
        let y = wrong(&x);
        let slope = grad(&y.sum(..), &x).and_then(|dx| dx.or_error()).unwrap_or_else(Tensor::invalid);
        (y, move |u: Tensor| u * slope)
    });
    assert_eq!(outer.error().unwrap().code(), Code::RuleWrong);
    // A gradient that is used at second order only.
    let twice = custom_gradient("cube", [&x], |[x]| (&x * &x * &x, move |u: Tensor| u * wrong(&x) * 3.0));
    let first = grad(&twice.sum(..), &x).unwrap().or_error().unwrap();
    assert_eq!(grad(&first.sum(..), &x).unwrap_err().code(), Code::RuleWrong);
}

#[test]
fn each_mode_is_checked_where_it_is_used() {
    let (x, t) = (input([3]), Tensor::ones([3]));
    let square = |pullback, pushforward| Square { pullback, pushforward }.apply(&[&x]).remove(0);
    let reverse = |y: &Tensor| grad(&y.sum(..), &x).err().map(|error| error.code());
    let forward = |y: &Tensor| jvp(&[y], &[(&x, &t)]).err().map(|error| error.code());
    let right = square(2.0, 2.0);
    assert_eq!((reverse(&right), forward(&right)), (None, None));
    let half = square(2.0, 2.5);
    assert_eq!((reverse(&half), forward(&half)), (None, Some(Code::RuleForward)));
    let half = square(2.5, 2.0);
    assert_eq!((reverse(&half), forward(&half)), (Some(Code::RuleWrong), Some(Code::RuleWrong)));
    // Reverse mode of a forward mode is its transpose.
    let given = custom_jvp("square", [&x], |[x]| (&x * &x, move |[t]: [Tensor; 1]| t * x * 2.5));
    assert_eq!((reverse(&given), forward(&given)), (Some(Code::RuleWrong), Some(Code::RuleWrong)));
}

#[test]
fn every_output_and_every_input_is_looked_at() {
    let (a, b) = (input([3]), Tensor::input("b", [3], DType::F32));
    let both = |f: [f64; 4]| {
        let (y, z) = custom_gradient("both", [&a, &b], |[a, b]| {
            let pullback = {
                let (a, b) = (a.clone(), b.clone());
                move |(u, v): (Tensor, Tensor)| {
                    [&u * &b * f[0] + &v * f[1], u * a * f[2] - v * b * 2.0 * f[3]]
                }
            };
            ((&a * &b, a - &b * &b), pullback)
        });
        grad(&(y + z).sum(..), [&a, &b]).err()
    };
    assert!(both([1.0; 4]).is_none());
    for (wrong, place) in
        ["output 0, input 0 `x`", "output 1, input 0 `x`", "output 0, input 1 `b`", "output 1, input 1 `b`"]
            .into_iter()
            .enumerate()
    {
        let mut factors = [1.0; 4];
        factors[wrong] = 1.25;
        let error = both(factors).unwrap().to_string();
        assert!(error.contains(place) && error.contains("E_RULE_WRONG"), "{place}: {error}");
    }
    // What ignores an input, and what is not linear.
    let y = custom_gradient("product", [&a, &b], |[a, b]| {
        (a * &b, move |u: Tensor| [InputGradient::Value(u * b), InputGradient::Zero])
    });
    assert_eq!(grad(&y.sum(..), &b).unwrap_err().code(), Code::RuleWrong);
    // What is said of an input of which nobody asks is not used.
    assert!(grad(&y.sum(..), &a).is_ok());
    assert!(jvp(&[&y], &[(&a, &Tensor::ones([3]))]).is_ok());
    let y = custom_gradient("bent", [&a], |[a]| (&a * &a, move |u: Tensor| a * 2.0 * &u * &u));
    assert_eq!(grad(&y.sum(..), &a).unwrap_err().code(), Code::RuleLinear);
}

#[test]
fn what_is_declared_passes_and_checks_report_as_ever() {
    let x = Tensor::new([0.5, -2.0]);
    let surrogate =
        CustomGradient::surrogate("half", "a test").apply([&x], |[x]| (&x * &x, move |u: Tensor| u * x));
    assert!(grad(&surrogate.sum(..), &x).is_ok());
    let cut = CustomGradient::exact("cut").passing_nothing().apply([&x], |[x]| (&x * &x, |_: Tensor| None));
    assert!(grad(&cut.sum(..), &x).is_ok());

    let report: Report = gradcheck(|[x]| wrong(&x), [&x], &Reference::new()).unwrap();
    assert_eq!((report.findings.len(), report.findings[0].code()), (1, Code::RuleWrong));
    assert!(!report.findings[0].to_string().contains("first use"));
    let slope = |x: &[Tensor]| {
        grad(&wrong(&x[0]).sum(..), &x[0])
            .and_then(|dx| dx.or_error())
            .unwrap_or_else(Tensor::invalid)
            .sum(..)
    };
    let at = [Array::from([0.5, -2.0])];
    assert!(finite_differences(&slope, &at, &Reference::new()).is_ok());
    assert!(transposition(&|x| wrong(&x[0]), &at, &at, &at[0], &Reference::new()).unwrap().agrees());
    // A scope that ends in a panic ends, too.
    assert!(std::panic::catch_unwind(|| unchecked(|| panic!("planted"))).is_err());
    assert!(grad(&wrong(&x).sum(..), &x).is_err());
}
