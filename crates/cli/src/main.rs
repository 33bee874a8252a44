//! The cotangent command line: fit, check, bench, info.

fn main() {}
