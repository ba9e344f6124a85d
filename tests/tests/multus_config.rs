//! Each field of multus' configuration, and each with a wrong value.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::apiserver::Role;
use oxcni_tests::on_scripted_node;
use serde_json::{Value, json};

fn network(name: &str) -> Value {
    json!({ "cniVersion": "1.0.0", "name": name, "type": name })
}

on_scripted_node! {
    fn the_cluster_network_is_a_definition(node) {
        node.script("a", "");
        node.definition("kube-system/a", &network("a"));
        node.configure("clusterNetwork", json!("a"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 a"], "the delegates are not looked at");
        assert_eq!(pod.status()[0]["default"], true);
        pod.del().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 a", "DEL eth0 a"]);
    }

    fn the_cluster_network_is_a_definition_of_multus_own_namespace(node) {
        node.script("a", "");
        node.definition("networks/a", &network("a"));
        node.configure("clusterNetwork", json!("a"));
        node.configure("multusNamespace", json!("networks"));
        node.plain_pod("p").add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 a"]);
    }

    fn the_cluster_network_is_a_configuration_a_file_or_a_folder(node) {
        node.script("a", "");
        node.write("/run/multus.d/a.conf", &network("a").to_string());
        node.write("/run/folder/00-a.conflist", r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"a"}]}"#);
        for (number, place) in ["a", "/run/multus.d/a.conf", "/run/folder/00-a.conflist", "/run/folder"].into_iter().enumerate() {
            node.configure("clusterNetwork", json!(place));
            node.forget_calls();
            let pod = node.plain_pod(&format!("p{number}"));
            pod.add().succeeds();
            assert_eq!(node.calls(), ["ADD eth0 a"], "{place}");
            pod.del().succeeds();
        }
    }

    fn a_cluster_network_that_is_nowhere_is_named(node) {
        node.configure("clusterNetwork", json!("nowhere"));
        let text = node.plain_pod("p").add().error().text();
        for part in ["nowhere", "kube-system", "/run/multus.d"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    fn default_networks_are_for_all_pods_outside_of_the_system(node) {
        node.script("a", "");
        node.script("b", "");
        node.definition("kube-system/a", &network("a"));
        node.write("/run/multus.d/b.conf", &network("b").to_string());
        node.write("/run/main.conf", &network("main").to_string());
        node.configure("clusterNetwork", json!("/run/main.conf"));
        node.configure("defaultNetworks", json!(["a", "b"]));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a", "ADD net2 b"]);
        node.forget_calls();
        node.annotated_pod("kube-system", "p", &json!({})).add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main"]);
        node.forget_calls();
        node.configure("systemNamespaces", json!(["mine"]));
        node.annotated_pod("mine", "p", &json!({})).add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main"]);
    }

    fn default_networks_need_no_cluster(node) {
        node.configure("kubeconfig", Value::Null);
        node.configure("cniVersion", json!("1.1.0"));
        for name in ["main", "b"] {
            node.script(name, "");
            let text = json!({ "cniVersion": "1.1.0", "name": name, "type": name }).to_string();
            node.write(&format!("/run/multus.d/{name}.conf"), &text);
        }
        node.configure("clusterNetwork", json!("main"));
        node.configure("defaultNetworks", json!(["b"]));
        node.hostwide("STATUS", &json!({})).succeeds();
        assert_eq!(node.calls(), ["STATUS  main", "STATUS  b"]);
        node.forget_calls();
        let pod = node.sandbox("default", "p", "uid");
        pod.add().succeeds();
        pod.del().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 b", "DEL net1 b", "DEL eth0 main"]);
        node.forget_calls();
        node.sandbox("kube-system", "p", "uid").add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main"]);
    }

    fn status_asks_the_networks_on_disk_and_no_api_server(node) {
        node.configure("cniVersion", json!("1.1.0"));
        let network = |name: &str| json!({ "cniVersion": "1.1.0", "name": name, "type": name });
        node.script("b", "");
        node.definition("kube-system/a", &network("a"));
        node.write("/run/multus.d/b.conf", &network("b").to_string());
        node.configure("clusterNetwork", json!("a"));
        node.configure("defaultNetworks", json!(["b"]));
        node.api.stop();
        node.hostwide("STATUS", &json!({})).succeeds();
        assert_eq!(node.calls(), ["STATUS  b"]);
        node.configure("clusterNetwork", json!("/run/missing.conf"));
        let error = node.hostwide("STATUS", &json!({})).error();
        assert!(error.code == 50 && error.text().contains("/run/missing.conf"), "{error:?}");
    }

    fn the_cache_is_where_it_is_configured(node) {
        node.configure("cniDir", json!("/run/cache"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert!(node.host.path(&format!("/run/cache/{}", pod.container.id())).exists());
        assert!(!node.host.path("/var/lib/cni/multus").exists());
        pod.del().succeeds();
        assert!(!node.host.path(&format!("/run/cache/{}", pod.container.id())).exists());
    }

    fn the_configured_folder_of_plugins_is_searched_first(node) {
        node.host.install_script("/run/first/main", "#!/bin/sh\ntouch /run/first-was-used\nexec /run/bin/main\n");
        node.configure("binDir", json!("/run/first"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert!(node.host.path("/run/first-was-used").exists());
    }

    fn what_the_runtime_offers_reaches_delegates_with_the_capability(node) {
        node.script("a", "");
        let ports = json!([{ "hostPort": 80, "containerPort": 8080, "protocol": "tcp" }]);
        node.configure("capabilities", json!({ "portMappings": true }));
        node.configure("runtimeConfig", json!({ "portMappings": ports }));
        node.configure("delegates", json!([
            { "cniVersion": "1.0.0", "name": "default-net", "type": "main", "capabilities": { "portMappings": true } },
        ]));
        node.definition("a", &network("a"));
        node.pod("p", "a").add().succeeds();
        assert_eq!(node.config_of("main", "ADD", "eth0")["runtimeConfig"], json!({ "portMappings": ports }));
        assert!(node.config_of("a", "ADD", "net1")["runtimeConfig"].is_null());
    }

    fn a_master_plugin_says_which_result_is_returned(node) {
        node.configure("kubeconfig", Value::Null);
        node.script("second", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.5.5.5/24"}]}' && exit"#);
        node.configure("delegates", json!([
            { "type": "main" },
            { "type": "second", "masterplugin": true },
        ]));
        let pod = node.plain_pod("p");
        let result = pod.add().result();
        assert_eq!(result["ips"][0]["address"], "10.5.5.5/24");
        for call in node.calls() {
            let parts: Vec<&str> = call.split(' ').collect();
            let config = node.config_of(parts[2], "ADD", parts[1]);
            assert_eq!(config["name"], "multus-cni-network", "an unnamed delegate has the network's name");
        }
        pod.del().succeeds();
    }

    fn always_use_default_decides_what_a_pod_with_networks_gets(node) {
        node.scripted("a", "");
        let mut first = Vec::new();
        for (number, always) in [json!(true), Value::Null, json!(false)].into_iter().enumerate() {
            node.configure("always_use_default", always);
            node.forget_calls();
            node.pod(&format!("p{number}"), "a").add().succeeds();
            first.push(node.calls());
        }
        assert_eq!(first[0], ["ADD eth0 main", "ADD net1 a"]);
        assert_eq!(first[1], first[0]);
        assert_eq!(first[2], ["ADD eth0 a"]);
        // The pod's first network is not the default one: it gets the pod's requests.
        node.definition("b", &json!({ "cniVersion": "1.0.0", "name": "b", "type": "a", "capabilities": { "ips": true } }));
        node.forget_calls();
        node.pod("q", &json!([{ "name": "b", "ips": ["10.1.1.1/24"] }]).to_string()).add().succeeds();
        assert_eq!(node.config_of("a", "ADD", "eth0")["runtimeConfig"], json!({ "ips": ["10.1.1.1/24"] }));
    }

    fn the_log_has_a_file_a_level_and_a_limit(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logToStderr", json!(false));
        node.configure("logLevel", json!("debug"));
        let outcome = node.plain_pod("p").add();
        outcome.succeeds();
        assert!(outcome.stderr.is_empty(), "{outcome}");
        let debug = node.read("/run/log/multus.log").len();
        assert!(debug > 0);
        node.host.sh("rm /run/log/multus.log");
        node.configure("logLevel", json!("error"));
        node.plain_pod("q").add().succeeds();
        assert_eq!(node.read("/run/log/multus.log"), "");
        assert!(!node.pod("r", "missing").add().ok());
        assert!(node.read("/run/log/multus.log").contains("missing"));
    }

    fn a_log_file_is_rotated(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logLevel", json!("debug"));
        node.configure("logOptions", json!({ "maxSize": 1, "maxBackups": 1, "maxAge": 1, "compress": false }));
        node.host.sh("mkdir /run/log && head -c 1048576 /dev/zero > /run/log/multus.log");
        node.plain_pod("p").add().succeeds();
        let logs = node.host.sh("ls /run/log");
        assert_eq!(logs.lines().count(), 2, "{logs}");
        assert!(node.read("/run/log/multus.log").len() < 1 << 20);
    }

    fn a_log_file_that_was_rotated_is_compressed(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logOptions", json!({ "maxSize": 1, "compress": true }));
        node.host.sh("mkdir /run/log && head -c 1048576 /dev/zero > /run/log/multus.log");
        node.plain_pod("p").add().succeeds();
        assert_eq!(node.host.sh("zcat /run/log/multus-*.log.gz | wc -c").trim(), "1048576");
        assert_eq!(node.host.sh("ls -A /run/log | wc -l").trim(), "2");
    }

    fn an_auxiliary_chain_is_one_more_delegate(node) {
        node.write("/run/net.d/10-main.conf", &network("main").to_string());
        node.write("/run/net.d/more/10-a.conf", r#"{"type":"a"}"#);
        node.script("a", "");
        node.configure("clusterNetwork", json!("/run/net.d/10-main.conf"));
        node.configure("auxiliaryCNIChainName", json!("more"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a"]);
        node.forget_calls();
        pod.del().succeeds();
        assert_eq!(node.calls(), ["DEL net1 a", "DEL eth0 main"]);
    }

    fn manifests_take_the_place_of_an_api_server(node) {
        node.api.stop();
        node.configure("kubeconfig", Value::Null);
        node.configure("manifestDir", json!("/run/manifests"));
        node.script("a", "");
        node.write("/run/manifests/all.yaml", r#"
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations: { k8s.v1.cni.cncf.io/networks: a }
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: a }
spec:
  config: '{ "cniVersion": "1.0.0", "type": "a" }'
"#);
        let pod = node.sandbox("default", "p", "uid");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a"]);
        let status = node.read("/var/lib/cni/multus/network-status/default_p.json");
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status[1]["name"], "default/a");
        pod.del().succeeds();
    }

    fn wrong_values_are_refused_before_anything_is_made(node) {
        node.give_role(Role::Upstream);
        for (field, value) in [
            ("delegates", json!({})),
            ("delegates", json!([{ "type": "../main" }])),
            ("delegates", json!([])),
            ("clusterNetwork", json!(1)),
            ("defaultNetworks", json!("a")),
            ("confDir", json!(1)),
            ("cniDir", json!([])),
            ("binDir", json!({})),
            ("kubeconfig", json!(7)),
            ("namespaceIsolation", json!("true")),
            ("globalNamespaces", json!(["a"])),
            ("systemNamespaces", json!("a")),
            ("multusNamespace", json!(1)),
            ("readinessindicatorfile", json!(1)),
            ("manifestDir", json!(1)),
            ("capabilities", json!(["portMappings"])),
            ("capabilities", json!({ "portMappings": "yes" })),
            ("runtimeConfig", json!([])),
            ("delegateTimeout", json!(0)),
            ("delegateTimeout", json!("2 s")),
            ("delegates", json!([{ "type": "main", "masterplugin": "yes" }])),
            ("delegates", json!([{ "type": "main", "masterplugin": true }, { "type": "main", "masterplugin": true }])),
            ("retryDeleteOnError", json!(1)),
            ("auxiliaryCNIChainName", json!("../x")),
            ("always_use_default", json!(1)),
            ("logFile", json!(1)),
            ("logLevel", json!(7)),
            ("logToStderr", json!("no")),
            ("logOptions", json!({ "maxSize": "big" })),
        ] {
            let mut config = node.config().clone();
            if field == "delegates" && value == json!([]) {
                config["kubeconfig"] = Value::Null;
            }
            config[field] = value.clone();
            let name = format!("p{}", node.api.list("/api/v1/pods").len());
            let error = node.plain_pod(&name).call("ADD").config(&config).run().error();
            assert!(matches!(error.code, 6 | 7), "{field}={value}: {error:?}");
        }
        assert!(node.calls().is_empty(), "{:?}", node.calls());
    }

    fn missing_arguments_of_the_runtime_are_named(node) {
        let pod = node.plain_pod("p");
        let error = pod.call("ADD").env("CNI_ARGS", "IgnoreUnknown=1").run().error();
        assert_eq!(error.code, 4);
        assert!(error.text().contains("K8S_POD_NAMESPACE") && error.text().contains("K8S_POD_NAME"), "{error:?}");
    }
}
