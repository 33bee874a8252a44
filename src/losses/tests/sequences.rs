//! Connectionist temporal classification against the sum over all alignments.

use cotangent_tensor::Key;
use cotangent_tensor::random::random_words;

use super::*;

/// Numbers between −2 and 2.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let word = |word: u32| f64::from(word) / f64::from(u32::MAX) * 4.0 - 2.0;
    random_words(Key::new(seed), 0, count).into_iter().map(word).collect()
}

/// What an alignment spells: repeated classes once, then without blanks.
fn spelt(alignment: &[usize], blank: usize) -> Vec<usize> {
    let mut labels = Vec::new();
    for (frame, &class) in alignment.iter().enumerate() {
        if class != blank && (frame == 0 || alignment[frame - 1] != class) {
            labels.push(class);
        }
    }
    labels
}

/// The loss of one sequence and its gradient in the logits `[frames][classes]`, from every alignment there is.
fn by_enumeration(logits: &[Vec<f64>], target: &[usize], blank: usize) -> (f64, Vec<Vec<f64>>) {
    let classes = logits[0].len();
    let chances: Vec<Vec<f64>> = logits
        .iter()
        .map(|row| {
            let total: f64 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(|x| x.exp() / total).collect()
        })
        .collect();
    let mut total = 0.0;
    let mut shares = vec![vec![0.0; classes]; logits.len()];
    for number in 0..classes.pow(u32::try_from(logits.len()).unwrap()) {
        let alignment: Vec<usize> = (0..logits.len())
            .map(|frame| number / classes.pow(u32::try_from(frame).unwrap()) % classes)
            .collect();
        if spelt(&alignment, blank) == target {
            let chance: f64 = alignment.iter().zip(&chances).map(|(&class, row)| row[class]).product();
            total += chance;
            alignment.iter().zip(&mut shares).for_each(|(&class, row)| row[class] += chance);
        }
    }
    let slope = |(p, share): (&f64, &f64)| if total > 0.0 { p - share / total } else { 0.0 };
    let gradient = chances.iter().zip(&shares).map(|(p, s)| p.iter().zip(s).map(slope).collect()).collect();
    (-total.ln(), gradient)
}

/// Relative error of a sum over at most 4⁵ alignments, of which each is a product of 5 probabilities with 10 roundings.
const ENUMERATED: f64 = (1024.0 + 5.0 * 10.0) * f64::EPSILON;

/// A batch: frames and target of each sequence. Behind them the logits are NaN and the labels no class.
fn batch(sequences: &[(usize, &[usize])], classes: usize, seed: u64) -> ([Tensor; 4], Vec<Vec<Vec<f64>>>) {
    let time = sequences.iter().map(|s| s.0).max().unwrap();
    let length = sequences.iter().map(|s| s.1.len()).max().unwrap();
    let all = numbers(sequences.len() * time * classes, seed);
    let (mut logits, mut labels, mut rows) = (all.clone(), Vec::new(), Vec::new());
    for (row, (frames, target)) in sequences.iter().enumerate() {
        let of = |frame: usize| (row * time + frame) * classes..(row * time + frame + 1) * classes;
        rows.push((0..*frames).map(|frame| all[of(frame)].to_vec()).collect());
        (*frames..time).for_each(|frame| logits[of(frame)].fill(f64::NAN));
        labels.extend((0..length).map(|i| target.get(i).map_or(-7, |&label| i32::try_from(label).unwrap())));
    }
    let integers = |counts: Vec<usize>| {
        Tensor::new(counts.into_iter().map(|count| i32::try_from(count).unwrap()).collect::<Vec<_>>())
    };
    let frames = integers(sequences.iter().map(|s| s.0).collect());
    let lengths = integers(sequences.iter().map(|s| s.1.len()).collect());
    let logits = Tensor::new(Array::new(logits, [sequences.len(), time, classes]).unwrap());
    let target = Tensor::new(Array::new(labels, [sequences.len(), length]).unwrap());
    ([logits, target, frames, lengths], rows)
}

