//! Whole kernels of a text, called on tensors.

mod aliases;
mod buffers;
mod checks;
mod meaning;
mod rule;
mod uniformity;
mod walk;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use cotangent_tensor::{
    At, Code, DType, Error, Evaluate, IntoShape, KernelBuffer, Shape, Tensor, UserKernel,
};

use crate::Run;
use crate::interpret::FUEL;
use crate::text::Text;
use buffers::Buffer;
pub(crate) use checks::MAX_INVOCATIONS;
use meaning::Interpreted;
use rule::Rule;

/// Most workgroups along one dimension that WebGPU promises.
const MAX_WORKGROUPS: usize = 65_535;

/// A compute entry point with its buffers, as an operation on tensors.
///
/// Buffers that the entry point only reads are its inputs, those that it writes its outputs; both by the names of their variables, in the
/// order of their bindings. They hold f32, i32 or u32, alone or in vectors and matrices without padding, in arrays of fixed or run-time
/// length. A tensor lies in its buffer row by row.
///
/// ```
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
/// use cotangent_wgsl::Module;
///
/// let text = "
///     @group(0) @binding(0) var<storage, read> x: array<f32>;
///     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
///     @compute @workgroup_size(64)
///     fn square(@builtin(global_invocation_id) id: vec3<u32>) {
///         if id.x < arrayLength(&x) { y[id.x] = x[id.x] * x[id.x]; }
///     }";
/// let square = Module::parse_kernels("square.wgsl", text)?.kernel("square")?.output_like("y", "x");
/// let y = square.call(&[("x", &Tensor::new([1.0, 2.0, 3.0]))]);
/// assert_eq!(Reference::new().evaluate(&[&y])?[0].to_f64(), [1.0, 4.0, 9.0]);
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
///
/// # What runs
///
/// An adapter runs the text as it stands, in a dispatch of its own, with checked indices. Elsewhere the [`Interpreter`](crate::Interpreter)
/// does, one operation after another: in f64 on the reference, rounding to f32 on the CPU device, and slowly on both. An index outside of
/// its buffer is `E_WGSL_BOUNDS` there, a race `E_WGSL_RACE`, a loop without an end `E_WGSL_FUEL`; adapters hide the first two and hang in the
/// third ([`Kernel::verify`]).
///
/// Outputs are zeros when a kernel starts, on every device.
///
/// # Derivatives
///
/// Nobody differentiates the text. A gradient comes from a rule ([`Kernel::vjp_kernel`], [`Kernel::vjp`]); without one it is `AD024`.
#[derive(Clone)]
pub struct Kernel {
    text: Arc<Text>,
    /// The whole text, as adapters get it.
    wgsl: Arc<str>,
    entry: usize,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
    workgroup_memory: u32,
    shapes: BTreeMap<String, ShapeRule>,
    dispatch: Option<DispatchRule>,
    accumulators: BTreeSet<String>,
    fuel: u64,
    rule: Option<Rule>,
    surrogate: Option<String>,
    /// The first thing that was wrong with what was said about the kernel.
    wrong: Option<Error>,
}

#[derive(Clone)]
enum ShapeRule {
    Fixed(Shape),
    Like(String),
    By(Dims),
}

type Dims = Arc<dyn Fn(&[Shape]) -> Vec<usize> + Send + Sync>;
type DispatchRule = Arc<dyn Fn(&[Shape]) -> [usize; 3] + Send + Sync>;

impl Kernel {
    pub(crate) fn new(text: &Arc<Text>, name: &str) -> Result<Kernel, Error> {
        let entry = checks::entry_point(text, name)?;
        let framed = |problem: crate::diagnose::Problem| problem.in_text(&text.source);
        checks::workgroup(text, entry).map_err(framed)?;
        let (inputs, outputs) = buffers::reflected(text, entry).map_err(framed)?;
        let workgroup_memory = checks::workgroup_memory(text, entry).map_err(framed)?;
        aliases::check(text).map_err(framed)?;
        uniformity::check(text, entry).map_err(framed)?;
        let (shapes, accumulators) = (BTreeMap::new(), BTreeSet::new());
        Ok(Kernel {
            text: text.clone(),
            wgsl: text.source.text.as_str().into(),
            entry,
            inputs,
            outputs,
            workgroup_memory,
            shapes,
            dispatch: None,
            accumulators,
            fuel: FUEL,
            rule: None,
            surrogate: None,
            wrong: None,
        })
    }
    /// The entry point.
    pub fn name(&self) -> &str {
        &self.text.module.entry_points[self.entry].name
    }
    /// Names of the buffers that it only reads, in the order of their bindings.
    pub fn inputs(&self) -> Vec<&str> {
        self.inputs.iter().map(|buffer| &*buffer.name).collect()
    }
    /// Names of the buffers that it writes, in the order of their bindings.
    pub fn outputs(&self) -> Vec<&str> {
        self.outputs.iter().map(|buffer| &*buffer.name).collect()
    }

