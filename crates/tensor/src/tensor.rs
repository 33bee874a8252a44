//! The handle everybody meets, and the error it may carry.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::elementwise::{Class, Real};
use crate::node::Origin;
use crate::{
    Array, Code, DType, Elementwise, Error, Integer, IntoShape, Key, Label, Node, Op, Scalar, Shape, Token,
    Values,
};

/// The user's line.
pub type At = &'static Location<'static>;

/// Cheap handle to an immutable node of a lazy graph, or to the first error made while building it.
///
/// Building computes nothing and touches no device. A mistake yields an *invalid* tensor that carries the error and the
/// caller's line; every operation on it yields the same error, and every boundary (a read, a step, a gradient)
/// returns it as `Err`.
#[derive(Clone)]
pub struct Tensor(Result<Arc<Node>, Error>);

/// An operand: a tensor, or a number that takes the element type of the tensors beside it.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A tensor.
    Tensor(Tensor),
    /// A number.
    Number(Scalar),
}

impl Tensor {
    /// The node, or the error that made this tensor invalid.
    pub fn node(&self) -> Result<&Arc<Node>, Error> {
        self.0.as_ref().map_err(Clone::clone)
    }
    /// A handle to a node.
    pub fn from_node(node: Arc<Node>) -> Tensor {
        Tensor(Ok(node))
    }
    /// An invalid tensor.
    pub fn invalid(error: Error) -> Tensor {
        Tensor(Err(error))
    }
    /// The error of an invalid tensor.
    pub fn error(&self) -> Option<&Error> {
        self.0.as_ref().err()
    }
    /// The shape. One of the two functions that panic on an invalid tensor, with its error; see [`Tensor::error`].
    #[track_caller]
    #[expect(clippy::panic, reason = "documented: an invalid tensor has no shape")]
    pub fn shape(&self) -> &Shape {
        match &self.0 {
            Ok(node) => &node.shape,
            Err(error) => panic!("{error}"),
        }
    }
    /// The element type. One of the two functions that panic on an invalid tensor, with its error.
    #[track_caller]
    #[expect(clippy::panic, reason = "documented: an invalid tensor has no element type")]
    pub fn dtype(&self) -> DType {
        match &self.0 {
            Ok(node) => node.dtype,
            Err(error) => panic!("{error}"),
        }
    }
    /// The same value under a name that kernels, traces and messages show. Derivatives with respect to the one are
    /// derivatives with respect to the other.
    pub fn named(&self, name: &str) -> Tensor {
        let Ok(node) = &self.0 else { return self.clone() };
        let (op, operands) = (node.op.clone(), node.operands.clone());
        let Node { shape, dtype, location, .. } = **node;
        let label = Some(Label::of(node, name));
        Tensor(Ok(Arc::new(Node {
            op,
            operands,
            shape,
            dtype,
            location,
            label,
            origin: node.origin.clone(),
        })))
    }
    pub(crate) fn build(at: At, op: Op, operands: Vec<Arc<Node>>, shape: Shape, dtype: DType) -> Tensor {
        let origin = Origin::of(&operands);
        Tensor(Ok(Arc::new(Node { op, operands, shape, dtype, location: at, label: None, origin })))
    }
    /// Runs a builder; its error makes the tensor invalid, with the user's line.
    pub(crate) fn attempt(at: At, build: impl FnOnce() -> Result<Tensor, Error>) -> Tensor {
        build().unwrap_or_else(|error| {
            Tensor::invalid(if error.location().is_some() { error } else { error.at(at) })
        })
    }

    // ------------------------------------------------------------------------------------------------- sources

