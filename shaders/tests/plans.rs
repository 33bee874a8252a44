//! What fuses with what.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use cotangent_shaders::{Body, Code, PlanOptions, Schedule, Target, lower, plan};
use cotangent_tensor::{DType, Elementwise, Tensor, Token};

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

/// The operations of the only kernel, without loads.
fn operations(outputs: &[&Tensor]) -> Vec<Elementwise> {
    let plan = planned(outputs);
    assert_eq!(plan.kernels.len(), 1);
    let Body::Loop(body) = &plan.kernels[0].body else { panic!("a loop") };
    let row = |code: &Code| if let Code::Elementwise(row, _) = code { Some(*row) } else { None };
    body.code.iter().filter_map(|instruction| row(&instruction.code)).collect()
}

#[test]
fn signs_and_ones_cost_nothing_where_numbers_stay_the_same() {
    use Elementwise::{Abs, Add, Div, Exp, Mul, Neg, Sub};
    let [a, b, c] = ["a", "b", "c"].map(|name| Tensor::input(name, [1000], DType::F32));
    assert_eq!(operations(&[&(-(-a.exp()))]), [Exp]);
    assert_eq!(operations(&[&(&a + -&b)]), [Sub]);
    assert_eq!(operations(&[&(-&a + &b)]), [Sub]);
    assert_eq!(operations(&[&(&a - -&b)]), [Add]);
    assert_eq!(operations(&[&(a.exp() / 1.0)]), [Exp]);
    // the signs of both factors meet, and the one that is left is taken up by the sum
    assert_eq!(operations(&[&(-(&a * &b) * -(&b / &c))]), [Mul, Div, Mul]);
    assert_eq!(operations(&[&(&c + -(&a * &b) * &c)]), [Mul, Mul, Sub]);
    // a value that several products need keeps its sign; a value less itself is zero wherever it is finite
    assert_eq!(operations(&[&(-&a * &b)]), [Neg, Mul]);
    assert_eq!(operations(&[&(&a + -&a)]), [Abs, Mul]);
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

/// Plans and lowers for a target.
fn lowered(
    outputs: &[&Tensor],
    updates: &[(&Tensor, &Tensor)],
    target: &Target,
) -> Vec<Vec<cotangent_shaders::Dispatch>> {
    let node = |t: &Tensor| t.node().unwrap().clone();
    let nodes: Vec<_> = outputs.iter().map(|t| node(t)).collect();
    let updates: Vec<_> = updates.iter().map(|(v, n)| (node(v), node(n))).collect();
    let plan = plan(&nodes, &updates, &PlanOptions::for_target(target)).unwrap();
    plan.kernels
        .iter()
        .map(|kernel| lower(kernel, target, 0, None).unwrap_or_else(|e| panic!("{e}")))
        .collect()
}

#[test]
fn a_padded_part_may_be_an_output_too() {
    let (x, z) = (Tensor::input("x", [4], DType::F32), Tensor::input("z", [3], DType::F32));
    let p = x.exp().pad(0, 0, 4);
    let y = Tensor::concat(&[&p, &z], 0);
    let node = |t: &Tensor| t.node().unwrap().clone();
    let outputs = plan(&[node(&p), node(&y)], &[], &PlanOptions::cpu()).unwrap().outputs;
    assert_eq!(outputs.len(), 2);
    let v = Tensor::variable(Token::new("v", 1), *p.shape(), DType::F32);
    plan(&[node(&y)], &[(node(&v), node(&p))], &PlanOptions::cpu()).unwrap();
}

#[test]
fn deep_truth_values_stay_within_the_buffers_of_the_web() {
    let of = |name: &str| Tensor::input(name, [1000], DType::F32);
    let [a, b, c, d, e, f, g, h, x, y] = ["a", "b", "c", "d", "e", "f", "g", "h", "x", "y"].map(of);
    let (left, right) = (a.lt(&b).and(c.lt(&d)), e.lt(&f).and(g.lt(&h)));
    let either = left.or(&right);
    for result in [either.select(&x, &y), either.select(&x, &y).sum(..), either.cast(DType::F32)] {
        for dispatch in lowered(&[&result], &[], &Target::web()).concat() {
            assert!(dispatch.buffers.len() <= 8, "{} buffers", dispatch.buffers.len());
        }
    }
}

#[test]
fn long_sums_bind_status_and_scratch_within_the_limit() {
    let inputs: Vec<Tensor> =
        (0..12).map(|i| Tensor::input(&format!("x{i}"), [1 << 20], DType::F32)).collect();
    let index = Tensor::input("index", [1 << 20], DType::I32);
    let picked = Tensor::input("table", [100], DType::F32).gather(0, &index);
    let sum = inputs.iter().fold(picked, |sum, x| &sum * x);
    for dispatch in lowered(&[&sum.sum(..)], &[], &Target::web()).concat() {
        assert!(dispatch.buffers.len() <= 8, "{} buffers", dispatch.buffers.len());
    }
}

#[test]
fn few_long_rows_are_cut_into_many_workgroups() {
    let workgroups = |result: &Tensor| {
        let dispatches = lowered(&[result], &[], &Target::web()).concat();
        dispatches.iter().map(|d| d.workgroups.iter().product::<u32>()).max().unwrap()
    };
    let rows = |rows: usize, columns: usize| Tensor::input("x", [rows, columns], DType::F32);
    assert!(workgroups(&rows(16, 1 << 22).sum(-1)) >= 1000);
    assert!(workgroups(&rows(1, 1 << 24).softmax(-1)) >= 1000);
    assert!(workgroups(&rows(4, 1 << 20).logsumexp(-1)) >= 1000);
    assert_eq!(workgroups(&rows(4096, 1024).softmax(-1)), 4096);
}

#[test]
fn a_barrier_stands_before_what_others_may_still_load_is_overwritten() {
    let x = Tensor::input("x", [500, 1000], DType::F32);
    let m = Tensor::variable(Token::new("m", 1), cotangent_tensor::Shape::new(&[500]).unwrap(), DType::F32);
    let scaled = x.max_over(-1) * &m;
    let y = &x * &scaled.unsqueeze(-1);
    let dispatches = lowered(&[&y], &[(&m, &scaled)], &Target::web()).concat();
    assert_eq!(dispatches.len(), 1, "one kernel, in place");
    let text = &dispatches[0].wgsl;
    let barrier = text.find("storageBarrier();").expect("a barrier");
    let store = text[barrier..].find("if (t == 0u)").expect("one invocation stores");
    assert!(text[barrier..barrier + store].lines().count() <= 2, "{text}");
    // Nothing is overwritten here.
    let dispatches = lowered(&[&y, &scaled], &[], &Target::web()).concat();
    assert!(dispatches.iter().all(|d| !d.wgsl.contains("storageBarrier")));
}

#[test]
fn scattered_sums_are_recognized() {
    let scatter = |shape: &[usize], axis: isize, size: usize| {
        let index = Tensor::input("index", [shape[axis as usize]], DType::I32);
        let updates = Tensor::input("updates", shape.to_vec(), DType::F32);
        Tensor::scatter_add(&index, &updates, axis, size)
    };
    let results = [
        scatter(&[7], 0, 5),
        scatter(&[7, 3], 0, 5),
        scatter(&[3, 7], 1, 5) * 2.0 + 1.0,
        scatter(&[2, 7, 3], 1, 5).exp(),
    ];
    for result in results {
        let plan = planned(&[&result]);
        let Body::Loop(body) = &plan.kernels[0].body else { panic!("a loop") };
        let found = body.scatter().unwrap();
        assert_eq!((found.updates, body.kept[found.axis]), (7, 5));
    }
    let x = Tensor::input("x", [7, 3], DType::F32);
    let Body::Loop(body) = &planned(&[&x.sum(0)]).kernels[0].body.clone() else { panic!("a loop") };
    assert!(body.scatter().is_none());
}

#[test]
fn what_sets_memory_free_runs_as_soon_as_it_can() {
    let (x, w) = (Tensor::input("x", [256, 16], DType::F32), Tensor::input("w", [16, 16], DType::F32));
    // The end of a chain comes first, then something small of each link.
    let chain: Vec<Tensor> = std::iter::successors(Some(x), |y| Some(y.matmul(&w).tanh())).take(20).collect();
    let squares: Vec<Tensor> = chain.iter().map(|y| y.transpose().matmul(y)).collect();
    let end = chain[19].sum(..);
    let plan = planned(&std::iter::once(&end).chain(&squares).collect::<Vec<_>>());
    let (link, small) = (256 * 16 * 4, 16 * 16 * 4);
    assert!(plan.live_bytes() <= 3 * link + 21 * small, "{} bytes", plan.live_bytes());
}

#[test]
fn factors_of_derivatives_are_not_stored_beside_what_they_are_made_of() {
    let (x, w) = (Tensor::input("x", [256, 16], DType::F32), Tensor::input("w", [16, 16], DType::F32));
    // As derivatives are made: of the first order.
    let of_derivative = |t: Tensor| {
        let node = t.node().unwrap();
        let mut made = node.with_operands(node.operands.clone());
        std::sync::Arc::get_mut(&mut made).unwrap().origin.order = 1;
        Tensor::from_node(made)
    };
    let y = x.matmul(&w).tanh();
    let upstream = of_derivative(y.matmul(&w) * 2.0);
    let slope = of_derivative(of_derivative(1.0 - &y) * of_derivative(1.0 + &y));
    let back = of_derivative(upstream.matmul(&w.transpose()) * slope);
    let plan = planned(&[&back, &y.transpose().matmul(&upstream)]);
    // The activation, two cotangents, and the gradient of a weight.
    let computed: Vec<usize> = plan.slots.iter().map(|slot| slot.bytes).collect();
    assert_eq!(computed.iter().sum::<usize>(), 3 * 256 * 16 * 4 + 16 * 16 * 4, "{computed:?}");
}

#[test]
fn values_that_nobody_else_reads_in_the_end_take_no_buffers() {
    let x = Tensor::input("x", [1000], DType::F32);
    let terms: Vec<Tensor> = (0..12).map(|shift| (&x + f64::from(shift)).sin()).collect();
    let of = |start: Tensor, factor: &Tensor| terms.iter().fold(start, |sum, term| sum + term * factor);
    let mean = of(Tensor::zeros([1000]), &x);
    let last = of(mean.clone(), &mean);
    let kernels = |outputs: &[&Tensor]| {
        let nodes: Vec<_> = outputs.iter().map(|t| t.node().unwrap().clone()).collect();
        let options = PlanOptions { max_storage_buffers: 4, ..PlanOptions::cpu() };
        let plan = plan(&nodes, &[], &options).unwrap();
        assert!(plan.kernels.iter().all(|kernel| kernel.bindings.len() <= 4));
        plan.kernels.len()
    };
    assert_eq!(kernels(&[&last]), 1, "one operand, one result");
    let five: Vec<&Tensor> = terms[..5].iter().chain([&last]).collect();
    assert!(kernels(&five) > 1, "six results do not fit four buffers");
}
