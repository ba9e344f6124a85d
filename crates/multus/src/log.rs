//! Log lines, to standard error and to a file that is rotated when it grows.
//!
//! There is one log in a process, because a process serves one call. Nothing here waits or fails a call.

mod rotate;

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use cni_core::diagnostics::{self, note, one_line};
use serde::{Deserialize, Serialize};

use crate::pod_args::PodArgs;
use crate::time::Timestamp;

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Defects of this program: no line of today's code has this level.
    Panic,
    /// Failures.
    Error,
    /// Steps.
    Verbose,
    /// Details.
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
pub(crate) struct LogConf {
    /// `logFile`.
    pub(crate) file: Option<PathBuf>,
    /// `logLevel`.
    pub(crate) level: LogLevel,
    /// `logToStderr`.
    pub(crate) to_stderr: bool,
    /// `logOptions`.
    pub(crate) options: LogOptions,
}

/// When the file is rotated, and which rotated files are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LogOptions {
    /// Days after which an old file is removed; 0 for never.
    pub(crate) max_age: u32,
    /// The size in megabytes at which the file is renamed; 0 for the default.
    pub(crate) max_size: u32,
    /// How many old files are kept; 0 for all.
    pub(crate) max_backups: u32,
    /// Whether renamed files are kept as gzip.
    pub(crate) compress: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { max_age: 5, max_size: 100, max_backups: 5, compress: true }
    }
}

struct Log {
    /// What every line names: the pod of the call and the trace.
    subject: String,
    level: LogLevel,
    to_stderr: bool,
    file: Option<File>,
}

static LOG: Mutex<Option<Log>> = Mutex::new(None);

/// Starts logging as configured. A file that can't be opened is reported on standard error, and
/// logging goes on without it.
///
/// Every line names the `pod` of the call, `namespace:name:uid`, and the trace that the caller passes.
pub(crate) fn start(conf: &LogConf, pod: Option<&PodArgs>) {
    let file = conf.file.as_deref().and_then(|path| {
        rotate::open(path, &conf.options)
            .inspect_err(|err| note(format_args!("multus: cannot write logFile {}: {err}", path.display())))
            .ok()
    });
    let pod = pod.map(|PodArgs { namespace, name, uid }| format!("[{namespace}:{name}:{uid}] "));
    let trace = diagnostics::trace().map(|trace| format!("[{trace}] "));
    let subject = pod.into_iter().chain(trace).collect();
    if let Ok(mut log) = LOG.lock() {
        *log = Some(Log { subject, level: conf.level, to_stderr: conf.to_stderr, file });
    }
}

/// Logs a failure.
pub(crate) fn error(what: impl fmt::Display) {
    write(LogLevel::Error, &what);
}

/// Logs a step.
pub(crate) fn verbose(what: impl fmt::Display) {
    write(LogLevel::Verbose, &what);
}

/// Logs a detail.
pub(crate) fn debug(what: impl fmt::Display) {
    write(LogLevel::Debug, &what);
}

fn write(level: LogLevel, what: &dyn fmt::Display) {
    let Ok(mut log) = LOG.lock() else { return };
    let Some(log) = log.as_mut().filter(|log| level <= log.level) else { return };
    // One line, whatever is in the names: they come from others.
    let mut line = one_line(&format!("{} [{}] {}{what}", Timestamp::now(), level.name(), log.subject));
    line.push('\n');
    if log.to_stderr {
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    if let Some(file) = &mut log.file {
        let _ = file.write_all(line.as_bytes());
    }
}