    /// Host data as a tensor: nested arrays, vectors, vectors of rows, single numbers, or an [`Array`]. Invalid with
    /// `E_TOO_LARGE` for more than 2³² − 1 values, with `E_DATA_LENGTH` for rows of different lengths.
    #[track_caller]
    pub fn new(data: impl Into<Array>) -> Tensor {
        Tensor::leaf(Location::caller(), data.into())
    }
    /// Values in row-major order under a shape. Invalid with `E_DATA_LENGTH` if their number does not fit.
    #[track_caller]
    pub fn from_values(values: impl Into<Values>, shape: impl IntoShape) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || Ok(Tensor::leaf(at, Array::new(values, shape).map_err(|error| error.at(at))?)))
    }
    fn leaf(at: At, array: Array) -> Tensor {
        if let Some(error) = array.error() {
            return Tensor::invalid(error.clone().at(at));
        }
        let (shape, dtype) = (*array.shape(), array.dtype());
        Tensor::build(at, Op::Leaf(Arc::new(array)), vec![], shape, dtype)
    }
    /// The same number everywhere; its type decides the element type.
    #[track_caller]
    pub fn full(shape: impl IntoShape, value: impl Into<Scalar>) -> Tensor {
        let (at, value) = (Location::caller(), value.into());
        Tensor::attempt(at, || {
            Ok(Tensor::build(at, Op::Constant(value), vec![], shape.into_shape()?, value.dtype()))
        })
    }
    /// Zeros of type F32.
    #[track_caller]
    pub fn zeros(shape: impl IntoShape) -> Tensor {
        Tensor::full(shape, 0.0)
    }
    /// Ones of type F32.
    #[track_caller]
    pub fn ones(shape: impl IntoShape) -> Tensor {
        Tensor::full(shape, 1.0)
    }
    /// A number of the element type `dtype`, once per element of `shape`.
    pub(crate) fn constant_of(at: At, shape: Shape, value: f64, dtype: DType) -> Tensor {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "used for small whole numbers"
        )]
        let scalar = match dtype {
            DType::F32 | DType::F16 => Scalar::Float(value),
            DType::I32 => Scalar::Int(value as i32),
            DType::U32 => Scalar::Uint(value as u32),
            DType::Bool => Scalar::Bool(value != 0.0),
        };
        Tensor::build(at, Op::Constant(scalar), vec![], shape, dtype)
    }
    /// A value that is given each time the graph is run; its shape is fixed.
    #[track_caller]
    pub fn input(name: &str, shape: impl IntoShape, dtype: DType) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            Ok(Tensor::build(at, Op::Input(Token::new(name, 0)), vec![], shape.into_shape()?, dtype))
        })
    }
    /// The value of storage that a device owns under `token`.
    #[track_caller]
    pub fn variable(token: Arc<Token>, shape: Shape, dtype: DType) -> Tensor {
        Tensor::build(Location::caller(), Op::Variable(token), vec![], shape, dtype)
    }
    /// Stands for a tensor of this shape inside a rule.
    #[track_caller]
    pub fn placeholder(name: &str, shape: Shape, dtype: DType) -> Tensor {
        Tensor::build(Location::caller(), Op::Placeholder(Token::new(name, 0)), vec![], shape, dtype)
    }
    /// The coordinate along `axis`, as I32.
    #[track_caller]
    pub fn iota(shape: impl IntoShape, axis: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let shape = shape.into_shape()?;
            let axis = crate::shape::resolve_axis("iota", axis, shape.rank())?;
            Ok(Tensor::build(at, Op::Iota { axis }, vec![], shape, DType::I32))
        })
    }
    /// Random words of a key (U32): the same on every device. `step` is a U32 scalar that makes each step's draw new.
    #[track_caller]
    pub fn random_bits(key: Key, step: impl Into<Operand>, shape: impl IntoShape) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let shape = shape.into_shape()?;
            let step = match step.into() {
                Operand::Tensor(t) => t.node()?.clone(),
                Operand::Number(s) => {
                    whole_number("random_bits", s, DType::U32)?;
                    Tensor::constant_of(at, Shape::SCALAR, s.as_f64(), DType::U32).node()?.clone()
                }
            };
            if step.dtype != DType::U32 || step.shape.rank() != 0 {
                let message =
                    format!("the step counter must be a u32 scalar, not {} {}", step.dtype, step.shape);
                return Err(
                    Error::new(Code::Dtype, "random_bits", message).hint("cast it with `.cast(DType::U32)`")
                );
            }
            Ok(Tensor::build(at, Op::RandomBits(key), vec![step], shape, DType::U32))
        })
    }

    // ------------------------------------------------------------------------------------ one value per element

    /// Conversion of the element type. Float to integer truncates, saturates and maps NaN to 0; to bool means `≠ 0`.
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Tensor {
        let Ok(node) = &self.0 else { return self.clone() };
        if node.dtype == dtype {
            return self.clone();
        }
        Tensor::build(Location::caller(), Op::Cast, vec![node.clone()], node.shape, dtype)
    }
    /// The same value, through which no gradient flows: the explicit cut.
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        let Ok(node) = &self.0 else { return self.clone() };
        Tensor::build(Location::caller(), Op::Detach, vec![node.clone()], node.shape, node.dtype)
    }
    /// The same value, marked. [`Evaluate::inspect`](crate::Evaluate::inspect) collects it under `label`, and a step whose
    /// `StepOptions` ask for it does so in every run. Otherwise the mark costs nothing.
    #[track_caller]
    pub fn inspect(&self, label: &str) -> Tensor {
        let Ok(node) = &self.0 else { return self.clone() };
        Tensor::build(
            Location::caller(),
            Op::Inspect(label.into()),
            vec![node.clone()],
            node.shape,
            node.dtype,
        )
    }
}

