//! A fused kernel is data: what it loads, computes, reduces and stores. One value serves the CPU device, the WGSL
//! emitter and the cross-check.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{DType, Elementwise, Integer, Key, Node, Reduce, UserKernel};

use crate::Recurrence;

/// Index into [`Plan::buffers`](crate::Plan::buffers).
pub type BufferId = usize;
/// Index into the code of a [`Loop`].
pub type Value = usize;

/// One dispatch of the plan.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// A readable name from the graph, such as `sub_abs_mul_sum`.
    pub name: String,
    /// The user's line of the last node it computes.
    pub location: &'static Location<'static>,
    /// The buffers it touches; code refers to them by position.
    pub bindings: Vec<Binding>,
    /// What it does.
    pub body: Body,
    /// Graph nodes whose values it reads from buffers.
    pub reads: Vec<Place>,
    /// Graph nodes whose values it writes to buffers.
    pub writes: Vec<Place>,
}

/// Where the value of a node lies: contiguous and row-major from an offset on.
#[derive(Clone, Debug)]
pub struct Place {
    /// The node.
    pub node: Arc<Node>,
    /// The buffer.
    pub buffer: BufferId,
    /// First element.
    pub offset: usize,
}

/// A buffer as a kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which buffer.
    pub buffer: BufferId,
    /// How it is used.
    pub access: Access,
    /// Element type of the buffer.
    pub dtype: DType,
}

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Loads an element and stores the same element, in place.
    ReadWrite,
}

/// What a kernel does.
#[derive(Clone, Debug)]
pub enum Body {
    /// Elementwise code with reductions: everything but matrix products and scans.
    Loop(Loop),
    /// A matrix product with an epilogue.
    Matmul(Matmul),
    /// A running sum.
    Scan(Scan),
    /// A kernel of the user's.
    User(User),
}

/// An affine function of the coordinates of a loop: `offset + Σ strides[d] · coordinate[d]`, over the kept dimensions
/// and then the reduced ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Affine {
    /// Value at the origin.
    pub offset: i64,
    /// One factor per dimension.
    pub strides: Vec<i64>,
}

/// Straight-line code over a box of coordinates.
///
/// The coordinates are the `kept` dimensions followed by the `reduced` ones. A value is at *element* level if it
/// varies over all of them, at *kept* level if only over the kept ones. A reduction takes an element-level value to a
/// kept-level one. Code is in SSA form: operands stand before their users. Adjacent dimensions whose strides allow it
/// have been merged, so a contiguous loop has one dimension.
///
/// **Phases.** Element-level code that uses the result of a reduction runs in a later sweep over the reduced
/// dimensions; see [`Loop::phases`]. Only [`Schedule::Row`] has more than one.
#[derive(Clone, Debug)]
pub struct Loop {
    /// Extents of the kept dimensions, outermost first. Empty: one element.
    pub kept: Vec<usize>,
    /// Extents of the reduced dimensions. Empty: no reduction, everything is kept level.
    pub reduced: Vec<usize>,
    /// How coordinates are distributed.
    pub schedule: Schedule,
    /// The code.
    pub code: Vec<Instruction>,
    /// What is written.
    pub stores: Vec<Store>,
}

/// How the coordinates of a [`Loop`] are distributed over lanes and workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// No reduced dimensions; lanes run over the kept ones.
    Map,
    /// Few kept elements, long reductions: lanes and tasks run over the reduced dimensions, partial results are combined
    /// in a fixed order. One phase.
    Total,
    /// Lanes run over the reduced dimensions of one kept element at a time. Several phases are allowed.
    Row,
    /// Lanes run over the kept dimensions and walk the reduced ones. One phase.
    Column,
}

/// Whether a value varies over the reduced dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Varies over the kept dimensions only.
    Kept,
    /// Varies over kept and reduced dimensions.
    Element,
}

/// One value.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// How it is computed.
    pub code: Code,
    /// Its type. F16 exists in buffers only: loads widen to F32, stores round.
    pub dtype: DType,
    /// Whether it varies over the reduced dimensions.
    pub level: Level,
    /// A name from the graph for emitted text.
    pub label: Option<Arc<str>>,
}

