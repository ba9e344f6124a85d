//! The messages of this module, judged by another implementation of rtnetlink
//! (`netlink-packet-route`): it decodes every request that is built here, and encodes the answers
//! that are read here. The kernel's part is played by the other end of a socket pair.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::{self as Rt, *};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags as Vlan, InfoBridge, InfoBridgePort,
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, IpVlanFlags,
    IpVlanMode, LinkAttribute as L, LinkExtentMask, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
    MacVlanMode, Prop, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute as R, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteProtocol,
    RouteScope, RouteType,
};

use super::NewLink as New;
use super::uapi::IFLA_ALT_IFNAME;
use super::{
    BridgePort, BridgeVlan, Errno, InstalledRoute, IpvlanMode, Kind, Link, MacvlanMode, Netlink, OperState,
    Result, connection,
};
use crate::spec::{Mac, Route};

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);
const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
const CREATE: u16 = CHANGE | NLM_F_CREATE | NLM_F_EXCL;
const LIST: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// A connection to a kernel that the test plays.
fn connection() -> (Netlink, UnixDatagram) {
    let (connection, kernel) = connection::to_test(Duration::from_millis(200));
    (Netlink { connection, netns: None }, kernel)
}

fn datagram(seq: u32, payload: NetlinkPayload<Rt>) -> Vec<u8> {
    let mut message = NetlinkMessage::new(Default::default(), payload);
    message.header.sequence_number = seq;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The flags and the content of the only request of a call that the kernel acknowledges.
fn request<T>(call: impl FnOnce(&Netlink) -> Result<T>) -> (u16, Rt) {
    let (netlink, kernel) = connection();
    kernel.send(&datagram(1, NetlinkPayload::Error(ErrorMessage::default()))).unwrap();
    call(&netlink).unwrap_or_else(|failure| panic!("{failure}"));
    received(&kernel)
}

fn received(kernel: &UnixDatagram) -> (u16, Rt) {
    let mut bytes = vec![0; 1 << 16];
    let len = kernel.recv(&mut bytes).unwrap();
    let message = NetlinkMessage::<Rt>::deserialize(&bytes[..len]).unwrap();
    assert_eq!(message.header.length as usize, len);
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => (message.header.flags, inner),
        other => panic!("{other:?}"),
    }
}

/// What a call makes of objects that the kernel sends, and the call's last request.
fn answered<T>(answers: &[Rt], call: impl FnOnce(&Netlink) -> Result<T>) -> (T, (u16, Rt)) {
    let (netlink, kernel) = connection();
    // Lists of routes are two, one for each family; the second is empty.
    for (seq, answers) in [(1, answers), (2, &[])] {
        for answer in answers {
            kernel.send(&datagram(seq, NetlinkPayload::InnerMessage(answer.clone()))).unwrap();
        }
        kernel.send(&datagram(seq, NetlinkPayload::Done(Default::default()))).unwrap();
    }
    let got = call(&netlink).unwrap_or_else(|failure| panic!("{failure}"));
    (got, received(&kernel))
}

fn link_message(header: LinkHeader, attributes: Vec<L>) -> LinkMessage {
    let mut message = LinkMessage::default();
    (message.header, message.attributes) = (header, attributes);
    message
}

fn link_header(index: u32, flags: LinkFlags, change: LinkFlags) -> LinkHeader {
    LinkHeader { index, flags, change_mask: change, ..LinkHeader::default() }
}

fn info(kind: InfoKind, data: InfoData) -> L {
    L::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])
}

fn eth0() -> Link {
    let mut link = Link::default();
    (link.index, link.name, link.mac) = (7, "eth0".to_owned(), Some(MAC));
    link
}

/// Requires a call to send one RTM_NEWLINK with a link's attributes.
#[track_caller]
fn creates(new: &New<'_>, header: LinkHeader, attributes: Vec<L>) {
    let sent = request(|netlink| netlink.create_link_in_namespace(new));
    assert_eq!(sent, (CREATE | NLM_F_ECHO, NewLink(link_message(header, attributes))));
}

