//! Every loss with sample inputs, for tests and checks that iterate.

use cotangent_tensor::{Array, Tensor};

use super::Reduction::None as Each;
use super::{
    Constant, CrossEntropy, bce, bce_with_logits, bce_with_pos_weight, contrastive, cosine_embedding,
    cross_entropy, ctc, dice, expectile, focal, gamma_nll, gaussian_nll, gaussian_nll_with_variance, hinge,
    huber, info_nce, jensen_shannon, kl_divergence, label_smoothing, linear_cross_entropy, log_cosh, mae,
    margin_ranking, mse, multi_margin, nt_xent, perceptron, poisson_nll, poisson_nll_with, pseudo_huber,
    quantile, sigmoid_l1, smooth_l1, soft_cross_entropy, squared_hinge, triplet, tversky, weighted_mse,
};

/// A loss as data: its name, the function of its operands (one value per element or row), and operands.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The name of the function in [`losses`](crate::losses), or of the type whose `apply` it is.
    pub name: &'static str,
    /// One value per element or row. The first operand is what a model predicts.
    pub function: fn(&[Tensor]) -> Tensor,
    /// Operands at which the loss is smooth.
    pub sample: fn() -> Vec<Array>,
    /// Operands at which a careless form overflows, cancels or divides by zero; value and gradient must be finite.
    pub extreme: fn() -> Vec<Array>,
    /// Between which values of the first number of the first operand of the sample a picture shows the loss.
    pub span: [f64; 2],
}

/// What most losses are shown for.
const SPAN: [f64; 2] = [-4.0, 4.0];

