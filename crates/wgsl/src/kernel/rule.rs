//! Gradient rules of kernels: custom gradients whose closures call other kernels, or are the user's.

use std::sync::Arc;

use cotangent_autograd::{CustomGradient, Rule as CustomRule, Upstream};
use cotangent_tensor::{At, Code, DType, Error, InputGradient, Tensor, UserKernel};

use super::{Kernel, ShapeRule};

type Closure = dyn Fn(&[Tensor], &[Tensor], &[Tensor]) -> Vec<Option<Tensor>> + Send + Sync;

#[derive(Clone)]
pub(super) enum Rule {
    Kernel(Arc<Kernel>),
    Closure(Arc<Closure>),
}

/// What a rule calls the cotangent of a buffer.
fn cotangent(buffer: &str) -> String {
    format!("d_{buffer}")
}

impl Kernel {
    /// Gives the kernel a gradient rule that is a kernel, too. Its inputs are called as the inputs and outputs of this one, of which it may
    /// use any, and `d_y` for the cotangent of an output `y`; its outputs are called `d_x`, for the gradient of an input `x` of
    /// floats, whose shape they have. A gradient that it does not give is an error where it is wanted.
    ///
    /// Whether it is the derivative is what [`gradcheck`](cotangent_autograd::gradcheck) finds out: it compares it with differences of the
    /// interpreted text. A rule of the rule serves second derivatives. There is no forward mode.
    ///
    /// A call is invalid with `AD030` if the names, or the types of buffers, do not fit.
    pub fn vjp_kernel(self, rule: Kernel) -> Kernel {
        match self.misfit(&rule) {
            Some(error) => self.note(error),
            None => Kernel { rule: Some(Rule::Kernel(Arc::new(rule))), ..self },
        }
    }
    /// Gives the kernel a gradient rule as an expression of tensors: from inputs, outputs and cotangents of the outputs, each in the order
    /// of their bindings, to one gradient for each input, `None` where nothing passes. Cotangents of integer outputs are zeros. It has
    /// derivatives of its own, where it is made of inputs and cotangents only: those of outputs are `AD024` there.
    ///
    /// Mistakes are those of [`CustomGradient::apply`](cotangent_autograd::CustomGradient::apply).
    pub fn vjp(
        self,
        rule: impl Fn(&[Tensor], &[Tensor], &[Tensor]) -> Vec<Option<Tensor>> + Send + Sync + 'static,
    ) -> Kernel {
        Kernel { rule: Some(Rule::Closure(Arc::new(rule))), ..self }
    }
    /// Declares that the rule is not the derivative, and why. `gradcheck` then reports how far the two are apart instead of failing.
    pub fn surrogate(self, reason: &str) -> Kernel {
        Kernel { surrogate: Some(reason.to_string()), ..self }
    }

    /// Why another kernel cannot be the rule of this one.
    fn misfit(&self, rule: &Kernel) -> Option<Error> {
        let known = self.inputs.iter().chain(&self.outputs).map(|b| (b.name.clone(), b.dtype));
        let upstream =
            self.outputs.iter().filter(|b| b.dtype.is_float()).map(|b| (cotangent(&b.name), DType::F32));
        let offered: Vec<(String, DType)> = known.chain(upstream).collect();
        let floats = self.inputs.iter().filter(|b| b.dtype.is_float());
        let wanted: Vec<(String, DType)> = floats.map(|b| (cotangent(&b.name), DType::F32)).collect();
        let wrong = |message: String, names: &[(String, DType)]| {
            let names: Vec<&str> = names.iter().map(|(name, _)| &**name).collect();
            let error =
                self.error(Code::WgslRule, format!("`{}` cannot be its rule: {message}", rule.name()));
            Some(error.hint(format!("there are: {}", names.join(", "))))
        };
        for (buffers, names, role) in
            [(&rule.inputs, &offered, "given to it"), (&rule.outputs, &wanted, "a gradient")]
        {
            for buffer in buffers {
                match names.iter().find(|(name, _)| *name == buffer.name) {
                    None => return wrong(format!("its `{}` is nothing that is {role}", buffer.name), names),
                    Some((_, dtype)) if *dtype != buffer.dtype => {
                        return wrong(
                            format!("its `{}` is {}, not {dtype}", buffer.name, buffer.dtype),
                            names,
                        );
                    }
                    Some(_) => {}
                }
            }
        }
        rule.wrong.clone()
    }

