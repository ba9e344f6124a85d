//! Messages about links, and the VLANs of bridge ports.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_ECHO, NLM_F_REQUEST};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::*;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags as Vlan, InfoBridge, InfoBridgePort,
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, IpVlanFlags,
    IpVlanMode, LinkAttribute as L, LinkExtentMask, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
    MacVlanMode, Prop, State,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::{CHANGE, CREATE, LIST, MAC, answered, eth0, request};
use crate::netlink::NewLink as New;
use crate::netlink::uapi::IFLA_ALT_IFNAME;
use crate::netlink::{
    BridgePort, BridgeVlan, IpvlanMode, Kind, Link, MacvlanMode, Netlink, OperState, Result,
};
use crate::netns::Netns;

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
fn a_namespace_is_asked_for_by_its_descriptor_and_may_have_no_id() {
    let own = Netns::own().unwrap();
    let nsid = |attributes| {
        let mut message = NsidMessage::default();
        message.attributes = attributes;
        message
    };
    for (id, expected) in [(0, Some(0)), (3, Some(3)), (-1, None)] {
        let answer = NewNsId(nsid(vec![NsidAttribute::Id(id), NsidAttribute::CurrentNsid(9)]));
        let (found, sent) = answered(&[answer], |netlink| netlink.netnsid_of(&own));
        assert_eq!(found, expected);
        let fd = NsidAttribute::Fd(own.as_fd().as_raw_fd() as u32);
        assert_eq!(sent, (NLM_F_REQUEST, GetNsId(nsid(vec![fd]))));
    }
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
