//! Batches on every device: what batched functions compute lies within the bounds of the reference, and a step has as
//! many kernels for many examples as for few.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "common/mod.rs"]
mod common;

use common::{
    Activation, Array, DType, Device, Error, Evaluate, Key, Mlp, OrError, Reference, Step, Tensor,
    adapter_present, batch, batch_jacobian, bounds, evaluators, grad, hessian, jacobian,
    per_sample_gradients, surrogate_gradient, topological,
};

/// Inputs, hidden units and classes of a network.
const WIDTHS: [usize; 3] = [3, 5, 4];

/// Examples, and more of them. Both are summed in one pass.
const FEW: usize = 6;
const MANY: usize = 24;

type Tensors = Result<Vec<Tensor>, Error>;

/// The same numbers, from a program that knows batches and from one that goes from example to example.
struct Case {
    name: &'static str,
    batched: fn(&Data) -> Tensors,
    one_by_one: fn(&Data) -> Tensors,
}

const CASES: &[Case] = &[
    Case { name: "batch", batched: losses, one_by_one: losses_one_by_one },
    Case { name: "batch of batches", batched: pairs, one_by_one: pairs_one_by_one },
    Case {
        name: "per_sample_gradients",
        batched: |data| data.per_sample(),
        one_by_one: |data| data.per_sample_one_by_one(),
    },
    Case {
        name: "clipped gradients of a step",
        batched: |data| Ok(clipped(&data.per_sample()?)),
        one_by_one: |data| Ok(clipped(&data.per_sample_one_by_one()?)),
    },
    Case { name: "batch_jacobian", batched: slopes, one_by_one: slopes_one_by_one },
    Case {
        name: "jacobian",
        batched: |data| jacobian(&data.mean(), &data.parameters),
        one_by_one: |data| rows_of(&data.mean(), &data.parameters),
    },
    Case { name: "hessian", batched: curvatures, one_by_one: curvatures_one_by_one },
];

/// Examples, labels and a network.
struct Data {
    count: usize,
    x: Tensor,
    labels: Tensor,
    parameters: Vec<Tensor>,
}

fn values(count: usize) -> (Array, Array) {
    let number = |i: usize| ((i * 37 + 11) % 64) as f64 / 32.0 - 1.0;
    let x: Vec<f64> = (0..count * WIDTHS[0]).map(number).collect();
    let labels: Vec<i32> = (0..count).map(|i| (i * 7 % WIDTHS[2]) as i32).collect();
    (Array::new(x, [count, WIDTHS[0]]).unwrap(), Array::new(labels, [count]).unwrap())
}

impl Data {
    fn new(count: usize, x: Tensor, labels: Tensor) -> Data {
        let network = Mlp::new(&WIDTHS, Activation::Tanh);
        let parameters = network.parameters(Key::new(3)).unwrap();
        Data {
            count,
            x,
            labels,
            parameters: parameters.into_iter().map(|(_, value)| Tensor::new(value)).collect(),
        }
    }
    /// With numbers.
    fn known(count: usize) -> Data {
        let (x, labels) = values(count);
        Data::new(count, Tensor::new(x), Tensor::new(labels))
    }
    /// With inputs of a step, so that nothing can be computed beforehand.
    fn fed(count: usize) -> Data {
        let x = Tensor::input("x", [count, WIDTHS[0]], DType::F32);
        Data::new(count, x, Tensor::input("labels", [count], DType::I32))
    }
    fn logits(&self, x: &Tensor) -> Tensor {
        Mlp::new(&WIDTHS, Activation::Tanh).forward(&self.parameters, x)
    }
    fn loss(&self, x: &Tensor, label: &Tensor) -> Tensor {
        halved(&self.logits(x)).cross_entropy(label)
    }
    fn mean(&self) -> Tensor {
        self.logits(&self.x).softmax(-1).mean(0)
    }
    fn examples(&self) -> impl Iterator<Item = (Tensor, Tensor)> {
        (0..self.count).map(|i| (row(&self.x, i), row(&self.labels, i)))
    }
    fn per_sample(&self) -> Tensors {
        per_sample_gradients([&self.x, &self.labels], &self.parameters, |[x, label]| self.loss(&x, &label))
    }
    fn per_sample_one_by_one(&self) -> Tensors {
        let gradients = |(x, label)| grad(&self.loss(&x, &label), &self.parameters)?.or_error();
        transposed(self.examples().map(gradients).collect::<Result<_, _>>()?)
    }
}

