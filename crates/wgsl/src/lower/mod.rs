//! From functions of WGSL to nodes of the graph.
//!
//! A value is a run of scalars. Calls are inlined; both sides of a branch are computed and one is chosen; loops
//! are unrolled if it is known when they end, and else become loops of the graph. So what a function computes is a tensor expression like any other: it fuses with its
//! neighbors, has derivatives of every order, and runs on every device. Adjoints of the graph are guarded, so that no
//! NaN comes back from a side that was not chosen.

mod builtins;
mod expressions;
mod looped;
mod pointers;
mod scalars;
mod statements;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};

use cotangent_autograd::{CustomGradient, Rule, Upstream};
use cotangent_tensor::{At, Code, DType, Error, InputGradient, Tensor};
use naga::{Expression, Function, Handle, Span, TypeInner};

use crate::diagnose::Problem;
use crate::layout;
use crate::prelude::{self, Meaning};
use crate::text::Text;
pub(crate) use scalars::{Made, Outside, Scalars, Value};

/// Most nodes of one call.
const MAX_NODES: usize = 20_000;
/// Most statements and expressions of one call, in all its rounds and calls.
const MAX_STEPS: usize = 200_000;
/// Steps that tracing a rule is worth.
const RULE_STEPS: usize = 200;
/// Most rounds of one loop.
const MAX_ROUNDS: usize = 256;
/// Most rounds of one loop that is left where values say so: most of them may never be run.
const MAX_DECIDED: usize = 16;
/// Most rounds of one loop that has others inside that are not unrolled.
const MAX_LOOPS: usize = 8;
/// Longest array that is indexed by a number that is not known.
const MAX_INDEXED: usize = 32;
/// Deepest calls.
const MAX_CALLS: usize = 64;

/// To which of two equal numbers the gradient of `max` and `min` goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tie {
    /// Half to each, as everywhere in the library.
    #[default]
    Half,
    /// All to the first, as in TensorFlow.
    First,
}

/// What the caller of a function has chosen.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Reasons why rules are not the derivatives of their functions, by name of the function.
    pub(crate) surrogates: BTreeMap<String, String>,
    pub(crate) tie: Tie,
    /// Most rounds of a loop of which nothing shows that it ends; none without.
    pub(crate) rounds: Option<u32>,
    /// Most rounds of a loop that is written out.
    pub(crate) unrolled: usize,
    /// Values of `override` constants, by name.
    pub(crate) constants: BTreeMap<String, f64>,
}

impl Default for Options {
    fn default() -> Options {
        let (surrogates, constants) = (BTreeMap::new(), BTreeMap::new());
        Options { surrogates, tie: Tie::Half, rounds: None, unrolled: MAX_ROUNDS, constants }
    }
}

/// What a function computes, number by number, for whoever wants to look at it.
pub(crate) struct Computed {
    pub(crate) scalars: Scalars,
    pub(crate) results: Vec<Value>,
}

/// Computes functions of a text on scalars.
pub(crate) struct Lowering<'a> {
    text: &'a Text,
    options: &'a Options,
    at: At,
    scalars: Scalars,
    budget: &'a Budget,
    /// Under which conditions what is computed now counts, and how they must turn out.
    path: Vec<(Value, bool)>,
    /// Loops that are not unrolled, by their bodies.
    kept: HashSet<*const naga::Block>,
    /// How often one of them was computed.
    loops: usize,
}

/// What a call and all rules in it have used.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    calls: Cell<usize>,
    steps: Cell<usize>,
    /// Steps that came to nothing: of loops that turned out not to be unrolled.
    lost: Cell<usize>,
    /// Functions whose rules are being computed. Inside of its own rule a function is its text: by its rule it would have no end.
    rules: RefCell<Vec<Handle<Function>>>,
}

/// One function while it is computed.
struct Frame<'a> {
    handle: Handle<Function>,
    function: &'a Function,
    arguments: Vec<Vec<Value>>,
    /// Positions of the arguments that are pointers; what they point to are variables behind the local ones.
    pointers: Vec<usize>,
    values: Vec<Option<Vec<Value>>>,
}

