//! Functions of which nothing is kept for the backward pass.

use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{AddressSet, Code, Error, Node, Op, topological};

use crate::enclosure::{Border, enclosed};
use crate::forms::{Inputs, Outputs};
use crate::rule::CustomGradient;
use crate::tracer::{Tracer, tensors};

/// `outputs = function(inputs)`, of which the backward pass computes again what it needs: between forward and backward pass
/// nothing is kept but the inputs. It costs one more evaluation of the function for each derivative taken, and saves the
/// memory of everything inside.
///
/// Values and derivatives are those of the plain function, at every order and in both modes, bit for bit; only where a tensor
/// is used more than once may what it receives be added in another order, and an adapter may sum rows in another order beside
/// other work. The second derivative computes the first one again, and keeps nothing of it either. Checkpoints may lie
/// inside of one another, and inside of custom rules.
///
/// What the function captures is an input too, and is differentiated as in plain code. What it computes from captured
/// tensors alone is kept: make such tensors inputs if they should be computed again. What is made of constants and single
/// integers, such as a random mask, is computed again; a gradient with respect to a float of that kind is `E_RULE_CAPTURE`.
///
/// A panic of the function gives `E_USER_PANIC`; invalid inputs give invalid outputs.
///
/// ```
/// use cotangent_autograd::{checkpoint, grad};
/// use cotangent_tensor::{Evaluate, Reference, Tensor};
///
/// let (x, w) = (Tensor::new([0.3, -0.2]), Tensor::new([[0.5, 0.1], [0.2, -0.4]]).named("w"));
/// let layer = |x: Tensor| x.unsqueeze(0).matmul(&w).tanh().squeeze(0);
/// // Two blocks of two layers each; only what lies between the blocks is kept.
/// let block = |x: &Tensor| checkpoint([x], |[x]| layer(layer(x)));
/// let loss = block(&block(&x)).sum(..);
/// let [dw] = grad(&loss, [&w])?;
///
/// let plain = layer(layer(layer(layer(x.clone())))).sum(..);
/// let [expected] = grad(&plain, [&w])?;
/// let values = Reference::new().evaluate(&[&dw.or_error()?, &expected.or_error()?])?;
/// assert_eq!(values[0].to_f64(), values[1].to_f64());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn checkpoint<I: Inputs, O: Outputs>(inputs: I, function: impl FnOnce(I::Traced) -> O) -> O {
    Checkpoint::new("checkpoint").apply(inputs, function)
}

/// A [`checkpoint`] with a name and a policy: some values inside may be kept, because they are cheap to keep or expensive to compute.
///
/// ```
/// use cotangent_autograd::{Checkpoint, grad};
/// use cotangent_tensor::Tensor;
///
/// let (x, w) = (Tensor::ones([4, 8]), Tensor::ones([8, 8]));
/// // Products are kept; everything elementwise is computed again.
/// let policy = Checkpoint::new("block").keep_products();
/// let y = policy.apply([&x], |[x]| x.matmul(&w).softplus().tanh());
/// assert!(grad(&y.sum(..), &w)?.value().is_some());
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    name: String,
    products: bool,
    names: Vec<String>,
}

impl Checkpoint {
    /// Keeps nothing inside. The name stands in messages, traces and pictures.
    pub fn new(name: &str) -> Checkpoint {
        Checkpoint { name: name.to_owned(), products: false, names: Vec::new() }
    }
    /// Keeps results of matrix products, which cost most to compute.
    pub fn keep_products(mut self) -> Checkpoint {
        self.products = true;
        self
    }
    /// Keeps values that the function gives one of these names, with [`Tensor::named`](cotangent_tensor::Tensor::named). A name that nothing inside has is
    /// `E_HYPERPARAMETER`.
    pub fn keep_named<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Checkpoint {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }
    /// As [`checkpoint`], by this policy.
    #[track_caller]
    pub fn apply<I: Inputs, O: Outputs>(&self, inputs: I, function: impl FnOnce(I::Traced) -> O) -> O {
        let at = Location::caller();
        let tracer = Tracer::new(CustomGradient::exact(&self.name), "checkpoint", at);
        let (operands, parameters) = match tracer.parameters(&inputs.tensors()) {
            Ok(parameters) => parameters,
            Err(error) => return tracer.invalid(&inputs, error, function),
        };
        let outputs = match tracer.guarded(|| function(inputs.traced(tensors(&parameters)))) {
            Ok(outputs) => outputs.tensors(),
            Err(error) => return O::invalid(error, 1),
        };
        let build = || {
            let roots = tracer.valid(&outputs)?;
            let kept = self.kept(&roots, &parameters).map_err(|error| error.at(at))?;
            let border = Border { inside: &parameters, operands: &operands, outside: AddressSet::default() };
            Ok(tensors(&enclosed(&self.name, at, &roots, &border, &kept)))
        };
        build().map_or_else(|error| O::invalid(error, outputs.len()), O::applied)
    }

    /// The values inside that the policy keeps.
    fn kept(&self, roots: &[Arc<Node>], parameters: &[Arc<Node>]) -> Result<Vec<Arc<Node>>, Error> {
        if !self.products && self.names.is_empty() {
            return Ok(Vec::new());
        }
        let mut inside: AddressSet<()> = parameters.iter().map(Node::identity).collect();
        let mut kept: Vec<Arc<Node>> = Vec::new();
        let mut found: Vec<&str> = Vec::new();
        for node in topological(roots) {
            if !node.operands.iter().any(|operand| inside.contains(&operand.identity())) {
                continue;
            }
            inside.insert(node.identity());
            let name = self.names.iter().find(|name| node.label.as_deref() == Some(name.as_str()));
            found.extend(name.map(String::as_str));
            if name.is_some() || self.products && matches!(node.op, Op::Matmul) {
                kept.push(node);
            }
        }
        match self.names.iter().find(|name| !found.contains(&name.as_str())) {
            None => Ok(kept),
            Some(name) => {
                let message = format!("nothing that is computed inside is named `{name}`");
                let error = Error::new(Code::Hyperparameter, format!("checkpoint {:?}", self.name), message);
                Err(error.hint(format!("name it where it is computed: `.named({name:?})`")))
            }
        }
    }
}
