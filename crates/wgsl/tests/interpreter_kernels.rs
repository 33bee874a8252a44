//! Whole kernels: what they compute, and the faults that the interpreter must find, each planted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_tensor::{Code, Detail, Error};
use cotangent_wgsl::{Interpreter, Module, Run};

fn parse(text: &str) -> Module {
    Module::parse_kernels("kernel.wgsl", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn fails(run: Result<Run, Error>, code: Code, parts: &[&str]) -> Error {
    let error = run.expect_err("it must fail");
    assert_eq!(error.code(), code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in {error}");
    }
    error
}

fn detail(error: &Error, name: &str) -> Option<i64> {
    error.details().iter().find_map(|(key, value)| match value {
        Detail::Integer(value) if *key == name => Some(*value),
        _ => None,
    })
}

/// A matrix product by tiles of 4 × 4, extents any.
const MATMUL: &str = "
struct Extents { m: u32, n: u32, k: u32 }
@group(0) @binding(0) var<uniform> extents: Extents;
@group(0) @binding(1) var<storage, read> lhs: array<f32>;
@group(0) @binding(2) var<storage, read> rhs: array<f32>;
@group(0) @binding(3) var<storage, read_write> product: array<f32>;
var<workgroup> left: array<array<f32, 4>, 4>;
var<workgroup> right: array<array<f32, 4>, 4>;
fn lhs_at(row: u32, k: u32) -> f32 {
    if row < extents.m && k < extents.k { return lhs[row * extents.k + k]; }
    return 0.0;
}
fn rhs_at(k: u32, column: u32) -> f32 {
    if k < extents.k && column < extents.n { return rhs[k * extents.n + column]; }
    return 0.0;
}
@compute @workgroup_size(4, 4)
fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(local_invocation_id) in: vec3<u32>) {
    var sum = 0.0;
    for (var turn = 0u; turn < (extents.k + 3u) / 4u; turn++) {
        left[in.y][in.x] = lhs_at(at.y, turn * 4u + in.x);
        right[in.y][in.x] = rhs_at(turn * 4u + in.y, at.x);
        workgroupBarrier(); // first
        for (var k = 0u; k < 4u; k++) { sum += left[in.y][k] * right[k][in.x]; }
        workgroupBarrier(); // second
    }
    if at.y < extents.m && at.x < extents.n { product[at.y * extents.n + at.x] = sum; }
}";

fn numbers(n: usize, factor: usize) -> Vec<f64> {
    (0..n).map(|i| (i * factor % 17) as f64 / 4.0 - 2.0).collect()
}

fn matmul(text: &str) -> Result<Run, Error> {
    let module = parse(text);
    let (a, b) = (numbers(5 * 7, 5), numbers(7 * 6, 3));
    Interpreter::new(&module)
        .bind("extents", &[5.0, 6.0, 7.0])
        .bind("lhs", &a)
        .bind("rhs", &b)
        .bind_output("product", 30)
        .dispatch("main", [2, 2, 1])
}

#[test]
fn a_matrix_product_by_tiles() {
    let (a, b) = (numbers(5 * 7, 5), numbers(7 * 6, 3));
    let dot = |i: usize| (0..7).map(|k| a[i / 6 * 7 + k] * b[k * 6 + i % 6]).sum::<f64>();
    let expected: Vec<f64> = (0..30).map(dot).collect();
    assert_eq!(matmul(MATMUL).unwrap().numbers("product").unwrap(), expected);
}

#[test]
fn a_dropped_barrier_is_a_race() {
    for which in ["first", "second"] {
        let text = MATMUL.replace(&format!("workgroupBarrier(); // {which}"), "");
        let error = fails(
            matmul(&text),
            Code::WgslRace,
            &[
                "no `workgroupBarrier()` lies between",
                "invocation (",
                "kernel.wgsl:",
                "writes",
                "reads",
                "it holds",
            ],
        );
        assert!(error.message().contains("`left[") || error.message().contains("`right["), "{error}");
    }
    // a barrier of other memory orders nothing here
    let text = MATMUL.replace("workgroupBarrier(); // second", "storageBarrier();");
    fails(matmul(&text), Code::WgslRace, &["no `workgroupBarrier()`"]);
}

#[test]
fn a_load_guarded_by_select_is_out_of_bounds() {
    let guarded = "if row < extents.m && k < extents.k { return lhs[row * extents.k + k]; }\n    return 0.0;";
    let selected = "return select(0.0, lhs[row * extents.k + k], row < extents.m && k < extents.k);";
    assert!(MATMUL.contains(guarded), "the text to break");
    let error = fails(
        matmul(&MATMUL.replace(guarded, selected)),
        Code::WgslBounds,
        &[
            "index 35 is outside of `lhs`, whose length is 35",
            "workgroup (0, 1, 0)",
            "lhs[row * extents.k + k]",
        ],
    );
    assert_eq!((detail(&error, "index"), detail(&error, "length")), (Some(35), Some(35)));
}

#[test]
fn an_index_that_is_off_by_one() {
    let text = MATMUL.replace("at.x < extents.n {", "at.x <= extents.n {");
    // one past the end of a row is the next row: a race first
    fails(matmul(&text), Code::WgslRace, &["race on `product["]);
    let text = MATMUL.replace("product[at.y * extents.n + at.x]", "product[at.y * extents.n + at.x + 1u]");
    fails(matmul(&text), Code::WgslBounds, &["index 30 is outside of `product`, whose length is 30"]);
}

#[test]
fn a_barrier_that_some_do_not_reach() {
    let text = MATMUL.replace(
        "workgroupBarrier(); // second",
        "workgroupBarrier(); if at.x < extents.n { workgroupBarrier(); }",
    );
    fails(
        matmul(&text),
        Code::WgslUniformity,
        &["is reached by 8 of 16 invocations of workgroup (1, 0, 0)", "waits here"],
    );
    let text = MATMUL.replace("var sum = 0.0;", "var sum = 0.0; if in.x == 3u { return; }");
    fails(matmul(&text), Code::WgslUniformity, &["12 of 16", "has ended"]);
    let text = "fn sync() { workgroupBarrier(); }
        @compute @workgroup_size(2) fn main(@builtin(local_invocation_index) i: u32) {
            if i == 0u { sync(); } else { sync(); } }";
    fails(
        Interpreter::new(&parse(text)).dispatch("main", [1, 1, 1]),
        Code::WgslUniformity,
        &["waits at another"],
    );
}

#[test]
fn a_loop_without_an_end() {
    let text = MATMUL.replace("k++)", "k = k)");
    fails(matmul(&text), Code::WgslFuel, &["still running after 100000000 operations"]);
    let empty = parse("@compute @workgroup_size(1) fn main() {}");
    let many = Interpreter::new(&empty).fuel(1000).dispatch("main", [65_535, 65_535, 1]);
    fails(many, Code::WgslFuel, &["1000"]);
    let too_many = Interpreter::new(&empty).dispatch("main", [65_535, 65_535, 65_535]);
    fails(too_many, Code::WgslLimit, &["workgroups"]);
}

#[test]
fn a_nan_in_the_middle() {
    let text = MATMUL.replace("sum += left", "sum += sqrt(sum + 1.0) * 0.0 + left");
    let run = matmul(&text).unwrap();
    let origin = run.first_nonfinite().unwrap();
    assert_eq!(origin.operation, "sqrt");
    assert!(origin.inputs[0] < 0.0 && origin.results[0].is_nan() && origin.invocation.is_some(), "{origin}");
    assert!(origin.to_string().contains("sqrt(sum + 1.0)"), "{origin}");
    assert!(matmul(MATMUL).unwrap().first_nonfinite().is_none());
}

/// Runs a body over four elements of `y` with workgroups of `size`.
fn body(size: u32, workgroups: u32, declarations: &str, body: &str) -> Result<Run, Error> {
    let text = format!(
        "{declarations}
        @group(0) @binding(9) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size({size}) fn main(
            @builtin(global_invocation_id) global: vec3<u32>, @builtin(local_invocation_index) i: u32,
            @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {{ {body} }}"
    );
    let module = parse(&text);
    Interpreter::new(&module).bind("y", &[1.0, 2.0, 3.0, 4.0]).dispatch("main", [workgroups, 1, 1])
}

#[test]
fn nothing_orders_workgroups() {
    let across = ["workgroups", "workgroup (0, 0, 0)", "workgroup (1, 0, 0)"];
    fails(body(1, 4, "", "y[0] = f32(group.x);"), Code::WgslRace, &across);
    fails(body(1, 4, "", "y[group.x] = y[(group.x + 1u) % groups.x];"), Code::WgslRace, &across);
    fails(
        body(1, 4, "", "if group.x == 3u { y[0] = y[1]; } else { y[group.x + 1u] = 0.0; }"),
        Code::WgslRace,
        &["`y[1]`"],
    );
    // readers of one workgroup do not hide those of another
    fails(
        body(2, 2, "", "if group.x == 1u && i == 1u { storageBarrier(); }"),
        Code::WgslUniformity,
        &["1 of 2"],
    );
    let late = "var<private> s: f32;";
    fails(
        body(2, 2, late, "s = y[3]; storageBarrier(); if group.x == 1u && i == 0u { y[3] = s; }"),
        Code::WgslRace,
        &["`y[3]`", "workgroup (0, 0, 0) reads it", "workgroup (1, 0, 0) writes it"],
    );
    assert!(body(1, 4, "", "y[group.x] = y[group.x] * 2.0;").is_ok());
    assert!(body(1, 4, "", "y[group.x] = f32(groups.x);").is_ok());
}

#[test]
fn a_storage_barrier_orders_storage_within_a_workgroup() {
    let shift = "let x = y[(i + 1u) % 4u]; BARRIER; y[i] = x;";
    let run = body(4, 1, "", &shift.replace("BARRIER", "storageBarrier()")).unwrap();
    assert_eq!(run.numbers("y").unwrap(), [2.0, 3.0, 4.0, 1.0]);
    fails(
        body(4, 1, "", &shift.replace("BARRIER", "workgroupBarrier()")),
        Code::WgslRace,
        &["no `storageBarrier()`"],
    );
    // of two readers the second is not the last word
    let two = "let x = y[0]; if i == 1u { y[0] = x; }";
    fails(body(2, 1, "", two), Code::WgslRace, &["invocation (0, 0, 0)", "invocation (1, 0, 0)"]);
    let own = "if i < 2u { let x = y[0]; y[i + 2u] = x; } if i == 1u { y[0] = 5.0; }";
    fails(body(2, 1, "", own), Code::WgslRace, &["`y[0]`"]);
    assert!(body(2, 1, "", "y[i] = y[i] + 1.0; y[i] = y[i] + 1.0;").is_ok());
    // components of one vector are one place for writes
    let vector = "var<workgroup> v: vec2<f32>;";
    fails(body(2, 1, vector, "v[i] = 1.0;"), Code::WgslRace, &["`v.x`"]);
    assert!(body(2, 1, vector, "y[i] = v[i];").is_ok());
}

#[test]
fn atomics_do_not_race() {
    let text = "
        struct Counts { sum: atomic<u32>, least: atomic<i32>, most: atomic<i32>, bits: atomic<u32>, all: atomic<u32>, odd: atomic<u32>, last: atomic<u32>, won: atomic<u32> }
        @group(0) @binding(0) var<storage, read_write> counts: Counts;
        @group(0) @binding(1) var<storage, read_write> tickets: array<u32>;
        var<workgroup> local: atomic<u32>;
        @compute @workgroup_size(4) fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(local_invocation_index) i: u32) {
            tickets[at.x] = atomicAdd(&counts.sum, 2u);
            atomicMin(&counts.least, -i32(at.x)); atomicMax(&counts.most, i32(at.x) - 3);
            atomicOr(&counts.bits, 1u << at.x); atomicAnd(&counts.all, ~(1u << at.x)); atomicXor(&counts.odd, at.x);
            atomicExchange(&counts.last, at.x);
            let tried = atomicCompareExchangeWeak(&counts.won, 0u, at.x + 1u);
            if tried.exchanged { atomicSub(&local, 1u); }
            workgroupBarrier();
            if i == 0u { atomicStore(&counts.last, atomicLoad(&local)); }
        }";
    let module = parse(text);
    let run = Interpreter::new(&module)
        .bind("counts", &[0.0, 0.0, 0.0, 0.0, 255.0, 0.0, 9.0, 0.0])
        .bind_output("tickets", 8)
        .dispatch("main", [2, 1, 1])
        .unwrap();
    assert_eq!(run.numbers("counts").unwrap(), [16.0, -7.0, 4.0, 255.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(run.numbers("tickets").unwrap(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
}

#[test]
fn a_uniform_load_is_a_barrier_and_a_value_for_all() {
    let text = "var<workgroup> last: u32; var<workgroup> two: array<u32, 2>;";

    let run = body(
        4,
        1,
        text,
        "if i == 3u { last = 7u; } let l = workgroupUniformLoad(&last); if i == 0u { last = 9u; } y[i] = f32(l + i);",
    );
    assert_eq!(run.unwrap().numbers("y").unwrap(), [7.0, 8.0, 9.0, 10.0]);
    let places = body(2, 1, text, "y[i] = f32(workgroupUniformLoad(&two[i]));");
    fails(places, Code::WgslUniformity, &["reads another place"]);
}

#[test]
fn structures_have_the_layout_of_buffers() {
    let text = "
        struct Inner { a: vec2<f32>, b: f32 }
        struct Outer { x: f32, v: vec3<f32>, k: i32, m: mat3x2<f32>, n: mat2x3<f32>, many: array<Inner, 2>, tail: array<vec3<u32>> }
        @group(0) @binding(0) var<storage, read_write> s: Outer;
        @group(0) @binding(1) var<storage, read_write> length: u32;
        @compute @workgroup_size(1) fn main() {
            s.x += 1.0; s.v.y += 1.0; s.k -= 1; s.m[1] += vec2(1.0); s.n[1].z += 1.0; s.many[1].b += 1.0; s.tail[1] += vec3(1u);
            length = arrayLength(&s.tail);
        }";
    let module = parse(text);
    // x 0; v 16; k 28; m 32 (columns of 8); n 64 (columns of 16); many 96 (elements of 16); tail 128 (elements of 16)
    let mut words = vec![0u32; 44];
    let mut expected = words.clone();
    for (at, value) in
        [(0, 10.0f32), (4, 1.0), (5, 2.0), (6, 3.0), (10, 4.0), (11, 5.0), (22, 6.0), (30, 7.0)]
    {
        words[at] = value.to_bits();
        expected[at] = words[at];
    }
    (words[7], expected[7]) = (5, 4);
    // padding stays as it is
    for padding in [1, 19, 31, 35, 43] {
        words[padding] = 0xdead_beef;
        expected[padding] = 0xdead_beef;
    }
    (words[36], words[38]) = (1, 3);
    (expected[36], expected[37], expected[38]) = (2, 1, 4);
    for (at, value) in [(0, 11.0f32), (5, 3.0), (10, 5.0), (11, 6.0), (22, 7.0), (30, 8.0)] {
        expected[at] = value.to_bits();
    }
    let interpreter = Interpreter::new(&module).bind_words("s", &words).bind_output("length", 1);
    let run = interpreter.dispatch("main", [1, 1, 1]).unwrap();
    assert_eq!(run.words("s").unwrap(), expected);
    assert_eq!(run.numbers("length").unwrap(), [3.0]);
    // without padding: 1 + 3 + 1 + 6 + 6 + 2·3, then 3 for each element
    let numbers = run.numbers("s").unwrap();
    assert_eq!((numbers.len(), numbers[4], numbers[7]), (32, 4.0, 5.0));
    let again = Interpreter::new(&module).bind("s", &numbers).bind_output("length", 1);
    assert_eq!(again.dispatch("main", [1, 1, 1]).unwrap().numbers("s").unwrap()[4], 3.0);
    let short = Interpreter::new(&module).bind_words("s", &words[..33]).bind_output("length", 1);
    fails(short.dispatch("main", [1, 1, 1]), Code::WgslBinding, &["buffer `s`", "not one element"]);
    let two = Interpreter::new(&module).bind_words("s", &words[..36]).bind_output("length", 1);
    fails(
        two.dispatch("main", [1, 1, 1]),
        Code::WgslBounds,
        &["index 1 is outside of `s.tail`, whose length is 1"],
    );
}

#[test]
fn bindings_that_do_not_fit_are_named() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<i32, 2>;
        @group(1) @binding(3) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn main() { y[0] = f32(x[1]); }
        @compute @workgroup_size(1) fn reads() { y[0] = y[1]; }";
    let module = parse(text);
    let interpreter = || Interpreter::new(&module).bind("x", &[1.0, 2.0]);
    let run = interpreter().bind_output("y", 2).dispatch("main", [1, 1, 1]).unwrap();
    fails(run.numbers("y").map(|_| run.clone()), Code::WgslBinding, &["nobody wrote `y[1]`"]);
    fails(
        interpreter().bind_output("y", 2).dispatch("reads", [1, 1, 1]),
        Code::WgslBinding,
        &["reads `y[1]`, which nobody wrote"],
    );
    fails(interpreter().dispatch("main", [1, 1, 1]), Code::WgslBinding, &["`main` uses `y`"]);
    fails(
        interpreter().bind("z", &[1.0]).dispatch("main", [1, 1, 1]),
        Code::WgslBinding,
        &["no buffer `z`; there are: x, y"],
    );
    fails(
        interpreter().bind("x", &[1.0]).dispatch("main", [1, 1, 1]),
        Code::WgslBinding,
        &["1 numbers where it has 2"],
    );
    fails(
        interpreter().bind("x", &[1.0, 2.5]).dispatch("main", [1, 1, 1]),
        Code::WgslBinding,
        &["`x[1]` is i32, and 2.5 is none"],
    );
    fails(
        interpreter().bind_words("x", &[1]).dispatch("main", [1, 1, 1]),
        Code::WgslBinding,
        &["1 words where it has 8 bytes"],
    );
    fails(
        interpreter().dispatch("other", [1, 1, 1]),
        Code::Wgsl,
        &["no entry point `other`; there are: main, reads"],
    );
    let [x, y] = &interpreter().bindings()[..] else { panic!("two buffers") };
    assert_eq!((x.group, x.binding, &*x.name, x.writable), (0, 0, "x", false));
    assert_eq!((y.group, y.binding, &*y.name, y.writable), (1, 3, "y", true));
    // a write to what is read-only is no valid text
    let error =
        Module::parse_kernels("kernel.wgsl", &text.replace("y[0] = f32(x[1])", "x[0] = 1")).unwrap_err();
    assert_eq!(error.code(), Code::WgslBinding);
}

#[test]
fn pointers_reach_every_memory() {
    let declarations = "
        var<workgroup> shared_sum: array<f32, 4>;
        var<private> own: f32;
        fn add(to: ptr<private, f32>, x: f32) { *to += x; }
        fn twice(v: ptr<function, vec2<f32>>) { (*v).y *= 2.0; (*v)[0] += 1.0; }
        fn element(all: ptr<function, array<vec2<f32>, 2>>, k: u32) -> f32 { let p = &(*all)[k]; return (*p).y; }";
    let run = body(
        4,
        1,
        declarations,
        "add(&own, y[i]); add(&own, 10.0);
         let mine = &shared_sum[i]; *mine = own;
         var v = array<vec2<f32>, 2>(); v[1].y = 3.0; var w = v[1]; twice(&w);
         workgroupBarrier();
         let next = shared_sum[(i + 1u) % 4u];
         y[i] = next + 100.0 * element(&v, 1u) + 1000.0 * w.y + 10000.0 * w.x;",
    );
    assert_eq!(run.unwrap().numbers("y").unwrap(), [16312.0, 16313.0, 16314.0, 16311.0]);
}

#[test]
fn f32_rounds_buffers_and_f64_does_not() {
    let text = "@group(0) @binding(0) var<storage, read_write> x: array<f32, 1>;
        @compute @workgroup_size(1) fn main() { x[0] = x[0] / 3.0; }";
    let module = parse(text);
    let x = |interpreter: Interpreter<'_>| interpreter.bind("x", &[0.1]).dispatch("main", [1, 1, 1]).unwrap();
    assert_eq!(x(Interpreter::new(&module)).numbers("x").unwrap(), [0.1 / 3.0]);
    assert_eq!(x(Interpreter::new(&module).f32()).numbers("x").unwrap(), [f64::from(0.1f32 / 3.0)]);
    let words = x(Interpreter::new(&module)).words("x").unwrap();
    assert_eq!(words, [(0.1f64 / 3.0) as f32].map(f32::to_bits));
}

#[test]
fn builtin_values_may_come_in_a_structure() {
    let text = "struct In { @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>, @builtin(num_workgroups) all: vec3<u32> }
        @group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
        @compute @workgroup_size(2, 1, 2) fn main(in: In, @builtin(global_invocation_id) at: vec3<u32>) {
            let flat = (at.z * in.all.y + at.y) * 4u + at.x;
            y[flat] = vec4(in.group.x, in.group.y, in.local.z, in.all.x);
        }";
    let module = parse(text);
    let y = Interpreter::new(&module).bind("y", &[9.0; 24 * 4]).dispatch("main", [2, 3, 1]).unwrap();
    let y = y.numbers("y").unwrap();
    let row = |at: [usize; 3]| y[((at[2] * 3 + at[1]) * 4 + at[0]) * 4..][..4].to_vec();
    assert_eq!(row([0, 0, 0]), [0.0, 0.0, 0.0, 2.0]);
    assert_eq!(row([3, 2, 0]), [1.0, 2.0, 0.0, 2.0]);
}
