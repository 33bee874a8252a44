//! Matrix product without workgroup memory and barriers: every invocation owns up to 8 rows × 16 columns.
//!
//! Where a subgroup is as wide as its lanes (CPU adapters), its invocations lie side by side over the same rows, up to 32 of
//! them: each loads its part of the left operand and the others take theirs from it. A load costs such an adapter as much as
//! dozens of multiplications.
//!
//! This is what CPU adapters run fastest, and the fallback everywhere. Loads are vec4 along the contiguous axis of each
//! operand, four terms per turn; a transposed operand is a 4 × 4 block that is transposed in registers. Rows and columns
//! past the edge repeat the last ones and are not stored.

use cotangent_tensor::Error;

use super::cost;
use super::fabric::Fabric;
use super::loops::{coordinates, header, vector_dimension};
use super::matmul::{Fours, Operand, Product};
use super::module::{COMPONENTS, Module};
use super::text::Text;
use crate::Dispatch;

/// Columns from which invocations share the loads of the left operand: fewer would leave most of them idle.
const LEAST_SHARED: usize = 16;

/// Multiplications from which more rows per tile save more than their longer shader costs to compile.
const LARGE: usize = 1 << 24;

/// The tile of an invocation.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    /// In fours.
    columns: usize,
}

pub(crate) fn lower(product: &Product<'_>) -> Result<Vec<Dispatch>, Error> {
    let context = product.context;
    let matmul = product.matmul;
    let mut module = Module::new(context);
    let nest = product.epilogue;
    let last = nest.reduced.len() - 1;
    let mut fabric = Fabric::new(&mut module, nest, vector_dimension(nest, Some(last)));
    let [left, right] = product.operands(&mut fabric);
    let least = if left.fours == Fours::Outer { 4 } else { 1 };
    let invocations = context.invocations(32);
    let lanes = usize::try_from(invocations).unwrap_or(1);
    let beside = match context.target.subgroups {
        Some((least, most)) if context.target.cpu && least == most && least <= invocations => {
            usize::try_from(least).unwrap_or(1)
        }
        _ => 1,
    };
    let beside = if matmul.n >= LEAST_SHARED && matmul.m > 1 { beside } else { 1 };
    let most = match (beside, matmul.m * matmul.n * matmul.k) {
        (1, _) => 8,
        (_, ..LARGE) => 16,
        (_, LARGE..) => 32,
    };
    let tile = Tile {
        rows: matmul.m.next_power_of_two().clamp(least, most),
        columns: matmul.n.div_ceil(4 * beside).clamp(1, 4),
    };
    let [across, down] = [matmul.n.div_ceil(4 * tile.columns), matmul.m.div_ceil(tile.rows)];
    let across = across.next_multiple_of(beside);
    if beside > 1 {
        module.use_butterfly();
    }
    let batches: usize = matmul.batch.iter().product();
    let tiles = across * down * batches * product.chunks;

    let count = module.size("tiles", "tiles", tiles)?;
    let across_name = module.size("tiles across", "tiles_across", across)?;
    let down_name = module.size("tiles down", "tiles_down", down)?;
    let mut text = Text::inside(1);
    text.line(format!("let tile = group * {invocations}u + t;"));
    text.line(format!("if (tile >= {count}) {{ return; }}"));
    text.line(format!("let row = ((tile / {across_name}) % {down_name}) * {}u;", tile.rows));
    text.line(format!("let column = (tile % {across_name}) * {}u;", tile.columns));
    let outer = product.outer_rank();
    if outer > 0 {
        text.line(format!("let batch = tile / ({across_name} * {down_name});"));
        fabric.outer = coordinates(&mut module, &mut text, nest, 0..outer, None, "batch", "")?;
    }
    module.prologue.append(&text);
    let chunk =
        fabric.outer.iter().find(|(dim, _)| *dim == 0).map_or("0u".to_owned(), |(_, name)| name.clone());
    let (first, end) = product.terms(&mut module, 4, &chunk)?;
    let finish = product.declare_finish(&mut fabric, &mut module)?;

    let rows = module.size("rows", "rows", matmul.m)?;
    let columns = module.size("columns", "columns", matmul.n)?;
    let batch = fabric.outer.clone();
    let left_base = product.batch_base(&mut module, &left, &batch)?;
    let right_base = product.batch_base(&mut module, &right, &batch)?;
    let mut body = Text::inside(1);
    let left = Side {
        operand: left,
        base: left_base,
        start: "row",
        start_four: "row / 4u",
        extent: rows.clone(),
        fours: tile.rows.div_ceil(4),
        ones: tile.rows,
        beside,
    };
    let right = Side {
        operand: right,
        base: right_base,
        start: "4u * column",
        start_four: "column",
        extent: columns.clone(),
        fours: tile.columns,
        ones: 4 * tile.columns,
        beside: 1,
    };
    left.edges(&mut module, &mut body)?;
    right.edges(&mut module, &mut body)?;
    for row in 0..tile.rows {
        let sums: Vec<_> = (0..tile.columns).map(|j| format!("var s{row}_{j} = vec4<f32>();")).collect();
        body.line(sums.join(" "));
    }
    module.note_chain(product.chunk + 4);
    body.open(format!("for (var k = {first}; k < {end}; k += 1u)"));
    left.load_terms(&mut module, &mut body)?;
    right.load_terms(&mut module, &mut body)?;
    for term in 0..4 {
        multiply(&mut body, tile, |row| left.value(row, term), |j| right.four(j, term), &format!("_{term}"));
    }
    body.close();
    let rest = matmul.k % 4;
    if rest != 0 {
        let terms = module.size("all terms", "all_terms", matmul.k)?;
        // The last chunk takes the terms that are no whole four, by its number: it may have no whole four of its own, and
        // then the one before ends at the same term.
        if product.chunks > 1 {
            let chunks = module.size("chunks", "chunk_count", product.chunks)?;
            body.open(format!("if ({chunk} + 1u == {chunks})"));
        }
        body.open(format!("for (var k = {terms} & 0xfffffffcu; k < {terms}; k += 1u)"));
        left.load_term(&mut module, &mut body)?;
        right.load_term(&mut module, &mut body)?;
        multiply(&mut body, tile, |row| left.single(row), |j| right.single_four(j), "");
        body.close();
        if product.chunks > 1 {
            body.close();
        }
    }
    let four = fabric.vector.is_some();
    for row in 0..tile.rows {
        body.open(format!("if (row + {row}u < {rows})"));
        for j in 0..tile.columns {
            let (column, inside) = if four {
                (format!("column + {j}u"), format!("4u * (column + {j}u) < {columns}"))
            } else {
                (format!("4u * (column + {j}u)"), format!("4u * (column + {j}u) < {columns}"))
            };
            body.line(format!(
                "if ({inside}) {{ {} }}",
                finish(&format!("s{row}_{j}"), &format!("row + {row}u"), &column)
            ));
        }
        body.close();
    }
    module.body.append(&body);
    let header = format!(
        "{}\nmatrix product, {} × {} elements per invocation",
        header(&fabric, "epilogue"),
        tile.rows,
        4 * tile.columns
    );
    module.finish(&header, invocations, tiles.div_ceil(lanes), cost(context.kernel))
}

