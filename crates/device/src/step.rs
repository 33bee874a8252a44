//! Steps: a whole iteration planned once and run many times.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use cotangent_shaders::{BufferId, Plan, plan};
use cotangent_tensor::{Array, Code, Error, Inspected, Node, Op, Tensor, Token, marks};

use crate::check::{Report, check_program};
use crate::device::{Device, name_of};
use crate::feed::{Feed, fit};

use crate::program::{Check, Flight, Program};
use crate::read::known;
use crate::variable::{Region, not_a_variable};

/// An iteration, such as forward, backward and optimizer, made ready to run: kernels compiled, memory assigned,
/// parameters written. A run is one submission. A cheap handle.
///
/// ```no_run
/// use cotangent_device::{Device, Step};
/// use cotangent_tensor::{DType, Tensor};
///
/// let device = Device::best();
/// let w = device.variable("w", &[0.0; 3])?;
/// let x = Tensor::input("x", [3], DType::F32);
/// let difference = w.tensor() - &x;
/// let loss = (&difference * &difference).sum(..);
/// let new_w = w.tensor() - 0.2 * &difference;
/// let step = Step::new(&device, &[&x], &[&loss], &[(&w, &new_w)])?;
/// for _ in 0..10 {
///     let outputs = step.run(&[(&x, &[1.0, 2.0, 3.0])])?;
///     println!("{}", outputs.scalar(0)?);
/// }
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Step(Arc<Inner>);

/// How a step is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepOptions {
    /// What is looked at during runs.
    pub check: Check,
    /// Whether nodes share kernels. Off only to find out what fusion does.
    pub fuse: bool,
    /// Whether runs also compute what [`Tensor::inspect`] has marked, for [`Outputs::inspected`]. Off, marks cost nothing.
    pub inspect: bool,
    /// Bytes that computed values may take: [`StepMemory::planned`](crate::StepMemory) without scratch storage. Where more
    /// would be kept for derivatives, the step computes values of the forward pass again, as a checkpoint does: the earliest
    /// part of the program first, each value once. `E_OUT_OF_MEMORY` if that does not suffice. None: everything is kept.
    pub budget: Option<u64>,
}

impl Default for StepOptions {
    fn default() -> StepOptions {
        StepOptions { check: Check::Status, fuse: true, inspect: false, budget: None }
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) program: Program,
    inputs: Vec<Input>,
    /// What the user asked for, then the values of `marks`.
    outputs: Vec<Output>,
    marks: Vec<Marked>,
}

/// Label and line of a mark.
type Marked = (Arc<str>, &'static Location<'static>);

#[derive(Debug)]
struct Input {
    node: Arc<Node>,
    token: Arc<Token>,
    /// None where no output or update depends on it.
    buffer: Option<BufferId>,
}

#[derive(Debug)]
struct Output {
    node: Arc<Node>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Known(Array),
    Computed(usize),
}

/// The outputs of one run. They stay readable however many runs follow.
#[derive(Clone, Debug)]
pub struct Outputs {
    step: Arc<Inner>,
    flight: Flight,
}

/// The first inputs of a run.
pub(crate) type Given<'a> = Vec<(BufferId, Cow<'a, [u32]>)>;

