//! The one error type: a stable code, the operation, the user's line, the values that disagree, and what to do.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::{DType, Node, Shape};

macro_rules! codes {
    ($( $(#[$doc:meta])* $Code:ident $text:literal $(, $help:literal)?; )*) => {
        /// Stable identifier of an error; one page per code stands in the documentation.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[$doc])* $Code, )* }
        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$Code),*];
            /// The printed form, such as `E_BROADCAST`.
            pub fn as_str(self) -> &'static str { match self { $(Code::$Code => $text),* } }
            /// What to do, in general; an error that knows more says so itself.
            fn help(self) -> Option<&'static str> {
                match self { $(Code::$Code => { let help: &[&str] = &[$($help)?]; help.first().copied() })* }
            }
        }
    };
}
codes! {
    /// Shapes that do not broadcast, or that would broadcast against each other where that is a mistake.
    Broadcast "E_BROADCAST", "insert axes with `unsqueeze`, or reshape one of them";
    /// Inner dimensions of a matrix product differ.
    MatmulDim "E_MATMUL_DIM";
    /// An axis outside the rank, or named twice.
    Axis "E_AXIS", "axes count from 0, or from the end with -1";
    /// A reshape to another number of elements.
    Reshape "E_RESHAPE", "the products of both shapes must be equal";
    /// A number of elements that does not fit the index type.
    TooLarge "E_TOO_LARGE", "split the tensor; often a broadcast went the wrong way";
    /// A limit of the adapter.
    Limit "E_LIMIT";
    /// Host data whose length is not the product of the shape.
    DataLength "E_DATA_LENGTH", "give as many values as the shape holds";
    /// Element types that do not fit together.
    Dtype "E_DTYPE";
    /// A feature that the device does not have.
    Feature "E_FEATURE";
    /// A reduction without a neutral element over an empty axis.
    EmptyReduction "E_EMPTY_REDUCTION";
    /// A scalar was needed.
    NotScalar "E_NOT_SCALAR";
    /// An index outside its axis.
    Index "E_INDEX", "indices and labels count from 0 and lie below the size of the axis";
    /// A slice with start beyond end, outside the axis, or with step 0.
    Slice "E_SLICE", "`slice(axis, start, end, step)` takes the end exclusively";
    /// Concatenation of nothing, or of tensors that differ elsewhere.
    Concat "E_CONCAT", "cast or reshape first";
    /// A hyper-parameter outside its domain.
    Hyperparameter "E_HYPERPARAMETER";
    /// More than eight dimensions.
    Rank "E_RANK";
    /// A value that is not finite, found by a check.
    Nonfinite "E_NONFINITE";
    /// The first non-finite value of a step, found in anomaly mode.
    Anomaly "E_ANOMALY";
    /// A kernel would need more loop turns than the adapter grants.
    LoopBudget "E_LOOP_BUDGET";
    /// Tensors of two devices in one graph.
    DeviceMismatch "E_DEVICE_MISMATCH", "read the value on one device and make a tensor of it for the other";
    /// A cotangent that does not fit its output.
    Cotangent "E_COTANGENT", "make it with `Tensor::ones(output.shape())` or the like";
    /// A derivative was asked for where none exists.
    NotDifferentiable "E_NOT_DIFFERENTIABLE", "cast, cut the path with `detach`, or give a rule with `custom_gradient`";
    /// An operation whose derivative is not implemented.
    NoDerivative "E_NO_DERIVATIVE";
    /// A derivative that would leave out a path.
    Partial "E_PARTIAL", "differentiate with respect to the whole storage, or build the term from its parts";
    /// A rule that supports one order only.
    FirstOrderOnly "E_FIRST_ORDER_ONLY";
    /// A step was run with another shape than it was built for.
    ShapeChanged "E_SHAPE_CHANGED", "build another step for another shape";
    /// An update that does not fit its variable, or two of one variable.
    Update "E_UPDATE", "one update per variable, of its shape and type";
    /// An input of a graph has no value.
    Unbound "E_UNBOUND", "pass it to `run`, or bind it on the reference";
    /// A custom rule returned the wrong number of gradients.
    RuleArity "E_RULE_ARITY", "return one per input, `None` for an input without gradient";
    /// A custom rule returned a gradient of the wrong shape.
    RuleShape "E_RULE_SHAPE";
    /// A custom rule returned a gradient of the wrong element type.
    RuleDtype "E_RULE_DTYPE";
    /// A custom rule returned a gradient for an input that cannot have one.
    RuleNone "E_RULE_NONE", "return `None` for it";
    /// A custom rule passes nothing to any input and did not declare it.
    RuleCut "E_RULE_CUT";
    /// A differentiable tensor was captured by a rule's closure.
    RuleCapture "E_RULE_CAPTURE";
    /// The cotangent was asked for where the result does not depend on the tensor.
    Unconnected "E_UNCONNECTED";
    /// The gradient was cut by a `detach` or by a rule.
    Stopped "E_STOPPED";
    /// A user's closure panicked.
    UserPanic "E_USER_PANIC", "the graph is as it was before the call";
    /// A forward-mode derivative of a rule that has none.
    NoJvp "E_NO_JVP", "give a forward mode with `apply_jvp` or `Rule::jvp`, or use reverse mode";
    /// An operation that cannot be batched.
    NoBatchRule "E_NO_BATCH_RULE";
    /// A gradient disagrees with an independent derivative.
    RuleWrong "E_RULE_WRONG";
    /// A rule is not linear in its cotangent.
    RuleLinear "E_RULE_LINEAR";
    /// The derivative of a gradient is not the derivative of what the gradient computes.
    RuleOrder "E_RULE_ORDER";
    /// Forward mode of a rule disagrees with its reverse mode.
    RuleForward "E_RULE_FORWARD";
    /// The forward function of a rule is not the function that it stands for.
    RulePrimal "E_RULE_PRIMAL";
    /// Shape or type of an output change from call to call.
    RuleUnstable "E_RULE_UNSTABLE";
    /// The same call gives other numbers.
    RuleNondeterministic "E_RULE_NONDETERMINISTIC";
    /// No adapter fits what was asked for.
    NoAdapter "E_NO_ADAPTER", "install a driver for Vulkan, Metal or DX12, ask for `software`, or use `cpu`";
    /// Memory is exhausted.
    OutOfMemory "E_OUT_OF_MEMORY", "halve the batch, give the step a `budget`, or drop variables and steps that are not needed";
    /// The device is gone.
    DeviceLost "E_DEVICE_LOST";
    /// A wait took too long.
    Timeout "E_TIMEOUT";
    /// A file that cannot be read, written or understood.
    File "E_FILE", "check the path and what it holds";
    /// User WGSL that is not valid.
    Wgsl "E_WGSL";
    /// User WGSL that is too large or too deeply nested.
    WgslLimit "E_WGSL_LIMIT", "split the expression or the function";
    /// Two pointers of one call of a WGSL function that may point to the same variable.
    WgslAlias "E_WGSL_ALIAS", "pass one pointer, or copy the value into a variable of its own";
    /// Two invocations of a WGSL kernel access the same memory without a barrier between them.
    WgslRace "E_WGSL_RACE", "put a barrier between the two, or let each invocation write elements of its own";
    /// An index of WGSL outside of what it indexes.
    WgslBounds "E_WGSL_BOUNDS", "guard the access with `if`; both sides of a `select` are computed";
    /// A barrier of WGSL that only some invocations of a workgroup reach.
    WgslUniformity "E_WGSL_UNIFORMITY", "let every invocation of the workgroup reach the barrier";
    /// WGSL that was still running when its operations were used up.
    WgslFuel "E_WGSL_FUEL", "bound the loop, or grant more with `fuel`";
    /// A buffer that a WGSL kernel has and nobody bound, or one that does not fit, or that nobody wrote.
    WgslBinding "E_WGSL_BINDING";
    /// WGSL that the interpreter does not know.
    WgslUnsupported "E_WGSL_UNSUPPORTED", "write it with what WGSL has without extensions";
    /// A WGSL function whose result is no float and no composite of floats.
    WgslResult "AD001", "return one f32, or a structure of f32";
    /// A parameter of a WGSL function that does not exist.
    WgslNoParameter "AD002", "name parameters as the text declares them";
    /// A parameter of a WGSL function without floats, to differentiate with respect to.
    WgslNoFloat "AD003", "integers and truth values have no derivative: leave it out";
    /// A WGSL expression without derivative.
    WgslExpression "AD010", "compute it outside of the function";
    /// A WGSL builtin without derivative.
    WgslBuiltin "AD011", "compute it outside of the function, or write it out";
    /// A WGSL type that is not supported.
    WgslType "AD012";
    /// A WGSL constant that cannot be evaluated.
    WgslConstant "AD013", "pass the value as a parameter";
    /// A WGSL function with a path that returns nothing.
    WgslReturn "AD014", "return a value on every path";
    /// Bits of a float read as something else, or the other way round.
    WgslBitcast "AD016", "convert with f32(x), i32(x) or u32(x), or give the function a `_vjp`";
    /// A WGSL module variable used in a function.
    WgslVariable "AD020", "pass the value as a parameter";
    /// A WGSL statement that is no computation.
    WgslStatement "AD021", "pass values in and return values";
    /// A WGSL pointer as a parameter of a function that is called on tensors.
    WgslPointer "AD022", "return a structure instead";
    /// A derivative of a WGSL kernel that has no rule.
    WgslKernel "AD024", "give the kernel a rule with `vjp_kernel` or `vjp`";
    /// A WGSL kernel that overwrites what it reads.
    WgslInPlace "AD025", "write the results to a buffer of their own";
    /// A WGSL rule `f_vjp` whose parameters or result do not fit `f`.
    WgslRule "AD030";
    /// A WGSL rule `f_vjp` that is not linear in its cotangent, where forward mode needs it.
    WgslLinear "AD031", "use reverse mode, or make the rule linear in the cotangent: clip where the gradient is used";
    /// A WGSL loop of which nobody can see that it ends.
    WgslLoop "E_WGSL_LOOP", "count its rounds towards a limit that stays, or say how many there may be: `Module::unbounded(rounds)`, `--rounds`";
    /// The body of a loop holds what is not computed element by element.
    LoopBody "E_LOOP_BODY", "compute it before the loop and pass it as a captured value";
    /// A loop through which more values are differentiated than forward mode should carry.
    LoopInputs "AD004", "pass fewer values into the loop, or give its function a rule";
    /// A loop that would go on after its last round.
    LoopRounds "AD044", "see why it does not end (NaN never comes near anything), or allow more rounds: `unbounded(rounds)` of the module, `--rounds`";
    /// A WGSL function that becomes too many operations.
    WgslNodes "AD041", "split the function, or put what it repeats into a loop";
    /// A family or link that does not exist, or a pair that does not fit.
    Family "E_FAMILY";
    /// A kernel disagrees with the reference.
    CrossCheck "E_CROSS_CHECK", "please report it, with the message and `cotangent info`";
    /// A mistake in Cotangent itself; please report it.
    Internal "E_INTERNAL", "please report it, with the message";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value that an error carries.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    /// A shape.
    Shape(Shape),
    /// An element type.
    DType(DType),
    /// An axis, index, count or number of bytes.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A name.
    Text(String),
}

