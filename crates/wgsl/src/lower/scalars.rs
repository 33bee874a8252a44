//! The numbers a function computes: constants that are known now, and nodes of the graph. Equal ones are made once.

use std::cell::OnceCell;
use std::collections::HashMap;

use cotangent_tensor::At;
use cotangent_tensor::{Class, DType, Elementwise as E, Integer, Operand, Scalar, Shape, Tensor};
use naga::Span;

/// One scalar of a WGSL value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// The bits of an f64: constants are rounded once, by whoever uses them.
    Float(u64),
    Int(i32),
    Uint(u32),
    Bool(bool),
    Node(usize),
}

impl Value {
    pub(crate) const TRUE: Value = Value::Bool(true);
    pub(crate) const FALSE: Value = Value::Bool(false);

    pub(crate) fn float(x: f64) -> Value {
        Value::Float(x.to_bits())
    }
    /// A whole number of an integer type.
    pub(crate) fn integer(x: i64, dtype: DType) -> Value {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "integers wrap")]
        if dtype == DType::U32 { Value::Uint(x as u32) } else { Value::Int(x as i32) }
    }
    /// A number as a constant of a type, in which it was found to fit.
    pub(crate) fn number(x: f64, dtype: DType) -> Value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "integers are whole and in range; floats are f32"
        )]
        match dtype {
            DType::F32 | DType::F16 => Value::float(f64::from(x as f32)),
            DType::I32 | DType::U32 => Value::integer(x as i64, dtype),
            DType::Bool => Value::Bool(x != 0.0),
        }
    }
    /// Zero of a type.
    pub(crate) fn zero(dtype: DType) -> Value {
        match dtype {
            DType::F32 | DType::F16 => Value::float(0.0),
            DType::I32 | DType::U32 => Value::integer(0, dtype),
            DType::Bool => Value::FALSE,
        }
    }
    /// The number, if it is a constant float.
    pub(crate) fn as_float(self) -> Option<f64> {
        if let Value::Float(bits) = self { Some(f64::from_bits(bits)) } else { None }
    }
    /// The number, if it is a constant integer.
    pub(crate) fn as_integer(self) -> Option<i64> {
        match self {
            Value::Int(x) => Some(x.into()),
            Value::Uint(x) => Some(x.into()),
            Value::Float(_) | Value::Bool(_) | Value::Node(_) => None,
        }
    }
    pub(crate) fn as_bool(self) -> Option<bool> {
        if let Value::Bool(x) = self { Some(x) } else { None }
    }
    fn is(self, x: f64) -> bool {
        // −0 is not 0 here
        self.as_float().is_some_and(|value| value.to_bits() == x.to_bits())
    }
    fn is_integer(self, x: i64) -> bool {
        self.as_integer() == Some(x)
    }
}

/// How a node was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Made {
    /// Unused operands are false.
    Row(E, [Value; 3]),
    Shift(Integer, [Value; 2]),
    Cast(Value, DType),
}

impl Made {
    pub(crate) fn operands(self) -> impl Iterator<Item = Value> {
        let (operands, count) = match self {
            Made::Row(row, operands) => (operands, row.arity()),
            Made::Shift(_, [a, count]) => ([a, count, Value::FALSE], 2),
            Made::Cast(value, _) => ([value, Value::FALSE, Value::FALSE], 1),
        };
        operands.into_iter().take(count)
    }
    /// The sign between its operands, if it is written so.
    pub(crate) fn infix(self) -> Option<&'static str> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other rows are written as calls")]
        match self {
            Made::Row(row, _) => Some(match row {
                E::Add => "+",
                E::Sub => "-",
                E::Mul => "*",
                E::Div => "/",
                E::Rem => "%",
                E::Eq => "==",
                E::Ne => "!=",
                E::Lt => "<",
                E::Le => "<=",
                E::Gt => ">",
                E::Ge => ">=",
                E::And => "&",
                E::Or => "|",
                E::Xor => "^",
                _ => return None,
            }),
            Made::Shift(Integer::Shr, _) => Some(">>"),
            Made::Shift(..) => Some("<<"),
            Made::Cast(..) => None,
        }
    }
    pub(crate) fn is_infix(self) -> bool {
        self.infix().is_some()
    }
}

