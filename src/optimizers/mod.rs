//! Optimizers: new values of parameters and of the optimizer's own state, as tensor expressions.
//!
//! An [`Optimizer`] works on one flat tensor of parameters, so that an update of all parameters is one fused
//! dispatch. Its state — moments, the step counter — lies in variables too; nothing on the host changes between
//! runs of a step. [`Optimizer::attach`] makes these variables beside a group of parameters. [`Lbfgs`] is
//! different: it lives on the host, in f64, and asks for losses and gradients.
//!
//! ```
//! use cotangent::prelude::*;
//!
//! let device = Device::cpu();
//! let parameters = device.variables(&[("w", &[1.0, -2.0]), ("b", &0.5)])?;
//! let loss = parameters[0].pow(2).sum(..) + parameters[1].pow(2);
//!
//! let sgd = Sgd::new(0.25).attach(&device, &parameters)?;
//! let updates = sgd.updates(&grad(&loss, &parameters.views())?.or_error()?)?;
//! let step = Step::new(&device, &[], &[&loss], &updates.pairs())?;
//! assert_eq!(step.run(&[])?.scalar(0)?, 5.25);
//! assert_eq!(device.read(&parameters[0])?.to_f64(), [0.5, -1.0]);
//! # Ok::<(), Error>(())
//! ```

mod attached;
mod lbfgs;

pub use attached::{Attached, Updates};
use std::panic::Location;

use cotangent_device::{Device, Variables};
use cotangent_tensor::{Array, Code, DType, Detail, Error, Operand, Scalar, Shape, Tensor};
pub use lbfgs::{Lbfgs, Minimum};

use crate::layers::Parameter;

/// The user's line.
type At = &'static Location<'static>;

/// A rule for new parameters, as tensor expressions: [`Optimizer::state`] and [`Optimizer::updates`] say what
/// it remembers and what it computes, [`Optimizer::attach`] sets it to work on a device.
pub trait Optimizer {
    /// Initial values of the state for parameters of this shape, in the order in which [`Optimizer::updates`] takes them.
    fn state(&self, parameters: &Shape) -> Result<Vec<Parameter>, Error>;
    /// Pairs of a tensor (the parameters, a tensor of the state) and its new value.
    ///
    /// Errors: `E_HYPERPARAMETER` at the line where the optimizer was made; `E_BROADCAST` and `E_DTYPE` at that
    /// of a gradient or a state that does not fit; those of invalid tensors.
    #[track_caller]
    fn updates(
        &self,
        parameters: &Tensor,
        gradient: &Tensor,
        state: &[Tensor],
    ) -> Result<Vec<(Tensor, Tensor)>, Error>;
    /// Makes variables of the state, for this group of parameters. A reference to an optimizer may be attached
    /// as well.
    ///
    /// Errors: those of [`Optimizer::state`] and of the device.
    #[track_caller]
    fn attach(self, device: &Device, parameters: &Variables) -> Result<Attached<Self>, Error>
    where
        Self: Sized,
    {
        let mut state = Vec::new();
        for (name, value) in self.state(parameters.flat().shape())? {
            state.push(device.variable(&name, &value)?);
        }
        Ok(Attached { optimizer: self, parameters: parameters.clone(), state })
    }
}

impl<O: Optimizer + ?Sized> Optimizer for &O {
    fn state(&self, parameters: &Shape) -> Result<Vec<Parameter>, Error> {
        (**self).state(parameters)
    }
    fn updates(
        &self,
        parameters: &Tensor,
        gradient: &Tensor,
        state: &[Tensor],
    ) -> Result<Vec<(Tensor, Tensor)>, Error> {
        (**self).updates(parameters, gradient, state)
    }
}

/// Stochastic gradient descent: `p ← p − rate·g`; with momentum `v ← m·v + g`, `p ← p − rate·v`.
#[derive(Clone, Debug)]
pub struct Sgd {
    learning_rate: Operand,
    momentum: f64,
    at: At,
}

impl Sgd {
    /// Without momentum. The rate is a number or a scalar tensor (a schedule over a step counter).
    #[track_caller]
    pub fn new(learning_rate: impl Into<Operand>) -> Sgd {
        Sgd { learning_rate: learning_rate.into(), momentum: 0.0, at: Location::caller() }
    }
    /// With momentum, `0 ≤ m < 1`.
    pub fn momentum(self, momentum: f64) -> Sgd {
        Sgd { momentum, ..self }
    }
}

