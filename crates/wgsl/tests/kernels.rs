//! Whole kernels on the reference: what they compute, what is refused, and what their rules say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_autograd::{GradCheck, explain, grad, gradcheck};
use cotangent_tensor::{
    Arithmetic, Array, Bounded, Code, DType, Error, Evaluate, Op, Reference, Rounding, Shape, Tensor, bounded,
};
use cotangent_wgsl::{Kernel, Module};

const HEAD: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
";

fn kernel(text: &str, name: &str) -> Result<Kernel, Error> {
    Module::parse_kernels("k.wgsl", text)?.kernel(name)
}
/// A kernel from `x` to `y`.
fn main(body: &str) -> Result<Kernel, Error> {
    let head = "@compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3<u32>, \
                @builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>)";
    Ok(kernel(&format!("{HEAD}var<workgroup> tile: array<f32, 4>;\n{head} {{\n{body}\n}}"), "main")?
        .output_like("y", "x"))
}
fn values(tensor: &Tensor) -> Vec<f64> {
    Reference::new().evaluate(&[tensor]).unwrap()[0].to_f64()
}

#[test]
fn buffers_are_found_by_their_use() {
    let text = "
        @group(1) @binding(7) var<storage, read> b: array<vec4<f32>>;
        @group(0) @binding(3) var<storage, read> a: f32;
        @group(0) @binding(1) var<storage, read_write> out: array<f32, 8>;
        @group(0) @binding(0) var<storage, read> unused: array<f32>;
        @compute @workgroup_size(2) fn scaled(@builtin(global_invocation_id) id: vec3<u32>) {
            for (var k = 0u; k < 4u; k++) { out[4u * id.x + k] = a * b[id.x][k]; }
        }";
    let scaled = kernel(text, "scaled").unwrap().dispatch(|_| [1, 1, 1]);
    assert_eq!((scaled.inputs(), scaled.outputs()), (vec!["a", "b"], vec!["out"]));
    let b = Tensor::new([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]);
    let out = scaled.call(&[("b", &b), ("a", &Tensor::new(2.0))]);
    assert_eq!(out.shape()[..], [8]);
    assert_eq!(values(&out), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]);
}

#[test]
fn outputs_start_as_zeros_and_keep_their_shapes() {
    let some = main("if id.x == 1u { y[id.x] = x[id.x]; }").unwrap();
    let out = some.call(&[("x", &Tensor::new([[1.0, 2.0], [3.0, 4.0]]))]);
    assert_eq!((&out.shape()[..], values(&out)), (&[2, 2][..], vec![0.0, 2.0, 0.0, 0.0]));
    // several outputs, in the order of their bindings
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> b: array<f32>;
        @group(0) @binding(1) var<storage, read_write> a: array<f32>;
        @compute @workgroup_size(4) fn both(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { a[id.x] = x[id.x] + 1.0; b[2u * id.x + 1u] = -x[id.x]; }
        }";
    let both = kernel(text, "both").unwrap().output_like("a", "x");
    let both = both.output_by("b", |inputs: &[Shape]| vec![inputs[0][0], 2]);
    let outputs = both.call_all(&[("x", &Tensor::new([1.0, 2.0, 3.0]))]);
    assert_eq!(values(&outputs[0]), [2.0, 3.0, 4.0]);
    assert_eq!(
        (&outputs[1].shape()[..], values(&outputs[1])),
        (&[3, 2][..], vec![0.0, -1.0, 0.0, -2.0, 0.0, -3.0])
    );
}

#[test]
fn atomics_accumulate_from_zeros() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>, 3>;
        @compute @workgroup_size(4) fn histogram(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { atomicAdd(&counts[x[id.x]], 1u); }
        }";
    let histogram = kernel(text, "histogram").unwrap().dispatch(|inputs| [inputs[0][0].div_ceil(4), 1, 1]);
    let x = Tensor::new([0u32, 2, 2, 1, 2]);
    let counts = histogram.call(&[("x", &x)]);
    assert_eq!((counts.dtype(), values(&counts)), (DType::U32, vec![1.0, 1.0, 3.0]));
    histogram.verify(&[("x", &x)], &Reference::new()).unwrap();
}

