//! `cargo xtask bench`: ours beside the Go plugins and beside what the kernel alone takes.

mod contender;
mod growth;
mod report;
mod sample;
mod verdict;
mod workload;

use crate::error::{Context, Failure, Result};
use crate::progress::Progress;
use crate::stage::Stage;
use crate::workspace::Workspace;
use crate::{debian, dist};
use contender::{Contender, Who};
use sample::Meter;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use workload::{Bench, Workload};

/// Compare our plugins with the Go ones, in one run, and say which bars are met.
///
/// Each round calls every contender once, in changing order: our multicall binary, our separate
/// binaries, the Go plugins, a small process that sends the same netlink messages (the kernel's
/// floor), and a static process that does nothing. All of them are forked by the same small process;
/// wall time is from before the fork until they are reaped, CPU time and peak memory include the
/// plugins that they run. host-local is also measured with up to 50 000 addresses held.
///
/// Runs inside a namespace that plays the host. Figures of different runs or machines don't compare:
/// quote the ratios. Everything is also written to target/bench.json.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A tenth of the rounds, for a first look.
    #[arg(long)]
    quick: bool,
    /// How often each contender is measured [default: 100, with --quick 10].
    #[arg(long)]
    rounds: Option<usize>,
    /// The folder of Go plugins to compare with.
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    go: PathBuf,
    /// Measure the binaries in target/dist as they are, without building them first.
    #[arg(long)]
    no_build: bool,
}

/// Reservations held in the growth series.
const SIZES: [usize; 4] = [0, 1_000, 10_000, 50_000];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("the benchmark makes network namespaces and needs root"));
    }
    debian::ensure(&["containernetworking-plugins", "iproute2"], &progress)?;
    let workspace = Workspace::load()?;
    if !args.no_build {
        dist::build(&workspace, &progress)?;
    }
    let probes = dist::build_static(&workspace, &["bench-probes"], &progress)?;
    let load = load_average();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if load > 0.3 * processors as f64 {
        progress.say(format!(
            "The load is {load} on {processors} processors: wall times will be of little worth"
        ));
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 10 } else { 100 });
    let contenders = [
        Contender { who: Who::Multicall, folder: workspace.dist_bin() },
        Contender { who: Who::Separate, folder: workspace.dist_separate() },
        Contender { who: Who::Go, folder: args.go.clone() },
    ];

    // On the disk that the target folder is on: reservations of a node are on its disk too.
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&workspace.target)
        .context(|| "can't make a folder for reservations".into())?;
    let stage = Stage::enter()?;
    let meter = Meter::new(probes.join("probe-measure"), folder.path());
    let bench =
        Bench { stage: &stage, meter: &meter, probes: &probes, folder: folder.path(), progress: &progress };
    let mut measured = Vec::new();
    for workload in Workload::ALL {
        measured.extend(workload.measure(&bench, &contenders, rounds)?.into_iter().flatten());
    }
    let grown = growth::measure(&bench, &contenders, &SIZES, rounds.div_ceil(4))?;
    let multicall = fs::metadata(workspace.dist_bin().join(dist::MULTICALL)).map(|file| file.len()).ok();
    let verdicts = verdict::judge(&measured, &grown, multicall);
    report::print(&measured, &grown, &verdicts);
    report::write_json(&workspace.target.join("bench.json"), load, &measured, &grown, &verdicts)?;
    Ok(ExitCode::SUCCESS)
}

/// Processes that wanted to run during the last minute; 0 where the kernel doesn't say.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}
