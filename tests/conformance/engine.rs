//! D. The engine, and the part of F that belongs to it: several targets, orders, accumulation, broadcasting, guards.

use crate::common::{
    Array, Error, Evaluate, Evaluator, Tensor, custom_gradient, grad, hvp, map_cotangent, observe, vjp,
    where_,
};
use crate::harness::{Case, Findings};
use crate::judge::numbers;

pub const CASES: &[Case] = &[
    Case {
        label: "t52_targets_and_sources",
        origin: "TF testTwoTargets, testGradientTapeRepeatedSource, testSameObjectForMultipleArguments",
        program: t52_targets,
    },
    Case {
        label: "t53_cotangents",
        origin: "TF testOutputGradUsedInComputation, testPersistentMakeVJP",
        program: t53_cotangents,
    },
    Case {
        label: "t55_higher_orders",
        origin: "TF testHigherOrderGradient; PyTorch test_hessian_vector",
        program: t55_higher_orders,
    },
    Case {
        label: "t56_empty_and_accumulated",
        origin: "PyTorch test_accumulate_grad_with_zero_numel_grad; tinygrad test_multiple_backward",
        program: t56_empty_and_accumulated,
    },
    Case {
        label: "t58_cuts_and_hooks",
        origin: "PyTorch test_post_accumulate_grad_hook_*, test_gradient_edge_output",
        program: t58_cuts_and_hooks,
    },
    Case {
        label: "t59_broadcasting",
        origin: "tinygrad test_broadcast_gradient, test_implicit_broadcast_where_gradient, …_alu_gradient, \
            …_intermediate_accumulation",
        program: t59_broadcasting,
    },
    Case {
        label: "t72_branch_not_taken",
        origin: "jax #347, tinygrad #12409, slang nan-select",
        program: t72_branch_not_taken,
    },
];

fn t52_targets(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (x, y) = (Tensor::new(5.0), Tensor::new(7.0));
    let one = Tensor::new(1.0);
    let (a, b) = (2.0 * &x, 3.0 * &y);
    let [dx, dy] = vjp(&[(&a, &one), (&b, &one)], [&x, &y])?;
    f.gradient("dx", &dx, "2")?;
    f.gradient("dy", &dy, "3")?;
    let [first, second] = grad(&a, [&x, &x])?;
    f.gradient("x, asked for once", &first, "2")?;
    f.gradient("x, asked for twice", &second, "2")?;
    // x·y with the same tensor as both arguments: each argument contributes 1.
    let product = |left: &Tensor, right: &Tensor| {
        custom_gradient("product", [left, right], |[x, y]| {
            (&x * &y, move |upstream: Tensor| (&upstream * &y, &upstream * &x))
        })
    };
    let (left, right) = (&one * 1.0, &one * 1.0);
    let [left_part, right_part] = grad(&product(&left, &right), [&left, &right])?;
    f.gradient("left contribution", &left_part, "1")?;
    f.gradient("right contribution", &right_part, "1")?;
    f.gradient("total", &grad(&product(&one, &one), &one)?, "2")
}

fn t53_cotangents(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (x, y) = (Tensor::new(3.0), Tensor::new(2.0));
    let product = &x * &y;
    let (one, two) = (Tensor::new(1.0), Tensor::new(2.0));
    f.gradient("dx", &vjp(&[(&product, &one), (&x, &two)], &x)?, "4")?;
    let squared = &x * &x;
    f.gradient("2 · dx²", &vjp(&[(&squared, &two)], &x)?, "12")?;
    f.gradient("and again", &vjp(&[(&squared, &two)], &x)?, "12")
}

fn t55_higher_orders(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let mut derivative = x.pow(3);
    f.value("x³", &derivative, "27");
    for (order, expected) in ["27", "18", "6"].into_iter().enumerate() {
        derivative = grad(&derivative, &x)?.or_error()?;
        f.value(&format!("derivative {} of x³", order + 1), &derivative, expected);
    }
    let y = Tensor::new(-2.0);
    let z = &x * &x + &x * &y + &y * &y;
    let [zx, zy] = grad(&z, [&x, &y])?;
    let s = 2.0 * zx.or_error()? + zy.or_error()?;
    let [sx, sy] = grad(&s, [&x, &y])?;
    f.gradient("∂s/∂x", &sx, "5")?;
    f.gradient("∂s/∂y", &sy, "4")?;
    let [hx, hy] = hvp(&z, [&x, &y], [&Tensor::new(2.0), &Tensor::new(1.0)])?;
    f.value("hvp x", &hx, "5");
    f.value("hvp y", &hy, "4");
    Ok(())
}

fn t56_empty_and_accumulated(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (a, b) = (Tensor::zeros([4, 0]), Tensor::zeros([4, 1]));
    let [da, db] = grad(&(&a + &b).sum(..), [&a, &b])?;
    let (da, db) = (da.or_error()?, db.or_error()?);
    f.text("shape of da", da.shape(), "[4, 0]");
    f.value("da", &da, "");
    f.text("shape of db", db.shape(), "[4, 1]");
    f.value("db", &db, "0 0 0 0");
    let x = Tensor::new(3.0);
    let mut total = Tensor::new(0.0);
    for (loss, expected) in [(2.0 * &x, "2"), (3.0 * &x, "5"), (&x * &x, "11")] {
        total = total + grad(&loss, &x)?.or_error()?;
        f.value("accumulated", &total, expected);
    }
    Ok(())
}

