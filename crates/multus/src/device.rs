//! Devices that a kubelet's device plugins gave to a pod.

pub mod info;
mod pod_resources;

use std::collections::BTreeMap;
use std::path::Path;

use cni_core::fs;
use cni_core::spec::{Error, Result, from_json};
use serde::Deserialize;

use crate::delegate::Device;
use crate::object::Pod;

/// Where the kubelet tells which devices it gave to which pod.
const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// Where it keeps the same for itself.
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 16 << 20;

/// The devices of a pod by resource, each given away once. Looked up when the first is asked
/// for: most pods have none.
pub struct Devices {
    pod: Pod,
    by_resource: Option<BTreeMap<String, Vec<String>>>,
}

impl Devices {
    /// Those of a pod.
    pub fn of(pod: &Pod) -> Devices {
        Devices { pod: pod.clone(), by_resource: None }
    }

    /// The next device of a resource; `None` when the pod has no (more) such device.
    ///
    /// # Errors
    /// When nothing on this node knows about devices.
    pub fn take(&mut self, resource: &str) -> Result<Option<Device>> {
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

/// The kubelet's checkpoint, with the names that it uses.
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

/// The devices of a pod by resource, from the kubelet where it answers, or from its file.
fn look_up(pod: &Pod, socket: &Path, checkpoint: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    if socket.exists() {
        return pod_resources::look_up(pod, socket);
    }
    let text = match fs::read_bounded(checkpoint, MAX_FILE) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::invalid_config("no device manager of a kubelet is on this node").details(
                format!(
                    "{} is not there; a definition with the annotation {} needs it",
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
    fn each_device_of_a_pod_is_given_away_once() {
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
