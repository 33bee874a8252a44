//! Host data on its way into a step or a variable.

use std::borrow::Cow;
use std::fmt;

use cotangent_tensor::{Array, Code, DType, Error, Node, Shape, Tensor, Values};

use crate::storage::encode;

/// Data for an input: arrays, vectors, slices and single numbers. An [`Array`] brings its shape; the others are taken
/// in row-major order and only have to have the right number of elements.
pub trait Feed {
    /// Why there is no data, if there is none.
    fn error(&self) -> Option<&Error> {
        None
    }
    /// The shape, if it is known.
    fn shape(&self) -> Option<Shape>;
    /// The element type.
    fn dtype(&self) -> DType;
    /// The number of elements.
    fn elements(&self) -> usize;
    /// The words of an element type, as devices hold them: the type of the data, or F16 for F32.
    fn words(&self, dtype: DType) -> Cow<'_, [u32]>;
}

impl fmt::Debug for dyn Feed + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements of {}", self.elements(), self.dtype())
    }
}

impl Feed for Array {
    fn error(&self) -> Option<&Error> {
        Array::error(self)
    }
    fn shape(&self) -> Option<Shape> {
        Some(*Array::shape(self))
    }
    fn dtype(&self) -> DType {
        Array::dtype(self)
    }
    fn elements(&self) -> usize {
        self.values().len()
    }
    fn words(&self, dtype: DType) -> Cow<'_, [u32]> {
        match self.values() {
            Values::Single(values) if dtype == DType::F32 => Cow::Borrowed(bytemuck::cast_slice(values)),
            Values::Int(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
            Values::Uint(values) => Cow::Borrowed(values),
            Values::Single(_) | Values::Float(_) | Values::Bool(_) => Cow::Owned(encode(self, dtype)),
        }
    }
}

impl<F: Feed + ?Sized> Feed for &F {
    fn error(&self) -> Option<&Error> {
        (**self).error()
    }
    fn shape(&self) -> Option<Shape> {
        (**self).shape()
    }
    fn dtype(&self) -> DType {
        (**self).dtype()
    }
    fn elements(&self) -> usize {
        (**self).elements()
    }
    fn words(&self, dtype: DType) -> Cow<'_, [u32]> {
        (**self).words(dtype)
    }
}

/// Where the first value of a variable comes from: everything that makes a tensor, and tensors, which are computed once.
pub trait Initial {
    /// The tensor.
    fn tensor(&self) -> Tensor;
}
impl Initial for Tensor {
    fn tensor(&self) -> Tensor {
        self.clone()
    }
}
impl Initial for Array {
    #[track_caller]
    fn tensor(&self) -> Tensor {
        Tensor::new(self.clone())
    }
}
impl<I: Initial + ?Sized> Initial for &I {
    #[track_caller]
    fn tensor(&self) -> Tensor {
        (**self).tensor()
    }
}

macro_rules! feeds {
    ($($T:ty => $dtype:expr, $words:expr;)*) => { $(
        impl Feed for [$T] {
            fn shape(&self) -> Option<Shape> { None }
            fn dtype(&self) -> DType { $dtype }
            fn elements(&self) -> usize { self.len() }
            fn words(&self, dtype: DType) -> Cow<'_, [u32]> {
                let words: fn(&[$T]) -> Cow<'_, [u32]> = $words;
                if dtype == DType::F16 { Cow::Owned(encode(&Array::from(self), dtype)) } else { words(self) }
            }
        }
        impl Feed for Vec<$T> {
            fn shape(&self) -> Option<Shape> { None }
            fn dtype(&self) -> DType { $dtype }
            fn elements(&self) -> usize { self.len() }
            fn words(&self, dtype: DType) -> Cow<'_, [u32]> { self.as_slice().words(dtype) }
        }
        impl<const N: usize> Feed for [$T; N] {
            fn shape(&self) -> Option<Shape> { None }
            fn dtype(&self) -> DType { $dtype }
            fn elements(&self) -> usize { N }
            fn words(&self, dtype: DType) -> Cow<'_, [u32]> { self.as_slice().words(dtype) }
        }
        impl Feed for $T {
            fn shape(&self) -> Option<Shape> { None }
            fn dtype(&self) -> DType { $dtype }
            fn elements(&self) -> usize { 1 }
            fn words(&self, dtype: DType) -> Cow<'_, [u32]> { std::slice::from_ref(self).words(dtype) }
        }
        impl Initial for $T {
            #[track_caller]
            fn tensor(&self) -> Tensor { Tensor::new(*self) }
        }
        impl Initial for Vec<$T> {
            #[track_caller]
            fn tensor(&self) -> Tensor { Tensor::new(self) }
        }
        impl Initial for [$T] {
            #[track_caller]
            fn tensor(&self) -> Tensor { Tensor::new(self) }
        }
        impl<const N: usize> Initial for [$T; N] {
            #[track_caller]
            fn tensor(&self) -> Tensor { Tensor::new(*self) }
        }
        impl<const N: usize, const M: usize> Initial for [[$T; M]; N] {
            #[track_caller]
            fn tensor(&self) -> Tensor { Tensor::new(*self) }
        }
    )* };
}
#[expect(clippy::cast_possible_truncation, reason = "devices round floats once, at upload")]
fn rounded(values: &[f64]) -> Cow<'_, [u32]> {
    Cow::Owned(values.iter().map(|&value| (value as f32).to_bits()).collect())
}
feeds! {
    f32 => DType::F32, |values| Cow::Borrowed(bytemuck::cast_slice(values));
    f64 => DType::F32, rounded;
    i32 => DType::I32, |values| Cow::Borrowed(bytemuck::cast_slice(values));
    u32 => DType::U32, |values| Cow::Borrowed(values);
    bool => DType::Bool, |values| Cow::Owned(values.iter().map(|&value| u32::from(value)).collect());
}

/// The words of `data` for a node. Errors: [`Code::ShapeChanged`], [`Code::Dtype`].
pub(crate) fn fit<'a>(data: &'a dyn Feed, node: &Node, operation: &str) -> Result<Cow<'a, [u32]>, Error> {
    if let Some(error) = data.error() {
        return Err(error.clone().within(format!("in the data of `{}`", node.called())).at(node.location));
    }
    let shape_fits = match data.shape() {
        Some(shape) => shape == node.shape,
        None => data.elements() == node.shape.elements(),
    };
    if !shape_fits {
        let given = match data.shape() {
            Some(shape) => format!("shape {shape}"),
            None => format!("{} elements", data.elements()),
        };
        let message = format!("`{}` has shape {}, the data has {given}", node.called(), node.shape);
        let hint = match operation {
            "write" => "a variable keeps its shape; make another one for another shape",
            _ => "shapes are fixed when a step is built; build another step for another shape",
        };
        return Err(Error::new(Code::ShapeChanged, operation, message)
            .shape("expected", &node.shape)
            .at(node.location)
            .hint(hint));
    }
    if data.dtype() != node.dtype && !(data.dtype() == DType::F32 && node.dtype == DType::F16) {
        let message = format!("`{}` is {}, the data is {}", node.name(), node.dtype, data.dtype());
        return Err(Error::new(Code::Dtype, operation, message)
            .at(node.location)
            .hint("give data of that type, or make the input of the type of the data and use `.cast(..)`"));
    }
    Ok(data.words(node.dtype))
}
