//! The order of the multicall program's functions and constants: those that calls use stand together.
//!
//! The kernel maps a program in pieces of 64 KiB around each page that is touched. A call of a plugin
//! uses a twelfth of the program, but spread over all of it. A linker script puts these functions, and
//! the constants that they refer to, in one place. It is made for each build: the program is linked with
//! its symbols, called as a node calls it, under a tracer that notes which functions are entered, and
//! linked once more.

mod script;
mod sections;

use super::link::Link;
use crate::bench::calls;
use crate::elf::{self, Elf, References};
use crate::error::{Context, Failure, Result};
use crate::process::is_installed;
use crate::progress::Progress;
use crate::workspace::Workspace;
use sections::Sections;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the order comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// From calls of the program that was built, where they can be made.
    OfCalls,
    /// A file that an earlier build wrote.
    File(PathBuf),
    /// The linker's own order.
    Linker,
}

/// What was made, below `target/layout`.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn script(&self) -> PathBuf {
        self.folder.join("layout.ld")
    }

    /// The build id of the program as it was linked without a layout.
    fn made_for(&self) -> PathBuf {
        self.folder.join("made-for")
    }

    fn program(&self) -> PathBuf {
        self.folder.join("oxcni")
    }
}

/// Links `built` again with a layout; gives the program and the layout's file.
///
/// `None` means that there is no layout, for a reason that was printed.
///
/// # Errors
/// A given file can't be read or used. Where calls can't be noted, the program has no layout.
pub(super) fn lay_out(
    workspace: &Workspace,
    built: &Path,
    link: &Path,
    layout: &Layout,
    progress: &Progress,
) -> Result<Option<(PathBuf, PathBuf)>> {
    let files = Files { folder: workspace.made("layout") };
    match layout {
        Layout::Linker => Ok(None),
        Layout::File(script) => {
            let script = fs::canonicalize(script).context(|| format!("can't read {}", script.display()))?;
            fs::create_dir_all(&files.folder).context(|| format!("can't make {}", files.folder.display()))?;
            relink(&Link::read(link)?, &script, &files.program())?;
            // It is not the layout of this build's own calls.
            let _ = fs::remove_file(files.made_for());
            Ok(Some((files.program(), script)))
        }
        Layout::OfCalls if !workspace.platform.is_here => {
            let of_this_machine = workspace.target.join("dist/layout.ld");
            if of_this_machine.is_file() {
                let layout = Layout::File(of_this_machine);
                return lay_out(workspace, built, link, &layout, progress);
            }
            progress.print(format!(
                "{} has no layout and will take more memory: there is no target/dist/layout.ld",
                super::MULTICALL
            ));
            Ok(None)
        }
        Layout::OfCalls => match of_calls(workspace, built, link, &files, progress) {
            Ok(()) => Ok(Some((files.program(), files.script()))),
            Err(failure) => {
                progress.print(format!(
                    "{} has no layout and will take more memory: {failure}",
                    super::MULTICALL
                ));
                Ok(None)
            }
        },
    }
}

fn relink(link: &Link, script: &Path, program: &Path) -> Result<()> {
    link.repeat(program, false, &[format!("-Wl,-T,{}", script.display())])
}

/// Makes the layout and the program, unless they are those of this build.
fn of_calls(
    workspace: &Workspace,
    built: &Path,
    link: &Path,
    files: &Files,
    progress: &Progress,
) -> Result<()> {
    let build_id = Elf::read(built)?.build_id.unwrap_or_default();
    if fs::read_to_string(files.made_for()).is_ok_and(|id| id == build_id) && files.program().is_file() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(
            "the calls that it follows are made in network namespaces, which needs root",
        ));
    }
    if !is_installed("ip") {
        return Err(Failure::new("the program `ip` is not installed"));
    }
    let link = Link::read(link)?;
    let _ = fs::remove_dir_all(&files.folder);
    fs::create_dir_all(&files.folder).context(|| format!("can't make {}", files.folder.display()))?;

    let (with_symbols, map) = (files.folder.join("with-symbols"), files.folder.join("map"));
    link.repeat(&with_symbols, true, &[format!("-Wl,-Map={}", map.display())])?;
    let functions = elf::functions(&with_symbols)?;
    let called = calls::note(workspace, &files.folder, &with_symbols, &functions, progress)?;
    let map = fs::read_to_string(&map).context(|| format!("can't read {}", map.display()))?;
    let mut references = References::new();
    for object in link.objects() {
        for (from, mut to) in elf::references(object)? {
            references.entry(from).or_default().append(&mut to);
        }
    }
    let script = script::script(&Sections::of(&map), &references, &called);
    fs::write(files.script(), script).context(|| format!("can't write {}", files.script().display()))?;
    relink(&link, &files.script(), &files.program())?;
    fs::write(files.made_for(), build_id)
        .context(|| format!("can't write {}", files.made_for().display()))?;
    progress.print(format!(
        "Put together: of {} functions, the {} that the plugins call and {} more that multus calls",
        functions.len(),
        called.by_plugins.len(),
        called.by_all.len() - called.by_plugins.len()
    ));
    Ok(())
}
