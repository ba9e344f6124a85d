//! `cargo xtask bench`: compares our plugins with the Go plugins and with the kernel's own share.

mod beside;
pub(crate) mod calls;
mod contender;
mod copy;
mod dhcp;
mod growth;
mod pods;
mod report;
mod sample;
mod verdict;
mod workload;

use crate::debian;
use crate::dist::{self, Layout};
use crate::error::{Context, Failure, Result};
use crate::private_host::PrivateHost;
use crate::progress::Progress;
use crate::workspace::Workspace;
use contender::{Contender, Who};
use pods::{PodContender, server};
use report::Report;
use sample::Meter;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use workload::{Bench, Workload};

/// Compare our plugins with the Go plugins in one run, and print which requirements are met.
///
/// Each round calls every contender once, in changing order: our multicall binary, our separate
/// binaries, the Go plugins, a small process that sends the same netlink messages (the kernel's
/// floor), and a static process that does nothing. All of them are forked by the same small process;
/// wall time is from before the fork until they are reaped, CPU time and peak memory include the
/// plugins that they run. host-local is also measured with up to 50 000 addresses held, multus
/// with pods of several networks and an API server on loopback, and dhcp with a server in a namespace and
/// a daemon that holds 200 leases.
///
/// With --beside, an earlier build is called in each round, and every median is compared with
/// its own there. How much a ratio may vary by chance is seen from the samples of this run (bootstrap,
/// four standard deviations); a ratio that is beyond that is called worse or better. Both builds are
/// copied first: memory and page faults depend on how a file was written to the page cache.
///
/// Runs in a network namespace in place of the host. Figures of different runs or machines don't compare:
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
    /// The Go multus to compare with; its delegates are the Go plugins.
    #[arg(long, value_name = "FILE")]
    go_multus: Option<PathBuf>,
    /// Measure only this.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measure the binaries in target/dist as they are, without building them first.
    #[arg(long)]
    no_build: bool,
    /// Measure the binaries of this folder, and of `separate` in it, in place of target/dist.
    #[arg(long, value_name = "DIR")]
    ours: Option<PathBuf>,
    /// Measure the binaries of this folder, and of `separate` in it, too: those of an earlier build,
    /// such as a copy of its target/dist/bin. Each figure is compared with theirs.
    #[arg(long, value_name = "DIR")]
    beside: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// One attachment by one interface plugin.
    Attachments,
    /// host-local with many addresses held.
    Growth,
    /// Pods with several networks, through multus.
    Pods,
    /// One attachment with a lease, and the dhcp daemon at rest.
    Dhcp,
}

/// Reservations held in the growth series.
const SIZES: [usize; 4] = [0, 1_000, 10_000, 50_000];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("the benchmark makes network namespaces and needs root"));
    }
    debian::ensure(&["containernetworking-plugins", "iproute2", "iptables"], &progress)?;
    let workspace = Workspace::load()?;
    if !args.no_build && args.ours.is_none() {
        dist::build(&workspace, &Layout::OfCalls, &progress)?;
    }
    let probes = dist::build_static(&workspace, &["bench-probes"], &progress)?;
    let apiserver = if args.wants(Part::Pods) {
        Some(server::build(&workspace, server::Speed::RunsFast, &progress)?)
    } else {
        None
    };
    let load = load_average();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if load > 0.3 * processors as f64 {
        progress.print(format!("The load is {load} on {processors} processors: wall times will vary much"));
    }

    // On the disk that the target folder is on: reservations of a node are on its disk too.
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&workspace.target)
        .context(|| "can't make a folder for reservations".into())?;
    let host = PrivateHost::enter()?;
    let meter = Meter::new(probes.join("probe-measure"), folder.path());
    let bench =
        Bench { host: &host, meter: &meter, probes: &probes, folder: folder.path(), progress: &progress };
    let mut ours = args.ours.clone().unwrap_or_else(|| workspace.dist_bin());
    let mut earlier = args.beside.clone();
    if let Some(earlier) = &mut earlier {
        ours = copy::build(&ours, &folder.path().join("this-build/bin"))?;
        *earlier = copy::build(earlier, &folder.path().join("earlier-build/bin"))?;
    }
    let mut report = measure(args, &bench, &ours, earlier.as_deref(), apiserver.as_deref())?;
    report.load = load;
    report.print();
    report.write_json(&workspace.target.join("bench.json"))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// Measures and judges what is wanted.
fn measure(
    args: &Args,
    bench: &Bench<'_>,
    ours: &Path,
    earlier: Option<&Path>,
    apiserver: Option<&Path>,
) -> Result<Report> {
    let rounds = args.rounds.unwrap_or(if args.quick { 10 } else { 100 });
    let mut contenders = vec![
        Contender { who: Who::Multicall, folder: ours.to_owned() },
        Contender { who: Who::Separate, folder: ours.join("separate") },
        Contender { who: Who::Go, folder: args.go.clone() },
    ];
    if let Some(earlier) = earlier {
        contenders.push(Contender { who: Who::EarlierMulticall, folder: earlier.to_owned() });
        contenders.push(Contender { who: Who::EarlierSeparate, folder: earlier.join("separate") });
    }
    let mut report = Report::default();
    if args.wants(Part::Attachments) {
        for workload in Workload::ALL {
            let mut contenders = contenders.clone();
            if workload == Workload::BridgeHostLocal {
                contenders.push(Contender { who: Who::Cnictl, folder: ours.to_owned() });
            }
            report.attachments.extend(workload.measure(bench, &contenders, rounds)?.into_iter().flatten());
        }
    }
    if args.wants(Part::Growth) {
        report.growth = growth::measure(bench, &contenders, &SIZES, rounds.div_ceil(4))?;
    }
    if let Some(apiserver) = apiserver {
        let contenders = PodContender::all(&contenders, &args.go, args.go_multus.as_deref())?;
        report.pods = pods::measure(bench, &contenders, apiserver, rounds.div_ceil(2))?;
    }
    if args.wants(Part::Dhcp) {
        report.dhcp = dhcp::measure(bench, &contenders, rounds)?;
    }
    let multicall = fs::metadata(ours.join(dist::MULTICALL)).map(|file| file.len()).ok();
    report.beside = beside::compare(&report.attachments, &report.growth, &report.pods);
    let Report { attachments, growth, pods, beside, dhcp, .. } = &report;
    let mut verdicts = verdict::judge(attachments, growth, pods, multicall, beside);
    verdict::judge_dhcp(dhcp, &mut verdicts);
    report.verdicts = verdicts;
    Ok(report)
}

/// Processes that wanted to run during the last minute; 0 where the kernel does not report it.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
