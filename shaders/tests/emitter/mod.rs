//! Builds kernels by hand, and asks naga about the text they become.

use cotangent_shaders::{
    Access, Affine, Binding, Body, Code, Dispatch, Instruction, Kernel, Level, Loop, Matmul, Matrix, Scan,
    Schedule, Store, Target, Value,
};
use cotangent_tensor::elementwise::Class;
use cotangent_tensor::{DType, Elementwise, Reduce};
use std::panic::Location;

/// An affine function.
pub fn at(offset: i64, strides: &[i64]) -> Affine {
    Affine { offset, strides: strides.to_vec() }
}

/// A loop under construction.
#[derive(Clone)]
pub struct Builder {
    pub nest: Loop,
    pub bindings: Vec<Binding>,
    pub name: &'static str,
}

impl Builder {
    pub fn new(name: &'static str, schedule: Schedule, kept: &[usize], reduced: &[usize]) -> Builder {
        let nest =
            Loop { kept: kept.to_vec(), reduced: reduced.to_vec(), schedule, code: vec![], stores: vec![] };
        Builder { nest, bindings: vec![], name }
    }
    pub fn bind(&mut self, dtype: DType, access: Access) -> usize {
        let buffer = self.bindings.len();
        self.bindings.push(Binding { buffer, access, dtype });
        buffer
    }
    pub fn push(&mut self, code: Code, dtype: DType, level: Level, label: &str) -> Value {
        let label = (!label.is_empty()).then(|| label.into());
        self.nest.code.push(Instruction { code, dtype, level, label });
        self.nest.code.len() - 1
    }
    pub fn constant(&mut self, value: f32) -> Value {
        self.push(Code::Constant(value.to_bits()), DType::F32, Level::Kept, "")
    }
    /// A load from a new buffer.
    pub fn load(&mut self, dtype: DType, at: Affine, label: &str) -> Value {
        let binding = self.bind(dtype, Access::Read);
        self.load_from(binding, at, label)
    }
    pub fn load_from(&mut self, binding: usize, at: Affine, label: &str) -> Value {
        let dtype = match self.bindings[binding].dtype {
            DType::F16 => DType::F32,
            other => other,
        };
        let varies = at.strides[self.nest.kept.len()..].iter().any(|&s| s != 0);
        let level = if varies { Level::Element } else { Level::Kept };
        self.push(Code::Load { binding, at, guard: None }, dtype, level, label)
    }
    pub fn apply(&mut self, row: Elementwise, operands: &[Value], label: &str) -> Value {
        let dtype = match row.class() {
            Class::Test | Class::Logic => DType::Bool,
            Class::Real | Class::Select => DType::F32,
        };
        let level = operands.iter().map(|&o| self.nest.code[o].level).max().unwrap_or(Level::Kept);
        self.push(Code::Elementwise(row, operands.to_vec()), dtype, level, label)
    }
    pub fn reduce(&mut self, kind: Reduce, value: Value, label: &str) -> Value {
        let dtype = self.nest.code[value].dtype;
        self.push(Code::Reduce(kind, value), dtype, Level::Kept, label)
    }
    /// A store to a new buffer of this type.
    pub fn store(&mut self, dtype: DType, at: Affine, value: Value) {
        let binding = self.bind(dtype, Access::Write);
        self.nest.stores.push(Store { binding, at, value });
    }
    pub fn kernel(&self) -> Kernel {
        self.with_body(Body::Loop(self.nest.clone()))
    }
    #[track_caller]
    pub fn with_body(&self, body: Body) -> Kernel {
        Kernel {
            name: self.name.to_owned(),
            location: Location::caller(),
            bindings: self.bindings.clone(),
            body,
            reads: vec![],
            writes: vec![],
        }
    }
}

/// Value and gradient of the mean sigmoid-weighted L1 loss of `n` elements.
pub fn sigmoid_l1(n: usize, labels: [&str; 2]) -> Kernel {
    let mut b = Builder::new("sigmoid_l1", Schedule::Total, &[], &[n]);
    let flat = at(0, &[1]);
    let p = b.load(DType::F32, flat.clone(), labels[0]);
    let y = b.load(DType::F32, flat.clone(), labels[1]);
    let d = b.apply(Elementwise::Sub, &[p, y], "d");
    let e = b.apply(Elementwise::Abs, &[d], "distance");
    let s = b.apply(Elementwise::Sigmoid, &[e], "s");
    let loss = b.apply(Elementwise::Mul, &[s, e], "loss");
    let weight = b.constant(1.0 / n as f32);
    let one = b.constant(1.0);
    let rest = b.apply(Elementwise::Sub, &[one, s], "");
    let slope = b.apply(Elementwise::Mul, &[loss, rest], "");
    let slope = b.apply(Elementwise::Add, &[s, slope], "slope");
    let sign = b.apply(Elementwise::Sign, &[d], "");
    let gradient = b.apply(Elementwise::Mul, &[sign, slope], "");
    let gradient = b.apply(Elementwise::Mul, &[gradient, weight], "d_prediction");
    let total = b.reduce(Reduce::Sum, loss, "total");
    let mean = b.apply(Elementwise::Mul, &[total, weight], "mean");
    b.store(DType::F32, flat, gradient);
    b.store(DType::F32, at(0, &[0]), mean);
    b.kernel()
}

