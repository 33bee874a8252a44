//! A stand-in for the emitter until it is merged: sums, products and maps of them.
use std::fmt::Write as _;

use cotangent_shaders::{
    Access, Affine, Body, Code as C, Cost, Dispatch, DispatchBuffer, Kernel, Target, Which,
};
use cotangent_tensor::{Code, Elementwise, Error};

pub(crate) fn lower(kernel: &Kernel, target: &Target, _number: u32) -> Result<Vec<Dispatch>, Error> {
    let no = || Error::new(Code::Internal, "lower", format!("not there yet: {kernel}"));
    let Body::Loop(body) = &kernel.body else { return Err(no()) };
    if !body.reduced.is_empty() {
        return Err(no());
    }
    let n = body.kept_elements();
    let mut wgsl = "@group(0) @binding(0) var<uniform> given: array<vec4<u32>, 1>;\n".to_owned();
    for (i, binding) in kernel.bindings.iter().enumerate() {
        let access = if binding.access == Access::Read { "read" } else { "read_write" };
        let _ = writeln!(wgsl, "@group(0) @binding({}) var<storage, {access}> b{i}: array<f32>;", i + 1);
    }
    wgsl += "@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { let i = i32(id.x); if (id.x >= given[0].y) { return; }\n";
    let at = |affine: &Affine| {
        let mut text = format!("{}", affine.offset);
        let mut step = 1;
        for (extent, stride) in body.kept.iter().zip(&affine.strides).rev() {
            let _ = write!(text, " + (i / {step}) % {extent} * {stride}");
            step *= extent;
        }
        text
    };
    for (v, instruction) in body.code.iter().enumerate() {
        let text = match &instruction.code {
            C::Constant(word) => format!("bitcast<f32>({word}u ^ given[0].x)"),
            C::Load { binding, at: place, guard: None } => format!("b{binding}[{}]", at(place)),
            C::Elementwise(Elementwise::Add, o) => format!("v{} + v{}", o[0], o[1]),
            C::Elementwise(Elementwise::Sub, o) => format!("v{} - v{}", o[0], o[1]),
            C::Elementwise(Elementwise::Mul, o) => format!("v{} * v{}", o[0], o[1]),
            C::Elementwise(Elementwise::Log, o) => format!("log(v{})", o[0]),
            C::Cast(o) => format!("v{o}"),
            _ => return Err(no()),
        };
        let _ = writeln!(wgsl, "let v{v} = {text};");
    }
    for store in &body.stores {
        let _ = writeln!(wgsl, "b{}[{}] = v{};", store.binding, at(&store.at), store.value);
    }
    wgsl += "}";
    let buffers = kernel.bindings.iter().enumerate();
    let _ = target;
    Ok(vec![Dispatch {
        label: kernel.name.clone(),
        wgsl: wgsl.into(),
        parameters: vec![0, u32::try_from(n).unwrap_or(0), 0, 0],
        buffers: buffers
            .map(|(i, b)| DispatchBuffer { which: Which::Kernel(i), writable: b.access != Access::Read })
            .collect(),
        workgroups: [u32::try_from(n.div_ceil(64)).unwrap_or(0), 1, 1],
        cost: Cost::default(),
    }])
}
