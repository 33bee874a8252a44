//! What flows backward through chosen nodes: upstream, current and downstream, as numbers.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use serde_json::{Value, json};

use cotangent_tensor::{Array, Code, Error, Evaluate, Node, Op, Tensor, topological};

use crate::State;
use crate::guard::{Guarded, shape_of};
use crate::join::join;
use crate::pullback::{Flow, pull, pull_rule};
use crate::reverse::grad;

/// One application `y = f(x)`, seen from behind. `x` is the first operand that can have a gradient.
#[derive(Clone, Debug)]
pub struct Row {
    /// Label of `y`, or name of `f`, numbered in order of evaluation where it occurs several times.
    pub name: String,
    /// `x`.
    pub value: Array,
    /// `y`.
    pub result: Array,
    /// Cotangent of `y`.
    pub upstream: Array,
    /// What `f` alone makes of a cotangent of ones: for one number the derivative of `f`.
    pub current: Array,
    /// What `f` makes of `upstream`.
    pub downstream: Array,
}

/// Rows in backward order.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The application nearest to the loss comes first.
    pub rows: Vec<Row>,
}

/// Traces the gradient of a scalar `loss` through the applications that made `nodes`.
///
/// A node that nothing was applied to shows itself. Errors: those of [`grad`] and of the evaluator;
/// `E_NOT_DIFFERENTIABLE` where a rule is missing.
///
/// ```
/// use cotangent_autograd::{custom_gradient, trace};
/// use cotangent_tensor::{Reference, Tensor};
/// let square = |x: &Tensor| custom_gradient("square", [x], |[x]| {
///     (&x * &x, move |upstream: Tensor| upstream * x * 2.0)
/// });
/// let x = Tensor::new(2.0);
/// let (a, b) = (square(&x), square(&square(&x)));
/// let y = square(&b);
/// let table = trace(&y, &[&y, &b], &Reference::new())?;
/// assert_eq!(table.rows[0].upstream.scalar()?, 1.0);
/// assert_eq!(table.rows[1].downstream.scalar()?, 256.0);
/// println!("{table}"); // node, value, upstream, current, downstream
/// # let _ = a;
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn trace(loss: &Tensor, nodes: &[&Tensor], evaluator: &dyn Evaluate) -> Result<Trace, Error> {
    let at = Location::caller();
    let gradients = grad(loss, nodes)?;
    let order = topological([loss.node()?]);
    let position: HashMap<*const (), usize> =
        order.iter().enumerate().map(|(i, n)| (n.identity(), i)).collect();
    let mut applications = Vec::new();
    for (tensor, gradient) in nodes.iter().zip(gradients) {
        let upstream = match gradient.state() {
            State::NotDifferentiable { .. } => gradient.or_error().map_err(|e| e.at(at))?,
            State::Value(_) | State::Zero | State::Unconnected | State::Stopped { .. } => gradient.or_zero(),
        };
        let node = tensor.node()?.clone();
        applications.push((position.get(&node.identity()).copied(), node, upstream));
    }
    applications.sort_by_key(|(place, ..)| *place);
    let names = names(applications.iter().map(|(_, node, _)| node));
    let mut tensors = Vec::new();
    for (_, node, upstream) in &applications {
        let ones = Tensor::ones(node.shape);
        let (value, current) = local(node, &ones)?;
        let (_, downstream) = local(node, upstream)?;
        tensors.extend([value, Tensor::from_node(node.clone()), upstream.clone(), current, downstream]);
    }
    let mut arrays = evaluator.evaluate(&tensors.iter().collect::<Vec<_>>())?.into_iter();
    let mut rows = Vec::new();
    for name in names {
        let mut next = || {
            let missing = || Error::new(Code::Internal, "trace", "the evaluator returned too few arrays");
            arrays.next().ok_or_else(missing)
        };
        let (value, result, upstream) = (next()?, next()?, next()?);
        rows.push(Row { name, value, result, upstream, current: next()?, downstream: next()? });
    }
    rows.reverse();
    Ok(Trace { rows })
}

/// Labels or names of operations, numbered where they repeat.
fn names<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Vec<String> {
    let plain: Vec<String> = nodes
        .map(|node| match (&node.label, &node.op) {
            (Some(label), _) => label.to_string(),
            (None, Op::Project(_)) => node.operands[0].name().to_string(),
            (None, _) => node.name().to_string(),
        })
        .collect();
    let mut used: HashMap<&str, usize> = HashMap::new();
    let mut numbered = Vec::new();
    for name in &plain {
        let repeats = plain.iter().filter(|other| *other == name).count() > 1;
        let number = used.entry(name).or_insert(0);
        *number += 1;
        numbered.push(if repeats { format!("{name}#{number}") } else { name.clone() });
    }
    numbered
}

