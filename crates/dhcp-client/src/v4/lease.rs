//! What a server grants.

use std::net::Ipv4Addr;

use super::packet::{Options, Packet, code};
use crate::names::{is_name, names};
use crate::timers::Timers;
use crate::{SECOND, Time};

/// Used where a server gives no lease time, in seconds.
const DEFAULT_LEASE: u32 = 3600;

/// A shorter lease can't be renewed in an orderly way, in seconds.
const SHORTEST_LEASE: u32 = 2;

/// The lease time that never ends (RFC 2131, section 3.3).
const INFINITE: u32 = u32::MAX;

/// An address and what a server sent with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
    /// The server that granted it (option 54).
    pub server: Ipv4Addr,
    /// When it was requested: all its times count from here.
    pub start: Time,
    /// When to renew it; `None` for a lease that never ends.
    pub timers: Option<Timers>,
    /// All options of the ACK.
    pub options: Options,
}

/// Why a message grants nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It does not say which server sent it.
    NoServer,
    /// No interface can have the address.
    Address,
    /// The subnet mask has holes, or is empty.
    Mask,
    /// The lease ends before it could be renewed.
    TooShort,
}

impl Refused {
    /// The reason as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::NoServer => "it has no server identifier",
            Refused::Address => "its address is not one that an interface can have",
            Refused::Mask => "its subnet mask is not one",
            Refused::TooShort => "its lease time is below 2 seconds",
        }
    }
}

/// A route of options 121, 33 or 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The destination network.
    pub destination: Ipv4Addr,
    /// The length of its prefix, in bits.
    pub prefix: u8,
    /// The next hop; 0.0.0.0 where the destination is on the link itself (RFC 3442).
    pub router: Ipv4Addr,
}

impl Lease {
    /// The lease that an OFFER or ACK describes, requested at `start`.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn read(packet: &Packet, start: Time) -> Result<Lease, Refused> {
        let options = &packet.options;
        let server =
            options.address(code::SERVER_ID).filter(|server| is_host(*server)).ok_or(Refused::NoServer)?;
        if !is_host(packet.yiaddr) {
            return Err(Refused::Address);
        }
        let prefix = match options.get(code::SUBNET_MASK) {
            Some(_) => options.address(code::SUBNET_MASK).and_then(prefix_length).ok_or(Refused::Mask)?,
            None => class_prefix(packet.yiaddr),
        };
        let timers = match options.number(code::LEASE_TIME).unwrap_or(DEFAULT_LEASE) {
            INFINITE => None,
            seconds if seconds < SHORTEST_LEASE => return Err(Refused::TooShort),
            seconds => Some(timers(start, seconds, options)),
        };
        Ok(Lease { address: packet.yiaddr, prefix, server, start, timers, options: options.clone() })
    }

    /// When the address must not be used any more; `None` for never.
    pub fn expiry(&self) -> Option<Time> {
        self.timers.map(|timers| timers.expiry)
    }

    /// The first router (option 3).
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.options.addresses(code::ROUTER).into_iter().find(|router| is_host(*router))
    }

    /// The routes: those of option 121 alone where there are some (RFC 3442), else those of
    /// option 33 by the classes of their destinations, and a default route by the first router.
    pub fn routes(&self) -> Vec<Route> {
        let classless = classless_routes(self.options.get(code::CLASSLESS_STATIC_ROUTE).unwrap_or_default());
        if !classless.is_empty() {
            return classless;
        }
        let pairs = self.options.addresses(code::STATIC_ROUTE);
        let (pairs, _) = pairs.as_chunks::<2>();
        // RFC 2132, section 5.8: 0.0.0.0 is not a legal destination there.
        let mut routes: Vec<Route> = pairs
            .iter()
            .filter(|[destination, router]| !destination.is_unspecified() && is_host(*router))
            .map(|&[destination, router]| {
                let prefix = class_prefix(destination);
                Route { destination: network(destination, prefix), prefix, router }
            })
            .collect();
        let default = |router| Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, router };
        routes.extend(self.gateway().map(default));
        routes
    }

    /// The name servers (option 6).
    pub fn name_servers(&self) -> Vec<Ipv4Addr> {
        let servers = self.options.addresses(code::DOMAIN_NAME_SERVER);
        servers.into_iter().filter(|server| !server.is_unspecified()).collect()
    }

    /// The domain (option 15), where it is a name.
    pub fn domain(&self) -> Option<String> {
        let value = self.options.get(code::DOMAIN_NAME)?;
        // Some servers end it with a zero byte.
        let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\0', '.']);
        is_name(text).then(|| text.to_owned())
    }

    /// The search list (option 119, RFC 3397); empty where any part of it is malformed.
    pub fn search(&self) -> Vec<String> {
        self.options.get(code::DOMAIN_SEARCH).and_then(names).unwrap_or_default()
    }

    /// The MTU of the link in bytes (option 26), where IPv4 can work with it (RFC 2132, section 5.1).
    pub fn mtu(&self) -> Option<u16> {
        let value = <[u8; 2]>::try_from(self.options.get(code::INTERFACE_MTU)?).ok()?;
        Some(u16::from_be_bytes(value)).filter(|mtu| *mtu >= 68)
    }
}

