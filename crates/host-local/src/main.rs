//! The program `host-local`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&[&oxcni_host_local::HostLocal])
}
