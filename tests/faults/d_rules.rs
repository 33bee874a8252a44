//! D. Custom rules.

#![allow(clippy::panic, reason = "closures of the cases panic")]

use std::cell::Cell;
use std::thread;

use crate::common::check::unchecked;
use crate::common::{
    Array, Code, CustomGradient, DType, Error, Evaluate, Evaluator, GradCheck, InputGradient, Reference,
    Rule, State, Tensor, Upstream, batch, custom_function, custom_gradient, custom_jvp, grad, jvp, vjp,
};
use crate::table::Try::{Fails, Gives, Holds, Says};
use crate::table::{Row, read};

pub const ROWS: &[Row] = &[
    Row {
        id: 46,
        input: "wrong number of gradients",
        tries: &[
            Says(
                |e| {
                    let (x, y) = (Tensor::new([1.0, 2.0]).named("x"), Tensor::new(3.0).named("y"));
                    let f = custom_gradient("product", [&x, &y], |[x, y]| (&x * &y, move |g: Tensor| g * y));
                    read(e, &[&f.exp()])
                },
                "error[E_RULE_ARITY]: custom gradient \"product\": expected 2 gradients, got 1 (inputs: x [2], y [])\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: return `None` for an input without gradient",
            ),
            Fails(
                "too many",
                |e| read(e, &[&with(|g| vec![g.clone(), g])]),
                Code::RuleArity,
                &["expected 1 gradients, got 2", "x [3]"],
            ),
            Fails(
                "none",
                |e| read(e, &[&with(|_| Vec::<Tensor>::new())]),
                Code::RuleArity,
                &["expected 1 gradients, got 0"],
            ),
        ],
    },
    Row {
        id: 47,
        input: "wrong shape",
        tries: &[
            Says(
                |e| {
                    let (x, y) = (Tensor::ones([3]).named("x"), Tensor::ones([4]).named("y"));
                    let f = custom_gradient("outer", [&x, &y], |[x, y]| {
                        (x.sum(..) * y.sum(..), move |g: Tensor| (&g * &x, g * x))
                    });
                    read(e, &[&f])
                },
                "error[E_RULE_SHAPE]: custom gradient \"outer\": gradient 1 has shape [3], but input 1 `y` is [4], \
                 so the shapes do not match\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: gradients are never summed or broadcast: reduce in the rule what the function broadcasts",
            ),
            Fails(
                "one that would have to be summed",
                |e| read(e, &[&with(|g| g.broadcast_to([4, 3]))]),
                Code::RuleShape,
                &["[4, 3]", "input 0 `x` is [3]", "never summed"],
            ),
            Fails(
                "one that would have to be broadcast",
                |e| read(e, &[&with(|g| g.sum(..))]),
                Code::RuleShape,
                &["[]", "input 0 `x` is [3]", "never summed or broadcast"],
            ),
        ],
    },
    Row {
        id: 48,
        input: "wrong type",
        tries: &[
            Says(
                |e| read(e, &[&with(|g| g.cast(DType::I32))]),
                "error[E_RULE_DTYPE]: custom gradient \"rule\": gradient 0 is i32, but input 0 `x` is f32\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: write `.cast(DType::F32)`",
            ),
            Fails(
                "half precision",
                |e| read(e, &[&with(|g| g.cast(DType::F16))]),
                Code::RuleDtype,
                &["is f16", "input 0 `x` is f32", ".cast(DType::F32)"],
            ),
        ],
    },
    Row {
        id: 49,
        input: "a gradient for what cannot have one",
        tries: &[
            Says(
                |e| {
                    let labels = Tensor::new([1, 2]).named("labels");
                    let f = custom_gradient("pick", [&labels], |[l]| (l.cast(DType::F32), |g: Tensor| g));
                    read(e, &[&f])
                },
                "error[E_RULE_NONE]: custom gradient \"pick\": gradient 0 must be `None`: input 0 `labels` is i32\n  \
                 at tests/faults/d_rules.rs:LINE\n  help: return `None` for it",
            ),
            Fails(
                "a truth value",
                |e| {
                    let mask = Tensor::new([true, false]).named("mask");
                    let f = custom_gradient("pick", [&mask], |[m]| (m.select(1.0, 0.0), |g: Tensor| g));
                    read(e, &[&f])
                },
                Code::RuleNone,
                &["gradient 0 must be `None`", "`mask` is bool"],
            ),
        ],
    },
    Row {
        id: 50,
        input: "no gradient for any input",
        tries: &[
            Says(
                |e| read(e, &[&with(|_| None::<Tensor>)]),
                "error[E_RULE_CUT]: custom gradient \"rule\": passes nothing to any of its inputs\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: if that is meant, declare it with `CustomGradient::…(…).passing_nothing()`, or use `detach`",
            ),
            Holds("declared, it is a stop", |_| {
                let x = Tensor::new(3.0);
                let rule = CustomGradient::exact("quiet").passing_nothing();
                let y = rule.apply([&x], |[x]| (x, |_: Tensor| None::<Tensor>));
                match grad(&y, &x).map_err(text)?.state() {
                    State::Stopped { by } if by == "quiet" => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }),
        ],
    },
    Row {
        id: 51,
        input: "outputs change from trace to trace",
        tries: &[
            Fails(
                "shape",
                |_| check(|n, x| if n % 2 == 0 { x.exp() } else { x.exp().sum(..) }),
                Code::RuleUnstable,
                &["output 0 is f32"],
            ),
            Fails(
                "type",
                |_| check(|n, x| if n % 2 == 0 { x.exp() } else { x.cast(DType::F16) }),
                Code::RuleUnstable,
                &["output 0 is f"],
            ),
        ],
    },
    Row {
        id: 52,
        input: "the forward function of a rule is not the plain one",
        tries: &[
            Says(
                |e| read(e, &[&Total(|x| x.clone()).apply(&[&Tensor::ones([3])])[0]]),
                "error[E_RULE_PRIMAL]: rule \"total\": its forward gives (f32 [3]), the plain function (f32 [])\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: `forward` returns the pair (outputs, saved): the outputs are those of the plain function, \
                 whatever is saved",
            ),
            Fails(
                "other values, when it is checked",
                |_| check(|_, x| Total(|x| x.sum(..) + 1e-9).apply(&[x]).remove(0)),
                Code::RulePrimal,
                &["total", "output 0"],
            ),
            Gives("the same", |e| read(e, &[&Total(|x| x.sum(..)).apply(&[&Tensor::ones([3])])[0]]), &[3.0]),
        ],
    },
    Row {
        id: 53,
        input: "a closure captures a tensor that may change",
        tries: &[
            Says(
                |e| {
                    let (x, w) = (Tensor::new(3.0).named("x"), Tensor::input("w", [], DType::F32));
                    read(e, &[&custom_gradient("scaled", [&x], |[x]| (x * &w, |g: Tensor| g * &w))])
                },
                "error[E_RULE_CAPTURE]: custom gradient \"scaled\": its closure captures `w` [], \
                 which is none of its inputs (x)\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: pass `w` as an input and use the closure's argument",
            ),
            Fails(
                "a constant, when its gradient is wanted",
                |_| {
                    let (x, w) = (Tensor::new(3.0), Tensor::new(2.0).named("weight"));
                    let y = custom_gradient("scaled", [&x], |[x]| (x * &w, |g: Tensor| g * &w));
                    grad(&y, &w).map(|_| vec![])
                },
                Code::RuleCapture,
                &["`weight`", "scaled"],
            ),
            Holds("a variable", |e| {
                let Some(device) = &e.device else { return Ok(()) };
                let w = device.variable("w", &[2.0]).map_err(text)?;
                let x = Tensor::new([3.0]);
                let y = custom_gradient("scaled", [&x], |[x]| (x * w.tensor(), |g: Tensor| g * w.tensor()));
                match read(e, &[&y]) {
                    Err(error) if error.code() == Code::RuleCapture && error.to_string().contains("`w`") => {
                        Ok(())
                    }
                    other => Err(format!("{other:?}")),
                }
            }),
        ],
    },
    Row {
        id: 54,
        input: "a closure panics",
        tries: &[
            Says(
                |e| {
                    let x = Tensor::ones([3]).named("x");
                    let fails = |n: usize| -> Tensor { panic!("no table for {n}") };
                    read(e, &[&custom_gradient("lookup", [&x], |[x]| (fails(x.shape()[0]), |g: Tensor| g))])
                },
                "error[E_USER_PANIC]: custom gradient \"lookup\": its closure panicked: no table for 3\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: the graph is as it was before the rule was applied",
            ),
            Fails(
                "going back",
                |e| read(e, &[&with(|_| -> Tensor { panic!("no way back") })]),
                Code::UserPanic,
                &["\"rule\"", "no way back"],
            ),
            Gives(
                "the graph is as before",
                |e| {
                    let x = Tensor::new([2.0, 3.0]);
                    let y = (&x * &x).sum(..);
                    let broken = custom_gradient("lookup", [&y], |[_]| -> (Tensor, fn(Tensor) -> Tensor) {
                        panic!("no table")
                    });
                    drop(broken);
                    read(e, &[&y, &grad(&y, &x)?.or_error()?])
                },
                &[13.0, 4.0, 6.0],
            ),
        ],
    },
    Row {
        id: 55,
        input: "a closure reads while it is traced",
        tries: &[
            Gives(
                "a tensor that has a value",
                |e| {
                    let (x, table) = (Tensor::new([1.0, 2.0]), Tensor::new([3.0, 4.0]) * 2.0);
                    let y = custom_gradient("looks", [&x], |[x]| {
                        let factor = e.evaluate(&[&table]).map(|arrays| arrays[0].to_f64()[1]);
                        let factor = factor.unwrap_or(f64::NAN);
                        (x * factor, move |g: Tensor| g * factor)
                    });
                    read(e, &[&y, &grad(&y.sum(..), &x)?.or_error()?])
                },
                &[8.0, 16.0, 8.0, 8.0],
            ),
            Says(
                |e| reads(e, |x, _| x.clone()),
                "error[E_UNBOUND]: read: `x` (f32 [2]) has no value: it is an argument of a traced function\n  \
                 at tests/faults/d_rules.rs:LINE\n  \
                 help: such a function runs once, whatever the values: compute with tensors in it, and read outside of it",
            ),
            Fails(
                "something made of its cotangent",
                |e| reads(e, |x, g| x * g * 2.0),
                Code::Unbound,
                &["(f32 [2]) has no value", "traced function", "d_rules.rs"],
            ),
            Fails(
                "an argument that has left the closure",
                |e| {
                    let mut left = None;
                    custom_gradient("leaks", [&Tensor::new(1.0)], |[x]| {
                        left = Some(x.clone());
                        (x, |g: Tensor| g)
                    });
                    read(e, &[&left.unwrap_or_else(|| Tensor::new(0.0)).exp()])
                },
                Code::Unbound,
                &["`input0` (f32 []) has no value", "traced function", "d_rules.rs"],
            ),
            Fails(
                "an example of a batch",
                |e| {
                    let mut seen = Ok(vec![]);
                    let _: Tensor = batch([&Tensor::new([1.0, 2.0]).named("x")], |[x]| {
                        seen = e.evaluate(&[&x]);
                        x
                    });
                    seen
                },
                Code::Unbound,
                &["`x` (f32 []) has no value", "traced function", "d_rules.rs"],
            ),
        ],
    },
    Row {
        id: 56,
        input: "a closure starts another gradient",
        tries: &[Gives(
            "(x³)′ = 3x² by hand, x³ inside differentiated by itself",
            |e| {
                let x = Tensor::new(2.0);
                let cube = |x: &Tensor| x * x * x;
                let y = custom_gradient("slope_of_cube", [&x], |[x]| {
                    let slope = grad(&cube(&x), &x).map_or_else(Tensor::invalid, |g| g.or_zero());
                    let back = slope.clone();
                    (slope, move |g: Tensor| {
                        vjp(&[(&back, &g)], &x).map_or_else(Tensor::invalid, |g| g.or_zero())
                    })
                });
                let first = grad(&y, &x)?.or_error()?;
                let second = grad(&first, &x)?.or_error()?;
                read(e, &[&y, &first, &second])
            },
            &[12.0, 12.0, 6.0],
        )],
    },
    Row {
        id: 57,
        input: "a rule on another thread",
        // A closure is called where it is applied and stored nowhere, so one that is not `Send` needs to go nowhere.
        tries: &[Holds("what it built is Send and Sync and goes there", |e| {
            fn portable<T: Send + Sync>(value: T) -> T {
                value
            }
            let calls = std::rc::Rc::new(Cell::new(0));
            let own = calls.clone();
            let x = Tensor::new([2.0, 3.0]);
            let y = custom_gradient("square", [&x], move |[x]| {
                own.set(own.get() + 1);
                (&x * &x, move |g: Tensor| {
                    own.set(own.get() + 1);
                    g * x * 2.0
                })
            });
            let both = portable((x, y));
            let there = thread::scope(|scope| {
                let (x, y) = &both;
                let work = move || {
                    let slope = grad(&y.sum(..), x)?.or_error()?;
                    read(e, &[y, &slope])
                };
                scope.spawn(work).join()
            });
            let got = there.map_err(|_| "the other thread panicked".to_owned())?.map_err(text)?;
            let got: Vec<f64> = got.iter().flat_map(Array::to_f64).collect();
            if got == [4.0, 9.0, 4.0, 6.0] && calls.get() == 2 {
                Ok(())
            } else {
                Err(format!("{got:?} after {} calls", calls.get()))
            }
        })],
    },
    Row {
        id: 58,
        input: "a rule that is not linear in its cotangent",
        tries: &[
            Fails(
                "squared",
                |_| check(|_, x| square(x, |x, g| x * 2.0 * &g * g)),
                Code::RuleLinear,
                &["\"square\"", "f(2v) = ", "2 f(v) = "],
            ),
            Fails(
                "ignored",
                |_| check(|_, x| square(x, |x, _| x * 2.0)),
                Code::RuleLinear,
                &["ignores its cotangent"],
            ),
        ],
    },
    Row {
        id: 59,
        input: "a rule that gives other numbers from trace to trace",
        tries: &[Fails(
            "by 1e-12",
            |_| {
                check(|n, x| {
                    let factor = 2.0 + 1e-12 * n as f64;
                    square(x, move |x, g| x * factor * g)
                })
            },
            Code::RuleNondeterministic,
            &["\"square\"", "gradient of output 0 by input 0"],
        )],
    },
    Row {
        id: 60,
        input: "a rule that disagrees with the derivative",
        tries: &[Fails(
            "in one element",
            |_| {
                let off = || Tensor::new([0.0, 1e-3]);
                check(move |_, x| square(x, move |x, g| (x * 2.0 + off()) * g))
            },
            Code::RuleWrong,
            &["\"square\"", "element [1]", "declare a surrogate if the difference is intended"],
        )],
    },
    Row {
        id: 61,
        input: "a second derivative through a rule of first order",
        tries: &[
            Fails(
                "of the gradient",
                |e| {
                    let x = Tensor::new(1.5);
                    let first = grad(&once(&x), &x)?.or_error()?;
                    read(e, &[&grad(&first, &x)?.or_error()?])
                },
                Code::FirstOrderOnly,
                &["once", "first_order_only"],
            ),
            Fails(
                "through what follows",
                |e| {
                    let x = Tensor::new(1.5);
                    let first = grad(&once(&x).exp(), &x)?.or_error()?;
                    read(e, &[&grad(&first, &x)?.or_error()?])
                },
                Code::FirstOrderOnly,
                &["once"],
            ),
        ],
    },
    Row {
        id: 62,
        input: "a batch of a rule",
        tries: &[
            Gives(
                "keeps the rule",
                |e| {
                    let x = Tensor::new([0.0, 1.0, 2.0]);
                    let y = batch([&x], |[x]| {
                        custom_gradient("exp", [&x], |[x]| (x.exp(), |g: Tensor| g * 42.0))
                    });
                    read(e, &[&unchecked(|| grad(&y.sum(..), &x))?.or_error()?])
                },
                &[42.0, 42.0, 42.0],
            ),
            Fails(
                "keeps that there is none",
                |e| {
                    let x = Tensor::new([0.0, 1.0, 2.0]);
                    let y = batch([&x], |[x]| custom_function("opaque", [&x], |[x]| x.exp()));
                    read(e, &[&grad(&y.sum(..), &x)?.or_error()?])
                },
                Code::NotDifferentiable,
                &["no gradient rule for `opaque`"],
            ),
            Fails(
                "keeps its order",
                |e| {
                    let x = Tensor::new([0.0, 1.0, 2.0]);
                    let first = grad(&batch([&x], |[x]| once(&x)).sum(..), &x)?.or_error()?;
                    read(e, &[&grad(&first.sum(..), &x)?.or_error()?])
                },
                Code::FirstOrderOnly,
                &["once"],
            ),
        ],
    },
    Row {
        id: 63,
        input: "forward mode through a rule of reverse mode",
        tries: &[
            Gives(
                "is its transpose",
                |e| {
                    let x = Tensor::new([1.0, 2.0]);
                    let y = square(&x, |x, g| x * 7.0 * g);
                    read(e, &[&unchecked(|| jvp(&[&y], &[(&x, &Tensor::new([1.0, 10.0]))]))?[0]])
                },
                &[7.0, 140.0],
            ),
            Gives(
                "and the other way round",
                |e| {
                    let x = Tensor::new([1.0, 2.0]);
                    let y = custom_jvp("square", [&x], |[x]| (&x * &x, move |[t]: [Tensor; 1]| t * x * 7.0));
                    read(e, &[&unchecked(|| grad(&y.sum(..), &x))?.or_error()?])
                },
                &[7.0, 14.0],
            ),
            Fails(
                "is missing where a gradient is",
                |e| {
                    let x = Tensor::new(2.0);
                    let missing = || InputGradient::Missing("nobody has solved it".to_owned());
                    let y = custom_gradient("integral", [&x], |[x]| (x, |_: Tensor| missing()));
                    read(e, &[&jvp(&[&y], &[(&x, &Tensor::new(1.0))])?[0]])
                },
                Code::NoJvp,
                &["integral", "nobody has solved it"],
            ),
        ],
    },
];

fn text(error: Error) -> String {
    error.to_string()
}

/// The identity of `x` [3] with this gradient.
#[track_caller]
fn with<G: crate::common::Gradients>(gradient: impl FnOnce(Tensor) -> G) -> Tensor {
    custom_gradient("rule", [&Tensor::ones([3]).named("x")], |[x]| (x, gradient))
}

/// x² with this gradient.
fn square(x: &Tensor, gradient: impl FnOnce(Tensor, Tensor) -> Tensor) -> Tensor {
    custom_gradient("square", [x], |[x]| (&x * &x, move |g: Tensor| gradient(x, g)))
}

/// x² with a gradient of first order.
fn once(x: &Tensor) -> Tensor {
    CustomGradient::exact("once")
        .first_order_only()
        .apply([x], |[x]| (&x * &x, move |upstream: Tensor| upstream * x * 2.0))
}

/// The first finding of a check at [1, 2]. The function is told how often it has been called. Rules are checked on the
/// reference, for every evaluator alike.
fn check(function: impl Fn(usize, &Tensor) -> Tensor) -> Result<Vec<Array>, Error> {
    let calls = Cell::new(0);
    let counted = |[x]: [Tensor; 1]| {
        calls.set(calls.get() + 1);
        function(calls.get(), &x)
    };
    GradCheck::new().run(counted, [Tensor::new([1.0, 2.0])], &Reference::new())?.into_result().map(|_| vec![])
}

/// The error of a read inside of a rule, of something made of its argument and its cotangent.
fn reads(e: &Evaluator, of: fn(&Tensor, &Tensor) -> Tensor) -> Result<Vec<Array>, Error> {
    let mut seen = Ok(vec![]);
    let x = Tensor::new([1.0, 2.0]).named("x");
    let y = custom_gradient("looks", [&x], |[x]| {
        let seen = &mut seen;
        (x.clone(), move |g: Tensor| {
            *seen = e.evaluate(&[&of(&x, &g)]);
            g
        })
    });
    // The rule is not harmed.
    read(e, &[&grad(&y.sum(..), &x)?.or_error()?])?;
    seen
}

/// Σx with this forward function.
struct Total(fn(&Tensor) -> Tensor);

impl Rule for Total {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("total")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        (vec![self.0(&inputs[0])], inputs[0].clone())
    }
    fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        Some(vec![inputs[0].sum(..)])
    }
    fn vjp(&self, x: &Tensor, upstream: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
        Some(vec![upstream[0].broadcast_to(x.shape()).into()])
    }
}