/// Applies a row with broadcasting; integers go to their own table.
pub(crate) fn elementwise(at: At, row: Elementwise, operands: &[Operand]) -> Tensor {
    Tensor::attempt(at, || {
        let mut nodes = Vec::new();
        for operand in operands {
            if let Operand::Tensor(tensor) = operand {
                nodes.push(tensor.node()?.clone());
            }
        }
        let shape = nodes.iter().try_fold(Shape::SCALAR, |shape, node| {
            shape
                .broadcast(&node.shape)
                .map_err(|axis| broadcast_error(row.name(), &shape, &node.shape, axis).among(&nodes))
        })?;
        let dtypes = operand_dtypes(row, operands, &nodes)?;
        let mut tensors = Vec::new();
        let mut given = nodes.iter();
        for (operand, &dtype) in operands.iter().zip(&dtypes) {
            tensors.push(match operand {
                Operand::Number(scalar) => Tensor::constant_of(at, shape, scalar.as_f64(), dtype),
                Operand::Tensor(_) => {
                    let node = given.next().expect("one node per tensor operand");
                    let widened = if node.dtype == DType::F16 {
                        Tensor(Ok(node.clone())).cast_at(at, DType::F32)
                    } else {
                        Tensor(Ok(node.clone()))
                    };
                    widened.broadcast_at(at, &shape)?
                }
            });
        }
        apply(at, row, dtypes[dtypes.len() - 1], tensors)
    })
}

