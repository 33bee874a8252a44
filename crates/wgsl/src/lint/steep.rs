//! Slopes that are zero everywhere, and slopes that are infinite somewhere.

use cotangent_tensor::Elementwise as E;

use super::{Finding, Graph, Wanted, slopes};
use crate::lower::{Made, Outside, Value};

/// Most places that are looked at: each is a walk over all numbers.
const MAX_PLACES: usize = 256;

/// LN1: a result depends on a parameter, and every path goes through steps.
pub(super) fn flat_parameters(graph: &Graph<'_>, wanted: &[Wanted], found: &mut Vec<Finding>) {
    let outside = |node: usize| match graph.scalars.outside(node) {
        Some(Outside::Rule(operands)) => operands.clone(),
        _ => Vec::new(),
    };
    let all = |node: usize| {
        graph.scalars.made(node).map_or_else(|| outside(node), |made| made.operands().collect())
    };
    let steep =
        |node: usize| graph.scalars.made(node).map_or_else(|| outside(node), |made| slopes(made).collect());
    let (any, smooth) = (graph.reached(all), graph.reached(steep));
    let is_unknown =
        |node: usize| graph.scalars.made(node).is_none() && graph.scalars.outside(node).is_none();
    if (0..graph.scalars.len()).any(|node| any[node] && is_unknown(node)) {
        return;
    }
    for Wanted { name, span, scalars } in wanted {
        let is_own = |node: usize| matches!(graph.scalars.outside(node), Some(Outside::Input(at)) if scalars.contains(at));
        let own: Vec<usize> = (0..graph.scalars.len()).filter(|&node| is_own(node)).collect();
        if !own.iter().any(|&node| any[node]) || own.iter().any(|&node| smooth[node]) {
            continue;
        }
        let mut finding = Finding::new(
            "LN1",
            format!("the gradient of `{name}` is zero everywhere"),
            format!("did you want a surrogate, as a rule `…_vjp`? If not, say so: `detach({name})`, an integer, or `with_respect_to` without it"),
        )
        .at(*span, "depends on it by steps only");
        // where it is lost: the first places that depend on it and have no slope
        let depends = graph.depends(is_own);
        let depend = |value: Value| matches!(value, Value::Node(node) if depends[node]);
        let mut seen = Vec::new();
        for node in (0..graph.scalars.len()).filter(|&node| any[node]) {
            let (Some(made), place) = (graph.scalars.made(node), graph.scalars.span(node)) else { continue };
            let loses = made.operands().any(|operand| depend(operand) && graph.is_active(operand));
            if loses && !graph.active[node] && place.is_defined() && !seen.contains(&place) && seen.len() < 3
            {
                seen.push(place);
                finding = finding.at(place, "no slope");
            }
        }
        found.push(finding);
    }
}

/// LN2 and LN3: `pow` of what can be negative; an infinite slope at 0 without a guard.
pub(super) fn steep_at_zero(graph: &Graph<'_>, found: &mut Vec<Finding>) {
    let mut looked = 0;
    for (node, row, [a, b, _], span) in graph.rows() {
        let (operand, finding) = match row {
            E::Pow if graph.range(a).is_some_and(|range| range.low < 0.0) => (a, negative_base(b)),
            // the value is an ordinary 0 there, so nobody notices
            E::Sqrt if graph.is_active(a) && graph.range(a).is_some_and(|range| range.holds_zero()) => {
                (a, at_zero("`sqrt` of what can be 0, where its slope is infinite"))
            }
            E::Log | E::Log2 | E::Rsqrt | E::Recip if vanishes(graph, a) => {
                let name = match row {
                    E::Rsqrt => "inverseSqrt",
                    E::Recip => "1/x",
                    _ => row.name(),
                };
                (a, at_zero(&format!("`{name}` of what becomes 0 at its end")))
            }
            E::Div if vanishes(graph, b) => (b, at_zero("a division by what becomes 0 at its end")),
            _ => continue,
        };
        looked += 1;
        if looked > MAX_PLACES {
            return;
        }
        if graph.is_unguarded(node, operand) {
            found.push(finding.at(span, "here"));
        }
    }
}

fn negative_base(exponent: Value) -> Finding {
    let help = match exponent.as_float() {
        Some(2.0) => "write the product, x * x",
        Some(power) if power.fract() == 0.0 => "write the product, as x * x * x",
        _ => "keep the base above 0, as with `max`, or write `pow(abs(x), y)`",
    };
    Finding::new(
        "LN2",
        "`pow` of a base that can be negative: elsewhere WGSL gives NaN for it, here a power",
        help,
    )
}
fn at_zero(what: &str) -> Finding {
    Finding::new(
        "LN3",
        what,
        "branch on it with `if`, add a small constant, or keep it away from 0 with `max`",
    )
}

/// Whether 0 is the end of an operand's numbers, as for distances, sums of squares and clipped values. Parameters, their products and
/// differences are the business of the caller: a scale is not 0.
fn vanishes(graph: &Graph<'_>, operand: Value) -> bool {
    if !graph.is_active(operand) {
        return false;
    }
    match graph.made(operand) {
        Some(Made::Row(E::Mul, [a, b, _])) => vanishes(graph, a) || vanishes(graph, b),
        Some(Made::Row(E::Neg, [a, ..])) => vanishes(graph, a),
        // says so itself
        Some(Made::Row(E::Sqrt, _)) | None => false,
        Some(_) => graph.range(operand).is_some_and(|range| range.ends_at_zero()),
    }
}
