//! The parsers of this crate, for the fuzz targets alone.

use std::path::Path;

use cni_core::request::Request;
use cni_core::spec::Version;
use cni_runtime::Inherited;
use serde::Deserialize;

use crate::config::MultusConf;
use crate::object::{Definition, Kind, Pod};
use crate::pod_args::PodArgs;
use crate::{annotation, cache, cluster, device, nad};

/// Reads the configuration, also as DEL reads one that is not valid.
pub fn config(request: &Request) {
    let _ = MultusConf::parse(request);
    let _ = MultusConf::valid_part(request);
    let _ = PodArgs::parse(&request.env.args);
}

/// Reads the annotation that selects networks.
pub fn annotation(text: &str) {
    let Ok(selections) = annotation::parse(text, "k8s.v1.cni.cncf.io/networks", "default") else { return };
    assert!(selections.len() <= 1024, "an annotation selects networks without bound");
}

/// Reads the configuration in a definition, and adds to it what a pod and a device add.
pub fn definition(text: &str) {
    let inherited = Inherited { version: Some(Version::V1_0_0), ..Inherited::default() };
    for kind in [Kind::Definition, Kind::LegacyNetwork] {
        let object = match kind {
            Kind::Definition => {
                serde_json::json!({ "metadata": { "name": "a" }, "spec": { "config": text } })
            }
            Kind::LegacyNetwork => {
                serde_json::json!({ "metadata": { "name": "a" }, "plugin": "x", "args": text })
            }
        };
        let Ok(definition) = Definition::deserialize(object) else { continue };
        let Ok(network) = nad::network(&definition, kind, Path::new("/nonexistent"), &inherited) else {
            continue;
        };
        let args = serde_json::Map::from_iter([("a".to_owned(), serde_json::json!(1))]);
        let _ = nad::with_cni_args(&network, &args).and_then(|network| nad::with_device(&network, "d"));
        let text = network.to_text().expect("a network can be written");
        cni_runtime::NetworkConf::parse(&text, "a network", &inherited).expect("a network can be read again");
    }
}

/// Reads the file with the delegates of a container.
pub fn delegates(content: &[u8]) {
    cache::fuzz(content);
}

/// Reads what a plugin reports of a device, and the answer and the checkpoint of the kubelet.
pub fn devices(content: &[u8]) {
    device::fuzz(&Pod::default(), content);
}

/// Reads manifests, and their objects.
pub fn manifests(text: &str) {
    for document in cluster::manifests::documents_of(text).unwrap_or_default() {
        let _ = Pod::deserialize(&document);
        let _ = Definition::deserialize(&document);
    }
}

/// Reads a kubeconfig, without the files that it names; an error must not quote it.
pub fn kubeconfig(text: &str) {
    cluster::kubeconfig::fuzz(text);
}
