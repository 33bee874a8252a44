//! A loop inside a kernel, that every element runs by itself.

use std::fmt;

use crate::kernel::{Instruction, Value};

/// `while condition { state = next }`, as code.
///
/// The code begins with one [`Code::Parameter`](crate::Code::Parameter) for each carried value and then for each captured one; it holds
/// rows of the operation tables, casts, constants and other recurrences, all at kept level.
#[derive(Clone)]
pub struct Recurrence {
    /// What messages call it.
    pub name: String,
    /// How many values change from round to round.
    pub carried: usize,
    /// The code.
    pub code: Vec<Instruction>,
    /// Whether there is another round.
    pub condition: Value,
    /// The state after a round.
    pub next: Vec<Value>,
    /// More rounds than this are an error.
    pub rounds: u32,
}

impl fmt::Debug for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, carried) = (&self.name, self.carried);
        write!(f, "{name} [carried {carried}, while v{}, next {:?}:", self.condition, self.next)?;
        for (value, instruction) in self.code.iter().enumerate() {
            write!(f, " v{value} = {:?};", instruction.code)?;
        }
        write!(f, "]")
    }
}

impl PartialEq for Recurrence {
    /// Whether both compute the same, whatever they are called.
    fn eq(&self, other: &Recurrence) -> bool {
        let same = |(a, b): (&Instruction, &Instruction)| a.code == b.code && a.dtype == b.dtype;
        (self.carried, self.condition, self.rounds) == (other.carried, other.condition, other.rounds)
            && self.next == other.next
            && self.code.len() == other.code.len()
            && self.code.iter().zip(&other.code).all(same)
    }
}

impl Recurrence {
    /// For each instruction, whether the condition needs it.
    pub fn tests(&self) -> Vec<bool> {
        let mut needed = vec![false; self.code.len()];
        needed[self.condition] = true;
        for value in (0..self.code.len()).rev() {
            if needed[value] {
                self.code[value].code.operands().into_iter().for_each(|operand| needed[operand] = true);
            }
        }
        needed
    }
}
