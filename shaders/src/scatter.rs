//! Recognizes the loop of a scattered sum: every element looks at all updates and adds those that are its own. Where a
//! device can go from the updates to the elements instead, it need not look.

use cotangent_tensor::{DType, Elementwise, Integer, Reduce};

use crate::kernel::{Affine, Code, Level, Loop, Value};

/// `result[…, index[j], …] += update[…, j, …]` for every `j` in order.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// The reduction whose result it is.
    pub sum: Value,
    /// The kept dimension that the index counts.
    pub axis: usize,
    /// Number of updates.
    pub updates: usize,
    /// Binding and element of the index of each update.
    pub index: (usize, Affine),
    /// What is added.
    pub update: Update,
    /// What the user called.
    pub operation: &'static str,
}

/// What is added to an element.
#[derive(Clone, Debug)]
pub enum Update {
    /// An element of a buffer, by binding.
    Load(usize, Affine),
    /// Always the same number, as bits.
    Constant(u32),
}

impl Loop {
    /// The scattered sum that this loop computes, if it is nothing else but that and code on its result.
    pub fn scatter(&self) -> Option<Scatter> {
        let &[updates] = &self.reduced[..] else { return None };
        let code = |v: Value| &self.code[v].code;
        let mut reductions = (0..self.code.len()).filter(|&v| code(v).is_reduction());
        let (sum, None) = (reductions.next()?, reductions.next()) else { return None };
        let Code::Reduce(Reduce::Sum, term) = *code(sum) else { return None };
        if self.stores.iter().any(|store| self.code[store.value].level == Level::Element) {
            return None;
        }
        let Code::Elementwise(Elementwise::Select, chosen) = code(self.uncast(term)) else { return None };
        let &[here, update, zero] = &chosen[..] else { return None };
        let Code::Elementwise(Elementwise::And, both) = code(here) else { return None };
        let equal = |v: Value| match code(v) {
            Code::Integer(Integer::Eq, _, operands) => Some((*operands.first()?, *operands.get(1)?)),
            _ => None,
        };
        let ((index, target), (checked, same)) = (equal(*both.first()?)?, equal(*both.get(1)?)?);
        let Code::LoadIndexed { index: of, stride: 0, size, operation, guard: None, .. } = code(checked)
        else {
            return None;
        };
        let Code::Load { binding: indices, at: index_at, guard: None } = code(index) else { return None };
        let added = match code(update) {
            Code::Load { binding, at, guard: None } => Update::Load(*binding, at.clone()),
            Code::Constant(bits) => Update::Constant(*bits),
            _ => return None,
        };
        let Code::Coordinate(at) = code(self.uncast(target)) else { return None };
        let kept = self.kept.len();
        let axis = at.strides.iter().position(|&stride| stride == 1)?;
        let counts = at.offset == 0 && at.strides.iter().filter(|&&stride| stride != 0).count() == 1;
        let right = counts
            && axis < kept
            && *of == index
            && target == same
            && *code(zero) == Code::Constant(0)
            && self.kept[axis] == *size
            && index_at.strides[..kept].iter().all(|&stride| stride == 0)
            && !matches!(&added, Update::Load(_, at) if at.strides[axis] != 0)
            && self.code[update].dtype == DType::F32;
        right.then(|| Scatter {
            sum,
            axis,
            updates,
            index: (*indices, index_at.clone()),
            update: added,
            operation,
        })
    }
    fn uncast(&self, mut value: Value) -> Value {
        while let Code::Cast(from) = self.code[value].code {
            value = from;
        }
        value
    }
}
