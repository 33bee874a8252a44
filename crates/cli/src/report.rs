//! Standard output: JSON documents, and text for people.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use cotangent::{Code, Error};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Number, Value};

/// A number; JSON has no NaN and no infinity, they are the strings `nan`, `inf` and `-inf`.
pub(crate) fn number(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "nan".into(),
        None if value > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

/// A list of numbers.
pub(crate) fn numbers(values: &[f64]) -> Value {
    values.iter().map(|&value| number(value)).collect()
}

/// One line on standard output. A closed pipe is an error like any other: whoever reads has gone.
pub(crate) fn line(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|cause| Error::new(Code::File, "standard output", format!("cannot be written: {cause}")))
}

/// A bar on standard error, where that is a terminal; nothing elsewhere.
pub(crate) fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
