//! Loops whose number of rounds is known only when they run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_autograd::{grad, jvp};
use cotangent_tensor::{Code, Evaluate, Reference, Tensor, topological};
use cotangent_wgsl::{Function, Interpreter, Module};

fn function(text: &str, name: &str) -> Function {
    Module::parse("loops.wgsl", text).unwrap().function(name).unwrap_or_else(|error| panic!("{error}"))
}
fn searching(text: &str, name: &str) -> Function {
    let module = Module::parse("loops.wgsl", text).unwrap().unbounded(1000);
    module.function(name).unwrap_or_else(|error| panic!("{error}"))
}
fn numbers(tensor: &Tensor) -> Vec<f64> {
    Reference::new().evaluate(&[tensor]).unwrap_or_else(|error| panic!("{error}"))[0].to_f64()
}
#[track_caller]
fn close(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.iter().zip(wanted) {
        assert!((got - wanted).abs() <= 1e-11 * (1.0 + wanted.abs()), "{got} is not {wanted}");
    }
}
fn slope(y: &Tensor, x: &Tensor) -> Tensor {
    grad(&y.sum(..), x).unwrap().or_error().unwrap().clone()
}

const GEO: &str = "fn geo(x: f32, n: i32) -> f32 {
    var t = 1.0;
    var s = 0.0;
    for (var i = 0; i < n; i++) { t *= x; s += t; }
    return s;
}";
const HERON: &str = "fn heron(a: f32) -> f32 {
    var x = a;
    while (abs(x * x - a) > 0.0009765625 * a) { x = 0.5 * (x + a / x); }
    return x;
}";

#[test]
fn a_count_that_is_an_argument() {
    let (x, n) = (Tensor::new([0.5, 2.0, 3.0]), Tensor::new([4i32, 3, 0]));
    let y = function(GEO, "geo").call(&[&x, &n]);
    close(&numbers(&y), &[0.9375, 14.0, 0.0]);
    let first = slope(&y, &x);
    close(&numbers(&first), &[3.25, 17.0, 0.0]);
    close(&numbers(&slope(&first, &x)), &[8.0, 14.0, 0.0]);
    let pushed = jvp(&[&y], &[(&x, &Tensor::new([1.0, -1.0, 2.0]))]).unwrap();
    close(&numbers(&pushed[0]), &[3.25, -17.0, 0.0]);
}

#[test]
fn a_search_needs_a_limit() {
    let error = Module::parse("loops.wgsl", HERON).unwrap().function("heron").unwrap_err();
    assert_eq!(error.code(), Code::WgslLoop);
    let text = error.to_string();
    assert!(text.contains("loops.wgsl:3") && text.contains("unbounded"), "{text}");
    let a = Tensor::new([9.0]);
    let y = searching(HERON, "heron").call(&[&a]);
    close(&numbers(&y), &[3.000_091_554_131_38]);
    let first = slope(&y, &a);
    assert!((numbers(&first)[0] - 0.166_732_790_026).abs() < 1e-11);
    assert!((numbers(&slope(&first, &a))[0] + 0.009_223_087_927_83).abs() < 1e-12);
    let error = Reference::new().evaluate(&[&searching(HERON, "heron").call(&[&Tensor::new([4.0, -1.0])])]);
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::LoopRounds);
    assert!(
        error.to_string().contains("the loop in `heron` (loops.wgsl:3): element 1 does not end"),
        "{error}"
    );
}

