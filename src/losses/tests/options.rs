//! Classes with weights, rows that are left out, constants.

use super::*;

const NAN: f64 = f64::NAN;

fn of(tensor: &Tensor) -> Vec<f64> {
    values(&[tensor]).remove(0)
}
fn slope(loss: &Tensor, x: &Tensor) -> Vec<f64> {
    of(&grad(loss, x).unwrap().or_error().unwrap())
}

/// Logits with rows to leave out, and the rows that are left.
fn rows() -> (Tensor, Tensor) {
    let whole = [[1.0, -0.5, 2.0], [NAN, 0.5, NAN], [0.25, 3.0, -1.0], [f64::INFINITY, -1e38, 0.0]];
    (Tensor::new(whole), Tensor::new([whole[0], whole[2]]))
}

/// What rows 0 and 2 of four receive, and zeros beside it.
fn beside_zeros(kept: &[f64]) -> Vec<f64> {
    let width = kept.len() / 2;
    let zeros = vec![0.0; width];
    [&kept[..width], &zeros[..], &kept[width..], &zeros[..]].concat()
}

#[test]
fn an_ignored_row_is_a_dropped_row() {
    let ((whole, kept), weights) = (rows(), Tensor::new([0.5, 2.0, 1.0]));
    let variants = [
        CrossEntropy::new(),
        CrossEntropy::new().smoothing(0.25),
        CrossEntropy::new().class_weights(&weights),
        CrossEntropy::new().class_weights(&weights).smoothing(0.25),
    ];
    for loss in variants {
        let ignoring = loss.clone().ignore_index(-1);
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let a = ignoring.apply(&whole, &Tensor::new([2, -1, 0, -1]), reduction);
            let b = loss.apply(&kept, &Tensor::new([2, 0]), reduction);
            assert_eq!(of(&a), of(&b), "{loss:?}");
            assert_eq!(slope(&a, &whole), beside_zeros(&slope(&b, &kept)), "{loss:?}");
            for device in Device::all() {
                let gradient = grad(&a, &whole).unwrap().or_error().unwrap();
                let dropped = grad(&b, &kept).unwrap().or_error().unwrap();
                let [gradient, dropped] = [&gradient, &dropped].map(|t| device.read(t).unwrap().to_f64());
                // Adapters may sum rows in another order beside other work, but nothing enters a row that is left out.
                assert_eq!(
                    (&gradient[3..6], &gradient[9..]),
                    (&[0.0; 3][..], &[0.0; 3][..]),
                    "{}",
                    device.slug()
                );
                assert!(dropped.iter().chain(&gradient).all(|v| v.is_finite()), "{}", device.slug());
            }
        }
        let each = ignoring.apply(&whole, &Tensor::new([2, -1, 0, -1]), Reduction::None);
        let kept = of(&loss.apply(&kept, &Tensor::new([2, 0]), Reduction::None));
        assert_eq!(of(&each), [kept[0], 0.0, kept[1], 0.0]);
    }
}

#[test]
fn a_masked_row_is_a_dropped_row() {
    let (whole, kept) = rows();
    let (labels, mask) = (Tensor::new([2, 0, 0, 1]), Tensor::new([true, false, true, false]));
    let targets = Tensor::new([[0.1, 0.2, 0.7], [0.2, 0.3, 0.5], [0.4, 0.6, 0.0], [1.0, 0.0, 0.0]]);
    let few = Tensor::new([[0.1, 0.2, 0.7], [0.4, 0.6, 0.0]]);
    let pairs = [
        (
            cross_entropy(&whole, &labels, Reduction::None),
            cross_entropy(&kept, &Tensor::new([2, 0]), Reduction::None),
        ),
        (kl_divergence(&whole, &targets, Reduction::None), kl_divergence(&kept, &few, Reduction::None)),
        (jensen_shannon(&whole, &targets, Reduction::None), jensen_shannon(&kept, &few, Reduction::None)),
        (mse(&whole, &targets, Reduction::None).sum(-1), mse(&kept, &few, Reduction::None).sum(-1)),
        (
            triplet(&whole, &targets, &(&targets + 1.0), 1.0, Reduction::None),
            triplet(&kept, &few, &(&few + 1.0), 1.0, Reduction::None),
        ),
    ];
    for (all, few) in &pairs {
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let (a, b) = (masked(all, &mask, reduction), reduction.apply(few));
            assert_eq!(of(&a), of(&b));
            assert_eq!(slope(&a, &whole), beside_zeros(&slope(&b, &kept)));
        }
        let each = of(few);
        assert_eq!(of(&masked(all, &mask, Reduction::None)), [each[0], 0.0, each[1], 0.0]);
    }
    // Elements instead of rows, with the mask repeated.
    let elements = masked(&mae(&whole, &targets, Reduction::None), &mask.unsqueeze(-1), Reduction::Mean);
    assert_eq!(of(&elements), of(&mae(&kept, &few, Reduction::Mean)));
}

