//! Reductions: what they start from, how partial results combine, what they end in.
//!
//! A partial result is a pair of f64 whatever the reduction, so that tasks, blocks and sweeps combine in one way: in
//! order, from the first element to the last. Sums add at most [`FLUSH`] times in f32 before they go on in f64.

use cotangent_tensor::{DType, Integer};
use pulp::Arch;

use super::lanes::{self, LONGEST};

/// A partial result.
pub(super) type State = [f64; 2];

/// Additions in f32 before a running sum moves into its f64 total.
const FLUSH: usize = 64;

/// How elements combine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Operand: x. State: the sum.
    Sum,
    /// State: the product.
    Product,
    /// State: the maximum.
    Maximum,
    /// State: the minimum.
    Minimum,
    /// A sum, product, maximum or minimum of integers. State: the word.
    Integer(Integer, DType),
    /// State: the extreme element and its position, −1 for none.
    Arg { maximum: bool },
    /// Operands: x, its exponentials, the maximum. State: sum of the exponentials of elements below the maximum, number of
    /// elements that equal it.
    Rest,
    /// Operands: x, the position. State: the element, 0 until it is met.
    Pick,
}

impl Kind {
    /// The result of no elements.
    pub(super) fn identity(self) -> State {
        match self {
            Kind::Sum | Kind::Rest | Kind::Pick => [0.0, 0.0],
            Kind::Product => [1.0, 0.0],
            Kind::Maximum => [f64::NEG_INFINITY, 0.0],
            Kind::Minimum => [f64::INFINITY, 0.0],
            Kind::Integer(row, dtype) => [f64::from(start(row, dtype)), 0.0],
            Kind::Arg { .. } => [0.0, -1.0],
        }
    }
    /// The result of the elements of `a` followed by those of `b`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "states of integers hold words"
    )]
    pub(super) fn combine(self, a: State, b: State) -> State {
        match self {
            Kind::Sum | Kind::Rest | Kind::Pick => [a[0] + b[0], a[1] + b[1]],
            Kind::Product => [a[0] * b[0], 0.0],
            Kind::Maximum => [f64::from(cotangent_tensor::math32::max(a[0] as f32, b[0] as f32)), 0.0],
            Kind::Minimum => [f64::from(cotangent_tensor::math32::min(a[0] as f32, b[0] as f32)), 0.0],
            Kind::Integer(row, dtype) => [f64::from(row.eval(dtype, a[0] as u32, b[0] as u32, 0)), 0.0],
            Kind::Arg { maximum } => {
                let better = if maximum { b[0] > a[0] } else { b[0] < a[0] };
                let better = (better || b[0].is_nan()) && !a[0].is_nan();
                if a[1] < 0.0 || (better && b[1] >= 0.0) { b } else { a }
            }
        }
    }
    /// [`Kind::combine`], for many results.
    pub(super) fn combine_all(self, totals: &mut [State], parts: &[State]) {
        let pairs = totals.iter_mut().zip(parts);
        match self {
            Kind::Sum => pairs.for_each(|(total, part)| total[0] += part[0]),
            _ => pairs.for_each(|(total, part)| *total = self.combine(*total, *part)),
        }
    }
    /// The result as a lane; `max` is the maximum for [`Kind::Rest`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the state holds f32 or a word"
    )]
    pub(super) fn finish(self, state: State, max: f32) -> f32 {
        match self {
            Kind::Sum | Kind::Product | Kind::Maximum | Kind::Minimum | Kind::Pick => state[0] as f32,
            Kind::Integer(..) => f32::from_bits(state[0] as u32),
            Kind::Arg { .. } => f32::from_bits(state[1].max(0.0) as u32),
            Kind::Rest if max == f32::NEG_INFINITY => 0.0,
            Kind::Rest if max == f32::INFINITY => f32::NAN,
            Kind::Rest => (state[0] + (state[1] - 1.0)) as f32,
        }
    }
    /// The result of a row whose first element has this position.
    pub(super) fn row(self, arch: Arch, operands: [&[f32]; 3], position: usize) -> State {
        let [x, y, z] = operands;
        match self {
            Kind::Sum => [x.chunks(LONGEST).map(|x| lanes::sum(arch, x)).sum(), 0.0],
            Kind::Product => [lanes::product(arch, x), 0.0],
            Kind::Maximum => [f64::from(lanes::maximum(arch, x)), 0.0],
            Kind::Minimum => [f64::from(lanes::minimum(arch, x)), 0.0],
            Kind::Integer(row, dtype) => {
                let x = bytemuck::cast_slice(x);
                [f64::from(lanes::integer_total(arch, row, dtype, start(row, dtype), x)), 0.0]
            }
            Kind::Arg { maximum } => {
                let best = if maximum { lanes::maximum(arch, x) } else { lanes::minimum(arch, x) };
                let at = if best.is_nan() {
                    x.iter().position(|x| x.is_nan())
                } else {
                    x.iter().position(|&x| x == best)
                };
                at.map_or(self.identity(), |at| [f64::from(best), as_f64(position + at)])
            }
            Kind::Rest => {
                let max = z.first().copied().unwrap_or(f32::NAN);
                let parts =
                    x.chunks(LONGEST).zip(y.chunks(LONGEST)).map(|(x, y)| lanes::rest(arch, x, y, max));
                parts.fold(self.identity(), |a, b| self.combine(a, b))
            }
            Kind::Pick => {
                let index = y.first().map_or(usize::MAX, |index| index.to_bits() as usize);
                let met = index.checked_sub(position).and_then(|lane| x.get(lane));
                [met.copied().map_or(0.0, f64::from), 0.0]
            }
        }
    }
}