/// Softmax cross entropy per row, and its gradient.
pub fn cross_entropy(rows: usize, classes: usize) -> Kernel {
    let mut b = Builder::new("cross_entropy", Schedule::Row, &[rows], &[classes]);
    let width = i64::try_from(classes).unwrap();
    let x = b.load(DType::F32, at(0, &[width, 1]), "logits");
    let label = b.load(DType::I32, at(0, &[1, 0]), "label");
    let m = b.push(Code::LogSumExpMax(x), DType::F32, Level::Kept, "m");
    let s = b.push(Code::LogSumExpRest(m), DType::F32, Level::Kept, "s");
    let picked = b.push(Code::Pick { value: x, index: label }, DType::F32, Level::Kept, "logit_of_label");
    let tail = b.apply(Elementwise::Log1p, &[s], "");
    let gap = b.apply(Elementwise::Sub, &[m, picked], "gap");
    let loss = b.apply(Elementwise::Add, &[tail, gap], "loss");
    let residual = Code::SoftmaxResidual { value: x, max: m, rest: s, label };
    let residual = b.push(residual, DType::F32, Level::Element, "residual");
    b.store(DType::F32, at(0, &[width, 1]), residual);
    b.store(DType::F32, at(0, &[1, 0]), loss);
    b.kernel()
}

/// Sum over the rows of `[rows, columns]`.
pub fn column_sum(rows: usize, columns: usize) -> Kernel {
    let mut b = Builder::new("column_sum", Schedule::Column, &[columns], &[rows]);
    let x = b.load(DType::F32, at(0, &[1, i64::try_from(columns).unwrap()]), "x");
    let sum = b.reduce(Reduce::Sum, x, "sum");
    b.store(DType::F32, at(0, &[1, 0]), sum);
    b.kernel()
}

/// One elementwise row on `n` elements.
pub fn map(row: Elementwise, n: usize) -> Kernel {
    let mut b = Builder::new("map", Schedule::Map, &[n], &[]);
    let logic = row.class() == Class::Logic;
    let mut operands = Vec::new();
    for index in 0..row.arity() {
        let truth = logic || (row.class() == Class::Select && index == 0);
        let dtype = if truth { DType::Bool } else { DType::F32 };
        operands.push(b.load(dtype, at(0, &[1]), "x"));
    }
    let y = b.apply(row, &operands, "y");
    let dtype = b.nest.code[y].dtype;
    b.store(dtype, at(0, &[1]), y);
    b.kernel()
}

/// `relu(lhs · rhs + bias)`, operands transposed or not.
pub fn linear([m, n, k]: [usize; 3], [left, right]: [bool; 2]) -> Kernel {
    let mut b = Builder::new("linear_relu", Schedule::Map, &[m, n], &[]);
    let (lhs, rhs) = (b.bind(DType::F32, Access::Read), b.bind(DType::F32, Access::Read));
    let product = b.push(Code::Accumulator, DType::F32, Level::Kept, "product");
    let bias = b.load(DType::F32, at(0, &[0, 1]), "bias");
    let eta = b.apply(Elementwise::Add, &[product, bias], "eta");
    let hidden = b.apply(Elementwise::Relu, &[eta], "hidden");
    b.store(DType::F32, at(0, &[i64::try_from(n).unwrap(), 1]), hidden);
    let [row, column] = if left { [1, m] } else { [k, 1] };
    let lhs = Matrix { binding: lhs, offset: 0, batch: vec![], row, column };
    let [row, column] = if right { [1, k] } else { [n, 1] };
    let rhs = Matrix { binding: rhs, offset: 0, batch: vec![], row, column };
    b.with_body(Body::Matmul(Matmul { batch: vec![], m, n, k, lhs, rhs, epilogue: b.nest.clone() }))
}

