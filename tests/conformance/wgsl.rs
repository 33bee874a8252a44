//! G. Functions written in WGSL.

use crate::common::{Code, Error, Evaluate, Evaluator, Gradient, Tensor, explain, grad, hvp, vjp, wgsl};
use crate::harness::{Case, Findings};

pub const CASES: &[Case] = &[
    Case { label: "t73_slopes", origin: "Warp documentation", program: t73 },
    Case { label: "t74_safe_sqrt", origin: "Warp documentation", program: t74 },
    Case { label: "t75_rounds_from_an_argument", origin: "Warp documentation, Dynamic Loops", program: t75 },
    Case { label: "t76_array_overwrites", origin: "Warp documentation, Array Overwrites", program: t76 },
    Case { label: "t78_rule_of_two_results", origin: "Warp test_custom_overload_grad", program: t78 },
    Case {
        label: "t79_loops_and_returns",
        origin: "slang reverse-while-loop, reverse-continue-loop, reverse-multi-return",
        program: t79,
    },
    Case { label: "t81_cuts_are_named", origin: "slang autodiff-data-flow; warp #1736, #1466", program: t81 },
    Case { label: "programs_in_wgsl", origin: "the losses of T03 to T09, in WGSL", program: programs },
    Case { label: "t72_wgsl_branches", origin: "as t72, in WGSL", program: t72 },
    Case { label: "grad_command_table", origin: "CONFORMANCE, command line", program: command },
];

fn function(text: &str, name: &str) -> Result<wgsl::Function, Error> {
    wgsl::Module::parse("case.wgsl", text)?.function(name)
}

/// Value and slope of a function of one number.
fn slopes(f: &mut Findings, text: &str, at: &[f64], values: &str, expected: &str) -> Result<(), Error> {
    let x = Tensor::new(at.to_vec());
    let y = function(text, "f")?.call(&[&x]);
    f.value("value", &y, values);
    f.gradient("slope", &grad(&y.sum(..), &x)?, expected)
}

fn t73(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let text = "fn f(x: f32) -> f32 { return x * x + 3.0 * x + 1.0; }";
    slopes(f, text, &[1.0, 2.0, 3.0], "5 11 19", "5 7 9")?;
    let angle = function("fn f(y: f32, x: f32) -> f32 { return atan2(y, x); }", "f")?;
    let (y, x) = (Tensor::new([1.0, 1.0, 1.0]), Tensor::new([0.0, 1.0, 2.0]));
    let total = angle.call(&[&y, &x]).sum(..);
    f.gradient("∂y", &grad(&total, &y)?, "0 0.5 0.4")?;
    f.gradient("∂x", &grad(&total, &x)?, "-1 -0.5 -0.2")
}

fn t74(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let text = "fn f(x: f32) -> f32 { if x > 0.0 { return sqrt(x); } return 0.0; }
        fn f_vjp(x: f32, upstream: f32) -> f32 { if x > 0.0 { return 0.5 / sqrt(x) * upstream; } return 0.0; }";
    slopes(f, text, &[1.0, 2.0, 0.0], "1 1.41421356237 0", "0.5 0.353553390593 0")?;
    let bare = function("fn f(x: f32) -> f32 { return sqrt(x); }", "f")?;
    let x = Tensor::new([0.0, 4.0]);
    let slope = evaluator.evaluate(&[&grad(&bare.call(&[&x]).sum(..), &x)?.or_error()?])?;
    f.text("bare square root", format!("{:?}", slope[0].to_f64()), "[inf, 0.25]");
    Ok(())
}

