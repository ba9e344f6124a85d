//! Puts multus on a node and keeps its configuration in step with the default network's.
//!
//! The program runs in a pod on every node. It copies the multus binary to the node's plugin
//! folder, writes a kubeconfig from the pod's service account, and wraps the first network
//! configuration of the node into one that calls multus. Where it is asked to clean up on exit it
//! stays, rewrites both files when what they were made from changes, and removes the
//! configuration when it is told to stop.
//!
//! ```no_run
//! use oxcni_thin_entrypoint::{entrypoint, options::Options};
//!
//! # fn main() -> Result<(), oxcni_thin_entrypoint::Error> {
//! let options = Options::parse(["--cleanup-config-on-exit", "--cni-conf-dir=/host/etc/cni/net.d"])?;
//! entrypoint::run(&options)
//! # }
//! ```
//!
//! It polls nothing: one `poll(2)` waits for signals and for inotify events together.
#![deny(missing_docs)]

pub mod config;
pub mod entrypoint;
mod error;
pub mod events;
pub mod file;
pub mod flags;
pub mod kubeconfig;
pub mod master;
pub mod options;

pub use error::{Context, Error, Result};

use std::process::ExitCode;

use options::Options;

/// The whole program: reads the command line and runs to the signal that ends it.
///
/// Ends with 2 for a command line that can't be understood and with 1 for any other failure, so
/// that the kubelet starts it again.
pub fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if options::asks_for(&arguments, "--version") {
        println!("thin_entrypoint {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if options::asks_for(&arguments, "--help") || options::asks_for(&arguments, "-h") {
        print!("{}", flags::help());
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(err) => {
            eprintln!("{err}\n\n{}", flags::help());
            return ExitCode::from(2);
        }
    };
    match entrypoint::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}
