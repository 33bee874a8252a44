//! What functions written in WGSL compute, and their derivatives, on the reference.
#![allow(clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "tests")]

use cotangent_autograd::{grad, hvp, jvp, vjp};
use cotangent_tensor::{Code, Evaluate, Reference, Tensor};
use cotangent_wgsl::{Function, Module};

fn function(text: &str, name: &str) -> Function {
    Module::parse("test.wgsl", text)
        .and_then(|module| module.function(name))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn numbers(tensors: &[&Tensor]) -> Vec<Vec<f64>> {
    let values = Reference::new().evaluate(tensors).unwrap_or_else(|error| panic!("{error}"));
    values.iter().map(|value| value.to_f64()).collect()
}

/// A number of the graph that keeps its f64.
fn exact(x: f64) -> Tensor {
    Tensor::full([], x)
}

#[track_caller]
fn close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{got:?} for {expected:?}");
    for (got, expected) in got.iter().zip(expected) {
        let near = (got - expected).abs() <= 1e-9 * expected.abs().max(1.0);
        assert!(near || got.is_nan() && expected.is_nan() || got == expected, "{got} for {expected}");
    }
}

/// Value, gradient and diagonal of the Hessian of a function of numbers.
fn orders(text: &str, name: &str, at: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
    orders_of(&function(text, name), at)
}
fn orders_of(f: &Function, at: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
    let inputs: Vec<Tensor> = at.iter().map(|&x| exact(x)).collect();
    let references: Vec<&Tensor> = inputs.iter().collect();
    let value = f.call(&references);
    let first: Vec<Tensor> = inputs.iter().map(|x| gradient(&value, x)).collect();
    let second: Vec<Tensor> = inputs.iter().zip(&first).map(|(x, first)| gradient(first, x)).collect();
    let value = numbers(&[&value])[0][0];
    let all = |tensors: &[Tensor]| numbers(&tensors.iter().collect::<Vec<_>>()).concat();
    (value, all(&first), all(&second))
}

/// A gradient, zero where nothing depends on the input.
fn gradient(of: &Tensor, by: &Tensor) -> Tensor {
    grad(of, by).unwrap_or_else(|error| panic!("{error}")).or_zero()
}

#[test]
fn polynomials_and_angles() {
    // T73
    let f = function("fn f(x: f32) -> f32 { return x * x + 3.0 * x + 1.0; }", "f");
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let y = f.call(&[&x]);
    let values = numbers(&[&y, &gradient(&y.sum(..), &x)]);
    close(&values[0], &[5.0, 11.0, 19.0]);
    close(&values[1], &[5.0, 7.0, 9.0]);
    let g = function("fn g(y: f32, x: f32) -> f32 { return atan2(y, x); }", "g");
    let (y, x) = (Tensor::new([1.0]), Tensor::new([0.0, 1.0, 2.0]));
    let angle = g.call(&[&y, &x]).sum(..);
    let y = Tensor::new([1.0, 1.0, 1.0]) * y;
    let angles = g.call(&[&y, &x]).sum(..);
    drop(angle);
    let values = numbers(&[&gradient(&angles, &y), &gradient(&angles, &x)]);
    close(&values[0], &[0.0, 0.5, 0.4]);
    close(&values[1], &[-1.0, -0.5, -0.2]);
}

#[test]
fn rules_written_beside_functions() {
    // T74: the rule, and the bare function
    let text = "fn safe_sqrt(x: f32) -> f32 { if x > 0.0 { return sqrt(x); } return 0.0; }
        fn safe_sqrt_vjp(x: f32, upstream: f32) -> f32 { if x > 0.0 { return 0.5 / sqrt(x) * upstream; } return 0.0; }
        fn bare(x: f32) -> f32 { return sqrt(x); }";
    let x = Tensor::new([1.0, 2.0, 0.0]);
    let slope = |name| numbers(&[&gradient(&function(text, name).call(&[&x]).sum(..), &x)]).remove(0);
    close(&slope("safe_sqrt"), &[0.5, 0.353553390593274, 0.0]);
    assert_eq!(slope("bare")[2], f64::INFINITY);
    // T78: a structure of two results, a structure of two gradients
    let text = "struct Two { a: f32, b: f32 }
        fn f(x: f32, y: f32) -> Two { return Two(x * 3.0 + y / 3.0, pow(y, 2.5)); }
        fn f_vjp(x: f32, y: f32, g: Two) -> Two { return Two(42.0 * x * g.a + 10.0 * y * g.b, 3.0 * y * g.b); }";
    let (x, y) = (Tensor::new([1.0, 2.0, 3.0]), Tensor::new([10.0, 11.0, 12.0]));
    let function = function(text, "f").surrogate("f", "the rule of the case").unwrap();
    let outputs = function.fields(&[&x, &y]);
    let ones = Tensor::ones([3]);
    let gradients = vjp(&[(&outputs[0], &ones), (&outputs[1], &ones)], [&x, &y]).unwrap();
    let [dx, dy] = [0, 1].map(|i| gradients[i].or_error().unwrap());
    let values = numbers(&[&dx, &dy]);
    close(&values[0], &[142.0, 194.0, 246.0]);
    close(&values[1], &[30.0, 33.0, 36.0]);
}

