//! Running other programs, with errors that name them.

use crate::error::{Context, Failure, Result};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs to the end with our own standard streams; a non-zero exit is a failure.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().context(|| format!("can't start {shown}"))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{shown} failed ({status})"))) }
}

/// Runs to the end and returns standard output; on failure both outputs are part of the error.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let out = command.stdin(Stdio::null()).output().context(|| format!("can't start {shown}"))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    Err(Failure::new(format!("{shown} failed ({}):\n{stdout}{stderr}", out.status)))
}

/// Whether a program of this name is on PATH or in the system's folders.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .any(|folder| Path::new(folder).join(program).is_file())
}

/// The command line, shortened.
fn shown(command: &Command) -> String {
    let mut arguments = vec![command.get_program().to_string_lossy().into_owned()];
    arguments.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    let line = arguments.join(" ");
    match line.char_indices().nth(160) {
        Some((cut, _)) => format!("`{} …`", &line[..cut]),
        None => format!("`{line}`"),
    }
}
