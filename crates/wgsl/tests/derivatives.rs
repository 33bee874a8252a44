//! The text of derivatives: what it looks like, and that it computes what the graph computes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_autograd::{check::unchecked, grad};
use cotangent_tensor::{Code, Evaluate, Reference, Tensor};
use cotangent_wgsl::Module;

fn text_of(text: &str, name: &str) -> String {
    let function = Module::parse("test.wgsl", text).unwrap().function(name).unwrap_or_else(|e| panic!("{e}"));
    function.derivative().unwrap_or_else(|e| panic!("{e}")).to_string()
}

#[test]
fn derivatives_read_like_code() {
    let hinge = "fn hinge(p: f32, y: f32, m: f32) -> f32 { return max(0.0, m - y * p); }";
    assert_eq!(
        text_of(hinge, "hinge"),
        "struct hinge_gradient { p: f32, y: f32, m: f32 }
fn hinge_vjp(p: f32, y: f32, m: f32, upstream: f32) -> hinge_gradient {
  let t1 = m - (y * p);
  let t2 = t1 >= 0.0;
  let t3 = upstream * select(1.0, 0.5, (0.0 == t1));
  let t4 = -t3;
  return hinge_gradient(select(0.0, (t4 * y), t2), select(0.0, (t4 * p), t2), select(0.0, t3, t2));
}
"
    );
    let logistic = "fn loss(z: f32, y: f32) -> f32 { return softplus(z) - y * z; }";
    let derivative = text_of(logistic, "loss");
    assert!(derivative.contains("sigmoid(z)"), "{derivative}");
}

/// The text, beside the function it belongs to, against the graph.
#[test]
fn the_text_computes_what_the_graph_computes() {
    let cases: &[(&str, &[&[f64]])] = &[
        ("fn f(x: f32, y: f32) -> f32 { return x * exp(-y * y) + log1p(x * x) % 0.75; }", &[&[0.5], &[-1.25]]),
        ("fn f(v: vec3<f32>, t: f32) -> f32 { let d = length(v) - t; return d * d + dot(v, v.yzx); }", &[&[1.0, 2.0, 2.0], &[2.5]]),
        ("fn f(z: array<f32, 4>, k: u32, b: bool) -> f32 { var s = select(1.0, 2.0, b); for (var i = 0; i < 4; i++) { s += exp(z[i] - z[0]); } return log(s) - z[k]; }", &[&[0.5, -1.0, 2.0, 0.25]]),
        ("fn f(m: mat2x2<f32>, v: vec2<f32>) -> f32 { let w = m * v; if w.x > 0.0 { return w.x * w.y; } return sin(w.y); }", &[&[0.5, 1.5, -1.0, 2.0], &[0.75, -0.5]]),
        ("fn s(x: f32) -> f32 { return sign(x); } fn s_vjp(x: f32, g: f32) -> f32 { return g * (1.0 - tanh(x) * tanh(x)); }
          fn f(x: f32) -> f32 { let d = s(x) - 0.25; return d * d; }", &[&[0.5]]),
        ("fn f(x: f32) -> f32 { if x > 0.0 { return sqrt(x) + erf(x) * lgamma(x + 1.0); } return 0.0; }", &[&[0.5]]),
        ("fn f(x: f32, upstream: f32) -> f32 { return atan2(x, upstream) * inverseSqrt(x) / upstream; }", &[&[0.5], &[2.0]]),
    ];
    for (text, at) in cases {
        let function =
            Module::parse("test.wgsl", text).unwrap().function("f").unwrap_or_else(|e| panic!("{e}"));
        let derivative = function.derivative().unwrap_or_else(|e| panic!("{text}: {e}"));
        let beside = format!("{text}\n{derivative}");
        let pullback = Module::parse("beside.wgsl", &beside).unwrap_or_else(|e| panic!("{beside}\n{e}"));
        let pullback = pullback.function("f_vjp").unwrap_or_else(|e| panic!("{beside}\n{e}"));
        let mut inputs: Vec<Tensor> = at
            .iter()
            .map(|x| if x.len() == 1 { Tensor::full([], x[0]) } else { Tensor::new(x.to_vec()) })
            .collect();
        if text.contains("u32") {
            inputs.extend([Tensor::new(2u32), Tensor::new(true)]);
        }
        let given: Vec<&Tensor> = inputs.iter().collect();
        let value = function.rows(&given);
        let expected: Vec<Tensor> = inputs
            .iter()
            .filter(|input| input.dtype().is_float())
            .map(|input| unchecked(|| grad(&value, input)).unwrap().or_zero())
            .collect();
        let upstream = Tensor::full([], 1.0);
        let got = pullback.fields(&given.iter().copied().chain([&upstream]).collect::<Vec<_>>());
        assert_eq!(got.len(), expected.len(), "{derivative}");
        for (got, expected) in got.iter().zip(&expected) {
            let values = Reference::new().evaluate(&[got, expected]).unwrap();
            for (a, b) in values[0].to_f64().iter().zip(values[1].to_f64()) {
                // constants of the text are rounded to f32
                assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-3), "{text}\n{derivative}\n{a} {b}");
            }
        }
    }
}

