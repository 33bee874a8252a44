//! Mutants of our own reverse mode: gradient graphs of small programs, broken at one node, must not pass the check.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_autograd::check::unchecked;
use cotangent_autograd::{GradCheck, custom_gradient, gradcheck, vjp};
use cotangent_tensor::{
    Array, Elementwise, Node, Op, Real, Reduce, Reference, Tensor, substitute, topological, where_,
};
use support::{Noise, same, values};

type Build = fn(&[Tensor]) -> Tensor;

struct Program {
    name: &'static str,
    inputs: Vec<Array>,
    build: Build,
}

impl Program {
    fn tensors(&self) -> Vec<Tensor> {
        self.inputs.iter().cloned().map(Tensor::new).collect()
    }
}

/// Every structural operation, on shapes that are not square unless the operation wants them so.
fn programs() -> Vec<Program> {
    let mut noise = Noise(17);
    let mut programs = Vec::new();
    let mut add = |name, shapes: &[&[usize]], build: Build| {
        let inputs = shapes.iter().map(|shape| noise.array(shape, 0.3, 1.7)).collect();
        programs.push(Program { name, inputs, build });
    };
    let matrix: &[&[usize]] = &[&[2, 3]];
    let square: &[&[usize]] = &[&[3, 3]];
    add("reshape", matrix, |x| x[0].reshape([3, 2]));
    add("permute", &[&[2, 3, 2]], |x| x[0].permute_axes(&[2, 0, 1]));
    add("transpose", square, |x| x[0].transpose());
    add("broadcast", &[&[3, 1]], |x| x[0].broadcast_to([2, 3, 2]));
    add("slice", &[&[5, 2]], |x| x[0].slice(0, 1, 5, 2));
    add("flip", matrix, |x| x[0].flip(1));
    add("pad", matrix, |x| x[0].pad(1, 1, 2));
    add("concat", &[&[2, 2], &[2, 3]], |x| Tensor::concat(&[&x[0], &x[1]], 1));
    add("sum", matrix, |x| x[0].sum(1));
    add("sum of a square", square, |x| x[0].sum(0));
    add("mean", matrix, |x| x[0].mean(0));
    add("prod", matrix, |x| x[0].prod(1));
    add("max", matrix, |x| x[0].max_over(1));
    add("min", matrix, |x| x[0].min_over(0));
    add("cumulative_sum", matrix, |x| x[0].cumulative_sum(1, false));
    add("cumulative_sum, reverse", square, |x| x[0].cumulative_sum(0, true));
    add("matmul", &[&[2, 3], &[3, 2]], |x| x[0].matmul(&x[1]));
    add("matmul of squares", &[&[3, 3], &[3, 3]], |x| x[0].matmul(&x[1]));
    add("gather", &[&[3, 2]], |x| x[0].gather(0, &Tensor::new([2, 0, 2, 1])));
    add("scatter_add", &[&[4, 2]], |x| Tensor::scatter_add(&Tensor::new([2, 0, 2, 1]), &x[0], 0, 3));
    add("logsumexp", matrix, |x| x[0].logsumexp(1));
    add("softmax", matrix, |x| x[0].softmax(1));
    add("cross_entropy", matrix, |x| x[0].cross_entropy(&Tensor::new([2, 0])));
    add("softmax_residual", matrix, |x| x[0].softmax_residual(&Tensor::new([2, 0])));
    add("select", &[&[2, 3], &[2, 3]], |x| where_(&x[0].gt(1.0), &x[0], &x[1]));
    add("tied maximum", matrix, |x| x[0].max(x[0].transpose().reshape([2, 3])));
    add("inspect", matrix, |x| x[0].inspect("seen") * &x[0]);
    programs
}

