//! Every row of the elementwise table, at first and second order, against independent witnesses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{State, grad, vjp};
use cotangent_tensor::{Class, Code, Elementwise, Real, Tensor};
use support::cases::arguments;
use support::{Compared, Noise, witness};

#[test]
fn every_row_agrees_with_its_witnesses() {
    let (mut compared, mut rows, mut mid_graph) = (Compared::default(), 0, 0);
    let mut noise = Noise(7);
    for &row in Elementwise::ALL {
        if matches!(row.class(), Class::Test | Class::Logic) {
            continue;
        }
        rows += 1;
        for (round, shape) in [&[7][..], &[2, 3], &[], &[0, 2]].into_iter().enumerate() {
            let inputs = arguments(row, shape, &mut noise);
            let function = |x: &[Tensor]| Tensor::apply(row, &x.iter().collect::<Vec<_>>());
            let points: Vec<Tensor> = inputs.iter().map(|a| Tensor::new(a.clone())).collect();
            let first = points.iter().find(|p| p.dtype().is_float()).unwrap();
            let gradient = grad(&function(&points).sum(..), first).unwrap();
            if let Err(error) = gradient.or_error() {
                // The only row without a derivative says which function is missing.
                assert_eq!((row, error.code()), (Elementwise::Trigamma, Code::NoDerivative));
                assert!(error.message().contains("tetragamma"), "{error}");
                continue;
            }
            mid_graph += support::mid_graph(row.name(), &function, &inputs);
            compared +=
                witness(row.name(), &function, &inputs, round as u64).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    println!("{rows} rows, {compared:?}, {mid_graph} gradients in the middle of a graph");
    assert_eq!(mid_graph, compared.first);
    assert!(rows > 40 && compared.pairings >= 4 * 4 * (rows - 1), "{rows} rows, {compared:?}");
    assert!(
        compared.first >= 14 * (rows - 1) && compared.second >= 14 * (rows - 3),
        "{rows} rows, {compared:?}"
    );
}

#[test]
fn rows_with_broadcast_operands_agree_with_their_witnesses() {
    let mut noise = Noise(11);
    let mut compared = Compared::default();
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[3], &[]),
        (&[3, 1], &[1, 4]),
        (&[2, 1, 3], &[2, 3]),
        (&[1], &[4]),
        (&[4, 0], &[4, 1]),
        (&[], &[2, 2]),
        (&[1, 1], &[3]),
    ];
    for row in [Elementwise::Mul, Elementwise::Div, Elementwise::Max, Elementwise::Pow, Elementwise::Atan2] {
        for (a, b) in shapes {
            let inputs = [noise.array(a, 0.3, 2.0), noise.array(b, 0.4, 1.9)];
            let function = |x: &[Tensor]| Tensor::apply(row, &[&x[0], &x[1]]);
            compared += witness(row.name(), &function, &inputs, 3).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    println!("{compared:?}");
    assert!(compared.pairings == 4 * 5 * 7 && compared.first > 5 * 30);
}

#[test]
fn tests_and_logic_have_no_gradient_and_conditions_are_piecewise_constant() {
    let x = Tensor::new([0.5, -0.5]);
    let mut seen = 0;
    for &row in Elementwise::ALL {
        if row.class() != Class::Test {
            continue;
        }
        seen += 1;
        let operands = vec![&x; row.arity()];
        let test = Tensor::apply(row, &operands);
        let error = vjp(&[(&test, &test)], &x).unwrap_err();
        assert_eq!(error.code(), Code::NotDifferentiable);
        let chosen = test.select(1.0, 0.0).sum(..);
        assert!(matches!(grad(&chosen, &x).unwrap().state(), State::Zero), "{row:?}");
    }
    assert!(seen >= 7);
}
