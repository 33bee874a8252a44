use cotangent_autograd::{gauss_newton_product, grad, hessian, jacobian};
use cotangent_device::Device;
use cotangent_tensor::{Array, Code, DType, Evaluate, Key, Reference, Shape, Tensor};

use super::*;
use crate::losses::Reduction;

mod pairs;

fn values(tensors: &[&Tensor]) -> Vec<Vec<f64>> {
    Reference::new().evaluate(tensors).unwrap().iter().map(Array::to_f64).collect()
}
/// Families whose observations are numbers.
fn numbers() -> Vec<Family> {
    Family::all().into_iter().filter(|family| !family.has_rows()).collect()
}
/// Those whose natural parameter may be any number, and the categorical one.
fn unbounded() -> [Family; 4] {
    [Family::gaussian(), Family::bernoulli(), Family::categorical(), Family::poisson()]
}
/// Literals show twelve digits; values that are computed in two ways in f64 differ by less.
fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 5e-12 * (1.0 + b.abs()), "{a} is not {b}");
    }
}

#[test]
fn every_family_has_the_mean_and_variance_of_its_log_partition() {
    for family in Family::all() {
        let [eta, _] = family.samples().unwrap();
        family.check(&eta.to_f64(), &Reference::new()).unwrap();
    }
}

#[test]
fn the_loss_has_the_residual_as_gradient_and_the_variance_as_second_derivative() {
    for family in numbers() {
        let [eta, target] = family.samples().unwrap().map(Tensor::new);
        let loss = family.nll(&eta, &target, Reduction::Sum);
        let slope = grad(&loss, &eta).unwrap().or_error().unwrap();
        let second = grad(&slope.sum(..), &eta).unwrap().or_error().unwrap();
        let found = values(&[&slope, &second, &family.residual(&eta, &target), &family.variance(&eta)]);
        close(&found[0], &found[2]);
        close(&found[1], &found[3]);
        // The residual is a constant.
        let none = vjp(&[(&family.residual(&eta, &target), &Tensor::ones(*eta.shape()))], &eta).unwrap();
        assert!(none.value().is_none(), "{}", family.name());
    }
}

/// Whatever a row holds that a mask leaves out, it has no influence: by the canonical link and others, at first and second order.
#[test]
fn what_is_masked_reaches_no_derivative() {
    let linked = [
        Family::bernoulli().with_link(Link::Cloglog).unwrap(),
        Family::poisson().with_link(Link::Softplus).unwrap(),
    ];
    for family in numbers().into_iter().chain(linked) {
        let [etas, targets] = family.samples().unwrap().map(|samples| samples.to_f64());
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e300];
        let (mut eta, mut target, mut kept) = (vec![], vec![], vec![]);
        for bad in bad {
            eta.extend([etas[1], bad]);
            target.extend([targets[1], f64::NAN]);
            kept.extend([true, false]);
        }
        let (eta, target) = (Tensor::new(eta), Tensor::new(target));
        let loss = Tensor::new(kept).select(family.nll(&eta, &target, Reduction::None), 0.0);
        let slope = grad(&loss.sum(..), &eta).unwrap().or_error().unwrap();
        let second = grad(&slope.sum(..), &eta).unwrap().or_error().unwrap();
        for values in values(&[&slope, &second]) {
            let masked: Vec<f64> = values.iter().skip(1).step_by(2).copied().collect();
            assert_eq!(masked, [0.0; 5], "{}", family.name());
            assert!(values.iter().step_by(2).all(|value| *value == values[0] && value.is_finite()));
        }
    }
}

#[test]
fn categorical_residual_and_loss_are_those_of_the_conformance_suite() {
    let eta = Tensor::new([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]);
    let labels = Tensor::new([2, 0]);
    let family = Family::categorical();
    let found =
        values(&[&(family.residual(&eta, &labels) / 2.0), &family.nll(&eta, &labels, Reduction::Mean)]);
    let third = 1.0 / 3.0;
    let expected = [0.0450152865852, 0.122364235527, -0.167379522113, -third, third / 2.0, third / 2.0];
    close(&found[0], &expected);
    close(&found[1], &[0.753109126556]);
}

