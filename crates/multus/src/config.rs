//! Multus' own configuration.

mod file;

use std::path::PathBuf;
use std::time::Duration;

use cni_core::request::Request;
use cni_core::spec::{Error, NetworkName, Result, Version, from_json};
use cni_runtime::{CapabilityArgs, Inherited, Members, NetworkConf, member};
use serde_json::value::RawValue;

use crate::log::{LogConf, LogLevel};

pub(crate) use file::ConfFile;

/// The `type` of multus' configuration.
pub(crate) const NAME: &str = "multus";

/// How long one delegate may take by default: less than the two minutes after which a kubelet gives
/// up, so that the kubelet still receives the error.
const DELEGATE_TIMEOUT: Duration = Duration::from_secs(100);

/// The keys without which DEL would look for the cache or the plugins in the wrong place, or log to
/// the wrong file.
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

/// A valid configuration.
#[derive(Debug)]
pub(crate) struct MultusConf {
    /// Name and version of the configuration itself, for delegates that have none.
    pub(crate) inherited: Inherited,
    /// `delegates`; ignored where there is a `clusterNetwork`.
    pub(crate) delegates: Vec<NetworkConf>,
    /// The index of the one with `masterplugin`, a key of an earlier program: its result is returned.
    pub(crate) master: usize,
    /// `clusterNetwork`: the default network, by the name of a definition or of a
    /// configuration in `confDir`, or by the path of a file or folder.
    pub(crate) cluster_network: Option<String>,
    /// `defaultNetworks`: further networks of every pod outside the system namespaces.
    pub(crate) default_networks: Vec<String>,
    /// `always_use_default`, of an earlier program: `Some(false)` gives a pod that names
    /// networks only those.
    pub(crate) always_use_default: Option<bool>,
    /// `confDir`: configurations of definitions that have none themselves.
    pub(crate) conf_dir: PathBuf,
    /// `cniDir`: the cache.
    pub(crate) cni_dir: PathBuf,
    /// `binDir`: searched for plugins before `CNI_PATH`.
    pub(crate) bin_dir: PathBuf,
    /// `kubeconfig`.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `manifestDir`: YAML files read in place of an API server.
    pub(crate) manifest_dir: Option<PathBuf>,
    /// `namespaceIsolation`: a pod may name definitions of its own namespace only.
    pub(crate) namespace_isolation: bool,
    /// `globalNamespaces`: with isolation, those whose definitions all pods may name.
    pub(crate) global_namespaces: Vec<String>,
    /// `systemNamespaces`: their pods get no `defaultNetworks`.
    pub(crate) system_namespaces: Vec<String>,
    /// `multusNamespace`: of the definitions for `clusterNetwork` and `defaultNetworks`.
    pub(crate) multus_namespace: String,
    /// `readinessindicatorfile`: ADD waits until it exists.
    pub(crate) readiness_file: Option<PathBuf>,
    /// `retryDeleteOnError`: the cache stays when a DEL failed.
    pub(crate) retry_delete_on_error: bool,
    /// `auxiliaryCNIChainName`: a chain from the folder of that name beside `clusterNetwork`.
    pub(crate) auxiliary_chain: Option<NetworkName>,
    /// `runtimeConfig`: what the runtime gives plugins with the capability.
    pub(crate) runtime_config: CapabilityArgs,
    /// `delegateTimeout`, in seconds: how long one delegate may take.
    pub(crate) delegate_timeout: Duration,
    /// The keys of logging.
    pub(crate) log: LogConf,
}

impl MultusConf {
    /// Reads the configuration of a call.
    ///
    /// # Errors
    /// Not valid, of another plugin, or without any network to attach to.
    pub(crate) fn parse(request: &Request) -> Result<MultusConf> {
        require_own_type(request)?;
        MultusConf::from_text(&request.text, inherited(request))
    }

    /// The part of an invalid configuration that DEL needs: the places of the cache, the plugins and
    /// the log, each as far as it is valid by itself.
    ///
    /// # Errors
    /// When not even these can be read.
    pub(crate) fn valid_part(request: &Request) -> Result<MultusConf> {
        MultusConf::valid_part_of(&request.text, inherited(request))
    }

    fn valid_part_of(text: &[u8], inherited: Inherited) -> Result<MultusConf> {
        let members: Members = from_json(text, "network configuration").unwrap_or_default();
        let mut kept = Members::new();
        let mut conf = MultusConf::from_file(read(&kept)?, inherited.clone())?;
        for key in KEYS_OF_DEL {
            let Ok(Some(value)) = member::<Box<RawValue>>(&members, key, "network configuration") else {
                continue;
            };
            kept.insert(key.to_owned(), value);
            match read(&kept).and_then(|file| MultusConf::from_file(file, inherited.clone())) {
                Ok(with_it) => conf = with_it,
                Err(_) => drop(kept.remove(key)),
            }
        }
        Ok(conf)
    }

    fn from_text(text: &[u8], inherited: Inherited) -> Result<MultusConf> {
        let conf = MultusConf::from_file(from_json(text, "network configuration")?, inherited)?;
        let is_alone = conf.kubeconfig.is_none() && conf.manifest_dir.is_none();
        if conf.delegates.is_empty() && conf.cluster_network.is_none() && is_alone {
            return Err(Error::invalid_config("at least one delegate or a clusterNetwork must be specified")
                .details("the keys \"delegates\" and \"clusterNetwork\" are both missing or empty"));
        }
        Ok(conf)
    }

