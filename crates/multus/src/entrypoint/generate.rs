//! Multus' configuration, made from the default network's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cni_core::spec::{Version, from_json, same_key};
use serde_json::{Map, Value};

use super::options::Options;
use super::{Context as _, Error, Result, files};
use crate::config::ConfFile;

/// Up to 0.4.0 the configuration is that of one plugin, from 1.0.0 a list.
pub(crate) const NAMES: [&str; 2] = ["00-multus.conf", "00-multus.conflist"];

/// The name of the network without `--override-network-name`.
const NETWORK_NAME: &str = "multus-cni-network";

/// A configuration that calls multus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generated {
    /// The name of its file: a runtime tells a list from a single plugin by the ending.
    pub(crate) file_name: &'static str,
    /// Its text, laid out as by the Go program.
    pub(crate) text: String,
}

/// Wraps the default network's configuration, found in the file `master`, into one for multus.
///
/// # Errors
/// `bytes` is not a network configuration, its `cniVersion` is missing, unknown or not the required
/// one, or its `name` is missing where multus' network takes it.
pub(crate) fn generate(options: &Options, master: &Path, bytes: &[u8]) -> Result<Generated> {
    let mut delegate = parse(master, bytes)?;
    wrap(options, &mut delegate).context(|| master.display().to_string())
}

/// As [`generate`], but a list of the newest version whatever the default network's is, so that the
/// runtime calls STATUS and GC. Multus gives the default network its own version.
///
/// # Errors
/// Those of [`generate`].
pub(crate) fn generate_newest(options: &Options, master: &Path, bytes: &[u8]) -> Result<Generated> {
    let mut delegate = parse(master, bytes)?;
    let mut generated = || -> Result<Generated> {
        version(options, &mut delegate)?;
        let name = Value::from(network_name(options, &delegate)?);
        let text = list(Version::NEWEST, &name, &conf_file(options, &delegate)?)?;
        Ok(Generated { file_name: NAMES[1], text })
    };
    generated().context(|| master.display().to_string())
}

fn parse(master: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    from_json(bytes, "it").context(|| format!("{} is not a network configuration", master.display()))
}

fn wrap(options: &Options, delegate: &mut Map<String, Value>) -> Result<Generated> {
    let version = version(options, delegate)?;
    let name = Value::from(network_name(options, delegate)?);
    let conf = conf_file(options, delegate)?;
    if version >= Version::V1_0_0 {
        Ok(Generated { file_name: NAMES[1], text: list(version, &name, &conf)? })
    } else {
        Ok(Generated { file_name: NAMES[0], text: single(version, &name, &conf)? })
    }
}

/// Writes a generated configuration, and removes one of the other form, left by an earlier
/// `cniVersion`.
///
/// # Errors
/// The folder can't be written.
pub(crate) fn write(options: &Options, generated: &Generated) -> Result<PathBuf> {
    let path = options.cni_conf_dir.join(generated.file_name);
    files::write(&path, generated.text.as_bytes(), 0o600)?;
    remove_other(&options.cni_conf_dir, generated.file_name)?;
    Ok(path)
}

/// Removes the configuration of the other form than that of the file `kept`.
///
/// # Errors
/// Those of removing a file.
pub(crate) fn remove_other(folder: &Path, kept: &str) -> Result<()> {
    NAMES.into_iter().filter(|name| *name != kept).try_for_each(|name| files::remove(&folder.join(name)))
}

/// Removes the files of [`write()`], both forms.
///
/// # Errors
/// Those of removing a file; the other one is tried nevertheless.
pub(crate) fn remove(options: &Options) -> Result<()> {
    let removed = NAMES.map(|name| files::remove(&options.cni_conf_dir.join(name)));
    removed.into_iter().collect()
}

/// The values of a key in all its spellings, in the order in which a plugin reads them; without null.
fn spellings<'v>(object: &'v Map<String, Value>, name: &'static str) -> impl Iterator<Item = &'v Value> {
    let spelled = object.iter().filter(move |(key, value)| same_key(name, key) && !value.is_null());
    spelled.map(|(_, value)| value)
}

fn member<'v>(object: &'v Map<String, Value>, name: &'static str) -> Option<&'v Value> {
    spellings(object, name).last()
}

fn version(options: &Options, delegate: &mut Map<String, Value>) -> Result<Version> {
    let found = member(delegate, "cniVersion");
    let found = found.cloned().ok_or_else(|| Error::new("the configuration has no cniVersion"))?;
    if let (true, Some(forced)) = (options.force_cni_version, options.cni_version) {
        delegate.retain(|key, _| !same_key("cniVersion", key));
        delegate.insert("cniVersion".to_owned(), forced.as_str().into());
        return Ok(forced);
    }
    let found = found.as_str().ok_or_else(|| Error::new(format!("cniVersion {found} is not a string")))?;
    let version: Version = found.parse().context(|| "the default network".to_owned())?;
    match options.cni_version {
        Some(wanted) if wanted != version => Err(Error::new(format!(
            "the default network has cniVersion {version}, and --cni-version={wanted}"
        ))),
        _ => Ok(version),
    }
}

