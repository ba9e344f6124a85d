//! Delegates that fail, hang, crash or print garbage, and delegates of a third party.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::time::{Duration, Instant};

use oxcni_tests::{Node, Plugins, Pod, both_flavours, bridge, on_node, on_scripted_node, requirement};
use serde_json::{Value, json};

/// A failure, as a line of a script, and a part of the error that it leads to.
const FAILURES: [(&str, &str); 6] = [
    (r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"said so","details":"and why"}'; exit 1"#, "said so"),
    ("exit 3", "status: 3"),
    ("exec sleep 1000", "did not end within 2 s"),
    ("kill -9 $$", "signal: 9"),
    ("echo 'no json'; exit 0", "printed no result"),
    ("exit 0", "printed no result"),
];

/// A pod of three networks, the second of which fails at `command` in the given way.
fn pod_with_a_failing_second<'n>(node: &'n Node, name: &str, command: &str, failure: &str) -> Pod<'n> {
    node.script("first", "");
    node.script(
        "main2",
        &format!("[ $CNI_COMMAND = {command} ] && [ ! -e /run/mended ] && {{ {failure}; }}"),
    );
    node.script("third", "");
    for (definition, kind) in [("first", "first"), ("second", "main2"), ("third", "third")] {
        let full = format!("{name}-{definition}");
        node.definition(&full, &json!({ "cniVersion": "1.0.0", "name": definition, "type": kind }));
    }
    node.pod(name, &format!("{name}-first,{name}-second,{name}-third"))
}

on_node! {
    fn a_go_plugin_is_the_default_network(node) {
        if !requirement::met("a_go_plugin_is_the_default_network", &[requirement::Feature::GoPlugins]) {
            return;
        }
        node.configure("binDir", json!("/run/go"));
        node.host.sh("mkdir /run/go && cp /usr/lib/cni/bridge /run/go/go-bridge && cp /usr/lib/cni/host-local /run/go/go-local");
        let ipam = json!({ "type": "go-local", "subnet": "10.244.0.0/24" });
        node.configure("delegates", json!([
            { "cniVersion": "1.0.0", "name": "default-net", "type": "go-bridge", "bridge": "cni9", "isGateway": true, "ipam": ipam },
        ]));
        let ours = json!({ "type": "host-local", "subnet": "10.1.0.0/24" });
        node.definition("a", &json!({ "cniVersion": "1.0.0", "name": "a", "type": "bridge", "bridge": "net-a", "ipam": ours }));
        let (one, two) = (node.pod("one", "a"), node.pod("two", "a"));
        one.add().succeeds();
        let result = two.add().result();
        assert_eq!(result["ips"][0]["address"], "10.244.0.3/24");
        assert!(one.container.reaches("10.244.0.3") && one.container.reaches("10.1.0.3"));
        for pod in [&one, &two] {
            pod.del().succeeds();
            assert_eq!(pod.container.sh("ip -br link | wc -l").trim(), "1");
        }
        for network in ["default-net", "a"] {
            assert!(node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).is_empty());
        }
    }
}

on_node! {
    on_any_kernel: "its time limit in seconds is too short for an emulated processor";

    fn a_lock_that_is_held_is_waited_for_as_long_as_a_delegate_may_take(node) {
        node.configure("delegateTimeout", json!(2));
        node.definition("a", &bridge("net-a", "10.1.0.0/24"));
        let folder = node.host.path("/var/lib/cni/networks/net-a");
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let pod = node.pod("p", "a");
        let before = Instant::now();
        let text = pod.add().error().text();
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
        // In a process of its own it is killed, and can't report what it waited for.
        let word = if node.host.plugins() == Plugins::Multicall { "networks/net-a/lock" } else { "within 2 s" };
        assert!(text.contains(word), "{text}");
        lock.unlock().unwrap();
        pod.del().succeeds();
        pod.add().succeeds();
    }
}

