//! Multus' own configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cni_core::request::Request;
use cni_core::spec::{Error, NetworkName, Result, Version, from_json};
use cni_runtime::{CapabilityArgs, Inherited, Members, NetworkConf};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::log::{LogConf, LogLevel, LogOptions};

/// How long one delegate may take, unless the configuration says otherwise: less than the
/// two minutes after which a kubelet gives up, so that the error still reaches somebody.
const DELEGATE_TIMEOUT: Duration = Duration::from_secs(100);

/// The keys without which DEL would look for the cache or the plugins in the wrong place, or
/// keep its words from whoever is to read them.
const KEYS_OF_DEL: [&str; 9] = [
    "cniDir",
    "binDir",
    "manifestDir",
    "retryDeleteOnError",
    "delegateTimeout",
    "logFile",
    "logLevel",
    "logToStderr",
    "logOptions",
];

/// What an administrator configured.
#[derive(Debug)]
pub struct MultusConf {
    /// Name and version of the configuration itself, for delegates that have none.
    pub inherited: Inherited,
    /// `delegates`; not looked at where there is a `clusterNetwork`.
    pub delegates: Vec<NetworkConf>,
    /// Which of them has `masterplugin`, of an earlier program: its result is returned.
    pub master: usize,
    /// `clusterNetwork`: the default network, by the name of a definition or of a
    /// configuration in `confDir`, or by the path of a file or folder.
    pub cluster_network: Option<String>,
    /// `defaultNetworks`: what every pod outside the system namespaces gets beside it.
    pub default_networks: Vec<String>,
    /// `always_use_default`, of an earlier program: `Some(false)` gives a pod that names
    /// networks only those.
    pub always_use_default: Option<bool>,
    /// `confDir`: configurations of definitions that have none themselves.
    pub conf_dir: PathBuf,
    /// `cniDir`: the cache.
    pub cni_dir: PathBuf,
    /// `binDir`: searched for plugins before `CNI_PATH`.
    pub bin_dir: PathBuf,
    /// `kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `manifestDir`: YAML files read in place of an API server.
    pub manifest_dir: Option<PathBuf>,
    /// `namespaceIsolation`: a pod may name definitions of its own namespace only.
    pub namespace_isolation: bool,
    /// `globalNamespaces`: those that are open to all all the same.
    pub global_namespaces: Vec<String>,
    /// `systemNamespaces`: their pods get no `defaultNetworks`.
    pub system_namespaces: Vec<String>,
    /// `multusNamespace`: of the definitions for `clusterNetwork` and `defaultNetworks`.
    pub multus_namespace: String,
    /// `readinessindicatorfile`: ADD waits until it exists.
    pub readiness_file: Option<PathBuf>,
    /// `retryDeleteOnError`: the cache stays when a DEL failed.
    pub retry_delete_on_error: bool,
    /// `auxiliaryCNIChainName`: a chain from the folder of that name beside `clusterNetwork`.
    pub auxiliary_chain: Option<NetworkName>,
    /// `runtimeConfig`: what the runtime offers to plugins with the capability.
    pub runtime_config: CapabilityArgs,
    /// `delegateTimeout`, in seconds: how long one delegate may take.
    pub delegate_timeout: Duration,
    /// Where log lines go.
    pub log: LogConf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    delegates: Vec<Box<RawValue>>,
    #[serde(default)]
    cluster_network: String,
    #[serde(default)]
    default_networks: Vec<String>,
    #[serde(default, rename = "always_use_default")]
    always_use_default: Option<bool>,
    #[serde(default)]
    conf_dir: PathBuf,
    #[serde(default)]
    cni_dir: PathBuf,
    #[serde(default)]
    bin_dir: PathBuf,
    #[serde(default)]
    kubeconfig: PathBuf,
    #[serde(default)]
    manifest_dir: PathBuf,
    #[serde(default)]
    namespace_isolation: bool,
    #[serde(default)]
    global_namespaces: String,
    #[serde(default)]
    system_namespaces: Option<Vec<String>>,
    #[serde(default)]
    multus_namespace: String,
    #[serde(default, rename = "readinessindicatorfile")]
    readiness_indicator_file: PathBuf,
    #[serde(default)]
    retry_delete_on_error: bool,
    #[serde(default, rename = "auxiliaryCNIChainName")]
    auxiliary_cni_chain_name: String,
    /// What the runtime looks at to fill `runtimeConfig`.
    #[serde(default, rename = "capabilities")]
    _capabilities: Option<BTreeMap<String, bool>>,
    #[serde(default)]
    runtime_config: CapabilityArgs,
    #[serde(default)]
    delegate_timeout: Option<u32>,
    #[serde(default)]
    log_file: PathBuf,
    #[serde(default, deserialize_with = "log_level")]
    log_level: Option<LogLevel>,
    #[serde(default)]
    log_to_stderr: Option<bool>,
    #[serde(default)]
    log_options: LogOptions,
}