#[test]
fn what_is_read_and_overwritten_is_refused_but_where_it_accumulates() {
    let body = "if id.x < arrayLength(&x) { for (var k = 0u; k < 3u; k++) { y[id.x] += x[id.x]; } }";
    let x = Tensor::new([1.0, 2.0]);
    let tripled = main(body).unwrap();
    assert_eq!(tripled.call(&[("x", &x)]).error().unwrap().code(), Code::WgslInPlace);
    assert_eq!(values(&tripled.accumulates("y").call(&[("x", &x)])), [3.0, 6.0]);
}

#[test]
fn every_mistake_of_a_text_has_its_code() {
    let binding = |n: u32, name: &str| {
        format!("@group(0) @binding({n}) var<storage, read_write> {name}: array<f32>;\n")
    };
    let entry = |body: &str| format!("@compute @workgroup_size(4) fn main() {{ {body} }}");
    let cases: Vec<(String, Code, &[&str])> = vec![
        (
            binding(0, "a") + &binding(0, "b") + &entry("a[0] = 1.0; b[0] = 1.0;"),
            Code::WgslBinding,
            &["`a` and `b`", "@binding(0)", "k.wgsl:1:", "2 │"],
        ),
        (
            "var<storage, read_write> a: array<f32>;\n".to_string() + &entry("a[0] = 1.0;"),
            Code::WgslBinding,
            &["`a`", "k.wgsl:1:"],
        ),
        (
            format!("{HEAD}{}", entry("x[0] = 1.0; y[0] = 2.0;")),
            Code::WgslBinding,
            &["`x` is declared read-only", "4 │", "written here"],
        ),
        (format!("{HEAD}{}", entry("let a = y[0];")), Code::WgslBinding, &["`y` is declared `read_write`"]),
        (format!("{HEAD}{}", entry("let a = x[0];")), Code::WgslBinding, &["`main` writes no buffer"]),
        (
            format!("{HEAD}@compute @workgroup_size(4) fn mian() {{ y[0] = 1.0; }}"),
            Code::WgslBinding,
            &["no entry point `main`", "`mian` is meant"],
        ),
        (
            "@group(0) @binding(0) var<uniform> n: u32;\n".to_string()
                + &binding(1, "y")
                + &entry("y[n] = 1.0;"),
            Code::WgslBinding,
            &["`n` is no storage buffer", "var<storage, read>"],
        ),
        (
            "struct S { a: f32, b: u32 }\n@group(0) @binding(0) var<storage, read_write> s: array<S>;\n"
                .to_string()
                + &entry("s[0].a = 1.0;"),
            Code::WgslType,
            &["`s`", "padding"],
        ),
        (
            "@group(0) @binding(0) var<storage, read_write> v: array<vec3<f32>>;\n".to_string()
                + &entry("v[0] = vec3(1.0);"),
            Code::WgslType,
            &["`v`"],
        ),
        (
            "@group(5) @binding(0) var<storage, read_write> v: array<f32>;\n".to_string()
                + &entry("v[0] = 1.0;"),
            Code::Limit,
            &["@group(5)"],
        ),
        (
            format!("{HEAD}@compute @workgroup_size(0) fn main() {{ y[0] = 1.0; }}"),
            Code::Limit,
            &["0 × 1 × 1"],
        ),
        (
            format!("{HEAD}@compute @workgroup_size(2000) fn main() {{ y[0] = 1.0; }}"),
            Code::Limit,
            &["2000", "1024"],
        ),
        (
            format!("{HEAD}@compute @workgroup_size(64, 64) fn main() {{ y[0] = 1.0; }}"),
            Code::Limit,
            &["4096"],
        ),
        (
            format!(
                "{HEAD}var<workgroup> t: array<f32, 10000>;\nvar<workgroup> u: array<f32, 10000>;\n{}",
                entry("t[0] = 1.0; u[0] = 1.0; y[0] = t[1] + u[1];")
            ),
            Code::Limit,
            &["80000 bytes", "`t` 40000"],
        ),
        (
            format!("{HEAD}override n = 4;\n@compute @workgroup_size(n) fn main() {{ y[0] = 1.0; }}"),
            Code::WgslUnsupported,
            &["override"],
        ),
        (
            "@group(0) @binding(0) var<storage, read_write> a: array<atomic<f32>>;\n".to_string()
                + &entry("atomicAdd(&a[0], 1.0);"),
            Code::Feature,
            &["atomics of floats"],
        ),
        (format!("{HEAD}{}", entry("var z: u64 = 1; y[0] = f32(z);")), Code::Feature, &["u64"]),
        (format!("{HEAD}{}", entry("var z: f64 = 1.0; y[0] = f32(z);")), Code::Feature, &["f64"]),
        (
            format!("enable f16;\n{HEAD}{}", entry("var z: f16 = 1.0h; y[0] = f32(z);")),
            Code::Feature,
            &["f16"],
        ),
        (
            format!("enable subgroups;\n{HEAD}{}", entry("y[0] = subgroupAdd(x[0]);")),
            Code::Feature,
            &["subgroups"],
        ),
        (format!("{HEAD}{}", entry("y[0] = subgroupAdd(x[0]);")), Code::Feature, &["extension", "k.wgsl:4:"]),
        (
            format!(
                "{HEAD}fn f(a: ptr<function, f32>, b: ptr<function, f32>) {{ *a = *b; }}\n{}",
                entry("var z = x[0]; f(&z, &z); y[0] = z;")
            ),
            Code::WgslAlias,
            &["`f`", "`z`", "k.wgsl:5:"],
        ),
        (
            format!(
                "{HEAD}var<private> p: f32;\nfn f(a: ptr<private, f32>) {{ *a = p; }}\n{}",
                entry("f(&p); y[0] = p;")
            ),
            Code::WgslAlias,
            &["by its name"],
        ),
    ];
    for (text, code, parts) in cases {
        let error = kernel(&text, "main").expect_err(&text);
        let shown = error.to_string();
        assert_eq!(error.code(), code, "{shown}\n{text}");
        assert!(parts.iter().all(|part| shown.contains(part)), "{parts:?} in {shown}");
    }
    // what only reads through both pointers, and two different variables
    let fine = format!(
        "{HEAD}fn f(a: ptr<function, f32>, b: ptr<function, f32>) -> f32 {{ return *a + *b; }}\n{}",
        entry("var z = x[0]; y[0] = f(&z, &z);")
    );
    assert!(kernel(&fine, "main").is_ok());
}

