//! The configuration that makes a runtime call multus, made from the default network's.

use std::path::{Path, PathBuf};

use cni_core::spec::Version;
use serde_json::{Map, Value};

use crate::options::Options;
use crate::{Context as _, Error, Result, file};

/// Up to 0.4.0 the configuration is that of one plugin, from 1.0.0 a list.
const NAMES: [&str; 2] = ["00-multus.conf", "00-multus.conflist"];

/// The name of the network where the default network's is not taken.
const NETWORK_NAME: &str = "multus-cni-network";

/// A configuration that calls multus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Its file's name: a runtime tells a list from a single plugin by the ending.
    pub file_name: &'static str,
    /// Its text, laid out as the Go program does.
    pub text: String,
}

/// Wraps the default network's configuration, found in the file `master`, into one for multus.
///
/// # Errors
/// `bytes` is not a network configuration, has no `cniVersion` or one that can't be spoken or
/// was not asked for, or has no `name` where that is to be taken.
pub fn generate(options: &Options, master: &Path, bytes: &[u8]) -> Result<Generated> {
    let mut delegate: Map<String, Value> = serde_json::from_slice(bytes)
        .context(|| format!("{} is no network configuration", master.display()))?;
    let version = version(options, &mut delegate).context(|| master.display().to_string())?;
    let name = network_name(options, &delegate).context(|| master.display().to_string())?;
    let capabilities = capabilities(&delegate).context(|| master.display().to_string())?;
    let is_list = version >= Version::V1_0_0;
    let fields = fields(options, capabilities);
    let text = if is_list {
        list(version, &name, &fields, &Value::Object(delegate))
    } else {
        single(version, &name, &fields, &Value::Object(delegate))
    };
    Ok(Generated { file_name: NAMES[usize::from(is_list)], text })
}

/// Puts a generated configuration in its place, whole, and takes away one of the other form that
/// an earlier `cniVersion` had left.
///
/// # Errors
/// The folder can't be written.
pub fn write(options: &Options, generated: &Generated) -> Result<PathBuf> {
    let path = options.cni_conf_dir.join(generated.file_name);
    file::write(&path, generated.text.as_bytes(), 0o600)?;
    for other in NAMES.into_iter().filter(|name| *name != generated.file_name) {
        file::remove(&options.cni_conf_dir.join(other))?;
    }
    Ok(path)
}

/// Removes what [`write()`] made.
///
/// # Errors
/// What keeps a file from being removed; the other one is tried nevertheless.
pub fn remove(options: &Options) -> Result<()> {
    let removed = NAMES.map(|name| file::remove(&options.cni_conf_dir.join(name)));
    removed.into_iter().collect()
}

fn version(options: &Options, delegate: &mut Map<String, Value>) -> Result<Version> {
    let found =
        delegate.get("cniVersion").ok_or_else(|| Error::new("the configuration has no cniVersion"))?;
    if let (true, Some(forced)) = (options.force_cni_version, options.cni_version) {
        delegate.insert("cniVersion".to_owned(), forced.as_str().into());
        return Ok(forced);
    }
    let found = found.as_str().ok_or_else(|| Error::new(format!("cniVersion {found} is no text")))?;
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
    match delegate.get("name") {
        Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
        _ => Err(Error::new("the configuration has no name, and --override-network-name asks for it")),
    }
}

/// All capabilities that the plugins of the default network declare: the runtime gives multus only
/// what multus declares, and multus passes it on.
fn capabilities(delegate: &Map<String, Value>) -> Result<Map<String, Value>> {
    let plugins: Vec<&Value> = match delegate.get("plugins") {
        None => delegate.get("capabilities").into_iter().collect(),
        Some(Value::Array(plugins)) => {
            plugins.iter().filter_map(|plugin| plugin.get("capabilities")).collect()
        }
        Some(other) => return Err(Error::new(format!("plugins is no list: {other}"))),
    };
    let mut all = Map::new();
    for declared in plugins {
        let Value::Object(declared) = declared else {
            return Err(Error::new(format!("capabilities is no object: {declared}")));
        };
        for (capability, wanted) in declared {
            if !wanted.is_boolean() {
                return Err(Error::new(format!(
                    "the capability {capability} is neither true nor false: {wanted}"
                )));
            }
            all.insert(capability.clone(), wanted.clone());
        }
    }
    Ok(all)
}

