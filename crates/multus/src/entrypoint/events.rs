//! What the program waits for: signals, and changes of the files that it follows.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Context as _, Result};
use crate::watch::{INTERVAL, Watch};

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A followed file may have changed.
    Changed,
    /// SIGTERM or SIGINT came.
    Stop,
}

/// Both sources of events, waited for together.
#[derive(Debug)]
pub(crate) struct Events {
    signals: SignalFd,
    watch: Watch,
    reported_polling: bool,
}

impl Events {
    /// Blocks SIGTERM and SIGINT; they come as [`Event::Stop`] from here on. Call it before any
    /// thread is started.
    ///
    /// # Errors
    /// The kernel refuses (out of file descriptors).
    pub(crate) fn new() -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block().context(|| "can't block signals".to_owned())?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context(|| "can't wait for signals".to_owned())?;
        Ok(Self { signals, watch: Watch::new(), reported_polling: false })
    }

    /// Waits for changes of a file, too; see [`Watch::follow`].
    pub(crate) fn follow(&mut self, file: &Path) {
        self.watch.follow(file);
        if self.watch.is_polling() && !std::mem::replace(&mut self.reported_polling, true) {
            eprintln!(
                "inotify is used up (fs.inotify.max_user_instances, max_user_watches): \
                 looking for changes every {} ms",
                INTERVAL.as_millis()
            );
        }
    }

    /// Waits for the next event, at most for the limit where there is one: its end counts as a change.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Event> {
        let waited = self.watch.wait(Some(self.signals.as_fd()), limit);
        waited.context(|| "can't wait for events".to_owned())?;
        let signal = self.signals.read_signal().context(|| "can't read a signal".to_owned())?;
        Ok(if signal.is_some() { Event::Stop } else { Event::Changed })
    }
}