#[test]
fn the_categorical_variance_keeps_its_digits_where_a_class_is_certain() {
    let family = Family::categorical();
    // e⁻²⁰/(1 + e⁻²⁰)², which 1 − p loses in f32 and half of in f64.
    let small = (-20f64).exp() / (1.0 + (-20f64).exp()).powi(2);
    let eta = Tensor::new([[20.0, 0.0], [0.0, 20.0]]);
    close(&values(&[&(family.variance(&eta) / small)])[0], &[1.0; 4]);
    let mut devices = 0;
    for device in Device::all() {
        for value in device.read(&family.variance(&eta)).unwrap().to_f64() {
            // Two exponentials, a quotient and a product in f32.
            assert!(
                (value / small - 1.0).abs() <= 16.0 * f64::from(f32::EPSILON),
                "{}: {value}",
                device.slug()
            );
        }
        devices += 1;
    }
    assert!(devices >= 1);
    let three = Tensor::new([[0.5, -1.0, 2.0]]);
    let p = &values(&[&three.softmax(-1)])[0];
    let expected: Vec<f64> = p.iter().map(|p| p * (1.0 - p)).collect();
    close(&values(&[&family.variance(&three)])[0], &expected);
    // One class alone is certain.
    assert_eq!(values(&[&family.variance(&Tensor::new([[3.0]]))])[0], [0.0]);
}

#[test]
fn deviances_are_those_of_statsmodels() {
    let (y, mean) = (Tensor::new([0.0, 1.0, 3.0, 7.0]), Tensor::new([0.5, 1.5, 2.0, 9.0]));
    let poisson = [1.0, 0.189069783784, 0.432790648649, 0.481598004067];
    close(&values(&[&Family::poisson().deviance(&y, &mean)])[0], &poisson);
    let (y, mean) = (Tensor::new([0.0, 1.0, 1.0, 0.0]), Tensor::new([0.1, 0.9, 0.25, 0.6]));
    let bernoulli = [0.210721031316, 0.210721031316, 2.77258872224, 1.83258146375];
    close(&values(&[&Family::bernoulli().deviance(&y, &mean)])[0], &bernoulli);
    let mean = Tensor::new([[0.25, 0.75]]);
    let found = values(&[&Family::categorical().deviance(&Tensor::new([1]), &mean)]);
    close(&found[0], &[-2.0 * 0.75f64.ln()]);
}

#[test]
fn the_deviance_of_a_perfect_prediction_is_zero() {
    let (y, mean) = (Tensor::new([0.0, 0.0, 1.0]), Tensor::new([0.0, 0.5, 1.0]));
    let (bernoulli, poisson) = (Family::bernoulli(), Family::poisson());
    let found = values(&[&bernoulli.deviance(&y, &mean), &poisson.deviance(&y, &mean)]);
    close(&found[0], &[0.0, 2.0 * 2f64.ln(), 0.0]);
    close(&found[1], &[0.0, 1.0, 0.0]);
    // What cannot happen under the mean is infinitely unlikely.
    let impossible = poisson.deviance(&Tensor::new([2.0]), &Tensor::new([0.0]));
    assert_eq!(values(&[&impossible])[0], [f64::INFINITY]);
}

#[test]
fn the_deviance_at_eta_is_that_at_the_mean_and_finite_where_the_mean_rounds() {
    for family in numbers().into_iter().filter(Family::has_deviance) {
        let [eta, y] = family.samples().unwrap().map(Tensor::new);
        let found = values(&[&family.deviance_at(&y, &eta), &family.deviance(&y, &family.mean(&eta))]);
        close(&found[0], &found[1]);
    }
    let (labels, eta) = (Tensor::new([2, 0]), Tensor::new([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]));
    let family = Family::categorical();
    let found = values(&[&family.deviance_at(&labels, &eta), &family.deviance(&labels, &family.mean(&eta))]);
    close(&found[0], &found[1]);
    let far =
        Family::bernoulli().deviance_at(&Tensor::new([0.0, 1.0, 1.0]), &Tensor::new([60.0, -60.0, 60.0]));
    let found = values(&[&far]);
    assert_eq!(found[0][..2], [120.0, 120.0]);
    assert!(found[0][2] > 0.0 && found[0][2] < f64::EPSILON);
}

