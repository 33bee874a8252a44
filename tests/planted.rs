//! Mistakes put in on purpose, in rules and in kernels: each must be found, and named.

#[path = "common/mod.rs"]
mod common;

use common::{
    Array, Code, Error, Evaluate, Evaluator, Fault, FaultPlan, Options, Reference, Tensor, adapter_present,
    bounds, cross_check, custom_gradient, evaluators, grad, vjp,
};
use cotangent::check::{finite_differences, unchecked};

/// A loss with a product of matrices, a row kernel and reductions: several kernels.
fn graph() -> Result<Vec<Tensor>, Error> {
    let x = Tensor::from_values((0..24).map(|i| f64::from(i % 7) * 0.25 - 0.5).collect::<Vec<_>>(), [6, 4]);
    let w = Tensor::from_values((0..12).map(|i| f64::from(i % 5) * 0.5 - 1.0).collect::<Vec<_>>(), [4, 3]);
    let loss = x.matmul(&w).softmax(1).pow(2).sum(1).log().mean(..);
    Ok(vec![loss.clone(), grad(&loss, &w)?.or_error()?])
}

/// Devices, an adapter among them: a suite that plants nothing in emitted kernels proves nothing about them.
fn devices() -> Vec<Evaluator> {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    evaluators.into_iter().filter(|e| !e.is_reference()).collect()
}

fn planted(evaluator: &Evaluator, fault: Fault) -> Result<common::Device, Error> {
    let device = evaluator.device.as_ref().expect("the reference is filtered out");
    device.with_options(Options { faults: FaultPlan::new([fault]), ..Options::default() })
}

/// Kernels of the graph on a device, from a cross-check without faults.
fn kernels(evaluator: &Evaluator, outputs: &[&Tensor]) -> Result<usize, Error> {
    let device = evaluator.device.as_ref().expect("the reference is filtered out");
    let report = cross_check(device, outputs)?;
    assert!(report.kernels > 1 && report.cases > 0, "{report:?}");
    Ok(report.kernels)
}

#[test]
fn a_flipped_bit_in_any_kernel_is_found_by_the_cross_check() -> Result<(), Error> {
    let outputs = graph()?;
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    for evaluator in devices() {
        for kernel in 0..kernels(&evaluator, &outputs)? {
            let device = planted(&evaluator, Fault::FlipBit { kernel, output: 0, element: 0, bit: 29 })?;
            let error = cross_check(&device, &outputs).err();
            assert!(device.faults().iter().all(|(_, fired)| *fired), "{}: did not fire", evaluator.slug);
            let error = error.unwrap_or_else(|| unreachable!("{}: kernel {kernel} passes", evaluator.slug));
            assert_eq!(error.code(), Code::CrossCheck, "{error}");
            let element = error.details().iter().find(|(name, _)| *name == "element");
            assert_eq!(element.map(|(_, d)| d.clone()), Some(common::Detail::Integer(0)), "{error}");
        }
    }
    Ok(())
}

#[test]
fn a_skipped_kernel_is_found_by_the_cross_check() -> Result<(), Error> {
    let outputs = graph()?;
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    for evaluator in devices() {
        for kernel in 0..kernels(&evaluator, &outputs)? {
            let device = planted(&evaluator, Fault::SkipKernel(kernel))?;
            let error = cross_check(&device, &outputs).err();
            assert!(device.faults().iter().all(|(_, fired)| *fired), "{}: did not fire", evaluator.slug);
            assert_eq!(
                error.map(|e| e.code()),
                Some(Code::CrossCheck),
                "{}, kernel {kernel}",
                evaluator.slug
            );
        }
    }
    Ok(())
}

#[test]
fn a_flipped_mantissa_bit_is_outside_the_bound_of_the_whole_graph() -> Result<(), Error> {
    let outputs = graph()?;
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    for evaluator in devices() {
        let expected = bounds(&outputs, &evaluator.arithmetic())?;
        let outside = |got: &[Array]| expected.iter().zip(got).any(|(e, g)| e.first_violation(g).is_some());
        assert!(!outside(&evaluator.evaluate(&outputs)?), "{}: fails without a fault", evaluator.slug);
        let last = kernels(&evaluator, &outputs)? - 1;
        let device = planted(&evaluator, Fault::FlipBit { kernel: last, output: 0, element: 0, bit: 18 })?;
        assert!(outside(&device.read_all(&outputs)?), "{}: a wrong third digit passes", evaluator.slug);
    }
    Ok(())
}

