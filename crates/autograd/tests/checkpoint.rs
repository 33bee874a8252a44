//! Checkpoints: the numbers of the plain program at every order and in both modes, and everything inside computed once more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cotangent_autograd::{
    Checkpoint, GradCheck, State, batch, checkpoint, custom_gradient, explain, grad, gradcheck, hvp, jvp,
    straight_through, trace,
};
use cotangent_tensor::{
    Array, Code, DType, Evaluate, Key, Op, Reference, Tensor, expand, marks, topological, where_,
};

/// A program of parameters, of which the parts that `wrap` is given may be computed again.
type Program = fn(&[Tensor], &dyn Fn(&[&Tensor], &Part) -> Tensor) -> Tensor;
type Part<'a> = dyn Fn(&[Tensor]) -> Tensor + 'a;

fn plain(inputs: &[&Tensor], part: &Part) -> Tensor {
    part(&inputs.iter().map(|t| (*t).clone()).collect::<Vec<_>>())
}
fn again(inputs: &[&Tensor], part: &Part) -> Tensor {
    checkpoint(inputs, |inputs| part(&inputs))
}
fn products_kept(inputs: &[&Tensor], part: &Part) -> Tensor {
    Checkpoint::new("kept").keep_products().apply(inputs, |inputs| part(&inputs))
}

const PROGRAMS: &[(&str, Program)] = &[
    ("inputs only", |p, wrap| wrap(&[&p[0], &p[1]], &|x| x[0].matmul(&x[1]).tanh().exp())),
    ("captured", |p, wrap| wrap(&[&p[0]], &|x| x[0].matmul(&p[1]).tanh().matmul(&p[1].transpose()))),
    ("nothing but captured", |p, wrap| wrap(&[], &|_| p[0].matmul(&p[1]).tanh())),
    ("the same input twice", |p, wrap| wrap(&[&p[0], &p[0]], &|x| x[0].exp() * x[1].sin())),
    ("an input that is handed through", |p, wrap| wrap(&[&p[0]], &|x| x[0].clone()) * &p[0]),
    ("a chain", |p, wrap| {
        let layer = |x: &Tensor| x.matmul(&p[1]).matmul(&p[1].transpose()).tanh();
        let block = |x: &Tensor| wrap(&[x], &|x| layer(&layer(&x[0])));
        block(&block(&block(&p[0])))
    }),
    ("nested", |p, wrap| {
        let layer = |x: &Tensor| wrap(&[x], &|x| x[0].matmul(&p[1]).tanh().matmul(&p[1].transpose()));
        wrap(&[&p[0]], &|x| layer(&layer(&x[0])).sin()) * 0.5
    }),
    ("a branch", |p, wrap| {
        let root = |x: &[Tensor]| where_(&x[0].gt(0.0), x[0].sqrt() * &p[2], x[0].sin());
        wrap(&[&p[0]], &root).matmul(&p[1])
    }),
    ("behind a branch", |p, wrap| {
        // Where the condition fails the part is not finite, and must not be seen.
        let root =
            wrap(&[&p[0]], &|x| x[0].log().matmul(&(&p[1] * 0.0 + 1.0)) + x[0].log().sum(1).unsqueeze(1));
        where_(&root.gt(0.0), &root, 0.25).sum(1) + p[1].sum(0).sum(..)
    }),
    ("a rule inside", |p, wrap| {
        let triple = |x: &Tensor| {
            custom_gradient("cube", [x], |[x]| (&x * &x * &x, move |g: Tensor| [g * &x * &x * 3.0]))
        };
        wrap(&[&p[0]], &|x| triple(&x[0].sin()).matmul(&p[1])).exp()
    }),
    ("inside of a rule", |p, wrap| {
        custom_gradient("outer", [&p[0], &p[1]], |[a, b]| {
            let product = wrap(&[&a], &|x| x[0].tanh().matmul(&b));
            let slope = a.tanh();
            (product, move |g: Tensor| {
                [g.matmul(&b.transpose()) * (1.0 - &slope * &slope), slope.transpose().matmul(&g)]
            })
        })
    }),
    ("several outputs", |p, _| p[0].sin() * p[0].exp().sum(1).unsqueeze(1)),
    ("half precision", |p, wrap| {
        wrap(&[&p[0]], &|x| (x[0].cast(DType::F16) * 2.0).tanh().cast(DType::F32)).matmul(&p[1])
    }),
    ("a mask of random numbers", |p, wrap| {
        wrap(&[&p[0]], &|x| {
            let kept = Tensor::uniform(Key::new(3), 1u32, x[0].shape()).lt(0.5);
            where_(&kept, x[0].exp(), 0.0).matmul(&p[1])
        })
    }),
];