/// The same value, with half of its cotangent.
fn halved(x: &Tensor) -> Tensor {
    surrogate_gradient("halved", "a test", [x], |[x]| (x, |upstream: Tensor| upstream * 0.5))
}

fn row(tensor: &Tensor, at: usize) -> Tensor {
    tensor.slice(0, at, at + 1, 1).squeeze(0)
}

fn stacked(tensors: &[Tensor]) -> Tensor {
    Tensor::stack(&tensors.iter().collect::<Vec<_>>(), 0)
}

/// From lists of tensors, one per example, to one tensor per place in the lists.
fn transposed(lists: Vec<Vec<Tensor>>) -> Tensors {
    let place = |at: usize| stacked(&lists.iter().map(|list| list[at].clone()).collect::<Vec<_>>());
    Ok((0..lists[0].len()).map(place).collect())
}

/// The gradient of every element of a vector.
fn rows_of(output: &Tensor, wrt: &[Tensor]) -> Tensors {
    let elements = (0..output.shape().elements()).map(|i| grad(&row(output, i), wrt)?.or_error());
    transposed(elements.collect::<Result<_, _>>()?)
}

/// Losses, and the gradient of their weighted sum.
fn losses(data: &Data) -> Tensors {
    with_gradients(data, batch([&data.x, &data.labels], |[x, label]| data.loss(&x, &label)))
}

fn losses_one_by_one(data: &Data) -> Tensors {
    let losses: Vec<Tensor> = data.examples().map(|(x, label)| data.loss(&x, &label)).collect();
    with_gradients(data, stacked(&losses))
}

fn with_gradients(data: &Data, losses: Tensor) -> Tensors {
    let weights = Tensor::iota([data.count], 0).cast(DType::F32) * 0.25 - 1.0;
    let wanted: Vec<&Tensor> = [&data.x].into_iter().chain(&data.parameters).collect();
    let gradients = grad(&(&losses * weights).sum(..), wanted)?;
    Ok([vec![losses], gradients.or_error()?].concat())
}

/// `exp(−|x − y|²)` of two examples.
fn affinity(x: &Tensor, y: &Tensor) -> Tensor {
    (-(x - y).pow(2).sum(..)).exp()
}

fn pairs(data: &Data) -> Tensors {
    let all = batch([&data.x], |[x]| batch([&data.x], |[y]| affinity(&x, &y)));
    Ok(vec![grad(&all.pow(2).sum(..), &data.x)?.or_error()?, all])
}

fn pairs_one_by_one(data: &Data) -> Tensors {
    let rows = data
        .examples()
        .map(|(x, _)| stacked(&data.examples().map(|(y, _)| affinity(&x, &y)).collect::<Vec<_>>()));
    let all = stacked(&rows.collect::<Vec<_>>());
    Ok(vec![grad(&all.pow(2).sum(..), &data.x)?.or_error()?, all])
}

/// The mean of gradients per example, each scaled down to length ½.
fn clipped(gradients: &[Tensor]) -> Vec<Tensor> {
    let flat: Vec<Tensor> = gradients.iter().map(|g| g.reshape([g.shape()[0] as isize, -1])).collect();
    let squares = flat.iter().map(|g| g.pow(2).sum(1)).reduce(|a, b| a + b).unwrap();
    let factors = (0.5 / squares.sqrt()).min(1.0).unsqueeze(1);
    flat.iter().map(|g| (g * &factors).mean(0)).collect()
}

fn slopes(data: &Data) -> Tensors {
    Ok(vec![batch_jacobian(&data.x, |x| data.logits(&x))?])
}

fn slopes_one_by_one(data: &Data) -> Tensors {
    let slope = |(x, _): (Tensor, Tensor)| Ok(rows_of(&data.logits(&x), std::slice::from_ref(&x))?.remove(0));
    Ok(vec![stacked(&data.examples().map(slope).collect::<Result<Vec<_>, Error>>()?)])
}

/// The parameters of which there are second derivatives: the first bias and the last weight.
fn curved(data: &Data) -> Vec<Tensor> {
    vec![data.parameters[1].clone(), data.parameters[2].clone()]
}