impl<'a> Lowering<'a> {
    pub(crate) fn new(text: &'a Text, options: &'a Options, at: At, budget: &'a Budget) -> Lowering<'a> {
        Lowering {
            text,
            options,
            at,
            scalars: Scalars::new(at),
            budget,
            path: Vec::new(),
            kept: HashSet::new(),
            loops: 0,
        }
    }
    /// Computes a function on tensors, one for each scalar of its parameters, in order; gives one for each scalar of its
    /// result.
    pub(crate) fn on_tensors(
        self,
        function: Handle<Function>,
        inputs: &[Tensor],
        by_rule: bool,
    ) -> Result<Vec<Tensor>, Error> {
        let Computed { scalars, results } = self.computed(function, inputs, by_rule)?;
        Ok(results.into_iter().map(|value| scalars.tensor(value)).collect())
    }
    /// The same, with the numbers in between.
    pub(crate) fn computed(
        mut self,
        function: Handle<Function>,
        inputs: &[Tensor],
        by_rule: bool,
    ) -> Result<Computed, Error> {
        let mut inputs = inputs.iter().enumerate();
        let mut arguments = Vec::new();
        for argument in &self.text.module.functions[function].arguments {
            let kinds = self.framed(layout::scalars_of(&self.text.module, argument.ty))?;
            let mut given = Vec::new();
            for (dtype, (position, tensor)) in kinds.into_iter().zip(inputs.by_ref()) {
                given.push(self.scalars.given_as(tensor.clone(), dtype, Outside::Input(position)));
            }
            arguments.push(given);
        }
        let results = if by_rule { self.call(function, arguments) } else { self.plain(function, arguments) };
        let results = self.framed(results)?;
        Ok(Computed { scalars: self.scalars, results })
    }
    /// What is made from now on is made at this place; what a body of the prelude makes has none.
    fn look_at(&mut self, span: Span) {
        if self.text.is_in_prelude(span) {
            self.scalars.here = Span::UNDEFINED;
        } else if span.is_defined() {
            self.scalars.here = span;
        }
    }
    fn framed<T>(&self, result: Result<T, Problem>) -> Result<T, Error> {
        result.map_err(|problem| problem.in_text(&self.text.source).at(self.at))
    }

    /// Calls a function: by its rule if it has one.
    fn call(
        &mut self,
        function: Handle<Function>,
        arguments: Vec<Vec<Value>>,
    ) -> Result<Vec<Value>, Problem> {
        match self.text.rule_of(function) {
            Some(rule) if !self.text.pointers_of(function).is_empty() => {
                let (name, rule_name) = (self.text.name_of(function), self.text.name_of(rule));
                let message = format!("`{rule_name}` cannot be the rule of `{name}`, which takes a pointer");
                Err(Problem::new(Code::WgslRule, message)
                    .at(self.text.module.functions.get_span(rule), "this rule")
                    .help("let the function return what it writes"))
            }
            Some(rule) if self.budget.rules.borrow().contains(&function) => {
                let name = self.text.name_of(function);
                if !self.options.surrogates.contains_key(name) {
                    return self.plain(function, arguments);
                }
                let message = format!(
                    "the rule of the surrogate `{name}` calls `{name}`, whose derivative has no end there"
                );
                Err(Problem::new(Code::WgslRule, message)
                    .at(self.text.module.functions.get_span(rule), "this rule")
                    .help("call a function of the same text that has no rule"))
            }
            Some(rule) => self.by_rule(function, rule, &arguments.concat()),
            None => self.plain(function, arguments),
        }
    }
    /// Computes a function: by its meaning in the prelude, or by its text.
    fn plain(
        &mut self,
        function: Handle<Function>,
        arguments: Vec<Vec<Value>>,
    ) -> Result<Vec<Value>, Problem> {
        let meaning = self.text.is_prelude(function).then(|| prelude::meaning(self.text.name_of(function)));
        match meaning.flatten() {
            Some(Meaning::Row(row)) => Ok(vec![self.scalars.apply(row, &arguments.concat())]),
            Some(Meaning::Detach) => {
                let scalars = arguments.concat();
                let Value::Node(_) = scalars[0] else { return Ok(scalars) };
                let detached = self.scalars.tensor(scalars[0]).detach();
                Ok(vec![self.scalars.given_as(detached, DType::F32, Outside::Detached)])
            }
            Some(Meaning::Text) | None => self.body(function, arguments),
        }
    }
    fn body(&mut self, handle: Handle<Function>, arguments: Vec<Vec<Value>>) -> Result<Vec<Value>, Problem> {
        let function = &self.text.module.functions[handle];
        let span = self.text.module.functions.get_span(handle);
        if self.budget.calls.get() == MAX_CALLS {
            let message = format!("calls inside each other: more than {MAX_CALLS}");
            return Err(Problem::new(Code::WgslLimit, message).at(span, "called here too"));
        }
        self.budget.calls.set(self.budget.calls.get() + 1);
        let (pointers, values) = (self.text.pointers_of(handle), vec![None; function.expressions.len()]);
        let mut frame = Frame { handle, function, arguments, pointers, values };
        let result = self.statements(&mut frame, span);
        self.budget.calls.set(self.budget.calls.get() - 1);
        result
    }
    /// Calls a function that has a rule: a custom gradient whose pullback is the function `name_vjp`.
    fn by_rule(
        &mut self,
        function: Handle<Function>,
        rule: Handle<Function>,
        arguments: &[Value],
    ) -> Result<Vec<Value>, Problem> {
        let results = self.text.check_rule(function, rule)?;
        self.steps(RULE_STEPS, self.text.module.functions.get_span(rule))?;
        if arguments.iter().all(|argument| !matches!(argument, Value::Node(_))) {
            // constants have no derivative
            let module = &self.text.module;
            let mut rest = arguments;
            let mut parts = Vec::new();
            for argument in &module.functions[function].arguments {
                let (part, later) = rest.split_at(layout::scalars_of(module, argument.ty)?.len());
                parts.push(part.to_vec());
                rest = later;
            }
            return self.plain(function, parts);
        }
        let mut tensors: Vec<Tensor> =
            arguments.iter().map(|&argument| self.scalars.tensor(argument)).collect();
        // Loops inside run where the call counts only, so the rule is told where that is.
        let active = if self.text.has_loops(function) || self.text.has_loops(rule) {
            self.active()
        } else {
            Value::TRUE
        };
        let conditional = active != Value::TRUE;
        tensors.extend(conditional.then(|| self.scalars.tensor(active)));
        let (text, options, at, budget) = (self.text, self.options, self.at, self.budget);
        let rule = TextRule { text, options, at, budget, function, rule, conditional };
        let together = together(&tensors, self.at);
        let outputs = rule.apply_at(self.at, &together.iter().collect::<Vec<_>>());
        Ok(outputs
            .into_iter()
            .zip(results)
            .map(|(output, dtype)| self.scalars.given_as(output, dtype, Outside::Rule(arguments.to_vec())))
            .collect())
    }
    /// Where what is computed now counts.
    fn active(&mut self) -> Value {
        let mut active = Value::TRUE;
        for (condition, holds) in self.path.clone() {
            let holds = if holds { condition } else { self.scalars.not(condition) };
            active = self.scalars.and(active, holds);
        }
        active
    }
    /// The type of a value, or of what a pointer points to.
    fn type_of(&self, frame: &Frame<'_>, expression: Handle<Expression>) -> Cow<'a, TypeInner> {
        let types = &self.text.module.types;
        match self.text.info[frame.handle][expression].ty.inner_with(types) {
            TypeInner::Pointer { base, .. } => Cow::Borrowed(&types[*base].inner),
            TypeInner::ValuePointer { size: Some(size), scalar, .. } => {
                Cow::Owned(TypeInner::Vector { size: *size, scalar: *scalar })
            }
            TypeInner::ValuePointer { size: None, scalar, .. } => Cow::Owned(TypeInner::Scalar(*scalar)),
            inner => Cow::Borrowed(inner),
        }
    }
    /// Counts a step; none may be too many.
    fn step(&self, span: Span) -> Result<(), Problem> {
        self.steps(1, span)
    }
    fn steps(&self, count: usize, span: Span) -> Result<(), Problem> {
        self.budget.steps.set(self.budget.steps.get() + count);
        if self.budget.steps.get() > MAX_STEPS || self.budget.lost.get() > 2 * MAX_STEPS {
            let message = format!(
                "the function takes more than {MAX_STEPS} steps when its loops and calls are written out"
            );
            return Err(Problem::new(Code::WgslLimit, message).at(span, "here"));
        }
        if self.scalars.len() > MAX_NODES {
            let message = format!("the function becomes more than {MAX_NODES} operations");
            return Err(Problem::new(Code::WgslNodes, message).at(span, "here"));
        }
        Ok(())
    }
}

/// All at one shape: the gradient of an input then has the shape of that input, whatever it was multiplied by.
pub(crate) fn together(tensors: &[Tensor], at: At) -> Vec<Tensor> {
    let shapes = tensors.iter().map(|tensor| tensor.node().map(|node| node.shape));
    let common = shapes.reduce(|a, b| {
        let (a, b) = (a?, b?);
        a.broadcast(&b).map_err(|axis| {
            let message =
                format!("shapes {a} and {b} do not broadcast: they differ at axis {axis} of the result");
            Error::new(Code::Broadcast, "wgsl", message).at(at)
        })
    });
    match common {
        None => Vec::new(),
        Some(Ok(shape)) => tensors.iter().map(|tensor| tensor.broadcast_to(shape)).collect(),
        Some(Err(error)) => vec![Tensor::invalid(error); tensors.len()],
    }
}

/// A function with its pullback `name_vjp`, as a custom gradient.
struct TextRule<'a> {
    text: &'a Text,
    options: &'a Options,
    at: At,
    budget: &'a Budget,
    function: Handle<Function>,
    rule: Handle<Function>,
    /// Whether the last input says where the call counts.
    conditional: bool,
}

impl TextRule<'_> {
    /// The arguments of the function, and where the call counts.
    fn parted<'t>(&self, inputs: &'t [Tensor]) -> (&'t [Tensor], Option<&'t Tensor>) {
        match (self.conditional, inputs) {
            (true, [arguments @ .., active]) => (arguments, Some(active)),
            _ => (inputs, None),
        }
    }
    /// A function on tensors; the function itself as its text says, its rule by the rule of the rule if there is one.
    fn computed(
        &self,
        function: Handle<Function>,
        inputs: &[Tensor],
        active: Option<&Tensor>,
        count: usize,
    ) -> Vec<Tensor> {
        let mut lowering = Lowering::new(self.text, self.options, self.at, self.budget);
        if let Some(active) = active {
            let active = lowering.scalars.given(active.clone(), DType::Bool);
            lowering.path.push((active, true));
        }
        let results = lowering.on_tensors(function, inputs, function == self.rule);
        results.unwrap_or_else(|error| vec![Tensor::invalid(error); count])
    }
}

