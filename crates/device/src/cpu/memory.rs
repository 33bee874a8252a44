//! Moving elements between buffers and rows of lanes.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use pulp::Arch;

use super::geometry::Pattern;
use super::lanes;
use super::program::Cell;

/// Buffer words to read; element 0 of `words` is element `start` of the buffer.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) words: &'a [u32],
    pub(super) halves: &'a [u16],
    pub(super) start: i64,
    pub(super) cell: Cell,
}

impl<'a> Source<'a> {
    pub(super) fn new(words: &'a [u32], cell: Cell) -> Source<'a> {
        let halves = if cell == Cell::Half { bytemuck::cast_slice(words) } else { &[] };
        Source { words, halves, start: 0, cell }
    }
    /// The element at this index of the buffer.
    #[inline]
    fn element(&self, at: i64) -> f32 {
        let at = index(at - self.start);
        match self.cell {
            Cell::Word => f32::from_bits(self.words[at]),
            Cell::Truth => f32::from(u8::from(self.words[at] != 0)),
            Cell::Half => f16::from_bits(self.halves[at]).to_f32(),
        }
    }
}

/// A part of a buffer to write; element 0 is element `start` of the buffer. F16 lies in `halves`, all else in `words`.
#[derive(Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) words: &'a mut [u32],
    pub(super) halves: &'a mut [u16],
    pub(super) start: usize,
}

impl<'a> Target<'a> {
    /// The same elements for a shorter time.
    pub(super) fn borrow(&mut self) -> Target<'_> {
        Target { words: self.words, halves: self.halves, start: self.start }
    }
    /// What lies before this element of the buffer is split off and returned.
    pub(super) fn split_before(&mut self, element: usize) -> Target<'a> {
        let all = std::mem::take(self);
        let count = element.saturating_sub(all.start);
        let (words, words_after) = all.words.split_at_mut(count.min(all.words.len()));
        let (halves, halves_after) = all.halves.split_at_mut(count.min(all.halves.len()));
        *self = Target { words: words_after, halves: halves_after, start: all.start + count };
        Target { words, halves, start: all.start }
    }
    /// The elements as what a load sees.
    pub(super) fn source(&self, cell: Cell) -> Source<'_> {
        Source { words: self.words, halves: self.halves, start: super::geometry::signed(self.start), cell }
    }
    /// The lanes of a contiguous store, to be computed in place.
    pub(super) fn row(&mut self, base: i64, lanes: usize) -> &mut [f32] {
        let at = index(base) - self.start;
        bytemuck::cast_slice_mut(&mut self.words[at..at + lanes])
    }
    /// The lanes of a contiguous store.
    pub(super) fn peek(&self, base: i64, lanes: usize) -> &[f32] {
        let at = index(base) - self.start;
        bytemuck::cast_slice(&self.words[at..at + lanes])
    }
    /// Stores lanes.
    pub(super) fn store(&mut self, arch: Arch, x: &[f32], base: i64, pattern: &Pattern, cell: Cell) {
        let base = base - super::geometry::signed(self.start);
        if let Pattern::Step(1) = pattern {
            let part = index(base)..index(base) + x.len();
            match cell {
                Cell::Word => self.words[part].copy_from_slice(bytemuck::cast_slice(x)),
                Cell::Truth => lanes::words_from_truth(arch, &mut self.words[part], x),
                Cell::Half => self.halves[part].reinterpret_cast_mut::<f16>().convert_from_f32_slice(x),
            }
            return;
        }
        match pattern {
            Pattern::Step(step) if cell == Cell::Word => scatter(self.words, base, *step, x),
            Pattern::Table(_, Some(group)) if cell == Cell::Word => {
                for (x, place) in x.chunks(group.inner).zip(0..) {
                    scatter(self.words, base + group.outer * place, group.step, x);
                }
            }
            Pattern::Step(_) | Pattern::Table(..) => {
                for (lane, &x) in x.iter().enumerate() {
                    let at = index(base + pattern.offset(lane));
                    match cell {
                        Cell::Word => self.words[at] = x.to_bits(),
                        Cell::Truth => self.words[at] = u32::from(x != 0.0),
                        Cell::Half => self.halves[at] = f16::from_f32(x).to_bits(),
                    }
                }
            }
        }
    }
}

