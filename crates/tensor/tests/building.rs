//! What builders infer and refuse: shapes, element types, and the error of every mistake with the caller's line.

mod common;

use common::{elements, same, value};
use cotangent_tensor::{Array, Code, DType, Detail, Evaluate, Key, Operand, Reference, Tensor, where_};

/// The error must come back from a boundary, name this file, and survive further operations.
#[track_caller]
fn refused(tensor: &Tensor, code: Code) -> String {
    let error = tensor.error().expect("the tensor is invalid");
    assert_eq!(error.code(), code, "{error}");
    let at = error.location().expect("a location");
    assert!(at.file().ends_with("building.rs"), "{error}");
    let later = (tensor + 1.0).exp().reshape([-1]).sum(..);
    assert_eq!(Reference::new().evaluate(&[&later]).expect_err("invalid").to_string(), error.to_string());
    error.to_string()
}

#[test]
fn broadcasting_takes_the_longer_of_each_dimension() {
    let cases: &[(&[usize], &[usize], &[usize])] = &[
        (&[3, 4], &[4], &[3, 4]),
        (&[3, 1], &[1, 4], &[3, 4]),
        (&[], &[2, 0], &[2, 0]),
        (&[1, 0], &[5, 1], &[5, 0]),
        (&[2, 1, 3], &[7, 1], &[2, 7, 3]),
    ];
    for (lhs, rhs, expected) in cases {
        let (lhs, rhs) = (Tensor::ones(lhs.to_vec()), Tensor::ones(rhs.to_vec()));
        for sum in [&lhs + &rhs, &rhs + &lhs, lhs.max(&rhs), where_(&lhs.gt(0.0), &lhs, &rhs)] {
            assert_eq!(&sum.shape()[..], *expected);
        }
        assert_eq!(lhs.lt(&rhs).dtype(), DType::Bool);
    }
}

#[test]
fn shapes_that_do_not_broadcast_are_named_with_the_axis() {
    let (lhs, rhs) = (Tensor::ones([3, 4]), Tensor::ones([5]));
    let text = refused(&(&lhs + &rhs), Code::Broadcast);
    assert!(text.contains("[3, 4]") && text.contains("[5]") && text.contains("axis 1"), "{text}");
    refused(&Tensor::ones([2, 3]).broadcast_to([3, 3]), Code::Broadcast);
    refused(&Tensor::ones([2]).broadcast_to([1]), Code::Broadcast);
    let large = Tensor::ones([65_536, 1]) + Tensor::ones([1, 65_537]);
    let text = refused(&large, Code::TooLarge);
    assert!(text.contains("[65536, 1]"), "{text}");
}

#[test]
fn matmul_infers_batches_rows_and_columns() {
    let cases: &[(&[usize], &[usize], &[usize])] = &[
        (&[2, 3], &[3, 4], &[2, 4]),
        (&[3], &[3, 4], &[4]),
        (&[2, 3], &[3], &[2]),
        (&[3], &[3], &[]),
        (&[5, 1, 2, 3], &[7, 3, 4], &[5, 7, 2, 4]),
        (&[2, 0], &[0, 4], &[2, 4]),
        (&[3], &[6, 3, 4], &[6, 4]),
    ];
    for (lhs, rhs, expected) in cases {
        let product = Tensor::ones(lhs.to_vec()).matmul(&Tensor::ones(rhs.to_vec()));
        assert_eq!(&product.shape()[..], *expected);
    }
    let text = refused(&Tensor::ones([2, 3]).matmul(&Tensor::ones([4, 5])), Code::MatmulDim);
    assert!(text.contains("[2, 3]") && text.contains("[4, 5]") && text.contains("3 ≠ 4"), "{text}");
    let text = refused(&Tensor::ones([32, 10]).matmul(&Tensor::ones([4, 10])), Code::MatmulDim);
    assert!(text.contains("`rhs.transpose()` is [10, 4] and fits"), "{text}");
    refused(&Tensor::ones([2, 3]).matmul(&Tensor::new(1.0)), Code::MatmulDim);
    refused(&Tensor::ones([2, 2, 3]).matmul(&Tensor::ones([3, 3, 2])), Code::Broadcast);
    refused(&Tensor::ones([2, 3]).matmul(&Tensor::new([1, 2, 3])), Code::Dtype);
}