/// The losses of the example programs; what is twice is the derivative of the derivative along ones.
fn programs(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let text = "
        fn soft_sign(x: f32) -> f32 { return select(-1.0, 1.0, x > 0.0); }
        fn soft_sign_vjp(x: f32, upstream: f32) -> f32 { let q = sigmoid(x); return upstream * q * (1.0 - q); }
        fn surrogate(x: f32, y: f32) -> f32 { let d = soft_sign(x) - y; return 0.5 * d * d; }
        fn weighted(p: f32, y: f32, w: f32) -> f32 { return w * (p - y) * (p - y); }
        fn hinge(p: f32, y: f32) -> f32 { return max(1.0 - y * p + 0.5, 0.0); }
        fn gaussian(eta: f32, y: f32) -> f32 { return 0.5 * (eta - y) * (eta - y); }
        fn poisson(eta: f32, y: f32) -> f32 { return exp(eta) - y * eta; }
        fn categorical(eta: array<f32, 3>, k: u32) -> f32 { return logsumexp3(eta) - eta[k]; }";
    let module = wgsl::Module::parse("programs.wgsl", text)?;
    let mut shows = |name: &str, loss: Tensor, x: &Tensor, [value, slope, twice]: [&str; 3]| {
        f.value(&format!("{name}: loss"), &loss, value);
        f.gradient(&format!("{name}: gradient"), &grad(&loss.sum(..), x)?, slope)?;
        let [along] = hvp(&loss.sum(..), [x], [&Tensor::ones(x.shape())])?;
        f.value(&format!("{name}: twice"), &along, twice);
        Ok::<(), Error>(())
    };
    let x = Tensor::new(3.0);
    let surrogate = module.function("surrogate")?.surrogate("soft_sign", "sign has no slope")?;
    let loss = surrogate.call(&[&x, &Tensor::new(-1.0)]);
    shows("T03", loss, &x, ["2", "0.0903533194618", "-0.0797422187374"])?;
    let prediction = Tensor::new([1.0, 2.0, 3.0, 4.0, 5.0]);
    let (target, weight) = (Tensor::new([1.5, 1.0, 3.0, 2.0, 6.0]), Tensor::new([1.0, 2.0, 1.0, 1.0, 3.0]));
    let loss = module.function("weighted")?.call(&[&prediction, &target, &weight]).mean(..);
    shows("T05", loss, &prediction, ["1.85", "-0.2 0.8 0 0.8 -1.2", "0.4 0.8 0.4 0.4 1.2"])?;
    let (p, y) = (Tensor::new([2.0, 1.0, -0.2, 1.5]), Tensor::new([1.0, 1.0, -1.0, 1.0]));
    let loss = module.function("hinge")?.call(&[&p, &y]);
    shows("T06", loss, &p, ["0 0.5 1.3 0", "0 -1 1 -0.5", "0 0 0 0"])?;
    let (points, y) = (Tensor::new([0.0, 0.5, 1.0, 1.5]), Tensor::new([1.0, 0.0, 2.0, 3.0]));
    for (name, number, slopes, twice) in [
        ("gaussian", "T08", ["-1.2875", "-1.175"], "0.875"),
        ("poisson", "T09", ["-0.441570766803", "-0.0964314874320"], "1.4281625855"),
    ] {
        let (w, b) = (Tensor::new(0.3), Tensor::new(0.1));
        let loss = module.function(name)?.call(&[&(&w * &points + &b), &y]).mean(..);
        let [dw, db] = grad(&loss, [&w, &b])?;
        f.gradient(&format!("{number}: dw"), &dw, slopes[0])?;
        f.gradient(&format!("{number}: db"), &db, slopes[1])?;
        f.gradient(&format!("{number}: dw twice"), &grad(&dw.or_error()?, &w)?, twice)?;
    }
    let (eta, k) = (Tensor::new([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), Tensor::new([2u32, 0]));
    let loss = module.function("categorical")?.rows(&[&eta, &k]).mean(..);
    f.value("T09: categorical", &loss, "0.753109126556");
    let slope =
        "0.0450152865852 0.122364235527 -0.167379522113 -0.333333333333 0.166666666667 0.166666666667";
    f.gradient("T09: its gradient", &grad(&loss, &eta)?, slope)?;
    let [along] = hvp(&loss, [&eta], [&Tensor::new([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])])?;
    f.value(
        "T09: its curvature",
        &along,
        "0.0409625345325 -0.0110165222601 -0.0299460122724 0.111111111111 -0.0555555555556 -0.0555555555556",
    );
    Ok(())
}

fn t75(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let text = "fn product(a: array<f32, 3>, n: i32) -> f32 {
        var p = 1.0;
        for (var i = 0; i < n; i++) { p *= a[i]; }
        return p;
    }";
    let a = Tensor::new([[2.0, 2.0, 2.0]]);
    let y = function(text, "product")?.rows(&[&a, &Tensor::new([3i32])]);
    f.value("value", &y, "8");
    f.gradient("slope", &grad(&y.sum(..), &a)?, "4 4 4")
}

