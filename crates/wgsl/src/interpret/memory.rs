//! Memory that invocations share: who wrote and read each number last, and whether a barrier lies between.

use std::ops::Range;

use cotangent_tensor::{Code, DType, Detail};
use naga::{AddressSpace, Span, StorageAccess, TypeInner};

use super::shape::{self, Cell, Shapes};
use crate::diagnose::Problem;

/// The invocations of a dispatch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grid {
    /// Invocations of a workgroup.
    pub(super) size: [u32; 3],
    pub(super) workgroups: [u32; 3],
}

impl Grid {
    pub(super) fn local(&self, invocation: u32) -> [u32; 3] {
        unflatten(invocation, self.size)
    }
    pub(super) fn workgroup(&self, group: u32) -> [u32; 3] {
        unflatten(group, self.workgroups)
    }
    pub(super) fn global(&self, group: u32, invocation: u32) -> [u32; 3] {
        let (group, local) = (self.workgroup(group), self.local(invocation));
        [0, 1, 2].map(|axis: usize| group[axis].wrapping_mul(self.size[axis]).wrapping_add(local[axis]))
    }
    /// An invocation, for messages.
    pub(super) fn name(&self, group: u32, invocation: u32) -> String {
        let ([x, y, z], [a, b, c]) = (self.local(invocation), self.workgroup(group));
        format!("invocation ({x}, {y}, {z}) of workgroup ({a}, {b}, {c})")
    }
}

fn unflatten(index: u32, [x, y, _]: [u32; 3]) -> [u32; 3] {
    let (x, y) = (x.max(1), y.max(1));
    [index % x, index / x % y, index / x / y]
}

/// An access to memory: by whom, after how many barriers, and where in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) group: u32,
    pub(super) invocation: u32,
    /// Barriers that this memory has seen.
    pub(super) epoch: u32,
    pub(super) span: Span,
}

impl Access {
    /// Whether this access comes after another for certain. Nothing orders workgroups.
    fn follows(self, other: Access) -> bool {
        self.group == other.group && (self.invocation == other.invocation || self.epoch != other.epoch)
    }
}

/// What has happened to a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Shadow {
    /// The last write. Earlier ones are ordered before it, or were an error.
    write: Option<Access>,
    /// The first read. Workgroups run one after another: if it is of the workgroup that runs, all reads are.
    first_read: Option<Access>,
    /// Two invocations that have read since the last barrier: one of them is not the one that asks.
    reads: [Option<Access>; 2],
}

impl Shadow {
    fn read(&mut self, now: Access) -> Result<(), Access> {
        if let Some(write) = self.write.filter(|&write| !now.follows(write)) {
            return Err(write);
        }
        self.first_read.get_or_insert(now);
        match self.reads[0].filter(|read| (read.group, read.epoch) == (now.group, now.epoch)) {
            None => self.reads = [Some(now), None],
            Some(read) if read.invocation != now.invocation => self.reads[1] = Some(now),
            Some(_) => {}
        }
        Ok(())
    }
    fn write(&mut self, now: Access) -> Result<(), (Access, &'static str)> {
        if let Some(write) = self.write.filter(|&write| !now.follows(write)) {
            return Err((write, "writes"));
        }
        let reads = [self.first_read, self.reads[0], self.reads[1]];
        if let Some(read) = reads.into_iter().flatten().find(|&read| !now.follows(read)) {
            return Err((read, "reads"));
        }
        self.write = Some(now);
        Ok(())
    }
}

/// A variable of the module that is not private.
#[derive(Clone, Debug)]
pub(super) struct Variable<'m> {
    pub(super) name: &'m str,
    pub(super) space: AddressSpace,
    pub(super) ty: &'m TypeInner,
    pub(super) cells: Vec<Cell>,
    /// Cells that hold no value yet. Empty if all do.
    pub(super) unwritten: Vec<bool>,
    /// Length of the array at its end, where the type does not state it.
    pub(super) tail: usize,
    /// Empty where nobody writes.
    shadow: Vec<Shadow>,
}

