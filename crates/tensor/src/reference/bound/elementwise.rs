//! Error bounds of one value per element.

use super::super::elementwise::{MAX_ARITY, cast as cast_value};
use super::super::value::{f16_spacing, f32_spacing, largest};
use super::{Arithmetic, Ranged, distance, settled};
use crate::{Class, DType, Elementwise, Integer, Partial};

/// Largest argument for which sine, cosine and tangent promise an error.
const TRIGONOMETRIC_RANGE: f64 = 8192.0;

/// Relative error of the reference itself: its functions have about 1e-14, far below anything f32 can see.
const REFERENCE: f64 = 1.0 / (1u64 << 44) as f64;

/// Where an operand may lie on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    value: f64,
    low: f64,
    high: f64,
    /// Largest distance of an end from the value.
    radius: f64,
    /// Nothing is known, NaN included.
    anything: bool,
    /// A zero whose sign the device may have lost.
    signless: bool,
}

impl Interval {
    const POINT: Interval =
        Interval { value: 0.0, low: 0.0, high: 0.0, radius: 0.0, anything: false, signless: false };

    /// An operand of a row. What lies beyond the largest f32 may be infinite on a device.
    pub(super) fn new(value: f64, bound: f64) -> Interval {
        if bound == f64::INFINITY {
            let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
            return Interval { value, low, high, radius: f64::INFINITY, anything: true, signless: false };
        }
        if bound == 0.0 {
            return Interval { value, low: value, high: value, ..Interval::POINT };
        }
        // The ends are rounded outwards: a tiny operand beside a large one must not disappear.
        let outwards = bound + f64::EPSILON * (value.abs() + bound);
        let (mut low, mut high) = (value - outwards, value + outwards);
        if value.is_finite() && high > largest(DType::F32) {
            high = f64::INFINITY;
        }
        if value.is_finite() && low < -largest(DType::F32) {
            low = f64::NEG_INFINITY;
        }
        let radius = distance(high, value).max(distance(low, value));
        Interval { value, low, high, radius, anything: false, signless: false }
    }
    /// A truth value; uncertain ones may be either.
    fn truth(value: f64, bound: f64) -> Interval {
        if bound == 0.0 {
            return Interval {
                value,
                low: value,
                high: value,
                radius: 0.0,
                anything: false,
                signless: false,
            };
        }
        Interval { value, low: 0.0, high: 1.0, radius: 1.0, anything: false, signless: false }
    }
    pub(super) fn low(&self) -> f64 {
        self.low
    }
    pub(super) fn high(&self) -> f64 {
        self.high
    }
    fn is_point(&self) -> bool {
        self.radius == 0.0 && !self.signless
    }
    fn overlaps(&self, other: &Interval) -> bool {
        self.low <= other.high && other.low <= self.high
    }
    fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }
    /// The points at which rows are tried: the ends, and 0 where it lies between them (it is the middle of every
    /// domain that has two ends, and where most functions that turn do so).
    fn points(&self) -> ([f64; 3], usize) {
        if self.signless {
            return ([0.0, -0.0, 0.0], 2);
        }
        match (self.is_point(), self.contains(0.0)) {
            (true, _) => ([self.value; 3], 1),
            (false, false) => ([self.low, self.high, 0.0], 2),
            (false, true) => ([self.low, self.high, 0.0], 3),
        }
    }
}

/// Bounds of a row of the float table.
pub(super) fn row(row: Elementwise, operands: &[Ranged], value: &[f64], arithmetic: &Arithmetic) -> Vec<f64> {
    let mut intervals = [Interval::POINT; MAX_ARITY];
    let mut bound = Vec::with_capacity(value.len());
    for (element, &value) in value.iter().enumerate() {
        for (position, (interval, operand)) in intervals.iter_mut().zip(operands).enumerate() {
            let (v, e) = (operand.value[element], operand.bound[element]);
            let is_truth = match row.class() {
                Class::Real | Class::Test => false,
                Class::Logic => true,
                Class::Select => position == 0,
            };
            *interval = if is_truth { Interval::truth(v, e) } else { Interval::new(v, e) };
            interval.signless = v == 0.0 && e == 0.0 && arithmetic.flushes() && sees_the_sign_of_zero(row);
        }
        bound.push(element_bound(row, &intervals[..operands.len()], value, arithmetic));
    }
    bound
}

