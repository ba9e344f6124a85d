//! Progress of a long task: lines on standard error with the time since its start.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The clock of one task; every line shows the time since it was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    start: Instant,
    live: bool,
}

impl Progress {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), live: std::io::stderr().is_terminal() }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints a line: a step begins or has ended.
    pub(crate) fn print(&self, text: impl AsRef<str>) {
        self.wipe();
        eprintln!("{:>7}  {}", short(self.elapsed()), text.as_ref());
    }

    /// Prints a line that the next one overwrites; nothing where standard error is not a terminal.
    pub(crate) fn update(&self, text: impl AsRef<str>) {
        if !self.live {
            return;
        }
        let line: String = text.as_ref().chars().take(100).collect();
        eprint!("\r\x1b[2K{:>7}  {line}", short(self.elapsed()));
        // A terminal that is gone ends no task.
        let _ = std::io::stderr().flush();
    }

    /// Whether [`Progress::update`] prints anything.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    fn wipe(&self) {
        if self.live {
            eprint!("\r\x1b[2K");
        }
    }
}

/// A duration for a person: `0.4 s`, `12 s`, `3:05`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 99.5 {
        format!("{seconds:.0} s")
    } else {
        let whole = duration.as_secs();
        format!("{}:{:02}", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::short;
    use std::time::Duration;

    #[test]
    fn durations_have_two_digits() {
        assert_eq!(short(Duration::from_millis(440)), "0.4 s");
        assert_eq!(short(Duration::from_millis(9_970)), "10 s");
        assert_eq!(short(Duration::from_secs(185)), "3:05");
    }
}
