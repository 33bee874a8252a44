//! Functions that user text may call without declaring them: rows of the operation table under their names, and a few made of them.

use std::collections::BTreeSet;

use cotangent_tensor::Elementwise;

/// What a function of the prelude is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    /// A row, applied to the arguments.
    Row(Elementwise),
    /// The argument, through which no gradient flows.
    Detach,
    /// What its text says.
    Text,
}

/// Name, meaning, the functions of the prelude it calls, and its text. Rows have a body only so that the text is valid.
const PRELUDE: &[(&str, Meaning, &[&str], &str)] = &[
    ("detach", Meaning::Detach, &[], "fn detach(x: f32) -> f32 { return x; }"),
    ("is_nan", Meaning::Row(Elementwise::IsNan), &[], "fn is_nan(x: f32) -> bool { return x != x; }"),
    ("relu", Meaning::Row(Elementwise::Relu), &[], "fn relu(x: f32) -> f32 { return x; }"),
    ("log1p", Meaning::Row(Elementwise::Log1p), &[], "fn log1p(x: f32) -> f32 { return x; }"),
    ("expm1", Meaning::Row(Elementwise::Expm1), &[], "fn expm1(x: f32) -> f32 { return x; }"),
    (
        "recip_expm1",
        Meaning::Row(Elementwise::RecipExpm1),
        &[],
        "fn recip_expm1(x: f32) -> f32 { return x; }",
    ),
    ("log1mexp", Meaning::Row(Elementwise::Log1mexp), &[], "fn log1mexp(x: f32) -> f32 { return x; }"),
    ("sigmoid", Meaning::Row(Elementwise::Sigmoid), &[], "fn sigmoid(x: f32) -> f32 { return x; }"),
    (
        "log_sigmoid",
        Meaning::Row(Elementwise::LogSigmoid),
        &[],
        "fn log_sigmoid(x: f32) -> f32 { return x; }",
    ),
    ("softplus", Meaning::Row(Elementwise::Softplus), &[], "fn softplus(x: f32) -> f32 { return x; }"),
    ("erf", Meaning::Row(Elementwise::Erf), &[], "fn erf(x: f32) -> f32 { return x; }"),
    ("erfc", Meaning::Row(Elementwise::Erfc), &[], "fn erfc(x: f32) -> f32 { return x; }"),
    ("log_ndtr", Meaning::Row(Elementwise::LogNdtr), &[], "fn log_ndtr(x: f32) -> f32 { return x; }"),
    (
        "inverse_mills",
        Meaning::Row(Elementwise::InverseMills),
        &[],
        "fn inverse_mills(x: f32) -> f32 { return x; }",
    ),
    ("i0e", Meaning::Row(Elementwise::I0e), &[], "fn i0e(x: f32) -> f32 { return x; }"),
    ("i1e", Meaning::Row(Elementwise::I1e), &[], "fn i1e(x: f32) -> f32 { return x; }"),
    ("lgamma", Meaning::Row(Elementwise::Lgamma), &[], "fn lgamma(x: f32) -> f32 { return x; }"),
    ("digamma", Meaning::Row(Elementwise::Digamma), &[], "fn digamma(x: f32) -> f32 { return x; }"),
    ("trigamma", Meaning::Row(Elementwise::Trigamma), &[], "fn trigamma(x: f32) -> f32 { return x; }"),
    ("xlogy", Meaning::Row(Elementwise::Xlogy), &[], "fn xlogy(x: f32, y: f32) -> f32 { return x; }"),
    ("xlog1py", Meaning::Row(Elementwise::Xlog1py), &[], "fn xlog1py(x: f32, y: f32) -> f32 { return x; }"),
    // for the functions of the prelude, whatever the text calls `softplus`
    ("ct_softplus", Meaning::Row(Elementwise::Softplus), &[], "fn ct_softplus(x: f32) -> f32 { return x; }"),
    // for the functions of the prelude, whatever the text calls `detach`
    ("ct_detach", Meaning::Detach, &[], "fn ct_detach(x: f32) -> f32 { return x; }"),
    (
        "logaddexp",
        Meaning::Text,
        &["ct_softplus"],
        // both sides of a tie have the slopes ½ and the curvatures ¼; equal infinities have no difference
        "fn logaddexp(a: f32, b: f32) -> f32 { if a == b && abs(a) > 3.4e38 { return max(a, b); } if a >= b { return a + ct_softplus(b - a); } return b + ct_softplus(a - b); }",
    ),
    (
        "huber",
        Meaning::Text,
        &[],
        "fn huber(r: f32, delta: f32) -> f32 { let a = abs(r); if a <= delta { return 0.5 * r * r; } return delta * (a - 0.5 * delta); }",
    ),
];

