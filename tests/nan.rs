//! NaN and infinity travel: no device takes a product with a zero, or a difference with itself, for zero.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "common/mod.rs"]
mod common;

use common::{Evaluate, Tensor, adapter_present, evaluators, grad};

#[test]
fn nothing_that_is_not_a_number_becomes_one() {
    let x = Tensor::new([0.0, 1.0, -1.0]);
    let slope = |y: Tensor| grad(&y.sum(..), &x).unwrap().or_error().unwrap();
    let (log, recip) = (x.log(), x.recip());
    let cases: Vec<(&str, Tensor)> = vec![
        ("log * 0", &log * 0.0),
        ("0 * log", 0.0 * &log),
        ("log * -0", &log * -0.0),
        ("recip * 0", &recip * 0.0),
        ("1 / x * 0", (1.0 / &x) * 0.0),
        ("recip * zeros", &recip * Tensor::zeros([3])),
        ("0 / (x - x)", 0.0 / (&x - &x)),
        ("log - log", &log - &log),
        ("recip - recip", &recip - &recip),
        ("slope of sqrt * 0", slope(x.sqrt() * 0.0)),
        ("slope of log * 0", slope(&log * 0.0)),
        ("slope of exp(log) * 0", slope(log.exp() * 0.0)),
    ];
    let tensors: Vec<&Tensor> = cases.iter().map(|(_, tensor)| tensor).collect();
    let evaluators = evaluators();
    adapter_present(&evaluators).unwrap();
    for evaluator in &evaluators {
        // Alone, and where all of them share kernels.
        let together = evaluator.evaluate(&tensors).unwrap();
        for ((name, tensor), with_others) in cases.iter().zip(together) {
            let alone = evaluator.evaluate(&[tensor]).unwrap().remove(0);
            for values in [alone.to_f64(), with_others.to_f64()] {
                assert!(values[0].is_nan(), "{name} on {}: {values:?}", evaluator.slug);
            }
        }
    }
}
