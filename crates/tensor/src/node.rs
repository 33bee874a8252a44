//! The graph: immutable nodes under reference counts, and the passes that walk them without recursion.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::address::{AddressMap, AddressSet};
use crate::{Array, DType, Elementwise, Integer, Scalar, Shape, TracedRule, UserKernel, WhileLoop};

/// What a node computes from its operands. Closed: every pass is an exhaustive `match`.
///
/// Operands of elementwise operations have equal shapes; broadcasting is a node of its own.
#[derive(Clone, Debug)]
pub enum Op {
    /// Host data.
    Leaf(Arc<Array>),
    /// One number, once per element.
    Constant(Scalar),
    /// A value given when the graph is run.
    Input(Arc<Token>),
    /// The value of named storage of a device when the run starts. The storage is flat; the token says which part.
    Variable(Arc<Token>),
    /// Stands for an operand or an upstream cotangent inside a [`TracedRule`].
    Placeholder(Arc<Token>),
    /// The coordinate along an axis, as I32.
    Iota {
        /// The axis that counts.
        axis: usize,
    },
    /// Random words (U32) of a key. Operand: the step counter, a U32 scalar.
    RandomBits(Key),
    /// One value per element, from floats and truth values.
    Elementwise(Elementwise),
    /// One value per element, from integers. The operand type stands in the last operand.
    Integer(Integer),
    /// Conversion to the element type of the node. Float to integer saturates and maps NaN to 0.
    Cast,
    /// One of the carried values, by number, when a loop has ended that every element runs by itself. Operands: the initial state, then
    /// what the loop captures.
    While(Arc<WhileLoop>, usize),
    /// The same elements in row-major order under another shape.
    Reshape,
    /// Result axis `i` is operand axis `axes[i]`.
    Permute(Vec<usize>),
    /// NumPy broadcasting to the shape of the node.
    Broadcast,
    /// Element `i` along each axis is operand element `start + step · i`; steps may be negative.
    Slice {
        /// First element along each axis.
        starts: Vec<usize>,
        /// Distance along each axis; never 0.
        steps: Vec<isize>,
    },
    /// Zeros (false) before and after along each axis.
    Pad {
        /// Elements before.
        low: Vec<usize>,
        /// Elements after.
        high: Vec<usize>,
    },
    /// Operands one after the other along an axis.
    Concat(usize),
    /// Reduction over axes, which disappear.
    Reduce {
        /// How elements combine.
        kind: Reduce,
        /// Sorted axes of the operand.
        axes: Vec<usize>,
    },
    /// Index (I32) of the first extreme element along an axis, which disappears; the first NaN if there is one.
    ArgReduce {
        /// Maximum or minimum.
        maximum: bool,
        /// The axis of the operand.
        axis: usize,
    },
    /// Inclusive running sum along an axis.
    CumulativeSum {
        /// The axis.
        axis: usize,
        /// From the end towards the start.
        reverse: bool,
    },
    /// `[batch…, m, k] × [batch…, k, n] → [batch…, m, n]`, equal batch dimensions.
    Matmul,
    /// Operands: data, indices (one-dimensional integers). Slices of the data along an axis, one per index.
    Gather(usize),
    /// Operands: indices (one-dimensional), updates. Sum of the updates with each index along an axis.
    ScatterAdd(usize),
    /// `log Σ exp` over the last axis; −inf for a row of −inf. Like its three relatives below, NaN for a row that holds
    /// NaN or +inf.
    LogSumExp,
    /// Softmax over the last axis; zeros for a row of −inf.
    Softmax,
    /// Operands: logits `[…, classes]`, labels `[…]`. `logsumexp(logits) − logits[label]` in the form that keeps
    /// confident rows accurate.
    CrossEntropy,
    /// Operands as [`Op::CrossEntropy`]: `softmax(logits) − onehot(label)`, without cancellation at the label.
    SoftmaxResidual,
    /// The operand, with no gradient.
    Detach,
    /// The operand, marked to be collected under a label when the graph is evaluated.
    Inspect(Arc<str>),
    /// The first operand, not before the others are known: what is computed from it is computed late, and again.
    After,
    /// A compute kernel of the user's: its outputs one after the other, or the only one as it is. No derivative of its own.
    Kernel(Arc<UserKernel>),
    /// A custom rule: all its outputs as a tuple. Private to [`Op::Project`].
    Rule(Arc<TracedRule>),
    /// One output of the rule that is the operand.
    Project(usize),
}