/// The word that changes nothing.
fn start(row: Integer, dtype: DType) -> u32 {
    match (row == Integer::Mul, row == Integer::Max, row == Integer::Min, dtype == DType::I32) {
        (true, ..) => 1,
        (_, true, _, true) => i32::MIN.cast_unsigned(),
        (.., true, true) => i32::MAX.cast_unsigned(),
        (.., true, false) => u32::MAX,
        (false, _, false, _) => 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "positions fit 32 bits")]
fn as_f64(position: usize) -> f64 {
    position as f64
}

/// Results that run lane by lane, one per kept element, while the reduced coordinates are walked.
#[derive(Debug, Default)]
pub(super) struct Running {
    first: Vec<f32>,
    second: Vec<f32>,
    /// Steps since the last flush.
    steps: usize,
    fresh: bool,
}

impl Running {
    pub(super) fn start(&mut self, kind: Kind, lanes: usize, totals: &mut Vec<State>) {
        totals.clear();
        totals.resize(lanes, kind.identity());
        let first = match kind {
            Kind::Integer(row, dtype) => f32::from_bits(start(row, dtype)),
            Kind::Maximum => f32::NEG_INFINITY,
            Kind::Minimum => f32::INFINITY,
            Kind::Sum | Kind::Product | Kind::Arg { .. } | Kind::Rest | Kind::Pick => 0.0,
        };
        self.first.clear();
        self.first.resize(lanes, first);
        self.second.clear();
        self.second.resize(lanes, 0.0);
        (self.steps, self.fresh) = (0, true);
    }
    /// Takes one element per lane; its position along the reduced coordinates is `position`.
    #[expect(clippy::cast_possible_truncation, reason = "positions fit 32 bits")]
    pub(super) fn step(
        &mut self,
        arch: Arch,
        kind: Kind,
        operands: [&[f32]; 3],
        position: usize,
        totals: &mut [State],
    ) {
        let [x, y, z] = operands;
        let (first, second) = (&mut self.first[..], &mut self.second[..]);
        match kind {
            Kind::Sum => lanes::add_rows(arch, first, x),
            Kind::Product => lanes::multiply_rows(arch, totals, x),
            Kind::Maximum => lanes::extreme_rows(arch, first, x, true),
            Kind::Minimum => lanes::extreme_rows(arch, first, x, false),
            Kind::Integer(row, dtype) => {
                let (first, x) = (bytemuck::cast_slice_mut(first), bytemuck::cast_slice(x));
                lanes::integer_rows(arch, row, dtype, first, x);
            }
            Kind::Arg { .. } if self.fresh => {
                first.copy_from_slice(x);
                second.fill(f32::from_bits(position as u32));
            }
            Kind::Arg { maximum } => lanes::arg_rows(arch, first, second, x, position as u32, maximum),
            Kind::Rest => lanes::rest_rows(arch, first, second, x, y, z),
            Kind::Pick => lanes::pick_rows(arch, first, x, y, position as u32),
        }
        self.fresh = false;
        self.steps += 1;
        if self.steps == FLUSH {
            self.flush(arch, kind, totals);
        }
    }
    /// [`Running::step`] of sums for rows that lie `walk` elements apart, each times a number; these lie `step` apart.
    #[expect(clippy::too_many_arguments, reason = "two operands")]
    pub(super) fn add_scaled(
        &mut self,
        arch: Arch,
        rows: &[f32],
        walk: usize,
        factors: &[f32],
        step: usize,
        count: usize,
        totals: &mut [State],
    ) {
        let mut from = 0;
        while from < count {
            let now = (FLUSH - self.steps).min(count - from);
            let (rows, factors) = (&rows[from * walk..], &factors[from * step..]);
            lanes::add_scaled_rows(arch, &mut self.first, rows, walk, factors, step, now);
            self.steps += now;
            from += now;
            if self.steps == FLUSH {
                self.flush(arch, Kind::Sum, totals);
            }
        }
    }
    fn flush(&mut self, arch: Arch, kind: Kind, totals: &mut [State]) {
        if matches!(kind, Kind::Sum | Kind::Rest) {
            lanes::flush(arch, totals, 0, &mut self.first);
        }
        if kind == Kind::Rest {
            lanes::flush(arch, totals, 1, &mut self.second);
        }
        self.steps = 0;
    }
    /// Moves everything into the totals.
    pub(super) fn finish(&mut self, arch: Arch, kind: Kind, totals: &mut [State]) {
        self.flush(arch, kind, totals);
        for ((total, &first), &second) in totals.iter_mut().zip(&self.first).zip(&self.second) {
            match kind {
                Kind::Sum | Kind::Rest | Kind::Product => {}
                Kind::Maximum | Kind::Minimum | Kind::Pick => total[0] = f64::from(first),
                Kind::Integer(..) => total[0] = f64::from(first.to_bits()),
                Kind::Arg { .. } if self.fresh => {}
                Kind::Arg { .. } => *total = [f64::from(first), f64::from(second.to_bits())],
            }
        }
    }
}