/// Rows whose value at −0 is far from that at +0.
fn sees_the_sign_of_zero(row: Elementwise) -> bool {
    matches!(
        row,
        Elementwise::Div | Elementwise::Recip | Elementwise::Rsqrt | Elementwise::Atan2 | Elementwise::Pow
    )
}

fn element_bound(row: Elementwise, args: &[Interval], value: f64, arithmetic: &Arithmetic) -> f64 {
    let inherited = if args.iter().all(Interval::is_point) { 0.0 } else { inherited(row, args, value) };
    match row.class() {
        Class::Test | Class::Logic => f64::from(u8::from(inherited > 0.0)),
        Class::Select => inherited,
        Class::Real => inherited + own(row, args, value, inherited, arithmetic),
    }
}

/// What the row itself may add: its promise, near the largest value its operands allow.
fn own(row: Elementwise, args: &[Interval], value: f64, inherited: f64, arithmetic: &Arithmetic) -> f64 {
    let promise = row.ulp();
    if promise == 0.0 || !value.is_finite() {
        return 0.0;
    }
    if matches!(row, Elementwise::Sin | Elementwise::Cos | Elementwise::Tan)
        && args[0].low.abs().max(args[0].high.abs()) > TRIGONOMETRIC_RANGE
    {
        return if row == Elementwise::Tan { f64::INFINITY } else { 1.0 + value.abs() };
    }
    let magnitude = value.abs() + inherited;
    if magnitude == f64::INFINITY {
        return f64::INFINITY;
    }
    // One ULP is promised where the result is rounded, to nearest or to either neighbor.
    let rounded = promise <= 1.0;
    let scale = if rounded { arithmetic.unit / f64::from(f32::EPSILON) } else { 1.0 };
    let floor = if rounded { arithmetic.eta } else { arithmetic.underflow(value) };
    promise * scale * f32_spacing(magnitude) + REFERENCE * magnitude + floor
}

/// What uncertain operands bring: the larger of the first-order term and the deviation at the corners of their box.
///
/// For a function that is convex, concave or monotone over the box the larger of the two is a bound: the corners bound
/// it on one side, the tangent on the other. Jumps and poles inside the box are named separately.
fn inherited(row: Elementwise, args: &[Interval], value: f64) -> f64 {
    if let [condition, a, b] = args
        && row.class() == Class::Select
    {
        return choice(condition, a, b, value);
    }
    if args.iter().any(|a| a.anything) {
        return f64::INFINITY;
    }
    if let Some(jump) = jump(row, args, value) {
        return jump;
    }
    let corners = deviation_at_corners(args, value, |args| row.eval(args));
    if row.class() != Class::Real || !value.is_finite() || corners == f64::INFINITY {
        return corners;
    }
    corners.max(first_order(row, args, value))
}

/// The deviation of a choice: only what may be chosen counts.
fn choice(condition: &Interval, a: &Interval, b: &Interval, value: f64) -> f64 {
    let reach = |chosen: &Interval| match chosen.anything {
        true => f64::INFINITY,
        false if chosen.is_point() => distance(chosen.value, value),
        false => distance(chosen.low, value).max(distance(chosen.high, value)),
    };
    let taken = if condition.high != 0.0 { reach(a) } else { 0.0 };
    taken.max(if condition.low == 0.0 { reach(b) } else { 0.0 })
}

/// The largest distance of `f` at the corners of a box from `value`.
fn deviation_at_corners(args: &[Interval], value: f64, f: impl Fn(&[f64]) -> f64) -> f64 {
    let points: Vec<_> = args.iter().map(Interval::points).collect();
    let corners: usize = points.iter().map(|p| p.1).product();
    let mut corner = [0.0; MAX_ARITY];
    let mut largest = 0.0f64;
    for number in 0..corners {
        let mut rest = number;
        for (x, (candidates, count)) in corner.iter_mut().zip(&points) {
            *x = candidates[rest % count];
            rest /= count;
        }
        largest = largest.max(distance(f(&corner[..args.len()]), value));
    }
    largest
}

