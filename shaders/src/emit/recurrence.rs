//! Loops that every element runs by itself: a function for each, which returns the last state and whether the loop has ended.

use std::sync::Arc;

use super::module::{Module, value_type};
use super::names::Names;
use super::statements::{cast, without_parentheses};
use super::text::Text;
use crate::{Code, Recurrence, Value};

/// A loop as it is called.
#[derive(Clone)]
pub(crate) struct Looped {
    /// Name of the function.
    pub(crate) function: String,
    /// Names of the fields of what it returns, one for each carried value. There is `ended` besides.
    pub(crate) fields: Vec<String>,
}

impl Module<'_> {
    /// The function of a loop, written on first use.
    pub(crate) fn recurrence(&mut self, looped: &Arc<Recurrence>) -> Looped {
        if let Some((_, known)) = self.recurrences.iter().find(|(known, _)| known == looped) {
            return known.clone();
        }
        let written = self.write_recurrence(looped);
        self.recurrences.push((looped.clone(), written.clone()));
        written
    }
    fn write_recurrence(&mut self, looped: &Recurrence) -> Looped {
        let mut names = Names::default();
        for own in ["ended", "turns", "whole", "longest", "turned"] {
            names.fresh(own);
        }
        let named = |names: &mut Names, value: Value| {
            let instruction = &looped.code[value];
            let default = super::labels::default_name(&instruction.code);
            names.fresh(instruction.label.as_deref().unwrap_or(default))
        };
        let taken = &mut names;
        let names: Vec<String> = (0..looped.code.len()).map(|value| named(taken, value)).collect();
        // Every name is made by the same register, or a variable of the user's could be called like one of ours.
        let mut beside = |suffix: &str| -> Vec<String> {
            names[..looped.carried].iter().map(|name| taken.fresh(&format!("{name}_{suffix}"))).collect()
        };
        let (firsts, nexts) = (beside("first"), beside("next"));
        let ty = |value: Value| value_type(looped.code[value].dtype);
        // No other name has a digit behind an underscore.
        let (function, upper) = (format!("run_{}", self.runs), format!("Run_{}", self.runs));
        self.runs += 1;
        let fields: Vec<String> = names[..looped.carried].to_vec();
        let listed = |names: &[String], first: usize| {
            names
                .iter()
                .zip(first..)
                .map(|(name, value)| format!("{name}: {}", ty(value)))
                .collect::<Vec<_>>()
        };
        let parameters = looped.code.iter().take_while(|i| matches!(i.code, Code::Parameter(_))).count();
        let mut signature = listed(&firsts, 0);
        signature.extend(listed(&names[looped.carried..parameters], looped.carried));
        let mut state = listed(&fields, 0);
        state.extend(["ended: bool".to_owned(), "turns: u32".to_owned()]);
        let mut text = Text::default();
        text.line("");
        text.line(format!("struct {upper} {{ {} }}", state.join(", ")));
        text.line("");
        text.open(format!("fn {function}({}) -> {upper}", signature.join(", ")));
        for (field, first) in fields.iter().zip(&firsts) {
            text.line(format!("var {field} = {first};"));
        }
        text.line("var ended = false;");
        text.line("var whole = true;");
        text.line("var turns = 0u;");
        text.open("loop");
        let tests = looped.tests();
        let write = |module: &mut Self, text: &mut Text, which: bool| {
            for value in (parameters..looped.code.len()).filter(|&value| tests[value] == which) {
                module.instruction(text, looped, &names, value);
            }
        };
        let nests = looped.code.iter().any(|i| matches!(i.code, Code::While(..)));
        if nests {
            // A loop and its derivatives are one: the longest inside counts.
            text.line("var longest = 0u;");
        }
        write(self, &mut text, true);
        text.open(format!("if (!{})", names[looped.condition]));
        text.line("ended = true;");
        text.line("break;");
        text.close();
        text.line(format!("if (turns >= {}u) {{ break; }}", looped.rounds));
        text.line("turns += 1u;");
        if self.context.loop_turns().is_some() {
            self.counts_turns = true;
            text.line("turned += 1u;");
        }
        write(self, &mut text, false);
        if nests {
            text.line("turns += longest;");
        }
        // What is carried over from another value is read before that is overwritten.
        let moved = |value: Value| value < looped.carried;
        let changed = || (0..looped.carried).filter(|&value| looped.next[value] != value);
        for value in changed().filter(|&value| moved(looped.next[value])) {
            text.line(format!("let {} = {};", nexts[value], names[looped.next[value]]));
        }
        for value in changed() {
            let next = match moved(looped.next[value]) {
                true => nexts[value].clone(),
                false => names[looped.next[value]].clone(),
            };
            text.line(format!("{} = {next};", names[value]));
        }
        text.close();
        if let Some(budget) = self.context.loop_turns() {
            // Where an adapter stops all loops of an invocation without a word, they are counted.
            text.line(format!("whole = whole && turned <= {budget}u;"));
        }
        let mut values = fields.clone();
        values.extend(["ended && whole".to_owned(), "turns".to_owned()]);
        text.line(format!("return {upper}({});", values.join(", ")));
        text.close();
        self.items.append(&text);
        Looped { function, fields }
    }
    fn instruction(&mut self, text: &mut Text, looped: &Recurrence, names: &[String], value: Value) {
        let instruction = &looped.code[value];
        let name = &names[value];
        let of = |values: &[Value]| values.iter().map(|&value| names[value].as_str()).collect::<Vec<_>>();
        let expression = match &instruction.code {
            Code::Elementwise(row, operands) => row.wgsl(&of(operands)),
            Code::Integer(row, dtype, operands) => {
                let mut given = of(operands);
                given.resize(3, "");
                row.wgsl(*dtype, given[0], given[1], given[2])
            }
            Code::Cast(from) => cast(looped.code[*from].dtype, instruction.dtype, &names[*from]),
            Code::While(inner, operands) => {
                let Looped { function, .. } = self.recurrence(inner);
                text.line(format!("let {name} = {function}({});", of(operands).join(", ")));
                text.line(format!("whole = whole && {name}.ended;"));
                text.line(format!("longest = max(longest, {name}.turns);"));
                return;
            }
            Code::Part(tuple, part) => match &looped.code[*tuple].code {
                Code::While(inner, _) => {
                    let field = self.recurrence(inner).fields[*part].clone();
                    format!("{}.{field}", names[*tuple])
                }
                _ => names[*tuple].clone(),
            },
            // A recurrence holds nothing else.
            _ => return,
        };
        text.line(format!("let {name} = {};", without_parentheses(&expression)));
    }
}
