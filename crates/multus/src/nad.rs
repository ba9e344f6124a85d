//! The network configuration of a NetworkAttachmentDefinition.

use std::path::Path;

use cni_core::spec::{Error, NetworkName, Result, from_json, same_key};
use cni_runtime::{Inherited, Members, NetworkConf, load, member, set_member};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::device::info;
use crate::object::{Definition, Kind};

/// The key of the annotation that names the resource of a device plugin.
pub(crate) const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// The longest configuration in a definition, in bytes; etcd has the same limit for an object.
const MAX_CONFIG: usize = 1536 << 10;

/// The configuration of a definition, or where it has none, the one of the same name in `conf_dir`.
///
/// # Errors
/// When it is invalid, with the definition's name and the place of the mistake.
pub(crate) fn network(
    definition: &Definition,
    kind: Kind,
    conf_dir: &Path,
    inherited: &Inherited,
) -> Result<NetworkConf> {
    let name = &definition.metadata.name;
    let what = format!("{} {}/{name}", kind.name(), definition.metadata.namespace);
    // A configuration without a name gets that of its definition.
    let named: NetworkName = name.parse()?;
    if kind == Kind::LegacyNetwork {
        let inherited = Inherited { name: Some(named), version: inherited.version };
        return without_keys_of_multus(&legacy(definition, &what, &inherited)?);
    }
    // One without a version has none, which means 0.1.0: its plugin may support no other.
    let inherited = Inherited { name: Some(named.clone()), version: None };
    let config = definition.spec.as_ref().map_or("", |spec| spec.config.as_str());
    if config.len() > MAX_CONFIG {
        return Err(Error::invalid_config(format!(
            "{what} has a config of more than {} KiB",
            MAX_CONFIG >> 10
        )));
    }
    if config.trim().is_empty() {
        return load::by_name(conf_dir, &named, &inherited)
            .map_err(|err| err.context(format_args!("{what} has no config of its own")));
    }
    without_keys_of_multus(&NetworkConf::parse(config.as_bytes(), &what, &inherited)?)
}

/// Removes the keys that no definition may set: those that only multus has, and the path of the device
/// information file, which a plugin overwrites.
fn without_keys_of_multus(network: &NetworkConf) -> Result<NetworkConf> {
    const KEYS: [&str; 13] = [
        "delegates",
        "clusterNetwork",
        "defaultNetworks",
        "manifestDir",
        "multusNamespace",
        "systemNamespaces",
        "globalNamespaces",
        "namespaceIsolation",
        "readinessindicatorfile",
        "retryDeleteOnError",
        "delegateTimeout",
        "auxiliaryCNIChainName",
        "always_use_default",
    ];
    let is = |key: &str, name: &str| same_key(name, key);
    network.map_plugins(|members| {
        members.retain(|key, _| !KEYS.iter().any(|own| is(key, own)));
        for (_, value) in members.iter_mut().filter(|(key, _)| is(key, "runtimeConfig")) {
            let Ok(mut offered) = serde_json::from_str::<Members>(value.get()) else { continue };
            offered.retain(|capability, _| !is(capability, info::CAPABILITY));
            *value = raw(&offered)?;
        }
        Ok(())
    })
}

/// `plugin` is the type, `args` an array with the rest of the configuration.
fn legacy(definition: &Definition, what: &str, inherited: &Inherited) -> Result<NetworkConf> {
    let (plugin, args) = (&definition.plugin, &definition.args);
    if plugin.is_empty() {
        return Err(Error::invalid_config(format!("{what} has no plugin")));
    }
    let mut configs: Vec<Members> = if args.trim().is_empty() {
        Vec::new()
    } else {
        from_json(args.as_bytes(), &format!("{what}: args"))?
    };
    if configs.is_empty() {
        configs.push(Members::new());
    }
    for config in &mut configs {
        set_member(config, "type", raw(plugin)?);
    }
    let text = if let [config] = configs.as_slice() {
        serde_json::to_vec(config)
    } else {
        serde_json::to_vec(&std::collections::BTreeMap::from([("plugins", &configs)]))
    };
    NetworkConf::parse(&text.map_err(|err| Error::invalid_config(format!("{what}: {err}")))?, what, inherited)
}

/// The network with the pod's arguments in `args.cni` of each plugin.
///
/// # Errors
/// When `args` of the configuration is not an object.
pub(crate) fn with_cni_args(
    network: &NetworkConf,
    cni_args: &serde_json::Map<String, serde_json::Value>,
) -> Result<NetworkConf> {
    network.map_plugins(|members| {
        let mut args: Members = member(members, "args", "the configuration")?.unwrap_or_default();
        let mut cni: Members = member(&args, "cni", "\"args\" of the configuration")?.unwrap_or_default();
        for (key, value) in cni_args {
            cni.insert(key.clone(), raw(value)?);
        }
        set_member(&mut args, "cni", raw(&cni)?);
        set_member(members, "args", raw(&args)?);
        Ok(())
    })
}

/// The network with the device to attach in each plugin's configuration.
///
/// # Errors
/// None in practice.
pub(crate) fn with_device(network: &NetworkConf, device_id: &str) -> Result<NetworkConf> {
    network.map_plugins(|members| {
        for key in ["deviceID", "pciBusID"] {
            set_member(members, key, raw(&device_id)?);
        }
        Ok(())
    })
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(|err| Error::invalid_config(err.to_string()))
}

#[cfg(test)]
mod tests {
    use cni_core::spec::Code;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::object::{DefinitionSpec, Metadata};

