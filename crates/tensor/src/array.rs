//! Host arrays: what goes into a graph as data and what a read returns.

use std::panic::Location;

use crate::{Code, DType, Error, IntoShape, Shape};

/// The values of an array, by element type. Floats are f64: results of the reference keep all digits, results of
/// devices are f32 values widened.
#[derive(Clone, Debug)]
pub enum Values {
    /// Floating-point values of an F32 or F16 tensor.
    Float(Vec<f64>),
    /// Single-precision values, as devices hold them: the form in which large data travels.
    Single(Vec<f32>),
    /// Values of an I32 tensor.
    Int(Vec<i32>),
    /// Values of a U32 tensor.
    Uint(Vec<u32>),
    /// Values of a Bool tensor.
    Bool(Vec<bool>),
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::Float(v) => v.len(),
            Values::Single(v) => v.len(),
            Values::Int(v) => v.len(),
            Values::Uint(v) => v.len(),
            Values::Bool(v) => v.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The element type a tensor of these values gets.
    pub fn dtype(&self) -> DType {
        match self {
            Values::Float(_) | Values::Single(_) => DType::F32,
            Values::Int(_) => DType::I32,
            Values::Uint(_) => DType::U32,
            Values::Bool(_) => DType::Bool,
        }
    }
}

/// Values with a shape, on the host.
#[derive(Clone, Debug)]
pub struct Array {
    shape: Shape,
    dtype: DType,
    values: Values,
    /// Why there are no values: data of more elements than a tensor may have.
    refused: Option<Error>,
}

impl Array {
    /// Values in row-major order. Errors: [`Code::DataLength`] if their number is not the product of the shape,
    /// [`Code::Rank`], [`Code::TooLarge`].
    #[track_caller]
    pub fn new(values: impl Into<Values>, shape: impl IntoShape) -> Result<Array, Error> {
        let at = Location::caller();
        let (values, shape) = (values.into(), shape.into_shape().map_err(|error| error.at(at))?);
        if values.len() != shape.elements() {
            return Err(Error::new(
                Code::DataLength,
                "array",
                format!("{} values for shape {shape}, which holds {}", values.len(), shape.elements()),
            )
            .shape("shape", &shape)
            .at(at));
        }
        let dtype = values.dtype();
        Ok(Array { shape, dtype, values, refused: None })
    }
    /// A conversion that cannot return its error keeps it: the array is then empty, and a tensor of it invalid.
    fn converted(values: Values, dims: &[usize]) -> Array {
        let dtype = values.dtype();
        match Shape::new(dims) {
            Ok(shape) => Array { shape, dtype, values, refused: None },
            Err(error) => Array::refused(Values::Float(Vec::new()), error),
        }
    }
    fn refused(nothing: Values, error: Error) -> Array {
        Array { shape: Shape::EMPTY, dtype: nothing.dtype(), values: nothing, refused: Some(error) }
    }
    /// Rows of equal length as a matrix; others are refused with the first row that differs.
    fn matrix<T>(rows: Vec<Vec<T>>, wrap: fn(Vec<T>) -> Values) -> Array {
        let (count, columns) = (rows.len(), rows.first().map_or(0, Vec::len));
        let strange = rows.iter().map(Vec::len).enumerate().find(|&(_, length)| length != columns);
        let Some((row, length)) = strange else {
            return Array::converted(wrap(rows.into_iter().flatten().collect()), &[count, columns]);
        };
        let text = format!("row {row} has {length} values, row 0 has {columns}");
        let error = Error::new(Code::DataLength, "array", text).hint("give every row the same length");
        Array::refused(wrap(Vec::new()), error)
    }
    /// Why the data of this array was refused (`E_TOO_LARGE`, `E_DATA_LENGTH`), if it was; the array is then empty.
    pub fn error(&self) -> Option<&Error> {
        self.refused.as_ref()
    }
    /// The same values marked as F16 (floats only).
    pub fn with_dtype(mut self, dtype: DType) -> Array {
        if self.dtype.is_float() && dtype.is_float() {
            self.dtype = dtype;
        }
        self
    }
    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// The values in row-major order.
    pub fn values(&self) -> &Values {
        &self.values
    }
    /// All values as f64, row-major (truth values as 0 and 1).
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.values {
            Values::Float(v) => v.clone(),
            Values::Single(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::Int(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::Uint(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }
    /// All values as f32, row-major, rounded once.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "rounding is what is asked for"
    )]
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            Values::Float(v) => v.iter().map(|&x| x as f32).collect(),
            Values::Single(v) => v.clone(),
            Values::Int(v) => v.iter().map(|&x| x as f32).collect(),
            Values::Uint(v) => v.iter().map(|&x| x as f32).collect(),
            Values::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
        }
    }
    /// The 32-bit words by which devices hold the values: f32 bits, two's complement, or 0 and 1.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 once, at upload")]
    pub fn to_words(&self) -> Vec<u32> {
        match &self.values {
            Values::Float(v) => v.iter().map(|&x| (x as f32).to_bits()).collect(),
            Values::Single(v) => v.iter().map(|x| x.to_bits()).collect(),
            Values::Int(v) => v.iter().map(|&x| x as u32).collect(),
            Values::Uint(v) => v.clone(),
            Values::Bool(v) => v.iter().map(|&x| u32::from(x)).collect(),
        }
    }
    /// The array whose device words these are; the inverse of [`Array::to_words`].
    pub fn from_words(words: Vec<u32>, shape: Shape, dtype: DType) -> Result<Array, Error> {
        let values = match dtype {
            DType::F32 | DType::F16 => Values::Single(words.into_iter().map(f32::from_bits).collect()),
            DType::I32 => Values::Int(words.into_iter().map(|w| w as i32).collect()),
            DType::U32 => Values::Uint(words),
            DType::Bool => Values::Bool(words.into_iter().map(|w| w != 0).collect()),
        };
        Ok(Array::new(values, shape)?.with_dtype(dtype))
    }
    /// The value of a one-element array. Error: [`Code::NotScalar`].
    #[track_caller]
    pub fn scalar(&self) -> Result<f64, Error> {
        match self.to_f64()[..] {
            [value] => Ok(value),
            _ => Err(Error::new(
                Code::NotScalar,
                "scalar",
                format!("an array of shape {} has {} elements", self.shape, self.values.len()),
            )
            .shape("shape", &self.shape)
            .at(Location::caller())
            .hint("reduce it first, for example with `.mean(..)`")),
        }
    }
}

