use std::collections::HashMap;

use cotangent_autograd::check::{finite_differences, transposition};
use cotangent_autograd::{GradCheck, grad, vjp};
use cotangent_device::Device;
use cotangent_tensor::{Arithmetic, Array, Code, Evaluate, Reference, Tensor, bounded};

use super::*;

mod options;
mod sequences;
mod vocabulary;

fn values(tensors: &[&Tensor]) -> Vec<Vec<f64>> {
    Reference::new().evaluate(tensors).unwrap().iter().map(Array::to_f64).collect()
}

/// Values with the bound of their rounding errors: that of single precision, which is proportional to the unit roundoff.
fn in_double_precision(tensor: &Tensor) -> Vec<(f64, f64)> {
    let nodes = [tensor.node().unwrap().clone()];
    let bounds = bounded(&nodes, &HashMap::new(), &Arithmetic::default()).unwrap();
    let ratio = 2f64.powi(-53 + 24);
    values(&[tensor])[0].iter().zip(&bounds[0].bound).map(|(&value, bound)| (value, bound * ratio)).collect()
}

/// The loss and its gradient with respect to the first operand, per element.
fn value_and_gradient(loss: &Loss, operands: &[Tensor]) -> (Tensor, Tensor) {
    let value = (loss.function)(operands);
    let gradient = grad(&value.sum(..), &operands[0]).unwrap().or_error().unwrap();
    (value, gradient)
}