#[test]
fn axes_outside_the_rank_or_named_twice_are_refused() {
    let x = Tensor::ones([2, 3]);
    let wrong = [
        x.sum(-3),
        x.sum(2),
        x.sum([0, 0]),
        x.sum([0, -2]),
        x.mean(5),
        x.max_over([1, 1]),
        x.argmax(2),
        x.softmax(2),
        x.log_softmax(-3),
        x.logsumexp(3),
        x.cumulative_sum(2, false),
        x.permute([0, 2]),
        x.permute([0, 0]),
        x.permute([0]),
        x.permute_axes(&[0, 0]),
        x.unsqueeze(4),
        x.squeeze(-3),
        x.slice(2, 0, 1, 1),
        x.flip(2),
        x.pad(2, 1, 1),
        x.pad_all(vec![1], vec![1]),
        x.gather(2, &Tensor::new([0])),
        Tensor::scatter_add(&Tensor::new([0, 1]), &x, 2, 4),
        Tensor::concat(&[&x, &x], 2),
        Tensor::stack(&[&x, &x], 4),
        Tensor::iota([2], 1),
        Tensor::new(1.0).sum(0),
        Tensor::ones([3]).transpose(),
        Tensor::ones([3]).tril(0),
    ];
    for tensor in &wrong {
        refused(tensor, Code::Axis);
    }
    let error = x.sum(-3);
    let details = error.error().unwrap().details().to_vec();
    assert_eq!(details, [("axis", Detail::Integer(-3)), ("rank", Detail::Integer(2))]);
}

#[test]
fn reshape_keeps_the_number_of_elements() {
    let x = Tensor::ones([2, 6]);
    assert_eq!(&x.reshape([3, -1]).shape()[..], [3, 4]);
    assert_eq!(&x.reshape([12]).shape()[..], [12]);
    assert_eq!(&Tensor::new(1.0).reshape([1, 1]).shape()[..], [1, 1]);
    assert_eq!(&Tensor::ones([0, 3]).reshape([3, 0]).shape()[..], [3, 0]);
    let text = refused(&x.reshape([5]), Code::Reshape);
    assert!(text.contains("12") && text.contains('5'), "{text}");
    refused(&x.reshape([-1, -1]), Code::Reshape);
    refused(&x.reshape([5, -1]), Code::Reshape);
    refused(&x.reshape([-2, 6]), Code::Reshape);
    refused(&Tensor::ones([0, 3]).reshape([0, -1]), Code::Reshape);
    refused(&x.squeeze(0), Code::Reshape);
}

#[test]
fn sizes_that_overflow_are_refused_in_any_order() {
    const LARGE: usize = 1 << 40;
    for dims in [
        [0, LARGE, LARGE],
        [LARGE, 0, LARGE],
        [LARGE, LARGE, 0],
        [LARGE, LARGE, LARGE],
        [1 << 16, 1 << 16, 1],
    ] {
        refused(&Tensor::zeros(dims), Code::TooLarge);
    }
    refused(&Tensor::zeros([1 << 31]).pad(0, usize::MAX, 1), Code::TooLarge);
    refused(&Tensor::zeros([1 << 20]).reshape([1 << 40, 1 << 40]), Code::TooLarge);
    let half = Tensor::zeros([1 << 31]);
    refused(&Tensor::concat(&[&half, &half], 0), Code::TooLarge);
    refused(&Tensor::zeros([1 << 17, 1]).matmul(&Tensor::zeros([1, 1 << 17])), Code::TooLarge);
    refused(&Tensor::zeros([1 << 31]).unsqueeze(1).broadcast_to([1 << 31, 4]), Code::TooLarge);
    assert_eq!(Tensor::zeros([1 << 16, (1 << 16) - 1]).shape().elements(), 4_294_901_760);
}

#[test]
fn data_of_another_length_is_refused() {
    let text = refused(&Tensor::from_values([1.0, 2.0, 3.0], [2, 2]), Code::DataLength);
    assert!(text.contains("3 values") && text.contains('4'), "{text}");
    assert_eq!(Array::new(vec![1u32], [2]).unwrap_err().code(), Code::DataLength);
}

#[test]
fn rows_of_equal_length_are_a_matrix_and_others_are_refused() {
    let rows = vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]];
    let matrix = Tensor::new(rows);
    assert_eq!(matrix.shape()[..], [3, 2]);
    assert_eq!(elements(&matrix), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(Tensor::new(vec![vec![1u32; 4]; 2]).dtype(), DType::U32);
    assert_eq!(Tensor::new(Vec::<Vec<f32>>::new()).shape()[..], [0, 0]);
    assert_eq!(Tensor::new(vec![Vec::<f32>::new(); 3]).shape()[..], [3, 0]);
    let text = refused(&Tensor::new(vec![vec![1, 2], vec![3, 4], vec![5]]), Code::DataLength);
    assert!(text.contains("row 2 has 1 values, row 0 has 2"), "{text}");
}

