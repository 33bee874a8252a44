//! Every WGSL file and every kind of emitted kernel, run by the interpreter of WGSL: no races, no index out of bounds, no barrier that
//! some miss, and results as the reference bounds them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

#[allow(dead_code, reason = "shared with other tests")]
mod emitter;

use std::collections::{BTreeMap, HashMap, HashSet};

use cotangent_shaders::{Dispatch, Plan, PlanOptions, Source, Target, Watch, Which, lower, plan};
use cotangent_tensor::elementwise::Class;
use cotangent_tensor::random::{key_words, random_block};
use cotangent_tensor::{
    Arithmetic, Array, Chain, Code as ErrorCode, DType, Elementwise, Error, Key, Node, Tensor, Values,
    bounded,
};
use cotangent_wgsl::{Interpreter, Module, Run};
use emitter::map;

const STATUS_WORDS: usize = 5;

fn parse(name: &str, text: &str) -> Module {
    Module::parse_kernels(name, text).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a dispatch as an f32 machine on the words of its buffers.
fn run(dispatch: &Dispatch, module: &Module, buffers: &[Vec<u32>]) -> Run {
    attempt(dispatch, module, buffers).unwrap_or_else(|error| panic!("{}: {error}", dispatch.label))
}

fn attempt(dispatch: &Dispatch, module: &Module, buffers: &[Vec<u32>]) -> Result<Run, Error> {
    let mut interpreter = Interpreter::new(module).f32().fuel(1 << 32);
    for binding in interpreter.bindings() {
        let words = match binding.binding {
            0 => &dispatch.parameters,
            number => &buffers[number as usize - 1],
        };
        interpreter = interpreter.bind_words(&binding.name, words);
    }
    interpreter.dispatch("main", dispatch.workgroups)
}

/// The buffer of a binding after a run.
fn words(run: &Run, module: &Module, number: usize) -> Vec<u32> {
    let bindings = Interpreter::new(module).bindings();
    let binding = bindings.iter().find(|b| b.binding as usize == number + 1).unwrap();
    run.words(&binding.name).unwrap()
}

/// A plan with the words of its storage.
struct Execution<'a> {
    plan: &'a Plan,
    /// One for each slot, then one for each buffer that has none.
    storage: Vec<Vec<u32>>,
    of_buffer: Vec<usize>,
}

impl Execution<'_> {
    fn new(plan: &Plan) -> Execution<'_> {
        // what nobody has written is NaN
        let mut storage: Vec<Vec<u32>> =
            plan.slots.iter().map(|slot| vec![0x7fc0_7fc0; slot.bytes / 4]).collect();
        let mut of_buffer = Vec::new();
        for buffer in &plan.buffers {
            of_buffer.push(match &buffer.source {
                Source::Computed { slot } => *slot,
                Source::Leaf(array) => {
                    storage.push(match buffer.dtype {
                        DType::F16 => array.to_f32().chunks(2).map(pair_bits).collect(),
                        _ => array.to_words(),
                    });
                    storage.len() - 1
                }
                Source::Input(_) | Source::Variable(_) => unreachable!("graphs of these tests have none"),
            });
        }
        Execution { plan, storage, of_buffer }
    }
    fn words(&self, buffer: usize) -> &[u32] {
        &self.storage[self.of_buffer[buffer]][..self.plan.buffers[buffer].bytes() / 4]
    }
    fn read(&self, place: &cotangent_shaders::Place) -> Array {
        let count = place.node.shape.elements();
        let words = self.words(place.buffer);
        let words = match place.node.dtype {
            DType::F16 => (place.offset..place.offset + count)
                .map(|i| half(words[i / 2] >> (16 * (i % 2))).to_bits())
                .collect(),
            _ => words[place.offset..place.offset + count].to_vec(),
        };
        Array::from_words(words, place.node.shape, place.node.dtype).unwrap()
    }
    /// Runs a kernel, which may report to the status words.
    fn execute(
        &mut self,
        name: &str,
        number: usize,
        dispatches: &[Dispatch],
        status: &mut [u32],
    ) -> Vec<Run> {
        let bindings = &self.plan.kernels[number].bindings;
        let mut scratch: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut runs = Vec::new();
        for dispatch in dispatches {
            let module = parse(name, &dispatch.wgsl);
            let given = dispatch.buffers.iter().map(|buffer| match buffer.which {
                Which::Kernel(position) => self.words(bindings[position].buffer).to_vec(),
                Which::Scratch { number, words } => {
                    let scratch = scratch.entry(number).or_default();
                    scratch.resize(scratch.len().max(words), 0x7fc0_0000);
                    scratch[..words].to_vec()
                }
                Which::Status => status.to_vec(),
            });
            let given = given.collect::<Vec<_>>();
            let ended = run(dispatch, &module, &given);
            for (position, buffer) in dispatch.buffers.iter().enumerate().filter(|(_, b)| b.writable) {
                let after = words(&ended, &module, position);
                let storage = match buffer.which {
                    Which::Kernel(position) => {
                        &mut self.storage[self.of_buffer[bindings[position].buffer]][..]
                    }
                    Which::Scratch { number, .. } => &mut scratch.get_mut(&number).unwrap()[..],
                    Which::Status => &mut *status,
                };
                storage[..after.len()].copy_from_slice(&after);
            }
            runs.push(ended);
        }
        runs
    }
}

