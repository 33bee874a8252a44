//! What is said about gradients that are zero, missing, not finite or only a part of what they seem.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::{
    CustomGradient, InputGradient, Reason, custom_function, custom_gradient, explain, explain_values,
    surrogate_gradient,
};
use cotangent_tensor::{Code, DType, Reference, Tensor};

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn weights() -> Tensor {
    Tensor::new([0.4, 1.6]).named("w")
}

#[test]
fn every_cut_is_named_with_its_path_its_line_and_what_to_use_instead() {
    let w = weights();
    let line = line!() + 1;
    let rounded = (&w * 3.0).round();
    let text = explain(&(rounded * 2.0).sum(..), &w).unwrap().to_string();
    let place = format!("(crates/autograd/tests/explain.rs:{line})");
    says(
        &text,
        &[
            "The gradient of `w` (f32 [2]",
            "is zero whatever",
            "`w` → `mul` → `round`",
            &place,
            "straight_through",
        ],
    );

    let cases: [(Tensor, Reason, &str, &str); 8] = [
        (w.sign(), Reason::Zero, "`w` → `sign`", "slope, for example that of a sigmoid"),
        (w.floor(), Reason::Zero, "`w` → `floor`", "straight_through"),
        (w.gt(0.5).select(1.0, 2.0), Reason::Zero, "`w` → `gt`", "a smooth function"),
        (w.cast(DType::I32).cast(DType::F32), Reason::NotDifferentiable, "`w` → `cast`", "keep it a float"),
        (w.argmax(0).cast(DType::F32), Reason::NotDifferentiable, "`w` → `argmax`", "a softmax"),
        (w.detach(), Reason::Stopped, "`w` → `detach`", "leave out the `detach`"),
        (
            CustomGradient::exact("cutting")
                .passing_nothing()
                .apply([&w], |[w]| (w, |_: Tensor| [None::<Tensor>])),
            Reason::Stopped,
            "`w` → `cutting`",
            "as was asked for",
        ),
        (
            custom_function("opaque", [&w], |[w]| w * 2.0),
            Reason::Missing(String::new()),
            "`w` → `opaque`",
            "no gradient rule",
        ),
    ];
    for (tensor, reason, path, help) in cases {
        let explained = explain(&tensor.sum(..), &w).unwrap();
        let text = explained.to_string();
        assert_eq!(explained.cuts.len(), 1, "{text}");
        assert_eq!(
            std::mem::discriminant(&explained.cuts[0].reason),
            std::mem::discriminant(&reason),
            "{text}"
        );
        assert!(explained.gradient.value().is_none());
        says(&text, &[path, help]);
    }
}

#[test]
fn no_path_and_a_path_that_is_one_of_several() {
    let (w, other) = (weights(), weights());
    let text = explain(&(&other * &other).sum(..), &w).unwrap().to_string();
    says(&text, &["has no path to the loss", "There is another tensor of that name", "explain.rs"]);
    // A value, and a lint about the path that is cut.
    let loss = (&w * &w).sum(..) + (w.sign() * 2.0).sum(..) + (&w * w.detach()).sum(..);
    let explained = explain(&loss, &w).unwrap();
    let names: Vec<&str> = explained.cuts.iter().map(|cut| &*cut.name).collect();
    assert_eq!(names.len(), 2, "{explained}");
    assert!(names.contains(&"sign") && names.contains(&"detach"), "{explained}");
    says(&explained.to_string(), &["is a value", "Not every path to it is open"]);
    assert!(explain(&(&w * &w).sum(..), &w).unwrap().cuts.is_empty());
    // A long path is shortened.
    let long = (0..20).fold(w.clone(), |t, _| t * 2.0).round().sum(..);
    says(&explain(&long, &w).unwrap().to_string(), &["15 more", "→ `round`"]);
}

