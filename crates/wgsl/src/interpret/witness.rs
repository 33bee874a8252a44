//! What a run remembers beside its results: the decisions that depended on floats, and where the first NaN or infinity was made.

use std::cmp::Ordering;
use std::fmt;

use cotangent_tensor::Error;
use naga::Span;

/// A hash of decisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace(u64);

impl Default for Trace {
    fn default() -> Trace {
        // FNV-1a, 64 bits: Fowler, Noll & Vo
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub(super) fn hash(self) -> u64 {
        self.0
    }
    pub(super) fn note(&mut self, decision: u64) {
        for byte in decision.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    /// On which side of `y` a number `x` lies; equality is a side of its own.
    pub(super) fn compare(&mut self, x: f64, y: f64) {
        self.note(match x.partial_cmp(&y) {
            Some(Ordering::Less) => 1,
            Some(Ordering::Equal) => 2,
            Some(Ordering::Greater) => 3,
            None => 4,
        });
    }
    /// A number that is constant between jumps, and whether the argument lies at one.
    pub(super) fn step(&mut self, stair: f64, at_jump: bool) {
        // both zeros are the same stair
        self.note((stair + 0.0).to_bits());
        self.note(at_jump.into());
    }
    /// The whole part of `x`, which jumps at every whole number but zero.
    #[expect(clippy::float_cmp, reason = "jumps are exact")]
    pub(super) fn truncate(&mut self, x: f64) -> f64 {
        let whole = x.trunc();
        self.step(whole, x == whole && x != 0.0);
        whole
    }
}

/// Where the first NaN or infinity of a run was made: an operation on finite numbers whose result is none.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) operation: String,
    pub(super) inputs: Vec<f64>,
    pub(super) results: Vec<f64>,
    pub(super) span: Span,
    /// The calls that led there, the last one first.
    pub(super) calls: Vec<Span>,
    /// Workgroup and invocation.
    pub(super) who: Option<(u32, u32)>,
}

/// Where the first NaN or infinity of a run was made; see [`Run::first_nonfinite`](super::Run::first_nonfinite).
#[derive(Clone)]
pub struct Nonfinite {
    /// As the text writes it: `log`, `/`, or the name of a function.
    pub operation: String,
    /// The finite numbers it was applied to.
    pub inputs: Vec<f64>,
    /// What became of them.
    pub results: Vec<f64>,
    /// `global_invocation_id`, in a dispatch.
    pub invocation: Option<[u32; 3]>,
    pub(super) told: Error,
}

impl Nonfinite {
    /// The same as an error `E_NONFINITE`, with a frame of the text.
    pub fn to_error(&self) -> Error {
        self.told.clone()
    }
}

impl fmt::Display for Nonfinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told.message())
    }
}
impl fmt::Debug for Nonfinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Both.
#[derive(Debug, Default)]
pub(super) struct Witness {
    pub(super) trace: Trace,
    pub(super) origin: Option<Origin>,
    /// A NaN or infinity has been stored where it outlives the function it was made in.
    pub(super) escaped: bool,
}

impl Witness {
    /// Notes where a NaN or infinity was made, if it is the first.
    pub(super) fn begin(&mut self, origin: Origin) {
        self.origin.get_or_insert(origin);
    }
}
