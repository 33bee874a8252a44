//! The graph in the form the planner works on: rules expanded, equal subexpressions merged, nodes numbered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cotangent_tensor::{
    Class, DType, Elementwise, Error, Node, Op, Reduce, Scalar, Shape, expand, placeholder_error, topological,
};

use super::loops;
use super::recurrence::Loops;

/// What a node means for planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// No elements: no buffer, no kernel.
    Empty,
    /// Computed from nothing wherever it is needed: constants and coordinates.
    Free,
    /// Other coordinates for its operand.
    View,
    /// A buffer that exists before the plan runs.
    Source,
    /// So cheap that every kernel that needs it computes it again: truth values, and products that are summed at once.
    Inline,
    /// Computed by exactly one kernel.
    Compute,
    /// A concatenation whose parts are written into their places by the kernels that compute them.
    Assemble,
}

/// Nodes in topological order, by number.
#[derive(Debug)]
pub(super) struct Graph {
    pub nodes: Vec<Arc<Node>>,
    pub operands: Vec<Vec<usize>>,
    pub users: Vec<Vec<usize>>,
    pub roles: Vec<Role>,
    /// Nodes whose value must lie in a buffer when the plan has run.
    pub outputs: Vec<usize>,
    /// Variable node and new value.
    pub updates: Vec<(usize, usize)>,
    /// For each assembled concatenation: its parts. Ordered, so that plans are the same in every process.
    pub parts: BTreeMap<usize, Vec<Part>>,
    /// Nodes that are computed before anything is computed from these.
    pub waits: HashMap<usize, Vec<usize>>,
    /// Loops as code.
    pub loops: Loops,
    /// Copies that share a kernel with nothing, so that they read nothing but what they copy.
    pub alone: HashSet<usize>,
}

/// A computed node that is written into its place in a concatenation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The node.
    pub node: usize,
    /// Its first element.
    pub offset: usize,
    /// Number of the part among all parts of the graph, the same each time the graph is built.
    pub number: usize,
}

/// Equal keys compute equal values.
pub(super) fn key(node: &Node, operands: &[usize]) -> (Vec<u64>, Shape, u8) {
    let signed = |v: isize| v as u64;
    let mut words: Vec<u64> = match &node.op {
        Op::Leaf(array) => vec![0, Arc::as_ptr(array) as u64],
        Op::Constant(Scalar::Float(v)) => vec![1, v.to_bits()],
        Op::Constant(other) => vec![2, u64::from(other.to_word())],
        Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) => vec![3, token.id],
        Op::Iota { axis } => vec![4, *axis as u64],
        Op::RandomBits(k) => vec![5, k.seed, k.stream],
        Op::Elementwise(row) => vec![6, *row as u64],
        Op::Integer(row) => vec![7, *row as u64],
        Op::Cast => vec![8],
        Op::Reshape => vec![9],
        Op::Permute(axes) => std::iter::once(10).chain(axes.iter().map(|&a| a as u64)).collect(),
        Op::Broadcast => vec![11],
        Op::Slice { starts, steps } => std::iter::once(12)
            .chain(starts.iter().map(|&s| s as u64))
            .chain(steps.iter().map(|&s| signed(s)))
            .collect(),
        Op::Pad { low, high } => {
            std::iter::once(13).chain(low.iter().chain(high).map(|&p| p as u64)).collect()
        }
        Op::Concat(axis) => vec![14, *axis as u64],
        Op::Reduce { kind, axes } => {
            [15, *kind as u64].into_iter().chain(axes.iter().map(|&a| a as u64)).collect()
        }
        Op::ArgReduce { maximum, axis } => vec![16, u64::from(*maximum), *axis as u64],
        Op::CumulativeSum { axis, reverse } => vec![17, *axis as u64, u64::from(*reverse)],
        Op::Matmul => vec![18],
        Op::Gather(axis) => vec![19, *axis as u64],
        Op::ScatterAdd(axis) => vec![20, *axis as u64],
        Op::LogSumExp => vec![21],
        Op::Softmax => vec![22],
        Op::CrossEntropy => vec![23],
        Op::SoftmaxResidual => vec![24],
        Op::Detach | Op::Inspect(_) => vec![25],
        Op::Rule(rule) => vec![26, Arc::as_ptr(rule) as u64],
        Op::Project(index) => vec![27, *index as u64],
        Op::After => vec![28],
        Op::While(looped, output) => vec![29, Arc::as_ptr(looped) as u64, *output as u64],
        Op::Kernel(kernel) => vec![30, Arc::as_ptr(kernel) as u64],
    };
    words.push(u64::MAX);
    words.extend(operands.iter().map(|&o| o as u64));
    (words, node.shape, node.dtype as u8)
}

