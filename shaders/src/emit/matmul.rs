//! Matrix products: operands read in place in any layout, an epilogue on every element, long sums cut into chunks.

use cotangent_tensor::{DType, Error, Reduce};

use super::fabric::{Fabric, Site, Slot};
use super::loops;
use super::memory::{Layout, Memory};
use super::module::{Context, Module};
use super::nest::sweep_over_kept;
use super::text::Text;
use super::{direct, tile};
use crate::{Affine, Code, Dispatch, Instruction, Level, Loop, Matmul, Matrix, Schedule, Store};

/// Code of the epilogue, in lines, above which it becomes a dispatch of its own: a tile writes it out for each element.
const HEAVY: usize = 40;

/// The axis along which four elements of an operand lie side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fours {
    /// Along the terms of the sum.
    Terms,
    /// Along the rows or columns of the product.
    Outer,
    /// Nowhere: elements are loaded one by one.
    None,
}

/// An operand: element `(outer, term)`.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) hint: &'static str,
    pub(crate) fours: Fours,
    pub(crate) memory: Memory,
    pub(crate) offset: usize,
    pub(crate) batch: Vec<usize>,
    /// Distance between rows (left) or columns (right).
    pub(crate) outer: usize,
    /// Distance between terms.
    pub(crate) term: usize,
}

/// A product, ready to be written.
pub(crate) struct Product<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) matmul: &'a Matmul,
    /// The epilogue as a sweep over `[batch…, m, n]`.
    pub(crate) epilogue: &'a Loop,
    pub(crate) chunks: usize,
    /// Terms per chunk, a multiple of 16 if there are several chunks.
    pub(crate) chunk: usize,
}

/// See [`lower`](super::lower).
pub(crate) fn lower(context: Context<'_>, matmul: &Matmul) -> Result<Vec<Dispatch>, Error> {
    let Matmul { m, n, k, .. } = *matmul;
    let batches: usize = matmul.batch.iter().product();
    let elements = batches * m * n;
    if elements == 0 {
        return Ok(Vec::new());
    }
    if k == 0 {
        // A sum of nothing: the epilogue of zeros.
        let zero = |i: &Instruction| (i.code == Code::Accumulator).then_some(Code::Constant(0));
        return loops::lower(context, &with_accumulator(&matmul.epilogue, zero));
    }
    let chunks = chunks(&context, matmul);
    let epilogue = {
        let mut epilogue = matmul.epilogue.clone();
        sweep_over_kept(&mut epilogue);
        epilogue.schedule = Schedule::Map;
        epilogue
    };
    if chunks == 1 && weight(&epilogue) <= HEAVY {
        let product = Product { context, matmul, epilogue: &epilogue, chunks: 1, chunk: k };
        return product.lower();
    }
    // The product goes to scratch, chunk by chunk; a loop over it sums the chunks and runs the epilogue.
    let with_scratch = Context { scratch: Some(chunks * elements), ..context };
    let scratch = context.kernel.bindings.len();
    let plain = plain_product(matmul, scratch, chunks);
    let chunk = k.div_ceil(chunks).next_multiple_of(16);
    let product = Product { context: with_scratch, matmul, epilogue: &plain, chunks, chunk };
    let mut dispatches = product.lower()?;
    let at = Affine::row_major(&matmul.epilogue.kept);
    let nest = if chunks == 1 {
        let load = |i: &Instruction| {
            let load = Code::Load { binding: scratch, at: at.clone(), guard: None };
            (i.code == Code::Accumulator).then_some(load)
        };
        with_accumulator(&matmul.epilogue, load)
    } else {
        sum_of_chunks(&matmul.epilogue, scratch, chunks, elements)
    };
    dispatches.extend(loops::lower(with_scratch, &nest)?);
    Ok(dispatches)
}

/// How many chunks the terms are cut into: as the loop budget demands, and for parallel work where the product is small.
fn chunks(context: &Context<'_>, matmul: &Matmul) -> usize {
    let budget = usize::try_from(context.target.loop_budget).unwrap_or(usize::MAX) / 2;
    let needed = matmul.k.div_ceil(budget.max(1));
    let batches: usize = matmul.batch.iter().product();
    let tiles = batches * matmul.m.div_ceil(8) * matmul.n.div_ceil(16);
    let wanted = if context.target.cpu { 128 } else { 2048 };
    let useful = if tiles < wanted { (wanted / tiles).min(matmul.k / 512) } else { 1 };
    let chunks = needed.max(useful).max(1);
    let chunk = matmul.k.div_ceil(chunks).next_multiple_of(16);
    if chunks == 1 { 1 } else { matmul.k.div_ceil(chunk) }
}