#[test]
fn element_types_never_mix_without_a_cast() {
    let (float, int, uint, truth) =
        (Tensor::ones([2]), Tensor::new([1, 2]), Tensor::new([1u32, 2]), Tensor::new([true, false]));
    let text = refused(&(&float + &int), Code::Dtype);
    assert!(text.contains("`.cast(DType::F32)`"), "{text}");
    let wrong = [
        &int + &uint,
        &float * &truth,
        &truth + &truth,
        &int + 1.5,
        &uint + (-1),
        &int + u32::MAX,
        int.exp(),
        int.sqrt(),
        int.pow(&int),
        int.is_nan(),
        truth.is_nan(),
        truth.lt(&truth),
        float.and(&float),
        float.select(&float, &float),
        truth.select(&float, &int),
        truth.sum(..),
        int.mean(..),
        int.softmax(0),
        int.argmax(0),
        int.cumulative_sum(0, false),
        float.gather(0, &float),
        float.gather(0, &truth),
        Tensor::scatter_add(&int, &int, 0, 3),
        float.one_hot(3),
        float.shl(1),
        int.shr(1.0),
        int.shl(&uint),
        Tensor::random_bits(Key::new(1), int.sum(..), [2]),
        Tensor::random_bits(Key::new(1), &uint, [2]),
        Tensor::random_bits(Key::new(1), -1, [2]),
        Tensor::random_bits(Key::new(1), 0.5, [2]),
    ];
    for (case, tensor) in wrong.iter().enumerate() {
        assert!(tensor.error().is_some(), "case {case} was accepted");
        refused(tensor, Code::Dtype);
    }
    let right = [
        (&int + 1, DType::I32),
        (&uint + 1, DType::U32),
        (&int + 1u32, DType::I32),
        (&float + 1, DType::F32),
        (int.lt(2), DType::Bool),
        (truth.eq(&truth), DType::Bool),
        (truth.select(&truth, false), DType::Bool),
        (truth.select(1.0, 2.0), DType::F32),
        (truth.select(&int, 7), DType::I32),
        (float.cast(DType::F16) + 1.0, DType::F32),
        (float.cast(DType::F16).pow(1.0), DType::F32),
        (float.cast(DType::F16).reshape([1, 2]), DType::F16),
        (float.cast(DType::F16).sum(..), DType::F32),
        (int.and(&int), DType::I32),
    ];
    for (tensor, dtype) in &right {
        assert_eq!(tensor.dtype(), *dtype);
    }
}

#[test]
fn reductions_of_nothing_have_a_value_or_are_refused() {
    let empty = Tensor::zeros([2, 0]);
    assert_eq!(elements(&empty.sum(1)), [0.0, 0.0]);
    assert_eq!(elements(&empty.prod(1)), [1.0, 1.0]);
    assert_eq!(elements(&empty.sum(..)), [0.0]);
    assert_eq!(elements(&Tensor::from_values(Vec::<i32>::new(), [0]).prod(..)), [1.0]);
    assert_eq!(elements(&empty.matmul(&Tensor::zeros([0, 2]))), [0.0; 4]);
    assert!(elements(&empty.max_over(0)).is_empty(), "two rows of no columns: nothing is reduced");
    for none in [empty.softmax(1), empty.log_softmax(1), empty.cumulative_sum(1, true), empty.exp()] {
        assert_eq!(&value(&none).shape()[..], [2, 0]);
    }
    for wrong in [
        empty.max_over(1),
        empty.min_over(..),
        empty.mean(1),
        empty.mean(..),
        empty.argmax(1),
        empty.argmin(1),
        empty.logsumexp(1),
        empty.logsumexp(..),
    ] {
        refused(&wrong, Code::EmptyReduction);
    }
}

