//! H. Losses.

use crate::common::{Error, Evaluator, Reduction, Tensor, custom_gradient, grad, losses};
use crate::harness::{Case, Findings};
use losses::Constant;

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
    Case {
        label: "t85_gaussian_and_poisson",
        origin: "PyTorch functional.py: gaussian_nll_loss, poisson_nll_loss",
        program: t85,
    },
    Case {
        label: "t92_training_by_a_rule",
        origin: "TF testCustomGradient",
        program: t92_training_by_a_rule,
    },
    Case { label: "t92_masked_rows", origin: "optax test_mask", program: t92_masked_rows },
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
    // With a weight of 1 for positives it is the same loss.
    let weighted = losses::bce_with_pos_weight(&logits, &targets, &Tensor::new(1.0), Reduction::None);
    f.value("weighted", &weighted, "1e9 0 0.693147180560 0.693147180560 17.0000000414 4.13993763309e-8");
    Ok(())
}

fn t85(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (mean, y, variance) = (Tensor::new(1.0), Tensor::new(3.0), Tensor::new(0.5));
    let gaussian = |variance: &Tensor, floor, constant| {
        losses::gaussian_nll_with_variance(&mean, &y, variance, floor, constant, Reduction::Mean)
    };
    let loss = gaussian(&variance, 1e-6, Constant::Dropped);
    f.value("Gaussian", &loss, "3.65342640972");
    f.value("with constant", &gaussian(&variance, 1e-6, Constant::Exact), "4.57236494292");
    f.gradient("∂μ", &grad(&loss, &mean)?, "-4")?;
    f.gradient("∂variance", &grad(&loss, &variance)?, "-7")?;
    // A variance below the floor: the value is that of the floor, and so is the derivative that passes.
    let small = Tensor::new(0.25);
    let clamped = gaussian(&small, 0.5, Constant::Dropped);
    f.value("clamped", &clamped, "3.65342640972");
    f.gradient("∂variance, clamped", &grad(&clamped, &small)?, "-7")?;
    // The same by the logarithm of the variance, whose derivative is that by the variance times it.
    let log_variance = Tensor::new(-std::f64::consts::LN_2);
    let by_log = losses::gaussian_nll(&mean, &y, &log_variance, Reduction::Mean);
    f.value("by the logarithm", &by_log, "3.65342640972");
    f.gradient("∂ logarithm", &grad(&by_log, &log_variance)?, "-3.5")?;
    let (eta, count) = (Tensor::new(1.0), Tensor::new(2.0));
    let poisson = |constant| losses::poisson_nll_with(&eta, &count, constant, Reduction::Mean);
    f.value("Poisson", &poisson(Constant::Dropped), "0.718281828459");
    f.value("with Stirling's constant", &poisson(Constant::Stirling), "1.37008831306");
    f.value("with its constant", &poisson(Constant::Exact), "1.41142900902");
    Ok(())
}

/// The loss m(2, x) with the rule (g·y, g·x) of a product, five steps of gradient descent at the rate ¼ from x = 2.
fn t92_training_by_a_rule(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let product = |a: &Tensor, b: &Tensor| {
        custom_gradient("m", [a, b], |[a, b]| {
            (&a * &b, move |upstream: Tensor| [&upstream * b, upstream * a])
        })
    };
    let mut x = Tensor::new(2.0);
    let mut losses = Vec::new();
    for _ in 0..5 {
        let loss = product(&Tensor::new(2.0), &x);
        let slope = grad(&loss, &x)?.or_error()?;
        losses.push(loss);
        x = x - 0.25 * slope;
    }
    for (loss, expected) in losses.iter().zip(["4", "3", "2", "1", "0"]) {
        f.value("loss", loss, expected);
    }
    Ok(())
}

fn t92_masked_rows(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let no = f64::NAN;
    let (whole, kept) =
        (Tensor::new([[1.0, 4.0], [no, no], [10.0, 1.0]]), Tensor::new([[1.0, 4.0], [10.0, 1.0]]));
    let mask = Tensor::new([true, false, true]);
    let rows = losses::cross_entropy(&whole, &Tensor::new([0, 0, 1]), Reduction::None);
    let dropped = losses::cross_entropy(&kept, &Tensor::new([0, 1]), Reduction::Mean);
    let masked = losses::masked(&rows, &mask, Reduction::Mean);
    // log(1 + e³) and log(1 + e⁹).
    f.value("masked", &masked, "6.02435537688");
    f.same("value", &masked, &dropped);
    let (gradient, of_kept) = (grad(&masked, &whole)?.or_error()?, grad(&dropped, &kept)?.or_error()?);
    f.same("row 0", &gradient.slice(0, 0, 1, 1), &of_kept.slice(0, 0, 1, 1));
    f.same("row 2", &gradient.slice(0, 2, 3, 1), &of_kept.slice(0, 1, 2, 1));
    f.value("row 1", &gradient.slice(0, 1, 2, 1), "0 0");
    // The label that is ignored, and the targets that are not there.
    let ignoring = losses::CrossEntropy::new().ignore_index(-1);
    f.same("ignored", &ignoring.apply(&whole, &Tensor::new([0, -1, 1]), Reduction::Mean), &dropped);
    let target = Tensor::new([2.0, no, 5.0]);
    let squares = losses::mse(&Tensor::new([1.0, 7.0, 3.0]), &target, Reduction::None);
    f.value("targets", &losses::masked(&squares, &!&target.is_nan(), Reduction::Mean), "2.5");
    Ok(())
}
