//! Multus works with the files of thin_entrypoint.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oxcni_tests::{Call, Node, Outcome, Plugins, eventually, on_scripted_node};
use serde_json::{Value, json};

/// The flags of a container whose `/host` is the node's `/run`.
const FLAGS: [&str; 8] = [
    "--cni-bin-dir=/run/bin",
    "--cni-conf-dir=/run/net.d",
    "--multus-autoconfig-dir=/run/net.d",
    "--multus-cni-conf-dir=/run/multus.d",
    "--multus-kubeconfig-file-host=/run/net.d/multus.d/multus.kubeconfig",
    "--additional-bin-dir=/run/bin",
    "--service-account-dir=/run/account",
    "--cleanup-config-on-exit",
];

/// Starts the program and waits until it has written `config`.
fn start(node: &Node, config: &str) -> std::process::Child {
    start_behind(node, config, &[])
}

/// The same, with the words of another command before the program.
fn start_behind(node: &Node, config: &str, before: &[&str]) -> std::process::Child {
    node.write("/run/account/token", &format!("{}\n", node.user.token()));
    node.write("/run/account/ca.crt", node.api.authority());
    let multus = node.host.plugins().dir().join("multus");
    let program = Plugins::Separate.dir().join("thin_entrypoint").display().to_string();
    let mut words = before.iter().copied().chain([program.as_str()]);
    let mut call = Call::new(&node.host, "multus").program(words.next().unwrap_or_default());
    for word in words {
        call = call.arg(word);
    }
    let mut call = call
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", &node.api.port().to_string())
        .arg(&format!("--multus-bin-file={}", multus.display()));
    for flag in FLAGS {
        call = call.arg(flag);
    }
    let child = call.start();
    assert!(eventually(|| node.host.path(config).exists()), "no {config}");
    child
}

/// The configuration as a runtime gives it to the one plugin of a list.
fn of_list(text: &str) -> Value {
    let list: Value = serde_json::from_str(text).unwrap();
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = list["cniVersion"].clone();
    config
}

on_scripted_node! {
    fn a_pod_is_attached_with_the_files_of_thin_entrypoint(node) {
        node.write("/run/net.d/10-default.conf", r#"{"cniVersion":"1.0.0","name":"default-net","type":"main"}"#);
        node.scripted("a", "");
        let entrypoint = start(&node, "/run/net.d/00-multus.conflist");
        let config = of_list(&node.read("/run/net.d/00-multus.conflist"));
        let pod = node.pod("p", "a");
        pod.call("ADD").program("/run/bin/multus").config(&config).run().succeeds();
        assert_eq!(node.calls(), ["ADD eth0 main", "ADD net1 a"]);
        assert_eq!(pod.interfaces(), ["eth0", "net1"]);
        pod.call("DEL").program("/run/bin/multus").config(&config).run().succeeds();
        kill(Pid::from_raw(entrypoint.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        Outcome::of(entrypoint, "thin_entrypoint").succeeds();
        assert!(!node.host.path("/run/net.d/00-multus.conflist").exists());
    }

    fn modes_do_not_depend_on_the_umask(node) {
        node.write("/run/net.d/10-default.conf", r#"{"cniVersion":"1.0.0","name":"default-net","type":"main"}"#);
        let open = ["sh", "-ec", "umask 0; exec \"$@\"", "sh"];
        let entrypoint = start_behind(&node, "/run/net.d/00-multus.conflist", &open);
        let modes = node.host.sh(
            "cd /run; stat -c '%a %n' multus.d net.d/multus.d net.d/multus.d/multus.kubeconfig net.d/00-multus.conflist",
        );
        let expected = [
            "755 multus.d", "755 net.d/multus.d", "600 net.d/multus.d/multus.kubeconfig", "600 net.d/00-multus.conflist",
        ];
        assert_eq!(modes.lines().collect::<Vec<_>>(), expected);
        kill(Pid::from_raw(entrypoint.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        Outcome::of(entrypoint, "thin_entrypoint").succeeds();
    }

    fn up_to_0_4_0_it_is_no_list(node) {
        node.write("/run/net.d/10-default.conf", r#"{"cniVersion":"0.4.0","name":"default-net","type":"main"}"#);
        let entrypoint = start(&node, "/run/net.d/00-multus.conf");
        let config: Value = serde_json::from_str(&node.read("/run/net.d/00-multus.conf")).unwrap();
        let pod = node.plain_pod("p");
        let result = pod.call("ADD").program("/run/bin/multus").config(&config).run().result();
        assert_eq!((&result["cniVersion"], &result["ips"][0]["version"]), (&json!("0.4.0"), &json!("4")));
        kill(Pid::from_raw(entrypoint.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        Outcome::of(entrypoint, "thin_entrypoint").succeeds();
    }

    fn changes_are_followed_where_inotify_is_used_up(node) {
        node.write("/run/net.d/10-default.conf", r#"{"cniVersion":"1.0.0","name":"default-net","type":"main"}"#);
        let without = ["unshare", "-Ur", "sh", "-ec", "echo 0 > /proc/sys/user/max_inotify_instances; exec \"$@\"", "sh"];
        let entrypoint = start_behind(&node, "/run/net.d/00-multus.conflist", &without);
        let has = |file: &str, text: &str| eventually(|| node.read(file).contains(text));
        node.write("/run/net.d/10-default.conf", r#"{"cniVersion":"1.0.0","name":"default-net","type":"changed"}"#);
        assert!(has("/run/net.d/00-multus.conflist", "changed"));
        node.write("/run/account/token", "another-token");
        assert!(has("/run/net.d/multus.d/multus.kubeconfig", "another-token"));
        kill(Pid::from_raw(entrypoint.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let outcome = Outcome::of(entrypoint, "thin_entrypoint");
        assert!(outcome.succeeds().stderr.contains("inotify is used up"), "{outcome}");
    }
}
