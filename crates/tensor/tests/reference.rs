//! The reference against a naive model: every element from the definition, by explicit indices.

#![allow(clippy::disallowed_methods, reason = "the expected values are computed by another library")]

mod common;

use std::sync::Arc;

use common::{Random, elements, same, value};
use cotangent_tensor::{
    Array, Code, DType, Elementwise, Evaluate, Integer, Key, Node, Op, Reference, Scalar, Shape, Tensor,
    Token, TracedRule, random, topological,
};

/// Rounds of each random test.
const ROUNDS: usize = 60;

/// An array of the naive model: elements by multi-index.
#[derive(Clone)]
struct Model {
    dims: Vec<usize>,
    data: Vec<f64>,
}

impl Model {
    fn random(random: &mut Random, dims: Vec<usize>) -> Model {
        let data = random.whole(dims.iter().product());
        Model { dims, data }
    }
    fn build(dims: Vec<usize>, element: impl Fn(&[usize]) -> f64) -> Model {
        let n: usize = dims.iter().product();
        let data = (0..n).map(|flat| element(&unflatten(flat, &dims))).collect();
        Model { dims, data }
    }
    fn at(&self, index: &[usize]) -> f64 {
        let flat = index.iter().zip(&self.dims).fold(0, |flat, (i, d)| flat * d + i);
        self.data[flat]
    }
    fn tensor(&self) -> Tensor {
        Tensor::from_values(self.data.clone(), self.dims.clone())
    }
}

fn unflatten(mut flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, d) in index.iter_mut().zip(dims).rev() {
        (*i, flat) = (flat % d, flat / d);
    }
    index
}

/// Compares with the model and counts elements.
#[track_caller]
fn agrees(tensor: &Tensor, model: &Model, seen: &mut usize) {
    let got = value(tensor);
    assert_eq!(&got.shape()[..], &model.dims[..]);
    assert!(same(&got.to_f64(), &model.data), "{:?}\n{:?}", got.to_f64(), model.data);
    *seen += model.data.len();
}

fn with(index: &[usize], axis: usize, at: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[axis] = at;
    index
}

#[test]
fn movement_copies_the_elements_its_definition_names() {
    let (mut random, mut seen) = (Random::new(1), 0);
    for _ in 0..ROUNDS {
        let rank = random.range(1, 4);
        let dims = random.shape(rank, 4);
        let x = Model::random(&mut random, dims.clone());
        let axis = random.below(rank);
        let t = x.tensor();

        let order = random.order(rank);
        let permuted = Model::build(order.iter().map(|&a| dims[a]).collect(), |i| {
            let mut index = vec![0; rank];
            order.iter().zip(i).for_each(|(&a, &i)| index[a] = i);
            x.at(&index)
        });
        agrees(&t.permute_axes(&order), &permuted, &mut seen);

        let (start, step) = (random.below(dims[axis] + 1), random.range(1, 3));
        let end = random.range(start, dims[axis]);
        let length = (end - start).div_ceil(step);
        let sliced =
            Model::build(with(&dims, axis, length), |i| x.at(&with(i, axis, start + step * i[axis])));
        agrees(&t.slice(axis as isize, start, end, step as isize), &sliced, &mut seen);
        let backwards =
            Model::build(with(&dims, axis, length), |i| x.at(&with(i, axis, end - 1 - step * i[axis])));
        agrees(&t.slice(axis as isize, start, end, -(step as isize)), &backwards, &mut seen);
        let flipped = Model::build(dims.clone(), |i| x.at(&with(i, axis, dims[axis] - 1 - i[axis])));
        agrees(&t.flip(axis as isize - rank as isize), &flipped, &mut seen);

        let (low, high) = ((0..rank).map(|_| random.below(3)).collect::<Vec<_>>(), random.order(rank));
        let wide = (0..rank).map(|a| low[a] + dims[a] + high[a]).collect();
        let padded = Model::build(wide, |i| {
            let inside = (0..rank).all(|a| i[a] >= low[a] && i[a] < low[a] + dims[a]);
            if inside { x.at(&(0..rank).map(|a| i[a] - low[a]).collect::<Vec<_>>()) } else { 0.0 }
        });
        agrees(&t.pad_all(low.clone(), high.clone()), &padded, &mut seen);

        let middle_dims = with(&dims, axis, random.below(3));
        let middle = Model::random(&mut random, middle_dims);
        let parts = [&x, &middle, &x];
        let length = parts.iter().map(|p| p.dims[axis]).sum();
        let joined = Model::build(with(&dims, axis, length), |i| {
            let (mut part, mut at) = (0, i[axis]);
            while at >= parts[part].dims[axis] {
                at -= parts[part].dims[axis];
                part += 1;
            }
            parts[part].at(&with(i, axis, at))
        });
        let tensors = parts.map(Model::tensor);
        agrees(&Tensor::concat(&tensors.each_ref(), axis as isize), &joined, &mut seen);

        let squeezed = with(&dims, axis, 1);
        let row = Model::random(&mut random, squeezed);
        let mut wide = vec![2];
        wide.extend(&dims);
        let spread = Model::build(wide.clone(), |i| row.at(&with(&i[1..], axis, 0)));
        agrees(&row.tensor().broadcast_to(wide), &spread, &mut seen);
    }
    assert!(seen > 10_000, "{seen} elements compared");
}

