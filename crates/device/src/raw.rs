//! The one module with `unsafe`: `gemm`, prefetching, stores past the caches and advice about pages take raw pointers; these
//! wrappers take slices, and check every reach.

use gemm::Parallelism;

/// A matrix of f32 inside a slice: element `(row, column)` stands at `row · row_stride + column · column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

/// Position of the last element of a `rows` × `columns` matrix; nothing if it does not fit an `isize`, in which pointers
/// are offset.
fn last(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Option<usize> {
    let down = rows.checked_sub(1)?.checked_mul(row_stride)?;
    let across = columns.checked_sub(1)?.checked_mul(column_stride)?;
    let last = down.checked_add(across)?;
    isize::try_from(last).ok().map(|_| last)
}

fn fits(view: View<'_>, rows: usize, columns: usize) -> bool {
    last(rows, columns, view.row_stride, view.column_stride).is_some_and(|last| last < view.data.len())
}

/// `output = lhs · rhs`, `output` being row-major `m` × `n`. Several threads of the current rayon pool if `parallel`.
///
/// # Panics
/// If an operand reaches beyond its slice, or if `output` does not hold exactly `m · n` elements.
pub(crate) fn matmul(
    [m, n, k]: [usize; 3],
    lhs: View<'_>,
    rhs: View<'_>,
    output: &mut [f32],
    parallel: bool,
) {
    assert_eq!(m.checked_mul(n), Some(output.len()), "the output holds the product");
    if output.is_empty() {
        return;
    }
    if k == 0 {
        output.fill(0.0);
        return;
    }
    assert!(fits(lhs, m, k), "the left operand lies inside its buffer");
    assert!(fits(rhs, k, n), "the right operand lies inside its buffer");
    // `fits` found every product of an extent (≥ 2) and its stride inside `isize`, so only the stride of an extent of 1,
    // which is never applied, can be out of range here.
    let stride = |s: usize| isize::try_from(s).unwrap_or(1);
    let parallelism = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: `gemm` reads `lhs[i·row + l·column]`, `rhs[l·row + j·column]` and writes `output[i·n + j]` for `i < m`,
    // `j < n`, `l < k`, all extents being at least 1. The largest of these positions were just compared with the
    // lengths of the slices, strides are not negative, and no position overflows `isize`. `output` is borrowed
    // exclusively, so it overlaps neither operand; it is initialized, and `read_dst = false` only overwrites it. f32 is
    // among the types `gemm` supports.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            stride(n),
            false,
            lhs.data.as_ptr(),
            stride(lhs.column_stride),
            stride(lhs.row_stride),
            rhs.data.as_ptr(),
            stride(rhs.column_stride),
            stride(rhs.row_stride),
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Words of a cache line.
pub(crate) const LINE: usize = 16;

/// Asks for words that will be wanted soon to be brought into the first cache.
#[inline]
pub(crate) fn prefetch(words: &[u32]) {
    #[cfg(target_arch = "x86_64")]
    for line in words.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint: it reads nothing, changes nothing and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = words;
}

/// Copies values to memory past the caches: what is written is not read first, and what lies in the caches stays there.
/// Other threads see it after [`settle`].
///
/// # Panics
/// If the lengths differ.
#[inline(always)]
pub(crate) fn copy_past_caches(out: &mut [f32], values: &[f32]) {
    assert_eq!(out.len(), values.len(), "as many places as values");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
        let before = out.as_ptr().align_offset(16).min(out.len());
        let ((head, out), (head_values, values)) = (out.split_at_mut(before), values.split_at(before));
        each(head, head_values);
        let ((out, tail), (values, tail_values)) = (out.as_chunks_mut::<4>(), values.as_chunks::<4>());
        for (out, values) in out.iter_mut().zip(values) {
            // SAFETY: both point to four f32, and `out` is aligned to 16 bytes: it starts at a multiple of four f32 from
            // where `align_offset` says that an aligned element is (if there is none, there are no chunks).
            unsafe { _mm_stream_ps(out.as_mut_ptr(), _mm_loadu_ps(values.as_ptr())) }
        }
        each(tail, tail_values);
    }
    #[cfg(not(target_arch = "x86_64"))]
    out.copy_from_slice(values);
}

/// Copies the few values before and after aligned ones; a call of `memcpy` for none would cost more than all others.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn each(out: &mut [f32], values: &[f32]) {
    if !out.is_empty() {
        out.copy_from_slice(values);
    }
}