#[test]
fn what_is_seen_to_end() {
    let ends = [
        "var s = x; for (var i = 0; i < n; i++) { s *= x; } return s;",
        "var s = x; for (var i = n; i > 0; i--) { s *= x; } return s;",
        "var s = x; for (var i = 10; i >= n; i -= 2) { s *= x; } return s;",
        "var s = x; for (var i = 0; n * 2 + 1 >= i; i = 3 + i) { s *= x; } return s;",
        "var s = x; var i = 0; while (i < n && s < 100.0) { s *= x; i++; } return s;",
        "var s = x; var i = 0; loop { s *= x; i += 1; if (i >= n) { break; } } return s;",
        "var s = x; var i = 0; loop { if (s > 100.0) { return 1.0; } s *= x; continuing { i += 1; break if i > n; } } return s;",
        "var s = x; for (var i = 0; i < n; i++) { if (s > 9.0) { continue; } s *= x; } return s;",
    ];
    for body in ends {
        function(&format!("fn f(x: f32, n: i32) -> f32 {{ {body} }}"), "f");
    }
    let unknown = [
        "var s = x; while (s < 100.0) { s *= x; } return s;",
        "var s = x; for (var i = 0; i < n; i--) { s *= x; } return s;",
        "var s = x; var m = n; for (var i = 0; i < m; i++) { m++; } return s;",
        "var s = x; for (var i = 0; i < n; i++) { if (s > 9.0) { i--; } s *= x; } return s;",
        "var s = x; loop { s *= x; if (s > 100.0) { break; } } return s;",
        "var s = x; loop { s *= x; } return s;",
        "var s = x; loop { s += 1.0; if (s > 100.0) { return x; } } return s;",
        "var s = x; while (true) { s += 1.0; } return s;",
    ];
    for body in unknown {
        let module = Module::parse("f.wgsl", &format!("fn f(x: f32, n: i32) -> f32 {{ {body} }}")).unwrap();
        let error = module.function("f").expect_err(body);
        assert_eq!(error.code(), Code::WgslLoop, "{body}: {error}");
        // what nothing leaves has no use for a limit
        let left = body.contains("break")
            || body.contains("return x")
            || body.contains("s <")
            || body.contains("i <");
        assert_eq!(module.unbounded(99).function("f").is_ok(), left, "{body}");
    }
}

/// Functions that leave loops in every way, with values of `x` and `n` at which they are interpreted.
const WAYS: &[&str] = &[
    "var s = 0.0; for (var i = 0; i < n; i++) { if (i == 2) { continue; } s += x * f32(i); } return s;",
    "var s = 0.0; for (var i = 0; i < n; i++) { if (s > 4.0) { break; } s += x; } return s * s;",
    "var s = 1.0; for (var i = 0; i < n; i++) { if (s > 4.0) { return x * 7.0; } s *= 1.5 + x; } return s;",
    "var s = 1.0; for (var i = 0; i < n; i++) { s *= x; if (s > 40.0) { return s; } else if (s < -2.0) { break; } s += 0.5; } return s + x;",
    "var i = 0; loop { if (i >= n) { return x * x; } i++; if (i == 3) { return sin(x); } } return 0.0;",
    "var s = x; var i = 0; loop { s = s * 0.5 + x; continuing { i += 1; break if i >= n; } } return s;",
    "var a = x; var b = 1.0; for (var i = 0; i < n; i++) { let c = a; a = b; b = c + x; } return a * 2.0 + b;",
    "var v = vec2<f32>(x, 1.0); for (var i = 0; i < n; i++) { v = vec2<f32>(v.y, v.x * x); } return v.x + 3.0 * v.y;",
    "var a = array<f32, 3>(1.0, 2.0, 3.0); for (var i = 0; i < n; i++) { a[i % 3] += x * a[(i + 1) % 3]; } return a[0] * a[1] + a[2];",
    "var s = 0.0; for (var i = 0; i < n; i++) { var p = 1.0; for (var j = 0; j < i; j++) { p *= x; } s += p; } return s;",
    "var s = 0.0; for (var i = 0; i < n; i++) { for (var j = 0; j < 3; j++) { if (j > i) { break; } s += x * f32(j); } } return s;",
    "var s = x; if (x > 0.5) { for (var i = 0; i < n; i++) { s = sqrt(s + 1.0); } } return s;",
    "if (x < 0.5) { return x; } var s = x; for (var i = 0; i < n; i++) { s = log(s + 1.0) + x; } return s;",
    "var s = x; switch (n) { case 1: { s = 3.0 * x; } case 4, 5: { for (var i = 0; i < n; i++) { s = s * x + 1.0; } } default: { for (var i = 0; i < n; i++) { s = s + x; } } } return s;",
    "var s = x; for (var i = 0; i < n; i++) { switch (i) { case 1: { s *= 2.0; } case 2: { continue; } default: { s += x; } } s = s * 1.1; } return s;",
    "var done = false; var s = x; var i = 0; while (!done) { s = s * 1.5; i++; done = s > 50.0 || i >= n; } return s;",
    "var s = 0.0; for (var i = 0; i < n; i++) { s += select(-x, x * x, i % 2 == 0); } return max(s, x);",
];

