//! What a batched function keeps: rules, what it captures, random streams, names and lines. And what it
//! refuses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use cotangent_autograd::check::unchecked;
use cotangent_autograd::{
    CustomGradient, InputGradient, Rule, State, Upstream, batch, batch_jacobian, custom_function,
    custom_gradient, custom_jvp, grad, jvp, map_cotangent, per_sample_gradients, surrogate_gradient,
};
use cotangent_tensor::{
    Code, DType, Error, Evaluate, Key, MAX_RANK, Node, Op, Reference, RuleKind, Shape, Tensor, topological,
};
use support::{Noise, assert_digits, gradient, values};

fn forty_two(x: &Tensor) -> Tensor {
    surrogate_gradient("forty_two", "a test", [x], |[x]| (x.exp(), move |g: Tensor| g * 42.0))
}

fn count(tensor: &Tensor, wanted: impl Fn(&Arc<Node>) -> bool) -> usize {
    topological([tensor.node().unwrap()]).iter().filter(|node| wanted(node)).count()
}

fn row(tensor: &Tensor, at: usize) -> Tensor {
    let rest: Vec<isize> = tensor.shape()[1..].iter().map(|&d| d as isize).collect();
    tensor.slice(0, at, at + 1, 1).reshape(rest)
}

#[test]
fn t34_batching_keeps_the_rule() {
    let x = Tensor::new([1.0, 0.5, -2.0]);
    let y = batch([&x], |[x]| forty_two(&x));
    assert_eq!(values(&y), values(&x.exp()));
    assert_digits(&gradient(&grad(&y.sum(..), &x).unwrap()), &[42.0; 3]);
    let inside = batch([&x], |[x]| grad(&forty_two(&x), &x).unwrap().or_zero());
    assert_digits(&values(&inside), &[42.0; 3]);
    assert_digits(&values(&batch_jacobian(&x, |x| forty_two(&x)).unwrap()), &[42.0; 3]);
    let Op::Rule(rule) = &y.node().unwrap().operands[0].op else { panic!("a rule was applied") };
    assert_eq!((&rule.name[..], &rule.kind), ("forty_two", &RuleKind::Surrogate("a test".into())));
    // Twice, and in forward mode.
    let table = Tensor::new([[1.0, 0.5], [0.0, 3.0]]);
    let twice = batch([&table], |[row]| batch([&row], |[x]| forty_two(&x)));
    assert_digits(&gradient(&grad(&twice.sum(..), &table).unwrap()), &[42.0; 4]);
    assert_digits(&values(&jvp(&[&y], &[(&x, &Tensor::ones([3]))]).unwrap()[0]), &[42.0; 3]);
}

/// `x · w`, with gradients scaled to norm 1: not linear in their cotangent.
fn clipped(x: &Tensor, w: &Tensor) -> Tensor {
    surrogate_gradient("clipped", "a test", [x, w], |[x, w]| {
        let y = (&x * &w).sum(..);
        let unit = |t: Tensor| &t / t.norm(..);
        (y, move |g: Tensor| [unit(&g * &w), unit(&g * &x)])
    })
}

#[test]
fn a_shared_operand_receives_the_sum_of_what_the_rule_gives_each_example() {
    let mut noise = Noise(3);
    let (x, w) = (Tensor::new(noise.array(&[4, 3], -1.0, 1.0)), Tensor::new(noise.array(&[3], -1.0, 1.0)));
    let upstream = Tensor::new([1.0, -2.0, 0.5, 3.0]);
    let loss = (batch([&x], |[x]| clipped(&x, &w)) * &upstream).sum(..);
    let each = (0..4).map(|i| clipped(&row(&x, i), &w) * row(&upstream, i)).reduce(|a, b| a + b).unwrap();
    let [dx, dw] = grad(&loss, [&x, &w]).unwrap();
    let [ex, ew] = grad(&each, [&x, &w]).unwrap();
    assert_digits(&gradient(&dx), &gradient(&ex));
    assert_digits(&gradient(&dw), &gradient(&ew));
    // Second order, through the sum.
    let slope = |dx: &Tensor, dw: &Tensor| (dx * dx).sum(..) + (dw * dw).sum(..) * 2.0;
    let batched = slope(&dx.or_zero(), &dw.or_zero());
    let stacked = slope(&ex.or_zero(), &ew.or_zero());
    for (got, expected) in grad(&batched, [&x, &w]).unwrap().iter().zip(grad(&stacked, [&x, &w]).unwrap()) {
        let (got, expected) = (gradient(got), gradient(&expected));
        assert!(got.iter().zip(&expected).all(|(a, b)| support::same(*a, *b, 8.0)), "{got:?} {expected:?}");
    }
    // All pairs: shared along the inner axis, an example of the outer one.
    let table = Tensor::new(noise.array(&[2, 3], -1.0, 1.0));
    let pairs = batch([&table], |[w]| batch([&x], |[x]| clipped(&x, &w))) * &upstream;
    let each = (0..8).map(|i| clipped(&row(&x, i % 4), &row(&table, i / 4)) * row(&upstream, i % 4));
    let each = each.reduce(|a, b| a + b).unwrap();
    for (got, expected) in
        grad(&pairs.sum(..), [&x, &table]).unwrap().iter().zip(grad(&each, [&x, &table]).unwrap())
    {
        assert_digits(&gradient(got), &gradient(&expected));
    }
    // The other way round: the examples are on the right.
    let loss = (batch([&x], |[x]| clipped(&w, &x)) * &upstream).sum(..);
    assert_digits(&gradient(&grad(&loss, &w).unwrap()), &gradient(&ew));
}

