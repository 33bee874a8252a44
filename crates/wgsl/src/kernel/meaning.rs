//! What a kernel computes: its text, interpreted.

use std::fmt;
use std::sync::Arc;

use cotangent_tensor::{Error, KernelMeaning, Rounding, UserKernel};

use super::Kernel;
use crate::text::Text;
use crate::{Interpreter, Module, Run};

/// The text of a kernel.
pub(super) struct Interpreted {
    pub(super) text: Arc<Text>,
    pub(super) fuel: u64,
}

impl fmt::Debug for Interpreted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text of {}", self.text.source.name)
    }
}

impl KernelMeaning for Interpreted {
    fn run(&self, kernel: &UserKernel, inputs: &[&[f64]], rounding: Rounding) -> Result<Vec<f64>, Error> {
        let module = Module::of(self.text.clone());
        let mut interpreter = match rounding {
            Rounding::Exact => Interpreter::new(&module).f64(),
            Rounding::Single => Interpreter::new(&module).f32(),
            Rounding::Perturbed(sample) => Interpreter::new(&module).perturbed(sample),
        };
        interpreter = interpreter.fuel(self.fuel);
        for (buffer, numbers) in kernel.inputs.iter().zip(inputs) {
            interpreter = interpreter.bind(&buffer.name, numbers);
        }
        for buffer in &kernel.outputs {
            interpreter = interpreter.bind(&buffer.name, &vec![0.0; buffer.shape.elements()]);
        }
        let run = interpreter.dispatch(&kernel.name, kernel.workgroups)?;
        let mut all = vec![0.0; kernel.elements()];
        for (number, buffer) in kernel.outputs.iter().enumerate() {
            let first = kernel.offset(number);
            let numbers = run.numbers(&buffer.name)?;
            all[first..first + numbers.len()].copy_from_slice(&numbers);
        }
        Ok(all)
    }
}

/// A run in which what nobody writes is an error.
pub(super) fn verified(of: &Kernel, kernel: &UserKernel, inputs: &[Vec<f64>]) -> Result<Run, Error> {
    let module = Module::of(of.text.clone());
    let mut interpreter = Interpreter::new(&module).fuel(of.fuel);
    for (buffer, numbers) in kernel.inputs.iter().zip(inputs) {
        interpreter = interpreter.bind(&buffer.name, numbers);
    }
    for (buffer, reflected) in kernel.outputs.iter().zip(&of.outputs) {
        let (name, elements) = (&buffer.name, buffer.shape.elements());
        interpreter = match reflected.is_atomic || of.accumulators.contains(name) {
            true => interpreter.bind(name, &vec![0.0; elements]),
            false => interpreter.bind_output(name, elements),
        };
    }
    let run = interpreter.dispatch(&kernel.name, kernel.workgroups)?;
    kernel.outputs.iter().try_for_each(|buffer| run.numbers(&buffer.name).map(|_| ()))?;
    Ok(run)
}
