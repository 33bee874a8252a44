//! A plan with its storage on a device: what reads, steps and cross-checks run.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cotangent_shaders::{
    Body as Kind, BufferId, Code as Instruction, Dispatch, Kernel, Place, Plan, Source, Watch, lower,
};
use cotangent_tensor::{Array, Chain, Code, DType, Detail, Error, Token, endless_error, index_error};

use crate::anomaly::{self, Anomaly, Replay};
use crate::cpu;
use crate::device::{Body as DeviceBody, Device};
use crate::fault::Faults;
use crate::gpu::program::{GpuProgram, Order, STATUS_WORDS};
use crate::gpu::{Gpu, ring};
use crate::host::{HostProgram, Session};
use crate::storage::{Storage, decode, encode, words_of};

/// What a step looks at while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Check {
    /// Nothing.
    Off,
    /// Indices outside their axis.
    #[default]
    Status,
    /// Also every F32 or F16 value that a kernel writes: none may be NaN or infinite.
    Nan,
    /// Also, as kernels write it, the first F32 or F16 value that is watched for: the error says which operation made it of
    /// which operands, at which line, forward or backward. Every run is waited for, and one that fails leaves variables as they
    /// were before it.
    Anomaly(Watch),
    /// Also every kernel against the reference. Slow.
    CrossCheck,
}

/// A plan that can be run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) device: Device,
    pub(crate) plan: Plan,
    pub(crate) check: Check,
    pub(crate) body: Body,
    checked: Vec<Checked>,
    regions: Vec<Region>,
    inputs: HashMap<u64, BufferId>,
    anomaly: Option<Anomaly>,
    /// The error of a run whose outputs nobody waited for.
    failed: Mutex<Option<Error>>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Host(Box<HostProgram>),
    Gpu(Box<GpuProgram>, Vec<Arc<Storage>>),
}

/// An F32 or F16 value that is looked at after its kernel.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Where the user made the value.
    location: &'static Location<'static>,
    pub(crate) kernel: usize,
    pub(crate) name: String,
    pub(crate) buffer: BufferId,
    /// First element.
    pub(crate) first: usize,
    pub(crate) elements: usize,
    /// Whether it is F16, two elements per word.
    pub(crate) half: bool,
}

/// Words that hold a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) buffer: BufferId,
    pub(crate) first: usize,
    pub(crate) words: usize,
    /// Elements to skip in the first word: 1 for an F16 value that starts in the second half.
    pub(crate) skip: usize,
}

/// A run whose outputs can be waited for.
#[derive(Clone, Debug)]
pub(crate) enum Flight {
    Host(Arc<Vec<Array>>),
    Gpu(Arc<ring::Flight>),
}

/// The number of runs whose outputs may wait on the device.
pub(crate) const RING: usize = 4;

impl Region {
    pub(crate) fn of(plan: &Plan, place: &Place) -> Region {
        let elements = place.node.shape.elements();
        match plan.buffers[place.buffer].dtype {
            DType::F16 => {
                let skip = place.offset % 2;
                let words = words_of(DType::F16, skip + elements);
                Region { buffer: place.buffer, first: place.offset / 2, words, skip }
            }
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => {
                Region { buffer: place.buffer, first: place.offset, words: elements, skip: 0 }
            }
        }
    }
}

