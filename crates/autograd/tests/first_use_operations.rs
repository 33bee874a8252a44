//! Rules at their first use: each operation as a rule of its own, with the derivative that it has, is never refused.

#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{custom_gradient, grad, jvp, vjp};
use cotangent_tensor::{Array, Class, Code, DType, Elementwise, Error, Real, Tensor};
use support::Noise;
use support::cases::{arguments, cases};

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

/// Where functions end, bend or overflow.
const SPECIAL: [f64; 14] =
    [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-8, -1e-8, 1e8, -1e30, 1e30, f64::INFINITY, f64::NAN];

/// Rows whose derivative is zero, also times a factor.
const FLAT: [&str; 5] = ["sign", "floor", "ceil", "round", "trunc"];

/// The function as a rule, whose gradients are those of the function times a factor.
fn wrapped(function: Function<'_>, inputs: &[Tensor], factor: f64) -> Tensor {
    custom_gradient("wrapped", inputs.iter().collect::<Vec<_>>(), |x: Vec<Tensor>| {
        let y = function(&x);
        let result = y.clone();
        let gradients = move |u: Tensor| {
            let float = |x: &&Tensor| x.dtype().is_float();
            let slopes = vjp(&[(&y, &u)], x.iter().filter(float).collect::<Vec<_>>());
            let mut slopes = slopes.unwrap_or_default().into_iter();
            let mut next = |x: &Tensor| {
                let slope = slopes.next().map_or_else(|| Tensor::zeros(x.shape()), |slope| slope.or_zero());
                (slope * factor).cast(x.dtype())
            };
            x.iter().map(|x| x.dtype().is_float().then(|| next(x))).collect::<Vec<_>>()
        };
        (result, gradients)
    })
}

/// Both modes by all floats.
fn derivatives(y: &Tensor, inputs: &[Tensor]) -> Result<(), Error> {
    let floats: Vec<&Tensor> = inputs.iter().filter(|x| x.dtype().is_float()).collect();
    let tangents: Vec<Tensor> = floats.iter().map(|x| Tensor::ones(x.shape()).cast(x.dtype())).collect();
    let moved: Vec<(&Tensor, &Tensor)> = floats.iter().copied().zip(&tangents).collect();
    grad(&y.cast(DType::F32).sum(..), floats)?;
    match jvp(&[y], &moved) {
        Err(error) if error.code() != Code::NoJvp => Err(error),
        _ => Ok(()),
    }
}

/// How many of the right rules were there, and how many of the wrong ones were refused.
#[derive(Default)]
struct Count {
    right: usize,
    refused: usize,
}

impl Count {
    fn add(&mut self, name: &str, function: Function<'_>, inputs: &[Tensor]) {
        let right = wrapped(function, inputs, 1.0);
        if right.error().is_some() || !right.dtype().is_float() {
            return;
        }
        let error = derivatives(&right, inputs).err();
        let refuses =
            |error: &Error| matches!(error.code(), Code::RuleWrong | Code::RuleLinear | Code::RuleForward);
        assert!(!error.as_ref().is_some_and(refuses), "{name}: {}", error.unwrap());
        self.right += 1;
        let empty = |tensor: &Tensor| tensor.shape().contains(&0);
        let is_empty = empty(&right) || inputs.iter().filter(|x| x.dtype().is_float()).all(empty);
        let refused = derivatives(&wrapped(function, inputs, 1.25), inputs).is_err();
        assert_eq!(refused, !is_empty && !FLAT.contains(&name), "{name}: a wrong rule");
        self.refused += usize::from(refused);
    }
}

fn unknown(inputs: &[Array]) -> Vec<Tensor> {
    inputs.iter().map(|array| Tensor::input("x", array.shape(), array.dtype())).collect()
}

fn known(inputs: &[Array]) -> Vec<Tensor> {
    inputs.iter().cloned().map(Tensor::new).collect()
}

#[test]
fn no_structural_operation_is_refused() {
    let mut count = Count::default();
    for (name, inputs, function) in cases(&mut Noise(11)) {
        count.add(name, &*function, &known(&inputs));
        count.add(name, &*function, &unknown(&inputs));
    }
    println!("{} rules, {} wrong ones refused", count.right, count.refused);
    assert!(count.right > 100 && count.refused > 100, "{} of {}", count.refused, count.right);
}

#[test]
fn no_row_is_refused_wherever_it_is() {
    let mut count = Count::default();
    for &row in Elementwise::ALL.iter().filter(|row| row.class() == Class::Real) {
        let function = move |x: &[Tensor]| Tensor::apply(row, &x.iter().collect::<Vec<_>>());
        let inputs = arguments(row, &[5], &mut Noise(3));
        count.add(row.name(), &function, &known(&inputs));
        count.add(row.name(), &function, &unknown(&inputs));
        for shift in (0..SPECIAL.len()).step_by(3) {
            let special = |operand: usize| {
                let at = |i: usize| SPECIAL[(i + operand * shift) % SPECIAL.len()];
                Array::from((0..SPECIAL.len()).map(at).collect::<Vec<f64>>())
            };
            let inputs: Vec<Array> = (0..row.arity()).map(special).collect();
            count.add(row.name(), &function, &known(&inputs));
            // One by one, so that nothing hides behind what is not finite.
            let one: Vec<Array> = inputs.iter().map(|x| Array::from(vec![x.to_f64()[shift]])).collect();
            count.add(row.name(), &function, &known(&one));
        }
    }
    println!("{} rules, {} wrong ones refused", count.right, count.refused);
    assert!(count.right > 500 && count.refused > 400, "{} of {}", count.refused, count.right);
}