/// What went wrong, where, and what to do about it. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    operation: String,
    message: String,
    at: Option<&'static Location<'static>>,
    context: Vec<String>,
    details: Vec<(&'static str, Detail)>,
    hint: Option<String>,
}

impl Error {
    /// An error of `operation`; `message` states the values that disagree.
    pub fn new(code: Code, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner {
            code,
            operation: operation.into(),
            message: message.into(),
            at: None,
            context: Vec::new(),
            details: Vec::new(),
            hint: None,
        }))
    }
    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
    /// Adds the user's line.
    pub fn at(self, location: &'static Location<'static>) -> Self {
        self.edit(|e| e.at = Some(location))
    }
    /// Adds what to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.edit(|e| e.hint = Some(hint.into()))
    }
    /// Adds where in a larger construct it happened, such as "in rule `clip`, applied at …".
    pub fn within(self, context: impl Into<String>) -> Self {
        self.edit(|e| e.context.push(context.into()))
    }
    /// Adds the names that the user gave to operands, with their shapes.
    pub(crate) fn among(self, operands: &[Arc<Node>]) -> Self {
        let named = |node: &Arc<Node>| node.given_name().map(|name| format!("`{name}` is {}", node.shape));
        let names: Vec<String> = operands.iter().filter_map(named).collect();
        if names.is_empty() { self } else { self.within(names.join(", ")) }
    }
    /// Adds a value that programs may read.
    pub fn with(self, name: &'static str, detail: Detail) -> Self {
        self.edit(|e| e.details.push((name, detail)))
    }
    /// Adds a shape.
    pub fn shape(self, name: &'static str, shape: &Shape) -> Self {
        let shape = *shape;
        self.with(name, Detail::Shape(shape))
    }
    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }
    /// The operation the user called.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }
    /// Without a line: for a program whose user has not written it.
    #[must_use]
    pub fn without_location(self) -> Self {
        self.edit(|e| e.at = None)
    }
    /// The message without code, location and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The user's line, where one is known.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.0.at
    }
    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// The values that disagree, by name.
    pub fn details(&self) -> &[(&'static str, Detail)] {
        &self.0.details
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, operation, message, at, context, hint, .. } = &*self.0;
        write!(f, "error[{code}]: {operation}: {message}")?;
        if let Some(at) = at {
            write!(f, "\n  at {}:{}:{}", at.file(), at.line(), at.column())?;
        }
        for line in context {
            write!(f, "\n  {line}")?;
        }
        match hint.as_deref().or(code.help()) {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}
// `main` functions that return an `Error` print its `Debug` form: let people read the message.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::error::Error for Error {}

/// How many letters are inserted, left out or replaced between two names, without regard to case: for suggestions.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
