//! Locks between processes, with the time limit of the call.
//!
//! A plugin in a process of its own is killed after its time limit. A plugin in the process of
//! its caller can't be killed, and the only thing it can hang at is a lock.

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

/// Which other locks a lock excludes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Exclusive ones.
    Shared,
    /// All.
    Exclusive,
}

/// Runs a closure in which this thread waits for locks until the time limit at most, and until
/// that of an enclosing call.
pub(crate) fn within<T>(limit: Option<Duration>, work: impl FnOnce() -> T) -> T {
    let outer = DEADLINE.get();
    let own = limit.map(|limit| Instant::now() + limit);
    let _restored = Restore(outer);
    DEADLINE.set(own.into_iter().chain(outer).min());
    work()
}

/// Restores the limit of the enclosing call at the end of [`within`].
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
    // flock(2) has no time limit, and repeated attempts would let other processes overtake. A
    // thread waits instead; it releases a lock that it gets too late.
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let _ = sender.send(kind.wait(&file).map(|()| Lock { _file: file }));
    })?;
    let remaining = deadline.saturating_duration_since(Instant::now());
    receiver.recv_timeout(remaining).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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
        // The attempts that timed out hold no lock.
        assert!(take(open(), Kind::Exclusive).is_ok());
    }
}
