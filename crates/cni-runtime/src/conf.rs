//! A network's configuration.

use cni_core::spec::{Error, NetworkName, Result, Version, from_json, same_key};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::plugin_conf::{Members, PluginConf, member, set_member, to_raw, to_text};

/// The most plugins that a configuration may list. Each gets all of a pod's arguments.
const MAX_PLUGINS: usize = 64;

/// The configuration of a network: plugins that are called in order (specification, section 1).
///
/// A file of the older form, with one plugin and no list, is a network of that plugin.
#[derive(Clone, Debug)]
pub struct NetworkConf {
    name: NetworkName,
    version: Version,
    disable_check: bool,
    disable_gc: bool,
    only_inlined: bool,
    is_list: bool,
    members: Members,
    plugins: Vec<PluginConf>,
}

/// What a configuration inside another one takes from it where it has no such key.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    /// For `name`.
    pub name: Option<NetworkName>,
    /// For `cniVersion`.
    pub version: Option<Version>,
}

impl NetworkConf {
    /// Reads a list, or a single plugin's configuration; `what` names it in errors.
    ///
    /// # Errors
    /// Not JSON (6), no supported version (1), no plugins, or invalid names (7).
    pub fn parse(text: &[u8], what: &str, inherited: &Inherited) -> Result<NetworkConf> {
        let network = NetworkConf::parse_without_folder(text, what, inherited)?;
        if network.plugins.is_empty() {
            return Err(Error::invalid_config(format!("{what} has no plugins"))
                .details("it needs \"type\", or \"plugins\" with at least one plugin"));
        }
        Ok(network)
    }

    /// [`NetworkConf::parse`] for a list whose plugins may all be in the folder beside it.
    ///
    /// # Errors
    /// As [`NetworkConf::parse`], but for a list without plugins.
    pub fn parse_without_folder(text: &[u8], what: &str, inherited: &Inherited) -> Result<NetworkConf> {
        let members: Members = from_json(text, what)?;
        let name = match member::<String>(&members, "name", what)?.filter(|name| !name.is_empty()) {
            Some(name) => name.parse().map_err(|err: Error| err.context(what))?,
            None => inherited.name.clone().ok_or_else(|| {
                Error::invalid_config(format!("{what} has no name")).details("the key \"name\" is required")
            })?,
        };
        let version = version(&members, what, inherited)?;
        let is_list = member::<String>(&members, "type", what)?.is_none_or(|kind| kind.is_empty());
        let only_inlined = flag(&members, "loadOnlyInlinedPlugins", what)?;
        let plugins = if is_list {
            inlined(&members, only_inlined, what)?
        } else {
            vec![PluginConf::from_members(members.clone(), what)?]
        };
        Ok(NetworkConf {
            name,
            version,
            disable_check: is_list && flag(&members, "disableCheck", what)?,
            disable_gc: is_list && flag(&members, "disableGC", what)?,
            only_inlined,
            is_list,
            members,
            plugins,
        })
    }

    /// `name`.
    pub fn name(&self) -> &NetworkName {
        &self.name
    }

    /// The version that all plugins are called with: the newest of `cniVersion` and `cniVersions` that is
    /// supported here.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The plugins in the order of ADD.
    pub fn plugins(&self) -> &[PluginConf] {
        &self.plugins
    }

    /// `disableCheck`: CHECK succeeds without calling a plugin.
    pub fn disable_check(&self) -> bool {
        self.disable_check
    }

    /// `disableGC`: GC calls no plugin and collects nothing.
    pub fn disable_gc(&self) -> bool {
        self.disable_gc
    }

    /// Whether the folder beside the file has further plugins (this is a list without
    /// `loadOnlyInlinedPlugins`).
    pub fn wants_folder(&self) -> bool {
        self.is_list && !self.only_inlined
    }

    /// Whether this is a list, and not the configuration of a single plugin.
    pub fn is_list(&self) -> bool {
        self.is_list
    }

    /// The members of the configuration as they were written, `plugins` too.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Appends a plugin to a list.
    pub fn push(&mut self, plugin: PluginConf) {
        self.plugins.push(plugin);
    }

