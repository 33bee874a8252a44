//! Losses of sequences whose alignment is not known.

use std::panic::Location;

use cotangent_tensor::{Code, DType, Detail, Error, Shape, Tensor};

use super::{At, Reduction, checked, indices, integer_labels, not_float, on_host, outside};

const NONE: f64 = f64::NEG_INFINITY;

/// Connectionist temporal classification: `−ln` of the probability that frames of logits `[batch, time, classes]` spell the target
/// `[batch, length]`, summed over all alignments, per sequence. An alignment gives each frame a class; repeated classes count once,
/// then blanks are dropped.
///
/// `input_lengths` and `target_lengths` (integers `[batch]`) say how many frames and labels of each sequence count; what
/// stands behind them changes neither value nor gradient, even if it is NaN or no class. The sum over alignments runs forward in
/// time on logarithms, one kernel per frame and direction, with memory for `batch · time · (2·length + 1)` numbers and as many additions times
/// `classes`. The mean divides by the number of sequences.
///
/// Derivative in the logits: `softmax(x)` less the expected share of each class in the frame, 0 behind the end. A target that no
/// alignment spells, as one longer than its frames, has the loss +inf and the derivative 0. Labels and lengths that do not fit, and the
/// blank as a label, are `E_INDEX`. Error: a few ULP of the largest logarithm per frame. Source: Graves, Fernández, Gomez &
/// Schmidhuber, ICML (2006), eq. 5–8.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// // Two frames, two classes of probability ½: "1" is spelt by (1, 1), (1, blank), (blank, 1).
/// let (logits, target) = (Tensor::zeros([1, 2, 2]), Tensor::new([[1]]));
/// let (frames, labels) = (Tensor::new([2]), Tensor::new([1]));
/// let loss = losses::ctc(&logits, &target, &frames, &labels, 0, Reduction::Mean);
/// let value = Reference::new().evaluate(&[&loss])?[0].scalar()?;
/// assert!((value + 0.75f64.ln()).abs() < 1e-15);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn ctc(
    logits: &Tensor,
    target: &Tensor,
    input_lengths: &Tensor,
    target_lengths: &Tensor,
    blank: usize,
    reduction: Reduction,
) -> Tensor {
    let at = Location::caller();
    checked(at, || {
        let alignment = Alignment::new(at, logits, target, input_lengths, target_lengths, blank)?;
        Ok(reduction.apply(&alignment.loss(logits)))
    })
}

/// What the labels say: the states that alignments walk through, a blank before and behind every label.
struct Alignment {
    batch: usize,
    time: usize,
    states: usize,
    /// Frames and labels that count, `[batch]`.
    frames: Tensor,
    labels: Tensor,
    /// The class of each state, `[batch, states]`.
    class: Tensor,
    /// Whether a state may be entered from two states before: labels that differ from the one before.
    jumps: Tensor,
    /// The number of each state, `[batch, states]`.
    place: Tensor,
}

impl Alignment {
    fn new(
        at: At,
        logits: &Tensor,
        target: &Tensor,
        input_lengths: &Tensor,
        target_lengths: &Tensor,
        blank: usize,
    ) -> Result<Alignment, Error> {
        let name = "ctc";
        let node = logits.node()?;
        if !node.dtype.is_float() {
            return Err(not_float(name, "logits", node.dtype));
        }
        for integers in [target, input_lengths, target_lengths] {
            integer_labels(name, integers)?;
        }
        let (&[batch, time, classes], &[rows, length]) = (&node.shape[..], &target.shape()[..]) else {
            return Err(unfit(logits, target));
        };
        if rows != batch {
            return Err(unfit(logits, target));
        }
        for (role, lengths) in [("input_lengths", input_lengths), ("target_lengths", target_lengths)] {
            if lengths.shape()[..] != [batch] {
                let message =
                    format!("{batch} sequences need {role} of shape [{batch}], not {}", lengths.shape());
                return Err(Error::new(Code::Broadcast, name, message).shape(role, lengths.shape()));
            }
        }
        let no_class =
            i32::try_from(classes).ok().zip(i32::try_from(blank).ok()).filter(|(all, one)| one < all);
        let Some((no_class, blank)) = no_class else {
            let error =
                Error::new(Code::Index, name, format!("blank = {blank} is none of {classes} classes"));
            return Err(error
                .at(at)
                .with("classes", Detail::Integer(i64::try_from(classes).unwrap_or(i64::MAX))));
        };
        let frames = indices(name, input_lengths, time + 1)?;
        let labels = indices(name, target_lengths, length + 1)?;
        host_labels(name, target, target_lengths, (length, classes, blank.into()))?;

        let counts = Tensor::iota([batch, length], 1).lt(labels.unsqueeze(-1));
        let target = target.cast(DType::I32);
        // The blank as a label is looked up as a class that is not there, so that a device reports it.
        let held = target.eq(blank).select(no_class, &target);
        let held = indices(name, &counts.select(held, blank), classes)?;
        let blanks = |count: usize| Tensor::full([batch, count], blank);
        let pairs = Tensor::stack(&[&blanks(length), &held], 2).reshape(Shape::new(&[batch, 2 * length])?);
        let class = Tensor::concat(&[&pairs, &blanks(1)], 1);
        let states = 2 * length + 1;
        let place = Tensor::iota([batch, states], 1);
        let before = shifted(&class, states, 2);
        let jumps = place.ge(2).and(class.ne(blank)).and(class.ne(before));
        Ok(Alignment { batch, time, states, frames, labels, class, jumps, place })
    }