impl<'m> Variable<'m> {
    pub(super) fn new(name: &'m str, space: AddressSpace, ty: &'m TypeInner) -> Variable<'m> {
        let (cells, unwritten, shadow) = (Vec::new(), Vec::new(), Vec::new());
        Variable { name, space, ty, cells, unwritten, tail: 0, shadow }
    }
    pub(super) fn is_writable(&self) -> bool {
        match self.space {
            AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
            AddressSpace::WorkGroup => true,
            _ => false,
        }
    }
    /// Forgets all accesses.
    pub(super) fn fresh(&mut self) {
        let count = if self.is_writable() { self.cells.len() } else { 0 };
        self.shadow.clear();
        self.shadow.resize(count, Shadow::default());
    }
    /// A cell as the text would write it.
    pub(super) fn path(&self, shapes: &Shapes<'_>, cell: usize) -> String {
        format!("{}{}", self.name, shapes.path(self.ty, cell))
    }

    /// Refuses cells that hold no value yet.
    pub(super) fn known(
        &self,
        shapes: &Shapes<'_>,
        cells: Range<usize>,
        now: Access,
        grid: Grid,
    ) -> Result<(), Problem> {
        let Some(unwritten) = self.unwritten.get(cells.clone()) else { return Ok(()) };
        let Some(first) = unwritten.iter().position(|&is| is) else { return Ok(()) };
        let (path, who) = (self.path(shapes, cells.start + first), grid.name(now.group, now.invocation));
        let message = format!("{who} reads `{path}`, which nobody wrote");
        let problem = Problem::new(Code::WgslBinding, message).at(now.span, "read here");
        Err(problem.help("bind it with values, or write it first"))
    }
    /// Notes that some cells are read.
    pub(super) fn read(
        &mut self,
        shapes: &Shapes<'_>,
        cells: Range<usize>,
        now: Access,
        grid: Grid,
    ) -> Result<(), Problem> {
        self.known(shapes, cells.clone(), now, grid)?;
        for cell in cells {
            if let Some(Err(other)) = self.shadow.get_mut(cell).map(|shadow| shadow.read(now)) {
                return Err(self.race(shapes, cell, (now, "reads"), (other, "writes"), grid));
            }
        }
        Ok(())
    }
    /// Notes that some cells are written: `named` of them by the text, `touched` by the hardware.
    pub(super) fn write(
        &mut self,
        shapes: &Shapes<'_>,
        named: Range<usize>,
        touched: Range<usize>,
        now: Access,
        grid: Grid,
    ) -> Result<(), Problem> {
        for cell in touched {
            if let Some(Err(other)) = self.shadow.get_mut(cell).map(|shadow| shadow.write(now)) {
                return Err(self.race(shapes, cell, (now, "writes"), other, grid));
            }
        }
        if let Some(unwritten) = self.unwritten.get_mut(named) {
            unwritten.fill(false);
        }
        Ok(())
    }
    fn race(
        &self,
        shapes: &Shapes<'_>,
        cell: usize,
        (now, does): (Access, &str),
        (other, did): (Access, &str),
        grid: Grid,
    ) -> Problem {
        let path = self.path(shapes, cell);
        let (one, two) = (grid.name(other.group, other.invocation), grid.name(now.group, now.invocation));
        let why = match now.group == other.group {
            false => "nothing orders workgroups",
            true if matches!(self.space, AddressSpace::WorkGroup) => "no `workgroupBarrier()` lies between",
            true => "no `storageBarrier()` lies between",
        };
        let value = shown(self.cells[cell], self.dtype(shapes, cell));
        let message =
            format!("race on `{path}`: {one} {did} it, {two} {does} it, and {why}; it holds {value}");
        let problem = Problem::new(Code::WgslRace, message)
            .with("element", Detail::Integer(i64::try_from(cell).unwrap_or(i64::MAX)))
            .at(now.span, format!("{does} here"));
        if other.span == now.span { problem } else { problem.at(other.span, format!("{did} here")) }
    }
    fn dtype(&self, shapes: &Shapes<'_>, cell: usize) -> Option<DType> {
        let mut scalars = Vec::new();
        shapes.scalars(self.ty, 0, self.tail, &mut scalars);
        scalars.get(cell).map(|scalar| scalar.dtype)
    }
}

/// A cell, for messages.
pub(super) fn shown(cell: Cell, dtype: Option<DType>) -> String {
    match dtype {
        Some(DType::F32 | DType::F16) => shape::float(cell).to_string(),
        Some(DType::I32) => shape::word(cell).cast_signed().to_string(),
        Some(DType::Bool) => (cell != 0).to_string(),
        Some(DType::U32) | None => shape::word(cell).to_string(),
    }
}
