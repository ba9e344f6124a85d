//! The Debian packages that tasks need, installed when they are missing.

use crate::error::{Failure, Result};
use crate::process::{is_installed, quietly};
use crate::progress::Progress;
use std::process::Command;

/// Installs those of `packages` that are missing, and prints their names first.
///
/// # Errors
/// Not root, not Debian, or apt-get fails; the text names the packages, so that they can be
/// installed by hand.
pub(crate) fn ensure(packages: &[&str], progress: &Progress) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !is_present(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_installed("apt-get") {
        progress
            .print(format!("This is not Debian: install by hand what these Debian packages contain: {list}"));
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(format!(
            "these Debian packages are missing and only root can install them: {list}"
        )));
    }
    progress.print(format!("Installing the Debian packages {list}"));
    // A fresh machine has no package lists at all, and old lists name files that are gone.
    quietly(apt_get().arg("update"))?;
    quietly(apt_get().args(["install", "-y", "--no-install-recommends"]).args(&missing))?;
    progress.print("Installed");
    Ok(())
}

/// `apt-get` without questions. It downloads as root: its own user may not be able to read the checkout.
pub(crate) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "APT::Sandbox::User=root"]);
    command
}

fn is_present(package: &str) -> bool {
    // Kubernetes' own package has the same program in the same place and conflicts with Debian's.
    if package == "kubernetes-client" && is_installed("kubectl") {
        return true;
    }
    quietly(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}
