//! WHAT is computed: tensors as lazy handles to an immutable graph, and their meaning in f64.
//!
//! A [`Tensor`] is a reference-counted handle to a [`Node`]: an operation ([`Op`]), its operands, a shape, an element
//! type, and the line of the user's program that made it. Building a graph computes nothing, does no I/O and touches no
//! device. Something that implements [`Evaluate`] turns tensors into numbers: a device of `cotangent-device`, or the
//! [`Reference`] of this crate, which evaluates the graph as it stands, node by node, in f64.
//!
//! ```
//! use cotangent_tensor::{Code, DType, Evaluate, Reference, Tensor};
//!
//! // Weighted squared error: a plain expression, with broadcasting and operators.
//! let prediction = Tensor::input("prediction", [2, 2], DType::F32);
//! let target = Tensor::new([[1.0, 0.0], [0.0, 1.0]]);
//! let weight = Tensor::new([1.0, 3.0]);
//! let loss = (weight * (&prediction - target).pow(2)).mean(..);
//! assert!(loss.shape().is_empty());
//!
//! let reference = Reference::new().bind(&prediction, [[0.5, 0.5], [0.5, 0.5]])?;
//! assert_eq!(reference.evaluate(&[&loss])?[0].scalar()?, 0.5);
//!
//! // A mistake travels with the tensor until somebody asks for a number.
//! let wrong = (loss.exp() + Tensor::zeros([3])).matmul(&Tensor::ones([4, 1])).sum(..);
//! assert_eq!(reference.evaluate(&[&wrong]).unwrap_err().code(), Code::MatmulDim);
//! # Ok::<(), cotangent_tensor::Error>(())
//! ```
//!
//! # What stands where
//!
//! - One value per element: one row of the table in [`elementwise`] holds name, WGSL, meaning, derivatives and promised
//!   error of an operation, and is the only place where it exists. Integers have a second, smaller table ([`Integer`]).
//! - Everything else is a variant of [`Op`]: movement, reductions, products, indexing, softmax and its relatives, random
//!   words, custom rules. The set is closed: every pass over graphs is an exhaustive `match`.
//! - [`bounded`] evaluates like the reference and carries, for every element, how far a device may be from it. Devices
//!   are checked against these bounds; no tolerance is typed anywhere.
//! - [`random`] holds the counter-based generator that all evaluators share.
//!
//! # What this crate is not
//!
//! It has no derivatives (`cotangent-autograd` builds them, as graphs), no kernels (`cotangent-shaders`), no devices and
//! no user WGSL. The reference is slow on purpose: it is the oracle, not a way to train.
//!
//! # Invariants
//!
//! - A node never changes. Its identity is its address, that of the node it is another name of, or its token
//!   ([`Node::identity`]); so a `wrt` is found again by pointer.
//! - Operands of an elementwise node have equal shapes: broadcasting and casts are nodes of their own.
//! - An invalid tensor carries the *first* (leftmost) error with the caller's line, and every operation on it yields the
//!   same error. Only [`Tensor::shape`] and [`Tensor::dtype`] panic on it; nothing panics on bad input.
//! - Nothing recurses over a graph: building, sorting, evaluating and dropping a chain of 10⁶ nodes work.
//! - No global or thread-local state but the counter of [`Token`] identities, which orders no result; no interior
//!   mutability; no closure lives in a tensor
//!   (a [`UserKernel`] brings an evaluator of its text along, which knows no graph).
//! - Host data of type F32 keeps its f64 digits; devices round it once. The reference rounds nothing but F16.

mod address;
mod array;
mod build;
mod dtype;
pub mod elementwise;
mod error;
mod evaluate;
mod expand;
mod integer;
mod kernel;
pub mod math32;
mod methods;
mod movement;
mod node;
pub mod random;
mod reference;
mod rule;
pub mod shape;
pub mod special;
mod tensor;
pub mod ulp;
mod while_loop;

pub use address::{AddressHasher, AddressMap, AddressSet};
pub use array::{Array, Values};
pub use build::{endless_error, index_error, placeholder_error};
pub use dtype::{DType, Scalar};
pub use elementwise::{Class, Elementwise, Partial, Real};
pub use error::{Code, Detail, Error, edit_distance};
pub use evaluate::Evaluate;
pub use expand::{Expansion, Inspected, Mark, expand, marks};
pub use integer::Integer;
pub use kernel::{KERNEL_ALIGNMENT, KernelBuffer, KernelMeaning, Rounding, UserKernel};
pub use methods::where_;
pub use node::{Key, Label, Node, Op, Origin, Reduce, Token, substitute, topological, topological_until};
pub use reference::{Arithmetic, Bounded, Chain, Reference, Violation, bounded};
pub use rule::{InputGradient, Pullback, Pushforward, RuleKind, TracedRule};
pub use shape::{Axes, Dims, IntoShape, MAX_RANK, Shape};
pub use tensor::{At, Operand, Tensor};
pub use while_loop::{DEFAULT_ROUNDS, WhileLoop};