/// Repeated labels, one label, none, one frame, a target that needs every frame, and three that do not fit.
const SEQUENCES: &[(usize, &[usize])] = &[
    (5, &[1, 1]),
    (5, &[2, 1, 2]),
    (4, &[1]),
    (3, &[]),
    (1, &[2]),
    (3, &[1, 1]),
    (4, &[3, 3, 1]),
    (2, &[1, 1]),
    (2, &[1, 2, 3]),
    (1, &[1, 2]),
];

#[test]
fn ctc_is_the_sum_over_all_alignments() {
    let (mut possible, mut impossible) = (0, 0);
    for (blank, seed) in [(0, 1), (0, 2)] {
        let ([logits, target, frames, lengths], rows) = batch(SEQUENCES, 4, seed);
        let loss = ctc(&logits, &target, &frames, &lengths, blank, Reduction::None);
        let gradient = grad(&loss.sum(..), &logits).unwrap().or_error().unwrap();
        let (found, slopes) = (values(&[&loss])[0].clone(), values(&[&gradient])[0].clone());
        let bounds = [&loss, &gradient].map(in_double_precision);
        for (row, (sequence, logits)) in SEQUENCES.iter().zip(&rows).enumerate() {
            let (expected, expected_slopes) = by_enumeration(logits, sequence.1, blank);
            if expected.is_infinite() {
                assert_eq!(found[row], f64::INFINITY, "{sequence:?}");
                impossible += 1;
            } else {
                let allowed = bounds[0][row].1 + ENUMERATED + f64::EPSILON * expected;
                assert!((found[row] - expected).abs() <= allowed, "{sequence:?}: {} {expected}", found[row]);
                possible += 1;
            }
            let of_row = &slopes[row * 5 * 4..(row + 1) * 5 * 4];
            let flat: Vec<f64> =
                expected_slopes.into_iter().flatten().chain(std::iter::repeat(0.0)).take(20).collect();
            for (element, (got, expected)) in of_row.iter().zip(&flat).enumerate() {
                let allowed = bounds[1][row * 20 + element].1 + 2.0 * ENUMERATED;
                assert!((got - expected).abs() <= allowed, "{sequence:?} {element}: {got} {expected}");
            }
        }
    }
    assert_eq!((possible, impossible), (14, 6));
}

#[test]
fn ctc_takes_any_class_as_the_blank() {
    let sequences: &[(usize, &[usize])] = &[(4, &[0, 0]), (3, &[1, 0])];
    let ([logits, target, frames, lengths], rows) = batch(sequences, 3, 5);
    let loss = ctc(&logits, &target, &frames, &lengths, 2, Reduction::None);
    for ((found, bound), (sequence, logits)) in
        in_double_precision(&loss).iter().zip(sequences.iter().zip(&rows))
    {
        let (expected, _) = by_enumeration(logits, sequence.1, 2);
        let allowed = bound + ENUMERATED + f64::EPSILON * expected;
        assert!((found - expected).abs() <= allowed, "{found} {expected}");
    }
}

#[test]
fn ctc_is_the_same_on_every_device() {
    let ([logits, target, frames, lengths], _) = batch(SEQUENCES, 4, 3);
    let loss = ctc(&logits, &target, &frames, &lengths, 0, Reduction::None);
    let possible = loss.lt(f64::INFINITY);
    let gradient = grad(&masked(&loss, &possible, Reduction::Sum), &logits).unwrap().or_error().unwrap();
    let mut compared = 0;
    for device in Device::all() {
        let report = cotangent_device::cross_check(&device, &[&loss, &gradient]).unwrap();
        let got = device.read_all(&[&loss, &gradient]).unwrap();
        let expected = values(&[&loss, &gradient]);
        for (got, expected) in got.iter().zip(&expected) {
            for (got, expected) in got.to_f64().iter().zip(expected) {
                assert_eq!(got.is_finite(), expected.is_finite(), "{}: {got} {expected}", device.slug());
                compared += 1;
            }
        }
        assert!(report.cases > 0, "{}", device.slug());
    }
    assert!(compared >= 210);
}