#[test]
fn a_rule_that_no_example_enters_is_applied_once_to_the_sum() {
    let (x, w) = (Tensor::new([1.0, 2.0, -0.5]), Tensor::new(3.0));
    let limited = |w: &Tensor| map_cotangent(w, |g| g.clamp(-1.5, 1.5));
    let shared = batch([&x], |[x]| x * limited(&w)).sum(..);
    assert_digits(&gradient(&grad(&shared, &w).unwrap()), &[1.5]);
    let entered = batch([&x], |[x]| limited(&(x * &w))).sum(..);
    assert_digits(&gradient(&grad(&(entered * 2.0), &w).unwrap()), &[1.5 * 2.5]);
}

#[test]
fn a_shared_half_precision_operand_receives_half_precision() {
    let (x, w) = (Tensor::new([1.0, 2.0, 4.0]), Tensor::new(3.0).cast(DType::F16));
    let y = batch([&x], |[x]| {
        custom_gradient("product", [&x, &w], |[x, w]| {
            let (a, b) = (x.clone(), w.cast(DType::F32));
            (&a * &b, move |g: Tensor| [&g * &b, (&g * &a).cast(DType::F16)])
        })
    });
    let dw = grad(&y.sum(..), &w).unwrap().or_error().unwrap();
    assert_eq!((dw.dtype(), values(&dw)), (DType::F16, vec![7.0]));
}

#[test]
fn rules_in_rules_with_several_outputs_and_constant_gradients_agree_with_examples() {
    let function = |x: &Tensor, w: &Tensor| {
        let (a, b) = custom_gradient("outer", [x, w], |[x, w]| {
            let inner = |x: &Tensor| {
                surrogate_gradient("inner", "a test", [x], |[x]| {
                    (x.sin(), move |g: Tensor| x.cos() * 2.0 * g)
                })
            };
            // The second output depends on nothing that an example could change.
            let (a, b) = (inner(&x) * &w, w.exp());
            let again = inner(&x);
            ((a, b.clone()), move |(u, v): (Tensor, Tensor)| [Some(&u * &w * &again), Some(v * &b)])
        });
        let constant = CustomGradient::surrogate("constant", "a test")
            .apply([&a, w], |[a, _]| (a.sum(..), |_: Tensor| [Tensor::ones([2]), Tensor::full([2], 5.0)]));
        constant * b.sum(..)
    };
    let mut noise = Noise(5);
    let (x, w) = (Tensor::new(noise.array(&[3, 2], -1.0, 1.0)), Tensor::new(noise.array(&[2], -1.0, 1.0)));
    let batched = batch([&x], |[x]| function(&x, &w)).sum(..);
    let each = (0..3).map(|i| function(&row(&x, i), &w)).reduce(|a, b| a + b).unwrap();
    assert_digits(&values(&batched), &values(&each));
    // The gradient of `outer` is what the test needs, and not the derivative.
    let slopes = |y: &Tensor| unchecked(|| grad(y, [&x, &w])).unwrap();
    for (got, expected) in slopes(&batched).iter().zip(slopes(&each)) {
        assert_digits(&gradient(got), &gradient(&expected));
    }
    let names: Vec<String> = topological([batched.node().unwrap()])
        .iter()
        .filter_map(|node| if let Op::Rule(rule) = &node.op { Some(rule.name.clone()) } else { None })
        .collect();
    assert_eq!(names, ["outer", "constant"]);
}