/// Makes what this thread has written past the caches visible, before whatever it writes next, to those who see that.
pub(crate) fn settle() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it orders stores and does nothing else; every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Asks for large pages behind memory that has not been touched yet: with small ones every 1024 words cost a fault when they are
/// touched first, and a look-up in the page tables and a new start of the processor's own fetching ever after.
pub(crate) fn prefer_large_pages(words: &mut [u32]) {
    #[cfg(target_os = "linux")]
    {
        const LARGE: usize = 1 << 21;
        let all = size_of_val(words);
        let before = words.as_ptr().align_offset(LARGE).saturating_mul(size_of::<u32>()).min(all);
        let length = (all - before) / LARGE * LARGE;
        if length > 0 {
            // SAFETY: `before + length` is at most the size of `words`, so that these pages belong to it; the advice changes what
            // is behind them, now and when others get them, and nothing that can be read. Where it is not taken, nothing happens.
            unsafe {
                libc::madvise(words.as_mut_ptr().byte_add(before).cast(), length, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = words;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_what_it_is_with_large_pages() {
        for words in [0, 1, 1 << 10, 1 << 19, (1 << 20) + 3, 1 << 22] {
            let mut memory = vec![0u32; words];
            prefer_large_pages(&mut memory);
            assert!(memory.iter().all(|&word| word == 0));
            memory.fill(7);
            prefer_large_pages(memory.get_mut(1..).unwrap_or(&mut []));
            assert!(memory.iter().all(|&word| word == 7));
        }
    }

    #[test]
    fn every_layout_multiplies() {
        let (m, n, k) = (5, 7, 3);
        let value = |row: usize, column: usize| (row * 10 + column) as f32;
        for (left_by_rows, right_by_rows) in [(true, true), (true, false), (false, true), (false, false)] {
            let build = |rows: usize, columns: usize, by_rows: bool| -> Vec<f32> {
                let (outer, inner) = if by_rows { (rows, columns) } else { (columns, rows) };
                (0..outer * inner)
                    .map(|i| {
                        let (o, i) = (i / inner, i % inner);
                        if by_rows { value(o, i) } else { value(i, o) }
                    })
                    .collect()
            };
            let (a, b) = (build(m, k, left_by_rows), build(k, n, right_by_rows));
            let view = |data, rows, columns, by_rows: bool| View {
                data,
                row_stride: if by_rows { columns } else { 1 },
                column_stride: if by_rows { 1 } else { rows },
            };
            let mut c = vec![f32::NAN; m * n];
            matmul([m, n, k], view(&a, m, k, left_by_rows), view(&b, k, n, right_by_rows), &mut c, false);
            for row in 0..m {
                for column in 0..n {
                    let expected: f32 = (0..k).map(|l| value(row, l) * value(l, column)).sum();
                    assert_eq!(c[row * n + column].to_bits(), expected.to_bits());
                }
            }
        }
    }

    #[test]
    fn no_terms_give_zeros() {
        let empty = View { data: &[], row_stride: 0, column_stride: 1 };
        let mut c = vec![f32::NAN; 6];
        matmul([2, 3, 0], empty, empty, &mut c, false);
        assert!(c.iter().all(|c| c.to_bits() == 0));
    }

    fn refused(lhs: View<'_>, rhs: View<'_>, output: usize) -> bool {
        let mut c = vec![0.0; output];
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            matmul([2, 2, 2], lhs, rhs, &mut c, false);
        }))
        .is_err()
    }

    #[test]
    fn reaches_beyond_a_slice_are_refused() {
        let data = [1.0; 4];
        let view = |data, row_stride| View { data, row_stride, column_stride: 1 };
        let good = view(&data[..], 2);
        assert!(!refused(good, good, 4));
        assert!(refused(view(&data[..3], 2), good, 4));
        assert!(refused(good, view(&data[..], 3), 4));
        assert!(refused(good, good, 5));
        assert!(refused(view(&data[..], usize::MAX), good, 4));
        assert!(refused(view(&data[..], isize::MAX as usize), good, 4));
    }

    #[test]
    fn values_go_past_caches_at_every_alignment() {
        let values: Vec<f32> = (0..64u8).map(f32::from).collect();
        for (start, count) in (0..9).flat_map(|start| (0..40).map(move |count| (start, count))) {
            let mut out = [-1.0; 64];
            copy_past_caches(&mut out[start..start + count], &values[..count]);
            settle();
            assert!(out[..start].iter().chain(&out[start + count..]).all(|&x| x < 0.0));
            assert_eq!(out[start..start + count], values[..count], "{count} values at {start}");
        }
    }
}
