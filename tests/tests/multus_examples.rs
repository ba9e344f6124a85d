//! The definitions, pods and configurations of the documentation, unchanged.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::path::Path;

use oxcni_tests::apiserver::Role;
use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Node, Pod, on_node, on_scripted_node};
use serde_json::{Value, json};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Creates the objects of an example in the cluster, and returns the sandbox of its pod, if it has one.
fn apply<'n>(node: &'n Node, name: &str) -> Option<Pod<'n>> {
    let text = example(name);
    let mut pod = None;
    for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        let made = node.api.create(document);
        if made["kind"] == "Pod" {
            let metadata = &made["metadata"];
            pod = Some(node.sandbox(
                "default",
                metadata["name"].as_str().unwrap(),
                metadata["uid"].as_str().unwrap(),
            ));
        }
    }
    pod
}

/// Makes a bridge the default network, with existing interfaces.
fn with_a_bridge(node: &mut Node) {
    node.configure("delegates", json!([{
        "cniVersion": "1.0.0", "name": "default-net", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.244.0.0/24" },
    }]));
}

/// Lets the kubelet allocate a device of this resource to each of the pods.
fn give_devices(node: &Node, resource: &str, pods: &[&Pod<'_>]) {
    let entries: Vec<Value> = pods
        .iter()
        .map(|pod| {
            let uid = node.api.object(&pod.path())["metadata"]["uid"].clone();
            json!({ "PodUID": uid, "ContainerName": "c", "ResourceName": resource,
                    "DeviceIDs": { "-1": [format!("{}-dev", pod.container.id())] }, "AllocResp": "" })
        })
        .collect();
    let checkpoint =
        json!({ "Data": { "PodDeviceEntries": entries, "RegisteredDevices": {} }, "Checksum": 1 });
    node.write("/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", &checkpoint.to_string());
}

/// An IPAM plugin that needs no interface, in place of dhcp.
const DHCP: &str = r#"[ $CNI_COMMAND = ADD ] && {
    case $config in *'"cniVersion":"0.'*) family='"version":"4",' ;; *) family= ;; esac
    echo "{\"cniVersion\":\"0.3.1\",\"ips\":[{$family\"address\":\"10.77.0.9/24\"}]}"
    exit; }"#;

