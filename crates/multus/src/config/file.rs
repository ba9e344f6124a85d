//! Multus' configuration as it stands in a file: multus reads it, thin_entrypoint writes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use cni_core::diagnostics::note;
use cni_runtime::CapabilityArgs;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::log::{LogLevel, LogOptions};

/// All keys of multus; [`super::MultusConf`] has their meaning. The first ones are those that
/// thin_entrypoint writes, in the order of the Go program.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfFile {
    /// What the runtime looks at to fill `runtimeConfig`.
    pub(crate) capabilities: Option<BTreeMap<String, bool>>,
    pub(crate) namespace_isolation: Option<bool>,
    pub(crate) global_namespaces: Option<String>,
    pub(crate) log_to_stderr: Option<bool>,
    #[serde(default, deserialize_with = "log_level")]
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) bin_dir: Option<PathBuf>,
    /// Written by the Go thin_entrypoint. Neither multus reads it: the key is `confDir`.
    #[serde(skip_deserializing)]
    pub(crate) cni_conf: Option<PathBuf>,
    #[serde(rename = "readinessindicatorfile")]
    pub(crate) readiness_indicator_file: Option<PathBuf>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) delegates: Option<Vec<Box<RawValue>>>,

    pub(crate) cluster_network: Option<String>,
    pub(crate) default_networks: Option<Vec<String>>,
    #[serde(rename = "always_use_default")]
    pub(crate) always_use_default: Option<bool>,
    pub(crate) conf_dir: Option<PathBuf>,
    pub(crate) cni_dir: Option<PathBuf>,
    pub(crate) manifest_dir: Option<PathBuf>,
    pub(crate) system_namespaces: Option<Vec<String>>,
    pub(crate) multus_namespace: Option<String>,
    pub(crate) retry_delete_on_error: Option<bool>,
    #[serde(rename = "auxiliaryCNIChainName")]
    pub(crate) auxiliary_cni_chain_name: Option<String>,
    pub(crate) runtime_config: Option<CapabilityArgs>,
    pub(crate) delegate_timeout: Option<u32>,
    pub(crate) log_options: Option<LogOptions>,
}

impl ConfFile {
    /// The keys that have a value, in the order of the type.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub(crate) fn members(&self) -> serde_json::Result<Vec<(String, Box<RawValue>)>> {
        let InOrder(mut members) = serde_json::from_str(&serde_json::to_string(self)?)?;
        members.retain(|(_, value)| value.get() != "null");
        Ok(members)
    }
}

/// The level by name, in any case. An unknown name is reported and counts as absent: no pod has to wait
/// for a level.
fn log_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LogLevel>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let level = LogLevel::parse(&name);
    if level.is_none() {
        let known = LogLevel::ALL.map(LogLevel::name).join(", ");
        note(format_args!("multus: logLevel {name:?} is not one of {known}"));
    }
    Ok(level)
}

/// The members of an object in the order of its text.
struct InOrder(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<InOrder, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(InOrder(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
