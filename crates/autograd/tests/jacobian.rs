//! Jacobians, Hessians, Gauss–Newton products and gradients per sample, against differences and against each
//! other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::check::finite_differences;
use cotangent_autograd::{
    State, batch_jacobian, gauss_newton_product, grad, hessian, hvp, jacobian, jvp, per_sample_gradients, vjp,
};
use cotangent_tensor::{Array, Code, DType, MAX_RANK, Reference, Tensor, where_};
use support::cases::cases;
use support::{Noise, assert_digits, same, values};

fn points(arrays: &[Array]) -> Vec<Tensor> {
    arrays.iter().map(|a| Tensor::new(a.clone())).collect()
}

fn floats(points: &[Tensor]) -> Vec<&Tensor> {
    points.iter().filter(|p| p.dtype().is_float()).collect()
}

/// Asserts that `rows[i]` are the slopes of element `i` of `function`; how many numbers were compared.
fn assert_slopes(
    name: &str,
    rows: &[f64],
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    wrt: usize,
) -> usize {
    let width: usize = inputs[wrt].shape().iter().product();
    let elements = function(&points(inputs)).shape().elements();
    assert_eq!(rows.len(), elements * width, "{name}");
    for element in 0..elements {
        let one = |x: &[Tensor]| {
            let y = function(x);
            y.reshape([-1]).slice(0, element, element + 1, 1).sum(..)
        };
        let slopes = finite_differences(&one, inputs, &Reference::new()).unwrap();
        for (at, slope) in slopes[wrt].iter().flatten().enumerate() {
            let got = rows[element * width + at];
            assert!(
                slope.agrees(got),
                "{name}, element {element}, input {wrt}, {at}: {got} instead of {slope:?}"
            );
        }
    }
    rows.len()
}

