//! Reading a file in a process of its own, which can be left behind.
//!
//! A file system may never answer: one of FUSE whose daemon hangs. A process that waits for it can't even be
//! killed, and a thread that waits keeps its process from ending: its runtime would wait for it for ever.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use cni_core::fs;

/// The first argument of the process that reads.
pub(crate) const ARGUMENT: &str = "print-file";

/// The exit status for a file of another kind; that of other errors is their number.
const NOT_REGULAR: u8 = 255;

/// How long the file system may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Reads the first `max` bytes of a regular file.
///
/// # Errors
/// Those of [`fs::read_regular`], and [`io::ErrorKind::TimedOut`].
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    read_by(Command::new("/proc/self/exe").arg0("host-local"), path, max, LIMIT)
}

fn read_by(program: &mut Command, path: &Path, max: usize, limit: Duration) -> io::Result<Vec<u8>> {
    program.arg(ARGUMENT).arg(path).arg(max.to_string()).env_clear().process_group(0);
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(stdout) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(max as u64).read_to_end(&mut bytes);
        let _ = sender.send(read.map(|_| bytes));
    })?;
    let Ok(bytes) = receiver.recv_timeout(limit) else {
        // Not waited for: it ends when the file system lets it.
        let _ = child.kill();
        return Err(io::ErrorKind::TimedOut.into());
    };
    match child.wait()?.code() {
        Some(0) => bytes,
        Some(code) if code == i32::from(NOT_REGULAR) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
        }
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(io::Error::other("the process that reads it was killed")),
    }
}

/// What the process does: prints the file. It has closed it before, so that it ends once all is printed.
pub(crate) fn print(path: &Path, max: usize) -> ExitCode {
    match fs::read_regular(path, max) {
        Ok(bytes) => {
            let printed = io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush());
            if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(err) => match err.raw_os_error().and_then(|errno| u8::try_from(errno).ok()) {
            Some(errno) => ExitCode::from(errno),
            None => ExitCode::from(NOT_REGULAR),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Reads by a shell script that gets the path as `$2`.
    fn by(script: &str, limit: Duration) -> io::Result<Vec<u8>> {
        read_by(Command::new("/bin/sh").args(["-c", script, "sh"]), Path::new("/the/path"), 9, limit)
    }

    #[test]
    fn content_and_errors_come_through() {
        let limit = Duration::from_secs(60);
        assert_eq!(by("printf %s $2", limit).unwrap(), b"/the/path");
        assert_eq!(by("exit 2", limit).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(by("exit 255", limit).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(by("kill -9 $$", limit).is_err());
    }

    #[test]
    fn a_process_that_does_not_end_is_left_behind() {
        let begun = Instant::now();
        let err = by("while :; do sleep 60; done", Duration::from_millis(50)).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    }
}
