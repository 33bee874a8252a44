//! Why a gradient is what it is: zero, missing, not finite, or only a part of what it seems.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{
    AddressMap, Array, DType, Elementwise, Error, Evaluate, Node, Op, Shape, Tensor, topological,
};

use crate::enclosure::opened;
use crate::guard::{Guarded, shape_of};
use crate::pullback::{Flow, pull, pull_rule};
use crate::reverse::grad;
use crate::{Gradient, State};

/// What becomes of the gradient of a loss on its way to a tensor. Printed, it is one paragraph.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The gradient.
    pub gradient: Gradient,
    /// The applications at which paths to the tensor end, nearest to the loss first. A gradient that is a value may be cut on
    /// some of its paths; conditions that choose between branches are not counted then.
    pub cuts: Vec<Cut>,
    /// How many more there are than are listed.
    pub more: usize,
    text: String,
}

/// An application through which nothing flows back.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Its name: the user's, else that of the operation or rule.
    pub name: String,
    /// The operation.
    pub operation: String,
    /// Its line.
    pub location: &'static Location<'static>,
    /// Why nothing flows.
    pub reason: Reason,
    /// The way from the tensor to it, the tensor first.
    pub path: Vec<String>,
}

/// Why nothing flows through an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is piecewise constant, or a rule says that it passes a structural zero.
    Zero,
    /// A `detach`, or a rule that passes nothing.
    Stopped,
    /// It leaves the floats, or has no derivative.
    NotDifferentiable,
    /// The derivative exists but is missing; what is said about it.
    Missing(String),
}

/// Says what becomes of the gradient of a scalar `loss` on its way to `wrt`, from the graph alone: which applications cut it, at
/// which lines, and what to use instead.
///
/// Errors: those of [`grad`].
///
/// ```
/// use cotangent_autograd::explain;
/// use cotangent_tensor::Tensor;
///
/// let w = Tensor::new([0.4, 1.6]).named("w");
/// let loss = (w.round() * 2.0).sum(..);
/// let text = explain(&loss, &w)?.to_string();
/// assert!(text.contains("`w` → `round`") && text.contains("straight_through"), "{text}");
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn explain(loss: &Tensor, wrt: &Tensor) -> Result<Explanation, Error> {
    Walk::new(loss, wrt)?.explanation(None)
}