/// Multus' own fields, in the Go program's order; what is not set is left out.
fn fields(options: &Options, capabilities: Map<String, Value>) -> Vec<(&'static str, Value)> {
    let text = |value: &str| (!value.is_empty()).then(|| Value::from(value));
    let fields = [
        ("capabilities", (!capabilities.is_empty()).then_some(Value::Object(capabilities))),
        ("namespaceIsolation", options.namespace_isolation.then_some(Value::Bool(true))),
        ("globalNamespaces", text(&options.global_namespaces)),
        ("logToStderr", (!options.multus_log_to_stderr).then_some(Value::Bool(false))),
        ("logLevel", options.multus_log_level.map(|level| Value::from(level.as_str()))),
        ("logFile", text(&options.multus_log_file)),
        ("binDir", text(&options.additional_bin_dir)),
        // The Go program writes it under this name; multus itself reads `confDir`.
        ("cniConf", text(&options.multus_cni_conf_dir)),
        ("readinessindicatorfile", text(&options.readiness_indicator_file)),
        ("kubeconfig", Some(Value::from(options.multus_kubeconfig_file_host.as_str()))),
    ];
    fields.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn lines(fields: &[(&'static str, Value)]) -> String {
    fields.iter().map(|(key, value)| format!("        \"{key}\": {value},\n")).collect()
}

fn single(version: Version, name: &str, fields: &[(&'static str, Value)], delegate: &Value) -> String {
    format!(
        r#"{{
        "cniVersion": "{version}",
        "name": {},
        "type": "multus",
{}        "delegates": [
                {delegate}
        ]
}}
"#,
        Value::from(name),
        lines(fields)
    )
}

fn list(version: Version, name: &str, fields: &[(&'static str, Value)], delegate: &Value) -> String {
    format!(
        r#"{{
    "cniVersion": "{version}",
    "name": {},
    "plugins": [ {{
        "type": "multus",
{}        "delegates": [
            {delegate}
        ]
    }}]
}}
"#,
        Value::from(name),
        lines(fields)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(arguments: &[&str], master: &str) -> Result<Generated> {
        let options = Options::parse(arguments).unwrap();
        generate(&options, Path::new("/net.d/10-a.conf"), master.as_bytes())
    }

    fn config(arguments: &[&str], master: &str) -> Value {
        serde_json::from_str(&generated(arguments, master).unwrap().text).unwrap()
    }

    #[test]
    fn a_single_plugin_is_wrapped_byte_for_byte_as_the_go_program_does() {
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
    fn each_flag_becomes_its_field() {
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
    fn the_version_may_be_demanded_or_forced() {
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
    fn what_is_wrong_with_the_default_network_is_said_with_its_file() {
        for (master, said) in [
            ("{\n  nonsense\n}", "line 2"),
            ("[]", "no network configuration"),
            (r#"{"name":"a"}"#, "no cniVersion"),
            (r#"{"cniVersion":4}"#, "cniVersion 4"),
            (r#"{"cniVersion":"9.9.9"}"#, "1.1.0"),
            (r#"{"cniVersion":"0.4.0","plugins":{}}"#, "plugins"),
            (r#"{"cniVersion":"0.4.0","capabilities":[]}"#, "capabilities"),
            (r#"{"cniVersion":"0.4.0","capabilities":{"ips":"yes"}}"#, "ips"),
        ] {
            let err = generated(&[], master).unwrap_err().to_string();
            assert!(err.contains(said) && err.contains("/net.d/10-a.conf"), "{err}");
        }
        let err = generated(&["--override-network-name"], r#"{"cniVersion":"0.4.0"}"#).unwrap_err();
        assert!(err.to_string().contains("--override-network-name"), "{err}");
    }
}