macro_rules! values_from {
    ($($T:ty => $Variant:ident),*) => { $(
        impl From<Vec<$T>> for Values { fn from(v: Vec<$T>) -> Values { Values::$Variant(v) } }
        impl From<&[$T]> for Values { fn from(v: &[$T]) -> Values { Values::$Variant(v.to_vec()) } }
        impl From<&Vec<$T>> for Values { fn from(v: &Vec<$T>) -> Values { Values::$Variant(v.clone()) } }
        impl<const N: usize> From<[$T; N]> for Values { fn from(v: [$T; N]) -> Values { Values::$Variant(v.to_vec()) } }
        impl From<$T> for Array {
            fn from(v: $T) -> Array {
                Array::converted(Values::$Variant(vec![v]), &[])
            }
        }
        impl From<Vec<$T>> for Array {
            fn from(v: Vec<$T>) -> Array {
                let length = v.len();
                Array::converted(Values::$Variant(v), &[length])
            }
        }
        impl From<&[$T]> for Array { fn from(v: &[$T]) -> Array { v.to_vec().into() } }
        impl From<&Vec<$T>> for Array { fn from(v: &Vec<$T>) -> Array { v.clone().into() } }
        impl<const N: usize> From<[$T; N]> for Array { fn from(v: [$T; N]) -> Array { v.to_vec().into() } }
        impl From<Vec<Vec<$T>>> for Array {
            fn from(v: Vec<Vec<$T>>) -> Array {
                Array::matrix(v, Values::$Variant)
            }
        }
        impl<const N: usize, const M: usize> From<[[$T; M]; N]> for Array {
            fn from(v: [[$T; M]; N]) -> Array {
                Array::converted(Values::$Variant(v.into_iter().flatten().collect()), &[N, M])
            }
        }
        impl<const N: usize, const M: usize, const K: usize> From<[[[$T; K]; M]; N]> for Array {
            fn from(v: [[[$T; K]; M]; N]) -> Array {
                Array::converted(Values::$Variant(v.into_iter().flatten().flatten().collect()), &[N, M, K])
            }
        }
    )* };
}
values_from!(f64 => Float, f32 => Single, i32 => Int, u32 => Uint, bool => Bool);
