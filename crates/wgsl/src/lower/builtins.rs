//! The builtin functions of WGSL, as rows and as what they are made of.

use cotangent_tensor::{Code, DType, Elementwise as E, Integer};
use naga::{BinaryOperator as B, MathFunction as M, Span, TypeInner};

use super::{Lowering, Tie, Value};
use crate::diagnose::Problem;

/// Builtins that are a row, component by component.
fn row(function: M) -> Option<E> {
    Some(match function {
        M::Abs => E::Abs,
        M::Min => E::Min,
        M::Max => E::Max,
        M::Cos => E::Cos,
        M::Cosh => E::Cosh,
        M::Sin => E::Sin,
        M::Sinh => E::Sinh,
        M::Tan => E::Tan,
        M::Tanh => E::Tanh,
        M::Acos => E::Acos,
        M::Asin => E::Asin,
        M::Atan => E::Atan,
        M::Atan2 => E::Atan2,
        M::Asinh => E::Asinh,
        M::Acosh => E::Acosh,
        M::Atanh => E::Atanh,
        M::Ceil => E::Ceil,
        M::Floor => E::Floor,
        M::Round => E::Round,
        M::Fract => E::Fract,
        M::Trunc => E::Trunc,
        M::Exp => E::Exp,
        M::Exp2 => E::Exp2,
        M::Log => E::Log,
        M::Log2 => E::Log2,
        M::Pow => E::Pow,
        M::Sqrt => E::Sqrt,
        M::InverseSqrt => E::Rsqrt,
        _ => return None,
    })
}

