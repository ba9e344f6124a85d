//! oxcni-multus-config configures multus on a node without a pod.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oxcni_tests::apiserver::{ApiServer, Fault, Proof, Role, Trust};
use oxcni_tests::{Call, Node, Outcome, Plugins, eventually, requirement};
use serde_json::{Value, json};

const TOKENS: &str = "/api/v1/namespaces/oxcni-multus/serviceaccounts/multus/token";
const DEFAULT_NETWORK: &str = "/run/net.d/10-ovn-kubernetes.conf";
const CONFIG: &str = "/run/net.d/00-multus.conflist";
const KUBECONFIG: &str = "/run/net.d/multus.d/multus.kubeconfig";
/// The multicall program under the name.
const PROGRAM: &str = "/run/oxcni-multus-config";

/// What the package without pods may need, where MicroShift's two pods request 130 MiB.
const IDLE_KIB: u64 = 12 * 1024;

/// Runs a test on a node with the account of multus in its cluster. The program is in the multicall
/// binary alone.
macro_rules! on_node_without_pods {
    ($( fn $name:ident($node:ident) $body:block )*) => {$(
        #[test]
        fn $name() {
            let reason = "its delegates are scripts";
            if requirement::met_on_any_kernel(concat!(module_path!(), "::", stringify!($name)), &[], reason) {
                let $node = prepared();
                $body
            }
        }
    )*};
}

fn prepared() -> Node {
    let node = Node::new(Plugins::Multicall);
    node.host.sh("mkdir -p /run/net.d");
    symlink(Plugins::Multicall.dir().join("oxcni"), node.host.path(PROGRAM)).unwrap();
    node.api.user("system:serviceaccount:oxcni-multus:multus", Role::Least);
    create_account(&node.api);
    let admin = node.api.user("kubeadmin", Role::Admin);
    node.write("/run/admin", &node.api.kubeconfig(&admin, &Proof::Certificate, Trust::Authority));
    node
}

fn create_account(api: &ApiServer) {
    let metadata = json!({ "name": "multus", "namespace": "oxcni-multus" });
    api.create(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }));
}

fn program<'n>(node: &'n Node, arguments: &[&str]) -> Call<'n> {
    let default_network = format!("--default-network={DEFAULT_NETWORK}");
    let all = ["--kubeconfig=/run/admin", "--cni-conf-dir=/run/net.d", &default_network];
    all.iter()
        .chain(arguments)
        .fold(Call::new(&node.host, "multus").program(PROGRAM), |call, argument| call.arg(argument))
}

