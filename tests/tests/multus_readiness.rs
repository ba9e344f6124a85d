//! The readiness file, on nodes where inotify reports nothing or is used up.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::process::Child;
use std::time::{Duration, Instant};

use oxcni_tests::{Call, Node, Outcome, eventually, on_scripted_node};
use serde_json::{Value, json};

/// An ADD looks for the file a last time after 45 seconds: what is noticed only then hangs until then.
const NOTICED: Duration = Duration::from_secs(30);

/// Starts an ADD and waits until its process is multus and sleeps.
fn waiting(call: &Call) -> Child {
    let child = call.start();
    let (program, status) = (format!("/proc/{}/exe", child.id()), format!("/proc/{}/status", child.id()));
    assert!(eventually(|| {
        let is_multus = std::fs::read_link(&program).is_ok_and(|path| !path.starts_with("/usr"));
        is_multus && std::fs::read_to_string(&status).is_ok_and(|status| status.contains("S (sleeping)"))
    }));
    child
}

fn alone(node: &mut Node, readiness_file: &str) {
    node.configure("kubeconfig", Value::Null);
    node.configure("readinessindicatorfile", json!(readiness_file));
}

on_scripted_node! {
    fn a_file_behind_a_mount_a_link_or_in_a_replaced_folder_is_noticed(node) {
        for (number, appears) in [
            "mount --bind /run/new /run/way/dir",
            "ln -s /run/new/ready /run/link; ln -s /run/link /run/way/dir/ready",
            "mv /run/way /run/old; mkdir /run/way; mv /run/new /run/way/dir",
            "mount -t tmpfs ready /run/way; mkdir /run/way/dir; touch /run/way/dir/ready",
        ].into_iter().enumerate() {
            node.host.sh("mkdir -p /run/way/dir /run/new; touch /run/new/ready");
            alone(&mut node, "/run/way/dir/ready");
            let pod = node.plain_pod(&format!("p{number}"));
            let child = waiting(&pod.call("ADD"));
            assert!(node.calls().is_empty(), "{appears}");
            let before = Instant::now();
            node.host.sh(appears);
            Outcome::of(child, appears).succeeds();
            assert!(before.elapsed() < NOTICED, "{appears}: {:?}", before.elapsed());
            node.forget_calls();
            node.host.sh("umount /run/way/dir /run/way 2>/dev/null || true; rm -rf /run/way /run/old /run/new /run/link");
        }
    }

    fn a_file_is_noticed_where_inotify_is_used_up(node) {
        alone(&mut node, "/run/network-is-ready");
        let pod = node.plain_pod("p");
        let multus = node.host.plugins().dir().join("multus");
        // The limit is that of a user namespace, so that of the machine stays.
        let script = format!(
            "exec unshare -Urnm sh -ec 'echo 0 > /proc/sys/user/max_inotify_instances
             touch /run/inside; unshare -n sh -ec \"mount --bind /proc/self/ns/net /run/inside\"
             exec {}'",
            multus.display()
        );
        let call = pod.call("ADD").env("CNI_NETNS", "/run/inside").program("/bin/sh").arg("-ec").arg(&script);
        let child = waiting(&call);
        assert!(node.calls().is_empty());
        let before = Instant::now();
        node.write("/run/network-is-ready", "");
        Outcome::of(child, "ADD without inotify").succeeds();
        assert!(before.elapsed() < NOTICED, "{:?}", before.elapsed());
        assert_eq!(node.calls(), ["ADD eth0 main"]);
    }
}
