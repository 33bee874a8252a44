//! One dispatch that asks an adapter how it computes.

use std::sync::Arc;

use cotangent_shaders::Cost;
use cotangent_tensor::Error;

use super::Gpu;
use super::batch::{Batch, Bound, Spec};
use crate::info::{FACTORS, Probe};

/// Turns of the counting loop.
const TURNS: u32 = 200_000;
/// Words of the answer.
const ANSWERS: usize = 64;

/// Operands come from the uniform buffer, so that no compiler can fold what is asked.
const WGSL: &str = r"
@group(0) @binding(0) var<uniform> given: array<vec4<u32>, 8>;
@group(0) @binding(1) var<storage, read_write> answer: array<u32>;
fn word(i: u32) -> u32 { return given[i / 4u][i % 4u]; }
fn number(i: u32) -> f32 { return bitcast<f32>(word(i)); }
fn tell(i: u32, x: f32) { answer[i] = bitcast<u32>(x); }
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>/*SUBGROUP*/) {
    if (id.x != 0u) { return; }
    let z = word(0u); let turns = word(1u);
    let nan = number(2u); let zero = number(3u); let one = number(4u); let two = number(5u); let three = number(6u);
    let hundred = number(7u); let denormal = number(8u); let tiny = number(9u); let a = number(10u); let b = number(11u);
    tell(1u, denormal + denormal);
    tell(2u, denormal * two);
    let product = a * b;
    tell(3u, fma(a, b, -bitcast<f32>(bitcast<u32>(product) ^ z)));
    tell(4u, max(nan, one)); tell(5u, max(one, nan));
    tell(6u, min(nan, one)); tell(7u, min(one, nan));
    tell(8u, clamp(nan, -one, one));
    answer[9] = select(0u, 1u, nan != nan);
    let sum = one + tiny;
    tell(10u, sum - one);
    let kept = bitcast<f32>(bitcast<u32>(one + tiny) ^ z);
    tell(11u, kept - one);
    tell(12u, pow(zero, zero));
    tell(13u, tanh(hundred));
    tell(14u, atan2(zero, zero));
    tell(15u, one / three);
    tell(16u, sqrt(two));
    tell(17u, one + number(12u));
    answer[18] = /*SIZE*/;
/*PRODUCTS*/
    var count = 0u;
    for (var i = 0u; i < turns; i++) { count += word(13u); }
    answer[0] = count;
}
";

/// Asks.
pub(crate) fn run(gpu: &Gpu, subgroups: bool) -> Result<Probe, Error> {
    let mut given = [0u32; 32];
    let numbers = [f32::NAN, 0.0, 1.0, 2.0, 3.0, 100.0, f32::from_bits(71), f32::EPSILON / 8.0, 1.1, 1.3];
    given[1] = TURNS;
    for (word, number) in given[2..].iter_mut().zip(numbers) {
        *word = number.to_bits();
    }
    given[12] = (0.75 * f32::EPSILON).to_bits();
    given[13] = 1;
    for (word, factor) in given[16..].iter_mut().zip(FACTORS) {
        *word = factor.to_bits();
    }
    let (parameter, size) =
        if subgroups { (", @builtin(subgroup_size) size: u32", "size") } else { ("", "0u") };
    // No loop but the counting one: the budget is for all loops together. One word per factor: the sum of the bit patterns,
    // each with its own odd factor, tells eight products apart.
    let product =
        |i, k: u32| format!("bitcast<u32>(number({}u) * number({}u)) * {}u", 16 + i, 16 + k, 2 * k + 1);
    let sum = |i| (0..8).map(|k| product(i, k)).collect::<Vec<_>>().join(" + ");
    let products: String = (0..8).map(|i| format!("    answer[{}] = {};\n", 20 + i, sum(i))).collect();
    let wgsl =
        WGSL.replace("/*SUBGROUP*/", parameter).replace("/*SIZE*/", size).replace("/*PRODUCTS*/", &products);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let answers = Arc::new(gpu.storage("probe", ANSWERS, usage)?);
    let spec = Spec {
        kernel: 0,
        label: "probe".to_owned(),
        wgsl: wgsl.into(),
        entry: None,
        parameters: given.to_vec(),
        buffers: vec![Bound { storage: answers.clone(), first: 0, words: ANSWERS, writable: true }],
        workgroups: [1, 1, 1],
        cost: Cost::default(),
    };
    Batch::new(gpu, vec![spec])?.run(gpu, "probe")?;
    Ok(understand(&gpu.download(&answers, 0, ANSWERS)?))
}

fn understand(answers: &[u32]) -> Probe {
    let number = |i: usize| f32::from_bits(answers[i]);
    let is_nan = |i: usize| answers[i] & 0x7fff_ffff > 0x7f80_0000;
    let products = FACTORS.iter().enumerate().all(|(i, a)| {
        let sum = FACTORS
            .iter()
            .zip(0u32..)
            .fold(0u32, |sum, (b, k)| sum.wrapping_add((a * b).to_bits().wrapping_mul(2 * k + 1)));
        sum == answers[20 + i]
    });
    Probe {
        loop_budget: (answers[0] < TURNS).then_some(answers[0]),
        denormals: answers[1] == 142 && answers[2] == 142,
        fma_fused: answers[3] & 0x7fff_ffff != 0,
        nan_passes: [is_nan(4) && is_nan(5), is_nan(6) && is_nan(7), is_nan(8)],
        nan_differs: answers[9] == 1,
        reassociates: answers[10] & 0x7fff_ffff != 0,
        barrier_holds: answers[11] & 0x7fff_ffff == 0,
        nearest: products && number(17).to_bits() == (1.0 + f32::EPSILON).to_bits(),
        pow_0_0: number(12),
        tanh_100: number(13),
        atan2_0_0: number(14),
        third: number(15),
        sqrt_2: number(16),
        subgroup: (answers[18] != 0).then_some(answers[18]),
    }
}
