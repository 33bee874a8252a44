//! Runs a case on an evaluator and judges what it found.

use crate::common::{Array, Code, Error, Evaluate, Evaluator, Gradient, Reference, State, Tensor, bounds};
use crate::judge::{Judge, Number, judge, numbers};

/// One conformance case.
pub struct Case {
    /// The stable label of CONFORMANCE and a name.
    pub label: &'static str,
    /// Where the numbers come from.
    pub origin: &'static str,
    /// Builds graphs and says what is expected of them.
    pub program: fn(&Evaluator, &mut Findings) -> Result<(), Error>,
}

/// What a case found, beside what is expected.
#[derive(Default)]
pub struct Findings {
    items: Vec<(String, Finding)>,
}

enum Finding {
    /// A tensor that is computed by the evaluator, and its elements.
    Value(Tensor, Vec<Number>),
    /// Two tensors with the same value.
    Same(Tensor, Tensor),
    /// Numbers that were computed already.
    Known(Vec<f64>, Vec<Number>),
    /// An error, and its code and parts of its text.
    Error(Option<Error>, Code, &'static [&'static str]),
    /// Anything that is compared as text.
    Text(String, String),
}

impl Findings {
    /// The elements of `tensor`, in row-major order, are those of `literal`.
    pub fn value(&mut self, name: &str, tensor: &Tensor, literal: &str) {
        self.items.push((name.to_owned(), Finding::Value(tensor.clone(), numbers(literal))));
    }
    /// The value of a gradient, which must exist.
    pub fn gradient(&mut self, name: &str, gradient: &Gradient, literal: &str) -> Result<(), Error> {
        self.value(name, &gradient.or_error()?, literal);
        Ok(())
    }
    /// Both graphs mean the same.
    pub fn same(&mut self, name: &str, a: &Tensor, b: &Tensor) {
        self.items.push((name.to_owned(), Finding::Same(a.clone(), b.clone())));
    }
    /// Numbers read by the case itself.
    pub fn known(&mut self, name: &str, got: &[Array], expected: Vec<Number>) {
        let got = got.iter().flat_map(Array::to_f64).collect();
        self.items.push((name.to_owned(), Finding::Known(got, expected)));
    }
    /// An error with this code whose text contains all of `parts`.
    pub fn error<T>(
        &mut self,
        name: &str,
        got: Result<T, Error>,
        code: Code,
        parts: &'static [&'static str],
    ) {
        self.items.push((name.to_owned(), Finding::Error(got.err(), code, parts)));
    }
    /// An invalid tensor, whose error also comes back from the evaluator.
    pub fn invalid(
        &mut self,
        evaluator: &Evaluator,
        got: &Tensor,
        code: Code,
        parts: &'static [&'static str],
    ) {
        self.error("the tensor", got.node(), code, parts);
        self.error("the read", evaluator.evaluate(&[got]), code, parts);
    }
    /// The state of a gradient: `Value`, `Zero`, `Unconnected`, `Stopped by …`, `NotDifferentiable at …`.
    pub fn state(&mut self, name: &str, gradient: &Gradient, expected: &str) {
        let got = match gradient.state() {
            State::Value(_) => "Value".to_owned(),
            State::Zero => "Zero".to_owned(),
            State::Unconnected => "Unconnected".to_owned(),
            State::Stopped { by } => format!("Stopped by {by}"),
            State::NotDifferentiable { op } => format!("NotDifferentiable at {op}"),
        };
        self.text(name, got, expected);
    }
    /// Equal texts.
    pub fn text(&mut self, name: &str, got: impl ToString, expected: impl ToString) {
        self.items.push((name.to_owned(), Finding::Text(got.to_string(), expected.to_string())));
    }
}

/// What was compared.
#[derive(Default)]
pub struct Report {
    /// Comparisons made.
    pub compared: usize,
    /// Comparisons that failed.
    pub failures: Vec<String>,
    /// Comparisons that could not fail although their expectation was wrong.
    pub toothless: Vec<String>,
}

