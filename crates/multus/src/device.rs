//! Devices that the kubelet's device plugins allocated to a pod.

pub(crate) mod info;
mod pod_resources;

use std::collections::BTreeMap;
use std::path::Path;

use cni_core::fs;
use cni_core::spec::{Error, Result, from_json};
use serde::Deserialize;

use crate::object::Pod;

/// The socket on which the kubelet reports which pod has which devices.
const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// The file in which the kubelet keeps the same.
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// A device of the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Device {
    /// Its id, for instance the address on the PCI bus.
    pub(crate) id: String,
    /// The resource that a device plugin offers it as; empty where the annotation has the id.
    pub(crate) resource: String,
}

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 16 << 20;

/// The devices of a pod by resource; each is attached once. They are looked up with the first
/// request: most pods have no device.
pub(crate) struct Devices {
    pod: Pod,
    by_resource: Option<BTreeMap<String, Vec<String>>>,
}

impl Devices {
    /// The devices of a pod.
    pub(crate) fn of(pod: &Pod) -> Devices {
        Devices { pod: pod.clone(), by_resource: None }
    }

    /// The next device of a resource; `None` when the pod has no other such device.
    ///
    /// # Errors
    /// When there is no kubelet on this node, or it does not answer.
    pub(crate) fn take(&mut self, resource: &str) -> Result<Option<Device>> {
        let by_resource = match self.by_resource.take() {
            Some(by_resource) => by_resource,
            None => look_up(&self.pod, Path::new(SOCKET), Path::new(CHECKPOINT))
                .map_err(|err| err.context(format_args!("looking for a device of resource {resource}")))?,
        };
        let ids = self.by_resource.insert(by_resource).get_mut(resource);
        let id = ids.filter(|ids| !ids.is_empty()).map(|ids| ids.remove(0));
        Ok(id.map(|id| Device { id, resource: resource.to_owned() }))
    }
}

/// Reads bytes as each of the forms in which devices are reported.
pub(crate) fn fuzz(pod: &Pod, content: &[u8]) {
    let _ = pod_resources::parse(content, pod);
    let _ = from_json::<info::DeviceInfo>(content, "the device information");
    let _ = from_json::<Checkpoint>(content, "the kubelet's checkpoint");
}

/// The kubelet's checkpoint, with its own key names.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: CheckpointData,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckpointData {
    #[serde(default)]
    pod_device_entries: Vec<PodDevices>,
}

#[derive(Deserialize)]
struct PodDevices {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ResourceName")]
    resource_name: String,
    /// By NUMA node.
    #[serde(rename = "DeviceIDs", default)]
    device_ids: BTreeMap<String, Vec<String>>,
}

/// The devices of a pod by resource, from the kubelet's socket where it exists, else from its file.
fn look_up(pod: &Pod, socket: &Path, checkpoint: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    if socket.exists() {
        return pod_resources::look_up(pod, socket);
    }
    let text = match fs::read_bounded(checkpoint, MAX_FILE) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::invalid_config("no device manager of a kubelet is on this node").details(
                format!(
                    "{} does not exist; a definition with the annotation {} needs it",
                    checkpoint.display(),
                    crate::nad::RESOURCE_NAME
                ),
            ));
        }
        text => text.map_err(|err| fs::failed("reading", checkpoint, err))?,
    };
    let checkpoint: Checkpoint = from_json(&text, "the kubelet's checkpoint")?;
    let mut by_resource: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in checkpoint.data.pod_device_entries {
        if entry.pod_uid == pod.metadata.uid {
            let ids = by_resource.entry(entry.resource_name).or_default();
            ids.extend(entry.device_ids.into_values().flatten());
            ids.sort();
        }
    }
    Ok(by_resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_of_a_pod_is_attached_once() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        let text = r#"{"Data":{"PodDeviceEntries":[
            {"PodUID":"u","ContainerName":"c","ResourceName":"r/a","DeviceIDs":{"0":["02"],"1":["01"]},"AllocResp":"x"},
            {"PodUID":"other","ContainerName":"c","ResourceName":"r/a","DeviceIDs":{"-1":["03"]}}],
            "RegisteredDevices":{}},"Checksum":1}"#;
        std::fs::write(&checkpoint, text).unwrap();
        let mut pod = Pod::default();
        pod.metadata.uid = "u".into();
        let by_resource = look_up(&pod, Path::new("/nonexistent"), &checkpoint).unwrap();
        let mut devices = Devices { pod, by_resource: Some(by_resource) };
        assert_eq!(devices.take("r/a").unwrap().unwrap().id, "01");
        assert_eq!(devices.take("r/a").unwrap().unwrap().id, "02");
        assert_eq!(devices.take("r/a").unwrap(), None);
        assert_eq!(devices.take("r/b").unwrap(), None);
    }

    #[test]
    fn without_a_kubelet_the_error_says_so() {
        let error =
            look_up(&Pod::default(), Path::new("/nonexistent"), Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("no device manager"), "{error}");
    }
}