/// Every loss of this module.
pub const ALL: &[Loss] = &[
    Loss {
        name: "mse",
        function: |t| mse(&t[0], &t[1], Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "weighted_mse",
        function: |t| weighted_mse(&t[0], &t[1], &t[2], Each),
        sample: || with(differences(), [1.0, 2.0, 0.5, 1.0, 3.0]),
        extreme: || with(far(), [0.0, 2.0, 0.5, 1.0, 3.0]),
        span: SPAN,
    },
    Loss {
        name: "mae",
        function: |t| mae(&t[0], &t[1], Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "huber",
        function: |t| huber(&t[0], &t[1], 0.75, Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "smooth_l1",
        function: |t| smooth_l1(&t[0], &t[1], 0.75, Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "pseudo_huber",
        function: |t| pseudo_huber(&t[0], &t[1], 0.75, Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "log_cosh",
        function: |t| log_cosh(&t[0], &t[1], Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "quantile",
        function: |t| quantile(&t[0], &t[1], 0.3, Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "expectile",
        function: |t| expectile(&t[0], &t[1], 0.3, Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "sigmoid_l1",
        function: |t| sigmoid_l1(&t[0], &t[1], Each),
        sample: differences,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "hinge",
        function: |t| hinge(&t[0], &t[1], 0.5, Each),
        sample: scores,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "squared_hinge",
        function: |t| squared_hinge(&t[0], &t[1], Each),
        sample: scores,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "perceptron",
        function: |t| perceptron(&t[0], &t[1], Each),
        sample: scores,
        extreme: far,
        span: SPAN,
    },
    Loss {
        name: "margin_ranking",
        function: |t| margin_ranking(&t[0], &t[1], &t[2], 0.5, Each),
        sample: || with(differences(), [1.0, -1.0, 1.0, -1.0, 1.0]),
        extreme: || with(far(), [1.0, -1.0, 1.0, -1.0, 1.0]),
        span: SPAN,
    },
    Loss {
        name: "multi_margin",
        function: |t| multi_margin(&t[0], &t[1], 1.0, 2, Each),
        sample: labelled,
        extreme: labelled_far,
        span: [-2.0, 12.0],
    },
    Loss {
        name: "cross_entropy",
        function: |t| cross_entropy(&t[0], &t[1], Each),
        sample: labelled,
        extreme: labelled_far,
        span: SPAN,
    },
    Loss {
        name: "CrossEntropy",
        function: |t| {
            CrossEntropy::new().class_weights(&t[2]).ignore_index(-1).smoothing(0.1).apply(&t[0], &t[1], Each)
        },
        sample: || vec![logits_with_ignored(1.5), [1, 0, -1].into(), [0.5, 2.0, 1.0].into()],
        extreme: || vec![logits_with_ignored(1e8), [1, 0, -1].into(), [0.5, 2.0, 0.0].into()],
        span: SPAN,
    },
    Loss {
        name: "label_smoothing",
        function: |t| label_smoothing(&t[0], &t[1], 0.1, Each),
        sample: labelled,
        extreme: labelled_far,
        span: SPAN,
    },
    Loss {
        name: "soft_cross_entropy",
        function: |t| soft_cross_entropy(&t[0], &t[1], Each),
        sample: || vec![logits(), [[0.2, 0.5, 0.3], [0.0, 0.25, 0.75]].into()],
        extreme: || vec![logits_far(), [[0.2, 0.5, 0.3], [0.0, 0.25, 0.75]].into()],
        span: SPAN,
    },
    Loss {
        name: "kl_divergence",
        function: |t| kl_divergence(&t[0], &t[1], Each),
        sample: || vec![logits(), [[0.2, 0.5, 0.3], [0.125, 0.25, 0.625]].into()],
        extreme: || vec![logits_far(), [[0.2, 0.5, 0.3], [0.0, 0.25, 0.75]].into()],
        span: SPAN,
    },
    Loss {
        name: "jensen_shannon",
        function: |t| jensen_shannon(&t[0], &t[1], Each),
        sample: || vec![logits(), [[0.2, 0.5, 0.3], [0.125, 0.25, 0.625]].into()],
        extreme: || vec![logits_far(), [[0.2, 0.5, 0.3], [0.0, 0.25, 0.75]].into()],
        span: SPAN,
    },
    Loss {
        name: "linear_cross_entropy",
        function: |t| linear_cross_entropy(&t[0], &t[1], Some(&t[2]), &t[3], 2, Each),
        sample: || projected(1.0),
        extreme: || projected(1e4),
        span: SPAN,
    },
    Loss {
        name: "bce_with_logits",
        function: |t| bce_with_logits(&t[0], &t[1], Each),
        sample: shares,
        extreme: shares_far,
        span: SPAN,
    },
    Loss {
        name: "bce_with_pos_weight",
        function: |t| bce_with_pos_weight(&t[0], &t[1], &t[2], Each),
        sample: || with(shares(), [3.0, 3.0, 0.5, 1.0, 2.0]),
        extreme: || with(shares_far(), [3.0, 3.0, 0.5, 1.0, 2.0]),
        span: SPAN,
    },
    Loss {
        name: "bce",
        function: |t| bce(&t[0], &t[1], Each),
        sample: || vec![[0.3, 0.9, 0.2, 0.6, 0.45].into(), [1.0, 0.0, 0.25, 1.0, 0.0].into()],
        extreme: || vec![[1e-30, 1e-30, 0.99999994, 1.0, 0.5].into(), [1.0, 0.0, 0.0, 1.0, 1.0].into()],
        span: [0.1, 0.98],
    },
    Loss {
        name: "focal",
        function: |t| focal(&t[0], &t[1], 2.0, Each),
        sample: shares,
        extreme: shares_far,
        span: SPAN,
    },
    Loss {
        name: "poisson_nll",
        function: |t| poisson_nll(&t[0], &t[1], Each),
        sample: counts,
        extreme: counts_far,
        span: SPAN,
    },
    Loss {
        name: "poisson_nll_with",
        function: |t| poisson_nll_with(&t[0], &t[1], Constant::Exact, Each),
        sample: counts,
        extreme: counts_far,
        span: SPAN,
    },
    Loss {
        name: "gamma_nll",
        function: |t| gamma_nll(&t[0], &t[1], Each),
        sample: || vec![[1.0, -0.5, 0.2, 2.0, 0.7].into(), [2.0, 0.5, 1.0, 7.0, 3.0].into()],
        extreme: || vec![[1e4, -80.0, 0.0, 300.0, -5.0].into(), [3.0, 1e-20, 1e6, 1.0, 1.0].into()],
        span: SPAN,
    },
    Loss {
        name: "gaussian_nll",
        function: |t| gaussian_nll(&t[0], &t[1], &t[2], Each),
        sample: || with(differences(), [0.0, -1.0, 0.5, 1.25, 0.3]),
        extreme: || with(far(), [0.0, -4.0, 80.0, 1.25, -3.0]),
        span: SPAN,
    },
    Loss {
        name: "gaussian_nll_with_variance",
        function: |t| gaussian_nll_with_variance(&t[0], &t[1], &t[2], 1e-3, Constant::Exact, Each),
        sample: || with(differences(), [1.0, 0.3, 2.0, 4.0, 0.7]),
        extreme: || with(far(), [1.0, 1e-30, 0.0, 1e30, -3.0]),
        span: SPAN,
    },
    Loss {
        name: "cosine_embedding",
        function: |t| cosine_embedding(&t[0], &t[1], &t[2], 0.25, Each),
        sample: || pairs([1.0, -1.0]),
        extreme: || pairs_far([1.0, -1.0]),
        span: SPAN,
    },
    Loss {
        name: "contrastive",
        function: |t| contrastive(&t[0], &t[1], &t[2], 4.0, Each),
        sample: || pairs([1.0, 0.0]),
        extreme: || pairs_far([0.5, 0.0]),
        span: SPAN,
    },
    Loss {
        name: "triplet",
        function: |t| triplet(&t[0], &t[1], &t[2], 1.0, Each),
        sample: || vec![left(), right(), [[0.5, 0.25, -1.0], [2.0, -1.0, 0.5]].into()],
        extreme: || {
            vec![
                [[1e30, -1e30, 0.0], [0.0, 0.0, 0.0]].into(),
                [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]].into(),
                [[1e-30, 0.0, 1.0], [0.0, 0.0, 0.0]].into(),
            ]
        },
        span: SPAN,
    },
    Loss {
        name: "info_nce",
        function: |t| info_nce(&t[0], &t[1], 0.5, Each),
        sample: || vec![left(), right()],
        extreme: || {
            vec![[[1e30, -1e30, 0.0], [0.0, 0.0, 0.0]].into(), [[1e-30, 0.0, 0.0], [3.0, 0.0, 1.0]].into()]
        },
        span: SPAN,
    },
    Loss {
        name: "nt_xent",
        function: |t| nt_xent(&t[0], &t[1], 0.5, Each),
        sample: || vec![left(), right()],
        extreme: || {
            vec![[[1e30, -1e30, 0.0], [0.0, 0.0, 0.0]].into(), [[1e-30, 0.0, 0.0], [3.0, 0.0, 1.0]].into()]
        },
        span: SPAN,
    },
    Loss {
        name: "dice",
        function: |t| dice(&t[0], &t[1], 1.0, Each),
        sample: regions,
        extreme: regions_far,
        span: [0.0, 1.0],
    },
    Loss {
        name: "tversky",
        function: |t| tversky(&t[0], &t[1], [0.3, 0.7], 1.0, Each),
        sample: regions,
        extreme: regions_far,
        span: [0.0, 1.0],
    },
    Loss {
        name: "ctc",
        function: |t| ctc(&t[0], &t[1], &t[2], &t[3], 0, Each),
        sample: || frames(1.0),
        extreme: || frames(1e4),
        span: SPAN,
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
fn counts_far() -> Vec<Array> {
    vec![[-1e4, 80.0, 0.0, -300.0, 5.0].into(), [3.0, 0.0, 1e6, 0.0, 1.0].into()]
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
fn logits_with_ignored(scale: f64) -> Array {
    [[scale, -1.0, 0.5], [0.25, 2.0, -scale], [3.0, scale, 1.0]].into()
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
fn projected(scale: f64) -> Vec<Array> {
    let hidden = [[0.5 * scale, -1.0], [0.25, 2.0 * scale], [-scale, 0.75]];
    let weight = [[1.0, -0.5, 0.25, 0.0], [0.3, 0.7, -1.0, 2.0]];
    vec![hidden.into(), weight.into(), [0.1, -0.2, 0.3, 0.0].into(), [1, 3, 0].into()]
}
fn left() -> Array {
    [[1.0, -0.5, 2.0], [0.3, 1.2, -0.7]].into()
}
fn right() -> Array {
    [[0.8, 0.4, 1.5], [-0.6, 0.9, 0.2]].into()
}
fn pairs(target: [f64; 2]) -> Vec<Array> {
    vec![left(), right(), target.into()]
}
fn pairs_far(target: [f64; 2]) -> Vec<Array> {
    vec![
        [[1e18, -1e18, 0.0], [0.0, 0.0, 0.0]].into(),
        [[1e-30, 0.0, 0.0], [0.0, 0.0, 0.0]].into(),
        target.into(),
    ]
}
fn regions() -> Vec<Array> {
    vec![[[0.9, 0.2, 0.4], [0.1, 0.7, 0.6]].into(), [[1.0, 0.0, 1.0], [0.0, 0.5, 1.0]].into()]
}
fn regions_far() -> Vec<Array> {
    vec![[[0.0, 0.0, 0.0], [1.0, 1e-30, 1.0]].into(), [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]].into()]
}
/// Two sequences of four frames and three classes: a repeated label over all frames, another one over fewer.
fn frames(scale: f64) -> Vec<Array> {
    let first = [[0.5, scale, -0.3], [0.2, -0.4, 0.9], [-scale, 0.1, 0.3], [0.6, 0.8, -0.5]];
    let second = [[0.1, 0.7, scale], [-0.2, 0.4, 0.3], [0.9, -scale, 0.5], [0.3, 0.2, 0.1]];
    vec![[first, second].into(), [[1, 1], [2, 1]].into(), [4, 3].into(), [2, 1].into()]
}
