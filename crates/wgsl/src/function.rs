//! Functions of a text, called on tensors.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{At, Code, DType, Error, Shape, Tensor};
use naga::{Function as Naga, Handle, TypeInner};

use crate::derivative::{Derivative, derivative};
use crate::diagnose::Problem;
use crate::layout;
use crate::lower::{Budget, Lowering, Settings, together};
use crate::text::{Text, name_or};

/// A function written in WGSL. Called on tensors it is an expression like any other.
#[derive(Clone)]
pub struct Function {
    text: Arc<Text>,
    handle: Handle<Naga>,
    settings: Settings,
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
}

impl Function {
    pub(crate) fn new(text: &Arc<Text>, handle: Handle<Naga>, settings: Settings) -> Function {
        Function { text: text.clone(), handle, settings }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        self.text.name_of(self.handle)
    }
    /// The parameters, in order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let module = &self.text.module;
        let arguments = module.functions[self.handle].arguments.iter();
        let parameter = |a: &naga::FunctionArgument| Parameter {
            name: name_or(&a.name, "_").to_string(),
            wgsl: self.text.type_name(a.ty),
            scalars: layout::scalars_of(module, a.ty).unwrap_or_default(),
        };
        arguments.map(parameter).collect()
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
        self.settings.surrogates.insert(function.to_string(), reason.to_string());
        Ok(self)
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
        Lowering::new(&self.text, &self.settings, at, &budget).on_tensors(self.handle, inputs, true)
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
    /// Errors: `AD012` for a parameter that mixes floats and integers, `AD013` for a constant that WGSL cannot write.
    #[track_caller]
    pub fn derivative(&self) -> Result<Derivative, Error> {
        derivative(self, Location::caller())
    }

    /// Applies the function element by element, one tensor for each parameter; shapes broadcast. For functions of numbers to a number;
    /// for vectors and arrays see [`Function::rows`], for structures [`Function::fields`].
    ///
    /// An invalid tensor comes of a wrong number of tensors (`E_WGSL`), of element types (`E_DTYPE`) or of shapes (`E_BROADCAST`).
    #[track_caller]
    pub fn call(&self, inputs: &[&Tensor]) -> Tensor {
        let at = Location::caller();
        let of_numbers = || {
            for argument in &self.text.module.functions[self.handle].arguments {
                if !matches!(self.text.module.types[argument.ty].inner, TypeInner::Scalar(_)) {
                    let (name, ty) = (name_or(&argument.name, "_"), self.text.type_name(argument.ty));
                    return Err(self.error(Code::Wgsl, format!("parameter `{name}` is {ty}"), at).hint(
                        "call it by rows: `rows` takes vectors and arrays from the last axis of a tensor",
                    ));
                }
            }
            self.single(self.outputs(inputs, at)?, at)
        };
        of_numbers().unwrap_or_else(Tensor::invalid)
    }
    /// Applies the function to rows: a parameter that is a vector, a matrix (by columns), an array or a structure takes the last axis of its
    /// tensor, which has as many elements as it has numbers; the other axes broadcast against each other, and against tensors
    /// of numbers. A result that is a vector or an array becomes the last axis.
    ///
    /// Invalid as [`Function::call`] says.
    #[track_caller]
    pub fn rows(&self, inputs: &[&Tensor]) -> Tensor {
        let at = Location::caller();
        self.outputs(inputs, at).and_then(|outputs| self.single(outputs, at)).unwrap_or_else(Tensor::invalid)
    }
    /// Applies a function whose result is a structure: one tensor for each of its fields. Otherwise like [`Function::rows`].
    #[track_caller]
    pub fn fields(&self, inputs: &[&Tensor]) -> Vec<Tensor> {
        let at = Location::caller();
        self.outputs(inputs, at).unwrap_or_else(|error| vec![Tensor::invalid(error); self.count_fields()])
    }

