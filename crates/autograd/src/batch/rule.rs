//! Batched custom rules: the same rule for one axis more. All that is known here about the parts of a
//! [`TracedRule`] stands in this file.

use std::sync::Arc;

use cotangent_tensor::{
    Code, Error, InputGradient, Label, Node, Op, Pullback, Pushforward, Shape, Tensor, Token, TracedRule,
};

use super::sweep::{Image, Replacements};
use super::{led, placeholder};
use crate::stamp::relocated;

type Nodes = Vec<Arc<Node>>;

/// A rule whose body is being batched.
pub(super) struct Opened {
    rule: Arc<TracedRule>,
    /// Which operands have the leading axis.
    batched: Vec<bool>,
    /// Placeholders of the new rule; those of operands without the axis stay, and so do those of their
    /// tangents.
    parameters: Nodes,
    tangents: Nodes,
    /// Every output has a cotangent of its own for each example.
    upstream: Nodes,
}

impl Opened {
    pub(super) fn new(rule: &Arc<TracedRule>, operands: &[Image], size: usize) -> Result<Opened, Error> {
        let widened =
            |node: &Arc<Node>| Ok(placeholder(Token::new(node.name(), 0), led(&node.shape, size)?, node));
        let of_operand = |(node, operand): (&Arc<Node>, &Image)| match operand.batched {
            true => widened(node),
            false => Ok(node.clone()),
        };
        let of_operands =
            |nodes: &[Arc<Node>]| nodes.iter().zip(operands).map(of_operand).collect::<Result<_, Error>>();
        Ok(Opened {
            rule: rule.clone(),
            batched: operands.iter().map(|operand| operand.batched).collect(),
            parameters: of_operands(&rule.parameters)?,
            tangents: of_operands(tangents(rule))?,
            upstream: rule.upstream.iter().map(widened).collect::<Result<_, Error>>()?,
        })
    }
    pub(super) fn name(&self) -> &str {
        &self.rule.name
    }
    /// The graphs of the body, in the order in which [`Opened::close`] takes their images.
    pub(super) fn roots(&self) -> Nodes {
        let TracedRule { outputs, plain, pullbacks, pushforward, .. } = &*self.rule;
        let pulled = pullbacks.iter().flat_map(|p| &p.gradients).filter_map(InputGradient::value);
        let pushed = pushforward.iter().flat_map(|p| p.outputs.iter().flatten());
        outputs.iter().chain(plain.iter().flatten()).chain(pulled).chain(pushed).cloned().collect()
    }
    /// What stands for one example in the body.
    pub(super) fn replacements(&self) -> Replacements {
        let of_operands = |old: &[Arc<Node>], new: &[Arc<Node>]| {
            let pairs = old.iter().cloned().zip(new.iter().cloned()).zip(&self.batched);
            pairs.filter(|(_, batched)| **batched).map(|(pair, _)| pair).collect::<Vec<_>>()
        };
        let upstream = self.rule.upstream.iter().cloned().zip(self.upstream.iter().cloned());
        let operands = of_operands(&self.rule.parameters, &self.parameters).into_iter();
        let pairs = operands.chain(of_operands(tangents(&self.rule), &self.tangents)).chain(upstream);
        pairs.map(|(old, new)| (old.identity(), new)).collect()
    }
    /// The batched rule, from the images of the roots.
    pub(super) fn close(self, images: Vec<Image>, size: usize) -> Result<TracedRule, Error> {
        let mut images = images.into_iter();
        let mut next = |_: &Arc<Node>| {
            let missing = || Error::new(Code::Internal, "batch", "a graph of a rule has no image");
            images.next().ok_or_else(missing)?.spread(size)
        };
        let Opened { rule, batched, parameters, tangents, upstream } = self;
        let outputs = rule.outputs.iter().map(&mut next).collect::<Result<_, _>>()?;
        let plain = rule.plain.as_ref().map(|plain| plain.iter().map(&mut next).collect()).transpose()?;
        let mut pullbacks = Vec::new();
        for Pullback { present, gradients } in &rule.pullbacks {
            let mut pulled = Vec::new();
            for (gradient, &batched) in gradients.iter().zip(&batched) {
                pulled.push(match gradient.value() {
                    Some(one) if batched => InputGradient::Value(next(one)?),
                    Some(one) => InputGradient::Value(summed(&next(one)?, one)?),
                    None => gradient.clone(),
                });
            }
            pullbacks.push(Pullback { present: present.clone(), gradients: pulled });
        }
        let pushforward = match &rule.pushforward {
            Some(Pushforward { outputs, .. }) => {
                let outputs = outputs.iter().map(|output| output.as_ref().map(&mut next).transpose());
                Some(Pushforward { tangents, outputs: outputs.collect::<Result<_, _>>()? })
            }
            None => None,
        };
        let (name, kind) = (rule.name.clone(), rule.kind.clone());
        let without_derivative = rule.without_derivative.clone();
        Ok(TracedRule {
            name,
            kind,
            parameters,
            outputs,
            without_derivative,
            plain,
            upstream,
            pullbacks,
            pushforward,
            unless_linear: rule.unless_linear.clone(),
            absorbed: rule.absorbed.clone(),
        })
    }
}

/// Placeholders of the tangents of the operands; none without a forward mode.
fn tangents(rule: &TracedRule) -> &[Arc<Node>] {
    rule.pushforward.as_ref().map_or(&[], |pushforward| &pushforward.tangents)
}

/// What an operand receives that all examples share: the sum over them, in the type of the gradient of one.
fn summed(gradients: &Arc<Node>, one: &Node) -> Result<Arc<Node>, Error> {
    let sum = Tensor::from_node(gradients.clone()).sum(0).cast(one.dtype);
    relocated(&sum, [gradients.key()], one.location, &one.origin).node().cloned()
}

/// The rule instead of the one in `node`.
pub(super) fn applied(
    rule: TracedRule,
    node: &Node,
    operands: Vec<Image>,
    size: usize,
) -> Result<Arc<Node>, Error> {
    let shape = rule.outputs.first().map_or_else(|| led(&Shape::SCALAR, size), |output| Ok(output.shape))?;
    let Node { dtype, location, .. } = *node;
    let (label, origin) = (node.label.as_ref().map(Label::detached), node.origin.clone());
    let operands = operands.into_iter().map(|operand| operand.node).collect();
    Ok(Arc::new(Node { op: Op::Rule(Arc::new(rule)), operands, shape, dtype, location, label, origin }))
}
