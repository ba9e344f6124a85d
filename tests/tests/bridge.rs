//! The bridge plugin: traffic that passes, traffic that must not, and what its fields do.

use oxcni_tests::{
    ArpCounter, Container, Host, Network, Plugins, both_flavours, eventually, programs_executed,
    source_seen_by, with_keys,
};
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

/// Everything of a network taken down, and nothing left of it but its bridge.
fn takes_all_down(host: &Host, net: &Network<'_>, containers: &[&Container<'_>]) {
    for container in containers {
        net.del(container).succeeds();
        assert!(container.link("eth0").is_null());
    }
    let bridge = net.config()["bridge"].as_str().expect("a bridge");
    let ports = host.sh(&format!("ip -br link show master {bridge}"));
    assert_eq!(ports, "", "ports are left");
    assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
    assert!(host.rules().is_empty(), "rules are left: {:#?}", host.rules());
}

both_flavours! {
    fn two_containers_reach_each_other_and_the_host(host) {
        let net = host.network(config(json!({ "isGateway": true })));
        let (one, two) = (host.container(), host.container());
        assert_eq!(net.add_addresses(&one), ["10.1.2.2", "fd00:1::2"]);
        assert_eq!(net.add_addresses(&two), ["10.1.2.3", "fd00:1::3"]);
        for address in ["10.1.2.3", "10.1.2.1", "fd00:1::3", "fd00:1::1"] {
            assert!(one.reaches(address), "no answer from {address}");
        }
        takes_all_down(&host, &net, &[&one, &two]);
    }

    fn hairpin_gives_a_frame_back_to_its_sender(host) {
        let net = host.network(config(json!({ "hairpinMode": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        let counter = ArpCounter::on(&pod, "eth0");
        // Nobody answers; only a hairpin port gives the sender its own question back.
        assert!(pod.is_cut_off_from("10.1.2.99"));
        assert!(counter.frames() > 0, "nothing came back");
    }

    fn without_hairpin_a_frame_does_not_come_back(host) {
        let net = host.network(config(json!({})));
        let pod = host.container();
        net.add(&pod).succeeds();
        let counter = ArpCounter::on(&pod, "eth0");
        assert!(pod.is_cut_off_from("10.1.2.99"));
        assert_eq!(counter.frames(), 0);
    }

    fn port_isolation_keeps_containers_apart_but_not_from_the_gateway(host) {
        let net = host.network(config(json!({ "isGateway": true, "portIsolation": true })));
        let (one, two) = (host.container(), host.container());
        net.add(&one).succeeds();
        net.add(&two).succeeds();
        assert!(one.reaches("10.1.2.1"));
        assert!(one.is_cut_off_from("10.1.2.3"));
        assert!(one.is_cut_off_from("fd00:1::3"));
    }

    fn masquerade_shows_the_host_to_a_peer_beyond_it(host) {
        let beyond = peer_beyond(&host);
        let net = host.network(config(json!({ "isDefaultGateway": true, "ipMasq": true })));
        let (pod, neighbour) = (host.container(), host.container());
        net.add(&pod).succeeds();
        net.add(&neighbour).succeeds();
        let seen = |at: &Container<'_>, address: &str| {
            source_seen_by(at, address.parse().expect("an address"), &pod).map(|from| from.to_string())
        };
        assert_eq!(seen(&beyond, "192.0.2.2").as_deref(), Some("192.0.2.1"));
        assert_eq!(seen(&beyond, "2001:db8::2").as_deref(), Some("2001:db8::1"));
        // Between containers of one network nothing is rewritten.
        assert_eq!(seen(&neighbour, "10.1.2.3").as_deref(), Some("10.1.2.2"));
        assert_eq!(seen(&neighbour, "fd00:1::3").as_deref(), Some("fd00:1::2"));

        net.del(&pod).succeeds();
        assert_eq!(seen_from(&neighbour, &beyond).as_deref(), Some("192.0.2.1"), "the DEL of one broke another");
        takes_all_down(&host, &net, &[&neighbour]);
    }

    fn without_masquerade_a_peer_beyond_sees_the_container(host) {
        let beyond = peer_beyond(&host);
        beyond.sh("ip route add 10.1.2.0/24 via 192.0.2.1");
        let net = host.network(config(json!({ "isDefaultGateway": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        assert_eq!(seen_from(&pod, &beyond).as_deref(), Some("10.1.2.2"));
    }

    fn iptables_backend_gets_nftables_and_a_line_on_stderr(host) {
        let beyond = peer_beyond(&host);
        let net = host.network(config(json!({ "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "iptables" })));
        let pod = host.container();
        let added = net.add(&pod);
        added.succeeds();
        assert!(added.stderr.contains("nftables"), "no line about it:\n{added}");
        assert!(host.rules().iter().any(|rule| rule.contains("masquerade")));
        assert_eq!(seen_from(&pod, &beyond).as_deref(), Some("192.0.2.1"));
        takes_all_down(&host, &net, &[&pod]);
    }

    fn unknown_masquerade_backend_is_refused(host) {
        let net = host.network(config(json!({ "ipMasq": true, "ipMasqBackend": "ebpf" })));
        let before = host.state();
        net.add(&host.container()).fails(7, &["ebpf"]);
        assert_eq!(host.state(), before);
    }

    fn masquerade_chain_survives_rules_of_others(host) {
        host.sh("nft add table ip mine; nft 'add chain ip mine post { type nat hook postrouting priority 90; }'; \
                 nft add rule ip mine post ip saddr 10.99.0.0/16 masquerade");
        let before = host.rules();
        let net = host.network(config(json!({ "isDefaultGateway": true, "ipMasq": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        assert_eq!(host.rules(), before);
    }

    fn saved_ruleset_loads_whatever_an_interface_is_called(host) needs [NftBridge] {
        let net = host.network(config(json!({ "ipMasq": true, "macspoofchk": true }))).ifname("a;\"{}b");
        let pod = host.container();
        net.add(&pod).succeeds();
        assert!(host.rules().len() > 4, "{:#?}", host.rules());
        host.sh("nft list ruleset > /run/saved; unshare -n nft -f /run/saved");
        net.del(&pod).succeeds();
        assert!(host.rules().is_empty(), "{:#?}", host.rules());
    }

    fn firewall_rules_need_no_program(host) needs [NftBridge] {
        let net = host.network(config(json!({ "isGateway": true, "ipMasq": true, "macspoofchk": true })));
        let pod = host.container();
        // The plugin itself, and host-local where that is a program of its own.
        let plugins = if host.plugins() == Plugins::Separate { 2 } else { 1 };
        assert_eq!(programs_executed(&net.call("ADD", &pod)), plugins);
        // Those of iptables-nft neither, which are rules of nf_tables.
        host.sh("iptables-nft -t nat -A POSTROUTING -j RETURN");
        assert_eq!(programs_executed(&net.call("DEL", &pod)), plugins);
        assert!(pod.link("eth0").is_null());
        assert!(!host.rules().iter().any(|rule| rule.contains(pod.id())), "{:#?}", host.rules());
    }

    fn more_addresses_are_not_masqueraded_than_a_node_can_bear(host) {
        let addresses: Vec<_> =
            (0..257).map(|n| json!({ "address": format!("10.1.{}.{}/16", 2 + n / 200, 1 + n % 200) })).collect();
        let net = host.network(config(json!({ "ipMasq": true, "ipam": { "type": "static", "addresses": addresses } })));
        let before = host.rules();
        net.add(&host.container()).fails(7, &["ipMasq", "257", "256"]);
        assert_eq!(host.rules(), before);
    }

    fn forged_source_mac_is_dropped(host) needs [NftBridge] {
        let net = host.network(config(json!({ "isGateway": true, "macspoofchk": true })));
        let (honest, forger) = (host.container(), host.container());
        net.add(&honest).succeeds();
        net.add(&forger).succeeds();
        assert!(forger.reaches("10.1.2.2"));
        forger.sh("ip link set eth0 address 02:00:00:00:00:66; ip neigh flush all");
        honest.sh("ip neigh flush all");
        assert!(forger.is_cut_off_from("10.1.2.2"), "a forged frame passes");
        // Not even a question who has an address.
        assert!(!honest.sh("ip neigh show").contains("02:00:00:00:00:66"), "a forged ARP passes");
        assert!(honest.reaches("10.1.2.1"));
        takes_all_down(&host, &net, &[&honest, &forger]);
    }

    fn vlans_are_kept_apart(host) needs [BridgeVlan] {
        let red = host.network(config(json!({ "vlan": 100 })));
        let blue = host.network(config(json!({ "vlan": 200 })));
        let (red1, red2, blue1) = (host.container(), host.container(), host.container());
        red.add(&red1).succeeds();
        red.add(&red2).succeeds();
        blue.add(&blue1).succeeds();
        assert!(red1.reaches("10.1.2.3"));
        assert!(red1.reaches("fd00:1::3"));
        assert!(red1.is_cut_off_from("10.1.2.4"));
        takes_all_down(&host, &red, &[&red1, &red2, &blue1]);
    }

    fn vlan_gateway_answers_on_its_vlan_only(host) needs [BridgeVlan] {
        let red = host.network(config(json!({ "vlan": 100, "isGateway": true })));
        let blue = host.network(config(json!({ "vlan": 200 })));
        let (red1, blue1) = (host.container(), host.container());
        let result = red.add(&red1).result();
        blue.add(&blue1).succeeds();
        assert_eq!(result["interfaces"][3]["name"], "br-test.100");
        assert!(red1.reaches("10.1.2.1"));
        assert!(blue1.is_cut_off_from("10.1.2.1"));
        red.check(&red1, &result).succeeds();
    }

    fn trunk_carries_its_vlans_and_no_other(host) needs [BridgeVlan, Vlan] {
        let trunk = host.network(config(json!({ "vlanTrunk": [{ "id": 100 }, { "minID": 300, "maxID": 302 }], "ipam": {} })));
        let red = host.network(config(json!({ "vlan": 100 })));
        let green = host.network(config(json!({ "vlan": 301 })));
        let blue = host.network(config(json!({ "vlan": 200 })));
        let (router, red1, green1, blue1) = (host.container(), host.container(), host.container(), host.container());
        trunk.add(&router).succeeds();
        assert_eq!(red.add_addresses(&red1)[0], "10.1.2.2");
        assert_eq!(green.add_addresses(&green1)[0], "10.1.2.3");
        assert_eq!(blue.add_addresses(&blue1)[0], "10.1.2.4");
        for (vlan, peer, passes) in [(100, "10.1.2.2", true), (301, "10.1.2.3", true), (200, "10.1.2.4", false)] {
            router.ip(&format!(
                "link add link eth0 name v type vlan id {vlan}; addr add 10.1.2.200/24 dev v; link set v up"
            ));
            assert!(if passes { router.reaches(peer) } else { router.is_cut_off_from(peer) }, "VLAN {vlan}");
            router.sh("ip link del v");
        }
    }

    fn default_vlan_stays_only_where_it_is_to_be_preserved(host) needs [BridgeVlan] {
        let vlans_of_the_port = |rest: Value| {
            let net = host.network(config(rest));
            let pod = host.container();
            let result = net.add(&pod).result();
            let port = result["interfaces"][1]["name"].as_str().expect("a port").to_owned();
            let shown: Value = serde_json::from_str(&host.sh(&format!("bridge -j vlan show dev {port}"))).expect("JSON");
            net.del(&pod).succeeds();
            let ids = shown[0]["vlans"].as_array().expect("VLANs").iter();
            ids.map(|vlan| (vlan["vlan"].as_u64().expect("an id"), vlan["flags"].to_string())).collect::<Vec<_>>()
        };
        let untagged = "[\"PVID\",\"Egress Untagged\"]".to_owned();
        assert_eq!(vlans_of_the_port(json!({ "vlan": 100 })), [(100, untagged.clone())]);
        let kept = vlans_of_the_port(json!({ "vlan": 100, "preserveDefaultVlan": true }));
        assert_eq!(kept.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 100]);
        assert_eq!(kept[1].1, untagged);
        let trunk = vlans_of_the_port(json!({ "vlanTrunk": [{ "id": 5 }], "vlan": 100 }));
        assert_eq!(trunk.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [5, 100]);
        assert_eq!(trunk[1].1, untagged);
        let around = vlans_of_the_port(json!({ "vlanTrunk": [{ "minID": 99, "maxID": 101 }], "vlan": 100 }));
        let tagged = |id: u64| (id, "null".to_owned());
        assert_eq!(around, [tagged(99), (100, untagged.clone()), tagged(101)]);
        let whole = vlans_of_the_port(json!({ "vlanTrunk": [{ "minID": 1, "maxID": 3 }] }));
        assert_eq!(whole, [(1, untagged), tagged(2), tagged(3)]);
    }

    fn frames_of_the_default_vlan_come_only_where_it_is_preserved(host) needs [BridgeVlan] {
        let kept = host.network(config(json!({ "vlan": 100, "preserveDefaultVlan": true })));
        let dropped = host.network(config(json!({ "vlan": 100, "preserveDefaultVlan": false })));
        let (in_both, in_one) = (host.container(), host.container());
        kept.add(&in_both).succeeds();
        dropped.add(&in_one).succeeds();
        let counters = [ArpCounter::on(&in_both, "eth0"), ArpCounter::on(&in_one, "eth0")];
        // The bridge itself is in the default VLAN, where nobody has this address.
        host.sh("ip addr add 10.1.2.200/24 dev br-test; ip link set br-test up; ping -n -c 1 -W 1 10.1.2.99 || true");
        assert!(counters[0].frames() > 0, "nothing came in the default VLAN");
        assert_eq!(counters[1].frames(), 0, "the default VLAN reaches a port that is not in it");
        // What they send themselves is of their own VLAN either way.
        assert!(in_both.reaches("10.1.2.3") && in_one.reaches("fd00:1::2"));
        assert!(in_both.is_cut_off_from("10.1.2.200") && in_one.is_cut_off_from("10.1.2.200"));
    }

    fn two_at_once_make_one_bridge(host) {
        // The race is for the first moment of a bridge: try it often.
        for round in 0..8 {
            let net = host.network(config(json!({ "bridge": format!("br{round}"), "isGateway": true, "name": format!("net{round}"),
                "ipam": { "type": "host-local", "subnet": format!("10.2.{round}.0/24") } })));
            let containers = [host.container(), host.container(), host.container()];
            let started: Vec<_> = containers.iter().map(|container| net.start_add(container)).collect();
            let results: Vec<_> = started.into_iter().map(|running| running.wait().result()).collect();
            assert!(containers[0].reaches(&format!("10.2.{round}.1")));
            for (container, result) in containers.iter().zip(&results) {
                net.check(container, result).succeeds();
            }
        }
    }

    fn layer_2_only_brings_the_link_up_without_addresses(host) {
        let net = host.network(config(json!({ "ipam": {} })));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert!(result["ips"].as_array().is_none_or(Vec::is_empty), "{result}");
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
        assert!(pod.comes_up("eth0"));
        net.check(&pod, &result).succeeds();
        pod.sh("ip link set eth0 down");
        net.check(&pod, &result).fails(102, &["eth0", "down"]);
        let net = net.with("disableContainerInterface", json!(true));
        net.check(&pod, &result).succeeds();
        net.del_after(&pod, &result).succeeds();
        assert!(pod.link("eth0").is_null());
    }

    fn cnv_bridge_is_another_name_for_bridge(host) {
        let net = host.network(config(json!({ "type": "cnv-bridge", "isGateway": true })));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert!(pod.reaches("10.1.2.1"));
        net.check(&pod, &result).succeeds();
        takes_all_down(&host, &net, &[&pod]);
    }

    fn neighbours_learn_a_new_mac_at_once(host) {
        let net = host.network(config(json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.1.2.9/24" }, { "address": "fd00:1::9/64" }] } })));
        let other = host.network(config(json!({ "name": "other", "isGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] } })));
        let (witness, old, new) = (host.container(), host.container(), host.container());
        other.add(&witness).succeeds();
        net.add(&old).succeeds();
        assert!(witness.reaches("10.1.2.9") && witness.reaches("fd00:1::9"));
        // The kernel believes no second announcement within a second, unless told to.
        witness.sh("sysctl -qw net.ipv4.neigh.eth0.locktime=0");
        net.del(&old).succeeds();
        net.add(&new).succeeds();
        let mac = new.mac("eth0");
        for address in ["10.1.2.9", "fd00:1::9"] {
            let known = || witness.sh(&format!("ip neigh show to {address}")).contains(&mac);
            assert!(eventually(known), "nobody told the witness that {address} is at {mac} now");
        }
    }

    fn container_id_may_be_as_long_as_runtimes_make_it(host) {
        let id = "0123456789abcdef".repeat(4);
        let pod = host.named_container(&id);
        let net = host.network(config(json!({ "isGateway": true, "ipMasq": true })));
        net.add(&pod).succeeds();
        takes_all_down(&host, &net, &[&pod]);
    }

    fn one_container_on_two_networks(host) {
        let first = host.network(config(json!({ "isDefaultGateway": true })));
        let second = host.network(config(json!({ "name": "net2", "bridge": "br2", "isGateway": true,
            "ipam": { "type": "host-local", "subnet": "10.1.3.0/24" } }))).ifname("net1");
        let pod = host.container();
        first.add(&pod).succeeds();
        second.add(&pod).succeeds();
        assert!(pod.reaches("10.1.2.1"));
        assert!(pod.reaches("10.1.3.1"));
        first.del(&pod).succeeds();
        assert!(pod.reaches("10.1.3.1"), "the DEL of one network took another one's");
        second.del(&pod).succeeds();
        assert!(host.reservations("net2").is_empty());
    }

    fn del_succeeds_twice_and_when_the_namespace_is_gone(host) {
        let net = host.network(config(json!({ "isGateway": true, "ipMasq": true })));
        let (twice, gone) = (host.container(), host.container());
        net.add(&twice).succeeds();
        net.add(&gone).succeeds();
        net.del(&twice).succeeds();
        net.del(&twice).succeeds();
        gone.vanish();
        net.del(&gone).succeeds();
        assert!(host.reservations("net").is_empty());
        assert!(host.rules().is_empty(), "{:#?}", host.rules());
        let without_netns = net.call("DEL", &gone).without("CNI_NETNS").run();
        without_netns.succeeds();
    }

    fn del_succeeds_when_the_bridge_is_gone(host) {
        let net = host.network(config(json!({ "isGateway": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        host.sh("ip link del br-test");
        net.del(&pod).succeeds();
        assert!(host.reservations("net").is_empty());
    }
}

/// A peer behind a second link of the host, `192.0.2.2` and `2001:db8::2`, that knows no way back.
fn peer_beyond(host: &Host) -> Container<'_> {
    let beyond = host.named_container("beyond");
    host.ip("link add name up0 type veth peer name eth0 netns beyond; \
         addr add 192.0.2.1/24 dev up0; addr add 2001:db8::1/64 dev up0 nodad; link set up0 up");
    beyond.ip(
        "addr add 192.0.2.2/24 dev eth0; addr add 2001:db8::2/64 dev eth0 nodad; link set eth0 up; link set lo up",
    );
    beyond
}

fn seen_from(pod: &Container<'_>, beyond: &Container<'_>) -> Option<String> {
    source_seen_by(beyond, "192.0.2.2".parse().expect("an address"), pod).map(|from| from.to_string())
}
