//! `cargo xtask rpm`: the packages of `packaging/rpm/oxcni.spec`.

pub(crate) mod sources;

use crate::error::{Context, Failure, Result};
use crate::platform::Target;
use crate::process::{quietly, run as run_program};
use crate::progress::Progress;
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{debian, dist, files};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What rpmbuild needs.
const PACKAGES: [&str; 1] = ["rpm"];

/// The one plugin that has a package of its own.
pub(crate) const DHCP: &str = "dhcp";

/// Where rpmbuild finds its folders, in a mount namespace of its own: rpm writes the path into packages.
const TOP: &str = "/mnt";

/// Build the RPM packages: target/rpm/RPMS/, and with --from-source target/rpm/SRPMS/ too.
///
/// Without an option, the programs are those that `cargo xtask dist` makes. With --from-source, a source
/// package is made that has all crates and the layout of the functions, and the others are built from it
/// without network, as on another machine; that takes as long as all of `cargo xtask dist`. It fails where a file
/// differs from those built here. The same sources make the same bytes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build from the source package.
    #[arg(long, conflicts_with = "target")]
    from_source: bool,
    /// Take the programs from this folder, as target/dist is one.
    #[arg(long, value_name = "DIR", conflicts_with = "from_source")]
    programs: Option<PathBuf>,
    /// The release of MicroShift that microshift-multus-oxcni stands in for.
    #[arg(long, value_name = "VERSION")]
    microshift: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// What the programs in the packages are made from.
pub(crate) enum Programs {
    /// This folder, with the programs as `cargo xtask dist` puts them.
    Folder(PathBuf),
    /// The source package.
    Source,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    let workspace = Workspace::load_for(args.target.target.as_deref())?;
    let programs = match &args.programs {
        Some(folder) => fs::canonicalize(folder).context(|| format!("can't read {}", folder.display()))?,
        None => {
            let only = [dist::MULTICALL, dist::TOOL].map(str::to_owned);
            dist::build_only(&workspace, &only, &dist::Layout::OfCalls, &progress)?;
            workspace.dist()
        }
    };
    let microshift = args.microshift.as_deref();
    let mut built = build(&workspace, &Programs::Folder(programs), microshift, &progress)?;
    if args.from_source {
        built = rebuild(&workspace, &built, microshift, &progress)?;
    }
    let mut table = Table::new(["package", ">bytes"]);
    for path in built {
        let size = fs::metadata(&path).context(|| format!("can't read {}", path.display()))?.len();
        table.row([path.file_name().unwrap_or_default().to_string_lossy().into_owned(), size.to_string()]);
    }
    print!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// Builds the packages and gives their paths, below `target/rpm`.
pub(crate) fn build(
    workspace: &Workspace,
    programs: &Programs,
    microshift: Option<&str>,
    progress: &Progress,
) -> Result<Vec<PathBuf>> {
    let top = workspace.made("rpm");
    match programs {
        Programs::Folder(folder) => {
            prepare(workspace, &top, &folder.join("bin"), microshift, progress)?;
            let prebuilt = format!("oxcni_prebuilt {}", folder.display());
            rpmbuild(workspace, &top, &["-bb", "--define", &prebuilt, "SPECS/oxcni.spec"])?;
        }
        Programs::Source => {
            let source = build_source(workspace, microshift, progress)?;
            // In a folder of its own, which has nothing but the source package.
            let elsewhere = workspace.made("rpm-from-source");
            let _ = fs::remove_dir_all(&elsewhere);
            files::copy(&source, &elsewhere.join("oxcni.src.rpm"), 0o644)?;
            rpmbuild(workspace, &elsewhere, &["--rebuild", "oxcni.src.rpm"])?;
            let (from, to) = (elsewhere.join("RPMS"), top.join("RPMS"));
            fs::remove_dir_all(&to)
                .and_then(|()| fs::rename(&from, &to))
                .and_then(|()| fs::remove_dir_all(&elsewhere))
                .context(|| format!("can't move {} to {}", from.display(), to.display()))?;
        }
    }
    Ok([packages(&top.join("RPMS"))?, packages(&top.join("SRPMS"))?].concat())
}

/// Builds the packages again, from the source package; gives the paths of all.
///
/// # Errors
/// A file is not the same as in `packages`, which were built from the programs of this checkout.
pub(crate) fn rebuild(
    workspace: &Workspace,
    packages: &[PathBuf],
    microshift: Option<&str>,
    progress: &Progress,
) -> Result<Vec<PathBuf>> {
    let here = contents(packages)?;
    let built = build(workspace, &Programs::Source, microshift, progress)?;
    let from_source = contents(&built)?;
    match here.symmetric_difference(&from_source).next() {
        None => Ok(built),
        Some(file) => Err(Failure::new(format!("the source package makes another file: {file}"))),
    }
}

/// What is in packages that are no source packages: a line for each file, with name, mode, hash and target.
fn contents(packages: &[PathBuf]) -> Result<BTreeSet<String>> {
    let format = "[%{filenames} %{filemodes:octal} %{filedigests} %{filelinktos}\\n]";
    let is_source = |package: &&PathBuf| package.to_string_lossy().ends_with(".src.rpm");
    let binary = packages.iter().filter(|package| !is_source(package));
    let text = quietly(Command::new("rpm").args(["-qp", "--qf", format]).args(binary))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Builds the source package and gives its path. `cargo xtask dist` has made the program and the layout.
pub(crate) fn build_source(
    workspace: &Workspace,
    microshift: Option<&str>,
    progress: &Progress,
) -> Result<PathBuf> {
    let top = workspace.made("rpm");
    prepare(workspace, &top, &workspace.dist_bin(), microshift, progress)?;
    sources::write_crates(workspace, &top.join("SOURCES"), &version(workspace)?)?;
    rpmbuild(workspace, &top, &["-bs", "SPECS/oxcni.spec"])?;
    packages(&top.join("SRPMS"))?.pop().ok_or_else(|| Failure::new("rpmbuild made no source package"))
}

/// Writes the specification and the archive of the sources; nothing else is left in the folders.
fn prepare(
    workspace: &Workspace,
    top: &Path,
    programs: &Path,
    microshift: Option<&str>,
    progress: &Progress,
) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("packages are built in a mount namespace, which needs root"));
    }
    debian::ensure(&PACKAGES, progress)?;
    progress.print("Building the RPM packages");
    for folder in ["BUILD", "BUILDROOT", "RPMS", "SRPMS", "SOURCES", "SPECS"] {
        let _ = fs::remove_dir_all(top.join(folder));
        files::make_folder(&top.join(folder))?;
    }
    let version = version(workspace)?;
    sources::write_tree(workspace, &top.join("SOURCES"), &version)?;
    let plugins =
        plugins(workspace, programs)?.into_iter().filter(|name| name != DHCP).collect::<Vec<_>>().join(" ");
    let macros = [("oxcni_version", &*version), ("plugins", &plugins)];
    let microshift = microshift.map(|version| ("microshift_version", version));
    write_spec(workspace, top, macros.into_iter().chain(microshift))
}

