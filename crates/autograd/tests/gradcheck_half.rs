//! `gradcheck` of functions of half precision: the same graph in F32, with its rules.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{
    CustomGradient, GradCheck, InputGradient, Rule, Upstream, clip_gradient, custom_gradient, custom_jvp,
    surrogate_gradient,
};
use cotangent_tensor::{Array, Code, DType, Error, Evaluate, Reference, Tensor};
use support::assert_digits;
use support::check::{Single, check, finds, number, passes, rule};

const HALF: DType = DType::F16;

fn half(values: &[f64]) -> Tensor {
    Tensor::new(values).cast(HALF)
}

#[test]
fn functions_of_half_precision_are_checked_in_single() {
    let x = half(&[0.5, -1.25]).named("x");
    let function = |[x]: [Tensor; 1]| {
        assert_eq!(x.dtype(), HALF);
        (&x * Tensor::new([0.1, 0.2]).cast(HALF)).exp() * x.cast(DType::F32).sin().cast(HALF)
    };
    for order in 1..=3 {
        let report = GradCheck::new().order(order).run(function, [&x], &Reference::new()).unwrap();
        passes(&report);
        assert!(report.widened);
        assert_eq!((report.compared.dual, report.compared.differences), (2 * order, 2 * order), "{report}");
        assert!(report.to_string().contains("checked in F32: half precision is too coarse"), "{report}");
    }
    // Halves on the way, and halves that a run gives.
    let on_the_way = |[x]: [Tensor; 1]| x.cast(HALF).exp().named("y").cast(DType::F32) * x;
    assert!(check(on_the_way, [Tensor::new([0.3, -1.1])]).widened);
    // Under another name it stays the same value.
    let renamed = |[x]: [Tensor; 1]| (x.named("left") * x.named("right")).exp() * x;
    let report = check(renamed, [&x]);
    passes(&report);
    assert_eq!(report.compared.dual, 2);
    let scale = Tensor::input("scale", [], HALF);
    let bound = Reference::new().bind(&scale, 3.0).unwrap();
    let report = GradCheck::new().run(|[x]| (x * &scale).exp(), [&x], &bound).unwrap();
    passes(&report);
    assert!(report.widened && !check(|[x]| x.exp(), [Tensor::new([0.3])]).widened);
}

/// `x²` of half precision, with a gradient that is given in `given` and too large by a factor.
fn square(x: &Tensor, given: Option<DType>, factor: f64) -> Tensor {
    let rule = CustomGradient::exact("square");
    let rule = if let Some(dtype) = given { rule.gradients_in(dtype) } else { rule };
    let dtype = given.unwrap_or(x.dtype());
    rule.apply([x], |[x]| {
        let slope = (&x * 2.0).cast(dtype);
        (&x * &x, move |g: Tensor| (g * slope * factor).cast(dtype))
    })
}

#[test]
fn rules_of_half_precision_are_checked_in_single() {
    let x = half(&[0.5, -1.25]);
    for (given, dtype) in [(None, HALF), (Some(DType::F32), HALF), (Some(HALF), DType::F32)] {
        let x = x.cast(dtype);
        for order in 1..=3 {
            let function = |[x]: [Tensor; 1]| square(&x, given, 1.0).exp() * square(&x, given, 1.0);
            passes(&GradCheck::new().order(order).run(function, [&x], &Reference::new()).unwrap());
        }
        // Half precision would not see that much.
        let error = finds(check(|[x]| square(&x, given, 1.0001), [&x]), Code::RuleWrong);
        assert_eq!(error.operation(), "custom gradient \"square\"");
        assert_digits(&[number(&error, "got") / number(&error, "expected")], &[1.0001]);
    }
    // Inside of rules, by forward mode, and declared.
    let nested = |factor: f64| {
        move |[x]: [Tensor; 1]| {
            custom_gradient("outer", [&x], |[x]| {
                (x.exp(), move |g: Tensor| {
                    let slope =
                        rule("inner", Tensor::exp, move |x, g| (x.exp() * g * factor).cast(x.dtype()))([x]);
                    (g * slope).cast(HALF)
                })
            })
        }
    };
    let second = |factor| GradCheck::new().order(2).run(nested(factor), [&x], &Reference::new()).unwrap();
    passes(&second(1.0));
    assert_eq!(finds(second(1.0001), Code::RuleWrong).operation(), "custom gradient \"inner\"");
    let by_jvp = |factor: f64| {
        move |[x]: [Tensor; 1]| {
            custom_jvp("sine", [&x], |[x]| (x.sin(), move |[t]: [Tensor; 1]| x.cos() * t * factor))
        }
    };
    passes(&check(by_jvp(1.0), [&x]));
    finds(check(by_jvp(1.0001), [&x]), Code::RuleWrong);
    let soft = |[x]: [Tensor; 1]| {
        let y = surrogate_gradient("soft", "a test", [&x], |[x]| {
            (x.sign(), move |g: Tensor| (g * x.cos()).cast(HALF))
        });
        clip_gradient(&(y * x), 100.0)
    };
    let report = GradCheck::new().order(2).run(soft, [&x], &Reference::new()).unwrap();
    passes(&report);
    assert_digits(&[report.surrogates[0].gradient], &[0.5f64.cos()]);
}

