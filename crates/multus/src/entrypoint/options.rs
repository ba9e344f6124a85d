//! The options of the program. Each is a flag of the Go program of that name, described in
//! [`super::flags`].

use std::path::PathBuf;

use cni_core::spec::Version;

use crate::log::LogLevel;

/// Where multus' configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// Made from the node's first network configuration (`auto`).
    #[default]
    Auto,
    /// A file that is copied.
    File(PathBuf),
}

/// A valid command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) cni_bin_dir: PathBuf,
    pub(crate) cni_conf_dir: PathBuf,
    pub(crate) cni_version: Option<Version>,
    pub(crate) multus_conf: Source,
    pub(crate) multus_bin_file: PathBuf,
    pub(crate) multus_cni_conf_dir: String,
    pub(crate) skip_multus_binary_copy: bool,
    pub(crate) multus_kubeconfig_file_host: String,
    pub(crate) multus_master_cni_file_name: String,
    pub(crate) namespace_isolation: bool,
    pub(crate) global_namespaces: String,
    pub(crate) multus_autoconfig_dir: PathBuf,
    pub(crate) multus_log_to_stderr: bool,
    pub(crate) multus_log_level: Option<LogLevel>,
    pub(crate) multus_log_file: String,
    pub(crate) override_network_name: bool,
    pub(crate) cleanup_config_on_exit: bool,
    pub(crate) skip_config_watch: bool,
    pub(crate) rename_conf_file: bool,
    pub(crate) readiness_indicator_file: String,
    pub(crate) additional_bin_dir: String,
    pub(crate) skip_tls_verify: bool,
    pub(crate) force_cni_version: bool,
    pub(crate) service_account_dir: PathBuf,
}

impl Options {
    /// Whether the sources of both files are followed while the program runs.
    pub(crate) fn follows_changes(&self) -> bool {
        self.cleanup_config_on_exit && self.multus_conf == Source::Auto && !self.skip_config_watch
    }
}
