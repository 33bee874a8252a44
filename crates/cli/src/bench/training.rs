//! Whole training steps: many small kernels, where launches count.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use cotangent::{
    Activation, Adam, Check, Code, DType, Device, Error, Evaluate, Family, Key, Mlp, Optimizer, OrError,
    Reduction, Reference, Sgd, Step, StepOptions, Tensor, Variables, Watch, layers, vjp,
};

use super::elementwise::numbers;
use super::{Entry, Task, near};
use crate::report;

pub(super) const TASKS: &[Entry] = &[
    ("seed_sgd", seed_sgd),
    ("mlp_adam", mlp_adam),
    ("mlp_adam_anomaly", mlp_adam_anomaly),
    ("first_gradient", first_gradient),
    ("loss_readback", loss_readback),
];

/// A network whose training starts at η with `(mean − target)/n`, and the loss that goes with it.
struct Training {
    parameters: Variables,
    data: Vec<Tensor>,
    loss: Tensor,
    gradients: Vec<Tensor>,
    flops: f64,
    bytes: f64,
}

impl Training {
    fn new(device: &Device, widths: &[usize], batch: usize, family: &Family) -> Result<Training, Error> {
        let network = Mlp::new(widths, Activation::Relu);
        let parameters = device.variables(&layers::named(&network.parameters(Key::new(3))?))?;
        let (inputs, outputs) = (widths[0], widths[widths.len() - 1]);
        let x = numbers(device, "x", &[batch, inputs])?;
        let uniform = Tensor::uniform(Key::new(4), 0u32, [batch]);
        let target =
            if family.is_categorical() { (uniform * outputs as f64).cast(DType::I32) } else { uniform };
        let target = device.materialize(&[&target])?.remove(0);
        let views = parameters.views();
        let eta = network.forward(&views, &x);
        let eta = if family.is_categorical() { eta } else { eta.squeeze(-1) };
        let upstream = family.residual(&eta, &target) * (1.0 / batch as f64);
        let gradients = vjp(&[(&eta, &upstream)], &views)?.or_error()?;
        let products: usize = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
        Ok(Training {
            loss: family.nll(&eta, &target, Reduction::Mean),
            gradients,
            // Forward, and two products backward (one for the first layer).
            flops: (6 * products - 2 * widths[0] * widths[1]) as f64 * batch as f64,
            bytes: 4.0 * 7.0 * parameters.flat().shape().elements() as f64,
            data: vec![x, target],
            parameters,
        })
    }
    /// Loss and gradient against the reference, on the values that the device has.
    fn check(&self, device: &Device) -> Result<bool, Error> {
        let flat = self.parameters.flat().tensor();
        let mut known: Vec<&Tensor> = self.data.iter().collect();
        known.push(flat);
        let mut reference = Reference::new();
        for (tensor, value) in known.iter().zip(device.read_all(&known)?) {
            reference = reference.bind(tensor, value)?;
        }
        let gradient = self.gradient();
        let wanted = [&self.loss, &gradient];
        let (found, exact) = (device.read_all(&wanted)?, reference.evaluate(&wanted)?);
        let (found_gradient, exact_gradient) = (found[1].to_f64(), exact[1].to_f64());
        let size = exact_gradient.iter().fold(0f64, |m, g| m.max(g.abs()));
        let gradients = found_gradient.iter().zip(&exact_gradient).all(|(a, b)| near(*a, *b, size, 1024.0));
        Ok(gradients && near(found[0].scalar()?, exact[0].scalar()?, 0.0, 1024.0))
    }
    /// All gradients in one tensor.
    fn gradient(&self) -> Tensor {
        self.parameters.flatten(&self.gradients)
    }
    /// The whole step; outputs the loss.
    fn step(&self, device: &Device, optimizer: &dyn Optimizer, options: StepOptions) -> Result<Step, Error> {
        let updates = optimizer.attach(device, &self.parameters)?.updates(&self.gradients)?;
        Step::with_options(device, &[], &[&self.loss], &updates.pairs(), options)
    }
}

