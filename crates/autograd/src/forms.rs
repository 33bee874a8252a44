//! The forms in which a rule's closure may take inputs and give outputs and gradients.

use std::borrow::Borrow;

use cotangent_tensor::{Error, Tensor};

/// What may be given as the inputs of a rule: an array (the closure then gets an array), a slice or a vector.
pub trait Inputs {
    /// What the closure gets.
    type Traced;
    /// The inputs in order.
    fn tensors(&self) -> Vec<Tensor>;
    /// Placeholders, one per input, in the same form.
    fn traced(&self, placeholders: Vec<Tensor>) -> Self::Traced;
}

/// What a rule's closure may give as outputs: one tensor, a pair, an array or a vector.
pub trait Outputs {
    /// The cotangents that the gradient closure gets, in the same form.
    type Upstream;
    /// The outputs in order.
    fn tensors(&self) -> Vec<Tensor>;
    /// As many tensors in this form.
    fn applied(tensors: Vec<Tensor>) -> Self;
    /// The cotangents of as many outputs.
    fn upstream(tensors: Vec<Tensor>) -> Self::Upstream;
    /// The same invalid tensor for every output; `count` is their number where the form leaves it open.
    fn invalid(error: Error, count: usize) -> Self;
    /// Whether only a call tells how many outputs there are.
    const OPEN: bool = false;
}

/// What a gradient closure may give: one tensor, a tuple, an array or a vector, `None` where nothing passes.
pub trait Gradients {
    /// One gradient per input.
    fn gradients(self) -> Vec<Option<Tensor>>;
}

fn array<const N: usize>(tensors: Vec<Tensor>) -> [Tensor; N] {
    let mut tensors = tensors.into_iter();
    std::array::from_fn(|_| tensors.next().expect("there is one tensor per element"))
}

fn one(tensors: Vec<Tensor>) -> Tensor {
    let [tensor] = array(tensors);
    tensor
}

macro_rules! inputs {
    ($([$($generics:tt)*] $Form:ty => $Traced:ty, $traced:expr;)*) => { $(
        impl<A: Borrow<Tensor>, $($generics)*> Inputs for $Form {
            type Traced = $Traced;
            fn tensors(&self) -> Vec<Tensor> { self.iter().map(|t| t.borrow().clone()).collect() }
            fn traced(&self, placeholders: Vec<Tensor>) -> $Traced { $traced(placeholders) }
        }
    )* };
}
inputs! {
    [const N: usize] [A; N] => [Tensor; N], array;
    [const N: usize] &[A; N] => [Tensor; N], array;
    [] &[A] => Vec<Tensor>, |all| all;
    [] &Vec<A> => Vec<Tensor>, |all| all;
    [] Vec<A> => Vec<Tensor>, |all| all;
}

impl Outputs for Tensor {
    type Upstream = Tensor;
    fn tensors(&self) -> Vec<Tensor> {
        vec![self.clone()]
    }
    fn applied(tensors: Vec<Tensor>) -> Tensor {
        one(tensors)
    }
    fn upstream(tensors: Vec<Tensor>) -> Tensor {
        one(tensors)
    }
    fn invalid(error: Error, _: usize) -> Tensor {
        Tensor::invalid(error)
    }
}
impl Outputs for (Tensor, Tensor) {
    type Upstream = (Tensor, Tensor);
    fn tensors(&self) -> Vec<Tensor> {
        vec![self.0.clone(), self.1.clone()]
    }
    fn applied(tensors: Vec<Tensor>) -> Self {
        array::<2>(tensors).into()
    }
    fn upstream(tensors: Vec<Tensor>) -> Self {
        array::<2>(tensors).into()
    }
    fn invalid(error: Error, _: usize) -> Self {
        (Tensor::invalid(error.clone()), Tensor::invalid(error))
    }
}
impl<const N: usize> Outputs for [Tensor; N] {
    type Upstream = [Tensor; N];
    fn tensors(&self) -> Vec<Tensor> {
        self.to_vec()
    }
    fn applied(tensors: Vec<Tensor>) -> Self {
        array(tensors)
    }
    fn upstream(tensors: Vec<Tensor>) -> Self {
        array(tensors)
    }
    fn invalid(error: Error, _: usize) -> Self {
        std::array::from_fn(|_| Tensor::invalid(error.clone()))
    }
}
impl Outputs for Vec<Tensor> {
    type Upstream = Vec<Tensor>;
    fn tensors(&self) -> Vec<Tensor> {
        self.clone()
    }
    fn applied(tensors: Vec<Tensor>) -> Self {
        tensors
    }
    fn upstream(tensors: Vec<Tensor>) -> Self {
        tensors
    }
    fn invalid(error: Error, count: usize) -> Self {
        vec![Tensor::invalid(error); count]
    }
    const OPEN: bool = true;
}

impl Gradients for Tensor {
    fn gradients(self) -> Vec<Option<Tensor>> {
        vec![Some(self)]
    }
}
impl Gradients for Option<Tensor> {
    fn gradients(self) -> Vec<Option<Tensor>> {
        vec![self]
    }
}
impl<T: Into<Option<Tensor>>, const N: usize> Gradients for [T; N] {
    fn gradients(self) -> Vec<Option<Tensor>> {
        self.into_iter().map(Into::into).collect()
    }
}
impl<T: Into<Option<Tensor>>> Gradients for Vec<T> {
    fn gradients(self) -> Vec<Option<Tensor>> {
        self.into_iter().map(Into::into).collect()
    }
}
impl<A: Into<Option<Tensor>>, B: Into<Option<Tensor>>> Gradients for (A, B) {
    fn gradients(self) -> Vec<Option<Tensor>> {
        vec![self.0.into(), self.1.into()]
    }
}
impl<A: Into<Option<Tensor>>, B: Into<Option<Tensor>>, C: Into<Option<Tensor>>> Gradients for (A, B, C) {
    fn gradients(self) -> Vec<Option<Tensor>> {
        vec![self.0.into(), self.1.into(), self.2.into()]
    }
}
