//! The ipvlan plugin: its modes, alone and in a chain. `masters.rs` has what it shares with macvlan.

use std::path::Path;

use oxcni_tests::{Container, Host, both_flavours, source_seen_by, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "master": "eth1",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

/// A router on the network of the master: in layer 3 modes the host routes to it, and it back.
fn router(host: &Host) -> Container<'_> {
    let router = host.veth_pair("eth1", "router", &["192.0.2.2/24", "2001:db8::2/64"]);
    host.ip("addr add 192.0.2.1/24 dev eth1; addr add 2001:db8::1/64 dev eth1 nodad");
    router.ip("route add 10.1.2.0/24 via 192.0.2.1; route add fd00:1::/64 via 2001:db8::1");
    router
}

/// A network of a layer 3 mode, whose containers send everything to the host.
fn routed(mode: &str) -> Value {
    config(json!({ "mode": mode, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } }))
}

/// What the plugin before gave, with these interfaces on the host.
fn before(interfaces: &[&str]) -> Value {
    let interfaces: Vec<_> = interfaces.iter().map(|name| json!({ "name": name })).collect();
    json!({
        "cniVersion": "1.1.0", "interfaces": interfaces,
        "ips": [{ "address": "10.1.2.77/24", "gateway": "10.1.2.250" }, { "address": "fd00:1::77/64" }],
        "routes": [{ "dst": "172.30.0.0/16", "gw": "10.1.2.250" }], "dns": { "nameservers": ["10.9.9.9"] },
    })
}

fn chained(host: &Host) -> oxcni_tests::Network<'_> {
    host.network(config(json!({}))).with("ipam", None)
}

