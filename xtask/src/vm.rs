//! `cargo xtask vm`: runs commands on a stock Debian kernel, for features that this kernel lacks.

mod clock;
mod initrd;
mod job;
mod kernel;
mod machine;
mod user_mode;

use crate::debian;
use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use crate::progress::{Progress, short};
use crate::workspace::Workspace;
use kernel::Kernel;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

pub(crate) use job::Job;
pub(crate) use machine::Machine;
pub(crate) use user_mode::UserMode;

/// What the machine is made with.
pub(crate) const PACKAGES: [&str; 6] =
    ["busybox-static", "e2fsprogs", "kmod", "qemu-system-x86", "systemd", "xz-utils"];

/// Run a command on a stock Debian kernel, in a virtual machine.
///
/// The machine sees this machine's root folder, the checkout and the built binaries at their own
/// paths, with every kernel module of Debian (ipvlan, 8021q, vrf, dummy, bridge VLAN
/// filtering and so on). What is written stays inside and is lost at the end, except below
/// target/vm/results, which is shared. Its init is systemd, which runs the command alone: `systemctl start`
/// starts what is needed. The command's output is printed as it comes and its exit
/// code is returned. Without a command: a shell; leave it with `exit`.
///
/// The kernel is fetched once (70 MB) and kept in target/vm. Software emulation, so things
/// take some ten to forty times as long as outside.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask vm -- uname -r\n  \
    cargo xtask vm -- sh -c 'modprobe ipvlan && ip link add i0 type dummy'\n  \
    cargo xtask vm")]
pub(crate) struct Args {
    /// End the machine after this many seconds, boot included, and show its console's last lines.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    /// Use /dev/kvm instead of emulation. Faster, but on some machines the guest hangs with it.
    #[arg(long)]
    kvm: bool,
    /// The command and its arguments.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Runs the task; the exit code is the command's.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    let workspace = Workspace::load()?;
    let machine = prepare(&workspace, Duration::from_secs(args.timeout), args.kvm, &progress)?;
    let job = Job {
        command: args.command.clone(),
        folder: std::env::current_dir().context(|| "can't read the current folder".into())?,
        environment: Vec::new(),
    };
    let run = machine.run(&job)?;
    progress.print(format!(
        "Kernel {} booted in {}; the command ended with exit code {}",
        machine.kernel.release,
        short(run.boot),
        run.code
    ));
    Ok(ExitCode::from(run.code))
}

/// Prepares all that a machine needs, and downloads it the first time.
pub(crate) fn prepare(
    workspace: &Workspace,
    limit: Duration,
    kvm: bool,
    progress: &Progress,
) -> Result<Machine> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(
            "the virtual machine shows this machine's files to its root user, and only root can \
             read them all: run this as root",
        ));
    }
    debian::ensure(&PACKAGES, progress)?;
    let cache = workspace.target.join("vm");
    let results = cache.join("results");
    fs::create_dir_all(&results).context(|| format!("can't make {}", results.display()))?;
    let kernel = Kernel::obtain(&cache, progress)?;
    let scratch = scratch_image(&cache)?;
    Ok(Machine { kernel, scratch, results, limit, kvm })
}

/// An empty ext4 file system to write to: unlike tmpfs on a 6.1 kernel it has `user.*` extended
/// attributes, as the disks of nodes have. The file is sparse.
fn scratch_image(cache: &Path) -> Result<PathBuf> {
    let image = cache.join("scratch.ext4");
    if !image.exists() {
        let staging = cache.join("scratch.new");
        let _ = fs::remove_file(&staging);
        quietly(
            Command::new("/sbin/mkfs.ext4")
                .args(["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0"])
                .arg(&staging)
                .arg("8G"),
        )?;
        fs::rename(&staging, &image).context(|| format!("can't make {}", image.display()))?;
    }
    Ok(image)
}
