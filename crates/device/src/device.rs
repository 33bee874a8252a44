//! The handle of a device: how one is chosen, and what is known about it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use cotangent_shaders::{PlanOptions, Target};
use cotangent_tensor::{Code, Error, Token};

use crate::fault::{Fault, FaultPlan, Faults};
use crate::gpu::adapters::{Found, enumerate};
use crate::gpu::{Gpu, probe};
use crate::info::{Info, Kind, Probe};
use crate::ledger::{Claim, Ledger, Memory, in_words};

use crate::profile::Roof;
use crate::storage::{Place, Storage, zeros};

/// Where plans run: the CPU, or one adapter of wgpu. A cheap handle, explicit and never global.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: u64,
    why: String,
    pub(crate) info: Info,
    pub(crate) body: Body,
    found: Option<Found>,
    pub(crate) options: Options,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) faults: Arc<Faults>,
    variables: Mutex<HashMap<u64, Held>>,
    /// Steps, whose runs may have found something that nobody has looked at.
    steps: Mutex<Vec<Weak<crate::step::Inner>>>,
    pub(crate) roof: OnceLock<Roof>,
}

/// The storage of a variable, as long as its token lives.
struct Held {
    token: Weak<Token>,
    storage: Arc<Storage>,
}

pub(crate) enum Body {
    Host,
    Gpu(Box<Gpu>),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A hardware GPU, else the CPU device. Never a software adapter.
    Best,
    /// The CPU device.
    Cpu,
    /// The hardware GPU of this number, from 0.
    Gpu(usize),
    /// An adapter that runs on CPU cores, for tests: lavapipe, SwiftShader, WARP.
    Software,
}

/// How a device is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limits to plan within, where they are tighter than the adapter's own. None: the adapter's own.
    pub target: Option<Target>,
    /// Faults to plant.
    pub faults: FaultPlan,
    /// How long to wait for a run.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { target: None, faults: FaultPlan::default(), timeout: Duration::from_secs(120) }
    }
}

impl FromStr for Choice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Choice, Error> {
        let choice = match text.split_once(':') {
            None => match text {
                "best" => Some(Choice::Best),
                "cpu" => Some(Choice::Cpu),
                "gpu" => Some(Choice::Gpu(0)),
                "software" => Some(Choice::Software),
                _ => None,
            },
            Some(("gpu", number)) => number.parse().ok().map(Choice::Gpu),
            Some(_) => None,
        };
        choice.ok_or_else(|| {
            Error::new(Code::NoAdapter, "device", format!("`{text}` is no device"))
                .hint("one of best, cpu, gpu, gpu:N, software")
        })
    }
}

static NEXT_DEVICE: AtomicU64 = AtomicU64::new(1);
/// Names of devices by identity, for messages about variables of other devices.
static NAMES: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
/// Devices whose names are kept, the latest ones.
const NAMED: usize = 256;

/// The name of a device that may be gone.
pub(crate) fn name_of(id: u64) -> String {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = names.iter().find(|(other, _)| *other == id);
    known.map_or_else(|| format!("device {id}"), |(id, name)| format!("{name} (device {id})"))
}

