//! One function per way to use a structural operation, and arguments for the rows of the elementwise table.

use cotangent_autograd::{checkpoint, custom_gradient, grad};
use cotangent_tensor::{Array, Class, DType, Elementwise, Reduce, Tensor};

use super::Noise;

/// Intervals of arguments, the most general first.
const DOMAINS: [(f64, f64); 3] = [(-2.0, 2.0), (0.2, 0.9), (1.2, 3.0)];

/// Arguments of a row where it is finite.
pub(crate) fn arguments(row: Elementwise, shape: &[usize], noise: &mut Noise) -> Vec<Array> {
    if row.class() == Class::Logic {
        let n: usize = shape.iter().product();
        let truths = |noise: &mut Noise| (0..n).map(|_| noise.word() & 1 == 0).collect::<Vec<bool>>();
        return (0..row.arity()).map(|_| Array::new(truths(noise), shape).unwrap()).collect();
    }
    let floats = row.arity() - usize::from(row.class() == Class::Select);
    let condition = (row.class() == Class::Select).then(|| {
        let n: usize = shape.iter().product();
        Array::new((0..n).map(|i| i % 3 != 1).collect::<Vec<bool>>(), shape).unwrap()
    });
    for (low, high) in DOMAINS {
        let arrays: Vec<Array> = (0..floats).map(|_| noise.array(shape, low, high)).collect();
        let columns: Vec<Vec<f64>> = condition.iter().chain(&arrays).map(Array::to_f64).collect();
        let n = columns[0].len();
        let finite = (0..n).all(|i| row.eval(&columns.iter().map(|c| c[i]).collect::<Vec<_>>()).is_finite());
        if finite {
            return condition.into_iter().chain(arrays).collect();
        }
    }
    panic!("{row:?} is finite on no domain");
}

