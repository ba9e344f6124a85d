//! Rotating a log file when it grows, and compressing and removing rotated files.
//!
//! Names and order are those of the Go program's: `multus-2026-01-31T12-00-00.000.log`, in UTC,
//! with `.gz` appended once it is compressed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cni_core::fnv::fnv1a;
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::fcntl::OFlag;

use super::LogOptions;
use crate::time::Timestamp;

/// The folder of locks: those in the folder of the log could be taken by its readers.
const LOCKS: &str = "/run/oxcni/multus";

/// The format of the time in a name; each 0 is any digit.
const SHAPE: &str = "0000-00-00T00-00-00.000";

/// Opens the file for appending, and rotates it first where it is too big.
///
/// One of many calls at once rotates, with a lock that no other user can take; the others go on.
pub(super) fn open(path: &Path, options: &LogOptions) -> io::Result<File> {
    open_with(path, options, Path::new(LOCKS))
}

fn open_with(path: &Path, options: &LogOptions, locks: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = append(path)?;
    let limit = u64::from(if options.max_size == 0 { 100 } else { options.max_size }) << 20;
    if file.metadata()?.len() < limit {
        return Ok(file);
    }
    let Some(_lock) = try_lock(path, locks)? else { return Ok(file) };
    // Another call may have rotated the file between opening it and locking.
    if !is_same_file(&file, path) {
        return append(path);
    }
    let backups = Backups::new(path);
    fs::rename(path, backups.next())?;
    if options.compress {
        // A file that can't be compressed stays, and the next rotation tries again.
        let _ = backups.compress();
    }
    backups.remove_old(options, SystemTime::now());
    append(path)
}

/// A pipe without a reader would be waited for without O_NONBLOCK, and a device does what it wants.
fn append(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file =
        OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The lock for rotating a file; `None` where another call has it.
fn try_lock(path: &Path, locks: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(locks)?;
    let name = format!("log-{:016x}", fnv1a(path.as_os_str().as_bytes()));
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(locks.join(name))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(err)) => Err(err),
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(id).ok() == fs::metadata(path).map(id).ok()
}

/// The rotated files of a log.
struct Backups {
    folder: PathBuf,
    /// The part of their names before the time.
    start: String,
    /// The part after the time, before `.gz`.
    end: String,
}

impl Backups {
    fn new(path: &Path) -> Backups {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let end = text(path.extension());
        Backups {
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            start: format!("{}-", text(path.file_stem())),
            end: if end.is_empty() { end } else { format!(".{end}") },
        }
    }

    /// The name of a new one.
    fn next(&self) -> PathBuf {
        let now = Timestamp::now();
        let second = now.to_string().replace(':', "-");
        let second = second.trim_end_matches('Z');
        self.folder.join(format!("{}{second}.{:03}{}", self.start, now.milliseconds(), self.end))
    }

    /// Their names with the times in them, the latest first, whether compressed or not.
    fn names(&self) -> Vec<String> {
        let is_one = |name: &String| {
            let name = name.strip_suffix(".gz").unwrap_or(name);
            let time = name.strip_prefix(&self.start).and_then(|name| name.strip_suffix(&self.end));
            time.is_some_and(|time| time.replace(|c: char| c.is_ascii_digit(), "0") == SHAPE)
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_one).collect();
        names.sort_by(|a, b| b.cmp(a));
        names
    }