#[test]
fn ctc_without_frames_spells_nothing() {
    let ([logits, target, _, lengths], _) = batch(&[(3, &[1]), (3, &[])], 3, 4);
    let loss = ctc(&logits, &target, &Tensor::new([0, 0]), &lengths, 0, Reduction::None);
    let gradient = grad(&loss.slice(0, 1, 2, 1).sum(..), &logits).unwrap().or_error().unwrap();
    assert_eq!(values(&[&loss])[0], [f64::INFINITY, 0.0]);
    assert_eq!(values(&[&gradient])[0], [0.0; 18]);
}

#[test]
fn ctc_refuses_what_does_not_fit() {
    let (logits, one) = (Tensor::zeros([1, 3, 4]), Tensor::new([1]));
    let code = |t: Tensor| t.error().map(Error::code);
    let of = |target: Tensor, frames: &Tensor, lengths: &Tensor, blank| {
        code(ctc(&logits, &target, frames, lengths, blank, Reduction::Mean))
    };
    let three = Tensor::new([3]);
    assert_eq!(of(Tensor::new([[1]]), &three, &one, 0), None);
    assert_eq!(of(Tensor::new([[4]]), &three, &one, 0), Some(Code::Index));
    assert_eq!(of(Tensor::new([[0]]), &three, &one, 0), Some(Code::Index));
    assert_eq!(of(Tensor::new([[1]]), &three, &one, 4), Some(Code::Index));
    assert_eq!(of(Tensor::new([[1]]), &Tensor::new([4]), &one, 0), Some(Code::Index));
    assert_eq!(of(Tensor::new([[1]]), &three, &Tensor::new([2]), 0), Some(Code::Index));
    assert_eq!(of(Tensor::new([[1], [1]]), &three, &one, 0), Some(Code::Broadcast));
    assert_eq!(of(Tensor::new([[1.0]]), &three, &one, 0), Some(Code::Dtype));
    // Labels that are computed are refused where that happens.
    for (label, device) in Device::all().into_iter().flat_map(|device| [(4, device.clone()), (0, device)]) {
        let computed = Tensor::new([[label - 1]]) + 1;
        let loss = ctc(&logits, &computed, &three, &one, 0, Reduction::Mean);
        assert_eq!(device.read(&loss).unwrap_err().code(), Code::Index, "{label} on {}", device.slug());
        assert_eq!(Reference::new().evaluate(&[&loss]).unwrap_err().code(), Code::Index);
    }
}

#[test]
fn ctc_is_one_kernel_per_frame_and_direction() {
    let kernels = |time: usize| {
        let logits = Tensor::zeros([2, time, 5]).named("logits");
        let (target, frames, lengths) = (
            Tensor::new([[1, 2, 2], [3, 1, 4]]),
            Tensor::full([2], i32::try_from(time).unwrap()),
            Tensor::new([3, 2]),
        );
        let loss = ctc(&logits, &target, &frames, &lengths, 0, Reduction::Mean);
        let gradient = grad(&loss, &logits).unwrap().or_error().unwrap();
        let of = |outputs: &[&Tensor]| {
            let step = cotangent_device::Step::new(&Device::cpu(), &[], outputs, &[]).unwrap();
            let text = step.explain();
            text.lines().next().unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap()
        };
        (of(&[&loss]), of(&[&loss, &gradient]))
    };
    let (short, long) = (kernels(8), kernels(20));
    assert_eq!((long.0 - short.0, long.1 - short.1), (12, 24), "{short:?} {long:?}");
}
