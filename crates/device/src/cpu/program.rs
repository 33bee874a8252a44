//! A loop as a program over rows of lanes: what is executed, in which order, on which rows.

use std::sync::Arc;

use cotangent_shaders::{Affine, Recurrence};
use cotangent_tensor::{DType, Integer};

use super::calculation::Calculation;
use super::chain::Chain;
use super::geometry::{Access, Tiling};
use super::products::Products;
use super::recurrence::Rounds;
use super::reduction::Kind;

/// Most operands of an operation that is no loop, but for the scale of a residual.
pub(super) const OPERANDS: usize = 6;

/// A row of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Row {
    None,
    /// A register, from its first lane.
    Register(usize),
    /// A register that holds all reduced elements, at the current ones.
    Long(usize),
    /// The elements of an access, in their buffer.
    Input(usize),
    /// The elements of a store, in their buffer.
    Output(usize),
}

/// How many lanes an operation handles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lanes {
    /// One: the value is the same for all lanes of the block.
    One,
    /// Those of the block.
    Block,
    /// Those of the largest block.
    Full,
}

/// How an element lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// 32 bits, as in lanes.
    Word,
    /// A word 0 or 1, in lanes 0.0 or 1.0.
    Truth,
    /// Half precision.
    Half,
}

impl Cell {
    pub(super) fn of(dtype: DType) -> Cell {
        match dtype {
            DType::F32 | DType::I32 | DType::U32 => Cell::Word,
            DType::Bool => Cell::Truth,
            DType::F16 => Cell::Half,
        }
    }
}

/// Where a load finds its elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum From {
    /// A binding that is only read.
    Binding(usize),
    /// What a store will overwrite.
    Store(usize),
}

/// What an operation does; rows are named by [`Op::from`] and [`Op::into`].
#[derive(Debug)]
pub(super) enum Action {
    Fill(u32),
    /// From one lane to all.
    Splat,
    Calculate(Calculation),
    Integer(Integer, DType),
    Cast(DType, DType),
    /// From: guard.
    Load {
        access: usize,
        source: From,
        cell: Cell,
    },
    /// From: index, guard.
    Indexed {
        access: usize,
        binding: usize,
        cell: Cell,
        stride: usize,
        size: usize,
        check: Check,
    },
    Coordinate {
        access: usize,
    },
    InRange {
        access: usize,
        size: usize,
    },
    /// Runs a loop of the program. From: the initial state, then what is captured.
    Run(usize),
    /// A value of the run of a loop of the program.
    Part {
        run: usize,
        value: usize,
    },
    /// From: step.
    Random {
        access: usize,
        key: [u32; 4],
    },
    /// From: x, maximum.
    Exponential,
    /// The same, and takes the results into the reduction [`Kind::Rest`].
    ExponentialRest(usize),
    /// From: s.
    Factor,
    /// From: exponential, factor.
    Softmax,
    /// From: exponential, factor, x, maximum, label, s, and what all is multiplied by, if anything.
    SoftmaxResidual,
    /// Takes the elements of a row into a reduction.
    Reduce(usize),
    /// The result of a reduction. From: the maximum, for the rest of a log-sum-exp.
    Finish(usize),
    /// From: labels, which must be below `size`.
    CheckLabels {
        size: usize,
        check: Check,
    },
    Store(usize),
    /// Runs a chain of the program. From: what it takes.
    Chain(usize),
}

impl Action {
    /// The access it reads or counts by.
    pub(super) fn access(&self) -> Option<usize> {
        if let Action::Load { access, .. }
        | Action::Indexed { access, .. }
        | Action::Coordinate { access }
        | Action::InRange { access, .. }
        | Action::Random { access, .. } = self
        {
            Some(*access)
        } else {
            None
        }
    }
}

/// How to report an index that is out of range.
#[derive(Debug)]
pub(super) struct Check {
    /// The operation the user called.
    pub(super) name: &'static str,
    /// Whether the index is signed.
    pub(super) signed: bool,
    /// Where the index was loaded from.
    pub(super) origin: Option<Affine>,
}

