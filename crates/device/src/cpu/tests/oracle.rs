//! The meaning of a loop, one element at a time. Floats are f64; integers are their words; truth values are 0 and 1.

use cotangent_shaders::{Affine, Binding, Code, Level, Loop, Value};
use cotangent_tensor::{DType, Integer, Key, Reduce, math32, special};

pub(crate) struct Oracle<'a> {
    body: &'a Loop,
    bindings: &'a [Binding],
    before: Vec<Vec<f64>>,
    /// Kept-level values of the current kept element.
    known: Vec<Option<f64>>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(body: &'a Loop, bindings: &'a [Binding], words: &[Vec<u32>]) -> Oracle<'a> {
        let number = |dtype, word: u32| match dtype {
            DType::F32 => f64::from(f32::from_bits(word)),
            DType::F16 => half::f16::from_f32(f32::from_bits(word)).to_f64(),
            DType::I32 | DType::U32 | DType::Bool => f64::from(word),
        };
        let all = |(binding, words): (&Binding, &Vec<u32>)| -> Vec<f64> {
            words.iter().map(|&word| number(binding.dtype, word)).collect()
        };
        let before = bindings.iter().zip(words).map(all).collect();
        Oracle { body, bindings, before, known: vec![] }
    }
    /// The buffers afterwards; what no store covers stays as it was.
    pub(crate) fn run(mut self) -> Vec<Vec<f64>> {
        let body = self.body;
        let mut after = self.before.clone();
        for kept in coordinates(&body.kept) {
            self.known = vec![None; body.code.len()];
            for store in &body.stores {
                let half = self.bindings[store.binding].dtype == DType::F16;
                let mut write = |oracle: &mut Oracle<'_>, coordinate: &[usize]| {
                    let value = oracle.value(store.value, coordinate);
                    let value = if half { half::f16::from_f64(value).to_f64() } else { value };
                    after[store.binding][index(&store.at, coordinate)] = value;
                };
                let origin = [kept.clone(), vec![0; body.reduced.len()]].concat();
                match body.code[store.value].level {
                    Level::Kept => write(&mut self, &origin),
                    Level::Element => {
                        for reduced in coordinates(&body.reduced) {
                            write(&mut self, &[kept.clone(), reduced].concat());
                        }
                    }
                }
            }
        }
        after
    }
    fn value(&mut self, v: Value, coordinate: &[usize]) -> f64 {
        if let Some(known) = self.known[v] {
            return known;
        }
        let value = self.compute(v, coordinate);
        if self.body.code[v].level == Level::Kept {
            self.known[v] = Some(value);
        }
        value
    }
    fn over(&mut self, v: Value, coordinate: &[usize]) -> Vec<f64> {
        let body = self.body;
        let kept = &coordinate[..body.kept.len()];
        coordinates(&body.reduced).into_iter().map(|r| self.value(v, &[kept, &r].concat())).collect()
    }
    fn element(&self, binding: usize, at: i64) -> f64 {
        self.before[binding][usize::try_from(at).unwrap()]
    }
    fn compute(&mut self, v: Value, coordinate: &[usize]) -> f64 {
        let body = self.body;
        let instruction = &body.code[v];
        match &instruction.code {
            Code::Constant(word) => match instruction.dtype {
                DType::F32 | DType::F16 => f64::from(f32::from_bits(*word)),
                DType::I32 | DType::U32 | DType::Bool => f64::from(*word),
            },
            Code::Accumulator => panic!("no product here"),
            Code::While(..) | Code::Part(..) | Code::Parameter(_) => panic!("no loop of elements here"),
            Code::Load { binding, at, guard } => match guard {
                Some(guard) if self.value(*guard, coordinate) == 0.0 => 0.0,
                _ => self.element(*binding, at.at(coordinate)),
            },
            Code::LoadIndexed { binding, at, index, stride, size, guard, .. } => {
                let index = self.value(*index, coordinate) as usize;
                let exists = guard.is_none_or(|guard| self.value(guard, coordinate) != 0.0);
                if exists && index < *size {
                    self.element(*binding, at.at(coordinate) + (index * stride) as i64)
                } else {
                    0.0
                }
            }
            Code::Coordinate(at) => f64::from((at.at(coordinate) as i32).cast_unsigned()),
            Code::InRange { at, size } => f64::from(u8::from((0..*size as i64).contains(&at.at(coordinate)))),
            Code::RandomBits { key, step, at } => {
                let (Key { seed, stream }, step) = (*key, self.value(*step, coordinate) as u32);
                let i = at.at(coordinate) as u32;
                let key = [seed as u32, (seed >> 32) as u32, stream as u32, (stream >> 32) as u32];
                f64::from(math32::threefry([i / 4, 0, step, 0], key)[i as usize % 4])
            }
            Code::Elementwise(row, operands) => {
                let operands: Vec<f64> = operands.iter().map(|&o| self.value(o, coordinate)).collect();
                row.eval(&operands)
            }
            Code::Integer(row, dtype, operands) => {
                let operands: Vec<u32> = operands.iter().map(|&o| self.value(o, coordinate) as u32).collect();
                let operand = |o: usize| operands.get(o).copied().unwrap_or(0);
                f64::from(row.eval(*dtype, operand(0), operand(1), operand(2)))
            }
            Code::Cast(value) => {
                cast(body.code[*value].dtype, instruction.dtype, self.value(*value, coordinate))
            }
            Code::Reduce(reduce, value) => {
                let all = self.over(*value, coordinate);
                reduce_all(*reduce, instruction.dtype, &all)
            }
            Code::ArgReduce { maximum, value } => {
                let all = self.over(*value, coordinate);
                let mut best = 0;
                for (i, &x) in all.iter().enumerate() {
                    let better = if *maximum { x > all[best] } else { x < all[best] };
                    if !all[best].is_nan() && (better || x.is_nan()) {
                        best = i;
                    }
                }
                best as f64
            }
            Code::LogSumExpMax(value) => {
                let all = self.over(*value, coordinate);
                all.into_iter().fold(f64::NEG_INFINITY, special::max)
            }
            Code::LogSumExpRest(max) => {
                let Code::LogSumExpMax(value) = body.code[*max].code else { panic!("no maximum") };
                let (max, all) = (self.value(*max, coordinate), self.over(value, coordinate));
                if max == f64::INFINITY {
                    return f64::NAN;
                }
                let first = all.iter().position(|&x| x == max);
                let terms =
                    all.iter().enumerate().filter(|(i, x)| Some(*i) != first && **x != f64::NEG_INFINITY);
                terms.map(|(_, x)| (x - max).exp()).sum()
            }
            Code::Softmax { value, max, rest } => {
                let (max, rest) = (self.value(*max, coordinate), self.value(*rest, coordinate));
                softmax(self.value(*value, coordinate), max, rest)
            }
            Code::SoftmaxResidual { value, max, rest, label } => {
                let (max, rest) = (self.value(*max, coordinate), self.value(*rest, coordinate));
                let x = self.value(*value, coordinate);
                let label = self.value(*label, coordinate) as usize;
                let here = position(&body.reduced, &coordinate[body.kept.len()..]);
                if max == f64::NEG_INFINITY || label != here {
                    softmax(x, max, rest)
                } else if x == max {
                    -rest / (1.0 + rest)
                } else {
                    softmax(x, max, rest) - 1.0
                }
            }
            Code::Pick { value, index } => {
                let index = self.value(*index, coordinate) as usize;
                self.over(*value, coordinate).get(index).copied().unwrap_or(0.0)
            }
        }
    }
}

