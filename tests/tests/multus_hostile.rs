//! Tenants, users of the host and plugins of a third party can't take over a node or stop it through multus.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::time::{Duration, Instant};

use oxcni_tests::{Node, bridge, on_node, on_scripted_node};
use serde_json::{Value, json};

const CACHE: &str = "/var/lib/cni/multus";

fn network(version: &str, name: &str, plugin: &str) -> Value {
    json!({ "cniVersion": version, "name": name, "type": plugin })
}

/// GC with these pods as the living ones.
fn gc(node: &Node, living: &[&str]) -> Vec<String> {
    gc_of("multus-cni-network", node, living)
}

/// GC of a multus network of another name.
fn gc_of(name: &str, node: &Node, living: &[&str]) -> Vec<String> {
    node.forget_calls();
    let valid: Vec<Value> = living.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
    node.hostwide("GC", &json!({ "name": name, "cni.dev/valid-attachments": valid })).succeeds();
    node.calls()
}

on_node! {
    fn multus_is_no_ipam_plugin_and_executes_no_program_of_a_tenant(node) {
        node.host.install_script("/run/tenant/evil", "#!/bin/sh\ntouch /run/evil-was-executed\n");
        node.write("/run/precious", "");
        let definition = json!({
            "cniVersion": "1.0.0", "name": "a", "type": "bridge", "bridge": "a", "ipam": { "type": "multus" },
            "binDir": "/run/tenant", "delegates": [{ "type": "evil" }], "cniDir": "/run/tenant/cache",
            "logFile": "/run/tenant/log", "logLevel": "debug",
            "runtimeConfig": { "CNIDeviceInfoFile": "/run/precious" },
        });
        node.definition("a", &definition);
        let pod = node.pod("p", "a");
        let text = pod.add().error().text();
        assert!(text.contains("multus"), "{text}");
        let _ = pod.del();
        for made in ["evil-was-executed", "tenant/log", "tenant/cache"] {
            assert!(!node.host.path(&format!("/run/{made}")).exists(), "{made}");
        }
        assert!(node.host.path("/run/precious").exists());
    }

    fn a_plugin_that_is_its_own_ipam_plugin_ends_in_an_error(node) {
        let mut definition = bridge("a", "10.1.0.0/24");
        definition["ipam"]["type"] = json!("bridge");
        node.definition("a", &definition);
        let pod = node.pod("p", "a");
        let before = Instant::now();
        let text = pod.add().error().text();
        assert!(text.contains("ipam"), "{text}");
        let _ = pod.del().ok();
        assert!(before.elapsed() < Duration::from_secs(30), "{:?}", before.elapsed());
        assert!(node.host.try_sh("ip link show a").is_err(), "the bridge is undone");
    }
}

