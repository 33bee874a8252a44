//! The values of a loop as the CPU device sees them: exponentials of softmax rows become values of their own, so that
//! they are computed once, and every value knows when it is available.

use std::sync::Arc;

use cotangent_shaders::{Access, Affine, Binding, Code, Instruction, Level, Loop, Recurrence, Value};
use cotangent_tensor::{DType, Elementwise, Integer, Key, Reduce, math32};

use super::reduction::Kind;

/// How a value is computed from its operands.
#[derive(Clone, Debug)]
pub(super) enum What {
    Constant(u32),
    /// Operand: the guard, if any.
    Load {
        binding: usize,
        at: Affine,
    },
    /// Operands: index, and the guard if any.
    LoadIndexed {
        binding: usize,
        at: Affine,
        stride: usize,
        size: usize,
        operation: &'static str,
    },
    Coordinate(Affine),
    InRange {
        at: Affine,
        size: usize,
    },
    /// Operand: the step.
    Random {
        key: Key,
        at: Affine,
    },
    Elementwise(Elementwise),
    Integer(Integer, DType),
    Cast,
    /// Runs a loop; its values lie beside the registers.
    Run(Arc<Recurrence>),
    /// One of the values of a run; operand: the run.
    Part(usize),
    /// Operands as [`Kind`] says.
    Reduction(Kind),
    /// `e^−|x|`; operand: x or −x.
    Decay,
    /// `ln(1 + decay)`; operand: decay.
    DecayTail,
    /// A logistic function; operands: x, and what it shares with others.
    Logistic(Logistic),
    /// `exp(x − max)`; operands: x, maximum.
    Exponential,
    /// `1 / (1 + s)`; operand: s.
    Factor,
    /// `exponential · factor`.
    Softmax,
    /// Operands: exponential, factor, x, maximum, label, s, and what all is multiplied by, if anything.
    SoftmaxResidual,
}

/// Operands of a residual that is not scaled.
const RESIDUAL: usize = 6;

/// The functions that share one exponential where they have the same operand, up to its sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Logistic {
    Sigmoid,
    Softplus,
    LogSigmoid,
}

impl Logistic {
    fn of(row: Elementwise) -> Option<Logistic> {
        match row {
            Elementwise::Sigmoid => Some(Logistic::Sigmoid),
            Elementwise::Softplus => Some(Logistic::Softplus),
            Elementwise::LogSigmoid => Some(Logistic::LogSigmoid),
            _ => None,
        }
    }
    /// Whether the functions of this kind share `ln(1 + e^−|x|)`, and not only `e^−|x|`.
    fn shares_tail(self) -> bool {
        matches!(self, Logistic::Softplus | Logistic::LogSigmoid)
    }
    /// Of `x`, given what it shares.
    #[inline(always)]
    pub(super) fn lanes(self, out: &mut [f32], x: &[f32], shared: &[f32]) {
        let lanes = out.iter_mut().zip(x).zip(shared);
        match self {
            Logistic::Sigmoid => {
                for ((o, &x), &decay) in lanes {
                    *o = math32::sigmoid_of(x, decay);
                }
            }
            Logistic::Softplus => {
                for ((o, &x), &tail) in lanes {
                    *o = math32::softplus_of(x, tail);
                }
            }
            Logistic::LogSigmoid => {
                for ((o, &x), &tail) in lanes {
                    *o = math32::log_sigmoid_of(x, tail);
                }
            }
        }
    }
}

/// One value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) operands: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) element: bool,
    /// Depends on no coordinate and on nothing that the kernel writes.
    pub(super) uniform: bool,
    /// The sweep in which it is available first; for a reduction, the sweep that finishes it.
    pub(super) phase: usize,
}

/// The values of a loop, operands before users.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) nodes: Vec<Node>,
    /// Where the values of the loop went.
    pub(super) image: Vec<usize>,
}