fn parameters() -> Vec<Tensor> {
    let wave = |n: usize, phase: f64| (0..n).map(|i| ((i as f64 + phase) * 1.7).sin()).collect::<Vec<f64>>();
    let make =
        |shape: [usize; 2], phase| Tensor::new(Array::new(wave(shape[0] * shape[1], phase), shape).unwrap());
    vec![make([4, 3], 0.4), make([3, 2], 2.2), make([4, 3], 5.1)]
}

/// Values bit for bit.
type Bits = (Vec<usize>, Vec<u64>);

fn evaluated(tensors: &[&Tensor]) -> Vec<Bits> {
    let bits = |array: &Array| (array.shape().to_vec(), array.to_f64().iter().map(|v| v.to_bits()).collect());
    Reference::new().evaluate(tensors).unwrap().iter().map(bits).collect()
}

/// Whether two results differ by no more than roundings.
fn close(a: &Bits, b: &Bits) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-13 * (1.0 + a.abs()) || a.to_bits() == b.to_bits();
    a.0 == b.0 && a.1.iter().zip(&b.1).all(|(a, b)| near(f64::from_bits(*a), f64::from_bits(*b)))
}

/// Value, gradients, second derivatives and forward mode of a program.
fn everything(program: Program, wrap: &dyn Fn(&[&Tensor], &Part) -> Tensor) -> Vec<Bits> {
    let points = parameters();
    let y = program(&points, wrap);
    let weights = Tensor::iota(y.shape(), 0).cast(DType::F32).cos();
    let loss = (&y * &weights).sum(..);
    let gradients: Vec<Tensor> = grad(&loss, &points).unwrap().iter().map(|g| g.or_zero()).collect();
    let along = |t: &Tensor| Tensor::iota(t.shape(), 0).cast(DType::F32).sin() + 0.3;
    let slope = gradients.iter().map(|g| (g * along(g)).sum(..)).reduce(|a, b| a + b).unwrap();
    let second: Vec<Tensor> = grad(&slope, &points).unwrap().iter().map(|g| g.or_zero()).collect();
    let curve = second.iter().map(|g| (g * along(g)).sum(..)).reduce(|a, b| a + b).unwrap();
    let third: Vec<Tensor> = grad(&curve, &points).unwrap().iter().map(|g| g.or_zero()).collect();
    let directions: Vec<Tensor> = points.iter().map(along).collect();
    let moved: Vec<(&Tensor, &Tensor)> = points.iter().zip(&directions).collect();
    let pushed = jvp(&[&y], &moved).unwrap();
    let product = hvp(&loss, &points, &directions).unwrap();
    // Reverse over forward.
    let tangent = (&pushed[0] * &weights).sum(..);
    let mixed: Vec<Tensor> = grad(&tangent, &points).unwrap().iter().map(|g| g.or_zero()).collect();
    let all: Vec<&Tensor> = std::iter::once(&y)
        .chain(&gradients)
        .chain(&second)
        .chain(&third)
        .chain(&pushed)
        .chain(&product)
        .chain(&mixed)
        .collect();
    evaluated(&all)
}

#[test]
fn every_derivative_is_that_of_the_plain_program() {
    for (name, program) in PROGRAMS {
        let expected = everything(*program, &plain);
        for (how, wrap) in
            [("again", &again as &dyn Fn(&[&Tensor], &Part) -> Tensor), ("kept", &products_kept)]
        {
            let got = everything(*program, wrap);
            for (position, (got, expected)) in got.iter().zip(&expected).enumerate() {
                // What a tensor receives through several uses may be added in another order.
                assert!(close(got, expected), "{name}, {how}, number {position}: {got:?} {expected:?}");
                if position == 0 {
                    assert_eq!(got, expected, "{name}, {how}");
                }
            }
        }
    }
}

