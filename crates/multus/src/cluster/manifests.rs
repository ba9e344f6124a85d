//! A folder of YAML files in place of an API server.

use std::path::{Path, PathBuf};

use cni_core::fs;
use cni_core::spec::{Error, Result};
use cni_runtime::load;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::ReadError;
use crate::log;
use crate::object::{Definition, Kind, Metadata, Pod, Reference};
use crate::pod_args::PodArgs;

/// The longest file that is read, in bytes.
const MAX_FILE: usize = 1 << 20;

/// The folder in `cniDir` with the status of each pod, in place of the API server.
const STATUS_DIR: &str = "network-status";

/// Objects from a folder of YAML files, each with one or several documents.
pub(crate) struct Manifests {
    folder: PathBuf,
    status_dir: PathBuf,
}

impl Manifests {
    pub(super) fn new(folder: &Path, cni_dir: &Path) -> Manifests {
        Manifests { folder: folder.to_owned(), status_dir: cni_dir.join(STATUS_DIR) }
    }

    pub(super) fn pod(&self, pod: &PodArgs) -> Result<Pod, ReadError> {
        let found: Option<Pod> =
            self.find("v1", "Pod", &pod.namespace, &pod.name, |pod: &Pod| &pod.metadata)?;
        let mut found = found.ok_or(ReadError::NotFound)?;
        // A file rarely has a UID; the runtime has it.
        if found.metadata.uid.is_empty() {
            found.metadata.uid.clone_from(&pod.uid);
        }
        found.metadata.namespace.clone_from(&pod.namespace);
        Ok(found)
    }

    pub(super) fn definition(&self, reference: &Reference) -> Result<Definition, ReadError> {
        let (api, kind) = group(reference.kind);
        let of = |definition: &Definition| definition.metadata.clone();
        let found = self.objects::<Definition>(api, kind)?.into_iter().find(|definition| {
            let metadata = of(definition);
            metadata.name == reference.name && namespace(&metadata) == reference.namespace
        });
        let mut found = found.ok_or(ReadError::NotFound)?;
        found.metadata.namespace.clone_from(&reference.namespace);
        Ok(found)
    }

    pub(super) fn names(&self, reference: &Reference) -> Vec<String> {
        let (api, kind) = group(reference.kind);
        let objects = self.objects::<Definition>(api, kind).unwrap_or_default();
        let here = objects.into_iter().map(|object| object.metadata);
        here.filter(|metadata| namespace(metadata) == reference.namespace)
            .map(|metadata| metadata.name)
            .collect()
    }

    fn find<T: for<'de> Deserialize<'de>>(
        &self,
        api: &str,
        kind: &str,
        in_namespace: &str,
        name: &str,
        metadata: impl Fn(&T) -> &Metadata,
    ) -> Result<Option<T>> {
        let is_it = |object: &T| {
            let metadata = metadata(object);
            metadata.name == name && namespace(metadata) == in_namespace
        };
        Ok(self.objects(api, kind)?.into_iter().find(is_it))
    }

    /// All objects of a kind, in the order of files and documents.
    fn objects<T: for<'de> Deserialize<'de>>(&self, api: &str, kind: &str) -> Result<Vec<T>> {
        let mut objects = Vec::new();
        for file in load::files(&self.folder, &["yaml", "yml"])? {
            // A file with a mistake hides the others no more than a broken object would.
            let documents = match documents(&file) {
                Ok(documents) => documents,
                Err(err) => {
                    log::error(err);
                    continue;
                }
            };
            for document in documents.into_iter().filter(|it| it["kind"] == kind && it["apiVersion"] == api) {
                objects.push(T::deserialize(document).map_err(|err| {
                    Error::invalid_config(format!("{} has an invalid {kind}: {err}", file.display()))
                })?);
            }
        }
        Ok(objects)
    }

    pub(super) fn write_status(&self, pod: &Pod, status: &str) -> Result<()> {
        let failed = |err| fs::failed("writing the network status to", &self.status_dir, err);
        let folder = fs::Folder::open_or_create_with(&self.status_dir, 0o700).map_err(failed)?;
        folder
            .replace(&file_name(&pod.metadata.namespace, &pod.metadata.name), status.as_bytes(), 0o600)
            .map_err(failed)
    }
}

/// Removes the status of a pod.
pub(super) fn forget_status(cni_dir: &Path, pod: &PodArgs) {
    let _ = std::fs::remove_file(cni_dir.join(STATUS_DIR).join(file_name(&pod.namespace, &pod.name)));
}

/// Neither name has a `_`, so no two pods share a file.
fn file_name(namespace: &str, name: &str) -> String {
    format!("{namespace}_{name}.json")
}

fn group(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Definition => ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition"),
        Kind::LegacyNetwork => ("kubernetes-network.cni.cncf.io/v1", "Network"),
    }
}

/// The namespace of an object, `default` where it has none.
fn namespace(metadata: &Metadata) -> &str {
    if metadata.namespace.is_empty() { "default" } else { &metadata.namespace }
}

