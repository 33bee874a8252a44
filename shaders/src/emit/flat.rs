//! Maps, and long reductions to few values: every invocation handles a few groups of elements, straight-line.
//!
//! Workgroups inside the box take a path without guards; the last one of a box takes the other. Partial results of a
//! reduction, one per workgroup, are merged by further dispatches; the last of them runs the kept-level code.

use cotangent_tensor::Error;

use super::accumulate::{BATCH, Partial, declare_partial, roundings};
use super::cost;
use super::fabric::Fabric;
use super::group::site;
use super::loops::{coordinates, header, last_reduced, vector_dimension};
use super::module::{Context, Module};
use super::sweep::{Combine, Phases, log2, prepare, publish, store_kept};
use super::text::Text;
use crate::{Cost, Dispatch, Loop, Which};

/// Partial results that one invocation merges, at most.
const MERGES: usize = 64;

/// Groups of elements per invocation: many for light code, which only waits for memory; few for heavy code, which is
/// written out for each.
fn per_invocation(
    context: &Context<'_>,
    weight: usize,
    width: usize,
    stores: bool,
    items_per_lane: usize,
) -> usize {
    let code = weight * width;
    let most = match code {
        _ if weight <= 1 && !stores => 16,
        0..=400 => 4,
        401..=800 => 2,
        _ => 1,
    };
    if context.target.cpu {
        return most;
    }
    // Enough workgroups to fill a large GPU come first.
    [16, 4, 2, 1].into_iter().find(|&p| p <= most && (p == 1 || items_per_lane >= 512 * p)).unwrap_or(1)
}

pub(crate) fn lower(context: Context<'_>, nest: &Loop, phases: &Phases) -> Result<Vec<Dispatch>, Error> {
    let vector = vector_dimension(nest, last_reduced(nest));
    let width = if vector.is_some() { 4 } else { 1 };
    let items = nest.reduced_elements() / width;
    let kept = nest.kept_elements();
    let mut module = Module::new(context);
    let mut fabric = Fabric::new(&mut module, nest, vector);
    let whole = nest.kept.is_empty();
    if !whole {
        fabric.kept_index = Some("kept_index".to_owned());
        let mut text = Text::inside(1);
        text.line("let kept_index = group / chunks;");
        text.line("let chunk_index = group % chunks;");
        fabric.outer = coordinates(&mut module, &mut text, nest, 0..nest.kept.len(), None, "kept_index", "")?;
        module.prologue.append(&text);
    }
    let chunk = if whole { "group" } else { "chunk_index" };
    fabric.reporter = Some(format!("t == 0u && {chunk} == 0u"));
    let sweep = prepare(&mut fabric, &mut module, phases, 0)?;

    let words: usize = sweep.accumulators.iter().map(|a| a.fields().count()).sum();
    let invocations = workgroup(&module, words);
    let lanes = usize::try_from(invocations).unwrap_or(1);
    let combine = Combine::choose(&module, invocations);
    let weight = fabric.weight(&module, &sweep.stage);
    let per = per_invocation(&context, weight, width, phases.stores_elements(), items.div_ceil(lanes));
    let chunks = items.div_ceil(lanes * per);
    let size = module.size("items", "items", items)?;
    if !whole {
        // Named in the prologue.
        module.fixed_parameter("chunks", chunks)?;
    }

    let mut body = Text::inside(1);
    sweep.declare(&mut body, width);
    body.line(format!("let first = {chunk} * {}u + t;", lanes * per));
    if per > 1 {
        body.open(format!("if (({chunk} + 1u) * {}u <= {size})", lanes * per));
        let mut sites = Vec::new();
        for index in 0..per {
            let suffix = format!("_{index}");
            let item = if index == 0 { "first".to_owned() } else { format!("item{suffix}") };
            if index > 0 {
                body.line(format!("let {item} = first + {}u;", index * lanes));
            }
            sites.push(site(&mut module, &mut body, nest, vector, &item, suffix, "kept_index")?);
        }
        // Sixteen loads in flight are enough.
        for batch in sites.chunks(16) {
            sweep.batch(&mut fabric, &mut module, &mut body, batch, None)?;
        }
        body.close_and_open("else");
        body.open(format!("for (var item = first; item < {size}; item += {lanes}u)"));
    } else {
        body.open(format!("if (first < {size})"));
    }
    let item = if per > 1 { "item" } else { "first" };
    let last = site(&mut module, &mut body, nest, vector, item, String::new(), "kept_index")?;
    sweep.batch(&mut fabric, &mut module, &mut body, &[last], None)?;
    if per > 1 {
        body.close();
    }
    body.close();
    module.body.append(&body);

    let total = cost(context.kernel);
    if sweep.accumulators.is_empty() {
        let header = header(&fabric, "every element");
        return module.finish(&header, invocations, kept * chunks, total);
    }
    module.note_chain(roundings(nest, per + BATCH + log2(lanes)));
    let partial = declare_partial(&mut module, &sweep.accumulators, 1);
    let fields: Vec<_> = sweep.accumulators.iter().flat_map(|a| a.collapse(width)).collect();
    module.body.line(format!("var combined = {}({});", partial.name, fields.join(", ")));
    combine.write(&mut module, &partial, "combined", false);
    let scratch = context.scratch(0, kept * chunks * partial.words)?;
    write_partial(&mut module, scratch, &partial, "group");
    let header =
        format!("{}\nleaves one partial result per workgroup", header(&fabric, "a chunk of the reduction"));
    let mut dispatches = module.finish(&header, invocations, kept * chunks, total)?;
    dispatches.extend(merge(context, nest, phases, scratch, chunks)?);
    Ok(dispatches)
}

