//! One workgroup per kept element: its invocations stride through the reduced dimensions, once per sweep.
//!
//! On CPU adapters a workgroup is one subgroup and needs no barrier. Four groups of elements are loaded per turn.

use cotangent_tensor::Error;

use super::accumulate::{BATCH, declare_partial, roundings};
use super::fabric::{Fabric, Site};
use super::loops::{coordinates, header, last_reduced, reports_elements, vector_dimension};
use super::module::{Context, Module};
use super::nest::per_element;
use super::sweep::{Combine, Phases, log2, prepare, publish, store_kept};
use super::text::Text;
use super::{cost, library};
use crate::{Code, Dispatch, Loop};

/// Turns after which a row gets more invocations: it bounds the length of the chain of additions.
const TURNS: usize = 256;

/// Invocations for a row of `items`.
fn invocations(context: &Context<'_>, items: usize) -> u32 {
    let least = match context.target.subgroups {
        Some((least, _)) => least.max(1),
        None => 8,
    };
    let candidates: [u32; 4] = if context.target.cpu { [least, 64, 128, 256] } else { [64, 128, 256, 256] };
    let unroll = 4;
    let per_turn = |w: u32| usize::try_from(w).unwrap_or(1) * unroll;
    let fits = |&w: &u32| {
        if context.target.cpu { items <= per_turn(w) * TURNS } else { items <= per_turn(w) }
    };
    context.invocations(candidates.into_iter().find(fits).unwrap_or(256))
}

pub(crate) fn lower(context: Context<'_>, nest: &Loop, phases: &Phases) -> Result<Vec<Dispatch>, Error> {
    let vector = vector_dimension(nest, last_reduced(nest));
    let width = if vector.is_some() { 4 } else { 1 };
    let items = nest.reduced_elements() / width;
    let mut module = Module::new(context);
    let mut fabric = Fabric::new(&mut module, nest, vector);
    fabric.kept_index = Some("group".to_owned());
    fabric.reporter = Some("t == 0u".to_owned());
    let mut text = Text::inside(1);
    fabric.outer = coordinates(&mut module, &mut text, nest, 0..nest.kept.len(), None, "group", "")?;
    module.prologue.append(&text);

    let invocations = invocations(&context, items);
    let lanes = usize::try_from(invocations).unwrap_or(1);
    let unroll = if items >= 4 * lanes { 4 } else { 1 };
    let combine = Combine::choose(&module, invocations);
    let mut memory = 0;
    let mut turns = 0;
    for sweep in 0..phases.sweeps {
        let sweep = prepare(&mut fabric, &mut module, phases, sweep)?;
        if sweep.is_empty() {
            continue;
        }
        let size = module.size("items", "items", items)?;
        let mut body = Text::inside(module.body.depth());
        sweep.declare(&mut body, width);
        module.body.append(&body);
        let calls = if library::has_loop(module.items.as_str()) { 16 * width } else { 0 };
        let unroll = if fabric.weight(&module, &sweep.stage) > 150 { 1 } else { unroll };
        turns += items / (lanes * unroll) + unroll + calls * items.div_ceil(lanes);
        let additions = items.div_ceil(lanes * unroll) + unroll + BATCH + log2(lanes);
        module.note_chain(roundings(nest, additions));
        let counter = module.names.fresh("cursor");
        module.body.line(format!("var {counter} = t;"));
        let batches: &[usize] = if unroll == 1 { &[1] } else { &[4, 1] };
        for &batch in batches {
            let ahead = (batch - 1) * lanes;
            let condition = if ahead == 0 {
                format!("{counter} < {size}")
            } else {
                format!("{counter} + {ahead}u < {size}")
            };
            module.body.open(format!("for (; {condition}; {counter} += {}u)", batch * lanes));
            let mut text = Text::inside(module.body.depth());
            let mut sites = Vec::new();
            for index in 0..batch {
                let suffix = if batch == 1 { String::new() } else { format!("_{index}") };
                let item = if index == 0 { counter.clone() } else { format!("item{suffix}") };
                if index > 0 {
                    text.line(format!("let {item} = {counter} + {}u;", index * lanes));
                }
                sites.push(site(&mut module, &mut text, nest, vector, &item, suffix, "group")?);
            }
            sweep.batch(&mut fabric, &mut module, &mut text, &sites, None)?;
            module.body.append(&text);
            module.body.close();
        }
        if sweep.accumulators.is_empty() {
            continue;
        }
        let partial = declare_partial(&mut module, &sweep.accumulators, 1);
        let value = module.names.fresh("partial");
        let fields: Vec<_> = sweep.accumulators.iter().flat_map(|a| a.collapse(width)).collect();
        module.body.line(format!("var {value} = {}({});", partial.name, fields.join(", ")));
        combine.write(&mut module, &partial, &value, true);
        memory += combine.memory(partial.words);
        publish(&mut fabric, &mut module, &sweep.accumulators, &value, 1);
    }
    if phases.sweeps > 1 && updates_kept(nest) {
        // The first invocation overwrites what others may still be loading for their part of the last sweep.
        module.body.line("storageBarrier();");
    }
    store_kept(&mut fabric, &mut module, Some("t == 0u"))?;
    let granted = usize::try_from(context.target.max_workgroup_memory).unwrap_or(usize::MAX);
    if memory > granted {
        return Err(context
            .limit(format!("{memory} bytes of workgroup memory are needed, the adapter grants {granted}")));
    }
    if turns > context.own_turns(nest) {
        return Err(context.loop_budget(turns));
    }
    let header = header(&fabric, "a workgroup per row");
    module.finish(&header, invocations, nest.kept_elements(), cost(context.kernel))
}

/// Whether a kept-level result takes the place of something that the kernel loads.
fn updates_kept(nest: &Loop) -> bool {
    let loads = |binding: usize| {
        nest.code.iter().any(|i| match i.code {
            Code::Load { binding: b, .. } | Code::LoadIndexed { binding: b, .. } => b == binding,
            _ => false,
        })
    };
    nest.stores.iter().any(|store| !per_element(nest, store) && loads(store.binding))
}

/// The site of item `item` of the reduced dimensions.
pub(crate) fn site(
    module: &mut Module<'_>,
    text: &mut Text,
    nest: &Loop,
    vector: Option<usize>,
    item: &str,
    suffix: String,
    kept_index: &str,
) -> Result<Site, Error> {
    let dims = nest.kept.len()..nest.kept.len() + nest.reduced.len();
    let coordinates = coordinates(module, text, nest, dims.clone(), vector, item, &suffix)?;
    let along_reduced = vector.is_some_and(|v| dims.contains(&v));
    let position = if along_reduced { format!("4u * {item}") } else { item.to_owned() };
    let place = if !reports_elements(nest) {
        String::new()
    } else if nest.kept.is_empty() {
        position.clone()
    } else {
        let size = module.size("reduced elements", "reduced_size", nest.reduced_elements())?;
        format!("{kept_index} * {size} + {position}")
    };
    Ok(Site { suffix, coordinates, position, place })
}