/// The epilogue with something else in place of the product.
fn with_accumulator(epilogue: &Loop, replace: impl Fn(&Instruction) -> Option<Code>) -> Loop {
    let mut nest = epilogue.clone();
    for instruction in &mut nest.code {
        if let Some(code) = replace(instruction) {
            instruction.code = code;
        }
    }
    nest.schedule = Schedule::Map;
    nest
}

/// An epilogue that stores the product of each chunk.
fn plain_product(matmul: &Matmul, scratch: usize, chunks: usize) -> Loop {
    let extents = [matmul.batch.as_slice(), &[matmul.m, matmul.n]].concat();
    let mut at = Affine::row_major(&extents);
    let mut reduced = extents;
    if chunks > 1 {
        // The chunk is the outermost coordinate.
        let size: usize = reduced.iter().product();
        reduced.insert(0, chunks);
        at.strides.insert(0, i64::try_from(size).unwrap_or(i64::MAX));
    }
    let product =
        Instruction { code: Code::Accumulator, dtype: DType::F32, level: Level::Element, label: None };
    Loop {
        kept: vec![],
        reduced,
        schedule: Schedule::Map,
        code: vec![product],
        stores: vec![Store { binding: scratch, at, value: 0 }],
    }
}

/// A column loop over the chunks whose kept-level code is the epilogue.
fn sum_of_chunks(epilogue: &Loop, scratch: usize, chunks: usize, elements: usize) -> Loop {
    let mut nest = epilogue.clone();
    nest.schedule = Schedule::Column;
    nest.reduced = vec![chunks];
    let extend = |at: &mut Affine| at.strides.push(0);
    for instruction in &mut nest.code {
        match &mut instruction.code {
            Code::Load { at, .. } | Code::LoadIndexed { at, .. } | Code::Coordinate(at) => extend(at),
            Code::InRange { at, .. } | Code::RandomBits { at, .. } => extend(at),
            _ => {}
        }
    }
    nest.stores.iter_mut().for_each(|s| extend(&mut s.at));
    let mut at = Affine::row_major(&epilogue.kept);
    at.strides.push(i64::try_from(elements).unwrap_or(i64::MAX));
    // The product stands first, so that the numbers of all other values grow by two.
    let shift = |value: usize| value + 2;
    let old = std::mem::take(&mut nest.code);
    let load = Code::Load { binding: scratch, at, guard: None };
    nest.code.push(Instruction {
        code: load,
        dtype: DType::F32,
        level: Level::Element,
        label: Some("chunk".into()),
    });
    let sum = Code::Reduce(Reduce::Sum, 0);
    nest.code.push(Instruction {
        code: sum,
        dtype: DType::F32,
        level: Level::Kept,
        label: Some("product".into()),
    });
    for mut instruction in old {
        instruction.level = Level::Kept;
        if instruction.code == Code::Accumulator {
            // The same value under another number.
            instruction.code = Code::Cast(1);
        } else {
            renumber(&mut instruction.code, shift);
        }
        nest.code.push(instruction);
    }
    nest.stores.iter_mut().for_each(|s| s.value = shift(s.value));
    nest
}

fn renumber(code: &mut Code, shift: impl Fn(usize) -> usize) {
    let each = |operands: &mut [usize]| operands.iter_mut().for_each(|o| *o = shift(*o));
    match code {
        Code::Load { guard, .. } => each(guard.as_mut_slice()),
        Code::LoadIndexed { index, guard, .. } => {
            *index = shift(*index);
            each(guard.as_mut_slice());
        }
        Code::RandomBits { step, .. } => *step = shift(*step),
        Code::Elementwise(_, operands) | Code::Integer(_, _, operands) => each(operands),
        Code::While(_, operands) => each(operands),
        Code::Part(tuple, _) => *tuple = shift(*tuple),
        Code::Cast(value) | Code::Reduce(_, value) | Code::ArgReduce { value, .. } => *value = shift(*value),
        Code::LogSumExpMax(value) | Code::LogSumExpRest(value) => *value = shift(*value),
        Code::Softmax { value, max, rest } => [value, max, rest].into_iter().for_each(|v| *v = shift(*v)),
        Code::SoftmaxResidual { value, max, rest, label } => {
            [value, max, rest, label].into_iter().for_each(|v| *v = shift(*v));
        }
        Code::Pick { value, index } => [value, index].into_iter().for_each(|v| *v = shift(*v)),
        Code::Constant(_) | Code::Accumulator | Code::Coordinate(_) | Code::InRange { .. } => {}
        Code::Parameter(_) => {}
    }
}