both_flavours! {
    fn l2_connects_containers_and_a_peer_outside_by_one_mac(host) needs [Ipvlan] {
        let outside = host.veth_pair("eth1", "outside", &["10.1.2.250/24", "fd00:1::250/64"]);
        host.sh("ip addr add 10.1.2.251/24 dev eth1");
        let net = host.network(config(json!({})));
        let (one, two) = (host.container(), host.container());
        let result = net.add(&one).result();
        assert_eq!(net.add_addresses(&two), ["10.1.2.3", "fd00:1::3"]);
        for address in ["10.1.2.3", "fd00:1::3", "10.1.2.250", "fd00:1::250"] {
            assert!(one.reaches(address), "no answer from {address}");
        }
        assert!(outside.reaches("10.1.2.3") && outside.reaches("fd00:1::2"));
        let mac = host.link("eth1")["address"].clone();
        for pod in [&one, &two] {
            assert_eq!(pod.mac("eth0"), mac);
            assert_eq!(pod.link("eth0")["linkinfo"]["info_data"]["mode"], "l2");
        }
        assert_eq!(result["interfaces"][0]["mac"], mac);
        // Over the master the host does not reach its containers, nor they it.
        assert!(outside.reaches("10.1.2.251"));
        assert!(host.try_sh("ping -n -c 1 -W 1 10.1.2.2").is_err(), "the host reaches a container");
        assert!(one.is_cut_off_from("10.1.2.251"), "a container reaches the host");
    }

    fn l3_connects_containers_and_a_router_outside(host) needs [Ipvlan] {
        let router = router(&host);
        let net = host.network(routed("l3"));
        let (one, two) = (host.container(), host.container());
        let result = net.add(&one).result();
        net.add(&two).succeeds();
        for address in ["10.1.2.3", "fd00:1::3", "192.0.2.2", "2001:db8::2"] {
            assert!(one.reaches(address), "no answer from {address}");
        }
        assert!(router.reaches("10.1.2.3") && router.reaches("fd00:1::2"));
        let seen = source_seen_by(&router, "192.0.2.2".parse().expect("an address"), &one);
        assert_eq!(seen.map(|from| from.to_string()).as_deref(), Some("10.1.2.2"));
        assert!(host.try_sh("ping -n -c 1 -W 1 10.1.2.2").is_err(), "the host reaches a container");
        assert_eq!(one.link("eth0")["linkinfo"]["info_data"]["mode"], "l3");
        net.check(&one, &result).succeeds();
        net.del(&one).succeeds();
        net.del(&two).succeeds();
        assert!(host.reservations("net").is_empty());
    }

    fn l3s_passes_the_firewall_of_the_host_and_l3_does_not(host) needs [Ipvlan] {
        let router = router(&host);
        let drop_ping = "nft add table ip f; nft 'add chain ip f in { type filter hook input priority 0; }'; \
            nft add rule ip f in ip daddr 10.1.2.0/24 icmp type echo-request drop";
        for (mode, passes) in [("l3s", false), ("l3", true)] {
            let (net, pod) = (host.network(routed(mode)), host.container());
            let result = net.add(&pod).result();
            let address = result["ips"][0]["address"].as_str().expect("an address").trim_end_matches("/24").to_owned();
            assert_eq!(pod.link("eth0")["linkinfo"]["info_data"]["mode"], mode);
            assert!(router.reaches(&address) && pod.reaches("192.0.2.2"), "{mode}");
            host.sh(drop_ping);
            assert!(if passes { router.reaches(&address) } else { router.is_cut_off_from(&address) }, "{mode}");
            host.sh("nft delete table ip f");
            net.check(&pod, &result).succeeds();
            net.del(&pod).succeeds();
        }
    }

    fn chained_takes_addresses_and_routes_of_the_plugin_before(host) needs [Ipvlan] {
        let outside = host.veth_pair("eth1", "outside", &["10.1.2.250/24", "fd00:1::250/64"]);
        let (net, pod) = (chained(&host).with("master", None), host.container());
        let result = net.after(&before(&["eth1"])).add(&pod).result();
        assert_eq!(result["interfaces"], json!([{ "name": "eth0", "mac": pod.mac("eth0"), "mtu": pod.link("eth0")["mtu"], "sandbox": pod.netns() }]));
        assert_eq!(result["ips"][0]["address"], "10.1.2.77/24");
        assert_eq!((&result["ips"][0]["interface"], &result["ips"][1]["interface"]), (&json!(0), &json!(0)));
        assert!(pod.reaches("10.1.2.250") && pod.reaches("fd00:1::250") && outside.reaches("10.1.2.77"));
        assert!(pod.sh("ip route show 172.30.0.0/16").contains("via 10.1.2.250"));
        assert!(host.reservations("net").is_empty());
        net.check(&pod, &result).succeeds();
        net.del_after(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert!(pod.link("eth0").is_null());
    }

    fn chained_takes_another_masters_name_from_its_configuration(host) needs [Ipvlan] {
        host.veth_pair("eth1", "outside", &["10.1.2.250/24"]);
        host.veth_pair("eth2", "elsewhere", &[]);
        let pod = host.container();
        let result = chained(&host).after(&before(&["eth2", "lo"])).add(&pod).result();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(1), "{result}");
        assert_eq!(pod.link("eth0")["link_index"], host.link("eth1")["ifindex"]);
        assert!(pod.reaches("10.1.2.250"));
    }

    fn chained_with_ipam_asks_it_and_not_the_plugin_before(host) needs [Ipvlan] {
        host.veth_pair("eth1", "outside", &[]);
        let (net, pod) = (host.network(config(json!({}))), host.container());
        let result = net.after(&before(&["eth1"])).add(&pod).result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
        assert!(!result.to_string().contains("10.1.2.77"), "{result}");
    }

    fn chained_without_a_single_interface_before_says_so(host) needs [Ipvlan] {
        host.veth_pair("eth1", "outside", &[]);
        let (net, pod, state) = (chained(&host).with("master", None), host.container(), host.state());
        net.after(&before(&["eth1", "eth2"])).add(&pod).fails(7, &["master", "2 interfaces", "eth1", "eth2"]);
        net.after(&before(&[])).add(&pod).fails(7, &["master", "0 interfaces"]);
        net.after(&before(&["eth7"])).add(&pod).fails(7, &["eth7", "eth1"]);
        assert!(pod.link("eth0").is_null());
        assert_eq!(host.state(), state);
    }

    fn without_ipam_and_without_addresses_before_it_is_refused(host) needs [Ipvlan] {
        host.veth_pair("eth1", "outside", &[]);
        let (net, pod, state) = (chained(&host), host.container(), host.state());
        net.add(&pod).fails(7, &["ipam", "prevResult"]);
        net.after(&json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "eth1" }] })).add(&pod).fails(7, &["prevResult"]);
        assert!(pod.link("eth0").is_null());
        assert_eq!(host.state(), state);
    }

    fn a_mac_that_is_asked_for_is_a_line_on_stderr(host) needs [Ipvlan] {
        host.veth_pair("eth1", "outside", &[]);
        let (mac, master) = ("c2:00:00:00:00:05", host.link("eth1")["address"].clone());
        let by_args = host.network(config(json!({}))).args(&format!("IgnoreUnknown=1;MAC={mac}"));
        let by_runtime = host.network(config(json!({ "capabilities": { "mac": true }, "runtimeConfig": { "mac": mac } })));
        for net in [by_args, by_runtime] {
            let pod = host.container();
            let added = net.add(&pod);
            assert_eq!(added.result()["interfaces"][0]["mac"], master);
            assert_eq!(added.stderr.lines().count(), 1, "{added}");
            assert!(added.stderr.contains(mac) && added.stderr.contains("master"), "{added}");
            net.del(&pod).succeeds();
        }
        let quiet = host.network(config(json!({}))).add(&host.container());
        assert_eq!(quiet.succeeds().stderr, "");
    }

    fn example_of_the_documentation(host) needs [Ipvlan] {
        let outside = host.veth_pair("eth1", "outside", &["192.168.10.1/24"]);
        // In mode l3 the host answers no question who has the container's address: it routes.
        outside.ip("addr add 192.0.2.2/24 dev eth0; route add 192.168.10.10/32 via 192.0.2.1 src 192.168.10.1");
        host.ip("addr add 192.0.2.1/24 dev eth1; route add 192.168.10.0/24 dev eth1");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ipvlan-net.json");
        let config: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the example")).expect("JSON");
        let (net, pod) = (host.network(config).ifname("net1"), host.container());
        let result = net.add(&pod).result();
        assert_eq!(result["cniVersion"], "0.3.1");
        assert_eq!(result["ips"][0]["address"], "192.168.10.10/24");
        assert_eq!(pod.link("net1")["linkinfo"]["info_data"]["mode"], "l3");
        assert!(pod.reaches("192.168.10.1") && outside.reaches("192.168.10.10"));
        net.del(&pod).succeeds();
        assert!(pod.link("net1").is_null());
    }

    // What follows needs no ipvlan: it is refused before the kernel is asked.

    fn a_foreign_one_in_private_or_vepa_mode_does_not_separate_containers(host) needs [Ipvlan] {
        let outside = host.veth_pair("eth1", "outside", &["10.1.2.250/24"]);
        for flag in ["private", "vepa"] {
            host.ip(&format!("link add foreign link eth1 type ipvlan mode l3 {flag}; link set foreign up"));
            let (net, one, two) = (host.network(config(json!({}))), host.container(), host.container());
            net.add(&one).succeeds();
            let address = net.add_addresses(&two)[0].clone();
            assert_eq!(two.link("eth0")["linkinfo"]["info_data"]["mode"], "l2", "beside {flag}");
            assert!(one.reaches(&address), "a container does not reach another beside {flag}");
            assert!(outside.reaches(&address), "{flag}");
            net.del(&one).succeeds();
            net.del(&two).succeeds();
            host.ip("link del foreign");
        }
    }

    fn unknown_mode_is_refused_with_the_modes(host) {
        host.veth_pair("eth1", "outside", &[]);
        let (state, pod) = (host.state(), host.container());
        host.network(config(json!({ "mode": "l4" }))).add(&pod).fails(7, &["l4", "l2", "l3", "l3s"]);
        assert!(pod.link("eth0").is_null() && host.reservations("net").is_empty());
        assert_eq!(host.state(), state);
    }
}