/// The number that the lower 16 bits are.
fn half(bits: u32) -> f32 {
    let fraction = (bits & 0x3ff) as f32;
    let magnitude = match (bits >> 10) & 31 {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2f32.powi(exponent as i32 - 15),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// One or two numbers, each exactly a half, as a word.
fn pair_bits(pair: &[f32]) -> u32 {
    let bits = |x: f32| (0..0x10000).find(|&bits| half(bits).to_bits() == x.to_bits()).unwrap();
    pair.iter().rev().fold(0, |word, &x| word << 16 | bits(x))
}

/// Runs the plan of some outputs kernel by kernel, each compared with the reference on its own operands. Texts and elements.
fn check(name: &str, outputs: &[&Tensor], target: &Target, seen: &mut HashSet<String>) -> usize {
    let nodes: Vec<_> = outputs.iter().map(|tensor| tensor.node().unwrap().clone()).collect();
    let plan = plan(&nodes, &[], &PlanOptions::for_target(target)).unwrap();
    let mut execution = Execution::new(&plan);
    let mut compared = 0;
    for (number, kernel) in plan.kernels.iter().enumerate() {
        let dispatches = lower(kernel, target, u32::try_from(number).unwrap(), None).unwrap();
        let operands: HashMap<*const Node, Array> =
            kernel.reads.iter().map(|place| (place.node.key(), execution.read(place))).collect();
        let mut status = [0; STATUS_WORDS];
        execution.execute(name, number, &dispatches, &mut status);
        seen.extend(dispatches.iter().map(|dispatch| dispatch.wgsl.to_string()));
        assert_eq!(status, [0; STATUS_WORDS], "{name}: a violation is reported");
        let depth = dispatches.iter().map(|dispatch| dispatch.chain).sum();
        let chain = Chain::Passes { terms: usize::MAX, depth };
        let arithmetic = Arithmetic { chain, ..Arithmetic::default() };
        let written: Vec<_> = kernel.writes.iter().map(|place| place.node.clone()).collect();
        let expected = bounded(&written, &operands, &arithmetic).unwrap();
        for (place, expected) in kernel.writes.iter().zip(&expected) {
            if let Some(violation) = expected.first_violation(&execution.read(place)) {
                panic!("{name}, kernel `{}`, `{}`: {violation:?}", kernel.name, place.node.called());
            }
            compared += expected.value.len();
        }
    }
    compared
}

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 40.0 - 1.2).collect();
    Tensor::from(Array::new(Values::Float(values), shape).unwrap())
}

