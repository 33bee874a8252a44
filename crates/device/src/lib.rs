//! WHERE a plan runs: adapters of wgpu, and the CPU.
//!
//! A [`Device`] is opened explicitly and passed around; nothing here is global. It turns graphs of
//! [`cotangent_tensor`] into numbers in three ways:
//!
//! - [`Device::read`] computes tensors once, together, as one plan. Nothing is cached.
//! - [`Step`] plans a whole iteration (forward, backward, optimizer, random numbers) once and runs it many times: kernels
//!   are compiled, memory is assigned by lifetime, parameters are written and bindings made when it is built, so that a
//!   run is one encoder, one pass, one submission. Losses come back through a ring of small buffers, read whenever.
//! - [`cross_check`] runs the same plan kernel by kernel, gives the operands that each kernel really had to the
//!   reference, and names the first kernel, node, source line and element outside the derived bound.
//!
//! State lives in [`Variable`]s: named storage that is a tensor wherever one is wanted (its value when a run starts) and
//! that steps update. [`Variables`] are several of one role in one flat storage, so that one kernel updates all of them.
//!
//! ```
//! use cotangent_device::{Device, Step};
//! use cotangent_tensor::{DType, Tensor};
//!
//! let device = Device::cpu();
//! let w = device.variable("w", &[0.0, 0.0])?;
//! let x = Tensor::input("x", [2], DType::F32);
//! let difference = w.tensor() - &x;
//! let loss = (&difference * &difference).sum(..);
//! let new_w = w.tensor() - 0.5 * &difference;
//!
//! let step = Step::new(&device, &[&x], &[&loss], &[(&w, &new_w)])?;
//! let losses = [(); 3].map(|()| step.launch(&[(&x, &[1.0, 2.0])])); // none of them waits
//! let losses = losses.map(|outputs| outputs.and_then(|outputs| outputs.scalar(0)).ok());
//! assert_eq!(losses, [Some(5.0), Some(1.25), Some(0.3125)]);
//! assert_eq!(device.read(&w)?.to_f64(), [0.875, 1.75]);
//! # Ok::<(), cotangent_tensor::Error>(())
//! ```
//!
//! # Devices
//!
//! [`Device::best`] takes a hardware GPU, else the CPU device, and [`Device::why`] says why; a software adapter is used
//! only when it is asked for, because the CPU device is faster on the same cores. When an adapter is opened, one dispatch
//! asks it how it computes ([`Probe`]): after how many turns loops end in silence, what becomes of NaN and of denormals,
//! whether sums are reassociated. Limits are data ([`Device::with_limits`]): tests run at the defaults of the web and at
//! tiny limits on the same adapter.
//!
//! # What goes wrong
//!
//! Nothing panics on bad input. Invalid tensors come back as the error that made them; host data is checked against the
//! inputs of a step by name; indices are checked in the kernels and come back from the outputs of the run
//! ([`Check::Status`]). wgpu is called under one lock that catches its panics and its errors: a lost device answers every
//! call with the same error, any other failure leaves the device usable. Every allocation is on the books
//! ([`Device::memory`]). [`FaultPlan`] plants faults, so that tests can show that all of this is seen.
//!
//! # Invariants
//!
//! - No formula stands here: what a kernel computes is in the plan, how it is written is the emitter's matter, and what
//!   is right is the reference's. The few kernels of the device itself look at results or measure.
//! - Nothing outside `gpu` calls wgpu; a buffer belongs to one device, and its token says to which.
//! - No environment variable is read.

mod anomaly;
mod check;
#[doc(hidden)]
#[allow(rustdoc::private_intra_doc_links, reason = "its page is for those who read the source")]
pub mod cpu;
mod device;
mod explain;
mod fault;
mod feed;
mod gpu;
mod host;
mod info;
mod ledger;
mod profile;
mod program;
#[allow(unsafe_code, reason = "the one checked call of `gemm`")]
mod raw;
mod read;
mod step;
mod storage;
mod variable;

pub use check::{Report, cross_check};
pub use cotangent_shaders::{Target, Watch};
pub use device::{Choice, Device, Options};
pub use explain::{Kept, StepMemory};
pub use fault::{Fault, FaultPlan};
pub use feed::{Feed, Initial};
pub use info::{Info, Kind, Probe};
pub use ledger::Memory;
pub use profile::{KernelTime, Profile, Roof};
pub use program::Check;
pub use step::{Outputs, Step, StepOptions};
pub use variable::{Variable, Variables};
