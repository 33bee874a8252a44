//! Results on their way to the host: small staging buffers, mapped when their submission has run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use cotangent_tensor::{Code, Error};

use super::Gpu;
use crate::storage::Storage;

/// Set by the callback of a mapping.
pub(crate) type Mapped = Arc<Mutex<Option<Result<(), String>>>>;

/// Asks for a buffer to be mapped; call with the lock of the device held.
pub(crate) fn map(buffer: &wgpu::Buffer) -> Mapped {
    let mapped = Mapped::default();
    let set = mapped.clone();
    buffer.slice(..).map_async(wgpu::MapMode::Read, move |result| {
        let result = result.map_err(|error| error.to_string());
        *set.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    mapped
}

/// The words of a mapped buffer, which is unmapped.
pub(crate) fn take(gpu: &Gpu, buffer: &wgpu::Buffer, mapped: &Mapped) -> Result<Vec<u32>, Error> {
    let failed = |text: String| Error::new(Code::Internal, "read", format!("{}: {text}", gpu.name));
    match mapped.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Ok(())) => {}
        Some(Err(text)) => return Err(failed(text)),
        None => return Err(failed("a buffer was not mapped although its submission has run".to_owned())),
    }
    gpu.call("read", |_| {
        let words = buffer.slice(..).get_mapped_range().map(|view| {
            // A mapping is aligned to 8 bytes, but that is a promise of another crate.
            view.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        });
        buffer.unmap();
        words
    })?
    .map_err(|error| failed(error.to_string()))
}

/// The outputs of one run: under way, then landed.
#[derive(Debug)]
pub(crate) struct Flight {
    state: Mutex<Phase>,
}

#[derive(Debug)]
enum Phase {
    UnderWay { staging: Arc<Storage>, mapped: Mapped, index: wgpu::SubmissionIndex },
    Landed(Result<Arc<Vec<u32>>, Error>),
}

/// The staging buffers of a step, used one after the other.
#[derive(Debug)]
pub(crate) struct Ring {
    depth: usize,
    words: usize,
    state: Mutex<RingState>,
}

#[derive(Debug, Default)]
struct RingState {
    free: Vec<Arc<Storage>>,
    flights: VecDeque<Arc<Flight>>,
}

impl Ring {
    pub(crate) fn new(depth: usize, words: usize) -> Ring {
        Ring { depth: depth.max(1), words, state: Mutex::default() }
    }
    /// A staging buffer. When all are under way the oldest run is landed first: its words stay with its handle, and where
    /// nobody holds that any more they go to `forgotten`.
    pub(crate) fn staging(
        &self,
        gpu: &Gpu,
        forgotten: &mut dyn FnMut(Result<Arc<Vec<u32>>, Error>),
    ) -> Result<Arc<Storage>, Error> {
        loop {
            let oldest = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(staging) = state.free.pop() {
                    return Ok(staging);
                }
                if state.flights.len() < self.depth { None } else { state.flights.front().cloned() }
            };
            let Some(oldest) = oldest else {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                return Ok(Arc::new(gpu.storage("staging", self.words, usage)?));
            };
            match self.land(gpu, &oldest) {
                // A run that times out keeps its buffer, so this one fails as well.
                Err(error) if error.code() == Code::Timeout => return Err(error),
                landed if Arc::strong_count(&oldest) == 1 => forgotten(landed),
                _ => {}
            }
        }
    }
    /// Runs under way whose handles are gone, the oldest first.
    pub(crate) fn forgotten(&self) -> Vec<Arc<Flight>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.flights.iter().filter(|flight| Arc::strong_count(flight) == 1).cloned().collect()
    }
    /// Gives back a buffer that was not used.
    pub(crate) fn give_back(&self, staging: Arc<Storage>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(staging);
    }
    /// Registers a run that has been submitted.
    pub(crate) fn start(
        &self,
        staging: Arc<Storage>,
        mapped: Mapped,
        index: wgpu::SubmissionIndex,
    ) -> Arc<Flight> {
        let flight = Arc::new(Flight { state: Mutex::new(Phase::UnderWay { staging, mapped, index }) });
        self.state.lock().unwrap_or_else(PoisonError::into_inner).flights.push_back(flight.clone());
        flight
    }
    /// Waits for a run and returns its words; again and again if asked.
    pub(crate) fn land(&self, gpu: &Gpu, flight: &Arc<Flight>) -> Result<Arc<Vec<u32>>, Error> {
        let mut phase = flight.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (staging, mapped, index) = match &*phase {
            Phase::Landed(result) => return result.clone(),
            Phase::UnderWay { staging, mapped, index } => (staging.clone(), mapped.clone(), index.clone()),
        };
        let result = match gpu.wait(&index, "step") {
            Err(error) if error.code() == Code::Timeout => return Err(error),
            Err(error) => Err(error),
            Ok(()) => take(gpu, staging.gpu(), &mapped).map(Arc::new),
        };
        let landed = result.is_ok();
        *phase = Phase::Landed(result.clone());
        drop(phase);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.flights.retain(|other| !Arc::ptr_eq(other, flight));
        // A buffer whose mapping failed may still be mapped: it is not used again.
        if landed {
            state.free.push(staging);
        }
        result
    }
}