    /// The outputs, with the rule if there is one.
    pub(super) fn applied(&self, kernel: Arc<UserKernel>, inputs: &[Tensor], at: At) -> Vec<Tensor> {
        let Some(rule) = &self.rule else {
            return Tensor::user_kernel(at, &kernel, &inputs.iter().collect::<Vec<_>>());
        };
        // names, so that messages about the rule call inputs as the text does
        let named: Vec<Tensor> =
            inputs.iter().zip(&self.inputs).map(|(input, buffer)| input.named(&buffer.name)).collect();
        Called { of: self, rule, kernel, at }.apply_at(at, &named.iter().collect::<Vec<_>>())
    }
}

/// A kernel with a rule, as a custom gradient.
struct Called<'a> {
    of: &'a Kernel,
    rule: &'a Rule,
    kernel: Arc<UserKernel>,
    at: At,
}

impl CustomRule for Called<'_> {
    /// Inputs and outputs.
    type Saved = (Vec<Tensor>, Vec<Tensor>);

    fn declare(&self) -> CustomGradient {
        match &self.of.surrogate {
            None => CustomGradient::exact(self.of.name()),
            Some(reason) => CustomGradient::surrogate(self.of.name(), reason),
        }
    }
    fn forward(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Self::Saved) {
        let outputs = Tensor::user_kernel(self.at, &self.kernel, &inputs.iter().collect::<Vec<_>>());
        (outputs.clone(), (inputs.to_vec(), outputs))
    }
    fn vjp(
        &self,
        (inputs, outputs): &Self::Saved,
        upstream: &Upstream,
        _: &[bool],
    ) -> Option<Vec<InputGradient<Tensor>>> {
        let upstream: Vec<Tensor> = (0..upstream.len()).map(|output| upstream[output].clone()).collect();
        Some(match self.rule {
            Rule::Kernel(rule) => self.pulled(rule, inputs, outputs, &upstream),
            Rule::Closure(closure) => {
                closure(inputs, outputs, &upstream).into_iter().map(InputGradient::from).collect()
            }
        })
    }
}

impl Called<'_> {
    /// The gradients that a kernel computes.
    fn pulled(
        &self,
        rule: &Kernel,
        inputs: &[Tensor],
        outputs: &[Tensor],
        upstream: &[Tensor],
    ) -> Vec<InputGradient<Tensor>> {
        let mut rule = rule.clone();
        let mut values: Vec<(String, &Tensor)> = Vec::new();
        let buffers = self.of.inputs.iter().zip(inputs).chain(self.of.outputs.iter().zip(outputs));
        values.extend(buffers.map(|(buffer, tensor)| (buffer.name.clone(), tensor)));
        let cotangents = self.of.outputs.iter().zip(upstream);
        values.extend(cotangents.map(|(buffer, tensor)| (cotangent(&buffer.name), tensor)));
        for (buffer, bound) in self.of.inputs.iter().zip(&self.kernel.inputs) {
            rule.shapes.entry(cotangent(&buffer.name)).or_insert(ShapeRule::Fixed(bound.shape));
        }
        let is_used = |name: &str| rule.inputs.iter().any(|buffer| buffer.name == name);
        let given: Vec<(&str, &Tensor)> = values
            .iter()
            .filter(|(name, _)| is_used(name))
            .map(|(name, tensor)| (&**name, *tensor))
            .collect();
        let computed = rule.call_at(&given, self.at);
        let of = |buffer: &super::Buffer| {
            if !buffer.dtype.is_float() {
                return InputGradient::Nothing;
            }
            let name = cotangent(&buffer.name);
            match rule.outputs.iter().zip(&computed).find(|(output, _)| output.name == name) {
                Some((_, gradient)) => InputGradient::Value(gradient.clone()),
                None => {
                    InputGradient::Missing(format!("the kernel `{}` has no output `{name}`", rule.name()))
                }
            }
        };
        self.of.inputs.iter().map(of).collect()
    }
}
