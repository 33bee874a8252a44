//! Cross entropy that never holds all logits.

use cotangent_device::Step;
use cotangent_tensor::random::random_words;
use cotangent_tensor::{Key, Shape};

use super::*;
use crate::OrError;

fn data(shape: &[usize], seed: u64) -> Tensor {
    let shape = Shape::new(shape).unwrap();
    let words = random_words(Key::new(seed), 0, shape.elements());
    let number = |word: u32| (f64::from(word >> 8) / f64::from(1 << 23) - 1.0) * 0.5;
    Tensor::new(Array::new(words.into_iter().map(number).collect::<Vec<_>>(), shape).unwrap())
}

fn labels(count: usize, classes: usize) -> Tensor {
    let words = random_words(Key::new(9), 0, count);
    Tensor::new(
        words.into_iter().map(|word| i32::try_from(word as usize % classes).unwrap()).collect::<Vec<_>>(),
    )
}

struct Head {
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
}

impl Head {
    fn new(rows: usize, features: usize, classes: usize) -> Head {
        Head {
            hidden: data(&[rows, features], 1),
            weight: data(&[features, classes], 2),
            bias: data(&[classes], 3),
            labels: labels(rows, classes),
        }
    }
    fn plain(&self, reduction: Reduction) -> Tensor {
        let logits = self.hidden.matmul(&self.weight) + &self.bias;
        cross_entropy(&logits, &self.labels, reduction)
    }
    fn chunked(&self, rows: usize, reduction: Reduction) -> Tensor {
        let Head { hidden, weight, bias, labels } = self;
        linear_cross_entropy(hidden, weight, Some(bias), labels, rows, reduction)
    }
    fn with_gradients(&self, loss: Tensor) -> Vec<Tensor> {
        let gradients = grad(&loss, [&self.hidden, &self.weight, &self.bias]).unwrap().or_error().unwrap();
        std::iter::once(loss).chain(gradients).collect()
    }
}

#[test]
fn values_and_gradients_are_those_of_the_plain_form() {
    let head = Head::new(10, 3, 7);
    for rows in [1, 4, 10, 99] {
        let (whole, parts) = (head.plain(Reduction::None), head.chunked(rows, Reduction::None));
        assert_eq!(values(&[&parts]), values(&[&whole]), "{rows}");
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let of = |loss: Tensor| {
                head.with_gradients(loss).iter().map(in_double_precision).collect::<Vec<_>>().concat()
            };
            let (whole, parts) = (of(head.plain(reduction)), of(head.chunked(rows, reduction)));
            assert_eq!(whole.len(), 1 + 30 + 21 + 7);
            for ((a, a_bound), (b, b_bound)) in whole.iter().zip(&parts) {
                assert!((a - b).abs() <= a_bound + b_bound, "{rows}: {a} {b}");
            }
        }
    }
}

#[test]
fn devices_compute_what_the_reference_does() {
    let head = Head::new(12, 5, 33);
    let tensors = head.with_gradients(head.chunked(5, Reduction::Mean));
    for device in Device::all() {
        let report = cotangent_device::cross_check(&device, &tensors.iter().collect::<Vec<_>>()).unwrap();
        assert!(report.cases > 0, "{}", device.slug());
    }
}

#[test]
fn memory_is_that_of_one_chunk() {
    let (count, features, classes, rows) = (512, 16, 4096, 32);
    let head = Head::new(count, features, classes);
    let all = u64::try_from(count * classes * 4).unwrap();
    let live = |loss: Tensor| {
        let tensors = head.with_gradients(loss);
        let step = Step::new(&Device::cpu(), &[], &tensors.iter().collect::<Vec<_>>(), &[]).unwrap();
        step.memory()
    };
    let (plain, chunked) = (live(head.plain(Reduction::Mean)), live(head.chunked(rows, Reduction::Mean)));
    assert!(plain.live >= all, "{plain}");
    // The logits of one chunk and what is made of them, and the gradient of the weight.
    assert!(chunked.planned * 4 < all, "{chunked}");
    // With a weight that is not trained too, nothing waits for its gradient.
    let loss = head.chunked(rows, Reduction::Mean);
    let slope = grad(&loss, &head.hidden).unwrap().or_error().unwrap();
    let frozen = Step::new(&Device::cpu(), &[], &[&loss, &slope], &[]).unwrap().memory();
    assert!(frozen.planned * 4 < all, "{frozen}");
}

#[test]
fn batches_and_second_derivatives_pass_through() {
    let (hidden, weight) = (data(&[2, 5, 3], 1), data(&[3, 4], 2));
    let labels = labels(10, 4).reshape([2, 5]);
    let of = |chunked: bool| {
        let loss = cotangent_autograd::batch([&hidden, &labels], |[hidden, labels]| match chunked {
            true => linear_cross_entropy(&hidden, &weight, None, &labels, 2, Reduction::Mean),
            false => cross_entropy(&hidden.matmul(&weight), &labels, Reduction::Mean),
        });
        let slope = grad(&loss.sum(..), &weight).unwrap().or_error().unwrap();
        let second = grad(&slope.pow(2).sum(..), &hidden).unwrap().or_error().unwrap();
        [loss, slope, second].map(|tensor| in_double_precision(&tensor)).concat()
    };
    let (parts, whole) = (of(true), of(false));
    assert_eq!(whole.len(), 2 + 12 + 30);
    for ((a, a_bound), (b, b_bound)) in parts.iter().zip(&whole) {
        assert!((a - b).abs() <= a_bound + b_bound, "{a} {b}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let Head { hidden, weight, bias, labels } = Head::new(4, 2, 3);
    let code = |t: Tensor| t.error().map(Error::code);
    let of = |bias: &Tensor, labels: &Tensor, rows| {
        code(linear_cross_entropy(&hidden, &weight, Some(bias), labels, rows, Reduction::Mean))
    };
    assert_eq!(of(&bias, &labels, 2), None);
    assert_eq!(of(&bias, &labels, 0), Some(Code::Hyperparameter));
    assert_eq!(of(&bias, &Tensor::new([0, 1, 2, 3]), 2), Some(Code::Index));
    assert_eq!(of(&bias, &Tensor::new([0, 1, 2]), 2), Some(Code::Broadcast));
    assert_eq!(of(&Tensor::zeros([4]), &labels, 2), Some(Code::Broadcast));
    assert_eq!(of(&bias, &labels.cast(DType::F32), 2), Some(Code::Dtype));
    let wrong = linear_cross_entropy(&hidden, &Tensor::zeros([3, 3]), None, &labels, 2, Reduction::Mean);
    assert_eq!(code(wrong), Some(Code::MatmulDim));
}
