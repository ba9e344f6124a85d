//! Linking the multicall program again, in another way, without compiling it again.
//!
//! Fat link-time optimisation makes one object file of the whole program, which takes minutes; the
//! linker then takes a second. rustc deletes its object files after that. So this program stands in
//! for the linker: it runs the real one, and keeps the arguments and input files of the one link that
//! is repeated later.

use crate::error::{Context, Failure, Result};
use crate::platform::Platform;
use crate::process::run;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Names the real linker; this program is a linker where it is set.
const LINKER: &str = "OXCNI_LINKER";
/// Names the folder that the inputs are kept in.
const KEEP_IN: &str = "OXCNI_KEEP_LINK";
/// Names the program whose inputs are kept.
const KEEP: &str = "OXCNI_KEEP_LINK_OF";

/// A link that can be repeated.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Link {
    linker: OsString,
    /// Its arguments; those that are input files name copies of them.
    arguments: Vec<OsString>,
}

/// Has a build for a platform keep the link of the program `name` in `folder`.
///
/// # Errors
/// This program's own path is unknown.
pub(super) fn keep(build: &mut Command, platform: &Platform, name: &str, folder: &Path) -> Result<()> {
    let this = std::env::current_exe().context(|| "can't find this program".into())?;
    build
        .env(platform.setting("LINKER"), this)
        .env(LINKER, platform.linker())
        .env(KEEP, name)
        .env(KEEP_IN, folder);
    Ok(())
}

/// Links in place of the real linker, if this process was started as one.
pub(crate) fn run_as_linker() -> Option<ExitCode> {
    let linker = std::env::var_os(LINKER)?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = Command::new(&linker)
        .args(&arguments)
        .status()
        .context(|| format!("can't start {}", linker.display()))
        .and_then(|status| {
            if status.success() {
                keep_inputs(linker, arguments)?;
            }
            Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
        });
    Some(match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    })
}

/// Copies the inputs of the link that is to be repeated; does nothing for any other.
fn keep_inputs(linker: OsString, arguments: Vec<OsString>) -> Result<()> {
    let (Some(name), Some(folder)) = (std::env::var_os(KEEP), std::env::var_os(KEEP_IN)) else {
        return Ok(());
    };
    if !makes(&arguments, &name.to_string_lossy()) {
        return Ok(());
    }
    let folder = PathBuf::from(folder);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).context(|| format!("can't make {}", folder.display()))?;
    let copy = |(index, argument): (usize, OsString)| {
        let file = Path::new(&argument);
        let Some(name) = file.file_name().filter(|_| is_input(file)) else { return Ok(argument) };
        let kept = folder.join(format!("{index}-{}", name.display()));
        fs::copy(file, &kept).context(|| format!("can't copy {}", file.display()))?;
        Ok(kept.into_os_string())
    };
    let arguments = without_output(arguments).into_iter().enumerate().map(copy).collect::<Result<_>>()?;
    let text =
        serde_json::to_string(&Link { linker, arguments }).context(|| "can't write the link".into())?;
    let file = folder.join("link.json");
    fs::write(&file, text).context(|| format!("can't write {}", file.display()))
}

/// An object file or an archive of them.
fn is_input(file: &Path) -> bool {
    let extension = file.extension().unwrap_or_default();
    ["o", "a", "rlib"].iter().any(|known| extension == *known) && file.is_file()
}

/// Whether the output is `deps/NAME-HASH`, as cargo names that of the program NAME.
fn makes(arguments: &[OsString], name: &str) -> bool {
    let output = arguments.windows(2).find(|pair| pair[0] == "-o").map(|pair| Path::new(&pair[1]));
    let file = output.and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let hash = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    hash.is_some_and(|hash| !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn without_output(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if let Some(at) = arguments.iter().position(|argument| argument == "-o") {
        arguments.drain(at..(at + 2).min(arguments.len()));
    }
    arguments
}

impl Link {
    /// Reads what [`keep`] had kept in the folder.
    ///
    /// # Errors
    /// There is nothing: the program was last linked by another command.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("link.json");
        let text = fs::read_to_string(&file).context(|| format!("can't read {}", file.display()))?;
        serde_json::from_str(&text).context(|| format!("can't read {}", file.display()))
    }

    /// The object files among its inputs; libraries are archives.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Path> {
        self.arguments
            .iter()
            .map(Path::new)
            .filter(|file| is_input(file) && file.extension() == Some("o".as_ref()))
    }

    /// Links to `output` with further arguments; with or without the symbols.
    ///
    /// # Errors
    /// The linker fails.
    pub(super) fn repeat(&self, output: &Path, symbols: bool, more: &[String]) -> Result<()> {
        let strips = |argument: &&OsString| {
            ["-s", "-Wl,--strip-all", "-Wl,--strip-debug"].iter().any(|strip| *argument == strip)
        };
        let mut link = Command::new(&self.linker);
        link.args(self.arguments.iter().filter(|argument| !symbols || !strips(argument)));
        run(link.args(more).arg("-o").arg(output))
            .map_err(|failure| Failure::new(format!("linking {}: {failure}", output.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::{makes, without_output};
    use std::ffi::OsString;

    fn arguments(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_link_of_one_program_is_kept() {
        assert!(makes(&arguments("-m64 a.o -o /x/deps/oxcni-0123456789abcdef -pie"), "oxcni"));
        for other in ["-o /x/deps/oxcni_bridge-0123456789abcdef", "-o /x/deps/oxcni-tests", "-o", ""] {
            assert!(!makes(&arguments(other), "oxcni"), "{other}");
        }
    }

    #[test]
    fn a_repeated_link_has_its_own_output() {
        assert_eq!(without_output(arguments("a.o -o x b.o")), arguments("a.o b.o"));
        assert_eq!(without_output(arguments("a.o")), arguments("a.o"));
    }
}
