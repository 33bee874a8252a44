//! The threads that plans share, and how a plan gets to them.
//!
//! While a plan runs it holds locks: its own, and those of its variables. A thread of a pool that waits for parts of its
//! work takes up other work of that pool meanwhile; if that were a run that wants a lock which the thread holds already,
//! it would wait for itself. So locks are taken outside of the pool, by a thread that belongs to none, and inside of it
//! there is nothing but work of plans whose locks are held. `RAYON_NUM_THREADS` says how many threads there are.

use std::sync::OnceLock;

use cotangent_tensor::{Code, Error};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The pool; none where its threads could not be started.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let name = |number: usize| format!("cotangent {number}");
    POOL.get_or_init(|| ThreadPoolBuilder::new().thread_name(name).build().ok()).as_ref()
}

/// Runs parallel work that takes no lock of a plan. The caller belongs to no pool.
pub(crate) fn parallel<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// Runs work that takes locks, on a thread that belongs to no pool.
pub(crate) fn apart<R: Send>(work: impl FnOnce() -> Result<R, Error> + Send) -> Result<R, Error> {
    if rayon::current_thread_index().is_none() {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| {
            let message = format!("no thread to run on from within a pool: {error}");
            Error::new(Code::OutOfMemory, "run", message)
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
