//! What is wrong with an entry point before anything runs.

use cotangent_tensor::{Code, Detail, Error};
use naga::{AddressSpace, ShaderStage, Span};

use crate::diagnose::Problem;
use crate::retell;
use crate::text::{Text, name_or};

/// Invocations of a workgroup that any adapter grants at most.
pub(crate) const MAX_INVOCATIONS: u64 = 1024;
/// Bytes of workgroup memory that any adapter grants at most.
const MAX_WORKGROUP_MEMORY: u64 = 64 << 10;

/// The number of a compute entry point.
pub(super) fn entry_point(text: &Text, name: &str) -> Result<usize, Error> {
    let entries = &text.module.entry_points;
    let is_it = |entry: &naga::EntryPoint| entry.name == name && entry.stage == ShaderStage::Compute;
    if let Some(entry) = entries.iter().position(is_it) {
        return Ok(entry);
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let message = match names.is_empty() {
        true => format!("no entry point `{name}`; the text declares none"),
        false => format!("no entry point `{name}`; there are: {}", names.join(", ")),
    };
    let error = Error::new(Code::WgslBinding, &*text.source.name, message);
    Err(match names.iter().find(|known| retell::is_near(known, name)) {
        Some(near) => error.hint(format!("`{near}` is meant?")),
        None => error.hint("an entry point is a function with `@compute @workgroup_size(…)`"),
    })
}

/// The size of its workgroups.
pub(super) fn workgroup(text: &Text, entry: usize) -> Result<(), Problem> {
    let point = &text.module.entry_points[entry];
    if point.workgroup_size_overrides.is_some() || text.module.overrides.iter().next().is_some() {
        let message = format!("`{}` depends on an `override`", point.name);
        return Err(Problem::new(Code::WgslUnsupported, message).help("write the number into the text"));
    }
    let size = point.workgroup_size;
    let invocations = size.iter().fold(1u64, |product, &axis| product.saturating_mul(axis.into()));
    if invocations > MAX_INVOCATIONS {
        let message = format!(
            "a workgroup of `{}` has {} × {} × {} = {invocations} invocations, where {MAX_INVOCATIONS} are allowed",
            point.name, size[0], size[1], size[2]
        );
        return Err(Problem::new(Code::Limit, message).help("256 run on every adapter"));
    }
    Ok(())
}

/// Bytes of the workgroup memory that an entry point uses.
pub(super) fn workgroup_memory(text: &Text, entry: usize) -> Result<u32, Problem> {
    let info = text.info.get_entry_point(entry);
    let shared = |(handle, variable): &(naga::Handle<naga::GlobalVariable>, &naga::GlobalVariable)| {
        variable.space == AddressSpace::WorkGroup && !info[*handle].is_empty()
    };
    let mut sum = 0u64;
    let mut names = Vec::new();
    for (_, variable) in text.module.global_variables.iter().filter(shared) {
        let size = text.module.types[variable.ty].inner.size(text.module.to_ctx());
        // each begins where the largest alignment allows it
        sum = sum.saturating_add(u64::from(size).next_multiple_of(16));
        names.push(format!("`{}` {size}", name_or(&variable.name, "_")));
    }
    if sum > MAX_WORKGROUP_MEMORY {
        let message = format!(
            "`{}` uses {sum} bytes of workgroup memory ({}), where {MAX_WORKGROUP_MEMORY} are allowed",
            text.module.entry_points[entry].name,
            names.join(", ")
        );
        return Err(Problem::new(Code::Limit, message).help("16384 bytes are there on every adapter"));
    }
    Ok(u32::try_from(sum).unwrap_or(u32::MAX))
}

/// A buffer that is read, and written where it may hold what is still needed.
pub(super) fn overwritten(kernel: &str, buffer: &str, read: Span, written: Span) -> Problem {
    let message = format!(
        "the kernel `{kernel}` overwrites `{buffer}`, which it reads: no derivative could see what was there"
    );
    Problem::new(Code::WgslInPlace, message)
        .with("buffer", Detail::Text(buffer.to_string()))
        .at(read, "read here")
        .at(written, "overwritten here")
        .help(format!(
            "write to a buffer of its own and declare `{buffer}` `read`; or, if it holds no input but what the kernel itself \
             has put there, say `.accumulates({buffer:?})`"
        ))
}