/// A row kernel of three sweeps in which every value has the same label.
pub fn labeled_row(label: &str) -> Kernel {
    let mut b = Builder::new("labeled", Schedule::Row, &[100], &[1000]);
    let x = b.load(DType::F32, at(0, &[1000, 1]), label);
    let w = b.load(DType::F32, at(0, &[1, 0]), label);
    let class = b.load(DType::I32, at(0, &[1, 0]), label);
    let y = b.apply(Elementwise::Mul, &[x, w], label);
    let m = b.push(Code::LogSumExpMax(y), DType::F32, Level::Kept, label);
    let s = b.push(Code::LogSumExpRest(m), DType::F32, Level::Kept, label);
    let position = b.push(Code::ArgReduce { maximum: true, value: y }, DType::I32, Level::Kept, label);
    let picked = b.push(Code::Pick { value: y, index: class }, DType::F32, Level::Kept, label);
    let residual = Code::SoftmaxResidual { value: y, max: m, rest: s, label: class };
    let residual = b.push(residual, DType::F32, Level::Element, label);
    let g = b.apply(Elementwise::Mul, &[residual, w], label);
    let total = b.reduce(Reduce::Sum, g, label);
    let d = b.apply(Elementwise::Sub, &[g, total], label);
    b.store(DType::F32, at(0, &[1000, 1]), d);
    let loss = b.apply(Elementwise::Sub, &[m, picked], label);
    b.store(DType::F32, at(0, &[1, 0]), loss);
    b.store(DType::I32, at(0, &[1, 0]), position);
    b.kernel()
}

/// A product with an epilogue that uses values of both levels under the same label.
pub fn labeled_product(label: &str) -> Kernel {
    let Kernel { mut body, bindings, .. } = linear([64, 62, 30], [false, true]);
    let mut b = Builder::new("labeled", Schedule::Map, &[], &[]);
    b.bindings = bindings;
    let Body::Matmul(matmul) = &mut body else { panic!("a product") };
    b.nest = matmul.epilogue.clone();
    b.nest.code.iter_mut().for_each(|i| i.label = Some(label.into()));
    let scale = b.bind(DType::F32, Access::Read);
    let load = Code::Load { binding: scale, at: at(0, &[0, 0]), guard: None };
    let scale = b.push(load, DType::F32, Level::Kept, label);
    let squared = b.apply(Elementwise::Mul, &[scale, scale], label);
    let hidden = b.nest.stores[0].value;
    let scaled = b.apply(Elementwise::Mul, &[hidden, squared], label);
    b.nest.stores[0].value = scaled;
    matmul.epilogue = b.nest.clone();
    b.with_body(body)
}

/// A running sum.
pub fn scan(length: usize, inner: usize) -> Kernel {
    let mut b = Builder::new("cumulative_sum", Schedule::Map, &[], &[]);
    let input = b.bind(DType::F32, Access::Read);
    let output = b.bind(DType::F32, Access::Write);
    let (input_offset, output_offset) = (0, 0);
    b.with_body(Body::Scan(Scan {
        outer: 2,
        length,
        inner,
        reverse: true,
        input,
        input_offset,
        output,
        output_offset,
    }))
}

/// Parses, validates and translates a shader as wgpu would for every backend.
pub fn accept(dispatch: &Dispatch) {
    let text = &*dispatch.wgsl;
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let capabilities = naga::valid::Capabilities::default() | naga::valid::Capabilities::SUBGROUP;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    let stages = naga::valid::ShaderStages::COMPUTE;
    validator.subgroup_stages(stages).subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let words =
        naga::back::spv::write_vec(&module, &info, &naga::back::spv::Options::default(), None).unwrap();
    assert!(!words.is_empty());
    let options =
        naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    let (metal, _) = naga::back::msl::write_string(&module, &info, &options, &Default::default()).unwrap();
    assert!(!metal.is_empty());
    let options = naga::back::hlsl::Options {
        shader_model: naga::back::hlsl::ShaderModel::V6_0,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut direct = String::new();
    naga::back::hlsl::Writer::new(&mut direct, &options, &Default::default())
        .write(&module, &info, None)
        .unwrap();
    assert!(!direct.is_empty());
}

/// Targets with features and limits of all sizes.
pub fn targets() -> Vec<(&'static str, Target)> {
    let web = Target::web();
    let cpu = Target { cpu: true, subgroups: Some((8, 8)), max_workgroup_memory: 32 << 10, ..web.clone() };
    let gpu = Target {
        subgroups: Some((32, 32)),
        max_invocations: 1024,
        max_workgroup_memory: 48 << 10,
        ..web.clone()
    };
    let tiny = Target {
        max_workgroups: 4,
        max_invocations: 8,
        max_workgroup_memory: 1 << 10,
        max_storage_buffers: 4,
        ..web.clone()
    };
    vec![("web", web), ("cpu", cpu), ("gpu", gpu), ("tiny", tiny)]
}
