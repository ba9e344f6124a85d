//! Network namespaces.

pub mod lock;

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};

use crate::spec::{Code, Error, Result};

/// The namespace of this thread (`/proc/self` would be that of the process's first thread).
const OWN: &str = "/proc/thread-self/ns/net";

/// `NSFS_MAGIC` of include/uapi/linux/magic.h: the file system of namespace files.
const NSFS: FsType = FsType(0x6e73_6673);

/// An open network namespace. Clones share one descriptor.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace at a path; `None` when nothing exists there.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`] when the file is not a network namespace, [`Code::IO`] when it can't
    /// be opened.
    pub fn open(path: &Path) -> Result<Option<Netns>> {
        let opening = |err: std::io::Error| Error::io(format!("opening CNI_NETNS {}", path.display()), err);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(err) => return Err(opening(err)),
        };
        // setns(2) with CLONE_NEWNET refuses a namespace of another kind, see `enter`.
        if fstatfs(&file).map_err(|err| opening(err.into()))?.filesystem_type() != NSFS {
            let msg = format!("CNI_NETNS {}: is not a network namespace", path.display());
            return Err(Error::new(Code::INVALID_ENVIRONMENT, msg)
                .details("an empty file remains where a namespace was unmounted or never mounted"));
        }
        Ok(Some(Netns { file: Arc::new(file), path: path.to_owned() }))
    }

    /// Opens the namespace at a path that must exist.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`] when it does not.
    pub fn open_existing(path: &Path) -> Result<Netns> {
        Netns::open(path)?.ok_or_else(|| {
            Error::new(Code::INVALID_ENVIRONMENT, format!("CNI_NETNS {}: does not exist", path.display()))
        })
    }

    /// Opens the namespace at a path for DEL; `None` when there is none: no path was given, nothing
    /// exists there, or the file remains of a namespace that is gone.
    ///
    /// # Errors
    /// [`Code::IO`] when the path can't be opened for another reason: the namespace may exist.
    pub fn open_remaining(path: Option<&Path>) -> Result<Option<Netns>> {
        match path.map(Netns::open) {
            None => Ok(None),
            Some(Err(err)) if err.code() == Code::INVALID_ENVIRONMENT => Ok(None),
            Some(opened) => opened,
        }
    }

    /// The namespace that this thread is in.
    ///
    /// # Errors
    /// Where `/proc` is not mounted.
    pub fn own() -> Result<Netns> {
        let file = File::open(OWN).map_err(|err| Error::io(format!("opening {OWN}"), err))?;
        Ok(Netns { file: Arc::new(file), path: OWN.into() })
    }

    /// Refuses the namespace of this thread, as [`refuse_own`] does. The path may lead elsewhere by the
    /// time that it is opened, so what was opened is compared.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`].
    pub fn require_other(&self) -> Result<()> {
        match (self.file.metadata(), std::fs::metadata(OWN)) {
            (Ok(opened), Ok(own)) if (opened.dev(), opened.ino()) == (own.dev(), own.ino()) => {
                Err(is_own(&self.path))
            }
            _ => Ok(()),
        }
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a closure inside. The thread has returned to its own namespace when this returns, also
    /// after a panic. Where returning fails the process aborts: no code runs in the wrong namespace.
    ///
    /// # Errors
    /// [`Code::INVALID_ENVIRONMENT`] when it is a namespace of another kind, or may not be entered.
    pub fn enter<T>(&self, inside: impl FnOnce() -> T) -> Result<T> {
        let home = File::open(OWN).map_err(|err| Error::io(format!("opening {OWN}"), err))?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|err| {
            Error::new(
                Code::INVALID_ENVIRONMENT,
                format!("entering CNI_NETNS {}: {}", self.path.display(), err.desc()),
            )
        })?;
        let _back = Back(home);
        Ok(inside())
    }
}

/// Returns the thread to its namespace, for [`Netns::enter`].
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

/// Refuses a path that is the namespace of this thread: an interface would be created or
/// deleted on the host itself.
///
/// # Errors
/// [`Code::INVALID_ENVIRONMENT`].
pub fn refuse_own(path: &Path) -> Result<()> {
    match (std::fs::metadata(path), std::fs::metadata(OWN)) {
        (Ok(theirs), Ok(own)) if (theirs.dev(), theirs.ino()) == (own.dev(), own.ino()) => Err(is_own(path)),
        _ => Ok(()),
    }
}

fn is_own(path: &Path) -> Error {
    let msg = format!("CNI_NETNS {} is the network namespace of the plugin itself", path.display());
    Error::new(Code::INVALID_ENVIRONMENT, msg).details("CNI_NETNS_OVERRIDE=1 allows it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_is_opened() {
        assert!(Netns::open(Path::new("/nonexistent")).unwrap().is_none());
        assert_eq!(
            Netns::open_existing(Path::new("/nonexistent")).unwrap_err().code(),
            Code::INVALID_ENVIRONMENT
        );
        assert_eq!(Netns::open(Path::new("/proc/self/exe")).unwrap_err().code(), Code::INVALID_ENVIRONMENT);
        assert_eq!(Netns::open(Path::new("/tmp")).unwrap_err().code(), Code::INVALID_ENVIRONMENT);
        assert!(Netns::open(Path::new(OWN)).unwrap().is_some());
        for left in [None, Some("/nonexistent"), Some("/proc/self/exe"), Some("/proc/self/exe/net")] {
            assert!(Netns::open_remaining(left.map(Path::new)).unwrap().is_none());
        }
        let too_long = format!("/{}", "n".repeat(300));
        assert_eq!(Netns::open_remaining(Some(Path::new(&too_long))).unwrap_err().code(), Code::IO);
    }

    #[test]
    fn the_own_namespace_is_refused() {
        assert_eq!(refuse_own(Path::new(OWN)).unwrap_err().code(), Code::INVALID_ENVIRONMENT);
        assert!(refuse_own(Path::new("/proc/self/exe")).is_ok());
        assert_eq!(Netns::own().unwrap().require_other().unwrap_err().code(), Code::INVALID_ENVIRONMENT);
    }

    #[test]
    fn a_namespace_of_another_kind_is_not_entered() {
        let other = Netns::open(Path::new("/proc/self/ns/uts")).unwrap().unwrap();
        assert_eq!(other.enter(|| ()).unwrap_err().code(), Code::INVALID_ENVIRONMENT);
    }
}
