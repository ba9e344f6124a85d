//! A pod's requests in its annotations, and how they reach its networks.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::apiserver::Role;
use oxcni_tests::on_scripted_node;
use serde_json::json;

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

on_scripted_node! {
    fn a_pod_without_annotations_gets_the_default_network(node) {
        let pod = node.plain_pod("p");
        assert_eq!(pod.add().result()["interfaces"][0]["name"], "eth0");
        assert_eq!(node.calls(), ["ADD eth0 main"]);
        assert_eq!(pod.interfaces(), ["eth0"]);
        assert_eq!(pod.status()[0]["default"], true);
    }

    fn the_short_form_names_namespace_and_interface(node) {
        for name in ["a", "b", "c"] {
            node.script(name, "");
        }
        for name in ["a", "other/b", "c"] {
            let kind = name.rsplit('/').next().unwrap();
            node.definition(name, &json!({ "cniVersion": "1.0.0", "type": kind }));
        }
        let pod = node.pod("p", "a, other/b ,c@eth5");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a", "ADD net2 b", "ADD eth5 c"]);
        let names: Vec<_> = pod.status().iter().map(|entry| entry["name"].clone()).collect();
        assert_eq!(names, ["default-net", "default/a", "other/b", "default/c"]);
    }

    fn an_interface_is_numbered_by_its_place_among_all(node) {
        for name in ["a", "b", "c"] {
            node.scripted(name, "");
        }
        let pod = node.pod("p", "a,b@foo,c");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0", "net1", "foo", "net3"]);
    }

    fn a_network_may_be_named_several_times(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a,a,a@more");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0", "net1", "net2", "more"]);
        pod.del().succeeds();
        let deleted: Vec<_> = node.calls().into_iter().filter(|call| call.starts_with("DEL")).collect();
        assert_eq!(deleted, ["DEL more a", "DEL net2 a", "DEL net1 a", "DEL eth0 main"]);
    }

    fn a_configuration_without_a_name_has_the_definitions(node) {
        node.script("a", "");
        node.definition("net-a", &json!({ "cniVersion": "1.0.0", "type": "a" }));
        node.pod("p", "net-a").add().succeeds();
        assert_eq!(node.config_of("a", "ADD", "net1")["name"], "net-a");
    }

    fn requested_addresses_travel_as_arguments_and_as_runtime_configuration(node) {
        node.script("a", "");
        let capabilities = json!({ "ips": true, "mac": true, "infinibandGUID": true });
        node.definition("a", &json!({ "cniVersion": "1.0.0", "type": "a", "capabilities": capabilities }));
        let networks = json!([{
            "name": "a", "ips": ["10.1.0.5/24", "fd00::5/64"], "mac": "02:00:00:00:00:aa",
            "infiniband-guid": "c2:11:22:33:44:55:66:77",
        }]);
        node.pod("p", &networks.to_string()).add().succeeds();
        let args = node.args_of("a", "ADD", "net1");
        for argument in ["IP=10.1.0.5/24,fd00::5/64", "MAC=02:00:00:00:00:aa", "K8S_POD_NAME=p"] {
            assert!(args.split(';').any(|given| given == argument), "{args}");
        }
        let config = node.config_of("a", "ADD", "net1");
        assert_eq!(config["runtimeConfig"], json!({
            "ips": ["10.1.0.5/24", "fd00::5/64"], "mac": "02:00:00:00:00:aa",
            "infinibandGUID": "c2:11:22:33:44:55:66:77",
        }));
        assert!(!node.args_of("main", "ADD", "eth0").contains("MAC="), "it is requested for net1 alone");
    }

    fn only_declared_capabilities_are_handed_on(node) {
        node.scripted("a", "");
        let networks = json!([{ "name": "a", "ips": ["10.1.0.5/24"], "mac": "02:00:00:00:00:aa" }]);
        node.pod("p", &networks.to_string()).add().succeeds();
        let config = node.config_of("a", "ADD", "net1");
        assert!(config["runtimeConfig"].is_null(), "{config}");
    }

    fn ports_and_bandwidth_are_runtime_configuration(node) {
        node.script("a", "");
        let capabilities = json!({ "portMappings": true, "bandwidth": true });
        node.definition("a", &json!({ "cniVersion": "1.0.0", "type": "a", "capabilities": capabilities }));
        let ports = json!([{ "hostPort": 80, "containerPort": 8080, "protocol": "tcp" }]);
        let bandwidth = json!({ "ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4 });
        let networks = json!([{ "name": "a", "portMappings": ports, "bandwidth": bandwidth }]);
        node.pod("p", &networks.to_string()).add().succeeds();
        let config = node.config_of("a", "ADD", "net1");
        assert_eq!(config["runtimeConfig"], json!({ "portMappings": ports, "bandwidth": bandwidth }));
    }

    fn arguments_for_the_plugin_are_in_args_cni(node) {
        node.script("a", "");
        let args = json!({ "cni": { "kept": 1, "changed": 1 }, "other": 2 });
        node.definition("a", &json!({ "cniVersion": "1.0.0", "type": "a", "args": args }));
        let networks = json!([{ "name": "a", "cni-args": { "changed": [2], "new": { "x": 3 } } }]);
        node.pod("p", &networks.to_string()).add().succeeds();
        let args = node.config_of("a", "ADD", "net1")["args"].clone();
        assert_eq!(args, json!({ "cni": { "kept": 1, "changed": [2], "new": { "x": 3 } }, "other": 2 }));
    }

    fn a_default_network_of_the_pods_own(node) {
        node.give_role(Role::Upstream);
        node.script("own", "");
        node.definition("kube-system/own", &json!({ "cniVersion": "1.0.0", "type": "own" }));
        node.scripted("a", "");
        let annotations = json!({ "v1.multus-cni.io/default-network": "own", NETWORKS: "a" });
        let pod = node.annotated_pod("default", "p", &annotations);
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 own", "ADD net1 a"]);
        assert_eq!(pod.status()[0]["default"], true);
    }

    fn a_definition_may_be_a_list(node) {
        node.script("a", "");
        node.script("b", "");
        let plugins = json!([{ "type": "a" }, { "type": "b" }]);
        node.definition("list", &json!({ "cniVersion": "1.0.0", "name": "list", "plugins": plugins }));
        let pod = node.pod("p", "list");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a", "ADD net1 b"]);
        assert_eq!(node.config_of("b", "ADD", "net1")["prevResult"]["interfaces"][0]["name"], "net1");
        node.forget_calls();
        pod.del().succeeds();
        assert_eq!(node.calls(), ["DEL net1 b", "DEL net1 a", "DEL eth0 main"]);
    }

    fn a_definition_without_configuration_is_a_file_of_that_name(node) {
        node.script("a", "");
        node.write("/run/multus.d/70-any.conf", r#"{"cniVersion":"1.0.0","name":"on-disk","type":"a"}"#);
        node.api.create(json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": "on-disk" },
        }));
        let pod = node.pod("p", "on-disk");
        pod.add().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a"]);
    }

    fn the_earlier_networks_and_their_annotation(node) {
        node.give_role(Role::Admin);
        node.script("sriov", "");
        node.api.create(json!({
            "apiVersion": "kubernetes-network.cni.cncf.io/v1", "kind": "Network",
            "metadata": { "name": "old" }, "plugin": "sriov",
            "args": r#"[ { "if0": "enp2s0", "vlan": 210 } ]"#,
        }));
        let annotations = json!({ "networks": r#"[ { "name": "old" } ]"# });
        let pod = node.annotated_pod("default", "p", &annotations);
        pod.add().succeeds();
        assert!(node.calls().contains(&"ADD net1 sriov".to_owned()), "{:?}", node.calls());
        let config = node.config_of("sriov", "ADD", "net1");
        assert_eq!((&config["if0"], &config["vlan"]), (&json!("enp2s0"), &json!(210)));
    }

    fn the_earlier_annotation_names_newer_definitions_too(node) {
        node.scripted("a", "");
        for role in [Role::Upstream, Role::Least, Role::Admin] {
            node.give_role(role);
            node.forget_calls();
            let name = format!("p-{role:?}").to_lowercase();
            node.annotated_pod("default", &name, &json!({ "networks": "a" })).add().succeeds();
            assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a"], "{role:?}");
        }
    }

    fn an_annotation_that_is_neither_form_is_refused(node) {
        for networks in ["a b", "a/b/c", "[", r#"{"name":"a"}"#, r#"[{"namespace":"x"}]"#, "../a", "a@bad/if"] {
            let name = format!("p{}", node.api.list("/api/v1/pods").len());
            let pod = node.pod(&name, networks);
            let error = pod.add().error();
            assert!(error.text().contains(NETWORKS), "{networks}: {error:?}");
        }
        assert!(node.calls().is_empty(), "{:?}", node.calls());
    }

    fn an_interface_name_may_be_given_once(node) {
        node.scripted("a", "");
        for networks in ["a@same,a@same", "a@eth0", "a@net2,a"] {
            let name = format!("p{}", node.api.list("/api/v1/pods").len());
            let pod = node.pod(&name, networks);
            let text = pod.add().error().text();
            let twice = networks.split(['@', ',']).nth(1).unwrap();
            assert!(text.contains(twice), "{networks}: {text}");
        }
        assert!(!node.calls().iter().any(|call| call.starts_with("ADD")), "{:?}", node.calls());
    }
}