#[test]
fn several_outputs_of_which_some_are_used() {
    let x = Tensor::new([0.3, -0.7, 1.1]);
    let [a, b, c] = checkpoint([&x], |[x]| [x.sin(), x.exp(), x.round()]);
    let of = |t: &Tensor| grad(&(t * t).sum(..), &x).unwrap();
    let plain = |t: Tensor| grad(&(&t * &t).sum(..), &x).unwrap();
    let pairs =
        [(of(&a), plain(x.sin())), (of(&b), plain(x.exp())), (of(&(a * b)), plain(x.sin() * x.exp()))];
    for (got, expected) in &pairs {
        let values = evaluated(&[got.value().unwrap(), expected.value().unwrap()]);
        assert_eq!(values[0], values[1]);
    }
    assert!(matches!(of(&c).state(), State::Zero), "{:?}", of(&c).state());
}

#[test]
fn states_are_those_of_the_plain_program() {
    let (x, w, i) = (Tensor::new([0.5, 1.5]), Tensor::new([2.0, 1.0]), Tensor::new([1, 0]));
    let states = |y: &Tensor| -> Vec<String> {
        let gradients = grad(&y.sum(..), [&x, &w]).unwrap();
        gradients.iter().map(|g| format!("{:?}", g.state().name())).collect()
    };
    let parts: [fn(&Tensor, &Tensor, &Tensor) -> Tensor; 6] = [
        |x, _, _| x.sin(),
        |x, w, _| x.detach() * w,
        |x, w, _| x.round() + w,
        |x, w, _| x.cast(DType::I32).cast(DType::F32) * w,
        |x, w, i| x.gather(0, i) * w.sign(),
        |x, w, _| where_(&x.gt(1.0), 1.0, w),
    ];
    for (number, part) in parts.iter().enumerate() {
        let wrapped = checkpoint([&x, &w, &i], |[x, w, i]| part(&x, &w, &i));
        assert_eq!(states(&wrapped), states(&part(&x, &w, &i)), "part {number}");
        let captured = checkpoint([&x], |[x]| part(&x, &w, &i));
        assert_eq!(states(&captured), states(&part(&x, &w, &i)), "part {number}, captured");
    }
}

#[test]
fn a_function_without_gradient_inside_is_the_same_error() {
    let x = Tensor::new([0.5, 1.5]);
    let inside = |x: &Tensor| cotangent_autograd::custom_function("table", [x], |[x]| x.floor());
    let plain = grad(&inside(&x).sum(..), &x).unwrap();
    let wrapped = grad(&checkpoint([&x], |[x]| inside(&x)).sum(..), &x).unwrap();
    let text = |g: &cotangent_autograd::Gradient| g.or_error().unwrap_err().message().to_owned();
    assert_eq!(text(&wrapped), text(&plain));
    assert!(text(&wrapped).contains("table"));
}

#[test]
fn outputs_do_not_share_what_they_lack() {
    let (x, w) = (Tensor::new([0.5, 1.5]), Tensor::new([2.0, 1.0]));
    let pair = |wrap: bool| -> [Tensor; 2] {
        let part = |x: &Tensor, w: &Tensor| [x.sin(), w.exp()];
        if wrap { checkpoint([&x, &w], |[x, w]| part(&x, &w)) } else { part(&x, &w) }
    };
    let table = |x: &Tensor| cotangent_autograd::custom_function("table", [x], |[x]| x.floor());
    let cuts: [&dyn Fn(&Tensor) -> Tensor; 3] = [&table, &Tensor::round, &Tensor::detach];
    for (number, cut) in cuts.iter().enumerate() {
        let states = |wrap: bool| {
            let [a, b] = pair(wrap);
            let of = |loss: Tensor| grad(&loss, &w).unwrap().state().name();
            (of(cut(&a).sum(..) + b.sum(..)), of(cut(&a).sum(..)))
        };
        assert_eq!(states(true), states(false), "cut {number}");
    }
    // Forward mode asks for one output only.
    let part = |x: &Tensor, w: &Tensor| [x.sin() * table(w), w.exp()];
    let [_, b] = checkpoint([&x, &w], |[x, w]| part(&x, &w));
    assert!(jvp(&[&b], &[(&w, &Tensor::ones([2]))]).is_ok());
}