/// A name, inputs, and a function of them.
pub(crate) type Case = (&'static str, Vec<Array>, Box<dyn Fn(&[Tensor]) -> Tensor>);

pub(crate) fn case(
    name: &'static str,
    inputs: Vec<Array>,
    f: impl Fn(&[Tensor]) -> Tensor + 'static,
) -> Case {
    (name, inputs, Box::new(f))
}

/// Every structural operation that a float can pass through.
pub(crate) fn cases(noise: &mut Noise) -> Vec<Case> {
    let mut some = |shape: &[usize]| vec![noise.array(shape, 0.3, 1.7)];
    let labels =
        |n: usize, classes: i32| Array::from((0..n as i32).map(|i| i % classes).collect::<Vec<i32>>());
    let mut all = vec![
        case("reshape", some(&[2, 6]), |x| x[0].reshape([3, 4]) * Tensor::iota([3, 4], 1).cast(DType::F32)),
        case("reshape to scalar", some(&[1, 1]), |x| x[0].reshape([0isize; 0]).exp()),
        case("permute", some(&[2, 3, 4]), |x| x[0].permute([2, 0, 1]).sin()),
        case("broadcast", some(&[3, 1]), |x| x[0].broadcast_to([2, 3, 4]).exp()),
        case("broadcast scalar", some(&[]), |x| x[0].broadcast_to([2, 3]).log()),
        case("broadcast to nothing", some(&[1]), |x| x[0].broadcast_to([2, 0, 1]).log()),
        case("slice", some(&[5, 3]), |x| x[0].slice(0, 1, 4, 1).exp()),
        case("slice step 2", some(&[7, 2]), |x| x[0].slice(0, 1, 7, 2).exp()),
        case("slice step 3", some(&[8]), |x| x[0].slice(0, 0, 8, 3).exp()),
        case("slice step -2", some(&[2, 7]), |x| x[0].slice(1, 1, 6, -2).exp()),
        case("slice step -1", some(&[6]), |x| x[0].slice(0, 2, 5, -1).exp()),
        case("slice one", some(&[6]), |x| x[0].slice(0, 2, 3, 5).exp()),
        case("slice none", some(&[6]), |x| x[0].slice(0, 2, 2, 1).exp()),
        case("slice rank 8", some(&[1, 2, 1, 2, 1, 1, 5, 1]), |x| x[0].slice(6, 0, 5, 2).exp()),
        case("flip", some(&[2, 3]), |x| x[0].flip(1) * Tensor::iota([2, 3], 1).cast(DType::F32)),
        case("strided", some(&[5, 7]), |x| {
            x[0].strided(vec![4, 1], vec![-2, 3], *Tensor::zeros([3, 2]).shape()).exp()
        }),
        case("pad", some(&[2, 3]), |x| x[0].pad(1, 2, 1).exp()),
        case("pad all", some(&[2, 3]), |x| x[0].pad_all(vec![1, 0], vec![0, 2]).cos()),
        case("concat", [some(&[2, 3]), some(&[2, 1]), some(&[2, 2])].concat(), |x| {
            Tensor::concat(&[&x[0], &x[1], &x[0], &x[2]], 1).sin()
        }),
        case("concat with empty", [some(&[0, 2]), some(&[1, 2])].concat(), |x| {
            Tensor::concat(&[&x[0], &x[1]], 0).sin()
        }),
        case("cumulative sum", some(&[2, 4]), |x| x[0].cumulative_sum(1, false).sin()),
        case("cumulative sum reverse", some(&[4, 2]), |x| x[0].cumulative_sum(0, true).sin()),
        case("matmul", [some(&[2, 3]), some(&[3, 4])].concat(), |x| x[0].matmul(&x[1]).sin()),
        case("matmul vectors", [some(&[3]), some(&[3])].concat(), |x| x[0].matmul(&x[1]).sin()),
        case("matmul batch", [some(&[2, 1, 2, 3]), some(&[3, 3, 2])].concat(), |x| x[0].matmul(&x[1]).sin()),
        case("matmul K = 0", [some(&[2, 0]), some(&[0, 3])].concat(), |x| x[0].matmul(&x[1]).sin()),
        case("gather", [some(&[4, 2]), vec![Array::from([1, 3, 1, 0])]].concat(), |x| {
            x[0].gather(0, &x[1]).sin()
        }),
        case("gather last axis", [some(&[2, 4]), vec![Array::from([[2, 0], [2, 2]])]].concat(), |x| {
            x[0].exp().gather(1, &x[1]).sin()
        }),
        case("gather none", [some(&[4, 2]), vec![Array::from(Vec::<i32>::new())]].concat(), |x| {
            x[0].gather(0, &x[1]).sin()
        }),
        case("scatter add", [some(&[4, 2]), vec![Array::from([1, 3, 1, 0])]].concat(), |x| {
            Tensor::scatter_add(&x[1], &x[0], 0, 5).sin()
        }),
        case("scatter add last axis", [some(&[2, 3]), vec![Array::from([1, 1, 0])]].concat(), |x| {
            Tensor::scatter_add(&x[1], &x[0], 1, 2).sin()
        }),
        case("logsumexp", some(&[2, 4]), |x| (x[0].logsumexp(1) * 1.5).sin()),
        case("logsumexp all", some(&[2, 3]), |x| x[0].logsumexp(..)),
        case("softmax", some(&[2, 4]), |x| x[0].softmax(-1).sin()),
        case("softmax first axis", some(&[3, 2]), |x| x[0].softmax(0).sin()),
        case("softmax of nothing", some(&[2, 0]), |x| x[0].softmax(-1).sin()),
        case("log softmax", some(&[2, 3]), |x| x[0].log_softmax(1).sin()),
        case("cross entropy", [some(&[3, 4]), vec![labels(3, 4)]].concat(), |x| {
            x[0].cross_entropy(&x[1]).sin()
        }),
        case("cross entropy scalar", [some(&[4]), vec![Array::from(2)]].concat(), |x| {
            x[0].cross_entropy(&x[1])
        }),
        case("softmax residual", [some(&[3, 4]), vec![labels(3, 4)]].concat(), |x| {
            x[0].softmax_residual(&x[1]).sin()
        }),
        case("cast", some(&[3]), |x| x[0].cast(DType::F32).exp()),
        case("inspect", some(&[3]), |x| x[0].inspect("x").exp()),
        case("checkpoint", [some(&[2, 3]), some(&[3, 2])].concat(), |x| {
            checkpoint([&x[0]], |[a]| a.sin().matmul(&x[1]).exp())
        }),
        // Its gradient computes the inside again, after the cotangent is known.
        case("after", some(&[2, 3]), |x| {
            let y = checkpoint([&x[0]], |[a]| (&a * a.sin()).exp());
            grad(&(&y * &y).sum(..), &x[0]).unwrap().or_zero()
        }),
        case("detach beside", some(&[3]), |x| (x[0].exp() * x[0].detach().abs() * 0.0) + x[0].sin()),
        case("mean", some(&[3, 4]), |x| x[0].exp().mean(0)),
        case("tril", some(&[3, 3]), |x| x[0].tril(0).exp()),
        case("rule", [some(&[3]), some(&[3])].concat(), |x| {
            custom_gradient("product", [&x[0], &x[1]], |[a, b]| {
                (&a * &b, move |g: Tensor| [&g * &b, &g * &a])
            })
        }),
        case("rule with two outputs", some(&[3]), |x| {
            let (s, c) = custom_gradient("sincos", [&x[0]], |[x]| {
                let (s, c) = (x.sin(), x.cos());
                ((s.clone(), c.clone()), move |(u, v): (Tensor, Tensor)| &u * &c - &v * &s)
            });
            s * c.exp()
        }),
    ];
    all.push(case("while counted", [some(&[3]), some(&[3]), vec![Array::from([3, 0, 2])]].concat(), |x| {
        let zero = Tensor::full([], 0i32);
        let state = Tensor::while_loop("counted", 10, &[&zero, &x[0], &x[0]], &[&x[1], &x[2]], |s, c| {
            (s[0].lt(&c[1]), vec![&s[0] + 1i32, s[1].sin() * &c[0] + &s[2], &s[1] * 0.5])
        });
        &state[1] + state[2].exp()
    }));
    all.push(case("while near", some(&[4]), |x| {
        let state = Tensor::while_loop("near", 100, &[&x[0]], &[&x[0]], |s, c| {
            ((&s[0] * &s[0] - &c[0]).abs().gt(1e-3), vec![(&s[0] + &c[0] / &s[0]) * 0.5])
        });
        state[0].exp()
    }));
    for &kind in Reduce::ALL {
        for (shape, axes) in [
            (&[2, 3][..], vec![1]),
            (&[2, 3], vec![0, 1]),
            (&[3, 2, 5], vec![0, 2]),
            (&[7], vec![0]),
            (&[1, 4], vec![0]),
            (&[2, 0, 3], vec![2]),
            (&[0, 3], vec![1]),
        ] {
            all.push(case(kind.name(), some(shape), move |x| {
                let reduced = match kind {
                    Reduce::Sum => x[0].sin().sum(&axes),
                    Reduce::Prod => x[0].prod(&axes),
                    Reduce::Max => x[0].max_over(&axes),
                    Reduce::Min => x[0].min_over(&axes),
                };
                reduced.exp()
            }));
        }
    }
    all.push(case("prod over an empty axis", some(&[2, 0]), |x| x[0].prod(1).exp()));
    all.push(case("sum over an empty axis", some(&[2, 0]), |x| x[0].sum(1).exp()));
    all
}
