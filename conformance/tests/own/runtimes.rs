//! The cases for runtimes, against a runtime that is right and passes all of them, and against runtimes
//! that are wrong in one way each, of which none passes.

use crate::common::{is_root, passes_everything};
use cni_conformance::plan::Selection;
use cni_conformance::report::Report;
use cni_conformance::run::{Options, Target, run};
use cni_conformance::{catalogue, profile};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

/// Faults, and the number of a case that each of them fails. Every case is there.
const FAULTS: [(&str, u32); 40] = [
    ("adds-in-reverse", 1),
    ("no-prev-result", 2),
    ("deletes-forwards", 3),
    ("stores-nothing", 4),
    ("no-prev-result", 5),
    ("no-prev-result", 6),
    ("checks-always", 7),
    ("checks-what-is-not-there", 8),
    ("succeeds-always", 9),
    ("hides-errors", 9),
    ("goes-on-after-an-error", 10),
    ("no-del-after-a-failed-add", 11),
    ("succeeds-always", 12),
    ("fails-the-second-time", 13),
    ("skips-what-is-absent", 14),
    ("no-name", 15),
    ("drops-fields", 16),
    ("rounds-numbers", 17),
    ("gives-all-capabilities", 18),
    ("forgets-capabilities", 19),
    ("passes-capabilities", 20),
    ("no-args", 21),
    ("no-path", 22),
    ("executes-inside", 23),
    ("no-namespace", 24),
    ("odd-id", 25),
    ("one-interface", 26),
    ("takes-any-name", 27),
    ("takes-any-type", 28),
    ("reads-no-folder", 29),
    ("reads-the-folder-always", 30),
    ("takes-an-empty-list", 31),
    ("reads-no-folder", 32),
    ("takes-the-first-version", 33),
    ("gives-an-empty-list", 34),
    ("collects-without-a-list", 34),
    ("collects-until-an-error", 35),
    ("collects-always", 36),
    ("deletes-what-lives", 37),
    ("succeeds-always", 38),
];

/// A profile as a third party writes it.
fn profile_of(name: &str) -> String {
    let line =
        |operation: &str| format!("  {operation}: ${{plugins}}/{name} {operation} ${{network}} ${{netns}}\n");
    format!(
        "type: {name}\nkind: runtime\nversions: [0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0]\nclaims: [args, capabilities, \
         del-after-failed-add, ifname, network-name, plugin-folder]\ncommands:\n{}",
        ["ADD", "DEL", "CHECK", "GC", "STATUS"].map(line).concat()
    )
}

fn report(fault: &str, cases: &[String]) -> Report {
    let name = if fault.is_empty() { "runtime".to_owned() } else { format!("runtime-{fault}") };
    let folder = tempfile::tempdir().expect("a folder");
    symlink(env!("CARGO_BIN_EXE_conformance-fixture"), folder.path().join(&name)).expect("a link");
    let target = Target {
        plugins: folder.path().canonicalize().expect("the folder"),
        program: env!("CARGO_BIN_EXE_cni-conformance").into(),
    };
    let all = catalogue::embedded().expect("valid cases");
    let profiles = [profile::parse(&profile_of(&name)).expect("a profile")];
    let selection = Selection { cases: cases.to_vec(), ..Selection::default() };
    run(&target, &profiles, &all, &selection, &Options::default()).expect("it runs")
}

#[test]
fn a_right_runtime_passes_everything() {
    if !is_root("runtimes") {
        return;
    }
    passes_everything(&report("", &[]), 60);
}

#[test]
fn no_wrong_runtime_passes() {
    if !is_root("runtimes") {
        return;
    }
    for (fault, number) in FAULTS {
        let id = format!("1.1/runtime/{number}");
        let failed = report(fault, std::slice::from_ref(&id)).failures(true).len();
        assert!(failed > 0, "{fault} passes {id}");
    }
}

#[test]
fn every_case_for_runtimes_has_been_seen_to_fail() {
    let seen: BTreeSet<String> = FAULTS.iter().map(|(_, number)| format!("1.1/runtime/{number}")).collect();
    let cases = catalogue::embedded().expect("valid cases");
    let ids: BTreeSet<String> =
        cases.into_iter().map(|case| case.id).filter(|id| id.starts_with("1.1/runtime/")).collect();
    assert_eq!(seen, ids);
}
