//! Judging computed values: in parallel, because the f64 meanings take most of the time.

use cotangent::{Elementwise, ulp};

/// Largest and mean error over some points.
#[derive(Default)]
pub(super) struct Tally {
    /// Points with a promise.
    pub(super) points: u64,
    pub(super) worst: f64,
    /// The arguments where that is.
    pub(super) at: Vec<f32>,
    pub(super) got: f32,
    pub(super) exact: f64,
    sum: f64,
    normal: u64,
}

impl Tally {
    /// Mean error over results in the normal range.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.normal.max(1) as f64
    }
    pub(super) fn merge(&mut self, other: Tally) {
        self.points += other.points;
        self.sum += other.sum;
        self.normal += other.normal;
        if other.worst > self.worst {
            (self.worst, self.at, self.got, self.exact) = (other.worst, other.at, other.got, other.exact);
        }
    }
    fn add(&mut self, args: impl Iterator<Item = f32>, got: f32, error: f64, exact: f64) {
        self.points += 1;
        let is_normal = exact.abs() >= f64::from(f32::MIN_POSITIVE) && exact.is_finite();
        if is_normal && error.is_finite() {
            self.sum += error;
            self.normal += 1;
        }
        if error > self.worst {
            (self.worst, self.at, self.got, self.exact) = (error, args.collect(), got, exact);
        }
    }
}

/// Error and exact value. Where a device flushes denormal operands, either value of them is right.
fn error(row: Elementwise, denormals: bool, args: &[f64], got: f32) -> (f64, f64) {
    let exact = row.eval(args);
    let error = ulp::error(got, exact);
    let is_denormal = |x: &f64| *x != 0.0 && x.abs() < f64::from(f32::MIN_POSITIVE);
    if denormals || error == 0.0 || !args.iter().any(is_denormal) {
        return (error, exact);
    }
    let mut flushed = args.to_vec();
    flushed.iter_mut().filter(|x| is_denormal(x)).for_each(|x| *x = 0.0_f64.copysign(*x));
    (error.min(ulp::error(got, row.eval(&flushed))), exact)
}

/// The errors of computed values, where the row promises something.
pub(super) fn judge(row: Elementwise, denormals: bool, columns: &[Vec<f32>], got: &[f32]) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = got.len().div_ceil(threads).max(1);
    let of_part = |start: usize| {
        let mut tally = Tally::default();
        let mut args = vec![0.0; columns.len()];
        for i in start..got.len().min(start + part) {
            args.iter_mut().zip(columns).for_each(|(arg, column)| *arg = f64::from(column[i]));
            if row.is_promised(&args) {
                let (error, exact) = error(row, denormals, &args, got[i]);
                tally.add(columns.iter().map(|column| column[i]), got[i], error, exact);
            }
        }
        tally
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..got.len()).step_by(part).map(|start| scope.spawn(move || of_part(start))).collect();
        let mut all = Tally::default();
        for part in parts {
            match part.join() {
                Ok(tally) => all.merge(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// Special arguments at which NaN, an infinity, the sign of a zero or a number is not as it should be.
pub(super) fn mismatches(
    row: Elementwise,
    denormals: bool,
    columns: &[Vec<f32>],
    got: &[f32],
) -> Vec<String> {
    let mut found = Vec::new();
    for (i, &got) in got.iter().enumerate() {
        let args: Vec<f64> = columns.iter().map(|column| f64::from(column[i])).collect();
        if !row.is_promised(&args) {
            continue;
        }
        let (error, exact) = error(row, denormals, &args, got);
        // a zero of a zero has its sign; that of a limit at infinity is nothing
        let of_zero = exact == 0.0 && got == 0.0 && args.contains(&0.0);
        let sign = of_zero && exact.is_sign_negative() != got.is_sign_negative();
        if error > row.ulp() || sign {
            let args: Vec<String> = columns.iter().map(|column| format!("{:e}", column[i])).collect();
            found.push(format!("{}({}) is {got:e}, not {exact:e}", row.name(), args.join(", ")));
        }
    }
    found
}