#[test]
fn links_of_every_kind_are_created_with_all_their_attributes() {
    let down = || link_header(0, LinkFlags::empty(), LinkFlags::empty());
    let up = || link_header(0, LinkFlags::Up, LinkFlags::Up);
    let name = || L::IfName("eth0".to_owned());
    let netns = std::fs::File::open("/proc/self/ns/net").unwrap();
    let fd = L::NetNsFd(netns.as_raw_fd());

    creates(
        &New::new("eth0", Kind::Bridge { vlan_filtering: false }).mtu(Some(1400)).mac(Some(MAC)),
        down(),
        vec![
            name(),
            L::Mtu(1400),
            L::Address(MAC.0.to_vec()),
            info(InfoKind::Bridge, InfoData::Bridge(vec![])),
        ],
    );
    creates(
        &New::new("eth0", Kind::Bridge { vlan_filtering: true }),
        down(),
        vec![name(), info(InfoKind::Bridge, InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]))],
    );
    let dummy = info(InfoKind::Dummy, InfoData::Other(vec![]));
    creates(&New::new("eth0", Kind::Dummy).in_namespace(&netns).up(), up(), vec![name(), fd.clone(), dummy]);

    let peer = link_message(down(), vec![name(), L::Mtu(1300), L::Address(MAC.0.to_vec()), fd.clone()]);
    creates(
        &New::veth("veth1", New::veth_peer("eth0").mtu(Some(1300)).mac(Some(MAC)).in_namespace(&netns))
            .port_of(&eth0())
            .up(),
        up(),
        vec![
            L::IfName("veth1".to_owned()),
            L::Controller(7),
            info(InfoKind::Veth, InfoData::Veth(InfoVeth::Peer(peer))),
        ],
    );
    for (mode, theirs) in [
        (MacvlanMode::Bridge, MacVlanMode::Bridge),
        (MacvlanMode::Private, MacVlanMode::Private),
        (MacvlanMode::Vepa, MacVlanMode::Vepa),
        (MacvlanMode::Passthru, MacVlanMode::Passthrough),
    ] {
        let data = vec![InfoMacVlan::Mode(theirs), InfoMacVlan::BcQueueLen(99)];
        creates(
            &New::new("eth0", Kind::Macvlan { lower: 5, mode, bc_queue_len: Some(99) }).in_namespace(&netns),
            down(),
            vec![name(), fd.clone(), L::Link(5), info(InfoKind::MacVlan, InfoData::MacVlan(data))],
        );
    }
    for (mode, theirs) in [
        (IpvlanMode::L2, IpVlanMode::L2),
        (IpvlanMode::L3, IpVlanMode::L3),
        (IpvlanMode::L3s, IpVlanMode::L3S),
    ] {
        let data = vec![InfoIpVlan::Mode(theirs), InfoIpVlan::Flags(IpVlanFlags::empty())];
        creates(
            &New::new("eth0", Kind::Ipvlan { lower: 5, mode }),
            down(),
            vec![name(), L::Link(5), info(InfoKind::IpVlan, InfoData::IpVlan(data))],
        );
    }
    creates(
        &New::new("eth0", Kind::Vlan { lower: 5, id: 4094 }),
        down(),
        vec![name(), L::Link(5), info(InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(4094)]))],
    );
}

/// Requires a call to send one RTM_NEWLINK that changes eth0.
#[track_caller]
fn sets(call: impl FnOnce(&Netlink, &Link) -> Result<()>, header: LinkHeader, attributes: Vec<L>) {
    let sent = request(|netlink| call(netlink, &eth0()));
    assert_eq!(sent, (CHANGE, NewLink(link_message(header, attributes))));
}

#[test]
fn a_link_is_changed_by_one_attribute_or_flag() {
    let none = || link_header(7, LinkFlags::empty(), LinkFlags::empty());
    let flag = |on, flag| link_header(7, if on { flag } else { LinkFlags::empty() }, flag);
    sets(Netlink::set_up, flag(true, LinkFlags::Up), vec![]);
    sets(Netlink::set_down, flag(false, LinkFlags::Up), vec![]);
    sets(|n, l| n.set_promiscuous(l, true), flag(true, LinkFlags::Promisc), vec![]);
    sets(|n, l| n.set_promiscuous(l, false), flag(false, LinkFlags::Promisc), vec![]);
    sets(|n, l| n.set_all_multicast(l, true), flag(true, LinkFlags::Allmulti), vec![]);
    sets(|n, l| n.set_all_multicast(l, false), flag(false, LinkFlags::Allmulti), vec![]);
    sets(|n, l| n.set_mac(l, MAC), none(), vec![L::Address(MAC.0.to_vec())]);
    sets(Netlink::announce, none(), vec![L::Address(MAC.0.to_vec())]);
    sets(|n, l| n.set_mtu(l, 9000), none(), vec![L::Mtu(9000)]);
    sets(|n, l| n.set_tx_queue_len(l, 5000), none(), vec![L::TxQueueLen(5000)]);
    sets(|n, l| n.set_group(l, 77), none(), vec![L::Group(77)]);
    sets(|n, l| n.rename(l, "net1"), none(), vec![L::IfName("net1".to_owned())]);
    let data = vec![InfoBridgePort::HairpinMode(true), InfoBridgePort::Isolated(false)];
    sets(
        |n, l| n.set_bridge_port(l, BridgePort { hairpin: true, isolated: false }),
        none(),
        vec![L::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(data)),
        ])],
    );
}

