//! What the interpreter computes for functions, against plain Rust.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_tensor::Code;
use cotangent_wgsl::{Interpreter, Module, Run};

fn parse(text: &str) -> Module {
    Module::parse("test.wgsl", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The result of the function `f`, in f64.
fn f64_of(text: &str, arguments: &[&[f64]]) -> Vec<f64> {
    let module = parse(text);
    let run = Interpreter::new(&module).call("f", arguments).unwrap_or_else(|error| panic!("{error}"));
    run.result().to_vec()
}

fn f32_of(text: &str, arguments: &[&[f64]]) -> Vec<f64> {
    let module = parse(text);
    let run = Interpreter::new(&module).f32().call("f", arguments).unwrap_or_else(|error| panic!("{error}"));
    run.result().to_vec()
}

/// Equal bit by bit, any NaN like any other.
#[track_caller]
fn same(got: &[f64], expected: &[f64], of: &str) {
    assert_eq!(got.len(), expected.len(), "{of}: {got:?} for {expected:?}");
    for (g, e) in got.iter().zip(expected) {
        assert!(g.to_bits() == e.to_bits() || g.is_nan() && e.is_nan(), "{of}: {got:?} for {expected:?}");
    }
}

const POINTS: &[f64] = &[
    0.0,
    0.25,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    2.5,
    3.0,
    7.3,
    40.0,
    1e-20,
    1e20,
    -0.0,
    -0.25,
    -0.5,
    -1.0,
    -1.5,
    -2.5,
    -3.3,
    -1e20,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

type Unary = (&'static str, fn(f64) -> f64);
const UNARY: &[Unary] = &[
    ("abs(x)", f64::abs),
    ("-x", |x| -x),
    ("sign(x)", |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
    ("saturate(x)", |x| if x.is_nan() { x } else { x.clamp(-0.0, 1.0) }),
    ("ceil(x)", f64::ceil),
    ("floor(x)", f64::floor),
    ("round(x)", f64::round_ties_even),
    ("trunc(x)", f64::trunc),
    ("fract(x)", |x| x - x.floor()),
    ("cos(x)", f64::cos),
    ("cosh(x)", f64::cosh),
    ("sin(x)", f64::sin),
    ("sinh(x)", f64::sinh),
    ("tan(x)", f64::tan),
    ("tanh(x)", f64::tanh),
    ("acos(x)", f64::acos),
    ("asin(x)", f64::asin),
    ("atan(x)", f64::atan),
    ("asinh(x)", f64::asinh),
    ("acosh(x)", f64::acosh),
    ("atanh(x)", f64::atanh),
    ("radians(x)", f64::to_radians),
    ("degrees(x)", f64::to_degrees),
    ("exp(x)", f64::exp),
    ("exp2(x)", f64::exp2),
    ("log(x)", f64::ln),
    ("log2(x)", f64::log2),
    ("sqrt(x)", f64::sqrt),
    ("inverseSqrt(x)", |x| 1.0 / x.sqrt()),
    ("length(x)", f64::abs),
    ("modf(x).fract", |x| x - x.trunc()),
    ("modf(x).whole", f64::trunc),
    ("ldexp(x, 3)", |x| x * 8.0),
    ("ldexp(frexp(x).fract, frexp(x).exp)", |x| x),
];

#[test]
fn every_builtin_of_one_float_is_what_rust_computes() {
    let mut compared = 0;
    for (expression, rust) in UNARY {
        let text = format!("fn f(x: f32) -> f32 {{ return {expression}; }}");
        for &x in POINTS {
            let expected = rust(x);
            same(&f64_of(&text, &[&[x]]), &[expected], &format!("{expression} at {x}"));
            let narrow = f64::from(x as f32);
            let expected = f64::from(rust(narrow) as f32);
            same(&f32_of(&text, &[&[x]]), &[expected], &format!("{expression} at {x} in f32"));
            compared += 2;
        }
    }
    assert_eq!(compared, 2 * UNARY.len() * POINTS.len(), "all of them");
}

type Binary = (&'static str, fn(f64, f64) -> f64);
const BINARY: &[Binary] = &[
    ("x + y", |x, y| x + y),
    ("x - y", |x, y| x - y),
    ("x * y", |x, y| x * y),
    ("x / y", |x, y| x / y),
    ("x % y", |x, y| x % y),
    ("atan2(x, y)", f64::atan2),
    ("min(x, y)", |x, y| if x.is_nan() || y.is_nan() { f64::NAN } else { x.min(y) }),
    ("max(x, y)", |x, y| if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) }),
    ("step(x, y)", |x, y| f64::from(u8::from(x <= y))),
    ("pow(x, y)", |x, y| if x < 0.0 || x == 0.0 && y == 0.0 { f64::NAN } else { x.powf(y) }),
    ("distance(x, y)", |x, y| (x - y).abs()),
    ("select(0.0, 1.0, x < y)", |x, y| f64::from(u8::from(x < y))),
    ("select(0.0, 1.0, x <= y)", |x, y| f64::from(u8::from(x <= y))),
    ("select(0.0, 1.0, x > y)", |x, y| f64::from(u8::from(x > y))),
    ("select(0.0, 1.0, x >= y)", |x, y| f64::from(u8::from(x >= y))),
    ("select(0.0, 1.0, x == y)", |x, y| f64::from(u8::from(x == y))),
    ("select(0.0, 1.0, x != y)", |x, y| f64::from(u8::from(x != y))),
];

#[test]
fn every_operation_on_two_floats_is_what_rust_computes() {
    let mut compared = 0;
    for (expression, rust) in BINARY {
        let text = format!("fn f(x: f32, y: f32) -> f32 {{ return {expression}; }}");
        let module = parse(&text);
        for &x in POINTS {
            for &y in POINTS {
                let run = Interpreter::new(&module).call("f", &[&[x], &[y]]).unwrap();
                let (got, expected) = (run.result()[0], rust(x, y));
                // zeros of both signs are one extreme value
                let near = got == expected || got.is_nan() && expected.is_nan();
                assert!(near, "{expression} at {x}, {y}: {got} for {expected}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, BINARY.len() * POINTS.len() * POINTS.len());
}

/// Every float literal times a variable, so that the front end computes nothing.
fn opaque(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let in_word = rest[..start].ends_with(|c: char| c.is_alphanumeric());
        let end =
            rest[start..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |n| start + n);
        let end = if rest[end..].starts_with("e-") { end + 3 } else { end };
        out += &rest[..start];
        match &rest[start..end] {
            literal if literal.contains('.') && !in_word => out += &format!("(one * {literal})"),
            other => out += other,
        }
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn builtins_of_vectors_and_of_three() {
    let cases: &[(&str, &[f64])] = &[
        ("clamp(vec3(-1.0, 0.5, 9.0), vec3(0.0), vec3(1.0))", &[0.0, 0.5, 1.0]),
        ("mix(vec3(1.0, 2.0, 3.0), vec3(3.0, 2.0, 1.0), 0.25)", &[1.5, 2.0, 2.5]),
        ("smoothstep(vec3(0.0), vec3(2.0), vec3(-1.0, 1.0, 5.0))", &[0.0, 0.5, 1.0]),
        ("fma(vec3(2.0), vec3(3.0), vec3(1.0))", &[7.0, 7.0, 7.0]),
        ("cross(vec3(1.0, 2.0, 3.0), vec3(4.0, 5.0, 6.0))", &[-3.0, 6.0, -3.0]),
        ("vec3(dot(vec3(1.0, 2.0, 3.0), vec3(4.0, 5.0, 6.0)))", &[32.0, 32.0, 32.0]),
        ("vec3(length(vec2(3.0, 4.0)), distance(vec2(1.0, 1.0), vec2(4.0, 5.0)), 0.0)", &[5.0, 5.0, 0.0]),
        ("normalize(vec3(0.0, 3.0, 4.0))", &[0.0, 0.6, 0.8]),
        ("faceForward(vec3(1.0), vec3(1.0), vec3(2.0))", &[-1.0, -1.0, -1.0]),
        ("reflect(vec3(1.0, -1.0, 0.0), vec3(0.0, 1.0, 0.0))", &[1.0, 1.0, 0.0]),
        ("refract(vec3(0.0, -1.0, 0.0), vec3(0.0, 1.0, 0.0), 0.5)", &[0.0, -1.0, 0.0]),
        ("vec3(ldexp(vec2(1.0, 3.0), vec2(4, -1)), 0.0)", &[16.0, 1.5, 0.0]),
        ("vec3(vec3(1.0, 2.0, 3.0).zx, 4.0).yxz", &[1.0, 3.0, 4.0]),
        ("select(vec3(1.0), vec3(2.0), vec3(true, false, true))", &[2.0, 1.0, 2.0]),
        ("mat2x3(1.0, 2.0, 3.0, 4.0, 5.0, 6.0) * vec2(1.0, 10.0)", &[41.0, 52.0, 63.0]),
        ("vec2(1.0, 10.0) * mat3x2(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)", &[21.0, 43.0, 65.0]),
        ("(mat2x2(1.0, 2.0, 3.0, 4.0) * mat3x2(1.0, 0.0, 0.0, 1.0, 1.0, 1.0))[2].yxy", &[6.0, 4.0, 6.0]),
        ("transpose(mat3x2(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))[1]", &[2.0, 4.0, 6.0]),
        ("vec3(determinant(mat3x3(2.0, 0.0, 1.0, 1.0, 3.0, 0.0, 0.0, 1.0, 4.0)))", &[25.0, 25.0, 25.0]),
        ("(2.0 * mat2x3(1.0, 2.0, 3.0, 4.0, 5.0, 6.0) - mat2x3<f32>())[1]", &[8.0, 10.0, 12.0]),
        ("unpack4x8snorm(pack4x8snorm(vec4(-2.0, 0.0, 1.0, 0.0))).xyz", &[-1.0, 0.0, 1.0]),
        ("unpack4x8unorm(pack4x8unorm(vec4(-2.0, 0.2, 7.0, 0.0))).xyz", &[0.0, 0.2, 1.0]),
        ("vec3(unpack2x16snorm(pack2x16snorm(vec2(-1.0, 1.0))), 0.0)", &[-1.0, 1.0, 0.0]),
        ("vec3(unpack2x16unorm(pack2x16unorm(vec2(0.0, 1.0))), 0.0)", &[0.0, 1.0, 0.0]),
        ("vec3(unpack2x16float(pack2x16float(vec2(0.1, -70.0))), 0.0)", &[0.0999755859375, -70.0, 0.0]),
        (
            "vec3(quantizeToF16(vec2(0.1, 6.0e-8)), quantizeToF16(65504.0))",
            &[0.0999755859375, 5.960464477539063e-8, 65504.0],
        ),
    ];
    for (expression, expected) in cases {
        let expression = &opaque(expression);
        let text = format!("fn f(one: f32) -> vec3<f32> {{ return {expression}; }}");
        same(&f64_of(&text, &[&[1.0]]), expected, expression);
    }
}

#[test]
fn builtins_of_integers() {
    let cases: &[(&str, i64)] = &[
        ("abs(a)", 7),
        ("sign(a)", -1),
        ("min(a, 2)", -7),
        ("max(a, 2)", 2),
        ("clamp(a, -3, 3)", -3),
        ("a / 2", -3),
        ("a % 4", -3),
        ("a / zero", -7),
        ("a % zero", 0),
        ("low / (zero - 1)", -2147483648),
        ("low % (zero - 1)", 0),
        ("abs(low)", -2147483648),
        ("low - 1", 2147483647),
        ("a >> 1u", -4),
        ("a << (33u + u32(zero))", -14),
        ("~a", 6),
        ("(a & 5) | (a ^ 3)", -5),
        ("countOneBits(a)", 30),
        ("countLeadingZeros(a)", 0),
        ("countTrailingZeros(zero)", 32),
        ("firstLeadingBit(a)", 2),
        ("firstLeadingBit(zero)", -1),
        ("firstTrailingBit(zero + 12)", 2),
        ("reverseBits(zero + 1)", -2147483648),
        ("extractBits(a, 0u, 3u)", 1),
        ("extractBits(a, 0u, 4u)", -7),
        ("extractBits(a, 30u, 9u)", -1),
        ("extractBits(a, 40u, 9u)", 0),
        ("i32(extractBits(u32(a), 28u, 9u))", 15),
        ("insertBits(zero, 5, 2u, 3u)", 20),
        ("insertBits(a, 0, 31u, 9u)", 2147483641),
        ("dot(vec2(a, 2), vec2(3, zero + 5))", -11),
        ("dot4I8Packed(0xff02u + u32(zero), 0x0304u)", 5),
        ("i32(dot4U8Packed(0xff02u + u32(zero), 0x0304u))", 773),
        ("i32(pack4xI8(vec4(a, 1, zero, 300)))", 0x2c0001f9),
        ("i32(pack4xI8Clamp(vec4(a, 1, zero, 300)))", 0x7f0001f9),
        ("i32(pack4xU8Clamp(vec4(9u, 1u, u32(zero), 300u)))", -16777216 + 0x109),
        ("unpack4xI8(0xf9u + u32(zero)).x", -7),
        ("i32(unpack4xU8(0xf9u + u32(zero)).x)", 249),
        ("i32(3.9 * f32(a))", -27),
        ("i32(1e20 * f32(a))", -2147483648),
        ("i32(-1e20 * f32(a))", 2147483520),
        ("i32(u32(f32(a)))", 0),
        ("i32(f32(zero) / f32(zero))", 0),
        ("i32(u32(1e20 * f32(-a)) >> 8u)", 0xffffff),
        ("bitcast<i32>(f32(a))", -1059061760),
        ("i32(bitcast<f32>(1065353216 + zero))", 1),
        ("i32(bool(a)) + i32(bool(zero))", 1),
        ("select(1, 2, a < zero && !(a == zero) || false)", 2),
        ("select(1, 2, all(vec2(a < 0, zero < 0)) | any(vec2(zero > 1, a > 1)))", 1),
    ];
    for (expression, expected) in cases {
        let text = format!(
            "fn f(a: i32, zero: i32) -> i32 {{ let low = -2147483647 - 1 + zero; return i32({expression}); }}"
        );
        same(&f64_of(&text, &[&[-7.0], &[0.0]]), &[*expected as f64], expression);
    }
}

#[test]
fn f32_rounds_every_operation_once() {
    let text = "fn f(x: f32, y: f32) -> f32 { return (x + y) - x; }";
    assert_eq!(f32_of(text, &[&[16_777_216.0], &[1.0]]), [0.0]);
    assert_eq!(f64_of(text, &[&[16_777_216.0], &[1.0]]), [1.0]);
    let (a, b) = (0.1f32, 0.7f32);
    let dot = a * b + b * b;
    let text = "fn f(x: vec2<f32>, y: vec2<f32>) -> f32 { return dot(x, y); }";
    assert_eq!(f32_of(text, &[&[0.1, 0.7], &[0.7, 0.7]]), [f64::from(dot)]);
    let text = "fn f(x: f32) -> f32 { return x * 0.1; }";
    assert_eq!(f64_of(text, &[&[1.0]]), [f64::from(0.1f32)], "literals are those of the text");
    let text = "fn f(x: f32) -> f32 { return fma(x, x, -1.0); }";
    let x = 1.0f32 + f32::EPSILON;
    assert_eq!(f32_of(text, &[&[x.into()]]), [f64::from(x.mul_add(x, -1.0))]);
    assert_eq!(f32_of("fn f(x: u32) -> f32 { return f32(x); }", &[&[16_777_217.0]]), [16_777_216.0]);
    let overflow = "fn f(x: f32) -> f32 { return x * x; }";
    assert_eq!(f32_of(overflow, &[&[1e30]]), [f64::INFINITY]);
    assert_eq!(f64_of(overflow, &[&[1e30]]), [1e30 * 1e30]);
}

#[test]
fn functions_of_the_prelude_are_rows() {
    use cotangent_tensor::Elementwise as E;
    let rows = [
        ("relu", E::Relu),
        ("log1p", E::Log1p),
        ("expm1", E::Expm1),
        ("recip_expm1", E::RecipExpm1),
        ("log1mexp", E::Log1mexp),
        ("sigmoid", E::Sigmoid),
        ("log_sigmoid", E::LogSigmoid),
        ("softplus", E::Softplus),
        ("erf", E::Erf),
        ("erfc", E::Erfc),
        ("log_ndtr", E::LogNdtr),
        ("inverse_mills", E::InverseMills),
        ("i0e", E::I0e),
        ("i1e", E::I1e),
        ("lgamma", E::Lgamma),
        ("digamma", E::Digamma),
        ("trigamma", E::Trigamma),
    ];
    for (name, row) in rows {
        let text = format!("fn f(x: f32) -> f32 {{ return {name}(x); }}");
        for x in [0.3, 2.0, 11.0] {
            assert_eq!(f64_of(&text, &[&[x]]), [row.eval(&[x])], "{name}");
            let expected = f64::from(row.eval(&[f64::from(x as f32)]) as f32);
            assert_eq!(f32_of(&text, &[&[x]]), [expected], "{name}");
        }
    }
    let text = "fn f(x: f32, y: f32) -> vec4<f32> {
        return vec4(xlogy(x, y), logaddexp(x, y), huber(x, y), select(0.0, detach(x), is_nan(y))); }";
    let expected = [0.0, (1f64 + 2f64.exp()).ln(), 0.0, 0.0];
    let got = f64_of(text, &[&[0.0], &[2.0]]);
    assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12), "{got:?}");
    assert_eq!(f64_of(text, &[&[3.0], &[f64::NAN]])[3], 3.0);
}

#[test]
fn control_flow_goes_every_way() {
    let cases: &[(&str, f64)] = &[
        ("for (var i = 0; i < 5; i++) { if i == 3 { break; } if i == 1 { continue; } s += f32(i); }", 2.0),
        (
            "var i = 0; while true { i += 1; if i > 4 { break; } var inner: f32; inner += 1.0; s += inner; }",
            4.0,
        ),
        ("var i = 0; loop { s += 1.0; if s > 9.0 { return s; } continuing { i++; break if i == 4; } }", 4.0),
        (
            "for (var i = 0; i < 4; i++) { switch i { case 0, 2 { s += 10.0; break; } case 1: { continue; } default { s += 1.0; } } s += 100.0; }",
            321.0,
        ),
        ("switch 7 { case 1 { s = 1.0; } default { s = 2.0; } case 3 { s = 3.0; } }", 2.0),
        (
            "for (var i = 0; i < 3; i++) { for (var j = 0; j < 3; j++) { if j > i { break; } s += 1.0; } }",
            6.0,
        ),
        (
            "{ var s2 = s; { s2 += 4.0; } s = s2; } if s > 3.0 { s += 1.0; } else if s > 2.0 { s = -1.0; } else { s = -2.0; }",
            5.0,
        ),
        (
            "var a = array<vec2<f32>, 3>(); for (var i = 0; i < 3; i++) { a[i].y = f32(i); a[i][0] = 2.0; } s = a[2].y + a[1].x;",
            4.0,
        ),
        (
            "var m = mat2x2<f32>(1.0, 2.0, 3.0, 4.0); m[1] = m[0] * 10.0; let k = i32(s); m[k].y += 1.0; s = m[0].y + m[1].y;",
            23.0,
        ),
        (
            "bump(&s, 2.0); var p = Pair(1.0, array<f32, 2>(5.0, 6.0)); bump(&p.many[1], 3.0); s += p.many[1] + p.one;",
            12.0,
        ),
        ("s = twice(twice(counter() + counter()));", 12.0),
        ("let v = array<f32, 3>(1.0, 2.0, 4.0); for (var i = 0; i < 3; i++) { s += v[i]; }", 7.0),
    ];
    for (body, expected) in cases {
        let text = format!(
            "struct Pair {{ one: f32, many: array<f32, 2> }}
             var<private> calls: i32 = 0;
             fn counter() -> f32 {{ calls += 1; return f32(calls); }}
             fn twice(x: f32) -> f32 {{ return 2.0 * x; }}
             fn bump(p: ptr<function, f32>, by: f32) {{ *p += by; }}
             fn f() -> f32 {{ var s = 0.0; {body} return s; }}"
        );
        assert_eq!(f64_of(&text, &[]), [*expected], "{body}");
    }
}

fn run(text: &str, arguments: &[&[f64]]) -> Run {
    let module = parse(text);
    Interpreter::new(&module).call("f", arguments).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_trace_changes_where_a_decision_does() {
    let decisions = [
        "abs(x)",
        "sign(x)",
        "min(x, 0.0)",
        "max(0.0, x)",
        "clamp(x, 0.0, 9.0)",
        "saturate(x)",
        "step(0.0, x)",
        "floor(x)",
        "ceil(x)",
        "fract(x)",
        "round(x + 0.5)",
        "trunc(x + 3.0)",
        "f32(i32(x + 3.0))",
        "x % 9.0 + (x + 9.0) % 9.0",
        "select(1.0, 2.0, x < 0.0)",
        "length(x)",
        "distance(x, 0.0)",
        "smoothstep(0.0, 9.0, x)",
        "relu(x)",
        "modf(x + 3.0).whole",
        "f32(frexp(x + 0.5).exp)",
        "huber(x + 1.0, 1.0)",
        "branch(x)",
        "looped(x)",
        "f32(pack4x8snorm(vec4(x)))",
    ];
    let smooth =
        ["x * x", "exp(x)", "sin(x)", "x / 3.0", "fma(x, x, x)", "sqrt(x + 9.0)", "softplus(x)", "trunc(x)"];
    let trace = |expression: &str, x: f64| {
        let text = format!(
            "fn branch(x: f32) -> f32 {{ if x > 0.0 {{ return x; }} return 0.0; }}
             fn looped(x: f32) -> f32 {{ var y = x; while y < 1.0 {{ y += 1.0; }} return y; }}
             fn f(x: f32) -> f32 {{ return {expression}; }}"
        );
        run(&text, &[&[x]]).trace()
    };
    for expression in decisions {
        assert_ne!(trace(expression, -0.02), trace(expression, 0.02), "{expression}");
    }
    for expression in smooth {
        assert_eq!(trace(expression, -0.02), trace(expression, 0.02), "{expression}");
    }
    for expression in ["abs(x)", "max(x, 0.0)", "floor(x)", "huber(x, 1.0)", "branch(x)"] {
        assert_eq!(trace(expression, 0.4), trace(expression, 0.45), "{expression}");
    }
}

#[test]
fn the_first_nonfinite_number_is_found_where_it_is_made() {
    let text = "fn inner(q: f32) -> f32 {\n  let r = sqrt(q);\n  return r + 1.0;\n}\nfn f(x: f32) -> f32 {\n  let a = x * 2.0;\n  return inner(a) * 0.0;\n}";
    let of = run(text, &[&[-4.0]]);
    let origin = of.first_nonfinite().unwrap();
    assert_eq!((&*origin.operation, &*origin.inputs), ("sqrt", &[-8.0][..]));
    assert_eq!(
        origin.to_error().to_string(),
        "error[E_NONFINITE]: test.wgsl: `sqrt` of [-8.0] is [NaN]
  ┌─ test.wgsl:2:11
  │
2 │   let r = sqrt(q);
  │           ^^^^ [-8.0] -> [NaN]
  ·
7 │   return inner(a) * 0.0;
  │          ^^^^^^^^ in this call"
    );
    assert!(run(text, &[&[4.0]]).first_nonfinite().is_none());
    let guarded = "fn safe(x: f32) -> f32 { return select(0.0, log(x), x > 0.0); } fn f(x: f32) -> f32 { return safe(x) + 1.0 / x; }";
    assert!(run(guarded, &[&[-1.0]]).first_nonfinite().is_none(), "a NaN that is not chosen");
    assert_eq!(run(guarded, &[&[0.0]]).first_nonfinite().unwrap().operation, "/");
    let bits = "fn m_nan() -> f32 { return bitcast<f32>(0x7fc00000u); }
        fn m_log(x: f32) -> f32 { return select(m_nan(), log(abs(x)), x > 0.0); }
        fn f(x: f32) -> f32 { return m_log(x) + 1.0; }";
    let of = run(bits, &[&[-1.0]]);
    assert_eq!(of.first_nonfinite().unwrap().operation, "m_log");
    assert!(run(bits, &[&[2.0]]).first_nonfinite().is_none());
    assert_eq!(
        run("fn f(x: f32) -> f32 { return lgamma(x); }", &[&[0.0]]).first_nonfinite().unwrap().operation,
        "lgamma"
    );
}

#[track_caller]
fn fails(text: &str, arguments: &[&[f64]], code: Code, parts: &[&str]) {
    let module = parse(text);
    let error = Interpreter::new(&module).fuel(10_000).call("f", arguments).expect_err("it must fail");
    assert_eq!(error.code(), code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn faults_of_functions_are_named() {
    let pick = "fn f(i: i32) -> f32 { var a = array<f32, 3>(); return a[i]; }";
    fails(pick, &[&[3.0]], Code::WgslBounds, &["index 3", "length is 3", "test.wgsl:1", "a[i]"]);
    fails(pick, &[&[-1.0]], Code::WgslBounds, &["index -1"]);
    let vector = "fn f(i: u32) -> f32 { let v = vec3(1.0, 2.0, 3.0); return v[i]; }";
    fails(vector, &[&[7.0]], Code::WgslBounds, &["index 7", "length is 3"]);
    fails(
        "fn f() -> f32 {\n loop { }\n return 0.0; }",
        &[],
        Code::WgslFuel,
        &["10000 operations", "test.wgsl:2"],
    );
    fails(
        "fn f() -> f32 { var x = 1.0; while x > 0.0 { x += 1.0; } return x; }",
        &[],
        Code::WgslFuel,
        &["while"],
    );
    fails(
        "fn f(x: vec2<f32>) -> f32 { return x.x; }",
        &[&[1.0]],
        Code::Wgsl,
        &["parameter `x` is vec2<f32>"],
    );
    fails("fn f(x: i32) -> i32 { return x; }", &[&[1.5]], Code::Wgsl, &["[1.5]"]);
    fails("fn f(x: i32) -> i32 { return x; }", &[], Code::Wgsl, &["0 arguments", "1 parameters"]);
    fails("fn g() {}", &[], Code::Wgsl, &["no function `f`"]);
    fails("fn f() { workgroupBarrier(); }", &[], Code::WgslUnsupported, &["a barrier outside of a dispatch"]);
    fails("override n: i32; fn f() -> i32 { return n; }", &[], Code::WgslUnsupported, &["constant"]);
    let buffer = "@group(0) @binding(0) var<storage, read> x: array<f32>; fn f() -> f32 { return x[0]; }";
    fails(buffer, &[], Code::WgslBinding, &["`f` uses `x`"]);
    let large = "var<private> x: array<array<f32, 65536>, 512>; fn f() -> f32 { return x[0][0]; }";
    fails(large, &[], Code::WgslLimit, &["private"]);
}

#[test]
fn hostile_text_ends_soon() {
    let levels = |n: usize, member: &str| {
        let level = |i: usize| format!("struct S{} {{ {} }}\n", i + 1, member.replace('#', &i.to_string()));
        (0..n).fold("struct S0 { a: f32 }\n".to_string(), |text, i| text + &level(i))
    };
    let start = std::time::Instant::now();
    let deep = levels(400, "a: S#,") + "fn f() -> f32 { var s: S400; return 1.0; }";
    fails(&deep, &[], Code::WgslLimit, &["types inside each other: 16 where 15"]);
    let wide = levels(13, "a: S#, b: S#, c: S#, d: S#,") + "fn f() -> f32 { var s: S13; return 1.0; }";
    fails(&wide, &[], Code::WgslLimit, &["the variables of a function"]);
    let parameter = levels(13, "a: S#, b: S#, c: S#, d: S#,") + "fn f(s: S13) -> f32 { return 1.0; }";
    fails(&parameter, &[&[1.0]], Code::WgslLimit, &["the values of a function"]);
    let copies = "fn f() -> f32 { var a: array<f32, 1000000>; loop { a = a; } return 1.0; }";
    fails(copies, &[], Code::WgslFuel, &["loop { a = a; }"]);
    let many: String = (0..40).map(|i| format!("fn g{i}() {{ var a: array<f32, 900000>; }}\n")).collect();
    fails(&(many + "fn f() -> f32 { return 1.0; }"), &[], Code::WgslLimit, &["the values of all functions"]);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
