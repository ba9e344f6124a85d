//! The results of ADD, kept for CHECK, DEL and GC: libcni's result cache.
//!
//! One file for each attachment, `<folder>/<network>-<container id>-<ifname>`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_core::fnv::fnv1a;
use cni_core::fs::{self, Folder};
use cni_core::spec::{
    AddResult, Attachment, CniArgs, Code, ContainerId, Error, IfName, NetworkName, Result, Version, from_json,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::invocation::Invocation;
use crate::plugin_conf::CapabilityArgs;

/// The `kind` of every file of the cache.
const KIND: &str = "cniCacheV1";

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 16 << 20;

/// The folder of cached results, `/var/lib/cni/results` for a container runtime.
#[derive(Clone, Debug)]
pub struct ResultCache {
    folder: PathBuf,
    owner: Option<NetworkName>,
}

/// One attachment in the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    /// The network.
    pub network: NetworkName,
    /// The owner of the cache that wrote it; `None` for a file of libcni.
    pub owner: Option<NetworkName>,
    /// The parameters of its ADD.
    pub invocation: Invocation,
    /// The network's configuration at that time.
    pub config: Vec<u8>,
    /// The result of its ADD.
    pub result: Option<AddResult>,
}

/// The key that tells a file from a bare result.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: Option<String>,
}

/// The file, with libcni's keys.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    kind: String,
    container_id: ContainerId,
    config: String,
    if_name: IfName,
    network_name: NetworkName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<CapabilityArgs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    /// Not of libcni, which ignores it.
    #[serde(default, rename = "oxcniOwner", skip_serializing_if = "Option::is_none")]
    owner: Option<NetworkName>,
}

impl ResultCache {
    /// The cache in a folder, which [`ResultCache::keep`] creates.
    pub fn new(folder: impl Into<PathBuf>) -> ResultCache {
        ResultCache { folder: folder.into(), owner: None }
    }

    /// The same cache, whose new files name an owner: several callers may share a folder.
    #[must_use]
    pub fn owned_by(self, owner: NetworkName) -> ResultCache {
        ResultCache { owner: Some(owner), ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the result of ADD, in the version of the network.
    ///
    /// # Errors
    /// Those of writing the file, which is written atomically.
    pub fn keep(
        &self,
        network: &NetworkName,
        version: Version,
        config: &[u8],
        invocation: &Invocation,
        result: &AddResult,
    ) -> Result<()> {
        let attachment = &invocation.attachment;
        let raw = RawValue::from_string(result.to_json(version)?)
            .map_err(|err| Error::invalid_config(format!("writing a result: {err}")))?;
        let wire = Wire {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: BASE64.encode(config),
            if_name: attachment.ifname.clone(),
            network_name: network.clone(),
            netns: invocation.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            cni_args: pairs(&invocation.args),
            capability_args: Some(invocation.capability_args.clone()).filter(|args| !args.is_empty()),
            result: Some(raw),
            owner: self.owner.clone(),
        };
        let text = serde_json::to_vec(&wire)
            .map_err(|err| Error::invalid_config(format!("writing the result cache: {err}")))?;
        if text.len() > MAX_FILE {
            let msg = format!(
                "configuration and result of network {network} are longer than {} MiB",
                MAX_FILE >> 20
            );
            return Err(Error::new(Code::DELEGATE, msg).details("the cache could not be read back"));
        }
        let failed = |err| fs::failed("writing to the result cache", &self.folder, err);
        let folder = Folder::open_or_create_with(&self.folder, 0o700).map_err(failed)?;
        folder.replace(&file_name(network, attachment), &text, 0o600).map_err(failed)
    }

    /// The cached attachment; `None` when there is no file, or none that can be read: DEL has to go on
    /// without it.
    ///
    /// The parts of a file's name may contain `-`, so that two attachments can have one name: a file of
    /// another attachment counts as missing.
    pub fn get(&self, network: &NetworkName, attachment: &Attachment) -> Option<Cached> {
        let cached = self.read(&file_name(network, attachment))?;
        (cached.network == *network && cached.invocation.attachment == *attachment).then_some(cached)
    }

    /// The cached result. Before libcni 0.7 the file was the bare result, without the names and the
    /// configuration.
    pub fn result(&self, network: &NetworkName, attachment: &Attachment) -> Option<AddResult> {
        let text = fs::read_bounded(&self.folder.join(file_name(network, attachment)), MAX_FILE).ok()?;
        match from_json::<Kind>(&text, "the cached result").ok()?.kind.as_deref() {
            Some(KIND) => self.get(network, attachment)?.result,
            _ => AddResult::from_json(&text, Version::default()).ok(),
        }
    }

    /// Forgets an attachment.
    ///
    /// # Errors
    /// Those of removing the file; a missing one is no error.
    pub fn forget(&self, network: &NetworkName, attachment: &Attachment) -> Result<()> {
        let other = self
            .read(&file_name(network, attachment))
            .filter(|cached| cached.network != *network || cached.invocation.attachment != *attachment);
        if other.is_some() {
            return Ok(());
        }
        match std::fs::remove_file(self.folder.join(file_name(network, attachment))) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(fs::failed("removing from the result cache", &self.folder, err))
            }
            _ => Ok(()),
        }
    }

