//! Reading files that a configuration names.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::fcntl::OFlag;

/// Reads the first `max` bytes of a file. The call does not wait for a writer of a pipe.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let nonblock = OFlag::O_NONBLOCK.bits();
    read_at_most(&mut OpenOptions::new().read(true).custom_flags(nonblock).open(path)?, max)
}

/// The first `max` bytes of an open file.
///
/// # Errors
/// Those of read(2).
pub fn read_at_most(file: &mut File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max.min(1024)];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            // A regular file returns fewer bytes than requested only at its end (read(2)).
            Ok(read) if len + read < bytes.len() => {
                len += read;
                break;
            }
            Ok(read) => len += read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        }
        if len == bytes.len() {
            if len >= max {
                break;
            }
            bytes.resize((len * 2).min(max), 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads the first `max` bytes of a regular file. A device, a pipe or a socket is not opened: for
/// some devices that alone has an effect. A file system that does not answer is given up after the
/// time limit.
///
/// # Errors
/// Those of open(2) and read(2), [`io::ErrorKind::InvalidInput`] for another kind of file,
/// [`io::ErrorKind::TimedOut`].
pub fn read_regular(path: &Path, max: usize, limit: Duration) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    within(limit, move || {
        // With O_PATH the file is not opened, only found.
        let found = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(&path)?;
        if !found.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        // The same file, even if the path leads to another by now.
        read_bounded(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())), max)
    })
}

/// Runs a function on a thread, which is left to itself after the time limit: a system call on a
/// network file system can't be interrupted.
fn within<T: Send + 'static>(
    limit: Duration,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let _ = sender.send(run());
    })?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "abc").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        let limit = Duration::from_secs(60);
        assert_eq!(read_regular(&path("file"), 2, limit).unwrap(), b"ab");
        assert_eq!(read_regular(&path("link"), 9, limit).unwrap(), b"abc");
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for other in [path("pipe"), folder.path().to_owned(), "/dev/null".into()] {
            let err = read_regular(&other, 9, limit).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::InvalidInput, "{}", other.display());
        }
        assert_eq!(read_regular(&path("none"), 9, limit).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_read_that_does_not_end_is_given_up() {
        let (sender, receiver) = mpsc::channel::<()>();
        let hanging = within(Duration::from_millis(20), move || {
            let _ = receiver.recv();
            Ok(())
        });
        assert_eq!(hanging.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(sender);
    }
}