impl Values {
    pub(super) fn new(body: &Loop, bindings: &[Binding]) -> Values {
        let mut values = Values::default();
        let mut exponentials: Vec<(Value, usize)> = Vec::new();
        let mut factors: Vec<(Value, usize)> = Vec::new();
        let shared = shared_decays(body);
        let mut decays: Vec<(Value, usize)> = Vec::new();
        let mut tails: Vec<(usize, usize)> = Vec::new();
        for instruction in &body.code {
            if let Code::Elementwise(row, operands) = &instruction.code
                && let (Some(logistic), &[operand]) = (Logistic::of(*row), &operands[..])
                && let base = without_sign(body, operand)
                && shared.contains(&base)
            {
                let (x, element) = (values.image[operand], instruction.level == Level::Element);
                let known = decays.iter().find(|(of, _)| *of == base).map(|(_, decay)| *decay);
                let decay = known.unwrap_or_else(|| {
                    let element = values.nodes[x].element;
                    let decay = values.push(What::Decay, vec![x], DType::F32, element, bindings);
                    decays.push((base, decay));
                    decay
                });
                let known = tails.iter().find(|(of, _)| *of == decay).map(|(_, tail)| *tail);
                let common = match known {
                    _ if !logistic.shares_tail() => decay,
                    Some(tail) => tail,
                    None => {
                        let element = values.nodes[decay].element;
                        let tail = values.push(What::DecayTail, vec![decay], DType::F32, element, bindings);
                        tails.push((decay, tail));
                        tail
                    }
                };
                let what = What::Logistic(logistic);
                let image = values.push(what, vec![x, common], DType::F32, element, bindings);
                values.image.push(image);
                continue;
            }
            let image = values.translate(instruction, bindings, &mut exponentials, &mut factors);
            values.image.push(image);
        }
        values.scale_residuals(body);
        values
    }
    /// The product of a residual, of which nothing else is made, with a constant or a value of the whole row is a residual too.
    fn scale_residuals(&mut self, body: &Loop) {
        let is_residual = |values: &Values, v: usize| matches!(values.nodes[v].what, What::SoftmaxResidual);
        for v in 0..self.nodes.len() {
            let Node { what: What::Elementwise(Elementwise::Mul), operands, .. } = &self.nodes[v] else {
                continue;
            };
            let (residual, scale) = match operands[..] {
                [a, b] if is_residual(self, a) => (a, b),
                [a, b] if is_residual(self, b) => (b, a),
                _ => continue,
            };
            let stored = body.stores.iter().any(|store| self.image[store.value] == residual);
            let users = self.nodes.iter().filter(|node| node.operands.contains(&residual)).count();
            let is_scaled = self.nodes[residual].operands.len() > RESIDUAL;
            if self.nodes[scale].element || stored || users > 1 || is_scaled {
                continue;
            }
            let operands = [&self.nodes[residual].operands[..], &[scale]].concat();
            (self.nodes[v].what, self.nodes[v].operands) = (What::SoftmaxResidual, operands);
        }
    }
    /// The affine function by which an index value was loaded, for the position in a message about it.
    pub(super) fn origin(&self, mut value: usize) -> Option<&Affine> {
        loop {
            match &self.nodes[value] {
                Node { what: What::Cast, operands, .. } => value = operands[0],
                Node { what: What::Load { at, .. }, .. } => return Some(at),
                _ => return None,
            }
        }
    }
    fn push(
        &mut self,
        what: What,
        operands: Vec<usize>,
        dtype: DType,
        element: bool,
        bindings: &[Binding],
    ) -> usize {
        let still = match &what {
            What::Load { binding, at } | What::LoadIndexed { binding, at, .. } => {
                at.strides.iter().all(|&s| s == 0) && bindings[*binding].access == Access::Read
            }
            What::Coordinate(at) | What::InRange { at, .. } | What::Random { at, .. } => {
                at.strides.iter().all(|&s| s == 0)
            }
            What::Reduction(_) => false,
            What::Constant(_) | What::Elementwise(_) | What::Integer(..) | What::Cast => true,
            What::Decay | What::DecayTail | What::Logistic(_) | What::Run(_) | What::Part(_) => true,
            What::Exponential | What::Factor | What::Softmax | What::SoftmaxResidual => false,
        };
        let uniform = still && operands.iter().all(|&o| self.nodes[o].uniform);
        let available = |&o: &usize| {
            let operand = &self.nodes[o];
            operand.phase + usize::from(matches!(operand.what, What::Reduction(_)))
        };
        let phase = operands.iter().map(available).max().unwrap_or(0);
        self.nodes.push(Node { what, operands, dtype, element, uniform, phase });
        self.nodes.len() - 1
    }
    fn translate(
        &mut self,
        instruction: &Instruction,
        bindings: &[Binding],
        exponentials: &mut Vec<(Value, usize)>,
        factors: &mut Vec<(Value, usize)>,
    ) -> usize {
        let element = instruction.level == Level::Element;
        let image = |values: &Values, v: &Value| values.image[*v];
        let operands: Vec<usize> = instruction.code.operands().iter().map(|v| self.image[*v]).collect();
        let what = match &instruction.code {
            Code::Constant(word) => What::Constant(as_lane(*word, instruction.dtype)),
            // the caller has replaced it by a load
            Code::Accumulator => What::Constant(0),
            Code::Load { binding, at, guard: _ } => What::Load { binding: *binding, at: at.clone() },
            Code::LoadIndexed { binding, at, stride, size, operation, index: _, guard: _ } => {
                let (binding, stride, size) = (*binding, *stride, *size);
                What::LoadIndexed { binding, at: at.clone(), stride, size, operation }
            }
            Code::Coordinate(at) => What::Coordinate(at.clone()),
            Code::InRange { at, size } => What::InRange { at: at.clone(), size: *size },
            Code::RandomBits { key, at, step: _ } => What::Random { key: *key, at: at.clone() },
            Code::Elementwise(row, _) => What::Elementwise(*row),
            Code::Integer(row, dtype, _) => What::Integer(*row, *dtype),
            Code::Cast(_) => What::Cast,
            Code::While(looped, _) => What::Run(looped.clone()),
            Code::Part(_, part) => What::Part(*part),
            // stands in the code of a loop only
            Code::Parameter(_) => What::Constant(0),
            Code::Reduce(reduce, _) => What::Reduction(kind(*reduce, instruction.dtype)),
            Code::ArgReduce { maximum, .. } => What::Reduction(Kind::Arg { maximum: *maximum }),
            Code::Pick { .. } => What::Reduction(Kind::Pick),
            Code::LogSumExpMax(_) => What::Reduction(Kind::Maximum),
            Code::LogSumExpRest(max) => {
                let max = image(self, max);
                let x = self.nodes[max].operands[0];
                let exponential = self.exponential(x, max, exponentials, bindings);
                let operands = vec![x, exponential, max];
                return self.push(What::Reduction(Kind::Rest), operands, DType::F32, false, bindings);
            }
            Code::Softmax { value, max, rest } => {
                let (x, max, rest) = (image(self, value), image(self, max), image(self, rest));
                let exponential = self.exponential(x, max, exponentials, bindings);
                let factor = self.factor(rest, factors, bindings);
                return self.push(What::Softmax, vec![exponential, factor], DType::F32, true, bindings);
            }
            Code::SoftmaxResidual { value, max, rest, label } => {
                let (x, max, rest) = (image(self, value), image(self, max), image(self, rest));
                let label = image(self, label);
                let exponential = self.exponential(x, max, exponentials, bindings);
                let factor = self.factor(rest, factors, bindings);
                let operands = vec![exponential, factor, x, max, label, rest];
                return self.push(What::SoftmaxResidual, operands, DType::F32, true, bindings);
            }
        };
        self.push(what, operands, instruction.dtype, element, bindings)
    }
    fn exponential(
        &mut self,
        x: usize,
        max: usize,
        known: &mut Vec<(usize, usize)>,
        bindings: &[Binding],
    ) -> usize {
        if let Some((_, known)) = known.iter().find(|(of, _)| *of == max) {
            return *known;
        }
        let exponential = self.push(What::Exponential, vec![x, max], DType::F32, true, bindings);
        known.push((max, exponential));
        exponential
    }
    fn factor(&mut self, rest: usize, known: &mut Vec<(usize, usize)>, bindings: &[Binding]) -> usize {
        if let Some((_, known)) = known.iter().find(|(of, _)| *of == rest) {
            return *known;
        }
        let factor = self.push(What::Factor, vec![rest], DType::F32, false, bindings);
        known.push((rest, factor));
        factor
    }
}

