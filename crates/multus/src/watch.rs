//! Waiting until a file changes: by inotify(7), or where the kernel grants no more of that, by looking
//! again and again. Instances and watches are limited per user, and often used up.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How long a change that inotify does not report may stay unnoticed.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// Everything that can make a path lead to another file.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// A set of files whose changes are waited for.
#[derive(Debug)]
pub(crate) struct Watch {
    /// `None` where the kernel refused: files are looked at every [`INTERVAL`] then.
    inotify: Option<Inotify>,
}

impl Watch {
    /// A watch of no file yet.
    pub(crate) fn new() -> Watch {
        Watch { inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok() }
    }

    /// Whether [`Watch::wait`] returns at each [`INTERVAL`], because inotify is not available.
    pub(crate) fn is_polling(&self) -> bool {
        self.inotify.is_none()
    }

    /// Waits for changes of `file` from here on: of its name in its folder and, where it is a
    /// symbolic link (as all files of a service account are), of its target.
    ///
    /// Where the folder is missing, its nearest ancestor is watched. So call this again after each
    /// change, and look at the file after that. A call for a watched folder changes nothing.
    pub(crate) fn follow(&mut self, file: &Path) {
        let Some(inotify) = &self.inotify else { return };
        let mut followed = follow_folder(inotify, file.parent().unwrap_or(file));
        if let Ok(target) = fs::canonicalize(file)
            && target != file
        {
            followed = followed.and(follow_folder(inotify, target.parent().unwrap_or(&target)));
        }
        if followed.is_err() {
            self.inotify = None;
        }
    }

    /// Waits until a followed file may have changed, `other` can be read, or the limit is over.
    /// Several changes may come as one.
    ///
    /// # Errors
    /// Those of poll(2) and read(2).
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> Result<(), Errno> {
        let limit = if self.is_polling() { Some(limit.unwrap_or(INTERVAL).min(INTERVAL)) } else { limit };
        let timeout = match limit {
            None => PollTimeout::NONE,
            // Rounded up, so that the last millisecond is not spent in a busy loop.
            Some(limit) => PollTimeout::try_from(limit.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut ready: Vec<PollFd<'_>> = other
            .into_iter()
            .chain(self.inotify.as_ref().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(err) => return Err(err),
        }
        // Which file changed does not matter, nor does an overflow of the queue: all are looked at.
        match self.inotify.as_ref().map(Inotify::read_events) {
            None | Some(Ok(_) | Err(Errno::EAGAIN)) => Ok(()),
            Some(Err(err)) => Err(err),
        }
    }
}

fn follow_folder(inotify: &Inotify, folder: &Path) -> Result<(), Errno> {
    let missing = |err| matches!(err, Errno::ENOENT | Errno::ENOTDIR);
    let mut at = folder;
    loop {
        match inotify.add_watch(at, CHANGES) {
            Ok(_) if at == folder => return Ok(()),
            // The folder may have appeared before its ancestor was watched.
            Ok(_) => match inotify.add_watch(folder, CHANGES) {
                Err(err) if missing(err) => return Ok(()),
                watched => return watched.map(drop),
            },
            Err(err) if missing(err) && at.parent().is_some() => at = at.parent().unwrap_or(at),
            Err(err) => return Err(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_for(file: &Path, mut watch: Watch) {
        let started = Instant::now();
        while !file.exists() {
            watch.follow(file);
            if !file.exists() {
                watch.wait(None, Some(Duration::from_secs(30))).unwrap();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "the file is never noticed");
        }
    }

    #[test]
    fn a_file_in_a_folder_that_appears_is_noticed_with_and_without_inotify() {
        for watch in [Watch::new(), Watch { inotify: None }] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a/b/ready");
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| wait_for(&file, watch));
                fs::create_dir_all(folder.path().join("a/b")).unwrap();
                fs::write(&file, "").unwrap();
                waiting.join().unwrap();
            });
        }
    }
}
