//! Rules of the user where they are first used: in builds with debug assertions no gradient is built from a wrong rule.
//!
//! A false alarm would be worse than no check: so a rule is refused only where dual numbers and differences both refute it,
//! away from kinks, at the values that it has or at drawn ones of every kind. What is left over is for `gradcheck`.

use std::cell::Cell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use cotangent_tensor::{
    AddressMap, Array, DType, Error, InputGradient, Key, Node, Op, Reference, RuleKind, Tensor, TracedRule,
    topological,
};

use super::lab::{Lab, Witnesses};
use super::local::{Alone, check_alone};
use super::plain::is_cut;
use super::points::{Operands, small};
use super::report::Report;
use super::widen::{parts, widened};

/// Rules that are remembered at one line. One with a number that changes from step to step is another one at every step.
const MOST_FORMS: usize = 64;

/// Where a rule was found wrong.
const GIVEN: &str = "at its first use, at the values that its inputs have there";
const DRAWN: &str = "at its first use, at values that were drawn for its inputs (a rule that relies on others is used in \
                     `check::unchecked`)";

/// What was checked, by the line where it is applied. Wrong rules are not remembered.
static CHECKED: Mutex<BTreeMap<&'static Location<'static>, BTreeSet<u64>>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// How many calls of [`unchecked`] are running.
    static UNCHECKED: Cell<usize> = const { Cell::new(0) };
}

/// Which derivative of a rule is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Its pullback.
    Reverse,
    /// Its forward mode, or what follows of its pullback.
    Forward,
}

/// Runs `function`, in which rules are not checked where they are first used: for tests that use wrong rules on purpose. A
/// rule that differs from the derivative because that is wanted is declared a [surrogate](crate::CustomGradient::surrogate).
///
/// It counts for the thread that calls it. Without debug assertions nothing is checked anyway.
///
/// ```
/// use cotangent_autograd::{check::unchecked, custom_gradient, grad};
/// use cotangent_tensor::{Code, Tensor};
///
/// let x = Tensor::new(2.0);
/// let wrong = custom_gradient("square", [&x], |[x]| (&x * &x, move |upstream: Tensor| upstream * x * 2.01));
/// assert!(unchecked(|| grad(&wrong, &x)).is_ok());
/// // Always an error with debug assertions.
/// if let Err(error) = grad(&wrong, &x) {
///     assert_eq!(error.code(), Code::RuleWrong);
/// }
/// ```
pub fn unchecked<T>(function: impl FnOnce() -> T) -> T {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            UNCHECKED.set(UNCHECKED.get() - 1);
        }
    }
    UNCHECKED.set(UNCHECKED.get() + 1);
    let _running = Running;
    function()
}

/// Checks a rule whose derivative by some of its operands is about to be used, unless that was done before. Error: what is wrong
/// with it.
pub(crate) fn first_use(
    node: &Arc<Node>,
    rule: &TracedRule,
    wanted: impl Fn(usize) -> bool,
    mode: Mode,
) -> Result<(), Error> {
    if !cfg!(debug_assertions) || UNCHECKED.get() > 0 || rule.kind != RuleKind::Exact {
        return Ok(());
    }
    let wanted: Vec<bool> = (0..node.operands.len()).map(wanted).collect();
    let rule = asked(rule, &wanted);
    if rule.pullbacks.is_empty() || is_cut(&rule) {
        return Ok(());
    }
    let roots: Vec<Arc<Node>> = parts(&rule).cloned().collect();
    let Some(nodes) = small(roots.clone()) else { return Ok(()) };
    // Dual numbers, the first witness, know nothing of kernels.
    if nodes.iter().any(|node| matches!(node.op, Op::Kernel(_))) {
        return Ok(());
    }
    let form = form(&rule, mode, &nodes, &roots);
    let checked = || CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    if checked().get(node.location).is_some_and(|forms| forms.contains(&form)) {
        return Ok(());
    }
    // In reverse mode what is not wanted was made of nothing that is.
    let made: Vec<bool> = wanted.iter().map(|wanted| *wanted || mode == Mode::Forward).collect();
    if is_entangled(node, &rule, &made, &nodes) {
        return Ok(());
    }
    let Node { shape, dtype, location, .. } = **node;
    let (operands, origin) = (node.operands.clone(), node.origin.clone());
    let op = Op::Rule(Arc::new(rule));
    let node = Arc::new(Node { op, operands, shape, dtype, location, label: None, origin });
    // What goes wrong in the check itself says nothing about the rule.
    let found = catch_unwind(AssertUnwindSafe(|| unchecked(|| finding(&node, mode))));
    if let Ok(Some(finding)) = found {
        return Err(finding);
    }
    let mut checked = checked();
    let forms = checked.entry(location).or_default();
    if forms.len() >= MOST_FORMS {
        forms.clear();
    }
    forms.insert(form);
    Ok(())
}