/// `(x · w, Σ w)` as an object with both modes, that knows which cotangents are missing.
struct Product;

impl Rule for Product {
    type Saved = (Tensor, Tensor);
    fn declare(&self) -> CustomGradient {
        CustomGradient::surrogate("product", "a test")
    }
    fn forward(&self, x: &[Tensor]) -> (Vec<Tensor>, (Tensor, Tensor)) {
        (vec![(&x[0] * &x[1]).sum(..), x[1].sum(..)], (x[0].clone(), x[1].clone()))
    }
    fn plain(&self, x: &[Tensor]) -> Option<Vec<Tensor>> {
        Some(vec![x[0].matmul(&x[1]), x[1].sum(..)])
    }
    fn vjp(
        &self,
        (x, w): &Self::Saved,
        upstream: &Upstream,
        _: &[bool],
    ) -> Option<Vec<InputGradient<Tensor>>> {
        // Where nothing but the product is used its gradient is doubled, to be told apart.
        let scale = if upstream.get(1).is_some() { 1.0 } else { 2.0 };
        let dw = &upstream[0] * x * scale + upstream[1].broadcast_to(*w.shape());
        Some(vec![(&upstream[0] * w * scale).into(), dw.into()])
    }
    fn jvp(&self, (x, w): &Self::Saved, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        let [Some(dx), Some(dw)] = tangents else { return None };
        // Three times the derivative, to be told apart.
        Some(vec![Some((x * dw + dx * w).sum(..) * 3.0), Some(dw.sum(..) * 3.0)])
    }
    fn sees_missing(&self) -> bool {
        true
    }
}

#[test]
fn every_part_of_a_rule_is_batched() {
    let mut noise = Noise(7);
    let (x, w) = (Tensor::new(noise.array(&[3, 2], -1.0, 1.0)), Tensor::new(noise.array(&[2], -1.0, 1.0)));
    let (dx, dw) = (Tensor::new(noise.array(&[3, 2], -1.0, 1.0)), Tensor::new(noise.array(&[2], -1.0, 1.0)));
    let both = |x: &Tensor, w: &Tensor| Product.apply(&[x, w]).into_iter().reduce(|a, b| a * b).unwrap();
    let first = |x: &Tensor, w: &Tensor| Product.apply(&[x, w]).remove(0).sin();
    let swapped = |x: &Tensor, w: &Tensor| Product.apply(&[w, x]).remove(0).sin();
    for function in [&both as &dyn Fn(&Tensor, &Tensor) -> Tensor, &first, &swapped] {
        let all = batch([&x], |[x]| function(&x, &w));
        let each: Vec<Tensor> = (0..3).map(|i| function(&row(&x, i), &w)).collect();
        let sum = each.iter().cloned().reduce(|a, b| a + b).unwrap();
        for (got, expected) in grad(&all.sum(..), [&x, &w]).unwrap().iter().zip(grad(&sum, [&x, &w]).unwrap())
        {
            assert_digits(&gradient(got), &gradient(&expected));
        }
        for moves in [vec![(&x, &dx), (&w, &dw)], vec![(&x, &dx)], vec![(&w, &dw)]] {
            let pushed = values(&jvp(&[&all], &moves).unwrap()[0]);
            let each = jvp(&each.iter().collect::<Vec<_>>(), &moves).unwrap();
            assert_digits(&pushed, &each.iter().flat_map(values).collect::<Vec<_>>());
        }
        let order = topological([all.node().unwrap()]);
        let rules = order.iter().filter_map(|n| if let Op::Rule(rule) = &n.op { Some(rule) } else { None });
        for rule in rules {
            let plain = rule.plain.as_ref().unwrap();
            assert!(plain.iter().zip(&rule.outputs).all(|(a, b)| a.shape == b.shape && b.shape[..] == [3]));
            assert_eq!(rule.pullbacks.len(), 3);
        }
    }
}

