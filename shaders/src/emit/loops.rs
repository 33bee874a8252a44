//! Which strategy lowers a loop, and what the strategies share.

use cotangent_tensor::Error;

use super::fabric::Fabric;
use super::memory::is_aligned;
use super::module::{Context, Module};
use super::nest::{normalize, per_element};
use super::sweep::Phases;
use super::text::Text;
use super::{flat, group, lane};
use crate::{Code, Dispatch, Level, Loop, Schedule};

/// Reductions up to this many elements end in one dispatch.
const SHORT_TOTAL: usize = 16_384;

/// Rows that keep a large GPU busy with a workgroup each.
const MANY_ROWS: usize = 256;

/// See [`lower`](super::lower).
pub(crate) fn lower(context: Context<'_>, nest: &Loop) -> Result<Vec<Dispatch>, Error> {
    if nest.kept_elements() == 0 {
        return Ok(Vec::new());
    }
    let nest = normalize(&context, nest)?;
    let phases = Phases::new(&nest);
    match nest.schedule {
        Schedule::Map => flat::lower(context, &nest, &phases),
        Schedule::Total if phases.sweeps == 1 && nest.reduced_elements() > SHORT_TOTAL => {
            flat::lower(context, &nest, &phases)
        }
        Schedule::Row if phases.sweeps == 1 && is_long_row(&context, &nest) => {
            flat::lower(context, &nest, &phases)
        }
        Schedule::Column if phases.sweeps == 1 => lane::lower(context, &nest, &phases),
        Schedule::Row | Schedule::Column if is_short_row(&context, &nest) => {
            lane::lower(context, &nest, &phases)
        }
        Schedule::Row | Schedule::Total | Schedule::Column => {
            let result = group::lower(context, &nest, &phases);
            match result {
                // One sweep can be cut into workgroups; several cannot.
                Err(_) if phases.sweeps == 1 => flat::lower(context, &nest, &phases),
                result => result,
            }
        }
    }
}

/// Rows so short that a workgroup for each would mostly idle.
fn is_short_row(context: &Context<'_>, nest: &Loop) -> bool {
    let limit = if context.target.cpu { 128 } else { 32 };
    nest.reduced_elements() <= limit && nest.kept_elements() >= 8
}

/// Rows so few and so long that a workgroup for each would leave a large GPU idle.
fn is_long_row(context: &Context<'_>, nest: &Loop) -> bool {
    !context.target.cpu && nest.kept_elements() <= MANY_ROWS && nest.reduced_elements() > SHORT_TOTAL
}

/// The dimension along which four elements can be handled at a time: `dim`, if its extent is a multiple of four and
/// some load or store of more than one element is aligned along it.
pub(crate) fn vector_dimension(nest: &Loop, dim: Option<usize>) -> Option<usize> {
    let dim = dim?;
    let kept = nest.kept.len();
    let extent = if dim < kept { nest.kept.get(dim) } else { nest.reduced.get(dim - kept) };
    if extent.is_none_or(|e| e % 4 != 0) {
        return None;
    }
    let loads = nest.code.iter().any(|i| match &i.code {
        Code::Load { at, guard: None, .. } => is_aligned(at, dim),
        _ => false,
    });
    let stores = nest.stores.iter().any(|s| (dim < kept || per_element(nest, s)) && is_aligned(&s.at, dim));
    (loads || stores).then_some(dim)
}

/// The last reduced dimension.
pub(crate) fn last_reduced(nest: &Loop) -> Option<usize> {
    (!nest.reduced.is_empty()).then(|| nest.kept.len() + nest.reduced.len() - 1)
}

/// The last kept dimension.
pub(crate) fn last_kept(nest: &Loop) -> Option<usize> {
    nest.kept.len().checked_sub(1)
}

/// Names for the coordinates of some dimensions from their row-major index, by division.
pub(crate) fn coordinates(
    module: &mut Module<'_>,
    text: &mut Text,
    nest: &Loop,
    dims: std::ops::Range<usize>,
    vector: Option<usize>,
    index: &str,
    suffix: &str,
) -> Result<Vec<(usize, String)>, Error> {
    let kept = nest.kept.len();
    let mut rest = index.to_owned();
    let mut found = Vec::new();
    for dim in dims.clone().rev() {
        if dim == dims.start {
            found.push((dim, rest.clone()));
            break;
        }
        let extent = if dim < kept { nest.kept[dim] } else { nest.reduced[dim - kept] };
        let extent = if vector == Some(dim) { extent / 4 } else { extent };
        let hint = if dim < kept { "kept" } else { "reduced" };
        let size = module.size(format!("extent {dim}"), &format!("{hint}_extent"), extent)?;
        let coordinate = format!("{hint}{dim}{suffix}");
        let quotient = format!("{hint}{dim}_rest{suffix}");
        text.line(format!("let {coordinate} = {rest} % {size};"));
        text.line(format!("let {quotient} = {rest} / {size};"));
        found.push((dim, coordinate));
        rest = quotient;
    }
    Ok(found)
}

/// Whether element-level code may report an index.
pub(crate) fn reports_elements(nest: &Loop) -> bool {
    let reports = |code: &Code| matches!(code, Code::LoadIndexed { .. } | Code::While(..));
    nest.code.iter().any(|i| i.level == Level::Element && reports(&i.code))
}

/// The header of a shader: what it computes, without any size.
pub(crate) fn header(fabric: &Fabric<'_>, what: &str) -> String {
    let nest = fabric.nest;
    let name: String = fabric.context.kernel.name.chars().filter(|c| !c.is_ascii_digit()).collect();
    let stores: Vec<_> = nest.stores.iter().map(|s| fabric.names[s.value].as_str()).collect();
    let four = if fabric.vector.is_some() { ", four at a time" } else { "" };
    let dimensions = match (nest.schedule, nest.kept.len(), nest.reduced.len()) {
        (Schedule::Map, _, rank) => format!("rank {rank}"),
        (Schedule::Total | Schedule::Row | Schedule::Column, kept, reduced) => {
            format!("rank {kept} kept, {reduced} reduced")
        }
    };
    format!("{name}: {what}; {dimensions}{four}\nstores {}", stores.join(", "))
}