/// A rule that passes nothing to operands of which nobody asks for the derivative: what it says of them is not used.
fn asked(rule: &TracedRule, wanted: &[bool]) -> TracedRule {
    let mut rule = rule.clone();
    for pullback in &mut rule.pullbacks {
        let unwanted = pullback.gradients.iter_mut().zip(wanted).filter(|(_, wanted)| !**wanted);
        unwanted.for_each(|(gradient, _)| *gradient = InputGradient::Nothing);
    }
    rule
}

/// Whether a rule may be right only as it is applied, where one operand is not free to move without another: one that is
/// there twice, that the rule also captures, or that another was made of to which nothing is passed. `made`: which may be made of
/// others. `held`: what the rule holds.
fn is_entangled(node: &Node, rule: &TracedRule, made: &[bool], held: &[Arc<Node>]) -> bool {
    let operands: Vec<*const ()> = node.operands.iter().map(Node::identity).collect();
    let mut floats: Vec<*const ()> = Vec::new();
    let mut data: Vec<Arc<Node>> = Vec::new();
    for ((operand, gradient), made) in node.operands.iter().zip(&rule.pullbacks[0].gradients).zip(made) {
        match gradient {
            InputGradient::Value(_) | InputGradient::Zero => floats.push(operand.identity()),
            InputGradient::Nothing | InputGradient::Missing(_) => data.extend(made.then(|| operand.clone())),
        }
    }
    let repeated = (1..operands.len()).any(|last| operands[..last].contains(&operands[last]));
    let captured = || held.iter().any(|node| operands.contains(&node.identity()));
    let is_free = |behind: Vec<Arc<Node>>| behind.iter().all(|node| !floats.contains(&node.identity()));
    repeated || captured() || !(data.is_empty() || small(data).is_some_and(is_free))
}

/// Hashes what a graph computes; its placeholders by the order in which they come.
fn hash_graph(nodes: &[Arc<Node>], roots: &[Arc<Node>], hasher: &mut DefaultHasher) {
    let mut numbers: AddressMap<Node, usize> = AddressMap::default();
    for (number, node) in nodes.iter().enumerate() {
        numbers.insert(node.key(), number);
        (&node.shape[..], node.dtype).hash(hasher);
        match &node.op {
            Op::Leaf(array) => array.to_f64().iter().for_each(|value| value.to_bits().hash(hasher)),
            Op::Placeholder(_) => "placeholder".hash(hasher),
            Op::Rule(rule) => rule.name.hash(hasher),
            Op::While(looped, output) => {
                (looped.rounds, output).hash(hasher);
                let parameters = looped.carried.iter().chain(&looped.captured);
                let roots: Vec<_> =
                    parameters.chain([&looped.condition]).chain(&looped.next).cloned().collect();
                hash_graph(&topological(&roots), &roots, hasher);
            }
            op => format!("{op:?}").hash(hasher),
        }
        node.operands.iter().for_each(|operand| numbers.get(&operand.key()).hash(hasher));
    }
    roots.iter().for_each(|root| numbers.get(&root.key()).hash(hasher));
}

/// A number for the graphs of a rule: the same rule with other options is another one.
fn form(rule: &TracedRule, mode: Mode, nodes: &[Arc<Node>], roots: &[Arc<Node>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&rule.name, mode, &rule.without_derivative).hash(&mut hasher);
    hash_graph(nodes, roots, &mut hasher);
    for pullback in &rule.pullbacks {
        pullback.present.hash(&mut hasher);
        pullback.gradients.iter().for_each(|g| std::mem::discriminant(g).hash(&mut hasher));
    }
    hasher.finish()
}

/// What a trial of a rule at some point says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    Right,
    /// By dual numbers, which know nothing of kinks.
    Suspect,
    /// There is nothing to compare.
    Unknown,
}

