//! What hand-written rules, second derivatives and gradients per sample cost, beside the plain gradient.

use cotangent::{
    Activation, DType, Device, Error, Evaluate, Key, Linear, Mlp, OrError, Reduction, Reference, Step,
    Tensor, Variables, checkpoint, custom_gradient, grad, hvp, layers, losses, per_sample_gradients,
};

use super::elementwise::numbers;
use super::{Entry, Task, near, run_and_wait};

pub(super) const TASKS: &[Entry] = &[
    ("rule_sigmoid_l1_2p22", rule),
    ("mlp_gradient", |device| Problem::mlp(device)?.gradient()),
    ("mlp_hvp", |device| Problem::mlp(device)?.hvp()),
    ("mlp_per_sample_norms", |device| Problem::mlp(device)?.per_sample_norms()),
    ("deep_gradient", |device| deep(device, |layers, x| layers(x))),
    ("deep_gradient_again", |device| deep(device, |layers, x| checkpoint([x], |[x]| layers(&x)))),
    ("mlp_per_sample", |device| Problem::mlp(device)?.per_sample()),
    ("seed_gradient", |device| Problem::seed(device)?.gradient()),
    ("seed_hvp", |device| Problem::seed(device)?.hvp()),
    ("seed_per_sample", |device| Problem::seed(device)?.per_sample()),
];

/// `sigmoid_l1_2p22` with value and slope written by hand.
fn rule(device: &Device) -> Result<Task, Error> {
    let shape = [1usize << 22];
    let (prediction, target) = (numbers(device, "prediction", &shape)?, numbers(device, "target", &shape)?);
    let each = custom_gradient("sigmoid_l1", [&prediction, &target], |[p, t]| {
        let difference = &p - &t;
        let size = difference.abs();
        let value = &size * size.sigmoid();
        let slope = move |upstream: Tensor| {
            let sigmoid = size.sigmoid();
            let along = upstream * difference.sign() * &sigmoid * (1.0 + &size * (-&size).sigmoid());
            (along.clone(), -along)
        };
        (value, slope)
    });
    let loss = each.mean(..);
    let gradient = grad(&loss, &prediction)?.or_error()?;
    let plain = losses::sigmoid_l1(&prediction, &target, Reduction::Mean);
    let expected = grad(&plain, &prediction)?.or_error()?;
    let slopes = device.variable("gradient", &Tensor::zeros(shape))?;
    let step = Step::new(device, &[], &[&loss], &[(slopes.tensor(), &gradient)])?;
    let found = step.run(&[])?.scalar(0)?;
    let values = device.read_all(&[slopes.tensor(), &expected, &plain])?;
    let pairs = values[0].to_f64().into_iter().zip(values[1].to_f64());
    let scale = 1.0 / shape[0] as f64;
    let checked = near(found, values[2].scalar()?, 0.0, 1024.0)
        && pairs.into_iter().all(|(a, b)| near(a, b, scale, 64.0));
    let count = shape[0] as f64;
    Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes: 12.0 * count, flops: 10.0 * count })
}

/// How some layers are taken together.
type Taken = fn(&dyn Fn(&Tensor) -> Tensor, &Tensor) -> Tensor;

/// The gradient of 16 layers of 512 units on 256 rows, four layers of which are taken together.
fn deep(device: &Device, taken: Taken) -> Result<Task, Error> {
    let mut problem = Problem::new(device, &[512; 17], 256)?;
    let views = problem.parameters.views();
    let layer = |x: Tensor, of: &[Tensor]| Linear::new(512, 512).forward(&of[0], &of[1], &x).tanh();
    let block = |x: Tensor, of: &[Tensor]| taken(&|x| of.chunks(2).fold(x.clone(), layer), &x);
    let y = views.chunks(8).fold(problem.x.clone(), block);
    problem.loss = (&y * &y).mean(..);
    problem.gradient()
}

/// A network with its mean loss.
struct Problem {
    device: Device,
    parameters: Variables,
    network: Mlp,
    /// Directions of products.
    directions: Vec<Tensor>,
    x: Tensor,
    target: Tensor,
    loss: Tensor,
    flops: f64,
}

