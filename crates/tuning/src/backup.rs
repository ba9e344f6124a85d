//! Backups: the attributes that links had before ADD, each in a file
//! `<dataDir>/<container ID>_<interface>.json`, as the Go plugin has them.

use std::path::{Path, PathBuf};

use cni_core::diagnostics::note;
use cni_core::fs::{self, Folder};
use cni_core::netlink::{Link, Netlink};
use cni_core::spec::{Attachment, Error, NetworkName, Result, from_json};
use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;

/// The longest backup that is read, in bytes.
const MAX_LEN: usize = 4096;

/// The folder of all backups.
#[derive(Clone, Debug)]
pub(crate) struct Backups {
    folder: PathBuf,
}

/// The contents of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Backup {
    #[serde(flatten)]
    attributes: Attributes,
    /// The network that they were changed for; absent in the Go plugin's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkName>,
}

/// The key of a file that the Go plugin does not have.
#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    network: Option<NetworkName>,
}

impl Backup {
    fn parse(text: &[u8]) -> Result<Backup> {
        let Owner { network } = from_json(text, "backup")?;
        Ok(Backup { attributes: from_json(text, "backup")?, network })
    }
}

impl Backups {
    pub(crate) fn new(folder: &Path) -> Backups {
        Backups { folder: folder.to_owned() }
    }

    /// Stores attributes; `false` where the backup of an earlier tuning of this attachment exists.
    /// That one is completed: it knows what the interface was like before either.
    pub(crate) fn store(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
        attributes: &Attributes,
    ) -> Result<bool> {
        let earlier = self.load(attachment)?.filter(|backup| backup.network.as_ref() == Some(network));
        let attributes = match &earlier {
            Some(earlier) => earlier.attributes.or(attributes),
            None => attributes.clone(),
        };
        let backup = Backup { attributes, network: Some(network.clone()) };
        let name = name(attachment);
        let failed = |err| fs::failed("storing the backup in", &self.folder.join(&name), err);
        let text = serde_json::to_vec(&backup).map_err(|err| failed(err.into()))?;
        let folder = Folder::open_or_create_with(&self.folder, 0o700).map_err(failed)?;
        folder.replace(&name, &text, 0o600).map_err(failed)?;
        Ok(earlier.is_none())
    }

    /// The backup of an attachment. One that can't be read counts as absent: nothing can be
    /// restored from it.
    pub(crate) fn load(&self, attachment: &Attachment) -> Result<Option<Backup>> {
        self.read(&name(attachment)).map(|text| text.and_then(|text| Backup::parse(&text).ok()))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let read = self.open().and_then(|folder| match folder {
            Some(folder) => folder.read(name, MAX_LEN),
            None => Ok(None),
        });
        match read {
            // No file can have such a name.
            Err(err) if err.kind() == std::io::ErrorKind::InvalidFilename => Ok(None),
            read => read.map_err(|err| fs::failed("reading the backup", &self.folder.join(name), err)),
        }
    }

    /// Removes the backup of an attachment, where it has one.
    pub(crate) fn remove(&self, attachment: &Attachment) -> Result<()> {
        let name = name(attachment);
        let removed = self.open().and_then(|folder| folder.map_or(Ok(false), |folder| folder.remove(&name)));
        match removed {
            Err(err) if err.kind() == std::io::ErrorKind::InvalidFilename => Ok(()),
            removed => {
                removed.map_err(|err| fs::failed("removing the backup", &self.folder.join(&name), err))?;
                Ok(())
            }
        }
    }

