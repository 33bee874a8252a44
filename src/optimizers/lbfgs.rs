//! L-BFGS on the host.

use std::collections::VecDeque;
use std::panic::Location;

use cotangent_tensor::{Code, Detail, Error};

/// Limited-memory BFGS with a line search for the strong Wolfe conditions, in f64 on the host; loss and gradient come from
/// wherever one likes, a step on a device say. Source: Nocedal & Wright, Numerical Optimization, 2nd ed., Algorithms 3.5,
/// 3.6, 7.4 and 7.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lbfgs {
    /// Pairs of steps and gradient differences that are kept.
    pub history: usize,
    /// Directions at most.
    pub max_iterations: usize,
    /// It has converged when the largest element of the gradient is at most this, times 1 or the largest parameter.
    pub tolerance: f64,
}

impl Default for Lbfgs {
    fn default() -> Lbfgs {
        Lbfgs { history: 10, max_iterations: 200, tolerance: 1e-6 }
    }
}

/// What [`Lbfgs::minimize`] found.
#[derive(Clone, Debug)]
pub struct Minimum {
    /// The best parameters.
    pub parameters: Vec<f64>,
    /// The loss there.
    pub loss: f64,
    /// The gradient there.
    pub gradient: Vec<f64>,
    /// Directions taken.
    pub iterations: usize,
    /// Whether the gradient is within the tolerance.
    pub converged: bool,
    /// The loss at the start and after each direction.
    pub loss_history: Vec<f64>,
}

/// A point on the line that is searched.
#[derive(Clone, Debug)]
struct Point {
    step: f64,
    loss: f64,
    slope: f64,
    parameters: Vec<f64>,
    gradient: Vec<f64>,
}

/// Sufficient decrease and curvature of the Wolfe conditions.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// Evaluations in one line search.
const TRIALS: usize = 25;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

impl Lbfgs {
    /// Minimizes from `start`. `evaluate` gives loss and gradient. Stops without `converged` when a line search finds no
    /// lower loss: at the rounding of the evaluation, usually.
    ///
    /// Errors: those of `evaluate`; `E_DATA_LENGTH` for a gradient of another length than `start`;
    /// `E_NONFINITE` if loss or gradient are not finite at the start; `E_HYPERPARAMETER`.
    ///
    /// ```
    /// use cotangent::optimizers::Lbfgs;
    /// let rosenbrock = |p: &[f64]| {
    ///     let (a, b) = (1.0 - p[0], p[1] - p[0] * p[0]);
    ///     Ok((a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * p[0] * b, 200.0 * b]))
    /// };
    /// let minimum = Lbfgs::default().minimize(&[-1.2, 1.0], rosenbrock)?;
    /// assert!(minimum.converged && minimum.loss < 1e-12);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    #[track_caller]
    pub fn minimize(
        &self,
        start: &[f64],
        mut evaluate: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>), Error>,
    ) -> Result<Minimum, Error> {
        let at = Location::caller();
        if self.tolerance.is_nan() || self.tolerance < 0.0 || self.history == 0 {
            let message =
                format!("tolerance = {} or history = {} is not positive", self.tolerance, self.history);
            return Err(Error::new(Code::Hyperparameter, "lbfgs", message).at(at));
        }
        let mut evaluate = |parameters: &[f64]| {
            let (loss, gradient) = evaluate(parameters)?;
            if gradient.len() == start.len() {
                return Ok((loss, gradient));
            }
            let message = format!("a gradient of {} elements for {} parameters", gradient.len(), start.len());
            Err(Error::new(Code::DataLength, "lbfgs", message).at(at).hint("one derivative per parameter"))
        };
        let (loss, gradient) = evaluate(start)?;
        if !loss.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
            let message = format!("the loss at the start is {loss} or its gradient is not finite");
            let error = Error::new(Code::Nonfinite, "lbfgs", message).with("loss", Detail::Number(loss));
            return Err(error.at(at));
        }
        let mut point = Point { step: 0.0, loss, slope: 0.0, parameters: start.to_vec(), gradient };
        let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
        let mut loss_history = vec![loss];
        let small =
            |point: &Point| largest(&point.gradient) <= self.tolerance * largest(&point.parameters).max(1.0);
        while loss_history.len() <= self.max_iterations && !small(&point) {
            let direction = direction(&pairs, &point.gradient);
            let found = search(&point, &direction, pairs.is_empty(), &mut evaluate)?;
            let Some(next) = found else {
                if pairs.is_empty() {
                    break;
                }
                // The history may be bent by rounding: start again along the gradient.
                pairs.clear();
                continue;
            };
            let moved: Vec<f64> = next.parameters.iter().zip(&point.parameters).map(|(a, b)| a - b).collect();
            let turned: Vec<f64> = next.gradient.iter().zip(&point.gradient).map(|(a, b)| a - b).collect();
            if dot(&moved, &turned) > f64::EPSILON * dot(&turned, &turned) {
                if pairs.len() == self.history {
                    pairs.pop_front();
                }
                pairs.push_back((moved, turned));
            }
            point = next;
            loss_history.push(point.loss);
        }
        Ok(Minimum {
            converged: small(&point),
            loss: point.loss,
            iterations: loss_history.len() - 1,
            parameters: point.parameters,
            gradient: point.gradient,
            loss_history,
        })
    }
}