/// The documents of a file, of whatever kind.
fn documents(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_bounded(file, MAX_FILE + 1).map_err(|err| fs::failed("reading", file, err))?;
    if text.len() > MAX_FILE {
        return Err(Error::invalid_config(format!(
            "{} is longer than {} KiB",
            file.display(),
            MAX_FILE >> 10
        )));
    }
    let wrong = |err: &dyn std::fmt::Display| {
        Error::invalid_config(format!("{} is not valid YAML: {err}", file.display()))
    };
    let text = String::from_utf8(text).map_err(|err| wrong(&err))?;
    documents_of(&text).map_err(|err| wrong(&err))
}

/// The documents of a YAML text, read as kubectl reads them: of a repeated key the last counts, and
/// what goes on in quotes need not be indented.
pub(crate) fn documents_of(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Manifests) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let manifests = Manifests::new(folder.path(), &folder.path().join("cni"));
        (folder, manifests)
    }

    const BOTH: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations: {k8s.v1.cni.cncf.io/networks: a}
---
apiVersion: "k8s.cni.cncf.io/v1"
kind: NetworkAttachmentDefinition
metadata: {name: a, namespace: ns}
spec:
  config: '{
    "type": "x"
  }'
---
apiVersion: kubernetes-network.cni.cncf.io/v1
kind: Network
metadata: {name: old}
plugin: flannel
args: '[{}]'
"#;

    fn reference(kind: Kind, namespace: &str, name: &str) -> Reference {
        Reference { kind, namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn objects_are_found_by_kind_namespace_and_name() {
        let (_folder, manifests) = folder(&[("1.yaml", BOTH), ("0.yaml", "a: [unclosed"), ("x.txt", "no")]);
        let args = PodArgs { namespace: "default".into(), name: "p".into(), uid: "u".into() };
        let pod = manifests.pod(&args).unwrap();
        assert_eq!(
            (pod.annotation("k8s.v1.cni.cncf.io/networks"), pod.metadata.uid.as_str()),
            (Some("a"), "u")
        );
        let found = manifests.definition(&reference(Kind::Definition, "ns", "a")).unwrap();
        assert!(found.spec.unwrap().config.contains("\"x\""));
        assert!(manifests.definition(&reference(Kind::Definition, "default", "a")).is_err());
        let old = manifests.definition(&reference(Kind::LegacyNetwork, "default", "old")).unwrap();
        assert_eq!((old.plugin.as_str(), old.args.as_str()), ("flannel", "[{}]"));
        assert_eq!(manifests.names(&reference(Kind::Definition, "ns", "b")), ["a"]);
    }

    #[test]
    fn documents_are_read_as_kubectl_reads_them() {
        for (text, expected) in [
            // The last line of what is quoted stands where the key does, or before it.
            (
                "s:\n  config: '{\n  \"type\": \"x\"\n  }'\n",
                json!([{"s": {"config": "{ \"type\": \"x\" }"}}]),
            ),
            ("s:\n  config: '{\n\"type\": \"x\"\n}'\n", json!([{"s": {"config": "{ \"type\": \"x\" }"}}])),
            ("s:\n  l: [1,\n2]\n  m: {a: 1,\nb: 2}\n", json!([{"s": {"l": [1, 2], "m": {"a": 1, "b": 2}}}])),
            ("l:\n- 1\n- a: 2\n  b: 3\n", json!([{"l": [1, {"a": 2, "b": 3}]}])),
            ("c: |\n  {\n    \"x\": 1\n  }\n", json!([{"c": "{\n  \"x\": 1\n}\n"}])),
            ("c: |-\n  [\n    1\n  ]\n", json!([{"c": "[\n  1\n]"}])),
            ("c: >-\n  {\"x\":\n  1}\n", json!([{"c": "{\"x\": 1}"}])),
            ("{\"a\": [1, {\"b\": \"c\\n\"}]}", json!([{"a": [1, {"b": "c\n"}]}])),
            ("a: 1\na: 2\n", json!([{"a": 2}])),
            ("b: &b {x: 1}\nm:\n  <<: *b\n  y: 2\n", json!([{"b": {"x": 1}, "m": {"x": 1, "y": 2}}])),
            ("# none\n---\n---\na: 1\n...\n---\nb: 2\n", json!([{"a": 1}, {"b": 2}])),
            ("\u{feff}a: 1\r\nb: x\r\n", json!([{"a": 1, "b": "x"}])),
            ("", json!([])),
        ] {
            assert_eq!(json!(documents_of(text).unwrap()), expected, "{text}");
        }
        for text in ["a: x: y", "a: \"open", "a: [1", "a: - 1", "a: @x", "a:\n\tb: 1", "a: *none"] {
            assert!(documents_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn aliases_do_not_multiply_without_end() {
        let mut text = "l0: &l0 [x]\n".to_owned();
        for level in 1..64 {
            text += &format!("l{level}: &l{level} [*l{0}, *l{0}]\n", level - 1);
        }
        assert!(documents_of(&text).is_err());
    }

    #[test]
    fn the_status_is_a_file_until_the_pod_is_gone() {
        let (folder, manifests) = folder(&[("1.yaml", BOTH)]);
        let args = PodArgs { namespace: "default".into(), name: "p".into(), uid: String::new() };
        let pod = manifests.pod(&args).unwrap();
        manifests.write_status(&pod, "[]").unwrap();
        let file = folder.path().join("cni/network-status/default_p.json");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[]");
        forget_status(&folder.path().join("cni"), &args);
        assert!(!file.exists());
    }
}
