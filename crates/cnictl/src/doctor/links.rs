//! Ends of veth pairs that an ADD made, and that belong to no attachment.

use std::cell::LazyCell;
use std::collections::HashSet;

use cni_core::netlink::{Link, Netlink};
use cni_core::spec::{Result, from_json, same_key};
use cni_runtime::{Members, NetworkConf};

use super::ailment::Ailment;
use super::namespaces::Namespaces;
use super::orphan::Orphan;
use crate::attached::Attached;

/// Ports of the networks' bridges that the bridge plugin named and that no attachment has.
///
/// # Errors
/// When the kernel can't list the links.
pub(crate) fn examine<'a>(
    networks: &[NetworkConf],
    attached: impl Iterator<Item = &'a Attached>,
    namespaces: &LazyCell<Namespaces>,
) -> Result<Vec<Ailment>> {
    let bridges: HashSet<String> = networks.iter().flat_map(bridges).collect();
    let results = attached.filter_map(|attached| attached.cached.result.as_ref());
    let interfaces = results.flat_map(|result| &result.interfaces);
    let known: HashSet<&str> = interfaces
        .filter(|interface| interface.sandbox.is_empty())
        .map(|interface| interface.name.as_str())
        .collect();
    let links = Netlink::open()?.links()?;
    let bridge_of = |port: &Link| {
        let bridge = links.iter().find(|link| Some(link.index) == port.master)?;
        bridges.contains(&bridge.name).then_some(bridge)
    };
    let mut ailments = Vec::new();
    for link in links.iter().filter(|link| is_named_by_bridge(link) && !known.contains(link.name.as_str())) {
        let Some(bridge) = bridge_of(link) else { continue };
        if is_being_removed(link, namespaces) {
            continue;
        }
        let orphan = Orphan::Link { name: link.name.clone(), bridge: bridge.name.clone() };
        ailments.push(Ailment::Orphan { orphan, in_use: use_of(link, namespaces) });
    }
    Ok(ailments)
}

/// Whether the other end is in a namespace that no path leads to: the kernel removes the namespace of a
/// container, and both ends, some time after its last process and its path are gone.
fn is_being_removed(port: &Link, namespaces: &Namespaces) -> bool {
    // Without a namespace ID, it is on the host, too.
    port.lower_netnsid.is_some() && namespaces.peer_of(port).is_none()
}

/// Why the other end may be of use, where it may.
fn use_of(port: &Link, namespaces: &Namespaces) -> Option<String> {
    let (netns, has_addresses) = namespaces.peer_of(port)?;
    has_addresses.then(|| format!("its other end in {netns} has addresses"))
}

/// Whether the bridge plugin, ours or the Go plugin, gave it its name.
fn is_named_by_bridge(link: &Link) -> bool {
    let digits = link.name.strip_prefix("veth").unwrap_or_default();
    link.is("veth") && digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The bridges of a network.
fn bridges(network: &NetworkConf) -> Vec<String> {
    let name = |members: &Members| {
        let bridge = members.iter().find(|(key, _)| same_key("bridge", key));
        bridge.and_then(|(_, raw)| from_json(raw.get().as_bytes(), "bridge").ok())
    };
    let is_bridge = |kind: &str| kind == "bridge" || kind == "cnv-bridge";
    let plugins = network.plugins().iter().filter(|plugin| is_bridge(plugin.plugin_type()));
    plugins.map(|plugin| name(plugin.members()).unwrap_or_else(|| "cni0".to_owned())).collect()
}
