//! Texts that are wrong, or meant to harm: each is answered with its code, at once, on a thread with a small stack.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use cotangent_tensor::{Code, Error, Evaluate, Reference, Tensor};
use cotangent_wgsl::Module;

/// Time for an answer, in a build without optimization too.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Parses a text and asks for its function `f`, on a stack as a test thread has it.
fn answer(text: &str) -> Result<(), Error> {
    let text = text.to_owned();
    let ask = move || Module::parse("hostile.wgsl", &text)?.function("f").map(|_| ());
    std::thread::Builder::new().stack_size(2 << 20).spawn(ask).unwrap().join().unwrap()
}

fn repeated(before: &str, part: &str, count: usize, after: &str) -> String {
    format!("{before}{}{after}", part.repeat(count))
}

#[test]
fn every_hostile_text_is_answered_with_its_code() {
    let f = |body: &str| format!("fn f(x: f32) -> f32 {{ {body} }}");
    let cases: Vec<(String, Code, &str)> = vec![
        // size and nesting, before a parser sees them
        (repeated("fn f(x: f32) -> f32 { return ", "x + ", 100_000, "x; }"), Code::WgslLimit, "bytes"),
        (repeated("fn f(x: f32) -> f32 { return ", "x + ", 300, "x; }"), Code::WgslLimit, "operators"),
        (repeated("fn f(x: f32) -> f32 { return ", "-", 5_000, "x; }"), Code::WgslLimit, "operators"),
        (repeated("fn f(x: f32) -> f32 { return ", "!", 5_000, "true; }"), Code::WgslLimit, "operators"),
        (repeated("fn f(x: f32) -> f32 { return ", "(", 5_000, "x"), Code::WgslLimit, "brackets"),
        (repeated("fn f(x: f32) -> f32 { return ", "abs(", 5_000, "x"), Code::WgslLimit, "brackets"),
        (repeated("fn f(x: f32) -> f32 { ", "{", 5_000, ""), Code::WgslLimit, "brackets"),
        (repeated("fn f(x: f32) -> f32 { ", "if true {", 5_000, ""), Code::WgslLimit, "brackets"),
        (repeated("fn f(x: f32) -> f32 { ", "loop {", 5_000, ""), Code::WgslLimit, "brackets"),
        (repeated("fn f(x: f32) -> f32 { if x > 1.0 { } ", "else if x > 1.0 { } ", 5_000, "return x; }"), Code::WgslLimit, ""),
        (repeated("fn f(x: f32) -> f32 { if x > 1.0 { } ", "else if x > 1.0 { } ", 30, "return x; }"), Code::WgslLimit, "else if"),
        (repeated("", "fn g() {} ", 5_000, ""), Code::WgslLimit, "functions"),
        (repeated("fn f(x: f32) -> f32 { return x; } //", "y", 70_000, ""), Code::WgslLimit, "bytes"),
        (repeated("alias A = ", "array<", 5_000, "f32>"), Code::WgslLimit, ""),
        (repeated("fn f(x: f32) -> f32 { return x", "[0]", 5_000, "; }"), Code::Wgsl, ""),
        (repeated("fn f(x: f32) -> f32 { return x", ".x", 5_000, "; }"), Code::WgslLimit, "operators"),
        (repeated("/*", "/*", 10_000, ""), Code::Wgsl, ""),
        ("fn f(x: f32) -> f32 { return x; }\0".into(), Code::Wgsl, "NUL"),
        // unrolling and size of what comes out
        (f("var y = x; loop { y = y + 1.0; } return y;"), Code::WgslLoop, "nothing leaves"),
        (f("var y = x; while true { y = y + 1.0; } return y;"), Code::WgslLoop, "nothing leaves"),
        (f("var y = x; for (;;) { y = y + 1.0; } return y;"), Code::WgslLoop, "nothing leaves"),
        (f("var y = x; loop { if (y > 9.0) { return y; } y = sin(y) + y; } return y;"), Code::WgslLoop, "nothing shows"),
        (f("var y = x; for (var i = 0; i >= 0; i += 0) { y = sin(y); } return y;"), Code::WgslLoop, "nothing shows"),
        (f("var y = x; while y < 10.0 { y = y * 2.0; } return y;"), Code::WgslLoop, "nothing shows"),
        (
            // calls that double, each of them on another value
            (1..16).fold("fn g0(x: f32) -> f32 { return sin(x); }\n".to_string(), |text, i| {
                let callee = i - 1;
                format!("{text}fn g{i}(x: f32) -> f32 {{ return g{callee}(x) + g{callee}(x + {i}.0); }}\n")
            }) + "fn f(x: f32) -> f32 { return g15(x); }",
            Code::WgslNodes,
            "operations",
        ),
        (
            // calls that double: 2³⁰ of them
            (1..30).fold("fn g0(x: f32) -> f32 { return sin(x); }\n".to_string(), |text, i| {
                format!("{text}fn g{i}(x: f32) -> f32 {{ return g{0}(x) + g{0}(x + 1.0); }}\n", i - 1)
            }) + "fn f(x: f32) -> f32 { return g29(x); }",
            Code::WgslLimit,
            "steps",
        ),
        (
            (1..30).fold("fn g0(x: f32) -> f32 { return x; }\n".to_string(), |text, i| {
                format!("{text}fn g{i}(x: f32) -> f32 {{ return g{0}(x) - g{0}(x); }}\n", i - 1)
            }) + "fn f(x: f32) -> f32 { return g29(1.0) * x; }",
            Code::WgslLimit,
            "steps",
        ),
        (
            (1..200).fold("fn g0(x: f32) -> f32 { return x; }\n".to_string(), |text, i| {
                format!("{text}fn g{i}(x: f32) -> f32 {{ return g{}(x) + 1.0; }}\n", i - 1)
            }) + "fn f(x: f32) -> f32 { return g199(x); }",
            Code::WgslLimit,
            "calls",
        ),
        (
            // rules that call functions with rules
            (1..26).fold("fn g0(x: f32) -> f32 { return x * x; }\n".to_string(), |text, i| {
                format!(
                    "{text}fn g{i}(x: f32) -> f32 {{ return g{0}(x) + g{0}(x * 2.0); }}\n\
                     fn g{i}_vjp(x: f32, up: f32) -> f32 {{ return g{0}(x) * up; }}\n",
                    i - 1
                )
            }) + "fn f(x: f32) -> f32 { return g25(x); }",
            Code::WgslLimit,
            "steps",
        ),
        (f("var a: array<f32, 100000000>; return a[0] + x;"), Code::WgslLimit, "numbers"),
        (f("var a: array<array<f32, 10000>, 10000>; return a[0][0] + x;"), Code::WgslLimit, "numbers"),
        ("fn f(a: array<f32, 1000000000>) -> f32 { return a[0]; }".into(), Code::Wgsl, "limit"),
        (f("var a: array<f32, 100>; return a[u32(x)];"), Code::WgslLimit, "indexed"),
        // recursion and cycles
        ("fn f(x: f32) -> f32 { return f(x); }".into(), Code::Wgsl, "recursive"),
        ("fn f(x: f32) -> f32 { return g(x); } fn g(x: f32) -> f32 { return f(x); }".into(), Code::Wgsl, "cycl"),
        ("const A = B; const B = A; fn f(x: f32) -> f32 { return x * A; }".into(), Code::Wgsl, "cycl"),
        ("struct A { b: B } struct B { a: A } fn f(x: A) -> f32 { return 1.0; }".into(), Code::Wgsl, "cycl"),
        // what is no WGSL
        (String::new(), Code::Wgsl, "declares none"),
        ("fn f(x: f32) -> f32 {".into(), Code::Wgsl, ""),
        ("def f(x): return x".into(), Code::Wgsl, ""),
        ("\u{0}\u{1}\u{2}".into(), Code::Wgsl, ""),
        ("🦀🦀🦀".into(), Code::Wgsl, ""),
        (f("return x * 2;").replace("2;", "2i;"), Code::Wgsl, "cannot combine"),
        (f("return isNan(x);"), Code::Wgsl, "is_nan"),
        (f("return sigmiod(x);"), Code::Wgsl, "sigmoid"),
        (f("return 1.0 / 0.0 + x;"), Code::Wgsl, ""),
        (f("return 1e40 + x;"), Code::Wgsl, ""),
        (f("let a = array<f32, 2>(x, x); return a[5];"), Code::Wgsl, ""),
        // what is no computation on values
        ("@group(0) @binding(0) var<storage, read_write> b: array<f32>; fn f(x: f32) -> f32 { b[0] = x; return x; }".into(), Code::WgslVariable, "`b`"),
        ("var<workgroup> w: array<f32, 64>; fn f(x: f32) -> f32 { return w[0] + x; }".into(), Code::WgslVariable, "`w`"),
        (f("workgroupBarrier(); return x;"), Code::WgslStatement, ""),
        ("fn f(p: ptr<function, f32>) -> f32 { return *p; }".into(), Code::WgslPointer, ""),
        (f("if x > 1.0 { return x; }"), Code::WgslReturn, "on every path"),
        (f("loop { if x > 1.0 { return x; } break; }"), Code::WgslReturn, "on every path"),
        (f("return dpdx(x);"), Code::WgslExpression, "hostile.wgsl:1:"),
        ("fn f(x: sampler) -> f32 { return 1.0; }".into(), Code::WgslType, "hostile.wgsl:1:"),
        (
            f("var a = array<f32, 3>(x, x, x); for (var i = 0; i <= 3; i++) { a[i] = 2.0; } return a[0];"),
            Code::WgslConstant,
            "indices go from 0 to 2",
        ),
        ("fn f(x: f32) { }".into(), Code::WgslResult, "nothing"),
        ("fn f(x: f32) -> bool { return x > 0.0; }".into(), Code::WgslResult, "bool"),
        ("fn f(x: f32) -> f32 { return x; } fn f_vjp(x: f32) -> f32 { return 1.0; }".into(), Code::WgslRule, "1 parameters, not 2"),
        ("fn f(x: f32, n: i32) -> f32 { return x; } fn f_vjp(x: f32, n: f32, g: f32) -> f32 { return g; }".into(), Code::WgslRule, "parameter 1"),
    ];
    assert!(cases.len() >= 55, "{} cases", cases.len());
    for (text, code, part) in &cases {
        let shown: String = text.chars().take(110).collect();
        let start = Instant::now();
        let error = answer(text).expect_err(&shown);
        let took = start.elapsed();
        assert_eq!(error.code(), *code, "{shown}\n{error}");
        assert!(error.to_string().contains(part), "{shown}\n{error}");
        assert!(took < AT_ONCE, "{shown}: {took:?}");
    }
}

