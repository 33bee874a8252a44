//! H. Losses.

use crate::common::{Error, Evaluator, Reduction, Tensor, grad, losses};
use crate::harness::{Case, Findings};

pub const CASES: &[Case] = &[
    Case {
        label: "t82_cross_entropy",
        origin: "optax SoftmaxCrossEntropyTest, SafeSoftmaxCrossEntropyTest",
        program: t82_cross_entropy,
    },
    Case {
        label: "t83_bce_with_logits",
        origin: "optax test_sigmoid_cross_entropy; PyTorch run",
        program: t83_bce_with_logits,
    },
];

fn t82_cross_entropy(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let logits = Tensor::new([[10.0, 1.0, -2.0], [1.0, 4.0, 0.2]]);
    let loss = losses::cross_entropy(&logits, &Tensor::new([1, 0]), Reduction::None);
    f.value("loss", &loss, "9.00012954563 3.06967329082");
    f.gradient(
        "gradient",
        &grad(&loss.sum(..), &logits)?,
        "0.999870462766 -0.999876606182 6.14341644905e-6 -0.953563676448 0.932698491288 0.0208651851592",
    )?;
    let no = f64::NEG_INFINITY;
    let logits = Tensor::new([[no, 0.0, 0.0], [no, 0.0, 0.0], [no, 0.0, no]]);
    let targets = Tensor::new([[0.0, 0.5, 0.5], [0.4, 0.3, 0.3], [0.0, 1.0, 0.0]]);
    let soft = losses::soft_cross_entropy(&logits, &targets, Reduction::None);
    f.value("soft targets, logits of −inf", &soft, "0.693147180560 inf 0");
    Ok(())
}

fn t83_bce_with_logits(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let logits = Tensor::new([1e9, 1e9, 0.0, 0.0, 17.0, 17.0]);
    let targets = Tensor::new([0.0, 1.0, 0.0, 0.75, 0.0, 1.0]);
    let loss = losses::bce_with_logits(&logits, &targets, Reduction::None);
    f.value("loss", &loss, "1e9 0 0.693147180560 0.693147180560 17.0000000414 4.13993763309e-8");
    Ok(())
}
