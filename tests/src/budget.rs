//! How much a test tries, and how long it waits, on a real and on an emulated processor.

use std::time::Duration;

/// True where the processor is emulated, as the caller of the tests reports (`OXCNI_EMULATED=1`).
pub(crate) fn emulated() -> bool {
    std::env::var_os("OXCNI_EMULATED").is_some_and(|value| value == "1")
}

/// How many cases of `full` to try: an eighth where the processor is emulated.
pub fn cases(full: u32) -> u32 {
    if emulated() { (full / 8).max(4) } else { full }
}

/// What takes this time on a real processor, at most, may take twenty times as long on an emulated one.
pub fn slowed(time: Duration) -> Duration {
    if emulated() { time * 20 } else { time }
}

/// A process that runs for longer than this hangs.
pub(crate) fn time_limit() -> Duration {
    Duration::from_secs(if emulated() { 300 } else { 60 })
}
