//! `cnictl networks` and `status`: what is configured, and whether it works.

use std::path::PathBuf;

use cni_core::spec::{Error, NetworkName, Result};
use cni_runtime::NetworkConf;
use serde_json::{Value, json};

use crate::node::Node;
use crate::output::{Cell, Output, Tone};
use crate::{Outcome, validate};

/// A file of the folder of configurations.
struct Configured {
    file: PathBuf,
    network: Result<NetworkConf>,
    /// What is wrong.
    problems: Vec<String>,
}

/// `cnictl networks`.
pub(crate) fn list(node: &Node, output: &Output) -> Result<Outcome> {
    let files = node.files()?;
    let all: Vec<Configured> =
        files.into_iter().map(|(file, network)| Configured::new(node, file, network)).collect();
    if output.is_json() {
        output.json(&all.iter().map(Configured::to_json).collect());
    } else if all.is_empty() {
        output.print(&format!("no network is configured in {}", node.conf_dir.display()));
    } else {
        let rows: Vec<_> = all.iter().map(Configured::row).collect();
        output.table(["NETWORK", "VERSION", "PLUGINS", "FILE", "STATE"], &rows);
        for configured in &all {
            configured.problems.iter().for_each(|problem| output.print(&output.toned(problem, Tone::Bad)));
        }
    }
    let is_good = all.iter().all(|configured| configured.problems.is_empty());
    Ok(if is_good { Outcome::Good } else { Outcome::Findings })
}

impl Configured {
    fn new(node: &Node, file: PathBuf, network: Result<NetworkConf>) -> Configured {
        let findings = validate::of_file(node, &file);
        let name = file.display().to_string();
        let wrong = findings.iter().filter(|finding| finding.is_wrong);
        let problems = wrong.map(|finding| finding.line(&name)).collect();
        Configured { file, network, problems }
    }

    fn plugins(&self) -> Vec<&str> {
        let plugins = self.network.iter().flat_map(NetworkConf::plugins);
        plugins.map(|plugin| plugin.plugin_type().as_str()).collect()
    }

    fn name(&self) -> Option<&NetworkName> {
        self.network.as_ref().ok().map(NetworkConf::name)
    }

    fn version(&self) -> Option<&'static str> {
        self.network.as_ref().ok().map(|network| network.version().as_str())
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name(), "cniVersion": self.version(), "plugins": self.plugins(),
            "file": self.file.display().to_string(), "problems": self.problems,
        })
    }

    fn row(&self) -> [Cell; 5] {
        let state = if self.problems.is_empty() {
            Cell::toned("valid", Tone::Good)
        } else {
            Cell::toned("invalid", Tone::Bad)
        };
        [
            self.name().map_or("-", NetworkName::as_str).into(),
            self.version().unwrap_or("-").into(),
            self.plugins().join(",").into(),
            self.file.file_name().unwrap_or_default().to_string_lossy().into_owned().into(),
            state,
        ]
    }
}

/// `cnictl status`.
pub(crate) fn status(node: &Node, name: &Option<NetworkName>, output: &Output) -> Result<Outcome> {
    let networks = node.networks(name.as_ref())?;
    let states: Vec<(&NetworkConf, Option<Error>)> =
        networks.iter().map(|network| (network, node.runtime.status(network).err())).collect();
    if output.is_json() {
        let state = |(network, err): &(&NetworkConf, Option<Error>)| {
            let (code, msg) = (err.as_ref().map(Error::code), err.as_ref().map(Error::to_string));
            json!({ "network": network.name(), "ready": err.is_none(), "code": code, "msg": msg })
        };
        output.json(&states.iter().map(state).collect());
    } else {
        let rows: Vec<[Cell; 2]> =
            states.iter().map(|(network, err)| state_row(network, err.as_ref())).collect();
        output.table(["NETWORK", "STATE"], &rows);
    }
    let is_good = states.iter().all(|(_, err)| err.is_none());
    Ok(if is_good { Outcome::Good } else { Outcome::Findings })
}

fn state_row(network: &NetworkConf, err: Option<&Error>) -> [Cell; 2] {
    let state = match err {
        Some(err) => Cell::toned(err.to_string(), Tone::Bad),
        None if network.version().has_gc() => Cell::toned("ready", Tone::Good),
        None => Cell::toned(format!("not known: cniVersion {} has no STATUS", network.version()), Tone::Odd),
    };
    [network.name().to_string().into(), state]
}
