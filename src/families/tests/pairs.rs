//! Every family with every one of its links.

use cotangent_autograd::{GradCheck, grad};
use cotangent_device::{Device, cross_check};
use cotangent_tensor::{Array, Code, DType, Reference, Tensor};

use super::{close, numbers, values};
use crate::families::rows::Means;
use crate::families::{Family, Link, derivative};
use crate::losses::Reduction;

/// Every link that has a formula, with means within its range.
fn links() -> Vec<(Link, Vec<f64>)> {
    let shares = vec![1e-9, 0.01, 0.2, 0.5, 0.75, 0.999];
    let sizes = vec![1e-4, 0.2, 1.0, 3.5, 20.0];
    let of = |link: &Link| match link {
        Link::Logit | Link::Probit | Link::Cloglog | Link::Loglog | Link::Cauchit => shares.clone(),
        _ => sizes.clone(),
    };
    let named = Link::NAMED.iter().filter(|link| **link != Link::Softmax).cloned();
    named.chain([Link::Power(0.3), Link::Power(-1.5)]).map(|link| (link.clone(), of(&link))).collect()
}

/// Families with each of their links, and predictors at which the mean is one of the family.
fn pairs() -> Vec<(Family, Array, Array)> {
    let mut pairs = Vec::new();
    for family in numbers() {
        let [eta, target] = family.samples().unwrap();
        pairs.push((family.clone(), eta, target.clone()));
        if family.means() == Means::Canonical {
            continue;
        }
        let mut links = family.links();
        let laplace = Link::own("laplace", |z| 0.5 + 0.5 * z.sign() * -(-z.abs()).expm1());
        let exponential = Link::own("exponential", |z| (2.0 * z).exp());
        links.push(if family.means() == Means::Share { laplace } else { exponential });
        if family.means() != Means::Share {
            links.push(Link::Power(0.3));
        }
        for link in links {
            // Inside of the range of every link: z > 0, and a share by identity and logarithm.
            let z: Vec<f64> = match (family.means(), &link) {
                (Means::Share, Link::Log) => vec![-3.0, -0.5, -0.01, -1.0, -2.0],
                (Means::Share, Link::Identity) => vec![0.2, 0.5, 0.01, 0.9, 0.7],
                (_, Link::Log | Link::Softplus | Link::Own(_)) => vec![-3.0, -0.5, 0.1, 0.3, 2.0],
                (Means::Share, _) => vec![-3.0, -0.5, 0.1, 0.3, 1.2],
                _ => vec![0.3, 0.5, 1.1, 2.0, 1.5],
            };
            let linked = family.clone().with_link(link).unwrap();
            if linked.link != Link::Canonical {
                pairs.push((linked, z.into(), target.clone()));
            }
        }
    }
    assert!(pairs.len() > 60, "{}", pairs.len());
    pairs
}

#[test]
fn inverse_links_take_back_what_links_do_and_slopes_are_theirs() {
    for (link, means) in links() {
        let mean = Tensor::new(means.clone());
        let z = link.apply(&mean);
        let slope_of_link = derivative(&z, &mean);
        let found = values(&[&link.inverse(&z), &link.slope(&z), &slope_of_link, &link.log_slope(&z)]);
        let more = values(&[&link.log_mean(&z), &link.reciprocal(&z), &link.log_complement(&z)]);
        let mut last = None;
        for (position, &mean) in means.iter().enumerate() {
            // Case data of T87.
            let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-8 * b.abs(), "{link} at {mean}: {a} {b}");
            near(found[0][position], mean);
            near(found[1][position] * found[2][position], 1.0);
            near(found[3][position].exp(), found[1][position].abs());
            near(more[0][position].exp(), mean);
            near(more[1][position], 1.0 / mean);
            if mean < 1.0 {
                near(more[2][position], (-mean).ln_1p());
            }
            near(link.at(mean).unwrap(), values(&[&z])[0][position]);
            // Monotone: every slope has the same sign.
            let sign = found[1][position].signum();
            assert_eq!(*last.get_or_insert(sign), sign, "{link}");
        }
    }
}