fn t58_cuts_and_hooks(evaluator: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([1.0, 2.0]);
    let hooked = map_cotangent(&(&x * &x), |upstream| upstream * 10.0);
    f.gradient("ten times", &grad(&hooked.sum(..), &x)?, "20 40")?;
    // Nearest to the loss first: (g + 1) · 10, and the other way round.
    let added = |x: &Tensor| map_cotangent(x, |upstream| upstream + 1.0);
    let scaled = |x: &Tensor| map_cotangent(x, |upstream| upstream * 10.0);
    f.gradient("add, then scale", &grad(&added(&scaled(&x)).sum(..), &x)?, "20 20")?;
    f.gradient("scale, then add", &grad(&scaled(&added(&x)).sum(..), &x)?, "11 11")?;
    let sources = [&x * 1.0, &x * 2.0, &x * 3.0, &x * 4.0];
    let observed: Vec<Tensor> =
        sources.iter().enumerate().map(|(place, source)| observe(source, &format!("d{place}"))).collect();
    let loss = (&observed[0] + &observed[1] * &observed[2]).sum(..);
    let gradients = grad(&loss, &sources)?;
    for (place, (gradient, state)) in
        gradients.iter().zip(["Value", "Value", "Value", "Unconnected"]).enumerate()
    {
        f.state(&format!("observed {place}"), gradient, state);
    }
    let slope = grad(&loss, &x)?;
    let mut seen = evaluator.inspect(&[&slope.or_error()?])?;
    seen.sort_by_key(|row| row.label.clone());
    f.text("observed", seen.iter().map(|row| &*row.label).collect::<Vec<_>>().join(" "), "d0 d1 d2");
    let cotangents: Vec<Array> = seen.into_iter().map(|row| row.value).collect();
    f.known("cotangents", &cotangents, numbers("1 1 3 6 2 4"));
    // The gradient is 1 + 12x; actions on it run in the order given.
    f.gradient("finished", &slope, "13 25")?;
    f.gradient("scaled, then moved", &slope.map(|g| g * 10.0).map(|g| g + 1.0), "131 251")?;
    f.gradient("moved, then scaled", &slope.map(|g| g + 1.0).map(|g| g * 10.0), "140 260")?;
    // Cut at an edge and continued from it.
    let middle = x.exp();
    let loss = (&middle * &middle).sum(..);
    let upstream = grad(&loss, &middle)?.or_error()?;
    let continued = vjp(&[(&middle, &upstream)], &x)?.or_error()?;
    f.same("continued and whole", &continued, &grad(&loss, &x)?.or_error()?);
    f.value("whole", &grad(&loss, &x)?.or_error()?, "14.7781121979 109.196300066");
    Ok(())
}

fn t59_broadcasting(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([[1.0], [2.0], [3.0]]);
    let y = Tensor::new([[1.0, 2.0, 3.0, 4.0]]);
    let [dx, dy] = grad(&(&x + &y).sum(..), [&x, &y])?;
    f.gradient("dx", &dx, "4 4 4")?;
    f.gradient("dy", &dy, "3 3 3 3")?;
    let (c, x) = (Tensor::new([true, false, true]), Tensor::new([1.0, 2.0, 3.0]));
    let w = Tensor::new(5.0);
    f.gradient("where(c, x, w)", &grad(&where_(&c, &x, &w).sum(..), &w)?, "1")?;
    f.gradient("where(c, w, x)", &grad(&where_(&c, &w, &x).sum(..), &w)?, "2")?;
    f.gradient("Σ(x·w)", &grad(&(&x * &w).sum(..), &w)?, "6")?;
    let p = Tensor::new(0.5);
    let s = p.sin();
    f.gradient("Σ(x·s) + s", &grad(&((&x * &s).sum(..) + &s), &p)?, "6.14307793323")
}

fn t72_branch_not_taken(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([0.0, 4.0]);
    let root = where_(&x.gt(0.0), x.sqrt(), 0.0);
    let first = grad(&root.sum(..), &x)?.or_error()?;
    f.value("√x", &root, "0 2");
    f.value("its slope", &first, "0 0.25");
    let second = grad(&first.sum(..), &x)?.or_error()?;
    f.value("its curvature", &second, "0 -0.03125");
    f.gradient("third order", &grad(&second.sum(..), &x)?, "0 0.01171875")?;
    let z = Tensor::new(1000.0);
    let softplus = where_(&z.gt(20.0), &z, (z.exp() + 1.0).log());
    let slope = grad(&softplus, &z)?.or_error()?;
    f.value("softplus", &softplus, "1000");
    f.value("its slope", &slope, "1");
    f.value("its curvature", &grad(&slope, &z)?.or_zero(), "0");
    Ok(())
}
