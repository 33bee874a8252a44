//! Pointers that are parameters. A call takes a copy of what each points to and gives it back at its end, which is what writing through the
//! pointer means as long as no two of them meet.

use cotangent_tensor::Code;
use naga::{Expression, Handle, Span};

use super::expressions::Places;
use super::statements::Variables;
use super::{Frame, Lowering, Value};
use crate::diagnose::Problem;
use crate::layout;

/// Where the pointers of a call point to, each with its number of scalars.
pub(super) struct Passed(Vec<(Places, usize)>);

impl<'a> Lowering<'a> {
    /// The values of the arguments of a call, with what pointers point to.
    pub(super) fn passed(
        &mut self,
        frame: &Frame<'a>,
        arguments: &[Handle<Expression>],
        now: &Variables,
        span: Span,
    ) -> Result<(Vec<Vec<Value>>, Passed), Problem> {
        let (mut given, mut passed) = (Vec::new(), Passed(Vec::new()));
        for &argument in arguments {
            if !self.is_pointer(frame, argument) {
                given.push(self.value(frame, argument)?);
                continue;
            }
            let places = self.places(frame, argument)?;
            let length = layout::scalars(&self.text.module, &self.type_of(frame, argument))?.len();
            if passed.0.iter().any(|other| meet(&other.0, other.1, &places, length)) {
                let message = "two pointers of a call may point to the same variable";
                return Err(Problem::new(Code::WgslAlias, message).at(span, "in this call"));
            }
            given.push(self.chosen(&now[places.0], &places.1, length));
            passed.0.push((places, length));
        }
        Ok((given, passed))
    }
    /// Takes back, from the end of the results of a call, what was written through its pointers.
    pub(super) fn taken_back(&mut self, passed: Passed, results: &mut Vec<Value>, now: &mut Variables) {
        let count: usize = passed.0.iter().map(|passed| passed.1).sum();
        let mut written = results.split_off(results.len() - count).into_iter();
        for ((variable, places), length) in passed.0 {
            let value: Vec<Value> = written.by_ref().take(length).collect();
            for (offset, guard) in places {
                for (slot, &new) in now[variable][offset..].iter_mut().zip(&value) {
                    *slot = guard.map_or(new, |guard| self.scalars.select(guard, new, *slot));
                }
            }
        }
    }
    /// What the pointers of a function point to at its end, in order. They are its last variables.
    pub(super) fn pointed_to(frame: &Frame<'a>, now: &Variables) -> Vec<Value> {
        now[frame.function.local_variables.len()..].concat()
    }
}

fn meet(a: &Places, a_length: usize, b: &Places, b_length: usize) -> bool {
    let overlap = |x: usize, y: usize| x < y + b_length && y < x + a_length;
    a.0 == b.0 && a.1.iter().any(|x| b.1.iter().any(|y| overlap(x.0, y.0)))
}
