//! Columns and short rows: an invocation owns one kept element (or four neighbors) and walks the reduced dimensions.
//!
//! Long columns are cut: into interleaved rows for the row groups of a workgroup (GPU), and into chunks of rows whose
//! partial results a second dispatch merges. Both orders are fixed.

use cotangent_tensor::Error;

use super::accumulate::{BATCH, Partial, accumulators, componentwise, declare_partial, roundings};
use super::fabric::Fabric;
use super::group::site;
use super::loops::{coordinates, header, last_kept, last_reduced, reports_elements, vector_dimension};
use super::module::{Context, Module};
use super::sweep::{Phases, log2, prepare, publish, store_kept};
use super::text::Text;
use super::{cost, library};
use crate::{Cost, Dispatch, Loop, Which};

/// How the box is cut.
struct Cut {
    /// Kept elements, or groups of four.
    lanes: usize,
    /// Reduced elements, or groups of four.
    items: usize,
    /// Lanes per workgroup.
    width: usize,
    /// Row groups per workgroup.
    rows: usize,
    /// Items per chunk.
    chunk: usize,
    chunks: usize,
}

/// Rows that one invocation adds up at most before partial results are merged.
const LONGEST: usize = 4096;

fn cut(context: &Context<'_>, lanes: usize, items: usize, divisible: bool, words: usize) -> Cut {
    let cpu = context.target.cpu;
    let limit = |wanted: u32| usize::try_from(context.invocations(wanted)).unwrap_or(1);
    let wanted = if cpu { 512 } else { 65_536 };
    let (mut width, mut rows) = match (cpu, lanes) {
        (true, 0..4096) => (limit(8), 1),
        (true, _) => (limit(64), 1),
        (false, lanes) if divisible && items >= 64 && lanes < wanted => (limit(32), limit(256) / limit(32)),
        (false, _) => (limit(64), 1),
    };
    let granted = usize::try_from(context.target.max_workgroup_memory).unwrap_or(usize::MAX);
    if 4 * words * width * rows > granted {
        (width, rows) = (limit(64), 1);
    }
    let chunks = if divisible {
        let useful = wanted.div_ceil(lanes * rows).min(items / (rows * 64));
        useful.max(items.div_ceil(rows * LONGEST)).max(1)
    } else {
        1
    };
    let chunk = items.div_ceil(chunks).max(1);
    Cut { lanes, items, width, rows, chunk, chunks: items.div_ceil(chunk).max(1) }
}

