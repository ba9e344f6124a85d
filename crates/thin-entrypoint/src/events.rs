//! What the program waits for: signals, and changes of the files that it follows.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::{Context as _, Result};

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something changed in a folder that is followed: look again.
    Changed,
    /// SIGTERM or SIGINT came.
    Stop,
}

/// The two sources of events, waited for together.
#[derive(Debug)]
pub struct Events {
    signals: SignalFd,
    changes: Inotify,
}

impl Events {
    /// Takes SIGTERM and SIGINT away from their usual effect; they come as [`Event::Stop`] from
    /// here on. Call it before any thread is started.
    ///
    /// # Errors
    /// The kernel refuses (out of file descriptors or inotify instances).
    pub fn new() -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block().context(|| "can't block signals".to_owned())?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context(|| "can't wait for signals".to_owned())?;
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .context(|| "can't wait for changes of files (see fs.inotify.max_user_instances)".to_owned())?;
        Ok(Self { signals, changes })
    }

    /// Waits for changes of `file` from here on: of its name in its folder, and, where it is a
    /// symbolic link (as all files of a service account are), of what it points to.
    ///
    /// Where the folder is missing, its nearest ancestor is waited for. To follow a file is to
    /// call this again after each [`Event::Changed`] and then to look at the file; a call for a
    /// folder that is waited for already changes nothing.
    ///
    /// # Errors
    /// The kernel refuses (see `fs.inotify.max_user_watches`).
    pub fn follow(&self, file: &Path) -> Result<()> {
        self.follow_folder(file.parent().unwrap_or(file))?;
        match fs::canonicalize(file) {
            Ok(target) if target != file => self.follow_folder(target.parent().unwrap_or(&target)),
            _ => Ok(()),
        }
    }

    fn follow_folder(&self, folder: &Path) -> Result<()> {
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let missing = |err| matches!(err, Errno::ENOENT | Errno::ENOTDIR);
        let mut at = folder;
        loop {
            match self.changes.add_watch(at, changes) {
                Ok(_) if at == folder => return Ok(()),
                // It may have come to be while its ancestor was not waited for yet.
                Ok(_) => match self.changes.add_watch(folder, changes) {
                    Err(err) if missing(err) => return Ok(()),
                    other => return other.map(drop).context(|| format!("can't follow {}", folder.display())),
                },
                Err(err) if missing(err) && at.parent().is_some() => at = at.parent().unwrap_or(at),
                Err(err) => return Err(err).context(|| format!("can't follow {}", at.display())),
            }
        }
    }

    /// Waits for the next event, without a limit. Several changes may come as one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&self) -> Result<Event> {
        loop {
            let mut ready = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.context(|| "can't wait for events".to_owned())?,
            };
            if self.signals.read_signal().context(|| "can't read a signal".to_owned())?.is_some() {
                return Ok(Event::Stop);
            }
            // What changed does not matter, nor does an overflow of the queue: all is looked at.
            match self.changes.read_events() {
                Ok(_) => return Ok(Event::Changed),
                Err(Errno::EAGAIN) => {}
                Err(err) => return Err(err).context(|| "can't read changes of files".to_owned()),
            }
        }
    }
}
