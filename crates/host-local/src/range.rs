//! Ranges of addresses, and their checks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_core::spec::{Cidr, Error, Result};
use serde::Deserialize;

/// A range in the configuration.
#[derive(Deserialize, Clone, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RangeConf {
    pub(crate) subnet: Option<String>,
    pub(crate) range_start: Option<String>,
    pub(crate) range_end: Option<String>,
    pub(crate) gateway: Option<String>,
}

/// Addresses in sequence, all of one subnet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    /// The subnet, whose prefix length the addresses get.
    pub(crate) subnet: Cidr,
    /// The first address, inclusive.
    pub(crate) first: IpAddr,
    /// The last address, inclusive.
    pub(crate) last: IpAddr,
    /// The gateway, which is never allocated. It may be outside the subnet, and of the other
    /// address family.
    pub(crate) gateway: IpAddr,
}

/// Ranges of one family, of which an attachment gets one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RangeSet(Vec<Range>);

/// An address as a number.
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address with a number, of the family of `like`.
pub(crate) fn address(like: IpAddr, number: u128) -> IpAddr {
    match like {
        // The number is that of an IPv4 address.
        IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

impl Range {
    /// Checks the configured values and sets the defaults.
    pub(crate) fn parse(conf: &RangeConf) -> Result<Range> {
        let text = conf.subnet.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| {
            Error::invalid_config("a range has no subnet").details("such as \"subnet\": \"10.1.0.0/16\"")
        })?;
        let subnet: Cidr = text.parse().map_err(|err| Error::invalid_config(format!("subnet: {err}")))?;
        let bits = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > bits - 2 {
            return Err(Error::invalid_config(format!("subnet {subnet} is too small to allocate from"))
                .details(format!(
                    "the longest prefix with room for a gateway and a container is /{}",
                    bits - 2
                )));
        }
        let network = subnet.to_network();
        if network != subnet {
            return Err(Error::invalid_config(format!("subnet {subnet} has host bits set"))
                .details(format!("the network of that prefix length is {network}")));
        }
        let second = address(network.ip(), number(network.ip()) + 1);
        let gateway = parse_ip(&conf.gateway, "gateway")?.unwrap_or(second);
        let first = parse_ip(&conf.range_start, "rangeStart")?;
        let last = parse_ip(&conf.range_end, "rangeEnd")?;
        for (key, ip) in [("rangeStart", first), ("rangeEnd", last)] {
            if let Some(ip) = ip.filter(|ip| !subnet.same_family(*ip)) {
                return Err(Error::invalid_config(format!(
                    "{key} {ip} is not of the family of its subnet {subnet}"
                )));
            }
            if let Some(ip) = ip.filter(|ip| !subnet.contains(*ip)) {
                return Err(Error::invalid_config(format!("{key} {ip} is outside its subnet {subnet}")));
            }
        }
        let first = first.unwrap_or(second);
        let last = last.unwrap_or_else(|| last_of(subnet));
        if first > last {
            return Err(Error::invalid_config(format!(
                "rangeStart {first} is after rangeEnd {last} in subnet {subnet}"
            )));
        }
        Ok(Range { subnet, first, last, gateway })
    }

    /// Whether an address is in the range. The gateway can be in it.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// How many addresses can be allocated.
    pub(crate) fn size(&self) -> u128 {
        let all = (number(self.last) - number(self.first)).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }

    /// An address of the range with its prefix length.
    pub(crate) fn cidr(&self, ip: IpAddr) -> Cidr {
        // The prefix length fits: the subnet has the same family.
        Cidr::new(ip, self.subnet.prefix()).unwrap_or(Cidr::host(ip))
    }
}

/// An optional address.
fn parse_ip(text: &Option<String>, key: &str) -> Result<Option<IpAddr>> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let ip: IpAddr =
        text.parse().map_err(|_| Error::invalid_config(format!("{key} {text:?} is not an IP address")))?;
    Ok(Some(ip.to_canonical()))
}

/// The last address of a subnet that a container can have. In IPv4 the last address of all is
/// the broadcast address (RFC 919), in IPv6 there is no broadcast.
fn last_of(subnet: Cidr) -> IpAddr {
    let last = subnet.broadcast();
    if last.is_ipv4() { address(last, number(last) - 1) } else { last }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl RangeSet {
    /// Checks each range, and that they have one family and no overlap.
    pub(crate) fn parse(confs: &[RangeConf]) -> Result<RangeSet> {
        let ranges = confs.iter().map(Range::parse).collect::<Result<Vec<_>>>()?;
        let Some(head) = ranges.first() else {
            return Err(Error::invalid_config("it is empty").details("a range set has at least one range"));
        };
        if let Some(other) = ranges.iter().find(|range| !range.subnet.same_family(head.first)) {
            return Err(Error::invalid_config(format!(
                "it mixes address families: {} and {}",
                head.subnet, other.subnet
            ))
            .details("an attachment gets one address of each range set: make two of them"));
        }
        refuse_overlaps(ranges.iter(), "its ranges")?;
        Ok(RangeSet(ranges))
    }

    /// The ranges, at least one.
    pub(crate) fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Whether its addresses are IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.0.iter().any(|range| range.first.is_ipv4())
    }

    /// The range that an address is in.
    pub(crate) fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    /// How many addresses can be allocated.
    pub(crate) fn size(&self) -> u128 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.size()))
    }
}

