//! The devices that tests run on.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::OnceLock;

use cotangent_device::{Device, Options};

/// The software adapter, opened once. Its absence is a failure.
pub(crate) fn software() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE
        .get_or_init(|| Device::software().expect("tests need a software adapter: run them by ./tools/test"))
        .clone()
}

/// Every device that tests run on.
pub(crate) fn devices() -> Vec<Device> {
    vec![Device::cpu(), software()]
}

/// The same devices, opened anew: for tests that count what a device holds.
pub(crate) fn fresh() -> Vec<Device> {
    let open = |device: Device| device.with_options(Options::default()).expect("an adapter opens twice");
    devices().into_iter().map(open).collect()
}
