//! Completion and man pages, made from the definitions of the command line.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell as Generator;
use cni_core::fs::{self, Folder};
use cni_core::spec::Result;

use crate::Outcome;
use crate::cli::{Cli, Shell};
use crate::output::Output;

/// `cnictl completion`.
pub(crate) fn completion(shell: Shell, output: &Output) -> Result<Outcome> {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Fish => Generator::Fish,
        Shell::Zsh => Generator::Zsh,
    };
    let mut text = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "cnictl", &mut text);
    output.print(String::from_utf8_lossy(&text).trim_end());
    Ok(Outcome::Good)
}

/// `cnictl man`: `cnictl.1`, and `cnictl-COMMAND.1` for each command.
pub(crate) fn write(folder: &Path) -> Result<Outcome> {
    let failed = |err| fs::failed("writing the man pages to", folder, err);
    let pages = Folder::open_or_create(folder).map_err(failed)?;
    let mut command = Cli::command();
    // So that each command has the options of all commands.
    command.build();
    page(&pages, &command, "cnictl").map_err(failed)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page(&pages, sub, &format!("cnictl-{}", sub.get_name())).map_err(failed)?;
    }
    Ok(Outcome::Good)
}

fn page(pages: &Folder, command: &clap::Command, name: &str) -> std::io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    pages.replace(&format!("{name}.1"), &text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