    // ------------------------------------------------------------------------------------- what the text leaves open

    /// Gives an output the shape of an input. An array whose length stands in the text has that shape if nothing else is said.
    pub fn output_like(self, output: &str, input: &str) -> Kernel {
        let known = self.inputs.iter().any(|buffer| buffer.name == input);
        let this = if known { self } else { self.no_buffer("input", input) };
        this.with_shape(output, ShapeRule::Like(input.to_string()))
    }
    /// Gives an output this shape.
    pub fn output(self, output: &str, shape: impl IntoShape) -> Kernel {
        match shape.into_shape() {
            Ok(shape) => self.with_shape(output, ShapeRule::Fixed(shape)),
            Err(error) => self.note(error),
        }
    }
    /// Gives an output the shape that `shape` makes of those of the inputs, in the order of [`Kernel::inputs`].
    pub fn output_by(
        self,
        output: &str,
        shape: impl Fn(&[Shape]) -> Vec<usize> + Send + Sync + 'static,
    ) -> Kernel {
        self.with_shape(output, ShapeRule::By(Arc::new(shape)))
    }
    /// The number of workgroups along each dimension, from the shapes of the inputs. Without this, one invocation for each element
    /// of the first output, along the first dimension.
    pub fn dispatch(self, workgroups: impl Fn(&[Shape]) -> [usize; 3] + Send + Sync + 'static) -> Kernel {
        Kernel { dispatch: Some(Arc::new(workgroups)), ..self }
    }
    /// Declares that an output is read for what the kernel itself has put there, from zeros on, and holds no input: without this a buffer
    /// that is both read and written is `AD025`. Atomics need no declaration.
    pub fn accumulates(mut self, output: &str) -> Kernel {
        if !self.outputs.iter().any(|buffer| buffer.name == output) {
            return self.no_buffer("output", output);
        }
        self.accumulators.insert(output.to_string());
        self
    }
    /// How many operations the interpreter may take for a run; 100 million if not said. Beyond, on the reference and the CPU device, it
    /// is `E_WGSL_FUEL`.
    pub fn fuel(self, operations: u64) -> Kernel {
        Kernel { fuel: operations, ..self }
    }

    fn with_shape(mut self, output: &str, rule: ShapeRule) -> Kernel {
        if !self.outputs.iter().any(|buffer| buffer.name == output) {
            return self.no_buffer("output", output);
        }
        self.shapes.insert(output.to_string(), rule);
        self
    }
    fn no_buffer(self, role: &str, name: &str) -> Kernel {
        if let ("input", Some(error)) = (role, self.in_place(Some(name))) {
            return self.note(error);
        }
        let names = if role == "input" { self.inputs() } else { self.outputs() };
        let message = format!("no {role} `{name}`; there are: {}", names.join(", "));
        let error = self.error(Code::WgslBinding, message);
        self.note(error.hint("inputs are only read by the entry point, outputs are written by it"))
    }
    fn note(mut self, error: Error) -> Kernel {
        self.wrong.get_or_insert(error);
        self
    }
    fn error(&self, code: Code, message: impl Into<String>) -> Error {
        Error::new(code, format!("kernel {:?}", self.name()), message)
    }

    // ------------------------------------------------------------------------------------------------------- calling

