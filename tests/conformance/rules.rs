//! B. What a custom rule means.

use std::collections::BTreeSet;

use crate::common::check::unchecked;
use crate::common::elementwise::Class;
use crate::common::{
    Code, CustomGradient, DType, Elementwise, Error, Evaluate, Evaluator, Real, Reduce, Reference, State,
    Tensor, batch, batch_jacobian, custom_gradient, grad, jvp, losses, straight_through, surrogate_gradient,
    trace, vjp, where_,
};
use crate::harness::{Case, Findings};
use crate::judge::numbers;

/// Cases whose rules are no derivatives, so that it is the rules that are seen, are `unchecked`.
pub const CASES: &[Case] = &[
    Case {
        label: "t10_rule_of_sin",
        origin: "JAX CustomVJPTest.test_basic",
        program: |e, f| unchecked(|| t10_sin(e, f)),
    },
    Case {
        label: "t11_rule_is_differentiated",
        origin: "JAX test_custom_gradient; JAX, TF, MLX run",
        program: |e, f| unchecked(|| t11(e, f)),
    },
    Case { label: "t12_ignores_its_cotangent", origin: "JAX test_custom_gradient_2", program: t12 },
    Case {
        label: "t13_bare_tensor",
        origin: "JAX test_custom_gradient_can_return_singleton_value_in_vjp",
        program: t13,
    },
    Case {
        label: "t14_honored",
        origin: "TF testCustomGradient, testCustomGradientTrivial",
        program: |e, f| unchecked(|| t14(e, f)),
    },
    Case { label: "t16_none_for_one_of_two", origin: "JAX test_bwd_nones", program: t16 },
    Case {
        label: "t17_integer_input",
        origin: "JAX test_float0_bwd_none",
        program: |e, f| unchecked(|| t17(e, f)),
    },
    Case {
        label: "t22_returns_its_input",
        origin: "PyTorch test_function_returns_input",
        program: |e, f| unchecked(|| t22(e, f)),
    },
    Case { label: "t24_elu", origin: "candle custom_op1_with_backward", program: t24 },
    Case {
        label: "t25_capture",
        origin: "JAX test_closed_over_tracer*; MLX, TF and PyTorch measured",
        program: t25,
    },
    Case {
        label: "t26_options",
        origin: "tensorflow #65839; JAX test_kwargs",
        program: |e, f| unchecked(|| t26(e, f)),
    },
    Case {
        label: "t27_repeated",
        origin: "TF testCustomGradientClass, testRecursiveCustomGradient",
        program: |e, f| unchecked(|| t27(e, f)),
    },
    Case { label: "t30_saved_intermediate", origin: "pytorch #58509", program: t30 },
    Case { label: "t31_vjp_inside", origin: "JAX test_nestable_vjp", program: t31 },
    Case { label: "t32_control_flow", origin: "JAX test_python_control_flow", program: t32 },
    Case {
        label: "t33_every_operation_mid_graph",
        origin: "meganeura mean_all_mid_chain_respects_upstream_coef",
        program: t33,
    },
    Case { label: "t34_batch", origin: "MLX, JAX", program: |e, f| unchecked(|| t34(e, f)) },
    Case { label: "t36_forward_mode", origin: "JAX test_jvp_error", program: |e, f| unchecked(|| t36(e, f)) },
    Case { label: "t40_straight_through", origin: "TF GradPassThroughTest", program: t40 },
    Case { label: "t41_stable_rules", origin: "JAX and TF documentation", program: t41 },
];

/// sin with the rule 2cos(x)·g.
fn sin2(x: &Tensor) -> Tensor {
    custom_gradient("sin2", [x], |[x]| (x.sin(), move |upstream: Tensor| upstream * 2.0 * x.cos()))
}

fn t10_sin(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let y = sin2(&x);
    f.value("value", &y, "0.141120008060");
    f.gradient("gradient", &grad(&y, &x)?, "-1.97998499320")
}

fn t11(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let y = custom_gradient("half", [&x], |[x]| (&x * &x, move |upstream: Tensor| upstream * x));
    let first = grad(&y, &x)?.or_error()?;
    f.value("f", &y, "9");
    f.value("f′", &first, "3");
    f.gradient("f″", &grad(&first, &x)?, "1")
}

