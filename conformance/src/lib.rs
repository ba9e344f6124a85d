//! A conformance suite for plugins of the Container Network Interface (CNI).
//!
//! It executes a plugin as a container runtime does, in namespaces of its own, and compares what the
//! plugin answers and what it did to the kernel with what the specification and the plugin's
//! documentation say. Cases ([`case::Case`]) are YAML files in `cases/`; how to call a plugin is
//! described by a [`profile::Profile`]. Both are part of the program.
//!
//! ```no_run
//! use cni_conformance::{catalogue, plan, profile, run};
//!
//! let cases = catalogue::embedded()?;
//! let profiles = profile::embedded()?;
//! let selection = plan::Selection::default();
//! let target = run::Target::new("/opt/cni/bin".as_ref())?;
//! let report = run::run(&target, &profiles, &cases, &selection, &run::Options::default())?;
//! assert!(report.failures(false).is_empty());
//! # Ok::<(), String>(())
//! ```

pub mod case;
pub mod catalogue;
pub mod double;
pub mod explain;
pub mod pattern;
pub mod plan;
pub mod profile;
pub mod report;
pub mod run;
pub mod shell;
pub mod variables;
pub mod version;
pub mod worker;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Texts of errors of the suite itself (a file that can't be read, a case that is invalid).
pub type Result<T, E = String> = std::result::Result<T, E>;
