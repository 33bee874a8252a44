//! What goes wrong, and what is said about it: one row per case, on the reference, the CPU device and every adapter.
//!
//! Every input runs under `catch_unwind`, and afterwards a good kernel runs on the same device. What the library cannot
//! do yet stands in the table as pending and is printed and counted.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod a_shapes;
mod b_numbers;
mod c_state;
mod table;

use std::path::{Path, PathBuf};

use common::{adapter_present, evaluators};
use table::{Row, Try, run};

/// Cases in groups A, B and C.
const CASES: usize = 45;

/// What the library does not have yet. It may only become shorter.
const PENDING: &[(usize, &str)] = &[(29, "E_ANOMALY")];

fn rows() -> Vec<&'static Row> {
    [a_shapes::ROWS, b_numbers::ROWS, c_state::ROWS].into_iter().flatten().collect()
}

#[test]
fn the_table_is_complete() {
    let ids: Vec<usize> = rows().iter().map(|row| row.id).collect();
    assert_eq!(ids, (1..=CASES).collect::<Vec<_>>(), "one row per case, in order");
    for row in rows() {
        assert!(
            row.tries.iter().any(|t| !matches!(t, Try::Pending(..))),
            "nothing is tried in case {}",
            row.id
        );
    }
}

#[test]
fn nothing_is_pending_that_is_not_on_the_list_or_has_become_possible() {
    let sources = sources();
    assert!(sources.len() > 100, "only {} source files found", sources.len());
    let mut found = Vec::new();
    for row in rows() {
        for attempt in row.tries {
            let Try::Pending(what, _, text) = attempt else { continue };
            found.push((row.id, *what));
            let possible: Vec<_> = sources.iter().filter(|(_, source)| source.contains(text)).collect();
            let place = possible.first().map(|(path, _)| path.display().to_string());
            assert_eq!(place, None, "case {}, {what}: `{text}` is there now; try it", row.id);
        }
    }
    assert_eq!(found, PENDING);
    // The search sees what is there.
    assert!(sources.iter().any(|(_, source)| source.contains("Code::Nonfinite")));
}

/// Rust sources of the library, without the table of codes.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = ["src", "shaders/src"].map(|folder| root.join(folder)).to_vec();
    folders.extend(entries(&root.join("crates")).into_iter().map(|folder| folder.join("src")));
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tensor/src/error.rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                sources.push((path, text));
            }
        }
    }
    sources
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn every_case_ends_as_stated_and_leaves_the_device_usable() {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    let mut failures = Vec::new();
    let mut pending = Vec::new();
    for evaluator in &evaluators {
        let summary = run(&rows(), evaluator);
        let inputs =
            rows().iter().flat_map(|row| row.tries).filter(|t| !matches!(t, Try::Pending(..))).count();
        assert_eq!(summary.tried, inputs, "inputs tried on {}", evaluator.slug);
        println!("{}: {} inputs, {} failed", evaluator.slug, summary.tried, summary.failures.len());
        failures.extend(summary.failures);
        pending = summary.pending;
    }
    println!("{CASES} cases, {} pending inputs:", pending.len());
    for line in &pending {
        println!("  {line}");
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
