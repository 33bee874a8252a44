//! Which nodes share a kernel.
//!
//! Nodes join groups in topological order. A group is a box of loop coordinates (the *domain*) of which some dimensions
//! may be reduced; a node may join if its value at each loop coordinate needs values of the group at that same
//! coordinate only, if everything else it needs is computed before the group, and if limits are kept.

mod bindings;

use std::collections::{BTreeMap, BTreeSet};

use cotangent_tensor::Op;

use super::access::{self, Coordinates, decompose, identity};
use super::graph::{Graph, Role};
use super::{PlanOptions, rows};
use crate::kernel::Affine;

/// What kind of kernel a group becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Loop,
    /// The product, and elementwise code on it.
    Matmul(usize),
    Scan(usize),
    /// A kernel of the user's, which shares with nobody.
    User(usize),
    /// No kernel: parts are written in place.
    Assemble(usize),
}

/// A node in a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its coordinates as functions of the domain.
    pub coordinates: Coordinates,
    /// Whether it varies over the whole domain, not only over the kept dimensions.
    pub element: bool,
    /// Number of reductions that must be finished before it.
    pub phase: usize,
}

/// Nodes that share a kernel.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub kind: Kind,
    /// Extents of the domain, without dimensions of length 1.
    pub domain: Vec<usize>,
    /// Which dimensions are reduced.
    pub reduced: Vec<bool>,
    pub members: BTreeMap<usize, Member>,
    /// Nodes that members read, each once, members among them.
    pub inputs: Vec<usize>,
    /// Nodes that must be known before, each once.
    pub waits: Vec<usize>,
    /// Inputs that are no members.
    outside: BTreeSet<usize>,
    /// Members that somebody else reads, or that leave the plan.
    escaping: usize,
    /// Whether it may not exceed the limit of buffers while it grows.
    tight: bool,
}

#[derive(Debug)]
pub(super) struct Groups<'a> {
    pub graph: &'a Graph,
    options: &'a PlanOptions,
    pub groups: Vec<Option<Group>>,
    /// Group of each node that is computed.
    pub of: Vec<Option<usize>>,
    /// Nodes with role Compute, Assemble or Source that each computed node reads through views.
    pub reads: Vec<Vec<usize>>,
    /// Nodes with such roles that must be known before each computed node.
    waits: Vec<Vec<usize>>,
    /// How many nodes read each node and are in no group with it.
    readers: Vec<usize>,
    /// Nodes that leave the plan: outputs, and new values of variables.
    leaves: Vec<bool>,
    /// Nodes that joined a kernel which bound too many buffers in the end: their groups keep the limit while they grow.
    tight: BTreeSet<usize>,
    /// Cheap values that must be stored, because a node that computes them again would bind too many buffers.
    pub crowded: Vec<usize>,
    /// For each group, others that must run before it although no value passes between them.
    pub before: BTreeMap<usize, Vec<usize>>,
}

/// Search steps after which a dependency is assumed, so that planning stays linear on huge graphs.
const SEARCH_LIMIT: usize = 4096;

fn squeeze(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&d| d != 1).collect()
}

/// Reductions that a node performs itself: the operand and its reduced axes.
fn own_reduction(graph: &Graph, id: usize) -> Option<(usize, Vec<usize>)> {
    let operand = *graph.operands[id].first()?;
    let last = || vec![graph.shape(operand).rank() - 1];
    match &graph.nodes[id].op {
        Op::Reduce { axes, .. } => Some((operand, axes.clone())),
        Op::ArgReduce { axis, .. } => Some((operand, vec![*axis])),
        Op::LogSumExp | Op::CrossEntropy | Op::Softmax | Op::SoftmaxResidual => Some((operand, last())),
        _ => None,
    }
}

/// The nodes with values of their own that `nodes` are, or are views of, or are computed from wherever they are needed; and what
/// must be known before.
fn stored(graph: &Graph, nodes: &[usize], later: &mut Vec<usize>) -> Vec<usize> {
    let (mut pending, mut found) = (nodes.to_vec(), Vec::new());
    while let Some(base) = pending.pop() {
        match graph.roles[base] {
            Role::View | Role::Inline => {
                later.extend(graph.waits.get(&base).into_iter().flatten());
                pending.extend(&graph.operands[base]);
            }
            Role::Source | Role::Compute | Role::Assemble if !found.contains(&base) => found.push(base),
            Role::Source | Role::Compute | Role::Assemble | Role::Free | Role::Empty => {}
        }
    }
    found
}