/// As [`explain`], and looks at the numbers too: where a cotangent becomes NaN, infinite or zero on its way, and how large it is.
///
/// Errors: those of [`grad`] and of the evaluator.
///
/// ```
/// use cotangent_autograd::explain_values;
/// use cotangent_tensor::{Reference, Tensor};
///
/// let w = Tensor::new([4.0, 0.0]).named("w");
/// let text = explain_values(&w.sqrt().sum(..), &w, &Reference::new())?.to_string();
/// assert!(text.contains("inf at element 1") && text.contains("`sqrt`"), "{text}");
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn explain_values(loss: &Tensor, wrt: &Tensor, evaluator: &dyn Evaluate) -> Result<Explanation, Error> {
    Walk::new(loss, wrt)?.explanation(Some(evaluator))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The graph between a loss and a tensor.
struct Walk {
    gradient: Gradient,
    target: Arc<Node>,
    loss: Arc<Node>,
    /// Operands before users.
    order: Vec<Arc<Node>>,
    /// For nodes that depend on the target, the operand through which they do; none for the target itself.
    way: AddressMap<Node, Option<usize>>,
    /// Nodes that a cotangent reaches, with the users that pass one on to them.
    alive: HashMap<*const Node, Vec<Arc<Node>>>,
    cuts: Vec<Cut>,
    more: usize,
}

/// Cuts that are listed.
const LISTED: usize = 16;

impl Walk {
    #[track_caller]
    fn new(loss: &Tensor, wrt: &Tensor) -> Result<Walk, Error> {
        let gradient = grad(loss, wrt)?;
        // What lies inside of checkpoints is seen too.
        let (loss, target) = match &opened(vec![loss.node()?.clone(), wrt.node()?.clone()])[..] {
            [loss, target] => (loss.clone(), target.clone()),
            _ => (loss.node()?.clone(), wrt.node()?.clone()),
        };
        let order = topological([&loss]);
        let mut way: AddressMap<Node, Option<usize>> = AddressMap::default();
        for node in &order {
            if node.identity() == target.identity() {
                way.insert(node.key(), None);
            } else if let Some(operand) = node.operands.iter().position(|o| way.contains_key(&o.key())) {
                way.insert(node.key(), Some(operand));
            }
        }
        let mut walk =
            Walk { gradient, target, loss, order, way, alive: HashMap::new(), cuts: Vec::new(), more: 0 };
        walk.flow();
        Ok(walk)
    }

    /// Follows cotangents from the loss as far as they flow, and notes where they do not.
    fn flow(&mut self) {
        let mut discrete: AddressMap<Node, ()> = AddressMap::default();
        if self.way.contains_key(&self.loss.key()) {
            self.alive.insert(self.loss.key(), Vec::new());
        }
        for node in self.order.clone().iter().rev() {
            if node.identity() == self.target.identity() {
                continue;
            }
            let is_alive = self.alive.contains_key(&node.key());
            if !is_alive && !discrete.contains_key(&node.key()) {
                continue;
            }
            let flows =
                if is_alive { flows(node) } else { node.operands.iter().map(|_| Flow::Discrete).collect() };
            for (operand, flow) in node.operands.iter().zip(flows) {
                if !self.way.contains_key(&operand.key()) {
                    continue;
                }
                let tuple = matches!(operand.op, Op::Rule(_));
                let reason = match flow {
                    Flow::Value(_) if operand.dtype.is_float() || tuple => {
                        self.alive.entry(operand.key()).or_default().push(node.clone());
                        continue;
                    }
                    // Where a path leaves the floats is seen further down.
                    Flow::Value(_) | Flow::Discrete if !operand.dtype.is_float() => {
                        discrete.insert(operand.key(), ());
                        continue;
                    }
                    Flow::Value(_) | Flow::Discrete if node.dtype == DType::Bool => Reason::Zero,
                    Flow::Value(_) | Flow::Discrete | Flow::Undefined(_) => Reason::NotDifferentiable,
                    Flow::Zero => Reason::Zero,
                    Flow::Stopped(_) => Reason::Stopped,
                    Flow::Missing(missing) => Reason::Missing(missing.error.message().to_owned()),
                };
                // A condition chooses; what it chooses between has the gradient.
                if node.dtype == DType::Bool && self.gradient.value().is_some() {
                    continue;
                }
                if self.cuts.len() == LISTED {
                    self.more += 1;
                    continue;
                }
                let path = self.path(operand);
                let (name, operation) = (name(node), node.name().to_owned());
                self.cuts.push(Cut { name, operation, location: node.location, reason, path });
            }
        }
    }

    /// The names from the target up to `node`.
    fn path(&self, node: &Arc<Node>) -> Vec<String> {
        let (mut path, mut at) = (Vec::new(), node.clone());
        loop {
            // The tuple of a rule and its projection are one application.
            if !matches!(at.op, Op::Rule(_)) {
                path.push(name(&at));
            }
            match self.way.get(&at.key()) {
                Some(Some(operand)) => at = at.operands[*operand].clone(),
                Some(None) | None => break,
            }
        }
        path.reverse();
        path
    }

    fn explanation(self, evaluator: Option<&dyn Evaluate>) -> Result<Explanation, Error> {
        let target = described(&self.target);
        let mut text = match self.gradient.state() {
            State::Value(_) => format!("The gradient of {target} is a value."),
            State::Zero => format!("The gradient of {target} is zero whatever the numbers are."),
            State::Unconnected => self.unconnected(),
            State::Stopped { .. } => {
                format!("No gradient reaches {target}: every path to it is cut on purpose.")
            }
            State::NotDifferentiable { .. } => format!("There is no gradient of {target}."),
        };
        if let (State::Value(_), false) = (self.gradient.state(), self.cuts.is_empty()) {
            text += " Not every path to it is open:";
        }
        for cut in &self.cuts {
            text += &format!(" {cut}.");
        }
        if self.more > 0 {
            text += &format!(" There are {} more such places.", self.more);
        }
        if let (State::Value(value), Some(evaluator)) = (self.gradient.state(), evaluator) {
            text += &self.numbers(value, evaluator)?;
        }
        Ok(Explanation { gradient: self.gradient, cuts: self.cuts, more: self.more, text })
    }

    fn unconnected(&self) -> String {
        let (target, loss) = (described(&self.target), described(&self.loss));
        let mut text = format!(
            "{target} has no path to the loss: none of the {} operations and tensors behind {loss} is it.",
            self.order.len()
        );
        let same =
            |node: &&Arc<Node>| node.given_name().is_some() && node.given_name() == self.target.given_name();
        if let Some(other) = self.order.iter().find(same) {
            text += &format!(" There is another tensor of that name: {}.", described(other));
        }
        text
    }

    /// What the numbers on the way say.
    fn numbers(&self, value: &Tensor, evaluator: &dyn Evaluate) -> Result<String, Error> {
        // In backward order, without the tuples of rules, which have no value.
        let nodes: Vec<Arc<Node>> = self
            .order
            .iter()
            .rev()
            .filter(|node| self.alive.contains_key(&node.key()) && !matches!(node.op, Op::Rule(_)))
            .cloned()
            .collect();
        let tensors: Vec<Tensor> = nodes.iter().map(|node| Tensor::from_node(node.clone())).collect();
        let loss = Tensor::from_node(self.loss.clone());
        let cotangents: Vec<Tensor> = grad(&loss, &tensors)?.iter().map(Gradient::or_zero).collect();
        let asked: Vec<&Tensor> = tensors.iter().chain(&cotangents).chain([value]).collect();
        let mut arrays = evaluator.evaluate(&asked)?;
        let result = arrays.pop().map(|array| array.to_f64()).unwrap_or_default();
        let all: Vec<Vec<f64>> = arrays.iter().map(Array::to_f64).collect();
        let (values, cotangents) = all.split_at(nodes.len());
        let index: AddressMap<Node, usize> = nodes.iter().enumerate().map(|(i, n)| (n.key(), i)).collect();
        let seen = Numbers { nodes: &nodes, values, cotangents, index };
        if let Some(text) = seen.forward() {
            return Ok(text);
        }
        let bad = result.iter().position(|v| !v.is_finite());
        if let (Some(element), Some((node, at))) =
            (bad, seen.first(|c| c.iter().position(|v| !v.is_finite())))
        {
            let found = seen.cotangents[node][at];
            let by = seen.sender(self, node, |c| c.iter().all(|v| v.is_finite()));
            return Ok(format!(
                " It is {} at element {element}. {}",
                result[element],
                seen.told(by, node, &format!("becomes {found} at element {at}"), Some(at))
            ));
        }
        let is_zero = |c: &[f64]| !c.is_empty() && c.iter().all(|&v| v == 0.0);
        if is_zero(&result)
            && let Some((node, _)) = seen.first(|c| is_zero(c).then_some(0))
        {
            let by = seen.sender(self, node, |c| !is_zero(c));
            return Ok(format!(
                " At these numbers it is zero at every element. {}",
                seen.told(by, node, "becomes zero everywhere", None)
            ));
        }
        let largest = |c: &[f64]| c.iter().fold(0f64, |m, v| m.max(v.abs()));
        let mut text = format!(" Its largest element is {:.3e} in magnitude.", largest(&result));
        if let Some((factor, node, by)) = seen.steepest(self) {
            text += &format!(
                " The step that changes magnitudes most is `{}` ({}): by a factor of {factor:.1e} for `{}`.",
                name(&by),
                line(&by),
                name(&seen.nodes[node])
            );
        }
        Ok(text)
    }
}

/// Values and cotangents of the nodes on the way, in backward order.
struct Numbers<'a> {
    nodes: &'a [Arc<Node>],
    values: &'a [Vec<f64>],
    cotangents: &'a [Vec<f64>],
    index: AddressMap<Node, usize>,
}

