//! Derivatives of the normal law and of Bessel functions in f32, far out, where textbook forms have no digits left.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::excessive_precision, reason = "the digits of mpmath are kept as printed")]

use cotangent::prelude::*;
use cotangent::{Elementwise, Real, ulp};

/// An argument, and first and second derivative there (mpmath, 40 digits).
type Known = (f64, [f64; 2]);

const LOG_NDTR: [Known; 4] = [
    (-1e30, [1e30, -1.0]),
    (-10_000.0, [10_000.000_099_999_998, -0.999_999_990_000_000_6]),
    (-40.0, [40.024_968_847_207_264, -0.999_377_331_621_408_6]),
    (-16.5, [16.560_168_798_984_088, -0.996_405_467_608_647_3]),
];
const I0E: [Known; 2] = [
    (-1e6, [1.994_712_150_024_640_4e-10, 2.992_068_973_055_138_9e-16]),
    (-51.0, [0.000_551_780_651_013_288_4, 1.631_083_857_889_521e-5]),
];
const I1E: [Known; 2] = [
    (-1e6, [-1.994_709_157_955_667_4e-10, -2.992_061_492_880_836e-16]),
    (-51.0, [-0.000_535_469_812_434_393_2, -1.550_720_604_624_351_3e-5]),
];

/// Nothing cancels: the error of the row, and one more unit for each operation after it.
fn allowed(row: Elementwise, order: usize) -> f64 {
    let operations = if row == Elementwise::LogNdtr { 4.0 } else { 12.0 };
    let first = if row == Elementwise::LogNdtr { Elementwise::InverseMills } else { row };
    first.ulp() + operations * order as f64
}

#[test]
fn first_and_second_derivatives_keep_their_digits_far_out() {
    let mut compared = 0;
    for device in [Device::cpu(), Device::software().unwrap()] {
        let tables: [(Elementwise, &[Known]); 3] =
            [(Elementwise::LogNdtr, &LOG_NDTR), (Elementwise::I0e, &I0E), (Elementwise::I1e, &I1E)];
        for (row, known) in tables {
            let x = Tensor::new(known.iter().map(|(at, _)| *at).collect::<Vec<f64>>());
            let mut y = Tensor::apply(row, &[&x]);
            for order in 0..2 {
                y = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
                for (got, (at, exact)) in device.read(&y).unwrap().to_f32().into_iter().zip(known) {
                    let error = ulp::error(got, exact[order]);
                    let name = format!("{} order {} at {at} on {}", row.name(), order + 1, device.name());
                    assert!(error <= allowed(row, order), "{name}: {got:e} is off by {error} ULP");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 2 * 2 * 8);
}

#[test]
fn slopes_at_zero_and_at_infinity_are_numbers() {
    let inf = f64::INFINITY;
    let cases: [(Elementwise, [f64; 4]); 4] = [
        // at −inf, 0, the smallest denormal and inf
        (Elementwise::InverseMills, [-1.0, -std::f64::consts::FRAC_2_PI, -std::f64::consts::FRAC_2_PI, 0.0]),
        (Elementwise::LogNdtr, [inf, 0.797_884_560_802_865_4, 0.797_884_560_802_865_4, 0.0]),
        (Elementwise::I0e, [0.0, 0.0, -1.0, 0.0]),
        (Elementwise::I1e, [0.0, 0.5, 0.5, 0.0]),
    ];
    let mut compared = 0;
    for device in [Device::cpu(), Device::software().unwrap()] {
        let x = Tensor::new([-inf, 0.0, f64::from(f32::from_bits(1)), inf]);
        for (row, expected) in &cases {
            let slope = grad(&Tensor::apply(*row, &[&x]).sum(..), &x).unwrap().or_error().unwrap();
            let got = device.read(&slope).unwrap().to_f32();
            for (got, expected) in got.into_iter().zip(expected) {
                let error = ulp::error(got, *expected);
                assert!(error <= allowed(*row, 1), "{} on {}: {got}, {expected}", row.name(), device.name());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * 4 * 4);
}
