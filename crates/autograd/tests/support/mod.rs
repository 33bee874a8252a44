//! What the tests share: reproducible numbers, the reference, and the comparison of one function with its witnesses.

#![allow(dead_code, reason = "every test binary uses a part of it")]

pub(crate) mod cases;
pub(crate) mod check;

use cotangent_autograd::check::{finite_differences, transposition};
use cotangent_autograd::{Gradient, grad, hvp, jvp, vjp};
use cotangent_tensor::{Array, Code, Error, Evaluate, Reference, Tensor};

/// Values of a tensor on the reference.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    Reference::new().evaluate(&[tensor]).unwrap_or_else(|e| panic!("{e}"))[0].to_f64()
}

/// The one value of a tensor.
pub(crate) fn value(tensor: &Tensor) -> f64 {
    let all = values(tensor);
    assert_eq!(all.len(), 1, "a scalar was expected, not {all:?}");
    all[0]
}

/// Values of a gradient that must exist.
pub(crate) fn gradient(gradient: &Gradient) -> Vec<f64> {
    values(&gradient.or_error().unwrap_or_else(|e| panic!("{e}")))
}

/// Ten digits, as CONFORMANCE.md prints them.
#[track_caller]
pub(crate) fn assert_digits(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{got:?} against {expected:?}");
    for (position, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = g.to_bits() == e.to_bits() || (g - e).abs() <= 5e-10 * e.abs() || g == e;
        assert!(same, "element {position}: got {g:?}, expected {e:?} (all: {got:?})");
    }
}

/// Whether two numbers agree up to the rounding of a few dozen operations on numbers of that `size`.
pub(crate) fn same(a: f64, b: f64, size: f64) -> bool {
    (a - b).abs() <= 256.0 * f64::EPSILON * (size + a.abs() + b.abs()) || a.to_bits() == b.to_bits()
}

/// SplitMix64: the same numbers in every run.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub(crate) fn array(&mut self, shape: &[usize], low: f64, high: f64) -> Array {
        let n: usize = shape.iter().product();
        Array::new((0..n).map(|_| self.uniform(low, high)).collect::<Vec<f64>>(), shape).unwrap()
    }
    pub(crate) fn signs(&mut self, shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        let sign = |w: u64| if w & 1 == 0 { 1.0 } else { -1.0 };
        Array::new((0..n).map(|_| sign(self.word())).collect::<Vec<f64>>(), shape).unwrap()
    }
}

/// How many numbers were compared, by kind of comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) pairings: usize,
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl std::ops::AddAssign for Compared {
    fn add_assign(&mut self, other: Compared) {
        self.pairings += other.pairings;
        self.first += other.first;
        self.second += other.second;
    }
}

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

/// Compares reverse mode with forward mode and with differences, at first and second order. `Err` names the first
/// disagreement.
pub(crate) fn witness(
    name: &str,
    function: Function,
    inputs: &[Array],
    seed: u64,
) -> Result<Compared, String> {
    let reference = Reference::new();
    let mut noise = Noise(seed);
    let fail = |what: &str, error: Error| format!("{name}, seed {seed}, {what}: {error}");
    let points: Vec<Tensor> = inputs.iter().map(|a| Tensor::new(a.clone())).collect();
    let output = function(&points);
    let shape = output.node().map_err(|e| fail("value", e))?.shape.to_vec();
    let mut compared = Compared::default();
    for round in 0..4 {
        let draw = |noise: &mut Noise, shape: &[usize]| {
            if round % 2 == 0 { noise.signs(shape) } else { noise.array(shape, -1.5, 1.5) }
        };
        let tangents: Vec<Array> = inputs.iter().map(|a| draw(&mut noise, a.shape())).collect();
        let cotangent = draw(&mut noise, &shape);
        let pairing = transposition(function, inputs, &tangents, &cotangent, &reference)
            .map_err(|e| fail("transposition", e))?;
        if !pairing.agrees() {
            return Err(format!("{name}, seed {seed}: forward and reverse mode differ: {pairing:?}"));
        }
        compared.pairings += 1;
    }
    let weights = Tensor::new(noise.array(&shape, 0.5, 1.5));
    let scalar = |points: &[Tensor]| (function(points) * &weights).sum(..);
    compared.first += differences(&format!("{name}, seed {seed}, first order"), &scalar, inputs)?;
    // Second order: the slope along a fixed direction is a function like any other.
    let directions: Vec<Tensor> =
        inputs.iter().map(|a| Tensor::new(noise.array(a.shape(), -1.0, 1.0))).collect();
    let slope = |points: &[Tensor]| along(&scalar(points), points, &directions);
    match second(&scalar, &slope, &points, &directions) {
        Ok(()) => {}
        Err(error) if error.code() == Code::NoDerivative => return Ok(compared),
        Err(error) => return Err(fail("second order", error)),
    }
    compared.second += differences(&format!("{name}, seed {seed}, second order"), &slope, inputs)?;
    Ok(compared)
}