/// The element type of each operand, with numbers adapted to the tensors beside them.
fn operand_dtypes(row: Elementwise, operands: &[Operand], nodes: &[Arc<Node>]) -> Result<Vec<DType>, Error> {
    let mut given = nodes.iter();
    let stated: Vec<Option<DType>> = operands
        .iter()
        .map(|o| match o {
            Operand::Tensor(_) => {
                given.next().map(|n| if n.dtype == DType::F16 { DType::F32 } else { n.dtype })
            }
            Operand::Number(_) => None,
        })
        .collect();
    let condition = usize::from(row.class() == Class::Select);
    // A float decides, so that the hint is never to cast it: that would cut its gradient.
    let float = |o: &Operand| matches!(o, Operand::Number(Scalar::Float(_)));
    let floats = stated[condition..].iter().flatten().any(|d| d.is_float())
        || operands[condition..].iter().any(float) && stated[condition..].iter().any(Option::is_some);
    let first = stated[condition..].iter().flatten().next().copied();
    let common = if floats { Some(DType::F32) } else { first };
    let common = common.or_else(|| match operands[operands.len() - 1] {
        Operand::Number(Scalar::Int(_)) | Operand::Tensor(_) => None,
        Operand::Number(scalar) => Some(scalar.dtype()),
    });
    let common = common.unwrap_or(if row.class() == Class::Logic { DType::Bool } else { DType::F32 });
    let fits = |dtype: DType, operand: &Operand| match operand {
        Operand::Tensor(_) => true,
        Operand::Number(Scalar::Float(_)) => dtype.is_float(),
        Operand::Number(Scalar::Bool(_)) => dtype == DType::Bool,
        Operand::Number(Scalar::Int(v)) => dtype != DType::Bool && (dtype != DType::U32 || *v >= 0),
        Operand::Number(Scalar::Uint(v)) => {
            dtype != DType::Bool && (dtype != DType::I32 || i32::try_from(*v).is_ok())
        }
    };
    let mut dtypes = Vec::new();
    for (position, (operand, &dtype)) in operands.iter().zip(&stated).enumerate() {
        let wanted = if position < condition { DType::Bool } else { common };
        if dtype.is_some_and(|d| d != wanted) || !fits(wanted, operand) {
            let (got, help) = match operand {
                Operand::Number(number) => (
                    format!("the number {}", number.as_f64()),
                    format!("write a number that is one of {wanted}"),
                ),
                Operand::Tensor(_) => (
                    dtype.map_or_else(|| "a tensor".to_owned(), |dtype| dtype.to_string()),
                    format!("write `.cast(DType::{wanted:?})`"),
                ),
            };
            let message = format!("operand {position} is {got} where {wanted} is needed");
            return Err(Error::new(Code::Dtype, row.name(), message).hint(help));
        }
        dtypes.push(wanted);
    }
    let legal = match row.class() {
        Class::Real => common.is_float() || row.on_integers().is_some() && common.is_integer(),
        Class::Test if common == DType::Bool => matches!(row, Elementwise::Eq | Elementwise::Ne),
        Class::Test => common.is_float() || row.on_integers().is_some(),
        Class::Logic => common == DType::Bool || common.is_integer(),
        Class::Select => true,
    };
    if !legal {
        let wanted = if row.class() == Class::Logic { DType::Bool } else { DType::F32 };
        return Err(Error::new(Code::Dtype, row.name(), format!("not defined for {common}"))
            .hint(format!("write `.cast(DType::{wanted:?})`")));
    }
    Ok(dtypes)
}

impl Elementwise {
    /// The row of the integer table with the same meaning.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other rows exist for floats only")]
    pub fn on_integers(self) -> Option<Integer> {
        Some(match self {
            Elementwise::Add => Integer::Add,
            Elementwise::Sub => Integer::Sub,
            Elementwise::Mul => Integer::Mul,
            Elementwise::Div => Integer::Div,
            Elementwise::Rem => Integer::Rem,
            Elementwise::Neg => Integer::Neg,
            Elementwise::Abs => Integer::Abs,
            Elementwise::Min => Integer::Min,
            Elementwise::Max => Integer::Max,
            Elementwise::And => Integer::And,
            Elementwise::Or => Integer::Or,
            Elementwise::Xor => Integer::Xor,
            Elementwise::Not => Integer::Not,
            Elementwise::Eq => Integer::Eq,
            Elementwise::Ne => Integer::Ne,
            Elementwise::Lt => Integer::Lt,
            Elementwise::Le => Integer::Le,
            Elementwise::Gt => Integer::Gt,
            Elementwise::Ge => Integer::Ge,
            Elementwise::Select => Integer::Select,
            _ => return None,
        })
    }
}

