//! Whether the parts of a family belong together.

use std::panic::Location;

use cotangent_tensor::{Array, Code, Detail, Error, Evaluate, Tensor};

use super::{Family, Form, Link, Observation, derivative};

/// Mistakes in a formula are larger than this, rounding of an f32 evaluator is smaller (√ of its unit roundoff).
const DISTINCT: f64 = 1.0 / 4096.0;

impl Family {
    /// Checks at natural parameters of one's choice that the mean is the derivative of the log-partition and that the
    /// variance is positive.
    ///
    /// Errors: `E_FAMILY` with the first `η` where that is not so; those of the tensors and of the evaluator.
    ///
    /// ```
    /// use cotangent::{Code, Family, Reference};
    /// let good = Family::from_log_partition("poisson", |eta| eta.exp()).with_mean(|eta| eta.exp());
    /// good.check(&[-1.0, 0.0, 2.0], &Reference::new())?;
    /// let wrong = Family::from_log_partition("poisson", |eta| eta.exp()).with_mean(|eta| eta.exp() * 1.01);
    /// assert_eq!(wrong.check(&[-1.0], &Reference::new()).unwrap_err().code(), Code::Family);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    #[track_caller]
    pub fn check(&self, probes: &[f64], evaluator: &dyn Evaluate) -> Result<(), Error> {
        let at = Location::caller();
        let fail =
            |message: String| Error::new(Code::Family, "check", format!("{}: {message}", self.name)).at(at);
        if probes.is_empty() {
            return Err(fail("no natural parameter to check at".to_string()));
        }
        let eta = self.probe(probes);
        let mean = self.mean(&eta);
        let variance = self.variance(&eta);
        let partition = match &self.form {
            Form::Own { log_partition: None, .. } => None,
            _ if self.link != Link::Canonical => None,
            Form::BuiltIn(..) | Form::Own { .. } => Some(derivative(&self.log_partition(&eta), &eta)),
        };
        let mut wanted = vec![&eta, &mean, &variance];
        wanted.extend(&partition);
        let values: Vec<Vec<f64>> = evaluator.evaluate(&wanted)?.iter().map(Array::to_f64).collect();
        let (etas, means, variances) = (&values[0], &values[1], &values[2]);
        for (element, &eta) in etas.iter().enumerate() {
            let (mean, variance) = (means[element], variances[element]);
            let with_eta = |error: Error| error.with("eta", Detail::Number(eta));
            // A class that is left out of a row has none.
            let falls = variance < 0.0 || variance == 0.0 && self.observation() != Observation::Row;
            if falls || variance.is_nan() || !mean.is_finite() {
                let message = format!("at η = {eta} the mean is {mean} and the variance {variance}");
                return Err(with_eta(fail(message).hint("a variance is positive: the mean grows with η")));
            }
            let Some(slope) = values.get(3).map(|slopes| slopes[element]) else { continue };
            if (mean - slope).abs().total_cmp(&(DISTINCT * (mean.abs() + variance.sqrt()))).is_gt() {
                let message =
                    format!("at η = {eta} the mean is {mean}, the derivative of the log-partition {slope}");
                return Err(with_eta(fail(message).hint("one of the two formulas is wrong")));
            }
        }
        Ok(())
    }

    /// Probes in the form of a natural parameter; one row where an observation has a row.
    fn probe(&self, probes: &[f64]) -> Tensor {
        match self.observation() {
            Observation::Number => Tensor::new(probes),
            Observation::Label | Observation::Row => Tensor::new(probes).unsqueeze(0),
        }
    }
}
