//! The port of the bridge that a container is connected to.

use std::rc::Rc;

use cni_core::context::Context;
use cni_core::netlink::{self, BridgePort, BridgeVlan, Errno, Failure, Link, Netlink, NewLink};
use cni_core::spec::{Error, IfName, Result};
use cni_core::sysctl::Sysctl;

use crate::link::unless_used_by_others;
use crate::{BridgeConf, BridgeLinks, gone};

/// The number of random names that are tried for the host's end.
const NAME_TRIES: u32 = 10;

/// Creates the pair: the host's end, up and a port of the bridge, and the container's.
pub(crate) fn create(context: &Context<'_>, config: &BridgeConf, bridge: &Link) -> Result<(Link, Link)> {
    let peer = NewLink::veth_peer(context.ifname())
        .mtu(config.mtu)
        .mac(config.mac)
        .in_namespace(&context.namespaces().netns);
    let create = |new: &NewLink<'_>| context.create_on_host(new);
    let port = create_pair(context.host(), create, bridge, &peer, config.mtu)
        .map_err(|failure| context.explain_name(failure))?;
    let container = context.container().link(context.ifname())?.ok_or_else(|| gone(context.ifname()))?;
    connect(context.host(), config, bridge, &port, &config.vlans, config.port)?;
    Ok((port, container))
}

/// The interface `name` of the host that is in the gateway's VLAN, created where it is missing, and
/// the ports of the bridge that belong to this attachment: `port`, and the one that it leads to.
///
/// It is set up last. One that is down is completed: the process that created it was killed.
pub(crate) fn gateway(
    context: &Context<'_>,
    config: &BridgeConf,
    name: &IfName,
    bridge: &Link,
    port: &Link,
) -> Result<(Link, Vec<u32>)> {
    let host = context.host();
    let (holder, gateway_port) = match host.link(name)? {
        Some(holder) => {
            let port = other_end(host, &holder)?;
            let port = port.filter(|_| holder.lower_netnsid.is_none());
            (holder, port.filter(|port| port.master == Some(bridge.index)))
        }
        None => {
            let created = create_gateway(context, bridge, port, name)?;
            (host.link(name)?.ok_or_else(|| gone(name))?, Some(created))
        }
    };
    if !holder.up {
        // The host must not accept the routes that containers of the VLAN advertise.
        Sysctl::ipv6("accept_ra", name).prefer("0");
        if let Some(port) = &gateway_port {
            let vlans: Vec<BridgeVlan> = config.vlans.iter().copied().filter(|vlan| vlan.pvid).collect();
            connect(host, config, bridge, port, &vlans, BridgePort::default())?;
        }
        host.set_up(&holder)?;
    }
    let own_ports = std::iter::once(port).chain(&gateway_port).map(|port| port.index);
    Ok((holder, own_ports.collect()))
}

/// Creates that interface and returns the port that it leads to.
fn create_gateway(context: &Context<'_>, bridge: &Link, port: &Link, name: &IfName) -> Result<Link> {
    let host = context.host();
    let peer = NewLink::veth_peer(name).mtu(Some(bridge.mtu));
    let created = create_pair(host, |new| host.create_link(new), bridge, &peer, Some(bridge.mtu))?;
    let (bridge, own_ports, pair) = (bridge.index, [port.index, created.index], created.clone());
    let namespaces = Rc::clone(context.namespaces());
    context.undo.push(format!("interface {name}"), move || {
        let host = &namespaces.host;
        unless_used_by_others(host, bridge, &own_ports, || host.delete_link(&pair))
    });
    Ok(created)
}

/// The other end of a veth pair, where it is on the host.
fn other_end(host: &Netlink, link: &Link) -> Result<Option<Link>> {
    let other_end = link.lower.map(|index| host.link_by_index(index)).transpose()?.flatten();
    Ok(other_end.filter(|port| port.is("veth")))
}

/// Creates a veth pair with one end on the host, under a random name as a port of the bridge.
fn create_pair(
    host: &Netlink,
    create: impl Fn(&NewLink<'_>) -> netlink::Result<Link>,
    bridge: &Link,
    peer: &NewLink<'_>,
    mtu: Option<u32>,
) -> netlink::Result<Link> {
    let mut tries = 0;
    loop {
        let name = format!("veth{:08x}", random());
        let created = create(&NewLink::veth(&name, peer.clone()).mtu(mtu).port_of(bridge).up());
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

/// Configures a new port.
fn connect(
    host: &Netlink,
    config: &BridgeConf,
    bridge: &Link,
    port: &Link,
    vlans: &[BridgeVlan],
    settings: BridgePort,
) -> Result<()> {
    let name: IfName = port.name.parse()?;
    // The host must not accept the routes that the container advertises.
    Sysctl::ipv6("accept_ra", &name).prefer("0");
    if settings != BridgePort::default() {
        host.set_bridge_port(port, settings)?;
    }
    if vlans.is_empty() {
        return Ok(());
    }
    if let Some(vid) = bridge.default_vlan().filter(|_| !config.preserve_default_vlan) {
        host.delete_bridge_vlans(port, &[BridgeVlan::tagged(vid, vid)])?;
    }
    // One message each: the kernel accepts one range at a time.
    for vlan in vlans {
        host.add_bridge_vlans(port, std::slice::from_ref(vlan))?;
    }
    Ok(())
}

/// Finds the port that the container's interface is connected to.
pub(crate) fn find(context: &Context<'_>, link: &Link) -> Result<Link> {
    other_end(context.host(), link)?.ok_or_else(|| {
        Error::check(format!("the other end of interface {} is missing on the host", link.name))
    })
}

/// Compares the port with the configuration.
pub(crate) fn check(context: &Context<'_>, config: &BridgeConf, links: &BridgeLinks) -> Result<()> {
    let BridgeLinks { bridge, port, .. } = links;
    if port.master != Some(bridge.index) {
        return Err(Error::check(format!("interface {} is not a port of bridge {}", port.name, bridge.name)));
    }
    if let Some(link) = [bridge, port].into_iter().find(|link| !link.up) {
        return Err(Error::check(format!("interface {} of the host is down", link.name)));
    }
    let (found, expected) = (port.bridge_port(), config.port);
    if found != expected {
        return Err(Error::check(format!("bridge port {} is set to {found:?}, not {expected:?}", port.name)));
    }
    if bridge.filters_vlans() {
        let passing = context.host().bridge_vlans(port)?;
        let passes = |vid, like: &BridgeVlan| {
            let same = |v: &BridgeVlan| (v.pvid, v.untagged) == (like.pvid, like.untagged);
            passing.iter().any(|v| v.first == vid && (same(v) || like.pvid && config.native_in_trunk))
        };
        for vlan in &config.vlans {
            if let Some(vid) = (vlan.first..=vlan.last).find(|vid| !passes(*vid, vlan)) {
                return Err(Error::check(format!(
                    "VLAN {vid} does not pass bridge port {} as configured",
                    port.name
                )));
            }
        }
    }
    Ok(())
}
