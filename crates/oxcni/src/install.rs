//! Installing the program under the names of its plugins.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// The name of the program itself.
const PROGRAM: &str = "oxcni";

/// Puts the running program into a folder, and links to it under the names; says how it linked.
///
/// Everything is made under temporary names first and then changes places with what is there,
/// which does not disturb a file that is being executed. When one can't, all change back.
///
/// # Errors
/// What could not be done to which file; the folder is as it was then.
pub(crate) fn install(folder: &Path, names: &[&str]) -> Result<&'static str, String> {
    let staged = Staged { folder, mark: std::process::id() };
    let result = staged.prepare(names).and_then(|how| staged.swap(names).map(|()| how));
    staged.clear(names);
    result
}

struct Staged<'a> {
    folder: &'a Path,
    mark: u32,
}

/// What was at a name before.
enum Before {
    Nothing,
    /// A file, which is at the temporary name now.
    File,
}

impl Staged<'_> {
    fn temporary(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.{}", self.mark))
    }

    fn prepare(&self, names: &[&str]) -> Result<&'static str, String> {
        let program = self.temporary(PROGRAM);
        let copied = fs::copy("/proc/self/exe", &program)
            .and_then(|_| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::File::open(&program)?.sync_all());
        said(copied, "writing", &program)?;
        let mut how = "hard links";
        for name in names {
            let link = self.temporary(name);
            if fs::hard_link(&program, &link).is_err() {
                how = "symbolic links";
                said(symlink(PROGRAM, &link), "linking", &link)?;
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
                    done.into_iter().rev().for_each(|(name, before)| self.put_back(name, before));
                    return Err(format!("installing {}: {err}", target.display()));
                }
            }
        }
        Ok(())
    }

    /// At no moment is there no file by that name: a runtime may be about to execute it.
    fn swap_one(&self, name: &str) -> io::Result<Before> {
        let (new, target) = (self.temporary(name), self.folder.join(name));
        // It would be put aside, and stay there.
        if fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        match exchange(&new, &target) {
            Ok(()) => Ok(Before::File),
            Err(Errno::ENOENT) => fs::rename(&new, &target).map(|()| Before::Nothing),
            Err(err) => Err(err.into()),
        }
    }

    fn put_back(&self, name: &str, before: Before) {
        let (old, target) = (self.temporary(name), self.folder.join(name));
        let _ = match before {
            Before::Nothing => fs::remove_file(target),
            Before::File => exchange(&old, &target).map_err(io::Error::from),
        };
    }

    /// Removes what is left: links that were not used after a failure, old files after success.
    fn clear(&self, names: &[&str]) {
        for name in std::iter::once(&PROGRAM).chain(names) {
            let _ = fs::remove_file(self.temporary(name));
        }
    }
}

/// Gives each of two files the other's name, at once (renameat2(2)).
fn exchange(a: &Path, b: &Path) -> Result<(), Errno> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
}

fn said<T>(result: io::Result<T>, doing: &str, path: &Path) -> Result<T, String> {
    result.map_err(|err| format!("{doing} {}: {err}", path.display()))
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