/// A broken form of a node of a gradient; none where it does not apply.
type Mutation = (&'static str, fn(&Arc<Node>) -> Option<Tensor>);

fn operand(node: &Arc<Node>, position: usize) -> Tensor {
    Tensor::from_node(node.operands[position].clone())
}

fn of(node: &Arc<Node>) -> Tensor {
    Tensor::from_node(node.clone())
}

fn along(node: &Arc<Node>, axis: usize, change: fn(&Tensor, isize, usize) -> Tensor) -> Option<Tensor> {
    let length = *node.shape.get(axis)?;
    (length > 1).then(|| change(&of(node), axis as isize, length))
}

fn rolled(t: &Tensor, axis: isize, length: usize) -> Tensor {
    Tensor::concat(&[&t.slice(axis, length - 1, length, 1), &t.slice(axis, 0, length - 1, 1)], axis)
}

fn shifted(t: &Tensor, axis: isize, length: usize) -> Tensor {
    t.slice(axis, 0, length - 1, 1).pad(axis, 1, 0)
}

fn mutations() -> Vec<Mutation> {
    vec![
        ("negated", |n| Some(-of(n))),
        ("a thousandth too large", |n| Some(of(n) * (1.0 + 1e-3))),
        ("a billionth too large", |n| Some(of(n) * (1.0 + 1e-9))),
        ("dropped", |n| Some(Tensor::zeros(n.shape))),
        ("offset", |n| Some(of(n) + 1e-3)),
        ("squared", |n| Some(of(n) * of(n))),
        ("magnitude", |n| Some(of(n).abs())),
        ("clipped", |n| Some(of(n).clamp(-0.75, 0.75))),
        ("first axis rolled", |n| along(n, 0, rolled)),
        ("last axis rolled", |n| along(n, n.shape.rank().checked_sub(1)?, rolled)),
        ("last axis shifted", |n| along(n, n.shape.rank().checked_sub(1)?, shifted)),
        ("first axis flipped", |n| along(n, 0, |t, axis, _| t.flip(axis))),
        ("read in columns", |n| (n.shape.rank() == 2).then(|| of(n).transpose().reshape(n.shape))),
        ("one element missing", |n| {
            let flat = n.shape.elements();
            let kept = Tensor::iota([flat], 0).ne(0);
            Some(kept.reshape(n.shape).select(of(n), 0.0))
        }),
        ("mean instead of values", |n| Some(of(n).mean(..).broadcast_to(n.shape))),
        ("operands swapped", |n| {
            let swapped = n.operands.len() == 2 && n.operands[0].shape == n.operands[1].shape;
            let (a, b) = swapped.then(|| (operand(n, 1), operand(n, 0)))?;
            match n.op {
                Op::Elementwise(row) if row.arity() == 2 => Some(Tensor::apply(row, &[&a, &b])),
                Op::Matmul => Some(a.matmul(&b)),
                _ => None,
            }
        }),
        ("second operand lost", |n| binary(n).then(|| operand(n, 0))),
        ("first operand lost", |n| binary(n).then(|| operand(n, 1))),
        ("mask lost", |n| matches!(n.op, Op::Elementwise(Elementwise::Select)).then(|| operand(n, 1))),
        ("mask turned", |n| {
            let is_select = matches!(n.op, Op::Elementwise(Elementwise::Select));
            is_select.then(|| operand(n, 0).select(operand(n, 2), operand(n, 1)))
        }),
        ("sum the other way", |n| match &n.op {
            Op::CumulativeSum { axis, reverse } => {
                Some(operand(n, 0).cumulative_sum(*axis as isize, !reverse))
            }
            _ => None,
        }),
        ("sum over another axis", |n| match &n.op {
            Op::Reduce { kind: Reduce::Sum, axes } if axes.len() == 1 && n.operands[0].shape.rank() > 1 => {
                Some(
                    operand(n, 0).sum(((axes[0] + 1) % n.operands[0].shape.rank()) as isize).reshape(n.shape),
                )
            }
            _ => None,
        }),
        ("mean instead of sum", |n| match &n.op {
            Op::Reduce { kind: Reduce::Sum, axes } => {
                let count: usize = axes.iter().map(|&a| n.operands[0].shape[a]).product();
                Some(of(n) / count as f64)
            }
            _ => None,
        }),
        ("largest instead of sum", |n| match &n.op {
            Op::Reduce { kind: Reduce::Sum, axes } if axes.len() == 1 => {
                Some(operand(n, 0).max_over(axes[0] as isize))
            }
            _ => None,
        }),
        ("not transposed", |n| match (&n.op, n.operands.first()) {
            (Op::Permute(_), Some(operand)) if operand.shape == n.shape => {
                Some(Tensor::from_node(operand.clone()))
            }
            (Op::Permute(_), Some(operand)) => Some(Tensor::from_node(operand.clone()).reshape(n.shape)),
            _ => None,
        }),
        ("padded one too late", |n| match &n.op {
            Op::Pad { low, high } => {
                let axis = high.iter().position(|&h| h > 0)?;
                let (mut low, mut high) = (low.clone(), high.clone());
                (low[axis], high[axis]) = (low[axis] + 1, high[axis] - 1);
                Some(operand(n, 0).pad_all(low, high))
            }
            _ => None,
        }),
        ("sliced one too late", |n| match &n.op {
            Op::Slice { starts, steps } => {
                let whole = n.operands[0].shape;
                let fits = |a: &usize| {
                    let last = starts[*a] as isize + 1 + steps[*a] * (n.shape[*a] as isize - 1);
                    (0..whole[*a] as isize).contains(&last) && starts[*a] + 1 < whole[*a]
                };
                let axis = (0..whole.rank()).find(fits)?;
                let mut starts = starts.clone();
                starts[axis] += 1;
                Some(operand(n, 0).strided(starts, steps.clone(), n.shape))
            }
            _ => None,
        }),
        ("wrong places", |n| match &n.op {
            Op::Gather(axis) => Some(operand(n, 0).gather(*axis as isize, &operand(n, 1).flip(0))),
            Op::ScatterAdd(axis) => {
                let indices = operand(n, 0).flip(0);
                Some(Tensor::scatter_add(&indices, &operand(n, 1), *axis as isize, n.shape[*axis]))
            }
            _ => None,
        }),
    ]
}

fn binary(node: &Arc<Node>) -> bool {
    matches!(
        node.op,
        Op::Elementwise(Elementwise::Add | Elementwise::Sub | Elementwise::Mul | Elementwise::Div)
    )
}

/// The nodes of a gradient that the upstream cotangent flows through, it included.
fn path(gradients: &[Arc<Node>], upstream: &Arc<Node>) -> Vec<Arc<Node>> {
    let mut on_path: HashMap<*const Node, bool> = HashMap::new();
    let mut found = Vec::new();
    for node in topological(gradients) {
        let on = node.identity() == upstream.identity() || node.operands.iter().any(|o| on_path[&o.key()]);
        on_path.insert(node.key(), on);
        if on && node.dtype.is_float() {
            found.push(node);
        }
    }
    found
}

/// The program as a custom rule whose gradient is that of reverse mode, broken by a mutation at a node of its path. The
/// second is the number of nodes; none where the mutation does not apply.
fn broken(
    program: &Program,
    inputs: &[Tensor],
    mutation: Option<(&Mutation, usize)>,
) -> Option<(Tensor, usize)> {
    let (mut nodes, mut applies) = (0, true);
    let built = custom_gradient("mutant", inputs, |x: Vec<Tensor>| {
        let y = (program.build)(&x);
        let (nodes, applies) = (&mut nodes, &mut applies);
        (y.clone(), move |upstream: Tensor| {
            let gradients = vjp(&[(&y, &upstream)], &x).unwrap();
            // What ignores its cotangent is seen when the rule is applied: here it is hidden from that.
            let hidden = upstream.sum(..) * 0.0;
            let hide = |node: Arc<Node>| Tensor::from_node(node) + &hidden;
            let gradients: Vec<Arc<Node>> =
                gradients.iter().map(|g| g.or_zero().node().unwrap().clone()).collect();
            let path = path(&gradients, upstream.node().unwrap());
            *nodes = path.len();
            let Some(((_, mutate), place)) = mutation else {
                return gradients.into_iter().map(hide).collect::<Vec<_>>();
            };
            let image = mutate(&path[place]).filter(|t| {
                t.node().is_ok_and(|n| n.shape == path[place].shape && n.dtype == path[place].dtype)
            });
            *applies = image.is_some();
            let images = image.map(|t| (path[place].identity(), t.node().unwrap().clone()));
            substitute(&gradients, &images.into_iter().collect()).into_iter().map(hide).collect()
        })
    });
    applies.then_some((built, nodes))
}

/// Numbers of the gradient for some cotangents, of which some are large.
fn numbers(program: &Program, mutation: Option<(&Mutation, usize)>) -> Option<(Vec<f64>, usize)> {
    let inputs = program.tensors();
    let (output, nodes) = broken(program, &inputs, mutation)?;
    let mut all = Vec::new();
    for scale in [1.0, -8.0] {
        let upstream = Tensor::new(Noise(23).array(output.shape(), 0.5 * scale, 1.5 * scale));
        // Mutants are rules that are wrong on purpose.
        for gradient in unchecked(|| vjp(&[(&output, &upstream)], &inputs)).unwrap() {
            all.extend(values(&gradient.or_zero()));
        }
    }
    Some((all, nodes))
}

#[test]
fn mutants_of_reverse_mode_do_not_survive() {
    let (mutations, programs) = (mutations(), programs());
    let (mut planted, mut killed, mut equivalent, mut survivors) = (0, 0, 0, Vec::new());
    for program in &programs {
        let (right, nodes) = numbers(program, None).unwrap();
        let run = |mutation| {
            gradcheck(|x| broken(program, &x, mutation).unwrap().0, program.tensors(), &Reference::new())
        };
        let report = run(None).unwrap();
        assert!(report.is_ok() && report.compared.total() > 0, "{}: {report}", program.name);
        let mut of_this = 0;
        for (mutation, place) in mutations.iter().flat_map(|m| (0..nodes).map(move |place| (m, place))) {
            let Some((got, _)) = numbers(program, Some((mutation, place))) else { continue };
            if got.iter().zip(&right).all(|(a, b)| same(*a, *b, 1.0)) {
                equivalent += 1;
                continue;
            }
            of_this += 1;
            match run(Some((mutation, place))) {
                Ok(report) if report.is_ok() => {
                    survivors.push(format!("{}, node {place}, {}", program.name, mutation.0));
                }
                Ok(_) => killed += 1,
                Err(error) => panic!("{}, node {place}, {}: {error}", program.name, mutation.0),
            }
        }
        assert!(of_this >= 12, "{}: {of_this} mutants", program.name);
        planted += of_this;
    }
    println!("{} programs, {killed} of {planted} mutants killed, {equivalent} equivalent", programs.len());
    assert!(10 * equivalent < planted, "{equivalent} mutants change nothing");
    assert!(100 * killed >= 99 * planted, "{} survived:\n{}", survivors.len(), survivors.join("\n"));
}

#[test]
fn the_programs_themselves_pass_at_third_order() {
    let mut compared = 0;
    for Program { name, inputs, build } in programs() {
        let curved = |x: Vec<Tensor>| build(&x).sin() * build(&x);
        let inputs: Vec<Tensor> = inputs.into_iter().map(Tensor::new).collect();
        let report = GradCheck::new().order(3).run(curved, inputs, &Reference::new()).unwrap();
        assert!(report.is_ok() && report.compared.unknown == 0, "{name}: {report}");
        compared += report.compared.total();
    }
    println!("{compared} derivatives");
    assert!(compared > 27 * 3 * 2 * 3);
}
