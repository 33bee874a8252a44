//! What a step consists of, in words and numbers.

use std::fmt;
use std::fmt::Write as _;
use std::panic::Location;

use cotangent_shaders::{Access, Body, Kernel, Plan, Source};
use cotangent_tensor::{DType, Shape};

use crate::ledger::in_words;
use crate::step::Step;

/// The memory of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMemory {
    /// Bytes of host data, inputs and variables that the step uses; they exist all the time.
    pub fixed: u64,
    /// Bytes of the slots that computed values share, and of scratch storage: what the plan takes beside `fixed`.
    pub planned: u64,
    /// The largest number of bytes of computed values that are needed at the same time: no plan with this order of
    /// kernels can take less.
    pub live: u64,
    /// Each slot: its bytes, and the names of the values it holds one after the other.
    pub slots: Vec<(u64, Vec<String>)>,
    /// What is kept for derivatives, the largest first.
    pub kept: Vec<Kept>,
}

/// A value that is kept for derivatives: it is computed before any of them, and read by a kernel that computes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The user's name for it, else that of its operation.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Its element type.
    pub dtype: DType,
    /// What it takes.
    pub bytes: u64,
    /// Where it is computed.
    pub location: &'static Location<'static>,
}

impl StepMemory {
    /// Bytes at the peak: `fixed + planned`.
    pub fn peak(&self) -> u64 {
        self.fixed + self.planned
    }
    /// Bytes that are kept for derivatives. A `checkpoint` computes again what it holds instead.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }
    /// The peak over what is needed at least.
    pub fn ratio(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a ratio is printed with two digits")]
        let ratio = self.peak() as f64 / (self.fixed + self.live).max(1) as f64;
        ratio
    }
}

impl Step {
    /// The memory of the step, by the plan.
    pub fn memory(&self) -> StepMemory {
        let plan = self.plan();
        let mut slots: Vec<(u64, Vec<String>)> =
            plan.slots.iter().map(|slot| (slot.bytes as u64, Vec::new())).collect();
        let mut fixed = 0;
        // A computed value lives from the kernel that writes it first to the one that touches it last, or to the end.
        let mut life: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
        for (number, kernel) in plan.kernels.iter().enumerate() {
            for binding in &kernel.bindings {
                let (_, last) = life[binding.buffer].get_or_insert((number, number));
                *last = number;
            }
        }
        for place in &plan.outputs {
            if let Some((_, last)) = &mut life[place.buffer] {
                *last = plan.kernels.len();
            }
        }
        let mut live = vec![0u64; plan.kernels.len().max(1)];
        for (buffer, life) in plan.buffers.iter().zip(life) {
            match buffer.source {
                Source::Leaf(_) | Source::Input(_) | Source::Variable(_) => fixed += buffer.bytes() as u64,
                Source::Computed { slot } => {
                    slots[slot].1.push(buffer.name.clone());
                    let Some((first, last)) = life else { continue };
                    let end = live.len().min(last + 1);
                    live[first..end].iter_mut().for_each(|live| *live += buffer.bytes() as u64);
                }
            }
        }
        let planned = slots.iter().map(|(bytes, _)| bytes).sum::<u64>() + self.program().scratch_bytes();
        StepMemory { fixed, planned, live: live.into_iter().max().unwrap_or(0), slots, kept: kept(plan) }
    }

