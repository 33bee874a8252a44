//! Loops whose rounds are counted when they run: values, derivatives of every order and both modes, on the reference.

use cotangent_autograd::{State, batch, check::gradcheck, grad, hvp, jvp};
use cotangent_tensor::{Code, DType, Error, Evaluate, Reference, Tensor, WhileLoop};

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Reference::new().evaluate(&[tensor]).expect("it is computed")[0].to_f64()
}
fn close(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.iter().zip(wanted) {
        let tolerance = 1e-12 * (1.0 + wanted.abs());
        assert!((got - wanted).abs() <= tolerance, "{got} is not {wanted}");
    }
}

/// The gradient of the sum of `y`.
fn slope(y: &Tensor, x: &Tensor) -> Tensor {
    grad(&y.sum(..), x).expect("a gradient").value().expect("a value").clone()
}

/// `x + x² + … + xⁿ`.
fn geo(x: &Tensor, n: &Tensor) -> Tensor {
    let initial =
        [&Tensor::full(x.shape(), 0i32), &Tensor::full(x.shape(), 1.0), &Tensor::full(x.shape(), 0.0)];
    let state = Tensor::while_loop("geo", 1000, &initial, &[x, n], |state, captured| {
        let [i, t, s] = [&state[0], &state[1], &state[2]];
        let t = t * &captured[0];
        (i.lt(&captured[1]), vec![i + 1i32, t.clone(), s + t])
    });
    state[2].clone()
}

/// The square root of `a` by Heron's rule, until `x²` is near.
fn heron(a: &Tensor) -> Tensor {
    let state = Tensor::while_loop("heron", 1000, &[a], &[a], |state, captured| {
        let (x, a) = (&state[0], &captured[0]);
        ((x * x - a).abs().gt(a * 0.0009765625), vec![(x + a / x) * 0.5])
    });
    state[0].clone()
}

#[test]
fn every_element_counts_its_own_rounds() {
    let x = Tensor::new([0.5, 2.0, 3.0, 3.0]);
    let n = Tensor::new([4i32, 3, 0, 1]);
    close(&numbers(&geo(&x, &n)), &[0.9375, 14.0, 0.0, 3.0]);
    // Σ k xᵏ⁻¹ and Σ k (k − 1) xᵏ⁻²
    let first = slope(&geo(&x, &n), &x);
    close(&numbers(&first), &[3.25, 17.0, 0.0, 1.0]);
    let curve = slope(&first, &x);
    close(&numbers(&curve), &[8.0, 14.0, 0.0, 0.0]);
    let third = slope(&curve, &x);
    close(&numbers(&third), &[6.0 + 24.0 * 0.5, 6.0, 0.0, 0.0]);
}

#[test]
fn a_search_is_differentiated_as_the_rounds_it_ran() {
    let a = Tensor::new([9.0]);
    let root = heron(&a);
    close(&numbers(&root), &[3.00009155413138]);
    let first = slope(&root, &a);
    let curve = slope(&first, &a);
    let (slope, curve) = (numbers(&first)[0], numbers(&curve)[0]);
    assert!(
        (slope - 0.166732790026).abs() < 1e-11 && (curve + 0.00922308792783).abs() < 1e-12,
        "{slope} {curve}"
    );
}

#[test]
fn forward_mode_agrees_with_reverse_mode() {
    let x = Tensor::new([0.5, 2.0, 0.25]);
    let n = Tensor::new([4i32, 3, 7]);
    let direction = Tensor::new([1.0, -2.0, 0.5]);
    let y = geo(&x, &n);
    let pushed = jvp(&[&y], &[(&x, &direction)]).expect("a tangent");
    let pulled = slope(&(&y * 1.0), &x);
    close(&numbers(&pushed[0]), &numbers(&(pulled * &direction)));
    let second = hvp(&y.sum(..), &x, &direction).expect("a product");
    let first = slope(&y, &x);
    let curve = slope(&first, &x);
    close(&numbers(&second), &numbers(&(curve * &direction)));
}

#[test]
fn differences_see_the_same_slopes() {
    let report = gradcheck(
        |x| geo(&x[0], &Tensor::new([4i32, 3])).sum(..),
        [&Tensor::new([0.5, 1.5])],
        &Reference::new(),
    );
    assert!(report.expect("it is checked").is_ok());
    // 0.3 and 3 are no places where the number of rounds changes
    let report = gradcheck(|x| heron(&x[0]).sum(..), [&Tensor::new([0.3, 3.0])], &Reference::new());
    assert!(report.expect("it is checked").is_ok());
}

#[test]
fn an_operand_that_does_not_move_meets_no_pole() {
    // after a round `b` is `y`, which is 0: the slope of `sqrt` there is infinite, and `x` does not move `b`
    let (x, y) = (Tensor::new([2.0]), Tensor::new([0.0]));
    let (zero, one) = (Tensor::new([0i32]), Tensor::new([1.0]));
    let state = Tensor::while_loop("pole", 10, &[&zero, &one, &one], &[&x, &y], |state, captured| {
        let (x, y) = (&captured[0], &captured[1]);
        (state[0].lt(2i32), vec![&state[0] + 1i32, y.clone(), x * state[1].sqrt()])
    });
    let slopes = grad(&state[2].sum(..), [&x]).expect("a gradient");
    close(&numbers(slopes[0].value().expect("a value")), &[0.0]);
    let pushed = jvp(&[&state[2]], &[(&x, &one)]).expect("a tangent");
    close(&numbers(&pushed[0]), &[0.0]);
}