#[test]
fn loops_compute_what_their_text_says() {
    let mut kept = 0;
    for body in WAYS {
        let text = format!("fn f(x: f32, n: i32) -> f32 {{ {body} }}");
        let f = searching(&text, "f");
        let module = Module::parse_kernels("f.wgsl", &text).unwrap();
        for n in [0, 1, 2, 3, 4, 7] {
            for x in [0.2, 0.7, 1.3, -0.8] {
                let (at, count) = (Tensor::new([x]), Tensor::new([n]));
                let y = f.call(&[&at, &count]);
                kept += usize::from(format!("{:?}", y.node().unwrap().op).contains("While"));
                let interpreter = Interpreter::new(&module).f64();
                let wanted =
                    interpreter.call("f", &[&[x], &[f64::from(n)]]).unwrap_or_else(|e| panic!("{body}: {e}"));
                let (got, wanted) = (numbers(&y)[0], wanted.result()[0]);
                let same = got == wanted
                    || got.is_nan() && wanted.is_nan()
                    || (got - wanted).abs() <= 1e-12 * wanted.abs();
                assert!(same, "{body} at {x}, {n}: {got} is not {wanted}");
                // central differences of five points, and forward mode
                let h = 1e-3;
                let shifted = [-2.0, -1.0, 1.0, 2.0].map(|k| x + k * h);
                let around = f.call(&[&Tensor::new(shifted), &Tensor::new([n; 4])]);
                let [a, b, c, d] = numbers(&around)[..] else { panic!("four values") };
                let difference = (a - 8.0 * b + 8.0 * c - d) / (12.0 * h);
                let slope = numbers(&slope(&y, &at))[0];
                if difference.is_finite() && slope.is_finite() {
                    let tolerance = 1e-7 * (1.0 + slope.abs());
                    assert!(
                        (slope - difference).abs() < tolerance,
                        "{body} at {x}, {n}: {slope} is not {difference}"
                    );
                }
                let pushed = jvp(&[&y], &[(&at, &Tensor::new([1.0]))]).unwrap();
                close(&numbers(&pushed[0]), &[slope]);
            }
        }
    }
    assert!(kept > 100, "loops are loops of the graph");
}

#[test]
fn loops_that_are_too_long_to_be_written_out_stay_loops() {
    let text = "fn f(x: f32) -> f32 { var s = 0.0; for (var i = 0; i < 5000; i++) { s = s * x + 0.0009765625; } return s; }";
    let x = Tensor::new([0.5]);
    let y = function(text, "f").call(&[&x]);
    close(&numbers(&y), &[0.001953125]);
    close(&numbers(&slope(&y, &x)), &[0.00390625]);
    // the inner one is known, but not 5000 times over
    let text = "fn f(x: f32) -> f32 {
        var s = 0.0;
        for (var i = 0; i < 200; i++) { for (var j = 0; j < 200; j++) { s = s * 0.5 + x; } }
        return s;
    }";
    let y = function(text, "f").call(&[&x]);
    close(&numbers(&y), &[1.0]);
    close(&numbers(&slope(&y, &x)), &[2.0]);
}

#[test]
fn rules_are_used_inside_of_loops() {
    let text = "fn clip(x: f32) -> f32 { return x; }
        fn clip_vjp(x: f32, upstream: f32) -> f32 { return 0.5 * upstream; }
        fn f(x: f32, n: i32) -> f32 { var s = x; for (var i = 0; i < n; i++) { s = clip(s) * 3.0; } return s; }";
    let (x, n) = (Tensor::new([2.0, 2.0]), Tensor::new([1i32, 3]));
    let f = function(text, "f").surrogate("clip", "a test").unwrap();
    let y = f.call(&[&x, &n]);
    close(&numbers(&y), &[6.0, 54.0]);
    close(&numbers(&slope(&y, &x)), &[1.5, 1.5 * 1.5 * 1.5]);
}