#[test]
fn links_are_deleted_by_index_or_group() {
    let header = |index| link_header(index, LinkFlags::empty(), LinkFlags::empty());
    let deleted = request(|netlink| netlink.delete_link(&eth0()));
    assert_eq!(deleted, (CHANGE, DelLink(link_message(header(7), vec![]))));
    let deleted = request(|netlink| netlink.delete_group(77));
    assert_eq!(deleted, (CHANGE, DelLink(link_message(header(0), vec![L::Group(77)]))));
}

#[test]
fn vlans_are_added_to_and_removed_from_a_bridge_port() {
    let mut header = link_header(7, LinkFlags::empty(), LinkFlags::empty());
    header.interface_family = AddressFamily::Bridge;
    let message = |vlans: &[(Vlan, u16)]| {
        let vlans = vlans.iter().map(|(flags, vid)| BridgeVlanInfo { flags: *flags, vid: *vid });
        let flags = [AfSpecBridge::Flags(BridgeFlag::Controller)];
        let spec = flags.into_iter().chain(vlans.map(AfSpecBridge::VlanInfo));
        link_message(header.clone(), vec![L::AfSpecBridge(spec.collect())])
    };
    let access = BridgeVlan::access(100);
    let added = request(|netlink| netlink.add_bridge_vlans(&eth0(), &[access]));
    assert_eq!(added, (CHANGE, SetLink(message(&[(Vlan::Pvid | Vlan::Untagged, 100)]))));
    let trunk = BridgeVlan::tagged(2, 4094);
    let removed = request(|netlink| netlink.delete_bridge_vlans(&eth0(), &[trunk]));
    assert_eq!(removed, (CHANGE, DelLink(message(&[(Vlan::RangeBegin, 2), (Vlan::RangeEnd, 4094)]))));
}

#[test]
fn links_are_looked_up_by_name_alternative_name_and_index() {
    let answer = || {
        let mut message = link_message(link_header(7, LinkFlags::Up, LinkFlags::empty()), vec![]);
        message.attributes.push(L::IfName("eth0".to_owned()));
        NewLink(message)
    };
    let request = |index, mut attributes: Vec<L>| {
        let mask = L::ExtMask(vec![LinkExtentMask::SkipStats]);
        attributes.insert(0, mask);
        GetLink(link_message(link_header(index, LinkFlags::empty(), LinkFlags::empty()), attributes))
    };
    let fifteen = "fifteen-letters";
    let (found, sent) = answered(&[answer()], |netlink| netlink.link(fifteen));
    assert_eq!(found.map(|link| (link.index, link.name)), Some((7, "eth0".to_owned())));
    assert_eq!(sent, (NLM_F_REQUEST, request(0, vec![L::IfName(fifteen.to_owned())])));
    let (_, sent) = answered(&[answer()], |netlink| netlink.link("sixteen-letters-"));
    let alt = netlink_packet_core::DefaultNla::new(IFLA_ALT_IFNAME, b"sixteen-letters-\0".to_vec());
    assert_eq!(sent, (NLM_F_REQUEST, request(0, vec![L::Other(alt)])));
    let (_, sent) = answered(&[answer()], |netlink| netlink.link_by_index(7));
    assert_eq!(sent, (NLM_F_REQUEST, request(7, vec![])));
    let (found, sent) = answered(&[answer(), answer()], Netlink::links);
    assert_eq!((found.len(), sent), (2, (LIST, request(0, vec![]))));
}