/// How a value is computed.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// A word: f32 bits, two's complement, 0 or 1.
    Constant(u32),
    /// The product of a [`Matmul`], in its epilogue.
    Accumulator,
    /// An element of a buffer. Where `guard` (a truth value) is false, zero, without touching memory.
    Load {
        /// Position in the bindings.
        binding: usize,
        /// Element index.
        at: Affine,
        /// Truth value under which the element exists.
        guard: Option<Value>,
    },
    /// The element `at + index · stride` of a buffer, `0 ≤ index < size`; an index outside reads 0 and sets the status word.
    LoadIndexed {
        /// Position in the bindings.
        binding: usize,
        /// Element index of index 0.
        at: Affine,
        /// An integer.
        index: Value,
        /// Elements per index.
        stride: usize,
        /// Number of valid indices.
        size: usize,
        /// Truth value under which the element exists.
        guard: Option<Value>,
        /// What the user called, for the report.
        operation: &'static str,
    },
    /// The affine function itself, as I32.
    Coordinate(Affine),
    /// Whether `0 ≤ at < size`.
    InRange {
        /// The affine function.
        at: Affine,
        /// The bound.
        size: usize,
    },
    /// Random word `at` of a key; `step` is a U32.
    RandomBits {
        /// The stream.
        key: Key,
        /// The step counter.
        step: Value,
        /// Which word.
        at: Affine,
    },
    /// A row of the operation table.
    Elementwise(Elementwise, Vec<Value>),
    /// A row of the integer table on operands of this type.
    Integer(Integer, DType, Vec<Value>),
    /// Conversion from the type of the operand to the type of the instruction.
    Cast(Value),
    /// The last state of a loop, as a tuple of which [`Code::Part`] takes a value. Operands: the initial state, then what is captured.
    While(Arc<Recurrence>, Vec<Value>),
    /// One value of a [`Code::While`].
    Part(Value, usize),
    /// Carried or captured value of a [`Recurrence`], in its code.
    Parameter(usize),
    /// Combines an element-level value over the reduced dimensions.
    Reduce(Reduce, Value),
    /// First position (I32, row-major over the reduced dimensions) of the extreme element, or of the first NaN.
    ArgReduce {
        /// Maximum or minimum.
        maximum: bool,
        /// The element-level value.
        value: Value,
    },
    /// The maximum `m` of an element-level value; [`Code::LogSumExpRest`] is its companion.
    LogSumExpMax(Value),
    /// `s = Σ exp(x − m)` over all elements but one that equals the maximum; the operand is a [`Code::LogSumExpMax`].
    /// So `log Σ exp x = m + log1p(s)`. A row of −inf has `m = −inf`, `s = 0`.
    LogSumExpRest(Value),
    /// `exp(x − m) / (1 + s)`, zero where `m = −inf`. Element level.
    Softmax {
        /// The element-level `x`.
        value: Value,
        /// The [`Code::LogSumExpMax`] of the same `x`.
        max: Value,
        /// Its [`Code::LogSumExpRest`].
        rest: Value,
    },
    /// [`Code::Softmax`] minus 1 at position `label`, without cancellation: `−s / (1 + s)` where `x = m`. Zero in a row of −inf.
    SoftmaxResidual {
        /// The element-level `x`.
        value: Value,
        /// The [`Code::LogSumExpMax`] of the same `x`.
        max: Value,
        /// Its [`Code::LogSumExpRest`].
        rest: Value,
        /// An integer at kept level; outside the row it sets the status word.
        label: Value,
    },
    /// The element-level value at position `index` (an integer at kept level) of the reduced dimensions. An index outside
    /// gives 0 and sets the status word.
    Pick {
        /// The element-level value.
        value: Value,
        /// The position.
        index: Value,
    },
}

/// One result.
#[derive(Clone, Debug)]
pub struct Store {
    /// Position in the bindings.
    pub binding: usize,
    /// Element index; covers distinct elements for distinct coordinates of the value's level.
    pub at: Affine,
    /// What is stored.
    pub value: Value,
}

