//! One line an event on standard error, as `key=value`; under systemd with a priority before it.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// How important an event is, with syslog's numbers (sd-daemon(3)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

/// Writes a line about an event.
pub(crate) fn log(level: Level, event: &str, fields: &[(&str, &dyn Display)]) {
    let mut line = String::new();
    if to_journal() {
        line.push_str(&format!("<{}>", level as u8));
    }
    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    line.push_str(&format!("level={level} event={event}"));
    for (key, value) in fields {
        let value = value.to_string();
        let plain =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        line.push_str(&if plain { format!(" {key}={value}") } else { format!(" {key}={value:?}") });
    }
    line.push('\n');
    // One write, so that lines do not mix; a log that can't be written stops nothing.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether standard error is the journal: `JOURNAL_STREAM` has its device and inode (systemd.exec(5)).
fn to_journal() -> bool {
    static KNOWN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *KNOWN.get_or_init(|| {
        let stderr =
            std::fs::metadata("/proc/self/fd/2").map(|meta| format!("{}:{}", meta.dev(), meta.ino()));
        std::env::var("JOURNAL_STREAM").ok().zip(stderr.ok()).is_some_and(|(given, own)| given == own)
    })
}
