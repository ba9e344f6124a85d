//! Addresses: IP with prefix length, and MAC.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// An IP address with its prefix length, written `10.1.2.3/24`. Host bits are kept.
///
/// Derefs to [`IpNetwork`], which has the arithmetic. Unlike there, the prefix length is
/// required, and must be a number: the CIDR notation of the specification.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNetwork);

impl Cidr {
    /// An address with a prefix length in bits; `None` where it is longer than the address.
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Cidr> {
        IpNetwork::new(canonical(ip), prefix).ok().map(Cidr)
    }

    /// An address with the prefix length of a single address, /32 or /128.
    pub fn host(ip: IpAddr) -> Cidr {
        Cidr(canonical(ip).into())
    }

    /// The destination of a default route, of the family of `like`: `0.0.0.0/0` or `::/0`.
    pub fn default_of(like: IpAddr) -> Cidr {
        let zero: IpAddr = match like {
            IpAddr::V4(_) => [0, 0, 0, 0].into(),
            IpAddr::V6(_) => [0; 16].into(),
        };
        Cidr(IpNetwork::new(zero, 0).unwrap_or_else(|_| zero.into()))
    }

    /// The same with the host bits cleared: `10.1.2.0/24`.
    pub fn to_network(self) -> Cidr {
        Cidr(IpNetwork::new(self.0.network(), self.0.prefix()).unwrap_or(self.0))
    }

    /// Whether both have the same address family.
    pub fn same_family(self, other: IpAddr) -> bool {
        self.0.is_ipv4() == other.is_ipv4()
    }

    /// Whether one network contains the other's address.
    pub fn overlaps(self, other: Cidr) -> bool {
        self.0.contains(other.ip()) || other.contains(self.0.ip())
    }
}

/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) becomes IPv4: the kernel has no routes for it.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

impl Deref for Cidr {
    type Target = IpNetwork;

    fn deref(&self) -> &IpNetwork {
        &self.0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        let wrong =
            || format!("{text:?} is not an address with a prefix length, such as 10.1.2.3/24 or fd00::1/64");
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if ip.to_canonical() == ip {
            return Cidr::new(ip, prefix).ok_or_else(wrong);
        }
        // As in Go, the prefix length of an IPv4-mapped address counts from its 128 bits.
        if prefix > 128 { Err(wrong()) } else { Cidr::new(ip, prefix.saturating_sub(96)).ok_or_else(wrong) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Cidr, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

/// An Ethernet address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address from the kernel's bytes; `None` where it does not have six
    /// (a tunnel has four, InfiniBand twenty).
    pub fn from_bytes(bytes: &[u8]) -> Option<Mac> {
        bytes.try_into().ok().map(Mac)
    }

    /// Whether an interface may have it: not multicast, not all zero
    /// (`is_valid_ether_addr` in include/linux/etherdevice.h).
    pub fn is_valid_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Two hexadecimal digits per byte, separated by `:` or `-`, or three groups of four digits
    /// separated by `.`, as some switches print them. Addresses that no interface can have are
    /// refused.
    fn from_str(text: &str) -> Result<Mac, String> {
        let wrong = || format!("{text:?} is not a MAC address such as 02:00:5e:10:00:01");
        let (separator, digits) = if text.contains('.') {
            ('.', 4)
        } else if text.contains('-') {
            ('-', 2)
        } else {
            (':', 2)
        };
        let groups: Vec<&str> = text.split(separator).collect();
        if groups.iter().any(|group| group.len() != digits) || groups.len() * digits != 12 {
            return Err(wrong());
        }
        let hex = groups.concat();
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 6];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        let mac = Mac(bytes);
        if !mac.is_valid_unicast() {
            return Err(format!("{text:?} is a multicast address or all zero: no interface can have it"));
        }
        Ok(mac)
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Mac, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_length_is_required() {
        assert_eq!("10.1.2.3/24".parse::<Cidr>().unwrap().to_string(), "10.1.2.3/24");
        assert_eq!("fd00::1/64".parse::<Cidr>().unwrap().to_network().to_string(), "fd00::/64");
        for (mapped, address) in [
            ("::ffff:10.1.2.3/120", "10.1.2.3/24"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:a01:203/24", "10.1.2.3/0"),
        ] {
            assert_eq!(mapped.parse::<Cidr>().unwrap().to_string(), address);
        }
        for bad in [
            "",
            "::ffff:10.1.2.3/129",
            "10.1.2.3",
            "10.1.2.3/33",
            "10.1.2.3/255.255.255.0",
            "10.1.2/24",
            "fd00::1/129",
            "1.2.3.4/+8",
            "/8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_addresses_in_their_three_notations() {
        for text in ["02:00:5e:10:00:01", "02-00-5E-10-00-01", "0200.5e10.0001"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:01");
        }
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:0g",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "é2:0:5e:10:00:01",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Mac>();
            if let Ok(cidr) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            }
        }
    }
}