/// A matrix inside a buffer: element `(batch…, row, column)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Position in the bindings.
    pub binding: usize,
    /// Element `(0…, 0, 0)`.
    pub offset: usize,
    /// Distance between batches, one per batch dimension; 0 where the matrix is shared.
    pub batch: Vec<usize>,
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns. One of the two distances is 1 unless the extent is 1.
    pub column: usize,
}

/// `epilogue(lhs · rhs)`.
#[derive(Clone, Debug)]
pub struct Matmul {
    /// Extents of the batch dimensions.
    pub batch: Vec<usize>,
    /// Rows of the product.
    pub m: usize,
    /// Columns of the product.
    pub n: usize,
    /// Terms per element; 0 gives zeros.
    pub k: usize,
    /// `[batch…, m, k]`.
    pub lhs: Matrix,
    /// `[batch…, k, n]`.
    pub rhs: Matrix,
    /// A map over `[batch…, m, n]` (kept dimensions, not merged) that uses [`Code::Accumulator`].
    pub epilogue: Loop,
}

/// Inclusive running sum along the middle of `[outer, length, inner]`; contiguous F32 in and out.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Independent runs before.
    pub outer: usize,
    /// Elements per run.
    pub length: usize,
    /// Independent runs after.
    pub inner: usize,
    /// From the end.
    pub reverse: bool,
    /// Binding of the operand.
    pub input: usize,
    /// Offset of its first element.
    pub input_offset: usize,
    /// Binding of the result.
    pub output: usize,
    /// Offset of its first element.
    pub output_offset: usize,
}

/// A kernel of the user's on its buffers; contiguous in and out.
#[derive(Clone, Debug)]
pub struct User {
    /// The kernel.
    pub kernel: Arc<UserKernel>,
    /// Binding of each operand, and the offset of its first element, a multiple of
    /// [`KERNEL_ALIGNMENT`](cotangent_tensor::KERNEL_ALIGNMENT).
    pub inputs: Vec<(usize, usize)>,
    /// Binding of the results, which fill its buffer.
    pub output: usize,
}

impl Affine {
    /// The constant function.
    pub fn constant(offset: i64, dimensions: usize) -> Affine {
        Affine { offset, strides: vec![0; dimensions] }
    }
    /// Row-major index over these extents.
    pub fn row_major(extents: &[usize]) -> Affine {
        let mut strides = vec![0; extents.len()];
        let mut step = 1;
        for (stride, &extent) in strides.iter_mut().zip(extents).rev() {
            *stride = step;
            step *= i64::try_from(extent).unwrap_or(i64::MAX);
        }
        Affine { offset: 0, strides }
    }
    /// `self + factor · other`.
    pub fn plus(&self, other: &Affine, factor: i64) -> Affine {
        let strides = self.strides.iter().zip(&other.strides).map(|(a, b)| a + factor * b).collect();
        Affine { offset: self.offset + factor * other.offset, strides }
    }
    /// The value at a coordinate.
    pub fn at(&self, coordinate: &[usize]) -> i64 {
        self.offset
            + self
                .strides
                .iter()
                .zip(coordinate)
                .map(|(s, &c)| s * i64::try_from(c).unwrap_or(0))
                .sum::<i64>()
    }
}

