//! Where every value lies that more than one kernel needs.

use std::collections::HashMap;

use cotangent_tensor::{DType, Op};

use super::access::{self, linear, to_i64, walk};
use super::build::Obstacle;
use super::graph::{Graph, Role};
use super::group::{Groups, Kind};
use crate::kernel::*;
use crate::plan::{Buffer, Source};

/// Kernels in order, buffers without storage.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub kernels: Vec<Kernel>,
    pub buffers: Vec<Buffer>,
    /// Buffers whose storage must be zero at first and never shared.
    pub exclusive: Vec<BufferId>,
    pub places: HashMap<usize, (BufferId, usize)>,
}

impl Draft {
    fn buffer(&mut self, graph: &Graph, id: usize, source: Source) -> BufferId {
        let node = &graph.nodes[id];
        let name = node.called().to_string();
        self.buffers.push(Buffer { name, dtype: node.dtype, elements: node.shape.elements(), source });
        self.buffers.len() - 1
    }
    /// Decides where every node lies that is read outside its kernel. Returns copies (variable, value) to run at the end.
    pub(super) fn assign_places(
        &mut self,
        graph: &Graph,
        groups: &mut Groups<'_>,
    ) -> Result<Vec<(usize, usize)>, Obstacle> {
        for id in 0..graph.nodes.len() {
            let source = match &graph.nodes[id].op {
                Op::Leaf(array) => Source::Leaf(array.clone()),
                Op::Input(token) => Source::Input(token.clone()),
                Op::Variable(token) => Source::Variable(token.clone()),
                _ => continue,
            };
            if graph.roles[id] == Role::Source {
                let buffer = self.buffer(graph, id, source);
                self.places.insert(id, (buffer, 0));
            }
        }
        for (&id, parts) in &graph.parts {
            if graph.roles[id] == Role::Assemble {
                let buffer = self.buffer(graph, id, Source::Computed { slot: 0 });
                self.exclusive.push(buffer);
                self.places.insert(id, (buffer, 0));
                self.places.extend(parts.iter().map(|p| (p.node, (buffer, p.offset))));
            }
        }
        self.check_parts(graph, groups)?;
        let mut copies = Vec::new();
        for &(variable, value) in &graph.updates {
            if graph.roles[variable] != Role::Source {
                continue;
            }
            let base = result_base(graph, value);
            let whole = !self.places.contains_key(&base)
                && graph.shape(base).elements() == graph.shape(variable).elements();
            if whole && update_in_place(graph, groups, variable, base) {
                let place = self.places[&variable];
                self.places.insert(base, place);
            } else {
                copies.push((variable, value));
            }
        }
        let mut stored = vec![false; graph.nodes.len()];
        for id in 0..graph.nodes.len() {
            for &read in
                groups.reads[id].iter().filter(|&&r| groups.of[r] != groups.of[id] || groups.of[r].is_none())
            {
                stored[read] = true;
            }
        }
        let results = graph.outputs.iter().chain(graph.updates.iter().map(|(_, value)| value));
        results.for_each(|&id| stored[result_base(graph, id)] = true);
        for id in (0..graph.nodes.len()).filter(|&id| stored[id]) {
            if graph.roles[id] == Role::Compute && !self.places.contains_key(&id) {
                let buffer = self.buffer(graph, id, Source::Computed { slot: 0 });
                self.places.insert(id, (buffer, 0));
            }
        }
        Ok(copies)
    }
    /// A kernel that writes a part of a concatenation must not read another part: adapters see one buffer.
    fn check_parts(&self, graph: &Graph, groups: &Groups<'_>) -> Result<(), Obstacle> {
        for (id, parts) in graph.parts.iter().filter(|(id, _)| graph.roles[**id] == Role::Assemble) {
            let (buffer, _) = self.places[id];
            for part in parts {
                let Some(writer) = groups.of[part.node] else { continue };
                let members = groups.group(writer).members.keys();
                let mut outside =
                    members.flat_map(|&m| &groups.reads[m]).filter(|&&r| groups.of[r] != Some(writer));
                if let Some(read) = outside.find(|r| self.places.get(r).is_some_and(|p| p.0 == buffer)) {
                    // A copy that still reads the same concatenation copies another part: that one must be copied too.
                    let other =
                        parts.iter().find(|p| p.node == *read).filter(|_| graph.alone.contains(&part.node));
                    return Err(Obstacle::CopyPart(other.unwrap_or(part).number));
                }
            }
        }
        Ok(())
    }
    /// A kernel that copies the value of a node into a variable.
    pub(super) fn copy(&self, graph: &Graph, variable: usize, value: usize) -> Kernel {
        let base = result_base(graph, value);
        let (from, offset) = self.result_place(graph, value);
        let (to, _) = self.places[&variable];
        let (node, elements, dtype) =
            (&graph.nodes[variable], graph.shape(variable).elements(), graph.nodes[variable].dtype);
        let at = |offset: usize| Affine { offset: to_i64(offset), strides: vec![1] };
        let load = Code::Load { binding: 0, at: at(offset), guard: None };
        Kernel {
            name: format!("copy_to_{}", node.name()),
            location: graph.nodes[value].location,
            bindings: vec![
                Binding { buffer: from, access: Access::Read, dtype },
                Binding { buffer: to, access: Access::Write, dtype },
            ],
            body: Body::Loop(Loop {
                kept: vec![elements],
                reduced: vec![],
                schedule: Schedule::Map,
                code: vec![Instruction {
                    code: load,
                    dtype: if dtype == DType::F16 { DType::F32 } else { dtype },
                    level: Level::Kept,
                    label: None,
                }],
                stores: vec![Store { binding: 1, at: at(0), value: 0 }],
            }),
            reads: vec![Place {
                node: graph.nodes[base].clone(),
                buffer: from,
                offset: self.places[&base].1,
            }],
            writes: vec![Place { node: graph.nodes[value].clone(), buffer: to, offset: 0 }],
        }
    }
    /// Where the value of an output or update lies.
    pub(super) fn result_place(&self, graph: &Graph, id: usize) -> (BufferId, usize) {
        let shape = *graph.shape(id);
        let base = walk(graph, id, access::identity(&shape), &shape);
        let (buffer, offset) = self.places[&base.node];
        let inside = base.linear.map_or(0, |l| usize::try_from(l.offset).unwrap_or(0));
        (buffer, offset + inside)
    }
}

