//! `cotangent bench`: what this machine does, against its own measured roofs.
//!
//! A task is compared with a computation in f64 before anything is timed. Synchronization is inside the timed region; a task
//! runs at least five times. Inputs are random numbers that the device makes itself. `first_gradient` is cold: every run is a new
//! process, measured from its start (caches of the driver on disk are what they are).

mod derivatives;
mod elementwise;
mod families;
mod matrix;
mod training;

use std::time::{Duration, Instant};

use cotangent::{Device, Error, Step};
use serde_json::json;

use crate::{DeviceArgument, Failure, report};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    device: DeviceArgument,
    /// Only tasks whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Time every kernel of a task for itself; goes to standard error
    #[arg(long)]
    profile: bool,
    /// Compute one gradient, say so, and end: what the task `first_gradient` starts
    #[arg(long, hide = true)]
    first_gradient: bool,
    /// One JSON document per line on standard output
    #[arg(long)]
    json: bool,
}

/// A task, ready to run.
pub(crate) struct Task {
    step: Step,
    /// How the step is run.
    run: Run,
    /// Steps per run.
    steps: usize,
    /// Whether the outputs agree with f64.
    checked: bool,
    /// Of one run.
    bytes: f64,
    flops: f64,
}

/// Runs a task once and waits.
type Run = Box<dyn Fn(&Step) -> Result<(), Error>>;

/// Runs a step without inputs.
fn run_and_wait() -> Run {
    Box::new(|step| step.run(&[]).map(|_| ()))
}

impl Task {
    fn dispatches(&self) -> usize {
        self.steps * self.step.dispatches()
    }
    fn submits(&self) -> usize {
        self.steps * self.step.submits()
    }
}

/// A name and what makes the task.
pub(crate) type Entry = (&'static str, fn(&Device) -> Result<Task, Error>);

/// What makes a task.
pub(crate) type Make = Box<dyn Fn(&Device) -> Result<Task, Error>>;

/// How long a task is repeated, and how often at least and at most.
const BUDGET: Duration = Duration::from_secs(2);
const ROUNDS: std::ops::RangeInclusive<usize> = 5..=200;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.device.open()?;
    if arguments.first_gradient {
        return Ok(training::first_gradient_here(&device)?);
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let entries = [elementwise::TASKS, matrix::TASKS, training::TASKS, derivatives::TASKS].concat();
    let named = entries.into_iter().map(|(name, make)| (name.to_owned(), Box::new(make) as Make));
    let entries: Vec<(String, Make)> =
        named.chain(families::tasks()).filter(|(name, _)| name.contains(filter)).collect();
    if entries.is_empty() {
        let error = Error::new(cotangent::Code::Unbound, "bench", format!("no task is called `{filter}`"));
        return Err(error.into());
    }
    // Roofs first, before tasks warm anything up.
    let roof = device.roof()?;
    eprintln!("roof: {:.1} GB/s, {:.1} GFLOP/s", 1e-9 * roof.bytes_per_second, 1e-9 * roof.flops_per_second);
    let mut all_right = true;
    for (name, make) in entries {
        let measured = make(&device).and_then(|mut task| {
            if name == "first_gradient" {
                let device = arguments.device.device.clone();
                task.run = Box::new(move |_| training::in_new_process(&device));
            }
            Ok((measure(&task)?, task))
        });
        match measured {
            Ok((seconds, task)) => {
                all_right &= task.checked;
                say(arguments, &device, &name, &task, seconds)?;
                if arguments.profile {
                    eprintln!("{}\n{}\n", task.step.explain(), task.step.profile(&[])?);
                }
            }
            Err(error) => {
                all_right = false;
                eprintln!("{name}: {error}");
            }
        }
    }
    if all_right { Ok(()) } else { Err(Failure::Reported) }
}

/// Median and minimum.
fn measure(task: &Task) -> Result<(f64, f64), Error> {
    (task.run)(&task.step)?;
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < *ROUNDS.start() || (start.elapsed() < BUDGET && seconds.len() < *ROUNDS.end()) {
        let round = Instant::now();
        (task.run)(&task.step)?;
        seconds.push(round.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[seconds.len() / 2], seconds[0]))
}

fn say(
    arguments: &Arguments,
    device: &Device,
    name: &str,
    task: &Task,
    (median, minimum): (f64, f64),
) -> Result<(), Error> {
    let roof = device.roof()?;
    let least = (task.bytes / roof.bytes_per_second).max(task.flops / roof.flops_per_second);
    let percent = 100.0 * least / median;
    let (bandwidth, rate) = (1e-9 * task.bytes / median, 1e-9 * task.flops / median);
    if arguments.json {
        let document = json!({
            "task": name,
            "device": device.name(),
            "median_seconds": report::number(median),
            "min_seconds": report::number(minimum),
            "gigabytes_per_second": report::number(bandwidth),
            "gigaflops": report::number(rate),
            "percent_of_roof": report::number(percent),
            "checked": task.checked,
            "dispatches": task.dispatches(),
            "submits": task.submits(),
            "adapter": device.info().adapter,
            "driver": device.info().driver,
            "threads": device.info().threads,
        });
        return report::line(&document.to_string());
    }
    report::line(&format!(
        "{name:24} {percent:6.1} % of roof  {:11.3} ms  min {:11.3} ms  {bandwidth:8.2} GB/s  {rate:9.2} GFLOP/s  \
         {:3} dispatches  {}",
        1e3 * median,
        1e3 * minimum,
        task.dispatches(),
        if task.checked { "checked" } else { "WRONG" },
    ))
}

/// Whether a device result is within f32 rounding of `terms` added terms.
pub(crate) fn near(found: f64, expected: f64, size: f64, terms: f64) -> bool {
    let unit = f64::from(f32::EPSILON);
    (found - expected).abs() <= unit * (32.0 + terms.sqrt()) * size.max(expected.abs())
}
