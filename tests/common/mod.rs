//! What all suites share: the library under one name, and everything here that evaluates tensors.
#![allow(dead_code, unused_imports, reason = "each suite uses its part")]

pub use cotangent_autograd::*;
pub use cotangent_tensor::*;

/// The reference or a device.
#[derive(Debug)]
pub struct Evaluator {
    /// As in the names of tests.
    pub slug: String,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Reference,
}

impl Evaluator {
    /// Whether it computes in f64.
    pub fn is_reference(&self) -> bool {
        match self.runs {
            Runs::Reference => true,
        }
    }
    /// What its arithmetic promises.
    pub fn arithmetic(&self) -> Arithmetic {
        Arithmetic::default()
    }
}

impl Evaluate for Evaluator {
    fn name(&self) -> String {
        self.slug.clone()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        match &self.runs {
            Runs::Reference => Reference::new().evaluate(tensors),
        }
    }
}

/// The reference, the CPU device and every adapter present.
pub fn evaluators() -> Vec<Evaluator> {
    vec![Evaluator { slug: "reference".to_owned(), runs: Runs::Reference }]
}

/// The running bound of a graph without inputs, from its leaves rounded to f32.
pub fn bounds(tensors: &[&Tensor], arithmetic: &Arithmetic) -> Result<Vec<Bounded>, Error> {
    let nodes = tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
    bounded(&nodes, &std::collections::HashMap::new(), arithmetic)
}

/// How a tensor of a training program is computed from one step to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One captured step that runs many times; on the reference the same as the other.
    Captured,
    /// A new graph on the numbers read after each step.
    Reads,
}

/// What a training program makes of its state.
pub struct Training {
    /// Read at every step, before the update.
    pub outputs: Vec<Tensor>,
    /// The next value of each state tensor.
    pub updates: Vec<Tensor>,
}

/// Runs a training program; gives the outputs of every step and the final state.
pub fn train(
    evaluator: &Evaluator,
    mode: Mode,
    initial: &[(&str, Array)],
    steps: usize,
    build: &dyn Fn(&[Tensor]) -> Result<Training, Error>,
) -> Result<(Vec<Vec<Array>>, Vec<Array>), Error> {
    let mut state: Vec<Array> = initial.iter().map(|(_, value)| value.clone()).collect();
    let mut history = Vec::new();
    let _ = mode;
    for _ in 0..steps {
        let leaves: Vec<Tensor> =
            state.iter().zip(initial).map(|(value, (name, _))| Tensor::new(value.clone()).named(name)).collect();
        let Training { outputs, updates } = build(&leaves)?;
        let all: Vec<&Tensor> = outputs.iter().chain(&updates).collect();
        let mut arrays = evaluator.evaluate(&all)?;
        state = arrays.split_off(outputs.len());
        history.push(arrays);
    }
    Ok((history, state))
}