#[test]
fn a_product_over_an_array() {
    // Warp prints [32, 8, 2]
    let text = "fn product(a: array<f32, 3>, n: i32) -> f32 {
        var p = 1.0;
        for (var i = 0; i < n; i++) { p *= a[i]; }
        return p;
    }";
    let a = Tensor::new([[2.0, 2.0, 2.0]]);
    let y = function(text, "product").rows(&[&a, &Tensor::new([3i32])]);
    close(&numbers(&y), &[8.0]);
    close(&numbers(&slope(&y, &a)), &[4.0, 4.0, 4.0]);
}

#[test]
fn derivatives_are_written_as_loops() {
    let geo = function(GEO, "geo").derivative().unwrap();
    println!("{geo}");
    assert_eq!(
        geo.wgsl(),
        "fn geo_vjp(x: f32, n: i32, upstream: f32) -> f32 {
  var t = 1.0;
  var i = 0i;
  var d_t = 0.0;
  var d_s = 0.0;
  while i < n {
    let t1 = (d_t * x) + t;
    t = t * x;
    i = i + 1i;
    d_t = t1;
    d_s = d_s + t1;
  }
  return (upstream * d_s);
}
"
    );
}

#[test]
fn written_derivatives_compute_what_the_graph_computes() {
    for body in WAYS {
        let text = format!("fn f(x: f32, n: i32) -> f32 {{ {body} }}");
        let f = searching(&text, "f");
        let derivative = f.derivative().unwrap_or_else(|error| panic!("{body}: {error}"));
        let beside = format!("{text}\n{derivative}");
        let pullback = searching(&beside, "f_vjp");
        for n in [0, 2, 4] {
            for x in [0.7, -0.8] {
                let (x, n, upstream) = (Tensor::new([x]), Tensor::new([n]), Tensor::new([1.5]));
                let wanted = numbers(&(slope(&f.call(&[&x, &n]), &x) * 1.5))[0];
                let got = numbers(&pullback.call(&[&x, &n, &upstream]))[0];
                let same =
                    got.is_nan() && wanted.is_nan() || (got - wanted).abs() <= 1e-6 * (1.0 + wanted.abs());
                assert!(same, "{derivative}\n{got} is not {wanted}");
            }
        }
    }
}

#[test]
fn a_value_that_no_round_keeps_has_no_slope() {
    // the slope of the square root is infinite at 0 and no number below it
    let text = "fn f(x: f32, n: i32) -> f32 { var b = sqrt(x); for (var i = 0; i < n; i++) { b = 2.0; } return b * b; }";
    let (x, n) = (Tensor::new([-1.0, 0.0, 4.0, 4.0]), Tensor::new([1i32, 3, 2, 0]));
    let y = function(text, "f").call(&[&x, &n]);
    close(&numbers(&y), &[4.0, 4.0, 4.0, 4.0]);
    close(&numbers(&slope(&y, &x)), &[0.0, 0.0, 0.0, 1.0]);
    let pushed = jvp(&[&y], &[(&x, &Tensor::new([1.0, 1.0, 1.0, 1.0]))]).unwrap();
    close(&numbers(&pushed[0]), &[0.0, 0.0, 0.0, 1.0]);
}

/// Value and slope, forward and reverse, second derivative by both orders of modes, at `x` after `n` rounds.
fn derivatives(body: &str, x: f64, n: i32) -> [f64; 5] {
    let f = function(&format!("fn f(x: f32, n: i32) -> f32 {{ {body} }}"), "f");
    let (x, n, one) = (Tensor::new([x]), Tensor::new([n]), Tensor::new([1.0]));
    let y = f.call(&[&x, &n]);
    let first = slope(&y, &x);
    let pushed = jvp(&[&y], &[(&x, &one)]).unwrap().remove(0);
    let twice = jvp(&[&pushed], &[(&x, &one)]).unwrap().remove(0);
    let curve = grad(&first.sum(..), &x).unwrap().or_zero();
    [&y, &first, &pushed, &curve, &twice].map(|tensor| numbers(tensor)[0])
}

