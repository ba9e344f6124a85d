//! Waiting for the file by which the default network says that it is ready.

use std::path::Path;
use std::time::{Duration, Instant};

use cni_core::spec::{Code, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;

/// How long an ADD waits.
pub const LIMIT: Duration = Duration::from_secs(45);

/// Waits until a file exists.
///
/// # Errors
/// [`Code::TRY_AGAIN`] when it does not within the limit.
pub fn wait(file: &Path, limit: Duration) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    match watch(file, deadline) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_there(file, format!("it did not appear within {} s", limit.as_secs_f32()))),
        Err(err) => Err(Error::io(format!("watching for readinessindicatorfile {}", file.display()), err)),
    }
}

/// Requires that the file exists now.
///
/// # Errors
/// [`Code::UNAVAILABLE`] when it does not.
pub fn require(file: &Path) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    Err(not_there(file, "it does not exist".to_owned()).with_code(Code::UNAVAILABLE))
}

fn not_there(file: &Path, why: String) -> Error {
    Error::new(
        Code::TRY_AGAIN,
        format!("the default network is not ready: readinessindicatorfile {}: {why}", file.display()),
    )
    .details("the default network's own pod writes it when it runs")
}

/// Watches the nearest folder that exists, again and again while folders appear.
fn watch(file: &Path, deadline: Instant) -> Result<bool, Errno> {
    loop {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let folder = file.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        match inotify.add_watch(folder, changes) {
            // The folder went away in between: look again.
            Err(Errno::ENOENT) => continue,
            watching => watching?,
        };
        // It may have appeared before the watch was there.
        if file.exists() {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(err) => return Err(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_in_a_folder_that_appears_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/ready");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&file, Duration::from_secs(20)));
            std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
            std::fs::write(&file, "").unwrap();
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn the_wait_is_bounded() {
        let error = wait(Path::new("/nonexistent/ready"), Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.code(), Code::TRY_AGAIN);
        assert!(error.msg().contains("/nonexistent/ready"), "{error}");
        assert_eq!(require(Path::new("/nonexistent/ready")).unwrap_err().code(), Code::UNAVAILABLE);
    }
}
