//! How many buffers a kernel would bind: what its nodes read from outside, and what others read of them.

use std::collections::BTreeMap;

use super::{Group, Groups};

impl Groups<'_> {
    /// Whether a value is needed outside of its group.
    pub(super) fn escapes(&self, id: usize) -> bool {
        self.readers[id] > 0 || self.leaves[id]
    }
    /// The members of a group that grew without the limit and exceeds it.
    pub(super) fn overfull<'g>(&self, group: &'g Group) -> impl Iterator<Item = usize> + use<'g> {
        let over = !group.tight && group.members.len() > 1;
        let over = over && group.outside.len() + group.escaping + 1 > self.options.max_storage_buffers;
        group.members.keys().copied().filter(move |_| over)
    }
    /// Buffers that a group (or none) would bind with a further node.
    pub(super) fn bindings_with(&self, index: Option<usize>, id: usize) -> usize {
        let inside = |read: usize| index.is_some() && self.of[read] == index;
        let (mut inputs, mut stored) = (0, usize::from(self.escapes(id)));
        if let Some(group) = index.map(|index| self.group(index)) {
            inputs += group.outside.len() - usize::from(group.outside.contains(&id));
            stored += group.escaping;
        }
        for &read in &self.reads[id] {
            if inside(read) {
                stored -= usize::from(self.readers[read] == 1 && !self.leaves[read]);
            } else {
                inputs += usize::from(!index.is_some_and(|index| self.group(index).outside.contains(&read)));
            }
        }
        inputs + stored + 1
    }
    /// Buffers that the union of two groups would bind.
    pub(super) fn bindings_of(&self, a: usize, b: usize) -> usize {
        let (first, second) = (self.group(a), self.group(b));
        let inside = |id: usize| self.of[id] == Some(a) || self.of[id] == Some(b);
        let inputs = first.outside.union(&second.outside).filter(|&&read| !inside(read)).count();
        // those that only the other group reads need not be stored any more
        let mut met: BTreeMap<usize, usize> = BTreeMap::new();
        for (&id, other) in
            first.members.keys().map(|id| (id, b)).chain(second.members.keys().map(|id| (id, a)))
        {
            for &read in self.reads[id].iter().filter(|&&read| self.of[read] == Some(other)) {
                *met.entry(read).or_default() += 1;
            }
        }
        let settled =
            met.into_iter().filter(|&(read, count)| self.readers[read] == count && !self.leaves[read]);
        inputs + first.escaping + second.escaping - settled.count() + 1
    }
}
