//! Configuring the interface of a container: settings, addresses, routes.

use std::net::IpAddr;
use std::time::Duration;

use super::Site;
use crate::netlink::Link;
use crate::spec::{AddResult, Cidr, IfName, IpConfig, Result, Route};
use crate::sysctl::Sysctl;

/// How long duplicate address detection may take: one probe and its answer take a second
/// (RFC 4862), an interface that comes up delays them by up to another.
const DAD_LIMIT: Duration = Duration::from_secs(5);

/// Whether duplicate IPv6 addresses are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dad {
    /// As the kernel is set.
    Kernel,
    /// No: addresses can be used at once.
    Off,
    /// Yes, and probes that loop back are recognised (RFC 7527).
    Enhanced,
}

/// Sets an interface up with the addresses and routes of a result that are its own.
pub(super) fn configure<C>(site: &Site<'_, '_, C>, link: &Link, dad: Dad, result: &AddResult) -> Result<()> {
    let container = site.container;
    let own = result.interfaces.len().checked_sub(1);
    let ips: Vec<&IpConfig> = result.ips.iter().filter(|ip| ip.interface == own).collect();
    let ipv6 = ips.iter().any(|ip| ip.address.is_ipv6());
    site.netns.enter(|| settings(site.ifname, dad, ipv6))??;
    for ip in &ips {
        container.add_address(link, ip.address)?;
    }
    // The order matters: with its addresses there, the kernel announces them as it comes up.
    container.set_up(link)?;
    if ipv6 {
        container.wait_until_settled(link, DAD_LIMIT)?;
    }
    for route in &result.routes {
        let gateway = |ip: &&IpConfig| ip.gateway.filter(|gw| route.dst.same_family(*gw));
        container.add_route(link, route, route.gw.or_else(|| ips.iter().find_map(gateway)))?;
    }
    Ok(())
}

/// The settings of the kernel that an interface has before its addresses. With the two
/// `notify` settings the kernel itself sends gratuitous ARP and unsolicited neighbour
/// advertisements, when the interface comes up and whenever its MAC address changes.
fn settings(ifname: &IfName, dad: Dad, ipv6: bool) -> Result<()> {
    match dad {
        Dad::Kernel => {}
        Dad::Off => Sysctl::Ipv6("accept_dad", ifname).prefer("0"),
        Dad::Enhanced => {
            Sysctl::Ipv6("enhanced_dad", ifname).prefer("1");
            Sysctl::Ipv6("accept_dad", ifname).prefer("1");
        }
    }
    Sysctl::Ipv4("arp_notify", ifname).prefer("1");
    if ipv6 {
        let loopback: IfName = "lo".parse()?;
        Sysctl::Ipv6("disable_ipv6", &loopback).ensure("0")?;
        Sysctl::Ipv6("disable_ipv6", ifname).ensure("0")?;
        // Addresses survive when somebody sets the interface down and up again, as IPv4's do.
        Sysctl::Ipv6("keep_addr_on_down", ifname).ensure("1")?;
        Sysctl::Ipv6("ndisc_notify", ifname).prefer("1");
    }
    Ok(())
}

/// Adds to a result, for each family that it has an address of, the default route through that
/// address's gateway, unless it has a default route with a next hop already.
pub fn add_default_routes(result: &mut AddResult) {
    for v4 in [true, false] {
        let Some(ip) = result.ips.iter().find(|ip| ip.address.is_ipv4() == v4) else {
            continue;
        };
        let has_one = result.routes.iter().any(|r| r.is_default() && r.gw.is_some() && r.dst.is_ipv4() == v4);
        if !has_one {
            let dst: Cidr = Cidr::default_of(ip.address.ip());
            let gw: Option<IpAddr> = ip.gateway;
            result.routes.push(Route::new(dst, gw));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_added_once_a_family() {
        let ip = |address: &str, gateway: &str| IpConfig {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.parse().ok(),
        };
        let mut result = AddResult {
            ips: vec![
                ip("10.0.0.2/24", "10.0.0.1"),
                ip("10.1.0.2/24", "10.1.0.1"),
                ip("fd00::2/64", "fd00::1"),
            ],
            routes: vec![Route::new("::/0".parse().unwrap(), "fd00::9".parse().ok())],
            ..AddResult::default()
        };
        add_default_routes(&mut result);
        assert_eq!(result.routes.len(), 2);
        assert_eq!(result.routes[1], Route::new("0.0.0.0/0".parse().unwrap(), "10.0.0.1".parse().ok()));
    }
}
