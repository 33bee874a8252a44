//! Loops whose rounds are counted when they run, in whole programs: values, gradients and second derivatives on every device, in one
//! kernel and one run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent::prelude::*;
use cotangent::{cross_check, hvp, wgsl};

fn devices() -> Vec<Device> {
    vec![Device::cpu(), Device::software().expect("tests need a software adapter: run them by ./tools/test")]
}

const TEXT: &str = "
fn geo(x: f32, n: i32) -> f32 {
    var t = 1.0;
    var s = 0.0;
    for (var i = 0; i < n; i++) { t *= x; s += t; }
    return s;
}
fn heron(a: f32) -> f32 {
    var x = a;
    while (abs(x * x - a) > 0.0009765625 * a) { x = 0.5 * (x + a / x); }
    return x;
}
fn loss(x: f32, y: f32, n: i32) -> f32 {
    let r = geo(x, n) - y;
    if (r < 0.0) { return heron(1.0 - r); }
    return r * r;
}";

fn function(name: &str) -> wgsl::Function {
    wgsl::Module::parse("loops.wgsl", TEXT).unwrap().unbounded(500).function(name).unwrap()
}

#[test]
fn gradients_on_devices_stay_within_their_bounds() {
    let place = Tensor::iota([40, 7], 0) * 7i32 + Tensor::iota([40, 7], 1);
    let x = (&place % 13i32).cast(DType::F32) * 0.1 + 0.05;
    let y = (&place % 5i32).cast(DType::F32) * 0.5 + 0.3;
    let n = &place % 6i32;
    let losses = function("loss").call(&[&x, &y, &n]);
    let total = losses.mean(..);
    let slopes = grad(&total, [&x, &y]).unwrap();
    let [dx, dy] = [slopes[0].or_error().unwrap(), slopes[1].or_error().unwrap()];
    let second = hvp(&total, &x, &y).unwrap();
    for device in devices() {
        for outputs in [vec![&losses], vec![&total], vec![&dx, &dy], vec![&total, &dx, &dy], vec![&second]] {
            let report = cross_check(&device, &outputs).unwrap_or_else(|e| panic!("{}: {e}", device.name()));
            let elements: usize = outputs.iter().map(|output| output.shape().elements()).sum();
            assert!(
                report.unbounded * 2 < elements + 2,
                "{}: {} of {elements}",
                device.name(),
                report.unbounded
            );
        }
    }
}

#[test]
fn a_loss_and_its_gradient_are_one_run_of_one_loop() {
    let x = Tensor::new([0.5, 1.5, 2.0]);
    let n = Tensor::new([4i32, 2, 3]);
    for device in devices() {
        let y = function("geo").call(&[&x, &n]);
        let slope = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
        let step = Step::new(&device, &[], &[&y.sum(..), &slope], &[]).unwrap();
        let text = step.explain();
        assert_eq!((text.matches("While(").count(), text.matches("kernels").count()), (1, 1), "{text}");
        assert!(text.contains("1 kernels"), "{text}");
        // the second derivative too
        let curve = hvp(&y.sum(..), &x, &Tensor::ones(x.shape())).unwrap();
        let step = Step::new(&device, &[], &[&y, &slope, &curve], &[]).unwrap();
        let text = step.explain();
        println!("{text}");
        assert!(text.matches("While(").count() <= 2, "{text}");
    }
}
