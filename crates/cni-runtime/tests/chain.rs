//! Chains of plugins that are shell scripts: the order of calls, and their parameters.

#![allow(clippy::unwrap_used)] // helpers of tests are no tests to clippy

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni_core::request::ExecOptions;
use cni_core::spec::{Attachment, CniArgs, Code};
use cni_runtime::{CapabilityArgs, Inherited, Invocation, NetworkConf, ResultCache, Runtime};
use serde_json::{Value, json};

/// A folder with plugins that note their calls, and a runtime that finds them.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        Node { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A plugin that notes its call and input, runs `then`, and answers an ADD with
    /// an interface of its name.
    fn plugin(&self, name: &str, then: &str) {
        let folder = self.folder.path().display();
        let script = format!(
            r#"#!/bin/sh
echo "$CNI_COMMAND {name} $CNI_IFNAME" >> {folder}/calls
cat > "{folder}/$CNI_COMMAND.{name}.json"
{then}
[ "$CNI_COMMAND" != ADD ] || echo '{{"cniVersion":"1.1.0","interfaces":[{{"name":"{name}"}}]}}'
"#
        );
        let file = self.path(name);
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn runtime(&self) -> Runtime {
        Runtime {
            path: vec![self.folder.path().to_owned()],
            cache: ResultCache::new(self.path("results")),
            plugins: &[],
            exec: ExecOptions { time_limit: Some(Duration::from_secs(20)), name_stderr: true },
            netns_override: false,
        }
    }

    /// The calls since the last call of this function.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        calls.lines().map(|call| call.trim_end().to_owned()).collect()
    }

    fn input(&self, call: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(&format!("{call}.json"))).unwrap()).unwrap()
    }
}

fn network(extra: &str) -> NetworkConf {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"net",{extra}"plugins":[{{"type":"a"}},{{"type":"b","capabilities":{{"mac":true}}}}]}}"#
    );
    NetworkConf::parse(text.as_bytes(), "it", &Inherited::default()).unwrap()
}