/// What is wrong with a rule, if it is sure.
fn finding(node: &Arc<Node>, mode: Mode) -> Option<Error> {
    let operands = Operands::of(node);
    // Two modes may differ at a kink, which drawn values avoid.
    let is_comparison = mode == Mode::Forward && has_forward(node);
    let values = if is_comparison { None } else { operands.values() };
    if let Some(alone) = values.and_then(|values| alone(node, values).ok()) {
        match tried(&alone, mode).unwrap_or(Trial::Unknown) {
            Trial::Right => return None,
            Trial::Suspect => {
                if let Some(finding) = refuted(&alone, mode) {
                    return Some(finding.within(GIVEN));
                }
            }
            Trial::Unknown => {}
        }
    }
    let mut suspects = Vec::new();
    for values in operands.drawn() {
        let Ok(alone) = values.and_then(|values| alone(node, values)) else { continue };
        match tried(&alone, mode).unwrap_or(Trial::Unknown) {
            Trial::Right => return None,
            Trial::Suspect => suspects.push(alone),
            Trial::Unknown => {}
        }
    }
    let finding = suspects.iter().find_map(|alone| refuted(alone, mode));
    finding.map(|finding| finding.within(DRAWN))
}

/// The rule on values, in full precision, and the operands that it says something about.
fn alone(node: &Arc<Node>, values: Vec<Array>) -> Result<Alone, Error> {
    let narrow = Alone::at(node, values)?;
    let mut nodes = vec![narrow.node.clone()];
    for point in &narrow.points {
        nodes.push(point.tensor.node()?.clone());
    }
    let (wide, _) = widened(&nodes)?;
    let mut wide = wide.into_iter();
    let mut alone = Alone { node: wide.next().unwrap_or(narrow.node), points: narrow.points };
    for (point, leaf) in alone.points.iter_mut().zip(wide) {
        point.tensor = Tensor::from_node(leaf);
        point.base = point.base.clone().with_dtype(DType::F32);
    }
    if let Op::Rule(rule) = &alone.node.op {
        let says = |input: usize| !matches!(rule.pullbacks[0].gradients[input], InputGradient::Nothing);
        alone.points.retain(|point| says(point.input));
    }
    Ok(alone)
}

/// Along one random direction, by dual numbers.
fn tried(alone: &Alone, mode: Mode) -> Result<Trial, Error> {
    let reference = Reference::new();
    let lab = lab(&reference, Witnesses::Dual, Some(1), alone, mode);
    let Op::Rule(rule) = &alone.node.op else { return Ok(Trial::Unknown) };
    let outputs = rule.instantiate(&alone.node.operands).into_iter().filter(|output| output.dtype.is_float());
    let outputs: Vec<Tensor> = outputs.map(Tensor::from_node).collect();
    if !lab.values(&outputs)?.iter().flatten().all(|value| value.is_finite()) {
        return Ok(Trial::Unknown);
    }
    let report = report(&lab, alone)?;
    Ok(match (report.is_ok(), report.compared.dual) {
        (false, _) => Trial::Suspect,
        (true, 0) => Trial::Unknown,
        (true, _) => Trial::Right,
    })
}

/// What all witnesses refute, element by element.
fn refuted(alone: &Alone, mode: Mode) -> Option<Error> {
    let reference = Reference::new();
    let lab = lab(&reference, Witnesses::Both, None, alone, mode);
    report(&lab, alone).ok()?.findings.into_iter().next()
}

fn report(lab: &Lab<'_>, alone: &Alone) -> Result<Report, Error> {
    let mut report = Report::default();
    if let Op::Rule(rule) = &alone.node.op {
        check_alone(lab, alone.clone(), rule, 1, &mut Vec::new(), &mut report)?;
    }
    Ok(report)
}

fn lab<'a>(
    evaluator: &'a Reference,
    witnesses: Witnesses,
    directions: Option<usize>,
    alone: &Alone,
    mode: Mode,
) -> Lab<'a> {
    Lab {
        evaluator,
        key: Key::new(0).stream("first use"),
        directions,
        forward: mode == Mode::Forward && has_forward(&alone.node),
        slack: 0.0,
        draws: Cell::new(0),
        witnesses,
    }
}

/// Whether a rule has a forward mode of its own, which is compared with reverse mode where it is used.
fn has_forward(node: &Node) -> bool {
    matches!(&node.op, Op::Rule(rule) if rule.pushforward.is_some())
}
