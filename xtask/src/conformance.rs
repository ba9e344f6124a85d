//! `cargo xtask conformance`: the conformance suite against our plugins and the Go ones, and the table
//! that shows them side by side.

mod results;

use crate::error::{Context, Failure, Result};
use crate::progress::{Progress, short};
use crate::vm::{Job, UserMode};
use crate::workspace::Workspace;
use crate::{debian, dist};
use results::{Results, Run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// What the suite and the plugins need of the node.
const PACKAGES: [&str; 8] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "nftables",
    "podman",
    "runc",
];

/// Seconds after which a plugin counts as hanging on user-mode Linux, where all takes longer.
const LIMIT_IN_MACHINE: &str = "200";

/// Run the conformance suite against our plugins, and the Go plugins and runtimes of Debian.
///
/// Builds the suite, the multicall program and the separate binaries, runs the suite against each of
/// them and against the Go plugins, containerd's ctr and podman, and writes a report a folder and the table to conformance/results.
/// What this kernel lacks is run on user-mode Linux, a machine for each folder: that takes most of the time.
/// Fails where ours fail anything.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask conformance\n  \
    cargo xtask conformance --plugins go-1.9.1=/tmp/plugins/bin\n  \
    cargo xtask conformance --ours target/devbin --no-vm")]
pub(crate) struct Args {
    /// A further folder of plugins; its report is kept under the name, or the folder's own.
    #[arg(long, value_name = "[NAME=]DIR")]
    plugins: Vec<String>,
    /// Test the binaries of this folder, and of `separate` in it, and don't build target/dist.
    #[arg(long, value_name = "DIR")]
    ours: Option<PathBuf>,
    /// The folder of Debian's Go plugins.
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    go: PathBuf,
    /// Leave out what this kernel lacks.
    #[arg(long)]
    no_vm: bool,
    /// End a machine of user-mode Linux after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10_800)]
    vm_timeout: u64,
}

/// Plugins under a name.
struct Contender {
    name: String,
    folder: PathBuf,
    /// Whether a failure is one of the task.
    ours: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("the suite makes network namespaces and needs root"));
    }
    debian::ensure(&PACKAGES, &progress)?;
    let workspace = Workspace::load()?;
    let contenders = contenders(args, &workspace, &progress)?;
    let suite = dist::build_tool(&workspace, "cni-conformance", "cni-conformance", &progress)?;
    let folder = workspace.root.join("conformance/results");
    let mut results = Results::default();
    for contender in &contenders {
        let reports = reports_of(&workspace, contender);
        let code = execute(&suite, &arguments(&contender.folder, &reports))?;
        let run = Run::read(&contender.name, &reports)?;
        keep(&reports, &folder.join(&contender.name), &contender.folder)?;
        progress.print(format!("{}: {} (exit code {code})", contender.name, run.summary()));
        results.add(run);
    }
    let table = folder.join("README.md");
    let write = |results: &Results| {
        fs::write(&table, results.to_markdown()).context(|| format!("can't write {}", table.display()))
    };
    // What is known is kept, should the machine fail.
    write(&results)?;
    if !args.no_vm {
        let outcome = in_machine(args, &workspace, &suite, &contenders, &mut results, &progress);
        write(&results)?;
        outcome?;
    }
    progress.print(format!("The table is in {}", table.display()));
    let failed: Vec<String> = contenders
        .iter()
        .filter(|contender| contender.ours)
        .flat_map(|contender| results.failures_of(&contender.name))
        .collect();
    failed.iter().for_each(|failure| println!("FAILED {failure}"));
    println!("Done in {}", short(progress.elapsed()));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ours, built if need be, Debian's and those that are named.
fn contenders(args: &Args, workspace: &Workspace, progress: &Progress) -> Result<Vec<Contender>> {
    let ours = match &args.ours {
        Some(folder) => folder.clone(),
        None => {
            dist::build(workspace, &dist::Layout::Linker, progress)?;
            workspace.dist_bin()
        }
    };
    let own = |name: &str, folder: PathBuf| Contender { name: name.to_owned(), folder, ours: true };
    let mut contenders =
        vec![own("oxcni-multicall", ours.clone()), own("oxcni-separate", ours.join("separate"))];
    // The runtime lies beside the folder of plugins.
    contenders.push(own("oxcni-cnictl", ours.join("..")));
    let other = |name: &str, folder: PathBuf| Contender { name: name.to_owned(), folder, ours: false };
    contenders.push(other("go-debian-1.1.1", args.go.clone()));
    contenders.push(other("debian-runtimes", PathBuf::from("/usr/bin")));
    for given in &args.plugins {
        let folder = PathBuf::from(given.split_once('=').map_or(given.as_str(), |(_, folder)| folder));
        let own_name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = given.split_once('=').map_or(own_name, |(name, _)| name.to_owned());
        if name.is_empty() || name.contains('/') {
            return Err(Failure::new(format!("{given:?} has no name that a folder can have")));
        }
        contenders.push(other(&name, folder));
    }
    for contender in &mut contenders {
        let folder = &contender.folder;
        contender.folder = folder.canonicalize().context(|| format!("can't find {}", folder.display()))?;
    }
    Ok(contenders)
}