    fn definition(config: &str) -> Definition {
        let metadata = Metadata { name: "net-a".into(), namespace: "ns".into(), ..Metadata::default() };
        Definition { metadata, spec: Some(DefinitionSpec { config: config.into() }), ..Definition::default() }
    }

    fn read(config: &str) -> Result<NetworkConf> {
        network(&definition(config), Kind::Definition, Path::new("/nonexistent"), &Inherited::default())
    }

    #[test]
    fn a_configuration_without_a_name_has_that_of_its_definition() {
        assert_eq!(read(r#"{"type":"x"}"#).unwrap().name().as_str(), "net-a");
        assert_eq!(read(r#"{"type":"x","name":"own"}"#).unwrap().name().as_str(), "own");
        assert_eq!(read(r#"{"plugins":[{"type":"x"},{"type":"y"}]}"#).unwrap().plugins().len(), 2);
    }

    #[test]
    fn an_error_has_the_definition_and_the_place() {
        let error = read("{\n  \"type\": \"x\"\n  \"a\": 1\n}").unwrap_err();
        assert_eq!(error.code(), Code::UNDECODABLE);
        assert!(error.msg().contains("ns/net-a") && error.msg().contains("line 3, column"), "{error}");
        assert!(error.to_string().contains("<HERE>"), "{error}");
        assert!(read(r#"{"type":"../../x"}"#).unwrap_err().msg().contains("ns/net-a"));
    }

    #[test]
    fn a_definition_sets_no_keys_of_multus_and_no_path_of_device_information() {
        let network = read(
            r#"{"type":"x","Delegates":[],"clusterNetwork":"/etc","logFile":"its own","keep":1,
            "runtimeConfig":{"cnideviceinfofile":"/etc/passwd","mac":"m"}}"#,
        );
        let text: serde_json::Value = serde_json::from_slice(&network.unwrap().to_text().unwrap()).unwrap();
        assert_eq!(
            text,
            json!({"cniVersion":"0.1.0","name":"net-a","type":"x","logFile":"its own","keep":1,"runtimeConfig":{"mac":"m"}})
        );
    }

    #[test]
    fn a_definition_without_configuration_is_looked_up_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1.conf"), r#"{"name":"net-a","type":"x"}"#).unwrap();
        let bare = Definition { spec: None, ..definition("") };
        for definition in [definition(" "), bare] {
            let found = network(&definition, Kind::Definition, folder.path(), &Inherited::default()).unwrap();
            assert_eq!(found.plugins()[0].plugin_type().as_str(), "x");
        }
        assert!(read("").unwrap_err().msg().contains("has no config of its own"));
    }

    #[test]
    fn networks_of_the_earlier_kind_have_plugin_and_args() {
        let read = |plugin: &str, args: &str| {
            let legacy =
                Definition { plugin: plugin.into(), args: args.into(), spec: None, ..definition("") };
            network(&legacy, Kind::LegacyNetwork, Path::new("/"), &Inherited::default())
        };
        let network = read("sriov", r#"[ { "if0": "enp2s0", "vlan": 210 } ]"#).unwrap();
        let text: serde_json::Value = serde_json::from_slice(&network.to_text().unwrap()).unwrap();
        assert_eq!(
            text,
            json!({"cniVersion":"0.1.0","name":"net-a","type":"sriov","if0":"enp2s0","vlan":210})
        );
        assert_eq!(read("x", r#"[{"a":1},{"a":2}]"#).unwrap().plugins().len(), 2);
        assert!(read("x", "").is_ok());
        for (plugin, args) in [("", "[]"), ("x", "{}"), ("x", "[1]"), ("../x", "[]")] {
            assert!(read(plugin, args).is_err(), "{plugin} {args}");
        }
    }

    #[test]
    fn arguments_and_devices_reach_every_plugin() {
        let network =
            read(r#"{"plugins":[{"type":"x","args":{"cni":{"a":1},"b":2}},{"type":"y"}]}"#).unwrap();
        let args = json!({"a": 3, "c": [4]});
        let changed = with_cni_args(&network, args.as_object().unwrap()).unwrap();
        let changed = with_device(&changed, "0000:01").unwrap();
        let text: serde_json::Value = serde_json::from_slice(&changed.to_text().unwrap()).unwrap();
        assert_eq!(text["plugins"][0]["args"], json!({"cni": {"a": 3, "c": [4]}, "b": 2}));
        assert_eq!(text["plugins"][1]["args"], json!({"cni": {"a": 3, "c": [4]}}));
        assert_eq!(text["plugins"][1]["pciBusID"], "0000:01");
        // One spelling is left of each key: a plugin would read the others, too.
        let spelled =
            read(r#"{"type":"x","Args":{"CNI":{"a":1,"d":5}},"deviceId":"of the definition"}"#).unwrap();
        let changed = with_cni_args(&spelled, args.as_object().unwrap()).unwrap();
        let changed = with_device(&changed, "0000:01").unwrap();
        let text: serde_json::Value = serde_json::from_slice(&changed.to_text().unwrap()).unwrap();
        assert_eq!(text["args"], json!({"cni": {"a": 3, "c": [4], "d": 5}}));
        assert_eq!((&text["Args"], &text["deviceId"]), (&json!(null), &json!(null)));
        assert_eq!(text["deviceID"], "0000:01");
        let odd = read(r#"{"type":"x","args":7}"#).unwrap();
        assert!(with_cni_args(&odd, args.as_object().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn any_configuration_is_read_or_refused(config in "\\PC{0,80}", cut in 0usize..60) {
            let _ = read(&config);
            let whole = r#"{"cniVersion":"1.0.0","plugins":[{"type":"x","args":{"cni":{}}}]}"#;
            let _ = read(&whole[..cut]);
        }
    }
}
