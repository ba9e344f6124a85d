//! What a swap of the Go program for this one must not change, and what it must.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::time::{Duration, Instant};

use oxcni_tests::apiserver::{Fault, Role};
use oxcni_tests::on_scripted_node;
use serde_json::{Value, json};

const CACHE: &str = "/var/lib/cni/multus";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

on_scripted_node! {
    fn a_definition_without_a_version_has_none(node) {
        node.script("a", r#"[ $CNI_COMMAND = ADD ] && echo '{"ip4":{"ip":"10.9.0.1/24"}}' && exit"#);
        node.definition("a", &json!({ "name": "a", "type": "a" }));
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        assert_eq!(node.config_of("a", "ADD", "net1")["cniVersion"], "0.1.0");
        assert_eq!(node.config_of("main", "ADD", "eth0")["cniVersion"], "1.0.0");
        pod.del().succeeds();
        assert_eq!(node.config_of("a", "DEL", "net1")["cniVersion"], "0.1.0");
    }

    fn the_trace_reaches_delegates_log_lines_and_errors(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logLevel", json!("verbose"));
        node.script("main", r#"printf '%s %s %s' "$TRACEPARENT" "$TRACESTATE" "$BAGGAGE" > /run/trace"#);
        let pod = node.plain_pod("p");
        pod.call("ADD").env("TRACEPARENT", TRACE).env("TRACESTATE", "a=b").env("BAGGAGE", "c=d").run().succeeds();
        assert_eq!(node.read("/run/trace"), format!("{TRACE} a=b c=d"));
        let named = "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7";
        let log = node.read("/run/log/multus.log");
        assert!(!log.is_empty() && log.lines().all(|line| line.contains(named)), "{log}");
        let error = node.pod("q", "missing").call("ADD").env("TRACEPARENT", TRACE).run().error();
        assert!(error.text().contains(named), "{error:?}");
    }

    fn every_log_line_names_the_pod(node) {
        node.configure("logFile", json!("/run/log/multus.log"));
        node.configure("logLevel", json!("debug"));
        node.scripted("a", "");
        let pod = node.pod("p", "a");
        let result = pod.add().result();
        pod.check(&result).succeeds();
        pod.del().succeeds();
        let log = node.read("/run/log/multus.log");
        assert!(log.lines().count() >= 4 && log.lines().all(|line| line.contains("] [default:p:")), "{log}");
    }

    fn equal_events_are_one_with_a_count(node) {
        node.give_role(Role::MicroShift);
        node.scripted("a", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","code":7,"msg":"broken"}' && exit 1"#);
        let pod = node.pod("p", "a");
        for _ in 0..3 {
            assert!(!pod.add().ok());
        }
        let events = node.api.list("/api/v1/events");
        assert_eq!((events.len(), &events[0]["count"]), (1, &json!(3)), "{events:?}");
    }

    fn equal_events_are_posted_one_by_one_where_the_role_allows_no_change(node) {
        node.scripted("a", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","code":7,"msg":"broken"}' && exit 1"#);
        let pod = node.pod("p", "a");
        for _ in 0..2 {
            assert!(!pod.add().ok());
        }
        assert_eq!(pod.events().len(), 2);
    }

    fn an_error_names_no_definitions_of_another_namespace_and_quotes_none(node) {
        node.give_role(Role::Admin);
        node.definition("other/secret-name", &json!({ "type": "a" }));
        node.definition_text("other/broken", r#"{ "token": "s3cret", oops }"#);
        let text = node.pod("p", "other/missing").add().error().text();
        assert!(text.contains("missing") && !text.contains("secret-name"), "{text}");
        let pod = node.pod("q", "other/broken");
        let text = pod.add().error().text();
        assert!(text.contains("other/broken") && !text.contains("s3cret"), "{text}");
        assert!(pod.events().iter().all(|event| !event.contains("s3cret")), "{:?}", pod.events());
        node.definition("default/near", &json!({ "type": "a" }));
        let text = node.pod("r", "missing").add().error().text();
        assert!(text.contains("near"), "{text}");
    }

    fn an_unknown_log_level_stops_no_pod(node) {
        node.configure("logLevel", json!("loud"));
        let outcome = node.plain_pod("p").add();
        outcome.succeeds();
        assert!(outcome.stderr.contains("loud"), "{outcome}");
    }

    fn an_annotation_of_another_tool_stops_no_pod(node) {
        for (number, value) in ["a,,b", "{\"x\": 1}", "no-such-network", "A"].into_iter().enumerate() {
            let pod = node.annotated_pod("default", &format!("p{number}"), &json!({ "networks": value }));
            pod.add().succeeds();
            assert_eq!(pod.interfaces(), ["eth0"], "{value}");
        }
    }

    fn a_broken_file_of_the_auxiliary_chain_stops_no_pod(node) {
        node.write("/run/net.d/10-main.conf", r#"{"cniVersion":"1.0.0","name":"main","type":"main"}"#);
        node.write("/run/net.d/more/10-a.conf", "{");
        node.configure("clusterNetwork", json!("/run/net.d/10-main.conf"));
        node.configure("auxiliaryCNIChainName", json!("more"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        pod.del().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "DEL eth0 main"]);
    }

    fn an_empty_list_of_ports_keeps_the_runtimes_ports_off_a_network(node) {
        node.script("a", "");
        let capability = json!({ "portMappings": true });
        node.definition("a", &json!({ "cniVersion": "1.0.0", "name": "a", "type": "a", "capabilities": capability }));
        node.configure("capabilities", capability);
        node.configure("runtimeConfig", json!({ "portMappings": [{ "hostPort": 80, "containerPort": 80 }] }));
        node.pod("p", "a").add().succeeds();
        assert!(node.config_of("a", "ADD", "net1")["runtimeConfig"]["portMappings"].is_array());
        node.pod("q", r#"[{"name":"a","portMappings":[]}]"#).add().succeeds();
        assert_eq!(node.config_of("a", "ADD", "net1")["runtimeConfig"]["portMappings"], Value::Null);
    }

    fn a_result_without_interfaces_has_no_entry_in_the_status(node) {
        node.scripted("a", r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.5.5.5/24"}]}' && exit"#);
        let pod = node.pod("p", "a");
        pod.add().succeeds();
        assert_eq!(pod.interfaces(), ["eth0"]);
    }

    fn gc_with_null_as_the_list_collects_all(node) {
        node.configure("cniVersion", json!("1.1.0"));
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        node.hostwide("GC", &json!({ "cni.dev/valid-attachments": null })).succeeds();
        assert!(!node.host.path(&format!("{CACHE}/{}", pod.container.id())).exists());
    }

    fn without_any_cache_del_asks_the_cluster_for_the_networks_of_the_pod(node) {
        node.scripted("a", "");
        let pod = node.pod("p", "a@eth5");
        pod.add().succeeds();
        node.host.sh(&format!("rm -rf {CACHE}"));
        node.forget_calls();
        pod.del().succeeds();
        assert_eq!(node.calls(), ["DEL eth5 a", "DEL eth0 main"]);
    }

    fn without_any_cache_del_waits_two_seconds_for_the_cluster(node) {
        let pod = node.plain_pod("p");
        pod.add().succeeds();
        node.host.sh(&format!("rm -rf {CACHE}"));
        node.forget_calls();
        node.api.fault("", "", usize::MAX, Fault::Silent);
        let before = Instant::now();
        pod.del().succeeds();
        assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
        assert_eq!(node.calls(), ["DEL eth0 main"]);
    }
}
