//! Small dense systems in f64 on the host.

/// A symmetric positive definite matrix, factored as `L·Lᵀ`; row-major, the upper triangle unused.
#[derive(Clone, Debug)]
pub(super) struct Cholesky {
    order: usize,
    lower: Vec<f64>,
}

/// A pivot that is not positive, or too small beside the diagonal it started from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Singular {
    pub(super) column: usize,
}

impl Cholesky {
    /// Factors a matrix of this order. A pivot below `smallest` times its diagonal element is singular.
    pub(super) fn new(matrix: &[f64], order: usize, smallest: f64) -> Result<Cholesky, Singular> {
        let mut lower = matrix.to_vec();
        for column in 0..order {
            let row_of = |r: usize| r * order;
            let dot = |lower: &[f64], a: usize, b: usize| -> f64 {
                (0..column).map(|k| lower[row_of(a) + k] * lower[row_of(b) + k]).sum()
            };
            let diagonal = matrix[row_of(column) + column];
            let pivot = diagonal - dot(&lower, column, column);
            if !(pivot > smallest * diagonal && pivot.is_finite()) {
                return Err(Singular { column });
            }
            let root = pivot.sqrt();
            lower[row_of(column) + column] = root;
            for row in column + 1..order {
                lower[row_of(row) + column] =
                    (matrix[row_of(row) + column] - dot(&lower, row, column)) / root;
            }
        }
        Ok(Cholesky { order, lower })
    }
    /// `L⁻¹·b`.
    pub(super) fn forward(&self, b: &mut [f64]) {
        for row in 0..self.order {
            let line = &self.lower[row * self.order..];
            let known: f64 = (0..row).map(|k| line[k] * b[k]).sum();
            b[row] = (b[row] - known) / line[row];
        }
    }
    /// `L⁻ᵀ·b`.
    pub(super) fn backward(&self, b: &mut [f64]) {
        for row in (0..self.order).rev() {
            let known: f64 = (row + 1..self.order).map(|k| self.lower[k * self.order + row] * b[k]).sum();
            b[row] = (b[row] - known) / self.lower[row * self.order + row];
        }
    }
    /// The solution of `A·x = b`.
    pub(super) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = b.to_vec();
        self.forward(&mut x);
        self.backward(&mut x);
        x
    }
    /// `tᵀ·A⁻¹·t`.
    pub(super) fn inverse_form(&self, t: &[f64]) -> f64 {
        let mut z = t.to_vec();
        self.forward(&mut z);
        z.iter().map(|v| v * v).sum()
    }
    /// Smallest over largest pivot.
    pub(super) fn pivot_ratio(&self) -> f64 {
        let pivots = (0..self.order).map(|k| self.lower[k * self.order + k].powi(2));
        let (low, high) = pivots.fold((f64::INFINITY, 0f64), |(low, high), p| (low.min(p), high.max(p)));
        if self.order == 0 { 1.0 } else { low / high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_and_names_the_dependent_column() {
        let matrix = [4.0, 2.0, 2.0, 5.0];
        let factor = Cholesky::new(&matrix, 2, 0.0).unwrap();
        assert_eq!(factor.solve(&[8.0, 12.0]), [1.0, 2.0]);
        assert_eq!(factor.inverse_form(&[2.0, 1.0]), 1.0);
        assert_eq!(factor.pivot_ratio(), 1.0);
        let dependent = [1.0, 1.0, 1.0, 1.0];
        assert_eq!(Cholesky::new(&dependent, 2, 1e-12).unwrap_err(), Singular { column: 1 });
        assert_eq!(Cholesky::new(&[f64::NAN], 1, 0.0).unwrap_err(), Singular { column: 0 });
    }
}