/// The version of the workspace.
pub(crate) fn version(workspace: &Workspace) -> Result<String> {
    let multicall = workspace.packages.iter().find(|package| package.name == dist::MULTICALL);
    let package = multicall.ok_or_else(|| Failure::new("the workspace has no package oxcni"))?;
    Ok(package.version.clone())
}

/// The time of the last commit, in seconds since 1970: that of the files in packages.
pub(crate) fn time_of_release(workspace: &Workspace) -> Result<String> {
    let time = quietly(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(&workspace.root))?;
    Ok(time.trim().to_owned())
}

/// The names that the program in a folder lists.
pub(crate) fn plugins(workspace: &Workspace, programs: &Path) -> Result<Vec<String>> {
    let names = quietly(workspace.platform.command(&programs.join(dist::MULTICALL)).arg("list"))?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// Writes the specification, below the macros that only this checkout knows.
fn write_spec<'m>(
    workspace: &Workspace,
    top: &Path,
    macros: impl Iterator<Item = (&'static str, &'m str)>,
) -> Result<()> {
    let from = workspace.root.join("packaging/rpm/oxcni.spec");
    let macros: String = macros.map(|(name, value)| format!("%global {name} {value}\n")).collect();
    files::write(&top.join("SPECS/oxcni.spec"), &(macros + &files::read(&from)?))
}

/// Runs rpmbuild in `top`, without network and in a mount namespace where that folder is [`TOP`].
fn rpmbuild(workspace: &Workspace, top: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "sh", "-c"])
        .arg(r#"mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@""#)
        .arg("sh")
        .args([top, Path::new(TOP)])
        // Debian has none of the packages that Fedora builds with under their names.
        .args(["rpmbuild", "--quiet", "--nodeps", "--define", &format!("_topdir {TOP}")])
        .args(arguments);
    if !workspace.platform.is_here {
        command.args(["--target", &format!("{}-linux", workspace.platform.machine())]);
    }
    command.env("SOURCE_DATE_EPOCH", time_of_release(workspace)?).env_remove("CARGO_ENCODED_RUSTFLAGS");
    run_program(&mut command)
}

/// The packages in a folder and its folders.
fn packages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files::files_below(folder)?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rpm"));
    Ok(found)
}
