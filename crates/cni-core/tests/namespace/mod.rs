//! A network namespace of a test's own.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Runs a test in an empty network namespace, on a thread that ends with it.
pub(crate) fn in_a_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    let ran = std::thread::spawn(move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return false;
        }
        test();
        true
    });
    if !ran.join().unwrap() {
        skipped(&format!("{name}: needs root"));
    }
}

/// Reports a test that can't run, also to the caller who counts them.
pub(crate) fn skipped(line: &str) {
    println!("SKIP {line}");
    if let Some(log) = std::env::var_os("OXCNI_SKIP_LOG") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        Write::write_all(&mut file, format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Runs a program in the namespace of this thread with standard input, and returns its output.
pub(crate) fn run(program: &str, args: &[&str], stdin: &str) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|err| panic!("{program}: {err}"));
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
