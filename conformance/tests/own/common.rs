//! What the suite's own tests have in common: folders of plugins that are right or wrong on purpose.

use cni_conformance::report::Report;
use cni_conformance::run::Target;
use cni_conformance::worker::Status;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The description of the plugin that the tests bring along.
pub(crate) fn profile_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/profile.yaml")
}

/// A folder with the plugin under the name `fixture`, having this fault (`""`: none).
pub(crate) struct Plugins {
    folder: tempfile::TempDir,
}

impl Plugins {
    pub(crate) fn with_fault(fault: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The fault is in the name that the program is started by, so the profile's name leads there by a script.
        let program = env!("CARGO_BIN_EXE_conformance-fixture");
        let name = if fault.is_empty() { "fixture".to_owned() } else { format!("fixture-{fault}") };
        symlink(program, folder.path().join(&name)).expect("a link");
        if !fault.is_empty() {
            let script = format!("#!/bin/sh\nexec \"${{0%/*}}/{name}\"\n");
            let path = folder.path().join("fixture");
            std::fs::write(&path, script).expect("a script");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("its mode");
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn target(&self) -> Target {
        let plugins = self.folder.path().canonicalize().expect("the folder is there");
        Target { plugins, program: env!("CARGO_BIN_EXE_cni-conformance").into() }
    }
}

/// Runs the program.
pub(crate) fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cni-conformance")).args(arguments).output().expect("the program starts")
}

/// Requires that all runs of a report passed, and that there are at least so many.
#[track_caller]
pub(crate) fn passes_everything(report: &Report, least: usize) {
    let not_passed: Vec<String> = report
        .all()
        .filter(|(_, entry)| entry.outcome.status != Status::Passed)
        .map(|(_, entry)| format!("{} {:?}", entry.id, entry.outcome))
        .collect();
    assert_eq!(not_passed, Vec::<String>::new());
    assert!(report.all().count() >= least, "only {} runs", report.all().count());
}

/// Whether namespaces can be made here; if not, the test that asks counts as skipped.
pub(crate) fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    skip(&format!("{test}: needs root"));
    false
}

/// Says that a test is skipped, and why.
pub(crate) fn skip(why: &str) {
    println!("SKIP {why}");
    if let Some(log) = std::env::var_os("OXCNI_SKIP_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).expect("the log of skips");
        log.write_all(format!("{why}\n").as_bytes()).expect("the log of skips");
    }
}
