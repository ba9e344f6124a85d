//! The program `thin_entrypoint`; all of it is in the library.

fn main() -> std::process::ExitCode {
    oxcni_thin_entrypoint::main()
}
