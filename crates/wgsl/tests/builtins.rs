//! Every numeric builtin of WGSL and every function of the prelude: values against numbers known otherwise, derivatives to second order
//! against dual numbers and differences.
#![allow(clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "tests")]
#![allow(clippy::approx_constant, clippy::excessive_precision, reason = "numbers of other programs")]

use cotangent_autograd::gradcheck;
use cotangent_tensor::{Code, DType, Evaluate, Op, Reference, Shape, Tensor, topological};
use cotangent_wgsl::{Function, Module};

/// A function of floats, arguments (one number each), and its value.
type Case = (&'static str, &'static [f64], f64);

const NUMBERS: &[Case] = &[
    ("abs(a)", &[-1.5], 1.5),
    ("acos(a)", &[0.5], 1.0471975511965979),
    ("acosh(a)", &[2.0], 1.3169578969248168),
    ("asin(a)", &[0.5], 0.5235987755982989),
    ("asinh(a)", &[-2.0], -1.4436354751788103),
    ("atan(a)", &[2.0], 1.1071487177940904),
    ("atanh(a)", &[0.5], 0.5493061443340549),
    ("atan2(a, b)", &[1.0, -2.0], 2.677945044588987),
    ("ceil(a)", &[1.25], 2.0),
    ("clamp(a, b, c)", &[3.0, -1.0, 2.0], 2.0),
    ("clamp(a, b, c)", &[0.5, -1.0, 2.0], 0.5),
    ("cos(a)", &[2.0], -0.4161468365471424),
    ("cosh(a)", &[0.5], 1.1276259652063807),
    ("degrees(a)", &[0.5], 28.64788975654116),
    ("determinant(mat2x2<f32>(a, b, c, 1.0))", &[3.0, 2.0, 0.5], 2.0),
    ("determinant(mat3x3<f32>(a, 0.5, 2.0, b, 1.0, c, 0.25, 1.5, a))", &[3.0, 2.0, 0.5], 9.3125),
    (
        "determinant(mat4x4<f32>(a, 0.0, 1.0, 2.0, 0.5, b, 0.0, 1.0, 0.0, 1.0, c, 0.5, 1.0, 0.0, 0.5, 2.0))",
        &[3.0, 2.0, 0.5],
        4.5,
    ),
    ("distance(vec2<f32>(a, b), vec2<f32>(c, 1.0))", &[4.0, 5.0, 1.0], 5.0),
    ("distance(a, b)", &[4.0, 5.0], 1.0),
    ("dot(vec3<f32>(a, b, c), vec3<f32>(b, c, a))", &[1.0, 2.0, 3.0], 11.0),
    ("cross(vec3<f32>(a, b, 1.0), vec3<f32>(c, 2.0, 4.0)).z", &[1.5, 2.0, 0.5], 2.0),
    ("exp(a)", &[1.5], 4.4816890703380645),
    ("exp2(a)", &[1.5], 2.8284271247461903),
    ("faceForward(vec2<f32>(a, b), vec2<f32>(c, 1.0), vec2<f32>(1.0, 0.0)).x", &[1.5, 2.0, 0.5], -1.5),
    ("floor(a)", &[-1.25], -2.0),
    ("fma(a, b, c)", &[1.5, 2.0, 0.5], 3.5),
    ("fract(a)", &[1.75], 0.75),
    ("inverseSqrt(a)", &[4.0], 0.5),
    ("ldexp(a, 3)", &[1.5], 12.0),
    ("length(vec3<f32>(a, b, c))", &[1.0, 2.0, 2.0], 3.0),
    ("length(a)", &[-2.0], 2.0),
    ("log(a)", &[4.0], 1.3862943611198906),
    ("log2(a)", &[8.0], 3.0),
    ("max(a, b)", &[1.5, -2.0], 1.5),
    ("min(a, b)", &[1.5, -2.0], -2.0),
    ("mix(a, b, c)", &[1.5, -2.0, 0.25], 0.625),
    ("modf(a).fract", &[1.75], 0.75),
    ("modf(a).whole", &[-1.75], -1.0),
    ("normalize(vec2<f32>(a, b)).y", &[3.0, 4.0], 0.8),
    ("pow(a, b)", &[2.0, 1.5], 2.8284271247461903),
    ("radians(a)", &[90.0], 1.5707963267948966),
    ("reflect(vec2<f32>(a, b), vec2<f32>(0.0, c)).y", &[1.0, -2.0, 1.0], 2.0),
    ("refract(vec2<f32>(a, b), vec2<f32>(0.0, 1.0), c).y", &[0.6, -0.8, 0.5], -0.9539392014169457),
    ("round(a)", &[2.25], 2.0),
    ("saturate(a)", &[0.25], 0.25),
    ("saturate(a)", &[-0.25], 0.0),
    ("select(a, b, c > 1.0)", &[1.5, 2.5, 3.0], 2.5),
    ("sign(a)", &[-2.5], -1.0),
    ("sin(a)", &[2.0], 0.9092974268256817),
    ("sinh(a)", &[0.5], 0.5210953054937474),
    ("smoothstep(a, b, c)", &[1.0, 3.0, 1.5], 0.15625),
    ("sqrt(a)", &[2.25], 1.5),
    ("step(a, b)", &[1.0, 2.0], 1.0),
    ("step(a, b)", &[2.0, 1.0], 0.0),
    ("tan(a)", &[0.5], 0.5463024898437905),
    ("tanh(a)", &[0.5], 0.46211715726000973),
    ("transpose(mat2x3<f32>(a, b, c, 1.0, 2.0, 3.0))[1].y", &[1.0, 2.0, 3.0], 2.0),
    ("trunc(a)", &[-1.75], -1.0),
    ("a % b", &[5.5, 2.0], 1.5),
    ("-a", &[5.5], -5.5),
    ("(mat2x3<f32>(a, b, c, 1.0, 2.0, 3.0) * vec2<f32>(b, a)).z", &[1.0, 2.0, 3.0], 9.0),
    ("(vec3<f32>(a, b, c) * mat2x3<f32>(1.0, 2.0, 3.0, a, b, c)).y", &[1.0, 2.0, 3.0], 14.0),
    ("(mat2x2<f32>(a, b, c, 1.0) * mat2x2<f32>(1.0, a, b, c))[1].x", &[1.0, 2.0, 3.0], 11.0),
    ("(a * vec2<f32>(b, c)).y", &[2.0, 1.0, 3.0], 6.0),
    ("f32(all(vec2<f32>(a, b) > vec2<f32>(c)))* a", &[2.0, 3.0, 1.0], 2.0),
    ("f32(any(vec2<f32>(a, b) > vec2<f32>(c)))* a", &[2.0, 3.0, 5.0], 0.0),
    ("relu(a)", &[2.0], 2.0),
    ("log1p(a)", &[0.5], 0.4054651081081644),
    ("expm1(a)", &[0.5], 0.6487212707001282),
    ("recip_expm1(a)", &[0.5], 1.5414940825367982),
    ("log1mexp(a)", &[0.5], -0.9327521295671886),
    ("sigmoid(a)", &[0.5], 0.6224593312018546),
    ("log_sigmoid(a)", &[0.5], -0.4740769841801067),
    ("softplus(a)", &[0.5], 0.9740769841801067),
    ("erf(a)", &[0.5], 0.5204998778130465),
    ("erfc(a)", &[0.5], 0.4795001221869535),
    ("log_ndtr(a)", &[-10.0], -53.23128515051247),
    ("inverse_mills(a)", &[-2.0], 2.373215532822843),
    ("i0e(a)", &[2.0], 0.30850832255367103),
    ("i1e(a)", &[2.0], 0.21526928924893768),
    ("xlog1py(a, b)", &[2.0, 0.5], 0.8109302162163288),
    ("lgamma(a)", &[3.5], 1.2009736023470743),
    ("digamma(a)", &[3.5], 1.1031566406452432),
    ("xlogy(a, b)", &[2.0, 3.0], 2.1972245773362196),
    ("logaddexp(a, b)", &[1.0, 2.0], 2.313261687518223),
    ("logaddexp(a, b)", &[3.0, 3.0], 3.6931471805599454),
    ("huber(a, 1.0)", &[0.5], 0.125),
    ("huber(a, 1.0)", &[-3.0], 2.5),
];

