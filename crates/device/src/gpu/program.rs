//! A plan on a wgpu device: one batch of dispatches, one submission per run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use cotangent_shaders::{BufferId, Dispatch, Plan, Target, Which};
use cotangent_tensor::{Code, Error};

use super::Gpu;
use super::batch::{Batch, Bound, Spec};
use super::ring::{Flight, Ring, map};
use super::tools;
use crate::storage::Storage;

/// Words of the status: violations, position, index, kernel; the kernel that wrote a watched value.
pub(crate) const STATUS_WORDS: usize = 5;

/// A plan that a wgpu device can run.
#[derive(Debug)]
pub(crate) struct GpuProgram {
    pub(crate) batch: Batch,
    /// Roundings of a term of a sum, by kernel.
    chains: Vec<usize>,
    /// The status words, then two words per checked output.
    status: Arc<Storage>,
    report: Option<Arc<Storage>>,
    scratch: Vec<Arc<Storage>>,
    copies: Vec<Copy>,
    /// Storage of variables, and where their values from before a run are kept.
    kept: Vec<(Arc<Storage>, Arc<Storage>)>,
    ring: Ring,
}

/// Words that travel to the host after each run.
#[derive(Debug)]
struct Copy {
    storage: Arc<Storage>,
    first: u64,
    words: u64,
    at: u64,
}

/// What to make of a plan.
pub(crate) struct Order<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) dispatches: Vec<Vec<Dispatch>>,
    /// Storage of each buffer of the plan.
    pub(crate) buffers: &'a [Arc<Storage>],
    /// Buffer, first word, words of each output.
    pub(crate) outputs: &'a [(usize, usize, usize)],
    /// Values that are checked.
    pub(crate) checked: &'a [crate::program::Checked],
    /// Variables whose values from before a run are kept.
    pub(crate) kept: &'a [BufferId],
    pub(crate) target: &'a Target,
    pub(crate) depth: usize,
}

