//! What the prelude has a better word for, and shifts by a maximum.

use std::collections::BTreeMap;

use cotangent_tensor::Elementwise as E;
use naga::Span;

use super::{Finding, Graph};
use crate::lower::Value;

/// LN4 and LN5.
pub(super) fn spelled(graph: &Graph<'_>, found: &mut Vec<Finding>) {
    let one = |value: Value| value.as_float() == Some(1.0);
    let is = |row: E, value: Value| graph.row(value).is_some_and(|found| found.0 == row);
    // exponentials by what they are shifted by
    let mut shifted: BTreeMap<usize, Vec<(Value, Span)>> = BTreeMap::new();
    for (_, row, [a, b, _], span) in graph.rows() {
        let better = match (row, graph.row(a)) {
            (E::Log, Some((E::Add, [x, y, _]))) if one(x) || one(y) => {
                let other = if one(x) { y } else { x };
                Some(match is(E::Exp, other) {
                    true => ("log(1 + exp(x))", "softplus(x)"),
                    false => ("log(1 + x)", "log1p(x)"),
                })
            }
            (E::Log, Some((E::Add, _))) => {
                let terms = terms(graph, a);
                let exponentials = terms.iter().all(|&term| is(E::Exp, term) && !is_shifted(graph, term));
                exponentials.then_some(match terms.len() {
                    2 => ("log(exp(a) + exp(b))", "logaddexp(a, b)"),
                    _ => ("log(exp(a) + exp(b) + exp(c))", "logaddexp(logaddexp(a, b), c)"),
                })
            }
            (E::Log, Some((E::Sub, [x, y, _]))) if one(x) && is(E::Exp, y) => {
                Some(("log(1 - exp(x))", "log1mexp(-x)"))
            }
            (E::Log, Some((E::Sigmoid, _))) => Some(("log(sigmoid(x))", "log_sigmoid(x)")),
            (E::Sub, Some((E::Exp, _))) if one(b) => Some(("exp(x) - 1", "expm1(x)")),
            (E::Add, Some((E::Exp, _))) if b.as_float() == Some(-1.0) => Some(("exp(x) - 1", "expm1(x)")),
            _ => None,
        };
        if let Some((written, better)) = better {
            let message = format!("`{written}` loses digits, or overflows, where `{better}` does not");
            found.push(Finding::new("LN5", message, format!("write {better}")).at(span, "here"));
        }
        if let (E::Exp, Some((E::Sub, [x, Value::Node(shift), _]))) = (row, graph.row(a)) {
            shifted.entry(shift).or_default().push((x, span));
        }
    }
    for (shift, shifted) in shifted {
        let of = maximum_of(graph, Value::Node(shift));
        let own = shifted.iter().filter(|(x, _)| of.contains(x)).count();
        let place = graph.scalars.span(shift);
        if own >= 2 && graph.is_active(Value::Node(shift)) && place.is_defined() {
            let finding = Finding::new(
                "LN4",
                "the maximum that shifts exponentials is not detached: its derivative cancels, and is computed all the same",
                "take `detach` of the maximum once, before the exponentials, where the result does not depend on the shift",
            );
            found.push(finding.at(place, "this maximum").at(shifted[0].1, "shifts here"));
        }
    }
}

/// The terms of a sum, of at most as many as a row has that may be indexed.
fn terms(graph: &Graph<'_>, sum: Value) -> Vec<Value> {
    let (mut terms, mut stack) = (Vec::new(), vec![sum]);
    while let Some(value) = stack.pop() {
        match graph.row(value) {
            Some((E::Add, [a, b, _])) => stack.extend([a, b]),
            _ => terms.push(value),
        }
    }
    terms
}

/// Whether an exponential is one of a difference with a maximum.
fn is_shifted(graph: &Graph<'_>, exponential: Value) -> bool {
    let Some((_, [x, ..])) = graph.row(exponential) else { return false };
    matches!(graph.row(x), Some((E::Sub, _)))
}

/// The numbers of which a value is the largest, if it is made so: by `max`, or by choosing the larger one.
fn maximum_of(graph: &Graph<'_>, maximum: Value) -> Vec<Value> {
    let (mut of, mut stack) = (Vec::new(), vec![maximum]);
    while let Some(value) = stack.pop() {
        match graph.row(value) {
            Some((E::Max, [a, b, _])) => stack.extend([a, b]),
            Some((E::Select, [condition, a, b])) if compares(graph, condition, a, b) => stack.extend([a, b]),
            _ if value == maximum => {}
            _ => of.push(value),
        }
        if of.len() > graph.scalars.len() {
            break;
        }
    }
    of
}

fn compares(graph: &Graph<'_>, condition: Value, a: Value, b: Value) -> bool {
    let compared = |row: E, x: Value, y: Value| match row {
        E::Gt | E::Ge => (x, y) == (a, b),
        E::Lt | E::Le => (y, x) == (a, b),
        _ => false,
    };
    matches!(graph.row(condition), Some((row, [x, y, _])) if compared(row, x, y))
}
