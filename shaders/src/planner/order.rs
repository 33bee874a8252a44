//! The order in which kernels run.
//!
//! Earliest nodes first, as the program says; but what sets as much memory free as it takes runs as soon as it can. So the gradient of
//! a weight follows the cotangent that it needs, and does not keep cotangents and activations alive to the end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::graph::Graph;
use super::group::Groups;
use super::places::Draft;
use crate::kernel::BufferId;
use crate::plan::Source;

/// Groups in an order that respects dependencies.
pub(super) fn order(graph: &Graph, groups: &Groups<'_>, draft: &Draft) -> Vec<usize> {
    let live: Vec<usize> = (0..groups.groups.len()).filter(|&g| groups.groups[g].is_some()).collect();
    let mut waiting: HashMap<usize, usize> = HashMap::new();
    let mut then: HashMap<usize, Vec<usize>> = HashMap::new();
    for &group in &live {
        let producers = groups.producers(group);
        waiting.insert(group, producers.len());
        producers.into_iter().for_each(|p| then.entry(p).or_default().push(group));
    }
    let mut balance = Balance::new(graph, groups, draft, &live);
    let rank = |g: usize| Reverse((groups.group(g).members.keys().next_back().copied(), g));
    let mut ready: BinaryHeap<_> = live.iter().filter(|g| waiting[g] == 0).map(|&g| rank(g)).collect();
    // Groups that set memory free, by how much; an entry is looked at again whenever that changes.
    let mut relief: BinaryHeap<_> =
        live.iter().filter_map(|&g| Some((balance.relief(g)?, rank(g)))).collect();
    let mut done: Vec<bool> = vec![false; groups.groups.len()];
    let mut result = Vec::new();
    loop {
        let next = match relief.pop() {
            // What may not run yet comes back when it may.
            Some((_, Reverse((_, group)))) => Some(group).filter(|group| waiting[group] == 0),
            None => match ready.pop() {
                Some(Reverse((_, group))) => Some(group),
                None => break,
            },
        };
        let Some(group) = next.filter(|&group| !std::mem::replace(&mut done[group], true)) else { continue };
        result.push(group);
        for &user in then.get(&group).into_iter().flatten() {
            let count = waiting.get_mut(&user).expect("every live group is counted");
            *count -= 1;
            if *count == 0 {
                ready.push(rank(user));
                relief.extend(balance.relief(user).map(|relief| (relief, rank(user))));
            }
        }
        // Whoever reads a value last may set it free now.
        for last in balance.finish(group, &done) {
            relief.extend(balance.relief(last).map(|relief| (relief, rank(last))));
        }
    }
    assert_eq!(result.len(), live.len(), "groups form no cycle");
    result
}

/// What each group takes of memory and sets free.
struct Balance {
    /// Buffers that each group reads or writes first.
    reads: HashMap<usize, Vec<BufferId>>,
    writes: HashMap<usize, Vec<BufferId>>,
    /// Groups that read each buffer, and how many of them have still to run. Buffers that live on have none.
    readers: Vec<Vec<usize>>,
    left: Vec<usize>,
    bytes: Vec<usize>,
}

impl Balance {
    fn new(graph: &Graph, groups: &Groups<'_>, draft: &Draft, live: &[usize]) -> Balance {
        let mut lives_on: Vec<bool> =
            draft.buffers.iter().map(|b| !matches!(b.source, Source::Computed { .. })).collect();
        let outputs = graph.outputs.iter().map(|&id| draft.result_place(graph, id).0);
        let results: HashSet<BufferId> = outputs.collect();
        draft.exclusive.iter().for_each(|&buffer| lives_on[buffer] = true);
        let mut balance = Balance {
            reads: HashMap::new(),
            writes: HashMap::new(),
            readers: vec![Vec::new(); draft.buffers.len()],
            left: Vec::new(),
            bytes: draft.buffers.iter().map(crate::plan::Buffer::bytes).collect(),
        };
        let buffer = |node: &usize| draft.places.get(node).map(|place| place.0).filter(|&b| !lives_on[b]);
        for &index in live {
            let group = groups.group(index);
            let written: Vec<BufferId> = group.members.keys().filter_map(buffer).collect();
            let mut read: Vec<BufferId> = group.inputs.iter().filter_map(buffer).collect();
            read.retain(|buffer| !written.contains(buffer) && !results.contains(buffer));
            read.sort_unstable();
            read.dedup();
            for &buffer in &read {
                balance.readers[buffer].push(index);
            }
            balance.reads.insert(index, read);
            balance.writes.insert(index, written);
        }
        balance.left = balance.readers.iter().map(Vec::len).collect();
        balance
    }
    /// How much more a group would set free than take; none where it would take more, or set nothing free.
    fn relief(&self, group: usize) -> Option<usize> {
        let sum =
            |buffers: &mut dyn Iterator<Item = &BufferId>| buffers.map(|&b| self.bytes[b]).sum::<usize>();
        let taken = sum(&mut self.writes[&group].iter());
        let is_last = |buffer: &&BufferId| self.left[**buffer] == 1;
        let freed = sum(&mut self.reads[&group].iter().filter(is_last));
        freed.checked_sub(taken).filter(|_| freed > 0)
    }
    /// Notes that a group has run; gives the groups that are now the last to read something.
    fn finish(&mut self, group: usize, done: &[bool]) -> Vec<usize> {
        let mut last = Vec::new();
        for &buffer in &self.reads[&group] {
            self.left[buffer] -= 1;
            if self.left[buffer] == 1 {
                last.extend(self.readers[buffer].iter().copied().find(|&reader| !done[reader]));
            }
        }
        last
    }
}
