//! The delegates of a container, kept from ADD to DEL.
//!
//! `<cniDir>/<container id>` is a JSON array in the form of the Go program: either of the two
//! can delete what the other added.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_core::fs::{self, Folder};
use cni_core::spec::{Attachment, ContainerId, Error, IfName, NetworkName, Result, from_json};
use cni_runtime::{Inherited, NetworkConf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::annotation::Selection;
use crate::delegate::{Delegate, Families, Found, in_order};
use crate::device::Device;

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 64 << 20;

/// The folder of multus' cache.
pub(crate) struct DelegateCache {
    folder: PathBuf,
}

/// The content of the cache for a container.
#[derive(Debug)]
pub(crate) enum CachedDelegates {
    /// Its delegates in the order of ADD, and the multus network that it was added to. The Go program
    /// does not keep that name.
    Known(Vec<Delegate>, Option<NetworkName>),
    /// A file that can't be read.
    Unreadable(Error),
    /// No file.
    Absent,
}

/// One delegate, with the keys of the Go program.
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
    /// The name of the multus network, which the Go program ignores.
    #[serde(rename = "multusNetwork", default, skip_serializing_if = "Option::is_none")]
    owner: Option<NetworkName>,
}

impl DelegateCache {
    /// The cache in a folder, which [`DelegateCache::keep`] creates.
    pub(crate) fn new(folder: &Path) -> DelegateCache {
        DelegateCache { folder: folder.to_owned() }
    }

    /// Keeps the delegates of a container, before the first is added; `owner` is multus' own network.
    ///
    /// # Errors
    /// Those of writing the file, which is written atomically.
    pub(crate) fn keep(
        &self,
        container_id: &ContainerId,
        owner: &NetworkName,
        delegates: &[Delegate],
    ) -> Result<()> {
        let to_wire = |delegate| to_wire(delegate, owner);
        let wires: Vec<Wire> = delegates.iter().map(to_wire).collect::<Result<_>>()?;
        let text = serde_json::to_vec(&wires).map_err(|err| Error::invalid_config(err.to_string()))?;
        if text.len() > MAX_FILE {
            let msg =
                format!("the configurations of the pod's networks are longer than {} MiB", MAX_FILE >> 20);
            return Err(Error::invalid_config(msg).details("the cache could not be read back"));
        }
        let failed = |err| fs::failed("writing the delegates to", &self.folder, err);
        let folder = Folder::open_or_create_with(&self.folder, 0o700).map_err(failed)?;
        folder.replace(container_id, &text, 0o600).map_err(failed)
    }

    /// The delegates of a container; the attachment has the name of its first interface.
    pub(crate) fn get(&self, attachment: &Attachment, inherited: &Inherited) -> CachedDelegates {
        let path = self.folder.join(attachment.container_id.as_str());
        match fs::read_bounded(&path, MAX_FILE) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => CachedDelegates::Absent,
            Err(err) => CachedDelegates::Unreadable(fs::failed("reading", &path, err)),
            Ok(text) => match parse(&text, inherited, &attachment.ifname) {
                Ok((delegates, owner)) => CachedDelegates::Known(delegates, owner),
                Err(err) => CachedDelegates::Unreadable(err.context(path.display())),
            },
        }
    }

    /// Forgets a container.
    ///
    /// # Errors
    /// Those of removing the file; a missing one is no error.
    pub(crate) fn forget(&self, container_id: &ContainerId) -> Result<()> {
        let path = self.folder.join(container_id.as_str());
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(fs::failed("removing", &path, err)),
            _ => Ok(()),
        }
    }

    /// The containers in the cache.
    pub(crate) fn containers(&self) -> Vec<ContainerId> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let files = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let mut containers: Vec<ContainerId> =
            files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
        containers.sort();
        containers
    }
}

fn to_wire(delegate: &Delegate, owner: &NetworkName) -> Result<Wire> {
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
    let requested = delegate.requested.clone();
    let device = delegate.device.clone();
    Ok(Wire {
        conf,
        conf_list,
        name: delegate.label.clone(),
        ifname: requested.interface.map(String::from).unwrap_or_default(),
        mac: requested.mac.unwrap_or_default(),
        infiniband_guid: requested.infiniband_guid.unwrap_or_default(),
        ips: Some(requested.ips).filter(|ips| !ips.is_empty()),
        gateways: requested.default_route,
        filters_v4: delegate.filtered.v4,
        filters_v6: delegate.filtered.v6,
        device_id: device.clone().map(|device| device.id).unwrap_or_default(),
        resource: device.map(|device| device.resource).unwrap_or_default(),
        bytes: Some(BASE64.encode(network.to_text()?)),
        owner: Some(owner.clone()),
    })
}

/// Reads a file of the cache, and writes what it read.
pub(crate) fn fuzz(content: &[u8]) {
    let first = "eth0".parse().expect("it is a name");
    let Ok((delegates, owner)) = parse(content, &Inherited::default(), &first) else { return };
    let owner = owner.unwrap_or_else(|| "network".parse().expect("it is a name"));
    let wires: Result<Vec<Wire>> = delegates.iter().map(|delegate| to_wire(delegate, &owner)).collect();
    wires.expect("delegates that were read can be written");
}