fn t12(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (x, y) = (Tensor::new(3.0), Tensor::new(4.0));
    let product = surrogate_gradient("product", "ignores its cotangent", [&x, &y], |[x, y]| {
        (&x * &y, move |_: Tensor| (y, x))
    });
    let [dx, dy] = grad(&product, [&x, &y])?;
    f.value("value", &product, "12");
    f.gradient("dx", &dx, "4")?;
    f.gradient("dy", &dy, "3")?;
    let [dx, _] = grad(&(5.0 * &product), [&x, &y])?;
    f.gradient("dx of five times it", &dx, "4")
}

fn t13(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let bare = custom_gradient("bare", [&x], |[x]| (&x * &x, move |upstream: Tensor| upstream * 2.0 * x));
    let listed =
        custom_gradient("listed", [&x], |[x]| (&x * &x, move |upstream: Tensor| [upstream * 2.0 * x]));
    f.gradient("bare tensor", &grad(&bare, &x)?, "6")?;
    f.gradient("array of one", &grad(&listed, &x)?, "6")
}

fn t14(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (a, b) = (Tensor::new(3.0), Tensor::new(5.0));
    let product = custom_gradient("product", [&a, &b], |[a, b]| {
        (&a * &b, move |upstream: Tensor| (&upstream * a, &upstream * b))
    });
    let [da, db] = grad(&product, [&a, &b])?;
    f.gradient("first", &da, "3")?;
    f.gradient("second", &db, "5")?;
    let triple = |x: &Tensor| custom_gradient("triple", [x], |[x]| (x, |upstream: Tensor| upstream * 3.0));
    f.gradient("applied twice", &grad(&triple(&triple(&a)), &a)?, "9")
}

fn t16(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let y = custom_gradient("x_sin_y", [&x, &x], |[x, y]| {
        (x * y.sin(), move |upstream: Tensor| (None, upstream * 2.0 * y.cos()))
    });
    f.value("value", &y, "0.423360024180");
    f.gradient("gradient", &grad(&y, &x)?, "-1.97998499320")
}

fn t17(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (i, x) = (Tensor::new([1, 2]), Tensor::new(3.0));
    let y = custom_gradient("with_integers", [&i, &x], |[_, x]| {
        (x.sin(), move |upstream: Tensor| (None, upstream * 2.0 * x.cos()))
    });
    f.gradient("gradient of x", &grad(&y, &x)?, "-1.97998499320")?;
    f.error("gradient of the integer", grad(&y, &i), Code::NotDifferentiable, &["i32"]);
    Ok(())
}

fn t22(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let twice = |x: &Tensor| custom_gradient("twice", [x], |[x]| (x, |upstream: Tensor| upstream * 2.0));
    for x in [Tensor::new([1.5]), Tensor::new(1.5)] {
        let y = twice(&x);
        f.value("value", &y, "1.5");
        f.gradient("gradient", &grad(&y.sum(..), &x)?, "2")?;
    }
    Ok(())
}

fn t24(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([-2.0, 0.0, 2.0]);
    let elu = custom_gradient("elu", [&x], |[x]| {
        let right = x.ge(0.0);
        let y = where_(&right, &x, 2.0 * (x.exp() - 1.0));
        (y, move |upstream: Tensor| upstream * where_(&right, 1.0, 2.0 * x.exp()))
    });
    f.value("values", &elu, "-1.72932943353 0 2");
    f.gradient("gradients", &grad(&elu.sum(..), &x)?, "0.270670566473 1 1")
}

fn t25(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (x, w) = (Tensor::new(3.0), Tensor::new(2.0).named("weight"));
    let by =
        |w: Tensor| custom_gradient("scaled", [&x], |[x]| (x * &w, move |upstream: Tensor| upstream * w));
    let y = by(w.clone());
    f.value("value", &y, "6");
    f.gradient("gradient of the input", &grad(&y, &x)?, "2")?;
    f.error("gradient of the captured", grad(&y, &w), Code::RuleCapture, &["`weight`", "scaled"]);
    let input = by(Tensor::input("weight", [], DType::F32));
    f.invalid(evaluator, &input, Code::RuleCapture, &["`weight`", "scaled"]);
    Ok(())
}