fn floats(points: &[Tensor]) -> Vec<&Tensor> {
    points.iter().filter(|p| p.dtype().is_float()).collect()
}

/// T33: the gradient of `2.5·f(x) + Σx²` is `2.5·∇f + 2x`; how many numbers were compared.
pub(crate) fn mid_graph(name: &str, function: Function, inputs: &[Array]) -> usize {
    let points: Vec<Tensor> = inputs.iter().map(|a| Tensor::new(a.clone())).collect();
    let of = |loss: &Tensor| grad(loss, floats(&points)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let alone = function(&points).sum(..);
    let squares = floats(&points).into_iter().map(|x| (x * x).sum(..)).reduce(|a, b| a + b);
    let mixed = &alone * 2.5 + squares.unwrap_or_else(|| Tensor::zeros([]));
    let mut compared = 0;
    for ((alone, mixed), x) in of(&alone).iter().zip(of(&mixed)).zip(floats(&points)) {
        let expected = alone.or_zero() * 2.5 + x * 2.0;
        for (got, expected) in gradient(&mixed).into_iter().zip(values(&expected)) {
            assert!(same(got, expected, 1.0), "{name}: {got} instead of {expected}");
            compared += 1;
        }
    }
    compared
}

/// `⟨∇loss, direction⟩` by reverse mode; what is no value counts as zero.
pub(crate) fn along(loss: &Tensor, points: &[Tensor], directions: &[Tensor]) -> Tensor {
    let gradients = match grad(loss, floats(points)) {
        Ok(gradients) => gradients,
        Err(error) => return Tensor::invalid(error),
    };
    let chosen = points.iter().zip(directions).filter(|(p, _)| p.dtype().is_float());
    let terms = gradients.iter().zip(chosen).map(|(g, (_, d))| (g.or_zero() * d).sum(..));
    terms.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([]))
}

/// Forward over reverse, reverse over reverse and forward over forward must agree along the direction.
fn second(scalar: Function, slope: Function, points: &[Tensor], directions: &[Tensor]) -> Result<(), Error> {
    let chosen: Vec<(&Tensor, &Tensor)> =
        points.iter().zip(directions).filter(|(p, _)| p.dtype().is_float()).collect();
    let loss = scalar(points);
    let first = jvp(&[&loss], &chosen)?.remove(0);
    let forward_forward = jvp(&[&first], &chosen)?.remove(0);
    let forward_reverse = hvp(&loss, floats(points), chosen.iter().map(|(_, d)| *d).collect::<Vec<_>>())?;
    let forward_reverse = forward_reverse.iter().zip(&chosen).map(|(h, (_, d))| (h * *d).sum(..));
    let forward_reverse = forward_reverse.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([]));
    let reverse_reverse = along(&slope(points), points, directions);
    let all = [&forward_forward, &forward_reverse, &reverse_reverse];
    let all: Vec<f64> = Reference::new().evaluate(&all)?.iter().map(|a| a.to_f64()[0]).collect();
    let size = all.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    assert!(
        all.iter().all(|v| same(*v, all[0], 16.0 * size)),
        "second order: forward over forward, forward over reverse, reverse over reverse: {all:?}"
    );
    Ok(())
}

/// Compares the gradient of a scalar function with differences; how many elements were compared.
pub(crate) fn differences(name: &str, function: Function, inputs: &[Array]) -> Result<usize, String> {
    let points: Vec<Tensor> = inputs.iter().map(|a| Tensor::new(a.clone())).collect();
    let loss = function(&points);
    let gradients =
        vjp(&[(&loss, &Tensor::ones([]))], floats(&points)).map_err(|e| format!("{name}: {e}"))?;
    let slopes =
        finite_differences(function, inputs, &Reference::new()).map_err(|e| format!("{name}: {e}"))?;
    let mut compared = 0;
    for (position, (gradient, slopes)) in gradients.iter().zip(slopes.iter().flatten()).enumerate() {
        let gradient = gradient.or_zero();
        let got = Reference::new().evaluate(&[&gradient]).map_err(|e| format!("{name}: {e}"))?[0].to_f64();
        for (element, (got, slope)) in got.iter().zip(slopes).enumerate() {
            if !slope.agrees(*got) {
                return Err(format!("{name}: input {position}, element {element}: got {got}, {slope:?}"));
            }
            compared += 1;
        }
    }
    Ok(compared)
}
