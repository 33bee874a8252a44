//! H. Losses, as far as they exist.

use crate::common::{Error, Evaluator, Tensor, grad};
use crate::harness::{Case, Findings};

pub const CASES: &[Case] = &[Case {
    label: "t82_cross_entropy",
    origin: "optax SoftmaxCrossEntropyTest",
    program: t82_cross_entropy,
}];

fn t82_cross_entropy(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let logits = Tensor::new([[10.0, 1.0, -2.0], [1.0, 4.0, 0.2]]);
    let loss = logits.cross_entropy(&Tensor::new([1, 0]));
    f.value("loss", &loss, "9.00012954563 3.06967329082");
    f.gradient(
        "gradient",
        &grad(&loss.sum(..), &logits)?,
        "0.999870462766 -0.999876606182 6.14341644905e-6 -0.953563676448 0.932698491288 0.0208651851592",
    )
}
