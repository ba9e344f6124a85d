//! ADD: the pod, its status and its events afterwards, and what remains when it fails.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::time::{Duration, Instant};

use oxcni_tests::apiserver::{Fault, Role};
use oxcni_tests::{Outcome, bridge, eventually, gateway, on_node, on_scripted_node};
use serde_json::{Value, json};

on_node! {
    fn a_failure_leaves_no_link_and_no_reservation(node) {
        node.configure("delegates", json!([gateway("default-net", "10.244.0.0/24")]));
        node.definition("a", &gateway("net-a", "10.1.0.0/24"));
        node.scripted("b", r#"[ $CNI_COMMAND = ADD ] && exit 1"#);
        let before = node.host.links();
        let pod = node.pod("p", "a,b");
        assert!(!pod.add().ok());
        assert_eq!(pod.container.sh("ls /sys/class/net 2>/dev/null || true; ip -br link | wc -l").lines().last(), Some("1"));
        let links: Vec<_> = node.host.links().into_iter().filter(|link| link.starts_with("veth")).collect();
        assert!(links.is_empty(), "{links:?} of {before:?}");
        for network in ["default-net", "net-a"] {
            assert!(node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).is_empty());
        }
    }

    fn a_chain_that_fails_leaves_no_link_and_no_reservation(node) {
        let first = |name: &str| {
            let mut plugin = bridge(name, "10.1.0.0/24");
            plugin.as_object_mut().unwrap().retain(|key, _| key != "cniVersion" && key != "name");
            plugin
        };
        node.definition("a", &json!({
            "cniVersion": "1.0.0", "name": "net-a", "plugins": [first("net-a"), { "type": "not-installed" }],
        }));
        // Its own ADD succeeds, and is undone because another network's fails.
        node.script("stuck", r#"[ $CNI_COMMAND = DEL ] && exit 1"#);
        node.definition("b", &json!({
            "cniVersion": "1.0.0", "name": "net-b", "plugins": [first("net-b"), { "type": "stuck" }],
        }));
        for (number, networks) in ["a", "b,a"].into_iter().enumerate() {
            let pod = node.pod(&format!("p{number}"), networks);
            assert!(!pod.add().ok());
            assert_eq!(pod.container.sh("ip -br link | wc -l").trim(), "1", "{networks}");
            let links: Vec<_> = node.host.links().into_iter().filter(|link| link.starts_with("veth")).collect();
            assert!(links.is_empty(), "{networks}: {links:?}");
            for network in ["net-a", "net-b"] {
                let held = node.host.reservations_in(&format!("/var/lib/cni/networks/{network}"));
                assert!(held.is_empty(), "{networks}: {held:?}");
            }
        }
    }

    fn pods_reach_each_other_over_each_network(node) {
        node.configure("delegates", json!([gateway("default-net", "10.244.0.0/24")]));
        node.definition("a", &gateway("net-a", "10.1.0.0/24"));
        node.definition("b", &gateway("net-b", "10.2.0.0/24"));
        let (one, two) = (node.pod("one", "a,b"), node.pod("two", "a,b"));
        one.add().succeeds();
        two.add().succeeds();
        assert_eq!(two.interfaces(), ["eth0", "net1", "net2"]);
        for entry in two.status() {
            let address = entry["ips"][0].as_str().unwrap().to_owned();
            assert!(one.container.reaches(&address), "{entry}");
        }
        for pod in [&one, &two] {
            pod.del().succeeds();
            pod.del().succeeds();
            assert_eq!(pod.container.sh("ip -br link | wc -l").trim(), "1");
        }
        for network in ["default-net", "net-a", "net-b"] {
            assert!(node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).is_empty());
        }
        assert_eq!(node.host.sh("find /var/lib/cni/multus -type f | wc -l").trim(), "0");
    }

    fn an_existing_interface_is_not_changed(node) {
        node.definition("a", &bridge("net-a", "10.1.0.0/24"));
        let pod = node.pod("p", "a");
        pod.container.sh("ip link add net1 type veth peer name own1");
        let text = pod.add().error().text();
        assert!(text.contains("net1") && text.contains("already exists"), "{text}");
        pod.container.sh("ip link show net1 type veth");
        assert_eq!(node.calls(), ["ADD eth0 main", "DEL eth0 main"]);
    }
}

