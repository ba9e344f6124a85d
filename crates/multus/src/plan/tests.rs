use super::*;
use crate::config::tests::parse as conf;

const DEFINITIONS: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: a, namespace: pods}
spec: {config: '{"type":"x"}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: a, namespace: other}
spec: {config: '{"type":"y"}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: cluster, namespace: kube-system}
spec: {config: '{"type":"z"}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: self, namespace: pods}
spec: {config: '{"plugins":[{"type":"x"},{"type":"multus"}]}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: many, namespace: pods}
spec: {config: 'MANY'}
"#;

/// The labels of the delegates of a pod with one annotation, for a configuration with
/// further keys.
fn labels(keys: &str, annotation: (&str, &str)) -> Result<Vec<String>> {
    Ok(planned(keys, annotation)?.into_iter().map(|delegate| delegate.label).collect())
}

fn planned(keys: &str, (key, value): (&str, &str)) -> Result<Vec<Delegate>> {
    let folder = tempfile::tempdir().unwrap();
    let many = format!(r#"{{"plugins":[{}]}}"#, vec![r#"{"type":"x"}"#; 64].join(","));
    std::fs::write(folder.path().join("1.yaml"), DEFINITIONS.replace("MANY", &many)).unwrap();
    std::fs::write(folder.path().join("on-disk.conf"), r#"{"name":"on-disk","type":"d"}"#).unwrap();
    let path = folder.path().display();
    let conf = conf(&format!(
        r#"{{"manifestDir":"{path}","cniDir":"{path}/cni","confDir":"{path}",{}}}"#,
        keys.replace("HERE", &path.to_string())
    ))?;
    let mut pod = Pod::default();
    pod.metadata.namespace = "pods".into();
    pod.metadata.annotations.insert(key.to_owned(), value.to_owned());
    Ok(delegates(&conf, &Cluster::of(&conf), &pod, &"eth0".parse()?)?)
}

const GIVEN: &str = r#""delegates":[{"name":"first","type":"x"},{"name":"second","type":"x"}]"#;

#[test]
fn delegates_come_first_and_the_networks_of_the_pod_after_them() {
    let named = labels(GIVEN, (annotation::NETWORKS, "a,other/a@eth5,a")).unwrap();
    assert_eq!(named, ["first", "second", "pods/a", "other/a", "pods/a"]);
    let master = GIVEN.replace(r#""name":"second""#, r#""name":"second","masterplugin":true"#);
    assert_eq!(labels(&master, ("x", "")).unwrap(), ["second", "first"]);
    let only = format!(r#""always_use_default":false,{GIVEN}"#);
    assert_eq!(labels(&only, (annotation::NETWORKS, "a")).unwrap(), ["pods/a"]);
    assert_eq!(labels(&only, ("x", "")).unwrap(), ["first", "second"]);
}

#[test]
fn the_default_network_is_found_by_name_file_and_folder() {
    for (cluster_network, label) in [
        ("cluster", "kube-system/cluster"),
        ("on-disk", "on-disk"),
        ("HERE/on-disk.conf", "on-disk"),
        ("HERE/", "on-disk"),
    ] {
        let keys = format!(r#""clusterNetwork":"{cluster_network}","defaultNetworks":["on-disk"]"#);
        assert_eq!(labels(&keys, ("x", "")).unwrap(), [label, "on-disk"]);
        let system = format!(r#"{keys},"systemNamespaces":["pods"]"#);
        assert_eq!(labels(&system, ("x", "")).unwrap(), [label]);
    }
    let error = labels(r#""clusterNetwork":"gone""#, ("x", "")).unwrap_err().to_string();
    assert!(
        error.contains("(gone)") && error.contains("(kube-system)") && error.contains("on-disk"),
        "{error}"
    );
}

#[test]
fn a_pod_may_have_another_default_network() {
    let key = annotation::DEFAULT_NETWORK;
    assert_eq!(labels(GIVEN, (key, "cluster")).unwrap(), ["kube-system/cluster", "second"]);
    assert!(labels(GIVEN, (key, "cluster,cluster")).unwrap_err().msg().contains("exactly one"));
    let isolated = format!(r#""namespaceIsolation":true,{GIVEN}"#);
    assert!(labels(&isolated, (key, "other/a")).is_err());
    assert!(labels(&isolated, (key, "cluster")).is_ok());
}

#[test]
fn isolation_keeps_to_the_own_and_the_global_namespaces() {
    let isolated = format!(r#""namespaceIsolation":true,{GIVEN}"#);
    assert!(labels(&isolated, (annotation::NETWORKS, "a,pods/a")).is_ok());
    let error = labels(&isolated, (annotation::NETWORKS, "other/a")).unwrap_err();
    assert!(error.msg().contains("namespace isolation"), "{error}");
    let open = format!(r#""globalNamespaces":"x, other",{isolated}"#);
    assert!(labels(&open, (annotation::NETWORKS, "other/a")).is_ok());
}

#[test]
fn multus_is_not_its_own_delegate() {
    let error = labels(GIVEN, (annotation::NETWORKS, "self")).unwrap_err();
    assert!(error.msg().contains("is of type multus"), "{error}");
}

#[test]
fn the_arguments_of_a_pod_are_bounded_in_all_plugins_together() {
    let arguments = |length: usize| {
        let network = format!(r#"[{{"name":"many","cni-args":{{"a":"{}"}}}}]"#, "x".repeat(length));
        planned(GIVEN, (annotation::NETWORKS, &network))
    };
    assert_eq!(arguments(50 << 10).unwrap()[2].network.plugins().len(), 64);
    let error = arguments(70 << 10).unwrap_err();
    assert!(error.msg().contains("longer than 4 MiB together"), "{error}");
}

#[test]
fn a_default_route_is_taken_from_the_others_in_its_family_only() {
    let filtered = |networks: &str| {
        let planned = planned(GIVEN, (annotation::NETWORKS, networks))?;
        Ok::<_, Error>(planned.iter().map(|it| (it.filtered.v4, it.filtered.v6)).collect::<Vec<_>>())
    };
    let (no, v4, both) = ((false, false), (true, false), (true, true));
    assert_eq!(filtered(r#"[{"name":"a"}]"#).unwrap(), [no, no, no]);
    assert_eq!(filtered(r#"[{"name":"a","default-route":["10.0.0.1"]}]"#).unwrap(), [v4, v4, no]);
    assert_eq!(filtered(r#"[{"name":"a","default-route":[]}]"#).unwrap(), [both, both, no]);
    let split = r#"[{"name":"a","default-route":["10.0.0.1"]},{"name":"a","default-route":["fd00::1"]}]"#;
    assert_eq!(filtered(split).unwrap(), [both, both, (false, true), v4]);
    for bad in [
        r#"[{"name":"a","default-route":["10.0.0.1","10.0.0.2"]}]"#,
        r#"[{"name":"a","default-route":["10.0.0.1"]},{"name":"a","default-route":["10.0.0.2"]}]"#,
        r#"[{"name":"a","default-route":["10.0.0.1"]},{"name":"a","default-route":[]}]"#,
    ] {
        assert!(filtered(bad).unwrap_err().msg().contains("default-route"), "{bad}");
    }
}

#[test]
fn an_auxiliary_chain_needs_more_than_its_first_plugin() {
    let keys = r#""clusterNetwork":"HERE/on-disk.conf","auxiliaryCNIChainName":"aux""#;
    assert_eq!(labels(keys, ("x", "")).unwrap(), ["on-disk"]);
    let by_name = r#""clusterNetwork":"on-disk","auxiliaryCNIChainName":"aux""#;
    assert!(labels(by_name, ("x", "")).unwrap_err().msg().contains("to be a path"));
}
