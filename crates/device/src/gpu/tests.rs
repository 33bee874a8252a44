//! What comes back when a shader, a binding or wgpu itself is wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use cotangent_shaders::{Cost, Entry, EntrySlot};
use cotangent_tensor::{Code, Tensor};

use super::Gpu;
use super::batch::{Batch, Bound, Spec};
use crate::device::{Body, Device};
use crate::storage::Storage;

fn gpu(device: &Device) -> &Gpu {
    match &device.0.body {
        Body::Gpu(gpu) => gpu,
        Body::Host => panic!("a software adapter runs through wgpu"),
    }
}

const DOUBLE: &str = r"
@group(0) @binding(0) var<uniform> given: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { x[i] = x[i] * 2.0; }
";

fn spec(wgsl: &str, buffers: &[(&Arc<Storage>, bool)]) -> Spec {
    let bound = |&(storage, writable): &(&Arc<Storage>, bool)| Bound {
        storage: storage.clone(),
        first: 0,
        words: storage.words,
        writable,
    };
    Spec {
        kernel: 0,
        label: "double".to_owned(),
        wgsl: wgsl.into(),
        entry: None,
        parameters: vec![0; 4],
        buffers: buffers.iter().map(bound).collect(),
        workgroups: [1, 1, 1],
        cost: Cost::default(),
    }
}

#[test]
fn a_shader_that_does_not_compile_is_named_and_the_device_works_on() {
    let device = Device::software().unwrap();
    let gpu = gpu(&device);
    let x = device.storage("x", 4).unwrap();
    device.upload(&x, 0, &[1.0_f32, 2.0, 3.0, 4.0].map(f32::to_bits)).unwrap();
    let broken = [
        DOUBLE.replace("x[i] * 2.0", "y[i]"),
        DOUBLE.replace("4)", "100000)"),
        DOUBLE.replace("main", "other"),
    ];
    for wgsl in broken {
        let error = Batch::new(gpu, vec![spec(&wgsl, &[(&x, true)])]).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(error.to_string().contains("kernel `double`"), "{error}");
    }
    let missing = Batch::new(gpu, vec![spec(DOUBLE, &[])]).unwrap_err();
    assert_eq!(missing.code(), Code::Internal, "a binding that the shader does not find: {missing}");
    Batch::new(gpu, vec![spec(DOUBLE, &[(&x, true)])]).unwrap().run(gpu, "double").unwrap();
    let doubled: Vec<f32> = gpu.download(&x, 0, 4).unwrap().into_iter().map(f32::from_bits).collect();
    assert_eq!(doubled, [2.0, 4.0, 6.0, 8.0]);
}

/// A text of a user's with two entry points and bindings of its own.
const TWO: &str = r"
@group(1) @binding(3) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(4) fn double(@builtin(local_invocation_index) i: u32) { x[i] = x[i] * 2.0; }
@compute @workgroup_size(4) fn triple(@builtin(local_invocation_index) i: u32) { x[i] = x[i] * 3.0; }
";

fn entry(wgsl: &str, name: &str, x: &Arc<Storage>) -> Spec {
    let slots = vec![EntrySlot { group: 1, binding: 3, first: 64, words: 4 }];
    let mut spec = spec(wgsl, &[(x, true)]);
    spec.entry = Some(Entry { name: name.to_owned(), slots });
    (spec.buffers[0].first, spec.buffers[0].words, spec.parameters) = (64, 4, vec![]);
    spec
}

#[test]
fn a_text_of_a_user_runs_by_its_entry_point_and_bindings_and_a_bad_one_is_refused() {
    let device = Device::software().unwrap();
    let gpu = gpu(&device);
    let x = device.storage("x", 128).unwrap();
    device.upload(&x, 0, &[1.0_f32.to_bits(); 128]).unwrap();
    let specs = ["double", "triple", "double"].map(|name| entry(TWO, name, &x)).into();
    Batch::new(gpu, specs).unwrap().run(gpu, "both").unwrap();
    let values: Vec<f32> = gpu.download(&x, 0, 128).unwrap().into_iter().map(f32::from_bits).collect();
    assert_eq!(values[64..68], [12.0; 4]);
    assert!(values[..64].iter().chain(&values[68..]).all(|&value| value == 1.0), "{values:?}");
    for (wgsl, name) in [(TWO.replace("* 2.0", "* y"), "double"), (TWO.replace("(4)", "(100000)"), "double")]
    {
        let error = Batch::new(gpu, vec![entry(&wgsl, name, &x)]).unwrap_err();
        assert_eq!(error.code(), Code::Wgsl, "{error}");
        assert!(error.to_string().contains("the adapter refuses the text"), "{error}");
    }
    Batch::new(gpu, vec![entry(TWO, "double", &x)]).unwrap().run(gpu, "again").unwrap();
}

#[test]
fn a_dispatch_without_workgroups_is_left_out() {
    let device = Device::software().unwrap();
    let x = device.storage("x", 4).unwrap();
    let mut empty = spec(DOUBLE, &[(&x, true)]);
    empty.workgroups = [0, 1, 1];
    let batch = Batch::new(gpu(&device), vec![empty]).unwrap();
    assert_eq!(batch.dispatches.len(), 0);
    batch.run(gpu(&device), "nothing").unwrap();
}

#[test]
fn too_many_workgroups_are_an_error_and_the_device_works_on() {
    let device = Device::software().unwrap();
    let x = device.storage("x", 4).unwrap();
    let mut wide = spec(DOUBLE, &[(&x, true)]);
    wide.workgroups = [65_536, 1, 1];
    let error = Batch::new(gpu(&device), vec![wide]).unwrap().run(gpu(&device), "wide").unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    assert_eq!(device.read(&(Tensor::new([1.0]) + 1.0)).unwrap().to_f32(), [2.0]);
}

#[test]
fn a_panic_below_becomes_the_loss_of_the_device() {
    let device = Device::software().unwrap();
    let error = gpu(&device).call("work", |_| panic!("the driver is on fire")).unwrap_err();
    assert_eq!(error.code(), Code::DeviceLost);
    assert!(error.to_string().contains("the driver is on fire"), "{error}");
    assert_eq!(device.read(&(Tensor::new([1.0]) + 1.0)).unwrap_err().code(), Code::DeviceLost);
}
