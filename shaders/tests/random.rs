//! Random graphs: a plan computes what the unfused graph means, whatever was fused, folded, copied or updated in place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod interpreter;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cotangent_shaders::{PlanOptions, computing_again, plan};
use cotangent_tensor::{Array, DType, Evaluate, Node, Op, Reference, Tensor, Values, topological};

struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
    fn array(&mut self, shape: &[usize]) -> Array {
        let n = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|_| self.below(4001) as f64 / 1000.0 - 2.0).collect();
        Array::new(Values::Float(values), shape).unwrap()
    }
}

/// Grows a graph by random operations; every tensor made stays available as an operand.
fn grow(random: &mut Random, pool: &mut Vec<Tensor>, steps: usize) {
    for _ in 0..steps {
        let x = pool[random.below(pool.len())].clone();
        let y = pool[random.below(pool.len())].clone();
        let rank = x.shape().rank();
        let axis = if rank > 0 { random.below(rank) as isize } else { 0 };
        let new = match random.below(22) {
            0 => x.tanh(),
            1 => x.relu(),
            2 | 3 if x.shape().broadcast(y.shape()).is_ok() => &x + &y,
            4 | 5 if x.shape().broadcast(y.shape()).is_ok() => &x * &y,
            6 if x.shape().broadcast(y.shape()).is_ok() => x.gt(&y).select(&x, &y),
            7 if rank > 0 => x.sum(axis),
            8 if rank > 0 => &x - x.mean(axis).unsqueeze(axis),
            9 if rank > 0 => x.max_over(axis),
            10 if rank > 0 => x.softmax(axis),
            11 if rank > 0 => x.logsumexp(axis),
            12 if rank > 1 => x.transpose(),
            13 if rank > 0 => x.flip(axis),
            14 if rank > 0 && x.shape()[axis as usize] > 1 => x.slice(axis, 1, x.shape()[axis as usize], 1),
            15 if rank > 0 && x.shape().elements() < 200 => x.pad(axis, 1, 2),
            16 if rank > 0 && x.shape().elements() < 200 => Tensor::concat(&[&x, &x.exp(), &x], axis),
            17 => x.reshape([-1]),
            18 if rank > 1
                && y.shape().rank() > 1
                && x.shape()[rank - 1] == y.shape()[y.shape().rank() - 2] =>
            {
                x.matmul(&y)
            }
            19 if rank > 0 => x.cumulative_sum(axis, random.below(2) == 0),
            20 if rank > 0 => {
                let size = x.shape()[axis as usize];
                let indices: Vec<i32> = (0..3).map(|_| random.below(size) as i32).collect();
                let picked = x.gather(axis, &Tensor::new(indices.clone()));
                Tensor::scatter_add(&Tensor::new(indices), &picked, axis, size + 1)
            }
            21 => truth_tree(random, pool, x.shape(), 3).select(&x, &(&x * 0.5)),
            _ => x.sigmoid() - 0.25,
        };
        assert!(new.error().is_none(), "{:?}", new.error());
        // Values that explode compare badly; keep them tame.
        let new = if random.below(3) == 0 { new.clamp(-3.0, 3.0) } else { new };
        if new.shape().elements() < 2000 && new.shape().elements() > 0 {
            pool.push(new);
        }
    }
}

/// Comparisons of many tensors of one shape (broadcast where they fit), joined by logic.
fn truth_tree(random: &mut Random, pool: &[Tensor], shape: &cotangent_tensor::Shape, depth: usize) -> Tensor {
    let operand = |random: &mut Random| {
        let fitting: Vec<&Tensor> =
            pool.iter().filter(|t| t.shape().broadcast(shape).is_ok_and(|s| s == *shape)).collect();
        fitting[random.below(fitting.len())].broadcast_to(*shape)
    };
    if depth == 0 {
        return operand(random).lt(operand(random));
    }
    let [left, right] = [0, 1].map(|_| truth_tree(random, pool, shape, depth - 1));
    if random.below(2) == 0 { left.and(&right) } else { left.or(&right) }
}

