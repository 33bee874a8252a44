//! Boxes of coordinates, cut into blocks of lanes, and the element indices that lanes meet.

use cotangent_shaders::{Affine, Code, Loop};

/// Cuts a box into blocks of consecutive coordinates (row-major): a block takes some indices of the pivot dimension and
/// everything inside it. All blocks have the same shape but the last ones along the pivot, which are shorter.
#[derive(Debug)]
pub(super) struct Tiling {
    extents: Vec<usize>,
    pivot: usize,
    /// Elements per index of the pivot.
    inner: usize,
    /// Indices of the pivot per block.
    step: usize,
    /// Blocks along the pivot.
    per_pivot: usize,
    /// Number of blocks.
    pub(super) blocks: usize,
    /// Elements of the largest block.
    pub(super) lanes: usize,
}

/// Lanes that make a block worth interpreting.
const LONG_ROW: usize = 256;

impl Tiling {
    /// Blocks of at most `lanes` elements.
    pub(super) fn new(extents: &[usize], lanes: usize) -> Tiling {
        Tiling::of(extents, lanes, usize::MAX)
    }
    /// Like [`Tiling::new`], but long rows are blocks of their own: what is the same in a row stays the same.
    pub(super) fn of_rows(extents: &[usize], lanes: usize) -> Tiling {
        Tiling::of(extents, lanes, LONG_ROW)
    }
    /// Blocks take further dimensions in until they have enough lanes.
    fn of(extents: &[usize], lanes: usize, enough: usize) -> Tiling {
        let extents = if extents.is_empty() { vec![1] } else { extents.to_vec() };
        let elements: usize = extents.iter().product();
        let (mut pivot, mut inner) = (extents.len() - 1, 1);
        while pivot > 0 && inner * extents[pivot] <= lanes && inner * extents[pivot] < enough {
            inner *= extents[pivot].max(1);
            pivot -= 1;
        }
        let extent = extents[pivot];
        let most = (lanes / inner).max(1);
        // equal blocks, in whole vectors where a block is one piece of memory
        let even = extent.div_ceil(extent.div_ceil(most).max(1));
        let step = if inner == 1 { even.next_multiple_of(16).min(most) } else { even }.max(1);
        let step = step.min(extent.max(1));
        let per_pivot = extent.div_ceil(step);
        let blocks = if elements == 0 { 0 } else { extents[..pivot].iter().product::<usize>() * per_pivot };
        Tiling { lanes: step * inner, extents, pivot, inner, step, per_pivot, blocks }
    }
    /// Writes the first coordinate of a block; gives its position in row-major order and its number of elements.
    pub(super) fn enter(&self, block: usize, origin: &mut [usize]) -> (usize, usize) {
        let (outer, along) = (block / self.per_pivot, block % self.per_pivot);
        let first = along * self.step;
        if origin.len() == self.extents.len() {
            origin.fill(0);
            origin[self.pivot] = first;
            unravel(outer, &self.extents[..self.pivot], &mut origin[..self.pivot]);
        }
        let extent = self.extents[self.pivot];
        ((outer * extent + first) * self.inner, self.step.min(extent - first) * self.inner)
    }
    /// Position of the first element of a block, or the number of elements for the block after the last.
    pub(super) fn first(&self, block: usize) -> usize {
        let (outer, along) = (block / self.per_pivot, block % self.per_pivot);
        (outer * self.extents[self.pivot] + along * self.step) * self.inner
    }
    /// The offsets of the lanes of a block from its first element, under these strides.
    pub(super) fn pattern(&self, strides: &[i64]) -> Pattern {
        let mut coordinate = vec![0; self.extents.len()];
        let offset = |lane: usize, coordinate: &mut Vec<usize>| -> i64 {
            coordinate[self.pivot] = lane / self.inner;
            unravel(lane % self.inner, &self.extents[self.pivot + 1..], &mut coordinate[self.pivot + 1..]);
            dot(strides, coordinate)
        };
        let table: Vec<i64> = (0..self.lanes).map(|lane| offset(lane, &mut coordinate)).collect();
        let step = table.get(1).copied().unwrap_or(1);
        let Some(inner) = table.iter().zip(0..).position(|(&offset, lane)| offset != lane * step) else {
            return Pattern::Step(step);
        };
        let group = Group { inner, outer: table[inner], step };
        let nested =
            inner >= SHORTEST_GROUP && (0..table.len()).all(|lane| table[lane] == group.offset(lane));
        Pattern::Table(table, nested.then_some(group))
    }
    /// Whether all blocks start at the same element under these strides.
    pub(super) fn is_still(&self, strides: &[i64]) -> bool {
        self.blocks <= 1 || strides.iter().take(self.pivot + 1).all(|&s| s == 0)
    }
}

