//! Custom gradients as objects: a trait whose implementors keep what they like between function and derivatives.

use std::ops::Index;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{Code, Error, InputGradient, Node, Tensor};

use crate::rule::CustomGradient;
use crate::tracer::{Traced, Tracer, count, tensors};

/// Outputs of a rule that wants to see missing cotangents: for each set of them its pullback is traced once.
const MOST_OUTPUTS: usize = 6;

/// A custom gradient as an object. Its fields are its options; what it saves may be of any type.
///
/// A rule is traced when it is applied, with placeholders: once forward, once per derivative. So its code runs at most a few
/// times, whatever the number of steps, and what nobody asks for is not computed: gradients that are not wanted, outputs
/// that are not used and what only they need leave the graph before a device sees it.
///
/// ```
/// use cotangent_autograd::{CustomGradient, Rule, Upstream, InputGradient, grad};
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
///
/// /// `x^power`, which keeps `x^(power − 1)`.
/// struct Power { power: i32 }
///
/// impl Rule for Power {
///     type Saved = Tensor;
///     fn declare(&self) -> CustomGradient {
///         CustomGradient::exact("power")
///     }
///     fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
///         let below = (1..self.power).fold(Tensor::ones(inputs[0].shape()), |y, _| y * &inputs[0]);
///         (vec![&below * &inputs[0]], below)
///     }
///     fn vjp(&self, below: &Tensor, upstream: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
///         Some(vec![(&upstream[0] * below * f64::from(self.power)).into()])
///     }
/// }
///
/// let x = Tensor::new(2.0);
/// let y = Power { power: 3 }.apply(&[&x]).remove(0);
/// let dx = grad(&y, &x)?.or_error()?;
/// assert_eq!(Reference::new().evaluate(&[&dx])?[0].scalar()?, 12.0);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
pub trait Rule {
    /// What the function keeps for its derivatives.
    type Saved;

    /// Name and promises.
    fn declare(&self) -> CustomGradient;

    /// The outputs, and what the derivatives need of the way to them.
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Self::Saved);

    /// The same outputs, written plainly: shapes and types are compared when the rule is applied, values by `gradcheck`.
    fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let _ = inputs;
        None
    }

    /// One gradient per input, given the cotangents of the outputs. `needs` is false for integers and truth values, which
    /// can have none. `None` if there is no reverse mode: then it is the transpose of [`jvp`](Rule::jvp).
    fn vjp(
        &self,
        saved: &Self::Saved,
        upstream: &Upstream,
        needs: &[bool],
    ) -> Option<Vec<InputGradient<Tensor>>> {
        let _ = (saved, upstream, needs);
        None
    }

    /// One tangent per output, given those of the inputs (`None` for integers and truth values). `None` if there is no forward
    /// mode: then it is the transpose of [`vjp`](Rule::vjp).
    fn jvp(&self, saved: &Self::Saved, tangents: &[Option<Tensor>]) -> Option<Vec<Option<Tensor>>> {
        let _ = (saved, tangents);
        None
    }

    /// Whether `vjp` wants to know which cotangents are missing because nothing depends on their output. If so it is traced
    /// for every set of outputs, of which there may be six; otherwise missing ones are zeros.
    fn sees_missing(&self) -> bool {
        false
    }

    /// Applies the rule. A mistake makes the outputs invalid, with the errors of [`CustomGradient::apply`], and
    /// `E_RULE_PRIMAL` where `forward` and `plain` differ in number, shapes or types of outputs.
    #[track_caller]
    fn apply(&self, inputs: &[&Tensor]) -> Vec<Tensor>
    where
        Self: Sized,
    {
        self.apply_at(Location::caller(), inputs)
    }

    /// [`Rule::apply`] at another line, for rules whose text is not Rust.
    fn apply_at(&self, at: &'static Location<'static>, inputs: &[&Tensor]) -> Vec<Tensor>
    where
        Self: Sized,
    {
        let tracer = Tracer::new(self.declare(), "rule", at);
        let inputs: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
        traced(self, &tracer, &inputs).unwrap_or_else(|(error, count)| vec![Tensor::invalid(error); count])
    }
}

/// The cotangents that arrive at the outputs of a [`Rule`]. Indexed, a missing one is zeros.
#[derive(Clone, Debug)]
pub struct Upstream {
    tensors: Vec<Tensor>,
    present: Vec<bool>,
}

impl Upstream {
    /// The cotangent of this output; none if it is missing, which only a rule that [`sees_missing`](Rule::sees_missing) is told.
    pub fn get(&self, output: usize) -> Option<&Tensor> {
        self.tensors.get(output).filter(|_| self.present[output])
    }
    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }
    /// Whether there are no outputs.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

impl Index<usize> for Upstream {
    type Output = Tensor;
    fn index(&self, output: usize) -> &Tensor {
        &self.tensors[output]
    }
}

