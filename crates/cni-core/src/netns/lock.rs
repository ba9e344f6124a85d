//! The lock of the network namespace that this thread is in: what several plugins change there
//! together, they change one after another.
//!
//! It is flock(2) on a file that only root can open. The namespace itself would do as the file, but
//! every user of the host can open that and hold a lock on it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::OWN;
use crate::fs::{Folder, Lock, failed};
use crate::spec::{Error, Result};

const FOLDER: &str = "/run/oxcni/locks";

/// Holds the namespace together with others that hold it shared.
///
/// # Errors
/// When the file can't be made, or [`crate::spec::Code::TRY_AGAIN`] when the time of this call is over.
pub fn shared() -> Result<Lock> {
    take(Path::new(FOLDER), Folder::lock_shared)
}

/// Holds the namespace alone.
///
/// # Errors
/// As [`shared`].
pub fn exclusive() -> Result<Lock> {
    take(Path::new(FOLDER), Folder::lock)
}

/// Takes the lock of the namespace, whose file is named by the numbers that are its own as long as
/// it exists.
fn take(path: &Path, lock: impl FnOnce(&Folder, &str) -> io::Result<Lock>) -> Result<Lock> {
    let own = fs::metadata(OWN).map_err(|err| Error::io(format!("opening {OWN}"), err))?;
    let folder = Folder::open_or_create_with(path, 0o700);
    let folder = folder.map_err(|err| failed("making the folder", path, err))?;
    let name = format!("netns-{}-{}", own.dev(), own.ino());
    lock(&folder, &name).map_err(|err| failed("locking", &path.join(&name), err))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fs::lock::within;
    use crate::spec::Code;

    #[test]
    fn a_lock_keeps_other_calls_out_and_nobody_else_can_open_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("locks");
        let held = [take(&path, Folder::lock_shared).unwrap(), take(&path, Folder::lock_shared).unwrap()];
        let alone = || within(Some(Duration::from_millis(20)), || take(&path, Folder::lock));
        let error = alone().unwrap_err();
        assert_eq!(error.code(), Code::TRY_AGAIN);
        assert!(error.to_string().contains(&format!("process {} ", std::process::id())), "{error}");
        drop(held);
        assert!(alone().is_ok());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let file = fs::read_dir(&path).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }
}