fn t76(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    const PARTS: &[&str] = &["`a`", "5 │", "read here", "7 │", "overwritten here"];
    let text = "@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@compute @workgroup_size(4) fn square(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= arrayLength(&a) { return; }
  let value = a[id.x];
  b[id.x] = value * value;
  a[id.x] = 0.0;
}";
    let square = wgsl::Module::parse_kernels("case.wgsl", text)?.kernel("square")?;
    let square = square.output("a", [3]).output_like("b", "a");
    let a = Tensor::new([1.0, 2.0, 3.0]);
    let b = square.call(&[("a", &a)]);
    f.error("called", b.node(), Code::WgslInPlace, PARTS);
    f.error("differentiated", grad(&b.sum(..), &a), Code::WgslInPlace, PARTS);
    // what is right instead: an input that is only read, and a rule
    let text = text.replace("read_write> a", "read> a").replace("  a[id.x] = 0.0;\n", "");
    let square = wgsl::Module::parse_kernels("case.wgsl", &text)?.kernel("square")?.output_like("b", "a");
    let b = square.call(&[("a", &a)]);
    f.value("squares", &b, "1 4 9");
    let gradient = grad(&b.sum(..), &a)?;
    f.error("without a rule", gradient.or_error(), Code::WgslKernel, &["`square`", "vjp_kernel"]);
    let squared = square.vjp(|inputs, _, upstream| vec![Some(&inputs[0] * &upstream[0] * 2.0)]);
    let b = squared.call(&[("a", &a)]);
    f.gradient("with a rule", &grad(&b.sum(..), &a)?, "2 4 6")?;
    squared.verify(&[("a", &a)], evaluator).map(|_| ())
}

fn t78(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let text = "struct Two { first: f32, second: f32 }
        fn f(x: f32, y: f32) -> Two { return Two(x * 3.0 + y / 3.0, pow(y, 2.5)); }
        fn f_vjp(x: f32, y: f32, upstream: Two) -> Two {
            return Two(42.0 * x * upstream.first + 10.0 * y * upstream.second, 3.0 * y * upstream.second);
        }";
    let (x, y) = (Tensor::new([1.0, 2.0, 3.0]), Tensor::new([10.0, 11.0, 12.0]));
    let outputs = function(text, "f")?.surrogate("f", "as the case has it")?.fields(&[&x, &y]);
    let ones = Tensor::ones([3]);
    let gradients = vjp(&[(&outputs[0], &ones), (&outputs[1], &ones)], [&x, &y])?;
    f.gradient("x", &gradients[0], "142 194 246")?;
    f.gradient("y", &gradients[1], "30 33 36")
}

fn t79(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let eighth = "fn f(y: f32) -> f32 { var t = y; var i = 0; while i < 3 { t = t * t; i++; } return t; }";
    slopes(f, eighth, &[1.0, 0.4], "1 0.00065536", "8 0.0131072")?;
    let skips = "fn f(y: f32) -> f32 {
        var t = y;
        for (var i = 0; i < 3; i++) { if t > 4.0 { continue; } t = t * t; }
        return t; }";
    slopes(f, skips, &[2.0, 0.4], "16 0.00065536", "32 0.0131072")?;
    let returns = "fn f(y: f32) -> f32 { if y > 0.8 { return 10.0 * y; } if y > 0.6 { return 4.0 * y; } return 6.0 * y; }";
    slopes(f, returns, &[1.0, 0.4, 0.7], "10 2.4 2.8", "10 6 4")
}

fn t81(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([1.5]);
    let gradient =
        |text: &str| -> Result<Gradient, Error> { grad(&function(text, "f")?.call(&[&x]).sum(..), &x) };
    // through an integer: an error that says where
    let cut = "fn f(x: f32) -> f32 { return f32(i32(x)); }";
    f.state("through i32", &gradient(cut)?, "NotDifferentiable at cast");
    f.error("asked for", gradient(cut)?.or_error(), Code::NotDifferentiable, &["cast", "wgsl.rs"]);
    let loss = function(cut, "f")?.call(&[&x]).sum(..);
    let text = explain(&loss, &x).map_or_else(|error| error.to_string(), |found| found.to_string());
    f.text("explained", text.contains("cast") && text.contains("wgsl.rs"), true);
    let bits = "fn f(x: f32) -> f32 { return x + bitcast<f32>(bitcast<u32>(x) & 2147483647u); }";
    f.error("bitcast", function(bits, "f"), Code::WgslBitcast, &["case.wgsl:1:", "bitcast"]);
    let module = "var<private> seen: f32;\nfn f(x: f32) -> f32 { return x * seen; }";
    f.error("module variable", function(module, "f"), Code::WgslVariable, &["`seen`", "case.wgsl:2:"]);
    let builtin = "fn f(x: f32) -> f32 {\n  let parts = frexp(x);\n  return parts.fract;\n}";
    f.error("frexp", function(builtin, "f"), Code::WgslBuiltin, &["frexp", "case.wgsl:2:"]);
    let detached = "fn f(x: f32) -> f32 { return x * detach(x); }";
    f.gradient("detach", &gradient(detached)?, "1.5")
}

