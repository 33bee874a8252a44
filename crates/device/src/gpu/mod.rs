//! A wgpu device behind one lock. Nothing else in the crate calls wgpu; nothing that wgpu does panics through here.

pub(crate) mod adapters;
pub(crate) mod batch;
mod pipelines;
pub(crate) mod probe;
pub(crate) mod profile;
pub(crate) mod program;
pub(crate) mod ring;
#[cfg(test)]
mod tests;
pub(crate) mod tools;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cotangent_tensor::{Code, Error};

use crate::fault::Faults;
use crate::ledger::Ledger;
use crate::storage::{Place, Storage};
use pipelines::Pipelines;

/// A wgpu device: one owner at a time, one state.
#[derive(Debug)]
pub(crate) struct Gpu {
    /// Threads that wait for the owner.
    asking: AtomicUsize,
    owner: Mutex<Option<Owner>>,
    state: Arc<State>,
    process: u32,
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) max_buffer: u64,
    pub(crate) max_binding: u64,
    pub(crate) uniform_alignment: usize,
    pub(crate) timestamps: bool,
}

/// What only the holder of the lock touches.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
}

/// What callbacks of wgpu report.
#[derive(Debug, Default)]
struct State {
    is_lost: AtomicBool,
    reason: Mutex<String>,
    error: Mutex<Option<wgpu::Error>>,
}