#[test]
fn scalars_work_everywhere() {
    let x = Tensor::new(3.0);
    assert_eq!(x.shape().rank(), 0);
    let cases = [
        (&x + 1.0, 4.0),
        (x.sum(..), 3.0),
        (x.prod(..), 3.0),
        (x.max_over(..), 3.0),
        (x.mean(..), 3.0),
        (x.logsumexp(..), 3.0),
        (x.reshape([]), 3.0),
        (x.broadcast_to([]), 3.0),
        (x.unsqueeze(0).squeeze(0), 3.0),
        (x.permute([]), 3.0),
        (x.unsqueeze(0).matmul(&x.unsqueeze(0)), 9.0),
        (Tensor::new([5.0, 6.0]).gather(0, &Tensor::new(1)), 6.0),
    ];
    for (tensor, expected) in &cases {
        assert_eq!(value(tensor).scalar().unwrap(), *expected);
        assert_eq!(tensor.shape().rank(), 0);
    }
    let error = value(&Tensor::ones([2])).scalar().unwrap_err();
    assert_eq!(error.code(), Code::NotScalar);
}

#[test]
fn indices_outside_their_axis_are_named_with_position_and_value() {
    let data = Tensor::ones([4, 3]);
    let of = |indices: [i32; 3]| Tensor::new(indices);
    for indices in [[0, 4, 1], [0, -1, 1]] {
        for known in [false, true] {
            // What is computed cannot be checked before it is evaluated.
            let indices = if known { of(indices) } else { of(indices) + 0 };
            let square = Tensor::ones([3, 4]);
            let tensors = [
                data.gather(0, &indices),
                Tensor::scatter_add(&indices, &data, 1, 4),
                square.cross_entropy(&indices),
                square.softmax_residual(&indices),
            ];
            for tensor in tensors {
                let error = Reference::new().evaluate(&[&tensor]).unwrap_err();
                assert_eq!(error.code(), Code::Index, "{error}");
                assert_eq!(error.details()[0], ("position", Detail::Integer(1)));
                assert!(error.location().unwrap().file().ends_with("building.rs"), "{error}");
                assert_eq!(tensor.error().is_some(), known);
            }
        }
    }
    refused(&data.gather(0, &Tensor::full([2], 9)), Code::Index);
    refused(&of([0, 1, 5]).one_hot(5), Code::Index);
    assert_eq!(elements(&data.gather(0, &Tensor::new([3u32, 0]))).len(), 6);
}

#[test]
fn slices_must_lie_inside_and_move() {
    let x = Tensor::ones([5]);
    for wrong in [x.slice(0, 3, 2, 1), x.slice(0, 0, 6, 1), x.slice(0, 0, 5, 0)] {
        refused(&wrong, Code::Slice);
    }
    let shape = Tensor::ones([3]).shape().to_owned();
    for (start, step) in [(5, 1), (3, 1), (1, -1), (0, 0), (1, isize::MAX)] {
        refused(&x.strided(vec![start], vec![step], shape), Code::Slice);
    }
    refused(&x.strided(vec![0, 0], vec![1], shape), Code::Slice);
    assert_eq!(&x.slice(0, 5, 5, 1).shape()[..], [0]);
    assert_eq!(&x.slice(0, 0, 5, -2).shape()[..], [3]);
}

#[test]
fn concatenation_needs_equal_types_and_other_dimensions() {
    let (a, b) = (Tensor::ones([2, 3]), Tensor::ones([2, 4]));
    assert_eq!(&Tensor::concat(&[&a, &b], 1).shape()[..], [2, 7]);
    assert_eq!(&Tensor::concat(&[&a], 0).shape()[..], [2, 3]);
    assert_eq!(&Tensor::stack(&[&a, &a], -1).shape()[..], [2, 3, 2]);
    refused(&Tensor::concat(&[], 0), Code::Concat);
    refused(&Tensor::stack(&[], 0), Code::Concat);
    refused(&Tensor::concat(&[&a, &b], 0), Code::Concat);
    refused(&Tensor::stack(&[&a, &b], 0), Code::Concat);
    refused(&Tensor::concat(&[&a, &a.cast(DType::I32)], 0), Code::Concat);
    refused(&Tensor::concat(&[&a, &Tensor::ones([3])], 0), Code::Concat);
}

#[test]
fn hyperparameters_outside_their_domain_are_refused() {
    let (x, key) = (Tensor::ones([2]), Key::new(1));
    for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        refused(&Tensor::bernoulli(key, 0, p, [2]), Code::Hyperparameter);
        refused(&x.dropout(key, 0, p), Code::Hyperparameter);
    }
    refused(&x.dropout(key, 0, 1.0), Code::Hyperparameter);
    refused(&x.clamp(1.0, 0.0), Code::Hyperparameter);
    refused(&x.clamp(f64::NAN, 0.0), Code::Hyperparameter);
    assert_eq!(elements(&x.clamp(0.5, 0.5)), [0.5, 0.5]);
}

