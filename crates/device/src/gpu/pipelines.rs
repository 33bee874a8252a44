//! Pipelines by their WGSL text: each is compiled once per device, distinct ones in parallel.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cotangent_tensor::{Code, Error};

use super::{Owner, panic_text};

/// Enough for naga, which recurses over what it reads: a test thread has 2 MiB, of which it would use more.
const STACK: usize = 64 << 20;

/// A shader to be compiled: its text, whether each storage buffer is writable, and a name for messages.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) wgsl: Arc<str>,
    pub(crate) writable: Vec<bool>,
    pub(crate) name: String,
}

/// A compiled shader.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// Every pipeline and layout of a device.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    compiled: HashMap<Arc<str>, Arc<Pipeline>>,
    layouts: HashMap<Vec<bool>, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
}

impl Pipelines {
    pub(crate) fn len(&self) -> usize {
        self.compiled.len()
    }
}

/// The pipelines of these shaders, in order.
pub(crate) fn prepare(owner: &mut Owner, wanted: &[Wanted]) -> Result<Vec<Arc<Pipeline>>, Error> {
    let mut missing: Vec<(&Wanted, wgpu::BindGroupLayout, wgpu::PipelineLayout)> = Vec::new();
    for shader in wanted {
        let seen = missing.iter().any(|(other, ..)| other.wgsl == shader.wgsl);
        if !seen && !owner.pipelines.compiled.contains_key(&shader.wgsl) {
            let (group, pipeline) = layout(owner, &shader.writable);
            missing.push((shader, group, pipeline));
        }
    }
    let device = &owner.device;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((shader, group, layout)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pipeline = compile(device, shader, layout)?;
            done.push((shader.wgsl.clone(), Arc::new(Pipeline { pipeline, layout: group.clone() })));
        }
        Ok(done)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    let results: Vec<Result<Vec<_>, Error>> = std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let handles: Vec<_> = (0..threads).map(start).collect();
        let failed = |text: String| Err(Error::new(Code::Internal, "compile", text));
        let join = |handle: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| match handle {
            Err(error) => failed(format!("no thread to compile on: {error}")),
            Ok(handle) => handle.join().unwrap_or_else(|panic| failed(panic_text(&*panic))),
        };
        handles.into_iter().map(join).collect()
    });
    for result in results {
        owner.pipelines.compiled.extend(result?);
    }
    Ok(wanted.iter().map(|shader| owner.pipelines.compiled[&shader.wgsl].clone()).collect())
}

/// The layouts of a signature: binding 0 is the parameter block, the storage buffers follow.
fn layout(owner: &mut Owner, writable: &[bool]) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    if let Some((group, pipeline)) = owner.pipelines.layouts.get(writable) {
        return (group.clone(), pipeline.clone());
    }
    let entry = |binding: usize, ty| wgpu::BindGroupLayoutEntry {
        binding: u32::try_from(binding).unwrap_or(u32::MAX),
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let storage = |(i, &writable): (usize, &bool)| {
        entry(i + 1, wgpu::BufferBindingType::Storage { read_only: !writable })
    };
    let entries: Vec<_> = std::iter::once(entry(0, wgpu::BufferBindingType::Uniform))
        .chain(writable.iter().enumerate().map(storage))
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    let group = owner.device.create_bind_group_layout(&descriptor);
    let pipeline = owner.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    owner.pipelines.layouts.insert(writable.to_vec(), (group.clone(), pipeline.clone()));
    (group, pipeline)
}

/// Compiles on the calling thread, whose error scopes say whose error it is.
fn compile(
    device: &wgpu::Device,
    shader: &Wanted,
    layout: &wgpu::PipelineLayout,
) -> Result<wgpu::ComputePipeline, Error> {
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(&shader.name),
        source: wgpu::ShaderSource::Wgsl((&*shader.wgsl).into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&shader.name),
        layout: Some(layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let errors = [pollster::block_on(validation.pop()), pollster::block_on(internal.pop())];
    match errors.into_iter().flatten().next() {
        None => Ok(pipeline),
        Some(error) => Err(Error::new(
            Code::Internal,
            format!("compile kernel `{}`", shader.name),
            error.to_string().trim_end().to_owned(),
        )
        .hint("this is a mistake in Cotangent or in the driver; please report it with the shader")),
    }
}