#[test]
fn jacobians_of_every_case_agree_with_differences() {
    let (mut compared, mut functions, mut refused) = (0, 0, 0);
    for (name, inputs, function) in &cases(&mut Noise(41)) {
        let x = points(inputs);
        let y = function(&x);
        let (rank, elements) = (y.shape().rank(), y.shape().elements());
        if x.iter().any(|x| x.shape().rank() + rank > MAX_RANK) {
            assert_eq!(jacobian(&y, floats(&x)).unwrap_err().code(), Code::Rank);
            refused += 1;
            continue;
        }
        functions += 1;
        let blocks = jacobian(&y, floats(&x)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let wrt = (0..x.len()).filter(|&i| x[i].dtype().is_float());
        for (block, at) in blocks.iter().zip(wrt) {
            assert_eq!(block.shape()[..], [&y.shape()[..], &x[at].shape()[..]].concat(), "{name}");
            if elements > 0 {
                compared += assert_slopes(name, &values(block), function.as_ref(), inputs, at);
            }
        }
    }
    println!("{functions} functions, {compared} numbers, {refused} of too high rank");
    assert!(functions > 60 && compared > 2000 && refused == 1);
}

/// Two layers of a network on one input.
fn network(x: &Tensor, p: &[Tensor]) -> Tensor {
    (x.matmul(&p[0]) + &p[1]).tanh().matmul(&p[2])
}

fn parameters(noise: &mut Noise) -> Vec<Array> {
    vec![noise.array(&[3, 4], -1.0, 1.0), noise.array(&[4], -1.0, 1.0), noise.array(&[4, 2], -1.0, 1.0)]
}

#[test]
fn hessians_agree_with_differences_of_gradients_and_with_products() {
    let mut noise = Noise(43);
    let (inputs, x) = (parameters(&mut noise), Tensor::new(noise.array(&[5, 3], -1.0, 1.0)));
    let loss = |p: &[Tensor]| (network(&x, p).pow(2).softmax(-1) * Tensor::new([1.0, -2.0])).sum(..);
    let p = points(&inputs);
    let blocks = hessian(&loss(&p), &p).unwrap();
    let mut compared = 0;
    for (a, row) in blocks.iter().enumerate() {
        let slope = |p: &[Tensor]| grad(&loss(p), &p[a]).unwrap().or_zero();
        for (b, block) in row.iter().enumerate() {
            assert_eq!(block.shape()[..], [&p[a].shape()[..], &p[b].shape()[..]].concat());
            compared += assert_slopes("hessian", &values(block), &slope, &inputs, b);
        }
    }
    assert_eq!(compared, (12 + 4 + 8) * (12 + 4 + 8));
    // The block on the diagonal is symmetric and gives the product.
    let direction = Tensor::new(noise.array(&[3, 4], -1.0, 1.0));
    let product = hvp(&loss(&p), &p[0], &direction).unwrap();
    let whole = hessian(&loss(&p), &p[0]).unwrap().reshape([12, 12]);
    let [left, right] = [whole.matmul(&direction.reshape([12])), direction.reshape([12]).matmul(&whole)];
    let of = |t: &Tensor| values(&t.reshape([12]));
    for ((a, b), c) in of(&product).iter().zip(of(&left)).zip(of(&right)) {
        assert!(same(*a, b, 1.0) && same(*a, c, 1.0), "{a} {b} {c}");
    }
}

#[test]
fn gauss_newton_products_are_products_with_the_factors() {
    let mut noise = Noise(47);
    let (p, x) = (points(&parameters(&mut noise)), Tensor::new(noise.array(&[5, 3], -1.0, 1.0)));
    let directions = points(&parameters(&mut noise));
    let output = network(&x, &p);
    let loss = output.cross_entropy(&Tensor::new([0, 1, 1, 0, 1])).sum(..) + (&output * &output).sum(..);
    let product = gauss_newton_product(&loss, &output, &p, &directions).unwrap();
    let factors: Vec<Tensor> = jacobian(&output, &p).unwrap().iter().map(|j| j.reshape([10, -1])).collect();
    let curvature = hessian(&loss, &output).unwrap().reshape([10, 10]);
    let moved = factors.iter().zip(&directions).map(|(j, d)| j.matmul(&d.reshape([-1])));
    let curved = curvature.matmul(&moved.reduce(|a, b| a + b).unwrap());
    let mut compared = 0;
    for (got, factor) in product.iter().zip(&factors) {
        for (got, expected) in values(got).iter().zip(values(&factor.transpose().matmul(&curved))) {
            assert!(same(*got, expected, 8.0), "{got} instead of {expected}");
            compared += 1;
        }
    }
    assert_eq!(compared, 24);
    // For outputs linear in the parameters it is the Hessian.
    let direction = &directions[2];
    let product = gauss_newton_product(&loss, &output, &p[2], direction).unwrap();
    for (a, b) in values(&product).iter().zip(values(&hvp(&loss, &p[2], direction).unwrap())) {
        assert!(same(*a, b, 8.0), "{a} {b}");
    }
    let error = gauss_newton_product(&loss, &output, &p, direction).unwrap_err();
    assert_eq!(error.code(), Code::Cotangent);
}

#[test]
fn gradients_per_sample_are_those_of_each_sample_and_sum_to_the_gradient() {
    let mut noise = Noise(53);
    let (p, x) = (points(&parameters(&mut noise)), Tensor::new(noise.array(&[6, 3], -1.0, 1.0)));
    let labels = Tensor::new([0, 1, 1, 0, 1, 0]);
    let each = per_sample_gradients([&x, &labels], &p, |[x, y]| network(&x, &p).cross_entropy(&y)).unwrap();
    let whole = grad(&network(&x, &p).cross_entropy(&labels).sum(..), &p).unwrap();
    let mut compared = 0;
    for ((each, whole), p) in each.iter().zip(&whole).zip(&p) {
        assert_eq!(each.shape()[..], [&[6], &p.shape()[..]].concat());
        for (got, expected) in values(&each.sum(0)).iter().zip(values(&whole.or_error().unwrap())) {
            assert!(same(*got, expected, 6.0), "{got} instead of {expected}");
            compared += 1;
        }
    }
    for sample in 0..6 {
        let one = |t: &Tensor| t.slice(0, sample, sample + 1, 1);
        let loss = network(&one(&x), &p).cross_entropy(&one(&labels)).sum(..);
        for (each, gradient) in each.iter().zip(grad(&loss, &p).unwrap()) {
            for (got, expected) in values(&one(each)).iter().zip(values(&gradient.or_zero())) {
                assert!(same(*got, expected, 1.0), "{got} instead of {expected}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 7 * 24);
}

#[test]
fn jacobians_per_example_are_those_of_each_example() {
    let mut noise = Noise(59);
    let (p, x) = (points(&parameters(&mut noise)), Tensor::new(noise.array(&[4, 3], -1.0, 1.0)));
    let function = |x: &Tensor| where_(&x.sum(0).gt(0.0), network(x, &p), x.slice(0, 0, 2, 1).abs().sqrt());
    let all = batch_jacobian(&x, |x| function(&x)).unwrap();
    assert_eq!(all.shape()[..], [4, 2, 3]);
    let mut expected = Vec::new();
    for example in 0..4 {
        let one = x.slice(0, example, example + 1, 1).reshape([3]);
        expected.extend(values(&jacobian(&function(&one), &one).unwrap()));
    }
    assert_eq!(values(&all), expected);
    // Rows by reverse mode are columns by forward mode.
    let one = x.slice(0, 1, 2, 1).reshape([3]);
    let y = function(&one);
    let columns = (0..3).flat_map(|i| {
        let unit = Tensor::iota([3], 0).eq(i).cast(DType::F32);
        values(&jvp(&[&y], &[(&one, &unit)]).unwrap()[0])
    });
    let columns: Vec<f64> = columns.collect();
    let rows = values(&jacobian(&y, &one).unwrap().transpose());
    assert!(rows.iter().zip(&columns).all(|(a, b)| same(*a, *b, 1.0)), "{rows:?} {columns:?}");
}

#[test]
fn states_types_and_errors_of_jacobians() {
    let (x, y) = (Tensor::new([1.0, 2.0]), Tensor::new([3.0, 4.0]));
    let [dx, dy] = jacobian(&(&x * 2.0), [&x, &y]).unwrap();
    assert_digits(&values(&dx), &[2.0, 0.0, 0.0, 2.0]);
    assert_digits(&values(&dy), &[0.0; 4]);
    assert_digits(&values(&jacobian(&x, &x).unwrap()), &[1.0, 0.0, 0.0, 1.0]);
    assert_digits(&values(&jacobian(&x.detach().sum(..), &x).unwrap()), &[0.0; 2]);
    let [[xx, xy], [yx, yy]] = hessian(&(x.sum(..) * y.sum(..)), [&x, &y]).unwrap();
    assert_digits(
        &[xx, xy, yx, yy].iter().flat_map(values).collect::<Vec<_>>(),
        &[[0.0; 4], [1.0; 4], [1.0; 4], [0.0; 4]].concat(),
    );
    let half = x.cast(DType::F16);
    let block = jacobian(&(&half * &half).cast(DType::F16), &half).unwrap();
    assert_eq!((block.dtype(), values(&block)), (DType::F16, vec![2.0, 0.0, 0.0, 4.0]));
    // What is missing is an error, never a zero.
    let lost = x.cast(DType::I32).cast(DType::F32);
    assert!(matches!(grad(&lost.sum(..), &x).unwrap().state(), State::NotDifferentiable { .. }));
    let error = jacobian(&lost, &x).unwrap_err();
    assert_eq!(error.code(), Code::NotDifferentiable);
    assert_eq!(
        per_sample_gradients([&y], &x, |[y]| lost.sum(..) * y).unwrap_err().code(),
        Code::NotDifferentiable
    );
    assert_eq!(jacobian(&x.gt(0.0), &x).unwrap_err().code(), Code::NotDifferentiable);
    assert_eq!(hessian(&x, &x).unwrap_err().code(), Code::NotScalar);
    let deep = Tensor::ones([1; 5]);
    assert_eq!(jacobian(&deep.exp(), &deep).unwrap_err().code(), Code::Rank);
    let wide = Tensor::ones([1 << 17]);
    let error = jacobian(&wide.exp(), &wide).unwrap_err();
    assert_eq!((error.code(), error.location().unwrap().file()), (Code::TooLarge, file!()));
    // A branch not taken stays out of every row.
    let x = Tensor::new([0.0, 4.0]);
    let root = where_(&x.gt(0.0), x.sqrt(), 0.0);
    assert_digits(&values(&jacobian(&root, &x).unwrap()), &[0.0, 0.0, 0.0, 0.25]);
    let ones = vjp(&[(&root, &Tensor::ones([2]))], &x).unwrap();
    assert_digits(&values(&ones.or_zero()), &[0.0, 0.25]);
}
