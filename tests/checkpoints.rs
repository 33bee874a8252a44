//! Checkpoints on every device: the numbers of the plain program bit for bit, less memory, and everything inside computed
//! once more per backward pass.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "common/mod.rs"]
mod common;

use common::{
    Array, Checkpoint, Code, Device, Error, Evaluate, Key, Kind, Mode, Reference, Step, StepOptions, Tensor,
    Training, adapter_present, bounds, checkpoint, evaluators, grad, hvp, random, train, where_,
};

/// A part of a program, and how it is taken.
type Part<'a> = dyn Fn(&Tensor) -> Tensor + 'a;
type Taken<'a> = &'a dyn Fn(&Tensor, &Part) -> Tensor;

fn plain(x: &Tensor, part: &Part) -> Tensor {
    part(x)
}
fn again(x: &Tensor, part: &Part) -> Tensor {
    checkpoint([x], |[x]| part(&x))
}

/// Numbers between `-scale` and `scale`.
fn data(shape: &[usize], seed: u64, scale: f32) -> Tensor {
    let count = shape.iter().product();
    let words = random::random_words(Key::new(seed), 0, count);
    let numbers: Vec<f32> =
        words.iter().map(|word| scale * ((word >> 8) as f32 / (1 << 23) as f32 - 1.0)).collect();
    Tensor::new(Array::new(numbers, shape).unwrap())
}

/// Layers of one width; each has a weight of its own.
struct Network {
    x: Tensor,
    weights: Vec<Tensor>,
}

impl Network {
    fn new(batch: usize, width: usize, depth: usize) -> Network {
        let weight = |layer| data(&[width, width], layer, 1.5 / (width as f32).sqrt());
        Network { x: data(&[batch, width], 1000, 1.0), weights: (0..depth as u64).map(weight).collect() }
    }
    /// The loss, where every `block` layers are taken together.
    fn loss(&self, block: usize, layer: fn(&Tensor, &Tensor) -> Tensor, taken: Taken) -> Tensor {
        let blocks = self.weights.chunks(block);
        let y = blocks.fold(self.x.clone(), |y, weights| {
            taken(&y, &|y| weights.iter().fold(y.clone(), |y, weight| layer(&y, weight)))
        });
        (&y * &y).mean(..)
    }
    fn gradients(&self, loss: &Tensor) -> Vec<Tensor> {
        grad(loss, &self.weights).unwrap().iter().map(|g| g.or_error().unwrap()).collect()
    }
    fn step(&self, device: &Device, loss: &Tensor) -> Step {
        let gradients = self.gradients(loss);
        let outputs: Vec<&Tensor> = std::iter::once(loss).chain(&gradients).collect();
        Step::new(device, &[], &outputs, &[]).unwrap()
    }
}

fn dense(x: &Tensor, weight: &Tensor) -> Tensor {
    x.matmul(weight).tanh()
}

/// Normalized rows, attention of the rows to each other, a random mask, a way around.
fn attentive(x: &Tensor, weight: &Tensor) -> Tensor {
    let centered = x - x.mean(-1).unsqueeze(-1);
    let normed = &centered / ((&centered * &centered).mean(-1).unsqueeze(-1) + 1e-5).sqrt();
    let scores = normed.matmul(weight).matmul(&normed.transpose()).softmax(-1);
    let mixed = scores.matmul(&normed);
    let kept = Tensor::uniform(Key::new(5), 3u32, *mixed.shape()).lt(0.9);
    x + where_(&kept, &(&mixed * mixed.sigmoid()), 0.0)
}

/// Products of matrices that a step computes.
fn products(step: &Step) -> usize {
    step.explain().lines().filter(|line| line.contains(" matmul [")).count()
}