/// `Σ |∂f/∂x| · E_x`; a derivative that does not exist leaves the corners to decide.
fn first_order(row: Elementwise, args: &[Interval], value: f64) -> f64 {
    let values: Vec<&f64> = args.iter().map(|a| &a.value).collect();
    let partials = row.partials::<f64>(&values, &value, |_| true);
    let terms = partials.iter().zip(args).filter(|(_, arg)| arg.radius > 0.0).map(|(partial, arg)| {
        // Beyond an overflow the tangent says nothing; the corners saw the infinity.
        let radius = if arg.radius.is_finite() { arg.radius } else { return 0.0 };
        match partial {
            Partial::One => radius,
            Partial::Product(factor) => factor.abs() * radius,
            Partial::Pick { condition, holds, factor } if (*condition != 0.0) == *holds => {
                factor.map_or(1.0, f64::abs) * radius
            }
            Partial::Pick { .. } | Partial::Zero | Partial::NotDifferentiable | Partial::Missing(_) => 0.0,
        }
    });
    settled(terms.sum())
}

/// The deviation of rows that jump or have a pole inside the box, where the corners may not see it.
#[expect(clippy::wildcard_enum_match_arm, reason = "other rows are continuous where they are defined")]
fn jump(row: Elementwise, args: &[Interval], value: f64) -> Option<f64> {
    let pole = |inside: bool| inside.then_some(f64::INFINITY);
    let cell = |x: f64, period: f64| (x / period).floor();
    match row {
        Elementwise::Eq | Elementwise::Ne => Some(f64::from(u8::from(args[0].overlaps(&args[1])))),
        Elementwise::Div => pole(!args[1].is_point() && args[1].contains(0.0)),
        Elementwise::Recip => pole(args[0].contains(0.0)),
        Elementwise::Tan => {
            let (half, pi) = (std::f64::consts::FRAC_PI_2, std::f64::consts::PI);
            pole(cell(args[0].low + half, pi) != cell(args[0].high + half, pi))
        }
        // NaN at infinity.
        Elementwise::Sin | Elementwise::Cos | Elementwise::Fract | Elementwise::Rem
            if args.iter().any(|a| a.radius == f64::INFINITY) =>
        {
            Some(f64::INFINITY)
        }
        Elementwise::Sin | Elementwise::Cos => {
            // The second derivative is at most 1, and no two values are farther apart than 1 + |v|.
            let curved = first_order(row, args, value) + 0.5 * args[0].radius * args[0].radius;
            Some(settled(curved.min(1.0 + value.abs())))
        }
        Elementwise::I1e => {
            // It turns at ±1.545, where it is 0.2191; the second derivative is at most 1 here as well.
            let curved = first_order(row, args, value) + 0.5 * args[0].radius * args[0].radius;
            Some(settled(curved.min(0.2192 + value.abs())))
        }
        // Across the negative half of the x axis the angle jumps; around the origin it may be any.
        Elementwise::Atan2 if args[0].contains(0.0) && args[1].low <= 0.0 => {
            Some(settled(std::f64::consts::PI + value.abs()))
        }
        Elementwise::Pow => {
            let [base, exponent] = [args[0], args[1]];
            // Below 0 only whole exponents have a power; at 0 negative ones are a pole.
            let isolated = base.low < 0.0 && !exponent.is_point();
            pole(isolated || exponent.low < 0.0 && base.contains(0.0) && !base.is_point())
        }
        Elementwise::Fract if cell(args[0].low, 1.0) != cell(args[0].high, 1.0) => Some(1.0),
        Elementwise::Rem if args[1].contains(0.0) && !args[1].is_point() => Some(f64::INFINITY),
        Elementwise::Rem => {
            let [a, b] = [args[0], args[1]];
            let quotients = [a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high].map(f64::trunc);
            let steady = quotients.iter().all(|&q| q == quotients[0]);
            (!steady).then(|| settled(value.abs() + b.low.abs().max(b.high.abs())))
        }
        _ => None,
    }
}

/// Bounds of a row of the integer table.
pub(super) fn integer(row: Integer, dtype: DType, operands: &[Ranged], value: &[f64]) -> Vec<f64> {
    if operands.iter().all(Ranged::is_exact) {
        return vec![0.0; value.len()];
    }
    let mut bound = Vec::with_capacity(value.len());
    for (element, &value) in value.iter().enumerate() {
        let args: Vec<Interval> = operands
            .iter()
            .enumerate()
            .map(|(position, operand)| {
                let (v, e) = (operand.value[element], operand.bound[element]);
                if row == Integer::Select && position == 0 { Interval::truth(v, e) } else { whole(v, e) }
            })
            .collect();
        bound.push(integer_bound(row, dtype, &args, value));
    }
    bound
}

