//! `cargo xtask demo`: what the plugins do, for a person to watch.

mod bridge;
mod network;
mod view;

use crate::error::Result;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::workspace::Workspace;
use crate::{debian, dist};
use std::path::PathBuf;
use std::process::ExitCode;

/// Watch two containers get a network from our plugins, talk to each other, and be taken down.
///
/// Builds the binaries, makes a bridge network with two containers, shows what was made, pings from
/// one to the other, runs CHECK, deletes all and shows that nothing is left. It all happens inside
/// a namespace that plays the host: this machine's own network is not touched.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show the plugins of this folder, without building ours.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    if nix::unistd::geteuid().is_root() {
        debian::ensure(&["iproute2", "iputils-ping", "nftables"], &progress)?;
    }
    let plugins = match &args.plugins {
        Some(folder) => folder.clone(),
        None => {
            let workspace = Workspace::load()?;
            dist::build(&workspace, &progress)?;
            workspace.dist_bin()
        }
    };
    let stage = Stage::enter()?;
    bridge::tell(&stage, &plugins)?;
    Ok(ExitCode::SUCCESS)
}
