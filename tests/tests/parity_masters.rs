//! The same macvlan and ipvlan configuration to the Go plugins of Debian's package and to ours: the
//! same results, the same kernel; and a node that goes from one to the other with containers running.

use oxcni_tests::{Container, Host, Intended, Plugins, both_flavours, parity};
use serde_json::{Value, json};

/// A master with an address and a fixed MAC, which ipvlan's interfaces have too.
const MASTER: &str = "link add name eth1 address c2:00:00:00:00:01 type veth peer name far; link set far up; \
    link set eth1 up; addr add 192.0.2.1/24 dev eth1; route add default via 192.0.2.9 dev eth1";

/// The same under the name that the container's interface is to have.
const MASTER_ETH0: &str = "link add name eth0 address c2:00:00:00:00:01 type veth peer name far; \
    link set far up; link set eth0 up";

/// Of cases that are refused: Go leaves what it made until then.
const REFUSED: &[Intended] = &[Intended {
    path: "/dels succeed",
    reason: "Go's DEL fails for what its ADD refuses, so runtimes retry for ever; ours has nothing to take down",
}];

const CHECK_OF_LAYER_2: &[Intended] = &[Intended {
    path: "/checks succeed",
    reason: "Go's CHECK fails for every layer 2 attachment, for want of an IPAM plugin to ask",
}];

const CHECK_WITHOUT_MASTER: &[Intended] = &[Intended {
    path: "/checks succeed",
    reason: "where no master is configured, Go's CHECK of ipvlan takes the container's interface in prevResult for it",
}];

fn net(kind: &str, rest: Value) -> Value {
    let mut config = json!({ "cniVersion": "1.0.0", "name": "net", "type": kind, "master": "eth1",
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "172.30.0.0/16", "gw": "10.1.2.7" }] } });
    for (key, value) in rest.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn macvlan(rest: Value) -> Value {
    net("macvlan", rest)
}

fn ipvlan(rest: Value) -> Value {
    net("ipvlan", rest)
}

fn without(mut config: Value, key: &str) -> Value {
    config.as_object_mut().expect("an object").remove(key);
    config
}

fn of_static() -> Value {
    json!({ "type": "static", "addresses": [{ "address": "10.10.0.1/24", "gateway": "10.10.0.254" },
        { "address": "fd00:1::7/64", "gateway": "fd00:1::1" }],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "fd00:9::/32", "gw": "fd00:1::9" }] })
}

/// What the plugin before a chained ipvlan gave.
fn before() -> Value {
    json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "eth1" }],
        "ips": [{ "address": "10.1.2.77/24", "gateway": "10.1.2.1" }, { "address": "fd00:1::77/64" }],
        "routes": [{ "dst": "172.30.0.0/16", "gw": "10.1.2.1" }] })
}

