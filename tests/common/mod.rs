//! What all suites share: the library under one name, and everything here that evaluates tensors.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each suite uses its part")]

use std::collections::HashMap;

pub use cotangent::DeviceOptions as Options;
pub use cotangent::*;

/// The reference or a device.
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// As in the names of tests.
    pub slug: String,
    /// None for the reference.
    pub device: Option<Device>,
}

impl Evaluator {
    /// Whether it computes in f64.
    pub fn is_reference(&self) -> bool {
        self.device.is_none()
    }
    /// Whether an adapter computes.
    pub fn is_adapter(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.info().kind != Kind::Cpu)
    }
    /// What its arithmetic promises.
    pub fn arithmetic(&self) -> Arithmetic {
        let (best, promised) = (Arithmetic::default(), Arithmetic::specification());
        let Some(device) = &self.device else { return best };
        let probe = &device.info().probe;
        Arithmetic {
            unit: if probe.nearest { best.unit } else { promised.unit },
            eta: if probe.denormals { best.eta } else { promised.eta },
            chain: Chain::Serial,
        }
    }
    fn of(device: Device) -> Evaluator {
        Evaluator { slug: device.slug(), device: Some(device) }
    }
}

impl Evaluate for Evaluator {
    fn name(&self) -> String {
        self.slug.clone()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        match &self.device {
            None => Reference::new().evaluate(tensors),
            Some(device) => device.read_all(tensors),
        }
    }
}

/// The reference, the CPU device and every adapter present.
pub fn evaluators() -> Vec<Evaluator> {
    let mut evaluators = vec![Evaluator { slug: "reference".to_owned(), device: None }];
    evaluators.extend(Device::all().into_iter().map(Evaluator::of));
    evaluators
}

/// Fails unless an adapter is among the devices: a suite that leaves out its kernels proves nothing about them.
pub fn adapter_present(evaluators: &[Evaluator]) -> Result<(), String> {
    if evaluators.iter().any(Evaluator::is_adapter) {
        return Ok(());
    }
    let names: Vec<&str> = evaluators.iter().map(|e| e.slug.as_str()).collect();
    Err(format!(
        "no adapter: neither hardware nor software; only {} were tested. `./tools/test` installs a software adapter \
         or says what to install",
        names.join(", ")
    ))
}

/// The running bound of a graph without inputs, from its leaves rounded to f32.
pub fn bounds(tensors: &[&Tensor], arithmetic: &Arithmetic) -> Result<Vec<Bounded>, Error> {
    let nodes = tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
    bounded(&nodes, &HashMap::new(), arithmetic)
}

/// How a training program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On devices one captured step that runs many times; on the reference as [`Mode::Reads`].
    Captured,
    /// A new graph on the numbers read after each step.
    Reads,
}

/// What a training program makes of its state.
#[derive(Debug)]
pub struct Training {
    /// Read at every step; they see the state before the update.
    pub outputs: Vec<Tensor>,
    /// The next value of each state tensor.
    pub updates: Vec<Tensor>,
}

/// From the state tensors to outputs and next state.
pub type Program<'a> = &'a dyn Fn(&[Tensor]) -> Result<Training, Error>;

/// Runs a training program; gives the outputs of every step and the final state.
pub fn train(
    evaluator: &Evaluator,
    mode: Mode,
    initial: &[(&str, Array)],
    steps: usize,
    build: Program,
) -> Result<(Vec<Vec<Array>>, Vec<Array>), Error> {
    match (&evaluator.device, mode) {
        (Some(device), Mode::Captured) => captured(device, initial, steps, build),
        (Some(_), Mode::Reads) | (None, _) => with_reads(evaluator, initial, steps, build),
    }
}

fn captured(
    device: &Device,
    initial: &[(&str, Array)],
    steps: usize,
    build: Program,
) -> Result<(Vec<Vec<Array>>, Vec<Array>), Error> {
    let variables =
        initial.iter().map(|(name, value)| device.variable(name, value)).collect::<Result<Vec<_>, _>>()?;
    let state: Vec<Tensor> = variables.iter().map(|variable| variable.tensor().clone()).collect();
    let Training { outputs, updates } = build(&state)?;
    let pairs: Vec<(&Tensor, &Tensor)> = state.iter().zip(&updates).collect();
    let step = Step::new(device, &[], &outputs.iter().collect::<Vec<_>>(), &pairs)?;
    let mut history = Vec::new();
    for _ in 0..steps {
        let run = step.run(&[])?;
        history.push((0..outputs.len()).map(|i| run.read(i)).collect::<Result<Vec<_>, _>>()?);
    }
    Ok((history, device.read_all(&state.iter().collect::<Vec<_>>())?))
}

fn with_reads(
    evaluator: &Evaluator,
    initial: &[(&str, Array)],
    steps: usize,
    build: Program,
) -> Result<(Vec<Vec<Array>>, Vec<Array>), Error> {
    let mut state: Vec<Array> = initial.iter().map(|(_, value)| value.clone()).collect();
    let mut history = Vec::new();
    for _ in 0..steps {
        let named = state.iter().zip(initial);
        let leaves: Vec<Tensor> =
            named.map(|(value, (name, _))| Tensor::new(value.clone()).named(name)).collect();
        let Training { outputs, updates } = build(&leaves)?;
        let mut arrays = evaluator.evaluate(&outputs.iter().chain(&updates).collect::<Vec<_>>())?;
        state = arrays.split_off(outputs.len());
        history.push(arrays);
    }
    Ok((history, state))
}
