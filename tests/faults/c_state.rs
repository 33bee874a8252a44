//! C. Differentiation state.

use crate::common::{
    Array, Code, CustomGradient, DType, Error, Evaluate, Evaluator, Reference, State, Step, Tensor,
    custom_gradient, grad, jvp, vjp,
};
use crate::table::Try::{Fails, Gives, Holds, Says};
use crate::table::{Row, read};

pub const ROWS: &[Row] = &[
    Row {
        id: 34,
        input: "gradient of a non-scalar without a cotangent",
        tries: &[Says(
            |_| {
                let x = Tensor::new([1.0, 2.0]);
                grad(&(&x * &x), &x).map(|_| vec![])
            },
            "error[E_NOT_SCALAR]: grad: the loss has shape [2], a gradient needs a scalar\n  \
             at tests/faults/c_state.rs:LINE\n  \
             help: reduce it, for example with `.mean(..)`, or pass a cotangent of its shape: \
             `vjp(&[(&loss, &cotangent)], wrt)`",
        )],
    },
    Row {
        id: 35,
        input: "gradient twice from the same graph",
        tries: &[Holds("the same bits", |e| {
            let x = Tensor::new([0.3, 1.7, -2.2]);
            let loss = (x.sin() * x.exp()).sum(..);
            let mut seen = Vec::new();
            for _ in 0..2 {
                let slope = grad(&loss, &x).and_then(|g| g.or_error()).map_err(|error| error.to_string())?;
                let array = e.evaluate(&[&slope]).map_err(|error| error.to_string())?.remove(0);
                seen.push(array.to_f64().into_iter().map(f64::to_bits).collect::<Vec<_>>());
            }
            if seen[0] == seen[1] { Ok(()) } else { Err(format!("{seen:?}")) }
        })],
    },
    Row {
        id: 36,
        input: "a variable of another device",
        tries: &[Holds("E_DEVICE_MISMATCH, both named", |e| {
            let Some(device) = &e.device else { return Ok(()) };
            let other =
                device.with_options(crate::common::Options::default()).map_err(|error| error.to_string())?;
            let foreign = other.variable("foreign", &[1.0, 2.0]).map_err(|error| error.to_string())?;
            let own = device.variable("own", &[1.0, 2.0]).map_err(|error| error.to_string())?;
            let both = own.tensor() + foreign.tensor();
            let read = device.read(&both).map(|_| ());
            let step = Step::new(device, &[], &[&both], &[]).map(|_| ());
            for (name, result) in [("read", read), ("step", step)] {
                match result {
                    Err(error) if error.code() == Code::DeviceMismatch => {
                        let text = error.to_string();
                        if !text.contains("`foreign`") || text.matches(device.name()).count() < 2 {
                            return Err(format!("{name}: {text}"));
                        }
                    }
                    other => return Err(format!("{name}: {other:?}")),
                }
            }
            Ok(())
        })],
    },
    Row {
        id: 37,
        input: "variable updated in a step that still needs its old value",
        tries: &[Holds("two variables change places", |e| {
            let Some(device) = &e.device else { return Ok(()) };
            let run = || {
                let a = device.variable("a", &[1.0, 2.0])?;
                let b = device.variable("b", &[10.0, 20.0])?;
                let sum = a.tensor() * 2.0 + b.tensor();
                let step = Step::new(device, &[], &[&sum], &[(&a, b.tensor()), (&b, &(a.tensor() + 1.0))])?;
                let first = step.run(&[])?.read(0)?.to_f64();
                let second = step.run(&[])?.read(0)?.to_f64();
                Ok::<_, Error>([first, second, device.read(&a)?.to_f64(), device.read(&b)?.to_f64()])
            };
            let got = run().map_err(|error| error.to_string())?;
            let expected = [[12.0, 24.0], [22.0, 43.0], [2.0, 3.0], [11.0, 21.0]];
            if got == expected.map(Vec::from) {
                Ok(())
            } else {
                Err(format!("{got:?}, expected {expected:?}"))
            }
        })],
    },
    Row {
        id: 38,
        input: "cotangent of wrong shape or type",
        tries: &[
            Says(
                |_| {
                    let x = Tensor::zeros([2, 2]);
                    vjp(&[(&(&x * 2.0), &Tensor::ones([2]))], &x).map(|_| vec![])
                },
                "error[E_COTANGENT]: vjp: cotangent for output 0 has shape [2] but the output has [2, 2]\n  \
                 at tests/faults/c_state.rs:LINE\n  \
                 help: pass a cotangent of the shape and type of the output; nothing is broadcast or summed",
            ),
            Fails(
                "type",
                |_| {
                    let x = Tensor::zeros([2]);
                    vjp(&[(&(&x * 2.0), &Tensor::new([1, 1]))], &x).map(|_| vec![])
                },
                Code::Cotangent,
                &["is i32", "is f32"],
            ),
        ],
    },
    Row {
        id: 39,
        input: "gradient with respect to an integer or truth value",
        tries: &[
            Fails(
                "integer",
                |_| grad(&Tensor::new(1.0), &Tensor::new([1, 2])).map(|_| vec![]),
                Code::NotDifferentiable,
                &["i32", ".cast(DType::F32)"],
            ),
            Fails(
                "truth value",
                |_| grad(&Tensor::new(1.0), &Tensor::new([true])).map(|_| vec![]),
                Code::NotDifferentiable,
                &["bool"],
            ),
            Fails(
                "integer loss",
                |_| grad(&Tensor::new(1), &Tensor::new(1.0)).map(|_| vec![]),
                Code::NotDifferentiable,
                &["i32"],
            ),
        ],
    },
    Row {
        id: 40,
        input: "gradient of, or with respect to, a constant or detached tensor",
        tries: &[
            Holds("states", |_| {
                let (x, unused) = (Tensor::new(2.0), Tensor::new(3.0));
                let constant = Tensor::full([], 3.0);
                let states = [
                    grad(&x.detach(), &x),
                    grad(&(&x.detach() * &unused), &x),
                    grad(&(&x * &x), &unused),
                    grad(&constant, &x),
                    grad(&(&x * &constant), &constant),
                ];
                let named = |g: &crate::common::Gradient| match g.state() {
                    State::Value(_) => "Value".to_owned(),
                    State::Stopped { by } => format!("Stopped by {by}"),
                    State::Unconnected => "Unconnected".to_owned(),
                    State::Zero | State::NotDifferentiable { .. } => format!("{:?}", g.state()),
                };
                let got: Vec<String> =
                    states.iter().map(|g| g.as_ref().map_or_else(|e| e.to_string(), named)).collect();
                let expected =
                    ["Stopped by detach", "Stopped by detach", "Unconnected", "Unconnected", "Value"];
                if got == expected { Ok(()) } else { Err(format!("{got:?}")) }
            }),
            Gives(
                "a constant that is broadcast keeps its gradient",
                |e| {
                    let (x, c) = (Tensor::new([1.0, 2.0, 3.0]), Tensor::ones([1]));
                    read(e, &[&grad(&(&x * &c).sum(..), &c)?.or_error()?])
                },
                &[6.0],
            ),
        ],
    },
    Row {
        id: 41,
        input: "cyclic graph through user handles",
        // A node holds only nodes that existed before it; the nearest thing to a cycle is a rule that captures.
        tries: &[Fails(
            "a rule that captures an input of the graph around it",
            |e| {
                let (x, outer) = (Tensor::new(1.0), Tensor::input("outer", [], DType::F32));
                let y = custom_gradient("looped", [&x], |[x]| (&x * &outer, move |g: Tensor| g * x));
                read(e, &[&y])
            },
            Code::RuleCapture,
            &["`outer`", "looped"],
        )],
    },
    Row {
        id: 42,
        input: "chain of 10⁶ nodes",
        tries: &[
            Holds("build, sort, differentiate, drop", long_chain),
            Holds("evaluate a chain", computed_chain),
        ],
    },
    Row {
        id: 43,
        input: "10 000 steps",
        tries: &[Holds("live buffers and bytes stay constant", |e| {
            let Some(device) = &e.device else { return Ok(()) };
            let run = || {
                let w = device.variable("w", &[0.0])?;
                let loss = (w.tensor() - 1.0).pow(2).sum(..);
                let slope = grad(&loss, w.tensor())?.or_error()?;
                let step = Step::new(device, &[], &[&loss], &[(&w, &(w.tensor() - 0.001 * slope))])?;
                // As many as can be under way at once fill the ring that outputs come back through.
                for _ in 0..8 {
                    step.launch(&[])?;
                }
                let before = device.memory();
                for _ in 0..9_991 {
                    step.launch(&[])?;
                }
                let last = step.run(&[])?.scalar(0)?;
                let after = device.memory();
                Ok::<_, Error>((before, after, last))
            };
            let (before, after, last) = run().map_err(|error| error.to_string())?;
            let same = (before.live_buffers, before.live_bytes) == (after.live_buffers, after.live_bytes);
            if same && last < 1e-6 { Ok(()) } else { Err(format!("{before:?}, {after:?}, loss {last}")) }
        })],
    },
    Row {
        id: 44,
        input: "order higher than there are derivatives",
        tries: &[
            Fails(
                "digamma″",
                |e| {
                    let x = Tensor::new(1.5);
                    let first = grad(&x.digamma(), &x)?.or_error()?;
                    let second = grad(&first, &x)?.or_error()?;
                    read(e, &[&second])
                },
                Code::NoDerivative,
                &["trigamma"],
            ),
            Fails(
                "a rule that declares its first order only, reverse over reverse",
                |e| {
                    let x = Tensor::new(1.5);
                    let first = grad(&table(&x), &x)?.or_error()?;
                    read(e, &[&grad(&first, &x)?.or_error()?])
                },
                Code::FirstOrderOnly,
                &["table", "first_order_only"],
            ),
            Fails(
                "forward mode",
                |e| {
                    let x = Tensor::new(1.5);
                    read(e, &[&jvp(&[&table(&x)], &[(&x, &Tensor::new(1.0))])?[0]])
                },
                Code::FirstOrderOnly,
                &["table"],
            ),
            Gives(
                "its first order",
                |e| {
                    let x = Tensor::new(1.5);
                    let y = table(&x);
                    read(e, &[&y, &grad(&y, &x)?.or_error()?])
                },
                &[2.25, 3.0],
            ),
        ],
    },
    Row {
        id: 45,
        input: "a step run with changed shapes",
        tries: &[
            Fails(
                "step, or binding on the reference",
                |e| {
                    let x = Tensor::input("batch", [2, 3], DType::F32);
                    let y = (&x * 2.0).sum(..);
                    let data = Array::new(vec![0.0; 9], [3, 3])?;
                    match &e.device {
                        None => Reference::new().bind(&x, data)?.evaluate(&[&y]),
                        Some(device) => Step::new(device, &[&x], &[&y], &[])?
                            .run(&[(&x, &data)])?
                            .read(0)
                            .map(|a| vec![a]),
                    }
                },
                Code::ShapeChanged,
                &["`batch`", "[2, 3]", "[3, 3]"],
            ),
            Gives(
                "another step for another shape",
                |e| {
                    let sums = [2, 3].map(|n| Tensor::ones([n]).exp().log().round().sum(..));
                    read(e, &sums.each_ref())
                },
                &[2.0, 3.0],
            ),
        ],
    },
];

