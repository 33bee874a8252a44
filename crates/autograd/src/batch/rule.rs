//! Batched custom rules: the same rule for one example more than before. All that is known here about the parts of a
//! [`Rule`] stands in this file.

use std::sync::Arc;

use cotangent_tensor::{Error, Label, Node, Op, Rule, Shape, Tensor};

use super::sweep::{Image, Replacements};
use super::{led, placeholder};
use crate::stamp::relocated;

/// A rule whose body is being batched.
pub(super) struct Opened {
    rule: Arc<Rule>,
    /// Which operands have the leading axis.
    batched: Vec<bool>,
    /// Placeholders of the new rule; those of operands without the axis stay.
    parameters: Vec<Arc<Node>>,
    upstream: Vec<Arc<Node>>,
}

impl Opened {
    pub(super) fn new(rule: &Arc<Rule>, operands: &[Image], size: usize) -> Result<Opened, Error> {
        let widened = |node: &Arc<Node>| Ok(placeholder(node.name(), led(&node.shape, size)?, node));
        let parameter = |(node, operand): (&Arc<Node>, &Image)| match operand.batched {
            true => widened(node),
            false => Ok(node.clone()),
        };
        Ok(Opened {
            rule: rule.clone(),
            batched: operands.iter().map(|operand| operand.batched).collect(),
            parameters: rule.parameters.iter().zip(operands).map(parameter).collect::<Result<_, Error>>()?,
            upstream: rule.upstream.iter().map(widened).collect::<Result<_, Error>>()?,
        })
    }
    pub(super) fn name(&self) -> &str {
        &self.rule.name
    }
    /// The graphs of the body: outputs, then gradients.
    pub(super) fn roots(&self) -> Vec<Arc<Node>> {
        self.rule.outputs.iter().chain(self.rule.gradients.iter().flatten()).cloned().collect()
    }
    /// What stands for one example in the body. Every output has an upstream of its own for each example.
    pub(super) fn replacements(&self) -> Replacements {
        let parameters = self.rule.parameters.iter().zip(&self.parameters).zip(&self.batched);
        let moved = parameters.filter(|(_, batched)| **batched).map(|(pair, _)| pair);
        let pairs = moved.chain(self.rule.upstream.iter().zip(&self.upstream));
        pairs.map(|(old, new)| (old.identity(), new.clone())).collect()
    }
    /// The batched rule, from the images of the roots.
    pub(super) fn close(self, images: Vec<Image>, size: usize) -> Result<Rule, Error> {
        let mut images = images.into_iter().map(|image| image.spread(size));
        let outputs = images.by_ref().take(self.rule.outputs.len()).collect::<Result<_, _>>()?;
        let mut gradients = Vec::new();
        for (position, gradient) in self.rule.gradients.iter().enumerate() {
            gradients.push(match (gradient, self.batched[position]) {
                (None, _) => None,
                (Some(_), true) => images.next().transpose()?,
                (Some(gradient), false) => match images.next().transpose()? {
                    Some(image) => Some(summed(&image, gradient)?),
                    None => None,
                },
            });
        }
        let (name, kind) = (self.rule.name.clone(), self.rule.kind.clone());
        let Opened { parameters, upstream, .. } = self;
        Ok(Rule { name, kind, parameters, outputs, upstream, gradients })
    }
}

/// What an operand receives that all examples share: the sum over them, in the type of the gradient of one.
fn summed(gradients: &Arc<Node>, one: &Node) -> Result<Arc<Node>, Error> {
    let sum = Tensor::from_node(gradients.clone()).sum(0).cast(one.dtype);
    relocated(&sum, [gradients.key()], one.location).node().cloned()
}

/// The rule instead of the one in `node`.
pub(super) fn applied(
    rule: Rule,
    node: &Node,
    operands: Vec<Image>,
    size: usize,
) -> Result<Arc<Node>, Error> {
    let shape = rule.outputs.first().map_or_else(|| led(&Shape::SCALAR, size), |output| Ok(output.shape))?;
    let Node { dtype, location, .. } = *node;
    let label = node.label.as_ref().map(Label::detached);
    let operands = operands.into_iter().map(|operand| operand.node).collect();
    Ok(Arc::new(Node { op: Op::Rule(Arc::new(rule)), operands, shape, dtype, location, label }))
}