impl Numbers<'_> {
    /// The first value of the forward pass that is not finite.
    fn forward(&self) -> Option<String> {
        let bad = |i: usize| self.values[i].iter().position(|v| !v.is_finite());
        let (node, element) = (0..self.nodes.len()).rev().find_map(|i| Some((i, bad(i)?)))?;
        let made = &self.nodes[node];
        let text = format!(
            " The forward pass is not finite: `{}` ({}) is {} at element {element}{}; no gradient through it means anything.",
            name(made),
            line(made),
            self.values[node][element],
            self.operands_at(made, element)
        );
        Some(text)
    }
    /// The first cotangent, seen from the loss, of which `test` says something.
    fn first(&self, test: impl Fn(&[f64]) -> Option<usize>) -> Option<(usize, usize)> {
        (0..self.nodes.len()).find_map(|i| Some((i, test(&self.cotangents[i])?)))
    }
    /// The application that sent a cotangent to a node, one whose own passes `test` if there is one.
    fn sender(&self, walk: &Walk, node: usize, test: impl Fn(&[f64]) -> bool) -> Option<Arc<Node>> {
        let users = self.users(walk, node);
        let passes =
            |user: &&Arc<Node>| self.index.get(&user.key()).is_some_and(|&i| test(&self.cotangents[i]));
        users.iter().find(passes).or(users.first()).cloned()
    }
    /// The users of a node; for rules, what is projected from them.
    fn users(&self, walk: &Walk, node: usize) -> Vec<Arc<Node>> {
        let direct = walk.alive.get(&self.nodes[node].key()).cloned().unwrap_or_default();
        let seen = |user: Arc<Node>| match user.op {
            Op::Rule(_) => walk.alive.get(&user.key()).cloned().unwrap_or_default(),
            _ => vec![user],
        };
        direct.into_iter().flat_map(seen).collect()
    }
    /// The step that changes the largest magnitude most, if by more than four orders.
    fn steepest(&self, walk: &Walk) -> Option<(f64, usize, Arc<Node>)> {
        const REMARKABLE: f64 = 1e4;
        let largest = |i: usize| self.cotangents[i].iter().fold(0f64, |m, v| m.max(v.abs()));
        let mut found: Option<(f64, usize, Arc<Node>)> = None;
        for node in 0..self.nodes.len() {
            for user in self.users(walk, node) {
                let Some(&from) = self.index.get(&user.key()) else { continue };
                let factor = largest(node) / largest(from);
                let size = |f: f64| f.log10().abs();
                if factor.is_normal()
                    && size(factor) >= REMARKABLE.log10()
                    && found.as_ref().is_none_or(|(known, ..)| size(*known) < size(factor))
                {
                    found = Some((factor, node, user));
                }
            }
        }
        found
    }
    fn told(&self, by: Option<Arc<Node>>, node: usize, what: &str, element: Option<usize>) -> String {
        let receiver = name(&self.nodes[node]);
        let Some(by) = by else { return format!("The cotangent of `{receiver}` {what}.") };
        let at = element.map(|at| self.operands_at(&by, at)).unwrap_or_default();
        format!(
            "The cotangent {what} behind `{}` ({}), on its way to `{receiver}`{at}.",
            name(&by),
            line(&by)
        )
    }
    /// ", where `x` is 0": operands of the same shape at an element.
    fn operands_at(&self, node: &Node, element: usize) -> String {
        let shown = |operand: &Arc<Node>| {
            let &position = self.index.get(&operand.key())?;
            let value =
                (operand.shape == node.shape).then(|| self.values[position].get(element)).flatten()?;
            Some(format!("`{}` is {value}", name(operand)))
        };
        let all: Vec<String> = node.operands.iter().filter_map(shown).collect();
        if all.is_empty() { String::new() } else { format!(", where {}", all.join(" and ")) }
    }
}