#[test]
fn strange_but_valid_text_works() {
    for text in [
        "\u{feff}fn f(x: f32) -> f32 { return x; }",
        "fn f(x: f32) -> f32 {\r\n\treturn x; // 🦀\r\n}\r\n",
        "fn f(été: f32) -> f32 { let ct_x = été; return ct_x; }",
        "fn f(t1: f32, upstream: f32, log: f32) -> f32 { let select = t1; return select + upstream * log; }",
        "/* /* nested */ (((((((((((((((((((((((((((((((((((((((( */ fn f(x: f32) -> f32 { return x; }",
        "fn f(x: f32) -> f32 { return ((((((((((((((((((((x)))))))))))))))))))); }",
        &repeated(
            "fn f(x: f32) -> f32 { var y = x; ",
            "if y > 1.0 { y = 2.0; } else { if y > 3.0 { y = 4.0; } } ",
            30,
            "return y; }",
        ),
        &repeated(
            "fn f(x: f32) -> f32 { var y = x; ",
            "if y > 1.0 { y = 2.0; } else if y > 3.0 { y = 4.0; } ",
            30,
            "return y; }",
        ),
        "fn sigmoid(x: f32) -> f32 { return x; } fn f(x: f32) -> f32 { return sigmoid(x); }",
        "fn f(x: f32) -> f32 { var y = x; for (var i = 0; i < 256; i++) { y += 1.0; } return y; }",
    ] {
        assert!(answer(text).is_ok(), "{text}: {}", answer(text).unwrap_err());
    }
}

#[test]
fn loops_that_take_for_ever_are_accepted_and_stopped() {
    let nest = "var y = 0.0; for (var i = 0; i < 255; i++) { for (var j = 0; j < 255; j++) { for (var k = 0; k < 255; k++) { for (var l = 0; l < 255; l++) { y += 1.0; } } } } return x + y;";
    for body in [nest, "var y = x; for (var i = 0; i < 1000000; i++) { y = sin(y); } return y;"] {
        let start = Instant::now();
        let module = Module::parse("hostile.wgsl", &format!("fn f(x: f32) -> f32 {{ {body} }}"))
            .unwrap()
            .unbounded(2000);
        let function = module.function("f").unwrap_or_else(|error| panic!("{error}"));
        let took = start.elapsed();
        assert!(took < AT_ONCE, "{body}: {took:?}");
        let error = Reference::new().evaluate(&[&function.call(&[&Tensor::new([1.0])])]).unwrap_err();
        assert_eq!(error.code(), Code::LoopRounds, "{body}: {error}");
    }
}