#[test]
fn a_family_of_ones_own_needs_one_function() {
    let own = Family::from_log_partition("own", Tensor::exp);
    let (eta, y) = (Tensor::new([-1.0, 0.5]), Tensor::new([0.0, 2.0]));
    let poisson = Family::poisson();
    let found = values(&[
        &own.mean(&eta),
        &poisson.mean(&eta),
        &own.variance(&eta),
        &own.nll(&eta, &y, Reduction::None),
        &poisson.nll(&eta, &y, Reduction::None),
    ]);
    close(&found[0], &found[1]);
    close(&found[2], &found[1]);
    close(&found[3], &found[4]);
    let from_mean = Family::from_mean("own", Tensor::exp);
    close(&values(&[&from_mean.variance(&eta)])[0], &found[1]);
    assert_eq!(from_mean.nll(&eta, &y, Reduction::Sum).error().unwrap().code(), Code::Family);
    from_mean.check(&[0.0, 1.0], &Reference::new()).unwrap();
    let falling = Family::from_mean("falling", |eta| -eta);
    let error = falling.check(&[0.5], &Reference::new()).unwrap_err();
    assert!(error.message().contains("the variance -1"), "{error}");
}

#[test]
fn shapes_that_would_broadcast_against_each_other_are_refused() {
    let (eta, y) = (Tensor::ones([3, 1]), Tensor::ones([3]));
    for family in Family::all().into_iter().filter(|family| !family.is_categorical()) {
        let mut wrong = vec![family.residual(&eta, &y), family.nll(&eta, &y, Reduction::Mean)];
        if family.has_deviance() {
            wrong.push(family.deviance(&y, &eta));
        }
        for wrong in wrong {
            assert_eq!(wrong.error().unwrap().code(), Code::Broadcast, "{}", family.name());
        }
    }
    assert_eq!(Family::named("poison").unwrap_err().code(), Code::Family);
}

/// Parameters `[3, 4]` and `[4, outputs]`, directions of the same shapes, and `η` of six observations: `[6]`,
/// or `[6, 4]` for the categorical family.
fn network(family: &Family, activation: impl Fn(Tensor) -> Tensor) -> ([Tensor; 2], [Tensor; 2], Tensor) {
    let outputs = if family.is_categorical() { 4 } else { 1 };
    let normal = |name: &str, shape: [usize; 2]| Tensor::normal(Key::new(5).stream(name), 0u32, shape) * 0.5;
    let of =
        |prefix: &str| [normal(&format!("{prefix}1"), [3, 4]), normal(&format!("{prefix}2"), [4, outputs])];
    let (w, v) = (of("w"), of("v"));
    let output = activation(normal("x", [6, 3]).matmul(&w[0])).matmul(&w[1]);
    let eta = if family.is_categorical() { output } else { output.squeeze(-1) };
    // Families of one's own may want η below zero.
    (w, v, if family.name() == "gamma" { -(eta.pow(2) + 0.5) } else { eta })
}

/// Every built-in family, and families of one's own that have a log-partition only, a mean only, and both.
fn families() -> Vec<Family> {
    let mut families = unbounded().to_vec();
    families.push(Family::from_log_partition("gamma", |eta| -(-eta).log()));
    families.push(Family::from_mean("cubic", |eta| eta + eta.pow(3)));
    families.push(Family::from_log_partition("count", Tensor::exp).with_mean(Tensor::exp));
    families
}

/// `V` of every observation as one matrix, from formulas.
fn dense_variance(family: &Family, eta: &Tensor) -> Tensor {
    let elements = eta.shape().elements();
    let eye = |n: usize| Tensor::iota([n, n], 0).eq(Tensor::iota([n, n], 1)).cast(DType::F32);
    if !family.is_categorical() {
        return family.variance(eta).unsqueeze(0) * eye(elements);
    }
    let (rows, classes) = (eta.shape()[0], eta.shape()[1]);
    let p = eta.softmax(-1);
    let blocks = p.unsqueeze(-1) * eye(classes) - p.unsqueeze(-1) * p.unsqueeze(-2);
    // Block r of the diagonal is that of row r.
    let placed = blocks.unsqueeze(2) * eye(rows).unsqueeze(1).unsqueeze(-1);
    placed.reshape(Shape::new(&[elements, elements]).unwrap())
}

