//! Behavioral cases of trusted systems and of their users, restated with numbers that other programs computed.
//!
//! Each case runs on the reference, the CPU device and every adapter present, as a test `label::evaluator`. The summary
//! at the end counts passed and failed cases per evaluator.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod anomaly;
mod checker;
mod engine;
mod families;
mod harness;
mod judge;
mod losses;
mod objects;
mod programs;
mod refusals;
mod rules;
mod wgsl;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use common::{Evaluator, adapter_present, evaluators};
use harness::{Case, run};

/// Cases that check less than CONFORMANCE says, and what is missing. The summary prints them.
const PARTIAL: &[(&str, &str)] = &[];

fn cases() -> Vec<&'static Case> {
    [
        programs::CASES,
        rules::CASES,
        objects::CASES,
        refusals::CASES,
        engine::CASES,
        checker::CASES,
        anomaly::CASES,
        losses::CASES,
        families::CASES,
        wgsl::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Passed, failed, comparisons.
type Tally = Arc<Mutex<BTreeMap<String, (usize, usize, usize)>>>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let evaluators: Vec<Arc<Evaluator>> = evaluators().into_iter().map(Arc::new).collect();
    let tally: Tally = Tally::default();
    let present = adapter_present(&evaluators.iter().map(|e| (**e).clone()).collect::<Vec<_>>());
    let mut trials = vec![
        Trial::test("every_case_has_its_own_label", every_case_has_its_own_label),
        Trial::test("every_partial_case_is_a_case", every_partial_case_is_a_case),
        Trial::test("an_adapter_is_present", || present.map_err(Failed::from)),
    ];
    for evaluator in &evaluators {
        for case in cases() {
            let (evaluator, tally) = (evaluator.clone(), tally.clone());
            trials.push(Trial::test(format!("{}::{}", case.label, evaluator.slug), move || {
                passes(case, &evaluator, &tally)
            }));
        }
        let evaluator = evaluator.clone();
        trials.push(Trial::test(format!("every_expectation_can_fail::{}", evaluator.slug), move || {
            every_expectation_can_fail(&evaluator)
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for (slug, (passed, failed, compared)) in tally.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{slug}: {passed} cases passed, {failed} failed, {compared} comparisons");
    }
    for (label, missing) in PARTIAL {
        println!("partial: {label}: {missing}");
    }
    if !evaluators.iter().any(|evaluator| evaluator.is_adapter()) {
        println!("adapter: {} cases not available", cases().len());
    }
    conclusion.exit_code()
}

fn passes(case: &Case, evaluator: &Evaluator, tally: &Tally) -> Result<(), Failed> {
    let outcome = match run(case, evaluator, false) {
        Err(error) => Err(format!("{error}")),
        Ok(report) if report.compared == 0 => Err("nothing was compared".to_owned()),
        Ok(report) if !report.failures.is_empty() => Err(report.failures.join("\n")),
        Ok(report) => Ok(report.compared),
    };
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let (passed, failed, compared) = tally.entry(evaluator.slug.clone()).or_default();
    match outcome {
        Ok(count) => {
            *passed += 1;
            *compared += count;
            Ok(())
        }
        Err(text) => {
            *failed += 1;
            Err(format!("{text}\norigin: {}", case.origin).into())
        }
    }
}

/// Every comparison of every case fails when its expectation is wrong by 1e-6 or by twice what is accepted.
fn every_expectation_can_fail(evaluator: &Evaluator) -> Result<(), Failed> {
    let mut toothless = Vec::new();
    for case in cases() {
        match run(case, evaluator, true) {
            Ok(report) => {
                toothless.extend(report.toothless.iter().map(|name| format!("{}: {name}", case.label)))
            }
            Err(error) => toothless.push(format!("{}: {error}", case.label)),
        }
    }
    if toothless.is_empty() {
        Ok(())
    } else {
        Err(format!("these cannot fail:\n{}", toothless.join("\n")).into())
    }
}

fn every_case_has_its_own_label() -> Result<(), Failed> {
    let mut labels: Vec<&str> = cases().iter().map(|case| case.label).collect();
    let count = labels.len();
    labels.sort_unstable();
    labels.dedup();
    if labels.len() == count { Ok(()) } else { Err("two cases share a label".into()) }
}

fn every_partial_case_is_a_case() -> Result<(), Failed> {
    let labels: Vec<&str> = cases().iter().map(|case| case.label).collect();
    match PARTIAL.iter().find(|(label, _)| !labels.contains(label)) {
        None => Ok(()),
        Some((label, _)) => Err(format!("there is no case {label}").into()),
    }
}
