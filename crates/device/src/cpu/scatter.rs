//! Scattered sums: updates are sorted by the element they belong to, so that each element adds up its own, in order, and
//! none looks at those of others.

use std::sync::{Mutex, PoisonError};

use cotangent_shaders::{Access, Affine, Binding, Code, Level, Loop, Schedule, Update};
use cotangent_tensor::DType;
use pulp::Arch;
use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::execute::{Fault, Wrong};
use super::geometry::{range, signed, unravel};

/// Additions from which several threads take part.
const PARALLEL: usize = 1 << 16;
/// Elements side by side whose sums are kept in the first cache.
const BLOCK: usize = 1024;

/// A scattered sum, ready to run.
#[derive(Debug)]
pub(super) struct Scattered {
    /// Extents before the scattered axis, and behind it.
    outer: Vec<usize>,
    size: usize,
    inner: usize,
    /// Where the update of each inner element lies; none where they lie side by side.
    inner_offsets: Option<Vec<i64>>,
    updates: usize,
    index: (usize, Affine),
    signed: bool,
    update: Update,
    operation: &'static str,
    epilogue: Epilogue,
    /// Kept from run to run.
    order: Mutex<Order>,
}

/// Updates by element: those of element `i` are `updates[starts[i]..starts[i + 1]]`, in order.
#[derive(Debug, Default)]
struct Order {
    starts: Vec<u32>,
    updates: Vec<u32>,
}

