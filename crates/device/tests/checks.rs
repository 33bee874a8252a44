//! What the checks of a device see: in the cross-check, at level `Nan`, and of indices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{devices, software};
use cotangent_device::{Device, Fault, FaultPlan, Options, cross_check};
use cotangent_shaders::Target;
use cotangent_tensor::{Code, Tensor};

/// The CPU device, and the software adapter with kernels of CPU adapters and of GPUs.
fn all() -> Vec<Device> {
    devices().into_iter().chain([software().with_limits(&Target::web()).unwrap()]).collect()
}
fn damaged(device: &Device, faults: impl IntoIterator<Item = Fault>) -> Device {
    let options = Options {
        faults: FaultPlan::new(faults),
        target: (device.name() != "cpu").then(|| device.info().target.clone()),
        ..Options::default()
    };
    device.with_options(options).unwrap()
}

#[test]
fn cross_check_sees_one_term_missing_from_a_long_sum() {
    let n = 1 << 16;
    let ones = Tensor::ones([n]);
    let table = |shape: [usize; 2]| Tensor::ones(shape) + Tensor::zeros([]).named("nothing");
    for device in all() {
        let mut sums = vec![
            ("total", (&ones * 1.0 + 0.0).sum(..)),
            ("rows", table([40, n]).sum(1)),
            ("columns", table([n, 40]).sum(0)),
            ("running", (&ones + 0.0).cumulative_sum(0, true)),
        ];
        if device.name() != "cpu" {
            // The product of the CPU device promises no order of its sums, so that its bound is that of any order.
            sums.push(("product", table([3, n]).matmul(&table([n, 5]))));
        }
        for (what, sum) in sums {
            let kernels = cross_check(&device, &[&sum]).unwrap().kernels;
            // 65536.0 becomes 65535.0.
            let flip = |bit| Fault::FlipBit { kernel: kernels - 1, output: 0, element: 0, bit };
            let error = cross_check(&damaged(&device, (8..24).map(flip)), &[&sum]);
            let error = error.err().unwrap_or_else(|| panic!("{what} on {}: nothing seen", device.name()));
            assert_eq!(error.code(), Code::CrossCheck, "{what} on {}: {error}", device.name());
            let text = error.to_string();
            assert!(text.contains("65535") && text.contains("65536"), "{what} on {}: {text}", device.name());
        }
    }
}

#[test]
fn elements_without_a_bound_are_counted_apart() {
    for device in all() {
        // Near a pole an uncertain operand may be on either side of it.
        let x = Tensor::new([1e8, 2.0]) + 0.3;
        let y = (&x - Tensor::new([1e8, 0.0])).recip();
        let report = cross_check(&device, &[&y]).unwrap();
        assert_eq!(report.cases + report.unbounded, 2, "{report:?}");
        assert!(report.unbounded > 0, "{report:?}");
    }
}
