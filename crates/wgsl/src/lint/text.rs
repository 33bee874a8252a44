//! What only the text says: a comparison of a value with itself.

use naga::{BinaryOperator as B, Block, Expression, Function, Handle, Statement};

use super::Finding;
use crate::text::Text;

/// LN6, in a function and in those of the user that it calls.
pub(super) fn compared_with_itself(text: &Text, function: Handle<Function>, found: &mut Vec<Finding>) {
    let (mut functions, mut next) = (vec![function], 0);
    while let Some(&handle) = functions.get(next) {
        next += 1;
        for called in compared_in(&text.module.functions[handle], found) {
            if !functions.contains(&called) && !text.is_prelude(called) {
                functions.push(called);
            }
        }
    }
}

/// Comparisons in the body of a function; gives what it calls.
fn compared_in(function: &Function, found: &mut Vec<Finding>) -> Vec<Handle<Function>> {
    let (mut blocks, mut called): (Vec<&Block>, _) = (vec![&function.body], Vec::new());
    while let Some(block) = blocks.pop() {
        for statement in block {
            match statement {
                Statement::Emit(range) => {
                    for expression in range.clone() {
                        found.extend(compared(function, expression));
                    }
                }
                Statement::Call { function, .. } => called.push(*function),
                Statement::Block(inner) => blocks.push(inner),
                Statement::If { accept, reject, .. } => blocks.extend([accept, reject]),
                Statement::Switch { cases, .. } => blocks.extend(cases.iter().map(|case| &case.body)),
                Statement::Loop { body, continuing, .. } => blocks.extend([body, continuing]),
                _ => {}
            }
        }
    }
    called
}

fn compared(function: &Function, expression: Handle<Expression>) -> Option<Finding> {
    let Expression::Binary { op, left, right } = function.expressions[expression] else { return None };
    let sign = match op {
        B::Equal => "==",
        B::NotEqual => "!=",
        B::Less => "<",
        B::LessEqual => "<=",
        B::Greater => ">",
        B::GreaterEqual => ">=",
        _ => return None,
    };
    if !same(function, left, right) {
        return None;
    }
    let message =
        format!("a value is compared with itself: adapters may take `x {sign} x` as known, for NaN too");
    let place = function.expressions.get_span(expression);
    Some(Finding::new("LN6", message, "for NaN write is_nan(x)").at(place, "both sides are the same"))
}

/// Whether two expressions are written the same and mean the same place or value.
fn same(function: &Function, a: Handle<Expression>, b: Handle<Expression>) -> bool {
    let mut pairs = vec![(a, b)];
    while let Some((a, b)) = pairs.pop() {
        if a == b {
            continue;
        }
        match (&function.expressions[a], &function.expressions[b]) {
            (Expression::Load { pointer: a }, Expression::Load { pointer: b }) => pairs.push((*a, *b)),
            (Expression::LocalVariable(a), Expression::LocalVariable(b)) if a == b => {}
            (Expression::Literal(a), Expression::Literal(b)) if a == b => {}
            (
                Expression::AccessIndex { base: a, index: i },
                Expression::AccessIndex { base: b, index: j },
            ) if i == j => {
                pairs.push((*a, *b));
            }
            (Expression::Access { base: a, index: i }, Expression::Access { base: b, index: j }) => {
                pairs.extend([(*a, *b), (*i, *j)]);
            }
            _ => return false,
        }
    }
    true
}