/// What `node` sends to its operands for some cotangent.
pub(crate) fn flows(node: &Arc<Node>) -> Vec<Flow> {
    let ones = |shape: Shape| Guarded::plain(Tensor::ones(shape));
    match &node.op {
        Op::Rule(rule) => pull_rule(node, rule, rule.outputs.iter().map(|o| Some(ones(o.shape))).collect()),
        _ => pull(node, &ones(shape_of(&Tensor::from_node(node.clone()))), |_| true),
    }
}

/// The user's name of a node, else its operation's; an output of a rule has the name of the rule.
fn name(node: &Node) -> String {
    match (node.given_name(), &node.op) {
        (Some(name), _) => name.to_owned(),
        (None, Op::Project(_)) => node.operands[0].name().to_owned(),
        (None, _) => node.name().to_owned(),
    }
}

fn line(node: &Node) -> String {
    format!("{}:{}", node.location.file(), node.location.line())
}

fn described(node: &Node) -> String {
    format!("`{}` ({} {}, {})", name(node), node.dtype, node.shape, line(node))
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names shown of a longer path, from each end.
        const ENDS: usize = 3;
        let mut names: Vec<String> = self.path.iter().map(|name| format!("`{name}`")).collect();
        if names.len() > 2 * ENDS {
            let left_out = names.len() - 2 * ENDS;
            names.splice(ENDS..ENDS + left_out, [format!("… {left_out} more …")]);
        }
        names.push(format!("`{}`", self.name));
        let (file, line) = (self.location.file(), self.location.line());
        let why = match &self.reason {
            Reason::Zero => "its derivative is zero almost everywhere".to_owned(),
            Reason::Stopped => "nothing passes it, as was asked for".to_owned(),
            Reason::NotDifferentiable => "it has no derivative".to_owned(),
            Reason::Missing(why) => why.clone(),
        };
        write!(f, "{} ({file}:{line}): {why}", names.join(" → "))?;
        match instead(&self.operation, &self.reason) {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// What to use where an operation cuts.
fn instead(name: &str, reason: &Reason) -> Option<&'static str> {
    let is = |rows: &[Elementwise]| rows.iter().any(|row| row.name() == name);
    use Elementwise::{Ceil, Floor, Round, Sign, Trunc};
    Some(match reason {
        Reason::Missing(_) => return None,
        Reason::Stopped if name == "detach" => "leave out the `detach` if this path should count",
        Reason::Stopped => return None,
        _ if is(&[Round, Floor, Ceil, Trunc]) => {
            "`straight_through(&x.round(), &x)` keeps the value and takes the slope of `x`"
        }
        _ if is(&[Sign]) => "`surrogate` gives it another slope, for example that of a sigmoid",
        _ if name == "argmax" || name == "argmin" => "a softmax, or a gather at the position, has a gradient",
        Reason::Zero => "`surrogate`, or a smooth function such as a sigmoid, has a slope",
        Reason::NotDifferentiable if name == "cast" => {
            "keep it a float, or write `straight_through(&discrete.cast(..), &x)`"
        }
        Reason::NotDifferentiable => "write its gradient with `custom_gradient`",
    })
}