    /// The same with every plugin's members changed by `change`.
    ///
    /// # Errors
    /// Those of `change`, and a plugin that is invalid afterwards.
    pub fn map_plugins(&self, change: impl Fn(&mut Members) -> Result<()>) -> Result<NetworkConf> {
        let mut changed = self.clone();
        for plugin in &mut changed.plugins {
            let mut members = plugin.members().clone();
            change(&mut members)?;
            *plugin = PluginConf::from_members(members, "the changed configuration")?;
        }
        if let (false, [plugin]) = (changed.is_list, changed.plugins.as_slice()) {
            changed.members = plugin.members().clone();
        }
        Ok(changed)
    }

    /// The text of the whole, with name, version, and the plugins from the folder.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_text(&self) -> Result<Vec<u8>> {
        let mut members = self.members.clone();
        set_member(&mut members, "name", to_raw(&self.name)?);
        set_member(&mut members, "cniVersion", to_raw(&self.version.as_str())?);
        members.retain(|key, _| !same_key("cniVersions", key));
        if self.is_list {
            let plugins: Vec<&Members> = self.plugins.iter().map(PluginConf::members).collect();
            set_member(&mut members, "plugins", to_raw(&plugins)?);
        }
        to_text(&members)
    }
}

/// The plugins in the list itself; a list without the key gets those of the folder beside it.
fn inlined(members: &Members, only_inlined: bool, what: &str) -> Result<Vec<PluginConf>> {
    let Some(listed) = member::<Vec<Box<RawValue>>>(members, "plugins", what)? else {
        if only_inlined {
            return Err(Error::invalid_config(format!(
                "{what}: \"loadOnlyInlinedPlugins\" without \"plugins\""
            )));
        }
        return Ok(Vec::new());
    };
    if listed.is_empty() {
        return Err(Error::invalid_config(format!("{what}: \"plugins\" is empty")));
    }
    if listed.len() > MAX_PLUGINS {
        let msg = format!("{what} has {} plugins, at most {MAX_PLUGINS} can be called", listed.len());
        return Err(Error::invalid_config(msg));
    }
    let listed = member::<Vec<Members>>(members, "plugins", what)?.unwrap_or_default();
    let plugins = listed.into_iter().enumerate();
    plugins
        .map(|(i, plugin)| PluginConf::from_members(plugin, &format!("{what}: plugin {}", i + 1)))
        .collect()
}

/// The newest version that the configuration and this program support.
fn version(members: &Members, what: &str, inherited: &Inherited) -> Result<Version> {
    let single = member::<String>(members, "cniVersion", what)?.filter(|version| !version.is_empty());
    let several = member::<Vec<String>>(members, "cniVersions", what)?.unwrap_or_default();
    let supported = single.iter().chain(&several).filter_map(|version| version.parse::<Version>().ok());
    if let Some(newest) = supported.max() {
        return Ok(newest);
    }
    match single.or_else(|| several.into_iter().next()) {
        None => Ok(inherited.version.unwrap_or_default()),
        // None is supported: the error lists those that are.
        Some(version) => version.parse().map_err(|err: Error| err.context(what)),
    }
}

