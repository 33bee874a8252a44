//! Forward mode: one sweep from tangents of inputs to tangents of outputs.

use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{AddressMap, Code, DType, Error, Node, Op, Partial, RuleKind, Tensor, topological};

use crate::check::{Mode, first_use};
use crate::enclosure::push_enclosure;
use crate::gradient::{Gradient, State, Wrt};
use crate::guard::Guarded;
use crate::join::join;
use crate::looped::{Pushed, loses, reaches};
use crate::pullback::{Missing, undefined};
use crate::pushforward::{Tangent, push};
use crate::reverse::{captured_error, captures, check_fit, check_float, check_whole, grad, results_of};
use crate::stamp::{brought, cast_at, masked_at, source_at, stamp};
use crate::transpose::push_rule;

/// Jacobian-vector product: the change of each output as each `wrt` moves along its tangent.
///
/// Any float tensor may be moved, leaves and intermediates; where one moved tensor depends on another, the changes
/// add. An output that nothing moves has zeros.
///
/// Errors: the first error of an invalid tensor; `E_COTANGENT` for a tangent whose shape or type is not that of its
/// tensor; `E_NOT_DIFFERENTIABLE` for integers; `E_NO_DERIVATIVE` and `E_NO_JVP` where a derivative is missing; with debug
/// assertions, `E_RULE_WRONG`, `E_RULE_LINEAR` and `E_RULE_FORWARD` for a custom rule that is wrong (see
/// [`unchecked`](crate::check::unchecked)).
///
/// ```
/// use cotangent_autograd::jvp;
/// use cotangent_tensor::Tensor;
/// let x = Tensor::new([1.0, 2.0]);
/// let y = x.exp();
/// let change = jvp(&[&y], &[(&x, &Tensor::new([1.0, 0.0]))])?;
/// assert_eq!(change[0].shape()[..], [2]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn jvp(outputs: &[&Tensor], tangents: &[(&Tensor, &Tensor)]) -> Result<Vec<Tensor>, Error> {
    let at = Location::caller();
    push_all(outputs, tangents).map_err(|e| if e.location().is_some() { e } else { e.at(at) })
}

fn push_all(outputs: &[&Tensor], tangents: &[(&Tensor, &Tensor)]) -> Result<Vec<Tensor>, Error> {
    let mut roots = Vec::new();
    for (position, output) in outputs.iter().enumerate() {
        let node = output.node()?;
        check_float("jvp", "output", position, node)?;
        roots.push(node.clone());
    }
    let mut moved = Vec::new();
    for (position, (primal, tangent)) in tangents.iter().enumerate() {
        let (primal, tangent) = (primal.node()?, tangent.node()?);
        check_float("jvp", "wrt", position, primal)?;
        check_fit("jvp", ("tangent", "input"), position, tangent, primal)?;
        let seed = Guarded::plain(cast_at(&Tensor::from_node(tangent.clone()), DType::F32, primal));
        moved.push((primal.clone(), (Some(seed), None)));
    }
    let targets: Vec<Arc<Node>> = moved.iter().map(|(primal, _)| primal.clone()).collect();
    check_whole(&roots, &targets)?;
    let of = |(root, change): (&Arc<Node>, Change)| match change {
        (Some(tangent), _) => {
            let change = cast_at(&masked_at(&tangent, root), root.dtype, root);
            change.node()?;
            Ok(change)
        }
        (None, Some(op)) => {
            let message = format!("no derivative through `{op}`, which leaves the floats");
            let error = Error::new(Code::NotDifferentiable, "jvp", message);
            Err(error.hint("write one with `custom_gradient`, or cut the path with `detach`"))
        }
        (None, None) => {
            let zeros = source_at(Guarded::number(root.shape, 0.0), root);
            Ok(cast_at(&zeros.value, root.dtype, root))
        }
    };
    roots.iter().zip(changes(&roots, moved)?).map(of).collect()
}

/// The change of a node: its tangent, or where it was lost.
pub(crate) type Change = (Tangent, Lost);