#[test]
fn triangles_keep_one_side_of_a_diagonal() {
    let (mut random, mut seen) = (Random::new(2), 0);
    for offset in -3i32..=3 {
        let x = Model::random(&mut random, vec![2, 3, 4]);
        let keep = |lower: bool| {
            Model::build(x.dims.clone(), |i| {
                let above = i[2] as i32 - i[1] as i32 - offset;
                if if lower { above <= 0 } else { above >= 0 } { x.at(i) } else { 0.0 }
            })
        };
        agrees(&x.tensor().tril(offset), &keep(true), &mut seen);
        agrees(&x.tensor().triu(offset), &keep(false), &mut seen);
    }
    assert_eq!(seen, 7 * 2 * 24);
}

#[test]
fn reductions_combine_every_element_of_their_axes() {
    let (mut random, mut seen) = (Random::new(3), 0);
    for _ in 0..ROUNDS {
        let rank = random.range(1, 4);
        let dims = random.shape(rank, 4);
        let x = Model::random(&mut random, dims.clone());
        let axes = random.axes(rank);
        let kept: Vec<usize> = (0..rank).filter(|&a| !axes.contains(&(a as isize))).collect();
        let fold = |start: f64, f: fn(f64, f64) -> f64| {
            Model::build(kept.iter().map(|&a| dims[a]).collect(), |i| {
                let n = x.data.len();
                let same = |index: &[usize]| kept.iter().zip(i).all(|(&a, &i)| index[a] == i);
                let all = (0..n).filter(|&flat| same(&unflatten(flat, &dims)));
                all.map(|flat| x.data[flat]).fold(start, f)
            })
        };
        let integers = x.tensor().cast(DType::I32);
        for t in [x.tensor(), integers] {
            agrees(&t.sum(axes.clone()), &fold(0.0, |a, b| a + b), &mut seen);
            agrees(&t.prod(axes.clone()), &fold(1.0, |a, b| a * b), &mut seen);
            agrees(&t.max_over(axes.clone()), &fold(f64::NEG_INFINITY, f64::max), &mut seen);
            agrees(&t.min_over(axes.clone()), &fold(f64::INFINITY, f64::min), &mut seen);
        }
        let axis = random.below(rank);
        let extreme = |sign: f64| {
            let mut dims = dims.clone();
            dims.remove(axis);
            Model::build(dims, |i| {
                let mut index = i.to_vec();
                index.insert(axis, 0);
                let line: Vec<f64> = (0..x.dims[axis]).map(|k| sign * x.at(&with(&index, axis, k))).collect();
                let best = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                line.iter().position(|&v| v == best).unwrap() as f64
            })
        };
        agrees(&x.tensor().argmax(axis as isize), &extreme(1.0), &mut seen);
        agrees(&x.tensor().argmin(axis as isize), &extreme(-1.0), &mut seen);
        for reverse in [false, true] {
            let running = Model::build(dims.clone(), |i| {
                let range = if reverse { i[axis]..dims[axis] } else { 0..i[axis] + 1 };
                range.map(|k| x.at(&with(i, axis, k))).sum()
            });
            agrees(&x.tensor().cumulative_sum(axis as isize, reverse), &running, &mut seen);
        }
    }
    assert!(seen > 5_000, "{seen} elements compared");
}

