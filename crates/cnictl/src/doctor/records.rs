//! What plugins keep of attachments: reservations, leases and rules.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_core::firewall::Masquerade;
use cni_core::netlink::Netlink;
use cni_core::netns::Netns;
use cni_core::spec::{Attachment, NetworkName, Result};
use cni_runtime::NetworkConf;
use oxcni_dhcp::HeldLease;
use serde::Deserialize;

use super::ailment::Ailment;
use super::namespaces::Namespaces;
use super::orphan::{Orphan, Reserved};
use crate::attach::of_cache;
use crate::attached::Attached;
use crate::node::Node;

/// Where host-local keeps reservations where no configuration says otherwise.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// An attachment that is in a cache or planned, and its network.
type Entry<'a> = (&'a NetworkName, &'a Attachment);

/// The networks that are configured, and those that attachments were made with.
///
/// # Errors
/// Those of reading the folder of configurations.
pub(crate) fn networks<'a>(
    node: &Node,
    attached: impl Iterator<Item = &'a Attached>,
) -> Result<Vec<NetworkConf>> {
    let mut networks = node.networks(None)?;
    networks.extend(attached.filter_map(|attached| of_cache(&attached.cached).ok()));
    Ok(networks)
}

/// The keys that say where an IPAM plugin keeps its records.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ipam {
    #[serde(rename = "type")]
    plugin_type: String,
    data_dir: String,
    daemon_socket_path: String,
}

/// The records that belong to no attachment. Those of an attachment that is gone and has an entry in a
/// cache go with its DEL.
///
/// # Errors
/// Those of reading reservations and rules.
pub(crate) fn examine<'a>(
    networks: &[NetworkConf],
    attached: impl Iterator<Item = &'a Attached>,
    planned: &[(NetworkName, Attachment)],
    namespaces: &LazyCell<Namespaces>,
) -> Result<Vec<Ailment>> {
    let entries = attached.map(|it| (&it.cached.network, &it.cached.invocation.attachment));
    let planned = planned.iter().map(|(network, attachment)| (network, attachment));
    let entries: Vec<Entry<'_>> = entries.chain(planned).collect();
    let mut ailments = reservations(networks, &entries, namespaces)?;
    ailments.extend(leases(networks, &entries));
    ailments.extend(masquerading(&entries, namespaces)?);
    let valid: Vec<Attachment> = entries.iter().map(|(_, attachment)| (*attachment).clone()).collect();
    let stale = oxcni_bridge::spoofcheck::stale(&valid)?;
    let orphan = |id| Ailment::Orphan { orphan: Orphan::SpoofCheck(id, valid.clone()), in_use: None };
    ailments.extend(stale.into_iter().map(orphan));
    Ok(ailments)
}

fn ipams(networks: &[NetworkConf]) -> impl Iterator<Item = (&NetworkName, Ipam)> {
    networks.iter().flat_map(|network| {
        let of = |members: &cni_runtime::Members| {
            let (_, raw) = members.iter().find(|(key, _)| cni_core::spec::same_key("ipam", key))?;
            cni_core::spec::from_json::<Ipam>(raw.get().as_bytes(), "ipam").ok()
        };
        network.plugins().iter().filter_map(move |plugin| Some((network.name(), of(plugin.members())?)))
    })
}

fn reservations(
    networks: &[NetworkConf],
    entries: &[Entry<'_>],
    namespaces: &LazyCell<Namespaces>,
) -> Result<Vec<Ailment>> {
    let mut folders: BTreeMap<(PathBuf, NetworkName), ()> = BTreeMap::new();
    for (network, ipam) in ipams(networks).filter(|(_, ipam)| ipam.plugin_type == "host-local") {
        let data_dir = if ipam.data_dir.is_empty() { DATA_DIR } else { &ipam.data_dir };
        folders.insert((data_dir.into(), network.clone()), ());
    }
    // Also those of networks that are not configured any more.
    let names = std::fs::read_dir(DATA_DIR).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    folders.extend(names.map(|network| ((DATA_DIR.into(), network), ())));
    let mut orphans = Vec::new();
    for (data_dir, network) in folders.into_keys() {
        for reservation in oxcni_host_local::reservations(&Path::new(&data_dir).join(network.as_str()))? {
            let is_owner = |(other, attachment): &Entry<'_>| {
                **other == network
                    && attachment.container_id.as_str() == reservation.container_id
                    && reservation.ifname.as_ref().is_none_or(|name| *name == attachment.ifname.as_str())
            };
            // Empty ones are reclaimed by host-local itself.
            if reservation.container_id.is_empty() || entries.iter().any(is_owner) {
                continue;
            }
            let reserved = Reserved {
                network: network.clone(),
                data_dir: data_dir.clone(),
                address: reservation.address,
                container_id: reservation.container_id,
                ifname: reservation.ifname,
            };
            let in_use = namespaces.use_of(reserved.address);
            orphans.push((reserved, in_use));
        }
    }
    leave_whole(&mut orphans);
    let ailment = |(reserved, in_use)| Ailment::Orphan { orphan: Orphan::Reservation(reserved), in_use };
    Ok(orphans.into_iter().map(ailment).collect())
}

