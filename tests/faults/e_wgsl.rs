//! E. User WGSL, before any driver sees it.

use crate::common::{Array, Code, Error, Evaluator, Tensor, grad, wgsl};
use crate::table::Try::{Fails, Gives, Says};
use crate::table::{Row, read};

pub const ROWS: &[Row] = &[
    Row {
        id: 64,
        input: "a syntax or type error",
        tries: &[
            Says(
                |e| called(e, "fn f(p: f32, y: i32) -> f32 {\n  return p * y;\n}"),
                "error[E_WGSL]: losses.wgsl: in `f`: `*` cannot combine f32 and i32\n  \
                 ┌─ losses.wgsl:1:6\n  │\n\
                 1 │ fn f(p: f32, y: i32) -> f32 {\n  │      ^       ^ y is i32\n  │      │        \n  │      p is f32\n\
                 2 │   return p * y;\n  │          ^^^^^ this `*`\n  \
                 help: WGSL converts nothing by itself: write f32(x) or i32(x)",
            ),
            Fails(
                "a name that is nowhere",
                |e| called(e, "fn f(p: f32) -> f32 {\n  return p + q;\n}"),
                Code::Wgsl,
                &["losses.wgsl:2:14", "`q`"],
            ),
            Fails("no WGSL", |e| called(e, "def f(x): return x"), Code::Wgsl, &["losses.wgsl:1:1"]),
            Fails(
                "the wrong type is returned",
                |e| called(e, "fn f(p: f32) -> f32 { return 1i; }"),
                Code::Wgsl,
                &["f32", "losses.wgsl:1:"],
            ),
        ],
    },
    Row {
        id: 65,
        input: "recursion and cycles",
        tries: &[
            Fails(
                "a function",
                |e| called(e, "fn f(x: f32) -> f32 { return f(x); }"),
                Code::Wgsl,
                &["recursive"],
            ),
            Fails(
                "two functions",
                |e| called(e, "fn f(x: f32) -> f32 { return g(x); }\nfn g(x: f32) -> f32 { return f(x); }"),
                Code::Wgsl,
                &["cycl"],
            ),
            Fails(
                "constants",
                |e| called(e, "const A = B;\nconst B = A;\nfn f(x: f32) -> f32 { return x * A; }"),
                Code::Wgsl,
                &["cycl"],
            ),
            Fails(
                "types",
                |e| called(e, "struct A { b: B }\nstruct B { a: A }\nfn f(x: f32) -> f32 { return x; }"),
                Code::Wgsl,
                &["cycl"],
            ),
        ],
    },
    Row {
        id: 66,
        input: "text that is too large or too deeply nested",
        tries: &[
            Fails(
                "bytes",
                |e| called(e, &" ".repeat(70_000)),
                Code::WgslLimit,
                &["70000 where 65536 are allowed"],
            ),
            Fails(
                "brackets",
                |e| called(e, &around("(", 33)),
                Code::WgslLimit,
                &["brackets inside each other"],
            ),
            Gives("fewer brackets", |e| called(e, &around("(", 20)), &[1.0]),
            Fails(
                "a chain",
                |e| called(e, &format!("fn f(x: f32) -> f32 {{ return {}x; }}", "x+".repeat(10_000))),
                Code::WgslLimit,
                &["operators in one statement"],
            ),
            Fails(
                "a hundred thousand terms",
                |e| called(e, &format!("fn f(x: f32) -> f32 {{ return {}x; }}", "x+".repeat(100_000))),
                Code::WgslLimit,
                &["bytes of text"],
            ),
            Fails("`else if`", |e| called(e, &ladder(25)), Code::WgslLimit, &["`else if` in a row"]),
            Gives("fewer of them", |e| called(e, &ladder(20)), &[1.0]),
            Fails(
                "functions",
                |e| called(e, &"fn g() {}\n".repeat(257)),
                Code::WgslLimit,
                &["functions: 257"],
            ),
        ],
    },
    Row {
        id: 67,
        input: "loops without a bound",
        tries: &[
            Fails(
                "loop",
                |e| called(e, "fn f(x: f32) -> f32 { var y = x; loop { y += 1.0; } return y; }"),
                Code::WgslLoop,
                &["nothing leaves this loop"],
            ),
            Fails(
                "while",
                |e| called(e, "fn f(x: f32) -> f32 { var y = x; while true { y += 1.0; } return y; }"),
                Code::WgslLoop,
                &["nothing leaves this loop"],
            ),
            Fails(
                "a search",
                |e| called(e, "fn f(x: f32) -> f32 { var y = x; while y < 100.0 { y *= 2.0; } return y; }"),
                Code::WgslLoop,
                &["losses.wgsl:1:34", "unbounded"],
            ),
            Fails(
                "a search that never ends",
                |e| {
                    let text = "fn f(x: f32) -> f32 { var y = x; while y < 100.0 { y *= 2.0; } return y; }";
                    let module = wgsl::Module::parse("losses.wgsl", text)?.unbounded(50);
                    read(e, &[&module.function("f")?.call(&[&Tensor::new([200.0, -1.0])])])
                },
                Code::LoopRounds,
                &["element 1 does not end within 50 rounds", "`f` (losses.wgsl:1)"],
            ),
            Gives(
                "a search with a limit",
                |e| {
                    let text = "fn f(x: f32) -> f32 { var y = x; while y < 100.0 { y *= 2.0; } return y; }";
                    let module = wgsl::Module::parse("losses.wgsl", text)?.unbounded(50);
                    read(e, &[&module.function("f")?.call(&[&Tensor::new([1.0])])])
                },
                &[128.0],
            ),
            Fails(
                "a bound that is far away",
                |e| {
                    called(
                        e,
                        "fn f(x: f32) -> f32 { var y = x; for (var i = 0; i < 1000000; i++) { y += 1.0; } return y; }",
                    )
                },
                Code::LoopRounds,
                &["element 0 does not end within 65535 rounds"],
            ),
            Gives(
                "a bound and a way out",
                |e| {
                    called(
                        e,
                        "fn f(x: f32) -> f32 { var y = x; for (var i = 0; i < 64; i++) { if y > 100.0 { break; } y *= 2.0; } return y; }",
                    )
                },
                &[128.0],
            ),
        ],
    },
    Row {
        id: 71,
        input: "arrays that are too large",
        tries: &[
            Fails(
                "in a function",
                |e| called(e, "fn f(x: f32) -> f32 { var a: array<f32, 5000>; return a[0] + x; }"),
                Code::WgslLimit,
                &["5000 numbers, where 4096 are allowed"],
            ),
            Fails(
                "arrays of arrays",
                |e| {
                    called(
                        e,
                        "fn f(x: f32) -> f32 { var a: array<array<f32, 10000>, 10000>; return a[0][0] + x; }",
                    )
                },
                Code::WgslLimit,
                &["numbers"],
            ),
        ],
    },
    Row {
        id: 76,
        input: "constants that are no numbers, and names of other languages",
        tries: &[
            Fails(
                "a division by 0",
                |e| called(e, "fn f(x: f32) -> f32 { return x + 1.0 / 0.0; }"),
                Code::Wgsl,
                &["losses.wgsl:1:"],
            ),
            Fails(
                "too large",
                |e| called(e, "fn f(x: f32) -> f32 { return x + 1e40; }"),
                Code::Wgsl,
                &["losses.wgsl:1:"],
            ),
            Fails(
                "isNan",
                |e| called(e, "fn f(x: f32) -> f32 { return select(x, 0.0, isNan(x)); }"),
                Code::Wgsl,
                &["`isNan`", "write is_nan(x)"],
            ),
            Gives("log1p", |e| called(e, "fn f(x: f32) -> f32 { return log1p(x - 1.0); }"), &[0.0]),
        ],
    },
    Row {
        id: 77,
        input: "what has no derivative",
        tries: &[
            Fails(
                "bits",
                |e| called(e, "fn f(x: f32) -> f32 {\n  return bitcast<f32>(bitcast<u32>(x) & 1u);\n}"),
                Code::WgslBitcast,
                &["losses.wgsl:2:"],
            ),
            Fails(
                "an integer path",
                |_| {
                    let f =
                        wgsl::Module::parse("losses.wgsl", "fn f(x: f32) -> f32 { return f32(i32(x)); }")?
                            .function("f")?;
                    let x = Tensor::new([1.5]);
                    grad(&f.call(&[&x]).sum(..), &x)?.or_error().map(|_| Vec::new())
                },
                Code::NotDifferentiable,
                &["e_wgsl.rs"],
            ),
            Fails(
                "a variable of the module",
                |e| called(e, "var<private> n: f32;\nfn f(x: f32) -> f32 {\n  return x + n;\n}"),
                Code::WgslVariable,
                &["`n`", "losses.wgsl:3:"],
            ),
            Fails(
                "a builtin",
                |e| called(e, "fn f(x: f32) -> f32 { return frexp(x).fract; }"),
                Code::WgslBuiltin,
                &["`frexp`"],
            ),
            Fails(
                "a barrier",
                |e| called(e, "fn f(x: f32) -> f32 { workgroupBarrier(); return x; }"),
                Code::WgslStatement,
                &["losses.wgsl:1:"],
            ),
        ],
    },
    Row {
        id: 78,
        input: "names",
        tries: &[
            Gives(
                "of generated values",
                |e| {
                    called(e, "fn f(ct_x: f32) -> f32 { let t1 = ct_x; let upstream = t1; return upstream; }")
                },
                &[1.0],
            ),
            Gives("that are not ASCII", |e| called(e, "fn f(été: f32) -> f32 { return été; }"), &[1.0]),
            Gives(
                "of the prelude",
                |e| {
                    called(
                        e,
                        "fn relu(x: f32) -> f32 { return x - 2.0; }\nfn f(x: f32) -> f32 { return relu(x); }",
                    )
                },
                &[-1.0],
            ),
        ],
    },
    Row {
        id: 79,
        input: "NUL, byte order mark, CRLF",
        tries: &[
            Fails(
                "NUL",
                |e| called(e, "fn f(x: f32) -> f32 {\n return x; }\n\0"),
                Code::Wgsl,
                &["line 3", "NUL"],
            ),
            Gives("a byte order mark", |e| called(e, "\u{feff}fn f(x: f32) -> f32 { return x; }"), &[1.0]),
            Fails(
                "CRLF",
                |e| called(e, "fn f(x: f32) -> f32 {\r\n  return x + q;\r\n}"),
                Code::Wgsl,
                &["losses.wgsl:2:14"],
            ),
        ],
    },
];

/// The function `f` of a text, at ones.
fn called(evaluator: &Evaluator, text: &str) -> Result<Vec<Array>, Error> {
    let f = wgsl::Module::parse("losses.wgsl", text)?.function("f")?;
    let ones: Vec<Tensor> = f.parameters().iter().map(|_| Tensor::new([1.0])).collect();
    read(evaluator, &[&f.call(&ones.iter().collect::<Vec<_>>())])
}
fn around(bracket: &str, count: usize) -> String {
    format!("fn f(x: f32) -> f32 {{ return {}x{}; }}", bracket.repeat(count), ")".repeat(count))
}
fn ladder(count: usize) -> String {
    format!(
        "fn f(x: f32) -> f32 {{ if x > 5.0 {{ return 2.0; }} {} return x; }}",
        "else if x > 6.0 { return 3.0; } ".repeat(count)
    )
}
