//! What a network namespace holds, in the words of iproute2's JSON but without starting a program.
//!
//! A snapshot is taken before and after most calls. On an emulated processor a process costs a
//! hundred times as much as asking the kernel, so this is what the tests' time is made of.
//! Numbers are those of the kernel's `include/uapi/linux/{rtnetlink,if_link,if_addr,if_bridge}.h`.

mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use message::{Attributes, Message, dump};
pub(crate) use message::{has_nft_tables, set_loopback_up};

const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTEXT_FILTER_BRVLAN: u32 = 2;
const IFLA_EXT_MASK: u16 = 29;

/// Every link of the calling thread's namespace with its addresses, as far as tests look at them:
/// `ip -j -d addr show`.
pub(crate) fn links() -> Vec<Value> {
    let links = dump(RTM_GETLINK, &[0; 16], &[]);
    let names = names(&links);
    let addresses = dump(RTM_GETADDR, &[0; 8], &[]);
    links
        .iter()
        .map(|message| {
            let mut link = link(message, &names);
            let own = addresses.iter().filter(|address| address.header_u32(4) == message.header_u32(4));
            link["addr_info"] = own.map(address).collect();
            link
        })
        .collect()
}

/// The routes of all tables, both families: `ip -j route show table all`.
pub(crate) fn routes() -> Vec<Value> {
    let names = names(&dump(RTM_GETLINK, &[0; 16], &[]));
    dump(RTM_GETROUTE, &[0; 12], &[]).iter().map(|message| route(message, &names)).collect()
}

/// The VLANs of bridges and their ports: `bridge -j vlan show`.
pub(crate) fn vlans() -> Vec<Value> {
    let mut header = [0; 16];
    header[0] = AF_BRIDGE;
    dump(RTM_GETLINK, &header, &[(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN)])
        .iter()
        .filter_map(|message| {
            let attributes = message.attributes(16);
            let vlans: Vec<_> = attributes.nested(26)?.all(2).map(vlan).collect();
            (!vlans.is_empty()).then(|| json!({ "ifname": attributes.text(3), "vlans": vlans }))
        })
        .collect()
}

/// `struct bridge_vlan_info`.
fn vlan(info: &[u8]) -> Value {
    let word = |at: usize| u16::from_ne_bytes([info[at], info[at + 1]]);
    let names = [(2, "PVID"), (4, "Egress Untagged")];
    let flags: Vec<_> = names.iter().filter(|(flag, _)| word(0) & flag != 0).map(|(_, name)| *name).collect();
    if flags.is_empty() { json!({ "vlan": word(2) }) } else { json!({ "vlan": word(2), "flags": flags }) }
}

fn names(links: &[Message]) -> BTreeMap<u32, String> {
    links
        .iter()
        .filter_map(|message| Some((message.header_u32(4), message.attributes(16).text(3)?)))
        .collect()
}

fn link(message: &Message, names: &BTreeMap<u32, String>) -> Value {
    let attributes = message.attributes(16);
    let flags = message.header_u32(8);
    let flags: Vec<_> = [(0x80, "NOARP"), (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x1, "UP")]
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| *name)
        .collect();
    let mut link = Object::default();
    link.put("ifindex", Some(message.header_u32(4)));
    link.put("ifname", attributes.text(3));
    link.put("flags", Some(flags));
    link.put("mtu", attributes.u32(4));
    link.put("operstate", attributes.u8(16).map(operstate));
    link.put("txqlen", attributes.u32(13).filter(|length| *length != 0));
    link.put("address", attributes.bytes(1).map(mac));
    link.put("promiscuity", attributes.u32(30));
    link.put("ifalias", attributes.text(20));
    link.put("group", attributes.u32(27).map(group));
    link.put("master", attributes.u32(10).and_then(|index| names.get(&index)));
    let lower = attributes.u32(5).filter(|index| *index != 0);
    match attributes.bytes(37) {
        Some(_) => link.put("link_index", lower),
        None => link.put("link", lower.and_then(|index| names.get(&index))),
    }
    if let Some(info) = attributes.nested(18) {
        let mut linkinfo = Object::default();
        let kind = info.text(1);
        linkinfo.put("info_data", info.nested(2).map(|data| of_kind(kind.as_deref(), &data)));
        linkinfo.put("info_kind", kind);
        linkinfo.put("info_slave_kind", info.text(4));
        linkinfo.put("info_slave_data", info.nested(5).map(|data| of_port(&data)));
        link.put("linkinfo", Some(linkinfo.0));
    }
    Value::Object(link.0)
}

