//! Lints: each fires on its source, with a frame, and neither on a guarded variant nor on sound losses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_wgsl::{Function, Module};

fn function(text: &str, name: &str) -> Function {
    Module::parse("user.wgsl", text)
        .and_then(|module| module.function(name))
        .unwrap_or_else(|error| panic!("{error}"))
}
/// The codes of the lints of the function `f` of a text.
fn codes(text: &str) -> Vec<&'static str> {
    function(text, "f").lints().iter().map(|lint| lint.code).collect()
}
fn whole(text: &str) -> String {
    function(text, "f").lints().iter().map(|lint| format!("{lint}\n")).collect()
}

#[test]
fn each_lint_shows_its_place() {
    let cases = [
        ("LN1", "fn f(x: f32, y: f32) -> f32 {\n  return y * sign(x);\n}", "\
warning[LN1]: user.wgsl: the gradient of `x` is zero everywhere
  ┌─ user.wgsl:1:6
  │
1 │ fn f(x: f32, y: f32) -> f32 {
  │      ^ depends on it by steps only
2 │   return y * sign(x);
  │              ^^^^ no slope
  help: did you want a surrogate, as a rule `…_vjp`? If not, say so: `detach(x)`, an integer, or `with_respect_to` without it; `.allow(\"LN1\")` silences this
"),
        ("LN2", "fn f(x: f32) -> f32 { return pow(x, 2.0); }", "\
warning[LN2]: user.wgsl: `pow` of a base that can be negative: elsewhere WGSL gives NaN for it, here a power
  ┌─ user.wgsl:1:30
  │
1 │ fn f(x: f32) -> f32 { return pow(x, 2.0); }
  │                              ^^^ here
  help: write the product, x * x; `.allow(\"LN2\")` silences this
"),
        // T74
        ("LN3", "fn f(x: f32) -> f32 { return sqrt(x); }", "\
warning[LN3]: user.wgsl: `sqrt` of what can be 0, where its slope is infinite
  ┌─ user.wgsl:1:30
  │
1 │ fn f(x: f32) -> f32 { return sqrt(x); }
  │                              ^^^^ here
  help: branch on it with `if`, add a small constant, or keep it away from 0 with `max`; `.allow(\"LN3\")` silences this
"),
        ("LN4", "fn f(z: vec3<f32>) -> f32 {\n  let top = max(z.x, max(z.y, z.z));\n  let sum = exp(z.x - top) + exp(z.y - top) + exp(z.z - top);\n  return log(sum) + top - z.x;\n}", "\
warning[LN4]: user.wgsl: the maximum that shifts exponentials is not detached: its derivative cancels, and is computed all the same
  ┌─ user.wgsl:2:13
  │
2 │   let top = max(z.x, max(z.y, z.z));
  │             ^^^ this maximum
3 │   let sum = exp(z.x - top) + exp(z.y - top) + exp(z.z - top);
  │             ^^^ shifts here
  help: take `detach` of the maximum once, before the exponentials, where the result does not depend on the shift; `.allow(\"LN4\")` silences this
"),
        ("LN5", "fn f(x: f32) -> f32 { return log(1.0 + x); }", "\
warning[LN5]: user.wgsl: `log(1 + x)` loses digits, or overflows, where `log1p(x)` does not
  ┌─ user.wgsl:1:30
  │
1 │ fn f(x: f32) -> f32 { return log(1.0 + x); }
  │                              ^^^ here
  help: write log1p(x); `.allow(\"LN5\")` silences this
"),
        ("LN6", "fn f(x: f32) -> f32 { if x != x { return 0.0; } return x; }", "\
warning[LN6]: user.wgsl: a value is compared with itself: adapters may take `x != x` as known, for NaN too
  ┌─ user.wgsl:1:26
  │
1 │ fn f(x: f32) -> f32 { if x != x { return 0.0; } return x; }
  │                          ^^^^^^ both sides are the same
  help: for NaN write is_nan(x); `.allow(\"LN6\")` silences this
"),
    ];
    for (code, text, expected) in cases {
        assert_eq!(whole(text), expected, "{code}");
        let lint = &function(text, "f").lints()[0];
        assert_eq!(lint.code, code);
        assert!(function(text, "f").allow(code).unwrap().lints().is_empty(), "{code} is silenced");
        let other = if code == "LN1" { "LN2" } else { "LN1" };
        assert_eq!(function(text, "f").allow(other).unwrap().lints().len(), 1, "{code} is not {other}");
    }
    let error = function("fn f(x: f32) -> f32 { return x; }", "f").allow("LN7").unwrap_err();
    assert!(error.to_string().contains("there are LN1, LN2, LN3, LN4, LN5, LN6"), "{error}");
}

#[test]
fn what_is_meant_or_guarded_is_left_alone() {
    let cases = [
        // LN1: an integer, a detached value, a rule, and a parameter with another path
        ("fn f(z: vec3<f32>, k: u32) -> f32 { return z[k]; }", ""),
        ("fn f(x: f32, y: f32) -> f32 { return y * sign(detach(x)); }", ""),
        (
            "fn s(x: f32) -> f32 { return sign(x); } fn s_vjp(x: f32, upstream: f32) -> f32 { return upstream; } fn f(x: f32) -> f32 { return s(x); }",
            "",
        ),
        ("fn f(x: f32) -> f32 { return floor(x) + x; }", ""),
        ("fn f(x: f32, unused: f32) -> f32 { return x; }", ""),
        // T81: what survives through integers only
        ("fn f(z: vec3<f32>, label: f32) -> f32 { return z[i32(label)]; }", "LN1"),
        ("fn f(x: f32) -> f32 { return f32(i32(x)); }", "LN1"),
        ("fn f(x: f32) -> f32 { return select(0.0, 1.0, x > 0.0); }", "LN1"),
        ("fn f(v: vec2<f32>) -> f32 { return floor(v.x) + round(v.y); }", "LN1"),
        ("fn f(v: vec2<f32>) -> f32 { return floor(v.x) + v.y; }", ""),
        // LN2
        ("fn f(x: f32) -> f32 { return pow(x * x + 1.0, 1.5); }", ""),
        ("fn f(x: f32) -> f32 { return pow(sigmoid(x), 2.0) + pow(1.0 - sigmoid(x), 3.0); }", ""),
        ("fn f(x: f32) -> f32 { if x > 0.0 { return pow(x, 2.5); } return 0.0; }", ""),
        ("fn f(x: f32, y: f32) -> f32 { return pow(max(x, 0.5), y) + pow(2.0, x); }", ""),
        ("fn f(x: f32, y: f32) -> f32 { return pow(x - y, 3.0); }", "LN2"),
        // LN3
        ("fn f(x: f32) -> f32 { if x > 0.0 { return sqrt(x); } return 0.0; }", ""),
        ("fn f(x: f32) -> f32 { if x <= 0.0 { return 0.0; } return sqrt(x); }", ""),
        ("fn f(x: f32) -> f32 { return select(0.0, sqrt(x), x > 0.0); }", ""),
        ("fn f(x: f32) -> f32 { return sqrt(x * x + 1e-6) + sqrt(exp(x)) + sqrt(max(x, 1e-12)); }", ""),
        ("fn f(v: vec3<f32>) -> f32 { return length(v); }", ""),
        ("fn f(v: vec3<f32>) -> f32 { return sqrt(dot(v, v)); }", "LN3"),
        ("fn f(v: vec3<f32>) -> f32 { let n = normalize(v); return n.x; }", "LN3"),
        (
            "fn f(v: array<f32, 4>) -> f32 { var s = 0.0; for (var i = 0; i < 4; i++) { s += v[i] * v[i]; } return sqrt(s); }",
            "LN3",
        ),
        ("fn f(x: f32) -> f32 { return x / abs(x); }", "LN3"),
        ("fn f(x: f32) -> f32 { return log(abs(x)); }", "LN3"),
        ("fn f(v: vec2<f32>) -> f32 { return 1.0 / dot(v, v); }", "LN3"),
        // a choice that has nothing to do with the operand is no guard
        ("fn f(x: f32, on: bool) -> f32 { if on { return sqrt(x); } return 0.0; }", "LN3"),
        ("fn f(x: f32, on: bool) -> f32 { return select(0.0, pow(x, 2.0), on); }", "LN2"),
        // a scale, a probability and a variance are the caller's to keep above 0
        (
            "fn f(x: f32, s: f32) -> f32 { let r = x / s; return 0.5 * r * r + log(s) + x * x / (2.0 * s * s); }",
            "",
        ),
        ("fn f(p: f32, y: f32) -> f32 { return -(y * log(p) + (1.0 - y) * log(1.0 - p)); }", ""),
        ("fn f(x: f32, lo: f32, hi: f32) -> f32 { return (x - lo) / (hi - lo); }", ""),
        ("fn f(x: f32, n: u32) -> f32 { return x * sqrt(f32(n)) + sqrt(detach(x)); }", ""),
        // LN4
        (
            "fn f(z: vec2<f32>) -> f32 { let top = detach(max(z.x, z.y)); return log(exp(z.x - top) + exp(z.y - top)) + top; }",
            "",
        ),
        (
            "fn f(z: array<f32, 4>, k: u32) -> f32 { var top = z[0]; for (var i = 1; i < 4; i++) { top = max(top, z[i]); } var s = 0.0; for (var i = 0; i < 4; i++) { s += exp(z[i] - top); } return log(s) + top - z[k]; }",
            "LN4",
        ),
        (
            "fn f(z: vec2<f32>) -> f32 { var top = z.x; if z.y > top { top = z.y; } return log(exp(z.x - top) + exp(z.y - top)) + top; }",
            "LN4",
        ),
        ("fn f(x: f32) -> f32 { return exp(x - max(x, 0.0)); }", ""),
        // LN5
        ("fn f(x: f32) -> f32 { return log1p(x) + expm1(x) + softplus(x) + log(2.0 + x * x); }", ""),
        ("fn f(x: f32) -> f32 { return exp(x) - 1.0; }", "LN5"),
        ("fn f(x: f32) -> f32 { return log(1.0 + exp(x)); }", "LN5"),
        ("fn f(a: f32, b: f32) -> f32 { return log(exp(a) + exp(-b)); }", "LN5"),
        ("fn f(z: vec3<f32>) -> f32 { return log(exp(z.x) + exp(z.y) + exp(z.z)); }", "LN5"),
        ("fn f(x: f32) -> f32 { return log(sigmoid(x)); }", "LN5"),
        ("fn f(x: f32) -> f32 { return log(1.0 - exp(-x)); }", "LN5"),
        ("fn f(x: f32) -> f32 { return log1mexp(x) + recip_expm1(x) + log(1.0 - x); }", ""),
        ("fn f(a: f32, b: f32) -> f32 { return logaddexp(a, b) + huber(a, 1.0); }", ""),
        // LN6: equal for some rounds of a loop only
        (
            "fn f(z: array<f32, 3>) -> f32 { var n = 0.0; for (var i = 0; i < 3; i++) { if z[i] >= z[0] { n += z[i]; } } return n; }",
            "",
        ),
        ("fn f(v: vec2<f32>) -> f32 { var u = v; if u.x == u.x { return u.y; } return u.x; }", "LN6"),
        (
            "fn g(x: f32) -> bool { return x >= x; } fn f(x: f32) -> f32 { if g(x) { return x; } return 0.0; }",
            "LN6",
        ),
        ("fn f(x: f32) -> f32 { if is_nan(x) { return 0.0; } return x; }", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(codes(text).join(" "), expected, "{text}");
    }
}

#[test]
fn documented_losses_are_clean() {
    let losses = include_str!("../../../examples/losses.wgsl");
    let module = Module::parse("losses.wgsl", losses).unwrap();
    let functions = module.functions();
    for function in &functions {
        let lints: Vec<String> = function.lints().iter().map(ToString::to_string).collect();
        assert!(lints.is_empty(), "{}", lints.join("\n"));
    }
    assert_eq!(functions.len(), 2);
    // the blocks of the documentation
    let page = include_str!("../../../docs/wgsl.md");
    // but for the section that shows a lint
    let (before, rest) = page.split_once("\n## Lints\n").unwrap();
    let page = before.to_string() + rest.split_once("\n## ").unwrap().1;
    let texts: Vec<&str> = page
        .split("let text = \"")
        .skip(1)
        .filter_map(|rest| rest.split_once("\";"))
        .map(|found| found.0)
        .collect();
    let mut looked = 0;
    for text in texts {
        for function in Module::parse("docs/wgsl.md", text).unwrap().functions() {
            looked += 1;
            let lints: Vec<String> = function.lints().iter().map(ToString::to_string).collect();
            // the primal of a surrogate has no slope: its rule has
            let is_primal = text.contains(&format!("fn {}_vjp", function.name()));
            assert!(lints.is_empty() || is_primal, "{}", lints.join("\n"));
        }
    }
    assert!(looked >= 5, "{looked} functions");
}