/// A boolean, which may also be written in quotes.
fn flag(members: &Members, key: &str, what: &str) -> Result<bool> {
    match member::<Value>(members, key, what)? {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => {
            Err(Error::invalid_config(format!("{what}: {key:?} is neither true nor false: {other}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use cni_core::spec::Code;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<NetworkConf> {
        NetworkConf::parse(text.as_bytes(), "it", &Inherited::default())
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        for (versions, expected) in [
            (r#""cniVersion":"0.4.0""#, Version::V0_4_0),
            (r#""cniVersions":["0.3.1","1.1.0","1.0.0"]"#, Version::V1_1_0),
            (r#""cniVersion":"1.0.0","cniVersions":["0.4.0","9.0.0"]"#, Version::V1_0_0),
            (r#""cniVersion":"9.0.0","cniVersions":["0.4.0"]"#, Version::V0_4_0),
            (r#""dns":{}"#, Version::V0_1_0),
        ] {
            let network = parse(&format!(r#"{{"name":"n",{versions},"plugins":[{{"type":"x"}}]}}"#)).unwrap();
            assert_eq!(network.version(), expected, "{versions}");
        }
        let error = parse(r#"{"name":"n","cniVersions":["9.0.0"],"type":"x"}"#).unwrap_err();
        assert_eq!(error.code(), Code::INCOMPATIBLE_VERSION);
    }

    #[test]
    fn what_is_inside_another_inherits_from_it() {
        let inherited = Inherited { name: Some("outer".parse().unwrap()), version: Some(Version::V1_0_0) };
        let network = NetworkConf::parse(br#"{"type":"x"}"#, "it", &inherited).unwrap();
        assert_eq!((network.name().as_str(), network.version()), ("outer", Version::V1_0_0));
        assert!(parse(r#"{"type":"x"}"#).unwrap_err().msg().contains("has no name"));
    }

    #[test]
    fn flags_are_booleans_or_their_names() {
        let network = |flags: &str| parse(&format!(r#"{{"name":"n",{flags},"plugins":[{{"type":"x"}}]}}"#));
        let both = network(r#""disableCheck":"TRUE","disableGC":true"#).unwrap();
        assert!(both.disable_check() && both.disable_gc() && both.wants_folder());
        assert!(!network(r#""loadOnlyInlinedPlugins":true"#).unwrap().wants_folder());
        assert!(network(r#""disableCheck":"yes""#).unwrap_err().msg().contains("disableCheck"));
    }

    #[test]
    fn the_text_of_a_list_holds_all_plugins() {
        let mut network =
            parse(r#"{"name":"n","cniVersions":["1.0.0"],"x":{"y":[1]},"plugins":[{"type":"a","k":1.50}]}"#)
                .unwrap();
        network.push(PluginConf::parse(br#"{"type":"b"}"#, "it").unwrap());
        let text = String::from_utf8(network.to_text().unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"k":1.50,"type":"a"},{"type":"b"}],"x":{"y":[1]}}"#
        );
    }

    #[test]
    fn keys_match_without_regard_to_case() {
        let text = r#"{"Name":"n","CNIVersion":"1.0.0","disablegc":true,"PLUGINS":[{"TYPE":"a","Capabilities":{"ips":true}}]}"#;
        let network = parse(text).unwrap();
        assert_eq!((network.name().as_str(), network.version()), ("n", Version::V1_0_0));
        assert!(network.disable_gc());
        assert_eq!(network.plugins()[0].plugin_type().as_str(), "a");
        assert_eq!(network.plugins()[0].capabilities(), ["ips"]);
        // Each reserved key once: another spelling would be read by the plugin, too.
        let text = String::from_utf8(network.to_text().unwrap()).unwrap();
        let expected = r#"{"cniVersion":"1.0.0","disablegc":true,"name":"n","plugins":[{"Capabilities":{"ips":true},"TYPE":"a"}]}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_list_has_a_bounded_number_of_plugins() {
        let list = |count: usize| {
            parse(&format!(r#"{{"name":"n","plugins":[{}]}}"#, vec![r#"{"type":"x"}"#; count].join(",")))
        };
        assert_eq!(list(MAX_PLUGINS).unwrap().plugins().len(), MAX_PLUGINS);
        assert!(list(MAX_PLUGINS + 1).unwrap_err().msg().contains("65 plugins, at most 64"));
    }

    #[test]
    fn a_list_without_plugins_is_refused() {
        for bad in [r#"{"name":"n"}"#, r#"{"name":"n","plugins":[]}"#, r#"{"name":"n","plugins":[{}]}"#] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::INVALID_CONFIG, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", key in "(name|type|plugins|cniVersions|disableGC)") {
            let _ = parse(&text);
            let _ = parse(&format!(r#"{{"name":"n","type":"t","{key}":{text}}}"#));
        }
    }
}