impl Program {
    /// Makes a plan ready to run.
    pub(crate) fn new(device: &Device, plan: Plan, check: Check) -> Result<Program, Error> {
        let dispatches = match &device.0.body {
            DeviceBody::Host => Vec::new(),
            DeviceBody::Gpu(_) => {
                let target = &device.0.info.target;
                let watch = if let Check::Anomaly(watch) = check { Some(watch) } else { None };
                let lowered =
                    plan.kernels.iter().zip(0..).map(|(kernel, number)| lower(kernel, target, number, watch));
                lowered.collect::<Result<_, _>>()?
            }
        };
        Program::with_dispatches(device, plan, dispatches, check)
    }
    /// The same with dispatches that are given.
    pub(crate) fn with_dispatches(
        device: &Device,
        plan: Plan,
        dispatches: Vec<Vec<Dispatch>>,
        check: Check,
    ) -> Result<Program, Error> {
        let regions: Vec<Region> = plan.outputs.iter().map(|place| Region::of(&plan, place)).collect();
        let checked = if check == Check::Nan { checked(&plan) } else { Vec::new() };
        let anomaly = if let Check::Anomaly(watch) = check { Some(Anomaly::new(&plan, watch)) } else { None };
        let body = match &device.0.body {
            DeviceBody::Host => Body::Host(Box::new(HostProgram::new(device, &plan)?)),
            DeviceBody::Gpu(gpu) => {
                let buffers = buffers(device, &plan)?;
                let outputs: Vec<_> = regions.iter().map(|r| (r.buffer, r.first, r.words)).collect();
                let order = Order {
                    plan: &plan,
                    dispatches,
                    buffers: &buffers,
                    outputs: &outputs,
                    checked: &checked,
                    kept: anomaly.as_ref().map_or(&[], |anomaly| &anomaly.variables),
                    target: &device.0.info.target,
                    depth: RING,
                };
                Body::Gpu(Box::new(GpuProgram::new(gpu, order)?), buffers)
            }
        };
        let mut inputs = HashMap::new();
        for (id, buffer) in plan.buffers.iter().enumerate() {
            if let Source::Input(token) = &buffer.source {
                inputs.insert(token.id, id);
            }
        }
        let device = device.clone();
        Ok(Program { device, plan, check, body, checked, regions, inputs, anomaly, failed: Mutex::new(None) })
    }
    /// The buffer of an input, if the plan uses it.
    pub(crate) fn input(&self, token: &Token) -> Option<BufferId> {
        self.inputs.get(&token.id).copied()
    }
    /// Fails with [`Code::Unbound`] if an input is not among `known`.
    pub(crate) fn require_inputs(&self, operation: &str, known: &[u64], hint: &str) -> Result<(), Error> {
        for (id, buffer) in self.plan.buffers.iter().enumerate() {
            if let Source::Input(token) = &buffer.source
                && !known.contains(&token.id)
            {
                let message = format!("input `{}` has no value", token.name);
                let error = Error::new(Code::Unbound, operation, message).hint(hint);
                let place = self.plan.sources.iter().find(|place| place.buffer == id);
                return Err(place.map_or(error.clone(), |place| error.at(place.node.location)));
            }
        }
        Ok(())
    }
    fn gpu(&self) -> &Gpu {
        match &self.device.0.body {
            DeviceBody::Gpu(gpu) => gpu,
            DeviceBody::Host => unreachable!("a GPU program belongs to a GPU"),
        }
    }

