use cotangent_autograd::{Gradient, grad, surrogate_gradient};
use cotangent_device::Step;
use cotangent_tensor::{Evaluate, Reference};

use super::*;
use crate::OrError;

/// Runs an optimizer on the reference: the state goes back in after every step. Returns the parameter after each step.
fn run(optimizer: &dyn Optimizer, start: f64, steps: usize, loss: impl Fn(&Tensor) -> Tensor) -> Vec<f64> {
    let x = Tensor::input("x", [1], DType::F32);
    let state = optimizer.state(x.shape()).unwrap();
    let slots: Vec<Tensor> =
        state.iter().map(|(name, value)| Tensor::input(name, value.shape(), value.dtype())).collect();
    let gradient = grad(&loss(&x).sum(..), &x).unwrap().or_error().unwrap();
    let updates = optimizer.updates(&x, &gradient, &slots).unwrap();
    let mut values: Vec<Array> = vec![[start].into()];
    values.extend(state.into_iter().map(|(_, value)| value));
    let mut path = Vec::new();
    for _ in 0..steps {
        let mut reference = Reference::new();
        for ((target, _), value) in updates.iter().zip(&values) {
            reference = reference.bind(target, value.clone()).unwrap();
        }
        let new: Vec<&Tensor> = updates.iter().map(|(_, new)| new).collect();
        values = reference.evaluate(&new).unwrap();
        path.push(values[0].to_f64()[0]);
    }
    path
}

#[test]
fn adam_trains_through_a_surrogate_of_sign_as_printed() {
    let sign = |x: &Tensor| {
        surrogate_gradient("sign", "its derivative is zero", [x], |[x]| {
            let y = x.gt(0.0).select(Tensor::ones([1]), -1.0);
            (y, move |upstream: Tensor| upstream * x.sigmoid() * (-&x).sigmoid())
        })
    };
    let adam = Adam::new(0.1).epsilon(1e-7);
    let path = run(&adam, -1.0, 100, |x| 0.5 * (sign(x) - 1.0).pow(2));
    let expected = [
        (0, -0.9000),
        (10, 0.09959),
        (20, 0.64509),
        (30, 0.85559),
        (40, 0.93839),
        (50, 0.97063),
        (60, 0.98301),
        (70, 0.98770),
        (80, 0.98946),
        (90, 0.99011),
    ];
    for (step, value) in expected {
        assert!((path[step] - value).abs() <= 3e-5, "step {step}: {} is not {value}", path[step]);
    }
}

#[test]
fn momentum_adds_up_velocities() {
    // g = 1 always: velocities 1, 1.5, 1.75.
    assert_eq!(run(&Sgd::new(1.0).momentum(0.5), 0.0, 3, Tensor::clone), [-1.0, -2.5, -4.25]);
    assert_eq!(run(&Sgd::new(0.25), 1.0, 2, |x| x * x), [0.5, 0.25]);
}

#[test]
fn bias_correction_holds_after_many_steps() {
    // With constant gradients m̂/√v̂ is 1 at every step, also the two millionth.
    let (p, g) = (Tensor::new([0.0]), Tensor::new([3.0]));
    for t in [0u32, 99, 2_000_000] {
        let kept = |beta: f64| -(f64::from(t) * beta.ln()).exp_m1();
        let state = [Tensor::new([3.0 * kept(0.9)]), Tensor::new([9.0 * kept(0.999)]), Tensor::new(t)];
        let updates = Adam::new(1.0).epsilon(0.0).updates(&p, &g, &state).unwrap();
        let values = Reference::new().evaluate(&[&updates[0].1, &updates[3].1]).unwrap();
        // A dozen roundings.
        assert!((values[0].to_f64()[0] + 1.0).abs() <= 12.0 * f64::EPSILON);
        assert_eq!(values[1].to_f64(), [f64::from(t + 1)]);
    }
}

#[test]
fn weight_decay_shrinks_before_the_step() {
    let decayed = run(&Adam::new(0.5).weight_decay(0.1), 2.0, 1, |x| x * 0.0);
    assert_eq!(decayed, [2.0 * (1.0 - 0.05)]);
}

