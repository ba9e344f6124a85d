//! Files that appear with their whole content, and locks between processes.
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
mod read;
mod stat;

use std::ffi::{CStr, OsString};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, UnlinkatFlags, access, linkat, unlinkat};

pub use attribute::attribute;
pub use lock::Lock;
pub use read::{read_at_most, read_bounded, read_regular};
pub use stat::{Stat, Timestamp};

use crate::spec::{Code, Error};

/// The beginning of the temporary names of unfinished files. A killed process leaves such a
/// file; the holder of the folder's lock may remove it.
pub const UNFINISHED: &str = ".oxcni-";

/// An open folder. A name must be that of a file directly in it; a path is refused.
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

    /// Opens a folder. Where it is missing, it and its missing parents are made with mode 0755.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn open_or_create(path: &Path) -> io::Result<Folder> {
        Folder::open_or_create_with(path, 0o755)
    }

    /// [`Folder::open_or_create`] with another mode for new folders.
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

    /// The path by which it was opened.
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

    /// Whether it is on a file system that other machines can have mounted, too: NFS, SMB, 9P, FUSE
    /// (virtiofs among others), Ceph, Lustre, GPFS, BeeGFS, GFS2, OCFS2, AFS.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn is_on_network(&self) -> io::Result<bool> {
        // include/uapi/linux/magic.h, and of those that are not in the kernel's tree their sources.
        const MAGIC: [i64; 13] = [
            0x6969,
            0x517b,
            0xff53_4d42,
            0xfe53_4d42,
            0x0102_1997,
            0x6573_5546,
            0x00c3_6400,
            0x0bd0_0bd0,
            0x4750_4653,
            0x1983_0326,
            0x0116_1970,
            0x7461_636f,
            0x5346_414f,
        ];
        let magic = nix::sys::statfs::fstatfs(&self.file)?.filesystem_type().0 as i64;
        // The kernel's numbers have 32 bits; some C libraries extend their sign.
        Ok(MAGIC.contains(&(magic & 0xffff_ffff)))
    }

    /// Sets the time of the last change.
    ///
    /// # Errors
    /// Those of futimens(3).
    pub fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        Ok(futimens(&self.file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(time.sec, time.nsec))?)
    }

    /// Opens a file to read; `None` where it is missing. Symbolic links are not followed, and
    /// the call does not wait for a writer of a pipe.
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

    /// The first `max` bytes of a file; `None` where it is missing.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn read(&self, name: &str, max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name)? else {
            return Ok(None);
        };
        read_at_most(&mut file, max).map(Some)
    }

    /// Makes a file atomically: it has all of `contents` as soon as it is visible, and an
    /// extended attribute where the file system supports that. `false` where the name exists.
    ///
    /// # Errors
    /// Those of open(2), write(2) and link(2); no file remains then.
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
                // Not every file system supports attributes, and no caller depends on them.
                let _ = attribute::set_attribute(file, key, value);
            }
            Ok(())
        };
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(&self.file, ".", flags, mode_of(mode)) {
            Ok(fd) => {
                let mut file = File::from(fd);
                fill(&mut file)?;
                // The path in /proc gives the unnamed file a name (open(2), "O_TMPFILE").
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                match linkat(AT_FDCWD, unnamed.as_str(), &self.file, name, follow) {
                    Ok(()) => {
                        return close(file).map(|()| true).inspect_err(|_| drop(self.remove(name)));
                    }
                    Err(Errno::EEXIST) => return Ok(false),
                    // /proc is not mounted.
                    Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            // The file system does not support O_TMPFILE (open(2), "ERRORS").
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.create_by_name(name, mode, fill)
    }

    /// [`Folder::create`] where O_TMPFILE is not supported.
    fn create_by_name(
        &self,
        name: &str,
        mode: u32,
        fill: impl Fn(&mut File) -> io::Result<()>,
    ) -> io::Result<bool> {
        let unfinished = self.unfinished(mode, &fill)?;
        let linked = linkat(&self.file, unfinished.as_str(), &self.file, name, AtFlags::empty());
        let removed = self.remove(&unfinished);
        match linked {
            Ok(()) => removed.map(|_| true),
            Err(Errno::EEXIST) => Ok(false),
            // The file system has no hard links (link(2), "ERRORS"; FUSE returns the last two).
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS) => self.create_in_place(name, mode, fill),
            Err(errno) => Err(errno.into()),
        }
    }

    /// [`Folder::create`] where the file system has no hard links. A reader without the caller's
    /// lock may see an empty file, as may the next process after this one is killed.
    fn create_in_place(
        &self,
        name: &str,
        mode: u32,
        fill: impl Fn(&mut File) -> io::Result<()>,
    ) -> io::Result<bool> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = match self.openat(name, flags, mode) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(err) => return Err(err),
        };
        let filled = fill(&mut file).and_then(|()| close(file));
        filled.map(|()| true).inspect_err(|_| drop(self.remove(name)))
    }

    /// Writes a file and atomically replaces the one of that name.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2); the earlier file is unchanged then.
    pub fn replace(&self, name: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        leaf(name)?;
        let unfinished = self.unfinished(mode, |file| file.write_all(contents))?;
        renameat(&self.file, unfinished.as_str(), &self.file, name).map_err(|errno| {
            let _ = self.remove(&unfinished);
            errno.into()
        })
    }

    /// Writes a small file that may be lost, but never torn. A file of the same length is
    /// overwritten by one write(2); another is removed first, so that it is missing for a moment.
    ///
    /// This is much faster than [`Folder::replace`]: ext4 writes a file to the disk when it is
    /// renamed over another (ext4(5), "auto_da_alloc").
    ///
    /// # Errors
    /// Those of open(2), write(2), unlink(2) and link(2).
    pub fn rewrite(&self, name: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        if let Ok(file) = self.openat(name, flags, 0)
            && file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == contents.len() as u64)
        {
            file.write_all_at(contents, 0)?;
            return close(file);
        }
        self.remove(name)?;
        if self.create(name, contents, mode, None)? {
            Ok(())
        } else {
            Err(io::ErrorKind::AlreadyExists.into())
        }
    }

    /// Writes a file in place, which is made where it is missing. A reader without the
    /// caller's lock may see a part of it.
    ///
    /// The file is cut off after the write: ext4 writes a file to the disk that was cut off at
    /// 0 before (ext4(5), "auto_da_alloc").
    ///
    /// # Errors
    /// Those of open(2), write(2) and ftruncate(2).
    pub fn overwrite(&self, name: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = self.openat(name, flags, mode)?;
        file.write_all_at(contents, 0)?;
        file.set_len(contents.len() as u64)?;
        close(file)
    }

    /// Makes a file under a name that no other process uses, and returns the name.
    fn unfinished(&self, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nonce = nanoseconds_now();
        let name = format!("{UNFINISHED}{}-{count}-{nonce}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = self.openat(&name, flags, mode)?;
        match fill(&mut file).and_then(|()| close(file)) {
            Ok(()) => Ok(name),
            Err(err) => {
                let _ = self.remove(&name);
                Err(err)
            }
        }
    }

    /// Removes a file; `false` where it is missing.
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

    /// Waits for the exclusive lock on a file of the folder (flock(2)). A missing file is created.
    ///
    /// # Errors
    /// Those of open(2) and flock(2); [`io::ErrorKind::TimedOut`] after the time limit of the call.
    pub fn lock(&self, name: &str) -> io::Result<Lock> {
        lock::take(self.lock_file(name)?, lock::Kind::Exclusive)
    }

    /// Waits for a lock that several processes may hold together, see [`Folder::lock`].
    ///
    /// # Errors
    /// As [`Folder::lock`].
    pub fn lock_shared(&self, name: &str) -> io::Result<Lock> {
        lock::take(self.lock_file(name)?, lock::Kind::Shared)
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        self.openat(name, flags, 0o600)
    }

    /// The names of all entries of the folder, unordered.
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

/// Writes a file and atomically replaces the one of that name.
///
/// # Errors
/// Those of [`Folder::replace`], and a path without a file name.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Folder::open(parent.unwrap_or(Path::new(".")))?.replace(name, contents, mode)
}

/// Writes a file and atomically replaces the one of that name. `fill` writes the content. Content
/// and name are on disk when this returns, and the file has exactly the `mode`, whatever the
/// umask is.
///
/// # Errors
/// Those of `fill`, open(2), fsync(2) and rename(2). The earlier file is unchanged then, unless only
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

/// Checks that this process may make files in a folder.
///
/// # Errors
/// Those of access(2).
pub fn check_writable(path: &Path) -> io::Result<()> {
    Ok(access(path, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// The error of an operation on a file: the operation, the path, the system's message, and what
/// to do about it.
pub fn failed(operation: &str, path: &Path, err: io::Error) -> Error {
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
        let msg = format!("{operation} {}: it took too long", path.display());
        return Error::new(Code::TRY_AGAIN, msg).details(err.to_string());
    }
    Error::io(format_args!("{operation} {}", path.display()), err).details(help)
}

/// The nanoseconds of the current time within its second.
pub fn nanoseconds_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.subsec_nanos())
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// Closes a file. NFS reports at the end that there was no space for what was written (close(2)).
fn close(file: File) -> io::Result<()> {
    Ok(nix::unistd::close(file)?)
}

/// Refuses a name that is not that of a file directly in a folder.
fn leaf(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