fn t72(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let root = "fn f(x: f32) -> f32 { if x > 0.0 { return sqrt(x); } return 0.0; }";
    slopes(f, root, &[0.0, 4.0], "0 2", "0 0.25")?;
    let soft = "fn f(z: f32) -> f32 { return select(log(1.0 + exp(z)), z, z > 20.0); }";
    slopes(f, soft, &[1000.0], "1000", "1")?;
    // a value that all rounds share: its conditions are joined by "or"
    let shared = "fn f(x: f32, y: f32) -> f32 {
        var b = y;
        for (var i = 0; i < 4; i++) { if 1.0 <= select(b, x, x > b) { b *= sqrt(x); } }
        return x * 0.5 + b; }";
    let (x, y) = (Tensor::new([-1.0]), Tensor::new([0.0]));
    let loss = function(shared, "f")?.call(&[&x, &y]).sum(..);
    f.gradient("∂x", &grad(&loss, &x)?, "0.5")
}

/// Value, gradient and diagonal of the Hessian, as `cotangent grad` gives them.
fn command(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    type Row = (&'static str, &'static str, &'static [&'static [f64]], [&'static str; 3]);
    let rows: [Row; 5] = [
        ("poly", "fn poly(x: f32) -> f32 { return x * x + 3.0 * x + 1.0; }", &[&[2.0]], ["11", "7", "2"]),
        (
            "hinge",
            "fn hinge(p: f32, y: f32, m: f32) -> f32 { return max(0.0, 1.0 - y * p + m); }",
            &[&[1.0], &[1.0], &[0.5]],
            ["0.5", "-1 -1 1", "0 0 0"],
        ),
        (
            "ring",
            "fn ring(v: vec3<f32>, t: f32) -> f32 { let d = length(v) - t; return d * d; }",
            &[&[1.0, 2.0, 2.0], &[2.5]],
            ["0.25", "0.333333333333 0.666666666667 0.666666666667 -1", "0.518518518519 1.07407407407 1.07407407407 2"],
        ),
        (
            "heron",
            "fn heron(a: f32) -> f32 { var x = a; while (abs(x * x - a) > 0.0009765625 * a) { x = 0.5 * (x + a / x); } return x; }",
            &[&[9.0]],
            ["3.00009155413", "0.166732790026", "-0.00922308792783"],
        ),
        (
            "ste",
            "fn s(x: f32) -> f32 { return sign(x); }
             fn s_vjp(x: f32, upstream: f32) -> f32 { let q = 1.0 / (1.0 + exp(-x)); return upstream * q * (1.0 - q); }
             fn ste(x: f32, y: f32) -> f32 { let d = s(x) - y; return 0.5 * d * d; }",
            &[&[3.0], &[-1.0]],
            ["2", "0.0903533194618 -2", "-0.0797422187374 1"],
        ),
    ];
    for (name, text, at, [value, first, second]) in rows {
        let inputs: Vec<Tensor> = at
            .iter()
            .map(|x| if x.len() == 1 { Tensor::new(x[0]) } else { Tensor::new(x.to_vec()) })
            .collect();
        let function = wgsl::Module::parse("case.wgsl", text)?.unbounded(1000).function(name)?;
        let function =
            if text.contains("s_vjp") { function.surrogate("s", "straight through")? } else { function };
        let result = function.rows(&inputs.iter().collect::<Vec<_>>());
        f.value(name, &result, value);
        let (mut slopes, mut curvatures) = (Vec::new(), Vec::new());
        for (input, x) in inputs.iter().zip(at) {
            slopes.push(grad(&result, input)?.or_zero().reshape([-1]));
            for k in 0..x.len() {
                let basis: Vec<f64> = (0..x.len()).map(|j| f64::from(u8::from(j == k))).collect();
                let direction = Tensor::new(basis).reshape(input.shape());
                let product = match hvp(&result, [input], [&direction]) {
                    Ok(product) => product[0].reshape([-1]).slice(0, k, k + 1, 1),
                    // a derivative that is constant has none of its own
                    Err(_) => Tensor::zeros([1]),
                };
                curvatures.push(product);
            }
        }
        let joined = |parts: &[Tensor]| Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0);
        f.value(&format!("{name}, gradient"), &joined(&slopes), first);
        f.value(&format!("{name}, Hessian"), &joined(&curvatures), second);
    }
    let text = "fn geo(x: f32, n: i32) -> f32 { var t = 1.0; var s = 0.0; for (var i = 0; i < n; i++) { t *= x; s += t; } return s; }";
    let x = Tensor::new(0.5);
    let geo = function(text, "geo")?.call(&[&x, &Tensor::new(4i32)]);
    f.value("geo", &geo, "0.9375");
    f.gradient("geo, gradient", &grad(&geo, &x)?, "3.25")?;
    f.value("geo, Hessian", &hvp(&geo, &x, &Tensor::new(1.0))?, "8");
    Ok(())
}
