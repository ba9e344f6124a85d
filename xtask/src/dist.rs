//! `cargo xtask dist`: builds the binaries for nodes.

mod layout;
mod link;
mod manual;
mod share;

use crate::elf::Elf;
use crate::error::{Context, Failure, Result};
use crate::files;
use crate::platform::Target;
use crate::process::{quietly, run as run_program};
use crate::progress::Progress;
use crate::table::Table;
use crate::workspace::{Workspace, cargo};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

pub(crate) use layout::Layout;
pub(crate) use link::run_as_linker;
pub(crate) use share::LICENCES;

/// The binary that holds all plugins, and the package it comes from.
pub(crate) const MULTICALL: &str = "oxcni";

/// The binary for people, which is no plugin and stands in no folder of plugins.
pub(crate) const TOOL: &str = "cnictl";

/// Static, at a fixed address, with a build id: the binaries run on hosts with any libc, start without
/// relocating themselves, and recognise copies of their own build by the build id.
const STATIC_FLAGS: [&str; 3] =
    ["-Ctarget-feature=+crt-static", "-Crelocation-model=static", "-Clink-arg=-Wl,--build-id=sha1"];

/// Build the release binaries: target/dist/bin/, target/dist/bin/separate/ and target/dist/cnictl, and what
/// is installed with them: target/dist/share/.
///
/// In target/dist/bin/ is the multicall binary `oxcni` with a hard link for each plugin in it; in
/// separate/ every plugin is a static binary of its own. A binary is replaced in one step: a process
/// that runs the old one is not disturbed. In share/ are the book as text, the licences of all crates that are
/// linked in, the man pages, and the completion of cnictl.
///
/// The multicall binary is linked twice. The second time, the functions and constants that calls of a node use stand
/// together, which halves the memory of a call; they are noted by making such calls, DHCP's too, in network
/// namespaces under ptrace(2). This needs root. Without it, or where either is not permitted, the binary
/// has the linker's order, and a line reports that. The order is written to target/dist/layout.ld. A
/// package that is built elsewhere can carry that file and give it to --layout: the same sources and
/// compiler then make the same binary.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Order the functions by this file, the target/dist/layout.ld of another build.
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,
    /// Leave the functions in the linker's order.
    #[arg(long, conflicts_with = "layout")]
    no_layout: bool,
    /// Build these programs alone; may be given several times.
    #[arg(long, value_name = "PROGRAM")]
    only: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl Args {
    fn layout(&self) -> Layout {
        match &self.layout {
            Some(file) => Layout::File(file.clone()),
            None if self.no_layout => Layout::Linker,
            None => Layout::OfCalls,
        }
    }
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress::start();
    let built = build_only(
        &Workspace::load_for(args.target.target.as_deref())?,
        &args.only,
        &args.layout(),
        &progress,
    )?;
    print!("{}", table(&built)?);
    Ok(ExitCode::SUCCESS)
}

/// A binary in its place.
#[derive(Debug)]
pub(crate) struct Built {
    path: PathBuf,
    /// The names that are links to it.
    links: Vec<String>,
}

/// Builds all binaries and puts them in place.
pub(crate) fn build(workspace: &Workspace, layout: &Layout, progress: &Progress) -> Result<Vec<Built>> {
    build_only(workspace, &[], layout, progress)
}

