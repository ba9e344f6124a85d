//! The archives of a source package. The same tree makes the same bytes.

use crate::error::{Context, Failure, Result};
use crate::process::{quietly, run};
use crate::rpm::time_of_release;
use crate::workspace::{Workspace, cargo};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes `oxcni-VERSION.tar.gz`: the files of this checkout, as they are.
pub(crate) fn write_tree(workspace: &Workspace, folder: &Path, version: &str) -> Result<()> {
    let root = &workspace.root;
    let mut list = Command::new("git");
    let files = quietly(list.args(["ls-files", "-co", "--exclude-standard"]).current_dir(root))?;
    // A file that was deleted and not yet committed is listed.
    let files: Vec<&str> = files.lines().filter(|file| root.join(file).symlink_metadata().is_ok()).collect();
    let to = folder.join(format!("oxcni-{version}.tar.gz"));
    archive(workspace, root, &files, &format!("oxcni-{version}"), &to)
}

/// Writes `oxcni-VERSION-vendor.tar.gz`, with all crates, and `oxcni-VERSION-layout.ld`.
pub(crate) fn write_crates(workspace: &Workspace, folder: &Path, version: &str) -> Result<()> {
    let layout = workspace.dist_bin().with_file_name("layout.ld");
    fs::copy(&layout, folder.join(format!("oxcni-{version}-layout.ld")))
        .context(|| format!("can't copy {}", layout.display()))?;
    let vendored = workspace.target.join("vendored");
    let _ = fs::remove_dir_all(&vendored);
    let mut vendor = cargo();
    vendor.args(["vendor", "--locked", "--quiet", "--versioned-dirs"]).arg(vendored.join("vendor"));
    run(vendor.current_dir(&workspace.root).stdout(Stdio::null()))?;
    let to = folder.join(format!("oxcni-{version}-vendor.tar.gz"));
    archive(workspace, &vendored, &["vendor"], "", &to)
}

/// Writes files of the folder `within` to a compressed archive, below the folder `below`.
pub(crate) fn archive(
    workspace: &Workspace,
    within: &Path,
    files: &[&str],
    below: &str,
    to: &Path,
) -> Result<()> {
    let time = time_of_release(workspace)?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"])
        .args([
            "--mode=u+rwX,go+rX,go-w",
            "--verbatim-files-from",
            "--files-from=-",
            "--use-compress-program=gzip -n -6",
        ])
        .arg(format!("--mtime=@{time}"))
        .arg("--file")
        .arg(to)
        .current_dir(within)
        .stdin(Stdio::piped());
    if !below.is_empty() {
        tar.arg(format!("--transform=flags=r;s|^|{below}/|"));
    }
    let mut child = tar.spawn().context(|| "can't start tar".into())?;
    let list = files.join("\n") + "\n";
    let written = child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, list.as_bytes()));
    let status = child.wait().context(|| "can't wait for tar".into())?;
    match written {
        Some(Ok(())) if status.success() => Ok(()),
        _ => Err(Failure::new(format!("tar could not write {}", to.display()))),
    }
}
