//! The suite against this project's own plugins, where they are built: `OXCNI_BIN_DIR`, or what `cargo xtask
//! dist` makes. Bounded to the newest version: `cargo xtask conformance` runs all of them, and others' too.

use crate::common::{is_root, skip};
use cni_conformance::plan::Selection;
use cni_conformance::profile::Profile;
use cni_conformance::run::{Options, Target, run};
use cni_conformance::version::Version;
use cni_conformance::{catalogue, profile};
use std::path::{Path, PathBuf};

/// The plugins of a folder pass everything that the kernel at hand can run.
fn pass(folder: &Path, selection: &Selection) {
    if !is_root("ours") {
        return;
    }
    let Ok(plugins) = folder.canonicalize() else {
        return skip(&format!("ours: there is no {}", folder.display()));
    };
    let target = Target { plugins, program: env!("CARGO_BIN_EXE_cni-conformance").into() };
    let there = |profile: &Profile| target.has(&profile.plugin);
    let profiles: Vec<Profile> =
        profile::embedded().expect("valid profiles").into_iter().filter(there).collect();
    if profiles.is_empty() {
        return skip(&format!("ours: nothing is built in {}", folder.display()));
    }
    let cases = catalogue::embedded().expect("valid cases");
    let report = run(&target, &profiles, &cases, selection, &Options::default()).expect("it runs");
    let failures: Vec<String> = report
        .failures(true)
        .iter()
        .map(|(profile, entry)| {
            format!("{} {} {}: {:?}", profile.name, entry.id, entry.version, entry.outcome.failure)
        })
        .collect();
    assert_eq!(failures, Vec::<String>::new());
    assert!(report.all().count() > 0, "nothing was run");
}

fn newest(cases: &[&str]) -> Selection {
    Selection {
        versions: vec![Version(1, 1, 0)],
        cases: cases.iter().map(|case| (*case).to_owned()).collect(),
        ..Selection::default()
    }
}

fn built() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist/bin");
    std::env::var_os("OXCNI_BIN_DIR").map_or(made, PathBuf::from)
}

#[test]
fn the_multicall_program_passes_everything() {
    pass(&built(), &newest(&[]));
}

/// Their code is that of the multicall program; what differs is how they are started and delegate.
#[test]
fn the_separate_programs_pass_what_depends_on_the_program() {
    pass(
        &built().join("separate"),
        &newest(&["1.1/version", "1.1/input", "1.1/delegation", "1.1/lifecycle"]),
    );
}

#[test]
fn cnictl_passes_everything() {
    pass(&built().join(".."), &newest(&[]));
}
