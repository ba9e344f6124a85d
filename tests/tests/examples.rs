//! The configurations that users are shown, as they are.

use std::path::{Path, PathBuf};

use oxcni_tests::{Call, Host, Network, both_flavours, nad_config};
use serde_json::{Value, json};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.nad.yaml"))
}

/// The network of a definition; without a name of its own it has the definition's.
fn network<'h>(host: &'h Host, name: &str) -> Network<'h> {
    let (definition, config) = nad_config(&example(name));
    let mut config: Value = serde_json::from_str(&config).expect("valid JSON");
    if config["name"].is_null() {
        config["name"] = json!(definition);
    }
    host.network(config).ifname("net1")
}

both_flavours! {
    fn bridge_conf_gives_an_address_of_its_range(host) {
        let net = network(&host, "bridge-conf");
        let (one, two) = (host.container(), host.container());
        assert_eq!(net.add_addresses(&one), ["10.10.1.20"]);
        assert_eq!(net.add_addresses(&two), ["10.10.1.21"]);
        assert!(one.reaches("10.10.1.21"));
        assert_eq!(host.link("test-bridge")["linkinfo"]["info_kind"], "bridge");
        assert_eq!(host.reservations_in("/var/lib/cni/test-bridge/bridge-conf").len(), 2);
        net.del(&one).succeeds();
        net.del(&two).succeeds();
        assert!(host.reservations_in("/var/lib/cni/test-bridge/bridge-conf").is_empty());
    }

    fn br_test_is_dual_stack_on_a_bridge_that_is_made_or_reused(host) {
        let net = network(&host, "br-test");
        let (one, two) = (host.container(), host.container());
        let first = net.add_addresses(&one);
        let index = host.link("br-test")["ifindex"].clone();
        let second = net.add_addresses(&two);
        assert_eq!(host.link("br-test")["ifindex"], index);
        assert_eq!((first.len(), second.len()), (2, 2));
        assert_eq!((first[0].as_str(), second[0].as_str()), ("10.10.0.20", "10.10.0.21"));
        assert!(first[1].starts_with("fd00:10:10::"), "{first:?}");
        assert!(one.reaches(&second[0]) && one.reaches(&second[1]));
    }

    fn broken_br_test_is_refused_with_the_place(host) {
        let (_, config) = nad_config(&example("broken-br-test"));
        let pod = host.container();
        let call = Call::new(&host, "bridge")
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", pod.id())
            .env("CNI_NETNS", pod.netns())
            .env("CNI_IFNAME", "net1")
            .stdin(config);
        let before = host.state();
        call.run().fails(6, &["line 1", "column", "fd00:IJKL:MNOP:10::9", "dataDir"]);
        assert_eq!(host.state(), before);
    }

    fn bridge_dev_checks_for_forged_macs_on_layer_2(host) needs [NftBridge] {
        let net = network(&host, "bridge-dev");
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["interfaces"][0]["name"], "dev-bridge");
        let mac = pod.mac("net1");
        assert!(host.rules().iter().any(|rule| rule.contains(&mac)), "{:#?}", host.rules());
        net.del_after(&pod, &result).succeeds();
        assert!(host.rules().is_empty(), "{:#?}", host.rules());
    }

    fn br1_eth2_net_is_layer_2_only(host) {
        let net = network(&host, "br1-eth2-net");
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["interfaces"][2]["name"], "net1");
        assert!(pod.link("net1")["addr_info"].as_array().expect("addresses").iter().all(|entry| entry["family"] == "inet6"));
        assert!(pod.comes_up("net1"));
        net.del(&pod).succeeds();
        assert!(pod.link("net1").is_null());
    }

    fn net_br1_pod_has_its_static_address(host) {
        let net = network(&host, "net-br1-pod");
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["ips"][0]["address"], "192.168.0.61/26");
        assert_eq!(pod.link("net1")["addr_info"][0]["prefixlen"], 26);
        net.del(&pod).succeeds();
    }
}
