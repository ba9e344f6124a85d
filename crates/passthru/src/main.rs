//! The program `passthru`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&[&oxcni_passthru::Passthru])
}
