//! Device information, which device plugins, CNI plugins and the pod's status exchange (Device
//! Information Specification of the Network Plumbing Working Group).

use std::path::{Path, PathBuf};

use cni_core::fs;
use cni_core::spec::{ContainerId, IfName, from_json};
use cni_runtime::Invocation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Device;

/// The folder in which plugins exchange it.
const INFO_DIR: &str = "/var/run/k8s.cni.cncf.io/devinfo";

/// The capability argument with the path of the file that a CNI plugin writes.
pub(crate) const CAPABILITY: &str = "CNIDeviceInfoFile";

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 1 << 20;

/// The information about a device. The status has these keys in this order, and no others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct DeviceInfo {
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

/// Declares structs of strings that are left out where they are empty.
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

/// The file in which a CNI plugin leaves the information about a device that it attached.
pub(crate) fn path(label: &str, container_id: &ContainerId, ifname: &IfName) -> PathBuf {
    let name = format!("{label}-{container_id}_{ifname}").replace('/', "-");
    Path::new(INFO_DIR).join("cni").join(name)
}

/// The file of an attachment; `None` where its network has no device, or where the path is not one of
/// [`path`]: it is overwritten and removed.
pub(crate) fn file_of(invocation: &Invocation) -> Option<PathBuf> {
    let file = PathBuf::from(invocation.capability_args.get(CAPABILITY).and_then(Value::as_str)?);
    let folder = Path::new(INFO_DIR).join("cni");
    (file.parent() == Some(&folder) && file.file_name().is_some()).then_some(file)
}

/// Copies the device plugin's information to the CNI plugin's file. It is often missing, and its
/// absence is no error.
pub(crate) fn copy(device: &Device, to: &Path) {
    let name = format!("{}-{}-device.json", device.resource, device.id).replace('/', "-");
    let Ok(text) = fs::read_bounded(&Path::new(INFO_DIR).join("dp").join(name), MAX_FILE) else { return };
    if let Some(folder) = to.parent() {
        let _ = fs::Folder::open_or_create(folder);
    }
    if let Err(err) = fs::replace(to, &text, 0o444) {
        crate::log::debug(format_args!("device information {}: {err}", to.display()));
    }
}

/// The information that a plugin left; `None` when there is none that can be read.
pub(crate) fn read(path: &Path) -> Option<DeviceInfo> {
    from_json(&fs::read_bounded(path, MAX_FILE).ok()?, "the device information").ok()
}

/// Removes the information about the device of an attachment that is deleted.
pub(crate) fn forget(invocation: &Invocation) {
    if let Some(path) = file_of(invocation) {
        // Best effort: the file may be missing, and does no harm where it stays.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use cni_core::spec::{Attachment, CniArgs};
    use cni_runtime::CapabilityArgs;

    use super::*;

    #[test]
    fn the_file_of_an_attachment_stays_in_its_folder() {
        let file = path("ns/net", &"c".parse().unwrap(), &"net1".parse().unwrap());
        assert_eq!(file, Path::new("/var/run/k8s.cni.cncf.io/devinfo/cni/ns-net-c_net1"));
    }

    #[test]
    fn only_files_of_the_folder_are_used() {
        let file = |path: &str| {
            file_of(&Invocation {
                attachment: Attachment { container_id: "c".parse().unwrap(), ifname: "e".parse().unwrap() },
                netns: None,
                args: CniArgs::default(),
                capability_args: CapabilityArgs::from([(CAPABILITY.to_owned(), path.into())]),
            })
        };
        assert!(file("/var/run/k8s.cni.cncf.io/devinfo/cni/ns-net-c_net1").is_some());
        for other in ["/etc/passwd", "/var/run/k8s.cni.cncf.io/devinfo/cni/..", "", "cni/x"] {
            assert_eq!(file(other), None, "{other}");
        }
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
    fn other_text_is_not_device_information() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "[]", r#"{"pci":"0000:01"}"#] {
            std::fs::write(folder.path().join("x"), text).unwrap();
            assert_eq!(read(&folder.path().join("x")), None, "{text}");
        }
    }
}
