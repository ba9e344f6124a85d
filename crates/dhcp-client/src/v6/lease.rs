//! What a server grants.

use std::net::Ipv6Addr;

use super::packet::{IaAddress, IaNa, Message, Options, code, status};
use crate::timers::Timers;
use crate::{SECOND, Time, names};

/// A shorter lifetime can't be renewed in an orderly way, in seconds.
const SHORTEST: u32 = 2;

/// The lifetime that never ends (RFC 8415, section 7.7).
const INFINITE: u32 = u32::MAX;

/// An address and what a server sent with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The address.
    pub address: Ipv6Addr,
    /// The DUID of the server that granted it.
    pub server: Vec<u8>,
    /// When it was requested: all its times count from here.
    pub start: Time,
    /// When new connections should not use it any more; `None` for never.
    pub preferred: Option<Time>,
    /// When to renew it; `None` for a lease that never ends.
    pub timers: Option<Timers>,
    /// The options of the message.
    pub options: Options,
}

/// Why a message grants nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It does not say which server sent it.
    NoServer,
    /// It has no association of ours.
    NoAssociation,
    /// The association has no address that an interface can have.
    NoAddress,
    /// The server takes the address back: its lifetime is 0.
    Withdrawn,
    /// T1 is after T2.
    Timers,
    /// A status code other than success.
    Status(u16),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::NoServer => "it has no server identifier",
            Refused::NoAssociation => "it has no identity association of this client",
            Refused::NoAddress => "it has no address that an interface can have for 2 seconds",
            Refused::Withdrawn => "the server takes the address back",
            Refused::Timers => "its T1 is after its T2",
            Refused::Status(status::UNSPEC_FAIL) => "its status is UnspecFail",
            Refused::Status(status::NO_ADDRS_AVAIL) => "its status is NoAddrsAvail",
            Refused::Status(status::NO_BINDING) => "its status is NoBinding",
            Refused::Status(status::NOT_ON_LINK) => "its status is NotOnLink",
            Refused::Status(status::USE_MULTICAST) => "its status is UseMulticast",
            Refused::Status(number) => return write!(f, "its status code is {number}"),
        })
    }
}

impl Lease {
    /// The lease that an ADVERTISE or REPLY describes, requested at `start`. Of several addresses
    /// it is the one that is held, else the first.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn read(message: &Message, iaid: u32, start: Time, held: Option<Ipv6Addr>) -> Result<Lease, Refused> {
        let options = &message.options;
        let server = options.get(code::SERVER_ID).filter(|duid| is_duid(duid)).ok_or(Refused::NoServer)?;
        let succeeded = |options: &Options| match options.status() {
            status::SUCCESS => Ok(()),
            other => Err(Refused::Status(other)),
        };
        succeeded(options)?;
        let associations = options.all(code::IA_NA).filter_map(IaNa::parse);
        let association =
            associations.into_iter().find(|it| it.iaid == iaid).ok_or(Refused::NoAssociation)?;
        succeeded(&association.options)?;
        let IaNa { t1, t2, .. } = association;
        // RFC 8415, section 21.4: the association is discarded.
        if t1 > t2 && t2 > 0 {
            return Err(Refused::Timers);
        }
        let addresses: Vec<IaAddress> =
            association.options.all(code::IA_ADDRESS).filter_map(IaAddress::parse).collect();
        let usable = || addresses.iter().filter(|it| is_usable(it));
        let Some(found) = usable().find(|it| Some(it.address) == held).or_else(|| usable().next()) else {
            let withdrawn = addresses.iter().any(|it| Some(it.address) == held && it.valid == 0);
            return Err(if withdrawn { Refused::Withdrawn } else { Refused::NoAddress });
        };
        let at = |seconds: u32| start.after(u64::from(seconds) * SECOND);
        Ok(Lease {
            address: found.address,
            server: server.to_vec(),
            start,
            preferred: Some(found.preferred).filter(|seconds| *seconds != INFINITE).map(at),
            timers: timers(start, found, t1, t2),
            options: options.clone(),
        })
    }

    /// When the address must not be used any more; `None` for never.
    pub fn expiry(&self) -> Option<Time> {
        self.timers.map(|timers| timers.expiry)
    }

    /// The name servers (RFC 3646, section 3).
    pub fn name_servers(&self) -> Vec<Ipv6Addr> {
        let servers = self.options.addresses(code::DNS_SERVERS);
        servers.into_iter().filter(|server| !server.is_unspecified() && !server.is_multicast()).collect()
    }

    /// The search list (RFC 3646, section 4); empty where any part of it is malformed.
    pub fn search(&self) -> Vec<String> {
        self.options.get(code::DOMAIN_LIST).and_then(names::names).unwrap_or_default()
    }
}

/// RFC 8415, section 21.4: where the server leaves T1 and T2 to the client, one half and four fifths
/// of the preferred lifetime.
fn timers(start: Time, address: &IaAddress, t1: u32, t2: u32) -> Option<Timers> {
    let milliseconds = |seconds: u32| u64::from(seconds) * SECOND;
    let valid = Some(address.valid).filter(|valid| *valid != INFINITE).map(milliseconds)?;
    let base = match address.preferred {
        INFINITE | 0..SHORTEST => valid,
        preferred => milliseconds(preferred),
    };
    let [t1, t2] = [t1, t2].map(|seconds| Some(milliseconds(seconds)).filter(|time| *time > 0));
    Some(Timers::new(start, valid, [t1, t2], [base / 2, base / 5 * 4]))
}

