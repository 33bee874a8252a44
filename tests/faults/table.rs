//! The form of the table, and what runs it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::{Array, Code, Error, Evaluate, Evaluator, Tensor};

/// One case.
pub struct Row {
    /// Its number.
    pub id: usize,
    /// What is done.
    pub input: &'static str,
    /// What happens, input by input.
    pub tries: &'static [Try],
}

/// Computes something, or fails to.
pub type Run = fn(&Evaluator) -> Result<Vec<Array>, Error>;

/// One input of a case and what is expected of it, on the reference and every device.
pub enum Try {
    /// The error has this code, and its text contains these parts.
    Fails(&'static str, Run, Code, &'static [&'static str]),
    /// The error reads like this; `LINE` stands for line and column.
    Says(Run, &'static str),
    /// The values are these, exactly; NaN is NaN, and 0 is −0.
    Gives(&'static str, Run, &'static [f64]),
    /// As [`Try::Gives`], and 0 is not −0.
    Copies(&'static str, Run, &'static [f64]),
    /// Anything else.
    Holds(&'static str, fn(&Evaluator) -> Result<(), String>),
}

/// What became of a table.
#[derive(Default)]
pub struct Summary {
    /// Inputs tried.
    pub tried: usize,
    /// Case and what went wrong.
    pub failures: Vec<String>,
}

/// Evaluates tensors.
pub fn read(evaluator: &Evaluator, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
    evaluator.evaluate(tensors)
}

/// Runs all rows on an evaluator; after each input a good kernel.
pub fn run(rows: &[&Row], evaluator: &Evaluator) -> Summary {
    let mut summary = Summary::default();
    for row in rows {
        for attempt in row.tries {
            summary.tried += 1;
            let place = format!("case {} ({}) on {}", row.id, row.input, evaluator.slug);
            match catch_unwind(AssertUnwindSafe(|| judge(attempt, evaluator))) {
                Err(_) => summary.failures.push(format!("{place}: panicked")),
                Ok(Err(text)) => summary.failures.push(format!("{place}: {text}")),
                Ok(Ok(())) => {}
            }
            match catch_unwind(AssertUnwindSafe(|| good_kernel(evaluator))) {
                Ok(Ok(())) => {}
                Ok(Err(text)) => {
                    summary.failures.push(format!("{place}: afterwards a good kernel fails: {text}"))
                }
                Err(_) => summary.failures.push(format!("{place}: afterwards a good kernel panics")),
            }
        }
    }
    summary
}

fn judge(attempt: &Try, evaluator: &Evaluator) -> Result<(), String> {
    match attempt {
        Try::Fails(what, run, code, parts) => match run(evaluator) {
            Ok(arrays) => Err(format!("{what}: no error but {arrays:?}")),
            Err(error) => {
                let text = error.to_string();
                let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
                match error.code() == *code && missing.is_empty() {
                    true => Ok(()),
                    false => Err(format!("{what}: expected {code}, with {missing:?} in\n{text}")),
                }
            }
        },
        Try::Says(run, expected) => {
            let got =
                run(evaluator).err().map(|error| without_numbers(&error.to_string())).unwrap_or_default();
            if got == *expected { Ok(()) } else { Err(format!("the text is\n{got}\nexpected\n{expected}")) }
        }
        Try::Gives(what, run, expected) | Try::Copies(what, run, expected) => {
            let signed = matches!(attempt, Try::Copies(..));
            let arrays = run(evaluator).map_err(|error| format!("{what}: {error}"))?;
            let got: Vec<f64> = arrays.iter().flat_map(Array::to_f64).collect();
            let same = |(a, b): (&f64, &f64)| {
                a.is_nan() && b.is_nan()
                    || a == b && (!signed || a.is_sign_negative() == b.is_sign_negative())
            };
            let equal = got.len() == expected.len() && got.iter().zip(*expected).all(same);
            if equal { Ok(()) } else { Err(format!("{what}: {got:?}, expected {expected:?}")) }
        }
        Try::Holds(what, check) => check(evaluator).map_err(|text| format!("{what}: {text}")),
    }
}

/// `file.rs:12:34` becomes `file.rs:LINE`.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(".rs:");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(".rs:LINE");
        result.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':'));
    }
    result
}

/// Elementwise work, a product of matrices and a sum, exact in f32.
fn good_kernel(evaluator: &Evaluator) -> Result<(), String> {
    let a = Tensor::new([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let b = (&a * 2.0 - 1.0).transpose();
    let product = a.matmul(&b);
    let arrays = evaluator.evaluate(&[&product, &product.sum(..)]).map_err(|error| error.to_string())?;
    let got: Vec<f64> = arrays.iter().flat_map(Array::to_f64).collect();
    if got == [22.0, 58.0, 49.0, 139.0, 268.0] { Ok(()) } else { Err(format!("{got:?}")) }
}