    fn error(&self, code: Code, message: String, at: At) -> Error {
        Error::new(code, self.name(), message).at(at)
    }
    fn single(&self, mut outputs: Vec<Tensor>, at: At) -> Result<Tensor, Error> {
        if let (1, Some(output)) = (outputs.len(), outputs.pop()) {
            return Ok(output);
        }
        let fields = self.count_fields();
        Err(self
            .error(Code::Wgsl, format!("the result is a structure of {fields} fields"), at)
            .hint("`fields` gives one tensor for each"))
    }
    fn result_type(&self) -> Option<&TypeInner> {
        let module = &self.text.module;
        module.functions[self.handle].result.as_ref().map(|result| &module.types[result.ty].inner)
    }
    fn count_fields(&self) -> usize {
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
        let mut placeholders = Vec::new();
        for argument in &module.functions[self.handle].arguments {
            let name = name_or(&argument.name, "_");
            let kinds = layout::scalars_of(module, argument.ty)
                .map_err(|problem| framed(problem.at(span, format!("parameter `{name}`"))))?;
            let placeholder = |dtype| Tensor::placeholder(name, Shape::SCALAR, dtype);
            placeholders.extend(kinds.into_iter().map(placeholder));
        }
        let results = self.on_numbers(&placeholders, at)?;
        results.iter().try_for_each(|result| result.node().map(|_| ()))
    }

    /// One tensor for each field of the result.
    fn outputs(&self, inputs: &[&Tensor], at: At) -> Result<Vec<Tensor>, Error> {
        let module = &self.text.module;
        let arguments = &module.functions[self.handle].arguments;
        if inputs.len() != arguments.len() {
            let message =
                format!("{} tensors are given, and there are {} parameters", inputs.len(), arguments.len());
            return Err(self.error(Code::Wgsl, message, at).hint(format!("its signature is {self}")));
        }
        let framed = |problem: Problem| problem.in_text(&self.text.source).at(at);
        let mut scalars = Vec::new();
        for (&input, argument) in inputs.iter().zip(arguments) {
            let node = input.node()?;
            let kinds = layout::scalars_of(module, argument.ty).map_err(framed)?;
            let name = name_or(&argument.name, "_");
            let fits =
                |&dtype: &DType| node.dtype == dtype || (dtype, node.dtype) == (DType::F32, DType::F16);
            if let Some(wanted) = kinds.iter().find(|dtype| !fits(dtype)) {
                let message = format!("parameter `{name}` is {wanted}, and the tensor is {}", node.dtype);
                return Err(self
                    .error(Code::Dtype, message, at)
                    .hint(format!("write `.cast(DType::{wanted:?})`")));
            }
            let input = input.cast_at(at, kinds.first().copied().unwrap_or(DType::F32));
            if let TypeInner::Scalar(_) = module.types[argument.ty].inner {
                scalars.push(input);
                continue;
            }
            let last = node.shape.last().copied();
            if last != Some(kinds.len()) {
                let ty = self.text.type_name(argument.ty);
                let message = format!(
                    "parameter `{name}` is {ty}, whose {} numbers are the last axis; the tensor has shape {}",
                    kinds.len(),
                    node.shape
                );
                return Err(self.error(Code::Broadcast, message, at).hint("reshape or transpose it"));
            }
            scalars.extend((0..kinds.len()).map(|k| input.slice(-1, k, k + 1, 1).squeeze(-1)));
        }
        // one check for all, so that a mistake names the function and not the first operation in it
        let shape = self.common_shape(&scalars, at)?;
        let budget = Budget::default();
        let lowering = Lowering::new(&self.text, &self.settings, at, &budget);
        let results = lowering.on_tensors(self.handle, &scalars, true)?;
        let mut results = results.into_iter();
        let parts: Vec<&TypeInner> = match self.result_type() {
            Some(TypeInner::Struct { members, .. }) => {
                members.iter().map(|member| &module.types[member.ty].inner).collect()
            }
            other => other.into_iter().collect(),
        };
        let mut outputs = Vec::new();
        for part in parts {
            let count = layout::scalars(module, part).map_err(framed)?.len();
            let numbers: Vec<Tensor> = results.by_ref().take(count).map(|x| x.broadcast_to(shape)).collect();
            let output = match (part, &numbers[..]) {
                (TypeInner::Scalar(_), [one]) => one.clone(),
                _ => Tensor::stack(&numbers.iter().collect::<Vec<_>>(), -1),
            };
            output.node()?;
            outputs.push(output);
        }
        Ok(match &outputs[..] {
            [one] => vec![one.named(self.name())],
            _ => outputs,
        })
    }
    fn common_shape(&self, scalars: &[Tensor], at: At) -> Result<Shape, Error> {
        let Some(first) = together(scalars, at).into_iter().next() else { return Ok(Shape::SCALAR) };
        match first.node() {
            Ok(node) => Ok(node.shape),
            Err(error) => Err(self
                .error(error.code(), error.message().to_string(), at)
                .hint("insert axes with `unsqueeze`, or reshape one of them")),
        }
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