fn close(got: &Array, expected: &Array) -> bool {
    // Both sides compute in f64; sums and exponentials differ in order only.
    let scale =
        expected.to_f64().iter().fold(1.0, |m: f64, v| if v.is_finite() { m.max(v.abs()) } else { m });
    got.to_f64()
        .iter()
        .zip(expected.to_f64())
        .all(|(&g, e)| (g - e).abs() <= 1e-9 * scale || g == e || g.is_nan() && e.is_nan())
}

/// Inputs of several shapes with values.
fn inputs(random: &mut Random) -> (Vec<Tensor>, HashMap<u64, Array>, Reference) {
    let mut given = HashMap::new();
    let mut reference = Reference::rounded();
    let mut pool = Vec::new();
    for shape in [vec![3, 4], vec![4], vec![4, 3], vec![2, 3, 4], vec![], vec![1, 4]] {
        let (input, array) = (Tensor::input("x", shape.clone(), DType::F32), random.array(&shape));
        let Op::Input(token) = &input.node().unwrap().op else { unreachable!() };
        let rounded: Vec<f64> = array.to_f32().into_iter().map(f64::from).collect();
        given.insert(token.id, Array::new(Values::Float(rounded), shape).unwrap());
        reference = reference.bind(&input, given[&token.id].clone()).unwrap();
        pool.push(input);
    }
    (pool, given, reference)
}

fn check(seed: u64, options: &PlanOptions, steps: usize) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut pool, given, reference) = inputs(&mut random);
    grow(&mut random, &mut pool, steps);
    let outputs: Vec<Tensor> =
        (0..4).map(|_| pool[pool.len() - 1 - random.below(pool.len().min(10))].clone()).collect();
    let nodes: Vec<_> = outputs.iter().map(|t| t.node().unwrap().clone()).collect();
    let plan = plan(&nodes, &[], options).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let text: String = plan.kernels.iter().map(|k| format!("{k}\n")).collect();
    for kernel in &plan.kernels {
        assert!(kernel.bindings.len() <= options.max_storage_buffers, "seed {seed}: {kernel}");
    }
    let (values, _) = interpreter::interpret(&plan, &given);
    let expected = reference.evaluate(&outputs.iter().collect::<Vec<_>>()).unwrap();
    for (position, (got, want)) in values.iter().zip(&expected).enumerate() {
        assert!(close(got, want), "seed {seed}, output {position}:\n got {got:?}\nwant {want:?}\n{text}");
    }
    values.len()
}

#[test]
fn plans_compute_what_graphs_mean() {
    let compared: usize =
        (0..3000).map(|seed| check(seed, &PlanOptions::cpu(), 5 + seed as usize % 40)).sum();
    assert_eq!(compared, 12_000);
}

#[test]
fn few_bindings_and_no_fusion_change_nothing() {
    let tight = PlanOptions { max_storage_buffers: 4, max_nodes: 6, ..PlanOptions::cpu() };
    let unfused = PlanOptions { fuse: false, ..PlanOptions::cpu() };
    let compared: usize = (0..150).map(|seed| check(seed, &tight, 25) + check(seed, &unfused, 25)).sum();
    assert_eq!(compared, 1200);
}