parity! {
    macvlan_bridge [Macvlan] { macvlan(json!({})), links: MASTER, containers: 2 }
    macvlan_private [Macvlan] { macvlan(json!({ "mode": "private" })), links: MASTER, containers: 2 }
    macvlan_vepa [Macvlan] { macvlan(json!({ "mode": "vepa" })), links: MASTER, containers: 2 }
    macvlan_passthru [Macvlan] { macvlan(json!({ "mode": "passthru" })), links: MASTER }
    macvlan_passthru_with_mac [Macvlan] { macvlan(json!({ "mode": "passthru", "mac": "c2:11:22:33:44:55" })), links: MASTER }
    macvlan_unknown_mode [Macvlan] { macvlan(json!({ "mode": "bride" })), links: MASTER, intended: REFUSED }
    macvlan_default_master [Macvlan] { without(macvlan(json!({})), "master"), links: MASTER }
    macvlan_missing_master [Macvlan] { macvlan(json!({ "master": "eth7" })), links: MASTER, intended: REFUSED }
    macvlan_mtu [Macvlan] { macvlan(json!({ "mtu": 1300 })), links: MASTER }
    macvlan_mtu_above_the_masters [Macvlan] { macvlan(json!({ "mtu": 1501 })), links: MASTER, intended: REFUSED }
    macvlan_layer_2 [Macvlan] { without(macvlan(json!({})), "ipam"), links: MASTER, intended: CHECK_OF_LAYER_2 }
    macvlan_static [Macvlan] { macvlan(json!({ "ipam": of_static() })), links: MASTER }
    macvlan_mac [Macvlan] { macvlan(json!({ "mac": "c2:11:22:33:44:55" })), links: MASTER }
    macvlan_mac_from_cni_args [Macvlan] { macvlan(json!({ "mac": "c2:11:22:33:44:55" })), args: "IgnoreUnknown=1;MAC=c2:11:22:33:44:66",
        links: MASTER }
    macvlan_mac_from_runtime_config [Macvlan] { macvlan(json!({ "mac": "c2:11:22:33:44:55",
        "capabilities": { "mac": true }, "runtimeConfig": { "mac": "c2:11:22:33:44:77" } })),
        args: "IgnoreUnknown=1;MAC=c2:11:22:33:44:66", links: MASTER }
    macvlan_same_name_on_the_host [Macvlan] { macvlan(json!({ "master": "eth0" })), links: MASTER_ETH0, containers: 2 }
    macvlan_dns [Macvlan] { macvlan(json!({ "dns": { "nameservers": ["10.9.9.9"], "domain": "example.org" } })), links: MASTER }
    macvlan_version_0_2_0 [Macvlan] { macvlan(json!({ "cniVersion": "0.2.0" })), links: MASTER }
    macvlan_version_0_3_1 [Macvlan] { macvlan(json!({ "cniVersion": "0.3.1" })), links: MASTER }
    macvlan_version_0_4_0 [Macvlan] { macvlan(json!({ "cniVersion": "0.4.0" })), links: MASTER }
    ipvlan_l2 [Ipvlan] { ipvlan(json!({})), links: MASTER, containers: 2 }
    ipvlan_l3 [Ipvlan] { ipvlan(json!({ "mode": "l3" })), links: MASTER, containers: 2 }
    ipvlan_l3s [Ipvlan] { ipvlan(json!({ "mode": "l3s" })), links: MASTER, containers: 2 }
    ipvlan_unknown_mode [Ipvlan] { ipvlan(json!({ "mode": "l4" })), links: MASTER, intended: REFUSED }
    ipvlan_default_master [Ipvlan] { without(ipvlan(json!({})), "master"), links: MASTER, intended: CHECK_WITHOUT_MASTER }
    ipvlan_missing_master [Ipvlan] { ipvlan(json!({ "master": "eth7" })), links: MASTER, intended: REFUSED }
    ipvlan_mtu [Ipvlan] { ipvlan(json!({ "mtu": 1300 })), links: MASTER }
    ipvlan_static [Ipvlan] { ipvlan(json!({ "ipam": of_static() })), links: MASTER }
    ipvlan_same_name_on_the_host [Ipvlan] { ipvlan(json!({ "master": "eth0" })), links: MASTER_ETH0, containers: 2 }
    ipvlan_mac_is_ignored [Ipvlan] { ipvlan(json!({})), args: "IgnoreUnknown=1;MAC=c2:11:22:33:44:66", links: MASTER }
    ipvlan_chained [Ipvlan] { without(without(ipvlan(json!({ "prevResult": before() })), "ipam"), "master"), links: MASTER,
        intended: CHECK_WITHOUT_MASTER }
    ipvlan_chained_with_ipam [Ipvlan] { ipvlan(json!({ "prevResult": before() })), links: MASTER }
    ipvlan_version_0_3_1 [Ipvlan] { ipvlan(json!({ "cniVersion": "0.3.1" })), links: MASTER }
}

/// ADD by one set of plugins; CHECK, another ADD and DEL by another.
fn alternate(host: &mut Host, kind: &str, [first, then]: [Plugins; 2]) {
    host.veth_pair("eth1", "outside", &["10.1.2.250/24"]);
    let config = net(kind, json!({}));
    host.upgrade(first);
    let ids = [host.container().id().to_owned(), host.container().id().to_owned()];
    let results = [0, 1].map(|n| host.network(config.clone()).add(&host.again(&ids[n])).result());

    host.upgrade(then);
    let net = host.network(config);
    let [one, two] = [0, 1].map(|n| host.again(&ids[n]));
    net.check(&one, &results[0]).succeeds();
    net.check(&two, &results[1]).succeeds();
    let third = host.container();
    assert_eq!(net.add_addresses(&third), ["10.1.2.4", "fd00:1::4"]);
    assert!(third.reaches("10.1.2.2") && third.reaches("10.1.2.250") && third.reaches("fd00:1::3"));
    net.del_after(&one, &results[0]).succeeds();
    net.del(&two).succeeds();
    net.del(&third).succeeds();
    let gone = |pod: &Container<'_>| pod.link("eth0").is_null();
    assert!(gone(&one) && gone(&two) && gone(&third));
    assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
}

/// Goes from Go to ours, and on another host from ours to Go.
fn alternate_both_ways(mut host: Host, kind: &str) {
    let ours = host.plugins();
    alternate(&mut host, kind, [Plugins::Go, ours]);
    alternate(&mut Host::new(ours), kind, [ours, Plugins::Go]);
}

both_flavours! {
    fn macvlan_by_go_and_ours_alternate(host) needs [Macvlan, GoPlugins] {
        alternate_both_ways(host, "macvlan");
    }

    fn ipvlan_by_go_and_ours_alternate(host) needs [Ipvlan, GoPlugins] {
        alternate_both_ways(host, "ipvlan");
    }
}