on_node! {
    fn pod_short_is_attached_to_bridge_conf(node) {
        apply(&node, "bridge-conf.nad.yaml");
        let pod = apply(&node, "pod-short.yaml").unwrap();
        pod.add().succeeds();
        let status = pod.status();
        assert_eq!((&status[1]["name"], &status[1]["ips"]), (&json!("default/bridge-conf"), &json!(["10.10.1.20"])));
        pod.del().succeeds();
        assert!(node.host.reservations_in("/var/lib/cni/test-bridge/bridge-conf").is_empty());
    }

    fn pod_json_has_its_default_route_over_bridge_conf(node) {
        with_a_bridge(&mut node);
        apply(&node, "bridge-conf.nad.yaml");
        let pod = apply(&node, "pod-json.yaml").unwrap();
        pod.add().succeeds();
        let routes = pod.container.sh("ip route show default");
        assert!(routes.starts_with("default via 10.10.0.254 dev net1"), "{routes}");
        assert_eq!(pod.status()[1]["gateway"], json!(["10.10.0.254"]));
        pod.del().succeeds();
    }

    fn br_test_is_dual_stack(node) {
        apply(&node, "br-test.nad.yaml");
        let pod = node.pod("p", "br-test-conf");
        pod.add().succeeds();
        let ips = pod.status()[1]["ips"].clone();
        assert_eq!(ips[0], "10.10.0.20");
        assert!(ips[1].as_str().unwrap().starts_with("fd00:10:10::"), "{ips}");
        pod.del().succeeds();
    }

    fn sample_pod_has_its_static_address_and_default_route(node) {
        with_a_bridge(&mut node);
        apply(&node, "net-br1-pod.nad.yaml");
        let pod = apply(&node, "sample-pod.yaml").unwrap();
        give_devices(&node, "bridge.network.kubevirt.io/br1", &[&pod]);
        pod.add().succeeds();
        assert_eq!(pod.status()[1]["ips"], json!(["192.168.0.61"]));
        let routes = pod.container.sh("ip route show default");
        assert!(routes.starts_with("default via 192.168.0.2 dev net1"), "{routes}");
        pod.del().succeeds();
    }

    fn br1_eth2_net_is_layer_2_only(node) {
        apply(&node, "br1-eth2-net.nad.yaml");
        let pod = node.pod("p", "br1-eth2-net");
        give_devices(&node, "bridge.network.kubevirt.io/br1", &[&pod]);
        pod.add().succeeds();
        assert!(pod.status()[1]["ips"].is_null(), "{:?}", pod.status());
        assert_eq!(pod.container.sh("ip -br link show net1").split_whitespace().nth(1), Some("UP"));
        pod.del().succeeds();
    }

    fn br1_eth2_net_dhcp_asks_the_plugin_dhcp(node) {
        node.script("dhcp", DHCP);
        apply(&node, "br1-eth2-net-dhcp.nad.yaml");
        let pod = node.pod("p", "br1-eth2-net-dhcp");
        give_devices(&node, "bridge.network.kubevirt.io/br1", &[&pod]);
        pod.add().succeeds();
        assert_eq!(pod.status()[1]["ips"], json!(["10.77.0.9"]));
        pod.del().succeeds();
        assert!(node.calls().contains(&"DEL net1 dhcp".to_owned()), "{:?}", node.calls());
    }

    fn bridge_dev_refuses_forged_macs(node) {
        if !requirement::met("bridge_dev_refuses_forged_macs", &[Feature::NftBridge]) {
            return;
        }
        apply(&node, "bridge-dev.nad.yaml");
        let pod = node.pod("p", "bridge-dev");
        give_devices(&node, "bridge.network.kubevirt.io/bridge-dev", &[&pod]);
        pod.add().succeeds();
        assert!(!node.host.rules().is_empty());
        pod.del().succeeds();
        assert!(node.host.rules().is_empty(), "{:?}", node.host.rules());
    }

    fn macvlan_net_has_a_master_and_dhcp(node) {
        if !requirement::met("macvlan_net_has_a_master_and_dhcp", &[Feature::Macvlan]) {
            return;
        }
        node.host.sh("ip link add name eth1 type veth peer name wire && ip link set eth1 up");
        node.script("dhcp", DHCP);
        node.definition_text("macvlan-net", &example("macvlan-net.json"));
        let pod = node.pod("p", "macvlan-net");
        pod.add().succeeds();
        assert_eq!(pod.status()[1]["ips"], json!(["10.77.0.9"]));
        assert!(pod.container.sh("ip -d link show net1").contains("macvlan mode bridge"));
        pod.del().succeeds();
    }

    fn ipvlan_net_is_layer_3_with_a_static_address(node) {
        if !requirement::met("ipvlan_net_is_layer_3_with_a_static_address", &[Feature::Ipvlan]) {
            return;
        }
        node.host.sh("ip link add name eth1 type veth peer name wire && ip link set eth1 up");
        node.definition_text("ipvlan-net", &example("ipvlan-net.json"));
        let pod = node.pod("p", "ipvlan-net");
        pod.add().succeeds();
        assert_eq!(pod.status()[1]["ips"], json!(["192.168.10.10"]));
        assert!(pod.container.sh("ip -d link show net1").contains("ipvlan  mode l3"));
        pod.del().succeeds();
    }
}