on_scripted_node! {
    fn the_second_of_three_fails_in_add(node) {
        node.configure("delegateTimeout", json!(2));
        for (number, (failure, word)) in FAILURES.into_iter().enumerate() {
            let pod = pod_with_a_failing_second(&node, &format!("p{number}"), "ADD", failure);
            node.forget_calls();
            let before = Instant::now();
            let text = pod.add().error().text();
            assert!(before.elapsed() < Duration::from_secs(20), "{failure}: {:?}", before.elapsed());
            assert!(text.contains(word) && text.contains("second"), "{failure}: {text}");
            assert_eq!(node.calls(), [
                "ADD eth0 main", "ADD net1 first", "ADD net2 main2",
                "DEL net2 main2", "DEL net1 first", "DEL eth0 main",
            ], "{failure}");
            assert!(pod.status_text().is_empty());
            assert!(pod.events().iter().any(|event| event.contains("second")), "{:?}", pod.events());
            pod.del().succeeds();
        }
    }

    fn the_second_of_three_fails_in_del(node) {
        node.configure("delegateTimeout", json!(2));
        // A DEL has no output that could be garbage.
        for (number, (failure, word)) in FAILURES.into_iter().take(4).enumerate() {
            let pod = pod_with_a_failing_second(&node, &format!("p{number}"), "DEL", failure);
            pod.add().succeeds();
            node.forget_calls();
            let before = Instant::now();
            let text = pod.del().error().text();
            assert!(before.elapsed() < Duration::from_secs(20), "{failure}: {:?}", before.elapsed());
            assert!(text.contains(word), "{failure}: {text}");
            assert_eq!(node.calls(), ["DEL net3 third", "DEL net2 main2", "DEL net1 first", "DEL eth0 main"], "{failure}");
        }
    }

    fn what_a_delegate_says_to_people_is_passed_on_under_its_name(node) {
        node.scripted("a", "echo 'a word to people' >&2");
        let outcome = node.pod("p", "a").add();
        outcome.succeeds();
        assert!(outcome.stderr.lines().any(|line| line == "a: a word to people"), "{outcome}");
    }

    fn a_result_in_an_older_version_is_understood(node) {
        for (number, version) in ["0.2.0", "0.3.1", "0.4.0"].into_iter().enumerate() {
            let name = format!("old{number}");
            let first = if version == "0.2.0" {
                r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.9.0.1/24"}}' && exit"#
            } else { "" };
            node.script(&name, first);
            node.definition(&name, &json!({ "cniVersion": version, "name": name, "type": name }));
            let pod = node.pod(&name, &name);
            pod.add().succeeds();
            // A result of 0.2.0 has no interfaces, and the Go program makes no entry of it either.
            let ips = if version == "0.2.0" { Value::Null } else { json!(["10.9.0.1"]) };
            assert_eq!(json!(pod.status())[1]["ips"], ips, "{version}");
            pod.del().succeeds();
        }
    }

    fn a_delegate_of_another_version_than_multus(node) {
        node.configure("cniVersion", json!("0.3.1"));
        let pod = node.plain_pod("p");
        let result = pod.add().result();
        assert_eq!((&result["cniVersion"], &result["ips"][0]["version"]), (&json!("0.3.1"), &json!("4")));
    }
}

both_flavours! {
    /// The links, addresses and routes of a pod of three networks, by either way of calling.
    fn in_process_and_by_exec_give_the_same(_host) {
        let seen = [Plugins::Multicall, Plugins::Separate].map(what_a_pod_gets);
        assert_eq!(seen[0], seen[1]);
    }

    fn in_process_and_by_exec_fail_alike(_host) {
        let seen = [Plugins::Multicall, Plugins::Separate].map(how_a_pod_fails);
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0]["error"].as_str().unwrap().contains("10.2.0.77"), "{}", seen[0]);
    }
}

fn three_networks(plugins: Plugins) -> Node {
    let mut node = Node::new(plugins);
    let bridge = |name: &str, subnet: &str| {
        let mut network = bridge(name, subnet);
        network["isDefaultGateway"] = json!(name == "zero");
        network["capabilities"] = json!({ "ips": true });
        network
    };
    node.configure("delegates", json!([bridge("zero", "10.244.0.0/24")]));
    node.definition("one", &bridge("one", "10.1.0.0/24"));
    node.definition("two", &bridge("two", "fd00:2::/64"));
    node
}

fn what_a_pod_gets(plugins: Plugins) -> Value {
    let node = three_networks(plugins);
    let networks = json!([{ "name": "one", "default-route": ["10.1.0.1"], "mac": "02:00:00:00:00:77" }, { "name": "two" }]);
    let pod = node.pod("p", &networks.to_string());
    let mut result = pod.add().result();
    let mut status = Value::from(pod.status());
    let state = pod.container.sh("ip -br link | sed 's/@[^ ]*//; s/[0-9a-f:]\\{17\\}//' && ip -o addr | grep -v fe80 | sed 's/.*: //; s/valid_lft.*//' && ip route && ip -6 route | grep -v fe80");
    pod.del().succeeds();
    let after = pod.container.sh("ip -br link");
    // MAC addresses and the host's ends of links are random.
    for interface in result["interfaces"].as_array_mut().unwrap() {
        interface["mac"] = Value::Null;
        if interface["sandbox"].is_null() && interface["name"] != "zero" {
            interface["name"] = Value::Null;
        }
    }
    for entry in status.as_array_mut().unwrap() {
        if entry["mac"] != "02:00:00:00:00:77" {
            entry["mac"] = Value::Null;
        }
    }
    json!({ "result": result, "status": status, "state": state, "after": after, "events": pod.events().len() })
}

fn how_a_pod_fails(plugins: Plugins) -> Value {
    let node = three_networks(plugins);
    // An address of another subnet: the second delegate refuses it.
    let networks = json!([{ "name": "one", "ips": ["10.2.0.77/24"] }, { "name": "two" }]);
    let pod = node.pod("p", &networks.to_string());
    let error = pod.add().error();
    let links: Vec<_> = node.host.links().into_iter().filter(|link| link.starts_with("veth")).collect();
    let held: Vec<_> = ["zero", "one", "two"]
        .map(|network| node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).len())
        .into();
    json!({
        "error": error.text(), "code": error.code, "links": links, "held": held,
        "inside": pod.container.sh("ip -br link"), "del": pod.del().ok(),
    })
}