    /// Every attachment with a readable file, sorted by file name.
    ///
    /// # Errors
    /// Those of reading the folder; a missing one is no error.
    pub fn all(&self) -> Result<Vec<Cached>> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| self.read(name)).collect())
    }

    /// Every attachment of a container.
    ///
    /// # Errors
    /// As [`ResultCache::all`].
    pub fn of_container(&self, container_id: &ContainerId) -> Result<Vec<Cached>> {
        let part = format!("-{container_id}-");
        let names = self.names()?;
        // The name of a file whose container ID is too long is a hash.
        let may_be = |name: &&String| name.contains(&part) || !name.contains('-');
        let cached = names.iter().filter(may_be).filter_map(|name| self.read(name));
        Ok(cached.filter(|cached| cached.invocation.attachment.container_id == *container_id).collect())
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |err| fs::failed("reading the result cache", &self.folder, err);
        let entries = match std::fs::read_dir(&self.folder) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> Option<Cached> {
        let text = fs::read_bounded(&self.folder.join(name), MAX_FILE).ok()?;
        parse(&text, name)
    }
}

/// The name of libcni. Where that is longer than the 255 bytes of a file name, for which libcni
/// fails, the network's name is cut and a hash of the whole stands behind it.
fn file_name(network: &NetworkName, attachment: &Attachment) -> String {
    const MAX: usize = 255;
    let Attachment { container_id, ifname } = attachment;
    let name = format!("{network}-{container_id}-{ifname}");
    if name.len() <= MAX {
        return name;
    }
    let hash = fnv1a(name.as_bytes());
    let end = format!("-{hash:016x}-{container_id}-{ifname}");
    match MAX.checked_sub(end.len()).and_then(|room| network.get(..room)) {
        Some(start) => format!("{start}{end}"),
        // A container ID that is too long by itself.
        None => format!("{hash:016x}"),
    }
}

