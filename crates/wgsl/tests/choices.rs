//! What is chosen where a function is used: parameters, ties, constants.
#![allow(clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "tests")]

use cotangent_autograd::{State, grad, jvp};
use cotangent_tensor::{Code, Evaluate, Reference, Tensor};
use cotangent_wgsl::{Function, Module, Tie};

fn function(text: &str) -> Function {
    Module::parse("user.wgsl", text)
        .and_then(|module| module.function("f"))
        .unwrap_or_else(|error| panic!("{error}"))
}
fn number(tensor: &Tensor) -> f64 {
    Reference::new().evaluate(&[tensor]).unwrap_or_else(|error| panic!("{error}"))[0].scalar().unwrap()
}
/// The message without the line of the Rust program.
fn without_place(error: &cotangent_tensor::Error) -> String {
    let text = error.to_string();
    text.lines().filter(|line| !line.starts_with("  at ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn gradients_flow_to_the_parameters_that_are_named() {
    let text = "fn f(p: f32, y: f32, k: i32) -> f32 { return p * y * f32(k); }";
    let f = function(text).with_respect_to(["p"]).unwrap();
    let (p, y, k) = (Tensor::new(2.0), Tensor::new(3.0), Tensor::new(5));
    let value = f.call(&[&p, &y, &k]);
    let [dp, dy] = grad(&value, [&p, &y]).unwrap();
    assert_eq!(number(&dp.or_error().unwrap()), 15.0);
    assert!(matches!(dy.state(), State::Stopped { .. }), "{}", dy.explain());
    assert_eq!(
        f.derivative().unwrap().wgsl(),
        "fn f_vjp(p: f32, y: f32, k: i32, upstream: f32) -> f32 {\n  return ((upstream * f32(k)) * y);\n}\n"
    );
    let error = function(text).with_respect_to(["yy"]).unwrap_err();
    assert_eq!(error.code(), Code::WgslNoParameter);
    assert_eq!(
        without_place(&error),
        "error[AD002]: user.wgsl: `f` has no parameter `yy`; there are: p, y, k
  ┌─ user.wgsl:1:1
  │
1 │ fn f(p: f32, y: f32, k: i32) -> f32 { return p * y * f32(k); }
  │ ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ this function
  help: name parameters as the text declares them
"
    );
    let error = function(text).with_respect_to(["k"]).unwrap_err();
    assert_eq!(error.code(), Code::WgslNoFloat);
    assert_eq!(
        without_place(&error),
        "error[AD003]: user.wgsl: parameter `k` is i32, which has no derivative
  ┌─ user.wgsl:1:22
  │
1 │ fn f(p: f32, y: f32, k: i32) -> f32 { return p * y * f32(k); }
  │                      ^ declared here
  help: integers and truth values have no derivative: leave it out
"
    );
}

#[test]
fn ties_go_to_both_or_to_the_first() {
    // slopes by x at x = 0: half each, and all to the first as in TensorFlow
    let cases = [
        ("fn f(x: f32) -> f32 { return max(x, 0.0); }", 0.5, 1.0),
        ("fn f(x: f32) -> f32 { return max(0.0, x); }", 0.5, 0.0),
        ("fn f(x: f32) -> f32 { return min(x, 0.0); }", 0.5, 1.0),
        ("fn f(x: f32) -> f32 { return min(0.0, x); }", 0.5, 0.0),
        ("fn g(x: f32) -> f32 { return max(x, 0.0); } fn f(x: f32) -> f32 { return 3.0 * g(x); }", 1.5, 3.0),
        // relu and abs have no tie
        ("fn f(x: f32) -> f32 { return relu(x) + abs(x); }", 0.0, 0.0),
    ];
    let x = Tensor::full([], 0.0);
    for (text, half, first) in cases {
        let by_default = function(text).call(&[&x]);
        assert_eq!(number(&grad(&by_default, &x).unwrap().or_error().unwrap()), half, "{text}");
        let chosen = function(text).tie(Tie::First).call(&[&x]);
        assert_eq!(number(&grad(&chosen, &x).unwrap().or_error().unwrap()), first, "{text}");
        let forward = jvp(&[&chosen], &[(&x, &Tensor::full([], 1.0))]).unwrap();
        assert_eq!(number(&forward[0]), first, "{text}, forward");
    }
    // away from ties, and for NaN, nothing changes
    let text = "fn f(x: f32, y: f32) -> f32 { return max(x, y) - 2.0 * min(x, y); }";
    let nan = f64::NAN;
    for (x, y) in
        [(1.0, 2.0), (2.0, 1.0), (-1.0, -1.0), (nan, 1.0), (1.0, nan), (nan, nan), (f64::INFINITY, 1.0)]
    {
        let (x, y) = (Tensor::full([], x), Tensor::full([], y));
        let (half, first) = (function(text).call(&[&x, &y]), function(text).tie(Tie::First).call(&[&x, &y]));
        let (half, first) = (number(&half), number(&first));
        assert!(half == first || half.is_nan() && first.is_nan(), "{half} {first}");
    }
    // whole numbers have no gradient
    let text = "fn f(x: f32, k: i32) -> f32 { return x * f32(max(k, 3)); }";
    let value = function(text).tie(Tie::First).call(&[&Tensor::new(2.0), &Tensor::new(7)]);
    assert_eq!(number(&value), 14.0);
}

#[test]
fn forward_mode_refuses_rules_that_are_not_linear() {
    let text = "fn g(x: f32) -> f32 { return x * x; }
fn g_vjp(x: f32, upstream: f32) -> f32 {
  return 2.0 * x * clamp(upstream, -1.0, 1.0);
}
fn f(x: f32) -> f32 { return 100.0 * g(x); }";
    let f = function(text).surrogate("g", "clipped").unwrap();
    let x = Tensor::full([], 3.0);
    let value = f.call(&[&x]);
    // reverse mode goes on, and clips
    assert_eq!(number(&grad(&value, &x).unwrap().or_error().unwrap()), 6.0);
    let error = jvp(&[&value], &[(&x, &Tensor::full([], 1.0))]).unwrap_err();
    assert_eq!(error.code(), Code::WgslLinear);
    assert_eq!(
        without_place(&error),
        "error[AD031]: user.wgsl: the rule `g_vjp` is not linear in its cotangent, and forward mode needs it to be
  ┌─ user.wgsl:2:1
  │  
2 │ ╭ fn g_vjp(x: f32, upstream: f32) -> f32 {
3 │ │   return 2.0 * x * clamp(upstream, -1.0, 1.0);
4 │ │ }
  │ ╰─^ this rule
  help: use reverse mode, or make the rule linear in the cotangent: clip where the gradient is used
"
    );
    // a check counts it as a function without forward mode, and goes on
    let report = f.gradcheck().points(5).run().unwrap();
    assert!(
        report.is_ok() && report.compared.without_forward > 0 && report.compared.forward == 0,
        "{report}"
    );
    assert_eq!(report.surrogates.len(), 1, "{report}");
    let quadratic = text.replace("clamp(upstream, -1.0, 1.0)", "upstream * abs(upstream)");
    let value = function(&quadratic).surrogate("g", "square").unwrap().call(&[&x]);
    assert_eq!(jvp(&[&value], &[(&x, &Tensor::full([], 1.0))]).unwrap_err().code(), Code::WgslLinear);
    let linear = text.replace("clamp(upstream, -1.0, 1.0)", "upstream");
    let value = function(&linear).call(&[&x]);
    assert_eq!(number(&jvp(&[&value], &[(&x, &Tensor::full([], 1.0))]).unwrap()[0]), 600.0);
}

#[test]
fn whole_numbers_made_of_floats_are_steps() {
    let text = "fn f(z: array<f32, 3>, label: f32) -> f32 { return z[i32(label)] * z[0]; }";
    let f = function(text);
    let (z, label) = (Tensor::new([2.0, 3.0, 5.0]), Tensor::new(2.0));
    let value = f.rows(&[&z, &label]);
    let [dz, dlabel] = grad(&value, [&z, &label]).unwrap();
    assert_eq!(Reference::new().evaluate(&[&dz.or_error().unwrap()]).unwrap()[0].to_f64(), [5.0, 0.0, 2.0]);
    // an error where it is asked for, and a step where it is printed
    assert_eq!(dlabel.or_error().unwrap_err().code(), Code::NotDifferentiable);
    assert!(f.derivative().unwrap().wgsl().contains("i32(label)"));
    assert_eq!(f.lints()[0].code, "LN1");
    let x = Tensor::new(1.5);
    let value = function("fn f(x: f32) -> f32 { return x * f32(i32(detach(x))); }").call(&[&x]);
    assert_eq!(number(&grad(&value, &x).unwrap().or_error().unwrap()), 1.0);
    let value = function("fn f(x: f32) -> f32 { return f32(i32(detach(x))); }").call(&[&x]);
    assert!(matches!(grad(&value, &x).unwrap().state(), State::Stopped { .. }));
}

#[test]
fn functions_without_derivative_say_so_when_they_are_made() {
    let text = "fn f(x: f32) -> f32 {\n  return x * trigamma(x);\n}";
    let error = Module::parse("user.wgsl", text).unwrap().function("f").unwrap_err();
    assert_eq!(error.code(), Code::WgslBuiltin);
    assert_eq!(
        without_place(&error),
        "error[AD011]: user.wgsl: `trigamma` has no derivative here
  ┌─ user.wgsl:2:14
  │
2 │   return x * trigamma(x);
  │              ^^^^^^^^^^^ needed for a gradient
  help: `detach` its argument or its result, or give the function that calls it a rule `…_vjp`
"
    );
    for fine in ["x * trigamma(detach(x))", "x * detach(trigamma(x))", "x + sign(trigamma(x))", "digamma(x)"]
    {
        let _ = function(&format!("fn f(x: f32) -> f32 {{ return {fine}; }}"));
    }
    let _ = function(
        "fn t(x: f32) -> f32 { return trigamma(x); } fn t_vjp(x: f32, upstream: f32) -> f32 { return upstream * x; } fn f(x: f32) -> f32 { return t(x); }",
    );
}

#[test]
fn rules_are_wrong_by_the_names_of_the_text() {
    let text = "fn g(x: f32, v: vec2<f32>) -> f32 { return x * v.y; }
struct Pair { x: f32, v: vec2<f32> }
fn g_vjp(x: f32, v: vec2<f32>, upstream: f32) -> Pair { return Pair(upstream * v.y, vec2<f32>(0.0, 3.0 * upstream * x)); }
fn f(x: f32, v: vec2<f32>) -> f32 { return g(x + 1.0, v * 2.0); }";
    let f = function(text);
    let (x, v) = (Tensor::new(2.0), Tensor::new([3.0, 4.0]));
    let report = cotangent_autograd::gradcheck(
        |all: Vec<Tensor>| f.rows(&[&all[0], &all[1]]),
        vec![&x, &v],
        &Reference::new(),
    )
    .unwrap();
    let text = report.to_string();
    assert!(text.contains("`v.y`") && !text.contains("`input"), "{text}");
}
