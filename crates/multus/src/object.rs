//! The objects of Kubernetes, with the keys that are read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::pod_args::PodArgs;

/// The metadata of every object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its UID, which no other object of the same name has.
    pub(crate) uid: String,
    /// Its annotations.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    /// Name, namespace and annotations.
    pub(crate) metadata: Metadata,
}

impl Pod {
    /// A pod of which only the runtime's arguments are known.
    pub(crate) fn of(args: &PodArgs) -> Pod {
        let PodArgs { namespace, name, uid } = args.clone();
        Pod { metadata: Metadata { namespace, name, uid, ..Metadata::default() } }
    }

    /// An annotation.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key).map(String::as_str)
    }

    /// Whether a kubelet made it from a file: the API server has a mirror of it then, with a UID of
    /// its own.
    pub(crate) fn is_static(&self) -> bool {
        self.annotation("kubernetes.io/config.source").is_some_and(|source| source != "api")
    }
}

/// A NetworkAttachmentDefinition, or the `Network` of an earlier program.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Definition {
    /// Name, namespace and annotations.
    pub(crate) metadata: Metadata,
    /// The network; without it, a file in `confDir` defines the network.
    pub(crate) spec: Option<DefinitionSpec>,
    /// The type of the plugin, of the earlier `Network`.
    pub(crate) plugin: String,
    /// A JSON array of the plugin's configuration, of the earlier `Network`.
    pub(crate) args: String,
}

impl Definition {
    /// The length of its configuration in bytes.
    pub(crate) fn size(&self) -> usize {
        self.spec.as_ref().map_or(0, |spec| spec.config.len()) + self.args.len()
    }
}

/// The specification of a NetworkAttachmentDefinition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DefinitionSpec {
    /// A configuration or a list of them, as JSON.
    pub(crate) config: String,
}

/// The two kinds of definitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `NetworkAttachmentDefinition` of the group k8s.cni.cncf.io.
    Definition,
    /// `Network` of the group kubernetes-network.cni.cncf.io.
    LegacyNetwork,
}

impl Kind {
    /// Its name in errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Definition => "network-attachment-definition",
            Kind::LegacyNetwork => "network of the group kubernetes-network.cni.cncf.io",
        }
    }
}

/// The name of a definition to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reference {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}