    /// Compresses those that are not yet compressed.
    fn compress(&self) -> io::Result<()> {
        for name in self.names().into_iter().filter(|name| !name.ends_with(".gz")) {
            let path = self.folder.join(&name);
            let nofollow = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let mut file = OpenOptions::new().read(true).custom_flags(nofollow).open(&path)?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                continue;
            }
            // A killed call may have left an unfinished file.
            let unfinished = self.folder.join(format!(".{name}.gz"));
            let _ = fs::remove_file(&unfinished);
            let mode = meta.permissions().mode() & 0o777;
            let to = OpenOptions::new().create_new(true).write(true).mode(mode).open(&unfinished)?;
            let mut gzip = GzEncoder::new(to, Compression::fast());
            io::copy(&mut file, &mut gzip)?;
            gzip.finish()?;
            fs::rename(&unfinished, self.folder.join(format!("{name}.gz")))?;
            fs::remove_file(&path)?;
        }
        Ok(())
    }

    /// Removes those that are too old or too many.
    fn remove_old(&self, options: &LogOptions, now: SystemTime) {
        let keep = if options.max_backups == 0 { usize::MAX } else { options.max_backups as usize };
        let age = Duration::from_secs(u64::from(options.max_age) * 24 * 3600);
        for (i, name) in self.names().iter().enumerate() {
            let path = self.folder.join(name);
            let modified = path.metadata().and_then(|meta| meta.modified());
            let is_old = options.max_age > 0
                && modified.is_ok_and(|time| now.duration_since(time).is_ok_and(|passed| passed > age));
            if i >= keep || is_old {
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// With locks in the folder of the log, so that a test needs no root and touches no other's.
    fn open(path: &Path, options: &LogOptions) -> io::Result<File> {
        open_with(path, options, &path.with_file_name("locks"))
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "locks");
        names.sort();
        names
    }

    /// A log of a megabyte, and rotated files.
    fn full(backups: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("multus.log");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        for name in backups {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        (folder, path)
    }

    #[test]
    fn a_big_file_is_rotated_and_few_are_kept() {
        let years = [2001, 2002, 2003, 2004].map(|year| format!("multus-{year}-01-01T00-00-00.000.log"));
        let gz = "multus-2005-01-01T00-00-00.000.log.gz";
        let (folder, path) = full(&[&years[0], &years[1], &years[2], &years[3], gz, "multus-other.log"]);
        let options = LogOptions { max_size: 1, max_backups: 3, max_age: 0, compress: false };
        open(&path, &options).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let names = names(folder.path());
        assert_eq!(names[..2], [years[3].clone(), gz.to_owned()], "{names:?}");
        assert_eq!(names[3..], ["multus-other.log", "multus.log"], "{names:?}");
        assert!(names[2].ends_with(".log") && names.len() == 5, "{names:?}");
    }

    #[test]
    fn rotated_files_are_compressed_completely() {
        let left = "multus-2001-01-01T00-00-00.000.log";
        // The unfinished file of a killed call.
        let (folder, path) = full(&[left, &format!(".{left}.gz")]);
        let options = LogOptions { max_size: 1, max_backups: 0, max_age: 0, compress: true };
        open(&path, &options).unwrap();
        let names = names(folder.path());
        assert_eq!(
            (names[0].as_str(), names.len()),
            ("multus-2001-01-01T00-00-00.000.log.gz", 3),
            "{names:?}"
        );
        assert!(names[1].ends_with(".log.gz"), "{names:?}");
        for (name, len) in [(&names[0], 3), (&names[1], 1 << 20)] {
            let mut text = Vec::new();
            GzDecoder::new(File::open(folder.path().join(name)).unwrap()).read_to_end(&mut text).unwrap();
            assert_eq!(text.len(), len, "{name}");
        }
    }

    #[test]
    fn a_lock_on_the_log_by_a_reader_stops_nothing() {
        let (folder, path) = full(&[]);
        let reader = File::open(&path).unwrap();
        reader.lock().unwrap();
        open(&path, &LogOptions { max_size: 1, compress: false, ..LogOptions::default() }).unwrap();
        assert_eq!(names(folder.path()).len(), 2, "it is rotated");
    }

    #[test]
    fn a_call_that_rotates_keeps_no_other_waiting() {
        let (folder, path) = full(&[]);
        let locks = folder.path().join("locks");
        let held = try_lock(&path, &locks).unwrap();
        assert!(held.is_some());
        let options = LogOptions { max_size: 1, ..LogOptions::default() };
        assert_eq!(open(&path, &options).unwrap().metadata().unwrap().len(), 1 << 20);
    }

    #[test]
    fn files_and_folders_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/multus.log");
        open(&path, &LogOptions::default()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_pipe_or_device_is_refused_and_a_link_in_place_of_an_unfinished_file_is_not_followed() {
        let (folder, path) = full(&[]);
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&pipe, &LogOptions::default()).is_err());
        assert!(open(Path::new("/dev/null"), &LogOptions::default()).is_err());
        let (old, victim) = ("multus-2001-01-01T00-00-00.000.log", folder.path().join("victim"));
        fs::write(folder.path().join(old), "old").unwrap();
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(format!(".{old}.gz"))).unwrap();
        open(&path, &LogOptions { max_size: 1, max_age: 0, ..LogOptions::default() }).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(folder.path().join(format!("{old}.gz")).exists());
    }

    #[test]
    fn old_files_are_removed_by_age() {
        let old = "multus-2001-01-01T00-00-00.000.log";
        let (folder, path) = full(&[old]);
        let options = LogOptions { max_age: 1, ..LogOptions::default() };
        Backups::new(&path).remove_old(&options, SystemTime::now());
        assert!(folder.path().join(old).exists());
        Backups::new(&path).remove_old(&options, SystemTime::now() + Duration::from_secs(2 * 24 * 3600));
        assert!(!folder.path().join(old).exists());
    }
}
