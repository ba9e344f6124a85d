//! This node: its configurations, its plugins, and the caches of its runtimes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_core::request::ExecOptions;
use cni_core::spec::{NetworkName, Result};
use cni_runtime::load::{self, EXTENSIONS};
use cni_runtime::{Inherited, NetworkConf, ResultCache, Runtime};

use crate::cli::Options;

/// Where plugins are where CNI_PATH does not say it.
const PLUGIN_DIRS: [&str; 5] =
    ["/opt/cni/bin", "/usr/libexec/oxcni", "/usr/libexec/cni", "/usr/lib/cni", "/run/cni/bin"];

/// Where everything of a node is.
pub(crate) struct Node {
    /// The folder of network configurations.
    pub(crate) conf_dir: PathBuf,
    /// How plugins are called, and libcni's cache.
    pub(crate) runtime: Runtime,
    /// The folder of multus.
    pub(crate) multus_dir: PathBuf,
    /// The cache of the results of multus' delegates.
    pub(crate) multus: ResultCache,
}

impl Node {
    /// The node that the options describe.
    pub(crate) fn new(options: &Options) -> Node {
        let exec = ExecOptions { time_limit: Some(Duration::from_secs(options.timeout)), name_stderr: true };
        Node {
            conf_dir: options.conf_dir.clone(),
            runtime: Runtime {
                path: plugin_dirs(&options.path),
                cache: ResultCache::new(options.cache_dir.join("results")),
                // Every plugin is a program of its own: only its file is what a runtime would run.
                plugins: &[],
                exec,
                netns_override: std::env::var_os("CNI_NETNS_OVERRIDE").is_some_and(|value| value == "1"),
            },
            multus_dir: options.multus_dir.clone(),
            multus: ResultCache::new(options.multus_dir.join("results")),
        }
    }

    /// The configuration of a network.
    ///
    /// # Errors
    /// When the folder has none of that name; the error lists those that it has.
    pub(crate) fn network(&self, name: &NetworkName) -> Result<NetworkConf> {
        load::by_name(&self.conf_dir, name, &Inherited::default())
    }

    /// Every file of the folder of configurations, and the network in it.
    ///
    /// # Errors
    /// Those of reading the folder.
    pub(crate) fn files(&self) -> Result<Vec<(PathBuf, Result<NetworkConf>)>> {
        let files = load::files(&self.conf_dir, &EXTENSIONS)?;
        let read = |file: PathBuf| {
            let network = load::from_file(&file, &Inherited::default());
            (file, network)
        };
        Ok(files.into_iter().map(read).collect())
    }

    /// The networks of the folder that can be read; one network that is asked for must be.
    ///
    /// # Errors
    /// As [`Node::network`] and [`Node::files`].
    pub(crate) fn networks(&self, name: Option<&NetworkName>) -> Result<Vec<NetworkConf>> {
        match name {
            Some(name) => Ok(vec![self.network(name)?]),
            None => Ok(self.files()?.into_iter().filter_map(|(_, network)| network.ok()).collect()),
        }
    }
}

fn plugin_dirs(given: &[PathBuf]) -> Vec<PathBuf> {
    let given: Vec<PathBuf> = given.iter().filter(|dir| !dir.as_os_str().is_empty()).cloned().collect();
    if !given.is_empty() {
        return given;
    }
    let existing: Vec<PathBuf> = PLUGIN_DIRS.iter().map(PathBuf::from).filter(|dir| dir.is_dir()).collect();
    // So that the error of a missing plugin names a folder.
    if existing.is_empty() { vec![Path::new(PLUGIN_DIRS[0]).to_owned()] } else { existing }
}
