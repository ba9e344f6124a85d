//! Faults seeded into ours on purpose: each must be found, or the comparison is blind.

use oxcni_tests::{Call, Node, Plugins, Pod};
use serde_json::json;

/// A multus that does wrong.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// A shell script in the place of ours; `ours` runs it, `$config` is what came in.
    script: &'static str,
    /// What is done to the cluster after ADD.
    spoil: Option<fn(&Node, &Pod<'_>)>,
}

impl Fault {
    /// Puts the script where the node finds it.
    pub(crate) fn install(&self, node: &Node) {
        let ours = Plugins::Multicall.dir().canonicalize().expect("the plugins are built").join("multus");
        let ours = format!("ours() {{ printf '%s' \"$config\" | {}; }}", ours.display());
        let script = format!("#!/bin/sh\nconfig=$(cat)\n{ours}\n{}\n", self.script);
        node.host.install_script("/run/faulty/multus", &script);
    }

    /// The same call, of the faulty program.
    pub(crate) fn behind<'h>(&self, call: Call<'h>) -> Call<'h> {
        call.program("/run/faulty/multus")
    }

    pub(crate) fn after_add(&self, node: &Node, pod: &Pod<'_>) {
        if let Some(spoil) = self.spoil {
            spoil(node, pod);
        }
    }
}

/// Writes the pod's status again, with another text in it.
fn status_with(node: &Node, pod: &Pod<'_>, from: &str, to: &str) {
    let mut object = node.api.object(&pod.path());
    let status = pod.status_text().replace(from, to);
    object["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"] = json!(status);
    node.api.delete(&pod.path());
    node.api.create(object);
}

const fn script(name: &'static str, script: &'static str) -> Fault {
    Fault { name, script, spoil: None }
}

const fn spoilt(name: &'static str, spoil: fn(&Node, &Pod<'_>)) -> Fault {
    Fault { name, script: "ours", spoil: Some(spoil) }
}

pub(crate) const FAULTS: &[Fault] = &[
    script("the result lacks the addresses", r#"ours | sed 's/"ips":\[[^]]*\],*//'"#),
    script("DEL calls no delegate", "[ $CNI_COMMAND != DEL ] || exit 0; ours"),
    script(
        "the cache of delegates is lost",
        "ours; code=$?; rm -f /var/lib/cni/multus/$CNI_CONTAINERID; exit $code",
    ),
    script("the results are not cached", "ours; code=$?; rm -rf /var/lib/cni/multus/results; exit $code"),
    script(
        "the cached result names another interface",
        "ours; code=$?; sed -i 's/\"net1\"/\"net9\"/' /var/lib/cni/multus/results/*; exit $code",
    ),
    script(
        "the networks of the pod are not attached",
        "case $CNI_COMMAND in ADD) CNI_ARGS=IgnoreUnknown=1 ;; esac; ours",
    ),
    script(
        "delegates don't see the capabilities",
        "config=$(printf '%s' \"$config\" | sed 's/\"capabilities\"/\"xapabilities\"/g'); ours",
    ),
    script(
        "the second network of all pods is forgotten",
        "config=$(printf '%s' \"$config\" | sed 's/\"defaultNetworks\"/\"xefaultNetworks\"/'); ours",
    ),
    script(
        "the default route stays where it was",
        "ours; code=$?; [ $CNI_COMMAND != ADD ] || nsenter --net=\"$CNI_NETNS\" ip route del default; exit $code",
    ),
    script(
        "a delegate is called twice",
        "ours; code=$?; [ ! -e /run/seen ] || { last=$(tail -n 1 /run/seen); printf '%s\\n' \"$last\" >> /run/seen; }; exit $code",
    ),
    spoilt("no network is the default one", |node, pod| {
        status_with(node, pod, r#""default": true"#, r#""default": false"#);
    }),
    spoilt("the status names another interface", |node, pod| status_with(node, pod, "eth0", "eth9")),
    spoilt("the status is lost", |node, pod| {
        let text = pod.status_text();
        status_with(node, pod, &text, "");
    }),
];