#[test]
fn a_coefficient_in_mid_graph_reaches_the_gradient() {
    for loss in ALL {
        let operands: Vec<Tensor> = (loss.sample)().into_iter().map(Tensor::new).collect();
        let (value, gradient) = value_and_gradient(loss, &operands);
        let x = &operands[0];
        let total = 2.5 * value.sum(..) + x.pow(2).sum(..);
        let whole = grad(&total, x).unwrap().or_error().unwrap();
        let [whole, parts] = [whole, 2.5 * gradient + 2.0 * x].map(|t| in_double_precision(&t));
        assert!(!whole.is_empty());
        for ((a, a_bound), (b, b_bound)) in whole.iter().zip(&parts) {
            assert!((a - b).abs() <= a_bound + b_bound, "{}: {a} {b}", loss.name);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences_and_forward_mode() {
    let reference = Reference::new();
    let mut compared = 0;
    for loss in ALL {
        let inputs = (loss.sample)();
        let total = |operands: &[Tensor]| (loss.function)(operands).sum(..);
        let slopes = finite_differences(&total, &inputs, &reference).unwrap();
        let operands: Vec<Tensor> = inputs.iter().cloned().map(Tensor::new).collect();
        let value = total(&operands);
        for (operand, slopes) in operands.iter().zip(slopes) {
            let Some(slopes) = slopes else { continue };
            let gradient = grad(&value, operand).unwrap().or_zero();
            for (slope, derivative) in slopes.iter().zip(&values(&[&gradient])[0]) {
                // Soft targets at zero are an edge of the domain, not a point inside.
                let edge = loss.name == "soft_cross_entropy" && operand.shape() == operands[1].shape();
                assert!(edge || slope.agrees(*derivative), "{}: {slope:?} {derivative}", loss.name);
                compared += 1;
            }
        }
        let ones: Vec<Array> =
            inputs.iter().map(|a| Array::new(vec![1.0; a.values().len()], a.shape()).unwrap()).collect();
        let pairing = transposition(&total, &inputs, &ones, &1.0.into(), &reference).unwrap();
        assert!(pairing.agrees(), "{}: {pairing:?}", loss.name);
    }
    assert!(compared > 10 * ALL.len() / 2);
}

#[test]
fn extreme_operands_give_finite_values_and_gradients() {
    for loss in ALL {
        let operands: Vec<Tensor> = (loss.extreme)().into_iter().map(Tensor::new).collect();
        let (value, gradient) = value_and_gradient(loss, &operands);
        for numbers in values(&[&value, &gradient]) {
            assert!(
                !numbers.is_empty() && numbers.iter().all(|v| v.is_finite()),
                "{}: {numbers:?}",
                loss.name
            );
        }
    }
}

#[test]
fn second_derivatives_agree_with_all_witnesses() {
    for loss in ALL {
        let operands: Vec<Tensor> = (loss.sample)().into_iter().map(Tensor::new).collect();
        let check = GradCheck::new().order(2);
        // Soft targets at zero are an edge of the domain, not a point inside.
        let check = if loss.name == "soft_cross_entropy" { check.fixed(1) } else { check };
        let report =
            check.run(|operands: Vec<Tensor>| (loss.function)(&operands), operands, &Reference::new());
        let report = report.unwrap();
        assert!(report.is_ok() && report.kinks.is_empty(), "{}: {report}", loss.name);
        assert!(report.compared.total() >= 8, "{}: {report}", loss.name);
        assert_eq!(report.surrogates.is_empty(), loss.name != "gaussian_nll_with_variance", "{}", loss.name);
    }
}

/// Operands of a sample, of which the first number is another.
fn with_first(loss: &Loss, number: f64) -> Vec<Tensor> {
    let mut operands = (loss.sample)();
    let mut first = operands[0].to_f64();
    first[0] = number;
    operands[0] = Array::new(first, operands[0].shape()).unwrap();
    operands.into_iter().map(Tensor::new).collect()
}

/// Losses of probabilities, which are none beyond 1.
const BOUNDED: [&str; 3] = ["bce", "dice", "tversky"];

#[test]
fn numbers_near_the_end_of_the_range_give_no_nan() {
    let mut compared = 0;
    for loss in ALL.iter().filter(|loss| !BOUNDED.contains(&loss.name)) {
        for number in [1e38, -1e38] {
            let (value, gradient) = value_and_gradient(loss, &with_first(loss, number));
            let both = [&value, &gradient];
            let on_device = Device::cpu().read_all(&both).unwrap();
            for found in values(&both).into_iter().chain(on_device.iter().map(Array::to_f64)) {
                assert!(!found.iter().any(|v| v.is_nan()), "{} at {number:e}: {found:?}", loss.name);
                compared += found.len();
            }
        }
    }
    assert!(compared > 20 * ALL.len());
}

/// Value and slope where the first number is +∞ and −∞. What is no number is a difference or product without a limit that
/// the formula could know.
const INFINITE: &str = "
mse: inf inf, inf -inf
weighted_mse: inf inf, inf -inf
mae: inf 1.000, inf -1.000
huber: inf 0.750, inf -0.750
smooth_l1: inf 1.000, inf -1.000
pseudo_huber: NaN NaN, NaN NaN
log_cosh: inf 1.000, inf -1.000
quantile: inf 0.700, inf -0.300
expectile: inf inf, inf -inf
sigmoid_l1: inf NaN, inf NaN
hinge: 0.000 0.000, inf -1.000
squared_hinge: 0.000 0.000, inf -inf
perceptron: 0.000 0.000, inf -1.000
margin_ranking: 0.000 0.000, inf -1.000
multi_margin: inf inf, 0.000 0.000
cross_entropy: NaN NaN, 0.049 0.000
CrossEntropy: NaN NaN, inf -0.017
label_smoothing: NaN NaN, inf -0.033
soft_cross_entropy: NaN NaN, inf -0.200
kl_divergence: NaN NaN, inf -0.200
jensen_shannon: NaN NaN, 0.156 0.000
linear_cross_entropy: NaN NaN, NaN NaN
bce_with_logits: NaN 0.000, inf -1.000
bce_with_pos_weight: NaN 0.000, inf -3.000
focal: NaN NaN, inf NaN
poisson_nll: NaN inf, inf -2.000
poisson_nll_with: NaN inf, inf -2.000
gamma_nll: inf 1.000, NaN -inf
gaussian_nll: inf inf, inf -inf
gaussian_nll_with_variance: inf inf, inf -inf
cosine_embedding: NaN NaN, NaN NaN
contrastive: inf inf, inf -inf
triplet: NaN 0.000, NaN 0.000
info_nce: NaN NaN, NaN NaN
nt_xent: NaN NaN, NaN NaN
ctc: NaN NaN, 2.339 0.000
";

#[test]
fn infinite_numbers_have_the_answers_of_the_table() {
    let device = Device::cpu();
    for evaluator in [&Reference::new() as &dyn Evaluate, &device] {
        let mut lines = String::new();
        for loss in ALL.iter().filter(|loss| !BOUNDED.contains(&loss.name)) {
            let of = |number| {
                let (value, gradient) = value_and_gradient(loss, &with_first(loss, number));
                let found = evaluator.evaluate(&[&value, &gradient]).unwrap();
                let [value, slope] = [&found[0], &found[1]].map(|array| array.to_f64()[0]);
                format!("{value:.3} {slope:.3}")
            };
            lines += &format!("{}: {}, {}\n", loss.name, of(f64::INFINITY), of(f64::NEG_INFINITY));
        }
        assert_eq!(lines, INFINITE.trim_start(), "{}", evaluator.name());
    }
}

#[test]
fn reductions_are_sum_and_mean_over_elements() {
    let (p, y) = (Tensor::new([[1.0, 2.0], [3.0, 5.0]]), Tensor::new(1.0));
    let of = |reduction| values(&[&mse(&p, &y, reduction)])[0].clone();
    assert_eq!(of(Reduction::None), [0.0, 1.0, 4.0, 16.0]);
    assert_eq!(of(Reduction::Sum), [21.0]);
    assert_eq!(of(Reduction::Mean), [5.25]);
}

#[test]
fn hinge_takes_half_the_slope_at_its_kink() {
    let (s, y) = (Tensor::new([2.0, 1.0, -0.2, 1.5]), Tensor::new([1.0, 1.0, -1.0, 1.0]));
    let loss = hinge(&s, &y, 0.5, Reduction::None);
    let slope = vjp(&[(&loss, &Tensor::ones([4]))], &s).unwrap().or_error().unwrap();
    assert_eq!(values(&[&loss, &slope]), [[0.0, 0.5, 1.3, 0.0], [0.0, -1.0, 1.0, -0.5]]);
}

#[test]
fn logits_give_relative_accuracy_far_out() {
    let (x, y) = (Tensor::new([17.0, 17.0]), Tensor::new([0.0, 1.0]));
    let loss = bce_with_logits(&x, &y, Reduction::None);
    let slope = vjp(&[(&loss, &Tensor::ones([2]))], &x).unwrap().or_error().unwrap();
    let found = values(&[&loss, &slope]);
    let tail = (-17f64).exp().ln_1p();
    assert_eq!(found[0], [17.0 + tail, tail]);
    assert!((found[1][1] + 1.0 / (1.0 + 17f64.exp())).abs() < f64::EPSILON * 1e-7);
}

#[test]
fn mutual_broadcasting_is_refused_by_every_elementwise_loss() {
    let mut checked = 0;
    for loss in ALL {
        let shapes: Vec<usize> = (loss.sample)().iter().map(|a| a.shape().rank()).collect();
        if shapes.contains(&2) {
            continue;
        }
        for column in 0..shapes.len() {
            let operands: Vec<Tensor> = (0..shapes.len())
                .map(|i| if i == column { Tensor::ones([3, 1]) } else { Tensor::ones([3]) })
                .collect();
            let wrong = (loss.function)(&operands);
            let error = wrong.error().unwrap();
            assert_eq!(error.code(), Code::Broadcast, "{}", loss.name);
            assert!(error.message().contains("would broadcast to [3, 3]"), "{error}");
            assert!(error.location().is_some(), "{error}");
            checked += 1;
        }
    }
    assert!(checked > ALL.len());
}

#[test]
fn one_operand_may_be_repeated_to_the_shape_of_another() {
    let (p, y) = (Tensor::ones([2, 3]), Tensor::zeros([3]));
    assert_eq!(values(&[&weighted_mse(&p, &y, &Tensor::new(2.0), Reduction::Sum)])[0], [12.0]);
    assert!(mse(&p, &Tensor::zeros([2]), Reduction::Mean).error().is_some());
}

#[test]
fn hyperparameters_outside_their_domain_are_refused() {
    let (p, y) = (Tensor::ones([2]), Tensor::zeros([2]));
    let labels = Tensor::new([0]);
    let logits = Tensor::ones([1, 2]);
    let wrong = [
        hinge(&p, &y, f64::NAN, Reduction::Mean),
        huber(&p, &y, 0.0, Reduction::Mean),
        huber(&p, &y, f64::INFINITY, Reduction::Mean),
        pseudo_huber(&p, &y, -1.0, Reduction::Mean),
        quantile(&p, &y, 1.0, Reduction::Mean),
        focal(&p, &y, f64::NAN, Reduction::Mean),
        label_smoothing(&logits, &labels, 1.0, Reduction::Mean),
        smooth_l1(&p, &y, 0.0, Reduction::Mean),
        expectile(&p, &y, 0.0, Reduction::Mean),
        margin_ranking(&p, &p, &y, f64::INFINITY, Reduction::Mean),
        multi_margin(&logits, &labels, f64::NAN, 1, Reduction::Mean),
        multi_margin(&logits, &labels, 1.0, 3, Reduction::Mean),
        CrossEntropy::new().smoothing(-0.1).apply(&logits, &labels, Reduction::Mean),
        gaussian_nll_with_variance(&p, &y, &p, 0.0, Constant::Exact, Reduction::Mean),
        cosine_embedding(&logits, &logits, &Tensor::ones([1]), 1.0, Reduction::Mean),
        contrastive(&logits, &logits, &Tensor::ones([1]), 0.0, Reduction::Mean),
        triplet(&logits, &logits, &logits, -1.0, Reduction::Mean),
        info_nce(&logits, &logits, 0.0, Reduction::Mean),
        nt_xent(&logits, &logits, f64::INFINITY, Reduction::Mean),
        dice(&logits, &logits, 0.0, Reduction::Mean),
        tversky(&logits, &logits, [0.5, -0.5], 1.0, Reduction::Mean),
        linear_cross_entropy(&logits, &Tensor::ones([2, 2]), None, &labels, 0, Reduction::Mean),
    ];
    for tensor in wrong {
        let error = tensor.error().unwrap();
        assert_eq!(error.code(), Code::Hyperparameter);
        assert_eq!(error.location().unwrap().file(), file!());
    }
}

#[test]
fn labels_and_targets_need_their_types() {
    let logits = Tensor::ones([2, 3]);
    let error = |t: Tensor| t.error().unwrap().code();
    assert_eq!(error(cross_entropy(&logits, &Tensor::ones([2]), Reduction::Mean)), Code::Dtype);
    assert_eq!(error(cross_entropy(&logits, &Tensor::new([0, 3]), Reduction::Mean)), Code::Index);
    assert_eq!(error(mse(&Tensor::new([1]), &Tensor::ones([1]), Reduction::Mean)), Code::Dtype);
    assert_eq!(error(soft_cross_entropy(&logits, &Tensor::ones([3]), Reduction::Mean)), Code::Broadcast);
}

#[test]
fn losses_of_rows_refuse_shapes_that_differ() {
    let (rows, column, flat) = (Tensor::ones([3, 2]), Tensor::ones([3, 1]), Tensor::ones([3]));
    let wrong = [
        kl_divergence(&rows, &column, Reduction::Mean),
        jensen_shannon(&rows, &flat, Reduction::Mean),
        cosine_embedding(&rows, &column, &flat, 0.5, Reduction::Mean),
        cosine_embedding(&rows, &rows, &column, 0.5, Reduction::Mean),
        contrastive(&rows, &rows, &column, 1.0, Reduction::Mean),
        triplet(&rows, &rows, &column, 1.0, Reduction::Mean),
        info_nce(&rows, &column, 1.0, Reduction::Mean),
        nt_xent(&flat, &flat, 1.0, Reduction::Mean),
        dice(&rows, &column, 1.0, Reduction::Mean),
        tversky(&rows, &flat, [0.5, 0.5], 1.0, Reduction::Mean),
        multi_margin(&rows, &Tensor::new([0, 1]), 1.0, 1, Reduction::Mean),
        CrossEntropy::new().apply(&rows, &Tensor::new([0, 1]), Reduction::Mean),
        CrossEntropy::new().class_weights(&flat).apply(&rows, &Tensor::new([0, 1, 0]), Reduction::Mean),
        dice(&Tensor::new(0.5), &Tensor::new(0.5), 1.0, Reduction::Mean),
    ];
    for (position, tensor) in wrong.iter().enumerate() {
        let error = tensor.error().unwrap_or_else(|| panic!("{position} is accepted"));
        assert_eq!(error.code(), Code::Broadcast, "{position}: {error}");
        assert!(error.location().is_some(), "{position}: {error}");
    }
}
