//! The rows of a generalized linear model as a tensor graph: one graph, evaluated in f32 on a device and in f64 on the
//! reference.

use cotangent_tensor::{Array, DType, Error, Tensor};

use super::assess::misfit;
use super::design::Design;
use crate::families::Family;
use crate::losses::Reduction;

/// Observations in the form in which rows are computed.
#[derive(Clone, Debug)]
pub(super) struct Observations {
    pub(super) target: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) offset: Option<Vec<f64>>,
    /// Parameters per column of the design: 1, or one per class but the reference.
    pub(super) classes: usize,
}

/// Tensors over the parameters `gamma`, of shape `[width, classes]`.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) gamma: Tensor,
    pub(super) classes: usize,
    pub(super) width: usize,
    /// Σ w · negative log-likelihood.
    pub(super) objective: Tensor,
    /// Its gradient, started at η with an explicit upstream; of the shape of `gamma`.
    pub(super) gradient: Tensor,
    /// Sum of the magnitudes of what is added up in the gradient.
    pub(super) size: Tensor,
    /// Blocks of the Fisher information, for classes `a ≤ b`.
    fisher: Vec<Tensor>,
    /// The second derivative of the objective where it is another matrix: by links that are not canonical.
    observed: Option<Tensor>,
    /// Σ w · unit deviance; twice the negative log-likelihood where there is none.
    pub(super) deviance: Tensor,
    /// Predictor, targets and weights as they are computed with.
    pub(super) eta: Tensor,
    pub(super) target: Tensor,
    pub(super) weight: Tensor,
}

/// Numbers of one evaluation; parameters are ordered by class, then by column.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    pub(super) objective: f64,
    pub(super) gradient: Vec<f64>,
    pub(super) fisher: Vec<f64>,
    /// What Newton's method solves with; empty where it is the information.
    pub(super) observed: Vec<f64>,
}

impl Model {
    /// `gamma` is an input or a variable of shape `[width, classes]`.
    pub(super) fn new(
        family: &Family,
        design: &Design,
        rows: &Observations,
        gamma: &Tensor,
    ) -> Result<Model, Error> {
        let matrix = Tensor::new(design.array()?).named("design");
        let transposed = matrix.transpose();
        let weight = Tensor::new(rows.weights.clone()).named("weight");
        let column_weight = weight.unsqueeze(-1);
        let product = matrix.matmul(gamma);
        let n = design.rows;
        let is_categorical = family.is_categorical();
        let (eta, target) = if is_categorical {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "labels were checked to be small whole numbers"
            )]
            let labels: Vec<i32> = rows.target.iter().map(|&y| y as i32).collect();
            // The reference class has the predictor 0.
            (Tensor::concat(&[&Tensor::zeros([n, 1]), &product], 1).named("eta"), Tensor::new(labels))
        } else {
            let eta = product.squeeze(-1);
            let eta = match &rows.offset {
                Some(offset) => eta + Tensor::new(offset.clone()),
                None => eta,
            };
            (eta.named("eta"), Tensor::new(rows.target.clone()))
        };
        // Without the reference class, as columns.
        let columns = |t: &Tensor| {
            if is_categorical { t.slice(1, 1, rows.classes + 1, 1) } else { t.unsqueeze(-1) }
        };
        let residual = columns(&family.residual(&eta, &target)) * &column_weight;
        let mean = columns(&family.mean(&eta));
        let information = columns(&family.information(&eta));
        let mut fisher = Vec::new();
        let block = |curvature: Tensor| transposed.matmul(&(&matrix * (curvature * &column_weight)));
        for a in 0..rows.classes {
            for b in a..rows.classes {
                let column = |t: &Tensor, class: usize| t.slice(1, class, class + 1, 1);
                let is_diagonal = a == b;
                let curvature = if is_diagonal {
                    column(&information, a)
                } else {
                    -(column(&mean, a) * column(&mean, b))
                };
                fisher.push(block(curvature));
            }
        }
        let curvature = family.curvature(&eta, &target).map(|curvature| columns(&curvature));
        let observed = curvature.clone().map(block);
        // What rounds in a residual: mean, target and the predictor that went into the mean. By other links than the
        // canonical one a unit of the mean counts as much as the residual grows with it.
        let parts = if is_categorical {
            mean.abs() + 1.0 + &information * columns(&eta).abs()
        } else {
            let per_unit = family.residual_per_mean(&eta.unsqueeze(-1));
            // A rare observation may be curved more than is expected.
            let slope = curvature.map_or(information.clone(), |own| information.max(own.abs()));
            (mean.abs() + target.abs().unsqueeze(-1)) * per_unit + slope * columns(&eta).abs()
        };
        let objective = (family.nll(&eta, &target, Reduction::None) * &weight).sum(..);
        let deviance = (misfit(family, &target, &eta) * &weight).sum(..);
        Ok(Model {
            gamma: gamma.clone(),
            classes: rows.classes,
            width: design.width(),
            objective,
            gradient: transposed.matmul(&residual),
            size: transposed.abs().matmul(&(parts * &column_weight)),
            fisher,
            observed,
            deviance,
            eta,
            target,
            weight,
        })
    }
    /// An input for the parameters of this design.
    pub(super) fn input(design: &Design, classes: usize) -> Tensor {
        Tensor::input("gamma", [design.width(), classes], DType::F32)
    }
    /// What a sweep evaluates.
    pub(super) fn outputs(&self) -> Vec<&Tensor> {
        let mut outputs = vec![&self.objective, &self.gradient];
        outputs.extend(&self.fisher);
        outputs.extend(&self.observed);
        outputs
    }
    /// The values of [`Model::outputs`] as numbers.
    pub(super) fn sweep(&self, values: &[Array]) -> Result<Sweep, Error> {
        let order = self.width * self.classes;
        let mut fisher = vec![0.0; order * order];
        let mut blocks = values[2..].iter();
        for a in 0..self.classes {
            for b in a..self.classes {
                let block = blocks.next().map(Array::to_f64).unwrap_or_default();
                for i in 0..self.width {
                    for j in 0..self.width {
                        let (row, column) = (a * self.width + i, b * self.width + j);
                        fisher[row * order + column] = block[i * self.width + j];
                        fisher[column * order + row] = block[i * self.width + j];
                    }
                }
            }
        }
        let observed = blocks.next().map(Array::to_f64).unwrap_or_default();
        Ok(Sweep {
            objective: values[0].scalar()?,
            gradient: self.by_class(&values[1].to_f64()),
            fisher,
            observed,
        })
    }
    /// From the layout `[width, classes]` of tensors to class by class.
    pub(super) fn by_class(&self, values: &[f64]) -> Vec<f64> {
        (0..self.classes).flat_map(|c| (0..self.width).map(move |i| values[i * self.classes + c])).collect()
    }
    /// The inverse of [`Model::by_class`].
    pub(super) fn by_column(&self, values: &[f64]) -> Vec<f64> {
        (0..self.width).flat_map(|i| (0..self.classes).map(move |c| values[c * self.width + i])).collect()
    }
}