fn is_usable(it: &IaAddress) -> bool {
    let ip = it.address;
    let address = !ip.is_unspecified()
        && !ip.is_loopback()
        && !ip.is_multicast()
        && !ip.is_unicast_link_local()
        && ip.to_ipv4_mapped().is_none();
    let accepted = it.options.status() == status::SUCCESS;
    // RFC 8415, section 18.2.10.1: a preferred lifetime above the valid one is discarded.
    address && accepted && it.valid >= SHORTEST && it.preferred <= it.valid
}

/// A DUID has a type of two bytes and up to 128 bytes (RFC 8415, section 11.1).
fn is_duid(bytes: &[u8]) -> bool {
    (3..=130).contains(&bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::MessageType;
    use super::*;

    const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

    fn address(ip: &str, preferred: u32, valid: u32) -> IaAddress {
        IaAddress { address: ip.parse().unwrap(), preferred, valid, options: Options::default() }
    }

    fn reply(t1: u32, t2: u32, addresses: &[IaAddress]) -> Message {
        let mut ia = IaNa { iaid: 1, t1, t2, options: Options::default() };
        for address in addresses {
            ia.options.push(code::IA_ADDRESS, address.to_bytes());
        }
        let mut options = Options::default();
        options.push(code::SERVER_ID, SERVER);
        options.push(code::IA_NA, ia.to_bytes());
        Message { kind: MessageType::Reply, xid: 1, options }
    }

    fn read(message: &Message) -> Result<Lease, Refused> {
        Lease::read(message, 1, Time(0), Some("fd00::7".parse().unwrap()))
    }

    #[test]
    fn timers_are_the_servers_where_it_has_some() {
        let times = |t1, t2, preferred, valid| {
            let lease = read(&reply(t1, t2, &[address("fd00::1", preferred, valid)])).unwrap();
            lease.timers.map(|it| [it.renew, it.rebind, it.expiry].map(|time| time.0 / SECOND))
        };
        assert_eq!(times(10, 20, 30, 60), Some([10, 20, 60]));
        assert_eq!(times(0, 0, 30, 60), Some([15, 24, 60]));
        assert_eq!(times(0, 0, 0, 60), Some([30, 48, 60]), "deprecated from the beginning");
        assert_eq!(times(100, 200, 30, 60), Some([15, 24, 60]), "after the end");
        assert_eq!(times(10, 20, u32::MAX, u32::MAX), None);
    }

    #[test]
    fn the_address_that_is_held_comes_first_and_one_that_cannot_be_used_never() {
        let of =
            |addresses: &[IaAddress]| read(&reply(0, 0, addresses)).map(|lease| lease.address.to_string());
        assert_eq!(of(&[address("fd00::1", 5, 9), address("fd00::7", 5, 9)]).unwrap(), "fd00::7");
        assert_eq!(of(&[address("fd00::7", 0, 0), address("fd00::2", 5, 9)]).unwrap(), "fd00::2");
        assert_eq!(of(&[address("fd00::7", 0, 0)]), Err(Refused::Withdrawn));
        for bad in ["::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert_eq!(of(&[address(bad, 5, 9)]), Err(Refused::NoAddress), "{bad}");
        }
        assert_eq!(
            of(&[address("fd00::1", 9, 5)]),
            Err(Refused::NoAddress),
            "preferred for longer than valid"
        );
        assert_eq!(of(&[address("fd00::1", 1, 1)]), Err(Refused::NoAddress));
        assert_eq!(read(&reply(20, 10, &[address("fd00::1", 5, 9)])), Err(Refused::Timers));
    }

    #[test]
    fn a_status_refuses_wherever_it_stands() {
        let good = address("fd00::1", 5, 9);
        let mut message = reply(0, 0, std::slice::from_ref(&good));
        message.options.push(code::STATUS, [0, 5, b'x']);
        assert_eq!(read(&message), Err(Refused::Status(status::USE_MULTICAST)));
        let mut bad = good;
        bad.options.push(code::STATUS, [0, 4]);
        assert_eq!(read(&reply(0, 0, &[bad])), Err(Refused::NoAddress));
        let mut other = reply(0, 0, &[]);
        other.options = Options::default();
        assert_eq!(read(&other), Err(Refused::NoServer));
        other.options.push(code::SERVER_ID, SERVER);
        assert_eq!(read(&other), Err(Refused::NoAssociation));
    }

    proptest! {
        #[test]
        fn timers_are_in_order_whatever_the_server_says(t1: u32, t2: u32, preferred: u32, valid: u32, small: bool) {
            let scale = |value: u32| if small { value % 32 } else { value };
            let address = address("fd00::1", scale(preferred), scale(valid));
            if let Ok(Lease { timers: Some(timers), .. }) = read(&reply(scale(t1), scale(t2), &[address])) {
                prop_assert!(Time(0) < timers.renew);
                prop_assert!(timers.renew < timers.rebind);
                prop_assert!(timers.rebind < timers.expiry);
            }
        }

        #[test]
        fn any_options_are_read(code in 0u16..90, value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut message = reply(0, 0, &[address("fd00::1", 5, 9)]);
            message.options.push(code, value);
            if let Ok(lease) = read(&message) {
                let _ = (lease.name_servers(), lease.search());
            }
        }
    }
}
