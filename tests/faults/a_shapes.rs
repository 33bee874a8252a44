//! A. Shapes, element types, indexing.

use crate::common::{
    Adam, Array, Code, DType, Error, Evaluator, Key, Optimizer, Reduction, Tensor, bounds, grad, losses,
};
use crate::table::Try::{Copies, Fails, Gives, Holds, Says};
use crate::table::{Row, read};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

pub const ROWS: &[Row] = &[
    Row {
        id: 1,
        input: "[3,4] + [5]",
        tries: &[
            Says(
                |e| read(e, &[&(Tensor::zeros([3, 4]) + Tensor::zeros([5]))]),
                "error[E_BROADCAST]: add: shapes [3, 4] and [5] do not broadcast: they differ at axis 1 of the result\n  \
                 at tests/faults/a_shapes.rs:LINE\n  \
                 help: insert axes with `unsqueeze`, or reshape one of them",
            ),
            Fails(
                "the first error travels",
                |e| {
                    let wrong = Tensor::zeros([3, 4]) + Tensor::zeros([5]);
                    read(e, &[&wrong.exp().matmul(&Tensor::zeros([7, 7])).sum(9)])
                },
                Code::Broadcast,
                &["[3, 4]", "[5]", "axis 1"],
            ),
        ],
    },
    Row {
        id: 2,
        input: "matmul [2,3] × [4,5]",
        tries: &[
            Says(
                |e| read(e, &[&Tensor::zeros([2, 3]).matmul(&Tensor::zeros([4, 5]))]),
                "error[E_MATMUL_DIM]: matmul: inner dimensions differ: lhs [2, 3], rhs [4, 5] (3 ≠ 4)\n  \
                 at tests/faults/a_shapes.rs:LINE\n  \
                 help: transpose one operand, or check the width of the layer before it",
            ),
            Fails(
                "a transpose would do",
                |e| read(e, &[&Tensor::zeros([2, 3]).matmul(&Tensor::zeros([4, 3]))]),
                Code::MatmulDim,
                &["[4, 3]", "(3 ≠ 4)", "rhs.transpose()"],
            ),
        ],
    },
    Row {
        id: 3,
        input: "axis −3 of a rank-2 tensor",
        tries: &[
            Fails("sum", |e| read(e, &[&Tensor::zeros([2, 3]).sum(-3)]), Code::Axis, &["-3", "2"]),
            Fails("softmax", |e| read(e, &[&Tensor::zeros([2, 3]).softmax(-3)]), Code::Axis, &["-3", "2"]),
        ],
    },
    Row {
        id: 4,
        input: "axis out of range, or named twice",
        tries: &[
            Fails("out of range", |e| read(e, &[&Tensor::zeros([2, 3]).sum(2)]), Code::Axis, &["sum", "2"]),
            Fails("twice", |e| read(e, &[&Tensor::zeros([2, 3]).sum([0, 0])]), Code::Axis, &["sum"]),
            Fails("the same", |e| read(e, &[&Tensor::zeros([2, 3]).sum([1, -1])]), Code::Axis, &["sum"]),
            Fails(
                "permute",
                |e| read(e, &[&Tensor::zeros([2, 3]).permute([0, 0])]),
                Code::Axis,
                &["permute"],
            ),
            Fails("argmax", |e| read(e, &[&Tensor::zeros([2, 3]).argmax(2)]), Code::Axis, &["argmax"]),
        ],
    },
    Row {
        id: 5,
        input: "reshape to another count; two −1; −1 with 0 elements",
        tries: &[
            Fails("count", |e| read(e, &[&Tensor::zeros([2, 3]).reshape([7])]), Code::Reshape, &["6", "7"]),
            Fails("two", |e| read(e, &[&Tensor::zeros([2, 3]).reshape([-1, -1])]), Code::Reshape, &["-1"]),
            Fails("empty", |e| read(e, &[&Tensor::zeros([0, 3]).reshape([-1, 0])]), Code::Reshape, &["0"]),
            Fails(
                "remainder",
                |e| read(e, &[&Tensor::zeros([2, 3]).reshape([-1, 4])]),
                Code::Reshape,
                &["6", "4"],
            ),
        ],
    },
    Row {
        id: 6,
        input: "product of dimensions overflows, also [0,2⁴⁰,2⁴⁰] in any order",
        tries: &[
            Fails("u32", |e| read(e, &[&Tensor::zeros([1 << 16, 1 << 16])]), Code::TooLarge, &["65536"]),
            Fails("usize", |e| read(e, &[&Tensor::zeros([1 << 40, 1 << 40])]), Code::TooLarge, &[]),
            Fails("zero first", |e| read(e, &[&Tensor::zeros([0, 1 << 40, 1 << 40])]), Code::TooLarge, &[]),
            Fails("zero second", |e| read(e, &[&Tensor::zeros([1 << 40, 0, 1 << 40])]), Code::TooLarge, &[]),
            Fails("zero last", |e| read(e, &[&Tensor::zeros([1 << 40, 1 << 40, 0])]), Code::TooLarge, &[]),
            Fails(
                "by broadcasting",
                |e| read(e, &[&(Tensor::zeros([1 << 16, 1]) + Tensor::zeros([1 << 16]))]),
                Code::TooLarge,
                &[],
            ),
        ],
    },
    Row {
        id: 7,
        input: "more elements or bytes than a limit",
        tries: &[
            Holds("at a limit of 64 KiB per binding", limit_of_64_kib),
            Holds("2³²−1 elements", |e| beyond(e, &[[65_537, 65_535]])),
            Holds("one element more than a binding holds", |e| {
                let Some(device) = &e.device else { return Ok(()) };
                // The CPU device ends where memory does; it is given a limit.
                let most = match e.is_adapter() {
                    true => usize::try_from(device.info().target.max_binding).unwrap_or(usize::MAX),
                    false => 128 << 20,
                };
                beyond(e, &[[1, most / 4 + 1]])
            }),
            Holds("outputs that fit one by one and together exceed a buffer", |e| {
                let Some(device) = &e.device else { return Ok(()) };
                if !e.is_adapter() {
                    return Ok(());
                }
                let info = device.info();
                let (binding, buffer) = (info.target.max_binding, info.max_buffer);
                let count = usize::try_from(buffer / binding + 1).unwrap_or(usize::MAX);
                let each = usize::try_from(binding / 4).unwrap_or(usize::MAX);
                if count > 64 {
                    return Ok(());
                }
                beyond(e, &vec![[1, each]; count])
            }),
        ],
    },
    Row {
        id: 8,
        input: "data length ≠ shape product",
        tries: &[
            Fails(
                "tensor",
                |e| read(e, &[&Tensor::from_values(vec![1.0; 5], [2, 3])]),
                Code::DataLength,
                &["5", "[2, 3]", "6"],
            ),
            Fails(
                "array",
                |_| Array::new(vec![1.0; 5], [2, 3]).map(|a| vec![a]),
                Code::DataLength,
                &["5", "[2, 3]"],
            ),
        ],
    },
    Row {
        id: 9,
        input: "f32 + i32 without a cast",
        tries: &[
            Fails(
                "add",
                |e| read(e, &[&(Tensor::zeros([2]) + Tensor::new([1, 2]))]),
                Code::Dtype,
                &["add", "i32", "f32", "`.cast(DType::F32)`"],
            ),
            Fails(
                "exp of integers",
                |e| read(e, &[&Tensor::new([1, 2]).exp()]),
                Code::Dtype,
                &["exp", "i32", "cast"],
            ),
            Fails(
                "sum of truth values",
                |e| read(e, &[&Tensor::new([true]).sum(..)]),
                Code::Dtype,
                &["bool", "cast"],
            ),
        ],
    },
    Row {
        id: 10,
        input: "f16 without SHADER_F16",
        tries: &[Holds("the same numbers: storage needs no feature", f16_without_feature)],
    },
    Row {
        id: 11,
        input: "zero-size tensors",
        tries: &[
            Gives("sum", |e| read(e, &[&Tensor::zeros([2, 0]).sum(1)]), &[0.0, 0.0]),
            Gives("prod", |e| read(e, &[&Tensor::zeros([2, 0]).prod(1)]), &[1.0, 1.0]),
            Gives(
                "matmul with K = 0",
                |e| read(e, &[&Tensor::zeros([2, 0]).matmul(&Tensor::zeros([0, 2]))]),
                &[0.0; 4],
            ),
            Gives("softmax", |e| read(e, &[&Tensor::zeros([2, 0]).softmax(1)]), &[]),
            Gives(
                "backward",
                |e| {
                    let x = Tensor::from_values(Vec::<f64>::new(), [0, 3]);
                    let w = Tensor::ones([3, 2]);
                    let [dx, dw] = grad(&x.matmul(&w).exp().sum(..), [&x, &w])?;
                    read(e, &[&dx.or_error()?, &dw.or_error()?])
                },
                &[0.0; 6],
            ),
            Fails("max", |e| read(e, &[&Tensor::zeros([2, 0]).max_over(1)]), Code::EmptyReduction, &["max"]),
            Fails("min", |e| read(e, &[&Tensor::zeros([2, 0]).min_over(1)]), Code::EmptyReduction, &["min"]),
            Fails(
                "argmax",
                |e| read(e, &[&Tensor::zeros([2, 0]).argmax(1)]),
                Code::EmptyReduction,
                &["argmax"],
            ),
            Fails(
                "mean",
                |e| read(e, &[&Tensor::zeros([2, 0]).mean(1)]),
                Code::EmptyReduction,
                &["mean", "[2, 0]"],
            ),
            Fails(
                "logsumexp",
                |e| read(e, &[&Tensor::zeros([2, 0]).logsumexp(1)]),
                Code::EmptyReduction,
                &["logsumexp"],
            ),
        ],
    },
    Row {
        id: 12,
        input: "rank-0 scalars; reading a scalar from more elements",
        tries: &[
            Gives(
                "everything on a scalar",
                |e| {
                    let x = Tensor::new(4.0);
                    let y = x.sqrt()
                        + x.sum(..)
                        + x.mean(..)
                        + x.reshape([1, 1]).matmul(&x.reshape([1, 1])).reshape([]);
                    read(e, &[&y, &grad(&x.pow(2), &x)?.or_error()?, &x.broadcast_to([2]), &x.max_over(..)])
                },
                &[26.0, 8.0, 4.0, 4.0, 4.0],
            ),
            Fails(
                "two elements",
                |e| read(e, &[&(Tensor::ones([2]) * 2.0)])?[0].scalar().map(|_| vec![]),
                Code::NotScalar,
                &["[2]", "2 elements"],
            ),
        ],
    },
    Row {
        id: 13,
        input: "index out of range, negative, NaN; class label ≥ C",
        tries: &[
            Fails(
                "gather",
                |e| read(e, &[&Tensor::ones([3]).gather(0, &Tensor::new([0, 3]))]),
                Code::Index,
                &["gather", "index 3 at position 1", "0..3"],
            ),
            Fails(
                "negative",
                |e| read(e, &[&Tensor::ones([3]).gather(0, &Tensor::new([-1]))]),
                Code::Index,
                &["index -1 at position 0"],
            ),
            Fails(
                "label",
                |e| {
                    read(
                        e,
                        &[&losses::cross_entropy(
                            &Tensor::zeros([2, 3]),
                            &Tensor::new([0, 3]),
                            Reduction::Mean,
                        )],
                    )
                },
                Code::Index,
                &["index 3 at position 1"],
            ),
            Fails(
                "computed",
                |e| read(e, &[&(Tensor::new([1.0, 2.0, 3.0]) * 2.0).gather(0, &(Tensor::new([0, 2]) * 2))]),
                Code::Index,
                &["index 4 at position 1", "0..3"],
            ),
            Fails(
                "computed label",
                |e| read(e, &[&(Tensor::zeros([2, 3]) + 1.0).cross_entropy(&(Tensor::new([1, 0]) * 5))]),
                Code::Index,
                &["index 5 at position 0", "0..3"],
            ),
            Fails(
                "a float",
                |e| read(e, &[&Tensor::ones([3]).gather(0, &Tensor::new([NAN]))]),
                Code::Dtype,
                &["f32"],
            ),
            Gives(
                "NaN becomes 0 when it is cast",
                |e| read(e, &[&Tensor::new([5.0, 6.0]).gather(0, &Tensor::new([NAN]).cast(DType::I32))]),
                &[5.0],
            ),
        ],
    },
    Row {
        id: 14,
        input: "slice with start > end; step 0",
        tries: &[
            Fails(
                "start > end",
                |e| read(e, &[&Tensor::ones([5]).slice(0, 3, 2, 1)]),
                Code::Slice,
                &["3", "2"],
            ),
            Fails("beyond", |e| read(e, &[&Tensor::ones([5]).slice(0, 3, 6, 1)]), Code::Slice, &["6", "5"]),
            Fails("step 0", |e| read(e, &[&Tensor::ones([5]).slice(0, 1, 3, 0)]), Code::Slice, &["step"]),
        ],
    },
    Row {
        id: 15,
        input: "concat of nothing; of mixed element types",
        tries: &[
            Fails("nothing", |e| read(e, &[&Tensor::concat(&[], 0)]), Code::Concat, &[]),
            Fails(
                "types",
                |e| read(e, &[&Tensor::concat(&[&Tensor::ones([2]), &Tensor::new([1, 2])], 0)]),
                Code::Concat,
                &["f32", "i32"],
            ),
            Fails(
                "shapes",
                |e| read(e, &[&Tensor::concat(&[&Tensor::ones([2, 2]), &Tensor::ones([2, 3])], 0)]),
                Code::Concat,
                &["[2, 2]", "[2, 3]"],
            ),
        ],
    },
    Row {
        id: 16,
        input: "hyper-parameters outside their domain",
        tries: &[
            Fails(
                "dropout",
                |e| read(e, &[&Tensor::ones([2]).dropout(Key::new(0), 0u32, 1.5)]),
                Code::Hyperparameter,
                &["p = 1.5"],
            ),
            Fails(
                "dropout NaN",
                |e| read(e, &[&Tensor::ones([2]).dropout(Key::new(0), 0u32, NAN)]),
                Code::Hyperparameter,
                &["p = NaN"],
            ),
            Fails(
                "margin",
                |e| read(e, &[&losses::hinge(&Tensor::ones([2]), &Tensor::ones([2]), NAN, Reduction::Mean)]),
                Code::Hyperparameter,
                &["margin = NaN"],
            ),
            Fails(
                "smoothing",
                |e| {
                    let logits = Tensor::ones([1, 2]);
                    read(e, &[&losses::label_smoothing(&logits, &Tensor::new([0]), 1.0, Reduction::Mean)])
                },
                Code::Hyperparameter,
                &["= 1"],
            ),
            Fails(
                "clamp",
                |e| read(e, &[&Tensor::ones([2]).clamp(1.0, 0.0)]),
                Code::Hyperparameter,
                &["low = 1", "high = 0"],
            ),
            Fails(
                "learning rate",
                |e| adam(e, &Adam::new(NAN)),
                Code::Hyperparameter,
                &["learning_rate = NaN"],
            ),
            Fails(
                "ε < 0",
                |e| adam(e, &Adam::new(0.1).epsilon(-1.0)),
                Code::Hyperparameter,
                &["epsilon = -1"],
            ),
            Fails(
                "β = 1",
                |e| adam(e, &Adam::new(0.1).betas(1.0, 0.9)),
                Code::Hyperparameter,
                &["beta1 = 1"],
            ),
        ],
    },
    Row {
        id: 17,
        input: "rank > 8",
        tries: &[
            Fails("zeros", |e| read(e, &[&Tensor::zeros([1; 9])]), Code::Rank, &["9"]),
            Fails("unsqueeze", |e| read(e, &[&Tensor::zeros([1; 8]).unsqueeze(0)]), Code::Rank, &["9"]),
        ],
    },
    Row {
        id: 18,
        input: "NaN or infinity as a scalar constant",
        tries: &[
            Gives(
                "through a kernel",
                |e| {
                    let x = Tensor::new([1.0, -1.0]);
                    read(e, &[&(&x + NAN), &(&x * INF), &(&x * 0.0 - INF)])
                },
                &[NAN, NAN, INF, -INF, -INF, -INF],
            ),
            Gives(
                "as a whole",
                |e| read(e, &[&Tensor::full([1], NAN), &Tensor::full([1], -INF)]),
                &[NAN, -INF],
            ),
        ],
    },
    Row {
        id: 19,
        input: "denormal and −0 constants",
        tries: &[
            Copies(
                "through a kernel that copies",
                |e| {
                    let parts = [Tensor::full([1], -0.0), Tensor::full([1], TINY), Tensor::new([-TINY, 0.0])];
                    read(e, &[&Tensor::concat(&[&parts[0], &parts[1], &parts[2]], 0).flip(0)])
                },
                &[0.0, -TINY, TINY, -0.0],
            ),
            Copies(
                "chosen by a condition",
                |e| read(e, &[&Tensor::new([true, false]).select(-0.0, TINY)]),
                &[-0.0, TINY],
            ),
        ],
    },
];

