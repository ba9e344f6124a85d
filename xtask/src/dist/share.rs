//! What packages install below `/usr/share`: the book as text, and man pages and completion of cnictl.

use crate::error::Result;
use crate::files::{entries, files_below, make_folder, read, write as write_file};
use crate::process::{quietly, run};
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

/// Writes `share/` beside the program `cnictl`, which makes a part of it.
pub(super) fn write(workspace: &Workspace, cnictl: &Path) -> Result<()> {
    let share = workspace.dist().join("share");
    let _ = fs::remove_dir_all(&share);
    let book = workspace.root.join("docs/src");
    for file in files_below(&book)? {
        let name = file.strip_prefix(&book).unwrap_or(&file);
        write_file(&share.join("doc/oxcni").join(name), &page(&file)?)?;
    }
    let manual = share.join("man/man1");
    make_folder(&manual)?;
    quietly(Command::new(cnictl).arg("man").arg(&manual))?;
    run(Command::new("gzip").args(["-9", "-n"]).args(entries(&manual)?))?;
    for (shell, file) in COMPLETION {
        write_file(&share.join(file), &quietly(Command::new(cnictl).args(["completion", shell]))?)?;
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
