//! Installing the program under the names of its plugins.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// The name of the program itself.
const PROGRAM: &str = "oxcni";

/// The beginning of the names of staging folders.
const STAGE: &str = ".oxcni-install-";

/// Operations that not all file systems have.
#[derive(Clone, Copy)]
struct FileSystem {
    hard_link: fn(&Path, &Path) -> io::Result<()>,
    exchange: fn(&Path, &Path) -> Result<(), Errno>,
}

const PLAIN: FileSystem = FileSystem { hard_link: |from, to| fs::hard_link(from, to), exchange };

/// Puts the running program into a folder, and links to it under the names; returns the kind of links.
///
/// All files are made in a folder of their own first and then exchanged with those that are there, which
/// does not disturb a file that is being executed. If an exchange fails, those before it are reverted.
///
/// # Errors
/// What could not be done to which file; the folder is as it was then.
pub(crate) fn install(folder: &Path, names: &[&str]) -> Result<&'static str, String> {
    install_on(PLAIN, folder, names)
}

fn install_on(files: FileSystem, folder: &Path, names: &[&str]) -> Result<&'static str, String> {
    // Where a file system has no locks, files of a killed installation stay.
    let lock = with_path(fs::File::open(folder), "opening", folder)?;
    if lock.lock().is_ok() {
        clear_stages(folder);
    }
    let staged = Staged::new(files, folder)?;
    staged.prepare(names).and_then(|how| staged.swap(names).map(|()| how))
}

/// Removes the folders of killed installations: a running one holds the lock.
fn clear_stages(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGE) {
            // One that stays disturbs no call.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// An installation in its staging folder, which is removed with it.
struct Staged<'a> {
    files: FileSystem,
    folder: &'a Path,
    stage: PathBuf,
}

/// What was at a name before.
enum Before {
    Nothing,
    /// A file, which is in the staging folder now.
    File,
}

impl Drop for Staged<'_> {
    /// Removes the remaining files: unused links after a failure, old files after success.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.stage);
    }
}

impl Staged<'_> {
    fn new(files: FileSystem, folder: &Path) -> Result<Staged<'_>, String> {
        // Not the process id: in a container it is 1 each time.
        let stage = folder.join(format!("{STAGE}{:016x}", RandomState::new().hash_one(std::process::id())));
        // Whoever can write there can replace what is about to be installed.
        with_path(fs::DirBuilder::new().mode(0o700).create(&stage), "making", &stage)?;
        Ok(Staged { files, folder, stage })
    }

    fn prepare(&self, names: &[&str]) -> Result<&'static str, String> {
        let program = self.stage.join(PROGRAM);
        let copied = fs::copy("/proc/self/exe", &program)
            .and_then(|_| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::File::open(&program)?.sync_all());
        with_path(copied, "writing", &program)?;
        let mut how = "hard links";
        for name in names {
            let link = self.stage.join(name);
            if (self.files.hard_link)(&program, &link).is_err() {
                how = "symbolic links";
                with_path(symlink(PROGRAM, &link), "linking", &link)?;
            }
        }
        Ok(how)
    }

    fn swap(&self, names: &[&str]) -> Result<(), String> {
        let mut done: Vec<(&str, Before)> = Vec::new();
        for name in std::iter::once(&PROGRAM).chain(names) {
            match self.swap_one(name) {
                Ok(before) => done.push((name, before)),
                Err(err) => {
                    let target = self.folder.join(name);
                    done.into_iter().rev().for_each(|(name, before)| self.restore(name, before));
                    return Err(format!("installing {}: {err}", target.display()));
                }
            }
        }
        Ok(())
    }

    /// At no moment is there no file by that name: a runtime may be about to execute it.
    fn swap_one(&self, name: &str) -> io::Result<Before> {
        let (new, target) = (self.stage.join(name), self.folder.join(name));
        // An exchange would move the folder away.
        if fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        match (self.files.exchange)(&new, &target) {
            Ok(()) => Ok(Before::File),
            Err(Errno::ENOENT) => fs::rename(&new, &target).map(|()| Before::Nothing),
            // Errors of NFS and FUSE, which do not support it.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => self.replace(&new, &target),
            Err(err) => Err(err.into()),
        }
    }

    /// Exchanges two files in steps.
    fn replace(&self, new: &Path, target: &Path) -> io::Result<Before> {
        let aside = self.stage.join("aside");
        match (self.files.hard_link)(target, &aside) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return fs::rename(new, target).map(|()| Before::Nothing);
            }
            linked => linked?,
        }
        fs::rename(new, target)?;
        fs::rename(&aside, new).map(|()| Before::File)
    }

    fn restore(&self, name: &str, before: Before) {
        let (old, target) = (self.stage.join(name), self.folder.join(name));
        let _ = match before {
            Before::Nothing => fs::remove_file(target),
            Before::File => fs::rename(old, target),
        };
    }
}

