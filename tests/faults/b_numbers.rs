//! B. Numbers: NaN, infinity, kinks, limits of the format, repetition.

use crate::common::{
    Check, Code, DType, Device, Evaluate, Evaluator, Fault, FaultPlan, Options, Reduction, Step, StepOptions,
    Tensor, audit, bounds, custom_function, grad, losses, where_,
};
use crate::table::Try::{Gives, Holds, Pending};
use crate::table::{Row, read};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

pub const ROWS: &[Row] = &[
    Row {
        id: 20,
        input: "NaN in an input",
        tries: &[
            Gives(
                "travels through elementwise operations",
                |e| {
                    let x = Tensor::new([1.0, NAN, 3.0]);
                    read(e, &[&x.max(2.0), &x.min(2.0), &x.relu(), &x.clamp(0.0, 2.0)])
                },
                &[2.0, NAN, 3.0, 1.0, NAN, 2.0, 1.0, NAN, 3.0, 1.0, NAN, 2.0],
            ),
            Gives(
                "travels through rows and reductions",
                |e| {
                    let x = Tensor::new([1.0, NAN, 3.0]);
                    read(e, &[&x.argmax(0), &x.softmax(0), &x.sum(..), &x.max_over(..), &x.min_over(..)])
                },
                &[1.0, NAN, NAN, NAN, NAN, NAN, NAN],
            ),
            Gives(
                "not through a masked sum",
                |e| {
                    let x = Tensor::new([1.0, NAN, 3.0]);
                    read(e, &[&x.is_nan().select(0.0, &x).sum(..)])
                },
                &[4.0],
            ),
            Holds("E_NONFINITE at level `Nan`", |e| {
                let x = Tensor::new([1.0, NAN, 3.0, NAN]);
                nonfinite(e, &(x * 2.0).named("doubled"), &["`doubled`", "2 of 4", "element 1"])
            }),
        ],
    },
    Row {
        id: 21,
        input: "exp(89) in a Poisson loss",
        tries: &[Holds("E_NONFINITE names the value, its row and η", |e| {
            let eta = Tensor::new([1.0, 89.0]).named("eta");
            let loss = losses::poisson_nll(&eta, &Tensor::new([1.0, 1.0]), Reduction::None).named("loss");
            nonfinite(e, &loss, &["`loss`", "1 of 2", "element 1", "`eta` is 89"])
        })],
    },
    Row {
        id: 22,
        input: "0/0, log 0, log −1, √−1, powers",
        tries: &[Gives(
            "IEEE",
            |e| {
                let (zero, minus) = (Tensor::new([0.0, 0.0]), Tensor::new([-1.0, -1.0]));
                let x = |v: f64| Tensor::new([v]);
                let ratio = Tensor::new([0.0, 1.0]) / &zero;
                let powers = [(-1.0, 0.5), (0.0, 0.0), (0.0, -1.0), (NAN, 0.0)].map(|(a, b)| x(a).pow(x(b)));
                let all =
                    [ratio, zero.log(), minus.log(), minus.sqrt(), Tensor::concat(&powers.each_ref(), 0)];
                read(e, &all.each_ref())
            },
            &[NAN, INF, -INF, -INF, NAN, NAN, NAN, NAN, NAN, 1.0, INF, 1.0],
        )],
    },
    Row {
        id: 23,
        input: "row of logits all −inf",
        tries: &[
            Gives(
                "logsumexp, softmax and their gradients",
                |e| {
                    let x = Tensor::new([[-INF, -INF]]);
                    let normalizer = x.logsumexp(1);
                    let gradient = grad(&normalizer.sum(..), &x)?.or_error()?;
                    let softmax = x.softmax(1);
                    let of_softmax = grad(&(&softmax * Tensor::new([1.0, 2.0])).sum(..), &x)?.or_error()?;
                    read(e, &[&normalizer, &softmax, &gradient, &of_softmax])
                },
                &[-INF, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            ),
            Gives(
                "cross entropy",
                |e| {
                    let x = Tensor::new([[-INF, -INF]]);
                    let loss = x.cross_entropy(&Tensor::new([0]));
                    let gradient = grad(&loss.sum(..), &x)?.or_error()?;
                    read(e, &[&loss, &gradient])
                },
                &[INF, 0.0, 0.0],
            ),
            Holds("the row is named at level `Nan`", |e| {
                let x = Tensor::new([[0.0, 1.0], [-INF, -INF]]);
                nonfinite(e, &x.cross_entropy(&Tensor::new([0, 0])).named("loss"), &["`loss`", "element 1"])
            }),
        ],
    },
    Row {
        id: 24,
        input: "ignored row that holds NaN",
        tries: &[Gives(
            "exact zeros",
            |e| {
                let (p, y) = (Tensor::new([1.0, NAN, 3.0]), Tensor::new([1.0, NAN, 2.0]));
                let kept = Tensor::new([true, false, true]);
                let loss = where_(&kept, (&p - &y).pow(2), 0.0).sum(..);
                read(e, &[&loss, &grad(&loss, &p)?.or_error()?])
            },
            &[1.0, 0.0, 0.0, 2.0],
        )],
    },
    Row {
        id: 25,
        input: "logits ±1e38 and ±3e38",
        tries: &[Gives(
            "the small exponential is 0",
            |e| {
                let x = Tensor::new([[1e38, -1e38], [3e38, -3e38]]);
                let loss = x.cross_entropy(&Tensor::new([0, 0]));
                read(e, &[&loss, &x.softmax(1), &grad(&loss.sum(..), &x)?.or_error()?])
            },
            &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        )],
    },
    Row {
        id: 26,
        input: "variance of constants, and at offset 1e6",
        tries: &[
            Gives("constants", |e| read(e, &[&variance(&Tensor::full([8], 0.5))]), &[0.0]),
            Holds("at an offset", |e| {
                let x = Tensor::iota([8], 0).cast(DType::F32) + 1e6;
                let v = variance(&x);
                let got = e.evaluate(&[&v]).map_err(|error| error.to_string())?;
                let bound = bounds(&[&v], &e.arithmetic()).map_err(|error| error.to_string())?;
                match bound[0].first_violation(&got[0]) {
                    None if bound[0].bound[0].is_finite() && (bound[0].value[0] - 5.25).abs() < 1e-6 => {
                        Ok(())
                    }
                    other => Err(format!("{got:?}: {other:?}, bound {:?}", bound[0])),
                }
            }),
        ],
    },
    Row {
        id: 27,
        input: "gradients at kinks",
        tries: &[Gives(
            "abs, relu, max, min, clamp, reduce-max",
            |e| {
                let x = Tensor::new([0.0, 1.0]);
                let slope = |y: Tensor| grad(&y.sum(..), &x)?.or_error();
                let all = [
                    slope(x.abs())?,
                    slope(x.relu())?,
                    slope(x.max(1.0))?,
                    slope(x.min(0.0))?,
                    slope(x.clamp(0.0, 1.0))?,
                    slope((&x * 0.0).max_over(0) + x.sum(..))?,
                    grad(&Tensor::max_over(&where_(&x.ge(0.0), &x - &x.detach(), 0.0), 0), &x)?.or_error()?,
                ];
                read(e, &all.each_ref())
            },
            &[0.0, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5],
        )],
    },
    Row {
        id: 28,
        input: "√ and norm at 0; NaN in the branch not taken",
        tries: &[
            Gives(
                "√′(0) = inf, and 0 through `where`",
                |e| {
                    let x = Tensor::new([0.0, 4.0]);
                    let guarded = where_(&x.gt(0.0), x.sqrt(), 0.0);
                    let logs = where_(&x.gt(0.0), x.log(), 0.0);
                    let all =
                        [x.sqrt(), guarded, logs].map(|y| grad(&y.sum(..), &x).and_then(|g| g.or_error()));
                    let [a, b, c] = all;
                    read(e, &[&a?, &b?, &c?])
                },
                &[INF, 0.25, 0.0, 0.25, 0.0, 0.25],
            ),
            Gives(
                "norm: of zeros, of what overflows when squared, of what underflows, of nothing",
                |e| {
                    // Powers of two, so that every number is exact.
                    let (large, small) = (2f64.powi(100), 2f64.powi(-100));
                    let x = Tensor::new([[3.0 * large, 4.0 * large], [3.0 * small, 4.0 * small]]);
                    let lengths = x.norm(-1) * Tensor::new([small, large]);
                    let y = Tensor::new([[0.0, 0.0], [0.0, -large], [small, 0.0]]);
                    let slope = grad(&y.norm(-1).sum(..), &y)?.or_error()?;
                    read(e, &[&lengths, &y.norm(-1), &slope, &Tensor::zeros([0]).norm(..)])
                },
                &[
                    5.0,
                    5.0,
                    0.0,
                    1.2676506002282294e30,
                    7.888609052210118e-31,
                    0.0,
                    0.0,
                    0.0,
                    -1.0,
                    1.0,
                    0.0,
                    0.0,
                ],
            ),
        ],
    },
    Row {
        id: 29,
        input: "backward makes NaN, anomaly mode on",
        tries: &[
            Holds("without the mode, level `Nan` names the gradient that is not finite", |e| {
                let x = Tensor::new([4.0, 0.0]).named("x");
                let slope = grad(&x.sqrt().sum(..), &x).and_then(|g| g.or_error());
                let slope = slope.map_err(|error| error.to_string())?.named("slope");
                nonfinite(e, &slope, &["`slope`", "1 of 2", "element 1"])
            }),
            Pending("E_ANOMALY", "anomaly mode belongs to the work on custom gradients", "Code::Anomaly"),
        ],
    },
    Row {
        id: 30,
        input: "f16 value > 65504",
        tries: &[
            Gives(
                "rounds to infinity, as IEEE says",
                |e| read(e, &[&(Tensor::new([65504.0, 65520.0, -1e6]) * 1.0).cast(DType::F16)]),
                &[65504.0, INF, -INF],
            ),
            Holds("E_NONFINITE with a hint at loss scaling", |e| {
                let large =
                    (Tensor::new([65504.0, 70000.0]).named("x") * 1.0).cast(DType::F16).named("large");
                nonfinite(
                    e,
                    &large,
                    &["`large`", "1 of 2", "element 1", "`x` is 70000", "65504", "loss scaling"],
                )
            }),
        ],
    },
    Row {
        id: 31,
        input: "more loop turns than the adapter grants",
        tries: &[
            Holds("split, or E_LOOP_BUDGET; never a truncated sum", |e| {
                let Some(device) = &e.device else { return Ok(()) };
                let mut target = device.info().target.clone();
                target.loop_budget = target.loop_budget.min(512);
                let small = device.with_limits(&target).map_err(|error| error.to_string())?;
                let n = 1 << 18;
                let product = ones([1, n]).matmul(&ones([n, 1])).reshape([1]);
                for (name, sum) in
                    [("sum", ones([n, 1]).sum(0)), ("row sum", ones([1, n]).sum(1)), ("matmul", product)]
                {
                    match small.read(&sum) {
                        Ok(array) if array.to_f64() == [262_144.0] => {}
                        Err(error) if error.code() == Code::LoopBudget => {}
                        other => return Err(format!("{name}: {other:?}")),
                    }
                }
                Ok(())
            }),
            Holds(
                "2²⁴ ones add up exactly at the limits of the device, from memory and computed",
                large_sums,
            ),
        ],
    },
    Row {
        id: 32,
        input: "repeat 10 times",
        tries: &[
            Holds("bit-equal", |e| {
                let x = (Tensor::iota([300, 70], 0).cast(DType::F32) * 0.37).sin();
                let w = (Tensor::iota([70, 30], 1).cast(DType::F32) * 0.11).cos();
                let y = x.matmul(&w).softmax(1);
                let loss = (&y * &y).sum(..);
                let slope = grad(&loss, &w).and_then(|g| g.or_error()).map_err(|error| error.to_string())?;
                let words = || {
                    let arrays =
                        e.evaluate(&[&loss, &slope, &x.sum(0)]).map_err(|error| error.to_string())?;
                    Ok::<_, String>(
                        arrays.iter().flat_map(|a| a.to_f64()).map(f64::to_bits).collect::<Vec<_>>(),
                    )
                };
                let first = words()?;
                for run in 1..10 {
                    if words()? != first {
                        return Err(format!("run {run} differs"));
                    }
                }
                Ok(())
            }),
            Holds("bit-equal where workgroups run in the opposite order", opposite_order),
        ],
    },
    Row {
        id: 33,
        input: "dead gradient: unreachable, zero, cut, without rule",
        tries: &[
            Holds("distinct states", |_| {
                let [a, b, c, d, f] = [1.0, 2.0, 3.0, 4.0, 5.0].map(Tensor::new);
                let opaque = custom_function("opaque", [&d], |[d]| &d * &d);
                let loss = b.sign() + c.detach() + opaque + &f * &f;
                let states = grad(&loss, [&a, &b, &c, &d, &f]).map_err(|error| error.to_string())?;
                let states = states
                    .map(|g| format!("{:?}", g.state()).split([' ', '(']).next().unwrap_or("").to_owned());
                let expected = ["Unconnected", "Zero", "Stopped", "NotDifferentiable", "Value"];
                if states == expected { Ok(()) } else { Err(format!("{states:?}")) }
            }),
            Holds("a warning lists the names", |_| {
                let [a, b, c, d, f] = ["a", "b", "c", "d", "f"].map(|name| Tensor::new(2.0).named(name));
                let opaque = custom_function("opaque", [&d], |[d]| &d * &d);
                let loss = b.sign() + c.detach() + opaque + &f * &f;
                let audit = audit(&loss, [&a, &b, &c, &d, &f]).map_err(|error| error.to_string())?;
                let expected = "4 of 5 parameters receive no gradient: `a` (Unconnected), `b` (Zero), `c` (Stopped), \
                    `d` (NotDifferentiable)";
                let lines = audit.to_string();
                let reasons = [
                    "`detach` cuts",
                    "piecewise constant",
                    "do not depend on `a`",
                    "`opaque`",
                    "b_numbers.rs",
                ];
                match audit.warning().as_deref() == Some(expected)
                    && reasons.iter().all(|r| lines.contains(r))
                {
                    true => Ok(()),
                    false => Err(lines),
                }
            }),
        ],
    },
];

/// Maps, rows, columns, totals, a product, a scan and a scattered sum, with their workgroups in the order of the adapter and in the opposite one.
fn opposite_order(e: &Evaluator) -> Result<(), String> {
    let Some(device) = &e.device else { return Ok(()) };
    let options = Options { faults: FaultPlan::new([Fault::ReverseWorkgroups]), ..Options::default() };
    let reversed = device.with_options(options).map_err(|error| error.to_string())?;
    let x =
        (Tensor::iota([300, 700], 0).cast(DType::F32) * 0.37 + Tensor::iota([700], 0).cast(DType::F32)).sin();
    let w = (Tensor::iota([700, 90], 1).cast(DType::F32) * 0.11).cos();
    let y = x.matmul(&w);
    let loss = (y.softmax(1) * y.log_softmax(1)).sum(..);
    let slope = grad(&loss, &w).and_then(|g| g.or_error()).map_err(|error| error.to_string())?;
    let places = Tensor::iota([300], 0).cast(DType::I32) % 7;
    let tensors = [
        loss,
        slope,
        x.sum(0),
        x.cumulative_sum(1, false),
        Tensor::scatter_add(&places, &x, 0, 7),
        x.argmax(0).cast(DType::F32),
        Tensor::iota([1 << 20], 0).cast(DType::F32).sin().sum(..),
    ];
    let words = |device: &Device| -> Result<Vec<u64>, String> {
        let arrays =
            device.read_all(&tensors.iter().collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        Ok(arrays.iter().flat_map(|array| array.to_f64()).map(f64::to_bits).collect())
    };
    if words(device)? != words(&reversed)? {
        return Err("results depend on the order of workgroups".to_owned());
    }
    let happened = reversed.faults().iter().all(|(_, fired)| *fired);
    if happened == e.is_adapter() { Ok(()) } else { Err("the order was not reversed".to_owned()) }
}

/// Ones that no planner knows to be ones.
fn ones(shape: [usize; 2]) -> Tensor {
    Tensor::iota(shape, 0).cast(DType::F32) * 0.0 + 1.0
}

/// Sums, means and rows of 2²⁴ elements, a number that f32 still counts to.
fn large_sums(e: &Evaluator) -> Result<(), String> {
    let Some(device) = &e.device else { return Ok(()) };
    const N: usize = 1 << 24;
    let told = |error: crate::common::Error| error.to_string();
    let stored = device.materialize(&[&ones([N, 1])]).map_err(told)?.remove(0);
    let mut compared = 0;
    for (kind, of) in [("stored", &stored), ("computed", &ones([N, 1]))] {
        let shaped = |rows: usize, columns: usize| of.reshape([rows as isize, columns as isize]);
        let (n, half) = (N as f64, (N / 2) as f64);
        let cases = [
            ("sum", shaped(N, 1).sum(..), vec![n]),
            ("mean", shaped(N, 1).mean(..), vec![1.0]),
            ("row sum", shaped(1, N).sum(1), vec![n]),
            ("row mean", shaped(1, N).mean(1), vec![1.0]),
            ("two row sums", shaped(2, N / 2).sum(1), vec![half, half]),
            ("column sum", shaped(N, 1).sum(0), vec![n]),
            ("two column sums", shaped(N / 2, 2).sum(0), vec![half, half]),
            ("row maximum", shaped(1, N).max_over(1), vec![1.0]),
            ("matmul", shaped(1, N).matmul(&shaped(N, 1)), vec![n]),
        ];
        for (name, tensor, expected) in cases {
            let found = device.read(&tensor).map_err(told)?.to_f64();
            if found != expected {
                return Err(format!("{kind} {name}: {found:?} is not {expected:?}"));
            }
            compared += 1;
        }
    }
    if compared == 18 { Ok(()) } else { Err(format!("{compared} comparisons")) }
}

/// Σ(x − mean)² with the correction for the rounded mean, divided by n.
fn variance(x: &Tensor) -> Tensor {
    let n = x.shape().elements() as f64;
    let d = x - x.mean(..);
    ((&d * &d).sum(..) - d.sum(..).pow(2) / n) / n
}

/// A step at level `Nan` reports E_NONFINITE with these parts; the reference has no such level.
fn nonfinite(e: &Evaluator, value: &Tensor, parts: &[&str]) -> Result<(), String> {
    let Some(device) = &e.device else { return Ok(()) };
    let options = StepOptions { check: Check::Nan, ..StepOptions::default() };
    let step = Step::with_options(device, &[], &[value], &[], options).map_err(|error| error.to_string())?;
    match step.run(&[]) {
        Err(error)
            if error.code() == Code::Nonfinite && parts.iter().all(|p| error.to_string().contains(p)) =>
        {
            Ok(())
        }
        Err(error) => Err(format!("expected E_NONFINITE with {parts:?}\n{error}")),
        Ok(_) => Err("no error".to_owned()),
    }
}
