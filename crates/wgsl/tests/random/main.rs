//! Random functions: what the graph computes, in value and gradient, is what a walk through the program computes with
//! dual numbers, one path at a time. Branches that are not taken may be NaN.
//!
//! `PROGRAMS=10000 cargo test -p cotangent-wgsl --test random` tries more.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "tests")]

mod generator;

use cotangent_autograd::grad;
use cotangent_tensor::{Code, Evaluate, Reference, Tensor};
use cotangent_wgsl::Module;
use generator::{Dual, FLOATS, Generator, Random, walk};

/// Points at which each program is tried.
const POINTS: usize = 6;

#[test]
fn random_functions_compute_what_a_walk_computes() {
    let programs: u64 = std::env::var("PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let (mut compared, mut slopes, mut large, mut hidden) = (0usize, 0usize, 0, 0usize);
    for seed in 0..programs {
        let program = Generator::program(seed);
        let text = program.text();
        // Loops written out, and loops that stay loops.
        for unrolled in [256, 0] {
            let module = Module::parse("random.wgsl", &text)
                .unwrap_or_else(|error| panic!("{seed}: {text}\n{error}"))
                .unroll(unrolled);
            let f = match module.function("f") {
                Ok(f) => f,
                Err(error) if matches!(error.code(), Code::WgslNodes | Code::WgslLimit) => {
                    large += 1;
                    continue;
                }
                Err(error) => panic!("{seed}: {text}\n{error}"),
            };
            let mut random = Random(seed ^ 0xABCD);
            let points: Vec<([f64; FLOATS], i32)> = (0..POINTS)
                .map(|i| {
                    ([0; FLOATS].map(|_| random.eighth() + 0.03125 * random.below(4) as f64), i as i32 % 3)
                })
                .collect();
            let column = |i: usize| Tensor::new(points.iter().map(|p| p.0[i]).collect::<Vec<f64>>());
            let inputs = [column(0), column(1), column(2)];
            let k = Tensor::new(points.iter().map(|p| p.1).collect::<Vec<i32>>());
            let y = f.call(&[&inputs[0], &inputs[1], &inputs[2], &k]);
            let total = y.sum(..);
            let mut wanted = vec![y.clone()];
            wanted.extend(inputs.iter().map(|input| grad(&total, input).unwrap().or_zero()));
            let values = Reference::new()
                .evaluate(&wanted.iter().collect::<Vec<_>>())
                .unwrap_or_else(|error| panic!("{seed}: {text}\n{error}"));
            let values: Vec<Vec<f64>> = values.iter().map(|value| value.to_f64()).collect();
            hidden +=
                usize::from(text.contains("sqrt(") || text.contains("log(") || text.contains("inverseSqrt("));
            for (p, (point, k)) in points.iter().enumerate() {
                let Some(Dual(value, slope)) = walk(&program, *point, *k) else { continue };
                if !value.is_finite() {
                    continue;
                }
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-7 * (1.0 + a.abs().max(b.abs()));
                assert!(
                    near(values[0][p], value),
                    "{seed} at {point:?}, {k}: {} for {value}\n{text}",
                    values[0][p]
                );
                compared += 1;
                for (i, expected) in slope.into_iter().enumerate() {
                    // an infinite slope on the way, times 0, is NaN in reverse mode
                    if expected.is_finite() && expected.abs() < 1e12 {
                        let got = values[i + 1][p];
                        assert!(
                            near(got, expected),
                            "{seed} at {point:?}, {k}: slope {i} is {got} for {expected}\n{text}"
                        );
                        slopes += 1;
                    }
                }
            }
        }
    }
    println!(
        "{programs} programs: {compared} values and {slopes} slopes, {large} too large, {hidden} with singular functions"
    );
    let few = programs as usize;
    assert!(compared > few && slopes > 2 * few && hidden > few / 2, "{compared} {slopes} {hidden}");
}
