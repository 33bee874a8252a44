//! The buffers of an entry point, found in the text.

use cotangent_tensor::{Code, DType, Shape};
use naga::valid::GlobalUse;
use naga::{AddressSpace, ArraySize, GlobalVariable, Handle, Span, TypeInner};

use super::walk::{Root, functions, root, statements};
use crate::diagnose::Problem;
use crate::layout;
use crate::text::{Text, name_or};

/// Groups and bindings in a group that WebGPU promises.
const MAX_GROUPS: u32 = 4;
const MAX_BINDINGS: u32 = 1000;

/// A storage buffer that an entry point uses.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub(super) name: String,
    pub(super) group: u32,
    pub(super) binding: u32,
    pub(super) dtype: DType,
    /// Numbers of an element of its array.
    each: usize,
    /// Elements, where the text says how many.
    count: Option<usize>,
    is_array: bool,
    /// Where it is read and where it is written, if both.
    pub(super) in_place: Option<(Span, Span)>,
    /// Every access is atomic, or none.
    pub(super) is_atomic: bool,
}

impl Buffer {
    /// Whether a tensor of this shape fills it; what is wrong.
    pub(super) fn holds(&self, shape: &Shape) -> Result<(), String> {
        let (name, elements) = (&self.name, shape.elements());
        if elements == 0 {
            return Err(format!("`{name}` is given shape {shape}, and a buffer holds at least one number"));
        }
        match self.count {
            Some(count) if count * self.each != elements => {
                Err(format!("`{name}` holds {} numbers, and shape {shape} has {elements}", count * self.each))
            }
            None if !elements.is_multiple_of(self.each) => Err(format!(
                "`{name}` holds {} numbers for each element, and shape {shape} has {elements}",
                self.each
            )),
            _ => Ok(()),
        }
    }
    /// The shape that the text says.
    pub(super) fn own_shape(&self) -> Option<Shape> {
        let count = self.count?;
        let dims: &[usize] = match (self.is_array, self.each) {
            (false, 1) => &[],
            (false, each) => &[each],
            (true, 1) => &[count],
            (true, each) => &[count, each],
        };
        Shape::new(dims).ok()
    }
}

/// Inputs and outputs of an entry point, each in the order of their bindings.
pub(super) fn reflected(text: &Text, entry: usize) -> Result<(Vec<Buffer>, Vec<Buffer>), Problem> {
    let info = text.info.get_entry_point(entry);
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for (handle, variable) in text.module.global_variables.iter() {
        let used = info[handle];
        if used.is_empty() || matches!(variable.space, AddressSpace::WorkGroup | AddressSpace::Private) {
            continue;
        }
        let (name, span) = (name_or(&variable.name, "_"), text.module.global_variables.get_span(handle));
        let wrong = |what: String, hint: &str| {
            Problem::new(Code::WgslBinding, what).at(span, "this variable").help(hint)
        };
        let AddressSpace::Storage { access } = variable.space else {
            let what = format!("`{name}` is no storage buffer");
            return Err(wrong(
                what,
                "declare numbers `var<storage, read>` and pass a tensor; lengths are `arrayLength(&x)`",
            ));
        };
        let buffer =
            buffer(text, entry, handle, variable).map_err(|problem| problem.at(span, "this buffer"))?;
        if buffer.group >= MAX_GROUPS || buffer.binding >= MAX_BINDINGS {
            let what = format!(
                "`{name}` is @group({}) @binding({}), beyond {MAX_GROUPS} groups of {MAX_BINDINGS}",
                buffer.group, buffer.binding
            );
            return Err(Problem::new(Code::Limit, what).at(span, "this buffer").help("count from 0"));
        }
        let is_written = used.intersects(GlobalUse::WRITE | GlobalUse::ATOMIC);
        if !is_written && access.contains(naga::StorageAccess::STORE) {
            let what = format!("`{name}` is declared `read_write`, and the entry point only reads it");
            return Err(wrong(
                what,
                "declare it `var<storage, read>`: what is only read is an input; a rule that reads an output of its kernel stands in a text of its own",
            ));
        }
        if is_written { &mut outputs } else { &mut inputs }.push(buffer);
    }
    if outputs.is_empty() {
        let name = &text.module.entry_points[entry].name;
        let what = format!("`{name}` writes no buffer");
        return Err(
            Problem::new(Code::WgslBinding, what).help("write the results to a `var<storage, read_write>`")
        );
    }
    for buffers in [&mut inputs, &mut outputs] {
        buffers.sort_by_key(|buffer| (buffer.group, buffer.binding));
    }
    Ok((inputs, outputs))
}

fn buffer(
    text: &Text,
    entry: usize,
    handle: Handle<GlobalVariable>,
    variable: &GlobalVariable,
) -> Result<Buffer, Problem> {
    let module = &text.module;
    let name = name_or(&variable.name, "_").to_string();
    let Some(at) = variable.binding else {
        return Err(Problem::new(Code::WgslBinding, format!("`{name}` has no binding")));
    };
    let (element, count, is_array) = match module.types[variable.ty].inner {
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            (base, Some(count.get() as usize), true)
        }
        TypeInner::Array { base, size: ArraySize::Dynamic, .. } => (base, None, true),
        _ => (variable.ty, Some(1), false),
    };
    let unsupported = || {
        let what = format!(
            "`{name}` holds {}, which is no run of numbers of one type without padding",
            text.type_name(element)
        );
        Problem::new(Code::WgslType, what)
            .help("use an array of f32, i32, u32, or of vectors of 2 or 4 of them")
    };
    let inner = &module.types[element].inner;
    let (dtypes, is_atomic) = match inner {
        TypeInner::Atomic(scalar) => (vec![layout::dtype(*scalar)?], true),
        TypeInner::Struct { .. } => return Err(unsupported()),
        inner => (layout::scalars(module, inner).map_err(|_| unsupported())?, false),
    };
    let size = match module.types[variable.ty].inner {
        TypeInner::Array { stride, .. } => stride,
        _ => inner.size(module.to_ctx()),
    };
    let dtype = dtypes.first().copied().filter(|first| dtypes.iter().all(|dtype| dtype == first));
    let dtype = dtype.filter(|dtype| *dtype != DType::Bool).ok_or_else(unsupported)?;
    if size as usize != 4 * dtypes.len() {
        return Err(unsupported());
    }
    let in_place = if is_atomic { None } else { read_and_written(text, entry, handle) };
    let (group, binding, each) = (at.group, at.binding, dtypes.len());
    Ok(Buffer { name, group, binding, dtype, each, count, is_array, in_place, is_atomic })
}

/// The first place where a buffer is read and the first where it is written, if both are there.
fn read_and_written(text: &Text, entry: usize, buffer: Handle<GlobalVariable>) -> Option<(Span, Span)> {
    let used = text.info.get_entry_point(entry)[buffer];
    if !used.contains(GlobalUse::READ | GlobalUse::WRITE) {
        return None;
    }
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for function in functions(text, entry) {
        let is_it = |pointer| root(function, pointer) == Some(Root::Global(buffer));
        for (handle, expression) in function.expressions.iter() {
            if let naga::Expression::Load { pointer } = *expression
                && is_it(pointer)
            {
                reads.push(function.expressions.get_span(handle));
            }
        }
        for (statement, span) in statements(function) {
            if let naga::Statement::Store { pointer, .. } = *statement
                && is_it(pointer)
            {
                writes.push(span);
            }
        }
    }
    let first =
        |spans: Vec<Span>| spans.into_iter().min_by_key(|span| span.to_range().map(|range| range.start));
    Some((first(reads)?, first(writes)?))
}
