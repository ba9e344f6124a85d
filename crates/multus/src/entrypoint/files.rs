//! Files in `/etc` and `/opt`, replaced atomically and synchronised to disk: unlike the state in
//! `/run` and `/var`, no later call writes them again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cni_core::fs::replace_synced;

use super::{Context as _, Result};

/// Writes `bytes` to `path` with `mode`; a reader sees the old file or the new one.
///
/// # Errors
/// The folder can't be written; the file at `path` is untouched then.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace_synced(path, mode, |file| file.write_all(bytes))
        .context(|| format!("can't write {}", path.display()))
}

/// Copies a file with its mode, atomically. A process that runs the old program at `to` keeps it.
///
/// # Errors
/// `from` can't be read, or the folder of `to` can't be written.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || -> io::Result<()> {
        let mut source = File::open(from)?;
        let mode = source.metadata()?.permissions().mode() & 0o7777;
        replace_synced(to, mode, |file| io::copy(&mut source, file).map(drop))
    };
    copied().context(|| format!("can't copy {} to {}", from.display(), to.display()))
}

/// Removes a file; a missing one is no error.
///
/// # Errors
/// Those of unlink(2).
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).context(|| format!("can't remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_written_file_has_its_mode_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "old").unwrap();
        write(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["secret"]);
    }

    #[test]
    fn a_copy_has_the_mode_of_its_source_and_another_inode_than_the_file_that_it_replaces() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "program").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(&to, "running").unwrap();
        let running = fs::metadata(&to).unwrap().ino();
        copy(&from, &to).unwrap();
        let copied = fs::metadata(&to).unwrap();
        assert_eq!(copied.permissions().mode() & 0o7777, 0o777, "whatever the umask is");
        assert_ne!(copied.ino(), running);
        assert_eq!(names(folder.path()), ["from", "to"]);
    }

    #[test]
    fn a_copy_that_fails_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        fs::write(&to, "old").unwrap();
        let err = copy(&folder.path().join("missing"), &to).unwrap_err().to_string();
        assert!(err.contains("missing"), "{err}");
        // A folder can be opened and not read.
        copy(folder.path(), &to).unwrap_err();
        assert_eq!(fs::read(&to).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["to"]);
    }

    #[test]
    fn a_missing_file_counts_as_removed() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("never")).unwrap();
        remove(folder.path()).unwrap_err();
    }
}
