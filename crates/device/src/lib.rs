//! Where a plan runs: wgpu adapters and the CPU device.

mod check;
mod device;
mod explain;
mod fault;
mod feed;
mod gpu;
mod host;
mod info;
mod ledger;
mod pending;
mod profile;
mod program;
mod read;
mod step;
mod storage;
#[cfg(test)]
mod tests;
mod variable;

pub use check::{Report, cross_check};
pub use device::{Choice, Device, Options};
pub use explain::StepMemory;
pub use fault::{Fault, FaultPlan};
pub use feed::{Feed, Initial};
pub use info::{Info, Kind, Probe};
pub use ledger::Memory;
pub use profile::{KernelTime, Profile, Roof};
pub use program::Check;
pub use step::{Outputs, Step, StepOptions};
pub use variable::{Variable, Variables};
