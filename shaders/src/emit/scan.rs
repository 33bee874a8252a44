//! Running sums: an invocation adds up a block of a run. Runs of many blocks take three dispatches: sums of the blocks,
//! what stands before each block, the running sums. The order is fixed.

use cotangent_tensor::{DType, Error};

use super::cost;
use super::memory::{Layout, Memory};
use super::module::{Context, Module};
use super::nest::word;
use crate::{Cost, Dispatch, Scan, Which};

/// Runs up to this length are one block.
const SHORT: usize = 256;

/// What a dispatch does with the blocks.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Sums of the blocks, to scratch.
    Sums,
    /// Sums of the blocks before, in place.
    Before,
    /// The running sums.
    Running,
}

/// See [`lower`](super::lower).
pub(crate) fn lower(context: Context<'_>, scan: &Scan) -> Result<Vec<Dispatch>, Error> {
    let runs = scan.outer * scan.inner;
    if runs * scan.length == 0 {
        return Ok(Vec::new());
    }
    // About as many blocks as elements in a block, so that no dispatch is long.
    let size =
        if scan.length <= SHORT { scan.length } else { scan.length.isqrt().next_power_of_two().max(64) };
    let blocks = scan.length.div_ceil(size);
    let budget = usize::try_from(context.target.loop_budget).unwrap_or(usize::MAX);
    if size.max(blocks) > budget {
        return Err(context.loop_budget(size.max(blocks)));
    }
    let mut dispatches = Vec::new();
    if blocks > 1 {
        let scratch = context.scratch(0, runs * blocks)?;
        for part in [Part::Sums, Part::Before, Part::Running] {
            dispatches.extend(dispatch(context, scan, part, size, blocks, Some(scratch))?);
        }
    } else {
        dispatches.extend(dispatch(context, scan, Part::Running, size, 1, None)?);
    }
    Ok(dispatches)
}

fn dispatch(
    context: Context<'_>,
    scan: &Scan,
    part: Part,
    size: usize,
    blocks: usize,
    scratch: Option<Which>,
) -> Result<Vec<Dispatch>, Error> {
    let mut module = Module::new(context);
    let runs = scan.outer * scan.inner;
    let lanes = if part == Part::Before { runs } else { runs * blocks };
    let invocations = context.invocations(if context.target.cpu { 8 } else { 64 });
    let count = module.size("lanes", "lane_count", lanes)?;
    let inner = module.size("inner", "inner", scan.inner)?;
    let prologue = &mut module.prologue;
    prologue.line(format!("let lane_index = group * {invocations}u + t;"));
    prologue.line(format!("if (lane_index >= {count}) {{ return; }}"));
    let groups = lanes.div_ceil(usize::try_from(invocations).unwrap_or(1));
    let partial = scratch.map(|which| (module.buffer(which, "f32", part != Part::Running), which));
    if part == Part::Before {
        let Some((buffer, _)) = partial else { return Err(context.internal("blocks without partial sums")) };
        let chunks = module.size("blocks", "blocks", blocks)?;
        let body = &mut module.body;
        body.line(format!("let at = (lane_index / {inner}) * {chunks} * {inner} + lane_index % {inner};"));
        body.line("var before = 0.0;");
        body.open(format!("for (var item = 0u; item < {chunks}; item += 1u)"));
        body.line(format!("let sum = {buffer}[at + item * {inner}];"));
        body.line(format!("{buffer}[at + item * {inner}] = before;"));
        body.line("before += sum;");
        body.close();
        module.note_chain(blocks);
        let bytes = 8.0 * (runs * blocks) as f64;
        let flops = (runs * blocks) as f64;
        return module.finish(
            "running sum: sums before each block",
            invocations,
            groups,
            Cost { bytes, flops },
        );
    }
    module.note_chain(size + 1);
    let length = module.size("length", "length", scan.length)?;
    let block = module.size("block size", "block_size", size)?;
    let blocks_name = if blocks > 1 { Some(module.size("blocks", "blocks", blocks)?) } else { None };
    let input = memory(&context, scan.input)?;
    let input_offset = module.size("input offset", "input_offset", scan.input_offset)?;
    // From the end the address runs backwards.
    let span = i64::try_from((scan.length - 1) * scan.inner).unwrap_or(0);
    let step = i64::try_from(scan.inner).unwrap_or(0);
    let (start, step) = if scan.reverse { (span, -step) } else { (0, step) };
    let start = module.parameter("start", "start", word(start));
    let step = module.parameter("step", "step", word(step));
    let output = memory(&context, scan.output)?;
    let output_offset = module.size("output offset", "output_offset", scan.output_offset)?;
    let prologue = &mut module.prologue;
    if let Some(blocks) = &blocks_name {
        prologue.line(format!("let run = lane_index / ({inner} * {blocks});"));
        prologue.line(format!("let first = (lane_index / {inner}) % {blocks} * {block};"));
        prologue.line(format!("let end = min(first + {block}, {length});"));
    } else {
        prologue.line(format!("let run = lane_index / {inner};"));
        prologue.line("let first = 0u;");
        prologue.line(format!("let end = min({block}, {length});"));
    }
    prologue.line(format!("let base = run * {length} * {inner} + lane_index % {inner} + {start};"));
    let load = input.load(&mut module, &format!("(input_base + item * {step})"));
    let mut text = super::text::Text::inside(1);
    text.line(format!("let input_base = {input_offset} + base;"));
    text.line("var sum = 0.0;");
    let title = match (part, &partial) {
        (Part::Running, partial) => {
            let before =
                partial.as_ref().map_or("0.0".to_owned(), |(buffer, _)| format!("{buffer}[lane_index]"));
            text.line(format!("let output_base = {output_offset} + base;"));
            text.line(format!("let before = {before};"));
            text.open("for (var item = first; item < end; item += 1u)");
            text.line(format!("sum += {load};"));
            output.store(&mut module, &mut text, &format!("(output_base + item * {step})"), "(before + sum)");
            text.close();
            "running sum along blocks"
        }
        (Part::Sums | Part::Before, Some((buffer, _))) => {
            text.line("for (var item = first; item < end; item += 1u) {");
            text.line(format!("    sum += {load};"));
            text.line("}");
            text.line(format!("{buffer}[lane_index] = sum;"));
            "running sum: sums of blocks"
        }
        (Part::Sums | Part::Before, None) => return Err(context.internal("blocks without partial sums")),
    };
    module.body.append(&text);
    module.finish(title, invocations, groups, cost(context.kernel))
}

fn memory(context: &Context<'_>, binding: usize) -> Result<Memory, Error> {
    let (which, dtype) = context.binding(binding);
    if dtype != DType::F32 {
        return Err(context.internal("running sums are over f32"));
    }
    Ok(Memory { which, dtype, layout: Layout::Single })
}
