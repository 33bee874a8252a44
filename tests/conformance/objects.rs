//! B and C, continued: rules that pass nothing, rules of several outputs, rules as objects.

use crate::common::{
    Code, CustomGradient, Error, Evaluator, InputGradient, Rule, Tensor, Upstream, grad, jvp,
};
use crate::harness::{Case, Findings};

pub const CASES: &[Case] = &[
    Case {
        label: "t18_passes_nothing",
        origin: "PyTorch test_function_returns_undefined_tensor",
        program: t18,
    },
    Case {
        label: "t19_missing_cotangents",
        origin: "PyTorch test_materialize_grads, test_dont_materialize_grads",
        program: t19,
    },
    Case { label: "t21_output_without_derivative", origin: "PyTorch mark_non_differentiable", program: t21 },
    Case {
        label: "t49_forward_of_another_shape",
        origin: "JAX test_fwd_rule_primal_out_type_doesnt_match_primal_error_message",
        program: t49,
    },
];

fn t18(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new(3.0);
    let nothing = |rule: CustomGradient| rule.apply([&x], |[x]| (&x * &x, |_: Tensor| None::<Tensor>));
    let declared = nothing(CustomGradient::exact("quiet").passing_nothing());
    f.value("value", &declared, "9");
    let gradient = grad(&declared, &x)?;
    f.state("declared", &gradient, "Stopped by quiet");
    f.error("or error", gradient.or_error(), Code::Stopped, &["`quiet` cuts every path"]);
    f.value("or zero", &gradient.or_zero(), "0");
    f.gradient("beside another path", &grad(&(&declared + 5.0 * &x), &x)?, "5")?;
    let undeclared = nothing(CustomGradient::exact("quiet"));
    f.invalid(e, &undeclared, Code::RuleCut, &["\"quiet\"", "passes nothing", "passing_nothing"]);
    Ok(())
}

/// (x², x³), whose gradient is 100 more for each cotangent that is missing.
struct Powers;

impl Rule for Powers {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::surrogate("powers", "counts missing cotangents")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        let x = &inputs[0];
        (vec![x * x, x * x * x], x.clone())
    }
    fn vjp(&self, x: &Tensor, upstream: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
        let slopes = [2.0 * x, 3.0 * x * x];
        let part = |(output, slope): (usize, Tensor)| match upstream.get(output) {
            Some(upstream) => upstream * slope,
            None => Tensor::new(100.0),
        };
        let sum = slopes.into_iter().enumerate().map(part).reduce(|a, b| a + b);
        Some(vec![sum.map_or(InputGradient::Zero, InputGradient::Value)])
    }
    fn sees_missing(&self) -> bool {
        true
    }
}

fn t19(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([1.0, 2.0]);
    let mut shape = String::new();
    // Half of every element of the second cotangent is added, so zeros show.
    let (first, second) = CustomGradient::surrogate("two", "a test").apply([&x], |[x]| {
        let outputs = (&x * 1.0, x.broadcast_to([3, 2]));
        let shape = &mut shape;
        (outputs, move |(a, b): (Tensor, Tensor)| {
            *shape = b.shape().to_string();
            a + (b + 0.5).sum(0)
        })
    });
    f.text("shape of the second cotangent", shape, "[3, 2]");
    f.gradient("the first used", &grad(&first.sum(..), &x)?, "2.5 2.5")?;
    f.gradient("both used", &grad(&(first.sum(..) + second.sum(..)), &x)?, "5.5 5.5")?;
    let x = Tensor::new(2.0);
    let outputs = Powers.apply(&[&x]);
    f.gradient("x² alone, the other is missing", &grad(&outputs[0], &x)?, "104")?;
    f.gradient("x³ alone, the other is missing", &grad(&outputs[1], &x)?, "112")?;
    f.gradient("both, none is missing", &grad(&(&outputs[0] + &outputs[1]), &x)?, "16")
}

/// The two numbers in descending order, and where they stood.
fn sorted(x: &Tensor) -> (Tensor, Tensor) {
    CustomGradient::exact("sorted").without_derivative(1).apply([x], |[x]| {
        let flipped = x.flip(0);
        let (place, other) = (Tensor::new([0.0, 1.0]), Tensor::new([1.0, 0.0]));
        let swap = x.slice(0, 0, 1, 1).lt(x.slice(0, 1, 2, 1)).broadcast_to([2]);
        let outputs = (swap.select(&flipped, &x), swap.select(&other, &place));
        (outputs, move |(upstream, _): (Tensor, Tensor)| swap.select(upstream.flip(0), &upstream))
    })
}

fn t21(_: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([1.0, 3.0]);
    let (values, places) = sorted(&x);
    f.value("sorted", &values, "3 1");
    f.value("places", &places, "1 0");
    let weights = Tensor::new([10.0, 20.0]);
    let loss = (&values * &weights).sum(..);
    f.gradient("gradient of the values", &grad(&loss, &x)?, "20 10")?;
    let downstream = (places.exp() * &weights).sum(..);
    let gradient = grad(&downstream, &x)?;
    f.state("gradient of the places", &gradient, "NotDifferentiable at sorted");
    f.error("or error", gradient.or_error(), Code::NotDifferentiable, &["`sorted`"]);
    f.error("forward mode", jvp(&[&downstream], &[(&x, &x)]), Code::NotDifferentiable, &["sorted"]);
    // Nothing after the places needs a gradient, so the values keep theirs.
    f.gradient("values and places", &grad(&(&loss + &downstream), &x)?, "20 10")
}

/// Σx, whose forward function may give something else.
struct Total {
    forgets: bool,
}

impl Rule for Total {
    type Saved = Tensor;
    fn declare(&self) -> CustomGradient {
        CustomGradient::exact("total")
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Tensor) {
        let x = &inputs[0];
        (vec![if self.forgets { x.clone() } else { x.sum(..) }], x.clone())
    }
    fn plain(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        Some(vec![inputs[0].sum(..)])
    }
    fn vjp(&self, x: &Tensor, upstream: &Upstream, _: &[bool]) -> Option<Vec<InputGradient<Tensor>>> {
        Some(vec![upstream[0].broadcast_to(x.shape()).into()])
    }
}

fn t49(e: &Evaluator, f: &mut Findings) -> Result<(), Error> {
    let x = Tensor::new([1.0, 2.0, 3.0]);
    let total = |forgets| Total { forgets }.apply(&[&x]).remove(0);
    f.value("as it should be", &total(false), "6");
    f.gradient("its gradient", &grad(&total(false), &x)?, "1 1 1")?;
    f.invalid(
        e,
        &total(true),
        Code::RulePrimal,
        &["\"total\"", "(f32 [3])", "(f32 [])", "the pair (outputs, saved)", "objects.rs"],
    );
    Ok(())
}
