//! Every family with every link against a second implementation: iteratively reweighted least squares on the host, from
//! textbook formulas.

use cotangent_tensor::{Evaluate, Reference};

use super::*;

type Scalar = fn(f64) -> f64;

/// `Φ(z)` by Simpson's rule.
fn phi(z: f64) -> f64 {
    let (n, low) = (2000, -12.0);
    let step = (z - low) / f64::from(n);
    let density = |t: f64| (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt();
    let weight = |i: i32| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
    (0..=n).map(|i| weight(i) * density(low + step * f64::from(i))).sum::<f64>() * step / 3.0
}

/// Inverse link and its slope.
fn textbook(link: &Link) -> (Scalar, Scalar) {
    use std::f64::consts::{PI, TAU};
    match link {
        Link::Identity => (|z| z, |_| 1.0),
        Link::Log => (f64::exp, f64::exp),
        Link::Logit => (|z| 1.0 / (1.0 + (-z).exp()), |z| 1.0 / (2.0 + z.exp() + (-z).exp())),
        Link::Probit => (phi, |z| (-0.5 * z * z).exp() / TAU.sqrt()),
        Link::Cloglog => (|z| 1.0 - (-z.exp()).exp(), |z| z.exp() * (-z.exp()).exp()),
        Link::Loglog => (|z| (-(-z).exp()).exp(), |z| (-z).exp() * (-(-z).exp()).exp()),
        Link::Cauchit => (|z| 0.5 + z.atan() / PI, |z| 1.0 / (PI * (1.0 + z * z))),
        Link::Inverse => (|z| 1.0 / z, |z| -1.0 / (z * z)),
        Link::InverseSquared => (|z| 1.0 / z.sqrt(), |z| -0.5 / (z * z.sqrt())),
        Link::Sqrt => (|z| z * z, |z| 2.0 * z),
        Link::Softplus => (|z| (1.0 + z.exp()).ln(), |z| 1.0 / (1.0 + (-z).exp())),
        other => panic!("no formula for {other}"),
    }
}

/// Families with their variance and the kind of their targets.
fn families() -> Vec<(Family, Scalar, Kind)> {
    vec![
        (Family::gaussian(), |_| 1.0, Kind::Real),
        (Family::bernoulli(), |m| m * (1.0 - m), Kind::Choice),
        (Family::binomial(), |m| m * (1.0 - m), Kind::Share),
        (Family::poisson(), |m| m, Kind::Count),
        (Family::gamma(), |m| m * m, Kind::Size),
        (Family::inverse_gaussian(), |m| m * m * m, Kind::Size),
        (Family::negative_binomial(0.5).unwrap(), |m| m + 0.5 * m * m, Kind::Count),
        (Family::tweedie(1.5).unwrap(), |m| m.powf(1.5), Kind::Count),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Real,
    Choice,
    Share,
    Count,
    Size,
}

/// Between 0 and 1, never these.
fn uniform(i: usize, stream: usize) -> f64 {
    let mixed = ((i * 31 + stream) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

const ROWS: usize = 600;

/// Two columns, and a target around the mean that the link gives; with prior weights and an offset if wanted.
fn problem(link: &Link, kind: Kind, extras: bool) -> Problem {
    let column = |stream: usize| (0..ROWS).map(|i| 2.0 * uniform(i, stream) - 1.0).collect::<Vec<f64>>();
    let (a, b) = (column(1), column(2));
    let shares = matches!(kind, Kind::Choice | Kind::Share);
    let center = match link {
        Link::Identity | Link::Log if shares => {
            if *link == Link::Log {
                -0.9
            } else {
                0.45
            }
        }
        Link::Identity | Link::Sqrt | Link::Inverse | Link::InverseSquared => 1.5,
        _ => 0.2,
    };
    // Flat enough that the predictor stays where the link has means, also at the maximum of a sample.
    let slope = if shares && matches!(link, Link::Identity | Link::Log) { 0.15 } else { 0.3 };
    let offset: Option<Vec<f64>> = extras.then(|| column(7).iter().map(|o| 0.1 * o).collect());
    let target = (0..ROWS).map(|i| {
        let z = center + slope * a[i] - 0.5 * slope * b[i] + offset.as_ref().map_or(0.0, |o| o[i]);
        let mean = textbook(link).0(z);
        let u = uniform(i, 3);
        match kind {
            Kind::Real => mean + 0.3 * (u - 0.5),
            Kind::Choice => f64::from(u8::from(u < mean)),
            Kind::Share => (mean + 0.2 * (u - 0.5)).clamp(0.0, 1.0),
            Kind::Count => (mean * -2.0 * u.ln() * uniform(i, 4)).round(),
            Kind::Size => mean * (0.6 - 0.4 * u.ln()),
        }
    });
    let target = target.collect();
    Problem {
        features: vec![("a".into(), a), ("b".into(), b)],
        target,
        weights: extras.then(|| (0..ROWS).map(|i| (3.0 * uniform(i, 5)).ceil()).collect()),
        offset,
        origin: None,
    }
}

/// Coefficients (intercept first) and the inverse of the Fisher information.
fn reweighted(link: &Link, variance: Scalar, problem: &Problem) -> ([f64; 3], [[f64; 3]; 3]) {
    let (inverse, slope) = textbook(link);
    let total: f64 = problem.target.iter().sum::<f64>() / ROWS as f64;
    // The predictor of the mean of the targets, by bisection between numbers where every link has means.
    let falls = matches!(link, Link::Inverse | Link::InverseSquared);
    let (mut low, mut high) = (if matches!(link, Link::Sqrt) || falls { 1e-6 } else { -20.0 }, 20.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if (inverse(middle) > total) == falls { low = middle } else { high = middle }
    }
    let mut beta = [0.5 * (low + high), 0.0, 0.0];
    let row = |i: usize| [1.0, problem.features[0].1[i], problem.features[1].1[i]];
    let mut covariance = [[0.0; 3]; 3];
    for _ in 0..300 {
        let (mut left, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
        for i in 0..ROWS {
            let x = row(i);
            let offset = problem.offset.as_ref().map_or(0.0, |o| o[i]);
            let z: f64 = x.iter().zip(&beta).map(|(x, b)| x * b).sum::<f64>() + offset;
            let (mean, change) = (inverse(z), slope(z));
            let weight = problem.weights.as_ref().map_or(1.0, |w| w[i]) * change * change / variance(mean);
            let working = z - offset + (problem.target[i] - mean) / change;
            for j in 0..3 {
                right[j] += weight * x[j] * working;
                (0..3).for_each(|k| left[j][k] += weight * x[j] * x[k]);
            }
        }
        covariance = inverted(left);
        let next = covariance.map(|row| row.iter().zip(&right).map(|(a, b)| a * b).sum::<f64>());
        // Whole steps leave the domain of some links.
        beta = std::array::from_fn(|j| 0.7 * beta[j] + 0.3 * next[j]);
    }
    (beta, covariance)
}

fn inverted(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let determinant: f64 = (0..3).map(|c| m[0][c] * minor(0, c)).sum();
    std::array::from_fn(|r| std::array::from_fn(|c| minor(c, r) / determinant))
}

#[test]
fn every_pair_reaches_the_maximum_of_a_second_implementation() {
    let devices = Device::all();
    assert!(devices.len() >= 2, "no adapter: `./tools/test` installs one or says what to install");
    let (mut pairs, mut worst) = (0, 0f64);
    for (family, variance, kind) in families() {
        for link in family.links() {
            for extras in [false, true] {
                let linked = family.clone().with_link(link.clone()).unwrap();
                let problem = problem(&link, kind, extras);
                let (beta, covariance) = reweighted(&link, variance, &problem);
                let mut fits =
                    vec![("reference".to_string(), on_reference(&linked, &problem, &Options::default()))];
                // Without weights and offset the graph is the same, so one device is enough.
                for device in &devices[..if extras { devices.len() } else { 1 }] {
                    let found = fit(device, &linked, &problem, &Options::default(), &mut |_, _| {});
                    fits.push((device.slug(), found));
                }
                for (device, found) in fits {
                    let what = format!("{} by {link} on {device}, extras {extras}", family.name());
                    let found = found.unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(found.converged, "{what}: {:?}", found.loss_history);
                    assert_eq!(found.link, linked.link());
                    let predictor = &found.predictors[0];
                    let values = std::iter::once(predictor.intercept).chain(predictor.coefficients.clone());
                    let errors =
                        std::iter::once(predictor.intercept_error).chain(predictor.standard_errors.clone());
                    for (position, (value, error)) in values.zip(errors).enumerate() {
                        let expected = (covariance[position][position] * found.dispersion).sqrt();
                        // Case data of CONFORMANCE; a coefficient is measured against its error.
                        let distance = ((value - beta[position]) / beta[position].abs().max(expected)).abs();
                        assert!(distance <= 1e-3, "{what}: {value} is not {}", beta[position]);
                        assert!(
                            (error / expected - 1.0).abs() <= 1e-3,
                            "{what}: error {error}, not {expected}"
                        );
                        worst = worst.max(distance);
                    }
                    pairs += 1;
                }
            }
        }
    }
    println!("{pairs} fits, at worst {worst:e} apart");
    assert!(pairs >= (2 + 3) * 45);
}

#[test]
fn other_methods_find_the_same_maximum_by_other_links() {
    for (family, _, kind) in families() {
        for link in [Link::Log, Link::Probit, Link::Sqrt] {
            let Ok(linked) = family.clone().with_link(link.clone()) else { continue };
            let problem = problem(&link, kind, true);
            let exact = on_reference(&linked, &problem, &Options::default()).unwrap();
            for method in [Method::Lbfgs, Method::Adam] {
                let options = Options { method, ..Options::default() };
                let found = fit(&Device::cpu(), &linked, &problem, &options, &mut |_, _| {}).unwrap();
                // Adam may still circle around the maximum after its steps, and says so.
                assert!(found.converged || method == Method::Adam, "{} by {link}", family.name());
                if found.converged {
                    assert!((found.deviance - exact.deviance).abs() <= 1e-5 * exact.deviance);
                }
            }
        }
    }
}

#[test]
fn badly_scaled_and_collinear_columns_do_not_matter_to_any_link() {
    for (family, _, kind) in families() {
        for link in [Link::Log, Link::Cloglog, Link::Inverse] {
            let Ok(linked) = family.clone().with_link(link.clone()) else { continue };
            let plain = problem(&link, kind, false);
            let mut scaled = plain.clone();
            // a·10⁷ + 10⁹, and a column that is almost the first one.
            let (a, b) = (plain.features[0].1.clone(), plain.features[1].1.clone());
            scaled.features[0].1 = a.iter().map(|a| 1e7 * a + 1e9).collect();
            scaled.features[1].1 = a.iter().zip(&b).map(|(a, b)| 1e-6 * (a + 1e-4 * b)).collect();
            let expected = on_reference(&linked, &plain, &Options::default()).unwrap();
            let found = fit(&Device::cpu(), &linked, &scaled, &Options::default(), &mut |_, _| {}).unwrap();
            assert!(found.converged, "{} by {link}", family.name());
            assert!((found.deviance / expected.deviance - 1.0).abs() <= 1e-5, "{} by {link}", family.name());
            // a·α + b·β = (10⁷a + 10⁹)·α′ + 10⁻⁶(a + 10⁻⁴b)·β′
            let of = |fit: &Fit| fit.predictors[0].coefficients.clone();
            let (one, two) = (of(&expected), of(&found));
            let size = one[0].abs().max(one[1].abs());
            assert!((1e-10 * two[1] - one[1]).abs() <= 1e-3 * size, "{} by {link}", family.name());
            assert!(
                (1e7 * two[0] + 1e-6 * two[1] - one[0]).abs() <= 1e-3 * size,
                "{} by {link}",
                family.name()
            );
        }
    }
}

#[test]
fn families_without_a_unit_deviance_are_fitted_by_their_likelihood() {
    let counts: Vec<f64> =
        (0..200).map(|i| (1.0 - 3.0 * uniform(i, 3).ln() * uniform(i, 4)).round()).collect();
    let shares: Vec<f64> = (0..200).map(|i| uniform(i, 3).powf(0.5 + uniform(i, 9))).collect();
    for (family, target) in
        [(Family::zero_truncated_poisson(), counts), (Family::continuous_bernoulli(), shares)]
    {
        let fit = fit(&Device::cpu(), &family, &small(&target), &Options::default(), &mut |_, _| {}).unwrap();
        assert!(fit.converged && fit.deviance < fit.null_deviance, "{fit:?}");
        assert!((fit.deviance + 2.0 * fit.log_likelihood).abs() <= 1e-9 * fit.deviance.abs());
        // The mean of the residuals of the maximum is 0 in every direction.
        let means = Reference::new().evaluate(&[&family.mean(&Tensor::new(fit.eta.clone()))]).unwrap();
        let sum: f64 = means[0].to_f64().iter().zip(&target).map(|(m, y)| m - y).sum();
        assert!(sum.abs() < 1e-9 * 200.0, "{}: {sum}", family.name());
    }
    let error = |family: Family| on_reference(&family, &small(&[1.0, 2.0]), &Options::default()).unwrap_err();
    assert!(error(Family::dirichlet()).message().contains("is a row"));
}

#[test]
fn statistics_are_those_of_their_definitions() {
    let problem = problem(&Link::Log, Kind::Count, true);
    let fit = on_reference(&Family::poisson(), &problem, &Options::default()).unwrap();
    let squares: f64 = fit.deviance_residuals.iter().map(|r| r * r).sum();
    assert!((squares / fit.deviance - 1.0).abs() < 1e-12);
    assert_eq!(fit.aic, 2.0 * (3.0 - fit.log_likelihood));
    let predictor = &fit.predictors[0];
    let z = predictor.z_values();
    assert_eq!(z.len(), 3);
    assert_eq!(z[1], predictor.coefficients[0] / predictor.standard_errors[0]);
    // Residuals have the sign of target − mean.
    for ((residual, eta), y) in fit.deviance_residuals.iter().zip(&fit.eta).zip(&problem.target) {
        assert!(residual * (y - eta.exp()) >= 0.0);
    }
    // A share of 20 successes among 50 trials is as likely as 50 over 20 says.
    let one = Problem { target: vec![0.4], weights: Some(vec![50.0]), ..Problem::default() };
    let fit = on_reference(&Family::binomial(), &one, &Options::default()).unwrap();
    let choose: f64 = (1..=20).map(|k| ((30 + k) as f64 / k as f64).ln()).sum();
    let expected = choose + 20.0 * 0.4f64.ln() + 30.0 * 0.6f64.ln();
    assert!((fit.log_likelihood - expected).abs() < 1e-9, "{} {expected}", fit.log_likelihood);
}
