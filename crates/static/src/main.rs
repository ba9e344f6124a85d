//! The program `static`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&[&oxcni_static::Static])
}
