//! Files that appear whole or not at all, and last: these stand in `/etc` and `/opt` and are
//! synchronised to disk, unlike the state under `/run` and `/var` that plugins write on their way.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::{Context as _, Result};

/// Writes `bytes` to `path` with `mode`; whoever opens it sees the old file or the new one.
///
/// # Errors
/// The folder can't be written; what stood at `path` is untouched then.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, mode, |file| file.write_all(bytes)).context(|| format!("can't write {}", path.display()))
}

/// Copies a file with its mode, whole or not at all. A program that runs from `to` goes on
/// running from the file that was there.
///
/// # Errors
/// `from` can't be read, or the folder of `to` can't be written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || -> io::Result<()> {
        let mut source = File::open(from)?;
        let mode = source.metadata()?.permissions().mode();
        replace(to, mode, |file| io::copy(&mut source, file).map(drop))
    };
    copied().context(|| format!("can't copy {} to {}", from.display(), to.display()))
}

/// Removes a file; one that is not there is as good.
///
/// # Errors
/// Whatever keeps it from being removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).context(|| format!("can't remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn replace(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let beside = beside(path);
    let filled = fill_new(&beside, mode, fill).and_then(|()| fs::rename(&beside, path));
    if filled.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&beside);
        return filled;
    }
    // The rename itself lasts only once the folder is on disk.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn fill_new(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // Left by a crash of an earlier process with the same id.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    fill(&mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// A name in the same folder that no runtime takes for a configuration or a plugin.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
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
    fn a_written_file_has_its_mode_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "old").unwrap();
        write(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["secret"]);
    }

    #[test]
    fn a_copy_has_the_mode_of_its_source_and_another_inode_than_what_it_replaces() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "program").unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o755)).unwrap();
        fs::write(&to, "running").unwrap();
        let running = fs::metadata(&to).unwrap().ino();
        copy(&from, &to).unwrap();
        let copied = fs::metadata(&to).unwrap();
        assert_eq!(copied.permissions().mode() & 0o7777, 0o755);
        assert_ne!(copied.ino(), running);
        assert_eq!(names(folder.path()), ["from", "to"]);
    }

    #[test]
    fn a_copy_that_fails_leaves_the_old_file_and_nothing_else() {
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
    fn what_is_gone_counts_as_removed() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("never")).unwrap();
        remove(folder.path()).unwrap_err();
    }
}
