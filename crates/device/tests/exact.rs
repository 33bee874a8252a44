//! Sums of small whole numbers, which are exact in every order: no term may be missing or added twice, whatever the
//! lengths are and wherever a strategy cuts them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::software;
use cotangent_device::Device;
use cotangent_shaders::Target;
use cotangent_tensor::{Array, DType, Tensor, Values};

/// The CPU device, and the software adapter with the kernels of CPU adapters, of GPUs with subgroups and of GPUs without.
fn all() -> Vec<(&'static str, Device)> {
    let software = software();
    let own = software.info().target.clone();
    let subgroups = Target { cpu: false, ..own };
    vec![
        ("cpu", Device::cpu()),
        ("subgroups", software.with_limits(&subgroups).unwrap()),
        ("web limits", software.with_limits(&Target::web()).unwrap()),
        ("software", software),
    ]
}

/// Whole numbers from 1 to 3: none can be left out without being missed.
fn term(index: usize) -> i64 {
    i64::try_from(1 + (index * index + index / 7) % 3).unwrap()
}
fn terms(shape: &[usize]) -> Tensor {
    let values = (0..shape.iter().product()).map(|i| term(i) as f32).collect();
    Tensor::new(Array::new(Values::Single(values), shape).unwrap())
}
fn wholes(device: &Device, tensor: &Tensor) -> Vec<i64> {
    device.read(tensor).unwrap().to_f64().into_iter().map(|value| value as i64).collect()
}

/// The first result that differs, as text.
fn difference(got: &[i64], expected: impl Fn(usize) -> i64) -> Option<String> {
    let wrong = got.iter().enumerate().find(|(i, value)| **value != expected(*i))?;
    Some(format!("element {} is {}, not {}", wrong.0, wrong.1, expected(wrong.0)))
}

/// Lengths around every power of two, and around multiples of the blocks in use.
fn lengths() -> Vec<usize> {
    let bases = [4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 262_144];
    let odd = [3 * 1024, 5 * 4096, 3 * 16_384];
    let around = |&base: &usize| (base - 3..=base + 5).collect::<Vec<_>>();
    bases.iter().chain(&odd).flat_map(around).collect()
}