#[test]
fn a_link_of_ones_own_is_inverted_where_a_fit_starts() {
    let rising = Link::own("rising", |z| z.exp());
    let falling = Link::own("falling", |z| (-z).exp());
    for mean in [1e-6, 0.5, 1.0, 40.0] {
        assert!((rising.at(mean).unwrap() - mean.ln()).abs() < 1e-12);
        assert!((falling.at(mean).unwrap() + mean.ln()).abs() < 1e-12);
    }
    assert_eq!(rising.at(-1.0).unwrap(), f64::NEG_INFINITY);
    // A function of positive numbers.
    let (root, falling) = (Link::own("root", Tensor::sqrt), Link::own("rsqrt", Tensor::rsqrt));
    for mean in [1e-3, 0.5, 1.0, 40.0] {
        assert!((root.at(mean).unwrap() / mean.powi(2) - 1.0).abs() < 1e-12);
        assert!((falling.at(mean).unwrap() * mean.powi(2) - 1.0).abs() < 1e-12);
    }
    assert_eq!(rising.apply(&Tensor::new(1.0)).error().unwrap().code(), Code::Family);
}

#[test]
fn derivatives_of_every_pair_are_right_to_second_order() {
    let reference = Reference::new();
    for (family, z, target) in pairs() {
        let (z, y) = (Tensor::new(z), Tensor::new(target));
        let loss = |z: &Tensor| family.nll(z, &y, Reduction::None);
        let report = GradCheck::new().order(2).run(|[z]| loss(&z), [&z], &reference).unwrap();
        assert!(report.is_ok(), "{family:?}: {report}");
        let slope = grad(&loss(&z).sum(..), &z).unwrap().or_error().unwrap();
        let residual = family.residual(&z, &y);
        let curvature = derivative(&slope, &z);
        let expected = family.curvature(&z, &y).unwrap_or_else(|| family.information(&z));
        let found = values(&[&slope, &residual, &curvature, &expected]);
        close(&found[0], &found[1]);
        close(&found[2], &found[3]);
    }
}

#[test]
fn the_information_is_the_curvature_of_an_observation_that_is_its_mean() {
    for (family, z, _) in pairs() {
        let z = Tensor::new(z);
        let mean = values(&[&family.mean(&z)])[0].clone();
        let (row_target, information) = (Tensor::new(mean), family.information(&z));
        let curvature = family.curvature(&z, &row_target).unwrap_or_else(|| family.information(&z));
        let scaled = values(&[&information, &curvature, &family.residual_per_mean(&z), &family.variance(&z)]);
        close(&scaled[0], &scaled[1]);
        // I = (μ′/V)²·V.
        if family.link != Link::Canonical {
            let product: Vec<f64> = scaled[2].iter().zip(&scaled[3]).map(|(p, v)| p * p * v).collect();
            close(&product, &scaled[0]);
        }
    }
}

#[test]
fn devices_agree_on_every_pair() {
    let devices = Device::all();
    assert!(!devices.is_empty());
    for (family, z, target) in pairs() {
        let (z, y) = (Tensor::new(z), Tensor::new(target));
        let loss = family.nll(&z, &y, Reduction::None);
        let slope = grad(&loss.sum(..), &z).unwrap().or_error().unwrap();
        let outputs = [&loss, &slope, &family.residual(&z, &y), &family.information(&z), &family.mean(&z)];
        for device in &devices {
            let report = cross_check(device, &outputs).unwrap_or_else(|e| panic!("{family:?}: {e}"));
            assert!(report.cases > 0 && report.worst_ratio <= 1.0, "{family:?} on {}", device.slug());
        }
    }
}

#[test]
fn a_dispersion_divides_losses_and_multiplies_variances() {
    for (family, z, target) in pairs() {
        let wide = family.clone().with_dispersion(4.0).unwrap();
        let (z, y) = (Tensor::new(z), Tensor::new(target));
        let of = |family: &Family| {
            let loss = family.nll(&z, &y, Reduction::None);
            values(&[&loss, &family.residual(&z, &y), &family.information(&z), &family.variance(&z)])
        };
        let (one, four) = (of(&family), of(&wide));
        for (values, factor) in [(0, 0.25), (1, 0.25), (2, 0.25), (3, 4.0)] {
            let scaled: Vec<f64> = one[values].iter().map(|v| v * factor).collect();
            close(&four[values], &scaled);
        }
    }
    assert_eq!(Family::gamma().with_dispersion(0.0).unwrap_err().code(), Code::Hyperparameter);
}

