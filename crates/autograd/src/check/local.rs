//! Rules one by one, at the values they have in a program: so a fault is found where it is, and a surrogate before it
//! hides nothing.

use std::ops::RangeInclusive;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{
    Array, Code, Detail, Error, InputGradient, Node, Op, RuleKind, Tensor, TracedRule, substitute,
    topological,
};

use super::lab::Lab;
use super::linear::nonlinear;
use super::plain::{is_cut, is_exact};
use super::program::{Bend, Mismatch, Outcome, Point, Program};
use super::report::{Distance, Kink, Report};
use crate::structure::operands;

/// Rules that were looked at. Holding them keeps their addresses from being used again.
pub(super) type Seen = Vec<Arc<Node>>;

/// What is compared, for messages.
pub(super) struct Subject {
    /// The function or rule.
    pub(super) name: String,
    pub(super) location: Option<&'static Location<'static>>,
    pub(super) output: usize,
    /// Names of the inputs.
    pub(super) inputs: Vec<String>,
    /// Inputs that the rule passes nothing to.
    pub(super) passed_over: Vec<bool>,
    pub(super) is_rule: bool,
}

impl Subject {
    fn place(&self, place: Option<&(usize, usize, Vec<usize>)>, direction: usize) -> String {
        let input = match place {
            Some((input, _, element)) => {
                let name = self.inputs.get(*input).map_or("", String::as_str);
                format!("input {input} `{name}`, element {element:?}")
            }
            None => format!("random direction {direction}"),
        };
        format!("output {}, {input}", self.output)
    }

    fn error(&self, code: Code, message: String) -> Error {
        let error = Error::new(code, self.name.clone(), message);
        self.location.map_or(error.clone(), |at| error.at(at))
    }

    /// The finding for a wrong derivative of some order.
    fn finding(&self, found: &Mismatch, order: usize) -> Error {
        let Mismatch { place, direction, got, expected, witness, cotangent } = found;
        let at = self.place(place.as_ref(), *direction);
        let cut = place.as_ref().is_some_and(|p| self.passed_over.get(p.0) == Some(&true));
        let (code, message, hint) = if !self.is_rule && !got.is_finite() && expected.is_finite() {
            let message = format!(
                "derivative of order {order} at {at}: got {got:?}, expected {expected:?} by {witness}"
            );
            let hint = "an infinite slope meets an ordinary zero on the way: select it away with `where_`";
            (Code::Nonfinite, message, hint)
        } else if order > 1 {
            let message = format!(
                "derivative of order {order} at {at}: got {got:?}, expected {expected:?} by {witness} of the gradient"
            );
            (Code::RuleOrder, message, "compute gradients without `detach`, or declare `first_order_only`")
        } else if cut {
            let message = format!("passes nothing to {at}, where {expected:?} was expected by {witness}");
            (Code::RuleCut, message, "return a gradient for it, or declare a surrogate if this is intended")
        } else {
            let message = format!(
                "{at}: got {got:?}, expected {expected:?} by {witness}, for a cotangent of {cotangent}; \
                 the largest error is {:e}",
                found.error()
            );
            (
                Code::RuleWrong,
                message,
                "correct the rule, or declare a surrogate if the difference is intended",
            )
        };
        self.detailed(self.error(code, message), found, order).hint(hint)
    }

    /// The finding for forward mode that is not the transpose of reverse mode.
    fn forward(&self, found: &Mismatch, order: usize) -> Error {
        let message = format!(
            "output {}, order {order}: forward mode gives {:?} where reverse mode gives {:?}",
            self.output, found.got, found.expected
        );
        let hint = "a pullback must be linear in `upstream` all the way, also in rules that it applies";
        self.detailed(self.error(Code::RuleForward, message), found, order).hint(hint)
    }

    fn detailed(&self, error: Error, found: &Mismatch, order: usize) -> Error {
        let count = |n: usize| Detail::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        let error = match &found.place {
            Some((input, element, _)) => error.with("input", count(*input)).with("element", count(*element)),
            None => error.with("direction", count(found.direction)),
        };
        error
            .with("output", count(self.output))
            .with("order", count(order))
            .with("got", Detail::Number(found.got))
            .with("expected", Detail::Number(found.expected))
    }

    fn kink(&self, bend: &Bend, order: usize) -> Kink {
        let order = if order > 1 { format!(", order {order}") } else { String::new() };
        let place = format!("{}, {}{order}", self.name, self.place(bend.place.as_ref(), bend.direction));
        Kink { place, gradient: bend.gradient, left: bend.left, right: bend.right }
    }
}