#[test]
fn barriers_in_varying_control_are_found_and_others_are_not() {
    let wrong = [
        "if id.x == 0u { workgroupBarrier(); } y[id.x] = 1.0;",
        "if id.x >= arrayLength(&x) { return; } workgroupBarrier(); y[id.x] = 1.0;",
        "for (var k = 0u; k < lane; k++) { workgroupBarrier(); } y[id.x] = 1.0;",
        "loop { if lane > 1u { break; } workgroupBarrier(); } y[id.x] = 1.0;",
        "tile[lane] = 1.0; workgroupBarrier(); if tile[0] > 0.5 { workgroupBarrier(); } y[id.x] = 1.0;",
        "switch lane { case 0u: { workgroupBarrier(); } default: { } } y[id.x] = 1.0;",
        "var n = 4u; if lane == 0u { n = 2u; } for (var k = 0u; k < n; k++) { workgroupBarrier(); } y[id.x] = 1.0;",
        "if x[lane] > 0.0 { storageBarrier(); } y[id.x] = 1.0;",
    ];
    for body in wrong {
        let error = main(body).expect_err(body);
        assert_eq!(error.code(), Code::WgslUniformity, "{error}");
        assert!(error.to_string().contains("this barrier"), "{error}");
    }
    let fine = [
        "tile[lane] = 1.0; for (var s = 2u; s > 0u; s >>= 1u) { workgroupBarrier(); if lane < s { tile[lane] += tile[lane + s]; } } y[id.x] = 1.0;",
        "if group.x == 0u { workgroupBarrier(); } y[id.x] = 1.0;",
        "if x[0] > 0.0 { workgroupBarrier(); } y[id.x] = 1.0;",
        "if arrayLength(&x) > 3u { workgroupBarrier(); } y[id.x] = 1.0;",
        "if lane > 1u { y[id.x] = 2.0; } workgroupBarrier(); y[id.x] = 1.0;",
        "for (var k = 0u; k < 3u; k++) { if lane == k { continue; } y[id.x] = 1.0; } workgroupBarrier();",
        "let n = workgroupUniformLoad(&tile[0]); if n == 0.0 { workgroupBarrier(); } y[id.x] = 1.0;",
        "for (var k = 0u; k < lane; k++) { y[id.x] = 1.0; } workgroupBarrier();",
    ];
    for body in fine {
        main(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    // through functions
    let through = |argument: &str| {
        format!(
            "{HEAD}fn wait(n: u32) {{ if n == 0u {{ workgroupBarrier(); }} }}\n@compute @workgroup_size(4) \
             fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {{ wait({argument}); y[lane] = 1.0; }}"
        )
    };
    assert!(kernel(&through("group.x"), "main").is_ok());
    // memory of each invocation behind a pointer
    let shared = format!(
        "{HEAD}var<private> n: u32;\nfn wait(p: ptr<private, u32>) {{ if *p == 0u {{ workgroupBarrier(); }} }}\n\
         @compute @workgroup_size(4) fn main() {{ wait(&n); y[0] = 1.0; }}"
    );
    assert_eq!(kernel(&shared, "main").unwrap_err().code(), Code::WgslUniformity);
    let error = kernel(&through("lane"), "main").unwrap_err();
    assert_eq!(error.code(), Code::WgslUniformity, "{error}");
}

#[test]
fn every_mistake_of_a_call_is_an_invalid_tensor_with_the_line() {
    let same = main("if id.x < arrayLength(&x) { y[id.x] = x[id.x]; }").unwrap();
    let bare =
        kernel(&format!("{HEAD}@compute @workgroup_size(4) fn main() {{ y[0] = x[0]; }}"), "main").unwrap();
    let square =
        kernel(&format!("{HEAD}@compute @workgroup_size(4, 4) fn main() {{ y[0] = x[0]; }}"), "main")
            .unwrap();
    let x = Tensor::new([1.0, 2.0]);
    let cases: Vec<(Tensor, Code, &str)> = vec![
        (same.call(&[]), Code::WgslBinding, "`x` is given 0 times"),
        (same.call(&[("x", &x), ("x", &x)]), Code::WgslBinding, "`x` is given 2 times"),
        (same.call(&[("z", &x)]), Code::WgslBinding, "no input `z`; there are: x"),
        (same.call(&[("x", &Tensor::new([1i32]))]), Code::Dtype, "`x` is f32 in the text"),
        (same.call(&[("x", &Tensor::new([true]))]), Code::Dtype, ".cast(DType::F32)"),
        (same.call(&[("x", &Tensor::zeros([0]))]), Code::WgslBinding, "at least one number"),
        (same.call(&[("x", &x.reshape([7]))]), Code::Reshape, ""),
        (bare.call(&[("x", &x)]), Code::WgslBinding, "nobody says the shape of output `y`"),
        (bare.clone().output_like("y", "q").call(&[("x", &x)]), Code::WgslBinding, "no input `q`"),
        (bare.clone().output("q", [1]).call(&[("x", &x)]), Code::WgslBinding, "no output `q`; there are: y"),
        (
            bare.clone().output_by("y", |inputs| vec![inputs[7][0]]).call(&[("x", &x)]),
            Code::UserPanic,
            "`y` panicked",
        ),
        (bare.clone().output("y", [0]).call(&[("x", &x)]), Code::WgslBinding, "at least one number"),
        (
            bare.clone().output("y", [1]).dispatch(|_| [0, 1, 1]).call(&[("x", &x)]),
            Code::Limit,
            "0 of [0, 1, 1] workgroups",
        ),
        (bare.output("y", [1]).dispatch(|_| [1, 70_000, 1]).call(&[("x", &x)]), Code::Limit, "70000"),
        (square.output("y", [1]).call(&[("x", &x)]), Code::WgslBinding, "say it with `dispatch`"),
    ];
    for (tensor, code, part) in cases {
        let error = tensor.error().unwrap_or_else(|| panic!("no error where {code} is expected: {part}"));
        assert_eq!(error.code(), code, "{error}");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("kernels.rs"), "{part} in {text}");
    }
    // outputs of two types
    let text = "
        @group(0) @binding(0) var<storage, read_write> a: array<f32, 2>;
        @group(0) @binding(1) var<storage, read_write> b: array<u32, 2>;
        @compute @workgroup_size(1) fn main() { a[0] = 1.0; b[0] = 1u; }";
    let two = kernel(text, "main").unwrap();
    assert_eq!(two.call_all(&[])[0].error().unwrap().code(), Code::Dtype);
    assert_eq!(two.call(&[]).error().unwrap().code(), Code::Dtype);
}

#[test]
fn half_precision_is_converted() {
    let same = main("if id.x < arrayLength(&x) { y[id.x] = x[id.x]; }").unwrap();
    let x = Tensor::new([1.5, 2.5]).cast(DType::F16);
    assert_eq!(values(&same.call(&[("x", &x)])), [1.5, 2.5]);
}

#[test]
fn the_interpreter_finds_what_adapters_hide() {
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let verify = |body: &str| main(body).unwrap().verify(&[("x", &x)], &Reference::new());
    assert!(verify("if id.x < arrayLength(&x) { y[id.x] = x[id.x]; }").is_ok());
    let cases = [
        ("y[id.x] = x[id.x];", Code::WgslBounds),
        ("y[0] = x[0] + f32(id.x);", Code::WgslRace),
        ("if id.x < 2u { y[id.x] = x[id.x]; }", Code::WgslBinding),
        ("loop { if x[0] > 2.0 { break; } }\nif id.x < 3u { y[id.x] = 1.0; }", Code::WgslFuel),
        ("if id.x < 3u { tile[lane] = x[id.x]; y[id.x] = tile[2u - lane]; }", Code::WgslRace),
    ];
    for (body, code) in cases {
        let error = verify(body).expect_err(body);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("kernels.rs"), "{error}");
    }
    // and so does a run on the reference
    let outside = main("y[id.x] = x[id.x];").unwrap().call(&[("x", &x)]);
    assert_eq!(Reference::new().evaluate(&[&outside]).unwrap_err().code(), Code::WgslBounds);
}