#[test]
fn loops_leave_in_every_way() {
    // T79
    let power = "fn f(y: f32) -> f32 { var t = y; var i = 0; while i < 3 { t = t * t; i++; } return t; }";
    for (at, slope) in [(1.0, 8.0), (0.4, 0.0131072)] {
        close(&orders(power, "f", &[at]).1, &[slope]);
    }
    let skip = "fn f(y: f32) -> f32 { var t = y; for (var i = 0; i < 3; i++) { if t > 4.0 { continue; } t = t * t; } return t; }";
    close(&orders(skip, "f", &[2.0]).1, &[32.0]);
    close(&orders(skip, "f", &[0.4]).1, &[0.0131072]);
    let returns = "fn f(y: f32) -> f32 { if y > 0.8 { return 10.0 * y; } if y > 0.6 { return 4.0 * y; } return 6.0 * y; }";
    for (at, slope) in [(1.0, 10.0), (0.4, 6.0), (0.7, 4.0)] {
        close(&orders(returns, "f", &[at]).1, &[slope]);
    }
    let leaves = "fn f(x: f32) -> f32 {
        var s = 0.0;
        for (var i = 0; i < 10; i++) { var n = 0; loop { s += x; if s > 3.0 { break; } n++; continuing { s += 0.25; break if s > 2.0 || n == 5; } } if s > 20.0 { return s * s; } }
        return s; }";
    // plain code of the same
    let plain = |x: f64| {
        let mut s = 0.0;
        for _ in 0..10 {
            for _ in 0..5 {
                s += x;
                if s > 3.0 {
                    break;
                }
                s += 0.25;
                if s > 2.0 {
                    break;
                }
            }
            if s > 20.0 {
                return s * s;
            }
        }
        s
    };
    for x in [0.5, 0.7, 1.3, 5.5, 8.0] {
        let (value, slopes, _) = orders(leaves, "f", &[x]);
        close(&[value], &[plain(x)]);
        close(&slopes, &[((plain(x + 1e-6) - plain(x - 1e-6)) / 2e-6 * 1e3).round() / 1e3]);
    }
}

#[test]
fn the_table_of_the_command_line() {
    let (value, first, second) =
        orders("fn poly(x: f32) -> f32 { return x * x + 3.0 * x + 1.0; }", "poly", &[2.0]);
    close(&[value, first[0], second[0]], &[11.0, 7.0, 2.0]);
    let hinge = "fn hinge(p: f32, y: f32, m: f32) -> f32 { return max(0.0, 1.0 - y * p + m); }";
    let (value, first, second) = orders(hinge, "hinge", &[1.0, 1.0, 0.5]);
    close(&[value], &[0.5]);
    close(&first, &[-1.0, -1.0, 1.0]);
    close(&second, &[0.0, 0.0, 0.0]);
    let ste = "fn s(x: f32) -> f32 { return sign(x); }
        fn s_vjp(x: f32, upstream: f32) -> f32 { let q = 1.0 / (1.0 + exp(-x)); return upstream * q * (1.0 - q); }
        fn ste(x: f32, y: f32) -> f32 { let d = s(x) - y; return 0.5 * d * d; }";
    let declared = function(ste, "ste").surrogate("s", "straight through").unwrap();
    let (value, first, second) = orders_of(&declared, &[3.0, -1.0]);
    close(&[value], &[2.0]);
    close(&first, &[0.0903533194618, -2.0]);
    close(&second, &[-0.0797422187374, 1.0]);
}

