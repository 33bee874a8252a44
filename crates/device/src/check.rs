//! The cross-check: every kernel against the reference, on the kernel's own operands.

use std::borrow::Cow;
use std::collections::HashMap;

use cotangent_shaders::{BufferId, Kernel, Place, plan};
use cotangent_tensor::{Arithmetic, Array, Code, Detail, Error, Node, Tensor, bounded};

use crate::device::Device;
use crate::info::Probe;
use crate::program::{Check, Program};

/// What a cross-check has compared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kernels that ran.
    pub kernels: usize,
    /// Elements that were compared.
    pub cases: usize,
    /// Elements of which nothing is known, so that any value would pass: they are not among `cases`.
    pub unbounded: usize,
    /// The largest error over its bound; at most 1.
    pub worst_ratio: f64,
    /// Where that was: kernel and node.
    pub worst: String,
}

/// Computes tensors on a device, kernel by kernel, each compared with the reference on its own operands, so that errors do
/// not pile up. Error: [`Code::CrossCheck`] with the first value outside its bound.
pub fn cross_check(device: &Device, outputs: &[&Tensor]) -> Result<Report, Error> {
    let nodes = outputs.iter().map(|tensor| tensor.node().cloned()).collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(device, plan(&nodes, &[], &device.plan_options())?, Check::Status)?;
    program.require_inputs("cross-check", &[], "use `Step::cross_check` for graphs with inputs")?;
    check_program(&program, &[])
}

/// What the arithmetic of a probed device promises, with sums in any order.
pub(crate) fn arithmetic(probe: &Probe) -> Arithmetic {
    let promised = Arithmetic::specification();
    let best = Arithmetic::default();
    Arithmetic {
        unit: if probe.nearest { best.unit } else { promised.unit },
        eta: if probe.denormals { best.eta } else { promised.eta },
        chain: promised.chain,
    }
}

pub(crate) fn check_program(
    program: &Program,
    inputs: &[(BufferId, Cow<'_, [u32]>)],
) -> Result<Report, Error> {
    program.set_inputs(inputs)?;
    let promised = arithmetic(&program.device.info().probe);
    let mut report = Report::default();
    for (number, kernel) in program.plan.kernels.iter().enumerate() {
        // Before the kernel runs: what it writes may lie where an operand lies.
        let mut operands: HashMap<*const Node, Array> = HashMap::new();
        for place in &kernel.reads {
            operands.insert(place.node.key(), program.read(place)?);
        }
        program.run_kernel(number)?;
        let arithmetic = Arithmetic { chain: program.chain(number), ..promised };
        compare(program, kernel, &operands, &arithmetic, &mut report)?;
        report.kernels += 1;
    }
    Ok(report)
}

fn compare(
    program: &Program,
    kernel: &Kernel,
    operands: &HashMap<*const Node, Array>,
    arithmetic: &Arithmetic,
    report: &mut Report,
) -> Result<(), Error> {
    let nodes: Vec<_> = kernel.writes.iter().map(|place| place.node.clone()).collect();
    let expected = bounded(&nodes, operands, arithmetic)?;
    for (place, expected) in kernel.writes.iter().zip(&expected) {
        let got = program.read(place)?;
        if let Some(violation) = expected.first_violation(&got) {
            return Err(offender(program, kernel, place, &violation));
        }
        let unbounded = expected.bound.iter().filter(|bound| bound.is_infinite()).count();
        report.unbounded += unbounded;
        report.cases += expected.value.len() - unbounded;
        let ratio = expected.worst_ratio(&got);
        if ratio > report.worst_ratio {
            report.worst_ratio = ratio;
            report.worst = format!("kernel `{}`, node `{}`", kernel.name, name(place));
        }
    }
    Ok(())
}

fn name(place: &Place) -> &str {
    place.node.called()
}

fn offender(
    program: &Program,
    kernel: &Kernel,
    place: &Place,
    violation: &cotangent_tensor::Violation,
) -> Error {
    let cotangent_tensor::Violation { element, got, expected, bound } = *violation;
    let strides = place.node.shape.strides();
    let coordinate: Vec<usize> = place
        .node
        .shape
        .iter()
        .zip(strides)
        .map(|(&extent, stride)| element / stride.max(1) % extent)
        .collect();
    let message = format!(
        "kernel `{}` on {}: node `{}` at {coordinate:?} is {got:?}, the reference says {expected:?} ± {bound:e}",
        kernel.name,
        program.device.name(),
        name(place),
    );
    Error::new(Code::CrossCheck, "cross-check", message)
        .at(place.node.location)
        .with("kernel", Detail::Text(kernel.name.clone()))
        .with("node", Detail::Text(name(place).to_owned()))
        .with("element", Detail::Integer(i64::try_from(element).unwrap_or(i64::MAX)))
        .with("got", Detail::Number(got))
        .with("expected", Detail::Number(expected))
        .with("bound", Detail::Number(bound))
        .hint("a mistake of the generator or of the driver; please report it with `step.explain()`")
}
