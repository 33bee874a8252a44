//! The forms in which a rule's closure may take inputs and give outputs and gradients.

use std::borrow::Borrow;

use cotangent_tensor::{Error, InputGradient, Tensor};

/// What may be given as the inputs of a rule: an array (the closure then gets an array), a slice or a vector.
pub trait Inputs {
    /// What the closure gets.
    type Traced;
    /// The inputs in order.
    fn tensors(&self) -> Vec<Tensor>;
    /// Placeholders, one per input, in the same form.
    fn traced(&self, placeholders: Vec<Tensor>) -> Self::Traced;
}

/// What a rule's closure may give as outputs: one tensor, a tuple of up to three, an array or a vector.
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

/// What a gradient closure may give: one gradient, a tuple, an array or a vector. A gradient is a tensor, `None` where nothing
/// passes, or an [`InputGradient`].
pub trait Gradients {
    /// One gradient per input.
    fn gradients(self) -> Vec<InputGradient<Tensor>>;
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
macro_rules! tuple_of_outputs {
    ($($Form:ty, $count:literal, [$($position:tt)*];)*) => { $(
        impl Outputs for $Form {
            type Upstream = $Form;
            fn tensors(&self) -> Vec<Tensor> { vec![$(self.$position.clone()),*] }
            fn applied(tensors: Vec<Tensor>) -> Self { array::<$count>(tensors).into() }
            fn upstream(tensors: Vec<Tensor>) -> Self { array::<$count>(tensors).into() }
            fn invalid(error: Error, _: usize) -> Self {
                std::array::from_fn::<_, $count, _>(|_| Tensor::invalid(error.clone())).into()
            }
        }
    )* };
}
tuple_of_outputs! {
    (Tensor, Tensor), 2, [0 1];
    (Tensor, Tensor, Tensor), 3, [0 1 2];
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

macro_rules! one_gradient {
    ($($One:ty)*) => { $(
        impl Gradients for $One {
            fn gradients(self) -> Vec<InputGradient<Tensor>> { vec![self.into()] }
        }
    )* };
}
one_gradient!(Tensor Option<Tensor> InputGradient<Tensor>);

impl<T: Into<InputGradient<Tensor>>, const N: usize> Gradients for [T; N] {
    fn gradients(self) -> Vec<InputGradient<Tensor>> {
        self.into_iter().map(Into::into).collect()
    }
}
impl<T: Into<InputGradient<Tensor>>> Gradients for Vec<T> {
    fn gradients(self) -> Vec<InputGradient<Tensor>> {
        self.into_iter().map(Into::into).collect()
    }
}
macro_rules! tuple_of_gradients {
    ($($($G:ident)+;)*) => { $(
        impl<$($G: Into<InputGradient<Tensor>>),+> Gradients for ($($G,)+) {
            fn gradients(self) -> Vec<InputGradient<Tensor>> {
                #[allow(non_snake_case, reason = "one name for a type and its value")]
                let ($($G,)+) = self;
                vec![$($G.into()),+]
            }
        }
    )* };
}
tuple_of_gradients! { A; A B; A B C; A B C D; A B C D E; }
