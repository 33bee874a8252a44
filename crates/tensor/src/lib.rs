//! Tensors as lazy handles to an immutable graph: operations, shapes, and the f64 reference.
