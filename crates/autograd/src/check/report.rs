//! What a check has found.

use std::fmt;
use std::ops::AddAssign;

use cotangent_tensor::Error;

/// How much was compared, by witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Derivatives compared with dual numbers of the plain program.
    pub dual: usize,
    /// Derivatives compared with differences of values.
    pub differences: usize,
    /// Pairings of forward mode with reverse mode.
    pub forward: usize,
    /// Functions without a forward mode, where nothing was paired.
    pub without_forward: usize,
    /// Rules tried for linearity.
    pub linear: usize,
    /// Elements of a device compared with the bound of the reference.
    pub device: usize,
    /// Derivatives of which no witness knew anything.
    pub unknown: usize,
}

impl Compared {
    /// Derivatives that had at least the chance to be found wrong.
    pub fn total(&self) -> usize {
        self.dual + self.differences
    }
}

impl AddAssign for Compared {
    fn add_assign(&mut self, other: Compared) {
        self.dual += other.dual;
        self.differences += other.differences;
        self.forward += other.forward;
        self.without_forward += other.without_forward;
        self.linear += other.linear;
        self.device += other.device;
        self.unknown += other.unknown;
    }
}

/// A point at which the slopes of both sides differ, with a gradient between them.
#[derive(Clone, Debug)]
pub struct Kink {
    /// Where: the function, or a custom gradient on the way; output, input, element.
    pub place: String,
    /// The gradient.
    pub gradient: f64,
    /// The slope on the left; NaN where there is none.
    pub left: f64,
    /// The slope on the right; NaN where there is none.
    pub right: f64,
}

/// An output and an input between which there is no derivative, as a rule on the way declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undefined {
    /// The position of the output.
    pub output: usize,
    /// The position of the input.
    pub input: usize,
    /// The rule that declares it, with [`CustomGradient::without_derivative`](crate::CustomGradient::without_derivative).
    pub rule: String,
}

/// How far a declared surrogate is from the derivative of its function, for a cotangent of ones.
#[derive(Clone, Debug)]
pub struct Distance {
    /// The rule.
    pub rule: String,
    /// Why it differs, in the words of its declaration.
    pub reason: String,
    /// Output, input and element where it differs most; none where it nowhere does.
    pub place: Option<String>,
    /// What the rule gives there.
    pub gradient: f64,
    /// The derivative there.
    pub derivative: f64,
    /// The highest order at which its gradient was checked as a function of its own: derivatives of it were compared
    /// from order 2 up to this one, or none if this is 1.
    pub order: usize,
}

impl Distance {
    /// The largest difference.
    pub fn distance(&self) -> f64 {
        (self.gradient - self.derivative).abs()
    }
}

/// The result of a [`gradcheck`](crate::gradcheck).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Report {
    /// What is wrong, each with its code. Empty is good.
    pub findings: Vec<Error>,
    /// Points without a derivative. They are no findings: the gradient lies between the slopes.
    pub kinks: Vec<Kink>,
    /// Declared surrogates and how far they are from the truth, in the order in which they are applied.
    pub surrogates: Vec<Distance>,
    /// Derivatives that were not compared, as rules declare that there are none.
    pub undefined: Vec<Undefined>,
    /// Whether the function works with half precision, and was checked in F32.
    pub widened: bool,
    /// What was compared.
    pub compared: Compared,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }
    /// The report, or its first finding.
    pub fn into_result(self) -> Result<Report, Error> {
        match self.findings.first() {
            Some(finding) => Err(finding.clone()),
            None => Ok(self),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for Kink { place, gradient, left, right } in &self.kinks {
            writeln!(f, "kink: {place}: slopes {left} and {right}, the gradient is {gradient}")?;
        }
        for surrogate in &self.surrogates {
            let Distance { rule, reason, place, gradient, derivative, order } = surrogate;
            let distance = surrogate.distance();
            write!(f, "surrogate `{rule}` ({reason}): ")?;
            match place {
                Some(place) => {
                    write!(
                        f,
                        "{distance} from the derivative at {place}: {gradient} instead of {derivative}"
                    )?;
                }
                None => write!(f, "agrees with the derivative here")?,
            }
            if *order > 1 {
                write!(f, "; derivatives of its gradient compared up to order {order}")?;
            }
            writeln!(f)?;
        }
        for Undefined { output, input, rule } in &self.undefined {
            writeln!(f, "no derivative of output {output} by input {input}, as `{rule}` declares")?;
        }
        if self.widened {
            writeln!(f, "checked in F32: half precision is too coarse for differences")?;
        }
        let Compared { dual, differences, forward, without_forward, linear, device, unknown } = self.compared;
        let verdict = match self.is_ok() {
            true if self.compared.total() == 0 && unknown > 0 => "undecided",
            true => "ok",
            false => "wrong",
        };
        write!(
            f,
            "{verdict}: {dual} derivatives compared with dual numbers, {differences} with differences, "
        )?;
        write!(f, "{forward} pairings with forward mode, {linear} rules tried for linearity")?;
        if device > 0 {
            write!(f, ", {device} elements of the device within their bounds")?;
        }
        if without_forward > 0 {
            write!(f, "; {without_forward} functions without forward mode")?;
        }
        if unknown > 0 {
            write!(f, "; {unknown} derivatives that no witness knows")?;
        }
        Ok(())
    }
}
