//! What is attached: the entries of libcni's cache and of multus'.

use std::path::{Path, PathBuf};

use cni_core::spec::{AddResult, Attachment, ContainerId, IpConfig, NetworkName, Result};
use cni_runtime::{Cached, Invocation, Runtime};
use serde_json::{Value, json};

use crate::Outcome;
use crate::namespace::Life;
use crate::node::Node;
use crate::output::{Cell, Output, Tone};

/// The cache that an attachment is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cache {
    /// That of the runtimes.
    Libcni,
    /// That of multus, for its delegates.
    Multus,
}

/// One attachment.
pub(crate) struct Attached {
    /// Its entry.
    pub(crate) cached: Cached,
    /// Where the entry is.
    pub(crate) cache: Cache,
    /// Whether its namespace exists.
    pub(crate) life: Life,
}

/// Everything in the caches.
///
/// # Errors
/// Those of reading a folder. A file that can't be read is no attachment.
pub(crate) fn all(node: &Node) -> Result<Vec<Attached>> {
    let mut all = Vec::new();
    for (cache, results) in [(Cache::Libcni, &node.runtime.cache), (Cache::Multus, &node.multus)] {
        all.extend(results.all()?.into_iter().map(|cached| Attached::new(cached, cache)));
    }
    Ok(all)
}

/// The attachments that multus plans, of pods that are not gone: of one that is being made there is no
/// result yet.
pub(crate) fn planned(node: &Node, all: &[Attached]) -> Vec<(NetworkName, Attachment)> {
    let of_container = |id: &ContainerId, life: Life| {
        all.iter().any(|it| it.cached.invocation.attachment.container_id == *id && it.life == life)
    };
    let is_gone = |id: &ContainerId| of_container(id, Life::Gone) && !of_container(id, Life::Living);
    let planned = oxcni_multus::planned_attachments(&node.multus_dir);
    planned.into_iter().filter(|(_, attachment)| !is_gone(&attachment.container_id)).collect()
}

impl Attached {
    fn new(cached: Cached, cache: Cache) -> Attached {
        let life = Life::of(netns(&cached).as_deref().map(Path::new));
        Attached { cached, cache, life }
    }

    /// The runtime whose cache has it.
    pub(crate) fn runtime(&self, node: &Node) -> Runtime {
        match self.cache {
            Cache::Libcni => node.runtime.clone(),
            Cache::Multus => {
                let cache = match &self.cached.owner {
                    Some(owner) => node.multus.clone().owned_by(owner.clone()),
                    None => node.multus.clone(),
                };
                Runtime { cache, ..node.runtime.clone() }
            }
        }
    }

    /// The parameters of its ADD.
    pub(crate) fn invocation(&self) -> Invocation {
        Invocation { netns: self.netns().map(PathBuf::from), ..self.cached.invocation.clone() }
    }

    /// The path of its namespace, where that is known.
    pub(crate) fn netns(&self) -> Option<String> {
        netns(&self.cached)
    }

    /// Its pod, `namespace/name`, as runtimes of Kubernetes give it.
    pub(crate) fn pod(&self) -> Option<String> {
        let args = &self.cached.invocation.args;
        Some(format!("{}/{}", args.get("K8S_POD_NAMESPACE")?, args.get("K8S_POD_NAME")?))
    }

    /// The addresses of its interface.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let Some(result) = &self.cached.result else { return Vec::new() };
        let ips = result.ips.iter().filter(|ip| is_of_container(result, ip));
        ips.map(|ip| ip.address.to_string()).collect()
    }

    /// What it is called in messages.
    pub(crate) fn title(&self) -> String {
        let attachment = &self.cached.invocation.attachment;
        format!(
            "{} of container {} on network {}",
            attachment.ifname, attachment.container_id, self.cached.network
        )
    }

    /// The same for programs.
    pub(crate) fn to_json(&self) -> Value {
        let attachment = &self.cached.invocation.attachment;
        json!({
            "network": self.cached.network, "containerID": attachment.container_id,
            "ifname": attachment.ifname, "pod": self.pod(), "addresses": self.addresses(),
            "netns": self.netns(), "namespace": self.life.as_str(),
            "cache": match self.cache { Cache::Libcni => "libcni", Cache::Multus => "multus" },
        })
    }
}

/// The path of the namespace. libcni keeps it since 1.2; before, only results name it.
fn netns(cached: &Cached) -> Option<String> {
    if let Some(path) = &cached.invocation.netns {
        return Some(path.display().to_string());
    }
    let interfaces = &cached.result.as_ref()?.interfaces;
    interfaces.iter().map(|interface| &interface.sandbox).find(|sandbox| !sandbox.is_empty()).cloned()
}

fn is_of_container(result: &AddResult, ip: &IpConfig) -> bool {
    let interface = ip.interface.and_then(|index| result.interfaces.get(index));
    interface.is_none_or(|interface| !interface.sandbox.is_empty())
}

/// `cnictl list`.
pub(crate) fn list(node: &Node, output: &Output) -> Result<Outcome> {
    let all = all(node)?;
    if output.is_json() {
        output.json(&all.iter().map(Attached::to_json).collect());
        return Ok(Outcome::Good);
    }
    if all.is_empty() {
        let (libcni, multus) = (node.runtime.cache.folder().display(), node.multus.folder().display());
        output.print(&format!("nothing is attached (searched {libcni} and {multus})"));
        return Ok(Outcome::Good);
    }
    let rows: Vec<_> = all.iter().map(row).collect();
    output.table(["NETWORK", "CONTAINER", "INTERFACE", "ADDRESSES", "POD", "NAMESPACE"], &rows);
    Ok(Outcome::Good)
}

fn row(attached: &Attached) -> [Cell; 6] {
    let attachment = &attached.cached.invocation.attachment;
    let netns = attached.netns().unwrap_or_else(|| "-".to_owned());
    let namespace = match attached.life {
        Life::Living => Cell::toned(netns, Tone::Plain),
        Life::Gone => Cell::toned(format!("{netns} (gone)"), Tone::Bad),
        Life::Unknown => Cell::toned(format!("{netns} (unknown)"), Tone::Odd),
    };
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        attached.cached.network.to_string().into(),
        attachment.container_id.to_string().into(),
        attachment.ifname.to_string().into(),
        or_dash(attached.addresses().join(",")).into(),
        or_dash(attached.pod().unwrap_or_default()).into(),
        namespace,
    ]
}