/// Runs `case`; with `perturb` also compares with wrong expectations, which must not be met.
pub fn run(case: &Case, evaluator: &Evaluator, perturb: bool) -> Result<Report, Error> {
    let mut findings = Findings::default();
    (case.program)(evaluator, &mut findings)?;
    let mut report = Report::default();
    let values = Values::read(evaluator, &findings)?;
    let mut place = 0;
    for (name, finding) in &findings.items {
        let mut compare = |what: &dyn Fn(bool) -> Result<(), String>| {
            report.compared += 1;
            if let Err(text) = what(false) {
                report.failures.push(format!("{name}: {text}"));
            }
            if perturb && what(true).is_ok() {
                report.toothless.push(name.clone());
            }
        };
        match finding {
            Finding::Value(_, expected) => {
                let (got, by) = values.of(place);
                place += 1;
                compare(&|wrong| fits(got.len(), expected.len() + usize::from(wrong)));
                for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
                    compare(&|wrong| judge(by, i, got, expected, wrong));
                }
            }
            Finding::Same(..) => {
                let ((a, by_a), (b, by_b)) = (values.of(place), values.of(place + 1));
                place += 2;
                compare(&|wrong| fits(a.len(), b.len() + usize::from(wrong)));
                // Both are compared with what the reference makes of the first graph on exact leaves.
                let expected: Vec<f64> = match by_a {
                    Judge::Bound { unrounded, .. } => unrounded.to_vec(),
                    Judge::Digits => a.clone(),
                };
                for (i, &value) in expected.iter().enumerate() {
                    compare(&|wrong| judge(by_a, i, a[i], Number::exact(value), wrong));
                    compare(&|wrong| judge(by_b, i, b[i], Number::exact(value), wrong));
                }
            }
            Finding::Known(got, expected) => {
                compare(&|wrong| fits(got.len(), expected.len() + usize::from(wrong)));
                for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
                    compare(&|wrong| judge(Judge::Digits, i, got, expected, wrong));
                }
            }
            Finding::Error(got, code, parts) => {
                compare(&|wrong| error_is(got.as_ref(), if wrong { Code::Internal } else { *code }, &[]));
                for part in *parts {
                    let other = format!("{part}?");
                    compare(&|wrong| error_is(got.as_ref(), *code, &[if wrong { &other } else { part }]));
                }
            }
            Finding::Text(got, expected) => compare(&|wrong| {
                let expected = if wrong { format!("not {expected}") } else { expected.clone() };
                if *got == expected { Ok(()) } else { Err(format!("{got:?}, expected {expected:?}")) }
            }),
        }
    }
    Ok(report)
}

fn fits(got: usize, expected: usize) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{got} elements, expected {expected}")) }
}

fn error_is(got: Option<&Error>, code: Code, parts: &[&str]) -> Result<(), String> {
    let Some(error) = got else { return Err(format!("no error, expected {code}")) };
    let text = error.to_string();
    match error.code() == code && parts.iter().all(|part| text.contains(part)) {
        true => Ok(()),
        false => Err(format!("{text}\nexpected {code} with {parts:?}")),
    }
}

/// Everything a case wants computed, in one evaluation.
struct Values {
    got: Vec<Vec<f64>>,
    /// Bounds and values on exact leaves; none for the reference.
    bounds: Option<(Vec<crate::common::Bounded>, Vec<Vec<f64>>)>,
}

impl Values {
    fn read(evaluator: &Evaluator, findings: &Findings) -> Result<Values, Error> {
        let mut tensors = Vec::new();
        for (name, finding) in &findings.items {
            let named =
                |tensor: &Tensor| tensor.error().map(|error| error.clone().within(format!("in `{name}`")));
            match finding {
                Finding::Value(tensor, _) => tensors.push((tensor, named(tensor))),
                Finding::Same(a, b) => tensors.extend([(a, named(a)), (b, named(b))]),
                Finding::Known(..) | Finding::Error(..) | Finding::Text(..) => {}
            }
        }
        if let Some(error) = tensors.iter().find_map(|(_, error)| error.clone()) {
            return Err(error);
        }
        let tensors: Vec<&Tensor> = tensors.into_iter().map(|(tensor, _)| tensor).collect();
        if tensors.is_empty() {
            return Ok(Values { got: Vec::new(), bounds: None });
        }
        let floats = |arrays: Vec<Array>| arrays.iter().map(Array::to_f64).collect::<Vec<_>>();
        let got = floats(evaluator.evaluate(&tensors)?);
        let bounds = if evaluator.is_reference() {
            None
        } else {
            Some((bounds(&tensors, &evaluator.arithmetic())?, floats(Reference::new().evaluate(&tensors)?)))
        };
        Ok(Values { got, bounds })
    }
    fn of(&self, place: usize) -> (&Vec<f64>, Judge<'_>) {
        let judge = match &self.bounds {
            None => Judge::Digits,
            Some((bounded, unrounded)) => {
                Judge::Bound { bounded: &bounded[place], unrounded: &unrounded[place] }
            }
        };
        (&self.got[place], judge)
    }
}