#[derive(Debug)]
pub(super) struct Op {
    pub(super) action: Action,
    pub(super) lanes: Lanes,
    pub(super) into: Row,
    /// At least [`OPERANDS`].
    pub(super) from: Vec<Row>,
}

/// Operations in order, and the accesses whose base they need.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) ops: Vec<Op>,
    pub(super) accesses: Vec<usize>,
    /// Whose next block is fetched while this one is computed.
    pub(super) streams: Vec<Stream>,
    /// Lines fetched with an operation.
    pub(super) fetched: usize,
}

/// An access that walks through memory word by word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stream {
    pub(super) access: usize,
    /// Whose memory it is.
    pub(super) source: From,
}

/// Where a value is stored.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) access: usize,
    pub(super) region: usize,
    pub(super) cell: Cell,
    pub(super) element: bool,
    /// Whether what is stored goes past the caches.
    pub(super) past_caches: bool,
}

/// A part of a buffer that the kernel writes.
#[derive(Debug)]
pub(super) struct Region {
    /// Position in the bindings.
    pub(super) binding: usize,
    pub(super) stores: Vec<usize>,
    /// First element, and the one after the last.
    pub(super) elements: std::ops::Range<usize>,
    pub(super) cell: Cell,
}

/// A loop that lanes run by themselves.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) rounds: Rounds,
    pub(super) of: Arc<Recurrence>,
    /// Whether it runs for each element, or for each kept one.
    pub(super) element: bool,
}

/// A loop, ready to run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) kept: Vec<usize>,
    pub(super) reduced: Vec<usize>,
    /// Lanes run over the kept dimensions; else over the reduced ones.
    pub(super) vertical: bool,
    /// Blocks of the dimensions over which lanes run.
    pub(super) tiling: Tiling,
    /// What depends on no coordinate.
    pub(super) prologue: Segment,
    /// Kept-level code before, between and after sweeps: one more than sweeps.
    pub(super) between: Vec<Segment>,
    /// Element-level code.
    pub(super) sweeps: Vec<Segment>,
    /// Number of lanes of each register; 0 stands for all reduced elements.
    pub(super) registers: Vec<usize>,
    /// Reductions and the sweeps that do them.
    pub(super) reductions: Vec<(Kind, usize)>,
    pub(super) accesses: Vec<Access>,
    pub(super) destinations: Vec<Destination>,
    pub(super) regions: Vec<Region>,
    /// Loops that lanes run by themselves.
    pub(super) runs: Vec<Run>,
    /// Operations on elements whose values live in the first cache.
    pub(super) chains: Vec<Chain>,
    /// Whether elementwise operations run piece by piece: operands of one lane are taken as such.
    pub(super) in_pieces: bool,
    /// The products that the only sweep adds up: they are run in place of its code.
    pub(super) products: Option<Products>,
}

impl Program {
    pub(super) fn kept_elements(&self) -> usize {
        self.kept.iter().product()
    }
    pub(super) fn reduced_elements(&self) -> usize {
        self.reduced.iter().product()
    }
    /// Blocks or elements of the kept dimensions that are handled at a time.
    pub(super) fn units(&self) -> usize {
        if self.vertical { self.tiling.blocks } else { self.kept_elements() }
    }
    /// Steps of a sweep over all reduced elements.
    pub(super) fn steps(&self) -> usize {
        if self.vertical { self.reduced_elements() } else { self.tiling.blocks }
    }
    /// Position of the first kept element of a unit.
    pub(super) fn unit_first(&self, unit: usize) -> usize {
        if self.vertical { self.tiling.first(unit) } else { unit }
    }
    /// Position of the first reduced element of a step.
    pub(super) fn step_first(&self, step: usize) -> usize {
        if self.vertical { step } else { self.tiling.first(step) }
    }
    /// Whether something that it stores goes past the caches.
    pub(super) fn goes_past_caches(&self) -> bool {
        self.destinations.iter().any(|to| to.past_caches)
    }
    /// Most kept elements of a unit.
    pub(super) fn unit_lanes(&self) -> usize {
        if self.vertical { self.tiling.lanes } else { 1 }
    }
}
