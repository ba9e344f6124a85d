//! What is reported of an attachment, and whether it is enough for an ADD.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_core::spec::{Cidr, Dns};
use dhcp_client::{SECOND, Time, v4, v6};

use super::attachment::Attachment;
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::on_link::routes;
use crate::protocol::{Family, Hex, Ipv6Report, Report};

/// The scope of addresses that can be reached from everywhere (include/uapi/linux/rtnetlink.h).
const GLOBAL: u8 = 0;

impl Attachment {
    /// Whether there is all that the family wants, but for what may come later.
    pub(crate) fn has_addresses(&self) -> bool {
        match self.target.settings.family {
            Family::Ipv4 | Family::Dual => self.ipv4.as_ref().is_some_and(Ipv4::is_bound),
            Family::Ipv6 => self.has_ipv6(),
        }
    }

    /// Whether IPv6 addresses came as the network has them: a lease, or those of a router advertisement that
    /// has no lease follow.
    pub(crate) fn has_ipv6(&self) -> bool {
        let Some(ipv6) = &self.ipv6 else { return false };
        ipv6.is_bound() || (ipv6.has_unmanaged_router() && !self.slaac().is_empty())
    }

    /// The addresses that the kernel made by router advertisements.
    pub(crate) fn slaac(&self) -> Vec<Cidr> {
        let Some(ipv6) = &self.ipv6 else { return Vec::new() };
        let Ok(found) = self.place.again() else { return Vec::new() };
        let leased = ipv6.client.borrow().lease().map(|lease| IpAddr::V6(lease.address));
        let addresses = found.netlink.addresses(&found.link).unwrap_or_default();
        let made = addresses.into_iter().filter(|it| {
            let global = it.cidr.is_ipv6() && it.scope == GLOBAL;
            global && !it.temporary && !it.duplicate && Some(it.cidr.ip()) != leased
        });
        made.map(|it| it.cidr).collect()
    }

    /// The leases as they are reported.
    pub(crate) fn report(&self) -> Report {
        let now = self.daemon.clock.now();
        let client = self.ipv4.as_ref().map(|ipv4| ipv4.client.borrow());
        let lease = client.as_ref().and_then(|client| client.lease());
        Report {
            id: self.target.id.clone(),
            netns: self.target.netns.clone(),
            state: client.as_ref().map_or("off", |client| client.phase().as_str()).to_owned(),
            address: lease.and_then(|lease| Cidr::new(lease.address.into(), lease.prefix)),
            gateway: lease.and_then(v4::Lease::gateway),
            server: lease.map(|lease| lease.server),
            routes: lease.map(|lease| routes(lease, self.target.settings.priority)).unwrap_or_default(),
            dns: lease.map(dns).unwrap_or_default(),
            mtu: lease.and_then(v4::Lease::mtu),
            renewal: seconds(now, lease.and_then(|lease| lease.timers).map(|timers| timers.renew)),
            expiry: seconds(now, lease.and_then(v4::Lease::expiry)),
            ipv6: self.ipv6.as_ref().map(|ipv6| self.report_ipv6(ipv6, now)),
        }
    }

    fn report_ipv6(&self, ipv6: &Ipv6, now: Time) -> Ipv6Report {
        let client = ipv6.client.borrow();
        let lease = client.lease();
        Ipv6Report {
            state: client.phase().as_str().to_owned(),
            address: lease.map(|lease| Cidr::host(lease.address.into())),
            server: lease.map(|lease| Hex(lease.server.clone())),
            slaac: self.slaac(),
            dns: dns_ipv6(lease, &ipv6.router_dns.borrow(), now),
            renewal: seconds(now, lease.and_then(|lease| lease.timers).map(|timers| timers.renew)),
            expiry: seconds(now, lease.and_then(v6::Lease::expiry)),
        }
    }
}

/// The seconds to a time; `None` for never.
fn seconds(now: Time, at: Option<Time>) -> Option<u64> {
    at.map(|at| at.since(now) / SECOND)
}

fn dns(lease: &v4::Lease) -> Dns {
    Dns {
        nameservers: lease.name_servers().iter().map(Ipv4Addr::to_string).collect(),
        domain: lease.domain().unwrap_or_default(),
        search: lease.search(),
        ..Dns::default()
    }
}

/// What the DHCPv6 server says, and then what routers say (RFC 8106, section 5.3.1).
fn dns_ipv6(lease: Option<&v6::Lease>, routers: &v6::RouterDns, now: Time) -> Dns {
    let mut servers = lease.map(v6::Lease::name_servers).unwrap_or_default();
    servers.extend(routers.name_servers(now));
    let mut search = lease.map(v6::Lease::search).unwrap_or_default();
    search.extend(routers.search(now));
    let nameservers = servers.iter().map(Ipv6Addr::to_string).collect();
    Dns { nameservers: distinct(nameservers), search: distinct(search), ..Dns::default() }
}

/// Without what came before.
fn distinct(list: Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    for text in list {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}
