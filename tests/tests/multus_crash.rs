//! SIGKILL at many points of multus' ADD and DEL, and what remains after a DEL.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use oxcni_tests::{Node, Pod, bridge, cases, kill_at_syscall, on_node};
use serde_json::json;

fn prepare(node: &mut Node) -> String {
    node.configure("delegates", json!([bridge("default-net", "10.244.0.0/24")]));
    node.definition("a", &bridge("net-a", "10.1.0.0/24"));
    node.definition("b", &bridge("net-b", "10.2.0.0/24"));
    let pod = node.pod("p", "a,b");
    node.api.object(&pod.path())["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn nothing_is_left(node: &Node, pod: &Pod<'_>, when: &str) {
    assert_eq!(pod.container.sh("ip -br link | wc -l").trim(), "1", "{when}: links in the container");
    let links: Vec<_> = node.host.links().into_iter().filter(|link| link.starts_with("veth")).collect();
    assert!(links.is_empty(), "{when}: {links:?}");
    for network in ["default-net", "net-a", "net-b"] {
        let held = node.host.reservations_in(&format!("/var/lib/cni/networks/{network}"));
        assert!(held.is_empty(), "{when}: {network}: {held:?}");
    }
    let kept = node.host.sh(&format!("find /var/lib/cni/multus -name '*{}*'", pod.container.id()));
    assert_eq!(kept, "", "{when}");
}

/// The stops at which to kill, of `length`: never the same part of a sequence twice.
fn stops(length: u64, points: u32) -> impl Iterator<Item = u64> {
    (1..length).step_by(usize::try_from((length / u64::from(cases(points))).max(1)).unwrap())
}

on_node! {
    fn a_killed_add_leaves_nothing_after_del(node) {
        let uid = prepare(&mut node);
        let whole = node.sandbox("default", "p", &uid);
        let (length, status) = kill_at_syscall(&whole.call("ADD"), u64::MAX);
        assert!(status.success(), "ADD fails under a tracer: {status}");
        whole.del().succeeds();
        nothing_is_left(&node, &whole, "not killed at all");
        for stop in stops(length, 40) {
            let pod = node.sandbox("default", "p", &uid);
            kill_at_syscall(&pod.call("ADD"), stop);
            pod.del().succeeds();
            nothing_is_left(&node, &pod, &format!("ADD killed at {stop} of {length}"));
        }
    }

    fn a_killed_del_is_finished_by_the_next(node) {
        let uid = prepare(&mut node);
        let whole = node.sandbox("default", "p", &uid);
        whole.add().succeeds();
        let (length, status) = kill_at_syscall(&whole.call("DEL"), u64::MAX);
        assert!(status.success(), "DEL fails under a tracer: {status}");
        for stop in stops(length, 40) {
            let pod = node.sandbox("default", "p", &uid);
            pod.add().succeeds();
            kill_at_syscall(&pod.call("DEL"), stop);
            pod.del().succeeds();
            nothing_is_left(&node, &pod, &format!("DEL killed at {stop} of {length}"));
        }
    }
}