#[test]
fn the_fisher_product_is_the_product_with_its_dense_factors() {
    let devices = Device::all();
    assert!(!devices.is_empty());
    for family in families() {
        let (w, v, eta) = network(&family, |hidden| hidden.tanh());
        let products = family.fisher_product(&eta, &w, &v).unwrap();
        let elements = eta.shape().elements();
        let flat = |t: &Tensor| t.reshape([-1]);
        let jacobians = jacobian(&eta, &w).unwrap();
        let [j1, j2] =
            [0, 1].map(|i| jacobians[i].reshape(Shape::new(&[elements, w[i].shape().elements()]).unwrap()));
        let moved = j1.matmul(&flat(&v[0])) + j2.matmul(&flat(&v[1]));
        let curved = dense_variance(&family, &eta).matmul(&moved);
        let dense = [j1, j2].map(|j| j.transpose().matmul(&curved));
        let found = values(&[&flat(&products[0]), &flat(&products[1]), &dense[0], &dense[1]]);
        close(&found[0], &found[2]);
        close(&found[1], &found[3]);
        assert!(found[0].iter().any(|value| value.abs() > 0.01), "{}: nothing to compare", family.name());
        // Positive along the direction.
        let along = (&products[0] * &v[0]).sum(..) + (&products[1] * &v[1]).sum(..);
        assert!(values(&[&along])[0][0] > 0.0);
        for device in &devices {
            let report = cotangent_device::cross_check(device, &[&products[0], &products[1]]).unwrap();
            assert!(report.cases > 0 && report.worst_ratio <= 1.0, "{} on {}", family.name(), device.slug());
        }
    }
}

