//! Runs a plan one coordinate at a time, in f64: slow, obvious, and independent of both devices.

use std::collections::HashMap;

use cotangent_shaders::*;
use cotangent_tensor::{Array, DType, Elementwise, Node, Reduce, Values};

/// A value: floats as they are, integers and truth values as exact numbers.
type Buffers = Vec<Vec<f64>>;

fn word(word: u32, dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F16 => f64::from(f32::from_bits(word)),
        DType::I32 => f64::from(word as i32),
        DType::U32 | DType::Bool => f64::from(word),
    }
}

fn coordinates(extents: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &extent in extents {
        all = all
            .into_iter()
            .flat_map(|c: Vec<usize>| (0..extent).map(move |i| [&c[..], &[i]].concat()))
            .collect();
    }
    all
}

struct Run<'a> {
    kernel: &'a Kernel,
    buffers: &'a Buffers,
}

impl Run<'_> {
    fn load(&self, binding: usize, at: i64) -> f64 {
        self.buffers[self.kernel.bindings[binding].buffer]
            [usize::try_from(at).expect("an index inside the buffer")]
    }
    /// One instruction at one coordinate, given the values of the others there.
    fn one(&self, body: &Loop, v: usize, at: &[usize], values: &[f64], accumulator: f64) -> f64 {
        let instruction = &body.code[v];
        let args = |operands: &[usize]| operands.iter().map(|&o| values[o]).collect::<Vec<_>>();
        match &instruction.code {
            Code::Constant(bits) => word(*bits, instruction.dtype),
            Code::Accumulator => accumulator,
            Code::Load { binding, at: affine, guard } => {
                if guard.is_some_and(|g| values[g] == 0.0) {
                    0.0
                } else {
                    self.load(*binding, affine.at(at))
                }
            }
            Code::LoadIndexed { binding, at: affine, index, stride, size, guard, .. } => {
                let index = values[*index];
                if guard.is_some_and(|g| values[g] == 0.0) || index < 0.0 || index >= *size as f64 {
                    return 0.0;
                }
                self.load(*binding, affine.at(at) + (index as i64) * (*stride as i64))
            }
            Code::Coordinate(affine) => affine.at(at) as f64,
            Code::InRange { at: affine, size } => {
                f64::from(u8::from((0..*size as i64).contains(&affine.at(at))))
            }
            Code::RandomBits { .. } => 0.0,
            Code::Elementwise(row, operands) => row.eval(&args(operands)),
            Code::Integer(row, dtype, operands) => {
                let words: Vec<u32> = operands.iter().map(|&o| values[o] as i64 as u32).collect();
                let get = |i: usize| words.get(i).copied().unwrap_or(0);
                word(row.eval(*dtype, get(0), get(1), get(2)), instruction.dtype)
            }
            Code::Cast(operand) => match instruction.dtype {
                DType::F32 | DType::F16 => values[*operand],
                DType::I32 => f64::from(values[*operand] as i32),
                DType::U32 => f64::from(values[*operand] as u32),
                DType::Bool => f64::from(u8::from(values[*operand] != 0.0)),
            },
            Code::Softmax { value, max, rest } => {
                if values[*max] == f64::NEG_INFINITY {
                    0.0
                } else {
                    (values[*value] - values[*max]).exp() / (1.0 + values[*rest])
                }
            }
            Code::SoftmaxResidual { value, max, rest, label } => {
                let position = Affine::row_major(&body.reduced).at(&at[body.kept.len()..]);
                let p = (values[*value] - values[*max]).exp() / (1.0 + values[*rest]);
                if values[*max] == f64::NEG_INFINITY {
                    0.0
                } else if position as f64 != values[*label] {
                    p
                } else if values[*value] == values[*max] {
                    -values[*rest] / (1.0 + values[*rest])
                } else {
                    p - 1.0
                }
            }
            _ => unreachable!("reductions are handled apart"),
        }
    }
    /// A reduction over all values of its operand along the row.
    fn reduce(&self, body: &Loop, v: usize, row: &[Vec<f64>]) -> f64 {
        let operand = |o: usize| row.iter().map(move |values| values[o]);
        match &body.code[v].code {
            Code::Reduce(Reduce::Sum, o) => operand(*o).sum(),
            Code::Reduce(Reduce::Prod, o) => operand(*o).product(),
            Code::Reduce(Reduce::Max, o) => {
                operand(*o).reduce(|a, b| Elementwise::Max.eval(&[a, b])).expect("not empty")
            }
            Code::Reduce(Reduce::Min, o) => {
                operand(*o).reduce(|a, b| Elementwise::Min.eval(&[a, b])).expect("not empty")
            }
            Code::ArgReduce { maximum, value } => {
                let all: Vec<f64> = operand(*value).collect();
                let better = |a: f64, b: f64| if *maximum { b > a } else { b < a };
                let mut best = 0;
                for (i, &x) in all.iter().enumerate() {
                    if !all[best].is_nan() && (x.is_nan() || better(all[best], x)) {
                        best = i;
                    }
                }
                best as f64
            }
            Code::LogSumExpMax(o) => operand(*o).fold(f64::NEG_INFINITY, f64::max),
            Code::LogSumExpRest(max) => {
                let Code::LogSumExpMax(o) = body.code[*max].code else {
                    unreachable!("its operand is a maximum")
                };
                let m = operand(o).fold(f64::NEG_INFINITY, f64::max);
                if m == f64::NEG_INFINITY {
                    0.0
                } else {
                    operand(o).map(|x| (x - m).exp()).sum::<f64>() - 1.0
                }
            }
            Code::Pick { value, index } => {
                let index = row[0][*index];
                operand(*value).nth(index as usize).expect("a label inside the row")
            }
            _ => unreachable!("not a reduction"),
        }
    }
    fn body(
        &self,
        body: &Loop,
        writes: &mut Vec<(usize, usize, f64)>,
        accumulator: impl Fn(&[usize]) -> f64,
    ) {
        for kept in coordinates(&body.kept) {
            let places: Vec<Vec<usize>> =
                coordinates(&body.reduced).into_iter().map(|r| [&kept[..], &r[..]].concat()).collect();
            let mut row: Vec<Vec<f64>> = vec![vec![0.0; body.code.len()]; places.len()];
            for v in 0..body.code.len() {
                if body.code[v].code.is_reduction() {
                    let value = self.reduce(body, v, &row);
                    row.iter_mut().for_each(|values| values[v] = value);
                } else {
                    for (values, at) in row.iter_mut().zip(&places) {
                        values[v] = self.one(body, v, at, values, accumulator(at));
                    }
                }
            }
            for store in &body.stores {
                let element = body.code[store.value].level == Level::Element;
                let count = if element { places.len() } else { 1 };
                for (values, at) in row.iter().zip(&places).take(count) {
                    let index = usize::try_from(store.at.at(at)).expect("an index inside the buffer");
                    writes.push((self.kernel.bindings[store.binding].buffer, index, values[store.value]));
                }
            }
        }
    }
}

