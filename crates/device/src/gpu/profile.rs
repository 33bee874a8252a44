//! Time per dispatch: timestamps at the ends of a pass per dispatch, or a clock around a submission per dispatch.

use std::sync::Arc;
use std::time::Instant;

use cotangent_shaders::Target;
use cotangent_tensor::Error;

use super::Gpu;
use super::batch::Batch;
use super::ring;
use super::tools;
use crate::profile::Roof;

/// Queries that one set holds.
const QUERIES: usize = 4096;

/// Seconds of each dispatch of a batch, which runs once.
pub(crate) fn seconds(gpu: &Gpu, batch: &Batch) -> Result<Vec<f64>, Error> {
    if !gpu.timestamps {
        return clocked(gpu, batch);
    }
    let mut seconds = Vec::new();
    while seconds.len() < batch.dispatches.len() {
        let first = seconds.len();
        let count = (batch.dispatches.len() - first).min(QUERIES / 2);
        seconds.extend(stamped(gpu, batch, first, count)?);
    }
    Ok(seconds)
}

fn clocked(gpu: &Gpu, batch: &Batch) -> Result<Vec<f64>, Error> {
    batch
        .dispatches
        .iter()
        .map(|dispatch| {
            let start = Instant::now();
            batch.run_some(gpu, "profile", |other| std::ptr::eq(other, dispatch))?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

fn stamped(gpu: &Gpu, batch: &Batch, first: usize, count: usize) -> Result<Vec<f64>, Error> {
    let words = 4 * count;
    let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
    let ticks = gpu.storage("timestamps", words, resolve)?;
    let staging = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = gpu.storage("timestamps", words, staging)?;
    gpu.before_submit("profile")?;
    let queries = u32::try_from(2 * count).unwrap_or(u32::MAX);
    let (mapped, index, period) = gpu.call("profile", |owner| {
        let set = owner.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: queries,
        });
        let mut encoder = owner.device.create_command_encoder(&Default::default());
        for (dispatch, query) in batch.dispatches[first..first + count].iter().zip((0..queries).step_by(2)) {
            let writes = wgpu::ComputePassTimestampWrites {
                query_set: &set,
                beginning_of_pass_write_index: Some(query),
                end_of_pass_write_index: Some(query + 1),
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) };
            batch.encode(&mut encoder.begin_compute_pass(&descriptor), |other| std::ptr::eq(other, dispatch));
        }
        encoder.resolve_query_set(&set, 0..queries, ticks.gpu(), 0);
        encoder.copy_buffer_to_buffer(ticks.gpu(), 0, staging.gpu(), 0, 4 * words as u64);
        let index = owner.queue.submit([encoder.finish()]);
        (ring::map(staging.gpu()), index, f64::from(owner.queue.get_timestamp_period()))
    })?;
    gpu.wait(&index, "profile")?;
    let words = ring::take(gpu, staging.gpu(), &mapped)?;
    let ticks: Vec<u64> =
        words.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect();
    #[expect(clippy::cast_precision_loss, reason = "a difference of nanoseconds")]
    let seconds = |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * period * 1e-9;
    Ok(ticks.chunks_exact(2).map(seconds).collect())
}

/// Measures what the adapter can do: copying between buffers, and multiplying and adding in registers.
pub(crate) fn roof(gpu: &Gpu, target: &Target, is_software: bool) -> Result<Roof, Error> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let bytes = if is_software { 32 << 20 } else { 256 << 20 };
    let words = usize::try_from(gpu.max_binding.min(bytes) / 4).unwrap_or(0);
    let source = Arc::new(gpu.storage("roof", words, usage)?);
    let copied = Arc::new(gpu.storage("roof", words, usage)?);
    let limit = target.max_workgroups;
    let lanes = target.max_invocations.min(if is_software { 1024 } else { 256 });
    let invocations = if is_software { 1 << 12 } else { 1 << 18 };
    let result = Arc::new(gpu.storage("roof", (4 * invocations).min(words).max(256), usage)?);
    let copy = Batch::new(gpu, vec![tools::copy(&source, &copied, lanes, limit)])?;
    let rounds = if is_software { 2_000 } else { 4_000 };
    let arithmetic = Batch::new(gpu, vec![tools::arithmetic(&result, rounds, limit)])?;
    let best = |batch: &Batch, work: f64| {
        // The first runs touch fresh pages and start clocks; the best of the rest is the roof.
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            best = best.min(seconds(gpu, batch)?.iter().sum());
        }
        Ok::<f64, Error>(work / best.max(1e-9))
    };
    Ok(Roof {
        bytes_per_second: best(&copy, copy.dispatches[0].cost.bytes)?,
        flops_per_second: best(&arithmetic, arithmetic.dispatches[0].cost.flops)?,
    })
}