fn stop(running: Child) -> String {
    kill(Pid::from_raw(running.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let outcome = Outcome::of(running, "oxcni-multus-config");
    outcome.succeeds();
    outcome.to_string()
}

fn set_default_network(node: &Node, version: &str, name: &str) {
    let text = json!({ "cniVersion": version, "name": name, "type": "main" }).to_string();
    node.write("/run/new", &text);
    node.host.sh(&format!("mv /run/new {DEFAULT_NETWORK}"));
}

fn exists(node: &Node, path: &str) -> bool {
    node.host.path(path).exists()
}

/// Waits until the configuration of multus wraps the default network of this name.
fn wraps(node: &Node, name: &str) -> Value {
    let read = || std::fs::read_to_string(node.host.path(CONFIG)).unwrap_or_default();
    assert!(eventually(|| read().contains(&format!(r#""name":"{name}""#))), "{}", read());
    serde_json::from_str(&read()).unwrap()
}

fn token(node: &Node) -> String {
    let text = std::fs::read(node.host.path(KUBECONFIG)).unwrap_or_default();
    let config: Value = serde_json::from_slice(&text).unwrap_or_default();
    config["users"][0]["user"]["token"].as_str().unwrap_or_default().to_owned()
}

/// The configuration as a runtime gives it to the one plugin of a list.
fn of_list(list: &Value) -> Value {
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = list["cniVersion"].clone();
    config["binDir"] = json!("/run/bin");
    config
}

fn hostwide(node: &Node, command: &str, config: &Value) -> Outcome {
    Call::new(&node.host, "multus").env("CNI_COMMAND", command).config(config).run()
}

on_node_without_pods! {
    fn a_default_network_of_0_4_0_gets_a_multus_of_1_1_0(node) {
        set_default_network(&node, "0.4.0", "ovn");
        node.scripted("a", "");
        let running = program(&node, &[]).start();
        let list = wraps(&node, "ovn");
        assert_eq!((&list["cniVersion"], &list["name"]), (&json!("1.1.0"), &json!("multus-cni-network")));
        assert_eq!(list["plugins"][0]["delegates"][0]["cniVersion"], "0.4.0");
        for file in [CONFIG, KUBECONFIG] {
            assert_eq!(node.host.path(file).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        }
        let config = of_list(&list);
        let pod = node.pod("p", "a");
        let result = pod.call("ADD").config(&config).run().result();
        assert_eq!(result["cniVersion"], "1.1.0");
        assert_eq!(pod.interfaces(), ["eth0", "net1"]);
        hostwide(&node, "STATUS", &config).succeeds();
        let mut collect = config.clone();
        collect["cni.dev/valid-attachments"] = json!([]);
        hostwide(&node, "GC", &collect).succeeds();
        assert_eq!(node.calls().iter().filter(|call| call.starts_with("DEL")).count(), 2, "{:?}", node.calls());
        stop(running);
        assert!(exists(&node, CONFIG) && exists(&node, KUBECONFIG), "a service that stops leaves its files");
    }

    fn the_token_is_renewed_before_it_ends_and_never_printed(node) {
        set_default_network(&node, "1.0.0", "ovn");
        let running = program(&node, &["--token-lifetime=4"]).start();
        assert!(eventually(|| token(&node).contains("issued-token-1-")));
        node.api.wait_for(3, "POST", TOKENS);
        assert!(eventually(|| token(&node).contains("issued-token-3-")));
        let printed = stop(running);
        assert!(!printed.contains("issued-token"), "{printed}");
    }

    fn an_api_server_that_is_away_is_asked_until_it_answers(node) {
        set_default_network(&node, "1.0.0", "ovn");
        node.api.fault("POST", TOKENS, usize::MAX, Fault::Broken);
        let running = program(&node, &[]).start();
        node.api.wait_for(7, "POST", TOKENS);
        assert!(!exists(&node, KUBECONFIG));
        assert!(!exists(&node, CONFIG), "multus would fail without a kubeconfig");
        node.api.heal();
        wraps(&node, "ovn");
        let printed = stop(running);
        assert!(printed.contains("no token for the service account oxcni-multus/multus"), "{printed}");
    }

    fn a_renewal_that_fails_leaves_the_last_token(node) {
        set_default_network(&node, "1.0.0", "ovn");
        let running = program(&node, &["--token-lifetime=2"]).start();
        assert!(eventually(|| !token(&node).is_empty()));
        node.api.fault("POST", TOKENS, usize::MAX, Fault::Status(403));
        let before = node.api.count("POST", TOKENS);
        node.api.wait_for(before + 2, "POST", TOKENS);
        assert!(!token(&node).is_empty() && exists(&node, CONFIG));
        stop(running);
    }

    fn an_account_that_does_not_exist_yet_is_waited_for(node) {
        node.api.delete("/api/v1/namespaces/oxcni-multus/serviceaccounts/multus");
        set_default_network(&node, "1.0.0", "ovn");
        let running = program(&node, &[]).start();
        node.api.wait_for(2, "POST", TOKENS);
        assert!(!exists(&node, CONFIG));
        create_account(&node.api);
        wraps(&node, "ovn");
        stop(running);
    }

    fn a_default_network_that_comes_late_changes_and_goes_is_followed(node) {
        let running = program(&node, &[]).start();
        assert!(eventually(|| exists(&node, KUBECONFIG)));
        assert!(!exists(&node, CONFIG));
        set_default_network(&node, "0.4.0", "late");
        wraps(&node, "late");
        set_default_network(&node, "1.0.0", "changed");
        let list = wraps(&node, "changed");
        hostwide(&node, "STATUS", &of_list(&list)).succeeds();
        node.write(DEFAULT_NETWORK, "{ broken");
        node.host.sh(&format!("rm {DEFAULT_NETWORK}"));
        assert_eq!(wraps(&node, "changed"), list, "pods wait for the default network's return");
        hostwide(&node, "STATUS", &of_list(&list)).fails(50, &["10-ovn-kubernetes.conf"]);
        set_default_network(&node, "1.0.0", "back");
        wraps(&node, "back");
        stop(running);
    }

    fn another_administrator_gives_another_token_and_deleted_files_come_back(node) {
        set_default_network(&node, "1.0.0", "ovn");
        let running = program(&node, &[]).start();
        wraps(&node, "ovn");
        let first = token(&node);
        let admin = node.api.user("another", Role::Admin);
        node.write("/run/admin", &node.api.kubeconfig(&admin, &Proof::Token, Trust::Authority));
        assert!(eventually(|| !token(&node).is_empty() && token(&node) != first));
        node.host.sh(&format!("rm {CONFIG} {KUBECONFIG}"));
        wraps(&node, "ovn");
        assert!(eventually(|| !token(&node).is_empty()));
        stop(running);
    }

    fn removal_leaves_the_default_network_alone(node) {
        set_default_network(&node, "1.0.0", "ovn");
        let running = program(&node, &[]).start();
        wraps(&node, "ovn");
        stop(running);
        node.write("/run/net.d/00-multus.conf", "of an earlier program");
        for _ in 0..2 {
            program(&node, &["--remove"]).run().succeeds();
            assert_eq!(node.host.sh("ls /run/net.d").trim(), "10-ovn-kubernetes.conf");
        }
    }

    fn it_and_the_dhcp_daemon_need_little_memory_while_they_wait(node) {
        set_default_network(&node, "1.0.0", "ovn");
        let daemon = node.host.dhcp_daemon(&[]);
        let running = program(&node, &[]).start();
        wraps(&node, "ovn");
        let resident = |pid: u32| -> u64 {
            let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = memory.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let sizes = [running.id(), daemon.id()].map(resident);
        assert!(sizes.iter().sum::<u64>() <= IDLE_KIB, "{sizes:?} KiB");
        stop(running);
    }
}