    /// The kernels, what they compute and what they touch, and where values lie.
    pub fn explain(&self) -> String {
        let (plan, memory) = (self.plan(), self.memory());
        let mut text = format!(
            "{}: {} kernels, {} dispatches, {} submits per run; {} fixed, {} planned, {} live at most\n",
            self.device().name(),
            self.kernels(),
            self.dispatches(),
            self.submits(),
            in_words(memory.fixed),
            in_words(memory.planned),
            in_words(memory.live),
        );
        for (number, kernel) in plan.kernels.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "\n{number}: {kernel}");
            for binding in &kernel.bindings {
                let buffer = &plan.buffers[binding.buffer];
                let access = match binding.access {
                    Access::Read => "reads ",
                    Access::Write => "writes",
                    Access::ReadWrite => "updates",
                };
                let place = match &buffer.source {
                    Source::Leaf(_) => "host data".to_owned(),
                    Source::Input(_) => "input".to_owned(),
                    Source::Variable(_) => "variable".to_owned(),
                    Source::Computed { slot } => format!("slot {slot}"),
                };
                let (name, dtype, elements) = (&buffer.name, buffer.dtype, buffer.elements);
                let _ = writeln!(text, "    {access} `{name}` {dtype}[{elements}], {place}");
            }
            if let Some((useful, done)) = amplification(kernel).filter(|_| self.program().is_gpu()) {
                let _ = writeln!(
                    text,
                    "    every element looks at every update: {done:.1e} additions, of which {useful:.1e} count"
                );
            }
            if matches!(kernel.body, Body::User(_)) && !self.program().is_gpu() {
                text.push_str("    interpreted on this device, one operation after another: slow\n");
            }
            if let Some(second) = self.program().along(number) {
                let _ = writeln!(
                    text,
                    "    takes turns with kernel {second}, block by block: the matrix of both is read once"
                );
            }
            let dispatches = self.program().dispatches(number);
            if dispatches.len() > 1 {
                let _ = writeln!(text, "    dispatches: {}", dispatches.join(", "));
            }
        }
        text
    }
    /// The plan as a graph for Graphviz: kernels as boxes, buffers between them.
    pub fn to_dot(&self) -> String {
        let plan = self.plan();
        let mut text = "digraph step {\n  rankdir=LR;\n  node [fontname=monospace];\n".to_owned();
        let quoted = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"");
        for (id, buffer) in plan.buffers.iter().enumerate() {
            let name = quoted(&buffer.name);
            let _ = writeln!(
                text,
                "  b{id} [label=\"{name}\\n{}[{}]\", shape=ellipse];",
                buffer.dtype, buffer.elements
            );
        }
        for (number, kernel) in plan.kernels.iter().enumerate() {
            let _ = writeln!(text, "  k{number} [label=\"{}\", shape=box];", quoted(&kernel.name));
            for binding in &kernel.bindings {
                let id = binding.buffer;
                if binding.access != Access::Write {
                    let _ = writeln!(text, "  b{id} -> k{number};");
                }
                if binding.access != Access::Read {
                    let _ = writeln!(text, "  k{number} -> b{id};");
                }
            }
        }
        text.push_str("}\n");
        text
    }
}

/// Values of the forward pass that kernels of derivatives read.
fn kept(plan: &Plan) -> Vec<Kept> {
    let is_derivative = |kernel: &&Kernel| kernel.writes.iter().any(|place| place.node.origin.order > 0);
    let mut is_read = vec![false; plan.buffers.len()];
    for place in plan.kernels.iter().filter(is_derivative).flat_map(|kernel| &kernel.reads) {
        is_read[place.buffer] = true;
    }
    let values = plan.kernels.iter().flat_map(|kernel| &kernel.writes).filter(|place| {
        let is_computed = matches!(plan.buffers[place.buffer].source, Source::Computed { .. });
        is_computed && is_read[place.buffer] && place.node.origin.order == 0 && !place.node.origin.again
    });
    let mut kept: Vec<Kept> = values
        .map(|place| {
            let (node, buffer) = (&place.node, &plan.buffers[place.buffer]);
            let (shape, dtype, location) = (node.shape, node.dtype, node.location);
            Kept { name: node.called().to_owned(), shape, dtype, bytes: buffer.bytes() as u64, location }
        })
        .collect();
    kept.sort_by_key(|kept| std::cmp::Reverse(kept.bytes));
    kept
}

impl fmt::Display for StepMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fixed, planned, live) = (in_words(self.fixed), in_words(self.planned), in_words(self.live));
        writeln!(f, "{fixed} fixed, {planned} planned, {live} live at most")?;
        write!(f, "{} kept for derivatives", in_words(self.kept_bytes()))?;
        for Kept { name, shape, dtype, bytes, location } in &self.kept {
            let (file, line) = (location.file(), location.line());
            write!(f, "\n  {}  `{name}` {dtype} {shape}, {file}:{line}", in_words(*bytes))?;
        }
        Ok(())
    }
}

/// Additions of a scattered sum that count, and those that an adapter does.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn amplification(kernel: &Kernel) -> Option<(f64, f64)> {
    let Body::Loop(body) = &kernel.body else { return None };
    let scatter = body.scatter()?;
    let done = body.kept_elements() as f64 * scatter.updates as f64;
    Some((done / body.kept[scatter.axis].max(1) as f64, done))
}