fn t26(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let scale = |x: &Tensor, factor: Option<f64>| {
        let factor = factor.unwrap_or(2.0);
        custom_gradient("scale", [x], |[x]| (x * factor, |upstream: Tensor| upstream * -1000.0))
    };
    let x = Tensor::new(3.0);
    for (name, factor, value) in [("by default", None, "6"), ("by five", Some(5.0), "15")] {
        let y = scale(&x, factor);
        f.value(name, &y, value);
        f.gradient(name, &grad(&y, &x)?, "-1000")?;
    }
    Ok(())
}

/// A rule as a method.
struct Cube {
    slope: f64,
}

impl Cube {
    fn apply(&self, x: &Tensor) -> Tensor {
        let slope = self.slope;
        custom_gradient("cube", [x], move |[x]| (x.pow(3), move |upstream: Tensor| upstream * slope))
    }
}

fn t27(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let cube = Cube { slope: 3.0 };
    let x = Tensor::new(1.0);
    let mut y = x.clone();
    let mut applications = Vec::new();
    for _ in 0..5 {
        y = cube.apply(&y);
        applications.push(y.clone());
    }
    let table = trace(&y, &applications.iter().collect::<Vec<_>>(), evaluator)?;
    let names: BTreeSet<String> = table.rows.into_iter().map(|row| row.name).collect();
    f.text("distinct names in the trace", names.len(), 5);
    f.value("five times", &y, "1");
    f.gradient("every application uses the rule", &grad(&y, &x)?, "243")?;
    // Inside another rule's forward: the outer rule differentiates the inner one, which uses its own rule.
    let outer = custom_gradient("outer", [&x], |[x]| {
        let inner = cube.apply(&x);
        let y = &inner * 2.0;
        (y, move |upstream: Tensor| {
            vjp(&[(&inner, &upstream)], &x).map_or_else(Tensor::invalid, |g| g.or_zero())
        })
    });
    f.value("nested", &outer, "2");
    f.gradient("nested rule", &grad(&outer, &x)?, "3")
}

fn t30(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let square = |x: &Tensor| {
        custom_gradient("square_of_double", [x], |[x]| {
            let i = 2.0 * &x;
            (&i * &i, move |upstream: Tensor| 4.0 * i * upstream)
        })
    };
    let x = Tensor::new(1.5);
    let y = square(&x);
    let first = grad(&y, &x)?.or_error()?;
    f.value("f′", &first, "12");
    f.gradient("f″", &grad(&first, &x)?, "8")?;
    let first = grad(&y.pow(2), &x)?.or_error()?;
    f.gradient("(f²)″", &grad(&first, &x)?, "432")
}

fn t31(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let square = |x: &Tensor| {
        custom_gradient("square", [x], |[x]| {
            let y = &x * &x;
            (y.clone(), move |upstream: Tensor| {
                vjp(&[(&y, &upstream)], &x).map_or_else(Tensor::invalid, |g| g.or_zero())
            })
        })
    };
    let x = Tensor::new(1.0);
    let y = square(&x);
    f.gradient("gradient", &grad(&y, &x)?, "2")?;
    f.gradient("with cotangent 3", &vjp(&[(&y, &Tensor::new(3.0))], &x)?, "6")
}

fn t32(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(1.0);
    for (double, slope) in [(true, "2"), (false, "3")] {
        let y = custom_gradient("branching", [&x], |[x]| {
            let factor = if double { 2.0 } else { 3.0 };
            (x * factor, move |upstream: Tensor| upstream * factor)
        });
        f.value("value", &y, slope);
        f.gradient("slope", &grad(&y, &x)?, slope)?;
    }
    Ok(())
}

