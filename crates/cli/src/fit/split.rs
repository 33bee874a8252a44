//! Rows that train, and rows that decide when training has gone on for long enough.

use cotangent::glm::{Origin, Problem};
use cotangent::random::random_words;
use cotangent::{Code, Error, Key};

/// The rows that train, and the positions of those that do not: the share of all rows, drawn by the seed. None for a share of 0.
///
/// Errors: `E_HYPERPARAMETER` for a share outside of `[0, 1)`; `E_DATA_LENGTH` where one of both would have no row with weight.
pub(super) fn parts(
    problem: &Problem,
    share: f64,
    seed: u64,
) -> Result<(Problem, Option<Vec<usize>>), Error> {
    if !(0.0..1.0).contains(&share) {
        let message = format!("validation = {share} is not from 0 to below 1");
        return Err(Error::new(Code::Hyperparameter, "fit", message));
    }
    if share == 0.0 {
        return Ok((problem.clone(), None));
    }
    let rows = problem.target.len();
    let mut order: Vec<(u32, usize)> =
        random_words(Key::new(seed).stream("validation"), 0, rows).into_iter().zip(0..rows).collect();
    order.sort_unstable();
    let count = (share * rows as f64).round() as usize;
    let (unseen, training) = order.split_at(count.min(rows));
    let [unseen, training] = [unseen, training].map(|part| {
        let mut part: Vec<usize> = part.iter().map(|(_, row)| *row).collect();
        // In the order of the table, as without validation.
        part.sort_unstable();
        part
    });
    for (part, purpose) in [(&unseen, "validation"), (&training, "training")] {
        let part = subset(problem, part);
        if weights(&part).iter().all(|&weight| weight == 0.0) {
            let message =
                format!("validation = {share} of {rows} rows leaves no row with weight for {purpose}");
            return Err(Error::new(Code::DataLength, "fit", message));
        }
    }
    Ok((subset(problem, &training), Some(unseen)))
}

/// Some of the rows.
pub(super) fn subset(problem: &Problem, rows: &[usize]) -> Problem {
    let of = |values: &[f64]| -> Vec<f64> { rows.iter().map(|&row| values[row]).collect() };
    let origin = problem.origin.as_ref().map(|origin| Origin {
        lines: rows.iter().filter_map(|&row| origin.lines.get(row).copied()).collect(),
        ..origin.clone()
    });
    Problem {
        features: problem.features.iter().map(|(name, values)| (name.clone(), of(values))).collect(),
        target: of(&problem.target),
        weights: problem.weights.as_deref().map(of),
        offset: problem.offset.as_deref().map(of),
        origin,
    }
}

/// The weight of each row.
pub(super) fn weights(problem: &Problem) -> Vec<f64> {
    problem.weights.clone().unwrap_or_else(|| vec![1.0; problem.target.len()])
}
