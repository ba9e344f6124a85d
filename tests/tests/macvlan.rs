//! The macvlan plugin: who reaches whom over a master, and what its fields do.
//! `masters.rs` has what it shares with ipvlan.

use std::path::Path;

use oxcni_tests::{Container, Host, both_flavours, eventually, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

/// A machine on the network of the master `eth1`, in the containers' subnets.
fn outside(host: &Host) -> Container<'_> {
    host.veth_pair("eth1", "outside", &["10.1.2.250/24", "fd00:1::250/64"])
}

/// Two containers on one master.
fn two_on_a_master<'h>(host: &'h Host, mode: &str) -> [Container<'h>; 2] {
    let net = host.network(config(json!({ "mode": mode })));
    let pods = [host.container(), host.container()];
    assert_eq!(net.add_addresses(&pods[0]), ["10.1.2.2", "fd00:1::2"]);
    assert_eq!(net.add_addresses(&pods[1]), ["10.1.2.3", "fd00:1::3"]);
    for pod in &pods {
        assert_eq!(pod.link("eth0")["linkinfo"]["info_data"]["mode"], mode);
    }
    pods
}

/// MAC address of the container's interface with these three requests for one.
fn mac_with(host: &Host, conf: Value, args: &str, runtime: Value) -> String {
    let mut config = config(json!({ "capabilities": { "mac": true } }));
    for (key, value) in [("mac", conf), ("runtimeConfig", runtime)] {
        config[key] = value;
    }
    if config["mac"].is_null() {
        config.as_object_mut().expect("an object").remove("mac");
    }
    let net = host.network(config).args(args);
    let pod = host.container();
    let result = net.add(&pod).result();
    let mac = pod.mac("eth0");
    assert_eq!(result["interfaces"][0]["mac"], mac.as_str());
    net.check(&pod, &result).succeeds();
    net.del(&pod).succeeds();
    mac
}

