//! One case, run by a process of its own: it is the first process of a new PID namespace, in new
//! network and mount namespaces, so that all that a case starts or makes ends with it.

mod answered;
mod chained;
mod engine;
mod execute;
mod input;
mod judge;
mod look;
mod probe;
mod reach;
pub(crate) mod runtime;
mod sandbox;
mod shape;
mod snapshot;
mod stop;

use crate::case::Case;
use crate::profile::Profile;
use crate::version::Version;
use crate::{Result, double};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use execute::hand_line;
pub(crate) use execute::quote as quote_for_shell;
pub(crate) use input::{attachment_environment, request};

/// What the process of a case is given, as JSON on standard input.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// Run a case.
    Case(Box<CaseJob>),
    /// Find out what this kernel, this node and these plugins have.
    Probe(ProbeJob),
}

/// One run of a case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseJob {
    /// The folder of plugins.
    pub plugins: PathBuf,
    /// The plugin under test.
    pub profile: Profile,
    /// The case.
    pub case: Case,
    /// The version of the specification.
    pub version: Version,
    /// A name that no other case on this node has: that of its control groups begins with it.
    pub unique: String,
    /// Seconds after which a plugin counts as hanging.
    pub limit: f64,
}

/// What to find out before any case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeJob {
    /// The folder of plugins.
    pub plugins: PathBuf,
    /// The plugins whose versions are queried.
    pub types: Vec<String>,
    /// Features of the kernel.
    pub kernel: Vec<String>,
    /// Programs of the node.
    pub programs: Vec<String>,
    /// Seconds after which a plugin counts as hanging.
    pub limit: f64,
}

/// What was found out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Probed {
    /// The versions that each plugin answers to VERSION; none where it does not answer.
    pub versions: BTreeMap<String, Vec<Version>>,
    /// What this kernel and this node lack, and how that was seen.
    pub missing: BTreeMap<String, String>,
}

/// How a case ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The verdict.
    pub status: Status,
    /// The step that failed and why; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Milliseconds that it took.
    pub milliseconds: u64,
}

/// A verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The requirement is met.
    Passed,
    /// It is not.
    Failed,
    /// Something that the case needs is not there.
    Skipped,
    /// The case could not be prepared: no verdict on the plugin.
    Broken,
}

/// What failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The step: `when 2: DEL for a`.
    pub step: String,
    /// One sentence.
    pub message: String,
    /// Where the first difference is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What was expected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// What was there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actual: String,
    /// The call that failed, or the last one before the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallRecord>,
}

/// An execution of a plugin, as it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// The program.
    pub program: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// What it read.
    pub stdin: String,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What it waited in when its time was over: the kernel's function, system call and stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hung_in: Option<String>,
    /// What it printed.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
    /// Milliseconds that it took.
    pub milliseconds: u64,
}

/// The process's main function: reads its job, prints what came of it.
///
/// # Errors
/// The job can't be read, or the namespaces can't be furnished.
pub fn main() -> Result<()> {
    let job: Job = serde_json::from_reader(std::io::stdin()).map_err(|error| format!("no job: {error}"))?;
    setrlimit(Resource::RLIMIT_FSIZE, MAX_FILE, MAX_FILE)
        .map_err(|error| format!("can't limit the size of files: {error}"))?;
    let output = match job {
        Job::Case(job) => serde_json::to_string(&engine::run(*job)),
        Job::Probe(job) => serde_json::to_string(&probe::run(&job)?),
    };
    println!("{}", output.map_err(|error| error.to_string())?);
    Ok(())
}

/// The longest file that the process of a case and the plugins may write, in bytes: what a plugin prints is a file
/// in memory. One that prints more is ended by SIGXFSZ.
const MAX_FILE: u64 = 16 << 20;

/// Where the suite keeps what is its own, in the mount namespace of a case.
pub(crate) const HOME: &str = "/run/cni-conformance";

/// The folder of the plugins under test, as they see it.
pub(crate) fn plugins_folder() -> PathBuf {
    PathBuf::from(HOME).join("plugins")
}

/// `CNI_PATH` of every call.
pub(crate) fn search_path() -> String {
    format!("{HOME}/plugins:{}", double::FOLDER)
}