fn whole(shape: &[usize], below: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<i32> = (0..n).map(|i| (i * 7 % below) as i32).collect();
    Tensor::from(Array::new(Values::Int(values), shape).unwrap())
}

/// Graphs whose plans have every body and schedule.
fn graphs() -> Vec<(String, Vec<Tensor>)> {
    let mut all = Vec::new();
    let mut add = |name: String, outputs: Vec<Tensor>| all.push((name, outputs));
    for n in [1, 5, 64, 1001] {
        let (p, y) = (numbers(&[n], 1), numbers(&[n], 2));
        let d = (&p - &y).abs();
        add(format!("loss of {n}"), vec![(d.sigmoid() * &d).mean(..), &d * 2.0]);
    }
    add("long sum".into(), vec![numbers(&[9000], 3).exp().sum(..)]);
    for (rows, classes) in [(3, 10), (8, 16), (2, 1001)] {
        let (x, labels) = (numbers(&[rows, classes], 1), whole(&[rows], classes));
        add(
            format!("cross entropy {rows} x {classes}"),
            vec![x.cross_entropy(&labels), x.softmax_residual(&labels)],
        );
        add(
            format!("rows {rows} x {classes}"),
            vec![x.softmax(-1), x.argmax(-1), x.max_over(-1), x.logsumexp(-1)],
        );
        add(format!("columns {rows} x {classes}"), vec![x.sum(0), x.max_over(0), x.logsumexp(0)]);
        let d = &x - x.mean(-1).unsqueeze(-1);
        add(
            format!("layer norm {rows} x {classes}"),
            vec![&d / ((&d * &d).mean(-1).unsqueeze(-1) + 1e-5).sqrt()],
        );
    }
    for [m, n, k] in [[1, 1, 1], [5, 7, 3], [33, 30, 20], [40, 36, 64], [64, 64, 16], [3, 5, 300]] {
        let (x, w, b) = (numbers(&[m, k], 1), numbers(&[k, n], 2), numbers(&[n], 3));
        let name = format!("product {m} x {n} x {k}");
        add(name.clone(), vec![(x.matmul(&w) + &b).relu()]);
        let (xt, wt) = (numbers(&[k, m], 1), numbers(&[n, k], 2));
        add(format!("{name}, transposed"), vec![xt.transpose().matmul(&wt.transpose())]);
    }
    add("batches of products".into(), vec![numbers(&[3, 4, 5], 1).matmul(&numbers(&[3, 5, 6], 2))]);
    for reverse in [false, true] {
        add(
            format!("scan, reverse {reverse}"),
            vec![
                numbers(&[3, 50], 1).cumulative_sum(1, reverse),
                numbers(&[50, 3], 1).cumulative_sum(0, reverse),
            ],
        );
    }
    let (table, index) = (numbers(&[11, 4], 1), whole(&[9], 11));
    add(
        "gather and scatter".into(),
        vec![table.gather(0, &index), Tensor::scatter_add(&index, &numbers(&[9, 4], 2), 0, 11)],
    );
    let x = numbers(&[4, 6], 5);
    add(
        "views".into(),
        vec![
            Tensor::concat(&[&x.flip(1), &x.transpose().reshape([4, 6]).exp()], 0),
            x.slice(1, 1, 6, 2).pad(0, 1, 2),
        ],
    );
    let halves: Vec<f64> = (0..21).map(|i| f64::from(i) / 8.0 - 1.0).collect();
    let halves = Tensor::from(Array::new(Values::Float(halves), [3, 7]).unwrap().with_dtype(DType::F16));
    add("halves".into(), vec![x.cast(DType::F16), halves.cast(DType::F32).exp().sum(0)]);
    let i = whole(&[24], 19) - whole(&[24], 5);
    add(
        "integers".into(),
        vec![
            &i * &i,
            i.cast(DType::F32),
            numbers(&[24], 3).cast(DType::I32),
            i.cast(DType::U32).sum(..),
            i.prod(..),
        ],
    );
    let key = Key::new(7);
    add("random".into(), vec![Tensor::uniform(key, 3u32, [13]), Tensor::random_bits(key, 3u32, [40])]);
    all
}

