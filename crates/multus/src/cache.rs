//! The delegates of a container, kept from ADD to DEL.
//!
//! `<cniDir>/<container id>` is a JSON array in the form of the Go program: either of the two
//! can delete what the other added.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_core::fs::{self, Folder};
use cni_core::spec::{ContainerId, Error, Result, from_json};
use cni_runtime::{Inherited, NetworkConf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::delegate::{Asked, Delegate, Device, Families};

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 64 << 20;

/// The folder of multus' cache.
pub struct DelegateCache {
    folder: PathBuf,
}

/// What the cache has of a container.
#[derive(Debug)]
pub enum CachedDelegates {
    /// The delegates in the order of ADD.
    Known(Vec<Delegate>),
    /// A file that can't be read.
    Unreadable(Error),
    /// Nothing.
    Absent,
}

/// One delegate, with the names that the Go program uses.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "Conf", default)]
    conf: Value,
    #[serde(rename = "ConfList", default)]
    conf_list: Value,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "ifnameRequest", default, skip_serializing_if = "String::is_empty")]
    ifname: String,
    #[serde(rename = "macRequest", default, skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(rename = "infinibandGUIDRequest", default, skip_serializing_if = "String::is_empty")]
    infiniband_guid: String,
    #[serde(rename = "ipRequest", default, skip_serializing_if = "Option::is_none")]
    ips: Option<Vec<String>>,
    #[serde(rename = "default-route", default, skip_serializing_if = "Option::is_none")]
    gateways: Option<Vec<IpAddr>>,
    #[serde(rename = "IsFilterV4Gateway", default)]
    filters_v4: bool,
    #[serde(rename = "IsFilterV6Gateway", default)]
    filters_v6: bool,
    #[serde(rename = "deviceID", default, skip_serializing_if = "String::is_empty")]
    device_id: String,
    #[serde(rename = "resourceName", default, skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(rename = "Bytes", default)]
    bytes: Option<String>,
}

impl DelegateCache {
    /// The cache in a folder, which is made when something is kept.
    pub fn new(folder: &Path) -> DelegateCache {
        DelegateCache { folder: folder.to_owned() }
    }

    /// Keeps the delegates of a container, before the first is added.
    ///
    /// # Errors
    /// Those of writing the file, which is whole or not there.
    pub fn keep(&self, container_id: &ContainerId, delegates: &[Delegate]) -> Result<()> {
        let wires: Vec<Wire> = delegates.iter().map(to_wire).collect::<Result<_>>()?;
        let text = serde_json::to_vec(&wires).map_err(|err| Error::invalid_config(err.to_string()))?;
        let failed = |err| fs::failed("writing the delegates to", &self.folder, err);
        let folder = Folder::open_or_create_with(&self.folder, 0o700).map_err(failed)?;
        folder.replace(container_id, &text, 0o600).map_err(failed)
    }

    /// What is known of a container.
    pub fn get(&self, container_id: &ContainerId, inherited: &Inherited) -> CachedDelegates {
        let path = self.folder.join(container_id.as_str());
        match fs::read_bounded(&path, MAX_FILE) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => CachedDelegates::Absent,
            Err(err) => CachedDelegates::Unreadable(fs::failed("reading", &path, err)),
            Ok(text) => match parse(&text, inherited) {
                Ok(delegates) => CachedDelegates::Known(delegates),
                Err(err) => CachedDelegates::Unreadable(err.context(path.display())),
            },
        }
    }

    /// Forgets a container.
    ///
    /// # Errors
    /// Those of removing the file; that there is none is no error.
    pub fn forget(&self, container_id: &ContainerId) -> Result<()> {
        let path = self.folder.join(container_id.as_str());
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(fs::failed("removing", &path, err)),
            _ => Ok(()),
        }
    }

    /// The containers that something is kept of.
    pub fn containers(&self) -> Vec<ContainerId> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let files = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let mut containers: Vec<ContainerId> =
            files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
        containers.sort();
        containers
    }
}

fn to_wire(delegate: &Delegate) -> Result<Wire> {
    let network = &delegate.network;
    let common = || json!({"cniVersion": network.version().as_str(), "name": network.name()});
    let (mut conf, mut conf_list) = (json!({}), json!({}));
    let types = network.plugins().iter().map(|plugin| plugin.plugin_type());
    if network.is_list() {
        conf_list = common();
        conf_list["plugins"] = types.map(|kind| json!({"type": kind})).collect();
    } else {
        conf = common();
        conf["type"] = types.map(|kind| kind.to_string()).collect::<String>().into();
    }
    let asked = delegate.asked.clone();
    let device = delegate.device.clone();
    Ok(Wire {
        conf,
        conf_list,
        name: delegate.label.clone(),
        ifname: asked.ifname.map(String::from).unwrap_or_default(),
        mac: asked.mac.unwrap_or_default(),
        infiniband_guid: asked.infiniband_guid.unwrap_or_default(),
        ips: Some(asked.ips).filter(|ips| !ips.is_empty()),
        gateways: asked.gateways,
        filters_v4: delegate.filtered.v4,
        filters_v6: delegate.filtered.v6,
        device_id: device.clone().map(|device| device.id).unwrap_or_default(),
        resource: device.map(|device| device.resource).unwrap_or_default(),
        bytes: Some(BASE64.encode(network.to_text()?)),
    })
}

fn parse(text: &[u8], inherited: &Inherited) -> Result<Vec<Delegate>> {
    let wires: Vec<Wire> = from_json(text, "the cached delegates")?;
    if wires.is_empty() {
        return Err(Error::invalid_config("the cached delegates are none"));
    }
    let mut delegates: Vec<_> =
        wires.into_iter().map(|wire| from_wire(wire, inherited)).collect::<Result<_>>()?;
    // It does not say so; but without a default network, the results have what was asked for.
    delegates[0].is_default = true;
    Ok(delegates)
}

