use cotangent_autograd::{grad, vjp};
use cotangent_tensor::{Array, Code, Evaluate, Reference, Tensor};

use super::*;

fn values(tensors: &[&Tensor]) -> Vec<Vec<f64>> {
    Reference::new().evaluate(tensors).unwrap().iter().map(Array::to_f64).collect()
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
        family.check(&[-3.0, -0.5, 0.0, 0.3, 2.0], &Reference::new()).unwrap();
    }
}

#[test]
fn the_loss_has_the_residual_as_gradient_and_the_variance_as_second_derivative() {
    for family in Family::all().into_iter().filter(|f| !f.is_categorical()) {
        let (eta, target) = (Tensor::new([-1.0, 0.3, 2.0]), Tensor::new([0.0, 1.0, 0.5]));
        let loss = family.nll(&eta, &target, Reduction::Sum);
        let slope = grad(&loss, &eta).unwrap().or_error().unwrap();
        let second = grad(&slope.sum(..), &eta).unwrap().or_error().unwrap();
        let found = values(&[&slope, &second, &family.residual(&eta, &target), &family.variance(&eta)]);
        close(&found[0], &found[2]);
        close(&found[1], &found[3]);
        // The residual is a constant.
        let none = vjp(&[(&family.residual(&eta, &target), &Tensor::ones([3]))], &eta).unwrap();
        assert!(none.value().is_none(), "{}", family.name());
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
    for device in cotangent_device::Device::all() {
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
    let (y, eta) = (Tensor::new([0.0, 1.0, 0.25, 0.0, 1.0]), Tensor::new([0.3, -1.5, 2.0, -0.75, 3.0]));
    for family in Family::all().into_iter().filter(|f| !f.is_categorical()) {
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
    for family in Family::all().into_iter().filter(|f| !f.is_categorical()) {
        for wrong in
            [family.residual(&eta, &y), family.nll(&eta, &y, Reduction::Mean), family.deviance(&y, &eta)]
        {
            assert_eq!(wrong.error().unwrap().code(), Code::Broadcast, "{}", family.name());
        }
    }
    assert_eq!(Family::named("poison").unwrap_err().code(), Code::Family);
}
