//! Generated pods and definitions to Go's multus and to ours: the result, the status, the calls that
//! delegates see and the caches are the same.
//!
//! No distribution has a Go multus, so this runs where `OXCNI_RECORD_FROM` names a folder with one:
//! `cargo xtask differential --go DIR multus`. The number of cases and the seed are those of the other
//! comparisons.

mod case;
mod faults;
mod observe;
mod rules;

use std::cell::RefCell;
use std::path::PathBuf;

use oxcni_tests::generated::{Compared, Comparison};
use serde_json::Value;

use case::cases;
use faults::FAULTS;
use observe::observe;
use rules::{RULES, explain};

fn go_multus() -> Option<PathBuf> {
    let folder = std::env::var_os("OXCNI_RECORD_FROM").map(PathBuf::from);
    let found = folder.map(|folder| folder.join("multus")).filter(|program| program.exists());
    if found.is_none() {
        println!("skipped: OXCNI_RECORD_FROM names no folder with a Go multus");
    }
    found
}

#[test]
fn multus_is_that_of_go() {
    let Some(go) = go_multus() else { return };
    let tally = Comparison::new(30).run("multus", &cases(), |case| {
        let (theirs, ours) = (observe(case, Some(&go), None), observe(case, None, None));
        let (unexplained, explained_by) = explain(case, &theirs, &ours);
        let text = |observed: &Value| observed["printed"].as_str().unwrap_or_default().to_owned();
        let printed = format!("Go: {}\nours: {}", text(&theirs), text(&ours));
        Compared { succeeds_in_go: theirs["add"]["ok"] == true, unexplained, explained_by, printed }
    });
    tally.needs(RULES.iter().map(|rule| rule.accepted));
}

#[test]
fn every_seeded_fault_of_multus_is_found() {
    let Some(go) = go_multus() else { return };
    let missing = RefCell::new(FAULTS.iter().collect::<Vec<_>>());
    let _ended_early = Comparison::new(60).runner().run(&cases(), |case| {
        if missing.borrow().is_empty() {
            return Ok(());
        }
        let theirs = observe(&case, Some(&go), None);
        // What differs without a fault says nothing about the fault.
        if !explain(&case, &theirs, &observe(&case, None, None)).0.is_empty() {
            return Ok(());
        }
        missing
            .borrow_mut()
            .retain(|fault| explain(&case, &theirs, &observe(&case, None, Some(fault))).0.is_empty());
        Ok(())
    });
    let missed: Vec<_> = missing.into_inner().iter().map(|fault| fault.name).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
    assert!(FAULTS.len() >= 10);
}