impl Device {
    /// The CPU device: native code on every core. Always there.
    pub fn cpu() -> Device {
        Device::host(Options::default(), "asked for".to_owned())
    }
    /// A hardware GPU, else the CPU device; [`Device::why`] says which and why. Never a software adapter.
    pub fn best() -> Device {
        Device::best_with(&Options::default())
    }
    /// The hardware GPU of this number, from 0. Error: [`Code::NoAdapter`], with what was found instead.
    pub fn gpu(number: usize) -> Result<Device, Error> {
        Device::open(Choice::Gpu(number), Options::default())
    }
    /// An adapter that runs on CPU cores, for tests. Error: [`Code::NoAdapter`], with what was found instead.
    pub fn software() -> Result<Device, Error> {
        Device::open(Choice::Software, Options::default())
    }
    /// The CPU device and every adapter that can be opened.
    pub fn all() -> Vec<Device> {
        let mut devices = vec![Device::cpu()];
        for found in enumerate() {
            devices.extend(Device::adapter(found, Options::default(), "listed".to_owned()));
        }
        devices
    }
    /// `best`, `cpu`, `gpu`, `gpu:N` or `software`.
    pub fn parse(text: &str) -> Result<Device, Error> {
        Device::open(text.parse()?, Options::default())
    }
    /// Opens what is asked for. Error: [`Code::NoAdapter`], with what was found and why it was refused.
    pub fn open(choice: Choice, options: Options) -> Result<Device, Error> {
        let (name, number) = match choice {
            Choice::Cpu => return Ok(Device::host(options, "asked for".to_owned())),
            Choice::Best => return Ok(Device::best_with(&options)),
            Choice::Gpu(number) => (format!("gpu:{number}"), number),
            Choice::Software => ("software".to_owned(), 0),
        };
        let mut refused = Vec::new();
        let mut fitting = 0;
        for found in enumerate() {
            let reason = match (found.is_software(), choice == Choice::Software) {
                (true, false) => Some("it runs on CPU cores; ask for `software`".to_owned()),
                (false, true) => Some("it is hardware; ask for `gpu`".to_owned()),
                (true, true) | (false, false) => found.refusal(),
            };
            if let Some(reason) = reason {
                refused.push(format!("{}: {reason}", found.name()));
            } else if fitting < number {
                fitting += 1;
                refused.push(format!("{}: it has another number", found.name()));
            } else {
                return Device::adapter(found, options, "asked for".to_owned());
            }
        }
        let found = if refused.is_empty() { "no adapter found".to_owned() } else { refused.join("; ") };
        Err(Error::new(Code::NoAdapter, "device", format!("nothing fits `{name}`: {found}"))
            .hint("install a driver for Vulkan, Metal or DX12, or use the CPU device"))
    }
    fn best_with(options: &Options) -> Device {
        let mut refused = Vec::new();
        for found in enumerate() {
            let name = found.name();
            let refusal = if found.is_software() {
                Some("runs on CPU cores, where the CPU device is faster".to_owned())
            } else {
                found.refusal()
            };
            let refusal = match refusal {
                Some(refusal) => refusal,
                None => {
                    match Device::adapter(found, options.clone(), "the first hardware adapter".to_owned()) {
                        Ok(device) => return device,
                        Err(error) => error.message().to_owned(),
                    }
                }
            };
            refused.push(format!("{name}: {refusal}"));
        }
        let found = if refused.is_empty() { "no adapter found".to_owned() } else { refused.join("; ") };
        Device::host(options.clone(), format!("no hardware adapter ({found})"))
    }
    fn host(options: Options, why: String) -> Device {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let unlimited = Target {
            cpu: true,
            subgroups: None,
            f16: true,
            max_workgroups: u32::MAX,
            max_invocations: u32::MAX,
            max_workgroup_memory: u32::MAX,
            max_storage_buffers: 64,
            max_binding: u64::MAX,
            loop_budget: u32::MAX,
        };
        let info = Info {
            name: "cpu".to_owned(),
            kind: Kind::Cpu,
            backend: "cpu".to_owned(),
            adapter: format!("{}, native", std::env::consts::ARCH),
            driver: String::new(),
            features: Vec::new(),
            max_buffer: options.target.as_ref().map_or(u64::MAX, |target| target.max_binding),
            target: options.target.clone().unwrap_or(unlimited),
            threads,
            probe: Probe::native(),
        };
        let faults = Arc::new(Faults::new(&options.faults));
        let ledger = Ledger::new("cpu", faults.clone());
        Device::assemble(Inner {
            id: 0,
            why,
            info,
            body: Body::Host,
            found: None,
            options,
            ledger,
            faults,
            variables: Mutex::default(),
            steps: Mutex::default(),
            roof: OnceLock::new(),
        })
    }
    fn adapter(found: Found, options: Options, why: String) -> Result<Device, Error> {
        if let Some(refusal) = found.refusal() {
            return Err(Error::new(Code::NoAdapter, "device", format!("{}: {refusal}", found.name())));
        }
        let name = found.name();
        let (features, limits, mut target) = found.terms(options.target.as_ref());
        let faults = Arc::new(Faults::new(&options.faults));
        let ledger = Ledger::new(&name, faults.clone());
        let max_buffer = limits.max_buffer_size;
        let books = (ledger.clone(), faults.clone(), options.timeout);
        let gpu = Gpu::open(&found.adapter, &name, features, limits, books)?;
        let probe = probe::run(&gpu, target.subgroups.is_some())?;
        target.loop_budget = probe.loop_budget.unwrap_or(u32::MAX).min(target.loop_budget);
        let info = Info {
            kind: if found.is_software() { Kind::Software } else { Kind::Gpu },
            backend: found.backend(),
            adapter: found.info.name.clone(),
            driver: format!("{} {}", found.info.driver, found.info.driver_info).trim().to_owned(),
            features: features.iter_names().map(|(name, _)| name.to_lowercase()).collect(),
            name,
            target,
            max_buffer,
            threads: 1,
            probe,
        };
        Ok(Device::assemble(Inner {
            id: 0,
            why,
            info,
            body: Body::Gpu(Box::new(gpu)),
            found: Some(found),
            options,
            ledger,
            faults,
            variables: Mutex::default(),
            steps: Mutex::default(),
            roof: OnceLock::new(),
        }))
    }
    fn assemble(mut inner: Inner) -> Device {
        // An identity; it orders nothing that a result could depend on.
        inner.id = NEXT_DEVICE.fetch_add(1, Ordering::Relaxed);
        inner.faults.arm();
        let name = inner.info.name.clone();
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMED {
            names.remove(0);
        }
        names.push((inner.id, name));
        drop(names);
        Device(Arc::new(inner))
    }