fn pairs(args: &CniArgs) -> Option<Vec<(String, String)>> {
    let text = args.to_string();
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    Some(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        .filter(|p: &Vec<_>| !p.is_empty())
}

/// Reads a file of the cache that has names and configuration.
pub(crate) fn parse(text: &[u8], name: &str) -> Option<Cached> {
    let wire: Wire = from_json(text, "the cached result").ok()?;
    if wire.kind != KIND {
        return None;
    }
    let config = BASE64.decode(&wire.config).ok()?;
    let attachment = Attachment { container_id: wire.container_id, ifname: wire.if_name };
    // A file under another name was not written for this attachment.
    if name != file_name(&wire.network_name, &attachment) {
        return None;
    }
    // One value that CNI_ARGS can't have, such as one with a semicolon, does not lose the others.
    let args = wire.cni_args.into_iter().flatten().fold(CniArgs::default(), |args, (key, value)| {
        let is_valid = !value.contains(';') && CniArgs::parse(&format!("{key}={value}")).is_ok();
        if is_valid { args.with(&key, &value) } else { args }
    });
    let version = version_of(&config);
    Some(Cached {
        network: wire.network_name,
        owner: wire.owner,
        invocation: Invocation {
            attachment,
            netns: Some(wire.netns).filter(|path| !path.is_empty()).map(PathBuf::from),
            args,
            capability_args: wire.capability_args.unwrap_or_default(),
        },
        config,
        result: wire.result.and_then(|raw| AddResult::from_json(raw.get().as_bytes(), version).ok()),
    })
}

/// The version of a configuration, for a result without one.
fn version_of(config: &[u8]) -> Version {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Versioned {
        cni_version: String,
    }
    let conf: Versioned = from_json(config, "the cached configuration").unwrap_or_default();
    conf.cni_version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn invocation(container: &str, ifname: &str) -> Invocation {
        Invocation {
            attachment: Attachment {
                container_id: container.parse().unwrap(),
                ifname: ifname.parse().unwrap(),
            },
            netns: Some("/run/netns/x".into()),
            args: CniArgs::parse("IgnoreUnknown=true;A=1").unwrap(),
            capability_args: CapabilityArgs::from([("mac".to_owned(), json!("m"))]),
        }
    }

    #[test]
    fn names_of_any_length_are_kept_found_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ResultCache::new(folder.path());
        let result =
            AddResult::from_json(br#"{"ips":[{"address":"10.0.0.2/24"}]}"#, Version::V1_0_0).unwrap();
        for (network, container) in
            [(10, 64), (174, 64), (175, 64), (250, 64), (255, 64), (1, 255), (255, 255)]
        {
            // Two networks that differ in the last letter, which a long name does not show.
            let networks =
                ["x", "y"].map(|last| format!("{}{last}", "n".repeat(network - 1)).parse().unwrap());
            let invocation = invocation(&"c".repeat(container), "fifteen-bytes-x");
            for network in &networks {
                cache.keep(network, Version::V1_0_0, b"{}", &invocation, &result).unwrap();
            }
            for network in &networks {
                let cached = cache.get(network, &invocation.attachment).unwrap();
                assert_eq!(cached.network, *network);
                assert_eq!(cache.of_container(&invocation.attachment.container_id).unwrap().len(), 2);
            }
            for network in &networks {
                cache.forget(network, &invocation.attachment).unwrap();
                assert!(cache.get(network, &invocation.attachment).is_none());
            }
            assert!(cache.all().unwrap().is_empty());
        }
    }

    #[test]
    fn the_file_is_that_of_libcni() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ResultCache::new(folder.path().join("results"));
        let result = br#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}"#;
        let result = AddResult::from_json(result, Version::V1_0_0).unwrap();
        let network = "net".parse().unwrap();
        let config = br#"{"cniVersion":"1.0.0","name":"net","type":"x"}"#;
        let invocation = invocation("c1", "eth0");
        cache.keep(&network, Version::V1_0_0, config, &invocation, &result).unwrap();
        let text = std::fs::read_to_string(folder.path().join("results/net-c1-eth0")).unwrap();
        let expected = json!({
            "kind": "cniCacheV1", "containerId": "c1", "ifName": "eth0", "networkName": "net",
            "config": "eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoibmV0IiwidHlwZSI6IngifQ==",
            "netns": "/run/netns/x", "cniArgs": [["IgnoreUnknown", "true"], ["A", "1"]],
            "capabilityArgs": {"mac": "m"},
            "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]},
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);

        let cached = cache.get(&network, &invocation.attachment).unwrap();
        assert_eq!((cached.config.as_slice(), cached.result), (config.as_slice(), Some(result)));
        assert_eq!(cached.invocation, invocation);
        cache.forget(&network, &invocation.attachment).unwrap();
        cache.forget(&network, &invocation.attachment).unwrap();
        assert!(cache.get(&network, &invocation.attachment).is_none());
    }

    #[test]
    fn a_container_has_its_own_files_and_unreadable_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ResultCache::new(folder.path());
        let network: NetworkName = "net-c1".parse().unwrap();
        for (container, ifname) in [("c1", "eth0"), ("c1", "net1"), ("c1-net1", "eth0"), ("c2", "eth0")] {
            let invocation = invocation(container, ifname);
            cache.keep(&network, Version::V1_0_0, b"{}", &invocation, &AddResult::default()).unwrap();
        }
        std::fs::write(folder.path().join("net-c1-c1-cut"), "{\"kind\":").unwrap();
        let ifnames: Vec<_> = cache.of_container(&"c1".parse().unwrap()).unwrap();
        let ifnames: Vec<_> = ifnames.iter().map(|c| c.invocation.attachment.ifname.as_str()).collect();
        assert_eq!(ifnames, ["eth0", "net1"]);
        assert_eq!(cache.all().unwrap().len(), 4);
        assert!(ResultCache::new("/nonexistent").all().unwrap().is_empty());
    }

    #[test]
    fn two_attachments_with_one_file_name_do_not_get_or_remove_each_others_result() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ResultCache::new(folder.path());
        let (one, other): (NetworkName, NetworkName) = ("net".parse().unwrap(), "net-a".parse().unwrap());
        let (of_one, of_other) = (invocation("a-b", "eth0"), invocation("b", "eth0"));
        assert_eq!(file_name(&one, &of_one.attachment), file_name(&other, &of_other.attachment));
        cache.keep(&one, Version::V1_0_0, b"{}", &of_one, &AddResult::default()).unwrap();
        assert!(cache.get(&other, &of_other.attachment).is_none());
        assert!(cache.result(&other, &of_other.attachment).is_none());
        cache.forget(&other, &of_other.attachment).unwrap();
        assert!(cache.get(&one, &of_one.attachment).is_some());
    }

    #[test]
    fn a_bare_result_of_the_earliest_libcni_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"}]}"#;
        std::fs::write(folder.path().join("net-c1-eth0"), text).unwrap();
        let cache = ResultCache::new(folder.path());
        let result = cache.result(&"net".parse().unwrap(), &invocation("c1", "eth0").attachment).unwrap();
        assert_eq!(result.ips.len(), 1);
        std::fs::write(folder.path().join("net-c1-eth0"), "{\"kind\":7}").unwrap();
        assert!(cache.result(&"net".parse().unwrap(), &invocation("c1", "eth0").attachment).is_none());
    }

    #[test]
    fn one_odd_argument_does_not_lose_the_others() {
        let text = br#"{"kind":"cniCacheV1","containerId":"c","config":"e30=","ifName":"e","networkName":"n",
            "cniArgs":[["a","1"],["odd","x;y=z"],["","2"],["b","3"]]}"#;
        let cached = parse(text, "n-c-e").unwrap();
        assert_eq!(cached.invocation.args.to_string(), "a=1;b=3");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left_out(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..150) {
            let _ = parse(&bytes, "x");
            let text = br#"{"kind":"cniCacheV1","containerId":"c","config":"e30=","ifName":"e","networkName":"n","cniArgs":[["a","b"]],"result":{}}"#;
            let _ = parse(&text[..cut.min(text.len())], "n-c-e");
        }
    }
}