    /// Removes the backups of a network whose attachments are not in `valid`. The Go plugin's have
    /// no network, and stay.
    pub(crate) fn gc(&self, network: &NetworkName, valid: &[Attachment]) -> Result<()> {
        let failed = |err| fs::failed("listing the backups in", &self.folder, err);
        let Some(folder) = self.open().map_err(failed)? else { return Ok(()) };
        let valid: Vec<String> = valid.iter().map(name).collect();
        let mut errors = Vec::new();
        for entry in folder.names().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = entry.to_str().filter(|name| name.ends_with(".json")) else { continue };
            if valid.iter().any(|valid| valid == name) {
                continue;
            }
            let text = match self.read(name) {
                Ok(text) => text.unwrap_or_default(),
                Err(err) => {
                    errors.push(err);
                    continue;
                }
            };
            let backup = Backup::parse(&text);
            if backup.is_ok_and(|backup| backup.network.as_ref() == Some(network)) {
                let removed = folder.remove(name);
                errors.extend(
                    removed.err().map(|err| fs::failed("removing the backup", &self.folder.join(name), err)),
                );
            }
        }
        Error::all(errors)
    }

    fn open(&self) -> std::io::Result<Option<Folder>> {
        match Folder::open(&self.folder) {
            Ok(folder) => Ok(Some(folder)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }
}

impl Backup {
    /// Restores as much as possible. What the kernel refuses is noted: the container terminates.
    pub(crate) fn restore(&self, netlink: &Netlink, link: &Link) {
        if let Err(err) = self.attributes.set(netlink, link) {
            note(format_args!("tuning: restoring interface {}: {err}", link.name));
        }
    }
}

fn name(attachment: &Attachment) -> String {
    format!("{}_{}.json", attachment.container_id, attachment.ifname)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str) -> Attachment {
        Attachment { container_id: container.parse().unwrap(), ifname: "eth0".parse().unwrap() }
    }

    fn mtu(mtu: u32) -> Attributes {
        Attributes { mtu: Some(mtu), ..Attributes::default() }
    }

    #[test]
    fn a_second_tuning_of_one_interface_keeps_what_the_first_stored() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::new(&folder.path().join("new"));
        let (network, one) = ("net".parse().unwrap(), attachment("one"));
        assert!(backups.store(&network, &one, &mtu(1500)).unwrap());
        let both = Attributes { allmulti: Some(false), ..mtu(1400) };
        assert!(!backups.store(&network, &one, &both).unwrap());
        let kept = backups.load(&one).unwrap().unwrap();
        assert_eq!(kept.attributes, Attributes { allmulti: Some(false), ..mtu(1500) });
        backups.remove(&one).unwrap();
        assert_eq!(backups.load(&one).unwrap(), None);
        backups.remove(&one).unwrap();
    }

    #[test]
    fn the_format_is_the_go_plugins() {
        let text = r#"{
 "mac": "02:00:00:00:00:01",
 "promisc": false,
 "mtu": 1500,
 "txQLen": 0
}"#;
        let backup = Backup::parse(text.as_bytes()).unwrap();
        let expected = Attributes {
            mac: "02:00:00:00:00:01".parse().ok(),
            promisc: Some(false),
            tx_q_len: Some(0),
            ..mtu(1500)
        };
        assert_eq!((backup.attributes.clone(), backup.network.clone()), (expected, None));
        let again = serde_json::to_value(&backup).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn a_backup_is_read_as_go_reads_it() {
        let backup = Backup::parse(br#"{"MTU": 1400, "TXQLEN": 7, "mac": null, "Network": "net"}"#).unwrap();
        assert_eq!(backup.attributes, Attributes { tx_q_len: Some(7), ..mtu(1400) });
        assert_eq!(backup.network, "net".parse().ok());
    }

    #[test]
    fn gc_removes_stale_backups_of_its_own_network() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::new(folder.path());
        let (network, other) = ("net".parse().unwrap(), "other".parse().unwrap());
        for (network, container) in [(&network, "valid"), (&network, "stale"), (&other, "foreign")] {
            backups.store(network, &attachment(container), &mtu(1500)).unwrap();
        }
        std::fs::write(folder.path().join("go_eth0.json"), r#"{"mtu":1500}"#).unwrap();
        std::fs::write(folder.path().join("broken_eth0.json"), "{").unwrap();
        backups.gc(&network, &[attachment("valid")]).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["broken_eth0.json", "foreign_eth0.json", "go_eth0.json", "valid_eth0.json"]);
        assert!(Backups::new(Path::new("/nonexistent")).gc(&network, &[]).is_ok());
    }

    #[test]
    fn a_name_that_no_file_can_have_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::new(folder.path());
        let long = attachment(&"x".repeat(255));
        assert_eq!(backups.load(&long).unwrap(), None);
        backups.remove(&long).unwrap();
        assert!(backups.store(&"net".parse().unwrap(), &long, &mtu(1500)).is_err());
    }
}