on_scripted_node! {
    fn the_result_is_the_default_networks(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        let result = pod.add().result();
        assert_eq!(result["cniVersion"], "1.0.0");
        assert_eq!(result["interfaces"], json!([
            { "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": pod.container.netns() }
        ]));
    }

    fn the_status_is_written_as_the_go_program_does(node) {
        node.script("a", r#"[ $CNI_COMMAND = ADD ] && cat << END && exit
            { "cniVersion": "1.0.0",
              "interfaces": [{ "name": "br" }, { "name": "$CNI_IFNAME", "mac": "02:00:00:00:00:02", "mtu": 1400, "sandbox": "$CNI_NETNS" }],
              "ips": [{ "interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1" }, { "interface": 1, "address": "fd00::5/64" }],
              "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }, { "dst": "10.2.0.0/16" }],
              "dns": { "nameservers": ["10.1.0.53"] } }
END"#);
        node.definition("a", &json!({ "cniVersion": "1.0.0", "type": "a" }));
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        let expected = r#"[{
    "name": "default-net",
    "interface": "eth0",
    "ips": [
        "10.9.0.1"
    ],
    "mac": "02:00:00:00:00:01",
    "default": true,
    "dns": {}
},{
    "name": "default/a",
    "interface": "net1",
    "ips": [
        "10.1.0.5",
        "fd00::5"
    ],
    "mac": "02:00:00:00:00:02",
    "mtu": 1400,
    "dns": {
        "nameservers": [
            "10.1.0.53"
        ]
    },
    "gateway": [
        "10.1.0.1"
    ]
}]"#;
        assert_eq!(pod.status_text(), expected);
    }

    fn one_patch_writes_the_status_where_the_role_grants_it(node) {
        for role in [Role::Least, Role::MicroShift] {
            node.give_role(role);
            let name = format!("p-{role:?}").to_lowercase();
            let pod = node.plain_pod(&name);
            node.api.forget_requests();
            pod.add().succeeds();
            assert_eq!(pod.interfaces(), ["eth0"]);
            assert_eq!(node.api.count("PATCH", "/status"), 1, "{role:?}");
            assert_eq!(node.api.count("PUT", ""), 0, "{role:?}");
            assert_eq!(node.api.count("GET", &format!("/pods/{name}")), 1, "{role:?}");
        }
    }

    fn read_and_put_write_the_status_where_the_role_grants_no_patch(node) {
        node.give_role(Role::Upstream);
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0"]);
        assert_eq!(node.api.count("PUT", "/pods/p/status"), 1);
    }

    fn definitions_are_read_over_one_connection(node) {
        for name in ["a", "b", "c"] {
            node.scripted(name, "");
        }
        node.pod("p", "a,b,c").add().succeeds();
        assert_eq!(node.api.connections(), 1);
        assert_eq!(node.api.count("GET", "/network-attachment-definitions/"), 3);
        assert!(node.api.requests().iter().all(|request| request.protocol == "HTTP/2.0"));
    }

    fn definitions_are_read_at_the_same_time(node) {
        for name in ["a", "b", "c"] {
            node.scripted(name, "");
        }
        let slow = Duration::from_secs(2);
        node.api.fault("GET", "/network-attachment-definitions/", 3, Fault::Slow(slow));
        let before = Instant::now();
        node.pod("p", "a,b,c").add().succeeds();
        assert!(before.elapsed() < 2 * slow, "{:?}", before.elapsed());
    }

    fn a_definition_that_is_named_twice_is_read_once(node) {
        node.scripted("a", "");
        node.pod("p", "a,a,a").add().succeeds();
        assert_eq!(node.api.count("GET", "/network-attachment-definitions/a"), 1);
    }

    fn each_interface_has_an_event(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        assert_eq!(pod.events(), [
            "AddedInterface: Add eth0 [10.9.0.1/24] from default-net",
            "AddedInterface: Add net1 [10.9.0.1/24] from default/a",
        ]);
    }

    fn a_failure_has_an_event_that_explains_it(node) {
        let pod = node.pod("p", "bad-conf");
        let text = pod.add().error().text();
        let sentence = "cannot find a network-attachment-definition (bad-conf) in namespace (default)";
        assert!(text.contains(sentence), "{text}");
        let events = pod.events();
        assert!(events.iter().any(|event| event.contains(sentence)), "{events:?}");
    }

    fn a_missing_definition_names_those_that_exist_where_the_role_lets_it(node) {
        node.scripted("good-conf", "");
        let text = node.pod("p", "bad-conf").add().error().text();
        assert!(!text.contains("good-conf"), "the role may not list: {text}");
        node.give_role(Role::Upstream);
        let text = node.pod("q", "bad-conf").add().error().text();
        assert!(text.contains("cannot find a network-attachment-definition (bad-conf) in namespace (default)"), "{text}");
        assert!(text.contains("good-conf"), "{text}");
    }

    fn invalid_json_in_a_definition_is_named_and_shown(node) {
        node.definition_text("broken", "{\n  \"cniVersion\": \"1.0.0\",\n  \"type\": \"main\"\n  \"bridge\": 1\n}");
        let text = node.pod("p", "broken").add().error().text();
        for part in ["default/broken", "line 4, column 3", "<HERE>bridge"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(node.calls().is_empty(), "nothing is added where a definition is wrong");
    }

    fn a_plugin_that_is_not_installed_is_named_with_the_folders_searched(node) {
        node.definition("a", &json!({ "cniVersion": "1.0.0", "type": "not-installed" }));
        let pod = node.pod("p", "a");
        let text = pod.add().error().text();
        for part in ["not-installed", "/run/bin", &node.host.plugins().dir().display().to_string()] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    fn a_plugin_type_that_leaves_its_folder_is_refused(node) {
        node.host.install_script("/run/evil", "#!/bin/sh\ntouch /run/owned\n");
        for kind in ["../evil", "/run/evil", "", ".."] {
            let name = format!("a{}", node.api.list("/api/v1/pods").len());
            node.definition(&name, &json!({ "cniVersion": "1.0.0", "name": "a", "type": kind }));
            let pod = node.pod(&name, &name);
            assert!(!pod.add().ok(), "{kind:?}");
        }
        assert!(!node.host.path("/run/owned").exists());
        assert!(node.calls().is_empty());
    }

    fn a_definition_in_another_namespace_is_refused_under_isolation(node) {
        node.configure("namespaceIsolation", json!(true));
        node.script("a", "");
        for name in ["default/a", "other/a", "mine/a"] {
            node.definition(name, &json!({ "cniVersion": "1.0.0", "type": "a" }));
        }
        let in_mine = |name: &str, networks: &str| {
            node.annotated_pod("mine", name, &json!({ "k8s.v1.cni.cncf.io/networks": networks }))
        };
        let text = in_mine("p", "other/a").add().error().text();
        assert!(text.contains("other") && text.contains("mine"), "{text}");
        in_mine("q", "a").add().succeeds();
        in_mine("r", "default/a").add().succeeds();
    }

    fn global_namespaces_are_open_to_all_under_isolation(node) {
        node.configure("namespaceIsolation", json!(true));
        node.configure("globalNamespaces", json!("open,also"));
        node.script("a", "");
        for name in ["default/a", "also/a"] {
            node.definition(name, &json!({ "cniVersion": "1.0.0", "type": "a" }));
        }
        let in_mine = |name: &str, networks: &str| {
            node.annotated_pod("mine", name, &json!({ "k8s.v1.cni.cncf.io/networks": networks }))
        };
        in_mine("p", "also/a").add().succeeds();
        assert!(!in_mine("q", "default/a").add().ok(), "the list replaces the default");
    }

    fn a_pod_that_is_gone_is_a_success_with_an_empty_result(node) {
        node.configure("logToStderr", json!(true));
        node.configure("logLevel", json!("verbose"));
        let pod = node.sandbox("default", "gone", "00000000-0000-4000-8000-000000000099");
        let outcome = pod.add();
        // Runtimes require an address, so it has the unspecified one.
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "eth0", "sandbox": pod.container.netns() }],
            "ips": [{ "address": "0.0.0.0/0", "gateway": "0.0.0.0" }],
        });
        assert_eq!(outcome.result(), result);
        assert!(outcome.stderr.contains("gone"), "{outcome}");
        assert!(node.calls().is_empty());
    }

    fn a_pod_with_another_uid_is_refused_unless_it_is_static(node) {
        let object = node.plain_pod("p");
        let uid = node.api.object(&object.path())["metadata"]["uid"].as_str().unwrap().to_owned();
        let text = node.sandbox("default", "p", "another").add().error().text();
        assert!(text.contains(&uid) && text.contains("another"), "{text}");
        assert!(node.calls().is_empty());
        node.annotated_pod("default", "s", &json!({ "kubernetes.io/config.source": "file" }));
        node.configure("logLevel", json!("verbose"));
        let outcome = node.sandbox("default", "s", "another").add();
        outcome.succeeds();
        assert!(outcome.stderr.contains("\"another\"") && outcome.stderr.contains("static"), "{outcome}");
        node.annotated_pod("default", "t", &json!({ "kubernetes.io/config.source": "api" }));
        assert!(!node.sandbox("default", "t", "another").add().ok());
    }

    fn a_pod_that_goes_while_it_is_added_is_no_failure(node) {
        node.script("main", "");
        let pod = node.plain_pod("p");
        node.api.fault("PATCH", "/status", 1, Fault::Status(404));
        pod.add().succeeds();
    }

    fn add_waits_for_the_readiness_file(node) {
        node.configure("readinessindicatorfile", json!("/run/network-is-ready"));
        let pod = node.plain_pod("p");
        let child = pod.call("ADD").start();
        let open_files = format!("/proc/{}/fd", child.id());
        assert!(eventually(|| {
            let entries = std::fs::read_dir(&open_files).unwrap();
            let mut files = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
            files.any(|file| file.to_string_lossy().contains("inotify"))
        }));
        assert!(node.calls().is_empty());
        node.write("/run/network-is-ready", "");
        Outcome::of(child, "ADD").succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main"]);
    }

    fn a_failure_takes_down_what_was_made_in_reverse(node) {
        node.scripted("a", "");
        node.scripted("b", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","code":11,"msg":"no luck"}' && exit 1"#);
        node.scripted("c", "");
        let pod = node.pod("p", "a,b,c");
        let error = pod.add().error();
        assert!(error.text().contains("no luck"), "{error:?}");
        assert_eq!(node.calls(), [
            "ADD eth0 main", "ADD net1 a", "ADD net2 b", "DEL net2 b", "DEL net1 a", "DEL eth0 main",
        ]);
        assert!(pod.status_text().is_empty());
    }

    fn without_kubeconfig_the_delegates_are_all(node) {
        node.configure("kubeconfig", Value::Null);
        node.script("second", "");
        let delegates = json!([
            { "cniVersion": "1.0.0", "name": "one", "type": "main" },
            { "cniVersion": "1.0.0", "name": "two", "type": "second" },
        ]);
        node.configure("delegates", delegates);
        let pod = node.pod("p", "ignored");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 second"]);
        assert_eq!(node.api.requests(), []);
    }
}