#[test]
fn a_failed_allocation_is_an_error_and_no_number() -> Result<(), Error> {
    let outputs = graph()?;
    let outputs: Vec<&Tensor> = outputs.iter().collect();
    for evaluator in devices() {
        let device = planted(&evaluator, Fault::FailAllocation(1))?;
        let first = device.read_all(&outputs);
        assert_eq!(first.err().map(|e| e.code()), Some(Code::OutOfMemory), "{}", evaluator.slug);
        let expected = bounds(&outputs, &evaluator.arithmetic())?;
        let again = device.read_all(&outputs)?;
        assert!(
            expected.iter().zip(&again).all(|(e, g)| e.first_violation(g).is_none()),
            "{}",
            evaluator.slug
        );
    }
    Ok(())
}

/// Largest distance of a rule's slopes from 5-point differences, in units of what the differences promise.
fn disagrees(function: &dyn Fn(&[Tensor]) -> Tensor, inputs: &[Array]) -> Result<bool, Error> {
    let reference = Reference::new();
    let slopes = finite_differences(function, inputs, &reference)?;
    let points: Vec<Tensor> = inputs.iter().map(|a| Tensor::new(a.clone())).collect();
    let gradients = unchecked(|| grad(&function(&points), &points))?;
    let mut wrong = false;
    let mut compared = 0;
    for (slopes, gradient) in slopes.iter().zip(&gradients) {
        let values = reference.evaluate(&[&gradient.or_zero()])?.remove(0).to_f64();
        for (slope, value) in slopes.iter().flatten().zip(values) {
            compared += 1;
            wrong |= !slope.agrees(value);
        }
    }
    assert!(compared > 0, "nothing was compared");
    Ok(wrong)
}

#[test]
fn a_wrong_partial_is_found_by_finite_differences() -> Result<(), Error> {
    let square = |offset: f64| {
        move |inputs: &[Tensor]| {
            let y = custom_gradient("square", [&inputs[0]], |[x]| {
                (&x * &x, move |upstream: Tensor| upstream * (2.0 * x + offset))
            });
            y.sum(..)
        }
    };
    let at = [Array::from([1.0, 2.0])];
    assert!(!disagrees(&square(0.0), &at)?, "the right rule is refused");
    assert!(disagrees(&square(0.01), &at)?, "2x + 0.01 passes for the slope of x²");
    Ok(())
}

#[test]
fn gradients_in_the_wrong_order_are_found_by_finite_differences() -> Result<(), Error> {
    let product = |swapped: bool| {
        move |inputs: &[Tensor]| {
            custom_gradient("product", [&inputs[0], &inputs[1]], |[a, b]| {
                let y = &a * &b;
                (y, move |g: Tensor| if swapped { (&g * &a, &g * &b) } else { (&g * &b, &g * &a) })
            })
        }
    };
    let at = [Array::from(3.0), Array::from(5.0)];
    assert!(!disagrees(&product(false), &at)?, "the right rule is refused");
    assert!(disagrees(&product(true), &at)?, "gradients in the wrong order pass");
    Ok(())
}

#[test]
fn a_rule_that_ignores_its_cotangent_is_found_mid_graph() -> Result<(), Error> {
    let square = |ignores: bool| {
        move |inputs: &[Tensor]| {
            let y = custom_gradient("square", [&inputs[0]], |[x]| {
                (
                    &x * &x,
                    move |upstream: Tensor| {
                        if ignores { 2.0 * x + upstream * 0.0 } else { upstream * 2.0 * x }
                    },
                )
            });
            // Alone the rule looks right: its cotangent is 1. Any factor behind it shows the mistake.
            2.5 * y
        }
    };
    let at = [Array::from(3.0)];
    assert!(!disagrees(&square(false), &at)?, "the right rule is refused");
    assert!(disagrees(&square(true), &at)?, "a rule that ignores its cotangent passes");
    // And it is not linear: twice the cotangent must give twice the gradient.
    let (x, reference) = (Tensor::new(3.0), Reference::new());
    let y = square(true)(std::slice::from_ref(&x));
    let alone = custom_gradient("square", [&x], |[x]| (&x * &x, move |g: Tensor| 2.0 * x + g * 0.0));
    let of = |c: f64| unchecked(|| vjp(&[(&alone, &Tensor::new(c))], &x)).and_then(|g| g.or_error());
    let values = reference.evaluate(&[&of(1.0)?, &of(2.0)?, &y])?;
    assert_eq!(values[0].scalar()?, values[1].scalar()?, "the planted rule is the one meant");
    Ok(())
}