fn bits(arrays: &[Array]) -> Vec<Vec<u64>> {
    arrays.iter().map(|array| array.to_f64().iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn numbers_are_those_of_the_plain_program() -> Result<(), Error> {
    let evaluators = evaluators();
    adapter_present(&evaluators).unwrap();
    for (name, layer) in [("dense", dense as fn(&Tensor, &Tensor) -> Tensor), ("attentive", attentive)] {
        let network = Network::new(24, 16, 6);
        for evaluator in &evaluators {
            let numbers = |taken: Taken| -> Result<Vec<Vec<u64>>, Error> {
                let loss = network.loss(2, layer, taken);
                let gradients = network.gradients(&loss);
                let all: Vec<&Tensor> = std::iter::once(&loss).chain(&gradients).collect();
                let arrays = evaluator.evaluate(&all)?;
                if evaluator.is_adapter() {
                    for (bounded, array) in bounds(&all, &evaluator.arithmetic())?.iter().zip(&arrays) {
                        assert_eq!(bounded.first_violation(array), None, "{name} on {}", evaluator.slug);
                    }
                }
                Ok(bits(&arrays))
            };
            let (again, plain) = (numbers(&again)?, numbers(&plain)?);
            // Rows that are summed beside other work may be summed in another order by an adapter.
            if name == "dense" || !evaluator.is_adapter() {
                assert_eq!(again, plain, "{name} on {}", evaluator.slug);
            }
        }
    }
    Ok(())
}

#[test]
fn memory_is_that_of_the_blocks() {
    let (network, device) = (Network::new(256, 32, 16), Device::cpu());
    let loss = |taken: Taken| network.loss(4, dense, taken);
    let (all, some) = (network.step(&device, &loss(&plain)), network.step(&device, &loss(&again)));
    // One activation of each layer against one of each block and those of one block, with what is at work.
    let activation = 256 * 32 * 4;
    let (all, some) = (all.memory(), some.memory());
    assert!(all.live >= 15 * activation, "{all:?}");
    assert!(some.live <= (4 + 4 + 4) * activation + 16 * 32 * 32 * 4, "{some:?}");
    assert!(some.planned <= some.live + some.live / 4, "{some:?}");
    // All activations but the last, which only the kernel reads that computes it; the ends of the blocks.
    assert_eq!((all.kept.len(), all.kept_bytes()), (15, 15 * activation));
    assert_eq!((some.kept.len(), some.kept_bytes()), (4, 4 * activation));
    let text = some.to_string();
    assert!(text.contains("128.0 KiB kept for derivatives"), "{text}");
    assert!(text.contains("32.0 KiB  `tanh` f32 [256, 32], tests/checkpoints.rs:"), "{text}");
}

#[test]
fn everything_inside_is_computed_once_more() {
    let (network, device) = (Network::new(64, 16, 8), Device::cpu());
    let count = |taken: Taken| products(&network.step(&device, &network.loss(4, dense, taken)));
    // Forward, cotangents of all inputs but the first, gradients of all weights.
    let expected = 8 + 7 + 8;
    assert_eq!(count(&plain), expected);
    assert_eq!(count(&again), expected + 8);
    let keeping =
        |x: &Tensor, part: &Part| Checkpoint::new("block").keep_products().apply([x], |[x]| part(&x));
    assert_eq!(count(&keeping), expected);
    // Blocks of two blocks: to the second one, two layers are computed once more.
    let blocks = network.weights.chunks(4);
    let y = blocks.fold(network.x.clone(), |y, weights| {
        let pair = |y: &Tensor, weights: &[Tensor]| {
            again(y, &|y| weights.iter().fold(y.clone(), |y, w| dense(&y, w)))
        };
        again(&y, &|y| weights.chunks(2).fold(y.clone(), |y, weights| pair(&y, weights)))
    });
    assert_eq!(products(&network.step(&device, &(&y * &y).mean(..))), expected + 8 + 2 * 2);
}

#[test]
fn policies_keep_what_they_name() {
    let (network, device) = (Network::new(256, 32, 8), Device::cpu());
    let named = |x: &Tensor, weight: &Tensor| x.matmul(weight).named("product").softplus().tanh();
    let live = |taken: Taken| network.step(&device, &network.loss(8, named, taken)).memory().live;
    let (products, names) =
        (Checkpoint::new("p").keep_products(), Checkpoint::new("n").keep_named(["product"]));
    let all = live(&plain);
    let by_product = live(&|x, part| products.apply([x], |[x]| part(&x)));
    let by_name = live(&|x, part| names.apply([x], |[x]| part(&x)));
    assert_eq!(by_name, by_product);
    assert!(by_product * 3 < all * 2, "{by_product} {all}");
}

#[test]
fn the_second_derivative_keeps_nothing_of_the_first() {
    let (network, device) = (Network::new(512, 32, 16), Device::cpu());
    let step = |taken: Taken| {
        let loss = network.loss(4, dense, taken);
        let directions: Vec<Tensor> = (0..16).map(|i| data(&[32, 32], 70 + i, 1.0)).collect();
        let products = hvp(&loss, &network.weights, &directions).unwrap();
        Step::new(&device, &[], &products.iter().collect::<Vec<_>>(), &[]).unwrap()
    };
    let (all, some) = (step(&plain).memory(), step(&again).memory());
    assert!(some.live * 2 < all.live, "{some:?}\n{all:?}");
}

#[test]
fn a_trained_network_is_the_same() -> Result<(), Error> {
    let network = Network::new(32, 16, 4);
    let names = ["w0", "w1", "w2", "w3"];
    let reference = Reference::new();
    let initial: Vec<(&str, Array)> = names
        .iter()
        .zip(&network.weights)
        .map(|(name, weight)| Ok((*name, reference.evaluate(&[weight])?.remove(0))))
        .collect::<Result<_, Error>>()?;
    for evaluator in evaluators() {
        let trained = |taken: Taken| {
            let build = |state: &[Tensor]| {
                let network = Network { weights: state.to_vec(), x: network.x.clone() };
                let loss = network.loss(2, dense, taken);
                let gradients = network.gradients(&loss);
                let updates = gradients.iter().zip(state).map(|(g, w)| w - g * 0.5).collect();
                Ok(Training { outputs: vec![loss], updates })
            };
            let (losses, weights) = train(&evaluator, Mode::Captured, &initial, 5, &build)?;
            let losses: Vec<Array> = losses.into_iter().flatten().collect();
            assert!(losses[4].scalar()? < losses[0].scalar()?);
            Ok::<_, Error>((bits(&losses), bits(&weights)))
        };
        assert_eq!(trained(&again)?, trained(&plain)?, "{}", evaluator.slug);
    }
    Ok(())
}

#[test]
fn an_output_without_elements_is_waited_for_by_nobody() -> Result<(), Error> {
    let x = Tensor::new([0.5, 1.5]);
    let part = |x: &Tensor| [(x.exp() * x.exp()).sin(), x.slice(0, 0, 0, 1).exp()];
    let slope = |[a, b]: [Tensor; 2]| grad(&(a.exp().sum(..) + (&b * &b).sum(..)), &x).unwrap().or_zero();
    let (again, plain) = (slope(checkpoint([&x], |[x]| part(&x))), slope(part(&x)));
    for evaluator in evaluators() {
        let found = bits(&evaluator.evaluate(&[&again, &plain])?);
        assert_eq!(found[0], found[1], "{}", evaluator.slug);
    }
    Ok(())
}

/// Loss and gradients of the plain network within a number of bytes.
fn within(
    network: &Network,
    layer: fn(&Tensor, &Tensor) -> Tensor,
    device: &Device,
    budget: Option<u64>,
) -> Result<Step, Error> {
    let loss = network.loss(1, layer, &plain);
    let gradients = network.gradients(&loss);
    let outputs: Vec<&Tensor> = std::iter::once(&loss).chain(&gradients).collect();
    Step::with_options(device, &[], &outputs, &[], StepOptions { budget, ..StepOptions::default() })
}

#[test]
fn a_step_keeps_to_its_budget() -> Result<(), Error> {
    for (name, layer) in [("dense", dense as fn(&Tensor, &Tensor) -> Tensor), ("attentive", attentive)] {
        let network = Network::new(128, 32, 16);
        for device in Device::all() {
            let numbers = |step: &Step| -> Result<Vec<Vec<u64>>, Error> {
                let run = step.run(&[])?;
                Ok(bits(&(0..17).map(|i| run.read(i)).collect::<Result<Vec<_>, _>>()?))
            };
            let all = within(&network, layer, &device, None)?;
            let whole = all.memory().planned;
            let expected = numbers(&all)?;
            let mut last = products(&all);
            for percent in [100, 80, 65] {
                let budget = whole * percent / 100;
                let step = within(&network, layer, &device, Some(budget))?;
                let (memory, count) = (step.memory(), products(&step));
                assert!(memory.planned <= budget, "{name}, {percent} %: {memory}");
                // The less memory, the more is computed again, but nothing more than once.
                assert!(
                    count >= last && count <= products(&all) + 16 * products(&all) / 47 + 32,
                    "{name}: {count}"
                );
                last = count;
                let report = step.cross_check(&[])?;
                assert!(report.cases > 0, "{name}, {percent} % on {}", device.slug());
                if name == "dense" || device.info().kind == Kind::Cpu {
                    assert_eq!(numbers(&step)?, expected, "{name}, {percent} % on {}", device.slug());
                }
            }
            assert!(last > products(&all), "{name}");
            let error = within(&network, layer, &device, Some(4096)).unwrap_err();
            assert_eq!(error.code(), Code::OutOfMemory);
            assert!(error.to_string().contains("the budget of the step is 4096 bytes"), "{error}");
        }
    }
    Ok(())
}

#[test]
fn training_within_a_budget_is_the_same() -> Result<(), Error> {
    for device in Device::all() {
        let network = Network::new(128, 32, 12);
        let values = device.read_all(&network.weights.iter().collect::<Vec<_>>())?;
        let train = |budget: Option<u64>| -> Result<(u64, Vec<Vec<u64>>), Error> {
            let variables =
                values.iter().enumerate().map(|(i, value)| device.variable(&format!("w{i}"), value));
            let variables = variables.collect::<Result<Vec<_>, _>>()?;
            let weights: Vec<Tensor> = variables.iter().map(|variable| variable.tensor().clone()).collect();
            let network = Network { x: network.x.clone(), weights };
            let loss = network.loss(1, dense, &plain);
            let gradients = network.gradients(&loss);
            let moved: Vec<Tensor> =
                gradients.iter().zip(&network.weights).map(|(g, w)| w - g * 0.5).collect();
            let updates: Vec<(&Tensor, &Tensor)> = network.weights.iter().zip(&moved).collect();
            let options = StepOptions { budget, ..StepOptions::default() };
            let step = Step::with_options(&device, &[], &[&loss], &updates, options)?;
            let losses: Vec<Array> = (0..4).map(|_| step.run(&[])?.read(0)).collect::<Result<_, _>>()?;
            let weights = device.read_all(&network.weights.iter().collect::<Vec<_>>())?;
            Ok((step.memory().planned, bits(&[losses, weights].concat())))
        };
        let (whole, expected) = train(None)?;
        let (within, found) = train(Some(whole * 7 / 10))?;
        assert!(within <= whole * 7 / 10);
        assert_eq!(found, expected, "{}", device.slug());
    }
    Ok(())
}
