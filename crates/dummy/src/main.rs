//! The dummy plugin as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&[&oxcni_dummy::Dummy])
}
