//! C. Errors name rule, argument, expected, got.

use crate::common::check::unchecked;
use crate::common::{
    Code, DType, Device, Error, Evaluator, Tensor, custom_function, custom_gradient, grad, vjp,
};
use crate::harness::{Case, Findings};

pub const CASES: &[Case] = &[
    Case { label: "t43_arity", origin: "TF testCustomGradientEmptyError; PyTorch; JAX", program: t43 },
    Case {
        label: "t44_shape",
        origin: "PyTorch test_invalid_gradients, #65244; JAX test_bwd_rule_shape_mismatch",
        program: t44,
    },
    Case { label: "t45_dtype", origin: "JAX; TF accepts", program: t45 },
    Case {
        label: "t46_cotangent",
        origin: "PyTorch test_grad, test_gradient_edge_output; tinygrad test_non_scalar_output, \
            test_with_custom_gradient",
        program: t46,
    },
    Case {
        label: "t47_without_rule",
        origin: "JAX test_missing_vjp_rule_error; PyTorch test_not_implemented_grad",
        program: t47,
    },
];

fn t43(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (x, y) = (Tensor::new(1.0), Tensor::new(2.0));
    let product =
        custom_gradient("product", [&x, &y], |[x, y]| (&x * &y, move |upstream: Tensor| upstream * y));
    f.invalid(e, &product, Code::RuleArity, &["\"product\"", "expected 2 gradients, got 1", "refusals.rs"]);
    f.error("the gradient", grad(&product, &x), Code::RuleArity, &["expected 2 gradients, got 1"]);
    Ok(())
}

fn t44(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::zeros([5, 5]);
    let wide = custom_gradient("wide", [&x], |[x]| (x, |_: Tensor| Tensor::zeros([10])));
    f.invalid(e, &wide, Code::RuleShape, &["\"wide\"", "[10]", "[5, 5]", "so the shapes do not match"]);
    let x = Tensor::zeros([3]).named("row");
    let batched =
        custom_gradient("batched", [&x], |[x]| (x, |upstream: Tensor| upstream.broadcast_to([4, 3])));
    f.invalid(e, &batched, Code::RuleShape, &["\"batched\"", "input 0 `row`", "[4, 3]", "[3]"]);
    Ok(())
}

fn t45(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::zeros([3]);
    for (dtype, parts) in [
        (DType::I32, &["\"cast\"", "is i32", "is f32", ".cast(DType::F32)"]),
        (DType::F16, &["\"cast\"", "is f16", "is f32", ".cast(DType::F32)"]),
    ] {
        let y = custom_gradient("cast", [&x], |[x]| (x, move |upstream: Tensor| upstream.cast(dtype)));
        f.invalid(e, &y, Code::RuleDtype, parts);
    }
    gradient_elsewhere(e, f)
}

/// A gradient that lives on another device than its input.
fn gradient_elsewhere(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let (home, other) = (e.device.clone().unwrap_or_else(Device::cpu), Device::cpu());
    let x = home.variable("here", &[1.0, 2.0, 3.0])?.tensor().clone();
    let slope = other.variable("there", &[1.0, 2.0, 3.0])?.tensor().clone();
    // Past the inputs it cannot enter the rule at all.
    let captured = custom_gradient("elsewhere", [&x], |[x]| (x, |upstream: Tensor| upstream * &slope));
    f.error("captured", captured.node(), Code::RuleCapture, &["\"elsewhere\"", "`there`"]);
    // As an input it can, and the read names both devices.
    let y = custom_gradient("elsewhere", [&x, &slope], |[x, slope]| {
        (x, move |upstream: Tensor| (upstream * &slope, Tensor::zeros([3])))
    });
    // The zeros are no gradient of the slope.
    let gradient = unchecked(|| grad(&y.sum(..), &x))?.or_error()?;
    f.error("declared", home.read(&gradient), Code::DeviceMismatch, &["`there`"]);
    let from_there = vjp(&[(&(&x * 2.0), &slope)], &x)?.or_error()?;
    f.error("a cotangent", home.read(&from_there), Code::DeviceMismatch, &["`there`"]);
    Ok(())
}

fn t46(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let matrix = Tensor::zeros([2, 2]);
    let y = &matrix * 2.0;
    f.error(
        "cotangent of another shape",
        vjp(&[(&y, &Tensor::ones([2]))], &matrix),
        Code::Cotangent,
        &["cotangent for output 0 has shape [2] but the output has [2, 2]"],
    );
    let squared = &x * &x;
    f.error("no cotangent", grad(&squared, &x), Code::NotScalar, &["[3]", "pass a cotangent", "vjp("]);
    f.gradient("x² with ones", &vjp(&[(&squared, &Tensor::ones([3]))], &x)?, "2 4 6")?;
    f.gradient("Σx² with 3", &vjp(&[(&squared.sum(..), &Tensor::new(3.0))], &x)?, "6 12 18")
}

fn t47(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let y = custom_function("foo", [&x], |[x]| &x * &x);
    f.value("value", &y, "9");
    let gradient = grad(&(2.0 * &y), &x)?;
    f.state("gradient", &gradient, "NotDifferentiable at foo");
    f.error("or error", gradient.or_error(), Code::NotDifferentiable, &["no gradient rule for `foo`"]);
    f.error("or zero", gradient.or_zero().node(), Code::NotDifferentiable, &["no gradient rule for `foo`"]);
    Ok(())
}
