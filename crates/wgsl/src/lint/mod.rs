//! Lints: what a function computes is well defined, and probably not what is meant.
//!
//! They look at the numbers that a function becomes (`steep.rs`, `spelling.rs`), where variables, calls and loops are resolved, and at the text
//! where it says more than its numbers (`text.rs`). A lint that fires on sound functions is ignored on all: each stays silent where it is
//! not known how large an operand may be, and where any choice on the way to the result depends on what the operand is made of.

mod looped;
mod ranges;
mod spelling;
mod steep;
mod text;

use std::collections::BTreeSet;
use std::fmt;

use cotangent_tensor::{Code, Elementwise as E};
use naga::Span;

use crate::diagnose::{Problem, Source, frame};
use crate::lower::{Computed, Made, Outside, Scalars, Value};
use crate::text::Text;

/// Every lint, by code.
pub(crate) const LINTS: [&str; 6] = ["LN1", "LN2", "LN3", "LN4", "LN5", "LN6"];

/// A warning about a function of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// `LN1` to `LN6`: what [`Function::allow`](crate::Function::allow) takes.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// What to do.
    pub help: String,
    /// The line of the text, from 1.
    pub line: u32,
    /// The name of the text.
    pub source: String,
    /// The lines of the text with what is meant marked.
    pub frame: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lint { code, message, help, source, frame, .. } = self;
        write!(
            f,
            "warning[{code}]: {source}: {message}\n{frame}\n  help: {help}; `.allow(\"{code}\")` silences this"
        )
    }
}

/// What is found at a place.
struct Finding {
    code: &'static str,
    message: String,
    help: String,
    labels: Vec<(Span, String)>,
}

impl Finding {
    fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { code, message: message.into(), help: help.into(), labels: Vec::new() }
    }
    fn at(mut self, span: Span, label: impl Into<String>) -> Finding {
        self.labels.push((span, label.into()));
        self
    }
    fn in_text(self, source: &Source) -> Option<Lint> {
        let Finding { code, message, help, labels } = self;
        let (line, frame) = frame(&labels, source);
        Some(Lint { code, message, help, line: line?, source: source.name.clone(), frame })
    }
}

/// A parameter that a derivative is wanted of: its name, its place, and the positions of its floats among all scalars.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) span: Span,
    pub(crate) scalars: Vec<usize>,
}

/// What is suspicious, in order of the text; each place is named once by each lint.
pub(crate) fn lints(
    text: &Text,
    function: naga::Handle<naga::Function>,
    computed: &Computed,
    wanted: &[Wanted],
    allowed: &BTreeSet<&'static str>,
) -> Vec<Lint> {
    let graph = Graph::new(computed);
    let mut found = Vec::new();
    steep::flat_parameters(&graph, wanted, &mut found);
    looped::flat_parameters(&graph, wanted, &mut found);
    steep::steep_at_zero(&graph, &mut found);
    spelling::spelled(&graph, &mut found);
    text::compared_with_itself(text, function, &mut found);
    let mut seen = BTreeSet::new();
    let place = |finding: &Finding| {
        let span = finding.labels.first().map(|label| label.0).and_then(|span| span.to_range());
        span.map(|range| (range.start, range.end))
    };
    found.sort_by_key(|finding| (place(finding), finding.code));
    found.retain(|finding| {
        let key = (finding.code, place(finding), finding.message.clone());
        !allowed.contains(finding.code) && seen.insert(key)
    });
    found.into_iter().filter_map(|finding| finding.in_text(&text.source)).collect()
}

/// The operation through which a derivative would go and that has none. (That of a rule is the rule's.)
pub(crate) fn without_derivative(computed: &Computed) -> Option<Problem> {
    let graph = Graph::new(computed);
    let steep = |node: usize| graph.scalars.made(node).map_or_else(Vec::new, |made| slopes(made).collect());
    let reached = graph.reached(steep);
    let needs_it = |node: &usize| match graph.scalars.made(*node) {
        Some(Made::Row(E::Trigamma, [x, ..])) => reached[*node] && graph.is_active(x),
        _ => false,
    };
    let node = (0..graph.scalars.len()).find(needs_it)?;
    let problem = Problem::new(Code::WgslBuiltin, "`trigamma` has no derivative here");
    let help = "`detach` its argument or its result, or give the function that calls it a rule `…_vjp`";
    Some(problem.at(graph.scalars.span(node), "needed for a gradient").help(help))
}

/// The numbers of a function, and what is known of them.
struct Graph<'a> {
    scalars: &'a Scalars,
    results: &'a [Value],
    /// Whether a derivative by some float of a parameter passes through each node. Not through what is detached, nor through rules.
    active: Vec<bool>,
    ranges: Vec<Option<ranges::Range>>,
}

