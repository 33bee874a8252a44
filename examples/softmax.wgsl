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

/// Where a row is, its largest value, and the sum of the exponentials relative to that.
struct Row { first: u32, end: u32, top: f32, sum: f32 }

fn row_of(row: u32, rows: u32, lane: u32) -> Row {
    let columns = arrayLength(&x) / rows;
    let first = row * columns;
    let end = first + columns;
    var top = -3.4e38;
    for (var i = first + lane; i < end; i += LANES) { top = max(top, x[i]); }
    top = largest(lane, top);
    var sum = 0.0;
    for (var i = first + lane; i < end; i += LANES) { sum += exp(x[i] - top); }
    return Row(first, end, top, total(lane, sum));
}

@compute @workgroup_size(LANES)
fn softmax(
    @builtin(workgroup_id) row: vec3<u32>,
    @builtin(num_workgroups) rows: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_of(row.x, rows.x, lane);
    for (var i = r.first + lane; i < r.end; i += LANES) { y[i] = exp(x[i] - r.top) / r.sum; }
}

@group(0) @binding(2) var<storage, read> d_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_x: array<f32>;

@compute @workgroup_size(LANES)
fn softmax_vjp(
    @builtin(workgroup_id) row: vec3<u32>,
    @builtin(num_workgroups) rows: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_of(row.x, rows.x, lane);
    var inner = 0.0;
    for (var i = r.first + lane; i < r.end; i += LANES) { inner += exp(x[i] - r.top) / r.sum * d_y[i]; }
    inner = total(lane, inner);
    for (var i = r.first + lane; i < r.end; i += LANES) {
        d_x[i] = exp(x[i] - r.top) / r.sum * (d_y[i] - inner);
    }
}