const RULES: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(4) fn curve(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) { y[id.x] = sin(x[id.x]) * w[id.x]; }
}
@group(0) @binding(2) var<storage, read> d_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_x: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_w: array<f32>;
@compute @workgroup_size(4) fn curve_vjp(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) {
        d_x[id.x] = cos(x[id.x]) * w[id.x] * d_y[id.x];
        d_w[id.x] = sin(x[id.x]) * d_y[id.x];
    }
}
@compute @workgroup_size(4) fn wrong_vjp(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) {
        d_x[id.x] = cos(x[id.x]) * w[id.x] * d_y[id.x] * 1.001;
        d_w[id.x] = sin(x[id.x]) * d_y[id.x];
    }
}
@compute @workgroup_size(4) fn half_vjp(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) { d_x[id.x] = cos(x[id.x]) * w[id.x] * d_y[id.x]; }
}
@compute @workgroup_size(4) fn constant_vjp(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) { d_x[id.x] = w[id.x]; d_w[id.x] = d_y[id.x] + 1.0; }
}
";

fn curve(rule: &str) -> Kernel {
    let module = Module::parse_kernels("rules.wgsl", RULES).unwrap();
    let curve = module.kernel("curve").unwrap().output_like("y", "x");
    if rule.is_empty() { curve } else { curve.vjp_kernel(module.kernel(rule).unwrap()) }
}
fn points() -> [Tensor; 2] {
    [Tensor::new([0.3, -1.2, 2.0, 0.7, 1.1]), Tensor::new([1.0, 2.0, -0.5, 0.25, 3.0])]
}