/// Targets without subgroups, which the interpreter does not know.
fn targets() -> Vec<(&'static str, Target)> {
    emitter::targets()
        .into_iter()
        .map(|(name, target)| (name, Target { subgroups: None, ..target }))
        .collect()
}

#[test]
fn emitted_kernels_compute_what_the_reference_bounds() {
    let (mut seen, mut compared) = (HashSet::new(), 0);
    for (target_name, target) in targets() {
        for (name, outputs) in graphs() {
            let outputs: Vec<&Tensor> = outputs.iter().collect();
            compared += check(&format!("{name}, for {target_name}"), &outputs, &target, &mut seen);
        }
    }
    assert!(seen.len() > 100 && compared > 60_000, "{} texts, {compared} elements", seen.len());
}

/// What all dispatches of the plan of an output found, and the status words behind them.
fn reported(output: &Tensor, watch: Option<Watch>) -> (Vec<Run>, [u32; STATUS_WORDS]) {
    let target = Target::web();
    let plan = plan(&[output.node().unwrap().clone()], &[], &PlanOptions::for_target(&target)).unwrap();
    let mut execution = Execution::new(&plan);
    let (mut runs, mut status) = (Vec::new(), [0; STATUS_WORDS]);
    for (number, kernel) in plan.kernels.iter().enumerate() {
        let dispatches = lower(kernel, &target, 1, watch).unwrap();
        runs.extend(execution.execute("reported", number, &dispatches, &mut status));
    }
    (runs, status)
}

#[test]
fn kernels_report_what_they_see() {
    let x = Tensor::new([0.5, 2.0, -3.0, 1.0]);
    let (runs, status) = reported(&(x.log() + 1.0), Some(Watch::Nan));
    assert_ne!(status[4], 0, "a NaN was written");
    let origin = runs[0].first_nonfinite().unwrap();
    assert_eq!((&*origin.operation, origin.inputs[0]), ("m_log_edge", -3.0));
    assert!(origin.to_string().contains("m_log(") && origin.to_string().contains("in this call"), "{origin}");
    let (runs, status) = reported(&(x.abs().log() + 1.0), Some(Watch::Nan));
    assert_eq!(status, [0; STATUS_WORDS]);
    assert!(runs.iter().all(|run| run.first_nonfinite().is_none()), "{:?}", runs[0].first_nonfinite());
    // an index outside of its axis is reported by the kernel, and nothing outside is read
    let index = Tensor::new([1.0, 7.0, 2.0]).cast(DType::I32);
    let (_, status) = reported(&x.gather(0, &index), None);
    assert_eq!((status[0], status[2]), (1, 7), "{status:?}");
}

/// The text without its `number`th barrier.
fn without_barrier(text: &str, number: usize) -> Option<String> {
    let (at, barrier) = text.match_indices("workgroupBarrier();").nth(number)?;
    Some([&text[..at], &text[at + barrier.len()..]].concat())
}