fn network_name(options: &Options, delegate: &Map<String, Value>) -> Result<String> {
    if !options.override_network_name {
        return Ok(NETWORK_NAME.to_owned());
    }
    match member(delegate, "name") {
        Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
        _ => Err(Error::new("the configuration has no name, which --override-network-name needs")),
    }
}

/// All capabilities that the plugins of the default network declare: the runtime gives multus only
/// those that multus declares, and multus passes them on.
fn capabilities(delegate: &Map<String, Value>) -> Result<BTreeMap<String, bool>> {
    let plugins: Vec<&Value> = match member(delegate, "plugins") {
        None => spellings(delegate, "capabilities").collect(),
        Some(Value::Array(plugins)) => {
            let plugins = plugins.iter().filter_map(Value::as_object);
            plugins.flat_map(|plugin| spellings(plugin, "capabilities")).collect()
        }
        Some(other) => return Err(Error::new(format!("plugins is not a list: {other}"))),
    };
    let mut all = BTreeMap::new();
    for declared in plugins {
        let Value::Object(declared) = declared else {
            return Err(Error::new(format!("capabilities is not an object: {declared}")));
        };
        for (capability, value) in declared {
            let Value::Bool(value) = value else {
                return Err(Error::new(format!(
                    "the capability {capability} is neither true nor false: {value}"
                )));
            };
            all.insert(capability.clone(), *value);
        }
    }
    Ok(all)
}

/// Multus' own keys; those without a value are left out.
fn conf_file(options: &Options, delegate: &Map<String, Value>) -> Result<ConfFile> {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let path = |value: &str| (!value.is_empty()).then(|| value.into());
    let raw = serde_json::value::to_raw_value(delegate).context(|| "delegates".to_owned())?;
    Ok(ConfFile {
        capabilities: Some(capabilities(delegate)?).filter(|all| !all.is_empty()),
        namespace_isolation: options.namespace_isolation.then_some(true),
        global_namespaces: text(&options.global_namespaces),
        log_to_stderr: (!options.multus_log_to_stderr).then_some(false),
        log_level: options.multus_log_level,
        log_file: path(&options.multus_log_file),
        bin_dir: path(&options.additional_bin_dir),
        cni_conf: path(&options.multus_cni_conf_dir),
        readiness_indicator_file: path(&options.readiness_indicator_file),
        kubeconfig: Some(options.multus_kubeconfig_file_host.as_str().into()),
        delegates: Some(vec![raw]),
        ..ConfFile::default()
    })
}

/// The lines of all keys, each with a depth of `depth` spaces; delegates one to a line.
fn lines(conf: &ConfFile, depth: usize, deeper: usize) -> Result<String> {
    let mut text = String::new();
    for (key, value) in conf.members().context(|| "writing the configuration".to_owned())? {
        if key != "delegates" {
            text.push_str(&format!("{:depth$}\"{key}\": {value},\n", ""));
        }
    }
    let delegates: Vec<String> =
        conf.delegates.iter().flatten().map(|delegate| format!("{:deeper$}{delegate}\n", "")).collect();
    text.push_str(&format!("{:depth$}\"delegates\": [\n{}{:depth$}]\n", "", delegates.join(","), ""));
    Ok(text)
}

fn single(version: Version, name: &Value, conf: &ConfFile) -> Result<String> {
    let lines = lines(conf, 8, 16)?;
    Ok(format!(
        r#"{{
        "cniVersion": "{version}",
        "name": {name},
        "type": "multus",
{lines}}}
"#
    ))
}

