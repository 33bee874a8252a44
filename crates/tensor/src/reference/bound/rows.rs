//! Error bounds of operations between elements.

use super::super::rows::{self, Rows, normalize, reduced_last};
use super::super::structure::{Along, scattered};
use super::super::value::largest;
use super::elementwise::Interval;
use super::{Arithmetic, Ranged, distance, integer_reduction, settled};
use crate::{DType, Elementwise, Node, Reduce, Shape, special};

/// Bounds of a reduction over axes.
pub(super) fn reduce(
    kind: Reduce,
    axes: &[usize],
    node: &Node,
    operand: &Ranged,
    value: &[f64],
    arithmetic: &Arithmetic,
) -> Vec<f64> {
    let shape = &node.operands[0].shape;
    let moved = [&operand.value, &operand.bound].map(|column| reduced_last(column, shape, axes));
    let [values, bounds] = [0, 1].map(|i| Rows::of(&moved[i], value.len()));
    let rows = values.iter().zip(bounds.iter()).zip(value);
    rows.map(|((row, errors), &value)| {
        if node.dtype.is_integer() {
            return integer_reduction(kind, errors);
        }
        if errors.contains(&f64::INFINITY) {
            return f64::INFINITY;
        }
        match kind {
            Reduce::Sum => sum(row, errors, value, arithmetic.chain.length(row.len()), arithmetic),
            Reduce::Prod => product(row, errors, value, arithmetic),
            Reduce::Max | Reduce::Min => extreme(kind, row, errors, value),
        }
    })
    .collect()
}

/// `Σ E + γ_d Σ (|x| + E)`.
fn sum(row: &[f64], errors: &[f64], value: f64, chain: usize, arithmetic: &Arithmetic) -> f64 {
    if !value.is_finite() {
        // NaN or infinity among the terms decides the result.
        return 0.0;
    }
    let inherited: f64 = errors.iter().sum();
    let magnitude = row.iter().map(|x| x.abs()).sum::<f64>() + inherited;
    sum_bound(inherited, magnitude, value, chain, row.len(), arithmetic)
}