#[test]
fn a_mean_of_nothing_is_zero_and_passes_nothing_back() {
    let x = Tensor::new([NAN, 2.0]);
    let loss = masked(&x.pow(2), &Tensor::new([false, false]), Reduction::Mean);
    assert_eq!((of(&loss), slope(&loss, &x)), (vec![0.0], vec![0.0, 0.0]));
    let logits = Tensor::new([[NAN, 1.0]]);
    let ignored = CrossEntropy::new().ignore_index(7).apply(&logits, &Tensor::new([7]), Reduction::Mean);
    assert_eq!((of(&ignored), slope(&ignored, &logits)), (vec![0.0], vec![0.0, 0.0]));
    let (y, w) = (Tensor::new([1.0, 2.0]), Tensor::zeros([2]));
    let weighted = weighted(&y.pow(2), &w, Reduction::Mean);
    assert_eq!((of(&weighted), slope(&weighted, &y)), (vec![0.0], vec![0.0, 0.0]));
}

#[test]
fn weights_normalize_and_have_derivatives_of_their_own() {
    let (x, w) = (Tensor::new([[1.0, 3.0], [2.0, 5.0]]), Tensor::new([4.0, 0.0]));
    let loss = weighted(&x.pow(2), &w, Reduction::Mean);
    assert_eq!(of(&loss), [4.0 * (1.0 + 4.0) / 8.0]);
    assert_eq!(slope(&loss, &x), [1.0, 0.0, 2.0, 0.0]);
    assert_eq!(of(&weighted(&x.pow(2), &w, Reduction::None)), [4.0, 0.0, 16.0, 0.0]);
    assert_eq!(of(&weighted(&x.pow(2), &w, Reduction::Sum)), [20.0]);
    // A weight of 0 is a point like any other: the derivative is (Σ of its column − 2·mean)/Σw.
    assert_eq!(slope(&loss, &w), [(5.0 - 2.0 * 2.5) / 8.0, (34.0 - 2.0 * 2.5) / 8.0]);
    let report = GradCheck::new().order(2).run(
        |[x, w]| weighted(&x.pow(2), &w, Reduction::Mean),
        [&x, &w],
        &Reference::new(),
    );
    assert!(report.unwrap().is_ok());
}

#[test]
fn masks_and_weights_that_do_not_fit_are_refused() {
    let loss = Tensor::ones([3]);
    let code = |t: Tensor| t.error().unwrap().code();
    assert_eq!(code(masked(&loss, &Tensor::ones([3]), Reduction::Mean)), Code::Dtype);
    assert_eq!(code(masked(&loss, &Tensor::new([true, false]), Reduction::Mean)), Code::Broadcast);
    assert_eq!(code(masked(&loss, &Tensor::new([[true], [false]]), Reduction::Mean)), Code::Broadcast);
    assert_eq!(code(weighted(&loss, &Tensor::ones([3, 1]), Reduction::Mean)), Code::Broadcast);
    assert_eq!(code(weighted(&loss, &Tensor::new([1, 2, 3]), Reduction::Mean)), Code::Dtype);
    let wrong = masked(&loss, &Tensor::new([[true]]), Reduction::Mean);
    let error = wrong.error().unwrap();
    assert_eq!(error.location().unwrap().file(), file!());
    assert!(error.message().contains("mask [1, 1] does not repeat to the shape [3] of the loss"), "{error}");
}