#[test]
fn hyperparameters_are_checked_when_updates_are_built() {
    let (p, g) = (Tensor::ones([1]), Tensor::ones([1]));
    let state = [Tensor::zeros([1]), Tensor::zeros([1]), Tensor::new(0u32)];
    let wrong: [(&dyn Optimizer, &[Tensor], &str); 7] = [
        (&Sgd::new(f64::NAN), &[], "learning_rate = NaN"),
        (&Sgd::new(-1.0), &[], "learning_rate = -1"),
        (&Sgd::new(1.0).momentum(1.0), &state[..1], "momentum = 1"),
        (&Adam::default().epsilon(-1e-8), &state, "epsilon = -0.00000001"),
        (&Adam::default().betas(1.0, 0.9), &state, "beta1 = 1"),
        (&Adam::default().betas(0.9, f64::NAN), &state, "beta2 = NaN"),
        (&Adam::default().weight_decay(f64::INFINITY), &state, "weight_decay = inf"),
    ];
    for (optimizer, state, text) in wrong {
        let error = optimizer.updates(&p, &g, state).unwrap_err();
        assert_eq!(error.code(), Code::Hyperparameter);
        assert!(error.message().contains(text), "{error}");
    }
    let column = Tensor::ones([1, 1]);
    assert_eq!(Sgd::new(1.0).updates(&p, &column, &[]).unwrap_err().code(), Code::Broadcast);
    assert_eq!(Adam::default().updates(&p, &g, &[]).unwrap_err().code(), Code::DataLength);
    assert_eq!(Sgd::new(&p).updates(&p, &g, &[]).unwrap_err().code(), Code::NotScalar);
}

#[test]
fn a_rate_may_be_a_schedule() {
    let (p, g) = (Tensor::new([1.0]), Tensor::new([1.0]));
    let rate = Tensor::new(0.5);
    let updates = Sgd::new(&rate).updates(&p, &g, &[]).unwrap();
    assert_eq!(Reference::new().evaluate(&[&updates[0].1]).unwrap()[0].to_f64(), [0.5]);
}

#[test]
fn lbfgs_minimizes_ill_conditioned_quadratics_and_survives_overflow() {
    let scales: Vec<f64> = (0..20).map(|i| 10f64.powf(f64::from(i) / 4.0)).collect();
    let quadratic = |p: &[f64]| {
        let loss = p.iter().zip(&scales).map(|(p, s)| 0.5 * s * (p - 1.0).powi(2)).sum();
        Ok((loss, p.iter().zip(&scales).map(|(p, s)| s * (p - 1.0)).collect()))
    };
    let lbfgs = Lbfgs { history: 25, max_iterations: 1000, ..Lbfgs::default() };
    let minimum = lbfgs.minimize(&[0.0; 20], quadratic).unwrap();
    assert!(minimum.converged, "{minimum:?}");
    // The gradient is s·(p − 1) with s ≥ 1; the largest parameter is near 1.
    assert!(minimum.parameters.iter().all(|p| (p - 1.0).abs() <= 2.0 * lbfgs.tolerance));
    assert!(minimum.loss_history.windows(2).all(|pair| pair[1] < pair[0]));
    // exp overflows far out; the search comes back.
    let steep = |p: &[f64]| Ok((p[0].exp() - 3.0 * p[0], vec![p[0].exp() - 3.0]));
    let minimum = Lbfgs::default().minimize(&[-800.0], steep).unwrap();
    assert!(
        minimum.converged && (minimum.parameters[0] - 3f64.ln()).abs() <= Lbfgs::default().tolerance,
        "{minimum:?}"
    );
    let nan = Lbfgs::default().minimize(&[0.0], |_| Ok((f64::NAN, vec![0.0])));
    assert_eq!(nan.unwrap_err().code(), Code::Nonfinite);
}

/// `w` and `b` of one group on a device, and a loss of both.
fn group(device: &Device) -> (Variables, Tensor) {
    let parameters = device.variables(&[("w", &[[1.0, -2.0], [3.0, 0.5]]), ("b", &-1.5)]).unwrap();
    let loss = parameters[0].pow(2).sum(..) + (&parameters[1] * &parameters[0]).sum(..);
    (parameters, loss)
}

