//! Pipelines by their WGSL text and entry point: each is compiled once per device, distinct ones in parallel.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cotangent_shaders::Entry;
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
    /// Of a text of the user's.
    pub(crate) entry: Option<Entry>,
}

/// What is compiled once: a text and its entry point.
type Key = (Arc<str>, String);
/// Group, binding, and whether it is writable, of every storage buffer; whether there is a parameter block.
type Signature = (Vec<(u32, u32, bool)>, bool);
/// By number of the group; none for numbers that are left out.
type Layouts = Vec<Option<wgpu::BindGroupLayout>>;

impl Wanted {
    fn entry_point(&self) -> &str {
        self.entry.as_ref().map_or("main", |entry| &entry.name)
    }
    fn key(&self) -> Key {
        (self.wgsl.clone(), self.entry_point().to_owned())
    }
    fn signature(&self) -> Signature {
        let place = |(position, &writable): (usize, &bool)| {
            let (group, binding) = slot(self.entry.as_ref(), position);
            (group, binding, writable)
        };
        (self.writable.iter().enumerate().map(place).collect(), self.entry.is_none())
    }
}

/// Group and binding of a buffer of a dispatch: our own texts have the parameter block at 0 and the buffers after it.
pub(crate) fn slot(entry: Option<&Entry>, position: usize) -> (u32, u32) {
    match entry {
        Some(entry) => (entry.slots[position].group, entry.slots[position].binding),
        None => (0, u32::try_from(position + 1).unwrap_or(u32::MAX)),
    }
}

/// A compiled shader.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layouts: Layouts,
}

/// Every pipeline and layout of a device.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    compiled: HashMap<Key, Arc<Pipeline>>,
    layouts: HashMap<Signature, (Layouts, wgpu::PipelineLayout)>,
}

impl Pipelines {
    pub(crate) fn len(&self) -> usize {
        self.compiled.len()
    }
}

/// The pipelines of these shaders, in order.
pub(crate) fn prepare(owner: &mut Owner, wanted: &[Wanted]) -> Result<Vec<Arc<Pipeline>>, Error> {
    let mut missing: Vec<(&Wanted, Layouts, wgpu::PipelineLayout)> = Vec::new();
    for shader in wanted {
        let seen = missing.iter().any(|(other, ..)| other.key() == shader.key());
        if !seen && !owner.pipelines.compiled.contains_key(&shader.key()) {
            let (groups, pipeline) = layout(owner, shader.signature());
            missing.push((shader, groups, pipeline));
        }
    }
    let device = &owner.device;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((shader, groups, layout)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pipeline = compile(device, shader, layout)?;
            done.push((shader.key(), Arc::new(Pipeline { pipeline, layouts: groups.clone() })));
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
    Ok(wanted.iter().map(|shader| owner.pipelines.compiled[&shader.key()].clone()).collect())
}

/// The layouts of a signature.
fn layout(owner: &mut Owner, signature: Signature) -> (Layouts, wgpu::PipelineLayout) {
    if let Some((groups, pipeline)) = owner.pipelines.layouts.get(&signature) {
        return (groups.clone(), pipeline.clone());
    }
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let (buffers, has_parameters) = &signature;
    let count = buffers.iter().map(|(group, ..)| *group as usize + 1).max().unwrap_or(0);
    let mut entries = vec![Vec::new(); count.max(usize::from(*has_parameters))];
    if *has_parameters {
        entries[0].push(entry(0, wgpu::BufferBindingType::Uniform));
    }
    for &(group, binding, writable) in buffers {
        let ty = wgpu::BufferBindingType::Storage { read_only: !writable };
        entries[group as usize].push(entry(binding, ty));
    }
    let made = |entries: &Vec<wgpu::BindGroupLayoutEntry>| {
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries };
        (!entries.is_empty()).then(|| owner.device.create_bind_group_layout(&descriptor))
    };
    let groups: Layouts = entries.iter().map(made).collect();
    let pipeline = owner.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &groups.iter().map(Option::as_ref).collect::<Vec<_>>(),
        immediate_size: 0,
    });
    owner.pipelines.layouts.insert(signature, (groups.clone(), pipeline.clone()));
    (groups, pipeline)
}

/// Compiles on the calling thread, whose error scopes say whose error it is.
fn compile(
    device: &wgpu::Device,
    shader: &Wanted,
    layout: &wgpu::PipelineLayout,
) -> Result<wgpu::ComputePipeline, Error> {
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    // Indices are checked in every text (`ShaderRuntimeChecks`), which those of users rely on.
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(&shader.name),
        source: wgpu::ShaderSource::Wgsl((&*shader.wgsl).into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&shader.name),
        layout: Some(layout),
        module: &module,
        entry_point: Some(shader.entry_point()),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let errors = [pollster::block_on(validation.pop()), pollster::block_on(internal.pop())];
    match errors.into_iter().flatten().next() {
        None => Ok(pipeline),
        Some(error) if shader.entry.is_some() => {
            let message = format!("the adapter refuses the text: {}", error.to_string().trim_end());
            Err(Error::new(Code::Wgsl, format!("kernel `{}`", shader.name), message)
                .hint("what WebGPU promises everywhere needs no feature of the adapter"))
        }
        Some(error) => Err(Error::new(
            Code::Internal,
            format!("compile kernel `{}`", shader.name),
            error.to_string().trim_end().to_owned(),
        )
        .hint("this is a mistake in Cotangent or in the driver; please report it with the shader")),
    }
}
