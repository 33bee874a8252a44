//! Every structural operation, at first and second order, against independent witnesses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use cotangent_tensor::{Op, Tensor, topological};
use support::cases::cases;
use support::{Compared, Noise, witness};

/// The operations that a float can pass through, by an exhaustive match: a new one must be listed.
fn differentiable(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Leaf(_) | Op::Constant(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => return None,
        Op::Iota { .. } | Op::RandomBits(_) | Op::Integer(_) | Op::ArgReduce { .. } => return None,
        Op::Elementwise(_) => "elementwise",
        Op::Cast => "cast",
        Op::While(..) => "while",
        Op::Reshape => "reshape",
        Op::Permute(_) => "permute",
        Op::Broadcast => "broadcast",
        Op::Slice { .. } => "slice",
        Op::Pad { .. } => "pad",
        Op::Concat(_) => "concat",
        Op::Reduce { kind, .. } => kind.name(),
        Op::CumulativeSum { .. } => "cumulative_sum",
        Op::Matmul => "matmul",
        Op::Gather(_) => "gather",
        Op::ScatterAdd(_) => "scatter_add",
        Op::LogSumExp => "logsumexp",
        Op::Softmax => "softmax",
        Op::CrossEntropy => "cross_entropy",
        Op::SoftmaxResidual => "softmax_residual",
        Op::Detach => "detach",
        Op::Inspect(_) => "inspect",
        Op::After => "after",
        // Nobody differentiates or batches the text of a kernel.
        Op::Kernel(_) => return None,
        Op::Rule(_) => "rule",
        Op::Project(_) => "project",
    })
}
const DIFFERENTIABLE: usize = 26;

#[test]
fn every_structural_operation_agrees_with_its_witnesses() {
    let mut compared = Compared::default();
    let (mut seen, mut mid_graph) = (BTreeSet::new(), 0);
    let cases = cases(&mut Noise(5));
    for (name, inputs, function) in &cases {
        let points: Vec<Tensor> = inputs.iter().map(|a| Tensor::new(a.clone())).collect();
        let output = function(&points);
        let node = output.node().unwrap_or_else(|e| panic!("{name}: {e}"));
        seen.extend(topological([node]).iter().filter_map(|n| differentiable(&n.op)));
        mid_graph += support::mid_graph(name, function.as_ref(), inputs);
        for seed in 0..2 {
            compared += witness(name, function.as_ref(), inputs, seed).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    println!("{} cases, {compared:?}, {mid_graph} gradients in the middle of a graph", cases.len());
    assert_eq!(2 * mid_graph, compared.first);
    assert_eq!(seen.len(), DIFFERENTIABLE, "{seen:?}");
    assert_eq!(compared.pairings, 8 * cases.len());
    assert!(compared.first >= 800 && compared.second >= 800, "{compared:?}");
}
