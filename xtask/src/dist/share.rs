//! What packages install below `/usr/share`: the book as text, licences, man pages, and completion of cnictl.

use super::manual;
use crate::error::Result;
use crate::files::{entries, files_below, make_folder, read, write as write_file};
use crate::process::{quietly, run};
use crate::release::components;
use crate::workspace::Workspace;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Shells, and the files in which they look for the completion of `cnictl`.
const COMPLETION: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/cnictl"),
    ("fish", "fish/vendor_completions.d/cnictl.fish"),
    ("zsh", "zsh/site-functions/_cnictl"),
];

/// Pages of the reference that describe no program of a package, or one that writes its own man pages.
const NO_MANUAL: [&str; 2] = ["cnictl", "thin_entrypoint"];

/// The licences of the crates that are linked in, below `share/`.
pub(crate) const LICENCES: &str = "licenses/oxcni/crates.txt";

/// Writes `share/` beside the program `cnictl`, which makes a part of it.
pub(super) fn write(workspace: &Workspace, cnictl: &Path) -> Result<()> {
    let share = workspace.dist().join("share");
    let _ = fs::remove_dir_all(&share);
    let book = workspace.root.join("docs/src");
    for file in files_below(&book)? {
        let name = file.strip_prefix(&book).unwrap_or(&file);
        write_file(&share.join("doc/oxcni").join(name), &page(&file)?)?;
    }
    components::write_licences(workspace, &share.join(LICENCES))?;
    let manual = share.join("man");
    make_folder(&manual.join("man1"))?;
    quietly(workspace.platform.command(cnictl).arg("man").arg(manual.join("man1")))?;
    write_reference(&book.join("reference"), &manual.join("man8"))?;
    run(Command::new("gzip").args(["-9", "-n"]).args(files_below(&manual)?))?;
    for (shell, file) in COMPLETION {
        write_file(
            &share.join(file),
            &quietly(workspace.platform.command(cnictl).args(["completion", shell]))?,
        )?;
    }
    Ok(())
}

/// Writes a man page for each page of the reference; a plugin's is named `oxcni-PLUGIN`.
fn write_reference(reference: &Path, manual: &Path) -> Result<()> {
    for file in entries(reference)? {
        let program = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if NO_MANUAL.contains(&&*program) {
            continue;
        }
        let name = if program.starts_with("oxcni") { program } else { format!("oxcni-{program}") };
        write_file(&manual.join(format!("{name}.8")), &manual::page(&name, &page(&file)?))?;
    }
    Ok(())
}

/// A file as mdBook shows it: a line `{{#include FILE}}` is that file.
fn page(path: &Path) -> Result<String> {
    let mut page = String::new();
    for line in read(path)?.lines() {
        match line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}")) {
            Some(file) => page.push_str(&read(&path.with_file_name(file))?),
            None => page.extend([line, "\n"]),
        }
    }
    Ok(page)
}
