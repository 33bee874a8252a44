//! Storage for computed buffers, by lifetime.

use super::graph::{Graph, Role};
use super::places::Draft;
use crate::kernel::{Access, Place};
use crate::plan::{Buffer, Plan, Slot, Source};

/// A slot may be up to this many times larger than a buffer that reuses it.
const WASTE: usize = 4;

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
    let mut last_use = vec![0; buffers.len()];
    let mut first_use = vec![usize::MAX; buffers.len()];
    for (position, kernel) in kernels.iter().enumerate() {
        for binding in &kernel.bindings {
            last_use[binding.buffer] = position;
            first_use[binding.buffer] = first_use[binding.buffer].min(position);
        }
    }
    outputs.iter().for_each(|o| last_use[o.buffer] = usize::MAX);
    exclusive.iter().for_each(|&b| last_use[b] = usize::MAX);
    let mut slots: Vec<Slot> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    for (position, kernel) in kernels.iter().enumerate() {
        for binding in &kernel.bindings {
            let id = binding.buffer;
            let fresh = first_use[id] == position && matches!(buffers[id].source, Source::Computed { .. });
            if !fresh || binding.access == Access::Read {
                continue;
            }
            let bytes = buffers[id].bytes();
            // A free slot of the right size; an exclusive buffer needs storage that nobody has written.
            let fits = |s: &usize| slots[*s].bytes >= bytes && slots[*s].bytes <= bytes.saturating_mul(WASTE);
            let best = free.iter().copied().filter(fits).min_by_key(|&s| slots[s].bytes);
            let slot = match best.filter(|_| !exclusive.contains(&id)) {
                Some(slot) => {
                    free.retain(|&s| s != slot);
                    slot
                }
                None => {
                    slots.push(Slot { bytes });
                    slots.len() - 1
                }
            };
            buffers[id].source = Source::Computed { slot };
        }
        for binding in &kernel.bindings {
            if let (Source::Computed { slot }, true) =
                (&buffers[binding.buffer].source, last_use[binding.buffer] == position)
                && !free.contains(slot)
            {
                free.push(*slot);
            }
        }
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
