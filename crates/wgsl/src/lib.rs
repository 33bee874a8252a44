//! User WGSL functions as tensor expressions.
