//! The port of the bridge that a container is connected to.

use cni_core::netlink::{BridgePort, BridgeVlan, Errno, Failure, Link, Netlink, NewLink};
use cni_core::spec::{Error, IfName, Result};
use cni_core::sysctl::Sysctl;

use crate::shared::unless_used_by_others;
use crate::{BridgeSite, gone};

/// How often another random name is tried for the host's end.
const NAME_TRIES: u32 = 10;

/// Makes the pair: the host's end, up and a port of the bridge, and the container's.
pub(crate) fn create(site: &BridgeSite<'_, '_>, bridge: &Link) -> Result<(Link, Link)> {
    let config = site.config;
    let peer = NewLink::veth_peer(site.ifname).mtu(config.mtu()).mac(config.mac).in_namespace(site.netns);
    let port = create_pair(site.host, bridge, &peer, config.mtu()).map_err(|err| explain(site, err))?;
    let (host, made) = (site.host, port.clone());
    site.undo.push(format!("interface {}", port.name), move || Ok(host.delete_link(&made)?));
    let link = site.container.link(site.ifname)?.ok_or_else(|| gone(site.ifname))?;
    connect(
        site,
        bridge,
        &port,
        &config.vlans,
        BridgePort { hairpin: config.hairpin_mode, isolated: config.port_isolation },
    )?;
    Ok((port, link))
}

/// The interface of the host that is in the gateway's VLAN, made where it is missing, and the
/// ports of the bridge that are there for this attachment: `port`, and the one that it leads to.
///
/// It goes up last, so that one that is down is completed: whoever made it was killed.
pub(crate) fn gateway(site: &BridgeSite<'_, '_>, bridge: &Link, port: &Link) -> Result<(Link, Vec<u32>)> {
    let (host, name) = (site.host, site.config.gateway_name()?);
    let (holder, gateway_port) = match host.link(&name)? {
        Some(holder) => {
            let port = other_end(host, &holder)?;
            let port = port.filter(|_| holder.lower_netnsid.is_none());
            (holder, port.filter(|port| port.master == Some(bridge.index)))
        }
        None => {
            let made = create_gateway(site, bridge, port, &name)?;
            (host.link(&name)?.ok_or_else(|| gone(&name))?, Some(made))
        }
    };
    if !holder.up {
        if let Some(port) = &gateway_port {
            let vlans: Vec<BridgeVlan> = site.config.vlans.iter().copied().filter(|vlan| vlan.pvid).collect();
            connect(site, bridge, port, &vlans, BridgePort::default())?;
        }
        host.set_up(&holder)?;
    }
    let own_ports = std::iter::once(port).chain(&gateway_port).map(|port| port.index);
    Ok((holder, own_ports.collect()))
}

/// Makes that interface and gives the port that it leads to.
fn create_gateway(site: &BridgeSite<'_, '_>, bridge: &Link, port: &Link, name: &IfName) -> Result<Link> {
    let peer = NewLink::veth_peer(name).mtu(Some(bridge.mtu));
    let host = site.host;
    let made = create_pair(host, bridge, &peer, Some(bridge.mtu))?;
    let (bridge, own_ports, pair) = (bridge.index, [port.index, made.index], made.clone());
    site.undo.push(format!("interface {name}"), move || {
        unless_used_by_others(host, bridge, &own_ports, || host.delete_link(&pair))
    });
    Ok(made)
}

/// The other end of a veth pair, where it is on the host.
fn other_end(host: &Netlink, link: &Link) -> Result<Option<Link>> {
    let other_end = link.lower.map(|index| host.link_by_index(index)).transpose()?.flatten();
    Ok(other_end.filter(|port| port.is("veth")))
}

/// Creates a veth pair with one end on the host, under a random name as a port of the bridge.
fn create_pair(host: &Netlink, bridge: &Link, peer: &NewLink<'_>, mtu: Option<u32>) -> Result<Link, Failure> {
    let mut tries = 0;
    loop {
        let name = format!("veth{:08x}", random());
        let created = host.create_link(&NewLink::veth(&name, peer.clone()).mtu(mtu).port_of(bridge).up());
        tries += 1;
        match created {
            Err(Failure { errno: Errno::EEXIST, .. })
                if tries < NAME_TRIES && host.link(&name)?.is_some() => {}
            created => return created,
        }
    }
}

/// Thirty-two bits that differ from call to call, also in containers started at one moment.
fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    // Its keys come from getrandom(2).
    RandomState::new().hash_one(std::process::id()) as u32
}

/// Sets what the bridge does with a new port.
fn connect(
    site: &BridgeSite<'_, '_>,
    bridge: &Link,
    port: &Link,
    vlans: &[BridgeVlan],
    settings: BridgePort,
) -> Result<()> {
    let host = site.host;
    let name: IfName = port.name.parse()?;
    // The host does not take its routes from what the container advertises.
    Sysctl::Ipv6("accept_ra", &name).prefer("0");
    if settings != BridgePort::default() {
        host.set_bridge_port(port, settings)?;
    }
    if vlans.is_empty() {
        return Ok(());
    }
    if let Some(vid) = bridge.default_vlan().filter(|_| !site.config.preserve_default_vlan) {
        host.delete_bridge_vlans(port, &[BridgeVlan::tagged(vid, vid)])?;
    }
    // One message each: the kernel takes one range at a time.
    for vlan in vlans {
        host.add_bridge_vlans(port, std::slice::from_ref(vlan))?;
    }
    Ok(())
}

/// What EEXIST means here: the container has an interface of that name.
fn explain(site: &BridgeSite<'_, '_>, err: Failure) -> Error {
    let exists = err.errno == Errno::EEXIST && matches!(site.container.link(site.ifname), Ok(Some(_)));
    if exists { site.name_taken() } else { err.into() }
}

/// Finds the port that the container's interface is connected to and compares it with the
/// configuration; `matches_prev` compares it with `prevResult`.
pub(crate) fn check(
    site: &BridgeSite<'_, '_>,
    link: &Link,
    bridge: &Link,
    matches_prev: impl FnOnce(&Link) -> Result<()>,
) -> Result<()> {
    if !link.is("veth") {
        let kind = link.kind.as_deref().unwrap_or("hardware");
        return Err(Error::check(format!("interface {} is not a veth but of kind {kind}", link.name)));
    }
    let Some(port) = other_end(site.host, link)? else {
        return Err(Error::check(format!("the other end of interface {} is missing on the host", link.name)));
    };
    if port.master != Some(bridge.index) {
        return Err(Error::check(format!("interface {} is not a port of bridge {}", port.name, bridge.name)));
    }
    matches_prev(&port)?;
    let (found, config) = (port.bridge_port(), site.config);
    let expected = BridgePort { hairpin: config.hairpin_mode, isolated: config.port_isolation };
    if found != expected {
        return Err(Error::check(format!("bridge port {} is set to {found:?}, not {expected:?}", port.name)));
    }
    if bridge.filters_vlans() {
        let passing = site.host.bridge_vlans(&port)?;
        let passes = |vid, like: &BridgeVlan| {
            passing.iter().any(|v| v.first == vid && v.pvid == like.pvid && v.untagged == like.untagged)
        };
        for vlan in &config.vlans {
            if let Some(vid) = (vlan.first..=vlan.last).find(|vid| !passes(*vid, vlan)) {
                return Err(Error::check(format!(
                    "VLAN {vid} does not pass bridge port {} as it should",
                    port.name
                )));
            }
        }
    }
    Ok(())
}