/// 2⁻¹⁴⁰: a denormal of f32 that f32 represents exactly.
const TINY: f64 = 1.0 / (1u128 << 70) as f64 / (1u128 << 70) as f64;

/// What an optimizer does with one parameter.
fn adam(e: &Evaluator, adam: &Adam) -> Result<Vec<Array>, Error> {
    let x = Tensor::new([1.0]);
    let state: Vec<Tensor> =
        adam.state(x.shape())?.into_iter().map(|(_, value)| Tensor::new(value)).collect();
    read(e, &[&adam.updates(&x, &x, &state)?[0].1])
}

fn limit_of_64_kib(e: &Evaluator) -> Result<(), String> {
    let Some(device) = &e.device else { return Ok(()) };
    let mut target = device.info().target.clone();
    target.max_binding = 64 << 10;
    let small = device.with_limits(&target).map_err(|error| error.to_string())?;
    let fits = Tensor::iota([1 << 14], 0).cast(DType::F32);
    let doubled = (fits * 2.0).sum(..);
    let sum = small.read(&doubled).map_err(|error| error.to_string())?;
    let bounded = bounds(&[&doubled], &e.arithmetic()).map_err(|error| error.to_string())?;
    if let Some(violation) = bounded[0].first_violation(&sum) {
        return Err(format!("the sum of 2·(0 … 16383): {violation:?}"));
    }
    let large = Tensor::iota([1 << 15], 0).cast(DType::F32) * 2.0;
    match small.read(&large) {
        Err(error) if error.code() == Code::Limit => asked_and_allowed(&error, 128 << 10, 64 << 10),
        Err(error) => Err(format!("expected E_LIMIT\n{error}")),
        Ok(_) => Err("128 KiB fit in 64 KiB".to_owned()),
    }
}

