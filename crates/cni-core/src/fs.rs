//! Files that appear whole or not at all, and locks that several processes respect.
//!
//! ```
//! use cni_core::fs::Folder;
//!
//! # fn main() -> std::io::Result<()> {
//! let place = std::env::temp_dir().join(format!("cni-core-fs-{}", std::process::id()));
//! let folder = Folder::open_or_create(&place)?;
//! let _lock = folder.lock("lock")?;
//! assert!(folder.create("10.1.2.3", b"container", 0o600, None)?);
//! assert!(!folder.create("10.1.2.3", b"another", 0o600, None)?, "it is held");
//! # std::fs::remove_dir_all(&place)
//! # }
//! ```

mod attribute;
pub(crate) mod lock;
mod stat;

use std::ffi::{CStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, UnlinkatFlags, access, linkat, unlinkat};

pub use attribute::attribute;
pub use lock::Lock;
pub use stat::{Stat, Timestamp};

use crate::spec::{Code, Error};

/// How the names of files begin that are not whole yet. What a killed process left under
/// such a name is worth nothing, and whoever holds the folder's lock may remove it.
pub const UNFINISHED: &str = ".oxcni-";

/// An open folder. Names are those of files directly in it: anything else is refused, so
/// that no name can lead out of it.
#[derive(Debug)]
pub struct Folder {
    file: File,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that exists.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let file = File::from(openat(AT_FDCWD, path, flags, Mode::empty())?);
        Ok(Folder { file, path: path.to_owned() })
    }

    /// Opens a folder, made first with all above it (mode 0755) where it does not exist.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn open_or_create(path: &Path) -> io::Result<Folder> {
        Folder::open_or_create_with(path, 0o755)
    }

    /// [`Folder::open_or_create`] with another mode for what is made.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn open_or_create_with(path: &Path, mode: u32) -> io::Result<Folder> {
        match Folder::open(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(mode).create(path)?;
                Folder::open(path)
            }
            opened => opened,
        }
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device, inode and time of the last change.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn stat(&self) -> io::Result<Stat> {
        let meta = self.file.metadata()?;
        let modified = Timestamp { sec: meta.mtime(), nsec: meta.mtime_nsec() };
        Ok(Stat { dev: meta.dev(), ino: meta.ino(), modified })
    }

    /// Sets the time of the last change.
    ///
    /// # Errors
    /// Those of futimens(3).
    pub fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        Ok(futimens(&self.file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(time.sec, time.nsec))?)
    }

    /// Opens a file to read; `None` when there is none. Symbolic links are not followed, and
    /// a pipe without a writer is not waited for.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match self.openat(name, flags, 0) {
            Ok(file) => Ok(Some(file)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// The content of a file, at most `max` bytes of it; `None` when there is none.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn read(&self, name: &str, max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name)? else {
            return Ok(None);
        };
        read_at_most(&mut file, max).map(Some)
    }

    /// Makes a file that holds `contents` from the moment it can be seen, with an extended
    /// attribute where the file system has those; `false` when the name is taken.
    ///
    /// # Errors
    /// Those of open(2), write(2) and link(2); no file is left then.
    pub fn create(
        &self,
        name: &str,
        contents: &[u8],
        mode: u32,
        attribute: Option<(&CStr, &[u8])>,
    ) -> io::Result<bool> {
        leaf(name)?;
        let fill = |file: &mut File| {
            file.write_all(contents)?;
            if let Some((key, value)) = attribute {
                // Not every file system has attributes, and no caller depends on them.
                let _ = attribute::set_attribute(file, key, value);
            }
            Ok(())
        };
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(&self.file, ".", flags, mode_of(mode)) {
            Ok(fd) => {
                let mut file = File::from(fd);
                fill(&mut file)?;
                // A file without a name gets one through /proc (open(2), "O_TMPFILE").
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                match linkat(AT_FDCWD, unnamed.as_str(), &self.file, name, follow) {
                    Ok(()) => return Ok(true),
                    Err(Errno::EEXIST) => return Ok(false),
                    // No /proc here.
                    Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            // Not on this file system (the same page, "ERRORS").
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.create_by_name(name, mode, fill)
    }

    /// [`Folder::create`] where files without a name are not to be had.
    fn create_by_name(
        &self,
        name: &str,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<bool> {
        let unfinished = self.unfinished(mode, fill)?;
        let linked = linkat(&self.file, unfinished.as_str(), &self.file, name, AtFlags::empty());
        let removed = self.remove(&unfinished);
        match linked {
            Ok(()) => removed.map(|_| true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes a file, in one step in place of the one of that name where there is one.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2); the earlier file is as it was then.
    pub fn replace(&self, name: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        leaf(name)?;
        let unfinished = self.unfinished(mode, |file| file.write_all(contents))?;
        renameat(&self.file, unfinished.as_str(), &self.file, name).map_err(|errno| {
            let _ = self.remove(&unfinished);
            errno.into()
        })
    }

    /// Writes a small file that may be lost, but must never be torn: where it has that length
    /// already, by one write(2) in place; else it is removed first, and missing for a moment.
    ///
    /// That is much faster than [`Folder::replace`]: ext4 writes a file to the disk when it is
    /// renamed over another (ext4(5), "auto_da_alloc").
    ///
    /// # Errors
    /// Those of open(2), write(2), unlink(2) and link(2).
    pub fn rewrite(&self, name: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        if let Ok(file) = self.openat(name, flags, 0)
            && file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == contents.len() as u64)
        {
            return file.write_all_at(contents, 0);
        }
        self.remove(name)?;
        if self.create(name, contents, mode, None)? {
            Ok(())
        } else {
            Err(io::ErrorKind::AlreadyExists.into())
        }
    }

    /// Makes a file under a name that no other process uses, and gives the name.
    fn unfinished(&self, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nonce = nanoseconds_now();
        let name = format!("{UNFINISHED}{}-{count}-{nonce}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = self.openat(&name, flags, mode)?;
        match fill(&mut file) {
            Ok(()) => Ok(name),
            Err(err) => {
                let _ = self.remove(&name);
                Err(err)
            }
        }
    }

    /// Removes a file; `false` when there is none.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        leaf(name)?;
        match unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the exclusive lock on a file of the folder, which is made where it is
    /// missing (flock(2)).
    ///
    /// # Errors
    /// Those of open(2) and flock(2); [`io::ErrorKind::TimedOut`] where this call's time is over.
    pub fn lock(&self, name: &str) -> io::Result<Lock> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = self.openat(name, flags, 0o600)?;
        lock::take(file, lock::Kind::Exclusive)
    }

    /// The names of all that is in the folder, in no order.
    ///
    /// # Errors
    /// Those of getdents(2).
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        Ok(std::fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name())))
    }

    fn openat(&self, name: &str, flags: OFlag, mode: u32) -> io::Result<File> {
        leaf(name)?;
        Ok(openat(&self.file, name, flags, mode_of(mode))?.into())
    }
}

/// Reads a file whose place a configuration names: at most `max` bytes, without waiting for
/// a writer where it is a pipe.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let nonblock = OFlag::O_NONBLOCK.bits();
    read_at_most(&mut OpenOptions::new().read(true).custom_flags(nonblock).open(path)?, max)
}

