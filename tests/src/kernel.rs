//! What a network namespace holds, named as in iproute2's JSON but without starting a program.
//!
//! A snapshot is taken before and after most calls. On an emulated processor a process costs a
//! hundred times as much as a request to the kernel, so this is what the tests' time is made of.
//! Messages are decoded by `netlink-packet-route`: what judges the plugins shares no code with
//! them.

mod dump;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData, InfoIpVlan,
    InfoMacVlan, InfoPortData, InfoPortKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RoutePreference,
    RouteProtocol, RouteScope, RouteType,
};
use serde_json::{Map, Value, json};

pub(crate) use dump::{has_nft_tables, set_loopback_up};

/// Every link of the calling thread's namespace with its addresses, as far as tests look at them:
/// `ip -j -d addr show`.
pub(crate) fn links() -> Vec<Value> {
    let links = dump::links();
    let names = names(&links);
    let addresses = dump::addresses();
    links
        .iter()
        .map(|message| {
            let mut shown = link(message, &names);
            let own = addresses.iter().filter(|address| address.header.index == message.header.index);
            shown["addr_info"] = own.map(address).collect();
            shown
        })
        .collect()
}

/// The routes of all tables, both families: `ip -j route show table all`.
pub(crate) fn routes() -> Vec<Value> {
    let names = names(&dump::links());
    dump::routes().iter().map(|message| route(message, &names)).collect()
}

/// The VLANs of bridges and their ports: `bridge -j vlan show`.
pub(crate) fn vlans() -> Vec<Value> {
    let of_link = |message: &LinkMessage| {
        let vlans: Vec<_> = message
            .attributes
            .iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::AfSpecBridge(attributes) => Some(attributes),
                _ => None,
            })
            .flatten()
            .filter_map(|attribute| match attribute {
                AfSpecBridge::VlanInfo(info) => Some(vlan(info)),
                _ => None,
            })
            .collect();
        (!vlans.is_empty()).then(|| json!({ "ifname": name(message), "vlans": vlans }))
    };
    dump::bridge_vlans().iter().filter_map(of_link).collect()
}

fn vlan(info: &BridgeVlanInfo) -> Value {
    let names = [(BridgeVlanInfoFlags::Pvid, "PVID"), (BridgeVlanInfoFlags::Untagged, "Egress Untagged")];
    let flags: Vec<_> =
        names.iter().filter(|(flag, _)| info.flags.contains(*flag)).map(|(_, name)| *name).collect();
    if flags.is_empty() { json!({ "vlan": info.vid }) } else { json!({ "vlan": info.vid, "flags": flags }) }
}

/// Names of links by their index.
type Names = BTreeMap<u32, String>;

fn names(links: &[LinkMessage]) -> Names {
    links.iter().filter_map(|message| Some((message.header.index, name(message)?))).collect()
}

fn name(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn link(message: &LinkMessage, names: &Names) -> Value {
    let flags: Vec<_> = [
        (LinkFlags::Noarp, "NOARP"),
        (LinkFlags::Allmulti, "ALLMULTI"),
        (LinkFlags::Promisc, "PROMISC"),
        (LinkFlags::Up, "UP"),
    ]
    .iter()
    .filter(|(flag, _)| message.header.flags.contains(*flag))
    .map(|(_, name)| *name)
    .collect();
    let mut link = Object::default();
    link.put("ifindex", message.header.index);
    link.put("flags", flags);
    let in_another_namespace =
        message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.put("ifname", name),
            LinkAttribute::Mtu(mtu) => link.put("mtu", mtu),
            LinkAttribute::OperState(state) => link.put("operstate", state.to_string()),
            LinkAttribute::TxQueueLen(length) if *length != 0 => link.put("txqlen", length),
            LinkAttribute::Address(bytes) => link.put("address", mac(bytes)),
            LinkAttribute::Promiscuity(count) => link.put("promiscuity", count),
            LinkAttribute::IfAlias(alias) => link.put("ifalias", alias),
            LinkAttribute::Group(0) => link.put("group", "default"),
            LinkAttribute::Group(group) => link.put("group", group.to_string()),
            LinkAttribute::Controller(index) => link.put_some("master", names.get(index)),
            LinkAttribute::Link(0) => {}
            LinkAttribute::Link(index) if in_another_namespace => link.put("link_index", index),
            LinkAttribute::Link(index) => link.put_some("link", names.get(index)),
            LinkAttribute::LinkInfo(info) => link.put("linkinfo", link_info(info)),
            _ => {}
        }
    }
    link.into()
}

