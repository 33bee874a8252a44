// C = A B, 32 x 32 elements per workgroup of 64 invocations, 16 terms per turn: for products too small to fill a GPU with
// larger tiles.
//
// Each invocation owns 4 x 4 elements. Half of the workgroup brings a 32 x 16 block of A, half one of B, both with terms
// outermost; the next blocks are fetched into registers while these are used.
//
// Bindings: parameters, A, B, C. As it stands: row-major f32, extents multiples of 4, one matrix. Limits: 4 608 bytes of
// workgroup memory.

//! hole declarations
@group(0) @binding(0) var<uniform> block: array<vec4<u32>, 2>;
@group(0) @binding(1) var<storage, read> lhs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> rhs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;

// Four rows at four terms, terms outermost; zero past the last term.
fn fetch_lhs(turn: u32, s: u32, tile: u32) -> mat4x4<f32> {
    let term = turn * 4u + s % 4u;
    if (term >= block[1].z / 4u) { return mat4x4<f32>(); }
    let row = tile * 32u + (s / 4u) * 4u;
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
    let column = min(tile * 8u + s % 8u, stride - 1u);
    let term = turn * 16u + s / 8u;
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
fn rhs_slot(s: u32) -> u32 { return (s / 8u) * STRIDE + s % 8u; }

fn finish(product: vec4<f32>, row: u32, column: u32) {
    if (row < block[1].x && 4u * column < block[1].y) { result[row * (block[1].y / 4u) + column] = product; }
}
const STRIDE: u32 = 9u;
//! end

var<workgroup> lhs_tile: array<vec4<f32>, 16u * STRIDE>;
var<workgroup> rhs_tile: array<vec4<f32>, 16u * STRIDE>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
//! hole prologue
    let tile_row = workgroup.y;
    let tile_column = workgroup.x;
    let first = 0u;
    let end = (block[1].z + 15u) / 16u;
//! end
    let brings_lhs = t < 32u;
    let s = t % 32u;
    let ty = t / 8u;
    let tx = t % 8u;
    var c00 = vec4<f32>(); var c01 = vec4<f32>(); var c02 = vec4<f32>(); var c03 = vec4<f32>();
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
            let l = rhs_tile[at + tx];
            c00 = fma(vec4<f32>(p.x), l, c00); c01 = fma(vec4<f32>(p.y), l, c01);
            c02 = fma(vec4<f32>(p.z), l, c02); c03 = fma(vec4<f32>(p.w), l, c03);
        }
        workgroupBarrier();
    }
    let row = tile_row * 32u + ty * 4u;
    let left = tile_column * 8u + tx;
//! hole epilogue
    finish(c00, row, left); finish(c01, row + 1u, left); finish(c02, row + 2u, left); finish(c03, row + 3u, left);
//! end
}