fn curvatures(data: &Data) -> Tensors {
    let loss = data.logits(&data.x).cross_entropy(&data.labels).mean(..);
    Ok(hessian(&loss, curved(data))?.concat())
}

fn curvatures_one_by_one(data: &Data) -> Tensors {
    let loss = data.examples().map(|(x, label)| data.logits(&x).cross_entropy(&label));
    let loss = loss.reduce(|a, b| a + b).unwrap() / data.count as f64;
    let wanted = curved(data);
    let mut blocks = Vec::new();
    for gradient in grad(&loss, &wanted)?.or_error()? {
        blocks.extend(rows_of(&gradient.reshape([-1]), &wanted)?);
    }
    Ok(blocks)
}

#[test]
fn batches_lie_within_the_bounds_of_the_reference_on_every_evaluator() {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    for evaluator in &evaluators {
        let mut compared = 0;
        for case in CASES {
            let data = Data::known(FEW);
            let (batched, one_by_one) = ((case.batched)(&data).unwrap(), (case.one_by_one)(&data).unwrap());
            let batched: Vec<&Tensor> = batched.iter().collect();
            let expected = Reference::rounded().evaluate(&one_by_one.iter().collect::<Vec<_>>()).unwrap();
            let read = evaluator.evaluate(&batched).unwrap();
            let run = evaluator.device.as_ref().map(|device| run(device, case));
            let bounds = bounds(&batched, &evaluator.arithmetic()).unwrap();
            assert_eq!((read.len(), expected.len()), (bounds.len(), bounds.len()), "{}", case.name);
            for (place, bounded) in bounds.iter().enumerate() {
                let what = format!("output {place} of `{}` on {}", case.name, evaluator.slug);
                let numbers = expected[place].to_f64();
                let of = |arrays: &Vec<Array>| bounded.first_violation(&arrays[place]);
                let found = [Some(&expected), Some(&read), run.as_ref()].map(|arrays| arrays.and_then(of));
                assert!(found.iter().all(Option::is_none), "{what}: one by one, read, run: {found:?}");
                assert_eq!(numbers.len(), bounded.value.len(), "{what}");
                // Twice as much would be found.
                let outside = |&i: &usize| numbers[i] != 0.0 && !bounded.accepts(i, 2.0 * numbers[i]);
                let told_apart = (0..numbers.len()).filter(outside).count();
                assert!(2 * told_apart > numbers.len(), "{what}: {told_apart} of {} bounds", numbers.len());
                compared += numbers.len();
            }
        }
        println!("{}: {} cases, {compared} numbers", evaluator.slug, CASES.len());
    }
}

/// A step that computes these outputs.
fn step(device: &Device, data: &Data, outputs: Tensors) -> Step {
    let outputs = outputs.unwrap();
    Step::new(device, &[&data.x, &data.labels], &outputs.iter().collect::<Vec<_>>(), &[]).unwrap()
}

/// The outputs of a step that is fed with examples.
fn run(device: &Device, case: &Case) -> Vec<Array> {
    let (data, (x, labels)) = (Data::fed(FEW), values(FEW));
    let outputs =
        step(device, &data, (case.batched)(&data)).run(&[(&data.x, &x), (&data.labels, &labels)]).unwrap();
    (0..outputs.len()).map(|place| outputs.read(place).unwrap()).collect()
}

#[test]
fn a_step_has_as_many_kernels_for_many_examples_as_for_few() {
    for evaluator in evaluators() {
        let Some(device) = evaluator.device else { continue };
        for case in CASES {
            let (few, many) = (Data::fed(FEW), Data::fed(MANY));
            let size = |data: &Data, outputs: Tensors| {
                let nodes = outputs.iter().flatten().map(|output| output.node().unwrap());
                let nodes = topological(nodes).len();
                let step = step(&device, data, outputs);
                [nodes, step.kernels(), step.dispatches()]
            };
            let batched = [&few, &many].map(|data| size(data, (case.batched)(data)));
            let one_by_one = size(&few, (case.one_by_one)(&few));
            let what = format!("`{}` on {}", case.name, evaluator.slug);
            println!("{what}: nodes, kernels and dispatches {batched:?}, one by one {one_by_one:?}");
            assert_eq!(batched[0], batched[1], "{what}");
            assert!(one_by_one[0] > batched[0][0], "{what}: one by one takes no more");
        }
    }
}
