//! Shorthands for tests of `gradcheck`.

use cotangent_autograd::check::Report;
use cotangent_autograd::{Inputs, Outputs, custom_gradient, gradcheck};
use cotangent_tensor::{Array, Code, Detail, Error, Evaluate, Reference, Tensor};

/// A rule of one input.
pub(crate) fn rule(
    name: &'static str,
    forward: impl Fn(&Tensor) -> Tensor + Copy + 'static,
    backward: impl Fn(&Tensor, &Tensor) -> Tensor + Copy + 'static,
) -> impl Fn([Tensor; 1]) -> Tensor {
    move |[x]| custom_gradient(name, [&x], |[x]| (forward(&x), move |g: Tensor| backward(&x, &g)))
}

pub(crate) fn check<I: Inputs, O: Outputs>(function: impl Fn(I::Traced) -> O, inputs: I) -> Report {
    gradcheck(function, inputs, &Reference::new()).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
pub(crate) fn passes(report: &Report) {
    assert!(report.is_ok(), "{report}");
    assert!(report.compared.total() > 0, "{report}");
}

/// The one finding.
#[track_caller]
pub(crate) fn finds(report: Report, code: Code) -> Error {
    assert_eq!(report.findings.len(), 1, "{report}");
    let error = report.into_result().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error
}

pub(crate) fn number(error: &Error, name: &str) -> f64 {
    let detail = error.details().iter().find(|(known, _)| *known == name).map(|(_, detail)| detail);
    match detail {
        Some(Detail::Number(number)) => *number,
        Some(Detail::Integer(number)) => *number as f64,
        other => panic!("{name}: {other:?} in {error}"),
    }
}

/// The reference as a device of single precision would be, with one element off by a factor.
pub(crate) struct Single(pub(crate) f64);

impl Evaluate for Single {
    fn name(&self) -> String {
        "single".to_string()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        let exact = Reference::rounded().evaluate(tensors)?;
        let rounded = exact.into_iter().map(|array| {
            let mut values = array.to_f32();
            if let Some(first) = values.first_mut() {
                *first *= self.0 as f32;
            }
            Array::new(values, array.shape())
        });
        rounded.collect()
    }
}