/// Lines of code that the epilogue of one element becomes.
fn weight(epilogue: &Loop) -> usize {
    let mut text = String::new();
    for instruction in &epilogue.code {
        if let Code::Elementwise(row, operands) = &instruction.code {
            text.push_str(&row.wgsl(&vec!["x"; operands.len()]));
            text.push('\n');
        }
    }
    epilogue.code.len() + super::library::weight(&text)
}

impl<'a> Product<'a> {
    fn lower(&self) -> Result<Vec<Dispatch>, Error> {
        let tiled = if self.context.target.cpu { None } else { tile::lower(self)? };
        tiled.map_or_else(|| direct::lower(self), Ok)
    }
    /// Rank of the batch dimensions of the epilogue, the chunk among them.
    pub(crate) fn outer_rank(&self) -> usize {
        self.epilogue.reduced.len() - 2
    }
    /// Left and right operand, with the layouts that loads of the epilogue share.
    pub(crate) fn operands(&self, fabric: &mut Fabric<'a>) -> [Operand; 2] {
        let Matmul { m, n, k, ref lhs, ref rhs, .. } = *self.matmul;
        let mut left = self.operand("lhs", lhs, lhs.row, lhs.column, m, k);
        let mut right = self.operand("rhs", rhs, rhs.column, rhs.row, n, k);
        let used = |binding: usize| {
            let load = |i: &Instruction| matches!(&i.code, Code::Load { binding: b, .. } | Code::LoadIndexed { binding: b, .. } if *b == binding);
            self.epilogue.code.iter().any(load)
        };
        let same = lhs.binding == rhs.binding;
        for (operand, binding) in [(&mut left, lhs.binding), (&mut right, rhs.binding)] {
            if same || used(binding) {
                // One declaration must serve several ways of access.
                operand.memory.layout = Layout::Single;
                fabric.force_single(binding);
            }
        }
        [left, right]
    }
    fn operand(
        &self,
        hint: &'static str,
        matrix: &Matrix,
        outer: usize,
        term: usize,
        extent: usize,
        k: usize,
    ) -> Operand {
        let (which, dtype) = self.context.binding(matrix.binding);
        let fits = |stride: usize, extent: usize| {
            stride == 1
                && extent.is_multiple_of(4)
                && matrix.offset.is_multiple_of(4)
                && matrix.batch.iter().all(|b| b.is_multiple_of(4))
        };
        let fours = if fits(term, k) && (outer.is_multiple_of(4) || extent == 1) {
            Fours::Terms
        } else if fits(outer, extent) && (term.is_multiple_of(4) || k == 1) {
            Fours::Outer
        } else {
            Fours::None
        };
        let layout = match (fours, dtype) {
            (Fours::None, _) | (_, DType::F16) => Layout::Single,
            (Fours::Terms | Fours::Outer, _) => Layout::Four,
        };
        let memory = Memory { which, dtype, layout };
        Operand { hint, fours, memory, offset: matrix.offset, batch: matrix.batch.clone(), outer, term }
    }
    /// Terms of one chunk as parameters: first and end, in units of `unit` terms.
    pub(crate) fn terms(
        &self,
        module: &mut Module<'a>,
        unit: usize,
        chunk: &str,
    ) -> Result<(String, String), Error> {
        let count = module.size("terms", "terms", self.matmul.k / unit)?;
        if self.chunks == 1 {
            return Ok(("0u".to_owned(), count));
        }
        let size = module.size("chunk", "chunk_terms", self.chunk / unit)?;
        module.prologue.line(format!("let first = {chunk} * {size};"));
        module.prologue.line(format!("let end = min(first + {size}, {count});"));
        Ok(("first".to_owned(), "end".to_owned()))
    }
    /// Name of the address of an operand's batch, in elements or fours.
    pub(crate) fn batch_base(
        &self,
        module: &mut Module<'a>,
        operand: &Operand,
        batch: &[(usize, String)],
    ) -> Result<String, Error> {
        let unit = if operand.fours == Fours::None { 1 } else { 4 };
        let hint = operand.hint;
        let mut sum =
            module.size(format!("{hint} offset"), &format!("{hint}_offset"), operand.offset / unit)?;
        let first = self.outer_rank() - operand.batch.len();
        for (dim, coordinate) in batch.iter().filter(|(dim, _)| *dim >= first) {
            let stride = operand.batch[dim - first];
            if stride != 0 {
                let stride =
                    module.size(format!("{hint} batch {dim}"), &format!("{hint}_batch"), stride / unit)?;
                sum.push_str(&format!(" + {coordinate} * {stride}"));
            }
        }
        let name = module.names.fresh(&format!("{hint}_base"));
        module.prologue.line(format!("let {name} = {sum};"));
        module.set_type(&name, "u32");
        Ok(name)
    }
    /// Declares `finish(product, row, column, …)`, which runs the epilogue on four neighbors of a row and stores the
    /// results; `column` counts fours if the fabric handles four at a time, else elements. Returns the call for
    /// `(product, row, column)`.
    pub(crate) fn declare_finish(
        &self,
        fabric: &mut Fabric<'a>,
        module: &mut Module<'a>,
    ) -> Result<impl Fn(&str, &str, &str) -> String + use<>, Error> {
        let nest = self.epilogue;
        let mut outputs: Vec<usize> = nest.stores.iter().map(|s| s.value).collect();
        outputs.sort_unstable();
        outputs.dedup();
        let mut stage = fabric.plan(&outputs, true);
        let is_product = |v: &usize| nest.code[*v].code == Code::Accumulator;
        let given: Vec<usize> = stage.given().iter().copied().filter(|v| !is_product(v)).collect();
        fabric.compute_kept(module, &given)?;
        fabric.define(module, "epilogue", &mut stage)?;
        let [row, column] = [self.outer_rank(), self.outer_rank() + 1];
        let products: Vec<usize> = (0..nest.code.len()).filter(is_product).collect();
        let columns = module.size("columns", "columns", self.matmul.n)?;
        let mut body = Text::inside(1);
        let four = fabric.vector.is_some();
        for component in 0..if four { 1 } else { 4 } {
            let place = if four { "4u * column".to_owned() } else { format!("column_{component}") };
            let site = Site {
                suffix: if four { String::new() } else { format!("_{component}") },
                coordinates: vec![
                    (row, "row".to_owned()),
                    (column, if four { "column".to_owned() } else { format!("column_{component}") }),
                ],
                position: "0u".to_owned(),
                place: format!("row * {columns} + {place}"),
            };
            if !four {
                body.line(format!("let column_{component} = column + {component}u;"));
                body.open(format!("if (column_{component} < {columns})"));
            }
            let mut local = fabric.load(module, &mut body, &stage, Some(&site))?;
            let product = match four {
                true => Slot::Vector("product".to_owned()),
                false => Slot::Uniform(format!("product.{}", super::module::COMPONENTS[component])),
            };
            local.extend(products.iter().map(|&v| (v, product.clone())));
            let results = fabric.call(module, &mut body, &stage, local, Some(&site))?;
            for (store, target) in nest.stores.iter().enumerate() {
                fabric.store(module, &mut body, store, &results[&target.value], Some(&site), None);
            }
            if !four {
                body.close();
            }
        }
        let captured = module.mentioned(body.as_str());
        let signature: Vec<_> = captured.iter().map(|(name, ty)| format!(", {name}: {ty}")).collect();
        module.items.line("");
        module
            .items
            .open(format!("fn finish(product: vec4<f32>, row: u32, column: u32{})", signature.join("")));
        module.items.append(&body);
        module.items.close();
        let arguments: String = captured.iter().map(|(name, _)| format!(", {name}")).collect();
        Ok(move |product: &str, row: &str, column: &str| {
            format!("finish({product}, {row}, {column}{arguments});")
        })
    }
}