/// Builds nodes by number, merging equal ones.
#[derive(Default)]
pub(super) struct Merger {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) operands: Vec<Vec<usize>>,
    pub(super) loops: Loops,
    known: HashMap<(Vec<u64>, Shape, u8), usize>,
    parts: BTreeMap<usize, Vec<Part>>,
    placed: HashSet<usize>,
    /// Numbers of parts that must be copied into place.
    copied: HashSet<usize>,
    alone: HashSet<usize>,
    waits: HashMap<usize, Vec<usize>>,
    part_count: usize,
    /// Products that the sums over them compute where they need them.
    inlined: HashSet<usize>,
}

impl Merger {
    fn insert(&mut self, node: &Arc<Node>, operands: Vec<usize>) -> usize {
        let key = key(node, &operands);
        if let Some(&id) = self.known.get(&key) {
            return id;
        }
        let rebuilt: Vec<Arc<Node>> = operands.iter().map(|&o| self.nodes[o].clone()).collect();
        let same = rebuilt.len() == node.operands.len()
            && rebuilt.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b));
        self.nodes.push(if same { node.clone() } else { node.with_operands(rebuilt) });
        self.operands.push(operands);
        self.known.insert(key, self.nodes.len() - 1);
        self.nodes.len() - 1
    }
    fn like(&mut self, node: &Node, op: Op, operands: Vec<usize>) -> usize {
        self.made(node, op, node.shape, operands)
    }
    /// A node of another shape on behalf of `node`.
    fn made(&mut self, node: &Node, op: Op, shape: Shape, operands: Vec<usize>) -> usize {
        let nodes = operands.iter().map(|&o| self.nodes[o].clone()).collect();
        let Node { dtype, location, .. } = *node;
        let (label, origin) = (node.label.clone(), node.origin.clone());
        let new = Arc::new(Node { op, operands: nodes, shape, dtype, location, label, origin });
        self.insert(&new, operands)
    }
    fn constant(&mut self, node: &Node, value: f64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "0 or 1")]
        let scalar = match node.dtype {
            DType::F32 | DType::F16 => Scalar::Float(value),
            DType::I32 => Scalar::Int(value as i32),
            DType::U32 => Scalar::Uint(value as u32),
            DType::Bool => Scalar::Bool(value != 0.0),
        };
        self.like(node, Op::Constant(scalar), vec![])
    }
    fn number(&self, id: usize) -> Option<f64> {
        if let Op::Constant(Scalar::Float(v)) = self.nodes[id].op { Some(v) } else { None }
    }
    fn is_one(&self, id: usize) -> bool {
        matches!(self.nodes[id].op, Op::Constant(Scalar::Float(v)) if v.to_bits() == 1f64.to_bits())
    }
    /// The number of a node whose operands are known, after exact simplifications.
    pub(super) fn add(
        &mut self,
        node: &Arc<Node>,
        operands: Vec<usize>,
        widest_concat: usize,
    ) -> Result<usize, Error> {
        let empty = |m: &Merger, o: usize| m.nodes[o].shape.elements() == 0;
        let waits = matches!(node.op, Op::After);
        if node.shape.elements() > 0 && !waits && operands.iter().any(|&o| empty(self, o)) {
            return Ok(match &node.op {
                Op::Reduce { kind: Reduce::Prod, .. } => self.constant(node, 1.0),
                Op::Concat(axis) => {
                    let filled = operands.into_iter().filter(|&o| !empty(self, o)).collect();
                    self.concat(node, *axis, filled, widest_concat)
                }
                Op::Gather(_) | Op::CrossEntropy => {
                    let error = cotangent_tensor::index_error(node.name(), 0, 0.0, 0);
                    return Err(error.at(node.location));
                }
                _ => self.constant(node, 0.0),
            });
        }
        Ok(match (&node.op, &operands[..]) {
            (Op::Reshape | Op::Permute(_) | Op::Broadcast | Op::Slice { .. }, &[o])
                if matches!(self.nodes[o].op, Op::Constant(_)) =>
            {
                let op = self.nodes[o].op.clone();
                self.like(node, op, vec![])
            }
            (Op::Reshape, &[o]) if self.nodes[o].shape == node.shape => o,
            (Op::Reshape, &[o])
                if matches!(self.nodes[o].op, Op::Reshape) && !self.waits.contains_key(&o) =>
            {
                let inner = self.operands[o][0];
                if self.nodes[inner].shape == node.shape {
                    inner
                } else {
                    self.like(node, Op::Reshape, vec![inner])
                }
            }
            (Op::While(looped, output), _) => {
                let op = Op::While(self.loops.canonical(looped)?, *output);
                self.like(node, op, operands)
            }
            (Op::After, &[o, ..]) => self.after(node, o, &operands),
            (Op::Concat(axis), _) => self.concat(node, *axis, operands, widest_concat),
            (Op::Matmul, &[a, b]) => {
                self.unit_product(node, a, b).unwrap_or_else(|| self.insert(node, operands))
            }
            (Op::Elementwise(row), _)
                if row.class() == Class::Real && operands.iter().all(|&o| self.number(o).is_some()) =>
            {
                let numbers: Vec<f64> = operands.iter().filter_map(|&o| self.number(o)).collect();
                self.constant(node, row.eval(&numbers))
            }
            (Op::Elementwise(row), &[a, ref others @ ..]) if node.dtype.is_float() => {
                match self.same_number(node, *row, a, others.first().copied()) {
                    Some(same) => same,
                    None => self.insert(node, operands),
                }
            }
            _ => self.insert(node, operands),
        })
    }
    /// Another form of an operation that gives the same number, bit by bit but for the sign of NaN. Signs of products move
    /// outwards, where they meet others or are taken up by a sum.
    fn same_number(&mut self, node: &Node, row: Elementwise, a: usize, b: Option<usize>) -> Option<usize> {
        use Elementwise::{Abs, Add, Div, Mul, Neg, Sub};
        let b_or_a = b.unwrap_or(a);
        let (less_a, less_b) = (self.negated(a), self.negated(b_or_a));
        let product = |merger: &Merger, id: usize| {
            let id = merger.negated(id)?;
            matches!(merger.nodes[id].op, Op::Elementwise(Mul | Div)).then_some(id)
        };
        let (product_a, product_b) = (product(self, a), product(self, b_or_a));
        let b = b_or_a;
        Some(match row {
            Neg => less_a?,
            Mul | Div if self.is_one(b) => a,
            Mul if self.is_one(a) => b,
            // Compilers of shaders take the difference of a value with itself for zero, NaN or not.
            Sub if a == b => {
                let size = self.like(node, Op::Elementwise(Abs), vec![a]);
                let zero = self.constant(node, 0.0);
                self.like(node, Op::Elementwise(Mul), vec![size, zero])
            }
            Sub if less_b.is_some() => self.row(node, Add, a, less_b?),
            Add if less_b.is_some() => self.row(node, Sub, a, less_b?),
            Add if less_a.is_some() => self.row(node, Sub, b, less_a?),
            Mul | Div if product_a.is_some() || product_b.is_some() => {
                let [bare_a, bare_b] = [product_a.unwrap_or(a), product_b.unwrap_or(b)];
                if product_a.is_some() == product_b.is_some() {
                    self.row(node, row, bare_a, bare_b)
                } else {
                    // the name is that of the result, not of its negative
                    let Node { shape, dtype, location, .. } = *node;
                    let (op, origin) = (node.op.clone(), node.origin.clone());
                    let unnamed = Node { op, operands: vec![], shape, dtype, location, label: None, origin };
                    let size = self.row(&unnamed, row, bare_a, bare_b);
                    self.like(node, Op::Elementwise(Neg), vec![size])
                }
            }
            _ => return None,
        })
    }
    /// What a value is the negative of.
    fn negated(&self, id: usize) -> Option<usize> {
        matches!(self.nodes[id].op, Op::Elementwise(Elementwise::Neg)).then(|| self.operands[id][0])
    }
    /// A row with two operands, simplified.
    fn row(&mut self, node: &Node, row: Elementwise, a: usize, b: usize) -> usize {
        let simple = self.same_number(node, row, a, Some(b));
        simple.unwrap_or_else(|| self.like(node, Op::Elementwise(row), vec![a, b]))
    }
    /// The same elements, for whoever must not be computed before others are known: a view that is merged with none but its like.
    fn after(&mut self, node: &Arc<Node>, o: usize, operands: &[usize]) -> usize {
        let is_known =
            |o: &usize| matches!(self.nodes[*o].op, Op::Constant(_)) || self.nodes[*o].shape.elements() == 0;
        if is_known(&o) || operands[1..].iter().all(is_known) {
            return o;
        }
        let key = key(node, operands);
        if let Some(&id) = self.known.get(&key) {
            return id;
        }
        let mut view = node.with_operands(vec![self.nodes[o].clone()]);
        if let Some(own) = Arc::get_mut(&mut view) {
            own.op = Op::Reshape;
        }
        self.nodes.push(view);
        self.operands.push(vec![o]);
        let id = self.nodes.len() - 1;
        self.waits.insert(id, operands[1..].to_vec());
        self.known.insert(key, id);
        id
    }
    /// The softmax of rows so long that many workgroups share one: maximum and sum of each row first, then a map.
    fn long_softmax(&mut self, node: &Node, x: usize) -> usize {
        let last = node.shape.rank() - 1;
        let rows = Shape::new(&node.shape[..last]).unwrap_or(node.shape);
        let thin = Shape::new(&[&node.shape[..last], &[1]].concat()).unwrap_or(node.shape);
        let row = Op::Elementwise;
        let reduced = |kind: Reduce| Op::Reduce { kind, axes: vec![last] };
        let maximum = self.made(node, reduced(Reduce::Max), rows, vec![x]);
        // A row of −inf has no softmax: centered at 0 its exponentials vanish, and so does the quotient.
        let lowest = self.made(node, Op::Constant(Scalar::Float(f64::NEG_INFINITY)), rows, vec![]);
        let zero = self.made(node, Op::Constant(Scalar::Float(0.0)), rows, vec![]);
        let one = self.made(node, Op::Constant(Scalar::Float(1.0)), rows, vec![]);
        let is_empty = self.truth(node, Elementwise::Eq, rows, vec![maximum, lowest]);
        let center = self.made(node, row(Elementwise::Select), rows, vec![is_empty, zero, maximum]);
        let wide = |merger: &mut Merger, value: usize| {
            let value = merger.made(node, Op::Reshape, thin, vec![value]);
            merger.made(node, Op::Broadcast, node.shape, vec![value])
        };
        let center = wide(self, center);
        let gap = self.made(node, row(Elementwise::Sub), node.shape, vec![x, center]);
        let power = self.made(node, row(Elementwise::Exp), node.shape, vec![gap]);
        let sum = self.made(node, reduced(Reduce::Sum), rows, vec![power]);
        let divisor = self.made(node, row(Elementwise::Select), rows, vec![is_empty, one, sum]);
        let divisor = wide(self, divisor);
        self.like(node, row(Elementwise::Div), vec![power, divisor])
    }
    fn truth(&mut self, node: &Node, test: Elementwise, shape: Shape, operands: Vec<usize>) -> usize {
        let nodes = operands.iter().map(|&o| self.nodes[o].clone()).collect();
        let (op, dtype, location) = (Op::Elementwise(test), DType::Bool, node.location);
        let origin = node.origin.clone();
        let new = Arc::new(Node { op, operands: nodes, shape, dtype, location, label: None, origin });
        self.insert(&new, operands)
    }
    /// A matrix product with an extent of 1 as elementwise products and their sums, which fuse with what is around them:
    /// outer products, products with vectors, gradients of a layer with one input or output.
    fn unit_product(&mut self, node: &Node, a: usize, b: usize) -> Option<usize> {
        let (rank, [.., m, n]) = (node.shape.rank(), &node.shape[..]) else { return None };
        let (m, n, k) = (*m, *n, *self.nodes[a].shape.last()?);
        let (batch, mul) = (&node.shape[..rank - 2], Op::Elementwise(Elementwise::Mul));
        let shape = |rows: usize, columns: usize| Shape::new(&[batch, &[rows, columns]].concat()).ok();
        if k == 1 {
            let operands = [a, b].map(|o| self.made(node, Op::Broadcast, node.shape, vec![o]));
            return Some(self.made(node, mul, node.shape, operands.to_vec()));
        }
        // The matrix, and the vector that lies along its inner extent.
        let (matrix, vector, other, row) = match (m, n) {
            (_, 1) => (a, b, m, true),
            (1, _) => (b, a, n, false),
            _ => return None,
        };
        // The loop runs over the matrix as it lies in memory, not across it.
        let is_turned =
            matches!(&self.nodes[matrix].op, Op::Permute(axes) if axes.last() != Some(&(rank - 1)));
        let along = row != is_turned;
        let turn = || Op::Permute((0..rank - 2).chain([rank - 1, rank - 2]).collect());
        let (full, thin) =
            if along { (shape(other, k)?, shape(1, k)?) } else { (shape(k, other)?, shape(k, 1)?) };
        let matrix = if is_turned { self.made(node, turn(), full, vec![matrix]) } else { matrix };
        let vector = if along == row { self.made(node, turn(), thin, vec![vector]) } else { vector };
        let vector = self.made(node, Op::Broadcast, full, vec![vector]);
        let product = self.made(node, mul, full, vec![matrix, vector]);
        self.inlined.insert(product);
        let axis = if along { rank - 1 } else { rank - 2 };
        let sums = Shape::new(&[batch, &[other]].concat()).ok()?;
        let sum = Op::Reduce { kind: Reduce::Sum, axes: vec![axis] };
        let sum = self.made(node, sum, sums, vec![product]);
        Some(self.made(node, Op::Reshape, node.shape, vec![sum]))
    }
    /// A concatenation; one with many parts that lie inside an axis becomes a tree, so that kernels stay within binding limits.
    fn concat(&mut self, node: &Arc<Node>, axis: usize, mut parts: Vec<usize>, widest: usize) -> usize {
        let outermost = node.shape[..axis].iter().all(|&d| d == 1);
        while parts.len() > widest && !outermost {
            let mut joined = Vec::new();
            for chunk in parts.chunks(widest) {
                let mut dims = node.shape.to_vec();
                dims[axis] = chunk.iter().map(|&p| self.nodes[p].shape[axis]).sum();
                let shape = Shape::new(&dims).unwrap_or(node.shape);
                let part = Node {
                    op: Op::Concat(axis),
                    operands: vec![],
                    shape,
                    dtype: node.dtype,
                    location: node.location,
                    label: None,
                    origin: node.origin.clone(),
                };
                joined.push(if let [single] = chunk {
                    *single
                } else {
                    self.like(&part, Op::Concat(axis), chunk.to_vec())
                });
            }
            parts = joined;
        }
        if let [single] = parts[..] {
            return single;
        }
        if !outermost || node.dtype == DType::F16 {
            return self.like(node, Op::Concat(axis), parts);
        }
        if let Some(&known) = self.known.get(&key(node, &parts)) {
            return known;
        }
        let inner: usize = node.shape[axis + 1..].iter().product();
        let (mut ranges, mut start) = (Vec::new(), 0);
        for part in &mut parts {
            let length = self.nodes[*part].shape[axis] * inner;
            let number = self.part_count;
            self.part_count += 1;
            let node = self.part(*part).filter(|_| !self.copied.contains(&number)).unwrap_or_else(|| {
                // A copy of its own, not merged with equal ones: each copy has one place.
                let copied = &self.nodes[*part];
                let (op, operands) = (Op::Cast, vec![copied.clone()]);
                let Node { shape, dtype, location, .. } = **copied;
                let origin = copied.origin.clone();
                self.nodes.push(Arc::new(Node { op, operands, shape, dtype, location, label: None, origin }));
                self.operands.push(vec![*part]);
                *part = self.nodes.len() - 1;
                if self.copied.contains(&number) {
                    self.alone.insert(*part);
                }
                *part
            });
            self.placed.insert(node);
            ranges.push(Part { node, offset: start, number });
            start += length;
        }
        let id = self.like(node, Op::Concat(axis), parts);
        self.parts.insert(id, ranges);
        id
    }
    /// The computed node whose elements a part of a concatenation consists of, if it can be computed into its place.
    /// Zeros after a one-dimensional part need no kernel: the storage of an assembled node is zero and never shared.
    fn part(&self, part: usize) -> Option<usize> {
        let mut base = part;
        loop {
            base = match &self.nodes[base].op {
                Op::Reshape => self.operands[base][0],
                Op::Pad { low, .. } if low[..] == [0] && base == part => self.operands[base][0],
                _ => break,
            };
        }
        // The results of a user's kernel have a buffer of their own.
        let computed = role(&self.nodes[base]) == Role::Compute
            && !matches!(self.nodes[base].op, Op::Kernel(_))
            && !self.parts.contains_key(&base);
        (computed && !self.placed.contains(&base)).then_some(base)
    }
}

