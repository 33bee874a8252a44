//! Errors of optimizers, layers, families, variables, derivatives and files point at the line of their user, in
//! this file.
#![allow(clippy::unwrap_used, reason = "tests")]

use cotangent::{
    Activation, Adam, Array, Code, DType, Device, Error, Family, Key, Lbfgs, Linear, Link, Mlp, Optimizer,
    OrError, Reduction, Reference, Sgd, Tensor, batch_jacobian, gauss_newton_product, grad, hessian, io,
    jacobian, per_sample_gradients, topological,
};

/// What is done, its error, its code, and the line.
struct Case(&'static str, Result<(), Error>, Code, u32);

/// A case from an expression that gives a result.
macro_rules! case {
    ($code:ident, $expression:expr) => {
        Case(stringify!($expression), ($expression).map(drop), Code::$code, line!())
    };
}

fn valid(tensor: &Tensor) -> Result<(), Error> {
    tensor.node().map(drop)
}

/// Adds cases that do not point here to `failures`; returns how many there were.
fn judge(cases: Vec<Case>, failures: &mut Vec<String>) -> usize {
    let count = cases.len();
    for Case(what, result, code, line) in cases {
        let error = match result {
            Ok(()) => {
                failures.push(format!("{what}: no error"));
                continue;
            }
            Err(error) => error,
        };
        // An expression may take some lines.
        let here =
            error.location().is_some_and(|at| at.file() == file!() && (line..line + 4).contains(&at.line()));
        if error.code() != code || !here {
            failures.push(format!("{what} in line {line}:\n{error}"));
        }
    }
    count
}

#[test]
fn errors_point_at_the_line_of_their_user() {
    let (device, other) = (Device::cpu(), Device::cpu());
    let group = device.variables(&[("w", &[1.0, 2.0])]).unwrap();
    let (x, i, wide) = (Tensor::ones([2]), Tensor::new([1, 2]), Tensor::ones([3]));
    let mut failures = Vec::new();
    let mut tried = 0;

    // Behind `dyn` the caller of `updates` is unknown; where the optimizer was made is not.
    let behind = |optimizer: &dyn Optimizer| optimizer.attach(&device, &group)?.updates(&[Tensor::ones([2])]);
    tried += judge(
        vec![
            case!(Hyperparameter, behind(&Adam::new(-1.0))),
            case!(Hyperparameter, behind(&Adam::default().betas(2.0, 0.0))),
            case!(Hyperparameter, behind(&Sgd::new(1.0).momentum(1.0))),
            case!(NotScalar, behind(&Sgd::new(&x))),
            case!(NotScalar, behind(&Adam::new(Tensor::new(1)))),
            case!(Broadcast, behind(&Sgd::new(&(Tensor::ones([2]) + Tensor::ones([3]))))),
            case!(Hyperparameter, Adam::new(f64::NAN).updates(&x, &x, &[])),
            case!(Broadcast, Sgd::new(1.0).updates(&x, &Tensor::ones([3]), &[])),
            case!(Dtype, Sgd::new(1.0).updates(&x, &Tensor::new([1, 2]), &[])),
            case!(DataLength, Adam::new(1.0).updates(&Tensor::ones([2]), &x, &[])),
            case!(Broadcast, Sgd::new(1.0).momentum(0.5).updates(&x, &x, &[Tensor::ones([3])])),
            case!(Update, Sgd::new(1.0).attach(&device, &group).unwrap().updates(&[])),
            case!(Dtype, Sgd::new(1.0).attach(&device, &group).unwrap().updates(std::slice::from_ref(&i))),
            case!(
                Hyperparameter,
                Lbfgs { history: 0, ..Lbfgs::default() }.minimize(&[1.0], |_| Ok((0.0, vec![0.0])))
            ),
            case!(Nonfinite, Lbfgs::default().minimize(&[1.0], |_| Ok((f64::NAN, vec![0.0])))),
            case!(DataLength, Lbfgs::default().minimize(&[1.0], |_| Ok((1.0, vec![1.0, 2.0])))),
        ],
        &mut failures,
    );
    let mean_only = Family::from_mean("own", |eta| -eta);
    tried += judge(
        vec![
            case!(TooLarge, Linear::new(1 << 20, 1 << 20).parameters("large", Key::new(1))),
            case!(TooLarge, Mlp::new(&[1 << 20, 1 << 20], Activation::Relu).parameters(Key::new(1))),
            case!(MatmulDim, valid(&Linear::new(2, 1).forward(&x, &x, &x))),
            case!(DataLength, valid(&Mlp::new(&[2, 1], Activation::Relu).forward(&[], &x))),
            case!(Family, Family::named("poison")),
            case!(Family, Link::named("probti")),
            case!(Family, Family::poisson().with_link(Link::Logit)),
            case!(Family, Family::categorical().with_any_link(Link::Log)),
            case!(Hyperparameter, Family::gamma().with_link(Link::Power(0.0))),
            case!(Hyperparameter, Family::gamma().with_dispersion(-1.0)),
            case!(Hyperparameter, Family::tweedie(3.0)),
            case!(Family, valid(&Family::dirichlet().deviance(&x, &x))),
            case!(Family, valid(&Family::tweedie(1.5).unwrap().log_likelihood(&x, &x))),
            case!(Broadcast, valid(&Family::dirichlet().nll(&Tensor::ones([3, 2]), &x, Reduction::Mean))),
            case!(Family, valid(&Link::Canonical.inverse(&x))),
            case!(Family, valid(&Link::Softmax.apply(&x))),
            case!(Family, Family::poisson().check(&[], &Reference::new())),
            case!(Family, mean_only.check(&[0.5], &Reference::new())),
            case!(Family, valid(&mean_only.log_partition(&x))),
            case!(Family, valid(&mean_only.nll(&x, &x, Reduction::Mean))),
            case!(Family, valid(&mean_only.deviance_at(&x, &x))),
            case!(
                Axis,
                valid(&Family::categorical().information_product(&Tensor::new(1.0), &Tensor::new(1.0)))
            ),
            case!(Cotangent, Family::poisson().fisher_product(&x, [&x], [&x, &x])),
            case!(Cotangent, Family::poisson().fisher_product(&x, [&x], [&wide])),
            case!(NotDifferentiable, Family::poisson().fisher_product(&x, &i, &i)),
            case!(Dtype, device.variables(&[("n", &[1, 2])])),
            case!(Update, device.variables(&[("n", &1.0), ("n", &2.0)])),
            case!(Update, valid(&group.flatten(&[]))),
            case!(DeviceMismatch, other.write(&group[0], &[1.0, 2.0])),
            case!(DeviceMismatch, other.write_all(&[(&group[0], &[1.0, 2.0])])),
            case!(DataLength, Array::new(vec![1.0, 2.0], [3])),
            case!(Rank, Array::new(vec![1.0], [1; 9])),
            case!(NotScalar, Array::from([1.0, 2.0]).scalar()),
            case!(NotScalar, device.read(&x).unwrap().scalar()),
            case!(NotDifferentiable, jacobian(&i, &x)),
            case!(NotDifferentiable, jacobian(&x, &i)),
            case!(Rank, jacobian(&Tensor::ones([1; 5]), &Tensor::ones([1; 5]))),
            case!(TooLarge, jacobian(&Tensor::ones([1 << 17]), &x)),
            case!(NotDifferentiable, hessian(&x.sum(..), &i)),
            case!(NotScalar, hessian(&x, &x)),
            case!(NotDifferentiable, batch_jacobian(&x, |x| x.cast(DType::I32))),
            case!(NotDifferentiable, per_sample_gradients([&x], &i, |[x]| x)),
            case!(Cotangent, gauss_newton_product(&x.sum(..), &x, [&x], [&wide])),
            case!(Unconnected, grad(&x.sum(..), [&Tensor::new(1.0)]).unwrap().or_error()),
        ],
        &mut failures,
    );
    let absent = std::env::temp_dir().join("cotangent-absent-folder/model");
    let path = std::env::temp_dir().join(format!("cotangent-lines-{}", std::process::id()));
    io::save(&path, &[("v", &Array::from(1.0))]).unwrap();
    tried += judge(
        vec![
            case!(File, io::save(&absent, &[])),
            case!(File, io::save(&path, &[("", &Array::from(1.0))])),
            case!(File, io::save_described(&absent, &[], &[("key", "text")])),
            case!(File, io::description(&absent)),
            case!(File, io::load(&absent)),
            case!(File, io::load_into(&absent, &[])),
            case!(File, io::load_into(&path, &[])),
            case!(File, io::save_variables(&absent, &device, &group)),
            case!(DeviceMismatch, io::save_variables(&path, &other, &group)),
            case!(File, io::load_variables(&absent, &device, &group)),
            case!(File, io::load_variables(&path, &device, &group)),
        ],
        &mut failures,
    );
    std::fs::remove_file(&path).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(tried, 71);
}

#[test]
fn what_an_optimizer_computes_has_the_line_where_its_updates_were_made() {
    let device = Device::cpu();
    let group = device.variables(&[("w", &[1.0, 2.0]), ("b", &3.0)]).unwrap();
    let loss = group[0].pow(2).sum(..) + &group[1];
    let gradients = grad(&loss, &group.views()).unwrap().or_error().unwrap();
    let adam = Adam::new(0.1).weight_decay(0.1).attach(&device, &group).unwrap();
    let sgd = Sgd::new(0.1).momentum(0.5).attach(&device, &group).unwrap();
    let both = [adam.updates(&gradients).unwrap(), sgd.updates(&gradients).unwrap()];
    let new: Vec<_> =
        both.iter().flat_map(|updates| updates.pairs()).map(|(_, new)| new.node().unwrap().clone()).collect();
    let nodes = topological(&new);
    assert!(nodes.len() > 40, "{}", nodes.len());
    let elsewhere: Vec<String> = nodes
        .iter()
        .filter(|node| node.location.file() != file!())
        .map(|node| format!("{} at {}", node.name(), node.location))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}
