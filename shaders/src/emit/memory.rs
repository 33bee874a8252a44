//! How buffers are declared and accessed: as vec4, as single elements, or as words that hold two halves.

use cotangent_tensor::DType;

use super::module::{Context, Module, value_type};
use super::nest::{extents, largest, per_element};
use super::text::Text;
use crate::{Affine, Code, Loop, Which};

/// How a buffer is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One element (or two halves) per array element.
    Single,
    /// Four elements per array element.
    Four,
    /// Words of two halves that different invocations write.
    Atomic,
}

/// Whether four consecutive elements along a dimension start at multiples of four.
pub(crate) fn is_aligned(at: &Affine, vector: usize) -> bool {
    let others = at.strides.iter().enumerate().filter(|(d, _)| *d != vector);
    at.strides.get(vector) == Some(&1) && at.offset % 4 == 0 && others.into_iter().all(|(_, s)| s % 4 == 0)
}

/// The layout of each binding, if four elements along `vector` are handled at a time.
pub(crate) fn layouts(nest: &Loop, context: &Context<'_>, vector: Option<usize>) -> Vec<Layout> {
    let extents = extents(nest);
    let layout = |binding: usize| {
        let mut four = -1;
        let mut single = -1;
        let mut single_store = false;
        let mut visit = |at: &Affine, beyond: i64, vectorizable: bool, store: bool| {
            let end = largest(at, &extents) + beyond;
            if vectorizable && vector.is_some_and(|v| is_aligned(at, v)) {
                four = four.max(end);
            } else {
                single = single.max(end);
                single_store |= store;
            }
        };
        for instruction in &nest.code {
            match &instruction.code {
                Code::Load { binding: b, at, guard } if *b == binding => visit(at, 0, guard.is_none(), false),
                Code::LoadIndexed { binding: b, at, stride, size, .. } if *b == binding => {
                    let beyond = i64::try_from(stride * size.saturating_sub(1)).unwrap_or(i64::MAX / 2);
                    visit(at, beyond, false, false);
                }
                _ => {}
            }
        }
        for store in nest.stores.iter().filter(|s| s.binding == binding) {
            let vectorizable = per_element(nest, store) || vector.is_some_and(|v| v < nest.kept.len());
            visit(&store.at, 0, vectorizable, true);
        }
        match context.binding(binding).1 {
            DType::F16 if single_store => Layout::Atomic,
            DType::F16 => Layout::Single,
            // Single elements are reached through vec4 where they surely lie inside one.
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => {
                if four >= 0 && !single_store && single <= four { Layout::Four } else { Layout::Single }
            }
        }
    };
    (0..context.bindings()).map(layout).collect()
}

/// The WGSL element type of a buffer.
fn element(dtype: DType, layout: Layout) -> &'static str {
    match (dtype, layout) {
        (DType::F16, Layout::Atomic) => "atomic<u32>",
        (DType::F16, Layout::Single | Layout::Four) => "u32",
        (DType::F32, Layout::Four) => "vec4<f32>",
        (DType::F32, Layout::Single | Layout::Atomic) => "f32",
        (DType::I32, Layout::Four) => "vec4<i32>",
        (DType::I32, Layout::Single | Layout::Atomic) => "i32",
        (DType::U32 | DType::Bool, Layout::Four) => "vec4<u32>",
        (DType::U32 | DType::Bool, Layout::Single | Layout::Atomic) => "u32",
    }
}

/// A binding of the kernel with its layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) which: Which,
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
}

/// An index without the parentheses that an index expression does not need.
fn bare(index: &str) -> &str {
    let inner = index.strip_prefix('(').and_then(|i| i.strip_suffix(')'));
    inner.filter(|i| !i.contains(['(', ')'])).unwrap_or(index)
}

