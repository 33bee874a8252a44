//! Each group becomes a kernel.

mod indexed;
mod looped;
mod user;

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{Code as ErrorCode, DType, Elementwise, Error, Op, Scalar};

use super::access::{self, Base, Coordinates, linear, to_i64, walk};
use super::graph::{Graph, Role};
use super::group::{Group, Groups, Kind, Member};
use super::order::order;
use super::places::Draft;
use super::{PlanOptions, schedule};
use crate::kernel::*;

/// Why planning could not go on.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// A view that must be copied into a buffer, or a cheap value that must be stored after all.
    Copy(usize),
    /// Several of them, each once.
    Copies(Vec<usize>),
    /// A part of a concatenation that cannot be computed in place, by number.
    CopyPart(usize),
    /// A mistake in the graph, or in the planner.
    Error(Box<Error>),
}

fn internal(what: &str, node: &cotangent_tensor::Node) -> Obstacle {
    Obstacle::Error(Box::new(Error::new(ErrorCode::Internal, node.name(), what).at(node.location)))
}

/// Plans kernels for the whole graph.
pub(super) fn kernels(graph: &Graph, options: &PlanOptions) -> Result<Draft, Obstacle> {
    let mut groups = Groups::formed(graph, options);
    if !groups.crowded.is_empty() {
        return Err(Obstacle::Copies(groups.crowded));
    }
    let mut draft = Draft::default();
    let copies = draft.assign_places(graph, &mut groups)?;
    // All obstacles of a pass at once: each pass plans the whole graph.
    let mut blocked = Vec::new();
    for index in order(graph, &groups, &draft) {
        let group = groups.group(index);
        if !matches!(group.kind, Kind::Assemble(_)) {
            match Builder::new(graph, group, &draft).kernel() {
                Ok(kernel) => draft.kernels.push(kernel),
                Err(Obstacle::Copy(view)) if blocked.contains(&view) => {}
                Err(Obstacle::Copy(view)) => blocked.push(view),
                Err(other) => return Err(other),
            }
        }
    }
    if !blocked.is_empty() {
        return Err(Obstacle::Copies(blocked));
    }
    for (variable, value) in copies {
        let kernel = draft.copy(graph, variable, value);
        draft.kernels.push(kernel);
    }
    Ok(draft)
}