#[test]
fn a_link_is_read_with_all_that_is_looked_at() {
    let flags = LinkFlags::Up | LinkFlags::Promisc | LinkFlags::Allmulti;
    let macvlan = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Vepa)]);
    let attributes = vec![
        L::IfName("eth0".to_owned()),
        L::TxQueueLen(1000),
        L::OperState(State::Up),
        L::Mtu(1500),
        L::Group(9),
        L::Controller(4),
        L::Link(5),
        L::LinkNetNsId(1),
        L::Address(MAC.0.to_vec()),
        info(InfoKind::MacVlan, macvlan),
        L::PropList(vec![Prop::AltIfName("first".to_owned()), Prop::AltIfName("second".to_owned())]),
    ];
    let answer = NewLink(link_message(link_header(7, flags, LinkFlags::empty()), attributes));
    let (link, _) = answered(&[answer], |netlink| netlink.link("eth0"));
    let link = link.unwrap();
    assert_eq!((link.index, link.name.as_str(), link.mac, link.mtu), (7, "eth0", Some(MAC), 1500));
    assert_eq!((link.up, link.promiscuous, link.all_multicast, link.tx_queue_len), (true, true, true, 1000));
    assert_eq!((link.lower, link.lower_netnsid, link.master, link.group), (Some(5), Some(1), Some(4), 9));
    assert_eq!((link.oper_state, link.kind.as_deref()), (OperState::Up, Some("macvlan")));
    assert_eq!(
        (link.alt_names.join(" "), link.macvlan_mode()),
        ("first second".to_owned(), Some(MacvlanMode::Vepa))
    );
}

#[test]
fn settings_of_kinds_and_ports_are_read() {
    let read = |attributes: Vec<L>| {
        let answer =
            NewLink(link_message(link_header(7, LinkFlags::empty(), LinkFlags::empty()), attributes));
        answered(&[answer], |netlink| netlink.link("eth0")).0.unwrap()
    };
    let ipvlan =
        read(vec![info(InfoKind::IpVlan, InfoData::IpVlan(vec![InfoIpVlan::Mode(IpVlanMode::L3S)]))]);
    assert_eq!(
        (ipvlan.ipvlan_mode(), ipvlan.macvlan_mode(), ipvlan.up),
        (Some(IpvlanMode::L3s), None, false)
    );
    let vlan = read(vec![info(InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(4094)]))]);
    assert_eq!((vlan.vlan_id(), vlan.default_vlan()), (Some(4094), None));
    let data = vec![InfoBridge::VlanFiltering(true), InfoBridge::VlanDefaultPvid(7)];
    let bridge = read(vec![info(InfoKind::Bridge, InfoData::Bridge(data))]);
    assert_eq!((bridge.filters_vlans(), bridge.default_vlan(), bridge.vlan_id()), (true, Some(7), None));
    let data = vec![InfoBridgePort::HairpinMode(true), InfoBridgePort::Isolated(true)];
    let port = read(vec![L::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(data)),
    ])]);
    assert_eq!((port.bridge_port(), port.is("veth")), (BridgePort { hairpin: true, isolated: true }, true));
}

#[test]
fn vlans_of_a_port_are_read() {
    let port = |index, vid| {
        let vlan = BridgeVlanInfo { flags: Vlan::Pvid | Vlan::Untagged, vid };
        let mut header = link_header(index, LinkFlags::empty(), LinkFlags::empty());
        header.interface_family = AddressFamily::Bridge;
        NewLink(link_message(header, vec![L::AfSpecBridge(vec![AfSpecBridge::VlanInfo(vlan)])]))
    };
    let (vlans, (flags, sent)) =
        answered(&[port(6, 1), port(7, 100), port(8, 2)], |netlink| netlink.bridge_vlans(&eth0()));
    assert_eq!(vlans, [BridgeVlan::access(100)]);
    let mut header = link_header(0, LinkFlags::empty(), LinkFlags::empty());
    header.interface_family = AddressFamily::Bridge;
    assert_eq!(
        (flags, sent),
        (LIST, GetLink(link_message(header, vec![L::ExtMask(vec![LinkExtentMask::Brvlan])])))
    );
}

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

fn route_message(header: RouteHeader, attributes: Vec<R>) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header, message.attributes) = (header, attributes);
    message
}

fn v4(text: &str) -> RouteAddress {
    RouteAddress::Inet(text.parse().unwrap())
}

fn v6(text: &str) -> RouteAddress {
    RouteAddress::Inet6(text.parse().unwrap())
}