/// Checks a program at some orders, of which it is the first, with the rules that each order brings before it.
pub(super) fn check_orders<'a>(
    lab: &'a Lab<'a>,
    mut program: Program<'a>,
    subject: &Subject,
    orders: RangeInclusive<usize>,
    seen: &mut Seen,
    report: &mut Report,
) -> Result<(), Error> {
    let last = *orders.end();
    for order in orders {
        let before = report.findings.len();
        check_rules(lab, &program.scalar, last - order + 1, seen, report)?;
        if report.findings.len() > before {
            return Ok(());
        }
        let outcome = if order == 1 { program.compare_for_reading()? } else { program.compare()? };
        absorb(subject, &outcome, order, report);
        if let Some(worst) = &outcome.worst {
            let mut finding = subject.finding(worst, order);
            if !subject.is_rule
                && let Some(node) = first_wrong(lab, &program.scalar, finding.code())?
            {
                let at = node.location;
                let name = node.label.as_deref().unwrap_or(node.name());
                let line = format!("first at `{name}`, {}:{}:{}", at.file(), at.line(), at.column());
                finding = finding.within(line).with("node", Detail::Text(name.to_string()));
            }
            report.findings.push(finding);
            return Ok(());
        }
        if let Some(forward) = &outcome.forward {
            report.findings.push(subject.forward(forward, order));
            return Ok(());
        }
        if order < last {
            match program.slope()? {
                Some(slope) => program = slope,
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Counts and kinks.
fn absorb(subject: &Subject, outcome: &Outcome, order: usize, report: &mut Report) {
    report.compared += outcome.compared;
    report.kinks.extend(outcome.bends.iter().map(|bend| subject.kink(bend, order)));
}

/// Checks every rule that `root` applies and that was not seen before.
pub(super) fn check_rules(
    lab: &Lab<'_>,
    root: &Tensor,
    orders: usize,
    seen: &mut Seen,
    report: &mut Report,
) -> Result<(), Error> {
    for node in topological([root.node()?]) {
        let Op::Rule(rule) = &node.op else { continue };
        let claims = !rule.pullbacks.is_empty() && !is_cut(rule);
        if !claims || seen.iter().any(|known| Arc::ptr_eq(known, &node)) {
            continue;
        }
        seen.push(node.clone());
        check_rule(lab, &node, rule, orders, seen, report)?;
    }
    Ok(())
}

fn check_rule(
    lab: &Lab<'_>,
    node: &Arc<Node>,
    rule: &TracedRule,
    orders: usize,
    seen: &mut Seen,
    report: &mut Report,
) -> Result<(), Error> {
    let alone = Alone::new(lab, node)?;
    if let Some(finding) = other_than_plain(lab, &alone, rule)? {
        report.findings.push(finding);
        return Ok(());
    }
    check_alone(lab, alone, rule, orders, seen, report)
}

/// Checks the derivatives of a rule on data.
pub(super) fn check_alone(
    lab: &Lab<'_>,
    mut alone: Alone,
    rule: &TracedRule,
    orders: usize,
    seen: &mut Seen,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(pullback) = rule.pullbacks.first() else { return Ok(()) };
    // What the rule does not know is an error where it is wanted, and no claim.
    alone.points.retain(|point| !matches!(pullback.gradients[point.input], InputGradient::Missing(_)));
    if alone.points.is_empty() {
        return Ok(());
    }
    if is_exact(rule) {
        report.compared.linear += 1;
        if let Some(finding) = nonlinear(lab, &alone, rule)? {
            report.findings.push(finding);
            return Ok(());
        }
    }
    seen.push(alone.node.clone());
    let mut furthest: Option<Distance> = None;
    for (slot, output) in rule.outputs.iter().enumerate() {
        if !output.dtype.is_float() || rule.without_derivative.contains(&slot) {
            continue;
        }
        let project = Tensor::from_node(Arc::new(Node {
            op: Op::Project(slot),
            operands: vec![alone.node.clone()],
            shape: output.shape,
            dtype: output.dtype,
            location: alone.node.location,
            label: None,
            origin: alone.node.origin.clone(),
        }));
        let subject = Subject {
            name: format!("custom gradient {:?}", rule.name),
            location: Some(alone.node.location),
            output: slot,
            inputs: rule.parameters.iter().map(|p| p.name().to_string()).collect(),
            passed_over: pullback.gradients.iter().map(|g| matches!(g, InputGradient::Nothing)).collect(),
            is_rule: true,
        };
        match &rule.kind {
            RuleKind::Surrogate(reason) => {
                // Ones, so that the distance is that of the derivatives themselves.
                let ones = Array::new(vec![1.0; output.shape.elements()], output.shape)?;
                let program = Program::new(lab, &project, ones, alone.points.clone(), false)?;
                let outcome = program.compare()?;
                report.compared += outcome.compared;
                if let Some(forward) = &outcome.forward {
                    report.findings.push(subject.forward(forward, 1));
                }
                let name = rule.name.clone();
                let distance = distance(&subject, name, reason.clone(), outcome.worst.as_ref(), orders);
                if orders > 1 {
                    // At first order it is believed. Its gradient is a function like any other.
                    let weights = lab.draw(&output.shape)?;
                    let program = Program::new(lab, &project, weights, alone.points.clone(), false)?;
                    if let Some(slope) = program.slope()? {
                        check_orders(lab, slope, &subject, 2..=orders, seen, report)?;
                    }
                }
                if furthest.as_ref().is_none_or(|known| distance.distance() > known.distance()) {
                    furthest = Some(distance);
                }
            }
            RuleKind::Exact => {
                let weights = lab.draw(&output.shape)?;
                let program = Program::new(lab, &project, weights, alone.points.clone(), false)?;
                check_orders(lab, program, &subject, 1..=orders, seen, report)?;
            }
            RuleKind::FirstOrderOnly | RuleKind::Checkpoint { .. } => {}
        }
    }
    report.surrogates.extend(furthest);
    Ok(())
}

fn distance(
    subject: &Subject,
    rule: String,
    reason: String,
    worst: Option<&Mismatch>,
    order: usize,
) -> Distance {
    let place = worst.map(|found| subject.place(found.place.as_ref(), found.direction));
    let (gradient, derivative) = worst.map_or((0.0, 0.0), |found| (found.got, found.expected));
    Distance { rule, reason, place, gradient, derivative, order }
}

/// Values that are not those of the plain function that the rule itself names.
fn other_than_plain(lab: &Lab<'_>, alone: &Alone, rule: &TracedRule) -> Result<Option<Error>, Error> {
    let Some(plain) = &rule.plain else { return Ok(None) };
    let map = rule.parameters.iter().map(Node::identity).zip(alone.node.operands.iter().cloned()).collect();
    let tensors = |nodes: Vec<Arc<Node>>| nodes.into_iter().map(Tensor::from_node).collect::<Vec<_>>();
    let (ours, theirs) = (tensors(rule.instantiate(&alone.node.operands)), tensors(substitute(plain, &map)));
    Ok(lab.first_difference(&ours, &theirs)?.map(|(output, element, got, expected)| {
        let message = format!(
            "output {output}, element {element:?} is {got:?} by `forward`, {expected:?} by the plain function"
        );
        Error::new(Code::RulePrimal, format!("rule {:?}", rule.name), message)
            .at(alone.node.location)
            .hint("`forward` returns the pair (outputs, saved): the outputs are those of the plain function")
    }))
}

/// A node on data instead of its operands.
#[derive(Clone)]
pub(super) struct Alone {
    pub(super) node: Arc<Node>,
    /// Its float operands.
    pub(super) points: Vec<Point>,
}

impl Alone {
    pub(super) fn new(lab: &Lab<'_>, node: &Arc<Node>) -> Result<Alone, Error> {
        Alone::at(node, lab.evaluator.evaluate(&operands(node).iter().collect::<Vec<_>>())?)
    }
    pub(super) fn at(node: &Arc<Node>, values: Vec<Array>) -> Result<Alone, Error> {
        let (mut leaves, mut points) = (Vec::new(), Vec::new());
        for (input, base) in values.into_iter().enumerate() {
            let tensor = Tensor::new(base.clone());
            leaves.push(tensor.node()?.clone());
            if base.dtype().is_float() {
                points.push(Point { input, tensor, base });
            }
        }
        Ok(Alone { node: node.with_operands(leaves), points })
    }
}

/// The first node of a graph whose own derivative is wrong, or infinite if that is what was found: it explains what is
/// found later.
fn first_wrong(lab: &Lab<'_>, root: &Tensor, code: Code) -> Result<Option<Arc<Node>>, Error> {
    for node in topological([root.node()?]) {
        if !node.dtype.is_float() || matches!(node.op, Op::Rule(_) | Op::Project(_) | Op::Detach) {
            continue;
        }
        let alone = Alone::new(lab, &node)?;
        if alone.points.is_empty() {
            continue;
        }
        let weights = lab.draw(&node.shape)?;
        let output = Tensor::from_node(alone.node.clone());
        let program = Program::new(lab, &output, weights, alone.points, false)?;
        // Beside the path there may be what has no derivative.
        let Ok(outcome) = program.compare() else { continue };
        let wrong = match code {
            Code::Nonfinite => outcome.infinite,
            _ => outcome.worst.is_some() || outcome.forward.is_some(),
        };
        if wrong {
            return Ok(Some(node));
        }
    }
    Ok(None)
}
