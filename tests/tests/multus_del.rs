//! DEL from the cache alone, and CHECK, STATUS and GC.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oxcni_tests::{Node, Pod, bridge, on_node, on_scripted_node};
use serde_json::{Value, json};

/// The time that DEL may take besides its delegates, without an API server.
const DEL_ALONE: Duration = Duration::from_secs(2);

const CACHE: &str = "/var/lib/cni/multus";

fn deletions(node: &Node) -> Vec<String> {
    node.calls().into_iter().filter(|call| call.starts_with("DEL")).collect()
}

/// Changes the results of a pod as if it was added in another namespace.
fn moved_to(node: &Node, pod: &Pod<'_>, netns: &str) {
    let (id, old) = (pod.container.id(), pod.container.netns());
    node.host.sh(&format!("sed -i 's#\"netns\":\"{old}\"#\"netns\":\"{netns}\"#' {CACHE}/results/*-{id}-*"));
    assert!(
        node.host.sh(&format!("cat {CACHE}/results/*-{id}-*")).contains(&format!("\"netns\":\"{netns}\""))
    );
}

on_node! {
    fn del_succeeds_when_the_namespace_is_gone(node) {
        node.configure("delegates", json!([bridge("default-net", "10.244.0.0/24")]));
        node.definition("a", &bridge("net-a", "10.1.0.0/24"));
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        pod.container.vanish();
        pod.del().succeeds();
        for network in ["default-net", "net-a"] {
            assert!(node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).is_empty());
        }
    }

    fn del_without_a_namespace_deletes_in_none(node) {
        node.configure("delegates", json!([bridge("default-net", "10.244.0.0/24")]));
        let other = node.plain_pod("other");
        other.add().succeeds();
        for (number, cache) in ["known", "unreadable"].into_iter().enumerate() {
            let pod = node.plain_pod(&format!("p{number}"));
            pod.add().succeeds();
            moved_to(&node, &pod, other.container.netns());
            if cache == "unreadable" {
                node.write(&format!("{CACHE}/{}", pod.container.id()), "");
            }
            pod.call("DEL").without("CNI_NETNS").run().succeeds();
            other.container.sh("ip link show eth0");
            assert_eq!(node.host.reservations_in("/var/lib/cni/networks/default-net").len(), 1, "{cache}");
        }
    }

    fn gc_deletes_in_no_namespace_that_may_be_anothers_by_now(node) {
        node.configure("cniVersion", json!("1.1.0"));
        let mut network = bridge("default-net", "10.244.0.0/24");
        network["cniVersion"] = json!("1.1.0");
        node.configure("delegates", json!([network]));
        let living = node.plain_pod("living");
        living.add().succeeds();
        // It is in the namespace until its standard input is closed.
        let mut process = living.container.enter(|| Command::new("cat").stdin(Stdio::piped()).spawn().unwrap());
        node.host.sh("ip link add eth0 type veth peer name eth1");
        let paths = ["/proc/self/ns/net".to_owned(), format!("/proc/{}/ns/net", process.id())];
        for (number, path) in paths.iter().enumerate() {
            for cache in ["known", "unreadable"] {
                let gone = node.plain_pod(&format!("gone{number}-{cache}"));
                gone.add().succeeds();
                moved_to(&node, &gone, path);
                if cache == "unreadable" {
                    node.write(&format!("{CACHE}/{}", gone.container.id()), "");
                }
                let valid = json!([{ "containerID": living.container.id(), "ifname": "eth0" }]);
                node.hostwide("GC", &json!({ "cni.dev/valid-attachments": valid })).succeeds();
                node.host.sh("ip link show eth0");
                living.container.sh("ip link show eth0");
                assert_eq!(node.host.reservations_in("/var/lib/cni/networks/default-net").len(), 1, "{path} {cache}");
            }
        }
        drop(process.stdin.take());
        process.wait().unwrap();
    }

    fn check_sees_an_address_that_is_gone(node) {
        node.configure("delegates", json!([bridge("default-net", "10.244.0.0/24")]));
        node.definition("a", &bridge("net-a", "10.1.0.0/24"));
        let pod = node.pod("p", "a");
        let result = pod.add().result();
        pod.check(&result).succeeds();
        pod.container.sh("ip addr flush dev net1 scope global");
        assert!(!pod.check(&result).ok());
    }

    fn gc_keeps_every_interface_of_a_living_container(node) {
        node.configure("cniVersion", json!("1.1.0"));
        let mut default = bridge("default-net", "10.244.0.0/24");
        default["cniVersion"] = json!("1.1.0");
        let mut more = bridge("net-a", "10.1.0.0/24");
        more["cniVersion"] = json!("1.1.0");
        node.configure("delegates", json!([default]));
        node.definition("a", &more);
        let (living, gone) = (node.pod("living", "a"), node.pod("gone", "a"));
        living.add().succeeds();
        gone.add().succeeds();
        let held = |network: &str| node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).len();
        assert_eq!((held("default-net"), held("net-a")), (2, 2));
        // A runtime knows eth0 only.
        let valid = json!([{ "containerID": living.container.id(), "ifname": "eth0" }]);
        node.hostwide("GC", &json!({ "cni.dev/valid-attachments": valid })).succeeds();
        assert_eq!((held("default-net"), held("net-a")), (1, 1));
        let cache = |id: &str| node.host.path(&format!("{CACHE}/{id}")).exists();
        assert!(cache(living.container.id()) && !cache(gone.container.id()));
        living.del().succeeds();
        assert_eq!((held("default-net"), held("net-a")), (0, 0));
    }
}