/// The outputs, or an error and the number of outputs as far as it is known.
fn traced<R: Rule>(rule: &R, tracer: &Tracer, inputs: &[Tensor]) -> Result<Vec<Tensor>, (Error, usize)> {
    let known = |error| (error, 1);
    let (operands, parameters) = tracer.parameters(inputs).map_err(|error| {
        let invalid = vec![Tensor::invalid(error.clone()); inputs.len()];
        let count = tracer.guarded(|| rule.forward(&invalid).0.len()).unwrap_or(1);
        (error, count)
    })?;
    let placeholders = tensors(&parameters);
    let (outputs, saved) = tracer.guarded(|| rule.forward(&placeholders)).map_err(known)?;
    let build = || {
        let mut traced = tracer.traced(operands, parameters, &outputs)?;
        let plain = plain(rule, tracer, &placeholders, &traced)?;
        let needs: Vec<bool> = placeholders.iter().map(|p| p.dtype().is_float()).collect();
        let tangents = tracer.tangents(&traced);
        let moved: Vec<Option<Tensor>> =
            tensors(&tangents).into_iter().zip(&needs).map(|(t, &needed)| needed.then_some(t)).collect();
        let pushforward = match tracer.guarded(|| rule.jvp(&saved, &moved))? {
            Some(given) => Some(tracer.pushforward(&traced, tangents, given)?),
            None => None,
        };
        tracer.give_upstream(&mut traced);
        let mut pullbacks = Vec::new();
        for present in patterns(rule, tracer, &traced)? {
            let zero = |(slot, &present): (Tensor, &bool)| {
                if present { slot } else { Tensor::zeros(slot.shape()).cast(slot.dtype()) }
            };
            let upstream = tensors(&traced.upstream).into_iter().zip(&present).map(zero).collect();
            let upstream = Upstream { tensors: upstream, present: present.clone() };
            match tracer.guarded(|| rule.vjp(&saved, &upstream, &needs))? {
                Some(given) => pullbacks.push(tracer.pullback(&traced, present, given)?),
                None => break,
            }
        }
        if let (true, Some(pushforward)) = (pullbacks.is_empty(), &pushforward) {
            pullbacks.push(tracer.transposed(&traced, pushforward)?);
        }
        if pullbacks.is_empty() {
            traced.upstream.clear();
        }
        tracer.finish(traced, plain, pullbacks, pushforward)
    };
    build().map_err(|error| (error, outputs.len()))
}

/// The sets of outputs for which the pullback is traced: first all that can have a cotangent.
fn patterns<R: Rule>(rule: &R, tracer: &Tracer, traced: &Traced) -> Result<Vec<Vec<bool>>, Error> {
    let all = traced.differentiable(&tracer.rule);
    let slots: Vec<usize> = (0..all.len()).filter(|&slot| all[slot]).collect();
    if !rule.sees_missing() {
        return Ok(vec![all]);
    }
    if slots.len() > MOST_OUTPUTS {
        let message =
            format!("sees missing cotangents of {} outputs, at most {MOST_OUTPUTS} can be", slots.len());
        return Err(tracer
            .error(Code::RuleArity, message)
            .with("outputs", count(slots.len()))
            .hint("leave out `sees_missing`, and missing cotangents are zeros"));
    }
    let without = |missing: usize| {
        let mut present = all.clone();
        for (bit, &slot) in slots.iter().enumerate() {
            present[slot] = missing >> bit & 1 == 0;
        }
        present
    };
    Ok((0..(1usize << slots.len()).saturating_sub(1).max(1)).map(without).collect())
}

/// The plain function on the placeholders, if there is one. Error: `E_RULE_PRIMAL`.
fn plain<R: Rule>(
    rule: &R,
    tracer: &Tracer,
    placeholders: &[Tensor],
    traced: &Traced,
) -> Result<Option<Vec<Arc<Node>>>, Error> {
    let Some(plain) = tracer.guarded(|| rule.plain(placeholders))? else { return Ok(None) };
    let plain = tracer.valid(&plain)?;
    let kinds = |nodes: &[Arc<Node>]| {
        nodes.iter().map(|node| format!("{} {}", node.dtype, node.shape)).collect::<Vec<_>>().join(", ")
    };
    let (forward, expected) = (kinds(&traced.outputs), kinds(&plain));
    if forward != expected {
        let message = format!("its forward gives ({forward}), the plain function ({expected})");
        return Err(tracer
            .error(Code::RulePrimal, message)
            .hint("`forward` returns the pair (outputs, saved): the outputs are those of the plain function, whatever is saved"));
    }
    tracer.check_captures(plain.iter(), traced.parameters.iter(), &traced.parameters)?;
    Ok(Some(plain))
}
