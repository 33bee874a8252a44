//! Anomaly mode: where the first NaN or infinity of a run was made.
//!
//! Kernels note, as they write, that a value was one of those watched for: one word per run, read when it ends. Only after a hit
//! is anything looked at: variables get the values they had before the run, the kernels up to the noted one run again, one by one,
//! and the nodes of that kernel are evaluated from its own operands. So a report names the operation inside of a fused kernel, its
//! operands at the element, and the line of the user. Variables keep the values from before the run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cotangent_shaders::{BufferId, Kernel, Place, Plan, Source, Watch};
use cotangent_tensor::{
    Arithmetic, Array, Code, DType, Detail, Elementwise, Error, Node, Op, bounded, topological_until,
};

/// What a program in this mode keeps.
#[derive(Debug)]
pub(crate) struct Anomaly {
    pub(crate) watch: Watch,
    /// Buffers of the variables that runs write.
    pub(crate) variables: Vec<BufferId>,
    /// Their words from before a run, on the CPU device.
    pub(crate) kept: Mutex<Vec<Vec<u32>>>,
    /// Held by a run on an adapter until it is judged.
    pub(crate) alone: Mutex<()>,
}

impl Anomaly {
    pub(crate) fn new(plan: &Plan, watch: Watch) -> Anomaly {
        let written = plan.kernels.iter().flat_map(|kernel| &kernel.writes).map(|place| place.buffer);
        let is_variable = |buffer: &BufferId| matches!(plan.buffers[*buffer].source, Source::Variable(_));
        let mut variables: Vec<BufferId> = written.filter(is_variable).collect();
        variables.sort_unstable();
        variables.dedup();
        Anomaly { watch, variables, kept: Mutex::default(), alone: Mutex::default() }
    }
}

/// What a replay needs of a device.
pub(crate) trait Replay {
    /// Gives variables the values from before the run.
    fn restore(&mut self) -> Result<(), Error>;
    fn run(&mut self, kernel: usize) -> Result<(), Error>;
    fn read(&mut self, place: &Place) -> Result<Array, Error>;
}

/// The error about kernel `number`, which wrote a watched value.
pub(crate) fn replay(plan: &Plan, number: usize, watch: Watch, device: &mut dyn Replay) -> Error {
    let found = locate(plan, number, watch, device);
    match device.restore().and(found) {
        Ok(error) | Err(error) => error,
    }
}

fn locate(plan: &Plan, number: usize, watch: Watch, device: &mut dyn Replay) -> Result<Error, Error> {
    let kernel = plan
        .kernels
        .get(number)
        .ok_or_else(|| Error::new(Code::Internal, "anomaly", format!("kernel {number} does not exist")))?;
    device.restore()?;
    (0..number).try_for_each(|earlier| device.run(earlier))?;
    let mut operands: HashMap<*const Node, Array> = HashMap::new();
    for place in &kernel.reads {
        operands.insert(place.node.key(), device.read(place)?);
    }
    device.run(number)?;
    for place in kernel.writes.iter().filter(|place| place.node.dtype.is_float()) {
        let written = device.read(place)?;
        if let Some(element) = written.to_f32().iter().position(|&value| watch.sees(value)) {
            let seen = Seen { watch, operands, value: written.to_f64()[element] };
            let numbers = (number, plan.kernels.len());
            return Ok(seen.report(kernel, numbers, &place.node, element));
        }
    }
    let message = format!("kernel `{}` reported a value that a second run does not make", kernel.name);
    Ok(Error::new(Code::Anomaly, "anomaly", message)
        .at(kernel.location)
        .hint("the device does not compute the same twice; `cross_check` may say more"))
}

/// A watched value, and what its kernel has read.
struct Seen {
    watch: Watch,
    operands: HashMap<*const Node, Array>,
    value: f64,
}

impl Seen {
    fn report(&self, kernel: &Kernel, numbers: (usize, usize), written: &Arc<Node>, element: usize) -> Error {
        let values = self.values(written);
        let (origin, element) = self.origin(&values, written, element);
        let (number, count) = numbers;
        let known = values.get(&origin.key()).and_then(|values| values.get(element));
        let value = known.copied().filter(|&value| self.sees(value, origin.dtype)).unwrap_or(self.value);
        let (name, value) = (described(&origin), self.shown(value, origin.dtype));
        let verb = if origin.operands.is_empty() { "holds" } else { "makes" };
        let mut message = format!("{name} {verb} {value} at element {element} of {}", origin.shape);
        message += &match origin.origin.order {
            0 if origin.origin.again => ", in the forward pass, computed again".to_owned(),
            0 => ", in the forward pass".to_owned(),
            1 => ", in or behind the backward pass".to_owned(),
            order => format!(", in or behind a derivative of order {order}"),
        };
        if let Some(rule) = &origin.origin.rule {
            message += &format!(", in {rule}");
        }
        let operands = self.operands_at(&values, &origin, element);
        if !operands.is_empty() {
            message += &format!(", where {operands}");
        }
        if !known.is_some_and(|&value| self.sees(value, origin.dtype)) {
            message += "; the reference gets a finite value there";
        }
        let place = format!("in kernel `{}`, {} of {count}", kernel.name, number + 1);
        Error::new(Code::Anomaly, "step", message)
            .within(place)
            .at(origin.location)
            .with("kernel", Detail::Text(kernel.name.clone()))
            .with("node", Detail::Text(origin.called().to_owned()))
            .with("element", Detail::Integer(i64::try_from(element).unwrap_or(i64::MAX)))
            .with("order", Detail::Integer(i64::from(origin.origin.order)))
            .hint("variables hold what they held before the run; `where_` keeps a function from arguments outside its domain")
    }