fn seed(device: &Device) -> Result<Training, Error> {
    Training::new(device, &[1, 30, 20, 1], 400, &Family::gaussian())
}

fn digits(device: &Device) -> Result<Training, Error> {
    Training::new(device, &[784, 512, 512, 10], 256, &Family::categorical())
}

fn task(training: &Training, checked: bool, step: Step) -> Task {
    let run = |step: &Step| step.run(&[])?.scalar(0).map(|_| ());
    Task { step, run: Box::new(run), steps: 1, checked, bytes: training.bytes, flops: training.flops }
}

fn seed_sgd(device: &Device) -> Result<Task, Error> {
    let training = seed(device)?;
    let checked = training.check(device)?;
    let step = training.step(device, &Sgd::new(1e-3), StepOptions::default())?;
    Ok(task(&training, checked, step))
}

fn mlp_adam(device: &Device) -> Result<Task, Error> {
    let training = digits(device)?;
    let checked = training.check(device)?;
    let step = training.step(device, &Adam::default(), StepOptions::default())?;
    Ok(task(&training, checked, step))
}

/// The same step in anomaly mode.
fn mlp_adam_anomaly(device: &Device) -> Result<Task, Error> {
    let training = digits(device)?;
    let checked = training.check(device)?;
    let options = StepOptions { check: Check::Anomaly(Watch::NotFinite), ..StepOptions::default() };
    let step = training.step(device, &Adam::default(), options)?;
    Ok(task(&training, checked, step))
}

/// From nothing to the first gradient. The whole of it happens in a new process: see [`in_new_process`].
fn first_gradient(device: &Device) -> Result<Task, Error> {
    let training = digits(device)?;
    let checked = training.check(device)?;
    let step = Step::new(device, &[], &[&training.loss, &training.gradient()], &[])?;
    Ok(task(&training, checked, step))
}

/// What the new process does: a device, graph, plan, kernels, one run, and the gradient on the host. One line says so.
pub(super) fn first_gradient_here(device: &Device) -> Result<(), Error> {
    let training = digits(device)?;
    let values = device.read_all(&[&training.loss, &training.gradient()])?;
    report::line(&format!("loss {}, {} slopes", values[0].scalar()?, values[1].shape().elements()))
}

/// Starts this program again on a device; returns when it has said that the gradient is there.
pub(super) fn in_new_process(device: &str) -> Result<(), Error> {
    let failed = |what: String| Error::new(Code::Internal, "first_gradient", what);
    let program =
        std::env::current_exe().map_err(|cause| failed(format!("no path to this program: {cause}")))?;
    let mut child = Command::new(program)
        .args(["bench", "--first-gradient", "--device", device])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|cause| failed(format!("a new process cannot be started: {cause}")))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(|cause| failed(cause.to_string()))?;
    }
    if line.starts_with("loss ") {
        // What it does to end is not measured. Killing fails if it has ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        return Ok(());
    }
    let status = child.wait().map_err(|cause| failed(cause.to_string()))?;
    Err(failed(format!("the new process ended with {status} and said {line:?}")))
}

/// A hundred small steps whose losses are read one step late.
fn loss_readback(device: &Device) -> Result<Task, Error> {
    const STEPS: usize = 100;
    let training = seed(device)?;
    let checked = training.check(device)?;
    let step = training.step(device, &Sgd::new(1e-3), StepOptions::default())?;
    let mut task = task(&training, checked, step);
    let steps = STEPS as f64;
    (task.bytes, task.flops, task.steps) = (task.bytes * steps, task.flops * steps, STEPS);
    task.run = Box::new(|step| {
        let mut pending = step.launch(&[])?;
        for _ in 1..STEPS {
            let next = step.launch(&[])?;
            std::mem::replace(&mut pending, next).scalar(0)?;
        }
        pending.scalar(0).map(|_| ())
    });
    Ok(task)
}