/// Whether every operand of a node is needed at the node's own coordinates.
fn pointwise(op: &Op) -> bool {
    matches!(op, Op::Elementwise(_) | Op::Integer(_) | Op::Cast | Op::While(..) | Op::RandomBits(_))
}

impl<'a> Groups<'a> {
    /// The groups of a graph.
    ///
    /// A value that others read later counts as stored until they have joined its group, so a group that may never exceed
    /// the limit while it grows ends far below it. Groups therefore grow freely, and only those that exceed it in the end
    /// are formed again with the limit.
    pub(super) fn formed(graph: &'a Graph, options: &'a PlanOptions) -> Groups<'a> {
        let mut groups = Groups::new(graph, options, BTreeSet::new());
        loop {
            groups.form();
            let crowded: Vec<usize> =
                groups.groups.iter().flatten().flat_map(|g| groups.overfull(g)).collect();
            if crowded.is_empty() {
                return groups;
            }
            let mut tight = groups.tight;
            tight.extend(crowded);
            groups = Groups::new(graph, options, tight);
        }
    }

    fn new(graph: &'a Graph, options: &'a PlanOptions, tight: BTreeSet<usize>) -> Groups<'a> {
        let (mut reads, mut waits) =
            (vec![Vec::new(); graph.nodes.len()], vec![Vec::new(); graph.nodes.len()]);
        for id in 0..graph.nodes.len() {
            if graph.roles[id] == Role::Assemble {
                reads[id].extend(graph.parts[&id].iter().map(|p| p.node));
            } else if graph.roles[id] == Role::Compute {
                let mut later = graph.waits.get(&id).cloned().unwrap_or_default();
                reads[id] = stored(graph, &graph.operands[id], &mut later);
                waits[id] = stored(graph, &later, &mut Vec::new());
            }
        }
        let of = vec![None; graph.nodes.len()];
        let mut readers = vec![0; graph.nodes.len()];
        for (id, reads) in reads.iter().enumerate() {
            match graph.roles[id] {
                Role::View | Role::Inline => {}
                Role::Compute | Role::Assemble => reads.iter().for_each(|&read| readers[read] += 1),
                Role::Source | Role::Empty | Role::Free => {
                    let read = stored(graph, &graph.operands[id], &mut Vec::new());
                    read.into_iter().for_each(|read| readers[read] += 1);
                }
            }
        }
        let mut leaves = vec![false; graph.nodes.len()];
        let outputs = graph.outputs.iter().copied();
        outputs.chain(graph.updates.iter().map(|update| update.1)).for_each(|id| leaves[id] = true);
        let (groups, crowded, before) = (Vec::new(), Vec::new(), BTreeMap::new());
        Groups { graph, options, groups, of, reads, waits, readers, leaves, tight, crowded, before }
    }

    fn form(&mut self) {
        for id in 0..self.graph.nodes.len() {
            match self.graph.roles[id] {
                Role::Compute => self.place(id),
                Role::Assemble => {
                    let group = Group::new(Kind::Assemble(id), vec![], vec![]);
                    self.open(id, group, Member { coordinates: vec![], element: false, phase: 0 });
                }
                Role::Empty | Role::Free | Role::View | Role::Inline | Role::Source => {}
            }
        }
        if self.options.fuse {
            self.merge_siblings();
        }
    }

    fn open(&mut self, id: usize, group: Group, member: Member) {
        self.groups.push(Some(group));
        self.enter(id, self.groups.len() - 1, member);
    }
    /// Puts a node into a group.
    fn enter(&mut self, id: usize, index: usize, member: Member) {
        self.of[id] = Some(index);
        let escapes = self.escapes(id);
        let group = self.groups[index].as_mut().expect("a live group");
        group.members.insert(id, member);
        group.read(&self.reads[id], &self.waits[id]);
        for &read in &self.reads[id] {
            if self.of[read] == Some(index) {
                self.readers[read] -= 1;
                group.escaping -= usize::from(self.readers[read] == 0 && !self.leaves[read]);
            } else {
                group.outside.insert(read);
            }
        }
        group.outside.remove(&id);
        group.escaping += usize::from(escapes);
        group.tight |= self.tight.contains(&id);
    }
    pub(super) fn group(&self, index: usize) -> &Group {
        self.groups[index].as_ref().expect("an index of a group that has not been merged away")
    }

    /// Puts a node into the best group of its operands, or into one of its own.
    fn place(&mut self, id: usize) {
        let mut best: Option<(usize, (Member, Vec<bool>))> = None;
        if self.options.fuse && !self.graph.alone.contains(&id) {
            let mut candidates: Vec<usize> = self.reads[id].iter().filter_map(|&r| self.of[r]).collect();
            candidates.sort_unstable_by_key(|&g| (std::cmp::Reverse(self.group(g).members.len()), g));
            candidates.dedup();
            for candidate in candidates {
                match best {
                    Some((group, _)) if group == candidate => {}
                    Some((group, _)) => {
                        if self.joined(id, candidate).is_some() && self.mergeable(group, candidate) {
                            self.merge(group, candidate);
                            best = self.joined(id, group).map(|place| (group, place));
                        }
                    }
                    None => best = self.joined(id, candidate).map(|place| (candidate, place)),
                }
            }
        }
        if let Some((group, (member, reduced))) = best {
            self.enter(id, group, member);
            self.groups[group].as_mut().expect("a live group").reduced = reduced;
            return;
        }
        let (group, member) = self.fresh(id);
        // Long reductions and products may need scratch besides what they read and write.
        let spare = usize::from(!group.reduced.contains(&true) && group.kind == Kind::Loop);
        if self.bindings_with(None, id) - spare > self.options.max_storage_buffers {
            self.crowded.extend(self.widest_inline(id).filter(|inline| !self.crowded.contains(inline)));
        }
        self.open(id, group, member);
    }
    /// The value that brings most buffers to a node that computes it for itself.
    fn widest_inline(&self, id: usize) -> Option<usize> {
        let below = |value: usize, inline: &mut Vec<usize>| {
            let (mut pending, mut buffers) = (self.graph.operands[value].clone(), Vec::new());
            while let Some(base) = pending.pop() {
                match self.graph.roles[base] {
                    Role::View => pending.extend(&self.graph.operands[base]),
                    Role::Inline => {
                        pending.extend(&self.graph.operands[base]);
                        inline.push(base);
                    }
                    Role::Source | Role::Compute | Role::Assemble if !buffers.contains(&base) => {
                        buffers.push(base);
                    }
                    Role::Source | Role::Compute | Role::Assemble | Role::Free | Role::Empty => {}
                }
            }
            buffers.len()
        };
        let mut inline = Vec::new();
        below(id, &mut inline);
        let fits = |buffers: usize| buffers < self.options.max_storage_buffers;
        let with_width = inline.into_iter().map(|value| (below(value, &mut Vec::new()), value));
        // Of those that fit a kernel, if there are any: the others would only be divided once more.
        with_width.max_by_key(|&(buffers, value)| (fits(buffers), buffers, value)).map(|(_, value)| value)
    }

    /// A group for one node.
    fn fresh(&self, id: usize) -> (Group, Member) {
        let node = &self.graph.nodes[id];
        let (kind, shape, reduced_axes) = match &node.op {
            Op::Matmul => (Kind::Matmul(id), node.shape.to_vec(), vec![]),
            Op::CumulativeSum { .. } => (Kind::Scan(id), node.shape.to_vec(), vec![]),
            Op::Kernel(_) => (Kind::User(id), node.shape.to_vec(), vec![]),
            Op::ScatterAdd(_) => {
                let mut shape = node.shape.to_vec();
                shape.push(self.graph.shape(self.graph.operands[id][0])[0]);
                let axis = shape.len() - 1;
                (Kind::Loop, shape, vec![axis])
            }
            _ => match own_reduction(self.graph, id) {
                Some((operand, axes)) => (Kind::Loop, self.graph.shape(operand).to_vec(), axes),
                None => (Kind::Loop, node.shape.to_vec(), vec![]),
            },
        };
        let mut domain = squeeze(&shape);
        let mut reduced: Vec<bool> =
            (0..shape.len()).filter(|&a| shape[a] != 1).map(|a| reduced_axes.contains(&a)).collect();
        // Coordinates of the full shape in the squeezed domain, then those of the node.
        let mut full =
            decompose(&Affine::row_major(&domain), &domain, &shape).unwrap_or_else(|| identity(&shape));
        if !reduced_axes.is_empty() && !reduced.contains(&true) {
            // A reduction over axes of length 1 stays one.
            domain.push(1);
            reduced.push(true);
            full.iter_mut().for_each(|c| c.strides.push(0));
        }
        let softmax = matches!(node.op, Op::Softmax | Op::SoftmaxResidual);
        let element = reduced_axes.is_empty() || softmax;
        let kept = |(axis, c): (usize, Affine)| (element || !reduced_axes.contains(&axis)).then_some(c);
        let coordinates = full.into_iter().enumerate().filter_map(kept).collect();
        (Group::new(kind, domain, reduced), Member { coordinates, element, phase: usize::from(softmax) })
    }

    /// How a node would look in a group, and which dimensions would be reduced then; nothing if it cannot join.
    fn joined(&self, id: usize, index: usize) -> Option<(Member, Vec<bool>)> {
        let group = self.group(index);
        let node = &self.graph.nodes[id];
        if matches!(group.kind, Kind::Scan(_) | Kind::User(_) | Kind::Assemble(_))
            || group.members.len() >= self.options.max_nodes
        {
            return None;
        }
        let (member, reduced) = if let Some((operand, axes)) = own_reduction(self.graph, id) {
            self.join_reduction(id, operand, &axes, group)?
        } else if pointwise(&node.op) {
            self.join_pointwise(id, group)?
        } else {
            return None;
        };
        let sweeps = member.element && member.phase > 0 || group.sweeps();
        if sweeps && !rows(&group.domain, &reduced, self.options) {
            return None;
        }
        if reduced.contains(&true) && matches!(group.kind, Kind::Matmul(_)) {
            return None;
        }
        let needs = self.reads[id].iter().chain(&self.waits[id]);
        let others = needs.filter_map(|&r| self.of[r]).filter(|&g| g != index);
        if others.clone().any(|g| self.depends(g, index)) {
            return None;
        }
        let limited = group.tight || self.tight.contains(&id);
        let fits = !limited || self.bindings_with(Some(index), id) <= self.options.max_storage_buffers;
        fits.then_some((member, reduced))
    }

    /// Whether each operand in the group is read exactly where the group has it; the phase that follows.
    fn consistent(&self, group: &Group, reads: &[(usize, Coordinates)]) -> Option<usize> {
        let mut phase = 0;
        let mut found = false;
        for base in reads.iter().flat_map(|(o, at)| access::leaves(self.graph, *o, at.clone(), &group.domain))
        {
            let Some(member) = group.members.get(&base.node) else { continue };
            if base.coordinates.as_ref() != Some(&member.coordinates) {
                return None;
            }
            found = true;
            let reduction = own_reduction(self.graph, base.node).is_some() && !member.element
                || matches!(self.graph.nodes[base.node].op, Op::ScatterAdd(_));
            phase = phase.max(member.phase + usize::from(reduction));
        }
        found.then_some(phase)
    }

    fn join_pointwise(&self, id: usize, group: &Group) -> Option<(Member, Vec<bool>)> {
        let shape = self.graph.shape(id);
        let total: usize = group.domain.iter().product();
        let reads = |c: &Coordinates| -> Vec<(usize, Coordinates)> {
            let operands = &self.graph.operands[id];
            // The operand of random bits is a scalar; all others have the shape of the node.
            operands
                .iter()
                .map(|&o| (o, if self.graph.shape(o).rank() == shape.rank() { c.clone() } else { vec![] }))
                .collect()
        };
        if shape.elements() == total
            && let Some(coordinates) = decompose(&Affine::row_major(&group.domain), &group.domain, shape)
            && let Some(phase) = self.consistent(group, &reads(&coordinates))
        {
            return Some((Member { coordinates, element: true, phase }, group.reduced.clone()));
        }
        let kept = kept_index(&group.domain, &group.reduced)?;
        let kept_total: usize =
            group.domain.iter().zip(&group.reduced).filter(|(_, r)| !**r).map(|(d, _)| d).product();
        if shape.elements() != kept_total {
            return None;
        }
        let coordinates = decompose(&kept, &group.domain, shape)?;
        let phase = self.consistent(group, &reads(&coordinates))?;
        Some((Member { coordinates, element: false, phase }, group.reduced.clone()))
    }

    fn join_reduction(
        &self,
        id: usize,
        operand: usize,
        axes: &[usize],
        group: &Group,
    ) -> Option<(Member, Vec<bool>)> {
        let shape = self.graph.shape(operand);
        if shape.elements() != group.domain.iter().product::<usize>() || matches!(group.kind, Kind::Matmul(_))
        {
            return None;
        }
        let full = decompose(&Affine::row_major(&group.domain), &group.domain, shape)?;
        let mut reduced = vec![false; group.domain.len()];
        for &axis in axes {
            for (dimension, &stride) in full[axis].strides.iter().enumerate() {
                reduced[dimension] |= stride != 0;
            }
        }
        let other = group.reduced.contains(&true) && group.reduced != reduced;
        if other || !reduced.contains(&true) {
            return None;
        }
        let keeps_all = matches!(self.graph.nodes[id].op, Op::Softmax | Op::SoftmaxResidual);
        let kept: Coordinates =
            (0..shape.rank()).filter(|a| !axes.contains(a)).map(|a| full[a].clone()).collect();
        let mut reads = vec![(operand, full.clone())];
        if let Some(&labels) = self.graph.operands[id].get(1) {
            reads.push((labels, kept.clone()));
        }
        let phase = self.consistent(group, &reads)?;
        // Reducing what has no reduced dimension yet turns every member into an element-level one, which they are.
        let coordinates = if keeps_all { full } else { kept };
        Some((Member { coordinates, element: keeps_all, phase: phase + usize::from(keeps_all) }, reduced))
    }

    fn is_alone(&self, group: &Group) -> bool {
        group.members.keys().any(|m| self.graph.alone.contains(m))
    }
    /// Whether group `a` needs group `b`, directly or not.
    pub(super) fn depends(&self, a: usize, b: usize) -> bool {
        self.depends_beyond(a, b, false)
    }
    /// With `indirect`, paths of length one do not count.
    fn depends_beyond(&self, a: usize, b: usize, indirect: bool) -> bool {
        let mut seen = std::collections::HashSet::from([a]);
        let mut stack: Vec<usize> =
            self.producers(a).into_iter().filter(|&p| !(indirect && p == b)).collect();
        if !indirect && a == b {
            return true;
        }
        while let Some(group) = stack.pop() {
            if group == b {
                return true;
            }
            if !seen.insert(group) {
                continue;
            }
            if seen.len() > SEARCH_LIMIT {
                return true;
            }
            // No shortcut by node numbers: a group that lies before `b` may read one that has members behind it.
            stack.extend(self.producers(group));
        }
        false
    }
    /// Groups that must run before a group.
    pub(super) fn producers(&self, index: usize) -> Vec<usize> {
        let group = self.group(index);
        let inputs = group.inputs.iter().chain(&group.waits);
        let mut result: Vec<usize> =
            inputs.filter_map(|&read| self.of[read]).filter(|&g| g != index).collect();
        result.extend(self.before.get(&index).into_iter().flatten());
        result.sort_unstable();
        result.dedup();
        result
    }

    fn mergeable(&self, a: usize, b: usize) -> bool {
        let (first, second) = (self.group(a), self.group(b));
        if self.is_alone(first) || self.is_alone(second) {
            return false;
        }
        let loops = |g: &Group| g.kind == Kind::Loop;
        let kinds = loops(first) && loops(second)
            || matches!((first.kind, second.kind), (Kind::Matmul(_), Kind::Loop))
                && !second.reduced.contains(&true)
            || matches!((first.kind, second.kind), (Kind::Loop, Kind::Matmul(_)))
                && !first.reduced.contains(&true);
        if !kinds
            || first.domain != second.domain
            || first.members.len() + second.members.len() > self.options.max_nodes
        {
            return false;
        }
        let reduces = |g: &Group| g.reduced.contains(&true);
        if reduces(first) && reduces(second) && first.reduced != second.reduced {
            return false;
        }
        let special =
            |g: &Group| g.members.keys().any(|&m| matches!(self.graph.nodes[m].op, Op::ScatterAdd(_)));
        if special(first) || special(second) {
            return false;
        }
        let reduced = if reduces(first) { &first.reduced } else { &second.reduced };
        if (first.sweeps() || second.sweeps()) && !rows(&first.domain, reduced, self.options) {
            return false;
        }
        // References across the two must be at the same coordinates.
        for (from, to) in [(first, second), (second, first)] {
            for (&id, member) in &from.members {
                if self.reads[id].iter().any(|r| to.members.contains_key(r)) {
                    if !pointwise(&self.graph.nodes[id].op) || reduces(from) != reduces(to) {
                        return false;
                    }
                    let reads: Vec<_> =
                        self.graph.operands[id].iter().map(|&o| (o, member.coordinates.clone())).collect();
                    match self.consistent(to, &reads) {
                        Some(0) => {}
                        Some(_) | None => return false,
                    }
                }
            }
        }
        !self.depends_beyond(a, b, true)
            && !self.depends_beyond(b, a, true)
            && (!(first.tight || second.tight) || self.bindings_of(a, b) <= self.options.max_storage_buffers)
    }
    fn merge(&mut self, into: usize, from: usize) {
        let taken = self.groups[from].take().expect("a live group");
        let mut group = self.groups[into].take().expect("a live group");
        for (members, other) in [(&taken.members, into), (&group.members, from)] {
            for &read in members.keys().flat_map(|&id| &self.reads[id]) {
                self.readers[read] -= usize::from(self.of[read] == Some(other));
            }
        }
        for &id in taken.members.keys() {
            self.of[id] = Some(into);
        }
        if taken.reduced.contains(&true) {
            group.reduced = taken.reduced;
        }
        if matches!(taken.kind, Kind::Matmul(_)) {
            group.kind = taken.kind;
        }
        group.tight |= taken.tight;
        group.members.extend(taken.members);
        group.read(&taken.inputs, &taken.waits);
        group.outside.extend(taken.outside);
        group.outside.retain(|read| !group.members.contains_key(read));
        group.escaping = group.members.keys().filter(|&&id| self.escapes(id)).count();
        self.groups[into] = Some(group);
    }

    /// Merges groups over the same domain that read a common buffer, or that are too small to be worth a dispatch.
    fn merge_siblings(&mut self) {
        const SMALL: usize = 1024;
        let mut by_domain: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            if let Some(group) = group.as_ref().filter(|g| g.kind == Kind::Loop) {
                by_domain.entry(group.domain.clone()).or_default().push(index);
            }
        }
        for (domain, indices) in by_domain {
            let small = domain.iter().product::<usize>() <= SMALL;
            for (position, &a) in indices.iter().enumerate() {
                for &b in indices[position + 1..].iter().take(64) {
                    if self.groups[a].is_none() || self.groups[b].is_none() {
                        continue;
                    }
                    let (first, second) = (&self.group(a).inputs, &self.group(b).inputs);
                    let meet = small || second.iter().any(|read| first.binary_search(read).is_ok());
                    if meet && self.mergeable(a, b) {
                        self.merge(a, b);
                    }
                }
            }
        }
    }
}