/// Kernels that read all logits, for the mean of a loss and its gradient.
#[test]
fn options_cost_at_most_one_more_pass_over_the_logits() {
    let (logits, labels) =
        (Tensor::input("logits", [64, 100], DType::F32), Tensor::input("labels", [64], DType::I32));
    let weights = Tensor::input("weights", [100], DType::F32);
    let passes = |loss: Tensor| {
        let gradient = grad(&loss, &logits).unwrap().or_error().unwrap();
        let inputs = [&logits, &labels, &weights];
        let step = cotangent_device::Step::new(&Device::cpu(), &inputs, &[&loss, &gradient], &[]).unwrap();
        step.explain().lines().filter(|line| line.contains("kept [64] reduced [100]")).count()
    };
    let of = |loss: CrossEntropy| passes(loss.apply(&logits, &labels, Reduction::Mean));
    let loss = CrossEntropy::new();
    assert_eq!(passes(cross_entropy(&logits, &labels, Reduction::Mean)), 1);
    assert_eq!(of(loss.clone()), 1);
    assert_eq!(of(loss.clone().ignore_index(-1).smoothing(0.1)), 1);
    // The gradient waits for the sum of the weights of the labels.
    let weighted = loss.class_weights(&weights);
    assert_eq!(of(weighted.clone()), 2);
    assert_eq!(of(weighted.ignore_index(-1).smoothing(0.1)), 2);
}

#[test]
fn class_weights_and_smoothing_are_their_formula() {
    let (x, weights) = ([1.0, -0.5, 2.0], [0.5, 2.0, 1.0]);
    let normalizer: f64 = x.iter().map(|v: &f64| v.exp()).sum::<f64>().ln();
    let surprise = x.map(|v| normalizer - v);
    let everything: f64 = surprise.iter().zip(weights).map(|(s, w)| s * w).sum::<f64>() / 3.0;
    let expected = 0.8 * weights[1] * surprise[1] + 0.2 * everything;
    let loss = CrossEntropy::new().class_weights(&Tensor::new(weights)).smoothing(0.2);
    let (logits, label) = (Tensor::new([x]), Tensor::new([1u32]));
    let found = of(&loss.apply(&logits, &label, Reduction::Sum))[0];
    assert!((found - expected).abs() < 16.0 * f64::EPSILON, "{found} {expected}");
    let mean = of(&loss.apply(&logits, &label, Reduction::Mean))[0];
    assert_eq!(mean, found / weights[1]);
    // A negative label is none of U32.
    let ignoring = loss.clone().ignore_index(-1).apply(&logits, &label, Reduction::Mean);
    assert_eq!(of(&ignoring)[0], mean);
    // Without options it is the plain loss.
    let plain = CrossEntropy::new().apply(&logits, &label, Reduction::Mean);
    assert_eq!(of(&plain), of(&cross_entropy(&logits, &label, Reduction::Mean)));
    let smooth = CrossEntropy::new().smoothing(0.2).apply(&logits, &label, Reduction::Mean);
    assert_eq!(of(&smooth), of(&label_smoothing(&logits, &label, 0.2, Reduction::Mean)));
}

