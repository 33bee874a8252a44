//! What is checked: tensors over sample data. Rows, losses and families come from their tables, never from a list here.

use cotangent::elementwise::Class;
use cotangent::losses;
use cotangent::random::random_words;
use cotangent::{
    Activation, Adam, Array, Code, DType, Elementwise, Error, Family, Key, Optimizer, Real, Reduction, Sgd,
    State, Tensor, checkpoint, grad, vjp,
};

/// Tensors that are computed together.
pub(super) struct Case {
    pub(super) name: String,
    /// What could not be built is a case that fails, not one that is missing.
    pub(super) outputs: Result<Vec<Tensor>, Error>,
}

/// A function of one tensor, by name.
type Unary = (&'static str, fn(&Tensor) -> Tensor);

/// Elements of a sample: more than a vector, not a multiple of one.
const ELEMENTS: usize = 1031;

/// Every case.
pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    rows(&mut cases);
    structural(&mut cases);
    indexing(&mut cases);
    generated(&mut cases);
    tables(&mut cases);
    optimizers(&mut cases);
    checkpoints(&mut cases);
    cases
}

/// Numbers of both signs between 2⁻²⁰ and 2⁷, with zeros, ones and halves among them.
fn sample(name: &str, elements: usize) -> Vec<f64> {
    let words = random_words(Key::new(0).stream(name), 0, 2 * elements);
    let value = |pair: &[u32]| match pair[0] % 16 {
        0 => 0.0,
        1 => 1.0,
        2 => -0.5,
        _ => {
            let size = (f64::from(pair[1]) * 2f64.powi(-32) * 27.0 - 20.0).exp2();
            f64::from(if pair[0] & 64 == 0 { size as f32 } else { -size as f32 })
        }
    };
    words.chunks_exact(2).map(value).collect()
}

fn tensor(name: &str, dims: &[usize]) -> Tensor {
    Tensor::from_values(sample(name, dims.iter().product()), dims)
}

fn truth(name: &str) -> Tensor {
    Tensor::new(
        random_words(Key::new(1).stream(name), 0, ELEMENTS).iter().map(|w| w & 1 == 1).collect::<Vec<_>>(),
    )
}

fn add(cases: &mut Vec<Case>, name: impl Into<String>, outputs: Vec<Tensor>) {
    cases.push(Case { name: name.into(), outputs: Ok(outputs) });
}

/// Gradients of the sum of the output, where there are any: a function that is flat everywhere, or whose derivative has no
/// row of its own, has none, and says so in its state.
fn gradients(output: &Tensor, operands: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
    let is_float = |tensor: &Tensor| tensor.node().map(|node| node.dtype.is_float());
    if !is_float(output)? {
        return Ok(Vec::new());
    }
    let mut floats = Vec::new();
    for operand in operands {
        if is_float(operand)? {
            floats.push(*operand);
        }
    }
    let mut values = Vec::new();
    for gradient in &grad(&output.sum(..), floats)? {
        match gradient.state() {
            State::Value(value) => {
                value.node()?;
                values.push(value.clone());
            }
            State::Zero | State::Unconnected | State::Stopped { .. } => {}
            State::NotDifferentiable { .. } => values.push(gradient.or_error()?),
        }
    }
    Ok(values)
}

fn with_gradients(cases: &mut Vec<Case>, name: &str, output: Tensor, operands: &[&Tensor]) {
    let gradients = match gradients(&output, operands) {
        // The end of a chain of special functions: there is no row for the next one.
        Err(error) if error.code() == Code::NoDerivative => Ok(Vec::new()),
        found => found,
    };
    add(cases, name, vec![output]);
    if !gradients.as_ref().is_ok_and(Vec::is_empty) {
        cases.push(Case { name: format!("{name}.gradient"), outputs: gradients });
    }
}

fn rows(cases: &mut Vec<Case>) {
    for &row in Elementwise::ALL {
        let operands: Vec<Tensor> = (0..row.arity())
            .map(|position| {
                let name = format!("{}{position}", row.name());
                let is_truth = match row.class() {
                    Class::Logic => true,
                    Class::Select => position == 0,
                    Class::Real | Class::Test => false,
                };
                if is_truth { truth(&name) } else { tensor(&name, &[ELEMENTS]) }
            })
            .collect();
        let operands: Vec<&Tensor> = operands.iter().collect();
        with_gradients(cases, row.name(), Tensor::apply(row, &operands), &operands);
    }
}

