//! Name servers and search lists of router advertisements (RFC 8106).

use std::net::Ipv6Addr;

use crate::{SECOND, Time, names};

/// Options of neighbour discovery by number.
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;

/// The most that is kept of each; RFC 8106, section 5.3.1 wants three, and resolvers read six domains.
const MOST: usize = 8;

/// What routers have announced, each with the time at which it ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouterDns {
    servers: Vec<(Ipv6Addr, Time)>,
    search: Vec<(String, Time)>,
}

impl RouterDns {
    /// Takes in the options of a router advertisement (RFC 4861, section 4.6). What is malformed, or of
    /// another kind, is left out.
    pub fn read(&mut self, mut options: &[u8], now: Time) {
        while let [kind, units, ..] = *options {
            if units == 0 {
                return;
            }
            let Some((option, rest)) = options.split_at_checked(usize::from(units) * 8) else { return };
            self.read_option(kind, option, now);
            options = rest;
        }
    }

    fn read_option(&mut self, kind: u8, option: &[u8], now: Time) {
        // Type, length, two reserved bytes, lifetime.
        let [_, _, _, _, a, b, c, d, value @ ..] = option else { return };
        let lifetime = u64::from(u32::from_be_bytes([*a, *b, *c, *d])) * SECOND;
        let end = (lifetime > 0).then(|| now.after(lifetime));
        match kind {
            RDNSS => {
                let (servers, _) = value.as_chunks::<16>();
                for server in servers.iter().map(|bytes| Ipv6Addr::from(*bytes)).filter(is_usable) {
                    note(&mut self.servers, server, now, end);
                }
            }
            DNSSL => {
                for name in padded_names(value) {
                    note(&mut self.search, name, now, end);
                }
            }
            _ => {}
        }
    }

    /// The name servers at a time.
    pub fn name_servers(&self, now: Time) -> Vec<Ipv6Addr> {
        at(&self.servers, now)
    }

    /// The search list at a time.
    pub fn search(&self, now: Time) -> Vec<String> {
        at(&self.search, now)
    }
}

/// Sets the end of an entry, or removes it where its lifetime is 0.
fn note<T: PartialEq>(list: &mut Vec<(T, Time)>, entry: T, now: Time, end: Option<Time>) {
    list.retain(|(_, end)| *end > now);
    let known = list.iter().position(|(known, _)| *known == entry);
    match (known, end) {
        (Some(index), Some(end)) => list[index].1 = end,
        (Some(index), None) => drop(list.remove(index)),
        (None, Some(end)) if list.len() < MOST => list.push((entry, end)),
        (None, _) => {}
    }
}

fn at<T: Clone>(list: &[(T, Time)], now: Time) -> Vec<T> {
    list.iter().filter(|(_, end)| *end > now).map(|(entry, _)| entry.clone()).collect()
}

/// A link-local one means nothing without its interface, which a resolver's configuration would have to name.
fn is_usable(server: &Ipv6Addr) -> bool {
    !server.is_unspecified() && !server.is_multicast() && !server.is_unicast_link_local()
}

/// Names that zeros follow up to the option's end (RFC 8106, section 5.2); none where one is malformed.
fn padded_names(value: &[u8]) -> Vec<String> {
    let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 2);
    value.get(..end).and_then(names::names).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rdnss(lifetime: u32, servers: &[&str]) -> Vec<u8> {
        let mut option = vec![RDNSS, 1 + 2 * servers.len() as u8, 0, 0];
        option.extend(lifetime.to_be_bytes());
        servers.iter().for_each(|server| option.extend(server.parse::<Ipv6Addr>().unwrap().octets()));
        option
    }

    fn dnssl(lifetime: u32, names: &[u8]) -> Vec<u8> {
        let mut option = vec![DNSSL, 1 + names.len().div_ceil(8) as u8, 0, 0];
        option.extend(lifetime.to_be_bytes());
        option.extend(names);
        option.resize(usize::from(option[1]) * 8, 0);
        option
    }

    fn texts(dns: &RouterDns, seconds: u64) -> Vec<String> {
        dns.name_servers(Time(seconds * SECOND)).iter().map(Ipv6Addr::to_string).collect()
    }

    #[test]
    fn what_is_announced_ends_with_its_lifetime_or_when_it_is_withdrawn() {
        let mut dns = RouterDns::default();
        let options = [rdnss(10, &["fd00::1", "fd00::2"]), dnssl(20, b"\x01a\x07example\0\x01b\0")].concat();
        dns.read(&options, Time(0));
        assert_eq!(texts(&dns, 9), ["fd00::1", "fd00::2"]);
        assert_eq!(texts(&dns, 10), [""; 0]);
        assert_eq!(dns.search(Time(0)), ["a.example", "b"]);
        dns.read(&rdnss(30, &["fd00::1"]), Time(5 * SECOND));
        dns.read(&rdnss(0, &["fd00::2"]), Time(5 * SECOND));
        dns.read(&dnssl(0, b"\x01b\0"), Time(5 * SECOND));
        assert_eq!(
            (texts(&dns, 6), dns.search(Time(0))),
            (vec!["fd00::1".to_owned()], vec!["a.example".to_owned()])
        );
        assert_eq!(texts(&dns, 34), ["fd00::1"]);
    }

    #[test]
    fn what_no_resolver_can_use_is_left_out() {
        let mut dns = RouterDns::default();
        dns.read(&rdnss(10, &["::", "ff02::1", "fe80::1", "fd00::1"]), Time(0));
        // A name with a space, one that points to another, and an option that is cut off.
        dns.read(&dnssl(10, b"\x03a b\0"), Time(0));
        dns.read(&dnssl(10, b"\xc0\x00\x01a\0"), Time(0));
        dns.read(&rdnss(10, &["fd00::9"])[..23], Time(0));
        assert_eq!((texts(&dns, 0), dns.search(Time(0))), (vec!["fd00::1".to_owned()], Vec::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_little_is_kept(bytes in proptest::collection::vec(any::<u8>(), 0..400), many: bool) {
            let mut dns = RouterDns::default();
            if many {
                for i in 0..20 {
                    dns.read(&rdnss(10, &[&format!("fd00::{i}")]), Time(0));
                }
            }
            dns.read(&bytes, Time(0));
            prop_assert!(dns.name_servers(Time(0)).len() <= MOST && dns.search(Time(0)).len() <= MOST);
        }
    }
}