/// The level by name, in any case; the empty name is none.
fn log_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LogLevel>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    LogLevel::parse(&name).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "logLevel {name:?} is none of {}",
            LogLevel::ALL.map(LogLevel::name).join(", ")
        ))
    })
}

impl MultusConf {
    /// Reads the configuration of a call.
    ///
    /// # Errors
    /// Not valid, or without any network to attach to.
    pub fn parse(request: &Request) -> Result<MultusConf> {
        MultusConf::from_text(&request.text, inherited(request))
    }

    /// What of an invalid configuration DEL can go by: where the cache and the plugins are, and
    /// where log lines go, as far as each of these is valid by itself.
    ///
    /// # Errors
    /// None that can be met.
    pub fn valid_part(request: &Request) -> Result<MultusConf> {
        MultusConf::valid_part_of(&request.text, inherited(request))
    }

    fn valid_part_of(text: &[u8], inherited: Inherited) -> Result<MultusConf> {
        let members: Members = from_json(text, "network configuration").unwrap_or_default();
        let mut kept = Members::new();
        let mut conf = MultusConf::from_wire(read(&kept)?, inherited.clone())?;
        for key in KEYS_OF_DEL {
            let Some(value) = members.get(key) else { continue };
            kept.insert(key.to_owned(), value.clone());
            match read(&kept).and_then(|wire| MultusConf::from_wire(wire, inherited.clone())) {
                Ok(with_it) => conf = with_it,
                Err(_) => drop(kept.remove(key)),
            }
        }
        Ok(conf)
    }

    fn from_text(text: &[u8], inherited: Inherited) -> Result<MultusConf> {
        let conf = MultusConf::from_wire(from_json(text, "network configuration")?, inherited)?;
        let is_alone = conf.kubeconfig.is_none() && conf.manifest_dir.is_none();
        if conf.delegates.is_empty() && conf.cluster_network.is_none() && is_alone {
            return Err(Error::invalid_config("at least one delegate or a clusterNetwork must be specified")
                .details("the keys \"delegates\" and \"clusterNetwork\" are both missing or empty"));
        }
        Ok(conf)
    }