/// The computed node that holds an output or update.
fn result_base(graph: &Graph, mut id: usize) -> usize {
    while graph.roles[id] == Role::View {
        id = graph.operands[id][0];
    }
    id
}

/// Whether the group of `value` may write the storage of `variable`: it reads the old value only at the element it writes,
/// and every other reader can run before it.
fn update_in_place(graph: &Graph, groups: &mut Groups<'_>, variable: usize, value: usize) -> bool {
    let Some(writer) = groups.of[value] else { return false };
    let group = groups.group(writer);
    if graph.roles[value] != Role::Compute || !matches!(group.kind, Kind::Loop | Kind::Matmul(_)) {
        return false;
    }
    let member = &group.members[&value];
    let target = linear(&member.coordinates, graph.shape(value), group.domain.len());
    for (&id, reader) in &group.members {
        if groups.reads[id].contains(&variable) {
            let elementwise =
                matches!(graph.nodes[id].op, Op::Elementwise(_) | Op::Integer(_) | Op::Cast | Op::While(..));
            let same = |&o: &usize| {
                let leaves = access::leaves(graph, o, reader.coordinates.clone(), &group.domain);
                leaves.iter().all(|base| base.node != variable || base.linear.as_ref() == Some(&target))
            };
            if !elementwise || reader.element != member.element || !graph.operands[id].iter().all(same) {
                return false;
            }
        }
    }
    let live = (0..groups.groups.len()).filter(|&g| groups.groups[g].is_some() && g != writer);
    let readers: Vec<usize> =
        live.filter(|&g| groups.group(g).inputs.binary_search(&variable).is_ok()).collect();
    if readers.iter().any(|&r| groups.depends(r, writer)) {
        return false;
    }
    groups.before.entry(writer).or_default().extend(readers);
    true
}