#[test]
fn the_fisher_product_is_that_of_the_hessian_where_the_model_is_linear_and_of_gauss_newton_elsewhere() {
    let mut compared = 0;
    for family in families().into_iter().filter(|f| !matches!(f.name(), "cubic" | "gamma")) {
        let labels = Tensor::new([0, 3, 1, 1, 2, 0]);
        let target = if family.is_categorical() { labels } else { labels.cast(DType::F32) / 3.0 };
        let (w, v, eta) = network(&family, |hidden| hidden.tanh());
        // η is linear in the last parameters alone.
        let loss = family.nll(&eta, &target, Reduction::Sum);
        let product = family.fisher_product(&eta, &w[1], &v[1]).unwrap();
        let n = w[1].shape().elements();
        let dense =
            hessian(&loss, &w[1]).unwrap().reshape(Shape::new(&[n, n]).unwrap()).matmul(&v[1].reshape([-1]));
        let found = values(&[&product.reshape([-1]), &dense]);
        close(&found[0], &found[1]);
        // A mean divides by the six observations.
        let mean = family.nll(&eta, &target, Reduction::Mean);
        let other = gauss_newton_product(&mean, &eta, &w, &v).unwrap();
        let product = family.fisher_product(&eta, &w, &v).unwrap();
        let found = values(&[&product[0], &product[1], &(&other[0] * 6.0), &(&other[1] * 6.0)]);
        close(&found[0], &found[2]);
        close(&found[1], &found[3]);
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[test]
fn the_categorical_information_product_keeps_its_digits_where_a_class_is_certain() {
    // Between two classes V·d is ±p·(1 − p)·(d₀ − d₁).
    let small = (-20f64).exp() / (1.0 + (-20f64).exp()).powi(2);
    let (eta, d) = (Tensor::new([[20.0, 0.0], [0.0, 20.0]]), Tensor::new([[3.0, 1.0], [1.0, 3.0]]));
    let product = Family::categorical().information_product(&eta, &d) / small;
    close(&values(&[&product])[0], &[2.0, -2.0, -2.0, 2.0]);
    let devices = Device::all();
    assert!(!devices.is_empty());
    for device in devices {
        let found = device.read(&product).unwrap().to_f64();
        // Two exponentials, quotients, products and a difference in f32.
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 64.0 * f64::from(f32::EPSILON);
        assert!(found.iter().zip(&[2.0, -2.0, -2.0, 2.0]).all(near), "{}: {found:?}", device.slug());
    }
}

#[test]
fn a_fisher_product_names_what_does_not_fit() {
    let (w, v, eta) = network(&Family::poisson(), |hidden| hidden.tanh());
    let family = Family::poisson();
    let few = family.fisher_product(&eta, &w, [&v[0]]).unwrap_err();
    let swapped = family.fisher_product(&eta, &w, [&v[1], &v[0]]).unwrap_err();
    for (error, text) in [(few, "1 directions for 2 tensors"), (swapped, "tangent")] {
        assert_eq!(error.code(), Code::Cotangent);
        assert!(error.message().contains(text), "{error}");
        assert!(error.to_string().contains("src/families/tests/mod.rs"), "{error}");
    }
    let wrong = family.information_product(&Tensor::ones([3, 1]), &Tensor::ones([3]));
    assert_eq!(wrong.error().unwrap().code(), Code::Broadcast);
    // What η does not depend on has no information; where it depends on nothing, that is a mistake.
    let (other, one) = (Tensor::ones([2]), Tensor::ones([2]));
    let error = family.fisher_product(&eta, &other, &one).unwrap_err();
    assert_eq!(error.code(), Code::Unconnected);
    let beside = family.fisher_product(&eta, [&w[0], &other], [&v[0], &one]).unwrap();
    assert_eq!(values(&[&beside[1]])[0], [0.0, 0.0]);
}

/// Families with a deviance whose observations are numbers, at several values of their parameters.
fn with_deviance() -> Vec<Family> {
    let mut families: Vec<Family> = numbers().into_iter().filter(Family::has_deviance).collect();
    families.extend([1e-9, 1e-3, 10.0].map(|alpha| Family::negative_binomial(alpha).unwrap()));
    families.extend([1.0001, 1.3, 1.9999].map(|power| Family::tweedie(power).unwrap()));
    families
}

#[test]
fn deviances_near_a_perfect_prediction_are_squares_over_the_variance() {
    for family in with_deviance().iter().filter(|family| family.name() != "hyperbolic_secant") {
        for mean in [0.4, 1e-5] {
            let y = Tensor::new([mean * (1.0 + 1e-8), mean * (1.0 - 1e-8)]);
            let means = Tensor::new([mean, mean]);
            let family = family.clone().with_any_link(Link::Identity).unwrap();
            let expected = (&y - &means).pow(2) / family.variance(&means);
            let found = values(&[&family.deviance(&y, &means), &expected]);
            for (a, b) in found[0].iter().zip(&found[1]) {
                assert!((a / b - 1.0).abs() < 1e-6, "{family:?} at {mean}: {a} is not {b}");
            }
        }
    }
}

#[test]
fn deviances_of_numbers_far_apart_are_finite_and_have_their_digits() {
    let of = |family: &Family, y: f64, mean: f64| {
        values(&[&family.deviance(&Tensor::new([y]), &Tensor::new([mean]))])[0][0]
    };
    let near = |found: f64, expected: f64| {
        assert!((found / expected - 1.0).abs() < 1e-13, "{found} is not {expected}");
    };
    near(of(&Family::poisson(), 1.0, 1e17), 2.0 * (1e-17f64.ln() - 1.0 + 1e17));
    near(of(&Family::gamma(), 1e-18, 1.0), 2.0 * (-1.0 - 1e-18f64.ln()));
    near(of(&Family::gamma(), 1e-14, 1.0), 2.0 * (1e-14 - 1.0 - 1e-14f64.ln()));
    let geometric = Family::geometric();
    near(of(&geometric, 0.0, 1e17), 2.0 * 1e17f64.ln());
    near(of(&geometric, 0.0, 1e14), 2.0 * 1e14f64.ln_1p());
    near(of(&Family::hyperbolic_secant(), 1e9, 0.0), 2.0 * (1e9 * 1e9f64.atan() - 1e9f64.ln()));
    // The same number by the textbook formulas, on both sides of where series end.
    for (y, mean) in
        [(1.0f64, 0.5f64), (1.0, 0.81), (1.0, 0.83), (1.0, 1.21), (1.0, 1.23), (2.0, 9.0), (0.0, 3.0)]
    {
        let log = if y > 0.0 { y * (y / mean).ln() } else { 0.0 };
        let poisson = 2.0 * (log - (y - mean));
        let close = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-13 * (1.0 + expected),
                "{y} {mean}: {found} is not {expected}"
            );
        };
        close(of(&Family::poisson(), y, mean), poisson);
        let overdispersed = 2.0 * (log - (y + 2.0) * ((y + 2.0) / (mean + 2.0)).ln());
        close(of(&Family::negative_binomial(0.5).unwrap(), y, mean), overdispersed);
        for p in [1.4f64, 1.6] {
            let (a, b) = (2.0 - p, 1.0 - p);
            let tweedie = 2.0 * (y.powf(a) / (a * b) - y * mean.powf(b) / b + mean.powf(a) / a);
            close(of(&Family::tweedie(p).unwrap(), y, mean), tweedie);
        }
        // Towards the ends of its powers the Tweedie family is Poisson and gamma.
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-8);
        near(of(&Family::tweedie(1.0 + 1e-10).unwrap(), y, mean), poisson);
        if y > 0.0 {
            let gamma = of(&Family::gamma(), y, mean);
            near(gamma, 2.0 * ((y - mean) / mean - (y / mean).ln()));
            near(of(&Family::tweedie(2.0 - 1e-10).unwrap(), y, mean), gamma);
        }
    }
}