#[test]
fn an_output_without_elements_is_waited_for_by_nobody() {
    let x = Tensor::new([0.5, 1.5]);
    let part = |x: &Tensor| [(x.exp() * x.exp()).sin(), x.slice(0, 0, 0, 1).exp()];
    let slope = |[a, b]: [Tensor; 2]| grad(&(a.exp().sum(..) + (&b * &b).sum(..)), &x).unwrap().or_zero();
    let (again, plain) = (slope(checkpoint([&x], |[x]| part(&x))), slope(part(&x)));
    let values = evaluated(&[&again, &plain]);
    assert_eq!(values[0], values[1]);
}

#[test]
fn any_float_that_is_captured_may_be_asked_for() {
    let x = Tensor::new([1.0, 2.0]);
    let scalar = Tensor::new(0.5);
    let made: [Tensor; 4] = [
        scalar.exp(),
        scalar.broadcast_to([2]),
        Tensor::full([2], 3.0),
        (&scalar * 2.0).exp().broadcast_to([2]) * 0.5,
    ];
    for (number, m) in made.iter().enumerate() {
        let part = |x: &Tensor| x.sin() * m.broadcast_to([2]);
        let all = |y: Tensor| {
            let loss = (&y * &y).sum(..) + m.sum(..);
            let pushed = jvp(&[&loss], &[(m, &Tensor::ones(*m.shape()))]).unwrap().remove(0);
            evaluated(&[
                &grad(&loss, m).unwrap().or_zero(),
                &grad(&loss, &scalar).unwrap().or_zero(),
                &pushed,
            ])
        };
        let (again, plain) = (all(checkpoint([&x], |[x]| part(&x))), all(part(&x)));
        assert!(again.iter().zip(&plain).all(|(a, b)| close(a, b)), "captured {number}: {again:?} {plain:?}");
    }
    // Floats of a random mask are computed again inside: that is said, not lost.
    let noise = Tensor::uniform(Key::new(1), 2u32, [2]);
    let loss = checkpoint([&x], |[x]| x * &noise).sum(..) + noise.sum(..);
    assert_eq!(grad(&loss, &noise).unwrap_err().code(), Code::RuleCapture);
    assert_eq!(jvp(&[&loss], &[(&noise, &Tensor::ones([2]))]).unwrap_err().code(), Code::RuleCapture);
}

#[test]
fn a_rule_inside_captures_nothing_in_silence() {
    let (x, w) = (Tensor::new([1.0, 2.0]), Tensor::new([3.0, 4.0]));
    let rule = |x: &Tensor| custom_gradient("scaled", [x], |[a]| (&a * &w, move |g: Tensor| [g * 2.0]));
    let y = checkpoint([&x], |[x]| rule(&x) + &w);
    let error = grad(&y.sum(..), &w).unwrap_err();
    assert!(error.code() == Code::RuleCapture && error.to_string().contains("\"scaled\""), "{error}");
    assert_eq!(jvp(&[&y], &[(&w, &Tensor::ones([2]))]).unwrap_err().code(), Code::RuleCapture);
}

#[test]
fn forward_mode_refuses_what_it_refuses_in_plain_code() {
    let x = Tensor::new([1.3, 2.4]);
    let t = Tensor::ones([2]);
    let through = |x: &Tensor| x.cast(DType::I32).cast(DType::F32);
    let code = |y: &Tensor| jvp(&[y], &[(&x, &t)]).unwrap_err().code();
    assert_eq!(code(&through(&x)), Code::NotDifferentiable);
    assert_eq!(code(&checkpoint([&x], |[x]| through(&x))), Code::NotDifferentiable);
    assert_eq!(
        code(&checkpoint([&x.cast(DType::I32)], |[i]| i.cast(DType::F32) * 2.0)),
        Code::NotDifferentiable
    );
    // A pullback that is itself a checkpoint stays linear in its cotangent.
    let y = custom_gradient("sine", [&x], |[x]| {
        (x.sin(), move |g: Tensor| [checkpoint([&g], |[g]| g * x.cos())])
    });
    assert!(jvp(&[&y], &[(&x, &t)]).is_ok());
}

#[test]
fn nodes_know_of_how_many_derivatives_they_are() {
    let x = Tensor::new([0.3, 0.4]);
    let y = (0..20).fold(x.clone(), |y, _| checkpoint([&y], |[y]| y.sin() * 1.1));
    let first = grad(&y.sum(..), &x).unwrap().or_zero();
    let second = grad(&first.sum(..), &x).unwrap().or_zero();
    let highest = |t: &Tensor| {
        let roots = expand(vec![t.node().unwrap().clone()]).roots;
        topological(&roots).iter().map(|node| node.origin.order).max().unwrap()
    };
    assert_eq!((highest(&y), highest(&first), highest(&second)), (0, 1, 2));
}

