//! The gateway's address on the host.

use std::net::IpAddr;

use cni_core::interface::missing;
use cni_core::netlink::{Address, Link};
use cni_core::netns::Netns;
use cni_core::spec::{AddResult, Cidr, Error, IpConfig, Mac, Result};
use cni_core::sysctl::Sysctl;

use crate::shared::unless_used_by_others;
use crate::{BridgeSite, gone, port};

/// The first address of a subnet, which is the gateway's unless somebody says otherwise.
pub(crate) fn first_address(address: Cidr) -> IpAddr {
    match address.network() {
        IpAddr::V4(network) => std::net::Ipv4Addr::from(u32::from(network).saturating_add(1)).into(),
        IpAddr::V6(network) => std::net::Ipv6Addr::from(u128::from(network).saturating_add(1)).into(),
    }
}

/// Gives the host the gateways' addresses and lets it forward between them.
pub(crate) fn set_up(site: &BridgeSite<'_, '_>, port: &Link, result: &mut AddResult) -> Result<()> {
    let gateways: Vec<Cidr> = result.ips.iter().filter_map(address).collect();
    // The bridge's own address from before it had this port.
    let own_mac = result.interfaces[0].mac.parse().ok();
    let holder = match find(site, &gateways)? {
        Some(holder) => holder,
        None => make(site, port, own_mac, &gateways)?,
    };
    if site.config.vlan != 0 {
        result.interfaces.push(site.on_host(&holder));
    }
    if result.ips.iter().any(|ip| ip.address.is_ipv4()) {
        Sysctl::Ipv4Forward.ensure("1")?;
    }
    if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
        Sysctl::Ipv6Forward.ensure("1")?;
    }
    Ok(())
}

/// The gateway's address that a container's address calls for.
fn address(ip: &IpConfig) -> Option<Cidr> {
    Cidr::new(ip.gateway?, ip.address.prefix())
}

/// Requires the gateways of a result's addresses on the host.
pub(crate) fn check(site: &BridgeSite<'_, '_>, prev: &AddResult) -> Result<()> {
    let name = site.config.gateway_name()?;
    let holder = site.host.link(&name)?.ok_or_else(|| missing(&name, "the host"))?;
    let present = site.host.addresses(&holder)?;
    let own = |ip: &&IpConfig| {
        let interface = ip.interface.and_then(|index| prev.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == site.ifname.as_str())
    };
    let mut gateways = prev.ips.iter().filter(own).filter_map(address);
    match gateways.find(|gateway| !present.iter().any(|found| found.cidr == *gateway)) {
        None => Ok(()),
        Some(gone) => {
            Err(Error::check(format!("interface {name} does not have the gateway's address {gone}")))
        }
    }
}

/// The interface of the host that has all the addresses, where it is complete: addresses are the
/// last that it gets.
fn find(site: &BridgeSite<'_, '_>, gateways: &[Cidr]) -> Result<Option<Link>> {
    let Some(holder) = site.host.link(&site.config.gateway_name()?)?.filter(|link| link.up) else {
        return Ok(None);
    };
    let present = site.host.addresses(&holder)?;
    let has = |gateway: &Cidr| present.iter().any(|found| found.cidr == *gateway);
    Ok(gateways.iter().all(has).then_some(holder))
}

/// Makes what is missing of it, while nobody else does: others find it complete.
fn make(site: &BridgeSite<'_, '_>, port: &Link, own_mac: Option<Mac>, gateways: &[Cidr]) -> Result<Link> {
    let _alone = Netns::own()?.lock_exclusive()?;
    if let Some(made_meanwhile) = find(site, gateways)? {
        return Ok(made_meanwhile);
    }
    let (host, name) = (site.host, &site.config.bridge);
    let bridge = host.link(name)?.ok_or_else(|| gone(name))?;
    let (holder, own_ports) = if site.config.vlan == 0 {
        (bridge.clone(), vec![port.index])
    } else {
        port::gateway(site, &bridge, port)?
    };
    let mut ports = host.links()?;
    ports.retain(|link| link.master == Some(bridge.index));
    if site.config.vlan == 0 {
        keep_mac(site, &bridge, &ports, own_mac)?;
    }
    let gateway = Gateway { bridge: bridge.index, holder, own_ports, ports };
    for address in gateways {
        gateway.ensure_address(site, *address)?;
    }
    Ok(gateway.holder)
}

/// Sets the MAC address of a bridge to what it was without our port, so that it stays. One that
/// was never set is the lowest of the ports' (`br_stp_recalculate_bridge_id` in
/// net/bridge/br_stp_if.c), which come and go.
fn keep_mac(site: &BridgeSite<'_, '_>, bridge: &Link, ports: &[Link], own_mac: Option<Mac>) -> Result<()> {
    let lowest = ports.iter().filter_map(|port| port.mac).min_by_key(|mac| mac.0);
    match own_mac.filter(|_| bridge.mac == lowest) {
        Some(mac) => Ok(site.host.set_mac(bridge, mac)?),
        None => Ok(()),
    }
}

/// The interface that has the gateways' addresses, and who it is there for.
struct Gateway {
    bridge: u32,
    holder: Link,
    /// The container's port, and that of the holder where it is not the bridge itself.
    own_ports: Vec<u32>,
    /// All ports that the bridge has.
    ports: Vec<Link>,
}

impl Gateway {
    /// Adds an address to the holder, which may have no other one that is in its way: one of
    /// IPv4, or one of IPv6 whose subnet overlaps. With `forceAddress` that one goes.
    fn ensure_address(&self, site: &BridgeSite<'_, '_>, address: Cidr) -> Result<()> {
        let (host, holder) = (site.host, &self.holder);
        let present = host.addresses(holder)?;
        if present.iter().any(|found| found.cidr == address) {
            return Ok(());
        }
        let in_the_way = |found: &&Address| {
            found.cidr.same_family(address.ip()) && (address.is_ipv4() || found.cidr.overlaps(address))
        };
        for other in present.iter().filter(in_the_way) {
            if !site.config.force_address {
                return Err(Error::invalid_config(format!(
                    "{} has address {}, and cannot be the gateway {address} too",
                    holder.name, other.cidr
                ))
                .details("\"forceAddress\": true replaces it; several networks need bridges of their own"));
            }
            self.replace(site, other.cidr)?;
        }
        host.add_address(holder, address)?;
        let (bridge, made, own_ports) = (self.bridge, holder.clone(), self.own_ports.clone());
        site.undo.push(format!("address {address} of {}", holder.name), move || {
            unless_used_by_others(host, bridge, &own_ports, || host.delete_address(&made, address))
        });
        Ok(())
    }

    /// Removes an address that is in the way. It comes back for the ports that there are now; only
    /// a later one has never seen it.
    fn replace(&self, site: &BridgeSite<'_, '_>, old: Cidr) -> Result<()> {
        let (host, bridge, holder) = (site.host, self.bridge, self.holder.clone());
        host.delete_address(&holder, old)?;
        let ports: Vec<u32> = self.ports.iter().map(|port| port.index).collect();
        site.undo.push(format!("replacing address {old}"), move || {
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