#[test]
fn the_likelihood_of_a_negative_binomial_keeps_its_digits_as_alpha_vanishes() {
    let (z, y) = (Tensor::new([0.3, 0.3, 0.3]), Tensor::new([0.0, 2.0, 7.0]));
    let poisson = &values(&[&Family::poisson().log_likelihood(&z, &y)])[0];
    let of = |alpha: f64| {
        let family = Family::negative_binomial(alpha).unwrap().with_link(Link::Log).unwrap();
        values(&[&family.log_likelihood(&z, &y)]).remove(0)
    };
    for (a, b) in of(1e-15).iter().zip(poisson) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }
    // Γ(r + y)/(Γ(r)·y!) as a product, and probabilities r/(r + μ).
    for alpha in [0.05, 0.5] {
        let (r, mean) = (1.0 / alpha, 0.3f64.exp());
        for (found, y) in of(alpha).into_iter().zip([0, 2, 7]) {
            let choices: f64 = (0..y).map(|k| ((r + f64::from(k)) / f64::from(k + 1)).ln()).sum();
            let expected = choices + r * (r / (r + mean)).ln() + f64::from(y) * (mean / (r + mean)).ln();
            assert!((found - expected).abs() < 1e-13 * (1.0 - expected), "{found} is not {expected}");
        }
    }
}

#[test]
fn links_take_means_at_the_ends_of_their_range() {
    let of = |link: Link, means: &[f64]| values(&[&link.apply(&Tensor::new(means))]).remove(0);
    close(
        &of(Link::Softplus, &[1e-20, 1.0, 40.0, 1e3, 1e300]),
        &[-46.051701859880914, 0.541324854612918, 40.0, 1e3, 1e300],
    );
    assert_eq!(of(Link::Probit, &[0.0, 0.5, 1.0])[0], f64::NEG_INFINITY);
    assert_eq!(of(Link::Probit, &[0.0, 0.5, 1.0])[2], f64::INFINITY);
    let ends = of(Link::Cauchit, &[1e-9, 1.0 - 1e-9]);
    // The mean next to 1 has lost digits of 1e-9, its distance to 1 is exact.
    let distance = 1.0 - (1.0 - 1e-9);
    assert!((ends[0] * 1e-9 * std::f64::consts::PI + 1.0).abs() < 1e-14);
    assert!((ends[1] * distance * std::f64::consts::PI - 1.0).abs() < 1e-14);
}

#[test]
fn every_information_product_is_divided_by_the_dispersion() {
    let own = Family::from_conjugate("own", |eta| eta.logsumexp(-1));
    let mut families: Vec<(Family, Tensor)> = Family::all()
        .into_iter()
        .map(|family| (family.clone(), Tensor::new(family.samples().unwrap()[0].clone())))
        .collect();
    families.push((own, Tensor::new([[0.3, -0.5, 1.0]])));
    for (family, eta) in families {
        let direction = Tensor::ones(*eta.shape()) * &eta;
        let wide = family.clone().with_dispersion(4.0).unwrap();
        let product = |family: &Family| family.information_product(&eta, &direction);
        let found = values(&[&(4.0 * product(&wide)), &product(&family)]);
        close(&found[0], &found[1]);
    }
}
