//! What several checks ask of the functions of a text.

use naga::{Block, Expression, Function, GlobalVariable, Handle, LocalVariable, Span, Statement};

use crate::text::Text;

/// What a pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    Global(Handle<GlobalVariable>),
    Local(Handle<LocalVariable>),
    Argument(u32),
}

/// What an expression points into, if it is a pointer.
pub(super) fn root(function: &Function, mut pointer: Handle<Expression>) -> Option<Root> {
    loop {
        pointer = match function.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => base,
            Expression::GlobalVariable(variable) => return Some(Root::Global(variable)),
            Expression::LocalVariable(variable) => return Some(Root::Local(variable)),
            Expression::FunctionArgument(number) => return Some(Root::Argument(number)),
            _ => return None,
        };
    }
}

/// The entry point and all functions.
pub(super) fn functions(text: &Text, entry: usize) -> impl Iterator<Item = &Function> {
    let point = &text.module.entry_points[entry].function;
    std::iter::once(point).chain(text.module.functions.iter().map(|(_, function)| function))
}

/// Every statement of a function, those inside of others after them.
pub(super) fn statements(function: &Function) -> Vec<(&Statement, Span)> {
    let mut blocks: Vec<&Block> = vec![&function.body];
    let mut found = Vec::new();
    while let Some(block) = blocks.pop() {
        for (statement, span) in block.span_iter() {
            found.push((statement, *span));
            match statement {
                Statement::Block(block) => blocks.push(block),
                Statement::If { accept, reject, .. } => blocks.extend([accept, reject]),
                Statement::Switch { cases, .. } => blocks.extend(cases.iter().map(|case| &case.body)),
                Statement::Loop { body, continuing, .. } => blocks.extend([body, continuing]),
                _ => {}
            }
        }
    }
    found
}