impl State {
    fn lose(&self, reason: String) {
        // The first reason is the cause; what follows from it is noise.
        if !self.is_lost.swap(true, Ordering::AcqRel) {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        }
    }
    fn take_error(&self) -> Option<wgpu::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How long a thread that waits keeps the device to itself, and how long at most it leaves it to those who ask.
const SLICE: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_micros(100);
const PAUSES: usize = 100;

impl Gpu {
    /// Opens an adapter with these features and limits.
    pub(crate) fn open(
        adapter: &wgpu::Adapter,
        name: &str,
        features: wgpu::Features,
        limits: wgpu::Limits,
        (ledger, faults, timeout): (Arc<Ledger>, Arc<Faults>, Duration),
    ) -> Result<Gpu, Error> {
        let failed = |text: String| Error::new(Code::NoAdapter, "open device", format!("{name}: {text}"));
        let request = wgpu::DeviceDescriptor {
            label: Some("cotangent"),
            required_features: features,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let opened = catch_unwind(AssertUnwindSafe(|| pollster::block_on(adapter.request_device(&request))));
        let (device, queue) = opened
            .map_err(|panic| failed(panic_text(&*panic)))?
            .map_err(|refused| failed(refused.to_string()))?;
        let state = Arc::new(State::default());
        let lost = state.clone();
        device.set_device_lost_callback(move |reason, text| lost.lose(format!("{reason:?}: {text}")));
        // One call at a time runs, so an error belongs to the call in progress. Its first error is the cause.
        let errors = state.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            errors.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }));
        Ok(Gpu {
            owner: Mutex::new(Some(Owner { device, queue, pipelines: Pipelines::default() })),
            asking: AtomicUsize::new(0),
            state,
            process: std::process::id(),
            name: name.to_owned(),
            timeout,
            ledger,
            faults,
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as usize,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        })
    }

    /// Runs `work` as the only user of wgpu. What wgpu reports meanwhile comes back as an error that names `what`.
    pub(crate) fn call<T>(&self, what: &str, work: impl FnOnce(&mut Owner) -> T) -> Result<T, Error> {
        self.alive(what)?;
        self.asking.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        self.asking.fetch_sub(1, Ordering::SeqCst);
        let Some(owner) = lock.as_mut() else { return Err(self.lost(what)) };
        drop(self.state.take_error());
        let result = catch_unwind(AssertUnwindSafe(|| work(owner)));
        if let Some(error) = self.state.take_error() {
            return Err(self.translate(what, &error));
        }
        match result {
            Ok(value) => self.alive(what).map(|()| value),
            Err(panic) => {
                self.state.lose(format!("wgpu panicked: {}", panic_text(&*panic)));
                Err(self.lost(what))
            }
        }
    }

    /// Fails when the device is gone, or belongs to the parent of this process.
    fn alive(&self, what: &str) -> Result<(), Error> {
        if std::process::id() != self.process {
            let message = format!("{} was opened before this process was forked", self.name);
            return Err(Error::new(Code::DeviceLost, what, message).hint("open a device after the fork"));
        }
        if self.state.is_lost.load(Ordering::Acquire) { Err(self.lost(what)) } else { Ok(()) }
    }
    fn lost(&self, what: &str) -> Error {
        let reason = self.state.reason.lock().unwrap_or_else(PoisonError::into_inner);
        Error::new(Code::DeviceLost, what, format!("{} is gone: {reason}", self.name))
            .hint("open a new device and restore variables from a checkpoint")
    }
    fn translate(&self, what: &str, error: &wgpu::Error) -> Error {
        match error {
            wgpu::Error::OutOfMemory { .. } => self.ledger.out_of_memory(what, 0),
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                Error::new(Code::Internal, what, format!("{}: {description}", self.name))
                    .hint("this is a mistake in Cotangent or in the driver; please report it")
            }
        }
    }

    /// Counts a submission; loses the device where a fault says so.
    pub(crate) fn before_submit(&self, what: &str) -> Result<(), Error> {
        if self.faults.lose_device() {
            self.state.lose("planted fault".to_owned());
        }
        self.alive(what)
    }

    /// A buffer within the limits, on the books.
    pub(crate) fn storage(
        &self,
        name: &str,
        words: usize,
        usage: wgpu::BufferUsages,
    ) -> Result<Storage, Error> {
        let bytes = 4 * words as u64;
        let allowed =
            if usage.contains(wgpu::BufferUsages::STORAGE) { self.max_binding } else { self.max_buffer };
        if bytes > allowed {
            let message = format!("{bytes} bytes for `{name}`, {} allows {allowed} per buffer", self.name);
            let integer = |v: u64| cotangent_tensor::Detail::Integer(i64::try_from(v).unwrap_or(i64::MAX));
            return Err(Error::new(Code::Limit, "allocate", message)
                .with("asked", integer(bytes))
                .with("allowed", integer(allowed))
                .hint("split the tensor"));
        }
        let claim = self.ledger.claim(name, bytes)?;
        let descriptor =
            wgpu::BufferDescriptor { label: Some(name), size: bytes, usage, mapped_at_creation: false };
        let buffer = self.call(name, |owner| owner.device.create_buffer(&descriptor)).map_err(|error| {
            if error.code() == Code::OutOfMemory { self.ledger.out_of_memory(name, bytes) } else { error }
        })?;
        Ok(Storage::new(words, Place::Gpu(buffer), claim))
    }
    pub(crate) fn upload(&self, storage: &Storage, first: usize, words: &[u32]) -> Result<(), Error> {
        let data = bytemuck::cast_slice(words);
        self.call("upload", |owner| owner.queue.write_buffer(storage.gpu(), 4 * first as u64, data))
    }
    /// Copies words to the host and waits for them.
    pub(crate) fn download(&self, storage: &Storage, first: usize, words: usize) -> Result<Vec<u32>, Error> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.storage("download", words, usage)?;
        self.before_submit("download")?;
        let (mapped, index) = self.call("download", |owner| {
            let mut encoder = owner.device.create_command_encoder(&Default::default());
            let bytes = 4 * words as u64;
            encoder.copy_buffer_to_buffer(storage.gpu(), 4 * first as u64, staging.gpu(), 0, bytes);
            let index = owner.queue.submit([encoder.finish()]);
            (ring::map(staging.gpu()), index)
        })?;
        self.wait(&index, "download")?;
        ring::take(self, staging.gpu(), &mapped)
    }
    /// Whether a submission has run before the time is over. Waits in slices, so that other threads get to the device.
    fn poll(&self, index: &wgpu::SubmissionIndex, timeout: Duration, what: &str) -> Result<bool, Error> {
        let end = Instant::now().checked_add(timeout);
        loop {
            let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
            let submission_index = Some(index.clone());
            let wait = wgpu::PollType::Wait { submission_index, timeout: Some(left.min(SLICE)) };
            if self.call(what, |owner| owner.device.poll(wait).is_ok())? {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            // A lock that is taken again at once would go to nobody else.
            for _ in 0..PAUSES {
                if self.asking.load(Ordering::SeqCst) == 0 {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
    /// Waits until a submission has run. Error: [`Code::Timeout`].
    pub(crate) fn wait(&self, index: &wgpu::SubmissionIndex, what: &str) -> Result<(), Error> {
        let timeout = if self.faults.time_out() { None } else { Some(self.timeout) };
        let finished = match timeout {
            None => false,
            Some(timeout) => self.poll(index, timeout, what)?,
        };
        if finished {
            return Ok(());
        }
        let message = format!("{} did not finish within {:?}", self.name, self.timeout);
        Err(Error::new(Code::Timeout, what, message)
            .hint("make the batch smaller, or wait longer: `Options::timeout`"))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if self.state.is_lost.load(Ordering::Acquire) || std::process::id() != self.process {
            // A dead driver must not be called again, not even to free.
            std::mem::forget(owner);
        } else {
            // The queue panics while it is dropped if its last submission failed.
            drop(catch_unwind(AssertUnwindSafe(|| drop(owner))));
        }
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