#[test]
fn what_a_rule_passes_instead_of_a_gradient_is_kept() {
    let (x, w) = (Tensor::new([1.0, 2.0]), Tensor::new(3.0));
    let with = |given: InputGradient<Tensor>| {
        let y = batch([&x], |[x]| {
            custom_gradient("gives", [&x, &w], |[x, w]| (&x * &w, move |g: Tensor| [(g * w).into(), given]))
        });
        unchecked(|| grad(&y.sum(..), &w)).unwrap()
    };
    assert!(matches!(with(InputGradient::Zero).state(), State::Zero));
    assert!(matches!(with(InputGradient::Nothing).state(), State::Stopped { .. }));
    let missing = with(InputGradient::Missing("nobody knows".into())).or_error().unwrap_err();
    assert!(missing.message().contains("nobody knows"), "{missing}");
    let declared = CustomGradient::exact("declares").without_derivative(0);
    let y = batch([&x], |[x]| declared.clone().apply([&x], |[x]| (x.exp(), |g: Tensor| g)));
    assert!(matches!(grad(&y.sum(..), &x).unwrap().state(), State::NotDifferentiable { .. }));
    // A function with a forward mode alone.
    let pushed = |x: &Tensor| custom_jvp("triple", [x], |[x]| (&x * &w, |[t]: [Tensor; 1]| t * 3.0));
    let y = batch([&x], |[x]| pushed(&x));
    assert_digits(&values(&jvp(&[&y], &[(&x, &Tensor::ones([2]))]).unwrap()[0]), &[3.0, 3.0]);
    assert_digits(&gradient(&grad(&y.sum(..), &x).unwrap()), &[3.0, 3.0]);
}

#[test]
fn what_a_rule_says_about_gradients_is_said_of_batches() {
    let x = Tensor::new([1.0, 2.0]);
    let of = |f: &dyn Fn(&Tensor) -> Tensor| grad(&batch([&x], |[x]| f(&x)).sum(..), &x);
    let none = of(&|x| custom_function("opaque", [x], |[x]| x.exp())).unwrap();
    assert!(matches!(none.state(), State::NotDifferentiable { op } if op == "opaque"));
    let cut = CustomGradient::exact("cut").passing_nothing();
    let stopped = of(&|x| cut.clone().apply([x], |[x]| (x, |_: Tensor| None::<Tensor>))).unwrap();
    assert!(matches!(stopped.state(), State::Stopped { by } if by == "cut"));
    let once = CustomGradient::exact("once").first_order_only();
    let first = of(&|x| once.clone().apply([x], |[x]| (&x * &x, move |g: Tensor| g * x * 2.0))).unwrap();
    let first = first.or_error().unwrap();
    assert_digits(&values(&first), &[2.0, 4.0]);
    let second = grad(&first.sum(..), &x).and_then(|g| g.or_error());
    assert_eq!(second.unwrap_err().code(), Code::FirstOrderOnly);
    assert!(matches!(of(&|x| x.detach()).unwrap().state(), State::Stopped { .. }));
    assert!(matches!(of(&|x| x.sign()).unwrap().state(), State::Zero));
    let captured = batch([&x], |[x]| {
        custom_gradient("captures", [&Tensor::new(1.0)], |[one]| (one * &x, |g: Tensor| g))
    });
    assert_eq!(captured.error().unwrap().code(), Code::RuleCapture);
}

#[test]
fn what_is_captured_is_shared_and_a_product_with_it_is_one_product() {
    let (x, w) = (Tensor::input("x", [8, 3], DType::F32), Tensor::new(Noise(1).array(&[3, 5], -1.0, 1.0)));
    let exp = w.exp();
    let y = batch([&x], |[x]| x.matmul(&exp).tanh());
    let products: Vec<Arc<Node>> =
        topological([y.node().unwrap()]).into_iter().filter(|n| matches!(n.op, Op::Matmul)).collect();
    let [product] = &products[..] else { panic!("one product, not {}", products.len()) };
    assert_eq!(product.operands[0].shape[..], [8, 3]);
    assert!(Arc::ptr_eq(&product.operands[1], exp.node().unwrap()));
    // From the left as well.
    let y = batch([&x], |[x]| exp.transpose().matmul(&x));
    let product = topological([y.node().unwrap()]).into_iter().find(|n| matches!(n.op, Op::Matmul)).unwrap();
    assert_eq!(
        (product.operands[0].shape[..].to_vec(), product.operands[1].shape[..].to_vec()),
        (vec![5, 3], vec![3, 8])
    );
    // What depends on no example is repeated, and an output may be an input.
    let [a, b] = batch([&Tensor::new([1, 2, 3])], |[i]| [Tensor::new([4.0, 5.0]), i]);
    assert_eq!((values(&a), values(&b)), (vec![4.0, 5.0, 4.0, 5.0, 4.0, 5.0], vec![1.0, 2.0, 3.0]));
}

