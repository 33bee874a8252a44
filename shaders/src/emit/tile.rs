//! Matrix products in workgroup memory, for GPUs: tiles of 128 × 128 or 32 × 32 elements from two WGSL files.
//!
//! Operands of any layout are brought as blocks of 4 × 4 elements: straight where they lie along the terms, which a
//! transposition in registers puts right, and across where they lie along rows or columns. Past the last term zeros are
//! brought; past the last row or column the last one is repeated and not stored.

use cotangent_tensor::Error;

use super::cost;
use super::fabric::Fabric;
use super::loops::{coordinates, header, vector_dimension};
use super::matmul::{Fours, Operand, Product};
use super::module::Module;
use super::text::Text;
use crate::{Dispatch, catalogue};

/// Workgroups of large tiles that keep a large GPU busy.
const BUSY: usize = 96;

/// A tile and its file.
struct Tile {
    /// Rows and columns.
    side: usize,
    invocations: u32,
    file: &'static str,
    /// Words of four per term in workgroup memory.
    stride: usize,
}

fn choose(product: &Product<'_>) -> Option<Tile> {
    let target = product.context.target;
    let matmul = product.matmul;
    let batches: usize = matmul.batch.iter().product();
    let memory =
        |stride: usize| u32::try_from(2 * 16 * stride * 16).is_ok_and(|b| b <= target.max_workgroup_memory);
    let tiles = |side: usize| batches * matmul.m.div_ceil(side) * matmul.n.div_ceil(side) * product.chunks;
    let large = matmul.m >= 128 && matmul.n >= 128 && tiles(128) >= BUSY;
    if large && target.max_invocations >= 256 && memory(32) {
        let stride = if memory(33) { 33 } else { 32 };
        return Some(Tile { side: 128, invocations: 256, file: catalogue::MATMUL_TILE_128, stride });
    }
    let suits = matmul.m > 8 && matmul.n > 8 && target.max_invocations >= 64 && memory(9);
    suits.then_some(Tile { side: 32, invocations: 64, file: catalogue::MATMUL_TILE_32, stride: 9 })
}

/// The dispatches, if a tile suits shape and target.
pub(crate) fn lower(product: &Product<'_>) -> Result<Option<Vec<Dispatch>>, Error> {
    let Some(tile) = choose(product) else { return Ok(None) };
    let context = product.context;
    let matmul = product.matmul;
    let mut module = Module::new(context);
    let nest = product.epilogue;
    let mut fabric = Fabric::new(&mut module, nest, vector_dimension(nest, Some(nest.reduced.len() - 1)));
    let [left, right] = product.operands(&mut fabric);
    let [across, down] = [matmul.n.div_ceil(tile.side), matmul.m.div_ceil(tile.side)];
    let across_name = module.size("tiles across", "tiles_across", across)?;
    let down_name = module.size("tiles down", "tiles_down", down)?;
    let mut text = Text::inside(1);
    text.line(format!("let tile_column = group % {across_name};"));
    text.line(format!("let tile_row = (group / {across_name}) % {down_name};"));
    let outer = product.outer_rank();
    if outer > 0 {
        text.line(format!("let batch = group / ({across_name} * {down_name});"));
        fabric.outer = coordinates(&mut module, &mut text, nest, 0..outer, None, "batch", "")?;
    }
    module.prologue.append(&text);
    let turns = matmul.k.div_ceil(16);
    module.note_chain(product.chunk.next_multiple_of(16));
    let count = module.size("turns", "turns", turns)?;
    if product.chunks > 1 {
        let chunk = fabric.outer.iter().find(|(dim, _)| *dim == 0).map_or("0u", |(_, name)| name.as_str());
        let size = module.size("chunk", "chunk_turns", product.chunk / 16)?;
        module.prologue.line(format!("let first = {chunk} * {size};"));
        module.prologue.line(format!("let end = min(first + {size}, {count});"));
    } else {
        module.prologue.line("let first = 0u;");
        module.prologue.line(format!("let end = {count};"));
    }
    let finish = product.declare_finish(&mut fabric, &mut module)?;
    let rows = module.size("rows", "rows", matmul.m)?;
    let columns = module.size("columns", "columns", matmul.n)?;
    let batch = fabric.outer.clone();
    let mut calls = Vec::new();
    for (operand, name, extent) in [(&left, "lhs", &rows), (&right, "rhs", &columns)] {
        let base = product.batch_base(&mut module, operand, &batch)?;
        calls.push(declare_fetch(&mut module, &tile, operand, name, &base, extent, matmul.k)?);
    }
    module.items.line("");
    module.items.line(format!("const STRIDE: u32 = {}u;", tile.stride));

    let four = fabric.vector.is_some();
    let mut body = Text::inside(1);
    let blocks = if tile.side == 128 { 2 } else { 1 };
    for block_row in 0..blocks {
        for block_column in 0..blocks {
            for row in 0..4 {
                let sum = format!("c{}{row}", 2 * block_row + block_column);
                let row = format!("row + {}u", 64 * block_row + row);
                let column = if block_column == 0 { "left" } else { "right" };
                let at = if four { column.to_owned() } else { format!("4u * {column}") };
                body.line(format!(
                    "if ({row} < {rows} && 4u * {column} < {columns}) {{ {} }}",
                    finish(&sum, &row, &at)
                ));
            }
        }
    }
    module.body.append(&body);
    let fetch = |turn: &str| {
        format!(
            "if (brings_lhs) {{ next = {}; }} else {{ next = {}; }}",
            calls[0](turn, "tile_row"),
            calls[1](turn, "tile_column")
        )
    };
    let first = format!("    {}", fetch("first"));
    let next = format!("            {}", fetch("turn + 1u"));
    let fillings = [("fetch_first", first.as_str()), ("fetch_next", next.as_str())];
    let batches: usize = matmul.batch.iter().product();
    let groups = across * down * batches * product.chunks;
    let header = header(&fabric, "matrix product with epilogue");
    let dispatches = module.finish_file(tile.file, &fillings, &header, groups, cost(context.kernel))?;
    debug_assert!(tile.invocations <= context.target.max_invocations, "the tile was chosen to fit");
    Ok(Some(dispatches))
}