/// `sin` with both modes, of which one is off by a factor, and its plain form, to which something is added.
struct Sine {
    forward: f64,
    offset: f64,
}

impl Rule for Sine {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("sine").gradients_in(DType::F32)
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        (vec![inputs[0].sin()], inputs[0].cast(DType::F32).cos())
    }
    fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        Some(vec![inputs[0].sin() + self.offset])
    }
    fn vjp(&self, cos: &Tensor, upstream: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
        Some(vec![(&upstream[0] * cos).into()])
    }
    fn jvp(&self, cos: &Tensor, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        Some(vec![tangents[0].as_ref().map(|tangent| tangent * cos * self.forward)])
    }
}

#[test]
fn rules_as_objects_and_calls_of_half_precision() {
    let x = half(&[0.5, -1.25]);
    let sine = |forward, offset| move |[x]: [Tensor; 1]| Sine { forward, offset }.apply(&[&x]);
    passes(&check(sine(1.0, 0.0), [&x]));
    finds(check(sine(1.0001, 0.0), [&x]), Code::RuleForward);
    finds(check(sine(1.0, 1e-5), [&x]), Code::RulePrimal);
    // Types are those of the function as it is.
    let beside = |plain: &dyn Fn([Tensor; 1]) -> Tensor| {
        GradCheck::new().run_with_plain(|[x]| x.sin(), plain, [&x], &Reference::new()).unwrap()
    };
    passes(&beside(&|[x]| x.sin()));
    let error = finds(beside(&|[x]| x.sin().cast(HALF)), Code::RulePrimal);
    assert!(error.message().contains("f16") && error.message().contains("f32"), "{error}");
    finds(beside(&|[x]| x.sin() + 1e-5), Code::RulePrimal);
    // Rounding to half precision hides nothing.
    let rounded = |offset: f64| move |[x]: [Tensor; 1]| (x.sin() + offset).cast(HALF);
    let run = |offset| {
        GradCheck::new().run_with_plain(rounded(0.0), rounded(offset), [&x], &Reference::new()).unwrap()
    };
    passes(&run(0.0));
    finds(run(1e-9), Code::RulePrimal);
    // Reading is found although an input moves in steps of its type.
    let read = |[x]: [Tensor; 1]| {
        let values = Reference::new().evaluate(&[&x]).unwrap().remove(0);
        x * Tensor::new(values)
    };
    finds(check(read, [&x]), Code::Unconnected);
}

/// [`Single`], which gets gradients of half precision only.
struct Half(f64);

impl Evaluate for Half {
    fn name(&self) -> String {
        "half".to_string()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        assert!(tensors.iter().all(|tensor| tensor.dtype() == HALF));
        let arrays = Single(self.0).evaluate(tensors)?;
        Ok(arrays.into_iter().map(|array| array.with_dtype(HALF)).collect())
    }
}

#[test]
fn a_device_gets_half_precision_as_it_is() {
    let x = half(&[0.5, -1.25]);
    let run = |device: &Half| {
        let check = GradCheck::new().device(device);
        check.run(|[x]| square(&x, Some(DType::F32), 1.0), [&x], &Reference::new()).unwrap()
    };
    let report = run(&Half(1.0));
    passes(&report);
    assert_eq!(report.compared.device, 2);
    finds(run(&Half(1.01)), Code::CrossCheck);
}
