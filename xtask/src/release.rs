//! `cargo xtask release`: all files of a release.

pub(crate) mod components;

use crate::error::{Failure, Result};
use crate::platform::Target;
use crate::process::quietly;
use crate::progress::Progress;
use crate::rpm::{self, Programs, sources};
use crate::workspace::Workspace;
use crate::{deb, dist, files};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Put all files of a release into target/release-files.
///
/// RPM packages and their source package, packages for Debian, the static programs as an archive, the manifests
/// for Kubernetes, a list of all crates that are linked in (CycloneDX) and the texts of their licences, and
/// checksums. The same commit makes the same bytes; --twice builds all packages again and compares.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build the packages twice, and fail where a byte differs.
    #[arg(long)]
    twice: bool,
    /// Take the programs and the layout that `cargo xtask dist` made before.
    #[arg(long)]
    built: bool,
    /// The release of MicroShift that microshift-multus-oxcni stands in for.
    #[arg(long, value_name = "VERSION")]
    microshift: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    let workspace = Workspace::load_for(args.target.target.as_deref())?;
    if !args.built {
        let only = [dist::MULTICALL, dist::TOOL].map(str::to_owned);
        dist::build_only(&workspace, &only, &dist::Layout::OfCalls, &progress)?;
    }
    let sums = make(&workspace, args.microshift.as_deref(), &progress)?;
    if args.twice {
        let again = make(&workspace, args.microshift.as_deref(), &progress)?;
        if let Some((first, second)) = sums.lines().zip(again.lines()).find(|(first, second)| first != second)
        {
            return Err(Failure::new(format!("two builds differ:\n{first}\n{second}")));
        }
        progress.print("Both builds have the same bytes");
    }
    print!("{sums}");
    Ok(ExitCode::SUCCESS)
}

/// Makes all files, and gives their checksums.
fn make(workspace: &Workspace, microshift: Option<&str>, progress: &Progress) -> Result<String> {
    let folder = workspace.made("release-files");
    let _ = fs::remove_dir_all(&folder);
    let version = rpm::version(workspace)?;

    let source = rpm::build_source(workspace, microshift, progress)?;
    take(&source, &folder)?;
    for package in rpm::build(workspace, &Programs::Folder(workspace.dist()), microshift, progress)? {
        take(&package, &folder)?;
    }
    progress.print("Building the packages for Debian");
    deb::build(workspace, &folder)?;

    progress.print("Writing archives and lists");
    let machine = workspace.platform.machine();
    let programs = folder.join(format!("oxcni-{version}-{machine}.tar.gz"));
    let below = format!("oxcni-{version}-{machine}");
    let bin = workspace.dist();
    sources::archive(workspace, &bin, &["bin/oxcni", "cnictl", "share"], &below, &programs)?;
    let manifests = folder.join(format!("oxcni-{version}-kubernetes.tar.gz"));
    let packaging = workspace.root.join("packaging");
    sources::archive(workspace, &packaging, &["kubernetes"], &format!("oxcni-{version}"), &manifests)?;
    components::write(workspace, &version, &folder)?;
    let licences = folder.join(format!("oxcni-{version}-licences.txt"));
    files::copy(&workspace.dist().join("share").join(dist::LICENCES), &licences, 0o644)?;
    checksums(&folder)
}

fn take(file: &Path, folder: &Path) -> Result<()> {
    files::copy(file, &folder.join(file.file_name().unwrap_or_default()), 0o644)
}

/// Writes `SHA256SUMS`, and gives its text.
fn checksums(folder: &Path) -> Result<String> {
    let files = files::entries(folder)?;
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = quietly(Command::new("sha256sum").args(names).current_dir(folder))?;
    files::write(&folder.join("SHA256SUMS"), &sums)?;
    Ok(sums)
}