pub(crate) fn lower(context: Context<'_>, nest: &Loop, phases: &Phases) -> Result<Vec<Dispatch>, Error> {
    let along_kept = if componentwise(nest) && !reports_elements(nest) {
        vector_dimension(nest, last_kept(nest))
    } else {
        None
    };
    let vector = along_kept.or_else(|| vector_dimension(nest, last_reduced(nest)));
    let side = if along_kept.is_some() { 4 } else { 1 };
    let mut module = Module::new(context);
    let mut fabric = Fabric::new(&mut module, nest, vector);
    let lanes = nest.kept_elements() / side;
    let items = nest.reduced_elements() / (fabric.width() / side);
    let probe = accumulators(&fabric, &mut Module::new(context), &phases.of, 0, &phases.direct);
    let words = side * probe.iter().map(|a| a.fields().count()).sum::<usize>();
    let cut = cut(&context, lanes, items, phases.sweeps == 1 && words > 0, words);
    open(&mut module, &mut fabric, &cut, side)?;

    let (end, start) = rows_of_chunk(&mut module, &cut)?;
    let active = (cut.rows > 1).then_some("in_range");
    let mut turns = 0;
    let mut finished: Option<(String, Partial)> = None;
    for index in 0..phases.sweeps {
        let sweep = prepare(&mut fabric, &mut module, phases, index)?;
        if sweep.is_empty() {
            continue;
        }
        let mut body = Text::inside(1);
        sweep.declare(&mut body, fabric.width());
        let heavy = fabric.weight(&module, &sweep.stage) > 150;
        let unroll = if cut.chunk >= 4 * cut.rows && !heavy { 4 } else { 1 };
        let additions = cut.chunk.div_ceil(cut.rows * unroll) + unroll + BATCH + log2(cut.rows);
        module.note_chain(roundings(nest, additions));
        let counter = module.names.fresh("cursor");
        body.line(format!("var {counter} = {start};"));
        let batches: &[usize] = if unroll == 1 { &[1] } else { &[4, 1] };
        for &batch in batches {
            let ahead = (batch - 1) * cut.rows;
            let condition = if ahead == 0 { counter.clone() } else { format!("{counter} + {ahead}u") };
            body.open(format!("for (; {condition} < {end}; {counter} += {}u)", batch * cut.rows));
            let mut sites = Vec::new();
            for number in 0..batch {
                let suffix = if batch == 1 { String::new() } else { format!("_{number}") };
                let item = if number == 0 { counter.clone() } else { format!("item{suffix}") };
                if number > 0 {
                    body.line(format!("let {item} = {counter} + {}u;", number * cut.rows));
                }
                sites.push(site(&mut module, &mut body, nest, vector, &item, suffix, "lane_index")?);
            }
            sweep.batch(&mut fabric, &mut module, &mut body, &sites, active)?;
            body.close();
        }
        module.body.append(&body);
        let calls = if library::has_loop(module.items.as_str()) { 16 * fabric.width() } else { 0 };
        turns += cut.chunk.div_ceil(cut.rows * unroll) + unroll + calls * cut.chunk.div_ceil(cut.rows);
        if sweep.accumulators.is_empty() {
            continue;
        }
        let partial = declare_partial(&mut module, &sweep.accumulators, side);
        let inner = if along_kept.is_some() { 1 } else { fabric.width() };
        let fields: Vec<_> = sweep.accumulators.iter().flat_map(|a| a.collapse(inner)).collect();
        let value = module.names.fresh("partial");
        module.body.line(format!("var {value} = {}({});", partial.name, fields.join(", ")));
        if cut.rows > 1 {
            combine_rows(&mut module, &cut, &partial, &value);
        }
        if cut.chunks == 1 {
            publish(&mut fabric, &mut module, &sweep.accumulators, &value, side);
        } else {
            finished = Some((value, partial));
        }
    }
    if turns > context.own_turns(nest) {
        return Err(context.loop_budget(turns));
    }
    let groups = cut.lanes.div_ceil(cut.width) * cut.chunks;
    let invocations = u32::try_from(cut.width * cut.rows).unwrap_or(u32::MAX);
    let total = cost(context.kernel);
    let Some((value, partial)) = finished else {
        let writer = (cut.rows > 1).then(|| format!("in_range && t < {}u", cut.width));
        store_kept(&mut fabric, &mut module, writer.as_deref())?;
        let header = header(&fabric, "an invocation per kept element");
        return module.finish(&header, invocations, groups, total);
    };
    let scratch = context.scratch(0, cut.lanes * side * cut.chunks * partial.words)?;
    let buffer = module.buffer(scratch, if side == 4 { "vec4<u32>" } else { "u32" }, true);
    if cut.rows > 1 {
        module.body.open(format!("if (in_range && t < {}u)", cut.width));
    }
    let count = module.size("lanes", "lane_count", cut.lanes)?;
    for (number, (field, _)) in partial.fields.iter().enumerate() {
        let ty = if side == 4 { "vec4<u32>" } else { "u32" };
        let words = partial.words;
        module.body.line(format!(
            "{buffer}[(chunk_index * {words}u + {number}u) * {count} + lane_index] = bitcast<{ty}>({value}.{field});"
        ));
    }
    if cut.rows > 1 {
        module.body.close();
    }
    let header = format!(
        "{}\nleaves partial results per chunk of rows",
        header(&fabric, "an invocation per kept element")
    );
    let mut dispatches = module.finish(&header, invocations, groups, total)?;
    dispatches.extend(merge(context, nest, phases, vector, side, &cut, scratch)?);
    Ok(dispatches)
}

/// The lane of an invocation, and its coordinates.
fn open<'a>(module: &mut Module<'a>, fabric: &mut Fabric<'a>, cut: &Cut, side: usize) -> Result<(), Error> {
    let nest = fabric.nest;
    let count = module.size("lanes", "lane_count", cut.lanes)?;
    let mut text = Text::inside(1);
    let group = if cut.chunks > 1 {
        module.fixed_parameter("chunks", cut.chunks)?;
        text.line("let chunk_index = group % chunks;");
        "(group / chunks)"
    } else {
        "group"
    };
    if cut.rows > 1 {
        // Everybody takes part in the barriers: lanes past the end repeat the last one and store nothing.
        text.line(format!("let lane = {group} * {0}u + t % {0}u;", cut.width));
        text.line(format!("let in_range = lane < {count};"));
        text.line(format!("let lane_index = min(lane, {count} - 1u);"));
    } else {
        text.line(format!("let lane_index = {group} * {}u + t;", cut.width));
        text.line(format!("if (lane_index >= {count}) {{ return; }}"));
    }
    let along_kept = fabric.vector.filter(|_| side == 4);
    fabric.outer = coordinates(module, &mut text, nest, 0..nest.kept.len(), along_kept, "lane_index", "")?;
    fabric.kept_index = Some(if side == 4 { "4u * lane_index".to_owned() } else { "lane_index".to_owned() });
    fabric.reporter = (cut.rows > 1).then(|| format!("in_range && t < {}u", cut.width));
    module.prologue.append(&text);
    Ok(())
}