/// Writes a file, in one step in place of the one of that name where there is one.
///
/// # Errors
/// Those of [`Folder::replace`], and a path without a file name.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Folder::open(parent.unwrap_or(Path::new(".")))?.replace(name, contents, mode)
}

/// Writes a file that must survive a crash of the machine, in one step in place of the one of that
/// name where there is one: `fill` writes the content, and content and name are on disk when this
/// returns. The file has exactly the `mode`, whatever the umask is.
///
/// # Errors
/// Those of `fill`, open(2), fsync(2) and rename(2); the earlier file is as it was then, unless only
/// the folder could not be synchronised.
pub fn replace_synced(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = Folder::open(parent.unwrap_or(Path::new(".")))?;
    let unfinished = folder.unfinished(mode & 0o700, |file| {
        fill(file)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    })?;
    renameat(&folder.file, unfinished.as_str(), &folder.file, name).map_err(|errno| {
        let _ = folder.remove(&unfinished);
        io::Error::from(errno)
    })?;
    folder.file.sync_all()
}

/// Whether this process may make files in a folder (access(2)).
///
/// # Errors
/// Why not.
pub fn check_writable(path: &Path) -> io::Result<()> {
    Ok(access(path, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// The error of something done to a file: what, which, what the system said, what helps.
pub fn failed(doing: &str, path: &Path, err: io::Error) -> Error {
    let help = match err.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC) => "the file system is full (df, df -i)",
        Some(Errno::EDQUOT) => "the quota on this file system is used up",
        Some(Errno::EROFS) => "the file system is mounted read-only",
        Some(Errno::EACCES | Errno::EPERM) => "a plugin has to run as root",
        Some(Errno::ENOTDIR) => "a file stands where a folder should be",
        Some(Errno::EISDIR) => "a folder stands where a file should be",
        Some(Errno::ELOOP) => "symbolic links are not followed here",
        _ => "",
    };
    if err.kind() == io::ErrorKind::TimedOut {
        let msg = format!("{doing} {}: it took too long", path.display());
        return Error::new(Code::TRY_AGAIN, msg).details("another call holds it (fuser tells which)");
    }
    Error::io(format_args!("{doing} {}", path.display()), err).details(help)
}

/// The part of the time below a second, from the clock that needs no system call.
pub fn nanoseconds_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.subsec_nanos())
}

/// The content of an open file, at most `max` bytes of it.
///
/// # Errors
/// Those of read(2).
pub fn read_at_most(file: &mut File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max.min(1024)];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            // A file gives less than was asked for only at its end (read(2)).
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

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// Refuses a name that is not one of a file directly in a folder.
fn leaf(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
