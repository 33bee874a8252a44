// C = A B, 128 x 128 elements per workgroup of 256 invocations, 16 terms per turn.
//
// Each invocation owns 8 x 8 elements as 2 x 2 blocks of four vec4, so that reads of workgroup memory are vec4 without bank
// conflicts. Half of the workgroup brings a 128 x 16 block of A, half one of B, both with terms outermost; the next
// blocks are fetched into registers while these are used.
//
// Bindings: parameters, A, B, C. As it stands: row-major f32, extents multiples of 4, one matrix. Limits: 16 896 bytes of
// workgroup memory (16 384 without the padding).

//! hole declarations
@group(0) @binding(0) var<uniform> block: array<vec4<u32>, 2>;
@group(0) @binding(1) var<storage, read> lhs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> rhs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;

// Four rows at four terms, terms outermost; zero past the last term.
fn fetch_lhs(turn: u32, s: u32, tile: u32) -> mat4x4<f32> {
    let term = turn * 4u + s % 4u;
    if (term >= block[1].z / 4u) { return mat4x4<f32>(); }
    let row = tile * 128u + (s / 4u) * 4u;
    let last = block[1].x - 1u;
    let stride = block[1].z / 4u;
    return transpose(mat4x4<f32>(
        lhs[min(row, last) * stride + term],
        lhs[min(row + 1u, last) * stride + term],
        lhs[min(row + 2u, last) * stride + term],
        lhs[min(row + 3u, last) * stride + term],
    ));
}
// Four columns at each of four terms.
fn fetch_rhs(turn: u32, s: u32, tile: u32) -> mat4x4<f32> {
    let stride = block[1].y / 4u;
    let column = min(tile * 32u + s % 32u, stride - 1u);
    let term = turn * 16u + s / 32u;
    var four = mat4x4<f32>();
    if (term < block[1].z) { four[0] = rhs[term * stride + column]; }
    if (term + 4u < block[1].z) { four[1] = rhs[(term + 4u) * stride + column]; }
    if (term + 8u < block[1].z) { four[2] = rhs[(term + 8u) * stride + column]; }
    if (term + 12u < block[1].z) { four[3] = rhs[(term + 12u) * stride + column]; }
    return four;
}
// Where a fetched block goes: distance of its four rows, and the first.
const LHS_ROWS: u32 = 1u;
const RHS_ROWS: u32 = 4u;
fn lhs_slot(s: u32) -> u32 { return (s % 4u) * 4u * STRIDE + s / 4u; }
fn rhs_slot(s: u32) -> u32 { return (s / 32u) * STRIDE + s % 32u; }

fn finish(product: vec4<f32>, row: u32, column: u32) {
    if (row < block[1].x && 4u * column < block[1].y) { result[row * (block[1].y / 4u) + column] = product; }
}
const STRIDE: u32 = 33u;
//! end

var<workgroup> lhs_tile: array<vec4<f32>, 16u * STRIDE>;
var<workgroup> rhs_tile: array<vec4<f32>, 16u * STRIDE>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
//! hole prologue
    let tile_row = workgroup.y;
    let tile_column = workgroup.x;
    let first = 0u;
    let end = (block[1].z + 15u) / 16u;
//! end
    let brings_lhs = t < 128u;
    let s = t % 128u;
    let ty = t / 16u;
    let tx = t % 16u;
    var c00 = vec4<f32>(); var c01 = vec4<f32>(); var c02 = vec4<f32>(); var c03 = vec4<f32>();
    var c10 = vec4<f32>(); var c11 = vec4<f32>(); var c12 = vec4<f32>(); var c13 = vec4<f32>();
    var c20 = vec4<f32>(); var c21 = vec4<f32>(); var c22 = vec4<f32>(); var c23 = vec4<f32>();
    var c30 = vec4<f32>(); var c31 = vec4<f32>(); var c32 = vec4<f32>(); var c33 = vec4<f32>();
    var next: mat4x4<f32>;
//! hole fetch_first
    if (brings_lhs) { next = fetch_lhs(first, s, tile_row); } else { next = fetch_rhs(first, s, tile_column); }
//! end
    for (var turn = first; turn < end; turn += 1u) {
        if (brings_lhs) {
            let to = lhs_slot(s);
            lhs_tile[to] = next[0];
            lhs_tile[to + LHS_ROWS * STRIDE] = next[1];
            lhs_tile[to + 2u * LHS_ROWS * STRIDE] = next[2];
            lhs_tile[to + 3u * LHS_ROWS * STRIDE] = next[3];
        } else {
            let to = rhs_slot(s);
            rhs_tile[to] = next[0];
            rhs_tile[to + RHS_ROWS * STRIDE] = next[1];
            rhs_tile[to + 2u * RHS_ROWS * STRIDE] = next[2];
            rhs_tile[to + 3u * RHS_ROWS * STRIDE] = next[3];
        }
        workgroupBarrier();
        if (turn + 1u < end) {
//! hole fetch_next
            if (brings_lhs) { next = fetch_lhs(turn + 1u, s, tile_row); } else { next = fetch_rhs(turn + 1u, s, tile_column); }
//! end
        }
        for (var k = 0u; k < 16u; k += 1u) {
            let at = k * STRIDE;
            let p = lhs_tile[at + ty];
            let q = lhs_tile[at + 16u + ty];
            let l = rhs_tile[at + tx];
            let r = rhs_tile[at + 16u + tx];
            c00 = fma(vec4<f32>(p.x), l, c00); c01 = fma(vec4<f32>(p.y), l, c01);
            c02 = fma(vec4<f32>(p.z), l, c02); c03 = fma(vec4<f32>(p.w), l, c03);
            c10 = fma(vec4<f32>(p.x), r, c10); c11 = fma(vec4<f32>(p.y), r, c11);
            c12 = fma(vec4<f32>(p.z), r, c12); c13 = fma(vec4<f32>(p.w), r, c13);
            c20 = fma(vec4<f32>(q.x), l, c20); c21 = fma(vec4<f32>(q.y), l, c21);
            c22 = fma(vec4<f32>(q.z), l, c22); c23 = fma(vec4<f32>(q.w), l, c23);
            c30 = fma(vec4<f32>(q.x), r, c30); c31 = fma(vec4<f32>(q.y), r, c31);
            c32 = fma(vec4<f32>(q.z), r, c32); c33 = fma(vec4<f32>(q.w), r, c33);
        }
        workgroupBarrier();
    }
    let row = tile_row * 128u + ty * 4u;
    let left = tile_column * 32u + tx;
    let right = left + 16u;
//! hole epilogue
    finish(c00, row, left); finish(c01, row + 1u, left); finish(c02, row + 2u, left); finish(c03, row + 3u, left);
    finish(c10, row, right); finish(c11, row + 1u, right); finish(c12, row + 2u, right); finish(c13, row + 3u, right);
    finish(c20, row + 64u, left); finish(c21, row + 65u, left); finish(c22, row + 66u, left); finish(c23, row + 67u, left);
    finish(c30, row + 64u, right); finish(c31, row + 65u, right); finish(c32, row + 66u, right); finish(c33, row + 67u, right);
//! end
}