both_flavours! {
    fn bridge_mode_connects_containers_and_a_peer_outside(host) needs [Macvlan] {
        let outside = outside(&host);
        let [one, two] = two_on_a_master(&host, "bridge");
        for address in ["10.1.2.3", "fd00:1::3", "10.1.2.250", "fd00:1::250"] {
            assert!(one.reaches(address), "no answer from {address}");
        }
        assert!(outside.reaches("10.1.2.3") && outside.reaches("fd00:1::3"));
        assert!(two.reaches("10.1.2.2"));
        assert_ne!(one.mac("eth0"), two.mac("eth0"));
    }

    fn private_mode_keeps_containers_apart_but_not_from_outside(host) needs [Macvlan] {
        let outside = outside(&host);
        let [one, two] = two_on_a_master(&host, "private");
        assert!(one.reaches("10.1.2.250") && two.reaches("fd00:1::250") && outside.reaches("10.1.2.3"));
        assert!(one.is_cut_off_from("10.1.2.3") && two.is_cut_off_from("fd00:1::2"));
    }

    fn vepa_mode_connects_containers_by_a_switch_that_sends_frames_back(host) needs [Macvlan] {
        let outside = host.veth_pair("eth1", "outside", &[]);
        outside.ip("link add name br0 type bridge; link set eth0 master br0; link set br0 up");
        let [one, two] = two_on_a_master(&host, "vepa");
        assert!(one.is_cut_off_from("10.1.2.3"), "they reach each other without the switch");
        outside.sh("bridge link set dev eth0 hairpin on");
        assert!(one.reaches("10.1.2.3") && two.reaches("fd00:1::2"));
    }

    fn passthru_mode_hands_the_master_over_to_one(host) needs [Macvlan] {
        let outside = outside(&host);
        let mac = host.link("eth1")["address"].clone();
        let net = host.network(config(json!({ "mode": "passthru" })));
        let (one, two) = (host.container(), host.container());
        let result = net.add(&one).result();
        assert_eq!(result["interfaces"][0]["mac"], mac);
        assert!(one.reaches("10.1.2.250") && outside.reaches("fd00:1::2"));
        net.check(&one, &result).succeeds();
        net.add(&two).fails(7, &["eth1", "passthru"]);
        host.network(config(json!({ "mode": "bridge" }))).add(&two).fails(7, &["eth1", "passthru"]);
        assert!(two.link("eth0").is_null());
        net.del(&one).succeeds();
        net.add(&two).succeeds();
        assert!(two.reaches("10.1.2.250"));
    }

    fn passthru_on_a_master_in_use_is_refused(host) needs [Macvlan] {
        outside(&host);
        let (one, two) = (host.container(), host.container());
        host.network(config(json!({}))).add(&one).succeeds();
        let reserved = host.reservations("net");
        host.network(config(json!({ "mode": "passthru" }))).add(&two).fails(7, &["eth1", "passthru"]);
        assert!(two.link("eth0").is_null());
        assert_eq!(host.reservations("net"), reserved);
        assert!(one.reaches("10.1.2.250"));
    }

    fn the_host_does_not_reach_its_containers_over_the_master(host) needs [Macvlan] {
        let outside = outside(&host);
        host.sh("ip addr add 10.1.2.251/24 dev eth1");
        let [one, _two] = two_on_a_master(&host, "bridge");
        assert!(outside.reaches("10.1.2.251") && outside.reaches("10.1.2.2"));
        assert!(host.try_sh("ping -n -c 1 -W 1 10.1.2.2").is_err(), "the host reaches a container");
        assert!(one.is_cut_off_from("10.1.2.251"), "a container reaches the host");
    }

    fn mac_comes_from_three_places_each_overruling_the_one_before(host) needs [Macvlan] {
        outside(&host);
        let (conf, args, runtime) = ("c2:00:00:00:00:01", "c2:00:00:00:00:02", "c2:00:00:00:00:03");
        let cni_args = format!("IgnoreUnknown=1;MAC={args}");
        assert_eq!(mac_with(&host, json!(conf), "", json!({})), conf);
        assert_eq!(mac_with(&host, Value::Null, &cni_args, json!({})), args);
        assert_eq!(mac_with(&host, Value::Null, "", json!({ "mac": runtime })), runtime);
        assert_eq!(mac_with(&host, json!(conf), &cni_args, json!({})), args);
        assert_eq!(mac_with(&host, json!(conf), "", json!({ "mac": runtime })), runtime);
        assert_eq!(mac_with(&host, json!(conf), &cni_args, json!({ "mac": runtime })), runtime);
        let random = [(); 2].map(|()| mac_with(&host, Value::Null, "", json!({})));
        assert_ne!(random[0], random[1]);
    }

    fn malformed_mac_is_refused_wherever_it_comes_from(host) needs [Macvlan] {
        outside(&host);
        let (before, pod) = (host.state(), host.container());
        for mac in ["c2:00:00:00:00", "c2:00:00:00:00:0g", "none", "ff:ff:ff:ff:ff:ff:ff"] {
            let places = [
                (7, host.network(config(json!({ "mac": mac })))),
                (4, host.network(config(json!({}))).args(&format!("MAC={mac}"))),
                (7, host.network(config(json!({ "runtimeConfig": { "mac": mac } })))),
            ];
            for (code, net) in places {
                net.add(&pod).fails(code, &[mac]);
                assert!(pod.link("eth0").is_null());
            }
        }
        // The form is right, but it is the address of a group, which no interface can have.
        let error = host.network(config(json!({ "mac": "01:00:5e:00:00:01" }))).add(&pod).error();
        assert!(error.code == 7 && error.text().contains("01:00:5e:00:00:01"), "{error:?}");
        assert!(pod.link("eth0").is_null() && host.reservations("net").is_empty());
        assert_eq!(host.state(), before);
    }

    fn bcqueuelen_reaches_the_kernel(host) needs [Macvlan] {
        outside(&host);
        let queue = |rest: Value| {
            let (net, pod) = (host.network(config(rest)), host.container());
            net.add(&pod).succeeds();
            let length = pod.link("eth0")["linkinfo"]["info_data"]["bcqueuelen"].clone();
            net.del(&pod).succeeds();
            length
        };
        let default = queue(json!({}));
        assert_eq!(queue(json!({ "bcqueuelen": 4321 })), 4321);
        assert_eq!(queue(json!({ "bcqueuelen": 0 })), default);
        assert_ne!(default, 4321);
    }

    fn layer_2_only_brings_the_link_up_without_addresses(host) needs [Macvlan] {
        let outside = outside(&host);
        let (net, pod) = (host.network(config(json!({ "ipam": {} }))), host.container());
        let result = net.add(&pod).result();
        assert!(result["ips"].as_array().is_none_or(Vec::is_empty), "{result}");
        assert!(pod.comes_up("eth0"));
        net.check(&pod, &result).succeeds();
        pod.sh("ip addr add 10.1.2.9/24 dev eth0");
        assert!(outside.reaches("10.1.2.9"));
        net.del(&pod).succeeds();
        let net = net.with("ipam", None);
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        assert!(pod.link("eth0").is_null());
    }

    fn neighbours_learn_a_new_mac_at_once(host) needs [Macvlan] {
        let outside = outside(&host);
        let net = host.network(config(json!({ "ipam": { "type": "static",
            "addresses": [{ "address": "10.1.2.9/24" }, { "address": "fd00:1::9/64" }] } })));
        let (old, new) = (host.container(), host.container());
        net.add(&old).succeeds();
        assert!(outside.reaches("10.1.2.9") && outside.reaches("fd00:1::9"));
        // The kernel believes no second announcement within a second, unless told to.
        outside.sh("sysctl -qw net.ipv4.neigh.eth0.locktime=0");
        net.del(&old).succeeds();
        net.add(&new).succeeds();
        let mac = new.mac("eth0");
        for address in ["10.1.2.9", "fd00:1::9"] {
            let known = || outside.sh(&format!("ip neigh show to {address}")).contains(&mac);
            assert!(eventually(known), "nobody told the peer that {address} is at {mac} now");
        }
    }

    fn prev_result_is_not_looked_at(host) needs [Macvlan] {
        outside(&host);
        let before = json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "eth7" }],
            "ips": [{ "address": "10.77.0.2/24", "interface": 0 }] });
        let (net, pod) = (host.network(config(json!({}))), host.container());
        let result = net.after(&before).add(&pod).result();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(1), "{result}");
        assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
        assert!(!result.to_string().contains("10.77.0.2"), "{result}");
    }

    fn unknown_mode_is_refused_with_the_modes(host) needs [Macvlan] {
        outside(&host);
        let (before, pod) = (host.state(), host.container());
        let refused = host.network(config(json!({ "mode": "bride" }))).add(&pod);
        refused.fails(7, &["bride", "bridge", "private", "vepa", "passthru"]);
        assert!(pod.link("eth0").is_null() && host.reservations("net").is_empty());
        assert_eq!(host.state(), before);
    }

    fn example_of_the_documentation_with_a_static_address(host) needs [Macvlan] {
        let outside = host.veth_pair("eth1", "outside", &["192.168.10.1/24"]);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/macvlan-net.json");
        let text = std::fs::read_to_string(file).expect("the example");
        let mut config: Value = serde_json::from_str(&text).expect("the example is JSON");
        assert_eq!(config["ipam"]["type"], "dhcp");
        config["ipam"] = json!({ "type": "static", "addresses": [{ "address": "192.168.10.10/24" }] });
        let (net, pod) = (host.network(config).ifname("net1"), host.container());
        let result = net.add(&pod).result();
        assert_eq!(result["cniVersion"], "0.3.1");
        assert_eq!(result["ips"][0]["address"], "192.168.10.10/24");
        assert!(pod.reaches("192.168.10.1") && outside.reaches("192.168.10.10"));
        net.del(&pod).succeeds();
        assert!(pod.link("net1").is_null());
    }
}