#[test]
fn a_rule_that_is_right_passes_and_a_planted_mistake_is_found() {
    let [x, w] = points();
    let checked = |kernel: Kernel| {
        let function = move |[x, w]: [Tensor; 2]| kernel.call(&[("x", &x), ("w", &w)]);
        gradcheck(function, [&x, &w], &Reference::new()).unwrap()
    };
    let report = checked(curve("curve_vjp"));
    assert!(report.is_ok(), "{report}");
    assert!(report.compared.differences >= 20, "{report}");
    let wrong = checked(curve("wrong_vjp"));
    assert_eq!(wrong.findings.first().unwrap().code(), Code::RuleWrong, "{wrong}");
    let text = wrong.findings[0].to_string();
    assert!(text.contains("curve") && text.contains("`x`"), "{text}");
    let affine = checked(curve("constant_vjp"));
    assert_eq!(affine.findings.first().unwrap().code(), Code::RuleLinear, "{affine}");
    // the same as a closure
    let closure = |factor: f64| {
        curve("").vjp(move |inputs, _, upstream| {
            let (x, w, up) = (&inputs[0], &inputs[1], &upstream[0]);
            vec![Some(x.cos() * w * up * factor), Some(x.sin() * up)]
        })
    };
    assert!(checked(closure(1.0)).is_ok());
    assert_eq!(checked(closure(0.99)).findings.first().unwrap().code(), Code::RuleWrong);
    let declared = checked(closure(0.99).surrogate("a test"));
    assert!(declared.is_ok() && declared.surrogates.len() == 1, "{declared}");
}

