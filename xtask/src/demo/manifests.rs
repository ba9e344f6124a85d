//! The manifests that the demo applies: NetworkAttachmentDefinitions and pods.

use super::pod::NAMESPACE;
use crate::error::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// An additional network, from the examples of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Additional {
    Bridge,
    Macvlan,
    Ipvlan,
}

const BRIDGE: &str = include_str!("../../../tests/examples/bridge-conf.nad.yaml");
const MACVLAN: &str = include_str!("../../../tests/examples/macvlan-net.json");
const IPVLAN: &str = include_str!("../../../tests/examples/ipvlan-net.json");

impl Additional {
    pub(crate) const ALL: [Self; 3] = [Self::Bridge, Self::Macvlan, Self::Ipvlan];

    /// The name of its NetworkAttachmentDefinition.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge-conf",
            Self::Macvlan => "macvlan-net",
            Self::Ipvlan => "ipvlan-net",
        }
    }

    /// A short description.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Bridge => "a bridge of its own, an address from host-local's range",
            Self::Macvlan => "macvlan on the host's eth1, the address that the pod requests",
            Self::Ipvlan => "ipvlan (l3) on the host's eth2, the address that the pod requests",
        }
    }

    /// The host's network card that it needs. One card can't have macvlan and ipvlan on it.
    pub(crate) fn master(self) -> Option<&'static str> {
        match self {
            Self::Bridge => None,
            Self::Macvlan => Some("eth1"),
            Self::Ipvlan => Some("eth2"),
        }
    }

    /// What the `number`th pod writes into its annotation.
    fn selection(self, number: usize) -> String {
        let name = self.name();
        let host = 10 + number;
        match self {
            Self::Bridge => format!(r#"{{"name": "{name}"}}"#),
            Self::Macvlan => format!(r#"{{"name": "{name}", "ips": ["192.168.20.{host}/24"]}}"#),
            Self::Ipvlan => format!(r#"{{"name": "{name}", "ips": ["192.168.10.{host}/24"]}}"#),
        }
    }

    /// The text of its NetworkAttachmentDefinition.
    fn definition(self) -> Result<String> {
        let example = match self {
            Self::Bridge => return Ok(BRIDGE.to_owned()),
            Self::Macvlan => MACVLAN,
            Self::Ipvlan => IPVLAN,
        };
        let mut config: Value =
            serde_json::from_str(example).context(|| format!("can't read the example {}", self.name()))?;
        config["master"] = json!(self.master());
        // A pod's own address, in place of a DHCP server or of one address for all pods.
        config["ipam"] = json!({ "type": "static" });
        config["capabilities"] = json!({ "ips": true });
        // The examples' version has no CHECK.
        config["cniVersion"] = json!("1.0.0");
        let definition = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": self.name(), "namespace": NAMESPACE },
            "spec": { "config": config.to_string() },
        });
        // JSON is YAML too.
        Ok(format!("{definition:#}\n"))
    }
}

/// The annotation of the `number`th pod.
pub(crate) fn annotation(networks: &[Additional], number: usize) -> String {
    let selections: Vec<String> = networks.iter().map(|network| network.selection(number)).collect();
    format!("[{}]", selections.join(", "))
}

/// Writes the definitions of these networks and a pod of each name into a folder.
pub(crate) fn write(folder: &Path, networks: &[Additional], pods: &[&str]) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("can't make {}", folder.display()))?;
    let put = |name: String, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).context(|| format!("can't write {}", file.display()))
    };
    for network in networks {
        put(format!("{}.nad.yaml", network.name()), network.definition()?)?;
    }
    for (number, name) in pods.iter().enumerate() {
        let annotations = json!({ "k8s.v1.cni.cncf.io/networks": annotation(networks, number) });
        let metadata = json!({ "name": name, "namespace": NAMESPACE, "annotations": annotations });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
        put(format!("{name}.pod.yaml"), format!("{pod:#}\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Additional, annotation, write};
    use std::collections::BTreeSet;

    #[test]
    fn all_definitions_and_pods_are_written_under_their_names() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &Additional::ALL, &["blue", "green"]).unwrap();
        for network in Additional::ALL {
            let file = folder.path().join(format!("{}.nad.yaml", network.name()));
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains(network.name()), "{text}");
            assert!(
                network.master().is_none_or(|master| text.contains(&format!("\\\"{master}\\\""))),
                "{text}"
            );
        }
        assert!(folder.path().join("green.pod.yaml").is_file());
    }

    #[test]
    fn pods_request_different_addresses() {
        let selections: BTreeSet<String> =
            (0..2).map(|number| annotation(&[Additional::Macvlan, Additional::Ipvlan], number)).collect();
        assert_eq!(selections.len(), 2);
    }
}