/// Every elementwise row with a derivative, with `x` in the place of each float operand, summed; inside its domain.
fn rows_at(x: &Tensor) -> Result<Vec<(String, Tensor)>, Error> {
    let others = [Tensor::new([1.5, 2.5, 3.25]), Tensor::new([0.375, 0.625, 0.8125])];
    let condition = Tensor::new([true, false, true]);
    let mut found = Vec::new();
    for &row in Elementwise::ALL {
        let is_select = match row.class() {
            Class::Real => false,
            Class::Select => true,
            Class::Test | Class::Logic => continue,
        };
        for position in usize::from(is_select)..row.arity() {
            // Some functions begin at 1.
            let inside = [x.clone(), x + 1.0].into_iter().find_map(|x| {
                let mut operands: Vec<Tensor> = (0..row.arity()).map(|i| others[i % 2].clone()).collect();
                if is_select {
                    operands[0] = condition.clone();
                }
                operands[position] = x.clone();
                let value = <Tensor as Real>::apply(row, &operands.iter().collect::<Vec<_>>()).sum(..);
                is_finite(&value).then_some(value)
            });
            let name = format!("{} {position}", row.name());
            let what = || Error::new(Code::Internal, name.clone(), "no operand of the case is in its domain");
            found.push((name.clone(), inside.ok_or_else(what)?));
        }
    }
    Ok(found)
}

fn is_finite(tensor: &Tensor) -> bool {
    let values = Reference::new().evaluate(&[tensor]);
    values.is_ok_and(|arrays| arrays[0].to_f64().iter().all(|value| value.is_finite()))
}