#[test]
fn matmul_is_a_sum_over_the_inner_dimension() {
    let (mut random, mut seen) = (Random::new(4), 0);
    for _ in 0..ROUNDS {
        let [m, k, n] = [1, 0, 1].map(|low| random.range(low, 4));
        let [b, c] = [0; 2].map(|_: i32| random.range(1, 3));
        let lhs = Model::random(&mut random, vec![b, 1, m, k]);
        let rhs = Model::random(&mut random, vec![c, k, n]);
        let product = Model::build(vec![b, c, m, n], |i| {
            (0..k).map(|l| lhs.at(&[i[0], 0, i[2], l]) * rhs.at(&[i[1], l, i[3]])).sum()
        });
        agrees(&lhs.tensor().matmul(&rhs.tensor()), &product, &mut seen);
    }
    assert!(seen > 500, "{seen} elements compared");
}

#[test]
fn gather_and_scatter_follow_their_indices() {
    let (mut random, mut seen) = (Random::new(5), 0);
    for _ in 0..ROUNDS {
        let rank = random.range(1, 3);
        let dims = random.shape(rank, 4);
        let x = Model::random(&mut random, dims.clone());
        let axis = random.below(rank);
        let index_dims = {
            let r = random.below(3);
            random.shape(r, 3)
        };
        let count = index_dims.iter().product();
        let indices: Vec<i32> = (0..count).map(|_| random.below(dims[axis]) as i32).collect();
        let index = Tensor::from_values(indices.clone(), index_dims.clone());
        let mut result = dims[..axis].to_vec();
        result.extend(&index_dims);
        result.extend(&dims[axis + 1..]);
        let gathered = Model::build(result, |i| {
            let chosen = &i[axis..axis + index_dims.len()];
            let flat = chosen.iter().zip(&index_dims).fold(0, |flat, (i, d)| flat * d + i);
            let mut at = i[..axis].to_vec();
            at.push(indices[flat] as usize);
            at.extend(&i[axis + index_dims.len()..]);
            x.at(&at)
        });
        agrees(&x.tensor().gather(axis as isize, &index), &gathered, &mut seen);

        let size = random.range(1, 5);
        let targets: Vec<u32> = (0..dims[axis]).map(|_| random.below(size) as u32).collect();
        let scattered = Model::build(with(&dims, axis, size), |i| {
            let hits = (0..dims[axis]).filter(|&k| targets[k] as usize == i[axis]);
            hits.map(|k| x.at(&with(i, axis, k))).sum()
        });
        let index = Tensor::new(targets.clone());
        agrees(&Tensor::scatter_add(&index, &x.tensor(), axis as isize, size), &scattered, &mut seen);
        let hot =
            Model::build(vec![targets.len(), size], |i| f64::from(u8::from(targets[i[0]] as usize == i[1])));
        agrees(&index.one_hot(size), &hot, &mut seen);
    }
    assert!(seen > 1_000, "{seen} elements compared");
}

