//! What goes wrong, and what is said about it: one row per case, on the reference, the CPU device and every adapter.
//!
//! Every input runs under `catch_unwind`, and afterwards a good kernel runs on the same device.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod a_shapes;
mod b_numbers;
mod c_state;
mod d_rules;
mod e_wgsl;
mod table;

use common::{adapter_present, evaluators};
use table::{Row, run};

/// Cases in groups A to E.
const CASES: usize = 79;

fn rows() -> Vec<&'static Row> {
    [a_shapes::ROWS, b_numbers::ROWS, c_state::ROWS, d_rules::ROWS, e_wgsl::ROWS]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn the_table_is_complete() {
    let ids: Vec<usize> = rows().iter().map(|row| row.id).collect();
    let expected: Vec<usize> = (1..=CASES).collect();
    assert_eq!(ids, expected, "one row per case, in order");
    for row in rows() {
        assert!(!row.tries.is_empty(), "nothing is tried in case {}", row.id);
    }
}

#[test]
fn every_case_ends_as_stated_and_leaves_the_device_usable() {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    let mut failures = Vec::new();
    for evaluator in &evaluators {
        let summary = run(&rows(), evaluator);
        let inputs: usize = rows().iter().map(|row| row.tries.len()).sum();
        assert_eq!(summary.tried, inputs, "inputs tried on {}", evaluator.slug);
        println!("{}: {} inputs, {} failed", evaluator.slug, summary.tried, summary.failures.len());
        failures.extend(summary.failures);
    }
    println!("{} cases", rows().len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
