use serde_json::{Value, json};

use super::{links, routes, vlans};
use crate::requirement::{self, Feature};
use crate::{Host, Plugins};

const SETUP: &str = "\
    ip link add name br type bridge ageing_time 100 stp_state 1; ip link set dev br up promisc on; \
    ip link add name v0 mtu 1400 type veth peer name v1; ip link set v0 master br alias 'a word'; \
    ip link set v0 type bridge_slave hairpin on isolated on learning off; ip link set v0 up; ip link set v1 up; \
    ip addr add 10.1.2.3/24 broadcast 10.1.2.255 dev v1; ip addr add 10.1.2.4/24 dev v1; \
    ip addr add fd00:1::1/64 dev v1 nodad noprefixroute; ip addr add fd00:1::2/64 dev v1 nodad preferred_lft 0; \
    ip addr add 10.7.0.1 peer 10.7.0.2/32 dev br; ip link set v1 group 9; \
    ip route add default via 10.1.2.1; ip route add 10.9.0.0/16 via 10.1.2.7 metric 70 mtu 1300 advmss 1200 proto static; \
    ip route add 10.8.0.0/16 dev v1 scope link table 77; ip route add blackhole 10.6.0.0/16; \
    ip route add 10.5.0.0/16 nexthop via 10.1.2.1 nexthop via 10.1.2.9 weight 3; \
    ip -6 route add fd00:9::/32 via fd00:1::9; ip -6 route add default via fd00:1::8 dev v1";

/// What iproute2 prints, empty where that is nothing at all.
fn printed(host: &Host, command: &str) -> Vec<Value> {
    let text = host.sh(command);
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).expect("JSON") }
}

/// Every key of `ours` stands in `theirs` with the same value; `[a, b]` lists are of one length.
fn assert_part_of(ours: &Value, theirs: &Value, place: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(_)) => {
            ours.iter()
                .for_each(|(key, value)| assert_part_of(value, &theirs[key], &format!("{place}/{key}")));
        }
        (Value::Array(left), Value::Array(right)) if place.ends_with("/flags") => {
            assert!(left.iter().all(|flag| right.contains(flag)), "{place}: {ours} of {theirs}");
        }
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "{place}: {ours} or {theirs}");
            left.iter().zip(right).enumerate().for_each(|(at, (one, other))| {
                assert_part_of(one, other, &format!("{place}/{at}"));
            });
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}

#[test]
fn links_and_routes_are_those_that_iproute2_shows() {
    if !requirement::met("links_and_routes_are_those_that_iproute2_shows", &[]) {
        return;
    }
    let host = Host::new(Plugins::Multicall);
    host.sh(SETUP);
    let seen = json!(host.enter(links));
    assert_eq!(seen.as_array().map(Vec::len), Some(4), "{seen}");
    assert_part_of(&seen, &json!(printed(&host, "ip -j -d addr show")), "links");

    // What comes with link-local addresses comes in its own time.
    let lasting = |route: &Value| {
        let dst = route["dst"].as_str().unwrap_or_default();
        !(dst.starts_with("fe80:") || dst.starts_with("ff00:") || route["type"] == "anycast")
    };
    let seen: Vec<_> = host.enter(routes).into_iter().filter(lasting).collect();
    let shown = ["-4", "-6"].map(|family| printed(&host, &format!("ip {family} -j route show table all")));
    let shown: Vec<_> = shown.concat().into_iter().filter(lasting).collect();
    assert!(seen.len() > 15, "{seen:#?}");
    assert_part_of(&json!(seen), &json!(shown), "routes");
    // And nothing that iproute2 shows of a route is missing, its flags apart.
    let without_flags = |mut route: Value| {
        let hops = route["nexthops"].as_array_mut().into_iter().flatten();
        hops.for_each(|hop| drop(hop.as_object_mut().map(|hop| hop.remove("flags"))));
        route.as_object_mut().map(|route| route.remove("flags"));
        route
    };
    let shown: Vec<_> = shown.into_iter().map(without_flags).collect();
    assert_part_of(&json!(shown), &json!(seen), "iproute2's routes");
}

#[test]
fn vlans_are_those_that_iproute2_shows() {
    if !requirement::met(
        "vlans_are_those_that_iproute2_shows",
        &[Feature::BridgeVlan, Feature::Macvlan, Feature::Vlan],
    ) {
        return;
    }
    let host = Host::new(Plugins::Multicall);
    host.sh("ip link add name br type bridge vlan_filtering 1; ip link add name v0 type veth peer name v1; \
        ip link set v0 master br; bridge vlan add dev v0 vid 5 pvid untagged; bridge vlan add dev v0 vid 20-22; \
        ip link add link v1 name v1.9 type vlan id 9; ip link add link v1 name m type macvlan mode bridge bcqueuelen 500");
    assert_eq!(json!(host.enter(vlans)), json!(printed(&host, "bridge -j vlan show")));
    assert_part_of(&json!(host.enter(links)), &json!(printed(&host, "ip -j -d addr show")), "links");
}
