//! How to call a plugin, and what it claims to support.

use crate::Result;
use crate::case::{Kind, Needs};
use crate::embedded;
use crate::version::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// One plugin under test.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The profile's name in reports; the plugin's where it is absent.
    #[serde(default)]
    pub name: String,
    /// The program's name in the folder of plugins.
    #[serde(rename = "type")]
    pub plugin: String,
    /// What the plugin is.
    pub kind: Kind,
    /// Who makes it: for reports.
    #[serde(default)]
    pub implementation: Implementation,
    /// The versions of the specification to test; what VERSION answers, where this is absent.
    #[serde(default)]
    pub versions: Option<Vec<Version>>,
    /// The interface's name in calls that don't give another.
    #[serde(default = "first_interface")]
    pub ifname: String,
    /// A configuration with which ADD works, without `cniVersion`, `name` and `type`.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// What must be there; without it the whole profile is skipped.
    #[serde(default)]
    pub needs: Needs,
    /// Command lines, run on the host before each case: a master, a daemon, files.
    #[serde(default)]
    pub before: Vec<String>,
    /// Command lines, run on the host for each container that a case makes; `${container}` is its name.
    #[serde(default)]
    pub container: Vec<String>,
    /// Command lines, run on the host after each ADD that succeeds: what a plugin that calls this one does
    /// with the result. `${container}` and `${ifname}` are those of the call, `${address}` its first address.
    #[serde(default)]
    pub added: Vec<String>,
    /// Command lines, run on the host after each case.
    #[serde(default)]
    pub after: Vec<String>,
    /// Features that the plugin has: a failure of their cases counts.
    #[serde(default)]
    pub claims: Vec<String>,
    /// How a runtime is called: a command line for each operation that it can be asked for.
    #[serde(default)]
    pub commands: BTreeMap<String, String>,
}

fn first_interface() -> String {
    "eth0".to_owned()
}

/// Who makes a plugin, in the words of the Gateway API's conformance reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Implementation {
    /// The organisation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub organization: String,
    /// The project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Where it is found.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whom to ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
}

impl Profile {
    /// Whether the plugin claims a feature.
    #[must_use]
    pub fn claims(&self, feature: &str) -> bool {
        self.claims.iter().any(|claim| claim == feature)
    }
}

/// The profiles of the reference plugins.
///
/// # Errors
/// A profile is invalid: the suite is broken.
pub fn embedded() -> Result<Vec<Profile>> {
    embedded::PROFILES
        .iter()
        .map(|(name, content)| parse(content).map_err(|error| format!("{name}: {error}")))
        .collect()
}

/// Reads a profile of a third party.
///
/// # Errors
/// The file can't be read or is not a profile.
pub fn read(file: &Path) -> Result<Profile> {
    let content = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    parse(&content).map_err(|error| format!("{}: {error}", file.display()))
}

/// Reads a profile.
///
/// # Errors
/// It is not YAML, or not a profile.
pub fn parse(content: &str) -> Result<Profile> {
    // By way of JSON: the same rules as for cases.
    let value: Value = serde_saphyr::from_str(content).map_err(|error| error.to_string())?;
    let mut profile: Profile = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if profile.name.is_empty() {
        profile.name.clone_from(&profile.plugin);
    }
    if profile.kind == Kind::Any {
        return Err("a plugin is an interface, chained, ipam or meta plugin, or a runtime".to_owned());
    }
    if (profile.kind == Kind::Runtime) == profile.commands.is_empty() {
        return Err("`commands` says how a runtime is called, and nothing else has it".to_owned());
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_profiles_are_valid() {
        let profiles = embedded().unwrap();
        assert!(profiles.iter().any(|profile| profile.name == "bridge"));
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused() {
        let error = parse("{type: x, kind: interface, claim: [gc]}").unwrap_err();
        assert!(error.contains("claim"), "{error}");
    }
}