impl Step {
    /// Plans an iteration. `outputs` are what a run returns; an update is a variable (or one of a group) with its new
    /// value, computed from old values and written when the run ends.
    ///
    /// Errors: that of the first invalid tensor; [`Code::Unbound`] for an input that is not listed; [`Code::Update`];
    /// [`Code::DeviceMismatch`]; what planning and compiling report.
    pub fn new(
        device: &Device,
        inputs: &[&Tensor],
        outputs: &[&Tensor],
        updates: &[(&Tensor, &Tensor)],
    ) -> Result<Step, Error> {
        Step::with_options(device, inputs, outputs, updates, StepOptions::default())
    }
    /// The same with options.
    pub fn with_options(
        device: &Device,
        inputs: &[&Tensor],
        outputs: &[&Tensor],
        updates: &[(&Tensor, &Tensor)],
        options: StepOptions,
    ) -> Result<Step, Error> {
        let values = updates.iter().map(|(_, value)| *value);
        let marks = match options.inspect {
            true => marks(&outputs.iter().copied().chain(values).collect::<Vec<_>>())?,
            false => Vec::new(),
        };
        let updates = assemble(device, updates)?;
        let computed = outputs.iter().copied().chain(marks.iter().map(|mark| &mark.tensor));
        let nodes = computed.map(|tensor| tensor.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let (asked, outputs) = sort(nodes)?;
        let mut plan_options = device.plan_options();
        plan_options.fuse = options.fuse;
        plan_options.budget = options.budget.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let plan = plan(&asked, &updates, &plan_options)?;
        let program = Program::new(device, plan, options.check)?;
        let input = |tensor: &&Tensor| {
            let node = tensor.node()?;
            let Op::Input(token) = &node.op else {
                let message = format!("`{}` is listed as an input and is none", node.name());
                return Err(Error::new(Code::Unbound, "step", message)
                    .at(node.location)
                    .hint("inputs are made by `Tensor::input`"));
            };
            Ok(Input { node: node.clone(), token: token.clone(), buffer: program.input(token) })
        };
        let inputs = inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<u64> = inputs.iter().map(|input| input.token.id).collect();
        program.require_inputs("step", &ids, "list it among the inputs of the step")?;
        let marks = marks.into_iter().map(|mark| (mark.label, mark.location)).collect();
        let inner = Arc::new(Inner { program, inputs, outputs, marks });
        device.remember(&inner);
        Ok(Step(inner))
    }

    /// Runs once and waits. Every input needs a value of its shape and type. A run whose checks fail has nevertheless run
    /// to its end: variables hold what its kernels wrote, where an index outside its axis reads as 0; in anomaly mode they hold what
    /// they held before.
    ///
    /// Errors: [`Code::Unbound`], [`Code::ShapeChanged`], [`Code::Dtype`] naming the input; what the checks find; what the
    /// device reports.
    pub fn run(&self, inputs: &[(&Tensor, &dyn Feed)]) -> Result<Outputs, Error> {
        let outputs = self.launch(inputs)?;
        outputs.wait()?;
        Ok(outputs)
    }
    /// Starts a run and does not wait. At most four runs are under way: the next one waits for the oldest. What the
    /// checks of a run find comes back from its outputs, or from a later launch or read where nobody holds them any more. In anomaly
    /// mode it waits after all, and the error comes from here.
    pub fn launch(&self, inputs: &[(&Tensor, &dyn Feed)]) -> Result<Outputs, Error> {
        let given = self.given(inputs)?;
        let program = &self.0.program;
        let flight = if program.check == Check::CrossCheck {
            check_program(program, &given)?;
            let outputs = program.plan.outputs.iter().map(|place| program.read(place));
            Flight::Host(Arc::new(outputs.collect::<Result<_, _>>()?))
        } else {
            program.launch(&given)?
        };
        Ok(Outputs { step: self.0.clone(), flight })
    }
    /// Runs once, kernel by kernel, and compares each with the reference. Error: [`Code::CrossCheck`] with the first value
    /// outside its bound.
    pub fn cross_check(&self, inputs: &[(&Tensor, &dyn Feed)]) -> Result<Report, Error> {
        check_program(&self.0.program, &self.given(inputs)?)
    }
    /// Checks names, shapes and types of inputs.
    pub(crate) fn given<'a>(&self, inputs: &'a [(&Tensor, &dyn Feed)]) -> Result<Given<'a>, Error> {
        let mut words: Vec<Option<Cow<'a, [u32]>>> = vec![None; self.0.inputs.len()];
        for (tensor, data) in inputs {
            let node = tensor.node()?;
            let known = self.0.inputs.iter().position(|input| match &node.op {
                Op::Input(token) => token.id == input.token.id,
                _ => false,
            });
            let Some(position) = known else {
                let error =
                    Error::new(Code::Unbound, "run", format!("`{}` is no input of this step", node.name()));
                let alike = self.0.inputs.iter().any(|input| input.token.name == node.name());
                let help = match alike {
                    true => {
                        "the step has an input of that name, which is another tensor: pass the one that it was built with"
                    }
                    false => "list it among the inputs of the step",
                };
                return Err(error.at(node.location).hint(help));
            };
            if words[position].is_some() {
                let message = format!("input `{}` is given twice", self.0.inputs[position].token.name);
                return Err(Error::new(Code::Unbound, "run", message)
                    .at(node.location)
                    .hint("one value per input and run"));
            }
            words[position] = Some(fit(*data, node, "run")?);
        }
        let mut given = Vec::new();
        for (input, words) in self.0.inputs.iter().zip(words) {
            let Some(words) = words else {
                let message = format!("input `{}` has no value", input.token.name);
                return Err(Error::new(Code::Unbound, "run", message)
                    .at(input.node.location)
                    .hint("give it one: `step.run(&[(&input, &data), …])`"));
            };
            given.extend(input.buffer.map(|buffer| (buffer, words)));
        }
        Ok(given)
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.program().device
    }
    /// Kernels per run.
    pub fn kernels(&self) -> usize {
        self.plan().kernels.len()
    }
    /// Dispatches per run; on the CPU device one per kernel.
    pub fn dispatches(&self) -> usize {
        self.program().launches()
    }
    /// Submissions per run: 1 on an adapter, 0 on the CPU device.
    pub fn submits(&self) -> usize {
        usize::from(self.program().is_gpu())
    }
    pub(crate) fn program(&self) -> &Program {
        &self.0.program
    }
    pub(crate) fn plan(&self) -> &Plan {
        &self.0.program.plan
    }
}