fn from_wire(wire: Wire, inherited: &Inherited) -> Result<Delegate> {
    let bytes = wire.bytes.filter(|bytes| !bytes.is_empty());
    let text = match bytes.map(|bytes| BASE64.decode(bytes)) {
        Some(Ok(text)) => text,
        Some(Err(err)) => {
            return Err(Error::invalid_config(format!("the cached delegate {}: {err}", wire.name)));
        }
        // Less than the whole, and enough for most plugins to take down what they made.
        None if wire.conf_list.get("plugins").is_some_and(Value::is_array) => {
            wire.conf_list.to_string().into_bytes()
        }
        None => wire.conf.to_string().into_bytes(),
    };
    let what = format!("the cached delegate {}", wire.name);
    let network = NetworkConf::parse(&text, &what, inherited)?;
    let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Delegate {
        network,
        label: wire.name,
        asked: Asked {
            ifname: non_empty(wire.ifname).map(|ifname| ifname.parse()).transpose()?,
            mac: non_empty(wire.mac),
            infiniband_guid: non_empty(wire.infiniband_guid),
            ips: wire.ips.unwrap_or_default(),
            port_mappings: Vec::new(),
            bandwidth: None,
            gateways: wire.gateways,
        },
        filtered: Families { v4: wire.filters_v4, v6: wire.filters_v6 },
        device: non_empty(wire.device_id).map(|id| Device { id, resource: wire.resource }),
        is_default: false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the Go program, version 4.3, writes it.
    const GO: &str = r#"[{"Conf":{"cniVersion":"1.0.0","name":"default-net","type":"bridge","ipam":{"type":"host-local"},"dns":{}},
        "ConfList":{"plugins":null},"Name":"default-net","IsFilterV4Gateway":true,"IsFilterV6Gateway":false,
        "Bytes":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoiZGVmYXVsdC1uZXQiLCJ0eXBlIjoiYnJpZGdlIn0="},
        {"Conf":{"ipam":{},"dns":{}},"ConfList":{"cniVersion":"0.4.0","name":"l","plugins":[{"type":"a","ipam":{},"dns":{}},{"type":"b"}]},
        "Name":"ns/l","ifnameRequest":"eth5","macRequest":"02:00:00:00:00:01","ipRequest":["10.0.0.1"],
        "default-route":["10.0.0.254"],"IsFilterV4Gateway":false,"IsFilterV6Gateway":true,"deviceID":"d","resourceName":"r","Bytes":null}]"#;

    #[test]
    fn what_the_go_program_wrote_is_read() {
        let delegates = parse(GO.as_bytes(), &Inherited::default()).unwrap();
        assert_eq!(delegates[0].network.plugins()[0].plugin_type().as_str(), "bridge");
        assert_eq!(delegates[0].filtered, Families { v4: true, v6: false });
        let second = &delegates[1];
        assert_eq!(second.network.plugins().len(), 2);
        assert_eq!(second.asked.ifname.as_deref(), Some("eth5"));
        assert_eq!(second.asked.gateways, Some(vec!["10.0.0.254".parse().unwrap()]));
        assert_eq!(second.device, Some(Device { id: "d".into(), resource: "r".into() }));
    }

    #[test]
    fn what_the_go_program_wrote_without_bytes_is_read() {
        let text = r#"[{"Conf":{"cniVersion":"1.0.0","name":"n","type":"bridge"},"ConfList":{"plugins":null},"Name":"n","Bytes":null}]"#;
        let delegates = parse(text.as_bytes(), &Inherited::default()).unwrap();
        assert_eq!(delegates[0].network.plugins()[0].plugin_type().as_str(), "bridge");
    }

    #[test]
    fn what_is_written_is_read_back_and_has_the_types_that_go_expects() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DelegateCache::new(&folder.path().join("multus"));
        let container = "c1".parse().unwrap();
        let delegates = parse(GO.as_bytes(), &Inherited::default()).unwrap();
        cache.keep(&container, &delegates).unwrap();
        let text = std::fs::read(folder.path().join("multus/c1")).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value[0]["Conf"], json!({"cniVersion":"1.0.0","name":"default-net","type":"bridge"}));
        assert_eq!(value[0]["ConfList"], json!({}));
        assert_eq!(value[1]["ConfList"]["plugins"], json!([{"type":"a"},{"type":"b"}]));
        assert_eq!(value[1]["default-route"], json!(["10.0.0.254"]));
        let CachedDelegates::Known(back) = cache.get(&container, &Inherited::default()) else {
            panic!("unreadable")
        };
        assert_eq!(back[1].asked, delegates[1].asked);
        assert_eq!(cache.containers(), std::slice::from_ref(&container));
        cache.forget(&container).unwrap();
        assert!(matches!(cache.get(&container, &Inherited::default()), CachedDelegates::Absent));
    }

    #[test]
    fn a_cut_or_empty_file_is_unreadable_and_no_panic() {
        for cut in [0, 1, 50, GO.len() - 1] {
            assert!(parse(&GO.as_bytes()[..cut], &Inherited::default()).is_err(), "{cut}");
        }
        for bad in ["[]", "{}", "[{}]", r#"[{"Bytes":"!"}]"#, r#"{"version":2}"#] {
            assert!(parse(bad.as_bytes(), &Inherited::default()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..700, byte in any::<u8>()) {
            let _ = parse(&bytes, &Inherited::default());
            let mut twisted = GO.as_bytes().to_vec();
            twisted[at] = byte;
            let _ = parse(&twisted, &Inherited::default());
        }
    }
}
