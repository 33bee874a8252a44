//! Functions on tensors: what of them is which number of which parameter, and what becomes of the result.

use std::collections::BTreeMap;
use std::panic::Location;

use cotangent_tensor::{At, Code, DType, Error, Shape, Tensor};
use naga::{Handle, Type, TypeInner};

use crate::diagnose::Problem;
use crate::function::Function;
use crate::layout;
use crate::lower::{Budget, Lowering, together};
use crate::text::name_or;

impl Function {
    /// Applies the function element by element, one tensor for each parameter; shapes broadcast. For functions of numbers to a number;
    /// for vectors and arrays see [`Function::rows`], for structures [`Function::fields`].
    ///
    /// An invalid tensor comes of a wrong number of tensors (`E_WGSL`), of element types (`E_DTYPE`) or of shapes (`E_BROADCAST`).
    #[track_caller]
    pub fn call(&self, inputs: &[&Tensor]) -> Tensor {
        let at = Location::caller();
        let of_numbers = || {
            for argument in &self.text().module.functions[self.handle()].arguments {
                if !matches!(self.text().module.types[argument.ty].inner, TypeInner::Scalar(_)) {
                    let (name, ty) = (name_or(&argument.name, "_"), self.text().type_name(argument.ty));
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
    /// of numbers. The columns of a matrix and the elements of an array that are vectors may have an axis of their own, before the last one. A result that is a vector or an array becomes the last axis.
    ///
    /// Invalid as [`Function::call`] says.
    #[track_caller]
    pub fn rows(&self, inputs: &[&Tensor]) -> Tensor {
        let at = Location::caller();
        self.outputs(inputs, at).and_then(|outputs| self.single(outputs, at)).unwrap_or_else(Tensor::invalid)
    }
    /// Applies the function to tensors by the names of their parameters, in any order; otherwise like [`Function::rows`]. A structure is given
    /// as a whole, or by its fields as `s.a`, which then may be of different types.
    ///
    /// ```
    /// # use cotangent_tensor::{Evaluate, Reference, Tensor};
    /// # use cotangent_wgsl::Module;
    /// let text = "struct Row { features: vec2<f32>, label: u32 } fn score(row: Row, scale: f32) -> f32 { return scale * row.features[row.label]; }";
    /// let score = Module::parse("score.wgsl", text)?.function("score")?;
    /// let (features, label) = (Tensor::new([[1.0, 2.0], [3.0, 4.0]]), Tensor::new([1u32, 0]));
    /// let scores = score.by_name(&[("scale", &Tensor::new(10.0)), ("row.features", &features), ("row.label", &label)]);
    /// assert_eq!(Reference::new().evaluate(&[&scores])?[0].to_f64(), [20.0, 30.0]);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    #[track_caller]
    pub fn by_name(&self, inputs: &[(&str, &Tensor)]) -> Tensor {
        let at = Location::caller();
        self.outputs_by_name(inputs, at)
            .and_then(|outputs| self.single(outputs, at))
            .unwrap_or_else(Tensor::invalid)
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
    /// One tensor for each field of the result, of one tensor for each parameter.
    fn outputs(&self, inputs: &[&Tensor], at: At) -> Result<Vec<Tensor>, Error> {
        let arguments = &self.text().module.functions[self.handle()].arguments;
        if inputs.len() != arguments.len() {
            let message =
                format!("{} tensors are given, and there are {} parameters", inputs.len(), arguments.len());
            return Err(self.error(Code::Wgsl, message, at).hint(format!("its signature is {self}")));
        }
        let mut scalars = Vec::new();
        for (position, (&input, argument)) in inputs.iter().zip(arguments).enumerate() {
            let name = name_or(&argument.name, "_");
            scalars.extend(self.numbers(name, argument.ty, input, self.wants(position), at)?);
        }
        self.of_numbers(&scalars, at)
    }
    /// The same, of tensors by name.
    fn outputs_by_name(&self, inputs: &[(&str, &Tensor)], at: At) -> Result<Vec<Tensor>, Error> {
        let mut given: BTreeMap<&str, &Tensor> = BTreeMap::new();
        for &(name, input) in inputs {
            if given.insert(name, input).is_some() {
                return Err(self.error(Code::Wgsl, format!("`{name}` is given twice"), at));
            }
        }
        let mut scalars = Vec::new();
        for (position, argument) in self.text().module.functions[self.handle()].arguments.iter().enumerate() {
            let name = name_or(&argument.name, "_").to_string();
            self.gather(name, argument.ty, &mut given, self.wants(position), at, &mut scalars)?;
        }
        match given.keys().next() {
            None => self.of_numbers(&scalars, at),
            Some(name) => {
                let message =
                    format!("there is no parameter and no field `{name}` that is not given already");
                Err(self.error(Code::Wgsl, message, at).hint(format!("its signature is {self}")))
            }
        }
    }
    /// The numbers of a parameter that is given by name, or by those of its fields.
    fn gather(
        &self,
        name: String,
        ty: Handle<Type>,
        given: &mut BTreeMap<&str, &Tensor>,
        wanted: bool,
        at: At,
        scalars: &mut Vec<Tensor>,
    ) -> Result<(), Error> {
        if let Some(input) = given.remove(name.as_str()) {
            scalars.extend(self.numbers(&name, ty, input, wanted, at)?);
            return Ok(());
        }
        let TypeInner::Struct { members, .. } = &self.text().module.types[ty].inner else {
            let message = format!("`{name}` is not given");
            return Err(self.error(Code::Wgsl, message, at).hint(format!("its signature is {self}")));
        };
        for member in members {
            let field = format!("{name}.{}", name_or(&member.name, "_"));
            self.gather(field, member.ty, given, wanted, at, scalars)?;
        }
        Ok(())
    }
    /// The numbers of a value that is given by one tensor.
    fn numbers(
        &self,
        name: &str,
        ty: Handle<Type>,
        input: &Tensor,
        wanted: bool,
        at: At,
    ) -> Result<Vec<Tensor>, Error> {
        let module = &self.text().module;
        let node = input.node()?;
        let kinds =
            layout::scalars_of(module, ty).map_err(|problem| problem.in_text(&self.text().source).at(at))?;
        if kinds.iter().any(|dtype| Some(dtype) != kinds.first()) {
            let message = format!(
                "`{name}` is {}, which holds several types, and one tensor",
                self.text().type_name(ty)
            );
            return Err(self
                .error(Code::Dtype, message, at)
                .hint(format!("give its fields by name, as `by_name(&[(\"{name}.…\", …)])`")));
        }
        let fits = |&dtype: &DType| node.dtype == dtype || (dtype, node.dtype) == (DType::F32, DType::F16);
        if let Some(wanted) = kinds.iter().find(|dtype| !fits(dtype)) {
            let message = format!("parameter `{name}` is {wanted}, and the tensor is {}", node.dtype);
            return Err(self
                .error(Code::Dtype, message, at)
                .hint(format!("write `.cast(DType::{wanted:?})`")));
        }
        let dtype = kinds.first().copied().unwrap_or(DType::F32);
        let mut input = input.cast_at(at, dtype);
        if dtype.is_float() && !wanted {
            input = input.detach();
        }
        if let TypeInner::Scalar(_) = module.types[ty].inner {
            return Ok(vec![input]);
        }
        // parts of several numbers may have an axis of their own
        if node.shape.last() != Some(&kinds.len())
            && let Some(parts) = self.parts(ty)
            && let [.., count, each] = node.shape[..]
            && (count, each) == (parts, kinds.len() / parts.max(1))
        {
            let leading = node.shape[..node.shape.len() - 2].iter().copied();
            let merged: Vec<usize> = leading.chain([kinds.len()]).collect();
            input = input.reshape(Shape::new(&merged)?);
        } else if node.shape.last() != Some(&kinds.len()) {
            let message = format!(
                "parameter `{name}` is {}, whose {} numbers are the last axis; the tensor has shape {}",
                self.text().type_name(ty),
                kinds.len(),
                node.shape
            );
            return Err(self.error(Code::Broadcast, message, at).hint("reshape or transpose it"));
        }
        Ok((0..kinds.len()).map(|k| input.slice(-1, k, k + 1, 1).squeeze(-1)).collect())
    }
    /// How many columns a matrix has, or elements of several numbers an array.
    fn parts(&self, ty: Handle<Type>) -> Option<usize> {
        let module = &self.text().module;
        match &module.types[ty].inner {
            TypeInner::Matrix { columns, .. } => Some(*columns as usize),
            TypeInner::Array { base, .. } => {
                let (all, each) = (
                    layout::scalars_of(module, ty).ok()?.len(),
                    layout::scalars_of(module, *base).ok()?.len(),
                );
                (each > 1).then(|| all / each)
            }
            _ => None,
        }
    }
    /// One tensor for each field of the result, of one for each number of the parameters.
    fn of_numbers(&self, scalars: &[Tensor], at: At) -> Result<Vec<Tensor>, Error> {
        let module = &self.text().module;
        let framed = |problem: Problem| problem.in_text(&self.text().source).at(at);
        // one check for all, so that a mistake names the function and not the first operation in it
        let shape = self.common_shape(scalars, at)?;
        let budget = Budget::default();
        let lowering = Lowering::new(self.text(), self.options(), at, &budget);
        let results = lowering.on_tensors(self.handle(), scalars, true)?;
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
