//! Locks, and waiting for them no longer than somebody waits for us.
//!
//! A plugin that hangs in a process of its own is killed when its time is over. Nobody can do
//! that to one that runs in its caller's process: all that it can hang at is a lock.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A lock of flock(2), held until this is dropped or the process ends.
#[derive(Debug)]
#[must_use = "it is released when dropped"]
pub struct Lock {
    _file: File,
}

/// Whom a lock keeps out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Those who want it exclusively.
    Shared,
    /// All others.
    Exclusive,
}

/// Runs a closure in which no lock of this thread is waited for longer than the limit, nor
/// longer than a limit around it.
pub(crate) fn within<T>(limit: Option<Duration>, work: impl FnOnce() -> T) -> T {
    let outer = DEADLINE.get();
    let own = limit.map(|limit| Instant::now() + limit);
    let _restored = Restore(outer);
    DEADLINE.set(own.into_iter().chain(outer).min());
    work()
}

/// The limit around [`within`], for its end.
struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}

/// Waits for a lock on a file.
///
/// # Errors
/// Those of flock(2), and [`io::ErrorKind::TimedOut`].
pub(crate) fn take(file: File, kind: Kind) -> io::Result<Lock> {
    let Some(deadline) = DEADLINE.get() else {
        kind.wait(&file)?;
        return Ok(Lock { _file: file });
    };
    match kind.attempt(&file) {
        Ok(()) => return Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(err)) => return Err(err),
    }
    // flock(2) knows no time limit, and to ask again and again would let others pass by. A thread
    // waits in our place; what it gets too late, it lets go.
    let (given, got) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let _ = given.send(kind.wait(&file).map(|()| Lock { _file: file }));
    })?;
    let left = deadline.saturating_duration_since(Instant::now());
    got.recv_timeout(left).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Kind {
    fn wait(self, file: &File) -> io::Result<()> {
        match self {
            Kind::Shared => file.lock_shared(),
            Kind::Exclusive => file.lock(),
        }
    }

    fn attempt(self, file: &File) -> Result<(), TryLockError> {
        match self {
            Kind::Shared => file.try_lock_shared(),
            Kind::Exclusive => file.try_lock(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_waited_for_until_the_deadline_and_no_longer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        let held = take(open(), Kind::Exclusive).unwrap();
        let short = Some(Duration::from_millis(20));
        for kind in [Kind::Shared, Kind::Exclusive] {
            let refused = within(short, || within(Some(Duration::from_secs(60)), || take(open(), kind)));
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        let waiting = std::thread::spawn({
            let file = open();
            move || within(Some(Duration::from_secs(60)), || take(file, Kind::Exclusive)).is_ok()
        });
        drop(held);
        assert!(waiting.join().unwrap());
        assert_eq!(DEADLINE.get(), None);
        // Those who gave up hold nothing.
        assert!(take(open(), Kind::Exclusive).is_ok());
    }
}
