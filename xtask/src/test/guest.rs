//! The second run of the namespace tests: in the virtual machine, where nothing may be skipped.
//!
//! A process costs forty times what it costs outside. A test whose result is the same on every
//! kernel declares that in its source (`on_any_kernel`, `requirement::met_on_any_kernel`) and leaves
//! itself out there.

use super::binaries::{Options, TestBinary, run_all};
use super::tally::Tally;
use crate::error::{Context, Failure, Result};
use crate::progress::{Progress, short};
use crate::vm::{self, Job};
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the xtask outside hands to the one inside.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    binaries: Vec<TestBinary>,
    options: Options,
}

/// Run by `cargo xtask test` inside the virtual machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The test binaries and how to run them, as JSON.
    plan: PathBuf,
    /// Where the counts go, as JSON.
    report: PathBuf,
}

/// Boots the machine and runs the binaries there; they were built outside.
pub(super) fn run_in_machine(
    workspace: &Workspace,
    binaries: &[TestBinary],
    arguments: &[String],
    limit: Duration,
    progress: &Progress,
) -> Result<Tally> {
    let machine = vm::prepare(workspace, limit, false, progress)?;
    let (plan, report) = (machine.results.join("plan.json"), machine.results.join("report.json"));
    let _ = fs::remove_file(&report);
    let yes = "1".to_owned();
    let options = Options {
        arguments: arguments.to_vec(),
        environment: BTreeMap::from([
            ("OXCNI_NO_SKIP".to_owned(), yes.clone()),
            ("OXCNI_EMULATED".to_owned(), yes),
        ]),
        logs: machine.results.join("logs"),
        place: "in the machine: ".to_owned(),
    };
    let text = serde_json::to_string_pretty(&Plan { binaries: binaries.to_vec(), options })
        .context(|| "can't write the plan".into())?;
    fs::write(&plan, text).context(|| format!("can't write {}", plan.display()))?;

    progress.print(format!("Booting kernel {} for the namespace tests", machine.kernel.release));
    let this_program = std::env::current_exe().context(|| "can't find this program".into())?;
    let job = Job {
        command: vec![this_program.into(), "test-in-machine".into(), plan.into(), report.clone().into()],
        folder: workspace.root.clone(),
        environment: Vec::new(),
    };
    let run = machine.run(&job)?;
    let text = fs::read_to_string(&report).map_err(|_| {
        Failure::new(format!("the tests in the virtual machine ended with exit code {}", run.code))
    })?;
    let tally: Tally = serde_json::from_str(&text).context(|| "can't read the report".into())?;
    let left_out = tally.left_out.len();
    progress.print(format!(
        "In the virtual machine (booted in {}): {tally}; {left_out} left out, whose result no kernel changes",
        short(run.boot)
    ));
    Ok(tally.located("in the virtual machine"))
}

/// Inside: runs what the plan says and leaves the counts.
pub(crate) fn run_inside(args: &Args) -> Result<()> {
    let text = read(&args.plan)?;
    let plan: Plan = serde_json::from_str(&text).context(|| "can't read the plan".into())?;
    let tally = run_all(&plan.binaries, &plan.options, &Progress::start())?;
    let text = serde_json::to_string(&tally).context(|| "can't write the report".into())?;
    fs::write(&args.report, text).context(|| format!("can't write {}", args.report.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).context(|| format!("can't read {}", path.display()))
}
