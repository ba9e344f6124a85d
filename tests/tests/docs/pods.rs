//! What the pages show of pods, on a node with multus and an API server.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::apiserver::Role;
use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Node, Pod, gateway, on_node};
use serde_json::{Value, json};

use crate::book::{blocks, commands, page};
use crate::{execute, with_eth1};

/// The objects of these kinds that a page shows.
fn objects(name: &str, kinds: &[&str]) -> Vec<Value> {
    let texts = blocks(&page(name), "yaml");
    let objects = texts.iter().map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    objects.filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)).collect()
}

/// Creates the definitions that a page shows.
fn define(node: &Node, name: &str) {
    for definition in objects(name, &["NetworkAttachmentDefinition", "Network"]) {
        node.api.create(definition);
    }
}

/// Creates a pod that a page shows, and attaches it.
fn attach<'n>(node: &'n Node, pod: &Value) -> Pod<'n> {
    let uid = node.api.create(pod.clone())["metadata"]["uid"].clone();
    let sandbox = node.sandbox("default", pod["metadata"]["name"].as_str().unwrap(), uid.as_str().unwrap());
    sandbox.add().succeeds();
    sandbox
}

fn has_macvlan() -> bool {
    requirement::met("docs::pods", &[Feature::Macvlan])
}

on_node! {
    fn the_pods_of_the_pages_are_attached(node) {
        if !has_macvlan() {
            return;
        }
        node.give_role(Role::Admin);
        with_eth1(&node.host);
        define(&node, "tasks/define.md");
        for (name, interfaces) in [
            ("tasks/attach.md", &[&["eth0", "net1", "net2"][..], &["eth0", "storage"]][..]),
            ("tasks/files.md", &[&["eth0", "net1"]]),
        ] {
            define(&node, name);
            let pods = objects(name, &["Pod"]);
            assert_eq!(pods.len(), interfaces.len(), "{name}");
            for (pod, interfaces) in pods.iter().zip(interfaces) {
                let sandbox = attach(&node, pod);
                assert_eq!(sandbox.interfaces(), *interfaces, "{name}");
                sandbox.del().succeeds();
                node.api.delete(&sandbox.path());
            }
        }
    }

    fn what_is_attached_is_seen_as_the_page_says(node) {
        if !has_macvlan() {
            return;
        }
        with_eth1(&node.host);
        node.configure("delegates", json!([gateway("cni0", "10.42.0.0/24")]));
        define(&node, "tasks/define.md");
        let sandbox = attach(&node, &objects("tasks/attach.md", &["Pod"])[0]);
        let text = page("tasks/see.md");
        let shown: Value = serde_json::from_str(&blocks(&text, "json")[0]).unwrap();
        let mut status = sandbox.status()[1].clone();
        status["mac"] = shown["mac"].clone();
        assert_eq!(status, shown);
        commands(&text).iter().for_each(|command| execute(&node.host, command));
    }

    fn networks_without_definitions_are_attached(node) {
        let config = serde_json::from_str(&blocks(&page("tasks/files.md"), "json")[0]).unwrap();
        let pod = node.plain_pod("p");
        let added = pod.call("ADD").config(&config).run().result();
        assert_eq!(added["ips"][0]["address"], "10.56.217.2/24");
        assert!(pod.container.sh("ip -br address show net1").contains("10.168.1.2/24"));
        pod.call("DEL").config(&config).run().succeeds();
    }
}
