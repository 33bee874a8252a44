//! Dispatches made ready once: compiled, bound, their parameters in one uniform buffer. Encoding them is all that a
//! run does.

use std::sync::Arc;

use cotangent_shaders::{Cost, Entry};
use cotangent_tensor::Error;

use super::Gpu;
use super::pipelines::{Pipeline, Wanted, prepare, slot};
use crate::storage::Storage;

/// A dispatch with its buffers.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Number of the kernel in its plan.
    pub(crate) kernel: usize,
    pub(crate) label: String,
    pub(crate) wgsl: Arc<str>,
    /// Of a text of the user's.
    pub(crate) entry: Option<Entry>,
    pub(crate) parameters: Vec<u32>,
    pub(crate) buffers: Vec<Bound>,
    pub(crate) workgroups: [u32; 3],
    pub(crate) cost: Cost,
}

/// A storage buffer as a dispatch sees it.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) storage: Arc<Storage>,
    /// First word that is bound.
    pub(crate) first: usize,
    /// Words from there on.
    pub(crate) words: usize,
    pub(crate) writable: bool,
}

/// A dispatch that can be encoded.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) kernel: usize,
    pub(crate) label: String,
    pub(crate) cost: Cost,
    pipeline: Arc<Pipeline>,
    /// Bind groups by number.
    groups: Vec<(u32, wgpu::BindGroup)>,
    workgroups: [u32; 3],
}

/// Dispatches that can be encoded, in order.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) dispatches: Vec<Prepared>,
    // Bound by the groups, which keep the buffers of wgpu alive but not their entries in the books.
    _parameters: Option<Storage>,
    _buffers: Vec<Arc<Storage>>,
}

impl Batch {
    pub(crate) fn new(gpu: &Gpu, specs: Vec<Spec>) -> Result<Batch, Error> {
        // Nothing to do is no dispatch.
        let specs: Vec<Spec> = specs.into_iter().filter(|spec| !spec.workgroups.contains(&0)).collect();
        let alignment = gpu.uniform_alignment.max(16) / 4;
        let mut words = Vec::new();
        let mut blocks = Vec::new();
        for spec in &specs {
            words.resize(words.len().next_multiple_of(alignment), 0);
            blocks.push((4 * words.len() as u64, 4 * spec.parameters.len() as u64));
            words.extend_from_slice(&spec.parameters);
        }
        let parameters = if words.is_empty() {
            None
        } else {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let storage = gpu.storage("parameters", words.len(), usage)?;
            gpu.upload(&storage, 0, &words)?;
            Some(storage)
        };
        let wanted: Vec<Wanted> = specs
            .iter()
            .map(|spec| Wanted {
                wgsl: spec.wgsl.clone(),
                writable: spec.buffers.iter().map(|bound| bound.writable).collect(),
                name: spec.label.clone(),
                entry: spec.entry.clone(),
            })
            .collect();
        let groups = gpu.call("prepare", |owner| {
            let pipelines = prepare(owner, &wanted)?;
            let bind = |((spec, pipeline), block): ((&Spec, &Arc<Pipeline>), &(u64, u64))| {
                bind(&owner.device, pipeline, spec, parameters.as_ref(), *block)
            };
            let groups: Vec<_> = specs.iter().zip(&pipelines).zip(&blocks).map(bind).collect();
            Ok::<_, Error>(pipelines.into_iter().zip(groups).collect::<Vec<_>>())
        })??;
        let mut dispatches = Vec::new();
        let mut buffers = Vec::new();
        for (spec, (pipeline, group)) in specs.into_iter().zip(groups) {
            let Spec { kernel, label, workgroups, cost, .. } = spec;
            dispatches.push(Prepared { kernel, label, cost, pipeline, groups: group, workgroups });
            buffers.extend(spec.buffers.into_iter().map(|bound| bound.storage));
        }
        Ok(Batch { dispatches, _parameters: parameters, _buffers: buffers })
    }
    /// Encodes the dispatches for which `chosen` holds.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, chosen: impl Fn(&Prepared) -> bool) {
        let mut current: Option<&Arc<Pipeline>> = None;
        for dispatch in self.dispatches.iter().filter(|dispatch| chosen(dispatch)) {
            if !current.is_some_and(|pipeline| Arc::ptr_eq(pipeline, &dispatch.pipeline)) {
                pass.set_pipeline(&dispatch.pipeline.pipeline);
                current = Some(&dispatch.pipeline);
            }
            for (number, group) in &dispatch.groups {
                pass.set_bind_group(*number, group, &[]);
            }
            let [x, y, z] = dispatch.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }
    /// Runs every dispatch in one submission and waits.
    pub(crate) fn run(&self, gpu: &Gpu, what: &str) -> Result<(), Error> {
        self.run_some(gpu, what, |_| true)
    }
    /// Runs the chosen dispatches in one submission and waits.
    pub(crate) fn run_some(
        &self,
        gpu: &Gpu,
        what: &str,
        chosen: impl Fn(&Prepared) -> bool,
    ) -> Result<(), Error> {
        gpu.before_submit(what)?;
        let index = gpu.call(what, |owner| {
            let mut encoder = owner.device.create_command_encoder(&Default::default());
            self.encode(&mut encoder.begin_compute_pass(&Default::default()), chosen);
            owner.queue.submit([encoder.finish()])
        })?;
        gpu.wait(&index, what)
    }
}

fn bind(
    device: &wgpu::Device,
    pipeline: &Pipeline,
    spec: &Spec,
    parameters: Option<&Storage>,
    (offset, bytes): (u64, u64),
) -> Vec<(u32, wgpu::BindGroup)> {
    let binding = |buffer, offset, bytes| {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset,
            size: wgpu::BufferSize::new(bytes),
        })
    };
    // By number of the group, which is 0 for our own texts.
    let mut entries: Vec<Vec<wgpu::BindGroupEntry<'_>>> = vec![Vec::new(); pipeline.layouts.len()];
    if let (Some(parameters), None) = (parameters, &spec.entry) {
        let resource = binding(parameters.gpu(), offset, bytes);
        entries[0].push(wgpu::BindGroupEntry { binding: 0, resource });
    }
    for (position, bound) in spec.buffers.iter().enumerate() {
        let (group, number) = slot(spec.entry.as_ref(), position);
        let resource = binding(bound.storage.gpu(), 4 * bound.first as u64, 4 * bound.words as u64);
        entries[group as usize].push(wgpu::BindGroupEntry { binding: number, resource });
    }
    let groups = pipeline.layouts.iter().zip(&entries).zip(0..).filter_map(|((layout, entries), number)| {
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(&*spec.label), layout: layout.as_ref()?, entries };
        Some((number, device.create_bind_group(&descriptor)))
    });
    groups.collect()
}