/// The two-loop recursion: minus the approximate inverse Hessian times the gradient.
fn direction(pairs: &VecDeque<(Vec<f64>, Vec<f64>)>, gradient: &[f64]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::new();
    for (moved, turned) in pairs.iter().rev() {
        let factor = dot(moved, &q) / dot(moved, turned);
        q.iter_mut().zip(turned).for_each(|(q, y)| *q -= factor * y);
        factors.push(factor);
    }
    if let Some((moved, turned)) = pairs.back() {
        let scale = dot(moved, turned) / dot(turned, turned);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, turned), factor) in pairs.iter().zip(factors.iter().rev()) {
        let correction = factor - dot(turned, &q) / dot(moved, turned);
        q.iter_mut().zip(moved).for_each(|(q, s)| *q += correction * s);
    }
    q
}

/// A point of lower loss along the direction that satisfies the strong Wolfe conditions, or the best one found; `None` if
/// there is no lower one.
fn search(
    origin: &Point,
    direction: &[f64],
    is_first: bool,
    evaluate: &mut impl FnMut(&[f64]) -> Result<(f64, Vec<f64>), Error>,
) -> Result<Option<Point>, Error> {
    let slope = dot(&origin.gradient, direction);
    if slope.is_nan() || slope >= 0.0 {
        return Ok(None);
    }
    let mut at = |step: f64| -> Result<Point, Error> {
        let parameters: Vec<f64> =
            origin.parameters.iter().zip(direction).map(|(p, d)| p + step * d).collect();
        let (loss, gradient) = evaluate(&parameters)?;
        // A loss that overflowed is a step too far.
        let loss = if loss.is_nan() { f64::INFINITY } else { loss };
        Ok(Point { step, loss, slope: dot(&gradient, direction), parameters, gradient })
    };
    let mut step = if is_first { (1.0 / largest(direction)).min(1.0) } else { 1.0 };
    // The bracket: the best point with sufficient decrease, and the other end.
    let mut low = Point { step: 0.0, slope, ..origin.clone() };
    let mut high: Option<Point> = None;
    for _ in 0..TRIALS {
        let trial = at(step)?;
        let decreased = trial.loss <= origin.loss + DECREASE * trial.step * slope && trial.slope.is_finite();
        if !decreased || (low.step > 0.0 && trial.loss >= low.loss) {
            high = Some(trial);
        } else if trial.slope.abs() <= -CURVATURE * slope {
            return Ok(Some(trial));
        } else {
            // Beyond the minimum the bracket closes, before it the lower end moves.
            let inward = trial.slope * high.as_ref().map_or(1.0, |high| (high.step - low.step).signum());
            if inward >= 0.0 {
                high = Some(std::mem::replace(&mut low, trial));
            } else {
                low = trial;
            }
        }
        step = match &high {
            None => 2.0 * low.step,
            Some(high) => interpolate(&low, high),
        };
        if high.as_ref().is_some_and(|high| (high.step - low.step).abs() <= f64::EPSILON * low.step) {
            break;
        }
    }
    Ok((low.step > 0.0 && low.loss < origin.loss).then_some(low))
}

/// The minimum of the parabola through the lower end, its slope and the other end; kept inside the bracket.
fn interpolate(low: &Point, high: &Point) -> f64 {
    let width = high.step - low.step;
    let bend = high.loss - low.loss - low.slope * width;
    let inside = -low.slope * width * width / (2.0 * bend);
    let share = inside / width;
    if share.is_finite() && (0.1..=0.9).contains(&share) { low.step + inside } else { low.step + 0.5 * width }
}
