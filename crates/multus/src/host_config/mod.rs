//! oxcni-multus-config: keeps multus configured on a node, as a service in place of a pod.
//!
//! Where thin_entrypoint gets a service account's token from the kubelet, this program obtains one by
//! TokenRequest, with the kubeconfig of an administrator that the node has (on MicroShift, kubeadmin's),
//! and renews it. It wraps the default network's configuration into one of the newest version that calls
//! multus. Both files follow their sources, and are made again where they were deleted.
//!
//! They stay when the program ends: a node that is updated or starts again must not create pods on
//! the default network alone. `--remove` removes them.
//!
//! - [`options`] reads the command line;
//! - [`run`] waits and decides;
//! - [`credentials`] obtains the token and knows when to do so again.

mod credentials;
mod options;
mod run;

use std::process::ExitCode;

/// The whole program: reads the command line and runs until the signal that ends it.
///
/// Exits with 2 for an invalid command line and with 1 for any other failure.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match arguments.first().map(String::as_str) {
        Some("--version" | "-V") => println!("oxcni-multus-config {}", env!("CARGO_PKG_VERSION")),
        Some("--help" | "-h") => print!("{}", options::help()),
        _ => match options::parse(&arguments) {
            Ok(options) => {
                return finish(if options.remove { run::remove(&options) } else { run::run(&options) });
            }
            Err(problem) => {
                eprintln!("{problem}\n\n{}", options::help());
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn finish(outcome: crate::entrypoint::error::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}