#[test]
fn vectors_and_arrays_lie_along_the_last_axis() {
    let ring =
        function("fn ring(v: vec3<f32>, t: f32) -> f32 { let d = length(v) - t; return d * d; }", "ring");
    let (v, t) = (Tensor::new([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]]), Tensor::new(2.5));
    let loss = ring.rows(&[&v, &t]);
    let total = loss.sum(..);
    let values = numbers(&[&loss, &gradient(&total, &v), &gradient(&total, &t)]);
    close(&values[0], &[0.25, 6.25]);
    close(&values[1], &[1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 0.0, 3.0, 4.0]);
    close(&values[2], &[-1.0 - 5.0]);
    let pick = "fn pick(z: array<f32, 3>, k: u32) -> f32 { return z[k] * z[0] + z[2] * z[2] * z[2]; }";
    let pick = function(pick, "pick");
    let (z, k) = (Tensor::new([0.5, -1.5, 2.0]), Tensor::new(1u32));
    let value = pick.rows(&[&z, &k]);
    let first = gradient(&value, &z);
    let values = numbers(&[&value, &first]);
    close(&values[0], &[7.25]);
    close(&values[1], &[-1.5, 0.5, 12.0]);
    let diagonal: Vec<f64> = (0..3)
        .map(|i| {
            let basis: Vec<f64> = (0..3).map(|j| f64::from(u8::from(i == j))).collect();
            let product = hvp(&value, [&z], [&Tensor::new(basis)]).unwrap()[0].clone();
            numbers(&[&product])[0][i]
        })
        .collect();
    close(&diagonal, &[0.0, 0.0, 12.0]);
    // a vector as the result
    let spin = function(
        "fn spin(v: vec2<f32>, a: f32) -> vec2<f32> { return mat2x2<f32>(cos(a), sin(a), -sin(a), cos(a)) * v; }",
        "spin",
    );
    let turned = spin.rows(&[&Tensor::new([[1.0, 0.0], [0.0, 2.0]]), &Tensor::new([0.0, 0.5])]);
    assert_eq!(turned.shape().elements(), 4);
    close(&numbers(&[&turned])[0], &[1.0, 0.0, -2.0 * 0.5f64.sin(), 2.0 * 0.5f64.cos()]);
}

#[test]
fn nothing_comes_from_the_side_that_was_not_taken() {
    // T72
    let root = "fn f(x: f32) -> f32 { if x > 0.0 { return sqrt(x); } return 0.0; }";
    close(&orders(root, "f", &[0.0]).1, &[0.0]);
    close(&orders(root, "f", &[4.0]).1, &[0.25]);
    let soft = "fn f(z: f32) -> f32 { return select(log(1.0 + exp(z)), z, z > 20.0); }";
    close(&orders(soft, "f", &[1000.0]).1, &[1.0]);
    close(&orders(soft, "f", &[1000.0]).2, &[0.0]);
    // the disjunction of guards
    let shared = "fn f(x: f32, y: f32) -> f32 {
        var b = y;
        for (var i = 0; i < 4; i++) { if 1.0 <= select(b, x, x > b) { b *= sqrt(x); } }
        return x * 0.5 + b; }";
    close(&orders(shared, "f", &[-1.0, 0.0]).1, &[0.5, 1.0]);
}

#[test]
fn integers_switches_and_structures() {
    let text = "struct Point { at: vec2<f32>, weight: f32 }
        const SCALE = 2.0;
        fn norm(p: Point) -> f32 { return p.weight * dot(p.at, p.at); }
        fn f(x: f32, y: f32, kind: i32) -> f32 {
            var p: Point;
            p.at = vec2<f32>(x, y);
            p.weight = SCALE;
            switch kind {
                case 0, 3: { p.at.x = 1.0; }
                case 1: { p.at[kind - 1] *= 3.0; if y > 0.0 { break; } p.weight = 5.0; }
                default: { p.weight += f32((kind << 2u) % 7); }
            }
            return norm(p);
        }";
    let f = function(text, "f");
    let (x, y) = (Tensor::new([1.5, 1.5, 1.5, 1.5, 1.5]), Tensor::new([2.0, 2.0, -2.0, 2.0, 2.0]));
    let kind = Tensor::new([0, 1, 1, 3, 2]);
    let loss = f.call(&[&x, &y, &kind]);
    let values = numbers(&[&loss, &gradient(&loss.sum(..), &x)]);
    close(&values[0], &[10.0, 2.0 * (20.25 + 4.0), 5.0 * 24.25, 10.0, 3.0 * 6.25]);
    close(&values[1], &[0.0, 2.0 * 2.0 * 9.0 * 1.5, 5.0 * 2.0 * 9.0 * 1.5, 0.0, 3.0 * 3.0]);
}

