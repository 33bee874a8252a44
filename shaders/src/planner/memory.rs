//! Storage for computed buffers, by lifetime.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::graph::{Graph, Role};
use super::places::Draft;
use crate::kernel::{BufferId, Place};
use crate::plan::{Buffer, Plan, Slot, Source};

/// From the first kernel that touches a value to the last.
#[derive(Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

impl Life {
    /// Whether nothing is alive at the same time, by first and last kernels.
    fn fits(self, others: &BTreeMap<usize, usize>) -> bool {
        others.range(..=self.last).next_back().is_none_or(|(_, &last)| last < self.first)
    }
}

/// Gives every computed buffer a slot. Buffers whose lifetimes overlap never share one, and neither do a kernel's
/// operands and results: adapters forbid reading and writing one buffer in one dispatch.
pub(super) fn finish(graph: &Graph, draft: Draft) -> Plan {
    let outputs: Vec<Place> = graph
        .outputs
        .iter()
        .map(|&id| {
            let (buffer, offset) = draft.result_place(graph, id);
            Place { node: graph.nodes[id].clone(), buffer, offset }
        })
        .collect();
    let Draft { kernels, mut buffers, exclusive, places } = draft;
    let mut lives: Vec<Option<Life>> = vec![None; buffers.len()];
    for (position, kernel) in kernels.iter().enumerate() {
        for binding in &kernel.bindings {
            let life = lives[binding.buffer].get_or_insert(Life { first: position, last: position });
            life.last = position;
        }
    }
    for id in outputs.iter().map(|output| output.buffer).chain(exclusive.iter().copied()) {
        lives[id].iter_mut().for_each(|life| life.last = usize::MAX);
    }
    let mut computed: Vec<(BufferId, Life)> = Vec::new();
    for (id, life) in lives.iter().enumerate() {
        if let (Source::Computed { .. }, Some(life)) = (&buffers[id].source, life) {
            // Storage that nobody has written before lives from the start.
            let first = if exclusive.contains(&id) { 0 } else { life.first };
            computed.push((id, Life { first, ..*life }));
        }
    }
    // The largest first, so that what is smaller finds its place where larger ones are dead.
    computed.sort_by_key(|&(id, life)| (Reverse(buffers[id].bytes()), life.first, id));
    let mut slots: Vec<Slot> = Vec::new();
    let mut taken: Vec<BTreeMap<usize, usize>> = Vec::new();
    for (id, life) in computed {
        // From the smallest on: those of before are no smaller.
        let tight = (0..slots.len()).rev().find(|&slot| life.fits(&taken[slot]));
        let slot = tight.unwrap_or_else(|| {
            slots.push(Slot { bytes: buffers[id].bytes() });
            taken.push(BTreeMap::new());
            slots.len() - 1
        });
        taken[slot].insert(life.first, life.last);
        buffers[id].source = Source::Computed { slot };
    }
    let mut sources: Vec<Place> = (0..graph.nodes.len())
        .filter(|&id| graph.roles[id] == Role::Source)
        .filter_map(|id| {
            places.get(&id).map(|&(buffer, offset)| Place { node: graph.nodes[id].clone(), buffer, offset })
        })
        .collect();
    sources.sort_by_key(|p| p.buffer);
    Plan { kernels, buffers, slots, outputs, sources }
}

impl Plan {
    /// Bytes of all slots: the memory that the plan needs beside leaves, inputs and variables.
    pub fn slot_bytes(&self) -> usize {
        self.slots.iter().map(|s| s.bytes).sum()
    }
    /// Largest number of bytes of computed buffers that are alive at the same time: no plan can need less.
    pub fn live_bytes(&self) -> usize {
        let computed = |b: &Buffer| matches!(b.source, Source::Computed { .. });
        let mut range = vec![(usize::MAX, 0); self.buffers.len()];
        for (position, kernel) in self.kernels.iter().enumerate() {
            for binding in &kernel.bindings {
                let (first, last) = &mut range[binding.buffer];
                (*first, *last) = ((*first).min(position), (*last).max(position));
            }
        }
        self.outputs.iter().for_each(|o| range[o.buffer].1 = usize::MAX);
        let at = |position: usize| -> usize {
            let alive = self
                .buffers
                .iter()
                .zip(&range)
                .filter(|(b, r)| computed(b) && r.0 <= position && position <= r.1);
            alive.map(|(b, _)| b.bytes()).sum()
        };
        (0..self.kernels.len()).map(at).max().unwrap_or(0)
    }
}
