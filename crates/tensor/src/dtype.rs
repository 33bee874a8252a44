//! Element types and single numbers.

use std::fmt;

/// Type of the elements of a tensor.
///
/// The reference computes F32 and F16 values in f64; devices compute them in f32 and store them as named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point storage: leaves, casts and movement; arithmetic widens to [`DType::F32`].
    F16,
    /// 32-bit signed integer, two's complement, wrapping.
    I32,
    /// 32-bit unsigned integer, wrapping.
    U32,
    /// Truth value.
    Bool,
}

impl DType {
    /// Every element type.
    pub const ALL: &[DType] = &[DType::F32, DType::F16, DType::I32, DType::U32, DType::Bool];
    /// Whether gradients exist for this type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16)
    }
    /// Whether it is one of the two integer types.
    pub fn is_integer(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }
    /// The name as printed, such as `f32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One number, as a constant of the graph carries it. Floats keep f64 bits; devices round them once.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// A floating-point number of [`DType::F32`].
    Float(f64),
    /// A number of [`DType::I32`].
    Int(i32),
    /// A number of [`DType::U32`].
    Uint(u32),
    /// A truth value.
    Bool(bool),
}

impl Scalar {
    /// The number as f64 (truth values as 0 and 1).
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Float(v) => v,
            Scalar::Int(v) => f64::from(v),
            Scalar::Uint(v) => f64::from(v),
            Scalar::Bool(v) => f64::from(u8::from(v)),
        }
    }
    /// The 32-bit word by which devices represent it: f32 bits, two's complement, or 0 and 1.
    pub fn to_word(self) -> u32 {
        match self {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding to f32 is the meaning of a device constant"
            )]
            Scalar::Float(v) => (v as f32).to_bits(),
            Scalar::Int(v) => v as u32,
            Scalar::Uint(v) => v,
            Scalar::Bool(v) => u32::from(v),
        }
    }
    /// Bitwise identity, as needed to merge equal constants (NaN equals NaN, −0 differs from 0).
    pub fn same(self, other: Scalar) -> bool {
        match (self, other) {
            (Scalar::Float(a), Scalar::Float(b)) => a.to_bits() == b.to_bits(),
            (Scalar::Int(a), Scalar::Int(b)) => a == b,
            (Scalar::Uint(a), Scalar::Uint(b)) => a == b,
            (Scalar::Bool(a), Scalar::Bool(b)) => a == b,
            (Scalar::Float(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Bool(_), _) => false,
        }
    }
    /// Its element type.
    pub fn dtype(self) -> DType {
        match self {
            Scalar::Float(_) => DType::F32,
            Scalar::Int(_) => DType::I32,
            Scalar::Uint(_) => DType::U32,
            Scalar::Bool(_) => DType::Bool,
        }
    }
}