#[test]
fn forward_mode_and_second_order_agree() {
    let text = "fn f(x: f32, y: f32) -> f32 { return softplus(x * y) + logaddexp(x, y) + huber(x - y, 0.5) - lgamma(1.0 + x * x); }";
    let f = function(text, "f");
    let (x, y) = (exact(0.7), exact(-0.4));
    let value = f.call(&[&x, &y]);
    let tangent = jvp(&[&value], &[(&x, &exact(1.0))]).unwrap()[0].clone();
    let values = numbers(&[&tangent, &gradient(&value, &x)]);
    close(&values[0], &values[1]);
}

#[test]
fn shapes_and_types_are_checked() {
    let f = function("fn f(p: f32, k: i32) -> f32 { return p * f32(k); }", "f");
    let (p, k) = (Tensor::new([1.0, 2.0]), Tensor::new([1, 2]));
    let code = |tensor: Tensor| tensor.error().map(|error| (error.code(), error.to_string()));
    let (wrong, text) = code(f.call(&[&p])).unwrap();
    assert_eq!(wrong, Code::Wgsl);
    assert!(
        text.contains("1 tensors are given, and there are 2 parameters")
            && text.contains("f(p: f32, k: i32) -> f32"),
        "{text}"
    );
    let (wrong, text) = code(f.call(&[&p, &p])).unwrap();
    assert_eq!(wrong, Code::Dtype);
    assert!(text.contains("parameter `k` is i32") && text.contains("functions.rs"), "{text}");
    let (wrong, text) = code(f.call(&[&p, &Tensor::new([1, 2, 3])])).unwrap();
    assert_eq!(wrong, Code::Broadcast);
    assert!(text.contains("f: ") && text.contains("[2]") && text.contains("[3]"), "{text}");
    let rows = function("fn f(z: array<f32, 3>) -> f32 { return z[0]; }", "f");
    let (wrong, text) = code(rows.call(&[&p])).unwrap();
    assert!(wrong == Code::Wgsl && text.contains("`rows`"), "{text}");
    let (wrong, text) = code(rows.rows(&[&p])).unwrap();
    assert!(wrong == Code::Broadcast && text.contains("3 numbers are the last axis"), "{text}");
    assert!(code(f.call(&[&p, &k])).is_none());
}

#[test]
fn elements_of_matrices_are_read_and_written() {
    let text = "fn f(x: f32, y: f32, k: i32) -> f32 {
        var m = mat2x3<f32>(x, 2.0, 3.0, y, 5.0, 6.0);
        m[0][1] = y * y;
        m[1].z = x * y;
        m[k][2] = x;
        m[1][k] *= 2.0;
        return m[0][0] + 10.0 * m[0][1] + 100.0 * m[0][2] + 1000.0 * m[1][0] + m[1][1] + m[1][2];
    }";
    let f = function(text, "f");
    let (x, y) = (exact(1.5), exact(2.0));
    for (k, expected) in [
        (0, 1.5 + 40.0 + 150.0 + 1000.0 * 4.0 + 5.0 + 3.0),
        (1, 1.5 + 40.0 + 300.0 + 1000.0 * 2.0 + 10.0 + 1.5),
    ] {
        let value = f.call(&[&x, &y, &Tensor::new(k)]);
        close(&numbers(&[&value])[0], &[expected]);
    }
    let value = f.call(&[&x, &y, &Tensor::new(0)]);
    close(
        &numbers(&[&gradient(&value, &x), &gradient(&value, &y)]).concat(),
        &[1.0 + 100.0 + 2.0, 40.0 + 2000.0 + 1.5],
    );
}

