//! A. The three example programs: custom gradients, custom losses, training without a loss.

use crate::common::{
    Adam, Array, Code, CustomGradient, Error, Evaluate, Evaluator, Family, Inspected, Mode, Optimizer,
    Reduction, Reference, Row, Sgd, Shape, Step, StepOptions, Tensor, Training, bounds, custom_gradient,
    grad, losses, trace, train, vjp, where_,
};
use crate::harness::{Case, Findings};
use crate::judge::{Number, numbers};

pub const CASES: &[Case] = &[
    Case { label: "t01_trace", origin: "seed 1", program: t01_trace },
    Case {
        label: "t02_several_inputs",
        origin: "seed 1; TF testUnconnectedGradientsDefault, testUnconnectedGradientsZeros",
        program: t02_several_inputs,
    },
    Case { label: "t03_surrogate_of_sign", origin: "seed 1; TF 2.21 run", program: t03_surrogate_of_sign },
    Case {
        label: "t04_adam_as_one_step",
        origin: "seed 1; TF 2.21 run",
        program: |e, f| t04_adam(e, f, Mode::Captured),
    },
    Case {
        label: "t04_adam_with_reads",
        origin: "seed 1; TF 2.21 run",
        program: |e, f| t04_adam(e, f, Mode::Reads),
    },
    Case {
        label: "t05_weighted_mse",
        origin: "seed 0; optax test_shape_mismatch",
        program: t05_weighted_mse,
    },
    Case { label: "t06_hinge_with_margin", origin: "seed 0; PyTorch run", program: t06_hinge },
    Case { label: "t08_gaussian_without_loss", origin: "seed 2", program: t08_gaussian },
    Case { label: "t08_trajectories", origin: "seed 2", program: t08_trajectories },
    Case { label: "t09_poisson", origin: "seed 2", program: t09_poisson },
    Case { label: "t09_categorical", origin: "seed 2", program: t09_categorical },
];

/// x² with a rule that prints what passes through it.
fn square(x: &Tensor) -> Tensor {
    custom_gradient("square", [x], |[x]| {
        let y = &x * &x;
        (y, move |upstream: Tensor| {
            let current = (2.0 * &x.inspect("x")).inspect("current");
            (upstream.inspect("upstream") * current).inspect("downstream")
        })
    })
}

fn t01_trace(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(2.0);
    let a = square(&x);
    let b = square(&a);
    let y = square(&b);
    for (name, tensor, literal) in [("a", &a, "4"), ("b", &b, "16"), ("y", &y, "256")] {
        f.value(name, tensor, literal);
    }
    let [dx, da, db, dy] = grad(&y, [&x, &a, &b, &y])?;
    f.gradient("upstream of the last", &dy, "1")?;
    f.gradient("downstream of the last", &db, "32")?;
    f.gradient("downstream of the second", &da, "256")?;
    f.gradient("downstream of the first", &dx, "1024")?;
    for (name, at, slope) in [("third", &b, "32"), ("second", &a, "8"), ("first", &x, "4")] {
        let at = at.detach();
        f.gradient(&format!("current of the {name}"), &grad(&square(&at), &at)?, slope)?;
    }
    f.gradient("second derivative", &grad(&dx.or_error()?, &x)?, "3584")?;
    printed(evaluator, f, &dx.or_error()?)?;
    traced(evaluator, f, "with a rule", [&a, &b, &y])?;
    // The automatic trace needs no rule that prints.
    let x = Tensor::new(2.0);
    let a = &x * &x;
    let b = &a * &a;
    traced(evaluator, f, "of products", [&a, &b, &(&b * &b)])
}

/// What the rule prints while a gradient is computed, application by application.
fn printed(evaluator: &Evaluator, f: &mut Findings, gradient: &Tensor) -> Result<(), Error> {
    let seen = evaluator.inspect(&[gradient])?;
    for (label, literal) in
        [("x", "16 4 2"), ("upstream", "1 32 256"), ("current", "32 8 4"), ("downstream", "32 256 1024")]
    {
        let column = seen.iter().filter(|row| &*row.label == label).map(|row| row.value.clone());
        f.known(&format!("{label} printed by the rule"), &column.collect::<Vec<_>>(), numbers(literal));
    }
    f.text("rows printed", seen.len(), 12);
    // A captured step prints the same in every run.
    if let Some(device) = &evaluator.device {
        let options = StepOptions { inspect: true, ..StepOptions::default() };
        let outputs = Step::with_options(device, &[], &[gradient], &[], options)?.run(&[])?;
        f.text("outputs beside what is printed", outputs.len(), 1);
        let show = |rows: &[Inspected]| {
            rows.iter().map(|r| format!("{} {:?}", r.label, r.value.to_f64())).collect::<Vec<_>>()
        };
        f.text(
            "printed by a step",
            format!("{:?}", show(&outputs.inspected()?)),
            format!("{:?}", show(&seen)),
        );
    }
    Ok(())
}