#[test]
fn an_attached_optimizer_does_to_every_parameter_what_its_formula_says() {
    let optimizers: [&dyn Optimizer; 3] =
        [&Sgd::new(0.25), &Sgd::new(0.125).momentum(0.5), &Adam::new(0.5).weight_decay(0.25)];
    let mut compared = 0;
    for device in Device::all() {
        for optimizer in optimizers {
            let (parameters, loss) = group(&device);
            let attached = optimizer.attach(&device, &parameters).unwrap();
            let gradients = grad(&loss, &parameters.views()).unwrap().or_error().unwrap();
            let updates = attached.updates(&gradients).unwrap();
            // Each parameter for itself, with a state of its own.
            let mut expected = Vec::new();
            for (parameter, gradient) in parameters.iter().zip(&gradients) {
                let state = optimizer.state(parameter.shape()).unwrap();
                let state: Vec<Tensor> = state.into_iter().map(|(_, value)| Tensor::new(value)).collect();
                expected.push(optimizer.updates(parameter, gradient, &state).unwrap().swap_remove(0).1);
            }
            let expected = device.read_all(&expected.iter().collect::<Vec<_>>()).unwrap();
            Step::new(&device, &[], &[], &updates.pairs()).unwrap().run(&[]).unwrap();
            let found = device.read_all(&parameters.views().iter().collect::<Vec<_>>()).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                for (found, expected) in found.to_f64().iter().zip(expected.to_f64()) {
                    // The same dozen roundings, fused in another way.
                    let slack = 12.0 * f64::from(f32::EPSILON) * (1.0 + expected.abs());
                    assert!((found - expected).abs() <= slack, "{}: {found}, {expected}", device.slug());
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 15);
}

#[test]
fn steps_from_one_attached_optimizer_share_its_state() {
    let device = Device::cpu();
    let (parameters, loss) = group(&device);
    let adam = Adam::new(0.5).attach(&device, &parameters).unwrap();
    let step = |scale: f64| {
        let gradients = grad(&(&loss * scale), &parameters.views()).unwrap().or_error().unwrap();
        Step::new(&device, &[], &[], &adam.updates(&gradients).unwrap().pairs()).unwrap()
    };
    let (first, second) = (step(1.0), step(0.5));
    for _ in 0..2 {
        first.run(&[]).unwrap();
        second.run(&[]).unwrap();
    }
    let names: Vec<&str> = adam.state().iter().map(|slot| slot.name()).collect();
    assert_eq!(names, ["first_moment", "second_moment", "steps"]);
    assert_eq!(device.read(&adam.state()[2]).unwrap().scalar().unwrap(), 4.0);
}

#[test]
fn changed_gradients_and_those_of_ones_own_are_taken_as_they_are() {
    let device = Device::cpu();
    let (parameters, loss) = group(&device);
    let sgd = Sgd::new(1.0).attach(&device, &parameters).unwrap();
    let gradients = grad(&loss, &parameters.views()).unwrap();
    let clipped: Vec<Gradient> = gradients.iter().map(|g| g.map(|g| g.clamp(-0.5, 0.5))).collect();
    let own = [clipped.or_error().unwrap()[0].clone(), Tensor::new(10.0)];
    let updates = sgd.updates(&own).unwrap();
    Step::new(&device, &[], &[], &updates.pairs()).unwrap().run(&[]).unwrap();
    let found = device.read_all(&parameters.views().iter().collect::<Vec<_>>()).unwrap();
    // Gradients of w are 2w − 1.5: 0.5, −5.5, 4.5 and −0.5.
    assert_eq!(found[0].to_f64(), [0.5, -1.5, 2.5, 1.0]);
    assert_eq!(found[1].to_f64(), [-11.5]);
}

#[test]
fn gradients_that_do_not_fit_their_parameters_are_refused_at_the_line_of_the_call() {
    let device = Device::cpu();
    let (parameters, loss) = group(&device);
    let adam = Adam::default().attach(&device, &parameters).unwrap();
    let gradients = grad(&loss, &parameters.views()).unwrap().or_error().unwrap();
    let turned = [gradients[0].clone(), gradients[1].unsqueeze(0)];
    for wrong in [&gradients[..1], &turned] {
        let error = adam.updates(wrong).unwrap_err();
        assert_eq!(error.code(), Code::Update);
        assert!(error.to_string().contains("src/optimizers/tests.rs"), "{error}");
    }
    // An invalid gradient speaks for itself.
    let invalid = Tensor::ones([2]) + Tensor::ones([3]);
    let error = adam.updates(&[gradients[0].clone(), invalid]).unwrap_err();
    assert_eq!(error.code(), Code::Broadcast);
}
