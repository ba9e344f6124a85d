//! Configuring the interface of a container: settings, addresses, routes.

use std::net::IpAddr;
use std::time::Duration;

use crate::context::Context;
use crate::ipam;
use crate::netlink::{Errno, Failure, Link, Netlink, OperState};
use crate::spec::{AddResult, Cidr, Code, Error, IfName, IpConfig, Result, Route};
use crate::sysctl::Sysctl;

/// How long duplicate address detection may take: one probe and its answer take a second
/// (RFC 4862), an interface that comes up delays them by up to another.
const DAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a carrier is waited for: the kernel reports it at most a second late
/// (net/core/link_watch.c).
const CARRIER_LIMIT: Duration = Duration::from_millis(1500);

/// Whether duplicate IPv6 addresses are detected (RFC 4862, section 5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dad {
    /// As the kernel is configured.
    Kernel,
    /// No: addresses are usable at once.
    Off,
    /// Yes, and the interface's own looped-back probes are recognised (RFC 7527).
    Enhanced,
}

/// Sets the container's interface up with its addresses and routes.
pub(super) fn configure(context: &Context<'_>, link: &Link, dad: Dad, addresses: &AddResult) -> Result<()> {
    let container = context.container();
    let ipv6 = addresses.ips.iter().any(|ip| ip.address.is_ipv6());
    context.namespaces().netns.enter(|| settings(context.ifname(), dad, ipv6))??;
    let ipam = context.request.conf.ipam.as_ref();
    let kept_by_ipam = |ip: &IpConfig| ip.address.is_ipv6() && ipam.is_some_and(ipam::replaces_addresses);
    for ip in addresses.ips.iter().filter(|ip| !kept_by_ipam(ip)) {
        container.add_address(link, ip.address)?;
    }
    // The order matters: the kernel announces the addresses that an interface has as it comes up.
    container.set_up(link)?;
    // As the Go plugins: without a gateway the container does not depend on its addresses at once.
    if addresses.ips.iter().any(|ip| ip.gateway.is_some_and(|gateway| gateway.is_ipv6())) {
        wait_for_dad(container, link)?;
    }
    for route in &addresses.routes {
        let gateway = |ip: &IpConfig| ip.gateway.filter(|gw| route.dst.same_family(*gw));
        container.add_route(link, route, route.gw.or_else(|| addresses.ips.iter().find_map(gateway)))?;
    }
    Ok(())
}

/// Waits until duplicate address detection has finished. Without a carrier it never does, and that is
/// no error: the addresses are there once the carrier is.
fn wait_for_dad(container: &Netlink, link: &Link) -> Result<()> {
    for limit in [CARRIER_LIMIT, DAD_LIMIT.saturating_sub(CARRIER_LIMIT)] {
        match container.wait_until_settled(link, limit) {
            Err(Failure { errno: Errno::ETIMEDOUT, .. }) => {}
            settled => return Ok(settled?),
        }
        let state = container.link_by_index(link.index)?.map(|link| link.oper_state);
        if state != Some(OperState::Up) {
            return Ok(());
        }
    }
    let limit = DAD_LIMIT.as_secs();
    Err(Error::new(
        Code::KERNEL,
        format!("duplicate address detection on interface {} did not finish in {limit} s", link.name),
    ))
}

/// The kernel settings that an interface gets before its addresses. With the two `notify`
/// settings the kernel itself sends gratuitous ARP and unsolicited neighbour advertisements,
/// when the interface comes up and whenever its MAC address changes.
fn settings(ifname: &IfName, dad: Dad, ipv6: bool) -> Result<()> {
    match dad {
        Dad::Kernel => {}
        Dad::Off => Sysctl::ipv6("accept_dad", ifname).prefer("0"),
        Dad::Enhanced => {
            Sysctl::ipv6("enhanced_dad", ifname).prefer("1");
            Sysctl::ipv6("accept_dad", ifname).prefer("1");
        }
    }
    Sysctl::ipv4("arp_notify", ifname).prefer("1");
    if ipv6 {
        let loopback: IfName = "lo".parse()?;
        Sysctl::ipv6("disable_ipv6", &loopback).ensure("0")?;
        Sysctl::ipv6("disable_ipv6", ifname).ensure("0")?;
        // Addresses survive when the interface is set down and up again, as IPv4's do.
        Sysctl::ipv6("keep_addr_on_down", ifname).ensure("1")?;
        Sysctl::ipv6("ndisc_notify", ifname).prefer("1");
    }
    Ok(())
}

/// Adds to a result, for each family that it has an address of, the default route through that
/// address's gateway, unless it has a default route with a next hop already. They have the order of the
/// addresses.
pub fn add_default_routes(result: &mut AddResult) {
    let first_of_family = |(index, ip): &(usize, IpConfig)| {
        !result.ips[..*index].iter().any(|earlier| earlier.address.is_ipv4() == ip.address.is_ipv4())
    };
    let ips: Vec<_> = result.ips.iter().cloned().enumerate().filter(first_of_family).collect();
    for (_, ip) in ips {
        let v4 = ip.address.is_ipv4();
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
        let of_ipv4 = Route::new("0.0.0.0/0".parse().unwrap(), "10.0.0.1".parse().ok());
        assert_eq!(result.routes[1], of_ipv4);
        let of_ipv6 = Route::new("::/0".parse().unwrap(), "fd00::1".parse().ok());
        let mut turned = AddResult { routes: vec![], ..result };
        turned.ips.reverse();
        add_default_routes(&mut turned);
        assert_eq!(turned.routes, [of_ipv6, Route { gw: "10.1.0.1".parse().ok(), ..of_ipv4 }]);
    }
}