fn structural(cases: &mut Vec<Case>) {
    let x = tensor("structural", &[7, 33, 5]);
    let wide = tensor("wide", &[3, 2500]);
    let reductions: [Unary; 7] = [
        ("sum", |x| x.sum(..)),
        ("sum.rows", |x| x.sum(-1)),
        ("sum.columns", |x| x.sum(0)),
        ("mean", |x| x.mean(-1)),
        ("max_over", |x| x.max_over(-1)),
        ("min_over", |x| x.min_over(0)),
        ("cumulative_sum", |x| x.cumulative_sum(-1, false)),
    ];
    for (name, function) in reductions {
        with_gradients(cases, name, function(&x), &[&x]);
        with_gradients(cases, &format!("{name}.wide"), function(&wide), &[&wide]);
    }
    let small = tensor("small", &[6, 5]);
    with_gradients(cases, "prod", small.prod(-1), &[&small]);
    let rows: [Unary; 4] = [
        ("softmax", |x| x.softmax(-1)),
        ("log_softmax", |x| x.log_softmax(-1)),
        ("logsumexp", |x| x.logsumexp(-1)),
        ("norm", |x| x.norm(-1)),
    ];
    for (name, function) in rows {
        for operand in [&x, &wide] {
            // With a factor, so that the gradient of a softmax is not zero.
            let output = function(operand);
            let factor = Tensor::iota(output.shape(), -1).cast(DType::F32) * 0.125;
            with_gradients(cases, name, output * factor, &[operand]);
        }
    }
    let (a, b) = (tensor("a", &[37, 65]), tensor("b", &[65, 29]));
    let (at, bt) = (tensor("at", &[65, 37]), tensor("bt", &[29, 65]));
    let batch = (tensor("batch a", &[3, 17, 9]), tensor("batch b", &[3, 9, 21]));
    with_gradients(cases, "matmul", a.matmul(&b), &[&a, &b]);
    with_gradients(cases, "matmul.nt", a.matmul(&bt.transpose()), &[&a, &bt]);
    with_gradients(cases, "matmul.tn", at.transpose().matmul(&b), &[&at, &b]);
    with_gradients(cases, "matmul.batched", batch.0.matmul(&batch.1), &[&batch.0, &batch.1]);
    let bias = tensor("bias", &[29]);
    let epilogue = Activation::Gelu.apply(&(a.matmul(&b) + &bias));
    with_gradients(cases, "matmul.epilogue", epilogue, &[&a, &b, &bias]);
    movement(cases, &x, &a);
}

/// Each with a factor, so that the gradient is not the same everywhere.
fn movement(cases: &mut Vec<Case>, x: &Tensor, a: &Tensor) {
    let row = tensor("row", &[5]);
    let weighted = |y: Tensor| &y * Tensor::iota(y.shape(), 0).cast(DType::F32) * 0.25 + &y;
    with_gradients(cases, "permute", weighted(x.permute([2, 0, 1])), &[x]);
    with_gradients(cases, "broadcast", weighted(row.broadcast_to([7, 33, 5]) * x), &[&row, x]);
    with_gradients(cases, "slice", weighted(x.slice(1, 3, 31, 4)), &[x]);
    with_gradients(cases, "slice.reversed", weighted(x.slice(-1, 0, 5, -1)), &[x]);
    with_gradients(cases, "pad", weighted(x.pad(1, 2, 3)), &[x]);
    with_gradients(cases, "concat", weighted(Tensor::concat(&[x, &(x * 2.0)], 1)), &[x]);
    with_gradients(cases, "stack", weighted(Tensor::stack(&[x, &(x * 2.0), &-x], 1)), &[x]);
    with_gradients(cases, "flip", weighted(x.flip(0)), &[x]);
    with_gradients(cases, "tril", weighted(a.tril(-1)), &[a]);
    with_gradients(cases, "triu", weighted(a.triu(2)), &[a]);
    let key = Key::new(6).stream("dropout");
    with_gradients(cases, "dropout", weighted(x.dropout(key, 3u32, 0.25)), &[x]);
}

fn indexing(cases: &mut Vec<Case>) {
    let table = tensor("table", &[11, 6]);
    let indices: Vec<i32> = random_words(Key::new(2), 0, 40).iter().map(|w| (w % 11) as i32).collect();
    let indices = Tensor::new(indices);
    with_gradients(cases, "gather", table.gather(0, &indices), &[&table]);
    let updates = tensor("updates", &[40, 6]);
    with_gradients(cases, "scatter_add", Tensor::scatter_add(&indices, &updates, 0, 11), &[&updates]);
    add(cases, "one_hot", vec![indices.one_hot(11)]);
    add(cases, "argmax", vec![table.argmax(-1), table.argmin(0)]);
}