on_scripted_node! {
    fn a_chain_of_delegates_across_processes_ends(node) {
        // A delegate that calls multus, as a meta-plugin of a third party may.
        let multus = node.host.plugins().dir().join("multus");
        let mut config = node.config().clone();
        config["kubeconfig"] = Value::Null;
        config["delegates"] = json!([{ "cniVersion": "1.0.0", "name": "again", "type": "again" }]);
        let first = format!(
            "[ $CNI_COMMAND = ADD ] && echo x >> /run/depth && printf '%s' '{config}' | {} && exit 0\n[ $CNI_COMMAND = ADD ] && exit 1",
            multus.display()
        );
        node.script("again", &first);
        let pod = node.plain_pod("p");
        let before = Instant::now();
        assert!(!pod.call("ADD").config(&config).run().ok());
        assert!(before.elapsed() < Duration::from_secs(60), "{:?}", before.elapsed());
        assert_eq!(node.read("/run/depth").lines().count(), 8);
    }

    fn a_user_who_locks_the_log_stops_nothing(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logLevel", json!("debug"));
        node.configure("logOptions", json!({ "maxSize": 1 }));
        node.host.sh("mkdir /run/log && head -c 1048576 /dev/zero > /run/log/multus.log && chmod 644 /run/log/multus.log");
        let reader = std::fs::File::open(node.host.path("/run/log/multus.log")).unwrap();
        reader.lock().unwrap();
        let pod = node.plain_pod("p");
        let before = Instant::now();
        pod.add().succeeds();
        pod.del().succeeds();
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    }

    fn a_message_of_a_plugin_forges_no_line_of_the_log(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logLevel", json!("error"));
        node.scripted("a", r#"echo '{"cniVersion":"1.0.0","code":7,"msg":"bad\n2026-01-01T00:00:00Z [error] forged"}'; exit 1"#);
        assert!(!node.pod("p", "a").add().ok());
        let log = node.read("/run/log/multus.log");
        assert!(log.contains("forged") && log.lines().all(|line| !line.ends_with("[error] forged") || line.contains("bad")), "{log}");
        assert_eq!(node.host.sh("stat -c %a /run/log /run/log/multus.log"), "700\n600\n");
    }

    fn endless_standard_error_of_a_delegate_ends_with_its_time(node) {
        node.configure("delegateTimeout", json!(2));
        node.scripted("a", "exec yes >&2");
        let before = Instant::now();
        let outcome = node.pod("p", "a").add();
        assert!(outcome.error().text().contains("within 2 s"), "{outcome}");
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
        assert!(outcome.stderr.len() < 1 << 20, "{} bytes", outcome.stderr.len());
    }

    fn gc_asks_no_plugin_of_a_tenants_network(node) {
        node.configure("cniVersion", json!("1.1.0"));
        node.configure("delegates", json!([network("1.1.0", "default-net", "main")]));
        node.script("a", "");
        // Of the name and the data of another tenant's network.
        node.definition("a", &network("1.1.0", "of-another-tenant", "a"));
        let (living, gone) = (node.pod("living", "a"), node.pod("gone", "a"));
        living.add().succeeds();
        gone.add().succeeds();
        assert_eq!(gc(&node, &[living.container.id()]), ["DEL net1 a", "DEL eth0 main", "GC  main"]);
    }

    fn gc_of_many_networks_in_many_pods_is_linear(node) {
        node.configure("cniVersion", json!("1.1.0"));
        let config = |name: &str| network("1.1.0", name, "a");
        let base64 = |text: &str| node.host.sh(&format!("printf '%s' '{text}' | base64 -w 0"));
        let mut living = Vec::new();
        let encoded: Vec<String> = (0..64).map(|i| base64(&config(&format!("net{i}")).to_string())).collect();
        for pod in 0..16 {
            let id = format!("pod{pod}");
            let mut delegates = Vec::new();
            for (i, encoded) in encoded.iter().enumerate() {
                let (net, ifname) = (format!("net{i}"), if i == 0 { "eth0".to_owned() } else { format!("net{i}") });
                delegates.push(json!({ "Conf": config(&net), "ConfList": {}, "Name": net, "Bytes": encoded }));
                let result = json!({
                    "kind": "cniCacheV1", "containerId": id, "config": encoded, "ifName": ifname,
                    "networkName": net, "result": { "cniVersion": "1.1.0" },
                });
                node.write(&format!("{CACHE}/results/{net}-{id}-{ifname}"), &result.to_string());
            }
            node.write(&format!("{CACHE}/{id}"), &json!(delegates).to_string());
            living.push(id);
        }
        let living: Vec<&str> = living.iter().map(String::as_str).collect();
        let before = Instant::now();
        gc(&node, &living);
        assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
        assert_eq!(node.host.sh(&format!("ls {CACHE}/results | wc -l")).trim(), "1024");
    }

    fn two_multus_networks_share_a_cache_and_collect_their_own_containers_only(node) {
        node.configure("cniVersion", json!("1.1.0"));
        node.configure("delegates", json!([network("1.1.0", "default-net", "main")]));
        node.scripted("a", "");
        let (first, second) = (node.pod("first", "a"), node.pod("second", "a"));
        first.add().succeeds();
        let mut another = node.config().clone();
        another["name"] = json!("another");
        second.call("ADD").config(&another).run().succeeds();
        // No pod of the second network lives; those of the first are not in its list.
        assert_eq!(gc_of("another", &node, &[]), ["DEL net1 a", "DEL eth0 main", "GC  main"]);
        assert!(node.host.path(&format!("{CACHE}/{}", first.container.id())).exists());
        assert!(!node.host.path(&format!("{CACHE}/{}", second.container.id())).exists());
        // What is valid of the first is so for the plugins of the second.
        let valid = node.config_of("main", "GC", "")["cni.dev/valid-attachments"].to_string();
        assert!(valid.contains(first.container.id()) && valid.contains("net1"), "{valid}");
        // Go's file does not have the network's name: the runtime's result of the container has it.
        node.host.sh(&format!("sed -i 's/,\"multusNetwork\":\"[^\"]*\"//g' {CACHE}/{}", first.container.id()));
        node.host.sh(&format!("sed -i 's/,\"oxcniOwner\":\"[^\"]*\"//' {CACHE}/results/*"));
        assert_eq!(gc(&node, &[]), ["GC  main"]);
        let result = json!({
            "kind": "cniCacheV1", "containerId": first.container.id(), "config": "e30=", "ifName": "eth0",
            "networkName": "multus-cni-network", "result": {},
        });
        let file = format!("/var/lib/cni/results/multus-cni-network-{}-eth0", first.container.id());
        node.write(&file, &result.to_string());
        assert_eq!(gc(&node, &[]), ["DEL net1 a", "DEL eth0 main", "GC  main"]);
    }

    fn results_are_bounded_together(node) {
        // Some 2.4 MiB each.
        let long = r#"[ $CNI_COMMAND != ADD ] || {
            printf %s '{"cniVersion":"1.0.0","interfaces":[{"name":"net1"}],"dns":{"domain":"'
            head -c 2500000 /dev/zero | tr '\0' x; printf %s '"}}'; exit; }"#;
        node.scripted("a", long);
        node.scripted("b", long);
        let error = node.pod("p", "a,b").add().error();
        assert!(error.text().contains("longer than 4 MiB"), "{error:?}");
        assert!(node.calls().contains(&"DEL net1 a".to_owned()), "{:?}", node.calls());
        // One is refused for the length of the status only.
        let error = node.pod("q", "a").add().error();
        assert!(error.text().contains("longer than 256 KiB"), "{error:?}");
    }

    fn definitions_are_bounded_together(node) {
        node.script("a", "");
        let names: Vec<String> = (0..8).map(|i| format!("a{i}")).collect();
        for name in &names {
            let config = json!({ "cniVersion": "1.0.0", "name": name, "type": "a", "pad": "x".repeat(900 << 10) });
            node.definition(name, &config);
        }
        let error = node.pod("p", &names.join(",")).add().error();
        assert!(error.text().contains("longer than 4 MiB"), "{error:?}");
        node.pod("q", &names[..3].join(",")).add().succeeds();
    }
}