fn parse(text: &[u8], inherited: &Inherited, first: &IfName) -> Result<(Vec<Delegate>, Option<NetworkName>)> {
    let wires: Vec<Wire> = from_json(text, "the cached delegates")?;
    if wires.is_empty() {
        return Err(Error::invalid_config("the cache has no delegates"));
    }
    let owner = wires[0].owner.clone();
    let filtered: Vec<Families> =
        wires.iter().map(|wire| Families { v4: wire.filters_v4, v6: wire.filters_v6 }).collect();
    let found = wires.into_iter().map(|wire| from_wire(wire, inherited)).collect::<Result<_>>()?;
    let mut delegates = in_order(found, first)?;
    for (position, (delegate, filtered)) in delegates.iter_mut().zip(filtered).enumerate() {
        delegate.filtered = filtered;
        // Go's file does not contain this. Where the first is not the default network, its capability
        // arguments are in the cache of results.
        delegate.is_default = position == 0;
    }
    Ok((delegates, owner))
}

fn from_wire(wire: Wire, inherited: &Inherited) -> Result<Found> {
    let bytes = wire.bytes.filter(|bytes| !bytes.is_empty());
    let text = match bytes.map(|bytes| BASE64.decode(bytes)) {
        Some(Ok(text)) => text,
        Some(Err(err)) => {
            return Err(Error::invalid_config(format!("the cached delegate {}: {err}", wire.name)));
        }
        // The configuration without the plugin's own keys is enough for the DEL of most plugins.
        None if wire.conf_list.get("plugins").is_some_and(Value::is_array) => {
            wire.conf_list.to_string().into_bytes()
        }
        None => wire.conf.to_string().into_bytes(),
    };
    let what = format!("the cached delegate {}", wire.name);
    // The Go program passes on that there is no version.
    let inherited = Inherited { name: inherited.name.clone(), version: None };
    let network = NetworkConf::parse(&text, &what, &inherited)?;
    let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Found {
        network,
        label: wire.name,
        requested: Selection {
            interface: non_empty(wire.ifname).map(|ifname| ifname.parse()).transpose()?,
            mac: non_empty(wire.mac),
            infiniband_guid: non_empty(wire.infiniband_guid),
            ips: wire.ips.unwrap_or_default(),
            default_route: wire.gateways,
            ..Selection::default()
        },
        device: non_empty(wire.device_id).map(|id| Device { id, resource: wire.resource }),
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

    fn read(text: &[u8]) -> Result<Vec<Delegate>> {
        Ok(parse(text, &Inherited::default(), &"eth0".parse()?)?.0)
    }

    #[test]
    fn a_file_of_the_go_program_is_read() {
        let delegates = read(GO.as_bytes()).unwrap();
        assert_eq!(delegates[0].network.plugins()[0].plugin_type().as_str(), "bridge");
        assert_eq!(delegates[0].filtered, Families { v4: true, v6: false });
        let second = &delegates[1];
        assert_eq!(second.network.plugins().len(), 2);
        assert_eq!(second.ifname.as_str(), "eth5");
        assert_eq!(second.requested.default_route, Some(vec!["10.0.0.254".parse().unwrap()]));
        assert_eq!(second.device, Some(Device { id: "d".into(), resource: "r".into() }));
    }

    #[test]
    fn a_file_of_the_go_program_without_bytes_is_read() {
        let text = r#"[{"Conf":{"cniVersion":"1.0.0","name":"n","type":"bridge"},"ConfList":{"plugins":null},"Name":"n","Bytes":null}]"#;
        let delegates = read(text.as_bytes()).unwrap();
        assert_eq!(delegates[0].network.plugins()[0].plugin_type().as_str(), "bridge");
    }

    #[test]
    fn a_written_file_is_read_back_and_has_the_types_that_go_expects() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DelegateCache::new(&folder.path().join("multus"));
        let container: ContainerId = "c1".parse().unwrap();
        let attachment = Attachment { container_id: container.clone(), ifname: "eth0".parse().unwrap() };
        let delegates = read(GO.as_bytes()).unwrap();
        let owner: NetworkName = "multus-net".parse().unwrap();
        cache.keep(&container, &owner, &delegates).unwrap();
        let text = std::fs::read(folder.path().join("multus/c1")).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value[0]["Conf"], json!({"cniVersion":"1.0.0","name":"default-net","type":"bridge"}));
        assert_eq!(value[0]["ConfList"], json!({}));
        assert_eq!(value[1]["ConfList"]["plugins"], json!([{"type":"a"},{"type":"b"}]));
        assert_eq!(value[1]["default-route"], json!(["10.0.0.254"]));
        let CachedDelegates::Known(back, kept) = cache.get(&attachment, &Inherited::default()) else {
            panic!("unreadable")
        };
        assert_eq!(kept, Some(owner));
        assert_eq!(back[1].requested, delegates[1].requested);
        assert_eq!(cache.containers(), std::slice::from_ref(&container));
        cache.forget(&container).unwrap();
        assert!(matches!(cache.get(&attachment, &Inherited::default()), CachedDelegates::Absent));
    }

    #[test]
    fn a_truncated_or_empty_file_is_unreadable_without_a_panic() {
        for cut in [0, 1, 50, GO.len() - 1] {
            assert!(read(&GO.as_bytes()[..cut]).is_err(), "{cut}");
        }
        for bad in ["[]", "{}", "[{}]", r#"[{"Bytes":"!"}]"#, r#"{"version":2}"#] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..700, byte in any::<u8>()) {
            let _ = read(&bytes);
            let mut altered = GO.as_bytes().to_vec();
            altered[at] = byte;
            let _ = read(&altered);
        }
    }
}
