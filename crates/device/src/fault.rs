//! Faults planted on purpose, so that the checks of a device can be shown to see them. Empty by default; never read
//! from the environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Something that a device does on purpose, at a place fixed in advance. Counters start at 0 when the device is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Allocation number `n` of the device fails.
    FailAllocation(usize),
    /// Submission number `n` loses the device.
    LoseDevice(usize),
    /// Wait number `n` takes too long.
    TimeOut(usize),
    /// Kernel number `kernel` of a plan is left out, in every run.
    SkipKernel(usize),
    /// A bit of what kernel number `kernel` of a plan writes is flipped, in every run. Index of the node among those that
    /// the kernel writes, word of its value, bit of the word.
    FlipBit {
        /// Which kernel.
        kernel: usize,
        /// Which of its outputs.
        output: usize,
        /// Which word: an element of 32 bits, or two of 16. Nothing happens beyond the last one.
        element: usize,
        /// Which bit, 0 the lowest.
        bit: u32,
    },
    /// The workgroups of every dispatch of a plan on an adapter run in the opposite order, in every run. A driver may do that, so nothing
    /// may go wrong by it: results stay the same bit for bit.
    ReverseWorkgroups,
}

/// The faults that a device is created with.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    faults: Vec<Fault>,
}

impl FaultPlan {
    /// These faults.
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> FaultPlan {
        FaultPlan { faults: faults.into_iter().collect() }
    }
}

/// Faults with what has happened of them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    planted: Vec<(Fault, AtomicBool)>,
    armed: AtomicBool,
    allocations: AtomicUsize,
    submissions: AtomicUsize,
    waits: AtomicUsize,
}

impl Faults {
    pub(crate) fn new(plan: &FaultPlan) -> Faults {
        Faults {
            planted: plan.faults.iter().map(|&fault| (fault, AtomicBool::new(false))).collect(),
            ..Faults::default()
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.planted.is_empty()
    }
    /// Starts to count: the device is there.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }
    /// Every fault, and whether it has fired.
    pub(crate) fn report(&self) -> Vec<(Fault, bool)> {
        self.planted.iter().map(|(fault, fired)| (*fault, fired.load(Ordering::Relaxed))).collect()
    }
    pub(crate) fn fail_allocation(&self) -> bool {
        let count = self.count(&self.allocations);
        self.fires(|fault| fault == Fault::FailAllocation(count))
    }
    pub(crate) fn lose_device(&self) -> bool {
        let count = self.count(&self.submissions);
        self.fires(|fault| fault == Fault::LoseDevice(count))
    }
    pub(crate) fn time_out(&self) -> bool {
        let count = self.count(&self.waits);
        self.fires(|fault| fault == Fault::TimeOut(count))
    }
    pub(crate) fn skip_kernel(&self, kernel: usize) -> bool {
        self.fires(|fault| fault == Fault::SkipKernel(kernel))
    }
    /// The shader with the order of its workgroups reversed, where that is planted: each takes the number of its mirror image.
    pub(crate) fn reorder(&self, wgsl: Arc<str>, workgroups: [u32; 3]) -> Arc<str> {
        const NUMBER: &str = "@builtin(workgroup_id) workgroup: vec3<u32>";
        if workgroups == [1; 3] || !self.fires(|fault| fault == Fault::ReverseWorkgroups) {
            return wgsl;
        }
        let parameters =
            "@builtin(workgroup_id) mirrored: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>";
        let (before, after) =
            wgsl.split_once(NUMBER).expect("every kernel asks for the number of its workgroup");
        let (arguments, body) = after.split_once("{\n").expect("a function has a body");
        format!("{before}{parameters}{arguments}{{\n    let workgroup = workgroups - 1u - mirrored;\n{body}")
            .into()
    }
    /// `(output, word, bit)` of the flips after a kernel whose outputs have so many words.
    pub(crate) fn flips(&self, kernel: usize, outputs: &[usize]) -> Vec<(usize, usize, u32)> {
        let mut flips = Vec::new();
        for (fault, fired) in &self.planted {
            if let Fault::FlipBit { kernel: at, output, element, bit } = *fault
                && at == kernel
                && outputs.get(output).is_some_and(|&words| element < words)
            {
                fired.store(true, Ordering::Relaxed);
                flips.push((output, element, bit));
            }
        }
        flips
    }
    fn count(&self, counter: &AtomicUsize) -> usize {
        if self.armed.load(Ordering::Relaxed) { counter.fetch_add(1, Ordering::Relaxed) } else { usize::MAX }
    }
    fn fires(&self, matches: impl Fn(Fault) -> bool) -> bool {
        let hit = self.planted.iter().find(|(fault, _)| matches(*fault));
        if let Some((_, fired)) = hit {
            fired.store(true, Ordering::Relaxed);
        }
        hit.is_some()
    }
}
