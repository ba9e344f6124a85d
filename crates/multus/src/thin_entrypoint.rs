//! The program `thin_entrypoint`.

use std::process::ExitCode;

fn main() -> ExitCode {
    oxcni_multus::thin_entrypoint()
}