/// What a value is the negative of, or the value itself.
fn without_sign(body: &Loop, value: Value) -> Value {
    match &body.code[value].code {
        Code::Elementwise(Elementwise::Neg, operands) => operands[0],
        _ => value,
    }
}

/// The values, up to sign, that several logistic functions are taken of.
fn shared_decays(body: &Loop) -> Vec<Value> {
    let bases = body.code.iter().filter_map(|instruction| match &instruction.code {
        Code::Elementwise(row, operands) if Logistic::of(*row).is_some() => {
            Some(without_sign(body, operands[0]))
        }
        _ => None,
    });
    let bases: Vec<Value> = bases.collect();
    let several = |base: &&Value| bases.iter().filter(|other| other == base).count() > 1;
    bases.iter().filter(several).copied().collect()
}

/// Truth values are 0 and 1 in buffers, 0.0 and 1.0 in lanes.
fn as_lane(word: u32, dtype: DType) -> u32 {
    match dtype {
        DType::Bool => f32::from(u8::from(word != 0)).to_bits(),
        DType::F32 | DType::F16 | DType::I32 | DType::U32 => word,
    }
}

fn kind(reduce: Reduce, dtype: DType) -> Kind {
    let row = match reduce {
        Reduce::Sum => Integer::Add,
        Reduce::Prod => Integer::Mul,
        Reduce::Max => Integer::Max,
        Reduce::Min => Integer::Min,
    };
    match (reduce, dtype) {
        (_, DType::I32 | DType::U32) => Kind::Integer(row, dtype),
        (Reduce::Sum, DType::F32 | DType::F16 | DType::Bool) => Kind::Sum,
        (Reduce::Prod, DType::F32 | DType::F16 | DType::Bool) => Kind::Product,
        (Reduce::Max, DType::F32 | DType::F16 | DType::Bool) => Kind::Maximum,
        (Reduce::Min, DType::F32 | DType::F16 | DType::Bool) => Kind::Minimum,
    }
}