/// How a reduction combines elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Sum; 0 for none.
    Sum,
    /// Product; 1 for none.
    Prod,
    /// Largest; NaN if any is.
    Max,
    /// Smallest; NaN if any is.
    Min,
}

impl Reduce {
    /// Every reduction.
    pub const ALL: &[Reduce] = &[Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min];
    /// The name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Reduce::Sum => "sum",
            Reduce::Prod => "prod",
            Reduce::Max => "max",
            Reduce::Min => "min",
        }
    }
}

/// Identity of a value that is not in the graph: an input, a variable, a placeholder. Unique in the process.
#[derive(Debug)]
pub struct Token {
    /// Process-wide number, never reused.
    pub id: u64,
    /// The device that owns it; 0 for none.
    pub device: u64,
    /// The user's name for it.
    pub name: String,
    /// Of an argument of a traced function: gone when the tracing is over.
    scope: Option<Weak<()>>,
    /// Of the storage of several variables: their names are names of its parts.
    pub is_shared: bool,
}

static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

impl Token {
    /// A new identity.
    pub fn new(name: impl Into<String>, device: u64) -> Arc<Token> {
        // The only counter of the crate; it orders nothing that a result could depend on.
        Arc::new(Token::numbered(name.into(), device))
    }
    fn numbered(name: String, device: u64) -> Token {
        let id = NEXT_TOKEN.fetch_add(1, Ordering::Relaxed);
        Token { id, device, name, scope: None, is_shared: false }
    }
    /// An argument of a function that is being traced as long as `scope` lives.
    pub fn argument(name: impl Into<String>, scope: &Arc<()>) -> Arc<Token> {
        Arc::new(Token { scope: Some(Arc::downgrade(scope)), ..Token::numbered(name.into(), 0) })
    }
    /// The storage of several variables.
    pub fn shared(name: impl Into<String>, device: u64) -> Arc<Token> {
        Arc::new(Token { is_shared: true, ..Token::numbered(name.into(), device) })
    }
    /// Whether it is an argument of a function whose tracing is over: it stands for nothing any more.
    pub fn is_over(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.strong_count() == 0)
    }
}

/// Key of a random stream: the same key, step and shape give the same words on every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The seed.
    pub seed: u64,
    /// The stream within the seed.
    pub stream: u64,
}

impl Key {
    /// Stream 0 of a seed.
    pub fn new(seed: u64) -> Key {
        Key { seed, stream: 0 }
    }
    /// The stream of a name (FNV-1a hash of name and parent stream).
    pub fn stream(self, name: &str) -> Key {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ self.stream.rotate_left(17);
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Key { seed: self.seed, stream: hash }
    }
}

/// A node of the graph. Immutable; see [`Node::identity`].
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// From what.
    pub operands: Vec<Arc<Node>>,
    /// Shape of the result.
    pub shape: Shape,
    /// Element type of the result.
    pub dtype: DType,
    /// The user's line.
    pub location: &'static Location<'static>,
    /// The user's name for it, or a derived one such as `d_eta`.
    pub label: Option<Label>,
    /// Which part of the program it belongs to.
    pub origin: Origin,
}

/// Which part of a program a node belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// How many derivatives lie behind it: 0 for what needs none, 1 for a gradient and what is computed from it.
    pub order: u8,
    /// The rule whose graph it is a part of, such as ``rule `f` `` or ``gradient 0 of rule `f` ``.
    pub rule: Option<Arc<str>>,
    /// Whether it is computed again, or from what is: after [`Op::After`].
    pub again: bool,
}

fn order_of(operands: &[Arc<Node>]) -> u8 {
    operands.iter().map(|operand| operand.origin.order).max().unwrap_or(0)
}

fn is_again(operands: &[Arc<Node>]) -> bool {
    operands.iter().any(|operand| operand.origin.again)
}

impl Origin {
    /// Of what is computed from these.
    pub fn of(operands: &[Arc<Node>]) -> Origin {
        Origin { order: order_of(operands), rule: None, again: is_again(operands) }
    }
    /// Of what a derivative of this is made of.
    pub fn differentiated(&self) -> Origin {
        Origin { order: self.order.saturating_add(1), ..self.clone() }
    }
}