#[test]
fn labels_outside_the_classes_are_refused_by_every_loss_of_classes() {
    let (rows, outside) =
        (Tensor::ones([2, 3]), [Tensor::new([0, 3]), Tensor::new([-1, 0]), Tensor::new([0u32, 3])]);
    let losses: [&dyn Fn(&Tensor) -> Tensor; 4] = [
        &|labels| cross_entropy(&rows, labels, Reduction::Mean),
        &|labels| CrossEntropy::new().ignore_index(9).apply(&rows, labels, Reduction::Mean),
        &|labels| multi_margin(&rows, labels, 1.0, 1, Reduction::Mean),
        &|labels| linear_cross_entropy(&rows, &Tensor::ones([3, 3]), None, labels, 1, Reduction::Mean),
    ];
    let devices = Device::all();
    for (position, loss) in losses.iter().enumerate() {
        for labels in &outside {
            assert_eq!(loss(labels).error().map(Error::code), Some(Code::Index), "{position}");
            // Where they are computed, they are looked at then.
            let computed = labels.max(labels);
            assert!(loss(&computed).error().is_none(), "{position}");
            assert_eq!(Reference::new().evaluate(&[&loss(&computed)]).unwrap_err().code(), Code::Index);
            for device in &devices {
                let error = device.read(&loss(&computed)).unwrap_err();
                assert_eq!(error.code(), Code::Index, "{position} on {}", device.slug());
            }
        }
    }
}

#[test]
fn a_variance_below_its_floor_passes_its_gradient() {
    let (mean, y, variance) = (Tensor::new(1.0), Tensor::new(2.0), Tensor::new(0.0));
    let loss = gaussian_nll_with_variance(&mean, &y, &variance, 0.5, Constant::Dropped, Reduction::Mean);
    assert_eq!(of(&loss), [0.5 * (0.5f64.ln() + 2.0)]);
    assert_eq!((slope(&loss, &mean), slope(&loss, &variance)), (vec![-2.0], vec![-1.0]));
}

#[test]
fn constants_depend_on_the_target_alone() {
    let (eta, y) = (Tensor::new([1.0, 1.0, 1.0]), Tensor::new([0.0, 1.0, 2.0]));
    let loss = |constant| poisson_nll_with(&eta, &y, constant, Reduction::Sum);
    let slopes = [Constant::Dropped, Constant::Stirling, Constant::Exact].map(|c| slope(&loss(c), &eta));
    assert_eq!((&slopes[0], &slopes[1]), (&slopes[1], &slopes[2]));
    assert_eq!(of(&loss(Constant::Dropped)), of(&poisson_nll(&eta, &y, Reduction::Sum)));
}

#[test]
fn divergences_keep_their_digits_where_distributions_are_near() {
    // To second order both are sums of squares of the gap, here of ±1e-5 in one logit pair.
    let gap = 1e-5f64;
    let logits = Tensor::new([[gap, -gap]]);
    let half = Tensor::new([[0.5, 0.5]]);
    let found = of(&jensen_shannon(&logits, &half, Reduction::Sum))[0];
    // With p = ½(1 ± tanh gap): JS = gap²/8·(1 + O(gap²)).
    assert!((found / (gap * gap / 8.0) - 1.0).abs() < 4.0 * gap * gap + 32.0 * f64::EPSILON / gap, "{found}");
    // In single precision the gap of 1e-2 is off by a few roundings of numbers near 1; in the loss that is twice as much. The
    // difference of entropies would be off by a hundredth.
    let gap = 1e-2;
    let loss = jensen_shannon(&Tensor::new([[gap, -gap]]), &half, Reduction::Sum);
    let allowed = (2.0 * 8.0 / gap + 32.0) * f64::from(f32::EPSILON);
    for device in Device::all() {
        let found = device.read(&loss).unwrap().scalar().unwrap();
        assert!((found / of(&loss)[0] - 1.0).abs() < allowed, "{}: {found}", device.slug());
    }
    let disjoint = Tensor::new([[f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY]]);
    let other = Tensor::new([[1.0, 0.0, 0.0]]);
    let loss = jensen_shannon(&disjoint, &other, Reduction::Sum);
    assert_eq!((of(&loss), slope(&loss, &disjoint)), (vec![2f64.ln()], vec![0.0; 3]));
    assert_eq!(of(&kl_divergence(&disjoint, &other, Reduction::Sum)), [f64::INFINITY]);
}