#[test]
fn densities_are_those_of_their_distributions() {
    // From the formulas of the densities, in another form than that of the table.
    let one = |value: f64| Tensor::new([value]);
    let of = |family: Family, eta: f64, y: f64| values(&[&family.log_likelihood(&one(eta), &one(y))])[0][0];
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} {b}");
    // Gamma with shape 4 and mean 2: y³·e^(−2y)·2⁴/Γ(4) at 3.
    let gamma = Family::gamma().with_dispersion(0.25).unwrap();
    near(of(gamma.clone(), -0.5, 3.0), (27.0 * (-6f64).exp() * 16.0 / 6.0).ln());
    near(of(gamma.with_link(Link::Log).unwrap(), 2f64.ln(), 3.0), (27.0 * (-6f64).exp() * 16.0 / 6.0).ln());
    near(of(Family::exponential(), -2.0, 1.5), 2f64.ln() - 3.0);
    // Inverse Gaussian with mean 2 and λ = 4 at 3: √(λ/(2πy³))·exp(−λ(y − μ)²/(2μ²y)).
    let inverse = Family::inverse_gaussian().with_dispersion(0.25).unwrap();
    let expected = 0.5 * (4.0 / (std::f64::consts::TAU * 27.0)).ln() - 4.0 / 24.0;
    near(of(inverse, -0.125, 3.0), expected);
    // Two failures before the third success: C(4, 2)·p³·(1 − p)², p = r/(r + μ) = 3/4.
    let binomial = Family::negative_binomial(1.0 / 3.0).unwrap();
    near(of(binomial.clone(), 0.25f64.ln(), 2.0), (6.0 * 0.75f64.powi(3) * 0.0625).ln());
    near(of(binomial.with_link(Link::Log).unwrap(), 0.0, 2.0), (6.0 * 0.75f64.powi(3) * 0.0625).ln());
    near(of(Family::geometric(), 0.5f64.ln(), 3.0), 0.0625f64.ln());
    near(
        of(Family::gaussian().with_dispersion(4.0).unwrap(), 1.0, 3.0),
        -0.5 - 0.5 * (8.0 * std::f64::consts::PI).ln(),
    );
    near(of(Family::zero_truncated_poisson(), 0.0, 2.0), -(2.0 * 1f64.exp_m1()).ln());
    // e^y/(e − 1) at ½.
    near(of(Family::continuous_bernoulli(), 1.0, 0.5), 0.5 - 1f64.exp_m1().ln());
    near(of(Family::hyperbolic_secant(), 0.0, 0.5), -(2.0 * (0.5 * std::f64::consts::PI * 0.5).cosh()).ln());
    // Dirichlet(2, 1) on (¼, ¾): Γ(3)/(Γ(2)Γ(1))·¼.
    let (eta, y) = (Tensor::new([[2.0, 1.0]]), Tensor::new([[0.25, 0.75]]));
    near(values(&[&Family::dirichlet().log_likelihood(&eta, &y)])[0][0], 0.5f64.ln());
    // Three, one and no observations: 4!/(3!)·p³·p.
    let (eta, y) = (Tensor::new([[0.0, 0.0, 0.0]]), Tensor::new([[3.0, 1.0, 0.0]]));
    near(values(&[&Family::multinomial().log_likelihood(&eta, &y)])[0][0], (4.0 / 81f64).ln());
    let tweedie = Family::tweedie(1.5).unwrap().log_likelihood(&one(-1.0), &one(2.0));
    assert_eq!(tweedie.error().unwrap().code(), Code::Family);
}

#[test]
fn rows_of_numbers_have_losses_residuals_and_products() {
    for family in [Family::multinomial(), Family::dirichlet(), Family::von_mises()] {
        let [eta, y] = family.samples().unwrap().map(Tensor::new);
        let loss = family.nll(&eta, &y, Reduction::Sum);
        let slope = grad(&loss, &eta).unwrap().or_error().unwrap();
        let found = values(&[&slope, &family.residual(&eta, &y)]);
        close(&found[0], &found[1]);
        let count = if family.name() == "multinomial" { 7.0 } else { 1.0 };
        let direction = Tensor::iota(*eta.shape(), -1).cast(DType::F32) * 0.3 - 0.5;
        let along = cotangent_autograd::jvp(&[&slope], &[(&eta, &direction)]).unwrap().remove(0);
        let found = values(&[&along, &(count * family.information_product(&eta, &direction))]);
        close(&found[0], &found[1]);
        let wrong = family.nll(&eta, &Tensor::ones([2]), Reduction::Sum);
        assert_eq!(wrong.error().unwrap().code(), Code::Broadcast);
        // A perfect fit has no deviance.
        if family.name() == "multinomial" {
            let share = &y / y.sum(-1).unsqueeze(-1);
            close(&values(&[&family.deviance(&y, &share)])[0], &[0.0]);
        }
    }
}

