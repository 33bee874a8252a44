//! Choosing devices, what they say about themselves, and what they do when something is wrong with them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::software;
use cotangent_device::{Choice, Device, Fault, FaultPlan, Kind, Options};
use cotangent_shaders::Target;
use cotangent_tensor::{Code, Tensor};

#[test]
fn the_probe_has_asked_the_software_adapter() {
    let device = software();
    let info = device.info();
    assert_eq!(info.kind, Kind::Software, "{info}");
    assert!(info.target.cpu, "{info}");
    assert!(info.probe.barrier_holds, "{info}");
    assert!(info.probe.nearest, "{info}");
    assert!(info.probe.third > 0.333 && info.probe.third < 0.334, "{info}");
    if device.name() == "vulkan llvmpipe" {
        assert_eq!(device.slug(), "vulkan_llvmpipe");
        assert_eq!(info.probe.loop_budget, Some(65_535), "{info}");
        assert_eq!(info.target.loop_budget, 65_535, "{info}");
        assert_eq!(info.probe.nan_passes, [false; 3], "{info}");
        assert!(!info.probe.nan_differs, "{info}");
        assert!(info.probe.reassociates && !info.probe.fma_fused && info.probe.denormals, "{info}");
    }
}

#[test]
fn the_cpu_device_computes_as_ieee_754_says() {
    let device = Device::cpu();
    let probe = &device.info().probe;
    assert!(probe.denormals && probe.nearest && probe.barrier_holds && probe.nan_differs, "{probe}");
    assert!(!probe.reassociates, "{probe}");
    assert_eq!((device.name(), device.slug().as_str(), device.pipelines()), ("cpu", "cpu", 0));
}

#[test]
fn best_never_takes_a_software_adapter_and_says_why() {
    let device = Device::best();
    assert_ne!(device.info().kind, Kind::Software);
    match device.info().kind {
        Kind::Cpu => assert!(device.why().contains("runs on CPU cores"), "{}", device.why()),
        Kind::Gpu | Kind::Software => assert!(device.why().contains("hardware"), "{}", device.why()),
    }
}

#[test]
fn all_lists_the_cpu_and_every_adapter() {
    let names: Vec<String> = Device::all().iter().map(|device| device.name().to_owned()).collect();
    assert_eq!(names[0], "cpu");
    assert!(names.len() > 1, "{names:?}");
}