fn link_info(info: &[LinkInfo]) -> Value {
    let mut shown = Object::default();
    for attribute in info {
        match attribute {
            LinkInfo::Kind(kind) => shown.put("info_kind", kind.to_string()),
            LinkInfo::Data(data) => shown.put("info_data", of_kind(data)),
            LinkInfo::PortKind(InfoPortKind::Bridge) => shown.put("info_slave_kind", "bridge"),
            LinkInfo::PortKind(InfoPortKind::Vrf) => shown.put("info_slave_kind", "vrf"),
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => shown.put("info_slave_data", of_port(port)),
            _ => {}
        }
    }
    shown.into()
}

fn of_kind(data: &InfoData) -> Value {
    let mut info = Object::default();
    match data {
        InfoData::Bridge(attributes) => {
            for attribute in attributes {
                match attribute {
                    InfoBridge::AgeingTime(time) => info.put("ageing_time", time),
                    InfoBridge::StpState(state) => info.put("stp_state", u32::from(*state)),
                    InfoBridge::VlanFiltering(on) => info.put("vlan_filtering", u8::from(*on)),
                    InfoBridge::VlanDefaultPvid(id) => info.put("vlan_default_pvid", id),
                    _ => {}
                }
            }
        }
        InfoData::MacVlan(attributes) => {
            for attribute in attributes {
                match attribute {
                    InfoMacVlan::Mode(mode) => info.put("mode", mode.to_string()),
                    InfoMacVlan::BcQueueLen(length) => info.put("bcqueuelen", length),
                    _ => {}
                }
            }
        }
        InfoData::IpVlan(attributes) => {
            for attribute in attributes {
                if let InfoIpVlan::Mode(mode) = attribute {
                    info.put("mode", mode.to_string());
                }
            }
        }
        InfoData::Vlan(attributes) => {
            for attribute in attributes {
                match attribute {
                    InfoVlan::Id(id) => info.put("id", id),
                    InfoVlan::Protocol(protocol) => info.put("protocol", protocol.to_string()),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    info.into()
}

fn of_port(attributes: &[InfoBridgePort]) -> Value {
    let mut port = Object::default();
    for attribute in attributes {
        match attribute {
            InfoBridgePort::HairpinMode(on) => port.put("hairpin", on),
            InfoBridgePort::Guard(on) => port.put("guard", on),
            InfoBridgePort::FastLeave(on) => port.put("fastleave", on),
            InfoBridgePort::Learning(on) => port.put("learning", on),
            InfoBridgePort::UnicastFlood(on) => port.put("flood", on),
            InfoBridgePort::NeighSupress(on) => port.put("neigh_suppress", on),
            InfoBridgePort::Isolated(on) => port.put("isolated", on),
            _ => {}
        }
    }
    port.into()
}

fn address(message: &AddressMessage) -> Value {
    let header = &message.header;
    let mut address = Object::default();
    address.put("family", if header.family == AddressFamily::Inet6 { "inet6" } else { "inet" });
    address.put("prefixlen", header.prefix_len);
    let scope = match header.scope {
        AddressScope::Universe => "global".to_owned(),
        scope => scope.to_string(),
    };
    address.put("scope", scope);
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let (mut ip, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => ip = Some(*address),
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Broadcast(broadcast) => address.put("broadcast", broadcast),
            AddressAttribute::Label(label) => address.put("label", label),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::CacheInfo(info) => {
                address.put("preferred_life_time", info.ifa_preferred);
                address.put("valid_life_time", info.ifa_valid);
            }
            _ => {}
        }
    }
    address.put_some("local", local.or(ip));
    address.put_some("address", ip.filter(|ip| local.is_some_and(|local| local != *ip)));
    let first = if header.family == AddressFamily::Inet6 { "temporary" } else { "secondary" };
    for (flag, name) in [
        (AddressFlags::Secondary, first),
        (AddressFlags::Nodad, "nodad"),
        (AddressFlags::Optimistic, "optimistic"),
        (AddressFlags::Dadfailed, "dadfailed"),
        (AddressFlags::Homeaddress, "home"),
        (AddressFlags::Deprecated, "deprecated"),
        (AddressFlags::Tentative, "tentative"),
        (AddressFlags::Managetempaddr, "mngtmpaddr"),
        (AddressFlags::Noprefixroute, "noprefixroute"),
        (AddressFlags::Mcautojoin, "autojoin"),
    ] {
        address.put_some(name, flags.contains(flag).then_some(true));
    }
    address.put_some("dynamic", (!flags.contains(AddressFlags::Permanent)).then_some(true));
    address.into()
}

fn route(message: &RouteMessage, names: &Names) -> Value {
    let header = &message.header;
    let mut route = Object::default();
    route.put_some("type", type_name(header.kind));
    route.put_some("protocol", protocol_name(header.protocol));
    route.put_some("scope", scope_name(header.scope));
    let (mut destination, mut table) = (None, u32::from(header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Gateway(address) => route.put_some("gateway", ip(address)),
            RouteAttribute::Oif(index) => route.put_some("dev", names.get(index)),
            RouteAttribute::PrefSource(address) => route.put_some("prefsrc", ip(address)),
            RouteAttribute::Priority(metric) => route.put("metric", metric),
            RouteAttribute::Metrics(metrics) => route.put("metrics", json!([of_metrics(metrics)])),
            RouteAttribute::MultiPath(hops) => {
                route.put("nexthops", hops.iter().map(|hop| next_hop(hop, names)).collect::<Vec<_>>());
            }
            RouteAttribute::Preference(preference) => route.put_some("pref", preference_name(*preference)),
            _ => {}
        }
    }
    route.put("dst", destination_text(header, destination));
    route.put_some("table", table_name(table));
    route.into()
}

fn destination_text(header: &RouteHeader, destination: Option<IpAddr>) -> String {
    let length = header.destination_prefix_length;
    let bits = if header.address_family == AddressFamily::Inet6 { 128 } else { 32 };
    match destination {
        Some(address) if length == bits => address.to_string(),
        Some(address) => format!("{address}/{length}"),
        None if length == 0 => "default".to_owned(),
        None => format!("0/{length}"),
    }
}

fn of_metrics(metrics: &[RouteMetric]) -> Value {
    let mut known = Object::default();
    for metric in metrics {
        match metric {
            RouteMetric::Mtu(mtu) => known.put("mtu", mtu),
            RouteMetric::Advmss(size) => known.put("advmss", size),
            _ => {}
        }
    }
    known.into()
}

fn next_hop(hop: &RouteNextHop, names: &Names) -> Value {
    let mut shown = Object::default();
    for attribute in &hop.attributes {
        if let RouteAttribute::Gateway(address) = attribute {
            shown.put_some("gateway", ip(address));
        }
    }
    shown.put_some("dev", names.get(&hop.interface_index));
    shown.put("weight", u32::from(hop.hops) + 1);
    shown.into()
}

/// iproute2 omits `unicast`.
fn type_name(kind: RouteType) -> Option<&'static str> {
    match kind {
        RouteType::Local => Some("local"),
        RouteType::Broadcast => Some("broadcast"),
        RouteType::Anycast => Some("anycast"),
        RouteType::Multicast => Some("multicast"),
        RouteType::BlackHole => Some("blackhole"),
        RouteType::Unreachable => Some("unreachable"),
        RouteType::Prohibit => Some("prohibit"),
        _ => None,
    }
}

/// iproute2 omits the main table.
fn table_name(table: u32) -> Option<String> {
    match table {
        254 => None,
        255 => Some("local".to_owned()),
        253 => Some("default".to_owned()),
        other => Some(other.to_string()),
    }
}

/// iproute2 omits `boot`, which is the default.
fn protocol_name(protocol: RouteProtocol) -> Option<String> {
    match protocol {
        RouteProtocol::Boot => None,
        RouteProtocol::Kernel | RouteProtocol::Static | RouteProtocol::Ra => Some(protocol.to_string()),
        other => Some(u8::from(other).to_string()),
    }
}

/// iproute2 omits `global`.
fn scope_name(scope: RouteScope) -> Option<String> {
    match scope {
        RouteScope::Universe => None,
        RouteScope::NoWhere => Some("nowhere".to_owned()),
        RouteScope::Other(number) => Some(number.to_string()),
        scope => Some(scope.to_string()),
    }
}

fn preference_name(preference: RoutePreference) -> Option<&'static str> {
    match preference {
        RoutePreference::Low => Some("low"),
        RoutePreference::Medium => Some("medium"),
        RoutePreference::High => Some("high"),
        _ => None,
    }
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A JSON object in which absent values have no key.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, key: &str, value: impl serde::Serialize) {
        self.0.insert(key.to_owned(), json!(value));
    }

    fn put_some(&mut self, key: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}
