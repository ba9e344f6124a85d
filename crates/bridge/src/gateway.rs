//! The gateway's address on the host.

use std::net::IpAddr;
use std::rc::Rc;

use cni_core::context::Context;
use cni_core::interface::missing;
use cni_core::netlink::{Address, Link};
use cni_core::netns::lock;
use cni_core::spec::{AddResult, Cidr, Error, IfName, IpConfig, Mac, Result};
use cni_core::sysctl::Sysctl;

use crate::link::unless_used_by_others;
use crate::{BridgeConf, BridgeLinks, gone, port};

/// The first address of a subnet, which is the gateway's unless another one is configured.
pub(crate) fn first_address(address: Cidr) -> IpAddr {
    match address.network() {
        IpAddr::V4(network) => std::net::Ipv4Addr::from(u32::from(network).saturating_add(1)).into(),
        IpAddr::V6(network) => std::net::Ipv6Addr::from(u128::from(network).saturating_add(1)).into(),
    }
}

/// Gives the interface `name` of the host the gateways' addresses, and lets the host forward.
/// Returns that interface.
pub(crate) fn set_up(
    context: &Context<'_>,
    config: &BridgeConf,
    name: &IfName,
    links: &BridgeLinks,
    addresses: &AddResult,
) -> Result<Link> {
    let gateways: Vec<Cidr> = addresses.ips.iter().filter_map(address).collect();
    match find(context, name, &gateways)? {
        Some(holder) => {
            // The process that adds the addresses sets the MAC address after them, under the lock.
            drop(lock::shared()?);
            forward(&gateways)?;
            Ok(holder)
        }
        None => create(context, config, name, links, &gateways),
    }
}

/// Lets the host forward packets of the families of the gateways.
fn forward(gateways: &[Cidr]) -> Result<()> {
    if gateways.iter().any(|gateway| gateway.is_ipv4()) {
        Sysctl::ipv4_forward().ensure("1")?;
    }
    if gateways.iter().any(|gateway| gateway.is_ipv6()) {
        Sysctl::ipv6_forward().ensure("1")?;
    }
    Ok(())
}

/// The gateway's address for a container's address.
fn address(ip: &IpConfig) -> Option<Cidr> {
    Cidr::new(ip.gateway?, ip.address.prefix())
}

/// Requires the gateways of a result's addresses on the interface `name` of the host. With `forceAddress` only the
/// interface: another ADD may have replaced an address, or this one the first by the second.
pub(crate) fn check(
    context: &Context<'_>,
    config: &BridgeConf,
    name: &IfName,
    prev: &AddResult,
) -> Result<()> {
    let holder = context.host().link(name)?.ok_or_else(|| missing(name, "the host"))?;
    if config.force_address {
        return Ok(());
    }
    let present = context.host().addresses(&holder)?;
    let own = |ip: &&IpConfig| {
        let interface = ip.interface.and_then(|index| prev.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == context.ifname().as_str())
    };
    let mut gateways = prev.ips.iter().filter(own).filter_map(address);
    match gateways.find(|gateway| !present.iter().any(|found| found.cidr == *gateway)) {
        None => Ok(()),
        Some(gone) => {
            Err(Error::check(format!("interface {name} does not have the gateway's address {gone}")))
        }
    }
}

/// The interface of the host, if it is up and has all addresses. It gets its addresses last.
fn find(context: &Context<'_>, name: &IfName, gateways: &[Cidr]) -> Result<Option<Link>> {
    let Some(holder) = context.host().link(name)?.filter(|link| link.up) else {
        return Ok(None);
    };
    let present = context.host().addresses(&holder)?;
    let has = |gateway: &Cidr| present.iter().any(|found| found.cidr == *gateway);
    Ok(gateways.iter().all(has).then_some(holder))
}