    /// Starts a run with these inputs.
    pub(crate) fn launch(&self, inputs: &[(BufferId, Cow<'_, [u32]>)]) -> Result<Flight, Error> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error.within("in an earlier run of this step, whose outputs were not read"));
        }
        match &self.body {
            Body::Host(host) => {
                let arrays = host.with(inputs, |session| {
                    if let Some(anomaly) = &self.anomaly {
                        self.host_watched(session, anomaly)?;
                    } else if self.checked.is_empty() && self.device.0.faults.is_empty() {
                        session.run()?;
                    } else {
                        // Every kernel runs, as on an adapter; the first that reports is the cause.
                        let kernels = 0..self.plan.kernels.len();
                        kernels.map(|kernel| self.host_kernel(session, kernel)).fold(Ok(()), Result::and)?;
                    }
                    self.plan.outputs.iter().map(|place| session.read(place)).collect()
                });
                Ok(Flight::Host(Arc::new(arrays?)))
            }
            Body::Gpu(program, buffers) => {
                let inputs: Vec<_> = inputs
                    .iter()
                    .map(|(id, words)| (buffers[*id].clone(), Cow::Borrowed(&**words)))
                    .collect();
                let mut forgotten = |landed: Result<Arc<Vec<u32>>, Error>| {
                    if let Err(error) = landed.and_then(|words| self.judge(&words)) {
                        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                };
                let Some(anomaly) = &self.anomaly else {
                    return program.launch(self.gpu(), &inputs, &mut forgotten).map(Flight::Gpu);
                };
                // One run at a time, judged at once: the values from before it are there for no other.
                let _alone = lock(&anomaly.alone);
                let flight = program.launch(self.gpu(), &inputs, &mut forgotten)?;
                let words = program.land(self.gpu(), &flight)?;
                self.judge_watched(anomaly, program, &words)?;
                Ok(Flight::Gpu(flight))
            }
        }
    }
    /// Looks at runs whose outputs nobody holds any more. Error: what the checks of the first bad one found, once.
    pub(crate) fn overlooked(&self) -> Result<(), Error> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        match &self.body {
            Body::Gpu(program, _) => program
                .forgotten()
                .iter()
                .try_for_each(|flight| self.judge(&program.land(self.gpu(), flight)?)),
            Body::Host(_) => Ok(()),
        }
    }
    /// Waits for a run and looks at its checks.
    pub(crate) fn wait(&self, flight: &Flight) -> Result<(), Error> {
        match (flight, &self.body) {
            (Flight::Gpu(flight), Body::Gpu(program, _)) => self.judge(&program.land(self.gpu(), flight)?),
            (Flight::Host(_) | Flight::Gpu(_), _) => Ok(()),
        }
    }
    /// Output `position` of a run.
    pub(crate) fn output(&self, flight: &Flight, position: usize) -> Result<Array, Error> {
        match (flight, &self.body) {
            (Flight::Gpu(flight), Body::Gpu(program, _)) => {
                let words = program.land(self.gpu(), flight)?;
                self.judge(&words)?;
                let before: usize = self.regions[..position].iter().map(|region| region.words).sum();
                let start = STATUS_WORDS + 2 * self.checked.len() + before;
                let node = &self.plan.outputs[position].node;
                decode(&words[start..], self.regions[position].skip, node.shape, node.dtype)
            }
            (Flight::Host(arrays), _) => Ok(arrays[position].clone()),
            (Flight::Gpu(_), Body::Host(_)) => unreachable!("a flight belongs to its program"),
        }
    }

    /// What the status words and checks of a run say.
    fn judge(&self, words: &[u32]) -> Result<(), Error> {
        if self.check == Check::Off {
            return Ok(());
        }
        if let [violations, position, index, kernel, _] = words[..STATUS_WORDS]
            && violations > 0
        {
            // An even number is that of a kernel with a wrong index, the next one that of a kernel with an endless loop.
            let (kernel, loops) = (!kernel / 2, !kernel % 2 == 1);
            return Err(match loops {
                false => self.index_error(violations, !position, index, kernel),
                true => self.endless_error(!position, index, kernel),
            });
        }
        let report = words[STATUS_WORDS..].chunks_exact(2);
        // Kernels run in order: the first that reports is the cause.
        match self.checked.iter().zip(report).find(|(_, pair)| pair[0] > 0) {
            None => Ok(()),
            Some((check, pair)) => {
                let (count, first) = (pair[0] as usize, (u32::MAX - pair[1]) as usize);
                Err(self.nonfinite(check, count, first, |place| self.read(place)))
            }
        }
    }
    /// What anomaly mode finds out about a run that has just ended. An index outside its axis comes first, and variables get
    /// their values from before the run back in any case.
    fn judge_watched(&self, anomaly: &Anomaly, program: &GpuProgram, words: &[u32]) -> Result<(), Error> {
        let indices = self.judge(words);
        let noted = words[STATUS_WORDS - 1];
        if indices.is_ok() && noted == 0 {
            return Ok(());
        }
        let mut device = OnGpu { program: self, gpu: program };
        if let Err(error) = indices {
            return device.restore().and(Err(error));
        }
        Err(anomaly::replay(&self.plan, !noted as usize, anomaly.watch, &mut device))
    }
    /// The same on the CPU device, which looks at what each kernel writes.
    fn host_watched(&self, session: &mut Session<'_, '_>, anomaly: &Anomaly) -> Result<(), Error> {
        let mut kept = lock(&anomaly.kept);
        kept.resize(anomaly.variables.len(), Vec::new());
        anomaly.variables.iter().zip(&mut *kept).for_each(|(&buffer, copy)| session.keep(buffer, copy));
        let (mut indices, mut noted) = (Ok(()), None);
        for (number, kernel) in self.plan.kernels.iter().enumerate() {
            indices = indices.and(self.host_kernel(session, number));
            let mut floats = kernel.writes.iter().filter(|place| place.node.dtype.is_float());
            if noted.is_none() && floats.any(|place| session.holds(&self.plan, place, anomaly.watch)) {
                noted = Some(number);
            }
        }
        let mut device = OnHost { program: self, session, kept: &kept };
        match (indices, noted) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(number)) => Err(anomaly::replay(&self.plan, number, anomaly.watch, &mut device)),
            (Err(error), _) => device.restore().and(Err(error)),
        }
    }
    fn index_error(&self, violations: u32, position: u32, index: u32, kernel: u32) -> Error {
        let Some(kernel) = self.plan.kernels.get(kernel as usize) else {
            return Error::new(
                Code::Internal,
                "step",
                format!("kernel {kernel} of the status does not exist"),
            );
        };
        // The bits say whether the index was signed only to those who know its type; sizes are below 2³¹ in practice.
        let index = f64::from(index.cast_signed());
        let wrong = |(_, size): &(&str, usize)| index < 0.0 || index >= *size as f64;
        let (operation, size) = indexed(kernel).into_iter().find(wrong).unwrap_or((&kernel.name, 0));
        let error = index_error(operation, position as usize, index, size);
        error.at(kernel.location).with("violations", Detail::Integer(i64::from(violations)))
    }
    /// The error of element `position` of loop number `number` of a kernel.
    fn endless_error(&self, position: u32, number: u32, kernel: u32) -> Error {
        let found = self.plan.kernels.get(kernel as usize).and_then(|kernel| {
            let looped = |instruction: &cotangent_shaders::Instruction| match &instruction.code {
                Instruction::While(looped, _) => Some(looped.clone()),
                _ => None,
            };
            let looped = code_of(kernel)?.code.iter().filter_map(looped).nth(number as usize)?;
            Some((kernel, looped))
        });
        match found {
            Some((kernel, looped)) => {
                let error = endless_error(&looped.name, looped.rounds, position as usize).at(kernel.location);
                // Half of what the adapter grants is for the loops of elements.
                match self.device.0.info.target.loop_budget {
                    turns if turns != u32::MAX && looped.rounds > turns / 2 => error.hint(format!(
                        "this adapter stops the loops of an invocation after {turns} turns in all, of which half may be spent here; \
                         run it on the cpu device, or see why it does not end"
                    )),
                    _ => error,
                }
            }
            None => {
                Error::new(Code::Internal, "step", format!("loop {number} of kernel {kernel} does not exist"))
            }
        }
    }
    fn nonfinite(
        &self,
        check: &Checked,
        count: usize,
        first: usize,
        read: impl Fn(&Place) -> Result<Array, Error>,
    ) -> Error {
        let kernel = &self.plan.kernels[check.kernel];
        let operands = self.operands_at(check, first, read);
        let operands = if operands.is_empty() { String::new() } else { format!(", where {operands}") };
        let message = format!(
            "`{}` has {count} of {} values that are not finite, the first at element {first}{operands}",
            check.name, check.elements,
        );
        let hint = match check.half {
            true => "f16 ends at 65504: keep such values in f32, or make them smaller (loss scaling)",
            false => "this is the first kernel of the step that wrote such a value; look at its operands",
        };
        Error::new(Code::Nonfinite, &kernel.name, message)
            .at(check.location)
            .with("count", Detail::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
            .with("first", Detail::Integer(i64::try_from(first).unwrap_or(i64::MAX)))
            .hint(hint)
    }
    /// What a kernel read at an element of a value that it wrote: operands of the same shape that still hold what it read.
    fn operands_at(
        &self,
        check: &Checked,
        element: usize,
        read: impl Fn(&Place) -> Result<Array, Error>,
    ) -> String {
        let Kernel { reads, writes, .. } = &self.plan.kernels[check.kernel];
        let is_value = |place: &&Place| place.buffer == check.buffer && place.offset == check.first;
        let Some(value) = writes.iter().find(is_value) else { return String::new() };
        let holds = |place: &&Place| {
            let lasts = !matches!(self.plan.buffers[place.buffer].source, Source::Computed { .. });
            let overwritten = writes.iter().any(|written| written.buffer == place.buffer);
            place.node.shape == value.node.shape && lasts && !overwritten
        };
        let shown = |place: &Place| {
            let operand = *read(place).ok()?.to_f64().get(element)?;
            let name = place.node.called();
            Some(format!("`{name}` is {operand}"))
        };
        reads.iter().filter(holds).filter_map(shown).collect::<Vec<_>>().join(" and ")
    }

    /// Runs one kernel on the CPU device, with planted faults and checks.
    fn host_kernel(&self, host: &mut Session<'_, '_>, number: usize) -> Result<(), Error> {
        let kernel = &self.plan.kernels[number];
        if self.device.0.faults.skip_kernel(number) {
            return Ok(());
        }
        host.run_kernel(number)?;
        for (buffer, word, bit) in flips(&self.device.0.faults, &self.plan, number) {
            host.flip(buffer, word, bit);
        }
        for check in self.checked.iter().filter(|check| check.kernel == number) {
            let place = kernel
                .writes
                .iter()
                .find(|place| place.buffer == check.buffer && place.offset == check.first);
            let Some(place) = place else { continue };
            let values = host.read(place)?.to_f32();
            let bad = |value: &f32| !value.is_finite();
            if let Some(first) = values.iter().position(bad) {
                let count = values.iter().filter(|value| bad(value)).count();
                return Err(self.nonfinite(check, count, first, |place| host.read(place)));
            }
        }
        Ok(())
    }

    // The rest serves the cross-check, which runs kernel by kernel.

    /// Gives inputs their values.
    pub(crate) fn set_inputs(&self, inputs: &[(BufferId, Cow<'_, [u32]>)]) -> Result<(), Error> {
        match &self.body {
            Body::Host(host) => host.with(inputs, |_| Ok(())),
            Body::Gpu(program, buffers) => {
                program.clear_status(self.gpu())?;
                inputs.iter().try_for_each(|(id, words)| self.gpu().upload(&buffers[*id], 0, words))
            }
        }
    }
    /// Runs one kernel and waits for it.
    pub(crate) fn run_kernel(&self, number: usize) -> Result<(), Error> {
        match &self.body {
            Body::Host(host) => host.with(&[], |session| self.host_kernel(session, number)),
            Body::Gpu(program, _) => {
                program.run_kernel(self.gpu(), number, &self.plan.kernels[number].name)?;
                self.judge(&program.status(self.gpu())?)
            }
        }
    }
    /// The value that lies at a place now.
    pub(crate) fn read(&self, place: &Place) -> Result<Array, Error> {
        match &self.body {
            Body::Host(host) => host.with(&[], |session| session.read(place)),
            Body::Gpu(_, buffers) => {
                let region = Region::of(&self.plan, place);
                if region.words == 0 {
                    return decode(&[], 0, place.node.shape, place.node.dtype);
                }
                let words = self.gpu().download(&buffers[region.buffer], region.first, region.words)?;
                decode(&words, region.skip, place.node.shape, place.node.dtype)
            }
        }
    }
    /// The order of the sums of a kernel, as far as it bounds their error.
    pub(crate) fn chain(&self, number: usize) -> Chain {
        let depth = match (&self.body, &self.plan.kernels[number].body) {
            (Body::Gpu(program, _), _) => program.chain(number),
            (Body::Host(_), Kind::Loop(_) | Kind::Scan(_)) => cpu::CHAIN,
            // The library behind it promises no order.
            (Body::Host(_), Kind::Matmul(_) | Kind::User(_)) => return Chain::Serial,
        };
        Chain::Passes { terms: usize::MAX, depth }
    }
    /// Names of the dispatches of each kernel; none on the CPU device.
    pub(crate) fn dispatches(&self, number: usize) -> Vec<&str> {
        match &self.body {
            Body::Host(_) => Vec::new(),
            Body::Gpu(program, _) => {
                let list = program.batch.dispatches.iter().filter(|dispatch| dispatch.kernel == number);
                list.map(|dispatch| &*dispatch.label).collect()
            }
        }
    }
    /// The kernel after this one that takes turns with it where a whole step is run, on the CPU device.
    pub(crate) fn along(&self, number: usize) -> Option<usize> {
        match &self.body {
            Body::Host(host) => host.along(number),
            Body::Gpu(..) => None,
        }
    }
    /// Seconds of each kernel in one run with these inputs.
    pub(crate) fn seconds(&self, inputs: &[(BufferId, Cow<'_, [u32]>)]) -> Result<Vec<f64>, Error> {
        self.set_inputs(inputs)?;
        match &self.body {
            Body::Host(host) => host.with(&[], |session| {
                let timed = |kernel| {
                    let start = std::time::Instant::now();
                    self.host_kernel(session, kernel)?;
                    Ok(start.elapsed().as_secs_f64())
                };
                (0..self.plan.kernels.len()).map(timed).collect()
            }),
            Body::Gpu(program, _) => {
                let mut seconds = vec![0.0; self.plan.kernels.len()];
                let timed = crate::gpu::profile::seconds(self.gpu(), &program.batch)?;
                for (dispatch, time) in program.batch.dispatches.iter().zip(timed) {
                    seconds[dispatch.kernel] += time;
                }
                self.judge(&program.status(self.gpu())?)?;
                Ok(seconds)
            }
        }
    }
    pub(crate) fn is_gpu(&self) -> bool {
        matches!(self.body, Body::Gpu(..))
    }
    /// Dispatches, or kernels on the CPU device, of a run.
    pub(crate) fn launches(&self) -> usize {
        match &self.body {
            Body::Host(_) => self.plan.kernels.len(),
            Body::Gpu(program, _) => program.batch.dispatches.len(),
        }
    }
    /// Bytes of scratch storage beside the slots of the plan.
    pub(crate) fn scratch_bytes(&self) -> u64 {
        match &self.body {
            Body::Host(_) => 0,
            Body::Gpu(program, _) => program.scratch_bytes(),
        }
    }
}

/// A replay on an adapter.
struct OnGpu<'a> {
    program: &'a Program,
    gpu: &'a GpuProgram,
}

impl Replay for OnGpu<'_> {
    fn restore(&mut self) -> Result<(), Error> {
        self.gpu.restore(self.program.gpu())
    }
    fn run(&mut self, kernel: usize) -> Result<(), Error> {
        self.gpu.run_kernel(self.program.gpu(), kernel, &self.program.plan.kernels[kernel].name)
    }
    fn read(&mut self, place: &Place) -> Result<Array, Error> {
        self.program.read(place)
    }
}

/// A replay on the CPU device.
struct OnHost<'a, 's, 'b> {
    program: &'a Program,
    session: &'a mut Session<'s, 'b>,
    kept: &'a [Vec<u32>],
}

impl Replay for OnHost<'_, '_, '_> {
    fn restore(&mut self) -> Result<(), Error> {
        let variables = self.program.anomaly.iter().flat_map(|anomaly| &anomaly.variables);
        variables.zip(self.kept).for_each(|(&buffer, words)| self.session.write(buffer, words));
        Ok(())
    }
    fn run(&mut self, kernel: usize) -> Result<(), Error> {
        self.program.host_kernel(self.session, kernel)
    }
    fn read(&mut self, place: &Place) -> Result<Array, Error> {
        self.session.read(place)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The planted flips after a kernel: buffer, word, bit. A flip beyond the words of a value does not happen.
pub(crate) fn flips(faults: &Faults, plan: &Plan, kernel: usize) -> Vec<(BufferId, usize, u32)> {
    let regions: Vec<Region> = plan.kernels[kernel].writes.iter().map(|p| Region::of(plan, p)).collect();
    let words: Vec<usize> = regions.iter().map(|region| region.words).collect();
    let word = |(output, word, bit): (usize, usize, u32)| {
        (regions[output].buffer, regions[output].first + word, bit)
    };
    faults.flips(kernel, &words).into_iter().map(word).collect()
}

/// Storage of every buffer of a plan: slots by lifetime, leaves uploaded, variables as they are.
fn buffers(device: &Device, plan: &Plan) -> Result<Vec<Arc<Storage>>, Error> {
    let slots: Vec<Arc<Storage>> = plan
        .slots
        .iter()
        .enumerate()
        .map(|(slot, size)| device.storage(&format!("slot {slot}"), size.bytes.div_ceil(4)))
        .collect::<Result<_, _>>()?;
    let storage = |buffer: &cotangent_shaders::Buffer| match &buffer.source {
        Source::Computed { slot } => Ok(slots[*slot].clone()),
        Source::Variable(token) => device.held(token),
        Source::Input(_) => device.storage(&buffer.name, buffer.bytes() / 4),
        Source::Leaf(array) => {
            let storage = device.storage(&buffer.name, buffer.bytes() / 4)?;
            device.upload(&storage, 0, &encode(array, buffer.dtype))?;
            Ok(storage)
        }
    };
    plan.buffers.iter().map(storage).collect()
}

/// The F32 and F16 values that kernels write, in order.
fn checked(plan: &Plan) -> Vec<Checked> {
    let mut checked = Vec::new();
    for (number, kernel) in plan.kernels.iter().enumerate() {
        for place in kernel.writes.iter().filter(|place| place.node.dtype.is_float()) {
            let name = place.node.called().to_owned();
            checked.push(Checked {
                location: place.node.location,
                kernel: number,
                name,
                buffer: place.buffer,
                first: place.offset,
                elements: place.node.shape.elements(),
                half: place.node.dtype == DType::F16,
            });
        }
    }
    checked
}

/// The code of a kernel, if it has some.
fn code_of(kernel: &Kernel) -> Option<&cotangent_shaders::Loop> {
    match &kernel.body {
        Kind::Loop(body) => Some(body),
        Kind::Matmul(matmul) => Some(&matmul.epilogue),
        Kind::Scan(_) | Kind::User(_) => None,
    }
}

/// The operations of a kernel that index an axis, and its size.
fn indexed(kernel: &Kernel) -> Vec<(&str, usize)> {
    let Some(body) = code_of(kernel) else { return Vec::new() };
    let row = body.reduced_elements();
    let size = |instruction: &cotangent_shaders::Instruction| match &instruction.code {
        Instruction::LoadIndexed { size, operation, .. } => Some((*operation, *size)),
        Instruction::Pick { .. } | Instruction::SoftmaxResidual { .. } => Some(("cross_entropy", row)),
        _ => None,
    };
    body.code.iter().filter_map(size).collect()
}