#[test]
fn rows_of_logits_are_stable_and_agree_with_one_another() {
    let inf = f64::INFINITY;
    let log = |x: f64| x.ln();
    let logits =
        Tensor::new([[0.0, log(3.0), -inf], [-inf, -inf, -inf], [1e38, -1e38, 0.0], [0.0, -60.0, -inf]]);
    let ulps = |got: f64, expected: f64| (got - expected).abs() <= 4.0 * f64::EPSILON * expected.abs();
    let close = |got: Vec<f64>, expected: &[f64]| {
        assert_eq!(got.len(), expected.len());
        for (g, e) in got.iter().zip(expected) {
            assert!(g == e || ulps(*g, *e), "{got:?} {expected:?}");
        }
    };
    let tail = (-60.0f64).exp();
    close(elements(&logits.softmax(1)), &[0.25, 0.75, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, tail, 0.0]);
    close(elements(&logits.logsumexp(1)), &[log(4.0), -inf, 1e38, tail]);
    close(
        elements(&logits.log_softmax(1)),
        &[-log(4.0), -log(4.0 / 3.0), -inf, -inf, -inf, -inf, 0.0, -2e38, -1e38, -tail, -60.0, -inf],
    );
    let losses = |labels: [i32; 4]| elements(&logits.cross_entropy(&Tensor::new(labels)));
    // A confident row keeps its digits: −log p = e⁻⁶⁰, not 0.
    close(losses([1, 0, 1, 0]), &[log(4.0 / 3.0), inf, 2e38, tail]);
    close(losses([2, 1, 0, 1]), &[inf, inf, 0.0, 60.0]);
    let residuals = |labels: [i32; 4]| elements(&logits.softmax_residual(&Tensor::new(labels)));
    close(residuals([1, 0, 0, 0]), &[0.25, -0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -tail, tail, 0.0]);
    close(residuals([2, 0, 1, 2])[..3].to_vec(), &[0.25, 0.75, -1.0]);

    for bad in [f64::NAN, inf] {
        let row = Tensor::new([[bad, 0.0, -inf]]);
        let label = Tensor::new([1]);
        for result in [
            row.softmax(1),
            row.logsumexp(1),
            row.log_softmax(1),
            row.cross_entropy(&label),
            row.cross_entropy(&Tensor::new([2])),
            row.softmax_residual(&label),
        ] {
            assert!(elements(&result).iter().all(|x| x.is_nan()), "{result:?}");
        }
    }
    // Any axes, any order: the same numbers as over the last axis.
    let x = Model::random(&mut Random::new(6), vec![3, 4, 2]);
    let along = |axis: isize| elements(&x.tensor().softmax(axis).sum(axis));
    assert!([0, 1, 2].iter().all(|&a| along(a).iter().all(|s| ulps(*s, 1.0))));
    let all = elements(&x.tensor().logsumexp(..))[0];
    assert!(ulps(all, x.data.iter().map(|v| v.exp()).sum::<f64>().ln()));
    assert!(ulps(elements(&x.tensor().logsumexp([0, 2]).logsumexp(0))[0], all));
}

#[test]
fn nan_travels_through_extremes_and_is_found_first() {
    let x = Tensor::new([1.0, f64::NAN, 3.0, f64::NAN]);
    assert!(elements(&x.max_over(0))[0].is_nan() && elements(&x.min_over(0))[0].is_nan());
    assert_eq!(elements(&x.argmax(0)), [1.0]);
    assert_eq!(elements(&x.argmin(0)), [1.0]);
    assert_eq!(elements(&Tensor::new([2.0, 5.0, 5.0, 2.0]).argmax(0)), [1.0]);
    assert!(elements(&x.relu())[1].is_nan() && elements(&x.clamp(0.0, 1.0))[1].is_nan());
}

