//! Tensors as lazy handles to an immutable graph: operations, shapes, and the f64 reference.

pub mod math32;
pub mod special;
