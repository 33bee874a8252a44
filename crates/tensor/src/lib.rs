//! WHAT is computed: tensors as lazy handles to an immutable graph.

mod array;
mod build;
mod dtype;
pub mod elementwise;
mod error;
mod evaluate;
mod integer;
pub mod math32;
mod node;
pub mod shape;
pub mod special;
mod tensor;

pub use array::{Array, Values};
pub use build::index_error;
pub use dtype::{DType, Scalar};
pub use elementwise::{Class, Elementwise, Partial, Real};
pub use error::{Code, Detail, Error};
pub use evaluate::Evaluate;
pub use integer::Integer;
pub use node::{Key, Node, Op, Reduce, Rule, RuleKind, Token, substitute, topological};
pub use shape::{Axes, Dims, IntoShape, MAX_RANK, Shape};
pub use tensor::{Operand, Tensor, where_};