#[test]
fn every_row_of_both_tables_is_evaluated_as_it_says() {
    let (mut random, mut seen) = (Random::new(7), 0);
    let shape = Shape::new(&[5]).unwrap();
    let leaf = |values: Vec<f64>, truth: bool| {
        if truth {
            Tensor::new(values.iter().map(|&v| v != 0.0).collect::<Vec<_>>())
        } else {
            Tensor::new(values)
        }
    };
    for &row in Elementwise::ALL {
        use cotangent_tensor::Class;
        let columns: Vec<Vec<f64>> = (0..row.arity())
            .map(|position| {
                let truth = row.class() == Class::Logic || row.class() == Class::Select && position == 0;
                let draw = |random: &mut Random| {
                    if truth { random.below(2) as f64 } else { random.uniform(-3.0, 3.0) }
                };
                (0..5).map(|_| draw(&mut random)).collect()
            })
            .collect();
        let operands: Vec<Arc<Node>> = columns
            .iter()
            .enumerate()
            .map(|(position, c)| {
                let truth = row.class() == Class::Logic || row.class() == Class::Select && position == 0;
                leaf(c.clone(), truth).node().unwrap().clone()
            })
            .collect();
        let dtype = if matches!(row.class(), Class::Test | Class::Logic) { DType::Bool } else { DType::F32 };
        let like = Tensor::ones([5]).node().unwrap().clone();
        let node =
            Node { op: Op::Elementwise(row), operands, shape, dtype, location: like.location, label: None };
        let got = elements(&Tensor::from_node(Arc::new(node)));
        let expected: Vec<f64> =
            (0..5).map(|i| row.eval(&columns.iter().map(|c| c[i]).collect::<Vec<_>>())).collect();
        assert!(same(&got, &expected), "{}: {got:?} {expected:?}", row.name());
        seen += got.len();
    }
    assert_eq!(seen, 5 * Elementwise::ALL.len());

    let words = [0u32, 1, 2, 31, 33, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let mut compared = 0;
    for dtype in [DType::I32, DType::U32] {
        let of = |words: Vec<u32>| {
            Tensor::new(Array::from_words(words.clone(), Shape::new(&[words.len()]).unwrap(), dtype).unwrap())
        };
        let a: Vec<u32> = words.iter().flat_map(|&a| words.map(|_| a)).collect();
        let b: Vec<u32> = words.iter().flat_map(|_| words).collect();
        let (x, y) = (of(a.clone()), of(b.clone()));
        let results: [(Integer, Tensor); 21] = [
            (Integer::Add, &x + &y),
            (Integer::Sub, &x - &y),
            (Integer::Mul, &x * &y),
            (Integer::Div, &x / &y),
            (Integer::Rem, &x % &y),
            (Integer::Neg, -&x),
            (Integer::Abs, x.abs()),
            (Integer::Min, x.min(&y)),
            (Integer::Max, x.max(&y)),
            (Integer::And, x.and(&y)),
            (Integer::Or, x.or(&y)),
            (Integer::Xor, x.xor(&y)),
            (Integer::Not, !&x),
            (Integer::Shl, x.shl(&y)),
            (Integer::Shr, x.shr(&y)),
            (Integer::Eq, x.eq(&y)),
            (Integer::Ne, x.ne(&y)),
            (Integer::Lt, x.lt(&y)),
            (Integer::Le, x.le(&y)),
            (Integer::Gt, x.gt(&y)),
            (Integer::Ge, x.ge(&y)),
        ];
        for (row, result) in &results {
            let expected: Vec<u32> = a.iter().zip(&b).map(|(&a, &b)| row.eval(dtype, a, b, 0)).collect();
            assert_eq!(value(result).to_words(), expected, "{} {dtype}", row.name());
            compared += expected.len();
        }
        let chosen = value(&x.lt(&y).select(&x, &y)).to_words();
        assert_eq!(chosen, value(&x.min(&y)).to_words());
        assert_eq!(value(&x.sum(..)).to_words(), [a.iter().fold(0u32, |s, &w| s.wrapping_add(w))]);
        assert_eq!(
            value(&x.slice(0, 8, 24, 1).prod(..)).to_words(),
            [a[8..24].iter().fold(1u32, |s, &w| s.wrapping_mul(w))]
        );
    }
    assert_eq!(compared, 2 * 21 * 64);
    assert_eq!(Integer::ALL.len(), 22);
}

#[test]
fn casts_truncate_saturate_and_round() {
    let x = Tensor::new([1.9, -1.9, f64::NAN, f64::INFINITY, -1e20, 0.0]);
    assert_eq!(value(&x.cast(DType::I32)).to_f64(), [1.0, -1.0, 0.0, 2_147_483_647.0, -2_147_483_648.0, 0.0]);
    assert_eq!(value(&x.cast(DType::U32)).to_f64(), [1.0, 0.0, 0.0, 4_294_967_295.0, 0.0, 0.0]);
    assert_eq!(value(&x.cast(DType::Bool)).to_f64(), [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    let words = Tensor::new([-1, i32::MIN]);
    assert_eq!(value(&words.cast(DType::U32)).to_f64(), [4_294_967_295.0, 2_147_483_648.0]);
    assert_eq!(value(&words.cast(DType::U32).cast(DType::I32)).to_f64(), [-1.0, -2_147_483_648.0]);
    let half = value(&Tensor::new([0.1, 65_519.0, 65_520.0, 1e-8]).cast(DType::F16));
    assert_eq!(half.dtype(), DType::F16);
    assert_eq!(half.to_f64(), [0.099_975_585_937_5, 65_504.0, f64::INFINITY, 0.0]);
}

#[test]
fn leaves_keep_f64_digits_unless_asked_to_round() {
    let x = Tensor::new([0.1]) + 0.2;
    assert_eq!(elements(&x), [0.1 + 0.2]);
    let rounded = Reference::rounded().evaluate(&[&x]).unwrap().remove(0).to_f64();
    assert_eq!(rounded, [f64::from(0.1f32) + f64::from(0.2f32)]);
    let input = Tensor::input("x", [], DType::F32);
    let bound = Reference::rounded().bind(&input, 0.1).unwrap();
    assert_eq!(bound.evaluate(&[&input]).unwrap()[0].to_f64(), [f64::from(0.1f32)]);
    let half = Tensor::new(Array::from([0.1]).with_dtype(DType::F16));
    assert_eq!(elements(&half), [0.099_975_585_937_5]);
    let constant = Tensor::full([2], Scalar::Float(-0.0));
    assert!(elements(&constant).iter().all(|x| *x == 0.0 && x.is_sign_negative()));
}

#[test]
fn inputs_are_bound_by_identity_and_checked() {
    let x = Tensor::input("x", [2], DType::F32);
    let step = Tensor::variable(Token::new("step", 0), Shape::SCALAR, DType::U32);
    let y = &x * step.cast(DType::F32);
    let error = Reference::new().bind(&x, [1.0, 2.0]).unwrap().evaluate(&[&y]).unwrap_err();
    assert_eq!(error.code(), Code::Unbound);
    assert!(error.to_string().contains("variable `step` (u32 [])"), "{error}");
    assert!(error.location().unwrap().file().ends_with("reference.rs"));
    let reference =
        Reference::new().bind(&x.named("weights"), [1.0, 2.0]).unwrap().bind(&step, 3u32).unwrap();
    assert_eq!(reference.evaluate(&[&y, &x]).unwrap()[0].to_f64(), [3.0, 6.0]);
    assert_eq!(reference.name(), "reference");
    let code = |result: Result<Reference, _>| result.map_err(|e: cotangent_tensor::Error| e.code()).err();
    assert_eq!(code(Reference::new().bind(&x, [1.0])), Some(Code::ShapeChanged));
    assert_eq!(code(Reference::new().bind(&x, [1, 2])), Some(Code::Dtype));
    assert_eq!(code(Reference::new().bind(&y, [1.0, 2.0])), Some(Code::Unbound));
    assert_eq!(code(Reference::new().bind(&x.sum(9), [1.0, 2.0])), Some(Code::Axis));
}

/// `outputs(parameters)` applied to `operands` as a rule.
fn rule(name: &str, operands: &[&Tensor], outputs: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Vec<Tensor> {
    let parameters: Vec<Tensor> =
        operands.iter().map(|t| Tensor::placeholder("p", *t.shape(), t.dtype())).collect();
    let node = |t: &Tensor| t.node().expect("valid").clone();
    let outputs: Vec<Arc<Node>> = outputs(&parameters).iter().map(node).collect();
    let like = node(operands[0]);
    let rule = TracedRule::function(name.to_string(), parameters.iter().map(node).collect(), outputs.clone());
    let make = |op, operands, shape, dtype| {
        Arc::new(Node { op, operands, shape, dtype, location: like.location, label: None })
    };
    let tuple =
        make(Op::Rule(Arc::new(rule)), operands.iter().map(|t| node(t)).collect(), Shape::SCALAR, DType::F32);
    let project = |(i, output): (usize, &Arc<Node>)| {
        Tensor::from_node(make(Op::Project(i), vec![tuple.clone()], output.shape, output.dtype))
    };
    outputs.iter().enumerate().map(project).collect()
}

#[test]
fn rules_are_evaluated_by_their_outputs_however_deep() {
    let x = Tensor::input("x", [2], DType::F32);
    let pair =
        rule("pair", &[&x, &(&x + 1.0)], |p| vec![&p[0] * &p[1], p[1].clone(), Tensor::new([9.0]).sum(..)]);
    let reference = Reference::new().bind(&x, [2.0, 3.0]).unwrap();
    let results = reference.evaluate(&pair.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(results[0].to_f64(), [6.0, 12.0]);
    assert_eq!(results[1].to_f64(), [3.0, 4.0]);
    assert_eq!(results[2].to_f64(), [9.0]);

    // Rules within rules: each level squares what the level below returns.
    fn nested(depth: usize, x: &Tensor) -> Tensor {
        rule("level", &[x], |p| vec![if depth == 0 { &p[0] + 1.0 } else { nested(depth - 1, &p[0]) * 2.0 }])
            .remove(0)
    }
    assert_eq!(
        reference.evaluate(&[&nested(50, &x)]).unwrap()[0].to_f64(),
        [3.0 * 2f64.powi(50), 4.0 * 2f64.powi(50)]
    );

    // A chain of rules is as long as a chain of anything else.
    let mut chain = x.clone();
    for _ in 0..20_000 {
        chain = rule("next", &[&chain], |p| vec![&p[0] + 1.0]).remove(0);
    }
    assert_eq!(reference.evaluate(&[&chain]).unwrap()[0].to_f64(), [20_002.0, 20_003.0]);

    // Errors inside say where.
    let out = rule("lookup", &[&x], |p| vec![Tensor::new([1.0]).gather(0, &p[0].cast(DType::I32))]).remove(0);
    let error = reference.evaluate(&[&out]).unwrap_err();
    assert_eq!(error.code(), Code::Index);
    assert!(error.to_string().contains("in rule `lookup`, applied at"), "{error}");
}

#[test]
fn a_million_nodes_build_evaluate_and_drop() {
    const N: usize = 1_000_000;
    let x = Tensor::input("x", [], DType::F32);
    let mut chain = x.clone();
    for _ in 0..N {
        chain = chain + 1.0;
    }
    assert_eq!(topological([chain.node().unwrap()]).len(), 2 * N + 1);
    let reference = Reference::new().bind(&x, 0.5).unwrap();
    assert_eq!(reference.evaluate(&[&chain]).unwrap()[0].scalar().unwrap(), N as f64 + 0.5);
    drop(chain);
    // A chain that doubles: 2¹⁰⁰⁰ paths, a thousand nodes.
    let mut doubled = x.clone();
    for _ in 0..1000 {
        doubled = &doubled + &doubled;
    }
    assert_eq!(reference.evaluate(&[&doubled]).unwrap()[0].scalar().unwrap(), 0.5 * 2f64.powi(1000));
}

#[test]
fn identities_and_sources_are_what_they_say() {
    let x = Tensor::new([1.0, -2.0]);
    assert_eq!(elements(&x.detach().inspect("here").named("x")), [1.0, -2.0]);
    assert_eq!(elements(&Tensor::iota([2, 3], 0)), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    assert_eq!(elements(&Tensor::iota([2, 3], -1)), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    let key = Key { seed: 0x0a40_9382_2000_0001, stream: 5 };
    let step = Tensor::input("step", [], DType::U32);
    let reference = Reference::new().bind(&step, 77u32).unwrap();
    let words = reference.evaluate(&[&Tensor::random_bits(key, &step, [3, 3])]).unwrap().remove(0).to_words();
    assert_eq!(words, random::random_words(key, 77, 9));
}

#[test]
fn a_mark_and_its_copies_under_other_names_are_collected_once() {
    let x = Tensor::new([1.0, 2.0]);
    let a = x.inspect("a");
    let b = a.named("b");
    let (flags, none) = (Tensor::new([true, false]).inspect("flags"), Tensor::new([0i32; 0]).inspect("none"));
    let roots = [&a + &b, flags.cast(DType::F32), none.cast(DType::F32)];
    let seen = Reference::new().inspect(&roots.iter().collect::<Vec<_>>()).unwrap();
    let found: Vec<(&str, Vec<f64>)> = seen.iter().map(|mark| (&*mark.label, mark.value.to_f64())).collect();
    assert_eq!(found, [("a", vec![1.0, 2.0]), ("flags", vec![1.0, 0.0]), ("none", vec![])]);
}
