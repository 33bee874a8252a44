//! Custom gradients as data: graphs on placeholders.

use std::collections::HashMap;
use std::sync::Arc;

use crate::address::AddressMap;
use crate::node::{Node, Origin, topological_until};
use crate::{Error, Tensor};

/// Whether a rule claims to be the derivative of its function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// Checks compare it with the true derivative.
    Exact,
    /// It deliberately differs; the reason.
    Surrogate(String),
    /// Not a rule: a gradient whose own derivative its rule declares not to know.
    FirstOrderOnly,
    /// Not a rule: a function that is differentiated as its graph is, and computed again where a derivative needs what
    /// is inside of it. Outputs from `results` on are values that are kept for that.
    Checkpoint {
        /// How many outputs the function has.
        results: usize,
    },
}

/// A custom gradient, traced once on placeholders and stored as a graph.
#[derive(Clone, Debug)]
pub struct TracedRule {
    /// The user's name for it.
    pub name: String,
    /// Exact or a declared surrogate.
    pub kind: RuleKind,
    /// Placeholders of the inputs.
    pub parameters: Vec<Arc<Node>>,
    /// The outputs, in terms of the parameters.
    pub outputs: Vec<Arc<Node>>,
    /// Positions of float outputs that are declared to have no derivative.
    pub without_derivative: Vec<usize>,
    /// The plain function, in terms of the parameters, where the user gave one to compare `outputs` with.
    pub plain: Option<Vec<Arc<Node>>>,
    /// Placeholders of the cotangents of the outputs.
    pub upstream: Vec<Arc<Node>>,
    /// The first one serves where cotangents are missing too, as zeros; further ones know which are missing. Without any,
    /// the function has no gradient rule, and `upstream` is empty.
    pub pullbacks: Vec<Pullback>,
    /// The forward mode, if the user gave one.
    pub pushforward: Option<Pushforward>,
    /// What forward mode answers if it has to transpose a pullback that is not linear; without it, `E_NO_JVP`.
    pub unless_linear: Option<Error>,
    /// Floats past the inputs of which the graphs hold copies: masks and the like, with respect to which nothing can be
    /// differentiated.
    pub absorbed: Vec<Arc<Node>>,
}

/// Cotangents of the inputs of a rule, in terms of its parameters and upstream.
#[derive(Clone, Debug)]
pub struct Pullback {
    /// For which outputs cotangents have arrived.
    pub present: Vec<bool>,
    /// One per input.
    pub gradients: Vec<InputGradient<Arc<Node>>>,
}

/// Tangents of the outputs of a rule, in terms of its parameters and the tangents of its inputs.
#[derive(Clone, Debug)]
pub struct Pushforward {
    /// Placeholders of the tangents of the inputs; those of integers and truth values are not used.
    pub tangents: Vec<Arc<Node>>,
    /// One per output; none for integers, truth values and outputs without derivative.
    pub outputs: Vec<Option<Arc<Node>>>,
}

/// What a rule passes to one input.
#[derive(Clone, Debug)]
pub enum InputGradient<T> {
    /// A cotangent.
    Value(T),
    /// A cotangent that is zero whatever comes.
    Zero,
    /// Nothing, on purpose: the path ends here.
    Nothing,
    /// There is a derivative, which the rule does not know; why. An error where it is wanted.
    Missing(String),
}

impl<T> InputGradient<T> {
    /// The cotangent, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            InputGradient::Value(value) => Some(value),
            InputGradient::Zero | InputGradient::Nothing | InputGradient::Missing(_) => None,
        }
    }
    /// With another cotangent.
    pub fn with<U>(&self, value: impl FnOnce(&T) -> U) -> InputGradient<U> {
        match self {
            InputGradient::Value(old) => InputGradient::Value(value(old)),
            InputGradient::Zero => InputGradient::Zero,
            InputGradient::Nothing => InputGradient::Nothing,
            InputGradient::Missing(why) => InputGradient::Missing(why.clone()),
        }
    }
}

impl From<Tensor> for InputGradient<Tensor> {
    fn from(gradient: Tensor) -> Self {
        InputGradient::Value(gradient)
    }
}

impl From<Option<Tensor>> for InputGradient<Tensor> {
    fn from(gradient: Option<Tensor>) -> Self {
        gradient.map_or(InputGradient::Nothing, InputGradient::Value)
    }
}