/// Builds the named binaries, all where none is named, and puts them in place.
pub(crate) fn build_only(
    workspace: &Workspace,
    only: &[String],
    layout: &Layout,
    progress: &Progress,
) -> Result<Vec<Built>> {
    let mut binaries = workspace.shipped_binaries();
    if let Some(unknown) = only.iter().find(|name| binaries.iter().all(|(_, binary)| binary != name)) {
        return Err(Failure::new(format!("no package in crates/ has a binary {unknown}")));
    }
    binaries.retain(|(_, name)| only.is_empty() || only.iter().any(|wanted| wanted == name));
    if binaries.is_empty() {
        return Err(Failure::new("no package in crates/ has a binary"));
    }
    let packages: Vec<&str> = binaries.iter().map(|(package, _)| package.name.as_str()).collect();
    let release = build_static(workspace, &packages, progress)?;
    let separate = workspace.dist_separate();
    fs::create_dir_all(&separate).context(|| format!("can't make {}", separate.display()))?;

    let laid_out = if binaries.iter().any(|(_, name)| *name == MULTICALL) {
        let program = release.join(MULTICALL);
        let laid_out = layout::lay_out(workspace, &program, &kept_link(&release), layout, progress)?;
        keep_layout(workspace, laid_out.as_ref().map(|(_, script)| script.as_path()))?;
        laid_out
    } else {
        None
    };

    let mut built = Vec::new();
    for (package, name) in &binaries {
        let from = match &laid_out {
            Some((program, _)) if *name == MULTICALL => program.clone(),
            _ => release.join(name),
        };
        check_static(&from)?;
        let folder = match *name {
            MULTICALL => workspace.dist_bin(),
            TOOL => workspace.dist(),
            _ => separate.clone(),
        };
        let path = folder.join(name);
        replace(&path, |new| fs::copy(&from, new).map(drop))?;
        let links =
            if *name == MULTICALL { listed_names(workspace, &path)? } else { package.aliases().to_vec() };
        for link in &links {
            replace(&path.with_file_name(link), |new| fs::hard_link(&path, new))?;
        }
        if *name == TOOL {
            share::write(workspace, &path)?;
        }
        built.push(Built { path, links });
    }
    if only.is_empty() {
        sweep(&workspace.dist_bin(), &built)?;
        sweep(&separate, &built)?;
    }
    Ok(built)
}

/// Builds packages as static release binaries and returns their folder.
pub(crate) fn build_static(workspace: &Workspace, packages: &[&str], progress: &Progress) -> Result<PathBuf> {
    let triple = &workspace.platform.triple;
    let mut packages = packages.to_vec();
    packages.sort_unstable();
    packages.dedup();
    progress.print(format!("Building {} (release, static)", packages.join(", ")));
    let release = workspace.target.join(triple).join("release");
    let mut build = static_build(workspace)?;
    build.arg("--bins");
    for package in packages {
        build.args(["--package", package]);
    }
    run_program(&mut build)?;
    Ok(release)
}

/// Builds one static release binary that is not shipped with the plugins, and returns its path.
pub(crate) fn build_tool(
    workspace: &Workspace,
    package: &str,
    name: &str,
    progress: &Progress,
) -> Result<PathBuf> {
    progress.print(format!("Building {name} (release, static)"));
    run_program(static_build(workspace)?.args(["--quiet", "--package", package, "--bin", name]))?;
    let program = workspace.target.join(&workspace.platform.triple).join("release").join(name);
    check_static(&program)?;
    Ok(program)
}

/// A cargo command that builds static release binaries; packages and binaries are to be added. Always
/// with the same linker: another one would have cargo build all again.
fn static_build(workspace: &Workspace) -> Result<Command> {
    let triple = &workspace.platform.triple;
    let mut build = cargo();
    // `+crt-static` needs an explicit target, or procedural macros are built with it and fail.
    build
        .args(["build", "--release", "--target", triple])
        .arg("--manifest-path")
        .arg(workspace.root.join("Cargo.toml"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace)?.join("\x1f"));
    let release = workspace.target.join(triple).join("release");
    link::keep(&mut build, &workspace.platform, MULTICALL, &kept_link(&release))?;
    Ok(build)
}

