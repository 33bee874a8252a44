//! Kernels of users: the text as it stands, between a dispatch that zeroes the results and, in anomaly mode, one that looks at
//! them.

use cotangent_tensor::{Error, KernelBuffer};

use super::cost;
use super::module::Context;
use crate::{
    Affine, Body, Code, Dispatch, DispatchBuffer, Entry, EntrySlot, Instruction, Kernel, Level, Loop,
    Schedule, Store, User, Which,
};

/// See [`lower`](super::lower).
pub(crate) fn lower(context: Context<'_>, user: &User) -> Result<Vec<Dispatch>, Error> {
    let kernel = &user.kernel;
    limits(&context, user)?;
    let output = user.output;
    let dtype = context.kernel.bindings[output].dtype;
    let zeros = each_element(&context, user, "zeros for", Code::Constant(0));
    let mut dispatches = super::lower(&zeros, context.target, context.number, None)?;
    let (mut buffers, mut slots) = (Vec::new(), Vec::new());
    let mut bind = |buffer: &KernelBuffer, binding: usize, first: usize, writable: bool| {
        buffers.push(DispatchBuffer { which: Which::Kernel(binding), writable });
        let (group, binding, words) = (buffer.group, buffer.binding, buffer.shape.elements());
        slots.push(EntrySlot { group, binding, first, words });
    };
    for (buffer, &(binding, first)) in kernel.inputs.iter().zip(&user.inputs) {
        bind(buffer, binding, first, false);
    }
    for (number, buffer) in kernel.outputs.iter().enumerate() {
        bind(buffer, output, kernel.offset(number), true);
    }
    dispatches.push(Dispatch {
        label: kernel.name.clone(),
        wgsl: kernel.text.clone(),
        entry: Some(Entry { name: kernel.name.clone(), slots }),
        parameters: Vec::new(),
        buffers,
        workgroups: kernel.workgroups,
        cost: cost(context.kernel),
        chain: 0,
    });
    if context.watch.is_some() && dtype.is_float() {
        // Nobody can ask the text to look at what it writes.
        let load = Code::Load { binding: output, at: along(), guard: None };
        let echo = each_element(&context, user, "look at", load);
        dispatches.extend(super::lower(&echo, context.target, context.number, context.watch)?);
    }
    Ok(dispatches)
}

fn along() -> Affine {
    Affine { offset: 0, strides: vec![1] }
}

/// A kernel of our own that stores something for every element of the results.
fn each_element(context: &Context<'_>, user: &User, what: &str, code: Code) -> Kernel {
    let dtype = context.kernel.bindings[user.output].dtype;
    let body = Body::Loop(Loop {
        kept: vec![user.kernel.elements()],
        reduced: vec![],
        schedule: Schedule::Map,
        code: vec![Instruction { code, dtype, level: Level::Kept, label: None }],
        stores: vec![Store { binding: user.output, at: along(), value: 0 }],
    });
    let Kernel { location, bindings, .. } = context.kernel.clone();
    let name = format!("{what} {}", user.kernel.name);
    Kernel { name, location, bindings, body, reads: vec![], writes: vec![] }
}

fn limits(context: &Context<'_>, user: &User) -> Result<(), Error> {
    let (kernel, target) = (&user.kernel, context.target);
    let [x, y, z] = kernel.workgroup_size;
    let invocations = [x, y, z].iter().fold(1u32, |product, &size| product.saturating_mul(size));
    let buffers = kernel.inputs.len() + kernel.outputs.len();
    let all = kernel.inputs.iter().chain(&kernel.outputs);
    let largest = all.map(|buffer| 4 * buffer.shape.elements() as u64).max().unwrap_or(0);
    let groups = kernel.workgroups.iter().copied().max().unwrap_or(0);
    let checks: [(&str, u64, u64); 5] = [
        ("invocations in a workgroup", invocations.into(), target.max_invocations.into()),
        ("bytes of workgroup memory", kernel.workgroup_memory.into(), target.max_workgroup_memory.into()),
        ("workgroups along one dimension", groups.into(), target.max_workgroups.into()),
        ("storage buffers", buffers as u64, target.max_storage_buffers.into()),
        ("bytes in one binding", largest, target.max_binding),
    ];
    match checks.into_iter().find(|(_, wanted, granted)| wanted > granted) {
        None => Ok(()),
        Some((what, wanted, granted)) => Err(context
            .limit(format!(
                "the kernel `{}` wants {wanted} {what}, the adapter grants {granted}",
                kernel.name
            ))
            .hint("write the kernel for smaller workgroups or fewer buffers, or run it on another device")),
    }
}
