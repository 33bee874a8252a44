//! Errors of the parser and the validator, in the words of the text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_tensor::Code;
use cotangent_wgsl::Module;

fn error(text: &str) -> cotangent_tensor::Error {
    Module::parse("user.wgsl", text).and_then(|module| module.function("f")).unwrap_err()
}

#[test]
fn whole_texts() {
    let cases = [
        (
            "fn f(x: f32, k: i32) -> f32 { return sqrt(k) + x; }",
            "\
error[E_WGSL]: user.wgsl: wrong type passed as argument #1 to `sqrt`
  ┌─ user.wgsl:1:14
  │
1 │ fn f(x: f32, k: i32) -> f32 { return sqrt(k) + x; }
  │              ^                       ^^^^ this call
  │              │                        
  │              argument #1 has type `i32`
  help: it takes f32 and vectors of f32; WGSL converts nothing by itself: write f32(…)",
        ),
        (
            "fn f(x: f32) -> f32 { if x { return x; } return 0.0; }",
            "\
error[E_WGSL]: user.wgsl: in `f`: a condition is no bool
  ┌─ user.wgsl:1:6
  │
1 │ fn f(x: f32) -> f32 { if x { return x; } return 0.0; }
  │      ^ a condition here
  help: compare it, as in `x > 0.0`: WGSL converts nothing by itself",
        ),
        (
            "enable f16;\nfn f(x: f16) -> f16 { return x; }",
            "\
error[AD012]: user.wgsl: f16 is not supported in functions
  ┌─ user.wgsl:2:1
  │
2 │ fn f(x: f16) -> f16 { return x; }
  │ ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ here
  help: declare it f32: tensors of F16 are converted when they are loaded",
        ),
        (
            "fn f(x: f32) -> f32 { return huber(x); }",
            "\
error[E_WGSL]: user.wgsl: in `f`: `huber` needs 2 arguments and gets 1
  ┌─ user.wgsl:1:30
  │
1 │ fn f(x: f32) -> f32 { return huber(x); }
  │                              ^^^^^^^^ this call
  help: its signature is huber(r: f32, delta: f32)",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text).to_string(), expected);
    }
}

#[test]
fn no_message_speaks_of_the_inside_of_the_validator() {
    let cases = [
        ("fn f(x: f32, k: i32) -> f32 { return max(x, k); }", Code::Wgsl, "write f32(…)"),
        ("fn f(x: f32, k: i32) -> f32 { return f32(max(k, x)); }", Code::Wgsl, "write i32(…)"),
        ("fn f(x: f32) -> f32 { return f32(countOneBits(x)); }", Code::Wgsl, "write i32(…)"),
        ("fn f(x: f32, v: vec2<f32>) -> f32 { return dot(x, v); }", Code::Wgsl, "it takes vectors"),
        ("fn f(x: f32) -> f32 { return determinant(x); }", Code::Wgsl, "it takes matrices"),
        ("fn f(x: f32) -> f32 { var y = x; while y { y -= 1.0; } return y; }", Code::Wgsl, "x > 0.0"),
        ("fn f(x: f32) -> f32 { return select(x, 0.0, x); }", Code::Wgsl, "it comes last"),
        ("fn f(x: f32, v: vec3<f32>) -> f32 { return v[x]; }", Code::Wgsl, "write i32(…)"),
        ("fn f(x: f32) -> f32 { return sigmoid(1i) + x; }", Code::Wgsl, "`x` of `sigmoid` is f32"),
        ("fn f(x: f16) -> f32 { return 1.0; }", Code::WgslType, "declare it f32"),
        ("enable f16;\nfn f(x: f32) -> f32 { return f32(f16(x)); }", Code::WgslType, "declare it f32"),
        ("fn f(x: f32) -> f32 { var k = 1i; k = x; return x; }", Code::Wgsl, "write i32(…)"),
        ("fn f(x: f32, k: i32) -> f32 { var y = x; y = k; return y; }", Code::Wgsl, "write f32(…)"),
    ];
    for (text, code, says) in cases {
        let error = error(text);
        assert_eq!(error.code(), code, "{error}");
        let message = error.to_string();
        assert!(message.contains(says), "{message}");
        for inside in ["naga", "Expression [", "allowed type", "Scalar {"] {
            assert!(!message.contains(inside), "{message}");
        }
    }
}
