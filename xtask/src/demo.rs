//! `cargo xtask demo`: shows what the plugins do.

mod dhcp;
mod manifests;
mod pod;
mod remaining;
mod status;
mod steps;
mod view;

use crate::debian;
use crate::dist::{self, Layout};
use crate::error::Result;
use crate::private_host::PrivateHost;
use crate::progress::Progress;
use crate::workspace::Workspace;
use pod::Plugins;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Attach two pods to several networks each, ping over them, and detach the pods.
///
/// Builds the binaries, makes a node with two network cards and two pods that name networks in
/// their annotations, lets multus attach them to the default network, a bridge, a macvlan and an
/// ipvlan network, shows what multus wrote and what the kernel holds, pings over each network, runs
/// CHECK and DEL, and shows that nothing remains. Then two pods get leases of a DHCP server, and keep
/// them while the daemon is killed. No cluster is needed: pods and
/// NetworkAttachmentDefinitions are YAML files. All of it happens in a network namespace in
/// place of the host: this machine's own network is not touched.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show the plugins of this folder, without building ours; where it has no multus, ours calls them.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    if nix::unistd::geteuid().is_root() {
        debian::ensure(&["dnsmasq-base", "iproute2", "iputils-ping", "nftables"], &progress)?;
    }
    let plugins = plugins(args.plugins.as_deref(), &progress)?;
    let host = PrivateHost::enter()?;
    let outcome = steps::run(&host, &plugins);
    dhcp::run(&host, &plugins)?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

fn plugins(folder: Option<&Path>, progress: &Progress) -> Result<Plugins> {
    let multus_in = |folder: &Path| folder.join("multus");
    if let Some(folder) = folder.filter(|folder| multus_in(folder).is_file()) {
        return Ok(Plugins { multus: multus_in(folder), folder: folder.to_owned() });
    }
    let workspace = Workspace::load()?;
    dist::build(&workspace, &Layout::Linker, progress)?;
    let ours = workspace.dist_bin();
    Ok(Plugins { multus: multus_in(&ours), folder: folder.map_or(ours, Path::to_owned) })
}