    /// Another device on the same adapter, opened with other options.
    pub fn with_options(&self, options: Options) -> Result<Device, Error> {
        match &self.0.found {
            None => Ok(Device::host(options, self.0.why.clone())),
            Some(found) => Device::adapter(found.clone(), options, self.0.why.clone()),
        }
    }
    /// Another device on the same adapter that plans within these limits where they are tighter than the adapter's: how
    /// tests run at the limits of the web, or at tiny ones. The kernels are those of a GPU unless `target.cpu` is set.
    pub fn with_limits(&self, target: &Target) -> Result<Device, Error> {
        self.with_options(Options { target: Some(target.clone()), ..self.0.options.clone() })
    }
    /// Such as `cpu` or `vulkan llvmpipe`.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }
    /// The name as part of a file name, such as `vulkan_llvmpipe`.
    pub fn slug(&self) -> String {
        self.0.info.slug()
    }
    /// Why this device was chosen.
    pub fn why(&self) -> &str {
        &self.0.why
    }
    /// Adapter, driver, features, limits and what the probe saw.
    pub fn info(&self) -> &Info {
        &self.0.info
    }
    /// What is allocated. Storage of variables that nobody can reach any more is given back first.
    pub fn memory(&self) -> Memory {
        self.sweep();
        self.0.ledger.memory()
    }
    /// Distinct shaders compiled so far; 0 on the CPU device.
    pub fn pipelines(&self) -> usize {
        match &self.0.body {
            Body::Host => 0,
            Body::Gpu(gpu) => gpu.call("count", |owner| owner.pipelines.len()).unwrap_or(0),
        }
    }
    /// Takes note of a step.
    pub(crate) fn remember(&self, step: &Arc<crate::step::Inner>) {
        let mut steps = self.0.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.retain(|step| step.strong_count() > 0);
        steps.push(Arc::downgrade(step));
    }
    /// What launched runs have found whose outputs nobody holds any more: whoever reads values that they wrote must know.
    pub(crate) fn overlooked(&self) -> Result<(), Error> {
        let steps: Vec<_> = {
            let steps = self.0.steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.iter().filter_map(Weak::upgrade).collect()
        };
        steps.iter().try_for_each(|step| step.program.overlooked())
    }
    /// Every planted fault, and whether it has fired.
    pub fn faults(&self) -> Vec<(Fault, bool)> {
        self.0.faults.report()
    }