/// The folder of the reports of a contender on this kernel.
fn reports_of(workspace: &Workspace, contender: &Contender) -> PathBuf {
    workspace.target.join("conformance").join(&contender.name)
}

/// Keeps the reports that a person reads. Their lines name the folder of plugins `DIR`: its path means
/// nothing elsewhere.
fn keep(reports: &Path, kept: &Path, plugins: &Path) -> Result<()> {
    fs::create_dir_all(kept).context(|| format!("can't make {}", kept.display()))?;
    for name in ["report.txt", "report.yaml"] {
        let path = reports.join(name);
        let text = fs::read_to_string(&path).context(|| format!("can't read {}", path.display()))?;
        let text = text.replace(&plugins.display().to_string(), "DIR");
        fs::write(kept.join(name), text).context(|| format!("can't write {}", kept.join(name).display()))?;
    }
    Ok(())
}

fn arguments(plugins: &Path, reports: &Path) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    ["run", "--strict", "--plugins", &text(plugins), "--report-dir", &text(reports)]
        .map(str::to_owned)
        .to_vec()
}

/// Runs the suite; its report is read afterwards. Exit code 1 stands for failures of the plugins.
fn execute(suite: &Path, arguments: &[String]) -> Result<i32> {
    let status = Command::new(suite)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .context(|| format!("can't execute {}", suite.display()))?;
    match status.code() {
        Some(code @ (0 | 1)) => Ok(code),
        _ => Err(Failure::new(format!("{} {} ended with {status}", suite.display(), arguments.join(" ")))),
    }
}

/// Runs on user-mode Linux what the runs on this kernel skipped, each contender on a machine of its own.
fn in_machine(
    args: &Args,
    workspace: &Workspace,
    suite: &Path,
    contenders: &[Contender],
    results: &mut Results,
    progress: &Progress,
) -> Result<()> {
    let partial: Vec<&Contender> =
        contenders.iter().filter(|contender| results.is_partial(&contender.name)).collect();
    if partial.is_empty() {
        return Ok(());
    }
    let limit = Duration::from_secs(args.vm_timeout);
    let machine = UserMode::prepare(workspace.target.join("vm/results"), limit, progress)?;
    let reports = |contender: &Contender| machine.results.join(format!("conformance-{}", contender.name));
    let run = |contender: &Contender| -> Result<()> {
        let _ = fs::remove_dir_all(reports(contender));
        let mut command = vec![suite.display().to_string()];
        command.extend(arguments(&contender.folder, &reports(contender)));
        let skipped_in = reports_of(workspace, contender).join("report.json").display().to_string();
        command.extend(["--skipped-in", &skipped_in, "--limit", LIMIT_IN_MACHINE].map(str::to_owned));
        let command = command.into_iter().map(Into::into).collect();
        let job = Job { command, folder: workspace.root.clone(), environment: Vec::new() };
        machine.run(&job).map(drop)
    };
    progress.print(format!("Running what this kernel lacks on kernel {}", machine.release));
    let queue = Mutex::new(partial.iter());
    let outcomes = Mutex::new(Vec::new());
    // Each machine has one processor.
    let machines = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..machines {
            scope.spawn(|| {
                while let Some(contender) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    let outcome = run(contender);
                    outcomes.lock().map(|mut outcomes| outcomes.push(outcome)).unwrap_or_default();
                }
            });
        }
    });
    // What was run before a machine failed counts.
    for contender in partial.iter().filter(|contender| reports(contender).join("report.json").is_file()) {
        let kept = workspace.root.join("conformance/results").join(format!("{}-vm", contender.name));
        keep(&reports(contender), &kept, &contender.folder)?;
        let run = Run::read(&contender.name, &reports(contender))?;
        progress.print(format!("{} there: {}", contender.name, run.summary()));
        results.fill_in(run);
    }
    outcomes.into_inner().unwrap_or_default().into_iter().collect()
}