/// Offsets of lanes from the first lane of a block.
#[derive(Debug)]
pub(super) enum Pattern {
    /// Equidistant.
    Step(i64),
    /// One by one, and how they are grouped if they are.
    Table(Vec<i64>, Option<Group>),
}

/// Groups of equidistant lanes whose first lanes are equidistant: rows of a matrix, or each element several times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Lanes of a group.
    pub(super) inner: usize,
    /// From group to group.
    pub(super) outer: i64,
    /// From lane to lane.
    pub(super) step: i64,
}

/// Lanes below which a group costs more than its lanes one by one.
const SHORTEST_GROUP: usize = 8;

impl Group {
    fn offset(self, lane: usize) -> i64 {
        self.outer * signed(lane / self.inner) + self.step * signed(lane % self.inner)
    }
}

impl Pattern {
    /// The offset of a lane.
    #[inline]
    pub(super) fn offset(&self, lane: usize) -> i64 {
        match self {
            Pattern::Step(step) => step * signed(lane),
            Pattern::Table(table, _) => table[lane],
        }
    }
}

/// An affine function, with its values over the lanes of a block.
#[derive(Debug)]
pub(super) struct Access {
    /// Position in the bindings, where it is an access to memory.
    pub(super) binding: usize,
    pub(super) at: Affine,
    pub(super) pattern: Pattern,
}

impl Access {
    /// The value at the first lane of a block.
    #[inline]
    pub(super) fn base(&self, origin: &[usize]) -> i64 {
        self.at.offset + dot(&self.at.strides, origin)
    }
}

#[inline]
fn dot(strides: &[i64], coordinate: &[usize]) -> i64 {
    strides.iter().zip(coordinate).map(|(s, &c)| s * signed(c)).sum()
}

/// Element counts fit 32 bits, so they fit an i64.
#[inline]
#[expect(clippy::cast_possible_wrap, reason = "element counts fit 32 bits")]
pub(super) fn signed(n: usize) -> i64 {
    n as i64
}

/// The coordinate of a row-major position.
#[inline]
pub(super) fn unravel(mut position: usize, extents: &[usize], coordinate: &mut [usize]) {
    for (c, &extent) in coordinate.iter_mut().zip(extents).rev() {
        *c = position % extent.max(1);
        position /= extent.max(1);
    }
}

/// Lowest and highest value over a box.
pub(super) fn range(at: &Affine, extents: &[usize]) -> (i64, i64) {
    let reach = |(s, &e): (&i64, &usize)| s * signed(e.saturating_sub(1));
    let reaches = || at.strides.iter().zip(extents).map(reach);
    (
        at.offset + reaches().map(|r| r.min(0)).sum::<i64>(),
        at.offset + reaches().map(|r| r.max(0)).sum::<i64>(),
    )
}

/// Whether values at later coordinates of the leading dimensions all lie above those at earlier ones, the other
/// dimensions spanning `span` values.
pub(super) fn is_nested(strides: &[i64], extents: &[usize], mut span: i64) -> bool {
    for (&stride, &extent) in strides.iter().zip(extents).rev() {
        if extent > 1 {
            if stride < span {
                return false;
            }
            span += stride * signed(extent - 1);
        }
    }
    true
}

