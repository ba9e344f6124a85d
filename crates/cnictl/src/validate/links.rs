//! Whether this node has the interfaces that a configuration names.

use cni_core::netlink::{Link, Netlink};

use super::tree::Node;
use super::unknown::nearest;

/// What a configuration says of this node's interfaces that is wrong: the key, and why.
pub(crate) fn problems(plugin_type: &str, node: &Node<'_>) -> Vec<(&'static str, String)> {
    // Without the right to ask the kernel nothing is known.
    let Ok(links) = Netlink::open().and_then(|netlink| netlink.links()) else { return Vec::new() };
    match plugin_type {
        "macvlan" | "ipvlan" | "vlan" => master(node, &links),
        "bridge" | "cnv-bridge" => bridge(node, &links),
        _ => Vec::new(),
    }
}

fn master(node: &Node<'_>, links: &[Link]) -> Vec<(&'static str, String)> {
    let is_in_container = node.member("linkInContainer").is_some_and(|member| member.value.raw == "true");
    let Some(name) = node.text("master").filter(|name| !name.is_empty() && !is_in_container) else {
        return Vec::new();
    };
    let Some(master) = links.iter().find(|link| link.is_called(&name)) else {
        return vec![("master", format!("this node has no interface {name:?}{}", others(&name, links)))];
    };
    let mtu = node.member("mtu").and_then(|member| member.value.raw.parse::<u32>().ok());
    let mtu = mtu.filter(|mtu| *mtu > master.mtu);
    mtu.map(|mtu| ("mtu", format!("mtu {mtu} is larger than that of master {name}, {}", master.mtu)))
        .into_iter()
        .collect()
}

fn bridge(node: &Node<'_>, links: &[Link]) -> Vec<(&'static str, String)> {
    let name = node.text("bridge").unwrap_or_else(|| "cni0".to_owned());
    // A bridge that is missing is created.
    let Some(link) = links.iter().find(|link| link.name == name) else { return Vec::new() };
    if !link.is("bridge") {
        let kind = link.kind.as_deref().unwrap_or("hardware");
        return vec![("bridge", format!("{name} is an interface of another kind on this node: {kind}"))];
    }
    let wants_vlans = ["vlan", "vlanTrunk"]
        .iter()
        .find(|key| node.member(key).is_some_and(|member| !matches!(member.value.raw, "0" | "null")));
    match wants_vlans {
        Some(key) if !link.filters_vlans() => vec![(
            *key,
            format!("bridge {name} of this node does not filter VLANs: they are not kept apart on it"),
        )],
        _ => Vec::new(),
    }
}

fn others(name: &str, links: &[Link]) -> String {
    let mut names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    names.sort_unstable();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!(": did you mean {near:?}?"),
        None => format!("; it has {}", names.join(", ")),
    }
}
