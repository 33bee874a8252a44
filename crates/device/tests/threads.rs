//! Steps and reads from several threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::devices;
use cotangent_device::{Device, Step};
use cotangent_tensor::Tensor;
use rayon::prelude::*;

/// Fails instead of waiting for ever.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let thread = std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(Duration::from_secs(120)) {
        Ok(()) => thread.join().unwrap(),
        Err(_) if thread.is_finished() => std::panic::resume_unwind(thread.join().unwrap_err()),
        Err(_) => panic!("it hangs"),
    }
}

#[test]
fn runs_within_a_pool_of_rayon_do_not_wait_for_themselves() {
    in_time(|| {
        let device = Device::cpu();
        let n = 1 << 20;
        let w = device.variable("w", &Tensor::ones([n])).unwrap();
        let square = device.variable("square", &(Tensor::ones([256, 256]) * 0.001)).unwrap();
        let tensors = [
            w.exp().sum(..),
            square.matmul(&square).sum(..),
            w.reshape([4, -1]).cumulative_sum(1, false).sum(..),
        ];
        let step = Step::new(&device, &[], &[&tensors[0]], &[(&square, &(square.tensor() + 0.0))]).unwrap();
        let expected: Vec<Vec<f32>> = tensors.iter().map(|t| device.read(t).unwrap().to_f32()).collect();
        let work = |number: usize| {
            let t = number % tensors.len();
            assert_eq!(device.read(&tensors[t]).unwrap().to_f32(), expected[t]);
            assert_eq!(step.run(&[]).unwrap().read(0).unwrap().to_f32(), expected[0]);
        };
        (0..12).into_par_iter().for_each(work);
        // A pool of one thread, and threads of no pool beside the workers of the global one.
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        one.install(|| (0..3).into_par_iter().for_each(work));
        std::thread::scope(|scope| {
            scope.spawn(|| (0..6).for_each(work));
            (0..6).into_par_iter().for_each(work);
        });
    });
}

#[test]
fn every_run_returns_the_values_that_it_wrote() {
    for device in devices() {
        let counter = device.variable("counter", &Tensor::zeros([64])).unwrap();
        let next = counter.tensor() + 1.0;
        let runs = if device.name() == "cpu" { 2000 } else { 100 };
        let count = || {
            let step = Step::new(&device, &[], &[&next], &[(&counter, &next)]).unwrap();
            (0..runs).map(|_| step.run(&[]).unwrap().read(0).unwrap().to_f32()[0]).collect::<Vec<_>>()
        };
        let mut seen: Vec<f32> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(count)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        seen.sort_by(f32::total_cmp);
        let expected: Vec<f32> = (1..=2 * runs).map(|value| value as f32).collect();
        assert_eq!(seen, expected, "{}", device.name());
    }
}

#[test]
fn a_wait_leaves_the_adapter_to_other_threads() {
    let device = common::software();
    let v = device.variable("v", &[0.0; 4]).unwrap();
    let x = device.variable("x", &(Tensor::ones([512, 512]) * 0.001)).unwrap();
    let product = (0..12).fold(x.tensor().clone(), |product, _| product.matmul(&x));
    let step = Step::new(&device, &[], &[&product.sum(..)], &[]).unwrap();
    // Other work on the machine, such as the tests beside this one, may delay many writes, not all of them.
    let overtakes = |_| {
        let under_way = step.launch(&[]).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                under_way.wait().unwrap();
                Instant::now()
            });
            std::thread::sleep(Duration::from_millis(5));
            device.write(&v, &[1.0; 4]).unwrap();
            let written = Instant::now();
            waiting.join().unwrap().saturating_duration_since(written) > Duration::from_millis(15)
        })
    };
    assert!((0..50).any(overtakes));
}
