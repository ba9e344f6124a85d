//! The objects of Kubernetes that are read, as far as they are looked at.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::pod_args::PodArgs;

/// What every object has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What tells it from another that had the same name before.
    pub uid: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, namespace and annotations.
    pub metadata: Metadata,
}

impl Pod {
    /// A pod of which nothing is known but what the runtime says.
    pub fn of(args: &PodArgs) -> Pod {
        let PodArgs { namespace, name, uid } = args.clone();
        Pod { metadata: Metadata { namespace, name, uid, ..Metadata::default() } }
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key).map(String::as_str)
    }

    /// Whether a kubelet made it from a file: what the API server has is a mirror of it then,
    /// with a UID of its own.
    pub fn is_static(&self) -> bool {
        self.annotation("kubernetes.io/config.source").is_some_and(|source| source != "api")
    }
}

/// A NetworkAttachmentDefinition, or the `Network` of an earlier program.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Definition {
    /// Name, namespace and annotations.
    pub metadata: Metadata,
    /// What it defines; absent, a file in `confDir` does.
    pub spec: Option<DefinitionSpec>,
    /// The type of the plugin, of the earlier `Network`.
    pub plugin: String,
    /// A JSON array of the plugin's configuration, of the earlier `Network`.
    pub args: String,
}

/// The specification of a NetworkAttachmentDefinition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DefinitionSpec {
    /// A configuration or a list of them, as JSON.
    pub config: String,
}

/// The two kinds of definitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `NetworkAttachmentDefinition` of the group k8s.cni.cncf.io.
    Definition,
    /// `Network` of the group kubernetes-network.cni.cncf.io.
    LegacyNetwork,
}

impl Kind {
    /// As an error names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Definition => "network-attachment-definition",
            Kind::LegacyNetwork => "network of the group kubernetes-network.cni.cncf.io",
        }
    }
}

/// The name of a definition that is to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Of which kind.
    pub kind: Kind,
    /// In which namespace.
    pub namespace: String,
    /// Under which name.
    pub name: String,
}