/// A name of a node. A node that was given a name is a copy of the one without it, and stays the same value.
#[derive(Clone)]
pub struct Label {
    text: Arc<str>,
    /// The node that got the name. Weak, so that nothing lives longer; its address is not used again before this is gone.
    origin: Option<Weak<Node>>,
}

impl Label {
    /// The name of `node`, or of what it is another name of.
    pub(crate) fn of(node: &Arc<Node>, text: &str) -> Label {
        let origin = node.label.as_ref().and_then(|label| label.origin.clone());
        Label { text: text.into(), origin: Some(origin.unwrap_or_else(|| Arc::downgrade(node))) }
    }
    /// The same text for another value.
    pub fn detached(&self) -> Label {
        Label { text: self.text.clone(), origin: None }
    }
}
impl Deref for Label {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}
impl From<&str> for Label {
    fn from(text: &str) -> Label {
        Label { text: text.into(), origin: None }
    }
}
impl From<String> for Label {
    fn from(text: String) -> Label {
        Label { text: text.into(), origin: None }
    }
}
impl From<Label> for Arc<str> {
    fn from(label: Label) -> Arc<str> {
        label.text
    }
}
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Node {
    /// The address as a key of maps that live no longer than the node.
    pub fn key(self: &Arc<Self>) -> *const Node {
        Arc::as_ptr(self)
    }
    /// Which value this is, as a key of maps that live no longer than the node: the same for a node and its copies under
    /// other names, and for all nodes of one input, variable or placeholder.
    pub fn identity(self: &Arc<Self>) -> *const () {
        if let Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) = &self.op {
            return Arc::as_ptr(token).cast();
        }
        let origin = self.label.as_ref().and_then(|label| label.origin.as_ref());
        origin.map_or_else(|| self.key().cast(), |origin| origin.as_ptr().cast())
    }
    /// The name that the user gave it, if any.
    pub fn given_name(&self) -> Option<&str> {
        let token = match &self.op {
            Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) => Some(&*token.name),
            _ => None,
        };
        self.label.as_deref().or(token)
    }
    /// The operands that its value is computed from: of [`Op::After`] the first, else all.
    pub fn sources(&self) -> &[Arc<Node>] {
        match self.op {
            Op::After => &self.operands[..1],
            _ => &self.operands,
        }
    }
    /// What the user calls it, else the name of the operation.
    pub fn called(&self) -> &str {
        self.label.as_deref().unwrap_or(self.name())
    }
    /// A short name of the operation, as messages and kernels print it.
    pub fn name(&self) -> &str {
        match &self.op {
            Op::Leaf(_) => "leaf",
            Op::Constant(_) => "constant",
            Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) => &token.name,
            Op::Iota { .. } => "iota",
            Op::RandomBits(_) => "random_bits",
            Op::Elementwise(row) => row.name(),
            Op::Integer(row) => row.name(),
            Op::Cast => "cast",
            Op::While(..) => "while",
            Op::Reshape => "reshape",
            Op::Permute(_) => "permute",
            Op::Broadcast => "broadcast",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Concat(_) => "concat",
            Op::Reduce { kind, .. } => kind.name(),
            Op::ArgReduce { maximum: true, .. } => "argmax",
            Op::ArgReduce { maximum: false, .. } => "argmin",
            Op::CumulativeSum { .. } => "cumulative_sum",
            Op::Matmul => "matmul",
            Op::Gather(_) => "gather",
            Op::ScatterAdd(_) => "scatter_add",
            Op::LogSumExp => "logsumexp",
            Op::Softmax => "softmax",
            Op::CrossEntropy => "cross_entropy",
            Op::SoftmaxResidual => "softmax_residual",
            Op::Detach => "detach",
            Op::Inspect(_) => "inspect",
            Op::After => "after",
            Op::Kernel(kernel) => &kernel.name,
            Op::Rule(rule) => &rule.name,
            Op::Project(_) => "project",
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name(), self.dtype, self.shape)
    }
}

// Dropping a deep chain must not recurse: nodes that this one owned alone are taken apart on an explicit stack, with the
// graphs of rules that they owned alone.
impl Drop for Node {
    fn drop(&mut self) {
        if self.operands.is_empty() {
            return;
        }
        let mut pending = Vec::new();
        self.dismantle(&mut pending);
        while let Some(node) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                node.dismantle(&mut pending);
            }
        }
    }
}