/// Refuses ranges that overlap. Sorted, only neighbours have to be compared.
pub(crate) fn refuse_overlaps<'a>(ranges: impl Iterator<Item = &'a Range>, what: &str) -> Result<()> {
    let mut ranges: Vec<&Range> = ranges.collect();
    ranges.sort_by_key(|range| range.first);
    for pair in ranges.windows(2) {
        if let [left, right] = pair
            && left.contains(right.first)
        {
            return Err(Error::invalid_config(format!("{what} {left} and {right} overlap")));
        }
    }
    Ok(())
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        for (i, range) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        if self.0.len() > SHOWN {
            write!(f, " and {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cni_core::spec::Code;
    use proptest::prelude::*;

    use super::*;

    fn range(json: &str) -> Result<Range> {
        Range::parse(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn missing_values_have_defaults() {
        let v4 = range(r#"{"subnet":"10.1.2.0/24"}"#).unwrap();
        assert_eq!(v4.to_string(), "10.1.2.1-10.1.2.254");
        assert_eq!((v4.gateway.to_string().as_str(), v4.size()), ("10.1.2.1", 253));
        let v6 = range(r#"{"subnet":"fd00::/120"}"#).unwrap();
        assert_eq!(v6.to_string(), "fd00::1-fd00::ff");
        let explicit =
            r#"{"subnet":"10.0.0.0/8","rangeStart":"10.0.0.0","rangeEnd":"10.255.255.255","gateway":""}"#;
        assert_eq!(range(explicit).unwrap().size(), (1 << 24) - 1);
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_accepted() {
        let range = range(r#"{"subnet":"10.1.2.0/24","gateway":"192.0.2.1"}"#).unwrap();
        assert_eq!((range.gateway.to_string().as_str(), range.size()), ("192.0.2.1", 254));
    }

    #[test]
    fn a_gateway_of_the_other_family_is_accepted() {
        let range = range(r#"{"subnet":"fd00::/120","gateway":"10.0.0.1"}"#).unwrap();
        assert_eq!((range.gateway.to_string().as_str(), range.size()), ("10.0.0.1", 255));
    }

    #[test]
    fn an_error_names_the_wrong_value() {
        for (json, message) in [
            (r#"{}"#, "no subnet"),
            (r#"{"subnet":"10.1.2.0"}"#, "10.1.2.0"),
            (
                r#"{"subnet":"10.1.2.3/24"}"#,
                "10.1.2.3/24 has host bits set; the network of that prefix length is 10.1.2.0/24",
            ),
            (r#"{"subnet":"10.1.2.0/31"}"#, "10.1.2.0/31 is too small"),
            (r#"{"subnet":"fd00::/127"}"#, "fd00::/127 is too small"),
            (
                r#"{"subnet":"10.1.2.0/24","rangeStart":"10.1.2.9","rangeEnd":"10.1.2.8"}"#,
                "rangeStart 10.1.2.9 is after rangeEnd 10.1.2.8",
            ),
            (
                r#"{"subnet":"10.1.2.0/24","rangeEnd":"10.1.2.0"}"#,
                "rangeStart 10.1.2.1 is after rangeEnd 10.1.2.0",
            ),
            (
                r#"{"subnet":"10.1.2.0/24","rangeStart":"10.1.3.1"}"#,
                "rangeStart 10.1.3.1 is outside its subnet 10.1.2.0/24",
            ),
            (
                r#"{"subnet":"10.1.2.0/24","rangeEnd":"10.1.1.1"}"#,
                "rangeEnd 10.1.1.1 is outside its subnet 10.1.2.0/24",
            ),
            (r#"{"subnet":"10.1.2.0/24","rangeStart":"fd00::1"}"#, "fd00::1 is not of the family"),
            (r#"{"subnet":"10.1.2.0/24","gateway":"router"}"#, "\"router\" is not an IP address"),
        ] {
            let err = range(json).unwrap_err();
            assert_eq!(err.code(), Code::INVALID_CONFIG, "{json}");
            assert!(err.to_string().contains(message), "{json}: {err}");
        }
    }

    fn set(json: &str) -> Result<RangeSet> {
        RangeSet::parse(&serde_json::from_str::<Vec<RangeConf>>(json).unwrap())
    }

    #[test]
    fn a_set_has_one_family_and_no_overlaps() {
        for (json, message) in [
            ("[]", "empty"),
            (r#"[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]"#, "10.0.0.0/24 and fd00::/64"),
            (r#"[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.0.0/16"}]"#, "overlap"),
            (
                r#"[{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9"},{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9"}]"#,
                "10.0.0.1-10.0.0.9 and 10.0.0.9-10.0.0.254 overlap",
            ),
        ] {
            let err = set(json).unwrap_err();
            assert_eq!(err.code(), Code::INVALID_CONFIG);
            assert!(err.to_string().contains(message), "{json}: {err}");
        }
        let apart = r#"[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.10"},{"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.9"}]"#;
        assert_eq!(set(apart).unwrap().size(), 253);
    }

    proptest! {
        #[test]
        fn any_range_is_read_or_refused(subnet in ".{0,24}", start in ".{0,20}", end in ".{0,20}", gateway in ".{0,20}") {
            let conf = RangeConf { subnet: Some(subnet), range_start: Some(start), range_end: Some(end), gateway: Some(gateway) };
            let _ = Range::parse(&conf);
        }

        #[test]
        fn ends_are_inside_and_in_order(ip in any::<u32>(), prefix in 0u8..=32, start in any::<u32>(), end in any::<u32>()) {
            let subnet = Cidr::new(Ipv4Addr::from(ip).into(), prefix).unwrap().to_network();
            let conf = RangeConf {
                subnet: Some(subnet.to_string()),
                range_start: Some(Ipv4Addr::from(start).to_string()),
                range_end: Some(Ipv4Addr::from(end).to_string()),
                gateway: None,
            };
            let good = prefix <= 30 && start <= end
                && subnet.contains(Ipv4Addr::from(start).into()) && subnet.contains(Ipv4Addr::from(end).into());
            prop_assert_eq!(Range::parse(&conf).is_ok(), good);
        }
    }
}