impl Scattered {
    /// The scattered sum that a loop is, if it is one.
    pub(super) fn of(
        body: &Loop,
        bindings: &[Binding],
        elements: &[usize],
    ) -> Result<Option<Scattered>, String> {
        let Some(found) = body.scatter() else { return Ok(None) };
        let extents: Vec<usize> = body.kept.iter().chain(&body.reduced).copied().collect();
        let readable = |binding: usize, at: &Affine| {
            let (low, high) = range(at, &extents);
            bindings[binding].access == Access::Read && low >= 0 && high < signed(elements[binding])
        };
        let index_type = bindings[found.index.0].dtype;
        let update_fits = match &found.update {
            Update::Load(binding, at) => bindings[*binding].dtype == DType::F32 && readable(*binding, at),
            Update::Constant(_) => true,
        };
        let right = readable(found.index.0, &found.index.1)
            && update_fits
            && matches!(index_type, DType::I32 | DType::U32)
            && u32::try_from(found.updates).is_ok();
        if !right {
            return Ok(None);
        }
        let kept = body.kept.len();
        let (outer, behind) = (&body.kept[..found.axis], &body.kept[found.axis + 1..]);
        let inner: usize = behind.iter().product();
        let strides = match &found.update {
            Update::Load(_, at) => at.strides[found.axis + 1..kept].to_vec(),
            Update::Constant(_) => Affine::row_major(behind).strides,
        };
        let row_major = Affine::row_major(behind);
        let beside = strides.iter().zip(&row_major.strides).zip(behind).all(|((a, b), &e)| a == b || e == 1);
        let offset = |i: usize| {
            let mut coordinate = vec![0; behind.len()];
            unravel(i, behind, &mut coordinate);
            strides.iter().zip(coordinate).map(|(stride, c)| stride * signed(c)).sum()
        };
        let epilogue = Epilogue::new(&on_result(body, found.sum), bindings, elements)?;
        Ok(Some(Scattered {
            outer: outer.to_vec(),
            size: body.kept[found.axis],
            inner,
            inner_offsets: (!beside).then(|| (0..inner).map(offset).collect()),
            updates: found.updates,
            index: found.index,
            signed: index_type == DType::I32,
            update: found.update,
            operation: found.operation,
            epilogue,
            order: Mutex::default(),
        }))
    }
    fn additions(&self) -> usize {
        let outer: usize = self.outer.iter().product();
        outer * self.inner * (self.updates + self.size)
    }
    /// Whether several threads may take part.
    pub(super) fn is_parallel(&self) -> bool {
        self.additions() >= PARALLEL || self.epilogue.is_parallel()
    }
    /// Words of memory of its own.
    pub(super) fn scratch(&self) -> usize {
        self.epilogue.scratch() + self.updates + self.size + 1
    }
    pub(super) fn run(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
    ) -> Result<(), Fault> {
        // taken out: while this thread waits for others it may be given a run of the same kernel
        let mut order = std::mem::take(&mut *self.order.lock().unwrap_or_else(PoisonError::into_inner));
        let sorted = self.sort(inputs, &mut order);
        let outcome = self.epilogue.run(arch, inputs, written, |result| {
            self.add(inputs, &order, bytemuck::cast_slice_mut(result));
            sorted
        });
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order;
        outcome
    }
    /// Sorts the updates by element. An index outside is reported; its update belongs nowhere.
    fn sort(&self, inputs: &[&[u32]], order: &mut Order) -> Result<(), Fault> {
        let (binding, at) = &self.index;
        let stride = at.strides.last().copied().unwrap_or(0);
        let words = inputs[*binding];
        let index =
            |update: usize| words[usize::try_from(at.offset + stride * signed(update)).unwrap_or(0)] as usize;
        let Order { starts, updates } = order;
        starts.clear();
        starts.resize(self.size + 1, 0);
        updates.clear();
        updates.resize(self.updates, 0);
        let mut outcome = Ok(());
        for update in 0..self.updates {
            match starts.get_mut(index(update) + 1) {
                Some(count) => *count += 1,
                None if outcome.is_ok() => outcome = Err(self.fault(update, stride, index(update))),
                None => {}
            }
        }
        let mut total = 0;
        for start in starts.iter_mut() {
            total += *start;
            *start = total;
        }
        // Backwards, so that each element's own come in order while its end moves to its start.
        for update in (0..self.updates).rev() {
            if let Some(end) = starts.get_mut(index(update) + 1) {
                *end -= 1;
                updates[*end as usize] = u32::try_from(update).unwrap_or(u32::MAX);
            }
        }
        // Start `i + 1` has become the start of element `i`.
        starts.remove(0);
        starts.push(total);
        outcome
    }
    fn fault(&self, update: usize, stride: i64, index: usize) -> Fault {
        let position = usize::try_from(stride * signed(update)).unwrap_or(update);
        let word = u32::try_from(index).unwrap_or(u32::MAX);
        let index = if self.signed { f64::from(word.cast_signed()) } else { f64::from(word) };
        Fault { what: Wrong::Index { name: self.operation, index, size: self.size }, position }
    }
    fn add(&self, inputs: &[&[u32]], order: &Order, result: &mut [f32]) {
        let constant;
        let (updates, at): (&[f32], &Affine) = match &self.update {
            Update::Load(binding, at) => (bytemuck::cast_slice(inputs[*binding]), at),
            Update::Constant(bits) => {
                // A row of it, which every update is.
                constant = (vec![f32::from_bits(*bits); self.inner], Affine::default());
                (&constant.0, &constant.1)
            }
        };
        let step = at.strides.last().copied().unwrap_or(0);
        let row = |(row, result): (usize, &mut [f32])| {
            let element = row % self.size;
            let mut coordinate = [0; 16];
            unravel(row / self.size, &self.outer, &mut coordinate[..self.outer.len()]);
            let base = at.offset
                + at.strides
                    .iter()
                    .zip(&coordinate[..self.outer.len()])
                    .map(|(s, &c)| s * signed(c))
                    .sum::<i64>();
            let own = &order.updates[order.starts[element] as usize..order.starts[element + 1] as usize];
            let first = |update: u32| usize::try_from(base + i64::from(update) * step).unwrap_or(0);
            self.add_row(own, updates, first, result);
        };
        if self.additions() < PARALLEL {
            result.chunks_mut(self.inner.max(1)).enumerate().for_each(row);
        } else {
            let least = (PARALLEL / 4 / self.inner.max(1)).max(1);
            result.par_chunks_mut(self.inner.max(1)).with_min_len(least).enumerate().for_each(row);
        }
    }
    /// The sums of an element, in f64 and rounded once.
    #[expect(clippy::cast_possible_truncation, reason = "rounding once, at the end")]
    fn add_row(&self, own: &[u32], updates: &[f32], first: impl Fn(u32) -> usize, result: &mut [f32]) {
        let mut sums = [0f64; BLOCK];
        for (block, result) in result.chunks_mut(BLOCK).enumerate() {
            let sums = &mut sums[..result.len()];
            sums.fill(0.0);
            let start = block * BLOCK;
            for &update in own {
                let first = first(update);
                match &self.inner_offsets {
                    None => {
                        let row = &updates[first + start..][..sums.len()];
                        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                    }
                    Some(offsets) => {
                        for (sum, offset) in sums.iter_mut().zip(&offsets[start..]) {
                            *sum += f64::from(updates[usize::try_from(signed(first) + offset).unwrap_or(0)]);
                        }
                    }
                }
            }
            result.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    }
}

/// The code of a loop on the result of its reduction, as a map.
fn on_result(body: &Loop, sum: usize) -> Loop {
    let mut map = body.clone();
    let kept = map.kept.len();
    map.reduced.clear();
    map.schedule = Schedule::Map;
    for (value, instruction) in map.code.iter_mut().enumerate() {
        if value == sum {
            instruction.code = Code::Accumulator;
        } else if instruction.level == Level::Element {
            // Nobody uses it any more.
            instruction.code = Code::Constant(0);
        }
        instruction.level = Level::Kept;
    }
    super::geometry::affines(&mut map).for_each(|at| at.strides.truncate(kept));
    map
}