impl Memory {
    /// Whether four elements are one access, so that their index is named once.
    pub(crate) fn is_one_access(&self) -> bool {
        self.layout == Layout::Four
    }
    fn buffer(&self, module: &mut Module<'_>, writes: bool) -> String {
        // Atomics need write access even to be read.
        let writes = writes || self.layout == Layout::Atomic;
        module.buffer(self.which, element(self.dtype, self.layout), writes)
    }
    /// The element at an index: a name, or an expression in parentheses.
    pub(crate) fn load(&self, module: &mut Module<'_>, index: &str) -> String {
        let b = self.buffer(module, false);
        let value = match (self.dtype, self.layout) {
            (DType::F16, Layout::Atomic) => format!("half_at(atomicLoad(&{b}[{index} >> 1u]), {index})"),
            (DType::F16, Layout::Single | Layout::Four) => format!("half_at({b}[{index} >> 1u], {index})"),
            (_, Layout::Four) => format!("{b}[{index} >> 2u][{index} & 3u]"),
            (_, Layout::Single | Layout::Atomic) => format!("{b}[{}]", bare(index)),
        };
        if self.dtype == DType::Bool { format!("({value} != 0u)") } else { value }
    }
    /// The four elements from `4 · index` on.
    pub(crate) fn load_four(&self, module: &mut Module<'_>, index: &str) -> String {
        let b = self.buffer(module, false);
        let ty = value_type(self.dtype);
        match (self.dtype, self.layout) {
            (DType::F16, Layout::Single) => format!("half_four({b}[2u * {index}], {b}[2u * {index} + 1u])"),
            (DType::Bool, Layout::Four) => format!("({b}[{}] != vec4<u32>())", bare(index)),
            (DType::F32 | DType::I32 | DType::U32, Layout::Four) => format!("{b}[{}]", bare(index)),
            _ => {
                let parts = (0..4).map(|c| self.load(module, &format!("(4u * {index} + {c}u)")));
                format!("vec4<{ty}>({})", parts.collect::<Vec<_>>().join(", "))
            }
        }
    }
    /// The name of a value that is about to be written, after a look at it; the value as it is where nobody looks.
    fn watched(&self, module: &mut Module<'_>, text: &mut Text, value: &str, four: bool) -> String {
        let is_float = matches!(self.dtype, DType::F32 | DType::F16);
        if module.context.watch.is_none() || !is_float || !matches!(self.which, Which::Kernel(_)) {
            return value.to_owned();
        }
        module.buffer(Which::Status, "atomic<u32>", true);
        let name = module.names.fresh("stored");
        text.line(format!("let {name} = {value};"));
        let as_half = |value: &str| format!("unpack2x16float(half_bits({value})).x");
        match (self.dtype, four) {
            (DType::F16, false) => text.line(format!("watch_value({});", as_half(&name))),
            (DType::F16, true) => {
                for component in super::module::COMPONENTS {
                    text.line(format!("watch_value({});", as_half(&format!("{name}.{component}"))));
                }
            }
            (_, false) => text.line(format!("watch_value({name});")),
            (_, true) => text.line(format!("watch_four({name});")),
        }
        name
    }
    /// Writes the element at an index: a name, or an expression in parentheses.
    pub(crate) fn store(&self, module: &mut Module<'_>, text: &mut Text, index: &str, value: &str) {
        let b = self.buffer(module, true);
        let value = &self.watched(module, text, value, false);
        match self.dtype {
            DType::F16 => {
                // The other half may belong to another invocation: touch only our bits.
                text.line(format!("atomicAnd(&{b}[{index} >> 1u], 0xffff0000u >> (16u * ({index} & 1u)));"));
                text.line(format!(
                    "atomicOr(&{b}[{index} >> 1u], half_bits({value}) << (16u * ({index} & 1u)));"
                ));
            }
            DType::Bool => text.line(format!("{b}[{}] = select(0u, 1u, {value});", bare(index))),
            DType::F32 | DType::I32 | DType::U32 => text.line(format!("{b}[{}] = {value};", bare(index))),
        }
    }
    /// Writes the four elements from `4 · index` on; `value` is a vec4, named if it is used more than once.
    pub(crate) fn store_four(&self, module: &mut Module<'_>, text: &mut Text, index: &str, value: &str) {
        let b = self.buffer(module, true);
        match (self.dtype, self.layout) {
            (DType::F16, Layout::Single) => {
                let value = self.watched(module, text, value, true);
                let name = module.names.fresh("halves");
                text.line(format!("let {name} = {value};"));
                text.line(format!("{b}[2u * {index}] = half_pair({name}.x, {name}.y);"));
                text.line(format!("{b}[2u * {index} + 1u] = half_pair({name}.z, {name}.w);"));
            }
            (DType::Bool, Layout::Four) => {
                text.line(format!("{b}[{}] = select(vec4<u32>(), vec4<u32>(1u), {value});", bare(index)));
            }
            (DType::F32 | DType::I32 | DType::U32, Layout::Four) => {
                let value = self.watched(module, text, value, true);
                text.line(format!("{b}[{}] = {value};", bare(index)));
            }
            _ => {
                let name = module.names.fresh("four");
                text.line(format!("let {name} = {value};"));
                for (c, component) in super::module::COMPONENTS.iter().enumerate() {
                    self.store(
                        module,
                        text,
                        &format!("(4u * {index} + {c}u)"),
                        &format!("{name}.{component}"),
                    );
                }
            }
        }
    }
}