impl GpuProgram {
    pub(crate) fn new(gpu: &Gpu, order: Order<'_>) -> Result<GpuProgram, Error> {
        let Order { plan, dispatches, buffers, outputs, checked, kept, target, depth } = order;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let status = Arc::new(gpu.storage("status", STATUS_WORDS, usage)?);
        let report = match checked.len() {
            0 => None,
            count => Some(Arc::new(gpu.storage("report", 2 * count, usage)?)),
        };
        let scratch = scratch(gpu, &dispatches, usage)?;
        let chains = dispatches.iter().map(|list| list.iter().map(|dispatch| dispatch.chain).sum()).collect();
        let bound = |id: usize, writable| Bound {
            storage: buffers[id].clone(),
            first: 0,
            words: plan.buffers[id].bytes() / 4,
            writable,
        };
        let mut specs = Vec::new();
        for (number, (kernel, list)) in plan.kernels.iter().zip(dispatches).enumerate() {
            if gpu.faults.skip_kernel(number) {
                continue;
            }
            for dispatch in list {
                let bind = |buffer: &cotangent_shaders::DispatchBuffer| match buffer.which {
                    Which::Kernel(position) => bound(kernel.bindings[position].buffer, buffer.writable),
                    Which::Scratch { number, words } => Bound {
                        storage: scratch[&number].clone(),
                        first: 0,
                        words,
                        writable: buffer.writable,
                    },
                    Which::Status => {
                        let (storage, writable) = (status.clone(), buffer.writable);
                        Bound { storage, first: 0, words: STATUS_WORDS, writable }
                    }
                };
                let mut bounds: Vec<Bound> = dispatch.buffers.iter().map(bind).collect();
                let slots = dispatch.entry.iter().flat_map(|entry| &entry.slots);
                for (bound, slot) in bounds.iter_mut().zip(slots) {
                    (bound.first, bound.words) = (slot.first, slot.words);
                }
                // Only our own texts say where they count workgroups.
                let wgsl = match dispatch.entry {
                    None => gpu.faults.reorder(dispatch.wgsl, dispatch.workgroups),
                    Some(_) => dispatch.wgsl,
                };
                specs.push(Spec {
                    kernel: number,
                    buffers: bounds,
                    label: dispatch.label,
                    wgsl,
                    entry: dispatch.entry,
                    parameters: dispatch.parameters,
                    workgroups: dispatch.workgroups,
                    cost: dispatch.cost,
                });
            }
            for (buffer, word, bit) in crate::program::flips(&gpu.faults, plan, number) {
                specs.push(tools::flip(number, bound(buffer, true), word, bit));
            }
            if let Some(report) = &report {
                for (slot, check) in checked.iter().enumerate().filter(|(_, check)| check.kernel == number) {
                    let values = bound(check.buffer, false);
                    specs.push(tools::scan(check, values, report, (slot, target.max_workgroups)));
                }
            }
        }
        for spec in &specs {
            distinct(spec)?;
        }
        let mut copies = vec![Copy { storage: status.clone(), first: 0, words: STATUS_WORDS as u64, at: 0 }];
        let mut at = STATUS_WORDS;
        if let Some(report) = &report {
            copies.push(Copy {
                storage: report.clone(),
                first: 0,
                words: report.words as u64,
                at: at as u64,
            });
            at += report.words;
        }
        for &(buffer, first, words) in outputs {
            let storage = buffers[buffer].clone();
            copies.push(Copy { storage, first: first as u64, words: words as u64, at: at as u64 });
            at += words;
        }
        let batch = Batch::new(gpu, specs)?;
        let scratch = scratch.into_values().collect();
        let keep = |&buffer: &BufferId| {
            let held = buffers[buffer].clone();
            let copy = Arc::new(gpu.storage("values before a run", held.words, usage)?);
            Ok((held, copy))
        };
        let kept = kept.iter().map(keep).collect::<Result<_, Error>>()?;
        Ok(GpuProgram { batch, chains, status, report, scratch, copies, kept, ring: Ring::new(depth, at) })
    }
    /// Roundings that a term of a sum of this kernel passes through, at most.
    pub(crate) fn chain(&self, kernel: usize) -> usize {
        self.chains[kernel]
    }
    /// Bytes of scratch storage.
    pub(crate) fn scratch_bytes(&self) -> u64 {
        self.scratch.iter().map(|storage| 4 * storage.words as u64).sum()
    }
    /// Submits a run with these inputs: one encoder, one pass, one submission.
    pub(crate) fn launch(
        &self,
        gpu: &Gpu,
        inputs: &[(Arc<Storage>, Cow<'_, [u32]>)],
        forgotten: &mut dyn FnMut(Result<Arc<Vec<u32>>, Error>),
    ) -> Result<Arc<Flight>, Error> {
        let staging = self.ring.staging(gpu, forgotten)?;
        let submitted = gpu.before_submit("step").and_then(|()| {
            gpu.call("step", |owner| {
                for (storage, words) in inputs {
                    owner.queue.write_buffer(storage.gpu(), 0, bytemuck::cast_slice(words));
                }
                let mut encoder = owner.device.create_command_encoder(&Default::default());
                encoder.clear_buffer(self.status.gpu(), 0, None);
                if let Some(report) = &self.report {
                    encoder.clear_buffer(report.gpu(), 0, None);
                }
                for (held, copy) in &self.kept {
                    encoder.copy_buffer_to_buffer(held.gpu(), 0, copy.gpu(), 0, 4 * held.words as u64);
                }
                if !self.batch.dispatches.is_empty() {
                    self.batch.encode(&mut encoder.begin_compute_pass(&Default::default()), |_| true);
                }
                for Copy { storage, first, words, at } in &self.copies {
                    let (from, to) = (storage.gpu(), staging.gpu());
                    encoder.copy_buffer_to_buffer(from, 4 * first, to, 4 * at, 4 * words);
                }
                let index = owner.queue.submit([encoder.finish()]);
                (map(staging.gpu()), index)
            })
        });
        match submitted {
            Ok((mapped, index)) => Ok(self.ring.start(staging, mapped, index)),
            Err(error) => {
                // A failed submission may have left the buffer mapped; only a buffer that was never used goes back.
                if error.code() == Code::DeviceLost {
                    self.ring.give_back(staging);
                }
                Err(error)
            }
        }
    }
    /// Runs under way whose handles are gone.
    pub(crate) fn forgotten(&self) -> Vec<Arc<Flight>> {
        self.ring.forgotten()
    }
    /// Gives variables the values from before the last run.
    pub(crate) fn restore(&self, gpu: &Gpu) -> Result<(), Error> {
        gpu.before_submit("step")?;
        gpu.call("step", |owner| {
            let mut encoder = owner.device.create_command_encoder(&Default::default());
            for (held, copy) in &self.kept {
                encoder.copy_buffer_to_buffer(copy.gpu(), 0, held.gpu(), 0, 4 * held.words as u64);
            }
            owner.queue.submit([encoder.finish()]);
        })
    }
    /// Waits for a run: status words, checks, then outputs.
    pub(crate) fn land(&self, gpu: &Gpu, flight: &Arc<Flight>) -> Result<Arc<Vec<u32>>, Error> {
        self.ring.land(gpu, flight)
    }
    /// Runs the dispatches of one kernel and waits.
    pub(crate) fn run_kernel(&self, gpu: &Gpu, kernel: usize, what: &str) -> Result<(), Error> {
        self.batch.run_some(gpu, what, |dispatch| dispatch.kernel == kernel)
    }
    /// The status words as they are.
    pub(crate) fn status(&self, gpu: &Gpu) -> Result<Vec<u32>, Error> {
        gpu.download(&self.status, 0, STATUS_WORDS)
    }
    pub(crate) fn clear_status(&self, gpu: &Gpu) -> Result<(), Error> {
        gpu.upload(&self.status, 0, &[0; STATUS_WORDS])
    }
}

/// One scratch buffer per number, as large as the largest kernel needs it: kernels run one after the other.
fn scratch(
    gpu: &Gpu,
    dispatches: &[Vec<Dispatch>],
    usage: wgpu::BufferUsages,
) -> Result<BTreeMap<usize, Arc<Storage>>, Error> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for buffer in dispatches.iter().flatten().flat_map(|dispatch| &dispatch.buffers) {
        if let Which::Scratch { number, words } = buffer.which {
            let size = sizes.entry(number).or_default();
            *size = words.max(*size);
        }
    }
    let allocate = |(number, words)| Ok((number, Arc::new(gpu.storage("scratch", words, usage)?)));
    sizes.into_iter().map(allocate).collect()
}

/// What a dispatch writes is bound once, and nothing of the same buffer is only read: wgpu accepts more, browsers do not.
fn distinct(spec: &Spec) -> Result<(), Error> {
    for (i, a) in spec.buffers.iter().enumerate() {
        for b in &spec.buffers[..i] {
            let apart = a.first + a.words <= b.first || b.first + b.words <= a.first;
            let allowed = match (a.writable, b.writable) {
                (false, false) => true,
                (true, true) => apart,
                (true, false) | (false, true) => false,
            };
            if Arc::ptr_eq(&a.storage, &b.storage) && !allowed {
                let message = "a buffer is written under two bindings of one dispatch";
                return Err(Error::new(Code::Internal, format!("kernel `{}`", spec.label), message));
            }
        }
    }
    Ok(())
}