const PARAMETERS: [&str; 3] = ["a", "b", "c"];

fn function(expression: &str, count: usize) -> Function {
    let parameters: Vec<String> = PARAMETERS[..count].iter().map(|name| format!("{name}: f32")).collect();
    let text = format!("fn f({}) -> f32 {{ return {expression}; }}", parameters.join(", "));
    let module = Module::parse("builtin.wgsl", &text).unwrap_or_else(|error| panic!("{expression}: {error}"));
    module.function("f").unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// The expression in every round of a loop that stays one: three halves of it after two rounds.
fn in_loop(expression: &str, count: usize) -> Function {
    let parameters: Vec<String> = PARAMETERS[..count].iter().map(|name| format!("{name}: f32, ")).collect();
    let text = format!(
        "fn f({}n: i32) -> f32 {{ var y = 0.0; for (var i = 0; i < n; i++) {{ let value = {expression}; y = y * 0.5 + value; }} return y; }}",
        parameters.concat()
    );
    let module = Module::parse("builtin.wgsl", &text).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let f = module.function("f").unwrap_or_else(|error| panic!("{expression}: {error}"));
    let on = Tensor::placeholder("x", Shape::SCALAR, DType::F32);
    let rounds = Tensor::placeholder("n", Shape::SCALAR, DType::I32);
    let inputs: Vec<&Tensor> = std::iter::repeat_n(&on, count).chain([&rounds]).collect();
    let y = f.call(&inputs);
    assert!(
        topological([y.node().unwrap()]).iter().any(|node| matches!(node.op, Op::While(..))),
        "{expression}"
    );
    f
}

#[test]
fn values_are_those_of_the_specification() {
    for (expression, at, expected) in NUMBERS {
        let inputs: Vec<Tensor> = at.iter().map(|&x| Tensor::full([], x)).collect();
        let y = function(expression, at.len()).call(&inputs.iter().collect::<Vec<_>>());
        let got = Reference::new().evaluate(&[&y]).unwrap()[0].to_f64()[0];
        assert!(
            (got - expected).abs() <= 2e-8 * expected.abs().max(1.0),
            "{expression}: {got}, expected {expected}"
        );
        let two = Tensor::full([], 2i32);
        let y = in_loop(expression, at.len()).call(&inputs.iter().chain([&two]).collect::<Vec<_>>());
        let looped = Reference::new().evaluate(&[&y]).unwrap()[0].to_f64()[0];
        assert!((looped - 1.5 * got).abs() <= 1e-14 * got.abs(), "{expression} in a loop: {looped}, {got}");
    }
    assert!(NUMBERS.len() > 80);
}

#[test]
fn derivatives_agree_with_dual_numbers_and_differences() {
    let mut checked = 0;
    for (expression, at, _) in NUMBERS {
        let f = function(expression, at.len());
        let inputs: Vec<Tensor> = at.iter().map(|&x| Tensor::new([x])).collect();
        let references: Vec<&Tensor> = inputs.iter().collect();
        let report =
            gradcheck(|x: Vec<Tensor>| f.call(&x.iter().collect::<Vec<_>>()), references, &Reference::new());
        match report.and_then(|report| report.into_result()) {
            Ok(_) => checked += 1,
            Err(error) => panic!("{expression}: {error}"),
        }
        let looped = in_loop(expression, at.len());
        let two = Tensor::new([2i32]);
        let call = |x: Vec<Tensor>| looped.call(&x.iter().chain([&two]).collect::<Vec<_>>());
        let report = gradcheck(call, inputs.iter().collect::<Vec<&Tensor>>(), &Reference::new());
        match report.and_then(|report| report.into_result()) {
            Ok(_) => checked += 1,
            Err(error) => panic!("{expression} in a loop: {error}"),
        }
    }
    assert_eq!(checked, 2 * NUMBERS.len());
}

#[test]
fn integers_wrap_and_round_as_wgsl_says() {
    let cases: &[(&str, f64)] = &[
        ("f32(abs(-n) + sign(-n) + min(n, 2) + max(n, 2) + clamp(n, 0, 4))", 7.0 - 1.0 + 2.0 + 7.0 + 4.0),
        ("f32((n & 5) + (n | 8) + (n ^ 2) + ~n)", 5.0 + 15.0 + 5.0 - 8.0),
        ("f32((n << 2u) + (-n >> 1u))", 28.0 - 4.0),
        ("f32(-n / 2 + -n % 4 + n / (n - 7) + n % (n - 7))", -3.0 - 3.0 + 7.0),
        ("f32(u32(n) * 4294967295u + 8u)", 1.0),
        ("f32(bitcast<u32>(-n) >> 28u)", 15.0),
        ("f32(i32(-1.75) + i32(1.75) + i32(true)) + f32(bool(n))", 2.0),
        ("f32(i32(f32(n) * 1e20))", 2147483647.0),
        ("f32(select(n, 3, n > 4) + dot(vec2<i32>(n, 1), vec2<i32>(2, n)))", 3.0 + 21.0),
        ("f32(n > 3 && !(n == 7) || n != 7 || n <= 7)", 1.0),
    ];
    for (expression, expected) in cases {
        let text = format!("fn f(n: i32) -> f32 {{ return {expression}; }}");
        let f = Module::parse("integers.wgsl", &text)
            .unwrap()
            .function("f")
            .unwrap_or_else(|e| panic!("{expression}: {e}"));
        // as a constant of the graph, folded by nobody, and inlined as a literal, folded by us
        let read = |y: &Tensor| Reference::new().evaluate(&[y]).unwrap()[0].to_f64()[0];
        let by_node = read(&f.call(&[&Tensor::new(7)]));
        let text = format!(
            "fn g(n: i32) -> f32 {{ return {expression}; }} fn f(x: f32) -> f32 {{ return x * g(7); }}"
        );
        let folded = Module::parse("integers.wgsl", &text).unwrap().function("f").unwrap();
        let by_folding = read(&folded.call(&[&Tensor::full([], 1.0)]));
        assert_eq!((by_node, by_folding), (*expected, *expected), "{expression}");
    }
}

#[test]
fn builtins_without_derivative_are_refused_by_name() {
    for (expression, name) in [
        ("f32(reverseBits(u32(a)))", "reverseBits"),
        ("f32(countOneBits(u32(a)))", "countOneBits"),
        ("unpack4x8unorm(u32(a)).x", "unpack4x8unorm"),
        ("f32(pack4x8snorm(vec4<f32>(a)))", "pack4x8snorm"),
        ("frexp(a).fract", "frexp"),
        ("f32(firstLeadingBit(u32(a)))", "firstLeadingBit"),
        ("f32(extractBits(u32(a), 1u, 2u))", "extractBits"),
    ] {
        let text = format!("fn f(a: f32) -> f32 {{ return {expression}; }}");
        let error = Module::parse("builtin.wgsl", &text).unwrap().function("f").unwrap_err();
        assert_eq!(error.code(), Code::WgslBuiltin, "{error}");
        assert!(error.message().contains(name), "{name}: {error}");
    }
}