    pub(crate) fn plan_options(&self) -> PlanOptions {
        match (&self.0.body, &self.0.options.target) {
            (Body::Host, None) => PlanOptions::cpu(),
            (Body::Host | Body::Gpu(_), _) => PlanOptions::for_target(&self.0.info.target),
        }
    }
    /// Enters host memory into the books. Errors: [`Code::Limit`], [`Code::OutOfMemory`].
    pub(crate) fn claim(&self, name: &str, bytes: u64) -> Result<Claim, Error> {
        if bytes > self.0.info.max_buffer {
            let allowed = in_words(self.0.info.max_buffer);
            let message = format!("{} for `{name}`, {allowed} allowed", in_words(bytes));
            return Err(Error::new(Code::Limit, "allocate", message).hint("split the tensor"));
        }
        self.0.ledger.claim(name, bytes)
    }
    /// Zero-filled storage, on the books.
    pub(crate) fn storage(&self, name: &str, words: usize) -> Result<Arc<Storage>, Error> {
        match &self.0.body {
            Body::Host => {
                let bytes = 4 * words as u64;
                let claim = self.claim(name, bytes)?;
                let Ok(data) = zeros(name, words) else {
                    drop(claim);
                    return Err(self.0.ledger.out_of_memory(name, bytes));
                };
                Ok(Arc::new(Storage::new(words, Place::Host(Arc::new(Mutex::new(data))), claim)))
            }
            Body::Gpu(gpu) => {
                use wgpu::BufferUsages as Usage;
                let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
                gpu.storage(name, words, usage).map(Arc::new)
            }
        }
    }
    pub(crate) fn upload(&self, storage: &Storage, first: usize, words: &[u32]) -> Result<(), Error> {
        match &self.0.body {
            Body::Host => {
                let mut data = storage.host().lock().unwrap_or_else(PoisonError::into_inner);
                data[first..first + words.len()].copy_from_slice(words);
                Ok(())
            }
            Body::Gpu(gpu) => gpu.upload(storage, first, words),
        }
    }
    /// New storage under a token.
    pub(crate) fn adopt(&self, token: &Arc<Token>, storage: Arc<Storage>) {
        self.sweep();
        let mut variables = self.0.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.insert(token.id, Held { token: Arc::downgrade(token), storage });
    }
    /// The storage of a variable. Error: [`Code::DeviceMismatch`].
    pub(crate) fn held(&self, token: &Token) -> Result<Arc<Storage>, Error> {
        if token.device != self.0.id {
            let message = format!(
                "variable `{}` belongs to {}, this is {}",
                token.name,
                name_of(token.device),
                name_of(self.0.id),
            );
            return Err(Error::new(Code::DeviceMismatch, "device", message)
                .hint("read the variable on its device and create one here"));
        }
        let variables = self.0.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.get(&token.id).map(|held| held.storage.clone()).ok_or_else(|| {
            Error::new(Code::Internal, "device", format!("the storage of variable `{}` is gone", token.name))
        })
    }
    /// Frees the storage of variables whose last handle is gone.
    fn sweep(&self) {
        let mut variables = self.0.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.retain(|_, held| held.token.strong_count() > 0);
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (device {})", self.name(), self.0.id)
    }
}

impl PartialEq for Device {
    /// Whether both are handles of one device.
    fn eq(&self, other: &Device) -> bool {
        self.0.id == other.0.id
    }
}
