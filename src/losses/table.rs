//! Every loss with sample inputs, for tests and checks that iterate.

use cotangent_tensor::{Array, Tensor};

use super::Reduction::None as Each;
use super::{
    bce_with_logits, cross_entropy, focal, gaussian_nll, hinge, huber, label_smoothing, log_cosh, mae, mse,
    poisson_nll, pseudo_huber, quantile, sigmoid_l1, soft_cross_entropy, squared_hinge, weighted_mse,
};

/// A loss as data: its name, the function of its operands (one value per element or row), and operands.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The name of the function in [`losses`](crate::losses).
    pub name: &'static str,
    /// One value per element or row. The first operand is what a model predicts.
    pub function: fn(&[Tensor]) -> Tensor,
    /// Operands at which the loss is smooth.
    pub sample: fn() -> Vec<Array>,
    /// Operands at which a careless form overflows, cancels or divides by zero; value and gradient must be finite.
    pub extreme: fn() -> Vec<Array>,
}

/// Every loss of this module.
pub const ALL: &[Loss] = &[
    Loss { name: "mse", function: |t| mse(&t[0], &t[1], Each), sample: differences, extreme: far },
    Loss {
        name: "weighted_mse",
        function: |t| weighted_mse(&t[0], &t[1], &t[2], Each),
        sample: || with(differences(), [1.0, 2.0, 0.5, 1.0, 3.0]),
        extreme: || with(far(), [0.0, 2.0, 0.5, 1.0, 3.0]),
    },
    Loss { name: "mae", function: |t| mae(&t[0], &t[1], Each), sample: differences, extreme: far },
    Loss { name: "huber", function: |t| huber(&t[0], &t[1], 0.75, Each), sample: differences, extreme: far },
    Loss {
        name: "pseudo_huber",
        function: |t| pseudo_huber(&t[0], &t[1], 0.75, Each),
        sample: differences,
        extreme: far,
    },
    Loss { name: "log_cosh", function: |t| log_cosh(&t[0], &t[1], Each), sample: differences, extreme: far },
    Loss {
        name: "quantile",
        function: |t| quantile(&t[0], &t[1], 0.3, Each),
        sample: differences,
        extreme: far,
    },
    Loss { name: "hinge", function: |t| hinge(&t[0], &t[1], 0.5, Each), sample: scores, extreme: far },
    Loss {
        name: "squared_hinge",
        function: |t| squared_hinge(&t[0], &t[1], Each),
        sample: scores,
        extreme: far,
    },
    Loss {
        name: "sigmoid_l1",
        function: |t| sigmoid_l1(&t[0], &t[1], Each),
        sample: differences,
        extreme: far,
    },
    Loss {
        name: "cross_entropy",
        function: |t| cross_entropy(&t[0], &t[1], Each),
        sample: labelled,
        extreme: labelled_far,
    },
    Loss {
        name: "label_smoothing",
        function: |t| label_smoothing(&t[0], &t[1], 0.1, Each),
        sample: labelled,
        extreme: labelled_far,
    },
    Loss {
        name: "soft_cross_entropy",
        function: |t| soft_cross_entropy(&t[0], &t[1], Each),
        sample: || vec![logits(), [[0.2, 0.5, 0.3], [0.0, 0.25, 0.75]].into()],
        extreme: || vec![logits_far(), [[0.2, 0.5, 0.3], [0.0, 0.25, 0.75]].into()],
    },
    Loss {
        name: "bce_with_logits",
        function: |t| bce_with_logits(&t[0], &t[1], Each),
        sample: shares,
        extreme: shares_far,
    },
    Loss { name: "focal", function: |t| focal(&t[0], &t[1], 2.0, Each), sample: shares, extreme: shares_far },
    Loss {
        name: "poisson_nll",
        function: |t| poisson_nll(&t[0], &t[1], Each),
        sample: counts,
        extreme: || vec![[-1e4, 80.0, 0.0, -300.0, 5.0].into(), [3.0, 0.0, 1e6, 0.0, 1.0].into()],
    },
    Loss {
        name: "gaussian_nll",
        function: |t| gaussian_nll(&t[0], &t[1], &t[2], Each),
        sample: || with(differences(), [0.0, -1.0, 0.5, 1.25, 0.3]),
        extreme: || with(far(), [0.0, -4.0, 80.0, 1.25, -3.0]),
    },
];

fn with(mut operands: Vec<Array>, last: [f64; 5]) -> Vec<Array> {
    operands.push(last.into());
    operands
}
fn differences() -> Vec<Array> {
    vec![[1.0, 2.0, -0.3, 4.0, 5.0].into(), [1.5, 1.2, 0.1, 2.0, 6.25].into()]
}
fn far() -> Vec<Array> {
    vec![[1e8, -1e8, 0.0, 1e-20, -500.0].into(), [-1.0, 1.0, 0.0, 0.0, 1.0].into()]
}
fn scores() -> Vec<Array> {
    vec![[0.4, -0.2, 2.5, -3.0, 0.9].into(), [1.0, -1.0, 1.0, -1.0, -1.0].into()]
}
fn counts() -> Vec<Array> {
    vec![[1.0, -0.5, 0.2, 2.0, 0.7].into(), [2.0, 0.0, 1.0, 7.0, 3.0].into()]
}
fn shares() -> Vec<Array> {
    vec![[1.0, -0.5, 0.2, 2.0, 0.7].into(), [1.0, 0.0, 0.25, 1.0, 0.0].into()]
}
fn shares_far() -> Vec<Array> {
    vec![[1e9, 1e9, -1e9, 17.0, -0.0].into(), [0.0, 1.0, 0.5, 1.0, 0.0].into()]
}
fn logits() -> Array {
    [[10.0, 1.0, -2.0], [1.0, 4.0, 0.2]].into()
}
fn logits_far() -> Array {
    [[1e8, -1e8, 0.0], [-500.0, 500.0, 0.0]].into()
}
fn labelled() -> Vec<Array> {
    vec![logits(), labels()]
}
fn labelled_far() -> Vec<Array> {
    vec![logits_far(), labels()]
}
fn labels() -> Array {
    [1, 0].into()
}