#[test]
fn without_a_rule_there_is_no_gradient_and_never_a_wrong_one() {
    let [x, w] = points();
    let loss = curve("").call(&[("x", &x), ("w", &w)]).sum(..);
    let error = grad(&loss, &x).unwrap().or_error().unwrap_err();
    assert_eq!(error.code(), Code::WgslKernel);
    let text = error.to_string();
    assert!(
        text.contains("`curve`") && text.contains("`vjp_kernel`") && text.contains("kernels.rs"),
        "{text}"
    );
    // a rule without a gradient for `w`
    let loss = curve("half_vjp").call(&[("x", &x), ("w", &w)]).sum(..);
    assert!(grad(&loss, &x).unwrap().or_error().is_ok());
    let error = grad(&loss, &w).unwrap().or_error().unwrap_err().to_string();
    assert!(error.contains("no output `d_w`"), "{error}");
    // a second derivative needs a rule of the rule
    let loss = curve("curve_vjp").call(&[("x", &x), ("w", &w)]).sum(..);
    let slope = grad(&loss, &x).unwrap().or_error().unwrap();
    let error = grad(&slope.sum(..), &x).unwrap().or_error().unwrap_err();
    assert_eq!(error.code(), Code::WgslKernel, "{error}");
    assert!(error.to_string().contains("`curve_vjp`"), "{error}");
    // forward mode
    let error = cotangent_autograd::jvp(&[&loss], &[(&x, &x)]).unwrap_err();
    assert_eq!(error.code(), Code::NoJvp, "{error}");
    // many examples
    let rows = Tensor::stack(&[&x, &x], 0);
    let kernel = curve("curve_vjp");
    let many = cotangent_autograd::batch([&rows], |[x]: [Tensor; 1]| kernel.call(&[("x", &x), ("w", &w)]));
    assert_eq!(many.error().unwrap().code(), Code::NoBatchRule);
}

