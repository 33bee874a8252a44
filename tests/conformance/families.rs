//! H. Families and links.

use crate::common::{Code, Error, Evaluator, Family, Link, Reduction, Tensor, grad};
use crate::harness::{Case, Findings};

pub const CASES: &[Case] = &[
    Case { label: "t86_deviances", origin: "statsmodels run; 0 where y = μ by definition", program: t86 },
    Case {
        label: "t87_links",
        origin: "statsmodels test_inverse, test_inverse_deriv, test_invlogit_stability",
        program: t87,
    },
    Case { label: "t88_special_functions", origin: "SciPy, mpmath", program: t88 },
    Case { label: "t89_mean_and_variance", origin: "JAX run", program: t89 },
    Case {
        label: "t91_pairs",
        origin: "statsmodels test_invalid_family_link, test_poisson_deviance",
        program: t91,
    },
];

fn t86(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (y, mean) = (Tensor::new([0.0, 1.0, 3.0, 7.0]), Tensor::new([0.5, 1.5, 2.0, 9.0]));
    let poisson = Family::poisson().deviance(&y, &mean);
    f.value("Poisson", &poisson, "1 0.189069783784 0.432790648649 0.481598004067");
    let y = Tensor::new([0.2, 1.0, 3.0, 7.0]);
    let rows = [
        (Family::gamma(), "0.632581463748 0.144263549550 0.189069783784 0.0581844121174"),
        (Family::inverse_gaussian(), "1.8 0.111111111111 0.0833333333333 0.00705467372134"),
        (Family::negative_binomial(1.0)?, "0.169028230404 0.0816439890405 0.131334069035 0.0518948250947"),
        (Family::tweedie(1.5)?, "0.382089210645 0.164965809277 0.285729163180 0.167322844817"),
    ];
    for (family, expected) in rows {
        f.value(family.name(), &family.deviance(&y, &mean), expected);
        let log = family.clone().with_link(Link::Log)?;
        f.value(&format!("{} at the predictor", family.name()), &log.deviance_at(&y, &mean.log()), expected);
    }
    let (y, mean) = (Tensor::new([0.0, 1.0, 1.0, 0.0]), Tensor::new([0.1, 0.9, 0.25, 0.6]));
    let bernoulli = Family::bernoulli().deviance(&y, &mean);
    f.value("Bernoulli", &bernoulli, "0.210721031316 0.210721031316 2.77258872224 1.83258146375");
    // Rows that are predicted perfectly.
    let y = Tensor::new([0.0, 1.0]);
    f.value("Poisson, μ = y", &Family::poisson().deviance(&y, &y), "0 0");
    f.value("Bernoulli, μ = y", &Family::bernoulli().deviance(&y, &y), "0 0");
    let far = Family::bernoulli().deviance_at(&Tensor::new([0.0, 1.0]), &Tensor::new([60.0, -60.0]));
    f.value("Bernoulli, far out", &far, "120 120");
    // In f32 the textbook form of counts near 10⁴ loses five digits: 2·(10⁴·log(10⁴/10100) + 100) and α = 1.
    let (y, mean) = (Tensor::new([1e4]), Tensor::new([10_100.0]));
    f.value("Poisson, large counts", &Family::poisson().deviance(&y, &mean), "0.993382936638");
    Ok(())
}

fn t87(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let far = Tensor::new([-3.0, 0.0, 2.0, 470.0, 1587.0]);
    f.value("logit⁻¹", &Link::Logit.inverse(&far), "0.0474258731776 0.5 0.880797077978 1 1");
    f.value("its slope at 800", &Link::Logit.slope(&Tensor::new([800.0])), "0");
    let slope = Link::Probit.slope(&Tensor::new([-2.0, 0.0]));
    f.value("slope of probit⁻¹", &slope, "0.0539909665132 0.398942280401");
    let z = Tensor::new([-40.0, -3.0, 0.0]);
    f.value("cloglog⁻¹", &Link::Cloglog.inverse(&z), "4.24835425529e-18 0.0485680070995 0.632120558829");
    // The inverse of each link at the link of a mean.
    for link in Link::NAMED.iter().filter(|link| **link != Link::Softmax) {
        let z = link.apply(&Tensor::new([0.25, 0.375]));
        f.value(&format!("{link} and back"), &link.inverse(&z), "0.25 0.375");
    }
    Ok(())
}

fn t88(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let phi = Link::Probit.inverse(&Tensor::new([-2.0, 0.0, 2.0]));
    f.value("Φ", &phi, "0.0227501319482 0.5 0.977249868052");
    f.value("log Φ", &Tensor::new([-10.0, -40.0]).log_ndtr(), "-53.2312851505 -804.608442014");
    let x = Tensor::new([0.1, 0.5, 10.0]);
    f.value("lgamma", &x.lgamma(), "2.25271265173 0.572364942925 12.8018274801");
    let x = Tensor::new([0.1, 1.0, 10.0]);
    f.value("digamma", &x.digamma(), "-10.4237549404 -0.577215664902 2.25175258907");
    Ok(())
}

fn t89(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let rows = [
        (Family::gamma(), -0.5, "2", "4"),
        (Family::inverse_gaussian(), -0.5, "1", "1"),
        (Family::poisson(), 0.3, "1.34985880758", "1.34985880758"),
        // σ(0.3)·σ(−0.3) = 0.24445831169074…
        (Family::bernoulli(), 0.3, "0.574442516812", "0.244458311691"),
    ];
    for (family, eta, mean, variance) in rows {
        let eta = Tensor::new([eta]);
        // Twice by differentiation of A, and as the family has them.
        let slope = grad(&family.log_partition(&eta).sum(..), &eta)?.or_error()?;
        let curvature = grad(&slope.sum(..), &eta)?.or_error()?;
        f.value(&format!("A′ of {}", family.name()), &slope, mean);
        f.value(&format!("A″ of {}", family.name()), &curvature, variance);
        f.value(&format!("mean of {}", family.name()), &family.mean(&eta), mean);
        f.value(&format!("variance of {}", family.name()), &family.variance(&eta), variance);
    }
    Ok(())
}

fn t91(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    f.error(
        "a probability as a count",
        Family::poisson().with_link(Link::Logit),
        Code::Family,
        &["logit", "`log`"],
    );
    let taken = Family::poisson().with_any_link(Link::Logit)?;
    f.value("taken all the same", &taken.mean(&Tensor::new([0.0])), "0.5");
    // Poisson deviance = 2·(ll(y, y) − ll(y, μ)), also at y = 0.
    let (y, mean) = (Tensor::new([0.0, 1.0, 7.0]), Tensor::new([0.5, 1.5, 9.0]));
    let poisson = Family::poisson().with_link(Link::Identity)?;
    let loss = |mean: &Tensor| poisson.nll(mean, &y, Reduction::None);
    let twice = 2.0 * (loss(&mean) - loss(&y));
    f.value("from the likelihoods", &twice, "1 0.189069783784 0.481598004067");
    f.value("the deviance", &poisson.deviance_at(&y, &mean), "1 0.189069783784 0.481598004067");
    Ok(())
}