/// Builds the node on operands of equal shape and checked types.
fn apply(at: At, row: Elementwise, dtype: DType, tensors: Vec<Tensor>) -> Result<Tensor, Error> {
    // Truth values have no equality row and no select row of their own: both are logic.
    if dtype == DType::Bool && row == Elementwise::Eq {
        return Ok(elementwise(at, Elementwise::Not, &[apply(at, Elementwise::Xor, dtype, tensors)?.into()]));
    }
    if dtype == DType::Bool && row == Elementwise::Ne {
        return apply(at, Elementwise::Xor, dtype, tensors);
    }
    if let (DType::Bool, Elementwise::Select, [condition, a, b]) = (dtype, row, &tensors[..]) {
        let chosen = elementwise(at, Elementwise::And, &[condition.into(), a.into()]);
        let inverse = elementwise(at, Elementwise::Not, &[condition.into()]);
        let other = elementwise(at, Elementwise::And, &[inverse.into(), b.into()]);
        return Ok(elementwise(at, Elementwise::Or, &[chosen.into(), other.into()]));
    }
    let operands = tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
    let shape = operands[0].shape;
    if dtype.is_integer()
        && let Some(integer) = row.on_integers()
    {
        let result = if integer.is_test() { DType::Bool } else { dtype };
        return Ok(Tensor::build(at, Op::Integer(integer), operands, shape, result));
    }
    let result = match row.class() {
        Class::Real | Class::Select => DType::F32,
        Class::Test | Class::Logic => DType::Bool,
    };
    Ok(Tensor::build(at, Op::Elementwise(row), operands, shape, result))
}

/// An integer row without a float twin.
fn integer(at: At, row: Integer, a: &Tensor, b: Operand) -> Tensor {
    Tensor::attempt(at, || {
        let lhs = a.node()?;
        if !lhs.dtype.is_integer() {
            return Err(Error::new(Code::Dtype, row.name(), format!("not defined for {}", lhs.dtype))
                .hint("write `.cast(DType::I32)`"));
        }
        let rhs = match b {
            Operand::Tensor(t) => t,
            Operand::Number(s) => {
                whole_number(row.name(), s, lhs.dtype)?;
                Tensor::constant_of(at, lhs.shape, s.as_f64(), lhs.dtype)
            }
        };
        let rhs = rhs.node()?.clone();
        if rhs.dtype != lhs.dtype {
            return Err(Error::new(Code::Dtype, row.name(), format!("{} by {}", lhs.dtype, rhs.dtype))
                .hint("cast one of them"));
        }
        let shape = lhs.shape.broadcast(&rhs.shape).map_err(|axis| {
            let both = [lhs.clone(), rhs.clone()];
            broadcast_error(row.name(), &lhs.shape, &rhs.shape, axis).among(&both)
        })?;
        let operands = [lhs, &rhs]
            .map(|n| Tensor(Ok(n.clone())).broadcast_at(at, &shape).and_then(|t| t.node().cloned()));
        let [lhs, rhs] = operands;
        let (lhs, rhs) = (lhs?, rhs?);
        let dtype = lhs.dtype;
        Ok(Tensor::build(at, Op::Integer(row), vec![lhs, rhs], shape, dtype))
    })
}

/// A number that stands for an integer of `dtype` must be one.
fn whole_number(operation: &str, number: Scalar, dtype: DType) -> Result<(), Error> {
    let fits = match (number, dtype) {
        (Scalar::Int(v), DType::U32) => v >= 0,
        (Scalar::Uint(v), DType::I32) => i32::try_from(v).is_ok(),
        (Scalar::Int(_) | Scalar::Uint(_), _) => true,
        (Scalar::Float(_) | Scalar::Bool(_), _) => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(Code::Dtype, operation, format!("{number:?} is no {dtype}"))
        .hint(format!("give a whole number in the range of {dtype}")))
}

pub(crate) fn broadcast_error(operation: &str, lhs: &Shape, rhs: &Shape, axis: usize) -> Error {
    if axis >= lhs.rank().max(rhs.rank()) {
        let message = format!("shapes {lhs} and {rhs} broadcast to more elements than fit 32 bits");
        let error = Error::new(Code::TooLarge, operation, message);
        return error.shape("lhs", lhs).shape("rhs", rhs).hint("split one of the tensors");
    }
    let error = Error::new(
        Code::Broadcast,
        operation,
        format!("shapes {lhs} and {rhs} do not broadcast: they differ at axis {axis} of the result"),
    );
    error.shape("lhs", lhs).shape("rhs", rhs).hint("insert axes with `unsqueeze`, or reshape one of them")
}