#[test]
fn long_chains_take_linear_time() {
    let time = |count: usize| {
        let x = Tensor::new(0.3);
        let y = (0..count).fold(x.clone(), |y, _| checkpoint([&y], |[y]| (0..10).fold(y, |y, _| y.sin())));
        let started = std::time::Instant::now();
        assert!(grad(&y, &x).unwrap().value().is_some());
        started.elapsed().as_secs_f64()
    };
    // The best of some, since others use the processor too.
    let best = |count| (0..3).map(|_| time(count)).fold(f64::INFINITY, f64::min);
    let (short, long) = (best(400).max(0.01), best(3200));
    assert!(long < 30.0 * short, "{short} s, {long} s");
}

#[test]
fn batches_share_what_they_capture() {
    let examples = Tensor::new([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]]);
    let w = Tensor::new([[0.2, 0.7], [-0.3, 0.1]]);
    let loss = |x: &Tensor, wrap: bool| {
        let part = |x: &Tensor| x.unsqueeze(0).matmul(&w).tanh().matmul(&w).squeeze(0);
        let y = if wrap { checkpoint([x], |[x]| part(&x)) } else { part(x) };
        (&y * &y).sum(..)
    };
    let all = |wrap: bool| {
        // A gradient inside of a batch, and one of a batch.
        let slopes = batch([&examples], |[x]| grad(&loss(&x, wrap), &x).unwrap().or_zero());
        let losses = batch([&examples], |[x]| loss(&x, wrap));
        let total = grad(&losses.sum(..), &w).unwrap().or_zero();
        let of_slopes = grad(&(&slopes * &slopes).sum(..), &w).unwrap().or_zero();
        evaluated(&[&slopes, &losses, &total, &of_slopes])
    };
    assert_eq!(all(true), all(false));
}

#[test]
fn what_is_not_batched_stays_shared() {
    // The weights wait for cotangents that every example has of its own, and must not be repeated for each.
    let examples = Tensor::ones([5, 2]);
    let w = Tensor::new([[0.2, 0.7], [-0.3, 0.1]]);
    let slopes = batch([&examples], |[x]| {
        let y = checkpoint([&x], |[x]| x.unsqueeze(0).matmul(&w).tanh());
        grad(&(&y * &y).sum(..), &x).unwrap().or_zero()
    });
    let roots = expand(vec![slopes.node().unwrap().clone()]).roots;
    let late = topological(&roots).into_iter().filter(|node| matches!(node.op, Op::After));
    let of_weights: Vec<_> = late.filter(|node| node.sources()[0].shape == *w.shape()).collect();
    assert!(!of_weights.is_empty());
    assert!(of_weights.iter().all(|node| node.shape == *w.shape()));
}

#[test]
fn gradcheck_looks_inside() {
    let (x, w) = (Tensor::new([0.3, -0.6]), Tensor::new([1.2, 0.4]));
    let right = gradcheck(|[x, w]| checkpoint([&x], |[a]| a.tanh() * &w), [&x, &w], &Reference::new());
    right.unwrap().into_result().map(drop).unwrap();
    let sine = |x: &Tensor| custom_gradient("sine", [x], |[a]| (a.sin(), move |g: Tensor| [g * a.sin()]));
    let inside = |[x]: [Tensor; 1]| checkpoint([&x], |[a]| sine(&a));
    let error = gradcheck(inside, [&x], &Reference::new()).unwrap().into_result().unwrap_err();
    assert!(error.to_string().contains("custom gradient \"sine\""), "{error}");
    // What is cut or declared inside counts as in plain code.
    let cut = gradcheck(|[x]| checkpoint([&x], |[x]| x.detach() * &x), [&x], &Reference::new());
    cut.unwrap().into_result().map(drop).unwrap();
    let floor = |[x]: [Tensor; 1]| checkpoint([&x], |[x]| straight_through(&x.floor(), &x) * &x);
    let report = GradCheck::new().order(2).run(floor, [&x], &Reference::new()).unwrap();
    assert_eq!(report.surrogates.len(), 1);
    report.into_result().map(drop).unwrap();
}

