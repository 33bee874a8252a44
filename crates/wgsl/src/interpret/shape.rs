//! How a value lies in cells, one for each scalar and without padding, and where the same scalars lie in the bytes of a buffer.

use std::borrow::Cow;

use cotangent_tensor::{Code, DType};
use naga::{ArraySize, Handle, Module, Type, TypeInner};

use crate::diagnose::Problem;
use crate::layout;

/// One scalar: the bits of an f64 for a float, the word of an integer, 0 or 1 for a truth value, or a [`pointer`].
pub(super) type Cell = u64;

/// Cells of one invocation or of one variable, at most.
pub(super) const MAX_CELLS: usize = 1 << 24;
/// Types inside each other: WGSL promises no more.
const MAX_DEPTH: usize = 15;

pub(super) fn float(cell: Cell) -> f64 {
    f64::from_bits(cell)
}

/// The lower half of a cell: the word of an integer, or an offset.
pub(super) fn word(cell: Cell) -> u32 {
    u32::try_from(cell & 0xffff_ffff).unwrap_or(0)
}

/// A pointer: which memory, and the cell in it.
pub(super) fn pointer(memory: usize, cell: usize) -> Cell {
    ((memory as u64) << 32) | cell as u64
}

/// Memory and cell of a pointer.
pub(super) fn place(pointer: Cell) -> (usize, usize) {
    ((pointer >> 32) as usize, word(pointer) as usize)
}

/// The types of a module, with what is asked of them often.
#[derive(Debug)]
pub(super) struct Shapes<'m> {
    pub(super) module: &'m Module,
    /// By type. A length that is known only when it runs counts as 0.
    cells: Vec<usize>,
}