/// The first differentiable operand of the application that made `node`, and its cotangent for one of `node`.
fn local(node: &Arc<Node>, upstream: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let upstream = Guarded::plain(upstream.clone());
    // An output of a rule stands for the rule.
    let (operands, flows) = if let (Op::Project(slot), Some(tuple)) = (&node.op, node.operands.first())
        && let Op::Rule(rule) = &tuple.op
    {
        let outputs = (0..rule.outputs.len()).map(|i| (i == *slot).then(|| upstream.clone()));
        (&tuple.operands, pull_rule(tuple, rule, outputs.collect()))
    } else {
        (&node.operands, pull(node, &upstream, |_| true))
    };
    let differentiable = |o: &&Arc<Node>| o.dtype.is_float() && !matches!(o.op, Op::Constant(_));
    let first = operands.iter().find(differentiable).or_else(|| operands.iter().find(|o| o.dtype.is_float()));
    let Some(first) = first else {
        return Ok((Tensor::from_node(node.clone()), upstream.value));
    };
    let mut arrived = Vec::new();
    for (operand, flow) in operands.iter().zip(flows) {
        match flow {
            Flow::Value(contribution) if Arc::ptr_eq(operand, first) => arrived.push(contribution),
            Flow::Missing(missing) => return Err(missing.error),
            Flow::Value(_) | Flow::Zero | Flow::Stopped(_) | Flow::Discrete | Flow::Undefined(_) => {}
        }
    }
    let value = Tensor::from_node(first.clone());
    let zeros = Tensor::zeros(shape_of(&value));
    Ok((value, join(arrived).map_or(zeros, |sum| sum.masked())))
}

impl Trace {
    /// The table as a JSON document: a list of rows, each with `node` and the arrays `value`, `result`, `upstream`, `current` and
    /// `downstream` as `{"shape": […], "values": […]}` in row-major order. JSON has no NaN and no infinity: they are the strings
    /// `"nan"`, `"inf"` and `"-inf"`.
    pub fn to_json(&self) -> String {
        let number = |value: &f64| match value {
            v if v.is_nan() => json!("nan"),
            v if v.is_infinite() => json!(if *v > 0.0 { "inf" } else { "-inf" }),
            v => json!(v),
        };
        let array = |array: &Array| {
            let values: Vec<Value> = array.to_f64().iter().map(number).collect();
            json!({ "shape": &array.shape()[..], "values": values })
        };
        let row = |row: &Row| {
            json!({
                "node": row.name,
                "value": array(&row.value),
                "result": array(&row.result),
                "upstream": array(&row.upstream),
                "current": array(&row.current),
                "downstream": array(&row.downstream),
            })
        };
        Value::Array(self.rows.iter().map(row).collect()).to_string()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["node", "value", "upstream", "current", "downstream"].map(str::to_string);
        let body = self.rows.iter().map(|row| {
            let numbers = [&row.value, &row.upstream, &row.current, &row.downstream].map(numbers);
            let [value, upstream, current, downstream] = numbers;
            [row.name.clone(), value, upstream, current, downstream]
        });
        let lines: Vec<[String; 5]> = std::iter::once(head).chain(body).collect();
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        for (position, line) in lines.iter().enumerate() {
            let [name, rest @ ..] = line;
            write!(f, "{name:<width$}", width = widths[0])?;
            for (cell, width) in rest.iter().zip(&widths[1..]) {
                write!(f, "  {cell:>width$}")?;
            }
            if position + 1 < lines.len() {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// Up to four numbers of an array.
pub(crate) fn numbers(array: &Array) -> String {
    let values = array.to_f64();
    let number = |v: &f64| {
        let plain = format!("{v}");
        if plain.len() > 9 { format!("{v:.4e}") } else { plain }
    };
    let shown: Vec<String> = values.iter().take(4).map(number).collect();
    match (array.shape().rank(), values.len() > 4) {
        (0, _) => shown.join(""),
        (_, false) => format!("[{}]", shown.join(", ")),
        (_, true) => format!("[{}, … {} in all]", shown.join(", "), values.len()),
    }
}