/// Creates what is missing of it, under a lock: other processes find it complete, or wait.
fn create(
    context: &Context<'_>,
    config: &BridgeConf,
    name: &IfName,
    links: &BridgeLinks,
    gateways: &[Cidr],
) -> Result<Link> {
    let _lock = lock::exclusive()?;
    if let Some(complete) = find(context, name, gateways)? {
        forward(gateways)?;
        return Ok(complete);
    }
    let host = context.host();
    let bridge = host.link(&config.bridge)?.ok_or_else(|| gone(&config.bridge))?;
    let (holder, own_ports) = if *name == config.bridge {
        (bridge.clone(), vec![links.port.index])
    } else {
        port::gateway(context, config, name, &bridge, &links.port)?
    };
    let mut ports = host.links()?;
    ports.retain(|link| link.master == Some(bridge.index));
    let mac = Some(&links.bridge)
        .filter(|_| *name == config.bridge)
        .and_then(|before| mac_to_keep(before, &bridge, &ports));
    let gateway = Gateway { bridge: bridge.index, holder, own_ports, ports };
    for address in gateways {
        gateway.ensure_address(context, config, *address)?;
    }
    forward(gateways)?;
    if let Some(mac) = mac {
        context.host().set_mac(&bridge, mac)?;
    }
    Ok(gateway.holder)
}

/// The MAC address that a bridge has to keep: the one that it had before our port. One that was never
/// set is the lowest of the ports' (`br_stp_recalculate_bridge_id` in net/bridge/br_stp_if.c), which
/// come and go. Setting it can't be undone (`addr_assign_type` stays 3, `NET_ADDR_SET`).
fn mac_to_keep(before: &Link, bridge: &Link, ports: &[Link]) -> Option<Mac> {
    let lowest = ports.iter().filter_map(|port| port.mac).min_by_key(|mac| mac.0);
    // A bridge whose last port was deleted has the address 00:00:00:00:00:00.
    before.mac.filter(|mac| *mac != Mac([0; 6]) && bridge.mac == lowest)
}

/// The interface that has the gateways' addresses, and the ports that use it.
struct Gateway {
    bridge: u32,
    holder: Link,
    /// The container's port, and that of the holder where it is not the bridge itself.
    own_ports: Vec<u32>,
    /// All ports that the bridge has.
    ports: Vec<Link>,
}

impl Gateway {
    /// Adds an address to the holder. Another IPv4 address there conflicts with it, and an IPv6
    /// address whose subnet overlaps. With `forceAddress` the conflicting one is replaced.
    fn ensure_address(&self, context: &Context<'_>, config: &BridgeConf, address: Cidr) -> Result<()> {
        let (host, holder) = (context.host(), &self.holder);
        let present = host.addresses(holder)?;
        if present.iter().any(|found| found.cidr == address) {
            return Ok(());
        }
        let conflicts = |found: &&Address| {
            found.cidr.same_family(address.ip()) && (address.is_ipv4() || found.cidr.overlaps(address))
        };
        for other in present.iter().filter(conflicts) {
            if !config.force_address {
                return Err(Error::invalid_config(format!(
                    "{} has address {}, and cannot be the gateway {address} too",
                    holder.name, other.cidr
                ))
                .details("\"forceAddress\": true replaces it; several networks need bridges of their own"));
            }
            self.replace(context, other.cidr)?;
        }
        host.add_address(holder, address)?;
        let (bridge, holder, own_ports) = (self.bridge, holder.clone(), self.own_ports.clone());
        let namespaces = Rc::clone(context.namespaces());
        context.undo.push(format!("address {address} of {}", holder.name), move || {
            let host = &namespaces.host;
            unless_used_by_others(host, bridge, &own_ports, || host.delete_address(&holder, address))
        });
        Ok(())
    }

    /// Removes a conflicting address. Undo adds it again for the ports that exist now: only a later
    /// one has never seen it.
    fn replace(&self, context: &Context<'_>, old: Cidr) -> Result<()> {
        let (bridge, holder) = (self.bridge, self.holder.clone());
        context.host().delete_address(&holder, old)?;
        let ports: Vec<u32> = self.ports.iter().map(|port| port.index).collect();
        let namespaces = Rc::clone(context.namespaces());
        context.undo.push(format!("replacing address {old}"), move || {
            let host = &namespaces.host;
            unless_used_by_others(host, bridge, &ports, || host.add_address(&holder, old))
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_first_address() {
        let first = |text: &str| first_address(text.parse().unwrap()).to_string();
        assert_eq!(first("10.1.2.77/24"), "10.1.2.1");
        assert_eq!(first("10.1.2.77/16"), "10.1.0.1");
        assert_eq!(first("fd00::77/64"), "fd00::1");
        assert_eq!(first("255.255.255.255/32"), "255.255.255.255");
    }
}