#[test]
fn directions_have_a_mean_wherever_their_parameter_lies() {
    let family = Family::von_mises();
    // I₁(1)/I₀(1), and the density at the mode: e/(2π·I₀(1)).
    let (eta, y) = (Tensor::new([[0.6, 0.8]]), Tensor::new([[0.6, 0.8]]));
    let found = values(&[&family.mean(&eta), &family.log_likelihood(&eta, &y)]);
    close(&found[0], &[0.6 * 0.446389965896535, 0.8 * 0.446389965896535]);
    close(&found[1], &[1.0 - (std::f64::consts::TAU * 1.26606587775201).ln()]);
    // R′(1000) and R/κ, and in f32 too.
    let far = Tensor::new([[1e3, 0.0], [0.0, 1e4]]);
    for (device, relative) in [(None, 1e-9), (Some(Device::cpu()), 1e-5)] {
        let found = match &device {
            None => values(&[&family.variance(&far)]).remove(0),
            Some(device) => device.read(&family.variance(&far)).unwrap().to_f64(),
        };
        let expected =
            [5.002_503_757_822_4e-7, 9.994_998_748_748_7e-4, 9.999_499_987_5e-5, 5.000_250_037_5e-9];
        for (a, b) in found.iter().zip(expected) {
            assert!((a / b - 1.0).abs() <= relative, "{found:?}");
        }
    }
    for size in [0.0, 1e-4, 9.99e-4, 1.001e-3, 1.0, 19.9, 20.1, 30.0, 1e4] {
        let eta = Tensor::new([[0.6 * size, 0.8 * size]]);
        let loss = family.nll(&eta, &Tensor::new([[0.0, 0.0]]), Reduction::Sum);
        let slope = grad(&loss, &eta).unwrap().or_error().unwrap();
        let found = values(&[&slope, &family.mean(&eta), &family.variance(&eta)]);
        close(&found[0], &found[1]);
        assert!(found[2].iter().all(|&v| v > 0.0 && v <= 0.5), "{size}: {found:?}");
        let along = |direction: [f64; 2]| family.information_product(&eta, &Tensor::new([direction]));
        let found = values(&[&family.variance(&eta), &along([1.0, 0.0]), &along([0.0, 1.0])]);
        assert!(
            (found[0][0] - found[1][0]).abs() <= 1e-9 && (found[0][1] - found[2][1]).abs() <= 1e-9,
            "{size}: {found:?}"
        );
    }
}

