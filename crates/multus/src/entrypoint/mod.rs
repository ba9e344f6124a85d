//! thin_entrypoint: installs multus on a node and keeps its configuration current.
//!
//! The program runs in a pod on every node. It copies the multus binary to the node's plugin folder,
//! writes a kubeconfig from the pod's service account, and wraps the first network configuration of
//! the node into one that calls multus. With `--cleanup-config-on-exit` it also rewrites both files
//! when their sources change, and removes the configuration at SIGTERM or SIGINT.
//!
//! - [`command_line`] reads [`options`] by the table in [`flags`];
//! - [`run`] does the steps;
//! - [`kubeconfig`] and [`generate`] make the two files, the latter from the [`master`].

mod command_line;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod files;
mod flags;
pub(crate) mod generate;
mod kubeconfig;
mod master;
pub(crate) mod options;
mod run;

use error::{Context, Error, Result};

use std::process::ExitCode;

/// The whole program: reads the command line and runs until the signal that ends it.
///
/// Exits with 2 for an invalid command line and with 1 for any other failure, so that the kubelet
/// starts it again.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if command_line::has_flag(&arguments, "--version") {
        println!("thin_entrypoint {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if command_line::has_flag(&arguments, "--help") || command_line::has_flag(&arguments, "-h") {
        print!("{}", flags::help());
        return ExitCode::SUCCESS;
    }
    let options = match command_line::parse(&arguments) {
        Ok(options) => options,
        Err(err) => {
            eprintln!("{err}\n\n{}", flags::help());
            return ExitCode::from(2);
        }
    };
    match run::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}
