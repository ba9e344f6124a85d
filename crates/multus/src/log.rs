//! Log lines, to standard error and to a file that is renamed away when it grows.
//!
//! There is one log in a process, because a process serves one call.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::time::Timestamp;

/// How much is said; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Only defects of this program: nothing, in effect.
    Panic,
    /// What failed.
    Error,
    /// What was done.
    Verbose,
    /// How.
    Debug,
}

impl LogLevel {
    pub(crate) const ALL: [LogLevel; 4] =
        [LogLevel::Panic, LogLevel::Error, LogLevel::Verbose, LogLevel::Debug];

    pub(crate) fn name(self) -> &'static str {
        match self {
            LogLevel::Panic => "panic",
            LogLevel::Error => "error",
            LogLevel::Verbose => "verbose",
            LogLevel::Debug => "debug",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<LogLevel> {
        LogLevel::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}

/// Where log lines go.
#[derive(Debug)]
pub struct LogConf {
    /// `logFile`.
    pub file: Option<PathBuf>,
    /// `logLevel`.
    pub level: LogLevel,
    /// `logToStderr`.
    pub to_stderr: bool,
    /// `logOptions`.
    pub options: LogOptions,
}

/// When the file is renamed away, and which of those are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogOptions {
    /// Days after which an old file is removed; 0 for never.
    pub max_age: u32,
    /// The size in megabytes at which the file is renamed; 0 for the default.
    pub max_size: u32,
    /// How many old files are kept; 0 for all.
    pub max_backups: u32,
    /// Accepted and without effect: old files stay as they are.
    pub compress: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { max_age: 5, max_size: 100, max_backups: 5, compress: true }
    }
}

struct Log {
    level: LogLevel,
    to_stderr: bool,
    file: Option<File>,
}

static LOG: Mutex<Option<Log>> = Mutex::new(None);

/// Begins to log as configured. A file that can't be written is said so, and done without.
pub fn start(conf: &LogConf) {
    let file = conf.file.as_deref().and_then(|path| {
        open(path, &conf.options)
            .inspect_err(|err| eprintln!("multus: cannot write logFile {}: {err}", path.display()))
            .ok()
    });
    if let Ok(mut log) = LOG.lock() {
        *log = Some(Log { level: conf.level, to_stderr: conf.to_stderr, file });
    }
}

/// Says what failed.
pub fn error(what: impl fmt::Display) {
    write(LogLevel::Error, &what);
}

/// Says what was done.
pub fn verbose(what: impl fmt::Display) {
    write(LogLevel::Verbose, &what);
}

/// Says how it was done.
pub fn debug(what: impl fmt::Display) {
    write(LogLevel::Debug, &what);
}

fn write(level: LogLevel, what: &dyn fmt::Display) {
    let Ok(mut log) = LOG.lock() else { return };
    let Some(log) = log.as_mut().filter(|log| level <= log.level) else { return };
    let line = format!("{} [{}] {what}\n", Timestamp::now(), level.name());
    if log.to_stderr {
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    if let Some(file) = &mut log.file {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Opens the file to append, after it was renamed away where it is too big.
fn open(path: &Path, options: &LogOptions) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let append = || OpenOptions::new().create(true).append(true).open(path);
    let limit = u64::from(if options.max_size == 0 { 100 } else { options.max_size }) << 20;
    let file = append()?;
    if file.metadata()?.len() < limit {
        return Ok(file);
    }
    // Of many calls at once that find it too big, one renames: the lock belongs to the file,
    // and whoever gets it next sees that the file has moved.
    file.lock()?;
    if is_same_file(&file, path) {
        fs::rename(path, backup_path(path))?;
        remove_old(path, options, SystemTime::now());
    }
    append()
}

fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(id).ok() == fs::metadata(path).map(id).ok()
}

/// `multus.log` becomes `multus-2026-01-31T12-00-00Z.log`.
fn backup_path(path: &Path) -> PathBuf {
    let (stem, end) = parts(path);
    let time = Timestamp::now().to_string().replace(':', "-");
    path.with_file_name(format!("{stem}-{time}{end}"))
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let end = text(path.extension());
    (text(path.file_stem()), if end.is_empty() { end } else { format!(".{end}") })
}

/// Removes renamed files that are too old or too many.
fn remove_old(path: &Path, options: &LogOptions, now: SystemTime) {
    let (stem, end) = parts(path);
    let Some(entries) = path.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    let is_backup = |name: &str| name.starts_with(&format!("{stem}-")) && name.ends_with(&end);
    let mut backups: Vec<fs::DirEntry> =
        entries.flatten().filter(|entry| is_backup(&entry.file_name().to_string_lossy())).collect();
    // The names sort by time.
    backups.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    let keep = if options.max_backups == 0 { usize::MAX } else { options.max_backups as usize };
    let age = Duration::from_secs(u64::from(options.max_age) * 24 * 3600);
    for (i, backup) in backups.iter().enumerate() {
        let modified = backup.metadata().and_then(|meta| meta.modified());
        let is_old = options.max_age > 0
            && modified.is_ok_and(|time| now.duration_since(time).is_ok_and(|passed| passed > age));
        if i >= keep || is_old {
            let _ = fs::remove_file(backup.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_file_is_renamed_and_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("multus.log");
        for year in 2001..=2004 {
            fs::write(folder.path().join(format!("multus-{year}-01-01T00-00-00Z.log")), "old").unwrap();
        }
        fs::write(folder.path().join("multus-unrelated.txt"), "").unwrap();
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let options = LogOptions { max_size: 1, max_backups: 2, max_age: 0, compress: false };
        open(&path, &options).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"multus-2004-01-01T00-00-00Z.log".into()), "{names:?}");
    }

    #[test]
    fn old_files_are_removed_by_age() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.log");
        fs::write(folder.path().join("m-1.log"), "").unwrap();
        let options = LogOptions { max_age: 1, ..LogOptions::default() };
        remove_old(&path, &options, SystemTime::now());
        assert!(folder.path().join("m-1.log").exists());
        remove_old(&path, &options, SystemTime::now() + Duration::from_secs(2 * 24 * 3600));
        assert!(!folder.path().join("m-1.log").exists());
    }
}