#[test]
fn the_graph_does_not_grow_with_the_number_of_examples() {
    let w = Tensor::new(Noise(2).array(&[3, 3], -1.0, 1.0));
    let nodes = |examples: usize| {
        let x = Tensor::zeros([examples, 3]);
        let i = Tensor::full([examples], 1);
        let key = Key::new(1);
        let y = batch([&x, &i], |[x, i]| {
            let y = forty_two(&x.matmul(&w)).dropout(key, i.cast(DType::U32), 0.5);
            y.gather(0, &i.unsqueeze(0)).sum(..) + y.cross_entropy(&i)
        });
        let dw = per_sample_gradients([&x], &w, |[x]| x.matmul(&w).tanh().sum(..)).unwrap();
        let j = batch_jacobian(&x, |x| x.matmul(&w).softmax(-1)).unwrap();
        [&y, &dw, &j].map(|t| count(t, |_| true))
    };
    assert_eq!(nodes(3), nodes(100));
}

#[test]
fn random_numbers_differ_by_the_step_of_the_example() {
    let x = Tensor::ones([4, 64]);
    let key = Key::new(11);
    let steps = Tensor::iota([4], 0).cast(DType::U32);
    let own = batch([&x, &steps], |[x, step]| x.dropout(key, &step, 0.5));
    let shared = batch([&x], |[x]| x.dropout(key, 2u32, 0.5));
    let rows = |t: &Tensor| values(t).chunks(64).map(<[f64]>::to_vec).collect::<Vec<_>>();
    let (own, shared) = (rows(&own), rows(&shared));
    for example in 0..4 {
        let alone = values(&Tensor::ones([64]).dropout(key, example as u32, 0.5));
        assert_eq!(own[example], alone);
        assert_eq!(shared[example], own[2]);
        assert!((0..example).all(|other| own[other] != own[example]));
    }
}

#[test]
fn names_and_lines_are_those_of_one_example() {
    let x = Tensor::new([[1.0, 2.0], [3.0, 4.0]]);
    let mut line = 0;
    let y = batch([&x], |[x]| {
        line = line!() + 1;
        let eta = x.matmul(&Tensor::new([1.0, 1.0])).named("eta");
        eta.exp()
    });
    let order = topological([y.node().unwrap()]);
    let eta = order.iter().find(|node| node.label.as_deref() == Some("eta")).unwrap();
    assert_eq!((eta.shape[..].to_vec(), eta.location.line()), (vec![2], line));
    let made = order.iter().filter(|n| !matches!(n.op, Op::Leaf(_)));
    assert!(
        made.clone().all(|n| n.location.file() == file!()),
        "{:?}",
        made.map(|n| n.location).collect::<Vec<_>>()
    );
    let inspected = batch([&x], |[x]| x.sum(0).inspect("sums")).exp();
    let marks = Reference::new().inspect(&[&inspected]).unwrap();
    assert_eq!((&*marks[0].label, marks[0].value.to_f64()), ("sums", vec![3.0, 7.0]));
}

#[test]
fn an_index_outside_its_axis_finds_no_other_example() {
    let (x, i) = (Tensor::new([[1.0, 2.0], [3.0, 4.0]]), Tensor::input("i", [2, 1], DType::I32));
    let gathered = batch([&x, &i], |[x, i]| x.gather(0, &i));
    let scattered = batch([&x, &i], |[x, i]| Tensor::scatter_add(&i, &x.slice(0, 0, 1, 1), 0, 2));
    for (index, fits) in [(0, true), (1, true), (2, false), (-1, false), (i32::MAX, false), (i32::MIN, false)]
    {
        let reference = Reference::new().bind(&i, [[index], [0]]).unwrap();
        for tensor in [&gathered, &scattered] {
            let result = reference.evaluate(&[tensor]);
            assert_eq!(result.is_ok(), fits, "{index}");
            assert!(result.err().is_none_or(|e| e.code() == Code::Index));
        }
    }
}

