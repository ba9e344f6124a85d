//! One line an event on standard error, as `key=value`; under systemd with a priority before it.

use std::cell::Cell;
use std::fmt::Display;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use dhcp_client::{SECOND, Time};

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

/// How many lines an attachment may log at once, and how many in each second after that: its container, and any host of
/// its network, can cause as many events as they like.
const AT_ONCE: u64 = 100;
const A_SECOND: u64 = 1;

/// What an attachment may still log.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// When the whole of [`AT_ONCE`] is there again.
    full: Cell<Time>,
    left_out: Cell<u64>,
}

impl Budget {
    /// Takes a line: how many were left out before it, or `None` where it is left out too.
    pub(crate) fn spend(&self, now: Time) -> Option<u64> {
        let full = self.full.get().max(now).after(SECOND / A_SECOND);
        if full.since(now) > AT_ONCE * SECOND / A_SECOND {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.full.set(full);
        Some(self.left_out.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let budget = Budget::default();
        let logged = |now: Time, lines: u64| (0..lines).filter_map(|_| budget.spend(now)).collect::<Vec<_>>();
        let start = Time(1_000_000);
        assert_eq!(logged(start, 150), [0; 100]);
        assert_eq!(logged(start.after(2 * SECOND), 3), [50, 0]);
        assert_eq!(logged(start.after(500 * SECOND), 100)[..2], [1, 0]);
    }
}