/// Nodes reachable from `roots`, operands before users, each once; does not enter rules.
pub fn topological<'a>(roots: impl IntoIterator<Item = &'a Arc<Node>>) -> Vec<Arc<Node>> {
    topological_until(roots, |_| false)
}

/// [`topological`] that does not look at the operands of nodes where `stop` holds.
pub fn topological_until<'a>(
    roots: impl IntoIterator<Item = &'a Arc<Node>>,
    stop: impl Fn(&Arc<Node>) -> bool,
) -> Vec<Arc<Node>> {
    // A node is pushed twice: once to visit its operands, once to be emitted after them.
    let mut seen: AddressSet<Node> = AddressSet::default();
    let mut order = Vec::new();
    let mut stack: Vec<(Arc<Node>, bool)> = roots.into_iter().map(|n| (n.clone(), false)).collect();
    stack.reverse();
    while let Some((node, operands_done)) = stack.pop() {
        if operands_done {
            order.push(node);
            continue;
        }
        if !seen.insert(node.key()) {
            continue;
        }
        if stop(&node) {
            order.push(node);
            continue;
        }
        let operands: Vec<_> =
            node.operands.iter().rev().filter(|o| !seen.contains(&o.key())).cloned().collect();
        stack.push((node, true));
        stack.extend(operands.into_iter().map(|o| (o, false)));
    }
    order
}

/// The graphs of `roots` with some nodes replaced, by [`Node::identity`]; nodes that do not depend on a replaced one are
/// shared.
pub fn substitute(roots: &[Arc<Node>], replacements: &HashMap<*const (), Arc<Node>>) -> Vec<Arc<Node>> {
    let mut done: AddressMap<Node, Arc<Node>> = AddressMap::default();
    // What lies behind a replaced node is not looked at.
    for node in topological_until(roots, |node| replacements.contains_key(&node.identity())) {
        let image = if let Some(replacement) = replacements.get(&node.identity()) {
            replacement.clone()
        } else {
            let operands: Vec<_> = node.operands.iter().map(|o| done[&o.key()].clone()).collect();
            if operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b)) {
                node.clone()
            } else {
                node.with_operands(operands)
            }
        };
        done.insert(node.key(), image);
    }
    roots.iter().map(|r| done[&r.key()].clone()).collect()
}

impl Node {
    /// Moves everything that dropping this node might drop to `pending`.
    fn dismantle(&mut self, pending: &mut Vec<Arc<Node>>) {
        pending.append(&mut self.operands);
        if let Op::Rule(_) = self.op
            && let Op::Rule(rule) = std::mem::replace(&mut self.op, Op::Detach)
            && let Some(rule) = Arc::into_inner(rule)
        {
            pending.extend(rule.into_nodes());
        }
    }
    /// The same on other operands, as a part of a rule: of the innermost one, if it is a part of another already.
    pub(crate) fn within(&self, operands: Vec<Arc<Node>>, rule: &Origin) -> Arc<Node> {
        let origin = Origin {
            order: self.origin.order.saturating_add(rule.order).max(order_of(&operands)),
            rule: self.origin.rule.clone().or_else(|| rule.rule.clone()),
            again: self.origin.again || is_again(&operands),
        };
        let mut node = self.on(operands);
        node.origin = origin;
        Arc::new(node)
    }
    /// The first of some nodes, not before the others are known: [`Op::After`].
    pub fn after(nodes: Vec<Arc<Node>>, location: &'static Location<'static>) -> Arc<Node> {
        let Node { shape, dtype, .. } = *nodes[0];
        // Of the value, whatever it waits for.
        let origin = Origin { again: true, rule: None, order: nodes[0].origin.order };
        Arc::new(Node { op: Op::After, operands: nodes, shape, dtype, location, label: None, origin })
    }
    /// The same operation on other operands of the same shapes and types.
    pub fn with_operands(&self, operands: Vec<Arc<Node>>) -> Arc<Node> {
        Arc::new(self.on(operands))
    }
    fn on(&self, operands: Vec<Arc<Node>>) -> Node {
        Node {
            op: self.op.clone(),
            operands,
            shape: self.shape,
            dtype: self.dtype,
            location: self.location,
            label: self.label.as_ref().map(Label::detached),
            origin: self.origin.clone(),
        }
    }
}