#[test]
fn names_of_devices_are_parsed() {
    for (text, choice) in [
        ("best", Choice::Best),
        ("cpu", Choice::Cpu),
        ("gpu", Choice::Gpu(0)),
        ("gpu:3", Choice::Gpu(3)),
        ("software", Choice::Software),
    ] {
        assert_eq!(text.parse::<Choice>().unwrap(), choice);
    }
    for text in ["", "tpu", "gpu:", "gpu:x", "cpu:1"] {
        let error = text.parse::<Choice>().unwrap_err();
        assert_eq!(error.code(), Code::NoAdapter);
        assert!(error.to_string().contains("best, cpu, gpu, gpu:N, software"), "{error}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_refused_with_what_was_found() {
    let error = Device::gpu(99).unwrap_err();
    assert_eq!(error.code(), Code::NoAdapter);
    let text = error.to_string();
    assert!(text.contains("gpu:99") && text.contains("software"), "{text}");
}

#[test]
fn limits_are_those_asked_for_where_they_are_tighter() {
    let device = software().with_limits(&Target::web()).unwrap();
    let target = &device.info().target;
    assert_eq!(target.max_storage_buffers, 8);
    assert_eq!(target.max_invocations, 256);
    assert_eq!(target.max_workgroup_memory, 16_384);
    assert!(!target.cpu, "a wish for the web gets the kernels of a GPU");
    assert_eq!(target.subgroups, None);
    assert_ne!(device, software());
}

#[test]
fn a_tensor_above_the_binding_limit_is_refused_before_wgpu_sees_it() {
    for device in common::devices() {
        let tiny = Target { max_binding: 4096, ..Target::web() };
        let device = device.with_limits(&tiny).unwrap();
        let error = device.variable("big", &Tensor::zeros([1025])).unwrap_err();
        assert_eq!(error.code(), Code::Limit, "{}: {error}", device.name());
        assert!(device.variable("fits", &Tensor::zeros([1024])).is_ok(), "{}", device.name());
    }
}

#[test]
fn a_lost_device_says_so_from_every_handle() {
    let faults = FaultPlan::new([Fault::LoseDevice(0)]);
    let device = software().with_options(Options { faults, ..Options::default() }).unwrap();
    let w = device.variable("w", &[1.0, 2.0]).unwrap();
    let error = device.read(&(w.tensor() + 1.0)).unwrap_err();
    assert_eq!(error.code(), Code::DeviceLost, "{error}");
    assert!(device.faults()[0].1, "the fault has fired");
    let other = device.clone();
    assert_eq!(other.read(&w).unwrap_err().code(), Code::DeviceLost);
    assert_eq!(other.variable("v", &[1.0]).unwrap_err().code(), Code::DeviceLost);
    drop((w, device));
    assert_eq!(software().read(&Tensor::new([3.0])).unwrap().to_f32(), [3.0], "other devices live on");
}

#[test]
fn an_allocation_that_fails_is_an_error_and_the_device_works_on() {
    for device in common::devices() {
        let mut failures = 0;
        for n in 0..12 {
            let faults = FaultPlan::new([Fault::FailAllocation(n)]);
            let device = device.with_options(Options { faults, ..Options::default() }).unwrap();
            let attempt = |()| {
                let w = device.variable("w", &[1.0, 2.0])?;
                device.read(&(w.tensor() + 1.0))
            };
            // The fault fires once, in whichever attempt makes allocation `n`.
            for _ in 0..12 {
                match attempt(()) {
                    Ok(value) => {
                        assert_eq!(value.to_f32(), [2.0, 3.0], "allocation {n} on {}", device.name());
                    }
                    Err(error) => {
                        assert_eq!(error.code(), Code::OutOfMemory, "{error}");
                        assert!(error.to_string().contains("live"), "{error}");
                        failures += 1;
                    }
                }
            }
            assert!(device.faults()[0].1, "allocation {n} on {}", device.name());
            assert_eq!(attempt(()).unwrap().to_f32(), [2.0, 3.0], "allocation {n} on {}", device.name());
        }
        assert_eq!(failures, 12, "on {}", device.name());
    }
}

#[test]
fn a_wait_that_takes_too_long_is_an_error_and_the_device_works_on() {
    let faults = FaultPlan::new([Fault::TimeOut(0)]);
    let options = Options { faults, timeout: Duration::from_secs(60), ..Options::default() };
    let device = software().with_options(options).unwrap();
    let w = device.variable("w", &[1.0, 2.0]).unwrap();
    let error = device.read(&(w.tensor() + 1.0)).unwrap_err();
    assert_eq!(error.code(), Code::Timeout, "{error}");
    assert_eq!(device.read(&(w.tensor() + 1.0)).unwrap().to_f32(), [2.0, 3.0]);
}

#[test]
fn devices_are_used_from_many_threads() {
    fn check<T: Send + Sync>() {}
    check::<Device>();
    check::<cotangent_device::Step>();
    check::<cotangent_device::Variable>();
    for device in common::devices() {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let device = device.clone();
                scope.spawn(move || {
                    for round in 0..5 {
                        let value = f64::from(8 * round + thread);
                        let w = device.variable("w", &[value, value + 1.0]).unwrap();
                        let got = device.read(&(w.tensor() + 1.0)).unwrap().to_f64();
                        assert_eq!(got, [value + 1.0, value + 2.0], "{}", device.name());
                    }
                });
            }
        });
    }
}