#[test]
fn sums_of_exponentials_are_smooth_at_ties() {
    for (a, b) in [(1.0, 1.0), (-30.0, -30.0)] {
        let (value, first, second) =
            orders("fn f(a: f32, b: f32) -> f32 { return logaddexp(a, b); }", "f", &[a, b]);
        close(&[value], &[a + 2f64.ln()]);
        close(&first, &[0.5, 0.5]);
        close(&second, &[0.25, 0.25]);
    }
    let far = |a, b| orders("fn f(a: f32, b: f32) -> f32 { return logaddexp(a, b); }", "f", &[a, b]).0;
    close(&[far(-1e8, 3.0), far(2.0, -1e8), far(f64::NEG_INFINITY, 1.0)], &[3.0, 2.0, 1.0]);
    assert_eq!(far(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
}

#[test]
fn the_prelude_and_the_text_keep_their_own_functions() {
    let own = "fn softplus(x: f32) -> f32 { return 7.0 * x; } fn f(a: f32, b: f32) -> f32 { return logaddexp(a, b) + softplus(a); }";
    close(&[orders(own, "f", &[0.5, 1.0]).0], &[1.474_076_984_180_107 + 3.5]);
    let comment =
        "// our fn relu is not used /* const erf */\nfn f(x: f32) -> f32 { return relu(x) + erf(x); }";
    close(&[orders(comment, "f", &[-1.0]).0], &[-0.842_700_792_949_714_9]);
    let constant = "const erf = 2.0; struct huber { x: f32 } fn f(x: f32) -> f32 { let h = huber(x); return erf * h.x; }";
    close(&[orders(constant, "f", &[3.0]).0], &[6.0]);
    // a rule for a function of the prelude
    let leaky = "fn relu_vjp(x: f32, g: f32) -> f32 { return select(0.25, 1.0, x > 0.0) * g; } fn f(x: f32) -> f32 { return relu(x); }";
    let leaky = function(leaky, "f").surrogate("relu", "leaks").unwrap();
    close(&orders_of(&leaky, &[-1.0]).1, &[0.25]);
}

#[test]
fn a_rule_may_have_a_rule() {
    let text = "fn g(x: f32) -> f32 { return x * x; }
        fn g_vjp(x: f32, up: f32) -> f32 { return 2.0 * x * up; }
        struct Two { x: f32, up: f32 }
        fn g_vjp_vjp(x: f32, up: f32, h: f32) -> Two { return Two(2000.0 * up * h, 2.0 * x * h); }";
    let g = function(text, "g").surrogate("g_vjp", "a thousand times the curvature").unwrap();
    let (_, first, second) = orders_of(&g, &[1.5]);
    close(&first, &[3.0]);
    close(&second, &[2000.0]);
}

#[test]
fn powers_of_two_do_not_overflow_on_the_way() {
    let f = function("fn f(x: f32, e: i32) -> f32 { return ldexp(x, e); }", "f");
    let value = f.call(&[&exact(0.5), &Tensor::new([128, -140, 3, -3])]);
    let expected = [2f64.powi(127), 2f64.powi(-141), 4.0, 0.0625];
    for (got, expected) in numbers(&[&value])[0].iter().zip(expected) {
        assert_eq!(*got, expected);
    }
}

#[test]
fn errors_of_functions_have_the_line_of_the_call() {
    let module =
        Module::parse("test.wgsl", "fn f(x: f32) -> f32 { return bitcast<f32>(bitcast<i32>(x)); }").unwrap();
    let error = module.function("f").unwrap_err().to_string();
    assert!(error.contains("tests/functions.rs"), "{error}");
}

#[test]
fn logsumexp_is_there_for_every_length() {
    let text = "fn f(z: array<f32, 3>) -> f32 { return logsumexp3(z); }
        fn g(v: vec2<f32>) -> f32 { return logsumexp2(array(v.x, v.y)); }
        fn h(z: array<f32, 100>, n: i32) -> f32 { var s = 0.0; for (var i = 0; i < n; i++) { s += logsumexp100(z); } return s; }
        fn detach(x: f32) -> f32 { return 2.0 * x; }";
    let (z, v) = (Tensor::new([1000.0, 1001.0, -1000.0]), Tensor::new([f64::INFINITY, 1.0]));
    let (f, g, h) = (function(text, "f"), function(text, "g"), function(text, "h"));
    let (y, edge) = (f.rows(&[&z]), g.rows(&[&v]));
    let values = numbers(&[&y, &gradient(&y, &z), &edge, &gradient(&edge, &v)]);
    let p = 1.0 / (1.0 + 1.0f64.exp());
    close(&values[0], &[1001.0 + (-1.0f64).exp().ln_1p()]);
    close(&values[1], &[p, 1.0 - p, 0.0]);
    assert_eq!(values[2..], [vec![f64::INFINITY], vec![1.0, 0.0]]);
    let all: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.01).collect();
    let sum: f64 = all.iter().map(|x| x.exp()).sum();
    let (z, n) = (Tensor::new(all.clone()), Tensor::new(2i32));
    let y = h.rows(&[&z, &n]);
    close(&numbers(&[&y])[0], &[2.0 * sum.ln()]);
    let error =
        Module::parse("t.wgsl", "fn f(z: array<f32, 3>) -> f32 { return logsumexp(z); }").unwrap_err();
    assert!(error.to_string().contains("`logsumexp3`"), "{error}");
    let own = "fn logsumexp2(x: f32) -> f32 { return x; } fn f(x: f32) -> f32 { return logsumexp2(x); }";
    close(&numbers(&[&function(own, "f").call(&[&Tensor::new(3.0)])])[0], &[3.0]);
}