/// Equidistant elements from `first` on.
#[inline]
fn gather(out: &mut [f32], words: &[u32], first: i64, step: i64) {
    match step {
        0 => out.fill(f32::from_bits(words[index(first)])),
        1 => out.copy_from_slice(bytemuck::cast_slice(&words[index(first)..][..out.len()])),
        2.. => {
            let words = words[index(first)..].iter().step_by(index(step));
            assert!(words.len() >= out.len(), "a load stays inside its buffer");
            for (out, &word) in out.iter_mut().zip(words) {
                *out = f32::from_bits(word);
            }
        }
        ..0 => {
            for (out, lane) in out.iter_mut().zip(0..) {
                *out = f32::from_bits(words[index(first + step * lane)]);
            }
        }
    }
}

/// Writes equidistant elements from `first` on.
#[inline]
fn scatter(words: &mut [u32], first: i64, step: i64, x: &[f32]) {
    if step == 1 {
        words[index(first)..][..x.len()].copy_from_slice(bytemuck::cast_slice(x));
    } else if step > 1 {
        let words = words[index(first)..].iter_mut().step_by(index(step));
        assert!(words.len() >= x.len(), "a store stays inside its buffer");
        for (word, x) in words.zip(x) {
            *word = x.to_bits();
        }
    } else {
        for (x, lane) in x.iter().zip(0..) {
            words[index(first + step * lane)] = x.to_bits();
        }
    }
}

/// Kernels are checked when they are compiled: an index below zero is a fault of ours, caught by the slice.
#[inline]
fn index(at: i64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// Loads a row: zero where the guard is false, without touching memory there.
pub(super) fn load(
    arch: Arch,
    out: &mut [f32],
    source: Source<'_>,
    base: i64,
    pattern: &Pattern,
    guard: Option<&[f32]>,
) {
    let guard = match guard {
        Some(guard) if guard.iter().all(|&g| g != 0.0) => None,
        Some(guard) if guard.iter().all(|&g| g == 0.0) => {
            out.fill(0.0);
            return;
        }
        guard => guard,
    };
    if let Some(guard) = guard {
        for (lane, (out, &guard)) in out.iter_mut().zip(guard).enumerate() {
            *out = if guard == 0.0 { 0.0 } else { source.element(base + pattern.offset(lane)) };
        }
        return;
    }
    let first = index(base - source.start);
    match pattern {
        Pattern::Step(0) => out.fill(source.element(base)),
        Pattern::Step(1) => {
            let part = first..first + out.len();
            match source.cell {
                Cell::Word => out.copy_from_slice(bytemuck::cast_slice(&source.words[part])),
                Cell::Truth => lanes::truth_from_words(arch, out, &source.words[part]),
                Cell::Half => {
                    source.halves[part].reinterpret_cast::<f16>().convert_to_f32_slice(out);
                }
            }
        }
        Pattern::Step(step) if source.cell == Cell::Word => {
            gather(out, source.words, base - source.start, *step);
        }
        Pattern::Table(_, Some(group)) if source.cell == Cell::Word => {
            let base = base - source.start;
            for (out, place) in out.chunks_mut(group.inner).zip(0..) {
                gather(out, source.words, base + group.outer * place, group.step);
            }
        }
        Pattern::Table(table, None) if source.cell == Cell::Word => {
            let base = base - source.start;
            for (out, &offset) in out.iter_mut().zip(table) {
                *out = f32::from_bits(source.words[index(base + offset)]);
            }
        }
        Pattern::Step(_) | Pattern::Table(..) => {
            for (lane, out) in out.iter_mut().enumerate() {
                *out = source.element(base + pattern.offset(lane));
            }
        }
    }
}

/// Loads `base + index · stride` for every lane; calls `fault` with lanes whose index is out of range, which give zero.
#[expect(clippy::too_many_arguments, reason = "one per part of the instruction")]
pub(super) fn load_indexed(
    out: &mut [f32],
    source: Source<'_>,
    base: i64,
    pattern: &Pattern,
    indices: &[f32],
    guard: Option<&[f32]>,
    (stride, size): (usize, usize),
    mut fault: impl FnMut(usize),
) {
    for (lane, (out, index)) in out.iter_mut().zip(indices).enumerate() {
        *out = 0.0;
        if guard.is_some_and(|guard| guard[lane] == 0.0) {
            continue;
        }
        // as unsigned words, negative indices are out of range too
        let index = index.to_bits() as usize;
        if index < size {
            *out = source.element(base + pattern.offset(lane) + super::geometry::signed(index * stride));
        } else {
            fault(lane);
        }
    }
}