#[test]
fn no_barrier_of_an_emitted_kernel_can_be_dropped() {
    let mut dropped = 0;
    for (name, target) in targets() {
        let x = numbers(&[2, 1001], 1);
        let labels = whole(&[2], 1001);
        let product = numbers(&[40, 64], 1).matmul(&numbers(&[64, 36], 2));
        for outputs in [
            vec![x.softmax(-1)],
            vec![x.argmax(-1)],
            vec![x.cross_entropy(&labels)],
            vec![x.sum(..)],
            vec![x.sum(0)],
            vec![product],
            vec![x.cumulative_sum(1, false)],
        ] {
            let nodes: Vec<_> = outputs.iter().map(|tensor| tensor.node().unwrap().clone()).collect();
            let plan = plan(&nodes, &[], &PlanOptions::for_target(&target)).unwrap();
            let execution = Execution::new(&plan);
            for kernel in &plan.kernels {
                let dispatches = lower(kernel, &target, 0, None).unwrap();
                let dispatch = &dispatches[0];
                let given = dispatch.buffers.iter().map(|buffer| match buffer.which {
                    Which::Kernel(position) => execution.words(kernel.bindings[position].buffer).to_vec(),
                    Which::Scratch { words, .. } => vec![0; words],
                    Which::Status => vec![0; STATUS_WORDS],
                });
                let given: Vec<Vec<u32>> = given.collect();
                let mut number = 0;
                while let Some(text) = without_barrier(&dispatch.wgsl, number) {
                    let run = attempt(dispatch, &parse(name, &text), &given);
                    let error = run.expect_err("no barrier is there for nothing");
                    assert_eq!(error.code(), ErrorCode::WgslRace, "{error}");
                    dropped += 1;
                    number += 1;
                }
            }
        }
    }
    assert!(dropped > 20, "{dropped} barriers dropped");
}

/// A cast to F16 whose result stays inside of a kernel is rounded like one that is stored.
#[test]
fn a_cast_to_half_that_is_not_stored_is_rounded() {
    let sum = numbers(&[4, 6], 5).cast(DType::F16).cast(DType::F32).exp().sum(0);
    check("halves that are not stored", &[&sum], &Target::web(), &mut HashSet::new());
}

/// Points of all magnitudes, with the special ones.
fn points() -> Vec<f32> {
    let mut points = vec![
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.5,
        3.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN_POSITIVE,
    ];
    let mut x = 0x1234_5678u32;
    for i in 0..243 {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = (x >> 8) as f32 / (1 << 24) as f32;
        let scale = [1e-3, 1.0, 4.0, 30.0][i % 4];
        points.push((2.0 * unit - 1.0) * scale);
    }
    points
}

/// Whether `got` lies within the promise of a row, whose results below 2^-126 may be zero.
fn keeps_promise(row: Elementwise, got: f32, args: &[f64]) -> bool {
    let exact = row.eval(args);
    let nearest = exact as f32;
    let step =
        f64::from(nearest.abs().next_up().min(f32::MAX)) - f64::from(nearest.abs().min(f32::MAX.next_down()));
    let allowed = row.ulp() * step + f64::from(f32::MIN_POSITIVE);
    let is_over = nearest.is_infinite() || f64::from(got).is_infinite();
    nearest == got
        || nearest.is_nan() && got.is_nan()
        || (f64::from(got) - exact).abs() <= allowed
        // an overflow may come an error early or late
        || is_over && row.ulp() > 0.5 && exact.abs() > 0.999 * f64::from(f32::MAX) && exact.is_sign_positive() == got.is_sign_positive()
}