    /// The only output, from all inputs by name. F16 tensors are converted to F32.
    ///
    /// An invalid tensor comes of names that are not those of the inputs, of a buffer that a tensor does not fill, of an output whose
    /// shape nobody said, of no or too many workgroups (`E_WGSL_BINDING`, `E_LIMIT`), of element types (`E_DTYPE`), and of a buffer
    /// that is read and overwritten (`AD025`).
    #[track_caller]
    pub fn call(&self, inputs: &[(&str, &Tensor)]) -> Tensor {
        let at = Location::caller();
        match &self.call_at(inputs, at)[..] {
            [output] => output.clone(),
            outputs => {
                let error = outputs.iter().find_map(Tensor::error).cloned().unwrap_or_else(|| {
                    let message =
                        format!("it has {} outputs: {}", self.outputs.len(), self.outputs().join(", "));
                    self.error(Code::WgslBinding, message).at(at).hint("`call_all` gives all of them")
                });
                Tensor::invalid(error)
            }
        }
    }
    /// All outputs, in the order of [`Kernel::outputs`]. Otherwise like [`Kernel::call`].
    #[track_caller]
    pub fn call_all(&self, inputs: &[(&str, &Tensor)]) -> Vec<Tensor> {
        self.call_at(inputs, Location::caller())
    }
    /// Runs the interpreter once, in f64, and sees what adapters hide: races, indices outside of buffers, barriers that not all
    /// invocations reach, endless loops, and outputs of which a part is never written (but those that a kernel
    /// [accumulates](Kernel::accumulates) and those of atomics). `evaluator` gives the values of the inputs.
    ///
    /// Errors: those of [`Kernel::call`]; `E_WGSL_RACE`, `E_WGSL_BOUNDS`, `E_WGSL_UNIFORMITY`, `E_WGSL_FUEL`, `E_WGSL_BINDING`.
    #[track_caller]
    pub fn verify(&self, inputs: &[(&str, &Tensor)], evaluator: &dyn Evaluate) -> Result<Run, Error> {
        let at = Location::caller();
        let verified = || {
            let tensors = self.ordered(inputs, at)?;
            let kernel = self.on_shapes(&tensors, at)?;
            let values = evaluator.evaluate(&tensors.iter().collect::<Vec<_>>())?;
            let values: Vec<Vec<f64>> = values.iter().map(cotangent_tensor::Array::to_f64).collect();
            meaning::verified(self, &kernel, &values)
        };
        verified().map_err(|error| if error.location().is_some() { error } else { error.at(at) })
    }