impl Lowering<'_> {
    fn row(&mut self, row: E, args: &[Value]) -> Value {
        self.scalars.apply(row, args)
    }
    /// A builtin function of arguments, the first of type `ty`.
    pub(super) fn builtin(
        &mut self,
        function: M,
        ty: &TypeInner,
        args: &[Vec<Value>],
        span: Span,
    ) -> Result<Vec<Value>, Problem> {
        let is_float = args.iter().flatten().all(|&x| self.scalars.dtype(x).is_float());
        if let (M::Max | M::Min, Tie::First, true) = (function, self.options.tie, is_float) {
            let row = if function == M::Max { E::Ge } else { E::Le };
            return Ok(self.each(args, |lowering, args| lowering.first_of(row, args[0], args[1])));
        }
        if let Some(row) = row(function) {
            return Ok(self.each(args, |lowering, args| lowering.row(row, args)));
        }
        let is_integer = args.iter().flatten().any(|&x| self.scalars.dtype(x).is_integer());
        let number = Value::float;
        Ok(match function {
            M::Clamp if is_integer => self.each(args, |l, a| {
                let above = l.row(E::Max, &[a[0], a[1]]);
                l.row(E::Min, &[above, a[2]])
            }),
            M::Clamp => self.each(args, |l, a| l.row(E::Clamp, a)),
            M::Saturate => self.each(args, |l, a| l.row(E::Clamp, &[a[0], number(0.0), number(1.0)])),
            M::Sign if is_integer => self.each(args, |l, a| {
                let dtype = l.scalars.dtype(a[0]);
                let of = |x| Value::integer(x, dtype);
                let positive = l.row(E::Gt, &[a[0], of(0)]);
                let negative = l.row(E::Lt, &[a[0], of(0)]);
                let below = l.scalars.select(negative, of(-1), of(0));
                l.scalars.select(positive, of(1), below)
            }),
            M::Sign => self.each(args, |l, a| l.row(E::Sign, a)),
            M::Radians => {
                self.each(args, |l, a| l.row(E::Mul, &[a[0], number(std::f64::consts::PI / 180.0)]))
            }
            M::Degrees => {
                self.each(args, |l, a| l.row(E::Mul, &[a[0], number(180.0 / std::f64::consts::PI)]))
            }
            M::Fma => self.each(args, |l, a| {
                let product = l.row(E::Mul, &[a[0], a[1]]);
                l.row(E::Add, &[product, a[2]])
            }),
            M::Mix => self.each(args, |l, a| {
                let rest = l.row(E::Sub, &[number(1.0), a[2]]);
                let (x, y) = (l.row(E::Mul, &[a[0], rest]), l.row(E::Mul, &[a[1], a[2]]));
                l.row(E::Add, &[x, y])
            }),
            M::Step => self.each(args, |l, a| {
                let reached = l.row(E::Ge, &[a[1], a[0]]);
                l.scalars.select(reached, number(1.0), number(0.0))
            }),
            M::SmoothStep => self.each(args, |l, a| {
                let (above, width) = (l.row(E::Sub, &[a[2], a[0]]), l.row(E::Sub, &[a[1], a[0]]));
                let t = l.row(E::Div, &[above, width]);
                let t = l.row(E::Clamp, &[t, number(0.0), number(1.0)]);
                let (square, double) = (l.row(E::Mul, &[t, t]), l.row(E::Mul, &[number(2.0), t]));
                let rest = l.row(E::Sub, &[number(3.0), double]);
                l.row(E::Mul, &[square, rest])
            }),
            M::Ldexp => self.each(args, |l, a| {
                // in two steps: 2^128 is no f32, and half of it times 2^128 is
                let half = l.scalars.shift(Integer::Shr, a[1], Value::Uint(1));
                let rest = l.row(E::Sub, &[a[1], half]);
                [half, rest].into_iter().fold(a[0], |x, power| {
                    let power = l.scalars.cast(power, DType::F32);
                    let power = l.row(E::Exp2, &[power]);
                    l.row(E::Mul, &[x, power])
                })
            }),
            M::Dot => vec![self.dot(&args[0], &args[1])],
            M::Length if args[0].len() == 1 => vec![self.row(E::Abs, &args[0])],
            M::Length => vec![self.length(&args[0])],
            M::Distance => {
                let difference = self.operator(B::Subtract, &args[0], &args[1]);
                match difference[..] {
                    [one] => vec![self.row(E::Abs, &[one])],
                    _ => vec![self.length(&difference)],
                }
            }
            M::Normalize => {
                let square = self.dot(&args[0], &args[0]);
                let length = self.row(E::Sqrt, &[square]);
                self.operator(B::Divide, &args[0], &[length])
            }
            M::Cross => {
                let (a, b) = (&args[0], &args[1]);
                let mut component = |i: usize, j: usize| {
                    let (x, y) = (self.row(E::Mul, &[a[i], b[j]]), self.row(E::Mul, &[a[j], b[i]]));
                    self.row(E::Sub, &[x, y])
                };
                vec![component(1, 2), component(2, 0), component(0, 1)]
            }
            M::FaceForward => {
                let facing = self.dot(&args[1], &args[2]);
                let facing = self.row(E::Lt, &[facing, number(0.0)]);
                self.each(&args[..1], |l, a| {
                    let turned = l.row(E::Neg, &[a[0]]);
                    l.scalars.select(facing, a[0], turned)
                })
            }
            M::Reflect => {
                let along = self.dot(&args[1], &args[0]);
                let twice = self.row(E::Mul, &[number(2.0), along]);
                let part = self.operator(B::Multiply, &[twice], &args[1]);
                self.operator(B::Subtract, &args[0], &part)
            }
            // a structure: fract, whole
            M::Modf => {
                let whole = self.each(args, |l, a| l.row(E::Trunc, a));
                let mut parts = self.operator(B::Subtract, &args[0], &whole);
                parts.extend(whole);
                parts
            }
            M::Refract => {
                let (normal, ratio) = (&args[1], args[2][0]);
                let along = self.dot(normal, &args[0]);
                let square = self.row(E::Mul, &[along, along]);
                let across = self.row(E::Sub, &[number(1.0), square]);
                let ratio_square = self.row(E::Mul, &[ratio, ratio]);
                let across = self.row(E::Mul, &[ratio_square, across]);
                let rest = self.row(E::Sub, &[number(1.0), across]);
                let root = self.row(E::Sqrt, &[rest]);
                let part = self.row(E::Mul, &[ratio, along]);
                let part = self.row(E::Add, &[part, root]);
                let (inward, back) = (
                    self.operator(B::Multiply, &[ratio], &args[0]),
                    self.operator(B::Multiply, &[part], normal),
                );
                let refracted = self.operator(B::Subtract, &inward, &back);
                let reflects = self.row(E::Lt, &[rest, number(0.0)]);
                refracted.into_iter().map(|x| self.scalars.select(reflects, number(0.0), x)).collect()
            }
            M::Transpose => match ty {
                TypeInner::Matrix { columns, rows, .. } => {
                    let (columns, rows) = (*columns as usize, *rows as usize);
                    (0..rows)
                        .flat_map(|r| (0..columns).map(move |c| c * rows + r))
                        .map(|at| args[0][at])
                        .collect()
                }
                _ => args[0].clone(),
            },
            M::Determinant => vec![self.determinant(&args[0])],
            _ => {
                let name = format!("{function:?}");
                let name = name[..1].to_lowercase() + &name[1..];
                let message = format!("the builtin `{name}` has no derivative here");
                return Err(Problem::new(Code::WgslBuiltin, message).at(span, "used here"));
            }
        })
    }
    /// A function of numbers, component by component; a single number goes with each of the others.
    fn each(&mut self, args: &[Vec<Value>], mut of: impl FnMut(&mut Self, &[Value]) -> Value) -> Vec<Value> {
        let length = args.iter().map(Vec::len).max().unwrap_or(0);
        let mut results = Vec::new();
        for i in 0..length {
            let of_component: Vec<Value> = args.iter().map(|arg| arg[i % arg.len()]).collect();
            results.push(of(self, &of_component));
        }
        results
    }
    /// The first of two numbers if it is NaN or the test holds, else the second, with the whole gradient.
    fn first_of(&mut self, test: E, a: Value, b: Value) -> Value {
        let (holds, is_nan) = (self.row(test, &[a, b]), self.row(E::IsNan, &[a]));
        let takes_first = self.scalars.or(holds, is_nan);
        self.scalars.select(takes_first, a, b)
    }
    /// The Euclidean norm; its derivative at 0 is 0, as that of a choice of the constant 0.
    fn length(&mut self, v: &[Value]) -> Value {
        let square = self.dot(v, v);
        let root = self.row(E::Sqrt, &[square]);
        let is_zero = self.row(E::Eq, &[square, Value::float(0.0)]);
        self.scalars.select(is_zero, Value::float(0.0), root)
    }
    /// Expanded along the first column; at most 4 by 4.
    fn determinant(&mut self, matrix: &[Value]) -> Value {
        let n = matrix.len().isqrt();
        if n == 1 {
            return matrix[0];
        }
        let mut sum = None;
        for row in 0..n {
            let minor: Vec<Value> = (n..n * n).filter(|at| at % n != row).map(|at| matrix[at]).collect();
            let minor = self.determinant(&minor);
            let term = self.row(E::Mul, &[matrix[row], minor]);
            sum = Some(match sum {
                None => term,
                Some(sum) => self.row(if row % 2 == 1 { E::Sub } else { E::Add }, &[sum, term]),
            });
        }
        sum.unwrap_or(Value::float(1.0))
    }
}