/// Builds the kernel of one group.
struct Builder<'a> {
    graph: &'a Graph,
    group: &'a Group,
    draft: &'a Draft,
    /// Domain dimension of each loop dimension: kept ones first.
    order: Vec<usize>,
    bindings: Vec<Binding>,
    reads: Vec<Place>,
    code: Vec<Instruction>,
    stores: Vec<Store>,
    writes: Vec<Place>,
    values: HashMap<usize, Value>,
    loads: Vec<(Code, DType, Value)>,
    /// Truth values computed here, by node, coordinates and guard.
    inlined: HashMap<(usize, Coordinates, Option<Value>), Value>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a Graph, group: &'a Group, draft: &'a Draft) -> Builder<'a> {
        let (kept, reduced): (Vec<usize>, Vec<usize>) =
            (0..group.domain.len()).partition(|&d| !group.reduced[d]);
        let order = kept.into_iter().chain(reduced).collect();
        let (bindings, reads, code, stores, writes) = (vec![], vec![], vec![], vec![], vec![]);
        Builder {
            graph,
            group,
            draft,
            order,
            bindings,
            reads,
            code,
            stores,
            writes,
            values: HashMap::new(),
            loads: vec![],
            inlined: HashMap::new(),
        }
    }

    fn kernel(mut self) -> Result<Kernel, Obstacle> {
        let (graph, group) = (self.graph, self.group);
        let mut matmul = None;
        for (&id, member) in &group.members {
            let value = match group.kind {
                Kind::Matmul(product) if product == id => {
                    matmul = Some(self.matmul(id)?);
                    self.push(Code::Accumulator, DType::F32, &[], id)
                }
                Kind::Scan(scan) if scan == id => return self.scan(id),
                Kind::User(_) => {
                    let Op::Kernel(kernel) = &graph.nodes[id].op else {
                        return Err(internal("no kernel of the user's", &graph.nodes[id]));
                    };
                    return self.user(id, kernel);
                }
                _ => self.member(id, member)?,
            };
            self.values.insert(id, value);
        }
        for (&id, member) in &group.members {
            if let Some(&(buffer, offset)) = self.draft.places.get(&id) {
                let mut at = linear(&member.coordinates, graph.shape(id), group.domain.len());
                at.offset += to_i64(offset);
                let mut value = self.values[&id];
                if member.element && group.reduced.contains(&true) {
                    value = self.at_element_level(value);
                }
                let binding = self.bind(buffer, Access::Write, graph.nodes[id].dtype);
                let at = self.reorder(&at);
                self.stores.push(Store { binding, at, value });
                self.writes.push(Place { node: graph.nodes[id].clone(), buffer, offset });
            }
        }
        let kept: Vec<usize> =
            group.domain.iter().zip(&group.reduced).filter(|(_, r)| !**r).map(|(d, _)| *d).collect();
        let reduced: Vec<usize> =
            group.domain.iter().zip(&group.reduced).filter(|(_, r)| **r).map(|(d, _)| *d).collect();
        let innermost = group.reduced.last() == Some(&true)
            && !group.members.keys().any(|&m| matches!(graph.nodes[m].op, Op::ScatterAdd(_)));
        let schedule = schedule(&kept, &reduced, innermost, group.sweeps());
        let mut body = Loop {
            kept,
            reduced,
            schedule,
            code: std::mem::take(&mut self.code),
            stores: std::mem::take(&mut self.stores),
        };
        let last = &graph.nodes[*group.members.keys().next_back().expect("groups have members")];
        let body = if let Some(mut matmul) = matmul {
            let [.., m, n] = graph.shape(matmul_node(group))[..] else {
                return Err(internal("a product of rank below two", last));
            };
            let full = [&matmul.batch[..], &[m, n]].concat();
            body.unsqueeze(&full);
            matmul.epilogue = body;
            Body::Matmul(matmul)
        } else {
            body.merge_dimensions();
            Body::Loop(body)
        };
        Ok(Kernel {
            name: self.name(),
            location: last.location,
            bindings: self.bindings,
            body,
            reads: self.reads,
            writes: self.writes,
        })
    }
    fn name(&self) -> String {
        let names: Vec<&str> = self.group.members.keys().map(|&m| self.graph.nodes[m].name()).collect();
        match &names[..] {
            [] => String::new(),
            all if all.len() <= 5 => all.join("_"),
            [a, b, .., y, z] => format!("{a}_{b}_{}_more_{y}_{z}", names.len() - 4),
            all => all.join("_"),
        }
    }
    fn reorder(&self, affine: &Affine) -> Affine {
        Affine { offset: affine.offset, strides: self.order.iter().map(|&d| affine.strides[d]).collect() }
    }
    fn is_element(&self, affine: &Affine) -> bool {
        affine.strides.iter().zip(&self.group.reduced).any(|(&s, &r)| r && s != 0)
    }
    fn bind(&mut self, buffer: BufferId, access: Access, dtype: DType) -> usize {
        if let Some(position) = self.bindings.iter().position(|b| b.buffer == buffer) {
            if self.bindings[position].access != access {
                self.bindings[position].access = Access::ReadWrite;
            }
            return position;
        }
        self.bindings.push(Binding { buffer, access, dtype });
        self.bindings.len() - 1
    }
    fn push(&mut self, code: Code, dtype: DType, operands: &[Value], id: usize) -> Value {
        let element = operands.iter().any(|&v| self.code[v].level == Level::Element);
        self.push_at(code, dtype, if element { Level::Element } else { Level::Kept }, Some(id))
    }
    fn push_at(&mut self, code: Code, dtype: DType, level: Level, id: Option<usize>) -> Value {
        let label = id.and_then(|id| self.graph.nodes[id].label.clone()).map(Into::into);
        self.code.push(Instruction { code, dtype, level, label });
        self.code.len() - 1
    }
    /// Loads, coordinates and constants, each once.
    fn shared(&mut self, code: Code, dtype: DType, level: Level) -> Value {
        if let Some((_, _, value)) = self.loads.iter().find(|(c, d, _)| *c == code && *d == dtype) {
            return *value;
        }
        let value = self.push_at(code.clone(), dtype, level, None);
        self.loads.push((code, dtype, value));
        value
    }
    fn constant(&mut self, scalar: Scalar) -> Value {
        self.shared(Code::Constant(scalar.to_word()), scalar.dtype(), Level::Kept)
    }
    fn number(&mut self, value: f64) -> Value {
        self.constant(Scalar::Float(value))
    }
    fn row(&mut self, row: Elementwise, operands: &[Value], id: usize) -> Value {
        let dtype = match row.class() {
            cotangent_tensor::Class::Real | cotangent_tensor::Class::Select => DType::F32,
            cotangent_tensor::Class::Test | cotangent_tensor::Class::Logic => DType::Bool,
        };
        self.push(Code::Elementwise(row, operands.to_vec()), dtype, operands, id)
    }
    fn at_element_level(&mut self, value: Value) -> Value {
        if self.code[value].level == Level::Element {
            return value;
        }
        self.push_at(Code::Cast(value), self.code[value].dtype, Level::Element, None)
    }

    /// The value of an operand whose coordinates are given.
    fn operand(
        &mut self,
        operand: usize,
        coordinates: Coordinates,
        guard: Option<Value>,
    ) -> Result<Value, Obstacle> {
        let base = walk(self.graph, operand, coordinates, &self.group.domain);
        self.based(&base, guard)
    }
    fn based(&mut self, base: &Base, guard: Option<Value>) -> Result<Value, Obstacle> {
        let graph = self.graph;
        let node = &graph.nodes[base.node];
        if let (Some(member), Some(&value)) =
            (self.group.members.get(&base.node), self.values.get(&base.node))
        {
            if base.coordinates.as_ref() != Some(&member.coordinates) {
                return Err(internal("a value of the kernel is read at other coordinates", node));
            }
            return Ok(value);
        }
        match (&node.op, graph.roles[base.node]) {
            (Op::Constant(scalar), Role::Free) => {
                let value = self.constant(*scalar);
                self.guarded(value, guard, base.node)
            }
            (Op::Iota { axis }, Role::Free) => {
                let Some(coordinates) = &base.coordinates else {
                    return Err(Obstacle::Copy(base.blocked.unwrap_or(base.node)));
                };
                let (at, level) = self.placed(&coordinates[*axis]);
                let value = self.shared(Code::Coordinate(at), DType::I32, level);
                self.guarded(value, guard, base.node)
            }
            (Op::Elementwise(row), Role::Inline) => {
                let Some(at) = &base.coordinates else {
                    return Err(Obstacle::Copy(base.blocked.unwrap_or(base.node)));
                };
                let key = (base.node, at.clone(), guard);
                if let Some(&value) = self.inlined.get(&key) {
                    return Ok(value);
                }
                let operands = &graph.operands[base.node];
                let values: Vec<Value> =
                    operands.iter().map(|&o| self.operand(o, at.clone(), guard)).collect::<Result<_, _>>()?;
                let value = self.row(*row, &values, base.node);
                let value = self.guarded(value, guard, base.node)?;
                self.inlined.insert(key, value);
                Ok(value)
            }
            _ => {
                let Some(index) = &base.linear else {
                    return Err(Obstacle::Copy(base.blocked.unwrap_or(base.node)));
                };
                let (binding, offset) = self.read(base.node)?;
                let (mut at, level) = self.placed(index);
                at.offset += to_i64(offset);
                let level = guard.map_or(level, |g| level.max(self.code[g].level));
                let dtype = if node.dtype == DType::F16 { DType::F32 } else { node.dtype };
                Ok(self.shared(Code::Load { binding, at, guard }, dtype, level))
            }
        }
    }
    fn placed(&self, affine: &Affine) -> (Affine, Level) {
        (self.reorder(affine), if self.is_element(affine) { Level::Element } else { Level::Kept })
    }
    /// Binds the buffer of a node; the binding and the offset of the node in it.
    fn read(&mut self, id: usize) -> Result<(usize, usize), Obstacle> {
        let node = &self.graph.nodes[id];
        let &(buffer, offset) = self
            .draft
            .places
            .get(&id)
            .ok_or_else(|| internal("a value that was not stored is read", node))?;
        if !self.reads.iter().any(|p| Arc::ptr_eq(&p.node, node)) {
            self.reads.push(Place { node: node.clone(), buffer, offset });
        }
        Ok((self.bind(buffer, Access::Read, node.dtype), offset))
    }
    fn guarded(&mut self, value: Value, guard: Option<Value>, id: usize) -> Result<Value, Obstacle> {
        let Some(guard) = guard else { return Ok(value) };
        let zero = match self.code[value].dtype {
            DType::F32 | DType::F16 => Scalar::Float(0.0),
            DType::I32 => Scalar::Int(0),
            DType::U32 => Scalar::Uint(0),
            DType::Bool => Scalar::Bool(false),
        };
        let zero = self.constant(zero);
        Ok(self.choose(guard, value, zero, id))
    }
    fn choose(&mut self, condition: Value, a: Value, b: Value, id: usize) -> Value {
        let operands = [condition, a, b];
        match self.code[a].dtype {
            dtype @ (DType::I32 | DType::U32) => {
                let code = Code::Integer(cotangent_tensor::Integer::Select, dtype, operands.to_vec());
                self.push(code, dtype, &operands, id)
            }
            DType::Bool => {
                let chosen = self.row(Elementwise::And, &[condition, a], id);
                let inverse = self.row(Elementwise::Not, &[condition], id);
                let other = self.row(Elementwise::And, &[inverse, b], id);
                self.row(Elementwise::Or, &[chosen, other], id)
            }
            DType::F32 | DType::F16 => self.row(Elementwise::Select, &operands, id),
        }
    }
    fn in_range(&mut self, at: &Affine, size: usize) -> Value {
        let (at, level) = self.placed(at);
        self.shared(Code::InRange { at, size }, DType::Bool, level)
    }
    fn all(&mut self, tests: Vec<Value>, id: usize) -> Option<Value> {
        tests.into_iter().reduce(|a, b| self.row(Elementwise::And, &[a, b], id))
    }

    /// The value of a node of the group.
    fn member(&mut self, id: usize, member: &Member) -> Result<Value, Obstacle> {
        let graph = self.graph;
        let (node, operands, at) = (&graph.nodes[id], &graph.operands[id], &member.coordinates);
        let dimensions = self.group.domain.len();
        let dtype = if node.dtype == DType::F16 { DType::F32 } else { node.dtype };
        Ok(match &node.op {
            Op::Elementwise(row) => {
                let values = self.operands(operands, at)?;
                self.row(*row, &values, id)
            }
            Op::Integer(row) => {
                let values = self.operands(operands, at)?;
                let of = graph.nodes[*operands.last().expect("rows have operands")].dtype;
                self.push(Code::Integer(*row, of, values.clone()), dtype, &values, id)
            }
            Op::Cast => {
                let value = self.operand(operands[0], at.clone(), None)?;
                // A value that is only stored is rounded by the store.
                let stays = |user: &usize| {
                    !self.group.members.contains_key(user) && graph.roles[*user] == Role::Compute
                };
                let dtype = if graph.users[id].iter().all(stays) { dtype } else { node.dtype };
                self.push(Code::Cast(value), dtype, &[value], id)
            }
            Op::While(looped, output) => self.looped(id, looped, *output, at)?,
            Op::RandomBits(key) => {
                let step = self.operand(operands[0], vec![], None)?;
                let (index, level) = self.placed(&linear(at, &node.shape, dimensions));
                self.push_at(Code::RandomBits { key: *key, step, at: index }, dtype, level, Some(id))
            }
            Op::Constant(_) | Op::Iota { .. } => {
                // A free node that must lie in a buffer.
                match &node.op {
                    Op::Constant(scalar) => self.constant(*scalar),
                    Op::Iota { axis } => {
                        let (index, level) = self.placed(&at[*axis]);
                        self.shared(Code::Coordinate(index), DType::I32, level)
                    }
                    _ => return Err(internal("neither constant nor coordinate", node)),
                }
            }
            Op::Reshape | Op::Permute(_) | Op::Broadcast | Op::Slice { .. } => {
                let base = access::copied(graph, id, at, &self.group.domain);
                self.based(&base, None)?
            }
            Op::Pad { low, .. } => {
                let inner = graph.shape(operands[0]);
                let shifted: Coordinates = at
                    .iter()
                    .zip(low)
                    .map(|(c, &l)| Affine { offset: c.offset - to_i64(l), strides: c.strides.clone() })
                    .collect();
                let padded = (0..inner.rank()).filter(|&a| inner[a] != node.shape[a]);
                let tests = padded.map(|a| self.in_range(&shifted[a], inner[a])).collect();
                let guard = self.all(tests, id);
                self.operand(operands[0], shifted, guard)?
            }
            Op::Concat(axis) => {
                let mut start = 0;
                let mut result = None;
                for &part in operands {
                    let size = graph.shape(part)[*axis];
                    let mut shifted = at.clone();
                    shifted[*axis].offset -= to_i64(start);
                    let inside = self.in_range(&shifted[*axis], size);
                    let value = self.operand(part, shifted, Some(inside))?;
                    result = Some(result.map_or(value, |before| self.choose(inside, value, before, id)));
                    start += size;
                }
                result.expect("concatenations have parts")
            }
            Op::Gather(axis) => self.gather(id, *axis, at)?,
            Op::Reduce { kind, axes } => {
                let value = self.reduced_operand(id, axes, at)?;
                self.push_at(Code::Reduce(*kind, value), dtype, Level::Kept, Some(id))
            }
            Op::ArgReduce { maximum, axis } => {
                let value = self.reduced_operand(id, &[*axis], at)?;
                self.push_at(Code::ArgReduce { maximum: *maximum, value }, dtype, Level::Kept, Some(id))
            }
            Op::ScatterAdd(axis) => self.scatter(id, *axis, at)?,
            Op::LogSumExp | Op::CrossEntropy | Op::Softmax | Op::SoftmaxResidual => {
                self.row_operation(id, at)?
            }
            op => return Err(internal(&format!("{op:?} is no member of a loop"), node)),
        })
    }
    fn operands(&mut self, operands: &[usize], at: &Coordinates) -> Result<Vec<Value>, Obstacle> {
        operands.iter().map(|&o| self.operand(o, at.clone(), None)).collect()
    }
    /// The element-level operand of a reduction whose result has coordinates `at`.
    fn reduced_operand(&mut self, id: usize, axes: &[usize], at: &Coordinates) -> Result<Value, Obstacle> {
        let operand = self.graph.operands[id][0];
        let full = self.full_coordinates(*self.graph.shape(operand), axes, at);
        let value = self.operand(operand, full, None)?;
        Ok(self.at_element_level(value))
    }
    /// Coordinates of the operand of a reduction: those of the result, with the reduced dimensions in place.
    fn full_coordinates(
        &self,
        shape: cotangent_tensor::Shape,
        axes: &[usize],
        at: &Coordinates,
    ) -> Coordinates {
        let domain = &self.group.domain;
        // Row-major over the reduced dimensions of the domain, taken apart into the reduced axes.
        let mut index = Affine::constant(0, domain.len());
        let mut step = 1;
        for d in (0..domain.len()).rev().filter(|&d| self.group.reduced[d]) {
            index.strides[d] = step;
            step *= to_i64(domain[d]);
        }
        let sizes: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
        let mut inner = access::decompose(&index, domain, &sizes).unwrap_or_default().into_iter();
        let mut outer = at.iter().cloned();
        let zero = Affine::constant(0, domain.len());
        (0..shape.rank())
            .map(|a| {
                if axes.contains(&a) { inner.next() } else { outer.next() }.unwrap_or_else(|| zero.clone())
            })
            .collect()
    }
    /// Operations on the exponentials of a row share its maximum and sum.
    fn row_operation(&mut self, id: usize, at: &Coordinates) -> Result<Value, Obstacle> {
        let graph = self.graph;
        let operand = graph.operands[id][0];
        let op = &graph.nodes[id].op;
        let last = graph.shape(operand).rank() - 1;
        let kept =
            if matches!(op, Op::Softmax | Op::SoftmaxResidual) { at[..last].to_vec() } else { at.clone() };
        let full = self.full_coordinates(*graph.shape(operand), &[last], &kept);
        let value = self.operand(operand, full, None)?;
        let value = self.at_element_level(value);
        let max = self.shared(Code::LogSumExpMax(value), DType::F32, Level::Kept);
        let rest = self.shared(Code::LogSumExpRest(max), DType::F32, Level::Kept);
        let label = match graph.operands[id].get(1) {
            Some(&labels) => Some(self.operand(labels, kept, None)?),
            None => None,
        };
        Ok(match (op, label) {
            (Op::LogSumExp, _) => {
                let sum = self.row(Elementwise::Log1p, &[rest], id);
                self.row(Elementwise::Add, &[max, sum], id)
            }
            (Op::CrossEntropy, Some(index)) => {
                let picked = self.shared(Code::Pick { value, index }, DType::F32, Level::Kept);
                let sum = self.row(Elementwise::Log1p, &[rest], id);
                let gap = self.row(Elementwise::Sub, &[max, picked], id);
                let loss = self.row(Elementwise::Add, &[sum, gap], id);
                // A row of −inf: −inf − (−inf) is no number, the loss is +inf.
                let (infinite, negative) = (self.number(f64::INFINITY), self.number(f64::NEG_INFINITY));
                let empty = self.row(Elementwise::Eq, &[max, negative], id);
                self.row(Elementwise::Select, &[empty, infinite, loss], id)
            }
            (Op::Softmax, _) => {
                self.push_at(Code::Softmax { value, max, rest }, DType::F32, Level::Element, Some(id))
            }
            (Op::SoftmaxResidual, Some(label)) => self.push_at(
                Code::SoftmaxResidual { value, max, rest, label },
                DType::F32,
                Level::Element,
                Some(id),
            ),
            _ => return Err(internal("labels are missing", &graph.nodes[id])),
        })
    }

    /// The operands of a matrix product, as strided matrices.
    fn matmul(&mut self, id: usize) -> Result<Matmul, Obstacle> {
        let graph = self.graph;
        let [lhs, rhs] = graph.operands[id][..] else {
            return Err(internal("a product needs two operands", &graph.nodes[id]));
        };
        let shape = *graph.shape(id);
        let batch = shape[..shape.rank() - 2].to_vec();
        let (m, n) = (shape[shape.rank() - 2], shape[shape.rank() - 1]);
        let k = graph.shape(lhs)[shape.rank() - 1];
        let (lhs, rhs) = (self.matrix(lhs)?, self.matrix(rhs)?);
        let epilogue =
            Loop { kept: vec![], reduced: vec![], schedule: Schedule::Map, code: vec![], stores: vec![] };
        Ok(Matmul { batch, m, n, k, lhs, rhs, epilogue })
    }
    fn matrix(&mut self, id: usize) -> Result<Matrix, Obstacle> {
        let graph = self.graph;
        let shape = *graph.shape(id);
        let base = walk(graph, id, access::identity(&shape), &shape);
        let usable = |l: &Affine| {
            let [.., row, column] = l.strides[..] else { return false };
            let [.., rows, columns] = shape[..] else { return false };
            let unit = rows == 1
                || columns == 1
                || row == 1 && column >= to_i64(rows)
                || column == 1 && row >= to_i64(columns);
            unit && l.offset >= 0 && l.strides.iter().all(|&s| s >= 0)
        };
        match base.linear {
            Some(index)
                if usable(&index)
                    && graph.roles[base.node] != Role::Free
                    && graph.nodes[base.node].dtype == DType::F32 =>
            {
                let (binding, offset) = self.read(base.node)?;
                let strides: Vec<usize> =
                    index.strides.iter().map(|&s| usize::try_from(s).unwrap_or(0)).collect();
                let rank = shape.rank();
                // A dimension of length 1 has no distance; give it one that keeps the matrix well formed.
                let row = if shape[rank - 2] == 1 { shape[rank - 1].max(1) } else { strides[rank - 2] };
                let column = if shape[rank - 1] == 1 { 1 } else { strides[rank - 1] };
                let offset = offset + usize::try_from(index.offset).unwrap_or(0);
                Ok(Matrix { binding, offset, batch: strides[..rank - 2].to_vec(), row, column })
            }
            _ => Err(Obstacle::Copy(base.blocked.unwrap_or(id))),
        }
    }

    fn scan(mut self, id: usize) -> Result<Kernel, Obstacle> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let Op::CumulativeSum { axis, reverse } = node.op else { return Err(internal("not a scan", node)) };
        let operand = graph.operands[id][0];
        let base = walk(graph, operand, access::identity(&node.shape), &node.shape);
        let row_major = Affine::row_major(&node.shape);
        let contiguous = |l: &Affine| {
            (0..node.shape.rank()).all(|d| node.shape[d] == 1 || l.strides[d] == row_major.strides[d])
        };
        let Some(index) = base.linear.filter(|l| contiguous(l) && graph.roles[base.node] != Role::Free)
        else {
            return Err(Obstacle::Copy(base.blocked.unwrap_or(operand)));
        };
        let (input, inside) = self.read(base.node)?;
        let (buffer, output_offset) = self.draft.places[&id];
        let output = self.bind(buffer, Access::Write, node.dtype);
        let body = Body::Scan(Scan {
            outer: node.shape[..axis].iter().product(),
            length: node.shape[axis],
            inner: node.shape[axis + 1..].iter().product(),
            reverse,
            input,
            input_offset: inside + usize::try_from(index.offset).unwrap_or(0),
            output,
            output_offset,
        });
        let writes = vec![Place { node: node.clone(), buffer, offset: output_offset }];
        let (location, bindings, reads) = (node.location, self.bindings, self.reads);
        Ok(Kernel { name: "cumulative_sum".into(), location, bindings, body, reads, writes })
    }
}

fn matmul_node(group: &Group) -> usize {
    match group.kind {
        Kind::Matmul(id) => id,
        Kind::Loop | Kind::Scan(_) | Kind::User(_) | Kind::Assemble(_) => 0,
    }
}
