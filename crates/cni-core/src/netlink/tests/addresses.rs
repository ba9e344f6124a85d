//! Messages about addresses.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::*;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope,
};

use super::{CHANGE, CREATE, LIST, answered, eth0, request};
use std::net::IpAddr;

fn address_message(cidr: &str, attributes: &[AddressAttribute]) -> AddressMessage {
    let cidr: crate::spec::Cidr = cidr.parse().unwrap();
    let family = if cidr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut message = AddressMessage::default();
    message.header =
        AddressHeader { family, prefix_len: cidr.prefix(), index: 7, ..AddressHeader::default() };
    message.attributes = attributes.to_vec();
    message
}

#[test]
fn addresses_are_added_removed_and_read() {
    use AddressAttribute as A;
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    for (cidr, broadcast) in [
        ("10.0.0.2/24", Some("10.0.0.255")),
        ("10.0.0.2/31", None),
        ("10.0.0.2/32", None),
        ("fd00::2/64", None),
    ] {
        let address = ip(cidr.split('/').next().unwrap());
        let mut attributes = vec![A::Local(address), A::Address(address)];
        let removed = request(|netlink| netlink.delete_address(&eth0(), cidr.parse().unwrap()));
        assert_eq!(removed, (CHANGE, DelAddress(address_message(cidr, &attributes))));
        attributes.extend(broadcast.map(|broadcast| A::Broadcast(broadcast.parse().unwrap())));
        let added = request(|netlink| netlink.add_address(&eth0(), cidr.parse().unwrap()));
        assert_eq!(added, (CREATE, NewAddress(address_message(cidr, &attributes))));
    }

    let mut tentative = address_message("fd00::2/64", &[A::Address(ip("fd00::2"))]);
    tentative.attributes.push(A::Flags(AddressFlags::Tentative | AddressFlags::Permanent));
    tentative.header.scope = AddressScope::Link;
    let mut failed = address_message("fd00::3/64", &[A::Address(ip("fd00::3"))]);
    failed.attributes.push(A::Flags(AddressFlags::Dadfailed));
    let peer = address_message("10.0.0.2/32", &[A::Address(ip("10.0.0.9")), A::Local(ip("10.0.0.2"))]);
    let mut other = address_message("10.9.9.9/24", &[A::Address(ip("10.9.9.9"))]);
    other.header.index = 8;
    let answers = [tentative, failed, peer, other].map(NewAddress);
    let (addresses, (flags, sent)) = answered(&answers, |netlink| netlink.addresses(&eth0()));
    let read: Vec<_> =
        addresses.iter().map(|a| (a.cidr.to_string(), a.scope, a.tentative, a.duplicate)).collect();
    assert_eq!(
        read,
        [
            ("fd00::2/64".to_owned(), 253, true, false),
            ("fd00::3/64".to_owned(), 0, false, true),
            ("10.0.0.2/32".to_owned(), 0, false, false)
        ]
    );
    let mut message = AddressMessage::default();
    message.header.index = 7;
    assert_eq!((flags, sent), (LIST, GetAddress(message)));
}