/// The changes of `roots` where these nodes change.
pub(crate) fn changes(roots: &[Arc<Node>], moved: Vec<(Arc<Node>, Change)>) -> Result<Vec<Change>, Error> {
    let mut seeds: AddressMap<(), Vec<Guarded>> = AddressMap::default();
    let mut lost_before: AddressMap<(), Arc<str>> = AddressMap::default();
    for (primal, (seed, lost)) in moved {
        seeds.entry(primal.identity()).or_default().extend(seed);
        lost_before.extend(lost.map(|lost| (primal.identity(), lost)));
    }
    let order = topological(roots);
    let captured = captures(&order, &seeds.keys().copied().collect());
    if let Some((rule, node)) = captured.into_values().next() {
        return Err(captured_error(&rule, &node));
    }
    // Outputs of enclosures that somebody reads.
    let mut asked: AddressMap<Node, Vec<usize>> = AddressMap::default();
    for node in &order {
        if let (Op::Project(slot), [tuple]) = (&node.op, &node.operands[..]) {
            asked.entry(tuple.key()).or_default().push(*slot);
        }
    }
    let index: AddressMap<Node, usize> = order.iter().enumerate().map(|(i, n)| (n.key(), i)).collect();
    // One tangent per node; one per output for a rule. So is what was lost, of which only enclosures know more than for all at once.
    let mut loops = Pushed::default();
    let mut known: Vec<Vec<Tangent>> = Vec::with_capacity(order.len());
    let mut lost: Vec<Vec<Lost>> = Vec::with_capacity(order.len());
    // What depends on a moved tensor, also where no change gets through.
    let mut depends: Vec<bool> = Vec::with_capacity(order.len());
    for node in &order {
        let is_moved = seeds.contains_key(&node.identity());
        depends.push(is_moved || node.sources().iter().any(|o| depends[index[&o.key()]]));
        if let (Op::Rule(rule), Some(true)) = (&node.op, depends.last())
            && rule.kind == RuleKind::FirstOrderOnly
        {
            return Err(Missing::rule(rule, node).error);
        }
        let slot = if let Op::Project(slot) = node.op { slot } else { 0 };
        let incoming: Vec<&Tangent> = node.operands.iter().map(|o| &known[index[&o.key()]][slot]).collect();
        let moves = |o: &Arc<Node>| known[index[&o.key()]].iter().any(Option::is_some);
        let lost_at = |o: &Arc<Node>| {
            let all: &Vec<Lost> = &lost[index[&o.key()]];
            &all[slot.min(all.len() - 1)]
        };
        if let (Op::Rule(rule), Some(_)) = (&node.op, results_of(node)) {
            let incoming =
                node.operands.iter().map(|o| (known[index[&o.key()]][0].clone(), lost_at(o).clone()));
            let slots = asked.remove(&node.key()).unwrap_or_default();
            let pushed = push_enclosure(node, rule, incoming.collect(), &slots)?;
            let (tangents, gone) = pushed.into_iter().unzip();
            known.push(tangents);
            lost.push(gone);
            continue;
        }
        let of_enclosure = matches!(node.op, Op::Project(_)) && results_of(&node.operands[0]).is_some();
        let mut gone = match of_enclosure {
            true => lost_at(&node.operands[0]).clone(),
            false => missing(node, moves, lost_at),
        };
        let mut tangents = if let Op::Rule(rule) = &node.op {
            first_use(node, rule, |operand| incoming[operand].is_some(), Mode::Forward)?;
            push_rule(node, rule, &incoming)?
        } else {
            vec![pushed(node, &incoming, &mut loops)?]
        };
        if let Some(given) = seeds.get(&node.identity()) {
            let all = given.iter().cloned().chain(tangents.into_iter().flatten());
            tangents = vec![total(node, all.collect())];
            gone = gone.or_else(|| lost_before.get(&node.identity()).cloned());
        }
        // A value on any path counts, as in reverse mode.
        if node.dtype.is_float() && tangents.iter().any(Option::is_some) {
            gone = None;
        }
        known.push(tangents);
        lost.push(vec![gone]);
    }
    let of = |root: &Arc<Node>| {
        let at = index[&root.key()];
        (known[at][0].clone(), lost[at][0].clone())
    };
    Ok(roots.iter().map(of).collect())
}

/// The operation at which a change left the floats for integers, where nothing but that is known of it.
pub(crate) type Lost = Option<Arc<str>>;

