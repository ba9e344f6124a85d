//! Network namespaces.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};

use crate::fs::{self, Lock, lock, lock::Kind};
use crate::spec::{Code, Error, Result};

/// The namespace of this thread (`/proc/self` would be that of the process's first thread).
const OWN: &str = "/proc/thread-self/ns/net";

/// `NSFS_MAGIC` of include/uapi/linux/magic.h: the file system of namespace files.
const NSFS: FsType = FsType(0x6e73_6673);

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace at a path, `None` when nothing is there.
    ///
    /// # Errors
    /// [`Code::INVALID_NETNS`] when what is there is no network namespace, [`Code::IO`] when
    /// that can't be known.
    pub fn open(path: &Path) -> Result<Option<Netns>> {
        let opening = |err: std::io::Error| Error::io(format!("opening CNI_NETNS {}", path.display()), err);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(err) => return Err(opening(err)),
        };
        // A namespace of another kind is told apart when it is entered (CLONE_NEWNET below).
        if fstatfs(&file).map_err(|err| opening(err.into()))?.filesystem_type() != NSFS {
            let msg = format!("CNI_NETNS {}: is not a network namespace", path.display());
            return Err(Error::new(Code::INVALID_NETNS, msg).details(
                "a file whose namespace was unmounted or never mounted stays behind as an empty file",
            ));
        }
        Ok(Some(Netns { file, path: path.to_owned() }))
    }

    /// Opens the namespace at a path, which must be there.
    ///
    /// # Errors
    /// [`Code::INVALID_NETNS`] when it is not.
    pub fn open_existing(path: &Path) -> Result<Netns> {
        Netns::open(path)?.ok_or_else(|| {
            Error::new(Code::INVALID_NETNS, format!("CNI_NETNS {}: does not exist", path.display()))
        })
    }

    /// Opens the namespace at a path for DEL, to which it is all the same why there is none: no
    /// path was given, nothing is there, or the file is left over from a namespace that is gone.
    ///
    /// # Errors
    /// [`Code::IO`] where what is there can't be looked at: the namespace may be alive.
    pub fn open_what_is_left(path: Option<&Path>) -> Result<Option<Netns>> {
        match path.map(Netns::open) {
            None => Ok(None),
            Some(Err(err)) if err.code() == Code::INVALID_NETNS => Ok(None),
            Some(opened) => opened,
        }
    }

    /// The namespace that this thread is in.
    ///
    /// # Errors
    /// Where `/proc` is not mounted.
    pub fn own() -> Result<Netns> {
        let file = File::open(OWN).map_err(|err| Error::io(format!("opening {OWN}"), err))?;
        Ok(Netns { file, path: OWN.into() })
    }

    /// Holds the namespace together with others that use it alike, until the lock is dropped.
    /// The lock is flock(2) on the namespace itself: every process on a node finds the same
    /// one, and nothing of it remains on disk.
    ///
    /// # Errors
    /// When the kernel has no such locks, or [`Code::TRY_AGAIN`] where this call's time is over.
    pub fn lock_shared(self) -> Result<Lock> {
        lock::take(self.file, Kind::Shared).map_err(|err| fs::failed("locking", &self.path, err))
    }

    /// Holds the namespace alone, once nobody else holds it.
    ///
    /// # Errors
    /// When the kernel has no such locks, or [`Code::TRY_AGAIN`] where this call's time is over.
    pub fn lock_exclusive(self) -> Result<Lock> {
        lock::take(self.file, Kind::Exclusive).map_err(|err| fs::failed("locking", &self.path, err))
    }

    /// A second handle of the same namespace.
    ///
    /// # Errors
    /// When the process may have no more open files.
    pub fn try_clone(&self) -> Result<Netns> {
        let file = self.file.try_clone().map_err(|err| Error::io("duplicating a namespace handle", err))?;
        Ok(Netns { file, path: self.path.clone() })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a closure inside. The thread is back when this returns, whatever happened: where
    /// the way back fails the process ends rather than go on in the wrong namespace.
    ///
    /// # Errors
    /// [`Code::INVALID_NETNS`] when it is a namespace of another kind, or may not be entered.
    pub fn enter<T>(&self, inside: impl FnOnce() -> T) -> Result<T> {
        let home = File::open(OWN).map_err(|err| Error::io(format!("opening {OWN}"), err))?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|err| {
            Error::new(
                Code::INVALID_NETNS,
                format!("entering CNI_NETNS {}: {}", self.path.display(), err.desc()),
            )
        })?;
        let _back = Back(home);
        Ok(inside())
    }
}

/// The way back of [`Netns::enter`].
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Refuses a path that is the namespace this thread is in: an interface would be made, or
/// deleted, on the host itself.
///
/// # Errors
/// [`Code::INVALID_NETNS`].
pub fn refuse_own(path: &Path) -> Result<()> {
    let (Ok(theirs), Ok(own)) = (std::fs::metadata(path), std::fs::metadata(OWN)) else {
        return Ok(());
    };
    if (theirs.dev(), theirs.ino()) != (own.dev(), own.ino()) {
        return Ok(());
    }
    Err(Error::new(
        Code::INVALID_NETNS,
        format!("CNI_NETNS {} is the network namespace of the plugin itself", path.display()),
    )
    .details("CNI_NETNS_OVERRIDE=1 allows it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_is_opened() {
        assert!(Netns::open(Path::new("/nonexistent")).unwrap().is_none());
        assert_eq!(Netns::open_existing(Path::new("/nonexistent")).unwrap_err().code(), Code::INVALID_NETNS);
        assert_eq!(Netns::open(Path::new("/proc/self/exe")).unwrap_err().code(), Code::INVALID_NETNS);
        assert_eq!(Netns::open(Path::new("/tmp")).unwrap_err().code(), Code::INVALID_NETNS);
        assert!(Netns::open(Path::new(OWN)).unwrap().is_some());
        for left in [None, Some("/nonexistent"), Some("/proc/self/exe"), Some("/proc/self/exe/net")] {
            assert!(Netns::open_what_is_left(left.map(Path::new)).unwrap().is_none());
        }
        let too_long = format!("/{}", "n".repeat(300));
        assert_eq!(Netns::open_what_is_left(Some(Path::new(&too_long))).unwrap_err().code(), Code::IO);
    }

    #[test]
    fn the_own_namespace_is_refused() {
        assert_eq!(refuse_own(Path::new(OWN)).unwrap_err().code(), Code::INVALID_NETNS);
        assert!(refuse_own(Path::new("/proc/self/exe")).is_ok());
    }

    #[test]
    fn a_lock_keeps_others_out() {
        let held = Netns::own().unwrap().lock_shared().unwrap();
        let _too = Netns::own().unwrap().lock_shared().unwrap();
        assert!(Netns::own().unwrap().file.try_lock().is_err());
        drop((held, _too));
        let other = Netns::own().unwrap();
        assert!(other.file.try_lock().is_ok());
    }

    #[test]
    fn a_namespace_of_another_kind_is_not_entered() {
        let other = Netns::open(Path::new("/proc/self/ns/uts")).unwrap().unwrap();
        assert_eq!(other.enter(|| ()).unwrap_err().code(), Code::INVALID_NETNS);
    }
}