impl Group {
    fn new(kind: Kind, domain: Vec<usize>, reduced: Vec<bool>) -> Group {
        let (inputs, waits, outside) = (Vec::new(), Vec::new(), BTreeSet::new());
        Group {
            kind,
            domain,
            reduced,
            members: BTreeMap::new(),
            inputs,
            waits,
            outside,
            escaping: 0,
            tight: false,
        }
    }
    fn read(&mut self, nodes: &[usize], waits: &[usize]) {
        for (all, new) in [(&mut self.inputs, nodes), (&mut self.waits, waits)] {
            if !new.is_empty() {
                all.extend(new);
                all.sort_unstable();
                all.dedup();
            }
        }
    }
    /// Whether element-level code needs results of reductions.
    pub(super) fn sweeps(&self) -> bool {
        self.members.values().any(|m| m.element && m.phase > 0)
    }
}

/// Row-major index over the kept dimensions of a domain, if any dimension is reduced.
fn kept_index(domain: &[usize], reduced: &[bool]) -> Option<Affine> {
    if !reduced.contains(&true) {
        return None;
    }
    let mut index = Affine::constant(0, domain.len());
    let mut step = 1;
    for dimension in (0..domain.len()).rev().filter(|&d| !reduced[d]) {
        index.strides[dimension] = step;
        step *= access::to_i64(domain[dimension]);
    }
    Some(index)
}