#[test]
fn names_of_the_text_are_not_taken() {
    let names = "fn f(t1: f32, t2: f32) -> f32 { return sin(t1 * t2) * exp(-(-t1)) * tanh(t1 - t2); }";
    let beside = format!("{names}\n{}", text_of(names, "f"));
    assert!(Module::parse("beside.wgsl", &beside).unwrap().function("f_vjp").is_ok(), "{beside}");
    let bits =
        "fn f(x: f32, k: i32, b: bool, c: bool) -> f32 { if b != c { return x * f32(~k); } return x; }";
    let beside = format!("{bits}\n{}", text_of(bits, "f"));
    assert!(Module::parse("beside.wgsl", &beside).unwrap().function("f_vjp").is_ok(), "{beside}");
    for text in [
        "fn sigmoid(x: f32) -> f32 { return x / (1.0 + abs(x)); } fn f(x: f32) -> f32 { return softplus(x) + sigmoid(x); }",
        "const exp2 = 2.0; fn f(x: f32) -> f32 { return pow(exp2, x) + sin(x); } struct cos { x: f32 }",
        "fn f(select: f32, y: f32) -> f32 { return max(select, y); }",
    ] {
        let function = Module::parse("test.wgsl", text).unwrap().function("f").unwrap();
        let error = function.derivative().unwrap_err();
        assert!(error.message().contains("a name of the text itself"), "{error}");
    }
    let none =
        Module::parse("test.wgsl", "fn f(k: i32) -> f32 { return f32(k); }").unwrap().function("f").unwrap();
    assert_eq!(none.derivative().unwrap_err().code(), Code::WgslResult);
}

#[test]
fn structures_with_integers_have_gradients_of_their_floats() {
    let mixed = "struct S { x: f32, k: i32 } fn f(s: S, s_x: f32) -> f32 { return s.x * f32(s.k) + s_x; }";
    assert_eq!(
        text_of(mixed, "f"),
        "struct f_gradient { s_x: f32, s_x_: f32 }
fn f_vjp(s: S, s_x: f32, upstream: f32) -> f_gradient {
  return f_gradient((upstream * f32(s.k)), upstream);
}
"
    );
    let beside = format!("{mixed}\n{}", text_of(mixed, "f"));
    assert!(Module::parse("beside.wgsl", &beside).unwrap().function("f").is_ok(), "{beside}");
    // an array of them, and one without floats
    let array = "struct S { v: vec2<f32>, k: i32 } fn f(s: array<S, 2>, only: vec2<i32>) -> f32 { return s[0].v.x + 2.0 * s[1].v.y; }";
    assert_eq!(
        text_of(array, "f").lines().next(),
        Some("struct f_gradient { s_0_v: vec2<f32>, s_1_v: vec2<f32> }")
    );
}