impl Outputs {
    /// Waits until the run has ended, and says what its checks found.
    pub fn wait(&self) -> Result<(), Error> {
        self.step.program.wait(&self.flight)
    }
    /// Output `position`, in the order in which the step lists them. Waits for the run.
    pub fn read(&self, position: usize) -> Result<Array, Error> {
        if position >= self.len() {
            let message = format!("there is no output {position}: the step has {}", self.len());
            return Err(
                Error::new(Code::Unbound, "outputs", message).hint("outputs are numbered from 0, as listed")
            );
        }
        self.value(position)
    }
    fn value(&self, position: usize) -> Result<Array, Error> {
        match &self.step.outputs[position].value {
            Value::Known(array) => Ok(array.clone()),
            Value::Computed(computed) => self.step.program.output(&self.flight, *computed),
        }
    }
    /// What [`Tensor::inspect`] has marked in the graphs of outputs and updates, in an order in which it can be computed
    /// (see [`Evaluate::inspect`](cotangent_tensor::Evaluate::inspect)); nothing unless [`StepOptions::inspect`] is set. Waits for
    /// the run.
    pub fn inspected(&self) -> Result<Vec<Inspected>, Error> {
        let marks = self.step.marks.iter().zip(self.len()..);
        let inspected = |((label, location), position): (&Marked, usize)| {
            Ok(Inspected { label: label.clone(), location, value: self.value(position)? })
        };
        marks.map(inspected).collect()
    }
    /// The value of a tensor that the step lists among its outputs. Waits for the run.
    pub fn get(&self, tensor: &Tensor) -> Result<Array, Error> {
        let node = tensor.node()?;
        let mut asked = self.step.outputs[..self.len()].iter();
        let position = asked.position(|output| Arc::ptr_eq(&output.node, node));
        match position {
            Some(position) => self.read(position),
            None => Err(Error::new(
                Code::Unbound,
                "outputs",
                format!("`{}` is no output of this step", node.called()),
            )
            .at(node.location)
            .hint("list it among the outputs of the step")),
        }
    }
    /// Output `position` as one number. Error: [`Code::NotScalar`].
    #[track_caller]
    pub fn scalar(&self, position: usize) -> Result<f64, Error> {
        self.read(position)?.scalar()
    }
    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.step.outputs.len() - self.step.marks.len()
    }
    /// Whether the step lists no outputs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The outputs that kernels compute, each once, and what to make of them.