#[test]
fn rules_that_cannot_fit_are_refused() {
    let cases = [
        (
            "@group(0) @binding(0) var<storage, read> q: array<f32>;\n@group(0) @binding(1) var<storage, read_write> d_x: array<f32>;\n",
            "d_x[0] = q[0];",
            "`q` is nothing that is given",
        ),
        (
            "@group(0) @binding(0) var<storage, read> d_y: array<f32>;\n@group(0) @binding(1) var<storage, read_write> d_q: array<f32>;\n",
            "d_q[0] = d_y[0];",
            "`d_q` is nothing that is a gradient",
        ),
        (
            "@group(0) @binding(0) var<storage, read> d_y: array<u32>;\n@group(0) @binding(1) var<storage, read_write> d_x: array<f32>;\n",
            "d_x[0] = f32(d_y[0]);",
            "`d_y` is u32, not f32",
        ),
    ];
    let [x, w] = points();
    for (head, body, part) in cases {
        let rule = kernel(&format!("{head}@compute @workgroup_size(4) fn r() {{ {body} }}"), "r").unwrap();
        let y = curve("").vjp_kernel(rule).call(&[("x", &x), ("w", &w)]);
        let error = y.error().unwrap();
        assert_eq!(error.code(), Code::WgslRule, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// The bound of a kernel on the values of its operands, its f64 values and those of an f32 machine.
fn bound_of(y: &Tensor) -> (Bounded, Vec<f64>) {
    let node = y.node().unwrap().clone();
    let operands: Vec<Tensor> = node.operands.iter().map(|o| Tensor::from_node(o.clone())).collect();
    let values = Reference::rounded().evaluate(&operands.iter().collect::<Vec<_>>()).unwrap();
    let given = node.operands.iter().map(|o| o.key()).zip(values.iter().cloned()).collect();
    let bound = bounded(std::slice::from_ref(&node), &given, &Arithmetic::default()).unwrap().remove(0);
    let Op::Kernel(kernel) = &node.op else { panic!("a kernel") };
    let numbers: Vec<Vec<f64>> = values.iter().map(Array::to_f64).collect();
    let numbers: Vec<&[f64]> = numbers.iter().map(Vec::as_slice).collect();
    (bound, kernel.meaning.run(kernel, &numbers, Rounding::Single).unwrap())
}

#[test]
fn the_estimated_bound_lets_rounding_pass_and_nothing_larger() {
    let body = "
        if id.x < arrayLength(&x) {
            var sum = 0.0;
            for (var k = 0u; k < 50u; k++) { sum += exp(sin(x[id.x] * f32(k))) / f32(k + 1u); }
            y[id.x] = sum;
        }";
    let x: Vec<f64> = (0..40).map(|i| f64::from(i) * 0.37 - 3.0).collect();
    let (bound, single) = bound_of(&main(body).unwrap().call(&[("x", &Tensor::new(x))]));
    let mut differing = 0;
    for (i, &got) in single.iter().enumerate() {
        let (value, allowed) = (bound.value[i], bound.bound[i]);
        assert!(bound.accepts(i, got), "{got} is outside of {value} ± {allowed}");
        assert!(allowed > 0.0 && allowed < 2e-4 * value.abs(), "{value} ± {allowed}");
        assert!(!bound.accepts(i, value * (1.0 + 1e-3)));
        differing += usize::from(got.to_bits() != value.to_bits());
    }
    assert!(differing > 30, "an f32 machine rounds");
    // integers are exact, and what rounding decides is known by nobody
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<i32>;
        @compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { y[id.x] = i32(sqrt(x[id.x]) * sqrt(x[id.x]) + 0.5 * x[id.x]); }
        }";
    let counted = kernel(text, "main").unwrap().output_like("y", "x");
    let (bound, _) = bound_of(&counted.call(&[("x", &Tensor::new([4.3, 2.0, 9.1]))]));
    assert_eq!((bound.bound[0], bound.bound[2]), (0.0, 0.0));
    assert!(
        bound.bound[1].is_infinite(),
        "3 or 2, as the square of a root of 2 is rounded: {:?}",
        bound.bound
    );
}

#[test]
fn a_rule_of_the_rule_serves_second_derivatives() {
    let second = "
        @group(0) @binding(3) var<storage, read> d_d_x: array<f32>;
        @group(0) @binding(4) var<storage, read> d_d_w: array<f32>;
        @group(0) @binding(5) var<storage, read_write> d_d_y: array<f32>;
        @group(0) @binding(6) var<storage, read_write> d_x: array<f32>;
        @group(0) @binding(7) var<storage, read_write> d_w: array<f32>;
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read> w: array<f32>;
        @group(0) @binding(2) var<storage, read> d_y: array<f32>;
        @compute @workgroup_size(4) fn curve_vjp_vjp(@builtin(global_invocation_id) id: vec3<u32>) {
            let i = id.x;
            if i >= arrayLength(&x) { return; }
            let s = sin(x[i]); let c = cos(x[i]);
            d_x[i] = -s * w[i] * d_y[i] * d_d_x[i] + c * d_y[i] * d_d_w[i];
            d_w[i] = c * d_y[i] * d_d_x[i];
            d_d_y[i] = c * w[i] * d_d_x[i] + s * d_d_w[i];
        }";
    let [x, w] = points();
    let check = |text: &str| {
        let module = Module::parse_kernels("rules.wgsl", RULES).unwrap();
        let pullback = module.kernel("curve_vjp").unwrap();
        let pullback = pullback.vjp_kernel(kernel(text, "curve_vjp_vjp").unwrap());
        let curve = module.kernel("curve").unwrap().output_like("y", "x").vjp_kernel(pullback);
        let function = move |[x, w]: [Tensor; 2]| curve.call(&[("x", &x), ("w", &w)]);
        GradCheck::new().order(2).run(function, [&x, &w], &Reference::new()).unwrap()
    };
    let report = check(second);
    assert!(report.is_ok(), "{report}");
    let report = check(&second.replace("-s * w", "s * w"));
    assert!(!report.is_ok(), "{report}");
    // a closure is a graph, which has derivatives of every order
    let closure = curve("").vjp(|inputs, _, upstream| {
        vec![Some(inputs[0].cos() * &inputs[1] * &upstream[0]), Some(inputs[0].sin() * &upstream[0])]
    });
    let function = move |[x, w]: [Tensor; 2]| closure.call(&[("x", &x), ("w", &w)]);
    let report = GradCheck::new().order(2).run(function, [&x, &w], &Reference::new()).unwrap();
    assert!(report.is_ok(), "{report}");
}

#[test]
fn cotangents_of_several_outputs_arrive_by_name_and_missing_ones_are_zeros() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> a: array<f32>;
        @group(0) @binding(2) var<storage, read_write> b: array<f32>;
        @compute @workgroup_size(4) fn both(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { a[id.x] = x[id.x] + 1.0; b[2u * id.x + 1u] = -x[id.x] * x[id.x]; }
        }
        @group(0) @binding(1) var<storage, read> d_b: array<f32>;
        @group(0) @binding(2) var<storage, read> d_a: array<f32>;
        @group(0) @binding(3) var<storage, read_write> d_x: array<f32>;
        @compute @workgroup_size(4) fn both_vjp(@builtin(global_invocation_id) id: vec3<u32>) {
            let i = id.x;
            if i < arrayLength(&x) { d_x[i] = d_a[i] - 2.0 * x[i] * d_b[2u * i + 1u]; }
        }";
    let module = Module::parse_kernels("both.wgsl", text).unwrap();
    let both = module.kernel("both").unwrap().output_like("a", "x");
    let both =
        both.output_by("b", |inputs| vec![inputs[0][0], 2]).vjp_kernel(module.kernel("both_vjp").unwrap());
    let x = Tensor::new([0.5, -1.0, 2.0]);
    let report = gradcheck(|[x]| both.call_all(&[("x", &x)]), [&x], &Reference::new()).unwrap();
    assert!(report.is_ok(), "{report}");
    let outputs = both.call_all(&[("x", &x)]);
    let slope = |loss: Tensor| values(&grad(&loss, &x).unwrap().or_error().unwrap());
    assert_eq!(slope(outputs[0].sum(..)), [1.0, 1.0, 1.0]);
    assert_eq!(slope(outputs[1].sum(..)), [-1.0, 2.0, -4.0]);
    let told = explain(&curve("").call(&[("x", &x), ("w", &x)]).sum(..), &x).unwrap().to_string();
    assert!(told.contains("curve"), "{told}");
    println!("{told}");
}

#[test]
fn large_and_strange_texts_are_answered_at_once() {
    let start = std::time::Instant::now();
    let large = |count: usize| {
        format!(
            "{HEAD}var<workgroup> t: array<f32, {count}>;\n@compute @workgroup_size(1) fn main() {{ t[0] = 1.0; y[0] = t[1]; }}"
        )
    };
    assert_eq!(kernel(&large(1 << 20), "main").unwrap_err().code(), Code::Limit);
    assert!(kernel(&large(1 << 30), "main").is_err() && kernel(&large(1 << 31), "main").is_err());
    // a chain of variables, forwards and backwards in a loop
    let chain = |numbers: &mut dyn Iterator<Item = usize>| -> String {
        let link = |k: usize| format!("v{} = v{k};\n", k + 1);
        numbers.map(link).collect()
    };
    let variables: String = (0..=4000).map(|k| format!("var v{k} = 0u;\n")).collect();
    for links in [chain(&mut (0..4000)), chain(&mut (0..4000).rev())] {
        let body = format!(
            "{variables}for (var k = 0u; k < 9u; k++) {{ v0 = lane;\n{links} }}\nif v4000 > 1u {{ workgroupBarrier(); }} y[id.x] = 1.0;"
        );
        assert_eq!(main(&body).unwrap_err().code(), Code::WgslUniformity);
    }
    let depth =
        format!("{}workgroupBarrier();{}", "loop { if lane > 1u { break; } ".repeat(20), "}".repeat(20));
    assert_eq!(main(&format!("{depth} y[id.x] = 1.0;")).unwrap_err().code(), Code::WgslUniformity);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
