use cotangent_device::*;
use cotangent_tensor::*;
use std::time::Instant;
#[test]
fn time() {
    for device in [Device::cpu(), Device::software().unwrap()] {
        let w = device.variable("w", &[0.0; 4]).unwrap();
        let x = Tensor::input("x", [4], DType::F32);
        let d = w.tensor() - &x;
        let u = w.tensor() - &d * 0.5;
        let step = Step::new(&device, &[&x], &[&d], &[(&w, &u)]).unwrap();
        for _ in 0..3 {
            let t = Instant::now();
            for _ in 0..2000 {
                step.run(&[(&x, &[1.0f32; 4])]).unwrap();
            }
            println!("{} run {:?}", device.name(), t.elapsed() / 2000);
            let t = Instant::now();
            for _ in 0..200 {
                device.read(&(w.tensor() + 1.0)).unwrap();
            }
            println!("read {:?}", t.elapsed() / 200);
        }
    }
    let t = Instant::now();
    let d = Device::software().unwrap();
    println!("open {:?}", t.elapsed());
    println!("{}", d.info());
    let a = Tensor::input("a", [1 << 22], DType::F32);
    let y = (&a - 0.5f64).abs();
    let loss = (y.sigmoid() * &y).mean(..);
    for device in [Device::cpu(), d] {
        let step = Step::new(&device, &[&a], &[&loss], &[]).unwrap();
        let data = vec![0.3f32; 1 << 22];
        for _ in 0..3 {
            println!("{}", step.profile(&[(&a, &data)]).unwrap());
            let t = Instant::now();
            step.run(&[(&a, &data)]).unwrap();
            println!("run {:?}", t.elapsed());
        }
        println!("{}", step.explain());
    }
}