fn generated(cases: &mut Vec<Case>) {
    let key = Key::new(5).stream("check");
    add(cases, "iota", vec![Tensor::iota([3, 41], 1)]);
    add(cases, "random_bits", vec![Tensor::random_bits(key, 3u32, [ELEMENTS])]);
    add(cases, "uniform", vec![Tensor::uniform(key, 3u32, [ELEMENTS])]);
    add(cases, "normal", vec![Tensor::normal(key, 3u32, [ELEMENTS])]);
    let x = tensor("cast", &[ELEMENTS]);
    let casts = [DType::F16, DType::I32, DType::U32, DType::Bool].map(|dtype| x.cast(dtype));
    add(cases, "cast", casts.to_vec());
    let (a, b) = (x.cast(DType::I32), tensor("integer", &[ELEMENTS]).cast(DType::I32));
    add(cases, "integer.arithmetic", vec![&a + &b, &a - &b, &a * &b, &a / &b, &a % &b, -&a, a.abs()]);
    add(cases, "integer.order", vec![a.min(&b), a.max(&b), a.lt(&b), a.le(&b), a.eq(&b), a.ne(&b)]);
    add(cases, "integer.bits", vec![a.and(&b), a.or(&b), a.xor(&b), a.shl(3), a.shr(2)]);
}

/// Losses and families.
fn tables(cases: &mut Vec<Case>) {
    for loss in losses::ALL {
        for (kind, operands) in [("", (loss.sample)()), (".extreme", (loss.extreme)())] {
            let operands: Vec<Tensor> = operands.into_iter().map(Tensor::new).collect();
            let operands_by_reference: Vec<&Tensor> = operands.iter().collect();
            let name = format!("{}{kind}", loss.name);
            with_gradients(cases, &name, (loss.function)(&operands), &operands_by_reference);
        }
    }
    for family in Family::all() {
        one_family(cases, family.name(), &family);
        for link in family.links() {
            if let Ok(linked) = family.clone().with_link(link.clone())
                && linked.link() != family.link()
            {
                one_family(cases, &format!("{}.{link}", family.name()), &linked);
            }
        }
    }
}

/// A family by one of its links: its functions at samples between their sizes and half of them, which stay in their domain.
fn one_family(cases: &mut Vec<Case>, name: &str, family: &Family) {
    const REPEATS: usize = 70;
    let Some([eta, target]) = family.samples() else { return };
    let repeated = |array: Array| {
        let tensor = Tensor::new(array);
        let dims: Vec<usize> = match tensor.shape().rank() {
            1 => vec![REPEATS, tensor.shape()[0]],
            _ => vec![REPEATS, tensor.shape()[1]],
        };
        tensor.broadcast_to(dims)
    };
    let (eta, target) = (repeated(eta), repeated(target));
    let eta = &eta * (0.5 + 0.5 * Tensor::uniform(Key::new(6).stream(name), 0u32, *eta.shape()));
    let (eta, target) = match (family.has_rows(), family.is_categorical()) {
        (true, true) => (eta, target.reshape([-1])),
        (true, false) => (eta, target),
        (false, _) => (eta.reshape([-1]), target.reshape([-1])),
    };
    let loss = family.nll(&eta, &target, Reduction::Mean);
    let outputs = || {
        let residual = family.residual(&eta, &target);
        let started = vjp(&[(&eta, &residual)], &eta)?.or_error()?;
        let product = family.fisher_product(&eta, &eta, &residual)?;
        let mut outputs = vec![family.mean(&eta), family.variance(&eta), started, residual, product];
        // Not every family has these.
        let more = [family.log_partition(&eta), family.deviance_at(&target, &eta)];
        outputs.extend(more.into_iter().filter(|tensor| tensor.error().is_none()));
        Ok(outputs)
    };
    cases.push(Case { name: name.to_string(), outputs: outputs() });
    with_gradients(cases, &format!("{name}.nll"), loss, &[&eta]);
}

/// Layers that are computed again for their gradients.
fn checkpoints(cases: &mut Vec<Case>) {
    let (x, w) = (tensor("x", &[40, 12]).tanh(), tensor("w", &[12, 12]).tanh());
    let layer = |x: Tensor| x.matmul(&w).tanh();
    let block = |x: &Tensor| checkpoint([x], |[x]| layer(layer(x)));
    let loss = block(&block(&x)).mean(..);
    with_gradients(cases, "checkpoint", loss, &[&x, &w]);
}

fn optimizers(cases: &mut Vec<Case>) {
    let (p, g) = (tensor("parameters", &[ELEMENTS]), tensor("gradients", &[ELEMENTS]));
    let all: [(&str, &dyn Optimizer); 2] =
        [("sgd", &Sgd::new(0.1).momentum(0.9)), ("adam", &Adam::default())];
    for (name, optimizer) in all {
        let outputs = || {
            let state = optimizer.state(p.shape())?;
            let state: Vec<Tensor> = state.into_iter().map(|(_, value)| Tensor::new(value)).collect();
            Ok(optimizer.updates(&p, &g, &state)?.into_iter().map(|(_, new)| new).collect())
        };
        cases.push(Case { name: name.to_string(), outputs: outputs() });
    }
}