/// Leaves all addresses of an attachment that uses one: releasing the others would release that one, too. A
/// container may have taken them off its interface.
fn leave_whole(orphans: &mut [(Reserved, Option<String>)]) {
    let owner =
        |it: &Reserved| (it.data_dir.clone(), it.network.clone(), it.container_id.clone(), it.ifname.clone());
    let in_use: BTreeMap<_, String> =
        orphans.iter().filter_map(|(it, in_use)| Some((owner(it), in_use.clone()?))).collect();
    for (orphan, own) in orphans {
        *own = own.take().or_else(|| in_use.get(&owner(orphan)).cloned());
    }
}

/// Where no daemon answers, nothing is known of its leases.
fn leases(networks: &[NetworkConf], entries: &[Entry<'_>]) -> Vec<Ailment> {
    let sockets: BTreeSet<Option<PathBuf>> = ipams(networks)
        .filter(|(_, ipam)| ipam.plugin_type == "dhcp")
        .map(|(_, ipam)| Some(PathBuf::from(ipam.daemon_socket_path)).filter(|path| path.as_os_str() != ""))
        .collect();
    let mut ailments = Vec::new();
    for socket in sockets {
        let held = oxcni_dhcp::held_leases(socket.as_deref()).unwrap_or_default();
        for lease in held.into_iter().filter(|lease| !entries.contains(&(&lease.network, &lease.attachment)))
        {
            let in_use = use_of_lease(&lease);
            let orphan = Orphan::Lease(lease.network, lease.attachment, socket.clone());
            ailments.push(Ailment::Orphan { orphan, in_use });
        }
    }
    ailments
}

/// Why the interface that has a lease may be of use, where it may.
fn use_of_lease(lease: &HeldLease) -> Option<String> {
    let netns = Netns::open(&lease.netns).ok()??;
    Netlink::open_in(&netns).ok()?.link(&lease.attachment.ifname).ok()??;
    Some(format!("its interface is in {}", lease.netns.display()))
}

fn masquerading(entries: &[Entry<'_>], namespaces: &LazyCell<Namespaces>) -> Result<Vec<Ailment>> {
    let mut orphans: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (comment, address) in Masquerade::of_node()? {
        let owns = |(network, attachment): &Entry<'_>| Masquerade { network, attachment }.owns(&comment);
        if !entries.iter().any(owns) {
            orphans.entry(comment).or_default().extend(address);
        }
    }
    let ailment = |(comment, addresses): (String, Vec<IpAddr>)| {
        let in_use = addresses.into_iter().find_map(|address| namespaces.use_of(address));
        Ailment::Orphan { orphan: Orphan::Masquerade(comment), in_use }
    };
    Ok(orphans.into_iter().map(ailment).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_that_uses_one_of_its_addresses_keeps_all() {
        let reserved = |address: &str, container: &str| Reserved {
            network: "net".parse().unwrap(),
            data_dir: DATA_DIR.into(),
            address: address.parse().unwrap(),
            container_id: container.to_owned(),
            ifname: Some("eth0".to_owned()),
        };
        let mut orphans = [
            (reserved("10.0.0.2", "one"), Some("it has it".to_owned())),
            (reserved("fd00::2", "one"), None),
            (reserved("10.0.0.3", "other"), None),
        ];
        leave_whole(&mut orphans);
        assert_eq!(orphans.map(|(_, in_use)| in_use.is_some()), [true, true, false]);
    }
}