impl Optimizer for Sgd {
    fn state(&self, parameters: &Shape) -> Result<Vec<Parameter>, Error> {
        if self.momentum == 0.0 {
            return Ok(Vec::new());
        }
        Ok(vec![("velocity".to_string(), zeros(parameters)?)])
    }
    fn updates(
        &self,
        parameters: &Tensor,
        gradient: &Tensor,
        state: &[Tensor],
    ) -> Result<Vec<(Tensor, Tensor)>, Error> {
        let name = "sgd";
        let rate = checked_rate(name, &self.learning_rate).map_err(|error| placed(error, self.at))?;
        fraction(name, "momentum", self.momentum).map_err(|error| error.at(self.at))?;
        fits(name, parameters, gradient, state, usize::from(self.momentum != 0.0))?;
        let [velocity] = state else {
            return Ok(vec![(parameters.clone(), parameters - gradient * rate)]);
        };
        let moved = velocity * self.momentum + gradient;
        Ok(vec![(parameters.clone(), parameters - &moved * rate), (velocity.clone(), moved)])
    }
}

/// Adam: `p ← p − rate·m̂/(√v̂ + ε)` with moving means `m` of the gradient and `v` of its square, and `m̂ = m/(1 − β₁ᵗ)`,
/// `v̂ = v/(1 − β₂ᵗ)`; decoupled weight decay on request (AdamW). Source: Kingma & Ba, ICLR (2015), Algorithm 1.
///
/// `1 − βᵗ` is `−expm1(t·ln β)` of the step counter, a variable on the device: exact for ever, where `βᵗ` in f32 would
/// not be.
///
/// ```
/// use cotangent::prelude::*;
/// let w = Tensor::input("w", [1], DType::F32);
/// let adam = Adam::new(0.1);
/// let state = adam.state(w.shape())?;
/// let tensors: Vec<Tensor> = state.iter().map(|(_, value)| Tensor::new(value.clone())).collect();
/// let updates = adam.updates(&w, &Tensor::new([4.0]), &tensors)?;
/// // The first step moves by the learning rate, whatever the size of the gradient.
/// let new = Reference::new().bind(&w, [1.0])?.evaluate(&[&updates[0].1])?[0].scalar()?;
/// assert!((new - 0.9).abs() < 1e-8);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adam {
    learning_rate: Operand,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    at: At,
}

impl Default for Adam {
    #[track_caller]
    fn default() -> Adam {
        Adam::new(1e-3)
    }
}

impl Adam {
    /// With β₁ = 0.9, β₂ = 0.999, ε = 1e-8. The rate is a number or a scalar tensor.
    #[track_caller]
    pub fn new(learning_rate: impl Into<Operand>) -> Adam {
        Adam {
            learning_rate: learning_rate.into(),
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            at: Location::caller(),
        }
    }
    fn checked(&self) -> Result<Operand, Error> {
        fraction("adam", "beta1", self.beta1)?;
        fraction("adam", "beta2", self.beta2)?;
        not_negative("adam", "epsilon", self.epsilon)?;
        not_negative("adam", "weight_decay", self.weight_decay)?;
        checked_rate("adam", &self.learning_rate)
    }
    /// With other decay rates of the moments, `0 ≤ β < 1`.
    pub fn betas(self, beta1: f64, beta2: f64) -> Adam {
        Adam { beta1, beta2, ..self }
    }
    /// With another `ε ≥ 0`, added outside the root.
    pub fn epsilon(self, epsilon: f64) -> Adam {
        Adam { epsilon, ..self }
    }
    /// With decoupled weight decay: `p` shrinks by `rate·decay·p` before the step. Source: Loshchilov & Hutter, ICLR (2019).
    pub fn weight_decay(self, weight_decay: f64) -> Adam {
        Adam { weight_decay, ..self }
    }
}

impl Optimizer for Adam {
    fn state(&self, parameters: &Shape) -> Result<Vec<Parameter>, Error> {
        Ok(vec![
            ("first_moment".to_string(), zeros(parameters)?),
            ("second_moment".to_string(), zeros(parameters)?),
            ("steps".to_string(), 0u32.into()),
        ])
    }
    fn updates(
        &self,
        parameters: &Tensor,
        gradient: &Tensor,
        state: &[Tensor],
    ) -> Result<Vec<(Tensor, Tensor)>, Error> {
        let rate = self.checked().map_err(|error| placed(error, self.at))?;
        fits("adam", parameters, gradient, state, 3)?;
        let (first, second, steps) = (&state[0], &state[1], &state[2]);
        let now = steps + 1u32;
        let t = now.cast(DType::F32);
        let m = moving(first, gradient, self.beta1);
        let v = moving(second, &(gradient * gradient), self.beta2);
        // The scalars are combined before they meet the parameters, where they cost one operation per element.
        let root = correction(&t, self.beta2).sqrt();
        let scale = tensor(&rate) / correction(&t, self.beta1);
        let step = scale * &m / (v.sqrt() / root + self.epsilon);
        let kept = if self.weight_decay == 0.0 {
            parameters.clone()
        } else {
            parameters * (1.0 - tensor(&rate) * self.weight_decay)
        };
        Ok(vec![
            (parameters.clone(), kept - step),
            (first.clone(), m),
            (second.clone(), v),
            (steps.clone(), now),
        ])
    }
}