    fn loss(&self, logits: &Tensor) -> Tensor {
        let Alignment { batch, time, states, frames, labels, class, jumps, place } = self;
        let classes = logits.shape()[2];
        let counts = Tensor::iota([*batch, *time], 1).lt(frames.unsqueeze(-1)).unsqueeze(-1);
        // What stands behind the end must not even enter a softmax.
        let chances = counts.select(logits, 0.0).log_softmax(-1);
        let is_class = class.unsqueeze(-1).eq(Tensor::iota([classes], 0)).unsqueeze(1);
        let emitted = is_class.select(chances.unsqueeze(2), 0.0).sum(-1);

        let none = Tensor::full([*batch, *states], NONE);
        let mut forward = none.clone();
        for frame in 0..*time {
            let emitted = emitted.slice(1, frame, frame + 1, 1).squeeze(1);
            forward = if frame == 0 {
                place.lt(2).select(emitted, NONE)
            } else {
                let enter = |by: usize| place.ge(index(by)).select(shifted(&forward, *states, by), NONE);
                let next = log_add([&forward, &enter(1), &jumps.select(enter(2), NONE)]) + emitted;
                frames.gt(index(frame)).unsqueeze(-1).select(next, &forward)
            };
        }
        let last = (labels * 2).unsqueeze(-1);
        let ends = place.eq(&last).or(place.eq(last - 1));
        let loss = -ends.select(forward, NONE).logsumexp(-1);
        // Without frames only the empty target is spelt.
        frames.eq(0).select(labels.eq(0).select(Tensor::zeros([*batch]), f64::INFINITY), loss)
    }
}

/// Shapes are below 2³², and what is counted along an axis below 2³¹ by far.
fn index(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// States that lie `by` before, zeros where there are none.
fn shifted(states: &Tensor, count: usize, by: usize) -> Tensor {
    states.slice(1, 0, count.saturating_sub(by), 1).pad(1, by.min(count), 0)
}

/// `log Σ exp` of three, −inf where all are: the largest is taken out, and any number may be.
fn log_add(terms: [&Tensor; 3]) -> Tensor {
    let largest = terms[0].max(terms[1]).max(terms[2]).detach();
    let [a, b, c] = terms.map(|term| (term - &largest).exp());
    largest.eq(NONE).select(NONE, (a + b + c).log() + &largest)
}

fn unfit(logits: &Tensor, target: &Tensor) -> Error {
    let (a, b) = (logits.shape(), target.shape());
    let message = format!("logits {a} and target {b} are not [batch, time, classes] and [batch, length]");
    Error::new(Code::Broadcast, "ctc", message).shape("logits", a).shape("target", b)
}

/// Labels that lie on the host and count are looked at now.
fn host_labels(
    name: &str,
    target: &Tensor,
    lengths: &Tensor,
    (length, classes, blank): (usize, usize, i64),
) -> Result<(), Error> {
    let (Some(target), Some(lengths)) = (on_host(target), on_host(lengths)) else { return Ok(()) };
    for (row, (labels, &count)) in target.chunks(length.max(1)).zip(&lengths).enumerate() {
        let counted: Vec<i64> = labels.iter().take(usize::try_from(count).unwrap_or(0)).copied().collect();
        outside(name, &counted, classes)?;
        if let Some(position) = counted.iter().position(|&label| label == blank) {
            let message = format!("label {position} of sequence {row} is the blank {blank}");
            return Err(Error::new(Code::Index, name, message).hint("leave blanks out of the target"));
        }
    }
    Ok(())
}