/// Every affine function of a loop.
pub(super) fn affines(body: &mut Loop) -> impl Iterator<Item = &mut Affine> {
    let of_code = body.code.iter_mut().filter_map(|instruction| match &mut instruction.code {
        Code::Load { at, .. }
        | Code::LoadIndexed { at, .. }
        | Code::InRange { at, .. }
        | Code::RandomBits { at, .. } => Some(at),
        Code::Coordinate(at) => Some(at),
        Code::Constant(_)
        | Code::Accumulator
        | Code::Elementwise(..)
        | Code::Integer(..)
        | Code::Cast(_)
        | Code::While(..)
        | Code::Part(..)
        | Code::Parameter(_)
        | Code::Reduce(..)
        | Code::ArgReduce { .. }
        | Code::LogSumExpMax(_)
        | Code::LogSumExpRest(_)
        | Code::Softmax { .. }
        | Code::SoftmaxResidual { .. }
        | Code::Pick { .. } => None,
    });
    of_code.chain(body.stores.iter_mut().map(|store| &mut store.at))
}

/// The same loop without dimensions of extent 1 and with neighbors merged where every stride allows it.
pub(super) fn merge(body: &mut Loop) {
    let rank = body.kept.len() + body.reduced.len();
    for at in affines(body) {
        at.strides.resize(rank, 0);
    }
    for d in (0..rank).rev() {
        let kept = body.kept.len();
        let extents =
            |body: &Loop, d: usize| body.kept.iter().chain(&body.reduced).nth(d).copied().unwrap_or(1);
        let extent = extents(body, d);
        let same_part = d > 0 && d != kept;
        let inner = signed(extent);
        let merges = same_part && affines(body).all(|at| at.strides[d - 1] == at.strides[d] * inner);
        if extent != 1 && !merges {
            continue;
        }
        for at in affines(body) {
            let stride = at.strides.remove(d);
            if merges {
                at.strides[d - 1] = stride;
            }
        }
        let (part, index) = if d < kept { (&mut body.kept, d) } else { (&mut body.reduced, d - kept) };
        part.remove(index);
        if merges {
            part[index - 1] *= extent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_element_once_in_order() {
        let boxes: [&[usize]; 9] =
            [&[], &[1], &[5], &[1025], &[3, 7], &[1000, 3], &[4, 300, 7], &[2, 3, 600], &[7, 0, 2]];
        for extents in boxes {
            for lanes in [1, 16, 256, 1024] {
                let tiling = Tiling::new(extents, lanes);
                let strides = Affine::row_major(extents).strides;
                let strides = if strides.is_empty() { vec![0] } else { strides };
                let pattern = tiling.pattern(&strides);
                let mut next = 0;
                for block in 0..tiling.blocks {
                    let mut origin = vec![usize::MAX; tiling.extents.len()];
                    let (first, elements) = tiling.enter(block, &mut origin);
                    assert_eq!(
                        (first, tiling.first(block)),
                        (next, next),
                        "{extents:?} in blocks of {lanes}"
                    );
                    assert_eq!(dot(&strides, &origin), signed(first));
                    assert!(elements >= 1 && elements <= tiling.lanes && tiling.lanes <= lanes.max(1));
                    if strides != [0] {
                        assert!((0..elements).all(|lane| pattern.offset(lane) == signed(lane)));
                    }
                    next += elements;
                }
                assert_eq!(next, extents.iter().product::<usize>());
            }
        }
    }

    #[test]
    fn nesting_is_recognized() {
        assert!(is_nested(&[12, 4, 1], &[2, 3, 4], 1));
        assert!(is_nested(&[100, 4, 1], &[2, 3, 4], 1));
        assert!(!is_nested(&[11, 4, 1], &[2, 3, 4], 1));
        assert!(!is_nested(&[1, 3], &[3, 2], 1));
        assert!(is_nested(&[-9, 1], &[1, 4], 1));
    }
}