impl Rule for TextRule<'_> {
    type Saved = Vec<Tensor>;

    fn declare(&self) -> CustomGradient {
        let name = self.text.name_of(self.function);
        let declared = match self.options.surrogates.get(name) {
            Some(reason) => CustomGradient::surrogate(name, reason),
            None => CustomGradient::exact(name),
        };
        let rule = self.text.name_of(self.rule);
        let message =
            format!("the rule `{rule}` is not linear in its cotangent, and forward mode needs it to be");
        let problem = Problem::new(Code::WgslLinear, message)
            .at(self.text.module.functions.get_span(self.rule), "this rule");
        declared
            .inputs(
                self.text
                    .scalar_names(self.function)
                    .into_iter()
                    .chain(self.conditional.then(|| "active".to_string())),
            )
            .unless_linear(problem.in_text(&self.text.source).at(self.at))
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Vec<Tensor>) {
        let module = &self.text.module;
        let result = module.functions[self.function].result.as_ref();
        let count =
            result.and_then(|result| layout::scalars_of(module, result.ty).ok()).map_or(1, |s| s.len());
        let (arguments, active) = self.parted(inputs);
        (together(&self.computed(self.function, arguments, active, count), self.at), inputs.to_vec())
    }
    fn vjp(
        &self,
        saved: &Vec<Tensor>,
        upstream: &Upstream,
        needs: &[bool],
    ) -> Option<Vec<InputGradient<Tensor>>> {
        let upstream = (0..upstream.len()).map(|output| upstream[output].clone());
        let (arguments, active) = self.parted(saved);
        let inputs: Vec<Tensor> = arguments.iter().cloned().chain(upstream).collect();
        let wanted = needs.iter().filter(|&&needed| needed).count();
        self.budget.rules.borrow_mut().push(self.function);
        let gradients = self.computed(self.rule, &inputs, active, wanted);
        self.budget.rules.borrow_mut().pop();
        let mut gradients = gradients.into_iter();
        let shape = saved.first().and_then(|input| input.node().ok()).map(|node| node.shape);
        let of_input = |&needed: &bool| match (if needed { gradients.next() } else { None }, shape) {
            (Some(gradient), Some(shape)) => gradient.broadcast_to(shape).into(),
            (Some(gradient), None) => gradient.into(),
            (None, _) => InputGradient::Nothing,
        };
        Some(needs.iter().map(of_input).collect())
    }
}