/// New values of variables are computed from the old ones, whichever of them are written in place.
#[test]
fn updates_use_the_old_values() {
    let mut compared = 0;
    for seed in 0..400 {
        let mut random = Random(u64::wrapping_mul(seed, 0x2545_F491_4F6C_DD1D) | 1);
        let mut given = HashMap::new();
        let mut reference = Reference::rounded();
        let mut variables = Vec::new();
        for name in ["a", "b", "c"] {
            let token = cotangent_tensor::Token::new(name, 1);
            let variable =
                Tensor::variable(token.clone(), Array::from([0.0; 12]).shape().to_owned(), DType::F32);
            let values: Vec<f64> = random.array(&[12]).to_f32().into_iter().map(f64::from).collect();
            given.insert(token.id, Array::new(Values::Float(values), [12]).unwrap());
            reference = reference.bind(&variable, given[&token.id].clone()).unwrap();
            variables.push((token.id, variable));
        }
        let mut pool: Vec<Tensor> = variables.iter().map(|(_, v)| v.clone()).collect();
        pool.push(variables[0].1.slice(0, 2, 6, 1).reshape([2, 2]));
        pool.push(variables[1].1.reshape([3, 4]));
        grow(&mut random, &mut pool, 12);
        let candidates: Vec<Tensor> =
            pool.iter().filter(|t| t.shape().elements() == 12).map(|t| t.reshape([12])).collect();
        let updates: Vec<(Tensor, Tensor)> = variables
            .iter()
            .map(|(_, v)| (v.clone(), candidates[random.below(candidates.len())].clone()))
            .collect();
        let output = pool[pool.len() - 1].clone();
        let node = |t: &Tensor| t.node().unwrap().clone();
        let pairs: Vec<_> = updates.iter().map(|(v, n)| (node(v), node(n))).collect();
        let plan = plan(&[node(&output)], &pairs, &PlanOptions::cpu())
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (values, after) = interpreter::interpret(&plan, &given);
        let text: String = plan.kernels.iter().map(|k| format!("{k}\n")).collect();
        let expected = reference.evaluate(&[&output, &updates[0].1, &updates[1].1, &updates[2].1]).unwrap();
        assert!(close(&values[0], &expected[0]), "seed {seed}: output\n{text}");
        for (position, (id, _)) in variables.iter().enumerate() {
            // A variable that is its own new value need not occur in the plan.
            let got = after.get(id).cloned().unwrap_or_else(|| given[id].to_f64());
            let got = Array::new(Values::Float(got), [12]).unwrap();
            assert!(
                close(&got, &expected[position + 1]),
                "seed {seed}, variable {position}:\n{got:?}\n{:?}\n{text}",
                expected[position + 1]
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 1200);
}

/// The graphs of `outputs`, of which all but the `forward` nodes belong to a derivative.
fn as_derivative(outputs: &[Tensor], forward: &[Tensor]) -> Vec<Arc<Node>> {
    let roots = |tensors: &[Tensor]| tensors.iter().map(|t| t.node().unwrap().clone()).collect::<Vec<_>>();
    let forward: HashSet<*const Node> = topological(&roots(forward)).iter().map(Node::key).collect();
    let mut images: HashMap<*const Node, Arc<Node>> = HashMap::new();
    for node in topological(&roots(outputs)) {
        let mut image = node.clone();
        if !forward.contains(&node.key()) {
            image = node.with_operands(node.operands.iter().map(|o| images[&o.key()].clone()).collect());
            Arc::get_mut(&mut image).unwrap().origin.order = 1;
        }
        images.insert(node.key(), image);
    }
    roots(outputs).iter().map(|root| images[&root.key()].clone()).collect()
}

/// What is computed again has the same value, whatever is given up.
#[test]
fn computing_again_changes_no_value() {
    let (mut compared, mut changed) = (0, 0);
    for seed in 0..3000 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15) | 1);
        let (mut pool, given, reference) = inputs(&mut random);
        grow(&mut random, &mut pool, 25);
        let forward = pool.clone();
        grow(&mut random, &mut pool, 25);
        let outputs: Vec<Tensor> = (0..3).map(|_| pool[pool.len() - 1 - random.below(15)].clone()).collect();
        let nodes = as_derivative(&outputs, &forward);
        let expected = reference.evaluate(&outputs.iter().collect::<Vec<_>>()).unwrap();
        let segments = 2 + random.below(4);
        let again = computing_again(nodes, segments, 1 + random.below(segments - 1));
        changed += usize::from(topological(&again).iter().any(|node| matches!(node.op, Op::After)));
        let found = plan(&again, &[], &PlanOptions::cpu()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (values, _) = interpreter::interpret(&found, &given);
        for (position, (got, want)) in values.iter().zip(&expected).enumerate() {
            assert!(close(got, want), "seed {seed}, output {position}:\n got {got:?}\nwant {want:?}");
            compared += 1;
        }
    }
    assert!(
        changed >= 400 && compared == 9000,
        "{changed} graphs compute something again, {compared} outputs"
    );
}