#[test]
fn ranks_above_eight_are_refused() {
    let full = Tensor::ones([1; 8]);
    assert_eq!(full.shape().rank(), 8);
    assert_eq!(&full.logsumexp([0isize; 0]).shape()[..], [1; 8]);
    assert_eq!(&full.logsumexp([3, 5]).shape()[..], [1; 6]);
    refused(&Tensor::ones([1; 9]), Code::Rank);
    refused(&full.unsqueeze(0), Code::Rank);
    refused(&full.gather(0, &Tensor::new([[0]])), Code::Rank);
    refused(&Tensor::stack(&[&full, &full], 0), Code::Rank);
    refused(&full.cast(DType::I32).one_hot(2), Code::Rank);
}

#[test]
fn labels_fit_the_logits() {
    let logits = Tensor::ones([2, 3]);
    assert_eq!(&logits.cross_entropy(&Tensor::new([0, 2])).shape()[..], [2]);
    assert_eq!(&logits.softmax_residual(&Tensor::new([0, 2])).shape()[..], [2, 3]);
    assert_eq!(Tensor::ones([3]).cross_entropy(&Tensor::new(1)).shape().rank(), 0);
    refused(&logits.cross_entropy(&Tensor::new([0, 1, 2])), Code::Broadcast);
    refused(&Tensor::new(1.0).cross_entropy(&Tensor::new(0)), Code::Broadcast);
    refused(&logits.cross_entropy(&Tensor::ones([2])), Code::Dtype);
    refused(&Tensor::scatter_add(&Tensor::new([0, 1, 2]), &logits, 0, 3), Code::Broadcast);
}

#[test]
fn the_leftmost_of_several_errors_wins() {
    let (axis, shape) = (Tensor::ones([2]).sum(7), Tensor::ones([2]).reshape([3]));
    let combined = [
        &axis + &shape,
        axis.matmul(&shape),
        axis.gather(0, &shape),
        axis.select(&shape, &shape),
        Tensor::concat(&[&axis, &shape], 0),
        axis.broadcast_to([1 << 40]),
        axis.clamp(1.0, 0.0),
        axis.dropout(Key::new(1), 0, 5.0),
        axis.cross_entropy(&shape),
    ];
    for tensor in &combined {
        assert_eq!(tensor.error().unwrap().code(), Code::Axis);
    }
    let both = Reference::new().evaluate(&[&Tensor::ones([1]), &shape, &axis]);
    assert_eq!(both.unwrap_err().code(), Code::Reshape);
}

#[test]
#[should_panic(expected = "E_AXIS")]
fn the_shape_of_an_invalid_tensor_panics_with_its_error() {
    let _ = Tensor::ones([2]).sum(7).shape();
}

#[test]
fn error_texts_are_whole() {
    let line = line!() + 1;
    let error = Tensor::ones([32, 10]).matmul(&Tensor::ones([4, 10])).error().unwrap().to_string();
    let expected = format!(
        "error[E_MATMUL_DIM]: matmul: inner dimensions differ: lhs [32, 10], rhs [4, 10] (10 ≠ 4)\n  \
         at {}:{line}:40\n  help: `rhs.transpose()` is [10, 4] and fits",
        file!()
    );
    assert_eq!(error, expected);
}

