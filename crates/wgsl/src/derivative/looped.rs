//! Loops of the graph, written as loops.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cotangent_tensor::{Error, Node, Tensor, WhileLoop, topological};

use super::Printer;
use crate::lower::{Scalars, Value};

/// A loop that has been met, on values of the printer.
pub(super) struct Met {
    looped: Arc<WhileLoop>,
    operands: Vec<Value>,
    /// The values that are its last state, where somebody has asked for them.
    outputs: Vec<Option<Value>>,
}

impl Printer {
    /// The value that is carried value `output` of a loop when it has ended.
    pub(super) fn last(
        &mut self,
        looped: &Arc<WhileLoop>,
        operands: Vec<Value>,
        output: usize,
    ) -> Result<Value, Error> {
        let same = |met: &Met| Arc::ptr_eq(&met.looped, looped) && met.operands == operands;
        let number = self.met.iter().position(same).unwrap_or_else(|| {
            let outputs = vec![None; looped.carried.len()];
            self.met.push(Met { looped: looped.clone(), operands, outputs });
            self.met.len() - 1
        });
        if let Some(known) = self.met[number].outputs[output] {
            return Ok(known);
        }
        let stand_in = Tensor::from_node(looped.carried[output].clone());
        let value = self.scalars.given(stand_in, looped.carried[output].dtype);
        self.met[number].outputs[output] = Some(value);
        if let Value::Node(node) = value {
            self.of_loop.insert(node, number);
        }
        Ok(value)
    }
    /// A name for a variable: its own, if that means nothing else.
    fn variable(&mut self, own: Option<&str>) -> String {
        let counted = |name: &str| {
            let rest = name.strip_prefix(self.prefix.as_str());
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let is_name = |name: &&str| {
            name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with("__") && *name != "_"
        };
        match own.filter(is_name).filter(|name| !counted(name)) {
            Some(name) if self.taken.insert(name.to_string()) => name.to_string(),
            _ => self.fresh(),
        }
    }
    /// What a loop is computed from, more than once if its rounds read it.
    pub(super) fn read_by_loop(&self, number: usize) -> impl Iterator<Item = Value> + '_ {
        let Met { looped, operands, .. } = &self.met[number];
        let captured = &operands[looped.carried.len()..];
        operands.iter().chain(captured).copied()
    }
    /// Writes a loop, if it has not been written: variables for its state, and its rounds.
    pub(super) fn write_loop(&mut self, number: usize, lines: &mut Vec<String>) -> Result<(), Error> {
        if !self.written.insert(number) {
            return Ok(());
        }
        let Met { looped, operands, outputs } = &self.met[number];
        let (looped, operands, outputs) = (looped.clone(), operands.clone(), outputs.clone());
        let needed = needed(&looped, &outputs);
        let (mut names, mut state) = (Vec::new(), Vec::new());
        for (position, &operand) in operands.iter().enumerate() {
            let value = self.name(operand)?;
            let is_state = position < looped.carried.len();
            if is_state && needed.contains(&position) {
                let name = self.variable(looped.carried[position].given_name());
                lines.push(format!("var {name} = {};", bare(&value)));
                state.push((position, name.clone()));
                names.push(name);
            } else {
                names.push(value);
            }
        }
        let mut inside = Printer {
            scalars: Scalars::new(self.at),
            at: self.at,
            names: HashMap::new(),
            prefix: self.prefix.clone(),
            named: self.named,
            called: std::mem::take(&mut self.called),
            taken: std::mem::take(&mut self.taken),
            met: Vec::new(),
            of_loop: HashMap::new(),
            written: BTreeSet::new(),
        };
        let given: Vec<(String, Tensor)> = names
            .into_iter()
            .zip(looped.carried.iter().chain(&looped.captured))
            .map(|(name, placeholder)| (name, Tensor::from_node(placeholder.clone())))
            .collect();
        let changing: Vec<&(usize, String)> = state
            .iter()
            .filter(|(position, _)| looped.next[*position].identity() != looped.carried[*position].identity())
            .collect();
        let mut roots = vec![Tensor::from_node(looped.condition.clone())];
        roots.extend(changing.iter().map(|(position, _)| Tensor::from_node(looped.next[*position].clone())));
        let values = inside.rebuild(&roots, given.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
        let (tests, condition) = inside.lines(&values[..1])?;
        let (mut round, next) = inside.lines(&values[1..])?;
        // A variable that is read after it has got its next value is kept before.
        let mut assignments = Vec::new();
        for (place, ((_, name), value)) in changing.iter().zip(&next).enumerate() {
            let before = changing[..place].iter().map(|(_, name)| name);
            let value = match before.into_iter().any(|earlier| mentions(value, earlier)) {
                true => {
                    let kept = inside.fresh();
                    round.push(format!("let {kept} = {};", bare(value)));
                    kept
                }
                false => bare(value).to_string(),
            };
            assignments.push(format!("{name} = {value};"));
        }
        (self.named, self.called, self.taken) = (inside.named, inside.called, inside.taken);
        let condition = &condition[0];
        if tests.is_empty() {
            lines.push(format!("while {} {{", bare(condition)));
        } else {
            lines.push("loop {".to_string());
            lines.extend(tests.iter().map(|line| format!("  {line}")));
            lines.push(format!("  if !{condition} {{ break; }}"));
        }
        lines.extend(round.iter().chain(&assignments).map(|line| format!("  {line}")));
        lines.push("}".to_string());
        // The variables are what the loop leaves.
        for (position, name) in state {
            if let Some(value) = outputs[position] {
                self.names.insert(value, name);
            }
        }
        Ok(())
    }
}

/// The carried values on which something depends that somebody has asked for.
fn needed(looped: &WhileLoop, outputs: &[Option<Value>]) -> BTreeSet<usize> {
    let reads = |root: &Arc<Node>| -> Vec<usize> {
        let reached: BTreeSet<*const ()> = topological([root]).iter().map(Node::identity).collect();
        (0..looped.carried.len()).filter(|&c| reached.contains(&looped.carried[c].identity())).collect()
    };
    let mut needed = BTreeSet::new();
    let mut pending = reads(&looped.condition);
    pending.extend((0..outputs.len()).filter(|&output| outputs[output].is_some()));
    while let Some(value) = pending.pop() {
        if needed.insert(value) {
            pending.extend(reads(&looped.next[value]));
        }
    }
    needed
}

/// Without the parentheses around all of it.
pub(super) fn bare(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) else { return text };
    let mut depth = 0i32;
    let whole = inner.chars().all(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth >= 0
    });
    if whole && !inner.starts_with('-') { inner } else { text }
}

fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}