/// Invocations of a workgroup whose partial results fit workgroup memory.
fn workgroup(module: &Module<'_>, words: usize) -> u32 {
    let mut invocations = module.context.invocations(256);
    let granted = usize::try_from(module.context.target.max_workgroup_memory).unwrap_or(usize::MAX);
    while invocations > 1 && Combine::choose(module, invocations).memory(words) > granted {
        invocations /= 2;
    }
    invocations
}

/// The first invocation leaves `combined` as partial result `index`.
fn write_partial(module: &mut Module<'_>, scratch: Which, partial: &Partial, index: &str) {
    let buffer = module.buffer(scratch, "u32", true);
    module.body.open("if (t == 0u)");
    for (number, (field, _)) in partial.fields.iter().enumerate() {
        let words = partial.words;
        module
            .body
            .line(format!("{buffer}[{index} * {words}u + {number}u] = bitcast<u32>(combined.{field});"));
    }
    module.body.close();
}

/// Merges `count` partial results per kept element until one is left, then runs the kept-level code.
fn merge(
    context: Context<'_>,
    nest: &Loop,
    phases: &Phases,
    mut scratch: Which,
    mut count: usize,
) -> Result<Vec<Dispatch>, Error> {
    let kept = nest.kept_elements();
    let mut dispatches = Vec::new();
    for level in 1.. {
        let mut module = Module::new(context);
        let mut fabric = Fabric::new(&mut module, nest, None);
        let accumulators =
            super::accumulate::accumulators(&fabric, &mut module, &phases.of, 0, &phases.direct);
        let partial = declare_partial(&mut module, &accumulators, 1);
        let invocations = workgroup(&module, partial.words);
        let lanes = usize::try_from(invocations).unwrap_or(1);
        let combine = Combine::choose(&module, invocations);
        let last = count <= lanes * MERGES;
        let chunk = lanes * MERGES;
        module.note_chain(roundings(nest, count.min(chunk).div_ceil(lanes) + log2(lanes)));
        let chunks = if last { 1 } else { count.div_ceil(chunk) };
        let size = module.size("count", "count", count)?;
        let words = partial.words;
        let buffer = module.buffer(scratch, "u32", false);
        let mut text = Text::inside(1);
        let (row, start, end) = if last {
            ("group", "t".to_owned(), size.clone())
        } else {
            module.fixed_parameter("chunks", chunks)?;
            text.line("let kept_index = group / chunks;");
            text.line(format!("let first = (group % chunks) * {chunk}u;"));
            text.line(format!("let end = min(first + {chunk}u, {size});"));
            ("kept_index", "first + t".to_owned(), "end".to_owned())
        };
        text.line(format!("var combined = {};", partial.neutral));
        text.open(format!("for (var item = {start}; item < {end}; item += {lanes}u)"));
        text.line(format!("let at = ({row} * {size} + item) * {words}u;"));
        let loads = partial
            .fields
            .iter()
            .enumerate()
            .map(|(i, (_, ty))| format!("bitcast<{ty}>({buffer}[at + {i}u])"));
        let loads = loads.collect::<Vec<_>>().join(", ");
        text.line(format!("combined = {}(combined, {}({loads}));", partial.merge, partial.name));
        text.close();
        module.body.append(&text);
        combine.write(&mut module, &partial, "combined", last);
        let bytes = 4.0 * words as f64 * count as f64 * kept as f64;
        let part = Cost { bytes, flops: 0.0 };
        if last {
            fabric.kept_index = Some("group".to_owned());
            fabric.reporter = Some("t == 0u".to_owned());
            let mut text = Text::inside(1);
            fabric.outer = coordinates(&mut module, &mut text, nest, 0..nest.kept.len(), None, "group", "")?;
            module.prologue.append(&text);
            publish(&mut fabric, &mut module, &accumulators, "combined", 1);
            store_kept(&mut fabric, &mut module, Some("t == 0u"))?;
            let header = header(&fabric, "merges the partial results of a reduction");
            dispatches.extend(module.finish(&header, invocations, kept, part)?);
            return Ok(dispatches);
        }
        let next = context.scratch(level, kept * chunks * words)?;
        write_partial(&mut module, next, &partial, "group");
        let header = header(&fabric, "merges chunks of partial results");
        dispatches.extend(module.finish(&header, invocations, kept * chunks, part)?);
        (scratch, count) = (next, chunks);
    }
    Ok(dispatches)
}
