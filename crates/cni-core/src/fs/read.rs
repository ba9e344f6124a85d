//! Reading files that a configuration names.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
/// some devices that alone has an effect. The file is closed when this returns.
///
/// # Errors
/// Those of open(2) and read(2), [`io::ErrorKind::InvalidInput`] for another kind of file.
pub fn read_regular(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    // With O_PATH the file is not opened, only found.
    let found = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)?;
    if !found.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // The same file, even if the path leads to another by now.
    read_bounded(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())), max)
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
        assert_eq!(read_regular(&path("file"), 2).unwrap(), b"ab");
        assert_eq!(read_regular(&path("link"), 9).unwrap(), b"abc");
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for other in [path("pipe"), folder.path().to_owned(), "/dev/null".into()] {
            let err = read_regular(&other, 9).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::InvalidInput, "{}", other.display());
        }
        assert_eq!(read_regular(&path("none"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
