//! The loop as the emitter wants it: no dimension of extent 1, adjacent dimensions merged, no empty reduction, and a map
//! turned into a sweep over everything.

use cotangent_tensor::{Error, Reduce};

use super::module::Context;
use crate::{Affine, Code, Level, Loop, Schedule};

/// The affine function of an instruction.
pub(crate) fn affine(code: &Code) -> Option<&Affine> {
    match code {
        Code::Load { at, .. } | Code::LoadIndexed { at, .. } | Code::Coordinate(at) => Some(at),
        Code::InRange { at, .. } | Code::RandomBits { at, .. } => Some(at),
        Code::Constant(_) | Code::Accumulator | Code::Elementwise(..) | Code::Integer(..) | Code::Cast(_) => {
            None
        }
        Code::Reduce(..) | Code::ArgReduce { .. } | Code::LogSumExpMax(_) | Code::LogSumExpRest(_) => None,
        Code::Softmax { .. } | Code::SoftmaxResidual { .. } | Code::Pick { .. } => None,
        Code::While(..) | Code::Part(..) | Code::Parameter(_) => None,
    }
}

fn affine_mut(code: &mut Code) -> Option<&mut Affine> {
    match code {
        Code::Load { at, .. } | Code::LoadIndexed { at, .. } | Code::Coordinate(at) => Some(at),
        Code::InRange { at, .. } | Code::RandomBits { at, .. } => Some(at),
        Code::Constant(_) | Code::Accumulator | Code::Elementwise(..) | Code::Integer(..) | Code::Cast(_) => {
            None
        }
        Code::Reduce(..) | Code::ArgReduce { .. } | Code::LogSumExpMax(_) | Code::LogSumExpRest(_) => None,
        Code::Softmax { .. } | Code::SoftmaxResidual { .. } | Code::Pick { .. } => None,
        Code::While(..) | Code::Part(..) | Code::Parameter(_) => None,
    }
}

fn affines(nest: &Loop) -> impl Iterator<Item = &Affine> {
    nest.code.iter().filter_map(|i| affine(&i.code)).chain(nest.stores.iter().map(|s| &s.at))
}

fn for_each_affine(nest: &mut Loop, mut change: impl FnMut(&mut Affine)) {
    nest.code.iter_mut().filter_map(|i| affine_mut(&mut i.code)).for_each(&mut change);
    nest.stores.iter_mut().for_each(|s| change(&mut s.at));
}

/// The loop in the form described above.
pub(crate) fn normalize(context: &Context<'_>, nest: &Loop) -> Result<Loop, Error> {
    let mut nest = nest.clone();
    let rank = nest.kept.len() + nest.reduced.len();
    if affines(&nest).any(|a| a.strides.len() != rank) {
        return Err(context.internal("an affine function has another rank than its loop"));
    }
    if nest.reduced_elements() == 0 {
        reduce_nothing(context, &mut nest)?;
    }
    for dim in (0..nest.kept.len() + nest.reduced.len()).rev() {
        let kept = nest.kept.len();
        let extent = if dim < kept { nest.kept[dim] } else { nest.reduced[dim - kept] };
        if extent == 1 {
            remove(&mut nest, dim);
        }
    }
    let mut dim = nest.kept.len() + nest.reduced.len();
    while dim > 1 {
        dim -= 1;
        let kept = nest.kept.len();
        if dim == kept || dim >= kept + nest.reduced.len() {
            continue;
        }
        let extent = if dim < kept { nest.kept[dim] } else { nest.reduced[dim - kept] };
        let step = i64::try_from(extent).map_err(|_| context.limit("an extent does not fit 64 bits"))?;
        if affines(&nest).all(|a| a.strides[dim - 1] == a.strides[dim] * step) {
            if dim < kept {
                nest.kept[dim] *= nest.kept[dim - 1];
            } else {
                nest.reduced[dim - kept] *= nest.reduced[dim - kept - 1];
            }
            remove(&mut nest, dim - 1);
        }
    }
    if nest.schedule == Schedule::Map {
        sweep_over_kept(&mut nest);
    }
    Ok(nest)
}

fn remove(nest: &mut Loop, dim: usize) {
    let kept = nest.kept.len();
    if dim < kept {
        nest.kept.remove(dim);
    } else {
        nest.reduced.remove(dim - kept);
    }
    for_each_affine(nest, |a| {
        a.strides.remove(dim);
    });
}

/// Reductions over no element are constants; what varies over the reduced dimensions disappears.
fn reduce_nothing(context: &Context<'_>, nest: &mut Loop) -> Result<(), Error> {
    for instruction in &mut nest.code {
        let one = if instruction.dtype.is_float() { 1f32.to_bits() } else { 1 };
        match &instruction.code {
            Code::Reduce(Reduce::Sum, _) => instruction.code = Code::Constant(0),
            Code::Reduce(Reduce::Prod, _) => instruction.code = Code::Constant(one),
            code if code.is_reduction() => return Err(context.internal("a reduction over no element")),
            _ if instruction.level == Level::Element => {
                instruction.code = Code::Constant(0);
                instruction.level = Level::Kept;
            }
            _ => {}
        }
    }
    let element = |v: usize, nest: &Loop| nest.code[v].level == Level::Element;
    let stores = nest.stores.iter().filter(|s| !element(s.value, nest)).cloned().collect();
    nest.stores = stores;
    let kept = nest.kept.len();
    nest.reduced.clear();
    for_each_affine(nest, |a| a.strides.truncate(kept));
    nest.schedule = Schedule::Map;
    Ok(())
}

/// A map is a sweep without reductions in which every coordinate is swept over. Values without coordinates are kept level.
pub(crate) fn sweep_over_kept(nest: &mut Loop) {
    nest.reduced = std::mem::take(&mut nest.kept);
    for value in 0..nest.code.len() {
        let varies = match &nest.code[value].code {
            Code::Accumulator => true,
            code => affine(code).is_some_and(|a| a.strides.iter().any(|&s| s != 0)),
        };
        let operands = nest.code[value].code.operands();
        let element = varies || operands.iter().any(|&o| nest.code[o].level == Level::Element);
        nest.code[value].level = if element { Level::Element } else { Level::Kept };
    }
}

/// Whether a store happens for every coordinate of the reduced dimensions.
pub(crate) fn per_element(nest: &Loop, store: &crate::Store) -> bool {
    nest.schedule == Schedule::Map || nest.code[store.value].level == Level::Element
}

/// The largest value of an affine function over the box.
pub(crate) fn largest(at: &Affine, extents: &[usize]) -> i64 {
    let reach = |(s, &e): (&i64, &usize)| s.max(&0) * (i64::try_from(e).unwrap_or(i64::MAX).max(1) - 1);
    at.offset + at.strides.iter().zip(extents).map(reach).sum::<i64>()
}

/// The word for an index or stride: 32-bit arithmetic wraps, so negative ones work.
pub(crate) fn word(value: i64) -> u32 {
    // The low half is the meaning.
    (value & 0xffff_ffff).try_into().unwrap_or(0)
}

/// The extents of all dimensions.
pub(crate) fn extents(nest: &Loop) -> Vec<usize> {
    nest.kept.iter().chain(&nest.reduced).copied().collect()
}