#[test]
fn products_count_every_term_once() {
    // Where a long sum is cut into chunks: few terms beyond a multiple of a chunk, and beyond a whole four.
    let mut inner: Vec<usize> = (16_864..=17_440).step_by(16).flat_map(|k| k..=k + 3).collect();
    inner.extend((1..=24).flat_map(|chunks| 512 * chunks - 1..=512 * chunks + 5));
    inner.extend((1..=24).flat_map(|chunks| 528 * chunks..=528 * chunks + 3));
    inner.extend([40_000, 65_535, 65_536, 65_537, 65_538, 65_539]);
    let mut wrong = Vec::new();
    for (name, device) in all() {
        for (number, &k) in inner.iter().enumerate() {
            let [m, n] = [[4, 3], [2, 16], [8, 5], [3, 4], [12, 20]][number % 5];
            let (a, b) = (terms(&[m, k]), terms(&[k, n]));
            let expected = |i: usize| (0..k).map(|t| term(i / n * k + t) * term(t * n + i % n)).sum();
            if let Some(text) = difference(&wholes(&device, &a.matmul(&b)), expected) {
                wrong.push(format!("[{m}, {k}] × [{k}, {n}] on {name}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn products_of_batches_and_transposed_operands_count_every_term_once() {
    let mut wrong = Vec::new();
    for (name, device) in all() {
        for k in [1023, 1024, 1025, 1056, 1057, 1058, 1059, 2113, 2114, 4225, 16_897, 16_898] {
            let (m, n) = (5, 4);
            let (a, b) = (terms(&[2, k, m]), terms(&[2, n, k]));
            let product = a.permute([0, 2, 1]).matmul(&b.permute([0, 2, 1]));
            let expected = |i: usize| {
                let (batch, row, column) = (i / (m * n), i / n % m, i % n);
                (0..k).map(|t| term((batch * k + t) * m + row) * term((batch * n + column) * k + t)).sum()
            };
            if let Some(text) = difference(&wholes(&device, &product), expected) {
                wrong.push(format!("k = {k} on {name}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn sums_of_every_strategy_count_every_term_once() {
    let mut wrong = Vec::new();
    for (name, device) in all() {
        for length in lengths() {
            let mut check = |what: &str, sums: &Tensor, expected: &dyn Fn(usize) -> i64| {
                if let Some(text) = difference(&wholes(&device, sums), expected) {
                    wrong.push(format!("{what} of {length} on {name}: {text}"));
                }
            };
            let line = terms(&[length]);
            check("total", &line.sum(..), &|_| (0..length).map(term).sum());
            let rows = terms(&[3, length]);
            let row = |r: usize| (r * length..(r + 1) * length).map(term).sum();
            check("rows", &rows.sum(1), &row);
            let columns = terms(&[length, 4]);
            let column = |c: usize| (0..length).map(|r| term(4 * r + c)).sum();
            check("columns", &columns.sum(0), &column);
            if length < 20_000 {
                let rows = terms(&[17, length]);
                check("many rows", &rows.sum(1), &row);
                let columns = terms(&[length, 37]);
                let column = |c: usize| (0..length).map(|r| term(37 * r + c)).sum();
                check("many columns", &columns.sum(0), &column);
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn running_sums_count_every_term_once() {
    let mut wrong = Vec::new();
    for (name, device) in all() {
        for length in lengths().into_iter().filter(|length| *length < 70_000) {
            for (inner, reverse) in [(1, false), (3, true)] {
                let x = terms(&[length, inner]);
                let got = wholes(&device, &x.cumulative_sum(0, reverse));
                for column in 0..inner {
                    let mut sum = 0;
                    let order: Box<dyn Iterator<Item = usize>> =
                        if reverse { Box::new((0..length).rev()) } else { Box::new(0..length) };
                    for row in order {
                        let at = row * inner + column;
                        sum += term(at);
                        if got[at] != sum {
                            wrong.push(format!(
                                "{length} × {inner} on {name}: {at} is {}, not {sum}",
                                got[at]
                            ));
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn scattered_sums_count_every_update_once() {
    let mut wrong = Vec::new();
    // Elements before the scattered axis, updates, elements behind it, size of the axis.
    let cases = [
        [1, 1, 1, 1],
        [1, 1, 1, 9],
        [1, 100, 1, 7],
        [1, 300, 5, 40],
        [1, 65, 1030, 3],
        [3, 50, 1, 8],
        [2, 70, 6, 11],
        [1, 150, 40, 30],
    ];
    for (name, device) in all() {
        for [outer, updates, inner, size] in cases {
            let indices: Vec<usize> = (0..updates).map(|j| (j * j * 7 + j / 3) % size).collect();
            let words: Vec<i32> = indices.iter().map(|&i| i32::try_from(i).unwrap()).collect();
            let (index, values) = (Tensor::new(words), terms(&[outer, updates, inner]));
            let turned = terms(&[inner, updates, outer]).permute([2, 1, 0]);
            let mut check = |what: &str, sums: &Tensor, update: &dyn Fn([usize; 3]) -> i64| {
                let mut expected = vec![0; outer * size * inner];
                for o in 0..outer {
                    for (j, i) in indices.iter().enumerate() {
                        (0..inner).for_each(|c| expected[(o * size + i) * inner + c] += update([o, j, c]));
                    }
                }
                if let Some(text) = difference(&wholes(&device, sums), |i| expected[i]) {
                    wrong.push(format!("{what} of {outer} {updates} {inner} {size} on {name}: {text}"));
                }
            };
            let sums = Tensor::scatter_add(&index, &values, 1, size);
            let plain = |[o, j, c]: [usize; 3]| term((o * updates + j) * inner + c);
            check("sums", &sums, &plain);
            check("with code on them", &((&sums * 2.0 - &sums) * 1.0), &plain);
            let sums = Tensor::scatter_add(&index, &turned, 1, size);
            check("turned", &sums, &|[o, j, c]| term((c * updates + j) * outer + o));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_large_table_takes_the_time_of_its_updates() {
    // 50 000 × 512 elements and 4096 updates: were every element to look at every update, this would take minutes.
    let index: Vec<i32> = (0..4096).map(|j| j * 12 % 50_000).collect();
    let index = Tensor::new(index);
    let table = Tensor::scatter_add(&index, &terms(&[4096, 512]), 0, 50_000);
    let counts = Tensor::scatter_add(&index, &Tensor::ones([4096, 3]), 0, 50_000);
    let start = std::time::Instant::now();
    let device = Device::cpu();
    assert_eq!(wholes(&device, &table.sum(..))[0], (0..4096 * 512).map(term).sum());
    let counts = wholes(&device, &counts);
    assert!((0..150_000).all(|i| counts[i] == i64::from(i / 3 % 12 == 0 && i / 3 < 12 * 4096)));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// Rounding to F16 is a part of the value, whether it is stored or used in the same kernel.
#[test]
fn halves_are_rounded_where_they_are_made() {
    let x = Tensor::new([1.0 + 1.0 / 8192.0, 2.0 + 1.0 / 4096.0, 65_519.0, 1e-8]);
    let half = x.cast(DType::F16);
    let used = &half + 0.0;
    let lost = (&x - half.cast(DType::F32)) * 8192.0;
    let total = half.cast(DType::F32).sum(0);
    for (name, device) in all() {
        let values = device.read_all(&[&used, &lost, &total, &half]).unwrap();
        let rounded = [1.0, 2.0, 65_504.0, 0.0];
        assert_eq!(values[0].to_f64(), rounded, "{name}");
        assert_eq!(values[3].to_f64(), rounded, "{name}");
        assert_eq!(values[1].to_f64()[..3], [1.0, 2.0, 15.0 * 8192.0], "{name}");
        assert_eq!(values[2].to_f64(), [65_507.0], "{name}");
        // alone, so that nothing else stores the halves
        assert_eq!(device.read(&lost).unwrap().to_f64()[..2], [1.0, 2.0], "{name}");
        assert_eq!(device.read(&used).unwrap().to_f64(), rounded, "{name}");
    }
}