/// The table of y = f(f(f(x))) at 2: upstream, current and downstream of each application, from the last to the first.
fn traced(evaluator: &Evaluator, f: &mut Findings, which: &str, nodes: [&Tensor; 3]) -> Result<(), Error> {
    let table = trace(nodes[2], &nodes, evaluator)?;
    let columns = |of: fn(&Row) -> &Array| table.rows.iter().map(of).cloned().collect::<Vec<_>>();
    let mut column = |name: &str, of: fn(&Row) -> &Array, literal: &str| {
        f.known(&format!("{name} {which}"), &columns(of), numbers(literal));
    };
    column("values", |row| &row.value, "16 4 2");
    column("results", |row| &row.result, "256 16 4");
    column("upstream", |row| &row.upstream, "1 32 256");
    column("current", |row| &row.current, "32 8 4");
    column("downstream", |row| &row.downstream, "32 256 1024");
    let mut names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    f.text(&format!("distinct names {which}"), names.len(), 3);
    Ok(())
}

fn t02_several_inputs(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (x, y) = (Tensor::new(2.0), Tensor::new(3.0));
    let bar = custom_gradient("bar", [&x, &y], |[x, y]| {
        (&x * &y, move |upstream: Tensor| (&upstream * &y, &upstream * &x))
    });
    let [dx, dy] = grad(&bar, [&x, &y])?;
    f.value("bar", &bar, "6");
    f.gradient("dx", &dx, "3")?;
    f.gradient("dy", &dy, "2")?;
    let none = grad(&x, &y)?;
    f.state("dx/dy", &none, "Unconnected");
    f.value("dx/dy or zero", &none.or_zero(), "0");
    f.error("dx/dy or error", none.or_error(), Code::Unconnected, &["do not depend on"]);
    Ok(())
}

/// 1 for x > 0, else −1, with the slope of the logistic function.
fn soft_sign(x: &Tensor) -> Tensor {
    CustomGradient::surrogate("soft_sign", "sign has no slope").apply([x], |[x]| {
        let y = where_(&x.gt(0.0), 1.0, -1.0);
        (y, move |upstream: Tensor| {
            let q = x.sigmoid();
            upstream * &q * (1.0 - &q)
        })
    })
}

fn t03_surrogate_of_sign(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let s = soft_sign(&x);
    f.value("s", &s, "1");
    f.gradient("ds", &grad(&s, &x)?, "0.0451766597309")?;
    let loss = 0.5 * (&s + 1.0).pow(2);
    f.value("loss", &loss, "2");
    f.gradient("dloss", &grad(&loss, &x)?, "0.0903533194618")
}