#[test]
fn a_tangent_that_happens_to_be_zero_is_no_tangent_that_cannot_be_another() {
    let logs = "var v = 1.0; var s = 0.0; for (var i = 0; i < n; i++) { s += log(v); v += x * x; } return s;";
    let [y, first, pushed, curve, twice] = derivatives(logs, 0.0, 3);
    assert_eq!([y, first, pushed], [0.0; 3]);
    close(&[curve, twice], &[6.0, 6.0]);
    let roots = "var v = 1.0; for (var i = 0; i < n; i++) { v = sqrt(v); v += x * x; } return v;";
    close(&derivatives(roots, 0.0, 3)[3..], &[3.5, 3.5]);
    let heron = "var v = 1.0; for (var i = 0; i < n; i++) { v = 0.5 * (v + (1.0 + x * x) / v); } return v;";
    close(&derivatives(heron, 0.0, 3)[3..], &[1.0, 1.0]);
    // outside of the loop
    let log = "let r = log(x); var s = 0.0; for (var i = 0; i < n; i++) { s += r * r; } return s;";
    close(&derivatives(log, 1.0, 3), &[0.0, 0.0, 0.0, 6.0, 6.0]);
    // a gradient of a tangent
    let text = "fn f(x: f32, n: i32) -> f32 { var s = 0.0; for (var i = 0; i < n; i++) { s += log(2.0 + x) * x; } return s; }";
    let (x, n) = (Tensor::new([0.0]), Tensor::new([3i32]));
    let pushed = jvp(&[&function(text, "f").call(&[&x, &n])], &[(&x, &x)]).unwrap().remove(0);
    close(&numbers(&slope(&pushed, &x)), &[3.0 * 2f64.ln()]);
    // an infinite slope times zero is no number, as without the loop
    let square = "let r = sqrt(x); var s = 0.0; for (var i = 0; i < n; i++) { s += r * r; } return s;";
    assert!(derivatives(square, 0.0, 2)[1].is_nan());
}

#[test]
fn integers_of_a_loop_lose_only_what_goes_through_them() {
    let counter =
        "var k = 0; var s = x; for (var i = 0; i < n; i++) { k += 2; s *= 0.5; } return f32(k) * s;";
    close(&derivatives(counter, 3.0, 3), &[2.25, 0.75, 0.75, 0.0, 0.0]);
    let counted = "var k = 0; var s = x; for (var i = 0; i < n; i++) { if (s > 1.0) { k += 1; } s = s * 0.75; } return s * f32(k);";
    let [y, first, pushed, curve, twice] = derivatives(counted, 1.5, 3);
    close(&[y, first, pushed, curve, twice], &[1.265625, 0.84375, 0.84375, 0.0, 0.0]);
    let nested = "var k = 0; var s = x; for (var i = 0; i < n; i++) { for (var j = 0; j < n; j++) { if (s > 1.0) { k += 1; } } s *= 0.75; } return f32(k) * x;";
    close(&derivatives(nested, 1.5, 2)[1..3], &[4.0, 4.0]);
    // two loops: the second one reads what the first counted
    let through = "var k = 0; for (var i = 0; i < n; i++) { k += i32(x * 4.0); } return f32(k) * x;";
    let text = format!("fn f(x: f32, n: i32) -> f32 {{ {through} }}");
    let (x, n) = (Tensor::new([1.3]), Tensor::new([3i32]));
    let y = function(&text, "f").call(&[&x, &n]);
    close(&numbers(&slope(&y, &x)), &[15.0]);
    close(&numbers(&jvp(&[&y], &[(&x, &Tensor::new([1.0]))]).unwrap()[0]), &[15.0]);
}

#[test]
fn a_rule_with_a_loop_runs_where_its_branch_is_taken() {
    let text = "fn g(a: f32) -> f32 { var s = a; while (s < 10.0) { s *= 2.0; } return s; }
        fn g_vjp(a: f32, u: f32) -> f32 { var s = u; var b = a; while (b < 10.0) { b *= 2.0; s *= 2.0; } return s; }
        fn f(x: f32) -> f32 { if (x > 0.0) { return g(x); } return 0.5 * x; }";
    let f = searching(text, "f");
    let x = Tensor::new([1.0, -1.0, 3.0]);
    let y = f.call(&[&x]);
    close(&numbers(&y), &[16.0, -0.5, 12.0]);
    close(&numbers(&slope(&y, &x)), &[16.0, 0.5, 4.0]);
}

