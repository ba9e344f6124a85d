//! The program `multus`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&[&oxcni_multus::Multus])
}
