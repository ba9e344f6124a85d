//! Locks between processes, with the time limit of the call.
//!
//! A plugin in a process of its own is killed after its time limit. A plugin in the process of
//! its caller can't be killed, and what it can hang at is a lock, or the daemon of dhcp, which is waited for
//! as long as [`crate::delegate::remaining`] says.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The time that a lock is waited for where the caller sets no limit: less than the minute that
/// runtimes give to a DEL.
const LIMIT: Duration = Duration::from_secs(50);

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

/// What is left of the time limit of [`within`]; `None` outside.
pub(crate) fn remaining() -> Option<Duration> {
    Some(DEADLINE.get()?.saturating_duration_since(Instant::now()))
}

/// When a lock is given up.
fn deadline() -> Instant {
    DEADLINE.get().unwrap_or_else(|| Instant::now() + LIMIT)
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
    let deadline = deadline();
    match kind.attempt(&file) {
        Ok(()) => return Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(err)) => return Err(err),
    }
    // flock(2) has no time limit, and repeated attempts would let other processes overtake. A
    // thread waits instead; it releases a lock that it gets too late.
    let id = FileId::of(&file);
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let _ = sender.send(kind.wait(&file).map(|()| Lock { _file: file }));
    })?;
    let remaining = deadline.saturating_duration_since(Instant::now());
    receiver
        .recv_timeout(remaining)
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, describe_holders(id.ok()))))
}

/// A file as /proc/locks names it.
struct FileId(String);

impl FileId {
    fn of(file: &File) -> io::Result<FileId> {
        let meta = file.metadata()?;
        let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
        Ok(FileId(format!("{major:02x}:{minor:02x}:{}", meta.ino())))
    }
}

/// Which processes hold the lock on a file, as far as they can be seen from here (proc_locks(5)).
fn describe_holders(file: Option<FileId>) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    // Such as `1: FLOCK  ADVISORY  WRITE 1234 00:17:56 0 EOF`; a process that waits has `->` after the number.
    let holder = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, id, ..] = fields[..] else { return None };
        file.as_ref().filter(|file| file.0 == id)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim_end()))
    };
    let holders: Vec<String> = locks.lines().filter_map(holder).take(8).collect();
    match holders.is_empty() {
        true => "another process holds the lock".to_owned(),
        false => format!("the lock is held by {}", holders.join(", ")),
    }
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
    fn a_plugin_that_stands_alone_gives_a_lock_up_before_its_runtime_gives_it_up() {
        let minute = Instant::now() + Duration::from_secs(60);
        assert!(deadline() < minute);
        within(Some(Duration::from_secs(90)), || assert!(deadline() > minute));
    }

    #[test]
    fn a_lock_is_waited_for_until_the_deadline_and_no_longer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        let held = take(open(), Kind::Exclusive).unwrap();
        let short = Some(Duration::from_millis(20));
        for kind in [Kind::Shared, Kind::Exclusive] {
            let refused = within(short, || within(Some(Duration::from_secs(60)), || take(open(), kind)));
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
            let own = format!("process {} (", std::process::id());
            assert!(refused.to_string().contains(&own), "{refused}");
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