fn list(version: Version, name: &Value, conf: &ConfFile) -> Result<String> {
    let lines = lines(conf, 8, 12)?;
    Ok(format!(
        r#"{{
    "cniVersion": "{version}",
    "name": {name},
    "plugins": [ {{
        "type": "multus",
{lines}    }}]
}}
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(arguments: &[&str], master: &str) -> Result<Generated> {
        let options = super::super::command_line::parse(arguments).unwrap();
        generate(&options, Path::new("/net.d/10-a.conf"), master.as_bytes())
    }

    fn config(arguments: &[&str], master: &str) -> Value {
        serde_json::from_str(&generated(arguments, master).unwrap().text).unwrap()
    }

    #[test]
    fn a_single_plugin_is_wrapped_byte_for_byte_as_by_the_go_program() {
        let made = generated(
            &["--multus-log-to-stderr=false", "--multus-cni-conf-dir=", "--multus-kubeconfig-file-host=/k"],
            r#"{ "name": "a", "type": "bridge", "cniVersion": "0.3.1", "capabilities": {"ips": true} }"#,
        )
        .unwrap();
        assert_eq!(made.file_name, "00-multus.conf");
        assert_eq!(
            made.text,
            r#"{
        "cniVersion": "0.3.1",
        "name": "multus-cni-network",
        "type": "multus",
        "capabilities": {"ips":true},
        "logToStderr": false,
        "kubeconfig": "/k",
        "delegates": [
                {"capabilities":{"ips":true},"cniVersion":"0.3.1","name":"a","type":"bridge"}
        ]
}
"#
        );
    }

    #[test]
    fn from_1_0_0_on_it_is_a_list() {
        for version in ["1.0.0", "1.1.0"] {
            let master =
                format!(r#"{{"cniVersion":"{version}","name":"a","plugins":[{{"type":"bridge"}}]}}"#);
            let made =
                generated(&["--multus-cni-conf-dir=", "--multus-kubeconfig-file-host=/k"], &master).unwrap();
            assert_eq!(made.file_name, "00-multus.conflist");
            assert_eq!(
                made.text,
                format!(
                    r#"{{
    "cniVersion": "{version}",
    "name": "multus-cni-network",
    "plugins": [ {{
        "type": "multus",
        "kubeconfig": "/k",
        "delegates": [
            {master}
        ]
    }}]
}}
"#
                )
            );
        }
    }

    #[test]
    fn each_flag_becomes_its_key() {
        let made = config(
            &[
                "--namespace-isolation",
                "--global-namespaces=a,b",
                "--multus-log-to-stderr=false",
                "--multus-log-level=VERBOSE",
                "--multus-log-file=/l",
                "--additional-bin-dir=/b",
                "--multus-cni-conf-dir=/c",
                "--readiness-indicator-file=/r",
                "--override-network-name",
            ],
            r#"{"cniVersion":"0.4.0","name":"quo\"te","type":"bridge"}"#,
        );
        for (key, value) in [
            ("name", Value::from("quo\"te")),
            ("namespaceIsolation", true.into()),
            ("globalNamespaces", "a,b".into()),
            ("logToStderr", false.into()),
            ("logLevel", "verbose".into()),
            ("logFile", "/l".into()),
            ("binDir", "/b".into()),
            ("cniConf", "/c".into()),
            ("readinessindicatorfile", "/r".into()),
            ("kubeconfig", "/etc/cni/net.d/multus.d/multus.kubeconfig".into()),
        ] {
            assert_eq!(made[key], value, "{key}");
        }
    }

    #[test]
    fn the_capabilities_of_all_plugins_of_a_list_are_declared() {
        let made = config(
            &[],
            r#"{"cniVersion":"0.4.0","name":"a","plugins":[
                {"type":"bridge","capabilities":{"ips":true}},
                {"type":"tuning"},
                {"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        );
        assert_eq!(made["capabilities"], serde_json::json!({"ips": true, "portMappings": true}));
    }

    #[test]
    fn keys_match_without_regard_to_case() {
        let master = r#"{"CNIVersion":"0.4.0","Name":"a","Plugins":[{"Type":"b","Capabilities":{"ips":true},"capabilities":{"mac":true}}]}"#;
        let made = config(&["--override-network-name"], master);
        assert_eq!((&made["name"], &made["cniVersion"]), (&"a".into(), &"0.4.0".into()));
        assert_eq!(made["capabilities"], serde_json::json!({"ips": true, "mac": true}));
        let forced = generated(&["--cni-version=1.0.0", "--force-cni-version"], master).unwrap();
        assert!(!forced.text.contains("0.4.0"), "{}", forced.text);
    }

    #[test]
    fn the_version_may_be_required_or_forced() {
        let master = r#"{"cniVersion":"0.3.1","name":"a","type":"bridge"}"#;
        assert!(generated(&["--cni-version=0.3.1"], master).is_ok());
        let err = generated(&["--cni-version=1.0.0"], master).unwrap_err().to_string();
        assert!(err.contains("0.3.1") && err.contains("1.0.0"), "{err}");
        let forced = generated(&["--cni-version=1.0.0", "--force-cni-version"], master).unwrap();
        assert_eq!(forced.file_name, "00-multus.conflist");
        assert!(
            forced.text.contains(r#"{"cniVersion":"1.0.0","name":"a","type":"bridge"}"#),
            "{}",
            forced.text
        );
    }

    #[test]
    fn errors_of_the_default_network_name_its_file() {
        for (master, expected) in [
            ("{\n  nonsense\n}", "line 2"),
            ("[]", "not a network configuration"),
            (r#"{"name":"a"}"#, "no cniVersion"),
            (r#"{"cniVersion":4}"#, "cniVersion 4"),
            (r#"{"cniVersion":"9.9.9"}"#, "1.1.0"),
            (r#"{"cniVersion":"0.4.0","plugins":{}}"#, "plugins"),
            (r#"{"cniVersion":"0.4.0","capabilities":[]}"#, "capabilities"),
            (r#"{"cniVersion":"0.4.0","capabilities":{"ips":"yes"}}"#, "ips"),
        ] {
            let err = generated(&[], master).unwrap_err().to_string();
            assert!(err.contains(expected) && err.contains("/net.d/10-a.conf"), "{err}");
        }
        let err = generated(&["--override-network-name"], r#"{"cniVersion":"0.4.0"}"#).unwrap_err();
        assert!(err.to_string().contains("--override-network-name"), "{err}");
    }
}
