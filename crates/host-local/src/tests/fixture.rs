//! A node in a temporary folder: its data folder, its indices, its boot.

use std::path::{Path, PathBuf};

use cni_core::request::{Environment, Request};
use cni_core::spec::{AddResult, Attachment, CniArgs, NetConf, Result};
use serde_json::{Value, json};

use crate::store::Node;

pub(super) struct Fixture {
    place: tempfile::TempDir,
    pub(super) node: Node,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let node = Node {
            index_dir: path("run/index"),
            boot_id: path("boot_id"),
            machine_id: [path("machine-id"), path("hostname")],
            is_shared: |_| Ok(false),
            read_file: cni_core::fs::read_regular,
        };
        let fixture = Fixture { place, node };
        fixture.boot(1);
        fixture.machine(1);
        fixture
    }

    /// Another boot ID, and /run as it was.
    pub(super) fn boot_id_only(&self, number: u32) {
        std::fs::write(&self.node.boot_id, format!("00000000-0000-0000-0000-{number:012}\n")).unwrap();
    }

    /// Goes on as another machine that has the same data folder.
    pub(super) fn machine(&self, number: u32) {
        std::fs::write(&self.node.machine_id[0], format!("{number:032}\n")).unwrap();
        let _ = std::fs::remove_dir_all(&self.node.index_dir);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Reboots the node: another boot ID, and an empty /run.
    pub(super) fn boot(&self, number: u32) {
        self.boot_id_only(number);
        let _ = std::fs::remove_dir_all(&self.node.index_dir);
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// The folder of the network's reservations.
    pub(super) fn folder(&self) -> PathBuf {
        self.data_dir().join("net")
    }

    /// The files of the index, in order; none where there is no index.
    pub(super) fn index(&self) -> Vec<PathBuf> {
        let paths = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let mut files: Vec<_> = paths(&self.node.index_dir).iter().flat_map(|folder| paths(folder)).collect();
        files.sort();
        files
    }

    /// The names of all reservations, in order.
    pub(super) fn reservations(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        names.sort();
        names
    }

    /// Writes a reservation as the Go plugin does.
    pub(super) fn go_reserves(&self, ip: &str, contents: &str) {
        std::fs::create_dir_all(self.folder()).unwrap();
        std::fs::write(self.folder().join(ip), contents).unwrap();
    }

    /// A network configuration with this `ipam`.
    pub(super) fn conf(&self, mut ipam: Value) -> Value {
        ipam["type"] = "host-local".into();
        ipam["dataDir"] = self.data_dir().to_str().unwrap().into();
        json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam})
    }

    pub(super) fn request(&self, conf: &Value, container: &str, args: &str) -> Request {
        let text = conf.to_string().into_bytes();
        let env = Environment {
            command: cni_core::request::Command::Add,
            attachment: Some(attachment(container)),
            netns: None,
            args: CniArgs::parse(args).unwrap(),
            path: Vec::new(),
            netns_override: false,
        };
        Request { env, conf: NetConf::parse(&text).unwrap(), text, plugins: &[], exec: Default::default() }
    }

    pub(super) fn add(&self, conf: &Value, container: &str) -> Result<AddResult> {
        self.add_with(conf, container, "")
    }

    pub(super) fn add_with(&self, conf: &Value, container: &str, args: &str) -> Result<AddResult> {
        crate::add(&self.node, &self.request(conf, container, args))
    }

    pub(super) fn del(&self, conf: &Value, container: &str) {
        crate::del(&self.node, &self.request(conf, container, "")).unwrap();
    }

    pub(super) fn check(&self, conf: &Value, container: &str) -> Result<()> {
        crate::check(&self.node, &self.request(conf, container, ""))
    }

    pub(super) fn status(&self, conf: &Value) -> Result<()> {
        crate::status(&self.node, &self.request(conf, "none", ""))
    }

    /// GC with these containers' eth0 as valid.
    pub(super) fn gc(&self, conf: &Value, containers: &[&str]) -> Result<()> {
        let mut conf = conf.clone();
        let valid = containers.iter().map(|id| json!({"containerID": id, "ifname": "eth0"}));
        conf["cni.dev/valid-attachments"] = valid.collect();
        crate::gc(&self.node, &self.request(&conf, "none", ""))
    }
}

pub(super) fn attachment(container: &str) -> Attachment {
    Attachment { container_id: container.parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

/// The addresses of a result, as text.
pub(super) fn addresses(result: &AddResult) -> Vec<String> {
    result.ips.iter().map(|ip| ip.address.to_string()).collect()
}
