//! `cargo xtask differential`: generated cases to the Go plugins and to ours, any number of them.

use crate::debian;
use crate::error::{Context, Failure, Result};
use crate::progress::Progress;
use crate::workspace::{Workspace, cargo};
use std::path::PathBuf;
use std::process::ExitCode;

/// The plugins that are compared, each in a test of this name.
const FAMILIES: [&str; 11] = [
    "bridge",
    "bridge_vlans",
    "macvlan",
    "ipvlan",
    "vlan",
    "dummy",
    "host_local",
    "static",
    "loopback",
    "tuning",
    "multus",
];

/// Compare the plugins with Go's by generated cases: exits, results, kinds of errors, the kernel's
/// state and files after ADD, CHECK and DEL.
///
/// A case that differs is made smaller and printed with its seed. Differences that are accepted, each
/// with its reason, are listed in tests/tests/differential/rules.rs. Plugins whose kernel support is
/// missing here are skipped: `cargo xtask vm -- cargo xtask differential` runs them in the machine. Multus
/// and dummy are compared where the folder of `--go` has them: Debian's package does not.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask differential --cases 2000 --seed 7\n  \
    cargo xtask differential --cases 500 --go /tmp/plugins/bin bridge macvlan")]
pub(crate) struct Args {
    /// How many cases of each plugin.
    #[arg(long, default_value_t = 300)]
    cases: u32,
    /// Decides which cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the Go plugins, in place of Debian's.
    #[arg(long, value_name = "DIR")]
    go: Option<PathBuf>,
    /// Print all cases that differ, as they are, in place of the first one made smaller.
    #[arg(long)]
    all: bool,
    /// The folder of our plugins, in place of target/dist/bin.
    #[arg(long, value_name = "DIR")]
    ours: Option<PathBuf>,
    /// Which plugins to compare; without a name all.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(FAMILIES))]
    plugins: Vec<String>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("the comparison makes network namespaces: run this as root"));
    }
    let progress = Progress::start();
    let workspace = Workspace::load()?;
    let mut test = cargo();
    test.args(["test", "--package", "oxcni-tests", "--test", "differential"]);
    test.args(["--test", "multus_differential", "--", "--nocapture"]);
    let chosen: Vec<&str> = if args.plugins.is_empty() {
        FAMILIES.to_vec()
    } else {
        args.plugins.iter().map(String::as_str).collect()
    };
    test.args(["--include-ignored", "--exact"]).args(chosen.iter().map(|name| test_of(name)));
    test.env("OXCNI_DIFFERENTIAL_CASES", args.cases.to_string());
    test.env("OXCNI_DIFFERENTIAL_SEED", args.seed.to_string());
    let absolute =
        |folder: &PathBuf| folder.canonicalize().context(|| format!("can't find {}", folder.display()));
    match &args.go {
        Some(folder) => drop(test.env("OXCNI_RECORD_FROM", absolute(folder)?)),
        None => {
            debian::ensure(&["containernetworking-plugins", "iproute2", "nftables", "iptables"], &progress)?
        }
    }
    match &args.ours {
        Some(folder) => drop(test.env("OXCNI_BIN_DIR", absolute(folder)?)),
        None => drop(crate::dist::build(&workspace, &crate::dist::Layout::Linker, &progress)?),
    }
    if args.all {
        test.env("OXCNI_DIFFERENTIAL_ALL", "1");
    }
    let status = test.current_dir(&workspace.root).status().context(|| "can't start cargo test".into())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn test_of(plugin: &str) -> String {
    let verb = if plugin == "bridge_vlans" { "are_those" } else { "is_that" };
    format!("{plugin}_{verb}_of_go")
}