#[test]
fn every_node_of_a_composed_builder_carries_the_line_of_its_caller() {
    let x = Tensor::input("x", [2, 3], DType::F32);
    let labels = Tensor::new([0, 1]);
    let key = Key::new(3);
    let composed = [
        x.log_softmax(1),
        x.tril(0),
        x.triu(1),
        x.mean(..),
        x.logsumexp(0),
        x.dropout(key, 1, 0.5),
        labels.one_hot(3),
        Tensor::stack(&[&x, &x], 0),
        Tensor::normal(key, 1, [4]),
        Tensor::uniform(key, 1, [4]),
        x.cross_entropy(&labels),
        x.pow(3.0),
        2.0 - &x,
        !&x.gt(0.0),
        x.matmul(&Tensor::ones([3])),
        x.clamp(0.0, Operand::from(1.0)),
    ];
    let mut seen = 0;
    for tensor in &composed {
        for node in cotangent_tensor::topological([tensor.node().unwrap()]) {
            assert!(node.location.file().ends_with("building.rs"), "{node:?} at {}", node.location);
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} nodes");
}

#[test]
fn random_numbers_are_what_their_words_say() {
    let key = Key::new(5).stream("weights");
    let words = cotangent_tensor::random::random_words(key, 7, 1000);
    let bits = elements(&Tensor::random_bits(key, 7, [10, 100]));
    assert!(bits.iter().zip(&words).all(|(a, b)| *a == f64::from(*b)));
    let uniform = elements(&Tensor::uniform(key, 7, [1000]));
    assert!(uniform.iter().zip(&words).all(|(a, b)| *a == f64::from(b >> 8) / 16_777_216.0));
    let kept = elements(&Tensor::bernoulli(key, 7, 0.25, [1000]));
    assert!(kept.iter().zip(&words).all(|(a, b)| *a == f64::from(u8::from(*b < 1 << 30))));
    assert!(same(&elements(&Tensor::bernoulli(key, 7, 1.0, [9])), &[1.0; 9]));
    assert!(same(&elements(&Tensor::bernoulli(key, 7, 0.0, [9])), &[0.0; 9]));
    let dropped = elements(&Tensor::ones([1000]).dropout(key, 7, 0.75));
    assert!(dropped.iter().zip(&kept).all(|(a, b)| *a == 4.0 * b));
    assert_ne!(elements(&Tensor::uniform(key, 8, [4])), uniform[..4]);
    let normal = elements(&Tensor::normal(key, 7, [100_000]));
    let n = normal.len() as f64;
    let mean = normal.iter().sum::<f64>() / n;
    let variance = normal.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
    // Four standard errors of mean and variance.
    assert!(
        mean.abs() < 4.0 / n.sqrt() && (variance - 1.0).abs() < 4.0 * (2.0 / n).sqrt(),
        "{mean} {variance}"
    );
    assert!(normal.iter().all(|z| z.abs() < 5.77));
}

#[test]
fn triangles_take_any_offset() {
    let x = Tensor::ones([2, 3]);
    let sum = |t: Tensor| Reference::new().evaluate(&[&t.sum(..)]).unwrap()[0].scalar().unwrap();
    assert_eq!(
        [sum(x.tril(i32::MAX)), sum(x.tril(i32::MIN)), sum(x.tril(0)), sum(x.tril(-1))],
        [6.0, 0.0, 3.0, 1.0]
    );
    assert_eq!(
        [sum(x.triu(i32::MAX)), sum(x.triu(i32::MIN)), sum(x.triu(0)), sum(x.triu(2))],
        [0.0, 6.0, 5.0, 1.0]
    );
}

#[test]
fn data_of_too_many_values_is_an_error() {
    let none: [[f64; 0]; 1 << 33] = [[]; 1 << 33];
    let tensor = Tensor::new(none);
    assert_eq!(tensor.error().unwrap().code(), Code::TooLarge);
    assert!(tensor.error().unwrap().location().unwrap().file().ends_with("building.rs"));
    assert!(Array::from(vec![1.0, 2.0]).error().is_none());
}

#[test]
fn the_hint_never_casts_a_float_away() {
    let (whole, float) = (Tensor::new([1, 2]), Tensor::new([0.5, 1.5]));
    let mixed =
        [&whole + &float, &float + &whole, &whole * 0.5, whole.gt(1).select(&whole, &float), whole.max(0.5)];
    for tensor in &mixed {
        let text = tensor.error().unwrap().to_string();
        assert!(text.contains("i32 where f32 is needed"), "{text}");
        assert!(text.contains("`.cast(DType::F32)`"), "{text}");
    }
}

#[test]
fn names_of_operands_stand_in_what_is_said_of_their_shapes() {
    let (p, t) = (Tensor::zeros([2, 3]).named("prediction"), Tensor::input("target", [2], DType::F32));
    let text = refused(&(&p - &t), Code::Broadcast);
    assert!(text.contains("`prediction` is [2, 3], `target` is [2]"), "{text}");
    let text = refused(&(&p - Tensor::zeros([4])), Code::Broadcast);
    assert!(text.contains("`prediction` is [2, 3]") && !text.contains("`constant`"), "{text}");
    let ragged = Array::from(vec![vec![1.0], vec![]]);
    let error = Reference::new().bind(&t, ragged).unwrap_err();
    assert_eq!(error.code(), Code::DataLength);
}