/// Values of the outputs of a plan; `given` holds inputs and variables by token number.
pub(crate) fn interpret(plan: &Plan, given: &HashMap<u64, Array>) -> (Vec<Array>, HashMap<u64, Vec<f64>>) {
    let mut buffers: Buffers = plan
        .buffers
        .iter()
        .map(|b| match &b.source {
            Source::Leaf(array) => array.to_f64(),
            Source::Input(token) | Source::Variable(token) => given[&token.id].to_f64(),
            Source::Computed { .. } => vec![0.0; b.elements],
        })
        .collect();
    // Buffers that share a slot overwrite each other: poison what has not been written by this kernel's user.
    let mut owner: HashMap<usize, usize> = HashMap::new();
    for kernel in &plan.kernels {
        let mut writes = Vec::new();
        let run = Run { kernel, buffers: &buffers };
        match &kernel.body {
            Body::Loop(body) => run.body(body, &mut writes, |_| 0.0),
            Body::Matmul(m) => run.body(&m.epilogue, &mut writes, |at| {
                let (batch, [row, column]) = at.split_at(m.batch.len()) else { unreachable!() };
                let element = |matrix: &Matrix, r: usize, c: usize| {
                    let offset: usize = matrix.batch.iter().zip(batch).map(|(s, b)| s * b).sum();
                    run.load(
                        matrix.binding,
                        (matrix.offset + offset + r * matrix.row + c * matrix.column) as i64,
                    )
                };
                (0..m.k).map(|k| element(&m.lhs, *row, k) * element(&m.rhs, k, *column)).sum()
            }),
            Body::User(_) => unreachable!("no test here has a kernel of a user"),
            Body::Scan(s) => {
                for (outer, inner) in (0..s.outer).flat_map(|o| (0..s.inner).map(move |i| (o, i))) {
                    let mut sum = 0.0;
                    for step in 0..s.length {
                        let position = if s.reverse { s.length - 1 - step } else { step };
                        let at = (outer * s.length + position) * s.inner + inner;
                        sum += run.load(s.input, (s.input_offset + at) as i64);
                        writes.push((kernel.bindings[s.output].buffer, s.output_offset + at, sum));
                    }
                }
            }
        }
        for binding in kernel.bindings.iter().filter(|b| b.access != Access::Read) {
            if let Source::Computed { slot } = plan.buffers[binding.buffer].source
                && let Some(previous) = owner.insert(slot, binding.buffer)
                && previous != binding.buffer
            {
                buffers[previous].fill(f64::NAN);
            }
        }
        let bound = |b: usize| kernel.bindings.iter().any(|x| x.buffer == b && x.access != Access::Read);
        for (buffer, index, value) in writes {
            assert!(bound(buffer), "a kernel writes only what it binds for writing");
            buffers[buffer][index] = value;
        }
    }
    let read = |node: &Node, buffer: usize, offset: usize| {
        let values = buffers[buffer][offset..offset + node.shape.elements()].to_vec();
        Array::new(Values::Float(values), node.shape).expect("as many values as elements")
    };
    let outputs = plan.outputs.iter().map(|p| read(&p.node, p.buffer, p.offset)).collect();
    let variables = plan.buffers.iter().zip(&buffers).filter_map(|(b, values)| match &b.source {
        Source::Variable(token) => Some((token.id, values.clone())),
        _ => None,
    });
    (outputs, variables.collect())
}
