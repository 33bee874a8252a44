//! What a gradient may turn out to be, and with respect to what one may ask.

use std::borrow::Borrow;
use std::panic::Location;

use cotangent_tensor::{Code, DType, Error, Node, Shape, Tensor};

use crate::stamp::zeros_at;

/// Why there is, or is not, a derivative.
///
/// When several paths lead to a tensor and differ, the first of these wins: a missing rule, a value, a stop, another
/// operation without derivative, a structural zero. (A value beside a missing rule would be silently wrong.)
#[derive(Clone, Debug)]
pub enum State {
    /// The derivative.
    Value(Tensor),
    /// Structurally zero: every path goes through a piecewise constant function such as `sign` or a comparison.
    Zero,
    /// The outputs do not depend on the tensor.
    Unconnected,
    /// Every path was cut on purpose.
    Stopped {
        /// `detach`, or the name of the rule that passes nothing.
        by: String,
    },
    /// An operation on a path has no derivative.
    NotDifferentiable {
        /// Its name.
        op: String,
    },
}

impl State {
    /// The name of the variant.
    pub fn name(&self) -> &'static str {
        match self {
            State::Value(_) => "Value",
            State::Zero => "Zero",
            State::Unconnected => "Unconnected",
            State::Stopped { .. } => "Stopped",
            State::NotDifferentiable { .. } => "NotDifferentiable",
        }
    }
}

/// The derivative with respect to one tensor, or the reason why there is none.
#[derive(Clone, Debug)]
pub struct Gradient {
    state: State,
    /// Shape, element type and line of the tensor that was asked for.
    shape: Shape,
    dtype: DType,
    location: &'static Location<'static>,
    /// What `or_error` answers without a value.
    error: Option<Error>,
    /// The value before it was rounded to `dtype`.
    single: Option<Tensor>,
    /// Whether something else than values has arrived too: some path is cut.
    partial: bool,
}

impl Gradient {
    pub(crate) fn new(state: State, target: &Node) -> Gradient {
        let name = target.called();
        let error = match &state {
            State::Value(_) | State::Zero => None,
            State::Unconnected => Some(
                Error::new(Code::Unconnected, "gradient", format!("the outputs do not depend on `{name}`"))
                    .hint("`.or_zero()` takes zeros for it"),
            ),
            State::Stopped { by } => Some(
                Error::new(Code::Stopped, "gradient", format!("`{by}` cuts every path to `{name}`"))
                    .hint("`.or_zero()` takes zeros for it"),
            ),
            State::NotDifferentiable { op } => Some(
                Error::new(Code::NotDifferentiable, "gradient", format!("no gradient rule for `{op}`"))
                    .hint("write one with `custom_gradient`, or cut the path with `detach`"),
            ),
        };
        let Node { shape, dtype, location, .. } = *target;
        Gradient {
            state,
            shape,
            dtype,
            location,
            error: error.map(|e| e.shape("shape", &shape).at(location)),
            single: None,
            partial: false,
        }
    }
    pub(crate) fn missing(op: &str, error: Error, target: &Node) -> Gradient {
        let state = State::NotDifferentiable { op: op.to_string() };
        Gradient { error: Some(error), ..Gradient::new(state, target) }
    }
    pub(crate) fn with_single(mut self, single: Option<Tensor>, partial: bool) -> Gradient {
        (self.single, self.partial) = (single, partial);
        self
    }
    /// Whether some path is cut, beside the value of others.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }
    /// The derivative in F32, if there is one: as it was before it was rounded to the element type of what was asked for.
    pub fn single(&self) -> Option<&Tensor> {
        self.single.as_ref()
    }
    /// With `change` of the finished derivative in its place, if there is one: clipping, noise, or what else is due before
    /// a parameter moves. Changes are made in the order in which they are given.
    pub fn map(&self, change: impl FnOnce(Tensor) -> Tensor) -> Gradient {
        let mut changed = self.clone();
        if let State::Value(tensor) = &self.state {
            let tensor = change(tensor.clone());
            changed.single = None;
            changed.state = State::Value(tensor);
        }
        changed
    }
    /// What was found.
    pub fn state(&self) -> &State {
        &self.state
    }
    /// The derivative, if there is one.
    pub fn value(&self) -> Option<&Tensor> {
        match &self.state {
            State::Value(tensor) => Some(tensor),
            State::Zero | State::Unconnected | State::Stopped { .. } | State::NotDifferentiable { .. } => {
                None
            }
        }
    }
    /// The derivative, with zeros where it is zero, unconnected or stopped. Where a derivative is missing the result
    /// is an invalid tensor, since zeros would be wrong.
    pub fn or_zero(&self) -> Tensor {
        match (&self.state, &self.error) {
            (State::Value(tensor), _) => tensor.clone(),
            (State::NotDifferentiable { .. }, Some(error)) => Tensor::invalid(error.clone()),
            _ => zeros_at(self.shape, self.dtype, self.location),
        }
    }
    /// The derivative, which must exist (a structural zero does). Errors: `E_UNCONNECTED`, `E_STOPPED`,
    /// `E_NOT_DIFFERENTIABLE`, `E_NO_DERIVATIVE`.
    pub fn or_error(&self) -> Result<Tensor, Error> {
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(self.or_zero()),
        }
    }
    /// One sentence that says what was found and why.
    pub fn explain(&self) -> String {
        match (&self.state, &self.error) {
            (State::Value(tensor), _) => format!("the derivative is {tensor:?}"),
            (State::Zero, _) => "every path goes through a piecewise constant operation; \
                a surrogate gradient may be what is wanted"
                .to_string(),
            (_, Some(error)) => error.message().to_string(),
            (_, None) => String::new(),
        }
    }
}

/// Tensors to differentiate with respect to: one, an array (which gives an array back), a slice or a vector.
pub trait Wrt {
    /// The same container with other contents.
    type Of<T>;
    /// The tensors in order.
    fn tensors(&self) -> Vec<&Tensor>;
    /// A container of as many items.
    fn collect<T>(&self, items: Vec<T>) -> Self::Of<T>;
}

fn array<T, const N: usize>(items: Vec<T>) -> [T; N] {
    let mut items = items.into_iter();
    std::array::from_fn(|_| items.next().expect("there is one item per tensor"))
}

impl Wrt for &Tensor {
    type Of<T> = T;
    fn tensors(&self) -> Vec<&Tensor> {
        vec![self]
    }
    fn collect<T>(&self, items: Vec<T>) -> T {
        let [item] = array(items);
        item
    }
}
macro_rules! wrt {
    ($([$($generics:tt)*] $Container:ty, $Result:ty, $collect:expr;)*) => { $(
        impl<A: Borrow<Tensor>, $($generics)*> Wrt for $Container {
            type Of<T> = $Result;
            fn tensors(&self) -> Vec<&Tensor> { self.iter().map(Borrow::borrow).collect() }
            fn collect<T>(&self, items: Vec<T>) -> $Result { $collect(items) }
        }
    )* };
}
wrt! {
    [const N: usize] [A; N], [T; N], array;
    [const N: usize] &[A; N], [T; N], array;
    [] &[A], Vec<T>, |items| items;
    [] &Vec<A>, Vec<T>, |items| items;
    [] Vec<A>, Vec<T>, |items| items;
}
