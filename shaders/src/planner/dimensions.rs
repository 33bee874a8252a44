//! Fewer loop dimensions: neighbors that every access walks as one are merged.

use super::access::to_i64;
use crate::kernel::{Affine, Code, Loop};

impl Affine {
    fn remove(&mut self, dimension: usize) {
        self.strides.remove(dimension);
    }
}

impl Loop {
    fn affines(&mut self) -> impl Iterator<Item = &mut Affine> {
        let code = self.code.iter_mut().filter_map(|i| match &mut i.code {
            Code::Load { at, .. }
            | Code::LoadIndexed { at, .. }
            | Code::InRange { at, .. }
            | Code::RandomBits { at, .. } => Some(at),
            Code::Coordinate(at) => Some(at),
            _ => None,
        });
        code.chain(self.stores.iter_mut().map(|s| &mut s.at))
    }
    /// Drops dimensions of length 1 and merges neighbors, kept and reduced ones apart. At least one reduced dimension stays.
    pub(super) fn merge_dimensions(&mut self) {
        let mut dimension = 0;
        while dimension < self.kept.len() + self.reduced.len() {
            let extents = [&self.kept[..], &self.reduced[..]].concat();
            let next = dimension + 1;
            let is_reduced = dimension >= self.kept.len();
            let single = extents[dimension] == 1 && !(is_reduced && self.reduced.len() == 1);
            let neighbors = next < extents.len() && next != self.kept.len();
            let mergeable = neighbors
                && self.affines().all(|a| a.strides[dimension] == a.strides[next] * to_i64(extents[next]));
            if single {
                self.affines().for_each(|a| a.remove(dimension));
                self.remove_extent(dimension);
            } else if mergeable {
                self.affines().for_each(|a| a.remove(dimension));
                let extent = self.remove_extent(dimension);
                let merged = if is_reduced {
                    &mut self.reduced[dimension - self.kept.len()]
                } else {
                    &mut self.kept[dimension]
                };
                *merged *= extent;
                dimension = dimension.saturating_sub(1);
            } else {
                dimension += 1;
            }
        }
    }
    fn remove_extent(&mut self, dimension: usize) -> usize {
        if dimension < self.kept.len() {
            self.kept.remove(dimension)
        } else {
            self.reduced.remove(dimension - self.kept.len())
        }
    }
    /// Puts dimensions of length 1 back so that the kept extents are `full`.
    pub(super) fn unsqueeze(&mut self, full: &[usize]) {
        for (dimension, &extent) in full.iter().enumerate() {
            if self.kept.get(dimension) != Some(&extent) {
                self.kept.insert(dimension, extent);
                self.affines().for_each(|a| a.strides.insert(dimension, 0));
            }
        }
    }
}
