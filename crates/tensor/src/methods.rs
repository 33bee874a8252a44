//! The methods and operators that stand for rows of the elementwise table.

use std::ops::{Add, Div, Mul, Neg, Not, Rem, Sub};
use std::panic::Location;

use crate::elementwise::row_doc;
use crate::tensor::elementwise;
use crate::{Code, DType, Elementwise, Error, Operand, Tensor};

macro_rules! methods {
    (unary: $($Row:ident $name:ident)*; binary: $($Row2:ident $name2:ident)*) => {
        impl Tensor {
            $(
                #[doc = row_doc!($Row)]
                #[doc = concat!("\n\nThe row [`Elementwise::", stringify!($Row), "`].")]
                #[track_caller]
                pub fn $name(&self) -> Tensor { elementwise(Location::caller(), Elementwise::$Row, &[self.into()]) }
            )*
            $(
                #[doc = row_doc!($Row2)]
                #[doc = concat!("\n\nThe row [`Elementwise::", stringify!($Row2), "`], with broadcasting.")]
                #[track_caller]
                pub fn $name2(&self, other: impl Into<Operand>) -> Tensor {
                    elementwise(Location::caller(), Elementwise::$Row2, &[self.into(), other.into()])
                }
            )*
        }
    };
}
methods! {
    unary: Recip recip Abs abs Sign sign Relu relu Floor floor Ceil ceil Round round Trunc trunc Fract fract Sqrt sqrt
        Rsqrt rsqrt Exp exp Exp2 exp2 Expm1 expm1 RecipExpm1 recip_expm1 Log log Log2 log2 Log1p log1p Log1mexp log1mexp Sigmoid sigmoid LogSigmoid log_sigmoid
        Softplus softplus Tanh tanh Sinh sinh Cosh cosh Asinh asinh Acosh acosh Atanh atanh Sin sin Cos cos Tan tan
        Asin asin Acos acos Atan atan Erf erf Erfc erfc LogNdtr log_ndtr InverseMills inverse_mills
        I0e i0e I1e i1e Lgamma lgamma Digamma digamma Trigamma trigamma IsNan is_nan;
    binary: Max max Min min Atan2 atan2 Xlogy xlogy Xlog1py xlog1py Eq eq Ne ne Lt lt Le le Gt gt Ge ge And and Or or Xor xor
}

impl Tensor {
    /// Elementwise [`Elementwise::Clamp`]. Invalid with `E_HYPERPARAMETER` if both bounds are numbers and `low > high`,
    /// or one is NaN.
    #[track_caller]
    pub fn clamp(&self, low: impl Into<Operand>, high: impl Into<Operand>) -> Tensor {
        let (low, high) = (low.into(), high.into());
        if let (Operand::Number(l), Operand::Number(h)) = (&low, &high)
            && l.as_f64().partial_cmp(&h.as_f64()).is_none_or(std::cmp::Ordering::is_gt)
            && self.error().is_none()
        {
            let message = format!("low = {} is not below high = {}", l.as_f64(), h.as_f64());
            return Tensor::invalid(
                Error::new(Code::Hyperparameter, "clamp", message).at(Location::caller()),
            );
        }
        elementwise(Location::caller(), Elementwise::Clamp, &[self.into(), low, high])
    }
    /// `a` where this (a truth value) holds, else `b`; only the operand chosen contributes to value and gradient.
    #[track_caller]
    pub fn select(&self, a: impl Into<Operand>, b: impl Into<Operand>) -> Tensor {
        elementwise(Location::caller(), Elementwise::Select, &[self.into(), a.into(), b.into()])
    }
    /// `self` to a power, by IEEE 754. The literal exponents −1, ½, 1, 2 and 3 become reciprocal, root and products.
    #[track_caller]
    pub fn pow(&self, exponent: impl Into<Operand>) -> Tensor {
        let (at, exponent) = (Location::caller(), exponent.into());
        let binary = |row, a: &Tensor, b: &Tensor| elementwise(at, row, &[a.into(), b.into()]);
        if let (Operand::Number(n), Ok(node)) = (&exponent, self.node())
            && node.dtype.is_float()
        {
            match n.as_f64() {
                -1.0 => return elementwise(at, Elementwise::Recip, &[self.into()]),
                0.5 => return elementwise(at, Elementwise::Sqrt, &[self.into()]),
                1.0 => return self.cast_at(at, DType::F32),
                2.0 => return binary(Elementwise::Mul, self, self),
                3.0 => return binary(Elementwise::Mul, &binary(Elementwise::Mul, self, self), self),
                _ => {}
            }
        }
        elementwise(at, Elementwise::Pow, &[self.into(), exponent])
    }
}

/// `a` where `condition` holds, else `b`; see [`Tensor::select`].
#[track_caller]
pub fn where_(condition: &Tensor, a: impl Into<Operand>, b: impl Into<Operand>) -> Tensor {
    condition.select(a, b)
}

macro_rules! operators {
    ($($Trait:ident $method:ident),*) => { $(
        impl<O: Into<Operand>> $Trait<O> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: O) -> Tensor { elementwise(Location::caller(), Elementwise::$Trait, &[self.into(), other.into()]) }
        }
        impl<O: Into<Operand>> $Trait<O> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: O) -> Tensor { elementwise(Location::caller(), Elementwise::$Trait, &[self.into(), other.into()]) }
        }
        impl $Trait<&Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor { elementwise(Location::caller(), Elementwise::$Trait, &[self.into(), other.into()]) }
        }
        impl $Trait<Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { elementwise(Location::caller(), Elementwise::$Trait, &[self.into(), other.into()]) }
        }
    )* };
}
operators!(Add add, Sub sub, Mul mul, Div div, Rem rem);
impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        elementwise(Location::caller(), Elementwise::Neg, &[self.into()])
    }
}
impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        elementwise(Location::caller(), Elementwise::Neg, &[self.into()])
    }
}
impl Not for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn not(self) -> Tensor {
        elementwise(Location::caller(), Elementwise::Not, &[self.into()])
    }
}