/// Nothing recurses: neither building nor differentiating nor dropping. No evaluator is needed, so once is enough.
fn long_chain(e: &Evaluator) -> Result<(), String> {
    let length = if e.is_reference() { 1_000_000 } else { 10_000 };
    let x = Tensor::new(1.0);
    let mut y = x.clone();
    for _ in 0..length {
        y = y * 1.0;
    }
    let node = y.node().map_err(|error| error.to_string())?;
    let sorted = cotangent::topological([node]).len();
    if sorted < length {
        return Err(format!("{sorted} nodes sorted"));
    }
    let slope = grad(&y, &x).and_then(|g| g.or_error()).map_err(|error| error.to_string())?;
    drop(y);
    drop(slope);
    Ok(())
}

fn computed_chain(e: &Evaluator) -> Result<(), String> {
    let length = if e.is_reference() { 100_000 } else { 1_000 };
    let x = Tensor::new([1.0, 2.0]);
    let mut y = x.clone();
    for _ in 0..length {
        y = -y;
    }
    let got = e.evaluate(&[&y]).map_err(|error| error.to_string())?.remove(0).to_f64();
    if got == [1.0, 2.0] { Ok(()) } else { Err(format!("{got:?}")) }
}

/// A rule whose gradient hides how it depends on the input.
fn table(x: &Tensor) -> Tensor {
    CustomGradient::exact("table").first_order_only().apply([x], |[x]| {
        let looked_up = x.detach() * 2.0;
        (&x * &x, move |upstream: Tensor| upstream * looked_up)
    })
}
