//! The gateway's address on the host.

use std::net::IpAddr;

use cni_core::netlink::{Address, Errno, Failure, Link};
use cni_core::spec::{AddResult, Cidr, Error, Mac, Result};
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
    let bridge = site.host.link(&site.config.bridge)?.ok_or_else(|| gone(&site.config.bridge))?;
    let holder = if site.config.vlan == 0 { bridge.clone() } else { vlan_interface(site, &bridge)? };
    // The bridge's own address from before it had this port, to be kept from now on.
    let own_mac = if site.config.vlan == 0 { result.interfaces[0].mac.parse().ok() } else { holder.mac };
    for ip in &result.ips {
        let Some(gateway) = ip.gateway.and_then(|gw| Cidr::new(gw, ip.address.prefix())) else { continue };
        ensure_address(site, &bridge, &holder, own_mac, gateway, port.index)?;
    }
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

fn vlan_interface(site: &BridgeSite<'_, '_>, bridge: &Link) -> Result<Link> {
    let name = site.config.gateway_name()?;
    match site.host.link(&name)? {
        Some(link) => Ok(link),
        None => port::create_gateway(site, bridge, &name),
    }
}

/// Adds an address to the holder, which may have no other one that is in its way: one of IPv4,
/// or one of IPv6 whose subnet overlaps. With `forceAddress` that one goes.
fn ensure_address(
    site: &BridgeSite<'_, '_>,
    bridge: &Link,
    holder: &Link,
    own_mac: Option<Mac>,
    address: Cidr,
    port: u32,
) -> Result<()> {
    let host = site.host;
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
        host.delete_address(holder, other.cidr)?;
        let (bridge, holder, old) = (bridge.index, holder.clone(), other.cidr);
        site.undo.push(format!("replacing address {old}"), move || {
            unless_used_by_others(host, bridge, Some(port), || host.add_address(&holder, old))
        });
    }
    match host.add_address(holder, address) {
        // Another ADD added it at the same moment.
        Err(Failure { errno: Errno::EEXIST, .. }) => return Ok(()),
        added => added?,
    }
    let (bridge, made) = (bridge.index, holder.clone());
    site.undo.push(format!("address {address} of {}", holder.name), move || {
        unless_used_by_others(host, bridge, Some(port), || host.delete_address(&made, address))
    });
    // A MAC address that was set stays, where it would change with the ports that come and go.
    match own_mac {
        Some(mac) => Ok(host.set_mac(holder, mac)?),
        None => Ok(()),
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