#[test]
fn explanations_and_traces_see_the_inside() {
    let w = Tensor::new([0.4, 1.6]).named("w");
    let loss = checkpoint([&w], |[w]| w.round().named("steps") * 2.0).sum(..);
    let text = explain(&loss, &w).unwrap().to_string();
    assert!(text.contains("`w` → `steps`"), "{text}");
    assert!(text.contains("straight_through"), "{text}");
    let y = checkpoint([&w], |[w]| w.exp()).named("y");
    let table = trace(&(&y * &y).sum(..), &[&y, &w], &Reference::new()).unwrap().to_string();
    assert!(table.contains('y') && table.contains('w'), "{table}");
}

#[test]
fn what_is_marked_inside_appears_once() {
    let x = Tensor::new([0.3, 0.4]);
    let square = |x: &Tensor| {
        custom_gradient("square", [x], |[x]| (x.inspect("in a rule") * &x, move |g: Tensor| [g * x * 2.0]))
    };
    let part = |x: &Tensor| square(&x.exp().inspect("outside of it"));
    let y = checkpoint([&x], |[x]| part(&(part(&x) * 0.1)));
    let dx = grad(&(&y * &y).sum(..), &x).unwrap().or_zero();
    let marks = |tensors: &[&Tensor]| {
        let mut labels: Vec<String> = marks(tensors).unwrap().iter().map(|m| m.label.to_string()).collect();
        labels.sort();
        labels
    };
    let twice = ["in a rule", "in a rule", "outside of it", "outside of it"];
    assert_eq!(marks(&[&y]), twice);
    assert_eq!(marks(&[&y, &dx]), twice);
}

#[test]
fn mistakes_are_named() {
    let x = Tensor::new([1.0, 2.0]);
    let code = |y: Tensor| y.error().map(|e| (e.code(), e.to_string())).unwrap();
    let (panic, text) = code(checkpoint([&x], |_| -> Tensor { panic!("no idea") }));
    assert_eq!(panic, Code::UserPanic);
    assert!(text.contains("checkpoint \"checkpoint\"") && text.contains("no idea"), "{text}");
    let (broadcast, text) = code(checkpoint([&x], |[x]| x + Tensor::ones([3])));
    assert_eq!(broadcast, Code::Broadcast);
    assert!(text.contains("in rule `checkpoint`, applied at"), "{text}");
    let (name, text) = code(Checkpoint::new("block").keep_named(["hidden"]).apply([&x], |[x]| x.exp()));
    assert_eq!(name, Code::Hyperparameter);
    assert!(text.contains("`hidden`") && text.contains(".named(\"hidden\")"), "{text}");
    let invalid = Tensor::ones([2]) + Tensor::ones([3]);
    assert_eq!(code(checkpoint([&invalid], |[x]| x.exp())).0, Code::Broadcast);
}

#[test]
fn names_are_kept() {
    let (x, w) = (Tensor::new([0.3, 0.4]), Tensor::new([0.5, -0.5]));
    let policy = Checkpoint::new("block").keep_named(["hidden"]);
    let part = |x: &Tensor| ((x * &w).exp().named("hidden") * x).tanh();
    let outputs = |y: Tensor| {
        let [dx, dw] = grad(&(&y * &y).sum(..), [&x, &w]).unwrap();
        let second = grad(&(dx.or_zero() * dw.or_zero()).sum(..), &x).unwrap().or_zero();
        evaluated(&[&y, &dx.or_zero(), &dw.or_zero(), &second])
    };
    let (got, expected) = (outputs(policy.apply([&x], |[x]| part(&x))), outputs(part(&x)));
    assert_eq!(got[..3], expected[..3]);
    assert!(close(&got[3], &expected[3]));
}

#[test]
fn deep_chains_and_deep_nests_are_differentiated() {
    let x = Tensor::new(0.3);
    let chain = (0..2000).fold(x.clone(), |y, _| checkpoint([&y], |[y]| y.sin()));
    assert!(grad(&chain, &x).unwrap().value().is_some());
    fn nest(x: &Tensor, depth: usize) -> Tensor {
        if depth == 0 { x.sin() } else { checkpoint([x], |[x]| nest(&x, depth - 1) * 0.9) }
    }
    assert!(grad(&nest(&x, 60), &x).unwrap().value().is_some());
}
