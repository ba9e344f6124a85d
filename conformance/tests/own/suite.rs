//! The embedded cases against a plugin that is right, which passes all of them, and against plugins
//! that are wrong, of which none passes.

use crate::common::{Plugins, is_root, passes_everything};
use cni_conformance::plan::Selection;
use cni_conformance::report::Report;
use cni_conformance::run::{Options, run};
use cni_conformance::{catalogue, profile};

/// Faults, and a case of the specification that each of them fails.
const FAULTS: [(&str, &str); 19] = [
    ("crashes", "1.1/add/1"),
    ("prints-text", "1.1/add/1"),
    ("prints-twice", "1.1/add/1"),
    ("prints-nothing", "1.1/add/2"),
    ("no-error-object", "1.1/input/1"),
    ("error-with-exit-0", "1.1/input/1"),
    ("accepts-everything", "1.1/parameters/2"),
    ("del-once", "1.1/del/2"),
    ("del-wants-prev-result", "1.1/del/3"),
    ("takes-what-is-there", "1.1/add/4"),
    ("wrong-version", "1.1/add/2"),
    ("wrong-sandbox", "1.1/add/3"),
    ("wrong-mac", "1.1/add/7"),
    ("keeps-the-link", "1.1/del/1"),
    ("checks-nothing", "1.1/check/2"),
    ("prints-on-gc", "1.1/gc/6"),
    ("no-gc-of-delegate", "1.1/gc/3"),
    ("no-del-of-delegate", "1.1/delegation/6"),
    ("hides-standard-error", "1.1/delegation/3"),
];

fn report(fault: &str, cases: &[&str]) -> Report {
    let all = catalogue::embedded().expect("valid cases");
    let profiles = [profile::read(&crate::common::profile_file()).expect("the profile")];
    let plugins = Plugins::with_fault(fault);
    let selection =
        Selection { cases: cases.iter().map(|id| (*id).to_owned()).collect(), ..Selection::default() };
    run(&plugins.target(), &profiles, &all, &selection, &Options::default()).expect("it runs")
}

#[test]
fn a_right_plugin_passes_everything() {
    if !is_root("suite") {
        return;
    }
    passes_everything(&report("", &[]), 101);
}

#[test]
fn no_wrong_plugin_passes() {
    if !is_root("suite") {
        return;
    }
    for (fault, case) in FAULTS {
        let failures: Vec<String> =
            report(fault, &[case]).failures(true).iter().map(|(_, entry)| entry.id.clone()).collect();
        assert!(failures.iter().any(|id| id == case), "{fault} passes {case}");
    }
}
