//! E. User WGSL, before any driver sees it.

use std::ops::Add as _;

use crate::common::{Array, Code, Error, Evaluator, Tensor, grad, wgsl};
use crate::table::Try::{Fails, Gives, Holds, Says};
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
        id: 68,
        input: "an index outside of a buffer",
        tries: &[
            Fails(
                "seen by the interpreter",
                |e| verified(e, "y[id.x + 1u] = x[id.x];"),
                Code::WgslBounds,
                &["kernel.wgsl:4:", "`y`"],
            ),
            Fails(
                "both sides of a select",
                |e| verified(e, "y[id.x] = select(0.0, x[id.x + 1u], id.x < 3u);"),
                Code::WgslBounds,
                &["`x`"],
            ),
            Gives(
                "behind a guard",
                |e| kernel(e, "if id.x + 1u < arrayLength(&x) { y[id.x] = x[id.x + 1u]; }"),
                &[1.0, 1.0, 1.0, 0.0],
            ),
            Holds("harmless on an adapter, an error elsewhere", |e| {
                match kernel(e, "y[4u * id.x] = x[id.x];") {
                    Ok(arrays) if e.is_adapter() && arrays[0].to_f64()[1..3] == [0.0, 0.0] => Ok(()),
                    Err(error) if !e.is_adapter() && error.code() == Code::WgslBounds => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }),
        ],
    },
    Row {
        id: 69,
        input: "a barrier that only some invocations reach",
        tries: &[
            Fails(
                "by their number",
                |e| kernel(e, "if id.x == 0u {\n  workgroupBarrier();\n}\ny[id.x] = x[id.x];"),
                Code::WgslUniformity,
                &["5 │", "this barrier"],
            ),
            Fails(
                "after a return",
                |e| kernel(e, "if id.x > 2u { return; } workgroupBarrier(); y[id.x] = x[id.x];"),
                Code::WgslUniformity,
                &["this barrier"],
            ),
            Fails(
                "by data",
                |e| kernel(e, "if x[id.x] > 0.0 { storageBarrier(); } y[id.x] = x[id.x];"),
                Code::WgslUniformity,
                &["this barrier"],
            ),
            Gives(
                "by what is the same for all",
                |e| kernel(e, "if arrayLength(&x) > 2u { workgroupBarrier(); } y[id.x] = x[id.x];"),
                &[1.0, 1.0, 1.0, 1.0],
            ),
        ],
    },
    Row {
        id: 70,
        input: "too much workgroup memory",
        tries: &[
            Fails(
                "in two variables",
                |e| {
                    let text =
                        "var<workgroup> a: array<f32, 10000>;\nvar<workgroup> b: array<vec4<f32>, 2000>;\n";
                    whole(
                        e,
                        &format!(
                            "{BUFFERS}{text}{ENTRY} a[0] = 1.0; b[0].x = 1.0; y[id.x] = a[1] + b[1].x; }}"
                        ),
                    )
                },
                Code::Limit,
                &["72000 bytes", "`a` 40000", "`b` 32000", "65536 are allowed"],
            ),
            Gives(
                "less",
                |e| {
                    let text = "var<workgroup> a: array<f32, 4>;\n";
                    whole(
                        e,
                        &format!("{BUFFERS}{text}{ENTRY} a[id.x] = x[id.x]; y[id.x] = 2.0 * a[id.x]; }}"),
                    )
                },
                &[2.0, 2.0, 2.0, 2.0],
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
        id: 72,
        input: "workgroups of no size, or of a size that no adapter grants",
        tries: &[
            Fails("0", |e| sized(e, "0"), Code::Limit, &["0 × 1 × 1"]),
            Fails("more than 1024", |e| sized(e, "1025"), Code::Limit, &["1025", "1024 are allowed"]),
            Fails("by the product", |e| sized(e, "64, 4, 8"), Code::Limit, &["64 × 4 × 8 = 2048"]),
            Gives("one", |e| sized(e, "1"), &[1.0, 1.0, 1.0, 1.0]),
        ],
    },
    Row {
        id: 73,
        input: "bindings that are there twice, or not at all",
        tries: &[
            Fails(
                "twice",
                |e| whole(e, &BUFFERS.replace("@binding(1)", "@binding(0)").add(ENTRY).add("y[0] = x[0]; }")),
                Code::WgslBinding,
                &["`x` and `y`", "@group(0) @binding(0)"],
            ),
            Fails(
                "missing",
                |e| whole(e, &BUFFERS.replace("@group(0) @binding(0) ", "").add(ENTRY).add("y[0] = x[0]; }")),
                Code::WgslBinding,
                &["`x` has no @group and @binding"],
            ),
            Fails(
                "a write to what is read-only",
                |e| kernel(e, "x[id.x] = 1.0; y[id.x] = 1.0;"),
                Code::WgslBinding,
                &["`x` is declared read-only", "written here"],
            ),
            Fails(
                "a missing entry point",
                |e| whole(e, &BUFFERS.to_string().add(&ENTRY.replace("main", "mian")).add("y[0] = x[0]; }")),
                Code::WgslBinding,
                &["no entry point `main`", "`mian` is meant"],
            ),
            Fails(
                "an input that is not given",
                |e| {
                    let text = format!("{BUFFERS}{ENTRY} y[id.x] = x[id.x]; }}");
                    let kernel = wgsl::Module::parse_kernels("kernel.wgsl", &text)?.kernel("main")?;
                    read(e, &[&kernel.output("y", [4]).call(&[])])
                },
                Code::WgslBinding,
                &["`x` is given 0 times", "e_wgsl.rs"],
            ),
        ],
    },
    Row {
        id: 74,
        input: "pointers to one variable in a call",
        tries: &[
            Fails(
                "one is written through",
                |e| pointers(e, "*a = 2.0 * *b;"),
                Code::WgslAlias,
                &["`f`", "`z`", "`a`", "`b`"],
            ),
            Gives("both are read", |e| pointers(e, "z = *a + *b;"), &[1.0, 1.0, 1.0, 1.0]),
        ],
    },
    Row {
        id: 75,
        input: "extensions",
        tries: &[
            Fails(
                "atomics of floats",
                |e| {
                    let buffers =
                        BUFFERS.replace("read_write> y: array<f32>", "read_write> y: array<atomic<f32>>");
                    whole(e, &format!("{buffers}{ENTRY} atomicAdd(&y[0], x[0]); }}"))
                },
                Code::Feature,
                &["atomics of floats"],
            ),
            Fails("u64", |e| kernel(e, "var n: u64 = 1; y[id.x] = f32(n);"), Code::Feature, &["u64"]),
            Fails("f64", |e| kernel(e, "var n: f64 = 1.0; y[id.x] = f32(n);"), Code::Feature, &["f64"]),
            Fails(
                "subgroups",
                |e| kernel(e, "y[id.x] = subgroupAdd(x[id.x]);"),
                Code::Feature,
                &["extension"],
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

/// Buffers of a kernel from `x` to `y`, and the head of its entry point.
const BUFFERS: &str = "@group(0) @binding(0) var<storage, read> x: array<f32>;\n\
                       @group(0) @binding(1) var<storage, read_write> y: array<f32>;\n";
const ENTRY: &str = "@compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3<u32>) {\n";

/// The kernel `main` of a text, on four ones.
fn whole(evaluator: &Evaluator, text: &str) -> Result<Vec<Array>, Error> {
    let kernel = wgsl::Module::parse_kernels("kernel.wgsl", text)?.kernel("main")?.output("y", [4]);
    read(evaluator, &[&kernel.call(&[("x", &Tensor::ones([4]))])])
}
fn kernel(evaluator: &Evaluator, body: &str) -> Result<Vec<Array>, Error> {
    whole(evaluator, &format!("{BUFFERS}{ENTRY}{body}\n}}"))
}
/// The kernel, run once by the interpreter.
fn verified(evaluator: &Evaluator, body: &str) -> Result<Vec<Array>, Error> {
    let text = format!("{BUFFERS}{ENTRY}{body}\n}}");
    let kernel = wgsl::Module::parse_kernels("kernel.wgsl", &text)?.kernel("main")?.output("y", [4]);
    kernel.verify(&[("x", &Tensor::ones([4]))], evaluator).map(|_| Vec::new())
}
fn sized(evaluator: &Evaluator, size: &str) -> Result<Vec<Array>, Error> {
    let entry = ENTRY.replace("@workgroup_size(4)", &format!("@workgroup_size({size})"));
    whole(evaluator, &format!("{BUFFERS}{entry} y[id.x] = x[id.x]; }}"))
}
/// A function that gets two pointers to one variable.
fn pointers(evaluator: &Evaluator, body: &str) -> Result<Vec<Array>, Error> {
    let function = format!("fn f(a: ptr<function, f32>, b: ptr<function, f32>) {{ var z = 0.0; {body} }}\n");
    whole(evaluator, &format!("{BUFFERS}{function}{ENTRY} var z = x[id.x]; f(&z, &z); y[id.x] = z; }}"))
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
