//! Leaves, inputs and variables.

use super::*;

/// `w ← w − x`, with a variable, an input, and a leaf added.
fn update_plan(n: usize) -> (cotangent_shaders::Plan, Arc<Token>) {
    let mut k = Sketch::new(Schedule::Map, &[n], &[]);
    let w_at = k.bind(Access::ReadWrite, DType::F32, n);
    let (x, c) = (k.input(DType::F32, 0, &[1]), k.input(DType::F32, 0, &[1]));
    let w = k.load(w_at, 0, &[1]);
    let difference = k.apply(E::Sub, &[w, x]);
    let sum = k.apply(E::Add, &[difference, c]);
    k.store(w_at, sum, 0, &[1]);
    let mut plan = k.plan();
    let token = Token::new("w", 1);
    plan.buffers[w_at].source = Source::Variable(token.clone());
    plan.buffers[2].source = Source::Leaf(Arc::new(Array::from(vec![10f32; n])));
    (plan, token)
}

#[test]
fn variables_live_across_runs_and_steps() {
    let n = 5;
    let (plan, token) = update_plan(n);
    let variable = Arc::new(Mutex::new(pack(&Array::from(vec![100f32; n]))));
    let new = || {
        Buffers::new(
            &plan,
            |leaf| Arc::new(pack(leaf)),
            |asked| {
                assert_eq!(asked.id, token.id);
                Ok(variable.clone())
            },
        )
    };
    let executable = Executable::compile(&plan).unwrap();
    let (mut first, mut second) = (new().unwrap(), new().unwrap());
    let x = Array::from(vec![1f32, 2.0, 3.0, 4.0, 5.0]);
    for buffers in [&mut first, &mut second] {
        buffers.write(1, &x).unwrap();
        executable.run(buffers).unwrap();
    }
    let right: Vec<f64> = (1..=5).map(|i| 120.0 - 2.0 * f64::from(i)).collect();
    let shape = Shape::new(&[n]).unwrap();
    assert_eq!(first.read(0, 0, shape).unwrap().to_f64(), right);
    assert_eq!(second.read(0, 0, shape).unwrap().to_f64(), right);
    assert_eq!(first.read(0, 3, Shape::new(&[2]).unwrap()).unwrap().to_f64(), right[3..]);
    assert_eq!(*variable.lock().unwrap(), floats(&right.iter().map(|&x| x as f32).collect::<Vec<_>>()));
    let wrong = Array::from(vec![1f32; 4]);
    assert_eq!(first.write(1, &wrong).unwrap_err().code(), ErrorCode::ShapeChanged);
    let wrong = Array::from(vec![1i32; 5]);
    assert_eq!(first.write(1, &wrong).unwrap_err().code(), ErrorCode::ShapeChanged);
}

#[test]
fn a_variable_survives_an_error() {
    let mut k = Sketch::new(Schedule::Map, &[3], &[]);
    let w_at = k.bind(Access::ReadWrite, DType::F32, 3);
    let indices = k.bind(Access::Read, DType::I32, 3);
    let index = k.load(indices, 0, &[1]);
    let table = k.bind(Access::Read, DType::F32, 4);
    let at = Affine { offset: 0, strides: vec![0] };
    let code =
        Code::LoadIndexed { binding: table, at, index, stride: 1, size: 4, guard: None, operation: "gather" };
    let found = k.kept(code, DType::F32);
    let w = k.load(w_at, 0, &[1]);
    let sum = k.apply(E::Add, &[w, found]);
    k.store(w_at, sum, 0, &[1]);
    let mut plan = k.plan();
    plan.buffers[w_at].source = Source::Variable(Token::new("w", 1));
    let variable = Arc::new(Mutex::new(words(DType::F32, 3, 1)));
    let executable = Executable::compile(&plan).unwrap();
    let mut buffers = Buffers::new(&plan, |leaf| Arc::new(pack(leaf)), |_| Ok(variable.clone())).unwrap();
    buffers.write(indices, &Array::from(vec![0i32, 9, 1])).unwrap();
    assert_eq!(executable.run(&mut buffers).unwrap_err().code(), ErrorCode::Index);
    assert_eq!(variable.lock().unwrap().len(), 3);
    buffers.write(indices, &Array::from(vec![0i32, 3, 1])).unwrap();
    executable.run(&mut buffers).unwrap();
}
