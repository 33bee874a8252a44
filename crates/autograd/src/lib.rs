//! Derivatives of tensor graphs: vjp, jvp, custom gradients, checks and traces.
