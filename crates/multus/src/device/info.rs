//! What a device plugin and a CNI plugin tell each other, and the pod's status tells, of a
//! device (Device Information Specification of the Network Plumbing Working Group).

use std::path::{Path, PathBuf};

use cni_core::fs;
use cni_core::spec::{ContainerId, IfName};
use cni_runtime::Invocation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::delegate::{Device, device_info_path};

/// Where they leave it for each other.
const INFO_DIR: &str = "/var/run/k8s.cni.cncf.io/devinfo";

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 1 << 20;

/// What is known of a device. The status has these keys in this order, and no others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DeviceInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci: Option<Pci>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vdpa: Option<Vdpa>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost_user: Option<VhostUser>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memif: Option<Memif>,
}

/// Declares the structs of texts of which each may be missing.
macro_rules! texts {
    ($($name:ident { $($field:ident),* })*) => {$(
        #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", default)]
        struct $name {
            $(#[serde(skip_serializing_if = "String::is_empty")] $field: String,)*
        }
    )*};
}

texts! {
    Pci { pci_address, vhost_net, rdma_device, pf_pci_address, representor_device }
    Vdpa { parent_device, driver, path, pci_address, pf_pci_address, representor_device }
    VhostUser { mode, path }
    Memif { role, path, mode }
}

/// Where a CNI plugin leaves what it knows of a device that it attached.
pub fn path(label: &str, container_id: &ContainerId, ifname: &IfName) -> PathBuf {
    let name = format!("{label}-{container_id}_{ifname}").replace('/', "-");
    Path::new(INFO_DIR).join("cni").join(name)
}

/// Gives the CNI plugin what the device plugin left about the device. That there is nothing
/// is common, and nobody fails for it.
pub fn copy(device: &Device, to: &Path) {
    let name = format!("{}-{}-device.json", device.resource, device.id).replace('/', "-");
    let Ok(text) = fs::read_bounded(&Path::new(INFO_DIR).join("dp").join(name), MAX_FILE) else { return };
    if let Some(folder) = to.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    if let Err(err) = fs::replace(to, &text, 0o444) {
        crate::log::debug(format_args!("device information {}: {err}", to.display()));
    }
}

/// What a plugin left about a device; `None` when it left nothing that can be read.
pub fn read(path: &Path) -> Option<DeviceInfo> {
    let members: Map<String, Value> = serde_json::from_slice(&fs::read_bounded(path, MAX_FILE).ok()?).ok()?;
    serde_json::from_value(members.into()).ok()
}

/// Removes what was left about the device of an attachment that is no more.
pub fn forget(invocation: &Invocation) {
    if let Some(path) = device_info_path(invocation) {
        // It may be missing, and nobody fails for one that stays.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_an_attachment_stays_in_its_folder() {
        let file = path("ns/net", &"c".parse().unwrap(), &"net1".parse().unwrap());
        assert_eq!(file, Path::new("/var/run/k8s.cni.cncf.io/devinfo/cni/ns-net-c_net1"));
    }

    #[test]
    fn the_text_is_that_of_the_go_program() {
        let text = r#"{"memif":{"mode":"ip","path":"/m","role":"master"},"pci":{"representor-device":"r","pci-address":"0000:01"},
            "type":"pci","version":"1.1.0","unknown":1,"vhost-user":{"path":"/v","mode":"client"},"vdpa":{"driver":"d","parent-device":"p"}}"#;
        let info: DeviceInfo = serde_json::from_str(text).unwrap();
        let expected = r#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01","representor-device":"r"},"vdpa":{"parent-device":"p","driver":"d"},"vhost-user":{"mode":"client","path":"/v"},"memif":{"role":"master","path":"/m","mode":"ip"}}"#;
        assert_eq!(serde_json::to_string(&info).unwrap(), expected);
    }

    #[test]
    fn what_is_no_device_information_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "[]", r#"{"pci":"0000:01"}"#] {
            std::fs::write(folder.path().join("x"), text).unwrap();
            assert_eq!(read(&folder.path().join("x")), None, "{text}");
        }
    }
}
