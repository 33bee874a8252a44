//! What fuses with what.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use cotangent_shaders::{Body, PlanOptions, Schedule, plan};
use cotangent_tensor::{DType, Tensor};

fn planned(outputs: &[&Tensor]) -> cotangent_shaders::Plan {
    let nodes: Vec<_> = outputs.iter().map(|t| t.node().unwrap().clone()).collect();
    let plan = plan(&nodes, &[], &PlanOptions::cpu()).unwrap();
    for kernel in &plan.kernels {
        println!("{kernel}");
    }
    plan
}

#[test]
fn a_loss_is_one_kernel() {
    let (p, y) = (Tensor::input("p", [1 << 20], DType::F32), Tensor::input("y", [1 << 20], DType::F32));
    let d = (&p - &y).abs();
    let loss = (d.sigmoid() * &d).mean(..);
    let plan = planned(&[&loss, &d]);
    assert_eq!(plan.kernels.len(), 1, "value and gradient come out of one kernel");
    let Body::Loop(body) = &plan.kernels[0].body else { panic!("a loop") };
    assert_eq!(body.schedule, Schedule::Total);
}

#[test]
fn softmax_and_cross_entropy_share_a_row_kernel() {
    let x = Tensor::input("x", [64, 100], DType::F32);
    let labels = Tensor::input("labels", [64], DType::I32);
    let loss = x.cross_entropy(&labels);
    let gradient = x.softmax_residual(&labels) * (1.0 / 64.0);
    let plan = planned(&[&loss, &gradient]);
    assert_eq!(plan.kernels.len(), 1);
}

#[test]
fn layer_norm_is_one_kernel() {
    let x = Tensor::input("x", [64, 100], DType::F32);
    let d = &x - x.mean(-1).unsqueeze(-1);
    let variance = (&d * &d).mean(-1).unsqueeze(-1);
    let y = d / (variance + 1e-5).sqrt();
    let plan = planned(&[&y]);
    assert_eq!(plan.kernels.len(), 1);
}

#[test]
fn bias_and_relu_are_the_epilogue_of_a_product() {
    let (x, w, b) = (
        Tensor::input("x", [32, 20], DType::F32),
        Tensor::input("w", [20, 10], DType::F32),
        Tensor::input("b", [10], DType::F32),
    );
    let h = (x.matmul(&w) + &b).relu();
    let back = x.transpose().matmul(&h);
    let plan = planned(&[&h, &back, &h.sum(0)]);
    assert_eq!(plan.kernels.len(), 3);
}

#[test]
fn parts_are_computed_into_their_place() {
    let x = Tensor::input("x", [3, 4], DType::F32);
    let y = Tensor::concat(&[&x.exp().reshape([12]).pad(0, 0, 4), &x.sum(0)], 0);
    let plan = planned(&[&(&y * 2.0)]);
    assert_eq!(plan.kernels.len(), 2, "both parts come out of one kernel");
}

#[test]
fn views_that_cannot_be_addressed_are_copied_once() {
    let x = Tensor::input("x", [3, 4], DType::F32);
    let y = x.transpose().reshape([12]).exp();
    let z = x.flip(1).slice(0, 1, 3, 1).reshape([8]).tanh();
    let plan = planned(&[&y, &z]);
    assert!(plan.kernels.len() <= 4);
}