impl<'m> Shapes<'m> {
    /// Error: `E_WGSL_LIMIT` for types that are nested deeper than WGSL allows.
    pub(super) fn new(module: &'m Module) -> Result<Shapes<'m>, Problem> {
        let mut shapes = Shapes { module, cells: Vec::with_capacity(module.types.len()) };
        let mut depths: Vec<usize> = Vec::with_capacity(module.types.len());
        // a type comes after those it is made of
        for (handle, ty) in module.types.iter() {
            let cells = shapes.cells(&ty.inner);
            shapes.cells.push(cells);
            let depth = match &ty.inner {
                TypeInner::Array { base, .. } => 1 + depths[base.index()],
                TypeInner::Struct { members, .. } => {
                    1 + members.iter().map(|member| depths[member.ty.index()]).max().unwrap_or(0)
                }
                TypeInner::Vector { .. } => 1,
                TypeInner::Matrix { .. } => 2,
                _ => 0,
            };
            depths.push(depth);
            if depth > MAX_DEPTH {
                let message = format!("types inside each other: {depth} where {MAX_DEPTH} are allowed");
                return Err(Problem::new(Code::WgslLimit, message)
                    .at(module.types.get_span(handle), "the last of them"));
            }
        }
        Ok(shapes)
    }
    /// The cells of a value.
    pub(super) fn cells(&self, ty: &TypeInner) -> usize {
        match ty {
            TypeInner::Scalar(_)
            | TypeInner::Atomic(_)
            | TypeInner::Pointer { .. }
            | TypeInner::ValuePointer { .. } => 1,
            TypeInner::Vector { size, .. } => *size as usize,
            TypeInner::Matrix { columns, rows, .. } => *columns as usize * *rows as usize,
            TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
                self.cells_of(*base).saturating_mul(count.get() as usize)
            }
            TypeInner::Struct { members, .. } => {
                members.iter().fold(0, |sum: usize, member| sum.saturating_add(self.cells_of(member.ty)))
            }
            _ => 0,
        }
    }
    /// [`Shapes::cells`] of a type by its handle.
    pub(super) fn cells_of(&self, ty: Handle<Type>) -> usize {
        self.cells[ty.index()]
    }
    fn inner(&self, ty: Handle<Type>) -> &'m TypeInner {
        &self.module.types[ty].inner
    }
    /// What a pointer points to; none for one to a component, which has no parts, and for what is no pointer.
    pub(super) fn pointee(&self, ty: &TypeInner) -> Option<Cow<'m, TypeInner>> {
        match *ty {
            TypeInner::Pointer { base, .. } => Some(Cow::Borrowed(self.inner(base))),
            TypeInner::ValuePointer { size: Some(size), scalar, .. } => {
                Some(Cow::Owned(TypeInner::Vector { size, scalar }))
            }
            _ => None,
        }
    }
    /// How many parts a composite has, none if only its buffer knows; and the cells before part `index`.
    pub(super) fn part(&self, ty: &TypeInner, index: usize) -> Option<(Option<usize>, usize)> {
        Some(match ty {
            TypeInner::Vector { size, .. } => (Some(*size as usize), index),
            TypeInner::Matrix { columns, rows, .. } => {
                (Some(*columns as usize), index.saturating_mul(*rows as usize))
            }
            TypeInner::Array { base, size, .. } => {
                let before = index.saturating_mul(self.cells_of(*base));
                match size {
                    ArraySize::Constant(count) => (Some(count.get() as usize), before),
                    ArraySize::Dynamic => (None, before),
                    ArraySize::Pending(_) => return None,
                }
            }
            TypeInner::Struct { members, .. } => {
                let before = members.iter().take(index).map(|member| self.cells_of(member.ty));
                (Some(members.len()), before.fold(0, usize::saturating_add))
            }
            _ => return None,
        })
    }
    /// The array at the end of a type whose length only a buffer knows: its element type, its byte offset and its stride.
    pub(super) fn tail(&self, ty: &TypeInner) -> Option<(Handle<Type>, usize, usize)> {
        match ty {
            TypeInner::Array { base, size: ArraySize::Dynamic, stride } => Some((*base, 0, *stride as usize)),
            TypeInner::Struct { members, .. } => {
                let last = members.last()?;
                let (base, offset, stride) = self.tail(self.inner(last.ty))?;
                Some((base, offset + last.offset as usize, stride))
            }
            _ => None,
        }
    }
    /// The scalars of a value of which the first byte is `offset`, in order of their cells. `length` stands for the length of an array that
    /// does not state its own.
    pub(super) fn scalars(&self, ty: &TypeInner, offset: usize, length: usize, out: &mut Vec<Scalar>) {
        let mut run = |dtype: Option<DType>, offset: usize, count: usize| {
            for i in 0..count {
                out.extend(dtype.map(|dtype| Scalar { word: offset / 4 + i, dtype }));
            }
        };
        match ty {
            TypeInner::Scalar(_) | TypeInner::Atomic(_) => run(dtype(ty), offset, 1),
            TypeInner::Vector { size, .. } => run(dtype(ty), offset, *size as usize),
            TypeInner::Matrix { columns, rows, .. } => {
                // columns of three numbers take the room of four
                let stride = if *rows as usize == 2 { 8 } else { 16 };
                for column in 0..*columns as usize {
                    run(dtype(ty), offset + column * stride, *rows as usize);
                }
            }
            TypeInner::Array { base, size, stride } => {
                let count = match size {
                    ArraySize::Constant(count) => count.get() as usize,
                    ArraySize::Dynamic | ArraySize::Pending(_) => length,
                };
                for i in 0..count {
                    self.scalars(self.inner(*base), offset + i * *stride as usize, length, out);
                }
            }
            TypeInner::Struct { members, .. } => {
                for member in members {
                    let inner = self.inner(member.ty);
                    self.scalars(inner, offset + member.offset as usize, length, out);
                }
            }
            _ => {}
        }
    }
    /// Bytes of a value without an array at its end that does not state its length.
    pub(super) fn bytes(&self, ty: &TypeInner) -> usize {
        match ty {
            TypeInner::Struct { members, .. } if self.tail(ty).is_some() => {
                members.last().map_or(0, |last| last.offset as usize)
            }
            TypeInner::Array { size: ArraySize::Dynamic, .. } => 0,
            _ => ty.try_size(self.module.to_ctx()).map_or(usize::MAX, |bytes| bytes as usize),
        }
    }
    /// Words of a variable, with the array at its end.
    pub(super) fn words(&self, ty: &TypeInner, length: usize) -> usize {
        match self.tail(ty) {
            Some((_, offset, stride)) => (offset + length * stride).div_ceil(4),
            None => self.bytes(ty).div_ceil(4),
        }
    }
    /// How the text would name a cell of a variable: `[3].weight.y`.
    pub(super) fn path(&self, ty: &TypeInner, cell: usize) -> String {
        let (mut ty, mut rest, mut path) = (ty, cell, String::new());
        loop {
            let step = match ty {
                TypeInner::Array { base, .. } => {
                    let each = self.cells_of(*base).max(1);
                    path += &format!("[{}]", rest / each);
                    rest %= each;
                    *base
                }
                TypeInner::Struct { members, .. } => {
                    let mut found = None;
                    for member in members {
                        let inner = self.inner(member.ty);
                        let count = if self.tail(inner).is_some() { usize::MAX } else { self.cells(inner) };
                        if rest < count {
                            found = Some(member);
                            break;
                        }
                        rest -= count;
                    }
                    let Some(member) = found else { return path };
                    path += &format!(".{}", member.name.as_deref().unwrap_or("_"));
                    member.ty
                }
                TypeInner::Matrix { rows, .. } => {
                    let rows = *rows as usize;
                    return path + &format!("[{}].{}", rest / rows, component(rest % rows));
                }
                TypeInner::Vector { .. } => return path + &format!(".{}", component(rest)),
                _ => return path,
            };
            ty = self.inner(step);
        }
    }
}

/// What the scalars of a scalar, vector, matrix or atomic are.
pub(super) fn dtype(ty: &TypeInner) -> Option<DType> {
    match ty {
        TypeInner::Scalar(scalar)
        | TypeInner::Atomic(scalar)
        | TypeInner::Vector { scalar, .. }
        | TypeInner::Matrix { scalar, .. } => layout::dtype(*scalar).ok(),
        _ => None,
    }
}

/// One scalar in the bytes of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar {
    /// Which word of the buffer.
    pub(super) word: usize,
    pub(super) dtype: DType,
}

fn component(index: usize) -> char {
    ['x', 'y', 'z', 'w'].get(index).copied().unwrap_or('?')
}
