//! Small kernels of the device itself: they look at results, damage them on purpose, or measure the roof.

use std::sync::Arc;

use cotangent_shaders::Cost;

use super::batch::{Bound, Spec};
use crate::program::Checked;
use crate::storage::Storage;

const INDEX: &str = r"
@group(0) @binding(0) var<uniform> given: array<vec4<u32>, 1>;
fn index(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 { return (group.y * groups.x + group.x) * 64u + lane; }
";

/// Counts values that are not finite, and finds the first of them.
const SCAN: &str = r"
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> report: array<atomic<u32>>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if (i >= given[0].z) { return; }
    if ((values[given[0].y + i] & 0x7f800000u) != 0x7f800000u) { return; }
    atomicAdd(&report[2u * given[0].w], 1u);
    atomicMax(&report[2u * given[0].w + 1u], 0xffffffffu - i);
}
";

/// The same for values of 16 bits, two per word.
const SCAN_HALVES: &str = r"
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> report: array<atomic<u32>>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if (i >= given[0].z) { return; }
    let at = given[0].y + i;
    if (((values[at / 2u] >> (16u * (at % 2u))) & 0x7c00u) != 0x7c00u) { return; }
    atomicAdd(&report[2u * given[0].w], 1u);
    atomicMax(&report[2u * given[0].w + 1u], 0xffffffffu - i);
}
";

/// Flips bits of one word.
const FLIP: &str = r"
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) { values[given[0].y] = values[given[0].y] ^ given[0].z; }
}
";

/// Copies vectors of four words, 4 per invocation, straight-line: what an adapter does best.
const COPY: &str = r"
@group(0) @binding(1) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> copy: array<vec4<u32>>;
@compute @workgroup_size(/*LANES*/)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.y * groups.x + group.x) * 4u * /*LANES*/u + lane;
    if (i >= given[0].y) { return; }
    copy[i] = source[i];
    copy[i + /*LANES*/u] = source[i + /*LANES*/u];
    copy[i + 2u * /*LANES*/u] = source[i + 2u * /*LANES*/u];
    copy[i + 3u * /*LANES*/u] = source[i + 3u * /*LANES*/u];
}
";

/// Four independent chains of multiply and add, straight-line in rounds of eight.
const ARITHMETIC: &str = r"
@group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let m = vec4<f32>(bitcast<f32>(given[0].y)); let c = vec4<f32>(f32(lane));
    var p = c; var q = c + m; var r = c - m; var s = m;
    for (var k = 0u; k < given[0].z; k++) {
        p = p * m + c; q = q * m + c; r = r * m + c; s = s * m + c;
        p = p * m + c; q = q * m + c; r = r * m + c; s = s * m + c;
        p = p * m + c; q = q * m + c; r = r * m + c; s = s * m + c;
        p = p * m + c; q = q * m + c; r = r * m + c; s = s * m + c;
    }
    result[i] = p + q + r + s;
}
";

/// Invocations per workgroup of these kernels.
const LANES: usize = 64;

/// Workgroups for so many invocations, folded into two dimensions within `limit`.
fn fold(invocations: usize, limit: u32) -> [u32; 3] {
    let groups = u32::try_from(invocations.div_ceil(LANES)).unwrap_or(u32::MAX);
    let x = groups.min(limit);
    [x, if x == 0 { 0 } else { groups.div_ceil(x) }, 1]
}

fn spec(kernel: usize, label: String, wgsl: &str, parameters: [u32; 4], workgroups: [u32; 3]) -> Spec {
    let wgsl = format!("{INDEX}{wgsl}").into();
    Spec {
        kernel,
        label,
        wgsl,
        entry: None,
        parameters: parameters.to_vec(),
        buffers: Vec::new(),
        workgroups,
        cost: Cost::default(),
    }
}
fn whole(storage: &Arc<Storage>, writable: bool) -> Bound {
    Bound { storage: storage.clone(), first: 0, words: storage.words, writable }
}
fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Looks for elements that are not finite; answers in pair `slot` of `report`.
pub(crate) fn scan(
    check: &Checked,
    values: Bound,
    report: &Arc<Storage>,
    (slot, limit): (usize, u32),
) -> Spec {
    let Checked { kernel, name, first, elements, half, .. } = check;
    let parameters = [0, word(*first), word(*elements), word(slot)];
    let wgsl = if *half { SCAN_HALVES } else { SCAN };
    let mut spec = spec(*kernel, format!("scan {name}"), wgsl, parameters, fold(*elements, limit));
    spec.buffers = vec![values, whole(report, true)];
    spec
}

/// Flips one bit.
pub(crate) fn flip(kernel: usize, values: Bound, at: usize, bit: u32) -> Spec {
    let mut spec = spec(kernel, "flip".to_owned(), FLIP, [0, word(at), 1 << (bit % 32), 0], [1, 1, 1]);
    spec.buffers = vec![Bound { writable: true, ..values }];
    spec
}

/// Copies one buffer to another, as far as whole workgroups of `lanes` go.
pub(crate) fn copy(source: &Arc<Storage>, target: &Arc<Storage>, lanes: u32, limit: u32) -> Spec {
    let per_group = 4 * lanes as usize;
    let groups = source.words / 4 / per_group;
    let vectors = groups * per_group;
    let wgsl = COPY.replace("/*LANES*/", &lanes.to_string());
    let parameters = [0, word(vectors), 0, 0];
    let mut spec = spec(0, "copy".to_owned(), &wgsl, parameters, fold(groups * LANES, limit));
    spec.buffers = vec![whole(source, false), whole(target, true)];
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let bytes = 32.0 * vectors as f64;
    spec.cost = Cost { bytes, flops: 0.0 };
    spec
}

/// Computes in registers; `result` has four words per invocation.
pub(crate) fn arithmetic(result: &Arc<Storage>, rounds: u32, limit: u32) -> Spec {
    let invocations = result.words / 4 / LANES * LANES;
    let parameters = [0, 0.999_f32.to_bits(), rounds, 0];
    let mut spec = spec(0, "arithmetic".to_owned(), ARITHMETIC, parameters, fold(invocations, limit));
    spec.buffers = vec![whole(result, true)];
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let flops = invocations as f64 * f64::from(rounds) * 128.0;
    spec.cost = Cost { bytes: 0.0, flops };
    spec
}