#[test]
fn a_branch_that_is_not_taken_gives_no_nan() {
    // 1 / x runs only where x is positive
    let x = Tensor::new([0.0, 2.0]);
    let counter = Tensor::new([0i32, 0]);
    let state = Tensor::while_loop("inverse", 10, &[&counter, &x], &[&x], |state, captured| {
        (state[0].lt(1i32), vec![&state[0] + 1i32, captured[0].recip()])
    });
    let y = x.gt(0.0).select(&state[1], 7.0);
    let first = slope(&y, &x);
    close(&numbers(&first), &[0.0, -0.25]);
}

#[test]
fn a_batch_is_each_example_by_itself() {
    let x = Tensor::new([0.5, 2.0, 3.0]);
    let y = batch([&x], |[x]| geo(&x, &Tensor::new(3i32)));
    close(&numbers(&y), &[0.875, 14.0, 39.0]);
}

#[test]
fn loops_lie_inside_of_loops() {
    // Σ_{i<n} x^i by an inner loop for each power
    let x = Tensor::new([2.0, 0.5]);
    let n = Tensor::new([4i32, 3]);
    let state = Tensor::while_loop(
        "outer",
        100,
        &[&Tensor::full([2], 0i32), &Tensor::full([2], 0.0)],
        &[&x, &n],
        |state, captured| {
            let (i, s) = (&state[0], &state[1]);
            let (zero, one) = (Tensor::full([], 0i32), Tensor::full([], 1.0));
            let power =
                Tensor::while_loop("inner", 100, &[&zero, &one], &[&captured[0], i], |state, captured| {
                    (state[0].lt(&captured[1]), vec![&state[0] + 1i32, &state[1] * &captured[0]])
                });
            (i.lt(&captured[1]), vec![i + 1i32, s + &power[1]])
        },
    );
    close(&numbers(&state[1]), &[15.0, 1.75]);
    let first = slope(&state[1], &x);
    close(&numbers(&first), &[1.0 + 4.0 + 12.0, 2.0]);
    let curve = slope(&first, &x);
    close(&numbers(&curve), &[2.0 + 12.0, 2.0]);
}

#[track_caller]
fn code(result: Result<impl Sized, Error>) -> Code {
    result.map(|_| ()).expect_err("it is refused").code()
}

#[test]
fn what_cannot_be_a_loop_says_why() {
    let x = Tensor::new([1.0, 2.0]);
    let endless = Tensor::while_loop("endless", 9, &[&x], &[], |x, _| (x[0].lt(5.0), vec![&x[0] * 1.0]));
    let error = Reference::new().evaluate(&[&endless[0]]).expect_err("it never ends");
    assert_eq!(error.code(), Code::LoopRounds);
    assert!(error.to_string().contains("element 0 does not end within 9 rounds"), "{error}");
    let number = Tensor::while_loop("number", 9, &[&x], &[], |x, _| (x[0].clone(), vec![x[0].clone()]));
    assert_eq!(code(number[0].node()), Code::Dtype);
    let other =
        Tensor::while_loop("other", 9, &[&x], &[], |x, _| (x[0].lt(1.0), vec![x[0].cast(DType::I32)]));
    assert_eq!(code(other[0].node()), Code::Dtype);
    let outside =
        Tensor::while_loop("outside", 9, &[&x], &[], |s, _| (s[0].lt(1.0), vec![&s[0] + x.sum(..)]));
    assert_eq!(code(outside[0].node()), Code::LoopBody);
    let input = Tensor::input("u", [], DType::F32);
    let stranger = Tensor::while_loop("stranger", 9, &[&x], &[], |s, _| (s[0].lt(1.0), vec![&s[0] + &input]));
    assert_eq!(code(stranger[0].node()), Code::RuleCapture);
    let shapes = Tensor::while_loop("shapes", 9, &[&x], &[&Tensor::new([1.0, 2.0, 3.0])], |s, c| {
        (s[0].lt(&c[0]), vec![&s[0] + 1.0])
    });
    assert_eq!(code(shapes[0].node()), Code::Broadcast);
    let many: Vec<Tensor> = (0..33).map(|_| Tensor::new(1.0)).collect();
    let sum =
        Tensor::while_loop("wide", 9, &[&Tensor::new(0.0)], &many.iter().collect::<Vec<_>>(), |s, c| {
            (s[0].lt(1.0), vec![c.iter().fold(s[0].clone(), |sum, x| sum + x)])
        });
    assert_eq!(code(grad(&sum[0], many.iter().collect::<Vec<_>>())), Code::LoopInputs);
    let y = Tensor::new([3.0, 4.0]);
    let whole = Tensor::while_loop("whole", 9, &[&x], &[&y], |s, c| {
        (s[0].lt(3.0), vec![&s[0] + (&c[0] * 2.0).cast(DType::I32).cast(DType::F32)])
    });
    close(&numbers(&slope(&whole[0], &x)), &[1.0, 1.0]);
    let lost = grad(&whole[0].sum(..), &y).expect("a gradient");
    assert!(matches!(lost.state(), State::NotDifferentiable { .. }), "{lost:?}");
    assert_eq!(code(jvp(&[&whole[0]], &[(&y, &y)])), Code::NotDifferentiable);
    let _ = WhileLoop::new("empty", 1, (&[], &[]), &Tensor::full([], false), &[]).expect("nothing to do");
}
