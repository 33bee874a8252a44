//! Coordinates through views: where in a buffer the elements of a view lie.

use cotangent_tensor::Op;

use super::graph::{Graph, Role};
use crate::kernel::Affine;

/// One affine function of the loop coordinates per dimension of a node.
pub(super) type Coordinates = Vec<Affine>;

/// Where a chain of views ends.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// A node that is no view.
    pub node: usize,
    /// Coordinates in it, where they are affine.
    pub coordinates: Option<Coordinates>,
    /// Row-major index in it, where it is affine.
    pub linear: Option<Affine>,
    /// The view that must be copied into a buffer first, where neither is.
    pub blocked: Option<usize>,
}

/// Row-major index of these coordinates in `shape`.
pub(super) fn linear(coordinates: &[Affine], shape: &[usize], dimensions: usize) -> Affine {
    let strides = Affine::row_major(shape).strides;
    let zero = Affine::constant(0, dimensions);
    coordinates.iter().zip(strides).fold(zero, |sum, (c, stride)| sum.plus(c, stride))
}

/// The coordinates in `shape` of a row-major index, if they are affine functions too: no carry may occur for any loop
/// coordinate below `extents`.
pub(super) fn decompose(index: &Affine, extents: &[usize], shape: &[usize]) -> Option<Coordinates> {
    let strides = Affine::row_major(shape).strides;
    let mut rest = index.offset;
    if rest < 0 {
        return None;
    }
    let mut coordinates = Vec::with_capacity(shape.len());
    for &stride in &strides {
        coordinates.push(Affine::constant(rest / stride.max(1), extents.len()));
        rest %= stride.max(1);
    }
    for (dimension, &factor) in index.strides.iter().enumerate() {
        if factor == 0 || extents[dimension] == 1 {
            continue;
        }
        let size = factor.abs();
        let axis =
            (0..shape.len()).find(|&a| shape[a] > 1 && strides[a] <= size && size % strides[a] == 0)?;
        coordinates[axis].strides[dimension] += factor / strides[axis];
    }
    let fits = coordinates.iter().zip(shape).all(|(c, &size)| {
        let reach = |sign: fn(i64) -> i64| {
            c.strides.iter().zip(extents).map(|(&s, &e)| sign(s) * to_i64(e - 1)).sum::<i64>()
        };
        c.offset + reach(|s| s.min(0)) >= 0 && c.offset + reach(|s| s.max(0)) < to_i64(size)
    });
    fits.then_some(coordinates)
}

/// Sizes are below 2³².
pub(super) fn to_i64(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Coordinates of the operand of a view (any node with one main operand that only moves elements).
fn through(graph: &Graph, view: usize, coordinates: &[Affine], extents: &[usize]) -> Option<Coordinates> {
    let operand = graph.operands[view][0];
    let (shape, from) = (graph.shape(view), graph.shape(operand));
    match &graph.nodes[view].op {
        Op::Reshape => decompose(&linear(coordinates, shape, extents.len()), extents, from),
        Op::Permute(axes) => {
            let mut result = coordinates.to_vec();
            for (position, &axis) in axes.iter().enumerate() {
                result[axis] = coordinates[position].clone();
            }
            Some(result)
        }
        Op::Broadcast => {
            let skipped = shape.rank() - from.rank();
            let one = Affine::constant(0, extents.len());
            Some(
                (0..from.rank())
                    .map(|a| if from[a] == 1 { one.clone() } else { coordinates[a + skipped].clone() })
                    .collect(),
            )
        }
        Op::Slice { starts, steps } => {
            let moved = coordinates.iter().zip(starts).zip(steps).map(|((c, &start), &step)| {
                Affine::constant(to_i64(start), extents.len()).plus(c, step as i64)
            });
            Some(moved.collect())
        }
        _ => None,
    }
}

/// Follows views from `node` at `coordinates` to the node that holds the elements.
pub(super) fn walk(graph: &Graph, node: usize, coordinates: Coordinates, extents: &[usize]) -> Base {
    let (mut node, mut coordinates, mut index, mut blocked) = (node, Some(coordinates), None, None);
    while graph.roles[node] == Role::View {
        let operand = graph.operands[node][0];
        let reshape = matches!(graph.nodes[node].op, Op::Reshape);
        index = match &coordinates {
            Some(c) if reshape => Some(linear(c, graph.shape(node), extents.len())),
            None if reshape => index,
            _ => None,
        };
        coordinates = coordinates.and_then(|c| through(graph, node, &c, extents));
        if coordinates.is_none()
            && graph.roles[operand] == Role::View
            && !matches!(graph.nodes[operand].op, Op::Reshape)
        {
            blocked = blocked.or(Some(operand));
        }
        node = operand;
    }
    if let Some(c) = &coordinates {
        index = Some(linear(c, graph.shape(node), extents.len()));
    }
    Base { node, coordinates, linear: index, blocked }
}

/// Follows views like [`walk`], and truth values that are computed again wherever they are needed, to everything that
/// must be read.
pub(super) fn leaves(graph: &Graph, node: usize, coordinates: Coordinates, extents: &[usize]) -> Vec<Base> {
    let mut result = Vec::new();
    let mut pending = vec![(node, coordinates)];
    while let Some((node, coordinates)) = pending.pop() {
        let base = walk(graph, node, coordinates, extents);
        match (&base.coordinates, graph.roles[base.node]) {
            (Some(c), Role::Inline) => {
                pending.extend(graph.operands[base.node].iter().map(|&o| (o, c.clone())));
            }
            _ => result.push(base),
        }
    }
    result
}

/// Coordinates of `operand` of a node that is planned as a copy of a view.
pub(super) fn copied(graph: &Graph, view: usize, coordinates: &[Affine], extents: &[usize]) -> Base {
    let operand = graph.operands[view][0];
    match through(graph, view, coordinates, extents) {
        Some(c) => walk(graph, operand, c, extents),
        None => {
            let index = linear(coordinates, graph.shape(view), extents.len());
            let holds = graph.roles[operand] != Role::View;
            Base {
                node: operand,
                coordinates: None,
                linear: holds.then_some(index),
                blocked: (!holds).then_some(operand),
            }
        }
    }
}

/// The identity: loop dimension `d` is dimension `d` of `shape`.
pub(super) fn identity(shape: &[usize]) -> Coordinates {
    (0..shape.len())
        .map(|axis| {
            let mut c = Affine::constant(0, shape.len());
            c.strides[axis] = i64::from(shape[axis] != 1);
            c
        })
        .collect()
}