impl<'a> Graph<'a> {
    fn new(computed: &'a Computed) -> Graph<'a> {
        let Computed { scalars, results } = computed;
        let mut graph = Graph { scalars, results, active: Vec::new(), ranges: Vec::new() };
        // operands come before what is made of them
        for node in 0..scalars.len() {
            let active = match (scalars.made(node), scalars.outside(node)) {
                (Some(made), _) => slopes(made).any(|operand| graph.is_active(operand)),
                (None, Some(Outside::Input(_))) => scalars.dtype(Value::Node(node)).is_float(),
                (None, _) => false,
            };
            graph.active.push(active);
            graph.ranges.push(graph.range_of(node));
        }
        graph
    }
    fn made(&self, value: Value) -> Option<Made> {
        if let Value::Node(node) = value { self.scalars.made(node) } else { None }
    }
    /// The operands of a value that is a row of the operation table.
    fn row(&self, value: Value) -> Option<(E, [Value; 3])> {
        if let Some(Made::Row(row, operands)) = self.made(value) { Some((row, operands)) } else { None }
    }
    fn is_active(&self, value: Value) -> bool {
        matches!(value, Value::Node(node) if self.active[node])
    }
    /// Every node, with its row, that has a place in the user's text.
    fn rows(&self) -> impl Iterator<Item = (Value, E, [Value; 3], Span)> {
        (0..self.scalars.len()).filter_map(|node| {
            let Some(Made::Row(row, operands)) = self.scalars.made(node) else { return None };
            let span = self.scalars.span(node);
            span.is_defined().then_some((Value::Node(node), row, operands, span))
        })
    }
    /// For every node, whether it depends on any of `on` in any way.
    fn depends(&self, on: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut depends = Vec::new();
        for node in 0..self.scalars.len() {
            let of = |value: Value| matches!(value, Value::Node(operand) if depends[operand]);
            let through = match (self.scalars.made(node), self.scalars.outside(node)) {
                (Some(made), _) => made.operands().any(of),
                (None, Some(Outside::Rule(operands))) => operands.iter().copied().any(of),
                (None, _) => false,
            };
            depends.push(through || on(node));
        }
        depends
    }
    /// The nodes from which results are made, by the operands that `enter` gives for a node.
    fn reached(&self, enter: impl Fn(usize) -> Vec<Value>) -> Vec<bool> {
        let mut reached = vec![false; self.scalars.len()];
        let mut stack: Vec<Value> = self.results.to_vec();
        while let Some(value) = stack.pop() {
            if let Value::Node(node) = value
                && !std::mem::replace(&mut reached[node], true)
            {
                stack.extend(enter(node));
            }
        }
        reached
    }
    /// The inputs and other outside nodes that a value is made of.
    fn leaves(&self, value: Value) -> Vec<bool> {
        let mut leaves = vec![false; self.scalars.len()];
        let mut seen = leaves.clone();
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            let Value::Node(node) = value else { continue };
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            match self.scalars.made(node) {
                Some(made) => stack.extend(made.operands()),
                None => leaves[node] = true,
            }
        }
        leaves
    }
    /// Whether a node contributes to a result past every choice that depends on what `operand` is made of.
    fn is_unguarded(&self, node: Value, operand: Value) -> bool {
        let leaves = self.leaves(operand);
        let mentions = self.depends(|node| leaves[node]);
        let mentioned = |value: Value| matches!(value, Value::Node(node) if mentions[node]);
        let reached = self.reached(|node| match self.scalars.made(node) {
            Some(Made::Row(E::Select, [condition, ..])) if mentioned(condition) => Vec::new(),
            Some(made) => slopes(made).collect(),
            None => match self.scalars.outside(node) {
                Some(Outside::Rule(operands)) => operands.clone(),
                _ => Vec::new(),
            },
        });
        matches!(node, Value::Node(node) if reached[node])
    }
}

/// The operands by which a node has a slope that is not zero everywhere.
fn slopes(made: Made) -> impl Iterator<Item = Value> {
    let kept = match made {
        Made::Row(E::Sign | E::Floor | E::Ceil | E::Round | E::Trunc, _) => 0..0,
        Made::Row(E::Eq | E::Ne | E::Lt | E::Le | E::Gt | E::Ge | E::IsNan, _) => 0..0,
        Made::Row(E::And | E::Or | E::Xor | E::Not, _) | Made::Shift(..) | Made::Cast(..) => 0..0,
        Made::Row(E::Select, _) => 1..3,
        Made::Row(..) => 0..3,
    };
    made.operands().enumerate().filter(move |(position, _)| kept.contains(position)).map(|(_, value)| value)
}
