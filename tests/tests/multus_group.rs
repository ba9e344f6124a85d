//! Deleting all interfaces of a pod with one message.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::{Node, Plugins, bridge, requirement};
use serde_json::{Value, json};

const GATHERED: &str = "interfaces were deleted with one message";

/// Adds and deletes a pod of three networks, the last with `last`, which makes an interface of its own in
/// between; returns multus' log.
fn log_of_a_life(plugins: Plugins, last: &Value) -> String {
    let mut node = Node::new(plugins);
    node.configure("delegates", json!([bridge("default-net", "10.244.0.0/24")]));
    node.configure("logLevel", json!("debug"));
    node.configure("logFile", json!("/run/multus.log"));
    node.definition("a", &bridge("net-a", "10.1.0.0/24"));
    node.definition("last", last);
    let pod = node.pod("p", "a,last");
    pod.add().succeeds();
    // In a group of its own making: it must not go with ours.
    pod.container.sh("ip link add own0 type veth peer name own1 && ip link set own0 group 7305315");
    pod.del().succeeds();
    pod.container.sh("ip link show own0");
    for interface in ["eth0", "net1", "net2"] {
        pod.container.sh(&format!("! ip link show {interface} 2>/dev/null"));
    }
    for network in ["default-net", "net-a"] {
        assert!(node.host.reservations_in(&format!("/var/lib/cni/networks/{network}")).is_empty());
    }
    node.read("/run/multus.log")
}

#[test]
fn our_own_in_process_go_together() {
    if requirement::met("our_own_in_process_go_together", &[]) {
        let log = log_of_a_life(Plugins::Multicall, &bridge("net-b", "10.2.0.0/24"));
        assert!(log.contains(&format!("3 {GATHERED}")), "{log}");
    }
}

#[test]
fn beside_a_chain_all_are_left_to_their_plugins() {
    if requirement::met("beside_a_chain_all_are_left_to_their_plugins", &[]) {
        let chain = json!({
            "cniVersion": "1.0.0", "name": "net-b",
            "plugins": [{ "type": "bridge", "bridge": "net-b" }, { "type": "passthru" }],
        });
        let log = log_of_a_life(Plugins::Multicall, &chain);
        assert!(!log.contains(GATHERED), "{log}");
    }
}

#[test]
fn other_programs_delete_their_own() {
    if requirement::met("other_programs_delete_their_own", &[]) {
        let log = log_of_a_life(Plugins::Separate, &bridge("net-b", "10.2.0.0/24"));
        assert!(!log.contains(GATHERED), "{log}");
    }
}
