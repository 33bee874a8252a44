//! HOW a graph becomes kernels: fusion, planning and WGSL emission.

mod catalogue;
mod dispatch;
mod emit;
mod kernel;
mod plan;
mod planner;
mod recurrence;
mod scatter;

pub use dispatch::{Cost, Dispatch, DispatchBuffer, Entry, Slot as EntrySlot, Target, Watch, Which};
pub use emit::{cost, lower};
pub use kernel::{
    Access, Affine, Binding, Body, BufferId, Code, Instruction, Kernel, Level, Loop, Matmul, Matrix, Place,
    Scan, Schedule, Store, User, Value,
};
pub use plan::{Buffer, Plan, Slot, Source};
pub use planner::{PlanOptions, computing_again, plan};
pub use recurrence::Recurrence;
pub use scatter::{Scatter, Update};