#[test]
fn rules_are_named_and_what_they_pass_is_told() {
    let w = weights();
    let inner = surrogate_gradient("soft", "a test", [&w], |[w]| (w.round(), |g: Tensor| g));
    assert!(explain(&inner.sum(..), &w).unwrap().cuts.is_empty());
    let missing = custom_gradient("half done", [&w, &inner], |[a, b]| {
        (&a * &b, move |g: Tensor| (InputGradient::Missing("an open problem".into()), g * a))
    });
    let text = explain(&missing.sum(..), &w).unwrap().to_string();
    says(&text, &["There is no gradient of `w`", "`w` → `half done`", "an open problem"]);
    let (_, ranks) = CustomGradient::exact("ranked")
        .without_derivative(1)
        .apply([&w], |[w]| ((&w * 2.0, &w * 0.0), |(g, _): (Tensor, Tensor)| g * 2.0));
    let text = explain(&ranks.sum(..), &w).unwrap().to_string();
    says(&text, &["`ranked`", "it has no derivative"]);
}

#[test]
fn numbers_that_are_not_finite_are_traced_to_where_they_arise() {
    let reference = Reference::new();
    let told = |loss: &Tensor, w: &Tensor| explain_values(loss, w, &reference).unwrap().to_string();
    let w = Tensor::new([4.0, 0.0]).named("w");
    let text = told(&(w.sqrt().sum(..) * 3.0), &w);
    says(&text, &["inf at element 1", "behind `sqrt`", "on its way to `w`", "`w` is 0", "explain.rs"]);
    let text = told(&(w.log() * 2.0).sum(..), &w);
    says(&text, &["The forward pass is not finite", "`log`", "-inf at element 1", "`w` is 0"]);
    let poisoned =
        custom_gradient("poisoned", [&w], |[w]| (w * 1.0, |g: Tensor| g * Tensor::new([f64::NAN, 1.0])));
    says(&told(&poisoned.sum(..), &w), &["NaN at element 0", "behind `poisoned`"]);
}

#[test]
fn numbers_that_vanish_or_explode_are_traced_too() {
    let reference = Reference::new();
    let told = |loss: &Tensor, w: &Tensor| explain_values(loss, w, &reference).unwrap().to_string();
    let w = Tensor::new([-4.0, -1.0]).named("w");
    let text = told(&(w.relu() * 2.0).sum(..), &w);
    says(&text, &["is zero at every element", "behind `relu`", "on its way to `w`"]);
    let text = told(&(&w * 1e-9 + 1.0).exp().sum(..), &w);
    says(&text, &["largest element is 2.7", "by a factor of 1.0e-9", "`mul`"]);
    let text = told(&(&w * &w).sum(..), &w);
    says(&text, &["Its largest element is 8.000e0"]);
    assert!(!text.contains("factor"), "{text}");
}

#[test]
fn errors_are_those_of_the_gradient() {
    let w = weights();
    assert_eq!(explain(&(&w * 2.0), &w).unwrap_err().code(), Code::NotScalar);
    assert_eq!(explain(&w.sum(..), &Tensor::new([1, 2])).unwrap_err().code(), Code::NotDifferentiable);
    let x = Tensor::input("x", [2], DType::F32);
    assert_eq!(explain_values(&x.sum(..), &x, &Reference::new()).unwrap_err().code(), Code::Unbound);
}

#[test]
fn long_chains_with_many_cuts_are_told_in_short() {
    let w = Tensor::new([1.0]).named("w");
    let loss = (0..20_000).fold(w.clone(), |t, _| &t * 0.5 + t.detach()).sum(..);
    let explained = explain(&loss, &w).unwrap();
    assert_eq!(explained.cuts.len() + explained.more, 20_000);
    says(&explained.to_string(), &["is a value", "such places"]);
    assert!(explained.to_string().len() < 10_000);
    // Conditions of branches that have a gradient are no cuts.
    let chosen = w.gt(0.0).select(&w * 2.0, &w * 3.0).sum(..);
    assert!(explain(&chosen, &w).unwrap().cuts.is_empty());
}
