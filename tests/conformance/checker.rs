//! E. The checker must catch: each row is planted, and is found under its own name.
//!
//! The witnesses compute in double precision on the reference; a device is compared with it where nothing is wrong.

use std::cell::Cell;

use crate::common::check::Report;
use crate::common::{
    Array, Code, CustomGradient, DType, Detail, Error, Evaluator, GradCheck, InputGradient, Outputs,
    Reference, Rule, Tensor, Upstream, custom_gradient,
};
use crate::harness::{Case, Findings};
use crate::judge::numbers;

pub const CASES: &[Case] = &[
    Case { label: "t61_wrong_entry", origin: "PyTorch test_gradcheck_jacobian_mismatch", program: t61 },
    Case {
        label: "t62_ignores_its_cotangent",
        origin: "PyTorch test_gradcheck_backward_mul_by_grad_output",
        program: t62,
    },
    Case { label: "t63_nondeterministic", origin: "PyTorch test_gradcheck_nondeterministic", program: t63 },
    Case {
        label: "t65_unstable",
        origin: "PyTorch test_gradcheck_output_shape_or_dtype_depend_on_values",
        program: t65,
    },
    Case {
        label: "t67_nothing_to_check",
        origin: "PyTorch test_gradcheck_validates_inputs, test_gradcheck_custom_error",
        program: t67,
    },
    Case {
        label: "t68_forward_mode_and_orders",
        origin: "PyTorch test_gradcheck_forward_ad, #58509",
        program: t68,
    },
    Case { label: "t69_surrogate", origin: "of this project; σ(3)·σ(−3)", program: t69 },
];

/// A check that also looks at the device.
fn check(e: &Evaluator) -> GradCheck<'_> {
    if e.is_reference() { GradCheck::new() } else { GradCheck::new().device(e) }
}

fn run<O: Outputs>(
    check: &GradCheck,
    function: impl Fn([Tensor; 1]) -> O,
    at: &[f64],
) -> Result<Report, Error> {
    check.run(function, [Tensor::new(at)], &Reference::new())
}

/// A rule of one input.
fn rule(
    name: &'static str,
    forward: impl Fn(&Tensor) -> Tensor,
    backward: impl Fn(&Tensor, &Tensor) -> Tensor,
) -> impl Fn([Tensor; 1]) -> Tensor {
    move |[x]| {
        let backward = &backward;
        custom_gradient(name, [&x], |[x]| (forward(&x), move |g: Tensor| backward(&x, &g)))
    }
}

/// One finding, with this code and these parts of its text.
fn finds(
    f: &mut Findings,
    name: &str,
    report: Report,
    code: Code,
    parts: &'static [&'static str],
) -> Option<Error> {
    f.text(&format!("{name}: findings"), report.findings.len(), 1);
    let first = report.findings.first().cloned();
    f.error(name, report.into_result(), code, parts);
    first
}

/// Nothing found although something was compared, on the device too.
fn passes(e: &Evaluator, f: &mut Findings, name: &str, report: &Report) {
    let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    f.text(name, found.join("\n"), "");
    f.text(&format!("{name}: compared"), report.compared.total() > 0, true);
    f.text(&format!("{name}: compared on the device"), report.compared.device > 0, !e.is_reference());
}

/// The detail of this name, as a number.
fn detail(error: Option<&Error>, name: &str) -> f64 {
    let found = error.and_then(|error| error.details().iter().find(|(known, _)| *known == name));
    match found {
        Some((_, Detail::Number(number))) => *number,
        Some((_, Detail::Integer(number))) => *number as f64,
        _ => f64::NAN,
    }
}

fn t61(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let square = |off: f64| rule("square", |x| x * x, move |x, g| (2.0 * x + off) * g);
    let report = run(&check(e), square(0.01), &[1.0, 2.0])?;
    let parts = &["\"square\"", "output 0, input 0 `input0`, element [", "checker.rs", "surrogate"];
    let error = finds(f, "off by 0.01", report, Code::RuleWrong, parts);
    let place = ["output", "input", "element", "got", "expected"].map(|name| detail(error.as_ref(), name));
    // Both elements are off by as much.
    let expected = if place[2] == 0.0 { "0 0 0 2.01 2" } else { "0 0 1 4.01 4" };
    f.known("output, input, element, got, expected", &[Array::from(place)], numbers(expected));
    passes(e, f, "right", &run(&check(e), square(0.0), &[1.0, 2.0])?);
    Ok(())
}

fn t62(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    // Hidden from what is seen when the rule is applied.
    let ignores = |x: &Tensor, g: &Tensor| 2.0 * x + 0.0 * g;
    let report = run(&check(e), rule("square", |x| x * x, ignores), &[1.0, 2.0])?;
    finds(f, "exact", report, Code::RuleLinear, &["\"square\"", "ignores its cotangent"]);
    let declared = |[x]: [Tensor; 1]| {
        let rule = CustomGradient::surrogate("square", "ignores its cotangent");
        rule.apply([&x], |[x]| (&x * &x, move |g: Tensor| ignores(&x, &g)))
    };
    passes(e, f, "declared", &run(&check(e), declared, &[1.0, 2.0])?);
    Ok(())
}