    fn from_wire(wire: Wire, inherited: Inherited) -> Result<MultusConf> {
        let cluster_network = non_empty(wire.cluster_network);
        let (delegates, master) = match cluster_network {
            Some(_) => (Vec::new(), 0),
            None => delegates(&wire.delegates, &inherited)?,
        };
        let auxiliary_chain = non_empty(wire.auxiliary_cni_chain_name)
            .map(|name| name.parse().map_err(|err: Error| err.context("auxiliaryCNIChainName")))
            .transpose()?;
        Ok(MultusConf {
            inherited,
            delegates,
            master,
            cluster_network,
            default_networks: wire.default_networks,
            always_use_default: wire.always_use_default,
            conf_dir: or_default(wire.conf_dir, "/etc/cni/multus/net.d"),
            cni_dir: or_default(wire.cni_dir, "/var/lib/cni/multus"),
            bin_dir: or_default(wire.bin_dir, "/opt/cni/bin"),
            kubeconfig: non_empty_path(wire.kubeconfig),
            manifest_dir: non_empty_path(wire.manifest_dir),
            namespace_isolation: wire.namespace_isolation,
            global_namespaces: names(&wire.global_namespaces),
            system_namespaces: wire.system_namespaces.unwrap_or_else(|| vec!["kube-system".to_owned()]),
            multus_namespace: non_empty(wire.multus_namespace).unwrap_or_else(|| "kube-system".to_owned()),
            readiness_file: non_empty_path(wire.readiness_indicator_file),
            retry_delete_on_error: wire.retry_delete_on_error,
            auxiliary_chain,
            runtime_config: wire.runtime_config,
            delegate_timeout: timeout(wire.delegate_timeout)?,
            log: LogConf {
                file: non_empty_path(wire.log_file),
                level: wire.log_level.unwrap_or(LogLevel::Panic),
                to_stderr: wire.log_to_stderr.unwrap_or(true),
                options: wire.log_options,
            },
        })
    }

    /// The version of the configuration.
    pub fn version(&self) -> Version {
        self.inherited.version.unwrap_or_default()
    }

    /// Where the delegates' results are kept.
    pub fn results_dir(&self) -> PathBuf {
        self.cni_dir.join("results")
    }
}

fn inherited(request: &Request) -> Inherited {
    Inherited { name: Some(request.conf.name.clone()), version: Some(request.conf.cni_version) }
}

fn read(members: &Members) -> Result<Wire> {
    let text = serde_json::to_vec(members).map_err(|err| Error::invalid_config(err.to_string()))?;
    from_json(&text, "network configuration")
}

/// The delegates, and which of them is the master: the first, unless one says so.
fn delegates(raw: &[Box<RawValue>], inherited: &Inherited) -> Result<(Vec<NetworkConf>, usize)> {
    let mut delegates = Vec::new();
    let mut master = None;
    for (i, raw) in raw.iter().enumerate() {
        let what = format!("delegate {}", i + 1);
        let delegate = NetworkConf::parse(raw.get().as_bytes(), &what, inherited)?;
        let claims = match delegate.members().get("masterplugin").map(|raw| raw.get()) {
            None | Some("null" | "false") => false,
            Some("true") => true,
            Some(other) => {
                let msg = format!("{what}: \"masterplugin\" is neither true nor false: {other}");
                return Err(Error::invalid_config(msg));
            }
        };
        if claims && master.replace(i).is_some() {
            return Err(Error::invalid_config("several delegates have \"masterplugin\": true")
                .details("the result of one of them is returned: mark that one"));
        }
        delegates.push(delegate);
    }
    Ok((delegates, master.unwrap_or(0)))
}

/// Names separated by commas; without any, the namespace that everybody may use.
fn names(text: &str) -> Vec<String> {
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() { vec!["default".to_owned()] } else { names }
}