impl Problem {
    /// 784-512-512-10 on 256 rows.
    fn mlp(device: &Device) -> Result<Problem, Error> {
        Problem::new(device, &[784, 512, 512, 10], 256)
    }
    /// 1-30-20-1 on 400 rows.
    fn seed(device: &Device) -> Result<Problem, Error> {
        Problem::new(device, &[1, 30, 20, 1], 400)
    }
    fn new(device: &Device, widths: &[usize], batch: usize) -> Result<Problem, Error> {
        // Smooth, so that second derivatives are no zeros.
        let network = Mlp::new(widths, Activation::Tanh);
        let parameters = device.variables(&layers::named(&network.parameters(Key::new(3))?))?;
        let x = numbers(device, "x", &[batch, widths[0]])?;
        let outputs = widths[widths.len() - 1];
        let uniform = Tensor::uniform(Key::new(4), 0u32, [batch]);
        let target = if outputs > 1 { (uniform * outputs as f64).cast(DType::I32) } else { uniform };
        let target = device.materialize(&[&target])?.remove(0);
        let loss = of(&network, &parameters, &x, &target).mean(..);
        let products: usize = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let flops = (6 * products - 2 * widths[0] * widths[1]) as f64 * batch as f64;
        Ok(Problem {
            device: device.clone(),
            parameters,
            network,
            directions: Vec::new(),
            x,
            target,
            loss,
            flops,
        })
    }
    fn gradient(self) -> Result<Task, Error> {
        let gradients = grad(&self.loss, &self.parameters.views())?.or_error()?;
        let flops = self.flops;
        self.task(gradients, flops)
    }
    /// The product of the Hessian with the gradient's own direction.
    fn hvp(mut self) -> Result<Task, Error> {
        let views = self.parameters.views();
        for view in &views {
            self.directions.push(numbers(&self.device, "direction", &view.shape()[..])?);
        }
        let products = hvp(&self.loss, &views, &self.directions)?;
        let flops = 2.0 * self.flops;
        self.task(products, flops)
    }
    fn per_sample(self) -> Result<Task, Error> {
        let (gradients, flops) = (self.of_samples()?, self.flops);
        self.task(gradients, flops)
    }
    fn of_samples(&self) -> Result<Vec<Tensor>, Error> {
        let (network, parameters) = (&self.network, &self.parameters);
        let (x, target) = (self.x.unsqueeze(1), self.target.unsqueeze(1));
        per_sample_gradients([&x, &target], &parameters.views(), |[x, target]| {
            of(network, parameters, &x, &target).sum(..)
        })
    }
    /// The norm of the gradient of each example, as clipping needs it.
    fn per_sample_norms(self) -> Result<Task, Error> {
        let squares = |gradient: Tensor| {
            let axes: Vec<isize> = (1..).take(gradient.shape().rank() - 1).collect();
            (&gradient * &gradient).sum(axes)
        };
        let all = self.of_samples()?.into_iter().map(squares).reduce(|a, b| a + b);
        let (norms, flops) = (all.map(|all| all.sqrt()).into_iter().collect(), self.flops);
        self.task(norms, flops)
    }
    /// A step that computes these and keeps them on the device.
    fn task(self, results: Vec<Tensor>, flops: f64) -> Result<Task, Error> {
        let kept: Vec<_> = results
            .iter()
            .map(|result| self.device.variable("result", &Tensor::zeros(result.shape())))
            .collect::<Result<_, _>>()?;
        let updates: Vec<(&Tensor, &Tensor)> = kept.iter().map(|k| k.tensor()).zip(&results).collect();
        let step = Step::new(&self.device, &[], &[&self.loss], &updates)?;
        step.run(&[])?.wait()?;
        let checked = self.check(&results, &kept.iter().map(|k| k.tensor()).collect::<Vec<_>>())?;
        let elements: usize = results.iter().map(|result| result.shape().elements()).sum();
        let bytes = 8.0 * elements as f64;
        Ok(Task { step, run: run_and_wait(), steps: 1, checked, bytes, flops })
    }
    /// Whether what is kept is what the reference computes of the values that the device has.
    fn check(&self, results: &[Tensor], kept: &[&Tensor]) -> Result<bool, Error> {
        let flat = self.parameters.flat().tensor();
        let mut reference = Reference::new();
        let known: Vec<&Tensor> = [flat, &self.x, &self.target].into_iter().chain(&self.directions).collect();
        for (tensor, value) in known.iter().zip(self.device.read_all(&known)?) {
            reference = reference.bind(tensor, value)?;
        }
        let exact = reference.evaluate(&results.iter().collect::<Vec<_>>())?;
        let found = self.device.read_all(kept)?;
        let agrees = |(found, exact): (&cotangent::Array, &cotangent::Array)| {
            let (found, exact) = (found.to_f64(), exact.to_f64());
            let size = exact.iter().fold(0f64, |m, v| m.max(v.abs()));
            found.iter().zip(&exact).all(|(a, b)| near(*a, *b, size, 1024.0))
        };
        Ok(found.iter().zip(&exact).all(agrees))
    }
}

/// The loss of each row.
fn of(network: &Mlp, parameters: &Variables, x: &Tensor, target: &Tensor) -> Tensor {
    let eta = network.forward(&parameters.views(), x);
    if target.dtype().is_float() {
        let difference = eta.squeeze(-1) - target;
        &difference * &difference * 0.5
    } else {
        eta.cross_entropy(target)
    }
}