/// Where the rows of an invocation end and start.
fn rows_of_chunk(module: &mut Module<'_>, cut: &Cut) -> Result<(String, String), Error> {
    let items = module.size("items", "items", cut.items)?;
    let own = if cut.rows > 1 { format!("t / {}u", cut.width) } else { "0u".to_owned() };
    if cut.chunks == 1 {
        return Ok((items, own));
    }
    let chunk = module.size("chunk", "chunk_rows", cut.chunk)?;
    module.prologue.line(format!("let first = chunk_index * {chunk};"));
    module.prologue.line(format!("let end = min(first + {chunk}, {items});"));
    Ok(("end".to_owned(), format!("first + {own}")))
}

/// Merges the row groups of a workgroup; the result reaches all of them.
fn combine_rows(module: &mut Module<'_>, cut: &Cut, partial: &Partial, value: &str) {
    let slot = module.names.fresh("slots");
    let Cut { width, rows, .. } = cut;
    let merge = &partial.merge;
    module.items.line("");
    module.items.line(format!("var<workgroup> {slot}: array<{}, {}>;", partial.name, width * rows));
    let text = &mut module.body;
    text.line(format!("{slot}[t] = {value};"));
    text.line("workgroupBarrier();");
    text.open(format!("for (var span = 1u; span < {rows}u; span *= 2u)"));
    text.line(format!(
        "if ((t / {width}u) % (2u * span) == 0u) {{ {slot}[t] = {merge}({slot}[t], {slot}[t + span * {width}u]); }}"
    ));
    text.line("workgroupBarrier();");
    text.close();
    text.line(format!("{value} = {slot}[t % {width}u];"));
}

/// Merges the chunks of every lane, then runs the kept-level code.
fn merge(
    context: Context<'_>,
    nest: &Loop,
    phases: &Phases,
    vector: Option<usize>,
    side: usize,
    cut: &Cut,
    scratch: Which,
) -> Result<Vec<Dispatch>, Error> {
    let mut module = Module::new(context);
    let vector = vector.filter(|_| side == 4);
    let mut fabric = Fabric::new(&mut module, nest, vector);
    let accumulators = accumulators(&fabric, &mut module, &phases.of, 0, &phases.direct);
    let partial = declare_partial(&mut module, &accumulators, side);
    let width = usize::try_from(context.invocations(if context.target.cpu { 8 } else { 64 })).unwrap_or(1);
    let merged = Cut { chunks: 1, rows: 1, width, ..*cut };
    open(&mut module, &mut fabric, &merged, side)?;
    if cut.chunks > context.own_turns(nest) {
        return Err(context.loop_budget(cut.chunks));
    }
    let count = module.size("lanes", "lane_count", cut.lanes)?;
    let chunks = module.fixed_parameter("chunks", cut.chunks)?;
    let buffer = module.buffer(scratch, if side == 4 { "vec4<u32>" } else { "u32" }, false);
    let words = partial.words;
    module.note_chain(roundings(nest, cut.chunks));
    let body = &mut module.body;
    body.line(format!("var combined = {};", partial.neutral));
    body.open(format!("for (var item = 0u; item < {chunks}; item += 1u)"));
    let loads = partial.fields.iter().enumerate().map(|(number, (_, ty))| {
        format!("bitcast<{ty}>({buffer}[(item * {words}u + {number}u) * {count} + lane_index])")
    });
    let loads = loads.collect::<Vec<_>>().join(", ");
    body.line(format!("combined = {}(combined, {}({loads}));", partial.merge, partial.name));
    body.close();
    publish(&mut fabric, &mut module, &accumulators, "combined", side);
    store_kept(&mut fabric, &mut module, None)?;
    let header = header(&fabric, "merges the chunks of every kept element");
    let bytes = 4.0 * words as f64 * (cut.lanes * side * cut.chunks) as f64;
    let groups = cut.lanes.div_ceil(width);
    module.finish(&header, u32::try_from(width).unwrap_or(1), groups, Cost { bytes, flops: 0.0 })
}
