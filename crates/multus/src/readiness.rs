//! Waiting for the file by which the default network reports that it is ready.

use std::path::Path;
use std::time::{Duration, Instant};

use cni_core::spec::{Code, Error, Result};

use crate::watch::{INTERVAL, Watch};

/// How long an ADD waits.
pub(crate) const LIMIT: Duration = Duration::from_secs(45);

/// Waits until a file exists.
///
/// # Errors
/// [`Code::TRY_AGAIN`] when it does not within the limit.
pub(crate) fn wait(file: &Path, limit: Duration) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    let mut watch = Watch::new();
    loop {
        // The watch comes first, so that no change is lost between the two.
        watch.follow(file);
        if file.exists() {
            return Ok(());
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(not_ready(file, format!("it did not appear within {} s", limit.as_secs_f32())));
        }
        // inotify reports no mount, nor the target of a link that leads nowhere yet.
        watch.wait(None, Some(remaining.min(INTERVAL))).map_err(|errno| {
            Error::io(format!("watching for readinessindicatorfile {}", file.display()), errno)
        })?;
    }
}

/// Requires that the file exists now.
///
/// # Errors
/// [`Code::UNAVAILABLE`] when it does not.
pub(crate) fn require(file: &Path) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    Err(not_ready(file, "it does not exist".to_owned()).with_code(Code::UNAVAILABLE))
}

fn not_ready(file: &Path, why: String) -> Error {
    Error::new(
        Code::TRY_AGAIN,
        format!("the default network is not ready: readinessindicatorfile {}: {why}", file.display()),
    )
    .details("the default network's own pod writes it when it runs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_behind_a_link_to_nowhere_is_noticed() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, target) = (folder.path().join("ready"), other.path().join("target"));
        std::os::unix::fs::symlink(&target, &file).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&file, Duration::from_secs(20)));
            std::fs::write(&target, "").unwrap();
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
