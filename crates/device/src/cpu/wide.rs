//! Sums over the rows of a narrow matrix, such as the gradient of a bias of thirty units.
//!
//! Lanes run over columns, and thirty lanes per operation leave the time to the interpreter. So several rows lie side by
//! side: the reduced dimension is cut in two, the inner part joins the lanes, and what its lanes found combines in order
//! when the sweep has ended.

use cotangent_shaders::{Code, Loop, Schedule};

use super::geometry::{affines, signed};
use super::reduction::{Kind, State};

/// Lanes that are worth an operation.
const LANES: usize = 512;

/// The loop with several rows side by side; none where rows are wide enough, or where positions along the
/// reduced dimensions matter.
pub(super) fn widen(body: &Loop) -> Option<Loop> {
    let (kept, rows) = (body.kept_elements(), *body.reduced.last()?);
    let positions_matter = |code: &Code| {
        matches!(
            code,
            Code::ArgReduce { .. }
                | Code::LoadIndexed { .. }
                | Code::LogSumExpMax(_)
                | Code::LogSumExpRest(_)
                | Code::Softmax { .. }
                | Code::SoftmaxResidual { .. }
                | Code::Pick { .. }
        )
    };
    if body.schedule != Schedule::Column || body.code.iter().any(|i| positions_matter(&i.code)) {
        return None;
    }
    let beside = (2..=LANES / kept.max(1)).rev().find(|beside| rows.is_multiple_of(*beside))?;
    let mut wide = body.clone();
    for at in affines(&mut wide) {
        let last = at.strides.last_mut()?;
        let stride = *last;
        *last = stride * signed(beside);
        at.strides.insert(0, stride);
    }
    wide.kept.insert(0, beside);
    *wide.reduced.last_mut()? = rows / beside;
    Some(wide)
}

/// Combines the results of rows that lay side by side.
pub(super) fn fold(kinds: impl Iterator<Item = Kind>, wide: &[Vec<State>], kept: usize) -> Vec<Vec<State>> {
    let one = |(kind, states): (Kind, &Vec<State>)| {
        let mut total = vec![kind.identity(); kept];
        for row in states.chunks(kept.max(1)) {
            kind.combine_all(&mut total, row);
        }
        total
    };
    kinds.zip(wide).map(one).collect()
}