fn operstate(state: u8) -> &'static str {
    const NAMES: [&str; 7] = ["UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"];
    NAMES[usize::from(state)]
}

fn group(group: u32) -> String {
    if group == 0 { "default".to_owned() } else { group.to_string() }
}

fn of_kind(kind: Option<&str>, data: &Attributes<'_>) -> Value {
    let mut info = Object::default();
    match kind {
        Some("bridge") => {
            info.put("ageing_time", data.u32(4));
            info.put("stp_state", data.u32(5));
            info.put("vlan_filtering", data.u8(7));
            info.put("vlan_default_pvid", data.u16(39));
        }
        Some("macvlan") => {
            let names = [(1, "private"), (2, "vepa"), (4, "bridge"), (8, "passthru"), (16, "source")];
            info.put("mode", data.u32(1).and_then(|mode| named(&names, mode)));
            info.put("bcqueuelen", data.u32(7));
        }
        Some("ipvlan") => {
            let names = [(0, "l2"), (1, "l3"), (2, "l3s")];
            info.put("mode", data.u16(1).and_then(|mode| named(&names, u32::from(mode))));
        }
        Some("vlan") => {
            info.put("id", data.u16(1));
            let protocol = data.bytes(5).map(|bytes| if bytes == [0x81, 0] { "802.1Q" } else { "802.1ad" });
            info.put("protocol", protocol);
        }
        _ => {}
    }
    Value::Object(info.0)
}

fn of_port(data: &Attributes<'_>) -> Value {
    let mut port = Object::default();
    for (attribute, name) in [
        (4, "hairpin"),
        (5, "guard"),
        (7, "fastleave"),
        (8, "learning"),
        (9, "flood"),
        (32, "neigh_suppress"),
        (33, "isolated"),
    ] {
        port.put(name, data.u8(attribute).map(|on| on != 0));
    }
    Value::Object(port.0)
}

