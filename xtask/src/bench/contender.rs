//! What is measured: a folder of plugins, called as a runtime calls them.

use super::sample::{Meter, Sample};
use crate::dist;
use crate::error::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of plugins under a name.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    pub(crate) folder: PathBuf,
}

/// What is measured, with its name in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    /// The multicall binary under all names: delegates run in its process.
    Multicall,
    /// Each plugin a binary of its own.
    Separate,
    /// The Go plugins.
    Go,
    /// The multicall binary of an earlier build.
    EarlierMulticall,
    /// The separate binaries of an earlier build.
    EarlierSeparate,
    /// The same netlink messages, and nothing else.
    Floor,
    /// A static process that does nothing.
    Empty,
    /// cnictl, which calls our multicall binary.
    Cnictl,
}

impl Who {
    /// All that do a plugin's work.
    pub(crate) const PLUGINS: [Self; 5] =
        [Self::Multicall, Self::Separate, Self::Go, Self::EarlierMulticall, Self::EarlierSeparate];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Multicall => "oxcni, one binary",
            Self::Separate => "oxcni, separate",
            Self::Go => "Go",
            Self::EarlierMulticall => "earlier, one binary",
            Self::EarlierSeparate => "earlier, separate",
            Self::Floor => "kernel floor",
            Self::Empty => "empty process",
            Self::Cnictl => "cnictl, one binary",
        }
    }

    /// Whether it does a plugin's work, and not only a part of it.
    pub(crate) fn is_plugin(self) -> bool {
        Self::PLUGINS.contains(&self)
    }

    /// The same binaries of the earlier build that `--beside` names.
    pub(crate) fn earlier(self) -> Option<Self> {
        match self {
            Self::Multicall => Some(Self::EarlierMulticall),
            Self::Separate => Some(Self::EarlierSeparate),
            _ => None,
        }
    }

    /// A short name for interfaces and folders.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Multicall => "multi",
            Self::Separate => "separ",
            Self::Go => "go",
            Self::EarlierMulticall => "oldm",
            Self::EarlierSeparate => "olds",
            Self::Floor => "floor",
            Self::Empty => "empty",
            Self::Cnictl => "ctl",
        }
    }
}

/// The commands that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

impl Contender {
    /// Whether all these plugins are there.
    pub(crate) fn has(&self, plugins: &[&str]) -> bool {
        let has_tool = self.who != Who::Cnictl || self.tool().is_file();
        has_tool && plugins.iter().all(|plugin| self.folder.join(plugin).is_file())
    }

    /// cnictl, which stands beside the folder.
    fn tool(&self) -> PathBuf {
        self.folder.with_file_name(dist::TOOL)
    }

    /// Calls a plugin once.
    pub(crate) fn call(
        &self,
        meter: &Meter,
        plugin: &str,
        verb: Verb,
        netns: &Path,
        container_id: &str,
        config: &Value,
    ) -> Result<Sample> {
        if self.who == Who::Cnictl {
            return self.call_tool(meter, verb, netns, container_id, config);
        }
        let environment = [
            ("CNI_COMMAND", OsStr::new(verb.name())),
            ("CNI_CONTAINERID", OsStr::new(container_id)),
            ("CNI_NETNS", netns.as_os_str()),
            ("CNI_IFNAME", OsStr::new("eth0")),
            ("CNI_PATH", self.folder.as_os_str()),
        ];
        meter.run::<&str>(&self.folder.join(plugin), &[], &environment, &config.to_string())
    }

    /// The same call by cnictl; the configuration and the cache are in the folder of reservations.
    fn call_tool(
        &self,
        meter: &Meter,
        verb: Verb,
        netns: &Path,
        container_id: &str,
        config: &Value,
    ) -> Result<Sample> {
        let folder = PathBuf::from(config["ipam"]["dataDir"].as_str().unwrap_or_default());
        let conf_dir = folder.join("net.d");
        let file = conf_dir.join("10-bench.conf");
        if !file.exists() {
            fs::create_dir_all(&conf_dir)
                .and_then(|()| fs::write(&file, config.to_string()))
                .context(|| format!("can't write {}", file.display()))?;
        }
        let network = config["name"].as_str().unwrap_or_default();
        let (netns, cache) = (netns.display().to_string(), folder.join("cache").display().to_string());
        let verb = verb.name().to_lowercase();
        let arguments = [
            &verb,
            network,
            &netns,
            "--container-id",
            container_id,
            "--cache-dir",
            &cache,
            "--output",
            "json",
        ];
        let environment = [("CNI_PATH", self.folder.as_os_str()), ("NETCONFPATH", conf_dir.as_os_str())];
        meter.run(&self.tool(), &arguments, &environment, "")
    }
}