/// `logsumexp3` is the function for `array<f32, 3>`: functions of WGSL know the length of their arrays.
const LOGSUMEXP: &str = "logsumexp";
/// The largest of them.
const LONGEST: usize = 256;

/// The length of the arrays of `logsumexp3`.
fn length_of(name: &str) -> Option<usize> {
    let digits = name.strip_prefix(LOGSUMEXP)?;
    let length = digits.parse().ok().filter(|length| (2..=LONGEST).contains(length))?;
    (digits == length.to_string()).then_some(length)
}

/// Written out, as its loops would be, so that it can be called in loops. An infinite maximum is the sum, and has its slope.
fn logsumexp(length: usize) -> String {
    let maxima: String = (1..length).map(|i| format!(" m = max(m, z[{i}]);")).collect();
    let sums: String = (1..length).map(|i| format!(" s += exp(z[{i}] - c);")).collect();
    format!(
        "fn {LOGSUMEXP}{length}(z: array<f32, {length}>) -> f32 {{ var m = z[0];{maxima} if abs(m) > 3.4e38 {{ return m; }} \
         let c = ct_detach(m); var s = exp(z[0] - c);{sums} return c + log(s); }}\n"
    )
}

/// The meaning of a function of the prelude.
pub(crate) fn meaning(name: &str) -> Option<Meaning> {
    PRELUDE.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
}

/// The names, for messages.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PRELUDE.iter().map(|entry| entry.0).filter(|name| !name.starts_with("ct_")).chain(["logsumexp3"])
}

/// The functions that a text names and does not declare itself, to be parsed after it. In an order in which the
/// called come first.
pub(crate) fn wanted_by(text: &str) -> String {
    let code = without_comments(text);
    let words: Vec<&str> =
        code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    // `var<private> name` too
    let before = ["fn", "const", "override", "struct", "alias", "private", "workgroup", "storage", "uniform"];
    let declared = |name: &str| words.windows(2).any(|pair| pair[1] == name && before.contains(&pair[0]));
    let sized: BTreeSet<usize> =
        words.iter().filter(|word| !declared(word)).filter_map(|word| length_of(word)).collect();
    let mut wanted: Vec<&str> = if sized.is_empty() { Vec::new() } else { vec!["ct_detach"] };
    for (name, _, calls, _) in PRELUDE.iter().rev() {
        if (words.contains(name) || wanted.contains(name)) && !declared(name) {
            wanted.push(name);
            wanted.extend(calls.iter().filter(|call| !declared(call)));
        }
    }
    let texts = PRELUDE.iter().filter(|entry| wanted.contains(&entry.0)).map(|entry| entry.3);
    let rows = texts.fold(String::from("\n"), |all, text| all + text + "\n");
    sized.into_iter().map(logsumexp).fold(rows, |all, text| all + &text)
}

/// A text without comments, which may name anything.
fn without_comments(text: &str) -> String {
    let (mut code, mut rest, mut depth) = (String::with_capacity(text.len()), text, 0usize);
    while let Some(c) = rest.chars().next() {
        let taken = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if depth > 0 && rest.starts_with("*/") {
            depth -= 1;
            2
        } else if depth == 0 && rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else {
            if depth == 0 {
                code.push(c);
            }
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    code
}