    /// The nodes of the kernel behind `written`, in f64.
    fn values(&self, written: &Arc<Node>) -> HashMap<*const Node, Vec<f64>> {
        let is_read = |node: &Arc<Node>| self.operands.contains_key(&node.key());
        let nodes = topological_until(std::slice::from_ref(written), is_read);
        let mut values: HashMap<*const Node, Vec<f64>> =
            self.operands.iter().map(|(&key, array)| (key, array.to_f64())).collect();
        let inner: Vec<Arc<Node>> = nodes.into_iter().filter(|node| !is_read(node)).collect();
        let evaluated = bounded(&inner, &self.operands, &Arithmetic::default()).unwrap_or_default();
        values.extend(inner.iter().map(|node| node.key()).zip(evaluated.into_iter().map(|b| b.value)));
        values
    }

    /// The node where the value first stands, going back from where it was written: an operand that holds one too is the cause.
    fn origin(
        &self,
        values: &HashMap<*const Node, Vec<f64>>,
        written: &Arc<Node>,
        element: usize,
    ) -> (Arc<Node>, usize) {
        let (mut node, mut at) = (written.clone(), element);
        loop {
            let operands = match (&node.op, &node.operands[..]) {
                // The branch that is not taken is no cause.
                (Op::Elementwise(Elementwise::Select), [condition, yes, no]) => {
                    let taken =
                        values.get(&condition.key()).and_then(|c| c.get(at)).is_none_or(|&c| c != 0.0);
                    vec![if taken { yes.clone() } else { no.clone() }]
                }
                (_, operands) => operands.to_vec(),
            };
            let cause = operands.iter().filter(|operand| operand.dtype.is_float()).find_map(|operand| {
                let held = values.get(&operand.key())?;
                let same = (operand.shape == node.shape).then_some(at);
                let bad = |&i: &usize| held.get(i).is_some_and(|&value| self.sees(value, operand.dtype));
                let found = match same {
                    Some(same) if is_elementwise(&node) => Some(same).filter(bad),
                    _ => (0..held.len()).find(bad),
                };
                Some((operand.clone(), found?))
            });
            match cause {
                Some((operand, element)) => (node, at) = (operand, element),
                None => return (node, at),
            }
        }
    }

    fn operands_at(&self, values: &HashMap<*const Node, Vec<f64>>, node: &Node, element: usize) -> String {
        let shown = |(position, operand): (usize, &Arc<Node>)| {
            let name = operand
                .given_name()
                .map_or_else(|| format!("operand {position}"), |name| format!("`{name}`"));
            let held = values.get(&operand.key())?;
            let value = if operand.shape == node.shape && is_elementwise(node) {
                *held.get(element)?
            } else if let [only] = held[..] {
                only
            } else {
                return Some(format!("{name} is {}", operand.shape));
            };
            Some(format!("{name} is {value}"))
        };
        node.operands.iter().enumerate().filter_map(shown).collect::<Vec<_>>().join(" and ")
    }

    /// Whether a device of f32 makes a watched value of this one.
    fn sees(&self, value: f64, dtype: DType) -> bool {
        self.watch.sees(rounded(value, dtype))
    }

    fn shown(&self, value: f64, dtype: DType) -> String {
        let rounded = rounded(value, dtype);
        if rounded.is_infinite() && value.is_finite() {
            format!("{rounded} (its value, {value:e}, is beyond {dtype})")
        } else {
            format!("{rounded}")
        }
    }
}

fn rounded(value: f64, dtype: DType) -> f32 {
    /// From here on a number rounds to the infinity of F16.
    const END_OF_HALF: f64 = 65520.0;
    if dtype == DType::F16 && value.abs() >= END_OF_HALF {
        return f32::INFINITY.copysign(value as f32);
    }
    #[expect(clippy::cast_possible_truncation, reason = "what a device does")]
    let rounded = value as f32;
    rounded
}

fn is_elementwise(node: &Node) -> bool {
    matches!(node.op, Op::Elementwise(_) | Op::Cast | Op::Detach | Op::Inspect(_))
}

fn described(node: &Node) -> String {
    match node.given_name() {
        Some(name) if node.operands.is_empty() || name == node.name() => format!("`{name}`"),
        Some(name) => format!("`{}` (`{name}`)", node.name()),
        None => format!("`{}`", node.name()),
    }
}
