//! The second small table: operations on 32-bit integers, which wrap around and never trap.

use crate::DType;

/// Operations on two's-complement words of one integer type ([`DType::I32`] or [`DType::U32`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Integer {
    /// Wrapping sum.
    Add,
    /// Wrapping difference.
    Sub,
    /// Wrapping product.
    Mul,
    /// Truncated quotient; `x / 0 = x`, `MIN / −1 = MIN`.
    Div,
    /// Remainder of the truncated quotient; `x % 0 = 0`.
    Rem,
    /// Wrapping negation.
    Neg,
    /// Magnitude; `|MIN| = MIN`.
    Abs,
    /// Smaller of the two.
    Min,
    /// Larger of the two.
    Max,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// Bitwise complement.
    Not,
    /// Shift left; the count is taken modulo 32.
    Shl,
    /// Shift right (arithmetic for I32); the count is taken modulo 32.
    Shr,
    /// Equality, to a truth value.
    Eq,
    /// Inequality, to a truth value.
    Ne,
    /// Less, to a truth value.
    Lt,
    /// Less or equal, to a truth value.
    Le,
    /// Greater, to a truth value.
    Gt,
    /// Greater or equal, to a truth value.
    Ge,
    /// Second operand where the first (a truth value) holds, else the third.
    Select,
}

impl Integer {
    /// Every row.
    pub const ALL: &[Integer] = &{
        use Integer::*;
        [
            Add, Sub, Mul, Div, Rem, Neg, Abs, Min, Max, And, Or, Xor, Not, Shl, Shr, Eq, Ne, Lt, Le, Gt, Ge,
            Select,
        ]
    };
    /// Number of operands.
    pub fn arity(self) -> usize {
        match self {
            Integer::Neg | Integer::Abs | Integer::Not => 1,
            Integer::Select => 3,
            Integer::Add
            | Integer::Sub
            | Integer::Mul
            | Integer::Div
            | Integer::Rem
            | Integer::Min
            | Integer::Max => 2,
            Integer::And | Integer::Or | Integer::Xor | Integer::Shl | Integer::Shr => 2,
            Integer::Eq | Integer::Ne | Integer::Lt | Integer::Le | Integer::Gt | Integer::Ge => 2,
        }
    }
    /// Whether the result is a truth value.
    pub fn is_test(self) -> bool {
        matches!(self, Integer::Eq | Integer::Ne | Integer::Lt | Integer::Le | Integer::Gt | Integer::Ge)
    }
    /// The name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Integer::Add => "add",
            Integer::Sub => "sub",
            Integer::Mul => "mul",
            Integer::Div => "div",
            Integer::Rem => "rem",
            Integer::Neg => "neg",
            Integer::Abs => "abs",
            Integer::Min => "min",
            Integer::Max => "max",
            Integer::And => "and",
            Integer::Or => "or",
            Integer::Xor => "xor",
            Integer::Not => "not",
            Integer::Shl => "shl",
            Integer::Shr => "shr",
            Integer::Eq => "eq",
            Integer::Ne => "ne",
            Integer::Lt => "lt",
            Integer::Le => "le",
            Integer::Gt => "gt",
            Integer::Ge => "ge",
            Integer::Select => "select",
        }
    }
    /// The meaning, on words: `a`, `b` and `c` are two's complement or unsigned as `dtype` says, truth values 0 and 1.
    /// Unused operands are ignored.
    #[inline(always)]
    pub fn eval(self, dtype: DType, a: u32, b: u32, c: u32) -> u32 {
        let signed = dtype == DType::I32;
        let (x, y) = (a as i32, b as i32);
        match self {
            Integer::Add => a.wrapping_add(b),
            Integer::Sub => a.wrapping_sub(b),
            Integer::Mul => a.wrapping_mul(b),
            Integer::Div if b == 0 => a,
            Integer::Div if signed => x.wrapping_div(y) as u32,
            Integer::Div => a / b,
            Integer::Rem if b == 0 => 0,
            Integer::Rem if signed => x.wrapping_rem(y) as u32,
            Integer::Rem => a % b,
            Integer::Neg => a.wrapping_neg(),
            Integer::Abs if signed => x.wrapping_abs() as u32,
            Integer::Abs => a,
            Integer::Min if signed => x.min(y) as u32,
            Integer::Min => a.min(b),
            Integer::Max if signed => x.max(y) as u32,
            Integer::Max => a.max(b),
            Integer::And => a & b,
            Integer::Or => a | b,
            Integer::Xor => a ^ b,
            Integer::Not => !a,
            Integer::Shl => a.wrapping_shl(b),
            Integer::Shr if signed => x.wrapping_shr(b) as u32,
            Integer::Shr => a.wrapping_shr(b),
            Integer::Eq => u32::from(a == b),
            Integer::Ne => u32::from(a != b),
            Integer::Lt if signed => u32::from(x < y),
            Integer::Lt => u32::from(a < b),
            Integer::Le if signed => u32::from(x <= y),
            Integer::Le => u32::from(a <= b),
            Integer::Gt if signed => u32::from(x > y),
            Integer::Gt => u32::from(a > b),
            Integer::Ge if signed => u32::from(x >= y),
            Integer::Ge => u32::from(a >= b),
            Integer::Select => {
                if a != 0 {
                    b
                } else {
                    c
                }
            }
        }
    }
    /// The WGSL expression over operand names of WGSL type `i32` or `u32` (`bool` for the first of a select).
    /// Division and remainder call `i_div`, `u_div`, `i_rem`, `u_rem`, which never trap.
    pub fn wgsl(self, dtype: DType, a: &str, b: &str, c: &str) -> String {
        let prefix = if dtype == DType::I32 { "i" } else { "u" };
        match self {
            Integer::Add => format!("({a} + {b})"),
            Integer::Sub => format!("({a} - {b})"),
            Integer::Mul => format!("({a} * {b})"),
            Integer::Div => format!("{prefix}_div({a}, {b})"),
            Integer::Rem => format!("{prefix}_rem({a}, {b})"),
            Integer::Neg if dtype == DType::I32 => format!("(-{a})"),
            Integer::Neg => format!("(0u - {a})"),
            Integer::Abs => format!("abs({a})"),
            Integer::Min => format!("min({a}, {b})"),
            Integer::Max => format!("max({a}, {b})"),
            Integer::And => format!("({a} & {b})"),
            Integer::Or => format!("({a} | {b})"),
            Integer::Xor => format!("({a} ^ {b})"),
            Integer::Not => format!("(~{a})"),
            Integer::Shl => format!("({a} << (u32({b}) & 31u))"),
            Integer::Shr => format!("({a} >> (u32({b}) & 31u))"),
            Integer::Eq => format!("({a} == {b})"),
            Integer::Ne => format!("({a} != {b})"),
            Integer::Lt => format!("({a} < {b})"),
            Integer::Le => format!("({a} <= {b})"),
            Integer::Gt => format!("({a} > {b})"),
            Integer::Ge => format!("({a} >= {b})"),
            Integer::Select => format!("select({c}, {b}, {a})"),
        }
    }
}