    fn call_at(&self, inputs: &[(&str, &Tensor)], at: At) -> Vec<Tensor> {
        let tensors = self.ordered(inputs, at);
        let called = tensors.and_then(|tensors| Ok((self.on_shapes(&tensors, at)?, tensors)));
        match called {
            Ok((kernel, tensors)) => self.applied(Arc::new(kernel), &tensors, at),
            Err(error) => {
                let error = if error.location().is_some() { error } else { error.at(at) };
                vec![Tensor::invalid(error); self.outputs.len()]
            }
        }
    }
    /// The inputs in the order of their bindings, of the types of their buffers.
    fn ordered(&self, given: &[(&str, &Tensor)], at: At) -> Result<Vec<Tensor>, Error> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone().at(at));
        }
        let is_known = |name: &str| self.inputs.iter().any(|buffer| buffer.name == name);
        if let Some((name, _)) = given.iter().find(|(name, _)| !is_known(name)) {
            let message = format!("no input `{name}`; there are: {}", self.inputs().join(", "));
            return Err(self.in_place(Some(name)).unwrap_or_else(|| self.error(Code::WgslBinding, message)));
        }
        let of = |buffer: &Buffer| {
            let mut named = given.iter().filter(|(name, _)| *name == buffer.name);
            let (Some((_, tensor)), None) = (named.next(), named.next()) else {
                let count = given.iter().filter(|(name, _)| *name == buffer.name).count();
                let message = format!("input `{}` is given {count} times, not once", buffer.name);
                return Err(self.error(Code::WgslBinding, message));
            };
            let node = tensor.node()?;
            if node.dtype != buffer.dtype && (node.dtype, buffer.dtype) != (DType::F16, DType::F32) {
                let message = format!(
                    "`{}` is {} in the text, and the tensor is {}",
                    buffer.name, buffer.dtype, node.dtype
                );
                let hint = format!("write `.cast(DType::{:?})`", buffer.dtype);
                return Err(self.error(Code::Dtype, message).hint(hint));
            }
            buffer.holds(&node.shape).map_err(|what| self.error(Code::WgslBinding, what))?;
            Ok(tensor.cast_at(at, buffer.dtype))
        };
        self.inputs.iter().map(of).collect()
    }
    /// Why a buffer, or any, cannot be both read and written.
    fn in_place(&self, name: Option<&str>) -> Option<Error> {
        let asked = |buffer: &&Buffer| name.is_none_or(|name| buffer.name == name);
        let undeclared = |buffer: &&Buffer| !self.accumulators.contains(&buffer.name);
        let buffer = self.outputs.iter().filter(asked).filter(undeclared).find(|b| b.in_place.is_some())?;
        let (read, written) = buffer.in_place?;
        Some(checks::overwritten(self.name(), &buffer.name, read, written).in_text(&self.text.source))
    }

    /// The kernel on inputs of these shapes.
    fn on_shapes(&self, inputs: &[Tensor], at: At) -> Result<UserKernel, Error> {
        if let Some(error) = self.in_place(None) {
            return Err(error.at(at));
        }
        let shapes = inputs.iter().map(|t| t.node().map(|node| node.shape)).collect::<Result<Vec<_>, _>>()?;
        let bound = |buffer: &Buffer, shape: Shape| {
            let Buffer { name, group, binding, dtype, .. } = buffer.clone();
            KernelBuffer { name, group, binding, shape, dtype }
        };
        let mut outputs = Vec::new();
        for buffer in &self.outputs {
            let shape = self.output_shape(buffer, &shapes)?;
            buffer.holds(&shape).map_err(|what| self.error(Code::WgslBinding, what))?;
            outputs.push(bound(buffer, shape));
        }
        if let Some(other) = outputs.iter().find(|buffer| buffer.dtype != outputs[0].dtype) {
            let (a, b) = (&outputs[0], other);
            let message = format!("`{}` is {} and `{}` is {}", a.name, a.dtype, b.name, b.dtype);
            return Err(self
                .error(Code::Dtype, message)
                .hint("the outputs of one kernel have one element type: write two kernels"));
        }
        let point = &self.text.module.entry_points[self.entry];
        let workgroups = self.workgroups(&shapes, outputs[0].shape)?;
        Ok(UserKernel {
            name: self.name().to_string(),
            text: self.wgsl.clone(),
            inputs: self.inputs.iter().zip(shapes).map(|(buffer, shape)| bound(buffer, shape)).collect(),
            outputs,
            workgroups,
            workgroup_size: point.workgroup_size,
            workgroup_memory: self.workgroup_memory,
            meaning: Arc::new(Interpreted { text: self.text.clone(), fuel: self.fuel }),
        })
    }
    fn output_shape(&self, buffer: &Buffer, inputs: &[Shape]) -> Result<Shape, Error> {
        match self.shapes.get(&buffer.name) {
            Some(ShapeRule::Fixed(shape)) => Ok(*shape),
            Some(ShapeRule::Like(input)) => {
                let position = self.inputs.iter().position(|other| other.name == *input);
                position.and_then(|position| inputs.get(position).copied()).ok_or_else(|| {
                    self.error(Code::Internal, format!("output `{}` is like no input", buffer.name))
                })
            }
            Some(ShapeRule::By(shape)) => {
                let dims = self.guarded(&buffer.name, || shape(inputs))?;
                Shape::new(&dims)
            }
            None => buffer.own_shape().ok_or_else(|| {
                let message = format!("nobody says the shape of output `{}`", buffer.name);
                self.error(Code::WgslBinding, message)
                    .hint("say it with `output_like`, `output` or `output_by`")
            }),
        }
    }
    fn workgroups(&self, inputs: &[Shape], first_output: Shape) -> Result<[u32; 3], Error> {
        let [x, y, z] = self.text.module.entry_points[self.entry].workgroup_size;
        let groups = match &self.dispatch {
            Some(dispatch) => self.guarded("dispatch", || dispatch(inputs))?,
            None if y == 1 && z == 1 => [first_output.elements().div_ceil(x as usize), 1, 1],
            None => {
                let message = format!("nobody says how many workgroups of {x} × {y} × {z} invocations run");
                return Err(self.error(Code::WgslBinding, message).hint("say it with `dispatch`"));
            }
        };
        if let Some(count) = groups.iter().find(|count| !(1..=MAX_WORKGROUPS).contains(*count)) {
            let message = format!(
                "{count} of {groups:?} workgroups, where 1 to {MAX_WORKGROUPS} are allowed along each dimension"
            );
            return Err(self
                .error(Code::Limit, message)
                .hint("let an invocation do more elements, or spread the workgroups over two dimensions with `dispatch`"));
        }
        Ok(groups.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    }
    /// Runs a closure of the user's; a panic becomes an error.
    fn guarded<T>(&self, what: &str, closure: impl FnOnce() -> T) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
            let message = format!("the closure for `{what}` panicked: {}", panic_text(payload.as_ref()));
            self.error(Code::UserPanic, message)
        })
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inputs, outputs) = (self.inputs().join(", "), self.outputs().join(", "));
        write!(f, "{}: {}({inputs}) -> ({outputs})", self.text.source.name, self.name())
    }
}