/// What a node is that was not made here.
#[derive(Clone, Debug)]
pub(crate) enum Outside {
    /// A scalar of a parameter, by its position.
    Input(usize),
    /// A value without its gradient.
    Detached,
    /// An output of a rule, of these values.
    Rule(Vec<Value>),
}

/// Builds nodes, at one line.
pub(crate) struct Scalars {
    at: At,
    /// Of what lies outside, the stand-ins that somebody has asked for.
    nodes: Vec<(OnceCell<Tensor>, DType)>,
    /// The place of the text that is being computed; undefined inside of the prelude.
    pub(crate) here: Span,
    /// The place where each node was made first.
    spans: Vec<Span>,
    outside: HashMap<usize, Outside>,
    /// How the nodes were made that were made here.
    made: HashMap<usize, Made>,
    known: HashMap<Made, Value>,
    /// What a truth value is the negation of.
    negated: HashMap<usize, Value>,
}

impl Scalars {
    pub(crate) fn new(at: At) -> Scalars {
        Scalars {
            at,
            nodes: Vec::new(),
            here: Span::UNDEFINED,
            spans: Vec::new(),
            outside: HashMap::new(),
            made: HashMap::new(),
            known: HashMap::new(),
            negated: HashMap::new(),
        }
    }
    /// Scalars on which a round of a loop is computed: what is here stands outside of it, as stand-ins under the same numbers.
    pub(crate) fn inner(&self) -> Scalars {
        let stand_in = |(_, dtype): &(OnceCell<Tensor>, DType)| (OnceCell::new(), *dtype);
        Scalars {
            nodes: self.nodes.iter().map(stand_in).collect(),
            spans: self.spans.clone(),
            here: self.here,
            ..Scalars::new(self.at)
        }
    }
    /// Those of the first nodes that somebody has asked for.
    pub(crate) fn asked(&self, count: usize) -> impl Iterator<Item = Value> {
        (0..count).filter(|&node| self.nodes[node].0.get().is_some()).map(Value::Node)
    }
    /// Forgets all but the first nodes.
    pub(crate) fn forget(&mut self, count: usize) {
        let is_kept = |value: &Value| !matches!(value, Value::Node(node) if *node >= count);
        self.nodes.truncate(count);
        self.spans.truncate(count);
        self.outside.retain(|node, _| *node < count);
        self.made.retain(|node, _| *node < count);
        self.known.retain(|_, value| is_kept(value));
        self.negated.retain(|node, _| *node < count);
    }
    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
    /// How a node was made; none if it came from outside.
    pub(crate) fn made(&self, node: usize) -> Option<Made> {
        self.made.get(&node).copied()
    }
    /// A scalar that comes from outside.
    pub(crate) fn given(&mut self, tensor: Tensor, dtype: DType) -> Value {
        self.nodes.push((OnceCell::from(tensor), dtype));
        self.spans.push(self.here);
        Value::Node(self.nodes.len() - 1)
    }
    /// The same, with what it is.
    pub(crate) fn given_as(&mut self, tensor: Tensor, dtype: DType, outside: Outside) -> Value {
        self.outside.insert(self.nodes.len(), outside);
        self.given(tensor, dtype)
    }
    /// What a node is that was not made here, if that is known.
    pub(crate) fn outside(&self, node: usize) -> Option<&Outside> {
        self.outside.get(&node)
    }
    /// The place of the text where a node was made first.
    pub(crate) fn span(&self, node: usize) -> Span {
        self.spans[node]
    }
    pub(crate) fn dtype(&self, value: Value) -> DType {
        match value {
            Value::Float(_) => DType::F32,
            Value::Int(_) => DType::I32,
            Value::Uint(_) => DType::U32,
            Value::Bool(_) => DType::Bool,
            Value::Node(node) => self.nodes[node].1,
        }
    }
    /// The value as a tensor.
    pub(crate) fn tensor(&self, value: Value) -> Tensor {
        let scalar = match value {
            Value::Float(bits) => Scalar::Float(f64::from_bits(bits)),
            Value::Int(x) => Scalar::Int(x),
            Value::Uint(x) => Scalar::Uint(x),
            Value::Bool(x) => Scalar::Bool(x),
            Value::Node(node) => {
                let (tensor, dtype) = &self.nodes[node];
                return tensor.get_or_init(|| Tensor::placeholder("outer", Shape::SCALAR, *dtype)).clone();
            }
        };
        Tensor::scalar_at(self.at, scalar)
    }
    fn operand(&self, value: Value) -> Operand {
        match value {
            Value::Float(bits) => Operand::Number(Scalar::Float(f64::from_bits(bits))),
            Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Node(_) => self.tensor(value).into(),
        }
    }