/// The compiler's flags. A panic's message names the source by its crate's folder and not by where that is:
/// cargo's cache here, `vendor` in a source package. So both make the same bytes.
fn flags(workspace: &Workspace) -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let cache = home.ok_or_else(|| Failure::new("there is no CARGO_HOME and no HOME"))?.join("registry/src");
    // A machine that builds from a source package has none.
    let registries = files::entries(&cache).unwrap_or_default();
    let folders = registries.into_iter().chain([workspace.root.join("vendor")]);
    let remapped = folders.map(|folder| format!("--remap-path-prefix={}/=", folder.display()));
    Ok(STATIC_FLAGS.map(str::to_owned).into_iter().chain(remapped).collect())
}

/// Where the inputs of the multicall binary's link are.
fn kept_link(release: &Path) -> PathBuf {
    release.join("oxcni.link")
}

/// Puts the layout beside the binaries, for packages to carry.
fn keep_layout(workspace: &Workspace, script: Option<&Path>) -> Result<()> {
    let place = workspace.dist_bin().with_file_name("layout.ld");
    match script {
        Some(script) if script == place => Ok(()),
        Some(script) => replace(&place, |new| fs::copy(script, new).map(drop)),
        None => {
            let _ = fs::remove_file(place);
            Ok(())
        }
    }
}

/// The names, sizes and kinds as a table.
pub(crate) fn table(built: &[Built]) -> Result<Table> {
    let mut table = Table::new(["binary", ">bytes", ">MB", "build id"]);
    for Built { path, links } in built {
        let size = fs::metadata(path).context(|| format!("can't read {}", path.display()))?.len();
        let build_id = Elf::read(path)?.build_id.unwrap_or_else(|| "none".into());
        let is_multicall = path.file_name().is_some_and(|name| name == MULTICALL);
        if is_multicall {
            table.line();
        }
        table.row([
            shown(path),
            size.to_string(),
            format!("{}.{:02}", size / 1_000_000, size % 1_000_000 / 10_000),
            build_id.chars().take(12).collect(),
        ]);
        for link in links {
            table.row([format!("  = {link}"), String::new(), String::new(), String::new()]);
        }
        if is_multicall {
            table.line();
        }
    }
    Ok(table)
}

/// The path from the `bin` folder on.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    text.rsplit_once("dist/").map(|(_, end)| end.to_owned()).unwrap_or(text)
}

fn check_static(path: &Path) -> Result<()> {
    let elf = Elf::read(path)?;
    if !elf.is_static {
        return Err(Failure::new(format!("{} needs a dynamic loader", path.display())));
    }
    if elf.build_id.is_none() {
        return Err(Failure::new(format!("{} has no build id", path.display())));
    }
    Ok(())
}

/// The names that the multicall binary lists.
fn listed_names(workspace: &Workspace, multicall: &Path) -> Result<Vec<String>> {
    let list = quietly(workspace.platform.command(multicall).arg("list"))?;
    let names: Vec<String> = list.lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().find(|name| name.is_empty() || name.contains('/') || name.starts_with('.')) {
        Some(odd) => {
            Err(Failure::new(format!("`{} list` prints an invalid name: {odd:?}", multicall.display())))
        }
        None => Ok(names),
    }
}

/// Makes a file beside its place and renames it there.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    let _ = fs::remove_file(&new);
    make(&new).context(|| format!("can't write {}", new.display()))?;
    fs::rename(&new, path).context(|| format!("can't replace {}", path.display()))?;
    // Renaming one hard link over another of the same file leaves both.
    let _ = fs::remove_file(&new);
    Ok(())
}

/// Removes the files of a folder that an earlier build made and this one didn't.
fn sweep(folder: &Path, built: &[Built]) -> Result<()> {
    let here = built.iter().filter(|binary| binary.path.parent() == Some(folder));
    let made: Vec<PathBuf> = here
        .flat_map(|Built { path, links }| {
            links.iter().map(|link| path.with_file_name(link)).chain([path.clone()])
        })
        .collect();
    for path in files::entries(folder)? {
        if path.is_file() && !made.contains(&path) {
            fs::remove_file(&path).context(|| format!("can't remove {}", path.display()))?;
        }
    }
    Ok(())
}
