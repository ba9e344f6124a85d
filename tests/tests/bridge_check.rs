//! CHECK and STATUS of the bridge plugin: what must not trouble them, and what they must find.

use oxcni_tests::{Container, both_flavours, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-test",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

both_flavours! {
    fn status_says_what_no_add_could_be_served_with(host) {
        for key in ["ipMasq", "macspoofchk"] {
            let net = host.network(config(json!({ key: true })));
            let before = host.rules();
            // No program is needed.
            net.hostwide_call("STATUS").env("PATH", "/nowhere").run().succeeds();
            assert_eq!(host.rules(), before);
        }
        host.sh("nft add table inet cni_plugins_masquerade; \
                 nft 'add chain inet cni_plugins_masquerade postrouting { type filter hook postrouting priority 100; }'");
        host.network(config(json!({ "ipMasq": true }))).status().fails(50, &["ipMasq"]);
        host.network(config(json!({ "macspoofchk": true }))).status().succeeds();
        host.sh("ip link add name br-test type veth peer name other");
        host.network(config(json!({}))).status().fails(50, &["br-test", "veth"]);
    }

    fn check_succeeds_after_other_containers_came(host) {
        let net = host.network(config(json!({})));
        let first = host.container();
        let result = net.add(&first).result();
        for _ in 0..6 {
            net.add(&host.container()).succeeds();
        }
        net.check(&first, &result).succeeds();
    }

    fn check_succeeds_where_nothing_keeps_the_mac_of_the_bridge(host) {
        let net = host.network(config(json!({ "isGateway": true, "ipam": {} })));
        let first = host.container();
        let result = net.add(&first).result();
        for _ in 0..6 {
            net.add(&host.container()).succeeds();
        }
        net.check(&first, &result).succeeds();
    }

    fn check_succeeds_where_forced_addresses_replaced_others(host) {
        let at = |subnet: u8| json!({ "address": format!("10.1.{subnet}.9/24"), "gateway": format!("10.1.{subnet}.1") });
        let forced = |addresses: Value| host.network(config(json!({
            "isGateway": true, "forceAddress": true, "ipam": { "type": "static", "addresses": addresses },
        })));
        let (first, second) = (host.container(), host.container());
        let net = forced(json!([at(2), at(3)]));
        let result = net.add(&first).result();
        net.check(&first, &result).succeeds();
        forced(json!([at(4)])).add(&second).succeeds();
        net.check(&first, &result).succeeds();
    }

    fn check_finds_what_is_not_as_it_was(host) {
        let net = host.network(config(json!({ "isDefaultGateway": true })));
        let spoil = |what: &str, spoiler: &dyn Fn(&Container<'_>)| {
            let container = host.container();
            let result = net.add(&container).result();
            net.check(&container, &result).succeeds();
            spoiler(&container);
            assert!(!net.check(&container, &result).ok(), "CHECK does not see {what}");
            net.del(&container).succeeds();
        };
        spoil("an address that is gone", &|container| drop(container.sh("ip -4 addr flush dev eth0")));
        spoil("a MAC that is another", &|container| drop(container.sh("ip link set eth0 address 02:00:00:00:00:77")));
        spoil("an interface that is gone", &|container| drop(container.sh("ip link del eth0")));
        spoil("a reservation that is gone", &|container| {
            for (address, holder) in host.reservations("net") {
                if holder.starts_with(container.id()) {
                    host.sh(&format!("rm /var/lib/cni/networks/net/{address}"));
                }
            }
        });
        spoil("a route that is gone", &|container| drop(container.sh("ip route del default")));
        spoil("a route that leads elsewhere", &|container| {
            container.ip("link add name other type veth peer name far; link set other up; link set far up; \
                          route del default; route add default via 10.1.2.1 dev other onlink");
        });
        let port = || host.sh("ip -br link show master br-test | cut -d@ -f1").trim().to_owned();
        for (what, change) in [
            ("a port that left the bridge", "nomaster"),
            ("a port with hairpin", "type bridge_slave hairpin on"),
            ("a port that is isolated", "type bridge_slave isolated on"),
        ] {
            spoil(what, &|_| drop(host.sh(&format!("ip link set {} {change}", port()))));
        }
        spoil("a gateway's address that is gone", &|_| drop(host.sh("ip addr del 10.1.2.1/24 dev br-test")));
        spoil("a bridge that is promiscuous", &|_| drop(host.sh("ip link set br-test promisc on")));
    }

    fn check_finds_firewall_rules_that_are_gone(host) needs [NftBridge] {
        for (key, table) in [("ipMasq", "inet cni_plugins_masquerade"), ("macspoofchk", "bridge nat")] {
            let net = host.network(config(json!({ key: true })));
            let (pod, neighbour) = (host.container(), host.container());
            let result = net.add(&pod).result();
            net.add(&neighbour).succeeds();
            net.check(&pod, &result).succeeds();
            net.del(&neighbour).succeeds();
            net.check(&pod, &result).succeeds();
            host.sh(&format!("nft flush table {table}"));
            net.check(&pod, &result).fails(102, &[key]);
            net.del(&pod).succeeds();
            host.sh(&format!("nft delete table {table}"));
        }
    }

    fn check_succeeds_for_a_trunk_with_the_vlan_of_untagged_frames(host) needs [BridgeVlan] {
        for rest in [
            json!({ "vlanTrunk": [{ "minID": 1, "maxID": 4094 }], "ipam": {} }),
            json!({ "vlanTrunk": [{ "minID": 90, "maxID": 110 }], "vlan": 100 }),
            json!({ "vlanTrunk": [{ "id": 1 }], "vlan": 100, "preserveDefaultVlan": true }),
        ] {
            let net = host.network(config(rest));
            let pod = host.container();
            let result = net.add(&pod).result();
            net.check(&pod, &result).succeeds();
            net.del(&pod).succeeds();
        }
    }

    fn a_trunk_of_nothing_leaves_the_vlans_of_the_port_alone(host) needs [BridgeVlan] {
        host.sh("ip link add name br-test type bridge vlan_filtering 1 vlan_default_pvid 5");
        let net = host.network(config(json!({ "vlanTrunk": [{}] })));
        let pod = host.container();
        let result = net.add(&pod).result();
        let port = result["interfaces"][1]["name"].as_str().expect("a port");
        let vlans = host.sh(&format!("bridge -j vlan show dev {port}"));
        assert!(vlans.contains(r#""vlans":[{"vlan":5,"flags":["PVID","Egress Untagged"]}]"#), "{vlans}");
        net.check(&pod, &result).succeeds();
    }

    fn check_finds_a_vlan_that_is_gone(host) needs [BridgeVlan] {
        let net = host.network(config(json!({ "vlan": 100 })));
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        host.sh(&format!("bridge vlan del dev {} vid 100", result["interfaces"][1]["name"].as_str().expect("a port")));
        net.check(&pod, &result).fails(102, &["VLAN 100"]);
    }
}