    pub(crate) fn not(&mut self, a: Value) -> Value {
        self.apply(E::Not, &[a])
    }
    pub(crate) fn and(&mut self, a: Value, b: Value) -> Value {
        self.apply(E::And, &[a, b])
    }
    pub(crate) fn or(&mut self, a: Value, b: Value) -> Value {
        self.apply(E::Or, &[a, b])
    }
    pub(crate) fn select(&mut self, condition: Value, accept: Value, reject: Value) -> Value {
        self.apply(E::Select, &[condition, accept, reject])
    }
    /// Applies a row. Operands have the same type, but for the condition of a choice.
    pub(crate) fn apply(&mut self, row: E, args: &[Value]) -> Value {
        if let Some(value) = self.folded(row, args).or_else(|| self.simplified(row, args)) {
            return value;
        }
        let mut key = [Value::FALSE; 3];
        key[..args.len()].copy_from_slice(args);
        let key = Made::Row(row, key);
        if let Some(&value) = self.known.get(&key) {
            return value;
        }
        let dtype = match row.class() {
            Class::Test => DType::Bool,
            Class::Real | Class::Logic | Class::Select => self.dtype(args[args.len() - 1]),
        };
        let operands: Vec<Operand> = args.iter().map(|&arg| self.operand(arg)).collect();
        let tensor = Tensor::elementwise_at(self.at, row, &operands);
        let value = self.remember(key, tensor, dtype);
        if let (E::Not, DType::Bool, Value::Node(node)) = (row, dtype, value) {
            self.negated.insert(node, args[0]);
        }
        value
    }
    /// A shift of integers.
    pub(crate) fn shift(&mut self, row: Integer, a: Value, count: Value) -> Value {
        if let (Some(a_word), Some(count)) = (word(a), word(count)) {
            let dtype = self.dtype(a);
            return from_word(row.eval(dtype, a_word, count, 0), dtype);
        }
        let key = Made::Shift(row, [a, count]);
        if let Some(&value) = self.known.get(&key) {
            return value;
        }
        let dtype = self.dtype(a);
        // WGSL counts in u32, whatever is shifted
        let count = self.cast(count, dtype);
        let tensor = Tensor::integer_at(self.at, row, &self.tensor(a), &self.tensor(count));
        self.remember(key, tensor, dtype)
    }
    pub(crate) fn cast(&mut self, value: Value, dtype: DType) -> Value {
        let from = self.dtype(value);
        if from == dtype {
            return value;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, as WGSL does"
        )]
        match (value, dtype) {
            (Value::Int(_) | Value::Uint(_), DType::I32 | DType::U32) => {
                return from_word(word(value).unwrap_or(0), dtype);
            }
            #[expect(clippy::cast_precision_loss, reason = "an integer of 32 bits fits")]
            (Value::Int(_) | Value::Uint(_), DType::F32) => {
                return Value::float(value.as_integer().unwrap_or(0) as f64);
            }
            (Value::Bool(x), DType::F32) => return Value::float(f64::from(u8::from(x))),
            (Value::Bool(x), DType::I32 | DType::U32) => return Value::integer(x.into(), dtype),
            (Value::Float(bits), DType::I32) => return Value::Int(f64::from_bits(bits) as i32),
            (Value::Float(bits), DType::U32) => return Value::Uint(f64::from_bits(bits) as u32),
            (Value::Float(_) | Value::Int(_) | Value::Uint(_), DType::Bool) => {
                let zero = Value::zero(from);
                return self.apply(E::Ne, &[value, zero]);
            }
            _ => {}
        }
        let key = Made::Cast(value, dtype);
        if let Some(&value) = self.known.get(&key) {
            return value;
        }
        let tensor = self.tensor(value).cast_at(self.at, dtype);
        self.remember(key, tensor, dtype)
    }
    fn remember(&mut self, key: Made, tensor: Tensor, dtype: DType) -> Value {
        self.made.insert(self.nodes.len(), key);
        let value = self.given(tensor, dtype);
        self.known.insert(key, value);
        value
    }

    /// The result of constants.
    fn folded(&self, row: E, args: &[Value]) -> Option<Value> {
        if row == E::Select {
            return args[0].as_bool().map(|condition| args[if condition { 1 } else { 2 }]);
        }
        if args.iter().any(|arg| matches!(arg, Value::Node(_))) {
            return None;
        }
        let dtype = self.dtype(args[0]);
        if dtype.is_integer() {
            let mut words = [0; 3];
            for (word_of, &arg) in words.iter_mut().zip(args) {
                *word_of = word(arg)?;
            }
            let integer = row.on_integers()?;
            let result = integer.eval(dtype, words[0], words[1], words[2]);
            return Some(if integer.is_test() { Value::Bool(result != 0) } else { from_word(result, dtype) });
        }
        let numbers: Vec<f64> = args
            .iter()
            .map(|arg| arg.as_float().unwrap_or(f64::from(u8::from(*arg == Value::TRUE))))
            .collect();
        let result = row.eval(&numbers);
        let is_truth = dtype == DType::Bool || row.class() == Class::Test;
        #[expect(clippy::cast_possible_truncation, reason = "what overflows f32 is infinite in WGSL")]
        let in_range = if (result as f32).is_infinite() { f64::from(result as f32) } else { result };
        Some(if is_truth { Value::Bool(result != 0.0) } else { Value::float(in_range) })
    }
    /// What needs no operation. Floats are touched only where nothing changes, whatever the operand is: `x * 0` stays.
    fn simplified(&mut self, row: E, args: &[Value]) -> Option<Value> {
        match (row, args) {
            (E::Select, &[condition, a, b]) => {
                if a == b {
                    return Some(a);
                }
                if let Value::Node(node) = condition
                    && let Some(&inner) = self.negated.get(&node)
                {
                    return Some(self.select(inner, b, a));
                }
                match (a.as_bool(), b.as_bool()) {
                    (Some(true), Some(false)) => Some(condition),
                    (Some(false), Some(true)) => Some(self.not(condition)),
                    (Some(true), None) => Some(self.or(condition, b)),
                    (None, Some(false)) => Some(self.and(condition, a)),
                    (Some(false), None) => {
                        let otherwise = self.not(condition);
                        Some(self.and(otherwise, b))
                    }
                    (None, Some(true)) => {
                        let otherwise = self.not(condition);
                        Some(self.or(otherwise, a))
                    }
                    _ => None,
                }
            }
            (E::Not, &[Value::Node(node)]) => self.negated.get(&node).copied(),
            (E::And, &[Value::TRUE, x] | &[x, Value::TRUE]) => Some(x),
            (E::And, &[Value::FALSE, _] | &[_, Value::FALSE]) => Some(Value::FALSE),
            (E::Or, &[Value::FALSE, x] | &[x, Value::FALSE]) => Some(x),
            (E::Or, &[Value::TRUE, _] | &[_, Value::TRUE]) => Some(Value::TRUE),
            (E::And | E::Or, &[a, b]) if a == b => Some(a),
            (E::Eq, &[Value::TRUE, x] | &[x, Value::TRUE]) => Some(x),
            (E::Ne, &[Value::FALSE, x] | &[x, Value::FALSE]) => Some(x),
            (E::Eq, &[Value::FALSE, x] | &[x, Value::FALSE]) => Some(self.not(x)),
            (E::Ne, &[Value::TRUE, x] | &[x, Value::TRUE]) => Some(self.not(x)),
            (E::Mul, &[one, x] | &[x, one]) if one.is(1.0) || one.is_integer(1) => Some(x),
            (E::Div, &[x, one]) if one.is(1.0) || one.is_integer(1) => Some(x),
            // WGSL leaves the sign of a zero open
            (E::Add, &[zero, x] | &[x, zero]) if zero.is(0.0) || zero.is_integer(0) => Some(x),
            (E::Sub, &[x, zero]) if zero.is(0.0) || zero.is_integer(0) => Some(x),
            _ => None,
        }
    }
}

/// The word of a constant integer or truth value.
fn word(value: Value) -> Option<u32> {
    match value {
        Value::Int(x) => Some(x.cast_unsigned()),
        Value::Uint(x) => Some(x),
        Value::Bool(x) => Some(x.into()),
        Value::Float(_) | Value::Node(_) => None,
    }
}

fn from_word(word: u32, dtype: DType) -> Value {
    if dtype == DType::U32 { Value::Uint(word) } else { Value::Int(word.cast_signed()) }
}
