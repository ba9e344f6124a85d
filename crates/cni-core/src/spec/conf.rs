//! The keys of a network configuration that every plugin reads.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    AddResult, ContainerId, Dns, Error, IfName, NetworkName, PluginType, Result, Spelling, Version,
    from_json, from_json_spelled,
};

/// The keys of a plugin configuration that the specification defines (section 1).
///
/// A plugin's own keys are read from the same text into the plugin's own type. A delegate gets
/// the text itself, so unknown keys reach it unchanged.
#[derive(Clone, Debug)]
pub struct NetConf {
    /// `cniVersion`; 0.1.0 when absent.
    pub cni_version: Version,
    /// `name`.
    pub name: NetworkName,
    /// `type`, where it is given.
    pub plugin_type: Option<PluginType>,
    /// `ipam.type`; `None` where `ipam` or its type is absent or empty: layer 2 only.
    pub ipam: Option<PluginType>,
    /// The keys that are read here and differ in case from the documented names.
    pub spellings: Vec<Spelling>,
    /// `dns`, not yet read: of some plugins no command needs it, of others only ADD.
    dns: Option<Box<RawValue>>,
    /// `prevResult`, not yet read.
    prev_result: Option<Box<RawValue>>,
    /// `cni.dev/valid-attachments`: what GC must keep; `None` when the key is absent.
    pub valid_attachments: Option<Vec<Attachment>>,
}

/// One interface of one container on a network, as in `cni.dev/valid-attachments`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: ContainerId,
    /// Its interface on this network.
    pub ifname: IfName,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "type")]
    plugin_type: String,
    #[serde(default)]
    ipam: Option<Ipam>,
    #[serde(default)]
    dns: Option<Box<RawValue>>,
    #[serde(default)]
    prev_result: Option<Box<RawValue>>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
struct Ipam {
    #[serde(default, rename = "type")]
    plugin_type: String,
}

impl NetConf {
    /// Reads and checks the common keys of a configuration.
    ///
    /// # Errors
    /// Invalid JSON (6), an unknown `cniVersion` (1), a missing or malformed name or type (7).
    pub fn parse(text: &[u8]) -> Result<NetConf> {
        let (wire, spellings): (Wire, _) = from_json_spelled(text, "network configuration")?;
        let cni_version: Version = wire.cni_version.parse()?;
        let name = wire.name.filter(|name| !name.is_empty()).ok_or_else(|| {
            Error::invalid_config("network configuration has no name").details("the key \"name\" is required")
        })?;
        Ok(NetConf {
            cni_version,
            name: name.parse()?,
            plugin_type: optional_type(&wire.plugin_type)?,
            ipam: optional_type(wire.ipam.as_ref().map_or("", |ipam| &ipam.plugin_type))
                .map_err(|e| e.context("ipam"))?,
            dns: wire.dns,
            spellings,
            prev_result: wire.prev_result,
            valid_attachments: wire.valid_attachments,
        })
    }

    /// `dns`.
    ///
    /// # Errors
    /// When its values have other types.
    pub fn dns(&self) -> Result<Dns> {
        match &self.dns {
            Some(raw) => from_json(raw.get().as_bytes(), "dns"),
            None => Ok(Dns::default()),
        }
    }

    /// Whether the configuration has a `prevResult`: the plugin is chained after another, or checked.
    pub fn has_prev_result(&self) -> bool {
        self.prev_result.is_some()
    }

    /// `prevResult` in the newest form; `None` where it is absent.
    ///
    /// # Errors
    /// When it is not a result of its `cniVersion`.
    pub fn prev_result(&self) -> Result<Option<AddResult>> {
        let Some(raw) = &self.prev_result else {
            return Ok(None);
        };
        AddResult::from_json(raw.get().as_bytes(), self.cni_version)
            .map(Some)
            .map_err(|e| e.context("prevResult"))
    }

    /// `prevResult`, which CHECK requires.
    ///
    /// # Errors
    /// [`super::Code::INVALID_CONFIG`] when it is absent.
    pub fn required_prev_result(&self) -> Result<AddResult> {
        self.prev_result()?.ok_or_else(|| {
            Error::invalid_config("prevResult is missing").details("CHECK compares the node with it")
        })
    }
}

fn optional_type(text: &str) -> Result<Option<PluginType>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Code;
    use super::*;

    #[test]
    fn an_empty_ipam_is_an_absent_one() {
        for text in [
            r#"{"name":"n"}"#,
            r#"{"name":"n","ipam":{}}"#,
            r#"{"name":"n","ipam":null}"#,
            r#"{"name":"n","ipam":{"type":""}}"#,
        ] {
            assert_eq!(NetConf::parse(text.as_bytes()).unwrap().ipam, None, "{text}");
        }
    }

    #[test]
    fn errors_have_the_codes_of_the_specification() {
        for (text, code) in [
            ("", Code::UNDECODABLE),
            ("{", Code::UNDECODABLE),
            ("[]", Code::INVALID_CONFIG),
            ("{}", Code::INVALID_CONFIG),
            (r#"{"name":"../x"}"#, Code::INVALID_CONFIG),
            (r#"{"name":"n","cniVersion":"9.9.9"}"#, Code::INCOMPATIBLE_VERSION),
            (r#"{"name":"n","type":"../../x"}"#, Code::INVALID_CONFIG),
            (r#"{"name":"n","ipam":{"type":"/bin/sh"}}"#, Code::INVALID_CONFIG),
        ] {
            assert_eq!(NetConf::parse(text.as_bytes()).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn dns_is_read_by_those_who_ask_for_it() {
        let conf = |dns: &str| NetConf::parse(format!(r#"{{"name":"n","dns":{dns}}}"#).as_bytes()).unwrap();
        assert_eq!(conf(r#"{"NAMESERVERS":["10.0.0.1"]}"#).dns().unwrap().nameservers, ["10.0.0.1"]);
        assert!(conf("null").dns().unwrap().is_empty());
        assert_eq!(conf("true").dns().unwrap_err().code(), Code::INVALID_CONFIG);
    }

    #[test]
    fn prev_result_takes_the_version_of_the_configuration() {
        let text = br#"{"name":"n","cniVersion":"0.4.0","prevResult":{"ips":[{"version":"4","address":"10.0.0.2/8"}]}}"#;
        let result = NetConf::parse(text).unwrap().required_prev_result().unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/8");
        assert!(NetConf::parse(br#"{"name":"n"}"#).unwrap().required_prev_result().is_err());
    }

    proptest! {
        #[test]
        fn any_prev_result_is_read_or_refused(member in ".{0,60}", version in 0usize..7) {
            let version = Version::ALL[version];
            let text = format!(r#"{{"name":"n","cniVersion":"{version}","prevResult":{member}}}"#);
            if let Ok(conf) = NetConf::parse(text.as_bytes()) {
                let _ = conf.prev_result();
            }
        }
    }
}
