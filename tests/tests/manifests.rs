//! The manifests for Kubernetes: kustomize builds them, every field is one of the API, and the role has what
//! multus uses.
#![allow(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use oxcni_tests::apiserver::{Request, Role};
use oxcni_tests::{Node, Plugins, requirement};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A verb on a resource of a group.
type Grant = (String, String, String);

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes")
}

fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// What the kubectl that `OXCNI_KUBECTL` names, or `cargo xtask test` fetched, makes of a folder.
fn build(folder: &str) -> Vec<Value> {
    let kubectl = std::env::var_os("OXCNI_KUBECTL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubectl/kubectl/kubectl"),
        PathBuf::from,
    );
    let mut command = Command::new(&kubectl);
    let output = command.arg("kustomize").arg(manifests().join(folder)).output();
    let output = output.unwrap_or_else(|err| panic!("{}: {err} (`cargo xtask test`)", kubectl.display()));
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

/// Fails on a field that the type does not have: reading leaves it out, and writing does not bring it back.
fn is_strictly<T: DeserializeOwned + Serialize>(object: &Value) {
    let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|err| panic!("{err}: {object:#}"));
    assert_eq!(&serde_json::to_value(read).unwrap(), object);
}

fn check(object: &Value) {
    match object["kind"].as_str().unwrap() {
        "Namespace" => is_strictly::<Namespace>(object),
        "ServiceAccount" => is_strictly::<ServiceAccount>(object),
        "ClusterRole" => is_strictly::<ClusterRole>(object),
        "ClusterRoleBinding" => is_strictly::<ClusterRoleBinding>(object),
        "CustomResourceDefinition" => is_strictly::<CustomResourceDefinition>(object),
        "DaemonSet" => is_strictly::<DaemonSet>(object),
        other => panic!("a {other} that no test knows"),
    }
}

fn named<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn every_overlay_is_built_and_has_no_unknown_field() {
    if !requirement::met_on_any_kernel(
        "every_overlay_is_built_and_has_no_unknown_field",
        &[],
        "manifests are files",
    ) {
        return;
    }
    assert_eq!(build("base/access").len(), 5);
    let overlays = fs::read_dir(manifests().join("overlays")).unwrap();
    let mut names: Vec<_> = overlays.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["containerd", "crio", "microshift"]);
    for name in names {
        let objects = build(&format!("overlays/{name}"));
        assert_eq!(objects.len(), 7, "{name}");
        objects.iter().for_each(check);
        for daemon_set in ["multus", "dhcp-daemon"] {
            let pod = &named(&objects, "DaemonSet", daemon_set)["spec"]["template"]["spec"];
            let containers = ["initContainers", "containers"].map(|list| pod[list].as_array().cloned());
            for container in containers.into_iter().flatten().flatten() {
                assert_eq!(container["image"], "localhost/oxcni:latest", "{name}: {daemon_set}");
                assert!(container["resources"]["requests"]["memory"].is_string(), "{name}: {daemon_set}");
                let volumes: Vec<_> =
                    pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
                for mount in container["volumeMounts"].as_array().unwrap() {
                    assert!(volumes.contains(&&mount["name"]), "{name}: {mount}");
                }
            }
        }
    }
    let objects = build("overlays/microshift");
    let pod = &named(&objects, "DaemonSet", "multus")["spec"]["template"]["spec"];
    assert!(
        pod["volumes"].as_array().unwrap().iter().any(|volume| volume["hostPath"]["path"] == "/run/cni/bin")
    );
}

/// What `role.yaml` grants.
fn granted() -> BTreeSet<Grant> {
    let text = fs::read_to_string(manifests().join("base/access/role.yaml")).unwrap();
    let role: Value = serde_saphyr::from_str(&text).unwrap();
    let list =
        |rule: &Value, key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
    let mut grants = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                for verb in list(rule, "verbs") {
                    grants.insert((verb, group.clone(), resource.clone()));
                }
            }
        }
    }
    grants
}

/// What a role must grant for a request on an object or a namespaced list.
fn needed(request: &Request) -> Grant {
    let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let (group, rest) = match path[..] {
        ["api", _, "namespaces", _, ref rest @ ..] => ("", rest),
        ["apis", group, _, "namespaces", _, ref rest @ ..] => (group, rest),
        _ => panic!("{request:?}"),
    };
    let resource = match rest {
        [plural] | [plural, _] => (*plural).to_owned(),
        [plural, _, subresource] => format!("{plural}/{subresource}"),
        _ => panic!("{request:?}"),
    };
    let verb = match (request.method.as_str(), rest.len()) {
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        _ => panic!("{request:?}"),
    };
    (verb.to_owned(), group.to_owned(), resource)
}

#[test]
fn the_role_has_what_multus_uses_and_no_more() {
    if !requirement::met_on_any_kernel(
        "the_role_has_what_multus_uses_and_no_more",
        &[],
        "its delegates are scripts",
    ) {
        return;
    }
    let mut node = Node::new(Plugins::Multicall);
    // It may do more, so that it does all that it would.
    node.give_role(Role::MicroShift);
    node.scripted("a", "");
    let pod = node.pod("p", "a");
    pod.add().succeeds();
    pod.del().succeeds();
    // An event, and the same again.
    node.scripted("b", "[ $CNI_COMMAND = ADD ] && exit 1");
    let failing = node.pod("q", "b");
    for _ in 0..2 {
        assert!(!failing.add().ok());
    }
    let used: BTreeSet<Grant> = node.api.requests().iter().map(needed).collect();
    assert_eq!(used, granted());
}
