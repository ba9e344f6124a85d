//! Namespaces in place of the host, with network, `/run`, `/var/lib` and `/sys` of their own: the
//! machine's network and files are not touched.

use crate::error::{Context, Failure, Result};
use crate::process::quietly;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Proof that this process is in namespaces of its own. They end with the process.
#[derive(Debug)]
pub(crate) struct PrivateHost(());

const NAMESPACES: &str = "/run/netns";

impl PrivateHost {
    /// Moves this process into fresh namespaces.
    ///
    /// # Errors
    /// Not root, or the kernel refuses.
    pub(crate) fn enter() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::new("making network namespaces needs root: run this as root"));
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context(|| "can't make namespaces".into())?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context(|| "can't make mounts private".into())?;
        for folder in ["/run", "/var/lib"] {
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .context(|| format!("can't cover {folder}"))?;
        }
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)
            .context(|| "can't mount /sys".into())?;
        fs::create_dir(NAMESPACES).context(|| format!("can't make {NAMESPACES}"))?;
        ip("link set lo up")?;
        Ok(Self(()))
    }

    /// Makes a network namespace and returns its path; `ip -n NAME` finds it.
    pub(crate) fn container(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(NAMESPACES).join(name);
        fs::write(&path, "").context(|| format!("can't make {}", path.display()))?;
        let file = path.clone();
        let thread = std::thread::spawn(move || {
            // Only this thread moves, and it ends here; the mount keeps the namespace.
            unshare(CloneFlags::CLONE_NEWNET)?;
            let none = None::<&str>;
            mount(Some("/proc/thread-self/ns/net"), &file, none, MsFlags::MS_BIND, none)
        });
        let outcome =
            thread.join().map_err(|_| Failure::new("the thread that makes a namespace panicked"))?;
        outcome.context(|| format!("can't make the network namespace {name}"))?;
        Ok(path)
    }
}

/// Runs `ip` with arguments separated by spaces and returns what it prints.
pub(crate) fn ip(arguments: &str) -> Result<String> {
    quietly(Command::new("ip").args(arguments.split_whitespace()))
}