fn attachment(container: &str) -> Attachment {
    Attachment { container_id: container.parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

fn invocation(container: &str) -> Invocation {
    Invocation {
        attachment: attachment(container),
        netns: Some("/run/netns/x".into()),
        args: CniArgs::parse("IgnoreUnknown=1").unwrap(),
        capability_args: CapabilityArgs::from([("mac".to_owned(), json!("m"))]),
    }
}

fn ab() -> Node {
    let node = Node::new();
    node.plugin("a", "");
    node.plugin("b", "");
    node
}

#[test]
fn add_goes_forth_and_del_goes_back_with_the_last_result() {
    let node = ab();
    let (network, one) = (network(""), invocation("one"));
    let result = node.runtime().add(&network, &one).unwrap();
    assert_eq!(result.interfaces[0].name, "b");
    assert_eq!(node.calls(), ["ADD a eth0", "ADD b eth0"]);
    assert_eq!(node.input("ADD.a").get("prevResult"), None);
    assert_eq!(node.input("ADD.b")["prevResult"]["interfaces"][0]["name"], "a");
    assert_eq!(node.input("ADD.b")["runtimeConfig"], json!({"mac": "m"}));
    assert_eq!(node.input("ADD.a").get("runtimeConfig"), None);

    node.runtime().check(&network, &one).unwrap();
    assert_eq!(node.calls(), ["CHECK a eth0", "CHECK b eth0"]);
    assert_eq!(node.input("CHECK.a")["prevResult"]["interfaces"][0]["name"], "b");

    node.runtime().del(&network, &one).unwrap();
    assert_eq!(node.calls(), ["DEL b eth0", "DEL a eth0"]);
    assert_eq!(node.input("DEL.a")["prevResult"]["interfaces"][0]["name"], "b");
    assert_eq!(fs::read_dir(node.path("results")).unwrap().count(), 0);
}

#[test]
fn a_failing_add_takes_down_what_was_made() {
    let node = ab();
    node.plugin(
        "b",
        r#"[ $CNI_COMMAND != ADD ] || { echo '{"code":11,"msg":"later","details":"d"}'; exit 1; }"#,
    );
    let error = node.runtime().add(&network(""), &invocation("one")).unwrap_err();
    assert_eq!(error.code(), Code::TRY_AGAIN);
    assert_eq!(error.to_string(), "plugin b of network net: later; d");
    assert_eq!(node.calls(), ["ADD a eth0", "ADD b eth0", "DEL b eth0", "DEL a eth0"]);
    assert!(!node.path("results/net-one-eth0").exists());
}

#[test]
fn a_plugin_that_cannot_take_back_keeps_no_other_from_it() {
    let node = ab();
    node.plugin("b", "exit 1");
    node.runtime().add(&network(""), &invocation("one")).unwrap_err();
    assert_eq!(node.calls(), ["ADD a eth0", "ADD b eth0", "DEL b eth0", "DEL a eth0"]);
    fs::remove_file(node.path("b")).unwrap();
    let error = node.runtime().add(&network(""), &invocation("one")).unwrap_err();
    assert!(error.msg().contains("\"b\" is installed"), "{error}");
    assert_eq!(node.calls(), ["ADD a eth0", "DEL a eth0"]);
}

#[test]
fn a_del_that_fails_halts_and_can_be_repeated() {
    let node = ab();
    node.runtime().add(&network(""), &invocation("one")).unwrap();
    node.plugin("b", "[ $CNI_COMMAND != DEL ] || exit 1");
    node.calls();
    node.runtime().del(&network(""), &invocation("one")).unwrap_err();
    assert_eq!(node.calls(), ["DEL b eth0"]);
    assert!(node.path("results/net-one-eth0").exists());
}

#[test]
fn gc_deletes_what_is_not_valid_and_tells_every_plugin_what_is() {
    let node = ab();
    for container in ["one", "two"] {
        node.runtime().add(&network(""), &invocation(container)).unwrap();
    }
    node.calls();
    node.plugin("a", "[ $CNI_COMMAND != GC ] || exit 1");
    let error = node.runtime().gc(&network(""), &[attachment("two")]).unwrap_err();
    assert!(error.msg().contains("plugin a"), "{error}");
    assert_eq!(node.calls(), ["DEL b eth0", "DEL a eth0", "GC a", "GC b"]);
    let valid = json!([{"containerID": "two", "ifname": "eth0"}]);
    assert_eq!(node.input("GC.b")["cni.dev/valid-attachments"], valid);
    assert!(!node.path("results/net-one-eth0").exists() && node.path("results/net-two-eth0").exists());

    node.runtime().gc(&network(r#""disableGC":true,"#), &[]).unwrap();
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn the_namespace_of_a_container_that_is_gone_is_used_only_where_it_can_be_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, link) = (folder.path().join("kept"), folder.path().join("link"));
    fs::write(&kept, "").unwrap();
    std::os::unix::fs::symlink("/proc/1/ns/net", &link).unwrap();
    let through_a_process = Path::new("/proc/self/root").join(kept.strip_prefix("/").unwrap());
    let of_gone =
        |path: &Path| Invocation { netns: Some(path.to_owned()), ..invocation("one") }.of_gone().netns;
    assert_eq!(of_gone(&kept), Some(kept.clone()));
    for path in [
        &link,
        &through_a_process,
        Path::new("/proc/1/ns/net"),
        Path::new("/proc/thread-self/ns/net"),
        Path::new("/nonexistent"),
    ] {
        assert_eq!(of_gone(path), None, "{}", path.display());
    }
}

#[test]
fn check_and_status_follow_the_version_and_the_flags() {
    let node = ab();
    let runtime = node.runtime();
    runtime.check(&network(r#""disableCheck":true,"#), &invocation("one")).unwrap();
    let old =
        NetworkConf::parse(br#"{"cniVersion":"0.3.1","name":"net","type":"a"}"#, "it", &Inherited::default());
    let old = old.unwrap();
    assert_eq!(runtime.check(&old, &invocation("one")).unwrap_err().code(), Code::INCOMPATIBLE_VERSION);
    runtime.status(&old).unwrap();
    assert_eq!(node.calls(), [""; 0]);
    node.plugin("a", r#"echo '{"code":50,"msg":"down"}'; exit 1"#);
    assert_eq!(runtime.status(&network("")).unwrap_err().code(), Code::UNAVAILABLE);
    assert_eq!(node.calls(), ["STATUS a"]);
}

#[test]
fn a_plugin_that_hangs_does_not_hold_the_chain() {
    let node = ab();
    node.plugin("b", "[ $CNI_COMMAND != ADD ] || sleep 60");
    let mut runtime = node.runtime();
    runtime.exec.time_limit = Some(Duration::from_millis(300));
    let started = Instant::now();
    let error = runtime.add(&network(""), &invocation("one")).unwrap_err();
    assert!(error.msg().contains("did not end within"), "{error}");
    assert_eq!(node.calls().last().unwrap(), "DEL a eth0");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_a_plugin_says_on_standard_error_has_its_name_in_front() {
    if std::env::var_os("CNI_RUNTIME_TEST_CHATTER").is_some() {
        let node = ab();
        node.plugin("b", "printf 'one\\ntwo' >&2");
        node.runtime().add(&network(""), &invocation("one")).unwrap();
        return;
    }
    let own = std::env::current_exe().unwrap();
    let name = "what_a_plugin_says_on_standard_error_has_its_name_in_front";
    let output = std::process::Command::new(Path::new(&own))
        .args(["--exact", name, "--nocapture"])
        .env("CNI_RUNTIME_TEST_CHATTER", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("b: one\nb: two\n"), "{stderr}");
}