/// 2.5·ℓ(x) + Σx² has the gradient 2.5·∇ℓ + 2x.
fn t33(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([0.25, 0.75, 0.5]);
    let mut middle = rows_at(&x)?;
    for &kind in Reduce::ALL {
        let reduced = match kind {
            Reduce::Sum => x.sum(..),
            Reduce::Prod => x.prod(..),
            Reduce::Max => x.max_over(..),
            Reduce::Min => x.min_over(..),
        };
        middle.push((format!("reduce {}", kind.name()), reduced));
    }
    let label = Tensor::new(1);
    middle.extend(
        [
            ("mean", x.mean(..)),
            ("logsumexp", x.logsumexp(..)),
            ("softmax", (x.softmax(0) * Tensor::new([1.0, 2.0, 3.0])).sum(..)),
            ("log_softmax", x.log_softmax(0).mean(..)),
            ("cross_entropy", x.cross_entropy(&label)),
            ("matmul", x.matmul(&Tensor::new([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).sum(..)),
            ("cumulative_sum", (x.cumulative_sum(0, true) * &x.detach()).sum(..)),
            ("gather", x.gather(0, &Tensor::new([2, 0, 2])).sum(..)),
            ("scatter_add", Tensor::scatter_add(&Tensor::new([1, 0, 1]), &x, 0, 2).pow(2).sum(..)),
            ("concat", Tensor::concat(&[&x, &x.flip(0)], 0).pow(2).sum(..)),
            ("movement", x.reshape([3, 1]).transpose().pad(1, 1, 0).slice(1, 1, 3, 1).pow(2).sum(..)),
        ]
        .map(|(name, loss)| (name.to_owned(), loss)),
    );
    let mut covered = BTreeSet::new();
    let mut flat = 0;
    for (name, loss) in middle {
        let alone = grad(&loss, &x)?;
        let together = grad(&(2.5 * &loss + x.pow(2).sum(..)), &x)?;
        covered.insert(name.split(' ').next().unwrap_or_default().to_owned());
        if let State::NotDifferentiable { op } = alone.state() {
            f.state(&name, &together, &format!("NotDifferentiable at {op}"));
            flat += 1;
            continue;
        }
        let (together, alone) = (together.or_error()?, 2.5 * alone.or_zero() + 2.0 * &x);
        f.text(&format!("{name} is finite"), is_finite(&together), true);
        f.same(&name, &together, &alone);
    }
    // Only where a chain of special functions ends.
    f.text("without a derivative", flat, 1);
    for loss in losses::ALL {
        let operands: Vec<Tensor> = (loss.sample)().into_iter().map(Tensor::new).collect();
        let (x, value) = (&operands[0], (loss.function)(&operands).sum(..));
        let alone = 2.5 * grad(&value, x)?.or_error()? + 2.0 * x;
        let together = grad(&(2.5 * value + x.pow(2).sum(..)), x)?.or_error()?;
        f.text(&format!("{} is finite", loss.name), is_finite(&together), true);
        f.same(loss.name, &together, &alone);
    }
    // Every row that has values, whatever their number.
    let missing = |row: &&Elementwise| {
        matches!(row.class(), Class::Real | Class::Select) && !covered.contains(row.name())
    };
    let missing: Vec<&str> = Elementwise::ALL.iter().filter(missing).map(|row| row.name()).collect();
    f.text("rows left out", missing.join(" "), "");
    Ok(())
}

/// exp with the rule 42·g.
fn forty_two(x: &Tensor) -> Tensor {
    custom_gradient("forty_two", [x], |[x]| (x.exp(), |upstream: Tensor| upstream * 42.0))
}

fn t34(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([0.0, 1.0, 2.0]);
    let batched = batch([&x], |[x]| forty_two(&x));
    f.value("batch(f)", &batched, "1 2.71828182846 7.38905609893");
    f.gradient("gradient of Σ batch(f)", &grad(&batched.sum(..), &x)?, "42 42 42")?;
    let slope = |x: &Tensor| grad(&forty_two(x), x).map_or_else(Tensor::invalid, |g| g.or_zero());
    f.value("batch(gradient of f)", &batch([&x], |[x]| slope(&x)), "42 42 42");
    f.value("batch_jacobian", &batch_jacobian(&x, |x| forty_two(&x))?, "42 42 42");
    let table = Tensor::new([[0.0, 1.0], [2.0, 3.0]]);
    let twice = batch([&table], |[row]| batch([&row], |[x]| forty_two(&x)));
    f.gradient("batch of batches", &grad(&twice.sum(..), &table)?, "42 42 42 42")?;
    f.value("forward mode", &jvp(&[&batched], &[(&x, &Tensor::new([1.0, 2.0, 3.0]))])?[0], "42 84 126");
    Ok(())
}

fn t36(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let tangents = jvp(&[&sin2(&x)], &[(&x, &Tensor::new(5.0))])?;
    f.value("5 · 2cos(3)", &tangents[0], "-9.89992496600");
    Ok(())
}

fn t40(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let z = Tensor::new([0.4, 1.6, -2.5]);
    let rounded = straight_through(&z.round(), &z);
    f.value("round", &rounded, "0 2 -2");
    f.gradient("derivative of identity", &grad(&rounded.sum(..), &z)?, "1 1 1")?;
    // The value comes from elsewhere, the derivative from z².
    let (z, side) = (Tensor::new(3.0), Tensor::new(100.0));
    let y = straight_through(&(&side * &z), &(&z * &z));
    f.value("side value", &y, "300");
    f.gradient("derivative of z²", &grad(&y, &z)?, "6")?;
    f.state("what only the value depends on", &grad(&y, &side)?, "Stopped by straight_through");
    Ok(())
}

fn t41(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let log1pexp = |x: &Tensor| {
        custom_gradient("log1pexp", [x], |[x]| {
            let e = x.exp();
            ((1.0 + &e).log(), move |upstream: Tensor| upstream * (1.0 - 1.0 / (1.0 + e)))
        })
    };
    let far = Tensor::new(100.0);
    // e¹⁰⁰ is infinite in f32, so no bound is left; 1 − 1/∞ is exact nevertheless.
    let slope = evaluator.evaluate(&[&grad(&log1pexp(&far), &far)?.or_error()?])?;
    f.known("slope at 100", &slope, numbers("1"));
    let x = Tensor::new(3.0);
    let y = log1pexp(&x);
    f.value("f(3)", &y, "3.04858735157");
    f.gradient("f′(3)", &grad(&y, &x)?, "0.952574126822")?;
    let rule = CustomGradient::exact("damped").apply([&Tensor::new([0.0, 4.0])], |[x]| {
        let root = x.sqrt();
        let damped = &x / (1.0 + &root);
        (damped, move |upstream: Tensor| upstream * (&root + 2.0) / (2.0 * (1.0 + &root).pow(2)))
    });
    f.value("x/(1 + √x)", &rule, "0 4/3");
    let zero = Tensor::new(0.0);
    let at_zero = custom_gradient("damped", [&zero], |[x]| {
        let root = x.sqrt();
        (&x / (1.0 + &root), move |upstream: Tensor| upstream * (&root + 2.0) / (2.0 * (1.0 + &root).pow(2)))
    });
    f.gradient("its slope at 0", &grad(&at_zero, &zero)?, "1")
}