/// T1 and T2 as the server gave them where they make sense, else by RFC 2131, section 4.4.5.
fn timers(start: Time, seconds: u32, options: &Options) -> Timers {
    let lease = u64::from(seconds) * SECOND;
    let given = |number| options.number(number).map(|seconds| u64::from(seconds) * SECOND);
    let given = [code::RENEWAL_TIME, code::REBINDING_TIME].map(given);
    Timers::new(start, lease, given, [lease / 2, lease / 8 * 7])
}

/// Whether a host can have the address (RFC 1122, section 3.2.1.3).
fn is_host(ip: Ipv4Addr) -> bool {
    let first = ip.octets()[0];
    first != 0 && first != 127 && first < 240 && !ip.is_multicast()
}

fn prefix_length(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits != 0 && bits.leading_ones() + bits.trailing_zeros() == 32).then_some(bits.leading_ones() as u8)
}

fn class_prefix(ip: Ipv4Addr) -> u8 {
    match ip.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

fn network(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host_bits = 32 - u32::from(prefix.min(32));
    Ipv4Addr::from(u32::from(ip).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0))
}

/// Destination descriptors and routers of RFC 3442; those before the first malformed one.
fn classless_routes(mut value: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    while let [prefix, rest @ ..] = value {
        let significant = usize::from(*prefix).div_ceil(8);
        if *prefix > 32 || rest.len() < significant + 4 {
            break;
        }
        let (descriptor, rest) = rest.split_at(significant);
        let mut octets = [0; 4];
        octets[..significant].copy_from_slice(descriptor);
        let router = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
        let route = Route { destination: network(octets.into(), *prefix), prefix: *prefix, router };
        // The kernel takes a route once, and none by a router that can't be one.
        if !routes.contains(&route) && (router.is_unspecified() || is_host(router)) {
            routes.push(route);
        }
        value = &rest[4..];
    }
    routes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::MessageType;
    use super::*;

    fn ack(set: &[(u8, &[u8])]) -> Packet {
        let mut packet = Packet::request(MessageType::Ack, 1, [2, 0, 0, 0, 0, 1]);
        packet.reply = true;
        packet.yiaddr = Ipv4Addr::new(10, 1, 2, 3);
        packet.options.set(code::SERVER_ID, [10, 1, 2, 1]);
        packet.options.set(code::SUBNET_MASK, [255, 255, 255, 0]);
        for (code, value) in set {
            packet.options.set(*code, *value);
        }
        packet
    }

    fn lease(set: &[(u8, &[u8])]) -> Lease {
        Lease::read(&ack(set), Time(0)).unwrap()
    }

    fn times(set: &[(u8, u32)]) -> Option<(u64, u64, u64)> {
        let values: Vec<(u8, [u8; 4])> =
            set.iter().map(|(code, value)| (*code, value.to_be_bytes())).collect();
        let values: Vec<(u8, &[u8])> = values.iter().map(|(code, value)| (*code, &value[..])).collect();
        lease(&values).timers.map(|t| (t.renew.0 / SECOND, t.rebind.0 / SECOND, t.expiry.0 / SECOND))
    }

    #[test]
    fn a_route_that_comes_twice_or_has_no_router_is_left_out() {
        let value = [8, 10, 10, 0, 0, 1, 8, 10, 10, 0, 0, 1, 8, 11, 224, 0, 0, 1, 16, 10, 7, 0, 0, 0, 0];
        let routes = lease(&[(code::CLASSLESS_STATIC_ROUTE, &value)]).routes();
        let found: Vec<_> =
            routes.iter().map(|it| (it.destination.octets()[1], it.router.octets()[0])).collect();
        assert_eq!(found, [(0, 10), (7, 0)]);
    }

    #[test]
    fn timers_are_the_servers_where_they_make_sense() {
        const T1: u8 = code::RENEWAL_TIME;
        const T2: u8 = code::REBINDING_TIME;
        const L: u8 = code::LEASE_TIME;
        assert_eq!(times(&[]), Some((1800, 3150, 3600)));
        assert_eq!(times(&[(L, 800)]), Some((400, 700, 800)));
        assert_eq!(times(&[(L, 800), (T1, 100), (T2, 200)]), Some((100, 200, 800)));
        assert_eq!(times(&[(L, 800), (T1, 300), (T2, 200)]), Some((100, 200, 800)), "T1 after T2");
        assert_eq!(times(&[(L, 800), (T1, 900), (T2, 900)]), Some((400, 700, 800)), "after the end");
        assert_eq!(times(&[(L, 800), (T1, 0), (T2, 0)]), Some((400, 700, 800)));
        assert_eq!(times(&[(L, u32::MAX), (T1, 5)]), None, "never");
        let refused = |value: [u8; 4]| Lease::read(&ack(&[(L, &value)]), Time(0)).unwrap_err();
        assert_eq!(refused([0, 0, 0, 0]), Refused::TooShort);
        assert_eq!(refused([0, 0, 0, 1]), Refused::TooShort);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let mut packet = ack(&[]);
        for bad in [[0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1], [127, 0, 0, 1]] {
            packet.yiaddr = bad.into();
            assert_eq!(Lease::read(&packet, Time(0)), Err(Refused::Address));
        }
        assert_eq!(Lease::read(&ack(&[(code::SUBNET_MASK, &[255, 0, 255, 0])]), Time(0)), Err(Refused::Mask));
        assert_eq!(Lease::read(&ack(&[(code::SERVER_ID, &[10, 1])]), Time(0)), Err(Refused::NoServer));
    }

    #[test]
    fn classless_routes_come_before_all_others() {
        let router = |last| Ipv4Addr::new(10, 1, 2, last);
        let both = lease(&[
            (code::ROUTER, &[10, 1, 2, 1]),
            (code::STATIC_ROUTE, &[10, 9, 0, 0, 10, 1, 2, 9]),
            (code::CLASSLESS_STATIC_ROUTE, &[0, 10, 1, 2, 254, 24, 192, 168, 7, 0, 0, 0, 0]),
        ]);
        assert_eq!(
            both.routes(),
            [
                Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, router: router(254) },
                Route {
                    destination: Ipv4Addr::new(192, 168, 7, 0),
                    prefix: 24,
                    router: Ipv4Addr::UNSPECIFIED
                },
            ]
        );
        assert_eq!(both.gateway(), Some(router(1)));
        let classful = lease(&[
            (code::ROUTER, &[10, 1, 2, 1, 10, 1, 2, 2]),
            (code::STATIC_ROUTE, &[172, 16, 3, 4, 10, 1, 2, 9, 0, 0, 0, 0, 10, 1, 2, 9]),
        ]);
        assert_eq!(
            classful.routes(),
            [
                Route { destination: Ipv4Addr::new(172, 16, 0, 0), prefix: 16, router: router(9) },
                Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, router: router(1) },
            ]
        );
        assert_eq!(classless_routes(&[33, 1, 2, 3, 4, 5, 6, 7, 8, 9]), []);
        assert_eq!(classless_routes(&[32, 1, 2, 3]), []);
    }

    #[test]
    fn names_are_read_with_pointers_and_hostile_ones_refused() {
        // The example of RFC 3397, section 2.
        let value = b"\x03eng\x05apple\x03com\x00\x09marketing\xC0\x04";
        assert_eq!(names(value).unwrap(), ["eng.apple.com", "marketing.apple.com"]);
        for bad in [&b"\xC0\x00"[..], b"\x03abc", b"\x03a b\x00", b"\x40", b"\x01a\xC0\x02", b"\x00"] {
            assert_eq!(names(bad), None, "{bad:?}");
        }
        assert_eq!(lease(&[(code::DOMAIN_NAME, b"example.com\0")]).domain().unwrap(), "example.com");
        assert_eq!(lease(&[(code::DOMAIN_NAME, b"a b\nnameserver 6.6.6.6")]).domain(), None);
        assert_eq!(lease(&[(code::INTERFACE_MTU, &[0, 60])]).mtu(), None);
        assert_eq!(lease(&[(code::INTERFACE_MTU, &[5, 120])]).mtu(), Some(1400));
    }

    proptest! {
        #[test]
        fn timers_are_in_order_whatever_the_server_says(
            lease_time: u32, renew: Option<u32>, rebind: Option<u32>, small: bool,
        ) {
            let scale = |value: u32| if small { value % 64 } else { value };
            let mut set = vec![(code::LEASE_TIME, scale(lease_time))];
            set.extend(renew.map(|value| (code::RENEWAL_TIME, scale(value))));
            set.extend(rebind.map(|value| (code::REBINDING_TIME, scale(value))));
            let values: Vec<(u8, [u8; 4])> = set.iter().map(|(code, value)| (*code, value.to_be_bytes())).collect();
            let values: Vec<(u8, &[u8])> = values.iter().map(|(code, value)| (*code, &value[..])).collect();
            if let Ok(Lease { timers: Some(timers), .. }) = Lease::read(&ack(&values), Time(5)) {
                prop_assert!(Time(5) < timers.renew);
                prop_assert!(timers.renew < timers.rebind);
                prop_assert!(timers.rebind < timers.expiry);
            }
        }

        #[test]
        fn any_options_are_read(code in any::<u8>(), value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(lease) = Lease::read(&ack(&[(code, &value)]), Time(0)) {
                prop_assert!(lease.routes().len() <= value.len() + 1);
                prop_assert!(lease.search().iter().chain(&lease.domain()).all(|name| is_name(name)));
                let _ = (lease.name_servers(), lease.mtu(), lease.gateway());
            }
        }
    }
}
