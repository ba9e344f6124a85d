//! The program `dhcp`: the plugin, its daemon and its tools.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&[&oxcni_dhcp::Dhcp])
}