fn sort(nodes: Vec<Arc<Node>>) -> Result<(Vec<Arc<Node>>, Vec<Output>), Error> {
    let mut asked: Vec<Arc<Node>> = Vec::new();
    let mut positions: HashMap<*const Node, usize> = HashMap::new();
    let mut outputs = Vec::new();
    for node in nodes {
        let value = match known(&node)? {
            Some(array) => Value::Known(array),
            None => Value::Computed(*positions.entry(node.key()).or_insert_with(|| {
                asked.push(node.clone());
                asked.len() - 1
            })),
        };
        outputs.push(Output { node, value });
    }
    Ok((asked, outputs))
}

/// A variable and its new value.
type Update = (Arc<Node>, Arc<Node>);
/// New values of parts of a variable.
type Parts = Vec<(Region, Tensor)>;

/// Turns updates of variables and of parts of variables into at most one update per variable.
fn assemble(device: &Device, updates: &[(&Tensor, &Tensor)]) -> Result<Vec<Update>, Error> {
    let mut by_variable: Vec<(Arc<Node>, Parts)> = Vec::new();
    for (target, value) in updates {
        let (target, node) = (target.node()?, value.node()?);
        let region = Region::of(target).ok_or_else(|| not_a_variable(target))?;
        if region.token.device != device.0.id {
            let (name, owner) = (&region.token.name, name_of(region.token.device));
            let message =
                format!("variable `{name}` belongs to {owner}, the step to {}", name_of(device.0.id));
            return Err(Error::new(Code::DeviceMismatch, "step", message).at(target.location));
        }
        if node.shape != target.shape || node.dtype != target.dtype {
            let (name, given) = (target.called(), format!("{} {}", node.dtype, node.shape));
            let message = format!("`{name}` is {} {}, its new value is {given}", target.dtype, target.shape);
            return Err(Error::new(Code::Update, "step", message)
                .at(node.location)
                .hint("a variable keeps its shape and type: reduce, reshape or cast the new value"));
        }
        if region.elements == 0 {
            continue;
        }
        let same = |(variable, _): &&mut (Arc<Node>, Vec<_>)| match &variable.op {
            Op::Variable(token) => token.id == region.token.id,
            _ => false,
        };
        match by_variable.iter_mut().find(same) {
            Some((_, parts)) => parts.push((region, (*value).clone())),
            None => by_variable.push((region.variable.clone(), vec![(region, (*value).clone())])),
        }
    }
    by_variable
        .into_iter()
        .map(|(variable, parts)| Ok((variable.clone(), whole(&variable, parts)?)))
        .collect()
}

/// The new value of a variable from those of its parts; what has none keeps its old value.
fn whole(variable: &Arc<Node>, mut parts: Parts) -> Result<Arc<Node>, Error> {
    parts.sort_by_key(|(region, _)| region.first);
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].0.first + pair[0].0.elements > pair[1].0.first) {
        let message = format!("variable `{}` has two new values", variable.name());
        return Err(Error::new(Code::Update, "step", message)
            .at(pair[1].1.node()?.location)
            .hint("give each variable one new value per step"));
    }
    if let [(region, value)] = &parts[..]
        && region.is_whole()
    {
        return Ok(value.reshape(variable.shape).node()?.clone());
    }
    let old = Tensor::from_node(variable.clone());
    let mut pieces = Vec::new();
    let mut at = 0;
    for (region, value) in &parts {
        if region.first > at {
            pieces.push(old.slice(0, at, region.first, 1));
        }
        pieces.push(value.reshape([isize::try_from(region.elements).unwrap_or(isize::MAX)]));
        at = region.first + region.elements;
    }
    if at < variable.shape.elements() {
        pieces.push(old.slice(0, at, variable.shape.elements(), 1));
    }
    let flat = Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 0);
    Ok(flat.node()?.clone())
}
