//! Kernels written by hand, concisely.

use std::panic::Location;

use cotangent_shaders::{
    Access, Affine, Binding, Body, Buffer, Code, Instruction, Kernel, Level, Loop, Matmul, Matrix, Plan,
    Scan, Schedule, Slot, Source, Store, Value,
};
use cotangent_tensor::{DType, Elementwise, Integer, Reduce, Token};

/// A loop under construction, with the buffers it touches.
pub(crate) struct Sketch {
    pub(crate) body: Loop,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) elements: Vec<usize>,
}

impl Sketch {
    pub(crate) fn new(schedule: Schedule, kept: &[usize], reduced: &[usize]) -> Sketch {
        let (kept, reduced) = (kept.to_vec(), reduced.to_vec());
        let body = Loop { kept, reduced, schedule, code: vec![], stores: vec![] };
        Sketch { body, bindings: vec![], elements: vec![] }
    }
    pub(crate) fn bind(&mut self, access: Access, dtype: DType, elements: usize) -> usize {
        self.bindings.push(Binding { buffer: self.bindings.len(), access, dtype });
        self.elements.push(elements);
        self.bindings.len() - 1
    }
    pub(crate) fn push(&mut self, code: Code, dtype: DType, level: Level) -> Value {
        self.body.code.push(Instruction { code, dtype, level, label: None });
        self.body.code.len() - 1
    }
    fn level(&self, operands: &[Value]) -> Level {
        operands.iter().map(|&v| self.body.code[v].level).max().unwrap_or(Level::Kept)
    }
    /// An affine function that varies over what its strides say.
    pub(crate) fn at(&self, offset: i64, strides: &[i64]) -> (Affine, Level) {
        let at = Affine { offset, strides: strides.to_vec() };
        let varies = strides.iter().skip(self.body.kept.len()).any(|&s| s != 0);
        (at, if varies { Level::Element } else { Level::Kept })
    }
    pub(crate) fn load(&mut self, binding: usize, offset: i64, strides: &[i64]) -> Value {
        let (at, level) = self.at(offset, strides);
        self.load_at(level, binding, at, None)
    }
    pub(crate) fn load_at(
        &mut self,
        level: Level,
        binding: usize,
        at: Affine,
        guard: Option<Value>,
    ) -> Value {
        let dtype = match self.bindings[binding].dtype {
            DType::F16 => DType::F32,
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => self.bindings[binding].dtype,
        };
        self.push(Code::Load { binding, at, guard }, dtype, level)
    }
    /// A new buffer, loaded with these strides; it is as large as they need.
    pub(crate) fn input(&mut self, dtype: DType, offset: i64, strides: &[i64]) -> Value {
        let elements = self.reach(offset, strides);
        let binding = self.bind(Access::Read, dtype, elements);
        self.load(binding, offset, strides)
    }
    /// A new buffer, stored with these strides.
    pub(crate) fn output(&mut self, value: Value, offset: i64, strides: &[i64]) -> usize {
        let elements = self.reach(offset, strides);
        let binding = self.bind(Access::Write, self.body.code[value].dtype, elements);
        self.store(binding, value, offset, strides);
        binding
    }
    pub(crate) fn store(&mut self, binding: usize, value: Value, offset: i64, strides: &[i64]) {
        let at = Affine { offset, strides: strides.to_vec() };
        self.body.stores.push(Store { binding, at, value });
    }
    fn reach(&self, offset: i64, strides: &[i64]) -> usize {
        let extents = self.body.kept.iter().chain(&self.body.reduced);
        let reach = strides.iter().zip(extents).map(|(&s, &e)| (s * (e as i64 - 1)).max(0)).sum::<i64>();
        (offset + reach + 1) as usize
    }
    pub(crate) fn constant(&mut self, x: f32) -> Value {
        self.push(Code::Constant(x.to_bits()), DType::F32, Level::Kept)
    }
    pub(crate) fn word(&mut self, x: u32, dtype: DType) -> Value {
        self.push(Code::Constant(x), dtype, Level::Kept)
    }
    pub(crate) fn apply(&mut self, row: Elementwise, operands: &[Value]) -> Value {
        use cotangent_tensor::Class;
        let dtype = match row.class() {
            Class::Real | Class::Select => DType::F32,
            Class::Test | Class::Logic => DType::Bool,
        };
        self.push(Code::Elementwise(row, operands.to_vec()), dtype, self.level(operands))
    }
    pub(crate) fn integer(&mut self, row: Integer, dtype: DType, operands: &[Value]) -> Value {
        let result = if row.is_test() { DType::Bool } else { dtype };
        self.push(Code::Integer(row, dtype, operands.to_vec()), result, self.level(operands))
    }
    pub(crate) fn cast(&mut self, value: Value, dtype: DType) -> Value {
        self.push(Code::Cast(value), dtype, self.level(&[value]))
    }
    pub(crate) fn reduce(&mut self, kind: Reduce, value: Value) -> Value {
        let dtype = self.body.code[value].dtype;
        self.push(Code::Reduce(kind, value), dtype, Level::Kept)
    }
    pub(crate) fn kept(&mut self, code: Code, dtype: DType) -> Value {
        self.push(code, dtype, Level::Kept)
    }
    pub(crate) fn element(&mut self, code: Code) -> Value {
        self.push(code, DType::F32, Level::Element)
    }

    #[track_caller]
    pub(crate) fn plan(self) -> Plan {
        plan_of(&self.bindings, &self.elements, vec![Body::Loop(self.body)])
    }
    /// The plan of a product with this loop as its epilogue; bindings 0 and 1 are the operands.
    #[track_caller]
    pub(crate) fn product(self, batch: &[usize], [m, n, k]: [usize; 3], lhs: Matrix, rhs: Matrix) -> Plan {
        let matmul = Matmul { batch: batch.to_vec(), m, n, k, lhs, rhs, epilogue: self.body };
        plan_of(&self.bindings, &self.elements, vec![Body::Matmul(matmul)])
    }
}

#[track_caller]
pub(crate) fn scan_plan(scan: Scan) -> Plan {
    let total = scan.outer * scan.length * scan.inner;
    let bind = |buffer, access| Binding { buffer, access, dtype: DType::F32 };
    let elements = [scan.input_offset + total, scan.output_offset + total];
    plan_of(&[bind(0, Access::Read), bind(1, Access::Write)], &elements, vec![Body::Scan(scan)])
}

/// What is only written is computed; everything else is an input, in the order of the bindings.
#[track_caller]
fn plan_of(bindings: &[Binding], elements: &[usize], bodies: Vec<Body>) -> Plan {
    let mut slots = vec![];
    let mut buffers: Vec<Buffer> = vec![];
    for (binding, &elements) in bindings.iter().zip(elements) {
        let source = match binding.access {
            Access::Write => Source::Computed { slot: slots.len() },
            Access::Read | Access::ReadWrite => Source::Input(Token::new("input", 0)),
        };
        let buffer = Buffer { name: format!("b{}", buffers.len()), dtype: binding.dtype, elements, source };
        if binding.access == Access::Write {
            slots.push(Slot { bytes: buffer.bytes() });
        }
        buffers.push(buffer);
    }
    let location = Location::caller();
    let kernel = |body| Kernel {
        name: "sketch".into(),
        location,
        bindings: bindings.to_vec(),
        body,
        reads: vec![],
        writes: vec![],
    };
    let kernels = bodies.into_iter().map(kernel).collect();
    Plan { kernels, buffers, slots, outputs: vec![], sources: vec![] }
}