/// Gives each of two files the other's name, at once (renameat2(2)).
fn exchange(a: &Path, b: &Path) -> Result<(), Errno> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
}

fn with_path<T>(result: io::Result<T>, operation: &str, path: &Path) -> Result<T, String> {
    result.map_err(|err| format!("{operation} {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(folder: &Path) -> Vec<String> {
        let entry = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(entry).collect();
        names.sort();
        names
    }

    #[test]
    fn all_names_are_one_file() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bridge"), "old").unwrap();
        assert_eq!(install(folder.path(), &["bridge", "loopback"]), Ok("hard links"));
        assert_eq!(listing(folder.path()), ["bridge", "loopback", "oxcni"]);
        let inode = |name| fs::metadata(folder.path().join(name)).unwrap().ino();
        assert!(inode("bridge") == inode("oxcni") && inode("loopback") == inode("oxcni"));
    }

    #[test]
    fn the_folder_of_a_killed_installation_is_removed_and_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bridge"), "in use").unwrap();
        let killed = Staged::new(PLAIN, folder.path()).unwrap();
        // Killed when its old file had become a link of what is still in use.
        fs::hard_link(folder.path().join("bridge"), killed.stage.join(PROGRAM)).unwrap();
        let in_use = folder.path().join("kept");
        fs::hard_link(folder.path().join("bridge"), &in_use).unwrap();
        std::mem::forget(killed);
        install(folder.path(), &["bridge"]).unwrap();
        assert_eq!(listing(folder.path()), ["bridge", "kept", "oxcni"]);
        assert_eq!(fs::read(in_use).unwrap(), b"in use");
    }

    #[test]
    fn nobody_else_reaches_the_files_before_they_are_installed() {
        let folder = tempfile::tempdir().unwrap();
        let staged = Staged::new(PLAIN, folder.path()).unwrap();
        assert_eq!(fs::metadata(&staged.stage).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn without_hard_links_there_are_symbolic_ones() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileSystem { hard_link: |_, _| Err(Errno::EPERM.into()), ..PLAIN };
        assert_eq!(install_on(files, folder.path(), &["bridge", "loopback"]), Ok("symbolic links"));
        assert_eq!(listing(folder.path()), ["bridge", "loopback", "oxcni"]);
        for name in ["bridge", "loopback"] {
            assert_eq!(fs::read_link(folder.path().join(name)).unwrap(), Path::new(PROGRAM));
        }
        // And what they are is replaced in the next installation.
        assert_eq!(install(folder.path(), &["bridge", "loopback"]), Ok("hard links"));
        assert!(fs::symlink_metadata(folder.path().join("bridge")).unwrap().is_file());
    }

    #[test]
    fn where_files_can_not_be_exchanged_they_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileSystem { exchange: |_, _| Err(Errno::EINVAL), ..PLAIN };
        fs::write(folder.path().join("bridge"), "old").unwrap();
        fs::create_dir(folder.path().join("static")).unwrap();
        assert!(install_on(files, folder.path(), &["bridge", "loopback", "static"]).is_err());
        assert_eq!(listing(folder.path()), ["bridge", "static"]);
        assert_eq!(fs::read(folder.path().join("bridge")).unwrap(), b"old");

        assert_eq!(install_on(files, folder.path(), &["bridge", "loopback"]), Ok("hard links"));
        assert_eq!(listing(folder.path()), ["bridge", "loopback", "oxcni", "static"]);
        assert_ne!(fs::read(folder.path().join("bridge")).unwrap(), b"old");
    }

    #[test]
    fn a_failure_leaves_the_folder_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bridge"), "old").unwrap();
        // A name with a slash can't be made.
        let error = install(folder.path(), &["bridge", "missing/loopback"]).unwrap_err();
        assert!(error.contains("loopback"), "{error}");
        assert_eq!(listing(folder.path()), ["bridge"]);
        assert_eq!(fs::read(folder.path().join("bridge")).unwrap(), b"old");
        assert!(install(Path::new("/nonexistent"), &["bridge"]).is_err());
    }
}
