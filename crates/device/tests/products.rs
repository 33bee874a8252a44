//! Variables updated by matrix products: small integers, so that every sum is exact.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::devices;
use cotangent_device::Step;
use cotangent_tensor::Tensor;

fn numbers(rows: usize, columns: usize, factor: usize) -> (Tensor, Vec<f64>) {
    let values: Vec<f64> = (0..rows * columns).map(|i| ((i * factor) % 7) as f64 - 3.0).collect();
    let shape = [rows, columns].map(|d| isize::try_from(d).unwrap());
    (Tensor::new(values.clone()).reshape(shape), values)
}

fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> Vec<f64> {
    (0..m * n).map(|i| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum()).collect()
}

/// `w ← w − x·y`: the product is computed where `w` lies.
#[test]
fn a_product_updates_in_place() {
    for device in devices() {
        for [m, n, k] in [[5, 3, 4], [40, 36, 20], [130, 70, 33], [4, 5, 3000]] {
            let ((x, x_values), (y, y_values), (w, w_values)) =
                (numbers(m, k, 5), numbers(k, n, 3), numbers(m, n, 11));
            let variable = device.variable("w", &w).unwrap();
            let next = variable.tensor() - x.matmul(&y);
            let step = Step::new(&device, &[], &[], &[(&variable, &next)]).unwrap();
            step.run(&[]).unwrap();
            let expected: Vec<f64> =
                w_values.iter().zip(product(&x_values, &y_values, [m, n, k])).map(|(w, p)| w - p).collect();
            assert_eq!(device.read(&variable).unwrap().to_f64(), expected, "{} {m}×{n}×{k}", device.name());
            assert!(!step.explain().to_string().contains("copy_to"), "{}", step.explain());
        }
    }
}

/// `w ← x·w` reads all of `w` for every element it writes.
#[test]
fn a_product_of_the_variable_itself_is_not_computed_in_place() {
    for device in devices() {
        for size in [3, 20, 70] {
            let ((x, x_values), (w, w_values)) = (numbers(size, size, 5), numbers(size, size, 11));
            let variable = device.variable("w", &w).unwrap();
            let next = x.matmul(variable.tensor()) + variable.tensor();
            let step = Step::new(&device, &[], &[], &[(&variable, &next)]).unwrap();
            step.run(&[]).unwrap();
            let products = product(&x_values, &w_values, [size, size, size]);
            let expected: Vec<f64> = w_values.iter().zip(products).map(|(w, p)| w + p).collect();
            assert_eq!(device.read(&variable).unwrap().to_f64(), expected, "{} {size}", device.name());
        }
    }
}

/// `Xᵀ·(X·w)`, the columns and rows of which a step on the CPU device sums block by block; with kernels for themselves, also in
/// cross-checks, the same numbers.
#[test]
fn a_linear_model_says_which_kernels_take_turns() {
    let (rows, columns) = (5000, 40);
    let ((x, x_values), (w, w_values)) = (numbers(rows, columns, 5), numbers(columns, 1, 3));
    let eta = product(&x_values, &w_values, [rows, 1, columns]);
    let transposed: Vec<f64> = (0..columns * rows).map(|i| x_values[i % rows * columns + i / rows]).collect();
    let expected = product(&transposed, &eta, [columns, 1, rows]);
    for device in devices() {
        let gradient = x.transpose().matmul(&x.matmul(&w));
        let step = Step::new(&device, &[], &[&gradient], &[]).unwrap();
        assert_eq!(step.explain().contains("takes turns with kernel 1"), device.name() == "cpu");
        assert_eq!(step.run(&[]).unwrap().read(0).unwrap().to_f64(), expected, "{}", device.name());
        let report = step.cross_check(&[]).unwrap();
        assert_eq!((report.kernels, report.unbounded), (2, 0));
    }
}
