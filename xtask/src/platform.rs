//! What programs are built for: this machine, or one of another kind.

use crate::error::{Failure, Result};
use crate::process::quietly;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// The option of tasks that build programs.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Build for another machine, such as aarch64-unknown-linux-gnu.
    ///
    /// What is made is then in folders below target/ that are named after it, such as target/dist-aarch64. The compiler
    /// needs the standard library of that machine. The linker is MACHINE-linux-gnu-gcc, and programs are run by
    /// qemu-MACHINE-static to ask them for their names; CARGO_TARGET_TRIPLE_LINKER and CARGO_TARGET_TRIPLE_RUNNER
    /// name others. No calls can be noted: the order of functions is that of target/dist/layout.ld.
    #[arg(long, value_name = "TRIPLE")]
    pub(crate) target: Option<String>,
}

/// What programs are built for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Platform {
    /// As rustc names it, such as `x86_64-unknown-linux-gnu`.
    pub(crate) triple: String,
    /// Whether it is this machine.
    pub(crate) is_here: bool,
}

impl Platform {
    /// That of the triple, or this machine.
    ///
    /// # Errors
    /// rustc can't be run.
    pub(crate) fn of(triple: Option<&str>) -> Result<Self> {
        let here = triple_of_rustc()?;
        let triple = triple.unwrap_or(&here).to_owned();
        Ok(Self { is_here: triple == here, triple })
    }

    /// The kind of machine, as uname(1) and rpm name it.
    pub(crate) fn machine(&self) -> &str {
        self.triple.split('-').next().unwrap_or_default()
    }

    /// The name of a folder for what is made for it.
    pub(crate) fn folder(&self, name: &str) -> String {
        if self.is_here { name.to_owned() } else { format!("{name}-{}", self.machine()) }
    }

    /// The linker.
    pub(crate) fn linker(&self) -> OsString {
        let cc = if self.is_here { "cc".to_owned() } else { format!("{}-linux-gnu-gcc", self.machine()) };
        std::env::var_os(self.setting("LINKER")).unwrap_or_else(|| cc.into())
    }

    /// The name of one of cargo's environment variables for it.
    pub(crate) fn setting(&self, name: &str) -> String {
        format!("CARGO_TARGET_{}_{name}", self.triple.to_uppercase().replace('-', "_"))
    }

    /// A command that runs one of its programs here.
    pub(crate) fn command(&self, program: &Path) -> Command {
        if self.is_here {
            return Command::new(program);
        }
        let emulator = format!("qemu-{}-static", self.machine());
        let mut command = Command::new(std::env::var_os(self.setting("RUNNER")).unwrap_or(emulator.into()));
        command.arg(program);
        command
    }
}

/// The triple that rustc builds for by default.
fn triple_of_rustc() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    quietly(Command::new(rustc).arg("-vV"))?
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| Failure::new("rustc does not report its host"))
}

#[cfg(test)]
mod tests {
    use super::Platform;
    use std::path::Path;

    #[test]
    fn another_machine_has_folders_a_linker_and_an_emulator_of_its_own() {
        let here = Platform::of(None).unwrap();
        assert_eq!((here.folder("dist"), here.machine()), ("dist".to_owned(), std::env::consts::ARCH));
        let other = Platform::of(Some("riscv64gc-unknown-linux-gnu")).unwrap();
        assert_eq!(other.folder("dist"), "dist-riscv64gc");
        assert_eq!(other.setting("LINKER"), "CARGO_TARGET_RISCV64GC_UNKNOWN_LINUX_GNU_LINKER");
        assert_eq!(other.command(Path::new("x")).get_program(), "qemu-riscv64gc-static");
    }
}