#[track_caller]
fn moving(old: &Tensor, new: &Tensor, beta: f64) -> Tensor {
    old * beta + new * (1.0 - beta)
}

/// `1 − βᵗ`.
#[track_caller]
fn correction(t: &Tensor, beta: f64) -> Tensor {
    -(t * beta.ln()).expm1()
}

fn zeros(shape: &Shape) -> Result<Array, Error> {
    Array::new(vec![0f32; shape.elements()], shape)
}

/// The rate as a tensor beside tensors.
#[track_caller]
fn tensor(rate: &Operand) -> Tensor {
    match rate {
        Operand::Tensor(tensor) => tensor.clone(),
        Operand::Number(number) => Tensor::full(Shape::SCALAR, number.as_f64()),
    }
}

/// The error of an invalid tensor has a line of its own.
fn placed(error: Error, at: At) -> Error {
    if error.location().is_some() { error } else { error.at(at) }
}

fn refuse(name: &str, parameter: &'static str, value: f64, domain: &str) -> Error {
    let message = format!("{parameter} = {value} is not {domain}");
    Error::new(Code::Hyperparameter, name, message).with(parameter, Detail::Number(value))
}

fn checked_rate(name: &str, rate: &Operand) -> Result<Operand, Error> {
    match rate {
        Operand::Number(number) => {
            let value = number.as_f64();
            if !(value.is_finite() && value >= 0.0) {
                return Err(refuse(name, "learning_rate", value, "a finite number from 0"));
            }
            Ok(Operand::Number(Scalar::Float(value)))
        }
        Operand::Tensor(tensor) => {
            let node = tensor.node()?;
            if node.shape.rank() != 0 || !node.dtype.is_float() {
                let message =
                    format!("the learning rate must be an f32 scalar, not {} {}", node.dtype, node.shape);
                return Err(Error::new(Code::NotScalar, name, message).shape("shape", &node.shape));
            }
            Ok(rate.clone())
        }
    }
}

fn fraction(name: &str, parameter: &'static str, value: f64) -> Result<(), Error> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(refuse(name, parameter, value, "at least 0 and below 1"))
    }
}

fn not_negative(name: &str, parameter: &'static str, value: f64) -> Result<(), Error> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(refuse(name, parameter, value, "a finite number from 0"))
}

/// The gradient has shape and type of the parameters, and the moments have their shape. Errors are at the line
/// of what does not fit: a caller behind `dyn Optimizer` is unknown.
fn fits(
    name: &str,
    parameters: &Tensor,
    gradient: &Tensor,
    state: &[Tensor],
    tensors: usize,
) -> Result<(), Error> {
    let (p, g) = (parameters.node()?, gradient.node()?);
    if p.shape != g.shape {
        let message = format!("parameters {} and gradient {} must have the same shape", p.shape, g.shape);
        return Err(Error::new(Code::Broadcast, name, message)
            .shape("parameters", &p.shape)
            .shape("gradient", &g.shape)
            .at(g.location));
    }
    if !p.dtype.is_float() || p.dtype != g.dtype {
        let message = format!("parameters are {} and the gradient {}; both must be f32", p.dtype, g.dtype);
        return Err(Error::new(Code::Dtype, name, message).at(g.location).hint("write `.cast(DType::F32)`"));
    }
    if state.len() != tensors {
        let message = format!("{} tensors of state given, {tensors} needed", state.len());
        return Err(Error::new(Code::DataLength, name, message)
            .at(p.location)
            .hint("create them from `state`, or all of it by `attach`"));
    }
    for tensor in state {
        let node = tensor.node()?;
        if node.dtype.is_float() && node.shape != p.shape {
            let message = format!("parameters {} and state {} must have the same shape", p.shape, node.shape);
            return Err(Error::new(Code::Broadcast, name, message)
                .at(node.location)
                .hint("create the state from `state`, or all of it by `attach`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
