//! The cotangent command line: fit models, check and measure devices, without a screen.
//!
//! With `--json`, standard output holds exactly one JSON document (for `bench` one per line) and nothing else; messages and
//! progress go to standard error. The exit status is 0 only on success.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod fit;
mod grad;
mod info;
mod plot;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cotangent::{Code, Device, Error};

/// Custom losses and custom gradients on any GPU.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fit a generalized linear model, or a network with --hidden, to a CSV file
    Fit(Box<fit::Arguments>),
    /// Value and derivatives of a function written in WGSL, on the f64 reference and on a device
    Grad(grad::Arguments),
    /// Cross-check every operation and loss on this machine against the f64 reference
    Check(check::Arguments),
    /// Measure this machine, without a screen; one line per task
    Bench(bench::Arguments),
    /// Show adapters, features, limits, what the probe saw, and which device `best` takes
    Info(info::Arguments),
}

/// The device of a command.
#[derive(Debug, clap::Args)]
struct DeviceArgument {
    /// best, cpu, gpu, gpu:N or software
    #[arg(long, default_value = "best", value_name = "DEVICE")]
    device: String,
}

impl DeviceArgument {
    /// Opens it; says on standard error what `best` chose and why.
    fn open(&self) -> Result<Device, Error> {
        let device = Device::parse(&self.device)?;
        if self.device == "best" {
            eprintln!("device: {} ({})", device.name(), device.why());
        }
        Ok(device)
    }
}

/// What a command did not succeed in.
enum Failure {
    /// To be told on standard error.
    Error(Error),
    /// Said already, in the report.
    Reported,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Fit(arguments) => fit::run(&arguments).map_err(Failure::from),
        Command::Grad(arguments) => grad::run(&arguments).map_err(Failure::from),
        Command::Check(arguments) => check::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Info(arguments) => info::run(&arguments).map_err(Failure::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Reported) => ExitCode::FAILURE,
        Err(Failure::Error(error)) => {
            // The lines of this program help nobody but its authors.
            let error = if error.code() == Code::Internal { error } else { error.without_location() };
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