on_scripted_node! {
    fn del_needs_no_api_server(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        node.api.forget_requests();
        node.api.stop();
        let before = Instant::now();
        pod.del().succeeds();
        assert!(before.elapsed() < DEL_ALONE, "{:?}", before.elapsed());
        assert_eq!(deletions(&node), ["DEL net1 a", "DEL eth0 main"]);
        assert_eq!(node.api.requests(), []);
    }

    fn del_asks_a_silent_api_server_nothing(node) {
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        node.api.fault("", "", usize::MAX, oxcni_tests::apiserver::Fault::Silent);
        let before = Instant::now();
        pod.del().succeeds();
        assert!(before.elapsed() < DEL_ALONE, "{:?}", before.elapsed());
    }

    fn del_needs_no_kubeconfig(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        node.host.sh("rm /run/kubeconfig");
        pod.del().succeeds();
        assert_eq!(deletions(&node), ["DEL net1 a", "DEL eth0 main"]);
    }

    fn del_succeeds_twice_and_for_a_pod_that_was_never_added(node) {
        let pod = node.plain_pod("p");
        pod.del().succeeds();
        pod.add().succeeds();
        pod.del().succeeds();
        pod.del().succeeds();
        assert!(!node.host.path(&format!("{CACHE}/{}", pod.container.id())).exists());
    }

    fn what_was_added_is_deleted_whatever_the_definition_says_by_then(node) {
        node.scripted("a", "");
        node.definition("b", &json!({ "cniVersion": "1.0.0", "name": "b", "type": "a", "old": true }));
        let pod = node.pod("p", "b");
        pod.add().succeeds();
        node.api.delete("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/b");
        node.definition("b", &json!({ "cniVersion": "1.0.0", "name": "b", "type": "a", "old": false }));
        pod.del().succeeds();
        assert_eq!(node.config_of("a", "DEL", "net1")["old"], true);
    }

    fn a_delegate_is_deleted_with_its_result(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        pod.del().succeeds();
        assert_eq!(node.config_of("a", "DEL", "net1")["prevResult"]["interfaces"][0]["name"], "net1");
    }

    fn a_cache_that_is_unreadable_is_made_up_for_from_the_results(node) {
        for (number, damage) in [
            "truncate -s 20 FILE",
            "truncate -s 0 FILE",
            "echo '{\"version\":2}' > FILE",
            "echo '[]' > FILE",
            "head -c 64 /dev/urandom > FILE",
            "rm FILE",
            "rm FILE && mkdir FILE",
        ].into_iter().enumerate() {
            if number == 0 {
                node.scripted("a", "");
            }
            let pod = node.pod(&format!("p{number}"), "a");
            pod.add().succeeds();
            node.forget_calls();
            node.host.sh(&damage.replace("FILE", &format!("{CACHE}/{}", pod.container.id())));
            let before = Instant::now();
            pod.del().succeeds();
            assert!(before.elapsed() < DEL_ALONE, "{damage}: {:?}", before.elapsed());
            let mut deleted = deletions(&node);
            deleted.sort();
            assert_eq!(deleted, ["DEL eth0 main", "DEL net1 a"], "{damage}");
        }
    }

    fn with_neither_cache_nor_results_the_configured_delegates_are_deleted(node) {
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        node.host.sh(&format!("rm -rf {CACHE}"));
        node.forget_calls();
        pod.del().succeeds();
        assert_eq!(node.calls(), ["DEL eth0 main"]);
    }

    fn what_the_go_program_cached_is_deleted(node) {
        node.script("a", "");
        let pod = node.plain_pod("p");
        // {"cniVersion":"1.0.0","name":"default-net","type":"main"} and the same for a.
        let cache = r#"[
            {"Conf":{"cniVersion":"1.0.0","name":"default-net","type":"main","ipam":{},"dns":{}},"ConfList":{"plugins":null},
             "Name":"default-net","IsFilterV4Gateway":false,"IsFilterV6Gateway":false,
             "Bytes":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoiZGVmYXVsdC1uZXQiLCJ0eXBlIjoibWFpbiJ9"},
            {"Conf":{"cniVersion":"1.0.0","name":"a","type":"a","ipam":{},"dns":{}},"ConfList":{"plugins":null},
             "Name":"default/a","ifnameRequest":"eth7","IsFilterV4Gateway":false,"IsFilterV6Gateway":false,
             "Bytes":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoiYSIsInR5cGUiOiJhIn0="}]"#;
        node.write(&format!("{CACHE}/{}", pod.container.id()), cache);
        pod.del().succeeds();
        assert_eq!(node.calls(), ["DEL eth7 a", "DEL eth0 main"]);
    }

    fn the_cache_has_what_the_go_program_reads(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a@eth7");
        pod.add().succeeds();
        let cache: Value = serde_json::from_str(&node.read(&format!("{CACHE}/{}", pod.container.id()))).unwrap();
        assert_eq!(cache[0]["Conf"]["type"], "main");
        assert_eq!((&cache[1]["Conf"]["name"], &cache[1]["ifnameRequest"]), (&json!("a"), &json!("eth7")));
        for entry in cache.as_array().unwrap() {
            assert!(entry["Bytes"].is_string() && entry["IsFilterV4Gateway"].is_boolean(), "{entry}");
        }
        let kept = node.host.sh(&format!("ls {CACHE}/results"));
        let id = pod.container.id();
        assert_eq!(kept.lines().collect::<Vec<_>>(), [format!("a-{id}-eth7"), format!("default-net-{id}-eth0")]);
        let result: Value = serde_json::from_str(&node.read(&format!("{CACHE}/results/a-{id}-eth7"))).unwrap();
        assert_eq!(result["kind"], "cniCacheV1");
        assert_eq!(result["result"]["interfaces"][0]["name"], "eth7");
    }

    fn all_delegates_are_tried_and_all_errors_returned(node) {
        let fails = |text: &str| format!(
            r#"[ $CNI_COMMAND = DEL ] && echo '{{"cniVersion":"1.0.0","code":11,"msg":"{text}"}}' && exit 1"#
        );
        node.scripted("a", &fails("the first is stuck"));
        node.scripted("b", "");
        node.scripted("c", &fails("the third is stuck"));
        let pod = node.pod("p", "a,b,c");
        pod.add().succeeds();
        let text = pod.del().error().text();
        assert!(text.contains("the first is stuck") && text.contains("the third is stuck"), "{text}");
        assert_eq!(deletions(&node), ["DEL net3 c", "DEL net2 b", "DEL net1 a", "DEL eth0 main"]);
    }

    fn the_cache_stays_after_a_failure_with_retry_delete_on_error(node) {
        node.scripted("a", r#"[ $CNI_COMMAND = DEL ] && [ ! -e /run/mended ] && exit 1"#);
        let cache = |pod: &oxcni_tests::Pod<'_>| node.host.path(&format!("{CACHE}/{}", pod.container.id())).exists();
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        let config = { let mut config = node.config().clone(); config["retryDeleteOnError"] = json!(true); config };
        assert!(!pod.call("DEL").config(&config).run().ok());
        assert!(cache(&pod));
        node.write("/run/mended", "");
        pod.call("DEL").config(&config).run().succeeds();
        assert!(!cache(&pod));
    }

    fn a_delegate_that_keeps_failing_blocks_one_del_without_retry_delete_on_error(node) {
        node.scripted("a", r#"[ $CNI_COMMAND = DEL ] && exit 1"#);
        for (name, retry, second) in [("p", false, true), ("q", true, false)] {
            node.configure("retryDeleteOnError", json!(retry));
            let pod = node.pod(name, "a");
            pod.add().succeeds();
            assert!(!pod.del().ok(), "{name}");
            assert_eq!(pod.del().ok(), second, "{name}");
            let kept = node.host.path(&format!("{CACHE}/results/a-{}-net1", pod.container.id()));
            assert!(kept.exists(), "GC can still try");
        }
    }

    fn del_needs_no_valid_configuration(node) {
        node.scripted("a", "");
        node.configure("cniDir", json!("/run/cache"));
        for (number, (key, value)) in [
            ("logLevel", json!("loud")), ("delegates", json!([{}])), ("delegates", json!([])),
            ("delegateTimeout", json!(0)), ("globalNamespaces", json!(1)),
        ].into_iter().enumerate() {
            let pod = node.pod(&format!("p{number}"), "a");
            pod.add().succeeds();
            node.forget_calls();
            let mut config = node.config().clone();
            config["kubeconfig"] = Value::Null;
            config[key] = value.clone();
            config["logFile"] = json!("/run/multus.log");
            if key != "logLevel" {
                config["logLevel"] = json!("error");
            }
            pod.call("DEL").config(&config).run().succeeds();
            assert_eq!(node.calls(), ["DEL net1 a", "DEL eth0 main"], "{key}={value}");
            if key != "logLevel" {
                assert!(node.read("/run/multus.log").contains("with the cache"), "{key}={value}");
            }
            node.host.sh("rm -f /run/multus.log");
        }
    }

    fn check_asks_all_delegates_with_their_own_results(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        let result = pod.add().result();
        node.forget_calls();
        pod.check(&result).succeeds();
        assert_eq!(node.calls(), ["CHECK eth0 main", "CHECK net1 a"]);
        assert_eq!(node.config_of("a", "CHECK", "net1")["prevResult"]["interfaces"][0]["name"], "net1");
    }

    fn check_fails_where_a_delegate_fails(node) {
        node.scripted("a", r#"[ $CNI_COMMAND = CHECK ] && echo '{"cniVersion":"1.0.0","code":102,"msg":"not as it was"}' && exit 1"#);
        let pod = node.pod("p", "a");
        let result = pod.add().result();
        let text = pod.check(&result).error().text();
        assert!(text.contains("not as it was"), "{text}");
    }

    fn status_asks_all_delegates(node) {
        node.configure("kubeconfig", Value::Null);
        node.configure("cniVersion", json!("1.1.0"));
        node.script("second", r#"[ $CNI_COMMAND = STATUS ] && [ -e /run/down ] && echo '{"cniVersion":"1.1.0","code":50,"msg":"not yet"}' && exit 1"#);
        node.configure("delegates", json!([
            { "cniVersion": "1.1.0", "name": "one", "type": "main" },
            { "cniVersion": "1.1.0", "name": "two", "type": "second" },
        ]));
        node.hostwide("STATUS", &json!({})).succeeds();
        assert_eq!(node.calls(), ["STATUS  main", "STATUS  second"]);
        node.write("/run/down", "");
        let error = node.hostwide("STATUS", &json!({})).error();
        assert_eq!(error.code, 50);
        assert!(error.text().contains("not yet"), "{error:?}");
    }

    fn gc_does_not_touch_networks_that_disable_it(node) {
        node.configure("cniVersion", json!("1.1.0"));
        node.scripted("a", "");
        let network = json!({ "cniVersion": "1.1.0", "name": "b", "disableGC": true, "plugins": [{ "type": "a" }] });
        node.definition("b", &network);
        let pod = node.pod("p", "a,b");
        pod.add().succeeds();
        node.forget_calls();
        node.hostwide("GC", &json!({ "cni.dev/valid-attachments": [] })).succeeds();
        assert_eq!(deletions(&node), ["DEL net1 a", "DEL eth0 main"]);
        node.forget_calls();
        pod.del().succeeds();
        assert!(deletions(&node).contains(&"DEL net2 a".to_owned()), "{:?}", node.calls());
        assert!(!node.host.path(&format!("{CACHE}/{}", pod.container.id())).exists());
    }

    fn gc_without_a_list_of_the_valid_collects_nothing(node) {
        node.configure("cniVersion", json!("1.1.0"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        node.hostwide("GC", &json!({})).succeeds();
        assert!(node.host.path(&format!("{CACHE}/{}", pod.container.id())).exists());
    }
}
