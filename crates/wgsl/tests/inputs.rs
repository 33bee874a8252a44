//! What functions take: overrides, pointers of their helpers, structures by field, arrays of vectors.
#![allow(clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "tests")]

use cotangent_autograd::grad;
use cotangent_tensor::{Code, Error, Evaluate, Reference, Tensor};
use cotangent_wgsl::{Interpreter, Module};

fn module(text: &str) -> Module {
    Module::parse("user.wgsl", text).unwrap_or_else(|error| panic!("{error}"))
}
fn numbers(tensor: &Tensor) -> Vec<f64> {
    Reference::new().evaluate(&[tensor]).unwrap_or_else(|error| panic!("{error}"))[0].to_f64()
}
/// The message without the line of the Rust program.
fn without_place(error: &Error) -> String {
    let text = error.to_string();
    text.lines().filter(|line| !line.starts_with("  at ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn overrides_have_the_value_that_is_given_or_that_of_the_text() {
    let text = "override delta: f32 = 2.0;
override twice = delta * 2.0 + 1.0;
override rounds: u32 = 3u;
override on: bool = true;
override missing: f32;
fn f(x: f32) -> f32 { var y = x; for (var i = 0u; i < rounds; i++) { y = y * delta + twice; } if on { return y; } return -y; }
fn g(x: f32) -> f32 { return x * missing; }";
    let at = |module: &Module| numbers(&module.function("f").unwrap().call(&[&Tensor::new(1.0)]))[0];
    assert_eq!(at(&module(text)), 43.0);
    assert_eq!(at(&module(text).constant("delta", 1.0).unwrap()), 10.0);
    assert_eq!(at(&module(text).constant("rounds", 1.0).unwrap()), 7.0);
    assert_eq!(at(&module(text).constant("on", 0.0).unwrap()), -43.0);
    assert_eq!(at(&module(text).constant("twice", 0.0).unwrap()), 8.0);
    let error = module(text).function("g").unwrap_err();
    assert_eq!(
        without_place(&error),
        "error[AD013]: user.wgsl: the override `missing` has no value
  ┌─ user.wgsl:7:34
  │
7 │ fn g(x: f32) -> f32 { return x * missing; }
  │                                  ^^^^^^^ used here
  help: give it one before you ask for functions: `module.constant(\"missing\", …)`
"
    );
    let given = module(text).constant("missing", 0.1).unwrap();
    let derivative = given.function("g").unwrap().derivative().unwrap();
    assert_eq!(
        derivative.wgsl(),
        "fn g_vjp(x: f32, upstream: f32) -> f32 {\n  return (upstream * 0.1);\n}\n"
    );
    let error = module(text).constant("delt", 1.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error[E_WGSL]: user.wgsl: no override `delt`; there are: delta, twice, rounds, on, missing
  help: `override name: f32 = 1.0;` declares one; a `const` cannot be changed"
    );
    for (name, value) in
        [("rounds", 1.5), ("rounds", -1.0), ("on", 2.0), ("delta", 1e39), ("delta", f64::NAN)]
    {
        let error = module(text).constant(name, value).unwrap_err();
        assert_eq!(error.code(), Code::WgslConstant, "{error}");
        assert!(error.message().contains(&format!("`{name}` is")), "{error}");
    }
}

#[test]
fn helpers_write_through_pointers() {
    // each with its value and slope at x = 3
    let cases = [
        (
            "fn add(p: ptr<function, f32>, by: f32) { *p += by; } fn f(x: f32) -> f32 { var y = x; add(&y, x * x); return y * 2.0; }",
            24.0,
            14.0,
        ),
        (
            "fn next(p: ptr<function, f32>) -> f32 { let old = *p; *p = old * old; return old; } fn f(x: f32) -> f32 { var y = x; let a = next(&y); let b = next(&y); return a + 10.0 * b + 100.0 * y; }",
            3.0 + 90.0 + 8100.0,
            1.0 + 60.0 + 400.0 * 27.0,
        ),
        (
            "fn clip(p: ptr<function, f32>) { if *p < 1.0 { return; } *p = *p - 1.0; if *p > 5.0 { *p = 5.0; return; } *p = *p * *p; } fn f(x: f32) -> f32 { var y = x; clip(&y); return y; }",
            4.0,
            4.0,
        ),
        (
            "fn inner(p: ptr<function, vec2<f32>>) { (*p).y = (*p).x * 2.0; } fn outer(p: ptr<function, vec2<f32>>) { inner(p); (*p).x = 0.0; } fn f(x: f32) -> f32 { var v = vec2<f32>(x, 1.0); outer(&v); return v.x + v.y; }",
            6.0,
            2.0,
        ),
        (
            "fn swap(a: ptr<function, f32>, b: ptr<function, f32>) { let t = *a; *a = *b; *b = t; } fn f(x: f32) -> f32 { var a = x; var b = x * x; swap(&a, &b); return a - b; }",
            6.0,
            5.0,
        ),
        (
            "fn fill(p: ptr<function, array<f32, 3>>, x: f32) { for (var i = 0; i < 3; i++) { (*p)[i] = x * f32(i); } } fn f(x: f32) -> f32 { var a: array<f32, 3>; fill(&a, x); return a[0] + a[1] + a[2]; }",
            9.0,
            3.0,
        ),
        (
            "fn add(p: ptr<function, f32>) { *p += 1.0; } fn f(x: f32) -> f32 { var y = 0.0; for (var i = 0; i < 9; i++) { if f32(i) >= x { break; } add(&y); } return y * x; }",
            9.0,
            3.0,
        ),
    ];
    for (text, value, slope) in cases {
        let (module, x) = (module(text), Tensor::full([], 3.0));
        let y = module.function("f").unwrap_or_else(|error| panic!("{text}\n{error}")).call(&[&x]);
        assert_eq!(numbers(&y), [value], "{text}");
        assert_eq!(numbers(&grad(&y, &x).unwrap().or_error().unwrap()), [slope], "{text}");
        // the witness of text agrees
        let interpreted = Interpreter::new(&module).f64().call("f", &[&[3.0]]).unwrap();
        assert_eq!(interpreted.result(), [value], "{text}");
    }
}

#[test]
fn pointers_that_meet_and_pointers_of_entries_are_refused() {
    let swap = "fn swap(a: ptr<function, f32>, b: ptr<function, f32>) {\n  let t = *a; *a = *b; *b = t;\n}\n";
    let error =
        module(&format!("{swap}fn f(x: f32) -> f32 {{\n  var y = x;\n  swap(&y, &y);\n  return y;\n}}"))
            .function("f")
            .unwrap_err();
    assert_eq!(error.code(), Code::WgslAlias);
    assert_eq!(
        without_place(&error),
        "error[E_WGSL_ALIAS]: user.wgsl: two pointers of a call may point to the same variable
  ┌─ user.wgsl:6:3
  │
6 │   swap(&y, &y);
  │   ^^^^^^^^^^^^ in this call
  help: pass one pointer, or copy the value into a variable of its own
"
    );
    let error = module(swap).function("swap").unwrap_err();
    assert_eq!(error.code(), Code::WgslResult);
    let error = module("fn f(p: ptr<function, f32>) -> f32 { return *p; }").function("f").unwrap_err();
    assert_eq!(
        without_place(&error),
        "error[AD022]: user.wgsl: `f` takes a pointer, and is called on tensors
  ┌─ user.wgsl:1:6
  │
1 │ fn f(p: ptr<function, f32>) -> f32 { return *p; }
  │      ^ this parameter
  help: return a structure instead
"
    );
    let text = "fn g(p: ptr<function, f32>) -> f32 { return *p; } fn g_vjp(x: f32, upstream: f32) -> f32 { return upstream; } fn f(x: f32) -> f32 { var y = x; return g(&y); }";
    assert_eq!(module(text).function("f").unwrap_err().code(), Code::WgslRule);
}

#[test]
fn structures_are_given_by_their_fields() {
    let text = "struct Row { x: vec2<f32>, label: u32, weight: f32 }
fn f(row: Row, scale: f32) -> f32 { return row.weight * scale * row.x[row.label]; }";
    let f = module(text).function("f").unwrap();
    let (x, label) = (Tensor::new([[1.0, 2.0], [3.0, 4.0]]), Tensor::new([1u32, 0]));
    let (weight, scale) = (Tensor::new([1.0, 2.0]), Tensor::new(10.0));
    let all = [("row.x", &x), ("row.label", &label), ("row.weight", &weight), ("scale", &scale)];
    let value = f.by_name(&all);
    assert_eq!(numbers(&value), [20.0, 60.0]);
    assert_eq!(numbers(&grad(&value.sum(..), &x).unwrap().or_error().unwrap()), [0.0, 10.0, 20.0, 0.0]);
    assert_eq!(
        f.derivative().unwrap().wgsl().lines().take(2).collect::<Vec<_>>(),
        [
            "struct f_gradient { row_x: vec2<f32>, row_weight: f32, scale: f32 }",
            "fn f_vjp(row: Row, scale: f32, upstream: f32) -> f_gradient {",
        ]
    );
    // it is a rule for the function
    let with_rule = format!("{text}\n{}", f.derivative().unwrap());
    let report = module(&with_rule).function("f").unwrap().gradcheck().run().unwrap();
    assert!(report.is_ok() && report.compared.linear > 0, "{report}");
    let refused = |inputs: &[(&str, &Tensor)], says: &str| {
        let error = f.by_name(inputs).error().unwrap().clone();
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(&all[..3], "`scale` is not given");
    refused(&all[1..], "`row.x` is not given");
    refused(&[&all[..], &[("row.y", &x)]].concat(), "no field `row.y`");
    refused(&[&all[..], &all[..1]].concat(), "`row.x` is given twice");
    refused(&[("row", &x), ("scale", &scale)], "`row` is Row, which holds several types");
    let error = f.rows(&[&x, &scale]).error().unwrap().clone();
    assert_eq!(error.code(), Code::Dtype);
    assert!(error.to_string().contains("give its fields by name"), "{error}");
    let fields: Vec<String> = f.parameters()[0].fields.iter().map(|field| field.name.clone()).collect();
    assert_eq!(fields, ["row.x", "row.label", "row.weight"]);
}

#[test]
fn arrays_of_vectors_may_have_two_axes() {
    let text = "fn f(a: array<vec2<f32>, 3>, m: mat2x3<f32>) -> f32 { return a[0].x + 10.0 * a[1].y + 100.0 * a[2].x + 1000.0 * m[1][2]; }";
    let f = module(text).function("f").unwrap();
    let a = Tensor::new([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    let m = Tensor::new([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let value = f.rows(&[&a, &m]);
    assert_eq!(numbers(&value), [6541.0]);
    assert_eq!(numbers(&grad(&value, &a).unwrap().or_error().unwrap()), [1.0, 0.0, 0.0, 10.0, 100.0, 0.0]);
    assert_eq!(numbers(&f.rows(&[&a.reshape([6]), &m.reshape([6])])), [6541.0]);
    let many = f.rows(&[&a.unsqueeze(0).broadcast_to([4, 3, 2]), &m]);
    assert_eq!(numbers(&many), [6541.0; 4]);
    let error = f.rows(&[&Tensor::zeros([2, 3]), &m]).error().unwrap().clone();
    assert_eq!(error.code(), Code::Broadcast, "{error}");
}

#[test]
fn functions_are_checked_at_random_points() {
    let text = "struct Row { x: vec2<f32>, label: u32 }
fn f(row: Row, scale: f32, k: i32, on: bool) -> f32 { let s = select(1.0, scale, on); return s * row.x[row.label] * row.x.y * f32(k); }
fn g(x: f32) -> f32 { return x * x; }
fn g_vjp(x: f32, upstream: f32) -> f32 { if x > 1.9 { return upstream * x; } return 2.0 * upstream * x; }
fn h(x: f32, y: f32) -> f32 { return g(x) * y; }
fn l(x: f32) -> f32 { return log(x); }";
    let of = |name: &str| module(text).function(name).unwrap();
    let report = of("f").gradcheck().points(200).between("k", -3.0, 3.0).run().unwrap();
    assert!(report.is_ok() && report.compared.total() >= 200, "{report}");
    // wrong on a part of the interval
    let report = of("h").gradcheck().points(200).run().unwrap();
    assert_eq!(report.findings[0].code(), Code::RuleWrong, "{report}");
    let report = of("h").gradcheck().points(200).between("x", -2.0, 1.8).order(2).run().unwrap();
    assert!(report.is_ok(), "{report}");
    let report = of("h").with_respect_to(["y"]).unwrap().gradcheck().run().unwrap();
    assert!(report.compared.total() >= 100, "{report}");
    let report = of("l").gradcheck().points(50).between("x", 0.1, 9.0).run().unwrap();
    assert!(report.is_ok() && report.compared.unknown == 0, "{report}");
    let code =
        |report: Result<_, Error>| report.map(|_: cotangent_autograd::check::Report| ()).unwrap_err().code();
    assert_eq!(code(of("l").gradcheck().points(0).run()), Code::Hyperparameter);
    assert_eq!(code(of("l").gradcheck().order(4).run()), Code::Hyperparameter);
    assert_eq!(code(of("l").gradcheck().between("x", 2.0, 1.0).run()), Code::Hyperparameter);
    assert_eq!(code(of("l").gradcheck().between("z", 1.0, 2.0).run()), Code::WgslNoParameter);
}

#[test]
fn a_rule_may_call_its_function() {
    let text = "fn s(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }
fn s_vjp(x: f32, upstream: f32) -> f32 { let y = twice(x) * 0.5; return upstream * y * (1.0 - s(x)); }
fn twice(x: f32) -> f32 { return 2.0 * s(x); }
fn twice_vjp(x: f32, upstream: f32) -> f32 { return s_vjp(x, 2.0 * upstream); }
fn f(x: f32, n: i32) -> f32 { var y = x; for (var i = 0; i < n; i++) { y = s(y); } return y + twice(x); }";
    let y = |s: f64| s * (1.0 - s);
    let s0 = 1.0 / (1.0 + (-0.5f64).exp());
    let s1 = 1.0 / (1.0 + (-s0).exp());
    let (x, n) = (Tensor::new([0.5]), Tensor::new([2i32]));
    let value = |tensor: &Tensor| Reference::new().evaluate(&[tensor]).unwrap()[0].to_f64()[0];
    let of = |name: &str| module(text).function(name).unwrap();
    let (one, all) = (of("s").call(&[&x]), of("f").call(&[&x, &n]));
    let slope = grad(&one.sum(..), &x).unwrap().or_zero();
    let second = grad(&slope.sum(..), &x).unwrap().or_zero();
    let through = grad(&all.sum(..), &x).unwrap().or_zero();
    assert!((value(&slope) - y(s0)).abs() < 1e-12);
    assert!((value(&second) - y(s0) * (1.0 - 2.0 * s0)).abs() < 1e-12);
    assert!((value(&through) - (y(s1) * y(s0) + 2.0 * y(s0))).abs() < 1e-12);
    let error = of("f").surrogate("s", "a trial").unwrap().call(&[&x, &n]).node().unwrap_err();
    assert!(error.code() == Code::WgslRule && error.to_string().contains("has no end there"), "{error}");
}

#[test]
fn a_function_that_is_nearly_a_rule_is_refused() {
    let f = "fn clip(x: f32) -> f32 { return x; } ";
    let parse = |rest: &str| Module::parse("test.wgsl", &format!("{f}{rest}"));
    for name in ["clip_vpj", "clip_VJP", "clip_jvp", "clipp_vjp", "clp_vjp"] {
        let error = parse(&format!("fn {name}(x: f32, g: f32) -> f32 {{ return g; }}")).unwrap_err();
        assert!(
            error.code() == Code::WgslRule && error.to_string().contains("name it `clip_vjp`"),
            "{error}"
        );
    }
    for rest in [
        // another signature, called, beside the rule, unlike
        "fn clip_jvp(x: f32, g: f32, k: f32) -> f32 { return g; }",
        "fn clip_jvp(x: f32, g: f32) -> f32 { return g; } fn f(x: f32) -> f32 { return clip_jvp(x, x); }",
        "fn clip_jvp(x: f32, g: f32) -> f32 { return g; } fn clip_vjp(x: f32, g: f32) -> f32 { return g; }",
        "fn hinge_vjp(x: f32, g: f32) -> f32 { return g; }",
        "fn clip_grad(x: f32, g: f32) -> f32 { return g; }",
    ] {
        parse(rest).unwrap();
    }
}