/// An integer operand: integers never become infinite.
fn whole(value: f64, bound: f64) -> Interval {
    Interval {
        value,
        low: value - bound,
        high: value + bound,
        radius: bound,
        anything: bound == f64::INFINITY,
        signless: false,
    }
}

fn integer_bound(row: Integer, dtype: DType, args: &[Interval], value: f64) -> f64 {
    if args.iter().all(Interval::is_point) {
        return 0.0;
    }
    let e = |position: usize| args[position].radius;
    match row {
        Integer::Add | Integer::Sub => within(dtype, value, e(0) + e(1)),
        Integer::Mul => {
            let [a, b] = [args[0].value.abs(), args[1].value.abs()];
            within(dtype, value, settled(a * e(1) + b * e(0) + e(0) * e(1)))
        }
        Integer::Neg | Integer::Abs => within(dtype, value, e(0)),
        Integer::Min | Integer::Max => e(0).max(e(1)),
        Integer::Eq | Integer::Ne => f64::from(u8::from(args[0].overlaps(&args[1]))),
        Integer::Lt | Integer::Le | Integer::Gt | Integer::Ge => {
            let uncertain = args[0].overlaps(&args[1]);
            f64::from(u8::from(uncertain))
        }
        Integer::Select => choice(&args[0], &args[1], &args[2], value),
        Integer::Div
        | Integer::Rem
        | Integer::And
        | Integer::Or
        | Integer::Xor
        | Integer::Not
        | Integer::Shl
        | Integer::Shr => f64::INFINITY,
    }
}

/// A deviation that cannot wrap around, or anything.
fn within(dtype: DType, value: f64, deviation: f64) -> f64 {
    let (low, high) = if dtype == DType::I32 {
        (f64::from(i32::MIN), f64::from(i32::MAX))
    } else {
        (0.0, f64::from(u32::MAX))
    };
    if value - deviation >= low && value + deviation <= high { deviation } else { f64::INFINITY }
}

/// Bounds of a conversion: the deviation at the ends of the interval, since every conversion is monotone.
pub(super) fn cast(
    operand: &Ranged,
    value: &[f64],
    from: DType,
    to: DType,
    arithmetic: &Arithmetic,
) -> Vec<f64> {
    let element = |(&result, (&v, &e)): (&f64, (&f64, &f64))| {
        let interval = if from.is_float() { Interval::new(v, e) } else { whole(v, e) };
        match to {
            DType::Bool => {
                let uncertain = !interval.is_point() && (interval.anything || interval.contains(0.0));
                return f64::from(u8::from(uncertain));
            }
            DType::I32 | DType::U32 if from.is_integer() => {
                return if interval.is_point() { 0.0 } else { within(to, v, e) };
            }
            DType::F32 | DType::F16 | DType::I32 | DType::U32 => {}
        }
        if interval.anything {
            return f64::INFINITY;
        }
        let inherited = if interval.is_point() {
            0.0
        } else {
            deviation_at_corners(&[interval], result, |x| cast_value(x[0], from, to))
        };
        inherited + rounding(v, result, from, to, arithmetic)
    };
    value.iter().zip(operand.value.iter().zip(&operand.bound)).map(element).collect()
}

/// What a conversion of an exact operand may differ from the reference's.
fn rounding(v: f64, result: f64, from: DType, to: DType, arithmetic: &Arithmetic) -> f64 {
    let nearest = arithmetic.unit < f64::from(f32::EPSILON);
    match to {
        // The reference rounds to nearest; where either neighbor is promised the device may take the other one.
        DType::F16 if result != v && result.is_finite() && !nearest => f16_spacing(v),
        // Integers of more than 24 bits are rounded on devices and exact in the reference.
        DType::F32 if from.is_integer() && f64::from(1 << 24) < v.abs() => arithmetic.unit * v.abs(),
        DType::F16 | DType::F32 | DType::I32 | DType::U32 | DType::Bool => 0.0,
    }
}
