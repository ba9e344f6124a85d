//! Lines for a person, on standard error.

use std::fmt;
use std::io::Write;

/// Writes a line to standard error in one write(2). A runtime may have closed it or may not read
/// it any more: that never fails a call, never panics (as `eprintln!` does), and stops no undo.
pub fn note(line: fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