fn address(message: &Message) -> Value {
    let attributes = message.attributes(8);
    let [family, prefix, old_flags, scope] = message.header(0..4).try_into().expect("four bytes");
    let flags = attributes.u32(8).unwrap_or(u32::from(old_flags));
    let (ip, local) = (attributes.ip(1), attributes.ip(2));
    let lifetime = |at: usize| {
        attributes.bytes(6).map(|info| u32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes")))
    };
    let mut address = Object::default();
    address.put("family", Some(if family == AF_INET6 { "inet6" } else { "inet" }));
    address.put("local", local.or(ip));
    address.put("address", ip.filter(|ip| local.is_some_and(|local| local != *ip)));
    address.put("prefixlen", Some(prefix));
    address.put("broadcast", attributes.ip(4));
    address.put("scope", scope_name(scope));
    address.put("label", attributes.text(3));
    address.put("preferred_life_time", lifetime(0));
    address.put("valid_life_time", lifetime(4));
    let first = if family == AF_INET6 { "temporary" } else { "secondary" };
    for (flag, name) in [
        (0x1, first),
        (0x2, "nodad"),
        (0x4, "optimistic"),
        (0x8, "dadfailed"),
        (0x10, "home"),
        (0x20, "deprecated"),
        (0x40, "tentative"),
        (0x100, "mngtmpaddr"),
        (0x200, "noprefixroute"),
        (0x400, "autojoin"),
    ] {
        address.put(name, (flags & flag != 0).then_some(true));
    }
    address.put("dynamic", (flags & 0x80 == 0).then_some(true));
    Value::Object(address.0)
}

fn route(message: &Message, names: &BTreeMap<u32, String>) -> Value {
    let attributes = message.attributes(12);
    let header = message.header(0..8);
    let (family, length, table, protocol, scope, kind) =
        (header[0], header[1], header[4], header[5], header[6], header[7]);
    let bits = if family == AF_INET6 { 128 } else { 32 };
    let dst = match attributes.ip(1) {
        Some(dst) if length == bits => dst.to_string(),
        Some(dst) => format!("{dst}/{length}"),
        None if length == 0 => "default".to_owned(),
        None => format!("0/{length}"),
    };
    let mut route = Object::default();
    route.put("type", named(&ROUTE_TYPES, u32::from(kind)));
    route.put("dst", Some(dst));
    route.put("gateway", attributes.ip(5));
    route.put("dev", attributes.u32(4).and_then(|index| names.get(&index)));
    route.put("table", table_name(attributes.u32(15).unwrap_or(u32::from(table))));
    route.put("protocol", protocol_name(protocol));
    route.put("scope", scope_name(scope).filter(|name| name != "global"));
    route.put("prefsrc", attributes.ip(7));
    route.put("metric", attributes.u32(6));
    route.put("metrics", attributes.nested(8).map(|metrics| json!([of_metrics(&metrics)])));
    route.put("nexthops", attributes.bytes(9).map(|hops| next_hops(hops, names)));
    route.put(
        "pref",
        attributes.u8(20).and_then(|pref| named(&[(0, "medium"), (1, "high"), (3, "low")], u32::from(pref))),
    );
    Value::Object(route.0)
}

/// Types of `struct rtmsg`; unicast goes without saying.
const ROUTE_TYPES: [(u32, &str); 7] = [
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

fn of_metrics(metrics: &Attributes<'_>) -> Value {
    let mut known = Object::default();
    known.put("mtu", metrics.u32(2));
    known.put("advmss", metrics.u32(8));
    Value::Object(known.0)
}

/// `struct rtnexthop`: length, flags, hops, link; then attributes.
fn next_hops(mut bytes: &[u8], names: &BTreeMap<u32, String>) -> Vec<Value> {
    let mut hops = Vec::new();
    while bytes.len() >= 8 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])).clamp(8, bytes.len());
        let attributes = Attributes::read(&bytes[8..length]);
        let index = u32::from_ne_bytes(bytes[4..8].try_into().expect("four bytes"));
        let mut hop = Object::default();
        hop.put("gateway", attributes.ip(5));
        hop.put("dev", names.get(&index));
        hop.put("weight", Some(u32::from(bytes[3]) + 1));
        hops.push(Value::Object(hop.0));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    hops
}

/// The main table goes without saying.
fn table_name(table: u32) -> Option<String> {
    match table {
        254 => None,
        255 => Some("local".to_owned()),
        253 => Some("default".to_owned()),
        other => Some(other.to_string()),
    }
}

/// `boot`, which is anybody's, goes without saying.
fn protocol_name(protocol: u8) -> Option<String> {
    match protocol {
        2 => Some("kernel".to_owned()),
        3 => None,
        4 => Some("static".to_owned()),
        9 => Some("ra".to_owned()),
        other => Some(other.to_string()),
    }
}

fn scope_name(scope: u8) -> Option<String> {
    let name = named(
        &[(0, "global"), (200, "site"), (253, "link"), (254, "host"), (255, "nowhere")],
        u32::from(scope),
    );
    Some(name.map_or_else(|| scope.to_string(), str::to_owned))
}

fn named(names: &[(u32, &'static str)], value: u32) -> Option<&'static str> {
    names.iter().find(|(number, _)| *number == value).map(|(_, name)| *name)
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// A JSON object in which what is not there has no key.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, key: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), json!(value));
        }
    }
}

/// Four or sixteen bytes as an address.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