    fn from_file(file: ConfFile, inherited: Inherited) -> Result<MultusConf> {
        let cluster_network = non_empty(file.cluster_network);
        let (delegates, master) = match cluster_network {
            Some(_) => (Vec::new(), 0),
            None => delegates(&file.delegates.unwrap_or_default(), &inherited)?,
        };
        let auxiliary_chain = non_empty(file.auxiliary_cni_chain_name)
            .map(|name| name.parse().map_err(|err: Error| err.context("auxiliaryCNIChainName")))
            .transpose()?;
        Ok(MultusConf {
            inherited,
            delegates,
            master,
            cluster_network,
            default_networks: file.default_networks.unwrap_or_default(),
            always_use_default: file.always_use_default,
            conf_dir: or_default(file.conf_dir, "/etc/cni/multus/net.d"),
            cni_dir: or_default(file.cni_dir, "/var/lib/cni/multus"),
            bin_dir: or_default(file.bin_dir, "/opt/cni/bin"),
            kubeconfig: non_empty_path(file.kubeconfig),
            manifest_dir: non_empty_path(file.manifest_dir),
            namespace_isolation: file.namespace_isolation.unwrap_or_default(),
            global_namespaces: names(&file.global_namespaces.unwrap_or_default()),
            system_namespaces: file.system_namespaces.unwrap_or_else(|| vec!["kube-system".to_owned()]),
            multus_namespace: non_empty(file.multus_namespace).unwrap_or_else(|| "kube-system".to_owned()),
            readiness_file: non_empty_path(file.readiness_indicator_file),
            retry_delete_on_error: file.retry_delete_on_error.unwrap_or_default(),
            auxiliary_chain,
            runtime_config: file.runtime_config.unwrap_or_default(),
            delegate_timeout: timeout(file.delegate_timeout)?,
            log: LogConf {
                file: non_empty_path(file.log_file),
                level: file.log_level.unwrap_or(LogLevel::Panic),
                to_stderr: file.log_to_stderr.unwrap_or(true),
                options: file.log_options.unwrap_or_default(),
            },
        })
    }

    /// The version of the configuration.
    pub(crate) fn version(&self) -> Version {
        self.inherited.version.unwrap_or_default()
    }

    /// Where the delegates' results are kept.
    pub(crate) fn results_dir(&self) -> PathBuf {
        self.cni_dir.join("results")
    }
}

/// Refuses the configuration of another plugin. A tenant's definition may have `multus` as its IPAM
/// plugin, which is called with the whole definition: its `binDir` would be executed as root.
pub(crate) fn require_own_type(request: &Request) -> Result<()> {
    let given = request.conf.plugin_type.as_ref().map_or("", |plugin_type| plugin_type.as_str());
    if given == NAME {
        return Ok(());
    }
    Err(Error::invalid_config(format!("multus was called with a configuration of type {given:?}"))
        .details("multus can be neither an IPAM plugin nor a delegate, and has no other name"))
}

fn inherited(request: &Request) -> Inherited {
    Inherited { name: Some(request.conf.name.clone()), version: Some(request.conf.cni_version) }
}

fn read(members: &Members) -> Result<ConfFile> {
    let text = serde_json::to_vec(members).map_err(|err| Error::invalid_config(err.to_string()))?;
    from_json(&text, "network configuration")
}

/// The delegates, and the index of the master: the first, or the one with `masterplugin`.
fn delegates(raw: &[Box<RawValue>], inherited: &Inherited) -> Result<(Vec<NetworkConf>, usize)> {
    let mut delegates = Vec::new();
    let mut master = None;
    for (i, raw) in raw.iter().enumerate() {
        let what = format!("delegate {}", i + 1);
        let delegate = NetworkConf::parse(raw.get().as_bytes(), &what, inherited)?;
        let claims = member::<bool>(delegate.members(), "masterplugin", &what)?;
        if claims == Some(true) && master.replace(i).is_some() {
            return Err(Error::invalid_config("several delegates have \"masterplugin\": true")
                .details("the result of one of them is returned: mark that one"));
        }
        delegates.push(delegate);
    }
    Ok((delegates, master.unwrap_or(0)))
}

/// Names separated by commas; by default the namespace whose definitions all pods may name.
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

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn non_empty_path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn or_default(path: Option<PathBuf>, default: &str) -> PathBuf {
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
    fn every_wrong_value_is_refused() {
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
            ("logLevel", "7"),
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
    fn del_uses_the_valid_part_of_an_invalid_configuration() {
        let text = br#"{"delegates":[{}],"cniDir":"/c","binDir":7,"logLevel":"loud","logFile":"/l",
            "delegateTimeout":0,"RetryDeleteOnError":true}"#;
        let conf = MultusConf::valid_part_of(text, Inherited::default()).unwrap();
        assert_eq!((conf.cni_dir, conf.bin_dir), (PathBuf::from("/c"), PathBuf::from("/opt/cni/bin")));
        assert_eq!((conf.log.file, conf.log.level), (Some(PathBuf::from("/l")), LogLevel::Panic));
        assert_eq!(conf.delegate_timeout, DELEGATE_TIMEOUT);
        assert!(conf.retry_delete_on_error && conf.delegates.is_empty());
    }

    #[test]
    fn one_delegate_may_be_the_master() {
        let conf = parse(r#"{"delegates":[{"type":"a"},{"type":"b","MasterPlugin":true}]}"#).unwrap();
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