impl Code {
    /// The values it uses.
    pub fn operands(&self) -> Vec<Value> {
        match self {
            Code::Constant(_) | Code::Accumulator | Code::Coordinate(_) | Code::InRange { .. } => vec![],
            Code::Parameter(_) => vec![],
            Code::While(_, operands) => operands.clone(),
            Code::Part(tuple, _) => vec![*tuple],
            Code::Load { guard, .. } => guard.iter().copied().collect(),
            Code::LoadIndexed { index, guard, .. } => std::iter::once(*index).chain(*guard).collect(),
            Code::RandomBits { step, .. } => vec![*step],
            Code::Elementwise(_, operands) | Code::Integer(_, _, operands) => operands.clone(),
            Code::Cast(value) | Code::Reduce(_, value) | Code::ArgReduce { value, .. } => vec![*value],
            Code::LogSumExpMax(value) | Code::LogSumExpRest(value) => vec![*value],
            Code::Softmax { value, max, rest } => vec![*value, *max, *rest],
            Code::SoftmaxResidual { value, max, rest, label } => vec![*value, *max, *rest, *label],
            Code::Pick { value, index } => vec![*value, *index],
        }
    }
    /// Whether it combines over the reduced dimensions.
    pub fn is_reduction(&self) -> bool {
        match self {
            Code::Reduce(..)
            | Code::ArgReduce { .. }
            | Code::LogSumExpMax(_)
            | Code::LogSumExpRest(_)
            | Code::Pick { .. } => true,
            Code::Constant(_)
            | Code::Accumulator
            | Code::Load { .. }
            | Code::LoadIndexed { .. }
            | Code::Coordinate(_) => false,
            Code::InRange { .. }
            | Code::RandomBits { .. }
            | Code::Elementwise(..)
            | Code::Integer(..)
            | Code::Cast(_) => false,
            Code::While(..) | Code::Part(..) | Code::Parameter(_) => false,
            Code::Softmax { .. } | Code::SoftmaxResidual { .. } => false,
        }
    }
}

impl Loop {
    /// Number of kept coordinates.
    pub fn kept_elements(&self) -> usize {
        self.kept.iter().product()
    }
    /// Number of reduced coordinates; 1 without reduced dimensions.
    pub fn reduced_elements(&self) -> usize {
        self.reduced.iter().product()
    }
    /// The sweep in which each value becomes available. A kept-level value with phase `p` that is no reduction is computed
    /// between sweeps; a reduction with phase `p` is finished by sweep `p`; an element-level value with phase `p` is
    /// needed first in sweep `p`. Code after a reduction of phase `p` has phase `p + 1` or more, except
    /// [`Code::LogSumExpRest`], which is finished together with its maximum.
    pub fn phases(&self) -> Vec<usize> {
        let mut phases: Vec<usize> = Vec::with_capacity(self.code.len());
        for instruction in &self.code {
            let after = |&v: &Value| phases[v] + usize::from(self.code[v].code.is_reduction());
            let phase = match &instruction.code {
                Code::LogSumExpRest(max) => phases[*max],
                code => code.operands().iter().map(after).max().unwrap_or(0),
            };
            phases.push(phase);
        }
        phases
    }
    /// Number of sweeps over the reduced dimensions.
    pub fn sweeps(&self) -> usize {
        let phases = self.phases();
        let element = |v: Value| self.code[v].level == Level::Element;
        let reductions = (0..self.code.len()).filter(|&v| self.code[v].code.is_reduction());
        let stores = self.stores.iter().map(|s| s.value).filter(|&v| element(v));
        reductions.chain(stores).map(|v| phases[v] + 1).max().unwrap_or(0)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match &self.body {
            Body::Loop(l) => {
                write!(f, "{} {:?} kept {:?} reduced {:?}", self.name, l.schedule, l.kept, l.reduced)?;
                l
            }
            Body::Matmul(m) => {
                write!(f, "{} matmul {:?} {}×{}×{}", self.name, m.batch, m.m, m.k, m.n)?;
                &m.epilogue
            }
            Body::Scan(s) => return write!(f, "{} scan {}×{}×{}", self.name, s.outer, s.length, s.inner),
            Body::User(u) => {
                let UserKernel { workgroups, workgroup_size, .. } = &*u.kernel;
                return write!(
                    f,
                    "{} written by the user, workgroups {workgroups:?} of {workgroup_size:?} ({}:{})",
                    self.name,
                    self.location.file(),
                    self.location.line()
                );
            }
        };
        write!(f, " ({}:{})", self.location.file(), self.location.line())?;
        for (value, instruction) in body.code.iter().enumerate() {
            let level = if instruction.level == Level::Element { "·" } else { " " };
            write!(f, "\n  {level} v{value}: {} = {:?}", instruction.dtype, instruction.code)?;
            if let Some(label) = &instruction.label {
                write!(f, "  // {label}")?;
            }
        }
        for store in &body.stores {
            write!(f, "\n    b{}[{:?}] = v{}", store.binding, store.at, store.value)?;
        }
        Ok(())
    }
}