#[test]
fn mistakes_make_the_outputs_invalid() {
    let (x, s) = (Tensor::ones([3, 2]), Tensor::new(1.0));
    let error = |t: Tensor| t.error().unwrap().clone();
    let texts = [
        (
            error(batch([&x, &s.named("s")], |[x, s]| x * s)),
            Code::Axis,
            "input 1 `s` is a scalar and has no axis of examples",
        ),
        (
            error(batch([&x, &Tensor::ones([4])], |[x, y]| x * y)),
            Code::Broadcast,
            "input 1 `input1` [4] holds 4 examples, but input 0 `input0` [3, 2] holds 3",
        ),
        (
            error(batch([&x], |_| -> Tensor { panic!("of mine") })),
            Code::UserPanic,
            "its closure panicked: of mine",
        ),
        (
            error(batch(Vec::<Tensor>::new(), |_| Tensor::new(1.0))),
            Code::Axis,
            "without an input there is no axis of examples",
        ),
    ];
    for (error, code, text) in texts {
        assert_eq!((error.code(), error.operation(), error.message()), (code, "batch", text));
        assert_eq!(error.location().unwrap().file(), file!());
    }
    // Too many dimensions or elements, in the function and in a rule.
    let deep = Shape::new(&[1; MAX_RANK]).unwrap();
    let wide = Shape::new(&[1 << 16, 1 << 15]).unwrap();
    let spread = |shape: Shape| error(batch([&x], move |[x]| x.sum(..).broadcast_to(shape).exp().sum(..)));
    let within = error(batch([&x], |[x]| {
        custom_gradient("deep", [&x], |[x]| {
            (x.sum(..).broadcast_to(deep).sum(..), |g: Tensor| g.broadcast_to([2]))
        })
    }));
    for (error, code) in
        [(spread(deep), Code::Rank), (spread(wide), Code::TooLarge), (within.clone(), Code::Rank)]
    {
        assert_eq!((error.code(), error.location().unwrap().file()), (code, file!()));
        assert!(error.to_string().contains("in `batch` at"), "{error}");
    }
    assert!(within.to_string().contains("in rule `deep`"), "{within}");
    // The first error there is.
    let wrong = || Tensor::ones([2]) + Tensor::ones([3]);
    assert_eq!(error(batch([&wrong()], |[x]| x)).code(), Code::Broadcast);
    assert_eq!(error(batch([&x], |[x]| x + Tensor::ones([3]))).code(), Code::Broadcast);
    let many = batch([&s], |[s]| vec![s.clone(), s.clone(), s]);
    assert!(many.len() == 3 && many.iter().all(|t| t.error().is_some()));
    let per_sample = per_sample_gradients([&x], &s, |[x]| x * &s).unwrap_err();
    assert_eq!(per_sample.code(), Code::NotScalar);
    let through = |t: &Tensor| per_sample_gradients([&(t * &x)], &s, |[x]| (x * &s).sum(..));
    let lost: Error = through(&s).unwrap_err();
    assert_eq!((lost.code(), lost.location().unwrap().file()), (Code::NoDerivative, file!()));
    assert!(through(&s.detach()).is_ok());
}

#[test]
fn no_examples_give_no_results() {
    let x = Tensor::zeros([0, 2]);
    let w = Tensor::ones([2, 3]);
    let y = batch([&x], |[x]| x.matmul(&w).softmax(-1).max_over(..));
    assert_eq!((y.shape()[..].to_vec(), values(&y)), (vec![0], vec![]));
    assert_eq!(gradient(&grad(&y.sum(..), &w).unwrap()), [0.0; 6]);
}

#[test]
fn long_chains_are_batched_without_recursion() {
    let x = Tensor::new([0.5, 1.5]);
    let y = batch([&x], |[x]| (0..200_000).fold(x, |y, _| y.sin()));
    assert!(count(&y, |_| true) > 200_000);
    drop(y);
    let y = batch([&x], |[x]| (0..20_000).fold(x, |y, _| forty_two(&y.sin())));
    assert_eq!(count(&y, |node| matches!(node.op, Op::Rule(_))), 20_000);
    drop(y);
    // Rules in rules, as deep as their closures nest.
    fn nested(depth: usize, x: &Tensor) -> Tensor {
        custom_gradient("nested", [x], |[x]| match depth {
            0 => (x.exp(), Box::new(move |g: Tensor| g * x.exp()) as Box<dyn FnOnce(Tensor) -> Tensor>),
            _ => (nested(depth - 1, &x), Box::new(move |g: Tensor| g * x.exp())),
        })
    }
    let y = batch([&x], |[x]| nested(60, &x));
    assert_digits(&gradient(&grad(&y.sum(..), &x).unwrap()), &values(&x.exp()));
}
