//! The design matrix: columns centered, scaled and decorrelated on the host, in f64, before devices round them to f32.
//!
//! With uncorrelated columns of size one the problem that a device sees is well conditioned whatever the units and however
//! collinear the data, so that f32 rows lose nothing that matters. Coefficients are carried back in f64.

use cotangent_tensor::{Array, Code, Detail, Error};

use super::Problem;
use super::linear::Cholesky;

/// A column whose part that no column before it explains is smaller than this share of its variance is dependent.
const DEPENDENT: f64 = 1e-12;

/// The transformation of the columns and the transformed rows.
#[derive(Clone, Debug)]
pub(super) struct Design {
    pub(super) rows: usize,
    /// Features, without the intercept.
    pub(super) features: usize,
    means: Vec<f64>,
    scales: Vec<f64>,
    factor: Cholesky,
    /// Row-major, the first column is one.
    matrix: Vec<f64>,
}

impl Design {
    /// Errors: `E_FAMILY` naming a column that is constant, or a linear combination of the columns before it.
    pub(super) fn new(problem: &Problem, weights: &[f64]) -> Result<Design, Error> {
        let (rows, features) = (problem.target.len(), problem.features.len());
        let total: f64 = weights.iter().sum();
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            values.zip(weights).map(|(v, w)| v * w).sum::<f64>() / total
        };
        let (mut means, mut scales, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (name, values) in &problem.features {
            let size = largest(values);
            // In units of the largest value: squares of 1e200 or 1e-200 are no numbers.
            let unit = if size > 0.0 { size } else { 1.0 };
            let rough = mean(&mut values.iter().map(|v| v / unit));
            // Twice: the first mean of large numbers rounds.
            let center = rough + mean(&mut values.iter().map(|v| v / unit - rough));
            let scale = mean(&mut values.iter().map(|v| (v / unit - center).powi(2))).sqrt();
            if scale.is_nan() || scale <= 16.0 * f64::EPSILON {
                return Err(dependent(name, "is constant")
                    .hint("an intercept is always fitted; leave the column out"));
            }
            columns.push(values.iter().map(|v| (v / unit - center) / scale).collect::<Vec<f64>>());
            means.push(center * unit);
            scales.push(scale * unit);
        }
        let mut correlations = vec![0.0; features * features];
        for (i, a) in columns.iter().enumerate() {
            for (j, b) in columns[..=i].iter().enumerate() {
                let products = a.iter().zip(b).map(|(a, b)| a * b);
                let value = mean(&mut { products });
                correlations[i * features + j] = value;
                correlations[j * features + i] = value;
            }
        }
        let factor = Cholesky::new(&correlations, features, DEPENDENT).map_err(|singular| {
            dependent(
                &problem.features[singular.column].0,
                "is a linear combination of the columns before it",
            )
            .hint("leave the column out")
        })?;
        let mut matrix = Vec::with_capacity(rows * (features + 1));
        let mut row_values = vec![0.0; features];
        for row in 0..rows {
            row_values.iter_mut().zip(&columns).for_each(|(value, column)| *value = column[row]);
            factor.forward(&mut row_values);
            matrix.push(1.0);
            matrix.extend(&row_values);
        }
        Ok(Design { rows, features, means, scales, factor, matrix })
    }
    /// Columns of the matrix: features and intercept.
    pub(super) fn width(&self) -> usize {
        self.features + 1
    }
    /// The matrix, of shape `[rows, width]`.
    pub(super) fn array(&self) -> Result<Array, Error> {
        Array::new(self.matrix.clone(), [self.rows, self.width()])
    }
    /// Intercept and coefficients on the original scale.
    pub(super) fn original(&self, gamma: &[f64]) -> (f64, Vec<f64>) {
        let mut coefficients = gamma[1..].to_vec();
        self.factor.backward(&mut coefficients);
        coefficients.iter_mut().zip(&self.scales).for_each(|(c, s)| *c /= s);
        let shift: f64 = coefficients.iter().zip(&self.means).map(|(c, m)| c * m).sum();
        (gamma[0] - shift, coefficients)
    }
    /// The linear forms of `gamma` that are the intercept and each coefficient: what standard errors need.
    pub(super) fn forms(&self) -> Vec<Vec<f64>> {
        let width = self.width();
        let mut forms = vec![vec![0.0; width]; width];
        for column in 0..width {
            let mut unit = vec![0.0; width];
            unit[column] = 1.0;
            let (intercept, coefficients) = self.original(&unit);
            forms[0][column] = intercept;
            for (feature, coefficient) in coefficients.into_iter().enumerate() {
                forms[feature + 1][column] = coefficient;
            }
        }
        forms
    }
}

/// The largest magnitude.
pub(super) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

fn dependent(name: &str, what: &str) -> Error {
    Error::new(Code::Family, "glm", format!("column `{name}` {what}"))
        .with("column", Detail::Text(name.to_string()))
}
