//! The configuration of one plugin in a network's configuration.

use std::collections::BTreeMap;

use cni_core::spec::{Error, PluginType, Result, from_json, same_key};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of a JSON object, each as it was written, so that unknown keys reach the plugin
/// unchanged.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// The values that a runtime offers plugins that declare the capability of that name.
pub type CapabilityArgs = BTreeMap<String, Value>;

/// The configuration of one plugin.
#[derive(Clone, Debug)]
pub struct PluginConf {
    plugin_type: PluginType,
    members: Members,
    capabilities: Vec<String>,
}

impl PluginConf {
    /// Reads an object; `what` names it in errors.
    ///
    /// # Errors
    /// When it is not JSON, not an object, or has no valid `type`.
    pub fn parse(text: &[u8], what: &str) -> Result<PluginConf> {
        PluginConf::from_members(from_json(text, what)?, what)
    }

    /// Takes the members of an object; `what` names it in errors.
    ///
    /// # Errors
    /// When `type` is missing or is not the name of a plugin, or `capabilities` is not an
    /// object of booleans.
    pub fn from_members(members: Members, what: &str) -> Result<PluginConf> {
        let plugin_type: String = member(&members, "type", what)?.unwrap_or_default();
        if plugin_type.is_empty() {
            return Err(Error::invalid_config(format!("{what} has no type"))
                .details("the key \"type\" names the plugin"));
        }
        let plugin_type = plugin_type.parse().map_err(|err: Error| err.context(what))?;
        let declared: BTreeMap<String, bool> = member(&members, "capabilities", what)?.unwrap_or_default();
        let capabilities = declared.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
        Ok(PluginConf { plugin_type, members, capabilities })
    }

    /// `type`.
    pub fn plugin_type(&self) -> &PluginType {
        &self.plugin_type
    }

    /// The keys of `capabilities` that are true.
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// All members, as they were written.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Of what the runtime offers, that which this plugin declares to understand.
    pub fn supported<'a>(&self, offered: &'a CapabilityArgs) -> BTreeMap<&'a str, &'a Value> {
        let declared = |name: &str| self.capabilities.iter().any(|capability| capability == name);
        offered
            .iter()
            .filter(|(name, _)| declared(name))
            .map(|(name, value)| (name.as_str(), value))
            .collect()
    }
}

/// A member of an object, read as a `T`; `None` where it is absent or null. `what` names the object in errors.
///
/// Its spellings are in the order of the alphabet, as in the text that a plugin gets. As in Go, the last
/// counts, and an object adds its members to that of the spelling before.
///
/// # Errors
/// A value of another type.
pub fn member<T: serde::de::DeserializeOwned>(members: &Members, key: &str, what: &str) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Spelled<T> {
        #[serde(default = "Option::default")]
        member: Option<T>,
    }
    let spelled = members.iter().filter(|(spelling, raw)| same_key(key, spelling) && raw.get() != "null");
    let texts: Vec<&str> = spelled.map(|(_, raw)| raw.get()).collect();
    let what = format!("{what}: {key:?}");
    if let [text] = texts[..] {
        return from_json(text.as_bytes(), &what).map(Some);
    }
    let texts: Vec<String> = texts.iter().map(|text| format!("\"member\":{text}")).collect();
    let Spelled { member } = from_json(format!("{{{}}}", texts.join(",")).as_bytes(), &what)?;
    Ok(member)
}

/// Sets a member of an object, in place of all spellings of its key.
pub fn set_member(members: &mut Members, key: &str, value: Box<RawValue>) {
    members.retain(|spelling, _| !same_key(key, spelling));
    members.insert(key.to_owned(), value);
}

/// A value as a member of an object.
pub(crate) fn to_raw(value: &impl Serialize) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value)
        .map_err(|err| Error::invalid_config(format!("writing a configuration: {err}")))
}

/// An object as text.
pub(crate) fn to_text(members: &Members) -> Result<Vec<u8>> {
    serde_json::to_vec(members)
        .map_err(|err| Error::invalid_config(format!("writing a configuration: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_stay_as_they_were_written() {
        let conf = PluginConf::parse(br#"{"type":"x","big":123456789012345678901234567890}"#, "it").unwrap();
        assert_eq!(conf.members()["big"].get(), "123456789012345678901234567890");
    }

    #[test]
    fn spellings_of_a_member_are_read_as_one() {
        let members: Members =
            from_json(br#"{"args":{"b":2,"c":3},"ARGS":{"a":1,"b":1},"Args":null,"x":1}"#, "it").unwrap();
        let args: BTreeMap<String, u32> = member(&members, "args", "it").unwrap().unwrap();
        assert_eq!(args, [("a", 1), ("b", 2), ("c", 3)].map(|(key, value)| (key.to_owned(), value)).into());
        assert_eq!(member::<u32>(&members, "none", "it").unwrap(), None);
        assert!(member::<u32>(&members, "args", "it").unwrap_err().msg().contains("args"));
    }

    #[test]
    fn only_declared_capabilities_are_given() {
        let text = br#"{"type":"x","capabilities":{"ips":true,"mac":false}}"#;
        let conf = PluginConf::parse(text, "it").unwrap();
        let offered = ["ips", "mac", "bandwidth"].map(|name| (name.to_owned(), Value::from(1)));
        assert_eq!(conf.supported(&offered.into()).into_keys().collect::<Vec<_>>(), ["ips"]);
    }

    #[test]
    fn a_type_is_required_and_stays_in_its_folder() {
        for bad in ["{}", r#"{"type":""}"#, r#"{"type":"../sh"}"#, r#"{"type":3}"#, "[]", "7"] {
            let error = PluginConf::parse(bad.as_bytes(), "the delegate").unwrap_err();
            assert!(error.msg().contains("the delegate"), "{error}");
        }
    }
}
