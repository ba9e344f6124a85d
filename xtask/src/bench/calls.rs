//! The benchmark's calls, once each, under a tracer that notes which functions they enter.

use super::contender::{Contender, Who};
use super::dhcp;
use super::pods::{self, PodContender, server};
use super::sample::Meter;
use super::workload::{Bench, Workload};
use crate::dist;
use crate::error::{Context, Result};
use crate::private_host::PrivateHost;
use crate::process::quietly;
use crate::progress::Progress;
use crate::workspace::Workspace;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the task that this program runs itself as.
const TASK: &str = "note-calls";

/// Addresses of functions that were entered, with the number of calls that entered them.
pub(crate) type Counts = BTreeMap<u64, u32>;

/// Which functions were entered.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) by_plugins: Counts,
    /// By plugins and by multus.
    pub(crate) by_all: Counts,
}

/// Run by `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder for the notes.
    folder: PathBuf,
    /// The folder of plugins.
    plugins: PathBuf,
    /// The folder of the small programs.
    probes: PathBuf,
    /// The test API server.
    apiserver: PathBuf,
}

/// Calls the program as a node does and notes which of the functions are entered.
///
/// The calls are made by a process of their own: one that has entered a [`PrivateHost`] stays there.
///
/// # Errors
/// Namespaces or ptrace(2) are not permitted, or a call fails.
pub(crate) fn note(
    workspace: &Workspace,
    folder: &Path,
    program: &Path,
    functions: &BTreeSet<u64>,
    progress: &Progress,
) -> Result<Called> {
    let probes = dist::build_static(workspace, &["bench-probes"], progress)?;
    let apiserver = server::build(workspace, server::Speed::BuiltFast, progress)?;
    let plugins = folder.join("bin");
    fs::create_dir(&plugins).context(|| format!("can't make {}", plugins.display()))?;
    quietly(Command::new(program).arg("install").arg(&plugins))?;
    let list: String = functions.iter().map(|address| format!("{address:x}\n")).collect();
    let text = format!("{}\n{list}", plugins.join(dist::MULTICALL).display());
    fs::write(folder.join("functions"), text).context(|| "can't write the functions".into())?;

    progress.print("Noting which functions the calls of a node use");
    let this = std::env::current_exe().context(|| "can't find this program".into())?;
    quietly(Command::new(this).arg(TASK).args([folder, &plugins, &probes, &apiserver]))?;
    Ok(Called { by_plugins: read(&folder.join("called-by-plugins"))?, by_all: read(&folder.join("called"))? })
}

/// Reads a file that has a line for each function of each call.
fn read(file: &Path) -> Result<Counts> {
    let text = fs::read_to_string(file).context(|| format!("can't read {}", file.display()))?;
    let mut counts = Counts::new();
    for address in text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()) {
        *counts.entry(address).or_default() += 1;
    }
    Ok(counts)
}

/// Makes the calls; the tracer adds to `called` in the folder.
pub(crate) fn run(args: &Args) -> Result<()> {
    let host = PrivateHost::enter()?;
    let meter = Meter::new(args.probes.join("probe-calls"), &args.folder);
    let progress = Progress::start();
    let bench =
        Bench { host: &host, meter: &meter, probes: &args.probes, folder: &args.folder, progress: &progress };
    let contenders = [Contender { who: Who::Multicall, folder: args.plugins.clone() }];
    for workload in Workload::ALL {
        workload.measure(&bench, &contenders, 1)?;
    }
    for plugin in ["bridge", "host-local"] {
        brief_calls(&bench, &args.plugins.join(plugin), &args.plugins)?;
    }
    dhcp::call_once(&bench, &contenders)?;
    fs::copy(args.folder.join("called"), args.folder.join("called-by-plugins"))
        .context(|| "can't copy what the plugins called".into())?;
    let pods = PodContender::all(&contenders, &args.plugins, None)?;
    pods::measure(&bench, &pods, &args.apiserver, 1)?;
    Ok(())
}

/// The commands that runtimes send time and again beside ADD and DEL.
fn brief_calls(bench: &Bench<'_>, plugin: &Path, plugins: &Path) -> Result<()> {
    let config = json!({
        "cniVersion": "1.1.0", "name": "layout", "type": plugin.file_name().map(OsStr::to_string_lossy),
        "ipam": { "type": "host-local", "subnet": "10.66.0.0/24", "dataDir": bench.folder.join("layout") },
    });
    for command in ["STATUS", "VERSION"] {
        let environment = [("CNI_COMMAND", OsStr::new(command)), ("CNI_PATH", plugins.as_os_str())];
        bench.meter.run::<&str>(plugin, &[], &environment, &config.to_string())?;
    }
    Ok(())
}
