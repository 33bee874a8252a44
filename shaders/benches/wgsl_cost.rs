//! What a loss written in WGSL costs before it runs: the least time of each step from its text to the texts of kernels.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use cotangent_autograd::grad;
use cotangent_shaders::{PlanOptions, Target, lower, plan};
use cotangent_tensor::{DType, Tensor};
use cotangent_wgsl::Module;

const LOSS: &str = include_str!("../../examples/losses.wgsl");
const ROUNDS: usize = 200;

fn main() {
    // as adapters of desktops have them
    let target = Target { max_storage_buffers: 64, ..Target::web() };
    let names = ["eta", "y", "alpha", "edge"];
    let mut least = [f64::INFINITY; 6];
    let (mut kernels, mut bytes) = (0, 0);
    for _ in 0..ROUNDS {
        let mut start = Instant::now();
        let mut spent = [0.0; 6];
        let mut lap = |step: usize| {
            spent[step] = start.elapsed().as_secs_f64() * 1e3;
            start = Instant::now();
        };
        let module = Module::parse("losses.wgsl", LOSS).unwrap();
        lap(0);
        let function = module.function("robust").unwrap();
        lap(1);
        let [eta, y, alpha, edge] = names.map(|name| Tensor::input(name, [1000], DType::F32));
        let loss = function.call(&[&eta, &y, &alpha, &edge]).sum(..);
        lap(2);
        let gradients = grad(&loss, [&eta, &y, &alpha, &edge]).unwrap();
        lap(3);
        let wanted: Vec<Tensor> = gradients.iter().map(|gradient| gradient.or_zero()).chain([loss]).collect();
        let wanted: Vec<_> = wanted.iter().map(|tensor| tensor.node().unwrap().clone()).collect();
        let plan = plan(&wanted, &[], &PlanOptions::for_target(&target)).unwrap();
        lap(4);
        let texts: Vec<_> =
            plan.kernels.iter().flat_map(|kernel| lower(kernel, &target, 0, None).unwrap()).collect();
        lap(5);
        (kernels, bytes) = (texts.len(), texts.iter().map(|text| text.wgsl.len()).sum());
        for (least, spent) in least.iter_mut().zip(spent) {
            *least = least.min(spent);
        }
    }
    println!("a loss of {} bytes with four gradients: {kernels} kernels, {bytes} bytes", LOSS.len());
    for (step, ms) in ["parse", "function", "call", "gradient", "plan", "emit"].iter().zip(least) {
        println!("{step:>9} {ms:.3} ms");
    }
    println!("{:>9} {:.3} ms", "total", least.iter().sum::<f64>());
}