impl Graph {
    pub(super) fn new(
        outputs: &[Arc<Node>],
        updates: &[(Arc<Node>, Arc<Node>)],
        widest_concat: usize,
        copied_parts: &HashSet<usize>,
        fits_row: impl Fn(&Shape) -> bool,
    ) -> Result<Graph, Error> {
        let roots =
            outputs.iter().cloned().chain(updates.iter().flat_map(|(v, n)| [v.clone(), n.clone()])).collect();
        let roots = loops::joined(expand(roots).roots)?;
        let mut merger = Merger { copied: copied_parts.clone(), ..Merger::default() };
        let mut id: HashMap<*const Node, usize> = HashMap::new();
        for node in topological(&roots) {
            if matches!(node.op, Op::Rule(_)) {
                continue;
            }
            if matches!(node.op, Op::Placeholder(_)) {
                return Err(placeholder_error(&node));
            }
            let operands: Vec<usize> = node.operands.iter().map(|o| id[&o.key()]).collect();
            let new = match operands[..] {
                [x] if matches!(node.op, Op::Softmax)
                    && node.shape.elements() > 0
                    && !fits_row(&node.shape) =>
                {
                    merger.long_softmax(&node, x)
                }
                _ => merger.add(&node, operands, widest_concat)?,
            };
            id.insert(node.key(), new);
        }
        let ids: Vec<usize> = roots.iter().map(|r| id[&r.key()]).collect();
        let (outputs, rest) = ids.split_at(outputs.len());
        let mut graph = Graph {
            roles: roles(&merger),
            users: vec![Vec::new(); merger.nodes.len()],
            nodes: merger.nodes,
            operands: merger.operands,
            outputs: outputs.to_vec(),
            updates: rest.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
            parts: merger.parts,
            alone: merger.alone,
            waits: merger.waits,
            loops: merger.loops,
        };
        graph.drop_unreachable();
        graph.inline_factors();
        for (&id, parts) in &graph.parts {
            if graph.roles[id] == Role::Compute {
                graph.roles[id] = Role::Assemble;
                // Padding of a part that nobody else reads is the zero storage of the assembled node.
                for position in 0..parts.len() {
                    let operand = graph.operands[id][position];
                    let is_result =
                        graph.outputs.contains(&operand) || graph.updates.iter().any(|u| u.1 == operand);
                    let is_read = is_result || graph.users[operand] != [id];
                    if matches!(graph.nodes[operand].op, Op::Pad { .. }) && !is_read {
                        graph.roles[operand] = Role::Empty;
                    }
                }
            }
        }
        Ok(graph)
    }
    /// Fills `users`, counting only nodes that an output needs.
    fn drop_unreachable(&mut self) {
        let mut needed = vec![false; self.nodes.len()];
        for &root in self.outputs.iter().chain(self.updates.iter().flat_map(|(v, n)| [v, n])) {
            needed[root] = true;
        }
        for id in (0..self.nodes.len()).rev() {
            if !needed[id] {
                self.roles[id] = Role::Empty;
                continue;
            }
            for &operand in &self.operands[id] {
                needed[operand] = true;
                // Users come one after the other.
                if self.users[operand].last() != Some(&id) {
                    self.users[operand].push(id);
                }
            }
        }
    }
    /// Factors of derivatives, such as `1 − y²` for `y = tanh x`, are not stored beside the value that they are made of: whoever
    /// needs one reads that value instead, and takes a few operations.
    fn inline_factors(&mut self) {
        let values = self.updates.iter().map(|update| update.1);
        let results: HashSet<usize> = self.outputs.iter().copied().chain(values).collect();
        let elementwise = |id: usize| matches!(self.nodes[id].op, Op::Elementwise(_));
        // The value that a factor is made of, and how many operations lie between them.
        let mut made_of: HashMap<usize, (usize, usize)> = HashMap::new();
        for id in 0..self.nodes.len() {
            let node = &self.nodes[id];
            let is_pointwise = |&user: &usize| elementwise(user) && self.nodes[user].shape == node.shape;
            if self.roles[id] != Role::Compute
                || !is_cheap(node)
                || node.origin.order == 0
                || results.contains(&id)
            {
                continue;
            }
            if !self.users[id].iter().all(is_pointwise) {
                continue;
            }
            let mut base = None;
            let mut depth = 0;
            let alike = self.operands[id].iter().all(|&operand| {
                let (of, below) = match (self.roles[operand], made_of.get(&operand)) {
                    (Role::Free, _) => return true,
                    (_, Some(&known)) => known,
                    (Role::Compute | Role::Source, None)
                        if self.nodes[operand].origin.order < node.origin.order
                            || !is_cheap(&self.nodes[operand]) =>
                    {
                        (operand, 0)
                    }
                    _ => return false,
                };
                depth = depth.max(below + 1);
                *base.get_or_insert(of) == of && self.nodes[of].shape == node.shape
            });
            if let (true, Some(base), true) = (alike, base, depth <= INLINE_DEPTH) {
                made_of.insert(id, (base, depth));
            }
        }
        made_of.into_keys().for_each(|id| self.roles[id] = Role::Inline);
    }
    pub(super) fn shape(&self, id: usize) -> &Shape {
        &self.nodes[id].shape
    }
}