fn t63(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let calls = Cell::new(0.0);
    let drifting = |[x]: [Tensor; 1]| {
        calls.set(calls.get() + 1e-6);
        let factor = 2.0 + calls.get();
        custom_gradient("square", [&x], |[x]| (&x * &x, move |g: Tensor| x * factor * g))
    };
    let report = run(&check(e), drifting, &[1.0, 2.0])?;
    finds(
        f,
        "drifting",
        report,
        Code::RuleNondeterministic,
        &["\"square\"", "gradient of output 0 by input 0"],
    );
    calls.set(0.0);
    passes(e, f, "allowed", &run(&check(e).nondeterminism(1e-5), drifting, &[1.0, 2.0])?);
    Ok(())
}

fn t65(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let calls = Cell::new(0usize);
    let alternating = |other: fn(&Tensor) -> Tensor| {
        let calls = &calls;
        move |[x]: [Tensor; 1]| {
            calls.set(calls.get() + 1);
            if calls.get().is_multiple_of(2) { other(&x) } else { x.exp() }
        }
    };
    let report = run(&check(e), alternating(|x| x.exp().sum(..)), &[1.0, 2.0])?;
    finds(f, "shape", report, Code::RuleUnstable, &["output 0 is f32", "[2]", "[]"]);
    let report = run(&check(e), alternating(|x| x.exp().cast(DType::F16)), &[1.0, 2.0])?;
    finds(f, "type", report, Code::RuleUnstable, &["output 0 is f", "f16"]);
    passes(e, f, "neither", &run(&check(e), alternating(Tensor::exp), &[1.0, 2.0])?);
    Ok(())
}

fn t67(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let integers = check(e).run(|[x]| x.cast(DType::F32), [Tensor::new([1, 2])], &Reference::new());
    f.error("integers only", integers, Code::NotDifferentiable, &["none of 1 inputs needs a gradient"]);
    let fixed = run(&check(e).fixed(0), |[x]| x.exp(), &[1.0, 2.0]);
    f.error("nothing moves", fixed, Code::NotDifferentiable, &["none of 1 inputs needs a gradient"]);
    let mine = || Error::new(Code::Family, "mine", "an error of the user's");
    let through = run(&check(e), |_| Tensor::invalid(mine()), &[1.0, 2.0]);
    f.text("the user's error", through.map_or_else(|error| error.to_string(), |r| r.to_string()), mine());
    let shapes = run(&check(e), |[x]| x + Tensor::zeros([3]), &[1.0, 2.0]);
    f.error("an error while building", shapes, Code::Broadcast, &["[2] and [3]", "checker.rs"]);
    Ok(())
}

/// sin, with a forward mode that is off by a factor.
struct Sine {
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
        Some(vec![(&upstream[0] * cos).into()])
    }
    fn jvp(&self, cos: &Tensor, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        Some(vec![tangents[0].as_ref().map(|tangent| tangent * cos * self.forward)])
    }
}

fn t68(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let sine = |forward| move |[x]: [Tensor; 1]| Sine { forward }.apply(&[&x]);
    let report = run(&check(e), sine(1.1), &[0.5, -1.0])?;
    let error = finds(f, "forward mode", report, Code::RuleForward, &["\"sine\""]);
    let ratio = detail(error.as_ref(), "got") / detail(error.as_ref(), "expected");
    f.known("its factor", &[Array::from(ratio)], numbers("1.1"));
    passes(e, f, "both modes", &run(&check(e), sine(1.0), &[0.5, -1.0])?);
    // T30 with an intermediate that hides how it depends on the input.
    let saved =
        |save: fn(Tensor) -> Tensor| rule("saved", |x| (2.0 * x).pow(2), move |x, g| 4.0 * save(2.0 * x) * g);
    let detached = || saved(|i| i.detach());
    passes(e, f, "order 1", &run(&check(e), detached(), &[1.5, -0.5])?);
    let report = run(&check(e).order(2), detached(), &[1.5, -0.5])?;
    let error = finds(f, "order 2", report, Code::RuleOrder, &["\"saved\""]);
    f.known("order", &[Array::from(detail(error.as_ref(), "order"))], numbers("2"));
    passes(e, f, "saved as it is", &run(&check(e).order(2), saved(|i| i), &[1.5, -0.5])?);
    Ok(())
}

fn t69(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let backward = |x: &Tensor, g: &Tensor| g * x.sigmoid() * (-x).sigmoid();
    let declared = |[x]: [Tensor; 1]| {
        CustomGradient::surrogate("soft_sign", "sign is flat")
            .apply([&x], |[x]| (x.sign(), move |g: Tensor| backward(&x, &g)))
    };
    let report = run(&check(e), declared, &[3.0])?;
    passes(e, f, "declared", &report);
    let distances: Vec<f64> = report.surrogates.iter().map(|surrogate| surrogate.distance()).collect();
    f.known("distance to the derivative", &[Array::from(distances)], numbers("0.0451766597309"));
    let stated = report.to_string().contains("surrogate `soft_sign` (sign is flat): 0.04517665");
    f.text("the report states it", stated, true);
    let report = run(&check(e), rule("soft_sign", Tensor::sign, backward), &[3.0])?;
    finds(f, "undeclared", report, Code::RuleWrong, &["\"soft_sign\"", "declare a surrogate"]);
    Ok(())
}