fn softmax(x: f64, max: f64, rest: f64) -> f64 {
    if max == f64::NEG_INFINITY { 0.0 } else { (x - max).exp() / (1.0 + rest) }
}

fn reduce_all(reduce: Reduce, dtype: DType, all: &[f64]) -> f64 {
    if dtype.is_integer() {
        let (row, start) = match reduce {
            Reduce::Sum => (Integer::Add, 0),
            Reduce::Prod => (Integer::Mul, 1),
            Reduce::Max => (Integer::Max, all[0] as u32),
            Reduce::Min => (Integer::Min, all[0] as u32),
        };
        return f64::from(all.iter().fold(start, |a, &x| row.eval(dtype, a, x as u32, 0)));
    }
    match reduce {
        Reduce::Sum => all.iter().sum::<f64>() + 0.0,
        Reduce::Prod => all.iter().product(),
        Reduce::Max => all.iter().fold(f64::NEG_INFINITY, |a, &x| special::max(a, x)),
        Reduce::Min => all.iter().fold(f64::INFINITY, |a, &x| special::min(a, x)),
    }
}

fn cast(from: DType, to: DType, x: f64) -> f64 {
    let number = match from {
        DType::I32 => f64::from((x as u32).cast_signed()),
        DType::F32 | DType::F16 | DType::U32 | DType::Bool => x,
    };
    match (from, to) {
        (_, DType::F32) => f64::from(number as f32),
        (_, DType::F16) => half::f16::from_f32(number as f32).to_f64(),
        (_, DType::Bool) => f64::from(u8::from(number != 0.0)),
        (DType::I32 | DType::U32, DType::I32 | DType::U32) => x,
        (_, DType::I32) => f64::from((number as i32).cast_unsigned()),
        (_, DType::U32) => f64::from(number as u32),
    }
}

fn index(at: &Affine, coordinate: &[usize]) -> usize {
    usize::try_from(at.at(coordinate)).unwrap()
}

fn position(extents: &[usize], coordinate: &[usize]) -> usize {
    extents.iter().zip(coordinate).fold(0, |position, (extent, c)| position * extent + c)
}

/// All coordinates of a box, row-major.
fn coordinates(extents: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &extent in extents {
        all = all.into_iter().flat_map(|c| (0..extent).map(move |i| [c.clone(), vec![i]].concat())).collect();
    }
    all
}