/// Adam (0.1, 0.9, 0.999, ε 1e-7) from −1 towards s(x) = 1.
fn t04_adam(evaluator: &Evaluator, f: &mut Findings, mode: Mode) -> Result<(), Error> {
    let adam = Adam::new(0.1).betas(0.9, 0.999).epsilon(1e-7);
    let step = |state: &[Tensor]| {
        let (x, own) = (&state[0], &state[1..]);
        let loss = 0.5 * (soft_sign(x) - 1.0).pow(2);
        let g = grad(&loss, x)?.or_error()?;
        let updates: Vec<Tensor> = adam.updates(x, &g, own)?.into_iter().map(|(_, next)| next).collect();
        Ok(Training { outputs: vec![loss, g, updates[0].clone()], updates })
    };
    let own = adam.state(&Shape::SCALAR)?;
    let mut initial = vec![("x", Array::from(-1.0))];
    initial.extend(own.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let (history, _) = train(evaluator, mode, &initial, 100, &step)?;
    f.known("first loss", &history[0][..1], numbers("2"));
    f.known("first gradient", &history[0][1..2], numbers("-0.3932239…"));
    let x: Vec<Array> = history.iter().map(|row| row[2].clone()).collect();
    f.known("x after step 0", &x[..1], numbers("-0.9000±3e-5"));
    let marks: Vec<Array> = (10..100).step_by(10).map(|k| x[k].clone()).collect();
    f.known("x after steps 10, 20, …, 90", &marks, numbers(
        "0.09959±3e-5 0.64509±3e-5 0.85559±3e-5 0.93839±3e-5 0.97063±3e-5 0.98301±3e-5 0.98770±3e-5 0.98946±3e-5
         0.99011±3e-5",
    ));
    let zeros: Vec<Array> = history[10..].iter().flat_map(|row| row[..2].to_vec()).collect();
    f.known("loss and gradient from step 10", &zeros, vec![Number::exact(0.0); 180]);
    Ok(())
}

fn t05_weighted_mse(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let prediction = Tensor::new([1.0, 2.0, 3.0, 4.0, 5.0]);
    let (target, weight) = (Tensor::new([1.5, 1.0, 3.0, 2.0, 6.0]), Tensor::new([1.0, 2.0, 1.0, 1.0, 3.0]));
    let loss = (&weight * (&prediction - &target).pow(2)).mean(..);
    f.value("loss", &loss, "1.85");
    f.gradient("gradient", &grad(&loss, &prediction)?, "-0.2 0.8 0 0.8 -1.2")?;
    let shipped = losses::weighted_mse(&prediction, &target, &weight, Reduction::Mean);
    f.value("loss of the library", &shipped, "1.85");
    f.gradient("its gradient", &grad(&shipped, &prediction)?, "-0.2 0.8 0 0.8 -1.2")?;
    let column = prediction.reshape([5, 1]);
    let wrong = losses::weighted_mse(&column, &target.reshape([5, 1]), &weight, Reduction::Mean);
    f.invalid(evaluator, &wrong, Code::Broadcast, &["would broadcast to [5, 5]", "programs.rs"]);
    Ok(())
}

fn t06_hinge(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let y = Tensor::new([1.0, 1.0, -1.0, 1.0]);
    let p = Tensor::new([2.0, 1.0, -0.2, 1.5]);
    let loss = (1.0 - &y * &p + 0.5).max(0.0);
    f.value("loss", &loss, "0 0.5 1.3 0");
    f.gradient("slope", &vjp(&[(&loss, &Tensor::ones([4]))], &p)?, "0 -1 1 -0.5")?;
    let shipped = losses::hinge(&p, &y, 0.5, Reduction::None);
    f.value("loss of the library", &shipped, "0 0.5 1.3 0");
    f.gradient("its slope", &grad(&shipped.sum(..), &p)?, "0 -1 1 -0.5")
}

const X: [f64; 4] = [0.0, 0.5, 1.0, 1.5];
const Y: [f64; 4] = [1.0, 0.0, 2.0, 3.0];

/// η = w·x + b at w = 0.3, b = 0.1.
fn linear() -> (Tensor, Tensor, Tensor) {
    let (w, b) = (Tensor::new(0.3), Tensor::new(0.1));
    let eta = &w * Tensor::new(X) + &b;
    (w, b, eta)
}

fn t08_gaussian(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (w, b, eta) = linear();
    let y = Tensor::new(Y);
    for upstream in [(&eta - &y) / 4.0, Family::gaussian().residual(&eta, &y) / 4.0] {
        let [dw, db] = vjp(&[(&eta, &upstream)], [&w, &b])?;
        f.gradient("dw", &dw, "-1.2875")?;
        f.gradient("db", &db, "-1.175")?;
    }
    let [dw, db] = grad(&(0.5 * (&eta - &y).pow(2).mean(..)), [&w, &b])?;
    f.gradient("dw of the loss", &dw, "-1.2875")?;
    f.gradient("db of the loss", &db, "-1.175")
}

fn t08_trajectories(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let step = |with_loss: bool| {
        move |state: &[Tensor]| {
            let [w, b] = state else { unreachable!("two state tensors") };
            let (x, y) = (Tensor::new(X), Tensor::new(Y));
            let eta = w * x + b;
            let [dw, db] = if with_loss {
                grad(&(0.5 * (&eta - &y).pow(2).mean(..)), [w, b])?
            } else {
                vjp(&[(&eta, &((&eta - &y) / 4.0))], [w, b])?
            };
            let sgd = Sgd::new(0.1);
            let mut next = Vec::new();
            for (parameter, gradient) in [(w, dw), (b, db)] {
                next.extend(
                    sgd.updates(parameter, &gradient.or_error()?, &[])?.into_iter().map(|(_, next)| next),
                );
            }
            Ok(Training { outputs: next.clone(), updates: next })
        }
    };
    let initial = [("w", Array::from(0.3)), ("b", Array::from(0.1))];
    let (with_loss, end) = train(evaluator, Mode::Captured, &initial, 500, &step(true))?;
    let (without, _) = train(evaluator, Mode::Captured, &initial, 500, &step(false))?;
    let words =
        |history: &[Vec<Array>]| history.iter().flatten().flat_map(Array::to_words).collect::<Vec<_>>();
    // Factors ¼ and ½ are exact, so both ways give the same bits although their kernels differ.
    let differing = words(&with_loss).iter().zip(words(&without)).filter(|(a, b)| **a != *b).count();
    f.text("numbers that differ between the ways", differing, 0);
    let literals = numbers("1.59994646628 0.300049258135");
    let slack = contraction(evaluator, &with_loss, &step(true))?;
    let expected = literals.iter().zip(slack);
    let expected =
        expected.map(|(n, slack)| Number { tolerance: n.tolerance + slack, given: slack > 0.0, ..*n });
    f.known("end", &end, expected.collect());
    Ok(())
}

/// How far the end of a trajectory may be from the exact one: each step adds at most the derived bound of one step on
/// the numbers of the device, and `I − 0.1·H` with the Hessian `H` carries it on.
fn contraction(
    evaluator: &Evaluator,
    history: &[Vec<Array>],
    step: &dyn Fn(&[Tensor]) -> Result<Training, Error>,
) -> Result<[f64; 2], Error> {
    if evaluator.is_reference() {
        return Ok([0.0; 2]);
    }
    let n = X.len() as f64;
    let (sx, sxx) = (X.iter().sum::<f64>() / n, X.iter().map(|x| x * x).sum::<f64>() / n);
    let keep = [[1.0 - 0.1 * sxx, -0.1 * sx], [-0.1 * sx, 1.0 - 0.1]];
    // The start is rounded to f32 too, and so is the rate 0.1 (inside the step: part of its bound there).
    let mut error = [0.3 * f64::from(f32::EPSILON), 0.1 * f64::from(f32::EPSILON)];
    let mut spread = [[1.0, 0.0], [0.0, 1.0]];
    let mut reach = [[0.0; 2]; 2];
    let mut worst = [0.0f64; 2];
    for row in history {
        let leaves: Vec<Tensor> = row.iter().map(|a| Tensor::new(a.clone())).collect();
        let next = step(&leaves)?.updates;
        let next: Vec<&Tensor> = next.iter().collect();
        let bounded = bounds(&next, &evaluator.arithmetic())?;
        let exact = Reference::new().evaluate(&next)?;
        for i in 0..2 {
            let constants = (exact[i].to_f64()[0] - bounded[i].value[0]).abs();
            worst[i] = worst[i].max(bounded[i].bound[0] + constants);
        }
        for i in 0..2 {
            for j in 0..2 {
                reach[i][j] += f64::abs(spread[i][j]);
            }
        }
        spread = [0, 1].map(|i| [0, 1].map(|j| spread[i][0] * keep[0][j] + spread[i][1] * keep[1][j]));
    }
    for i in 0..2 {
        error[i] += worst[i];
    }
    Ok([0, 1].map(|i| reach[i][0] * error[0] + reach[i][1] * error[1]))
}

fn t09_poisson(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (w, b, eta) = linear();
    let y = Tensor::new(Y);
    for upstream in [(eta.exp() - &y) / 4.0, Family::poisson().residual(&eta, &y) / 4.0] {
        let [dw, db] = vjp(&[(&eta, &upstream)], [&w, &b])?;
        f.gradient("dw", &dw, "-0.441570766803")?;
        f.gradient("db", &db, "-0.0964314874320")?;
    }
    let [dw, _] = grad(&Family::poisson().nll(&eta, &y, Reduction::Mean), [&w, &b])?;
    f.gradient("dw of the NLL", &dw, "-0.441570766803")
}

fn t09_categorical(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let eta = Tensor::new([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]);
    let classes = Tensor::new([2, 0]);
    let gradient = "0.0450152865852 0.122364235527 -0.167379522113 -1/3 1/6 1/6";
    f.value("cotangent", &(Family::categorical().residual(&eta, &classes) / 2.0), gradient);
    f.value("softmax − onehot", &((eta.softmax(-1) - classes.one_hot(3)) / 2.0), gradient);
    let loss = Family::categorical().nll(&eta, &classes, Reduction::Mean);
    f.value("mean NLL", &loss, "0.753109126556");
    f.gradient("gradient of the NLL", &grad(&loss, &eta)?, gradient)
}
