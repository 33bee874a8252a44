//! Functions of a text, called on tensors.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{At, Code, DType, Error, Shape, Tensor};
use naga::{Expression, Function as Naga, Handle, Span, Type, TypeInner};

use crate::derivative::{Derivative, derivative};
use crate::diagnose::Problem;
use crate::layout;
use crate::lint::{self, Lint, Wanted};
use crate::lower::{Budget, Computed, Lowering, Options, Tie};
use crate::text::{Text, name_or};

/// A function written in WGSL. Called on tensors it is an expression like any other.
#[derive(Clone)]
pub struct Function {
    text: Arc<Text>,
    handle: Handle<Naga>,
    options: Options,
    /// Lints that are silenced.
    allowed: BTreeSet<&'static str>,
    /// Positions of the parameters to differentiate with respect to, if not all with floats.
    wanted: Option<BTreeSet<usize>>,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type as it is written.
    pub wgsl: String,
    /// The element types of its numbers: one for a number, several for a vector, an array or a structure.
    pub scalars: Vec<DType>,
    /// The fields of a structure, `parameter.field` each, which may be structures again. None for other types.
    pub fields: Vec<Parameter>,
}

impl Function {
    pub(crate) fn new(text: &Arc<Text>, handle: Handle<Naga>, options: Options) -> Function {
        Function { text: text.clone(), handle, options, allowed: BTreeSet::new(), wanted: None }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        self.text.name_of(self.handle)
    }
    /// The parameters, in order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let arguments = self.text.module.functions[self.handle].arguments.iter();
        arguments.map(|a| self.parameter(name_or(&a.name, "_").to_string(), a.ty)).collect()
    }
    /// The parameters, with the fields in place of structures that hold several types: what one tensor can be given for.
    pub(crate) fn leaves(&self) -> Vec<Parameter> {
        let mut stack: Vec<Parameter> = self.parameters().into_iter().rev().collect();
        let mut leaves = Vec::new();
        while let Some(next) = stack.pop() {
            match next.scalars.iter().all(|dtype| Some(dtype) == next.scalars.first()) {
                true => leaves.push(next),
                false => stack.extend(next.fields.into_iter().rev()),
            }
        }
        leaves
    }
    /// Whether a derivative by each of the leaves is wanted.
    pub(crate) fn wanted_leaves(&self, leaves: &[Parameter]) -> Vec<bool> {
        let parameters = self.parameters();
        let of = |leaf: &Parameter| leaf.name.split('.').next().unwrap_or_default().to_string();
        let position = |leaf: &Parameter| parameters.iter().position(|parameter| parameter.name == of(leaf));
        leaves.iter().map(|leaf| position(leaf).is_some_and(|position| self.wants(position))).collect()
    }
    fn parameter(&self, name: String, ty: Handle<Type>) -> Parameter {
        let module = &self.text.module;
        let fields = match &module.types[ty].inner {
            TypeInner::Struct { members, .. } => members
                .iter()
                .map(|member| self.parameter(format!("{name}.{}", name_or(&member.name, "_")), member.ty))
                .collect(),
            _ => Vec::new(),
        };
        let (wgsl, scalars) = (self.text.type_name(ty), layout::scalars_of(module, ty).unwrap_or_default());
        Parameter { name, wgsl, scalars, fields }
    }
    /// WGSL type of the result, if it has one.
    pub fn result(&self) -> Option<String> {
        self.text.result_of(self.handle)
    }
    /// Declares that the rule `function_vjp` is not the derivative of `function`, and why. `gradcheck` then reports how far the two are
    /// apart instead of failing. Error: `AD030` if there is no such function, or none with a rule.
    pub fn surrogate(mut self, function: &str, reason: &str) -> Result<Function, Error> {
        let rule = self.text.find_any(function).and_then(|handle| self.text.rule_of(handle));
        if rule.is_none() {
            let message = format!("no function `{function}` with a rule `{function}_vjp`");
            return Err(Error::new(Code::WgslRule, &self.text.source.name, message)
                .hint("surrogates are declared for functions that have a rule"));
        }
        self.options.surrogates.insert(function.to_string(), reason.to_string());
        Ok(self)
    }

    /// Says what is well defined and probably not meant, in order of the text; what is known without running anything.
    ///
    /// `LN1`: a parameter whose gradient is zero everywhere, because the result depends on it by `sign`, `floor`, `i32` or comparisons only.
    /// `LN2`: `pow` of a base that can be negative. `LN3`: `sqrt` of what can be 0; logarithms of and divisions by distances, sums of squares and
    /// clipped values, which end at 0. `LN4`: a maximum that shifts exponentials and is not detached. `LN5`: a formula for which the
    /// prelude has a better word. `LN6`: a value compared with itself.
    ///
    /// A place under a choice (`if`, `select`) that depends on the same parameters counts as guarded. Bodies of functions with a rule are not looked at,
    /// and nothing is said of a function that [`Module::function`](crate::Module::function) refuses.
    ///
    /// ```
    /// # use cotangent_wgsl::Module;
    /// let text = "fn norm(x: f32, y: f32) -> f32 { return sqrt(x * x + y * y); }";
    /// let norm = Module::parse("norm.wgsl", text)?.function("norm")?;
    /// assert_eq!(norm.lints()[0].code, "LN3");
    /// assert!(norm.allow("LN3")?.lints().is_empty());
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    #[track_caller]
    pub fn lints(&self) -> Vec<Lint> {
        let Ok(computed) = self.on_placeholders(Location::caller()) else { return Vec::new() };
        lint::lints(&self.text, self.handle, &computed, &self.wanted_scalars(), &self.allowed)
    }
    /// Silences a lint, by its code. Error: `E_WGSL` if there is none of that code.
    pub fn allow(mut self, lint: &str) -> Result<Function, Error> {
        let Some(known) = lint::LINTS.into_iter().find(|known| *known == lint) else {
            let message = format!("there is no lint `{lint}`; there are {}", lint::LINTS.join(", "));
            return Err(Error::new(Code::Wgsl, self.name(), message));
        };
        self.allowed.insert(known);
        Ok(self)
    }

    /// The parameters of which derivatives are wanted.
    fn wanted_scalars(&self) -> Vec<Wanted> {
        let function = &self.text.module.functions[self.handle];
        let (mut wanted, mut next) = (Vec::new(), 0);
        for (position, argument) in function.arguments.iter().enumerate() {
            let kinds = layout::scalars_of(&self.text.module, argument.ty).unwrap_or_default();
            let floats = kinds.iter().enumerate().filter(|(_, dtype)| dtype.is_float());
            let scalars: Vec<usize> = floats.map(|(at, _)| next + at).collect();
            next += kinds.len();
            if !scalars.is_empty() && self.wants(position) {
                let name = name_or(&argument.name, "_").to_string();
                wanted.push(Wanted { name, span: self.parameter_span(position), scalars });
            }
        }
        wanted
    }
    /// Whether a derivative by the parameter at a position is wanted.
    pub(crate) fn wants(&self, position: usize) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&position))
    }
    /// Where a parameter is declared.
    fn parameter_span(&self, position: usize) -> Span {
        let function = &self.text.module.functions[self.handle];
        let is_it = |expression: &Expression| matches!(expression, Expression::FunctionArgument(at) if *at as usize == position);
        let declared = function.expressions.iter().find(|(_, expression)| is_it(expression));
        declared.map_or_else(Span::default, |(handle, _)| function.expressions.get_span(handle))
    }

    /// Differentiates with respect to these parameters only: no gradient flows to the others, as if each were `detach`ed.
    ///
    /// ```
    /// # use cotangent_wgsl::Module;
    /// let text = "fn square(p: f32, y: f32) -> f32 { let r = p - y; return r * r; }";
    /// let square = Module::parse("square.wgsl", text)?.function("square")?.with_respect_to(["p"])?;
    /// assert_eq!(
    ///     square.derivative()?.wgsl(),
    ///     "fn square_vjp(p: f32, y: f32, upstream: f32) -> f32 {\n  let t1 = upstream * (p - y);\n  return (t1 + t1);\n}\n",
    /// );
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    ///
    /// Errors: `AD002` for a name that no parameter has, listing those there are; `AD003` for a parameter without floats.
    #[track_caller]
    pub fn with_respect_to<N: AsRef<str>>(
        mut self,
        parameters: impl IntoIterator<Item = N>,
    ) -> Result<Function, Error> {
        let at = Location::caller();
        let known = self.parameters();
        let framed = |problem: Problem| Err(problem.in_text(&self.text.source).at(at));
        let mut wanted = BTreeSet::new();
        for name in parameters {
            let name = name.as_ref();
            let Some(position) = known.iter().position(|parameter| parameter.name == name) else {
                let names: Vec<&str> = known.iter().map(|parameter| parameter.name.as_str()).collect();
                let list = if names.is_empty() { "none".to_string() } else { names.join(", ") };
                let message = format!("`{}` has no parameter `{name}`; there are: {list}", self.name());
                let span = self.text.module.functions.get_span(self.handle);
                return framed(Problem::new(Code::WgslNoParameter, message).at(span, "this function"));
            };
            if !known[position].scalars.iter().any(|dtype| dtype.is_float()) {
                let message =
                    format!("parameter `{name}` is {}, which has no derivative", known[position].wgsl);
                return framed(
                    Problem::new(Code::WgslNoFloat, message)
                        .at(self.parameter_span(position), "declared here"),
                );
            }
            wanted.insert(position);
        }
        self.wanted = Some(wanted);
        Ok(self)
    }
    /// To which of two equal numbers the gradient of `max` and `min` goes, in this function and all it calls.
    ///
    /// With `Tie::First`, `max(x, 0.0)` has the slope 1 at 0 and `max(0.0, x)` the slope 0; with `Tie::Half`, the default, both have ½.
    /// Values are the same; second derivatives are 0 either way.
    pub fn tie(mut self, tie: Tie) -> Function {
        self.options.tie = tie;
        self
    }

    pub(crate) fn text(&self) -> &Text {
        &self.text
    }
    pub(crate) fn handle(&self) -> Handle<Naga> {
        self.handle
    }
    /// The function on single numbers, one tensor for each scalar of its parameters: one for each scalar of its result.
    pub(crate) fn on_numbers(&self, inputs: &[Tensor], at: At) -> Result<Vec<Tensor>, Error> {
        let budget = Budget::default();
        Lowering::new(&self.text, &self.options, at, &budget).on_tensors(self.handle, inputs, true)
    }
    /// Its pullback as WGSL: what the gradients of [`Function::call`] compute. Rules in the text are written out.
    ///
    /// ```
    /// # use cotangent_wgsl::Module;
    /// let text = "fn square(x: f32) -> f32 { return x * x; }";
    /// let square = Module::parse("square.wgsl", text)?.function("square")?;
    /// assert_eq!(
    ///     square.derivative()?.wgsl(),
    ///     "fn square_vjp(x: f32, upstream: f32) -> f32 {\n  let t1 = upstream * x;\n  return (t1 + t1);\n}\n",
    /// );
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    ///
    /// Of a structure that holds integers too, the floats are fields of their own, as `s_a`. Errors: `AD013` for a constant that WGSL cannot write.
    #[track_caller]
    pub fn derivative(&self) -> Result<Derivative, Error> {
        derivative(self, Location::caller())
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }
    pub(crate) fn result_type(&self) -> Option<&TypeInner> {
        let module = &self.text.module;
        module.functions[self.handle].result.as_ref().map(|result| &module.types[result.ty].inner)
    }
    pub(crate) fn count_fields(&self) -> usize {
        if let Some(TypeInner::Struct { members, .. }) = self.result_type() { members.len() } else { 1 }
    }

    /// Checks that the function can be computed and differentiated, on numbers.
    pub(crate) fn check(&self, at: At) -> Result<(), Error> {
        let module = &self.text.module;
        let framed = |problem: Problem| problem.in_text(&self.text.source).at(at);
        let span = module.functions.get_span(self.handle);
        let result = module.functions[self.handle].result.as_ref();
        let kinds = result.map(|result| layout::scalars_of(module, result.ty)).transpose().map_err(framed)?;
        if !kinds.is_some_and(|kinds| !kinds.is_empty() && kinds.iter().all(|dtype| dtype.is_float())) {
            let got = self.result().unwrap_or_else(|| "nothing".into());
            let message =
                format!("`{}` returns {got}, which is no float and no composite of floats", self.name());
            return Err(framed(Problem::new(Code::WgslResult, message).at(span, "this function")));
        }
        if let Some(&position) = self.text.pointers_of(self.handle).first() {
            let message = format!("`{}` takes a pointer, and is called on tensors", self.name());
            return Err(framed(
                Problem::new(Code::WgslPointer, message).at(self.parameter_span(position), "this parameter"),
            ));
        }
        for argument in &module.functions[self.handle].arguments {
            let name = name_or(&argument.name, "_");
            layout::scalars_of(module, argument.ty)
                .map_err(|problem| framed(problem.at(span, format!("parameter `{name}`"))))?;
        }
        let computed = self.on_placeholders(at)?;
        if let Some(problem) = lint::without_derivative(&computed) {
            return Err(framed(problem));
        }
        let Computed { scalars, results } = computed;
        results.iter().try_for_each(|&result| scalars.tensor(result).node().map(|_| ()))
    }
    /// The function on placeholders, with all numbers in between.
    fn on_placeholders(&self, at: At) -> Result<Computed, Error> {
        let module = &self.text.module;
        let mut placeholders = Vec::new();
        for argument in &module.functions[self.handle].arguments {
            let name = name_or(&argument.name, "_");
            let kinds = layout::scalars_of(module, argument.ty)
                .map_err(|problem| problem.in_text(&self.text.source).at(at))?;
            let placeholder = |dtype| Tensor::placeholder(name, Shape::SCALAR, dtype);
            placeholders.extend(kinds.into_iter().map(placeholder));
        }
        let budget = Budget::default();
        Lowering::new(&self.text, &self.options, at, &budget).computed(self.handle, &placeholders, true)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.text.parameters_of(self.handle).join(", "))?;
        self.result().map_or(Ok(()), |ty| write!(f, " -> {ty}"))
    }
}
impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.text.source.name)
    }
}
