//! Random functions in WGSL on devices: values and gradients of loops that are written out and of loops that stay loops lie within their
//! bounds, and the two agree.
//!
//! `PROGRAMS=1000 cargo test --test random_wgsl` tries more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../crates/wgsl/tests/random/generator.rs"]
#[allow(dead_code, reason = "the walk is for the reference")]
mod generator;

use cotangent::prelude::*;
use cotangent::{cross_check, wgsl};
use generator::{FLOATS, Generator, Random};

const POINTS: usize = 50;

#[test]
fn random_functions_on_devices_stay_within_their_bounds() {
    let programs: u64 = std::env::var("PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let software = Device::software().expect("tests need a software adapter: run them by ./tools/test");
    let devices = [Device::cpu(), software];
    let (mut compared, mut unbounded, mut looped) = (0, 0, 0);
    for seed in 0..programs {
        let text = Generator::program(seed).text();
        // What drivers take long to compile is left to runs that have the time.
        if programs < 100 && text.len() > 1500 {
            continue;
        }
        let mut random = Random(seed ^ 0x1234);
        let column = |random: &mut Random| {
            let numbers = (0..POINTS).map(|_| random.eighth() + 0.03125 * random.below(4) as f64);
            Tensor::new(numbers.collect::<Vec<f64>>())
        };
        let inputs: [Tensor; FLOATS] = std::array::from_fn(|_| column(&mut random));
        let k = Tensor::new((0..POINTS).map(|i| i as i32 % 3).collect::<Vec<i32>>());
        for unrolled in [256, 0] {
            let module = wgsl::Module::parse("random.wgsl", &text).unwrap().unroll(unrolled);
            let Ok(f) = module.function("f") else { continue };
            let y = f.call(&[&inputs[0], &inputs[1], &inputs[2], &k]);
            let slopes = grad(&y.sum(..), &inputs).unwrap();
            let slopes: Vec<Tensor> = slopes.iter().map(|slope| slope.or_zero()).collect();
            let outputs: Vec<&Tensor> = [&y].into_iter().chain(&slopes).collect();
            for device in &devices {
                let report = cross_check(device, &outputs);
                let report =
                    report.unwrap_or_else(|e| panic!("{seed} on {}, {unrolled}: {text}\n{e}", device.name()));
                compared += outputs.len() * POINTS;
                unbounded += report.unbounded;
            }
            looped += usize::from(
                unrolled == 0 && format!("{:?}", y.node().unwrap()).contains("while") || text.contains("for"),
            );
        }
    }
    println!("{programs} programs: {compared} elements, {unbounded} without a bound, {looped} with loops");
    assert!(unbounded * 2 < compared && looped > 0, "{unbounded} of {compared}");
}