/// Whether a value takes one operation that every processor does at once.
fn is_cheap(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Elementwise(Elementwise::Add | Elementwise::Sub | Elementwise::Mul | Elementwise::Neg)
    )
}

/// Chains of cheap values deeper than this are stored after all.
const INLINE_DEPTH: usize = 4;

fn roles(merger: &Merger) -> Vec<Role> {
    let Merger { nodes, operands, inlined, .. } = merger;
    let mut depth = vec![0; nodes.len()];
    let mut roles: Vec<Role> = nodes.iter().map(|n| role(n)).collect();
    for id in 0..nodes.len() {
        depth[id] = operands[id].iter().map(|&o| depth[o]).max().unwrap_or(0);
        let cheap = inlined.contains(&id)
            || matches!(nodes[id].op, Op::Elementwise(row) if matches!(row.class(), Class::Test | Class::Logic));
        if cheap && depth[id] < INLINE_DEPTH && roles[id] == Role::Compute {
            roles[id] = Role::Inline;
            depth[id] += 1;
        } else if roles[id] != Role::View {
            depth[id] = 0;
        }
    }
    roles
}

fn role(node: &Node) -> Role {
    if node.shape.elements() == 0 {
        return Role::Empty;
    }
    match node.op {
        Op::Leaf(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => Role::Source,
        Op::Constant(_) | Op::Iota { .. } => Role::Free,
        Op::Reshape | Op::Permute(_) | Op::Broadcast | Op::Slice { .. } => Role::View,
        Op::RandomBits(_)
        | Op::Elementwise(_)
        | Op::Integer(_)
        | Op::Cast
        | Op::While(..)
        | Op::Pad { .. }
        | Op::Concat(_) => Role::Compute,
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::CumulativeSum { .. } | Op::Matmul | Op::Gather(_) => {
            Role::Compute
        }
        Op::ScatterAdd(_)
        | Op::LogSumExp
        | Op::Softmax
        | Op::CrossEntropy
        | Op::SoftmaxResidual
        | Op::Kernel(_) => Role::Compute,
        Op::Detach | Op::Inspect(_) | Op::After | Op::Rule(_) | Op::Project(_) => Role::Empty,
    }
}
