//! Every allocation of a device is counted here: buffers and bytes now, bytes at the peak, and whose they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cotangent_tensor::{Code, Detail, Error};

use crate::fault::Faults;

/// What a device has allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Buffers that exist.
    pub live_buffers: usize,
    /// Their bytes.
    pub live_bytes: u64,
    /// The largest value that `live_bytes` has had.
    pub peak_bytes: u64,
}

/// The books of one device.
#[derive(Debug)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    faults: Arc<Faults>,
    device: String,
}

#[derive(Debug, Default)]
struct Books {
    memory: Memory,
    next: u64,
    live: HashMap<u64, (Arc<str>, u64)>,
}

/// The right to hold some bytes; giving it up takes them off the books.
#[derive(Debug)]
pub(crate) struct Claim {
    ledger: Arc<Ledger>,
    number: u64,
    bytes: u64,
}

impl Ledger {
    pub(crate) fn new(device: &str, faults: Arc<Faults>) -> Arc<Ledger> {
        Arc::new(Ledger { books: Mutex::default(), faults, device: device.to_owned() })
    }
    /// Enters an allocation before it is made. Error: [`Code::OutOfMemory`] where a fault is planted.
    pub(crate) fn claim(self: &Arc<Self>, name: &str, bytes: u64) -> Result<Claim, Error> {
        if self.faults.fail_allocation() {
            return Err(self.out_of_memory(name, bytes));
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let number = books.next;
        books.next += 1;
        books.live.insert(number, (name.into(), bytes));
        books.memory.live_buffers += 1;
        books.memory.live_bytes += bytes;
        books.memory.peak_bytes = books.memory.peak_bytes.max(books.memory.live_bytes);
        Ok(Claim { ledger: self.clone(), number, bytes })
    }
    pub(crate) fn memory(&self) -> Memory {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).memory
    }
    /// The error of an allocation that failed, with the five largest that did not.
    pub(crate) fn out_of_memory(&self, name: &str, bytes: u64) -> Error {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { live_bytes, peak_bytes, .. } = books.memory;
        let mut largest: Vec<&(Arc<str>, u64)> = books.live.values().collect();
        largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let largest: Vec<String> =
            largest.iter().take(5).map(|(name, bytes)| format!("`{name}` {}", in_words(*bytes))).collect();
        let message = format!(
            "{} for `{name}` on {}, beside {} live ({} at the peak); largest: {}",
            in_words(bytes),
            self.device,
            in_words(live_bytes),
            in_words(peak_bytes),
            if largest.is_empty() { "none".to_owned() } else { largest.join(", ") },
        );
        let integer = |bytes: u64| Detail::Integer(i64::try_from(bytes).unwrap_or(i64::MAX));
        Error::new(Code::OutOfMemory, "allocate", message)
            .with("requested", integer(bytes))
            .with("live", integer(live_bytes))
            .with("peak", integer(peak_bytes))
            .hint("halve the batch, or compute again with `checkpoint`; `step.memory()` lists what a step holds")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut books = self.ledger.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.live.remove(&self.number);
        books.memory.live_buffers -= 1;
        books.memory.live_bytes -= self.bytes;
    }
}

/// A number of bytes as people read it, such as `3.1 GiB`.
pub(crate) fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