/// Computed tensors of these shapes together exceed a limit: E_LIMIT, before anything is allocated for good.
fn beyond(e: &Evaluator, shapes: &[[usize; 2]]) -> Result<(), String> {
    let Some(device) = &e.device else { return Ok(()) };
    let device = match e.is_adapter() {
        true => device.clone(),
        false => {
            let mut target = device.info().target.clone();
            target.max_binding = 128 << 20;
            device.with_limits(&target).map_err(|error| error.to_string())?
        }
    };
    let tensors: Vec<Tensor> = shapes
        .iter()
        .zip(1..)
        .map(|(&shape, factor)| Tensor::iota(shape, 1).cast(DType::F32) * f64::from(factor))
        .collect();
    let before = device.memory().live_bytes;
    match device.read_all(&tensors.iter().collect::<Vec<_>>()) {
        Err(error) if error.code() == Code::Limit => {
            let (text, after) = (error.to_string(), device.memory().live_bytes);
            let says = ["allow", "help"].iter().all(|part| text.contains(part));
            if says && after == before { Ok(()) } else { Err(format!("{before} → {after} bytes\n{text}")) }
        }
        other => Err(format!("expected E_LIMIT, got {other:?}")),
    }
}

/// The error says how much was asked, how much is allowed, and what to do: in bytes, or rounded to a unit.
fn asked_and_allowed(error: &Error, asked: u64, allowed: u64) -> Result<(), String> {
    let text = error.to_string();
    let says = |bytes: u64| {
        text.contains(&format!("{bytes} bytes"))
            || text.contains(&format!("allows {bytes} per buffer"))
            || text.contains(&format!("{}.0 KiB", bytes >> 10))
    };
    if says(asked) && says(allowed) && text.contains("split the tensor") {
        return Ok(());
    }
    Err(format!("{asked} bytes asked, {allowed} allowed, and a suggestion are expected in\n{text}"))
}

/// Half precision is stored by the packing functions of core WGSL: no adapter feature is asked for, so none is missed.
fn f16_without_feature(e: &Evaluator) -> Result<(), String> {
    let half = (Tensor::new([1.0, 1.5, -65504.0 / 1.5]) * 1.5).cast(DType::F16);
    let Some(device) = &e.device else { return Ok(()) };
    let mut target = device.info().target.clone();
    target.f16 = false;
    let without = device.with_limits(&target).map_err(|error| error.to_string())?;
    if without.info().target.f16 {
        return Err("the device still has SHADER_F16".to_owned());
    }
    for (kind, device) in [("with", device), ("without", &without)] {
        let stored = device.materialize(&[&half]).map_err(|error| error.to_string())?.remove(0);
        let wide = stored.cast(DType::F32) * 2.0;
        match device.read_all(&[&half, &wide]) {
            Ok(arrays)
                if arrays[0].to_f64() == [1.5, 2.25, -65504.0]
                    && arrays[1].to_f64() == [3.0, 4.5, -131_008.0] => {}
            other => return Err(format!("{kind} SHADER_F16: {other:?}")),
        }
    }
    Ok(())
}
