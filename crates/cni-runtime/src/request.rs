//! Deriving a plugin's request from its configuration (specification, section 3,
//! "Deriving request configuration from plugin configuration").

use cni_core::spec::{AddResult, Attachment, Result, same_key};

use crate::conf::NetworkConf;
use crate::plugin_conf::{CapabilityArgs, PluginConf, set_member, to_raw, to_text};

/// The keys that a request adds to the plugin's configuration.
pub(crate) enum Purpose<'a> {
    /// ADD, DEL and CHECK.
    Attachment { capability_args: &'a CapabilityArgs, prev_result: Option<&'a AddResult> },
    /// GC: the attachments that stay.
    Gc(&'a [Attachment]),
    /// STATUS.
    Status,
}

/// The text that a plugin reads.
///
/// Reserved keys are the runtime's: they are removed from the configuration. Only `runtimeConfig` stays
/// where the runtime has no value for it, because libcni passes it on, too.
pub(crate) fn derive(network: &NetworkConf, plugin: &PluginConf, purpose: &Purpose<'_>) -> Result<Vec<u8>> {
    let mut members = plugin.members().clone();
    members.retain(|key, _| {
        let is_reserved =
            ["prevResult", "capabilities", "cniVersions"].iter().any(|name| same_key(name, key));
        !is_reserved && !key.get(..8).is_some_and(|start| same_key("cni.dev/", start))
    });
    set_member(&mut members, "name", to_raw(network.name())?);
    set_member(&mut members, "cniVersion", to_raw(&network.version().as_str())?);
    match purpose {
        Purpose::Attachment { capability_args, prev_result } => {
            let supported = plugin.supported(capability_args);
            if !supported.is_empty() {
                set_member(&mut members, "runtimeConfig", to_raw(&supported)?);
            }
            if let Some(result) = prev_result {
                let text = result.to_json(network.version())?;
                let raw = serde_json::value::RawValue::from_string(text)
                    .map_err(|err| cni_core::spec::Error::invalid_config(format!("prevResult: {err}")))?;
                members.insert("prevResult".to_owned(), raw);
            }
        }
        Purpose::Gc(valid) => {
            let valid = to_raw(valid)?;
            // An earlier libcni used the second key, and plugins read it.
            members.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
            members.insert("cni.dev/attachments".to_owned(), valid);
        }
        Purpose::Status => {}
    }
    to_text(&members)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn derived(purpose: &Purpose<'_>) -> Value {
        let text = br#"{"cniVersion":"1.1.0","cniVersions":["1.0.0"],"name":"net","plugins":[
            {"type":"x","name":"own","capabilities":{"mac":true},"prevResult":{},"cni.dev/x":1,"keep":{"a":1}}]}"#;
        let network = NetworkConf::parse(text, "it", &Default::default()).unwrap();
        serde_json::from_slice(&derive(&network, &network.plugins()[0], purpose).unwrap()).unwrap()
    }

    #[test]
    fn reserved_keys_are_replaced_and_the_others_kept() {
        let offered = CapabilityArgs::from([("mac".to_owned(), json!("m")), ("ips".to_owned(), json!([]))]);
        let result = AddResult::default();
        let purpose = Purpose::Attachment { capability_args: &offered, prev_result: Some(&result) };
        let expected = json!({"cniVersion":"1.1.0","name":"net","type":"x","keep":{"a":1},
            "runtimeConfig":{"mac":"m"},"prevResult":{"cniVersion":"1.1.0"}});
        assert_eq!(derived(&purpose), expected);
    }

    #[test]
    fn gc_names_the_valid_attachments_and_status_none() {
        let valid = [Attachment { container_id: "c".parse().unwrap(), ifname: "eth0".parse().unwrap() }];
        let conf = derived(&Purpose::Gc(&valid));
        assert_eq!(conf["cni.dev/valid-attachments"], json!([{"containerID":"c","ifname":"eth0"}]));
        assert_eq!(conf["cni.dev/attachments"], conf["cni.dev/valid-attachments"]);
        assert_eq!(
            derived(&Purpose::Status),
            json!({"cniVersion":"1.1.0","name":"net","type":"x","keep":{"a":1}})
        );
    }
}