#[test]
fn every_row_keeps_its_promise_in_emitted_text() {
    let points = points();
    let n = points.len();
    let mut compared = 0;
    for &row in Elementwise::ALL {
        let kernel = map(row, n);
        for dispatch in lower(&kernel, &Target::web(), 1, None).unwrap() {
            let module = parse(row.name(), &dispatch.wgsl);
            let operands: Vec<Vec<u32>> = (0..row.arity())
                .map(|operand| {
                    let is_truth =
                        row.class() == Class::Logic || row.class() == Class::Select && operand == 0;
                    let shifted = points.iter().cycle().skip(operand * 5).take(n);
                    shifted.map(|x| if is_truth { u32::from(*x > 0.0) } else { x.to_bits() }).collect()
                })
                .collect();
            let mut status = vec![0; STATUS_WORDS];
            let given: Vec<Vec<u32>> = dispatch
                .buffers
                .iter()
                .map(|buffer| match buffer.which {
                    Which::Kernel(position) => operands.get(position).cloned().unwrap_or_else(|| vec![0; n]),
                    Which::Status => std::mem::take(&mut status),
                    Which::Scratch { .. } => unreachable!("a map has no scratch"),
                })
                .collect();
            let ended = run(&dispatch, &module, &given);
            let position =
                dispatch.buffers.iter().position(|b| b.which == Which::Kernel(row.arity())).unwrap();
            let got = words(&ended, &module, position);
            let is_number = matches!(row.class(), Class::Real | Class::Select);
            for i in 0..n {
                let value = |operand: usize| match kernel.bindings[operand].dtype {
                    DType::Bool => f64::from(operands[operand][i]),
                    _ => f64::from(f32::from_bits(operands[operand][i])),
                };
                let args: Vec<f64> = (0..row.arity()).map(value).collect();
                if !row.is_promised(&args) {
                    continue;
                }
                let got = if is_number { f32::from_bits(got[i]) } else { got[i] as f32 };
                assert!(
                    keeps_promise(row, got, &args),
                    "{}{args:?}: {got} for {}",
                    row.name(),
                    row.eval(&args)
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 200 * Elementwise::ALL.len(), "{compared} results");
}

// --- Files ------------------------------------------------------------------------------------------------------

fn file(name: &str) -> Module {
    let path = format!("{}/wgsl/{name}", env!("CARGO_MANIFEST_DIR"));
    parse(name, &std::fs::read_to_string(path).unwrap())
}

#[test]
fn every_wgsl_file_runs_as_it_stands() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        match name.as_str() {
            "math.wgsl" => math(&file(name), Some("opaque_zero_word"), 24),
            "trigonometric.wgsl" => math(&file(name), None, 6),
            "random.wgsl" => random(&file(name)),
            "support.wgsl" => support(&file(name)),
            "matmul_tile_32.wgsl" => product_by_tiles(&file(name), 32),
            "matmul_tile_128.wgsl" => product_by_tiles(&file(name), 128),
            other => panic!("{other} is run by no test"),
        }
    }
    assert_eq!(names.len(), 6, "files that were run");
}

fn product_by_tiles(module: &Module, side: usize) {
    // neither a whole number of tiles nor of turns
    let [m, n, k] = [side + 4, 2 * side - 8, 36];
    let whole = |count: usize, factor: usize| {
        (0..count).map(|i| (i * factor % 13) as f64 - 6.0).collect::<Vec<f64>>()
    };
    let (a, b) = (whole(m * k, 5), whole(k * n, 7));
    let extents = [m, n, k].map(|extent| extent as f64);
    let block = [[0.0; 4], [extents[0], extents[1], extents[2], 0.0]].concat();
    let interpreter =
        Interpreter::new(module).fuel(1 << 32).bind("block", &block).bind("lhs", &a).bind("rhs", &b);
    let groups = [n.div_ceil(side) as u32, m.div_ceil(side) as u32, 1];
    let run = interpreter
        .bind_output("result", m * n)
        .dispatch("main", groups)
        .unwrap_or_else(|error| panic!("{error}"));
    let result = run.numbers("result").unwrap();
    for (i, got) in result.iter().enumerate() {
        let exact: f64 = (0..k).map(|t| a[i / n * k + t] * b[t * n + i % n]).sum();
        assert_eq!(*got, exact, "element {i}: whole numbers have no rounding");
    }
}

/// Every row that has a function of its own in the file, `least` at least. `zero` is the buffer that a file reads.
fn math(module: &Module, zero: Option<&str>, least: usize) {
    let interpreter = Interpreter::new(module).f32();
    let interpreter = zero.iter().fold(interpreter, |all, name| all.bind(name, &[0.0]));
    let mut functions = 0;
    for &row in Elementwise::ALL.iter().filter(|row| row.arity() == 1 && row.class() == Class::Real) {
        let name = format!("m_{}", row.name());
        if !module.functions().iter().any(|function| function.name() == name) {
            continue;
        }
        functions += 1;
        for x in points().into_iter().filter(|&x| row.is_promised(&[x.into()])) {
            let run = interpreter.call(&name, &[&[x.into()]]).unwrap_or_else(|error| panic!("{error}"));
            let got = run.result()[0] as f32;
            assert!(keeps_promise(row, got, &[x.into()]), "{name}({x}): {got} for {}", row.eval(&[x.into()]));
        }
    }
    assert!(functions >= least, "only {functions} functions");
}

fn random(module: &Module) {
    for (block, step, key) in [(0, 0, Key::new(0)), (5, 3, Key::new(7)), (u32::MAX, 9, Key::new(u64::MAX))] {
        let words = key_words(key);
        let words = words.map(f64::from);
        let counter = [f64::from(block), 0.0, f64::from(step), 0.0];
        let run = Interpreter::new(module).call("threefry", &[&counter, &words]).unwrap();
        assert_eq!(run.result(), random_block(key, step, block).map(f64::from), "block {block}");
    }
    let unit = |name: &str, word: f64| Interpreter::new(module).call(name, &[&[word]]).unwrap().result()[0];
    assert_eq!(unit("unit_open_right", 4_294_967_295.0), 1.0 - 2f64.powi(-24));
    assert_eq!(unit("unit_open_left", 0.0), 2f64.powi(-24));
}

fn support(module: &Module) {
    let of = |name: &str, args: &[&[f64]]| {
        let run = Interpreter::new(module).f32().call(name, args).unwrap_or_else(|error| panic!("{error}"));
        run.result().to_vec()
    };
    for (a, b) in [(7i32, 2i32), (-7, 2), (i32::MIN, -1), (5, 0), (-5, 3)] {
        let quotient = if b == 0 { a } else { a.wrapping_div(b) };
        let rest = if b == 0 { 0 } else { a.wrapping_rem(b) };
        assert_eq!(of("i_div", &[&[a.into()], &[b.into()]]), [f64::from(quotient)]);
        assert_eq!(of("i_rem", &[&[a.into()], &[b.into()]]), [f64::from(rest)]);
    }
    for x in points() {
        assert_eq!(of("f32_to_i32", &[&[x.into()]]), [f64::from(x as i32)], "{x}");
        assert_eq!(of("f32_to_u32", &[&[x.into()]]), [f64::from(x as u32)], "{x}");
        let key = of("order_key", &[&[x.into()]])[0];
        let back = of("from_order_key", &[&[key]])[0];
        assert!(back.to_bits() == f64::from(x).to_bits() || back.is_nan() && x.is_nan(), "{x}: {back}");
    }
    for word in [0u32, 1, 16_777_217, 16_777_219, 0x8000_0001, u32::MAX] {
        assert_eq!(of("u32_to_f32", &[&[word.into()]]), [f64::from(word as f32)], "{word}");
        let signed = word as i32;
        assert_eq!(of("i32_to_f32", &[&[signed.into()]]), [f64::from(signed as f32)], "{signed}");
    }
    for bits in (0..0x10000u32).step_by(7) {
        let value = f64::from(half(bits));
        let got = of("half_value", &[&[bits.into()]])[0];
        assert!(
            got.to_bits() == value.to_bits() || got.is_nan() && value.is_nan(),
            "{bits:#x}: {got} for {value}"
        );
        let back = of("half_bits", &[&[value]])[0];
        assert!(back == f64::from(bits) || value.is_nan() && half(back as u32).is_nan(), "{bits:#x}: {back}");
    }
    let merged = of("merge_log_sum", &[&[1.0, 0.5], &[2.0, 0.25]]);
    assert_eq!(merged[0], 2.0);
    assert!((merged[1] - (0.25 + 1.5 * (-1f64).exp())).abs() < f64::from(f32::EPSILON), "{merged:?}");
}