fn timeout(seconds: Option<u32>) -> Result<Duration> {
    match seconds {
        None => Ok(DELEGATE_TIMEOUT),
        Some(0) => Err(Error::invalid_config("delegateTimeout is 0 seconds: no delegate could answer")),
        Some(seconds) => Ok(Duration::from_secs(seconds.into())),
    }
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn non_empty_path(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

fn or_default(path: PathBuf, default: &str) -> PathBuf {
    non_empty_path(path).unwrap_or_else(|| default.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use cni_core::spec::Code;

    use super::*;

    pub(crate) fn parse(text: &str) -> Result<MultusConf> {
        let inherited = Inherited { name: Some("multus".parse()?), version: Some(Version::V1_0_0) };
        MultusConf::from_text(text.as_bytes(), inherited)
    }

    #[test]
    fn every_field_has_its_default() {
        let conf = parse(r#"{"delegates":[{"type":"x"}]}"#).unwrap();
        assert_eq!(conf.delegates[0].name().as_str(), "multus");
        assert_eq!(conf.conf_dir, PathBuf::from("/etc/cni/multus/net.d"));
        assert_eq!(conf.results_dir(), PathBuf::from("/var/lib/cni/multus/results"));
        assert_eq!(conf.bin_dir, PathBuf::from("/opt/cni/bin"));
        assert_eq!(
            (conf.multus_namespace.as_str(), conf.global_namespaces.as_slice()),
            ("kube-system", ["default".to_owned()].as_slice())
        );
        assert_eq!(conf.system_namespaces, ["kube-system"]);
        assert!(conf.log.to_stderr && conf.kubeconfig.is_none() && !conf.namespace_isolation);
    }

    #[test]
    fn every_wrong_value_is_refused_with_its_text() {
        for (field, value) in [
            ("delegates", "{}"),
            ("delegates", r#"["x"]"#),
            ("delegates", r#"[{"type":"../x"}]"#),
            ("delegates", r#"[{"type":"x","masterplugin":"yes"}]"#),
            ("clusterNetwork", "1"),
            ("defaultNetworks", r#""a""#),
            ("always_use_default", "1"),
            ("confDir", "1"),
            ("cniDir", "[]"),
            ("binDir", "{}"),
            ("kubeconfig", "1"),
            ("manifestDir", "1"),
            ("namespaceIsolation", r#""true""#),
            ("globalNamespaces", r#"["a"]"#),
            ("systemNamespaces", r#""a""#),
            ("multusNamespace", "1"),
            ("readinessindicatorfile", "1"),
            ("retryDeleteOnError", "1"),
            ("auxiliaryCNIChainName", r#""../x""#),
            ("capabilities", r#"{"mac":"yes"}"#),
            ("runtimeConfig", "[]"),
            ("delegateTimeout", "0"),
            ("delegateTimeout", "-1"),
            ("logFile", "1"),
            ("logLevel", r#""loud""#),
            ("logToStderr", r#""no""#),
            ("logOptions", r#"{"maxSize":"big"}"#),
        ] {
            let text = format!(r#"{{"kubeconfig":"/k","{field}":{value}}}"#).replacen(
                r#""kubeconfig":"/k","kubeconfig""#,
                r#""kubeconfig""#,
                1,
            );
            let error = parse(&text).expect_err(&text);
            assert_eq!(error.code(), Code::INVALID_CONFIG, "{text}: {error}");
        }
    }

    #[test]
    fn of_an_invalid_configuration_del_goes_by_what_is_valid() {
        let text = br#"{"delegates":[{}],"cniDir":"/c","binDir":7,"logLevel":"loud","logFile":"/l",
            "delegateTimeout":0,"retryDeleteOnError":true}"#;
        let conf = MultusConf::valid_part_of(text, Inherited::default()).unwrap();
        assert_eq!((conf.cni_dir, conf.bin_dir), (PathBuf::from("/c"), PathBuf::from("/opt/cni/bin")));
        assert_eq!((conf.log.file, conf.log.level), (Some(PathBuf::from("/l")), LogLevel::Panic));
        assert_eq!(conf.delegate_timeout, DELEGATE_TIMEOUT);
        assert!(conf.retry_delete_on_error && conf.delegates.is_empty());
    }

    #[test]
    fn one_delegate_may_be_the_master() {
        let conf = parse(r#"{"delegates":[{"type":"a"},{"type":"b","masterplugin":true}]}"#).unwrap();
        assert_eq!(conf.master, 1);
        let two = r#"{"delegates":[{"type":"a","masterplugin":true},{"type":"b","masterplugin":true}]}"#;
        assert!(parse(two).is_err());
    }

    #[test]
    fn no_network_at_all_is_refused() {
        assert!(parse("{}").unwrap_err().msg().contains("delegate"));
        assert!(parse(r#"{"kubeconfig":"/k"}"#).is_ok());
    }

    #[test]
    fn namespaces_are_split_at_commas() {
        let conf = parse(r#"{"kubeconfig":"/k","globalNamespaces":"a, b ,,c"}"#).unwrap();
        assert_eq!(conf.global_namespaces, ["a", "b", "c"]);
    }
}
