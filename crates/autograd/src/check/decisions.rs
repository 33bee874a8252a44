//! What a program decides on the way to its value: where decisions differ, it is another formula.

use std::sync::Arc;

use cotangent_tensor::{
    AddressSet, Class, DType, Elementwise, Error, Node, Op, Partial, Reduce, Shape, Tensor, WhileLoop,
    expand, topological,
};

use crate::structure::{operands, spread};

/// Tensors that are the same at two points exactly if the program decides the same at both: outcomes of comparisons,
/// branches of kinks, places of extremes, steps of what is piecewise constant. `roots` have no rules.
pub(super) fn decisions(roots: &[Arc<Node>]) -> Result<Vec<Tensor>, Error> {
    let mut found = Vec::new();
    for node in topological(roots) {
        let result = || Tensor::from_node(node.clone());
        match &node.op {
            Op::Elementwise(Elementwise::Fract) => found.push(operands(&node)[0].floor()),
            Op::Elementwise(row) if row.class() == Class::Test => found.push(result()),
            Op::Elementwise(row) if row.class() == Class::Real => of_row(*row, &node, &mut found)?,
            Op::Cast if !node.dtype.is_float() => found.push(result()),
            Op::ArgReduce { .. } => found.push(result()),
            Op::While(looped, _) => found.push(of_loop(looped, &node)?),
            Op::Reduce { kind: Reduce::Max | Reduce::Min, axes } if node.dtype.is_float() => {
                let operand = &node.operands[0];
                found.push(operands(&node)[0].eq(spread(&result(), &operand.shape, axes)));
            }
            _ => {}
        }
    }
    found.iter().try_for_each(|decision| decision.node().map(|_| ()))?;
    Ok(found)
}

/// What a loop decides in all its rounds, and how many there are, as one word.
fn of_loop(looped: &WhileLoop, node: &Arc<Node>) -> Result<Tensor, Error> {
    let tensors = |nodes: &[Arc<Node>]| nodes.iter().cloned().map(Tensor::from_node).collect::<Vec<_>>();
    let roots = looped.next.iter().chain([&looped.condition]).cloned().collect();
    let decided = decisions(&expand(roots).roots)?;
    let mut state = tensors(&looped.carried);
    let mut next = tensors(&looped.next);
    let mut operands = operands(node);
    let captured = operands.split_off(state.len());
    let seen = Tensor::placeholder("seen", Shape::SCALAR, DType::U32);
    let mixed = decided.iter().fold(&seen * 31u32 + 1u32, |seen, decision| {
        let word = if decision.dtype().is_float() { decision.cast(DType::I32) } else { decision.clone() };
        seen * 31u32 + word.cast(DType::U32)
    });
    state.push(seen);
    next.push(mixed);
    operands.push(Tensor::full(node.shape, 0u32));
    let condition = Tensor::from_node(looped.condition.clone());
    let traced = (&state[..], &tensors(&looped.captured)[..]);
    let looped = WhileLoop::new(&looped.name, looped.rounds, traced, &condition, &next)?;
    let mut outputs = looped.apply_at(node.location, &operands, &captured);
    Ok(outputs.pop().unwrap_or_else(|| Tensor::from_node(node.clone())))
}

/// The decisions of a row stand in its derivatives: in their conditions, and in what a condition lets pass.
fn of_row(row: Elementwise, node: &Arc<Node>, found: &mut Vec<Tensor>) -> Result<(), Error> {
    let primals = operands(node);
    let result = Tensor::from_node(node.clone());
    let partials = row.partials(&primals.iter().collect::<Vec<_>>(), &result, |_| true);
    if partials.iter().all(|partial| matches!(partial, Partial::Zero)) {
        found.push(result);
        return Ok(());
    }
    let mut known: AddressSet<Node> = node.operands.iter().map(Node::key).chain([node.key()]).collect();
    let mut stack: Vec<Arc<Node>> = Vec::new();
    for partial in &partials {
        if let Partial::Pick { condition, factor, .. } = partial {
            stack.push(condition.node()?.clone());
            if let Some(factor) = factor {
                stack.push(factor.node()?.clone());
            }
        }
    }
    while let Some(made) = stack.pop() {
        if !known.insert(made.key()) {
            continue;
        }
        stack.extend(made.operands.iter().cloned());
        let flat = |row: &Elementwise| {
            let number = vec![&1.0; row.arity()];
            row.class() == Class::Real
                && row.partials::<f64>(&number, &1.0, |_| true).iter().all(|p| matches!(p, Partial::Zero))
        };
        let decides = made.dtype == DType::Bool || matches!(&made.op, Op::Elementwise(row) if flat(row));
        if decides {
            found.push(Tensor::from_node(made));
        }
    }
    Ok(())
}
