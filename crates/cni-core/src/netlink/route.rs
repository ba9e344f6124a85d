//! Routes.

use std::net::IpAddr;

use nix::libc;

use super::address::{family, ip, octets};
use super::link::{Link, gone_is_fine};
use super::message::{Answer, Message, attributes, u16_at, u32_at};
use super::uapi::*;
use super::{Netlink, Result};
use crate::spec::{Cidr, Route};

/// A route as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstalledRoute {
    /// The destination.
    pub dst: Cidr,
    /// The next hop; `None` for a destination on the link.
    pub gw: Option<IpAddr>,
    /// The index of the link that packets leave by.
    pub index: u32,
    /// Its metric.
    pub priority: u32,
    /// Its table.
    pub table: u32,
    /// Its scope.
    pub scope: u8,
}

impl InstalledRoute {
    /// One route for each next hop: an IPv6 route to one destination may have several.
    pub(super) fn read(answer: &Answer<'_>) -> Option<Vec<InstalledRoute>> {
        if answer.kind != RTM_NEWROUTE {
            return None;
        }
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
        let [af, prefix, _, _, table, _, scope, kind] = *answer.body.get(..8)? else {
            return None;
        };
        let zero = match i32::from(af) {
            libc::AF_INET => IpAddr::from([0; 4]),
            libc::AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        if kind != RTN_UNICAST {
            return None;
        }
        let mut dst = zero;
        let mut route = InstalledRoute {
            dst: Cidr::host(zero),
            gw: None,
            index: 0,
            priority: 0,
            table: table.into(),
            scope,
        };
        let mut hops = Vec::new();
        for (kind, value) in attributes(answer.body.get(12..)?) {
            match kind {
                RTA_DST => dst = ip(value)?,
                RTA_GATEWAY => route.gw = ip(value),
                RTA_OIF => route.index = u32_at(value, 0)?,
                RTA_PRIORITY => route.priority = u32_at(value, 0)?,
                RTA_TABLE => route.table = u32_at(value, 0)?,
                RTA_MULTIPATH => hops = next_hops(value),
                _ => {}
            }
        }
        route.dst = Cidr::new(dst, prefix)?;
        if hops.is_empty() {
            return Some(vec![route]);
        }
        Some(hops.into_iter().map(|(index, gw)| InstalledRoute { index, gw, ..route.clone() }).collect())
    }
}

/// The next hops of `RTA_MULTIPATH`: `struct rtnexthop` (length, flags, hops, index) and attributes.
fn next_hops(mut bytes: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    let mut hops = Vec::new();
    while let (Some(len), Some(index)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        let len = usize::from(len);
        if len < 8 || len > bytes.len() {
            break;
        }
        let gw = attributes(&bytes[8..len])
            .find(|(kind, _)| *kind == RTA_GATEWAY)
            .and_then(|(_, value)| ip(value));
        hops.push((index, gw));
        bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
    }
    hops
}

impl Netlink {
    /// The routes of a link, in all tables and both families.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn routes(&self, link: &Link) -> Result<Vec<InstalledRoute>> {
        let operation = || format!("listing the routes of interface {}", link.name);
        let read = |answer: &Answer<'_>| {
            // Kernels before 4.20 ignore the index and list the routes of all links.
            let routes = InstalledRoute::read(answer)?.into_iter().filter(|route| route.index == link.index);
            Some(routes.collect::<Vec<_>>()).filter(|routes| !routes.is_empty())
        };
        self.list_routes(Some(link.index), operation, read)
    }

    /// The default routes of all tables and both families: a router has too many routes for a
    /// list of all.
    ///
    /// # Errors
    /// When the kernel can't answer.
    pub fn default_routes(&self) -> Result<Vec<InstalledRoute>> {
        self.list_routes(
            None,
            || "listing default routes".to_owned(),
            |answer| InstalledRoute::read(answer).filter(|routes| routes[0].dst.prefix() == 0),
        )
    }

    fn list_routes(
        &self,
        link: Option<u32>,
        operation: impl Fn() -> String,
        read: impl Fn(&Answer<'_>) -> Option<Vec<InstalledRoute>>,
    ) -> Result<Vec<InstalledRoute>> {
        let mut found = Vec::new();
        for af in [libc::AF_INET, libc::AF_INET6] {
            let mut message = Message::new(RTM_GETROUTE, libc::NLM_F_DUMP, &rtmsg_of_family(af as u8));
            if let Some(index) = link {
                message.attr_u32(RTA_OIF, index);
            }
            found.extend(self.list(&message, &operation, &read)?);
        }
        Ok(found.concat())
    }

    /// Adds a route through a link. A route with the same destination and metric that is there
    /// already stays: an IPv4 route goes before it, so that the latest is used (`fib_table_insert` in
    /// net/ipv4/fib_trie.c), an IPv6 route becomes one more next hop of it (`fib6_add_rt2node` in
    /// net/ipv6/ip6_fib.c).
    ///
    /// # Errors
    /// `ENETUNREACH` when the next hop is not reachable through the link.
    pub fn add_route(&self, link: &Link, route: &Route, gw: Option<IpAddr>) -> Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE;
        let message = route_message(RTM_NEWROUTE, flags, link, route, gw);
        self.apply(&message, || format!("adding route {} to interface {}", describe(route, gw), link.name))
    }

    /// Removes a route. Succeeds when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_route(&self, link: &Link, route: &Route, gw: Option<IpAddr>) -> Result<()> {
        let message = route_message(RTM_DELROUTE, libc::NLM_F_ACK, link, route, gw);
        let operation = || format!("removing route {} from interface {}", describe(route, gw), link.name);
        gone_is_fine(self.apply(&message, operation))
    }
}

fn describe(route: &Route, gw: Option<IpAddr>) -> String {
    match gw {
        Some(gw) => format!("{} via {gw}", route.dst),
        None => route.dst.to_string(),
    }
}

/// `struct rtmsg` of a list: the kernel refuses a type or scope there (`ip_valid_fib_dump_req`
/// in net/ipv4/fib_frontend.c, with `NETLINK_GET_STRICT_CHK`).
fn rtmsg_of_family(family: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family;
    bytes
}

/// `struct rtmsg`.
fn rtmsg(family: u8, prefix: u8, table: u8, scope: u8) -> [u8; 12] {
    [family, prefix, 0, 0, table, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0]
}

fn route_message(kind: u16, flags: i32, link: &Link, route: &Route, gw: Option<IpAddr>) -> Message {
    let dst = route.dst.to_network();
    // RTA_TABLE takes precedence over the header, whose field is too small for tables above 255.
    let table = route.table.unwrap_or(RT_TABLE_MAIN);
    // A destination without a next hop is on the link; IPv6 routes have no scope.
    let on_link = gw.is_none() && dst.is_ipv4();
    let scope = route.scope.unwrap_or(if on_link { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE });
    let fixed = rtmsg(family(dst.ip()), dst.prefix(), u8::try_from(table).unwrap_or(0), scope);
    let mut message = Message::new(kind, flags, &fixed);
    message.attr(RTA_DST, &octets(dst.ip())).attr_u32(RTA_OIF, link.index).attr_u32(RTA_TABLE, table);
    if let Some(gw) = gw {
        message.attr(RTA_GATEWAY, &octets(gw));
    }
    if route.priority != 0 {
        message.attr_u32(RTA_PRIORITY, route.priority);
    }
    if route.mtu != 0 || route.advmss != 0 {
        message.nest(RTA_METRICS, |metrics| {
            for (kind, value) in [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] {
                if value != 0 {
                    metrics.attr_u32(kind, value);
                }
            }
        });
    }
    message
}