/// `sum += left · right` for every row and four columns of a tile.
fn multiply(
    body: &mut Text,
    tile: Tile,
    left: impl Fn(usize) -> String,
    right: impl Fn(usize) -> String,
    suffix: &str,
) {
    for row in 0..tile.rows {
        let value = format!("p{row}{suffix}");
        body.line(format!("let {value} = vec4<f32>({});", left(row)));
        let sums: Vec<_> = (0..tile.columns)
            .map(|j| format!("s{row}_{j} = fma({value}, {}, s{row}_{j});", right(j)))
            .collect();
        body.line(sums.join(" "));
    }
}

/// One operand of a tile.
struct Side {
    operand: Operand,
    base: String,
    /// First row or column of the tile.
    start: &'static str,
    /// The same in fours.
    start_four: &'static str,
    extent: String,
    /// Fours along the outer axis.
    fours: usize,
    /// Elements along the outer axis.
    ones: usize,
    /// Invocations that share the loads, each taking every so-manyth one; 1 if each loads all.
    beside: usize,
}

impl Side {
    fn hint(&self) -> &'static str {
        self.operand.hint
    }
    fn stride(&self, module: &mut Module<'_>, what: &str, stride: usize) -> Result<String, Error> {
        let unit = if self.operand.fours == Fours::None { 1 } else { 4 };
        let hint = self.hint();
        module.size(format!("{hint} {what} stride"), &format!("{hint}_{what}_stride"), stride / unit)
    }
    /// Loads of an invocation, of `all` that the tile needs.
    fn loads(&self, all: usize) -> std::ops::Range<usize> {
        0..all.div_ceil(self.beside)
    }
    /// Which of the loads of the tile an invocation takes as its own number `load`.
    fn taken(&self, load: usize) -> String {
        if self.beside == 1 { format!("{load}u") } else { format!("(lane + {}u)", load * self.beside) }
    }
    /// A component of a load of the tile, whoever has made it.
    fn part(&self, load: usize, suffix: &str, component: &str) -> String {
        let hint = self.hint();
        if self.beside == 1 {
            return format!("{hint}{load}{suffix}{component}");
        }
        let (own, lane) = (load / self.beside, load % self.beside);
        format!("subgroupBroadcast({hint}{own}{suffix}{component}, {lane}u)")
    }
    /// Addresses that do not change in the loop; rows or columns past the edge repeat the last.
    fn edges(&self, module: &mut Module<'_>, body: &mut Text) -> Result<(), Error> {
        let Side { base, start, extent, start_four, .. } = self;
        let hint = self.hint();
        if self.operand.fours == Fours::Outer {
            // Shared loads are numbered term by term, four by four.
            let all = if self.beside == 1 { self.fours } else { 4 * self.fours };
            for i in self.loads(all) {
                let mut four = self.taken(i);
                if self.beside > 1 {
                    body.line(format!("let {hint}_turn{i} = min({four} / {}u, 3u);", self.fours));
                    four = format!("{four} % {}u", self.fours);
                }
                body.line(format!(
                    "let {hint}_{i} = {base} + min({start_four} + {four}, {extent} / 4u - 1u);"
                ));
            }
            return Ok(());
        }
        let stride = self.stride(module, "outer", self.operand.outer)?;
        for i in self.loads(self.ones) {
            let taken = self.taken(i);
            body.line(format!("let {hint}_{i} = {base} + min({start} + {taken}, {extent} - 1u) * {stride};"));
        }
        Ok(())
    }
    /// The values of four terms.
    fn load_terms(&self, module: &mut Module<'_>, body: &mut Text) -> Result<(), Error> {
        let hint = self.hint();
        let memory = self.operand.memory;
        match self.operand.fours {
            Fours::Terms => {
                for i in self.loads(self.ones) {
                    let value = memory.load_four(module, &format!("({hint}_{i} + k)"));
                    body.line(format!("let {hint}{i}_v = {value};"));
                }
            }
            Fours::Outer if self.beside > 1 => {
                let stride = self.stride(module, "term", self.operand.term)?;
                for i in self.loads(4 * self.fours) {
                    let at = format!("({hint}_{i} + (4u * k + {hint}_turn{i}) * {stride})");
                    body.line(format!("let {hint}_at{i} = {at};"));
                    let value = memory.load_four(module, &format!("{hint}_at{i}"));
                    body.line(format!("let {hint}{i}_v = {value};"));
                }
            }
            Fours::Outer => {
                let stride = self.stride(module, "term", self.operand.term)?;
                for term in 0..4 {
                    body.line(format!("let {hint}_term{term} = (4u * k + {term}u) * {stride};"));
                    for i in 0..self.fours {
                        let value = memory.load_four(module, &format!("({hint}_{i} + {hint}_term{term})"));
                        body.line(format!("let {hint}{i}_v{term} = {value};"));
                    }
                }
            }
            Fours::None => {
                let stride = self.stride(module, "term", self.operand.term)?;
                (0..4).for_each(|t| body.line(format!("let {hint}_term{t} = (4u * k + {t}u) * {stride};")));
                for i in self.loads(self.ones) {
                    let values =
                        (0..4).map(|t| memory.load(module, &format!("({hint}_{i} + {hint}_term{t})")));
                    let values = values.collect::<Vec<_>>().join(", ");
                    body.line(format!("let {hint}{i}_v = vec4<f32>({values});"));
                }
            }
        }
        Ok(())
    }
    /// Element `i` at one of four terms.
    fn value(&self, i: usize, term: usize) -> String {
        let component = |c: usize| format!(".{}", COMPONENTS[c]);
        match self.operand.fours {
            Fours::Outer if self.beside > 1 => self.part(term * self.fours + i / 4, "_v", &component(i % 4)),
            Fours::Outer => self.part(i / 4, &format!("_v{term}"), &component(i % 4)),
            Fours::Terms | Fours::None => self.part(i, "_v", &component(term)),
        }
    }
    /// Elements `4j … 4j + 3` at one of four terms.
    fn four(&self, j: usize, term: usize) -> String {
        match self.operand.fours {
            Fours::Outer => format!("{}{j}_v{term}", self.hint()),
            Fours::Terms | Fours::None => {
                let parts: Vec<_> = (0..4).map(|c| self.value(4 * j + c, term)).collect();
                format!("vec4<f32>({})", parts.join(", "))
            }
        }
    }
    /// The values of a single term, where the number of terms is no multiple of four.
    fn load_term(&self, module: &mut Module<'_>, body: &mut Text) -> Result<(), Error> {
        let hint = self.hint();
        let memory = self.operand.memory;
        let stride = self.stride(module, "term", self.operand.term)?;
        body.line(format!("let {hint}_term = k * {stride};"));
        let outer = self.operand.fours == Fours::Outer;
        for i in self.loads(if outer { self.fours } else { self.ones }) {
            let at = format!("({hint}_{i} + {hint}_term)");
            let value = if outer { memory.load_four(module, &at) } else { memory.load(module, &at) };
            body.line(format!("let {hint}{i}_v = {value};"));
        }
        Ok(())
    }
    fn single(&self, i: usize) -> String {
        match self.operand.fours {
            Fours::Outer => self.part(i / 4, "_v", &format!(".{}", COMPONENTS[i % 4])),
            Fours::Terms | Fours::None => self.part(i, "_v", ""),
        }
    }
    fn single_four(&self, j: usize) -> String {
        match self.operand.fours {
            Fours::Outer => format!("{}{j}_v", self.hint()),
            Fours::Terms | Fours::None => {
                let parts: Vec<_> = (0..4).map(|c| self.single(4 * j + c)).collect();
                format!("vec4<f32>({})", parts.join(", "))
            }
        }
    }
}