#[test]
fn routes_are_added_and_removed_with_all_that_a_configuration_gives() {
    let header = |address_family, prefix, table, scope| RouteHeader {
        address_family,
        destination_prefix_length: prefix,
        table,
        protocol: RouteProtocol::Boot,
        scope,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let changes = |route: &Route, gw: Option<&str>, header: RouteHeader, attributes: Vec<R>| {
        let gw = gw.map(|gw| gw.parse().unwrap());
        let message = route_message(header, attributes);
        let added = request(|netlink| netlink.add_route(&eth0(), route, gw));
        assert_eq!(added, (CHANGE | NLM_F_CREATE, NewRoute(message.clone())));
        let removed = request(|netlink| netlink.delete_route(&eth0(), route, gw));
        assert_eq!(removed, (CHANGE, DelRoute(message)));
    };
    let full = Route {
        mtu: 1400,
        advmss: 1300,
        priority: 50,
        table: Some(1000),
        scope: Some(200),
        ..Route::new("10.1.2.3/16".parse().unwrap(), None)
    };
    changes(
        &full,
        Some("10.0.0.1"),
        header(AddressFamily::Inet, 16, 0, RouteScope::Site),
        vec![
            R::Destination(v4("10.1.0.0")),
            R::Oif(7),
            R::Table(1000),
            R::Gateway(v4("10.0.0.1")),
            R::Priority(50),
            R::Metrics(vec![RouteMetric::Mtu(1400), RouteMetric::Advmss(1300)]),
        ],
    );
    let on_link = Route::new("10.1.0.0/16".parse().unwrap(), None);
    changes(
        &on_link,
        None,
        header(AddressFamily::Inet, 16, 254, RouteScope::Link),
        vec![R::Destination(v4("10.1.0.0")), R::Oif(7), R::Table(254)],
    );
    let default = Route::new("::/0".parse().unwrap(), None);
    changes(
        &default,
        Some("fd00::1"),
        header(AddressFamily::Inet6, 0, 254, RouteScope::Universe),
        vec![R::Destination(v6("::")), R::Oif(7), R::Table(254), R::Gateway(v6("fd00::1"))],
    );
}

#[test]
fn routes_are_read_with_every_next_hop() {
    let header = |prefix, kind| RouteHeader {
        address_family: AddressFamily::Inet6,
        destination_prefix_length: prefix,
        table: 254,
        // That of a router advertisement: the list is not limited to one protocol.
        protocol: RouteProtocol::Ra,
        kind,
        ..RouteHeader::default()
    };
    let hop = |interface_index, gw: &str| {
        let mut hop = RouteNextHop::default();
        (hop.interface_index, hop.attributes) = (interface_index, vec![R::Gateway(v6(gw))]);
        hop
    };
    let hops = R::MultiPath(vec![hop(7, "fd00::1"), hop(8, "fd00::2"), hop(7, "fd00::3")]);
    let answers = [
        route_message(header(0, RouteType::Unicast), vec![R::Table(1000), R::Priority(5), hops]),
        route_message(
            header(64, RouteType::Unicast),
            vec![R::Destination(v6("fd00::")), R::Oif(7), R::Gateway(v6("fd00::9"))],
        ),
        route_message(header(128, RouteType::Local), vec![R::Destination(v6("fd00::5")), R::Oif(7)]),
    ]
    .map(NewRoute);
    let read = |routes: Vec<InstalledRoute>| -> Vec<_> {
        let gw = |route: &InstalledRoute| route.gw.unwrap().to_string();
        routes.iter().map(|r| (r.dst.to_string(), gw(r), r.index, r.table, r.priority)).collect()
    };
    let default = |gw: &str, index| ("::/0".to_owned(), gw.to_owned(), index, 1000, 5);
    let (routes, (flags, sent)) = answered(&answers, |netlink| netlink.routes(&eth0()));
    let subnet = ("fd00::/64".to_owned(), "fd00::9".to_owned(), 7, 254, 0);
    assert_eq!(read(routes), [default("fd00::1", 7), default("fd00::3", 7), subnet]);
    let of_link = RouteHeader { address_family: AddressFamily::Inet, ..RouteHeader::default() };
    assert_eq!((flags, sent), (LIST, GetRoute(route_message(of_link.clone(), vec![R::Oif(7)]))));

    let (routes, (flags, sent)) = answered(&answers, Netlink::default_routes);
    assert_eq!(read(routes), [default("fd00::1", 7), default("fd00::2", 8), default("fd00::3", 7)]);
    assert_eq!((flags, sent), (LIST, GetRoute(route_message(of_link, vec![]))));
}

#[test]
fn a_refusal_is_read_with_its_number() {
    let (netlink, kernel) = connection();
    let mut error = ErrorMessage::default();
    error.code = std::num::NonZeroI32::new(-nix::libc::EBUSY);
    kernel.send(&datagram(1, NetlinkPayload::Error(error))).unwrap();
    let failure = netlink.set_up(&eth0()).unwrap_err();
    assert_eq!(
        (failure.errno, failure.to_string().as_str()),
        (Errno::EBUSY, "setting interface eth0 up: Device or resource busy")
    );
}