/// The bound of a sum of `terms` terms of total magnitude `Σ (|x| + E)` that inherits `Σ E`.
fn sum_bound(
    inherited: f64,
    magnitude: f64,
    value: f64,
    chain: usize,
    terms: usize,
    arithmetic: &Arithmetic,
) -> f64 {
    if !value.is_finite() {
        return if inherited == 0.0 { 0.0 } else { f64::INFINITY };
    }
    // Exact terms of one sign overflow when their sum does; others may overflow on the way, or against one another.
    if magnitude > largest(DType::F32)
        && (inherited > 0.0 || magnitude > value.abs() * (1.0 + f64::from(f32::EPSILON)))
    {
        return f64::INFINITY;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
    let underflow = terms.saturating_sub(1) as f64 * arithmetic.eta;
    inherited + arithmetic.gamma(chain) * magnitude + underflow
}

/// `Π (|x| + E) (1 + γ_{n−1}) − |Π x|`, in whatever order the factors are taken.
fn product(row: &[f64], errors: &[f64], value: f64, arithmetic: &Arithmetic) -> f64 {
    if row.iter().any(|x| x.is_nan()) {
        return 0.0;
    }
    if row.iter().any(|x| x.is_infinite()) {
        // An infinity decides the result, unless the other factors may underflow to a zero on the way.
        let shrink: f64 = row.iter().map(|x| x.abs().min(1.0)).product();
        let certain = value.is_nan() || shrink >= f64::from(f32::MIN_POSITIVE);
        return if certain && errors.iter().all(|&e| e == 0.0) { 0.0 } else { f64::INFINITY };
    }
    let (mut magnitude, mut exact, mut growth, mut shrink) = (1.0f64, 1.0f64, 1.0f64, 1.0f64);
    for (x, e) in row.iter().zip(errors) {
        let largest = x.abs() + e;
        magnitude *= largest;
        exact *= x.abs();
        growth *= largest.max(1.0);
        let smallest = x.abs() - e;
        // An exact zero makes the product exactly zero; it cannot cause an underflow that matters.
        shrink *= if *x == 0.0 && *e == 0.0 { 1.0 } else { smallest.clamp(0.0, 1.0) };
    }
    // Partial products may leave the range on the way although the product does not.
    if growth > largest(DType::F32) && growth > value.abs() {
        return f64::INFINITY;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
    let underflow = if magnitude == 0.0 || shrink >= f64::from(f32::MIN_POSITIVE) {
        0.0
    } else {
        row.len() as f64 * arithmetic.eta * growth
    };
    let roundings = row.len().saturating_sub(1);
    settled((magnitude - exact).max(0.0) + arithmetic.gamma(roundings) * magnitude + underflow)
}

/// Union of the intervals that may hold the extreme.
fn extreme(kind: Reduce, row: &[f64], errors: &[f64], value: f64) -> f64 {
    if value.is_nan() {
        return 0.0;
    }
    let end = |sign: f64| -> Vec<f64> { row.iter().zip(errors).map(|(x, e)| x + sign * e).collect() };
    [-1.0, 1.0]
        .into_iter()
        .map(|sign| distance(rows::reduce_row(kind, &end(sign)), value))
        .fold(0.0, f64::max)
}

/// Distance to the farthest index that may hold the extreme.
#[expect(clippy::cast_precision_loss, reason = "indices are below 2³²")]
pub(super) fn arg_reduce(operand: &Ranged, shape: &Shape, axis: usize, maximum: bool) -> Vec<f64> {
    let moved = [&operand.value, &operand.bound].map(|column| reduced_last(column, shape, &[axis]));
    let count = shape.without(&[axis]).elements();
    let [values, bounds] = [0, 1].map(|i| Rows::of(&moved[i], count));
    let farthest = |(row, errors): (&[f64], &[f64])| {
        if errors.iter().all(|&e| e == 0.0) {
            return 0.0;
        }
        let chosen = rows::first_extreme(row, maximum);
        let sign = if maximum { 1.0 } else { -1.0 };
        let intervals: Vec<Interval> =
            row.iter().zip(errors).map(|(x, e)| Interval::new(sign * x, *e)).collect();
        // Every index whose best case reaches the best of all worst cases.
        let worst = intervals.iter().map(Interval::low).fold(f64::NEG_INFINITY, f64::max);
        let candidates = intervals.iter().enumerate().filter(|(_, x)| x.high() >= worst || x.high().is_nan());
        candidates.map(|(i, _)| i.abs_diff(chosen) as f64).fold(0.0, f64::max)
    };
    values.iter().zip(bounds.iter()).map(farthest).collect()
}

/// Bounds of running sums: each is a sum of the elements before it.
pub(super) fn cumulative_sum(
    operand: &Ranged,
    shape: &Shape,
    axis: usize,
    reverse: bool,
    arithmetic: &Arithmetic,
) -> Vec<f64> {
    let running = |column: &[f64]| rows::cumulative_sum(column, shape, axis, reverse);
    let magnitudes: Vec<f64> = operand.value.iter().zip(&operand.bound).map(|(x, e)| x.abs() + e).collect();
    let (values, inherited, magnitudes) =
        (running(&operand.value), running(&operand.bound), running(&magnitudes));
    let along = Along::new(shape, axis);
    let element = |(i, ((&v, &e), &m)): (usize, ((&f64, &f64), &f64))| {
        let index = (i / along.inner) % along.length;
        let terms = if reverse { along.length - index } else { index + 1 };
        settled(sum_bound(e, m, v, arithmetic.chain.length(terms), terms, arithmetic))
    };
    values.iter().zip(&inherited).zip(&magnitudes).enumerate().map(element).collect()
}

/// `|A| E_B + E_A |B| + E_A E_B + γ (|A| + E_A)(|B| + E_B) + K η`.
pub(super) fn matmul(
    node: &Node,
    lhs: &Ranged,
    rhs: &Ranged,
    value: &[f64],
    arithmetic: &Arithmetic,
) -> Vec<f64> {
    let k = *node.operands[0].shape.last().unwrap_or(&0);
    let magnitude = |x: &Ranged| x.value.iter().map(|v| v.abs()).collect::<Vec<_>>();
    let (a, b) = (magnitude(lhs), magnitude(rhs));
    let products = rows::matmul(node, &a, &b);
    let mut inherited = vec![0.0; value.len()];
    if !lhs.is_exact() || !rhs.is_exact() {
        let reach: Vec<f64> = b.iter().zip(&rhs.bound).map(|(b, e)| b + e).collect();
        let (left, right) = (rows::matmul(node, &lhs.bound, &reach), rows::matmul(node, &a, &rhs.bound));
        inherited = left.iter().zip(&right).map(|(l, r)| settled(l + r)).collect();
    }
    // A product is one rounding before the additions.
    let chain = arithmetic.chain.length(k) + usize::from(k > 0);
    let elements = products.iter().zip(&inherited).zip(value);
    elements
        .map(|((&product, &inherited), &value)| {
            settled(sum_bound(inherited, product + inherited, value, chain, k + 1, arithmetic))
        })
        .collect()
}

/// Bounds of a scatter-add: each element is the sum of the updates that name it.
pub(super) fn scatter_add(
    updates: &Ranged,
    shape: &Shape,
    axis: usize,
    indices: &[usize],
    size: usize,
    arithmetic: &Arithmetic,
) -> Vec<f64> {
    let add = |column: &[f64]| scattered(column, shape, axis, indices, size);
    let magnitudes: Vec<f64> = updates.value.iter().zip(&updates.bound).map(|(x, e)| x.abs() + e).collect();
    let (values, inherited, magnitudes) = (add(&updates.value), add(&updates.bound), add(&magnitudes));
    let mut hits = vec![0usize; size];
    for &index in indices {
        hits[index] += 1;
    }
    let inner: usize = shape[axis + 1..].iter().product();
    let element = |(i, ((&v, &e), &m)): (usize, ((&f64, &f64), &f64))| {
        let terms = hits[(i / inner) % size];
        settled(sum_bound(e, m, v, terms.saturating_sub(1), terms, arithmetic))
    };
    values.iter().zip(&inherited).zip(&magnitudes).enumerate().map(element).collect()
}

/// Bounds of every row along the last axis.
pub(super) fn each_row(
    operand: &Ranged,
    shape: &Shape,
    mut bound: impl FnMut(&Row<'_>) -> Vec<f64>,
) -> Vec<f64> {
    let [values, bounds] = [&operand.value, &operand.bound].map(|column| Rows::last(column, shape));
    let rows = values.iter().zip(bounds.iter());
    rows.flat_map(|(logits, errors)| bound(&Row { logits, errors })).collect()
}

/// Logits with bounds.
pub(super) struct Row<'a> {
    logits: &'a [f64],
    errors: &'a [f64],
}

/// Errors that the pieces of a row gather in f32, relative or absolute as named.
struct Pieces {
    /// Relative error of each `exp(x_j − max)`: the rounded difference and the promise of `exp`.
    relative: Vec<f64>,
    /// Index of the first largest logit.
    first: usize,
    /// Sum of the powers but the first largest.
    rest: f64,
    /// Absolute error of `rest`, with its additions.
    rest_error: f64,
    /// Relative error of the additions of all powers.
    chain: f64,
}

impl Row<'_> {
    fn is_exact(&self) -> bool {
        self.errors.iter().all(|&e| e == 0.0)
    }
    fn anything(&self) -> bool {
        self.errors.contains(&f64::INFINITY)
    }
    /// The row with every logit moved to an end of its interval; `sign(j)` says which.
    fn moved(&self, sign: impl Fn(usize) -> f64) -> Vec<f64> {
        let logits = self.logits.iter().zip(self.errors).enumerate();
        logits.map(|(j, (x, e))| if *e == 0.0 { *x } else { x + sign(j) * e }).collect()
    }
    /// The rows at which a function that is monotone in each logit has its extremes, and the row itself.
    fn candidates(&self, sign: impl Fn(usize) -> f64) -> Vec<Vec<f64>> {
        if self.is_exact() {
            return vec![self.logits.to_vec()];
        }
        vec![self.logits.to_vec(), self.moved(&sign), self.moved(|j| -sign(j))]
    }
    /// Bound of a value that is monotone in each logit: the deviation at the extremes, and the largest own error there.
    fn monotone(
        &self,
        sign: impl Fn(usize) -> f64,
        value: impl Fn(&[f64]) -> f64,
        own: impl Fn(&[f64], f64) -> f64,
    ) -> f64 {
        if self.anything() {
            return f64::INFINITY;
        }
        let center = value(self.logits);
        let (mut inherited, mut rounding) = (0.0f64, 0.0f64);
        for row in self.candidates(sign) {
            let value = value(&row);
            inherited = inherited.max(distance(value, center));
            if value.is_finite() {
                rounding = rounding.max(settled(own(&row, value)));
            }
        }
        inherited + rounding
    }

    /// `max + log1p(rest)`.
    pub(super) fn logsumexp(&self, arithmetic: &Arithmetic) -> f64 {
        self.monotone(
            |_| 1.0,
            rows::logsumexp,
            |row, value| {
                pieces(row, arithmetic).log1p(arithmetic) + arithmetic.unit * value.abs() + arithmetic.eta
            },
        )
    }
    /// `log1p(rest) + (max − x_label)`: larger with every other logit, smaller with that of the label.
    pub(super) fn cross_entropy(&self, label: usize, arithmetic: &Arithmetic) -> f64 {
        self.monotone(
            |j| if j == label { -1.0 } else { 1.0 },
            |row| rows::cross_entropy(row, label),
            |row, value| {
                let pieces = pieces(row, arithmetic);
                let difference = row[pieces.first] - row[label];
                let rounding = arithmetic.unit * (difference.abs() + value.abs());
                pieces.log1p(arithmetic) + rounding + 2.0 * arithmetic.eta
            },
        )
    }
    /// `exp(x_j − max) / (1 + rest)`.
    pub(super) fn softmax(&self, arithmetic: &Arithmetic) -> Vec<f64> {
        if self.anything() {
            return vec![f64::INFINITY; self.logits.len()];
        }
        let center = rows::softmax(self.logits);
        if center.iter().any(|p| p.is_nan()) || self.logits.is_empty() {
            return vec![0.0; center.len()];
        }
        let extremes = [self.probabilities(1.0), self.probabilities(-1.0)];
        let mut bound: Vec<f64> = (0..center.len())
            .map(|j| extremes.iter().map(|p| distance(p[j], center[j])).fold(0.0, f64::max))
            .collect();
        // Own errors are relative: the largest of the rows around, times the largest probability.
        let mut own = vec![0.0f64; center.len()];
        for row in self.candidates(|_| 1.0) {
            for (own, error) in own.iter_mut().zip(pieces(&row, arithmetic).quotients()) {
                *own = own.max(error);
            }
        }
        let is_empty = self.logits.iter().all(|&x| x == f64::NEG_INFINITY);
        for (j, bound) in bound.iter_mut().enumerate() {
            let impossible = is_empty || self.logits[j] == f64::NEG_INFINITY;
            let underflow = if impossible { 0.0 } else { 2.0 * arithmetic.underflow(center[j]) };
            *bound = settled(*bound + (center[j] + *bound) * own[j] + underflow);
        }
        bound
    }
    /// Largest (`sign` 1) or smallest (−1) value of each probability.
    fn probabilities(&self, sign: f64) -> Vec<f64> {
        if self.is_exact() {
            return rows::softmax(self.logits);
        }
        let (own, others) = (self.moved(|_| sign), self.moved(|_| -sign));
        let Some(largest) = own.iter().chain(&others).copied().reduce(special::max) else { return own };
        if largest == f64::NEG_INFINITY {
            return vec![0.0; own.len()];
        }
        let powers: Vec<f64> = others.iter().map(|x| special::exp(x - largest)).collect();
        // Sums of all powers before and after each: subtracting a large one from the total would cancel.
        let after: Vec<f64> =
            powers.iter().rev().scan(0.0, |sum, p| Some(std::mem::replace(sum, *sum + p))).collect();
        let mut before = 0.0;
        let quotient = |(j, x): (usize, &f64)| {
            let own = special::exp(x - largest);
            let rest = before + after[powers.len() - 1 - j];
            before += powers[j];
            own / (rest + own)
        };
        own.iter().enumerate().map(quotient).collect()
    }
    /// Softmax, and at the label minus the sum of the others.
    pub(super) fn softmax_residual(&self, label: usize, arithmetic: &Arithmetic) -> Vec<f64> {
        let mut bound = self.softmax(arithmetic);
        let (mut inherited, mut magnitude) = (0.0, 0.0);
        for (j, p) in rows::softmax(self.logits).into_iter().enumerate() {
            if j != label {
                inherited += bound[j];
                magnitude += p + bound[j];
            }
        }
        let terms = self.logits.len() - 1;
        let chain = arithmetic.chain.length(terms);
        let value = rows::softmax_residual(self.logits, label)[label];
        bound[label] = if self.anything() {
            f64::INFINITY
        } else {
            settled(sum_bound(inherited, magnitude, value, chain, terms, arithmetic))
        };
        bound
    }
}

fn pieces(row: &[f64], arithmetic: &Arithmetic) -> Pieces {
    let normalized = normalize(row);
    let promise = Arithmetic::relative(Elementwise::Exp.ulp());
    let mut relative = Vec::with_capacity(row.len());
    let (mut magnitude, mut inherited) = (0.0, 0.0);
    for (j, x) in row.iter().enumerate() {
        let difference = x - normalized.largest;
        let power = special::exp(difference);
        // −inf is exact: its power is exactly 0.
        let (error, tiny) = if difference == f64::NEG_INFINITY {
            (0.0, 0.0)
        } else {
            let rounding = special::expm1(arithmetic.unit * difference.abs());
            (rounding * (1.0 + promise) + promise, arithmetic.underflow(power))
        };
        if j != normalized.first {
            inherited += power * error + tiny;
            magnitude += power * (1.0 + error) + tiny;
        }
        relative.push(error);
    }
    let chain = arithmetic.chain.length(row.len().saturating_sub(1));
    let rest_error = inherited + arithmetic.gamma(chain) * magnitude;
    let (first, rest) = (normalized.first, normalized.rest);
    Pieces { relative, first, rest, rest_error, chain: arithmetic.gamma(arithmetic.chain.length(row.len())) }
}

impl Pieces {
    /// Absolute error of `log1p(rest)`.
    fn log1p(&self, arithmetic: &Arithmetic) -> f64 {
        let value = special::log1p(self.rest);
        let high = special::log1p(self.rest + self.rest_error);
        let promise = Arithmetic::relative(Elementwise::Log1p.ulp());
        let floor =
            if self.rest == 0.0 && self.rest_error == 0.0 { 0.0 } else { arithmetic.underflow(value) };
        (high - value) + promise * high + floor
    }
    /// Relative error of each power divided by the sum of all.
    fn quotients(&self) -> impl Iterator<Item = f64> + '_ {
        let division = Arithmetic::relative(Elementwise::Div.ulp());
        // The largest power is exp(0), which a device computes like any other.
        let largest = self.relative.get(self.first).copied().unwrap_or(0.0);
        let total = (largest + self.rest_error) / (1.0 + self.rest) + self.chain;
        let quotient = move |error: &f64| (1.0 + error) * (1.0 + division) / (1.0 - total) - 1.0;
        self.relative.iter().map(move |error| if total < 1.0 { quotient(error) } else { f64::INFINITY })
    }
}