#[test]
fn extreme_predictors_have_defined_losses_and_residuals() {
    // Where f32 ends, and beyond what any exponential takes.
    let far = Tensor::new([-1e38, -100.0, 100.0, 1e38]);
    let devices = Device::all();
    // Of a link of one's own the logarithm of its mean is all there is.
    for (family, _, _) in pairs().into_iter().filter(|(family, ..)| !matches!(family.link(), Link::Own(_))) {
        for y in [0.0, 1.0] {
            let target = Tensor::full([4], y);
            if !(family.target().1)(y) {
                continue;
            }
            let outputs = [&family.residual(&far, &target), &family.nll(&far, &target, Reduction::None)];
            let means = values(&[&family.mean(&far)]).remove(0);
            let exact = values(&outputs);
            for device in &devices {
                for (found, numbers) in device.read_all(&outputs).unwrap().iter().zip(&exact) {
                    for (position, (found, &exact_value)) in found.to_f64().iter().zip(numbers).enumerate() {
                        // A number that f32 has stays one, wherever the predictor has a mean of the family that f32 has.
                        let has = |value: f64| value.abs() <= f64::from(f32::MAX);
                        let fits = has(exact_value) && has(means[position]) && !exact[1][position].is_nan();
                        assert!(
                            !fits || !found.is_nan(),
                            "{family:?}, y = {y} on {}: {found} for {exact_value}",
                            device.slug()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn pairs_that_cannot_be_are_refused_by_name() {
    let refused = |family: Family, link: Link| {
        let error = family.clone().with_link(link.clone()).unwrap_err();
        assert_eq!(error.code(), Code::Family);
        assert!(error.to_string().contains("src/families/tests/pairs.rs"), "{error}");
        (error.to_string(), family.with_any_link(link))
    };
    let (text, taken) = refused(Family::poisson(), Link::Logit);
    assert!(text.contains("`log`") && taken.unwrap().link() == Link::Logit, "{text}");
    let (text, taken) = refused(Family::bernoulli(), Link::Sqrt);
    assert!(text.contains("`probit`") && taken.is_ok(), "{text}");
    let (_, taken) = refused(Family::categorical(), Link::Log);
    assert!(taken.is_err(), "there is no such computation");
    assert!(refused(Family::gaussian(), Link::Softmax).1.is_err());
    assert!(refused(Family::from_log_partition("own", Tensor::exp), Link::Log).1.is_err());
    assert_eq!(Family::gamma().with_link(Link::Power(0.0)).unwrap_err().code(), Code::Hyperparameter);
    // The canonical link by its name is the family itself.
    assert_eq!(Family::poisson().with_link(Link::Log).unwrap().link, Link::Canonical);
    for (family, _, _) in pairs() {
        assert!(
            family.links().contains(&family.link())
                || matches!(family.link(), Link::Own(_) | Link::Power(_))
                || family.link() == Link::Canonical
        );
    }
    assert_eq!(Link::named("probti").unwrap_err().code(), Code::Family);
    assert_eq!(Family::tweedie(2.0).unwrap_err().code(), Code::Hyperparameter);
    assert_eq!(Family::negative_binomial(f64::INFINITY).unwrap_err().code(), Code::Hyperparameter);
}

#[test]
fn sparse_means_are_projections_and_their_losses_have_them_as_gradient() {
    // Sums of two, by hand: z = (1, 0.2, −1), τ = (1.2 − 1)/2.
    let eta = Tensor::new([[1.0, 0.2, -1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]]);
    let third = 1.0 / 3.0;
    let projected = values(&[&Family::sparsemax().mean(&eta)]).remove(0);
    close(&projected, &[0.9, 0.1, 0.0, 1.0, 0.0, 0.0, third, third, third]);
    let mixed = values(&[&Family::entmax15().mean(&eta)]).remove(0);
    // (½ − τ)² + (0.1 − τ)² = 1: τ = 0.3 − √0.46.
    let threshold = 0.3 - 0.46f64.sqrt();
    close(&mixed[..3], &[(0.5 - threshold).powi(2), (0.1 - threshold).powi(2), 0.0]);
    close(&mixed[3..6], &[1.0, 0.0, 0.0]);
    close(&mixed[6..], &[third, third, third]);
    for family in [Family::sparsemax(), Family::entmax15()] {
        let [eta, y] = family.samples().unwrap().map(Tensor::new);
        let loss = |eta: &Tensor| family.nll(eta, &y, Reduction::None);
        let report = GradCheck::new().order(2).run(|[eta]| loss(&eta), [&eta], &Reference::new()).unwrap();
        assert!(report.is_ok(), "{report}");
        let slope = grad(&loss(&eta).sum(..), &eta).unwrap().or_error().unwrap();
        let perfect = family.nll(&eta, &family.mean(&eta), Reduction::Sum);
        let found = values(&[&slope, &family.residual(&eta, &y), &family.mean(&eta).sum(..), &perfect]);
        close(&found[0], &found[1]);
        close(&found[2], &[1.0]);
        close(&found[3], &[0.0]);
        // Far out, one class is all there is.
        let far = Tensor::new([[1e8, -1e8, 0.0]]);
        let found =
            values(&[&family.mean(&far), &family.nll(&far, &Tensor::new([[1.0, 0.0, 0.0]]), Reduction::Sum)]);
        close(&found[0], &[1.0, 0.0, 0.0]);
        close(&found[1], &[0.0]);
        for device in Device::all() {
            let report = cross_check(&device, &[&family.mean(&eta), &loss(&eta), &slope]).unwrap();
            assert!(report.cases > 0 && report.worst_ratio <= 1.0, "{family:?} on {}", device.slug());
        }
    }
    // Any conjugate of rows.
    let own = Family::from_conjugate("own", |eta| eta.logsumexp(-1));
    let [eta, y] = Family::multinomial().samples().unwrap().map(Tensor::new);
    let shares = &y / y.sum(-1).unsqueeze(-1);
    let (softmax, loss) = (Family::multinomial(), own.nll(&eta, &shares, Reduction::Sum));
    let found = values(&[
        &own.residual(&eta, &shares),
        &softmax.residual(&eta, &shares),
        &loss,
        &softmax.nll(&eta, &shares, Reduction::Sum),
    ]);
    close(&found[0], &found[1]);
    close(&found[2], &found[3]);
    let (along, other) = (own.information_product(&eta, &shares), softmax.information_product(&eta, &shares));
    let found = values(&[&along, &other]);
    close(&found[0], &found[1]);
}

/// The parameters of a small model after as many steps from the same start, by a loss and without one.
fn trajectories(family: &Family) -> (f64, f64) {
    use cotangent_device::Step;
    let device = Device::cpu();
    let rows = 40;
    let x: Vec<f64> = (0..2 * rows).map(|i| ((i * 37 % 17) as f64 - 8.0) / 17.0).collect();
    let x = Tensor::new(x).reshape([isize::try_from(rows).unwrap(), 2]);
    let [etas, targets] = family.samples().unwrap();
    let (input, eta, y) = if family.has_rows() {
        // Around the row of samples; labels and targets of rows are repeated.
        let input = Tensor::input("w", [2, etas.shape()[1]], DType::F32);
        let (eta, y) = (x.matmul(&input) + Tensor::new(etas), Tensor::new(targets));
        let shape: Vec<usize> = std::iter::once(rows).chain(y.shape().iter().skip(1).copied()).collect();
        (input, eta, y.broadcast_to(shape))
    } else {
        // Predictors at which every family and link has means.
        let (samples, count) = (targets.to_f64(), targets.values().len() as f64);
        let target: Vec<f64> = (0..rows).map(|i| samples[i % samples.len()]).collect();
        let input = Tensor::input("w", [2], DType::F32);
        let eta = x.matmul(&input) + etas.to_f64().iter().sum::<f64>() / count;
        (input, eta, Tensor::new(target))
    };
    let parameters = input.shape().elements();
    let mut w: Vec<f32> = (0..parameters).map(|i| if i % 2 == 0 { 0.01 } else { -0.02 }).collect();
    let (mut worst, mut steps) = (0.0f64, 0);
    let rate = 0.02 / rows as f32;
    let by_loss = grad(&family.nll(&eta, &y, Reduction::Sum), &input).unwrap().or_error().unwrap();
    let without =
        cotangent_autograd::vjp(&[(&eta, &family.residual(&eta, &y))], &input).unwrap().or_error().unwrap();
    let step = Step::new(&device, &[&input], &[&by_loss, &without], &[]).unwrap();
    for _ in 0..500 {
        let values: Vec<f64> = w.iter().map(|&v| f64::from(v)).collect();
        let outputs = step.run(&[(&input, &values)]).unwrap();
        let [a, b] = [0, 1].map(|i| outputs.read(i).unwrap().to_f32());
        let next =
            |gradient: &[f32]| -> Vec<f32> { w.iter().zip(gradient).map(|(w, g)| w - rate * g).collect() };
        let (by_loss, without) = (next(&a), next(&b));
        // Of the largest parameter: one that passes 0 has units of its own.
        let size = by_loss.iter().chain(&w).fold(f32::MIN_POSITIVE, |most, w| most.max(w.abs()));
        let unit = f64::from(f32::EPSILON) * f64::from(size).log2().floor().exp2();
        for (a, b) in by_loss.iter().zip(&without) {
            worst = worst.max(f64::from((a - b).abs()) / unit);
        }
        w = by_loss;
        steps += 1;
    }
    assert!(steps == 500 && w.iter().all(|w| w.is_finite()), "{family:?}");
    (worst, f64::from(w[0]))
}

#[test]
fn steps_by_a_loss_and_without_one_agree_to_a_unit_in_the_last_place() {
    let mut moved = 0;
    let named = |family: &Family| !matches!(family.link(), Link::Own(_));
    let numbers = pairs().into_iter().map(|(family, ..)| family).filter(named);
    for family in numbers.chain(Family::all().into_iter().filter(Family::has_rows)) {
        let (worst, end) = trajectories(&family);
        println!("{family:?}: {worst} ULP at worst, ends at {end}");
        assert!(worst <= 1.0, "{family:?}: {worst} ULP in a step");
        moved += usize::from((end - 0.01).abs() > 1e-3);
    }
    assert!(moved > 40, "{moved}");
}

#[test]
fn a_loss_with_its_residual_is_one_kernel_for_every_pair() {
    let device = Device::cpu();
    for (family, _, _) in pairs() {
        let [eta, y] = ["eta", "y"].map(|name| Tensor::input(name, [1000], DType::F32));
        let loss = family.nll(&eta, &y, Reduction::Mean);
        let slope = grad(&loss, &eta).unwrap().or_error().unwrap();
        let step = cotangent_device::Step::new(&device, &[&eta, &y], &[&loss, &slope], &[]).unwrap();
        assert_eq!(step.kernels(), 1, "{family:?}");
    }
}