/// What is missing of the change of `node`: an integer has none, and what is made of it has none that could be known.
/// Truth values are piecewise constant, and so is what passes through them.
fn missing<'a>(
    node: &Arc<Node>,
    moves: impl Fn(&Arc<Node>) -> bool,
    lost: impl Fn(&Arc<Node>) -> &'a Lost,
) -> Lost {
    let of = match &node.op {
        Op::Detach => return None,
        Op::Project(slot) if undefined(node, *slot).is_some() => {
            return undefined(node, *slot).filter(|_| node.operands.iter().any(moves));
        }
        // The tuple of a rule has no type of its own: its projections have.
        Op::Project(_) if !node.dtype.is_float() => &node.operands[0],
        _ => node,
    };
    if node.dtype == DType::Bool && !matches!(node.op, Op::Rule(_)) {
        return None;
    }
    if let Op::While(looped, output) = &node.op {
        let reached = reaches(looped, *output);
        let before = || {
            node.operands
                .iter()
                .zip(&reached)
                .filter(|(_, reached)| **reached)
                .find_map(|(o, _)| lost(o).clone())
        };
        return if loses(node, moves) { Some(looped.name.as_str().into()) } else { before() };
    }
    if !node.dtype.is_float() && !matches!(node.op, Op::Rule(_)) && of.operands.iter().any(moves) {
        return Some(of.name().into());
    }
    let operand = of.sources().iter().position(|o| lost(o).is_some())?;
    if let Op::Elementwise(row) = node.op
        && let Some(Partial::Zero) =
            row.partials::<f64>(&vec![&1.0; row.arity()], &1.0, |_| true).get(operand)
    {
        return None;
    }
    lost(&of.operands[operand]).clone()
}

/// [`push`], with new nodes at the line of the primal.
fn pushed(node: &Arc<Node>, incoming: &[&Tangent], loops: &mut Pushed) -> Result<Tangent, Error> {
    if incoming.iter().all(|t| t.is_none()) {
        return Ok(None);
    }
    let mut tangent = push(node, incoming, loops)?;
    tangent.iter().try_for_each(Guarded::check).map_err(|e| e.at(node.location))?;
    let known = node.operands.iter().map(Node::key).chain([node.key()]);
    let brought = incoming.iter().filter_map(|t| t.as_ref()).flat_map(brought);
    stamp(&mut tangent.iter_mut().collect::<Vec<_>>(), known.chain(brought), node);
    Ok(tangent)
}

/// The given and the propagated tangents of a node together.
fn total(node: &Node, tangents: Vec<Guarded>) -> Tangent {
    let known: Vec<_> = tangents.iter().flat_map(brought).collect();
    let mut total = join(tangents)?;
    stamp(&mut [&mut total], known, node);
    Some(total)
}

/// Refuses products of derivatives where there is no path to anything that is asked for: a mistake, not a zero.
pub(crate) fn check_connected(gradients: &[Gradient]) -> Result<(), Error> {
    match gradients {
        [first, ..] if gradients.iter().all(|g| matches!(g.state(), State::Unconnected)) => {
            first.or_error().map(drop)
        }
        _ => Ok(()),
    }
}

/// Product of the Hessian of a scalar loss with a direction, forward mode over reverse mode.
///
/// One tensor per `wrt`, zeros where the second derivative is structurally zero. Errors: those of
/// [`grad`](crate::grad()) and [`jvp`]; a derivative that is missing anywhere on the way; `E_UNCONNECTED` where the loss
/// depends on nothing of `wrt`.
///
/// ```
/// use cotangent_autograd::hvp;
/// use cotangent_tensor::Tensor;
/// let x = Tensor::new([1.0, 2.0]);
/// let loss = (&x * &x * &x).sum(..);
/// let product = hvp(&loss, &x, &Tensor::new([1.0, 0.0]))?;
/// assert_eq!(product.shape()[..], [2]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn hvp<W: Wrt>(loss: &Tensor, wrt: W, direction: impl Wrt) -> Result<W::Of<Tensor>, Error> {
    let at = Location::caller();
    let (targets, directions) = (wrt.tensors(), direction.tensors());
    if targets.len() != directions.len() {
        let message = format!("{} directions for {} tensors", directions.len(), targets.len());
        return Err(Error::new(Code::Cotangent, "hvp", message).at(at));
    }
    let gradients: Vec<Gradient> = grad(loss, targets.clone())?;
    check_connected(&gradients).map_err(|e| e.at(at))?;
    let present = |gradient: &Gradient| match gradient.state() {
        State::NotDifferentiable { .. } => gradient.or_error(),
        State::Value(_) | State::Zero | State::Unconnected | State::Stopped { .. } => Ok(gradient.or_zero()),
    };
    let slopes = gradients.iter().map(present).collect::<Result<Vec<_>, _>>()?;
    let moved: Vec<(&Tensor, &Tensor)> = targets.into_iter().zip(directions).collect();
    Ok(wrt.collect(jvp(&slopes.iter().collect::<Vec<_>>(), &moved)?))
}