impl TracedRule {
    /// A function without a gradient rule.
    pub fn function(name: String, parameters: Vec<Arc<Node>>, outputs: Vec<Arc<Node>>) -> TracedRule {
        TracedRule {
            name,
            kind: RuleKind::Exact,
            parameters,
            outputs,
            without_derivative: Vec::new(),
            plain: None,
            upstream: Vec::new(),
            pullbacks: Vec::new(),
            pushforward: None,
            unless_linear: None,
            absorbed: Vec::new(),
        }
    }
    /// The outputs on actual operands.
    pub fn instantiate(&self, operands: &[Arc<Node>]) -> Vec<Arc<Node>> {
        let map = self.parameters.iter().map(Node::identity).zip(operands.iter().cloned()).collect();
        let origin = |_| Origin { rule: Some(format!("rule `{}`", self.name).into()), ..Origin::default() };
        placed(&self.outputs, &map, origin)
    }
    /// The pullback for these cotangents, of which some may be missing. None without a gradient rule.
    pub fn pullback(&self, present: &[bool]) -> Option<&Pullback> {
        self.pullbacks.iter().find(|pullback| pullback.present == present).or(self.pullbacks.first())
    }
    /// The cotangents of the inputs on actual operands and cotangents of the outputs, by one of the pullbacks.
    pub fn pull_back(
        &self,
        pullback: &Pullback,
        operands: &[Arc<Node>],
        upstream: &[Arc<Node>],
    ) -> Vec<InputGradient<Arc<Node>>> {
        let keys = self.parameters.iter().chain(&self.upstream).map(Node::identity);
        let map = keys.zip(operands.iter().chain(upstream).cloned()).collect();
        let values: Vec<_> = pullback.gradients.iter().filter_map(|g| g.value().cloned()).collect();
        let numbers: Vec<usize> =
            (0..pullback.gradients.len()).filter(|&i| pullback.gradients[i].value().is_some()).collect();
        let origin = |root: usize| {
            let rule = format!("gradient {} of rule `{}`", numbers[root], self.name);
            Origin { order: 1, rule: Some(rule.into()), again: false }
        };
        let mut images = placed(&values, &map, origin).into_iter();
        let image = |g: &InputGradient<Arc<Node>>| g.with(|own| images.next().unwrap_or_else(|| own.clone()));
        pullback.gradients.iter().map(image).collect()
    }
    /// The tangents of the outputs on actual operands and tangents of the inputs.
    pub fn push_forward(
        &self,
        pushforward: &Pushforward,
        operands: &[Arc<Node>],
        tangents: &[Arc<Node>],
    ) -> Vec<Option<Arc<Node>>> {
        let keys = self.parameters.iter().chain(&pushforward.tangents).map(Node::identity);
        let map = keys.zip(operands.iter().chain(tangents).cloned()).collect();
        let values: Vec<_> = pushforward.outputs.iter().flatten().cloned().collect();
        let origin = |_| Origin {
            order: 1,
            rule: Some(format!("tangent of rule `{}`", self.name).into()),
            again: false,
        };
        let mut images = placed(&values, &map, origin).into_iter();
        pushforward.outputs.iter().map(|output| output.as_ref().and_then(|_| images.next())).collect()
    }
    /// Every node that the rule holds, taken out of it.
    pub(crate) fn into_nodes(self) -> impl Iterator<Item = Arc<Node>> {
        let TracedRule { parameters, outputs, plain, upstream, pullbacks, pushforward, absorbed, .. } = self;
        let pulled = pullbacks.into_iter().flat_map(|pullback| pullback.gradients).filter_map(|g| match g {
            InputGradient::Value(node) => Some(node),
            InputGradient::Zero | InputGradient::Nothing | InputGradient::Missing(_) => None,
        });
        let pushed = pushforward
            .into_iter()
            .flat_map(|p| p.tangents.into_iter().chain(p.outputs.into_iter().flatten()));
        let own = parameters.into_iter().chain(outputs).chain(upstream).chain(plain.into_iter().flatten());
        own.chain(pulled).chain(pushed).chain(absorbed)
    }
}

/// The graphs of `roots` with placeholders replaced, by [`Node::identity`]; what does not depend on one is shared. New nodes
/// say which root they were made for, and add its order to their own.
fn placed(
    roots: &[Arc<Node>],
    replacements: &HashMap<*const (), Arc<Node>>,
    origin: impl Fn(usize) -> Origin,
) -> Vec<Arc<Node>> {
    let mut done: AddressMap<Node, Arc<Node>> = AddressMap::default();
    for (position, root) in roots.iter().enumerate() {
        if done.contains_key(&root.key()) {
            continue;
        }
        let made_for = origin(position);
        for node in topological_until([root], |node| done.contains_key(&node.key())) {
            if done.contains_key(&node.key()) {
                continue;
            }
            let image = match replacements.get(&node.identity()) {
                Some(replacement) => replacement.clone(),
                None => {
                    let operands: Vec<_> = node.operands.iter().map(|o| done[&o.key()].clone()).collect();
                    match operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b)) {
                        true => node.clone(),
                        false => node.within(operands, &made_for),
                    }
                }
            };
            done.insert(node.key(), image);
        }
    }
    roots.iter().map(|root| done[&root.key()].clone()).collect()
}