on_scripted_node! {
    fn broken_br_test_is_named_with_the_place_of_its_mistake(node) {
        apply(&node, "broken-br-test.nad.yaml");
        let error = node.pod("p", "broken-bridge-conf").add().error();
        assert_eq!(error.code, 6);
        for part in ["default/broken-bridge-conf", "line 1, column", "fd00:IJKL:MNOP:10::9", "dataDir"] {
            assert!(error.text().contains(part), "{part}: {error:?}");
        }
        assert!(node.calls().is_empty());
    }

    fn sample_pod_needs_a_device_that_a_plain_node_does_not_have(node) {
        apply(&node, "net-br1-pod.nad.yaml");
        let text = apply(&node, "sample-pod.yaml").unwrap().add().error().text();
        assert!(text.contains("bridge.network.kubevirt.io/br1") && text.contains("kubelet"), "{text}");
    }

    fn multus_delegates_returns_the_master_plugins_result(node) {
        for name in ["sriov", "ptp"] {
            node.script(name, "");
        }
        let result = r#"{"cniVersion":"0.1.0","ip4":{"ip":"10.5.5.5/24"}}"#;
        node.script("flannel", &format!("[ $CNI_COMMAND = ADD ] && echo '{result}' && exit"));
        for name in ["sriov", "ptp"] {
            let result = result.replace("5.5.5", "6.6.6");
            node.script(name, &format!("[ $CNI_COMMAND = ADD ] && echo '{result}' && exit"));
        }
        let config: Value = serde_json::from_str(&example("multus-delegates.conf")).unwrap();
        let mut config = config;
        config["binDir"] = json!("/run/bin");
        let pod = node.plain_pod("p");
        let result = pod.call("ADD").config(&config).run().result();
        assert_eq!(result["ip4"]["ip"], "10.5.5.5/24");
        assert_eq!(node.calls(), ["ADD eth0 flannel", "ADD net1 sriov", "ADD net2 ptp"]);
        assert_eq!(node.config_of("sriov", "ADD", "net1")["if0"], "enp12s0f0");
        pod.call("DEL").config(&config).run().succeeds();
    }

    fn broken_multus_delegates_is_refused_at_its_line(node) {
        let pod = node.plain_pod("p");
        let error = pod.call("ADD").stdin(example("broken-multus-delegates.conf")).run().error();
        assert_eq!(error.code, 6);
        for part in ["line 7", "part of sriov plugin conf"] {
            assert!(error.text().contains(part), "{part}: {error:?}");
        }
    }

    fn multus_always_use_default_has_flannel_and_the_pods_networks(node) {
        node.script("flannel", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"0.1.0","ip4":{"ip":"10.5.5.5/24"}}' && exit"#);
        node.scripted("a", "");
        let mut config: Value = serde_json::from_str(&example("multus-always-use-default.conf")).unwrap();
        config["binDir"] = json!("/run/bin");
        config["kubeconfig"] = json!("/run/kubeconfig");
        let pod = node.pod("p", "a");
        pod.call("ADD").config(&config).run().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 flannel", "ADD net1 a"]);
    }

    fn the_earlier_networks_of_the_earlier_pod(node) {
        node.give_role(Role::Admin);
        let result = r#"{"cniVersion":"0.1.0","ip4":{"ip":"10.5.5.5/24"}}"#;
        for name in ["flannel", "sriov"] {
            node.script(name, &format!("[ $CNI_COMMAND = ADD ] && echo '{result}' && exit"));
        }
        apply(&node, "legacy-networks.yaml");
        let pod = apply(&node, "legacy-pod.yaml").unwrap();
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 flannel", "ADD net2 sriov", "ADD net3 sriov"]);
        assert_eq!(node.config_of("flannel", "ADD", "net1")["delegate"]["isDefaultGateway"], true);
        assert_eq!(node.config_of("sriov", "ADD", "net2")["ipam"]["rangeStart"], "10.56.217.171");
        assert_eq!(node.config_of("sriov", "ADD", "net3")["if0name"], "north");
        pod.del().succeeds();
    }
}