#[test]
fn a_loop_that_values_end_is_written_out_for_few_rounds_only() {
    let long = "fn f(x: f32) -> f32 { var s = x; for (var i = 0; i < 200; i++) { s = cos(s); if (s < 0.1) { break; } } return s; }";
    let x = Tensor::new([0.5]);
    let count = |text: &str| topological([function(text, "f").call(&[&x]).node().unwrap()]).len();
    assert!(count(long) < 20, "{}", count(long));
    let short = long.replace("200", "8");
    assert!(count(&short) > 20, "{}", count(&short));
    close(&numbers(&function(&short, "f").call(&[&x])), &numbers(&searching(&short, "f").call(&[&x])));
}

#[test]
fn what_pointers_of_a_loop_point_to_has_a_name_in_the_derivative() {
    let text = "fn up(b: ptr<function, array<f32, 3>>, n: i32) {
            for (var i = 0; i < n; i++) { (*b)[0] = (*b)[1] * 0.5 + 1.0; (*b)[1] = (*b)[2]; (*b)[2] += (*b)[0]; }
        }
        fn f(x: f32, n: i32) -> f32 { var c = array<f32, 3>(1.0, 2.0, x); up(&c, n); return c[0] * c[1] + c[2]; }";
    let f = function(text, "f");
    let beside = format!("{text}\n{}", f.derivative().unwrap());
    let pullback = function(&beside, "f_vjp");
    let (x, n, one) = (Tensor::new([0.7]), Tensor::new([3i32]), Tensor::new([1.0]));
    let wanted = numbers(&slope(&f.call(&[&x, &n]), &x))[0];
    let got = numbers(&pullback.call(&[&x, &n, &one]))[0];
    assert!((got - wanted).abs() < 1e-6 && wanted != 0.0, "{got} {wanted}");
}

#[test]
fn a_rule_is_tried_anew_where_another_number_stands_in_its_loop() {
    let rule = |slope: &str| {
        let text = format!(
            "fn f(x: f32, n: i32) -> f32 {{ var s = 0.0; for (var i = 0; i < n; i++) {{ s += {slope} * x; }} return s; }}
            fn f_vjp(x: f32, n: i32, upstream: f32) -> f32 {{ return upstream * f32(n); }}"
        );
        let (x, n) = (Tensor::new([0.5]), Tensor::new([5i32]));
        grad(&function(&text, "f").call(&[&x, &n]).sum(..), &x).map(|_| ())
    };
    rule("1.0").unwrap();
    if cfg!(debug_assertions) {
        assert_eq!(rule("3.0").unwrap_err().code(), Code::RuleWrong);
    }
}

#[test]
fn a_bisection_has_a_lint() {
    let text = "fn root(c: f32) -> f32 {
        var lo = 0.0; var hi = 10.0;
        while (hi - lo > 1e-5) { let mid = 0.5 * (lo + hi); if (mid * mid < c) { lo = mid; } else { hi = mid; } }
        return lo;
    }";
    let lints = searching(text, "root").lints();
    assert!(lints.len() == 1 && lints[0].code == "LN1" && lints[0].message.contains("`c`"), "{lints:?}");
    assert!(searching(HERON, "heron").lints().is_empty() && function(GEO, "geo").lints().is_empty());
}

#[test]
fn a_rule_that_is_not_linear_has_no_tangent_in_a_loop() {
    // a gradient through a loop needs the forward mode of what is inside
    let text = "fn clip(x: f32) -> f32 { return x * x; }
        fn clip_vjp(x: f32, upstream: f32) -> f32 { return 2.0 * x * clamp(upstream, -1.0, 1.0); }
        fn f(x: f32, n: i32) -> f32 { var s = x; for (var i = 0; i < n; i++) { s = clip(s); } return s; }";
    let f = function(text, "f").surrogate("clip", "it clips").unwrap();
    let (x, n) = (Tensor::new([0.5]), Tensor::new([2i32]));
    let y = f.call(&[&x, &n]);
    close(&numbers(&y), &[0.0625]);
    assert_eq!(grad(&y.sum(..), &x).unwrap_err().code(), Code::WgslLinear);
}
