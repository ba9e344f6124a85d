//! Devices that the kubelet allocated to a pod, and the plugins' information about them.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::{Node, Pod, on_scripted_node};
use serde_json::{Value, json};

const RESOURCE: &str = "example.com/vf";

/// The folder in which device plugins and CNI plugins exchange information about devices.
const INFO: &str = "/run/k8s.cni.cncf.io/devinfo";

/// A definition `a` of the plugin `a`, which needs a device.
fn needs_a_device(node: &Node) {
    node.api.create(json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": "a", "annotations": { "k8s.v1.cni.cncf.io/resourceName": RESOURCE } },
        "spec": { "config": json!({ "cniVersion": "1.0.0", "type": "a", "capabilities": { "CNIDeviceInfoFile": true } }).to_string() },
    }));
}

/// Lets the kubelet allocate devices to a pod.
fn give(node: &Node, pod: &Pod<'_>, devices: &[&str]) {
    let uid = node.api.object(&pod.path())["metadata"]["uid"].clone();
    let entry = json!({
        "PodUID": uid, "ContainerName": "c", "ResourceName": RESOURCE, "DeviceIDs": { "0": devices }, "AllocResp": "",
    });
    let checkpoint =
        json!({ "Data": { "PodDeviceEntries": [entry], "RegisteredDevices": {} }, "Checksum": 1 });
    node.write("/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", &checkpoint.to_string());
}

fn info_files(node: &Node) -> String {
    node.host.sh(&format!("mkdir -p {INFO}/cni && ls {INFO}/cni"))
}

on_scripted_node! {
    fn a_requested_device_is_runtime_configuration(node) {
        node.script("a", "");
        let capabilities = json!({ "deviceID": true });
        node.definition("a", &json!({ "cniVersion": "1.0.0", "type": "a", "capabilities": capabilities }));
        let networks = json!([{ "name": "a", "deviceID": "0000:01:00.0" }]);
        node.pod("p", &networks.to_string()).add().succeeds();
        assert_eq!(node.config_of("a", "ADD", "net1")["runtimeConfig"], json!({ "deviceID": "0000:01:00.0" }));
    }

    fn a_resource_becomes_the_device_that_the_kubelet_gave(node) {
        node.script("a", "");
        needs_a_device(&node);
        let pod = node.pod("p", "a,a");
        give(&node, &pod, &["0000:01:00.1", "0000:01:00.2"]);
        pod.add().succeeds();
        for (ifname, device) in [("net1", "0000:01:00.1"), ("net2", "0000:01:00.2")] {
            let config = node.config_of("a", "ADD", ifname);
            assert_eq!((&config["deviceID"], &config["pciBusID"]), (&json!(device), &json!(device)));
        }
    }

    fn a_resource_that_no_kubelet_knows_is_an_error_that_says_so(node) {
        node.script("a", "");
        needs_a_device(&node);
        let error = node.pod("p", "a").add().error();
        assert!(error.text().contains(RESOURCE) && error.text().contains("kubelet"), "{error:?}");
        assert!(node.calls().iter().all(|call| !call.starts_with("ADD net1")));
    }

    fn where_manifests_take_the_place_of_a_cluster_a_device_may_be_missing(node) {
        node.configure("kubeconfig", Value::Null);
        node.configure("manifestDir", json!("/run/manifests"));
        node.configure("logLevel", json!("verbose"));
        node.script("a", "");
        node.write("/run/manifests/all.yaml", r#"
apiVersion: v1
kind: Pod
metadata: { name: p, annotations: { k8s.v1.cni.cncf.io/networks: a } }
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: a, annotations: { k8s.v1.cni.cncf.io/resourceName: example.com/vf } }
spec: { config: '{ "cniVersion": "1.0.0", "type": "a" }' }
"#);
        let outcome = node.sandbox("default", "p", "uid").add();
        outcome.succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a"]);
        assert!(outcome.stderr.contains("without a device") && outcome.stderr.contains(RESOURCE), "{outcome}");
        assert!(node.config_of("a", "ADD", "net1")["deviceID"].is_null());
    }

    fn what_a_device_plugin_tells_goes_by_the_plugin_into_the_status(node) {
        node.write(
            &format!("{INFO}/dp/example.com-vf-0000:01:00.1-device.json"),
            r#"{"type":"pci","version":"1.1.0","pci":{"vhost-net":"/dev/vhost-net","pci-address":"0000:01:00.1"}}"#,
        );
        node.script("a", "");
        needs_a_device(&node);
        let pod = node.pod("p", "a");
        give(&node, &pod, &["0000:01:00.1"]);
        pod.add().succeeds();
        let path = node.config_of("a", "ADD", "net1")["runtimeConfig"]["CNIDeviceInfoFile"].clone();
        assert!(node.read(&path.as_str().unwrap().replace("/var/run", "/run")).contains("vhost-net"), "{path}");
        let text = pod.status_text();
        let start = text.find("\"device-info\"").unwrap();
        let info: String = text[start..].chars().filter(|c| !c.is_whitespace()).take(120).collect();
        let expected = r#""device-info":{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:00.1","vhost-net":"/dev/vhost-net"}}"#;
        assert!(info.starts_with(expected), "{info}");
        pod.del().succeeds();
        assert_eq!(info_files(&node), "");
    }

    fn an_add_that_fails_leaves_nothing_about_its_device(node) {
        node.write(&format!("{INFO}/dp/example.com-vf-0000:01:00.1-device.json"), r#"{"type":"pci"}"#);
        needs_a_device(&node);
        node.scripted("b", "[ $CNI_COMMAND = ADD ] && exit 1");
        for (name, own, networks) in [("p", "[ $CNI_COMMAND = ADD ] && exit 1", "a"), ("q", "", "a,b")] {
            node.script("a", own);
            let pod = node.pod(name, networks);
            give(&node, &pod, &["0000:01:00.1"]);
            assert!(!pod.add().ok());
            assert_eq!(info_files(&node), "", "{networks}");
        }
    }
}