/// Builders that take the line instead of asking for the caller's: for functions whose text is not Rust.
impl Tensor {
    /// A number.
    pub fn scalar_at(at: At, value: Scalar) -> Tensor {
        Tensor::build(at, Op::Constant(value), vec![], Shape::SCALAR, value.dtype())
    }
    /// Applies a row with broadcasting, as its method does.
    pub fn elementwise_at(at: At, row: Elementwise, operands: &[Operand]) -> Tensor {
        elementwise(at, row, operands)
    }
    /// Applies a row that only integers have, such as a shift.
    pub fn integer_at(at: At, row: Integer, a: &Tensor, b: &Tensor) -> Tensor {
        integer(at, row, a, b.into())
    }
    /// [`Tensor::cast`].
    pub fn cast_at(&self, at: At, dtype: DType) -> Tensor {
        let Ok(node) = &self.0 else { return self.clone() };
        if node.dtype == dtype {
            self.clone()
        } else {
            Tensor::build(at, Op::Cast, vec![node.clone()], node.shape, dtype)
        }
    }
    pub(crate) fn broadcast_at(&self, at: At, shape: &Shape) -> Result<Tensor, Error> {
        let node = self.node()?;
        if node.shape == *shape {
            return Ok(self.clone());
        }
        if node.shape.broadcast(shape).ok() != Some(*shape) {
            return Err(Error::new(
                Code::Broadcast,
                "broadcast",
                format!("shape {} does not broadcast to {shape}", node.shape),
            )
            .shape("from", &node.shape)
            .shape("to", shape));
        }
        // A float constant stays itself: it may be differentiated with respect to.
        if let (Op::Constant(scalar), false) = (&node.op, node.dtype.is_float()) {
            return Ok(Tensor::build(at, Op::Constant(*scalar), vec![], *shape, node.dtype));
        }
        Ok(Tensor::build(at, Op::Broadcast, vec![node.clone()], *shape, node.dtype))
    }
    /// Shift left of integers; the count is taken modulo 32.
    #[track_caller]
    pub fn shl(&self, count: impl Into<Operand>) -> Tensor {
        integer(Location::caller(), Integer::Shl, self, count.into())
    }
    /// Shift right of integers, arithmetic for I32; the count is taken modulo 32.
    #[track_caller]
    pub fn shr(&self, count: impl Into<Operand>) -> Tensor {
        integer(Location::caller(), Integer::Shr, self, count.into())
    }
}

impl Real for Tensor {
    #[track_caller]
    fn constant(&self, value: f64) -> Tensor {
        let Ok(node) = &self.0 else { return self.clone() };
        Tensor::constant_of(Location::caller(), node.shape, value, DType::F32)
    }
    #[track_caller]
    fn apply(operation: Elementwise, args: &[&Tensor]) -> Tensor {
        let operands: Vec<Operand> = args.iter().map(|&t| t.into()).collect();
        elementwise(Location::caller(), operation, &operands)
    }
}

impl From<Tensor> for Operand {
    fn from(tensor: Tensor) -> Operand {
        Operand::Tensor(tensor)
    }
}
impl From<&Tensor> for Operand {
    fn from(tensor: &Tensor) -> Operand {
        Operand::Tensor(tensor.clone())
    }
}
macro_rules! numbers {
    ($($T:ty => $Variant:ident),*) => { $(
        impl From<$T> for Scalar { fn from(v: $T) -> Scalar { Scalar::$Variant(v.into()) } }
        impl From<$T> for Operand { fn from(v: $T) -> Operand { Operand::Number(v.into()) } }
    )* };
}
numbers!(f64 => Float, f32 => Float, i32 => Int, u32 => Uint, bool => Bool);

impl<T: Into<Array>> From<T> for Tensor {
    #[track_caller]
    fn from(data: T) -> Tensor {
        Tensor::new(data)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(node) => write!(f, "{node:?}"),
            Err(error) => match error.location() {
                Some(at) => {
                    write!(f, "invalid({} at {}:{}:{})", error.code(), at.file(), at.line(), at.column())
                }
                None => write!(f, "invalid({})", error.code()),
            },
        }
    }
}
