// y = exp(x − max x) / Σ exp(x − max x) for each row of [rows, columns], one workgroup for each row.
// Bindings: x and y, row by row; the gradient takes x and d_y, and gives d_x = y · (d_y − Σ y · d_y).

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

const LANES = 64u;
var<workgroup> partial: array<f32, LANES>;

/// The sum over the lanes of a workgroup.
fn total(lane: u32, own: f32) -> f32 {
    partial[lane] = own;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { partial[lane] += partial[lane + half]; }
    }
    let sum = workgroupUniformLoad(&partial[0]);
    return sum;
}

/// The largest value of all lanes.
fn largest(lane: u32, own: f32) -> f32 {
    partial[lane] = own;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { partial[lane] = max(partial[lane], partial[lane + half]); }
    }
    let top = workgroupUniformLoad(&partial[0]);
    return top;
}

@compute @workgroup_size(LANES)
fn softmax(
    @builtin(workgroup_id) row: vec3<u32>,
    @builtin(num_workgroups) rows: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let columns = arrayLength(&x) / rows.x;
    let start = row.x * columns;
    var top = -3.4e38;
    for (var i = lane; i < columns; i += LANES) { top = max(top, x[start + i]); }
    top = largest(lane, top);
    var sum = 0.0;
    for (var i = lane; i < columns; i += LANES) { sum += exp(x[start + i] - top); }
    sum = total(lane, sum);
    for (var i = lane; i < columns; i += LANES) { y[start + i] = exp(x[start + i] - top) / sum; }
}

@group(0) @binding(2) var<storage, read> d_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_x: array<f32>;

@compute @workgroup_size(LANES)
fn softmax_vjp(
    @builtin(workgroup_id) row: vec3<u32>,
    @builtin(num_workgroups) rows: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let columns = arrayLength(&x) / rows.x;
    let start = row.x * columns;
    var top = -3.4e38;
    for (var i = lane; i < columns; i += LANES) { top = max(top, x[start + i]); }
    top = largest(lane, top);
    var sum = 0.0;
    for (var i = lane; i < columns; i += LANES) { sum += exp(x[start + i] - top); }
    sum = total(lane, sum);
    var inner = 0.0;
    for (var i = lane; i < columns; i += LANES) { inner += exp(x[start + i] - top) / sum * d_y[start + i]; }
    inner = total(lane, inner);
    for (var i = lane; i < columns; i += LANES) {
        d_x[start + i] = exp(x[start + i] - top) / sum * (d_y[start + i] - inner);
    }
}