type Call = Box<dyn Fn(&str, &str) -> String>;

/// Declares the function that brings an operand's block of 4 × 4 elements, and where the block goes.
fn declare_fetch(
    module: &mut Module<'_>,
    tile: &Tile,
    operand: &Operand,
    name: &str,
    base: &str,
    extent: &str,
    k: usize,
) -> Result<Call, Error> {
    let fours = tile.side / 4;
    let memory = operand.memory;
    let unit = if operand.fours == Fours::None { 1 } else { 4 };
    let terms = module.size("all terms", "all_terms", k)?;
    let outer =
        module.size(format!("{name} outer stride"), &format!("{name}_outer_stride"), operand.outer / unit)?;
    let term =
        module.size(format!("{name} term stride"), &format!("{name}_term_stride"), operand.term / unit)?;
    let mut body = Text::inside(1);
    let straight = operand.fours == Fours::Terms;
    if straight {
        body.line("let term = turn * 4u + s % 4u;");
        body.line(format!("if (4u * term >= {terms}) {{ return mat4x4<f32>(); }}"));
        body.line(format!("let start = tile * {}u + (s / 4u) * 4u;", tile.side));
        for i in 0..4 {
            let index = format!("({base} + min(start + {i}u, {extent} - 1u) * {outer} + term)");
            let value = memory.load_four(module, &index);
            body.line(format!("let v{i} = {value};"));
        }
        body.line("return transpose(mat4x4<f32>(v0, v1, v2, v3));");
    } else {
        body.line(format!("let four = tile * {fours}u + s % {fours}u;"));
        body.line("var block_of_four = mat4x4<f32>();");
        for i in 0..4 {
            body.line(format!("let term{i} = turn * 16u + s / {fours}u + {}u;", 4 * i));
            let value = if operand.fours == Fours::Outer {
                let index = format!("({base} + min(four, {extent} / 4u - 1u) + term{i} * {term})");
                memory.load_four(module, &index)
            } else {
                let parts = (0..4).map(|c| {
                    let index = format!(
                        "({base} + min(4u * four + {c}u, {extent} - 1u) * {outer} + term{i} * {term})"
                    );
                    memory.load(module, &index)
                });
                format!("vec4<f32>({})", parts.collect::<Vec<_>>().join(", "))
            };
            body.line(format!("if (term{i} < {terms}) {{ block_of_four[{i}] = {value}; }}"));
        }
        body.line("return block_of_four;");
    }
    let captured = module.mentioned(body.as_str());
    let signature: String = captured.iter().map(|(n, ty)| format!(", {n}: {ty}")).collect();
    let items = &mut module.items;
    items.line("");
    items.open(format!("fn fetch_{name}(turn: u32, s: u32, tile: u32{signature}) -> mat4x4<f32>"));
    items.append(&body);
    items.close();
    let (slot, rows) = if straight {
        ("(s % 4u) * 4u * STRIDE + s / 4u".to_owned(), 1)
    } else {
        (format!("(s / {fours}u) * STRIDE + s % {fours}u"), 4)
    };
    items.line(format!("fn {name}_slot(s: u32) -> u32 {{ return {slot}; }}"));
    items.line(format!("const {}_ROWS: u32 = {rows}u;", name.to_uppercase()));
    let arguments: String = captured.iter().map(|(n, _)| format!(", {n}")).collect();
    let function = format!("fetch_{name}");
    Ok(Box::new(move |turn, tile| format!("{function}({turn}, s, {tile}{arguments})")))
}
